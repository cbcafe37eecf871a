/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/erofs.c */
/*
 * The EROFS reader against trees that mkfs.erofs packed: every name, mode,
 * size, link and byte is compared with the source. Then the same images with
 * random bytes changed: the reader may say anything, but must come to an end and
 * (under ASan) touch nothing outside the image.
 */
#include "lib/erofs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/unit/hosted.h"
#include "tests/unit/tap.h"

static uint64_t rng;
static char dir[64];

static void run(const char *fmt, ...)
{
	char cmd[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd)) {
		printf("Bail out! %s\n", cmd);
		exit(1);
	}
}

static void make_file(const char *path, size_t n)
{
	FILE *f = fopen(path, "w");

	for (size_t i = 0; i < n; i++)
		putc((int)(test_random(&rng) & 0xff), f);
	fclose(f);
}

static void make_tree(void)
{
	static const unsigned sizes[] = {0,    1,    100,  4000,  4095,	  4096,
					 4097, 8191, 8192, 12000, 100000, 1000001};
	char p[200];

	run("mkdir -p %s/t/many %s/t/deep/a/b/c/d %s/t/empty", dir, dir, dir);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		snprintf(p, sizeof(p), "%s/t/deep/a/size%u", dir, sizes[i]);
		make_file(p, sizes[i]);
	}
	for (unsigned i = 0; i < 2500; i++) {
		snprintf(p, sizeof(p), "%s/t/many/%.*s%u", dir, (int)(i % 40),
			 "a-rather-long-prefix-that-varies-in-length", i * 7919);
		make_file(p, 0);
	}
	snprintf(p, sizeof(p), "%s/t/%.255s", dir,
		 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"
		 "nnnnnnnnnnn");
	make_file(p, 5);
	run("cd %s/t && ln -s deep/a/size100 link && ln -s /an/absolute/one deep/abs && chmod 4751 "
	    "deep/a/size1 && "
	    "chmod 1777 empty && mkfifo fifo && ln deep/a/size4097 hard",
	    dir);
	snprintf(p, sizeof(p), "%s/t/link", dir);
	snprintf(p, sizeof(p), "%s/t/deep/a/size4096", dir);
	setxattr(p, "user.one", "value", 5, 0);
	setxattr(p, "user.two", "", 0, 0);
}

/* --- compare with the source -------------------------------------------------------- */

static unsigned long compared, wrong;

static void differ(const char *path, const char *what)
{
	if (wrong++ < 10)
		diag("%s: %s", path, what);
}

static void compare_file(const struct erofs *fs, const struct erofs_inode *ino, const char *path)
{
	uint64_t off = 0, n;
	const void *p;
	int fd = open(path, O_RDONLY);
	char *buf = malloc(ino->size + 1);

	if (read(fd, buf, ino->size + 1) != (ssize_t)ino->size)
		differ(path, "size");
	while ((p = erofs_data(fs, ino, off, &n))) {
		if (n > ino->size - off || memcmp(p, buf + off, n))
			differ(path, "data");
		off += n;
	}
	if (off != ino->size)
		differ(path, "data ends early");
	free(buf);
	close(fd);
}

static void compare_tree(const struct erofs *fs, uint64_t nid, const char *path)
{
	struct erofs_inode ino;
	struct erofs_dirent de;
	struct stat st;
	char sub[600], link[300];
	uint64_t pos = 0, n;
	unsigned names = 0, want = 0;

	compared++;
	if (lstat(path, &st) || erofs_inode(fs, nid, &ino)) {
		differ(path, "no inode");
		return;
	}
	if (ino.mode != st.st_mode || (!S_ISDIR(st.st_mode) && ino.nlink != st.st_nlink) ||
	    ino.uid != st.st_uid)
		differ(path, "attributes");
	if (S_ISREG(st.st_mode)) {
		compare_file(fs, &ino, path);
	} else if (S_ISLNK(st.st_mode)) {
		ssize_t len = readlink(path, link, sizeof(link));
		const void *p = erofs_data(fs, &ino, 0, &n);
		if (!p || (ssize_t)n != len || memcmp(p, link, (size_t)len))
			differ(path, "link");
	}
	if (!S_ISDIR(st.st_mode))
		return;
	DIR *d = opendir(path);
	struct dirent *e;
	while ((e = readdir(d))) {
		want++;
		if (erofs_lookup(fs, &ino, e->d_name, strlen(e->d_name), &de))
			differ(path, e->d_name);
		else if (e->d_type != de.type)
			differ(path, "type");
	}
	closedir(d);
	while (erofs_readdir(fs, &ino, pos, &de) == 1) {
		names++;
		pos = de.next_pos;
		if (de.name[0] == '.')
			continue;
		snprintf(sub, sizeof(sub), "%s/%.*s", path, (int)de.len, de.name);
		compare_tree(fs, de.nid, sub);
	}
	if (names != want)
		differ(path, "count of names");
	if (erofs_lookup(fs, &ino, "zzz-not-there", 13, &de) != -ENOENT ||
	    erofs_lookup(fs, &ino, "!", 1, &de) != -ENOENT)
		differ(path, "a name that is not there");
}

/* --- damaged images ---------------------------------------------------------------------- */

static unsigned budget;
static volatile uint8_t sink;

static void walk(const struct erofs *fs, uint64_t nid, int depth)
{
	struct erofs_inode ino;
	struct erofs_dirent de, found;
	uint64_t pos = 0, n;
	const uint8_t *p;
	char names[300];

	if (!budget || depth > 8 || erofs_inode(fs, nid, &ino))
		return;
	budget--;
	for (uint64_t off = 0; (p = erofs_data(fs, &ino, off, &n)); off += n)
		sink = (uint8_t)(p[0] + p[n - 1]);
	erofs_listxattr(fs, &ino, names, sizeof(names));
	erofs_getxattr(fs, &ino, "user.one", names, sizeof(names));
	if (!S_ISDIR(ino.mode))
		return;
	erofs_lookup(fs, &ino, "many", 4, &found);
	for (int k = 0; k < 3000 && erofs_readdir(fs, &ino, pos, &de) == 1; k++) {
		pos = de.next_pos;
		if (erofs_lookup(fs, &ino, de.name, de.len, &found) == 0)
			sink = (uint8_t)found.name[found.len - 1];
		if (!(de.len <= 2 && de.name[0] == '.'))
			walk(fs, de.nid, depth + 1);
	}
}

static void damage(const uint8_t *image, size_t size)
{
	uint8_t *copy = malloc(size); /* its own block, so that ASan sees the edges */
	struct erofs fs;

	for (int round = 0; round < 300; round++) {
		size_t cut = round % 7 == 6 ? test_random(&rng) % size : size;
		uint8_t *m = cut == size ? copy : malloc(cut + 1);
		memcpy(m, image, cut);
		for (int k = 1 << round % 9; k > 0; k--) {
			/* half of the changes near the start: superblock and first inodes */
			size_t at = test_random(&rng) % (k & 1 ? cut : cut < 8192 ? cut : 8192);
			if (cut)
				m[at] = (uint8_t)test_random(&rng);
		}
		budget = 400;
		if (cut && !erofs_open(&fs, m, cut))
			walk(&fs, fs.root_nid, 0);
		if (m != copy)
			free(m);
	}
	free(copy);
}

static uint8_t *load(const char *path, size_t *size)
{
	struct stat st;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || fstat(fd, &st))
		return NULL;
	uint8_t *p = malloc((size_t)st.st_size);
	*size = (size_t)st.st_size;
	if (read(fd, p, *size) != (ssize_t)*size)
		return NULL;
	close(fd);
	return p;
}

static void test_image(const char *options)
{
	char path[100], tree[100];
	size_t size = 0;
	struct erofs fs;

	snprintf(path, sizeof(path), "%s/i.erofs", dir);
	snprintf(tree, sizeof(tree), "%s/t", dir);
	run("rm -f %s && mkfs.erofs --quiet %s %s %s >/dev/null 2>&1 || mkfs.erofs %s %s %s >/dev/null", path,
	    options, path, tree, options, path, tree);
	uint8_t *image = load(path, &size);
	ok(image && !erofs_open(&fs, image, size), "an image made with \"%s\" opens", options);
	compared = wrong = 0;
	compare_tree(&fs, fs.root_nid, tree);
	ok(!wrong && compared > 2500, "its %lu files are as their source", compared);

	struct erofs_inode root, ino;
	struct erofs_dirent de;
	char v[16];
	int64_t n = -1, names = -1;
	if (!erofs_inode(&fs, fs.root_nid, &root) && !erofs_lookup(&fs, &root, "deep", 4, &de) &&
	    !erofs_inode(&fs, de.nid, &ino) && !erofs_lookup(&fs, &ino, "a", 1, &de) &&
	    !erofs_inode(&fs, de.nid, &ino) && !erofs_lookup(&fs, &ino, "size4096", 8, &de) &&
	    !erofs_inode(&fs, de.nid, &ino)) {
		n = erofs_getxattr(&fs, &ino, "user.one", v, sizeof(v));
		names = erofs_listxattr(&fs, &ino, NULL, 0);
	}
	ok((n == 5 && !memcmp(v, "value", 5) && names >= 18) || strstr(options, "-x-1"),
	   "extended attributes");
	damage(image, size);
	ok(true, "300 damaged copies were survived");
	free(image);
}

int main(void)
{
	if (system("command -v mkfs.erofs >/dev/null 2>&1"))
		skip_all("no mkfs.erofs");
	rng = test_seed();
	diag("COWBELL_TEST_SEED=%llu", (unsigned long long)rng);
	snprintf(dir, sizeof(dir), "/tmp/cowbell-erofs-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	make_tree();
	test_image("-T0");
	test_image("-T0 -Eforce-inode-extended");
	test_image("-x-1 -Eforce-inode-compact");
	struct erofs fs;
	uint8_t none[2048] = {0};
	is(erofs_open(&fs, none, sizeof(none)), -EINVAL, "zeros are no image");
	is(erofs_open(&fs, none, 100), -EINVAL, "too short for an image");
	run("rm -rf %s", dir);
	return done();
}
