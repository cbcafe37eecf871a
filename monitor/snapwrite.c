/* SPDX-License-Identifier: ISC */
/*
 * The copy of an instance at rest becomes a file (abi/snapshot.h), while the instance goes on.
 *
 *   1  plan: each page is zero, or as below, or has to be stored; these become extents
 *   2  pages are written, with the checksum of each extent
 *   3  tables and header; then fdatasync()
 *
 * "Below" are the pages of the snapshot that a restored instance came from. A delta stores what differs from
 * them in content, not what was written to. One that stands alone takes pages that were never written to from there.
 *
 * Neighbouring extents of one that stands alone are joined over a few zero pages: a mapping costs more than they do.
 * In a delta pages are joined only where it is cheap; a page of which little changed is stored as its changes.
 *
 * It runs in a thread of its own. So nothing here calls malloc(), whose arenas need calls that the filter has not.
 */
#include "monitor/snapwrite.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "monitor/seccomp.h"

HOST_SYSCALL(snapshot, pwritev);
HOST_SYSCALL(snapshot, pwrite64);
HOST_SYSCALL(snapshot, pread64);
HOST_SYSCALL(snapshot, ftruncate);
HOST_SYSCALL(snapshot, fdatasync);

#define PG		SNAP_PAGE
#define UP(x)		(((uint64_t)(x) + (PG - 1)) & ~(uint64_t)(PG - 1))
#define JOIN_PAGES	16u /* zero pages between two extents that are written rather than told apart */
#define PATCH_JOIN	2u /* the same in deltas, for pages that did not change */
#define UNCHANGED_BYTES 8u /* of a page without changes, in a patch */
#define MAX_IOV		64

static void *anonymous(uint64_t len)
{
	void *v = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return v == MAP_FAILED ? NULL : v;
}

static bool is_zero(const uint8_t *page)
{
	const uint64_t *p = (const uint64_t *)page;

	for (unsigned i = 0; i < PG / 8; i += 8)
		if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] | p[i + 7])
			return false;
	return true;
}

/* --- the plan ------------------------------------------------------------------------- */

struct plan {
	struct snap_extent *e;
	uint32_t n;
	uint64_t stored, patched; /* pages */
	int err;
};

static void add_page(struct plan *x, uint64_t gpa, uint32_t flags, uint64_t join)
{
	struct snap_extent *last = x->n ? &x->e[x->n - 1] : NULL;
	uint64_t gap = last ? (gpa - last->gpa) / PG - last->pages : 0;

	if (last && gap <= join && last->pages + gap < SNAP_EXTENT_PAGES && last->flags == flags) {
		last->pages += (uint32_t)gap + 1;
		x->stored += flags & (SNAP_E_ZERO | SNAP_E_PATCH) ? 0 : gap + 1;
	} else if (x->n == SNAP_MAX_EXTENTS) {
		x->err = -E2BIG;
	} else {
		x->e[x->n++] = (struct snap_extent){.gpa = gpa, .pages = 1, .flags = flags};
		x->stored += !(flags & (SNAP_E_ZERO | SNAP_E_PATCH));
	}
}

/* As changes, if these are few. Pages between two such that are as below cost 8 bytes, which is less than an extent. */
static void add_changed(struct plan *x, uint64_t gpa, uint32_t user, uint32_t bytes)
{
	uint32_t before = x->n, pages = x->n ? x->e[x->n - 1].pages : 0;

	if (bytes > SNAP_PATCH_BYTES || x->patched + PATCH_JOIN >= SNAP_PATCH_PAGES) {
		add_page(x, gpa, user, 0);
		return;
	}
	add_page(x, gpa, user | SNAP_E_PATCH, PATCH_JOIN);
	pages = x->e[x->n - 1].pages - (x->n == before ? pages : 0);
	x->patched += pages;
	x->e[x->n - 1].len += bytes + (pages - 1) * UNCHANGED_BYTES;
}

/* What the copy has for page i, which is the nth that was copied; NULL: zero. */
static const uint8_t *copied(const struct snap_pages *p, uint64_t i, uint64_t nth)
{
	const uint8_t *page = p->buf + nth * PG;

	return p->state[i] & SNAP_PAGE_COPIED && !is_zero(page) ? page : NULL;
}

static void plan_page(struct plan *x, const struct snap_write *w, struct snap_reader *u, uint64_t i,
		      uint64_t nth)
{
	uint32_t user = (w->pages.state[i] & SNAP_PAGE_FRAME) == SNAP_FRAME_USER ? SNAP_E_USER : 0;
	const uint8_t *now = copied(&w->pages, i, nth), *below;
	bool old = w->pages.state[i] & SNAP_PAGE_OLD;

	if (!w->delta) {
		if (now || (old && snap_reader_page(u, i * PG)))
			add_page(x, i * PG, user, JOIN_PAGES);
		return;
	}
	if (old)
		return;
	below = snap_reader_page(u, i * PG);
	if (!now && below && !is_zero(below))
		add_page(x, i * PG, SNAP_E_ZERO, 0);
	if (now && (!below || memcmp(now, below, PG) != 0))
		add_changed(x, i * PG, user, snap_patch_make(below, now, NULL));
}

static int plan(struct plan *x, const struct snap_write *w, struct snap_reader *u)
{
	uint64_t nth = 0;

	x->e = anonymous(SNAP_MAX_EXTENTS * sizeof(*x->e));
	if (!x->e)
		return -ENOMEM;
	snap_reader_start(u, w->under, w->n_under);
	u->ahead = w->delta ? SNAP_READ_PAGES / 4 : SNAP_READ_PAGES;
	for (uint64_t i = 0; i < w->pages.n && !x->err && !u->err; i++) {
		plan_page(x, w, u, i, nth);
		nth += !!(w->pages.state[i] & SNAP_PAGE_COPIED);
	}
	return x->err ? x->err : u->err;
}

/* --- writing ---------------------------------------------------------------------------- */

static int write_all(int fd, const void *p, uint64_t len, uint64_t off)
{
	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -ENOSPC;
		p = (const uint8_t *)p + n;
		len -= (uint64_t)n;
		off += (uint64_t)n;
	}
	return 0;
}

/* Collects what is written next to each other. */
struct out {
	int fd, n, err;
	uint64_t off, len; /* of what was collected */
	uint32_t crc;
	struct iovec iov[MAX_IOV];
};

static void out_flush(struct out *o)
{
	ssize_t n = o->len && !o->err ? pwritev(o->fd, o->iov, o->n, (off_t)o->off) : 0;

	if (n < 0 && errno != EINTR)
		o->err = -errno;
	if (n < 0)
		n = 0;
	o->off += (uint64_t)n;
	for (int i = 0; i < o->n && !o->err; i++) { /* what did not go in one call */
		uint64_t len = o->iov[i].iov_len, gone = (uint64_t)n < len ? (uint64_t)n : len;

		n -= (ssize_t)gone;
		o->err = write_all(o->fd, (uint8_t *)o->iov[i].iov_base + gone, len - gone, o->off);
		o->off += len - gone;
	}
	o->n = 0;
	o->len = 0;
}

static void out_page(struct out *o, const void *page)
{
	struct iovec *last = o->n ? &o->iov[o->n - 1] : NULL;

	o->crc = snap_crc32c(o->crc, page, PG);
	if (last && (uint8_t *)last->iov_base + last->iov_len == page) {
		last->iov_len += PG;
	} else {
		if (o->n == MAX_IOV)
			out_flush(o);
		o->iov[o->n++] = (struct iovec){(void *)page, PG};
	}
	o->len += PG;
}

static int copy_layer(int out, uint64_t off, int fd, uint64_t from, uint64_t size)
{
	uint8_t buf[16 * PG];
	int r = 0;

	for (uint64_t done = 0; done < size && !r;) {
		ssize_t n = pread(fd, buf, size - done < sizeof(buf) ? size - done : sizeof(buf),
				  (off_t)(from + done));

		if (n <= 0)
			return n ? -errno : -EIO;
		r = write_all(out, buf, (uint64_t)n, off + done);
		done += (uint64_t)n;
	}
	return r;
}

/* off: where the next thing goes, and went. */
static int write_layers(struct snap_write *w, uint64_t *off)
{
	int r = 0;

	for (uint32_t i = 0; i < w->n_layers && !r; i++) {
		if (w->embed[i].fd < 0)
			continue;
		w->layers[i].off = *off;
		r = copy_layer(w->fd, *off, w->embed[i].fd, w->embed[i].off, w->layers[i].size);
		*off += UP(w->layers[i].size);
	}
	return r;
}

static int write_pages(const struct snap_write *w, struct plan *x, struct snap_reader *u, uint64_t *off)
{
	static const uint8_t zeros[PG];
	const struct snap_pages *p = &w->pages;
	struct out o = {.fd = w->fd, .off = *off};
	uint64_t i = 0, nth = 0;

	snap_reader_start(u, w->under, w->n_under);
	for (uint32_t k = 0; k < x->n && !o.err && !u->err; k++) {
		struct snap_extent *e = &x->e[k];
		uint64_t first = e->gpa / PG;

		for (; i < first; i++)
			nth += !!(p->state[i] & SNAP_PAGE_COPIED);
		if (e->flags & (SNAP_E_ZERO | SNAP_E_PATCH))
			continue;
		e->off = o.off + o.len;
		o.crc = 0;
		for (; i < first + e->pages; i++) {
			const uint8_t *page = zeros;

			if (p->state[i] & SNAP_PAGE_OLD && !snap_reader_has(u, i * PG))
				out_flush(&o); /* what is collected may lie where it will be read to */
			if (p->state[i] & SNAP_PAGE_COPIED)
				page = p->buf + nth++ * PG;
			else if (p->state[i] & SNAP_PAGE_OLD)
				page = snap_reader_page(u, i * PG);
			out_page(&o, page ? page : zeros);
		}
		e->crc = o.crc;
	}
	out_flush(&o);
	*off = o.off;
	return o.err ? o.err : u->err;
}

/* Packed, after all pages. */
static int write_patches(const struct snap_write *w, struct plan *x, struct snap_reader *u, uint64_t *off)
{
	const struct snap_pages *p = &w->pages;
	uint64_t i = 0, nth = 0, max = 0;
	uint8_t *buf;
	int r = 0;

	for (uint32_t k = 0; k < x->n; k++)
		max = x->e[k].len > max ? x->e[k].len : max;
	buf = anonymous(max + PG);
	if (!buf)
		return -ENOMEM;
	snap_reader_start(u, w->under, w->n_under);
	for (uint32_t k = 0; k < x->n && !r; k++) {
		struct snap_extent *e = &x->e[k];
		uint64_t first = e->gpa / PG, len = 0;

		for (; i < first; i++)
			nth += !!(p->state[i] & SNAP_PAGE_COPIED);
		if (!(e->flags & SNAP_E_PATCH))
			continue;
		for (; i < first + e->pages; i++) {
			memset(buf + len, 0,
			       UNCHANGED_BYTES); /* what was not copied is as below: else it is no patch */
			len += p->state[i] & SNAP_PAGE_COPIED
				       ? snap_patch_make(snap_reader_page(u, i * PG), p->buf + nth++ * PG,
							 buf + len)
				       : UNCHANGED_BYTES;
		}
		e->off = *off;
		e->crc = snap_crc32c(0, buf, len);
		r = u->err ? u->err : len != e->len ? -EIO : write_all(w->fd, buf, len, *off);
		*off += len;
	}
	*off = UP(*off);
	munmap(buf, max + PG);
	return r;
}

/* --- the tables --------------------------------------------------------------------------- */

struct tables {
	uint8_t *v;
	uint64_t used;
};

static struct snap_array put(struct tables *t, const void *p, uint32_t count, size_t size)
{
	struct snap_array a = {.off = (uint32_t)(PG + t->used), .count = count};

	if (count)
		memcpy(t->v + t->used, p, count * size);
	t->used += (count * size + 7) & ~7ul;
	return a;
}

static uint64_t tables_size(const struct snap_write *w, uint32_t n_extents)
{
	return UP(n_extents * sizeof(struct snap_extent) + w->n_maps * sizeof(w->maps[0]) +
		  w->n_ports * sizeof(w->ports[0]) + w->n_volumes * sizeof(w->volumes[0]) +
		  w->n_layers * sizeof(w->layers[0]) + w->t.n_handles * sizeof(struct snap_handle) +
		  w->t.n_requests * sizeof(struct snap_request) + w->t.n_strings + 8 * 8);
}

static int write_tables(struct snap_write *w, const struct plan *x)
{
	struct snap_header *h = &w->h;
	struct tables t = {.v = anonymous(h->tables_len)};
	int r;

	if (!t.v)
		return -ENOMEM;
	h->maps = put(&t, w->maps, w->n_maps, sizeof(w->maps[0]));
	h->handles = put(&t, w->t.handles, w->t.n_handles, sizeof(*w->t.handles));
	h->requests = put(&t, w->t.requests, w->t.n_requests, sizeof(*w->t.requests));
	h->ports = put(&t, w->ports, w->n_ports, sizeof(w->ports[0]));
	h->volumes = put(&t, w->volumes, w->n_volumes, sizeof(w->volumes[0]));
	h->strings = put(&t, w->t.strings, w->t.n_strings, 1);
	h->extents = put(&t, x->e, x->n, sizeof(*x->e));
	h->layers = put(&t, w->layers, w->n_layers, sizeof(w->layers[0]));
	h->stored_pages = (uint32_t)x->stored;
	snap_digest(h, t.v, h->digest);
	r = write_all(w->fd, t.v, h->tables_len, PG);
	munmap(t.v, h->tables_len);
	return r ? r : write_all(w->fd, h, sizeof(*h), 0);
}

static int write_file(struct snap_write *w, struct plan *x, struct snap_reader *u)
{
	int r = plan(x, w, u);

	if (r)
		return r;
	w->h.tables_len = tables_size(w, x->n);
	if (w->h.tables_len > SNAP_TABLES_MAX)
		return -E2BIG;
	w->h.data_off = w->h.file_size = PG + w->h.tables_len;
	r = write_layers(w, &w->h.file_size);
	if (!r)
		r = write_pages(w, x, u, &w->h.file_size);
	if (!r && x->patched)
		r = write_patches(w, x, u, &w->h.file_size);
	if (!r && ftruncate(w->fd, (off_t)w->h.file_size))
		r = -errno;
	if (!r)
		r = write_tables(w, x);
	if (!r && !w->no_sync && fdatasync(w->fd) && errno != EINVAL && errno != EROFS)
		r = -errno;
	return r;
}

int snap_write(struct snap_write *w)
{
	struct snap_reader *u = anonymous(sizeof(*u));
	struct plan x = {0};
	int r = -ENOMEM;

	if (u) {
		r = write_file(w, &x, u);
		munmap(u, sizeof(*u));
	}
	if (x.e)
		munmap(x.e, SNAP_MAX_EXTENTS * sizeof(*x.e));
	return r;
}
