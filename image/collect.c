/* SPDX-License-Identifier: ISC */
/*
 * Collects what a program needs into two trees.
 *
 *   runtime  the base, and the interpreter or packaged program with its
 *            packages: the same for all apps that use it, so one layer on
 *            disk and in the page cache serves them all
 *   app      the program where no package owns it, the current directory,
 *            files named by arguments, libraries that the runtime has not
 *
 * Wherever a shared object or program enters a tree it is queued, and the
 * queue is worked off by finding what it links to, as ld.so would
 * (DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, ld.so.conf, default directories).
 * A library that is not found is left to the dynamic linker to complain
 * about in its own words.
 */
#include "image/collect.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/elf.h"
#include "image/packages.h"
#include "lib/host/say.h"
#include "lib/host/strings.h"

#define MAX_LIB_DIRS   64
#define MAX_SIGS       20000
#define WITH_MAX_NODES 10000 /* of a path of --with: each is looked at again at every start */

/* --- signatures ------------------------------------------------------------------- */

static void stat_sig(struct sig *s)
{
	struct stat st;

	s->ino = s->size = 0;
	s->mtime_ns = s->ctime_ns = 0;
	if (stat(s->path, &st))
		return;
	s->ino = st.st_ino;
	s->size = S_ISDIR(st.st_mode) ? 0 : (uint64_t)st.st_size;
	s->mtime_ns = st.st_mtim.tv_sec * 1000000000ll + st.st_mtim.tv_nsec;
	s->ctime_ns = S_ISDIR(st.st_mode) ? 0 : st.st_ctim.tv_sec * 1000000000ll + st.st_ctim.tv_nsec;
}

void sigs_add(struct sigs *s, const char *path)
{
	if (s->n >= MAX_SIGS)
		return;
	for (size_t i = 0; i < s->n && s->n < 256; i++)
		if (!strcmp(s->v[i].path, path))
			return;
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 64;
		struct sig *v = realloc(s->v, cap * sizeof(*v));
		if (!v)
			return;
		s->v = v;
		s->cap = cap;
	}
	struct sig *n = &s->v[s->n];
	n->path = strdup(path);
	if (!n->path)
		return;
	stat_sig(n);
	s->n++;
}

void sigs_free(struct sigs *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].path);
	free(s->v);
	memset(s, 0, sizeof(*s));
}

/* --- work in progress --------------------------------------------------------------- */

struct queue {
	struct node **v;
	size_t n, cap;
};

struct work {
	const struct image_request *req;
	const struct program *prog;
	struct collection *out;
	struct tree *t; /* the tree that is being filled */
	struct queue q; /* files of `t` to look into */
	char *lib_dirs[MAX_LIB_DIRS];
	int n_lib_dirs;
	int err; /* of a callback: first -errno */
	struct strings dirs; /* of the packages */
	bool installed; /* the program or an interpreter of it is, by a package or otherwise */
	int n_roots; /* directories that runtime_roots() gave for the program at hand */
};

static void enqueue(struct work *w, struct node *n)
{
	struct queue *q = &w->q;

	if (n->visited)
		return;
	n->visited = true;
	if (q->n == q->cap) {
		size_t cap = q->cap ? q->cap * 2 : 256;
		struct node **v = realloc(q->v, cap * sizeof(*v));
		if (!v) {
			w->err = -ENOMEM;
			return;
		}
		q->v = v;
		q->cap = cap;
	}
	q->v[q->n++] = n;
}

/* Tree callback: programs, libraries and loadable modules are looked into later. */
static void on_file(void *arg, struct tree *t, struct node *n)
{
	size_t len = n->name_len;

	(void)t;
	if (n->size > 64 &&
	    ((n->mode & 0111) || strstr(n->name, ".so") || (len > 5 && !strcmp(n->name + len - 5, ".node"))))
		enqueue(arg, n);
}

static void target(struct work *w, struct tree *t)
{
	w->t = t;
	t->on_file = on_file;
	t->on_file_arg = w;
	w->q.n = 0;
}

/* --- libraries ------------------------------------------------------------------------ */

static void read_ld_conf(struct work *w, const char *file, int depth)
{
	char line[PATH_MAX];
	FILE *f = depth < 4 ? fopen(file, "re") : NULL;

	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "#\n")] = 0;
		char *s = line + strspn(line, " \t");
		for (size_t n = strlen(s); n && strchr(" \t", s[n - 1]);)
			s[--n] = 0;
		if (!strncmp(s, "include ", 8)) {
			glob_t g;
			if (!glob(s + 8 + strspn(s + 8, " \t"), 0, NULL, &g)) {
				for (size_t i = 0; i < g.gl_pathc; i++)
					read_ld_conf(w, g.gl_pathv[i], depth + 1);
				globfree(&g);
			}
		} else if (*s == '/' && w->n_lib_dirs < MAX_LIB_DIRS) {
			w->lib_dirs[w->n_lib_dirs] = strdup(s);
			w->n_lib_dirs += w->lib_dirs[w->n_lib_dirs] != NULL;
		}
	}
	if (f)
		fclose(f);
}

/* One directory of a search path, $ORIGIN expanded; the library's node if it is there. */
static struct node *try_dir(struct work *w, const char *dir, size_t len, const char *origin, const char *name)
{
	char path[PATH_MAX];
	const char *rest = dir;
	int n;

	if (!strncmp(dir, "$ORIGIN", 7))
		rest = dir + 7;
	else if (!strncmp(dir, "${ORIGIN}", 9))
		rest = dir + 9;
	if (rest != dir)
		n = snprintf(path, sizeof(path), "%s%.*s/%s", origin, (int)(len - (size_t)(rest - dir)), rest,
			     name);
	else
		n = snprintf(path, sizeof(path), "%.*s/%s", (int)len, dir, name);
	if (n >= (int)sizeof(path) || path[0] != '/' || access(path, R_OK))
		return NULL;
	return tree_add(w->t, path);
}

static struct node *try_path(struct work *w, const char *list, const char *origin, const char *name)
{
	struct node *n = NULL;

	for (const char *p = list; p && !n;) {
		size_t len = strcspn(p, ":;");
		if (len)
			n = try_dir(w, p, len, origin, name);
		p = p[len] ? p + len + 1 : NULL;
	}
	return n;
}

static struct node *find_library(struct work *w, const struct elf_info *e, const char *origin,
				 const char *name)
{
	static const char *const defaults[] = {"/lib/x86_64-linux-gnu",
					       "/usr/lib/x86_64-linux-gnu",
					       "/lib64",
					       "/lib",
					       "/usr/lib64",
					       "/usr/lib"};
	struct node *n = NULL;

	if (strchr(name, '/'))
		return *name == '/' ? tree_add(w->t, name) : NULL;
	if (e->rpath && !e->runpath)
		n = try_path(w, e->rpath, origin, name);
	if (!n)
		n = try_path(w, env_get(w->req->env, "LD_LIBRARY_PATH"), origin, name);
	if (!n && e->runpath)
		n = try_path(w, e->runpath, origin, name);
	for (int i = 0; i < w->n_lib_dirs && !n; i++)
		n = try_dir(w, w->lib_dirs[i], strlen(w->lib_dirs[i]), origin, name);
	for (size_t i = 0; i < sizeof(defaults) / sizeof(defaults[0]) && !n; i++)
		n = try_dir(w, defaults[i], strlen(defaults[i]), origin, name);
	return n;
}

/* What one file links to. Files that are no ELF, or a broken one, need nothing that we could find. */
static void look_into(struct work *w, struct node *n)
{
	struct elf_info e;
	char origin[PATH_MAX];
	int fd = n->data ? -1 : tree_open(w->t, n);

	if (fd < 0)
		return;
	if (elf_magic(fd) && !elf_read(fd, &e)) {
		if (!tree_path(n->parent, origin, sizeof(origin)))
			origin[0] = 0;
		struct node *dep = e.interp ? tree_add(w->t, e.interp) : NULL;
		if (dep && S_ISREG(dep->mode))
			enqueue(w, dep);
		for (int i = 0; i < e.n_needed; i++) {
			dep = find_library(w, &e, origin, e.needed[i]);
			if (dep && S_ISREG(dep->mode))
				enqueue(w, dep);
		}
		elf_free(&e);
	}
	close(fd);
}

static void work_off(struct work *w)
{
	for (size_t i = 0; i < w->q.n; i++) /* grows while we go */
		look_into(w, w->q.v[i]);
	w->q.n = 0;
}

/* --- parts ------------------------------------------------------------------------------ */

static const char *const cwd_skip[] = {".git", ".hg", ".svn", NULL};

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '/' || !path[n] || dir[n - 1] == '/');
}

static int walk_cwd(struct tree *t, const struct program *prog)
{
	struct walk_limit lim = {APP_MAX_BYTES, APP_MAX_NODES, cwd_skip, 0};
	struct node *n = tree_add(t, prog->cwd);

	return n ? tree_walk(t, n, &lim) : -errno;
}

struct tree *collect_cwd(const struct program *prog, int *err)
{
	struct tree *t = tree_new("/");

	*err = -ENOMEM;
	if (!t)
		return NULL;
	t->own_uid = getuid();
	*err = walk_cwd(t, prog);
	if (!*err)
		return t;
	tree_free(t);
	return NULL;
}

/* A path of a package: add it; of its own directories in /etc and /var take everything. */
static int take_package_path(void *arg, const char *path)
{
	struct work *w = arg;
	struct walk_limit lim = {APP_MAX_BYTES * 4, APP_MAX_NODES * 4, runtime_skip_names, 0};
	static const char *const shared[] = {"/etc/ssl",   "/etc/alternatives", "/etc/profile.d",
					     "/etc/pam.d", "/etc/security",	"/etc/ufw",
					     "/etc/X11",   "/etc/xdg",		"/etc/opt",
					     "/etc/dpkg",  "/etc/kernel",	"/etc/skel"};

	struct node *n = tree_add_nofollow(w->t, path);
	if (n && S_ISLNK(n->mode))
		n = tree_add(w->t, path);
	if (n && S_ISDIR(n->mode))
		strings_add(&w->dirs, path);
	if (!n || !S_ISDIR(n->mode) || strncmp(path, "/etc/", 5) || strchr(path + 5, '/'))
		return w->err;
	for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++)
		if (!strcmp(shared[i], path))
			return w->err;
	int r = tree_walk(w->t, n, &lim);
	return r == -E2BIG ? r : w->err;
}

/* Directories whose files may come and go without the package database noticing. */
static void watch_dirs(struct work *w, const struct node *n, int depth)
{
	char path[PATH_MAX];

	if (tree_path(n, path, sizeof(path)))
		sigs_add(&w->out->sigs, path);
	for (const struct node *c = n->child; c && depth; c = c->sibling)
		if (S_ISDIR(c->mode))
			watch_dirs(w, c, depth - 1);
}

/* Loadable modules of a directory that are links out of it (lua-socket's are): what they point to comes, too. */
static void follow_modules(struct work *w, struct node *n)
{
	char path[PATH_MAX];

	for (struct node *c = n->child; c; c = c->sibling) {
		if (S_ISDIR(c->mode))
			follow_modules(w, c);
		else if (S_ISLNK(c->mode) && strstr(c->name, ".so") && tree_path(c, path, sizeof(path)))
			tree_add(w->t, path);
	}
}

static void take_root(void *arg, const char *dir)
{
	struct work *w = arg;
	struct walk_limit lim = {APP_MAX_BYTES * 4, APP_MAX_NODES * 4, runtime_skip_names, 0};
	struct node *n = tree_add(w->t, dir);

	if (!n)
		return;
	w->n_roots++;
	if (S_ISDIR(n->mode)) {
		int r = tree_walk(w->t, n, &lim);
		if (r == -E2BIG && !w->err)
			w->err = say_fail(-E2BIG, "%s: too large to be collected; use --root or -v", dir);
		follow_modules(w, n);
		watch_dirs(w, n, is_below(dir, "/usr") && !is_below(dir, "/usr/local") ? 1 : 4);
	}
}

static void take_package(struct work *w, struct dpkg *d, const char *name)
{
	sigs_add(&w->out->sigs, DPKG_STATUS);
	int r = dpkg_closure(d, name, take_package_path, w);
	if (r && !w->err)
		w->err = r;
}

/*
 * The program or an interpreter, by every name that leads to it. It belongs
 * to the runtime if a package or an installation prefix owns it, or if it is
 * an interpreter; else it stays for the app's layer.
 */
static void take_executable(struct work *w, struct dpkg *d, const char *path, bool interpreter)
{
	char real[PATH_MAX];

	if (!realpath(path, real))
		return;
	sigs_add(&w->out->sigs, path);
	sigs_add(&w->out->sigs, real);
	if (w->prog->take_cwd && is_below(real, w->prog->cwd))
		return; /* the current directory brings all that it needs */
	const char *owner = d ? dpkg_owner(d, real) : NULL;
	if (owner) {
		char *name = strdup(owner);
		if (name)
			take_package(w, d, name);
		else
			w->err = -ENOMEM;
		free(name);
	}
	w->n_roots = 0;
	runtime_roots(real, take_root, w);
	if (strcmp(path, real) && !(w->prog->take_cwd && is_below(path, w->prog->cwd)))
		runtime_roots(path, take_root, w); /* a virtual environment: its bin/python is a link */
	if (!owner && !w->n_roots && !interpreter)
		return;
	w->installed = true;
	struct node *n = tree_add(w->t, path);
	if (n && S_ISREG(n->mode))
		enqueue(w, n);
}

/* The interpreters of a script, however deep. */
static void take_interpreters(struct work *w, struct dpkg *d, const char *script)
{
	char path[PATH_MAX], line[PATH_MAX];

	snprintf(path, sizeof(path), "%s", script);
	for (int depth = 0; depth < 5; depth++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : pread(fd, line, sizeof(line) - 1, 0);
		if (fd >= 0)
			close(fd);
		line[n > 0 ? n : 0] = 0;
		if (n < 3 || line[0] != '#' || line[1] != '!')
			return;
		char *p = line + 2 + strspn(line + 2, " \t");
		p[strcspn(p, " \t\r\n")] = 0;
		snprintf(path, sizeof(path), "%s", p);
		take_executable(w, d, path, true);
	}
}

/* --with PATH: a file, or a directory and all below it, which is looked at again at every start. */
static void watch_tree(struct work *w, const struct node *n)
{
	char path[PATH_MAX];

	if (tree_path(n, path, sizeof(path)))
		sigs_add(&w->out->sigs, path);
	for (const struct node *c = n->child; c; c = c->sibling)
		watch_tree(w, c);
}

static int take_path(struct work *w, const char *path)
{
	struct walk_limit lim = {APP_MAX_BYTES, WITH_MAX_NODES, cwd_skip, 0};
	char real[PATH_MAX];
	struct node *n = realpath(path, real) ? tree_add(w->t, *path == '/' ? path : real) : NULL;

	if (!n)
		return say_fail(EXIT_OURS, "--with %s: %s", path, strerror(errno));
	n = tree_add(w->t, real);
	int r = n && S_ISDIR(n->mode) ? tree_walk(w->t, n, &lim) : 0;
	if (r)
		return say_fail(EXIT_OURS,
				r == -E2BIG ? "--with %s: too large: give it as a volume, with -v"
					    : "--with %s: cannot be collected",
				path);
	watch_tree(w, n);
	return 0;
}

/* --with PATH, as far as it is a program: whatever that needs. */
static int take_program(struct work *w, struct dpkg *d, const char *path)
{
	char real[PATH_MAX];
	struct stat st;

	if (realpath(path, real) && !stat(real, &st) && S_ISREG(st.st_mode) && !access(real, X_OK)) {
		take_executable(w, d, *path == '/' ? path : real, false);
		take_interpreters(w, d, real);
	}
	return 0;
}

/* --with NAME: a program on PATH, and whatever it needs; a package; or both of that name. */
static int take_name(struct work *w, struct dpkg *d, const char *name)
{
	char path[PATH_MAX];
	bool package = d && dpkg_has(d, name), program = !program_search(name, path, sizeof(path));

	if (program) {
		take_executable(w, d, path, true);
		take_interpreters(w, d, path);
	}
	if (package)
		take_package(w, d, name);
	return program || package
		       ? 0
		       : say_fail(EXIT_OURS, "--with %s: neither a program on PATH nor an installed package",
				  name);
}

/* Files that arguments name, where nothing else brings them: `python3 /srv/app.py`, `nginx -c FILE`. */
static void take_arguments(struct work *w)
{
	for (const char *const *a = w->prog->argv + 1; w->prog->argv[0] && *a; a++) {
		char real[PATH_MAX];
		struct stat st;
		if (strlen(*a) >= PATH_MAX || stat(*a, &st) || !S_ISREG(st.st_mode) || !realpath(*a, real))
			continue;
		if (w->prog->take_cwd && is_below(real, w->prog->cwd) && **a != '/')
			continue;
		if (tree_find(w->out->runtime, real))
			continue; /* such as /etc/passwd, of which the image has its own */
		struct node *n = **a == '/' ? tree_add(w->t, *a) : tree_add(w->t, real);
		if (n)
			sigs_add(&w->out->sigs, real);
	}
}

static int app_error(const struct program *prog, int r)
{
	if (r == -E2BIG)
		return say_fail(EXIT_OURS,
				"%s: the current directory is more than 1 GiB or 100,000 files; start in the "
				"app's own "
				"directory, or give data as a volume with -v",
				prog->cwd);
	return say_fail(EXIT_OURS, "%s: cannot be collected: %s", prog->cwd, strerror(-r));
}

static int collect_app(struct work *w)
{
	target(w, w->out->app);
	if (w->prog->take_cwd) {
		int r = walk_cwd(w->t, w->prog);
		if (r)
			return app_error(w->prog, r);
	} else if (w->req->verbose) {
		say("%s: not taken into the image: not an application's own directory", w->prog->cwd);
	}
	struct node *n = tree_add(w->t, w->prog->path);
	if (n && S_ISREG(n->mode))
		enqueue(w, n);
	take_arguments(w);
	for (const char *const *x = w->req->with; x && *x; x++) {
		int r = strchr(*x, '/') ? take_path(w, *x) : 0;
		if (r)
			return r;
	}
	work_off(w);
	if (!tree_find(w->t, w->prog->cwd))
		tree_put_dir(w->t, w->prog->cwd, 0755);
	return 0;
}

/*
 * The base, the program's packages and its interpreters' with the tools that these count on without a word
 * (Debian's essential packages), and what the user names.
 */
static int collect_runtime(struct work *w, struct dpkg *d)
{
	int r = 0;

	target(w, w->out->runtime);
	base_collect(w->t, &w->out->sigs);
	bool in_cwd = w->prog->take_cwd && is_below(w->prog->real, w->prog->cwd);
	if (!in_cwd)
		take_executable(w, d, w->prog->path, false);
	take_interpreters(w, d, w->prog->path);
	for (const char *const *x = w->req->with; x && *x && !r; x++)
		r = strchr(*x, '/') ? take_program(w, d, *x) : take_name(w, d, *x);
	if (d && (w->installed || w->req->with) && dpkg_tools(d, take_package_path, w) && !w->err)
		w->err = -ENOMEM;
	if (w->installed || w->req->with) {
		strings_sort(&w->dirs);
		made_add(w->t, &w->out->sigs, &w->dirs);
		alternatives_add(w->t, &w->out->sigs);
		rundirs_add(w->t);
	}
	work_off(w);
	return r;
}

int collect(const struct image_request *req, const struct program *prog, struct collection *out)
{
	struct work w = {.req = req, .prog = prog, .out = out};
	struct dpkg *d;
	int r = 0;

	memset(out, 0, sizeof(*out));
	out->runtime = tree_new("/");
	out->app = tree_new("/");
	if (!out->runtime || !out->app)
		return say_fail(EXIT_OURS, "out of memory");
	out->runtime->own_uid = out->app->own_uid = getuid();
	if (req->progress)
		req->progress(req->progress_arg, "collecting what the program needs");
	read_ld_conf(&w, "/etc/ld.so.conf", 0);
	d = dpkg_open();
	r = collect_runtime(&w, d);
	if (!r && !w.err)
		r = collect_app(&w);
	if (!r && w.err)
		r = w.err == -E2BIG ? EXIT_OURS
				    : say_fail(EXIT_OURS, "collecting files: %s", strerror(-w.err));
	dpkg_close(d);
	for (int i = 0; i < w.n_lib_dirs; i++)
		free(w.lib_dirs[i]);
	free(w.q.v);
	strings_free(&w.dirs);
	if (!r)
		tree_subtract(out->app, out->runtime);
	return r;
}

int collect_program(struct tree *t, const char *program, struct sigs *sigs)
{
	static const char *const no_env[] = {NULL};
	struct image_request req = {.program = program, .env = no_env};
	struct program prog = {.cwd = "/"};
	struct collection out = {.runtime = t, .sigs = *sigs};
	struct work w = {.req = &req, .prog = &prog, .out = &out};

	read_ld_conf(&w, "/etc/ld.so.conf", 0);
	target(&w, t);
	take_executable(&w, NULL, program, true);
	work_off(&w);
	t->on_file = NULL;
	for (int i = 0; i < w.n_lib_dirs; i++)
		free(w.lib_dirs[i]);
	free(w.q.v);
	*sigs = out.sigs;
	if (!w.err && !tree_add(t, program))
		return -errno;
	return w.err;
}

void collection_free(struct collection *c)
{
	tree_free(c->runtime);
	tree_free(c->app);
	sigs_free(&c->sigs);
}
