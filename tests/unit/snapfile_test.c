/* SPDX-License-Identifier: ISC */
/*
 * The reader of snapshot files: a sound one is taken; truncated, flipped in any byte that it acts upon, or with any one
 * number wrong under a right digest, it is refused. A flipped page is found by verify. Deltas: what lies over what, and
 * parents that are missing, others, or do not fit.
 */
/* unit-sources: monitor/snapfile.c monitor/snappatch.c */
/* unit-libs: -lnettle */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "monitor/snapfile.h"
#include "tests/unit/tap.h"

#define SLOT (BOOT_TASK_SIZE + (1ull << 30))

struct sample {
	struct snap_header h;
	union {
		struct {
			struct snap_extent extents[4];
			struct snap_map maps[1];
			struct snap_layer layers[1];
			struct snap_handle handles[1];
			char strings[8];
		};
		uint8_t bytes[4096];
	} t;
	uint8_t pages[3][4096]; /* an embedded layer, two extents */
};

#define ARRAY(member, n) ((struct snap_array){(uint32_t)offsetof(struct sample, t.member), n})

static void make(struct sample *s)
{
	memset(s, 0, sizeof(*s));
	memset(s->pages, 0x5a, sizeof(s->pages));
	s->h = (struct snap_header){.magic = SNAP_MAGIC,
				    .version = SNAP_VERSION,
				    .size = sizeof(s->h),
				    .file_size = sizeof(*s),
				    .tables_len = sizeof(s->t),
				    .data_off = offsetof(struct sample, pages),
				    .plat = BOOT_PLAT_KVM,
				    .handle_max = 3,
				    .ram_size = 64 << 20,
				    .ram_max = 128 << 20,
				    .xstate_size = 576,
				    .boot_info_va = SLOT,
				    .cr3_gpa = 0x1000,
				    .stack_top = SLOT + 0x3000,
				    .exc_stack_top = SLOT + 0x5000,
				    .cpu_va = SLOT + 0x6000,
				    .stub_va = SLOT + 0x8000,
				    .stub_gpa = 0,
				    .vcpu_gpa = 0x2000,
				    .ring_gpa = 0x3000,
				    .boot_info_gpa = 0x20000,
				    .time_gpa = 0x21000,
				    .stats_gpa = 0x22000,
				    .libos_va = SLOT + (1 << 20),
				    .extents = ARRAY(extents, 2),
				    .maps = ARRAY(maps, 1),
				    .layers = ARRAY(layers, 1),
				    .handles = ARRAY(handles, 1),
				    .requests = ARRAY(strings, 0),
				    .ports = ARRAY(strings, 0),
				    .volumes = ARRAY(strings, 0),
				    .strings = ARRAY(strings, 8)};
	for (int i = 0; i < 2; i++)
		s->t.extents[i] = (struct snap_extent){.gpa = 0x10000u * (unsigned)(i + 1),
						       .off = s->h.data_off + 4096u * (unsigned)(i + 1),
						       .pages = 1,
						       .crc = snap_crc32c(0, s->pages[i + 1], 4096)};
	s->t.maps[0] = (struct snap_map){.va = SLOT, .gpa = 0x20000, .len = 4096, .prot = 3};
	s->t.layers[0] = (struct snap_layer){.size = 4096, .va = SLOT + (1 << 21), .off = s->h.data_off};
	strcpy(s->t.strings, "name");
}

/* -1: refused; -2: opened, pages refused; 0: good. `seal`: with a right digest. */
static int try(struct sample *s, size_t size, int seal)
{
	int fd = memfd_create("snapshot", 0), r;
	struct snap_file f;
	const char *why = NULL;

	if (seal && s->h.tables_len <= sizeof(s->t)) /* else it is refused before its digest is looked at */
		snap_digest(&s->h, s->t.bytes, s->h.digest);
	if (write(fd, s, size) != (ssize_t)size)
		abort();
	if (seal == 2) { /* the embedded layer's fingerprint needs the file */
		snap_layer_print(fd, s->h.data_off, 4096, s->t.layers[0].print);
		snap_digest(&s->h, s->t.bytes, s->h.digest);
		if (pwrite(fd, s, size, 0) != (ssize_t)size)
			abort();
	}
	r = snapfile_open(&f, fd, &why) ? -1 : 0;
	if (!r) {
		r = snapfile_verify_pages(&f, &why) ? -2 : 0;
		snapfile_close(&f);
	}
	close(fd);
	return r && !why ? -3 : r;
}

#define BAD(what, statement)                                                                                 \
	do {                                                                                                 \
		make(&s);                                                                                    \
		statement;                                                                                   \
		ok(try(&s, sizeof(s), 1) == -1, "refused: " what);                                           \
	} while (0)

/* --- deltas ------------------------------------------------------------------------------ */

static int file_of(const struct sample *s)
{
	int fd = memfd_create("snapshot", 0);

	if (write(fd, s, sizeof(*s)) != sizeof(*s))
		abort();
	return fd;
}

/* Over `under`: a page stored whole where it has none, one patched, one that is zero now. */
static void make_delta(struct sample *d, const struct sample *under)
{
	uint8_t now[4096];
	uint32_t n;

	make(d);
	memcpy(now, under->pages[1], 4096);
	now[0] ^= 1;
	now[2048] = 7;
	now[4095] = 9;
	memset(d->pages[1], 0, 4096);
	n = snap_patch_make(under->pages[1], now, d->pages[1]);
	d->h.parent = 1;
	memcpy(d->h.parent_digest, under->h.digest, 32);
	d->h.layers.count = 0;
	d->h.extents.count = 3;
	d->t.extents[0] = (struct snap_extent){.gpa = 0x10000,
					       .off = d->h.data_off + 4096,
					       .pages = 1,
					       .len = n,
					       .crc = snap_crc32c(0, d->pages[1], n),
					       .flags = SNAP_E_PATCH | SNAP_E_USER};
	d->t.extents[1] = (struct snap_extent){.gpa = 0x20000, .pages = 1, .flags = SNAP_E_ZERO};
	d->t.extents[2] = (struct snap_extent){.gpa = 0x30000,
					       .off = d->h.data_off + 8192,
					       .pages = 1,
					       .crc = snap_crc32c(0, d->pages[2], 4096)};
	snap_digest(&d->h, d->t.bytes, d->h.digest);
}

/* What the chain says of a page: 0 zero, its byte at `at` + 1, -1 no such chain. */
static int chain_byte(const struct sample *d, const struct sample *under, uint64_t gpa, unsigned at)
{
	int fd[2] = {file_of(d), under ? file_of(under) : -1}, r = -1;
	struct snap_reader *reader = malloc(sizeof(*reader));
	struct snap_file f;
	const char *why = NULL;

	if (!snapfile_open_chain(&f, fd, under ? 2 : 1, &why)) {
		const uint8_t *page;

		snapfile_slim(&f);
		snap_reader_start(reader, f.flat, f.n_flat);
		page = snap_reader_page(reader, gpa);
		r = page ? page[at] + 1 : 0;
		snapfile_close(&f);
	} else if (!why) {
		r = -2;
	}
	free(reader);
	close(fd[0]);
	if (under)
		close(fd[1]);
	return r;
}

static void reseal(struct sample *d)
{
	snap_digest(&d->h, d->t.bytes, d->h.digest);
}

static int refused(struct sample *d, const struct sample *under)
{
	reseal(d);
	return chain_byte(d, under, 0, 0) == -1;
}

static void deltas(const struct sample *base)
{
	struct sample d, other, top;

	make_delta(&d, base);
	ok(chain_byte(&d, base, 0x10000, 0) == 0x5b + 1 && chain_byte(&d, base, 0x10000, 1) == 0x5a + 1 &&
		   chain_byte(&d, base, 0x10000, 2048) == 8 && chain_byte(&d, base, 0x10000, 4095) == 10,
	   "delta: a page of the parent with changes");
	ok(chain_byte(&d, base, 0x20000, 0) == 0, "delta: a page of the parent that is zero now");
	ok(chain_byte(&d, base, 0x30000, 9) == 0x5a + 1, "delta: a page of its own");
	ok(chain_byte(&d, NULL, 0, 0) == -1, "delta: refused without its parent");
	other = *base;
	other.h.mono_ns++;
	reseal(&other);
	ok(chain_byte(&d, &other, 0, 0) == -1, "delta: refused over another parent");
	make_delta(&top, &d);
	ok(chain_byte(&top, &d, 0, 0) == -1, "delta: refused if the parent's parent is missing");
	for (int i = 0; i < 4; i++) {
		make_delta(&d, base);
		if (i == 0)
			d.t.extents[1].off = d.h.data_off;
		else if (i == 1)
			d.t.extents[0].flags = SNAP_E_PATCH | SNAP_E_ZERO;
		else if (i == 2)
			d.t.extents[0].len = 1 << 20;
		else
			d.t.extents[0].flags |= 8;
		ok(refused(&d, base), "delta: refused: impossible extent %d", i);
	}
	for (int i = 0; i < 4; i++) {
		uint16_t bad[] = {0xffff, 3, 511, 2};

		make_delta(&d, base);
		memcpy(d.pages[1] + (i ? 2 : 0), bad + (i ? 2 : 0), i ? 4 : 2);
		if (i > 1)
			d.t.extents[0].len = 8u * (unsigned)(i - 1); /* it ends in the midst of the changes */
		ok(refused(&d, base), "delta: refused: impossible changes %d", i);
	}
	make_delta(&d, base);
	d.h.ram_size = base->h.ram_size - 4096;
	ok(refused(&d, base), "delta: refused: less memory than its parent");
	make(&d);
	d.t.extents[0] = (struct snap_extent){.gpa = 0x10000, .pages = 1, .flags = SNAP_E_ZERO};
	ok(refused(&d, NULL), "refused: an extent of a delta without a parent");
}

static void patches(void)
{
	uint8_t below[4096], now[4096], out[8192], page[4096];
	int good = 1, short_one = 1;

	srand(1);
	for (int turn = 0; turn < 200; turn++) {
		int changes = rand() % (turn < 100 ? 6 : 700);

		for (int i = 0; i < 4096; i++)
			below[i] = (uint8_t)rand();
		memcpy(now, below, 4096);
		for (int i = 0; i < changes; i++)
			now[rand() % 4096] = (uint8_t)rand();
		uint32_t n = snap_patch_make(turn % 5 ? below : NULL, now, NULL);

		good &= n == snap_patch_make(turn % 5 ? below : NULL, now, out) && n <= sizeof(out) &&
			n % 8 == 0;
		memcpy(page, below, 4096);
		if (turn % 5 == 0)
			memset(page, 0, 4096);
		good &= snap_patch_apply(page, out, n) == n && !memcmp(page, now, 4096);
		short_one &= !snap_patch_apply(page, out, n - 8);
	}
	ok(good, "changes of a page, made and applied");
	ok(short_one, "changes that are cut are refused");
}

/* One input of the fuzz target: the length of the first file, then the files. */
static void seed(const char *dir, const char *name, const struct sample *a, const struct sample *b)
{
	uint32_t first = b ? sizeof(*a) : 0;
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "w");
	ok(f && fwrite(&first, sizeof(first), 1, f) == 1 && fwrite(a, sizeof(*a), 1, f) == 1 &&
		   (!b || fwrite(b, sizeof(*b), 1, f) == 1) && !fclose(f),
	   "written: %s", name);
}

/* With a directory: also writes the seeds of tests/fuzz/snapshot_fuzz.c there. */
int main(int argc, char **argv)
{
	static struct sample s, good;
	int flipped = 0, cut = 0;

	ok(snap_crc32c(0, "123456789", 9) == 0xe3069283, "CRC-32C of the check string");
	make(&s);
	ok(try(&s, sizeof(s), 2) == 0, "a sound file is taken");
	good = s;
	if (argc > 1) {
		struct sample d;

		make_delta(&d, &good);
		seed(argv[1], "small", &good, NULL);
		seed(argv[1], "delta", &d, &good);
	}
	for (size_t i = 0; i < offsetof(struct sample, pages); i++) {
		s = good;
		((uint8_t *)&s)[i] ^= 1u << (i % 8);
		flipped += try(&s, sizeof(s), 0) != -1;
	}
	ok(!flipped, "a flipped bit in header or tables is found");
	s = good;
	s.pages[2][77] ^= 4;
	ok(try(&s, sizeof(s), 0) == -2, "a flipped bit in a page is found by verify");
	s = good;
	s.pages[0][5] ^= 4;
	ok(try(&s, sizeof(s), 0) == -2, "and in an embedded layer");
	for (size_t n = 0; n < sizeof(s); n += 1021)
		cut += try(&good, n, 0) != -1;
	ok(!cut, "a truncated file is refused");
	deltas(&good);
	patches();
	BAD("another version", s.h.version++);
	BAD("tables that are longer than the file", s.h.tables_len = 1ull << 40);
	BAD("an array outside the tables", s.h.handles.off = 4096 + 4096);
	BAD("an array before the tables", s.h.handles.off = 8);
	BAD("an array that overflows", s.h.extents.count = 0xffffffff);
	BAD("strings without an end", s.t.strings[7] = 'x');
	BAD("RAM larger than its limit", s.h.ram_size = s.h.ram_max + 4096);
	BAD("more RAM than there can be", s.h.ram_max = BOOT_RAM_MAX * 2);
	BAD("a page table outside RAM", s.h.cr3_gpa = s.h.ram_size);
	BAD("a ring that begins in RAM and ends outside", s.h.ring_gpa = s.h.ram_size - 4096);
	BAD("boot information that is not aligned", s.h.boot_info_gpa++);
	BAD("a stub in the app's half", s.h.stub_va = 0x1000);
	BAD("an extent outside RAM", s.t.extents[1].gpa = s.h.ram_size);
	BAD("an extent whose length overflows", s.t.extents[0].pages = 0xffffffff);
	BAD("extents that overlap", s.t.extents[1].gpa = s.t.extents[0].gpa);
	BAD("an extent outside the file", s.t.extents[1].off = sizeof(s));
	BAD("an extent in the tables", s.t.extents[1].off = 4096);
	BAD("an extent at an odd offset", s.t.extents[1].off++);
	BAD("a mapping outside the library OS's slot", s.t.maps[0].va = 0x400000);
	BAD("a mapping over the slot's end", s.t.maps[0].len = BOOT_LIBOS_TOP - SLOT + 4096);
	BAD("a mapping of nothing", s.t.maps[0].gpa = BOOT_GPA_MAX);
	BAD("a writable mapping of an image", (s.t.maps[0].gpa = BOOT_IMAGE_GPA));
	BAD("a mapping both writable and executable", s.t.maps[0].prot = 7);
	BAD("a layer outside the file", s.t.layers[0].size = 1 << 20);
	BAD("an empty layer", s.t.layers[0].size = 0);
	return done();
}
