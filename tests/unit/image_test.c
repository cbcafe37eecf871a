/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/host/copy.c image/tree.c image/erofs.c image/erofs_meta.c image/erofs_path.c image/overlay.c lib/erofs.c image/elf.c image/dirs.c */
/* unit-libs: -l:libnettle.a */
/*
 * A tree of files is written as an EROFS image and read back: names that sort around "." and "..", directories of many
 * blocks, hard links, links out of the root, contents, and digests that change when and only when they should.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/elf.h"
#include "image/overlay.h"
#include "image/tree.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/image_test.XXXXXX";

static void put(const char *name, const char *text)
{
	int fd = openat(AT_FDCWD, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		diag("%s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void put_size(const char *name, const char *begin, size_t n)
{
	char buf[8192] = "";

	memset(buf, 'x', n);
	memcpy(buf, begin, strlen(begin));
	put(name, buf);
}

static void make_files(void)
{
	char name[64];

	put_size("small-elf", "\177ELF", 200);
	put_size("size3072", "", 3072);
	put_size("size3073", "", 3073);
	put_size("size4096", "", 4096);

	mkdir("a", 0755);
	mkdir("a/b", 0700);
	mkdir("many", 0755);
	put("a/hello", "hello");
	put("a/b/empty", "");
	put("!first", "1");
	put("..x", "2");
	put("-x", "3");
	if (link("a/hello", "a/hard") || symlink("a/hello", "link") || symlink("/a/b", "abs") ||
	    symlink("../..", "a/up") || symlink("loop", "loop") || symlink("/etc/passwd", "out"))
		diag("links: %s", strerror(errno));
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "many/some-file-with-a-longer-name-%d", i);
		put(name, "x");
	}
}

static struct tree *walked(void)
{
	struct walk_limit lim = {1u << 30, 100000, NULL, 0};
	struct tree *t = tree_new(dir);

	if (t && tree_walk(t, t->root, &lim))
		diag("walk failed");
	return t;
}

/* The inode of a node that was written, and its contents as the guest would read them. */
static bool read_back(const struct node *n, int fd, struct erofs_inode *ino, char *buf, size_t size)
{
	struct stat st;
	struct erofs fs;
	uint64_t len = 0;
	void *p = !fstat(fd, &st) ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (p == MAP_FAILED)
		return false;
	bool good = !erofs_open(&fs, p, (uint64_t)st.st_size) &&
		    !erofs_inode(&fs, n->link ? n->link->nid : n->nid, ino);
	const void *data = good ? erofs_data(&fs, ino, 0, &len) : NULL;
	memset(buf, 0, size);
	if (data)
		memcpy(buf, data, len < size ? len : size - 1);
	munmap(p, (size_t)st.st_size);
	return good;
}

static void check_contents(const struct tree *t, int fd, const char *path, const char *want)
{
	char buf[64] = "";
	struct erofs_inode ino;
	struct node *n = tree_find(t, path);

	ok(n && read_back(n, fd, &ino, buf, sizeof(buf)) && ino.size == strlen(want) && !strcmp(buf, want),
	   "contents of %s", path);
}

/* Which files lie behind their inode, and which keep pages of their own. */
static void check_places(const struct tree *t, int fd)
{
	static const struct {
		const char *path;
		bool in_place;
	} v[] = {{"/a/hello", false},
		 {"/small-elf", true},
		 {"/size3072", false},
		 {"/size3073", true},
		 {"/size4096", true}};
	struct erofs_inode ino;
	char buf[8];

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		struct node *n = tree_find(t, v[i].path);
		ok(n && read_back(n, fd, &ino, buf, sizeof(buf)) && (ino.layout == 0) == v[i].in_place &&
			   (ino.layout || (ino.data_off && ino.data_off % 4096 == 0)),
		   "%s %s", v[i].path, v[i].in_place ? "has pages of its own" : "is behind its inode");
	}
}

static void test_image(void)
{
	struct tree *t = walked();
	int fd = memfd_create("image", 0);
	struct overlay im;
	int bad;
	uint64_t bytes = 0;
	char name[64];
	int missing = 0;

	is(erofs_write(t, fd, &bytes), 0, "the image is written");
	is(bytes % 4096, 0, "whole blocks");
	ok(!overlay_open(&im, &fd, 1, &bad), "and can be opened");
	ok(S_ISDIR(overlay_mode(&im, "/a/b")), "a directory");
	is(overlay_mode(&im, "/a/b") & 07777, 0700, "its mode");
	ok(S_ISREG(overlay_mode(&im, "/link")), "a link is followed");
	ok(S_ISREG(overlay_mode(&im, "/abs/empty")), "an absolute link is followed from the root");
	ok(S_ISREG(overlay_mode(&im, "/a/up/a/hello")), ".. beyond the root stays at the root");
	is(overlay_mode(&im, "/loop"), -ELOOP, "a link to itself");
	is(overlay_mode(&im, "/out"), -ENOENT, "a link out of the root leads nowhere");
	is(overlay_mode(&im, "/a/hello/x"), -ENOTDIR, "a file is no directory");
	ok(S_ISREG(overlay_mode(&im, "/!first")) && S_ISREG(overlay_mode(&im, "/-x")) &&
		   S_ISREG(overlay_mode(&im, "/..x")),
	   "names that sort around . and ..");
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "/many/some-file-with-a-longer-name-%d", i);
		missing += !S_ISREG(overlay_mode(&im, name));
	}
	is(missing, 0, "every file of a directory of many blocks");
	is(overlay_mode(&im, "/many/none"), -ENOENT, "and none that is not there");
	check_contents(t, fd, "/a/hello", "hello");
	check_contents(t, fd, "/a/b/empty", "");
	check_places(t, fd);
	struct erofs_inode ino;
	ok(read_back(tree_find(t, "/a/hard"), fd, &ino, name, sizeof(name)) && ino.nlink == 2,
	   "of two names");
	overlay_close(&im);
	ok(!overlay_open(&im, &fd, 1, &bad) && !ftruncate(fd, 4096) &&
		   overlay_mode(&im, "/many/some-file-with-a-longer-name-999") < 0,
	   "a file that was cut after it was opened: not found");
	overlay_close(&im);
	ok(overlay_open(&im, &fd, 1, &bad) != NULL, "nor can it be opened again");
	tree_free(t);
	close(fd);
}

static void test_digest(void)
{
	char one[65], two[65];
	struct tree *t = walked();

	tree_digest(t, one);
	tree_free(t);
	t = walked();
	tree_digest(t, two);
	ok(!strcmp(one, two), "the same files, the same digest");
	tree_free(t);
	put("tmp", "x");
	unlink("tmp");
	t = walked();
	tree_digest(t, two);
	ok(!strcmp(one, two), "a file that came and went does not matter");
	tree_free(t);
	usleep(20000);
	put("a/hello", "HELLO");
	t = walked();
	tree_digest(t, two);
	ok(strcmp(one, two), "other contents, another digest");
	tree_free(t);
}

static void test_changed(void)
{
	struct tree *t = walked();
	int fd = memfd_create("image", 0);
	uint64_t bytes;

	usleep(20000);
	put("a/hello", "changed since");
	is(erofs_write(t, fd, &bytes), -ESTALE, "a file that changed since the walk is noticed");
	tree_free(t);
	close(fd);
}

static void test_tree(void)
{
	struct walk_limit few = {1u << 30, 10, NULL, 0};
	struct tree *t = tree_new(dir), *low = walked();
	struct node *n = tree_add(t, "/abs/empty");
	char path[64];

	ok(n && tree_path(n, path, sizeof(path)) && !strcmp(path, "/a/b/empty"),
	   "a path through a link ends at its real place");
	ok(tree_find(t, "/abs") && S_ISLNK(tree_find(t, "/abs")->mode), "and the link is taken, too");
	ok(!tree_add(t, "/loop") && errno == ELOOP, "a link to itself is refused");
	ok(!tree_add(t, "/out") && errno == ENOENT, "a link does not leave the root");
	ok(!tree_add(t, "/a/hello/x") && errno == ENOTDIR, "a file has no children");
	tree_put_file(t, "/own", 0644, "own", 3);
	tree_subtract(t, low);
	ok(!t->root->child->sibling && !strcmp(t->root->child->name, "own"),
	   "what the lower layer has is taken out");
	tree_free(t);
	t = tree_new(dir);
	is(tree_walk(t, t->root, &few), -E2BIG, "a limit is a limit");
	tree_free(t);
	tree_free(low);
}

static void test_elf(void)
{
	struct elf_info e;
	int fd = open("/proc/self/exe", O_RDONLY), bad = memfd_create("bad", 0);
	bool libc = false;

	ok(!elf_read(fd, &e), "this program is a program");
	for (int i = 0; i < e.n_needed; i++)
		libc |= !strcmp(e.needed[i], "libc.so.6");
	ok(libc && e.interp, "it needs a C library and a dynamic linker");
	elf_free(&e);
	close(fd);
	ok(elf_read(bad, &e) && !strcmp(elf_read(bad, &e), "is empty"), "an empty file");
	if (write(bad, "#!/bin/sh", 9) != 9)
		diag("write");
	ok(strstr(elf_read(bad, &e), "neither"), "a script is no ELF file");
	close(bad);
}

int main(void)
{
	if (!mkdtemp(dir) || chdir(dir))
		return 1;
	make_files();
	test_elf();
	test_tree();
	test_image();
	test_digest();
	test_changed();
	char cmd[64];
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (chdir("/") || system(cmd))
		diag("%s stays", dir);
	return done();
}
