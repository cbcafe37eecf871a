/* SPDX-License-Identifier: ISC */
/*
 * A random walk over the calls on files: the same sequence (one seed, given as
 * argument or 2) on Linux and in the guest must give the same results, call by
 * call. It works in a chroot of its own, so that ".." and absolute links
 * stay inside; as root only. Results are folded into one line a block, so
 * that a difference shows in which block it began.
 *
 *	fsrandom [SEED [v|- [CALLS [DIRECTORY]]]]
 *
 * v prints every call. An odd seed goes on as another user. A DIRECTORY that
 * is part of the image, and a copy of it natively, test the overlay.
 */
#include "conf.h"

#include <dirent.h>
#include <ftw.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>

static uint64_t rng_state;
static int verbose;
static uint64_t sum;

static uint32_t rnd(uint32_t n)
{
	rng_state = rng_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(rng_state >> 33) % n;
}

static void result(const char *op, const char *a, const char *b, long r)
{
	char line[700];
	int e = r < 0 ? errno : 0;

	snprintf(line, sizeof(line), "%s(%s, %s) = %ld %s", op, a, b ? b : "", r,
		 r < 0 ? strerrorname_np(e) : "");
	for (char *p = line; *p; p++)
		sum = (sum ^ (uint8_t)*p) * 1099511628211ull;
	if (verbose)
		puts(line);
}

static const char *path(char *out)
{
	static const char *const parts[] = {"a", "b",  "c", "d",  "e",	"f",  "a",
					    "b", "..", ".", "l1", "l2", "l3", "l4"};
	int n = 1 + (int)rnd(4);

	out[0] = 0;
	if (rnd(3) == 0)
		strcat(out, "/");
	for (int i = 0; i < n; i++) {
		strcat(out, parts[rnd(sizeof(parts) / sizeof(parts[0]))]);
		if (i + 1 < n)
			strcat(out, rnd(12) ? "/" : "//");
	}
	if (rnd(8) == 0)
		strcat(out, "/");
	if (rnd(60) == 0)
		out[0] = 0;
	return out;
}

static void show_stat(const char *op, const char *p, long r, struct stat *st)
{
	char b[100];

	if (r) {
		result(op, p, NULL, r);
		return;
	}
	if (S_ISDIR(st->st_mode))
		snprintf(b, sizeof(b), "%o dir", st->st_mode);
	else
		snprintf(b, sizeof(b), "%o %ld links %ld", st->st_mode, (long)st->st_size,
			 (long)st->st_nlink);
	result(op, p, b, r);
}

static int cmp(const void *a, const void *b)
{
	return strcmp(*(char **)a, *(char **)b);
}

static void list(const char *p)
{
	DIR *d = opendir(p);
	struct dirent *e;
	char *names[200], all[600] = "";
	int n = 0;

	if (!d) {
		result("opendir", p, NULL, -1);
		return;
	}
	while ((e = readdir(d)) && n < 200) {
		char t[300];
		snprintf(t, sizeof(t), "%s:%d", e->d_name, e->d_type);
		names[n++] = strdup(t);
	}
	closedir(d);
	qsort(names, n, sizeof(char *), cmp);
	for (int i = 0; i < n; i++) {
		if (strlen(all) < 500) {
			strcat(all, names[i]);
			strcat(all, " ");
		}
		free(names[i]);
	}
	result("list", p, all, n);
}

static int fds[8];

static void file_ops(void)
{
	char buf[9000], p[200], b[64];
	int i = (int)rnd(8);
	static const int extra[] = {0,
				    O_CREAT,
				    O_CREAT,
				    O_CREAT,
				    O_CREAT | O_EXCL,
				    O_TRUNC,
				    O_CREAT | O_TRUNC,
				    O_APPEND | O_CREAT,
				    O_NOFOLLOW,
				    O_DIRECTORY,
				    O_PATH,
				    O_CREAT | O_DIRECTORY * 0,
				    O_NOFOLLOW | O_CREAT};

	if (fds[i] < 0) {
		int fl = O_NONBLOCK | (int)rnd(3) | extra[rnd(sizeof(extra) / sizeof(extra[0]))];
		path(p);
		fds[i] = open(p, fl, 0600 + rnd(0200));
		snprintf(b, sizeof(b), "%x", fl);
		result("open", p, b, fds[i] < 0 ? -1 : 0);
		return;
	}
	snprintf(b, sizeof(b), "fd%d", i);
	memset(buf, 'a' + (int)rnd(26), sizeof(buf));
	size_t n = rnd(3) ? rnd(200) : rnd(9000);
	long off = rnd(3) ? rnd(300) : rnd(20000), r;
	struct stat st;
	switch (rnd(13)) {
	case 0:
		result("write", b, NULL, write(fds[i], buf, n));
		break;
	case 1:
		result("pwrite", b, NULL, pwrite(fds[i], buf, n, off));
		break;
	case 2:
	case 3:
		r = rnd(2) ? read(fds[i], buf, n) : pread(fds[i], buf, n, off);
		for (long k = 0; k < r; k++)
			sum = (sum ^ (uint8_t)buf[k]) * 1099511628211ull;
		result("read", b, NULL, r);
		break;
	case 4:
		if (!fstat(fds[i], &st) && S_ISDIR(st.st_mode))
			break; /* file systems differ in what a directory's positions are */
		result("lseek", b, NULL, lseek(fds[i], off, (int)rnd(3)));
		break;
	case 5:
		result("ftruncate", b, NULL, ftruncate(fds[i], off));
		break;
	case 6:
		show_stat("fstat", b, fstat(fds[i], &st), &st);
		break;
	case 7:
		result("fchmod", b, NULL, fchmod(fds[i], rnd(01000)));
		break;
	case 8: {
		struct iovec v[3] = {{buf, n / 3}, {buf + 10, n / 2}, {buf + 5, 7}};
		result("writev", b, NULL, writev(fds[i], v, 3));
		break;
	}
	case 9:
		result("fallocate", b, NULL,
		       fallocate(fds[i],
				 rnd(2) ? 0 : FALLOC_FL_KEEP_SIZE | (rnd(2) ? FALLOC_FL_PUNCH_HOLE : 0), off,
				 n + 1));
		break;
	case 10:
		result("fchdir", b, NULL, fchdir(fds[i]));
		break;
	default:
		result("close", b, NULL, close(fds[i]));
		fds[i] = -1;
	}
}

static void name_ops(void)
{
	char p[200], q[200], buf[400];
	struct stat st;
	long r;

	path(p);
	path(q);
	switch (rnd(24)) {
	case 0:
	case 1:
	case 2:
		result("mkdir", p, NULL, mkdir(p, 0700 + rnd(0100)));
		break;
	case 3:
		result("rmdir", p, NULL, rmdir(p));
		break;
	case 4:
	case 5:
		result("unlink", p, NULL, unlink(p));
		break;
	case 6:
	case 7:
	case 8:
		result("rename", p, q, rename(p, q));
		break;
	case 9: {
		int fl = rnd(2) ? RENAME_NOREPLACE : RENAME_EXCHANGE;
		result(fl == 1 ? "rename-noreplace" : "rename-exchange", p, q,
		       syscall(SYS_renameat2, AT_FDCWD, p, AT_FDCWD, q, fl));
		break;
	}
	case 10:
	case 11:
		result("link", p, q,
		       rnd(3) ? link(p, q) : linkat(AT_FDCWD, p, AT_FDCWD, q, AT_SYMLINK_FOLLOW));
		break;
	case 12:
	case 13:
		result("symlink", q, p, symlink(q, p));
		break;
	case 14:
	case 15:
		r = rnd(2) ? stat(p, &st) : lstat(p, &st);
		if (!r && S_ISLNK(st.st_mode))
			st.st_size = st.st_size;
		show_stat("stat", p, r, &st);
		break;
	case 16:
		r = readlink(p, buf, sizeof(buf) - 1);
		if (r >= 0)
			buf[r] = 0;
		result("readlink", p, r >= 0 ? buf : NULL, r);
		break;
	case 17:
	case 18:
		list(p);
		break;
	case 19:
		result("truncate", p, NULL, truncate(p, rnd(5000)));
		break;
	case 20:
		result("chmod", p, NULL, chmod(p, rnd(01000)));
		break;
	case 21:
		result("access", p, NULL, access(p, (int)rnd(8)));
		break;
	case 22:
		result("chdir", p, NULL, chdir(p));
		if (!getcwd(buf, sizeof(buf)))
			result("getcwd", "", NULL, -1);
		else
			result("getcwd", buf, NULL, 0);
		break;
	default:
		result("mkfifo", p, NULL, rnd(4) ? -2 : mkfifo(p, 0666));
		break;
	}
}

static int remove_one(const char *p, const struct stat *st, int type, struct FTW *f)
{
	return remove(p);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 2;
	int n = argc > 3 ? atoi(argv[3]) : 20000;

	if (geteuid())
		return conf_done(); /* no chroot */
	verbose = argc > 2 && argv[2][0] == 'v';
	rng_state = seed * 0x9e3779b97f4a7c15ull + 1;
	int top = open("/", O_RDONLY | O_DIRECTORY);
	umask(022);
	signal(SIGPIPE, SIG_IGN);
	if (chdir(argc > 4 ? argv[4] : conf_dir()) || chroot(".")) {
		perror("chroot");
		return 2;
	}
	/* odd seeds run as somebody who is not root, in a directory of his own */
	if (seed & 1 && (chown("/", 1000, 1000) || setgid(1000) || setuid(1000))) {
		perror("setuid");
		return 2;
	}
	for (int i = 0; i < 8; i++)
		fds[i] = -1;
	for (int i = 0; i < n; i++) {
		if (rnd(2))
			file_ops();
		else
			name_ops();
		if (i % 500 == 499) {
			printf("value block %d %016llx\n", i / 500, (unsigned long long)sum);
			if (rnd(2))
				chdir("/");
		}
	}
	if (argc <= 4 && !geteuid() && !fchdir(top) && !chroot("."))
		nftw(conf_dir(), remove_one, 16, FTW_DEPTH | FTW_PHYS);
	return conf_done();
}
