/* SPDX-License-Identifier: ISC */
/* A share of the CPU for one instance. See cgroup.c. */
#ifndef COWBELL_PLATFORM_CGROUP_H
#define COWBELL_PLATFORM_CGROUP_H

/* A descriptor of its cgroup.procs, to be written "0" to by the child; -1: no limit is wanted, or none can be set. */
int cgroup_make(const char *id, unsigned cpu_percent);
/* Its process has ended. */
void cgroup_remove(const char *id);

#endif
