/* SPDX-License-Identifier: ISC */
/* Locks between processes: POSIX records, open file descriptions, flock; over fork, dup, exec, close and death. */
#include "child.h"
#include <sched.h>
#include <sys/file.h>

static int pa[2], pb[2]; /* parent to child, child to parent */

static int lk(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock fl = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	return fcntl(fd, cmd, &fl);
}
static struct flock who(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock fl = {.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	if (fcntl(fd, cmd, &fl))
		fl.l_type = 77;
	return fl;
}
static int fd;
static pid_t parent;

static int not_inherited(void)
{
	if (lk(fd, F_SETLK, F_WRLCK, 0, 10) != -1 || errno != EAGAIN)
		return 1;
	if (lk(fd, F_SETLK, F_WRLCK, 10, 10))
		return 2;
	struct flock f = who(fd, F_GETLK, F_WRLCK, 5, 10);
	if (f.l_type != F_WRLCK || f.l_pid != parent || f.l_start != 0 || f.l_len != 10)
		return 3;
	return who(fd, F_GETLK, F_RDLCK, 10, 0).l_type == F_UNLCK ? 0 : 4; /* one's own are not in the way */
}
static int hold_until_told(void)
{
	if (lk(fd, F_SETLK, F_WRLCK, 100, 50))
		return 1;
	tell(pb[1]);
	hear(pa[0]);
	return 0;
}
static int hold_two(void)
{
	int other = open("f", O_RDWR);
	if (lk(fd, F_SETLK, F_WRLCK, 100, 50))
		return 1;
	close(other); /* drops it */
	tell(pb[1]);
	hear(pa[0]);
	return 0;
}
static int hold_forever(void)
{
	if (lk(fd, F_SETLK, F_RDLCK, 200, 1))
		return 1;
	tell(pb[1]);
	for (;;)
		pause();
}
static int wait_lock(void)
{
	tell(pb[1]);
	if (lk(fd, F_SETLKW, F_WRLCK, 300, 1))
		return 1;
	return 0;
}
static void on_alarm(int s)
{
}
static int interrupted(void)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	return lk(fd, F_SETLKW, F_WRLCK, 300, 1) == -1 && errno == EINTR ? 0 : 1;
}
/* Holds B, waits for A, which the parent has; the parent then asks for B. */
static int deadlock_partner(void)
{
	if (lk(fd, F_SETLK, F_WRLCK, 401, 1))
		return 1;
	tell(pb[1]);
	if (lk(fd, F_SETLKW, F_WRLCK, 400, 1))
		return 2;
	return 0;
}
/* A ring of three: this one holds 501, waits for 502. */
static int ring1(void)
{
	if (lk(fd, F_SETLK, F_WRLCK, 501, 1))
		return 1;
	tell(pb[1]);
	hear(pa[0]);
	tell(pb[1]);
	return lk(fd, F_SETLKW, F_WRLCK, 502, 1) ? 2 : 0;
}
static int ring2(void)
{
	if (lk(fd, F_SETLK, F_WRLCK, 502, 1))
		return 1;
	tell(pb[1]);
	return lk(fd, F_SETLKW, F_WRLCK, 500, 1) ? 2 : 0;
}

/* --- flock --------------------------------------------------------------------- */

static int fl_fd;
static int flock_shared_by_fork(void)
{
	if (flock(fl_fd, LOCK_EX | LOCK_NB))
		return 1; /* the same open file */
	int other = open("f", O_RDWR);
	if (flock(other, LOCK_SH | LOCK_NB) != -1 || errno != EWOULDBLOCK)
		return 2;
	return 0; /* its end does not unlock: the parent has the file open too */
}
static int flock_busy(void)
{
	int other = open("f", O_RDWR);
	return flock(other, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK ? 0 : 1;
}
static int flock_free(void)
{
	int other = open("f", O_RDWR);
	return flock(other, LOCK_EX | LOCK_NB);
}
static int flock_unlock_in_child(void)
{
	return flock(fl_fd, LOCK_UN);
}
static int flock_wait(void)
{
	close(fl_fd); /* else it holds what it waits for */
	int other = open("f", O_RDWR);
	tell(pb[1]);
	return flock(other, LOCK_EX);
}

/* --- open file descriptions ---------------------------------------------------------- */

static int ofd_same_file(void)
{
	return lk(fd, F_OFD_SETLK, F_WRLCK, 600, 10); /* the parent's lock, the same description */
}
static int ofd_other_file(void)
{
	int other = open("f", O_RDWR);
	if (lk(other, F_OFD_SETLK, F_WRLCK, 600, 10) != -1 || errno != EAGAIN)
		return 1;
	struct flock f = who(other, F_OFD_GETLK, F_WRLCK, 600, 10);
	if (f.l_type != F_WRLCK || f.l_pid != -1)
		return 2;
	if (lk(other, F_SETLK, F_WRLCK, 600, 1) != -1 || errno != EAGAIN)
		return 3;
	return 0;
}
static int ofd_taken(void)
{
	int other = open("f", O_RDWR);
	return lk(other, F_OFD_SETLK, F_WRLCK, 600, 10);
}
static int exec_holding(void)
{
	char arg[16];
	if (lk(fd, F_SETLK, F_WRLCK, 700, 1))
		return 1;
	fcntl(fd, F_SETFD, 0);
	fcntl(pa[0], F_SETFD, 0);
	fcntl(pb[1], F_SETFD, 0);
	snprintf(arg, sizeof(arg), "%d", pb[1] * 100 + pa[0]);
	execl("/proc/self/exe", "locks", arg, (char *)NULL);
	return 2;
}
static int all_free(void)
{
	return lk(fd, F_SETLK, F_WRLCK, 0, 0);
}

int main(int argc, char **argv)
{
	if (argc > 1) { /* exec_holding */
		int n = atoi(argv[1]);
		tell(n / 100);
		hear(n % 100);
		return 0;
	}
	conf_dir();
	if (pipe(pa) || pipe(pb))
		return 2;
	parent = getpid();
	fd = open("f", O_CREAT | O_RDWR | O_CLOEXEC, 0644);
	CHECK("lock", lk(fd, F_SETLK, F_WRLCK, 0, 10) == 0);
	CHECK("not_inherited", child(not_inherited) == 0);
	CHECK("still_held", child(not_inherited) == 0);
	CHECK("own_not_in_way", who(fd, F_GETLK, F_WRLCK, 0, 0).l_type == F_UNLCK);

	pid_t p = run(hold_until_told);
	hear(pb[0]);
	struct flock f = who(fd, F_GETLK, F_RDLCK, 0, 0);
	CHECK("getlk_pid", f.l_type == F_WRLCK && f.l_pid == p && f.l_start == 100 && f.l_len == 50);
	CHECK_ERR("setlk_busy", lk(fd, F_SETLK, F_RDLCK, 149, 1), EAGAIN);
	CHECK("beside_it", lk(fd, F_SETLK, F_WRLCK, 150, 1) == 0 && lk(fd, F_SETLK, F_UNLCK, 150, 1) == 0);
	tell(pa[1]);
	CHECK("exits", wait_for(p) == 0);
	CHECK("gone_with_exit", who(fd, F_GETLK, F_WRLCK, 100, 50).l_type == F_UNLCK);

	p = run(hold_two);
	hear(pb[0]);
	CHECK("any_close_drops", who(fd, F_GETLK, F_WRLCK, 100, 50).l_type == F_UNLCK);
	tell(pa[1]);
	wait_for(p);

	p = run(hold_forever);
	hear(pb[0]);
	CHECK("read_shared", lk(fd, F_SETLK, F_RDLCK, 200, 1) == 0);
	CHECK_ERR("read_no_upgrade", lk(fd, F_SETLK, F_WRLCK, 200, 1), EAGAIN);
	kill(p, SIGKILL);
	CHECK("killed", wait_for(p) == 128 + SIGKILL);
	CHECK("gone_with_death", lk(fd, F_SETLK, F_WRLCK, 200, 1) == 0);

	CHECK("lock_300", lk(fd, F_SETLK, F_WRLCK, 300, 1) == 0);
	p = run(wait_lock);
	hear(pb[0]);
	int st;
	becomes(p, 'S');
	CHECK("waits", waitpid(p, &st, WNOHANG) == 0);
	lk(fd, F_SETLK, F_UNLCK, 300, 1);
	CHECK("woken_by_unlock", wait_for(p) == 0);
	lk(fd, F_SETLK, F_WRLCK, 300, 1);
	CHECK("interrupted", child(interrupted) == 0);

	/* deadlocks */
	lk(fd, F_SETLK, F_WRLCK, 400, 1);
	p = run(deadlock_partner);
	hear(pb[0]);
	becomes(p, 'S');
	CHECK_ERR("deadlock", lk(fd, F_SETLKW, F_WRLCK, 401, 1), EDEADLK);
	lk(fd, F_SETLK, F_UNLCK, 400, 1);
	CHECK("partner_goes_on", wait_for(p) == 0);
	lk(fd, F_SETLK, F_WRLCK, 500, 1);
	p = run(ring1);
	hear(pb[0]);
	pid_t q = run(ring2);
	hear(pb[0]);
	tell(pa[1]);
	hear(pb[0]); /* the first one goes on */
	becomes(p, 'S');
	becomes(q, 'S');
	CHECK_ERR("deadlock_of_three", lk(fd, F_SETLKW, F_WRLCK, 501, 1), EDEADLK);
	lk(fd, F_SETLK, F_UNLCK, 500, 1);
	int sq = wait_for(q), sp = wait_for(p);
	CHECK("ring_goes_on", !sq && !sp);

	/* through dup and exec */
	int d = dup(fd);
	lk(d, F_SETLK, F_WRLCK, 650, 1);
	CHECK("dup_same_owner", who(fd, F_GETLK, F_WRLCK, 650, 1).l_type == F_UNLCK);
	close(d);
	CHECK("close_of_dup_drops_all", child(all_free) == 0);
	p = run(exec_holding);
	hear(pb[0]);
	f = who(fd, F_GETLK, F_RDLCK, 700, 1);
	CHECK("kept_over_exec", f.l_type == F_WRLCK && f.l_pid == p);
	tell(pa[1]);
	CHECK("exec_ends", wait_for(p) == 0 && who(fd, F_GETLK, F_RDLCK, 700, 1).l_type == F_UNLCK);

	/* flock */
	fl_fd = open("f", O_RDWR);
	CHECK("flock", flock(fl_fd, LOCK_EX) == 0);
	CHECK("flock_over_fork", child(flock_shared_by_fork) == 0);
	CHECK("flock_survives_child", child(flock_busy) == 0);
	int dd = dup(fl_fd);
	close(dd);
	CHECK("flock_survives_dup", child(flock_busy) == 0);
	CHECK("flock_child_unlocks", child(flock_unlock_in_child) == 0 && child(flock_free) == 0);
	flock(fl_fd, LOCK_SH);
	int sharer = open("f", O_RDONLY);
	CHECK("flock_shared", flock(sharer, LOCK_SH | LOCK_NB) == 0 && child(flock_free) != 0);
	flock(fl_fd, LOCK_UN);
	close(fl_fd);
	fl_fd = open("f", O_RDWR);
	CHECK_ERR("flock_other_still", flock(fl_fd, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	close(sharer);
	CHECK("flock_all_closed", flock(fl_fd, LOCK_EX | LOCK_NB) == 0);
	p = run(flock_wait);
	hear(pb[0]);
	becomes(p, 'S');
	CHECK("flock_waits", waitpid(p, &st, WNOHANG) == 0);
	close(fl_fd);
	CHECK("flock_got", wait_for(p) == 0);
	CHECK("flock_not_records", lk(fd, F_SETLK, F_WRLCK, 0, 0) == 0 && child(flock_free) == 0);
	lk(fd, F_SETLK, F_UNLCK, 0, 0);

	/* open file descriptions */
	CHECK("ofd", lk(fd, F_OFD_SETLK, F_WRLCK, 600, 10) == 0);
	CHECK("ofd_same_after_fork", child(ofd_same_file) == 0);
	CHECK("ofd_other", child(ofd_other_file) == 0);
	int again = open("f", O_RDWR);
	CHECK_ERR("ofd_same_process", lk(again, F_OFD_SETLK, F_RDLCK, 600, 1), EAGAIN);
	close(again);
	CHECK("ofd_not_dropped_by_close", child(ofd_taken) != 0);
	CHECK("ofd_unlock", lk(fd, F_OFD_SETLK, F_UNLCK, 600, 10) == 0 && child(ofd_taken) == 0);
	{
		struct flock bad = {.l_type = F_RDLCK, .l_pid = 1};
		CHECK_ERR("ofd_pid", fcntl(fd, F_OFD_SETLK, &bad), EINVAL);
	}
	int ro = open("f", O_RDONLY);
	CHECK_ERR("read_only_no_write_lock", lk(ro, F_SETLK, F_WRLCK, 0, 1), EBADF);
	CHECK_ERR("bad_type", lk(fd, F_SETLK, 9, 0, 1), EINVAL);
	CHECK_ERR("bad_start", lk(fd, F_SETLK, F_RDLCK, -1, 1), EINVAL);

	/* many processes that count in a file under a lock */
	int n = 0;
	pwrite(fd, &n, sizeof(n), 0);
	pid_t kids[6];
	for (int k = 0; k < 6; k++) {
		fflush(stdout);
		if (!(kids[k] = fork())) {
			for (int i = 0; i < 100; i++) {
				if (k % 2 ? lk(fd, F_SETLKW, F_WRLCK, 0, 4) : lk(fd, F_SETLKW, F_WRLCK, 0, 0))
					_exit(1);
				int v;
				pread(fd, &v, sizeof(v), 0);
				v++;
				if (i % 10 == 0)
					sched_yield();
				pwrite(fd, &v, sizeof(v), 0);
				lk(fd, F_SETLK, F_UNLCK, 0, 0);
			}
			_exit(0);
		}
	}
	int bad = 0;
	for (int k = 0; k < 6; k++)
		bad |= wait_for(kids[k]);
	pread(fd, &n, sizeof(n), 0);
	CHECK("counted_under_lock", !bad && n == 600);
	unlink("f");
	rmdir(conf_dir());
	return conf_done();
}
