/* SPDX-License-Identifier: ISC */
/*
 * The KVM backend: one VM. Its first vCPU runs on the monitor's main thread, others on threads of their own (smp.c).
 *
 * Memory. RAM is one private anonymous reservation of ram_max bytes; each step
 * of growth is one memory slot. Its first part is kept in small pages so that a small
 * instance stays small, the rest asks for huge ones. Read-only regions
 * (library OS text, image layers) are read-only slots on mapped files. The guest
 * alone edits its page tables: some hosts do not notice a host's edits.
 *
 * CPU. There is no interrupt chip and no device. The CPU starts in ring 3 with
 * everything privileged set up here and in the stub page (kvm_stub.c). It
 * comes back for the doorbell (`out`), or because a signal interrupted it,
 * or because the guest did what nothing answers: RUN_DIED.
 *
 * Kicks. kick() sets vcpu.kick and makes KVM_RUN return; the next run() diverts
 * the app if RIP is below the library OS's slot and no exception is on its way,
 * and otherwise lets the guest go on: instance.c will kick again.
 */
#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "abi/libos.h"
#include "monitor/backend/backend.h"
#include "monitor/backend/kvm_stub.h"
#include "monitor/helper.h"
#include "monitor/hostcpu.h"
#include "monitor/load.h"
#include "monitor/monitor.h"
#include "monitor/seccomp.h"
#include "monitor/workset.h"

HOST_SYSCALL(kvm, ioctl);
HOST_SYSCALL(kvm, madvise);
HOST_SYSCALL(snapshot, pread64); /* of pagemap */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define HUGE	   (2ull << 20)
#define FIRST_SLOT (64ull << 20)
/* From gpa 0 in 4 KiB host pages: what an instance does not use of its last huge page would be its private memory. */
#define SMALL_PAGES (16ull << 20)
#define POPULATE    (448ull << 10) /* what the smallest program touches: a fault less each */

enum { CR0_VALUE = 0x80010033 }; /* PE MP ET NE WP PG */
enum { CR4_VALUE = 0x10620 }; /* PAE OSFXSR OSXMMEXCPT FSGSBASE */
enum { CR4_OSXSAVE = 0x40000 };
enum { EFER_VALUE = 0xd01 }; /* SCE LME LMA NXE */
enum { MSR_STAR = 0xc0000081, MSR_LSTAR = 0xc0000082, MSR_FMASK = 0xc0000084 };

struct vcpu {
	int fd;
	struct kvm_run *run;
	struct boot_vcpu *shared;
	uint64_t exc_stack_top;
	uint64_t exits;
	volatile sig_atomic_t want_divert;
};

struct backend_ctx {
	int kvm_fd, vm_fd;
	struct guest_mem *m;
	struct load_plan plan;
	uint64_t xcr0;
	uint32_t n_slots;
	int n_cpus;
	int pagemap; /* while the working set is recorded, else -1 */
	struct vcpu cpu[BOOT_MAX_VCPUS];
};

static int kvm_fd_cached = -1;

static int open_kvm(const char **why)
{
	int version;

	if (kvm_fd_cached >= 0)
		return 0;
	kvm_fd_cached = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (kvm_fd_cached < 0) {
		int err = errno;

		*why = err == ENOENT   ? "there is no /dev/kvm"
		       : err == EACCES ? "no permission to open /dev/kvm"
				       : "cannot open /dev/kvm";
		return -err;
	}
	version = ioctl(kvm_fd_cached, KVM_GET_API_VERSION, 0);
	if (version == KVM_API_VERSION)
		return 0;
	*why = "/dev/kvm is not a KVM that we know";
	close(kvm_fd_cached);
	kvm_fd_cached = -1;
	return -ENODEV;
}

static int kvm_usable(const char **why)
{
	return open_kvm(why);
}

int monitor_kvm_usable(const char **why)
{
	return open_kvm(why);
}

static int kvm_mem_create(struct guest_mem *m, uint64_t ram_max)
{
	uint64_t size = (ram_max + HUGE - 1) & ~(HUGE - 1), want = size + HUGE;
	uint8_t *p =
		mmap(NULL, want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	m->ram = (uint8_t *)(((uintptr_t)p + HUGE - 1) & ~(HUGE - 1));
	m->ram_fd = -1;
	m->ram_max = size;
	m->ram_size = size < FIRST_SLOT ? size : FIRST_SLOT;
	madvise(m->ram, size < SMALL_PAGES ? size : SMALL_PAGES, MADV_NOHUGEPAGE);
	if (!m->restored)
		madvise(m->ram, POPULATE, MADV_POPULATE_WRITE);
	if (size > SMALL_PAGES)
		madvise(m->ram + SMALL_PAGES, size - SMALL_PAGES, MADV_HUGEPAGE);
	return 0;
}

static int add_slot(struct backend_ctx *c, uint64_t gpa, uint64_t len, const uint8_t *host, bool read_only)
{
	struct kvm_userspace_memory_region r = {
		.slot = c->n_slots,
		.flags = read_only ? KVM_MEM_READONLY : 0,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)host,
	};

	if (ioctl(c->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0)
		return -errno;
	c->n_slots++;
	return 0;
}

static int add_memory(struct backend_ctx *c)
{
	int r = add_slot(c, 0, c->m->ram_size, c->m->ram, false);

	for (int i = 0; i < c->m->n_regions && !r; i++)
		r = add_slot(c, c->m->regions[i].r.gpa, c->m->regions[i].r.size, c->m->regions[i].host, true);
	return r;
}

#define MAX_CPUID 160
struct cpuid_table {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 e[MAX_CPUID];
};

static struct kvm_cpuid_entry2 *leaf(struct cpuid_table *t, uint32_t function, uint32_t index)
{
	for (uint32_t i = 0; i < t->head.nent; i++)
		if (t->e[i].function == function && t->e[i].index == index)
			return &t->e[i];
	return NULL;
}

/*
 * A KVM that runs ring 3 natively under the host's own XCR0, without virtualising XSAVE, offers a poor table. The
 * app really has the host's instructions, so it gets the host's leaves that describe them.
 */
static void use_host_leaves(struct cpuid_table *t)
{
	static const uint32_t wanted[][2] = {{1, 0},   {7, 0},	 {7, 1},   {0xd, 0}, {0xd, 1},
					     {0xd, 2}, {0xd, 5}, {0xd, 6}, {0xd, 7}, {0x80000001, 0}};

	for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		uint32_t f = wanted[i][0], n = wanted[i][1];
		struct kvm_cpuid_entry2 *e = leaf(t, f, n);

		if (!e && t->head.nent < MAX_CPUID) {
			e = &t->e[t->head.nent++];
			*e = (struct kvm_cpuid_entry2){.function = f, .index = n};
			e->flags = f == 7 || f == 0xd ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
		}
		if (e)
			__cpuid_count(f, n, e->eax, e->ebx, e->ecx, e->edx);
	}
}

/* The table before it is fitted to a guest. */
static int get_cpuid(struct backend_ctx *c, struct cpuid_table *t, const struct boot_info *bi)
{
	struct kvm_cpuid_entry2 *e;

	t->head.nent = hostcpu_table(c->kvm_fd, t->e, sizeof(t->e[0]), MAX_CPUID);
	if (t->head.nent)
		return 0;
	t->head.nent = MAX_CPUID;
	if (ioctl(c->kvm_fd, KVM_GET_SUPPORTED_CPUID, t) < 0)
		return -errno;
	e = leaf(t, 1, 0);
	if (e && !(e->ecx & (1u << 26)) && (bi->cpu_features[2] & (1u << 27)))
		use_host_leaves(t);
	hostcpu_keep_table(c->kvm_fd, t->e, sizeof(t->e[0]), t->head.nent);
	return 0;
}

/* The APIC ID that the app can read is the CPU's number. */
static void number_cpu(struct cpuid_table *t, int n, int of)
{
	struct kvm_cpuid_entry2 *e = leaf(t, 1, 0);

	if (e && of > 1)
		e->ebx = (e->ebx & 0xffff) | (uint32_t)of << 16 | (uint32_t)n << 24;
	for (uint32_t i = 0; of > 1 && i < t->head.nent; i++)
		if (t->e[i].function == 0xb || t->e[i].function == 0x1f)
			t->e[i].edx = (uint32_t)n;
}

static int set_cpuid(struct backend_ctx *c, struct boot_info *bi)
{
	struct cpuid_table *t = calloc(1, sizeof(*t));
	struct kvm_cpuid_entry2 *e;
	int r;

	if (!t)
		return -ENOMEM;
	r = get_cpuid(c, t, bi);
	if (r)
		goto failed;
	e = leaf(t, 1, 0);
	if (e && !(e->ecx & (1u << 26)))
		bi->xcr0 = 3;
	e = leaf(t, 7, 0);
	if (e) {
		e->ecx &= ~0x18u; /* protection keys */
		e->edx &= ~0x1c00000u; /* AMX: needs a permission of the host */
	}
	e = leaf(t, 0xd, 0);
	if (e) {
		bi->xcr0 &= e->eax | (uint64_t)e->edx << 32;
		e->eax = bi->xcr0;
		e->edx = bi->xcr0 >> 32;
	}
	for (int n = 0; n < c->n_cpus && !r; n++) {
		number_cpu(t, n, c->n_cpus);
		r = ioctl(c->cpu[n].fd, KVM_SET_CPUID2, t) < 0 ? -errno : 0;
	}
failed:
	free(t);
	return r;
}

/* XCR0: a software-nested KVM may refuse, because ring 3 has the host's anyway. */
static bool set_xcr0(struct vcpu *v, uint64_t value)
{
	struct kvm_xcrs x = {.nr_xcrs = 1, .xcrs = {{.xcr = 0, .value = value}}};

	return ioctl(v->fd, KVM_SET_XCRS, &x) == 0;
}

static int set_msrs(struct vcpu *v, const struct load_plan *plan)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[3];
	} msrs = {.head.nmsrs = 3,
		  .e = {{.index = MSR_STAR, .data = kvm_stub_star()},
			{.index = MSR_LSTAR, .data = plan->sym_syscall_trap},
			{.index = MSR_FMASK, .data = kvm_stub_fmask()}}};

	return ioctl(v->fd, KVM_SET_MSRS, &msrs) == 3 ? 0 : -EINVAL;
}

/* Guest TSC = host TSC, so that one set of time parameters serves everybody. */
static void align_tsc(struct vcpu *v)
{
	uint64_t offset = 0;
	struct kvm_device_attr a = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset};

	ioctl(v->fd, KVM_SET_DEVICE_ATTR, &a);
}

/* State before the first instruction; everything privileged lies in the stub page of the plan. */
static int set_registers(struct vcpu *v, const struct load_plan *plan, uint64_t xcr0)
{
	struct kvm_regs r = {
		.rip = plan->entry, .rsp = plan->stack_top, .rdi = plan->boot_info_va, .rflags = 0x202};
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return -errno;
	kvm_stub_sregs(&s, plan);
	s.cr0 = CR0_VALUE;
	s.cr3 = plan->cr3_gpa;
	s.cr4 = CR4_VALUE | CR4_OSXSAVE;
	s.efer = EFER_VALUE;
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0) {
		s.cr4 &= ~CR4_OSXSAVE;
		if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0)
			return -errno;
	} else {
		set_xcr0(v, xcr0);
	}
	if (ioctl(v->fd, KVM_SET_REGS, &r) < 0)
		return -errno;
	v->run->s.regs.regs = r; /* what divert() looks at, also before the first run */
	return set_msrs(v, plan);
}

static int fail(const char *what, int err)
{
	fprintf(stderr, "cowbell: kvm: %s: %s\n", what, strerror(-err));
	return err;
}

/* The VM and its CPU, without memory: what kvm_prepare() may have made in the background. */
static struct {
	struct helper helper;
	bool begun;
	int vm_fd, vm_err, vcpu_fd, vcpu_err;
} early;

static void *make_vm(void *arg)
{
	(void)arg;
	do
		early.vm_fd = ioctl(kvm_fd_cached, KVM_CREATE_VM, 0);
	while (early.vm_fd < 0 && errno == EINTR);
	early.vm_err = errno;
	early.vcpu_fd = early.vm_fd < 0 ? -1 : ioctl(early.vm_fd, KVM_CREATE_VCPU, 0);
	early.vcpu_err = errno;
	return NULL;
}

static void kvm_prepare(void)
{
	early.begun = true;
	helper_start(&early.helper, make_vm, NULL);
}

static int map_cpu(struct backend_ctx *c, struct vcpu *v, int n, size_t size)
{
	v->run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED)
		return fail("cannot map the virtual CPU", -errno);
	v->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_EVENTS;
	v->shared = (struct boot_vcpu *)(c->m->ram + c->plan.vcpu_gpa) + n;
	return 0;
}

static int create_vm(struct backend_ctx *c)
{
	int size, r = 0;

	if (!early.begun)
		make_vm(NULL);
	helper_join(&early.helper);
	early.begun = false;
	c->vm_fd = early.vm_fd;
	if (c->vm_fd < 0)
		return fail("cannot create a virtual machine", -early.vm_err);
	c->cpu[0].fd = early.vcpu_fd;
	size = ioctl(c->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (c->cpu[0].fd < 0 || size < (int)sizeof(struct kvm_run))
		return fail("cannot create a virtual CPU", c->cpu[0].fd < 0 ? -early.vcpu_err : -EINVAL);
	for (int n = 0; n < c->n_cpus && !r; n++) {
		if (n && (c->cpu[n].fd = ioctl(c->vm_fd, KVM_CREATE_VCPU, n)) < 0)
			return fail("cannot create another virtual CPU", -errno);
		r = map_cpu(c, &c->cpu[n], n, (size_t)size);
	}
	return r;
}

static int kvm_create(struct backend_ctx **out, struct guest_mem *m, const struct load_plan *plan)
{
	struct boot_info *bi = load_boot_info(m, plan);
	struct backend_ctx *c = calloc(1, sizeof(*c));
	const char *why = "";
	int r;

	if (!c)
		return -ENOMEM;
	r = open_kvm(&why);
	if (r) {
		free(c);
		return fail(why, r);
	}
	c->kvm_fd = kvm_fd_cached;
	c->m = m;
	c->pagemap = workset_recording() ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;
	c->plan = *plan;
	c->n_cpus = bi->n_vcpus < BOOT_MAX_VCPUS ? (int)bi->n_vcpus : BOOT_MAX_VCPUS;
	c->cpu[0].exc_stack_top = plan->exc_stack_top;
	r = create_vm(c);
	if (!r && (r = add_memory(c)))
		fail("cannot give the virtual machine its memory", r);
	kvm_stub_fill(m->ram + plan->stub_gpa, plan);
	if (!r && (r = set_cpuid(c, bi)))
		fail("cannot set CPU features", r);
	for (int n = 0; n < c->n_cpus && !r; n++)
		align_tsc(&c->cpu[n]);
	c->xcr0 = bi->xcr0;
	if (!r && (r = set_registers(&c->cpu[0], plan, c->xcr0)))
		fail("cannot set registers", r);
	if (r) {
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

/* Send the app to the library OS's upcall entry if it can be interrupted where it is. */
static void divert(struct backend_ctx *c, struct vcpu *cpu)
{
	struct kvm_regs *r = &cpu->run->s.regs.regs;
	const struct kvm_vcpu_events *ev = &cpu->run->s.regs.events;
	struct boot_vcpu *v = cpu->shared;

	if (r->rip >= BOOT_TASK_SIZE || ev->exception.pending || ev->exception.injected)
		return;
	v->gpr[0] = r->rax, v->gpr[1] = r->rcx, v->gpr[2] = r->rdx, v->gpr[3] = r->rbx;
	v->gpr[4] = r->rsp, v->gpr[5] = r->rbp, v->gpr[6] = r->rsi, v->gpr[7] = r->rdi;
	v->gpr[8] = r->r8, v->gpr[9] = r->r9, v->gpr[10] = r->r10, v->gpr[11] = r->r11;
	v->gpr[12] = r->r12, v->gpr[13] = r->r13, v->gpr[14] = r->r14, v->gpr[15] = r->r15;
	v->rip = r->rip;
	v->rflags = r->rflags;
	v->stat_kicks++;
	r->rip = c->plan.sym_upcall;
	r->rsp = cpu->exc_stack_top;
	r->rflags = 2;
	cpu->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
}

static enum run_reason died(const struct vcpu *v, struct run_info *info)
{
	const struct kvm_run *run = v->run;
	unsigned long long rip = run->s.regs.regs.rip;
	char *w = info->why;
	size_t n = sizeof(info->why);

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		snprintf(w, n, "the guest %s physical address %#llx, which is not its memory (rip %#llx)",
			 run->mmio.is_write ? "wrote to" : "read", (unsigned long long)run->mmio.phys_addr,
			 rip);
		break;
	case KVM_EXIT_SHUTDOWN:
		snprintf(w, n, "triple fault of the guest (rip %#llx)", rip);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		snprintf(w, n, "the host's KVM cannot emulate what the guest did (suberror %u, rip %#llx)",
			 run->internal.suberror, rip);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		snprintf(w, n, "the host's CPU refused the guest's state (%#llx)",
			 (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_IO:
		snprintf(w, n, "the guest used port %#x, which does not exist (rip %#llx)", run->io.port,
			 rip);
		break;
	default:
		snprintf(w, n, "unexpected exit of the virtual CPU (reason %u, rip %#llx)", run->exit_reason,
			 rip);
	}
	return RUN_DIED;
}

static enum run_reason cpu_run(struct backend_ctx *c, int n, struct run_info *info)
{
	struct vcpu *v = &c->cpu[n];

	if (v->want_divert) {
		v->want_divert = 0;
		divert(c, v);
	}
	if (ioctl(v->fd, KVM_RUN, 0) < 0) {
		int err = errno;

		v->run->immediate_exit = 0;
		if (err == EINTR || err == EAGAIN)
			return RUN_KICKED;
		v->exits++;
		snprintf(info->why, sizeof(info->why), "%s (rip %#llx)",
			 err == EFAULT ? "the guest wrote to memory that is read-only on the host, or the "
					 "host is out of memory"
				       : strerror(err),
			 (unsigned long long)v->run->s.regs.regs.rip);
		return RUN_DIED;
	}
	v->exits++;
	if (v->run->exit_reason == KVM_EXIT_IO && v->run->io.port == BOOT_DOORBELL_PORT)
		return RUN_DOORBELL;
	return died(v, info);
}

static enum run_reason kvm_run(struct backend_ctx *c, struct run_info *info)
{
	return cpu_run(c, 0, info);
}

static void kvm_kick(struct backend_ctx *c)
{
	struct vcpu *v = &c->cpu[0];

	__atomic_or_fetch(&v->shared->kick, 1, __ATOMIC_RELAXED);
	v->want_divert = 1;
	v->run->immediate_exit = 1;
}

static void kvm_interrupt(struct backend_ctx *c)
{
	c->cpu[0].run->immediate_exit = 1;
}

/* --- the other CPUs -------------------------------------------------------------------------- */

/* The guest chose their pages; whatever it chose wrongly harms nobody but itself. */
static int kvm_cpu_start(struct backend_ctx *c, int n)
{
	struct vcpu *v = &c->cpu[n];
	struct boot_vcpu b = *(volatile struct boot_vcpu *)v->shared;
	struct load_plan p = c->plan;
	uint8_t *stub =
		b.stub_gpa % BOOT_PAGE_SIZE ? NULL : gpa_ram(c->m, (gpa_t){b.stub_gpa}, BOOT_PAGE_SIZE);

	if (!stub)
		return -EINVAL;
	p.entry = b.rip;
	p.stack_top = b.gpr[4];
	p.cpu_va = b.cpu_va;
	p.stub_va = b.stub_va;
	p.stub_gpa = b.stub_gpa;
	p.exc_stack_top = v->exc_stack_top = b.exc_stack_top;
	kvm_stub_fill(stub, &p);
	return set_registers(v, &p, c->xcr0);
}

static void kvm_cpu_divert(struct backend_ctx *c, int n)
{
	c->cpu[n].want_divert = 1;
}

static void kvm_cpu_interrupt(struct backend_ctx *c, int n)
{
	c->cpu[n].run->immediate_exit = 1;
}

/* --- memory -------------------------------------------------------------------------------------- */

static int kvm_grow(struct backend_ctx *c, uint64_t new_size)
{
	uint64_t old = c->m->ram_size;

	if (new_size > c->m->ram_max || new_size <= old || new_size % BOOT_PAGE_SIZE)
		return -EINVAL;
	return add_slot(c, old, new_size - old, c->m->ram + old, false);
}

static int kvm_release(struct backend_ctx *c, uint64_t gpa, uint64_t len)
{
	void *p = gpa_ram(c->m, (gpa_t){gpa}, len);

	if (!p)
		return -EINVAL;
	return madvise(p, len, MADV_DONTNEED) ? -errno : 0;
}

static void kvm_huge(struct backend_ctx *c, uint64_t gpa, uint64_t len)
{
	uint8_t *p = gpa_ram(c->m, (gpa_t){gpa}, len);

	if (p && !(madvise(p, len, MADV_HUGEPAGE)))
		madvise(p, len, MADV_POPULATE_WRITE);
}

/*
 * RAM is a private mapping of the snapshot: a page that was written to is anonymous. One that was only read brought its
 * neighbours along (the host maps sixteen at once), which does no harm.
 */
static void kvm_touched(struct backend_ctx *c, uint8_t *state, uint64_t pages)
{
	uint64_t e[512], at = (uintptr_t)c->m->ram / BOOT_PAGE_SIZE;

	for (uint64_t i = 0, n; i < pages && c->pagemap >= 0; i += n) {
		n = pages - i < 512 ? pages - i : 512;
		if (pread(c->pagemap, e, n * 8, (off_t)((at + i) * 8)) != (ssize_t)(n * 8))
			break;
		for (uint64_t k = 0; k < n; k++)
			state[i + k] = !(e[k] >> 62)	? WORKSET_UNTOUCHED
				       : e[k] >> 61 & 1 ? WORKSET_READ
							: WORKSET_WROTE;
	}
	if (c->pagemap >= 0)
		close(c->pagemap);
	c->pagemap = -1;
}

static uint64_t kvm_exits(struct backend_ctx *c)
{
	uint64_t sum = 0;

	for (int n = 0; n < c->n_cpus; n++)
		sum += __atomic_load_n(&c->cpu[n].exits, __ATOMIC_RELAXED);
	return sum;
}

static void kvm_destroy(struct backend_ctx *c)
{
	if (c->n_cpus == 1)
		free(c); /* descriptors and mappings go with the process, which is about to end, as do other threads */
}

const struct backend backend_kvm = {
	.name = "kvm",
	.usable = kvm_usable,
	.prepare = kvm_prepare,
	.mem_create = kvm_mem_create,
	.create = kvm_create,
	.run = kvm_run,
	.kick = kvm_kick,
	.interrupt = kvm_interrupt,
	.grow = kvm_grow,
	.release = kvm_release,
	.huge = kvm_huge,
	.exits = kvm_exits,
	.touched = kvm_touched,
	.cpu_start = kvm_cpu_start,
	.cpu_run = cpu_run,
	.cpu_divert = kvm_cpu_divert,
	.cpu_interrupt = kvm_cpu_interrupt,
	.destroy = kvm_destroy,
};
