/* SPDX-License-Identifier: ISC */
/*
 * What snapshots of the store need stays: the layers of their images get a second name beside them (image/snapshots.c),
 * and what no snapshot needs any more goes with the last that did. What is missing all the same, because
 * a file was taken away or a snapshot came from elsewhere, is shown.
 *
 * Order: under the lock, layers first, then the snapshot's name; the snapshot's name first, then layers. A process that
 * dies in between leaves a layer too many, which the next removal finds.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "image/image.h"
#include "lib/host/say.h"
#include "monitor/snapshot.h"

static struct snapshot_info si; /* large; of the one that is looked at */

static void keep_layer(const char *name, int pins, const struct snapshot_layer_info *l, int given)
{
	uint64_t size;
	int fd = given >= 0 ? given : image_layer_by_id(l->id, &size), r;

	if (fd == -EINVAL)
		return; /* a file system of the user's own: theirs to keep */
	r = fd < 0 ? fd : image_layer_pin(pins, l->id, fd);
	if (r && r != -EINVAL)
		say("%s: its layer %s is not kept for it: %s; prune may take it away", name, l->id,
		    say_errno(-r));
	if (fd >= 0 && given < 0)
		close(fd);
}

void pins_keep(const char *name, int pins, int snap, const int *layer_fd, int n)
{
	const char *why;

	if (pins < 0 || snapshot_info(snap, &si, &why))
		return;
	for (int i = 0; i < si.n_layers; i++)
		if (!si.layers[i].embedded)
			keep_layer(name, pins, &si.layers[i], i < n ? layer_fd[i] : -1);
}

void pins_sweep(int pins, int store)
{
	int copy = openat(store, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct strings ids = {0};
	struct dirent *e;
	bool all = d != NULL;

	while (all && (e = readdir(d))) {
		const char *dot = strrchr(e->d_name, '.'), *why;
		int fd;

		if (e->d_name[0] == '.' || !dot || strcmp(dot, ".snap"))
			continue;
		fd = openat(store, e->d_name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
		/* what a damaged one needs is not known: all stays */
		all = fd >= 0 && !snapshot_info(fd, &si, &why);
		for (int i = 0; all && i < si.n_layers; i++)
			strings_add_once(&ids, si.layers[i].id);
		if (fd >= 0)
			close(fd);
	}
	if (d)
		closedir(d);
	if (all)
		image_pins_keep(pins, &ids);
	strings_free(&ids);
}

void pins_missing(const struct snapshot_info *info, int dir, struct strings *out)
{
	for (int i = 0; i < info->n_layers; i++) {
		uint64_t size;
		int fd = info->layers[i].embedded ? -EINVAL : image_layer_by_id(info->layers[i].id, &size);

		if (fd >= 0)
			close(fd);
		else if (fd != -EINVAL)
			strings_addf(out, "layer %s", info->layers[i].id);
	}
	if (info->delta) {
		bool other;
		int fd = snap_find(info->parent_digest, info->parent, dir, &other);

		if (fd >= 0)
			close(fd);
		else
			strings_addf(out, "snapshot %s", info->parent);
	}
}
