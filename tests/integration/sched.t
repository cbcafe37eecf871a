#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The scheduler with real apps, through the API and the router: waking, sleeping, scaling, crashes, deploys and restarts under
# load, limits, eviction, one-off processes, attached and not.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Path qw(make_path);
use IO::Socket::INET;
use Platform;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'no C compiler' unless have('gcc');
plan skip_all => 'no tar' unless have('tar', 'gzip');

my $dir = scratch();
make_path("$dir/app");
spew("$dir/app.c", <<'C');
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
static void *serve(void *arg)
{
	int c = (int)(long)arg, n;
	char buf[4096], body[300], out[600];
	const char *v = getenv("V"), *name = getenv("NAME");
	while ((n = read(c, buf, sizeof buf - 1)) > 0) {
		buf[n] = 0;
		if (strstr(buf, " /crash"))
			_exit(7);
		if (strstr(buf, " /slow"))
			usleep(400000);
		if (strstr(buf, " /held"))
			sleep(4);
		if (strstr(buf, " /eat"))
			for (;;) {
				char *p = malloc(1 << 20);
				if (!p)
					abort();
				memset(p, 1, 1 << 20);
			}
		snprintf(body, sizeof body, "%s %s V=%s\n", getenv("DYNO"), name ? name : "-", v ? v : "0");
		n = snprintf(out, sizeof out, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
		if (write(c, out, n) != n)
			break;
	}
	close(c);
	return NULL;
}
int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && !strcmp(argv[1], "status"))
		return puts("one off"), atoi(argv[2]);
	if (argc > 1 && !strcmp(argv[1], "words")) {
		for (int i = 2; i < argc; i++)
			printf("<%s>", argv[i]);
		return puts(""), 0;
	}
	if (argc > 1 && !strcmp(argv[1], "cat")) {
		char b[4096];
		for (int n; (n = read(0, b, sizeof b)) > 0;)
			if (write(1, b, n) != n)
				return 1;
		return puts("(end of input)"), 0;
	}
	if (argc > 1 && !strcmp(argv[1], "tty")) {
		struct winsize w = {0};
		ioctl(0, TIOCGWINSZ, &w);
		printf("tty %d %dx%d\n", isatty(0), w.ws_col, w.ws_row);
		return 0;
	}
	if (argc > 1 && !strcmp(argv[1], "sleep"))
		return puts("sleeping"), sleep(600), 0;
	if (argc > 1 && !strcmp(argv[1], "work"))
		for (puts("working");; sleep(1))
			;
	if (getenv("CRASH"))
		return puts("going down"), 3;
	if (getenv("DEAF"))
		for (;;)
			pause();
	if (getenv("STUBBORN"))
		signal(SIGTERM, SIG_IGN);
	if (getenv("TALK"))
		for (int i = 0; i < 20000; i++)
			printf("line %d\n", i);
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(getenv("PORT")))};
	if (bind(s, (void *)&a, sizeof a) || listen(s, 128))
		return 1;
	puts("ready");
	for (;;) {
		int c = accept(s, NULL, NULL);
		pthread_t t;
		if (c >= 0 && !pthread_create(&t, NULL, serve, (void *)(long)c))
			pthread_detach(t);
	}
}
C
system("gcc -O1 -pthread -static -o $dir/app/server $dir/app.c") == 0 or BAIL_OUT('the app does not compile');
spew("$dir/app/Procfile", "web: ./server\nworker: ./server work\n");
system("tar -C $dir/app -czf $dir/app.tgz .") == 0 or BAIL_OUT('tar');
my $tar = slurp("$dir/app.tgz");

my @monitor = $ENV{COWBELL_MONITORS} ? ('--monitor', (split /,/, $ENV{COWBELL_MONITORS})[0]) : ();
my $p = Platform->start(args => ['--idle', '2s', '--max-instances', '8', @monitor]);
my $CA = $p->data . '/certs/self.crt';

sub deploy {
	my ($app) = @_;
	my $before = (releases($app))[-1] // 0;
	my $r = $p->api('POST', "/apps/$app/builds", undef, {content => $tar, headers => {'content-type' => 'application/gzip'}});
	$r->{status} == 201 or diag("build: $r->{status} $r->{content}");
	$p->wait_for(60, sub { ((releases($app))[-1] // 0) > $before }) or diag("no release of $app");
}
sub releases { return sort { $a <=> $b } map { $_->{version} } @{$p->api('GET', "/apps/$_[0]/releases")->{json} // []} }
sub app_new {
	my ($app) = @_;
	$p->api('POST', '/apps', {name => $app})->{status} == 201 or diag("no app $app");
	deploy($app);
}
sub dynos { return @{$p->api('GET', "/apps/$_[0]/dynos")->{json} // []} }
sub states { return join ' ', map { "$_->{name}=$_->{state}" } sort { $a->{name} cmp $b->{name} } dynos($_[0]) }
sub config { return $p->api('PATCH', "/apps/$_[0]/config-vars", $_[1]) }
sub scale { return $p->api('PATCH', "/apps/$_[0]/formation", {updates => $_[1]}) }
sub limits { my $r = $p->api('PATCH', "/apps/$_[0]/limits", $_[1]); $r->{status} == 200 or diag("limits: $r->{content}"); return $r }
sub asleep { my ($app) = @_; return $p->wait_for(8, sub { states($app) =~ /idle/ }) }
sub logs {
	my ($app) = @_;
	my $s = $p->api('POST', "/apps/$app/log-sessions", {lines => 1500})->{json};
	(my $path = $s->{logplex_url}) =~ s{^\w+://[^/]+}{};
	my $c = $p->api('GET', $path, undef, {token => undef, headers => {accept => 'text/event-stream'}})->{content};
	return join "\n", map { s/^data: \S+ //r } grep { /^data: / } split /\r?\n/, $c;
}
sub count { my ($text, $what) = @_; my @m = $text =~ /$what/g; return scalar @m }
# N clients that ask for `seconds`; (requests, failures)
sub load {
	my ($app, $n, $seconds, $path, $meanwhile) = @_;
	my @kids;
	for my $k (1 .. $n) {
		pipe(my $r, my $w);
		my $pid = fork // die;
		if (!$pid) {
			my ($all, $bad, $why, $end) = (0, 0, '', time + $seconds);
			delete $p->{ua};
			while (time < $end) {
				my $a = $p->app($app, $path);
				sleep 0.004; # so that the log of the app is not all of these
				$all++;
				next if $a->{status} == 200;
				$bad++;
				$why = "$a->{status} " . substr($a->{content}, 0, 80);
			}
			print $w "$all $bad $why\n";
			close $w;
			POSIX::_exit(0);
		}
		push @kids, [$pid, $r];
		close $w;
	}
	$meanwhile->() if $meanwhile;
	my ($all, $bad) = (0, 0);
	for (@kids) {
		my $l = readline($_->[1]) // '0 1 died';
		waitpid $_->[0], 0;
		my ($x, $y, $why) = $l =~ /^(\d+) (\d+) (.*)/;
		$all += $x, $bad += $y;
		diag("failed: $why") if $y;
	}
	return ($all, $bad);
}
# N requests at one moment: their statuses
sub at_once {
	my ($app, $n, $path) = @_;
	my (@s, %st);
	for (1 .. $n) {
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of) or next;
		push @s, $s;
	}
	syswrite $_, "GET $path HTTP/1.1\r\nHost: $app.localhost\r\nConnection: close\r\n\r\n" for @s;
	for (@s) {
		local $/;
		my $t = readline($_) // '';
		$st{$t =~ m{^HTTP/1.1 (\d+)} ? $1 : 'none'}++;
	}
	return \%st;
}

subtest 'waking and sleeping' => sub {
	app_new('wake');
	is(states('wake'), 'web.1=idle', 'deployed: asleep');
	my $r = $p->app('wake', '/');
	is("$r->{status} $r->{content}", "200 web.1 - V=0\n", 'the first request is answered');
	is(states('wake'), 'web.1=up', 'it is up');
	ok(asleep('wake'), 'it sleeps again');
	my $before = count(logs('wake'), qr/Starting process/);
	is_deeply(at_once('wake', 90, '/'), {200 => 90}, '90 at once are all answered');
	is(count(logs('wake'), qr/Starting process/), $before + 1, 'by one start');
	ok(asleep('wake'), 'and it sleeps');
	my $log = logs('wake');
	like($log, qr/heroku\[web\.1\]: Starting process with command `\.\/server`/, 'log: start');
	like($log, qr/heroku\[web\.1\]: State changed from starting to up/, 'log: up');
	like($log, qr/heroku\[web\.1\]: Idling.*Stopping all processes with SIGTERM.*Process exited with status 143/s, 'log: sleep');
	my @s = map { my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of); syswrite $s, "GET / HTTP/1.1\r\nHost: wake.localhost\r\n\r\n"; $s } 1 .. 5;
	close $_ for @s;
	is($p->app('wake', '/')->{status}, 200, 'clients that leave while it wakes harm nobody');
	my $held = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of);
	syswrite $held, "GET /held HTTP/1.1\r\nHost: wake.localhost\r\nConnection: close\r\n\r\n";
	sleep 3;
	is(states('wake'), 'web.1=up', 'a request that takes longer than the idle time keeps it awake');
	like(do { local $/; readline $held }, qr/^HTTP\/1.1 200/, 'and is answered');
	ok(asleep('wake'), 'then it sleeps');
};

subtest 'a killed dyno' => sub {
	is($p->app('wake', '/')->{status}, 200, 'awake');
	my ($pid) = map { m{^/proc/(\d+)/} } grep { slurp($_) =~ /wake|run\0.*image/s && slurp($_ =~ s/cmdline/status/r) =~ /^PPid:\s+@{[$p->pid]}$/m } glob('/proc/[0-9]*/cmdline');
	ok($pid, 'its process');
	kill 'KILL', $pid if $pid;
	like($p->app('wake', '/')->{status}, qr/^(200|503)$/, 'a request in that very moment may be lost'); # its connection was taken and reset
	is($p->app('wake', '/')->{status}, 200, "request $_ after kill -9") for 1 .. 3;
	like(logs('wake'), qr/Process exited with status 137.*State changed from up to crashed.*Starting process/s, 'log says so');
};

subtest 'formation' => sub {
	app_new('many');
	limits('many', {in_flight => 50});
	scale('many', [{type => 'worker', quantity => '1'}, {type => 'web', quantity => '2'}]);
	ok($p->wait_for(5, sub { states('many') =~ /worker.1=up/ }), 'a worker runs without requests');
	is($p->app('many', '/')->{status}, 200, 'web answers');
	ok($p->wait_for(5, sub { states('many') eq 'web.1=up web.2=up worker.1=up' }), 'two web dynos: ' . states('many'));
	my %who;
	my @s = map { my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of); syswrite $s, "GET /slow HTTP/1.1\r\nHost: many.localhost\r\nConnection: close\r\n\r\n"; $s } 1 .. 10;
	for (@s) { local $/; $who{$1}++ if readline($_) =~ /(web\.\d)/ }
	is_deeply(\%who, {'web.1' => 5, 'web.2' => 5}, 'the less busy one gets the request');
	sleep 3.5;
	is(states('many'), 'web.1=idle web.2=idle worker.1=up', 'web sleeps, the worker goes on');
	scale('many', [{type => 'worker', quantity => 0}]);
	ok($p->wait_for(5, sub { states('many') !~ /worker/ }), 'no worker any more');
	scale('many', [{type => 'web', quantity => 0}]);
	my $r = $p->app('many', '/');
	is($r->{status}, 503, 'web=0: 503');
	like(logs('many'), qr/at=error code=H14/, 'H14');
	scale('many', [{type => 'web', quantity => 1}]);
	limits('many', {scale_at => 4, max_web => 3});
	$p->app('many', '/');
	my ($all, $bad) = load('many', 12, 2, '/slow', sub { sleep 1.3; is(states('many'), 'web.1=up web.2=up web.3=up', 'scaled out under load') });
	is($bad, 0, "none of $all failed");
	ok($p->wait_for(8, sub { states('many') =~ /idle/ }), 'and back to nothing');
	limits('many', {scale_at => 0, in_flight => 1, backlog => 2});
	is($p->app('many', '/')->{status}, 200, 'one at a time');
	my $st = at_once('many', 12, '/slow');
	is($st->{200}, 3, 'one runs, two wait') or diag(explain($st));
	is($st->{503}, 9, 'the others: back-log too deep');
	like(logs('many'), qr/code=H11/, 'H11');
};

subtest 'deploys and restarts under load' => sub {
	app_new('live');
	$p->app('live', '/');
	my ($all, $bad) = load('live', 6, 4, '/', sub { sleep 0.7; config('live', {V => '2'}); sleep 1; $p->api('DELETE', '/apps/live/dynos'); sleep 1; deploy('live') });
	is($bad, 0, "config, restart and deploy: none of $all failed");
	is($p->app('live', '/')->{content}, "web.1 - V=2\n", 'the new one answers');
	config('live', {CRASH => '1'});
	($all, $bad) = load('live', 4, 1.5, '/');
	is($bad, 0, "a release that crashes: none of $all failed");
	is($p->app('live', '/')->{content}, "web.1 - V=2\n", 'the old one goes on serving');
	like(logs('live'), qr{did not come up}, 'and the log says so') or diag('see above');
	config('live', {CRASH => undef, V => '3'});
	ok($p->wait_for(5, sub { $p->app('live', '/')->{content} =~ /V=3/ }), 'the next release is fine again');
	config('live', {V => '4', STUBBORN => '1'});
	ok($p->wait_for(5, sub { $p->app('live', '/')->{content} =~ /V=4/ }), 'one that ignores SIGTERM');
	config('live', {V => '5', STUBBORN => undef});
	ok($p->wait_for(5, sub { $p->app('live', '/')->{content} =~ /V=5/ }), 'its successor answers; see below for R12');
};

subtest 'crashes' => sub {
	app_new('crash');
	config('crash', {CRASH => '1'});
	my $t = time;
	my $r = $p->app('crash', '/');
	is($r->{status}, 503, 'H10 and not 502');
	ok(time - $t < 5, 'soon');
	ok($p->wait_for(5, sub { states('crash') eq 'web.1=crashed' }), 'ps says crashed') or diag states('crash');
	$p->app('crash', '/') for 1 .. 20;
	my $log = logs('crash');
	like($log, qr/Process exited with status 3/, 'log: the status');
	like($log, qr/State changed from starting to crashed/, 'log: the state');
	like($log, qr/at=error code=H10/, 'H10');
	sleep 2;
	$p->app('crash', '/');
	my $n = count(logs('crash'), qr/Starting process/);
	ok($n >= 2 && $n <= 8, "it is tried again, with longer and longer pauses: $n starts");
	config('crash', {CRASH => undef});
	is($p->app('crash', '/')->{status}, 200, 'a new release is tried at once');
	is($p->app('crash', '/crash')->{status}, 503, 'it crashes with a request');
	is($p->app('crash', '/')->{status}, 200, 'and is back for the next');
	config('crash', {DEAF => '1'});
	limits('crash', {boot_timeout => '1s'});
	asleep('crash') or diag(states('crash'));
	$p->api('POST', '/apps/crash/dynos/web.1/actions/stop');
	$r = $p->app('crash', '/');
	is($r->{status}, 503, 'it never listens');
	$log = logs('crash');
	like($log, qr/Error R10 \(Boot timeout\)/, 'R10');
	like($log, qr/code=H20/, 'H20');
};

subtest 'memory' => sub {
	app_new('eater');
	limits('eater', {memory => '48M'});
	is($p->app('eater', '/')->{status}, 200, 'runs');
	is($p->app('eater', '/eat', {timeout => 30})->{status}, 503, 'it eats all it may have');
	ok($p->wait_for(10, sub { $p->app('eater', '/')->{status} == 200 }), 'and starts anew');
	like(logs('eater'), qr/Error R15 \(Memory quota vastly exceeded\).*State changed from up to crashed/s, 'the log says so: R15');
	my @apps = map { "small-$_" } 1 .. 12;
	app_new($_) for @apps;
	is(join(' ', map { $p->app($_, '/')->{status} } @apps), join(' ', (200) x 12), '12 apps where 8 may run: each answers');
	my $n = grep { states($_) =~ /up/ } @apps;
	ok($n <= 9 && $n >= 4, "$n of them are awake");
	is(states('small-1'), 'web.1=idle', 'the one asked longest ago sleeps');
};

subtest 'one-off processes' => sub {
	my $r = $p->api('POST', '/apps/wake/dynos', {command => './server status 5'});
	is($r->{status}, 201, 'detached');
	like($r->{json}{name}, qr/^run\.\d{4}$/, 'its name');
	my $name = $r->{json}{name};
	ok($p->wait_for(5, sub { logs('wake') =~ /app\[$name\]: one off.*heroku\[$name\]: Process exited with status 5.*State changed from up to complete/s }), 'its output and end are in the log');
	unlike(states('wake'), qr/run/, 'it has gone');
	$r = $p->api('POST', '/apps/wake/dynos', {command => './server sleep'});
	$name = $r->{json}{name};
	ok($p->wait_for(3, sub { states('wake') =~ /$name=up/ }), 'one that stays');
	is($p->api('POST', "/apps/wake/dynos/$name/actions/stop")->{status}, 202, 'stop');
	ok($p->wait_for(5, sub { states('wake') !~ /$name/ }), 'stopped');
	is($p->api('POST', '/apps/wake/dynos', {})->{status}, 422, 'no command');
	is($p->api('POST', '/apps/wake/dynos', {command => 'true', type => '../x'})->{status}, 422, 'no such type');
	plan skip_all => 'no python3' unless have('python3');
	my $attached = sub {
		my ($command, $input, %more) = @_;
		my $d = $p->api('POST', '/apps/wake/dynos', {command => $command, attach => JSON::PP::true, %more})->{json};
		return ($d->{attach_url}, run_out({timeout => 25}, 'python3', "$FindBin::Bin/rendezvous_client.py", $d->{attach_url}, $CA, $input // ''));
	};
	my $marker = "\x{ef}\x{bf}\x{bf} heroku-command-exit-status";
	my ($url, $status, $out, $err) = $attached->(qq(./server status 9 ; echo "\x{ffff} heroku-command-exit-status: \$?"));
	is($out, "one off\n$marker: 9\n", 'attached: output and exit status') or diag($err);
	($url, $status, $out, $err) = $attached->('./server cat', 'hello |world\n|\x04');
	is($out, "hello world\n(end of input)\n", 'input and its end') or diag($err);
	($status, $out, $err) = run_out({timeout => 15}, 'python3', "$FindBin::Bin/rendezvous_client.py", $url, $CA);
	like("$out$err", qr/no rendezvous|EOF|reset/i, 'a secret is good for one time');
	($url, $status, $out, $err) = $attached->('./server tty', '', env => {COLUMNS => 97, LINES => 31, TERM => 'xterm'});
	is($out, "tty 1 97x31\r\n", 'a terminal of its size');
	($url, $status, $out, $err) = $attached->(q(./server words 'a b' "c d" $DYNO;x));
	like($out, qr/takes a shell|Cannot fork|<a b><c d>/, 'what takes a shell is said, or done') or diag($err);
	($url, $status, $out, $err) = $attached->(q(./server words 'a b' "c $TERMINAL" --), '', env => {TERMINAL => 'x y'});
	is($out, "<a b><c x y><-->\n", 'words and variables as a shell would have them') or diag($err);
	($url, $status, $out, $err) = $attached->('./server sleep', 'VANISH', env => {COLUMNS => 80, LINES => 24});
	ok($p->wait_for(15, sub { states('wake') !~ /run/ }), 'a client that goes away takes its process along');
	my $d = $p->api('POST', '/apps/wake/dynos/web.1', {command => 'x', attach => JSON::PP::true});
	is($d->{status}, 422, 'a second program inside of a dyno is refused');
};

subtest 'output' => sub {
	config('wake', {TALK => '1'});
	is($p->app('wake', '/')->{status}, 200, 'a talkative app answers');
	my $log = logs('wake');
	like($log, qr/app\[web\.1\]: line \d/, 'its lines are there');
	ok($p->wait_for(5, sub { logs('wake') =~ /L10/ || count(logs('wake'), qr/line \d/) > 1000 }), 'all of them, or it is said that some were dropped');
};

subtest 'the end' => sub {
	ok($p->wait_for(31, sub { logs('live') =~ /Error R12 \(Exit timeout\).*Stopping remaining processes with SIGKILL.*Process exited with status 137/s }), 'R12: the one that ignores SIGTERM was ended after 30 s');
	$p->app($_, '/') for qw(wake many live);
	my @kids = grep { slurp($_) =~ /^PPid:\s+@{[$p->pid]}$/m } glob('/proc/[0-9]*/status');
	ok(@kids >= 3, 'instances run');
	is($p->stop('TERM', 45), 0, 'it ends well');
	my @left = grep { slurp($_) =~ /cowbell/ && slurp($_) !~ /^State:\s+Z/m } @kids;
	is(scalar(@left), 0, 'and nothing is left') or diag(map { slurp($_ =~ s/status$/cmdline/r) =~ tr/\0/ /r } @left);
	ok($p->run, 'again');
	is($p->app('wake', '/')->{status}, 200, 'wakes');
	@kids = map { m{/(\d+)/} } grep { slurp($_) =~ /^PPid:\s+@{[$p->pid]}$/m } glob('/proc/[0-9]*/status');
	$p->kill9;
	my $gone = $p->wait_for(5, sub { !grep { kill 0, $_ } @kids });
	ok($gone, 'kill -9 of the platform takes its instances along');
	ok($p->run, 'and again');
	is($p->app('wake', '/')->{status}, 200, 'wakes');
};

done_testing;
