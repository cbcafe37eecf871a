/* SPDX-License-Identifier: ISC */
/*
 * The table of system call sites of one layer (abi/image.h): scans each file
 * that may hold code, either of a tree of host files or of an image that is
 * being written, and makes the table.
 *
 * Scanning runs on a few threads; the results are joined in the order of paths,
 * so the same files give the same bytes. The table's file is named after its
 * contents: equal layers have equal names, and a layer that hides another's
 * table hides what it says itself.
 */
#include "image/sites.h"

#include <errno.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_THREADS   4
#define MIN_CODE_FILE 128u

struct job {
	const struct node *node; /* of the tree, or */
	const struct sites_ref *ref; /* of the image */
	struct job *same; /* another name of a file that is scanned under this one; else itself */
	struct sites_found found;
	uint32_t first_page; /* in the table, once it is there */
};

struct jobs {
	struct tree *tree;
	int image_fd;
	struct job *v;
	size_t n, cap;
	size_t next; /* atomic: the next one to scan */
	bool failed;
};

static void add_job(struct jobs *j, const struct node *n, const struct sites_ref *ref)
{
	if (j->n == j->cap) {
		size_t cap = j->cap ? j->cap * 2 : 1024;
		struct job *v = realloc(j->v, cap * sizeof(*v));

		if (!v) {
			j->failed = true;
			return;
		}
		j->v = v;
		j->cap = cap;
	}
	j->v[j->n++] = (struct job){.node = n, .ref = ref};
}

static void collect_jobs(struct jobs *j, const struct node *dir)
{
	for (const struct node *n = dir->child; n; n = n->sibling) {
		if (S_ISDIR(n->mode))
			collect_jobs(j, n);
		if (S_ISREG(n->mode) && !n->data && n->size >= MIN_CODE_FILE)
			add_job(j, n, NULL);
	}
}

static int scan_one(struct jobs *j, struct job *job)
{
	if (job->same != job)
		return 0;
	if (job->ref)
		return sites_scan_at(j->image_fd, job->ref->off, job->ref->size, &job->found);
	int fd = tree_open(j->tree, job->node);
	if (fd < 0)
		return fd;
	int r = sites_scan(fd, &job->found);
	close(fd);
	return r;
}

static void *scan_jobs(void *arg)
{
	struct jobs *j = arg;
	size_t i;

	while ((i = __atomic_fetch_add(&j->next, 1, __ATOMIC_RELAXED)) < j->n)
		if (scan_one(j, &j->v[i]) == -ENOMEM)
			__atomic_store_n(&j->failed, true, __ATOMIC_RELAXED);
	return NULL;
}

static void scan_all(struct jobs *j)
{
	pthread_t threads[MAX_THREADS];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int n = 0;

	for (long c = 1; c < cpus && n < MAX_THREADS - 1 && j->n > 1; c++)
		if (pthread_create(&threads[n], NULL, scan_jobs, j) == 0)
			n++;
	scan_jobs(j);
	while (n)
		pthread_join(threads[--n], NULL);
}

/* --- the table ------------------------------------------------------------- */

struct table {
	struct sites_header h;
	struct sites_file *files;
	struct sites_page *pages;
	struct sites_site *sites;
	char *strings;
};

struct entry {
	char *path;
	struct job *job;
};

static int compare_path(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

static void fill(struct table *t, const struct entry *e, uint32_t n)
{
	uint32_t page = 0, site = 0, string = 0;

	for (uint32_t i = 0; i < n; i++) {
		const struct sites_found *f = &e[i].job->found;
		size_t len = strlen(e[i].path) + 1;
		bool again = e[i].job->first_page != UINT32_MAX; /* names of one file share its pages */

		if (!again)
			e[i].job->first_page = page;
		t->files[i] = (struct sites_file){.path = string,
						  .first_page = e[i].job->first_page,
						  .n_pages = f->n_pages,
						  .size = f->file_size};
		memcpy(t->strings + string, e[i].path, len);
		string += (uint32_t)len;
		if (again)
			continue;
		for (uint32_t p = 0; p < f->n_pages; p++) {
			t->pages[page] = f->pages[p];
			t->pages[page++].first_site += site;
		}
		memcpy(t->sites + site, f->sites, f->n_sites * sizeof(*f->sites));
		site += f->n_sites;
	}
}

/* One block with all parts in the order of abi/image.h. NULL: no memory. */
static void *make_table(const struct entry *e, uint32_t n, size_t *size)
{
	struct table t = {.h = {.magic = SITES_MAGIC, .version = SITES_VERSION, .n_files = n}};
	uint8_t *block;

	for (uint32_t i = 0; i < n; i++) {
		struct job *j = e[i].job;
		t.h.strings_size += (uint32_t)strlen(e[i].path) + 1;
		if (j->first_page == UINT32_MAX)
			continue; /* counted */
		j->first_page = UINT32_MAX;
		t.h.n_pages += j->found.n_pages;
		t.h.n_sites += j->found.n_sites;
	}
	*size = sizeof(t.h) + n * sizeof(*t.files) + t.h.n_pages * sizeof(*t.pages) +
		t.h.n_sites * sizeof(*t.sites) + t.h.strings_size;
	t.h.size = (uint32_t)*size;
	block = malloc(*size);
	if (!block)
		return NULL;
	memcpy(block, &t.h, sizeof(t.h));
	t.files = (struct sites_file *)(block + sizeof(t.h));
	t.pages = (struct sites_page *)(t.files + n);
	t.sites = (struct sites_site *)(t.pages + t.h.n_pages);
	t.strings = (char *)(t.sites + t.h.n_sites);
	fill(&t, e, n);
	return block;
}

static bool job_path(const struct job *job, char *buf, size_t size)
{
	if (job->node)
		return tree_path(job->node, buf, size);
	return snprintf(buf, size, "%s", job->ref->path) < (int)size;
}

/* The table of all that was found; *block NULL if that is nothing. */
static int join(struct jobs *j, void **block, size_t *size)
{
	char path[PATH_MAX];
	struct entry *e = calloc(j->n ? j->n : 1, sizeof(*e));
	uint32_t n = 0;
	int r = e ? 0 : -ENOMEM;

	*block = NULL;
	*size = 0;
	for (size_t i = 0; !r && i < j->n; i++) {
		if (!j->v[i].same->found.n_sites || !job_path(&j->v[i], path, sizeof(path)))
			continue;
		e[n] = (struct entry){strdup(path), j->v[i].same};
		if (!e[n++].path)
			r = -ENOMEM;
	}
	if (!r && n) {
		qsort(e, n, sizeof(*e), compare_path);
		*block = make_table(e, n, size);
		r = *block ? 0 : -ENOMEM;
	}
	for (uint32_t i = 0; i < n; i++)
		free(e[i].path);
	free(e);
	return r;
}

static int by_offset(const void *a, const void *b)
{
	const struct job *x = *(struct job *const *)a, *y = *(struct job *const *)b;

	if (x->ref->off != y->ref->off)
		return x->ref->off < y->ref->off ? -1 : 1;
	return x < y ? -1 : x > y;
}

/* A file of many names (hard links) is scanned once. */
static void join_names(struct jobs *j)
{
	struct job **v = j->n && j->v[0].ref ? calloc(j->n, sizeof(*v)) : NULL;

	for (size_t i = 0; i < j->n; i++)
		j->v[i].same = &j->v[i];
	if (!v)
		return;
	for (size_t i = 0; i < j->n; i++)
		v[i] = &j->v[i];
	qsort(v, j->n, sizeof(struct job *), by_offset);
	for (size_t i = 1; i < j->n; i++)
		if (v[i]->ref->off == v[i - 1]->ref->off)
			v[i]->same = v[i - 1]->same;
	free(v);
}

/* Scan, make the table, and give the jobs back. */
static int run(struct jobs *j, void **block, size_t *size)
{
	*block = NULL;
	join_names(j);
	if (!j->failed)
		scan_all(j);
	int r = j->failed ? -ENOMEM : join(j, block, size);
	for (size_t i = 0; i < j->n; i++)
		sites_found_free(&j->v[i].found);
	free(j->v);
	return r;
}

static void name_table(const void *block, size_t size, char name[SITES_NAME])
{
	struct sha256_ctx s;
	uint8_t sum[8];

	sha256_init(&s);
	sha256_update(&s, size, block);
	sha256_digest(&s, sizeof(sum), sum);
	strcpy(name, SITES_PREFIX);
	for (size_t i = 0; i < sizeof(sum); i++)
		sprintf(name + strlen(SITES_PREFIX) + 2 * i, "%02x", sum[i]);
}

int sites_of_image(int fd, const struct sites_ref *v, size_t n, void **block, size_t *size,
		   char name[SITES_NAME])
{
	struct jobs j = {.image_fd = fd};

	for (size_t i = 0; i < n; i++)
		add_job(&j, NULL, &v[i]);
	int r = run(&j, block, size);
	if (*block)
		name_table(*block, *size, name);
	return r;
}

int sites_add_to_tree(struct tree *t)
{
	struct jobs j = {.tree = t};
	char path[sizeof(SITES_DIR) + SITES_NAME];
	void *block;
	size_t size;

	collect_jobs(&j, t->root);
	int r = run(&j, &block, &size);
	if (block) {
		strcpy(path, SITES_DIR "/");
		name_table(block, size, path + sizeof(SITES_DIR));
		if (!tree_put_dir(t, SITES_DIR, 0755) || !tree_put_file(t, path, 0444, block, size))
			r = -ENOMEM;
	}
	free(block);
	return r;
}
