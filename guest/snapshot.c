/* SPDX-License-Identifier: ISC */
/*
 * Coming to rest for a snapshot, and going on in a restored instance.
 *
 *   RING_EV_SNAPSHOT -> ring.c, after completions ran -> snapshot_freeze()
 *
 *   snapshot_freeze()   census of the frames (mm/census.c), room for it first;
 *                       vector registers of the current thread to memory (user_return loads them again);
 *                       arch_freeze() keeps what C needs to go on from there, as setjmp does;
 *                       RING_OP_SNAPSHOT. Under the doorbell everything is in RAM.
 *        |        \
 *        |         original: the request completes, go on
 *        restored: monitor -> libos_resume (boot stack) -> snapshot_resume() -> arch_freeze() returns 1
 *
 * Before any code of the app runs in a restored instance: the platform's mappings, what must not be the same in two
 * instances (restored.c), CPU time that nobody used. Timers that are due fire at the next look, as after any long doorbell: the
 * monotonic clock went on by what passed outside. Handles that cannot live on are dead in the monitor
 * already and answer with errors by themselves.
 */
#include <asm-generic/errno.h>

#include "abi/boot.h"
#include "abi/ring.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/linux/table.h"
#include "guest/mm/census.h"
#include "guest/mm/frame.h"
#include "guest/mm/mm.h"
#include "guest/mm/vma.h"
#include "guest/plat/plat.h"
#include "guest/plat/ring.h"
#include "guest/proc/chaos.h"
#include "guest/proc/internal.h"
#include "guest/proc/smp.h"
#include "guest/restored.h"
#include "guest/vfs/prefix.h"
#include "guest/vfs/vfs.h"

static struct arch_frozen frozen;
static u64 rested_generation; /* that it has when it comes to rest */

struct arch_frozen *snapshot_resume(struct boot_info *bi);

/* First C code of a restored instance, on the boot stack; nothing but the loader's mappings can be relied on. */
struct arch_frozen *snapshot_resume(struct boot_info *bi)
{
	boot = bi;
	plat = bi->plat == BOOT_PLAT_PROCESS ? &plat_process : &plat_kvm;
	lazy_frames.some = false; /* of the instance before */
	n_cpus = 1; /* until smp_start() */
	plat->restored(aspace_active);
	return &frozen;
}

static void forget_time_outside(void)
{
	u64 now = mono_ns();

	list_for_each (n, &all_threads)
		list_entry(n, struct thread, all_node)->last_ns = now;
	current->last_ns = now;
}

/* Is it another one than that which came to rest? One that was moved is the same: nobody else goes on from there. */
static bool is_copy(void)
{
	return boot->generation != rested_generation;
}

static void restored(void)
{
	struct boot_vcpu *v = this_cpu()->shared;

	stats->first_insn_tsc = __builtin_ia32_rdtsc();
	restored_renew(is_copy());
	prefix_after_rest(true); /* which may wait for long */
	forget_time_outside();
	strace_on = boot->flags & BOOT_F_STRACE;
	chaos_init();
	v->kick = 1; /* the way back to the app looks at timers */
	smp_start();
	sched_update_tick();
	stats->first_user_tsc = __builtin_ia32_rdtsc();
	log_line(LOG_DEBUG, "restored on %s, generation %lu", plat->name, boot->generation);
}

static bool counted_before(const struct process *p)
{
	list_for_each (n, &all_processes) {
		const struct process *o = list_entry(n, struct process, all_node);

		if (o == p)
			return false;
		if (o->as == p->as)
			return true;
	}
	return false;
}

/* What each frame is; sqe->len stays 0 if nothing can be said. */
static void take_census(struct ring_sqe *sqe)
{
	gpa_t g;
	u64 len;

	list_for_each (n, &all_processes) {
		struct process *p = list_entry(n, struct process, all_node);

		if (p->as && !counted_before(p))
			census_count(p->as);
	}
	census_close(&g, &len);
	sqe->addr = g.v;
	sqe->len = (u32)len;
}

void snapshot_freeze(void)
{
	struct thread *t = current;
	struct ring_sqe sqe = {.op = RING_OP_SNAPSHOT, .handle = RING_NO_HANDLE};
	static bool census;
	bool again;

	sqe.arg = prefix_at_rest();
	census = census_begin();
	if (!ring_quiet()) {
		if (census)
			census_end();
		ring_freeze_later();
		return;
	}
	if (census)
		take_census(&sqe);
	if (t && t->xstate)
		arch_xstate_save(t);
	rested_generation = boot->generation;
	if (arch_freeze(&frozen)) {
		if (census) {
			census_end();
			frames_restored();
		}
		restored();
		return;
	}
	again = ring_call_nosleep(&sqe, NULL, NULL) == -EAGAIN;
	if (census)
		census_end();
	if (again)
		ring_freeze_later();
	else
		prefix_after_rest(false);
}
