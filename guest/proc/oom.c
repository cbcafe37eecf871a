/* SPDX-License-Identifier: ISC */
/*
 * Out of memory: who has to go.
 *
 * The process that holds most, by resident pages and the tables for them, shifted
 * by its oom_score_adj in thousandths of the memory there is, as on Linux; one with -1000 is
 * spared while there is another. It gets SIGKILL, and because it may be a while until it
 * comes to end itself, its private memory is taken away at once. The instance goes
 * on unless that was the program itself.
 */
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

#define SPARED (-1000)

static s64 badness(const struct process *p)
{
	s64 pages = (s64)(p->as->rss_pages + p->as->rss_pages / 512);

	return pages + (s64)p->oom_score_adj * (s64)frames_total() / 1000;
}

/* Processes that share memory are one victim: the worst of them speaks for all. */
static struct process *choose(bool spare)
{
	struct process *worst = NULL;

	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if (!p->as || p->as->emptied || (spare && p->oom_score_adj == SPARED))
			continue;
		if (!worst || badness(p) > badness(worst))
			worst = p;
	}
	return worst;
}

bool oom_kill(struct aspace *as)
{
	struct process *victim = choose(true);
	struct aspace *gone;

	if (!victim)
		victim = choose(false);
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
