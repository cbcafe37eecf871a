#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# --cpus N: what the program sees of its CPUs, that they compute at the same time, and that snapshots do not care how many there are.
use strict;
use warnings;
use FindBin;
use File::Temp qw(tempdir);
use IO::Select;
use IPC::Open2;
use JSON::PP ();
use Test::More;

my $top = "$FindBin::Bin/../..";
my $cowbell = $ENV{COWBELL} // "$top/build/release/cowbell";
my $dir = tempdir(CLEANUP => 1);
chdir $dir;

sub run {
	my @args = map { quotemeta } @_;
	my $out = `timeout -k 5 120 $cowbell run @args 2>&1 </dev/null`;
	return ($? >> 8, $out);
}

my ($rc, $out) = run('--cpus', 17, '/bin/true');
is($rc, 125, 'at most 16');

my @monitors = ('process');
if (-w '/dev/kvm') {
	push @monitors, 'kvm';
} else {
	diag('/dev/kvm cannot be used: the kvm monitor is not tested here');
}

open(my $c, '>', "$dir/cpus.c") or die;
print $c <<'C';
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/membarrier.h>
static volatile int turn;
static volatile unsigned long count[4];
/* Two threads that hand a word to and fro without any system call: at once on two CPUs, or hardly ever. */
static void *pass(void *a) { int me = (int)(long)a; for (int i = 0; i < 200000; i++) { while (turn != me) ; turn = !me; } return 0; }
static void *spin(void *a) { for (;;) count[(long)a]++; }
int main(int argc, char **argv)
{
	cpu_set_t s;
	pthread_t t[4];
	int n = sysconf(_SC_NPROCESSORS_ONLN);
	if (argc > 1) { /* for snapshots */
		for (long i = 0; i < 3; i++) pthread_create(&t[i], 0, spin, (void *)i);
		for (int r = 0; r < 12; r++) {
			unsigned long o[4];
			memcpy(o, (void *)count, sizeof(o));
			usleep(200000);
			for (int i = 0; i < 3; i++) if (count[i] == o[i] && r) { usleep(2000000); if (count[i] == o[i]) printf("thread %d does not run\n", i); }
		}
		printf("cpus %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
		fflush(stdout);
		_exit(0);
	}
	sched_getaffinity(0, sizeof(s), &s);
	printf("online %d allowed %d\n", n, CPU_COUNT(&s));
	for (int i = 0; i < n; i++) {
		unsigned cpu = 99;
		CPU_ZERO(&s); CPU_SET(i, &s);
		if (sched_setaffinity(0, sizeof(s), &s)) perror("setaffinity");
		syscall(SYS_getcpu, &cpu, 0, 0);
		printf("on %d: %d %u\n", i, sched_getcpu(), cpu);
	}
	CPU_ZERO(&s); CPU_SET(n, &s);
	printf("no such CPU: %d\n", sched_setaffinity(0, sizeof(s), &s));
	CPU_ZERO(&s); for (int i = 0; i < n; i++) CPU_SET(i, &s);
	sched_setaffinity(0, sizeof(s), &s);
	printf("membarrier %ld\n", syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0));
	if (n > 1) {
		for (long i = 0; i < 2; i++) pthread_create(&t[i], 0, pass, (void *)i);
		for (int i = 0; i < 2; i++) pthread_join(t[i], 0);
		puts("passed");
	}
}
C
close $c;
is(system('gcc', '-O1', '-w', '-pthread', "$dir/cpus.c", '-o', "$dir/cpus"), 0, 'compiles');
open(my $sh, '>', "$dir/par.sh") or die;
print $sh 'for i in 1 2 3 4; do (n=0; while [ $n -lt 20 ]; do /bin/true; x=$(echo $n); n=$((n+1)); done; echo done) & done; wait; echo all', "\n";
close $sh;
for my $m (@monitors) {
	for my $n (1, 2, 3) {
		($rc, $out) = run('--monitor', $m, '--cpus', $n, "$dir/cpus");
		my $want = "online $n allowed $n\n" . join('', map { "on $_: $_ $_\n" } 0 .. $n - 1) .
			"no such CPU: -1\nmembarrier 0\n" . ($n > 1 ? "passed\n" : '');
		is($out, $want, "$m: $n CPUs");
	}
	($rc, $out) = run('--monitor', $m, '--cpus', 2, 'sh', '-c',
		'nproc; cat /sys/devices/system/cpu/online; grep -c ^processor /proc/cpuinfo; grep -c "^cpu[0-9]" /proc/stat; taskset -c 1 nproc');
	is($out, "2\n0-1\n2\n2\n1\n", "$m: files and tools say so");
	my $cpu = '/sys/devices/system/cpu';
	($rc, $out) = run('--monitor', $m, '--cpus', 3, 'sh', '-c',
		"cd $cpu; echo cpu[0-9]*; cat possible present offline cpu2/topology/core_id cpu2/topology/thread_siblings; " .
		'cat ../node/node0/cpulist; test ! -e cpu3 && nproc --all; getconf _NPROCESSORS_CONF; grep Cpus_allowed_list /proc/self/status; ' .
		'for i in 0 1 2; do taskset -c $i cut -d" " -f39 /proc/self/stat; done');
	is($out, "cpu0 cpu1 cpu2\n0-2\n0-2\n\n2\n4\n0-2\n3\n3\nCpus_allowed_list:\t0-2\n0\n1\n2\n", "$m: /sys and /proc agree");
SKIP: {
		skip('no lscpu here', 1) if system('command -v lscpu >/dev/null 2>&1');
		($rc, $out) = run('--monitor', $m, '--cpus', 3, 'lscpu');
		like($out, qr/^CPU\(s\): +3\n.*^NUMA node0 CPU\(s\): +0-2\n/ms, "$m: lscpu");
	}
	($rc, $out) = run('--monitor', $m, '--cpus', 3, 'sh', "$dir/par.sh");
	is($out, "done\n" x 4 . "all\n", "$m: processes that fork and exec on three CPUs");

	my $snap = "$dir/$m.snap";
	($rc, $out) = run('--monitor', $m, '--cpus', 2, '--snapshot-at', '1s', '-o', $snap, "$dir/cpus", 's');
	like($out, qr/cpus 2/, "$m: a snapshot of threads that compute on two CPUs; they go on");
	for my $how (map { my $to = $_; map { [$to, $_] } 1, 2, 3 } @monitors) {
		($rc, $out) = run('--monitor', $how->[0], '--cpus', $how->[1], '--snapshot', $snap);
		is($out, "cpus $how->[1]\n", "$m: restored under $how->[0] with $how->[1] CPUs");
	}
}

# A host that gives no more threads or processes: fewer CPUs, or host processes, than wished, and nothing else.
SKIP: {
	my $user = 61000 + $$ % 1000; # who has no other processes
	my @as = ('setpriv', '--reuid', $user, '--regid', $user, '--clear-groups', 'env', map({ "XDG_${_}_HOME=$dir/nobody/$_" } qw(DATA CACHE STATE)), 'HOME=/');
	chmod 0755, $dir;
	mkdir "$dir/nobody";
	chown $user, $user, "$dir/nobody";
	skip('not root, or another user cannot run it', 1) if $> || system("@as $cowbell version >/dev/null 2>&1");
	my @short = grep {
		my $said = `timeout -k 5 120 @as prlimit --nproc=$_ $cowbell run --monitor process --cpus 2 sh ./par.sh 2>&1 </dev/null`;
		$said !~ /^(?:cowbell: no room for 2 CPUs: there are 1\n)?(?:done\n){4}all\n\z/ && !diag("$_: $said");
	} 4 .. 8;
	is("@short", '', 'a host that limits how many processes there are');
}

# An instance's CPUs are listed; copies of it and what it becomes when it moves have as many.
{
	local $ENV{XDG_RUNTIME_DIR} = "$dir/run";
	mkdir "$dir/run", 0700;
	my $cow = sub { my @args = map { quotemeta } @_; my $out = `timeout -k 5 120 $cowbell @args 2>&1 </dev/null`; chomp $out; return $out };
	my $row = sub { my ($id) = @_; my ($r) = grep { $_->{id} eq $id } @{JSON::PP::decode_json($cow->('ps', '--json'))}; return $r };
	my $until = sub { my ($f) = @_; my $end = time + 30; while (time < $end) { return 1 if $f->(); select(undef, undef, undef, 0.05) } return 0 };
	for my $m (@monitors) {
		my @say = ('sh', '-c', 'while sleep 0.05; do nproc; done');
		my $id = $cow->('run', '--monitor', $m, '--cpus', 3, '-d', '--name', "n-$m", '--', @say);
		like($id, qr/^[0-9a-f]{12}$/, "$m: a detached instance") or next;
		is($row->($id)->{cpus}, 3, "$m: ps --json");
		like($cow->('ps'), qr/^$id .* up \d+s +3 /m, "$m: ps");
		ok($until->(sub { $cow->('logs', $id) =~ /^3$/m }), "$m: it runs");
		my $copy = $cow->('clone', $id);
		like($copy, qr/^[0-9a-f]{12}$/, "$m: a copy") or next;
		is($row->($copy)->{cpus}, 3, "$m: has as many");
		ok($until->(sub { $cow->('logs', $copy) =~ /^3$/m }), "$m: and its program knows");
		if (@monitors > 1) {
			my ($to) = grep { $_ ne $m } @monitors;
			$cow->('move', $id, '--monitor', $to);
			my $r = $row->($id);
			is_deeply([@$r{qw(monitor cpus)}], [$to, 3], "$m: moved to $to, it still has them");
		}
		$cow->('stop', $_, '-t', 0) for $id, $copy;
	}
}

# While CPU 0 sleeps in the ring another CPU asks the monitor for memory: an answer for a sleeper may come with that, and is not lost.
open($c, '>', "$dir/grow.c") or die;
print $c <<'C';
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>
static void on(int cpu)
{
	cpu_set_t s;
	CPU_ZERO(&s);
	CPU_SET(cpu, &s);
	sched_setaffinity(0, sizeof(s), &s);
}
static void *grow(void *unused)
{
	on(1);
	for (int i = 0; i < 250; i++) {
		char *p = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		for (int k = 0; k < 2 << 20; k += 4096)
			p[k] = 1;
		usleep(500);
	}
	pause();
	return NULL;
}
int main(void)
{
	pthread_t t;
	char b;
	on(0);
	pthread_create(&t, NULL, grow, NULL);
	while (read(0, &b, 1) == 1)
		write(1, &b, 1);
	_exit(0);
}
C
close $c;
is(system('gcc', '-O1', '-w', '-pthread', "$dir/grow.c", '-o', "$dir/grow"), 0, 'compiles');
for my $m (@monitors) {
	my $pid = open2(my $from, my $to, 'timeout', '-k', 5, 120, $cowbell, 'run', '--monitor', $m, '--cpus', 2, '-m', '1G', "$dir/grow");
	my ($heard, $lost, $end) = (0, 0, time + 4);
	my $ready = IO::Select->new($from);
	while (!$lost && time < $end) {
		syswrite($to, 'x');
		$lost = !$ready->can_read(20) || !sysread($from, my $b, 1);
		$heard += !$lost;
	}
	ok(!$lost && $heard, "$m: a sleeper on one CPU is answered while another takes memory") or diag "after $heard answers";
	close $to;
	close $from;
	waitpid $pid, 0;
}

my %program = (
	go => ['go', "go build -o \$D/p \$D/p.go", "\$D/p", 'p.go', <<'P'],
package main
import ("fmt"; "runtime"; "sync"; "os")
func main() {
	var w sync.WaitGroup
	sum := make([]uint64, 4)
	for i := 0; i < 4; i++ { w.Add(1); go func(i int) { defer w.Done(); x := uint64(i); for k := 0; k < 20000000; k++ { x = x*6364136223846793005 + 1 }; sum[i] = x }(i) }
	w.Wait()
	c := make(chan int); d := make(chan int)
	go func() { for v := range c { d <- v + 1 }; close(d) }()
	t := 0
	for i := 0; i < 1000; i++ { c <- i; t += <-d }
	close(c)
	fmt.Println("cpus", runtime.NumCPU(), t, len(os.Args))
}
P
	java => ['javac', "javac -d \$D \$D/P.java", "java -cp . P", 'P.java', <<'P'],
import java.util.concurrent.*;
public class P { public static void main(String[] a) throws Exception {
	int n = Runtime.getRuntime().availableProcessors();
	ExecutorService e = Executors.newFixedThreadPool(4);
	Future<Long>[] f = new Future[4];
	for (int i = 0; i < 4; i++) { final long s = i; f[i] = e.submit(() -> { long x = s; for (int k = 0; k < 20000000; k++) x = x * 6364136223846793005L + 1; return x; }); }
	long t = 0; for (Future<Long> r : f) t ^= r.get();
	e.shutdown(); System.gc();
	System.out.println("cpus " + n + (t != 0 ? " done" : ""));
} }
P
	node => ['node', '', "node \$D/p.js", 'p.js', <<'P'],
const { Worker, isMainThread, parentPort } = require('worker_threads');
if (isMainThread) {
	let left = 2;
	for (let i = 0; i < 2; i++) { const w = new Worker(__filename); w.on('message', m => { if (!--left) console.log('cpus', require('os').cpus().length, m); }); w.postMessage(i); }
} else parentPort.once('message', s => { let x = s; for (let k = 0; k < 2e7; k++) x = (x * 1664525 + 1013904223) >>> 0; parentPort.postMessage('done'); });
P
);
for my $lang (sort keys %program) {
	my ($need, $build, $cmd, $file, $text) = @{$program{$lang}};
SKIP: {
		skip("no $need here", scalar @monitors) if system("command -v $need >/dev/null 2>&1");
		open(my $f, '>', "$dir/$file") or die;
		print $f $text;
		close $f;
		$ENV{D} = $dir;
		$ENV{GOCACHE} = "$dir/gocache";
		skip("$lang does not build", scalar @monitors) if $build && system("$build >/dev/null 2>&1");
		my $c = $cmd;
		$c =~ s/\$D/$dir/g;
		for my $m (@monitors) {
			($rc, $out) = run('--monitor', $m, '--cpus', 2, '-m', '1G', split(' ', $c));
			like($out, qr/^cpus 2/m, "$m: $lang: workers on two CPUs");
		}
	}
}
done_testing();
