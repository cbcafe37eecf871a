// SPDX-License-Identifier: ISC
/*
 * Volumes: host directories that -v grants.
 *
 * A path operation names a volume and a path below its root. Every path is
 * resolved by openat2 with RESOLVE_BENEATH|NO_SYMLINKS|NO_MAGICLINKS from the
 * granted directory: the guest walks symbolic links itself, so a link is never
 * followed here and nothing outside can be reached, whatever the guest or the
 * host plants in between. Operations on a name take the parent directory this
 * way and then act on one plain component, which "." and ".." are not.
 *
 * An open file is a handle. Only regular files and directories are opened;
 * devices, FIFOs and sockets that lie in a volume give -ENXIO.
 *
 * Identity: files of the monitor's own user are shown as owned by the
 * program's user and the other way round; other owners are shown as they are.
 * Set-user-ID and set-group-ID bits are refused: a guest must not leave
 * programs on the host that run as somebody else.
 *
 * These calls may block on the disk and then hold the guest's turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "monitor/ring_internal.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(volume, openat2);
HOST_SYSCALL(volume, statx);
HOST_SYSCALL(volume, pread64);
HOST_SYSCALL(volume, pwritev2);
HOST_SYSCALL(volume, getdents64);
HOST_SYSCALL(volume, lseek);
HOST_SYSCALL(volume, ftruncate);
HOST_SYSCALL(volume, fsync);
HOST_SYSCALL(volume, fdatasync);
HOST_SYSCALL(volume, mkdirat);
HOST_SYSCALL(volume, unlinkat);
HOST_SYSCALL(volume, renameat2);
HOST_SYSCALL(volume, linkat);
HOST_SYSCALL(volume, symlinkat);
HOST_SYSCALL(volume, readlinkat);
HOST_SYSCALL(volume, fchmod);
HOST_SYSCALL(volume, fchownat);
HOST_SYSCALL(volume, utimensat);
HOST_SYSCALL(volume, fallocate);
HOST_SYSCALL(volume, fstatfs);
HOST_SYSCALL(volume, flock);
HOST_SYSCALL(volume, fcntl); /* locks of open files */

#define OPEN_FLAGS                                                                                           \
	(O_ACCMODE | O_CREAT | O_EXCL | O_TRUNC | O_APPEND | O_DIRECTORY | O_NOFOLLOW | O_SYNC | O_DSYNC |   \
	 O_NONBLOCK | O_CLOEXEC | O_LARGEFILE)
#define STAT_MASK (STATX_BASIC_STATS | STATX_BTIME)

/* --- paths -------------------------------------------------------------------- */

static int open_beneath(int dir, const char *path, int flags, uint32_t mode)
{
	struct open_how how = {.flags = (uint64_t)(unsigned)flags | O_CLOEXEC,
			       .mode = flags & O_CREAT ? mode : 0,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
	long fd;

	for (int i = 0; i < 16; i++) { /* EAGAIN: a rename elsewhere came between */
		fd = syscall(SYS_openat2, dir, *path ? path : ".", &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

/* Where a name is: fd of its directory (close_dir() it), and the last component. */
struct place {
	int dir;
	bool own; /* dir was opened here */
	const char *name;
	char path[RING_PATH_MAX];
};

static void close_place(struct place *p)
{
	if (p->own)
		close(p->dir);
}

static int find_place(struct ring_server *rs, int root, uint64_t gpa, uint32_t len, struct place *p)
{
	int r = rs_path(rs, gpa, len, p->path);
	char *slash;

	p->own = false;
	if (r)
		return r;
	slash = strrchr(p->path, '/');
	p->name = slash ? slash + 1 : p->path;
	if (!*p->name || !strcmp(p->name, ".") || !strcmp(p->name, ".."))
		return -EINVAL;
	p->dir = root;
	if (!slash)
		return 0;
	*slash = 0;
	p->dir = open_beneath(root, p->path, O_PATH | O_DIRECTORY, 0);
	if (p->dir < 0)
		return p->dir;
	p->own = true;
	return 0;
}

/* A path, or nothing for the root itself. */
static int read_path(struct ring_server *rs, const struct ring_sqe *sqe, char *path)
{
	path[0] = 0;
	return sqe->len ? rs_path(rs, sqe->addr, sqe->len, path) : 0;
}

/* --- identity and attributes ------------------------------------------------------ */

static int write_stat(struct ring_server *rs, const struct ring_sqe *sqe, int fd)
{
	struct statx st;

	memset(&st, 0, sizeof(st));
	if (statx(fd, "", AT_EMPTY_PATH | AT_NO_AUTOMOUNT, STAT_MASK, &st))
		return -errno;
	if (st.stx_uid == rs->uid)
		st.stx_uid = rs->cfg->uid;
	if (st.stx_gid == rs->gid)
		st.stx_gid = rs->cfg->gid;
	if (sqe->len2 < sizeof(st))
		return -EINVAL;
	if (!gpa_write(rs->mem, (gpa_t){sqe->addr2}, &st, sizeof(st))) {
		rs_broken(rs, sqe, "address outside guest memory");
		return -EFAULT;
	}
	return 0;
}

static struct timespec attr_time(int64_t ns)
{
	struct timespec t = {.tv_nsec = UTIME_OMIT};

	if (ns == INT64_MAX) {
		t.tv_nsec = UTIME_NOW;
	} else if (ns != INT64_MIN) {
		t.tv_sec = ns / 1000000000;
		t.tv_nsec = ns % 1000000000;
		if (t.tv_nsec < 0) {
			t.tv_nsec += 1000000000;
			t.tv_sec--;
		}
	}
	return t;
}

static int set_mode(int root, const char *path, int fd, uint32_t mode)
{
	int own = -1, r;

	if (mode & (S_ISUID | S_ISGID))
		return -EPERM;
	if (path) { /* an O_PATH descriptor cannot chmod */
		own = open_beneath(root, path, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0);
		if (own == -EACCES)
			own = open_beneath(root, path, O_WRONLY | O_NONBLOCK | O_NOFOLLOW, 0);
		if (own < 0)
			return own;
		fd = own;
	}
	r = fchmod(fd, mode & 01777) ? -errno : 0;
	if (own >= 0)
		close(own);
	return r;
}

static int set_attr(struct ring_server *rs, int fd, int root, const char *path, uint32_t mask,
		    const struct ring_attr *a)
{
	int r = 0;

	if (mask & RING_ATTR_MODE)
		r = set_mode(root, path, fd, a->mode);
	if (!r && mask & RING_ATTR_OWNER) {
		uid_t uid = a->uid == rs->cfg->uid ? rs->uid : a->uid;
		gid_t gid = a->gid == rs->cfg->gid ? rs->gid : a->gid;

		r = fchownat(fd, "", uid, gid, AT_EMPTY_PATH) ? -errno : 0;
	}
	if (!r && mask & RING_ATTR_TIMES) {
		struct timespec ts[2] = {attr_time(a->atime_ns), attr_time(a->mtime_ns)};

		/* the libc function refuses AT_EMPTY_PATH */
		r = syscall(SYS_utimensat, fd, "", ts, AT_EMPTY_PATH) ? -errno : 0;
	}
	return r;
}

/* --- operations on names ----------------------------------------------------------- */

static int check_opened(int fd, struct handle *h)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st))
		return -errno;
	h->is_dir = S_ISDIR(st.stx_mode);
	return S_ISREG(st.stx_mode) || h->is_dir ? 0 : -ENXIO;
}

static int op_open(struct ring_server *rs, const struct ring_sqe *sqe, int root, bool ro, uint64_t *val)
{
	char path[RING_PATH_MAX];
	int flags = (int)sqe->arg, fd, r = read_path(rs, sqe, path);
	struct handle *h;

	if (r)
		return r;
	if (flags & ~OPEN_FLAGS || (flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if (ro && ((flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC)))
		return -EROFS;
	/* O_NONBLOCK: a FIFO must not hold us; it has no meaning for what we let through */
	flags = (flags & ~O_APPEND) | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY;
	fd = open_beneath(root, path, flags, sqe->arg2 & 0777);
	if (fd < 0)
		return fd;
	h = handle_new(rs, H_FILE, fd);
	if (!h) {
		close(fd);
		return -ENFILE;
	}
	h->writable_file = (flags & O_ACCMODE) != O_RDONLY;
	h->open_flags = (uint32_t)(flags & O_ACCMODE);
	if (rs->cfg->snapshots)
		h->path = strdup(path);
	h->volume = (int)(sqe->handle - RING_VOL_BASE);
	r = check_opened(fd, h);
	if (!r && sqe->len2)
		r = write_stat(rs, sqe, fd);
	if (r) {
		handle_free(rs, h);
		return r;
	}
	*val = h->id;
	return 0;
}

bool volume_has_name(struct ring_server *rs, const struct handle *h)
{
	struct statx a, b;
	int fd = h->path ? open_beneath(rs->cfg->volumes[h->volume].dirfd, h->path, O_PATH | O_NOFOLLOW, 0)
			 : -ENOENT;
	bool same;

	if (fd < 0)
		return false;
	same = !statx(fd, "", AT_EMPTY_PATH, STATX_INO, &a) &&
	       !statx(h->fd, "", AT_EMPTY_PATH, STATX_INO, &b) && a.stx_ino == b.stx_ino &&
	       a.stx_dev_major == b.stx_dev_major && a.stx_dev_minor == b.stx_dev_minor;
	close(fd);
	return same;
}

/* Without creating or truncating; what was writable must still be. */
int volume_reopen(struct ring_server *rs, int volume, const char *path, uint32_t open_flags, bool dir)
{
	const struct monitor_volume *v = &rs->cfg->volumes[volume];
	int flags = (int)(open_flags & O_ACCMODE), fd;
	struct statx st;

	if (flags == O_ACCMODE)
		return -EINVAL;
	if (v->ro && flags != O_RDONLY)
		return -EROFS;
	fd = open_beneath(v->dirfd, path,
			  flags | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | (dir ? O_DIRECTORY : 0), 0);
	if (fd < 0)
		return fd;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) ||
	    !(dir ? S_ISDIR(st.stx_mode) : S_ISREG(st.stx_mode))) {
		close(fd);
		return -ESTALE;
	}
	return fd;
}

static int op_stat(struct ring_server *rs, const struct ring_sqe *sqe, int root)
{
	char path[RING_PATH_MAX];
	int r = read_path(rs, sqe, path), fd;

	if (r)
		return r;
	fd = open_beneath(root, path, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = write_stat(rs, sqe, fd);
	close(fd);
	return r;
}

static int op_rename(struct ring_server *rs, const struct ring_sqe *sqe, int root)
{
	struct place a, b;
	int r = find_place(rs, root, sqe->addr, sqe->len, &a);

	if (r)
		return r;
	r = find_place(rs, root, sqe->addr2, sqe->len2, &b);
	if (!r && sqe->op == RING_OP_VOL_LINK)
		r = linkat(a.dir, a.name, b.dir, b.name, 0) ? -errno : 0;
	else if (!r && sqe->arg & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		r = -EINVAL;
	else if (!r)
		r = syscall(SYS_renameat2, a.dir, a.name, b.dir, b.name, sqe->arg)
			    ? -errno
			    : 0; /* libc may take renameat */
	close_place(&a);
	close_place(&b);
	return r;
}

static int op_symlink(struct ring_server *rs, const struct ring_sqe *sqe, struct place *p)
{
	char target[RING_PATH_MAX];
	int r = rs_path(rs, sqe->addr2, sqe->len2, target);

	return r ? r : symlinkat(target, p->dir, p->name) ? -errno : 0;
}

static int op_readlink(struct ring_server *rs, const struct ring_sqe *sqe, struct place *p, uint64_t *val)
{
	char target[RING_PATH_MAX];
	ssize_t n = readlinkat(p->dir, p->name, target, sizeof(target));

	if (n < 0)
		return -errno;
	if ((size_t)n > sqe->len2)
		n = sqe->len2;
	if (!gpa_write(rs->mem, (gpa_t){sqe->addr2}, target, (uint64_t)n))
		rs_broken(rs, sqe, "address outside guest memory");
	*val = (uint64_t)n;
	return 0;
}

/* Operations on one name in a directory. */
static int op_name(struct ring_server *rs, const struct ring_sqe *sqe, int root, uint64_t *val)
{
	struct place p;
	int r = find_place(rs, root, sqe->addr, sqe->len, &p);

	if (r)
		return r;
	switch (sqe->op) {
	case RING_OP_VOL_MKDIR:
		r = mkdirat(p.dir, p.name, sqe->arg2 & 01777) ? -errno : 0;
		break;
	case RING_OP_VOL_UNLINK:
		r = sqe->arg & ~AT_REMOVEDIR ? -EINVAL : unlinkat(p.dir, p.name, (int)sqe->arg) ? -errno : 0;
		break;
	case RING_OP_VOL_SYMLINK:
		r = op_symlink(rs, sqe, &p);
		break;
	case RING_OP_VOL_READLINK:
		r = op_readlink(rs, sqe, &p, val);
		break;
	}
	close_place(&p);
	return r;
}

static int read_dir(struct ring_server *rs, const struct ring_sqe *sqe, int fd, uint64_t *val)
{
	uint32_t len = sqe->len < RING_MAX_IO ? sqe->len : RING_MAX_IO;
	void *buf = rs_data(rs, sqe, sqe->addr, len);
	long n;

	if (!buf || !len)
		return -EINVAL;
	if (lseek(fd, (off_t)sqe->off, SEEK_SET) < 0)
		return -errno;
	n = syscall(SYS_getdents64, fd, buf, len); /* straight through: nothing here reads it */
	if (n < 0)
		return -errno;
	*val = (uint64_t)lseek(fd, 0, SEEK_CUR);
	return (int)n;
}

/* What can be asked of a directory by name as well as of an open file. */
static int op_by_path(struct ring_server *rs, const struct ring_sqe *sqe, int root, uint64_t *val)
{
	char path[RING_PATH_MAX] = "";
	bool second = sqe->op == RING_OP_VOL_READDIR, o_path = sqe->op == RING_OP_VOL_SETATTR;
	uint32_t len = second ? sqe->len2 : sqe->len;
	int fd, r = len ? rs_path(rs, second ? sqe->addr2 : sqe->addr, len, path) : 0;
	struct ring_attr a;

	if (r)
		return r;
	fd = open_beneath(root, path,
			  o_path ? O_PATH | O_NOFOLLOW : O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	if (second) {
		r = read_dir(rs, sqe, fd, val);
	} else if (sqe->op == RING_OP_VOL_FSYNC) {
		r = fsync(fd) ? -errno : 0;
	} else if (gpa_read(rs->mem, (gpa_t){sqe->addr2}, &a, sizeof(a))) {
		r = set_attr(rs, fd, root, path, sqe->arg, &a);
	} else {
		rs_broken(rs, sqe, "address outside guest memory");
	}
	close(fd);
	return r;
}

static int op_statfs(struct ring_server *rs, const struct ring_sqe *sqe, int fd)
{
	struct statfs s;

	if (fstatfs(fd, &s))
		return -errno;
	if (sqe->len2 < sizeof(s))
		return -EINVAL;
	if (!gpa_write(rs->mem, (gpa_t){sqe->addr2}, &s, sizeof(s)))
		rs_broken(rs, sqe, "address outside guest memory");
	return 0;
}

static int on_volume(struct ring_server *rs, const struct ring_sqe *sqe, uint64_t *val)
{
	uint32_t id = sqe->handle - RING_VOL_BASE;
	const struct monitor_volume *v;

	if (id >= (uint32_t)rs->cfg->n_volumes)
		return -EBADF;
	v = &rs->cfg->volumes[id];
	switch (sqe->op) {
	case RING_OP_VOL_OPEN:
		return op_open(rs, sqe, v->dirfd, v->ro, val);
	case RING_OP_VOL_STAT:
		return op_stat(rs, sqe, v->dirfd);
	case RING_OP_VOL_READLINK:
		return op_name(rs, sqe, v->dirfd, val);
	case RING_OP_VOL_MKDIR:
	case RING_OP_VOL_UNLINK:
	case RING_OP_VOL_SYMLINK:
		return v->ro ? -EROFS : op_name(rs, sqe, v->dirfd, val);
	case RING_OP_VOL_RENAME:
	case RING_OP_VOL_LINK:
		return v->ro ? -EROFS : op_rename(rs, sqe, v->dirfd);
	case RING_OP_VOL_SETATTR:
		return v->ro ? -EROFS : op_by_path(rs, sqe, v->dirfd, val);
	case RING_OP_VOL_FSYNC:
	case RING_OP_VOL_READDIR:
		return op_by_path(rs, sqe, v->dirfd, val);
	case RING_OP_VOL_STATFS:
		return op_statfs(rs, sqe, v->dirfd);
	default:
		return -EINVAL;
	}
}

/* --- operations on open files --------------------------------------------------------- */

static int op_transfer(struct ring_server *rs, const struct ring_sqe *sqe, struct handle *h, uint64_t *val)
{
	struct iovec iov = {rs_data(rs, sqe, sqe->addr, sqe->len), sqe->len};
	uint32_t done = 0;
	ssize_t n = 0;

	if (sqe->len > RING_MAX_IO || sqe->arg > 1)
		return -EINVAL;
	if (!iov.iov_base)
		return -EFAULT;
	if (sqe->op == RING_OP_VOL_PREAD) {
		n = pread(h->fd, iov.iov_base, iov.iov_len, (off_t)sqe->off);
		return n < 0 ? -errno : (int)n;
	}
	while (done < sqe->len) {
		n = pwritev2(h->fd, &iov, 1, (off_t)(sqe->off + done), sqe->arg ? RWF_APPEND : 0);
		if (n <= 0)
			break;
		done += (uint32_t)n;
		iov.iov_base = (uint8_t *)iov.iov_base + n;
		iov.iov_len -= (size_t)n;
	}
	if (n < 0) {
		rs_lost(rs, errno);
		*val = (uint64_t)errno;
	}
	return done ? (int)done : n < 0 ? -errno : 0;
}

static int file_change(struct ring_server *rs, const struct ring_sqe *sqe, struct handle *h)
{
	struct ring_attr a;

	if (rs->cfg->volumes[h->volume].ro)
		return -EROFS;
	switch (sqe->op) {
	case RING_OP_VOL_TRUNCATE:
		return ftruncate(h->fd, (off_t)sqe->off) ? -errno : 0;
	case RING_OP_VOL_FALLOCATE:
		return fallocate(h->fd, (int)sqe->arg, (off_t)sqe->off, (off_t)sqe->addr2) ? -errno : 0;
	default: /* SETATTR */
		if (!gpa_read(rs->mem, (gpa_t){sqe->addr2}, &a, sizeof(a))) {
			rs_broken(rs, sqe, "address outside guest memory");
			return -EFAULT;
		}
		return set_attr(rs, h->fd, -1, NULL, sqe->arg, &a);
	}
}

/* Never blocks: the guest asks again. */
static int lock_file(struct ring_server *rs, const struct ring_sqe *sqe, struct handle *h, uint64_t *val)
{
	struct flock l = {.l_whence = SEEK_SET, .l_start = (off_t)sqe->off};
	uint64_t last = sqe->addr;
	int op = (int)sqe->arg & ~LOCK_NB, r;
	bool ask = sqe->arg2 == RING_LOCK_ASK;

	if ((op != LOCK_SH && op != LOCK_EX && op != LOCK_UN) || sqe->arg2 > RING_LOCK_ASK)
		return -EINVAL;
	if (sqe->arg2 == RING_LOCK_FILE) {
		r = flock(h->fd, op | LOCK_NB) ? -errno : 0;
	} else {
		if (sqe->off > INT64_MAX || last > INT64_MAX || last < sqe->off)
			return -EINVAL;
		l.l_type = op == LOCK_SH ? F_RDLCK : op == LOCK_EX ? F_WRLCK : F_UNLCK;
		l.l_len = last == INT64_MAX ? 0 : (off_t)(last - sqe->off + 1);
		r = fcntl(h->fd, ask ? F_OFD_GETLK : F_OFD_SETLK, &l) ? -errno : 0;
	}
	if (r)
		return r == -EACCES ? -EAGAIN : r;
	if (ask)
		*val = l.l_type == F_UNLCK ? 0 : l.l_type == F_RDLCK ? 1 : 2;
	return sqe->len2 ? write_stat(rs, sqe, h->fd) : 0;
}

static int on_file(struct ring_server *rs, const struct ring_sqe *sqe, uint64_t *val)
{
	struct handle *h = handle_get(rs, sqe->handle);

	if (!h || h->kind != H_FILE)
		return -EBADF;
	switch (sqe->op) {
	case RING_OP_VOL_PREAD:
	case RING_OP_VOL_PWRITE:
		return op_transfer(rs, sqe, h, val);
	case RING_OP_VOL_TRUNCATE:
	case RING_OP_VOL_FALLOCATE:
	case RING_OP_VOL_SETATTR:
		return file_change(rs, sqe, h);
	case RING_OP_VOL_FSYNC:
		return (sqe->arg == 1 ? fdatasync(h->fd) : fsync(h->fd)) ? -errno : 0;
	case RING_OP_VOL_STAT:
		return write_stat(rs, sqe, h->fd);
	case RING_OP_VOL_READDIR:
		return read_dir(rs, sqe, h->fd, val);
	case RING_OP_VOL_STATFS:
		return op_statfs(rs, sqe, h->fd);
	case RING_OP_VOL_LOCK:
		return lock_file(rs, sqe, h, val);
	default:
		return -EINVAL;
	}
}

void volume_op(struct ring_server *rs, const struct ring_sqe *sqe)
{
	uint64_t val = 0;
	int r = sqe->handle >= RING_VOL_BASE ? on_volume(rs, sqe, &val) : on_file(rs, sqe, &val);

	rs_complete(rs, sqe, r, 0, r < 0 ? 0 : val, 0);
}
