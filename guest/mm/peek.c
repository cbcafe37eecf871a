/* SPDX-License-Identifier: ISC */
/*
 * Memory of an address space that need not be the current one: page by page
 * through its page table and the direct map, so that nothing is switched. What
 * is not there yet is brought in as the owner's own touch would.
 */
#include "guest/mm/pt.h"
#include "guest/mm/vma.h"

/* The mapping at va, if it may be read, or written with `write`. force: a debugger's rules, protection aside. */
static struct vma *mapping(struct aspace *as, u64 va, bool write, bool force)
{
	struct vma *v = vma_find(as, va);

	if (!v || v->start > va)
		return NULL;
	if (write)
		return v->prot & PROT_WRITE ? v : NULL;
	return v->prot & PROT_READ || force ? v : NULL;
}

/* Bytes from va on, within one page; 0: not there. */
static size_t one_page(struct aspace *as, u64 va, void *buf, size_t n, bool write, bool force)
{
	u64 page = PAGE_DOWN(va), e;
	struct vma *v = mapping(as, va, write, force);
	char *p;
	gpa_t g;

	if (write && force && !v)
		return mm_poke(as, va, buf, n) ? 0 : n;
	if (!v)
		return 0;
	if (v->prot & (PROT_READ | PROT_WRITE)) {
		if (mm_user_page(as, page, write, &g))
			return 0;
	} else {
		/* no access for the owner, but what lies there can be read */
		e = pt_lookup(as->root, page);
		if (!e) {
			memset(buf, 0, n);
			return n;
		}
		g = pte_gpa(e);
	}
	p = (char *)frame_ptr(g) + (va - page);
	if (write)
		memcpy(p, buf, n);
	else
		memcpy(buf, p, n);
	return n;
}

size_t mm_access(struct aspace *as, u64 va, void *buf, size_t n, bool write, bool force)
{
	size_t done = 0;

	while (done < n && va < BOOT_TASK_SIZE) {
		size_t len = MIN(n - done, PAGE_DOWN(va) + PAGE_SIZE - va);

		if (!one_page(as, va, (char *)buf + done, len, write, force))
			break;
		done += len;
		va += len;
	}
	return done;
}
