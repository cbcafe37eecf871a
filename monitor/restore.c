/* SPDX-License-Identifier: ISC */
/*
 * A restore takes the place of load.c: memory comes from a snapshot file, the
 * plan from its header. snapfile.c has checked every number of it; what
 * depends on this build, this CPU and what the user granted is checked here.
 *
 * RAM. kvm: RAM is private to us, so each extent is mapped from the file and read when it is touched; what
 * is written is copied by the host. process: RAM is a memfd that is shared with the guest process, so
 * it is filled. All else stays zero.
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
#include <time.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/lazy.h"
#include "monitor/load.h"
#include "monitor/ring_server.h"
#include "monitor/snapshot.h"

#define PG BOOT_PAGE_SIZE
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
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
		return say_fail(-1, "%s: the snapshot cannot be restored: its program had %u volumes, here are %d",
				cfg->name, f->h.volumes.count, cfg->n_volumes);
	for (int i = 0; i < cfg->n_volumes; i++) {
		const char *dir = snapfile_string(f, f->volumes[i].dir);

		if (strcmp(dir, cfg->volumes[i].guest_dir))
			return say_fail(-1, "%s: the snapshot cannot be restored: volume %d was %s and is %s here",
					cfg->name, i + 1, dir, cfg->volumes[i].guest_dir);
		if (cfg->volumes[i].ro && !f->volumes[i].ro)
			return say_fail(-1, "%s: the snapshot cannot be restored: volume %s was writable", cfg->name,
					dir);
	}
	return 0;
}

static int check_layers(const struct snap_file *f, struct monitor_config *c)
{
	if (f->h.layers.count > MONITOR_MAX_LAYERS || (int)f->h.layers.count != c->n_layers)
		return refuse(c, "it has another number of image layers");
	for (uint32_t i = 0; i < f->h.layers.count; i++) {
		const struct snap_layer *l = &f->layers[i];
		uint8_t print[32];

		if (l->off) {
			c->layer_fd[i] = f->fd;
			c->layer_size[i] = l->size;
			c->layer_off[i] = l->off;
		}
		if (c->layer_fd[i] < 0 || c->layer_size[i] != l->size ||
		    snap_layer_print(c->layer_fd[i], c->layer_off[i], l->size, print) ||
		    memcmp(print, l->print, sizeof(print)))
			return say_fail(-1, "%s: the snapshot cannot be restored: image layer %u (%s) is not the same",
					c->name, i + 1, snapfile_string(f, l->id));
	}
	return 0;
}

int restore_open(struct snap_file *f, const struct monitor_config *cfg, struct monitor_config *out)
{
	uint8_t libos[32];
	const char *why = "";
	int chain[SNAP_MAX_CHAIN] = {cfg->restore_fd};

	*out = *cfg;
	memcpy(chain + 1, cfg->restore_parent_fd, sizeof(cfg->restore_parent_fd));
	if (snapfile_open_chain(f, chain, 1 + cfg->n_restore_parents, &why))
		return refuse(cfg, why);
	out->ram_max = f->h.ram_max;
	out->uid = f->h.uid;
	out->gid = f->h.gid;
	if (load_libos_digest(libos))
		return -1;
	if (memcmp(libos, f->h.libos, sizeof(libos)))
		return refuse(cfg, "it was taken by another build of cowbell");
	return check_cpu(&f->h, cfg) || check_grants(f, cfg) || check_layers(f, out) ? -1 : 0;
}

/* --- memory ------------------------------------------------------------------------- */

static int map_extents(struct guest_mem *m, const struct snap_file *f)
{
	for (uint32_t i = 0; i < f->h.extents.count; i++) {
		const struct snap_extent *e = &f->extents[i];

		if (mmap(m->ram + e->gpa, (uint64_t)e->pages * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, f->fd,
			 (off_t)e->off) == MAP_FAILED)
			return say_fail(-1, "cannot map a snapshot: %s", strerror(errno));
		/* a fault of the guest on a page that is there costs a tenth of one that is not */
		madvise(m->ram + e->gpa, (uint64_t)e->pages * PG, MADV_POPULATE_READ);
	}
	return 0;
}

static int fill_ram(struct guest_mem *m, const struct snap_file *f)
{
	if (ftruncate(m->ram_fd, (off_t)m->ram_size))
		return say_fail(-1, "no guest memory: %s", strerror(errno));
	return lazy_open(m, f);
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
	uint32_t asked = BOOT_F_STRACE | BOOT_F_EGRESS_NONE | BOOT_F_MOVED;

	bi->plat = plat;
	bi->flags = (bi->flags & ~asked) | (cfg->strace ? BOOT_F_STRACE : 0) | (cfg->given ? BOOT_F_MOVED : 0) |
		    (cfg->n_egress ? 0 : BOOT_F_EGRESS_NONE);
	bi->generation = f->h.generation + 1;
	bi->xcr0 = f->h.xcr0;
	bi->xstate_size = f->h.xstate_size;
	snprintf(bi->hostname, sizeof(bi->hostname), "%s", cfg->hostname ? cfg->hostname : "");
	bi->ports_count = 0;
	for (int i = 0; i < cfg->n_ports && bi->ports_count < 64; i++)
		bi->ports[bi->ports_count++] = cfg->ports[i].guest;
	if (getrandom(bi->seed, sizeof(bi->seed), 0) != sizeof(bi->seed) ||
	    getrandom(bi->instance_id, sizeof(bi->instance_id), 0) != sizeof(bi->instance_id))
		__builtin_trap();
	bi->host_tty_mask = bi->host_file_mask = 0;
	for (int fd = 0; fd < 3; fd++) {
		bi->host_tty_mask |= (uint32_t)(isatty(fd) == 1) << fd;
		bi->host_file_mask |= (uint32_t)ring_server_writes_at_once(fd) << fd;
	}
	bi->log_level = cfg->verbose >= 2   ? BOOT_LOG_DEBUG
			: cfg->verbose == 1 ? BOOT_LOG_INFO
					    : BOOT_LOG_WARN;
	bi->n_regions = (uint32_t)m->n_regions;
	for (int i = 0; i < m->n_regions; i++)
		bi->regions[i] = m->regions[i].r;
}

int restore_guest(struct load_plan *plan, struct guest_mem *m, const struct snap_file *f,
		  const struct monitor_config *cfg, enum boot_plat plat)
{
	m->ram_size = f->h.ram_size;
	if (m->ram_size > m->ram_max || fill_plan(plan, m, f))
		return refuse(cfg, "it is damaged: its memory does not fit together");
	if (m->ram_fd >= 0 ? fill_ram(m, f) : map_extents(m, f))
		return -1;
	renew_boot_info(load_boot_info(m, plan), m, f, cfg, plat);
	return 0;
}

int restore_check_cpu(const struct guest_mem *m, const struct load_plan *plan, const struct snap_file *f)
{
	if (load_boot_info(m, plan)->xcr0 != f->h.xcr0)
		return say_fail(-1, "the snapshot cannot be restored: this monitor offers other vector registers");
	return 0;
}

/* --- clocks ---------------------------------------------------------------------------- */

static uint64_t now(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int64_t restore_clock_offset(const struct snap_file *f)
{
	uint64_t real = now(CLOCK_REALTIME), passed = real > f->h.real_ns ? real - f->h.real_ns : 0;

	return (int64_t)(now(CLOCK_MONOTONIC) - (f->h.mono_ns + passed));
}
