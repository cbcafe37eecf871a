/* SPDX-License-Identifier: ISC */
/*
 * Probes the protections of the guest from inside; argv[1] names one. Prints
 * "held" when the protection stopped the attempt. `addresses` prints one line
 * of addresses for the entropy measurement. The library OS is found the way an
 * attacker would: through %gs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static sigjmp_buf jb;
static volatile int code;

static void on_fault(int s, siginfo_t *si, void *u)
{
	(void)u;
	code = si->si_code;
	siglongjmp(jb, s);
}

static uint64_t gs(unsigned off)
{
	uint64_t v;
	__asm__ volatile("mov %%gs:(%1), %0" : "=r"(v) : "r"((uint64_t)off));
	return v;
}

static int faults(void (*fn)(uint64_t), uint64_t a)
{
	int s = sigsetjmp(jb, 1);
	if (!s)
		fn(a);
	return s == SIGSEGV || s == SIGBUS;
}
static void wr(uint64_t a)
{
	*(volatile uint8_t *)a = *(volatile uint8_t *)a;
}
static void wr0(uint64_t a)
{
	*(volatile uint8_t *)a = 0;
}
static void rd(uint64_t a)
{
	(void)*(volatile uint8_t *)a;
}
static void call(uint64_t a)
{
	((void (*)(void))a)();
}

static int pipe_fds[2];
static void *reader(void *a)
{
	char c;
	(void)!read(pipe_fds[0], &c, 1);
	return a;
}

static int recurse(volatile char *p)
{
	volatile char b[4096];
	b[0] = p[0];
	return recurse(b) + b[0];
}

static int result(int held)
{
	puts(held ? "held" : "NOT HELD");
	return held ? 0 : 1;
}

int main(int argc, char **argv)
{
	static char alt[65536];
	stack_t ss = {.ss_sp = alt, .ss_size = sizeof(alt)};
	sigaltstack(&ss, NULL);
	struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	const char *w = argc > 1 ? argv[1] : "";
	uint64_t cpu = gs(0), thread = gs(8), entry = gs(16);

	if (!strcmp(w, "page0"))
		return result(mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED &&
			      errno == EPERM && faults(rd, 0) && faults(rd, 0xfff) && faults(wr0, 0x10));
	if (!strcmp(w, "stack-guard")) {
		int s = sigsetjmp(jb, 1);
		if (!s)
			recurse("x");
		return result(s == SIGSEGV);
	}
	if (!strcmp(w, "kstack-guard")) {
		uint64_t top = *(uint64_t *)thread;
		for (uint64_t a = top - 8; a > top - (1 << 20); a -= 4096)
			if (faults(rd, a))
				return result(1);
		return result(0);
	}
	if (!strcmp(w, "nx-stack")) {
		volatile unsigned char ret[16] = {0xc3};
		return result(faults(call, (uint64_t)ret));
	}
	if (!strcmp(w, "nx-heap")) {
		unsigned char *p = malloc(100);
		p[0] = 0xc3;
		return result(faults(call, (uint64_t)p));
	}
	if (!strcmp(w, "libos-text-read-only"))
		return result(faults(wr, entry) && faults(wr, entry & ~4095ul));
	if (!strcmp(w, "libos-data-nx"))
		return result(faults(call, cpu) && faults(call, *(uint64_t *)thread - 64));
	if (!strcmp(w, "libos-stack-protector")) {
		/* A call sleeps inside the library OS with the canary on its stack; change the
		 * canary at %gs:40 meanwhile, and the library OS must notice on the way out. */
		pthread_t t;
		if (pipe(pipe_fds) || pthread_create(&t, NULL, reader, NULL))
			return 2;
		usleep(30000);
		__asm__ volatile("notq %%gs:(%0)" : : "r"(40ul) : "memory");
		if (write(pipe_fds[1], "x", 1) != 1)
			return 2;
		pthread_join(t, NULL);
		return result(0);
	}
	if (!strcmp(w, "addresses")) {
		void *h = malloc(16), *m = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		printf("%lx %lx %lx %lx %lx %lx\n", (long)main, (long)&ss, (long)h, (long)m, (long)entry,
		       (long)cpu);
		return 0;
	}
	fprintf(stderr, "protect: unknown probe '%s'\n", w);
	return 2;
}
