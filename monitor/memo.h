/* SPDX-License-Identifier: ISC */
/*
 * Memos: small files in a directory of the user's (cfg.memo_dir) that say what an earlier run found out, so that a start
 * need not find it out again. Any of them may be lost, old or damaged at any time: whoever reads one checks it, and
 * goes on without it. Never torn: written under another name first.
 */
#ifndef COWBELL_MONITOR_MEMO_H
#define COWBELL_MONITOR_MEMO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEMO_NAME 96

/* KIND.HEX of the first 16 bytes of a digest. */
void memo_name(char name[MEMO_NAME], const char *kind, const uint8_t digest[32]);
/* Exactly `size` bytes that memo_write() once wrote; dir <= 0: there is none. Before the filter, both. */
bool memo_read(int dir, const char *name, void *p, size_t size);
void memo_write(int dir, const char *name, const void *p, size_t size);

/* Is a file still the one that was looked at? */
struct memo_stamp {
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
};

/* path NULL: of fd. All zero when it cannot be looked at. */
struct memo_stamp memo_stamp(int fd, const char *path);
bool memo_same(const struct memo_stamp *a, const struct memo_stamp *b);

#endif
