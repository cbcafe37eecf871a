/* SPDX-License-Identifier: ISC */
/*
 * VMAs: which ranges of an address space mean what.
 *
 * Each aspace has its VMAs twice: a list by address, for neighbours and walks,
 * and a balanced tree for finding an address. Every node knows the free gap
 * below its start and the largest gap in its subtree, so that a free range is
 * found from the top in logarithmic time however many VMAs there are.
 * VMAs do not overlap, are not empty and start and end at page boundaries.
 * A VMA of a file is in the inode's list of mappings, for truncation.
 */
#include "guest/mm/vma.h"

#include "guest/mm/pt.h"
#include "guest/vfs/vfs.h"

static struct vma *of_tree(struct tree_node *n)
{
	return n ? container_of(n, struct vma, tree) : NULL;
}

/* The tree's augmentation: max_gap from the children's. */
void vma_tree_update(struct tree_node *n)
{
	struct vma *v = of_tree(n), *l = of_tree(n->left), *r = of_tree(n->right);

	v->max_gap = v->gap;
	if (l)
		v->max_gap = MAX(v->max_gap, l->max_gap);
	if (r)
		v->max_gap = MAX(v->max_gap, r->max_gap);
}

struct inode *vma_inode(const struct vma *v)
{
	return v->file ? v->file->inode : NULL;
}

struct vma *vma_next(struct vma *v)
{
	return v->node.next == &v->as->vmas ? NULL : list_entry(v->node.next, struct vma, node);
}

struct vma *vma_prev(struct vma *v)
{
	return v->node.prev == &v->as->vmas ? NULL : list_entry(v->node.prev, struct vma, node);
}

struct vma *vma_find(struct aspace *as, u64 va)
{
	struct tree_node *n = as->vma_tree.root;
	struct vma *best = NULL;

	while (n) {
		struct vma *v = of_tree(n);

		if (v->end > va) {
			best = v;
			if (v->start <= va)
				break;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

struct vma *vma_find_below(struct aspace *as, u64 va)
{
	struct tree_node *n = as->vma_tree.root;
	struct vma *best = NULL;

	while (n) {
		struct vma *v = of_tree(n);

		if (v->start <= va) {
			best = v;
			n = n->right;
		} else {
			n = n->left;
		}
	}
	return best;
}

/* v's start or its predecessor's end has changed. */
static void gap_changed(struct vma *v)
{
	struct vma *p;

	if (!v)
		return;
	p = vma_prev(v);
	v->gap = v->start - (p ? p->end : 0);
	tree_changed(&v->as->vma_tree, &v->tree);
}

static void account(struct vma *v, s64 pages)
{
	v->as->total_vm_pages += (u64)pages;
	if (v->flags & MAP_LOCKED)
		v->as->locked_pages += (u64)pages;
}

struct vma *vma_insert(struct aspace *as, const struct vma *tmpl)
{
	struct tree_node **link = &as->vma_tree.root, *parent = NULL;
	struct vma *v = kmalloc(sizeof(*v)), *below;
	struct inode *ino;

	if (!v)
		return NULL;
	*v = *tmpl;
	v->as = as;
	below = vma_find_below(as, v->start);
	if (below)
		list_add_head(&below->node, &v->node);
	else
		list_add_head(&as->vmas, &v->node);
	while (*link) {
		parent = *link;
		link = v->start < of_tree(parent)->start ? &parent->left : &parent->right;
	}
	v->gap = v->start - (below ? below->end : 0);
	tree_insert(&as->vma_tree, &v->tree, parent, link);
	gap_changed(vma_next(v));
	list_init(&v->mapping);
	if (v->file)
		file_get(v->file);
	ino = vma_inode(v);
	if (ino) {
		if (!ino->mappings.next)
			list_init(&ino->mappings);
		list_add_tail(&ino->mappings, &v->mapping);
	}
	as->n_vmas++;
	account(v, (s64)vma_pages(v));
	return v;
}

void vma_remove(struct vma *v)
{
	struct vma *next = vma_next(v);
	struct aspace *as = v->as;

	account(v, -(s64)vma_pages(v));
	as->n_vmas--;
	tree_remove(&as->vma_tree, &v->tree);
	list_del(&v->node);
	list_del(&v->mapping);
	gap_changed(next);
	if (v->file)
		file_put(v->file);
	kfree(v);
}

void vma_resize(struct vma *v, u64 start, u64 end)
{
	account(v, -(s64)vma_pages(v));
	if (v->file || v->flags & VMA_SPECIAL)
		v->off += start - v->start;
	v->start = start;
	v->end = end;
	account(v, (s64)vma_pages(v));
	gap_changed(v);
	gap_changed(vma_next(v));
}

int vma_split_at(struct aspace *as, u64 va)
{
	struct vma *v = vma_find(as, va), upper;

	if (!v || v->start >= va)
		return 0;
	if (as->n_vmas >= MAX_VMAS)
		return -ENOMEM;
	upper = *v;
	upper.start = va;
	if (v->file || v->flags & VMA_SPECIAL)
		upper.off += va - v->start;
	vma_resize(v, v->start, va);
	if (!vma_insert(as, &upper)) {
		vma_resize(v, v->start, upper.end);
		return -ENOMEM;
	}
	return 0;
}

int vma_isolate(struct aspace *as, u64 start, u64 end)
{
	int err = pt_split_at(as, start);

	if (!err)
		err = pt_split_at(as, end);
	if (!err)
		err = vma_split_at(as, start);
	if (!err)
		err = vma_split_at(as, end);
	return err;
}

static bool can_merge(const struct vma *a, const struct vma *b)
{
	if (a->end != b->start || a->prot != b->prot || a->flags != b->flags || a->file != b->file ||
	    a->name != b->name)
		return false;
	return !(a->file || a->flags & VMA_SPECIAL) || a->off + (a->end - a->start) == b->off;
}

void vma_merge_range(struct aspace *as, u64 start, u64 end)
{
	struct vma *v = vma_find(as, start ? start - 1 : 0), *n;

	while (v && v->start <= end && (n = vma_next(v))) {
		u64 to = n->end;

		if (!can_merge(v, n)) {
			v = n;
			continue;
		}
		vma_remove(n);
		vma_resize(v, v->start, to);
	}
}

/* Address of a range of len at the top of [lo, hi), aligned; 0 if it does not fit. */
static u64 fit(u64 lo, u64 hi, u64 len, u64 align, u64 off)
{
	u64 at;

	if (hi <= lo || hi - lo < len)
		return 0;
	at = hi - len;
	at -= (at - off) & (align - 1);
	return at >= lo && at < hi ? at : 0;
}

struct gap_query {
	u64 len, low, high, align, off;
};

static u64 search_gap(struct tree_node *n, const struct gap_query *q)
{
	struct vma *v = of_tree(n);
	u64 at = 0;

	if (!v || v->max_gap < q->len)
		return 0;
	if (v->end < q->high)
		at = search_gap(n->right, q);
	if (!at)
		at = fit(MAX(v->start - v->gap, q->low), MIN(v->start, q->high), q->len, q->align, q->off);
	if (!at && v->start - v->gap > q->low)
		at = search_gap(n->left, q);
	return at;
}

u64 vma_find_gap(struct aspace *as, u64 len, u64 low, u64 high, u64 align, u64 off)
{
	struct gap_query q = {len, low, high, align, off};
	struct vma *last = of_tree(tree_last(&as->vma_tree));
	u64 at = fit(MAX(last ? last->end : 0, low), high, len, align, off);

	return at ? at : search_gap(as->vma_tree.root, &q);
}

bool vma_range_free(struct aspace *as, u64 start, u64 end)
{
	struct vma *v = vma_find(as, start);

	return !v || v->start >= end;
}

bool vma_range_mapped(struct aspace *as, u64 start, u64 end)
{
	struct vma *v = vma_find(as, start);

	for (; v && v->start <= start; v = vma_next(v)) {
		start = v->end;
		if (start >= end)
			return true;
	}
	return false;
}

void vma_unmap_range(struct aspace *as, u64 start, u64 end)
{
	struct vma *v = vma_find(as, start), *next;
	u64 lo, hi;

	pt_unmap(as, start, end);
	for (; v && v->start < end; v = next) {
		next = vma_next(v);
		vma_remove(v);
	}
	/* A large hole: tables that only partly lay in this range may be empty now. */
	v = vma_find(as, start);
	hi = v ? v->start : BOOT_TASK_SIZE;
	v = v ? vma_prev(v) : vma_find_below(as, start);
	lo = v ? v->end : 0;
	if (hi - lo >= 32 * HUGE_SIZE && ((start | end) & (HUGE_SIZE - 1)))
		pt_prune(as, MAX(lo, start & ~(HUGE_SIZE - 1)), MIN(hi, ALIGN_UP(end, HUGE_SIZE)));
}

void mm_for_each_vma(struct aspace *as, bool (*fn)(struct vma *v, void *arg), void *arg)
{
	list_for_each_safe (n, &as->vmas)
		if (!fn(list_entry(n, struct vma, node), arg))
			return;
}
