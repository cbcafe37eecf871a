/* SPDX-License-Identifier: ISC */
/* /proc of other processes: directories, states, memory, links, permissions, what is gone; process_vm_readv and its kin. */
#include "child.h"
#include <dirent.h>
#include <sys/resource.h>
#include <sys/uio.h>

/* A file of process p; its length, -1 with errno. */
static ssize_t slurp(pid_t p, const char *name, char *buf, size_t size)
{
	char path[128];
	ssize_t n, all = 0;
	if (p)
		snprintf(path, sizeof(path), "/proc/%d/%s", (int)p, name);
	else
		snprintf(path, sizeof(path), "/proc/%s", name);
	int fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	while (all < (ssize_t)size - 1 && (n = read(fd, buf + all, size - 1 - (size_t)all)) > 0)
		all += n;
	close(fd);
	buf[all] = 0;
	return all;
}
static bool listed(pid_t p)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	bool found = false;
	while ((e = readdir(d)))
		found |= atoi(e->d_name) == p;
	closedir(d);
	return found;
}
static bool line_is(const char *text, const char *key, const char *value)
{
	char want[200];
	snprintf(want, sizeof(want), "\n%s:\t%s\n", key, value);
	return strstr(text, want) || !strncmp(text, want + 1, strlen(want + 1));
}
static bool status_number(pid_t p, const char *key, long want)
{
	char buf[8192], num[32];
	slurp(p, "status", buf, sizeof(buf));
	snprintf(num, sizeof(num), "%ld", want);
	return line_is(buf, key, num);
}

static char shared_secret[64] = "nothing yet";
static int to_child[2], from_child[2];

static void child_main(void)
{
	char c;
	strcpy(shared_secret, "of the child");
	setpgid(0, 0);
	chdir("/usr");
	int fd = open("/dev/zero", O_RDONLY);
	dup2(fd, 77);
	fd = open("/dev/null", O_WRONLY | O_APPEND);
	dup2(fd, 78);
	pthread_setname_np(pthread_self(), "conf child");
	write(from_child[1], "r", 1);
	while (read(to_child[0], &c, 1) == 1) {
		if (c == 'x')
			_exit(3);
		if (c == 's') /* what did somebody write into our memory? */
			write(from_child[1], shared_secret, sizeof(shared_secret));
		if (c == 'f' && !fork()) {
			pause();
			_exit(0);
		}
		if (c == 'f')
			write(from_child[1], "k", 1);
	}
	_exit(4);
}

static void another(pid_t p)
{
	char buf[65536], path[64], link[256], num[32];
	struct stat st;
	ssize_t n;
	int pid, ppid, pgrp, sid;
	char comm[64], state;

	CHECK("listed", listed(p));
	CHECK("own_listed", listed(getpid()));
	slurp(p, "stat", buf, sizeof(buf));
	CHECK("stat_fields",
	      sscanf(buf, "%d (%63[^)]) %c %d %d %d", &pid, comm, &state, &ppid, &pgrp, &sid) == 6);
	CHECK("stat_ids", pid == p && ppid == getpid() && pgrp == p && sid == getsid(0));
	CHECK("stat_comm", !strcmp(comm, "conf child"));
	CHECK("stat_sleeps", becomes(p, 'S'));
	int fields = 0;
	for (char *s = strrchr(buf, ')') + 1; *s; s++)
		fields += *s == ' ';
	SHOW("stat_field_count", "%d", fields);
	slurp(p, "comm", buf, sizeof(buf));
	CHECK("comm", !strcmp(buf, "conf child\n"));
	CHECK("status_ids", status_number(p, "Pid", p) && status_number(p, "PPid", getpid()) &&
				    status_number(p, "Tgid", p));
	CHECK("status_nspgid", status_number(p, "NSpgid", p) && status_number(p, "NSsid", getsid(0)));
	slurp(p, "status", buf, sizeof(buf));
	CHECK("status_name", line_is(buf, "Name", "conf child") && line_is(buf, "Threads", "1"));
	/* a fork has its parent's command line and environment */
	char own[65536];
	n = slurp(p, "cmdline", buf, sizeof(buf));
	CHECK("cmdline",
	      n > 0 && n == slurp(getpid(), "cmdline", own, sizeof(own)) && !memcmp(buf, own, (size_t)n));
	n = slurp(p, "environ", buf, sizeof(buf));
	CHECK("environ", n == slurp(getpid(), "environ", own, sizeof(own)) && !memcmp(buf, own, (size_t)n));
	n = slurp(p, "auxv", buf, sizeof(buf));
	CHECK("auxv", n > 0 && n % 16 == 0 && n == slurp(getpid(), "auxv", own, sizeof(own)) &&
			      !memcmp(buf, own, (size_t)n));
	/* links */
	snprintf(path, sizeof(path), "/proc/%d/cwd", p);
	n = readlink(path, link, sizeof(link));
	CHECK("cwd", n == 4 && !memcmp(link, "/usr", 4));
	char me[256];
	snprintf(path, sizeof(path), "/proc/%d/exe", p);
	n = readlink(path, link, sizeof(link));
	CHECK("exe",
	      n > 0 && n == readlink("/proc/self/exe", me, sizeof(me)) && !memcmp(me, link, (size_t)n));
	snprintf(path, sizeof(path), "/proc/%d/root", p);
	n = readlink(path, link, sizeof(link));
	CHECK("root", n == 1 && link[0] == '/');
	snprintf(path, sizeof(path), "/proc/%d/cwd/bin", p);
	CHECK("through_cwd", stat(path, &st) == 0 && S_ISDIR(st.st_mode));
	/* descriptors */
	snprintf(path, sizeof(path), "/proc/%d/fd/77", p);
	n = readlink(path, link, sizeof(link));
	CHECK("fd_link", n == 9 && !memcmp(link, "/dev/zero", 9));
	CHECK("fd_mode_read", lstat(path, &st) == 0 && (st.st_mode & 0777) == 0500);
	int fd = open(path, O_RDONLY);
	CHECK("fd_opens", fd >= 0 && read(fd, buf, 3) == 3 && !buf[0]);
	close(fd);
	snprintf(path, sizeof(path), "/proc/%d/fd/78", p);
	CHECK("fd_mode_write", lstat(path, &st) == 0 && (st.st_mode & 0777) == 0300);
	snprintf(path, sizeof(path), "/proc/%d/fd/79", p);
	CHECK_ERR("fd_missing", readlink(path, link, sizeof(link)), ENOENT);
	slurp(p, "fdinfo/78", buf, sizeof(buf));
	unsigned flags = 0;
	char *f = strstr(buf, "flags:");
	CHECK("fdinfo", f && sscanf(f, "flags: %o", &flags) == 1 && (flags & O_APPEND) &&
				(flags & O_ACCMODE) == O_WRONLY);
	snprintf(path, sizeof(path), "/proc/%d/fd", p);
	DIR *d = opendir(path);
	struct dirent *e;
	int seen = 0, last = -1, ordered = 1;
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		int v = atoi(e->d_name);
		seen += v == 77 || v == 78;
		ordered &= v > last;
		last = v;
	}
	closedir(d);
	CHECK("fd_list", seen == 2 && ordered);
	/* memory */
	n = slurp(p, "maps", buf, sizeof(buf));
	CHECK("maps", n > 0 && strstr(buf, "[stack]") && strstr(buf, "[vdso]"));
	CHECK("smaps", slurp(p, "smaps", buf, sizeof(buf)) > 0 && strstr(buf, "\nRss:") &&
			       strstr(buf, "\nPss:") && strstr(buf, "VmFlags: rd"));
	CHECK("smaps_rollup", slurp(p, "smaps_rollup", buf, sizeof(buf)) > 0 && strstr(buf, "[rollup]") &&
				      strstr(buf, "Private_Dirty:"));
	long size = 0, rss = 0;
	slurp(p, "statm", buf, sizeof(buf));
	CHECK("statm", sscanf(buf, "%ld %ld", &size, &rss) == 2 && size > 0 && rss > 0 && size >= rss);
	CHECK("limits", slurp(p, "limits", buf, sizeof(buf)) > 0 && !strncmp(buf, "Limit ", 6) &&
				strstr(buf, "Max open files"));
	CHECK("mounts", slurp(p, "mounts", buf, sizeof(buf)) > 0 && strstr(buf, " /proc proc "));
	CHECK("mountinfo", slurp(p, "mountinfo", buf, sizeof(buf)) > 0 && strstr(buf, " - proc "));
	CHECK("io", slurp(p, "io", buf, sizeof(buf)) > 0 && !strncmp(buf, "rchar: ", 7) &&
			    strstr(buf, "\nsyscw: "));
	slurp(p, "oom_score_adj", buf, sizeof(buf));
	slurp(getpid(), "oom_score_adj", own, sizeof(own));
	CHECK("oom_score_adj", !strcmp(buf, own));
	CHECK("oom_score", slurp(p, "oom_score", buf, sizeof(buf)) > 0 && atoi(buf) >= 0);
	CHECK("cgroup", slurp(p, "cgroup", buf, sizeof(buf)) > 0);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", p, p);
	CHECK("task", access(path, R_OK) == 0);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", p, getpid());
	CHECK_ERR("task_of_another", access(path, R_OK), ENOENT);
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", p);
	n = readlink(path, link, sizeof(link));
	CHECK("ns", n > 6 && !memcmp(link, "pid:[", 5));
	snprintf(path, sizeof(path), "/proc/%d", p);
	CHECK("owner", stat(path, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 07777) == 0555);
	/* children, by the thread that made them */
	char c;
	write(to_child[1], "f", 1);
	read(from_child[0], &c, 1);
	snprintf(num, sizeof(num), "task/%d/children", p);
	slurp(p, num, buf, sizeof(buf));
	pid_t g = atoi(buf);
	CHECK("children", g > 0 && status_number(g, "PPid", p));
	kill(g, SIGKILL);
	CHECK("grandchild_zombie", becomes(g, 'Z'));
	snprintf(num, sizeof(num), "task/%d/children", getpid());
	slurp(getpid(), num, buf, sizeof(buf));
	CHECK("own_children", atoi(buf) == p);
}

static void memory(pid_t p)
{
	char buf[64] = "", path[64];
	struct iovec here = {buf, sizeof(shared_secret)}, there = {shared_secret, sizeof(shared_secret)};
	CHECK("vm_readv", process_vm_readv(p, &here, 1, &there, 1, 0) == sizeof(shared_secret) &&
				  !strcmp(buf, "of the child"));
	CHECK("own_is_untouched", !strcmp(shared_secret, "nothing yet"));
	strcpy(buf, "from the parent");
	CHECK("vm_writev", process_vm_writev(p, &here, 1, &there, 1, 0) == sizeof(shared_secret));
	char back[64] = "";
	write(to_child[1], "s", 1);
	read(from_child[0], back, sizeof(back));
	CHECK("child_sees_it", !strcmp(back, "from the parent"));
	CHECK("parent_does_not", !strcmp(shared_secret, "nothing yet"));
	/* many pieces */
	struct iovec h2[2] = {{buf, 5}, {buf + 5, 59}},
		     t2[3] = {{shared_secret, 1}, {shared_secret + 1, 0}, {shared_secret + 1, 63}};
	memset(buf, 0, sizeof(buf));
	CHECK("vm_readv_pieces",
	      process_vm_readv(p, h2, 2, t2, 3, 0) == 64 && !strcmp(buf, "from the parent"));
	struct iovec bad = {(void *)16, 8};
	CHECK_ERR("vm_readv_nothing_there", process_vm_readv(p, &here, 1, &bad, 1, 0), EFAULT);
	CHECK_ERR("vm_readv_flags", process_vm_readv(p, &here, 1, &there, 1, 1), EINVAL);
	CHECK_ERR("vm_readv_nobody", process_vm_readv(99999999, &here, 1, &there, 1, 0), ESRCH);
	struct iovec text = {(void *)(uintptr_t)memory, 8};
	CHECK_ERR("vm_writev_read_only", process_vm_writev(p, &here, 1, &text, 1, 0), EFAULT);
	CHECK("vm_readv_partial",
	      process_vm_readv(p, &here, 1, (struct iovec[]){{shared_secret, 10}, {(void *)16, 54}}, 2, 0) ==
		      10);

	snprintf(path, sizeof(path), "/proc/%d/mem", p);
	int fd = open(path, O_RDWR);
	memset(buf, 0, sizeof(buf));
	CHECK("mem_read", fd >= 0 && pread(fd, buf, 15, (off_t)(uintptr_t)shared_secret) == 15 &&
				  !memcmp(buf, "from the parent", 15));
	CHECK("mem_write", pwrite(fd, "by mem", 7, (off_t)(uintptr_t)shared_secret) == 7);
	CHECK_ERR("mem_hole", pread(fd, buf, 8, 16), EIO);
	CHECK("mem_seek",
	      lseek(fd, (off_t)(uintptr_t)shared_secret, SEEK_SET) == (off_t)(uintptr_t)shared_secret &&
		      read(fd, buf, 2) == 2 && !memcmp(buf, "by", 2));
	close(fd);
	write(to_child[1], "s", 1);
	read(from_child[0], back, sizeof(back));
	CHECK("child_sees_mem", !strcmp(back, "by mem"));
	CHECK("kcmp_vm_differs", syscall(SYS_kcmp, getpid(), p, 1, 0, 0) != 0);
	CHECK("kcmp_file_same", syscall(SYS_kcmp, getpid(), p, 0, to_child[0], to_child[0]) == 0);
	CHECK("kcmp_file_other", syscall(SYS_kcmp, getpid(), p, 0, to_child[0], to_child[1]) != 0);
}

static void the_end(pid_t p)
{
	char buf[8192], path[64];
	int st;
	snprintf(path, sizeof(path), "/proc/%d/stat", p);
	int fd = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "/proc/%d", p);
	int dir = open(path, O_RDONLY | O_DIRECTORY);
	write(to_child[1], "x", 1);
	siginfo_t si;
	waitid(P_PID, p, &si, WEXITED | WNOWAIT);
	CHECK("zombie", state_of(p) == 'Z' && listed(p));
	slurp(p, "status", buf, sizeof(buf));
	CHECK("zombie_status", line_is(buf, "State", "Z (zombie)") && line_is(buf, "Name", "conf child") &&
				       !strstr(buf, "VmSize"));
	CHECK("zombie_cmdline", slurp(p, "cmdline", buf, sizeof(buf)) == 0);
	CHECK("zombie_maps", slurp(p, "maps", buf, sizeof(buf)) == 0);
	snprintf(path, sizeof(path), "/proc/%d/exe", p);
	CHECK_ERR("zombie_exe", readlink(path, buf, sizeof(buf)), ENOENT);
	snprintf(path, sizeof(path), "/proc/%d/cwd", p);
	CHECK_ERR("zombie_cwd", readlink(path, buf, sizeof(buf)), ENOENT);
	snprintf(path, sizeof(path), "/proc/%d/fd/77", p);
	CHECK_ERR("zombie_fd", readlink(path, buf, sizeof(buf)), ENOENT);
	CHECK("zombie_statm", slurp(p, "statm", buf, sizeof(buf)) > 0 && !strcmp(buf, "0 0 0 0 0 0 0\n"));
	waitpid(p, &st, 0);
	CHECK("end", WIFEXITED(st) && WEXITSTATUS(st) == 3);
	CHECK("not_listed", !listed(p));
	CHECK_ERR("gone", open(path, O_RDONLY), ENOENT);
	CHECK_ERR("gone_read", read(fd, buf, 10), ESRCH);
	CHECK("gone_openat", openat(dir, "stat", O_RDONLY) == -1 && (errno == ENOENT || errno == ESRCH));
	close(fd);
	close(dir);
}

/* Somebody else's: what is open to all and what is not. */
static void permissions(void)
{
	int st, fds[2];
	char c, path[64], buf[256];
	if (geteuid()) {
		SHOW("permissions", "%s", "not root");
		return;
	}
	pipe(fds);
	pid_t root = fork();
	if (!root) {
		pause();
		_exit(0);
	}
	fflush(stdout);
	pid_t k = fork();
	if (!k) {
		conf_failures = 0;
		setgid(65534);
		setuid(65534);
		snprintf(path, sizeof(path), "/proc/%d/stat", root);
		CHECK("other_stat", access(path, R_OK) == 0 && slurp(root, "stat", buf, sizeof(buf)) > 0);
		CHECK("other_status", slurp(root, "status", buf, sizeof(buf)) > 0);
		CHECK("other_cmdline", slurp(root, "cmdline", buf, sizeof(buf)) > 0);
		CHECK("other_limits", slurp(root, "limits", buf, sizeof(buf)) > 0);
		CHECK_ERR("other_environ", slurp(root, "environ", buf, sizeof(buf)), EACCES);
		CHECK_ERR("other_maps", slurp(root, "maps", buf, sizeof(buf)), EACCES);
		CHECK_ERR("other_io", slurp(root, "io", buf, sizeof(buf)), EACCES);
		snprintf(path, sizeof(path), "/proc/%d/mem", root);
		CHECK_ERR("other_mem", open(path, O_RDONLY), EACCES);
		snprintf(path, sizeof(path), "/proc/%d/exe", root);
		CHECK_ERR("other_exe", readlink(path, buf, sizeof(buf)), EACCES);
		snprintf(path, sizeof(path), "/proc/%d/cwd", root);
		CHECK_ERR("other_cwd", readlink(path, buf, sizeof(buf)), EACCES);
		snprintf(path, sizeof(path), "/proc/%d/fd", root);
		CHECK_ERR("other_fd", open(path, O_RDONLY | O_DIRECTORY), EACCES);
		struct iovec v = {buf, 8};
		CHECK_ERR("other_vm_readv", process_vm_readv(root, &v, 1, &v, 1, 0), EPERM);
		fflush(stdout);
		_exit(conf_failures ? 1 : 0);
	}
	waitpid(k, &st, 0);
	CHECK("permissions_child", st == 0);
	kill(root, SIGKILL);
	waitpid(root, NULL, 0);
}

static void *idle(void *arg)
{
	(void)arg;
	pause();
	return NULL;
}

static void threads(void)
{
	int fds[2], n = 0, st;
	char c, path[64];
	pipe(fds);
	pid_t p = fork();
	if (!p) {
		pthread_t t;
		for (int i = 0; i < 3; i++)
			pthread_create(&t, NULL, idle, NULL);
		write(fds[1], "r", 1);
		pause();
	}
	read(fds[0], &c, 1);
	snprintf(path, sizeof(path), "/proc/%d/task", p);
	DIR *d = opendir(path);
	struct dirent *e;
	pid_t other = 0;
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			n++;
			other = atoi(e->d_name) != p ? atoi(e->d_name) : other;
		}
	closedir(d);
	SHOW("tasks", "%d", n);
	CHECK("threads_in_status", status_number(p, "Threads", 4));
	CHECK("thread_not_listed_but_there",
	      !listed(other) && status_number(other, "Tgid", p) && status_number(other, "Pid", p) == 0);
	char name[64], buf[4096], num[32];
	snprintf(name, sizeof(name), "task/%d/status", other);
	slurp(p, name, buf, sizeof(buf));
	snprintf(num, sizeof(num), "%d", other);
	CHECK("task_status", line_is(buf, "Pid", num));
	kill(p, SIGKILL);
	waitpid(p, &st, 0);
}

/* A program that starts: what it was is nobody's. */
static void executed(const char *self)
{
	int fds[2], st;
	char c, buf[4096];
	pipe(fds);
	pid_t p = fork();
	if (!p) {
		dup2(fds[1], 1);
		execle(self, "a title", "wait", NULL, (char *[]){"ONE=1", "TWO=2", NULL});
		_exit(1);
	}
	read(fds[0], &c, 1);
	ssize_t n = slurp(p, "cmdline", buf, sizeof(buf));
	CHECK("exec_cmdline", n == 13 && !memcmp(buf, "a title\0wait", 13));
	n = slurp(p, "environ", buf, sizeof(buf));
	CHECK("exec_environ", n == 12 && !memcmp(buf, "ONE=1\0TWO=2", 12));
	slurp(p, "comm", buf, sizeof(buf));
	CHECK("exec_comm", !strncmp(buf, "procpid", 7) || !strncmp(buf, "exe", 3));
	kill(p, SIGKILL);
	waitpid(p, &st, 0);
}

int main(int argc, char **argv)
{
	char buf[8192];
	int a, b, last;
	if (argc > 1) {
		write(1, "x", 1);
		for (;;)
			pause();
	}
	pipe(to_child);
	pipe(from_child);
	pid_t p = fork();
	if (!p)
		child_main();
	char c;
	read(from_child[0], &c, 1);
	/* self is who looks */
	char link[64] = "";
	readlink("/proc/self", link, sizeof(link) - 1);
	CHECK("self", atoi(link) == getpid());
	pid_t k = fork();
	if (!k) {
		memset(link, 0, sizeof(link));
		readlink("/proc/self", link, sizeof(link) - 1);
		_exit(atoi(link) == getpid() && status_number(getpid(), "PPid", getppid()) ? 0 : 1);
	}
	int st;
	waitpid(k, &st, 0);
	CHECK("self_of_child", st == 0);
	another(p);
	memory(p);
	the_end(p);
	permissions();
	threads();
	executed("/proc/self/exe");
	CHECK("process_1",
	      slurp(1, "stat", buf, sizeof(buf)) > 0 && listed(1) && status_number(1, "PPid", 0));
	slurp(0, "loadavg", buf, sizeof(buf));
	CHECK("loadavg", sscanf(buf, "%*f %*f %*f %d/%d %d", &a, &b, &last) == 3 && a >= 1 && b >= a &&
				 last >= getpid());
	slurp(0, "stat", buf, sizeof(buf));
	char *f = strstr(buf, "\nprocesses ");
	CHECK("stat_processes",
	      f && atoi(f + 11) >= 3 && strstr(buf, "\nprocs_running ") && !strncmp(buf, "cpu  ", 5));
	CHECK("no_such_pid", access("/proc/99999999", F_OK) == -1 && errno == ENOENT);
	CHECK("not_a_number", access("/proc/0", F_OK) == -1 && access("/proc/007", F_OK) == -1);
	return conf_done();
}
