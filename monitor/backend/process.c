/* SPDX-License-Identifier: ISC */
/*
 * The process backend: the guest is a child process under a seccomp filter.
 * Needs neither /dev/kvm nor root. It is weaker than a virtual machine: the
 * host kernel's handling of a few memory calls, faults and signals is in reach of
 * the guest.
 *
 * Memory. RAM is a memfd that monitor and child map MAP_SHARED. Its size is the
 * monitor's to choose; the child's filter lets it neither resize nor write
 * the files of the regions.
 *
 * Life.   create: memfd with the stub (process_stub.c), clone, execveat; the child sets itself up beside us, sends
 *                 the descriptor of its doorbell over a socket pair and waits
 *         run:    first time: take the descriptor and give the word to go; later: the answer to the
 *                 doorbell. Then sleep until the next doorbell, a kick, or the child's end
 *
 *                    +---- run: answer ----+
 *                    v                     |
 *   WAITING --go--> RUNNING --doorbell--> RANG      RUNNING --child gone--> DEAD
 *
 * Further host processes, one for each address space of the guest, are made by the first one: process_group.c. What is
 * said of the child below concerns whichever of them has the CPU.
 *
 * Kicks. kick() and interrupt() only write to an eventfd, so both are safe in a
 * signal handler, and no kick is lost between a look and a sleep. The signal
 * is sent to the child by the next run(), and only while the child computes.
 * A restored one gets none before its first doorbell: the stub sets its handler up before it locks itself in, and the
 * handler works on memory that came from a file. A doorbell can only be rung from behind the filter.
 */
#include "monitor/backend/backend.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "abi/process.h"
#include "monitor/backend/process_cpus.h"
#include "monitor/backend/process_group.h"
#include "monitor/backend/process_stub.h"
#include "monitor/lazy.h"
#include "monitor/load.h"
#include "monitor/seccomp.h"

HOST_SYSCALL(process, ppoll);
HOST_SYSCALL(process, ioctl);
HOST_SYSCALL(process, read);
HOST_SYSCALL(process, write);
HOST_SYSCALL(process, recvmsg);
HOST_SYSCALL(process, waitid);
HOST_SYSCALL(process, ftruncate);
HOST_SYSCALL(process, fallocate);
HOST_SYSCALL(process, madvise);

#define HUGE	    (2ull << 20)
#define FIRST_RAM   (64ull << 20)
#define CHILD_STACK (16u << 10)
#define LATE_MAX    1000u

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
/* Linux 6.6: wake the monitor on the CPU of the guest, which is about to sleep. */
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1ul << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS	   SECCOMP_IOW(4, __u64)
#endif

enum state { WAITING, RUNNING, RANG, DEAD };

struct child {
	int fds[BOOT_MAX_REGIONS + SNAP_MAX_CHAIN + 2]; /* the child keeps these */
	int n_fds, stub_fd;
	void *stack;
};

struct backend_ctx {
	struct guest_mem *m;
	struct boot_vcpu *vcpu;
	enum state state;
	int doorbell_fd, sock, wake_fd;
	struct process_group group;
	struct process_cpus cpus;
	uint32_t n_cpus;
	uint64_t doorbell_id; /* RANG: what to answer */
	uint64_t exits;
	const char *const *step_names;
	struct child child;
	struct stub_report failed_step; /* result 0: none */
	volatile sig_atomic_t want_divert;
	uint32_t late; /* turns since a new guest process should have reported */
	bool unproven; /* restored, and not known to be behind its filter yet */
};

static int fail(const char *what, int err)
{
	fprintf(stderr, "cowbell: process: %s: %s\n", what, strerror(-err));
	return err;
}

static int process_usable(const char **why)
{
	uint32_t action = SECCOMP_RET_USER_NOTIF;

	if (!(getauxval(AT_HWCAP2) & 2)) {
		*why = "the host does not let programs use the FSGSBASE instructions";
		return -ENODEV;
	}
	if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0) {
		*why = "the host kernel has no seccomp notifications";
		return -errno;
	}
	return 0;
}

static int process_mem_create(struct guest_mem *m, uint64_t ram_max)
{
	uint64_t size = (ram_max + HUGE - 1) & ~(HUGE - 1);
	int err, fd = memfd_create("cowbell-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("cowbell-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	m->ram_max = size;
	m->ram_size = size < FIRST_RAM ? size : FIRST_RAM;
	m->ram_fd = fd;
	if (ftruncate(fd, m->ram_size) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_SEAL))
		goto failed;
	/* 2 MiB aligned, so that huge pages of the file can be mapped here. */
	uint8_t *p = mmap(NULL, size + HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		goto failed;
	p = (uint8_t *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	m->ram = mmap(p, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (m->ram == MAP_FAILED)
		goto failed;
	madvise(m->ram, size, MADV_DONTDUMP);
	return 0;
failed:
	err = -errno;
	close(fd);
	return err;
}

/* --- making the child ---------------------------------------------------------- */

/* No libc in the child: it shares the monitor's memory and errno until exec. */
static long raw_syscall(long nr, long a, long b, long c, long d, long e)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
			 : "rcx", "r11", "memory");
	return r;
}

/* Runs in the child, beside the monitor's thread, on memory that nobody else uses. */
static int child_main(void *arg)
{
	static char *const argv[] = {"cowbell-guest", NULL};
	static char *const envp[] = {NULL};
	const struct child *c = arg;
	long r = raw_syscall(SYS_close_range, 0, ~0u, CLOSE_RANGE_CLOEXEC, 0, 0);

	for (int i = 0; i < c->n_fds; i++)
		r |= raw_syscall(SYS_fcntl, c->fds[i], F_SETFD, 0, 0, 0);
	if (!r)
		r = raw_syscall(SYS_execveat, c->stub_fd, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH);
	raw_syscall(SYS_exit_group, r < 0 ? -r & 0xff : 1, 0, 0, 0, 0);
	return 0;
}

/*
 * Not vfork: the monitor goes on with its own preparations. The child has its own copy of the descriptor table, and
 * starts with all signals blocked, which the stub undoes.
 */
static int spawn(struct backend_ctx *c)
{
	struct child *child = &c->child;
	sigset_t all, old;
	int pid, pidfd, err;

	child->stack = mmap(NULL, CHILD_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (child->stack == MAP_FAILED)
		return -errno;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = clone(child_main, (uint8_t *)child->stack + CHILD_STACK, CLONE_VM | CLONE_PIDFD | SIGCHLD,
		    child, &pidfd);
	err = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	return pid < 0 ? -err : group_init(&c->group, pid, pidfd, c->n_cpus, c->vcpu);
}

/* What the child says: the doorbell's descriptor, or which step failed and how. */
static int receive(struct backend_ctx *c, struct stub_report *report, int flags)
{
	union {
		struct cmsghdr c;
		uint8_t space[CMSG_SPACE(sizeof(int))];
	} u;
	struct iovec iov = {report, sizeof(*report)};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &u, .msg_controllen = sizeof(u)};
	struct cmsghdr *cm;
	ssize_t n;

	do
		n = recvmsg(c->sock, &h, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	cm = n > 0 ? CMSG_FIRSTHDR(&h) : NULL;
	if (cm && cm->cmsg_level == SOL_SOCKET && cm->cmsg_type == SCM_RIGHTS &&
	    cm->cmsg_len == CMSG_LEN(sizeof(int))) {
		memcpy(&c->doorbell_fd, CMSG_DATA(cm), sizeof(int));
		return 0;
	}
	if (n != sizeof(*report))
		*report = (struct stub_report){0, 0};
	return -1;
}

static int start_child(struct backend_ctx *c, const struct load_plan *plan)
{
	struct child *child = &c->child;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return fail("cannot make a socket pair", -errno);
	c->sock = pair[0];
	child->fds[child->n_fds++] = pair[1];
	child->fds[child->n_fds++] = c->m->ram_fd;
	for (int i = 0; i < c->m->n_regions; i++)
		child->fds[child->n_fds++] = c->m->regions[i].host_fd;
	for (int i = 0; i < c->m->n_files; i++)
		child->fds[child->n_fds++] = c->m->files[i];
	child->stub_fd = stub_file(c->m, plan, pair[1], c->n_cpus > 1, &c->step_names);
	r = child->stub_fd < 0 ? child->stub_fd : spawn(c);
	if (child->stub_fd >= 0)
		close(child->stub_fd);
	close(pair[1]);
	return r ? fail("cannot start the guest process", r) : 0;
}

static int process_create(struct backend_ctx **out, struct guest_mem *m, const struct load_plan *plan)
{
	struct backend_ctx *c = calloc(1, sizeof(*c));
	struct boot_info *bi = load_boot_info(m, plan);
	int r;

	if (!c)
		return -ENOMEM;
	c->m = m;
	c->unproven = m->restored;
	c->vcpu = (struct boot_vcpu *)(m->ram + plan->vcpu_gpa);
	c->n_cpus = bi->n_vcpus < BOOT_MAX_VCPUS ? bi->n_vcpus : BOOT_MAX_VCPUS;
	c->doorbell_fd = c->sock = c->cpus.fd = c->cpus.timer_fd = -1;
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bi->ram_fd = m->ram_fd;
	for (int i = 0; i < m->n_regions; i++)
		m->regions[i].r.fd = bi->regions[i].fd = m->regions[i].host_fd;
	r = c->wake_fd < 0 ? -errno : start_child(c, plan);
	if (!r)
		r = cpus_init(&c->cpus, (int)c->n_cpus, &c->group, c->vcpu);
	if (r)
		backend_process.destroy(c);
	else
		*out = c;
	return r;
}

/* --- running ------------------------------------------------------------------------ */

static enum run_reason died(struct backend_ctx *c, struct run_info *info)
{
	struct stub_report *report = &c->failed_step;
	siginfo_t si = {0};
	char *w = info->why;
	size_t n = sizeof(info->why);

	c->state = DEAD;
	if (waitid(P_PIDFD, (id_t)group_dead(&c->group), &si, WEXITED | WNOWAIT)) {
		snprintf(w, n, "the guest process is lost: %s", strerror(errno));
		return RUN_DIED;
	}
	info->signal = si.si_code == CLD_EXITED ? 0 : si.si_status;
	if (si.si_code == CLD_EXITED && !report->result)
		receive(c, report, MSG_DONTWAIT);
	if (si.si_code == CLD_EXITED && report->result && report->step < STUB_MAX_STEPS &&
	    c->step_names[report->step])
		snprintf(w, n, "the guest process cannot start (%s): %s", c->step_names[report->step],
			 strerror(-(int)report->result));
	else if (si.si_code == CLD_EXITED)
		snprintf(w, n, "the guest process ended by itself (status %d)", si.si_status);
	else if (si.si_status == SIGSYS)
		snprintf(w, n, "the guest made a host system call that its filter forbids");
	else if (si.si_status == SIGKILL)
		snprintf(w, n,
			 "the guest process was killed, by the host's out-of-memory killer or by somebody "
			 "else");
	else
		snprintf(w, n, "the guest process died of a fault in its own trap handling (%s)",
			 strsignal(si.si_status));
	return RUN_DIED;
}

/* The child has come up, or not; give it the word. */
static bool first_run(struct backend_ctx *c)
{
	struct stub_report report = {0};
	ssize_t r;

	lazy_prefill(c->m); /* while the child gets ready */
	if (receive(c, &report, 0)) {
		c->failed_step = report;
		return false;
	}
	munmap(c->child.stack, CHILD_STACK);
	cpus_open(&c->cpus, c->doorbell_fd);
	ioctl(c->doorbell_fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, (uint64_t)SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	r = write(c->sock, "", 1);
	c->state = RUNNING;
	return r == 1;
}

static void answer_doorbell(struct backend_ctx *c, int64_t value)
{
	struct seccomp_notif_resp answer = {.id = c->doorbell_id, .val = value};

	ioctl(c->doorbell_fd, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	c->state = RUNNING;
}

static void divert(struct backend_ctx *c)
{
	if (c->unproven)
		return; /* wanted on */
	c->want_divert = 0;
	/* A child that has yet to go on finds vcpu.kick by itself. */
	if (c->state == RUNNING)
		group_kick(&c->group, 0);
}

/* Bits for n pages to gpa; pages of the array itself are in RAM then. */
static int64_t tell_missing(struct backend_ctx *c, uint64_t gpa, uint64_t n, bool all)
{
	uint64_t *bits;

	if (gpa % 8 || n > c->m->ram_max / BOOT_PAGE_SIZE)
		return -EINVAL;
	bits = gpa_ram(c->m, (gpa_t){gpa}, (n + 63) / 64 * 8);
	return bits ? (int64_t)(all ? lazy_stored(c->m, bits, n) : lazy_missing(c->m, bits, n)) : -EFAULT;
}

static int64_t tell_pieces(struct backend_ctx *c, uint64_t gpa, uint64_t n)
{
	struct process_piece *out;

	if (gpa % 8 || n > c->m->ram_max / BOOT_PAGE_SIZE)
		return -EINVAL;
	out = gpa_ram(c->m, (gpa_t){gpa}, n * sizeof(*out));
	return out ? (int64_t)lazy_pieces(c->m, out, (uint32_t)n) : -EFAULT;
}

/*
 * Is there a doorbell for the ring? It may have vanished again: a kick interrupted it, and it will be rung anew. What
 * concerns memory alone is answered here, since the guest may ask for it in the midst of anything.
 */
static bool take_doorbell(struct backend_ctx *c)
{
	struct seccomp_notif notif = {0};
	const uint64_t *arg = (const uint64_t *)notif.data.args;
	uint32_t host = 0, cpu = 0;
	int64_t value;

	if (ioctl(c->doorbell_fd, SECCOMP_IOCTL_NOTIF_RECV, &notif) ||
	    group_serve(&c->group, c->doorbell_fd, &notif))
		return false;
	c->unproven = false;
	if (c->n_cpus > 1 && !group_who(&c->group, (pid_t)notif.pid, &host, &cpu)) {
		group_answer(c->doorbell_fd, notif.id, 0, -EINVAL);
		return false;
	}
	switch (arg[0]) {
	case PROCESS_FILL:
		value = lazy_ask(c->m, arg[1], arg[2]);
		break;
	case PROCESS_MISSING:
		value = tell_missing(c, arg[1], arg[2], arg[3]);
		break;
	case PROCESS_PIECES:
		value = tell_pieces(c, arg[1], arg[2]);
		break;
	case PROCESS_CPU:
		if (c->n_cpus > 1) {
			c->exits++;
			cpus_call(&c->cpus, cpu, host, &notif);
			return false;
		} /* fall through */
	default:
		if (cpu || c->state == RANG) {
			group_answer(c->doorbell_fd, notif.id, 0, -EINVAL);
			return false;
		}
		c->doorbell_id = notif.id;
		c->state = RANG;
		c->exits++;
		return true;
	}
	group_answer(c->doorbell_fd, notif.id, value, 0);
	return false;
}

/* The deaths matter only where there is more than the one whose end closes the doorbell. */
static int wait_for_guest(struct backend_ctx *c, struct pollfd p[4])
{
	int ms = group_patience_ms(&c->group);
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l};

	/* Too late. It may have been us who were stopped: what has happened is looked at, but not for ever. */
	c->late = ms ? 0 : c->late + 1;
	if (c->late > LATE_MAX)
		return 0;
	p[2].revents = p[3].revents = 0;
	return ppoll(p, c->n_cpus > 1 ? 4 : c->group.n > 1 ? 3 : 2, ms < 0 ? NULL : &t, NULL);
}

static enum run_reason process_run(struct backend_ctx *c, struct run_info *info)
{
	struct pollfd p[4] = {{.events = POLLIN},
			      {.fd = c->wake_fd, .events = POLLIN},
			      {.fd = c->group.deaths_fd, .events = POLLIN},
			      {.fd = c->cpus.timer_fd, .events = POLLIN}};

	if (c->state == DEAD)
		return died(c, info);
	if (c->want_divert)
		divert(c);
	if (c->state == WAITING && !first_run(c))
		return died(c, info);
	if (c->state == RANG)
		answer_doorbell(c, 0);
	p[0].fd = c->doorbell_fd;
	for (;;) {
		int n = wait_for_guest(c, p);

		if (n == 0) {
			snprintf(info->why, sizeof(info->why), "a new guest process did not report");
			return RUN_DIED;
		}
		if (n < 0 && errno != EINTR) {
			snprintf(info->why, sizeof(info->why), "cannot wait for the guest: %s",
				 strerror(errno));
			return RUN_DIED;
		}
		if (n < 0)
			return RUN_KICKED;
		if (p[1].revents) {
			uint64_t count;
			ssize_t r = read(c->wake_fd, &count, sizeof(count));

			(void)r;
			return RUN_KICKED;
		}
		if (p[3].revents)
			cpus_time(&c->cpus);
		if (p[0].revents & POLLIN && take_doorbell(c))
			return RUN_DOORBELL;
		if (c->cpus.wants)
			return RUN_KICKED;
		if (p[0].revents & (POLLHUP | POLLERR | POLLNVAL) || p[2].revents)
			return died(c, info);
	}
}

static void process_interrupt(struct backend_ctx *c)
{
	int err = errno;
	ssize_t r = write(c->wake_fd, &(uint64_t){1}, 8);

	(void)r; /* full means awake */
	errno = err;
}

static void process_kick(struct backend_ctx *c)
{
	__atomic_store_n(&c->vcpu->kick, 1, __ATOMIC_RELAXED);
	c->want_divert = 1;
	process_interrupt(c);
}

/* --- several CPUs -------------------------------------------------------------------------- */

static int process_cpus_fd(struct backend_ctx *c)
{
	return c->cpus.fd;
}

/* While CPU 0 waits in its doorbell. A death is seen by the next run(). */
static void process_cpus_serve(struct backend_ctx *c)
{
	struct pollfd p[3] = {{.fd = c->doorbell_fd, .events = POLLIN},
			      {.fd = c->cpus.timer_fd, .events = POLLIN},
			      {.fd = c->group.deaths_fd, .events = POLLIN}};
	struct timespec none = {0, 0};

	if (ppoll(p, 3, &none, NULL) <= 0)
		return;
	if (p[1].revents)
		cpus_time(&c->cpus);
	if (p[0].revents & POLLIN)
		take_doorbell(c);
	if (p[0].revents & (POLLHUP | POLLERR | POLLNVAL) || p[2].revents ||
	    group_patience_ms(&c->group) == 0)
		c->cpus.wants |= CPUS_POKE0;
}

static uint32_t process_cpus_want(struct backend_ctx *c)
{
	uint32_t wants = c->cpus.wants;

	c->cpus.wants = 0;
	return wants;
}

static void process_cpus_served(struct backend_ctx *c)
{
	cpus_served(&c->cpus);
}

/* --- memory ------------------------------------------------------------------------------ */

static int process_grow(struct backend_ctx *c, uint64_t new_size)
{
	if (new_size > c->m->ram_max || new_size <= c->m->ram_size || new_size % BOOT_PAGE_SIZE)
		return -EINVAL;
	return ftruncate(c->m->ram_fd, new_size) ? -errno : 0;
}

static int process_release(struct backend_ctx *c, uint64_t gpa, uint64_t len)
{
	if (!gpa_is_ram(c->m, (gpa_t){gpa}, len) || len == 0)
		return -EINVAL;
	lazy_drop(c->m, gpa, len);
	return fallocate(c->m->ram_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, gpa, len) ? -errno : 0;
}

/* A hole cannot be collapsed, a block with one page can; what the host has not got is no error. */
static void process_huge(struct backend_ctx *c, uint64_t gpa, uint64_t len)
{
	uint8_t *p = gpa_ram(c->m, (gpa_t){gpa}, len);

	for (uint64_t at = 0; p && at + HUGE <= len; at += HUGE)
		if (madvise(p + at, BOOT_PAGE_SIZE, MADV_POPULATE_WRITE) ||
		    madvise(p + at, HUGE, MADV_COLLAPSE))
			return;
}

static int process_guest_syscalls(struct backend_ctx *c)
{
	return stub_allowed_calls(c->n_cpus > 1);
}

static void process_touched(struct backend_ctx *c, uint8_t *state, uint64_t pages)
{
	lazy_touched(c->m, state, pages);
}

static uint64_t process_exits(struct backend_ctx *c)
{
	return c->exits;
}

static void process_destroy(struct backend_ctx *c)
{
	int fds[] = {c->doorbell_fd, c->sock, c->wake_fd};

	group_destroy(&c->group);
	cpus_close(&c->cpus);
	for (unsigned i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	free(c);
}

const struct backend backend_process = {
	.name = "process",
	.usable = process_usable,
	.mem_create = process_mem_create,
	.create = process_create,
	.run = process_run,
	.kick = process_kick,
	.interrupt = process_interrupt,
	.grow = process_grow,
	.release = process_release,
	.huge = process_huge,
	.guest_syscalls = process_guest_syscalls,
	.exits = process_exits,
	.touched = process_touched,
	.cpus_fd = process_cpus_fd,
	.cpus_serve = process_cpus_serve,
	.cpus_want = process_cpus_want,
	.cpus_served = process_cpus_served,
	.destroy = process_destroy,
};
