/* SPDX-License-Identifier: ISC */
/*
 * A directory as a tar, made while it is sent: a thread walks the directory and writes the archive into a pipe, the upload reads from it.
 *
 * Left out are version control, .env files (they hold secrets of a developer's machine; config vars are for those), .cowbell,
 * and what .gitignore (here and below), .slugignore and .dockerignore say. Links stay links; sockets, devices and pipes are left out
 * with a line. Owner, group and times of the user's machine stay on it. For another machine it is gzip'ed, for this one it is not.
 *
 * The walk is done twice: first names and sizes (tar_open(): what there is to send, for the progress line, and errors before anything
 * is made on the platform), then the contents. A file that changes its size between is sent with the size it had: longer, it is
 * cut; shorter, the push fails.
 */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/ignore.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define MAX_DEPTH   64
#define MAX_ENTRIES 1000000
#define MAX_RULES   (256 << 10)

struct entry {
	char *rel, *link;
	mode_t mode;
	uint64_t size;
};

struct tar {
	int dir, in, out; /* the directory; ends of the pipe */
	bool gzip, failed;
	struct entry *v;
	size_t n, cap;
	uint64_t bytes;
	struct strings rules;
	pthread_t thread;
	bool running;
	_Atomic uint64_t done; /* bytes of files that were read */
	uint64_t told;
};

/* --- what is in it ------------------------------------------------------------------------------------------------ */

static char *small_file(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char *text = fd >= 0 ? calloc(1, MAX_RULES + 1) : NULL;
	struct stat st;
	ssize_t n = text && !fstat(fd, &st) && S_ISREG(st.st_mode) ? read(fd, text, MAX_RULES) : -1;

	if (fd >= 0)
		close(fd);
	if (n >= 0)
		return text;
	free(text);
	return NULL;
}

/* Rules of a .gitignore below the top: each as if it stood above, in front of it the directory. */
static void nested_rules(struct strings *rules, const char *rel, const char *text)
{
	char *copy = textf("%s", text), *save = NULL;

	for (char *line = strtok_r(copy, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
		bool back = *line == '!';
		const char *p = line + back, *slash = strchr(p, '/');
		if (*line == '#' || !*p)
			continue;
		bool anchored = slash && slash[1];
		char *rule =
			textf("%s/%s/%s%s\n", back ? "!" : "", rel, anchored ? "" : "**/", p + (*p == '/'));
		ignore_parse(rules, 's', rule);
		free(rule);
	}
	free(copy);
}

static void read_rules(struct tar *t, int dir, const char *rel)
{
	static const struct {
		const char *name;
		char kind;
	} files[] = {{".gitignore", 's'}, {".slugignore", 's'}, {".dockerignore", 'd'}};

	for (size_t i = 0; i < (*rel ? 1 : 3); i++) {
		char *text = small_file(dir, files[i].name);
		if (text && !*rel)
			ignore_parse(&t->rules, files[i].kind, text);
		else if (text)
			nested_rules(&t->rules, rel, text);
		free(text);
	}
}

static struct entry *add_entry(struct tar *t, const char *rel, const struct stat *st)
{
	if (t->n == t->cap) {
		t->cap = t->cap ? t->cap * 2 : 64;
		t->v = realloc(t->v, t->cap * sizeof(*t->v));
		if (!t->v)
			exit(say_fail(EXIT_OURS, "out of memory"));
	}
	struct entry *e = &t->v[t->n++];
	*e = (struct entry){.rel = textf("%s", rel), .mode = st->st_mode};
	return e;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int walk(struct tar *t, int dir, const char *rel, int depth);

static int take(struct tar *t, int dir, const char *name, const char *rel, int depth)
{
	struct stat st;
	char target[4096];

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW))
		return errno == ENOENT ? 0 : say_fail(EXIT_OURS, "push: %s: %s", rel, strerror(errno));
	bool is_dir = S_ISDIR(st.st_mode);
	if (ignore_always(rel, is_dir) || !strcmp(rel, ".cowbell") || ignore_match(&t->rules, rel, is_dir))
		return 0;
	if (t->n >= MAX_ENTRIES)
		return say_fail(EXIT_OURS, "push: more than %d files; leave some out by .slugignore",
				MAX_ENTRIES);
	if (is_dir) {
		int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0)
			return say_fail(EXIT_OURS, "push: %s: %s", rel, strerror(errno));
		add_entry(t, rel, &st);
		return walk(t, fd, rel, depth + 1);
	}
	if (S_ISLNK(st.st_mode)) {
		ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
		if (n < 0)
			return say_fail(EXIT_OURS, "push: %s: %s", rel, strerror(errno));
		target[n] = 0;
		add_entry(t, rel, &st)->link = textf("%s", target);
	} else if (S_ISREG(st.st_mode)) {
		add_entry(t, rel, &st)->size = (uint64_t)st.st_size;
		t->bytes += (uint64_t)st.st_size;
	} else {
		say("push: %s is no file, and is left out", rel);
	}
	return 0;
}

/* Takes the descriptor. */
static int walk(struct tar *t, int dir, const char *rel, int depth)
{
	struct dirent **names = NULL;
	int n = depth > MAX_DEPTH ? -1 : scandirat(dir, ".", &names, NULL, by_name), r = 0;

	if (n < 0)
		r = say_fail(EXIT_OURS, "push: %s: %s", *rel ? rel : ".",
			     depth > MAX_DEPTH ? "too many directories in one another" : strerror(errno));
	else
		read_rules(t, dir, rel);
	for (int i = 0; i < n; i++) {
		const char *name = names[i]->d_name;
		if (!r && strcmp(name, ".") && strcmp(name, "..")) {
			char *path = textf("%s%s%s", rel, *rel ? "/" : "", name);
			r = take(t, dir, name, path, depth);
			free(path);
		}
		free(names[i]);
	}
	free(names);
	close(dir);
	return r;
}

/* --- the archive, in a thread --------------------------------------------------------------------------------------- */

/* 0 or -1 after one line. */
static int write_file(struct tar *t, struct archive *a, const struct entry *e)
{
	char buf[256
		 << 10]; /* not thread-local: each thread of the program would have to carry it, and small ones could not start */
	int fd = openat(t->dir, e->rel, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	uint64_t left = e->size;

	if (fd < 0)
		return say_fail(-1, "push: %s: %s", e->rel, strerror(errno));
	while (left) {
		ssize_t n = read(fd, buf, left < sizeof(buf) ? (size_t)left : sizeof(buf));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || archive_write_data(a, buf, (size_t)n) != n)
			break;
		left -= (uint64_t)n;
		t->done += (uint64_t)n;
	}
	int err = errno;
	close(fd);
	if (left && err != EPIPE)
		return say_fail(-1, "push: %s changed while it was read; push again", e->rel);
	return left ? -1 : 0;
}

static int write_entry(struct tar *t, struct archive *a, struct archive_entry *ae, const struct entry *e)
{
	archive_entry_clear(ae);
	archive_entry_set_pathname(ae, e->rel);
	archive_entry_set_mode(ae, e->mode);
	archive_entry_set_size(ae, (la_int64_t)e->size);
	archive_entry_set_mtime(ae, 0, 0);
	if (e->link)
		archive_entry_set_symlink(ae, e->link);
	if (archive_write_header(a, ae) < ARCHIVE_WARN)
		return -1;
	return S_ISREG(e->mode) ? write_file(t, a, e) : 0;
}

static void *write_tar(void *arg)
{
	struct tar *t = arg;
	struct archive *a = archive_write_new();
	struct archive_entry *ae = archive_entry_new();
	bool good = a && ae && !archive_write_set_format_pax_restricted(a) &&
		    (t->gzip ? archive_write_add_filter_gzip(a) == ARCHIVE_OK
			     : archive_write_add_filter_none(a) == ARCHIVE_OK) &&
		    !archive_write_set_bytes_per_block(a, 64 << 10) && !archive_write_open_fd(a, t->out);

	for (size_t i = 0; good && i < t->n; i++)
		good = !write_entry(t, a, ae, &t->v[i]);
	if (good)
		good = archive_write_close(a) == ARCHIVE_OK;
	t->failed = !good;
	archive_entry_free(ae);
	if (!good)
		archive_write_fail(a);
	archive_write_free(a);
	close(t->out);
	return NULL;
}

/* --- public ------------------------------------------------------------------------------------------------------------- */

int tar_open(const char *dir, bool gzip, struct tar **out)
{
	struct tar *t = calloc(1, sizeof(*t));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	*out = NULL;
	if (!t || fd < 0) {
		free(t);
		return say_fail(EXIT_OURS, "push: %s: %s", dir, strerror(errno));
	}
	*t = (struct tar){.dir = fd, .in = -1, .out = -1, .gzip = gzip};
	r = walk(t, dup(fd), "", 0);
	if (!r && !t->n)
		r = say_fail(EXIT_OURS, "push: there is nothing in %s to deliver", dir);
	if (r)
		tar_close(t);
	else
		*out = t;
	return r;
}

/* At the first read. */
static int start(struct tar *t)
{
	int p[2];

	signal(SIGPIPE, SIG_IGN); /* the upload may end before the thread does */
	if (pipe2(p, O_CLOEXEC))
		return -1;
	fcntl(p[0], F_SETPIPE_SZ, 1 << 20);
	t->in = p[0];
	t->out = p[1];
	t->running = !pthread_create(&t->thread, NULL, write_tar, t);
	return t->running ? 0 : -1;
}

ssize_t tar_read(void *arg, char *buf, size_t n)
{
	struct tar *t = arg;

	if (!t->running && t->in < 0 && start(t))
		return say_fail(-1, "push: %s", strerror(errno));
	for (;;) {
		ssize_t k = read(t->in, buf, n);
		if (k < 0 && errno == EINTR)
			continue;
		uint64_t done = t->done;
		progress_add(done - t->told);
		t->told = done;
		if (k)
			return k;
		pthread_join(t->thread, NULL);
		t->running = false;
		return t->failed ? -1 : 0;
	}
}

uint64_t tar_files(const struct tar *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += !S_ISDIR(t->v[i].mode);
	return n;
}

uint64_t tar_bytes(const struct tar *t)
{
	return t->bytes;
}

void tar_close(struct tar *t)
{
	if (t->in >= 0)
		close(t->in);
	if (t->running)
		pthread_join(t->thread, NULL); /* its next write fails */
	close(t->dir);
	for (size_t i = 0; i < t->n; i++) {
		free(t->v[i].rel);
		free(t->v[i].link);
	}
	free(t->v);
	strings_free(&t->rules);
	free(t);
}
