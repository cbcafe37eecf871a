/* SPDX-License-Identifier: ISC */
/*
 * Reading ELF headers of files that nobody vouches for.
 *
 * Headers are copied once into memory, every offset and count is checked
 * against the file's size before use, and every loop is bounded. What is
 * refused here with a clear phrase would otherwise be a puzzle in the guest:
 * another architecture, a truncated file, segments that overlap or wrap.
 */
#include "image/elf.h"

#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_PHDRS   256
#define MAX_DYNAMIC (1u << 16) /* bytes */
#define MAX_STRTAB  (64u << 20) /* pandoc, of which the linker exports all: 36 MB */
#define USER_TOP    0x7f8000000000ull /* BOOT_TASK_SIZE: nothing is loaded above */

static bool read_at(const struct elf_bytes *b, void *p, uint64_t n, uint64_t off)
{
	if (off > b->size || n > b->size - off)
		return false;
	return b->read(b->arg, p, n, off) == (int64_t)n;
}

static int64_t read_fd(void *arg, void *p, uint64_t n, uint64_t off)
{
	return pread(*(int *)arg, p, n, (off_t)off);
}

bool elf_magic(int fd)
{
	char m[SELFMAG];

	return pread(fd, m, SELFMAG, 0) == SELFMAG && !memcmp(m, ELFMAG, SELFMAG);
}

static const char *machine_name(const Elf64_Ehdr *h)
{
	switch (h->e_machine) {
	case EM_386:
		return "is a 32-bit x86 program; cowbell runs x86-64 ones";
	case EM_AARCH64:
		return "is an ARM64 program; cowbell runs x86-64 ones";
	case EM_ARM:
		return "is a 32-bit ARM program; cowbell runs x86-64 ones";
	case EM_RISCV:
		return "is a RISC-V program; cowbell runs x86-64 ones";
	case EM_PPC64:
		return "is a POWER program; cowbell runs x86-64 ones";
	case EM_S390:
		return "is an s390x program; cowbell runs x86-64 ones";
	default:
		return "is made for another processor; cowbell runs x86-64 programs";
	}
}

static const char *check_header(const Elf64_Ehdr *h)
{
	if (memcmp(h->e_ident, ELFMAG, SELFMAG))
		return "is neither an ELF program nor a #! script";
	if (h->e_machine != EM_X86_64)
		return machine_name(h);
	if (h->e_ident[EI_CLASS] != ELFCLASS64)
		return "is a 32-bit (x32) program; cowbell runs x86-64 ones";
	if (h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_ident[EI_VERSION] != EV_CURRENT)
		return "is a damaged ELF file: its identification makes no sense";
	if (h->e_type == ET_REL)
		return "is an object file that still has to be linked";
	if (h->e_type == ET_CORE)
		return "is a core dump, not a program";
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return "is a damaged ELF file: its type makes no sense";
	if (h->e_phentsize != sizeof(Elf64_Phdr) || !h->e_phnum)
		return "is a damaged ELF file: it has no program headers";
	if (h->e_phnum > MAX_PHDRS)
		return "is a damaged or hostile ELF file: it has more program headers than any program needs";
	return NULL;
}

/* Loadable segments: inside the file, ascending, apart, below the top of the address space. */
static const char *check_loads(const Elf64_Phdr *ph, int n, uint64_t file_size)
{
	uint64_t end = 0;
	int loads = 0;

	for (int i = 0; i < n; i++) {
		if (ph[i].p_type != PT_LOAD)
			continue;
		if (ph[i].p_filesz > ph[i].p_memsz)
			return "is a damaged ELF file: a segment is larger in the file than in memory";
		if (ph[i].p_offset > file_size || ph[i].p_filesz > file_size - ph[i].p_offset)
			return "is truncated: a segment lies beyond the end of the file";
		if (ph[i].p_vaddr > USER_TOP || ph[i].p_memsz > USER_TOP - ph[i].p_vaddr)
			return "is a damaged or hostile ELF file: a segment does not fit into the address "
			       "space";
		if ((ph[i].p_vaddr ^ ph[i].p_offset) & 4095 && ph[i].p_filesz)
			return "is a damaged ELF file: a segment's address and file offset do not match";
		if (loads++ && ph[i].p_vaddr < end)
			return "is a damaged or hostile ELF file: its segments overlap";
		end = ph[i].p_vaddr + ph[i].p_memsz;
	}
	return loads ? NULL : "is a damaged ELF file: it has nothing to load";
}

/* File offset of `n` bytes at a virtual address, or false. */
static bool file_offset(const Elf64_Phdr *ph, int n_ph, uint64_t va, uint64_t n, uint64_t *off)
{
	for (int i = 0; i < n_ph; i++) {
		if (ph[i].p_type != PT_LOAD || va < ph[i].p_vaddr || va - ph[i].p_vaddr >= ph[i].p_filesz)
			continue;
		if (n > ph[i].p_filesz - (va - ph[i].p_vaddr))
			return false;
		*off = ph[i].p_offset + (va - ph[i].p_vaddr);
		return true;
	}
	return false;
}

static const char *bad_dynamic = "is a damaged or hostile ELF file: its dynamic section makes no sense";

/* A string of the table, if it starts and ends inside. */
static char *table_string(char *tab, uint64_t size, uint64_t at)
{
	return at < size && memchr(tab + at, 0, size - at) ? tab + at : NULL;
}

/* The dynamic section: `strings` already begins with room for the interpreter's name. */
static const char *read_dynamic(const struct elf_bytes *b, const Elf64_Phdr *ph, int n_ph,
				const Elf64_Phdr *dyn, struct elf_info *info, size_t interp_len)
{
	uint64_t strtab = 0, strsz = 0, off = 0;
	size_t n = dyn->p_filesz / sizeof(Elf64_Dyn);

	if (dyn->p_filesz > MAX_DYNAMIC)
		return bad_dynamic;
	Elf64_Dyn *d = calloc(n + 1, sizeof(*d));
	if (!d)
		return "cannot be read: out of memory";
	const char *why = read_at(b, d, n * sizeof(*d), dyn->p_offset) ? NULL : bad_dynamic;
	for (size_t i = 0; i < n && d[i].d_tag != DT_NULL; i++) {
		if (d[i].d_tag == DT_STRTAB)
			strtab = d[i].d_un.d_ptr;
		else if (d[i].d_tag == DT_STRSZ)
			strsz = d[i].d_un.d_val;
	}
	if (!why && strsz && (strsz > MAX_STRTAB || !file_offset(ph, n_ph, strtab, strsz, &off)))
		why = bad_dynamic;
	char *all = why || !strsz ? NULL : realloc(info->strings, interp_len + strsz);
	if (!why && strsz && !all)
		why = "cannot be read: out of memory";
	if (all) {
		if (info->interp)
			info->interp = all;
		info->strings = all;
		char *tab = all + interp_len;
		if (!read_at(b, tab, strsz, off))
			why = bad_dynamic;
		for (size_t i = 0; !why && i < n && d[i].d_tag != DT_NULL; i++) {
			char *s = table_string(tab, strsz, d[i].d_un.d_val);
			bool wants =
				d[i].d_tag == DT_NEEDED || d[i].d_tag == DT_RPATH || d[i].d_tag == DT_RUNPATH;
			if (wants && !s)
				why = bad_dynamic;
			else if (d[i].d_tag == DT_RPATH)
				info->rpath = s;
			else if (d[i].d_tag == DT_RUNPATH)
				info->runpath = s;
			else if (d[i].d_tag == DT_NEEDED && info->n_needed < ELF_MAX_NEEDED)
				info->needed[info->n_needed++] = s;
		}
	}
	free(d);
	return why;
}

static const char *read_elf(const struct elf_bytes *b, struct elf_info *info, bool dynamic)
{
	Elf64_Ehdr h;
	Elf64_Phdr ph[MAX_PHDRS];
	const Elf64_Phdr *dyn = NULL, *interp = NULL;
	size_t interp_len = 0;

	memset(&h, 0, sizeof(h));
	int64_t got = b->read(b->arg, &h, sizeof(h), 0);
	if (got <= 0)
		return got ? "cannot be read" : "is empty";
	if (got >= SELFMAG && !memcmp(h.e_ident, ELFMAG, SELFMAG) && got < (int64_t)sizeof(h))
		return "is truncated: the ELF header is not complete";
	const char *why = check_header(&h);
	if (why)
		return why;
	if (!read_at(b, ph, h.e_phnum * sizeof(Elf64_Phdr), h.e_phoff))
		return "is truncated: its program headers lie beyond the end of the file";
	why = check_loads(ph, h.e_phnum, b->size);
	if (why)
		return why;
	for (int i = 0; i < h.e_phnum; i++) {
		if (ph[i].p_type == PT_DYNAMIC && !dyn)
			dyn = &ph[i];
		if (ph[i].p_type == PT_INTERP && !interp)
			interp = &ph[i];
	}
	if (interp) {
		interp_len = interp->p_filesz;
		if (interp_len < 2 || interp_len > 4096)
			return "is a damaged or hostile ELF file: the name of its dynamic linker makes no "
			       "sense";
		info->strings = malloc(interp_len);
		if (!info->strings)
			return "cannot be read: out of memory";
		if (!read_at(b, info->strings, interp_len, interp->p_offset))
			return "is truncated: the name of its dynamic linker lies beyond the end of the file";
		if (info->strings[interp_len - 1] || info->strings[0] != '/')
			return "is a damaged or hostile ELF file: the name of its dynamic linker makes no "
			       "sense";
		info->interp = info->strings;
	}
	return dyn && dynamic ? read_dynamic(b, ph, h.e_phnum, dyn, info, interp_len) : NULL;
}

static const char *read_file(int fd, struct elf_info *info, bool dynamic)
{
	struct stat st;

	memset(info, 0, sizeof(*info));
	if (fstat(fd, &st))
		return "cannot be read";
	struct elf_bytes b = {read_fd, &fd, (uint64_t)st.st_size};
	return read_elf(&b, info, dynamic);
}

const char *elf_read(int fd, struct elf_info *info)
{
	return read_file(fd, info, true);
}

const char *elf_read_head(int fd, struct elf_info *info)
{
	return read_file(fd, info, false);
}

const char *elf_read_bytes(const struct elf_bytes *b, struct elf_info *info)
{
	memset(info, 0, sizeof(*info));
	return read_elf(b, info, false);
}

void elf_free(struct elf_info *info)
{
	free(info->strings);
	memset(info, 0, sizeof(*info));
}
