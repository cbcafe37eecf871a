#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Memory and locks of several processes in one instance: who is killed when memory is out, forks of more than half of it,
# locks on a volume between processes and with the host.
use strict;
use warnings;
use Fcntl qw(:flock F_SETLK F_WRLCK SEEK_SET);
use FindBin;
use lib "$FindBin::Bin";
use Cowbell;
use Test::More;

my $dir = scratch();
my $vol = scratch();
$ENV{XDG_CACHE_HOME} = scratch();
spew("$dir/t.c", do { local $/; <DATA> });
system('gcc', '-O1', '-w', "$dir/t.c", '-o', "$dir/t") == 0 or BAIL_OUT('gcc');

for my $m (monitors()) {
	my $run = sub { run_out({dir => $dir, timeout => 60}, $COWBELL, 'run', '--monitor', $m, @_) };

	my ($rc, $out, $err) = $run->('-m', '64M', '--', "$dir/t", 'hog');
	is($out, "child died of 9\nagain died of 9\nstill here\n", "$m: the hog is killed, its parent goes on");
	is($rc, 0, "$m: and the instance ends as it wants");
	like($err, qr/out of memory: limit 64 MiB; process \d+ \(t\) with \d+ MiB is killed/, "$m: the log says who");
	is(() = $err =~ /is killed/g, 2, "$m: once for each");

	($rc, $out, $err) = $run->('-m', '64M', '--', "$dir/t", 'small');
	is($out, "child ended with 0\n", "$m: a small child of a large program goes its way");
	is($rc, 137, "$m: the program itself is the largest: that is the end");

	($rc, $out, $err) = $run->('-m', '64M', '--', "$dir/t", 'crowd');
	is($out, "some died of 9, the program lives
", "$m: the program comes last, whatever it holds") or diag $err;
	is($rc, 0, "$m: and ends as it wants");

	($rc, $out, $err) = $run->('-m', '64M', '--', "$dir/t", 'adjust');
	is($out, "volunteer died of 9\nbig one lives\n", "$m: oom_score_adj decides");

	($rc, $out, $err) = $run->('-m', '128M', '--', "$dir/t", 'half');
	is($out, "ok 20\n", "$m: forks of a process with most of the memory");

	unlink "$vol/f";
	($rc, $out, $err) = $run->('-v', "$vol:/vol", '--', "$dir/t", 'volume');
	is($out, "child: busy\nchild: other range\nparent: got it\ncounted 300\n", "$m: record locks on a volume");

	open(my $f, '+>>', "$vol/f") or die;
	flock($f, LOCK_EX) or die;
	($rc, $out, $err) = $run->('-v', "$vol:/vol", '--', "$dir/t", 'hostlock');
	is($out, "child: host has it\n", "$m: and what the host locked");
	close $f;
}
done_testing();

__DATA__
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char *take(size_t mb)
{
	size_t n = mb << 20;
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (size_t i = 0; i < n; i += 4096)
		p[i] = 1;
	return p;
}
static void say(const char *what, pid_t p)
{
	int st;
	waitpid(p, &st, 0);
	if (WIFSIGNALED(st))
		printf("%s died of %d\n", what, WTERMSIG(st));
	else
		printf("%s ended with %d\n", what, WEXITSTATUS(st));
	fflush(stdout);
}
static int lk(int fd, int cmd, int type, off_t start, off_t len)
{
	struct flock fl = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len};
	return fcntl(fd, cmd, &fl);
}
static void hog(void)
{
	for (int i = 0; i < 2; i++) {
		pid_t p = fork();
		if (!p) {
			take(200);
			_exit(0);
		}
		say(i ? "again" : "child", p);
	}
	puts("still here");
}
static void small(void)
{
	take(40);
	pid_t p = fork();
	if (!p) {
		usleep(1000);
		_exit(0);
	}
	say("child", p);
	take(200);
}
static void crowd(void)
{
	char *mine = take(20);
	int died = 0, st;
	for (int i = 0; i < 8; i++)
		if (!fork()) {
			take(8);
			for (;;)
				pause();
		}
	while (!died) {
		if (wait(&st) < 0)
			break;
		died = WIFSIGNALED(st) && WTERMSIG(st) == 9;
	}
	for (int i = 0; i < 20 << 20; i += 4096)
		died &= mine[i] == 1;
	if (died)
		puts("some died of 9, the program lives");
}
static void adjust(void)
{
	int pp[2];
	char c;
	pipe(pp);
	pid_t v = fork();
	if (!v) {
		int f = open("/proc/self/oom_score_adj", O_WRONLY);
		write(f, "1000", 4);
		take(16);
		write(pp[1], "x", 1);
		for (;;)
			pause();
	}
	read(pp[0], &c, 1);
	pid_t b = fork();
	if (!b) {
		take(50);
		_exit(0);
	}
	say("volunteer", v);
	int st;
	waitpid(b, &st, 0);
	puts(WIFEXITED(st) ? "big one lives" : "big one died");
}
static void half(void)
{
	char *p = take(90);
	int n = 0;
	for (int i = 0; i < 20; i++) {
		pid_t k = fork();
		if (!k) {
			for (size_t at = 0; at < 4 << 20; at += 4096)
				p[at + i * (4 << 20)] = 2;
			_exit(p[i * (4 << 20)] == 2 && p[89 << 20] == 1 ? 0 : 1);
		}
		int st = 1;
		waitpid(k, &st, 0);
		n += st == 0 && p[i * (4 << 20)] == 1;
	}
	printf("ok %d\n", n);
}
static void volume(void)
{
	int fd = open("/vol/f", O_CREAT | O_RDWR, 0600), st;
	lk(fd, F_SETLK, F_WRLCK, 0, 10);
	fflush(stdout);
	pid_t p = fork();
	if (!p) {
		puts(lk(fd, F_SETLK, F_WRLCK, 5, 1) ? "child: busy" : "child: taken");
		puts(lk(fd, F_SETLK, F_WRLCK, 20, 1) ? "child: other busy" : "child: other range");
		fflush(stdout);
		_exit(0);
	}
	waitpid(p, &st, 0);
	puts(lk(fd, F_SETLK, F_WRLCK, 0, 0) ? "parent: busy" : "parent: got it");
	fflush(stdout);
	int n = 0;
	pwrite(fd, &n, sizeof(n), 0);
	lk(fd, F_SETLK, F_UNLCK, 0, 0);
	for (int k = 0; k < 3; k++) {
		if (!fork()) {
			for (int i = 0; i < 100; i++) {
				int v;
				lk(fd, F_SETLKW, F_WRLCK, 0, 4);
				pread(fd, &v, sizeof(v), 0);
				v++;
				pwrite(fd, &v, sizeof(v), 0);
				lk(fd, F_SETLK, F_UNLCK, 0, 4);
			}
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
	pread(fd, &n, sizeof(n), 0);
	printf("counted %d\n", n);
}
static void hostlock(void)
{
	int fd = open("/vol/f", O_RDWR), st;
	pid_t p = fork();
	if (!p) {
		puts(flock(fd, LOCK_EX | LOCK_NB) ? "child: host has it" : "child: got it");
		fflush(stdout);
		_exit(0);
	}
	waitpid(p, &st, 0);
}
int main(int argc, char **argv)
{
	const char *w = argv[1];
	if (!strcmp(w, "hog"))
		hog();
	else if (!strcmp(w, "small"))
		small();
	else if (!strcmp(w, "crowd"))
		crowd();
	else if (!strcmp(w, "adjust"))
		adjust();
	else if (!strcmp(w, "half"))
		half();
	else if (!strcmp(w, "volume"))
		volume();
	else if (!strcmp(w, "hostlock"))
		hostlock();
	return 0;
}
