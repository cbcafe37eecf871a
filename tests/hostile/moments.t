#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# An app is destroyed in the middle of everything that can go on with it, and the server goes on. Most worth with a platform that
# was built with sanitizers: COWBELL_PLATFORM=build/asan/cowbell-platform. ROUNDS=N does more at one time, chosen by SEED.
use strict;
use warnings;
no warnings 'exec';
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use File::Path qw(make_path);
use IO::Socket::INET;
use Platform;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'needs gcc, tar, curl and openssl' unless have('gcc', 'tar', 'curl', 'openssl');
my $dir = scratch();
make_path("$dir/app");
spew("$dir/app.c", <<'C');
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#define SAY(fd, text) (write(fd, text, sizeof(text) - 1) < 0)
static char big[65536];
static void *serve(void *arg)
{
	int c = (int)(long)arg, n;
	char buf[8192];
	while ((n = read(c, buf, sizeof buf - 1)) > 0) {
		buf[n] = 0;
		printf("got %.20s\n", buf);
		if (strstr(buf, " /ws") && !SAY(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"))
			while ((n = read(c, buf, sizeof buf)) > 0 && write(c, buf, n) > 0)
				;
		if (strstr(buf, " /slow"))
			sleep(3);
		if (strstr(buf, " /die"))
			_exit(3);
		if (strstr(buf, " /drip") && !SAY(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"))
			while (!SAY(c, "1\r\nx\r\n"))
				usleep(50000);
		if (strstr(buf, " /big") && !SAY(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n"))
			while (write(c, big, sizeof big) > 0)
				;
		if (SAY(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"))
			break;
	}
	close(c);
	return NULL;
}
int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; argc > 1 && i < 40; i++)
		printf("work %d\n", i), usleep(100000);
	if (argc > 1)
		return 0;
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	if (getenv("SLOW"))
		usleep(700000);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
	if (bind(s, (void *)&a, sizeof a) || listen(s, 128))
		return 1;
	for (;;) {
		int c = accept(s, NULL, NULL);
		pthread_t t;
		if (c >= 0 && !pthread_create(&t, NULL, serve, (void *)(long)c))
			pthread_detach(t);
	}
}
C
system('gcc', '-O1', '-static', '-w', '-o', "$dir/app/app", "$dir/app.c") == 0 or plan skip_all => 'no static libc';
my %tar;
for (['plain', "web: ./app\nworker: ./app work\n"], ['phase', "web: ./app\nrelease: ./app work\n"]) {
	spew("$dir/app/Procfile", $_->[1]);
	system('tar', 'cf', "$dir/$_->[0].tar", '-C', "$dir/app", '.') == 0 or die 'tar';
	$tar{$_->[0]} = slurp("$dir/$_->[0].tar");
}

my $p = Platform->start(args => ['--idle', '1s', '--drain-private']);
my $sink = IO::Socket::INET->new(Listen => 50, LocalAddr => '127.0.0.1') or die;
my ($T, @keep, $n) = (JSON::PP::true);
$SIG{PIPE} = 'IGNORE';
sub raw {
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of, Timeout => 5) or return;
	syswrite $s, $_[0];
	push @keep, $s;
	return $s;
}
sub own { return "Host: localhost\r\nAuthorization: Bearer " . $p->token . "\r\n" }
sub get { return raw("GET $_[0] HTTP/1.1\r\nHost: $n.localhost\r\n" . ($_[1] // '') . "\r\n") }
sub build { my ($tar, $part) = @_; return raw("POST /apps/$n/builds?wait=1 HTTP/1.1\r\n" . own() . "Content-Type: application/x-tar\r\nContent-Length: " . length($tar) . "\r\n\r\n" . substr $tar, 0, $part // length $tar) }
sub program { my $pid = open my $f, '|-', @_ or return; $f->autoflush(1); push @keep, $f; return $f }
my @moments = (
	'a request that is slow' => sub { get('/slow') },
	'requests that wait for a start' => sub { $p->api('PATCH', "/apps/$n/config-vars", {SLOW => 1}); get('/') for 1 .. 5 },
	'an answer that drips' => sub { get('/drip') },
	'an answer that nobody reads' => sub { get('/big') },
	'a body that does not come' => sub { raw("PUT /x HTTP/1.1\r\nHost: $n.localhost\r\nContent-Length: 1000000\r\n\r\nabc") },
	'an upgraded connection' => sub { get('/ws', "Connection: Upgrade\r\nUpgrade: echo\r\n") },
	'an instance that dies' => sub { get('/die') },
	'HTTP/2' => sub { program('timeout', '3', 'curl', '-s', '-o', '/dev/null', '--noproxy', '*', '--http2-prior-knowledge', '-H', "Host: $n.localhost", map { $p->url . $_ } qw(/slow /drip /big)) },
	'a log session' => sub { my ($path) = $p->api('POST', "/apps/$n/log-sessions", {tail => $T})->{json}{logplex_url} =~ m{://[^/]+(/.*)}; raw("GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n") },
	'streams of the dashboard' => sub { raw("GET /dashboard/api/$_ HTTP/1.1\r\n" . own() . "\r\n") for "live?app=$n", "apps/$n/logs" },
	'drains' => sub { $p->api('POST', "/apps/$n/log-drains", {url => "$_://127.0.0.1:" . $sink->sockport}) for qw(syslog syslog+tls http https); get('/'); push @keep, $sink->accept },
	'an attached run' => sub {
		my ($port, $secret) = $p->api('POST', "/apps/$n/dynos", {command => './app work', attach => $T})->{json}{attach_url} =~ m{:(\d+)/(.*)};
		my $f = program('sh', '-c', "exec timeout 3 openssl s_client -quiet -connect 127.0.0.1:$port >/dev/null 2>&1");
		print $f "$secret\r\n";
	},
	'a run that nobody attaches to' => sub { $p->api('POST', "/apps/$n/dynos", {command => './app work', attach => $T}) },
	'a detached run' => sub { $p->api('POST', "/apps/$n/dynos", {command => './app work'}) },
	'workers' => sub { $p->api('PATCH', "/apps/$n/formation", {updates => [{type => 'worker', quantity => 2}]}) },
	'a build' => sub { build($tar{plain}) },
	'a source that comes' => sub { build($tar{plain}, 1000) },
	'a release phase' => sub { build($tar{phase}); sleep 0.6 },
	'a deploy' => sub { get('/'); build($tar{plain}); sleep 0.4 },
	'a restart' => sub { get('/slow'); $p->api('DELETE', "/apps/$n/dynos") },
	'a rollback' => sub { get('/'); $p->api('POST', "/apps/$n/releases", {release => 'v1'}) },
);
my %moment = @moments;
my @names = grep { $moment{$_} } map { $moments[2 * $_] } 0 .. $#moments / 2;

sub round {
	my ($name, @what) = @_;
	$n = $name;
	$p->api('POST', '/apps', {name => $n});
	my $r = $p->api('POST', "/apps/$n/builds?wait=1", undef, {content => $tar{plain}, headers => {'content-type' => 'application/x-tar'}});
	return "built: $r->{status} $r->{content}" if $r->{status} != 201;
	for (@what) {
		$moment{$_}->();
		sleep 0.1;
	}
	$r = $p->api('DELETE', "/apps/$n");
	return "destroyed: $r->{status}" if $r->{status} != 200;
	close $_ for splice @keep, 0, @keep > 12 ? @keep - 12 : 0; # some stay open after their app
	return $p->ended ? 'the server has ended' : $p->api('GET', '/account')->{status};
}

my $count = 0;
is(round('app-' . ++$count, $_), 200, $_) or last for @names;
if ($ENV{ROUNDS} && !$p->ended) {
	srand($ENV{SEED} // 1);
	my $bad;
	for (1 .. $ENV{ROUNDS}) {
		my @what = map { $names[rand @names] } 1 .. 1 + rand 5;
		$bad = round('app-' . ++$count, @what);
		next if $bad eq 200;
		diag "$bad: @what";
		last;
	}
	is($bad, 200, "$ENV{ROUNDS} rounds of several");
}
is($p->ended ? 'dead' : $p->stop, 0, 'the server ends well') or diag $p->log;
close $_ for @keep;
done_testing;
