/* SPDX-License-Identifier: ISC */
/*
 * What a build step sees, as arguments for bubblewrap:
 *
 *   /usr, and the links to it     read-only; its etc directories empty, since they may hold the host's passwords
 *   /etc                          passwd, group, hosts and nsswitch.conf of ours; links, certificates and compilers' settings
 *                                 of the host; resolv.conf only for a step with network
 *   /proc, /dev                   fresh ones of its own pid namespace and without any device of the host
 *   /tmp, /dev/shm                memory, bounded
 *   /app                          the build directory, the only thing that it can change
 *   /cache                        only for steps with network: these run no code of the app's, so none can poison the cache
 *
 * Everything else of the host does not exist there. All namespaces are new (the network's too, unless the step needs
 * it), the session is new (no terminal to type into), no capability is left, none can be had in a user
 * namespace of its own, and a seccomp filter takes system calls away that only an attack on the kernel would make.
 *
 * Bubblewrap itself starts with an empty environment: its first process is visible in the sandbox's /proc, and
 * /proc/1/environ would be the caller's secrets.
 */
#include "image/build/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define TMP_BYTES      "1073741824"
#define SHM_BYTES      "67108864"
#define MAX_FSIZE      (2ull << 30)
#define MAX_PROCESSES  2048 /* and threads, of this sandbox alone: the count is per user namespace */
#define MAX_DISK_FILES 1000000u
#define MAX_DEPTH      200 /* a descriptor each */

/* --- files and arguments -------------------------------------------------------------------------------------- */
static int text_file(const char *data, size_t size)
{
	int fd = memfd_create("cowbell", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	for (size_t done = 0; done < size;) {
		ssize_t m = write(fd, data + done, size - done);
		if (m <= 0) {
			close(fd);
			return -EIO;
		}
		done += (size_t)m;
	}
	lseek(fd, 0, SEEK_SET);
	return fd;
}

/* Keep a descriptor for bubblewrap; gives it back, or the error. */
static int keep(struct sandbox_fds *fds, int fd)
{
	if (fd >= 0 && fds->n < SANDBOX_MAX_FDS) {
		fds->fd[fds->n++] = fd;
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : -EMFILE;
}

static void add(struct strings *a, const char *w1, const char *w2, const char *w3)
{
	strings_add(a, w1);
	if (w2)
		strings_add(a, w2);
	if (w3)
		strings_add(a, w3);
}

static int add_file(struct strings *a, struct sandbox_fds *fds, const char *path, const char *text)
{
	int fd = keep(fds, text_file(text, strlen(text)));

	if (fd < 0)
		return fd;
	add(a, "--perms", "0644", "--file");
	strings_addf(a, "%d", fd);
	strings_add(a, path);
	return 0;
}

static void add_glob(struct strings *a, const char *pattern)
{
	glob_t g;

	if (glob(pattern, 0, NULL, &g))
		return;
	for (size_t i = 0; i < g.gl_pathc; i++)
		add(a, "--ro-bind-try", g.gl_pathv[i], g.gl_pathv[i]);
	globfree(&g);
}

/* /usr, with what leads to it: links on a merged system, directories of their own on others. */
static void add_system(struct strings *a)
{
	static const char *const tops[] = {"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", NULL};
	static const char *const hidden[] = {"/usr/etc", "/usr/local/etc", "/usr/local/games", "/usr/src",
					     NULL};

	add(a, "--ro-bind", "/usr", "/usr");
	for (const char *const *t = tops; *t; t++) {
		char target[PATH_MAX];
		ssize_t n = readlink(*t, target, sizeof(target) - 1);
		if (n > 0) {
			target[n] = 0;
			add(a, "--symlink", target, *t);
		} else if (!access(*t, F_OK)) {
			add(a, "--ro-bind", *t, *t);
		}
	}
	for (const char *const *h = hidden; *h; h++) {
		struct stat st;
		if (!lstat(*h, &st) && S_ISDIR(st.st_mode))
			add(a, "--tmpfs", *h, NULL), add(a, "--remount-ro", *h, NULL);
	}
}

static int add_etc(struct strings *a, struct sandbox_fds *fds, bool network)
{
	static const char *const from_host[] = {
		"/etc/alternatives", "/etc/ld.so.cache",    "/etc/ld.so.conf",
		"/etc/ld.so.conf.d", "/etc/ssl/certs",	    "/etc/ssl/openssl.cnf",
		"/etc/localtime",    "/etc/debian_version", "/etc/mime.types",
		"/etc/perl",	     "/var/lib/ghc",	    NULL,
	};

	for (const char *const *p = from_host; *p; p++)
		add(a, "--ro-bind-try", *p, *p);
	add_glob(a, "/etc/java-*-openjdk");
	add_glob(a, "/etc/python3*");
	add_glob(a, "/etc/lua*");
	int err = add_file(a, fds, "/etc/passwd", "app:x:1000:1000::/tmp:/bin/sh\n");
	if (!err)
		err = add_file(a, fds, "/etc/group", "app:x:1000:\n");
	if (!err)
		err = add_file(a, fds, "/etc/nsswitch.conf",
			       "passwd: files\ngroup: files\nhosts: files dns\n");
	if (!err && !network)
		err = add_file(a, fds, "/etc/hosts", "127.0.0.1 localhost build\n::1 localhost\n");
	if (!err && network) {
		char real[PATH_MAX]; /* it is a link into /run on many hosts */
		if (realpath("/etc/resolv.conf", real))
			add(a, "--ro-bind-try", real, "/etc/resolv.conf");
		add(a, "--ro-bind-try", "/etc/hosts", "/etc/hosts");
	}
	return err;
}

static void add_environment(struct strings *a, const struct sandbox *sb, const char *tool)
{
	struct strings env = {0};

	for (const char *const *e =
		     (const char *const[]){"PATH=/usr/bin:/usr/local/bin:/bin", "HOME=/tmp", "TMPDIR=/tmp",
					   "USER=app", "LOGNAME=app", "SHELL=/bin/sh", "TERM=dumb", "CI=true",
					   "LC_ALL=C.UTF-8", "TZ=UTC", "SOURCE_DATE_EPOCH=315532800", NULL};
	     *e; e++)
		strings_add(&env, *e);
	for (size_t i = 0; sb->env && i < sb->env->n; i++)
		strings_set_env(&env, sb->env->v[i]);
	if (tool) {
		char *path = textf("PATH=%s:%s/bin", strings_env(&env, "PATH"), tool);
		strings_set_env(&env, path);
		free(path);
	}
	for (size_t i = 0; i < env.n; i++) {
		size_t k = strcspn(env.v[i], "=");
		if (!k || !env.v[i][k])
			continue;
		strings_add(a, "--setenv");
		strings_addf(a, "%.*s", (int)k, env.v[i]);
		strings_add(a, env.v[i] + k + 1);
	}
	strings_free(&env);
}

/* The limits are set inside: the number of processes then counts those of the sandbox alone, not all of the user's. */
void view_command(const struct sandbox *sb, int arguments_fd, struct strings *a)
{
	strings_add(a, BWRAP);
	strings_add(a, "--args");
	strings_addf(a, "%d", arguments_fd);
	add(a, "--", PRLIMIT, "--core=0:0");
	add(a, "--nofile=8192:8192", NULL, NULL);
	strings_addf(a, "--fsize=%llu:%llu", MAX_FSIZE, MAX_FSIZE);
	strings_addf(a, "--nproc=%d:%d", MAX_PROCESSES, MAX_PROCESSES);
	if (sb->max_memory)
		strings_addf(a, "--as=%llu:%llu", (unsigned long long)sb->max_memory,
			     (unsigned long long)sb->max_memory);
	strings_add(a, "--");
	for (size_t i = 0; i < sb->argv->n; i++)
		strings_add(a, sb->argv->v[i]);
}

/* NUL-terminated words, as --args reads them: options only, the command stays on the command line. */
static int arguments_file(const struct strings *a)
{
	size_t size = 0, at = 0;

	for (size_t i = 0; i < a->n; i++)
		size += strlen(a->v[i]) + 1;
	char *text = malloc(size + 1);
	if (!text)
		return -ENOMEM;
	for (size_t i = 0; i < a->n; i++) {
		size_t n = strlen(a->v[i]) + 1;
		memcpy(text + at, a->v[i], n);
		at += n;
	}
	int fd = text_file(text, size);
	free(text);
	return fd;
}

int view_arguments(const struct sandbox *sb, const struct sandbox_sources *src, const char *tool,
		   int status_fd, int block_fd, struct sandbox_fds *fds)
{
	struct strings a = {0};

	add(&a, "--unshare-user", "--unshare-all", sb->network ? "--share-net" : NULL);
	add(&a, "--die-with-parent", "--new-session", "--disable-userns");
	add(&a, "--cap-drop", "ALL", "--clearenv");
	add(&a, "--uid", "1000", NULL);
	add(&a, "--gid", "1000", NULL);
	add(&a, "--hostname", "build", NULL);
	add_system(&a);
	int err = add_etc(&a, fds, sb->network);
	for (size_t i = 0; !err && sb->files && i < sb->files->n; i++) {
		size_t n = strcspn(sb->files->v[i], "=");
		char *path = textf("%.*s", (int)n, sb->files->v[i]);
		err = add_file(&a, fds, path, sb->files->v[i] + n + 1);
		free(path);
	}
	add(&a, "--proc", "/proc", NULL);
	add(&a, "--dev", "/dev", NULL);
	add(&a, "--size", SHM_BYTES, NULL);
	add(&a, "--perms", "1777", NULL);
	add(&a, "--tmpfs", "/dev/shm", NULL);
	add(&a, "--remount-ro", "/dev", NULL);
	add(&a, "--size", TMP_BYTES, NULL);
	add(&a, "--perms", "1777", NULL);
	add(&a, "--tmpfs", "/tmp", NULL);
	add(&a, "--symlink", "../tmp", "/var/tmp");
	add(&a, "--bind", src->app, "/app");
	if (src->cache)
		add(&a, "--bind", src->cache, "/cache");
	if (src->tool)
		add(&a, "--ro-bind", src->tool, tool);
	add(&a, "--remount-ro", "/", NULL);
	add(&a, "--chdir", "/app", NULL);
	add_environment(&a, sb, tool);
	int filter = err ? err : keep(fds, view_filter(sb->network));
	strings_add(&a, "--seccomp");
	strings_addf(&a, "%d", filter);
	strings_add(&a, "--json-status-fd");
	strings_addf(&a, "%d", status_fd);
	strings_add(&a, "--block-fd");
	strings_addf(&a, "%d", block_fd);
	int fd = filter < 0 ? filter : keep(fds, arguments_file(&a));
	strings_free(&a);
	return fd;
}

/* --- how much it has written -------------------------------------------------------------------------------------- */
struct disk_use {
	uint64_t bytes, max;
	unsigned files;
};

/* Takes the descriptor. What cannot be read is not counted; what is too deep is too much. */
static bool add_use(int fd, struct disk_use *u, int depth)
{
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	bool ok = depth < MAX_DEPTH;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return true;
	}
	for (struct dirent *e; ok && (e = readdir(d));) {
		struct stat st;
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		u->bytes += (uint64_t)st.st_blocks * 512;
		ok = ++u->files <= MAX_DISK_FILES && u->bytes <= u->max;
		if (ok && S_ISDIR(st.st_mode))
			ok = add_use(openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
				     u, depth + 1);
	}
	closedir(d);
	return ok;
}

bool view_disk_use(int dirfd, uint64_t max, uint64_t *bytes)
{
	struct disk_use u = {.max = max};
	bool ok = add_use(openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), &u, 0);

	*bytes = u.bytes;
	return ok;
}
