/* SPDX-License-Identifier: ISC */
/* RAM of a restored instance that is filled from its snapshot when it is needed (process monitor). */
#ifndef COWBELL_MONITOR_LAZY_H
#define COWBELL_MONITOR_LAZY_H

#include <stdbool.h>
#include <stdint.h>

#include "abi/process.h"
#include "monitor/gpa.h"
#include "monitor/snapfile.h"
#include "monitor/workset.h"

struct lazy;

/*
 * m->ram_fd is a file without contents: what the library OS owns is filled now, what the working set (it may be empty)
 * knows as written by lazy_prefill(), the rest later. Sets m->lazy and m->files, takes *ws over; the descriptors in the
 * flat list must stay open. 0, or -1 after a message.
 */
int lazy_open(struct guest_mem *m, const struct snap_file *f, struct workset *ws);
void lazy_prefill(const struct guest_mem *m);
/*
 * [gpa, gpa+len) must hold what it should from here on. Pages that are filled already are never filled again. gpa.c
 * calls it for whoever asks for a pointer. 0, or -errno after a message: the snapshot cannot be read.
 */
int lazy_fill(const struct guest_mem *m, uint64_t gpa, uint64_t len);
/* Contents of [gpa, gpa+len) do not matter any more. */
void lazy_drop(const struct guest_mem *m, uint64_t gpa, uint64_t len);
/* All that is left. */
int lazy_fill_all(const struct guest_mem *m);
/*
 * The guest came upon the page at gpa and would like n of them. How many are filled from gpa on then: at least 1,
 * and only that while a working set is recorded. -errno: not RAM, or it cannot be read.
 */
int64_t lazy_ask(const struct guest_mem *m, uint64_t gpa, uint64_t n);
/* Bit i is set: page i has yet to be filled; pages up to max. How many are left. */
uint64_t lazy_missing(const struct guest_mem *m, uint64_t *bits, uint64_t max);
/* The same of what lazy_open() left, whatever was filled since. */
uint64_t lazy_stored(const struct guest_mem *m, uint64_t *bits, uint64_t max);
/* Up to max of what the guest can map from m->files instead; how many. */
uint32_t lazy_pieces(const struct guest_mem *m, struct process_piece *out, uint32_t max);
/* What was filled since lazy_open(), as enum workset_touch of each page; ends the recording. */
void lazy_touched(const struct guest_mem *m, uint8_t *state, uint64_t pages);

#endif
