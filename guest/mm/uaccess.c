/* SPDX-License-Identifier: ISC */
/*
 * Access to the app's memory: range checks around the instructions of
 * uaccess.S. Copies fault pages in as they go; where no mapping helps, the
 * exception table ends the copy (arch/).
 */
#include <asm-generic/errno.h>
#include <linux/futex.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"

size_t user_copy(void *dst, const void *src, size_t n);
size_t user_clear(void *dst, size_t n);
s64 user_strncpy(char *dst, const char *src, size_t n);
int user_load32_raw(const u32 *p, u32 *val);
int user_cmpxchg32_raw(u32 *p, u32 expect, u32 desired, u32 *old);

static bool in_range(const void *p, size_t n)
{
	return n <= BOOT_TASK_SIZE && (u64)p <= BOOT_TASK_SIZE - n;
}

/* Bytes of [p, p+n) that are below the app's end. */
static size_t clip(const void *p, size_t n)
{
	return (u64)p >= BOOT_TASK_SIZE ? 0 : MIN(n, BOOT_TASK_SIZE - (u64)p);
}

int copy_in(void *dst, const void *user_src, size_t n)
{
	if (unlikely(!in_range(user_src, n)))
		return -EFAULT;
	return unlikely(user_copy(dst, user_src, n)) ? -EFAULT : 0;
}

int copy_out(void *user_dst, const void *src, size_t n)
{
	if (unlikely(!in_range(user_dst, n)))
		return -EFAULT;
	return unlikely(user_copy(user_dst, src, n)) ? -EFAULT : 0;
}

int clear_user(void *user_dst, size_t n)
{
	if (unlikely(!in_range(user_dst, n)))
		return -EFAULT;
	return unlikely(user_clear(user_dst, n)) ? -EFAULT : 0;
}

size_t copy_in_partial(void *dst, const void *user_src, size_t n)
{
	n = clip(user_src, n);
	return n - user_copy(dst, user_src, n);
}

size_t copy_out_partial(void *user_dst, const void *src, size_t n)
{
	n = clip(user_dst, n);
	return n - user_copy(user_dst, src, n);
}

s64 strncpy_in(char *dst, const char *user_src, size_t size)
{
	size_t n = clip(user_src, size);
	s64 len = user_strncpy(dst, user_src, n);

	if (len < 0)
		return -EFAULT;
	if ((size_t)len < n)
		return len;
	return n < size ? -EFAULT : -ENAMETOOLONG;
}

static bool word_ok(const u32 *p)
{
	return in_range(p, sizeof(*p)) && !((u64)p & 3);
}

int user_load32(const u32 *uaddr, u32 *val)
{
	return word_ok(uaddr) ? user_load32_raw(uaddr, val) : -EFAULT;
}

int user_cmpxchg32(u32 *uaddr, u32 expect, u32 desired, u32 *old)
{
	return word_ok(uaddr) ? user_cmpxchg32_raw(uaddr, expect, desired, old) : -EFAULT;
}

int user_fetch_op32(u32 *uaddr, int op, u32 arg, u32 *old)
{
	u32 seen, want, prev;

	if (user_load32(uaddr, &seen))
		return -EFAULT;
	for (;;) {
		switch (op) {
		case FUTEX_OP_SET:
			want = arg;
			break;
		case FUTEX_OP_ADD:
			want = seen + arg;
			break;
		case FUTEX_OP_OR:
			want = seen | arg;
			break;
		case FUTEX_OP_ANDN:
			want = seen & ~arg;
			break;
		case FUTEX_OP_XOR:
			want = seen ^ arg;
			break;
		default:
			return -ENOSYS;
		}
		if (user_cmpxchg32(uaddr, seen, want, &prev))
			return -EFAULT;
		if (prev == seen)
			break;
		seen = prev;
	}
	*old = seen;
	return 0;
}
