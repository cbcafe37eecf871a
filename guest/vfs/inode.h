/* SPDX-License-Identifier: ISC */
/*
 * Inside the vfs: what a file system provides, and what it is given.
 *
 * A file system is a superblock and inodes with a table of operations. The
 * path walk (path.c) works on dentries: a dentry names an inode in a directory
 * and is cached. Every superblock is mounted at one place, so a dentry alone
 * says where it is: no separate mount object.
 *
 * References: whoever keeps a struct inode * or struct dentry * past a sleeping
 * point holds a reference. A dentry holds one on its inode and one on its
 * parent. When the last reference of an inode goes, ops->evict() frees it
 * (struct inode is embedded in the file system's own object).
 *
 * Operations on names get a name that is not NUL-terminated, 1..255 bytes,
 * never "." or "..". Permissions, read-only mounts, name existence and
 * directory-ness were checked by path.c before; emptiness for rmdir and
 * rename is the file system's business. Credentials for new objects:
 * vfs_cred(). An operation that is NULL gives the error in brackets.
 */
#ifndef COWBELL_GUEST_VFS_INODE_H
#define COWBELL_GUEST_VFS_INODE_H

#include <asm-generic/errno.h>
#include <asm/statfs.h>
#include <linux/limits.h>

#include "guest/vfs/vfs.h"

struct superblock;
struct dentry;

/* What to change, for setattr. */
struct iattr {
	u32 valid; /* ATTR_* */
	u32 mode; /* permission bits, 07777 */
	u32 uid, gid;
	u64 size;
	s64 atime_ns, mtime_ns;
};
enum { ATTR_MODE = 1, ATTR_UID = 2, ATTR_GID = 4, ATTR_SIZE = 8, ATTR_ATIME = 16, ATTR_MTIME = 32 };

/* A directory reader's sink. emit returns false when full: stop, the entry was not taken. */
struct dir_sink {
	bool (*emit)(struct dir_sink *s, const char *name, u32 len, u64 ino, u8 type, u64 next_pos);
	u64 pos; /* where to start: 0, or a next_pos given earlier. "." and ".." are emitted by the caller */
};

enum host_lock { HOST_UNLOCK, HOST_LOCK_SHARED, HOST_LOCK_EXCLUSIVE, HOST_ASK_SHARED, HOST_ASK_EXCLUSIVE };

/* For create on a SB_NOCACHE file system: a file of that name which others made meanwhile will do, too. */
#define CREATE_OR_FIND 1

struct inode_ops {
	/* all kinds */
	int (*getattr)(struct inode *ino, struct kstat *st); /* required; st is zeroed */
	int (*setattr)(struct inode *ino, const struct iattr *a); /* [-EPERM] */
	int (*open)(struct inode *ino, struct file *f); /* set f->ops, f->priv; NULL: f->ops = fops */
	const struct file_ops *fops;
	void (*evict)(struct inode *ino); /* last reference gone */
	/* files */
	u64 (*size)(struct inode *ino); /* NULL: 0 */
	int (*get_page)(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa,
			u32 *run); /* [-ENODEV] */
	/* directories. Results in *out are referenced. */
	int (*lookup)(struct inode *dir, const char *name, u32 len,
		      struct inode **out); /* -ENOENT; required */
	/* regular, fifo, socket, device by mode & S_IFMT [-EPERM]. rdev of a regular file: 0 or CREATE_OR_FIND */
	int (*create)(struct inode *dir, const char *name, u32 len, u32 mode, u64 rdev, struct inode **out);
	int (*mkdir)(struct inode *dir, const char *name, u32 len, u32 mode,
		     struct inode **out); /* [-EPERM] */
	int (*symlink)(struct inode *dir, const char *name, u32 len, const char *target,
		       struct inode **out); /* [-EPERM] */
	int (*link)(struct inode *dir, const char *name, u32 len, struct inode *ino); /* [-EPERM] */
	int (*unlink)(struct inode *dir, const char *name, u32 len,
		      struct inode *victim); /* not a directory [-EPERM] */
	int (*rmdir)(struct inode *dir, const char *name, u32 len,
		     struct inode *victim); /* -ENOTEMPTY [-EPERM] */
	/* flags: 0, RENAME_NOREPLACE, RENAME_EXCHANGE. `over` is what new name is now, or NULL. [-EPERM] */
	int (*rename)(struct inode *odir, const char *oname, u32 olen, struct inode *ndir, const char *nname,
		      u32 nlen, struct inode *ino, struct inode *over, u32 flags);
	int (*readdir)(struct inode *dir, struct dir_sink *s); /* 0 at end or when the sink is full */
	/* symbolic links: one of */
	s64 (*readlink)(struct inode *ino, char *buf, size_t size); /* length, not terminated */
	int (*follow)(struct inode *ino, struct dentry **out); /* magic link: where it leads, referenced */
	/* extended attributes: length (size 0 asks), -ENODATA, -ERANGE [-EOPNOTSUPP] */
	s64 (*getxattr)(struct inode *ino, const char *name, void *buf, size_t size);
	s64 (*listxattr)(struct inode *ino, char *buf, size_t size);
	int (*setxattr)(struct inode *ino, const char *name, const void *val, size_t len,
			int flags); /* val NULL: remove */
	/* own permission check instead of the mode bits'; mask of 4 read, 2 write, 1 search */
	int (*permission)(struct inode *ino, int mask);
	/* SB_NOCACHE: the name, looked up a while ago, may still be believed. NULL: never */
	bool (*name_valid)(struct inode *ino, struct inode *dir, const char *name, u32 len);
	/* files that others outside the instance may lock. open: may sleep, before the first lock; lock: get
	 * (-EAGAIN: somebody has it), give up, or ask (0: free, 1: somebody shares it, 2: somebody has it), never
	 * sleeps. flock: the range means nothing */
	int (*lock_open)(struct inode *ino);
	int (*lock)(struct inode *ino, bool flock, enum host_lock type, u64 first, u64 last);
};

enum {
	SB_RDONLY = 1, /* changes give -EROFS */
	SB_NOCACHE = 2, /* names change behind our back: every walk calls lookup (proc, volumes) */
	SB_NOEXEC = 4,
	SB_NODEV = 8,
	SB_NOSUID = 16,
};

struct superblock {
	struct list node; /* all mounted, in mount order */
	const char *type, *source, *options; /* as /proc/mounts shows them */
	u32 flags; /* SB_* */
	u32 magic; /* statfs f_type */
	u64 dev; /* st_dev; vfs_mount fills it in if 0 */
	int mnt_id;
	struct dentry *root;
	struct dentry *mountpoint; /* NULL: "/" or not mounted */
	int (*statfs)(struct superblock *sb,
		      struct statfs *st); /* fills sizes; type and id are filled before */
	int (*sync)(struct superblock *sb);
	void *priv;
};

struct dentry {
	u32 refs;
	u32 hash;
	u8 flags; /* D_* */
	u8 len;
	struct inode *inode; /* NULL: known not to exist */
	struct dentry *parent; /* itself for a root */
	struct superblock *sb;
	struct superblock *mounted; /* what is mounted on it */
	struct dentry *hash_next;
	struct list lru;
	char *name;
	char name_buf[32];
};
enum { D_HASHED = 1, D_DELETED = 2 };

/* --- mounting (mount.c) ---------------------------------------------------- */
/* Mount sb with `root` (reference taken over) at an absolute path, whose directories are made if missing. */
int vfs_mount(struct superblock *sb, struct inode *root, const char *path);
extern struct list vfs_mounts; /* struct superblock.node */
struct superblock *dentry_sb_root(struct dentry *d);
/* Implemented by volume.c: mounts boot->volumes; called at the end of vfs_init(). Must not sleep. */
void volumes_init(void);

/* --- helpers for file systems ------------------------------------------------- */
/* Give a new inode its first reference and clean lists. */
void inode_init(struct inode *ino, struct superblock *sb, const struct inode_ops *ops, u32 mode, u64 num);
struct vfs_cred {
	u32 uid, gid;
};
struct vfs_cred vfs_cred(void); /* fsuid, fsgid of current */
bool vfs_capable_owner(struct inode *ino); /* current may act as the owner */
/* Default file_ops.read of a directory etc. */
extern const struct file_ops dir_fops; /* getdents through ops->readdir; set for every directory by open.c */
#define MKDEV(ma, mi) ((((u64)(ma)&0xfff) << 8) | ((u64)(mi)&0xff) | (((u64)(mi) & ~0xffull) << 12))
#define DEV_MAJOR(d)  (((d) >> 8) & 0xfff)
#define DEV_MINOR(d)  (((d)&0xff) | (((d) >> 12) & ~0xffull))
u64 vfs_new_dev(void); /* an anonymous st_dev number */

/* --- dentries (dentry.c) ---------------------------------------------------------- */
void dentry_get(struct dentry *d);
void dentry_put(struct dentry *d);
struct dentry *dentry_new_root(struct superblock *sb, struct inode *ino); /* takes the reference of ino */
/* Find or make the dentry of a name; may be negative (inode NULL). Referenced. NULL + *err on failure. */
struct dentry *dentry_lookup(struct dentry *dir, const char *name, u32 len, int *err);
void dentry_instantiate(struct dentry *d,
			struct inode *ino); /* negative -> positive; takes ino's reference */
void dentry_unlinked(struct dentry *d); /* its name is gone */
void dentry_moved(struct dentry *d, struct dentry *ndir, const char *name, u32 len);
/* A cached dentry of an inode, not referenced; or NULL. Looks at all of them. */
struct dentry *dentry_of(const struct inode *ino);
/* A dentry that is in no directory, for nameless files. */
struct dentry *dentry_new_anon(struct inode *ino, const char *name);
/* Absolute path below `root`; length or -errno. */
int dentry_path(struct dentry *d, struct dentry *root, char *buf, size_t size);

/* --- walking (path.c) ------------------------------------------------------------- */
enum {
	WALK_FOLLOW = 1, /* follow a final symbolic link */
	WALK_DIRECTORY = 2, /* must be a directory */
	WALK_EMPTY = 4, /* AT_EMPTY_PATH */
	WALK_NO_SYMLINKS = 8, /* RESOLVE_* from here on */
	WALK_NO_MAGICLINKS = 16,
	WALK_NO_XDEV = 32,
	WALK_BENEATH = 64,
	WALK_IN_ROOT = 128,
	WALK_CREATE = 256, /* a trailing slash on a missing name is an error (open O_CREAT) */
};
/* Where a path leads: referenced dentry, positive. */
int path_walk(int dirfd, const char *path, u32 flags, struct dentry **out);
/* Mode-bit check of current's fsuid/fsgid. mask: 4 read, 2 write, 1 execute/search. */
int inode_permission(struct inode *ino, int mask);
int inode_permission_as(struct inode *ino, int mask, u32 uid, u32 gid);
int inode_getattr(struct inode *ino, struct kstat *st);
int inode_setattr(struct inode *ino, const struct iattr *a);

#endif
