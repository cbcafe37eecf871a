/* SPDX-License-Identifier: ISC */
/* unit-sources: image/sites_scan.c lib/host/say.c */
/* unit-libs: -lpthread */
/*
 * The scanner of system call sites, on this very program: functions below have
 * sites whose right treatment is known. Then on damaged copies of it: no
 * damage may crash it, and what it says of a page stays inside the page.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/sites.h"
#include "tests/unit/tap.h"

/* Each starts a page of its own, so that neighbours lend no padding. */
#define FUNCTION(name, body)                                                                                 \
	__asm__(".pushsection .text\n.balign 4096\n.globl " #name "\n.type " #name ", @function\n" #name     \
		":\n"                                                                                        \
		".cfi_startproc\n" body "\n.cfi_endproc\n.size " #name ", . - " #name "\n.popsection\n")
#define FILL ".fill 200, 1, 0x58\n" /* pop %rax: code, no padding */

FUNCTION(with_hole, "mov $39, %eax\n1: syscall\nret\n.balign 16, 0xcc\n.balign 16\n" FILL);
FUNCTION(with_nops, "xor %eax, %eax\nsyscall\nret\n.nops 9\n" FILL);
FUNCTION(only_before, "mov $39, %eax\nsyscall\nret\n" FILL);
FUNCTION(nothing_fits, "xor %eax, %eax\nsyscall\nret\n" FILL);
FUNCTION(relative_before, "lea with_hole(%rip), %rdi\nsyscall\nret\n" FILL);
FUNCTION(jumped_padding, "jmp 1f\n.nops 4\n1: nop\nnop\nnop\nnop\nxor %eax, %eax\nsyscall\nret\n" FILL);
FUNCTION(falls_into_padding, "xor %eax, %eax\nsyscall\n.nops 9\nret\n" FILL);
FUNCTION(in_an_immediate, "movabs $0x050f050f050f050f, %rax\nret\n.nops 9\n" FILL);
FUNCTION(call_before, "call with_hole\nsyscall\nret\n" FILL);
extern const unsigned char with_hole[], with_nops[], only_before[], nothing_fits[], relative_before[],
	jumped_padding[], falls_into_padding[], in_an_immediate[], call_before[];

static struct sites_found found;
static unsigned char *file;
static size_t size;

/* The record of the site at `offset` in a function: page by its bytes, because we know no file offsets. */
static const struct sites_site *site_in(const unsigned char *function, unsigned offset)
{
	for (unsigned p = 0; p < found.n_pages; p++) {
		size_t at = (size_t)found.pages[p].pgoff * 4096;

		if (at + 4096 > size || memcmp(file + at, function, 64))
			continue;
		for (unsigned i = 0; i < found.pages[p].n_sites; i++)
			if (found.sites[found.pages[p].first_site + i].at == offset)
				return &found.sites[found.pages[p].first_site + i];
	}
	return NULL;
}

static unsigned way_of(const unsigned char *function)
{
	for (unsigned off = 0; off < 60; off++) {
		const struct sites_site *s = site_in(function, off);

		if (s)
			return s->way;
	}
	return 0;
}

static bool within_page(const struct sites_found *f)
{
	for (unsigned p = 0; p < f->n_pages; p++) {
		if (f->pages[p].first_site + f->pages[p].n_sites > f->n_sites)
			return false;
		for (unsigned i = 0; i < f->pages[p].n_sites; i++) {
			const struct sites_site *s = &f->sites[f->pages[p].first_site + i];
			int hole = s->way & ~SITES_WAY_HOLE, distance = hole - (s->at + 2);

			if (s->at > 4094)
				return false;
			if (s->way & SITES_WAY_HOLE) {
				if (hole > 4091 || distance < -128 || distance > 127)
					return false;
			} else if (s->way < 5 || s->way > 15 || s->way > s->at) {
				return false;
			}
		}
	}
	return true;
}

static void known_functions(void)
{
	unsigned way = way_of(with_hole);

	ok(way & SITES_WAY_HOLE && (way & 0xfff) == 8, "int3 behind a ret is a hole");
	way = way_of(with_nops);
	ok(way & SITES_WAY_HOLE && (way & 0xfff) == 5, "nops behind a ret are a hole");
	is(way_of(only_before), 5, "no padding: `mov $n, %eax` moves");
	is(way_of(nothing_fits), 0, "a short instruction before and no padding: left alone");
	is(way_of(relative_before), 0, "an instruction with a relative operand does not move");
	is(way_of(call_before), 0, "a call does not move");
	is(way_of(falls_into_padding), 0, "padding that is executed is no hole");
	way = way_of(jumped_padding);
	ok(!(way & SITES_WAY_HOLE), "padding behind a branch target is no hole");
	is(way_of(in_an_immediate), 0, "0f 05 inside of an instruction is no site");
}

static unsigned long long seed = 88172645463325252ull;
static unsigned rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (unsigned)(seed >> 16);
}

static bool scan_damaged(int fd, unsigned char *copy)
{
	struct sites_found f;
	size_t length = rnd() % 4 ? size : rnd() % size;
	bool good;

	memcpy(copy, file, size);
	for (unsigned n = 1 + rnd() % 30; n; n--)
		copy[rnd() % 3 ? rnd() % 1024 : rnd() % size] = (unsigned char)rnd();
	if (ftruncate(fd, 0) || pwrite(fd, copy, length, 0) != (ssize_t)length)
		return false;
	if (sites_scan(fd, &f))
		return true;
	good = within_page(&f);
	sites_found_free(&f);
	return good;
}

int main(void)
{
	int fd = open("/proc/self/exe", O_RDONLY), copy_fd = memfd_create("copy", 0), bad = 0;
	struct stat st;
	unsigned char *copy;

	if (fd < 0 || fstat(fd, &st))
		return 1;
	size = (size_t)st.st_size;
	file = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	copy = malloc(size);
	is(sites_scan(fd, &found), 0, "scan");
	ok(within_page(&found), "every way lies in its page");
	known_functions();
	diag("seed %llu", seed);
	for (int i = 0; i < 300; i++)
		bad += !scan_damaged(copy_fd, copy);
	is(bad, 0, "300 damaged files");
	sites_found_free(&found);
	free(copy);
	return done();
}
