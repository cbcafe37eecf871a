/* SPDX-License-Identifier: ISC */
/*
 * Open files: their life, and reads and writes with the checks that all kinds
 * share. A struct file lives while a descriptor, a mapping, a message in
 * flight or a running call refers to it; its release() runs once, at the end.
 */
#include <linux/inotify.h>

#include "guest/mm/mm.h"
#include "guest/net/net.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

static u64 last_anon_ino = 1000;

struct file *file_new(const struct file_ops *ops, u32 flags, void *priv)
{
	struct file *f = kzalloc(sizeof(*f));

	if (!f)
		return NULL;
	f->refs = 1;
	f->flags = flags;
	f->ops = ops;
	f->priv = priv;
	f->ino_anon = ++last_anon_ino;
	list_init(&f->epoll_links);
	return f;
}

void file_get(struct file *f)
{
	f->refs++;
}

void file_put(struct file *f)
{
	if (--f->refs)
		return;
	/* release may sleep: nobody can find f any more, so nobody can revive it */
	if (!list_empty(&f->epoll_links))
		epoll_forget(f);
	if (f->locks)
		locks_file_gone(f);
	if (f->async)
		file_async_end(f);
	if (f->dentry && !(f->flags & O_PATH))
		notify(f->dentry, CAN_WRITE(f) ? IN_CLOSE_WRITE : IN_CLOSE_NOWRITE);
	if (f->ops->release)
		f->ops->release(f);
	if (f->inode)
		inode_put(f->inode);
	if (f->dentry)
		dentry_put(f->dentry);
	kfree(f);
}

s64 file_read(struct file *f, struct uio *u, u64 *pos)
{
	if (unlikely(!CAN_READ(f)))
		return -EBADF;
	if (unlikely(!f->ops->read))
		return f->inode && IS_DIR(f->inode) ? -EISDIR : -EINVAL;
	s64 n = f->ops->read(f, u, pos);
	current->proc->io_reads++;
	if (n > 0)
		current->proc->io_read += (u64)n;
	if (n > 0)
		notify(f->dentry, IN_ACCESS);
	return n;
}

/* Cut a write at RLIMIT_FSIZE. Only for files that have a size. */
static s64 check_fsize(struct file *f, struct uio *u, u64 pos)
{
	u64 limit = current->proc->rlim[RLIMIT_FSIZE].rlim_cur;

	if (likely(limit == RLIM64_INFINITY) || !f->inode || !IS_REG(f->inode))
		return 0;
	if (f->flags & O_APPEND)
		pos = inode_size(f->inode);
	if (pos >= limit) {
		signal_thread(current, SIGXFSZ, NULL);
		return -EFBIG;
	}
	if (u->left > limit - pos)
		u->left = limit - pos;
	return 0;
}

s64 file_write(struct file *f, struct uio *u, u64 *pos)
{
	if (unlikely(!CAN_WRITE(f)))
		return -EBADF;
	if (unlikely(!f->ops->write))
		return -EINVAL;
	s64 err = u->left ? check_fsize(f, u, pos ? *pos : 0) : 0;
	if (err)
		return err;
	s64 n = f->ops->write(f, u, pos);
	current->proc->io_writes++;
	if (n > 0)
		current->proc->io_written += (u64)n;
	if (n > 0)
		notify(f->dentry, IN_MODIFY);
	return n;
}

s64 vfs_pread(struct file *f, void *kbuf, u64 n, u64 off)
{
	struct iovec iov;
	struct uio u;

	if (!f->ops->read)
		return -EINVAL;
	uio_single(&u, &iov, kbuf, n, true);
	return f->ops->read(f, &u, &off);
}

s64 generic_lseek(struct file *f, s64 off, int whence)
{
	s64 base;

	switch (whence) {
	case 0: /* SEEK_SET */
		base = 0;
		break;
	case 1: /* SEEK_CUR */
		base = (s64)f->pos;
		break;
	case 2: /* SEEK_END */
		base = f->inode ? (s64)inode_size(f->inode) : 0;
		break;
	default:
		return -EINVAL;
	}
	s64 pos;
	if (__builtin_add_overflow(base, off, &pos))
		return -EOVERFLOW;
	if (pos < 0)
		return -EINVAL;
	f->pos = (u64)pos;
	return pos;
}

/* --- texts ---------------------------------------------------------------------- */

static bool text_room(struct text *t, size_t n)
{
	if (t->failed)
		return false;
	if (t->cap - t->len > n)
		return true;
	size_t cap = MAX(t->cap * 2, t->len + n + 1);
	cap = ALIGN_UP(MAX(cap, 256u), 256);
	char *p = krealloc(t->p, cap);
	if (!p) {
		t->failed = true;
		return false;
	}
	t->p = p;
	t->cap = cap;
	return true;
}

void text_bytes(struct text *t, const void *p, size_t n)
{
	if (!text_room(t, n))
		return;
	memcpy(t->p + t->len, p, n);
	t->len += n;
	t->p[t->len] = 0;
}

void text_add(struct text *t, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	text_bytes(t, line, MIN((size_t)n, sizeof(line) - 1));
}

void text_path(struct text *t, const char *path)
{
	for (; *path; path++) {
		if (*path == ' ' || *path == '\t' || *path == '\n' || *path == '\\')
			text_add(t, "\\%03o", (unsigned)(u8)*path);
		else
			text_bytes(t, path, 1);
	}
}
