/* SPDX-License-Identifier: ISC */
/* The vDSO's image, page aligned in read-only data, so that it is mapped as it lies. */
	.section .rodata.vdso, "a", @progbits
	.balign 4096
	.globl vdso_image, vdso_image_end
	.hidden vdso_image, vdso_image_end
vdso_image:
	.incbin "vdso.so"
	.balign 4096
vdso_image_end:
	.section .note.GNU-stack, "", @progbits
