/* SPDX-License-Identifier: ISC */
/*
 * Tar layers into one EROFS layer, in one pass: nothing is unpacked to a
 * directory, so there is no staging copy, and no name in the tar is ever a path
 * on the host.
 *
 *   blob ──▶ inflate.c: SHA-256, gzip or zstd, SHA-256 ──▶ libarchive: tar ──▶ layer_tree.c: names and rules
 *                                                                        └───▶ erofs_stream.c: contents
 *   after the last one: table of system call sites from the image itself, metadata, and only then the blob is committed
 *
 * The tar is hostile. What must hold:
 *   - every entry's size counts against the limit before a byte of it is written, holes of sparse files included; entries and
 *     the directories that they imply count against the other limit; the plain stream is bounded by both, so that
 *     padding and headers cannot go on for ever
 *   - memory is bounded by the limit of entries; libarchive takes headers of up to 1 MiB, and few in a row
 *   - sizes and digests of the blob and of its plain contents are right, the tar ends where the blob does
 *   - any failure is one line, and the blob is dropped
 *
 * What a layer says is kept: owners as numbers, modes with setuid and setgid (they mean something only in the guest), times,
 * links wherever they point (they are followed in the guest, against its own root). Not kept: extended attributes,
 * security.capability among them (the guest runs one program as one user; a line says so where others are lost),
 * access control lists, and these names: /.cowbell, which is ours, and the well-known devices of /dev, which the guest makes itself.
 *
 * Where several tars become one, contents that an upper one replaced or took away have become part of the image already, for the
 * stream cannot be wound back; their blocks are made holes at the end.
 *
 * A name with a NUL byte ends there, as libarchive reads it; what is left is checked like any other.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "abi/image.h"
#include "image/erofs_stream.h"
#include "image/image.h"
#include "image/oci/import.h"
#include "image/oci/inflate.h"
#include "image/oci/layer_tree.h"
#include "image/sites.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define MAX_TARGET 4000 /* a link's target lies in one block with its inode */
#define MAX_TIME   (1ll << 33) /* seconds; in nanoseconds it still fits 64 bits */
/* Of the plain stream beyond the files' contents: headers and names, and padding at the end. */
#define PER_ENTRY 4096ull
#define PADDING	  (64ull << 20)
#define TAR_BLOCK 512

struct importer {
	struct layering l;
	struct erofs_stream *out;
	struct import_limits *lim;
	uint64_t max_bytes, max_entries; /* as they were, for messages */
	/* the layer at hand */
	const struct tar_layer *tar;
	struct inflate *in;
	const void *buf; /* the last bytes that libarchive got, and where they are in the plain stream */
	size_t buf_n;
	uint64_t buf_at;
	bool may_pad; /* all contents of the entry at hand have come */
	uint64_t lost_xattrs;
	char why[700]; /* the line for the user, once something is wrong */
};

/* Remember what is wrong; the first one counts. False, so that failing paths read `return wrong(...)`. */
__attribute__((format(printf, 2, 3))) static bool wrong(struct importer *im, const char *fmt, ...)
{
	va_list ap;

	if (im->why[0])
		return false;
	va_start(ap, fmt);
	vsnprintf(im->why, sizeof(im->why), fmt, ap);
	va_end(ap);
	return false;
}

static bool wrong_entry(struct importer *im, const char *name, const char *what)
{
	return wrong(im, "\"%.300s\" %s", name && *name ? name : "an entry", what);
}

static bool wrong_write(struct importer *im, int err)
{
	return wrong(im, "it cannot be written to the store: %s", say_errno(-err));
}

/* --- libarchive -------------------------------------------------------------------- */

static ssize_t give_plain(struct archive *a, void *arg, const void **data)
{
	static const uint8_t zeros[TAR_BLOCK];
	struct importer *im = arg;

	im->buf_at += im->buf_n;
	im->buf_n = 0;
	int r = inflate_next(im->in, &im->buf, &im->buf_n);
	progress_add(inflate_progress(im->in));
	if (r < 0) {
		wrong(im, "%s", inflate_error(im->in));
		archive_set_error(a, EIO, "%s", inflate_error(im->in));
		return -1;
	}
	/* `umoci insert` ends its tars right behind the last file's contents; the rest of that block is no loss. */
	if (!r && im->may_pad && im->buf_at % TAR_BLOCK) {
		im->buf = zeros;
		im->buf_n = TAR_BLOCK - im->buf_at % TAR_BLOCK;
	}
	*data = im->buf;
	return (ssize_t)im->buf_n;
}

static bool wrong_tar(struct importer *im, struct archive *a)
{
	const char *what = archive_error_string(a);

	return wrong(im, "damaged tar: %s", what ? what : "no header where one should be");
}

/* --- contents ------------------------------------------------------------------------ */

static bool take_contents(struct importer *im, struct archive *a, struct node *n, const char *name)
{
	const void *data;
	size_t len;
	la_int64_t off;
	int r = erofs_stream_begin(im->out, n), t;

	if (r)
		return wrong_write(im, r);
	while ((t = archive_read_data_block(a, &data, &len, &off)) == ARCHIVE_OK) {
		if (!len)
			continue;
		r = off < 0 ? -EINVAL : erofs_stream_write(im->out, (uint64_t)off, data, len);
		im->may_pad = (uint64_t)off + len == n->size;
		if (r == -EINVAL)
			return wrong_entry(im, name, "has more contents than its size, or out of order");
		if (r)
			return wrong_write(im, r);
	}
	if (t != ARCHIVE_EOF)
		return wrong_tar(im, a);
	r = erofs_stream_end(im->out);
	return r ? wrong_write(im, r) : true;
}

/* --- entries --------------------------------------------------------------------------- */

/* The guest makes these itself; images that were made as root often have them. */
static bool is_own_device(const char *name, uint32_t mode)
{
	static const char *const known[] = {"null",   "zero",	 "full", "random",  "urandom",
					    "tty",    "console", "ptmx", "stdin",   "stdout",
					    "stderr", "fuse",	 "kmsg", "initctl", "mem",
					    "kmem",   "port",	 "ram",	 "loop0",   "net/tun"};
	const char *base = name + 4;

	if (!S_ISCHR(mode) || strncmp(name, "dev/", 4))
		return false;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strcmp(base, known[i]))
			return true;
	/* tty0 ... tty63 */
	return !strncmp(base, "tty", 3) && base[3] && strspn(base + 3, "0123456789") == strlen(base + 3);
}

/* /.cowbell is ours, whether as it is or below it, and it is not to be hidden from other layers. */
static bool is_ours(const char *name)
{
	const char *own = &SITES_DIR[1];
	size_t n = strlen(own);

	if (!strncmp(name, ".wh.", 4) && !strcmp(name + 4, own))
		return true;
	return !strncmp(name, own, n) && (!name[n] || name[n] == '/');
}

static bool set_owner(struct importer *im, struct node *n, struct archive_entry *e, const char *name)
{
	la_int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);
	int64_t t = archive_entry_mtime_is_set(e) ? archive_entry_mtime(e) : 0;

	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
		return wrong_entry(im, name, "has an owner that is no 32-bit number");
	n->uid = (uint32_t)uid;
	n->gid = (uint32_t)gid;
	n->mtime = t > MAX_TIME ? MAX_TIME : t < -MAX_TIME ? -MAX_TIME : t;
	long ns = archive_entry_mtime_is_set(e) ? archive_entry_mtime_nsec(e) : 0;
	n->mtime_nsec = ns > 0 && ns < 1000000000 ? (uint32_t)ns : 0;
	return true;
}

/* Attributes are not kept. The two that are usual mean nothing in the guest, which is not worth a line; others are counted for one. */
static void count_xattrs(struct importer *im, struct archive_entry *e)
{
	const char *name;
	const void *value;
	size_t n;

	archive_entry_xattr_reset(e);
	while (archive_entry_xattr_next(e, &name, &value, &n) == ARCHIVE_OK)
		im->lost_xattrs +=
			name && strcmp(name, "security.capability") && strcmp(name, "security.selinux");
}

static bool take_symlink(struct importer *im, struct node *n, struct archive_entry *e, const char *name)
{
	const char *target = archive_entry_symlink(e);
	size_t len = target ? strlen(target) : 0;

	if (!len)
		return wrong_entry(im, name, "is a link to nothing");
	if (len > MAX_TARGET)
		return wrong_entry(im, name, "is a link with too long a target");
	n->data = tree_alloc(im->l.t, len + 1);
	if (!n->data)
		return wrong_entry(im, name, "needs more memory than there is");
	memcpy(n->data, target, len + 1);
	return true;
}

static bool take_hard_link(struct importer *im, struct archive_entry *e, const char *name)
{
	char target[PATH_MAX];
	const char *why = layer_clean_name(archive_entry_hardlink(e), target);

	if (why)
		return wrong(im, "\"%.300s\" is a hard link to what %s", name, why);
	why = layer_place_link(&im->l, name, target);
	return why ? wrong_entry(im, name, why) : true;
}

/* What the entry costs, taken from the limits. */
static bool charge(struct importer *im, struct archive_entry *e, const char *name)
{
	la_int64_t size = archive_entry_size_is_set(e) ? archive_entry_size(e) : 0;

	if (!im->lim->max_entries)
		return wrong(im,
			     "the image has more than %" PRIu64
			     " entries, the limit; raise it with --max-entries",
			     im->max_entries);
	if (size < 0)
		return wrong_entry(im, name, "has a negative size");
	if ((uint64_t)size > im->lim->max_bytes)
		return wrong(im,
			     "the image unpacks to more than %" PRIu64
			     " bytes, the limit; raise it with --max-size",
			     im->max_bytes);
	im->lim->max_bytes -= (uint64_t)size;
	im->lim->max_entries--;
	return true;
}

static bool take_entry(struct importer *im, struct archive *a, struct archive_entry *e)
{
	const char *raw = archive_entry_pathname(e), *why;
	uint32_t mode = archive_entry_mode(e);
	bool hard = archive_entry_hardlink(e) != NULL;
	char name[PATH_MAX];
	struct node *n;

	if ((why = layer_clean_name(raw, name)))
		return wrong_entry(im, raw, why);
	if (!charge(im, e, name))
		return false;
	if (is_ours(name) || (!hard && is_own_device(name, mode)))
		return true;
	if (hard)
		return take_hard_link(im, e, name);
	if (S_ISCHR(mode) || S_ISBLK(mode))
		return wrong_entry(im, raw, "is a device; images may not bring any");
	if (!S_ISREG(mode) && !S_ISDIR(mode) && !S_ISLNK(mode) && !S_ISFIFO(mode))
		return wrong_entry(im, raw, "is neither file, directory, link nor pipe");
	if ((why = layer_place(&im->l, name, mode, &n)))
		return wrong_entry(im, raw, why);
	if (!n)
		return true;
	count_xattrs(im, e);
	if (!set_owner(im, n, e, raw))
		return false;
	if (S_ISLNK(mode))
		return take_symlink(im, n, e, raw);
	if (!S_ISREG(mode))
		return true;
	n->size = archive_entry_size_is_set(e) ? (uint64_t)archive_entry_size(e) : 0;
	if (n->size && !strncmp(n->name, ".wh.", 4))
		return wrong_entry(im, raw, "is a whiteout with contents");
	return take_contents(im, a, n, raw);
}

/* --- one tar ------------------------------------------------------------------------------ */

static bool all_zero(const uint8_t *p, size_t n)
{
	return !n || (!*p && !memcmp(p, p + 1, n - 1));
}

/* Behind the tar's end there is nothing but padding. `end`: where it ends in the plain stream. */
static bool check_rest(struct importer *im, uint64_t end)
{
	int r = 1;

	if (end < im->buf_at + im->buf_n) {
		size_t skip = end > im->buf_at ? (size_t)(end - im->buf_at) : 0;
		if (!all_zero((const uint8_t *)im->buf + skip, im->buf_n - skip))
			return wrong(im, "has something behind the end of the tar file");
	}
	while (im->buf_n && (r = inflate_next(im->in, &im->buf, &im->buf_n)) > 0) {
		progress_add(inflate_progress(im->in));
		if (!all_zero(im->buf, im->buf_n))
			return wrong(im, "has something behind the end of the tar file");
	}
	return r < 0 ? wrong(im, "%s", inflate_error(im->in)) : true;
}

static bool read_tar(struct importer *im)
{
	struct archive *a = archive_read_new();
	struct archive_entry *e;
	bool good = true;
	int r = ARCHIVE_FATAL;

	if (!a || archive_read_support_format_tar(a) ||
	    archive_read_open2(a, im, NULL, give_plain, NULL, NULL) != ARCHIVE_OK) {
		good = wrong(im, "%s", "is no tar file");
	}
	while (good && (r = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
		im->may_pad = false;
		good = take_entry(im, a, e);
	}
	if (good && r != ARCHIVE_EOF)
		good = wrong_tar(im, a);
	if (good)
		good = check_rest(im, (uint64_t)archive_filter_bytes(a, -1));
	archive_read_free(a);
	return good;
}

/* Digests of a layer that was read to its end. */
static bool check_digests(struct importer *im)
{
	char packed[65], plain[65];

	inflate_digests(im->in, packed, plain);
	if (strcmp(packed, im->tar->d->hex))
		return wrong(im, "does not have the digest that it is named by");
	if (im->tar->diff_id[0] && strcmp(plain, im->tar->diff_id))
		return wrong(
			im,
			"its contents do not have the digest (diff_id) that the image's configuration gives");
	return true;
}

/* Something is wrong: is it that the blob is not what it should be? Then that is what the user should hear. */
static void blame_digest(struct importer *im)
{
	char hex[65];

	if (sha256_fd(im->tar->fd, hex) || !strcmp(hex, im->tar->d->hex))
		return;
	im->why[0] = 0;
	wrong(im, "does not have the digest that it is named by");
}

/* How long the plain stream of a layer may be. */
static uint64_t stream_bound(const struct import_limits *lim)
{
	uint64_t n;

	if (__builtin_mul_overflow(lim->max_entries, PER_ENTRY, &n) ||
	    __builtin_add_overflow(n, lim->max_bytes, &n) || __builtin_add_overflow(n, PADDING, &n))
		return UINT64_MAX;
	return n;
}

static bool take_layer(struct importer *im)
{
	struct stat st;
	uint64_t bound = stream_bound(im->lim);

	if (fstat(im->tar->fd, &st))
		return wrong(im, "cannot be read: %s", strerror(errno));
	if ((uint64_t)st.st_size != im->tar->d->size)
		return wrong(im, "has %lld bytes, not %llu", (long long)st.st_size,
			     (unsigned long long)im->tar->d->size);
	im->buf_at = im->buf_n = 0;
	im->may_pad = false;
	im->in = inflate_open(im->tar->fd, im->tar->d->size, bound);
	if (!im->in)
		return wrong(im, "cannot be read: %s", strerror(errno));
	bool good = read_tar(im) && check_digests(im);
	inflate_close(im->in);
	if (!good)
		blame_digest(im);
	return good;
}

/* --- the layer ------------------------------------------------------------------------------ */

struct refs {
	struct sites_ref *v;
	size_t n, cap;
};

static void free_refs(struct refs *r)
{
	for (size_t i = 0; i < r->n; i++)
		free((char *)r->v[i].path);
	free(r->v);
}

static bool add_ref(struct refs *r, const struct node *n, const struct node *inode)
{
	char path[PATH_MAX + 1];

	if (!tree_path(n, path, sizeof(path)))
		return true; /* too long for anybody to open it */
	if (r->n == r->cap) {
		size_t cap = r->cap ? r->cap * 2 : 256;
		struct sites_ref *v = realloc(r->v, cap * sizeof(*v));
		if (!v)
			return false;
		r->v = v;
		r->cap = cap;
	}
	r->v[r->n] = (struct sites_ref){strdup(path), inode->block * 4096ull, inode->size};
	return r->v[r->n++].path != NULL;
}

/* ELF files, which have blocks of their own (erofs_stream.c marks them as visited). */
static bool find_programs(struct refs *r, const struct node *dir)
{
	for (const struct node *c = dir->child; c; c = c->sibling) {
		const struct node *inode = c->link ? c->link : c;
		if (S_ISDIR(c->mode)) {
			if (!find_programs(r, c))
				return false;
		} else if (S_ISREG(inode->mode) && inode->visited && inode->block && !add_ref(r, c, inode)) {
			return false;
		}
	}
	return true;
}

/* The table of system call sites, read back from the image. */
static int add_sites(struct importer *im, int fd)
{
	struct refs refs = {0};
	char path[sizeof(SITES_DIR) + SITES_NAME] = SITES_DIR "/";
	void *block = NULL;
	size_t size = 0;
	int r = erofs_stream_flush(im->out);

	if (!r && !find_programs(&refs, im->l.t->root))
		r = -ENOMEM;
	if (!r)
		r = sites_of_image(fd, refs.v, refs.n, &block, &size, path + sizeof(SITES_DIR));
	free_refs(&refs);
	if (!r && block) {
		struct node *n = tree_put_dir(im->l.t, SITES_DIR, 0755)
					 ? tree_put_file(im->l.t, path, 0444, "", 0)
					 : NULL;
		r = n ? 0 : -ENOMEM;
		if (n) {
			n->size = size;
			r = erofs_stream_begin(im->out, n);
		}
		if (!r)
			r = erofs_stream_write(im->out, 0, block, size);
		if (!r)
			r = erofs_stream_end(im->out);
	}
	free(block);
	return r;
}

static bool finish(struct importer *im, int fd)
{
	const char *why = layer_settle(&im->l);

	if (why)
		return wrong(im, "it %s", why);
	int r = im->l.n > 1 ? erofs_stream_drop_unused(im->out) : 0;
	if (!r)
		r = add_sites(im, fd);
	if (!r)
		r = erofs_stream_finish(im->out);
	return r ? wrong_write(im, r) : true;
}

static bool convert(struct importer *im, const struct tar_layer *v, int n, int fd)
{
	bool good = true;

	im->l.t = tree_new("/");
	im->out = im->l.t ? erofs_stream_new(im->l.t, fd) : NULL;
	if (!im->out)
		good = wrong_write(im, -ENOMEM);
	im->tar = v;
	for (int i = 0; good && i < n; i++) {
		im->tar = &v[i];
		im->l.k = i;
		good = take_layer(im);
	}
	good = good && finish(im, fd);
	erofs_stream_free(im->out);
	tree_free(im->l.t);
	return good;
}

int layer_from_tars(struct store *s, const struct tar_layer *v, int n, struct import_limits *lim,
		    char hex[65], uint64_t *size)
{
	struct importer im = {
		.l = {.n = n, .entries_left = &lim->max_entries},
		.lim = lim,
		.max_bytes = lim->max_bytes,
		.max_entries = lim->max_entries,
	};
	struct blob *b = n > 0 && n <= OCI_MAX_LAYERS ? blob_new(s) : NULL;

	if (!b)
		return say_fail(EXIT_OURS, "%s: no room for a layer: %s", store_dir(s), say_errno(errno));
	/* Names are bytes; libarchive converts between character sets, which in this locale leaves UTF-8 alone. */
	locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", NULL), before = NULL;
	if (utf8)
		before = uselocale(utf8);
	bool good = convert(&im, v, n, blob_fd(b));
	if (utf8) {
		uselocale(before);
		freelocale(utf8);
	}
	int r = good ? blob_commit(b, NULL, hex, size) : 0;
	if (!good)
		blob_abort(b);
	if (r)
		wrong_write(&im, r);
	if (im.why[0])
		return say_fail(EXIT_OURS, "layer sha256:%.12s: %s", im.tar->d->hex, im.why);
	if (im.lost_xattrs)
		say("layer sha256:%.12s: %" PRIu64 " extended attribute%s left out", im.tar->d->hex,
		    im.lost_xattrs, im.lost_xattrs == 1 ? " is" : "s are");
	return 0;
}
