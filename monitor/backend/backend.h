/* SPDX-License-Identifier: ISC */
/*
 * The backend seam: how a guest gets onto the CPU. A backend knows memory and
 * registers and nothing about devices; instance.c is the only file that puts
 * it together with the ring server.
 */
#ifndef COWBELL_MONITOR_BACKEND_H
#define COWBELL_MONITOR_BACKEND_H

#include "monitor/gpa.h"

/* One mapping of the initial address space, from load.c. */
struct load_map {
	uint64_t va, gpa, len;
	uint32_t prot; /* PROT_* as the guest may use it */
};

/* What load.c made: everything is in guest memory already, page table included. */
struct load_plan {
	uint64_t entry, stack_top; /* first instruction; %rdi = boot_info_va */
	uint64_t boot_info_va;
	uint64_t cr3_gpa;
	uint64_t libos_text_va, libos_text_len; /* "inside the library OS" for kicks */
	/* addresses of symbols in the library OS (its header table, see guest/arch/x86_64/header.S) */
	uint64_t sym_syscall_trap; /* unpatched syscall, kvm LSTAR target */
	uint64_t sym_exception; /* ring-3 exception entry */
	uint64_t sym_upcall; /* kick of app code */
	uint64_t
		sym_gate; /* process: the one `syscall` instruction allowed to reach the host (address after it: sym_gate_ret) */
	uint64_t sym_gate_ret;
	uint64_t cpu_va; /* struct cpu of vCPU 0 (%gs base) */
	uint64_t vcpu_gpa, ring_gpa, boot_info_gpa, time_gpa, stats_gpa;
	int n_maps;
	struct load_map maps[64];
	uint64_t exc_stack_top; /* also in the per-CPU page at BOOT_CPU_EXC_STACK */
	uint64_t sym_syscall_entry; /* where patched sites go (the guest puts it at gs:16 itself) */
	uint64_t sym_signal; /* process: the library OS's host signal handler, or 0 */
	uint64_t sym_resume; /* entry of a restored instance */
	uint64_t sym_flush_cr3, sym_flush_page; /* kvm: see struct libos_header */
	uint64_t stub_va,
		stub_gpa; /* kvm: one supervisor page for the ring-0 stub and its tables; not in maps */
};

enum run_reason {
	RUN_DOORBELL, /* the guest rang: run the ring server, then run() again */
	RUN_KICKED, /* a signal, tick or kick interrupted: look at timers and signals, then run() again */
	RUN_DIED, /* the guest is gone or did what it must not: run_info.why */
};

struct run_info {
	char why[160]; /* RUN_DIED: one phrase that names the cause */
	int signal; /* RUN_DIED by a host signal of the guest process, or 0 */
};

struct backend_ctx;
struct backend {
	const char *name;
	/* Can it be used here? 0 or -errno; *why gets a phrase. */
	int (*usable)(const char **why);
	/* Begin with what create() needs and memory does not matter for, in the background. May be NULL. */
	void (*prepare)(void);
	/* Reserve and create guest RAM: fills ram, ram_fd, ram_size (an initial part of ram_max). */
	int (*mem_create)(struct guest_mem *m, uint64_t ram_max);
	/* Create the VM or the guest process, not running yet. Regions and RAM are in place. */
	int (*create)(struct backend_ctx **ctx, struct guest_mem *m, const struct load_plan *plan);
	/* Let the guest run until a reason comes up. `kick` of another thread or a signal handler makes it return. */
	enum run_reason (*run)(struct backend_ctx *ctx, struct run_info *info);
	/*
	 * Divert the guest's app to the library OS: sets vcpu.kick, and the next run() (a running one
	 * returns RUN_KICKED first) diverts if RIP is the app's, else lets the guest go on. The guest clears vcpu.kick;
	 * while it is set, instance.c kicks again every millisecond. Async-signal-safe.
	 */
	void (*kick)(struct backend_ctx *ctx);
	/* RAM becomes m->ram_size .. new_size larger. 0 or -errno. */
	int (*grow)(struct backend_ctx *ctx, uint64_t new_size);
	/* Contents of [gpa, gpa+len) may be dropped; reads as zero afterwards. */
	int (*release)(struct backend_ctx *ctx, uint64_t gpa, uint64_t len);
	/* Back by huge pages where the host can; best effort. */
	void (*huge)(struct backend_ctx *ctx, uint64_t gpa, uint64_t len);
	/* Host system calls of the guest process itself that its filter allows (--stats), or 0. */
	int (*guest_syscalls)(struct backend_ctx *ctx);
	uint64_t (*exits)(struct backend_ctx *ctx); /* times the guest left the CPU to the monitor */
	void (*destroy)(struct backend_ctx *ctx); /* also reaps the guest process */
	/* workset.h: enum workset_touch of each page of RAM since the restore. NULL: it cannot tell. Under the filter. */
	void (*touched)(struct backend_ctx *ctx, uint8_t *state, uint64_t pages);
	/* Make run() return RUN_KICKED without diverting the guest. Async-signal-safe. */
	void (*interrupt)(struct backend_ctx *ctx);
	/*
	 * Several CPUs, as many as boot information says; NULL: this backend has one. run, kick and interrupt are for CPU 0, these
	 * for the others, each on a thread of its own. cpu_start: as its struct boot_vcpu says; 0 or -errno. cpu_divert: the
	 * next cpu_run() diverts it, if it can. cpu_interrupt: async-signal-safe.
	 */
	int (*cpu_start)(struct backend_ctx *ctx, int n);
	enum run_reason (*cpu_run)(struct backend_ctx *ctx, int n, struct run_info *info);
	void (*cpu_divert)(struct backend_ctx *ctx, int n);
	void (*cpu_interrupt)(struct backend_ctx *ctx, int n);
	/*
	 * Or, where they need no threads: run() serves them beside CPU 0, and returns RUN_KICKED if they want something of the loop.
	 * cpus_fd: readable when they want to be served while CPU 0 waits; cpus_serve does that. cpus_want: enum cpus_want since
	 * it was asked last. cpus_served: the ring was served for them.
	 */
	int (*cpus_fd)(struct backend_ctx *ctx);
	void (*cpus_serve)(struct backend_ctx *ctx);
	uint32_t (*cpus_want)(struct backend_ctx *ctx);
	void (*cpus_served)(struct backend_ctx *ctx);
};

enum cpus_want { CPUS_POKE0 = 1 /* CPU 0 */, CPUS_RING = 2 /* a turn of it */ };

extern const struct backend backend_kvm, backend_process;

#endif
