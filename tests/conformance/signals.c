/* SPDX-License-Identifier: ISC */
/* sigaction, masks, alternate stack, restart rules, siginfo, ucontext, sigtimedwait, signalfd, pending, nesting. */
#include "conf.h"
#include <poll.h>
#include <setjmp.h>
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>

static volatile sig_atomic_t got, nested, max_nested, last_code, last_pid_ok, order[16], n_order, on_alt;
static char alt[65536];
static sigjmp_buf jb;
static void *volatile fault_addr;
static volatile long ctx_trap;

static void h(int s, siginfo_t *si, void *u)
{
	(void)u;
	got = s;
	last_code = si->si_code;
	last_pid_ok = si->si_pid == getpid();
	if (n_order < 16)
		order[n_order++] = s;
	char here;
	on_alt = &here >= alt && &here < alt + sizeof(alt);
}
static void hn(int s)
{
	(void)s;
	nested++;
	if (nested > max_nested)
		max_nested = nested;
	if (max_nested < 3)
		raise(SIGUSR1);
	nested--;
}
static void fault(int s, siginfo_t *si, void *u)
{
	got = s;
	last_code = si->si_code;
	fault_addr = si->si_addr;
	ctx_trap = ((ucontext_t *)u)->uc_mcontext.gregs[REG_TRAPNO];
	siglongjmp(jb, 1);
}
static void skip2(int s, siginfo_t *si, void *u)
{
	(void)si;
	got = s;
	((ucontext_t *)u)->uc_mcontext.gregs[REG_RIP] += 2;
	((ucontext_t *)u)->uc_mcontext.gregs[REG_RAX] = 4242;
}
static void *kick(void *t)
{
	struct timespec ts = {0, 30000000};
	nanosleep(&ts, NULL);
	pthread_kill(*(pthread_t *)t, SIGUSR2);
	return NULL;
}
static void set(int s, void (*f)(int, siginfo_t *, void *), int flags)
{
	struct sigaction sa = {.sa_sigaction = f, .sa_flags = SA_SIGINFO | flags};
	sigaction(s, &sa, NULL);
}

int main(void)
{
	sigset_t m, old;
	set(SIGUSR1, h, 0);
	CHECK("raise", raise(SIGUSR1) == 0 && got == SIGUSR1 && last_code == SI_TKILL && last_pid_ok);
	got = 0;
	CHECK("kill_self", kill(getpid(), SIGUSR1) == 0 && got == SIGUSR1 && last_code == SI_USER);
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigaddset(&m, SIGUSR2);
	sigaddset(&m, SIGRTMIN);
	sigaddset(&m, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &m, &old);
	got = 0;
	raise(SIGUSR1);
	sigset_t pend;
	CHECK("blocked", got == 0 && sigpending(&pend) == 0 && sigismember(&pend, SIGUSR1));
	sigprocmask(SIG_SETMASK, &old, NULL);
	CHECK("unblocked", got == SIGUSR1);
	/* real-time signals queue, lowest first */
	set(SIGRTMIN, h, 0);
	set(SIGRTMIN + 1, h, 0);
	sigprocmask(SIG_BLOCK, &m, NULL);
	n_order = 0;
	union sigval sv = {.sival_int = 7};
	sigqueue(getpid(), SIGRTMIN + 1, sv);
	sigqueue(getpid(), SIGRTMIN, sv);
	sigqueue(getpid(), SIGRTMIN, sv);
	raise(SIGUSR1);
	raise(SIGUSR1);
	sigprocmask(SIG_SETMASK, &old, NULL);
	SHOW("queued", "%d", n_order);
	CHECK("queue_code", last_code == SI_QUEUE || last_code == SI_TKILL);
	struct sigaction sa = {.sa_handler = hn, .sa_flags = SA_NODEFER};
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	SHOW("nodefer_depth", "%d", max_nested);
	sa = (struct sigaction){.sa_sigaction = h, .sa_flags = SA_SIGINFO | SA_RESETHAND};
	sigaction(SIGUSR1, &sa, NULL);
	raise(SIGUSR1);
	sigaction(SIGUSR1, NULL, &sa);
	CHECK("resethand", sa.sa_handler == SIG_DFL);
	CHECK_ERR("sigaction_kill", sigaction(SIGKILL, &sa, NULL), EINVAL);
	CHECK_ERR("kill_badsig", kill(getpid(), 99), EINVAL);
	CHECK_ERR("kill_nobody", kill(99999, 0), ESRCH);
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof(alt)}, oss;
	CHECK("sigaltstack", sigaltstack(&ss, NULL) == 0);
	set(SIGUSR1, h, SA_ONSTACK);
	raise(SIGUSR1);
	CHECK("on_altstack", on_alt);
	CHECK("altstack_query", sigaltstack(NULL, &oss) == 0 && oss.ss_sp == alt && oss.ss_flags == 0);
	ss.ss_size = 100;
	CHECK_ERR("altstack_small", sigaltstack(&ss, NULL), ENOMEM);
	/* restart rules */
	pthread_t self = pthread_self(), t;
	int p[2];
	pipe(p);
	char c;
	set(SIGUSR2, h, 0);
	pthread_create(&t, NULL, kick, &self);
	CHECK_ERR("read_eintr", read(p[0], &c, 1), EINTR);
	pthread_join(t, NULL);
	struct timespec ts = {5, 0}, rem;
	pthread_create(&t, NULL, kick, &self);
	CHECK_ERR("nanosleep_eintr", nanosleep(&ts, &rem), EINTR);
	CHECK("nanosleep_rem", rem.tv_sec == 4);
	pthread_join(t, NULL);
	set(SIGUSR2, h, SA_RESTART);
	struct pollfd pf = {p[0], POLLIN, 0};
	pthread_create(&t, NULL, kick, &self);
	CHECK_ERR("poll_eintr_despite_restart", poll(&pf, 1, 3000), EINTR);
	pthread_join(t, NULL);
	alarm(1);
	set(SIGALRM, h, SA_RESTART);
	CHECK_ERR("pause", pause(), EINTR);
	CHECK("alarm", got == SIGALRM);
	struct itimerval it = {{0, 0}, {0, 20000}};
	setitimer(ITIMER_REAL, &it, NULL);
	got = 0;
	sigprocmask(SIG_SETMASK, NULL, &m);
	CHECK_ERR("sigsuspend", sigsuspend(&m), EINTR);
	CHECK("itimer", got == SIGALRM);
	/* faults */
	set(SIGSEGV, fault, SA_NODEFER);
	set(SIGFPE, fault, SA_NODEFER);
	set(SIGILL, fault, SA_NODEFER);
	set(SIGTRAP, fault, SA_NODEFER);
	set(SIGBUS, fault, SA_NODEFER);
	if (!sigsetjmp(jb, 1))
		*(volatile int *)0x1234 = 1;
	CHECK("segv", got == SIGSEGV && last_code == SEGV_MAPERR && fault_addr == (void *)0x1234);
	SHOW("segv_trapno", "%ld", ctx_trap);
	volatile int zero = 0, one = 1;
	if (!sigsetjmp(jb, 1))
		one = one / zero;
	CHECK("fpe", got == SIGFPE && last_code == FPE_INTDIV);
	SHOW("fpe_trapno", "%ld", ctx_trap);
	if (!sigsetjmp(jb, 1))
		__asm__ volatile("ud2");
	CHECK("ill", got == SIGILL && last_code == ILL_ILLOPN);
	if (!sigsetjmp(jb, 1))
		__asm__ volatile("hlt");
	CHECK("privileged", got == SIGSEGV && last_code == SI_KERNEL);
	if (!sigsetjmp(jb, 1))
		__asm__ volatile("int3");
	CHECK("int3", got == SIGTRAP && last_code == SI_KERNEL);
	set(SIGILL, skip2, 0);
	long rax = 1;
	__asm__ volatile("ud2" : "+a"(rax));
	SHOW("edited_context_rax", "%ld", rax);
	/* vector registers survive a handler */
	set(SIGUSR1, h, 0);
	double d = 1.5;
	for (int i = 0; i < 100; i++) {
		d = d * 1.0001;
		raise(SIGUSR1);
	}
	SHOW("fp_across_signals", "%.6f", d);
	/* synchronous waiting */
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigprocmask(SIG_BLOCK, &m, NULL);
	raise(SIGUSR1);
	siginfo_t si;
	CHECK("sigwaitinfo",
	      sigwaitinfo(&m, &si) == SIGUSR1 && (si.si_code == SI_TKILL || si.si_code == SI_USER));
	ts = (struct timespec){0, 1000000};
	CHECK_ERR("sigtimedwait", sigtimedwait(&m, &si, &ts), EAGAIN);
	int sfd = signalfd(-1, &m, SFD_NONBLOCK | SFD_CLOEXEC);
	struct signalfd_siginfo fsi;
	CHECK_ERR("signalfd_empty", read(sfd, &fsi, sizeof(fsi)), EAGAIN);
	raise(SIGUSR1);
	pf = (struct pollfd){sfd, POLLIN, 0};
	CHECK("signalfd_poll", poll(&pf, 1, 0) == 1 && pf.revents == POLLIN);
	CHECK("signalfd", read(sfd, &fsi, sizeof(fsi)) == sizeof(fsi) && fsi.ssi_signo == SIGUSR1);
	close(p[0]);
	signal(SIGPIPE, SIG_IGN);
	CHECK_ERR("epipe", write(p[1], "x", 1), EPIPE);
	return conf_done();
}
