/* SPDX-License-Identifier: ISC */
/* Many address spaces at once: each keeps its own memory, all see what they share, whoever ran last. */
#include "conf.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define MANY  90 /* more than a monitor may keep apart at once */
#define PAGES 64
#define PG    4096

static struct shared {
	volatile unsigned turn[MANY], sum[MANY], seen;
} * sh;
static unsigned char *mine;

static unsigned pattern(unsigned who, unsigned page, unsigned round)
{
	return (who * 31 + page * 7 + round * 13) & 0xff;
}

/* Each page of ours holds what we wrote there last. */
static int intact(unsigned who, unsigned round)
{
	for (unsigned i = 0; i < PAGES; i++)
		if (mine[i * PG + who] != pattern(who, i, round))
			return 0;
	return 1;
}

static void write_all(unsigned who, unsigned round)
{
	for (unsigned i = 0; i < PAGES; i++)
		mine[i * PG + who] = pattern(who, i, round);
}

/* read() with a value in a vector register, which other processes use meanwhile. */
static long read_keeping(int fd, char *c, uint64_t value)
{
	uint64_t after;
	long r;

	__asm__ volatile("movq %2, %%xmm7\n\tsyscall\n\tmovq %%xmm7, %1"
			 : "=a"(r), "=r"(after)
			 : "r"(value), "0"(0l), "D"(fd), "S"(c), "d"(1)
			 : "rcx", "r11", "xmm7", "memory");
	return after == value ? r : -1;
}

/* One of many: at each word of the parent look, write, answer. Registers are ours, too. */
static void child(unsigned who, int in, int out)
{
	volatile double x = who + 0.5;
	char c;

	write_all(who, 0);
	for (unsigned round = 1; read_keeping(in, &c, who * 3 + 1) == 1; round++) {
		if (!intact(who, round - 1) || x != who + 0.5)
			c = 'X';
		write_all(who, round);
		if (round % 4 == who % 4) { /* another mapping in the same place */
			mmap(mine, PG * PAGES / 2, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
			c = mine[who] ? 'Z' : c;
			write_all(who, round);
		}
		if (round % 4 == 1)
			mprotect(mine, PG * PAGES, PROT_READ);
		if (round % 4 == 1 && !intact(who, round))
			c = 'P';
		mprotect(mine, PG * PAGES, PROT_READ | PROT_WRITE);
		sh->turn[who]++;
		sh->sum[who] += round;
		if (write(out, &c, 1) != 1)
			_exit(2);
	}
	_exit(who % 100);
}

static void many(void)
{
	int to[MANY][2], from[MANY][2], pid[MANY], good = 0, ended = 0, st;
	char c;

	for (unsigned i = 0; i < MANY; i++) {
		if (pipe(to[i]) || pipe(from[i]))
			return;
		write_all(i, 77);
		pid[i] = fork();
		if (!pid[i]) {
			for (unsigned j = 0; j <= i; j++)
				close(to[j][1]);
			child(i, to[i][0], from[i][1]);
		}
		close(to[i][0]);
		close(from[i][1]);
	}
	for (unsigned round = 1; round <= 6; round++) {
		for (unsigned i = 0; i < MANY; i++) {
			unsigned who = (i * 37 + round) % MANY;

			c = 'a';
			if (write(to[who][1], &c, 1) == 1 && read(from[who][0], &c, 1) == 1 && c == 'a')
				good++;
		}
	}
	SHOW("rounds", "%d", good);
	for (unsigned i = 0; i < MANY; i++) {
		good = good && intact(i, 77) && sh->turn[i] == 6 && sh->sum[i] == 21;
		close(to[i][1]);
	}
	CHECK("the parent's memory is its own and the shared one all of theirs", good);
	for (unsigned i = 0; i < MANY; i++)
		ended += waitpid(pid[i], &st, 0) == pid[i] && WEXITSTATUS(st) == i % 100;
	SHOW("ended", "%d", ended);
}

/* Forks of forks: the n-th sees what each before it wrote before it forked. */
static int chain(unsigned depth)
{
	int pid, st;

	mine[depth * PG] = depth + 1;
	if (depth == 20) {
		for (unsigned i = 0; i <= depth; i++)
			if (mine[i * PG] != i + 1)
				return 100 + i;
		return 0;
	}
	pid = fork();
	if (!pid)
		_exit(chain(depth + 1));
	mine[(depth + 1) * PG] = 99;
	waitpid(pid, &st, 0);
	return mine[(depth + 1) * PG] == 99 ? WEXITSTATUS(st) : 99;
}

/* While a child that waits has pages in common with us, both sides let go of theirs. */
static void let_go(void)
{
	int a[2], b[2], pid, st, ok;
	char c = 0;

	memset(mine, 5, PAGES * PG);
	if (pipe(a) || pipe(b))
		return;
	pid = fork();
	if (!pid) {
		ok = mine[0] == 5;
		ok &= write(b[1], &c, 1) == 1 && read(a[0], &c, 1) == 1;
		for (unsigned i = 0; i < PAGES; i++)
			ok &= mine[i * PG] == 5;
		munmap(mine, PAGES * PG);
		ok &= write(b[1], &c, 1) == 1 && read(a[0], &c, 1) == 1;
		_exit(ok);
	}
	read(b[0], &c, 1);
	memset(mine, 6, PAGES * PG / 2);
	madvise(mine + PAGES * PG / 2, PAGES * PG / 2, MADV_DONTNEED);
	ok = write(a[1], &c, 1) == 1 && read(b[0], &c, 1) == 1;
	for (unsigned i = 0; i < PAGES; i++)
		ok &= mine[i * PG] == (i < PAGES / 2 ? 6 : 0);
	ok &= write(a[1], &c, 1) == 1;
	waitpid(pid, &st, 0);
	CHECK("what one lets go of stays the other's", ok && WEXITSTATUS(st) == 1);
}

/* A file that is cut while another process, which waits, has it mapped. */
static void cut(void)
{
	char name[] = "/tmp/spaces.XXXXXX", c = 0;
	int fd = mkstemp(name), a[2], b[2], pid, st, ok;
	volatile unsigned char *p;

	if (fd < 0 || ftruncate(fd, 4 * PG) || pipe(a) || pipe(b))
		return;
	p = mmap(NULL, 4 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	p[3 * PG] = 1;
	pid = fork();
	if (!pid) {
		ok = p[3 * PG] == 1 && write(b[1], &c, 1) == 1 && read(a[0], &c, 1) == 1;
		ok = ok && p[PG] == 9 && p[3 * PG] == 0;
		p[0] = 4;
		_exit(ok);
	}
	read(b[0], &c, 1);
	ok = !ftruncate(fd, 2 * PG) && !ftruncate(fd, 4 * PG);
	p[PG] = 9;
	write(a[1], &c, 1);
	waitpid(pid, &st, 0);
	CHECK("a file that was cut is cut in every process", ok && WEXITSTATUS(st) == 1 && p[0] == 4);
	unlink(name);
}

int main(void)
{
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	mine = mmap(NULL, PG * PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	many();
	SHOW("chain", "%d", chain(0));
	let_go();
	cut();
	return conf_done();
}
