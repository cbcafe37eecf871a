/* SPDX-License-Identifier: ISC */
/*
 * Reads the tables of system call sites that the layers carry, and finds a
 * page in them. A table may come from anyone: it is checked as a whole when it
 * is read, and one that is wrong anywhere is not used. Tables stay in memory;
 * they have a few bytes for each system call site of the image.
 */
#include "guest/arch/x86_64/sites.h"

#include <asm-generic/errno.h>
#include <linux/fcntl.h>
#include <linux/limits.h>

#include "guest/mm/mm.h"
#include "guest/vfs/vfs.h"

#define MAX_TABLES     16
#define MAX_TABLE_SIZE (8u << 20)

struct table {
	const struct sites_header *h;
	const struct sites_file *files;
	const struct sites_page *pages;
	const struct sites_site *sites;
	const char *strings;
};

static struct table tables[MAX_TABLES];
static unsigned n_tables;
static bool tables_read;

/* --- reading --------------------------------------------------------------- */

static bool range_ok(u32 first, u32 n, u32 total)
{
	return first <= total && n <= total - first;
}

static bool site_ok(const struct sites_site *s)
{
	u32 hole = s->way & ~SITES_WAY_HOLE, reach;

	if (s->at > PAGE_SIZE - 2)
		return false;
	if (!(s->way & SITES_WAY_HOLE))
		return s->way >= 5 && s->way <= 15 && s->way <= s->at;
	reach = hole + 128 - (s->at + 2u); /* 0..255 when `jmp rel8` reaches it */
	return hole <= PAGE_SIZE - 5 && reach < 256 && (hole + 5 <= s->at || hole >= s->at + 2u);
}

/* Set up `t` over a block of `size` bytes; false: it is not a table. */
static bool table_open(struct table *t, const void *block, u64 size)
{
	const struct sites_header *h = block;
	u64 need;

	if (size < sizeof(*h) || h->magic != SITES_MAGIC || h->version != SITES_VERSION || h->size != size)
		return false;
	need = sizeof(*h) + (u64)h->n_files * sizeof(*t->files) + (u64)h->n_pages * sizeof(*t->pages) +
	       (u64)h->n_sites * sizeof(*t->sites) + h->strings_size;
	if (need != size || !h->strings_size)
		return false;
	t->h = h;
	t->files = (const void *)(h + 1);
	t->pages = (const void *)(t->files + h->n_files);
	t->sites = (const void *)(t->pages + h->n_pages);
	t->strings = (const char *)(t->sites + h->n_sites);
	if (t->strings[h->strings_size - 1])
		return false;
	for (u32 i = 0; i < h->n_files; i++)
		if (t->files[i].path >= h->strings_size ||
		    !range_ok(t->files[i].first_page, t->files[i].n_pages, h->n_pages))
			return false;
	for (u32 i = 0; i < h->n_pages; i++)
		if (!range_ok(t->pages[i].first_site, t->pages[i].n_sites, h->n_sites))
			return false;
	for (u32 i = 0; i < h->n_sites; i++)
		if (!site_ok(&t->sites[i]))
			return false;
	return true;
}

static void read_table(const char *path)
{
	int err;
	struct file *f = vfs_open(AT_FDCWD, path, O_RDONLY, 0, &err);
	u64 size = f && f->inode ? inode_size(f->inode) : 0;
	void *block = NULL;

	if (size && size <= MAX_TABLE_SIZE)
		block = kmalloc(size);
	if (block && vfs_pread(f, block, size, 0) == (s64)size &&
	    table_open(&tables[n_tables], block, size)) {
		n_tables++;
	} else {
		log_line(LOG_INFO, "%s: not a table of system call sites", path);
		kfree(block);
	}
	if (f)
		file_put(f);
}

struct dirent64 {
	u64 ino, off;
	u16 reclen;
	u8 type;
	char name[];
};

static void read_tables(void)
{
	const size_t buf_size = 2048;
	u8 *buf = kmalloc(buf_size);
	char path[128];
	int err;
	struct file *dir = vfs_open(AT_FDCWD, SITES_DIR, O_RDONLY | O_DIRECTORY, 0, &err);

	while (dir && buf && dir->ops->getdents) {
		struct iovec iov;
		struct uio u;
		s64 n;

		uio_single(&u, &iov, buf, buf_size, true);
		n = dir->ops->getdents(dir, &u);
		if (n <= 0)
			break;
		for (s64 at = 0; at < n;) {
			const struct dirent64 *d = (const void *)(buf + at);

			at += d->reclen;
			if (strncmp(d->name, SITES_PREFIX, sizeof(SITES_PREFIX) - 1) ||
			    n_tables == MAX_TABLES)
				continue;
			snprintf(path, sizeof(path), "%s/%s", SITES_DIR, d->name);
			read_table(path);
		}
	}
	if (dir)
		file_put(dir);
	kfree(buf);
}

/* --- looking up ----------------------------------------------------------------- */

static const struct sites_file *find_file(const struct table *t, const char *path)
{
	u32 lo = 0, hi = t->h->n_files;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;
		int c = strcmp(t->strings + t->files[mid].path, path);

		if (c == 0)
			return &t->files[mid];
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

static const struct sites_page *find_page(const struct table *t, const struct sites_file *f, u64 pgoff)
{
	u32 lo = f->first_page, hi = f->first_page + f->n_pages;

	while (lo < hi) {
		u32 mid = (lo + hi) / 2;

		if (t->pages[mid].pgoff == pgoff)
			return &t->pages[mid];
		if (t->pages[mid].pgoff < pgoff)
			lo = mid + 1;
		else
			hi = mid;
	}
	return NULL;
}

bool sites_lookup(struct file *f, u64 pgoff, const struct sites_page **page, const struct sites_site **sites)
{
	char *path;
	bool found = false;

	if (!tables_read) {
		tables_read = true;
		read_tables();
	}
	if (!n_tables || !f->inode || !(path = kmalloc(PATH_MAX)))
		return false;
	if (vfs_file_path(f, path, PATH_MAX) > 0) {
		u64 size = inode_size(f->inode);

		/* The uppermost layer that has the file is listed last, but a size and a hash decide anyway. */
		for (unsigned i = 0; i < n_tables && !found; i++) {
			const struct sites_file *sf = find_file(&tables[i], path);

			if (!sf || sf->size != size || !(*page = find_page(&tables[i], sf, pgoff)))
				continue;
			*sites = tables[i].sites + (*page)->first_site;
			found = true;
		}
	}
	kfree(path);
	return found;
}

void sites_forget(void)
{
	while (n_tables)
		kfree((void *)tables[--n_tables].h);
	tables_read = false;
}
