#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# What is in a restored instance: a program with threads, timers, open files, a pipe and connections goes on where it was,
# under either monitor, whichever took the snapshot. Clocks, randomness, WIPEONFORK, what is dead and what lives on.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $address = own_network();
plan skip_all => 'needs a C compiler and python3' unless have('cc', 'python3');
my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
$ENV{XDG_STATE_HOME} = "$dir/state";
mkdir "$dir/$_" for qw(bin snap vol app);

spew("$dir/state.c", <<'C');
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
static int pipes[2];
static volatile int stop;
static double start;
static double now(clockid_t id) { struct timespec t; clock_gettime(id, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static void *sleeper(void *a) { struct timespec t = {1, 500000000}; (void)a;
	int r = clock_nanosleep(CLOCK_MONOTONIC, 0, &t, 0);
	printf("nanosleep %d %d\n", r, now(CLOCK_MONOTONIC) - start >= 1.5); fflush(stdout); return 0; }
static void *reader(void *a) { char b[64]; ssize_t n = read(pipes[0], b, sizeof b); (void)a;
	printf("pipe %.*s\n", (int)n, b); fflush(stdout); return 0; }
static void *spinner(void *a) { volatile double x = 1.5; long turns = 0; (void)a;
	while (!stop) { for (int i = 0; i < 1000; i++) x = x * 1.0000001 / 1.0000001; turns++; }
	printf("spin %d\n", turns > 10 && x > 1.4 && x < 1.6); fflush(stdout); return 0; }
static void *waiter(void *a) { struct epoll_event e; (void)a;
	printf("epoll %d\n", epoll_wait(epoll_create1(0), &e, 1, 1600)); fflush(stdout); return 0; }
int main(void)
{
	pthread_t t[4];
	void *(*fn[])(void *) = {sleeper, reader, spinner, waiter};
	struct itimerspec its = {.it_value = {1, 0}};
	int fd = open("/tmp/file", O_RDWR | O_CREAT, 0600), tf = timerfd_create(CLOCK_MONOTONIC, 0), good = 1;
	char *w = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), b[32] = "", *big = malloc(8 << 20);
	double last = now(CLOCK_MONOTONIC), real, back = 0;
	unsigned long n;
	unsigned char r[16];
	start = last;
	if (pipe(pipes) || write(fd, "before", 6) != 6 || madvise(w, 4096, MADV_WIPEONFORK)) return 1;
	strcpy(w, "secret");
	timerfd_settime(tf, 0, &its, 0);
	for (int i = 0; i < 8 << 20; i += 4096) big[i] = i >> 12;
	for (int i = 0; i < 4; i++) pthread_create(&t[i], 0, fn[i], 0);
	if (read(tf, &n, 8) != 8) return 1;
	printf("timerfd %lu\n", n); fflush(stdout);
	for (int i = 0; i < 1000; i++) { double m = now(CLOCK_MONOTONIC); if (m < last) back++; last = m; }
	pthread_join(t[0], 0), pthread_join(t[3], 0);
	if (write(pipes[1], "hello", 5) != 5) return 1;
	pthread_join(t[1], 0), stop = 1, pthread_join(t[2], 0);
	if (write(fd, "after", 5) != 5 || pread(fd, b, 31, 0) < 0) return 1;
	for (int i = 0; i < 8 << 20; i += 4096) good &= big[i] == (char)(i >> 12);
	real = now(CLOCK_REALTIME);
	if (getrandom(r, 16, 0) != 16) return 1;
	printf("file %s\nbig %d\nwipe [%s]\nback %.0f\nreal %.2f\nmono %.2f\nrandom ", b, good, w, back, real, now(CLOCK_MONOTONIC));
	for (int i = 0; i < 16; i++) printf("%02x", r[i]);
	printf("\n");
	return 3;
}
C
system('cc', '-O1', '-pthread', '-o', "$dir/bin/state", "$dir/state.c") == 0 or die;

spew("$dir/app/app.py", <<'PY');
import http.server, json, os, signal, socket, ssl, sys, threading
ssl.RAND_bytes(16)
log = []
signal.signal(signal.SIGCONT, lambda *a: log.append("SIGCONT"))
volume = open(sys.argv[1], "r+") if len(sys.argv) > 1 and sys.argv[1] else None
result = []
def client(host, port):
    s = socket.create_connection((host, port))
    s.sendall(b"x")
    s.recv(100)
    try:
        result.append(repr(s.recv(100)))
    except OSError as e:
        result.append(type(e).__name__)
if len(sys.argv) > 2:
    threading.Thread(target=client, args=(sys.argv[2], int(sys.argv[3])), daemon=True).start()
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = {"rand": ssl.RAND_bytes(16).hex(), "urandom": os.urandom(16).hex(), "log": log, "result": result,
                "uuid": open("/dev/urandom", "rb").read(8).hex(), "generation": int(open("/proc/cowbell/generation").read())}
        if volume:
            volume.seek(0)
            body["volume"] = volume.read()
        body = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a):
        pass
http.server.ThreadingHTTPServer(("", 8080), H).serve_forever()
PY
my $python = `python3 -c 'import sys; print(sys.executable)'`;
chomp $python;
my @monitors = monitors();
my %random;

for my $from (@monitors) {
	my $snap = "$dir/snap/state.$from";
	my ($st, undef, $err) = run_out({timeout => 30}, $COWBELL, 'run', '--monitor', $from, '--snapshot-at', '500ms', '--snapshot-stop',
		'-o', $snap, "$dir/bin/state");
	ok(-s $snap, "$from: a computing program with threads is taken") or diag $err;
	for my $to (@monitors) {
		my $before = time;
		my ($status, $out, $why) = run_out({timeout => 30}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap);
		is($status, 3, "$from to $to: it goes on to its end") or diag $why;
		like($out, qr/^$_$/m, "$from to $to: $_") for 'nanosleep 0 1', 'pipe hello', 'spin 1', 'epoll 0', 'timerfd 1', 'file beforeafter',
			'big 1', 'wipe \[\]', 'back 0';
		my ($real) = $out =~ /^real (\S+)$/m;
		ok($real && $real > $before - 0.1 && $real < time + 0.1, "$from to $to: the wall clock is right");
		my ($random) = $out =~ /^random (\S+)$/m;
		ok($random && !$random{$random}++, "$from to $to: its random numbers are its own");
	}
}

# A server: its listener, its volume, a connection that cannot live on.
spew("$dir/vol/file", 'first');
my $peer = $address && IO::Socket::INET->new(Listen => 5, LocalAddr => $address, ReuseAddr => 1);
my @peer = $peer ? ($address, $peer->sockport) : ();
my @egress = $peer ? ('--egress', "$address:" . $peer->sockport) : ();
for my $from (@monitors) {
	my $snap = "$dir/snap/server.$from";
	my $port = free_port();
	my @run = ('-p', "127.0.0.1:$port:8080", '-v', "$dir/vol:/vol", @egress);
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $from, '--name', "snap-$from-$$", @run, $python, "$dir/app/app.py", '/vol/file', @peer);
	my $conn = $peer && $peer->accept;
	if ($conn) {
		$conn->autoflush(1);
		print $conn "welcome";
	}
	my ($code, $body) = wait_http($g, "http://127.0.0.1:$port/");
	is($code, 200, "$from: a server answers") or diag slurp($g->{err});
	my ($st, undef, $err) = run_out({}, $COWBELL, 'snapshot', 'create', "snap-$from-$$", '-o', $snap);
	is($st, 0, "$from: it is taken while it runs") or diag $err;
	($code) = http("http://127.0.0.1:$port/");
	is($code, 200, "$from: the original goes on");
	stop_guest($g);
	close $conn if $conn;
	spew("$dir/vol/file", 'later');
	for my $to (@monitors) {
		my @rand;
		for my $clone (1, 2) {
			my $r = start_guest({}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap, @run);
			($code, $body) = wait_http($r, "http://127.0.0.1:$port/");
			is($code, 200, "$from to $to: clone $clone answers") or diag slurp($r->{err});
			my $j = eval { decode_json($body) } // {};
			push @rand, $j;
			is($j->{generation}, 2, "$from to $to: its generation");
			is_deeply($j->{log}, ['SIGCONT'], "$from to $to: it was told");
			is($j->{volume}, 'later', "$from to $to: its file of a volume is the volume's");
			is_deeply($j->{result}, ['ConnectionResetError'], "$from to $to: what cannot live on is reset") if $peer;
			is(stop_guest($r), 143, "$from to $to: it ends by its signal");
		}
		isnt($rand[0]{$_}, $rand[1]{$_}, "$from to $to: $_ of two clones") for qw(rand urandom uuid);
	}
	my ($refused, undef, $why) = run_out({}, $COWBELL, 'run', '--timeout', '1', '--snapshot', $snap, '-v', "$dir/vol:/vol", @egress);
	like($why, qr/port \d+ of the host is port 8080/, "$from: without -p its port is a free one");
	unlink "$dir/vol/file";
	($refused, undef, $why) = run_out({}, $COWBELL, 'run', '--snapshot', $snap, @run);
	is($refused, 125, "$from: not without its file of a volume");
	like($why, qr/file.*cannot be opened again/, "$from: which it names");
	spew("$dir/vol/file", 'first');
}

# Files that are not what was written.
my $whole = slurp("$dir/snap/state.$monitors[0]");
for my $case (['cut', substr($whole, 0, 60000)], ['longer', $whole . "\0" x 4096], ['empty', '']) {
	spew("$dir/snap/bad", $case->[1]);
	my ($st, undef, $err) = run_out({}, $COWBELL, 'run', '--snapshot', "$dir/snap/bad");
	is($st, 125, "$case->[0]: refused");
	like($err, qr/cowbell: .*snap/, "$case->[0]: with a reason");
}
for my $at (8, 100, 300, 4100, 4200) {
	my $bad = $whole;
	substr($bad, $at, 1) ^= "\x10";
	spew("$dir/snap/bad", $bad);
	my ($st) = run_out({}, $COWBELL, 'run', '--snapshot', "$dir/snap/bad");
	is($st, 125, "a bit flipped at $at: refused");
}
done_testing;
