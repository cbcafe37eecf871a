/* SPDX-License-Identifier: ISC */
/*
 * /proc/PID, the part about memory: command line and environment, mappings and
 * what of them is resident, and the memory itself. Another process's address
 * space is read through its page table (mm_access), never switched to.
 */
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/mm/pt.h"
#include "guest/proc/proc.h"
#include "guest/vfs/pseudo.h"

enum { MAX_STRINGS = 1 << 21 }; /* of a command line or an environment */

static struct aspace *memory_of(const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	return p ? p->as : NULL;
}

static void memory_bytes(struct aspace *as, struct text *t, u64 from, u64 to)
{
	char buf[256];
	size_t n;

	if (to < from || to - from > MAX_STRINGS)
		return;
	for (; from < to; from += n) {
		n = mm_access(as, from, buf, MIN(to - from, sizeof(buf)), false, true);
		if (!n)
			return;
		text_bytes(t, buf, n);
	}
}

/* A program that writes a title over its arguments and beyond leaves no NUL at their end: then it is one string. */
void proc_show_cmdline(struct text *t, const struct pid_of *o)
{
	struct aspace *as = memory_of(o);
	char last = 0;

	if (!as || as->arg_end <= as->arg_start)
		return;
	mm_access(as, as->arg_end - 1, &last, 1, false, true);
	if (!last) {
		memory_bytes(as, t, as->arg_start, as->arg_end);
		return;
	}
	memory_bytes(as, t, as->arg_start, MAX(as->env_end, as->arg_end));
	if (t->len)
		t->len = MIN(strnlen(t->p, t->len) + 1, t->len);
}

void proc_show_environ(struct text *t, const struct pid_of *o)
{
	struct aspace *as = memory_of(o);

	if (as)
		memory_bytes(as, t, as->env_start, as->env_end);
}

void proc_show_auxv(struct text *t, const struct pid_of *o)
{
	struct aspace *as = memory_of(o);
	u32 n = 0;

	if (!as)
		return;
	while (n + 2 <= ARRAY_SIZE(as->auxv) && as->auxv[n])
		n += 2;
	text_bytes(t, as->auxv, MIN(n + 2, (u32)ARRAY_SIZE(as->auxv)) * sizeof(u64));
}

/* --- mappings ---------------------------------------------------------------------- */

static void map_line(struct text *t, struct vma *v)
{
	struct kstat st = {0};
	size_t start = t->len;

	if (v->file)
		vfs_stat_file(v->file, &st);
	text_add(t, "%08lx-%08lx %c%c%c%c %08lx %02x:%02x %lu ", (unsigned long)v->start,
		 (unsigned long)v->end, v->prot & PROT_READ ? 'r' : '-', v->prot & PROT_WRITE ? 'w' : '-',
		 v->prot & PROT_EXEC ? 'x' : '-', v->flags & MAP_SHARED ? 's' : 'p',
		 (unsigned long)(v->file ? v->off : 0), (u32)DEV_MAJOR(st.dev), (u32)DEV_MINOR(st.dev),
		 (unsigned long)st.ino);
	if (v->file || v->name) {
		while (t->len - start < 73)
			text_add(t, " ");
		char *path = v->file ? kmalloc(PATH_MAX) : NULL;
		if (path && vfs_file_path(v->file, path, PATH_MAX) > 0)
			text_add(t, "%s", path);
		else if (v->name)
			text_add(t, "%s", v->name);
		kfree(path);
	}
	text_add(t, "\n");
}

static bool one_map(struct vma *v, void *t)
{
	map_line(t, v);
	return true;
}

void proc_show_maps(struct text *t, const struct pid_of *o)
{
	struct aspace *as = memory_of(o);

	if (as)
		mm_for_each_vma(as, one_map, t);
}

/* --- what is resident ------------------------------------------------------------------ */

struct resident {
	u64 size, rss, pss, shared, private_clean, private_dirty, anon, locked; /* bytes */
};

/* A frame with other holders is shared; image pages have no count and belong to the file. */
static void count_page(struct resident *r, const struct vma *v, gpa_t g)
{
	bool ram = frame_is_ram(g);
	u32 refs = ram ? MAX(frame_refs(g), 1u) : 1;

	r->rss += PAGE_SIZE;
	r->pss += PAGE_SIZE / refs;
	if (v->flags & MAP_LOCKED)
		r->locked += PAGE_SIZE / refs;
	if (refs > 1 || (!ram && v->flags & MAP_SHARED))
		r->shared += PAGE_SIZE;
	else if (ram && v->prot & PROT_WRITE)
		r->private_dirty += PAGE_SIZE;
	else
		r->private_clean += PAGE_SIZE;
	if (ram && !(v->flags & MAP_SHARED))
		r->anon += PAGE_SIZE;
}

static void count_mapping(struct resident *r, struct vma *v)
{
	struct pt_leaf leaf;

	r->size += v->end - v->start;
	if (v->flags & VMA_SPECIAL)
		return;
	for (u64 va = v->start; va < v->end && pt_next(v->as, va, v->end, &leaf);
	     va = leaf.va + leaf.pages * PAGE_SIZE)
		for (u64 i = 0; i < leaf.pages; i++) {
			u64 at = leaf.va + i * PAGE_SIZE;

			if (at >= v->start && at < v->end)
				count_page(r, v, GPA(pte_gpa(leaf.entry).v + i * PAGE_SIZE));
		}
}

static void kb_line(struct text *t, const char *name, u64 bytes)
{
	text_add(t, "%-16s%8lu kB\n", name, (unsigned long)bytes / 1024);
}

static void resident_lines(struct text *t, const struct resident *r)
{
	kb_line(t, "Rss:", r->rss);
	kb_line(t, "Pss:", r->pss);
	kb_line(t, "Shared_Clean:", r->shared);
	kb_line(t, "Shared_Dirty:", 0);
	kb_line(t, "Private_Clean:", r->private_clean);
	kb_line(t, "Private_Dirty:", r->private_dirty);
	kb_line(t, "Referenced:", r->rss);
	kb_line(t, "Anonymous:", r->anon);
	kb_line(t, "LazyFree:", 0);
	kb_line(t, "AnonHugePages:", 0);
	kb_line(t, "Shared_Hugetlb:", 0);
	kb_line(t, "Private_Hugetlb:", 0);
	kb_line(t, "Swap:", 0);
	kb_line(t, "SwapPss:", 0);
	kb_line(t, "Locked:", r->locked);
}

static bool one_smap(struct vma *v, void *arg)
{
	struct resident r = {0};
	struct text *t = arg;

	map_line(t, v);
	count_mapping(&r, v);
	kb_line(t, "Size:", r.size);
	text_add(t, "KernelPageSize:        4 kB\nMMUPageSize:           4 kB\n");
	resident_lines(t, &r);
	text_add(t, "THPeligible:    0\nVmFlags:%s%s%s%s%s\n", v->prot & PROT_READ ? " rd" : "",
		 v->prot & PROT_WRITE ? " wr" : "", v->prot & PROT_EXEC ? " ex" : "",
		 v->flags & MAP_SHARED ? " sh" : "", v->flags & MAP_LOCKED ? " lo" : "");
	return true;
}

void proc_show_smaps(struct text *t, const struct pid_of *o)
{
	struct aspace *as = memory_of(o);

	if (as)
		mm_for_each_vma(as, one_smap, t);
}

struct rollup {
	struct resident r;
	u64 first, last;
};

static bool roll_up(struct vma *v, void *arg)
{
	struct rollup *s = arg;

	if (!s->last)
		s->first = v->start;
	s->last = v->end;
	count_mapping(&s->r, v);
	return true;
}

void proc_show_smaps_rollup(struct text *t, const struct pid_of *o)
{
	struct aspace *as = memory_of(o);
	struct rollup s = {{0}, 0, 0};

	if (!as)
		return;
	mm_for_each_vma(as, roll_up, &s);
	text_add(t, "%08lx-%08lx ---p 00000000 00:00 0                          [rollup]\n",
		 (unsigned long)s.first, (unsigned long)s.last);
	resident_lines(t, &s.r);
}

void proc_show_statm(struct text *t, const struct pid_of *o)
{
	struct aspace *as = memory_of(o);
	struct rollup s = {{0}, 0, 0};

	if (!as) {
		text_add(t, "0 0 0 0 0 0 0\n");
		return;
	}
	mm_for_each_vma(as, roll_up, &s);
	text_add(t, "%lu %lu %lu %lu 0 %lu 0\n", (unsigned long)as->total_vm_pages,
		 (unsigned long)as->rss_pages, (unsigned long)((s.r.rss - s.r.anon) / PAGE_SIZE),
		 (unsigned long)(PAGE_UP(as->end_code - as->start_code) >> PAGE_SHIFT),
		 (unsigned long)as->total_vm_pages);
}

/* --- the memory itself -------------------------------------------------------------------- */

static s64 mem_move(struct file *f, struct uio *u, u64 *pos, bool write)
{
	struct process *p = pseudo_file_process(f);
	char *buf;
	s64 done = 0;

	if (!u->left || !p || !p->as)
		return 0;
	buf = kmalloc(PAGE_SIZE);
	if (!buf)
		return -ENOMEM;
	process_get(p);
	while (u->left && p->as) {
		size_t want = MIN(u->left, PAGE_SIZE - (*pos & (PAGE_SIZE - 1))), n;

		if (write && uio_get(u, buf, want) != want) {
			done = done ? done : -EFAULT;
			break;
		}
		n = mm_access(p->as, *pos, buf, want, write, true);
		if (!n) {
			done = done ? done : -EIO;
			break;
		}
		if (!write && uio_put(u, buf, n) != n) {
			done = done ? done : -EFAULT;
			break;
		}
		*pos += n;
		done += (s64)n;
	}
	process_put(p);
	kfree(buf);
	return done;
}

static s64 mem_read(struct file *f, struct uio *u, u64 *pos)
{
	return mem_move(f, u, pos, false);
}

static s64 mem_write(struct file *f, struct uio *u, u64 *pos)
{
	return mem_move(f, u, pos, true);
}

/* Any number is an address. */
static s64 mem_lseek(struct file *f, s64 off, int whence)
{
	if (whence > 1)
		return -EINVAL;
	f->pos = (u64)off + (whence ? f->pos : 0);
	return (s64)f->pos;
}

const struct file_ops proc_mem_fops = {.read = mem_read, .write = mem_write, .lseek = mem_lseek};
