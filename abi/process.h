/* SPDX-License-Identifier: ISC */
/*
 * Contract of the process platform: between the monitor's process backend,
 * which starts the guest as a child process, and the library OS in it.
 *
 * The child begins in a stub of one page that the monitor placed at
 * PROCESS_STUB_VA, above everything the library OS may map. It makes the
 * child's mappings, installs the signal handlers and the filters, and jumps to the
 * library OS's entry. The library OS unmaps it.
 *
 * From then on the one door is libos_header.gate: host system calls from any
 * other address come back as SIGSYS, and from the gate only the calls that
 * PROCESS_* below lists reach the host. A wrong one from the gate ends the process.
 *
 *   mmap      MAP_SHARED|MAP_FIXED (optionally |MAP_POPULATE) of boot_info.ram_fd, or without PROT_WRITE
 *             of a region's descriptor or of a snapshot's (PROCESS_PIECES); below BOOT_LIBOS_TOP
 *   munmap, mprotect, madvise(POPULATE_READ, POPULATE_WRITE, COLLAPSE)
 *   rt_sigreturn, exit_group
 *   clone(PROCESS_CLONE_FLAGS) (-EBUSY: with several CPUs, the one before has yet to report), prctl(PR_SET_PDEATHSIG, SIGKILL): notifications, as the doorbell is
 *   PROCESS_DOORBELL_NR
 *
 * Each address space of the guest may have a host process of its own. They are numbered from 0, the first one, in the order of their
 * births. A new one is born by clone, in the midst of nothing: its first two calls are prctl and PROCESS_WAIT. One of
 * them has the CPU and gives it to another by PROCESS_SWITCH; all others wait in that doorbell. The death of any of them is
 * the instance's.
 *
 * Several CPUs. Each host process has a thread for each CPU, its seat there: the first thread is the seat of the CPU that made the
 * host process, the others it makes before its first wait. What is said of host processes above then is said for each
 * CPU of its seats: one of them has the CPU, the others wait. The filter allows two calls more, sched_yield and
 * sigaltstack(new, NULL).
 */
#ifndef COWBELL_ABI_PROCESS_H
#define COWBELL_ABI_PROCESS_H

#ifndef __ASSEMBLER__
#include <stdint.h>
#endif

/* A child of the monitor, that shares nothing with its maker but open files: CLONE_PARENT | CLONE_FILES | CLONE_FS. */
#define PROCESS_CLONE_FLAGS 0x8600ull
#define PROCESS_MAX	    64 /* host processes of an instance */
/* Another thread: CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM. */
#define PROCESS_SEAT_FLAGS 0x50f00

/*
 * No Linux system call has this number. It waits until the monitor answers. Its first argument says what is wanted:
 *
 *   PROCESS_RING              what is in the ring (0 is returned)
 *   PROCESS_FILL gpa n        a restored instance: fill n pages of RAM from gpa on. How many are filled, at least one
 *   PROCESS_MISSING gpa n all a restored instance: write a bit for each of the first n pages of RAM to gpa, set where
 *                             the page has yet to be filled, or with `all`, where it was so before anything of the
 *                             app's was filled. How many of these there were
 *
 *   PROCESS_SWITCH j          host process j goes on, the caller waits until another one switches to it. j may be one
 *                             that was born and has not come to its wait
 *   PROCESS_WAIT n            a new host process, or a new thread of one, waits likewise; it is CPU n's seat there
 *   PROCESS_STILLBORN         a clone failed: there is no new one
 *   PROCESS_CPU what arg      several CPUs: enum boot_call (abi/boot.h)
 *   PROCESS_PIECES gpa n      a restored instance: write up to n of struct process_piece to gpa. How many
 *
 * All but the first return -errno for what is not RAM and touch nothing else, so they may be called anywhere.
 */
#define PROCESS_DOORBELL_NR 0x2bebe
#define PROCESS_RING	    0
#define PROCESS_FILL	    1
#define PROCESS_MISSING	    2
#define PROCESS_PIECES	    3
#define PROCESS_SWITCH	    4
#define PROCESS_WAIT	    5
#define PROCESS_STILLBORN   6
#define PROCESS_CPU	    7

/*
 * Pages of a restored instance's RAM as its snapshot stores them: by gpa, without overlap. Until one of them is filled the
 * guest may map it from the file, which it can only read.
 */
#ifndef __ASSEMBLER__
struct process_piece {
	uint64_t gpa, off; /* of the file; both whole pages */
	uint32_t pages, fd;
};
_Static_assert(sizeof(struct process_piece) == 24, "abi");
#endif

#define PROCESS_STUB_VA	  0x7ff800000000
#define PROCESS_STUB_SIZE 0x10000

/* Signal (SIGUSR1) by which the monitor diverts the guest; vcpu.kick is set before. */
#define PROCESS_KICK_SIGNAL 10

#endif
