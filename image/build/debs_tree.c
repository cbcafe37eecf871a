/* SPDX-License-Identifier: ISC */
/*
 * The files of a layer's packages, as a tree.
 *
 * Installed packages: dpkg's lists say which paths, the machine has the files.
 * What the lists have but the machine has not (documentation that an
 * administrator excludes) is passed over. Files that not everybody may read
 * hold secrets or nothing that a program needs, and stay away; so root and
 * anybody else build the same layer.
 *
 * Python's compiled modules are no package's: the .pyc next to a .py is taken
 * if it was made from just this .py, since compiling at each start is slow.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/build/debs.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define MAX_TEXT (16u << 20)

struct taking {
	struct debs *d;
	struct tree *t;
	const struct deb *deb;
	char pyc_tag[32]; /* "cpython-311", or "" */
};

bool merged_path(const char *path, char *buf, size_t size)
{
	static const char *const merged[] = {"/bin", "/sbin", "/lib", "/lib64", "/lib32", "/libx32"};
	const char *prefix = "";

	for (size_t i = 0; i < sizeof(merged) / sizeof(merged[0]); i++) {
		size_t n = strlen(merged[i]);
		if (!strncmp(path, merged[i], n) && (path[n] == '/' || !path[n]))
			prefix = "/usr";
	}
	return *path == '/' && snprintf(buf, size, "%s%s", prefix, path) < (int)size;
}

/* Nothing that runs reads them; dpkg_is_bulk() knows the rest. */
bool debs_is_bulk(const struct deb *p, const char *path)
{
	static const char *const prefixes[] = {"/usr/share/fish/",
					       "/usr/share/vim/",
					       "/usr/share/emacs/",
					       "/usr/lib/pkgconfig/",
					       "/usr/lib/x86_64-linux-gnu/pkgconfig/",
					       "/usr/share/pkgconfig/",
					       "/usr/share/gtk-doc/",
					       "/usr/share/gcc/",
					       "/usr/share/polkit-1/",
					       "/usr/share/metainfo/",
					       "/usr/share/lintian/",
					       "/usr/share/debhelper/",
					       "/usr/share/aclocal/",
					       "/usr/lib/sysusers.d/",
					       "/usr/lib/tmpfiles.d/",
					       "/usr/share/initramfs-tools/",
					       "/etc/insserv.conf.d/",
					       "/etc/ufw/",
					       "/etc/apparmor.d/",
					       "/etc/bash_completion.d/",
					       "/etc/pam.d/"};

	static const char *const suffixes[] = {".pod", ".la", "/classes_nocoops.jsa"};
	static const char *const patterns[] = {"/usr/lib/python3.*/config-*", "/usr/lib/python3.*/pydoc_data",
					       "/usr/lib/python3.*/test",
					       "/usr/lib/x86_64-linux-gnu/perl/*/CORE"};
	size_t n = strlen(path);

	for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
		size_t len = strlen(prefixes[i]);
		if (!strncmp(path, prefixes[i], len) || (n == len - 1 && !strncmp(path, prefixes[i], n)))
			return true;
	}
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		if (!fnmatch(patterns[i], path, FNM_PATHNAME | FNM_LEADING_DIR))
			return true;
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
		if (n > strlen(suffixes[i]) && !strcmp(path + n - strlen(suffixes[i]), suffixes[i]))
			return n < 13 ||
			       strcmp(path + n - 13, "/perldiag.pod") != 0; /* `use diagnostics` reads it */
	return dpkg_is_bulk(p, path);
}

/* The header of a .pyc: magic, flags, time and size of its source. */
static bool pyc_is_of(const struct tree *t, const struct node *pyc, const struct node *py)
{
	uint32_t head[4];
	int fd = tree_open(t, pyc);
	bool ok = fd >= 0 && pread(fd, head, sizeof(head), 0) == sizeof(head) && !head[1] &&
		  head[2] == (uint32_t)py->mtime && head[3] == (uint32_t)py->size;

	if (fd >= 0)
		close(fd);
	return ok;
}

static void drop_node(struct node *n)
{
	n->mode = 0; /* debs_canonical() takes it out */
}

static void take_pyc(struct taking *k, const char *path, const struct node *py)
{
	char pyc[PATH_MAX];
	const char *name = strrchr(path, '/');
	size_t n = strlen(path);

	if (!k->pyc_tag[0] || n < 4 || strcmp(path + n - 3, ".py") ||
	    snprintf(pyc, sizeof(pyc), "%.*s/__pycache__/%.*s.%s.pyc", (int)(name - path), path,
		     (int)strlen(name) - 4, name + 1, k->pyc_tag) >= (int)sizeof(pyc))
		return;
	struct node *node = tree_add_nofollow(k->t, pyc);
	if (node && (!S_ISREG(node->mode) || !pyc_is_of(k->t, node, py)))
		drop_node(node);
}

static int take_path(void *arg, const char *path)
{
	struct taking *k = arg;
	char buf[PATH_MAX];

	if (!merged_path(path, buf, sizeof(buf)) || debs_is_bulk(k->deb, buf) ||
	    (k->deb->mark == DEB_PART && !base_wants(k->deb->name, buf)))
		return 0;
	struct node *n = tree_add_nofollow(k->t, buf);
	if (!n)
		return errno == ENOMEM ? -ENOMEM : 0;
	if (S_ISREG(n->mode) ? !(n->mode & 0004) : !S_ISDIR(n->mode) && !S_ISLNK(n->mode))
		drop_node(n);
	else if (S_ISREG(n->mode))
		take_pyc(k, buf, n);
	return 0;
}

/* Python's name for the compiled files of this machine's python3. */
static void find_pyc_tag(struct taking *k)
{
	char link[64];
	ssize_t n = readlink("/usr/bin/python3", link, sizeof(link) - 1);

	link[n > 0 ? n : 0] = 0;
	if (!strncmp(link, "python3.", 8) && strspn(link + 8, "0123456789") == strlen(link + 8))
		snprintf(k->pyc_tag, sizeof(k->pyc_tag), "cpython-3%s", link + 8);
}

static void canonical(struct node *dir)
{
	struct node **link = &dir->child;

	while (*link) {
		struct node *n = *link;
		if (!n->mode) {
			*link = n->sibling;
			dir->n_children--;
			continue;
		}
		link = &n->sibling;
		bool ours = !n->ino, pyc = n->name_len > 4 && !strcmp(n->name + n->name_len - 4, ".pyc");
		n->uid = n->gid = 0;
		n->mtime_nsec = 0;
		if (!S_ISREG(n->mode) || !n->mtime || pyc)
			n->mtime = LAYER_MTIME;
		if (!ours)
			n->mode = S_ISLNK(n->mode)
					  ? S_IFLNK | 0777
					  : (n->mode & S_IFMT) |
						    (S_ISDIR(n->mode) || n->mode & 0111 ? 0755 : 0644);
		if (S_ISDIR(n->mode))
			canonical(n);
	}
}

void debs_canonical(struct tree *t)
{
	t->root->mode = S_IFDIR | 0755;
	t->root->uid = t->root->gid = 0;
	t->root->mtime = LAYER_MTIME;
	t->root->mtime_nsec = 0;
	canonical(t->root);
}

char *tree_text(struct tree *t, const char *path, size_t *n)
{
	struct node *f = tree_find(t, path);
	size_t at = 0;

	if (!f || !S_ISREG(f->mode) || f->size > MAX_TEXT)
		return NULL;
	char *text = malloc(f->size + 1);
	int fd = f->data || !text ? -1 : tree_open(t, f);
	if (text && f->data) {
		memcpy(text, f->data, f->size);
		at = f->size;
	}
	while (fd >= 0 && at < f->size) {
		ssize_t r = read(fd, text + at, f->size - at);
		if (r <= 0 && !(r < 0 && errno == EINTR))
			break;
		at += r > 0 ? (size_t)r : 0;
	}
	if (fd >= 0)
		close(fd);
	if (text)
		text[at] = 0;
	*n = at;
	return text;
}

/* Directories that Debian's /usr has taken in. */
static void put_merged_links(struct tree *t)
{
	static const char *const links[][2] = {
		{"/bin", "usr/bin"}, {"/sbin", "usr/sbin"}, {"/lib", "usr/lib"}, {"/lib64", "usr/lib64"}};

	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
		tree_put_link(t, links[i][0], links[i][1]);
}

struct tree *debs_tree(struct debs *d, int *status)
{
	struct taking k = {.d = d, .t = tree_new("/")};
	int r = 0;

	if (!k.t) {
		*status = out_fail(EXIT_OURS, "packages: %s", strerror(ENOMEM));
		return NULL;
	}
	find_pyc_tag(&k);
	if (d->base)
		put_merged_links(k.t);
	for (size_t i = 0; i < d->n && !r; i++) {
		k.deb = d->v[i];
		if (k.deb->installed) {
			r = dpkg_files(k.deb, take_path, &k);
			if (r == -ENOENT) {
				*status =
					out_fail(EXIT_OURS, "%s: dpkg has no list of its files", k.deb->name);
				tree_free(k.t);
				return NULL;
			}
		}
	}
	if (!r)
		r = unpack_debs(d, k.t);
	if (!r) {
		if (d->spool && k.pyc_tag[0])
			python_compile(d, k.t, k.pyc_tag);
		config_put(d, k.t);
		if (d->base)
			base_put(d, k.t);
		debs_canonical(k.t);
		return k.t;
	}
	*status = out_fail(EXIT_OURS, "packages: %s", say_errno(-r));
	tree_free(k.t);
	return NULL;
}
