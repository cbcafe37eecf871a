// SPDX-License-Identifier: ISC
/*
 * libFuzzer target: tar files that carry images (image/oci/tarfile.c, layout.c, docker.c), opened as both kinds, their manifest
 * and blobs fetched.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/oci/import.h"
#include "image/store/inside.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* As much of a store as temporary files need. */
static struct store store;

static void remove_store(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%.40s/tmp", store.path);
	rmdir(path);
	rmdir(store.path);
}

static void make_store(void)
{
	strcpy(store.path, access("/dev/shm", W_OK) ? "/tmp/fuzz-XXXXXX" : "/dev/shm/fuzz-XXXXXX");
	if (!mkdtemp(store.path))
		abort();
	store.dir = open(store.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (store.dir < 0 || mkdirat(store.dir, "tmp", 0700))
		abort();
	atexit(remove_store);
}

static void fetch(struct image_source *src)
{
	struct oci_manifest m;
	char *data, type[128];
	size_t n;
	int fd;

	if (!src->manifest(src->arg, &data, &n, type)) {
		if (!oci_manifest_parse(data, n, &m)) {
			for (size_t i = 0; i < m.n_layers && i < 4; i++)
				if (!src->blob(src->arg, &m.layers[i], &fd))
					close(fd);
			oci_manifest_free(&m);
		}
		free(data);
	}
	src->close(src->arg);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct image_source src;
	static int fd = -1;
	char path[40];

	if (fd < 0) {
		make_store();
		fd = memfd_create("archive", 0);
	}
	if (ftruncate(fd, 0) || pwrite(fd, data, size, 0) != (ssize_t)size)
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (!source_open_docker_archive(&store, path, NULL, &src))
		fetch(&src);
	if (!source_open_docker_archive(&store, path, "a:b", &src))
		fetch(&src);
	if (!source_open_oci_archive(&store, path, NULL, &src))
		fetch(&src);
	return 0;
}
