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
 * struct cpu, ring for the other one, and wait; it goes on where we stopped (arch/x86_64/process.S).
 *
 * What changes while a host process waits is noted in its struct: `stale` of the app's half is dropped when it runs
 * next, `gone` of the library OS's half even before it touches a stack. What is new is not noted: a miss brings it.
 *
 * Several CPUs. A host process has a seat for each CPU, a thread that waits unless that CPU is in this host process. `here`
 * is the CPU's own. What is noted for a host process in which another CPU is, is dropped by that one when it next has
 * the lock; if the app runs there, it is brought in for that. No host process is taken over from an address space that
 * another CPU has; there are at least as many as CPUs (hosts_prepare), so that always one can be had.
 */
#include "guest/plat/process.h"

#include <asm-generic/errno.h>
#include <asm/unistd.h>

#include "abi/boot.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/mm/frame.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/proc/smp.h"

/* process.S */
void process_handover(u64 host);
extern const u64 process_born_slot[];
s64 process_make_seat(u64 n);
u32 process_n_seats = 1;
u32 process_seats_word; /* written by one that was born, when it has made its seats: 1, or 2: the host gives no more of them */
struct process_seat {
	u64 gs;
	stack_t ss;
} process_seats[BOOT_MAX_VCPUS];
u64 process_signal_stacks[2]; /* where the other CPUs' are: from, to */
_Static_assert(sizeof(struct process_seat) == 32 && sizeof(stack_t) == 24, "process.S");
_Static_assert(sizeof(struct arch_frozen) == sizeof(((struct cpu *)0)->handover), "process.S");

#define SIGNAL_STACK_ORDER 2
_Static_assert(PAGE_SIZE << SIGNAL_STACK_ORDER == PROCESS_SIGNAL_STACK, "process.S");

struct host hosts[PROCESS_MAX];
static u32 n_hosts = 1, epoch = 1;
static u64 handovers;
static bool refused; /* the host gives no more of them */

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

/* Has h, which was just born, all its seats? If not, it cannot be used; it stays because it has a number. */
static bool seats_made(struct host *h)
{
	u32 word;

	if (process_n_seats == 1)
		return true;
	while (!(word = __atomic_load_n(&process_seats_word, __ATOMIC_ACQUIRE)))
		process_gate(__NR_sched_yield, 0, 0, 0, 0, 0, 0);
	if (word == 1)
		return true;
	h->seats = 0;
	return false;
}

/* Another one: a child of the monitor, with our mappings. NULL: there can be none. */
static struct host *give_birth(void)
{
	struct host *h = &hosts[n_hosts];
	s64 r;

	if (n_hosts == PROCESS_MAX || refused)
		return NULL;
	process_seats_word = 0;
	/* Several CPUs: the one before, which another CPU made, has yet to report. The monitor waits for that no longer than it may. */
	while ((r = process_gate(__NR_clone, PROCESS_CLONE_FLAGS, (u64)process_born_slot, 0, 0, 0, 0)) ==
	       -EBUSY)
		process_gate(__NR_sched_yield, 0, 0, 0, 0, 0, 0);
	if (r < 0) {
		process_gate(PROCESS_DOORBELL_NR, PROCESS_STILLBORN, 0, 0, 0, 0, 0);
		refused = true;
		return NULL;
	}
	n_hosts++;
	*h = (struct host){.gone = here->gone, .seats = process_n_seats};
	refused = !seats_made(h);
	return refused ? NULL : h;
}

/* Another CPU is in it and may go on there without asking, or it has no seat for this one. */
static bool engaged(const struct host *h)
{
	if (!smp())
		return false;
	for (u32 i = 0; i < n_cpus; i++)
		if (cpus[i] != this_cpu() && &hosts[cpus[i]->host] == h && h->as && cpus[i]->as == h->as)
			return true;
	return h->seats < n_cpus;
}

/* There are at least as many of them as CPUs, so that one is left. */
static struct host *oldest(void)
{
	struct host *h = NULL;

	for (u32 i = 0; i < n_hosts; i++)
		if (&hosts[i] != here && !engaged(&hosts[i]) && (!h || hosts[i].used < h->used))
			h = &hosts[i];
	return h ? h : here;
}

static struct host *unused(void)
{
	if (!here->as)
		return here;
	for (u32 i = 0; i < n_hosts; i++)
		if (!hosts[i].as && !engaged(&hosts[i]))
			return &hosts[i];
	return NULL;
}

/*
 * exec: the thread has its new address space, and the old one, which nobody else has, is about to end. Idle threads and
 * others of the library OS do not: they are counted to a process whose memory they never use.
 */
static bool is_replaced(const struct aspace *old, const struct aspace *as)
{
	return old && old->refs == 1 && current && !current->kfn && current->proc &&
	       current->proc->as == as && !engaged(here);
}

struct host *host_for(struct aspace *as, bool *fresh)
{
	struct host *h = host_of(as);

	if (h && smp() && h->seats < n_cpus) { /* it had that before there were several CPUs */
		h->as = NULL;
		range_add(&h->stale, 0, BOOT_TASK_SIZE);
		h = NULL;
	}
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
	process_n_seats = 1;
	this_cpu()->host = 0;
}

/* --- seats -------------------------------------------------------------------------- */

/* In the direct map, which is the same in all host processes and stays: signals find it without a miss. */
static bool seat_describe(struct cpu *c)
{
	const size_t size = PAGE_SIZE << SIGNAL_STACK_ORDER;

	process_signal_stacks[0] = boot->physmap_va;
	process_signal_stacks[1] = boot->physmap_va + boot->ram_max;
	if (!c->signal_stack_top) {
		gpa_t g = frame_alloc(SIGNAL_STACK_ORDER, true);

		if (g.v == GPA_NONE.v)
			return false;
		c->signal_stack_top = (u64)frame_ptr(g) + size;
	}
	/* In a restored instance the direct map has holes, which misses fill; all host processes that are born will have this. */
	for (u64 at = c->signal_stack_top - size; at < c->signal_stack_top; at += PAGE_SIZE)
		*(volatile u8 *)at = 0;
	process_seats[c->id] = (struct process_seat){
		(u64)c, {.ss_sp = (void *)(c->signal_stack_top - size), .ss_size = size}};
	return true;
}

/* How many of n CPUs there can be: seats for them here, and as many host processes, each of which makes its own. */
u32 hosts_prepare(u32 n)
{
	u32 i;

	for (i = 0; i < n; i++)
		if (!seat_describe(cpus[i]))
			n = i;
	for (i = 1; i < n; i++)
		if (process_make_seat(i) < 0) {
			process_gate(PROCESS_DOORBELL_NR, PROCESS_STILLBORN, 0, 0, 0, 0, 0);
			n = i;
		}
	if (n < 2)
		return 1;
	process_n_seats = here->seats = n;
	for (i = 1; i < n && give_birth(); i++)
		;
	return i;
}

/* CPU c begins where the caller is, with its idle thread's stack, at its first instruction. */
void host_start_cpu(struct cpu *c)
{
	struct arch_frozen *f = (struct arch_frozen *)c->handover;
	u64 *top = (u64 *)c->shared->gpr[4];

	*--top = c->shared->rip;
	*f = (struct arch_frozen){.rsp = (u64)top};
	c->forget_len = 0;
	c->host = this_cpu()->host;
}

/* --- turns -------------------------------------------------------------------------- */

void host_switch(struct host *h)
{
	if (h == here)
		return;
	if (current && current->xstate)
		arch_xstate_save(current);
	this_cpu()->forget_va = h->gone.lo;
	this_cpu()->forget_len = h->gone.hi - h->gone.lo;
	h->gone = (struct range){0};
	h->used = ++handovers;
	this_cpu()->host = (u32)(h - hosts);
	process_handover((u64)(h - hosts));
}

/* CPUs that are in h look at what was noted when they next take the lock. */
static void tell_cpus(const struct host *h)
{
	for (u32 i = 0; i < n_cpus; i++)
		if (cpus[i] != this_cpu() && &hosts[cpus[i]->host] == h)
			cpus[i]->flush = true;
}

void host_stale(struct host *h, u64 va, u64 len)
{
	range_add(&h->stale, va, va + len);
	if (!smp())
		return;
	tell_cpus(h);
	if (h->as)
		smp_quiesce(h->as);
}

/* Who is in another host process has no use for that before it has the lock. */
void hosts_gone(u64 va, u64 len)
{
	for (u32 i = 0; i < n_hosts; i++) {
		if (&hosts[i] == here)
			continue;
		range_add(&hosts[i].gone, va, va + len);
		if (smp())
			tell_cpus(&hosts[i]);
	}
}

void host_forget_gone(void)
{
	struct range r = here->gone;

	here->gone = (struct range){0};
	if (r.hi)
		process_gate(__NR_munmap, r.lo, r.hi - r.lo, 0, 0, 0, 0);
}
