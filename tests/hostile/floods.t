#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Clients and apps that ask for more than they take: the memory of the platform stays small, and others are served meanwhile.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use IO::Socket::INET;
use Platform;
use Socket ();
use Test::More;
use Time::HiRes qw(sleep time);

my $p = Platform->start(args => ['--max-source', '1M', '--memory-budget', '256M']);
# Sanitizers keep what was freed for a while.
my $MORE = ($ENV{COWBELL_PLATFORM} // '') =~ /asan/ ? 300_000 : 30_000;
sub rss { my ($kb) = slurp('/proc/' . $p->pid . '/status') =~ /^VmRSS:\s+(\d+)/m; return $kb }
sub bounded {
	my ($before, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $more = rss() - $before;
	ok($more < $MORE, "$name: memory is bounded") or diag("$more kB more");
}
sub dial { return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of, Timeout => 5) // die "connect: $!" }

# Sends copies of the bytes for so many seconds, or as many of them; reads nothing.
sub pour {
	my ($s, $bytes, $seconds, $max) = @_;
	my ($sent, $at, $end) = (0, 0, time + $seconds);
	$s->blocking(0);
	while (time < $end && $sent < $max) {
		my $n = syswrite $s, $bytes, length($bytes) - $at, $at;
		if (!defined $n) {
			last unless $!{EAGAIN};
			sleep 0.01;
			next;
		}
		$at = ($at + $n) % length $bytes;
		$sent += $n;
	}
	$s->blocking(1);
	return $sent;
}

# --- requests sent ahead by a client that takes no answers; a megabyte of requests is some hundred of answers
{
	local $SIG{PIPE} = 'IGNORE';
	my $request = "GET /dashboard/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n";
	my $before = rss();
	my $s = dial();
	pour($s, $request x 500, 3, 20_000_000);
	bounded($before, 'answers that nobody takes');
	my $other = HTTP::Tiny->new(timeout => 5)->get($p->url . '/dashboard/style.css');
	is($other->{status}, 200, 'others are served');
	close $s;

	# one that takes them late gets each, in order
	$s = dial();
	my $n = 300;
	my $size = length $other->{content};
	my $sent = pour($s, $request x $n, 5, $n * length $request);
	is($sent, $n * length $request, "$n requests are sent ahead");
	my ($got, $answers) = ('', 0);
	my $end = time + 20;
	while ($answers < $n && time < $end) {
		sysread $s, $got, 65536, length $got or last;
		while ($got =~ /\AHTTP\/1\.1 200 OK\r\n.*?\r\n\r\n/s && length $got >= $+[0] + $size) {
			substr $got, 0, $+[0] + $size, '';
			$answers++;
		}
	}
	is($answers, $n, 'and all are answered when they are taken');
}

# --- many who each leave as much as they may: together they do not get more than there is
{
	my $request = "GET /dashboard/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n";
	my ($before, @open) = (rss());
	for (1 .. 400) {
		my $s = IO::Socket::INET->new(Proto => 'tcp') // die;
		setsockopt $s, Socket::SOL_SOCKET(), Socket::SO_RCVBUF(), 4096;
		connect $s, Socket::pack_sockaddr_in($p->port_of, Socket::INADDR_LOOPBACK()) or die "connect: $!";
		syswrite $s, $request x 400;
		push @open, $s;
	}
	sleep 1;
	my $more = rss() - $before;
	cmp_ok($more, '<', 100_000, 'memory is bounded for all together') unless $MORE > 100_000;
	like($p->log, qr/cut off, since \d+ bytes wait for it/, 'some were cut off');
	is(HTTP::Tiny->new(timeout => 5)->get($p->url . '/dashboard/style.css')->{status}, 200, 'others are served');
}

# --- sources that no build takes: so many of one user, and the others have room
{
	my %user = map { $_ => $p->ok_api(201, 'POST', '/users', {email => "$_\@example.org"}) } qw(alice bob);
	my $put = sub {
		my ($who) = @_;
		my $blob = $p->api('POST', '/sources', undef, {token => $user{$who}{token}})->{json}{source_blob};
		return HTTP::Tiny->new->put($blob->{put_url}, {content => 'x' x 1_000_000});
	};
	my %got;
	$got{$put->('alice')->{status}}++ for 1 .. 7;
	is_deeply(\%got, {200 => 5, 429 => 2}, 'four of the largest wait, then no more are taken');
	is($put->('bob')->{status}, 200, 'of another user they are');
}

# --- log streams: one app's do not take everybody's places
{
	$p->ok_api(201, 'POST', '/apps', {name => $_}) for qw(loud other);
	my $get = sub {
		my ($method, $app) = @_;
		my $s = dial();
		print $s "$method /dashboard/api/apps/$app/logs HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer @{[$p->token]}\r\n\r\n";
		$s->flush;
		sysread $s, my $head, 4096;
		return ($s, $head =~ m{^HTTP/1\.1 (\d+)});
	};
	my (@open, %status);
	for (1 .. 110) {
		my ($s, $status) = $get->('GET', 'loud');
		push @open, $s;
		$status{$status}++;
	}
	is_deeply(\%status, {200 => 100, 503 => 10}, 'a hundred followers of one app');
	is(($get->('GET', 'other'))[1], 200, 'another app is followed all the same');
	is(($get->('HEAD', 'other'))[1], 405, 'no HEAD of a log, which never ends');
	is($p->api('HEAD', '/dashboard/api/live', undef, {timeout => 5})->{status}, 405, 'nor of events');
	my $blob = $p->ok_api(201, 'POST', '/sources')->{source_blob};
	is(HTTP::Tiny->new->put($blob->{put_url}, {content => 'x' x 1000})->{status}, 200, 'a source is there');
	is(HTTP::Tiny->new(timeout => 5)->head($blob->{get_url})->{headers}{'content-length'}, 1000, 'HEAD of it tells its length');
}

# --- connections: one client has a quarter of them
{
	my $small = Platform->new(args => ['--proxy-protocol']);
	$small->{before} = sub {
		my $rlimit = pack 'Q2', 400, 400;
		syscall 160, 7, $rlimit; # setrlimit(RLIMIT_NOFILE)
	};
	ok($small->run, 'a server with few descriptors') or diag $small->log;
	my $ask = sub {
		my ($from) = @_;
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $small->port_of, Timeout => 5) or return;
		local $SIG{PIPE} = 'IGNORE';
		print $s "PROXY TCP4 $from 198.51.100.1 4711 80\r\nGET /dashboard/style.css HTTP/1.1\r\nHost: localhost\r\n\r\n";
		$s->flush;
		sysread $s, my $head, 4096;
		return ($s, ($head // '') =~ m{^HTTP/1\.1 200});
	};
	my (@open, $good);
	for (1 .. 70) {
		my ($s, $ok) = $ask->('192.0.2.7');
		push @open, $s;
		$good += $ok ? 1 : 0;
	}
	is($good, 51, 'a quarter of 200');
	ok(($ask->('192.0.2.8'))[1], 'another client is served');
	shift(@open)->close for 1 .. 10;
	sleep 0.2;
	ok(($ask->('192.0.2.7'))[1], 'and the first again, when it has closed some');
	is($small->stop, 0, 'it ends well');
}

is($p->stop, 0, 'the server ends well');
done_testing;
