/* SPDX-License-Identifier: ISC */
/* See fake_guest.h. */
#include "tests/unit/hosted.h"

#include <asm-generic/errno.h>
#include <asm/stat.h>
#include <linux/fcntl.h>
#include <linux/mman.h>
#include <linux/stat.h>
#include <stdarg.h>

#include "abi/boot.h"
#include "guest/mm/census.h"
#include "guest/mm/frame.h"
#include "guest/mm/pt.h"
#include "guest/plat/plat.h"
#include "guest/plat/ring.h"
#include "guest/proc/proc.h"
#include "guest/vfs/vfs.h"
#include "tests/unit/fake_guest.h"

#define VMAP_SIZE  (1ull << 30)
#define MAP_FAILED ((void *)-1)

void *mmap(void *addr, size_t len, int prot, int flags, int fd, long off);
int memfd_create(const char *name, unsigned flags);
int ftruncate(int fd, long len);

struct fake_counts fake;
static struct boot_info bi;
static struct boot_stats st;
static int ram_fd;
static u64 ram_now;
const struct boot_info *boot = &bi;
struct boot_stats *stats = &st;
struct thread *test_current;
struct cpu test_cpu, *cpus[BOOT_MAX_VCPUS] = {&test_cpu};
u32 n_cpus = 1;

static _Noreturn void die(void)
{
	abort();
}

/* --- the rest of the library OS ---------------------------------------------- */

void log_line(enum log_level level, const char *fmt, ...)
{
}

void panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "panic: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, "\n");
	va_end(ap);
	die();
}

void random_bytes(void *p, size_t n)
{
	static u64 state = 88172645463325252ull;

	for (u8 *b = p; n--; b++)
		*b = (u8)(test_random(&state) >> 32);
}

u64 mono_ns(void)
{
	return 0;
}

void ktimer_init(struct ktimer *t, void (*fn)(struct ktimer *))
{
	*t = (struct ktimer){.fn = fn};
}

void ktimer_arm(struct ktimer *t, u64 deadline)
{
	t->armed = true;
}

bool oom_kill(struct aspace *as)
{
	fake.sigkills++;
	return false;
}

u64 mm_rlimit(struct aspace *as, int resource)
{
	return RLIM64_INFINITY;
}

int copy_out(void *dst, const void *src, size_t n)
{
	memcpy(dst, src, n);
	return 0;
}

/* Filling in place never happens: no address space is the CPU's. */
size_t user_copy(void *dst, const void *src, size_t n);
size_t user_copy(void *dst, const void *src, size_t n)
{
	die();
}

size_t user_clear(void *dst, size_t n);
size_t user_clear(void *dst, size_t n)
{
	die();
}

/* --- ring -------------------------------------------------------------------------- */

s64 ring_call_nosleep(struct ring_sqe *sqe, u64 *val, u64 *val2)
{
	if (sqe->op != RING_OP_MEM_GROW || fake.refuse_grow || sqe->off > bi.ram_max)
		return -ENOMEM;
	fake.grows++;
	ram_now = sqe->off;
	*val = ram_now;
	return 0;
}

static struct list queued = LIST_INIT(queued);

void ring_submit(struct ring_req *req)
{
	list_add_tail(&queued, &req->node);
}

void ring_flush(void)
{
	list_for_each_safe (n, &queued) {
		struct ring_req *r = list_entry(n, struct ring_req, node);
		struct ring_cqe cqe = {0};

		list_del(n);
		if (r->sqe.op != RING_OP_MEM_RELEASE || r->sqe.off + r->sqe.addr2 > ram_now)
			die();
		memset((char *)bi.physmap_va + r->sqe.off, 0, r->sqe.addr2);
		fake.releases++;
		r->done(r, &cqe);
	}
}

/* --- platform ------------------------------------------------------------------------ */

static void fake_map(struct aspace *as, u64 va, gpa_t g, u64 len, int prot, bool fresh)
{
	fake.maps++;
	if (!as && mmap((void *)va, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ram_fd, (long)g.v) ==
			   MAP_FAILED)
		die();
}

static void fake_unmap(struct aspace *as, u64 va, u64 len)
{
	fake.unmaps++;
	if (!as)
		mmap((void *)va, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

static void fake_switch(struct aspace *as)
{
}

static const struct plat fake_plat = {
	.name = "fake", .map = fake_map, .unmap = fake_unmap, .aspace_switch = fake_switch};
const struct plat *plat = &fake_plat;

/* Nothing was restored here: no page has yet to be filled. */
struct lazy_frames lazy_frames;

void lazy_take(gpa_t g, u64 n)
{
	(void)g;
	(void)n;
}

void fake_guest_start(u64 now, u64 max)
{
	u64 *root, *next;

	ram_fd = memfd_create("ram", 0);
	if (ram_fd < 0 || ftruncate(ram_fd, (long)max))
		die();
	/* As the loader does it, the direct map is congruent to RAM modulo 2 MiB. */
	bi.physmap_va = (u64)mmap(NULL, max + HUGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bi.physmap_va = ALIGN_UP(bi.physmap_va, HUGE_SIZE);
	mmap((void *)bi.physmap_va, max, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, ram_fd, 0);
	bi.vmap_va =
		(u64)mmap(NULL, VMAP_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	bi.vmap_va = ALIGN_UP(bi.vmap_va, HUGE_SIZE);
	bi.vmap_size = VMAP_SIZE - HUGE_SIZE;
	bi.ram_size = ram_now = now;
	bi.ram_max = max;
	bi.cr3_gpa = 16 * PAGE_SIZE;
	bi.ram_used = 32 * PAGE_SIZE;
	/* The direct map is there already, as far as pt_lookup can see: one 1 GiB table of 2 MiB pages. */
	root = (u64 *)(bi.physmap_va + bi.cr3_gpa);
	for (unsigned l = 3, page = 17; l > 1; l--, page++) {
		root[bi.physmap_va >> (PAGE_SHIFT + 9 * l) & 511] = (u64)page * PAGE_SIZE | PTE_TABLE;
		root = (u64 *)(bi.physmap_va + page * PAGE_SIZE);
	}
	next = root;
	for (unsigned i = bi.physmap_va >> 21 & 511, n = 0; i < 512 && n <= max >> 21; i++, n++)
		next[i] = (u64)n << 21 | PTE_LEAF | PTE_PS | PTE_W;
	frames_init();
}

/* --- the CPU ----------------------------------------------------------------------------- */

static int access_page(struct aspace *as, u64 va, bool write, u64 **p)
{
	for (int tries = 0; tries < 4; tries++) {
		u64 e = pt_lookup(as->root, va);
		int err;

		if (e & PTE_P && (!write || e & PTE_W)) {
			*p = (u64 *)(bi.physmap_va + pte_gpa(e).v + (va & (PAGE_SIZE - 1)));
			return 0;
		}
		err = mm_fault(as, va, PF_USER | (write ? PF_WRITE : 0) | (e & PTE_P ? PF_PRESENT : 0));
		if (err)
			return err;
	}
	panic("a fault is not cured");
}

int fake_read(struct aspace *as, u64 va, u64 *value)
{
	u64 *p;
	int err = access_page(as, va, false, &p);

	if (!err)
		*value = *p;
	return err;
}

int fake_write(struct aspace *as, u64 va, u64 value)
{
	u64 *p;
	int err = access_page(as, va, true, &p);

	if (!err)
		*p = value;
	return err;
}

bool fake_is_zero(gpa_t g, u64 len)
{
	const u64 *p = (const u64 *)(bi.physmap_va + g.v);

	for (u64 i = 0; i < len / 8; i++)
		if (p[i])
			return false;
	return true;
}

/* --- files ----------------------------------------------------------------------------------- */

struct fake_inode {
	struct inode ino;
	u64 pages, tag;
	gpa_t page[1024];
};

void file_get(struct file *f)
{
	f->refs++;
}

void file_put(struct file *f)
{
	struct fake_inode *i = (struct fake_inode *)f->inode;

	if (--f->refs)
		return;
	for (u64 p = 0; p < ARRAY_SIZE(i->page); p++)
		if (i->page[p].v)
			frame_put(i->page[p]);
	free(i);
	free(f);
}

int inode_get_page(struct inode *ino, u64 pgoff, bool write, u32 max_run, gpa_t *gpa, u32 *run)
{
	struct fake_inode *i = (struct fake_inode *)ino;
	gpa_t *p = &i->page[pgoff];

	if (pgoff >= i->pages)
		return -ENXIO;
	if (!p->v) {
		*p = frame_alloc(0, true);
		if (p->v == GPA_NONE.v) {
			p->v = 0;
			return -ENOMEM;
		}
		*(u64 *)frame_ptr(*p) = i->tag ? i->tag + pgoff : 0;
	}
	*gpa = *p;
	*run = 1;
	while (*run < max_run && pgoff + *run < i->pages && p[*run].v == p->v + *run * PAGE_SIZE)
		++*run;
	frame_get_run(*gpa, *run);
	return 0;
}

static const struct file_ops fake_ops = {.kind = "fake"};

struct file *fake_file(u64 pages, u64 tag, u32 flags)
{
	struct fake_inode *i = calloc(1, sizeof(*i));
	struct file *f = calloc(1, sizeof(*f));

	i->pages = pages;
	i->tag = tag;
	i->ino.mode = S_IFREG | 0644;
	list_init(&i->ino.mappings);
	*f = (struct file){.refs = 1, .flags = flags, .ops = &fake_ops, .inode = &i->ino};
	return f;
}

void fake_file_truncate(struct file *f, u64 pages)
{
	struct fake_inode *i = (struct fake_inode *)f->inode;

	mm_truncate_inode(f->inode, pages * PAGE_SIZE);
	for (u64 p = pages; p < i->pages; p++) {
		if (i->page[p].v)
			frame_put(i->page[p]);
		i->page[p].v = 0;
	}
	i->pages = pages;
}

struct file *vfs_anon_file(const char *name, u64 size, u32 flags)
{
	return fake_file(PAGE_UP(size) >> PAGE_SHIFT, 0, O_RDWR);
}
