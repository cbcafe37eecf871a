/* SPDX-License-Identifier: ISC */
/* Extended attributes of memory files: a list; the image's are copied into it by the first change. */
#include <linux/xattr.h>

#include "guest/vfs/memfs.h"
#include "guest/vfs/prefix.h"

static struct mxattr **find(struct mnode *m, const char *name)
{
	struct mxattr **pp = &m->xattrs;

	while (*pp && strcmp((*pp)->name, name))
		pp = &(*pp)->next;
	return pp;
}

static bool add(struct mnode *m, const char *name, const void *val, size_t len)
{
	struct mxattr *x = kmalloc(sizeof(*x) + len);

	if (!x)
		return false;
	x->len = (u32)len;
	memcpy(x->val, val, len);
	if (!(x->name = kstrdup(name))) {
		kfree(x);
		return false;
	}
	x->next = m->xattrs;
	m->xattrs = x;
	return true;
}

static void drop(struct mxattr **pp)
{
	struct mxattr *x = *pp;

	*pp = x->next;
	kfree(x->name);
	kfree(x);
}

void memfs_free_xattrs(struct mnode *m)
{
	while (m->xattrs)
		drop(&m->xattrs);
}

static const struct erofs *image_of(struct mnode *m)
{
	if (!m->lower || m->flags & MEM_XATTR || !m->lower->ei.xattr_size)
		return NULL;
	return &memfs_layers[m->lower->layer].fs;
}

s64 memfs_getxattr(struct inode *ino, const char *name, void *buf, size_t size)
{
	struct mnode *m = mnode(ino);
	const struct erofs *fs = image_of(m);

	if (unlikely(prefix_armed))
		prefix_look(mnode(ino));
	if (fs)
		return erofs_getxattr(fs, &m->lower->ei, name, buf, size);
	struct mxattr *x = *find(m, name);
	if (!x)
		return -ENODATA;
	if (size && size < x->len)
		return -ERANGE;
	if (size)
		memcpy(buf, x->val, x->len);
	return x->len;
}

s64 memfs_listxattr(struct inode *ino, char *buf, size_t size)
{
	struct mnode *m = mnode(ino);
	const struct erofs *fs = image_of(m);
	size_t total = 0;

	if (unlikely(prefix_armed))
		prefix_look(mnode(ino));
	if (fs)
		return erofs_listxattr(fs, &m->lower->ei, buf, size);
	for (struct mxattr *x = m->xattrs; x; x = x->next) {
		size_t n = strlen(x->name) + 1;
		if (size && size - total < n)
			return -ERANGE;
		if (size)
			memcpy(buf + total, x->name, n);
		total += n;
	}
	return (s64)total;
}

/* Copy the image's attributes, so that one can be changed. */
static int own_xattrs(struct mnode *m)
{
	const struct erofs *fs = image_of(m);

	if (!fs) {
		m->flags |= MEM_XATTR;
		return 0;
	}
	s64 n = erofs_listxattr(fs, &m->lower->ei, NULL, 0);
	if (n < 0)
		return -EIO;
	char *names = kmalloc((size_t)n + 1), *val = kmalloc(1 << 16);
	int err = names && val ? 0 : -ENOSPC;
	if (!err)
		n = erofs_listxattr(fs, &m->lower->ei, names, (size_t)n + 1);
	for (s64 i = 0; !err && i < n; i += (s64)strlen(names + i) + 1) {
		s64 len = erofs_getxattr(fs, &m->lower->ei, names + i, val, 1 << 16);
		if (len >= 0 && !add(m, names + i, val, (size_t)len))
			err = -ENOSPC;
	}
	kfree(names);
	kfree(val);
	if (err)
		memfs_free_xattrs(m);
	else
		m->flags |= MEM_XATTR;
	return err;
}

int memfs_setxattr(struct inode *ino, const char *name, const void *val, size_t len, int flags)
{
	struct mnode *m = mnode(ino);
	int err = own_xattrs(m);

	if (err)
		return err;
	struct mxattr **pp = find(m, name);
	if (!val) {
		if (!*pp)
			return -ENODATA;
		drop(pp);
	} else {
		if (flags & XATTR_CREATE && *pp)
			return -EEXIST;
		if (flags & XATTR_REPLACE && !*pp)
			return -ENODATA;
		if (!add(m, name, val, len))
			return -ENOSPC;
		/* the new one is at the head; the old one, if any, further on */
		pp = &m->xattrs->next;
		while (*pp && strcmp((*pp)->name, name))
			pp = &(*pp)->next;
		if (*pp)
			drop(pp);
	}
	memfs_dirty(m);
	m->ctime = (s64)real_ns();
	return 0;
}
