/* SPDX-License-Identifier: ISC */
/* What a program file is, and what it needs to be loaded. See elf.c. */
#ifndef COWBELL_IMAGE_ELF_H
#define COWBELL_IMAGE_ELF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ELF_MAX_NEEDED 128

struct elf_info {
	char *interp; /* PT_INTERP, or NULL: static */
	char *needed[ELF_MAX_NEEDED]; /* DT_NEEDED, in order */
	int n_needed;
	char *rpath, *runpath; /* as written, or NULL */
	char *strings; /* owns all of the above */
};

/*
 * Read and check an ELF file. NULL if it can be executed (or loaded, if it is
 * a library), else a phrase that says why not. `info` is to be freed by
 * elf_free() in either case. elf_read_head() leaves the dynamic section out:
 * its strings are megabytes in some programs.
 */
const char *elf_read(int fd, struct elf_info *info);
const char *elf_read_head(int fd, struct elf_info *info);
/* elf_read_head() of what is no file of its own, such as one in an image. read: bytes read, or negative. */
struct elf_bytes {
	int64_t (*read)(void *arg, void *buf, uint64_t n, uint64_t off);
	void *arg;
	uint64_t size;
};
const char *elf_read_bytes(const struct elf_bytes *b, struct elf_info *info);
void elf_free(struct elf_info *info);
/* Does the file begin with ELF's magic? */
bool elf_magic(int fd);

#endif
