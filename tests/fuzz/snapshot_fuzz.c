// SPDX-License-Identifier: ISC
/*
 * libFuzzer target: the reader of snapshot files (monitor/snapfile.c). The digest is made right first, as whoever writes a
 * hostile file would; what is accepted then is walked as restore.c walks it, every byte that it may touch.
 */
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

static void walk(const struct snap_file *f)
{
	const struct snap_header *h = &f->h;

	for (uint32_t i = 0; i < h->extents.count; i++) {
		const struct snap_extent *e = &f->extents[i];

		check(e->gpa < h->ram_size && (uint64_t)e->pages * SNAP_PAGE <= h->ram_size - e->gpa);
		check(e->off <= h->file_size && (uint64_t)e->pages * SNAP_PAGE <= h->file_size - e->off);
	}
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
	sink += (unsigned)strlen(snapfile_string(f, h->name)) + (unsigned)strlen(snapfile_string(f, h->exe));
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static int fd = -1;
	struct snap_header h;
	struct snap_file f;
	const char *why = NULL;
	unsigned char *copy;

	if (size < sizeof(h))
		return 0;
	copy = malloc(size);
	if (!copy)
		return 0;
	memcpy(copy, data, size);
	memcpy(&h, copy, sizeof(h));
	h.magic = SNAP_MAGIC;
	h.version = SNAP_VERSION;
	h.size = sizeof(h);
	h.file_size = size;
	if (h.tables_len <= size - sizeof(h))
		snap_digest(&h, copy + sizeof(h), h.digest);
	memcpy(copy, &h, sizeof(h));
	if (fd < 0)
		fd = memfd_create("fuzz", 0);
	if (ftruncate(fd, 0) || pwrite(fd, copy, size, 0) != (ssize_t)size)
		abort();
	free(copy);
	if (snapfile_open(&f, fd, &why)) {
		check(why && *why);
		return 0;
	}
	walk(&f);
	snapfile_verify_pages(&f, &why);
	snapfile_close(&f);
	return 0;
}
