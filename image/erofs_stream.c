/* SPDX-License-Identifier: ISC */
/*
 * Writes an EROFS image whose files' contents arrive once, one after the
 * other, as they do from a tar stream: data goes to the image at once, metadata
 * follows when all names are known.
 *
 *   block 0       superblock
 *   block 1...    files, each from a block boundary, in the order of arrival
 *   then          metadata (erofs_meta.c), then larger directories
 *
 * With nothing but small files there is no data, and metadata begins in block 0.
 *
 * Small files are kept in memory until they go behind their inodes, at most
 * MAX_HELD bytes of them; from then on all get blocks, so memory is bounded
 * whatever comes. Data is written in large pieces; holes of sparse files are
 * never written. begin/write/end must come in this order, one file at a time.
 */
#include "image/erofs_stream.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/erofs_meta.h"

#define BLOCK	 EROFS_BLOCK
#define BUFFER	 (1u << 20)
#define MAX_HELD (64u << 20)

struct erofs_stream {
	struct erofs_meta m;
	int fd;
	uint8_t *buf;
	uint64_t buf_off; /* where buf[0] goes in the image */
	size_t buf_used;
	size_t held;
	/* the file at hand */
	struct node *node;
	uint64_t start; /* offset of its first byte in the image */
	uint64_t done; /* bytes below it have come, or are zeros */
	char *small; /* its contents, if they are kept in memory; else NULL */
	uint8_t magic[SELFMAG];
};

struct erofs_stream *erofs_stream_new(struct tree *t, int fd)
{
	struct erofs_stream *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->m.t = t;
	s->m.next_block = 1;
	s->fd = fd;
	s->buf = malloc(BUFFER);
	if (!s->buf) {
		free(s);
		return NULL;
	}
	return s;
}

void erofs_stream_free(struct erofs_stream *s)
{
	if (!s)
		return;
	free(s->m.mem);
	free(s->buf);
	free(s);
}

static int flush(struct erofs_stream *s)
{
	int r = s->buf_used ? erofs_write_all(s->fd, s->buf, s->buf_used, s->buf_off) : 0;

	s->buf_used = 0;
	return r;
}

/* Put bytes at an offset of the image; offsets ascend. */
static int put(struct erofs_stream *s, uint64_t off, const void *data, size_t n)
{
	/* small gaps (the end of a block) are filled so that pieces stay large */
	uint64_t gap = off - (s->buf_off + s->buf_used);

	if (s->buf_used && (gap >= BLOCK || gap > BUFFER - s->buf_used || n > BUFFER - s->buf_used - gap)) {
		int r = flush(s);
		if (r)
			return r;
	}
	if (!s->buf_used) {
		s->buf_off = off;
		gap = 0;
	}
	if (n >= BUFFER)
		return erofs_write_all(s->fd, data, n, off);
	memset(s->buf + s->buf_used, 0, gap);
	memcpy(s->buf + s->buf_used + gap, data, n);
	s->buf_used += gap + n;
	return 0;
}

int erofs_stream_begin(struct erofs_stream *s, struct node *n)
{
	s->node = n;
	s->done = 0;
	s->small = NULL;
	memset(s->magic, 0, sizeof(s->magic));
	n->content = NULL;
	n->block = 0;
	n->visited = false;
	if (n->size && n->size <= EROFS_MAX_INLINE && s->held + n->size <= MAX_HELD) {
		s->small = tree_alloc(s->m.t, n->size);
		if (!s->small)
			return -ENOMEM;
		memset(s->small, 0, n->size);
		return 0;
	}
	if (!n->size)
		return 0;
	uint64_t blocks = n->size / BLOCK + !!(n->size % BLOCK);
	if (blocks > UINT32_MAX - s->m.next_block)
		return -EFBIG;
	n->block = (uint32_t)s->m.next_block;
	s->start = s->m.next_block * BLOCK;
	s->m.next_block += blocks;
	return 0;
}

int erofs_stream_write(struct erofs_stream *s, uint64_t off, const void *data, size_t len)
{
	if (off < s->done || off > s->node->size || len > s->node->size - off)
		return -EINVAL;
	s->done = off + len;
	if (off < SELFMAG)
		memcpy(s->magic + off, data, len < SELFMAG - off ? len : SELFMAG - off);
	if (s->small) {
		memcpy(s->small + off, data, len);
		return 0;
	}
	return len ? put(s, s->start + off, data, len) : 0;
}

int erofs_stream_end(struct erofs_stream *s)
{
	struct node *n = s->node;

	n->visited = !memcmp(s->magic, ELFMAG, SELFMAG);
	if (!s->small)
		return 0;
	if (erofs_fits_inline(s->small, n->size)) {
		n->content = s->small;
		s->held += n->size;
		return 0;
	}
	n->block = (uint32_t)s->m.next_block++;
	return put(s, (uint64_t)n->block * BLOCK, s->small, n->size);
}

int erofs_stream_flush(struct erofs_stream *s)
{
	int r = flush(s);

	if (!r && ftruncate(s->fd, (off_t)(s->m.next_block * BLOCK)))
		r = -errno;
	return r;
}

/* --- blocks that lost their file ------------------------------------------------------ */

struct extent {
	uint64_t block, n;
};

struct extents {
	struct extent *v;
	size_t n, cap;
};

static bool collect(struct extents *e, const struct node *dir)
{
	for (const struct node *c = dir->child; c; c = c->sibling) {
		const struct node *n = c->link ? c->link : c;
		if (S_ISDIR(c->mode) && !collect(e, c))
			return false;
		if (!S_ISREG(n->mode) || !n->block)
			continue;
		if (e->n == e->cap) {
			size_t cap = e->cap ? e->cap * 2 : 1024;
			struct extent *v = realloc(e->v, cap * sizeof(*v));
			if (!v)
				return false;
			e->v = v;
			e->cap = cap;
		}
		e->v[e->n++] = (struct extent){n->block, n->size / BLOCK + !!(n->size % BLOCK)};
	}
	return true;
}

static int by_block(const void *a, const void *b)
{
	const struct extent *x = a, *y = b;

	return x->block < y->block ? -1 : x->block > y->block;
}

/* Zeros without disk space, where the file system can do that. */
static int punch(struct erofs_stream *s, uint64_t from, uint64_t to)
{
	if (from >= to || !fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(from * BLOCK),
				     (off_t)((to - from) * BLOCK)))
		return 0;
	if (errno != EOPNOTSUPP && errno != ENOSYS)
		return -errno;
	memset(s->buf, 0, BUFFER);
	for (uint64_t off = from * BLOCK, n; off < to * BLOCK; off += n) {
		n = to * BLOCK - off < BUFFER ? to * BLOCK - off : BUFFER;
		int r = erofs_write_all(s->fd, s->buf, n, off);
		if (r)
			return r;
	}
	return 0;
}

int erofs_stream_drop_unused(struct erofs_stream *s)
{
	struct extents e = {0};
	uint64_t at = 1;
	int r = erofs_stream_flush(s);

	if (!r && !collect(&e, s->m.t->root))
		r = -ENOMEM;
	if (e.n)
		qsort(e.v, e.n, sizeof(*e.v), by_block);
	for (size_t i = 0; i < e.n && !r; i++) {
		r = punch(s, at, e.v[i].block);
		if (at < e.v[i].block + e.v[i].n) /* names of one inode come again */
			at = e.v[i].block + e.v[i].n;
	}
	if (!r)
		r = punch(s, at, s->m.next_block);
	free(e.v);
	return r;
}

static void place_dirs(struct erofs_stream *s, struct node *dir)
{
	erofs_place_dir(&s->m, dir);
	for (struct node *c = dir->child; c; c = c->sibling)
		if (S_ISDIR(c->mode))
			place_dirs(s, c);
}

int erofs_stream_finish(struct erofs_stream *s)
{
	struct erofs_meta *m = &s->m;
	int r = flush(s);

	if (r)
		return r;
	tree_sort(m->t);
	if (m->next_block == 1) {
		m->end = EROFS_META_START;
	} else {
		m->base = m->next_block * BLOCK;
		m->end = 32; /* 0 is nobody's nid */
	}
	r = erofs_meta_layout(m);
	if (r)
		return r;
	m->next_block = (m->base + m->end) / BLOCK;
	place_dirs(s, m->t->root);
	return erofs_meta_write(m, s->fd);
}
