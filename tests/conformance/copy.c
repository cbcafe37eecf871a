/* SPDX-License-Identifier: ISC */
/* sendfile, splice, tee, copy_file_range, flock and fcntl locks, inotify. */
#include "conf.h"
#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>

static void ino_show(int ifd, const char *label)
{
	char b[4096] __attribute__((aligned(8)));
	ssize_t n = read(ifd, b, sizeof(b));
	printf("value inotify_%s", label);
	for (char *p = b; n > 0 && p < b + n;) {
		struct inotify_event *e = (void *)p;
		printf(" %x:%s", e->mask, e->len ? e->name : "-");
		p += sizeof(*e) + e->len;
	}
	printf("\n");
}

int main(void)
{
	conf_dir();
	char b[9000], c[9000];
	for (int i = 0; i < 9000; i++)
		b[i] = (char)(i * 13);
	int in = open("in", O_CREAT | O_RDWR, 0644), out = open("out", O_CREAT | O_RDWR, 0644);
	write(in, b, 9000);
	off_t off = 1000;
	CHECK("sendfile", sendfile(out, in, &off, 5000) == 5000 && off == 6000);
	CHECK("sendfile_data", pread(out, c, 5000, 0) == 5000 && !memcmp(b + 1000, c, 5000));
	off = 0;
	loff_t o2 = 100;
	CHECK("copy_file_range", copy_file_range(in, &off, out, &o2, 9000, 0) == 9000 && o2 == 9100);
	CHECK("cfr_data", pread(out, c, 9000, 100) == 9000 && !memcmp(b, c, 9000));
	int p[2], q[2];
	pipe(p);
	pipe(q);
	loff_t so = 10;
	CHECK("splice_in", splice(in, &so, p[1], NULL, 4000, 0) == 4000 && so == 4010);
	CHECK("tee", tee(p[0], q[1], 1000, 0) == 1000);
	CHECK("tee_data", read(q[0], c, 2000) == 1000 && !memcmp(c, b + 10, 1000));
	so = 0;
	CHECK("splice_out", splice(p[0], NULL, out, &so, 4000, 0) == 4000 && pread(out, c, 4000, 0) == 4000 &&
				    !memcmp(c, b + 10, 4000));
	CHECK_ERR("splice_no_pipe", splice(in, NULL, out, NULL, 10, 0), EINVAL);
	struct iovec iov = {b, 100};
	CHECK("vmsplice",
	      vmsplice(p[1], &iov, 1, 0) == 100 && read(p[0], c, 200) == 100 && !memcmp(b, c, 100));
	/* locks */
	int f1 = open("in", O_RDWR), f2 = open("in", O_RDWR);
	CHECK("flock_ex", flock(f1, LOCK_EX) == 0);
	CHECK_ERR("flock_busy", flock(f2, LOCK_EX | LOCK_NB), EAGAIN);
	CHECK("flock_sh_after", flock(f1, LOCK_SH) == 0 && flock(f2, LOCK_SH | LOCK_NB) == 0);
	CHECK("flock_un", flock(f1, LOCK_UN) == 0 && flock(f2, LOCK_UN) == 0);
	struct flock fl = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20};
	CHECK("posix_lock", fcntl(f1, F_SETLK, &fl) == 0);
	CHECK("posix_same_process", fcntl(f2, F_SETLK, &fl) == 0);
	fl = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
	CHECK("ofd_conflict_with_posix", fcntl(f2, F_OFD_SETLK, &fl) == -1 && errno == EAGAIN);
	fl = (struct flock){.l_type = F_UNLCK, .l_whence = SEEK_SET};
	fcntl(f1, F_SETLK, &fl);
	fl = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
	CHECK("ofd", fcntl(f1, F_OFD_SETLK, &fl) == 0);
	fl = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 50, .l_len = 1};
	CHECK_ERR("ofd_busy", fcntl(f2, F_OFD_SETLK, &fl), EAGAIN);
	CHECK("ofd_getlk", fcntl(f2, F_OFD_GETLK, &fl) == 0 && fl.l_type == F_WRLCK && fl.l_start == 0 &&
				   fl.l_len == 100 && fl.l_pid == -1);
	close(f1);
	fl = (struct flock){.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 50, .l_len = 1};
	CHECK("ofd_freed_by_close", fcntl(f2, F_OFD_SETLK, &fl) == 0);
	/* inotify */
	int i = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	mkdir("w", 0755);
	int wd = inotify_add_watch(
		i, "w", IN_CREATE | IN_DELETE | IN_MODIFY | IN_MOVED_FROM | IN_MOVED_TO | IN_CLOSE_WRITE);
	CHECK("inotify_add", wd == 1);
	CHECK_ERR("inotify_empty", read(i, c, 1000), EAGAIN);
	int f = open("w/a", O_CREAT | O_WRONLY, 0644);
	write(f, "x", 1);
	close(f);
	struct pollfd pf = {i, POLLIN, 0};
	CHECK("inotify_poll", poll(&pf, 1, 0) == 1);
	ino_show(i, "create");
	rename("w/a", "w/b");
	ino_show(i, "rename");
	unlink("w/b");
	ino_show(i, "unlink");
	CHECK("inotify_rm", inotify_rm_watch(i, wd) == 0);
	ino_show(i, "ignored");
	CHECK_ERR("inotify_rm_bad", inotify_rm_watch(i, 99), EINVAL);
	CHECK_ERR("inotify_noent", inotify_add_watch(i, "nope", IN_CREATE), ENOENT);
	rmdir("w");
	unlink("in");
	unlink("out");
	rmdir(conf_dir());
	return conf_done();
}
