/* SPDX-License-Identifier: ISC */
/* fork and clone: what is copied, what is shared, what is not inherited; which flags go together. */
#include "child.h"
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

/* The condition holds in a child. */
#define IN_CHILD(cond) (CHILD(_exit(!(cond))) == 0)

static int data = 1;
static __thread int tls = 5;
static volatile int hits;

static void *shared(size_t n)
{
	return mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void on_signal(int sig)
{
	hits++;
}

static void ids(void)
{
	pid_t me = getpid(), got;
	int p[2];

	pipe(p);
	pid_t c = fork();
	if (!c) {
		pid_t v[3] = {getpid(), getppid(), (pid_t)syscall(SYS_gettid)};
		write(p[1], v, sizeof(v));
		_exit(0);
	}
	pid_t v[3];
	read(p[0], v, sizeof(v));
	CHECK("child_pid", v[0] == c && c != me);
	CHECK("child_ppid", v[1] == me);
	CHECK("child_tid_is_pid", v[2] == c);
	got = waitpid(c, NULL, 0);
	CHECK("reaped", got == c);
	CHECK_ERR("gone", kill(c, 0), ESRCH);
	close(p[0]);
	close(p[1]);
	CHECK("pgrp", IN_CHILD(getpgrp() == getpgid(getppid()) && getsid(0) == getsid(getppid())));
}

/* --- memory ------------------------------------------------------------------ */

static void memory(void)
{
	int on_stack = 3, *heap = malloc(sizeof(int)), *sh = shared(4096);
	size_t big = 12 << 20;
	char *m = mmap(NULL, big, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool same = true;

	*heap = 4;
	*sh = 0;
	CHECK("private_values", IN_CHILD(data == 1 && on_stack == 3 && *heap == 4 && tls == 5));
	CHILD(data = on_stack = *heap = tls = 99; *sh = 77);
	CHECK("child_stores_stay_there", data == 1 && on_stack == 3 && *heap == 4 && tls == 5);
	CHECK("shared_store_seen", *sh == 77);
	memset(m, 1, big);
	for (size_t i = 0; i < big; i += 4096)
		*(size_t *)(m + i) = i;
	CHECK("big_copy", IN_CHILD(({
		      bool ok = true;
		      for (size_t i = 0; i < big; i += 4096)
			      ok &= *(size_t *)(m + i) == i && m[i + 4095] == 1;
		      memset(m, 2, big);
		      for (size_t i = 0; i < big; i += 512)
			      ok &= m[i] == 2;
		      ok;
	      })));
	for (size_t i = 0; i < big; i += 4096)
		same &= *(size_t *)(m + i) == i && m[i + 4095] == 1;
	CHECK("big_unchanged", same);
	/* The parent stores while the child lives. */
	int go[2], back[2];
	char c;
	pipe(go);
	pipe(back);
	pid_t p = fork();
	if (!p) {
		write(back[1], "x", 1);
		read(go[0], &c, 1);
		bool ok = true;
		for (size_t i = 0; i < big; i += 4096)
			ok &= *(size_t *)(m + i) == i;
		_exit(!ok);
	}
	read(back[0], &c, 1);
	memset(m, 9, big);
	write(go[1], "x", 1);
	int s = -1;
	waitpid(p, &s, 0);
	CHECK("parent_stores_stay_here", s == 0);
	CHECK("none_opened_by_child", IN_CHILD(mprotect(m, 4096, PROT_NONE) == 0 &&
					       mprotect(m, 4096, PROT_READ | PROT_WRITE) == 0 && m[5] == 9));
	mprotect(m + 8192, 4096, PROT_NONE);
	CHECK("none_stays_none", WTERMSIG(CHILD(m[8192] = 1)) == SIGSEGV);
	CHECK("none_in_child_opened", IN_CHILD(mprotect(m + 8192, 4096, PROT_READ | PROT_WRITE) == 0 &&
					       (m[8193] == 9 && (m[8193] = 8))));
	mprotect(m + 8192, 4096, PROT_READ | PROT_WRITE);
	CHECK("opened_copy_is_own", m[8193] == 9);
	CHECK("unmap_in_child", IN_CHILD(munmap(m, big) == 0) && m[0] == 9);
	madvise(m + 16384, 4096, MADV_DONTFORK);
	CHECK("dontfork", WTERMSIG(CHILD(m[16384] = 1)) == SIGSEGV && m[16384] == 9);
	madvise(m + 32768, 4096, MADV_WIPEONFORK);
	CHECK("wipeonfork", IN_CHILD(m[32768] == 0 && m[36864] == 9) && m[32768] == 9);
	CHECK("wipeonfork_grandchild", IN_CHILD(m[32768] == 0 && (m[32768] = 4) && IN_CHILD(m[32768] == 0)));
	CHECK("brk_in_child", IN_CHILD(({
		      char *b = sbrk(65536);
		      b != (void *)-1 && (b[60000] = 3);
	      })));
	munmap(m, big);
	munmap(sh, 4096);
	free(heap);
}

static void file_memory(void)
{
	conf_dir();
	int fd = open("map", O_CREAT | O_RDWR, 0600);
	ftruncate(fd, 8192);
	char *sh = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	char *pr = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	sh[0] = 1;
	pr[4096] = 2;
	CHECK("file_shared", IN_CHILD(sh[0] == 1 && (sh[1] = 5)) && sh[1] == 5);
	CHECK("file_private",
	      IN_CHILD(pr[4096] == 2 && (pr[4096] = 6) && (pr[1] = 6)) && pr[4096] == 2 && pr[1] == 5);
	munmap(sh, 8192);
	munmap(pr, 8192);
	close(fd);
	unlink("map");
}

/* --- descriptors, directory ------------------------------------------------------ */

static void files(void)
{
	conf_dir();
	int fd = open("f", O_CREAT | O_RDWR, 0600);
	write(fd, "abcdefgh", 8);
	lseek(fd, 2, SEEK_SET);
	CHILD(lseek(fd, 3, SEEK_CUR));
	CHECK("offset_shared", lseek(fd, 0, SEEK_CUR) == 5);
	CHILD(fcntl(fd, F_SETFL, O_APPEND));
	CHECK("status_flags_shared", fcntl(fd, F_GETFL) & O_APPEND);
	CHILD(fcntl(fd, F_SETFD, FD_CLOEXEC));
	CHECK("cloexec_not_shared", fcntl(fd, F_GETFD) == 0);
	CHILD(close(fd));
	CHECK("close_not_shared", fcntl(fd, F_GETFD) == 0);
	mkdir("sub", 0700);
	CHILD(chdir("sub"));
	CHECK("cwd_not_shared", access("sub", F_OK) == 0);
	umask(022);
	CHILD(umask(077));
	CHECK("umask_not_shared", umask(022) == 022);
	int p[2];
	char c;
	pipe(p);
	pid_t k = fork();
	if (!k) {
		close(p[0]);
		usleep(20000);
		_exit(0);
	}
	close(p[1]);
	CHECK("eof_when_child_ends", read(p[0], &c, 1) == 0);
	waitpid(k, NULL, 0);
	close(p[0]);
	/* Record locks are the process's own. */
	struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 4};
	CHECK("lock", fcntl(fd, F_SETLK, &l) == 0);
	CHECK("lock_not_inherited", IN_CHILD(fcntl(fd, F_SETLK, &l) == -1 && errno == EAGAIN));
	struct flock q = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 6, .l_len = 1};
	CHILD(fcntl(fd, F_SETLK, &q));
	CHECK("lock_gone_with_process", IN_CHILD(fcntl(fd, F_SETLK, &q) == 0));
	close(fd);
	unlink("f");
	rmdir("sub");
}

/* --- signals and timers ------------------------------------------------------------- */

static void signals(void)
{
	sigset_t m, o;
	stack_t st = {.ss_sp = malloc(65536), .ss_size = 65536}, got;
	struct itimerval it = {{0}, {100, 0}};
	timer_t t;
	struct itimerspec ts = {{0}, {100, 0}};

	signal(SIGUSR1, on_signal);
	sigemptyset(&m);
	sigaddset(&m, SIGUSR2);
	sigprocmask(SIG_BLOCK, &m, &o);
	hits = 0;
	CHECK("handler_inherited", IN_CHILD(raise(SIGUSR1) == 0 && hits == 1) && hits == 0);
	CHECK("mask_inherited", IN_CHILD(sigprocmask(SIG_BLOCK, NULL, &m) == 0 && sigismember(&m, SIGUSR2)));
	CHILD(signal(SIGUSR1, SIG_IGN));
	raise(SIGUSR1);
	CHECK("handler_not_shared", hits == 1);
	kill(getpid(), SIGUSR2);
	CHECK("pending_not_inherited", IN_CHILD(sigpending(&m) == 0 && !sigismember(&m, SIGUSR2)));
	CHECK("pending_kept", sigpending(&m) == 0 && sigismember(&m, SIGUSR2));
	signal(SIGUSR2, SIG_IGN);
	sigprocmask(SIG_SETMASK, &o, NULL);
	signal(SIGUSR2, SIG_DFL);
	sigaltstack(&st, NULL);
	CHECK("altstack_inherited",
	      IN_CHILD(sigaltstack(NULL, &got) == 0 && got.ss_sp == st.ss_sp && !got.ss_flags));
	st.ss_flags = SS_DISABLE;
	sigaltstack(&st, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
	CHECK("itimer_not_inherited", IN_CHILD(getitimer(ITIMER_REAL, &it) == 0 && !it.it_value.tv_sec));
	CHECK("itimer_kept", getitimer(ITIMER_REAL, &it) == 0 && it.it_value.tv_sec > 90);
	CHECK("alarm_of_child_ends_with_it", IN_CHILD(alarm(1) == 0));
	memset(&it, 0, sizeof(it));
	setitimer(ITIMER_REAL, &it, NULL);
	timer_create(CLOCK_MONOTONIC, NULL, &t);
	timer_settime(t, 0, &ts, NULL);
	CHECK("timer_not_inherited", IN_CHILD(timer_gettime(t, &ts) == -1 && errno == EINVAL));
	CHECK("timer_kept", timer_gettime(t, &ts) == 0 && ts.it_value.tv_sec > 90);
	timer_delete(t);
	signal(SIGUSR1, SIG_DFL);
}

/* --- attributes ------------------------------------------------------------------------ */

static void attributes(void)
{
	char name[16] = "", want[16];
	int sig = -1, sub = -1;
	struct rlimit l = {123, 456}, g;

	prctl(PR_SET_NAME, "conf-fork");
	CHECK("comm_inherited", IN_CHILD(prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "conf-fork")));
	CHECK("nice_inherited", IN_CHILD(nice(3) == 3 && IN_CHILD(getpriority(PRIO_PROCESS, 0) == 3)) &&
					getpriority(PRIO_PROCESS, 0) == 0);
	CHECK("pdeathsig_cleared", IN_CHILD(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0 &&
					    IN_CHILD(prctl(PR_GET_PDEATHSIG, &sig) == 0 && sig == 0)));
	CHECK("subreaper_not_inherited",
	      IN_CHILD(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 &&
		       IN_CHILD(prctl(PR_GET_CHILD_SUBREAPER, &sub) == 0 && sub == 0)));
	CHECK("no_new_privs_inherited", IN_CHILD(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
						 IN_CHILD(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)));
	CHECK("rlimit_inherited", IN_CHILD(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}) == 0 &&
					   IN_CHILD(getrlimit(RLIMIT_CORE, &g) == 0 && g.rlim_max == 0)));
	CHECK("cpu_time_starts_anew", IN_CHILD(({
		      struct rusage ru;
		      getrusage(RUSAGE_SELF, &ru);
		      ru.ru_utime.tv_sec + ru.ru_stime.tv_sec == 0 && ru.ru_maxrss > 0;
	      })));
	CHECK("ids_inherited", IN_CHILD(setgid(123) == 0 && setuid(124) == 0 &&
					IN_CHILD(getuid() == 124 && geteuid() == 124 && getgid() == 123)));
}

static void registers(void)
{
	double d = 1.0 / 3.0, back;
	unsigned csr = __builtin_ia32_stmxcsr();
	__builtin_ia32_ldmxcsr(csr | 0x4000);
	CHECK("rounding_inherited", IN_CHILD((__builtin_ia32_stmxcsr() & 0x6000) == 0x4000));
	__builtin_ia32_ldmxcsr(csr);
	__asm__ volatile("movsd %1, %%xmm13\n\tmov $57, %%eax\n\tsyscall\n\ttest %%eax, %%eax\n\tjnz 1f\n\t"
			 "movsd %%xmm13, %0\n\tucomisd %1, %%xmm13\n\tsetne %%dil\n\tmovzbl %%dil, %%edi\n\t"
			 "mov $231, %%eax\n\tsyscall\n1:\tmovsd %%xmm13, %0"
			 : "=m"(back)
			 : "m"(d)
			 : "rax", "rcx", "r11", "rdi", "xmm13", "memory");
	int s = -1;
	CHECK("xmm_in_child", wait(&s) > 0 && s == 0);
	CHECK("xmm_in_parent", back == d);
}

/* --- threads -------------------------------------------------------------------------------- */

static volatile long counter;
static volatile int stop;

static void *count_up(void *a)
{
	while (!stop)
		counter++;
	return NULL;
}

static void *fork_here(void *a)
{
	pid_t p = fork();
	if (!p) {
		/* Only this thread is there: it is the first one now, with its own thread-local storage. */
		long c = counter;
		usleep(20000);
		_exit(counter != c || getpid() != (pid_t)syscall(SYS_gettid) || tls != 42);
	}
	int s = -1;
	waitpid(p, &s, 0);
	return (void *)(long)s;
}

static void *fork_from_thread(void *a)
{
	tls = 42;
	return fork_here(a);
}

static int before, after_parent, after_child;
static void at_before(void)
{
	before++;
}
static void at_parent(void)
{
	after_parent++;
}
static void at_child(void)
{
	after_child++;
}

static void threads(void)
{
	pthread_t t, f;
	void *r;

	stop = 0;
	pthread_create(&t, NULL, count_up, NULL);
	pthread_create(&f, NULL, fork_from_thread, NULL);
	pthread_join(f, &r);
	CHECK("fork_from_thread", r == NULL);
	stop = 1;
	pthread_join(t, NULL);
	pthread_atfork(at_before, at_parent, at_child);
	CHECK("atfork", IN_CHILD(before == 1 && after_child == 1 && !after_parent) && after_parent == 1 &&
				!after_child);
	CHECK("threads_in_child", IN_CHILD(({
		      pthread_t x;
		      int e = pthread_create(&x, NULL, fork_here, NULL);
		      tls = 42;
		      e == 0 && pthread_join(x, &r) == 0;
	      })));
}

/* --- between processes -------------------------------------------------------------------------- */

static void sync_shared(void)
{
	struct s {
		pthread_mutex_t m, robust;
		pthread_cond_t c;
		sem_t sem;
		int word, n;
	} *s = shared(4096);
	pthread_mutexattr_t ma;
	pthread_condattr_t ca;

	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&s->m, &ma);
	pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&s->robust, &ma);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_cond_init(&s->c, &ca);
	sem_init(&s->sem, 1, 0);
	for (int i = 0; i < 4; i++)
		if (!fork()) {
			for (int k = 0; k < 500; k++) {
				pthread_mutex_lock(&s->m);
				s->n++;
				if (k % 50 == 0)
					sched_yield();
				pthread_mutex_unlock(&s->m);
			}
			sem_post(&s->sem);
			_exit(0);
		}
	for (int i = 0; i < 4; i++)
		sem_wait(&s->sem);
	CHECK("mutex_between", s->n == 2000);
	while (wait(NULL) > 0)
		;
	pid_t p = fork();
	if (!p) {
		pthread_mutex_lock(&s->m);
		while (!s->word)
			pthread_cond_wait(&s->c, &s->m);
		pthread_mutex_unlock(&s->m);
		_exit(9);
	}
	usleep(20000);
	pthread_mutex_lock(&s->m);
	s->word = 1;
	pthread_cond_broadcast(&s->c);
	pthread_mutex_unlock(&s->m);
	int st = -1;
	waitpid(p, &st, 0);
	CHECK("cond_between", WEXITSTATUS(st) == 9);
	CHILD(pthread_mutex_lock(&s->robust));
	CHECK("robust_owner_died", pthread_mutex_lock(&s->robust) == EOWNERDEAD);
	CHECK("robust_consistent",
	      pthread_mutex_consistent(&s->robust) == 0 && pthread_mutex_unlock(&s->robust) == 0);
	p = fork();
	if (!p) {
		pthread_mutex_lock(&s->robust);
		for (;;)
			pause();
	}
	becomes(p, 'S');
	kill(p, SIGKILL);
	CHECK("robust_owner_killed", pthread_mutex_lock(&s->robust) == EOWNERDEAD);
	waitpid(p, NULL, 0);
	munmap(s, 4096);
}

static void many(void)
{
	int sum = 0, s, p[2];
	char c;

	pipe(p);
	for (int i = 0; i < 64; i++)
		if (!fork()) {
			close(p[1]);
			read(p[0], &c, 1);
			_exit(i);
		}
	close(p[1]);
	close(p[0]);
	int n = 0;
	while (wait(&s) > 0) {
		n++;
		sum += WEXITSTATUS(s);
	}
	CHECK("many_children", n == 64 && sum == 64 * 63 / 2);
	CHECK("nested", IN_CHILD(IN_CHILD(IN_CHILD(IN_CHILD(IN_CHILD(getpid() > 1))))));
	CHECK("nproc_limit",
	      IN_CHILD(setuid(54321) == 0 && setrlimit(RLIMIT_NPROC, &(struct rlimit){1, 1}) == 0 &&
		       fork() == -1 && errno == EAGAIN));
	CHECK("nproc_counts_the_user",
	      IN_CHILD(setuid(54321) == 0 && setrlimit(RLIMIT_NPROC, &(struct rlimit){2, 2}) == 0 &&
		       IN_CHILD(fork() == -1 && errno == EAGAIN)));
}

static void handler_forks(int sig)
{
	hits = IN_CHILD(true) ? 7 : -1;
}

/* --- clone ------------------------------------------------------------------------------------------ */

static long raw_clone(unsigned long flags, void *stack, pid_t *ptid, pid_t *ctid, unsigned long tls_)
{
	return syscall(SYS_clone, flags, stack, ptid, ctid, tls_);
}

static int share_fn(void *a)
{
	data = 50;
	close(*(int *)a);
	chdir("/");
	signal(SIGUSR1, SIG_IGN);
	return 3;
}

static volatile pid_t tid_word;

static int quick(void *a)
{
	usleep(30000);
	return 0;
}

static void clones(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	char cwd[4096];
	int s = -1, fd;
	pid_t p, pt = 0, ct = 0;
	void (*h)(int);

	conf_dir();
	getcwd(cwd, sizeof(cwd));
	data = 1;
	fd = dup(1);
	p = clone(share_fn, stack + sizeof(stack),
		  CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | SIGCHLD, &fd);
	waitpid(p, &s, 0);
	CHECK("clone_status", WEXITSTATUS(s) == 3);
	CHECK("clone_vm", data == 50);
	CHECK("clone_files", fcntl(fd, F_GETFD) == -1);
	CHECK("clone_fs", getcwd((char[4096]){0}, 4096) && access("tmp", F_OK) == 0);
	h = signal(SIGUSR1, SIG_DFL);
	CHECK("clone_sighand", h == SIG_IGN);
	chdir(cwd);
	data = 1;
	fd = dup(1);
	p = clone(share_fn, stack + sizeof(stack), SIGCHLD, &fd);
	waitpid(p, &s, 0);
	CHECK("clone_copies", data == 1 && fcntl(fd, F_GETFD) == 0 && access("/nonexistent", F_OK) == -1 &&
				      signal(SIGUSR1, SIG_DFL) == SIG_DFL);
	close(fd);
	p = (pid_t)raw_clone(CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, NULL, &pt, &ct, 0);
	if (!p)
		_exit(ct != getpid() || ct == 0);
	waitpid(p, &s, 0);
	CHECK("parent_settid", pt == p);
	CHECK("child_settid_in_child_only", s == 0 && ct == 0);
	tid_word = 77;
	p = clone(quick, stack + sizeof(stack), CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, NULL, NULL, NULL,
		  &tid_word);
	while (tid_word == 77)
		syscall(SYS_futex, &tid_word, FUTEX_WAIT, 77, NULL, NULL, 0);
	CHECK("child_cleartid", tid_word == 0);
	waitpid(p, &s, 0);
	p = (pid_t)raw_clone(CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0);
	if (!p)
		_exit(0);
	CHECK_ERR("clone_parent_is_sibling", waitpid(p, &s, 0), ECHILD);
	CHECK("clone_parent", IN_CHILD(({
		      pid_t me = getpid(), dad = getppid();
		      int q[2], v = 0;
		      pipe(q);
		      if (!raw_clone(CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, 0)) {
			      v = getppid();
			      write(q[1], &v, sizeof(v));
			      _exit(0);
		      }
		      read(q[0], &v, sizeof(v));
		      v == dad &&v != me;
	      })));
	while (wait(NULL) > 0)
		;
	p = (pid_t)raw_clone(0, NULL, NULL, NULL, 0);
	if (!p)
		_exit(4);
	CHECK_ERR("no_exit_signal_not_waited", waitpid(p, &s, WNOHANG), ECHILD);
	CHECK("no_exit_signal_wclone", waitpid(p, &s, __WCLONE) == p && WEXITSTATUS(s) == 4);
	signal(SIGUSR1, on_signal);
	hits = 0;
	p = (pid_t)raw_clone(SIGUSR1, NULL, NULL, NULL, 0);
	if (!p)
		_exit(4);
	CHECK("exit_signal", waitpid(p, &s, __WALL) == p && hits == 1);
	signal(SIGUSR1, SIG_DFL);
	CHECK_ERR("sighand_needs_vm", raw_clone(CLONE_SIGHAND | SIGCHLD, NULL, NULL, NULL, 0), EINVAL);
	CHECK_ERR("thread_needs_sighand", raw_clone(CLONE_THREAD | CLONE_VM | SIGCHLD, NULL, NULL, NULL, 0),
		  EINVAL);
	CHECK_ERR("pidfd_and_parent_settid",
		  raw_clone(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, NULL, &pt, NULL, 0), EINVAL);
}

static long clone3_(struct clone_args *a, size_t n)
{
	return syscall(SYS_clone3, a, n);
}

static void clone3s(void)
{
	struct clone_args a;
	int s = -1;
	long p;

	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, SIG_IGN);
	memset(&a, 0, sizeof(a));
	a.exit_signal = SIGCHLD;
	a.flags = CLONE_CLEAR_SIGHAND;
	p = clone3_(&a, sizeof(a));
	if (!p) {
		struct sigaction x, y;
		sigaction(SIGUSR1, NULL, &x);
		sigaction(SIGUSR2, NULL, &y);
		_exit(x.sa_handler != SIG_DFL || y.sa_handler != SIG_IGN);
	}
	waitpid((pid_t)p, &s, 0);
	CHECK("clear_sighand", s == 0);
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	a.flags = CLONE_CLEAR_SIGHAND | CLONE_SIGHAND | CLONE_VM;
	CHECK_ERR("clear_and_share", clone3_(&a, sizeof(a)), EINVAL);
	a.flags = SIGCHLD;
	CHECK_ERR("signal_in_flags", clone3_(&a, sizeof(a)), EINVAL);
	a.flags = 0;
	a.exit_signal = 65;
	CHECK_ERR("bad_exit_signal", clone3_(&a, sizeof(a)), EINVAL);
	a.exit_signal = SIGCHLD;
	a.stack_size = 4096;
	CHECK_ERR("size_without_stack", clone3_(&a, sizeof(a)), EINVAL);
	a.stack_size = 0;
	CHECK_ERR("short_args", clone3_(&a, 32), EINVAL);
	CHECK_ERR("long_args", clone3_(&a, 1 << 20), E2BIG);
	CHECK_ERR("bad_args", clone3_(NULL, sizeof(a)), EFAULT);
	a.flags = CLONE_PARENT;
	CHECK_ERR("parent_and_exit_signal", clone3_(&a, sizeof(a)), EINVAL);
}

static void unshares(void)
{
	static char stack[65536] __attribute__((aligned(16)));
	int fd = dup(1);

	CHECK("unshare_files",
	      IN_CHILD(unshare(CLONE_FILES) == 0 && unshare(CLONE_FS) == 0 && close(fd) == 0));
	CHECK("unshare_kept", fcntl(fd, F_GETFD) == 0);
	CHECK_ERR("unshare_bad", unshare(0x1), EINVAL);
	close(fd);
}

int main(void)
{
	ids();
	memory();
	file_memory();
	files();
	signals();
	attributes();
	registers();
	threads();
	sync_shared();
	many();
	hits = 0;
	signal(SIGUSR1, handler_forks);
	raise(SIGUSR1);
	CHECK("fork_in_handler", hits == 7);
	signal(SIGUSR1, SIG_DFL);
	clones();
	clone3s();
	unshares();
	rmdir(conf_dir());
	return conf_done();
}
