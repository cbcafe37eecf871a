/* SPDX-License-Identifier: ISC */
/* The engine of /proc and /sys; see pseudo.h. A file's text is made at the read of its first byte and kept. */
#include <linux/capability.h>
#include <linux/magic.h>

#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/pseudo.h"

enum { WRITE_MAX = 4096 };

struct pinode {
	struct inode i;
	struct pid_of of;
};

static const struct inode_ops pseudo_ops, magic_ops;
static const struct file_ops pseudo_fops;

static const struct pid_of *of(struct inode *ino)
{
	return &container_of(ino, struct pinode, i)->of;
}

/* The library OS, as far as a directory of /proc shows it. */
static struct process *libos_process(void)
{
	static struct process p;

	if (!p.pid) {
		p.pid = p.pgid = p.sid = 1;
		p.cap_effective = p.cap_permitted = p.cap_bounding = (1ull << (CAP_LAST_CAP + 1)) - 1;
		list_init(&p.threads);
		p.start_ns = init_process->start_ns;
		memcpy(p.comm, "cowbell", 8);
	}
	return &p;
}

struct process *pseudo_process(const struct pid_of *o)
{
	return o->pid == 1 ? libos_process() : process_by_pid(o->pid);
}

struct process *pseudo_file_process(struct file *f)
{
	return pseudo_process(of(f->inode));
}

struct process *proc_directory_process(struct file *f)
{
	if (!f->inode || f->inode->sb->magic != PROC_SUPER_MAGIC || of(f->inode)->ent != &proc_pid_dir)
		return NULL;
	return process_by_pid(of(f->inode)->pid);
}

/* May current see it? */
static bool is_open_to_us(const struct pid_of *o)
{
	struct process *p = o->pid ? pseudo_process(o) : NULL;

	return !o->ent->guard || !p || process_may_inspect(p, true);
}

s32 pseudo_number(const char *name, u32 len)
{
	s64 v = 0;

	if (!len || len > 10 || (name[0] == '0' && len > 1))
		return -1;
	for (u32 i = 0; i < len; i++) {
		if (name[i] < '0' || name[i] > '9')
			return -1;
		v = v * 10 + name[i] - '0';
	}
	return v > 0x7fffffff ? -1 : (s32)v;
}

/* Stable for the same thing while it exists; unique enough within the file system. */
static u64 ino_of(const struct pid_of *o)
{
	u64 h = (uintptr_t)o->ent;

	h = (h ^ h >> 17) * 0x9e3779b97f4a7c15ull;
	h ^= ((u64)(u32)o->pid << 24 ^ (u32)o->num) * 0xd6e8feb86659fd93ull;
	return (h ^ h >> 29) & 0x7fffffff;
}

static struct inode *make(struct superblock *sb, const struct pid_of *o)
{
	struct pinode *p = kzalloc(sizeof(*p));

	if (!p)
		return NULL;
	p->of = *o;
	inode_init(&p->i, sb, o->ent->follow ? &magic_ops : &pseudo_ops, o->ent->mode, ino_of(o));
	return &p->i;
}

static void pseudo_evict(struct inode *ino)
{
	kfree(container_of(ino, struct pinode, i));
}

static int pseudo_getattr(struct inode *ino, struct kstat *st)
{
	const struct pid_of *o = of(ino);
	struct process *p = o->pid ? pseudo_process(o) : NULL;

	if (o->pid && !p)
		return -ESRCH;
	st->ino = ino->ino;
	st->dev = ino->dev;
	st->mode = ino->mode;
	st->nlink = IS_DIR(ino) ? 2 : 1;
	st->blksize = 1024;
	st->uid = p && p->dumpable ? p->euid : 0;
	st->gid = p && p->dumpable ? p->egid : 0;
	st->atime_ns = st->mtime_ns = st->ctime_ns = (s64)real_ns();
	return 0;
}

/* --- directories ---------------------------------------------------------------- */

static int pseudo_lookup(struct inode *dir, const char *name, u32 len, struct inode **out)
{
	const struct pid_of *o = of(dir);
	struct pid_of child = {.pid = o->pid, .num = o->num};

	if (o->pid && !pseudo_process(o))
		return -ENOENT;
	for (u32 i = 0; i < o->ent->n_sub && !child.ent; i++)
		if (strlen(o->ent->sub[i].name) == len && !memcmp(o->ent->sub[i].name, name, len))
			child.ent = &o->ent->sub[i];
	if (!child.ent && (!o->ent->lookup || o->ent->lookup(o, name, len, &child)))
		return -ENOENT;
	*out = make(dir->sb, &child);
	return *out ? 0 : -ENOMEM;
}

static int pseudo_readdir(struct inode *dir, struct dir_sink *s)
{
	const struct pid_of *o = of(dir);
	u64 pos = s->pos;

	if (o->pid && !pseudo_process(o))
		return -ENOENT;
	for (; pos < o->ent->n_sub; pos++) {
		const struct pent *e = &o->ent->sub[pos];
		struct pid_of child = {e, o->pid, o->num};
		if (!s->emit(s, e->name, (u32)strlen(e->name), ino_of(&child), DT_OF_MODE(e->mode), pos + 1))
			return 0;
	}
	while (o->ent->next) {
		struct pid_of child = {.pid = o->pid, .num = o->num};
		s64 n = o->ent->next(o, pos - o->ent->n_sub, &child);
		char name[16];
		if (n < 0)
			break;
		int len = snprintf(name, sizeof(name), "%s%d", o->ent->prefix ? o->ent->prefix : "", (int)n);
		pos = o->ent->n_sub + (u64)n + 1;
		if (!s->emit(s, name, (u32)len, ino_of(&child), DT_OF_MODE(child.ent->mode), pos))
			break;
	}
	return 0;
}

/* --- links -------------------------------------------------------------------------- */

static s64 pseudo_readlink(struct inode *ino, char *buf, size_t size)
{
	struct text t = {0};
	const struct pid_of *o = of(ino);

	if (!is_open_to_us(o))
		return -EACCES;
	if (o->ent->target)
		text_add(&t, "%s", o->ent->target);
	else if (o->ent->show)
		o->ent->show(&t, o);
	else
		return -EINVAL;
	s64 n = t.failed ? -ENOMEM : !t.len ? -ENOENT : (s64)MIN(t.len, size);
	if (n > 0)
		memcpy(buf, t.p, (size_t)n);
	kfree(t.p);
	return n;
}

static int pseudo_follow(struct inode *ino, struct dentry **out)
{
	const struct pid_of *o = of(ino);

	return is_open_to_us(o) ? o->ent->follow(o, out) : -EACCES;
}

/* The mode bits, and for what shows a process's insides the process itself. Root comes here for opening only. */
static int pseudo_open(struct inode *ino, struct file *f)
{
	const struct pid_of *o = of(ino);

	if (!is_open_to_us(o))
		return -EACCES;
	f->ops = o->ent->fops ? o->ent->fops : &pseudo_fops;
	return 0;
}

/* --- files ------------------------------------------------------------------------------ */

static s64 pseudo_read(struct file *f, struct uio *u, u64 *pos)
{
	struct text *t = f->priv;
	const struct pid_of *o = of(f->inode);

	if (!o->ent->show && !o->ent->text)
		return -EINVAL;
	if (!t && !(t = f->priv = kzalloc(sizeof(*t))))
		return -ENOMEM;
	if (*pos == 0 || !t->p) {
		if (o->pid && !pseudo_process(o))
			return -ESRCH;
		t->len = 0;
		if (o->ent->text)
			text_add(t, "%s\n", o->ent->text);
		else
			o->ent->show(t, o);
		if (t->failed)
			return -ENOMEM;
	}
	if (*pos >= t->len)
		return 0;
	u64 want = MIN(u->left, t->len - *pos), n = uio_put(u, t->p + *pos, want);
	*pos += n;
	return n || !want ? (s64)n : -EFAULT;
}

static s64 pseudo_write(struct file *f, struct uio *u, u64 *pos)
{
	const struct pid_of *o = of(f->inode);
	size_t n = MIN(u->left, (u64)WRITE_MAX - 1);
	char *buf;

	if (!o->ent->write)
		return -EINVAL;
	if (!(buf = kmalloc(n + 1)))
		return -ENOMEM;
	s64 r = uio_get(u, buf, n) == n ? 0 : -EFAULT;
	buf[n] = 0;
	if (!r)
		r = o->ent->write(o, buf, n);
	if (!r)
		r = (s64)n;
	kfree(buf);
	return r;
}

static void pseudo_release(struct file *f)
{
	struct text *t = f->priv;

	if (t)
		kfree(t->p);
	kfree(t);
}

static s64 pseudo_lseek(struct file *f, s64 off, int whence)
{
	return whence == 2 ? -EINVAL : generic_lseek(f, off, whence);
}

static const struct file_ops pseudo_fops = {
	.read = pseudo_read,
	.write = pseudo_write,
	.lseek = pseudo_lseek,
	.release = pseudo_release,
};

static int pseudo_setattr(struct inode *ino, const struct iattr *a)
{
	/* open(O_TRUNC) on a file under /proc/sys is harmless; all else is not allowed */
	return a->valid == ATTR_SIZE ? 0 : -EPERM;
}

/* Nothing can be made here; a missing name stays missing. */
static int pseudo_create(struct inode *dir, const char *name, u32 len, u32 mode, u64 rdev, struct inode **out)
{
	return -ENOENT;
}

static int pseudo_mkdir(struct inode *dir, const char *name, u32 len, u32 mode, struct inode **out)
{
	return -ENOENT;
}

static const struct inode_ops pseudo_ops = {
	.create = pseudo_create,
	.mkdir = pseudo_mkdir,
	.getattr = pseudo_getattr,
	.setattr = pseudo_setattr,
	.open = pseudo_open,
	.evict = pseudo_evict,
	.lookup = pseudo_lookup,
	.readdir = pseudo_readdir,
	.readlink = pseudo_readlink,
};

/* Links that lead somewhere without a path have their own table, as `follow` says so to the walk. */
static const struct inode_ops magic_ops = {
	.getattr = pseudo_getattr,
	.evict = pseudo_evict,
	.lookup = pseudo_lookup,
	.readlink = pseudo_readlink,
	.follow = pseudo_follow,
};

struct superblock *pseudo_new(const char *type, u32 magic, const struct pent *root, struct inode **out)
{
	struct superblock *sb = kzalloc(sizeof(*sb));
	struct pid_of o = {.ent = root};

	if (!sb)
		return NULL;
	sb->type = sb->source = type;
	sb->options = ",nosuid,nodev,noexec";
	sb->flags = SB_NOCACHE | SB_NOEXEC | SB_NODEV | SB_NOSUID;
	sb->magic = magic;
	sb->dev = vfs_new_dev();
	*out = make(sb, &o);
	return sb;
}
