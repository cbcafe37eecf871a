/* SPDX-License-Identifier: ISC */
/*
 * /dev/mqueue: the message queues as a directory of files.
 *
 * An inode is made when somebody looks a name up and holds the queue; what it shows is the queue's. Opening a file is
 * as good as mq_open(): its descriptor sends and receives, and read() gives a line about the queue's state. Making a
 * file makes a queue of the default size; removing one, or mq_unlink(), takes the name away.
 */
#include <linux/magic.h>

#include "guest/ipc/mqueue.h"
#include "guest/vfs/internal.h"

#define MQUEUE_MAGIC 0x19800202
#define FILE_SIZE    80 /* as Linux says */
#define ENTRY_SIZE   20
#define NAME_LEN     255u

struct mq_inode {
	struct inode i;
	struct mqueue *q;
};

static const struct inode_ops mq_file_ops;
static s64 mounted_ns;

static struct mqueue *queue_of(struct inode *ino)
{
	return container_of(ino, struct mq_inode, i)->q;
}

static void mq_evict(struct inode *ino)
{
	mqueue_put(queue_of(ino));
	kfree(container_of(ino, struct mq_inode, i));
}

static int make(struct superblock *sb, struct mqueue *q, struct inode **out)
{
	struct mq_inode *m = kzalloc(sizeof(*m));

	if (!m)
		return -ENOMEM;
	inode_init(&m->i, sb, &mq_file_ops, S_IFREG | q->mode, q->num + 1);
	m->q = q;
	q->refs++;
	*out = &m->i;
	return 0;
}

static int mq_getattr(struct inode *ino, struct kstat *st)
{
	const struct mqueue *q = queue_of(ino);

	st->ino = ino->ino;
	st->dev = ino->dev;
	st->mode = S_IFREG | q->mode;
	st->nlink = !list_empty(&q->node);
	st->blksize = PAGE_SIZE;
	st->size = FILE_SIZE;
	st->uid = q->uid;
	st->gid = q->gid;
	st->atime_ns = st->mtime_ns = st->ctime_ns = q->born_ns;
	return 0;
}

static int mq_setattr(struct inode *ino, const struct iattr *a)
{
	struct mqueue *q = queue_of(ino);

	if (a->valid & ATTR_MODE) {
		q->mode = a->mode & 0777;
		ino->mode = S_IFREG | q->mode;
	}
	if (a->valid & ATTR_UID)
		q->uid = a->uid;
	if (a->valid & ATTR_GID)
		q->gid = a->gid;
	return 0; /* size and times are not kept */
}

static int mq_open_inode(struct inode *ino, struct file *f)
{
	mqueue_open_file(queue_of(ino), f);
	return 0;
}

static u64 mq_size(struct inode *ino)
{
	return FILE_SIZE;
}

/* --- the directory ---------------------------------------------------------------- */

static int dir_getattr(struct inode *ino, struct kstat *st)
{
	st->ino = ino->ino;
	st->dev = ino->dev;
	st->mode = ino->mode;
	st->nlink = 2;
	st->blksize = PAGE_SIZE;
	st->atime_ns = st->mtime_ns = st->ctime_ns = mounted_ns;
	list_for_each (it, &mqueue_names)
		st->size += ENTRY_SIZE;
	return 0;
}

static int dir_lookup(struct inode *dir, const char *name, u32 len, struct inode **out)
{
	list_for_each (it, &mqueue_names) {
		struct mqueue *q = list_entry(it, struct mqueue, node);

		if (strlen(q->name) == len && !memcmp(q->name, name, len))
			return make(dir->sb, q, out);
	}
	return -ENOENT;
}

static int dir_create(struct inode *dir, const char *name, u32 len, u32 mode, u64 rdev, struct inode **out)
{
	char text[NAME_LEN + 1];
	struct mqueue *q;
	int err;

	if ((mode & S_IFMT) != S_IFREG)
		return -EPERM;
	if (len > NAME_LEN)
		return -ENAMETOOLONG;
	memcpy(text, name, len);
	text[len] = 0;
	q = mqueue_new(text, mode, NULL, &err);
	if (!q)
		return err;
	err = make(dir->sb, q, out);
	if (err)
		mqueue_forget_name(q);
	return err;
}

static int dir_unlink(struct inode *dir, const char *name, u32 len, struct inode *victim)
{
	struct mqueue *q = queue_of(victim);

	if (!list_empty(&q->node))
		mqueue_forget_name(q);
	return 0;
}

/* Numbers grow with age, so they are places. */
static int dir_readdir(struct inode *dir, struct dir_sink *s)
{
	list_for_each (it, &mqueue_names) {
		const struct mqueue *q = list_entry(it, struct mqueue, node);

		if (q->num > s->pos &&
		    !s->emit(s, q->name, (u32)strlen(q->name), q->num + 1, DT_OF_MODE(S_IFREG), q->num))
			break;
	}
	return 0;
}

static const struct inode_ops mq_file_ops = {
	.getattr = mq_getattr,
	.setattr = mq_setattr,
	.open = mq_open_inode,
	.evict = mq_evict,
	.size = mq_size,
};

static const struct inode_ops mq_dir_ops = {
	.getattr = dir_getattr,
	.lookup = dir_lookup,
	.create = dir_create,
	.unlink = dir_unlink,
	.readdir = dir_readdir,
};

struct superblock *mqueue_fs_new(struct inode **root)
{
	static struct inode dir;
	struct superblock *sb = kzalloc(sizeof(*sb));

	if (!sb)
		return NULL;
	sb->type = sb->source = "mqueue";
	sb->options = ",nosuid,nodev,noexec";
	sb->flags = SB_NOCACHE | SB_NOEXEC | SB_NODEV | SB_NOSUID;
	sb->magic = MQUEUE_MAGIC;
	sb->dev = vfs_new_dev();
	inode_init(&dir, sb, &mq_dir_ops, S_IFDIR | S_ISVTX | 0777, 1);
	mounted_ns = (s64)real_ns();
	*root = &dir;
	return sb;
}
