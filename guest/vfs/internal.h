/* SPDX-License-Identifier: ISC */
/* What the files of vfs/ and the system calls on files (linux/sys_f*.c) share, and nobody else needs. */
#ifndef COWBELL_GUEST_VFS_INTERNAL_H
#define COWBELL_GUEST_VFS_INTERNAL_H

#include <linux/fcntl.h>

#include "guest/vfs/inode.h"

/* Missing in the uapi headers, or hidden behind libc's. */
#define S_IFMT_(m)     ((m)&0170000)
#define IS_DIR(i)      (S_IFMT_((i)->mode) == S_IFDIR)
#define IS_REG(i)      (S_IFMT_((i)->mode) == S_IFREG)
#define IS_LNK(i)      (S_IFMT_((i)->mode) == S_IFLNK)
#define IS_DIR_MODE(m) (S_IFMT_(m) == S_IFDIR)
#define IS_LNK_MODE(m) (S_IFMT_(m) == S_IFLNK)
#define DT_OF_MODE(m)  (u8)(((m) >> 12) & 15)
#define O_ACCESS(f)    ((f)&O_ACCMODE)
#define CAN_READ(f)    (O_ACCESS((f)->flags) != O_WRONLY && !((f)->flags & O_PATH))
#define CAN_WRITE(f)   (O_ACCESS((f)->flags) != O_RDONLY && !((f)->flags & O_PATH))

/* --- where a process is ----------------------------------------------------- */
struct fs_context {
	u32 refs;
	u32 umask;
	struct dentry *root, *cwd;
};
struct fs_context *current_fs(void);
bool vfs_in_group(u32 gid); /* current's fsgid or supplementary groups */
void dentry_pin_mountpoint(struct dentry *d);
extern struct superblock *root_sb;

/*
 * A walk in progress (path.c). walk_parent() leaves the directory in `cur` and the last component in
 * last/len; len 0: there is none, `cur` is the result ("/", or after a magic link). walk_last() takes the
 * last one; 1 means that it was a symbolic link and walk_parent() must go on.
 */
struct walk {
	struct dentry *cur, *root, *start; /* referenced */
	const char *p; /* what remains */
	char *alloc; /* p lies in here after a link */
	const char *last;
	u32 len;
	u32 flags; /* WALK_* */
	u32 links;
	bool slash; /* slashes follow the last component */
	bool must_dir; /* they did before a link was followed */
	bool dots; /* last component is "." or ".." */
};
int walk_start(struct walk *w, int dirfd, const char *path, u32 flags);
int walk_parent(struct walk *w);
int walk_last(struct walk *w);
int walk_follow(struct walk *w, struct dentry *link); /* go on at the end of a link */
struct dentry *dentry_cross(struct dentry *d); /* to what is mounted here; takes and gives a reference */
void walk_end(struct walk *w);

/* --- descriptors (fdtable.c) ------------------------------------------------- */
bool fd_cloexec(int fd);
void fd_set_cloexec(int fd, bool on);
bool fdtable_cloexec(struct fdtable *t, int fd);
/* Put f at exactly fd, closing what is there. fd or -EBADF. Takes the reference on success. */
int fd_install_at(struct file *f, int fd, bool cloexec);
/* Close (or mark close-on-exec) all in [first, last]. */
void fd_close_range(u32 first, u32 last, bool only_cloexec);

/* --- opening (open.c) ----------------------------------------------------------- */
struct file *file_open_dentry(struct dentry *d, u32 flags,
			      int *err); /* no permission check; d gets a reference */
int vfs_open_at(int dirfd, const char *path, u32 flags, u32 mode, u32 walk_flags, struct file **out);
int vfs_truncate(struct inode *ino, u64 size);
extern const struct file_ops path_fops; /* O_PATH */

/* --- changes in directories (namei.c): -errno -------------------------------------- */
int vfs_mkdir(int dirfd, const char *path, u32 mode);
int vfs_mknod(int dirfd, const char *path, u32 mode, u64 rdev);
int vfs_unlink(int dirfd, const char *path);
int vfs_rmdir(int dirfd, const char *path);
int vfs_symlink(const char *target, int dirfd, const char *path);
int vfs_link(int odirfd, const char *old, int ndirfd, const char *new, u32 walk_flags);
int vfs_rename(int odirfd, const char *old, int ndirfd, const char *new, u32 flags);
int vfs_may_create(struct inode *dir);

/* --- memory file system (memfs.c): tmpfs, and the overlay on image layers ----------- */
struct superblock *memfs_new(const char *type, struct inode **root);
struct inode *memfs_anon_inode(u32 mode);
int memfs_add_layer(const void *base, u64 size, u64 gpa); /* lowest first; before memfs_new_root */
struct superblock *memfs_new_root(struct inode **root); /* the overlay on all layers */
u32 memfs_seals(struct inode *ino);
int memfs_add_seals(struct inode *ino, u32 seals);
bool inode_is_memfs(struct inode *ino);
s64 memfs_seek_data(struct inode *ino, u64 off, bool hole);
/* Make `fn` fill a directory when it is first looked into. */
void memfs_lazy(struct inode *dir, void (*fn)(struct inode *dir));
struct inode *memfs_mknod(struct inode *dir, const char *name, u32 mode, u64 rdev);
struct inode *memfs_mklink(struct inode *dir, const char *name, const char *target);

/* --- special files -------------------------------------------------------------------- */
int dev_open(struct inode *ino, struct file *f); /* by ino's rdev (dev.c) */
void dev_init(struct inode *root); /* fills itself at the first look */
int fifo_open(struct inode *ino, struct file *f);
void fifo_inode_gone(struct inode *ino);
struct file *eventfd_new(u64 count, u32 flags);
struct pipe;
struct pipe *file_pipe(struct file *f); /* NULL: not a pipe */
s64 pipe_set_size(struct pipe *p, u64 size);
u64 pipe_get_size(struct pipe *p);
/* Copy up to n bytes without taking them; take n bytes. */
u64 pipe_peek(struct pipe *p, void *buf, u64 n);
void pipe_consume(struct pipe *p, u64 n);
/* Sleep until there are data: 0 end of file, > 0 bytes there, -EAGAIN, -ERESTARTSYS. */
s64 pipe_wait_data(struct pipe *p, bool nonblock);
u64 pipe_room(struct pipe *p);
s64 pipe_wait_room(struct pipe *p);
int console_open(struct file *f, int stream); /* console.c */
bool console_is_tty(int stream);
struct superblock *pts_new(struct inode **root);
int ptmx_open(struct inode *ino, struct file *f);
struct superblock *proc_new(struct inode **root);
struct superblock *sys_new(struct inode **root);

/* --- locks (lock.c) -------------------------------------------------------------------- */
int locks_restored(struct inode *ino); /* the host gave up all locks of ino: get them again. 0 or -errno */
void locks_file_gone(struct file *f); /* flock and OFD locks of f */
s64 lock_flock(struct file *f, int op);
struct flock;
s64 lock_fcntl(struct file *f, u32 cmd,
	       struct flock *fl); /* F_GETLK, F_SETLK(W) and their OFD twins; GETLK answers in *fl */
struct fdtable;
void locks_table_closed(struct fdtable *t, struct inode *ino); /* POSIX locks of those who use t */
struct text;
void locks_show(struct text *t); /* /proc/locks */

/* --- signals for what happens (async.c) ---------------------------------------------------- */
int file_async_begin(struct file *f, int fd); /* O_ASYNC was set: 0 or -ENOMEM */
void file_async_end(struct file *f); /* it was cleared, or f goes away */
int file_set_owner(struct file *f, s32 owner, bool thread); /* F_SETOWN */

/* --- inotify (inotify.c) ----------------------------------------------------------------- */
extern u32 inotify_watches; /* how many exist: the hot path's test */
void inotify_post(struct inode *ino, u32 mask, u32 cookie, const char *name, u32 len);
void inotify_dentry_event(struct dentry *d, u32 mask); /* to d's inode and its parent */
void inotify_unlinked(struct inode *ino); /* a name of it was removed */
static inline void notify(struct dentry *d, u32 mask)
{
	if (unlikely(inotify_watches) && d)
		inotify_dentry_event(d, mask);
}
static inline void notify_name(struct inode *dir, u32 mask, u32 cookie, const char *name, u32 len)
{
	if (unlikely(inotify_watches))
		inotify_post(dir, mask, cookie, name, len);
}

/* --- small ------------------------------------------------------------------------------------ */
s64 file_read(struct file *f, struct uio *u, u64 *pos); /* checks mode; inotify */
s64 file_write(struct file *f, struct uio *u, u64 *pos); /* also RLIMIT_FSIZE */
s64 generic_lseek(struct file *f, s64 off, int whence);

/* A growing text: what /proc and fdinfo are written with. */
struct text {
	char *p;
	size_t len, cap;
	bool failed;
};
void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_bytes(struct text *t, const void *p, size_t n);
void text_path(struct text *t, const char *path); /* space, tab, newline, backslash as \ooo */

#endif
