/* SPDX-License-Identifier: ISC */
/*
 * Boot contract between the monitor (writer) and the guest library OS (reader).
 *
 * The monitor loads the library OS, builds the first page table and fills one
 * page with `struct boot_info`; the guest starts at its entry point with the
 * page's virtual address in %rdi. Both monitors do the same, so the state of
 * an instance does not depend on which one runs it.
 *
 * Guest-physical address space (gpa):
 *   [0, ram_max)            RAM; [0, ram_size) exists now, MEM_GROW adds the rest
 *   [BOOT_IMAGE_GPA, ...)   read-only regions: the library OS's own text, then
 *                           the image layers, each 2 MiB aligned (boot_region)
 * Both fit into 39 bits, so that every CPU's physical address width suffices.
 *
 * Virtual address space: the app has PML4 slots 0..254 (TASK_SIZE below), the
 * library OS has slot 255 in every address space: its text and data, the
 * direct map of all RAM, a window on each read-only region, the vmap area.
 */
#ifndef COWBELL_ABI_BOOT_H
#define COWBELL_ABI_BOOT_H

#include <stdint.h>

#define BOOT_MAGIC     0x4c4c4542574f4342ull /* "BCOWBELL" */
#define BOOT_VERSION   1

#define BOOT_PAGE_SIZE 4096ull
#define BOOT_TASK_SIZE 0x7f8000000000ull /* first address that is not the app's */
#define BOOT_LIBOS_TOP 0x7ff000000000ull /* the host's own [vdso] may live above */
#define BOOT_IMAGE_GPA (64ull << 30)
#define BOOT_GPA_MAX   (512ull << 30)
#define BOOT_RAM_MAX   BOOT_IMAGE_GPA

enum boot_plat { BOOT_PLAT_KVM = 1, BOOT_PLAT_PROCESS = 2 };

/* A read-only range of guest-physical addresses backed by a file. */
struct boot_region {
	uint64_t gpa; /* 2 MiB aligned */
	uint64_t size; /* bytes, multiple of 4096 */
	uint64_t va; /* where the library OS sees it (read-only) */
	uint32_t kind; /* enum boot_region_kind */
	uint32_t fd; /* process platform: the guest's descriptor of the file */
	uint64_t file_off; /* offset of the region's first byte in that file */
};

enum boot_region_kind {
	BOOT_REGION_LIBOS = 1, /* library OS text and read-only data */
	BOOT_REGION_LAYER = 2, /* an EROFS image layer; first one is the lowest */
};

#define BOOT_MAX_REGIONS 32
#define BOOT_MAX_GROUPS	 32

/*
 * Time parameters, kept current by the monitor and read under a sequence
 * count (odd while being written):
 *   ns = base_ns + (((tsc - base_tsc) * mult) >> BOOT_TIME_SHIFT)      (128-bit product)
 * for the monotonic clock; realtime adds real_off_ns. tsc as the guest reads it.
 * The same two bases stand there as seconds and nanoseconds below one second,
 * so that a reader that wants a timespec need not divide.
 */
#define BOOT_TIME_SHIFT 32

struct boot_time {
	uint32_t seq;
	uint32_t pad0;
	uint64_t base_tsc;
	uint64_t mult;
	struct {
		uint64_t sec, nsec;
	} base[2]; /* monotonic, realtime */
	uint64_t base_ns;
	int64_t real_off_ns;
	uint64_t tsc_khz;
};

/*
 * State of one virtual CPU that the monitor and the guest share.
 * `kick` is set by the monitor when it wants the guest's attention (a tick, a
 * host signal, a ready socket); the guest clears it. A monitor never diverts
 * a guest whose RIP is inside the library OS: it sets `kick` and comes back.
 */
struct boot_vcpu {
	uint32_t kick; /* monitor writes 1, guest writes 0; bit 1 is the guest's own, between CPUs */
	uint32_t want_tick; /* guest: deliver a tick every tick_ns while running */
	uint64_t tick_ns;
	/* the diverted app's registers, written by the kvm monitor on an upcall */
	uint64_t gpr[16]; /* rax rcx rdx rbx rsp rbp rsi rdi r8..r15 */
	uint64_t rip, rflags;
	uint64_t stat_kicks;
	/* with several CPUs: what a doorbell of this one is for, when it is not CPU 0's ring */
	uint32_t call; /* enum boot_call; the monitor writes 0 when it has read it */
	uint32_t
		kick_heard; /* process: the monitor writes 0 before it sends a kick's signal, the guest 1 when that arrives */
	uint64_t arg;
	/* where CPU n begins (BOOT_CALL_START): its own pages; rip and gpr[4] say where and with which stack */
	uint64_t cpu_va, exc_stack_top, stub_va, stub_gpa;
	uint64_t pad[4];
};

/*
 * Several CPUs. CPU 0 runs from the start and is the one whose doorbell serves the ring and may wait there. The others
 * are started by the guest, each with pages that it chose, and tell by `call` what they ring for. A poke
 * makes a CPU that sleeps in BOOT_CALL_IDLE or in the ring come back, now or the next time that it would sleep; if
 * its kick is set and it computes, it is diverted.
 */
#define BOOT_MAX_VCPUS 16
enum boot_call {
	BOOT_CALL_NONE = 0,
	BOOT_CALL_START = 1, /* arg: number of the CPU, whose struct boot_vcpu is filled */
	BOOT_CALL_IDLE = 2, /* sleep until poked, at most arg ns (all ones: for ever) */
	BOOT_CALL_POKE = 3, /* arg: mask of CPUs */
	BOOT_CALL_YIELD = 4, /* spinning for what another CPU has: let the host run others */
	BOOT_CALL_RING =
		5, /* CPU n > 0: what is in the ring. arg: not 0: wait a little for completions if there are none */
};

/* Guest counters that --stats prints; written by the guest only. A snapshot keeps them; the first two marks are new then. */
struct boot_stats {
	uint64_t syscalls; /* entered, any way */
	uint64_t syscall_traps; /* of these, entered by a trap (unpatched site) */
	uint64_t sites_patched;
	uint64_t faults; /* page faults handled */
	uint64_t doorbells; /* exits for the ring */
	uint64_t pages_used; /* RAM frames in use now */
	uint64_t pages_peak;
	uint64_t first_insn_tsc; /* phase marks, TSC as the guest reads it, 0 = not yet */
	uint64_t first_user_tsc; /* first instruction of the program (or its ld.so) */
	uint64_t main_tsc; /* program's own entry after the dynamic linker */
	uint64_t first_listen_tsc;
	uint64_t processes; /* now, without zombies */
	uint64_t processes_peak;
	uint64_t processes_made; /* by fork and its like */
	uint64_t pad[2];
};

/* What the program is started with: strings in one block, NUL-terminated. */
struct boot_info {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* sizeof(struct boot_info) */
	uint32_t plat; /* enum boot_plat; changes on a cross-monitor restore */
	uint32_t n_regions;
	uint32_t n_vcpus;
	uint32_t flags; /* BOOT_F_* */
	uint64_t ram_size; /* bytes present now */
	uint64_t ram_max; /* the limit (-m) */
	uint64_t ram_used; /* first free gpa: all below belongs to boot data */
	uint64_t physmap_va; /* direct map of RAM: va = physmap_va + gpa */
	uint64_t libos_va; /* load address of the library OS */
	uint64_t libos_size;
	uint64_t vmap_va, vmap_size; /* free VA range of the library OS */
	uint64_t cr3_gpa; /* first page table */
	uint64_t ring_va, ring_gpa; /* struct ring_page array, one per vCPU */
	uint64_t vcpu_va; /* struct boot_vcpu array */
	uint64_t time_va; /* struct boot_time (own page, mapped read-only into the app too) */
	uint64_t time_gpa;
	uint64_t stats_va; /* struct boot_stats */
	uint64_t strings_va; /* argv, envp, ... */
	uint64_t strings_size;
	uint32_t argc, envc; /* at offset argv_off: argc strings, then envc strings */
	uint32_t argv_off;
	uint32_t exe_off; /* guest path of the program to execute */
	uint32_t cwd_off;
	uint32_t hostname_off;
	uint32_t volumes_off; /* n_volumes strings: guest directory; index = volume id */
	uint32_t n_volumes;
	uint32_t volumes_ro; /* bit i: volume i is read-only */
	uint32_t ports_count; /* listening policy: see ports[] */
	uint16_t ports[64]; /* guest TCP/UDP ports that the host forwards */
	uint8_t seed[64]; /* fresh randomness; the guest wipes it after use */
	uint64_t generation; /* changes with every restore */
	uint8_t instance_id[16];
	uint32_t cpu_features[16]; /* cpuid leaves the guest needs: [0..3]=1, [4..7]=7.0, [8..11]=0xd.0 */
	uint64_t xstate_size; /* bytes of an XSAVE area for xcr0 */
	uint64_t xcr0;
	uint64_t ram_fd; /* process platform: descriptor of guest RAM */
	uint32_t uid, gid; /* identity of the program in the guest */
	uint32_t host_tty_mask; /* bit n: stream n (0..2) is a terminal */
	uint32_t host_file_mask; /* bit n: stream n is a file or a device: a write has its result at once */
	uint32_t log_level; /* enum boot_log */
	uint32_t n_groups; /* supplementary groups of the program */
	uint32_t groups[BOOT_MAX_GROUPS];
	struct boot_region regions[BOOT_MAX_REGIONS];
	char hostname[65]; /* of a restored instance; NUL-terminated, empty: as it was */
	uint32_t app_layer; /* the app's own layer: its number from 1 on, lowest first; 0: nobody asks */
	uint64_t app_size; /* of that layer; its region may be larger, so that others fit there */
	uint64_t
		chaos; /* not 0: a seed; the library OS preempts and delays at places that it decides (tests) */
};

enum boot_flag {
	BOOT_F_STRACE = 1, /* print decoded system calls on the log stream */
	BOOT_F_EGRESS_NONE = 4, /* hint only: the monitor enforces */
	BOOT_F_STATS = 8, /* somebody wants main_tsc: worth a detour at the program's entry */
	BOOT_F_PREFIX_MAKE =
		32, /* tell of the first look at the app's layer, which is empty (RING_READY_PREFIX) */
	BOOT_F_PREFIX_GO = 64, /* restored from there, with an app */
	BOOT_F_STANDBY = 128, /* and there is none yet: RING_READY_APP asks for it */
	BOOT_F_NOTIFY = 16, /* the program is told of BOOT_NOTIFY_SOCKET in its environment */
};

/*
 * Names that runtimes try in an app's directory before they read the app, and that hardly any app has. Looking for them
 * is no look at the app; who goes on from there has none of them.
 */
#define BOOT_PREFIX_ABSENT                                                                                   \
	".local", ".config", ".cache", ".gem", ".gemrc", ".bundle", "enumerator.so", "thread.rb",            \
		"fiber.so", "rational.so", "complex.so", "ruby2_keywords.rb"

/* System call number of the vDSO's own: see vdso_time.c. */
#define BOOT_NR_MAIN_MARK 0x2beb0

/* An abstract AF_UNIX datagram socket that the library OS serves as sd_notify(3) wants it; READY=1 is RING_OP_READY. */
#define BOOT_NOTIFY_SOCKET "@cowbell/notify"

enum boot_log { BOOT_LOG_ERROR, BOOT_LOG_WARN, BOOT_LOG_INFO, BOOT_LOG_DEBUG };

_Static_assert(sizeof(struct boot_region) == 40, "abi");
_Static_assert(sizeof(struct boot_time) == 80, "abi");
_Static_assert(sizeof(struct boot_vcpu) * BOOT_MAX_VCPUS <= BOOT_PAGE_SIZE, "one page");
_Static_assert(sizeof(struct boot_info) <= 4096, "one page");

#endif
