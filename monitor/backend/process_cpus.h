/* SPDX-License-Identifier: ISC */
/* Several CPUs of a guest under the process monitor (process_cpus.c): what they ask for, when they are to be looked at. */
#ifndef COWBELL_MONITOR_PROCESS_CPUS_H
#define COWBELL_MONITOR_PROCESS_CPUS_H

#include "abi/boot.h"
#include "monitor/backend/process_group.h"

enum process_cpu_state { PROCESS_CPU_OFF, PROCESS_CPU_RUNS, PROCESS_CPU_IDLE, PROCESS_CPU_RING };

struct process_cpu {
	enum process_cpu_state state;
	uint64_t id; /* of the doorbell that is to be answered when it does not run */
	uint64_t until_ns; /* idle: when at the latest; runs: when we look at it next */
	bool poked; /* it shall not sleep the next time */
	struct boot_vcpu *shared;
};

struct process_cpus {
	struct process_group *group;
	int n; /* 1: nothing of this is in use */
	int timer_fd, fd; /* fd: readable when the doorbell, the timer or a death is */
	int doorbell_fd;
	uint64_t armed_ns;
	uint32_t wants; /* enum cpus_want */
	struct process_cpu cpu[BOOT_MAX_VCPUS];
};

/* n CPUs, before the filter. 0 or -errno. */
int cpus_init(struct process_cpus *c, int n, struct process_group *g, struct boot_vcpu *shared);
/* The doorbell is there. */
void cpus_open(struct process_cpus *c, int doorbell_fd);
/* PROCESS_CPU from CPU `cpu` in host process `host`. */
void cpus_call(struct process_cpus *c, uint32_t cpu, uint32_t host, const struct seccomp_notif *notif);
/* The timer fired. */
void cpus_time(struct process_cpus *c);
/* The ring was served for those who wanted that. */
void cpus_served(struct process_cpus *c);
void cpus_close(struct process_cpus *c);

#endif
