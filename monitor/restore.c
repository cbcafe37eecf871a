/* SPDX-License-Identifier: ISC */
/*
 * A restore takes the place of load.c: memory comes from a snapshot file, the
 * plan from its header. snapfile.c has checked every number of it; what
 * depends on this build, this CPU and what the user granted is checked here.
 *
 * RAM. kvm: RAM is private to us, so each extent is mapped from the file and read when it is touched; what
 * is written is copied by the host; the working set (workset.h) is there from the start. process: RAM is a memfd that
 * is shared with the guest process, so it is filled (lazy.h). All else stays zero.
 *
 * boot_info is the page that the guest had, with what is new in it: platform, seed, generation, identity of the
 * instance, what the streams are. The rest of it was never ours to believe.
 */
#include "monitor/restore.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/helper.h"
#include "monitor/lazy.h"
#include "monitor/load.h"
#include "monitor/memo.h"
#include "monitor/snapshot.h"
#include "monitor/workset.h"

#define PG	     BOOT_PAGE_SIZE
#define HELPER_PAGES 100 /* to make so many ready takes longer than a thread */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int refuse(const struct monitor_config *cfg, const char *why)
{
	return say_fail(-1, "%s: the snapshot cannot be restored: %s", cfg->name, why);
}

/* --- does it fit? ------------------------------------------------------------------ */

static int check_cpu(const struct snap_header *h, const struct monitor_config *cfg)
{
	struct boot_info here = {0};
	/* of leaf 1 ebx and edx of 0xd.0 tell of the CPU's number and momentary state, not of what it can do */
	static const uint32_t masks[16] = {0, 0, ~0u, ~0u, 0, ~0u, ~0u, ~0u, 0, 0, 0, 0, ~0u, 0, 0, 0};

	load_host_cpu(&here);
	for (int i = 0; i < 16; i++)
		if (h->cpu_features[i] & ~here.cpu_features[i] & masks[i])
			return refuse(cfg, "this CPU lacks features that its program may use");
	if (h->xcr0 & ~here.xcr0 || here.xstate_size < h->xstate_size)
		return refuse(cfg, "this CPU lacks vector registers that its program may use");
	return 0;
}

static int check_grants(const struct snap_file *f, const struct monitor_config *cfg)
{
	if (f->h.volumes.count != (uint32_t)cfg->n_volumes)
		return say_fail(
			-1, "%s: the snapshot cannot be restored: its program had %u volumes, here are %d",
			cfg->name, f->h.volumes.count, cfg->n_volumes);
	for (int i = 0; i < cfg->n_volumes; i++) {
		const char *dir = snapfile_string(f, f->volumes[i].dir);

		if (strcmp(dir, cfg->volumes[i].guest_dir))
			return say_fail(
				-1, "%s: the snapshot cannot be restored: volume %d was %s and is %s here",
				cfg->name, i + 1, dir, cfg->volumes[i].guest_dir);
	}
	return 0;
}

/*
 * What an earlier restore compared with the snapshot, and found to fit: the program that holds the library OS, and the
 * layers. A file that was not touched since need not be read again.
 */
struct known {
	uint8_t digest[32]; /* of the snapshot */
	struct memo_stamp exe, layer[SNAP_MAX_LAYERS];
};

static bool known_read(struct known *k, int dir, const uint8_t digest[32])
{
	char name[MEMO_NAME];

	memo_name(name, "known", digest);
	if (memo_read(dir, name, k, sizeof(*k)) && !memcmp(k->digest, digest, 32))
		return true;
	memset(k, 0, sizeof(*k));
	memcpy(k->digest, digest, 32);
	return false;
}

static void known_write(const struct known *k, int dir)
{
	char name[MEMO_NAME];

	memo_name(name, "known", k->digest);
	memo_write(dir, name, k, sizeof(*k));
}

/* *changed: something had to be read. */
static int check_libos(const struct snap_file *f, const struct monitor_config *cfg, struct known *k,
		       bool *changed)
{
	struct memo_stamp exe = {0};
	uint8_t libos[32];

	if (cfg->memo_dir > 0)
		exe = memo_stamp(-1, "/proc/self/exe");
	if (memo_same(&exe, &k->exe))
		return 0;
	*changed = true;
	k->exe = exe;
	if (load_libos_digest(libos))
		return -1;
	if (memcmp(libos, f->h.libos, sizeof(libos)))
		return refuse(cfg, "it was taken by another build of cowbell");
	return 0;
}

static bool layer_fits(const struct snap_layer *l, int fd, uint64_t off, struct memo_stamp *seen,
		       bool *changed)
{
	struct memo_stamp now = memo_stamp(fd, NULL);
	uint8_t print[32];

	if (memo_same(&now, seen))
		return true;
	*changed = true;
	*seen = now;
	return !snap_layer_print(fd, off, l->size, print) && !memcmp(print, l->print, sizeof(print));
}

static int check_layers(const struct snap_file *f, struct monitor_config *c, struct known *k, bool *changed)
{
	if (f->h.layers.count > MONITOR_MAX_LAYERS || (int)f->h.layers.count != c->n_layers)
		return refuse(c, "it has another number of image layers");
	for (uint32_t i = 0; i < f->h.layers.count; i++) {
		const struct snap_layer *l = &f->layers[i];

		c->layer_window[i] = (uint64_t)l->window * PG;
		if (c->prefix && (int)i == c->app_layer - 1) {
			if (c->layer_fd[i] < 0 || c->layer_size[i] > c->layer_window[i])
				return refuse(c, "the app's layer does not fit");
			continue;
		}
		if (l->off) {
			c->layer_fd[i] = f->fd;
			c->layer_size[i] = l->size;
			c->layer_off[i] = l->off;
		}
		if (c->layer_fd[i] < 0 || c->layer_size[i] != l->size ||
		    !layer_fits(l, c->layer_fd[i], c->layer_off[i], &k->layer[i], changed))
			return say_fail(
				-1,
				"%s: the snapshot cannot be restored: image layer %u (%s) is not the same",
				c->name, i + 1, snapfile_string(f, l->id));
	}
	return 0;
}

int restore_open(struct snap_file *f, const struct monitor_config *cfg, struct monitor_config *out)
{
	struct known k = {0};
	bool changed = false;
	struct stat st;
	const char *why = "";
	int chain[SNAP_MAX_CHAIN] = {cfg->restore_fd};

	*out = *cfg;
	memcpy(chain + 1, cfg->restore_parent_fd, sizeof(cfg->restore_parent_fd));
	if (snapfile_open_chain(f, chain, 1 + cfg->n_restore_parents, &why))
		return refuse(cfg, why);
	out->ram_max = f->h.ram_max;
	out->uid = f->h.uid;
	if (!out->stop_signal && f->h.stop_signal <= 64)
		out->stop_signal = (int)f->h.stop_signal;
	out->gid = f->h.gid;
	if (!fstat(cfg->restore_fd, &st) && !st.st_nlink)
		out->memo_dir = 0; /* made for this start only: of a clone or a move */
	known_read(&k, out->memo_dir, f->h.digest);
	if (check_libos(f, out, &k, &changed) || check_cpu(&f->h, cfg) || check_grants(f, cfg) ||
	    check_layers(f, out, &k, &changed))
		return -1;
	if (changed)
		known_write(&k, out->memo_dir);
	return 0;
}

/* --- memory ------------------------------------------------------------------------- */

/* One mapping for entries that follow one another in RAM and in the file: each mapping costs some microseconds. */
static uint32_t run_of(const struct snap_file *f, uint32_t i, uint64_t *len)
{
	const struct snap_flat *e = &f->flat[i];

	*len = 0;
	do
		*len += (uint64_t)f->flat[i++].pages * PG;
	while (i < f->n_flat && f->flat[i].fd == e->fd && f->flat[i].gpa - e->gpa == *len &&
	       f->flat[i].off - e->off == *len);
	return i;
}

static int map_extents(struct guest_mem *m, const struct snap_file *f)
{
	uint64_t len;

	for (uint32_t i = 0, next; i < f->n_flat; i = next) {
		const struct snap_flat *e = &f->flat[i];

		next = run_of(f, i, &len);
		if (mmap(m->ram + e->gpa, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, e->fd,
			 (off_t)e->off) == MAP_FAILED)
			return say_fail(-1, "cannot map a snapshot: %s", strerror(errno));
	}
	return 0;
}

/*
 * Pages that the first restored run wrote to get their private copy now, in one go: the guest's fault on one that has to be
 * copied costs three times that. What it only read is left to its faults, each of which brings sixteen pages along: to map it
 * ahead was measured to cost more than it saves. Without a memo nothing is known, and the run that makes one must
 * leave alone what it does not touch.
 */
static struct {
	struct helper helper;
	uint8_t *ram;
	struct workset ws;
} filler;

static void *fill(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < filler.ws.n; i++)
		if (filler.ws.range[i].flags & WORKSET_WRITTEN)
			madvise(filler.ram + filler.ws.range[i].gpa, (uint64_t)filler.ws.range[i].pages * PG,
				MADV_POPULATE_WRITE);
	return NULL;
}

static void populate(struct guest_mem *m, const struct snap_file *f, const struct monitor_config *cfg,
		     const char *kind)
{
	uint64_t pages = 0;

	if (!workset_open(&filler.ws, cfg->memo_dir, f->h.digest, kind, m->ram_size))
		return;
	filler.ram = m->ram;
	for (uint32_t i = 0; i < filler.ws.n; i++)
		pages += filler.ws.range[i].flags & WORKSET_WRITTEN ? filler.ws.range[i].pages : 0;
	if (pages < HELPER_PAGES)
		fill(NULL);
	else
		helper_start(&filler.helper, fill, NULL);
}

void restore_wait(void)
{
	helper_join(&filler.helper);
	workset_free(&filler.ws);
}

static int fill_ram(struct guest_mem *m, const struct snap_file *f, const struct monitor_config *cfg,
		    const char *kind)
{
	struct workset ws;
	int r;

	if (ftruncate(m->ram_fd, (off_t)m->ram_size))
		return say_fail(-1, "no guest memory: %s", strerror(errno));
	workset_open(&ws, cfg->memo_dir, f->h.digest, kind, m->ram_size);
	r = lazy_open(m, f, &ws);
	workset_free(&ws);
	return r;
}

/* --- the plan ------------------------------------------------------------------------ */

static bool in_region(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
	for (int i = 0; i < m->n_regions; i++) {
		const struct boot_region *r = &m->regions[i].r;

		if (gpa >= r->gpa && gpa - r->gpa < r->size && len <= r->size - (gpa - r->gpa))
			return true;
	}
	return false;
}

static int fill_plan(struct load_plan *p, struct guest_mem *m, const struct snap_file *f)
{
	const struct snap_header *h = &f->h;

	memset(p, 0, sizeof(*p));
	if (load_symbols(p, h->libos_va) || !p->sym_resume)
		return -1;
	p->entry = p->sym_resume;
	p->stack_top = h->stack_top;
	p->exc_stack_top = h->exc_stack_top;
	p->boot_info_va = h->boot_info_va;
	p->cr3_gpa = h->cr3_gpa;
	p->cpu_va = h->cpu_va;
	p->stub_va = h->stub_va;
	p->stub_gpa = h->stub_gpa;
	p->vcpu_gpa = h->vcpu_gpa;
	p->ring_gpa = h->ring_gpa;
	p->boot_info_gpa = h->boot_info_gpa;
	p->time_gpa = h->time_gpa;
	p->stats_gpa = h->stats_gpa;
	for (uint32_t i = 0; i < h->maps.count; i++) {
		const struct snap_map *s = &f->maps[i];

		if (s->gpa >= BOOT_IMAGE_GPA && !in_region(m, s->gpa, s->len))
			return -1;
		p->maps[p->n_maps++] = (struct load_map){s->va, s->gpa, s->len, s->prot};
	}
	m->regions[0].r.va = p->libos_text_va;
	for (int i = 1; i < m->n_regions; i++)
		m->regions[i].r.va = f->layers[i - 1].va;
	return 0;
}

static void renew_boot_info(struct boot_info *bi, const struct guest_mem *m, const struct snap_file *f,
			    const struct monitor_config *cfg, enum boot_plat plat)
{
	uint32_t asked =
		BOOT_F_STRACE | BOOT_F_EGRESS_NONE | BOOT_F_PREFIX_MAKE | BOOT_F_PREFIX_GO | BOOT_F_STANDBY;

	bi->plat = plat;
	bi->flags = (bi->flags & ~asked) | (cfg->strace ? BOOT_F_STRACE : 0) |
		    (cfg->n_egress ? 0 : BOOT_F_EGRESS_NONE) | (cfg->prefix ? BOOT_F_PREFIX_GO : 0) |
		    (cfg->standby_fd ? BOOT_F_STANDBY : 0);
	bi->generation = f->h.generation + !cfg->given; /* moved: it is the same instance */
	bi->xcr0 = f->h.xcr0;
	bi->xstate_size = f->h.xstate_size;
	snprintf(bi->hostname, sizeof(bi->hostname), "%s", cfg->hostname ? cfg->hostname : "");
	if (getrandom(bi->seed, sizeof(bi->seed), 0) != sizeof(bi->seed) ||
	    getrandom(bi->instance_id, sizeof(bi->instance_id), 0) != sizeof(bi->instance_id))
		__builtin_trap();
	if (cfg->given)
		memcpy(bi->instance_id, f->h.instance_id, sizeof(bi->instance_id));
	load_surroundings(bi, m, cfg);
}

int restore_guest(struct load_plan *plan, struct guest_mem *m, const struct snap_file *f,
		  const struct monitor_config *cfg, enum boot_plat plat)
{
	m->ram_size = f->h.ram_size;
	if (m->ram_size > m->ram_max || fill_plan(plan, m, f))
		return refuse(cfg, "it is damaged: its memory does not fit together");
	if (m->ram_fd >= 0 ? fill_ram(m, f, cfg, "process") : map_extents(m, f))
		return -1;
	if (m->ram_fd < 0)
		populate(m, f, cfg, "kvm");
	renew_boot_info(load_boot_info(m, plan), m, f, cfg, plat);
	return 0;
}

int restore_check_cpu(const struct guest_mem *m, const struct load_plan *plan, const struct snap_file *f)
{
	if (load_boot_info(m, plan)->xcr0 != f->h.xcr0)
		return say_fail(
			-1, "the snapshot cannot be restored: this monitor offers other vector registers");
	return 0;
}

/* --- clocks ---------------------------------------------------------------------------- */

static uint64_t now(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int64_t restore_clock_offset(const struct snap_file *f, bool prefix)
{
	uint64_t real = now(CLOCK_REALTIME), passed = real > f->h.real_ns ? real - f->h.real_ns : 0;

	if (prefix) /* it starts now */
		passed = 0;

	return (int64_t)(now(CLOCK_MONOTONIC) - (f->h.mono_ns + passed));
}
