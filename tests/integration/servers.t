#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# redis-server, nginx, memcached, the sqlite3 shell and busybox applets as
# instances, talked to by their own clients, under every monitor.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep);

my $tmp = scratch();
$ENV{PATH} .= ':/usr/sbin:/sbin';

sub wait_port {
	my ($port) = @_;
	for (1 .. 200) {
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 1);
		return 1 if $s;
		sleep 0.05;
	}
	return 0;
}

sub redis {
	my ($m) = @_;
	my $port = free_port();
	my $g = start_guest({dir => $tmp}, $COWBELL, 'run', '--monitor', $m, '-p', "127.0.0.1:$port:6379", '--', 'redis-server',
		'--save', '', '--appendonly', 'no', '--protected-mode', 'no', '--bind', '0.0.0.0');
	my $up = wait_port($port);
	my $c = "redis-cli -p $port";
	is(`$c set k value 2>&1`, "OK\n", "$m redis: SET");
	is(`$c get k 2>&1`, "value\n", "$m redis: GET");
	spew("$tmp/big", 'x' x 300000);
	system("$c -x set big <$tmp/big >/dev/null");
	is(`$c get big`, slurp("$tmp/big") . "\n", "$m redis: a 300 kB value comes back");
	my ($st, $out) = run_out({timeout => 60}, 'redis-benchmark', '-p', $port, '-q', '-n', '10000', '-c', '50', '-t', 'get,set,lpush,lrange_100');
	is($st, 0, "$m redis: redis-benchmark with 50 clients ends well") or diag $out;
	($st, $out) = run_out({timeout => 60}, 'redis-benchmark', '-p', $port, '-q', '-n', '50000', '-c', '50', '-P', '16', '-t', 'get,set');
	is($st, 0, "$m redis: redis-benchmark -P 16 ends well") or diag $out;
	is(stop_guest($g), 0, "$m redis: ends with its own status on SIGTERM") or diag substr(slurp($g->{err}), -2000), substr(slurp($g->{out}), -500);
}

sub nginx {
	my ($m) = @_;
	my $port = free_port();
	my $d = scratch();
	mkdir "$d/www";
	spew("$d/www/index.html", 'n' x 612);
	spew("$d/www/big.bin", join('', map { chr($_ % 251) } 0 .. 999_999));
	spew("$d/nginx.conf", <<"CONF");
daemon off; master_process off; error_log stderr; pid /tmp/nginx.pid;
events { worker_connections 512; }
http { access_log off; root $d/www; sendfile on; keepalive_requests 100000;
  client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
  server { listen 8080; } }
CONF
	my $g = start_guest({dir => $d}, $COWBELL, 'run', '--monitor', $m, '-p', "127.0.0.1:$port:8080", '--', 'nginx', '-c', "$d/nginx.conf");
	my ($code, $body) = wait_http($g, "http://127.0.0.1:$port/index.html", 20);
	is("$code " . length($body), '200 612', "$m nginx: a static page") or diag substr(slurp($g->{err}), -2000);
	($code, $body) = http("http://127.0.0.1:$port/big.bin");
	ok($code eq '200' && $body eq slurp("$d/www/big.bin"), "$m nginx: a megabyte by sendfile");
	($code) = http("http://127.0.0.1:$port/none");
	is($code, 404, "$m nginx: 404");
	SKIP: {
		skip('wrk is not installed', 1) unless have('wrk');
		my ($st, $out) = run_out({timeout => 60}, 'wrk', '-t1', '-c32', '-d2', "http://127.0.0.1:$port/index.html");
		ok($out =~ /requests in/ && $out !~ /Socket errors|Non-2xx/, "$m nginx: wrk with 32 connections, no error") or diag $out;
	}
	is(stop_guest($g), 0, "$m nginx: ends on SIGTERM");
}

sub memcached {
	my ($m) = @_;
	my $port = free_port();
	my $g = start_guest({dir => $tmp}, $COWBELL, 'run', '--monitor', $m, '-p', "127.0.0.1:$port:11211", '--', 'memcached', '-u', 'root', '-l', '0.0.0.0', '-m', '32');
	wait_port($port);
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5);
	my @got;
	if ($s) {
		$s->autoflush(1);
		print $s "set a 0 0 5\r\nhello\r\nget a\r\nincr n 1\r\nquit\r\n";
		local $SIG{ALRM} = sub { close $s };
		alarm 10;
		@got = map { s/\r\n//r } <$s>;
		alarm 0;
	}
	is(join('|', @got), 'STORED|VALUE a 0 5|hello|END|NOT_FOUND', "$m memcached: set, get, incr") or diag substr(slurp($g->{err}), -2000);
	isnt(stop_guest($g), 'stuck', "$m memcached: ends on SIGTERM");
}

sub sqlite_shell {
	my ($m) = @_;
	my $v = scratch();
	for my $round (1, 2) {
		my ($st, $out, $err) = run_out({dir => $tmp, in => "create table if not exists t(a);insert into t values(42);select count(*),sum(a) from t;\n.quit\n"},
			$COWBELL, 'run', '--monitor', $m, '-v', "$v:/data", '--', 'sqlite3', '/data/x.db');
		is("$st $out", "0 $round|" . 42 * $round . "\n", "$m sqlite3 shell: run $round sees what is on the volume") or diag $err;
	}
	is(`sqlite3 $v/x.db 'pragma integrity_check'`, "ok\n", "$m sqlite3 shell: the file is sound on the host");
}

sub busybox {
	my ($m) = @_;
	my $bb = '/usr/bin/busybox';
	$bb = '/bin/busybox' unless -x $bb;
	spew("$tmp/in.txt", join('', map { "$_ line\n" } 1 .. 500));
	my @cases = (
		[['echo', 'a', 'b']], [['cat', 'in.txt']], [['wc', 'in.txt']], [['sort', '-rn', 'in.txt']], [['head', '-n', '3', 'in.txt']],
		[['tail', '-n', '3', 'in.txt']], [['grep', '-c', '1', 'in.txt']], [['sed', 's/line/row/', 'in.txt']], [['awk', '{s+=$1} END{print s}', 'in.txt']],
		[['md5sum', 'in.txt']], [['sha256sum', 'in.txt']], [['cut', '-d', ' ', '-f', '1', 'in.txt']], [['tr', 'a-z', 'A-Z'], "hello\n"], [['uniq', 'in.txt']],
		[['seq', '1', '7']], [['expr', '6', '*', '7']], [['basename', '/a/b/c']], [['dirname', '/a/b/c']], [['printf', '%05d\n', '42']], [['env', '-i', 'A=b', '/bin/true']],
		[['true']], [['false']], [['test', '-f', 'in.txt']], [['test', '-d', 'in.txt']], [['ls', '/etc/passwd']], [['stat', '-c', '%s %F', 'in.txt']], [['od', '-c', 'in.txt']],
		[['hexdump', '-C', 'in.txt']], [['gzip', '-c', '-n', 'in.txt']], [['base64', 'in.txt']], [['dd', 'if=in.txt', 'bs=10', 'count=3']], [['cmp', 'in.txt', 'in.txt']],
		[['factor', '1234567']], [['sleep', '0.05']], [['find', '.', '-name', 'in.txt']], [['tac', 'in.txt']], [['nl', 'in.txt']], [['cksum', 'in.txt']], [['fold', '-w', '5', 'in.txt']],
		[['sh', '-c', 'x=3; while [ $x -gt 0 ]; do echo $x; x=$((x-1)); done; cd /tmp; pwd; exit 5']],
	);
	for my $c (@cases) {
		my ($args, $in) = @$c;
		my @want = run_out({dir => $tmp, in => $in}, $bb, @$args);
		my @got = run_out({dir => $tmp, in => $in}, $COWBELL, 'run', '--monitor', $m, '--', $bb, @$args);
		$_->[2] =~ s/[\d.]+ seconds.*//, $_->[2] =~ s/cowbell.*// for \@want, \@got;
		is_deeply([@got[0, 1]], [@want[0, 1]], "$m busybox $args->[0]") or diag $got[2];
	}
}

my %needs = (redis => 'redis-server', nginx => 'nginx', memcached => 'memcached', sqlite_shell => 'sqlite3', busybox => 'busybox');
my %run = (redis => \&redis, nginx => \&nginx, memcached => \&memcached, sqlite_shell => \&sqlite_shell, busybox => \&busybox);
for my $m (monitors()) {
	for my $s (sort keys %run) {
		next if $ENV{COWBELL_SERVER} && $ENV{COWBELL_SERVER} ne $s;
		SKIP: {
			skip("$m $s: $needs{$s} is not installed", 1) unless have($needs{$s});
			$run{$s}->($m);
		}
	}
}
done_testing();
