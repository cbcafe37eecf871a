// SPDX-License-Identifier: ISC
/*
 * libFuzzer target: the reader of snapshot files (monitor/snapfile.c, snappatch.c). An input is one file, or a delta
 * and its parent: the first 4 bytes say how long the first file is (0: all there is). Digests are made right first, as
 * whoever writes a hostile file would, also the one by which a delta names its parent. What is accepted then is walked
 * as restore.c, lazy.c and snapwrite.c walk it, every byte that they may touch.
 */
/* fuzz-sources: monitor/snapfile.c monitor/snappatch.c */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "monitor/snapfile.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static volatile unsigned sink;

static void check(int good)
{
	if (!good)
		abort();
}

static void walk_tables(const struct snap_file *f)
{
	const struct snap_header *h = &f->h;

	for (uint32_t i = 0; i < h->maps.count; i++)
		check(f->maps[i].va >= BOOT_TASK_SIZE && f->maps[i].va + f->maps[i].len <= BOOT_LIBOS_TOP);
	for (uint32_t i = 0; i < h->layers.count; i++)
		sink += (unsigned)strlen(snapfile_string(f, f->layers[i].id));
	for (uint32_t i = 0; i < h->handles.count; i++)
		sink += f->handles[i].id + (unsigned)strlen(snapfile_string(f, f->handles[i].path));
	for (uint32_t i = 0; i < h->requests.count; i++)
		sink += f->requests[i].sqe.op;
	for (uint32_t i = 0; i < h->ports.count; i++)
		sink += f->ports[i].guest;
	for (uint32_t i = 0; i < h->volumes.count; i++)
		sink += (unsigned)strlen(snapfile_string(f, f->volumes[i].dir));
	sink += (unsigned)strlen(snapfile_string(f, h->name)) +
		(unsigned)strlen(snapfile_string(f, h->parent));
}

/* All of RAM: in order, inside it, inside a file, and no entry says what only an extent may say. */
static void walk_flat(const struct snap_file *f)
{
	struct snap_reader *r = malloc(sizeof(*r));
	uint64_t next = 0;

	check(r != NULL);
	snap_reader_start(r, f->flat, f->n_flat);
	for (uint32_t i = 0; i < f->n_flat; i++) {
		const struct snap_flat *v = &f->flat[i];
		uint64_t len = (uint64_t)v->pages * SNAP_PAGE;

		check(v->pages && v->gpa >= next && v->gpa % SNAP_PAGE == 0 && v->off % SNAP_PAGE == 0);
		check(v->gpa < f->h.ram_size && len <= f->h.ram_size - v->gpa &&
		      !(v->flags & ~(uint32_t)SNAP_E_USER));
		check(lseek(v->fd, 0, SEEK_END) >= (off_t)(v->off + len));
		check(snap_reader_page(r, v->gpa) != NULL && !r->err);
		next = v->gpa + len;
	}
	free(r);
}

/* Digest and sizes as they should be. */
static void seal(unsigned char *file, size_t size, const unsigned char *parent)
{
	struct snap_header h;

	memcpy(&h, file, sizeof(h));
	h.magic = SNAP_MAGIC;
	h.version = SNAP_VERSION;
	h.size = sizeof(h);
	h.file_size = size;
	if (parent)
		memcpy(h.parent_digest, parent + offsetof(struct snap_header, digest),
		       sizeof(h.parent_digest));
	if (h.tables_len <= size - sizeof(h))
		snap_digest(&h, file + sizeof(h), h.digest);
	memcpy(file, &h, sizeof(h));
}

static void put(int fd, const unsigned char *file, size_t size)
{
	if (ftruncate(fd, 0) || pwrite(fd, file, size, 0) != (ssize_t)size)
		abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static int fd[2] = {-1, -1};
	struct snap_file f;
	const char *why = NULL;
	unsigned char *copy;
	uint32_t first;
	int n = 1;

	if (size < sizeof(first))
		return 0;
	memcpy(&first, data, sizeof(first));
	data += sizeof(first);
	size -= sizeof(first);
	if (!first || first > size)
		first = (uint32_t)size;
	if (first < sizeof(struct snap_header) || !(copy = malloc(size)))
		return 0;
	for (int i = 0; i < 2; i++)
		if (fd[i] < 0)
			fd[i] = memfd_create("fuzz", 0);
	memcpy(copy, data, size);
	if (size - first >= sizeof(struct snap_header)) {
		n = 2;
		seal(copy + first, size - first, NULL);
		put(fd[1], copy + first, size - first);
	}
	seal(copy, first, n == 2 ? copy + first : NULL);
	put(fd[0], copy, first);
	free(copy);
	if (snapfile_open_chain(&f, fd, n, &why)) {
		check(why && *why);
		return 0;
	}
	walk_tables(&f);
	walk_flat(&f);
	snapfile_verify_pages(&f, &why);
	snapfile_slim(&f);
	walk_flat(&f);
	snapfile_close(&f);
	return 0;
}
