/* SPDX-License-Identifier: ISC */
/*
 * Rewriting `syscall` instructions into jumps to the library OS, when they trap
 * for the first time.
 *
 *   site:   syscall        =>   jmp rel8 -> hole      or, the instruction before it:  jmp rel32 -> trampoline
 *   hole:   5 x padding    =>   jmp rel32 -> trampoline
 *   trampoline:                 [moved instruction] ; lea ret(%rip), %rcx ; jmp *%gs:16
 *
 * The image's tables (sites.c) say how, for all sites of a page at once; the
 * page's hash proves that it is the page which the table means. Without a table one pattern is taken
 * that can be recognised backwards: `mov $n, %eax; syscall`, see eager_mov().
 * The bytes of an instruction are never cut: whoever jumps to the `syscall` itself still finds it, or its jump.
 *
 * Only private file mappings without write permission are touched: what a JIT
 * writes keeps its traps. The page becomes the process's own copy (mm_poke).
 * Trampolines live in anonymous read-execute mappings named "[syscalls]" within
 * 2 GiB of the sites; the first 16 bytes of each say how much of it is used, so that a
 * fork's copy works by itself and nothing here is tied to an address space.
 */
#include <asm-generic/errno.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/arch/x86_64/sites.h"
#include "guest/mm/vma.h"
#include "guest/proc/smp.h"

#define AREA_SIZE    (4 * PAGE_SIZE)
#define AREA_MAGIC   0x504d41525443574full
#define REACH	     0x7f000000ull /* of jmp rel32 and lea, with room for the area and the page */
#define TAIL_SIZE    15 /* lea, jmp */
#define MOVED_MAX    15
#define FAILED_SLOTS 64

void patch_syscall_site(struct regs *r);

static const char area_name[] = "[syscalls]";

struct area_head {
	u64 magic, used;
};

/* One page on its way: its new contents, and where its trampolines go. */
struct patch {
	struct aspace *as;
	u64 page; /* address */
	u8 *code; /* copy of its contents */
	u64 area; /* address of the trampoline area */
	u64 used; /* bytes of it that are taken */
	u8 buf[PAGE_SIZE / 2];
	u64 buf_at; /* offset in the area of buf */
	u32 buf_used;
	u32 n;
};

/* Sites that cannot be patched, so that each is examined once. */
static u64 failed[FAILED_SLOTS];
static bool busy; /* reading a table sleeps */

/* --- trampolines -------------------------------------------------------------- */

struct area_search {
	struct patch *p;
	u64 found;
};

static u64 distance(u64 a, u64 b)
{
	return a > b ? a - b : b - a;
}

static bool check_area(struct vma *v, void *arg)
{
	struct area_search *s = arg;
	struct area_head *h;
	gpa_t g;

	if (v->name != area_name || v->end - v->start != AREA_SIZE || distance(v->start, s->p->page) > REACH)
		return true;
	if (mm_user_page(s->p->as, v->start, false, &g))
		return true;
	h = frame_ptr(g);
	/* Room for all sites that a page can have at most matters little: a full area leaves some for the next trap. */
	if (h->magic != AREA_MAGIC || h->used > AREA_SIZE - 512)
		return true;
	s->found = v->start;
	s->p->used = h->used;
	return false;
}

static bool new_area(struct patch *p)
{
	u64 low = p->page > REACH ? p->page - REACH : 0;
	u64 at = vma_find_gap(p->as, AREA_SIZE, MAX(low, MMAP_MIN_ADDR), p->page, PAGE_SIZE, 0);
	struct vma *v;
	s64 r;

	if (!at)
		at = vma_find_gap(p->as, AREA_SIZE, p->page, MIN(p->page + REACH, BOOT_TASK_SIZE), PAGE_SIZE,
				  0);
	if (!at)
		return false;
	r = mm_mmap(p->as, at, AREA_SIZE, PROT_READ | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, NULL, 0);
	if (r < 0)
		return false;
	v = vma_find(p->as, at);
	if (v->start != at || v->end != at + AREA_SIZE) {
		mm_munmap(p->as, at, AREA_SIZE); /* it was joined to a neighbour */
		return false;
	}
	v->name = area_name;
	p->area = at;
	p->used = sizeof(struct area_head);
	return true;
}

static bool find_area(struct patch *p)
{
	struct area_search s = {.p = p};

	mm_for_each_vma(p->as, check_area, &s);
	p->area = s.found;
	if (!s.found && !new_area(p))
		return false;
	p->buf_at = p->used;
	return true;
}

static void put_rel32(u8 *at, u64 next_insn, u64 target)
{
	s32 rel = (s32)(target - next_insn);

	memcpy(at, &rel, 4);
}

/* Trampoline for the site at `site` with a moved instruction of n bytes; its address, 0: no room. */
static u64 add_trampoline(struct patch *p, u64 site, const u8 *moved, u32 n)
{
	static const u8 jump[] = {0x65, 0xff, 0x24, 0x25, 16, 0, 0, 0}; /* jmp *%gs:16 */
	u32 size = (n + TAIL_SIZE + 15) & ~15u;
	u64 va = p->area + p->used;
	u8 *d = p->buf + p->buf_used;

	if (p->used + size > AREA_SIZE || p->buf_used + size > sizeof(p->buf))
		return 0;
	memset(d, 0xcc, size);
	memcpy(d, moved, n);
	d += n;
	d[0] = 0x48, d[1] = 0x8d, d[2] = 0x0d; /* lea rel32(%rip), %rcx */
	put_rel32(d + 3, va + n + 7, site + 2);
	memcpy(d + 7, jump, sizeof(jump));
	p->used += size;
	p->buf_used += size;
	return va;
}

/* --- one site in the copy of its page --------------------------------------------- */

static bool is_syscall(const u8 *code, u32 at)
{
	return code[at] == 0x0f && code[at + 1] == 0x05;
}

/* jmp rel32 at offset `at` of the page. */
static void put_jump(struct patch *p, u32 at, u64 target)
{
	p->code[at] = 0xe9;
	put_rel32(p->code + at + 1, p->page + at + 5, target);
}

static bool patch_with_hole(struct patch *p, u32 at, u32 hole)
{
	u64 t = add_trampoline(p, p->page + at, NULL, 0);

	if (!t)
		return false;
	put_jump(p, hole, t);
	p->code[at] = 0xeb;
	p->code[at + 1] = (u8)(hole - (at + 2));
	p->n++;
	return true;
}

static bool patch_before(struct patch *p, u32 at, u32 len)
{
	u64 t = add_trampoline(p, p->page + at, p->code + at - len, len);

	if (!t)
		return false;
	put_jump(p, at - len, t);
	p->n++;
	return true;
}

/*
 * No table: is the instruction before the `syscall` that just trapped `mov $n, %eax`? Bytes b8 n n 0 0 stand there
 * and rax is n. They could be the tail of a longer instruction; its opcode or
 * prefix would stand at one of a few places, which must then look otherwise.
 */
static bool eager_mov(const u8 *code, u32 at, u64 rax)
{
	const u8 *b = code + at - 5;
	u32 n;

	if (at < 17 || b[0] != 0xb8)
		return false;
	memcpy(&n, b + 1, 4);
	if (n != rax || n > 1024)
		return false;
	/* REX or operand-size prefix: another register or length. */
	if ((b[-1] & 0xf0) == 0x40 || b[-1] == 0x66 || b[-1] == 0x67)
		return false;
	/* opcode modrm [sib] disp8|disp32 imm32, whose displacement ends in b8 */
	for (int i = 2; i <= 6; i++)
		if (b[-i] == 0xc7 || b[-i] == 0x81 || b[-i] == 0x69 || b[-i] == 0xf7)
			return false;
	/* movabs with b8 as the fourth byte of its constant */
	if ((b[-5] & 0xfe) == 0x48 && (b[-4] & 0xf8) == 0xb8)
		return false;
	/* opcode modrm=b8 or sib=b8, disp32: only an access near address n, which would have failed, or an indexed one */
	return b[-1] != 0x84 && (b[-1] & 0xc7) != 0x84;
}

/* --- a page -------------------------------------------------------------------------- */

/* Writes trampolines first: nobody jumps to one before it is there. */
static bool commit(struct patch *p)
{
	struct area_head h = {AREA_MAGIC, p->used};

	if (!p->n || mm_poke(p->as, p->area + p->buf_at, p->buf, p->buf_used) ||
	    mm_poke(p->as, p->area, &h, sizeof(h)))
		return false;
	smp_quiesce(p->as); /* nobody executes the page while it is written */
	if (mm_poke(p->as, p->page, p->code, PAGE_SIZE))
		return false;
	stats->sites_patched += p->n;
	return true;
}

static void patch_by_table(struct patch *p, const struct sites_page *page, const struct sites_site *sites)
{
	for (u32 i = 0; i < page->n_sites; i++) {
		u32 at = sites[i].at, way = sites[i].way;

		if (!is_syscall(p->code, at))
			continue;
		if (way & SITES_WAY_HOLE)
			patch_with_hole(p, at, way & ~SITES_WAY_HOLE);
		else
			patch_before(p, at, way);
	}
}

static bool patch_page(struct patch *p, struct vma *v, u32 at, u64 rax)
{
	const struct sites_page *page;
	const struct sites_site *sites;
	u64 pgoff = (v->off + (p->page - v->start)) >> PAGE_SHIFT;
	bool table = sites_lookup(v->file, pgoff, &page, &sites);
	gpa_t g;

	/* The lookup may have slept: `v` is worth nothing now, the page is what it is. */
	v = vma_find(p->as, p->page);
	if (!v || v->start > p->page || !v->file || vma_shared(v) || v->prot & PROT_WRITE ||
	    !(v->prot & PROT_EXEC) || mm_user_page(p->as, p->page, false, &g))
		return false;
	memcpy(p->code, frame_ptr(g), PAGE_SIZE);
	if (at > PAGE_SIZE - 2 || !is_syscall(p->code, at) || !find_area(p))
		return false;
	if (table && sites_hash(p->code) == page->hash)
		patch_by_table(p, page, sites);
	else if (eager_mov(p->code, at, rax))
		patch_before(p, at, 5);
	return commit(p);
}

void patch_syscall_site(struct regs *r)
{
	struct aspace *as = current->proc->as;
	u64 site = r->rip - 2, *seen = &failed[(site >> 1) % FAILED_SLOTS];
	struct vma *v;
	struct patch *p;

	if (busy || *seen == site || !as)
		return;
	v = vma_find(as, site);
	if (!v || v->start > site || !v->file || vma_shared(v) || v->prot & PROT_WRITE)
		return;
	busy = true;
	p = kmalloc(sizeof(*p) + PAGE_SIZE);
	if (p) {
		*p = (struct patch){.as = as, .page = PAGE_DOWN(site), .code = (u8 *)(p + 1)};
		if (!patch_page(p, v, (u32)(site - p->page), r->orig_rax))
			*seen = site;
	}
	kfree(p);
	busy = false;
}
