/* SPDX-License-Identifier: ISC */
/* unit-sources: image/store/store.c image/store/blob.c image/store/refs.c image/store/memo.c image/store/pending.c lib/host/say.c lib/host/strings.c image/dirs.c */
/* unit-libs: -l:libnettle.a -Wl,--wrap=openat */
/*
 * The store in a directory of its own: blobs that are what their names say, damage that is found and mended, names and
 * memos that come back as they were, locks between processes, and trees of any shape that are removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "image/store/inside.h"
#include "tests/unit/tap.h"

#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" /* sha256sum of "hello" */
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/* A file system that knows no files without a name. */
static bool no_tmpfile;
int __real_openat(int at_fd, const char *path, int flags, ...);

int __wrap_openat(int at_fd, const char *path, int flags, unsigned mode)
{
	if (no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return __real_openat(at_fd, path, flags, mode);
}

static char dir[] = "/tmp/store_test.XXXXXX";
static struct store *s;

static char *at(const char *fmt, const char *x)
{
	static char path[4300];
	int n = snprintf(path, sizeof(path), "%s/", store_dir(s));

	snprintf(path + n, sizeof(path) - (size_t)n, fmt, x);
	return path;
}

static bool there(const char *path)
{
	struct stat st;

	return !lstat(path, &st);
}

static unsigned entries(const char *path)
{
	char cmd[4400];
	unsigned n = 0;

	snprintf(cmd, sizeof(cmd), "ls -A '%s' | wc -l", path);
	FILE *f = popen(cmd, "r");
	if (!f || fscanf(f, "%u", &n) != 1)
		n = 9999;
	if (f)
		pclose(f);
	return n;
}

static void overwrite(const char *path, const char *text)
{
	chmod(path, 0600);
	int fd = open(path, O_WRONLY | O_TRUNC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		diag("%s: %s", path, strerror(errno));
	close(fd);
}

static void test_digests(void)
{
	char hex[65], back[65] = "", packed[DIGEST_PACKED + 1] = "";
	bool good = true;

	sha256_hex("hello", 5, hex);
	ok(!strcmp(hex, HELLO), "sha256 of hello");
	sha256_hex("", 0, hex);
	ok(!strcmp(hex, EMPTY), "sha256 of nothing");
	ok(is_digest(HELLO) && !is_digest("") && !is_digest(HELLO "0") && !is_digest(&HELLO[1]),
	   "what a digest is");
	memcpy(hex, HELLO, 65);
	hex[3] = 'A';
	ok(!is_digest(hex), "capitals are none");
	for (int i = 0; i < 1000; i++) {
		sha256_hex(&i, sizeof(i), hex);
		digest_pack(hex, packed);
		good = good && strlen(packed) == DIGEST_PACKED && digest_unpack(packed, back) &&
		       !strcmp(hex, back);
	}
	ok(good, "digests survive being packed");
	packed[42]++; /* the last character has two bits too many */
	ok(!digest_unpack(packed, back) || !strcmp(hex, back) == 0,
	   "another spelling is not the same digest");
	ok(!digest_unpack("short", back) &&
		   !digest_unpack("///////////////////////////////////////////", back),
	   "what is not packed does not unpack");
}

static void test_blobs(void)
{
	char hex[65], *data;
	uint64_t size = 0;
	struct stat st;
	size_t n;

	is(store_put(s, "hello", 5, hex), 0, "a small blob is put");
	ok(!strcmp(hex, HELLO), "under its digest");
	ok(store_has(s, HELLO) && !store_has(s, EMPTY) && !store_has(s, "../lock"),
	   "it is there, others are not");
	ok(!stat(at("blobs/sha256/%s", HELLO), &st) && (st.st_mode & 0777) == 0400, "nobody may write to it");
	is(store_get(s, HELLO, 5, &data, &n), 0, "it is read");
	ok(n == 5 && !strcmp(data, "hello"), "with its bytes");
	free(data);
	is(store_get(s, HELLO, 4, &data, &n), -EFBIG, "not beyond a limit");
	is(store_get(s, EMPTY, 4, &data, &n), -ENOENT, "not if it is not there");
	is(store_blob(s, "../../../etc/passwd", &size), -EINVAL, "a path is no digest");

	struct blob *b = blob_new(s);
	blob_write(b, "hel", 3);
	blob_write(b, "lo", 2);
	is(blob_commit(b, HELLO, hex, &size), 0, "a blob in parts");
	is(size, 5, "its size");
	b = blob_new(s);
	blob_write(b, "hella", 5);
	is(blob_commit(b, HELLO, hex, &size), -EBADMSG, "a blob with another digest than it must have");
	ok(!store_has(s, hex), "is not taken");
	b = blob_new(s);
	if (pwrite(blob_fd(b), "world", 5, 5) != 5 || pwrite(blob_fd(b), "hello", 5, 0) != 5)
		diag("pwrite");
	is(blob_commit(b, NULL, hex, &size), 0, "a blob written at random places");
	is(store_get(s, hex, 100, &data, &n), 0, "is read");
	ok(n == 10 && !strcmp(data, "helloworld"), "with its bytes");
	free(data);
	b = blob_new(s);
	blob_write(b, "never", 5);
	blob_abort(b);
	is(entries(at("tmp%s", "")), 0, "nothing is left in tmp");
	is(entries(at("blobs/sha256%s", "")), 2, "two blobs");
	is(store_put(s, "", 0, hex), 0, "an empty blob");
	ok(!strcmp(hex, EMPTY), "under its digest");
}

static void test_together(void)
{
	char hex[65], *data;
	size_t n;

	for (int keep = 0; keep < 2; keep++) {
		store_begin(s);
		is(store_put(s, "together", 8, hex), 0, "a blob that is held back");
		is(store_get(s, hex, 100, &data, &n), 0, "its writer can read it");
		ok(n == 8 && !memcmp(data, "together", 8), "with its bytes");
		free(data);
		is(store_put(s, "together", 8, hex), 0, "and put it again");
		is(entries(at("blobs/sha256%s", "")), 3, "nobody else sees it");
		is(store_end(s, keep), 0, keep ? "all of it is kept" : "nothing of it is kept");
		is(store_has(s, hex), keep, keep ? "it is there" : "it was never there");
	}
	is(s->holds, 0, "nothing is held");
}

static void forget_blobs(void)
{
	char cmd[4400];

	snprintf(cmd, sizeof(cmd), "rm -f '%s/blobs/sha256/'*", store_dir(s));
	is(system(cmd), 0, "from the beginning, where no file can be without a name");
}

static void test_damage(void)
{
	char hex[65], *data;
	size_t n;

	overwrite(at("blobs/sha256/%s", HELLO), "jello");
	is(store_get(s, HELLO, 100, &data, &n), -EBADMSG, "a changed blob is noticed");
	is(store_put(s, "hello", 5, hex), 0, "putting it again");
	is(store_get(s, HELLO, 100, &data, &n), 0, "mends it");
	free(data);
	overwrite(at("blobs/sha256/%s", HELLO), "hel");
	is(store_get(s, HELLO, 100, &data, &n), -EBADMSG, "a cut blob is noticed");
	struct blob *b = blob_new(s);
	blob_write(b, "hello", 5);
	is(blob_commit(b, HELLO, hex, NULL), 0, "and mended by a commit");
	is(store_get(s, HELLO, 100, &data, &n), 0, "it is whole");
	free(data);
	is(entries(at("tmp%s", "")), 0, "nothing is left in tmp");
	unlink(at("blobs/sha256/%s", EMPTY));
	if (symlink("/etc/passwd", at("blobs/sha256/%s", EMPTY)))
		diag("symlink");
	ok(store_get(s, EMPTY, 1 << 20, &data, &n) < 0, "a link in a blob's place is not followed");
	unlink(at("blobs/sha256/%s", EMPTY));
}

static void test_refs(void)
{
	static const char *const bad[] = {"",	  "noтag:x", "a b:c", "notag",	    "../x:y",  ":x",
					  ".x:y", "a\n:b",   "a+b:c", "a,b:latest", "a:b\x01", NULL};
	char hex[65], name[300];
	struct strings v = {0};
	struct stat st;

	is(store_ref_set(s, "app:latest", HELLO), 0, "a name");
	is(store_ref_get(s, "app:latest", hex), 0, "is read");
	ok(!strcmp(hex, HELLO), "and leads to its digest");
	ok(!lstat(at("refs/%s", "app,latest"), &st) && st.st_blocks == 0, "it takes no block");
	is(store_ref_set(s, "app:latest", EMPTY), -ENOENT, "no name for what is not there");
	is(store_ref_set(s, "app:latest", "xyz"), -EINVAL, "nor for what is no digest");
	is(store_ref_set(s, "localhost:5000/a/b_c.d-e:v1.0_X-y", HELLO), 0,
	   "a long name with all it may have");
	is(store_ref_set(s, "[::1]:5000/a:b", HELLO), 0, "with an IPv6 address");
	is(store_refs(s, &v), 0, "all names");
	ok(v.n == 3 && !strcmp(v.v[0], "[::1]:5000/a:b") && !strcmp(v.v[1], "app:latest") &&
		   !strcmp(v.v[2], "localhost:5000/a/b_c.d-e:v1.0_X-y"),
	   "come back sorted");
	strings_free(&v);
	bool good = true;
	for (int i = 0; bad[i]; i++)
		good = good && store_ref_set(s, bad[i], HELLO) == -EINVAL &&
		       store_ref_get(s, bad[i], hex) == -EINVAL && store_ref_remove(s, bad[i]) == -EINVAL;
	ok(good, "names that could be paths are refused");
	memset(name, 'a', sizeof(name));
	name[200] = ':';
	name[299] = 0;
	is(store_ref_set(s, name, HELLO), -ENAMETOOLONG, "a name that is too long");
	name[255] = 0;
	is(store_ref_set(s, name, HELLO), 0, "255 characters are not");
	is(store_ref_remove(s, name), 0, "it goes");
	unlink(at("refs/%s", "app,latest"));
	if (symlink("nonsense", at("refs/%s", "app,latest")))
		diag("symlink");
	is(store_ref_get(s, "app:latest", hex), -EBADMSG, "a damaged name is noticed");
	is(store_ref_set(s, "app:latest", HELLO), 0, "and can be set again");
	unlink(at("refs/%s", "app,latest"));
	close(open(at("refs/%s", "app,latest"), O_CREAT | O_WRONLY, 0600));
	is(store_ref_get(s, "app:latest", hex), -EBADMSG, "so is a file in its place");
	is(store_ref_remove(s, "app:latest"), 0, "which can be removed");
	is(store_ref_get(s, "app:latest", hex), -ENOENT, "and is gone");
	is(entries(at("tmp%s", "")), 0, "nothing is left in tmp");
}

static void memo_is(const char *kind, const char *key, const char *want, const char *name)
{
	char *v = store_memo_get(s, kind, key);

	ok(want ? v && !strcmp(v, want) : !v, "%s", name);
	free(v);
}

static void test_memos(void)
{
	static const char *const values[] = {
		"",
		"x",
		HELLO,
		HELLO " 4096",
		HELLO EMPTY,
		HELLO " " EMPTY " and more",
		"a\nb\nc\n",
		"\x01",
		"abc\x01" HELLO,
		"f" HELLO,
		"=",
		"a value of sixty bytes or more, which no longer fits an inode......",
		NULL};
	struct stat st;
	char name[64];

	memo_is("layer", HELLO, NULL, "no memo yet");
	for (int i = 0; values[i]; i++) {
		store_memo_set(s, "layer", HELLO, values[i]);
		snprintf(name, sizeof(name), "memo %d comes back", i);
		memo_is("layer", HELLO, values[i], name);
	}
	store_memo_set(s, "layer", HELLO, HELLO " 4096");
	ok(!lstat(at("memos/layer.%s", HELLO), &st) && st.st_blocks == 0,
	   "a digest and a size take no block");
	store_memo_set(s, "Any Kind/..", "../../key", "v");
	memo_is("Any Kind/..", "../../key", "v", "kind and key may be anything");
	char *big = malloc(100001);
	memset(big, 'b', 100000);
	big[100000] = 0;
	store_memo_set(s, "big", "00", big);
	memo_is("big", "00", big, "a large one");
	free(big);
	if (truncate(at("memos/%s", "big.00"), 5000))
		diag("truncate");
	memo_is("big", "00", NULL, "torn, it is none");
	is(entries(at("tmp%s", "")), 0, "nothing is left in tmp");
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static bool waited;

static void waiting(void)
{
	waited = true;
}

/* A child that opens the store, takes what `how` says, tells so, and keeps it for 300 ms. */
static pid_t child(char how)
{
	int p[2];
	char c;

	if (pipe(p))
		return -1;
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		struct store *mine = store_open();
		if (how == 'h')
			store_hold(mine);
		else if (how == 'x')
			store_exclude(mine, NULL);
		else
			store_lock(mine, "key");
		if (write(p[1], "k", 1) != 1)
			_exit(1);
		usleep(300000);
		_exit(0);
	}
	close(p[1]);
	if (read(p[0], &c, 1) != 1)
		diag("child died");
	close(p[0]);
	return pid;
}

static void test_locks(void)
{
	int64_t t = now_ms();
	pid_t pid = child('h');

	is(store_hold(s), 0, "two hold the store at the same time");
	is(store_hold(s), 0, "and twice");
	ok(now_ms() - t < 250, "without waiting");
	store_release(s);
	store_release(s);
	is(store_exclude(s, waiting), 0, "who excludes others");
	ok(waited && now_ms() - t >= 250, "waits for them, and says so");
	waitpid(pid, NULL, 0);
	store_unexclude(s);
	t = now_ms();
	pid = child('x');
	is(store_hold(s), 0, "a holder");
	ok(now_ms() - t >= 250, "waits for who excludes");
	store_release(s);
	waitpid(pid, NULL, 0);
	t = now_ms();
	pid = child('l');
	int other = store_lock(s, "other key");
	ok(other >= 0 && now_ms() - t < 250, "another key is free");
	int fd = store_lock(s, "key");
	ok(fd >= 0 && now_ms() - t >= 250, "the same key is waited for, until its owner is dead");
	close(fd);
	close(other);
	waitpid(pid, NULL, 0);
	/* one that wants all for itself gets its turn, even if somebody always holds */
	pid_t holders[2];
	fflush(stdout);
	for (int i = 0; i < 2; i++)
		if (!(holders[i] = fork())) {
			struct store *mine = store_open();
			usleep((useconds_t)(i * 7000));
			for (int k = 0; k < 200; k++) {
				store_hold(mine);
				usleep(15000);
				store_release(mine);
			}
			_exit(0);
		}
	usleep(50000);
	t = now_ms();
	is(store_exclude(s, NULL), 0, "among holders that overlap all the time");
	ok(now_ms() - t < 2000, "it takes %d ms", (int)(now_ms() - t));
	store_unexclude(s);
	for (int i = 0; i < 2; i++) {
		kill(holders[i], SIGKILL);
		waitpid(holders[i], NULL, 0);
	}
}

static void test_scratch(void)
{
	char path[4200], deep[4300];
	int fd = store_tmpfile(s);

	ok(fd >= 0 && write(fd, "x", 1) == 1, "a temporary file");
	is(entries(at("tmp%s", "")), 0, "has no name");
	close(fd);
	is(store_scratch(s, path, sizeof(path)), 0, "a scratch directory");
	ok(there(path), "is there");
	/* 600 levels, more than a path may have in one call; no permissions; links out */
	int d = open(path, O_RDONLY | O_DIRECTORY);
	for (int i = 0; i < 600 && d >= 0; i++) {
		if (mkdirat(d, "a-directory-with-a-name", 0700) || symlinkat("/", d, "link") ||
		    mkdirat(d, "shut", 0))
			diag("mkdir: %s", strerror(errno));
		int next = openat(d, "a-directory-with-a-name", O_RDONLY | O_DIRECTORY);
		if (i == 300)
			fchmod(d, 0);
		close(d);
		d = next;
	}
	close(d);
	snprintf(deep, sizeof(deep), "%s/a-directory-with-a-name", path);
	chmod(deep, 0);
	is(store_rmtree(path), 0, "a deep tree without permissions is removed");
	ok(!there(path) && there("/etc"), "it is gone, and what links led to is not");
	is(store_rmtree(path), 0, "what is not there is removed already");
	store_release(s);
}

int main(void)
{
	if (!mkdtemp(dir))
		return 1;
	setenv("XDG_DATA_HOME", dir, 1);
	s = store_open();
	if (!ok(s != NULL, "a store is made"))
		return 1;
	struct stat st;
	ok(!stat(store_dir(s), &st) && (st.st_mode & 0777) == 0700, "for its owner only");
	test_digests();
	for (int i = 0; i < 2; i++) {
		test_blobs();
		test_together();
		test_damage();
		no_tmpfile = !i;
		if (no_tmpfile)
			forget_blobs();
	}
	test_refs();
	test_memos();
	test_locks();
	test_scratch();
	store_close(s);
	s = store_open();
	ok(s && store_has(s, HELLO), "it is there the next time");
	store_close(s);
	return store_rmtree(dir) || done();
}
