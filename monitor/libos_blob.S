/* SPDX-License-Identifier: ISC */
/* The library OS inside the cowbell binary, page aligned in memory and in the file, so that guests use its text in place. */
	.section .libos_blob, "a", @progbits
	.balign 4096
	.globl libos_blob_start, libos_blob_end
	.hidden libos_blob_start, libos_blob_end
libos_blob_start:
	.incbin LIBOS_PATH
libos_blob_end:
	.balign 4096
	.section .note.GNU-stack, "", @progbits
