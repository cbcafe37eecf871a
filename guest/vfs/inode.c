/* SPDX-License-Identifier: ISC */
/*
 * Inodes: references, the operations with their defaults, and who may do what.
 * An inode lives in its file system's own object; this file never frees one.
 */
#include <linux/capability.h>

#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

void inode_init(struct inode *ino, struct superblock *sb, const struct inode_ops *ops, u32 mode, u64 num)
{
	ino->refs = 1;
	ino->mode = mode;
	ino->ops = ops;
	ino->sb = sb;
	ino->ino = num;
	ino->dev = sb ? sb->dev : 0;
	list_init(&ino->mappings);
	waitq_init(&ino->lock_wait);
}

void inode_get(struct inode *ino)
{
	ino->refs++;
}

void inode_put(struct inode *ino)
{
	if (--ino->refs)
		return;
	if (ino->ops->evict)
		ino->ops->evict(ino);
}

u64 inode_size(struct inode *ino)
{
	return ino->ops->size ? ino->ops->size(ino) : 0;
}

int inode_get_page(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa, u32 *run)
{
	if (unlikely(!ino->ops->get_page))
		return -ENODEV;
	return ino->ops->get_page(ino, pgoff, write, max_run, gpa, run);
}

int inode_getattr(struct inode *ino, struct kstat *st)
{
	*st = (struct kstat){0};
	return ino->ops->getattr(ino, st);
}

int inode_setattr(struct inode *ino, const struct iattr *a)
{
	if (ino->sb && ino->sb->flags & SB_RDONLY)
		return -EROFS;
	return ino->ops->setattr ? ino->ops->setattr(ino, a) : -EPERM;
}

/* --- who may ------------------------------------------------------------------ */

static bool has_cap(int cap)
{
	return current->proc->cap_effective >> cap & 1;
}

struct vfs_cred vfs_cred(void)
{
	struct process *p = current ? current->proc : NULL;

	/* while booting there is no process yet */
	return p ? (struct vfs_cred){p->fsuid, p->fsgid} : (struct vfs_cred){0, 0};
}

static bool in_group(u32 gid, u32 fsgid)
{
	struct process *p = current->proc;

	if (gid == fsgid)
		return true;
	for (u32 i = 0; i < p->n_groups; i++)
		if (p->groups[i] == gid)
			return true;
	return false;
}

bool vfs_in_group(u32 gid)
{
	return in_group(gid, current->proc->fsgid);
}

bool vfs_capable_owner(struct inode *ino)
{
	struct kstat st;

	if (current->proc->fsuid == 0 || has_cap(CAP_FOWNER))
		return true;
	return !inode_getattr(ino, &st) && st.uid == current->proc->fsuid;
}

int inode_permission_as(struct inode *ino, int mask, u32 uid, u32 gid)
{
	u32 mode = ino->mode;
	struct kstat st;

	if (unlikely(mask & 2) && ino->sb && ino->sb->flags & SB_RDONLY &&
	    (IS_REG(ino) || IS_DIR(ino) || IS_LNK(ino)))
		return -EROFS;
	if (uid == 0) {
		/* root: everything but executing what nobody may execute */
		if (mask & 1 && !IS_DIR(ino) && !(mode & 0111))
			return -EACCES;
		return 0;
	}
	if (ino->ops->permission)
		return ino->ops->permission(ino, mask);
	/* the common case needs no owner: all three classes allow it */
	u32 m = (u32)mask;
	if ((mode & m) == m && (mode >> 3 & m) == m && (mode >> 6 & m) == m)
		return 0;
	int err = inode_getattr(ino, &st);
	if (err)
		return err;
	if (st.uid == uid)
		mode >>= 6;
	else if (in_group(st.gid, gid))
		mode >>= 3;
	return (mode & m) == m ? 0 : -EACCES;
}

int inode_permission(struct inode *ino, int mask)
{
	struct process *p = current->proc;

	return inode_permission_as(ino, mask, p->fsuid, p->fsgid);
}
