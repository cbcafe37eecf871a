/* SPDX-License-Identifier: ISC */
/* What is in a snapshot file, for the commands: needs no instance. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "monitor/snapfile.h"
#include "monitor/snapshot.h"

/* Commands print it: a file must not drive the terminal. */
static void text(char *to, size_t size, const struct snap_file *f, uint32_t off)
{
	snprintf(to, size, "%s", snapfile_string(f, off));
	for (; *to; to++)
		if ((unsigned char)*to < 0x20 || *to == 0x7f)
			*to = '?';
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
	si->delta = h->parent;
	if (si->delta)
		text(si->parent, sizeof(si->parent), &f, h->parent);
	memcpy(si->parent_digest, h->parent_digest, sizeof(si->parent_digest));
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

int snapshot_ids(int fd, struct snapshot_ids *ids)
{
	struct snap_header h;
	ssize_t n = pread(fd, &h, sizeof(h), 0);

	if (n != sizeof(h) || h.magic != SNAP_MAGIC || h.version != SNAP_VERSION)
		return n < 0 ? -errno : -EBADMSG;
	ids->delta = h.parent;
	memcpy(ids->digest, h.digest, sizeof(ids->digest));
	memcpy(ids->parent, h.parent_digest, sizeof(ids->parent));
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
