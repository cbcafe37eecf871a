/* SPDX-License-Identifier: ISC */
/*
 * The kvm platform: the CPU reads mm/'s page tables itself, so there is
 * nothing to mirror. What is left is the doorbell, the address of the current page table and flushes.
 *
 * Not present to present needs no flush. Anything else does, by the ring-0
 * stub: one trap for a CR3 load, one for each invlpg. Few pages go one by one.
 * Flushing is for the current address space and for slot 255; another one is flushed
 * when it becomes current, because loading CR3 drops everything.
 */
#include "abi/boot.h"
#include "abi/libos.h"
#include "guest/mm/frame.h"
#include "guest/mm/mm.h"
#include "guest/plat/plat.h"
#include "guest/proc/smp.h"

/* switch.S: the stub's two services. */
void kvm_load_cr3(u64 cr3);
void kvm_flush_page(u64 va);

#define FLUSH_SINGLE_MAX 1u /* pages: more than this, and one CR3 load costs less */

/*
 * The table that this CPU uses; it holds a reference on it, since an address space may end while an idle
 * CPU still has it. 0 stands for the first one, which stays.
 */
static u64 current_cr3(const struct cpu *c)
{
	return c->cr3 ? c->cr3 : boot->cr3_gpa;
}

static void use_cr3(struct cpu *c, u64 root)
{
	u64 old = c->cr3;

	if (root)
		frame_get(GPA(root));
	c->cr3 = root;
	kvm_load_cr3(current_cr3(c));
	if (old)
		frame_put(GPA(old));
}

static void flush_here(struct aspace *as, u64 va, u64 len)
{
	u64 pages = (PAGE_UP(va + len) - PAGE_DOWN(va)) >> PAGE_SHIFT, cr3 = current_cr3(this_cpu());

	if (as && as->root.v != cr3)
		return;
	if (pages > FLUSH_SINGLE_MAX) {
		kvm_load_cr3(cr3);
		return;
	}
	for (u64 i = 0; i < pages; i++)
		kvm_flush_page(PAGE_DOWN(va) + i * PAGE_SIZE);
}

static void kvm_flush(struct aspace *as, u64 va, u64 len)
{
	flush_here(as, va, len);
	if (smp())
		smp_flush_others(as);
}

static void kvm_refresh_page(struct aspace *as, u64 va)
{
	flush_here(as, va, PAGE_SIZE);
}

static void kvm_flush_all(void)
{
	kvm_load_cr3(current_cr3(this_cpu()));
}

static void kvm_map(struct aspace *as, u64 va, gpa_t gpa, u64 len, int prot, bool fresh)
{
	if (!fresh)
		kvm_flush(as, va, len);
}

static int kvm_aspace_init(struct aspace *as)
{
	return 0;
}

/* Its tables are about to go: none of them may be in use. */
static void kvm_aspace_free(struct aspace *as)
{
	struct cpu *c = this_cpu();

	if (c->cr3 == as->root.v)
		use_cr3(c, 0);
}

static void kvm_aspace_switch(struct aspace *as)
{
	struct cpu *c = this_cpu();

	if (c->cr3 != as->root.v)
		use_cr3(c, as->root.v);
}

static void kvm_doorbell(void)
{
	__asm__ volatile("outb %%al, %0" : : "i"(BOOT_DOORBELL_PORT), "a"(0) : "memory");
}

/* What it is asked for is read when it rings. */
static void kvm_cpu_call(u32 what, u64 arg)
{
	struct boot_vcpu *v = this_cpu()->shared;

	v->arg = arg;
	v->call = what;
	kvm_doorbell();
}

/* It begins with the first table. */
static void kvm_cpu_forget(struct cpu *c)
{
	if (c->cr3)
		frame_put(GPA(c->cr3));
	c->cr3 = 0;
}

static void kvm_restored(struct aspace *as)
{
	kvm_cpu_forget(this_cpu());
	if (as)
		kvm_aspace_switch(as);
}

/* A page table outside memory: the next fetch becomes a triple fault. */
static void kvm_die(void)
{
	kvm_load_cr3(boot->ram_max);
}

const struct plat plat_kvm = {
	.name = "kvm",
	.map = kvm_map,
	.unmap = kvm_flush,
	.aspace_init = kvm_aspace_init,
	.aspace_free = kvm_aspace_free,
	.aspace_switch = kvm_aspace_switch,
	.doorbell = kvm_doorbell,
	.flush = kvm_flush,
	.restored = kvm_restored,
	.die = kvm_die,
	.flush_page = kvm_refresh_page,
	.flush_all = kvm_flush_all,
	.cpu_call = kvm_cpu_call,
	.cpu_forget = kvm_cpu_forget,
};
