/* SPDX-License-Identifier: ISC */
/*
 * Finding `syscall` instructions in one ELF file, and a way to rewrite each.
 *
 * Bytes 0f 05 are searched first; most files have none and cost no more than
 * that. Around each hit the code is disassembled from the start of a function, so that
 * instruction boundaries are real: function starts come from .eh_frame_hdr and
 * the symbol tables. Where a file tells of none, the whole section is disassembled from its start.
 *
 * Two ways (abi/image.h), the first that fits:
 *   hole   5 bytes of padding (nop, int3) behind an instruction that never falls through, before
 *          the next function and any branch target that was seen, within reach of `jmp rel8`
 *   before the instruction in front of the site is 5 bytes or longer and does not depend on its address.
 *          All of its bytes are one instruction, so nothing jumps into them
 * Both stay inside the site's page: the guest rewrites page by page.
 *
 * The file may be hostile: every offset is checked, work is bounded.
 *
 * Zydis is loaded when the first file needs it: to load it takes a tenth of a millisecond, of which most starts of
 * `cowbell run` have nothing.
 */
#include <Zydis/Zydis.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/sites.h"
#include "lib/host/say.h"

#define PAGE	      4096u
#define REACH	      140u /* jmp rel8 and the longest instruction */
#define MAX_FILE      (2ull << 30)
#define MAX_FUNCTION  (1u << 20) /* bytes disassembled around one hit */
#define MAX_SECTION   (64u << 20) /* disassembled as a whole */
#define JMP32	      5

#define ZYDIS_LIBRARY "libZydis.so.4.0"

static struct {
	__typeof__(ZydisDecoderInit) *init;
	__typeof__(ZydisDecoderDecodeInstruction) *decode;
} zydis; /* decode NULL: it is not here */

static void load_zydis(void)
{
	void *lib = dlopen(ZYDIS_LIBRARY, RTLD_NOW | RTLD_LOCAL);
	void *init = lib ? dlsym(lib, "ZydisDecoderInit") : NULL;
	void *decode = lib ? dlsym(lib, "ZydisDecoderDecodeInstruction") : NULL;

	if (!init || !decode) {
		say("programs are made ready with Zydis, and %s is not there; on Debian: apt-get install "
		    "libzydis4.0",
		    ZYDIS_LIBRARY);
		return;
	}
	memcpy(&zydis.init, &init, sizeof(init));
	memcpy(&zydis.decode, &decode, sizeof(decode));
}

/* One byte of class for each byte of code in the window. */
enum { B_START = 1, B_PAD = 2, B_NO_FALL = 4, B_TARGET = 8, B_SYSCALL = 16, B_MOVABLE = 32 };

struct scan {
	const uint8_t *file;
	uint64_t size;
	ZydisDecoder decoder;
	uint64_t *starts; /* function starts as addresses, sorted */
	size_t n_starts, cap_starts;
	/* the window: file offsets [lo, hi) of the current section, disassembled */
	uint64_t lo, hi;
	uint8_t *class;
	struct sites_found *out;
	size_t cap_pages, cap_sites;
	uint64_t hole_end; /* no byte below it is free for another hole */
	uint64_t budget; /* bytes that may still be disassembled */
	bool failed;
};

struct code { /* an executable section or segment */
	uint64_t off, va, size;
};

static bool in_file(const struct scan *s, uint64_t off, uint64_t n)
{
	return off <= s->size && n <= s->size - off;
}

static const void *at(const struct scan *s, uint64_t off, uint64_t n)
{
	return in_file(s, off, n) ? s->file + off : NULL;
}

/* --- function starts ----------------------------------------------------------- */

static void add_start(struct scan *s, uint64_t va)
{
	if (s->n_starts == s->cap_starts) {
		size_t cap = s->cap_starts ? s->cap_starts * 2 : 4096;
		uint64_t *n = realloc(s->starts, cap * sizeof(*n));

		if (!n) {
			s->failed = true;
			return;
		}
		s->starts = n;
		s->cap_starts = cap;
	}
	s->starts[s->n_starts++] = va;
}

/* .eh_frame_hdr as linkers write it: a table of (function, FDE) pairs, 32 bits relative to the header. */
static void starts_from_eh_frame_hdr(struct scan *s, const Elf64_Phdr *ph)
{
	const uint8_t *h = at(s, ph->p_offset, 12);
	uint32_t count;
	const uint8_t *table;

	if (!h || h[0] != 1 || h[1] != 0x1b || h[2] != 0x03 || h[3] != 0x3b)
		return;
	memcpy(&count, h + 8, 4);
	table = at(s, ph->p_offset + 12, (uint64_t)count * 8);
	for (uint32_t i = 0; table && i < count; i++) {
		int32_t rel;

		memcpy(&rel, table + (size_t)i * 8, 4);
		add_start(s, ph->p_vaddr + (uint64_t)(int64_t)rel);
	}
}

static void starts_from_symbols(struct scan *s, const Elf64_Shdr *sh)
{
	uint64_t n = sh->sh_size / sizeof(Elf64_Sym);
	const uint8_t *sym = at(s, sh->sh_offset, sh->sh_size);

	if (sh->sh_entsize != sizeof(Elf64_Sym))
		return;
	for (uint64_t i = 0; sym && i < n; i++) {
		Elf64_Sym e;

		memcpy(&e, sym + i * sizeof(e), sizeof(e));
		if (e.st_shndx != SHN_UNDEF && e.st_shndx < SHN_LORESERVE &&
		    (ELF64_ST_TYPE(e.st_info) == STT_FUNC || ELF64_ST_TYPE(e.st_info) == STT_NOTYPE ||
		     ELF64_ST_TYPE(e.st_info) == STT_GNU_IFUNC))
			add_start(s, e.st_value);
	}
}

static int compare_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Index of the last start <= va, or -1. */
static long start_below(const struct scan *s, uint64_t va)
{
	size_t lo = 0, hi = s->n_starts;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->starts[mid] <= va)
			lo = mid + 1;
		else
			hi = mid;
	}
	return (long)lo - 1;
}

/* --- disassembly --------------------------------------------------------------------- */

static void mark_target(struct scan *s, int64_t off)
{
	if (off >= (int64_t)s->lo && off < (int64_t)s->hi)
		s->class[off - s->lo] |= B_TARGET;
}

/* Classify the instruction at off; its length, or 0 if it is none. */
static unsigned classify(struct scan *s, uint64_t off, uint64_t end)
{
	ZydisDecodedInstruction in;
	uint8_t c = B_START;

	if (!ZYAN_SUCCESS(zydis.decode(&s->decoder, NULL, s->file + off, end - off, &in)))
		return 0;
	switch (in.mnemonic) {
	case ZYDIS_MNEMONIC_NOP:
	case ZYDIS_MNEMONIC_INT3:
		c |= B_PAD;
		break;
	case ZYDIS_MNEMONIC_SYSCALL:
		c |= in.length == 2 ? B_SYSCALL : 0;
		break;
	case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_HLT:
		c |= B_NO_FALL;
		break;
	default:
		break;
	}
	/* `xchg %ax, %ax` and the like decode as NOP already. */
	if (in.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE && in.attributes & ZYDIS_ATTRIB_IS_RELATIVE &&
	    in.raw.imm[0].size)
		mark_target(s, (int64_t)(off + in.length) + in.raw.imm[0].value.s);
	if (in.length >= JMP32 && in.length <= 15 && !(in.attributes & ZYDIS_ATTRIB_IS_RELATIVE) &&
	    in.meta.branch_type == ZYDIS_BRANCH_TYPE_NONE && in.meta.category != ZYDIS_CATEGORY_SYSCALL &&
	    in.meta.category != ZYDIS_CATEGORY_INTERRUPT && !(c & B_PAD))
		c |= B_MOVABLE;
	s->class[off - s->lo] |= c;
	return in.length;
}

/* Disassemble [lo, hi) of the section; function starts put the sweep back in step. */
static void disassemble(struct scan *s, const struct code *code, uint64_t lo, uint64_t hi)
{
	long next = start_below(s, code->va + (lo - code->off));

	s->lo = lo;
	s->hi = hi;
	memset(s->class, 0, hi - lo);
	for (size_t i = next < 0 ? 0 : (size_t)next; i < s->n_starts; i++) {
		uint64_t off = s->starts[i] - code->va + code->off;

		if (s->starts[i] >= code->va + (hi - code->off))
			break;
		mark_target(s, (int64_t)off);
	}
	for (uint64_t off = lo; off < hi;) {
		unsigned n = classify(s, off, hi);

		if (n == 0) {
			/* Data in the text, or cut off: go on at the next known start. */
			do
				off++;
			while (off < hi && !(s->class[off - lo] & B_TARGET));
			continue;
		}
		/* A known start inside of this instruction means that we were out of step. */
		for (unsigned i = 1; i < n && off + i < hi; i++) {
			uint64_t va = code->va + (off + i - code->off);
			long k = start_below(s, va);

			if (s->class[off + i - lo] & B_TARGET && k >= 0 && s->starts[k] == va) {
				s->class[off - lo] &=
					(uint8_t) ~(B_START | B_SYSCALL | B_MOVABLE | B_NO_FALL | B_PAD);
				n = i;
			}
		}
		off += n;
	}
}

/* --- ways --------------------------------------------------------------------------------- */

static uint8_t class_at(const struct scan *s, uint64_t off)
{
	return off >= s->lo && off < s->hi ? s->class[off - s->lo] : 0;
}

/* First free byte of padding that starts at `off`, behind a no-fall instruction; its end in *end. */
static bool padding_run(const struct scan *s, uint64_t off, uint64_t *end)
{
	uint64_t e = off;

	while (e < s->hi && class_at(s, e) & B_PAD && !(class_at(s, e) & B_TARGET)) {
		e++;
		while (e < s->hi && !(class_at(s, e) & B_START))
			e++;
	}
	*end = e;
	return e - off >= JMP32;
}

/* A hole in the site's page that `jmp rel8` at `site` reaches, not used yet; 0: none. */
static uint64_t find_hole(struct scan *s, uint64_t site)
{
	uint64_t page = site & ~(uint64_t)(PAGE - 1);
	uint64_t from = site + 2 > 128 ? site + 2 - 128 : 0, to = site + 2 + 127, end;

	/* Start at instructions before the reach: padding may begin there and end in it. */
	for (uint64_t off = from > 32 ? from - 32 : 0; off <= to; off++) {
		uint64_t after = off + 1, hole;

		if ((class_at(s, off) & (B_START | B_NO_FALL)) != (B_START | B_NO_FALL))
			continue;
		while (after < s->hi && !(class_at(s, after) & B_START))
			after++;
		if (!padding_run(s, after, &end))
			continue;
		hole = after;
		if (hole < from)
			hole = from;
		if (hole < page)
			hole = page;
		if (hole < s->hole_end)
			hole = s->hole_end;
		if (hole > to || hole + JMP32 > end || hole + JMP32 > page + PAGE)
			continue;
		return hole;
	}
	return 0;
}

/* Length of the instruction before the site if it can move, else 0. */
static unsigned movable_before(const struct scan *s, uint64_t site)
{
	for (unsigned n = 1; n <= 15 && n <= site; n++) {
		if (!(class_at(s, site - n) & B_START))
			continue;
		return n >= JMP32 && class_at(s, site - n) & B_MOVABLE && (site - n) / PAGE == site / PAGE
			       ? n
			       : 0;
	}
	return 0;
}

static void record(struct scan *s, uint64_t site, uint16_t way)
{
	struct sites_found *o = s->out;
	uint32_t pgoff = (uint32_t)(site / PAGE);

	if (o->n_sites == s->cap_sites) {
		size_t cap = s->cap_sites ? s->cap_sites * 2 : 256;
		struct sites_site *n = realloc(o->sites, cap * sizeof(*n));

		if (!n)
			goto failed;
		o->sites = n;
		s->cap_sites = cap;
	}
	if (!o->n_pages || o->pages[o->n_pages - 1].pgoff != pgoff) {
		uint64_t words[PAGE / 8] = {0};
		uint64_t left = s->size - (uint64_t)pgoff * PAGE;

		if (o->n_pages == s->cap_pages) {
			size_t cap = s->cap_pages ? s->cap_pages * 2 : 64;
			struct sites_page *n = realloc(o->pages, cap * sizeof(*n));

			if (!n)
				goto failed;
			o->pages = n;
			s->cap_pages = cap;
		}
		memcpy(words, s->file + (uint64_t)pgoff * PAGE, left < PAGE ? left : PAGE);
		o->pages[o->n_pages++] = (struct sites_page){pgoff, o->n_sites, 0, sites_hash(words)};
	}
	o->sites[o->n_sites++] = (struct sites_site){(uint16_t)(site % PAGE), way};
	o->pages[o->n_pages - 1].n_sites++;
	return;
failed:
	s->failed = true;
}

static void site_found(struct scan *s, uint64_t site)
{
	unsigned before;
	uint64_t hole;

	s->out->seen++;
	if (site % PAGE == PAGE - 1)
		return;
	hole = find_hole(s, site);
	if (hole) {
		s->hole_end = hole + JMP32;
		record(s, site, (uint16_t)(SITES_WAY_HOLE | hole % PAGE));
		return;
	}
	before = movable_before(s, site);
	if (before)
		record(s, site, (uint16_t)before);
}

/* --- sections ---------------------------------------------------------------------------------- */

/* What to disassemble around a hit: whole functions that cover its reach. False: no function is known there. */
static bool window_of(const struct scan *s, const struct code *c, uint64_t hit, uint64_t *lo, uint64_t *hi)
{
	uint64_t va = hit - c->off + c->va, end = c->off + c->size;
	long first = start_below(s, va > REACH ? va - REACH : 0), own = start_below(s, va);
	long last = start_below(s, va + REACH);

	if (own < 0 || s->starts[own] < c->va || va - s->starts[own] > MAX_FUNCTION)
		return false;
	if (first < 0 || s->starts[first] < c->va || va - s->starts[first] > MAX_FUNCTION)
		first = own;
	*lo = s->starts[first] - c->va + c->off;
	*hi = (size_t)last + 1 < s->n_starts ? s->starts[last + 1] - c->va + c->off : end;
	if (*hi > hit + MAX_FUNCTION)
		*hi = hit + MAX_FUNCTION;
	if (*hi > end)
		*hi = end;
	return true;
}

static const uint8_t *next_hit(const uint8_t *p, const uint8_t *end)
{
	while (p < end && (p = memchr(p, 0x0f, (size_t)(end - p)))) {
		if (p + 1 < end && p[1] == 0x05)
			return p;
		p++;
	}
	return NULL;
}

static void scan_code(struct scan *s, const struct code *c)
{
	const uint8_t *start = s->file + c->off, *end = start + c->size;
	uint64_t lo, hi;

	s->lo = s->hi = 0;
	s->hole_end = c->off;
	for (const uint8_t *p = start; (p = next_hit(p, end)) && !s->failed; p += 2) {
		uint64_t hit = (uint64_t)(p - s->file);

		/* The window must cover the reach, else look again from this hit's functions. */
		if (hit < s->lo || hit + REACH > s->hi) {
			if (!window_of(s, c, hit, &lo, &hi)) {
				if (c->size > MAX_SECTION)
					continue;
				lo = c->off;
				hi = c->off + c->size;
			}
			if (lo != s->lo || hi != s->hi) {
				/* made up so that the same bytes are looked at over and over */
				if (hi - lo > s->budget)
					return;
				s->budget -= hi - lo;
				uint8_t *class = hi > lo ? realloc(s->class, hi - lo) : NULL;

				if (!class) {
					s->failed = true;
					return;
				}
				s->class = class;
				disassemble(s, c, lo, hi);
			}
		}
		if (class_at(s, hit) & B_SYSCALL)
			site_found(s, hit);
	}
}

static int compare_code(const void *a, const void *b)
{
	return compare_u64(&((const struct code *)a)->off, &((const struct code *)b)->off);
}

/* Executable sections, or segments where there are no section headers; in file order, not overlapping. */
static int find_code(struct scan *s, const Elf64_Ehdr *eh, struct code *code, int max)
{
	const Elf64_Shdr *sh = at(s, eh->e_shoff, (uint64_t)eh->e_shnum * sizeof(*sh));
	const Elf64_Phdr *ph = at(s, eh->e_phoff, (uint64_t)eh->e_phnum * sizeof(*ph));
	int n = 0, kept = 0;

	if (!eh->e_shoff || eh->e_shentsize != sizeof(*sh) || eh->e_shoff % 8)
		sh = NULL;
	for (int i = 0; sh && i < eh->e_shnum && n < max; i++)
		if (sh[i].sh_type == SHT_PROGBITS && sh[i].sh_flags & SHF_EXECINSTR &&
		    in_file(s, sh[i].sh_offset, sh[i].sh_size))
			code[n++] = (struct code){sh[i].sh_offset, sh[i].sh_addr, sh[i].sh_size};
	for (int i = 0; !n && i < eh->e_phnum && n < max; i++)
		if (ph[i].p_type == PT_LOAD && ph[i].p_flags & PF_X &&
		    in_file(s, ph[i].p_offset, ph[i].p_filesz))
			code[n++] = (struct code){ph[i].p_offset, ph[i].p_vaddr, ph[i].p_filesz};
	qsort(code, (size_t)n, sizeof(*code), compare_code);
	for (int i = 0; i < n; i++)
		if (!kept || code[i].off >= code[kept - 1].off + code[kept - 1].size)
			code[kept++] = code[i];
	return kept;
}

static void find_starts(struct scan *s, const Elf64_Ehdr *eh)
{
	const Elf64_Shdr *sh = at(s, eh->e_shoff, (uint64_t)eh->e_shnum * sizeof(*sh));
	const Elf64_Phdr *ph = at(s, eh->e_phoff, (uint64_t)eh->e_phnum * sizeof(*ph));
	size_t kept = 0;

	for (int i = 0; i < eh->e_phnum; i++)
		if (ph[i].p_type == PT_GNU_EH_FRAME)
			starts_from_eh_frame_hdr(s, &ph[i]);
	if (eh->e_shoff && eh->e_shoff % 8 == 0 && eh->e_shentsize == sizeof(*sh))
		for (int i = 0; sh && i < eh->e_shnum; i++)
			if (sh[i].sh_type == SHT_SYMTAB || sh[i].sh_type == SHT_DYNSYM)
				starts_from_symbols(s, &sh[i]);
	if (s->n_starts)
		qsort(s->starts, s->n_starts, sizeof(*s->starts), compare_u64);
	for (size_t i = 0; i < s->n_starts; i++)
		if (!kept || s->starts[i] != s->starts[kept - 1])
			s->starts[kept++] = s->starts[i];
	s->n_starts = kept;
}

static bool is_our_elf(const struct scan *s, const Elf64_Ehdr *eh)
{
	return s->size >= sizeof(*eh) && !memcmp(eh->e_ident, ELFMAG, SELFMAG) &&
	       eh->e_ident[EI_CLASS] == ELFCLASS64 && eh->e_machine == EM_X86_64 && eh->e_phnum &&
	       eh->e_phentsize == sizeof(Elf64_Phdr) && eh->e_phoff % 8 == 0 &&
	       at(s, eh->e_phoff, (uint64_t)eh->e_phnum * sizeof(Elf64_Phdr));
}

static void scan_elf(struct scan *s)
{
	const Elf64_Ehdr *eh = (const Elf64_Ehdr *)s->file;
	struct code code[64];
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	bool any = false;
	int n;

	if (!is_our_elf(s, eh))
		return;
	n = find_code(s, eh, code, 64);
	for (int i = 0; i < n; i++)
		any |= !!next_hit(s->file + code[i].off, s->file + code[i].off + code[i].size);
	if (!any)
		return;
	find_starts(s, eh);
	pthread_once(&once, load_zydis);
	if (!zydis.decode) {
		s->failed = true;
		return;
	}
	zydis.init(&s->decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	for (int i = 0; i < n && !s->failed; i++)
		scan_code(s, &code[i]);
}

static int scan_bytes(const uint8_t *p, uint64_t size, struct sites_found *out)
{
	struct scan s = {.file = p, .size = size, .out = out, .budget = MAX_SECTION + 4 * size};

	scan_elf(&s);
	free(s.starts);
	free(s.class);
	if (!s.failed)
		return 0;
	sites_found_free(out);
	return -ENOMEM;
}

/* Worth looking into? */
static bool begins_as_elf(int fd, uint64_t off, uint64_t size)
{
	char magic[SELFMAG];

	return size >= sizeof(Elf64_Ehdr) && size <= MAX_FILE &&
	       pread(fd, magic, SELFMAG, (off_t)off) == SELFMAG && !memcmp(magic, ELFMAG, SELFMAG);
}

int sites_scan_at(int fd, uint64_t off, uint64_t size, struct sites_found *out)
{
	*out = (struct sites_found){.file_size = size};
	if (!begins_as_elf(fd, off, size))
		return 0;
	void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, (off_t)off);
	if (p == MAP_FAILED)
		return -errno;
	int r = scan_bytes(p, size, out);
	munmap(p, (size_t)size);
	return r;
}

int sites_scan(int fd, struct sites_found *out)
{
	struct stat st;
	uint64_t got = 0;
	ssize_t n;

	memset(out, 0, sizeof(*out));
	if (fstat(fd, &st))
		return -errno;
	uint64_t size = (uint64_t)st.st_size;
	out->file_size = size;
	if (!S_ISREG(st.st_mode) || !begins_as_elf(fd, 0, size))
		return 0;
	/* A copy: somebody who cuts the file meanwhile would end us with SIGBUS, were it mapped. */
	uint8_t *p = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	while (got < size && (n = pread(fd, p + got, size - got, (off_t)got)) > 0)
		got += (uint64_t)n;
	int r = got == size ? scan_bytes(p, size, out) : 0; /* it changes: whoever copies it will notice */
	munmap(p, (size_t)size);
	return r;
}

void sites_found_free(struct sites_found *f)
{
	free(f->pages);
	free(f->sites);
	memset(f, 0, sizeof(*f));
}
