/* SPDX-License-Identifier: ISC */
/*
 * The host processes of one guest under the process monitor (process_group.c): which there are, which of them has
 * the CPU, their births and deaths.
 */
#ifndef COWBELL_MONITOR_PROCESS_GROUP_H
#define COWBELL_MONITOR_PROCESS_GROUP_H

#include <linux/seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "abi/boot.h"
#include "abi/process.h"

#define PROCESS_OTHERS 8

struct guest_seat {
	pid_t tid; /* 0: there is none yet */
	bool waits; /* in PROCESS_WAIT or PROCESS_SWITCH, to be answered by `id` */
	uint64_t id;
};

struct guest_process {
	pid_t pid;
	int pidfd;
	uint32_t threads_asked; /* how often we said yes */
	struct guest_seat seat[BOOT_MAX_VCPUS]; /* a thread for each CPU */
};

struct guest_cpu {
	uint32_t running; /* who has it, as far as we were told */
	int32_t wanted; /* who gets it when its seat begins to wait; -1: nobody */
	struct boot_vcpu *shared;
	uint32_t kicked; /* who was kicked last, and when */
	uint64_t kicked_ns;
};

struct process_group {
	struct guest_process p[PROCESS_MAX];
	uint32_t n; /* 0: the first one was never started */
	uint32_t n_cpus;
	struct guest_cpu cpu[BOOT_MAX_VCPUS];
	uint32_t births; /* how often we said yes */
	uint64_t birth_ns; /* when to the one that has yet to report; 0: to none */
	uint64_t thread_ns; /* when we said yes to a thread that has yet to take its seat; 0: there is none */
	int deaths_fd; /* readable when one of them has died */
	int children_fd; /* the host's list of our children, or -1 */
	pid_t others
		[PROCESS_OTHERS]; /* children of ours that are none of the guest's: those before the first birth */
	uint32_t n_others;
};

/* The first one was started. 0 or -errno. */
int group_init(struct process_group *g, pid_t pid, int pidfd, uint32_t n_cpus, struct boot_vcpu *shared);
/* Who rings: host process and CPU, which has to be running there. False: nobody who may. */
bool group_who(const struct process_group *g, pid_t tid, uint32_t *host, uint32_t *cpu);
/* CPU `cpu` goes on in host process `to`. */
void group_turn(struct process_group *g, int doorbell_fd, uint32_t cpu, uint32_t to);
void group_answer(int doorbell_fd, uint64_t id, int64_t value, int error);
/*
 * What a guest process asked for, unless it is the doorbell's other business: handled, and answered if that is due. False:
 * it is not for the group. `notif` is a copy that the host made.
 */
bool group_serve(struct process_group *g, int doorbell_fd, const struct seccomp_notif *notif);
/* Milliseconds until a process that was born must have reported; -1: none is awaited, 0: it is too late. */
int group_patience_ms(const struct process_group *g);
/* The pidfd of one that died, or of the first one. */
int group_dead(const struct process_group *g);
/* A signal to the one that has the CPU. */
void group_kick(struct process_group *g, uint32_t cpu);
/* Ends and reaps all of them, whether they reported or not. */
void group_destroy(struct process_group *g);

#endif
