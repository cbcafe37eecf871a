/* SPDX-License-Identifier: ISC */
/*
 * Volumes: mounting, inodes, attributes. See volume.h for the idea.
 *
 * Life of a vnode: made by a lookup; kept by dentries, open files, children,
 * writes in flight and, while it has pages, by the page cache's list; gone
 * with its host handles when the last of these goes.
 */
#include "guest/vfs/volume.h"

#include <linux/fs.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/restored.h"

#define VOLUME_MAGIC 0x01021997 /* as 9p: the host's directory, over a channel */

/* The stat(2) that follows its own lookup needs no second question. */
#define FRESH_NS 200000u

static const struct inode_ops volume_ops;
static struct file_ops volume_dir_fops;

/* --- talking to the host ------------------------------------------------------ */

int volume_path(struct vnode *v, const char *name, u32 name_len, struct vpath *out)
{
	u32 len = name ? name_len : 0;

	for (struct vnode *p = v; p->parent; p = p->parent)
		len += (u32)strlen(p->name) + (len != 0);
	if (len >= RING_PATH_MAX)
		return -ENAMETOOLONG;
	*out = (struct vpath){kmalloc(len + 1), len};
	if (!out->p)
		return -ENOMEM;
	char *e = out->p + len;
	*e = 0;
	if (name) {
		e -= name_len;
		memcpy(e, name, name_len);
	}
	for (struct vnode *p = v; p->parent; p = p->parent) {
		size_t n = strlen(p->name);
		if (e != out->p + len)
			*--e = '/';
		e -= n;
		memcpy(e, p->name, n);
	}
	return 0;
}

u32 volume_handle(const struct vnode *v)
{
	return RING_VOL_BASE + v->vol->id;
}

/* A path operation of `op` on name in dir v, with a second block. */
s64 volume_path_call(struct vnode *v, const char *name, u32 len, struct ring_sqe *sqe, u64 *val)
{
	struct vpath p;
	int err = volume_path(v, name, len, &p);

	if (err)
		return err;
	sqe->handle = volume_handle(v);
	sqe->addr = ring_buf_gpa(p.p).v;
	sqe->len = p.len;
	s64 r = ring_call(sqe, val, NULL);
	kfree(p.p);
	return r;
}

/* --- attributes ----------------------------------------------------------------- */

static s64 stamp_ns(const struct statx_timestamp *t)
{
	return t->tv_sec * (s64)NS_PER_SEC + t->tv_nsec;
}

static void to_kstat(const struct statx *sx, struct kstat *st)
{
	*st = (struct kstat){
		.ino = sx->stx_ino,
		.size = sx->stx_size,
		.blocks = sx->stx_blocks,
		.mode = sx->stx_mode,
		.nlink = sx->stx_nlink,
		.uid = sx->stx_uid,
		.gid = sx->stx_gid,
		.blksize = sx->stx_blksize,
		.atime_ns = stamp_ns(&sx->stx_atime),
		.mtime_ns = stamp_ns(&sx->stx_mtime),
		.ctime_ns = stamp_ns(&sx->stx_ctime),
		.btime_ns = sx->stx_mask & STATX_BTIME ? stamp_ns(&sx->stx_btime) : 0,
	};
}

u64 volume_clock;

void volume_take_stat(struct vnode *v, const struct statx *sx, u64 asked)
{
	struct kstat st;

	to_kstat(sx, &st);
	st.dev = v->i.dev;
	v->i.mode = st.mode;
	v->i.ino = st.ino;
	v->st_ns = mono_ns();
	if (IS_REG(&v->i) && !v->n_dirty && !v->n_flight && v->changed <= asked) {
		if (!v->wrote && (st.mtime_ns != v->st.mtime_ns || st.size != v->st.size)) {
			v->gen++;
			volume_drop_clean(v);
		}
		v->size = st.size;
		v->wrote = false;
	}
	v->st = st;
}

int volume_refresh(struct vnode *v)
{
	struct statx *sx = kmalloc(sizeof(*sx));
	u32 h = v->wh != RING_NO_HANDLE ? v->wh : v->rh;
	s64 r;

	if (!sx)
		return -ENOMEM;
	volume_send(v); /* the host's answer is to know of all that was written */
	u64 asked = volume_clock;
	struct ring_sqe sqe = {
		.op = RING_OP_VOL_STAT, .handle = h, .addr2 = ring_buf_gpa(sx).v, .len2 = sizeof(*sx)};
	r = h != RING_NO_HANDLE ? ring_call(&sqe, NULL, NULL) : volume_path_call(v, NULL, 0, &sqe, NULL);
	if (!r)
		volume_take_stat(v, sx, asked);
	kfree(sx);
	return (int)r;
}

bool volume_is_fresh(const struct vnode *v)
{
	return !v->wrote && mono_ns() - v->st_ns < FRESH_NS;
}

static int volume_getattr(struct inode *ino, struct kstat *st)
{
	struct vnode *v = vnode(ino);
	int err = volume_is_fresh(v) ? 0 : volume_refresh(v);

	/* a name that went away on the host leaves what we know */
	if (err && err != -ENOENT)
		return err;
	*st = v->st;
	st->dev = ino->dev;
	if (IS_REG(ino))
		st->size = v->size;
	return 0;
}

static u64 volume_size(struct inode *ino)
{
	return IS_REG(ino) ? vnode(ino)->size : vnode(ino)->st.size;
}

/* By the mode bits of the last lookup, without another question. */
static int volume_permission(struct inode *ino, int mask)
{
	const struct kstat *st = &vnode(ino)->st;
	u32 mode = st->mode, m = (u32)mask;

	if (st->uid == vfs_cred().uid)
		mode >>= 6;
	else if (vfs_in_group(st->gid))
		mode >>= 3;
	return (mode & m) == m ? 0 : -EACCES;
}

static int volume_setattr(struct inode *ino, const struct iattr *a)
{
	struct vnode *v = vnode(ino);
	u32 mask = 0;
	int err;

	if (a->valid & ATTR_SIZE) {
		err = volume_truncate(v, a->size);
		if (err)
			return err;
	}
	struct ring_attr *ra = kzalloc(sizeof(*ra));
	if (!ra)
		return -ENOMEM;
	*ra = (struct ring_attr){.mode = a->mode,
				 .uid = a->valid & ATTR_UID ? a->uid : ~0u,
				 .gid = a->valid & ATTR_GID ? a->gid : ~0u,
				 .atime_ns = a->valid & ATTR_ATIME ? a->atime_ns : INT64_MIN,
				 .mtime_ns = a->valid & ATTR_MTIME ? a->mtime_ns : INT64_MIN};
	mask |= a->valid & ATTR_MODE ? RING_ATTR_MODE : 0;
	mask |= a->valid & (ATTR_UID | ATTR_GID) ? RING_ATTR_OWNER : 0;
	mask |= a->valid & (ATTR_ATIME | ATTR_MTIME) ? RING_ATTR_TIMES : 0;
	s64 r = 0;
	if (mask) {
		u32 h = v->wh != RING_NO_HANDLE ? v->wh : v->rh;
		struct ring_sqe sqe = {.op = RING_OP_VOL_SETATTR,
				       .handle = h,
				       .arg = mask,
				       .addr2 = ring_buf_gpa(ra).v,
				       .len2 = sizeof(*ra)};
		volume_send(v); /* a time set now is not to be overtaken by an earlier write */
		r = h != RING_NO_HANDLE ? ring_call(&sqe, NULL, NULL)
					: volume_path_call(v, NULL, 0, &sqe, NULL);
		if (!r && a->valid & ATTR_MODE)
			ino->mode = (ino->mode & ~07777u) | (a->mode & 07777);
	}
	kfree(ra);
	return (int)r;
}

/* --- inodes ----------------------------------------------------------------------- */

static struct vnode **bucket(struct volume *vol, u64 dev, u64 ino)
{
	return &vol->by_id[(ino * 0x9e3779b97f4a7c15ull >> 40 ^ dev) % ARRAY_SIZE(vol->by_id)];
}

static u64 host_dev(const struct statx *sx)
{
	return (u64)sx->stx_dev_major << 32 | sx->stx_dev_minor;
}

/* v is now known as `name` in dir. */
int volume_set_place(struct vnode *v, struct vnode *dir, const char *name, u32 len)
{
	if (v->parent == dir && v->name && strlen(v->name) == len && !memcmp(v->name, name, len))
		return 0;
	char *n = kmalloc(len + 1);
	if (!n)
		return -ENOMEM;
	memcpy(n, name, len);
	n[len] = 0;
	kfree(v->name);
	v->name = n;
	struct vnode *old = v->parent;
	inode_get(&dir->i);
	v->parent = dir;
	if (old)
		inode_put(&old->i);
	return 0;
}

static struct vnode *new_vnode(struct volume *vol, const struct statx *sx)
{
	struct vnode *v = kzalloc(sizeof(*v));

	if (!v)
		return NULL;
	inode_init(&v->i, &vol->sb, &volume_ops, sx->stx_mode, sx->stx_ino);
	v->vol = vol;
	v->rh = v->wh = v->lh = RING_NO_HANDLE;
	v->st_ns = mono_ns();
	v->host_dev = host_dev(sx);
	v->host_ino = sx->stx_ino;
	list_init(&v->cached);
	list_init(&v->send.node);
	v->send.run = volume_send_run;
	waitq_init(&v->flight_wait);
	v->dirty_lo = ~0ull;
	to_kstat(sx, &v->st);
	v->size = v->st.size;
	struct vnode **b = bucket(vol, v->host_dev, v->host_ino);
	v->hash_next = *b;
	*b = v;
	return v;
}

static void unhash(struct vnode *v)
{
	struct vnode **pp = bucket(v->vol, v->host_dev, v->host_ino);

	while (*pp && *pp != v)
		pp = &(*pp)->hash_next;
	if (*pp)
		*pp = v->hash_next;
}

/* The inode that the host described, under its name in dir. */
int volume_find(struct vnode *dir, const char *name, u32 len, const struct statx *sx, u64 asked,
		struct vnode **out)
{
	struct volume *vol = dir->vol;
	struct vnode *v = *bucket(vol, host_dev(sx), sx->stx_ino);

	while (v && (v->host_ino != sx->stx_ino || v->host_dev != host_dev(sx)))
		v = v->hash_next;
	if (v && ((v->i.mode ^ sx->stx_mode) & S_IFMT || v->st.btime_ns != stamp_ns(&sx->stx_btime))) {
		unhash(v); /* the number was used again for another file */
		v = NULL;
	}
	if (v) {
		inode_get(&v->i);
		volume_take_stat(v, sx, asked);
	} else {
		v = new_vnode(vol, sx);
		if (!v)
			return -ENOMEM;
	}
	int err = volume_set_place(v, dir, name, len);
	if (err) {
		inode_put(&v->i);
		return err;
	}
	*out = v;
	return 0;
}

static void close_done(struct ring_req *req, const struct ring_cqe *cqe)
{
	kfree(req);
}

void volume_close_handle(u32 h)
{
	struct ring_req *r;

	if (h == RING_NO_HANDLE || !(r = kzalloc(sizeof(*r))))
		return; /* without memory the handle stays until the end */
	r->done = close_done;
	r->sqe = (struct ring_sqe){.op = RING_OP_CLOSE, .flags = RING_SQE_QUIET, .handle = h};
	ring_submit(r);
}

void volume_close_handles(struct vnode *v)
{
	volume_close_handle(v->rh);
	volume_close_handle(v->wh);
	volume_close_handle(v->lh);
	v->rh = v->wh = v->lh = RING_NO_HANDLE;
}

static void volume_evict(struct inode *ino)
{
	struct vnode *v = vnode(ino);
	struct vnode *parent = v->parent;

	if (v->error)
		log_line(LOG_ERROR, "%s on a volume: writes were lost: error %d", v->name ? v->name : "/",
			 -v->error);
	unhash(v);
	volume_close_handles(v);
	volume_free_pages(v);
	list_del(&v->send.node);
	kfree(v->name);
	kfree(v);
	if (parent)
		inode_put(&parent->i);
}

static int volume_open(struct inode *ino, struct file *f)
{
	if (IS_DIR(ino)) {
		f->ops = &volume_dir_fops;
		return 0;
	}
	return IS_REG(ino) ? volume_open_file(vnode(ino), f) : -ENXIO;
}

static const struct inode_ops volume_ops = {
	.getattr = volume_getattr,
	.setattr = volume_setattr,
	.open = volume_open,
	.evict = volume_evict,
	.size = volume_size,
	.get_page = volume_get_page,
	.lookup = volume_lookup,
	.create = volume_create,
	.mkdir = volume_mkdir,
	.symlink = volume_symlink,
	.link = volume_link,
	.unlink = volume_unlink,
	.rmdir = volume_rmdir,
	.rename = volume_rename,
	.readdir = volume_readdir,
	.readlink = volume_readlink,
	.permission = volume_permission,
	.name_valid = volume_name_valid,
	.lock_open = volume_lock_open,
	.lock = volume_lock,
};

/* --- in a restored instance -------------------------------------------------------------- */

static struct volume *volumes[32];

static _Noreturn void refuse(const struct vnode *v, int err)
{
	struct ring_sqe sqe = {.op = RING_OP_EXIT, .handle = RING_NO_HANDLE, .arg = 125 << 8};

	log_line(LOG_ERROR,
		 "the snapshot cannot be restored: its program holds a lock on the file %s of volume %s, %s",
		 v->name ? v->name : "/", v->vol->sb.source,
		 err == -EAGAIN || err == -EACCES ? "and another program has it now"
						  : "which the host refuses");
	ring_call_nosleep(&sqe, NULL, NULL);
	panic("the instance went on after its end");
}

static void rehash(struct vnode *v, const struct statx *sx)
{
	struct vnode **b;

	unhash(v);
	v->host_dev = host_dev(sx);
	v->host_ino = sx->stx_ino;
	b = bucket(v->vol, v->host_dev, v->host_ino);
	v->hash_next = *b;
	*b = v;
}

/* The monitor opened its files again: what they are now, which may be other files of the same names. */
static void renew(struct vnode *v)
{
	static struct statx sx __attribute__((aligned(256))); /* nothing here sleeps */
	u32 h = volume_read_handle(v);
	struct ring_sqe sqe = {
		.op = RING_OP_VOL_STAT, .handle = h, .addr2 = ring_buf_gpa(&sx).v, .len2 = sizeof(sx)};
	int r;

	v->st_ns = 0;
	if (!IS_REG(&v->i))
		return;
	if (h != RING_NO_HANDLE && !ring_call_nosleep(&sqe, NULL, NULL)) {
		volume_take_stat(v, &sx, volume_clock);
		rehash(v, &sx);
		if (!v->n_dirty)
			v->size = v->st.size;
		volume_pages_restored(v);
	}
	r = v->lh != RING_NO_HANDLE ? locks_restored(&v->i) : 0;
	if (r)
		refuse(v, r);
}

void volumes_restored(void)
{
	for (u32 i = 0; i < boot->n_volumes && i < ARRAY_SIZE(volumes); i++) {
		for (u32 b = 0; volumes[i] && b < ARRAY_SIZE(volumes[i]->by_id); b++) {
			for (struct vnode *v = volumes[i]->by_id[b], *next; v; v = next) {
				next = v->hash_next;
				renew(v); /* may move it: one that comes to a later place is looked at twice */
			}
		}
	}
}

/* --- mounting ------------------------------------------------------------------------------- */

static int volume_statfs(struct superblock *sb, struct statfs *st)
{
	struct volume *vol = container_of(sb, struct volume, sb);
	struct statfs *h = kzalloc(sizeof(*h));

	if (!h)
		return -ENOMEM;
	struct ring_sqe sqe = {.op = RING_OP_VOL_STATFS,
			       .handle = RING_VOL_BASE + vol->id,
			       .addr2 = ring_buf_gpa(h).v,
			       .len2 = sizeof(*h)};
	s64 r = ring_call(&sqe, NULL, NULL);
	if (!r) {
		h->f_type = st->f_type;
		h->f_fsid = st->f_fsid;
		*st = *h;
	}
	kfree(h);
	return (int)r;
}

static int volume_sync(struct superblock *sb)
{
	volumes_send();
	return 0;
}

static void mount_volume(u32 id, const char *path)
{
	struct volume *vol = kzalloc(sizeof(*vol));
	struct statx sx = {.stx_mode = S_IFDIR | 0755}; /* the first look at it asks the host */
	struct vnode *root;

	if (!vol)
		panic("volumes: out of memory");
	vol->id = id;
	if (id < ARRAY_SIZE(volumes))
		volumes[id] = vol;
	vol->sb.type = "volume";
	vol->sb.source = path;
	vol->sb.options = "";
	vol->sb.flags = SB_NOCACHE | SB_NODEV | SB_NOSUID | (boot->volumes_ro >> id & 1 ? SB_RDONLY : 0);
	vol->sb.magic = VOLUME_MAGIC;
	vol->sb.dev = vfs_new_dev();
	vol->sb.statfs = volume_statfs;
	vol->sb.sync = volume_sync;
	root = new_vnode(vol, &sx);
	if (!root)
		panic("volumes: out of memory");
	root->st_ns = 0;
	root->st.mode = S_IFDIR | 0755;
	root->st.uid = boot->uid;
	root->st.gid = boot->gid;
	int err = vfs_mount(&vol->sb, &root->i, path);
	if (err)
		log_line(LOG_ERROR, "volume %s cannot be mounted: error %d", path, -err);
}

void volumes_init(void)
{
	const char *s = (const char *)boot->strings_va + boot->volumes_off;

	volume_dir_fops = dir_fops;
	volume_dir_fops.fsync = volume_dir_fsync;
	for (u32 i = 0; i < boot->n_volumes; i++) {
		mount_volume(i, s);
		s += strlen(s) + 1;
	}
}
