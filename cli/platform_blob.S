/* SPDX-License-Identifier: ISC */
/* The platform's program inside the cowbell binary; `cowbell serve` executes it (cli/serve.c). Nobody else touches these pages. */
	.section .platform_blob, "a", @progbits
	.balign 4096
	.globl platform_blob_start, platform_blob_end
	.hidden platform_blob_start, platform_blob_end
platform_blob_start:
	.incbin PLATFORM_PATH
platform_blob_end:
	.balign 4096
	.section .note.GNU-stack, "", @progbits
