/* SPDX-License-Identifier: ISC */
/*
 * Names on volumes: lookup, making, moving and removing them, directories.
 *
 * Each is one request with the path below the volume's root; the host resolves
 * it without following links. What a name led to is checked by path.c before.
 */
#include <linux/fs.h>

#include "guest/mm/mm.h"
#include "guest/vfs/volume.h"

/* A directory's name is believed so long. */
#define NAME_VALID_NS NS_PER_SEC

int volume_lookup(struct inode *dir, const char *name, u32 len, struct inode **out)
{
	struct statx *sx = kmalloc(sizeof(*sx));
	struct vnode *v = NULL;
	u64 asked = volume_clock;

	if (!sx)
		return -ENOMEM;
	struct ring_sqe sqe = {.op = RING_OP_VOL_STAT, .addr2 = ring_buf_gpa(sx).v, .len2 = sizeof(*sx)};
	s64 r = volume_path_call(vnode(dir), name, len, &sqe, NULL);
	if (!r)
		r = volume_find(vnode(dir), name, len, sx, asked, &v);
	if (!r)
		*out = &v->i;
	kfree(sx);
	return (int)r;
}

bool volume_name_valid(struct inode *ino, struct inode *dir, const char *name, u32 len)
{
	struct vnode *v = vnode(ino);

	return mono_ns() - v->st_ns < NAME_VALID_NS && v->parent == vnode(dir) && strlen(v->name) == len &&
	       !memcmp(v->name, name, len);
}

int volume_create(struct inode *dir, const char *name, u32 len, u32 mode, u64 rdev, struct inode **out)
{
	struct statx *sx;
	struct vnode *v = NULL;
	u64 handle, asked = volume_clock;

	if (S_IFMT_(mode) && S_IFMT_(mode) != S_IFREG)
		return -EPERM; /* the host gets no devices, pipes or sockets of ours */
	if (!(sx = kmalloc(sizeof(*sx))))
		return -ENOMEM;
	struct ring_sqe sqe = {.op = RING_OP_VOL_OPEN,
			       .arg = O_RDWR | O_CREAT | (rdev == CREATE_OR_FIND ? 0 : O_EXCL),
			       .arg2 = mode & 0777,
			       .addr2 = ring_buf_gpa(sx).v,
			       .len2 = sizeof(*sx)};
	s64 r = volume_path_call(vnode(dir), name, len, &sqe, &handle);
	if (!r) {
		r = volume_find(vnode(dir), name, len, sx, asked, &v);
		if (!r && v->wh == RING_NO_HANDLE)
			v->wh = (u32)handle; /* the open that follows uses it */
		else
			volume_close_handle((u32)handle);
	}
	if (!r)
		*out = &v->i;
	kfree(sx);
	return (int)r;
}

int volume_mkdir(struct inode *dir, const char *name, u32 len, u32 mode, struct inode **out)
{
	struct ring_sqe sqe = {.op = RING_OP_VOL_MKDIR, .arg2 = mode & 01777};
	s64 r = volume_path_call(vnode(dir), name, len, &sqe, NULL);

	return r ? (int)r : volume_lookup(dir, name, len, out);
}

int volume_symlink(struct inode *dir, const char *name, u32 len, const char *target, struct inode **out)
{
	char *t = kstrdup(target);

	if (!t)
		return -ENOMEM;
	struct ring_sqe sqe = {
		.op = RING_OP_VOL_SYMLINK, .addr2 = ring_buf_gpa(t).v, .len2 = (u32)strlen(target)};
	s64 r = volume_path_call(vnode(dir), name, len, &sqe, NULL);
	kfree(t);
	return r ? (int)r : volume_lookup(dir, name, len, out);
}

/* LINK and RENAME: from a path to name in ndir. */
static int two_names(struct ring_sqe *sqe, struct vnode *from, const char *oname, u32 olen,
		     struct vnode *ndir, const char *nname, u32 nlen)
{
	struct vpath to;
	int err = volume_path(ndir, nname, nlen, &to);

	if (err)
		return err;
	sqe->addr2 = ring_buf_gpa(to.p).v;
	sqe->len2 = to.len;
	s64 r = volume_path_call(from, oname, olen, sqe, NULL);
	kfree(to.p);
	return (int)r;
}

int volume_link(struct inode *dir, const char *name, u32 len, struct inode *ino)
{
	struct ring_sqe sqe = {.op = RING_OP_VOL_LINK};

	return two_names(&sqe, vnode(ino), NULL, 0, vnode(dir), name, len);
}

int volume_rename(struct inode *odir, const char *oname, u32 olen, struct inode *ndir, const char *nname,
		  u32 nlen, struct inode *ino, struct inode *over, u32 flags)
{
	struct ring_sqe sqe = {.op = RING_OP_VOL_RENAME, .arg = flags};
	int err = two_names(&sqe, vnode(odir), oname, olen, vnode(ndir), nname, nlen);

	if (err)
		return err;
	volume_set_place(vnode(ino), vnode(ndir), nname, nlen);
	if (over && flags & RENAME_EXCHANGE)
		volume_set_place(vnode(over), vnode(odir), oname, olen);
	return 0;
}

static int remove_name(struct inode *dir, const char *name, u32 len, u32 flag)
{
	struct ring_sqe sqe = {.op = RING_OP_VOL_UNLINK, .arg = flag};

	return (int)volume_path_call(vnode(dir), name, len, &sqe, NULL);
}

int volume_unlink(struct inode *dir, const char *name, u32 len, struct inode *victim)
{
	int err = remove_name(dir, name, len, 0);

	if (!err && vnode(victim)->st.nlink)
		vnode(victim)->st.nlink--;
	return err;
}

int volume_rmdir(struct inode *dir, const char *name, u32 len, struct inode *victim)
{
	return remove_name(dir, name, len, AT_REMOVEDIR);
}

s64 volume_readlink(struct inode *ino, char *buf, size_t size)
{
	char *t = kmalloc(PATH_MAX);
	u64 len = 0;

	if (!t)
		return -ENOMEM;
	struct ring_sqe sqe = {.op = RING_OP_VOL_READLINK, .addr2 = ring_buf_gpa(t).v, .len2 = PATH_MAX};
	s64 r = volume_path_call(vnode(ino), NULL, 0, &sqe, &len);
	if (!r) {
		r = (s64)MIN(len, size);
		memcpy(buf, t, (size_t)r);
	}
	kfree(t);
	return r;
}

/* --- directories ------------------------------------------------------------------------ */

struct host_dirent { /* the kernel's linux_dirent64 */
	u64 ino;
	s64 off;
	u16 reclen;
	u8 type;
	char name[];
};

/* Hand on the entries of one chunk; false when the sink is full. */
static bool emit_chunk(struct dir_sink *s, const u8 *buf, u32 len)
{
	for (u32 at = 0; at + sizeof(struct host_dirent) <= len;) {
		const struct host_dirent *d = (const struct host_dirent *)(buf + at);
		u32 n = (u32)strlen(d->name);

		if (!(d->name[0] == '.' && (n == 1 || (n == 2 && d->name[1] == '.'))) &&
		    !s->emit(s, d->name, n, d->ino, d->type, (u64)d->off))
			return false;
		s->pos = (u64)d->off;
		at += d->reclen;
	}
	return true;
}

int volume_readdir(struct inode *dir, struct dir_sink *s)
{
	enum { CHUNK = 8 * PAGE_SIZE };
	struct vnode *v = vnode(dir);
	u8 *buf = kmalloc(CHUNK);
	struct vpath p = {0};
	s64 r = buf ? volume_path(v, NULL, 0, &p) : -ENOMEM;

	while (!r) {
		struct ring_sqe sqe = {.op = RING_OP_VOL_READDIR,
				       .handle = volume_handle(v),
				       .addr = ring_buf_gpa(buf).v,
				       .len = CHUNK,
				       .off = s->pos,
				       .addr2 = ring_buf_gpa(p.p).v,
				       .len2 = p.len};
		s64 n = ring_call(&sqe, NULL, NULL);
		if (n < 0)
			r = n;
		if (n <= 0 || !emit_chunk(s, buf, (u32)n))
			break;
	}
	kfree(p.p);
	kfree(buf);
	return (int)r;
}

int volume_dir_fsync(struct file *f, bool data_only)
{
	struct ring_sqe sqe = {.op = RING_OP_VOL_FSYNC};

	return (int)volume_path_call(vnode(f->inode), NULL, 0, &sqe, NULL);
}
