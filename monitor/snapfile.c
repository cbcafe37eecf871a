/* SPDX-License-Identifier: ISC */
/*
 * The reader of snapshot files (abi/snapshot.h). The file comes from anybody:
 * header and tables are copied once, the digest is checked first, and then every
 * offset, count and address as if there were no digest, since whoever writes a
 * file also writes its digest. Nothing here trusts a number that it has not compared.
 *
 * It knows no instance, so that it can be fuzzed and tested alone.
 */
#include "monitor/snapfile.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <nmmintrin.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/platform/x86.h>
#include <sys/stat.h>
#include <unistd.h>

#define PG SNAP_PAGE

/* --- checksums ------------------------------------------------------------------ */

__attribute__((target("sse4.2"))) static uint32_t crc_hardware(uint32_t crc, const uint8_t *p, size_t n)
{
	uint64_t c = crc;

	for (; n >= 8; p += 8, n -= 8) {
		uint64_t v;

		memcpy(&v, p, 8);
		c = _mm_crc32_u64(c, v);
	}
	for (; n; p++, n--)
		c = _mm_crc32_u8((uint32_t)c, *p);
	return (uint32_t)c;
}

static uint32_t crc_bits(uint32_t crc, const uint8_t *p, size_t n)
{
	for (; n; p++, n--) {
		crc ^= *p;
		for (int i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return crc;
}

uint32_t snap_crc32c(uint32_t crc, const void *p, size_t n)
{
	/* as the dynamic loader found it: __builtin_cpu_supports() would ask the CPU at each start, ten times, 5 us each */
	return ~(CPU_FEATURE_ACTIVE(SSE4_2) ? crc_hardware(~crc, p, n) : crc_bits(~crc, p, n));
}

void snap_digest(const struct snap_header *h, const uint8_t *tables, uint8_t digest[32])
{
	struct snap_header copy = *h;
	struct sha256_ctx c;

	memset(copy.digest, 0, sizeof(copy.digest));
	sha256_init(&c);
	sha256_update(&c, sizeof(copy), (const uint8_t *)&copy);
	sha256_update(&c, h->tables_len, tables);
	sha256_digest(&c, 32, digest);
}

#define PRINT_SAMPLES 16

int snap_layer_print(int fd, uint64_t off, uint64_t size, uint8_t print[32])
{
	uint8_t page[PG];
	struct sha256_ctx c;

	sha256_init(&c);
	sha256_update(&c, sizeof(size), (const uint8_t *)&size);
	for (unsigned i = 0; i < PRINT_SAMPLES;
	     i++) { /* an image's metadata is at its start: half of them there */
		uint64_t at = i < PRINT_SAMPLES / 2 ? (uint64_t)i * PG
						    : size / PRINT_SAMPLES * i & ~(uint64_t)(PG - 1);
		ssize_t n =
			at < size ? pread(fd, page, size - at < PG ? size - at : PG, (off_t)(off + at)) : 0;

		if (n < 0)
			return -errno;
		sha256_update(&c, (size_t)n, page);
	}
	sha256_digest(&c, 32, print);
	return 0;
}

/* --- arrays ------------------------------------------------------------------------ */

static int refuse(const char **why, const char *what)
{
	*why = what;
	return -EBADMSG;
}

/* An array of the tables; NULL: it is not inside. Empty ones are never looked at. */
static const void *array(const struct snap_file *f, struct snap_array a, size_t size, uint32_t max)
{
	uint64_t len = (uint64_t)a.count * size;

	if (a.count > max || a.off < PG || a.off % 8 || a.off - PG > f->h.tables_len ||
	    len > f->h.tables_len - (a.off - PG))
		return NULL;
	return f->tables + (a.off - PG);
}

const char *snapfile_string(const struct snap_file *f, uint32_t off)
{
	if (off >= f->h.strings.count)
		return "";
	return (const char *)f->tables + (f->h.strings.off - PG) + off;
}

static bool find_arrays(struct snap_file *f)
{
	const struct snap_header *h = &f->h;
	const char *s = array(f, h->strings, 1, SNAP_TABLES_MAX);

	f->extents = array(f, h->extents, sizeof(*f->extents), SNAP_MAX_EXTENTS);
	f->maps = array(f, h->maps, sizeof(*f->maps), SNAP_MAX_MAPS);
	f->layers = array(f, h->layers, sizeof(*f->layers), SNAP_MAX_LAYERS);
	f->handles = array(f, h->handles, sizeof(*f->handles), RING_MAX_HANDLES);
	f->requests = array(f, h->requests, sizeof(*f->requests), 8192);
	f->ports = array(f, h->ports, sizeof(*f->ports), 64);
	f->volumes = array(f, h->volumes, sizeof(*f->volumes), SNAP_MAX_VOLUMES);
	return f->extents && f->maps && f->layers && f->handles && f->requests && f->ports && f->volumes &&
	       s && h->strings.count && !s[h->strings.count - 1];
}

/* --- numbers ----------------------------------------------------------------------- */

static bool aligned(uint64_t v)
{
	return v % PG == 0;
}

/* len bytes of RAM that the guest has, page aligned. */
static bool in_ram(const struct snap_header *h, uint64_t gpa, uint64_t len)
{
	return aligned(gpa) && gpa < h->ram_size && len <= h->ram_size - gpa;
}

/* Addresses of the library OS's slot. */
static bool in_slot(uint64_t va, uint64_t len)
{
	return va >= BOOT_TASK_SIZE && va < BOOT_LIBOS_TOP && len <= BOOT_LIBOS_TOP - va;
}

static bool in_file(const struct snap_header *h, uint64_t off, uint64_t len)
{
	return aligned(off) && off >= h->data_off && off <= h->file_size && len <= h->file_size - off;
}

static bool plan_is_sound(const struct snap_header *h)
{
	return in_ram(h, h->cr3_gpa, PG) && in_ram(h, h->stub_gpa, PG) && in_ram(h, h->vcpu_gpa, PG) &&
	       in_ram(h, h->ring_gpa, sizeof(struct ring_page)) && in_ram(h, h->boot_info_gpa, PG) &&
	       in_ram(h, h->time_gpa, PG) && in_ram(h, h->stats_gpa, PG) && in_slot(h->boot_info_va, PG) &&
	       in_slot(h->stack_top, 1) && in_slot(h->exc_stack_top, 1) && in_slot(h->cpu_va, PG) &&
	       aligned(h->cpu_va) && in_slot(h->stub_va, PG) && aligned(h->stub_va) && aligned(h->libos_va) &&
	       in_slot(h->libos_va, 2u << 20);
}

/* A mapping's memory: RAM, or regions, which layers_end() bounds; restore.c knows the library OS's own. */
static bool maps_are_sound(const struct snap_file *f)
{
	for (uint32_t i = 0; i < f->h.maps.count; i++) {
		const struct snap_map *m = &f->maps[i];
		bool ram = m->gpa < f->h.ram_max && m->len <= f->h.ram_max - m->gpa;
		bool image =
			m->gpa >= BOOT_IMAGE_GPA && m->gpa < BOOT_GPA_MAX && m->len <= BOOT_GPA_MAX - m->gpa;

		if (!m->len || !aligned(m->va | m->gpa | m->len) || !in_slot(m->va, m->len) || m->prot > 7 ||
		    (m->prot & PROT_WRITE ? !ram || m->prot & PROT_EXEC : !ram && !image))
			return false;
	}
	return true;
}

static bool layers_are_sound(const struct snap_file *f)
{
	uint64_t total = 0;

	for (uint32_t i = 0; i < f->h.layers.count; i++) {
		const struct snap_layer *l = &f->layers[i];
		uint64_t whole = (l->size + PG - 1) & ~(uint64_t)(PG - 1), window = (uint64_t)l->window * PG;

		if (!l->size || l->size > BOOT_GPA_MAX - BOOT_IMAGE_GPA || !aligned(l->va) ||
		    !in_slot(l->va, whole))
			return false;
		if (l->off && !in_file(&f->h, l->off, whole))
			return false;
		if (window && !in_slot(l->va, window))
			return false;
		total += window > whole ? window : whole;
		if (total > BOOT_GPA_MAX - BOOT_IMAGE_GPA)
			return false;
	}
	return true;
}

/* By its kind: what an extent has in the file. */
static bool stored_well(const struct snap_header *h, const struct snap_extent *e)
{
	switch (e->flags & ~(uint32_t)SNAP_E_USER) {
	case 0:
		return !e->len && in_file(h, e->off, (uint64_t)e->pages * PG);
	case SNAP_E_ZERO:
		return !e->len && !e->off && !e->crc && h->parent;
	case SNAP_E_PATCH:
		return h->parent && e->len && e->len % 8 == 0 && e->off % 8 == 0 && e->off >= h->data_off &&
		       e->off <= h->file_size && e->len <= h->file_size - e->off &&
		       e->len <= e->pages * 2 * PG;
	}
	return false;
}

/* In the order of their addresses, not overlapping. */
static bool extents_are_sound(const struct snap_file *f)
{
	uint64_t next = 0, patched = 0;

	for (uint32_t i = 0; i < f->h.extents.count; i++) {
		const struct snap_extent *e = &f->extents[i];

		if (!e->pages || e->pages > SNAP_EXTENT_PAGES || e->gpa < next ||
		    !in_ram(&f->h, e->gpa, (uint64_t)e->pages * PG) || !stored_well(&f->h, e))
			return false;
		patched += e->flags & SNAP_E_PATCH ? e->pages : 0;
		if (patched > SNAP_PATCH_PAGES)
			return false;
		next = e->gpa + (uint64_t)e->pages * PG;
	}
	return true;
}

/* --- the flat list ----------------------------------------------------------------- */

struct flat {
	struct snap_flat *v;
	uint32_t n, max;
};

static void flat_add(struct flat *to, const struct snap_flat *from, uint64_t gpa, uint64_t end)
{
	if (gpa >= end)
		return;
	to->v[to->n] = *from;
	to->v[to->n].gpa = gpa;
	to->v[to->n].off += gpa - from->gpa;
	to->v[to->n++].pages = (uint32_t)((end - gpa) / PG);
}

/* What an extent lays over the parent's pages. */
static struct snap_flat flat_of(const struct snap_file *f, const struct snap_extent *e, uint64_t *patched)
{
	struct snap_flat v = {e->gpa, e->off, e->pages, e->flags & (SNAP_E_USER | SNAP_E_ZERO), f->fd};

	if (e->flags & SNAP_E_PATCH) {
		v.fd = f->own_fd[0];
		v.off = *patched;
		*patched += (uint64_t)e->pages * PG;
	}
	return v;
}

/* The extents of f laid over what its parent has. Each of them splits at most one of the parent's entries. */
static bool flatten(struct snap_file *f)
{
	const struct snap_file *p = f->parent;
	uint32_t n_under = p ? p->n_flat : 0, u = 0;
	uint64_t covered = 0 /* what lies below was dealt with */, patched = 0;
	struct flat to = {.max = n_under + 2 * f->h.extents.count};

	if (to.max > 2 * SNAP_MAX_EXTENTS)
		return false;
	to.v = malloc(((size_t)to.max + 1) * sizeof(*to.v));
	if (!to.v)
		return false;
	for (uint32_t i = 0; i <= f->h.extents.count; i++) {
		struct snap_flat e = {.gpa = UINT64_MAX};
		uint64_t end = UINT64_MAX;

		if (i < f->h.extents.count) {
			e = flat_of(f, &f->extents[i], &patched);
			end = e.gpa + (uint64_t)e.pages * PG;
		}
		for (; u < n_under; u++) { /* the parent's, as far as they lie before this one */
			const struct snap_flat *under = &p->flat[u];
			uint64_t from = under->gpa > covered ? under->gpa : covered;
			uint64_t to_gpa = under->gpa + (uint64_t)under->pages * PG;

			flat_add(&to, under, from, to_gpa < e.gpa ? to_gpa : e.gpa);
			if (to_gpa > end)
				break;
		}
		covered = end;
		if (e.pages && !(e.flags & SNAP_E_ZERO))
			flat_add(&to, &e, e.gpa, end);
	}
	f->flat = to.v;
	f->n_flat = to.n;
	return true;
}

/* --- patches ------------------------------------------------------------------------- */

/* One extent's pages, patched, to the end of the file of patched pages. */
static int patch_extent(struct snap_file *f, const struct snap_extent *e, struct snap_reader *r, uint8_t *buf,
			const char **why)
{
	uint8_t *data = malloc(e->len), page[PG];
	uint64_t at = 0;
	int err = data ? 0 : -ENOMEM;

	r->ahead = e->pages < SNAP_READ_PAGES ? e->pages : SNAP_READ_PAGES;

	if (data && pread(f->fd, data, e->len, (off_t)e->off) != (ssize_t)e->len)
		err = refuse(why, "it is truncated");
	for (uint32_t i = 0; i < e->pages && !err; i++) {
		const uint8_t *below = snap_reader_page(r, e->gpa + (uint64_t)i * PG);
		uint32_t n;

		memset(page, 0, sizeof(page));
		if (below)
			memcpy(page, below, PG);
		n = snap_patch_apply(page, data + at, e->len - at);
		if (r->err || !n)
			err = refuse(why, r->err ? "its parent cannot be read"
						 : "it is damaged: impossible changes");
		memcpy(buf + (uint64_t)i * PG, page, PG);
		at += n;
	}
	free(data);
	return err;
}

/* Patched pages become a file in memory, which the flat list refers to as to any other. */
static int patch(struct snap_file *f, const char **why)
{
	struct snap_reader *r = NULL;
	uint64_t off = 0, max = 0;
	uint8_t *buf = NULL;
	int err = 0;

	for (uint32_t i = 0; i < f->h.extents.count; i++)
		if (f->extents[i].flags & SNAP_E_PATCH && f->extents[i].pages > max)
			max = f->extents[i].pages;

	for (uint32_t i = 0; i < f->h.extents.count && !err; i++) {
		const struct snap_extent *e = &f->extents[i];
		uint64_t len = (uint64_t)e->pages * PG;

		if (!(e->flags & SNAP_E_PATCH))
			continue;
		if (!r) {
			r = malloc(sizeof(*r));
			buf = malloc((max + 1) * PG);
			f->own_fd[0] = memfd_create("cowbell-patched", MFD_CLOEXEC);
			f->n_own = f->own_fd[0] >= 0;
			if (!r || !buf || !f->n_own) {
				err = -ENOMEM;
				break;
			}
			snap_reader_start(r, f->parent->flat, f->parent->n_flat);
		}
		err = patch_extent(f, e, r, buf, why);
		if (!err && pwrite(f->own_fd[0], buf, len, (off_t)off) != (ssize_t)len)
			err = -ENOMEM;
		off += len;
	}
	if (err == -ENOMEM)
		*why = "out of memory";
	free(r);
	free(buf);
	return err;
}

static int check_header(struct snap_file *f, uint64_t size, const char **why)
{
	const struct snap_header *h = &f->h;

	if (h->magic != SNAP_MAGIC)
		return refuse(why, "it is not a snapshot");
	if (h->version != SNAP_VERSION || h->size != sizeof(*h))
		return refuse(why, "it is a snapshot of another version of cowbell");
	if (h->file_size != size)
		return refuse(why, "it is truncated or has grown");
	if (h->tables_len > SNAP_TABLES_MAX || h->tables_len > size - sizeof(*h) || !aligned(h->data_off) ||
	    h->data_off < sizeof(*h) + h->tables_len || h->data_off > size || size % PG)
		return refuse(why, "it is damaged: its parts do not fit");
	if ((h->plat != BOOT_PLAT_KVM && h->plat != BOOT_PLAT_PROCESS) ||
	    !aligned(h->ram_size | h->ram_max) || !h->ram_size || h->ram_size > h->ram_max ||
	    h->ram_max > BOOT_RAM_MAX || h->ram_max % (2u << 20) || h->handle_max > RING_MAX_HANDLES ||
	    h->xstate_size > (1u << 20) || !plan_is_sound(h))
		return refuse(why, "it is damaged: impossible numbers");
	return 0;
}

int snapfile_open(struct snap_file *f, int fd, const char **why)
{
	uint8_t digest[32];
	struct stat st;
	int r;

	*f = (struct snap_file){.fd = fd};
	if (fstat(fd, &st))
		return *why = "it cannot be read", -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(f->h) ||
	    pread(fd, &f->h, sizeof(f->h), 0) != sizeof(f->h))
		return refuse(why, "it is not a snapshot");
	r = check_header(f, (uint64_t)st.st_size, why);
	if (r)
		return r;
	f->tables = malloc(f->h.tables_len + 8);
	if (!f->tables)
		return *why = "out of memory", -ENOMEM;
	if (pread(fd, f->tables, f->h.tables_len, sizeof(f->h)) != (ssize_t)f->h.tables_len) {
		snapfile_close(f);
		return refuse(why, "it is truncated");
	}
	snap_digest(&f->h, f->tables, digest);
	if (memcmp(digest, f->h.digest, 32))
		r = refuse(why, "it is damaged: its checksum differs");
	else if (!find_arrays(f) || !maps_are_sound(f) || !layers_are_sound(f) || !extents_are_sound(f))
		r = refuse(why, "it is damaged: impossible tables");
	else if (!f->h.parent && !flatten(f))
		*why = "out of memory", r = -ENOMEM;
	if (r)
		snapfile_close(f);
	return r;
}

/* What a parent and its child must have in common, so that one's pages can lie over the other's. */
static int check_parent(const struct snap_file *child, const struct snap_file *parent, const char **why)
{
	if (memcmp(child->h.parent_digest, parent->h.digest, 32))
		return refuse(why, "its parent is not the snapshot that it was taken over");
	if (parent->h.ram_size > child->h.ram_size || parent->h.ram_max != child->h.ram_max)
		return refuse(why, "it is damaged: it does not fit its parent");
	return 0;
}

int snapfile_open_chain(struct snap_file *f, const int *fds, int n, const char **why)
{
	int r = snapfile_open(f, fds[0], why);

	if (r || !f->h.parent)
		return r;
	if (n < 2) {
		r = refuse(why, "its parent is not here");
	} else if ((f->parent = malloc(sizeof(*f->parent))) &&
		   (r = snapfile_open_chain(f->parent, fds + 1, n - 1, why))) {
		free(f->parent);
		f->parent = NULL;
	} else if (!f->parent ||
		   (!(r = check_parent(f, f->parent, why)) && !(r = patch(f, why)) && !flatten(f))) {
		*why = "out of memory";
		r = -ENOMEM;
	}
	if (r)
		snapfile_close(f);
	return r;
}

void snapfile_slim(struct snap_file *f)
{
	struct snap_file *p = f->parent;

	if (p) { /* what its patched pages are in is needed on */
		snapfile_slim(p);
		for (; p->n_own && f->n_own < SNAP_MAX_CHAIN; p->n_own--)
			f->own_fd[f->n_own++] = p->own_fd[p->n_own - 1];
		snapfile_close(p);
	}
	free(f->parent);
	free(f->tables);
	f->parent = NULL;
	f->tables = NULL;
}

void snapfile_close(struct snap_file *f)
{
	if (f->parent || f->tables)
		snapfile_slim(f);
	for (; f->n_own; f->n_own--)
		close(f->own_fd[f->n_own - 1]);
	free(f->flat);
	f->flat = NULL;
}

int snapfile_verify_pages(const struct snap_file *f, const char **why)
{
	uint8_t *buf = malloc(2ul * SNAP_EXTENT_PAGES * PG); /* no patch is longer */
	int r = 0;

	if (!buf)
		return *why = "out of memory", -ENOMEM;
	for (uint32_t i = 0; i < f->h.extents.count && !r; i++) {
		const struct snap_extent *e = &f->extents[i];
		size_t n = e->flags & SNAP_E_ZERO    ? 0
			   : e->flags & SNAP_E_PATCH ? e->len
						     : (size_t)e->pages * PG;

		if (!n)
			continue;
		if (pread(f->fd, buf, n, (off_t)e->off) != (ssize_t)n)
			r = refuse(why, "it is truncated");
		else if (snap_crc32c(0, buf, n) != e->crc)
			r = refuse(why, "it is damaged: a page's checksum differs");
	}
	for (uint32_t i = 0; i < f->h.layers.count && !r; i++) {
		const struct snap_layer *l = &f->layers[i];
		uint8_t print[32];

		if (l->off &&
		    (snap_layer_print(f->fd, l->off, l->size, print) || memcmp(print, l->print, 32)))
			r = refuse(why, "it is damaged: an embedded layer differs");
	}
	free(buf);
	return r;
}
