/* SPDX-License-Identifier: ISC */
/*
 * How the library OS's ELF file looks to the loader, and the few fixed offsets
 * in the per-CPU block that the monitor fills in before the first instruction.
 *
 * The file is a static PIE with four loadable parts, in this order:
 *   text    R X   used in place from the file, never copied
 *   rodata  R     used in place from the file, directly after text
 *   relro   R     copied to RAM and relocated by the loader (R_X86_64_RELATIVE only)
 *   data    R W   copied to RAM, followed by .bss
 * text begins with struct libos_header. Its members are offsets from the
 * address of the header's page, so that it needs no relocation.
 *
 * The first constants are for assembly too.
 */
#ifndef COWBELL_ABI_LIBOS_H
#define COWBELL_ABI_LIBOS_H

#define LIBOS_MAGIC   0x534f42494c574f43 /* "COWLIBOS" */
#define LIBOS_VERSION 1

/* Offsets in the per-CPU block (one page, %gs): written by the loader. */
#define BOOT_CPU_SELF	   0 /* its own address */
#define BOOT_CPU_EXC_STACK 32 /* top of the exception stack */
#define BOOT_CPU_GUARD	   40 /* stack protector canary */
#define BOOT_CPU_ID	   48 /* number of the CPU; for the vDSO */
#define BOOT_CPU_SIZE	   4096

/*
 * kvm: the CPU pushes exception frames downwards from the end of that page, and
 * the ring-0 stub adds the vector and, for a page fault, CR2. Offsets from %gs:
 */
#define BOOT_FRAME_SS	  4088
#define BOOT_FRAME_RSP	  4080
#define BOOT_FRAME_RFLAGS 4072
#define BOOT_FRAME_CS	  4064
#define BOOT_FRAME_RIP	  4056
#define BOOT_FRAME_ERROR  4048
#define BOOT_FRAME_VECTOR 4040
#define BOOT_FRAME_CR2	  4032

/* Selectors of ring 3, as Linux has them on every platform. */
#define BOOT_USER_CS 0x33
#define BOOT_USER_SS 0x2b

/* kvm: `out %al, $BOOT_DOORBELL_PORT` is the one port that the I/O bitmap opens. */
#define BOOT_DOORBELL_PORT 0x5a

#ifndef __ASSEMBLER__
#include <stdint.h>

struct libos_header {
	uint64_t magic;
	uint32_t version, size;
	uint64_t entry; /* first instruction; %rdi = struct boot_info */
	uint64_t syscall_entry; /* patched sites: %rcx = return address */
	uint64_t syscall_trap; /* kvm: LSTAR, entered in ring 0 or ring 3 */
	uint64_t exception; /* kvm: ring-3 exception entry, frame in the per-CPU page */
	uint64_t upcall; /* a kick: the app's rip, rflags, rsp are in struct boot_vcpu, the rest is live */
	uint64_t gate; /* process: the one `syscall` that reaches the host */
	uint64_t gate_ret; /* and the address after it */
	uint64_t flush_cr3; /* kvm: address after the `int3` that means "mov %rax, %cr3" */
	uint64_t flush_page; /* kvm: address after the `int3` that means "invlpg (%rdi)" */
	uint64_t signal; /* process: SIGSEGV/SIGSYS/... handler that the guest process installs, or 0 */
	uint64_t resume; /* first instruction of a restored instance; %rdi = struct boot_info, boot stack */
	uint64_t reserved[3];
};
_Static_assert(sizeof(struct libos_header) == 128, "abi");
#endif

#endif
