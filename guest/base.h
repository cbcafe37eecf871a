/* SPDX-License-Identifier: ISC */
/*
 * What every part of the library OS may use: types, errors, log, memory, clock.
 *
 * Execution model. One virtual CPU, or several of which one at a time is in
 * the library OS (proc/smp.c). Its code is never preempted: a thread gives up the CPU only where it sleeps (waitq.h, schedule()). So data
 * needs no lock between two sleeping points; code that can sleep says so.
 * Trap handlers that interrupt library OS code (page faults in copy_in/copy_out)
 * never sleep and never call the scheduler.
 */
#ifndef COWBELL_GUEST_BASE_H
#define COWBELL_GUEST_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/list.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
#include <sys/types.h> /* ssize_t: guest/include has a freestanding one */

#define PAGE_SHIFT     12
#define PAGE_SIZE      4096ul
#define PAGE_MASK      (~(PAGE_SIZE - 1))
#define HUGE_SIZE      (2ul << 20)
#define PAGE_UP(x)     (((u64)(x) + PAGE_SIZE - 1) & PAGE_MASK)
#define PAGE_DOWN(x)   ((u64)(x)&PAGE_MASK)
#define ALIGN_UP(x, a) (((u64)(x) + (u64)(a)-1) & ~((u64)(a)-1))
#define ARRAY_SIZE(a)  (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)      ((a) < (b) ? (a) : (b))
#define MAX(a, b)      ((a) > (b) ? (a) : (b))
#define NS_PER_SEC     1000000000ull
#define NO_DEADLINE    UINT64_MAX
#define likely(x)      __builtin_expect(!!(x), 1)
#define unlikely(x)    __builtin_expect(!!(x), 0)

/* Guest-physical address. frame_ptr() (mm/mm.h) is the way to a pointer. */
typedef struct {
	u64 v;
} gpa_t;
#define GPA(x)	 ((gpa_t){(x)})
#define GPA_NONE ((gpa_t){~0ull})

/* Internal results of interruptible system calls; never reach the app (proc/signal.c). */
#define ERESTARTSYS	      512 /* restart if SA_RESTART, else EINTR */
#define ERESTARTNOINTR	      513 /* restart always */
#define ERESTARTNOHAND	      514 /* restart if no handler ran, else EINTR */
#define ENEEDLOCK	      600 /* of a call tried without the library OS's lock: again, with it */
#define ERESTART_RESTARTBLOCK 516 /* restart with a remaining time (nanosleep, futex, poll) */

/* --- log and asserts (guest/log.c) ------------------------------------- */
enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
/* One line to the monitor's log; cut at 1,000 bytes. printf subset of lib/fmt.h. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* As it is, without "cowbell: " before it and whatever the level: lines of --strace. */
void log_raw(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Our bug or a lost guest: prints, ends the instance. */
_Noreturn void panic(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
#define ASSERT(c) (likely(c) ? (void)0 : panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #c))

/* --- small memory (mm/kmalloc.c) ---------------------------------------- */
/* 16-byte aligned; page-multiple sizes are page aligned. NULL when the instance is out of memory. */
void *kmalloc(size_t n);
void *kzalloc(size_t n);
void *krealloc(void *p, size_t n);
void kfree(void *p);
char *kstrdup(const char *s);

/* --- clocks (proc/clock.c) ----------------------------------------------- */
u64 mono_ns(void); /* CLOCK_MONOTONIC */
u64 real_ns(void); /* CLOCK_REALTIME */

/* --- randomness (guest/random.c): ChaCha20, seeded from boot info -------- */
void random_bytes(void *p, size_t n);

/* --- freestanding string functions (lib/string.c) ------------------------ */
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
int snprintf(char *d, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int vsnprintf(char *d, size_t n, const char *fmt, va_list ap);
#define COWBELL_GUEST_STRINGS 1

extern const struct boot_info *boot; /* abi/boot.h; valid for the whole life */
extern struct boot_stats *stats;

#endif
