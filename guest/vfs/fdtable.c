/* SPDX-License-Identifier: ISC */
/*
 * Descriptors of a process: an array of files and a bitmap of close-on-exec.
 *
 * `free_hint`: every descriptor below it is in use, so that the lowest free one
 * is found without a scan from 0. The array doubles up to RLIMIT_NOFILE.
 * A thread may have a table of its own (unshare(2)); threads and processes that it makes get that. When all that are left
 * of a process have one, one of these becomes the process's.
 * Nothing here sleeps but file_put of the last reference.
 */
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

enum { FD_MIN_CAP = 32 };

struct fdtable {
	u32 refs;
	u32 cap; /* power of two, multiple of 32 */
	u32 free_hint;
	struct file **file;
	u32 *cloexec;
};

struct fdtable *fdtable_new(void)
{
	struct fdtable *t = kzalloc(sizeof(*t));

	if (!t)
		return NULL;
	t->refs = 1;
	return t;
}

static bool grow(struct fdtable *t, u32 need)
{
	u32 cap = t->cap ? t->cap : FD_MIN_CAP;

	while (cap < need)
		cap *= 2;
	if (cap == t->cap)
		return true;
	struct file **file = kzalloc(cap * sizeof(*file));
	u32 *cloexec = kzalloc(cap / 8);
	if (!file || !cloexec) {
		kfree(file);
		kfree(cloexec);
		return false;
	}
	if (t->cap) {
		memcpy(file, t->file, t->cap * sizeof(*file));
		memcpy(cloexec, t->cloexec, t->cap / 8);
	}
	kfree(t->file);
	kfree(t->cloexec);
	t->file = file;
	t->cloexec = cloexec;
	t->cap = cap;
	return true;
}

struct fdtable *fdtable_fork(struct fdtable *t)
{
	struct fdtable *n = fdtable_new();

	if (!n)
		return NULL;
	if (t->cap && !grow(n, t->cap)) {
		kfree(n);
		return NULL;
	}
	for (u32 i = 0; i < t->cap; i++)
		if ((n->file[i] = t->file[i]))
			file_get(n->file[i]);
	if (t->cap)
		memcpy(n->cloexec, t->cloexec, t->cap / 8);
	n->free_hint = t->free_hint;
	return n;
}

/* A descriptor of f that was in t is closed. The error that close() tells. */
static int let_go(struct fdtable *t, struct file *f)
{
	int err = 0;

	/* POSIX: closing any descriptor of a file drops the process's record locks on it */
	if (f->inode && f->inode->locks)
		locks_table_closed(t, f->inode);
	if (f->ops->flush && !(f->flags & O_PATH))
		err = f->ops->flush(f);
	file_put(f);
	return err;
}

void fdtable_put(struct fdtable *t)
{
	if (!t || --t->refs)
		return;
	for (u32 i = 0; i < t->cap; i++) {
		struct file *f = t->file[i];

		if (!f)
			continue;
		t->file[i] = NULL;
		let_go(t, f);
	}
	kfree(t->file);
	kfree(t->cloexec);
	kfree(t);
}

void fdtable_get(struct fdtable *t)
{
	t->refs++;
}

struct fdtable *fdtable_unshare(struct fdtable *t)
{
	struct fdtable *n;

	if (t->refs == 1)
		return t;
	n = fdtable_fork(t);
	if (n)
		t->refs--;
	return n;
}

void fds_release(struct process *p)
{
	struct fdtable *t = p->fds;

	p->fds = NULL;
	fdtable_put(t);
}

struct fdtable *fdtable_seen(const struct process *p)
{
	return p == current->proc ? fdtable_current() : p->fds;
}

struct fdtable *fdtable_current(void)
{
	return current->own_fds ? current->own_fds : current->proc->fds;
}

int fdtable_unshare_current(void)
{
	struct process *p = current->proc;
	bool leave = !current->own_fds && p->n_threads > 1;
	struct fdtable *n = leave ? fdtable_fork(p->fds) : fdtable_unshare(fdtable_current());

	if (!n)
		return -ENOMEM;
	if (leave || current->own_fds)
		current->own_fds = n;
	else
		p->fds = n;
	return 0;
}

/* Whose table becomes the process's, as nobody else is left who has that one; NULL: somebody has. */
static struct thread *heir(const struct thread *t)
{
	struct thread *found = NULL;

	list_for_each (it, &t->proc->threads) {
		struct thread *other = list_entry(it, struct thread, process_node);

		if (other == t || other->exiting)
			continue;
		if (!other->own_fds)
			return NULL;
		found = other;
	}
	return found;
}

void fdtable_leave(struct thread *t)
{
	struct fdtable *own = t->own_fds;
	struct thread *h = heir(t);

	t->own_fds = NULL;
	if (h) {
		struct fdtable *old = t->proc->fds;

		t->proc->fds = h->own_fds;
		h->own_fds = NULL;
		fdtable_put(old);
	}
	fdtable_put(own);
}

static struct fdtable *fds(void)
{
	return fdtable_current();
}

struct file *fdtable_file(struct fdtable *t, int fd)
{
	return t && (u32)fd < t->cap ? t->file[fd] : NULL;
}

int fdtable_next(struct fdtable *t, int from)
{
	for (u32 i = (u32)MAX(from, 0); t && i < t->cap; i++)
		if (t->file[i])
			return (int)i;
	return -1;
}

struct file *fd_get(int fd)
{
	struct file *f = fdtable_file(fds(), fd);

	if (likely(f))
		f->refs++;
	return f;
}

bool fdtable_cloexec(struct fdtable *t, int fd)
{
	return (u32)fd < t->cap && (t->cloexec[fd / 32] >> (fd % 32) & 1);
}

bool fd_cloexec(int fd)
{
	return fdtable_cloexec(fds(), fd);
}

static void set_cloexec(struct fdtable *t, u32 fd, bool on)
{
	u32 bit = 1u << (fd % 32);

	t->cloexec[fd / 32] = on ? t->cloexec[fd / 32] | bit : t->cloexec[fd / 32] & ~bit;
}

void fd_set_cloexec(int fd, bool on)
{
	set_cloexec(fds(), (u32)fd, on);
}

static u64 fd_limit(void)
{
	return MIN(current->proc->rlim[RLIMIT_NOFILE].rlim_cur, 1u << 20);
}

int fd_install(struct file *f, bool cloexec, int min)
{
	struct fdtable *t = fds();
	u32 fd = MAX((u32)min, t->free_hint);

	while (fd < t->cap && t->file[fd])
		fd++;
	if (fd >= fd_limit())
		return -EMFILE;
	if (fd >= t->cap && !grow(t, fd + 1))
		return -ENOMEM;
	t->file[fd] = f;
	set_cloexec(t, fd, cloexec);
	if ((u32)min <= t->free_hint)
		t->free_hint = fd + 1;
	return (int)fd;
}

/* Take fd out of the table and let its file go. */
static int drop(struct fdtable *t, u32 fd)
{
	if (fd >= t->cap || !t->file[fd])
		return -EBADF;
	struct file *f = t->file[fd];
	t->file[fd] = NULL;
	set_cloexec(t, fd, false);
	if (fd < t->free_hint)
		t->free_hint = fd;
	return let_go(t, f);
}

int fd_install_at(struct file *f, int fd, bool cloexec)
{
	struct fdtable *t = fds();

	if (fd < 0 || (u64)fd >= fd_limit())
		return -EBADF;
	if ((u32)fd >= t->cap && !grow(t, (u32)fd + 1))
		return -ENOMEM;
	struct file *old = t->file[fd];
	t->file[fd] = f;
	set_cloexec(t, (u32)fd, cloexec);
	if ((u32)fd == t->free_hint)
		t->free_hint++;
	if (old)
		let_go(t, old);
	return fd;
}

int fd_close(int fd)
{
	return fd < 0 ? -EBADF : drop(fds(), (u32)fd);
}

void fd_close_on_exec(struct fdtable *t)
{
	for (u32 fd = 0; fd < t->cap; fd++)
		if (t->file[fd] && fdtable_cloexec(t, (int)fd))
			drop(t, fd);
}

void fd_close_range(u32 first, u32 last, bool only_cloexec)
{
	struct fdtable *t = fds();

	for (u32 fd = first; fd < t->cap && fd <= last; fd++) {
		if (!t->file[fd])
			continue;
		if (only_cloexec)
			set_cloexec(t, fd, true);
		else
			drop(t, fd);
	}
}
