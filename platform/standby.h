/* SPDX-License-Identifier: ISC */
/* Inside of the scheduler: instances that are prepared before anybody asks (abi/standby.h). See standby.c. */
#ifndef COWBELL_PLATFORM_STANDBY_H
#define COWBELL_PLATFORM_STANDBY_H

#include "platform/instance.h"
#include "platform/sched_inside.h"

void standby_open(void); /* once */
/*
 * A start of d with what `s` says: is one prepared for it? true: it is asked, and in a moment d has its process, or dyno_spawn_again(d)
 * is called. false: start it.
 */
bool standby_take(struct sched_instance *d, const struct instance_spec *s);
/* What the monitor told of d's start: "prefix KEY DIGEST SIZE". */
void standby_learn(struct sched_instance *d, const char *how);
/* d is not interested any more. */
void standby_forget(struct sched_instance *d);
/* Memory is wanted for apps: one less. false: there is none. */
bool standby_yield(void);
void standby_app_gone(struct app *a);
void standby_end_all(void); /* and no more from now on */
unsigned standby_count(void);

#endif
