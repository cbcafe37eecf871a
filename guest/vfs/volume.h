/* SPDX-License-Identifier: ISC */
/*
 * Volumes: host directories, reached over the ring. volume.c has inodes and
 * attributes, volume_name.c names, volume_lock.c locks, volume_data.c files,
 * volume_pages.c their cached pages.
 *
 * Names of files are not cached: the host may change them, so each walk asks,
 * by the whole path below the volume. A directory on the way is believed for
 * NAME_VALID_NS after it was seen; should it be gone, the host says so when it
 * resolves the path. An inode
 * knows its parent and name, as the last lookup saw them; operations on names
 * send the path. Inodes are found again by the host's (device, inode number),
 * so hard links and reopened files share one page cache.
 *
 * Contents are cached in frames, for reads and mappings. A write goes to the
 * cache and is sent just before the next doorbell (ring_defer), so everything
 * written is with the host when the program next waits for anything, exits,
 * or has 1 MiB outstanding; an error that the host reports then is given to
 * the next write, fsync or close, whichever is first. fsync sends what is
 * dirty and then asks the host to make it durable; the ring keeps the order.
 * Stores through a shared mapping are sent by msync, fsync, the last close and
 * at exit.
 *
 * What the host changes in a file is seen at the next open, as on NFS: if
 * mtime or size are not what we last saw and not our own doing, the cached
 * pages are dropped. A file that grows is seen when a reader meets its end.
 * Locks (flock, record and open-file locks) are held on the host too, so they
 * exclude other instances and the host's programs; whoever gets one sees what
 * others wrote before, but for pages that are mapped.
 */
#ifndef COWBELL_GUEST_VFS_VOLUME_H
#define COWBELL_GUEST_VFS_VOLUME_H

#include "guest/plat/ring.h"
#include "guest/vfs/internal.h"
#include "guest/vfs/pagetree.h"

struct volume {
	struct superblock sb;
	u32 id;
	struct vnode *by_id[128];
};

struct vnode {
	struct inode i;
	struct volume *vol;
	struct vnode *parent; /* referenced; NULL: the root */
	char *name;
	u64 host_dev, host_ino;
	struct vnode *hash_next;
	struct kstat st; /* as the host told last */
	u64 st_ns; /* when */

	/* regular files */
	u64 size; /* as the program sees it: ours may be ahead of the host's */
	u32 rh, wh; /* host's open file for reading, for reading and writing */
	u32 lh; /* and the one that holds locks, since they must all be on one */
	u32 n_open;
	u64 gen; /* changes with every change of contents: a read in flight may be stale */
	u64 next_read; /* page after the last one read, for read-ahead */
	u32 window; /* pages to read ahead */
	struct pagetree pages;
	struct list cached; /* on the list of vnodes with pages, which holds a reference */
	u64 dirty_lo, dirty_hi, n_dirty;
	struct ring_deferred send;
	u64 changed; /* volume_clock when we sent something that changes it */
	bool wrote; /* since st was taken: a new mtime is ours */
	u32 n_flight;
	struct waitq flight_wait;
	int error; /* of a delayed write, for the next fsync */
};

static inline struct vnode *vnode(struct inode *i)
{
	return container_of(i, struct vnode, i);
}

/* Path below the volume's root, in kmalloc'ed memory for the ring; name may be NULL. Free with kfree. */
struct vpath {
	char *p;
	u32 len;
};
int volume_path(struct vnode *v, const char *name, u32 name_len, struct vpath *out);
/*
 * Take what the host told about v. `asked` is volume_clock when the question was put into the ring: an
 * answer to a question that our later writes overtook says nothing about contents.
 */
void volume_take_stat(struct vnode *v, const struct statx *sx, u64 asked);
extern u64 volume_clock; /* counts what is sent to hosts that changes contents */
void volume_close_handles(struct vnode *v);
void volume_close_handle(u32 h); /* queued; nobody waits for it */
bool volume_is_fresh(const struct vnode *v); /* its attributes are as of this moment */
int volume_refresh(struct vnode *v); /* ask the host for attributes */

u32 volume_handle(const struct vnode *v); /* of the volume, for operations on paths */
/* A path operation of `sqe->op` on name in dir v, or on v itself. */
s64 volume_path_call(struct vnode *v, const char *name, u32 len, struct ring_sqe *sqe, u64 *val);
/* The inode that the host described, under its name in dir; referenced. `asked`: see volume_take_stat(). */
int volume_find(struct vnode *dir, const char *name, u32 len, const struct statx *sx, u64 asked,
		struct vnode **out);
/* v is now known as `name` in dir. */
int volume_set_place(struct vnode *v, struct vnode *dir, const char *name, u32 len);

/* volume_name.c: inode operations */
bool volume_name_valid(struct inode *ino, struct inode *dir, const char *name, u32 len);
int volume_lookup(struct inode *dir, const char *name, u32 len, struct inode **out);
int volume_create(struct inode *dir, const char *name, u32 len, u32 mode, u64 rdev, struct inode **out);
int volume_mkdir(struct inode *dir, const char *name, u32 len, u32 mode, struct inode **out);
int volume_symlink(struct inode *dir, const char *name, u32 len, const char *target, struct inode **out);
int volume_link(struct inode *dir, const char *name, u32 len, struct inode *ino);
int volume_rename(struct inode *odir, const char *oname, u32 olen, struct inode *ndir, const char *nname,
		  u32 nlen, struct inode *ino, struct inode *over, u32 flags);
int volume_unlink(struct inode *dir, const char *name, u32 len, struct inode *victim);
int volume_rmdir(struct inode *dir, const char *name, u32 len, struct inode *victim);
s64 volume_readlink(struct inode *ino, char *buf, size_t size);
int volume_readdir(struct inode *dir, struct dir_sink *s);
int volume_dir_fsync(struct file *f, bool data_only);

/* volume_lock.c */
int volume_lock_open(struct inode *ino);
int volume_lock(struct inode *ino, bool flock, enum host_lock type, u64 first, u64 last);

/* volume_data.c */
extern const struct file_ops volume_fops;
int volume_open_file(struct vnode *v, struct file *f);
int volume_truncate(struct vnode *v, u64 size);

/* volume_pages.c */
#define VOLUME_MAX_ORDER 6u /* frames in one transfer: 256 KiB */
#define VOLUME_GPA(e)	 GPA((e)&PAGE_MASK) /* of a page's entry */
static inline u32 volume_read_handle(const struct vnode *v)
{
	return v->wh != RING_NO_HANDLE ? v->wh : v->rh;
}
/* The entry of a page, brought in if needed, with those after it in the window; 0 and *err. */
u64 volume_page_at(struct vnode *v, u64 index, u32 window, bool may_sleep, int *err);
/* The entry of the page that [pos, pos+left) of a write starts in. */
u64 volume_page_for_write(struct vnode *v, u64 pos, u64 left, int *err);
/* The file is another open one of the host: cached pages are the host's again, those that are mapped in their place. */
void volume_pages_restored(struct vnode *v);
/* A page was or will be written; flags: 0, or PG_STORES, volume_pages.c's. */
void volume_set_dirty(struct vnode *v, u64 index, u64 entry, u64 flags);
/* Zero [from, to) of the pages that are cached. */
void volume_zero_cached(struct vnode *v, u64 from, u64 to);
/* Queue everything dirty for the host. Never sleeps. */
void volume_send(struct vnode *v);
void volume_send_run(struct ring_deferred *d);
/* Wait until what was sent is with the host, and take the error of a delayed write. */
int volume_settle(struct vnode *v);
/* Drop clean pages that nobody has mapped. */
void volume_drop_clean(struct vnode *v);
void volume_drop_from(struct vnode *v, u64 index); /* all from there on */
void volume_free_pages(struct vnode *v); /* at eviction */
int volume_get_page(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa, u32 *run);

#endif
