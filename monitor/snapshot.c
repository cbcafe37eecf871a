/* SPDX-License-Identifier: ISC */
/*
 * Taking a snapshot, and telling what is in one.
 *
 *   snapshot_begin() -> ring event -> guest rests -> TURN_FROZEN -> snapshot_take() -> done(), thaw
 *
 * While the guest rests nothing changes its memory, so one pass finds the pages
 * that are not zero, and a second writes them. Neighbouring extents are joined over a few zero pages: a
 * mapping costs more than they do. Pages of the image are not RAM and are not here.
 */
#include "monitor/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "monitor/clock.h"
#include "monitor/instance.h"
#include "monitor/lazy.h"
#include "monitor/load.h"
#include "monitor/ring_server.h"
#include "monitor/seccomp.h"
#include "monitor/snap_handles.h"
#include "monitor/snapfile.h"

HOST_SYSCALL(snapshot, pwritev2);
HOST_SYSCALL(snapshot, pwrite64);
HOST_SYSCALL(snapshot, pread64);
HOST_SYSCALL(snapshot, lseek);
HOST_SYSCALL(snapshot, ftruncate);
HOST_SYSCALL(snapshot, fdatasync);

#define PG	   SNAP_PAGE
#define UP(x)	   (((uint64_t)(x) + (PG - 1)) & ~(uint64_t)(PG - 1))
#define JOIN_PAGES 16u /* zero pages between two extents that are written rather than told apart */

/* --- before the filter ------------------------------------------------------------- */

/* What must be found out while files may still be looked at. */
int snapshot_prepare(struct instance *in)
{
	const struct monitor_config *cfg = in->cfg;
	struct snap_source *src = calloc(1, sizeof(*src));

	if (!src)
		return -ENOMEM;
	for (int i = 0; i < cfg->n_layers; i++) {
		struct stat st;
		char link[64];
		ssize_t n = 0;

		if (fstat(cfg->layer_fd[i], &st))
			continue;
		/* made for this run, or embedded in the snapshot that we come from */
		src->embed[i] = st.st_nlink == 0 || cfg->layer_off[i];
		if (cfg->layer_id[i]) {
			snprintf(src->id[i], sizeof(src->id[i]), "%s", cfg->layer_id[i]);
		} else if (!src->embed[i]) {
			snprintf(link, sizeof(link), "/proc/self/fd/%d", cfg->layer_fd[i]);
			n = readlink(link, src->id[i], sizeof(src->id[i]) - 1);
			src->id[i][n > 0 ? n : 0] = 0;
		}
	}
	in->snap.src = src;
	return 0;
}

/* Once, and only if a snapshot is taken at all. */
static int hash_source(struct instance *in)
{
	struct snap_source *src = in->snap.src;
	int r = src->hashed ? 0 : load_libos_digest(src->libos);

	for (int i = 0; i < in->cfg->n_layers && !src->hashed && !r; i++)
		r = snap_layer_print(in->cfg->layer_fd[i], in->cfg->layer_off[i], in->cfg->layer_size[i],
				     src->print[i]);
	src->hashed = !r;
	return r;
}

int snapshot_begin(struct instance *in, int fd, snapshot_done_fn *done, void *arg)
{
	int r;

	if (!in->snap.src)
		return -ENOTSUP;
	if (in->snap.done)
		return -EBUSY;
	r = hash_source(in);
	if (!r)
		r = lazy_fill_all(&in->mem);
	if (r)
		return r;
	in->snap.fd = fd;
	in->snap.done = done;
	in->snap.arg = arg;
	ring_server_freeze(in->rs);
	in->backend->kick(in->ctx);
	return 0;
}

void snapshot_watch_ready(struct instance *in, bool on)
{
	ring_server_watch_ready(in->rs, on);
}

bool snapshot_is_ready(const struct instance *in)
{
	return ring_server_is_ready(in->rs);
}

/* --- which pages --------------------------------------------------------------------- */

struct extents {
	struct snap_extent *e;
	uint32_t n, cap;
	uint64_t pages, used;
	const uint8_t *census; /* of the first n_census pages; hostile */
	uint64_t n_census, free_gpa; /* the last FREE page so far */
	bool failed;
};

static bool is_zero(const uint8_t *page)
{
	const uint64_t *p = (const uint64_t *)page;

	for (unsigned i = 0; i < PG / 8; i += 8)
		if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] | p[i + 7])
			return false;
	return true;
}

static void add_page(struct extents *x, uint64_t gpa, uint32_t flags)
{
	struct snap_extent *last = x->n ? &x->e[x->n - 1] : NULL;
	uint64_t gap = last ? (gpa - last->gpa) / PG - last->pages : 0;

	x->used++;
	/* over zero pages, but not over FREE ones, which are not zero here and must be so in the file */
	if (last && gap <= JOIN_PAGES && last->pages + gap < SNAP_EXTENT_PAGES && last->flags == flags &&
	    x->free_gpa <= last->gpa) {
		last->pages += (uint32_t)gap + 1;
		x->pages += gap + 1;
		return;
	}
	if (x->n == x->cap) {
		uint32_t cap = x->cap ? x->cap * 2 : 256;
		struct snap_extent *e = cap <= SNAP_MAX_EXTENTS ? realloc(x->e, cap * sizeof(*e)) : NULL;

		if (!e) {
			x->failed = true;
			return;
		}
		x->e = e;
		x->cap = cap;
	}
	x->e[x->n++] = (struct snap_extent){.gpa = gpa, .pages = 1, .flags = flags};
	x->pages++;
}

static void add_range(struct extents *x, const struct guest_mem *m, uint64_t gpa, uint64_t end)
{
	for (; gpa < end && !x->failed; gpa += PG) {
		uint8_t kind = gpa / PG < x->n_census ? x->census[gpa / PG] : SNAP_FRAME_KERNEL;

		if (kind == SNAP_FRAME_FREE)
			x->free_gpa = gpa;
		else if (!is_zero(m->ram + gpa))
			add_page(x, gpa, kind == SNAP_FRAME_USER ? SNAP_E_USER : 0);
	}
}

/* A look at a page of a memfd that nobody used would create it: only what is there is looked at. */
static void find_extents(struct extents *x, const struct guest_mem *m)
{
	uint64_t at = 0, end;
	off_t r;

	if (m->ram_fd < 0) {
		add_range(x, m, 0, m->ram_size);
		return;
	}
	while (at < m->ram_size && (r = lseek(m->ram_fd, (off_t)at, SEEK_DATA)) >= 0) {
		at = (uint64_t)r & ~(uint64_t)(PG - 1);
		r = lseek(m->ram_fd, (off_t)at, SEEK_HOLE);
		end = r < 0 || (uint64_t)r > m->ram_size ? m->ram_size : (uint64_t)r;
		add_range(x, m, at, end);
		at = end;
	}
}

/* --- the tables ------------------------------------------------------------------------ */

struct image {
	struct snap_header h;
	uint8_t *tables;
	uint64_t used, cap;
	struct extents x;
	struct snap_layer layers[MONITOR_MAX_LAYERS];
	struct snap_tables t;
};

static struct snap_array put(struct image *im, const void *p, uint32_t count, size_t size)
{
	struct snap_array a = {.off = (uint32_t)(PG + im->used), .count = count};

	if (count)
		memcpy(im->tables + im->used, p, count * size);
	im->used += (count * size + 7) & ~7ul;
	return a;
}

static void describe(struct instance *in, struct image *im)
{
	const struct load_plan *p = &in->plan;
	const struct boot_info *bi = load_boot_info(&in->mem, p);
	struct snap_header *h = &im->h;

	*h = (struct snap_header){
		.magic = SNAP_MAGIC,
		.version = SNAP_VERSION,
		.size = sizeof(*h),
		.plat = in->backend == &backend_kvm ? BOOT_PLAT_KVM : BOOT_PLAT_PROCESS,
		.ram_size = in->mem.ram_size,
		.ram_max = in->mem.ram_max,
		.xcr0 = bi->xcr0,
		.xstate_size = bi->xstate_size,
		.generation = bi->generation,
		.uid = in->cfg->uid,
		.gid = in->cfg->gid,
		.boot_flags = bi->flags,
		.cfg_flags = (in->cfg->n_egress ? SNAP_F_EGRESS : 0) | (in->cfg->tty ? SNAP_F_TTY : 0),
		.boot_info_va = p->boot_info_va,
		.cr3_gpa = p->cr3_gpa,
		.stack_top = p->stack_top,
		.exc_stack_top = p->exc_stack_top,
		.cpu_va = p->cpu_va,
		.stub_va = p->stub_va,
		.stub_gpa = p->stub_gpa,
		.vcpu_gpa = p->vcpu_gpa,
		.ring_gpa = p->ring_gpa,
		.boot_info_gpa = p->boot_info_gpa,
		.time_gpa = p->time_gpa,
		.stats_gpa = p->stats_gpa,
		.libos_va = p->libos_text_va,
	};
	memcpy(h->libos, in->snap.src->libos, sizeof(h->libos));
	memcpy(h->cpu_features, bi->cpu_features, sizeof(h->cpu_features));
	memcpy(h->instance_id, bi->instance_id, sizeof(h->instance_id));
	clock_guest_now(in->time, &h->mono_ns, &h->real_ns);
}

/* Everything but the pages' places. */
static int make_tables(struct instance *in, struct image *im)
{
	const struct monitor_config *cfg = in->cfg;
	struct snap_map maps[SNAP_MAX_MAPS];
	struct snap_port ports[MONITOR_MAX_PORTS];
	struct snap_volume volumes[MONITOR_MAX_VOLUMES];
	struct snap_tables *t = &im->t;
	struct snap_header *h = &im->h;
	uint32_t n_maps = (uint32_t)in->plan.n_maps;

	snap_put_string(t, "");
	h->name = snap_put_string(t, cfg->name);
	h->exe = snap_put_string(t, cfg->exe);
	h->hostname = snap_put_string(t, cfg->hostname);
	if (!ring_server_save(in->rs, t, h))
		return -ENOMEM;
	for (uint32_t i = 0; i < n_maps; i++)
		maps[i] = (struct snap_map){in->plan.maps[i].va, in->plan.maps[i].gpa, in->plan.maps[i].len,
					    in->plan.maps[i].prot, 0};
	for (int i = 0; i < cfg->n_ports; i++)
		ports[i] = (struct snap_port){cfg->ports[i].guest, 0};
	for (int i = 0; i < cfg->n_volumes; i++)
		volumes[i] = (struct snap_volume){snap_put_string(t, cfg->volumes[i].guest_dir), cfg->volumes[i].ro};
	for (int i = 0; i < cfg->n_layers; i++) {
		im->layers[i] = (struct snap_layer){.size = cfg->layer_size[i],
						    .va = in->mem.regions[i + 1].r.va,
						    .id = snap_put_string(t, in->snap.src->id[i])};
		memcpy(im->layers[i].print, in->snap.src->print[i], 32);
	}
	im->cap = UP(im->x.n * sizeof(struct snap_extent) + sizeof(maps) + sizeof(ports) + sizeof(volumes) +
		     sizeof(im->layers) + t->n_handles * sizeof(struct snap_handle) +
		     t->n_requests * sizeof(struct snap_request) + t->n_strings + 8 * 16);
	im->tables = calloc(1, im->cap);
	if (!im->tables || t->failed || im->cap > SNAP_TABLES_MAX)
		return -ENOMEM;
	h->tables_len = im->cap;
	h->data_off = PG + im->cap;
	h->maps = put(im, maps, n_maps, sizeof(maps[0]));
	h->handles = put(im, t->handles, t->n_handles, sizeof(*t->handles));
	h->requests = put(im, t->requests, t->n_requests, sizeof(*t->requests));
	h->ports = put(im, ports, (uint32_t)cfg->n_ports, sizeof(ports[0]));
	h->volumes = put(im, volumes, (uint32_t)cfg->n_volumes, sizeof(volumes[0]));
	h->strings = put(im, t->strings, t->n_strings, 1);
	return 0;
}

/* --- writing ------------------------------------------------------------------------------ */

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

static int copy_layer(int out, uint64_t off, int fd, uint64_t from, uint64_t size)
{
	uint8_t buf[4 * PG];
	int r = 0;

	for (uint64_t done = 0; done < size && !r;) {
		ssize_t n = pread(fd, buf, size - done < sizeof(buf) ? size - done : sizeof(buf), (off_t)(from + done));

		if (n <= 0)
			return n ? -errno : -EIO;
		r = write_all(out, buf, (uint64_t)n, off + done);
		done += (uint64_t)n;
	}
	return r;
}

static int write_pages(struct instance *in, struct image *im, int fd)
{
	uint64_t off = im->h.data_off;
	int r = 0;

	for (int i = 0; i < in->cfg->n_layers && !r; i++) {
		if (!in->snap.src->embed[i])
			continue;
		im->layers[i].off = off;
		r = copy_layer(fd, off, in->cfg->layer_fd[i], in->cfg->layer_off[i], im->layers[i].size);
		off += UP(im->layers[i].size);
	}
	for (uint32_t i = 0; i < im->x.n && !r; i++) {
		struct snap_extent *e = &im->x.e[i];
		uint64_t len = (uint64_t)e->pages * PG;

		e->off = off;
		e->crc = snap_crc32c(0, in->mem.ram + e->gpa, len);
		r = write_all(fd, in->mem.ram + e->gpa, len, off);
		off += len;
	}
	im->h.file_size = off;
	return r ? r : ftruncate(fd, (off_t)off) ? -errno : 0;
}

static int write_file(struct instance *in, struct image *im, int fd)
{
	int r = write_pages(in, im, fd);

	if (r)
		return r;
	im->h.extents = put(im, im->x.e, im->x.n, sizeof(*im->x.e));
	im->h.layers = put(im, im->layers, (uint32_t)in->cfg->n_layers, sizeof(im->layers[0]));
	im->h.stored_pages = (uint32_t)im->x.pages;
	snap_digest(&im->h, im->tables, im->h.digest);
	r = write_all(fd, im->tables, im->h.tables_len, PG);
	if (!r)
		r = write_all(fd, &im->h, sizeof(im->h), 0);
	return r;
}

static uint64_t ns_now(void)
{
	return clock_ns_now();
}

void snapshot_take(struct instance *in)
{
	struct snapshot_result result = {0};
	snapshot_done_fn *done = in->snap.done;
	struct image im = {0};
	uint64_t start = ns_now();
	int r;

	describe(in, &im);
	im.x.census = ring_server_census(in->rs, &im.x.n_census);
	if (!im.x.census)
		im.x.n_census = 0;
	find_extents(&im.x, &in->mem);
	r = im.x.failed ? -ENOMEM : make_tables(in, &im);
	if (!r)
		r = write_file(in, &im, in->snap.fd);
	result.bytes = im.h.file_size;
	result.pages = im.x.pages;
	result.pause_ns = ns_now() - start;
	free(im.tables);
	free(im.x.e);
	snap_tables_free(&im.t);
	in->snap.done = NULL;
	ring_server_thaw(in->rs, 0);
	if (!r && fdatasync(in->snap.fd) && errno != EINVAL && errno != EROFS)
		r = -errno;
	done(in->snap.arg, r, r ? strerror(-r) : "", &result);
}

/* --- what is in a file ---------------------------------------------------------------------- */

static void text(char *to, size_t size, const struct snap_file *f, uint32_t off)
{
	snprintf(to, size, "%s", snapfile_string(f, off));
}

int snapshot_info(int fd, struct snapshot_info *si, const char **why)
{
	struct snap_file f;
	int r = snapfile_open(&f, fd, why);
	const struct snap_header *h = &f.h;

	if (r)
		return r;
	*si = (struct snapshot_info){
		.version = h->version,
		.plat = h->plat,
		.file_size = h->file_size,
		.ram_size = h->ram_size,
		.ram_max = h->ram_max,
		.stored_bytes = h->file_size - h->data_off,
		.generation = h->generation,
		.real_ns = h->real_ns,
		.egress = h->cfg_flags & SNAP_F_EGRESS,
		.tty = h->cfg_flags & SNAP_F_TTY,
		.uid = h->uid,
		.gid = h->gid,
		.n_handles = h->handles.count,
		.n_ports = (int)h->ports.count,
		.n_volumes = (int)h->volumes.count,
	};
	memcpy(si->digest, h->digest, sizeof(si->digest));
	memcpy(si->instance_id, h->instance_id, sizeof(si->instance_id));
	text(si->name, sizeof(si->name), &f, h->name);
	text(si->exe, sizeof(si->exe), &f, h->exe);
	text(si->hostname, sizeof(si->hostname), &f, h->hostname);
	for (uint32_t i = 0; i < h->layers.count && i < MONITOR_MAX_LAYERS; i++) {
		struct snapshot_layer_info *l = &si->layers[si->n_layers++];

		l->size = f.layers[i].size;
		l->embedded = f.layers[i].off;
		text(l->id, sizeof(l->id), &f, f.layers[i].id);
	}
	for (int i = 0; i < si->n_ports; i++)
		si->ports[i] = f.ports[i].guest;
	for (int i = 0; i < si->n_volumes; i++) {
		text(si->volumes[i].dir, sizeof(si->volumes[i].dir), &f, f.volumes[i].dir);
		si->volumes[i].ro = f.volumes[i].ro;
	}
	for (uint32_t i = 0; i < h->handles.count; i++)
		si->n_connections += f.handles[i].kind == SNAP_H_DEAD;
	snapfile_close(&f);
	return 0;
}

int snapshot_verify(int fd, const char **why)
{
	struct snap_file f;
	int r = snapfile_open(&f, fd, why);

	if (!r) {
		r = snapfile_verify_pages(&f, why);
		snapfile_close(&f);
	}
	return r;
}
