/* SPDX-License-Identifier: ISC */
/*
 * The working set of a snapshot: ranges of guest-physical addresses, each with a flag that says whether their pages
 * were written or only read, from a restored instance's first instruction until its first answer has gone out.
 *
 * The first restored run of a snapshot records it, later ones have it in memory before the guest needs it. It is a
 * hint and nothing else: a wrong one costs time, never correctness. It lies in a memo, a small file for each snapshot
 * digest and kind of monitor, outside the snapshot.
 *
 *   restore:   workset_open()            1: use ws.range; 0: none yet
 *              workset_recording()       true: this run is to record, fill nothing ahead
 *   answered:  workset_look() of instance.c, after each turn -> backend->touched() for each page -> the memo
 */
#ifndef COWBELL_MONITOR_WORKSET_H
#define COWBELL_MONITOR_WORKSET_H

#include <stdbool.h>
#include <stdint.h>

enum workset_flag {
	/* The first run wrote to these pages; else it only read them (process: records only these). */
	WORKSET_WRITTEN = 1,
};

/* Sorted by gpa, without overlap, page aligned, inside the snapshot's ram_size. */
struct workset_range {
	uint64_t gpa;
	uint32_t pages, flags; /* enum workset_flag */
};

struct workset {
	uint32_t n;
	struct workset_range *range; /* malloc; NULL: none */
};

/* What a recorder tells of one page (backend->touched). */
enum workset_touch { WORKSET_UNTOUCHED = 0, WORKSET_READ = 1, WORKSET_WROTE = 2 };

/*
 * Look for the memo of the snapshot with this digest in the directory dir (-1: nowhere; nothing is recorded). 1: ws holds
 * a checked working set. 0: there is none; then this process is the one that records it unless another already does.
 * kind: the backend's name. Before the filter.
 */
int workset_open(struct workset *ws, int dir, const uint8_t digest[32], const char *kind, uint64_t ram_size);
void workset_free(struct workset *ws);

/* Is this run the one that records? */
bool workset_recording(void);

/*
 * Write the memo: state[i] is enum workset_touch of page i. Once; recording ends with it, also when it fails. Under the
 * filter (HOST_snapshot must be in it while workset_recording()).
 */
void workset_record(const uint8_t *state, uint64_t pages);

#endif
