/* SPDX-License-Identifier: ISC */
/*
 * The vDSO: clocks without a system call. A shared object of its own, built
 * apart from the library OS and mapped into the app; the time page (struct
 * boot_time, written by the monitor) lies just before it, read-only.
 *
 * The formula is clock.c's. What it cannot answer (CPU clocks) goes to the
 * library OS the way a rewritten system-call site does: by a jump through the
 * per-CPU block, return address in rcx.
 */
#include <stdint.h>

#include "abi/boot.h"
#include "abi/libos.h"

#define NS		 1000000000ull
#define NR_clock_gettime 228
#define NR_clock_getres	 229
#define STR_(x)		 #x
#define STR(x)		 STR_(x)

struct timespec64 {
	int64_t sec, nsec;
};
struct timeval64 {
	int64_t sec, usec;
};
struct tz {
	int minutes_west, dst;
};

extern const volatile struct boot_time vdso_time_page __attribute__((visibility("hidden")));

int __vdso_clock_gettime(int clock, struct timespec64 *ts);
int __vdso_clock_getres(int clock, struct timespec64 *ts);
int __vdso_gettimeofday(struct timeval64 *tv, struct tz *tz);
int64_t __vdso_time(int64_t *t);
int __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused);

/* Seconds and nanoseconds of the monotonic (real 0) or the realtime clock (real 1). */
static inline void now(int real, uint64_t *sec_out, uint64_t *nsec_out)
{
	const volatile struct boot_time *t = &vdso_time_page;
	uint64_t sec, nsec;
	uint32_t seq, a, d;

	do {
		while (__builtin_expect((seq = t->seq) & 1, 0))
			__builtin_ia32_pause();
		__asm__ volatile("rdtscp"
				 : "=a"(a), "=d"(d)::"ecx",
				   "memory"); /* waits for earlier loads, as Linux reads it */
		uint64_t delta = ((uint64_t)d << 32 | a) - t->base_tsc;

		delta = (int64_t)delta < 0 ? 0 : delta;
		nsec = t->base[real].nsec +
		       (uint64_t)(((unsigned __int128)delta * t->mult) >> BOOT_TIME_SHIFT);
		sec = t->base[real].sec;
		__asm__ volatile("" ::: "memory");
	} while (__builtin_expect(t->seq != seq, 0));
	if (__builtin_expect(nsec >= NS, 0)) {
		sec += nsec / NS;
		nsec %= NS;
	}
	*sec_out = sec;
	*nsec_out = nsec;
}

static inline long libos_call(long nr, long a, long b)
{
	long res;

	__asm__ volatile("lea 1f(%%rip), %%rcx\n\tjmp *%%gs:16\n1:"
			 : "=a"(res)
			 : "a"(nr), "D"(a), "S"(b)
			 : "rcx", "r11", "memory", "cc");
	return res;
}

#define MONO_CLOCKS                                                                                          \
	(1u << 1 | 1u << 4 | 1u << 6 | 1u << 7 | 1u << 9) /* MONOTONIC, RAW, COARSE, BOOTTIME, _ALARM */
#define REAL_CLOCKS (1u << 0 | 1u << 5 | 1u << 8 | 1u << 11) /* REALTIME, COARSE, _ALARM, TAI */

int __vdso_clock_gettime(int clock, struct timespec64 *ts)
{
	uint64_t sec, nsec;

	if (__builtin_expect((unsigned)clock > 11 || !((MONO_CLOCKS | REAL_CLOCKS) >> clock & 1), 0))
		return (int)libos_call(NR_clock_gettime, clock, (long)ts);
	now(REAL_CLOCKS >> clock & 1, &sec, &nsec);
	ts->sec = (int64_t)sec;
	ts->nsec = (int64_t)nsec;
	return 0;
}

int __vdso_clock_getres(int clock, struct timespec64 *ts)
{
	return (int)libos_call(NR_clock_getres, clock, (long)ts);
}

int __vdso_gettimeofday(struct timeval64 *tv, struct tz *tz)
{
	if (tv) {
		uint64_t sec, nsec;

		now(1, &sec, &nsec);
		tv->sec = (int64_t)sec;
		tv->usec = (int64_t)(nsec / 1000);
	}
	if (tz)
		tz->minutes_west = tz->dst = 0;
	return 0;
}

int64_t __vdso_time(int64_t *t)
{
	uint64_t sec, nsec;

	now(1, &sec, &nsec);
	if (t)
		*t = (int64_t)sec;
	return (int64_t)sec;
}

int __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
	unsigned n;

	(void)unused;
	__asm__ volatile("mov %%gs:" STR(BOOT_CPU_ID) ", %0" : "=r"(n));
	if (cpu)
		*cpu = n;
	if (node)
		*node = 0;
	return 0;
}

/*
 * With --stats the dynamic linker is told that the program begins here (this is
 * the vDSO's ELF entry point): the library OS notes the time and returns the true
 * entry. rdx and rsp, which a program's entry may rely on, are kept.
 */
void vdso_main_mark(void);
__asm__(".globl vdso_main_mark\n"
	".type vdso_main_mark, @function\n"
	"vdso_main_mark:\n\t"
	"mov $" STR(BOOT_NR_MAIN_MARK) ", %eax\n\t"
				       "lea 1f(%rip), %rcx\n\t"
				       "jmp *%gs:16\n"
				       "1:\tjmp *%rax\n\t"
				       ".size vdso_main_mark, . - vdso_main_mark");

/* The names without the prefix, as Linux's vDSO has them. */
int clock_gettime(int, struct timespec64 *) __attribute__((weak, alias("__vdso_clock_gettime")));
int clock_getres(int, struct timespec64 *) __attribute__((weak, alias("__vdso_clock_getres")));
int gettimeofday(struct timeval64 *, struct tz *) __attribute__((weak, alias("__vdso_gettimeofday")));
int64_t time(int64_t *) __attribute__((weak, alias("__vdso_time")));
int getcpu(unsigned *, unsigned *, void *) __attribute__((weak, alias("__vdso_getcpu")));
