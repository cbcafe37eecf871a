/* SPDX-License-Identifier: ISC */
/*
 * First bytes of the library OS's text: where the loader finds its entry
 * points (struct libos_header, abi/libos.h). Every value is an offset from the
 * header, resolved at link time. Symbols of a platform that is not linked in
 * are weak and give an offset that the loader recognises as "absent".
 */
#include "abi/libos.h"

	.weak process_gate
	.weak process_gate_ret
	.weak process_signal_entry

	.section .libos_header, "ax", @progbits
	.balign 64
	.globl libos_header
	.hidden libos_header
libos_header:
	.quad LIBOS_MAGIC
	.long LIBOS_VERSION, 128
	.quad libos_start - libos_header
	.quad syscall_entry - libos_header
	.quad syscall_trap - libos_header
	.quad exception_entry - libos_header
	.quad upcall_entry - libos_header
	.quad process_gate - libos_header
	.quad process_gate_ret - libos_header
	.quad kvm_flush_cr3_site - libos_header
	.quad kvm_flush_page_site - libos_header
	.quad process_signal_entry - libos_header
	.quad libos_resume - libos_header
	.quad 0, 0, 0
	.section .note.GNU-stack, "", @progbits
