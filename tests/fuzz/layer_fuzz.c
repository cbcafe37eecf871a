// SPDX-License-Identifier: ISC
/*
 * libFuzzer target: container layers (image/oci/layer.c and all below it). The first byte says into how many tars the rest
 * is cut, and whether headers get right checksums, without which nothing gets far. The store is a memory file. What
 * comes out must be an image whose every inode can be read.
 */
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/oci/import.h"
#include "lib/erofs.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* --- a store of one blob --------------------------------------------------------- */

struct blob {
	int fd;
};
static struct blob only = {-1};
static bool committed;

struct blob *blob_new(struct store *s)
{
	(void)s;
	only.fd = memfd_create("blob", 0);
	return only.fd < 0 ? NULL : &only;
}

int blob_fd(struct blob *b)
{
	return b->fd;
}

int blob_commit(struct blob *b, const char *expect, char hex[65], uint64_t *size)
{
	(void)b;
	(void)expect;
	memset(hex, 0, 65);
	*size = 0;
	committed = true;
	return 0;
}

void blob_abort(struct blob *b)
{
	(void)b;
}

const char *store_dir(const struct store *s)
{
	(void)s;
	return "memory";
}

static void digest(const void *p, size_t n, char hex[65])
{
	struct sha256_ctx c;
	uint8_t sum[32];

	sha256_init(&c);
	sha256_update(&c, n, p);
	sha256_digest(&c, sizeof(sum), sum);
	for (int i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
}

int sha256_fd(int fd, char hex[65])
{
	struct stat st;
	void *p = MAP_FAILED;

	if (!fstat(fd, &st) && st.st_size)
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return -1;
	digest(p, (size_t)st.st_size, hex);
	munmap(p, (size_t)st.st_size);
	return 0;
}

/* --- the image is good ------------------------------------------------------------- */

static void must(bool good)
{
	if (!good)
		abort();
}

static void walk(const struct erofs *fs, uint64_t nid, int depth)
{
	struct erofs_inode ino;
	struct erofs_dirent de, found;
	uint64_t pos = 0, n;
	const uint8_t *p;
	volatile uint8_t sink;
	int r;

	must(!erofs_inode(fs, nid, &ino) && depth < 200);
	for (uint64_t off = 0; (p = erofs_data(fs, &ino, off, &n)); off += n)
		sink = (uint8_t)(p[0] + p[n - 1]);
	(void)sink;
	if (!S_ISDIR(ino.mode))
		return;
	while ((r = erofs_readdir(fs, &ino, pos, &de)) == 1) {
		pos = de.next_pos;
		must(!erofs_lookup(fs, &ino, de.name, de.len, &found) && found.nid == de.nid);
		if (!(de.len == 1 && de.name[0] == '.') && !(de.len == 2 && !memcmp(de.name, "..", 2)))
			walk(fs, de.nid, depth + 1);
	}
	must(r == 0);
}

static void check_image(int fd)
{
	struct stat st;
	struct erofs fs;

	must(!fstat(fd, &st) && st.st_size % 4096 == 0 && st.st_size > 0);
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	must(p != MAP_FAILED && !erofs_open(&fs, p, (uint64_t)st.st_size));
	walk(&fs, fs.root_nid, 0);
	munmap(p, (size_t)st.st_size);
}

/* --- tars ------------------------------------------------------------------------------ */

static void mend_checksums(uint8_t *p, size_t n)
{
	for (; n >= 512; p += 512, n -= 512) {
		unsigned sum = 8 * ' ';
		if (memcmp(p + 257, "ustar", 5))
			continue;
		for (int i = 0; i < 512; i++)
			sum += i >= 148 && i < 156 ? 0 : p[i];
		snprintf((char *)p + 148, 8, "%06o", sum);
		p[155] = ' ';
	}
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct import_limits lim = {1 << 20, 200};
	struct oci_descriptor d[3] = {0};
	struct tar_layer v[3];
	char hex[65];
	uint64_t bytes;

	if (size < 2)
		return 0;
	int n = 1 + data[0] % 3;
	bool mend = data[0] & 0x80;
	size_t each = (size - 1) / (size_t)n / 512 * 512;
	uint8_t *copy = malloc(size);
	memcpy(copy, data + 1, size - 1);
	if (mend)
		mend_checksums(copy, size - 1);
	for (int i = 0; i < n; i++) {
		size_t len = i + 1 < n ? each : size - 1 - each * (size_t)i;
		v[i] = (struct tar_layer){memfd_create("tar", 0), &d[i], ""};
		d[i].size = len;
		digest(copy + each * (size_t)i, len, d[i].hex);
		if (v[i].fd < 0 || write(v[i].fd, copy + each * (size_t)i, len) != (ssize_t)len)
			abort();
	}
	committed = false;
	if (!layer_from_tars(NULL, v, n, &lim, hex, &bytes)) {
		must(committed);
		check_image(only.fd);
	}
	for (int i = 0; i < n; i++)
		close(v[i].fd);
	if (only.fd >= 0)
		close(only.fd);
	only.fd = -1;
	free(copy);
	return 0;
}
