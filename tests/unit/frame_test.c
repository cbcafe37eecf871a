/* SPDX-License-Identifier: ISC */
/* unit-sources: tests/unit/fake_guest.c guest/mm/frame.c guest/mm/pt.c guest/mm/kmalloc.c guest/mm/kstack.c guest/mm/vma.c guest/mm/mmap.c guest/mm/madvise.c guest/mm/fault.c guest/mm/aspace.c guest/mm/reclaim.c lib/tree.c */
/* Frames and kmalloc: no two owners, zero when asked, growth, release, nothing lost. */
#include "tests/unit/hosted.h"

#include "abi/boot.h"
#include "guest/mm/frame.h"
#include "tests/unit/fake_guest.h"
#include "tests/unit/tap.h"

#define MIB	 (1ull << 20)
#define N_BLOCKS 400

static u64 rng;

struct block {
	gpa_t g;
	unsigned order;
	u64 tag;
};

static void fill(const struct block *b)
{
	u64 *p = frame_ptr(b->g);

	for (u64 i = 0; i < PAGE_SIZE / 8 << b->order; i += 64)
		p[i] = b->tag + i;
}

static bool intact(const struct block *b)
{
	const u64 *p = frame_ptr(b->g);

	for (u64 i = 0; i < PAGE_SIZE / 8 << b->order; i += 64)
		if (p[i] != b->tag + i)
			return false;
	return true;
}

static void test_random_blocks(void)
{
	static struct block b[N_BLOCKS];
	u64 used = stats->pages_used;
	bool aligned = true, kept = true, zero = true;

	for (int step = 0; step < 20000; step++) {
		struct block *x = &b[test_random(&rng) % N_BLOCKS];
		bool want_zero = test_random(&rng) & 1;

		if (x->tag) {
			kept &= intact(x);
			frame_free(x->g, x->order);
			x->tag = 0;
			continue;
		}
		x->order = (unsigned)(test_random(&rng) % 100 < 95 ? test_random(&rng) % 5
								   : test_random(&rng) % 11);
		x->g = frame_alloc(x->order, want_zero);
		if (x->g.v == GPA_NONE.v)
			continue;
		aligned &= !(x->g.v & ((PAGE_SIZE << x->order) - 1));
		zero &= !want_zero || fake_is_zero(x->g, PAGE_SIZE << x->order);
		x->tag = test_random(&rng) | 1;
		fill(x);
		if (step % 1000 == 0)
			frames_trim(test_random(&rng) % 4096);
	}
	ok(aligned, "blocks are aligned to their size");
	ok(kept, "no block was given to two owners");
	ok(zero, "zeroed blocks are zero, also after a release to the host");
	for (int i = 0; i < N_BLOCKS; i++)
		if (b[i].tag)
			frame_free(b[i].g, b[i].order);
	is(stats->pages_used, used, "every frame came back");
	ok(fake.grows > 0 && fake.releases > 0, "RAM grew and was released on the way");
}

static void test_references(void)
{
	gpa_t g = frame_alloc(3, true);
	u64 used = stats->pages_used;

	frame_get_run(g, 8);
	is(frame_refs(g), 2, "two references");
	frame_put_run(g, 8);
	is(stats->pages_used, used, "still there after one is dropped");
	frame_put(GPA(g.v + 3 * PAGE_SIZE));
	is(stats->pages_used, used - 1, "one frame out of the middle goes back alone");
	frame_put_run(g, 3);
	frame_put_run(GPA(g.v + 4 * PAGE_SIZE), 4);
	is(stats->pages_used, used - 8, "and the rest");
	frame_get(GPA(BOOT_IMAGE_GPA));
	frame_put(GPA(BOOT_IMAGE_GPA));
	is(frame_refs(GPA(BOOT_IMAGE_GPA)), 0, "image pages have no count");
}

/* All of RAM in one kind of block, then back, then in large blocks. */
static void test_exhaustion(void)
{
	u64 used = stats->pages_used, n = 0;
	gpa_t chain = GPA_NONE, g;
	bool dirty;

	while ((g = frame_alloc_user(0, &dirty)).v != GPA_NONE.v) {
		*(u64 *)frame_ptr(g) = chain.v;
		chain = g;
		n++;
	}
	ok(frames_free() < 80, "the app gets all but the reserve (%llu frames, %llu left)",
	   (unsigned long long)n, (unsigned long long)frames_free());
	ok(frame_alloc(0, false).v != GPA_NONE.v, "the library OS still gets a frame");
	used++;
	while (chain.v != GPA_NONE.v) {
		u64 next = *(u64 *)frame_ptr(chain);

		frame_put(chain);
		chain = GPA(next);
	}
	is(stats->pages_used, used, "all back");
	g = frame_alloc(10, true);
	ok(g.v != GPA_NONE.v && fake_is_zero(g, PAGE_SIZE << 10), "4 MiB in one piece can be had again");
	frame_free(g, 10);
}

static void test_kmalloc(void)
{
	static struct {
		u8 *p;
		size_t n;
		u8 tag;
	} b[600];
	u64 used = stats->pages_used;
	bool good = true, aligned = true;

	for (int step = 0; step < 60000; step++) {
		unsigned i = (unsigned)(test_random(&rng) % ARRAY_SIZE(b));
		size_t n = test_random(&rng) % (test_random(&rng) % 20 ? 600 : 20000);

		if (b[i].p) {
			for (size_t k = 0; k < b[i].n; k += 7)
				good &= b[i].p[k] == b[i].tag;
			if (test_random(&rng) % 4 == 0) {
				u8 *q = krealloc(b[i].p, n);

				for (size_t k = 0; k < MIN(n, b[i].n); k += 7)
					good &= q[k] == b[i].tag;
				b[i].p = q;
				b[i].n = n;
				memset(q, b[i].tag, n);
				continue;
			}
			kfree(b[i].p);
			b[i].p = NULL;
			continue;
		}
		b[i].p = kmalloc(n);
		b[i].n = n;
		b[i].tag = (u8)step;
		aligned &= !((u64)b[i].p & 15) && (!n || n % PAGE_SIZE || !((u64)b[i].p & (PAGE_SIZE - 1)));
		memset(b[i].p, b[i].tag, n);
	}
	ok(good, "kmalloc and krealloc keep what was stored");
	ok(aligned, "16-byte alignment, pages for multiples of a page");
	for (unsigned i = 0; i < ARRAY_SIZE(b); i++)
		kfree(b[i].p);
	ok(stats->pages_used <= used + 40, "at most one empty slab per class stays (%lld pages)",
	   (long long)(stats->pages_used - used));
	kfree(NULL);
	ok(!kmalloc(1ull << 40), "an absurd size is refused");
}

static void test_kstack(void)
{
	char *top[100];
	bool distinct = true;
	u64 used;

	for (int i = 0; i < 100; i++) {
		top[i] = kstack_alloc(16384);
		memset(top[i] - 16384, i, 16384);
	}
	for (int i = 0; i < 100; i++)
		distinct &= top[i][-1] == i && top[i][-16384] == i &&
			    frame_gpa(top[i] - 16).v % PAGE_SIZE == PAGE_SIZE - 16;
	ok(distinct, "stacks are distinct, and their frames can be found");
	used = stats->pages_used;
	for (int i = 0; i < 100; i++)
		kstack_free(top[i], 16384);
	ok(used - stats->pages_used >= 60 * 4, "most of a burst's frames go back");
	for (int i = 0; i < 100; i++)
		top[i] = kstack_alloc(16384);
	ok(stats->pages_used == used, "and are taken again");
	for (int i = 0; i < 100; i++)
		kstack_free(top[i], 16384);
}

int main(void)
{
	u64 seed = test_seed() | 1;

	rng = seed;
	diag("seed %llu", (unsigned long long)seed);
	fake_guest_start(8 * MIB, 128 * MIB);
	test_random_blocks();
	test_references();
	test_kmalloc();
	test_kstack();
	test_exhaustion();
	return done();
}
