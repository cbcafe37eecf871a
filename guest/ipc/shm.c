/* SPDX-License-Identifier: ISC */
/*
 * System V shared memory: segments are nameless files.
 *
 * An attach is a mapping of a struct file of its own over the segment's inode. How
 * many there are is not counted but seen: the inode's mappings. So fork, exec,
 * exit and unmapping need no word to us; only the end of a file, when the last
 * mapping of one attach is gone, does (shm_release). A segment that is to
 * be destroyed (IPC_RMID) goes then, if it was the last one.
 */
#include <asm/shmbuf.h>
#include <linux/capability.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/ipc/internal.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

/* <linux/shm.h> needs a libc. */
enum {
	SHM_R_ = 0400,
	SHM_RDONLY_ = 010000,
	SHM_RND_ = 020000,
	SHM_REMAP_ = 040000,
	SHM_EXEC_ = 0100000,
	SHM_HUGETLB_ = 04000,
	SHM_DEST_ = 01000, /* in perm.mode: goes with the last detach */
	SHM_LOCKED_ = 02000,
	SHM_LOCK_ = 11,
	SHM_UNLOCK_ = 12,
	SHM_STAT_ = 13,
	SHM_INFO_ = 14,
	SHM_STAT_ANY_ = 15,
};
#define SHM_MAX (~0ul - (1ul << 24)) /* bytes of one, pages of all */
#define SHM_MNI 4096

struct shm_info_ {
	int used_ids;
	u64 tot, rss, swp, swap_attempts, swap_successes;
};

struct segment {
	struct ipc_object o;
	struct file *file; /* the memory; never mapped itself */
	u64 size;
	s64 atime, dtime, ctime;
	s32 cpid, lpid;
};

static u64 total_pages;

static void segment_free(struct ipc_object *o);
static struct ipc_kind kind = {.max = SHM_MNI, .free = segment_free};

static struct segment *of_object(struct ipc_object *o)
{
	return o ? container_of(o, struct segment, o) : NULL;
}

static u64 n_attached(const struct segment *s)
{
	u64 n = 0;

	list_for_each (it, &s->file->inode->mappings)
		n++;
	return n;
}

static void segment_free(struct ipc_object *o)
{
	struct segment *s = of_object(o);

	total_pages -= PAGE_UP(s->size) >> PAGE_SHIFT;
	file_put(s->file); /* a memory file: its end does not sleep */
	kfree(s);
}

/* --- shmget ------------------------------------------------------------------------- */

struct request {
	u64 size;
	u32 flags;
	s32 key;
};

static struct ipc_object *make(void *arg, int *err)
{
	const struct request *r = arg;
	u64 pages = PAGE_UP(r->size) >> PAGE_SHIFT;
	struct segment *s;
	char name[16];

	*err = -EINVAL;
	if (!r->size || r->size > SHM_MAX)
		return NULL;
	*err = -ENOSPC;
	if (pages << PAGE_SHIFT < r->size || total_pages + pages > SHM_MAX)
		return NULL;
	*err = -ENOMEM;
	if (r->flags & SHM_HUGETLB_) /* no pool of huge pages */
		return NULL;
	s = kzalloc(sizeof(*s));
	if (!s)
		return NULL;
	snprintf(name, sizeof(name), "SYSV%08x", (u32)r->key);
	/* larger than any file, and than any memory: not even without reservation */
	s->file = pages > frames_total() * 64 ? NULL : vfs_anon_file(name, r->size, O_RDWR);
	if (!s->file) {
		kfree(s);
		return NULL;
	}
	s->size = r->size;
	s->ctime = ipc_now();
	s->cpid = current->proc->pid;
	total_pages += pages;
	return &s->o;
}

static int check(struct ipc_object *o, void *arg)
{
	const struct request *r = arg;

	return of_object(o)->size < r->size ? -EINVAL : 0;
}

s64 shm_get(s32 key, u64 size, u32 flags)
{
	struct request r = {size, flags, key};

	return ipc_find_or_make(&kind, key, flags, make, check, &r);
}

/* --- shmat, shmdt --------------------------------------------------------------------- */

static void shm_release(struct file *f)
{
	struct segment *s = f->priv;

	s->dtime = ipc_now();
	if (current)
		s->lpid = current->proc->pid;
	if (s->o.perm.mode & SHM_DEST_ && !n_attached(s))
		ipc_remove(&kind, &s->o);
	ipc_put_object(&kind, &s->o);
}

static s64 shm_fallocate(struct file *f, int mode, u64 off, u64 len)
{
	struct segment *s = f->priv;

	return s->file->ops->fallocate(s->file, mode, off, len); /* MADV_REMOVE */
}

static const struct file_ops shm_fops = {.release = shm_release, .fallocate = shm_fallocate};

static struct file *attach_file(struct segment *s, bool writable)
{
	struct file *f = file_new(&shm_fops, writable ? O_RDWR : O_RDONLY, s);

	if (!f)
		return NULL;
	f->inode = s->file->inode;
	inode_get(f->inode);
	f->dentry = s->file->dentry;
	dentry_get(f->dentry);
	ipc_get_object(&s->o);
	return f;
}

/* The address asked for, rounded; 0: any. */
static s64 attach_address(u64 addr, u32 flags)
{
	if (!addr)
		return flags & SHM_REMAP_ ? -EINVAL : 0;
	if (addr & (PAGE_SIZE - 1)) {
		if (!(flags & SHM_RND_))
			return -EINVAL;
		addr = PAGE_DOWN(addr);
		if (!addr && flags & SHM_REMAP_)
			return -EINVAL;
	}
	return addr >= BOOT_TASK_SIZE ? -EINVAL : (s64)addr;
}

s64 shm_attach(s32 id, u64 addr, u32 flags)
{
	struct segment *s = of_object(ipc_by_id(&kind, id));
	u32 prot = PROT_READ | (flags & SHM_RDONLY_ ? 0 : PROT_WRITE) | (flags & SHM_EXEC_ ? PROT_EXEC : 0);
	u32 how = MAP_SHARED;
	struct file *f;
	s64 at = attach_address(addr, flags), r;

	if (at < 0 || !s)
		return -EINVAL;
	r = ipc_permission(&s->o, 0444 | (prot & PROT_WRITE ? 0222 : 0) | (prot & PROT_EXEC ? 0111 : 0));
	if (r)
		return r;
	if (at) {
		struct vma *v = vma_find(current->proc->as, (u64)at);

		if ((u64)at + s->size < (u64)at)
			return -EINVAL;
		if (!(flags & SHM_REMAP_) && v && v->start < (u64)at + PAGE_UP(s->size))
			return -EINVAL;
		how |= MAP_FIXED;
	}
	f = attach_file(s, prot & PROT_WRITE);
	if (!f)
		return -ENOMEM;
	ipc_get_object(&s->o);
	r = mm_mmap(current->proc->as, (u64)at, s->size, prot, how, f, 0);
	if (r > 0) {
		s->atime = ipc_now();
		s->lpid = current->proc->pid;
	}
	file_put(f);
	ipc_put_object(&kind, &s->o);
	return r;
}

s64 shm_detach(u64 addr)
{
	struct aspace *as = current->proc->as;
	struct vma *v = addr & (PAGE_SIZE - 1) || addr >= BOOT_TASK_SIZE ? NULL : vma_find(as, addr);
	struct file *f = NULL;
	u64 end = BOOT_TASK_SIZE, at;

	/* All that is left of the attach that began at addr. */
	for (; v && v->start < end; v = vma_find(as, at)) {
		at = v->end;
		if (!v->file || v->file->ops != &shm_fops || v->start - addr != v->off || (f && v->file != f))
			continue;
		if (!f) {
			f = v->file;
			file_get(f);
			end = addr + PAGE_UP(((struct segment *)f->priv)->size);
		}
		mm_munmap(as, v->start, v->end - v->start);
	}
	if (!f)
		return -EINVAL;
	file_put(f);
	return 0;
}

/* --- shmctl --------------------------------------------------------------------------- */

static s64 stat_segment(s32 id, int cmd, void *ubuf)
{
	struct segment *s = of_object(ipc_for_stat(&kind, id, cmd != IPC_STAT));
	struct shmid64_ds ds = {0};

	if (!s)
		return -EINVAL;
	if (cmd != SHM_STAT_ANY_ && ipc_permission(&s->o, 0444))
		return -EACCES;
	ds.shm_perm = s->o.perm;
	ds.shm_segsz = s->size;
	ds.shm_atime = s->atime;
	ds.shm_dtime = s->dtime;
	ds.shm_ctime = s->ctime;
	ds.shm_cpid = s->cpid;
	ds.shm_lpid = s->lpid;
	ds.shm_nattch = n_attached(s);
	if (put_user(ds, (struct shmid64_ds *)ubuf))
		return -EFAULT;
	return cmd == IPC_STAT ? 0 : s->o.id;
}

static s64 limits(void *ubuf)
{
	struct shminfo64 i = {
		.shmmax = SHM_MAX, .shmmin = 1, .shmmni = SHM_MNI, .shmseg = SHM_MNI, .shmall = SHM_MAX};

	return put_user(i, (struct shminfo64 *)ubuf) ? -EFAULT : ipc_highest(&kind);
}

static u64 resident(const struct segment *s)
{
	struct kstat st;

	return inode_getattr(s->file->inode, &st) ? 0 : st.blocks * 512 >> PAGE_SHIFT;
}

static s64 totals(void *ubuf)
{
	struct shm_info_ i = {.used_ids = (int)kind.used, .tot = total_pages};
	struct ipc_object *o;

	for (u32 n = 0; (o = ipc_next(&kind, &n));)
		i.rss += resident(of_object(o));
	return put_user(i, (struct shm_info_ *)ubuf) ? -EFAULT : ipc_highest(&kind);
}

static s64 set_lock(struct segment *s, bool on)
{
	if (!ipc_capable(CAP_IPC_LOCK)) {
		u32 euid = current->proc->euid;

		if (euid != s->o.perm.uid && euid != s->o.perm.cuid)
			return -EPERM;
		if (on && !current->proc->rlim[RLIMIT_MEMLOCK].rlim_cur)
			return -EPERM;
	}
	s->o.perm.mode = on ? s->o.perm.mode | SHM_LOCKED_ : s->o.perm.mode & ~(u32)SHM_LOCKED_;
	return 0; /* nothing is ever swapped */
}

static s64 remove_segment(struct segment *s)
{
	if (n_attached(s)) {
		s->o.perm.mode |= SHM_DEST_;
		s->o.perm.key = IPC_PRIVATE; /* nobody finds it any more */
	} else {
		ipc_remove(&kind, &s->o);
	}
	return 0;
}

s64 shm_control(s32 id, int cmd, u64 ubuf)
{
	struct shmid64_ds ds;
	struct segment *s;
	s64 r;

	switch (cmd) {
	case IPC_INFO:
		return limits((void *)ubuf);
	case SHM_INFO_:
		return totals((void *)ubuf);
	case IPC_STAT:
	case SHM_STAT_:
	case SHM_STAT_ANY_:
		return stat_segment(id, cmd, (void *)ubuf);
	case IPC_SET:
	case IPC_RMID:
	case SHM_LOCK_:
	case SHM_UNLOCK_:
		break;
	default:
		return -EINVAL;
	}
	if (cmd == IPC_SET && get_user(ds, (struct shmid64_ds *)ubuf))
		return -EFAULT;
	s = of_object(ipc_by_id(&kind, id));
	if (!s)
		return -EINVAL;
	if (cmd == SHM_LOCK_ || cmd == SHM_UNLOCK_)
		return set_lock(s, cmd == SHM_LOCK_);
	r = ipc_owner(&s->o);
	if (r)
		return r;
	if (cmd == IPC_RMID)
		return remove_segment(s);
	ipc_set_perm(&s->o, &ds.shm_perm);
	s->ctime = ipc_now();
	return 0;
}

void ipc_show_shm(struct text *t, const struct pid_of *of)
{
	struct ipc_object *o;

	(void)of;
	text_add(t, "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  "
		    "cgid      atime      dtime      ctime                   rss                  swap\n");
	for (u32 i = 0; (o = ipc_next(&kind, &i));) {
		const struct segment *s = of_object(o);

		text_add(t, "%10d %10d  %4o %21lu %5u %5u  %5lu %5u %5u %5u %5u %10lu %10lu %10lu ",
			 o->perm.key, o->id, o->perm.mode, (unsigned long)s->size, (u32)s->cpid, (u32)s->lpid,
			 (unsigned long)n_attached(s), o->perm.uid, o->perm.gid, o->perm.cuid, o->perm.cgid,
			 (unsigned long)s->atime, (unsigned long)s->dtime, (unsigned long)s->ctime);
		text_add(t, "%21lu %21lu\n", (unsigned long)resident(s) << PAGE_SHIFT, 0ul);
	}
}
