/* SPDX-License-Identifier: ISC */
/*
 * String functions for freestanding builds (the library OS). On the host the C
 * library has them, and this file is empty.
 *
 * Copies and fills are `rep movsb`/`rep stosb` from a size on at which their
 * start-up pays; every CPU that matters has them fast. Short ones use
 * overlapping words, so no loop is needed up to 32 bytes.
 */
#if !__STDC_HOSTED__
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict d, const void *restrict s, size_t n);
void *memmove(void *d, const void *s, size_t n);
void *memset(void *d, int c, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memchr(const void *s, int c, size_t n);
size_t strlen(const char *s);
size_t strnlen(const char *s, size_t n);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
char *strstr(const char *a, const char *b);

/* An access of any alignment that aliases everything. */
typedef uint64_t __attribute__((aligned(1), may_alias)) word64;
typedef uint32_t __attribute__((aligned(1), may_alias)) word32;
typedef uint16_t __attribute__((aligned(1), may_alias)) word16;

/* n <= 32: all loads before all stores, so it serves memmove too. */
static inline void copy_short(uint8_t *d, const uint8_t *s, size_t n)
{
	if (n > 16) {
		uint64_t a = *(const word64 *)s, b = *(const word64 *)(s + 8);
		uint64_t y = *(const word64 *)(s + n - 16), z = *(const word64 *)(s + n - 8);

		*(word64 *)d = a;
		*(word64 *)(d + 8) = b;
		*(word64 *)(d + n - 16) = y;
		*(word64 *)(d + n - 8) = z;
	} else if (n >= 8) {
		uint64_t a = *(const word64 *)s, z = *(const word64 *)(s + n - 8);

		*(word64 *)d = a;
		*(word64 *)(d + n - 8) = z;
	} else if (n >= 4) {
		uint32_t a = *(const word32 *)s, z = *(const word32 *)(s + n - 4);

		*(word32 *)d = a;
		*(word32 *)(d + n - 4) = z;
	} else if (n >= 2) {
		uint16_t a = *(const word16 *)s, z = *(const word16 *)(s + n - 2);

		*(word16 *)d = a;
		*(word16 *)(d + n - 2) = z;
	} else if (n) {
		*d = *s;
	}
}

void *memcpy(void *restrict d, const void *restrict s, size_t n)
{
	void *ret = d;

	if (n <= 32)
		copy_short(d, s, n);
	else
		__asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n) : : "memory");
	return ret;
}

void *memmove(void *d, const void *s, size_t n)
{
	uint8_t *to = d;
	const uint8_t *from = s;

	if (n <= 32) {
		copy_short(to, from, n);
	} else if ((uintptr_t)to - (uintptr_t)from >= n) {
		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	} else {
		/* Overlapping upwards: words from the end. */
		for (; n >= 8; n -= 8)
			*(word64 *)(to + n - 8) = *(const word64 *)(from + n - 8);
		while (n--) {
			to[n] = from[n];
			__asm__ volatile("" : : : "memory"); /* or gcc makes a call of ourselves of it */
		}
	}
	return d;
}

void *memset(void *d, int c, size_t n)
{
	void *ret = d;
	uint64_t w = 0x0101010101010101ull * (uint8_t)c;
	uint8_t *p = d;

	if (n > 32) {
		__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	} else if (n >= 8) {
		*(word64 *)p = w;
		*(word64 *)(p + n - 8) = w;
		if (n > 16) {
			*(word64 *)(p + 8) = w;
			*(word64 *)(p + n - 16) = w;
		}
	} else {
		for (size_t i = 0; i < n; i++)
			((volatile uint8_t *)p)[i] = c;
	}
	return ret;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const uint8_t *x = a, *y = b;

	for (; n >= 8 && *(const word64 *)x == *(const word64 *)y; n -= 8)
		x += 8, y += 8;
	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

void *memchr(const void *s, int c, size_t n)
{
	const uint8_t *p = s;

	for (; n; n--, p++)
		if (*p == (uint8_t)c)
			return (void *)p;
	return NULL;
}

size_t strlen(const char *s)
{
	const volatile char *p = s;

	while (*p)
		p++;
	return (const char *)p - s;
}

size_t strnlen(const char *s, size_t n)
{
	const char *e = memchr(s, 0, n);

	return e ? (size_t)(e - s) : n;
}

int strcmp(const char *a, const char *b)
{
	while (*a && *a == *b)
		a++, b++;
	return (uint8_t)*a - (uint8_t)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
	for (; n && *a && *a == *b; n--)
		a++, b++;
	return n ? (uint8_t)*a - (uint8_t)*b : 0;
}

char *strchr(const char *s, int c)
{
	for (;; s++) {
		if (*s == (char)c)
			return (char *)s;
		if (!*s)
			return NULL;
	}
}

char *strrchr(const char *s, int c)
{
	char *last = NULL;

	do {
		if (*s == (char)c)
			last = (char *)s;
	} while (*s++);
	return last;
}

char *strstr(const char *a, const char *b)
{
	size_t n = strlen(b);

	for (; *a; a++)
		if (!strncmp(a, b, n))
			return (char *)a;
	return n ? NULL : (char *)a;
}
#else
typedef int string_is_the_c_librarys; /* a file must declare something */
#endif
