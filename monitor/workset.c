/* SPDX-License-Identifier: ISC */
/*
 * The memo of a snapshot's working set (workset.h): read and checked, or recorded.
 *
 *   0     struct ws_head
 *   64    struct workset_range[n], sorted
 *
 * The file stays open, locked, in the run that records it, because files cannot be opened under the filter; others
 * that start meanwhile find it empty and locked and neither use nor record anything. It is written in one go; a torn
 * one has a wrong checksum and is recorded anew.
 */
#include "monitor/workset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/snapshot.h"
#include "monitor/memo.h"
#include "monitor/seccomp.h"
#include "monitor/snapfile.h"

HOST_SYSCALL(snapshot, pwrite64);
HOST_SYSCALL(core, close);

#define PG	   SNAP_PAGE
#define WS_MAGIC   0x315445534b524f57ull /* "WORKSET1" */
#define MAX_RANGES 32768u

struct ws_head {
	uint64_t magic, ram_size;
	uint8_t digest[32];
	uint32_t n, crc; /* CRC-32C of the ranges */
	uint64_t pad;
};

_Static_assert(sizeof(struct ws_head) == 64 && sizeof(struct workset_range) == 16, "the memo's layout");

static int record_fd = -1;
static struct ws_head record_head;

static bool ranges_are_sound(const struct workset *ws, uint64_t ram_size)
{
	uint64_t next = 0;

	for (uint32_t i = 0; i < ws->n; i++) {
		const struct workset_range *r = &ws->range[i];

		if (r->gpa % PG || !r->pages || r->gpa < next || r->gpa >= ram_size ||
		    r->pages > (ram_size - r->gpa) / PG)
			return false;
		next = r->gpa + (uint64_t)r->pages * PG;
	}
	return true;
}

static bool load(struct workset *ws, int fd, const struct ws_head *want)
{
	struct ws_head h;
	size_t len;

	if (pread(fd, &h, sizeof(h), 0) != sizeof(h) || h.magic != WS_MAGIC || h.ram_size != want->ram_size ||
	    memcmp(h.digest, want->digest, sizeof(h.digest)) || !h.n || h.n > MAX_RANGES)
		return false;
	len = h.n * sizeof(*ws->range);
	ws->range = malloc(len);
	ws->n = h.n;
	if (ws->range && pread(fd, ws->range, len, sizeof(h)) == (ssize_t)len &&
	    snap_crc32c(0, ws->range, len) == h.crc && ranges_are_sound(ws, want->ram_size))
		return true;
	workset_free(ws);
	return false;
}

int workset_open(struct workset *ws, int dir, const uint8_t digest[32], const char *kind, uint64_t ram_size)
{
	char name[MEMO_NAME], word[32];
	int fd;

	*ws = (struct workset){0};
	if (dir <= 0)
		return 0;
	snprintf(word, sizeof(word), "workset-%s", kind);
	memo_name(name, word, digest);
	fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	if (fd < 0)
		return 0;
	record_head = (struct ws_head){.magic = WS_MAGIC, .ram_size = ram_size};
	memcpy(record_head.digest, digest, 32);
	if (load(ws, fd, &record_head)) {
		close(fd);
		return 1;
	}
	if (flock(fd, LOCK_EX | LOCK_NB))
		close(fd);
	else
		record_fd = fd;
	return 0;
}

void workset_free(struct workset *ws)
{
	free(ws->range);
	*ws = (struct workset){0};
}

bool workset_recording(void)
{
	return record_fd >= 0;
}

/* How many ranges; at most MAX_RANGES of them are put into r. */
static uint32_t collect(struct workset_range *r, const uint8_t *state, uint64_t pages)
{
	uint32_t n = 0;

	for (uint64_t i = 0, end; i < pages && n < MAX_RANGES; i = end) {
		for (end = i + 1; end < pages && state[end] == state[i] && end - i < SNAP_EXTENT_PAGES; end++)
			;
		if (state[i] == WORKSET_UNTOUCHED)
			continue;
		r[n++] = (struct workset_range){.gpa = i * PG,
						.pages = (uint32_t)(end - i),
						.flags = state[i] == WORKSET_WROTE ? WORKSET_WRITTEN : 0};
	}
	return n;
}

void workset_record(const uint8_t *state, uint64_t pages)
{
	struct ws_head *h;
	uint8_t *file;
	size_t len;

	if (record_fd < 0)
		return;
	if (pages > record_head.ram_size / PG)
		pages = record_head.ram_size / PG;
	file = malloc(sizeof(*h) + MAX_RANGES * sizeof(struct workset_range));
	if (file) {
		h = (struct ws_head *)file;
		*h = record_head;
		h->n = collect((struct workset_range *)(file + sizeof(*h)), state, pages);
		len = h->n * sizeof(struct workset_range);
		h->crc = snap_crc32c(0, file + sizeof(*h), len);
		ssize_t n = pwrite(record_fd, file, sizeof(*h) + len, 0);
		(void)n; /* the next run tries again */
		free(file);
	}
	close(record_fd);
	record_fd = -1;
}
