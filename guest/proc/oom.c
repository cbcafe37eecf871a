/* SPDX-License-Identifier: ISC */
/*
 * Out of memory: who has to go.
 *
 * The process whose end frees most: pages that nobody else holds, with their tables, shifted by its oom_score_adj in
 * thousandths of the memory there is; one with -1000 is spared while there is another. Of equals the youngest. (Linux
 * counts all resident pages. Among many that were forked off one, which share nearly all, that says nothing.) The
 * program comes after everybody else, since its end is the end of all.
 *
 * The victim gets SIGKILL, and because it may be a while until it comes to end itself, its private memory is taken
 * away at once. The instance goes on unless that was the program itself.
 */
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

#define SPARED (-1000)

static s64 badness(const struct process *p)
{
	return (s64)aspace_private_pages(p->as) + (s64)p->oom_score_adj * (s64)frames_total() / 1000;
}

/* Processes that share memory are one victim: the worst of them speaks for all. */
static struct process *choose(bool spare)
{
	struct aspace *last = init_process->as;
	struct process *worst = NULL;
	s64 most = 0;

	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);
		s64 bad;

		if (!p->as || p->as->emptied || p->as == last || (spare && p->oom_score_adj == SPARED))
			continue;
		bad = badness(p);
		if (worst && bad < most)
			continue;
		worst = p;
		most = bad;
	}
	return worst;
}

bool oom_kill(struct aspace *as)
{
	struct process *victim = choose(true);
	struct aspace *gone;

	if (!victim)
		victim = choose(false);
	if (!victim && init_process->as && !init_process->as->emptied)
		victim = init_process;
	if (!victim)
		return false;
	log_line(LOG_ERROR, "out of memory: limit %llu MiB; process %d (%s) with %llu MiB is killed",
		 (unsigned long long)(frames_total() >> (20 - PAGE_SHIFT)), victim->pid, victim->comm,
		 (unsigned long long)(victim->as->rss_pages >> (20 - PAGE_SHIFT)));
	gone = victim->as;
	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (p->as == gone)
			signal_process(p, SIGKILL, NULL);
	}
	if (gone == as) {
		gone->emptied = true;
		return false;
	}
	mm_empty(gone);
	return true;
}
