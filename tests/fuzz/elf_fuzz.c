// SPDX-License-Identifier: ISC
/* libFuzzer target: ELF headers of files that nobody vouches for (image/elf.c). */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/elf.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static int fd = -1;
	struct elf_info e;

	if (fd < 0)
		fd = memfd_create("elf", 0);
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		return 0;
	if (!elf_read(fd, &e)) {
		/* what it says must be readable strings */
		size_t n = e.interp ? strlen(e.interp) : 0;
		for (int i = 0; i < e.n_needed; i++)
			n += strlen(e.needed[i]);
		n += (e.rpath ? strlen(e.rpath) : 0) + (e.runpath ? strlen(e.runpath) : 0);
		__asm__ volatile("" : : "r"(n));
	}
	elf_free(&e);
	elf_free(&e);
	return 0;
}
