/* SPDX-License-Identifier: ISC */
/*
 * Access to the app's memory. The app and the library OS share page tables, so
 * these are plain loads and stores; what makes them special is EX_TABLE: where
 * to go on when a fault cannot be cured. uaccess.c checks ranges, these do not.
 */
#include "guest/arch/x86_64/arch.h"

	.text

/* size_t user_copy(void *dst, const void *src, size_t n): bytes NOT copied. */
	.globl user_copy
	.hidden user_copy
	.type user_copy, @function
user_copy:
	mov	%rdx, %rcx
	cmp	$16, %rdx
	ja	3f
	cmp	$8, %rdx
	je	4f
	cmp	$4, %rdx
	je	6f
1:	rep movsb
2:	mov	%rcx, %rax
	ret
/* 17 to 64 bytes: whole words, then the tail that overlaps them. A fault falls back to bytes. */
3:	cmp	$64, %rdx
	ja	1b
	lea	-8(%rdx), %r8
	xor	%eax, %eax
10:	mov	(%rsi,%rax), %r9
11:	mov	%r9, (%rdi,%rax)
	add	$8, %rax
	cmp	%r8, %rax
	jb	10b
12:	mov	(%rsi,%r8), %r9
13:	mov	%r9, (%rdi,%r8)
14:
	xor	%eax, %eax
	ret
4:	mov	(%rsi), %r8
5:	mov	%r8, (%rdi)
	xor	%eax, %eax
	ret
6:	mov	(%rsi), %r8d
7:	mov	%r8d, (%rdi)
8:
	xor	%eax, %eax
	ret
	EX_TABLE 1b, 2b, 2b
	EX_TABLE 4b, 5b, 1b
	EX_TABLE 5b, 6b, 1b
	EX_TABLE 6b, 7b, 1b
	EX_TABLE 7b, 8b, 1b
	EX_TABLE 10b, 11b, 1b
	EX_TABLE 11b, 12b, 1b
	EX_TABLE 12b, 13b, 1b
	EX_TABLE 13b, 14b, 1b
	.size user_copy, . - user_copy

/* size_t user_clear(void *dst, size_t n): bytes NOT cleared. */
	.globl user_clear
	.hidden user_clear
	.type user_clear, @function
user_clear:
	mov	%rsi, %rcx
	xor	%eax, %eax
1:	rep stosb
2:	mov	%rcx, %rax
	ret
	EX_TABLE 1b, 2b, 2b
	.size user_clear, . - user_clear

/* s64 user_strncpy(char *dst, const char *src, size_t n): length, n if no NUL, -14 on a fault. */
	.globl user_strncpy
	.hidden user_strncpy
	.type user_strncpy, @function
user_strncpy:
	xor	%eax, %eax
1:	cmp	%rdx, %rax
	jae	3f
2:	movzbl	(%rsi,%rax), %ecx
5:
	mov	%cl, (%rdi,%rax)
	test	%cl, %cl
	jz	3f
	inc	%rax
	jmp	1b
3:	ret
4:	mov	$-14, %rax
	ret
	EX_TABLE 2b, 5b, 4b
	.size user_strncpy, . - user_strncpy

/* int user_load32_raw(const u32 *p, u32 *val) */
	.globl user_load32_raw
	.hidden user_load32_raw
	.type user_load32_raw, @function
user_load32_raw:
1:	mov	(%rdi), %eax
3:	mov	%eax, (%rsi)
	xor	%eax, %eax
	ret
2:	mov	$-14, %eax
	ret
	EX_TABLE 1b, 3b, 2b
	.size user_load32_raw, . - user_load32_raw

/* int user_cmpxchg32_raw(u32 *p, u32 expect, u32 desired, u32 *old) */
	.globl user_cmpxchg32_raw
	.hidden user_cmpxchg32_raw
	.type user_cmpxchg32_raw, @function
user_cmpxchg32_raw:
	mov	%esi, %eax
1:	lock cmpxchg %edx, (%rdi)
3:	mov	%eax, (%rcx)
	xor	%eax, %eax
	ret
2:	mov	$-14, %eax
	ret
	EX_TABLE 1b, 3b, 2b
	.size user_cmpxchg32_raw, . - user_cmpxchg32_raw

	.section .note.GNU-stack, "", @progbits
