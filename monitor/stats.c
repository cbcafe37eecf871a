/* SPDX-License-Identifier: ISC */
/*
 * --stats: time per phase, exits, memory; as text or as one JSON object on one
 * line of standard error. The guest's counters are its own word: they are printed, never used.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "monitor/clock.h"
#include "monitor/instance.h"

struct figures {
	struct boot_stats g;
	double image_us, first_insn_us, first_user_us, main_us, listen_us, total_us;
	uint64_t exits;
	int guest_calls;
};

/* Microseconds from the start of `cowbell` to a mark of the guest; 0: it was not reached. */
static double since_start(const struct instance *in, uint64_t tsc)
{
	return tsc ? (double)(int64_t)(clock_ns_of_tsc(tsc) - in->cfg->start_ns) / 1e3 : 0;
}

static void collect(struct instance *in, struct figures *f)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	f->g = *in->stats;
	f->image_us = in->cfg->image_ns ? (double)(in->cfg->image_ns - in->cfg->start_ns) / 1e3 : 0;
	f->first_insn_us = since_start(in, f->g.first_insn_tsc);
	f->first_user_us = since_start(in, f->g.first_user_tsc);
	f->main_us = since_start(in, f->g.main_tsc);
	f->listen_us = since_start(in, f->g.first_listen_tsc);
	f->total_us =
		(double)((uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec - in->cfg->start_ns) /
		1e3;
	f->exits = in->backend->exits ? in->backend->exits(in->ctx) : 0;
	f->guest_calls = in->backend->guest_syscalls ? in->backend->guest_syscalls(in->ctx) : 0;
}

#define LLU(x) ((unsigned long long)(x))

static int print_json(const struct instance *in, const struct figures *f, char *b, size_t n)
{
	return snprintf(b, n,
			"{\"monitor\":\"%s\",\"image_us\":%.1f,\"first_insn_us\":%.1f,\"first_user_us\":%.1f,"
			"\"main_us\":%.1f,"
			"\"first_listen_us\":%.1f,\"total_us\":%.1f,\"exits\":%llu,\"doorbells\":%llu,"
			"\"kicks\":%llu,\"syscalls\":%llu,\"syscall_traps\":%llu,\"sites_patched\":%llu,"
			"\"page_faults\":%llu,\"pages_used\":%llu,\"pages_peak\":%llu,"
			"\"monitor_host_calls\":%d,\"guest_host_calls\":%d}\n",
			in->backend->name, f->image_us, f->first_insn_us, f->first_user_us, f->main_us,
			f->listen_us, f->total_us, LLU(f->exits), LLU(f->g.doorbells),
			LLU(in->vcpu->stat_kicks), LLU(f->g.syscalls), LLU(f->g.syscall_traps),
			LLU(f->g.sites_patched), LLU(f->g.faults), LLU(f->g.pages_used), LLU(f->g.pages_peak),
			in->n_host_calls, f->guest_calls);
}

static int print_text(const struct instance *in, const struct figures *f, char *b, size_t n)
{
	int at = snprintf(b, n,
			  "monitor              %s\n"
			  "image ready          %10.2f ms after start\n"
			  "first instruction    %10.2f ms\n"
			  "first of the program %10.2f ms\n",
			  in->backend->name, f->image_us / 1e3, f->first_insn_us / 1e3,
			  f->first_user_us / 1e3);

	if (f->main_us > 0)
		at += snprintf(b + at, n - at, "main                 %10.2f ms\n", f->main_us / 1e3);
	if (f->listen_us > 0)
		at += snprintf(b + at, n - at, "first listen         %10.2f ms\n", f->listen_us / 1e3);
	at += snprintf(b + at, n - at,
		       "end                  %10.2f ms\n"
		       "exits                %10llu (%llu doorbells, %llu kicks)\n"
		       "system calls         %10llu (%llu trapped, %llu sites rewritten)\n"
		       "page faults          %10llu\n"
		       "memory               %10llu KiB now, %llu KiB at most\n"
		       "host calls allowed   %10d monitor, %d guest process\n",
		       f->total_us / 1e3, LLU(f->exits), LLU(f->g.doorbells), LLU(in->vcpu->stat_kicks),
		       LLU(f->g.syscalls), LLU(f->g.syscall_traps), LLU(f->g.sites_patched), LLU(f->g.faults),
		       LLU(f->g.pages_used * 4), LLU(f->g.pages_peak * 4), in->n_host_calls, f->guest_calls);
	return at;
}

void stats_print(struct instance *in)
{
	struct figures f;
	char text[2048];
	int n;

	collect(in, &f);
	n = in->cfg->stats == STATS_JSON ? print_json(in, &f, text, sizeof(text))
					 : print_text(in, &f, text, sizeof(text));
	if (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0)
		return; /* nobody reads it */
}
