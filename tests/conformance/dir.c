/* SPDX-License-Identifier: ISC */
/* mkdir, rename, link, symlink, getdents, *at, chdir, stat family, access, utimens, statx, xattr reads. */
#include "conf.h"
#include <dirent.h>
#include <linux/fs.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

static int cmp(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void list(const char *path, const char *label)
{
	char *n[128];
	int k = 0;
	DIR *d = opendir(path);
	struct dirent *e;
	while (d && (e = readdir(d)) && k < 128)
		n[k++] = strdup(e->d_name);
	if (d)
		closedir(d);
	qsort(n, (size_t)k, sizeof(*n), cmp);
	printf("value list_%s", label);
	for (int i = 0; i < k; i++)
		printf(" %s", n[i]);
	printf("\n");
}

int main(void)
{
	const char *top = conf_dir();
	struct stat st, st2;
	CHECK("mkdir", mkdir("d", 0755) == 0);
	CHECK_ERR("mkdir_exist", mkdir("d", 0755), EEXIST);
	CHECK_ERR("mkdir_noparent", mkdir("x/y", 0755), ENOENT);
	CHECK("mkdirat", mkdirat(AT_FDCWD, "d/e", 0700) == 0);
	CHECK("nlink_dir", stat("d", &st) == 0 && st.st_nlink == 3);
	close(open("d/f", O_CREAT | O_WRONLY, 0644));
	list("d", "d");
	CHECK_ERR("rmdir_notempty", rmdir("d"), ENOTEMPTY);
	CHECK_ERR("rmdir_file", rmdir("d/f"), ENOTDIR);
	CHECK_ERR("unlink_dir", unlink("d/e"), EISDIR);
	CHECK("link", link("d/f", "g") == 0 && stat("g", &st) == 0 && st.st_nlink == 2);
	CHECK_ERR("link_exist", link("d/f", "g"), EEXIST);
	CHECK_ERR("link_dir", link("d", "dd"), EPERM);
	CHECK("symlink", symlink("d/f", "s") == 0);
	CHECK("lstat_link", lstat("s", &st2) == 0 && S_ISLNK(st2.st_mode) && st2.st_size == 3);
	CHECK("stat_follows", stat("s", &st2) == 0 && st2.st_ino == st.st_ino);
	char b[256];
	CHECK("readlink", readlink("s", b, sizeof(b)) == 3 && !memcmp(b, "d/f", 3));
	CHECK("readlink_trunc", readlink("s", b, 2) == 2);
	CHECK_ERR("readlink_notlink", readlink("g", b, 10), EINVAL);
	CHECK_ERR("open_nofollow", open("s", O_RDONLY | O_NOFOLLOW), ELOOP);
	symlink("loop2", "loop1");
	symlink("loop1", "loop2");
	CHECK_ERR("eloop", open("loop1", O_RDONLY), ELOOP);
	symlink("nowhere", "dangling");
	CHECK_ERR("dangling", stat("dangling", &st), ENOENT);
	CHECK("creat_through_dangling",
	      (close(open("dangling", O_CREAT | O_WRONLY, 0644)), access("nowhere", F_OK)) == 0);
	CHECK("rename", rename("g", "h") == 0 && access("h", F_OK) == 0);
	CHECK_ERR("rename_gone", access("g", F_OK), ENOENT);
	CHECK("rename_same_inode", rename("h", "d/f") == 0 && access("h", F_OK) == 0);
	close(open("r1", O_CREAT | O_WRONLY, 0644));
	close(open("r2", O_CREAT | O_WRONLY, 0600));
	CHECK_ERR("rename_noreplace", renameat2(AT_FDCWD, "r1", AT_FDCWD, "r2", RENAME_NOREPLACE), EEXIST);
	CHECK("rename_exchange", renameat2(AT_FDCWD, "r1", AT_FDCWD, "r2", RENAME_EXCHANGE) == 0 &&
					 stat("r1", &st) == 0 && (st.st_mode & 0777) == 0600);
	CHECK_ERR("rename_dir_into_self", rename("d", "d/e/z"), EINVAL);
	CHECK_ERR("rename_file_over_dir", rename("r1", "d"), EISDIR);
	CHECK_ERR("rename_dir_over_file", rename("d", "r1"), ENOTDIR);
	mkdir("m", 0755);
	CHECK_ERR("rename_over_notempty", rename("m", "d"), ENOTEMPTY);
	CHECK("rename_dir", rename("m", "n") == 0);
	CHECK("chdir", chdir("d/e") == 0 && getcwd(b, sizeof(b)) != NULL);
	CHECK("getcwd", !strncmp(b, top, strlen(top)) && !strcmp(b + strlen(top), "/d/e"));
	CHECK_ERR("getcwd_small", syscall(SYS_getcwd, b, 3), ERANGE);
	int dfd = open(top, O_RDONLY | O_DIRECTORY);
	CHECK("fchdir", fchdir(dfd) == 0);
	CHECK("openat", close(openat(dfd, "d/f", O_RDONLY)) == 0);
	CHECK("dotdot", stat("d/e/../../d", &st) == 0);
	CHECK_ERR("trailing_slash_file", stat("d/f/", &st), ENOTDIR);
	CHECK("chmod", chmod("r1", 04711) == 0 && stat("r1", &st) == 0 && (st.st_mode & 07777) == 04711);
	CHECK("fchmodat", fchmodat(dfd, "r1", 0640, 0) == 0);
	struct timespec ts[2] = {{1000, 5}, {2000, 7}};
	CHECK("utimensat", utimensat(dfd, "r1", ts, 0) == 0 && stat("r1", &st) == 0 &&
				   st.st_mtim.tv_sec == 2000 && st.st_mtim.tv_nsec == 7);
	CHECK("access_r", access("r1", R_OK) == 0);
	CHECK("faccessat2", faccessat(dfd, "r1", R_OK, AT_EACCESS) == 0);
	struct statx sx;
	CHECK("statx", statx(dfd, "r1", 0, STATX_BASIC_STATS, &sx) == 0 && sx.stx_mtime.tv_sec == 2000 &&
			       sx.stx_mode == 0100640);
	CHECK("statx_empty", statx(dfd, "", AT_EMPTY_PATH, STATX_TYPE, &sx) == 0 && S_ISDIR(sx.stx_mode));
	CHECK_ERR("statx_noempty", statx(dfd, "", 0, STATX_TYPE, &sx), ENOENT);
	int op = open("r1", O_PATH);
	CHECK("o_path_fstat", fstat(op, &st) == 0);
	CHECK_ERR("o_path_read", read(op, b, 1), EBADF);
	CHECK_ERR("getxattr_none",
		  getxattr("r1", "user.none", b, 10) == -1 && errno == EOPNOTSUPP
			  ? (errno = ENODATA, -1)
			  : getxattr("r1", "user.none", b, 10),
		  ENODATA);
	struct statfs sf;
	CHECK("statfs", statfs(".", &sf) == 0 && sf.f_bsize == 4096);
	CHECK("mkfifo", mkfifo("ff", 0644) == 0 && stat("ff", &st) == 0 && S_ISFIFO(st.st_mode));
	list(".", "top");
	/* seekdir over a directory that needs more than one getdents call */
	mkdir("many", 0755);
	for (int i = 0; i < 500; i++) {
		snprintf(b, sizeof(b), "many/file-with-a-rather-long-name-%04d", i);
		close(open(b, O_CREAT | O_WRONLY, 0644));
	}
	DIR *d = opendir("many");
	int n = 0;
	while (readdir(d))
		n++;
	SHOW("many", "%d", n);
	rewinddir(d);
	n = 0;
	while (readdir(d))
		n++;
	SHOW("many_again", "%d", n);
	closedir(d);
	snprintf(b, sizeof(b), "rm -rf %s", top);
	CHECK("chdir_root", chdir("/") == 0);
	return conf_done();
}
