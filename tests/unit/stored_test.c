/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/host/copy.c image/overlay.c image/erofs_path.c image/user.c image/toplayer.c image/prefix.c image/preload.c image/tree.c image/erofs.c image/erofs_meta.c lib/erofs.c lib/host/say.c lib/host/strings.c image/dirs.c */
/* unit-libs: -l:libnettle.a -l:libmd.a */
/*
 * What the host sees in a stack of layers: whiteouts, opaque directories, links from one layer into another, directories that are
 * missing; accounts in files that make no sense; and the layer that is put on top.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/toplayer.h"
#include "image/tree.h"
#include "image/user.h"
#include "tests/unit/tap.h"

static struct image_set set;
static struct overlay o;

static void file(struct tree *t, const char *path, const char *text)
{
	tree_put_file(t, path, 0644, text, strlen(text));
}

static void owned(struct tree *t, const char *path, uint32_t mode, uint32_t id)
{
	struct node *n = tree_put_dir(t, path, mode);

	n->uid = n->gid = id;
}

/* Take the tree as the next layer. */
static void layer(struct tree *t)
{
	int fd = memfd_create("layer", 0);
	uint64_t bytes = 0;

	tree_sort(t);
	if (erofs_write(t, fd, &bytes))
		diag("a layer cannot be written");
	set.fd[set.n] = fd;
	set.size[set.n++] = bytes;
	tree_free(t);
}

static void reopen(void)
{
	int bad;

	overlay_close(&o);
	ok(!overlay_open(&o, set.fd, set.n, &bad), "%d layers", set.n);
}

static void make_layers(void)
{
	struct tree *t = tree_new("/");

	file(t, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nlow:x:5:5::/:/bin/sh\n");
	file(t, "/etc/group", "root:x:0:\n");
	file(t, "/a/one", "1");
	file(t, "/a/two", "2");
	file(t, "/hidden/deep/x", "x");
	file(t, "/opaque/x", "x");
	file(t, "/was-dir/x", "x");
	file(t, "/now-dir", "x");
	tree_put_link(t, "/to-two", "a/two");
	tree_put_link(t, "/to-late", "/late/../late/file");
	tree_put_link(t, "/circle", "circle");
	tree_put_link(t, "/up", "../../..");
	owned(t, "/own", 0751, 33);
	layer(t);
	t = tree_new("/");
	file(t, "/a/.wh.two", "");
	file(t, "/.wh.hidden", "");
	file(t, "/opaque/.wh..wh..opq", "");
	file(t, "/opaque/y", "y");
	file(t, "/was-dir", "a file");
	file(t, "/now-dir/x", "x");
	file(t, "/late/file", "late");
	file(t, "/etc/passwd",
	     "root:x:0:0::/root:/bin/sh\n\nnonsense\n::::::\nneg:x:-1:0::/:\nhuge:x:4294967296:1::/"
	     ":\nmax:x:4294967295:1::/:\n"
	     "app:x:1000:1000:App:/home/app:/bin/sh\nrel:x:9:9::home/rel:/bin/sh\nshort:x:7\nlast:x:8:8::/"
	     "last");
	file(t, "/etc/group",
	     "app:x:1000:\nten:x:10:app\neleven:x:11:other,app,more\nno:x:12:apple,snapp\nbad:x:x:app\napp2:"
	     "x:1000:app\n");
	layer(t);
	t = tree_new("/");
	file(t, "/hidden/new", "new");
	tree_put_link(t, "/var/run", "/run");
	tree_put_dir(t, "/run", 0700);
	layer(t);
	reopen();
}

static bool text_is(const char *path, const char *want)
{
	struct overlay_file f;
	char buf[4096];

	if (overlay_lookup(&o, path, &f))
		return false;
	int64_t n = overlay_read(&o, &f, buf, sizeof(buf), 0);
	return n == (int64_t)strlen(want) && !memcmp(buf, want, (size_t)n);
}

static void test_paths(void)
{
	ok(text_is("/a/one", "1"), "a file of the lowest layer");
	is(overlay_mode(&o, "/a/two"), -ENOENT, "a whiteout");
	is(overlay_mode(&o, "/to-two"), -ENOENT, "a link to it");
	is(overlay_mode(&o, "/a/.wh.two"), -ENOENT, "the whiteout itself cannot be seen");
	is(overlay_mode(&o, "/hidden/deep/x"), -ENOENT,
	   "below a directory that was taken away and made again");
	ok(text_is("/hidden/new", "new"), "what is new in it");
	is(overlay_mode(&o, "/opaque/x"), -ENOENT, "below an opaque directory");
	ok(text_is("/opaque/y", "y"), "and in it");
	ok(text_is("/was-dir", "a file"), "a file over a directory");
	is(overlay_mode(&o, "/was-dir/x"), -ENOTDIR, "which is none any more");
	ok(text_is("/now-dir/x", "x"), "a directory over a file");
	ok(text_is("/to-late", "late"), "a link of a lower layer to a file of a higher one");
	is(overlay_mode(&o, "/circle"), -ELOOP, "a link to itself");
	ok(text_is("/up/late/file", "late"), "a link beyond the root");
	ok(S_ISDIR(overlay_mode(&o, "/")), "the root");
}

static char seen[4096];

static void each(void *arg, const char *dir, const struct erofs_inode *i)
{
	(void)arg;
	strcat(strcat(seen, dir), i ? " " : "? ");
}

static void dirs(const char *path, int err, const char *want)
{
	seen[0] = 0;
	int r = overlay_dirs(&o, path, each, NULL);
	if (!ok(r == err && !strcmp(seen, want), "directories of %s", path))
		diag("%d: %s", r, seen);
}

static void test_dirs(void)
{
	dirs("/var/run/x/y", 0, "/run /run/x? /run/x/y? ");
	dirs("/a", 0, "/a ");
	dirs("new/../other/./deep//", 0, "/other? /other/deep? ");
	dirs("/a/one", -ENOTDIR, "");
	dirs("/a/one/x", -ENOTDIR, "");
	dirs("/circle/x", -ELOOP, "");
	dirs("/", 0, "");
}

static void user(const char *word, int status, uint32_t uid, uint32_t gid, int groups, const char *home)
{
	struct image_user u;
	int r = user_lookup(&o, word, "-u", &u);

	if (!ok(r == status && (r || (u.uid == uid && u.gid == gid && u.n_groups == groups &&
				      !strcmp(u.home, home))),
		"user \"%s\"", word))
		diag("%d: %u:%u %d groups, %s", r, u.uid, u.gid, u.n_groups, u.home);
}

static void test_users(void)
{
	user("", 0, 0, 0, 1, "/root");
	user("root", 0, 0, 0, 1, "/root");
	user("low", 125, 0, 0, 0, "");
	user("app", 0, 1000, 1000, 3, "/home/app");
	user("1000", 0, 1000, 1000, 3, "/home/app");
	user("app:ten", 0, 1000, 10, 1, "/home/app");
	user("app:77", 0, 1000, 77, 1, "/home/app");
	user("app:none", 125, 0, 0, 0, "");
	user("31:ten", 0, 31, 10, 1, "");
	user("rel", 0, 9, 9, 1, "");
	user("last", 0, 8, 8, 1, "/last");
	user("neg", 125, 0, 0, 0, "");
	user("huge", 125, 0, 0, 0, "");
	user("max", 125, 0, 0, 0, "");
	user("short", 125, 0, 0, 0, "");
	user("4294967295", 125, 0, 0, 0, "");
	user("99999999999", 125, 0, 0, 0, "");
	user("-1", 125, 0, 0, 0, "");
	user(":ten", 0, 0, 10, 1, "/root");
}

static void test_top(void)
{
	char *volumes[] = {(char *)"/data/x",
			   (char *)"/own",
			   (char *)"/a/one",
			   (char *)"/etc/hosts",
			   (char *)"/etc/hostname/x/y",
			   (char *)"/../..",
			   NULL};
	struct toplayer top = {
		.hostname = "host", .workdir = "/var/run/w", .volumes = volumes, .uid = 5, .gid = 6};
	struct overlay_file f;

	is(toplayer_add(&set, &o, &top), 0, "a layer on top");
	reopen();
	ok(text_is("/etc/hostname", "host\n"), "/etc/hostname");
	ok(!overlay_lookup(&o, "/run/w", &f) && f.i.mode == (S_IFDIR | 0755) && !f.i.uid,
	   "the working directory, through a link");
	is(overlay_mode(&o, "/run") & 07777, 0700, "what it lies in keeps its mode");
	ok(!overlay_lookup(&o, "/data/x", &f) && f.i.uid == 5 && f.i.gid == 6,
	   "a volume belongs to the user");
	ok(!overlay_lookup(&o, "/own", &f) && f.i.uid == 33 && (f.i.mode & 07777) == 0751,
	   "one that was there stays as it was");
	ok(text_is("/a/one", "1"), "and what is no directory stays, too");
	ok(text_is("/hidden/new", "new"), "the rest is as before");
	is(overlay_mode(&o, "/hidden/deep/x"), -ENOENT, "and what was hidden stays hidden");
}

int main(void)
{
	make_layers();
	test_paths();
	test_dirs();
	test_users();
	test_top();
	return done();
}
