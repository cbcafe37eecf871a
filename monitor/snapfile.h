/* SPDX-License-Identifier: ISC */
/* A snapshot file read and checked: what restore.c and the commands build upon. */
#ifndef COWBELL_MONITOR_SNAPFILE_H
#define COWBELL_MONITOR_SNAPFILE_H

#include <stdbool.h>
#include <stddef.h>

#include "abi/snapshot.h"

/* A run of pages of RAM and where they are stored. What no entry names is zero. */
struct snap_flat {
	uint64_t gpa, off; /* off from the start of fd */
	uint32_t pages, flags; /* SNAP_E_USER or 0 */
	int fd; /* of the snapshot or of one of its parents */
};

struct snap_file {
	int fd; /* the caller's */
	struct snap_header h;
	uint8_t *tables; /* h.tables_len bytes, from file offset 4096 on */
	const struct snap_extent *extents;
	const struct snap_map *maps;
	const struct snap_layer *layers;
	const struct snap_handle *handles;
	const struct snap_request *requests;
	const struct snap_port *ports;
	const struct snap_volume *volumes;
	/* all of RAM, by gpa and without overlap; of a delta only after snapfile_open_chain() */
	struct snap_flat *flat;
	uint32_t n_flat;
	struct snap_file *parent; /* of a chain; owned */
	int own_fd[SNAP_MAX_CHAIN], n_own; /* patched pages, which flat refers to */
};

/* Reads pages of rising addresses from a flat list. */
#define SNAP_READ_PAGES 32u
struct snap_reader {
	const struct snap_flat *v;
	uint32_t n, at;
	uint64_t have, n_have; /* gpa of what is in buf; pages */
	uint32_t ahead; /* pages read at once; SNAP_READ_PAGES, but where few of them are needed */
	int err;
	uint8_t buf[SNAP_READ_PAGES * SNAP_PAGE];
};

/*
 * Read header and tables and check every number in them against the others and the file's size. What is left to
 * those who use them: whether handles and requests make sense to the ring server. 0, or -errno and a phrase.
 */
int snapfile_open(struct snap_file *f, int fd, const char **why);
/*
 * The same, for one to restore: fds[0] the snapshot, then its parents in order, all n of them needed. Every parent is
 * the one that its child names. The descriptors stay the caller's and must stay open.
 */
int snapfile_open_chain(struct snap_file *f, const int *fds, int n, const char **why);
/* Only h and flat stay. */
void snapfile_slim(struct snap_file *f);
void snapfile_close(struct snap_file *f);
/* Checksums of all pages, of this file only. */
int snapfile_verify_pages(const struct snap_file *f, const char **why);
/* A string of the tables; always terminated. "" when off is outside. */
const char *snapfile_string(const struct snap_file *f, uint32_t off);

void snap_reader_start(struct snap_reader *r, const struct snap_flat *v, uint32_t n);
/* Is it there without reading? */
bool snap_reader_has(const struct snap_reader *r, uint64_t gpa);
/* The page at gpa, until the next call; NULL: no entry has it, it is zero; or r->err. */
const uint8_t *snap_reader_page(struct snap_reader *r, uint64_t gpa);

/* The changes that make `now` of `below` (NULL: zeros), into out or only counted (NULL). Bytes, a multiple of 8. */
uint32_t snap_patch_make(const uint8_t *below, const uint8_t *now, uint8_t *out);
/* The reverse: bytes taken of the n at p, or 0: they make no sense. */
uint32_t snap_patch_apply(uint8_t *page, const uint8_t *p, uint64_t n);

uint32_t snap_crc32c(uint32_t crc, const void *p, size_t n); /* crc: 0 at first */
/* The digest of h (its own field does not count) and tables. */
void snap_digest(const struct snap_header *h, const uint8_t *tables, uint8_t digest[32]);
/* The fingerprint of a layer: its size and samples all over it. 0 or -errno. */
int snap_layer_print(int fd, uint64_t off, uint64_t size, uint8_t print[32]);

#endif
