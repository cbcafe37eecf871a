// SPDX-License-Identifier: ISC
/*
 * Lazy RAM. The process monitor's RAM is a memfd that it shares with the guest process, so the pages of a snapshot
 * have to be copied into it. An instance touches few of them before its first answer, and writes to fewer; so only
 * those of the library OS and a recorded working set are copied at the start, and an app's page when it is first written.
 * Until then the guest maps it from the snapshot file itself, whose pages all instances share: it has the file's
 * descriptor, which can only be read (m->files; one that can do more is kept from it, and its pages are copied when
 * they are read, too).
 *
 * The bitmap here is the only truth: a set bit is a page that the snapshot stores and that is not in RAM yet.
 * Nobody can have written to such a page: the guest maps none of RAM that it has not asked for (PROCESS_FILL), and the
 * monitor comes to RAM through gpa_ram(), which fills. That it maps a file's page that the monitor has filled meanwhile
 * does not matter: the monitor writes only into buffers of the library OS, which has asked for the frames when it took
 * them. A guest that maps one all the same sees zeros and loses what it
 * wrote there when it asks, which harms nobody else.
 *
 *   lazy_open -> lazy_fill, lazy_ask ... -> nothing is left
 *
 * A page is written with pwrite into the memfd and not through a mapping: no fault, and no zeroing of what is
 * overwritten.
 */
#include "monitor/lazy.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(snapshot, pread64);
HOST_SYSCALL(snapshot, pwrite64);

#define PG	    SNAP_PAGE
#define COPY_PAGES  16u
#define JOIN_PAGES  1u
#define EXACT_PAGES 4096u /* of a working set; what comes after these is recorded in clusters */

struct lazy {
	struct snap_flat *flat; /* what was not filled at the start; by gpa */
	uint32_t n_flat, n_pieces;
	struct process_piece *pieces; /* of them, what the guest can map */
	uint64_t pages, left; /* of RAM; bits that are set */
	uint64_t *missing;
	uint64_t *stored, n_stored; /* `missing` and `left` at the start */
	struct workset ws; /* until lazy_prefill() */
	bool recording;
};

static uint8_t copy_buf[COPY_PAGES * PG];

/* --- bits ------------------------------------------------------------------------ */

static bool bit(const uint64_t *bits, uint64_t i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static void bits_set(uint64_t *bits, uint64_t i, uint64_t n)
{
	for (; n; i++, n--)
		bits[i / 64] |= 1ull << (i % 64);
}

static void bits_clear(struct lazy *z, uint64_t i, uint64_t n)
{
	for (; n; i++, n--) {
		z->left -= bit(z->missing, i);
		z->missing[i / 64] &= ~(1ull << (i % 64));
	}
}

/* The first page in [i, end) that is missing, or end. */
static uint64_t next_missing(const struct lazy *z, uint64_t i, uint64_t end)
{
	while (i < end) {
		uint64_t w = z->missing[i / 64] >> (i % 64);

		if (w) {
			i += (uint64_t)__builtin_ctzll(w);
			return i < end ? i : end;
		}
		i = (i | 63) + 1;
	}
	return end;
}

/* --- copying ----------------------------------------------------------------------- */

static int copy(int ram_fd, uint64_t gpa, int fd, uint64_t off, uint64_t len)
{
	while (len) {
		size_t want = len < sizeof(copy_buf) ? len : sizeof(copy_buf);
		ssize_t n = pread(fd, copy_buf, want, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n > 0 && pwrite(ram_fd, copy_buf, (size_t)n, (off_t)gpa) != n)
			n = -1;
		if (n <= 0) {
			int err = n ? errno : EIO;

			say("cannot read a snapshot: %s", n ? strerror(err) : "it is truncated");
			return -err;
		}
		gpa += (uint64_t)n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* The entry that page i, which is missing, is in. */
static const struct snap_flat *entry_of(const struct lazy *z, uint64_t i)
{
	uint32_t lo = 0, hi = z->n_flat;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (z->flat[mid].gpa / PG <= i)
			lo = mid;
		else
			hi = mid;
	}
	return &z->flat[lo];
}

static int fill(const struct guest_mem *m, uint64_t i, uint64_t end)
{
	struct lazy *z = m->lazy;
	int r = 0;

	end = end < z->pages ? end : z->pages;
	while (!r && z->left && (i = next_missing(z, i, end)) < end) {
		const struct snap_flat *e = entry_of(z, i);
		uint64_t last = e->gpa / PG + e->pages, n = 0;

		while (i + n < end && i + n < last && bit(z->missing, i + n))
			n++;
		r = copy(m->ram_fd, i * PG, e->fd, e->off + (i * PG - e->gpa), n * PG);
		if (!r)
			bits_clear(z, i, n);
		i += n;
	}
	return r;
}

int lazy_fill(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
	if (!m->lazy || !m->lazy->left || !len)
		return 0;
	return fill(m, gpa / PG, (gpa + len - 1) / PG + 1);
}

int lazy_fill_all(const struct guest_mem *m)
{
	return m->lazy ? fill(m, 0, m->lazy->pages) : 0;
}

void lazy_drop(const struct guest_mem *m, uint64_t gpa, uint64_t len)
{
	struct lazy *z = m->lazy;
	uint64_t i = gpa / PG, end = (gpa + len) / PG;

	if (!z || !z->left)
		return;
	end = end < z->pages ? end : z->pages;
	if (i < end)
		bits_clear(z, i, end - i);
}

/* --- what the guest asks for --------------------------------------------------------- */

int64_t lazy_ask(const struct guest_mem *m, uint64_t gpa, uint64_t n)
{
	uint64_t ram = m->ram_size / PG;
	int r;

	if (gpa % PG || gpa / PG >= ram || !n)
		return -EINVAL;
	n = n < ram - gpa / PG ? n : ram - gpa / PG;
	if (m->lazy && m->lazy->recording && m->lazy->n_stored - m->lazy->left < EXACT_PAGES)
		n = 1;
	r = lazy_fill(m, gpa, n * PG);
	return r ? r : (int64_t)n;
}

static void tell(const struct lazy *z, const uint64_t *from, uint64_t *bits, uint64_t max)
{
	uint64_t words = (max + 63) / 64, have = (z->pages + 63) / 64;

	memcpy(bits, from, (words < have ? words : have) * sizeof(*bits));
}

uint64_t lazy_missing(const struct guest_mem *m, uint64_t *bits, uint64_t max)
{
	if (!m->lazy)
		return 0;
	tell(m->lazy, m->lazy->missing, bits, max);
	return m->lazy->left;
}

uint64_t lazy_stored(const struct guest_mem *m, uint64_t *bits, uint64_t max)
{
	if (!m->lazy)
		return 0;
	tell(m->lazy, m->lazy->stored, bits, max);
	return m->lazy->n_stored;
}

uint32_t lazy_pieces(const struct guest_mem *m, struct process_piece *out, uint32_t max)
{
	uint32_t n = m->lazy ? m->lazy->n_pieces : 0;

	n = n < max ? n : max;
	if (n)
		memcpy(out, m->lazy->pieces, n * sizeof(*out));
	return n;
}

void lazy_touched(const struct guest_mem *m, uint8_t *state, uint64_t pages)
{
	struct lazy *z = m->lazy;

	for (uint64_t i = 0; z && z->recording && i < pages && i < z->pages; i++)
		if (bit(z->stored, i) && !bit(z->missing, i))
			state[i] = WORKSET_WROTE; /* who only reads maps the file, unseen */
	if (z)
		z->recording = false;
}

/* --- start ------------------------------------------------------------------------------ */

/* Is it one that the guest can map, and none by which it could write? */
static bool guest_may_map(struct guest_mem *m, const struct snap_flat *e)
{
	int mode;

	if (e->off % PG)
		return false;
	for (int i = 0; i < m->n_files; i++)
		if (m->files[i] == e->fd)
			return true;
	mode = fcntl(e->fd, F_GETFL);
	if (mode < 0 || (mode & O_ACCMODE) != O_RDONLY || m->n_files == SNAP_MAX_CHAIN)
		return false;
	m->files[m->n_files++] = e->fd;
	return true;
}

/* Neighbours in RAM and in the file become one. */
static void add_piece(struct lazy *z, const struct snap_flat *e)
{
	struct process_piece *p = z->n_pieces ? &z->pieces[z->n_pieces - 1] : NULL;
	uint64_t len = p ? (uint64_t)p->pages * PG : 0;

	if (p && p->fd == (uint32_t)e->fd && p->gpa + len == e->gpa && p->off + len == e->off)
		p->pages += e->pages;
	else /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): its caller has made room */
		z->pieces[z->n_pieces++] = (struct process_piece){
			.gpa = e->gpa, .off = e->off, .pages = e->pages, .fd = (uint32_t)e->fd};
}

static int take_entry(struct guest_mem *m, const struct snap_flat *e)
{
	struct lazy *z = m->lazy;

	if (!(e->flags & SNAP_E_USER))
		return copy(m->ram_fd, e->gpa, e->fd, e->off, (uint64_t)e->pages * PG);
	z->flat[z->n_flat++] = *e;
	if (guest_may_map(m, e))
		add_piece(z, e);
	z->left += e->pages;
	bits_set(z->missing, e->gpa / PG, e->pages);
	return 0;
}

int lazy_open(struct guest_mem *m, const struct snap_file *f, struct workset *ws)
{
	struct lazy *z = calloc(1, sizeof(*z));
	uint64_t words = (m->ram_size / PG + 63) / 64;

	if (z) {
		z->pages = m->ram_size / PG;
		z->missing = calloc(words, sizeof(*z->missing));
		z->stored = calloc(words, sizeof(*z->stored));
		z->flat = malloc((f->n_flat + 1) * sizeof(*z->flat));
		z->pieces = malloc((f->n_flat + 1) * sizeof(*z->pieces));
		z->recording = workset_recording();
		z->ws = *ws;
		*ws = (struct workset){0};
	}
	m->lazy = z;
	if (!z || !z->missing || !z->stored || !z->flat || !z->pieces)
		return say_fail(-1, "out of memory");
	for (uint32_t i = 0; i < f->n_flat; i++)
		if (take_entry(m, &f->flat[i]))
			return -1;
	memcpy(z->stored, z->missing, words * sizeof(*z->stored));
	z->n_stored = z->left;
	return 0;
}

void lazy_prefill(const struct guest_mem *m)
{
	struct workset *ws = m->lazy ? &m->lazy->ws : NULL;
	uint64_t end = 0;

	for (uint32_t i = 0; ws && i < ws->n; i++) {
		if (!(ws->range[i].flags & WORKSET_WRITTEN))
			continue;
		uint64_t first = ws->range[i].gpa / PG;

		/* each piece costs the guest a mapping, which is dearer than a few pages more */
		if (end && first - end <= JOIN_PAGES)
			first = end;
		end = ws->range[i].gpa / PG + ws->range[i].pages;
		if (fill(m, first, end))
			break;
	}
	if (ws)
		workset_free(ws);
}
