#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Snapshots, clones and moves of instances with several processes: each goes on where it was with its own memory, what they
# share is shared in the new instance too and with nobody outside, under either monitor, whichever took the snapshot.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

own_network();
plan skip_all => 'needs a C compiler and python3' unless have('cc', 'python3');
my $dir = scratch();
$ENV{"XDG_${_}_HOME"} = "$dir/" . lc $_ for qw(DATA CACHE STATE);
mkdir "$dir/$_" for qw(bin snap app);

# A family: one child reads a pipe that the parent writes, the other computes, a grandchild waits on a futex in shared memory. Each
# has memory of its own in the same place.
spew("$dir/family.c", <<'C');
#define _GNU_SOURCE
#include <linux/futex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#define BIG (8 << 20)
static struct shared { volatile int word, sum, turns; } *sh;
static unsigned char *mine, *wipe;
static volatile int chld;
static void on_chld(int s) { (void)s; chld++; }
static double now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static void fill(int who) { for (int i = 0; i < BIG; i += 4096) mine[i] = who + (i >> 12); }
static int good(int who) { for (int i = 0; i < BIG; i += 4096) if (mine[i] != (unsigned char)(who + (i >> 12))) return 0; return 1; }
static void report(const char *who, int ok) { unsigned char r[8]; char line[200]; int n;
	getrandom(r, 8, 0);
	n = sprintf(line, "%s %d wipe [%s] random %02x%02x%02x%02x%02x%02x%02x%02x\n", who, ok, wipe, r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]);
	write(1, line, n); }
static int reader(int in) { int sum = 0; unsigned char b; fill(1);
	while (read(in, &b, 1) == 1) sum += b, sh->sum += b;
	report("reader", sum == 210 && sh->sum == 210 && good(1)); return 11; }
static int computer(void) { volatile double x = 1.5; double end = now() + 2; pid_t p; int st; fill(2);
	p = fork();
	if (!p) { fill(3); while (!sh->word) syscall(SYS_futex, &sh->word, FUTEX_WAIT, 0, 0, 0, 0);
		report("waiter", sh->word == 7 && good(3)); _exit(13); }
	while (now() < end) { for (int i = 0; i < 1000; i++) x = x * 1.0000001 / 1.0000001; sh->turns++; }
	sh->word = 7; syscall(SYS_futex, &sh->word, FUTEX_WAKE, 9, 0, 0, 0);
	report("computer", waitpid(p, &st, 0) == p && WEXITSTATUS(st) == 13 && x > 1.4 && x < 1.6 && good(2)); return 12; }
int main(void)
{
	int p[2], st, ended = 0, zero = 0; pid_t a, b;
	signal(SIGCHLD, on_chld);
	sh = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	wipe = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mine = malloc(BIG + 4096);
	for (int i = 0; i < BIG; i += 4096) zero |= mine[i];
	fill(0);
	if (pipe(p)) return 1;
	if (!(a = fork())) { close(p[1]); madvise(wipe, 4096, MADV_WIPEONFORK); strcpy((char *)wipe, "secret"); _exit(reader(p[0])); }
	if (!(b = fork())) { close(p[1]); strcpy((char *)wipe, "kept"); _exit(computer()); }
	close(p[0]);
	for (unsigned char i = 1; i <= 20; i++) { struct timespec t = {0, 100000000}; while (nanosleep(&t, &t)); write(p[1], &i, 1); }
	close(p[1]);
	for (pid_t w; (w = wait(&st)) > 0 || ended < 2;) if (w > 0) ended += (w == a && WEXITSTATUS(st) == 11) + (w == b && WEXITSTATUS(st) == 12);
	report("parent", ended == 2 && chld >= 1 && good(0) && sh->turns > 10);
	return 3;
}
C
system('cc', '-O1', '-w', '-o', "$dir/bin/family", "$dir/family.c") == 0 or die;

# As gunicorn and others do: the master listens, workers accept; a dead one is replaced.
spew("$dir/app/app.py", <<'PY');
import json, mmap, os, signal, socket, struct, sys, time
WORKERS = 3
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 8000))
s.listen(200)
shared = mmap.mmap(-1, 4096)
lock_r, lock_w = os.pipe()
os.write(lock_w, b"x")
log = []
signal.signal(signal.SIGCONT, lambda *a: log.append("SIGCONT"))
def worker(who):
    mine, data = 0, {i: str(i) * 50 for i in range(2000)}
    while True:
        c, _ = s.accept()
        request = b""
        while b"\r\n\r\n" not in request:
            more = c.recv(4096)
            if not more:
                break
            request += more
        if not request:
            continue
        if b"GET /die" in request:
            c.sendall(b"HTTP/1.0 200 OK\r\n\r\ndying")
            c.close()
            os._exit(7)
        os.read(lock_r, 1)
        n = struct.unpack("q", shared[:8])[0] + 1
        shared[:8] = struct.pack("q", n)
        os.write(lock_w, b"x")
        mine += 1
        intact = all(data[i] == str(i) * 50 for i in data) and len(data) == 2000
        body = json.dumps(dict(pid=os.getpid(), ppid=os.getppid(), who=who, n=n, mine=mine, intact=intact, rand=os.urandom(8).hex(), log=log,
            generation=int(open("/proc/cowbell/generation").read()))).encode()
        c.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        c.close()
def start(who):
    pid = os.fork()
    if not pid:
        try:
            worker(who)
        finally:
            os._exit(1)
    return pid
workers = {start(i): i for i in range(WORKERS)}
def end(*a):
    for p in workers:
        os.kill(p, signal.SIGTERM)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
while True:
    pid, st = os.wait()
    workers[start(workers.pop(pid))] = 0
PY

# Clients: whoever is connected is answered, no number comes twice.
spew("$dir/clients.py", <<'PY');
import json, socket, sys, threading
port, stop, lock, seen, errors = int(sys.argv[1]), False, threading.Lock(), [], []
def client():
    while not stop:
        try:
            s = socket.create_connection(("127.0.0.1", port), timeout=20)
            s.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while True:
                more = s.recv(4096)
                if not more:
                    break
                data += more
            j = json.loads(data.split(b"\r\n\r\n", 1)[1])
            assert j["intact"], j
            with lock:
                seen.append((j["n"], j["pid"]))
        except Exception as e:
            errors.append(repr(e))
            return
threads = [threading.Thread(target=client) for i in range(6)]
for t in threads:
    t.start()
print("go", flush=True)
sys.stdin.read()
stop = True
for t in threads:
    t.join()
print(json.dumps(dict(n=len(seen), unique=len({n for n, _ in seen}), pids=len({p for _, p in seen}), errors=errors)))
PY

my @monitors = monitors();
my %random;
for my $from (@monitors) {
	my $snap = "$dir/snap/family.$from";
	my ($st, $said, $err) = run_out({timeout => 90}, $COWBELL, 'run', '--monitor', $from, '--snapshot-at', '1s', '--snapshot-stop',
		'-o', $snap, "$dir/bin/family");
	ok(-s $snap, "$from: a family of processes is taken") or diag $err;
	for my $to (map { ($_, $_) } @monitors) {
		my ($status, $out, $why) = run_out({timeout => 90}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap);
		is($status, 3, "$from to $to: it goes on to its end") or diag $why;
		# who was done before it was taken has said so there
		like($said . $out, qr/^$_/m, "$from to $to: $_") or diag $out
			for 'reader 1 wipe \[\w*\]', 'computer 1 wipe \[kept\]', 'waiter 1 wipe \[kept\]', 'parent 1 wipe \[\]';
		my @r = $out =~ /random (\S+)$/mg;
		ok(@r >= 2 && !grep({ $random{$_}++ } @r), "$from to $to: random numbers are each process's own");
	}
}

sub ask { my ($port, $path) = @_; my (undef, $body) = http("http://127.0.0.1:$port" . ($path // '/')); return eval { decode_json($body) } // {} }
# Answers of each worker: a connection for each at the same time, so that nobody answers two of them, but for who ends one
# before another worker wakes. () if an answer is wrong.
sub workers_of {
	my ($port) = @_;
	my %pid;
	for my $round (1 .. 30) {
		last if $round > 4 && keys %pid == 3;
		my @c = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 20) // return () } 1 .. 3;
		sleep 0.02 * $round;
		print $_ "GET / HTTP/1.0\r\n\r\n" for @c;
		for my $c (@c) {
			my ($said, $ready) = ('', IO::Select->new($c));
			1 while $ready->can_read(20) && sysread($c, $said, 4096, length $said);
			my $j = eval { decode_json(($said =~ /\r\n\r\n(.*)/s)[0]) } // {};
			return () unless $j->{intact};
			$pid{$j->{pid}} = $j;
		}
	}
	return map { $pid{$_} } sort { $a <=> $b } keys %pid;
}
my $python = `python3 -c 'import sys; print(sys.executable)'`;
chomp $python;

for my $from (@monitors) {
	for my $when (qw(listen running)) {
		my $snap = "$dir/snap/server.$from.$when";
		my $port = free_port();
		my @at = $when eq 'listen' ? ('--snapshot-at', 'listen', '-o', $snap) : ();
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $from, '--name', "fork-$from-$$", '-p', "127.0.0.1:$port:8000", @at, $python, "$dir/app/app.py");
		wait_http($g, "http://127.0.0.1:$port/", 60); # the first one makes the image
		my $seen = (my @w = workers_of($port));
		is($seen, 3, "$from: three workers answer") or diag slurp($g->{err});
		if ($when eq 'running') {
			my ($st, undef, $err) = run_out({}, $COWBELL, 'snapshot', 'create', "fork-$from-$$", '-o', $snap);
			is($st, 0, "$from: it is taken while it runs") or diag $err;
		}
		my $last = ask($port)->{n} // 0;
		is(scalar(workers_of($port)), 3, "$from: the original goes on");
		stop_guest($g);
		ok(-s $snap, "$from: there is a snapshot, $when") or next;
		for my $to (@monitors) {
			my @rand;
			for my $clone (1, 2) {
				my $r = start_guest({}, $COWBELL, 'run', '--monitor', $to, '--cpus', $clone, '--snapshot', $snap, '-p', "127.0.0.1:$port:8000");
				my ($code, $body) = wait_http($r, "http://127.0.0.1:$port/", 60);
				is($code, 200, "$from to $to, $when: clone $clone, of as many CPUs, answers") or diag slurp($r->{err});
				my $j = eval { decode_json($body) } // {};
				cmp_ok($j->{n}, '>=', $when eq 'listen' ? 1 : $last, "$from to $to, $when: what they count together goes on");
				my @now = workers_of($port);
				is(scalar(@now), 3, "$from to $to, $when: so do all workers");
				is("@{[map { $_->{pid} } @now]}", "@{[map { $_->{pid} } @w]}", "$from to $to, $when: they are the same ones") if $when eq 'running';
				is($now[0]{generation}, 2, "$from to $to, $when: its generation");
				push @rand, map { $_->{rand} } @now;
				ask($port, '/die');
				my @new; # the master takes its time
				for (1 .. 100) { @new = workers_of($port); last if @new == 3; sleep 0.2 }
				is(scalar(@new), 3, "$from to $to, $when: one that dies is replaced");
				is(stop_guest($r), 0, "$from to $to, $when: it ends by its signal") or diag slurp($r->{err});
			}
			my %one = map { $_ => 1 } @rand;
			is(scalar(keys %one), 6, "$from to $to, $when: random numbers of workers and clones differ");
		}
	}
}

# Clones of a running one, then moves of it between the monitors under load.
sub cow { return run_out({timeout => 60, dir => "$dir/app"}, $COWBELL, @_) }
my @to = @monitors > 1 ? (@monitors[1, 0], @monitors[1, 0]) : (@monitors[0, 0]);
my $port = free_port();
my ($st, $out, $err) = cow('run', '-d', '--monitor', $monitors[0], '--name', 'mv', '-p', "127.0.0.1:$port:8000", $python, "$dir/app/app.py");
is($st, 0, 'one runs in the background') or diag $err;
wait_http(undef, "http://127.0.0.1:$port/", 60);
my @before = workers_of($port);
my $p = free_port(3);
($st, $out, $err) = cow('clone', 'mv', '-n', '3', '--name', 'copy', '-p', "127.0.0.1:$p:8000", '--json');
is($st, 0, 'three clones of a running one') or diag $err;
my %rand;
for my $i (1 .. 3) {
	my @w = workers_of($p + $i - 1);
	is(scalar(@w), 3, "clone $i: its workers answer");
	$rand{$_->{rand}}++ for @w;
	cow('stop', "copy-$i");
}
is(scalar(keys %rand), 9, 'their random numbers differ');

open(my $load, '|-', "exec python3 '$dir/clients.py' $port > '$dir/load.out'") or die;
for (1 .. 100) { last if -s "$dir/load.out"; sleep 0.05 }
for my $to (@to) {
	sleep 0.4;
	($st, $out, $err) = cow('move', 'mv', '--monitor', $to);
	is($st, 0, "moved to $to under load") or diag "$out$err";
}
sleep 0.4;
close $load;
my $j = eval { decode_json((split /\n/, slurp("$dir/load.out"))[-1]) } // {};
is_deeply($j->{errors}, [], 'not one request failed');
ok(($j->{n} // 0) > 20 && $j->{n} == $j->{unique} && $j->{pids} == 3, 'each was answered once, by the three workers') or diag explain $j;
is("@{[map { $_->{pid} } workers_of($port)]}", "@{[map { $_->{pid} } @before]}", 'they are the same ones');
cow('stop', 'mv');
done_testing;
