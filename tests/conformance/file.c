/* SPDX-License-Identifier: ISC */
/* open, read, write, lseek, pread, truncate, O_APPEND, O_EXCL, dup, fcntl. */
#include "conf.h"
#include <sys/uio.h>

int main(void)
{
	conf_dir();
	char b[64];
	int fd = open("a", O_CREAT | O_RDWR | O_EXCL, 0644);
	CHECK("open_creat", fd >= 0);
	CHECK_ERR("open_excl", open("a", O_CREAT | O_EXCL | O_RDWR, 0644), EEXIST);
	CHECK("write", write(fd, "hello world", 11) == 11);
	CHECK("lseek_set", lseek(fd, 6, SEEK_SET) == 6);
	CHECK("read", read(fd, b, 64) == 5 && !memcmp(b, "world", 5));
	CHECK("read_eof", read(fd, b, 64) == 0);
	CHECK("pread", pread(fd, b, 5, 0) == 5 && !memcmp(b, "hello", 5));
	CHECK("pwrite", pwrite(fd, "J", 1, 0) == 1);
	CHECK("lseek_cur_after_pread", lseek(fd, 0, SEEK_CUR) == 11);
	CHECK("lseek_end", lseek(fd, 0, SEEK_END) == 11);
	CHECK_ERR("lseek_negative", lseek(fd, -100, SEEK_CUR), EINVAL);
	CHECK_ERR("lseek_whence", lseek(fd, 0, 99), EINVAL);
	CHECK("lseek_beyond", lseek(fd, 100, SEEK_SET) == 100);
	CHECK("write_hole", write(fd, "x", 1) == 1);
	CHECK("hole_zero", pread(fd, b, 1, 50) == 1 && b[0] == 0);
	struct stat st;
	CHECK("fstat_size", fstat(fd, &st) == 0 && st.st_size == 101 && S_ISREG(st.st_mode));
	SHOW("mode", "%o", st.st_mode);
	CHECK("ftruncate", ftruncate(fd, 5) == 0 && fstat(fd, &st) == 0 && st.st_size == 5);
	CHECK("truncate_grow", truncate("a", 4096 * 3) == 0 && fstat(fd, &st) == 0 && st.st_size == 12288);
	CHECK_ERR("ftruncate_neg", ftruncate(fd, -1), EINVAL);
	struct iovec iov[3] = {{"ab", 2}, {"", 0}, {"cde", 3}};
	CHECK("pwritev", pwritev(fd, iov, 3, 0) == 5);
	char b1[2], b2[3];
	struct iovec riov[2] = {{b1, 2}, {b2, 3}};
	CHECK("preadv", preadv(fd, riov, 2, 0) == 5 && !memcmp(b2, "cde", 3));
	CHECK_ERR("readv_bad_count", readv(fd, riov, -1), EINVAL);
	CHECK_ERR("read_efault", read(fd, (void *)8, 10), EFAULT);
	CHECK_ERR("open_efault", open((char *)8, O_RDONLY), EFAULT);
	CHECK_ERR("write_badfd", write(9999, "x", 1), EBADF);
	int ro = open("a", O_RDONLY);
	CHECK_ERR("write_rdonly", write(ro, "x", 1), EBADF);
	int wo = open("a", O_WRONLY | O_APPEND);
	CHECK_ERR("read_wronly", read(wo, b, 1), EBADF);
	CHECK("append", write(wo, "END", 3) == 3 && lseek(wo, 0, SEEK_CUR) == 12291);
	CHECK("getfl", (fcntl(wo, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
	CHECK("setfl", fcntl(wo, F_SETFL, O_NONBLOCK) == 0 && (fcntl(wo, F_GETFL) & O_NONBLOCK));
	int d = dup(ro);
	CHECK("dup", d >= 0 && lseek(d, 3, SEEK_SET) == 3 && lseek(ro, 0, SEEK_CUR) == 3);
	CHECK("dup2", dup2(ro, 77) == 77 && dup2(77, 77) == 77);
	CHECK_ERR("dup2_bad", dup2(5000, 78), EBADF);
	CHECK("dup3_cloexec", dup3(ro, 78, O_CLOEXEC) == 78 && fcntl(78, F_GETFD) == FD_CLOEXEC);
	CHECK_ERR("dup3_same", dup3(ro, ro, 0), EINVAL);
	CHECK("dupfd", fcntl(ro, F_DUPFD, 100) == 100);
	CHECK("dupfd_cloexec", fcntl(ro, F_DUPFD_CLOEXEC, 100) == 101 && fcntl(101, F_GETFD) == FD_CLOEXEC);
	CHECK("close", close(100) == 0);
	CHECK_ERR("close_twice", close(100), EBADF);
	CHECK("close_range", close_range(77, 101, 0) == 0);
	CHECK_ERR("after_close_range", fcntl(78, F_GETFD), EBADF);
	CHECK_ERR("open_enoent", open("nope", O_RDONLY), ENOENT);
	CHECK_ERR("open_enotdir", open("a/b", O_RDONLY), ENOTDIR);
	CHECK_ERR("open_dir_write", open(".", O_RDWR), EISDIR);
	CHECK_ERR("open_directory_flag", open("a", O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK_ERR("open_empty", open("", O_RDONLY), ENOENT);
	char longname[300];
	memset(longname, 'n', 299);
	longname[299] = 0;
	CHECK_ERR("open_toolong", open(longname, O_RDONLY), ENAMETOOLONG);
	CHECK("trunc_open", (close(open("a", O_WRONLY | O_TRUNC)), fstat(fd, &st)) == 0 && st.st_size == 0);
	CHECK("fsync", fsync(fd) == 0 && fdatasync(fd) == 0);
	CHECK("fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL) == 0);
	CHECK("fallocate", fallocate(fd, 0, 0, 8192) == 0 && fstat(fd, &st) == 0 && st.st_size == 8192);
	CHECK("fallocate_keep",
	      fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536) == 0 && fstat(fd, &st) == 0 && st.st_size == 8192);
	memset(b, 'q', 64);
	pwrite(fd, b, 64, 4096);
	CHECK("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096) == 0 &&
			       pread(fd, b, 1, 4096) == 1 && b[0] == 0);
	CHECK_ERR("fallocate_ro", fallocate(ro, 0, 0, 10), EBADF);
	unlink("a");
	CHECK("fstat_unlinked", fstat(fd, &st) == 0 && st.st_nlink == 0);
	int t = open(".", O_TMPFILE | O_RDWR, 0600);
	CHECK("o_tmpfile", t >= 0 && write(t, "t", 1) == 1);
	mode_t m = umask(027);
	SHOW("umask_old", "%o", m);
	int u = open("um", O_CREAT | O_WRONLY, 0666);
	fstat(u, &st);
	SHOW("umask_mode", "%o", st.st_mode);
	unlink("um");
	rmdir(conf_dir());
	return conf_done();
}
