/* SPDX-License-Identifier: ISC */
/* /proc/PID, the part about files: its program, where it is, its descriptors, the mounts. */
#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/pseudo.h"

/* --- mounts ------------------------------------------------------------------------------ */

static bool mount_path(struct superblock *sb, char *path)
{
	return dentry_path(sb->root, current->proc->fs ? current_fs()->root : root_sb->root, path, PATH_MAX) >
	       0;
}

void proc_mounts(struct text *t, const struct pid_of *o)
{
	char *path = kmalloc(PATH_MAX);

	list_for_each (it, &vfs_mounts) {
		struct superblock *sb = list_entry(it, struct superblock, node);
		if (!path || !mount_path(sb, path))
			continue;
		text_path(t, sb->source);
		text_add(t, " ");
		text_path(t, path);
		text_add(t, " %s %s%s 0 0\n", sb->type, sb->flags & SB_RDONLY ? "ro" : "rw",
			 sb->options ? sb->options : "");
	}
	kfree(path);
}

void proc_show_mountinfo(struct text *t, const struct pid_of *o)
{
	char *path = kmalloc(PATH_MAX);

	list_for_each (it, &vfs_mounts) {
		struct superblock *sb = list_entry(it, struct superblock, node);
		if (!path || !mount_path(sb, path))
			continue;
		const char *rw = sb->flags & SB_RDONLY ? "ro" : "rw";
		text_add(t, "%d %d %u:%u / ", sb->mnt_id, sb->mountpoint ? sb->mountpoint->sb->mnt_id : 1,
			 (u32)DEV_MAJOR(sb->dev), (u32)DEV_MINOR(sb->dev));
		text_path(t, path);
		text_add(t, " %s%s - %s ", rw, sb->options ? sb->options : "", sb->type);
		text_path(t, sb->source);
		text_add(t, " %s\n", rw);
	}
	kfree(path);
}

/* --- links ---------------------------------------------------------------------------------- */

static void show_file(struct text *t, struct file *f)
{
	char *path = f ? kmalloc(PATH_MAX) : NULL;
	int n = path ? vfs_file_path(f, path, PATH_MAX) : -1;

	if (n > 0)
		text_bytes(t, path, (size_t)n);
	kfree(path);
}

/* The dentry of a file; for one without, a nameless dentry of its inode. */
static int follow_file(struct file *f, struct dentry **out)
{
	if (!f)
		return -ENOENT;
	if (f->dentry) {
		dentry_get(f->dentry);
		*out = f->dentry;
		return 0;
	}
	if (!f->inode)
		return -ENXIO;
	*out = dentry_new_anon(f->inode, f->ops->kind ? f->ops->kind : "file");
	return *out ? 0 : -ENOMEM;
}

void proc_show_exe(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->exe)
		show_file(t, p->exe);
	else if (p && p->exe_path)
		text_add(t, "%s", p->exe_path);
}

int proc_follow_exe(const struct pid_of *o, struct dentry **out)
{
	struct process *p = pseudo_process(o);

	return p ? follow_file(p->exe, out) : -ESRCH;
}

static void show_place(struct text *t, struct dentry *d)
{
	char *path = kmalloc(PATH_MAX);

	if (path && dentry_path(d, current_fs()->root, path, PATH_MAX) > 0)
		text_bytes(t, path, strlen(path));
	if (path && d->flags & D_DELETED)
		text_add(t, " (deleted)");
	kfree(path);
}

void proc_show_cwd(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->fs)
		show_place(t, p->fs->cwd);
}

void proc_show_root(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	if (p && p->fs)
		show_place(t, p->fs->root);
}

static int follow_place(const struct pid_of *o, struct dentry **out, bool root)
{
	struct process *p = pseudo_process(o);

	if (!p || !p->fs)
		return -ENOENT;
	*out = root ? p->fs->root : p->fs->cwd;
	dentry_get(*out);
	return 0;
}

int proc_follow_cwd(const struct pid_of *o, struct dentry **out)
{
	return follow_place(o, out, false);
}

int proc_follow_root(const struct pid_of *o, struct dentry **out)
{
	return follow_place(o, out, true);
}

/* --- descriptors -------------------------------------------------------------------------------- */

static struct file *fd_file(const struct pid_of *o)
{
	struct process *p = pseudo_process(o);

	return p && p->fds ? fdtable_file(fdtable_seen(p), o->num) : NULL;
}

static void show_fd(struct text *t, const struct pid_of *o)
{
	show_file(t, fd_file(o));
}

static int follow_fd(const struct pid_of *o, struct dentry **out)
{
	return follow_file(fd_file(o), out);
}

static void show_fdinfo(struct text *t, const struct pid_of *o)
{
	struct process *p = pseudo_process(o);
	struct file *f = fd_file(o);
	char more[400];

	if (!f)
		return;
	u32 flags = f->flags | (fdtable_cloexec(fdtable_seen(p), o->num) ? O_CLOEXEC : 0);
	text_add(t, "pos:\t%lu\nflags:\t0%o\nmnt_id:\t%d\nino:\t%lu\n", (unsigned long)f->pos, flags,
		 f->inode && f->inode->sb ? f->inode->sb->mnt_id : 14,
		 (unsigned long)(f->inode ? f->inode->ino : f->ino_anon));
	if (f->ops->fdinfo && f->ops->fdinfo(f, more, sizeof(more)) > 0)
		text_add(t, "%s", more);
}

/* The mode bits of the link tell how the file was opened. */
static const struct pent fd_links[3] = {
	{.name = "fd", .mode = S_IFLNK | 0500, .show = show_fd, .follow = follow_fd, .guard = true},
	{.name = "fd", .mode = S_IFLNK | 0300, .show = show_fd, .follow = follow_fd, .guard = true},
	{.name = "fd", .mode = S_IFLNK | 0700, .show = show_fd, .follow = follow_fd, .guard = true},
};
static const struct pent fdinfo_file = {
	.name = "fdinfo", .mode = S_IFREG | 0444, .show = show_fdinfo, .guard = true};

static const struct pent *fd_link(const struct file *f)
{
	return &fd_links[f->flags & O_PATH ? 0 : MIN(f->flags & O_ACCMODE, 2u)];
}

static int fds_lookup(const char *name, u32 len, struct pid_of *out, bool info)
{
	struct file *f;

	out->num = pseudo_number(name, len);
	f = out->num >= 0 ? fd_file(out) : NULL;
	if (!f)
		return -ENOENT;
	out->ent = info ? &fdinfo_file : fd_link(f);
	return 0;
}

static s64 fds_next(const struct pid_of *dir, u64 from, struct pid_of *out, bool info)
{
	struct process *p = pseudo_process(dir);

	out->num = p && p->fds && from <= 0x7fffffff ? fdtable_next(fdtable_seen(p), (int)from) : -1;
	if (out->num >= 0)
		out->ent = info ? &fdinfo_file : fd_link(fd_file(out));
	return out->num;
}

int proc_fd_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out)
{
	return fds_lookup(name, len, out, false);
}

s64 proc_fd_next(const struct pid_of *dir, u64 from, struct pid_of *out)
{
	return fds_next(dir, from, out, false);
}

int proc_fdinfo_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out)
{
	return fds_lookup(name, len, out, true);
}

s64 proc_fdinfo_next(const struct pid_of *dir, u64 from, struct pid_of *out)
{
	return fds_next(dir, from, out, true);
}
