#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# `cowbell run`: exit status, signals, statistics, and each option with what it promises, on both monitors.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin";
use Cowbell;
use Errno qw(EINTR);
use IO::Select;
use IO::Socket::INET;
use IO::Socket::IP;
use JSON::PP;
use POSIX qw(:sys_wait_h);
use Test::More;
use Time::HiRes qw(sleep time);

my $network = own_network(); # first: it starts the test again
my $dir = scratch();
my $vol = scratch();
$ENV{XDG_CACHE_HOME} = scratch();
spew("$dir/t.c", do { local $/; <DATA> });
system('gcc', '-O1', "$dir/t.c", '-o', "$dir/t") == 0 or BAIL_OUT('gcc');
system('gcc', '-O1', '-static', "$dir/t.c", '-o', "$dir/ts") == 0 or BAIL_OUT('gcc -static');

my $m;
sub cowbell { my $o = ref $_[0] ? shift : {}; return run_out({dir => $dir, timeout => 30, %$o}, $COWBELL, 'run', '--monitor', $m, @_) }
sub start { return start_guest({dir => $dir}, $COWBELL, 'run', '--monitor', $m, @_) }

sub wait_text {
	my ($file, $re, $seconds) = @_;
	my $end = time + ($seconds // 10);
	while (time < $end) {
		return 1 if slurp($file) =~ $re;
		sleep 0.02;
	}
	return 0;
}

sub descendants {
	my @all = @_;
	for (my $i = 0; $i < @all; $i++) {
		push @all, split ' ', slurp("/proc/$all[$i]/task/$all[$i]/children");
	}
	return @all;
}

sub gone {
	my $end = time + 5;
	while (time < $end) {
		return 1 unless grep { slurp("/proc/$_/stat") =~ /\) [^ZX]/ } @_;
		sleep 0.02;
	}
	return 0;
}

sub connect_text {
	my ($host, $port) = @_;
	my $s = IO::Socket::IP->new(PeerHost => $host, PeerPort => $port, Timeout => 5) or return "no: $@";
	return IO::Select->new($s)->can_read(5) ? readline($s) // '' : 'nothing';
}

sub status_and_signals {
	my ($st, $out, $err);
	for my $n (0, 1, 42, 255) {
		($st) = cowbell('./t', 'exit', $n);
		is($st, $n, "$m: exit status $n");
	}
	for my $s ([TERM => 15], [KILL => 9], [SEGV => 11], [ABRT => 6], [FPE => 8], [USR1 => 10], [PIPE => 13]) {
		($st) = cowbell('./t', 'raise', $s->[1]);
		is($st, 128 + $s->[1], "$m: ended by SIG$s->[0]");
	}
	($st, $out, $err) = cowbell('--timeout', '300ms', './t', 'sleep');
	ok($st == 124 && $err =~ /^cowbell: t: timed out\n\z/, "$m: --timeout of one that sleeps") or diag "$st $err";
	my $from = time;
	($st) = cowbell('--timeout', '300ms', './t', 'spin');
	ok($st == 124 && time - $from < 5, "$m: --timeout of one that spins");
	($st) = cowbell('--timeout', '20s', './t', 'exit', 3);
	is($st, 3, "$m: --timeout that is not reached");

	for my $how ('sleep', 'spin') {
		for my $s ([TERM => 15], [INT => 2], [HUP => 1], [USR1 => 10], [QUIT => 3]) {
			my $g = start('./t', $how);
			wait_text($g->{out}, qr/ready/);
			is(stop_guest($g, $s->[0]), 128 + $s->[1], "$m: SIG$s->[0] to cowbell ends a program that ${how}s");
		}
	}
	my $g = start('./t', 'catch');
	wait_text($g->{out}, qr/ready/);
	my $good = 1;
	for my $s ([TERM => 15], [TERM => 15], [INT => 2], [HUP => 1], [USR1 => 10], [USR2 => 12]) {
		my $n = () = slurp($g->{out}) =~ /got $s->[1]\n/g;
		kill $s->[0], $g->{pid};
		$good &&= wait_text($g->{out}, qr/(?:got $s->[1]\n(?:.*\n)*){@{[$n + 1]}}/);
	}
	ok($good, "$m: a program catches TERM twice, INT, HUP, USR1, USR2") or diag slurp($g->{out});
	my @all = descendants($g->{pid});
	is(stop_guest($g, 'KILL'), 137, "$m: kill -9");
	ok(gone(@all), "$m: leaves no process");
	$g = start('./t', 'spin');
	wait_text($g->{out}, qr/ready/);
	@all = descendants($g->{pid});
	stop_guest($g, 'KILL');
	ok(gone(@all), "$m: neither does one that spins");
	($st, $out) = cowbell({in => "some text\n"}, '-i', './t', 'cat');
	is($out, "some text\n", "$m: standard input");
	($st, $out, $err) = cowbell('./t', 'err');
	ok($out eq "out\n" && $err eq "err\n", "$m: standard output and standard error");
	($st) = run_out({dir => $dir}, 'sh', '-c', "$COWBELL run --monitor $m ./t out | head -c 10 >/dev/null; exec $COWBELL run --monitor $m ./t exit 6");
	is($st, 6, "$m: a reader that goes away");
}

sub statistics {
	my ($st, $out, $err) = cowbell('--stats=json', './t', 'exit', 0);
	my $j = eval { decode_json($err) } // {};
	ok(1 == split(/\n/, $err) && $j->{monitor} eq $m, "$m: --stats=json is one line of JSON") or diag $err;
	ok(0 < $j->{first_insn_us} && $j->{first_insn_us} < $j->{first_user_us} && $j->{first_user_us} < $j->{main_us}
		&& $j->{main_us} < $j->{total_us} && $j->{total_us} < 20e6, "$m: phases in order, main after the dynamic linker") or diag $err;
	ok($j->{exits} >= 1 && $j->{syscalls} > 10 && $j->{pages_peak} >= $j->{pages_used} && $j->{pages_used} > 0, "$m: counters") or diag $err;
	is(join(' ', @$j{qw(processes processes_peak processes_made)}), '1 1 0', "$m: a single process");
	my ($mon, $guest) = @$j{qw(monitor_host_calls guest_host_calls)};
	ok($m eq 'kvm' ? $mon <= 25 && $guest == 0 : $guest > 0 && $guest <= 12, "$m: host calls allowed: $mon monitor, $guest guest process");
	is($j->{first_listen_us} + 0, 0, "$m: no listen, no time of it");
	($st, $out, $err) = cowbell('--stats=json', './ts', 'exit', 0);
	$j = eval { decode_json($err) } // {};
	ok($j->{main_us} && $j->{main_us} == $j->{first_user_us}, "$m: a static program begins with its own entry") or diag $err;
	($st, $out, $err) = cowbell('--stats=json', './t', 'listen');
	$j = eval { decode_json($err) } // {};
	ok(($j->{first_listen_us} // 0) > $j->{main_us}, "$m: first listen") or diag $err;
	($st, $out, $err) = cowbell('--stats=json', './t', 'touch', 64);
	$j = eval { decode_json($err) } // {};
	ok($j->{pages_peak} * 4096 > 64 << 20, "$m: peak memory") or diag $err;
	($st, $out, $err) = cowbell('--stats', './t', 'exit', 0);
	my @lines = qw(monitor first.instruction first.of.the.program main end exits system.calls page.faults memory processes host.calls.allowed);
	ok(!grep({ $err !~ /^$_ .*\d|^monitor +$m$/m } @lines), "$m: --stats as text") or diag $err;
}

sub options {
	my ($st, $out, $err) = cowbell('-e', 'A=1', '-e', 'B=x y', '-e', 'A=2', '-e', 'COWBELL_T_HERE', '-e', 'COWBELL_T_NOT', './t', 'env');
	like($out, qr/^A=2\nB=x y\nCOWBELL_T_HERE=here\n\z|^A=2\n(?=.*^B=x y$)(?=.*^COWBELL_T_HERE=here$)/ms, "$m: -e");
	unlike($out, qr/^COWBELL_T_NOT|^XDG|^A=1/m, "$m: nothing else of the environment");
	($st, $out) = cowbell('./t', 'pwd');
	is($out, "$dir\n", "$m: the current directory");
	($st, $out) = cowbell('-w', '/etc', "$dir/t", 'pwd');
	is($out, "/etc\n", "$m: -w");
	($st, $out, $err) = cowbell('-w', '/no/where', './t', 'pwd');
	ok($st == 125 && $out eq '' && $err =~ /^cowbell: .*no such directory.*\n\z/, "$m: -w that is not there");
	($st, $out) = cowbell('--name', 'a-name', './t', 'uname');
	is($out, "a-name\n", "$m: --name");
	($st, $out, $err) = cowbell('--strace', './t', 'err');
	like($err, qr/^openat\(AT_FDCWD, ".*", O_RDONLY\|O_CLOEXEC\) = 3$/m, "$m: --strace");
	like($err, qr/^write\(1, "out\\n", 4\) += 4\n(?:.*\n)*write\(2, "err\\n", 4\) += 4\n(?:.*\n)*exit_group\(0\)/m, "$m: --strace to the end");
	unlike($err, qr/^cowbell: /m, "$m: --strace has no prefix");
	is($out, "out\n", "$m: --strace leaves the output alone");

	($st, $out, $err) = cowbell('-m', '64M', './t', 'malloc', 256);
	ok($st == 3 && $out =~ /^ENOMEM after (\d+)/ && $1 <= 256, "$m: -m: one block too large is ENOMEM") or diag "$st $out$err";
	($st, $out, $err) = cowbell('-m', '64M', './t', 'touch', 256);
	ok(($st == 137 && $err =~ /^cowbell: .*memory.*64 MiB.*\n\z/), "$m: -m: 137 and one line") or diag "$st $out$err";
	($st, $out, $err) = cowbell('-m', '400M', './t', 'touch', 256);
	is($st, 0, "$m: -m: enough") or diag $err;
}

sub volumes {
	spew("$vol/file", "old\n");
	my ($st, $out) = cowbell('-v', "$vol:/data", './t', 'volume');
	ok($out eq "read 0\nwrite 0\nmkdir 0\nrename 0\n" && slurp("$vol/new") eq "new\n" && -d "$vol/dir", "$m: -v") or diag $out;
	unlink "$vol/new";
	rmdir "$vol/dir";
	($st, $out) = cowbell('-v', "$vol:/data:ro", './t', 'volume');
	is($out, "read 0\nwrite 30\nmkdir 30\nrename 30\n", "$m: -v :ro is EROFS for whoever writes");
	is_deeply([sort map { s{.*/}{}r } glob("$vol/*")], ['file'], "$m: -v :ro leaves the directory as it was");
	symlink '/', "$vol/root";
	($st, $out) = cowbell('-v', "$vol:/data:ro", './t', 'stat', '/data/root/' . substr($vol, 1) . '/file', '/data/../../../..' . $vol . '/file');
	is($out, "2\n2\n", "$m: -v: no way out of it");
	unlink "$vol/root";
	($st, $out) = cowbell('-v', "$vol:/data", '-w', '/data', "$dir/t", 'pwd');
	is($out, "/data\n", "$m: -w on a volume");
}

sub ports {
	my $p = free_port();
	for my $c (["$p:80", '127.0.0.1'], ["127.0.0.1:$p:80", '127.0.0.1'], ["[::1]:$p:80", '::1']) {
		my $g = start('-p', $c->[0], './t', 'serve', $c->[1] eq '::1' ? 6 : 4);
		wait_text($g->{out}, qr/ready/);
		is(connect_text($c->[1], $p), "hello\n", "$m: -p $c->[0]") or diag slurp($g->{err});
		stop_guest($g);
	}
	my $g = start('-p', '127.0.0.1:0:80', './t', 'serve', 4);
	wait_text($g->{out}, qr/ready/);
	my ($got) = slurp($g->{err}) =~ /port (\d+) of the host/;
	$got //= slurp($g->{err}) =~ /(\d+)/ ? $1 : 1;
	is(connect_text('127.0.0.1', $got), "hello\n", "$m: -p 0 takes a port and prints it") or diag slurp($g->{err});
	stop_guest($g);
	$g = start('-p', "127.0.0.1:$p:80", './t', 'sleep');
	wait_text($g->{out}, qr/ready/);
	my ($st, $out, $err) = cowbell('-p', "127.0.0.1:$p:80", './t', 'exit', 0);
	ok($st == 125 && $err =~ /^cowbell: .*\b$p\b.*\n\z/, "$m: -p: a port that another instance has") or diag "$st $err";
	stop_guest($g);
}

# Address of this host that is not its loopback, if there is one.
sub egress {
	my $own = $network;
	SKIP: {
		skip('a network namespace of its own needs root and iproute2', 7) unless $own;
		my $ls = IO::Socket::INET->new(Listen => 20, LocalAddr => $own) or skip("listen: $!", 7);
		my $p = $ls->sockport;
		my $pid = fork // die;
		if (!$pid) {
			while (my $c = $ls->accept) { print $c "hello\n"; close $c }
			POSIX::_exit(0);
		}
		close $ls;
		my $other = $p == 65535 ? 1 : $p + 1;
		for my $c (['all', 'hello'], ['none', 'errno 101'], ["$own:$p", 'hello'], ["$own/32", 'hello'], ["$own:$other", 'errno 13'],
			["198.51.100.0/24,$own:$p", 'hello']) {
			my ($st, $out, $err) = cowbell('--egress', $c->[0], './t', 'connect', $own, $p);
			is($out, "$c->[1]\n", "$m: --egress $c->[0]: $c->[1]") or diag $err;
		}
		my ($st, $out) = cowbell('--egress', 'all', './t', 'connect', '127.0.0.1', $p);
		is($out, "errno 111\n", "$m: 127.0.0.1 inside is the program itself");
		kill 'KILL', $pid;
		waitpid $pid, 0;
	}
	my ($st, $out) = cowbell('./t', 'connect', '169.254.169.254', 80);
	is($out, "errno 13\n", "$m: link-local addresses are excluded");
}

sub roots {
	my $root = scratch();
	mkdir "$root/$_" for qw(bin tmp etc);
	system('cp', "$dir/ts", "$root/bin/prog");
	my ($st, $out, $err) = cowbell('--root', $root, '/bin/prog', 'pwd');
	ok($st == 0 && $out eq "/\n", "$m: --root DIR") or diag "$st $err";
	($st, $out, $err) = cowbell('--root', $root, 'prog', 'exit', 9);
	is($st, 9, "$m: --root DIR: looked up on PATH") or diag $err;
	($st) = cowbell('--root', $root, '/bin/none');
	is($st, 127, "$m: --root DIR: not there");
	SKIP: {
		skip('no mkfs.erofs', 1) unless have('mkfs.erofs');
		skip('mkfs.erofs failed', 1) if system("mkfs.erofs '$vol/img.erofs' '$root' >/dev/null 2>&1");
		($st, $out, $err) = cowbell('--root', "$vol/img.erofs", '/bin/prog', 'exit', 8);
		is($st, 8, "$m: --root IMAGE") or diag $err;
		unlink "$vol/img.erofs";
	}
}

# As nobody: what needs no privilege works without.
sub unprivileged {
	SKIP: {
		skip('not root: all of this ran without privileges', 3) if $>;
		skip('no setpriv', 3) unless have('setpriv');
		my ($uid, $gid) = (getpwnam('nobody'))[2, 3];
		my $home = scratch();
		chmod 0755, $dir;
		chown $uid, $gid, $home;
		my @kvm = $m eq 'kvm' ? ('--groups', (stat '/dev/kvm')[5]) : ('--clear-groups');
		my @as = ('env', "HOME=$home", "XDG_CACHE_HOME=$home/c", 'setpriv', "--reuid=$uid", "--regid=$gid");
		skip("$COWBELL is not for everybody to execute", 3) if system(@as, '--clear-groups', 'test', '-x', $COWBELL);
		my ($st, $out, $err) = run_out({dir => $dir}, @as, @kvm, $COWBELL, 'run', '--monitor', $m, './t', 'id');
		ok($st == 0 && $out =~ /^uid \d+\n\z/, "$m: runs as nobody") or diag "$st $out$err";
		($st, $out, $err) = run_out({dir => $dir}, @as, '--clear-groups', $COWBELL, 'run', './t', 'exit', 5);
		is($st, 5, "auto runs as nobody") or diag $err;
		my $open = (stat '/dev/kvm')[2] & 6;
		skip('/dev/kvm is there for everybody', 1) if ($open // 6) == 6;
		($st, $out, $err) = run_out({dir => $dir}, @as, '--clear-groups', $COWBELL, 'run', '--monitor', 'kvm', './t', 'exit', 5);
		ok($st == 125 && $err =~ m{^cowbell: --monitor kvm: .*/dev/kvm.*--monitor process.*\n\z}, 'no access to /dev/kvm: one line') or diag "$st $err";
	}
}

$ENV{COWBELL_T_HERE} = 'here';
for (monitors()) {
	$m = $_;
	status_and_signals();
	statistics();
	options();
	volumes();
	ports();
	egress();
	roots();
	unprivileged();
}
is_deeply([glob("$ENV{XDG_CACHE_HOME}/cowbell/tmp.*")], [], 'nothing is left in the cache');
done_testing();
__DATA__
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>
extern char **environ;
static void on(int s)
{
	char b[16];
	if (write(1, b, snprintf(b, sizeof(b), "got %d\n", s)) < 0)
		_exit(1);
}
static int e(int r) { return r < 0 ? errno : 0; }
static int volume(void)
{
	int fd = open("/data/file", O_RDONLY);
	printf("read %d\n", e(fd));
	fd = open("/data/x", O_WRONLY | O_CREAT, 0644);
	printf("write %d\n", e(fd));
	if (fd >= 0 && write(fd, "new\n", 4) != 4)
		return 1;
	printf("mkdir %d\n", e(mkdir("/data/dir", 0755)));
	printf("rename %d\n", e(rename(fd >= 0 ? "/data/x" : "/data/file", "/data/new")));
	return 0;
}
static int serve(int family)
{
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons(80)};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(80)};
	int s = socket(family == 6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0), c;
	if (bind(s, family == 6 ? (void *)&a6 : (void *)&a, family == 6 ? sizeof(a6) : sizeof(a)) || listen(s, 5))
		return perror("listen"), 1;
	puts("ready");
	while ((c = accept(s, NULL, NULL)) >= 0) {
		if (write(c, "hello\n", 6) < 0)
			return 1;
		close(c);
	}
	return 1;
}
static int dial(const char *host, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	char b[64];
	ssize_t n;
	int s = socket(AF_INET, SOCK_STREAM, 0);
	inet_pton(AF_INET, host, &a.sin_addr);
	if (connect(s, (void *)&a, sizeof(a)))
		return printf("errno %d\n", errno), 0;
	n = read(s, b, sizeof(b));
	return n > 0 ? fwrite(b, 1, n, stdout), 0 : 1;
}
int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";
	struct utsname u;
	struct stat st;
	char b[4096];
	ssize_t n;
	setvbuf(stdout, NULL, _IONBF, 0);
	if (!strcmp(what, "exit"))
		return atoi(arg);
	if (!strcmp(what, "raise"))
		return raise(atoi(arg));
	if (!strcmp(what, "sleep"))
		for (puts("ready");;)
			pause();
	if (!strcmp(what, "spin")) {
		puts("ready");
		for (volatile unsigned long i = 0;; i++)
			;
	}
	if (!strcmp(what, "catch")) {
		int sigs[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
		for (int i = 0; i < 5; i++)
			signal(sigs[i], on);
		for (puts("ready");;)
			pause();
	}
	if (!strcmp(what, "cat"))
		while ((n = read(0, b, sizeof(b))) > 0)
			fwrite(b, 1, n, stdout);
	if (!strcmp(what, "err"))
		return write(1, "out\n", 4) != 4 || write(2, "err\n", 4) != 4;
	if (!strcmp(what, "out"))
		for (;;)
			puts("out");
	if (!strcmp(what, "env"))
		for (char **v = environ; *v; v++)
			puts(*v);
	if (!strcmp(what, "pwd"))
		puts(getcwd(b, sizeof(b)) ? b : "?");
	if (!strcmp(what, "uname"))
		puts(uname(&u) ? "?" : u.nodename);
	if (!strcmp(what, "id"))
		printf("uid %d\n", (int)getuid());
	if (!strcmp(what, "stat"))
		for (int i = 2; i < argc; i++)
			printf("%d\n", e(stat(argv[i], &st)));
	if (!strcmp(what, "malloc")) {
		char *p = malloc((size_t)atoi(arg) << 20);
		return p ? 0 : (printf("ENOMEM after %s\n", arg), 3);
	}
	if (!strcmp(what, "touch"))
		for (int i = 0; i < atoi(arg); i++)
			memset(malloc(1 << 20), 1, 1 << 20);
	if (!strcmp(what, "volume"))
		return volume();
	if (!strcmp(what, "listen"))
		return listen(socket(AF_INET, SOCK_STREAM, 0), 5);
	if (!strcmp(what, "serve"))
		return serve(atoi(arg));
	if (!strcmp(what, "connect"))
		return dial(arg, atoi(argv[3]));
	return 0;
}
