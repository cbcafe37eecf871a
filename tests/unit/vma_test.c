/* SPDX-License-Identifier: ISC */
/* unit-sources: tests/unit/fake_guest.c guest/mm/frame.c guest/mm/pt.c guest/mm/kmalloc.c guest/mm/kstack.c guest/mm/vma.c guest/mm/mmap.c guest/mm/madvise.c guest/mm/fault.c guest/mm/aspace.c guest/mm/reclaim.c lib/tree.c */
/*
 * Address spaces against a model that knows, for each page of a window, whether
 * it is mapped, how it is protected and what its first word is.
 */
#include "tests/unit/hosted.h"

#include <asm-generic/errno.h>
#include <asm/siginfo.h>
#include <asm/signal.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/mm/frame.h"
#include "guest/mm/pt.h"
#include "guest/mm/vma.h"
#include "guest/vfs/vfs.h"
#include "tests/unit/fake_guest.h"
#include "tests/unit/tap.h"

#define MIB   (1ull << 20)
#define BASE  0x10000000000ull
#define PAGES 3072u /* of the window: 12 MiB, so that 2 MiB pages come up */
#define STEPS 30000
#define RW    (PROT_READ | PROT_WRITE)

static u64 rng;

static u64 rnd(u64 n)
{
	return test_random(&rng) % n;
}

/* --- the model -------------------------------------------------------------------- */

struct model_page {
	bool mapped, anon;
	u32 prot;
	u64 private; /* value, unless shared */
	u64 *shared; /* where a shared page's value is */
};

struct model {
	struct model_page page[PAGES];
};

static struct model model;
static struct aspace *as;
static u64 file_words[512]; /* the shared file's pages */
static struct file *shared_file, *private_file;
#define PRIVATE_TAG 0x7000

static u64 va_of(u64 page)
{
	return BASE + page * PAGE_SIZE;
}

static int sig(int s, int code)
{
	return -(s << 8 | code);
}

/* What an access must give: 0 or the signal. */
static int expect(const struct model_page *p, u32 need)
{
	if (!p->mapped)
		return sig(SIGSEGV, SEGV_MAPERR);
	if (need == PROT_WRITE ? !(p->prot & PROT_WRITE) : !p->prot)
		return sig(SIGSEGV, SEGV_ACCERR);
	return 0;
}

static bool check_page(struct aspace *a, const struct model *m, u64 i)
{
	u64 v = 0, want = m->page[i].shared ? *m->page[i].shared : m->page[i].private;
	int err = fake_read(a, va_of(i), &v), must = expect(&m->page[i], PROT_READ);

	if (err == must && (err || v == want))
		return true;
	diag("page %llu: got %d value %#llx, want %d value %#llx", (unsigned long long)i, err,
	     (unsigned long long)v, must, (unsigned long long)want);
	return false;
}

static bool write_page(struct aspace *a, struct model *m, u64 i)
{
	u64 v = test_random(&rng);
	int err = fake_write(a, va_of(i), v), must = expect(&m->page[i], PROT_WRITE);

	if (err != must) {
		diag("write of page %llu: got %d, want %d", (unsigned long long)i, err, must);
		return false;
	}
	if (!err && m->page[i].shared)
		*m->page[i].shared = v;
	else if (!err)
		m->page[i].private = v;
	return true;
}

/* --- structure ------------------------------------------------------------------------ */

static int tree_height(struct tree_node *n)
{
	return n ? n->height : 0;
}

/* VMAs in order, disjoint, merged where they can be, gaps and totals right, tree and list the same. */
static bool check_structure(struct aspace *a)
{
	struct tree_node *t = tree_first(&a->vma_tree);
	u64 end = 0, pages = 0, n = 0;

	list_for_each (l, &a->vmas) {
		struct vma *v = list_entry(l, struct vma, node);

		if (container_of(t, struct vma, tree) != v || v->start >= v->end || v->start < end ||
		    v->gap != v->start - end || v->as != a)
			return false;
		end = v->end;
		pages += vma_pages(v);
		n++;
		t = tree_next(t);
	}
	return !t && n == a->n_vmas && pages == a->total_vm_pages && tree_height(a->vma_tree.root) < 20;
}

static bool check_rss(struct aspace *a)
{
	struct pt_leaf l;
	u64 n = 0;

	for (u64 va = 0; pt_next(a, va, BOOT_TASK_SIZE, &l); va = l.va + l.pages * PAGE_SIZE)
		n += l.pages;
	return n == a->rss_pages;
}

/* --- operations ------------------------------------------------------------------------- */

static u32 random_prot(void)
{
	static const u32 prots[] = {PROT_NONE, PROT_READ, RW, RW, RW, PROT_READ | PROT_EXEC, RW | PROT_EXEC};

	return prots[rnd(ARRAY_SIZE(prots))];
}

static void random_range(u64 *from, u64 *n)
{
	*n = 1 + rnd(rnd(4) ? 40 : 1500);
	*from = rnd(PAGES);
	if (rnd(4) == 0)
		*from &= ~511ull;
	*n = MIN(*n, PAGES - *from);
}

static bool op_mmap(void)
{
	u64 from, n, kind = rnd(10), off = rnd(256);
	u32 prot = random_prot();
	s64 r;

	random_range(&from, &n);
	if (kind == 0) {
		n = MIN(n, 512 - off);
		r = mm_mmap(as, va_of(from), n * PAGE_SIZE, prot, MAP_SHARED | MAP_FIXED, shared_file,
			    off * PAGE_SIZE);
	} else if (kind == 1) {
		n = MIN(n, 512 - off);
		r = mm_mmap(as, va_of(from), n * PAGE_SIZE, prot, MAP_PRIVATE | MAP_FIXED, private_file,
			    off * PAGE_SIZE);
	} else {
		r = mm_mmap(as, va_of(from), n * PAGE_SIZE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
			    NULL, 0);
	}
	if (r != (s64)va_of(from))
		return false;
	for (u64 i = 0; i < n; i++) {
		struct model_page *p = &model.page[from + i];

		*p = (struct model_page){.mapped = true, .prot = prot, .anon = kind > 1};
		if (kind == 0)
			p->shared = &file_words[off + i];
		else if (kind == 1)
			p->private = PRIVATE_TAG + off + i;
	}
	return true;
}

static bool op_munmap(void)
{
	u64 from, n;

	random_range(&from, &n);
	if (mm_munmap(as, va_of(from), n * PAGE_SIZE))
		return false;
	memset(&model.page[from], 0, n * sizeof(model.page[0]));
	return true;
}

static bool op_mprotect(void)
{
	u64 from, n, i;
	u32 prot = random_prot();
	s64 r;

	random_range(&from, &n);
	r = mm_mprotect(as, va_of(from), n * PAGE_SIZE, prot);
	for (i = from; i < from + n && model.page[i].mapped; i++)
		model.page[i].prot = prot;
	return r == (i < from + n ? -ENOMEM : 0);
}

static bool op_dontneed(void)
{
	u64 from, n;
	bool hole = false;
	s64 r;

	random_range(&from, &n);
	r = mm_madvise(as, va_of(from), n * PAGE_SIZE, MADV_DONTNEED);
	for (u64 i = from; i < from + n; i++) {
		struct model_page *p = &model.page[i];
		struct vma *v = vma_find(as, va_of(i));

		hole |= !p->mapped;
		if (p->mapped && !p->shared)
			p->private =
				p->anon ? 0 : PRIVATE_TAG + ((v->off + va_of(i) - v->start) >> PAGE_SHIFT);
	}
	return r == (hole ? -ENOMEM : 0);
}

/* Move a range that lies in one VMA somewhere else in the window. */
static bool op_mremap(void)
{
	u64 from = rnd(PAGES), n, to, grow;
	struct vma *v = vma_find(as, va_of(from));
	struct model_page save[64];
	u64 v_end;
	s64 r;

	if (!v || v->start > va_of(from) || !model.page[from].anon)
		return true;
	v_end = MIN((v->end - BASE) >> PAGE_SHIFT, (u64)PAGES);
	n = 1 + rnd(60);
	n = MIN(n, v_end - from);
	grow = rnd(3) ? 0 : rnd(64 - n + 1);
	to = rnd(PAGES - 64);
	if (to < from + n && from < to + n + grow)
		return mm_mremap(as, va_of(from), n * PAGE_SIZE, (n + grow) * PAGE_SIZE,
				 MREMAP_MAYMOVE | MREMAP_FIXED, va_of(to)) == -EINVAL;
	r = mm_mremap(as, va_of(from), n * PAGE_SIZE, (n + grow) * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
		      va_of(to));
	if (r != (s64)va_of(to)) {
		diag("mremap of %llu pages from %llu to %llu: %lld", (unsigned long long)n,
		     (unsigned long long)from, (unsigned long long)to, (long long)r);
		return false;
	}
	memcpy(save, &model.page[from], n * sizeof(save[0]));
	memset(&model.page[to], 0, (n + grow) * sizeof(save[0]));
	memset(&model.page[from], 0, n * sizeof(save[0]));
	memcpy(&model.page[to], save, n * sizeof(save[0]));
	for (u64 i = n; i < n + grow; i++)
		model.page[to + i] = (struct model_page){.mapped = true, .anon = true, .prot = save[0].prot};
	return true;
}

/* A child sees what the parent had, and neither sees what the other does afterwards. */
static bool op_fork(void)
{
	static struct model before;
	struct aspace *child = aspace_fork(as);
	bool good = child;

	before = model;
	for (int i = 0; good && i < 200; i++) {
		u64 p = rnd(PAGES);

		if (rnd(2))
			good = write_page(as, &model, p);
		else
			good = write_page(child, &before, p);
		good = good && check_page(as, &model, p) && check_page(child, &before, p);
	}
	for (u64 i = 0; good && i < PAGES; i++)
		good = check_page(child, &before, i);
	good = good && check_structure(child) && check_rss(child);
	aspace_put(child);
	return good;
}

static u64 last_op;

static bool random_step(void)
{
	last_op = rnd(40);
	switch (last_op) {
	case 0:
	case 1:
	case 2:
		return op_mmap();
	case 3:
	case 4:
		return op_munmap();
	case 5:
	case 6:
		return op_mprotect();
	case 7:
		return op_dontneed();
	case 8:
	case 9:
		return op_mremap();
	case 10:
		return rnd(20) ? true : op_fork();
	case 11: {
		u64 from, n;

		random_range(&from, &n);
		mm_madvise(as, va_of(from), n * PAGE_SIZE, (int)(rnd(2) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE));
		return true;
	}
	}
	return rnd(2) ? write_page(as, &model, rnd(PAGES)) : check_page(as, &model, rnd(PAGES));
}

static void test_operations(u64 seed)
{
	u64 used, mallocs_slack = 64;
	bool good = true;
	int step;

	rng = seed;
	used = stats->pages_used;
	as = aspace_new();
	memset(&model, 0, sizeof(model));
	shared_file = fake_file(512, 0x9000, O_RDWR);
	private_file = fake_file(512, PRIVATE_TAG, O_RDONLY);
	for (u64 i = 0; i < 512; i++)
		file_words[i] = 0x9000 + i;
	for (step = 0; good && step < STEPS; step++) {
		good = random_step();
		if (step % 50 == 0)
			good = good && check_structure(as) && check_rss(as);
	}
	if (!ok(good, "%d random operations agree with the model", STEPS))
		diag("operation %llu at step %d; structure %d, rss %d", (unsigned long long)last_op, step,
		     check_structure(as), check_rss(as));
	for (u64 i = 0; good && i < PAGES; i++)
		good = check_page(as, &model, i);
	ok(good, "and so does every page at the end");
	aspace_put(as);
	is(shared_file->refs, 1, "no file reference is lost");
	file_put(shared_file);
	file_put(private_file);
	ok(stats->pages_used <= used + mallocs_slack, "no frame is lost (%lld more)",
	   (long long)(stats->pages_used - used));
}

/* --- families ------------------------------------------------------------------------------- */

#define FAMILY	     6u
#define FAMILY_STEPS 600u

/* Address spaces that fork from one another and end, in any order; each has the model of its own. */
static struct {
	struct aspace *as;
	struct model m;
} family[FAMILY];

static void family_fork(u64 from)
{
	for (u64 i = 0; i < FAMILY; i++) {
		if (family[i].as)
			continue;
		family[i].as = aspace_fork(family[from].as);
		family[i].m = family[from].m;
		return;
	}
}

static bool family_turn(u64 who, u64 steps)
{
	bool good = true;

	as = family[who].as;
	model = family[who].m;
	while (good && steps--)
		good = random_step();
	good = good && check_structure(as) && check_rss(as);
	family[who].m = model;
	return good;
}

static bool family_whole(u64 who)
{
	for (u64 i = 0; i < PAGES; i++)
		if (!check_page(family[who].as, &family[who].m, i))
			return false;
	return true;
}

static void test_family(u64 seed)
{
	u64 used = stats->pages_used, step, who = 0, forks = 0;
	bool good = true;

	rng = seed;
	memset(family, 0, sizeof(family));
	family[0].as = aspace_new();
	shared_file = fake_file(512, 0x9000, O_RDWR);
	private_file = fake_file(512, PRIVATE_TAG, O_RDONLY);
	for (u64 i = 0; i < 512; i++)
		file_words[i] = 0x9000 + i;
	for (step = 0; good && step < FAMILY_STEPS; step++) {
		while (!family[who = rnd(FAMILY)].as)
			;
		good = family_turn(who, 1 + rnd(60));
		if (good && !rnd(4)) {
			family_fork(who);
			forks++;
		} else if (good && !rnd(6) &&
			   (family[(who + 1) % FAMILY].as || family[(who + 2) % FAMILY].as)) {
			good = family_whole(who);
			aspace_put(family[who].as);
			family[who].as = NULL;
		}
	}
	ok(good, "a family of %llu forks agrees with the models", (unsigned long long)forks);
	if (!good)
		diag("member %llu, operation %llu, step %llu", (unsigned long long)who,
		     (unsigned long long)last_op, (unsigned long long)step);
	for (who = 0; who < FAMILY; who++) {
		if (!family[who].as)
			continue;
		good = good && family_whole(who);
		aspace_put(family[who].as);
	}
	ok(good, "whatever each did, the others have what they had");
	is(shared_file->refs, 1, "no file reference is lost");
	file_put(shared_file);
	file_put(private_file);
	ok(stats->pages_used <= used + 64, "no frame is lost (%lld more)",
	   (long long)(stats->pages_used - used));
}

/* After the children are gone a parent has its pages back without a copy, and 2 MiB pages whole. */
static void test_fork_huge(void)
{
	struct aspace *c;
	u64 a, used, huge = 0, v = 0;
	struct pt_leaf l;

	as = aspace_new();
	a = (u64)mm_mmap(as, BASE, 16 * MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0);
	mm_madvise(as, a, 16 * MIB, MADV_HUGEPAGE);
	for (u64 at = a; at < a + 16 * MIB; at += PAGE_SIZE)
		fake_write(as, at, at);
	used = stats->pages_used;
	c = aspace_fork(as);
	ok(stats->pages_used - used < 32, "a fork of 2 MiB pages costs %llu pages",
	   (unsigned long long)(stats->pages_used - used));
	is(c->rss_pages, as->rss_pages, "and has them all");
	fake_write(c, a + 5 * MIB, 1);
	ok(stats->pages_used - used < 64, "a store into one copies little");
	fake_read(as, a + 5 * MIB, &v);
	is(v, a + 5 * MIB, "the parent has its own");
	fake_read(c, a + 5 * MIB + PAGE_SIZE, &v);
	is(v, a + 5 * MIB + PAGE_SIZE, "the child the page beside it");
	aspace_put(c);
	ok(stats->pages_used <= used + 16, "all of it comes back");
	for (u64 at = a; at < a + 16 * MIB; at += PAGE_SIZE)
		fake_write(as, at, at + 1);
	ok(stats->pages_used <= used + 16, "no page is copied for a parent whose child is gone");
	for (u64 va = a; pt_next(as, va, a + 16 * MIB, &l); va = l.va + l.pages * PAGE_SIZE)
		huge += l.pages == 512;
	is(huge, 8, "its 2 MiB pages are whole");
	aspace_put(as);
}

static void test_fork_short(void)
{
	struct aspace *kids[64];
	u64 a = BASE, n = 0;

	as = aspace_new();
	mm_mmap(as, a, 64 * MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, NULL, 0);
	mm_madvise(as, a, 64 * MIB, MADV_NOHUGEPAGE);
	for (u64 at = a; at < a + 64 * MIB; at += PAGE_SIZE)
		fake_write(as, at, 7);
	while (n < 64 && (kids[n] = aspace_fork(as))) {
		for (u64 at = a; at < a + 2 * MIB; at += PAGE_SIZE)
			fake_write(kids[n], at, n);
		n++;
	}
	ok(n > 5 && n < 64, "without memory there is no fork (%llu were made)", (unsigned long long)n);
	ok(frames_free() >= 64, "the library OS keeps its reserve (%llu)", (unsigned long long)frames_free());
	while (n--)
		aspace_put(kids[n]);
	aspace_put(as);
}

/* --- single facts --------------------------------------------------------------------------- */

static s64 anon(u64 at, u64 len, u32 flags)
{
	return mm_mmap(as, at, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | flags, NULL, 0);
}

static void test_errors(void)
{
	struct file *ro = fake_file(4, 1, O_RDONLY);
	s64 a;

	as = aspace_new();
	is(anon(0, 0, 0), -EINVAL, "mmap: no length");
	is(anon(0, ~0ull, 0), -ENOMEM, "mmap: absurd length");
	is(mm_mmap(as, 0, 4096, RW, MAP_ANONYMOUS, NULL, 0), -EINVAL, "mmap: neither shared nor private");
	is(anon(0x10001, 4096, MAP_FIXED), -EINVAL, "mmap: unaligned fixed address");
	is(anon(0, 4096, MAP_FIXED), -EPERM, "mmap: page 0");
	is(anon(0xf000, 4096, MAP_FIXED), -EPERM, "mmap: below mmap_min_addr");
	is(anon(BOOT_TASK_SIZE, 4096, MAP_FIXED), -ENOMEM, "mmap: beyond the app's half");
	is(anon(0, 4096, MAP_HUGETLB), -ENOMEM, "mmap: no huge page pool");
	is(mm_mmap(as, 0, 4096, RW, MAP_SHARED, ro, 0), -EACCES,
	   "mmap: shared writable needs a writable file");
	is(mm_mmap(as, 0, 4096, RW, MAP_PRIVATE, ro, 5), -EINVAL, "mmap: unaligned offset");
	is(mm_mmap(as, 0, 4096, RW, MAP_SHARED_VALIDATE | MAP_SYNC, ro, 0), -EOPNOTSUPP, "mmap: MAP_SYNC");
	is(anon(BASE, 8192, MAP_FIXED_NOREPLACE), BASE, "mmap: fixed, nothing there");
	is(anon(BASE + 4096, 8192, MAP_FIXED_NOREPLACE), -EEXIST, "mmap: fixed, something there");
	a = anon(BASE, 4096, 0);
	ok(a > 0 && (u64)a != BASE, "mmap: a taken hint is only a hint");
	a = anon(0, 4096, MAP_32BIT);
	ok(a > 0 && a < 0x80000000ll, "mmap: MAP_32BIT");
	ok(!(anon(0, 4 * MIB, 0) & (2 * MIB - 1)), "large anonymous mappings are 2 MiB aligned");
	is(anon(0, 1ull << 40, 0), -ENOMEM, "an obvious overcommit is refused");
	ok(anon(0, 1ull << 40, MAP_NORESERVE) > 0, "but not with MAP_NORESERVE");
	is(mm_mprotect(as, BASE + 1, 4096, RW), -EINVAL, "mprotect: unaligned");
	is(mm_mprotect(as, BASE, 4 * 4096, PROT_READ), -ENOMEM, "mprotect: a hole");
	is(vma_find(as, BASE)->prot, PROT_READ, "mprotect: what is before the hole is changed");
	is(mm_mprotect(as, BASE, 4096, 0x1000), -EINVAL, "mprotect: unknown bits");
	a = mm_mmap(as, 0, 4096, PROT_READ, MAP_SHARED, ro, 0);
	is(mm_mprotect(as, (u64)a, 4096, RW), -EACCES, "mprotect: a read-only file's shared mapping");
	is(mm_munmap(as, BASE + 1, 4096), -EINVAL, "munmap: unaligned");
	is(mm_munmap(as, BASE, 0), -EINVAL, "munmap: no length");
	is(mm_madvise(as, BASE, 4096, 12345), -EINVAL, "madvise: unknown advice");
	is(mm_madvise(as, BASE + 4 * 4096, 4096, MADV_DONTNEED), -ENOMEM, "madvise: not mapped");
	is(mm_madvise(as, (u64)a, 4096, MADV_WIPEONFORK), -EINVAL,
	   "madvise: only anonymous memory is wiped on fork");
	is(mm_mremap(as, BASE + 64 * MIB, 4096, 8192, 0, 0), -EFAULT, "mremap: not mapped");
	is(mm_mremap(as, BASE, 4096, 0, 0, 0), -EINVAL, "mremap: no new length");
	is(mm_mremap(as, BASE, 4096, 4096, MREMAP_FIXED, BASE + MIB), -EINVAL, "mremap: fixed needs maymove");
	is(mm_msync(as, BASE, 4096, MS_SYNC | MS_ASYNC), -EINVAL, "msync: both kinds");
	is(mm_msync(as, BASE + 64 * MIB, 4096, MS_SYNC), -ENOMEM, "msync: not mapped");
	aspace_put(as);
	is(ro->refs, 1, "all of the file's mappings are gone");
	file_put(ro);
}

static void test_files(void)
{
	struct file *f = fake_file(4, 0x100, O_RDWR);
	u64 a, b, v = 0, key1[2], key2[2];

	as = aspace_new();
	a = (u64)mm_mmap(as, 0, 8 * PAGE_SIZE, RW, MAP_SHARED, f, 0);
	b = (u64)mm_mmap(as, 0, 8 * PAGE_SIZE, RW, MAP_PRIVATE, f, 0);
	is(fake_read(as, a + 3 * PAGE_SIZE, &v), 0, "the last page of a file");
	is(v, 0x103, "has its contents");
	is(fake_read(as, a + 4 * PAGE_SIZE, &v), sig(SIGBUS, BUS_ADRERR), "beyond it is SIGBUS");
	fake_write(as, a, 7);
	fake_read(as, b, &v);
	is(v, 7, "a private mapping sees the file until it writes");
	fake_write(as, b, 8);
	fake_write(as, a, 9);
	fake_read(as, b, &v);
	is(v, 8, "and its own afterwards");
	fake_read(as, a, &v);
	is(v, 9, "which the file does not see");
	mm_futex_key(as, a + 8, false, key1);
	mm_futex_key(as, b + 8, false, key2);
	ok(key1[0] == (u64)f->inode && key1[1] == 8 && key2[0] == (u64)as, "futex keys: file and private");
	fake_file_truncate(f, 1);
	is(fake_read(as, a + PAGE_SIZE, &v), sig(SIGBUS, BUS_ADRERR), "truncated away: SIGBUS");
	is(fake_read(as, b + PAGE_SIZE, &v), sig(SIGBUS, BUS_ADRERR), "in private mappings too");
	is(fake_read(as, a, &v), 0, "what is left stays");
	is(mm_poke(as, b, "abcdefgh", 8), 0, "poke");
	fake_read(as, b, &v);
	ok(!memcmp(&v, "abcdefgh", 8), "changes a private page");
	is(mm_poke(as, a, "abcdefgh", 8), -EFAULT, "but not a shared one");
	aspace_put(as);
	file_put(f);
}

static void test_wipe_and_stack(void)
{
	struct vma tmpl;
	struct aspace *c;
	u64 a, v = 1;

	as = aspace_new();
	a = (u64)anon(0, 2 * PAGE_SIZE, 0);
	fake_write(as, a, 5);
	fake_write(as, a + PAGE_SIZE, 6);
	is(mm_madvise(as, a, PAGE_SIZE, MADV_WIPEONFORK), 0, "wipe on fork");
	is(mm_madvise(as, a + PAGE_SIZE, PAGE_SIZE, MADV_DONTFORK), 0, "don't fork");
	c = aspace_fork(as);
	fake_read(c, a, &v);
	is(v, 0, "the child's page is wiped");
	is(fake_read(c, a + PAGE_SIZE, &v), sig(SIGSEGV, SEGV_MAPERR), "the other is not there");
	fake_read(as, a, &v);
	is(v, 5, "the parent keeps it");
	mm_wipe_on_fork(as);
	fake_read(as, a, &v);
	is(v, 0, "until a restore wipes it");
	aspace_put(c);
	tmpl = (struct vma){.start = BASE,
			    .end = BASE + PAGE_SIZE,
			    .prot = RW,
			    .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN};
	vma_insert(as, &tmpl);
	is(fake_write(as, BASE - 100 * PAGE_SIZE, 1), 0, "a stack grows down");
	anon(BASE - 2000 * PAGE_SIZE, PAGE_SIZE, MAP_FIXED);
	is(fake_write(as, BASE - 1999 * PAGE_SIZE, 1), sig(SIGSEGV, SEGV_MAPERR),
	   "but not into the guard gap");
	ok(vma_find(as, BASE)->start > BASE - 1000 * PAGE_SIZE, "nothing changed");
	aspace_put(as);
}

static void test_brk(void)
{
	u64 v;

	as = aspace_new();
	as->brk_start = as->brk = BASE;
	is(mm_brk(as, 0), BASE, "brk: where it is");
	is(mm_brk(as, BASE + 10000), BASE + 10000, "brk: grow");
	is(fake_write(as, BASE + 9999 / 8 * 8, 3), 0, "brk: usable");
	is(mm_brk(as, BASE + 40 * MIB), BASE + 40 * MIB, "brk: more");
	is(as->n_vmas, 1, "brk: one VMA");
	is(mm_brk(as, BASE + 100), BASE + 100, "brk: shrink");
	is(fake_read(as, BASE + 8192, &v), sig(SIGSEGV, SEGV_MAPERR), "brk: gone");
	anon(BASE + MIB, 4096, MAP_FIXED);
	is(mm_brk(as, BASE + 2 * MIB), BASE + 100, "brk: something in the way");
	aspace_put(as);
}

static void test_huge(void)
{
	u64 a, faults, big = 0;
	struct pt_leaf l;

	as = aspace_new();
	a = (u64)anon(0, 48 * MIB, 0);
	faults = stats->faults;
	for (u64 i = 0; i < 48 * MIB; i += PAGE_SIZE)
		fake_write(as, a + i, i);
	ok(stats->faults - faults < 40, "48 MiB touched in order: %llu faults",
	   (unsigned long long)(stats->faults - faults));
	for (u64 va = a; pt_next(as, va, a + 48 * MIB, &l); va = l.va + l.pages * PAGE_SIZE)
		big += l.pages == 512;
	ok(big >= 20, "%llu of 24 blocks are 2 MiB pages", (unsigned long long)big);
	mm_munmap(as, a + 5 * MIB + PAGE_SIZE, PAGE_SIZE);
	ok(!pt_lookup(as->root, a + 5 * MIB + PAGE_SIZE) && pt_lookup(as->root, a + 5 * MIB) &&
		   pt_lookup(as->root, a + 5 * MIB + 2 * PAGE_SIZE),
	   "a hole in a 2 MiB page");
	aspace_put(as);
}

static void test_out_of_memory(void)
{
	u64 a, i;
	int err = 0;

	as = aspace_new();
	a = (u64)mm_mmap(as, 0, 1024 * MIB, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, NULL, 0);
	for (i = 0; i < 1024 * MIB && !err; i += PAGE_SIZE)
		err = fake_write(as, a + i, 1);
	is(err, sig(SIGKILL, SI_KERNEL & 0xff), "touching more than there is kills");
	ok(i > 110 * MIB && i < 128 * MIB, "after %llu of 128 MiB", (unsigned long long)(i / MIB));
	aspace_put(as);
	ok(frames_free() > 120 * MIB / PAGE_SIZE, "and all of it comes back");
}

int main(void)
{
	u64 seed = test_seed();

	diag("seed %llu", (unsigned long long)seed);
	fake_guest_start(8 * MIB, 128 * MIB);
	test_operations(seed);
	test_operations(seed * 3 | 1);
	test_family(seed ^ 0x5555);
	test_family(seed * 7 | 1);
	test_fork_huge();
	test_errors();
	test_files();
	test_wipe_and_stack();
	test_brk();
	test_huge();
	test_fork_short();
	test_out_of_memory();
	return done();
}
