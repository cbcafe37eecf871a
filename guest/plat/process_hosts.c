/* SPDX-License-Identifier: ISC */
/*
 * Host processes: where address spaces run on the process platform.
 *
 * A host process is a cache of one address space's mappings, and they are a cache of address spaces: up to PROCESS_MAX are
 * made, when they are needed; then who ran longest ago is taken over. So neither a host that refuses nor any
 * number of processes in the instance is an error: one host process for all would do, at the price of misses.
 * as->plat says which one an address space has; the instance's restore makes that void (`epoch`).
 *
 * One of them has the CPU. All share the library OS's memory, stacks included, so a switch is: leave the registers in
 * process_context, ring for the other one, and wait; it goes on where we stopped (arch/x86_64/process.S).
 *
 * What changes while a host process waits is noted in its struct: `stale` of the app's half is dropped when it runs
 * next, `gone` of the library OS's half even before it touches a stack. What is new is not noted: a miss brings it.
 */
#include "guest/plat/process.h"

#include <asm-generic/errno.h>
#include <asm/unistd.h>

#include "abi/boot.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"

/* process.S */
void process_handover(u64 host);
extern const u64 process_born_slot[];
struct arch_frozen process_context; /* of the switch that is under way */
struct range_arg {
	u64 va, len;
} process_forget; /* what the next one unmaps before it loads the context */

static struct host hosts[PROCESS_MAX];
static u32 n_hosts = 1, epoch = 1;
static u64 handovers;
static bool refused; /* the host gives no more of them */
struct host *here = &hosts[0];

static void range_add(struct range *r, u64 lo, u64 hi)
{
	r->lo = r->hi ? MIN(r->lo, lo) : lo;
	r->hi = MAX(r->hi, hi);
}

/* --- which one ------------------------------------------------------------------- */

struct host *host_of(const struct aspace *as)
{
	u64 at = (u64)as->plat;

	return at >> 32 == epoch ? &hosts[(u32)at] : NULL;
}

static void assign(struct host *h, struct aspace *as)
{
	if (h->as)
		h->as->plat = NULL;
	h->as = as;
	as->plat = (void *)((u64)epoch << 32 | (u64)(h - hosts));
	range_add(&h->stale, 0, BOOT_TASK_SIZE);
}

/* Another one: a child of the monitor, with our mappings. NULL: there can be none. */
static struct host *give_birth(void)
{
	struct host *h = &hosts[n_hosts];
	s64 r;

	if (n_hosts == PROCESS_MAX || refused)
		return NULL;
	r = process_gate(__NR_clone, PROCESS_CLONE_FLAGS, (u64)process_born_slot, 0, 0, 0, 0);
	if (r < 0) {
		process_gate(PROCESS_DOORBELL_NR, PROCESS_STILLBORN, 0, 0, 0, 0, 0);
		refused = true;
		return NULL;
	}
	n_hosts++;
	*h = (struct host){.gone = here->gone};
	return h;
}

static struct host *oldest(void)
{
	struct host *h = NULL;

	for (u32 i = 0; i < n_hosts; i++)
		if (&hosts[i] != here && (!h || hosts[i].used < h->used))
			h = &hosts[i];
	return h ? h : here;
}

static struct host *unused(void)
{
	if (!here->as)
		return here;
	for (u32 i = 0; i < n_hosts; i++)
		if (!hosts[i].as)
			return &hosts[i];
	return NULL;
}

/* exec: the thread has its new address space, and the old one, which nobody else has, is about to end. */
static bool is_replaced(const struct aspace *old, const struct aspace *as)
{
	return old && old->refs == 1 && current && current->proc && current->proc->as == as;
}

struct host *host_for(struct aspace *as, bool *fresh)
{
	struct host *h = host_of(as);

	*fresh = !h;
	if (h)
		return h;
	h = is_replaced(here->as, as) ? here : unused();
	if (!h)
		h = give_birth();
	if (!h)
		h = oldest();
	assign(h, as);
	return h;
}

void host_free_aspace(struct aspace *as)
{
	struct host *h = host_of(as);

	as->plat = NULL;
	if (!h)
		return;
	h->as = NULL;
	range_add(&h->stale, 0, BOOT_TASK_SIZE);
}

void hosts_restored(void)
{
	epoch++;
	memset(hosts, 0, sizeof(hosts));
	n_hosts = 1;
	refused = false;
	here = &hosts[0];
}

/* --- turns -------------------------------------------------------------------------- */

void host_switch(struct host *h)
{
	if (h == here)
		return;
	if (current && current->xstate)
		arch_xstate_save(current);
	process_forget = (struct range_arg){h->gone.lo, h->gone.hi - h->gone.lo};
	h->gone = (struct range){0};
	h->used = ++handovers;
	here = h;
	process_handover((u64)(h - hosts));
}

void host_stale(struct host *h, u64 va, u64 len)
{
	range_add(&h->stale, va, va + len);
}

void hosts_gone(u64 va, u64 len)
{
	for (u32 i = 0; i < n_hosts; i++)
		if (&hosts[i] != here)
			range_add(&hosts[i].gone, va, va + len);
}
