/* SPDX-License-Identifier: ISC */
/*
 * Host system calls are declared beside the code that needs them:
 *
 *	HOST_SYSCALL(net, accept4);          in the file that calls it
 *
 * puts one entry into a linker section; seccomp.c builds the allow-list from
 * the sections of the features that the instance uses, so the filter can be
 * neither longer nor shorter than the declarations.
 */
#ifndef COWBELL_MONITOR_SECCOMP_H
#define COWBELL_MONITOR_SECCOMP_H

#include <sys/syscall.h>

enum host_feature {
	HOST_core = 1,
	HOST_kvm = 2,
	HOST_process = 4,
	HOST_net = 8,
	HOST_volume = 16,
	HOST_tty = 32,
	HOST_control = 64,
	HOST_snapshot = 128,
	HOST_standby = 256,
	HOST_smp = 512
};

struct host_syscall {
	int nr;
	int feature; /* enum host_feature */
	const char *name;
};

#define HOST_SYSCALL_CAT2_(a, b) a##b
#define HOST_SYSCALL_CAT_(a, b)	 HOST_SYSCALL_CAT2_(a, b)
#define HOST_SYSCALL(feature_, call_)                                                                        \
	static const struct host_syscall HOST_SYSCALL_CAT_(host_syscall_##call_##_, __LINE__)                \
		__attribute__((used, section("host_syscalls"))) = {SYS_##call_, HOST_##feature_, #call_}

/* Drop privileges and install the monitor's filter for `features`; returns the number of
 * allowed calls, or -errno. Nothing that is not declared works afterwards. */
int seccomp_lock_monitor(int features);
/*
 * The same for all threads, where there are others. Each of them has called seccomp_prepare_thread() before, which takes
 * what is a thread's own (no new privileges, capabilities); 0 or -errno.
 */
int seccomp_prepare_thread(void);

#endif
