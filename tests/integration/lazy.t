#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Memory of a restored instance that nobody touched yet: every page of it is right when it is touched at last, by several
# threads in random order, by read and write on files and sockets straight into it, after madvise, mprotect, mremap and munmap;
# under either monitor, whichever took the snapshot; also in a second snapshot of an instance that had touched
# but a part.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'needs a C compiler' unless have('cc');
my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
$ENV{XDG_STATE_HOME} = "$dir/state";
mkdir "$dir/$_" for qw(bin vol);

spew("$dir/pages.c", <<'C');
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#define PG 4096ul
#define N_BIG (100ul << 20 >> 12)
#define N_IO 2048ul
#define N_HUGE 2048ul
#define THREADS 4
typedef uint64_t u64;
static char *big, *io, *huge, *odd;
static unsigned char version[N_BIG];
static int pipes[2];
static u64 word(u64 page, u64 i, u64 v) { u64 x = page * 1000003 + i * 7919 + v * 104729 + 1; x ^= x >> 29; return x * 0x9e3779b97f4a7c15; }
static void fill(char *p, u64 page, u64 v) { for (u64 i = 0; i < 512; i++) ((u64 *)p)[i] = word(page, i, v); }
static void die(const char *what, u64 n) { printf("WRONG %s %lu\n", what, (long)n); fflush(stdout); _exit(1); }
static void check(const char *what, const char *p, u64 page, u64 v) { for (u64 i = 0; i < 512; i++) if (((u64 *)p)[i] != word(page, i, v)) die(what, page); }
static void zero(const char *what, const char *p, u64 n) { for (u64 i = 0; i < n; i++) if (p[i]) die(what, i); }
static int generation(void) { char b[32] = ""; int fd = open("/proc/cowbell/generation", O_RDONLY); if (read(fd, b, 31) < 0) return 0; close(fd); return atoi(b); }
static void await(int old, int ms) { while (generation() == old && ms-- > 0) usleep(1000); }
static char *map(u64 pages) { char *p = mmap(0, pages * PG, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); if (p == MAP_FAILED) _exit(9); return p; }
/* one byte of a run that starts at page n of the io area */
static char byte(u64 at) { u64 w = word(at / PG, at % PG / 8, 3); return ((char *)&w)[at % 8]; }

static int part; /* of 3: what a pass looks at */
static void *walker(void *arg)
{
	u64 t = (u64)arg, n = N_BIG / THREADS, x = t * 77 + (u64)part;
	for (u64 k = 0; k < n; k++) {
		u64 i;
		x = (x + 2731 * 3) % n; /* n and the step have no divisor in common but for luck: pages not met wait for the last pass */
		i = x * THREADS + t;
		if (part < 3 && i % 3 != (u64)part) continue;
		check("big", big + i * PG, i, version[i]);
		if (i % 5 == (u64)part) fill(big + i * PG, i, ++version[i]);
	}
	return 0;
}
static void walk(int p)
{
	pthread_t t[THREADS];
	part = p;
	for (u64 i = 0; i < THREADS; i++) pthread_create(&t[i], 0, walker, (void *)i);
	for (u64 i = 0; i < THREADS; i++) pthread_join(t[i], 0);
}
/* From pages that nobody touched into others, at odd places; what lies around must stay. */
static void move(const char *what, int in, int out, u64 from, u64 to, int seek)
{
	u64 len = 3 * PG + 100, src = from * PG + 33, dst = to * PG + 1001, done = 0;
	if (write(out, io + src, len) != (ssize_t)len) die(what, from);
	if (seek) lseek(in, 0, SEEK_SET);
	while (done < len) { ssize_t n = read(in, io + dst + done, len - done); if (n <= 0) die(what, to); done += (u64)n; }
	for (u64 i = 0; i < len; i++) if (io[dst + i] != byte(src + i)) die(what, i);
	for (u64 i = to * PG; i < dst; i++) if (io[i] != byte(i)) die(what, i);
	for (u64 i = dst + len; i < (to + 5) * PG; i++) if (io[i] != byte(i)) die(what, i);
	for (u64 i = from * PG; i < (from + 4) * PG; i++) if (io[i] != byte(i)) die(what, i);
}
static void transfers(u64 first)
{
	int sv[2], f = open("/tmp/f", O_RDWR | O_CREAT | O_TRUNC, 0600), g = open("/vol/f", O_RDWR | O_CREAT | O_TRUNC, 0600);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) || f < 0 || g < 0) die("setup", 0);
	for (u64 n = 0; n < 12; n++) {
		u64 at = first + n * 40;
		move("socket", sv[0], sv[1], at, at + 6, 0);
		move("pipe", pipes[0], pipes[1], at + 12, at + 18, 0);
		if (lseek(f, 0, SEEK_SET) || lseek(g, 0, SEEK_SET)) die("seek", 0);
		move("file", f, f, at + 24, at + 30, 1);
	}
	move("volume", g, g, first + 500, first + 506, 1);
	close(sv[0]), close(sv[1]), close(f), close(g);
}
static void operations(u64 o) /* 64 pages of the odd area from o on */
{
	char *p = odd + o * PG, *q;
	if (madvise(p, 8 * PG, MADV_DONTNEED)) die("madvise", o);
	zero("dontneed", p, 8 * PG);
	if (mprotect(p + 8 * PG, 8 * PG, PROT_READ)) die("mprotect", o);
	for (u64 i = 8; i < 16; i++) check("protected", p + i * PG, o + i, 5);
	if (mprotect(p + 8 * PG, 8 * PG, 3)) die("mprotect", o);
	fill(p + 9 * PG, o + 9, 5);
	q = mremap(p + 16 * PG, 8 * PG, 16 * PG, MREMAP_MAYMOVE);
	if (q == MAP_FAILED) die("mremap", o);
	for (u64 i = 0; i < 8; i++) check("moved", q + i * PG, o + 16 + i, 5);
	zero("grown", q + 8 * PG, 8 * PG);
	munmap(p + 24 * PG, 8 * PG);
	if (mmap(p + 24 * PG, 8 * PG, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != p + 24 * PG) die("mmap", o);
	zero("fresh", p + 24 * PG, 8 * PG);
	p[32 * PG + 5] ^= 1, p[32 * PG + 5] ^= 1;
	for (u64 i = 32; i < 64; i++) check("neighbour", p + i * PG, o + i, 5);
	free(memset(malloc(3 << 20), 1, 3 << 20));
}
int main(void)
{
	int g;
	big = map(N_BIG), io = map(N_IO), huge = map(N_HUGE + 512), odd = map(256);
	huge = (char *)(((u64)huge + (2 << 20) - 1) & ~(u64)((2 << 20) - 1));
	madvise(huge, N_HUGE * PG, MADV_HUGEPAGE);
	for (u64 i = 0; i < N_BIG; i++) fill(big + i * PG, i, 0);
	for (u64 i = 0; i < N_IO; i++) fill(io + i * PG, i, 3);
	for (u64 i = 0; i < N_HUGE; i++) fill(huge + i * PG, i, 4);
	for (u64 i = 0; i < 256; i++) fill(odd + i * PG, i, 5);
	if (pipe(pipes)) return 1;
	g = generation();
	printf("filled\n"), fflush(stdout);
	await(g, 60000);
	g = generation();
	walk(0), transfers(0), operations(0);
	for (u64 i = 0; i < N_HUGE; i += 37) check("huge", huge + i * PG, i, 4);
	printf("first part\n"), fflush(stdout);
	await(g, 2500); /* a second snapshot, or none */
	walk(1), transfers(600), operations(64);
	for (u64 i = 0; i < N_HUGE; i++) { check("huge", huge + i * PG, i, 4); if (i % 9 == 0) fill(huge + i * PG, i, 4); }
	walk(2), transfers(1200), operations(128), walk(3);
	for (u64 i = 0; i < N_BIG; i++) check("all", big + i * PG, i, version[i]);
	for (u64 i = 0; i < N_HUGE; i++) check("all huge", huge + i * PG, i, 4);
	for (u64 i = 1800; i < N_IO; i++) check("all io", io + i * PG, i, 3);
	printf("all right, generation %d\n", generation());
	return 7;
}
C
system('cc', '-O1', '-pthread', '-o', "$dir/bin/pages", "$dir/pages.c") == 0 or die;

my @monitors = monitors();
my @v = ('-v', "$dir/vol:/vol");
for my $from (@monitors) {
	my $snap = "$dir/$from.snap";
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $from, '--snapshot-at', 'SIGUSR2', '--snapshot-stop', '-o', $snap, @v,
		"$dir/bin/pages");
	my $end = time + 30;
	select undef, undef, undef, 0.05 while time < $end && slurp($g->{out}) !~ /filled/;
	kill 'USR2', $g->{pid};
	stop_guest($g, 0, 30);
	ok(-s $snap > 100 << 20, "$from: taken") or diag slurp($g->{err});
	for my $to (@monitors) {
		for my $run ('to record', 'again') {
			my ($st, $out, $err) = run_out({timeout => 60}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap, @v);
			is($st, 7, "$from to $to, $run: every page is right") or diag "$out$err";
			like($out, qr/all right, generation 2$/m, "$from to $to, $run: to its end");
		}
		my $second = "$dir/second.snap";
		my (undef, $out, $err) = run_out({timeout => 60}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap, @v, '--snapshot-at',
			'700ms', '--snapshot-stop', '-o', $second);
		ok(-s $second, "$from to $to: taken again while most of it was not touched") or diag "$out$err";
		for my $last (@monitors) {
			my ($st, $o, $e) = run_out({timeout => 60}, $COWBELL, 'run', '--monitor', $last, '--snapshot', $second, @v);
			is($st, 7, "$from to $to to $last: every page is right") or diag "$o$e";
			like($o, qr/all right, generation 3$/m, "$from to $to to $last: to its end");
		}
		unlink $second;
	}
	unlink $snap;
}
done_testing;
