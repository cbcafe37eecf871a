/* SPDX-License-Identifier: ISC */
/*
 * The ring-0 stub: everything that is privileged in a kvm guest, in one
 * supervisor page. It is made before the first instruction and never written again.
 *
 *   0     iretq frame: exception_entry, user cs, rflags 2, exception stack, user ss
 *   40    address after the library OS's `int3` for a CR3 load, then the one for invlpg
 *   64    GDT (10 entries; selectors as Linux has them, so that they look the same everywhere)
 *   256   IDT (32 gates; double fault is absent: a fault in here becomes a triple fault)
 *   768   TSS: rsp0 = end of the per-CPU page; I/O bitmap opens the doorbell port only
 *   1024  code: 32 bytes for each vector; breakpoint's, with the two services, last
 *
 * An exception in ring 3 makes the CPU push its frame at the end of the per-CPU
 * page, which ring 3 can read. The entry adds error code 0 where the CPU has
 * none, the vector, and CR2, and leaves to exception_entry by iretq: 3 to 6
 * instructions, because some hosts interpret each one. `syscall` does not come
 * here: LSTAR is in the library OS's text (entry.S).
 */
#include "monitor/backend/kvm_stub.h"

#include <cpuid.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <string.h>

#include "abi/libos.h"

enum {
	OFF_FRAME = 0,
	OFF_SITES = 40,
	OFF_GDT = 64,
	OFF_IDT = 256,
	OFF_TSS = 768,
	OFF_CODE = 1024,
	SLOT = 32
};
enum { SEL_KERNEL_CS = 0x10, SEL_KERNEL_SS = 0x18, SEL_USER_CS32 = 0x23, SEL_TSS = 0x40 };
#define N_VECTORS 32
#define TSS_SIZE  (104 + BOOT_DOORBELL_PORT / 8 + 2) /* the bitmap ends with a byte of ones */

/* clang-format off */
__asm__(".pushsection .rodata\n"
	".set page, kvm_stub_code - 1024\n"
	".macro to_ring3 vector\n"
	"	push $\\vector\n"
	"	.if \\vector == 14\n"
	"	push %rax\n"
	"	mov %cr2, %rax\n"
	"	xchg %rax, (%rsp)\n"
	"	.endif\n"
	"	lea page(%rip), %rsp\n"
	"	iretq\n"
	".endm\n"
	".globl kvm_stub_code, kvm_stub_breakpoint, kvm_stub_end\n"
	".hidden kvm_stub_code, kvm_stub_breakpoint, kvm_stub_end\n"
	".balign 32\n"
	"kvm_stub_code:\n"
	".set v, 0\n"
	".rept 32\n"
	"	.if v != 8 && (v < 10 || v > 14) && v != 17 && v != 21 && v != 29 && v != 30\n"
	"	push $0\n"
	"	.endif\n"
	"	to_ring3 v\n"
	"	.balign 32, 0xcc\n"
	"	.set v, v + 1\n"
	".endr\n"
	"kvm_stub_breakpoint:\n"
	"	cmp page + 40(%rip), %r11\n"
	"	jne 1f\n"
	"	mov %rax, %cr3\n"
	"	iretq\n"
	"1:	cmp page + 48(%rip), %r11\n"
	"	jne 2f\n"
	"	invlpg (%rdi)\n"
	"	iretq\n"
	"2:	push $0\n"
	"	to_ring3 3\n"
	"kvm_stub_end:\n"
	".popsection\n");
/* clang-format on */
extern const uint8_t kvm_stub_code[], kvm_stub_breakpoint[], kvm_stub_end[];

static void put64(uint8_t *at, uint64_t v)
{
	memcpy(at, &v, 8);
}

/* Flat segments: present, accessed; code 64-bit executable/readable, data writable. */
static uint64_t code_segment(int dpl)
{
	return 0x00af9b000000ffffull | (uint64_t)dpl << 45;
}

static uint64_t data_segment(int dpl)
{
	return 0x00cf93000000ffffull | (uint64_t)dpl << 45;
}

static void fill_gdt(uint8_t *gdt, uint64_t tss)
{
	put64(gdt + SEL_KERNEL_CS, code_segment(0));
	put64(gdt + SEL_KERNEL_SS, data_segment(0));
	put64(gdt + (SEL_USER_CS32 & ~7), 0x00cffb000000ffffull);
	put64(gdt + (BOOT_USER_SS & ~7), data_segment(3));
	put64(gdt + (BOOT_USER_CS & ~7), code_segment(3));
	put64(gdt + SEL_TSS,
	      (uint64_t)(TSS_SIZE - 1) | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
	put64(gdt + SEL_TSS + 8, tss >> 32);
}

static void fill_idt(uint8_t *idt, uint64_t code)
{
	for (int v = 0; v < N_VECTORS; v++) {
		uint64_t entry =
			v == 3 ? code + (kvm_stub_breakpoint - kvm_stub_code) : code + (uint64_t)v * SLOT;
		uint64_t dpl = v == 3 || v == 4 ? 3 : 0, present = v != 8;

		put64(idt + v * 16, (entry & 0xffff) | (uint64_t)SEL_KERNEL_CS << 16 | 0xeull << 40 |
					    dpl << 45 | present << 47 | (entry >> 16 & 0xffff) << 48);
		put64(idt + v * 16 + 8, entry >> 32);
	}
}

static void fill_tss(uint8_t *tss, const struct load_plan *plan)
{
	put64(tss + 4, plan->cpu_va + BOOT_CPU_SIZE);
	tss[102] = 104; /* where the bitmap begins */
	memset(tss + 104, 0xff, TSS_SIZE - 104);
	tss[104 + BOOT_DOORBELL_PORT / 8] &= ~(1u << BOOT_DOORBELL_PORT % 8);
}

void kvm_stub_fill(uint8_t page[4096], const struct load_plan *plan)
{
	_Static_assert(OFF_TSS + TSS_SIZE <= OFF_CODE, "the parts of the page overlap");
	memset(page, 0, 4096);
	put64(page + OFF_FRAME, plan->sym_exception);
	put64(page + OFF_FRAME + 8, BOOT_USER_CS);
	put64(page + OFF_FRAME + 16, 2);
	put64(page + OFF_FRAME + 24, plan->exc_stack_top);
	put64(page + OFF_FRAME + 32, BOOT_USER_SS);
	put64(page + OFF_SITES, plan->sym_flush_cr3);
	put64(page + OFF_SITES + 8, plan->sym_flush_page);
	fill_gdt(page + OFF_GDT, plan->stub_va + OFF_TSS);
	fill_idt(page + OFF_IDT, plan->stub_va + OFF_CODE);
	fill_tss(page + OFF_TSS, plan);
	memcpy(page + OFF_CODE, kvm_stub_code, kvm_stub_end - kvm_stub_code);
}

static void segment(struct kvm_segment *s, uint16_t selector, uint8_t type, bool code)
{
	*s = (struct kvm_segment){.limit = 0xffffffff,
				  .selector = selector,
				  .type = type,
				  .present = 1,
				  .dpl = 3,
				  .s = 1,
				  .g = 1,
				  .l = code,
				  .db = !code};
}

/*
 * VMX refuses a task register that is not busy. SVM does not care, but QEMU's emulation of it
 * refuses port access through the bitmap of a busy one.
 */
static uint8_t tss_type(void)
{
	uint32_t a, b, c, d;

	__cpuid(0, a, b, c, d);
	return b == 0x68747541 || b == 0x6f677948 ? 9 : 11; /* "Auth"enticAMD, "Hygo"nGenuine */
}

void kvm_stub_sregs(struct kvm_sregs *s, const struct load_plan *plan)
{
	segment(&s->cs, BOOT_USER_CS, 0xb, true);
	segment(&s->ss, BOOT_USER_SS, 3, false);
	segment(&s->ds, BOOT_USER_SS, 3, false);
	s->es = s->fs = s->gs = s->ds;
	s->gs.base = plan->cpu_va;
	s->tr = (struct kvm_segment){.base = plan->stub_va + OFF_TSS,
				     .limit = TSS_SIZE - 1,
				     .selector = SEL_TSS,
				     .type = tss_type(),
				     .present = 1};
	s->ldt = (struct kvm_segment){.unusable = 1};
	s->gdt.base = plan->stub_va + OFF_GDT;
	s->gdt.limit = 10 * 8 - 1;
	s->idt.base = plan->stub_va + OFF_IDT;
	s->idt.limit = N_VECTORS * 16 - 1;
}

uint64_t kvm_stub_star(void)
{
	return (uint64_t)SEL_USER_CS32 << 48 | (uint64_t)SEL_KERNEL_CS << 32;
}

uint64_t kvm_stub_fmask(void)
{
	return 0x44700; /* TF, IF, DF, NT, AC */
}
