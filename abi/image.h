/* SPDX-License-Identifier: ISC */
/*
 * What an image says about its programs: where their `syscall` instructions are.
 *
 * Each layer may hold files /.cowbell/sites-NAME (NAME unique, so that stacked layers
 * do not hide each other's). One such file lists, for executable files of the layer, the sites that
 * a disassembler has found, and for each site the way to turn it into a jump
 * (image/sites.c writes it, guest/arch/x86_64/patch.c uses it). All
 * numbers are little endian; the parts follow each other without gaps:
 *
 *   offset 0   struct sites_header                        32 bytes
 *   then       n_files * struct sites_file                32 bytes each, sorted by path (bytewise)
 *   then       n_pages * struct sites_page                16 bytes each, a file's in order of pgoff
 *   then       n_sites * struct sites_site                 4 bytes each, a page's in order of `at`
 *   then       strings_size bytes of paths                NUL-terminated, absolute in the image
 *
 * The file may come from anyone: a reader checks every index, and rewrites a
 * page only if its contents have the recorded hash.
 */
#ifndef COWBELL_ABI_IMAGE_H
#define COWBELL_ABI_IMAGE_H

#include <stdint.h>

#define SITES_DIR     "/.cowbell"
#define SITES_PREFIX  "sites-"
#define SITES_MAGIC   0x53455449535f5743ull /* "CW_SITES" */
#define SITES_VERSION 1

struct sites_header {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* of the whole, in bytes */
	uint32_t n_files, n_pages, n_sites, strings_size;
};

struct sites_file {
	uint32_t path; /* offset in the strings */
	uint32_t first_page, n_pages;
	uint32_t pad;
	uint64_t size; /* of the file */
	uint64_t pad2;
};

struct sites_page {
	uint32_t pgoff; /* page number in the file */
	uint32_t first_site;
	uint32_t n_sites;
	uint32_t hash; /* sites_hash() of the page's 4096 bytes */
};

/*
 * A site: `0f 05` at `at` in its page. `way` is
 *   0         SITES_WAY_HOLE is clear: 5..15, length of the instruction before the site. It has no relative operand;
 *             it moves to the trampoline, `jmp rel32` takes its place, the `syscall` stays for whoever jumps to it
 *   with SITES_WAY_HOLE: the low 12 bits are the place in the page of 5 bytes of unused padding that the
 *             2-byte `jmp rel8` at the site reaches; they take a `jmp rel32`
 */
struct sites_site {
	uint16_t at;
	uint16_t way;
};
#define SITES_WAY_HOLE 0x8000u

_Static_assert(sizeof(struct sites_header) == 32, "abi");
_Static_assert(sizeof(struct sites_file) == 32, "abi");
_Static_assert(sizeof(struct sites_page) == 16, "abi");
_Static_assert(sizeof(struct sites_site) == 4, "abi");

/* Not cryptographic: it tells a page of the same file from another's. p: 4096 bytes, 8-byte aligned. */
static inline uint32_t sites_hash(const void *p)
{
	const uint64_t *w = (const uint64_t *)p;
	uint64_t h = 0x9e3779b97f4a7c15ull;

	for (int i = 0; i < 512; i++) {
		h = (h ^ w[i]) * 0xff51afd7ed558ccdull;
		h ^= h >> 32;
	}
	return (uint32_t)h;
}

#endif
