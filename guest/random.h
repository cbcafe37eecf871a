/* SPDX-License-Identifier: ISC */
/* The seeding side of randomness; random_bytes() is in base.h. */
#ifndef COWBELL_GUEST_RANDOM_H
#define COWBELL_GUEST_RANDOM_H

#include <stddef.h>

struct boot_info;

void random_init(struct boot_info *bi); /* takes the seed and wipes it */
void random_reseed(const void *seed, size_t n);

#endif
