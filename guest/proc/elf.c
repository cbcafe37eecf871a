/* SPDX-License-Identifier: ISC */
/*
 * ELF programs: read and check (changes nothing), then map.
 *
 * The file is hostile. elf_open() copies its headers once and checks them all:
 * counts, sizes, overflow, order and overlap of the segments, the interpreter's
 * name. Whatever passes can be mapped without another look at the file; pages
 * that the file does not have are found by their faults (SIGBUS).
 */
#include <linux/elf.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"

#define MAX_PHDRS 128

struct elf_file {
	struct file *file;
	Elf64_Ehdr eh;
	Elf64_Phdr *ph;
	u64 low, high; /* page-aligned span of the loadable segments, as linked */
	u64 align;
	bool pie;
	char *interp;
	int stack_prot;
};

const char *elf_interp(const struct elf_file *e)
{
	return e->interp;
}

int elf_stack_prot(const struct elf_file *e)
{
	return e->stack_prot;
}

void elf_close(struct elf_file *e)
{
	if (!e)
		return;
	if (e->file)
		file_put(e->file);
	kfree(e->ph);
	kfree(e->interp);
	kfree(e);
}

/* --- check ---------------------------------------------------------------------- */

static bool header_ok(const Elf64_Ehdr *h)
{
	return !memcmp(h->e_ident, ELFMAG, SELFMAG) && h->e_ident[EI_CLASS] == ELFCLASS64 &&
	       h->e_ident[EI_DATA] == ELFDATA2LSB && h->e_machine == EM_X86_64 &&
	       (h->e_type == ET_EXEC || h->e_type == ET_DYN) && h->e_phentsize == sizeof(Elf64_Phdr) &&
	       h->e_phnum >= 1 && h->e_phnum <= MAX_PHDRS;
}

static int read_headers(struct elf_file *e)
{
	u64 size;

	if (vfs_pread(e->file, &e->eh, sizeof(e->eh), 0) != sizeof(e->eh) || !header_ok(&e->eh))
		return -ENOEXEC;
	size = e->eh.e_phnum * sizeof(Elf64_Phdr);
	if (e->eh.e_phoff > INT64_MAX - size)
		return -ENOEXEC;
	e->ph = kmalloc(size);
	if (!e->ph)
		return -ENOMEM;
	if (vfs_pread(e->file, e->ph, size, e->eh.e_phoff) != (s64)size)
		return -ENOEXEC;
	e->pie = e->eh.e_type == ET_DYN;
	return 0;
}

/* One loadable segment; `end` is the end of the one before. */
static int check_load(struct elf_file *e, const Elf64_Phdr *p, u64 *end)
{
	if (p->p_memsz < p->p_filesz || p->p_memsz >= BOOT_TASK_SIZE || p->p_vaddr >= BOOT_TASK_SIZE ||
	    p->p_vaddr + p->p_memsz > BOOT_TASK_SIZE || p->p_offset > INT64_MAX - p->p_filesz)
		return -ENOEXEC;
	if ((p->p_vaddr ^ p->p_offset) & (PAGE_SIZE - 1))
		return -ENOEXEC;
	if (*end && p->p_vaddr < *end)
		return -ENOEXEC; /* overlapping, or not in order */
	if (p->p_align > 1 && (p->p_align & (p->p_align - 1)))
		return -ENOEXEC;
	if (!*end)
		e->low = PAGE_DOWN(p->p_vaddr);
	*end = p->p_vaddr + p->p_memsz;
	e->high = PAGE_UP(*end);
	e->align = MAX(e->align, p->p_align);
	return 0;
}

static int read_interp(struct elf_file *e, const Elf64_Phdr *p)
{
	if (e->interp)
		return 0; /* the first one counts */
	if (p->p_filesz < 2 || p->p_filesz > 4096 || p->p_offset > INT64_MAX - p->p_filesz)
		return -ENOEXEC;
	e->interp = kmalloc(p->p_filesz);
	if (!e->interp)
		return -ENOMEM;
	if (vfs_pread(e->file, e->interp, p->p_filesz, p->p_offset) != (s64)p->p_filesz ||
	    e->interp[p->p_filesz - 1])
		return -ENOEXEC;
	return 0;
}

static int check(struct elf_file *e)
{
	u64 end = 0;
	int err = read_headers(e);

	e->align = PAGE_SIZE;
	e->stack_prot = PROT_READ | PROT_WRITE;
	for (unsigned i = 0; !err && i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *p = &e->ph[i];

		if (p->p_type == PT_LOAD && p->p_memsz)
			err = check_load(e, p, &end);
		else if (p->p_type == PT_INTERP)
			err = read_interp(e, p);
		else if (p->p_type == PT_GNU_STACK && (p->p_flags & PF_X))
			e->stack_prot |= PROT_EXEC;
	}
	if (err)
		return err;
	if (!end || e->align > (1ull << 30))
		return -ENOEXEC;
	if (!e->pie && e->low < 65536)
		return -ENOEXEC; /* page 0 and what is near it stay unmapped */
	return 0;
}

struct elf_file *elf_open(struct file *f, int *err)
{
	struct elf_file *e = kzalloc(sizeof(*e));

	if (!e) {
		*err = -ENOMEM;
		return NULL;
	}
	e->file = f;
	*err = check(e);
	if (!*err)
		return e;
	e->file = NULL; /* still the caller's */
	elf_close(e);
	return NULL;
}

/* --- map -------------------------------------------------------------------------- */

static u32 segment_prot(u32 pf)
{
	return (pf & PF_R ? PROT_READ : 0) | (pf & PF_W ? PROT_WRITE : 0) | (pf & PF_X ? PROT_EXEC : 0);
}

/* The last file page from the file data on (to its end: ld.so takes that for its first heap), and the pages after it. */
static int map_bss(struct aspace *as, u64 start, u64 end, u32 prot)
{
	u64 page = PAGE_UP(start);
	s64 res;

	if (start < page && (prot & PROT_WRITE) && clear_user((void *)start, page - start))
		return -EFAULT;
	if (end <= page)
		return 0;
	res = mm_mmap(as, page, PAGE_UP(end) - page, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0);
	return res < 0 ? (int)res : 0;
}

static int map_segment(struct elf_file *e, struct aspace *as, const Elf64_Phdr *p, u64 bias)
{
	u32 prot = segment_prot(p->p_flags);
	u64 va = p->p_vaddr + bias, skew = va & (PAGE_SIZE - 1), file_end = va + p->p_filesz;
	s64 res;

	if (p->p_filesz) {
		res = mm_mmap(as, va - skew, PAGE_UP(p->p_filesz + skew), prot, MAP_PRIVATE | MAP_FIXED,
			      e->file, p->p_offset - skew);
		if (res < 0)
			return (int)res;
	} else {
		file_end = va - skew;
	}
	return p->p_memsz > p->p_filesz ? map_bss(as, file_end, va + p->p_memsz, prot) : 0;
}

/* Where a position-independent file goes: a program low, its interpreter among the mappings. */
static s64 choose_base(struct elf_file *e, struct aspace *as, bool is_interp)
{
	u64 span = e->high - e->low;
	s64 at;

	if (!is_interp)
		return (s64)(ALIGN_UP(aspace_random_pie(as, span + e->align), e->align));
	/* Ask for room by mapping it; the segments then replace what they need. */
	at = mm_mmap(as, 0, span + e->align, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, NULL, 0);
	if (at < 0)
		return at;
	mm_munmap(as, (u64)at, span + e->align);
	return (s64)ALIGN_UP(at, e->align);
}

static void note_limits(struct elf_program *out, const Elf64_Phdr *p, u64 bias)
{
	u64 start = p->p_vaddr + bias, end = start + p->p_filesz;

	if (p->p_flags & PF_X) {
		out->start_code = out->start_code ? MIN(out->start_code, start) : start;
		out->end_code = MAX(out->end_code, end);
	}
	if (p->p_flags & PF_W) {
		out->start_data = MAX(out->start_data, start);
		out->end_data = MAX(out->end_data, end);
	}
	out->end = MAX(out->end, start + p->p_memsz);
}

/* Address of the program headers in memory, if a segment holds them. */
static u64 find_phdr(const struct elf_file *e, u64 bias)
{
	u64 off = e->eh.e_phoff;

	for (unsigned i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *p = &e->ph[i];

		if (p->p_type == PT_LOAD && off >= p->p_offset && off - p->p_offset < p->p_filesz)
			return bias + p->p_vaddr + (off - p->p_offset);
	}
	return 0;
}

int elf_map(struct elf_file *e, struct aspace *as, bool is_interp, struct elf_program *out)
{
	u64 bias = 0;

	memset(out, 0, sizeof(*out));
	if (e->pie) {
		s64 at = choose_base(e, as, is_interp);

		if (at < 0)
			return (int)at;
		bias = (u64)at - e->low;
	}
	for (unsigned i = 0; i < e->eh.e_phnum; i++) {
		const Elf64_Phdr *p = &e->ph[i];
		int err;

		if (p->p_type != PT_LOAD || !p->p_memsz)
			continue;
		err = map_segment(e, as, p, bias);
		if (err)
			return err;
		note_limits(out, p, bias);
	}
	out->bias = bias;
	out->base = e->low + bias;
	out->entry = e->eh.e_entry + bias;
	out->phdr = find_phdr(e, bias);
	out->phent = sizeof(Elf64_Phdr);
	out->phnum = e->eh.e_phnum;
	return out->entry < BOOT_TASK_SIZE ? 0 : -ENOEXEC;
}
