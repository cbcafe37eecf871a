/* SPDX-License-Identifier: ISC */
/* unit-sources: guest/proc/elf.c */
/*
 * Hostile ELF headers: whatever the loader accepts is mapped inside the app's
 * half, in order and without overlap, and nothing else is touched. The mapping
 * calls are recorded, not done.
 */
#include "tests/unit/hosted.h"

#include <asm-generic/errno.h>
#include <linux/elf.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"
#include "tests/unit/tap.h"

#define IMAGE 8192u
#define PIE   0x555555554000ull

struct thread *test_current;
static u8 image[IMAGE];
static u64 image_size = IMAGE;
static unsigned allocs, puts, maps;
static bool outside, unaligned;
static u64 rng;

/* --- what the loader calls ------------------------------------------------------ */

void *kmalloc(size_t n)
{
	allocs++;
	return malloc(n);
}

void *kzalloc(size_t n)
{
	allocs++;
	return calloc(1, n);
}

void kfree(void *p)
{
	allocs -= p != NULL;
	free(p);
}

void file_put(struct file *f)
{
	puts++;
}

s64 vfs_pread(struct file *f, void *buf, u64 n, u64 off)
{
	if ((s64)off < 0)
		return -EINVAL;
	if (off >= image_size)
		return 0;
	n = MIN(n, image_size - off);
	memcpy(buf, image + off, n);
	return (s64)n;
}

static void note(u64 addr, u64 len)
{
	maps++;
	if (addr < 65536 || len > BOOT_TASK_SIZE || addr > BOOT_TASK_SIZE - len)
		outside = true;
	if ((addr | len) & (PAGE_SIZE - 1))
		unaligned = true;
}

s64 mm_mmap(struct aspace *as, u64 addr, u64 len, u32 prot, u32 flags, struct file *file, u64 off)
{
	if (!(flags & MAP_FIXED))
		return len > 1ull << 46 ? -ENOMEM : 0x7f0000000000;
	/* mm checks this much itself */
	if (!len || addr > BOOT_TASK_SIZE || len > BOOT_TASK_SIZE - addr)
		return -ENOMEM;
	if (off & (PAGE_SIZE - 1))
		unaligned = true;
	note(addr, len);
	return (s64)addr;
}

s64 mm_munmap(struct aspace *as, u64 addr, u64 len)
{
	return 0;
}

u64 aspace_random_pie(struct aspace *as, u64 span)
{
	return PIE;
}

int clear_user(void *user, size_t n)
{
	note(PAGE_DOWN(user), PAGE_SIZE);
	return n < PAGE_SIZE ? 0 : -EFAULT;
}

/* --- images ------------------------------------------------------------------------ */

static Elf64_Ehdr *eh(void)
{
	return (Elf64_Ehdr *)image;
}

static Elf64_Phdr *ph(int i)
{
	return (Elf64_Phdr *)(image + 64) + i;
}

static void segment(int i, u64 off, u64 va, u64 filesz, u64 memsz, u32 flags)
{
	*ph(i) = (Elf64_Phdr){.p_type = PT_LOAD,
			      .p_flags = flags,
			      .p_offset = off,
			      .p_vaddr = va,
			      .p_filesz = filesz,
			      .p_memsz = memsz,
			      .p_align = 0x1000};
}

static void good_image(bool pie)
{
	u64 base = pie ? 0 : 0x400000;

	memset(image, 0, sizeof(image));
	image_size = IMAGE;
	memcpy(eh()->e_ident, ELFMAG, SELFMAG);
	eh()->e_ident[EI_CLASS] = ELFCLASS64;
	eh()->e_ident[EI_DATA] = ELFDATA2LSB;
	eh()->e_type = pie ? ET_DYN : ET_EXEC;
	eh()->e_machine = EM_X86_64;
	eh()->e_phoff = 64;
	eh()->e_phentsize = sizeof(Elf64_Phdr);
	eh()->e_phnum = 4;
	eh()->e_entry = base + 0x1000;
	segment(0, 0, base, 0x500, 0x500, PF_R);
	segment(1, 0x1000, base + 0x1000, 0x800, 0x800, PF_R | PF_X);
	segment(2, 0x1800, base + 0x3800, 0x100, 0x3000, PF_R | PF_W);
	*ph(3) = (Elf64_Phdr){.p_type = PT_INTERP, .p_offset = 0x400, .p_filesz = 12, .p_memsz = 12};
	memcpy(image + 0x400, "/lib/ld.so.1", 12);
	image[0x400 + 11] = 0;
}

/* Open and map; the error, or 0. */
static int try(struct elf_program *out)
{
	int err = 0, res;
	struct elf_file *e;

	maps = 0;
	outside = unaligned = false;
	e = elf_open((struct file *)image, &err);
	if (!e)
		return err;
	res = elf_map(e, NULL, test_random(&rng) & 1, out);
	elf_close(e);
	return res;
}

static void valid(void)
{
	struct elf_program p;

	good_image(false);
	ok(try(&p) == 0 && p.entry == 0x401000 && p.phdr == 0x400040 && p.end == 0x406800, "a fixed program");
	good_image(true);
	ok(try(&p) == 0 && p.entry == p.base + 0x1000 && p.phnum == 4, "a position-independent program");
	ok(allocs == 0, "nothing leaks");
}

static void refused(const char *what, bool no)
{
	struct elf_program p;
	int err = no ? -ENOEXEC : try(&p);

	ok(err == -ENOEXEC && !maps, "refused: %s", what);
}

static void invalid(void)
{
#define BAD(what, stmt)                                                                                      \
	do {                                                                                                 \
		good_image(false);                                                                           \
		stmt;                                                                                        \
		refused(what, false);                                                                        \
	} while (0)
	BAD("no magic", eh()->e_ident[0] = 0);
	BAD("32 bits", eh()->e_ident[EI_CLASS] = ELFCLASS32);
	BAD("another machine", eh()->e_machine = 183);
	BAD("a relocatable object", eh()->e_type = ET_REL);
	BAD("no program headers", eh()->e_phnum = 0);
	BAD("too many program headers", eh()->e_phnum = 5000);
	BAD("program headers of another size", eh()->e_phentsize = 55);
	BAD("program headers outside of the file", eh()->e_phoff = IMAGE - 10);
	BAD("program headers at the end of the world", eh()->e_phoff = ~0ull - 8);
	BAD("a file cut after its header", image_size = 70);
	BAD("overlapping segments", ph(2)->p_vaddr = 0x401000);
	BAD("segments in the wrong order", ph(0)->p_vaddr = 0x500000);
	BAD("more file than memory", ph(1)->p_filesz = 0x10000);
	BAD("a segment in the library OS", ph(2)->p_vaddr = BOOT_TASK_SIZE + 0x800);
	BAD("a segment that wraps around", ph(2)->p_memsz = ~0ull - 0x1000);
	BAD("a segment at page 0", ph(0)->p_vaddr = 0);
	BAD("an offset that wraps around", ph(2)->p_offset = ~0ull - 0x7ff);
	BAD("address and offset out of step", ph(2)->p_vaddr += 8);
	BAD("an alignment that is no power of two", ph(1)->p_align = 0x1001);
	BAD("no segment at all", ph(0)->p_type = ph(1)->p_type = ph(2)->p_type = PT_NULL);
	BAD("an interpreter's name without an end", image[0x400 + 11] = 'x');
	BAD("an interpreter's name as long as the file", ph(3)->p_filesz = IMAGE);
	ok(allocs == 0, "nothing leaks");
}

static void fuzz(u64 seed)
{
	static const u64 edge[] = {
		0,	    1,		0xfff, 0x1000,	      0x400000, BOOT_TASK_SIZE, BOOT_TASK_SIZE - 1,
		1ull << 47, 1ull << 63, ~0ull, ~0ull - 0xfff, INT64_MAX};
	bool good = true;
	unsigned accepted = 0;
	struct elf_program p;

	for (unsigned i = 0; i < 200000 && good; i++) {
		good_image(test_random(&rng) & 1);
		for (unsigned n = test_random(&rng) % 4; n-- > 0;) {
			u64 v = test_random(&rng) & 1 ? edge[test_random(&rng) % ARRAY_SIZE(edge)]
						      : test_random(&rng);

			if (test_random(&rng) % 4)
				((u64 *)ph((int)(test_random(&rng) % 4)))[test_random(&rng) % 7] = v;
			else
				image[test_random(&rng) % 64] = (u8)v;
		}
		accepted += try(&p) == 0;
		good = !outside && !unaligned && !allocs;
	}
	ok(good, "200000 damaged headers (seed %llu)", (unsigned long long)seed);
	ok(accepted > 1000, "of which %u are still programs", accepted);
}

int main(void)
{
	u64 seed = rng = test_seed();

	valid();
	invalid();
	fuzz(seed);
	return done();
}
