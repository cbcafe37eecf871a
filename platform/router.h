/* SPDX-License-Identifier: ISC */
/* From an exchange to an instance and back: see router.c. */
#ifndef COWBELL_PLATFORM_ROUTER_H
#define COWBELL_PLATFORM_ROUTER_H

#include "platform/http.h"
#include "platform/sched.h"

void router_serve(struct exchange *x, struct app *a); /* takes it */
void router_instance_gone(
	struct instance *i); /* close idle connections to it; those in use end by themselves */
/* The page or text for a code, with Heroku's status (503 mostly), and the log line at=error. */
void router_error(struct exchange *x, struct app *a, enum hcode code);

#endif
