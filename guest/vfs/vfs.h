/* SPDX-License-Identifier: ISC */
/*
 * Files as the rest of the library OS sees them: open files, descriptors,
 * paths, inodes and where their pages are.
 */
#ifndef COWBELL_GUEST_VFS_H
#define COWBELL_GUEST_VFS_H

#include <asm/fcntl.h>
#include <asm/poll.h>
#include <asm/stat.h>
#include <linux/stat.h>
#include <linux/uio.h>

#include "guest/base.h"
#include "guest/proc/waitq.h"

struct file;
struct inode;
struct vma;
struct process;

/* --- data on its way between a file and its user (uio.c) -------------------- */
struct uio {
	const struct iovec *iov; /* library OS copy of the vector */
	u32 n_iov;
	u32 cur; /* index, and offset in it */
	u64 cur_off;
	u64 left; /* bytes remaining */
	bool kernel; /* buffers are library OS memory */
};
void uio_single(struct uio *u, struct iovec *iov, void *buf, u64 len, bool kernel);
/* Copy and advance; return bytes moved (short on a fault). */
u64 uio_put(struct uio *u, const void *src, u64 n); /* towards the user */
u64 uio_get(struct uio *u, void *dst, u64 n); /* from the user */
u64 uio_zero(struct uio *u, u64 n);

/* --- readiness ----------------------------------------------------------------- */
/* A poll operation calls poll_on() for each queue that may change the answer. pt may be NULL. */
struct poll_table {
	void (*add)(struct poll_table *pt, struct waitq *q);
};
static inline void poll_on(struct poll_table *pt, struct waitq *q)
{
	if (pt)
		pt->add(pt, q);
}

/* --- open files ------------------------------------------------------------------ */
struct file_ops {
	const char
		*kind; /* for /proc/self/fd of nameless files: "socket", "pipe", "anon_inode:[eventpoll]" */
	/* pos NULL: not seekable. Return bytes or -errno (-ESPIPE for pread on a stream). May sleep. */
	s64 (*read)(struct file *f, struct uio *u, u64 *pos);
	s64 (*write)(struct file *f, struct uio *u, u64 *pos);
	u32 (*poll)(struct file *f,
		    struct poll_table *pt); /* NULL: always POLLIN|POLLOUT (and EPERM for epoll) */
	s64 (*ioctl)(struct file *f, u32 cmd, u64 arg);
	s64 (*lseek)(struct file *f, s64 off, int whence); /* NULL: not seekable, -ESPIPE */
	s64 (*getdents)(struct file *f, struct uio *u);
	int (*mmap)(struct file *f, struct vma *v); /* NULL: inode pages through get_page */
	int (*fsync)(struct file *f, bool data_only);
	s64 (*fallocate)(struct file *f, int mode, u64 off, u64 len);
	int (*set_flags)(struct file *f, u32 flags); /* O_NONBLOCK, O_APPEND... changed */
	int (*fdinfo)(struct file *f, char *buf, size_t size);
	void (*release)(struct file *f); /* last reference gone */
	int (*flush)(struct file *f); /* a descriptor of it is being closed: the error that close() returns */
};

struct dentry;

struct file {
	u32 refs;
	u32 flags; /* O_* */
	const struct file_ops *ops;
	struct inode *inode; /* NULL for sockets, epoll... that have none */
	struct dentry *dentry; /* where it was opened, or NULL */
	u64 pos;
	void *priv;
	s32 owner; /* F_SETOWN */
	int owner_sig;
	u32 owner_uid, owner_euid; /* of who set it */
	bool owner_is_thread;
	void *async; /* vfs/async.c: O_ASYNC is set */
	struct list epoll_links; /* struct epitem: net/epoll.c */
	void *locks; /* vfs/lock.c */
	u64 ino_anon; /* inode number shown for nameless files */
};

struct file *file_new(const struct file_ops *ops, u32 flags, void *priv); /* one reference; NULL: no memory */
void file_get(struct file *f);
void file_put(struct file *f); /* may sleep in release */

/* --- descriptors -------------------------------------------------------------------- */
struct fdtable;
struct fdtable *fdtable_new(void);
struct fdtable *fdtable_fork(struct fdtable *t);
void fdtable_get(struct fdtable *t); /* another process shares it */
/* t itself when nobody shares it, else a copy in exchange for the reference; NULL: no memory, t is as it was. */
struct fdtable *fdtable_unshare(struct fdtable *t);
void fdtable_put(struct fdtable *t); /* may sleep; NULL does nothing */
struct fdtable *fdtable_current(void); /* of the thread that runs: its own or its process's */
struct fdtable *
fdtable_seen(const struct process *p); /* for /proc: one's own process's as one has it oneself */
int fdtable_unshare_current(void); /* from other processes, and from other threads: 0 or -ENOMEM */
void fdtable_leave(struct thread *t); /* t, the one that runs, ends */
void fds_release(
	struct process *p); /* at its end: record locks and all descriptors; p->fds becomes NULL. May sleep */
struct file *fd_get(int fd); /* of current; referenced; NULL = EBADF. O_PATH files too */
int fd_install(struct file *f, bool cloexec,
	       int min); /* lowest free >= min; takes the reference; -EMFILE (caller still owns f) */
int fd_close(int fd);
void fd_close_on_exec(struct fdtable *t);
struct file *fdtable_file(struct fdtable *t, int fd); /* for /proc; borrowed */
int fdtable_next(struct fdtable *t, int from); /* next used fd >= from, or -1 */

/* --- inodes -------------------------------------------------------------------------- */
struct kstat {
	u64 ino, dev, rdev, size, blocks;
	u32 mode, nlink, uid, gid, blksize;
	s64 atime_ns, mtime_ns, ctime_ns, btime_ns;
};

struct inode_ops;
struct inode {
	u32 refs;
	u32 mode;
	const struct inode_ops *ops;
	struct list mappings; /* struct vma of shared mappings: mm's business */
	struct waitq lock_wait;
	void *locks; /* vfs/lock.c */
	void *watches; /* vfs/inotify.c */
	u64 ino, dev;
	struct superblock *sb; /* vfs/inode.h; NULL for nameless ones */
	void *special; /* a FIFO's pipe, a bound AF_UNIX socket */
};
/* Where the page at pgoff of a file is. Returns 0 and *gpa, *run = pages that follow contiguously
 * (>= 1); for RAM frames one reference is taken for each page that the caller asked (max_run).
 * write: the caller will store through it (shared mapping): allocate holes, break sharing, mark dirty.
 * -ENXIO beyond the end (SIGBUS), -ENOMEM. Must not sleep but for volumes (nosleep ring). */
int inode_get_page(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa, u32 *run);
void inode_get(struct inode *ino);
void inode_put(struct inode *ino);
u64 inode_size(struct inode *ino);

/* --- paths ------------------------------------------------------------------------------ */
/* Open as open(2) with the current process's root, cwd and credentials; -errno in *err. */
struct file *vfs_open(int dirfd, const char *path, u32 flags, u32 mode, int *err);
int vfs_stat_file(struct file *f, struct kstat *st);
/* Whole absolute path of an open file, " (deleted)" appended when gone. Length or -errno. */
int vfs_file_path(struct file *f, char *buf, size_t size);
s64 vfs_pread(struct file *f, void *kbuf, u64 n, u64 off); /* into library OS memory */
/* Nameless file on a hidden tmpfs, for memfd, shared anonymous memory and System V shm. */
struct file *vfs_anon_file(const char *name, u64 size, u32 flags);
struct process *proc_directory_process(struct file *f); /* f is an open /proc/PID: that process, or NULL */
void vfs_init(void); /* mounts: EROFS layers + overlay on /, /proc, /sys, /dev, /dev/shm, /tmp, volumes */
/* The instance ends: hand what volumes have cached to the monitor, stores through mappings too. Never sleeps. */
void volumes_send(void);
/* The instance ends: say on the log what output was lost without the program knowing. */
void console_finish(int wait_status);
int vfs_open_console(void); /* descriptors 0, 1, 2 of current */

struct fs_context *fs_context_new(void);
struct fs_context *fs_context_fork(struct fs_context *c);
void fs_context_get(struct fs_context *c);
struct fs_context *fs_context_unshare(struct fs_context *c); /* as fdtable_unshare() */
void fs_context_put(struct fs_context *c);
int vfs_bind_socket(const char *path, u32 mode, void *sock,
		    struct inode **out); /* AF_UNIX name: S_IFSOCK inode */
void *vfs_lookup_socket(const char *path, int *err); /* the sock given to vfs_bind_socket */

/* Signal-driven and event sources that live in vfs/: pipe.c, eventfd.c, timerfd.c, signalfd.c, inotify.c */
int pipe_new(struct file *ends[2], u32 flags); /* [0] read end, [1] write end */

#endif
