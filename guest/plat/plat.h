/* SPDX-License-Identifier: ISC */
/*
 * The platform seam: the only code that knows what is underneath.
 * Two implementations live in one library OS (a snapshot may move between
 * them); boot_info.plat selects. Page tables are kept by mm/ in guest memory
 * on every platform, in the hardware's format; a platform mirrors changes to
 * wherever the CPU really looks.
 */
#ifndef COWBELL_GUEST_PLAT_H
#define COWBELL_GUEST_PLAT_H

#include "guest/base.h"

struct aspace;
struct cpu;

enum {
	PLAT_R = 1,
	PLAT_W = 2,
	PLAT_X = 4,
	PLAT_TOUCH = 8, /* map only, a hint: every page of it will be touched right away */
};

struct plat {
	const char *name;
	/*
	 * After mm/ changed leaf entries of `as` (NULL: the library OS's slot, shared by all).
	 * map: [va, va+len) now maps gpa.. contiguously with prot; was it not present
	 *      before (`fresh`), no flush is needed. kvm: flush if !fresh; process: mmap of
	 *      guest RAM or of the region's file.
	 * unmap: entries are gone; flush / munmap.
	 */
	void (*map)(struct aspace *as, u64 va, gpa_t gpa, u64 len, int prot, bool fresh);
	void (*unmap)(struct aspace *as, u64 va, u64 len);
	/* Make `as` the current address space (kvm: CR3 through the stub; process: the host process of it). */
	int (*aspace_init)(struct aspace *as);
	void (*aspace_free)(
		struct aspace
			*as); /* its end has begun, and no app runs in it: stop using it. May come twice */
	void (*aspace_switch)(struct aspace *as);
	/* Ring the doorbell (ring.h filled in ring_ctl.wait...). Returns when the monitor hands the CPU back. */
	void (*doorbell)(void);
	/*
	 * Both optional. flush: a platform whose CPU reads mm's page tables itself (kvm) needs no
	 * news of what was replaced or downgraded but one flush of the whole range per operation;
	 * where it is set mm/ calls it instead of map(..., fresh = false) and protect.
	 * protect: [va, va+len) keeps its memory and now has prot (process: mprotect); without it
	 * mm/ uses map(..., fresh = false).
	 */
	void (*flush)(struct aspace *as, u64 va, u64 len);
	void (*protect)(struct aspace *as, u64 va, u64 len, int prot);
	/*
	 * This platform is new to the instance (a restore): nothing but what the loader maps is there. Before any stack
	 * but the boot stack is used; `as` (may be NULL) becomes current.
	 */
	void (*restored)(struct aspace *as);
	/* Optional. The doorbell itself does not work: end the instance in any way that the monitor sees. */
	void (*die)(void);
	/* Optional. This CPU alone disagrees with mm about the page at va of `as`. */
	void (*flush_page)(struct aspace *as, u64 va);
	/*
	 * Several CPUs. flush_all: this CPU forgets all translations of its address space. cpu_call: a doorbell that says
	 * enum boot_call. cpu_forget: c is about to be started, and has nothing of what it had.
	 */
	void (*flush_all)(void);
	void (*cpu_call)(u32 what, u64 arg);
	void (*cpu_forget)(struct cpu *c);
	/* Optional. Before the others of n CPUs are started: how many there can be. */
	u32 (*cpus_prepare)(u32 n);
};

extern const struct plat *plat;
/* Come to rest and let the monitor take a snapshot; returns in the original and in each restored one (snapshot.c). */
void snapshot_freeze(void);
extern const struct plat plat_kvm, plat_process;

#endif
