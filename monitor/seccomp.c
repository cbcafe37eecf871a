/* SPDX-License-Identifier: ISC */
/*
 * Taking the monitor's privileges away, after everything is open and before
 * the guest's first instruction. Stages, each with its reason:
 *
 *   1  no new privileges: an exec can never gain any, and a filter needs no capability
 *   2  no capability may be gained: root has none for its name alone, the ambient set is emptied
 *   3  no capabilities: root keeps only its name, files obey their owner and mode
 *   4  not dumpable: nobody but root attaches or reads guest memory through /proc
 *   5  system calls: an allow-list generated from the HOST_SYSCALL declarations of
 *      the features in use. mmap only without PROT_EXEC, clone only for a thread. The declarations are objects in a linker section;
 *      a call that nobody declared ends the monitor with one line that names it.
 *
 * brk and mremap are refused instead: malloc falls back to mmap. brk knows no errors, only a break that did not move:
 * -ENOMEM would be an address that is high enough, and malloc would use memory that is not there.
 * The filter looks at numbers only (but for mmap), so that the kernel keeps its
 * answers in a bitmap and an allowed call costs nothing.
 */
#include "monitor/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "monitor/ring_server.h"

HOST_SYSCALL(core, mmap);
HOST_SYSCALL(core, munmap);
HOST_SYSCALL(core, write); /* the message below */
HOST_SYSCALL(core, exit_group);

extern const struct host_syscall __start_host_syscalls[], __stop_host_syscalls[];
_Static_assert(sizeof(struct host_syscall) == 16, "the linker section is an array");

#define MAX_CALLS   128
#define X32_BIT	    0x40000000u
#define EXIT_BROKEN 125
#define THREAD_FLAGS                                                                                         \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SETTLS |   \
	 CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

struct call_list {
	int nr[MAX_CALLS];
	int n;
};

static int collect(struct call_list *l, int features)
{
	for (const struct host_syscall *s = __start_host_syscalls; s < __stop_host_syscalls; s++) {
		int i = 0;

		if (!(s->feature & (features | HOST_core)))
			continue;
		while (i < l->n && l->nr[i] != s->nr)
			i++;
		if (i < l->n)
			continue;
		if (l->n == MAX_CALLS)
			return -E2BIG;
		l->nr[l->n++] = s->nr;
	}
	return 0;
}

struct program {
	struct sock_filter f[4 * MAX_CALLS];
	unsigned short n;
};

static void emit(struct program *p, uint16_t code, uint32_t k, uint8_t jt, uint8_t jf)
{
	p->f[p->n++] = (struct sock_filter){code, jt, jf, k};
}

static void load(struct program *p, size_t offset)
{
	emit(p, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void answer(struct program *p, uint32_t action)
{
	emit(p, BPF_RET | BPF_K, action, 0, 0);
}

/* When the accumulator is k, `action`. */
static void if_equal(struct program *p, uint32_t k, uint32_t action)
{
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
	answer(p, action);
}

/* What pthread_create() asks for, and nothing else. The flags of clone3 cannot be seen here: libc takes ENOSYS for an answer. */
static void allow_thread(struct program *p)
{
	if_equal(p, SYS_clone3, SECCOMP_RET_ERRNO | ENOSYS);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4);
	load(p, offsetof(struct seccomp_data, args[0]));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, THREAD_FLAGS, 0, 1);
	answer(p, SECCOMP_RET_ALLOW);
	answer(p, SECCOMP_RET_TRAP);
}

static void build(struct program *p, const struct call_list *l)
{
	bool thread = false;

	load(p, offsetof(struct seccomp_data, arch));
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
	answer(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
	emit(p, BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	answer(p, SECCOMP_RET_KILL_PROCESS);
	for (int i = 0; i < l->n; i++) {
		if (l->nr[i] == SYS_clone)
			thread = true;
		else if (l->nr[i] != SYS_mmap)
			if_equal(p, (uint32_t)l->nr[i], SECCOMP_RET_ALLOW);
	}
	if (thread)
		allow_thread(p);
	if_equal(p, SYS_brk,
		 SECCOMP_RET_ERRNO | 0); /* not an errno: a break at 0, below what was asked for */
	if_equal(p, SYS_mremap, SECCOMP_RET_ERRNO | ENOMEM);
	emit(p, BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0);
	answer(p, SECCOMP_RET_TRAP);
	load(p, offsetof(struct seccomp_data, args[2]));
	emit(p, BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 0, 1);
	answer(p, SECCOMP_RET_TRAP);
	answer(p, SECCOMP_RET_ALLOW);
}

/* Stage 5 caught something: our bug, or a monitor that a guest took over. */
static void on_forbidden(int sig, siginfo_t *info, void *context)
{
	char line[96];
	int n = snprintf(line, sizeof(line),
			 "cowbell: host system call %d is not declared; the monitor stops\n",
			 info->si_syscall);

	(void)sig, (void)context;
	ring_server_restore_tty();
	if (write(2, line, (size_t)n) < 0)
		_exit(EXIT_BROKEN + 1);
	_exit(EXIT_BROKEN);
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}, {0}};

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	/*
	 * For good: the locks cannot be taken off. One call, where to empty the bounding set takes one for each capability.
	 * Without CAP_SETPCAP it fails, and there is nothing to lose.
	 */
	prctl(PR_SET_SECUREBITS,
	      SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
		      SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
		      SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED,
	      0, 0, 0);
	return syscall(SYS_capset, &h, none) ? -errno : 0;
}

int seccomp_prepare_thread(void)
{
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : drop_capabilities();
}

int seccomp_lock_monitor(int features)
{
	struct sigaction sa = {.sa_sigaction = on_forbidden, .sa_flags = SA_SIGINFO};
	struct call_list calls = {.n = 0};
	struct program p = {.n = 0};
	struct sock_fprog fp;
	int r = collect(&calls, features);

	if (r)
		return r;
	build(&p, &calls);
	r = seccomp_prepare_thread();
	if (r)
		return r;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	sigaction(SIGSYS, &sa, NULL);
	fp = (struct sock_fprog){p.n, p.f};
	r = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
			 features & HOST_smp ? SECCOMP_FILTER_FLAG_TSYNC : 0, &fp);
	if (r) /* a thread that could not be brought along: its number */
		return r < 0 ? -errno : -EBUSY;
	return calls.n;
}
