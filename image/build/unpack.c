/* SPDX-License-Identifier: ISC */
/*
 * A source as a stranger sends it, a tar, plain or gzip, into an empty directory of ours.
 *
 * What always holds, whatever the tar says:
 *   - Nothing is made outside of the directory. Names are relative and without ".."; each parent is opened from the top without
 *     following any link (openat2, RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS), so no entry can go through a link that an earlier one made.
 *   - No link leads out of it. A symbolic one may go up by "../" at its beginning only, and not above the top: its directory is a real one,
 *     so these steps stay inside, and what follows only goes down. A hard link's target is a file that this tar brought.
 *   - Files, directories and links only: a device, a FIFO or a socket ends it. No set-user-ID, no foreign owner, no extended attributes.
 *   - At most max_entries entries, DEPTH_MAX deep, and max_bytes of contents, counted before they are written, holes too: a small file that
 *     unpacks to a large one (a bomb) ends as soon as that is seen.
 * A name that comes twice: the later file wins, as with tar(1); a directory and a file of one name is an error.
 *
 * An archive of GitHub's kind has one directory at its top with everything in it: that directory is the app.
 *
 * libarchive parses tar and headers of all dialects; gzip is the only compression that it is told of. Runs in the build's own child
 * process: a crash of a parser is a build that fails.
 */
#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/build/source.h"
#include "lib/host/say.h"

#define DEPTH_MAX  64
#define NAME_LIMIT 1024 /* bytes of a path */
#define READ_AHEAD 65536

struct unpack {
	int top;
	const struct limits *lim;
	uint64_t bytes, entries;
};

/* A message that quotes a name of the tar: out_fail() makes it harmless; long ones are cut. */
static int refuse(const char *name, const char *why)
{
	return out_fail(EXIT_OURS, "The source is refused: '%.200s' %s", name, why);
}

/* --- names ------------------------------------------------------------------------------------------------------- */

/* Without "./" and slashes at the end. NULL, or what is wrong with it. An empty result is the top itself. */
static const char *clean_name(const char *in, char out[NAME_LIMIT])
{
	size_t n = 0, depth = 0;

	if (*in == '/')
		return "is an absolute path";
	while (*in) {
		size_t len = strcspn(in, "/");
		if (len == 2 && in[0] == '.' && in[1] == '.')
			return "has '..' in its path";
		if (len && !(len == 1 && *in == '.')) {
			if (len > 255 || n + len + 2 > NAME_LIMIT)
				return "has too long a path";
			if (++depth > DEPTH_MAX)
				return "is too deep";
			if (n)
				out[n++] = '/';
			memcpy(out + n, in, len);
			n += len;
		}
		in += len + (in[len] == '/');
	}
	out[n] = 0;
	return NULL;
}

static size_t depth_of(const char *name)
{
	size_t n = 0;

	for (; *name; name++)
		n += *name == '/';
	return n;
}

/* Does the target of a link with this name stay inside, whatever other links there are? */
static bool link_stays(const char *name, const char *target)
{
	size_t up = 0;

	if (!*target || *target == '/' || strlen(target) >= NAME_LIMIT)
		return false;
	while (!strncmp(target, "../", 3) || !strncmp(target, "./", 2)) {
		up += target[1] == '.';
		target += target[1] == '.' ? 3 : 2;
		while (*target == '/')
			target++;
	}
	up += !strcmp(target, "..");
	if (up > depth_of(name))
		return false;
	if (!strcmp(target, ".."))
		return true;
	for (const char *p = target; *p;) {
		size_t len = strcspn(p, "/");
		if (len == 2 && p[0] == '.' && p[1] == '.')
			return false;
		p += len + (p[len] == '/');
	}
	return true;
}

/* --- making ------------------------------------------------------------------------------------------------------- */

static int open_beneath(const struct unpack *u, const char *rel, uint64_t flags)
{
	struct open_how how = {.flags = flags | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};

	return (int)syscall(SYS_openat2, u->top, rel, &how, sizeof(how));
}

/* The directory that `name` is in, made if it is missing; its last component in *base. A descriptor, or -errno. */
static int open_parent(const struct unpack *u, const char *name, const char **base)
{
	const char *slash = strrchr(name, '/');
	char part[NAME_LIMIT];

	*base = slash ? slash + 1 : name;
	if (!slash)
		return fcntl(u->top, F_DUPFD_CLOEXEC, 0);
	size_t n = (size_t)(slash - name);
	memcpy(part, name, n);
	part[n] = 0;
	int fd = open_beneath(u, part, O_PATH | O_DIRECTORY);
	if (fd >= 0 || errno != ENOENT)
		return fd < 0 ? -errno : fd;
	const char *own;
	int up = open_parent(u, part, &own);
	if (up < 0)
		return up;
	int r = mkdirat(up, own, 0755) && errno != EEXIST ? -errno : 0;
	close(up);
	fd = r ? -1 : open_beneath(u, part, O_PATH | O_DIRECTORY);
	return r ? r : fd < 0 ? -errno : fd;
}

static const char *why_not(int err)
{
	return err == -ELOOP || err == -EXDEV	  ? "goes through a link"
	       : err == -ENOTDIR		  ? "is below a file"
	       : err == -EISDIR || err == -EEXIST ? "is there twice, once as a directory"
						  : say_errno(-err);
}

static int add_bytes(struct unpack *u, uint64_t n)
{
	if (n <= u->lim->max_bytes - u->bytes) {
		u->bytes += n;
		return 0;
	}
	return out_fail(EXIT_OURS, "The source is refused: it unpacks to more than %llu MiB",
			(unsigned long long)(u->lim->max_bytes >> 20));
}

/* The contents. What the header promised was counted; more than that does not come. */
static int write_file(struct archive *a, const char *name, int fd, uint64_t size)
{
	const void *p;
	size_t n;
	int64_t at;
	uint64_t end = 0;
	int r;

	while ((r = archive_read_data_block(a, &p, &n, &at)) == ARCHIVE_OK) {
		if (at < 0 || n > size || (uint64_t)at > size - n)
			return refuse(name, "has more in it than its header says");
		for (const char *q = p; n;) {
			ssize_t done = pwrite(fd, q, n, at);
			if (done < 0 && errno == EINTR)
				continue;
			if (done <= 0)
				return out_fail(EXIT_OURS, "The source cannot be unpacked: %s",
						say_errno(errno));
			q += done;
			at += done;
			n -= (size_t)done;
		}
		end = (uint64_t)at;
	}
	if (r != ARCHIVE_EOF)
		return out_fail(EXIT_OURS, "The source is damaged: %.200s",
				archive_error_string(a) ? archive_error_string(a) : "it ends too early");
	return end < size && ftruncate(fd, (off_t)size) ? refuse(name, say_errno(errno))
							: 0; /* a hole at the end */
}

static int put_file(struct unpack *u, struct archive *a, struct archive_entry *e, const char *name, int dir,
		    const char *base)
{
	int64_t size = archive_entry_size(e);

	if (size < 0)
		return refuse(name, "has no size that can be");
	int status = add_bytes(u, (uint64_t)size);
	if (status)
		return status;
	mode_t mode = archive_entry_perm(e) & 0111 ? 0755 : 0644;
	int fd = openat(dir, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0 && errno == EEXIST) {
		if (unlinkat(dir, base, 0))
			return refuse(name, why_not(-EISDIR));
		fd = openat(dir, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
	}
	if (fd < 0)
		return refuse(name, why_not(-errno));
	status = write_file(a, name, fd, (uint64_t)size);
	close(fd);
	return status;
}

static int put_symlink(struct archive_entry *e, const char *name, int dir, const char *base)
{
	const char *target = archive_entry_symlink(e);

	if (!target || !link_stays(name, target))
		return refuse(name, "is a link that leads out of the source");
	if (!symlinkat(target, dir, base))
		return 0;
	if (errno == EEXIST && !unlinkat(dir, base, 0) && !symlinkat(target, dir, base))
		return 0;
	return refuse(name, why_not(-errno));
}

static int put_hardlink(struct unpack *u, const char *target, const char *name, int dir, const char *base)
{
	char clean[NAME_LIMIT], path[32];
	struct stat st;

	if (clean_name(target, clean) || !*clean)
		return refuse(name, "is a hard link that leads out of the source");
	int fd = open_beneath(u, clean, O_PATH | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		return refuse(name, "is a hard link to no file of the source");
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	int r = linkat(AT_FDCWD, path, dir, base, AT_SYMLINK_FOLLOW) ? -errno : 0;
	if (r == -EEXIST && !strcmp(clean, name))
		r = 0; /* to itself */
	else if (r == -EEXIST && !unlinkat(dir, base, 0))
		r = linkat(AT_FDCWD, path, dir, base, AT_SYMLINK_FOLLOW) ? -errno : 0;
	close(fd);
	return r ? refuse(name, why_not(r)) : 0;
}

static int put_dir(const char *name, int dir, const char *base)
{
	struct stat st;

	if (!mkdirat(dir, base, 0755))
		return 0;
	int err = errno;
	if (err == EEXIST && !fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode))
		return 0;
	return refuse(name, err == EEXIST ? "is there twice, once as a directory" : say_errno(err));
}

static int put_entry(struct unpack *u, struct archive *a, struct archive_entry *e)
{
	const char *raw = archive_entry_pathname(e), *link = archive_entry_hardlink(e), *base;
	mode_t type = archive_entry_filetype(e);
	char name[NAME_LIMIT];

	if (!raw)
		return out_fail(EXIT_OURS, "The source is refused: it has an entry without a name");
	const char *why = clean_name(raw, name);
	if (why)
		return refuse(raw, why);
	if (!*name)
		return type == AE_IFDIR ? 0 : refuse(raw, "is not a name");
	if (!link && type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
		return refuse(name, type == AE_IFCHR || type == AE_IFBLK ? "is a device"
				    : type == AE_IFIFO			 ? "is a FIFO"
						       : "is neither file, directory nor link");
	int dir = open_parent(u, name, &base), status;
	if (dir < 0)
		return refuse(name, why_not(dir));
	if (link)
		status = put_hardlink(u, link, name, dir, base);
	else if (type == AE_IFREG)
		status = put_file(u, a, e, name, dir, base);
	else
		status = type == AE_IFDIR ? put_dir(name, dir, base) : put_symlink(e, name, dir, base);
	close(dir);
	return status;
}

static int unpack_all(struct unpack *u, struct archive *a)
{
	struct archive_entry *e;
	int r;

	while ((r = archive_read_next_header(a, &e)) == ARCHIVE_OK || r == ARCHIVE_WARN) {
		if (++u->entries > u->lim->max_entries)
			return out_fail(EXIT_OURS, "The source is refused: it has more than %llu entries",
					(unsigned long long)u->lim->max_entries);
		int status = put_entry(u, a, e);
		if (status)
			return status;
	}
	if (r != ARCHIVE_EOF)
		return out_fail(EXIT_OURS, "The source is no tar, plain or gzip, that can be read: %.200s",
				archive_error_string(a) ? archive_error_string(a) : "unknown format");
	return u->entries ? 0 : out_fail(EXIT_OURS, "The source is empty");
}

int source_unpack(const char *tar, int dir, const struct limits *lim)
{
	struct unpack u = {.top = dir, .lim = lim};
	struct archive *a = archive_read_new();

	if (!a)
		return out_fail(EXIT_OURS, "out of memory");
	archive_read_support_format_tar(a);
	archive_read_support_filter_gzip(a);
	archive_read_set_options(a, "hdrcharset=BINARY"); /* names are bytes */
	int status;
	if (archive_read_open_filename(a, tar, READ_AHEAD) != ARCHIVE_OK)
		status = out_fail(EXIT_OURS, "The source is no tar, plain or gzip, that can be read: %.200s",
				  archive_error_string(a) ? archive_error_string(a) : "unknown format");
	else
		status = unpack_all(&u, a);
	archive_read_free(a);
	return status;
}

/* The only entry, if it is a directory: into name. */
static bool only_dir(int top, char name[256])
{
	int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct stat st;
	unsigned n = 0;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	for (struct dirent *e; n < 2 && (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..") && !n++)
			snprintf(name, 256, "%s", e->d_name);
	closedir(d);
	return n == 1 && !fstatat(top, name, &st, AT_SYMLINK_NOFOLLOW) && S_ISDIR(st.st_mode);
}

void source_top(int dir, char *path, size_t size)
{
	char name[256];
	size_t n = strlen(path);

	if (only_dir(dir, name) && strcmp(name, ".git") && n + strlen(name) + 2 < size)
		snprintf(path + n, size - n, "/%s", name);
}
