/* SPDX-License-Identifier: ISC */
/* Attached runs: a terminal, or two pipes, carried to a client over TLS. See rendezvous.c. */
#ifndef COWBELL_PLATFORM_RENDEZVOUS_H
#define COWBELL_PLATFORM_RENDEZVOUS_H

#include "platform/sched.h"

struct rendezvous;
/*
 * A new one: descriptors for the process into stdio (the caller's), and a secret of hex digits. marker: the client wants
 * the exit status told in the stream. 0 or -errno.
 */
int rendezvous_new(bool tty, unsigned columns, unsigned lines, bool marker, int stdio[3],
		   struct rendezvous **out);
const char *rendezvous_secret(const struct rendezvous *r);
/* Its process; the client has a minute to come. NULL: there is none, forget it all. */
void rendezvous_runs(struct rendezvous *r, struct instance *i);
/* The process has ended: as `ended` of a struct oneoff, arg is the rendezvous. */
void rendezvous_ended(void *arg, struct instance *i, int exit_status);
/* The port where clients come; opened when first needed. 0: it cannot be. */
uint16_t rendezvous_port(void);

#endif
