/* SPDX-License-Identifier: ISC */
/*
 * After the steps: what did they make? Two questions that only the build directory answers:
 *
 *   - The program, where nothing named it (find_program): the only ELF program that the steps made. Several are an error that lists
 *     them, since guessing would run the wrong one some day.
 *   - The libraries of the programs and modules that go into the image: the packages that own them join the plan.
 *
 * The directory is the work of hostile code: nothing runs in it any more, but links in it lead anywhere. So only plain files
 * are opened, below the directory, without following a link. What an ELF file needs is looked up
 * by name in the system's library directories alone; a name with a slash is ignored.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/build/debs.h"
#include "image/elf.h"
#include "image/packages.h"
#include "lib/host/say.h"

#define MAX_ENTRIES 200000u
#define MAX_DEPTH   64
#define MAX_LIBS    1000u

struct built {
	int dir, src; /* build directory and the app as it was */
	struct plan *plan;
	struct strings programs; /* that the steps made, relative */
	struct strings libs; /* names that are needed */
	struct strings inside; /* libraries that are in the build directory */
	unsigned entries;
};

/* A plain file below dir, or -1. */
static int open_plain(int dir, const char *rel)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	int fd = (int)syscall(SYS_openat2, dir, rel, &how, sizeof(how));
	struct stat st;

	if (fd >= 0 && (fstat(fd, &st) || !S_ISREG(st.st_mode))) {
		close(fd);
		return -1;
	}
	return fd;
}

int plan_open(const char *dir, const char *rel)
{
	int top = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int fd = top < 0 ? -1 : open_plain(top, rel);

	if (top >= 0)
		close(top);
	return fd;
}

/* --- walking ------------------------------------------------------------------------------------------------------------ */
typedef void (*on_elf)(struct built *b, const char *rel, int fd);

static void look(struct built *b, const char *rel, on_elf each)
{
	int fd = open_plain(b->dir, rel);

	if (fd < 0)
		return;
	if (elf_magic(fd))
		each(b, rel, fd);
	close(fd);
}

static bool is_dir(const struct built *b, const char *rel)
{
	struct stat st;

	return !fstatat(b->dir, rel, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
}

/* Every ELF file at or below rel ("" is everything). */
static void walk(struct built *b, const char *rel, int depth, on_elf each)
{
	struct open_how how = {.flags = O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
	int fd = (int)syscall(SYS_openat2, b->dir, *rel ? rel : ".", &how, sizeof(how));
	DIR *d = fd < 0 || depth > MAX_DEPTH ? NULL : fdopendir(fd);

	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d)) && b->entries++ < MAX_ENTRIES;) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") || !strcmp(e->d_name, ".git"))
			continue;
		char *path = textf("%s%s%s", rel, *rel ? "/" : "", e->d_name);
		if (is_dir(b, path))
			walk(b, path, depth + 1, each);
		else
			look(b, path, each);
		free(path);
	}
	closedir(d);
}

/* --- the program --------------------------------------------------------------------------------------------------------- */
static bool same_name(const struct strings *s, const char *rel)
{
	const char *slash = strrchr(rel, '/'), *name = slash ? slash + 1 : rel;

	for (size_t i = 0; i < s->n; i++) {
		const char *other = strrchr(s->v[i], '/');
		if (!strcmp(other ? other + 1 : s->v[i], name))
			return true;
	}
	return false;
}

/* A program that can be started and was not there before. */
static void note_program(struct built *b, const char *rel, int fd)
{
	struct elf_info info;
	struct stat st;
	bool library = strstr(rel, ".so") != NULL;
	int before = open_plain(b->src, rel);

	if (before >= 0) {
		close(before);
		return;
	}
	/* by-products: objects are refused by elf_read(), libraries are no programs, cargo's build scripts and copies */
	if (library || strchr(rel, '\n') || fstat(fd, &st) || !(st.st_mode & 0111) ||
	    strstr(rel, "/build/") || strstr(rel, "/deps/") || strstr(rel, "/.objs/") ||
	    strstr(rel, ".sandbox/"))
		return;
	if (!elf_read(fd, &info) && !same_name(&b->programs, rel))
		strings_add(&b->programs, rel);
	elf_free(&info);
}

static int find_program(struct built *b)
{
	walk(b, "", 0, note_program);
	strings_sort(&b->programs);
	if (!b->programs.n)
		return out_fail(EXIT_OURS, "The build made no program. Name it in a Procfile: web: ./NAME");
	if (b->programs.n > 1) {
		char *list = textf("The build made several programs. Say in a Procfile which one runs:");
		for (size_t i = 0; i < b->programs.n && i < 10; i++) {
			char *more = textf("%s\n  web: ./%s", list, b->programs.v[i]);
			free(list);
			list = more;
		}
		int status = out_fail(EXIT_OURS, "%s", list);
		free(list);
		return status;
	}
	const char *program = b->programs.v[0];
	out_line("program: %s", program);
	strings_add_once(&b->plan->take, program);
	if (!b->plan->processes.n)
		strings_addf(&b->plan->processes, "web=%s%s", strchr(program, '/') ? "" : "./", program);
	return 0;
}

/* --- its libraries -------------------------------------------------------------------------------------------------------- */
static void add_needed(struct built *b, const struct elf_info *info)
{
	for (int i = 0; i < info->n_needed; i++)
		if (!strchr(info->needed[i], '/') && b->libs.n < MAX_LIBS)
			strings_add_once(&b->libs, info->needed[i]);
}

static void note_needs(struct built *b, const char *rel, int fd)
{
	struct elf_info info;
	const char *slash = strrchr(rel, '/');

	if (!elf_read(fd, &info))
		add_needed(b, &info);
	elf_free(&info);
	if (strstr(rel, ".so"))
		strings_add_once(&b->inside, slash ? slash + 1 : rel);
}

/* The package that owns a file of the system, malloc; "" if none does. *d is opened when it is needed. */
static char *owner_of(struct dpkg **d, const char *path)
{
	char *known = known_get("owner", path);

	if (known)
		return known;
	if (!*d)
		*d = dpkg_open();
	const char *owner = *d ? dpkg_owner(*d, path) : NULL;
	known = textf("%s", owner ? owner : "");
	if (*d)
		known_set("owner", path, known);
	return known;
}

/* The system's library of that name, its needs noted as well. Its real path in buf, or false. */
static bool system_library(struct built *b, const char *name, char real[PATH_MAX])
{
	static const char *const dirs[] = {"/usr/lib/x86_64-linux-gnu",
					   "/lib/x86_64-linux-gnu",
					   "/usr/lib64",
					   "/usr/lib",
					   "/usr/local/lib",
					   NULL};

	for (const char *const *d = dirs; *d; d++) {
		char path[PATH_MAX];
		struct elf_info info;
		snprintf(path, sizeof(path), "%s/%s", *d, name);
		int fd = realpath(path, real) ? open(real, O_RDONLY | O_CLOEXEC) : -1;
		if (fd < 0)
			continue;
		if (!elf_read(fd, &info))
			add_needed(b, &info);
		elf_free(&info);
		close(fd);
		return true;
	}
	return false;
}

static int find_libraries(struct built *b)
{
	struct dpkg *d = NULL;
	char real[PATH_MAX];
	int status = 0;

	for (size_t i = 0; !status && i < b->libs.n; i++) {
		const char *name = b->libs.v[i];
		if (strings_has(&b->inside, name) || !strncmp(name, "ld-linux", 8))
			continue;
		bool found = system_library(b, name, real);
		char *owner = found ? owner_of(&d, real) : NULL;
		bool owned = owner && *owner;
		if (owned && strcmp(owner, "libc6"))
			strings_add_once(&b->plan->packages, owner);
		else if (!owned &&
			 !b->plan->runtime) /* modules of interpreters often bring files for other systems */
			status = out_fail(EXIT_OURS,
					  "The program needs %s, which is in no Debian package of this "
					  "machine and not in the app.\n"
					  "Install the package that has it, or link it statically",
					  name);
		free(owner);
	}
	if (d)
		dpkg_close(d);
	return status;
}

int plan_built(const char *src, const char *dir, struct plan *p)
{
	struct built b = {.plan = p};
	int status = 0;

	b.dir = open(dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	b.src = open(src, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (b.dir < 0 || b.src < 0)
		status = out_fail(EXIT_OURS, "%s: %s", b.dir < 0 ? dir : src, strerror(errno));
	if (!status && p->find_program)
		status = find_program(&b);
	if (!status && (p->steps || !p->runtime)) {
		b.entries = 0;
		for (size_t i = 0; i < p->take.n; i++)
			if (is_dir(&b, p->take.v[i]))
				walk(&b, p->take.v[i], 0, note_needs);
			else
				look(&b, p->take.v[i], note_needs);
		if (!p->take.n)
			walk(&b, "", 0, note_needs);
		status = find_libraries(&b);
	}
	if (b.dir >= 0)
		close(b.dir);
	if (b.src >= 0)
		close(b.src);
	strings_free(&b.programs);
	strings_free(&b.libs);
	strings_free(&b.inside);
	return status;
}
