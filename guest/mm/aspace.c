/* SPDX-License-Identifier: ISC */
/*
 * Address spaces as objects: life, copy-on-write copy, layout randomisation.
 *
 * Layout, from the top of the app's half downwards: main stack (22 random bits
 * of pages below the top), the mmap area (28), the position independent
 * program two thirds up (28), its heap within 1 GiB behind it (18).
 *
 * A fork takes few pages itself, but parent and child copy some as soon as they go on: stacks, the C library's data.
 * So that many forks at once do not end in the death of somebody for a copied stack, each promises both FORK_PROMISE
 * pages, and a fork that cannot leave free what was promised, and FORK_RESERVE beside it, is refused. A promise is used
 * up by the pages that the address space takes (aspace_took), or ends with it. It keeps forks away, nobody else: what
 * programs take without forking is still theirs to take, and the OOM killer's to answer for.
 */
#include "guest/mm/frame.h"
#include "guest/mm/pt.h"
#include "guest/mm/vma.h"
#include "guest/plat/plat.h"
#include "guest/proc/smp.h"
#include "guest/vfs/vfs.h"

#define STACK_AREA   (64ull << 30) /* random offset and largest stack fit well inside */
#define STACK_BITS   22
#define MMAP_BITS    28
#define PIE_BITS     28
#define BRK_BITS     18

#define FORK_RESERVE 256u /* frames that a fork leaves to others */
#define FORK_PROMISE 12u

static u64 n_promised; /* of all address spaces */

static u64 random_pages(unsigned bits)
{
	u64 r;

	random_bytes(&r, sizeof(r));
	return (r & ((1ull << bits) - 1)) << PAGE_SHIFT;
}

struct aspace *aspace_new(void)
{
	struct aspace *as = kzalloc(sizeof(*as));

	if (!as)
		return NULL;
	list_init(&as->vmas);
	as->vma_tree.update = vma_tree_update;
	as->refs = 1;
	as->mmap_bottom = MMAP_MIN_ADDR;
	as->mmap_top = BOOT_TASK_SIZE - STACK_AREA - random_pages(MMAP_BITS);
	as->root = pt_new_root();
	if (as->root.v == GPA_NONE.v) {
		kfree(as);
		return NULL;
	}
	if (plat->aspace_init && plat->aspace_init(as)) {
		pt_free_root(as);
		kfree(as);
		return NULL;
	}
	return as;
}

void aspace_get(struct aspace *as)
{
	as->refs++;
}

static void promise(struct aspace *as, u32 n)
{
	n_promised = n_promised - as->promised + n;
	as->promised = n;
}

void aspace_took(struct aspace *as, u64 n)
{
	if (unlikely(as->promised))
		promise(as, as->promised - (u32)MIN(n, as->promised));
}

bool aspace_fork_room(void)
{
	return frames_free() >= FORK_RESERVE + n_promised;
}

void aspace_put(struct aspace *as)
{
	if (--as->refs)
		return;
	promise(as, 0);
	/* First of all nobody uses it any more: then nobody need be told what is taken out of it. */
	for (u32 i = 0; i < n_cpus; i++)
		if (cpus[i]->as == as) { /* others are idle, and forget it before they do anything */
			cpus[i]->as = NULL;
			cpus[i]->flush = cpus[i] != this_cpu();
		}
	if (plat->aspace_free)
		plat->aspace_free(as);
	vma_unmap_range(as, 0, BOOT_TASK_SIZE);
	pt_free_root(as);
	kfree(as);
	reclaim_hint();
}

void aspace_switch(struct aspace *as)
{
	if (aspace_active == as)
		return;
	aspace_active = as;
	plat->aspace_switch(as);
}

void aspace_empty(struct aspace *as)
{
	if (plat->aspace_free)
		plat->aspace_free(as);
	vma_unmap_range(as, 0, BOOT_TASK_SIZE);
	promise(as, 0);
}

static int fork_vma(struct aspace *child, struct vma *v)
{
	struct vma tmpl = *v;

	if (v->flags & VMA_DONTFORK)
		return 0;
	tmpl.flags &= ~VMA_LOCKS; /* memory locks are not inherited */
	if (!vma_insert(child, &tmpl))
		return -ENOMEM;
	if (v->flags & VMA_WIPEONFORK)
		return 0;
	return pt_fork(v->as, child, v->start, v->end, vma_shared(v) || v->flags & VMA_SPECIAL);
}

struct aspace *aspace_fork(struct aspace *as)
{
	struct aspace *c = aspace_new();
	int err = 0;

	if (!c)
		return NULL;
	promise(as, FORK_PROMISE);
	promise(c, FORK_PROMISE);
	c->mmap_top = as->mmap_top;
	c->mmap_bottom = as->mmap_bottom;
	c->brk_start = as->brk_start;
	c->brk = as->brk;
	c->start_code = as->start_code;
	c->end_code = as->end_code;
	c->start_data = as->start_data;
	c->end_data = as->end_data;
	c->start_stack = as->start_stack;
	c->arg_start = as->arg_start;
	c->arg_end = as->arg_end;
	c->env_start = as->env_start;
	c->env_end = as->env_end;
	c->main_entry = as->main_entry;
	memcpy(c->auxv, as->auxv, sizeof(c->auxv));
	c->small_faults = as->small_faults;
	list_for_each (n, &as->vmas) {
		err = aspace_fork_room() ? fork_vma(c, list_entry(n, struct vma, node)) : -ENOMEM;
		if (err)
			break;
	}
	pt_fork_done(as);
	if (!err)
		return c;
	aspace_put(c);
	return NULL;
}

void mm_empty(struct aspace *as)
{
	as->emptied = true;
	list_for_each (n, &as->vmas) {
		struct vma *v = list_entry(n, struct vma, node);

		if (!vma_shared(v) && !(v->flags & VMA_SPECIAL))
			pt_unmap(as, v->start, v->end);
	}
}

u64 aspace_private_pages(struct aspace *as)
{
	u64 pages = 0, tables = 0, at = ~0ull;

	list_for_each (n, &as->vmas) {
		struct vma *v = list_entry(n, struct vma, node);
		struct pt_leaf l;

		for (u64 va = v->start; pt_next(as, va, v->end, &l); va = l.va + (l.pages << PAGE_SHIFT)) {
			if (pt_exclusive(l.entry, l.pages) && !vma_shared(v))
				pages += l.pages;
			if (l.pages == 1 && l.va / HUGE_SIZE != at) {
				at = l.va / HUGE_SIZE;
				tables++;
			}
		}
	}
	return pages + tables;
}

void mm_wipe_on_fork(struct aspace *as)
{
	list_for_each (n, &as->vmas) {
		struct vma *v = list_entry(n, struct vma, node);

		if (v->flags & VMA_WIPEONFORK)
			pt_unmap(as, v->start, v->end);
	}
}

u64 aspace_random_pie(struct aspace *as, u64 span)
{
	u64 base = PAGE_DOWN(BOOT_TASK_SIZE / 3 * 2) + random_pages(PIE_BITS);

	return span >= HUGE_SIZE ? base & ~(HUGE_SIZE - 1) : base;
}

u64 aspace_random_stack_top(struct aspace *as)
{
	return BOOT_TASK_SIZE - PAGE_SIZE - random_pages(STACK_BITS);
}

u64 aspace_random_brk(struct aspace *as, u64 end)
{
	return PAGE_UP(end) + random_pages(BRK_BITS);
}
