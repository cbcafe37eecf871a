/* SPDX-License-Identifier: ISC */
/* unit-sources: guest/arch/x86_64/sites.c */
/*
 * Tables of system call sites as a hostile image would write them: the library
 * OS takes a table whole or not at all, and what it gives out lies inside of it.
 */
#include "tests/unit/hosted.h"

#include <asm-generic/errno.h>

#include "guest/arch/x86_64/sites.h"
#include "guest/mm/mm.h"
#include "guest/vfs/vfs.h"
#include "tests/unit/tap.h"

/* --- a vfs with one directory and one table ------------------------------------------ */

static u8 block[4096];
static u64 block_size, app_size;
static struct inode table_inode, app_inode, dir_inode;
static bool dir_read;

static s64 dir_getdents(struct file *f, struct uio *u)
{
	struct {
		u64 ino, off;
		u16 reclen;
		u8 type;
		char name[13];
	} __attribute__((packed)) d = {1, 1, 32, 8, "sites-test"};

	(void)f;
	if (dir_read)
		return 0;
	dir_read = true;
	memcpy(u->iov->iov_base, &d, 32);
	return 32;
}

static const struct file_ops dir_ops = {.getdents = dir_getdents};
static struct file dir_file = {.ops = &dir_ops, .inode = &dir_inode};
static struct file table_file = {.inode = &table_inode}, app_file = {.inode = &app_inode};

struct file *vfs_open(int dirfd, const char *path, u32 flags, u32 mode, int *err)
{
	(void)dirfd, (void)flags, (void)mode, (void)err;
	return strcmp(path, SITES_DIR) ? &table_file : &dir_file;
}
void file_put(struct file *f)
{
	(void)f;
}
u64 inode_size(struct inode *ino)
{
	return ino == &table_inode ? block_size : app_size;
}
s64 vfs_pread(struct file *f, void *buf, u64 n, u64 off)
{
	(void)f;
	memcpy(buf, block + off, n);
	return (s64)n;
}
int vfs_file_path(struct file *f, char *buf, size_t size)
{
	(void)f, (void)size;
	memcpy(buf, "/bin/app", 9);
	return 8;
}
void uio_single(struct uio *u, struct iovec *iov, void *buf, u64 len, bool kernel)
{
	iov->iov_base = buf;
	iov->iov_len = len;
	*u = (struct uio){.iov = iov, .n_iov = 1, .left = len, .kernel = kernel};
}
void *kmalloc(size_t n)
{
	return malloc(n);
}
void kfree(void *p)
{
	free(p);
}
void log_line(enum log_level level, const char *fmt, ...)
{
	(void)level, (void)fmt;
}

/* --- tables ---------------------------------------------------------------------------- */

#define FILES ((struct sites_file *)(block + 32))
#define PAGES ((struct sites_page *)(FILES + 1))
#define SITES ((struct sites_site *)(PAGES + 2))

static void good_table(void)
{
	struct sites_header *h = (void *)block;

	memset(block, 0, sizeof(block));
	*h = (struct sites_header){SITES_MAGIC, SITES_VERSION, 32 + 32 + 2 * 16 + 3 * 4 + 9, 1, 2, 3, 9};
	FILES[0] = (struct sites_file){.first_page = 0, .n_pages = 2, .size = 8192};
	PAGES[0] = (struct sites_page){0, 0, 2, 7};
	PAGES[1] = (struct sites_page){1, 2, 1, 8};
	SITES[0] = (struct sites_site){100, SITES_WAY_HOLE | 120};
	SITES[1] = (struct sites_site){300, 5};
	SITES[2] = (struct sites_site){4094, SITES_WAY_HOLE | 4000};
	memcpy(SITES + 3, "/bin/app", 9);
	block_size = h->size;
	app_size = 8192;
}

static bool lookup(u64 pgoff, const struct sites_page **p, const struct sites_site **s)
{
	dir_read = false;
	sites_forget();
	return sites_lookup(&app_file, pgoff, p, s);
}

static bool accepted(void)
{
	const struct sites_page *p;
	const struct sites_site *s;

	return lookup(1, &p, &s);
}

#define BAD(change, name)                                                                                    \
	do {                                                                                                 \
		good_table();                                                                                \
		change;                                                                                      \
		ok(!accepted(), name);                                                                       \
	} while (0)

static void bad_tables(void)
{
	struct sites_header *h = (void *)block;

	BAD(h->magic++, "magic");
	BAD(h->version++, "version");
	BAD(block_size--, "short file");
	BAD(block_size++, "long file");
	BAD(h->n_files = 0x10000000, "files beyond the end");
	BAD(h->n_sites = 0xffffffff, "sites beyond the end");
	BAD(h->strings_size = 0xfffffff0, "strings beyond the end");
	BAD(FILES->path = 9, "path beyond the strings");
	BAD(block[h->size - 1] = 'x', "strings without an end");
	BAD(FILES->first_page = 1, "file with pages beyond the end");
	BAD(FILES->n_pages = 0xffffffff, "file with too many pages");
	BAD(PAGES[1].first_site = 3, "page with sites beyond the end");
	BAD(PAGES[0].n_sites = 0xffffffff, "page with too many sites");
	BAD(SITES[0].at = 4095, "site across the page's end");
	BAD(SITES[0].way = SITES_WAY_HOLE | 4092, "hole across the page's end");
	BAD(SITES[0].way = SITES_WAY_HOLE | 240, "hole out of reach");
	BAD(SITES[0].way = SITES_WAY_HOLE | 99, "hole over its own site");
	BAD(SITES[1].way = 4, "moved instruction too short");
	BAD(SITES[1].way = 16, "moved instruction too long");
	BAD(SITES[1].at = 3, "moved instruction before the page");
	BAD(app_size = 8193, "file of another size");
}

int main(void)
{
	const struct sites_page *p;
	const struct sites_site *s;

	good_table();
	ok(lookup(0, &p, &s) && p->n_sites == 2 && s[1].way == 5, "first page");
	good_table();
	ok(lookup(1, &p, &s) && p->hash == 8 && s->at == 4094, "second page");
	good_table();
	ok(!lookup(2, &p, &s), "a page that is not listed");
	bad_tables();
	return done();
}
