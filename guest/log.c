/* SPDX-License-Identifier: ISC */
/*
 * Log lines and the end by panic.
 *
 * A line is written into the unused part of the ring's control page, which the
 * monitor can read from the first instruction on, and sent synchronously. That
 * costs an exit a line: the log is for rare things.
 *
 * panic() must work whatever is broken, so it uses its own few lines to drive
 * the ring: nothing that was queued matters any more.
 */
#include "abi/boot.h"
#include "abi/ring.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/plat/plat.h"
#include "guest/plat/ring.h"
#include "guest/proc/proc.h"

#define LINE_MAX 1000u

static u32 panicking; /* panics that began: one inside another is possible */

static struct ring_page *ring_page(void)
{
	return (struct ring_page *)boot->ring_va;
}

static u32 format(const char *fmt, va_list ap)
{
	char *line = (char *)ring_page()->pad;
	int n = vsnprintf(line, LINE_MAX, fmt, ap);

	return MIN((u32)n, LINE_MAX - 1);
}

static struct ring_sqe log_request(enum log_level level, u32 len)
{
	return (struct ring_sqe){.op = RING_OP_LOG,
				 .handle = RING_NO_HANDLE,
				 .arg = level,
				 .addr = boot->ring_gpa + offsetof(struct ring_page, pad),
				 .len = len};
}

void log_line(enum log_level level, const char *fmt, ...)
{
	struct ring_sqe sqe;
	va_list ap;

	if ((u32)level > boot->log_level)
		return;
	va_start(ap, fmt);
	sqe = log_request(level, format(fmt, ap));
	va_end(ap);
	ring_call_nosleep(&sqe, NULL, NULL);
}

void log_raw(const char *fmt, ...)
{
	struct ring_sqe sqe;
	va_list ap;

	va_start(ap, fmt);
	sqe = log_request(LOG_ERROR, format(fmt, ap));
	va_end(ap);
	sqe.arg |= RING_LOG_RAW;
	ring_call_nosleep(&sqe, NULL, NULL);
}

/* CPU 0's doorbell is for the ring; another CPU has to say so. */
static void raw_doorbell(void)
{
	if (this_cpu()->id && plat->cpu_call)
		plat->cpu_call(BOOT_CALL_RING, 0);
	else
		plat->doorbell();
}

/* Put one request behind whatever is in the submission ring and ring. No completion is looked at. */
static void raw_submit(const struct ring_sqe *sqe)
{
	struct ring_page *r = ring_page();
	u32 tail = r->ctl.sq_tail;

	if (tail - r->ctl.sq_head >= RING_ENTRIES)
		raw_doorbell();
	r->sq[tail % RING_ENTRIES] = *sqe;
	__atomic_store_n(&r->ctl.sq_tail, tail + 1, __ATOMIC_RELEASE);
	r->ctl.wait = 0;
	raw_doorbell();
}

_Noreturn void panic(const char *fmt, ...)
{
	struct ring_sqe sqe, end = {.op = RING_OP_EXIT, .handle = RING_NO_HANDLE, .arg = 6 /* SIGABRT */};
	va_list ap;

	if (panicking++ > 1 && plat->die)
		plat->die();
	if (panicking == 1) {
		va_start(ap, fmt);
		sqe = log_request(LOG_ERROR, format(fmt, ap));
		va_end(ap);
		raw_submit(&sqe);
	}
	for (;;) {
		ring_page()->ctl.cq_head = ring_page()->ctl.cq_tail;
		raw_submit(&end);
	}
}

/* Called by code that -fstack-protector made: a function's frame was overwritten. */
_Noreturn void __stack_chk_fail(void);
_Noreturn void __stack_chk_fail(void)
{
	panic("stack smashing detected in the library OS at text+%#lx",
	      (u64)__builtin_return_address(0) - (u64)libos_text_start);
}
