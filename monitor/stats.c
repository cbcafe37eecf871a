/* SPDX-License-Identifier: ISC */
/*
 * --stats: time per phase, exits, memory; as text or as one JSON object on one
 * line of standard error. The guest's counters are its own word: they are printed, never used.
 *
 * A restored instance brings its counters along. What is printed is what it did here: the counters less what they
 * were, the marks that it reached here. Its first instructions are those with which the library OS and the program go on.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "monitor/clock.h"
#include "monitor/instance.h"
#include "monitor/ring_server.h"

struct figures {
	struct boot_stats g;
	double image_us, first_insn_us, first_user_us, main_us, listen_us, accept_us, answer_us, total_us;
	uint64_t exits, kicks;
	bool restored;
	int guest_calls;
};

/* Microseconds from the start of `cowbell` to a moment; 0: there was none. */
static double since_start(const struct instance *in, uint64_t ns)
{
	return ns ? (double)(int64_t)(ns - in->cfg->start_ns) / 1e3 : 0;
}

/* To a mark of the guest; 0: it was not reached, or before the snapshot. */
static double mark(const struct instance *in, uint64_t tsc, uint64_t before)
{
	return tsc && tsc != before ? since_start(in, clock_ns_of_tsc(tsc)) : 0;
}

static void subtract(struct boot_stats *g, const struct boot_stats *before)
{
	g->syscalls -= before->syscalls;
	g->syscall_traps -= before->syscall_traps;
	g->sites_patched -= before->sites_patched;
	g->faults -= before->faults;
	g->processes_made -= before->processes_made;
	g->doorbells -= before->doorbells;
}

static void collect(struct instance *in, struct figures *f)
{
	const struct boot_stats *before = &in->stats_before;
	uint64_t accept_ns, answer_ns;
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ring_server_firsts(in->rs, &accept_ns, &answer_ns);
	f->g = *in->stats;
	f->restored = in->cfg->restore_fd > 0;
	f->image_us = since_start(in, in->cfg->image_ns);
	f->first_insn_us = mark(in, f->g.first_insn_tsc, before->first_insn_tsc);
	f->first_user_us = mark(in, f->g.first_user_tsc, before->first_user_tsc);
	f->main_us = mark(in, f->g.main_tsc, before->main_tsc);
	f->listen_us = mark(in, f->g.first_listen_tsc, before->first_listen_tsc);
	f->accept_us = since_start(in, accept_ns);
	f->answer_us = since_start(in, answer_ns);
	f->total_us = since_start(in, (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec);
	f->kicks = in->vcpu->stat_kicks - in->kicks_before;
	subtract(&f->g, before);
	f->exits = in->backend->exits ? in->backend->exits(in->ctx) : 0;
	f->guest_calls = in->backend->guest_syscalls ? in->backend->guest_syscalls(in->ctx) : 0;
}

#define LLU(x) ((unsigned long long)(x))

static int print_json(const struct instance *in, const struct figures *f, char *b, size_t n)
{
	return snprintf(b, n,
			"{\"monitor\":\"%s\",\"restored\":%s,\"image_us\":%.1f,\"first_insn_us\":%.1f,"
			"\"first_user_us\":%.1f,\"main_us\":%.1f,"
			"\"first_listen_us\":%.1f,\"first_accept_us\":%.1f,\"first_answer_us\":%.1f,\"total_"
			"us\":%.1f,"
			"\"exits\":%llu,\"doorbells\":%llu,"
			"\"kicks\":%llu,\"syscalls\":%llu,\"syscall_traps\":%llu,\"sites_patched\":%llu,"
			"\"page_faults\":%llu,\"pages_used\":%llu,\"pages_peak\":%llu,"
			"\"processes\":%llu,\"processes_peak\":%llu,\"processes_made\":%llu,"
			"\"monitor_host_calls\":%d,\"guest_host_calls\":%d}\n",
			in->backend->name, f->restored ? "true" : "false", f->image_us, f->first_insn_us,
			f->first_user_us, f->main_us, f->listen_us, f->accept_us, f->answer_us, f->total_us,
			LLU(f->exits), LLU(f->g.doorbells), LLU(f->kicks), LLU(f->g.syscalls),
			LLU(f->g.syscall_traps), LLU(f->g.sites_patched), LLU(f->g.faults),
			LLU(f->g.pages_used), LLU(f->g.pages_peak), LLU(f->g.processes),
			LLU(f->g.processes_peak), LLU(f->g.processes_made), in->n_host_calls, f->guest_calls);
}

static int print_phases(const struct instance *in, const struct figures *f, char *b, size_t n)
{
	const struct {
		const char *name;
		double us;
		bool always;
	} phases[] = {
		{"image ready", f->image_us, !f->restored},
		{f->restored ? "library OS goes on" : "first instruction", f->first_insn_us, true},
		{f->restored ? "program goes on" : "first of the program", f->first_user_us, true},
		{"main", f->main_us, false},
		{"first listen", f->listen_us, false},
		{"first accept", f->accept_us, false},
		{"first answer", f->answer_us, false},
		{"end", f->total_us, true},
	};
	int at = snprintf(b, n, "monitor              %s%s\n", in->backend->name,
			  f->restored ? ", restored" : "");
	const char *what = " after start";

	for (size_t i = 0; i < sizeof(phases) / sizeof(phases[0]); i++) {
		if (!phases[i].always && phases[i].us <= 0)
			continue;
		at += snprintf(b + at, n - (size_t)at, "%-20s %10.2f ms%s\n", phases[i].name,
			       phases[i].us / 1e3, what);
		what = "";
	}
	return at;
}

static int print_text(const struct instance *in, const struct figures *f, char *b, size_t n)
{
	int at = print_phases(in, f, b, n);

	at += snprintf(b + at, n - (size_t)at,
		       "exits                %10llu (%llu doorbells, %llu kicks)\n"
		       "system calls         %10llu (%llu trapped, %llu sites rewritten)\n"
		       "page faults          %10llu\n"
		       "memory               %10llu KiB now, %llu KiB at most\n"
		       "processes            %10llu now, %llu at most, %llu made\n"
		       "host calls allowed   %10d monitor, %d guest process\n",
		       LLU(f->exits), LLU(f->g.doorbells), LLU(f->kicks), LLU(f->g.syscalls),
		       LLU(f->g.syscall_traps), LLU(f->g.sites_patched), LLU(f->g.faults),
		       LLU(f->g.pages_used * 4), LLU(f->g.pages_peak * 4), LLU(f->g.processes),
		       LLU(f->g.processes_peak), LLU(f->g.processes_made), in->n_host_calls, f->guest_calls);
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
