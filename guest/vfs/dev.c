/* SPDX-License-Identifier: ISC */
/*
 * /dev: a memory file system that fills itself at the first look, and the
 * character devices behind its nodes, by device number as on Linux.
 */
#include <asm/ioctls.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/proc/tty.h"
#include "guest/vfs/internal.h"

static s64 null_read(struct file *f, struct uio *u, u64 *pos)
{
	return 0;
}

/* All of it is taken, whatever it is. */
static s64 null_write(struct file *f, struct uio *u, u64 *pos)
{
	s64 n = (s64)u->left;

	u->left = 0;
	return n;
}

static s64 zero_read(struct file *f, struct uio *u, u64 *pos)
{
	u64 want = u->left, n = uio_zero(u, want);

	return n || !want ? (s64)n : -EFAULT;
}

static s64 full_write(struct file *f, struct uio *u, u64 *pos)
{
	return u->left ? -ENOSPC : 0;
}

static s64 random_read(struct file *f, struct uio *u, u64 *pos)
{
	u8 buf[256];
	u64 done = 0, n, got;

	while (u->left) {
		n = MIN(u->left, sizeof(buf));
		random_bytes(buf, n);
		got = uio_put(u, buf, n);
		done += got;
		if (got < n)
			return done ? (s64)done : -EFAULT;
		/* a huge read must not hold the CPU against a signal */
		if (!(done & 0xffff) && signal_is_pending())
			break;
	}
	return (s64)done;
}

static s64 random_ioctl(struct file *f, u32 cmd, u64 arg)
{
	int bits = 256;

	return cmd == 0x80045200 /* RNDGETENTCNT */ ? put_user(bits, (int *)arg) : -EINVAL;
}

static s64 dev_lseek(struct file *f, s64 off, int whence)
{
	return f->pos = 0;
}

/* A mapping of /dev/zero is anonymous memory; mm/ sees that from the missing file. */
static int zero_mmap(struct file *f, struct vma *v)
{
	if (v->flags & MAP_SHARED) {
		struct file *m = vfs_anon_file("dev/zero", v->off + (v->end - v->start), O_RDWR);
		if (!m)
			return -ENOMEM;
		v->file = m;
		return 0;
	}
	v->file = NULL;
	v->off = 0;
	return 0;
}

static const struct file_ops null_fops = {.read = null_read, .write = null_write, .lseek = dev_lseek};
static const struct file_ops zero_fops = {
	.read = zero_read, .write = null_write, .lseek = dev_lseek, .mmap = zero_mmap};
static const struct file_ops full_fops = {.read = zero_read, .write = full_write, .lseek = dev_lseek};
static const struct file_ops random_fops = {
	.read = random_read, .write = null_write, .lseek = dev_lseek, .ioctl = random_ioctl};

/* /dev/tty: the controlling terminal of whoever opens it. */
static int tty_open(struct file *f)
{
	struct tty *t = tty_of(current->proc);

	return t ? t->ops->open(t, f) : -ENXIO;
}

int dev_open(struct inode *ino, struct file *f)
{
	struct kstat st;

	inode_getattr(ino, &st);
	switch (st.rdev) {
	case MKDEV(1, 3):
		f->ops = &null_fops;
		return 0;
	case MKDEV(1, 5):
		f->ops = &zero_fops;
		return 0;
	case MKDEV(1, 7):
		f->ops = &full_fops;
		return 0;
	case MKDEV(1, 8):
	case MKDEV(1, 9):
		f->ops = &random_fops;
		return 0;
	case MKDEV(5, 0):
		return tty_open(f);
	case MKDEV(5, 1):
		return console_open(f, boot->host_tty_mask & 7 ? __builtin_ctz(boot->host_tty_mask) : 1);
	case MKDEV(5, 2):
		return ptmx_open(ino, f);
	}
	return -ENXIO;
}

static void dev_fill(struct inode *dir)
{
	static const struct {
		const char *name;
		u16 mode, major, minor;
	} nodes[] = {
		{"null", 0666, 1, 3},	 {"zero", 0666, 1, 5},	  {"full", 0666, 1, 7},
		{"random", 0666, 1, 8},	 {"urandom", 0666, 1, 9}, {"tty", 0666, 5, 0},
		{"console", 0620, 5, 1}, {"ptmx", 0666, 5, 2},
	};
	static const char *const links[][2] = {
		{"fd", "/proc/self/fd"},
		{"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"},
		{"stderr", "/proc/self/fd/2"},
	};
	struct inode *ino;

	for (u32 i = 0; i < ARRAY_SIZE(nodes); i++) {
		ino = memfs_mknod(dir, nodes[i].name, S_IFCHR | nodes[i].mode,
				  MKDEV(nodes[i].major, nodes[i].minor));
		if (ino)
			inode_put(ino);
	}
	for (u32 i = 0; i < ARRAY_SIZE(links); i++)
		if ((ino = memfs_mklink(dir, links[i][0], links[i][1])))
			inode_put(ino);
}

void dev_init(struct inode *root)
{
	memfs_lazy(root, dev_fill);
}
