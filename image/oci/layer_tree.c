/* SPDX-License-Identifier: ISC */
/*
 * The rules by which entries of tar layers become one tree. Source: the OCI
 * image specification, layer changesets.
 *
 * Nothing here touches a file system: a tree of names in memory takes the place
 * of a directory, so there is no link to follow and no way out. What the tree
 * cannot hold is refused, with a phrase for the user:
 *
 *   names      ".." and a leading "/" are refused, "./" in front is usual and goes. A component has 255 bytes at most, a
 *              path PATH_MAX and MAX_DEPTH components
 *   parents    made if they are missing. One that this layer itself has as a link or file is refused; one that a
 *              lower layer has so is replaced, as an overlay would
 *   twice      directories may come again (the last one's metadata counts), nothing else
 *   hard link  to something that came before in the same layer and is no directory, not through a link. Both
 *              names then share an inode that is a node outside of the tree, so that either may go
 *   whiteouts  .wh.NAME takes NAME of lower layers away, .wh..wh..opq all that lower layers have in the directory, wherever in the
 *              tar they stand. Of a single layer they stay as empty files for the guest's overlay; when
 *              several layers become one, nothing is below, and they do their work here.
 *
 * Nodes that are taken away are only marked (gone) until layer_settle(), and
 * come back when a name is used again.
 */
#include "image/oci/layer_tree.h"

#include <string.h>

#include "abi/image.h"

#define WH	  ".wh."
#define OPAQUE	  ".wh..wh..opq"
#define MAX_DEPTH 100

const char *layer_clean_name(const char *raw, char out[PATH_MAX])
{
	size_t n = 0;
	int depth = 0;

	out[0] = 0;
	if (!raw || !*raw)
		return "has no name";
	if (*raw == '/' && raw[strspn(raw, "/")]) /* umoci has the root itself as "/" */
		return "is an absolute name";
	for (const char *p = raw; *p;) {
		size_t len = strcspn(p, "/");
		if (len == 2 && !strncmp(p, "..", 2))
			return "leads out of the image (\"..\")";
		if (len > NAME_MAX)
			return "has a name of more than 255 bytes";
		if (len && !(len == 1 && *p == '.')) {
			if (++depth > MAX_DEPTH)
				return "is too deep in directories";
			if (n + len + 2 > PATH_MAX)
				return "has too long a path";
			if (n)
				out[n++] = '/';
			memcpy(out + n, p, len);
			n += len;
		}
		p += len + (p[len] == '/');
	}
	out[n] = 0;
	return NULL;
}

static bool is_whiteout(const char *name)
{
	return !strncmp(name, WH, strlen(WH));
}

/* What a .wh. name may be. */
static const char *check_whiteout(const char *name)
{
	const char *of = name + strlen(WH);

	if (!*of || !strcmp(of, ".") || !strcmp(of, ".."))
		return "is a whiteout of nothing";
	return is_whiteout(of) && strcmp(name, OPAQUE) ? "is a reserved name (.wh..wh.)" : NULL;
}

/* Take away what lower layers have at and below the node. True: something of this layer remains. */
static bool take_away(const struct layering *l, struct node *n)
{
	if (n->gone)
		return false;
	bool stays = n->from == l->k;
	if (S_ISDIR(n->mode))
		for (struct node *c = n->child; c; c = c->sibling)
			stays |= take_away(l, c);
	n->gone = !stays;
	return stays;
}

/* The name as if it were new. */
static void reset(const struct layering *l, struct node *n, uint32_t mode)
{
	n->gone = n->visited = false;
	n->from = (uint8_t)l->k;
	n->mode = mode;
	n->uid = n->gid = 0;
	n->mtime = n->mtime_nsec = 0;
	n->size = n->rdev = 0;
	n->data = NULL;
	n->link = NULL;
	n->content = NULL;
	n->block = 0;
}

static const char *add_child(struct layering *l, struct node *dir, const char *name, size_t len,
			     uint32_t mode, struct node **out)
{
	*out = tree_add_child(l->t, dir, name, len);
	if (!*out)
		return "needs more memory than there is";
	reset(l, *out, mode);
	return NULL;
}

/* One step down to a directory, made where it is missing. */
static const char *enter(struct layering *l, struct node **at, const char *name, size_t len)
{
	struct node *c = tree_child(l->t, *at, name, len);
	const uint32_t mode = S_IFDIR | 0755;

	if (!c) {
		if (!*l->entries_left)
			return "is beyond the limit of entries; raise it with --max-entries";
		--*l->entries_left;
		const char *why = add_child(l, *at, name, len, mode, &c);
		if (why)
			return why;
	} else if (c->gone) {
		reset(l, c, mode);
	} else if (!S_ISDIR(c->mode)) {
		if (c->from == l->k)
			return S_ISLNK(c->mode) ? "goes through a symbolic link"
						: "is below something that is no directory";
		reset(l, c, mode);
	}
	*at = c;
	return NULL;
}

/* The directory that `name` is in, and its last component. */
static const char *find_parent(struct layering *l, const char *name, struct node **dir, const char **last)
{
	*dir = l->t->root;
	for (const char *slash; (slash = strchr(name, '/')); name = slash + 1) {
		if (is_whiteout(name))
			return "is below a whiteout";
		const char *why = enter(l, dir, name, (size_t)(slash - name));
		if (why)
			return why;
	}
	*last = name;
	return NULL;
}

/* Several layers: do what the whiteout says. */
static void white_out(struct layering *l, struct node *dir, const char *name)
{
	struct node *victim;

	if (!strcmp(name, OPAQUE)) {
		for (struct node *c = dir->child; c; c = c->sibling)
			take_away(l, c);
		return;
	}
	name += strlen(WH);
	victim = tree_child(l->t, dir, name, strlen(name));
	if (victim)
		take_away(l, victim);
}

const char *layer_place(struct layering *l, const char *name, uint32_t mode, struct node **out)
{
	struct node *dir, *n;
	const char *last, *why = NULL;

	*out = NULL;
	if (!*name) {
		if (!S_ISDIR(mode))
			return "is the root, and no directory";
		l->t->root->mode = mode;
		*out = l->t->root;
		return NULL;
	}
	if ((why = find_parent(l, name, &dir, &last)))
		return why;
	bool white = is_whiteout(last);
	if (white && (why = check_whiteout(last)))
		return why;
	if (white && !S_ISREG(mode))
		return "is a whiteout, but no file";
	n = tree_child(l->t, dir, last, strlen(last));
	if (!n) {
		why = add_child(l, dir, last, strlen(last), mode, &n);
	} else if (!n->gone && n->from == l->k) {
		if (!S_ISDIR(n->mode) || !S_ISDIR(mode))
			return "is there twice";
		n->mode = mode;
	} else if (!n->gone && S_ISDIR(n->mode) && S_ISDIR(mode)) {
		n->mode = mode; /* what is in it stays */
		n->from = (uint8_t)l->k;
	} else {
		if (take_away(l, n))
			return "is there as a directory as well";
		reset(l, n, mode);
	}
	if (why)
		return why;
	if (white && l->n > 1)
		white_out(l, dir, last);
	else
		*out = n;
	return NULL;
}

/* What a hard link leads to. */
static const char *find_target(const struct layering *l, const char *path, struct node **out)
{
	struct node *n = l->t->root;

	while (*path) {
		size_t len = strcspn(path, "/");
		if (S_ISLNK(n->mode))
			return "is a hard link that goes through a symbolic link";
		n = tree_child(l->t, n, path, len);
		if (!n || n->gone || (n->from != l->k && !S_ISDIR(n->mode)))
			return "is a hard link to something that is not in the layer";
		path += len + (path[len] == '/');
	}
	*out = n;
	return S_ISDIR(n->mode) ? "is a hard link to a directory" : NULL;
}

const char *layer_place_link(struct layering *l, const char *name, const char *target)
{
	struct node *of, *n;
	const char *why = find_target(l, target, &of);

	if (!why && is_whiteout(of->name))
		why = "is a hard link to a whiteout";
	if (why)
		return why;
	const char *slash = strrchr(name, '/');
	if (is_whiteout(slash ? slash + 1 : name))
		return "is a whiteout, but a hard link";
	if ((why = layer_place(l, name, of->mode, &n)) || !n)
		return why;
	if (!of->link) {
		struct node *inode = tree_alloc(l->t, sizeof(*inode) + 1);
		if (!inode)
			return "needs more memory than there is";
		memcpy(inode, of, sizeof(*inode));
		inode->name[0] = 0;
		inode->parent = inode->child = inode->sibling = inode->hash_next = NULL;
		of->link = inode;
	}
	n->link = of->link;
	return NULL;
}

/* Single layer: a directory that hides a lower one of its name says so itself; the whiteout beside it is not needed. */
static const char *move_whiteout(struct layering *l, const struct node *white)
{
	const char *of = white->name + strlen(WH);
	struct node *d = tree_child(l->t, white->parent, of, strlen(of)), *opaque;

	if (!strcmp(white->name, OPAQUE) || !d || !S_ISDIR(d->mode) ||
	    tree_child(l->t, d, OPAQUE, strlen(OPAQUE)))
		return NULL;
	return add_child(l, d, OPAQUE, strlen(OPAQUE), S_IFREG, &opaque);
}

static const char *settle(struct layering *l, struct node *dir)
{
	const char *why = NULL;

	for (struct node **link = &dir->child; *link && !why;) {
		struct node *c = *link;
		if (c->gone || (l->n > 1 && is_whiteout(c->name))) {
			*link = c->sibling;
			dir->n_children--;
			continue;
		}
		if (is_whiteout(c->name))
			why = move_whiteout(l, c);
		else if (S_ISDIR(c->mode))
			why = settle(l, c);
		link = &c->sibling;
	}
	return why;
}

const char *layer_settle(struct layering *l)
{
	return settle(l, l->t->root);
}
