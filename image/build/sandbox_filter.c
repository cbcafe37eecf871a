/* SPDX-License-Identifier: ISC */
/*
 * The seccomp filter of a build step. Namespaces are what confines it; the filter takes away what an attack on the kernel or on
 * a terminal would need and what no compiler, linker or package manager uses. Everything else is allowed.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "image/build/sandbox.h"

/* EPERM for these. Compilers, linkers and package managers make none of them. */
static const uint16_t refused[] = {
	SYS_add_key,
	SYS_request_key,
	SYS_keyctl,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_move_mount,
	SYS_open_tree,
	SYS_fsopen,
	SYS_fsmount,
	SYS_fsconfig,
	SYS_fspick,
	SYS_mount_setattr,
	SYS_setns,
	SYS_unshare,
	SYS_kexec_load,
	SYS_kexec_file_load,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_open_by_handle_at,
	SYS_name_to_handle_at,
	SYS_swapon,
	SYS_swapoff,
	SYS_reboot,
	SYS_acct,
	SYS_quotactl,
	SYS_syslog,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_adjtimex,
	SYS_clock_adjtime,
	SYS_iopl,
	SYS_ioperm,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_kcmp,
	SYS_lookup_dcookie,
	SYS_fanotify_init,
	SYS_vhangup,
	SYS_move_pages,
	SYS_migrate_pages,
	SYS_mbind,
	SYS_pidfd_getfd,
};

#define N_REFUSED	    (sizeof(refused) / sizeof(refused[0]))
#define STMT(code, k)	    ((struct sock_filter){(code), 0, 0, (k)})
#define JUMP(code, k, t, f) ((struct sock_filter){(code), (t), (f), (k)})
#define LOAD(what)	    STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, what))
#define EQUAL(k, t, f)	    JUMP(BPF_JMP | BPF_JEQ | BPF_K, (k), (t), (f))
#define REFUSE(err)	    STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (err))
#define ALLOW		    STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define CLONE_NEWUSER_BIT   0x10000000u
#define X32_BIT		    0x40000000u

/* The filter as a file for --seccomp. Low halves of arguments are enough: the kernel, too, looks at 32 bits of each. */
int view_filter(bool network)
{
	struct sock_filter f[48 + 2 * N_REFUSED];
	size_t n = 0;

	f[n++] = LOAD(arch);
	f[n++] = EQUAL(AUDIT_ARCH_X86_64, 1, 0);
	f[n++] = REFUSE(ENOSYS); /* 32-bit programs */
	f[n++] = LOAD(nr);
	f[n++] = JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
	f[n++] = REFUSE(ENOSYS);
	for (size_t i = 0; i < N_REFUSED; i++) {
		f[n++] = EQUAL(refused[i], 0, 1);
		f[n++] = REFUSE(EPERM);
	}
	f[n++] = EQUAL(SYS_clone3, 0, 1); /* its flags are in memory; C libraries then use clone */
	f[n++] = REFUSE(ENOSYS);
	f[n++] = EQUAL(SYS_clone, 0, 4);
	f[n++] = LOAD(args[0]);
	f[n++] = JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_NEWUSER_BIT, 0, 1);
	f[n++] = REFUSE(EPERM);
	f[n++] = ALLOW;
	f[n++] = EQUAL(SYS_ioctl, 0, 5);
	f[n++] = LOAD(args[1]);
	f[n++] = EQUAL(TIOCSTI, 1, 0); /* typing into a terminal */
	f[n++] = EQUAL(TIOCLINUX, 0, 1);
	f[n++] = REFUSE(EPERM);
	f[n++] = ALLOW;
	if (network) { /* the host's abstract sockets are in its network namespace; socketpair(2) stays */
		f[n++] = EQUAL(SYS_socket, 0, 4);
		f[n++] = LOAD(args[0]);
		f[n++] = EQUAL(AF_UNIX, 0, 1);
		f[n++] = REFUSE(EACCES);
		f[n++] = ALLOW;
	}
	f[n++] = ALLOW;

	int fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t want = (ssize_t)(n * sizeof(f[0]));
	if (write(fd, f, (size_t)want) != want || lseek(fd, 0, SEEK_SET) < 0) {
		close(fd);
		return -EIO;
	}
	return fd;
}
