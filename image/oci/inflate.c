/* SPDX-License-Identifier: ISC */
/*
 * Decompression of layers, with SHA-256 of both sides.
 *
 *   reader thread    read, hash, inflate ──▶ ring of buffers ──▶    consumer   hash, and do something with it
 *
 * Two threads, since inflating takes about as long as all the rest. Bytes are
 * handed over in buffers of BUFFER bytes, all full but the last, so memory is
 * bounded: RING of them, and what zlib and zstd need for a window (128 MiB at
 * most, zstd's own default limit).
 *
 * zlib and zstd are called directly rather than through libarchive's filters,
 * which hide the plain bytes from whoever wants to hash them, and take no
 * offence at bytes behind the end or a stream that ends in its middle.
 * Here both are errors, and so is any other compression. Several gzip members or zstd frames in a row
 * are one stream, as the formats have it.
 */
#include "image/oci/inflate.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#define BUFFER (1u << 20) /* a multiple of tar's 512 */
#define INPUT  (256u << 10)
#define RING   4

struct buffer {
	size_t n;
	uint8_t data[BUFFER];
};

struct inflate {
	/* the reader's */
	int fd;
	uint64_t left, max_plain, made;
	struct sha256_ctx packed;
	uint8_t *in;
	size_t in_used, in_n; /* in[in_used..in_n) is not looked at yet */
	struct buffer *fill; /* being filled, or NULL */
	/* the consumer's */
	struct sha256_ctx plain;
	bool holds; /* it looks at ring[tail] */
	uint64_t told;
	/* shared, under the lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct buffer *ring;
	unsigned head, tail; /* counts of buffers filled and given back */
	bool ended, stop;
	const char *error;
	uint64_t read;
	bool is_plain; /* both digests are the same */
	pthread_t thread;
};

/* --- the reader ------------------------------------------------------------------- */

static bool fail(struct inflate *f, const char *why)
{
	f->error = why; /* seen by the consumer after `ended`, which is set under the lock */
	return false;
}

/* More input. False at the end, or with an error. */
static bool more_input(struct inflate *f)
{
	if (!f->left)
		return false;
	ssize_t n;
	do
		n = read(f->fd, f->in, f->left < INPUT ? (size_t)f->left : INPUT);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return fail(f, n ? "cannot be read" : "is shorter than it was");
	f->left -= (uint64_t)n;
	f->in_used = 0;
	f->in_n = (size_t)n;
	sha256_update(&f->packed, (size_t)n, f->in);
	pthread_mutex_lock(&f->lock);
	f->read += (uint64_t)n;
	pthread_mutex_unlock(&f->lock);
	return true;
}

static bool hand_over(struct inflate *f)
{
	pthread_mutex_lock(&f->lock);
	f->head++;
	f->fill = NULL;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return true;
}

/* A buffer with room. False: nobody wants more. */
static bool room(struct inflate *f)
{
	if (f->fill && f->fill->n < BUFFER)
		return true;
	if (f->fill)
		hand_over(f);
	pthread_mutex_lock(&f->lock);
	while (f->head - f->tail == RING && !f->stop)
		pthread_cond_wait(&f->changed, &f->lock);
	bool stop = f->stop;
	pthread_mutex_unlock(&f->lock);
	if (stop)
		return false;
	f->fill = &f->ring[f->head % RING];
	f->fill->n = 0;
	return true;
}

/* So many bytes more are in the buffer. */
static bool made(struct inflate *f, size_t n)
{
	f->fill->n += n;
	f->made += n;
	return f->made <= f->max_plain || fail(f, "unpacks to more than the limit; raise it with --max-size");
}

static void copy_plain(struct inflate *f)
{
	do {
		while (f->in_used < f->in_n) {
			if (!room(f))
				return;
			size_t n = f->in_n - f->in_used, have = BUFFER - f->fill->n;
			n = n < have ? n : have;
			memcpy(f->fill->data + f->fill->n, f->in + f->in_used, n);
			f->in_used += n;
			if (!made(f, n))
				return;
		}
	} while (more_input(f));
}

/* One gzip member. True: it ended well, and more input may follow. */
static bool inflate_member(struct inflate *f, z_stream *z)
{
	for (;;) {
		if (f->in_used == f->in_n && !more_input(f))
			return f->error ? false : fail(f, "is truncated");
		if (!room(f))
			return false;
		z->next_in = f->in + f->in_used;
		z->avail_in = (unsigned)(f->in_n - f->in_used);
		z->next_out = f->fill->data + f->fill->n;
		z->avail_out = (unsigned)(BUFFER - f->fill->n);
		unsigned before = z->avail_out;
		int r = inflate(z, Z_NO_FLUSH);
		f->in_used = f->in_n - z->avail_in;
		if (!made(f, before - z->avail_out))
			return false;
		if (r == Z_STREAM_END)
			return true;
		if (r != Z_OK && r != Z_BUF_ERROR)
			return fail(f,
				    r == Z_MEM_ERROR ? "needs more memory than there is" : "is damaged gzip");
	}
}

static void inflate_gzip(struct inflate *f)
{
	z_stream z = {0};

	if (inflateInit2(&z, 15 + 16) != Z_OK) {
		fail(f, "needs more memory than there is");
		return;
	}
	while (inflate_member(f, &z)) {
		if (f->in_used == f->in_n && !more_input(f))
			break;
		if (f->in[f->in_used] != 0x1f) {
			fail(f, "has bytes behind the end of its gzip stream");
			break;
		}
		inflateReset(&z);
	}
	inflateEnd(&z);
}

static void inflate_zstd(struct inflate *f)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	size_t r = 0;
	bool pending = false; /* more output than had room */

	if (!z) {
		fail(f, "needs more memory than there is");
		return;
	}
	for (;;) {
		if (!pending && f->in_used == f->in_n && !more_input(f)) {
			if (r && !f->error)
				fail(f, "is truncated");
			break;
		}
		if (!room(f))
			break;
		ZSTD_inBuffer in = {f->in, f->in_n, f->in_used};
		ZSTD_outBuffer out = {f->fill->data, BUFFER, f->fill->n};
		size_t before = out.pos;
		r = ZSTD_decompressStream(z, &out, &in);
		f->in_used = in.pos;
		pending = out.pos == BUFFER && r;
		if (!made(f, out.pos - before))
			break;
		if (ZSTD_isError(r)) {
			fail(f, ZSTD_getErrorCode(r) == ZSTD_error_prefix_unknown
					? "has bytes behind the end of its zstd stream"
					: "is damaged zstd, or needs too large a window");
			break;
		}
	}
	ZSTD_freeDStream(z);
}

static void run(struct inflate *f)
{
	static const struct {
		uint8_t magic[6];
		uint8_t n;
		const char *name;
		void (*fn)(struct inflate *f);
	} kinds[] = {
		{{0x1f, 0x8b}, 2, NULL, inflate_gzip},
		{{0x28, 0xb5, 0x2f, 0xfd}, 4, NULL, inflate_zstd},
		{{0xfd, '7', 'z', 'X', 'Z', 0},
		 6,
		 "is compressed with xz; gzip, zstd and plain tar are understood",
		 NULL},
		{{'B', 'Z', 'h'},
		 3,
		 "is compressed with bzip2; gzip, zstd and plain tar are understood",
		 NULL},
		{{0x04, 0x22, 0x4d, 0x18},
		 4,
		 "is compressed with lz4; gzip, zstd and plain tar are understood",
		 NULL},
		{{'P', 'K', 3, 4}, 4, "is a zip file; gzip, zstd and plain tar are understood", NULL},
	};

	if (!more_input(f)) {
		if (!f->error)
			fail(f, "is empty");
		return;
	}
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (f->in_n < kinds[i].n || memcmp(f->in, kinds[i].magic, kinds[i].n))
			continue;
		if (kinds[i].fn)
			kinds[i].fn(f);
		else
			fail(f, kinds[i].name);
		return;
	}
	f->is_plain = true;
	copy_plain(f);
}

static void *reader(void *arg)
{
	struct inflate *f = arg;

	run(f);
	pthread_mutex_lock(&f->lock);
	if (f->fill && f->fill->n)
		f->head++;
	f->ended = true;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	return NULL;
}

/* --- the consumer ----------------------------------------------------------------------- */

struct inflate *inflate_open(int fd, uint64_t size, uint64_t max_plain)
{
	struct inflate *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	f->fd = fd;
	f->left = size;
	f->max_plain = max_plain;
	f->in = malloc(INPUT);
	f->ring = malloc(RING * sizeof(*f->ring));
	sha256_init(&f->packed);
	sha256_init(&f->plain);
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	if (f->in && f->ring) {
		errno = lseek(fd, 0, SEEK_SET) ? errno : pthread_create(&f->thread, NULL, reader, f);
		if (!errno)
			return f;
	}
	int err = errno;
	free(f->in);
	free(f->ring);
	free(f);
	errno = err;
	return NULL;
}

int inflate_next(struct inflate *f, const void **data, size_t *n)
{
	pthread_mutex_lock(&f->lock);
	if (f->holds) {
		f->tail++;
		f->holds = false;
		pthread_cond_signal(&f->changed);
	}
	while (f->head == f->tail && !f->ended)
		pthread_cond_wait(&f->changed, &f->lock);
	f->holds = f->head != f->tail;
	bool plain = f->is_plain, failed = f->ended && f->error;
	pthread_mutex_unlock(&f->lock);
	if (!f->holds)
		return failed ? -1 : 0;
	const struct buffer *b = &f->ring[f->tail % RING];
	if (!plain)
		sha256_update(&f->plain, b->n, b->data);
	*data = b->data;
	*n = b->n;
	return 1;
}

const char *inflate_error(const struct inflate *f)
{
	return f->error;
}

static void hex_of(struct sha256_ctx *ctx, char hex[65])
{
	uint8_t sum[SHA256_DIGEST_SIZE];

	sha256_digest(ctx, sizeof(sum), sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
}

void inflate_digests(struct inflate *f, char packed[65], char plain[65])
{
	hex_of(&f->packed, packed);
	if (f->is_plain)
		memcpy(plain, packed, 65);
	else
		hex_of(&f->plain, plain);
}

uint64_t inflate_progress(struct inflate *f)
{
	pthread_mutex_lock(&f->lock);
	uint64_t n = f->read - f->told;
	f->told = f->read;
	pthread_mutex_unlock(&f->lock);
	return n;
}

void inflate_close(struct inflate *f)
{
	if (!f)
		return;
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_cond_signal(&f->changed);
	pthread_mutex_unlock(&f->lock);
	pthread_join(f->thread, NULL);
	pthread_mutex_destroy(&f->lock);
	pthread_cond_destroy(&f->changed);
	free(f->in);
	free(f->ring);
	free(f);
}
