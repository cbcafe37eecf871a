/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/host/copy.c lib/host/say.c image/layer.c image/tree.c image/erofs.c image/erofs_meta.c image/erofs_stream.c image/sites.c image/sites_scan.c image/erofs_path.c image/oci/layer_tree.c lib/erofs.c image/dirs.c */
/* unit-libs: -l:libnettle.a -lpthread */
/*
 * Layers of directories: equal contents give equal bytes, nothing is followed out of the directory, what changes meanwhile is
 * noticed. The EROFS writer for streams, and the rules by which container layers become one tree.
 */
#include <errno.h>
#include <fcntl.h>
#include <nettle/sha2.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "image/erofs_path.h"
#include "image/erofs_stream.h"
#include "image/layer.h"
#include "image/oci/layer_tree.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/layer_test.XXXXXX";

/* --- a store of one blob ----------------------------------------------------------- */

struct blob {
	int fd;
};
static struct blob only;

struct blob *blob_new(struct store *s)
{
	only.fd = memfd_create("blob", 0);
	return &only;
}

int blob_fd(struct blob *b)
{
	return b->fd;
}

static void digest(int fd, char hex[65])
{
	struct stat st;
	struct sha256_ctx c;
	uint8_t sum[32];

	fstat(fd, &st);
	void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	sha256_init(&c);
	sha256_update(&c, (size_t)st.st_size, p);
	sha256_digest(&c, sizeof(sum), sum);
	for (int i = 0; i < 32; i++)
		sprintf(hex + 2 * i, "%02x", sum[i]);
	munmap(p, (size_t)st.st_size);
}

int blob_commit(struct blob *b, const char *expect, char hex[65], uint64_t *size)
{
	struct stat st;

	digest(b->fd, hex);
	fstat(b->fd, &st);
	*size = (uint64_t)st.st_size;
	return 0;
}

void blob_abort(struct blob *b)
{
	close(b->fd);
}

/* --- directories ----------------------------------------------------------------------- */

static void put(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		diag("%s: %s", name, strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void path(char out[300], const char *top, const char *name)
{
	snprintf(out, 300, "%s/%s", top, name);
}

static void make_app(const char *top, bool other_way)
{
	char p[300], q[300];
	struct timeval old[2] = {{1000000, 0}, {1000000, 0}};

	mkdir(top, other_way ? 0700 : 0777);
	path(p, top, other_way ? "Procfile" : "app.py");
	put(p, other_way ? "web: python3 app.py\n" : "print('hello')\n");
	path(p, top, other_way ? "app.py" : "Procfile");
	put(p, other_way ? "print('hello')\n" : "web: python3 app.py\n");
	path(p, top, "requirements.txt");
	put(p, "");
	chmod(p, other_way ? 0600 : 0664);
	if (other_way)
		utimes(p, old);
	path(p, top, "run.sh");
	put(p, "#!/bin/sh\n");
	chmod(p, other_way ? 0700 : 04775);
	path(q, top, "hard");
	path(p, top, "app.py");
	if (link(p, q))
		diag("link");
	path(q, top, "out");
	if (symlink("/etc/passwd", q))
		diag("symlink");
	path(q, top, "sock");
	int s = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	snprintf(a.sun_path, sizeof(a.sun_path), "%.100s", q);
	if (bind(s, (struct sockaddr *)&a, sizeof(a)))
		diag("bind");
	close(s);
}

static const struct walk_limit wide = {1u << 30, 10000, NULL, 0};

/* Layer of a directory; the image stays open in `only`. */
static int make_layer(const char *top, char hex[65], uint64_t *size)
{
	int err;
	struct tree *t = tree_from_dir(top, "/app", NULL, NULL, &wide, &err);

	if (!t)
		return err;
	int r = layer_from_tree(NULL, t, hex, size);
	tree_free(t);
	return r;
}

static bool look(int fd, const char *name, struct erofs_inode *ino, char *buf, size_t size)
{
	struct erofs_image im;
	struct erofs_dirent de;
	struct stat st;
	uint64_t n = 0;
	bool good = false;

	fstat(fd, &st);
	if (erofs_image_open(&im, fd))
		return false;
	uint8_t *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	struct erofs fs = im.fs;
	fs.base = p;
	good = !erofs_inode(&fs, fs.root_nid, ino);
	for (const char *s = name; good && *(s += strspn(s, "/"));) {
		size_t len = strcspn(s, "/");
		good = !erofs_lookup(&fs, ino, s, len, &de) && !erofs_inode(&fs, de.nid, ino);
		s += len;
	}
	memset(buf, 0, size);
	const void *data = good ? erofs_data(&fs, ino, 0, &n) : NULL;
	if (data)
		memcpy(buf, data, n < size ? n : size - 1);
	munmap(p, (size_t)st.st_size);
	erofs_image_close(&im);
	return good;
}

static void test_same(void)
{
	char one[65], two[65], buf[64], p[300];
	uint64_t size = 0;
	struct erofs_inode ino, hard;

	make_app("one", false);
	make_app("two", true);
	is(make_layer("one", one, &size), 0, "a layer of a directory");
	is(size, 4096, "a small app is one block");
	ok(look(only.fd, "/app/app.py", &ino, buf, sizeof(buf)) && !strcmp(buf, "print('hello')\n"),
	   "its contents are at the prefix");
	ok(look(only.fd, "/app/hard", &hard, buf, sizeof(buf)) && hard.nid == ino.nid && ino.nlink == 2,
	   "hard links are one file");
	ok(ino.mode == (S_IFREG | 0644) && !ino.uid && ino.mtime == LAYER_MTIME,
	   "owner, mode and time are nobody's");
	ok(look(only.fd, "/app/run.sh", &ino, buf, sizeof(buf)) && ino.mode == (S_IFREG | 0755),
	   "what can be executed stays so, without setuid");
	ok(look(only.fd, "/app/out", &ino, buf, sizeof(buf)) && S_ISLNK(ino.mode) &&
		   !strcmp(buf, "/etc/passwd"),
	   "a link is a link");
	ok(!look(only.fd, "/app/sock", &ino, buf, sizeof(buf)), "a socket is left out");
	close(only.fd);
	is(make_layer("two", two, &size), 0, "another directory with the same contents");
	ok(!strcmp(one, two), "gives the same bytes");
	close(only.fd);
	path(p, "two", "app.py");
	put(p, "print('hellO')\n");
	ok(!make_layer("two", two, &size) && strcmp(one, two), "other contents give others");
	close(only.fd);
}

static bool not_git(void *arg, const char *rel, bool is_dir)
{
	(void)arg;
	return is_dir ? !strcmp(rel, "a/.git") : !strcmp(rel, "a/x.log");
}

static void test_walk(void)
{
	struct walk_limit few = {1u << 30, 3, NULL, 0}, small = {100, 10000, NULL, 0};
	int err;

	mkdir("w", 0755);
	mkdir("w/a", 0755);
	mkdir("w/a/.git", 0755);
	put("w/a/.git/config", "x");
	put("w/a/x.log", "x");
	put("w/a/y.log", "x");
	struct tree *t = tree_from_dir("w", "/app", not_git, NULL, &wide, &err);
	ok(t && !tree_find(t, "/app/a/.git") && !tree_find(t, "/app/a/x.log") && tree_find(t, "/app/a/y.log"),
	   "the caller's rules leave out files and directories");
	tree_free(t);
	ok(!tree_from_dir("w", "/app", NULL, NULL, &few, &err) && err == -E2BIG, "a limit of files");
	put("w/large", "0123456789012345678901234567890123456789012345678901234567890123456789"
		       "0123456789012345678901234567890123456789");
	ok(!tree_from_dir("w", "/app", NULL, NULL, &small, &err) && err == -E2BIG, "a limit of bytes");
	ok(!tree_from_dir("nowhere", "/app", NULL, NULL, &wide, &err) && err == -ENOENT, "no such directory");
	mkdir("w/closed", 0);
	if (getuid())
		ok(!tree_from_dir("w", "/app", NULL, NULL, &wide, &err) && err == -EACCES,
		   "what may not be read is an error");
	rmdir("w/closed");
}

/* Between the walk and the copy somebody changes what is there. */
static void test_races(void)
{
	char hex[65];
	uint64_t size;
	int err;

	mkdir("r", 0755);
	mkdir("r/d", 0755);
	mkdir("elsewhere", 0755);
	put("r/d/file", "mine");
	put("elsewhere/file", "secret");
	struct tree *t = tree_from_dir("r", "/app", NULL, NULL, &wide, &err);
	if (rename("r/d", "r/old") || symlink("../elsewhere", "r/d"))
		diag("rename");
	is(layer_from_tree(NULL, t, hex, &size), -ESTALE,
	   "a directory that became a link out is not followed");
	tree_free(t);
	unlink("r/d");
	t = tree_from_dir("r", "/app", NULL, NULL, &wide, &err);
	if (rename("r/old/file", "r/old/x") || symlink("/etc/passwd", "r/old/file"))
		diag("rename");
	is(layer_from_tree(NULL, t, hex, &size), -ESTALE, "nor is a file that became a link");
	tree_free(t);
	t = tree_from_dir("r", "/app", NULL, NULL, &wide, &err);
	usleep(20000);
	put("r/old/x", "MINE");
	is(layer_from_tree(NULL, t, hex, &size), -ESTALE, "a file that changed is noticed");
	tree_free(t);
	t = tree_from_dir("r", "/app", NULL, NULL, &wide, &err);
	unlink("r/old/x");
	is(layer_from_tree(NULL, t, hex, &size), -ESTALE, "and one that is gone");
	tree_free(t);
}

/* --- streams ----------------------------------------------------------------------------------- */

static struct node *stream_file(struct erofs_stream *s, struct tree *t, const char *name, uint64_t size)
{
	struct node *n = tree_put_file(t, name, 0644, "", 0);

	n->size = size;
	ok(!erofs_stream_begin(s, n), "%s begins", name);
	return n;
}

static void test_stream(void)
{
	struct tree *t = tree_new("/");
	int fd = memfd_create("image", 0);
	struct erofs_stream *s = erofs_stream_new(t, fd);
	static char big[3 << 20], buf[3 << 20];
	struct erofs_inode ino;
	bool good = true;

	memset(big, 'b', sizeof(big));
	stream_file(s, t, "/small", 5);
	good &= !erofs_stream_write(s, 0, "sm", 2) && !erofs_stream_write(s, 2, "all", 3) &&
		!erofs_stream_end(s);
	stream_file(s, t, "/d/big", sizeof(big));
	good &= !erofs_stream_write(s, 0, big, 100) && !erofs_stream_write(s, 100, big, sizeof(big) - 100) &&
		!erofs_stream_end(s);
	stream_file(s, t, "/hole", 2000000);
	good &= !erofs_stream_write(s, 1999999, "x", 1) && !erofs_stream_end(s);
	struct node *elf = stream_file(s, t, "/elf", 200);
	good &= !erofs_stream_write(s, 0, "\177EL", 3) && !erofs_stream_write(s, 3, "F", 1) &&
		!erofs_stream_end(s);
	stream_file(s, t, "/bad", 10);
	is(erofs_stream_write(s, 8, "xyz", 3), -EINVAL, "bytes behind the end of a file are refused");
	is(erofs_stream_write(s, UINT64_MAX, "x", 1), -EINVAL, "wherever they claim to be");
	is(erofs_stream_write(s, 5, "x", 1), 0, "a gap is zeros");
	is(erofs_stream_write(s, 3, "x", 1), -EINVAL, "there is no way back");
	good &= !erofs_stream_end(s);
	stream_file(s, t, "/empty", 0);
	good &= !erofs_stream_end(s);
	for (int i = 0; i < 2000; i++) {
		char name[64];
		snprintf(name, sizeof(name), "/many/a-file-of-many-with-a-name-%d", i);
		struct node *n = tree_put_file(t, name, 0600, "", 0);
		n->size = 1;
		good &= !erofs_stream_begin(s, n) && !erofs_stream_write(s, 0, "1", 1) &&
			!erofs_stream_end(s);
	}
	ok(good && elf->visited && !elf->content, "contents are taken; an ELF file is noticed");
	struct node *lost = stream_file(s, t, "/lost", sizeof(big));
	good = !erofs_stream_write(s, 0, big, sizeof(big)) && !erofs_stream_end(s);
	off_t lost_at = (off_t)lost->block * 4096;
	stream_file(s, t, "/none", 0);
	good &= !erofs_stream_end(s);
	stream_file(s, t, "/last", 5000);
	good &= !erofs_stream_write(s, 4999, "x", 1) && !erofs_stream_end(s);
	lost->mode = S_IFLNK | 0777;
	lost->data = "replaced";
	struct stat before, after;
	ok(good && !erofs_stream_flush(s) && pread(fd, buf, 1, lost_at) == 1 && buf[0] == 'b' &&
		   !fstat(fd, &before),
	   "contents of a file that is replaced later");
	is(erofs_stream_drop_unused(s), 0, "are taken back");
	ok(pread(fd, buf, 1, lost_at) == 1 && !buf[0] && !fstat(fd, &after) &&
		   before.st_size == after.st_size &&
		   before.st_blocks - after.st_blocks >= (blkcnt_t)sizeof(big) / 512,
	   "and leave a hole");
	is(erofs_stream_finish(s), 0, "the image is finished");
	ok(look(fd, "/last", &ino, buf, sizeof(buf)) && buf[4999] == 'x', "the file behind it");
	ok(look(fd, "/small", &ino, buf, 64) && !strcmp(buf, "small") && ino.layout == 2,
	   "a small file, inline");
	ok(look(fd, "/d/big", &ino, buf, sizeof(buf)) && ino.size == sizeof(big) &&
		   !memcmp(buf, big, sizeof(big) - 1) && ino.data_off % 4096 == 0,
	   "a large one, from a page on");
	ok(look(fd, "/hole", &ino, buf, sizeof(buf)) && !buf[0] && !buf[1999998] && buf[1999999] == 'x',
	   "one with a hole");
	ok(look(fd, "/elf", &ino, buf, 64) && ino.layout == 0 && !memcmp(buf, "\177ELF", 5),
	   "an ELF file has its page");
	ok(look(fd, "/bad", &ino, buf, 64) && !memcmp(buf, "\0\0\0\0\0x\0\0\0\0", 10), "the gap");
	ok(look(fd, "/empty", &ino, buf, 64) && !ino.size, "an empty one");
	ok(look(fd, "/many/a-file-of-many-with-a-name-1999", &ino, buf, 64) && !strcmp(buf, "1"),
	   "one of many");
	erofs_stream_free(s);
	tree_free(t);
	close(fd);
}

/* --- names and rules ------------------------------------------------------------------------------ */

static void test_names(void)
{
	static const struct {
		const char *raw, *clean; /* NULL: refused */
	} v[] = {{"a", "a"},	   {"./a/b/", "a/b"}, {"./", ""},
		 {".", ""},	   {"/", ""},	      {"a//b/./c", "a/b/c"},
		 {"", NULL},	   {NULL, NULL},      {"/a", NULL},
		 {"..", NULL},	   {"a/..", NULL},    {"../a", NULL},
		 {"a/../b", NULL}, {"...", "..."},    {"..a/b..", "..a/b.."}};
	char out[PATH_MAX];

	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++) {
		const char *why = layer_clean_name(v[i].raw, out);
		ok(!why == !!v[i].clean && (why || !strcmp(out, v[i].clean)), "the name \"%s\"",
		   v[i].raw ? v[i].raw : "");
	}
}

static struct layering merging;

static const char *file(const char *name)
{
	struct node *n;

	return layer_place(&merging, name, S_IFREG | 0644, &n);
}

static bool there(const char *name)
{
	struct node *n = tree_find(merging.t, name);

	return n && !n->gone;
}

static void test_rules(void)
{
	uint64_t entries = 1000;
	struct node *n;

	merging = (struct layering){tree_new("/"), 3, 0, &entries};
	file("a/x");
	file("a/y");
	file("f");
	file("d/x/y");
	layer_place(&merging, "l", S_IFLNK | 0777, &n);
	ok(!layer_place_link(&merging, "g", "f"), "a hard link");
	ok(file("l/x") && strstr(file("l/x"), "symbolic"), "nothing through a link of the same layer");
	ok(layer_place_link(&merging, "h", "l/x") && layer_place_link(&merging, "h", "d"),
	   "nor a hard link, nor to a directory");
	ok(file("f") && strstr(file("f"), "twice"), "no file twice");
	merging.k = 1;
	ok(!file("f"), "but again in the next layer");
	ok(tree_find(merging.t, "/g")->link && !tree_find(merging.t, "/f")->link,
	   "which leaves the hard link's other name alone");
	ok(!file("l/x"), "a lower layer's link makes way for a directory");
	file("a/.wh.x");
	ok(!there("/a/x") && there("/a/y"), "a whiteout");
	file("d/new");
	file("d/.wh..wh..opq");
	ok(!there("/d/x") && there("/d/new"), "an opaque directory keeps what its own layer brought");
	merging.k = 2;
	file("a/x");
	ok(there("/a/x"), "a name that was taken away comes back");
	file(".wh.a");
	ok(there("/a/x") && !there("/a/y"), "a whiteout spares its own layer");
	ok(file(".wh.a") != NULL, "no whiteout twice");
	layer_settle(&merging);
	ok(!tree_find(merging.t, "/")->gone && tree_find(merging.t, "/")->n_children == 5,
	   "whiteouts themselves are gone: a d f g l");
	tree_free(merging.t);
}

int main(void)
{
	if (!mkdtemp(dir) || chdir(dir))
		return 1;
	test_same();
	test_walk();
	test_races();
	test_stream();
	test_names();
	test_rules();
	char cmd[64];
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (chdir("/") || system(cmd))
		diag("%s stays", dir);
	return done();
}
