/* SPDX-License-Identifier: ISC */
/*
 * The app layer: the app's directory at /app, less what stays out, and the files that the build adds.
 *
 * Out stay version control and .env files always, what .slugignore, .dockerignore and cowbell.toml exclude, and what the
 * language drops; with `take` everything that is not in it. The app runs as APP_UID, which owns /app, so that it can write beside itself
 * as on Heroku (to memory: nothing of it lasts).
 *
 * A tree that has not changed since it was made into a layer is known by a memo: key, the digest of its names and
 * metadata (inode, change time, size), "applayer KEY -> LAYER SIZE". Small trees are quicker made again. A file that changed
 * within the last RACY_NS could change again without showing it, so its tree is not remembered.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "abi/image.h"
#include "image/build/assemble.h"
#include "lib/host/ignore.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define PREFIX	    "/app"
#define SMALL_NODES 64
#define SMALL_BYTES (256u << 10)
#define RACY_NS	    100000000ll

/* Is `rel` the path or below it? */
static bool is_at(const char *rel, const char *path)
{
	size_t n = strlen(path);

	return !strncmp(rel, path, n) && (!rel[n] || rel[n] == '/');
}

static bool taken(const struct plan *p, const char *rel, bool is_dir)
{
	if (!p->take.n)
		return true;
	for (size_t i = 0; i < p->take.n; i++) {
		const char *t = p->take.v[i];
		size_t n = strlen(rel);
		if (is_at(rel, t) || (is_dir && !strncmp(t, rel, n) && t[n] == '/'))
			return true;
	}
	return false;
}

bool selection_skips(void *arg, const char *rel, bool is_dir)
{
	struct selection *s = arg;
	const struct plan *p = s->plan;

	if (ignore_always(rel, is_dir)) {
		const char *slash = strrchr(rel, '/');
		s->env_files += !is_dir && ignore_is_env(slash ? slash + 1 : rel);
		return true;
	}
	if (!s->built && ignore_match(&p->skip, rel, is_dir))
		return true;
	if (s->source)
		return false;
	for (size_t i = 0; i < p->drop.n; i++)
		if (is_at(rel, p->drop.v[i]))
			return true;
	return !taken(p, rel, is_dir);
}

/* The app's user owns what is below /app. */
static void give(struct node *n)
{
	n->uid = n->gid = APP_UID;
	for (struct node *c = n->child; c; c = c->sibling)
		give(c);
}

static size_t count_files(const struct node *n)
{
	size_t files = !S_ISDIR(n->mode);

	for (const struct node *c = n->child; c; c = c->sibling)
		files += count_files(c);
	return files;
}

static struct node *stamp(struct node *n)
{
	for (struct node *at = n; at; at = at->parent)
		at->mtime = LAYER_MTIME;
	return n;
}

/* Files and links of ours. */
static bool add_ours(struct tree *t, const struct plan *p)
{
	bool good = true;

	for (size_t i = 0; i < p->add.n; i++) {
		const char *eq = strchr(p->add.v[i], '=');
		char *path = textf("%.*s", (int)(eq - p->add.v[i]), p->add.v[i]);
		good &= stamp(tree_put_file(t, path, 0644, eq + 1, strlen(eq + 1))) != NULL;
		free(path);
	}
	for (size_t i = 0; i < p->links.n; i++) {
		const char *eq = strchr(p->links.v[i], '=');
		char *path = textf("/usr/local/bin/%.*s", (int)(eq - p->links.v[i]), p->links.v[i]);
		good &= stamp(tree_put_link(t, path, eq + 1)) != NULL;
		free(path);
	}
	return good;
}

int app_tree_failed(const char *dir, int err, const struct limits *lim)
{
	if (err == -E2BIG)
		return out_fail(EXIT_OURS,
				"%s is too large for an image: more than %llu MiB, or more than %llu files.\n"
				"Leave out what the app does not need by .slugignore, or raise --max-size or "
				"--max-entries",
				dir, (unsigned long long)(lim->max_bytes >> 20),
				(unsigned long long)lim->max_entries);
	if (err == -ESTALE)
		return out_fail(EXIT_OURS, "%s: a file changed while it was read; build again", dir);
	return out_fail(EXIT_OURS, "%s: %s", dir, say_errno(-err));
}

static bool settled(const struct tree *t)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	int64_t age = ts.tv_sec * 1000000000ll + ts.tv_nsec - t->newest_ns;
	return age > RACY_NS;
}

static bool remembered(struct store *s, const char *key, struct layer *out)
{
	char *memo = store_memo_get(s, "applayer", key);
	unsigned long long size = 0;
	bool good = memo && sscanf(memo, "%64[0-9a-f] %llu", out->hex, &size) == 2 && is_digest(out->hex) &&
		    store_has(s, out->hex);

	out->size = size;
	free(memo);
	return good;
}

static int write_layer(struct store *s, struct tree *t, struct layer *out)
{
	char key[65] = "";

	if ((t->n_nodes > SMALL_NODES || t->bytes > SMALL_BYTES) && settled(t)) {
		tree_digest(t, key);
		if (remembered(s, key, out))
			return 0;
	}
	progress_begin("app layer", 0, false);
	int r = layer_from_tree(s, t, out->hex, &out->size);
	progress_end();
	if (!r && key[0]) {
		char *memo = textf("%s %llu", out->hex, (unsigned long long)out->size);
		store_memo_set(s, "applayer", key, memo);
		free(memo);
	}
	return r;
}

int app_layer(struct store *s, const char *dir, bool built, const struct plan *p, const struct limits *lim,
	      struct layer *out, size_t *files)
{
	struct selection sel = {.plan = p, .built = built};
	struct walk_limit walk = {.max_bytes = lim->max_bytes, .max_nodes = lim->max_entries};
	int err = 0;
	struct tree *t = tree_from_dir(dir, PREFIX, selection_skips, &sel, &walk, &err);

	memset(out, 0, sizeof(*out));
	strcpy(out->title, "app");
	if (!t)
		return app_tree_failed(dir, err, lim);
	struct node *top = tree_find(t, PREFIX);
	if (top)
		give(top);
	*files = top ? count_files(top) : 0;
	if (!add_ours(t, p))
		err = -ENOMEM;
	if (!err)
		err = write_layer(s, t, out);
	tree_free(t);
	if (err)
		return app_tree_failed(dir, err, lim);
	if (sel.env_files)
		out_line("%u .env file%s left out: secrets are given with --env, or -e at cowbell run",
			 sel.env_files, sel.env_files == 1 ? "" : "s");
	return 0;
}
