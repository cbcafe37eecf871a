/* SPDX-License-Identifier: ISC */
/*
 * Build steps: the app's own code, and tools that are told by it what to do, at work on a copy of the app in the
 * store's scratch area, each in the sandbox. What they made becomes the app layer.
 *
 * Nothing is built twice: a memo knows the result by the digest of all that went in (every file's path, mode and contents,
 * the steps with their environment, the tools' versions).
 *
 *   built KEY -> "LAYER SIZE SBOM SIZE FILES", then a line for what only the result told: "p PACKAGE", "c TYPE=COMMAND"
 *
 * One build of the same input at a time (store_lock). Whoever dies here leaves a scratch directory, which prune removes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/image.h"
#include "image/build/assemble.h"
#include "image/collect.h"
#include "lib/host/copy.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define SBOM_MAX_LOCK (16 << 20)
#define FORMAT	      "built 2" /* change it when the same input gives other results */

/* --- the key ------------------------------------------------------------------------------------------------------- */

static void key_add(struct strings *key, const char *what, const struct strings *v)
{
	strings_addf(key, "%s %zu", what, v->n);
	for (size_t i = 0; i < v->n; i++)
		strings_addf(key, "%s", v->v[i]);
}

static void key_plan(struct strings *key, const struct plan *p)
{
	strings_addf(key, FORMAT " sites %d %s", SITES_VERSION, p->find_program ? "find" : "");
	for (const struct step *st = p->steps; st; st = st->next) {
		key_add(key, st->network ? "step with network" : "step", &st->argv);
		key_add(key, "env", &st->env);
	}
	for (size_t i = 0; i < p->build_packages.n; i++) {
		char *version = debs_version(p->build_packages.v[i]);
		strings_addf(key, "%s=%s", p->build_packages.v[i], version ? version : "none");
		free(version);
	}
	key_add(key, "take", &p->take);
	key_add(key, "drop", &p->drop);
	key_add(key, "add", &p->add);
	key_add(key, "links", &p->links);
	key_add(key, "processes", &p->processes);
}

/* Every file with its contents. 0 or -errno. */
static int key_tree(struct strings *key, const struct tree *t, const struct node *n)
{
	char path[4096], hex[65] = "";

	if (!tree_path(n, path, sizeof(path)))
		return -ENAMETOOLONG;
	if (S_ISREG(n->mode)) {
		int fd = tree_open(t, n), r = fd < 0 ? fd : sha256_fd(fd, hex);
		if (fd >= 0)
			close(fd);
		if (r)
			return r;
	}
	strings_addf(key, "%o %s %s%c%s", n->mode, hex, path, 0x1f,
		     S_ISLNK(n->mode) && n->data ? n->data : "");
	int r = 0;
	for (const struct node *c = n->child; c && !r; c = c->sibling)
		r = key_tree(key, t, c);
	return r;
}

static int input_key(const char *dir, const struct plan *p, const struct limits *lim, char hex[65])
{
	struct selection sel = {.plan = p, .source = true};
	struct walk_limit walk = {.max_bytes = lim->max_bytes, .max_nodes = lim->max_entries};
	struct strings key = {0};
	int err = 0;
	struct tree *t = tree_from_dir(dir, "/app", selection_skips, &sel, &walk, &err);

	if (!t)
		return app_tree_failed(dir, err, lim);
	tree_sort(t);
	key_plan(&key, p);
	err = key_tree(&key, t, t->root);
	tree_free(t);
	size_t n = 0;
	for (size_t i = 0; i < key.n; i++)
		n += strlen(key.v[i]) + 1;
	char *text = malloc(n + 1), *at = text;
	for (size_t i = 0; i < key.n && text; i++) {
		at = stpcpy(at, key.v[i]);
		*at++ = 0; /* no line can pose as two */
	}
	if (text)
		sha256_hex(text, n, hex);
	free(text);
	strings_free(&key);
	return err ? app_tree_failed(dir, err, lim) : text ? 0 : app_tree_failed(dir, -ENOMEM, lim);
}

/* --- memos --------------------------------------------------------------------------------------------------------- */

static bool remembered(struct store *s, const char *key, struct plan *p, struct layer *out, size_t *files)
{
	char *memo = store_memo_get(s, "built", key), *rest = memo, *line = strsep(&rest, "\n");
	unsigned long long size = 0, sbom_size = 0, n = 0;

	memset(out, 0, sizeof(*out));
	strcpy(out->title, "app");
	bool good = line &&
		    sscanf(line, "%64s %llu %64s %llu %llu", out->hex, &size, out->sbom_hex, &sbom_size,
			   &n) == 5 &&
		    is_digest(out->hex) && store_has(s, out->hex);
	if (!strcmp(out->sbom_hex, "-"))
		out->sbom_hex[0] = 0;
	else
		good = good && is_digest(out->sbom_hex) && store_has(s, out->sbom_hex);
	while (good && (line = strsep(&rest, "\n"))) {
		if (!strncmp(line, "p ", 2))
			strings_add_once(&p->packages, line + 2);
		else if (!strncmp(line, "c ", 2) && strchr(line, '='))
			strings_set_env(&p->processes, line + 2);
	}
	out->size = size;
	out->sbom_size = sbom_size;
	*files = (size_t)n;
	free(memo);
	return good;
}

static bool one_line_each(const struct strings *v)
{
	for (size_t i = 0; i < v->n; i++)
		if (strchr(v->v[i], '\n'))
			return false;
	return true;
}

static void remember(struct store *s, const char *key, const struct plan *p, const struct layer *l,
		     size_t files)
{
	if (!one_line_each(&p->packages) || !one_line_each(&p->processes))
		return; /* a command of package.json may be of several lines, and could pose as packages: built each time */
	char *memo = textf("%s %llu %s %llu %zu", l->hex, (unsigned long long)l->size,
			   l->sbom_hex[0] ? l->sbom_hex : "-", (unsigned long long)l->sbom_size, files);

	for (size_t i = 0; i < p->packages.n + p->processes.n; i++) {
		bool package = i < p->packages.n;
		char *more = textf("%s\n%c %s", memo, package ? 'p' : 'c',
				   package ? p->packages.v[i] : p->processes.v[i - p->packages.n]);
		free(memo);
		memo = more;
	}
	store_memo_set(s, "built", key, memo);
	free(memo);
}

/* --- the scratch copy ------------------------------------------------------------------------------------------------ */

struct copy {
	struct tree *t;
	int to;
};

static int copy_file(const struct copy *c, const struct node *n, const char *rel)
{
	int from = tree_open(c->t, n);
	int to = from < 0 ? -1 : openat(c->to, rel, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, n->mode & 0777);
	int err = from < 0 ? from : to < 0 ? -errno : copy_bytes(from, 0, n->size, to, 0);

	if (err == -ENODATA)
		err = -ESTALE;
	if (!err && fchmod(to, n->mode & 0777))
		err = -errno;
	if (from >= 0)
		close(from);
	if (to >= 0)
		close(to);
	return err;
}

/* Parents come before what is in them. Times are one fixed second, as in a layer: make(1) sees everything as equally old. */
static int copy_node(const struct copy *c, const struct node *n)
{
	char path[4096];
	struct timespec times[2] = {{.tv_sec = LAYER_MTIME}, {.tv_sec = LAYER_MTIME}};
	int err = 0;

	if (!tree_path(n, path, sizeof(path)))
		return -ENAMETOOLONG;
	const char *rel = path + strlen("/app");
	rel += *rel == '/';
	if (*rel && S_ISDIR(n->mode))
		err = mkdirat(c->to, rel, 0755) ? -errno : 0;
	else if (S_ISLNK(n->mode))
		err = symlinkat(n->data, c->to, rel) ? -errno : 0;
	else if (S_ISREG(n->mode))
		err = copy_file(c, n, rel);
	for (const struct node *k = n->child; k && !err; k = k->sibling)
		err = copy_node(c, k);
	if (!err && *rel)
		utimensat(c->to, rel, times, AT_SYMLINK_NOFOLLOW);
	return err;
}

static int copy_app(const char *dir, const char *scratch, const struct plan *p, const struct limits *lim)
{
	struct selection sel = {.plan = p, .source = true};
	struct walk_limit walk = {.max_bytes = lim->max_bytes, .max_nodes = lim->max_entries};
	struct copy c = {.to = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
	int err = c.to < 0 ? -errno : 0;

	c.t = err ? NULL : tree_from_dir(dir, "/app", selection_skips, &sel, &walk, &err);
	struct node *top = c.t ? tree_find(c.t, "/app") : NULL;
	if (top)
		err = copy_node(&c, top);
	tree_free(c.t);
	if (c.to >= 0)
		close(c.to);
	return err ? app_tree_failed(dir, err, lim) : 0;
}

/* --- running --------------------------------------------------------------------------------------------------------- */

/* Where npm keeps what it fetched, malloc; `cowbell cache clear` empties it. NULL: without. */
static char *npm_cache(void)
{
	struct cache *c = cache_open();
	char *path = c ? textf("%s/npm", cache_dir(c)) : NULL;

	cache_close(c);
	if (path && mkdir(path, 0700) && errno != EEXIST) {
		free(path);
		path = NULL;
	}
	return path;
}

static int run_steps(const char *scratch, const struct plan *p, const struct limits *lim)
{
	int status = 0;

	for (const struct step *st = p->steps; st && !status; st = st->next) {
		char *cache = st->network ? npm_cache() : NULL;
		struct sandbox sb = {.dir = scratch,
				     .cache = cache,
				     .argv = &st->argv,
				     .env = &st->env,
				     .files = &st->files,
				     .network = st->network,
				     .timeout_ns = lim->timeout_ns};
		out_live();
		out_step("%s", st->title);
		status = sandbox_run(&sb);
		if (status && status != EXIT_OURS)
			status = out_fail(EXIT_OURS, "%s failed with status %d", st->argv.v[0], status);
		free(cache);
	}
	return status;
}

/*
 * The bill of materials of npm packages: of what npm says it installed, else of the lock file. The files may be the work of hostile
 * scripts by now: no links, no large ones.
 */
static void npm_sbom(struct store *s, const char *scratch, struct layer *out)
{
	static const char *const names[] = {"node_modules/.package-lock.json", "package-lock.json",
					    "npm-shrinkwrap.json"};
	struct stat st;

	for (size_t i = 0; i < 3 && !out->sbom_hex[0]; i++) {
		int fd = plan_open(scratch, names[i]);
		char *path = textf("/proc/self/fd/%d", fd);
		if (fd >= 0 && !fstat(fd, &st) && st.st_size <= SBOM_MAX_LOCK &&
		    sbom_npm(s, path, "app", out->sbom_hex, &out->sbom_size))
			out->sbom_hex[0] = 0;
		if (fd >= 0)
			close(fd);
		free(path);
	}
}

static int build_in(struct store *s, const char *dir, const char *scratch, struct plan *p,
		    const struct limits *lim, struct layer *out, size_t *files)
{
	int status = copy_app(dir, scratch, p, lim);

	if (!status)
		status = run_steps(scratch, p, lim);
	if (!status)
		status = plan_built(dir, scratch, p);
	if (!status)
		status = app_layer(s, scratch, true, p, lim, out, files);
	if (!status && p->runtime && !strcmp(p->runtime, "node"))
		npm_sbom(s, scratch, out);
	return status;
}

int built_layer(struct store *s, const char *dir, struct plan *p, const struct limits *lim, struct layer *out,
		size_t *files)
{
	char key[65], scratch[4096];
	int status = input_key(dir, p, lim, key);

	if (status)
		return status;
	if (remembered(s, key, p, out, files)) {
		out_line("Nothing changed since the last build: its result is used");
		return 0;
	}
	status = sandbox_check(p);
	int lock = status ? -1 : store_lock(s, key);
	if (status || remembered(s, key, p, out, files))
		goto done;
	int err = store_scratch(s, scratch, sizeof(scratch));
	if (err) {
		status = out_fail(EXIT_OURS, "%s: %s", store_dir(s), say_errno(-err));
		goto done;
	}
	status = build_in(s, dir, scratch, p, lim, out, files);
	store_rmtree(scratch);
	if (!status)
		remember(s, key, p, out, *files);
done:
	if (lock >= 0)
		close(lock);
	return status;
}
