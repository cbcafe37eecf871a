/* SPDX-License-Identifier: ISC */
/* identity, limits, uname, sysinfo, prctl, capabilities, random numbers, /proc, /dev. */
#include "conf.h"
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <termios.h>

static bool file_has(const char *path, const char *what)
{
	char b[65536];
	int fd = open(path, O_RDONLY);
	ssize_t n = 0, k;
	while (fd >= 0 && n < (ssize_t)sizeof(b) - 1 && (k = read(fd, b + n, sizeof(b) - 1 - (size_t)n)) > 0)
		n += k;
	if (fd >= 0)
		close(fd);
	b[n > 0 ? n : 0] = 0;
	return fd >= 0 && strstr(b, what);
}

int main(int argc, char **argv)
{
	(void)argc;
	CHECK("ids", getuid() == geteuid() && getgid() == getegid());
	uid_t r, e, s;
	CHECK("getresuid", getresuid(&r, &e, &s) == 0 && r == e && e == s);
	CHECK("setuid_same", setuid(getuid()) == 0);
	CHECK("getgroups", getgroups(0, NULL) >= 0);
	CHECK("getsid", getsid(0) >= 0 && getpgid(0) >= 0);
	struct utsname u;
	CHECK("uname",
	      uname(&u) == 0 && !strcmp(u.sysname, "Linux") && !strcmp(u.machine, "x86_64") && u.nodename[0]);
	struct sysinfo si;
	CHECK("sysinfo", sysinfo(&si) == 0 && si.totalram > 0 && si.mem_unit >= 1);
	struct rlimit rl;
	CHECK("getrlimit", getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur >= 256);
	rl.rlim_cur = 64;
	CHECK("setrlimit", setrlimit(RLIMIT_NOFILE, &rl) == 0);
	int fds[100], k = 0;
	while (k < 100 && (fds[k] = open("/dev/null", O_RDONLY)) >= 0)
		k++;
	CHECK("emfile", k < 64 && errno == EMFILE);
	while (k > 0)
		close(fds[--k]);
	rl.rlim_cur = rl.rlim_max + 1;
	CHECK_ERR("rlimit_inval",
		  rl.rlim_max == RLIM_INFINITY ? (errno = EINVAL, -1) : setrlimit(RLIMIT_NOFILE, &rl),
		  EINVAL);
	CHECK("prctl_name", prctl(PR_SET_NAME, "conf-name-that-is-long") == 0);
	char nm[17] = {0};
	prctl(PR_GET_NAME, nm);
	SHOW("comm", "%s", nm);
	CHECK("proc_comm", file_has("/proc/self/comm", "conf-name-that-"));
	CHECK("dumpable", prctl(PR_GET_DUMPABLE) == 1);
	CHECK_ERR("prctl_bad", prctl(12345, 0, 0, 0, 0), EINVAL);
	struct __user_cap_header_struct ch = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct cd[2];
	CHECK("capget", syscall(SYS_capget, &ch, cd) == 0);
	unsigned char a[64] = {0}, b[64] = {0};
	CHECK("getrandom",
	      getrandom(a, 64, 0) == 64 && getrandom(b, 64, GRND_NONBLOCK) == 64 && memcmp(a, b, 64));
	CHECK_ERR("getrandom_flags", getrandom(a, 64, 0x80), EINVAL);
	CHECK("at_random",
	      getauxval(AT_RANDOM) && getauxval(AT_PAGESZ) == 4096 && getauxval(AT_SYSINFO_EHDR));
	CHECK("at_execfn", getauxval(AT_EXECFN) != 0 && getauxval(AT_SECURE) == 0);
	int fd = open("/dev/urandom", O_RDONLY);
	CHECK("urandom", read(fd, a, 64) == 64 && read(fd, b, 64) == 64 && memcmp(a, b, 64));
	fd = open("/dev/null", O_RDWR);
	CHECK("null", read(fd, a, 10) == 0 && write(fd, a, 10) == 10);
	fd = open("/dev/zero", O_RDWR);
	memset(a, 1, 64);
	CHECK("zero", read(fd, a, 64) == 64 && a[0] == 0 && a[63] == 0);
	char *z = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK("mmap_zero", z != MAP_FAILED && z[100] == 0);
	fd = open("/dev/full", O_RDWR);
	CHECK_ERR("full", write(fd, a, 1), ENOSPC);
	struct stat st;
	CHECK("null_rdev", stat("/dev/null", &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == 0x103);
	/* /proc */
	fd = open("/proc/self/oom_score_adj", O_RDWR);
	CHECK("oom_score_adj", write(fd, "500\n", 4) == 4 && file_has("/proc/self/oom_score_adj", "500\n"));
	CHECK_ERR("oom_score_adj_range", write(fd, "1001", 4), EINVAL);
	CHECK_ERR("oom_score_adj_text", write(fd, "x", 1), EINVAL);
	close(fd);
	fd = open("/dev/full", O_RDWR); /* shown below */
	char ex[512], self[512];
	ssize_t n = readlink("/proc/self/exe", ex, sizeof(ex) - 1);
	ex[n > 0 ? n : 0] = 0;
	CHECK("proc_exe",
	      n > 0 && ex[0] == '/' && stat(ex, &st) == 0 && realpath(argv[0], self) && !strcmp(ex, self));
	CHECK("proc_cmdline", file_has("/proc/self/cmdline", "ident"));
	CHECK("proc_status",
	      file_has("/proc/self/status", "VmRSS:") && file_has("/proc/self/status", "Threads:\t1"));
	CHECK("proc_maps", file_has("/proc/self/maps", "[stack]") && file_has("/proc/self/maps", "ident"));
	CHECK("proc_stat", file_has("/proc/self/stat", "(conf-name-that-"));
	CHECK("proc_meminfo", file_has("/proc/meminfo", "MemTotal:"));
	CHECK("proc_cpuinfo", file_has("/proc/cpuinfo", "processor\t: 0"));
	CHECK("proc_mounts", file_has("/proc/mounts", " / "));
	CHECK("proc_sys", file_has("/proc/sys/kernel/ostype", "Linux"));
	char link[64];
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, ex, sizeof(ex) - 1);
	ex[n > 0 ? n : 0] = 0;
	SHOW("proc_fd", "%s", ex);
	int again = open(link, O_RDWR);
	CHECK("reopen_fd", again >= 0);
	CHECK("fdinfo",
	      (snprintf(link, sizeof(link), "/proc/self/fdinfo/%d", fd), file_has(link, "pos:\t0")));
	CHECK("dev_fd",
	      open("/dev/fd/0", O_RDONLY) >= 0 || errno == ENXIO || errno == ENOENT || errno == EACCES);
	CHECK_ERR("proc_enoent", open("/proc/self/nothing", O_RDONLY), ENOENT);
	CHECK("nprocs", sysconf(_SC_NPROCESSORS_ONLN) >= 1);
	struct termios t;
	CHECK_ERR("notty", tcgetattr(fd, &t), ENOTTY);
	/* pseudo-terminal */
	int m = posix_openpt(O_RDWR | O_NOCTTY);
	CHECK("ptmx", m >= 0 && grantpt(m) == 0 && unlockpt(m) == 0);
	int sl = open(ptsname(m), O_RDWR | O_NOCTTY);
	CHECK("pts", sl >= 0 && isatty(sl));
	char buf[100];
	CHECK("pts_canon",
	      write(m, "line\n", 5) == 5 && read(sl, buf, 100) == 5 && !memcmp(buf, "line\n", 5));
	CHECK("pts_echo", read(m, buf, 100) == 6 && !memcmp(buf, "line\r\n", 6));
	CHECK("pts_onlcr", write(sl, "a\n", 2) == 2 && read(m, buf, 100) == 3 && !memcmp(buf, "a\r\n", 3));
	struct winsize ws = {30, 90, 0, 0}, w2;
	CHECK("winsize", ioctl(m, TIOCSWINSZ, &ws) == 0 && ioctl(sl, TIOCGWINSZ, &w2) == 0 &&
				 w2.ws_row == 30 && w2.ws_col == 90);
	tcgetattr(sl, &t);
	cfmakeraw(&t);
	CHECK("raw", tcsetattr(sl, TCSANOW, &t) == 0 && write(m, "q", 1) == 1 && read(sl, buf, 10) == 1);
	return conf_done();
}
