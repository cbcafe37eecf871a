/* SPDX-License-Identifier: ISC */
/* The two names that freestanding code lacks; the kernel's own headers bring the rest. */
#ifndef COWBELL_GUEST_SYS_TYPES_H
#define COWBELL_GUEST_SYS_TYPES_H
typedef long ssize_t;
#endif
