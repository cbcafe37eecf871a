#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# `cowbell serve` as a process: options and configuration, one server for each data directory, the service manager, graceful ends and
# hard ones, full disks, users without privileges, clocks that step.
use strict;
use warnings;
no warnings "exec";
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Socket::UNIX;
use IO::Socket::INET;
use JSON::PP ();
use POSIX qw(:sys_wait_h);
use Platform;
use Socket;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => "no $COWBELL" unless -x $COWBELL;
my $scratch = scratch();

# Run the server with these arguments; it must end by itself: (status, out, err).
sub serve {
	return run_out({timeout => 20, dir => $scratch}, Platform::command(), @_);
}

# --- options and configuration ---------------------------------------------------------------------------------
sub options {
	my ($st, $out, $err) = serve('--help');
	ok($st == 0 && $out =~ /--config FILE/ && $out =~ /--memory-budget/ && $out =~ /--no-sync/ && $err eq '', '--help') or diag "$st $err";
	($st, $out, $err) = serve('--print-config');
	is($st, 0, '--print-config');
	for my $key (qw(listen listen_tls domain idle memory_budget max_builds sync log_format memory in_flight egress scale_at)) {
		like($out, qr/^# .*\n(?:# .*\n)*$key = /m, "$key is documented");
	}
	is(slurp("$TOP/examples/serve.toml"), $out, 'examples/serve.toml is what it prints');
	spew("$scratch/all.toml", $out);
	($st, $out, $err) = serve('--config', "$scratch/all.toml", '--data', "$scratch/none", '--check');
	ok($st == 0 && $out =~ /good/, 'what it prints is a configuration') or diag $err;
	ok(!-e "$scratch/none", '--check touches nothing');

	my @bad = (
		["idel = \"1s\"\n", qr/line 1: .*'idel'.*did you mean 'idle'/],
		["\n\nfoo = 1\n", qr/line 3: there is no setting 'foo'/],
		["[limits]\nmemry = \"1G\"\n", qr/line 2: .*did you mean 'memory'/],
		["[limit]\nmemory = \"1G\"\n", qr/line 1/],
		["idle = \"soon\"\n", qr/line 1: idle must be a time/],
		["idle = true\n", qr/line 1: idle must be a number or a text/],
		["listen = \"nowhere:x\"\n", qr/line 1: listen must be/],
		["listen = 80\n", qr/line 1: listen must be a text/],
		["monitor = \"qemu\"\n", qr/one of auto\|kvm\|process/],
		["sync = \"no\"\n", qr/true or false/],
		["max_builds = 9999999\n", qr/number from 0 to 256/],
		["max_builds = -1\n", qr/number from/],
		["domain = \"Bad_Domain\"\n", qr/host name/],
		["idle = \"1s\"\nidle = \"2s\"\n", qr/line 2: .*there already/],
		["idle = 1\nnonsense\n", qr/line 2/],
		["tls_cert = \"/x\"\n", qr/belong together/],
		["[limits]\negress = \"1.2.3.4.5\"\n", qr/egress must be/],
		["listen = \"\"\n", qr/listen nowhere/],
	);
	for my $b (@bad) {
		spew("$scratch/bad.toml", $b->[0]);
		($st, $out, $err) = serve('--config', "$scratch/bad.toml", '--check');
		(my $name = $b->[0]) =~ s/\n/ /g;
		ok($st == 125 && $err =~ $b->[1] && $err =~ /^cowbell: serve: [^\n]*\n\z/, "refused: $name") or diag "$st $err";
	}
	for my $b (['--idel', qr/did you mean --idle/], ['--nonsense', qr/no option --nonsense/], ['thing', qr/what is 'thing'/],
		['--idle', qr/needs a value/], ['--idle=x', qr/--idle must be/], ['--config', qr/needs a value/],
		['--config=/nonexistent', qr/nonexistent/], ['--limit', qr/needs a value/], ['--limit=x=1', qr/KEY=VALUE/],
		['--no-idle', qr/no option/]) {
		($st, $out, $err) = serve($b->[0]);
		ok($st == 125 && $err =~ $b->[1] && $err =~ /^[^\n]*\n\z/, "refused: $b->[0]") or diag "$st $err";
	}
	spew("$scratch/file.toml", "idle = \"1s\"\n");
	($st, $out, $err) = serve('--config', "$scratch/file.toml", '--idle=2s', '--limit', 'memory=1G', '--no-sync', '--check');
	is($st, 0, 'options win over the file') or diag $err;
	mkdir "$scratch/etc";
	spew("$scratch/etc/serve.toml", "unknown = 1\n");
	{
		local $ENV{CONFIGURATION_DIRECTORY} = "$scratch/etc";
		($st, $out, $err) = serve('--check');
	}
	ok($st == 125 && $err =~ m{etc/serve.toml, line 1}, 'the file of the ConfigurationDirectory');
}

# --- one life ---------------------------------------------------------------------------------------------------
sub life {
	my $p = Platform->start;
	like($p->token, qr/^[0-9a-f]{64}$/, 'the first start makes a token');
	is((stat "$p->{data}/admin-token")[2] & 07777, 0600, 'which is for its owner only');
	is((stat $p->{data})[2] & 07777, 0700, 'as the data directory is');
	my $app = $p->ok_api(201, 'POST', '/apps', {name => 'first'});
	is($app->{name}, 'first', 'an app is made');
	my $r = $p->api('GET', '/apps', undef, {token => 'x' x 64});
	is($r->{status}, 401, 'a wrong token is refused');

	my $second = Platform->new(dir => $p->{dir}, data => $p->{data});
	ok(!$second->run, 'a second server on the same data does not start');
	is($second->{status}, 125, 'its status');
	like($p->log, qr/another server, process $p->{pid}, is running on \Q$p->{data}\E/, 'and it says so');

	is($p->api('GET', '/apps/first')->{status}, 200, 'the first one goes on');

	my $token = $p->token;
	is($p->stop, 0, 'SIGTERM ends it');
	like($p->log, qr/stopped/, 'which it says');
	$p->run;
	is($p->api('GET', '/apps/first')->{json}{id}, $app->{id}, 'the app is there after a restart');
	is($p->token, $token, 'the token is the same');
	is($p->stop('INT'), 0, 'SIGINT ends it, too');
	push @{$p->{args}}, '--new-admin-token';
	$p->run;
	isnt($p->token, $token, 'a new token for the admin');
	is($p->api('GET', '/apps/first')->{status}, 200, 'which is good');
	is($p->api('GET', '/apps/first', undef, {token => $token})->{status}, 200, 'and so is the old one');
	$p->stop;
	opendir(my $d, "$p->{data}/run");
	is(scalar(grep { !/^\./ } readdir $d), 0, 'nothing is left in run/');
}

sub log_json {
	my $p = Platform->start(args => ['--log-format', 'json']);
	$p->stop;
	my @lines = split /\n/, $p->log;
	my @bad = grep { !eval { JSON::PP->new->decode($_)->{message} } } @lines;
	ok(@lines && !@bad, 'each line of a log as JSON is JSON') or diag join "\n", @bad;
}

sub bad_data {
	my ($st, $out, $err) = serve('--data', '/proc/nonexistent/x', '--listen', '127.0.0.1:0');
	ok($st == 125 && $err =~ m{data directory /proc/nonexistent/x: }, 'a data directory that cannot be made') or diag $err;
	mkdir "$scratch/garbage";
	spew("$scratch/garbage/platform.db", "this is no database, whatever its name says\n" x 100);
	($st, $out, $err) = serve('--data', "$scratch/garbage", '--listen', '127.0.0.1:0');
	ok($st == 125 && $err =~ /platform.db: .*not a database/, 'a store that is none') or diag $err;
	my $p = Platform->start;
	$p->stop;
	if (have('sqlite3')) {
		system('sqlite3', "$p->{data}/platform.db", 'PRAGMA user_version = 999');
		($st, $out, $err) = serve('--data', $p->{data}, '--listen', '127.0.0.1:0');
		ok($st == 125 && $err =~ /newer Cowbell/, 'a store of a newer one') or diag $err;
	}
	my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1');
	($st, $out, $err) = serve('--data', "$scratch/port", '--listen', '127.0.0.1:' . $s->sockport);
	ok($st && $err =~ /address already in use/i, 'a port that is taken') or diag "$st $err";
}

# --- the service manager ------------------------------------------------------------------------------------------
sub service_manager {
	my $sock = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Local => "$scratch/notify") or die "notify: $!";
	my $p = Platform->start(env => {NOTIFY_SOCKET => "$scratch/notify", WATCHDOG_USEC => 400000});
	my $said = sub {
		my $in = '';
		vec($in, fileno $sock, 1) = 1;
		return '' unless select($in, undef, undef, 5);
		recv($sock, my $buf, 4096, 0);
		return $buf;
	};
	like($said->(), qr/^READY=1/, 'READY=1 when it serves');
	is($said->(), 'WATCHDOG=1', 'the watchdog is told') for 1 .. 2;
	$p->stop;
	my $last;
	do { $last = $said->() } while $last =~ /^WATCHDOG/;
	like($last, qr/^STOPPING=1/, 'STOPPING=1 at its end');

	# As systemd passes a socket: descriptor 3, LISTEN_PID the process itself.
	my $port = Platform::port();
	my $l = IO::Socket::INET->new(Listen => 64, LocalAddr => '127.0.0.1', LocalPort => $port, ReuseAddr => 1) or die "listen: $!";
	my $q = Platform->new(port => $port, env => {LISTEN_FDS => 1, LISTEN_FDNAMES => 'http'}, before => sub {
		POSIX::dup2(fileno $l, 3);
		open(my $stray, '<', '/etc/passwd');
		POSIX::dup2(fileno $stray, 40);
		$ENV{LISTEN_PID} = $$;
	});
	# The option would be another port: the socket wins.
	$q->{args} = ['--listen', '127.0.0.1:1'];
	ok($q->run, 'it takes a socket of the service manager');
	is($q->wait_for(10, sub { $q->api('GET', '/apps')->{status} == 200 }), 1, 'and serves on it') or diag $q->log;
	# What it was started with is not for its children, whose guests are hostile.
	my $inode = (stat $l)[1];
	$q->ok_api(201, 'POST', '/apps', {name => 'files'});
	spew("$scratch/index.html", "hello\n");
	system('tar', 'cf', "$scratch/files.tar", '-C', $scratch, 'index.html');
	is($q->api('POST', '/apps/files/builds?wait=1', undef, {content => slurp("$scratch/files.tar"), headers => {'content-type' => 'application/x-tar'}})->{status}, 201, 'built');
	is($q->app('files')->{status}, 200, 'and started');
	my @children = split ' ', join ' ', map { slurp($_) } glob '/proc/' . $q->pid . '/task/*/children';
	cmp_ok(scalar @children, '>=', 2, 'a builder and an instance');
	my @leaked = grep { /^socket:\[$inode\]$|passwd/ } map { readlink } map { glob "/proc/$_/fd/*" } @children;
	is("@leaked", '', 'they have neither the socket nor a stray descriptor');
	is($q->stop, 0, 'ends');
	ok(IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port), 'the socket is still there for the next one');
	close $l;
}

sub units {
	SKIP: {
		skip 'no systemd-analyze', 1 unless have('systemd-analyze');
		mkdir "$scratch/units";
		for my $f (glob "$TOP/examples/systemd/*") {
			my $text = slurp($f);
			$text =~ s{/usr/local/bin/cowbell}{/bin/true};	# it must be there
			(my $name = $f) =~ s{.*/}{};
			spew("$scratch/units/$name", $text);
		}
		my ($st, $out, $err) = run_out({timeout => 20}, 'systemd-analyze', 'verify', '--man=no', glob "$scratch/units/*");
		ok($st == 0 && $err eq '', 'the example units are good') or diag "$st $err";
	}
}

# --- kill -9 under load: what was acknowledged is there --------------------------------------------------------------
# A writer is a process that makes changes one after the other and writes down each that was acknowledged.
sub writer {
	my ($p, $n, $file) = @_;
	my $pid = fork // die;
	return $pid if $pid;
	open(my $f, '>>', $file);
	$f->autoflush(1);
	$p->{ua} = undef;
	for (my $i = 0; ; $i++) {
		my $name = "w$n-" . int(time * 1000) % 100000000 . "-$i";
		my $r = $p->api('POST', '/apps', {name => $name}, {timeout => 5});
		POSIX::_exit(0) if $r->{status} == 599;
		POSIX::_exit(1) if $r->{status} != 201;
		print $f "app $name $r->{json}{id}\n";
		$r = $p->api('PATCH', "/apps/$name/config-vars", {N => "value $i"}, {timeout => 5});
		POSIX::_exit(0) if $r->{status} == 599;
		print $f "var $name value $i\n" if $r->{status} == 200;
		next if $i % 3;
		print $f "going $name -\n";
		$r = $p->api('DELETE', "/apps/$name", undef, {timeout => 5});
		POSIX::_exit(0) if $r->{status} == 599;
		print $f "gone $name -\n" if $r->{status} == 200;
	}
}

sub killed {
	my $p = Platform->start;
	my $file = "$scratch/acknowledged";
	spew($file, '');
	my ($rounds, $end, $bad_writers) = (0, time + 20, 0);
	while (time < $end && $rounds < 25) {
		my @w = map { writer($p, $_, $file) } 1 .. 3;
		sleep 0.15 + rand 0.5;
		$p->kill9;
		for (@w) {
			waitpid $_, 0;
			$bad_writers++ if $?;
		}
		$p->run or die "it did not start after a kill:\n" . $p->log;
		$rounds++;
	}
	is($bad_writers, 0, 'no call was answered with an error');
	my (%app, %var, %going, %gone, $n);
	for (split /\n/, slurp($file)) {
		my ($what, $name, $value) = /^(\w+) (\S+) (.*)$/ or next;
		$n++;
		$app{$name} = $value if $what eq 'app';
		$var{$name} = $value if $what eq 'var';
		$gone{$name} = 1 if $what eq 'gone';
		$going{$name} = 1 if $what eq 'going';
	}
	my %now;
	my $range = 'name ..; max=1000';
	while (1) {
		my $r = $p->api('GET', '/apps', undef, {headers => {range => $range}});
		$now{$_->{name}} = $_->{id} for @{$r->{json} // []};
		$range = $r->{headers}{'next-range'} or last;
		last if $r->{status} != 206;
	}
	# Of one that was about to be destroyed when the server was killed, both are right.
	my @lost = grep { !$going{$_} && ($now{$_} // '') ne $app{$_} } sort keys %app;
	my @risen = grep { $now{$_} } keys %gone;
	my @wrong;
	my @some = grep { !$gone{$_} && $now{$_} } sort keys %var;
	for my $name (@some > 300 ? @some[map { int rand @some } 1 .. 300] : @some) {
		my $c = $p->api('GET', "/apps/$name/config-vars")->{json};
		push @wrong, $name unless ($c->{N} // '') eq $var{$name};
	}
	ok($n > 100, "$n changes were acknowledged in $rounds rounds of kill -9");
	is(scalar @lost, 0, 'every app that was acknowledged is there') or diag "@lost";
	is(scalar @risen, 0, 'none that was destroyed came back') or diag "@risen";
	is(scalar @wrong, 0, 'config vars are those that were acknowledged') or diag "@wrong";
	is($p->stop, 0, 'and it ends gracefully');
	if (have('sqlite3')) {
		my ($st, $out) = run_out({timeout => 20}, 'sqlite3', "$p->{data}/platform.db", 'PRAGMA integrity_check; PRAGMA foreign_key_check');
		is($out, "ok\n", 'the store is whole');
	}
}

# --- instances and a kill: nothing is left behind, and the next server wakes them ---------------------------------------
# Processes whose command line names the data directory.
sub processes {
	my ($p) = @_;
	my @found;
	for my $f (glob '/proc/[0-9]*/cmdline') {
		my ($pid) = $f =~ /(\d+)/;
		push @found, $pid if $pid != $$ && $pid != ($p->{pid} // 0) && index(slurp($f), $p->{data}) >= 0;
	}
	return @found;
}

sub instances {
	SKIP: {
		my $p = Platform->start(args => ['--monitor', 'process', '--idle', '60s']);
		$p->ok_api(201, 'POST', '/apps', {name => 'page'});
		mkdir "$scratch/page";
		spew("$scratch/page/index.html", "a page of its own\n");
		system('tar', '-C', "$scratch/page", '-czf', "$scratch/page.tgz", '.');
		my $blob = $p->ok_api(201, 'POST', '/sources', {})->{source_blob};
		(my $put = $blob->{put_url}) =~ s{//[^/:]+}{//127.0.0.1};
		is(HTTP::Tiny->new->put($put, {content => slurp("$scratch/page.tgz")})->{status}, 200, 'the source is taken');
		my $b = $p->ok_api(201, 'POST', '/apps/page/builds', {source_blob => {url => $blob->{get_url}, version => 'v'}});
		my $build = $p->wait_for(60, sub {
			my $x = $p->api('GET', "/apps/page/builds/$b->{id}")->{json};
			return $x->{status} ne 'pending' && $x;
		});
		is($build->{status}, 'succeeded', 'and built') or skip 'no app to look at', 4;
		my ($bad, $left) = ('', '');
		for my $round (1 .. 6) {
			my $r = $p->app('page', '/', {timeout => 20});
			$bad .= " $round:$r->{status}" unless $r->{status} == 200 && $r->{content} =~ /of its own/;
			my @load = map {
				my $pid = fork // die;
				if (!$pid) {
					$p->{ua} = undef;
					1 while $p->app('page', '/', {timeout => 5})->{status} == 200;
					POSIX::_exit(0);
				}
				$pid;
			} 1 .. 2;
			sleep 0.1 + rand 0.3;
			$p->kill9;
			waitpid $_, 0 for @load;
			my @p = ('?');
			for (1 .. 60) {
				last unless @p = processes($p);
				sleep 0.05;
			}
			$left .= " $round:@p" if @p;
			$p->run or die "it did not start after a kill:\n" . $p->log;
		}
		is($left, '', 'after each kill -9 no process of an app is left');
		is($bad, '', 'and the next server wakes the app for its first request');
		$p->app('page', '/');
		is($p->stop, 0, 'a graceful end');
		is(join(' ', processes($p)), '', 'leaves no process');
	}
}

# --- graceful: what is in flight is finished ---------------------------------------------------------------------------
sub graceful {
	my $p = Platform->start;
	$p->ok_api(201, 'POST', '/apps', {name => 'slow'});
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->{port}) or die;
	my $body = '{"SLOW":"yes"}';
	my $auth = 'Bearer ' . $p->token;
	print $s "PATCH /apps/slow/config-vars HTTP/1.1\r\nHost: localhost\r\nAuthorization: $auth\r\nContent-Type: application/json\r\n"
		. 'Content-Length: ' . length($body) . "\r\n\r\n" . substr($body, 0, 5);
	$s->flush;
	sleep 0.3;
	kill 'TERM', $p->{pid};
	sleep 0.5;
	ok(!$p->ended, 'a request in flight holds the end up');
	ok(!IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->{port}, Timeout => 1), 'nobody new comes in');
	print $s substr($body, 5);
	$s->flush;
	my $in = '';
	vec($in, fileno $s, 1) = 1;
	my $got = '';
	sysread $s, $got, 65536 if select($in, undef, undef, 10);
	like($got, qr{^HTTP/1.1 200 }, 'it is answered') or diag $p->log;
	close $s;
	is($p->stop(0), 0, 'then it ends');
	$p->run;
	is($p->api('GET', '/apps/slow/config-vars')->{json}{SLOW}, 'yes', 'what it changed is there');

	$s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->{port}) or die;
	print $s "PATCH /apps/slow/config-vars HTTP/1.1\r\nHost: localhost\r\nAuthorization: $auth\r\nContent-Length: 100\r\n\r\n{";
	$s->flush;
	sleep 0.2;
	kill 'TERM', $p->{pid};
	sleep 0.3;
	is($p->stop('TERM', 5), 128 + 15, 'a second signal ends it at once');
}

# --- full disks ---------------------------------------------------------------------------------------------------------
sub full_disk {
	SKIP: {
		skip 'a small file system needs root', 8 if $> || system('unshare -m true 2>/dev/null');
		my $mount = "$scratch/small";
		mkdir $mount;
		# In a mount namespace of its own, kept by a process that sleeps; the server joins it.
		my $keeper = open(my $out, '-|', 'unshare', '-m', '--propagation', 'private', 'sh', '-c',
			"mount -t tmpfs -o size=6m none '$mount' && echo ready && exec sleep 120") or skip 'unshare', 6;
		my $line = <$out> // '';
		skip 'no tmpfs can be mounted', 6 unless $line =~ /ready/;
		my $p = Platform->new(data => "$mount/data", wait => 10);
		my $inside = "/proc/$keeper/root$mount/data";
		$p->{before} = sub {
			open(my $ns, '<', "/proc/$keeper/ns/mnt") or POSIX::_exit(126);
			syscall(308, fileno $ns, 0x20000) and POSIX::_exit(126);	# setns(CLONE_NEWNS)
			chdir '/';
		};
		ok($p->run, 'a server on a small disk') or diag $p->log;
		$p->{data} = $inside;
		my $token = $p->token;
		my ($made, $refused, @have) = (0, undef);
		for my $i (1 .. 4000) {
			my $r = $p->api('POST', '/apps', {name => "disk-$i"}, {token => $token});
			if ($r->{status} == 201) {
				$made++;
				push @have, "disk-$i";
				$p->api('PATCH', "/apps/disk-$i/config-vars", {X => 'y' x 30000}, {token => $token});
				next;
			}
			$refused = $r;
			last;
		}
		ok($refused && $refused->{status} == 507 && $refused->{json}{message} =~ /disk/i, "after $made apps the disk is full: 507 and a clear text")
			or diag $refused ? "$refused->{status} $refused->{content}" : 'never';
		is($p->api('GET', '/apps/disk-1', undef, {token => $token})->{status}, 200, 'it goes on serving');
		my $lost = grep { $p->api('GET', "/apps/$_", undef, {token => $token})->{status} != 200 } @have;
		is($lost, 0, 'nothing that was acknowledged is lost');
		my $r;
		for my $i (1 .. 400) { # the database may have tidied up meanwhile, and something small fits again
			$r = $p->api('POST', '/apps', {name => "again-$i"}, {token => $token});
			last if $r->{status} != 201;
			push @have, "again-$i";
			$p->api('PATCH', "/apps/again-$i/config-vars", {X => 'y' x 30000}, {token => $token});
		}
		is($r->{status}, 507, 'again');
		$r = $p->api('POST', '/apps/disk-1/builds', undef, {token => $token, content => 'x' x 1000, headers => {'content-type' => 'application/x-tar'}});
		is($r->{status}, 507, 'no source is taken') or diag $r->{content};
		is($p->api('GET', '/disk-1.git/info/refs?service=git-receive-pack', undef, {token => $token})->{status}, 507, 'nor a git push');
		sleep 0.5;
		$r = $p->api('DELETE', '/apps/' . pop @have, undef, {token => $token});
		is($r->{status}, 200, 'an app can be destroyed on a full disk') or diag $r->{content};
		system('nsenter', '-t', $keeper, '-m', 'mount', '-o', 'remount,size=32m', $mount);
		is($p->api('POST', '/apps', {name => 'after'}, {token => $token})->{status}, 201, 'with room it goes on without a restart');
		$p->{data} = "$mount/data";
		$p->kill9;
		$p->run;
		$p->{data} = $inside;
		$lost = grep { $p->api('GET', "/apps/$_", undef, {token => $token})->{status} != 200 } @have, 'after';
		is($lost, 0, 'all of it is there after a kill');
		$p->kill9;
		kill 'KILL', $keeper;
		close $out;
	}
}

# --- a disk that fails: what could not be synced is not acknowledged, and nothing after it -------------------------------
my $no_sync = <<'END';
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd)
{
	if (!access(getenv("SYNC_FAILS"), F_OK)) {
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}
END

sub broken_disk {
	my $shim = Platform::shim($scratch, 'sync', $no_sync) or return;
	my $p = Platform->start(env => {LD_PRELOAD => $shim, SYNC_FAILS => "$scratch/fails"});
	$p->ok_api(201, 'POST', '/apps', {name => 'before'});
	spew("$scratch/fails", '');
	my $r = $p->api('POST', '/apps', {name => 'during'});
	cmp_ok($r->{status}, '>=', 500, 'a change that could not be synced is not acknowledged') or diag $r->{content};
	like($p->log, qr/changes are refused until the server is started anew/, 'the log says what is to do');
	unlink "$scratch/fails";
	$r = $p->api('POST', '/apps', {name => 'later'});
	cmp_ok($r->{status}, '>=', 500, 'nor is a later one, though the disk says that it is well') or diag $r->{content};
	is($p->api('GET', '/apps/before')->{status}, 200, 'reading goes on');
	$p->restart;
	is($p->api('GET', '/apps/before')->{status}, 200, 'after a restart what was acknowledged is there');
	$p->ok_api(201, 'POST', '/apps', {name => 'later'});
	is($p->stop, 0, 'a graceful end');
}

# --- power failure: what is on the disk when an answer is given ------------------------------------------------------------
# Each sync of the store's log leaves a copy of what the disk then has for certain (and of nothing that is written later): the server
# that starts from the last copy must know all that was acknowledged.
my $disk = <<'END';
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static void copy(const char *from, const char *to)
{
	static char buf[1 << 20];
	char new[PATH_MAX];
	int in = open(from, O_RDONLY | O_CLOEXEC), out;
	ssize_t n;
	snprintf(new, sizeof(new), "%s.new", to);
	out = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	while (in >= 0 && out >= 0 && (n = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, (size_t)n) != n)
			abort();
	close(in);
	close(out);
	rename(new, to);
}
int fdatasync(int fd)
{
	char link[64], path[PATH_MAX] = "", to[PATH_MAX];
	int r = (int)syscall(SYS_fdatasync, fd);
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, path, sizeof(path) - 1);
	if (n > 4 && !strcmp(path + n - 4, "-wal")) {
		snprintf(to, sizeof(to), "%s/platform.db-wal", getenv("DISK"));
		copy(path, to);
		path[n - 4] = 0;
		snprintf(to, sizeof(to), "%s/platform.db", getenv("DISK"));
		copy(path, to);
	}
	return r;
}
END

sub power {
	my $shim = Platform::shim($scratch, 'disk', $disk) or return;
	mkdir "$scratch/disk";
	my $p = Platform->start(env => {LD_PRELOAD => $shim, DISK => "$scratch/disk"});
	my $file = "$scratch/powered";
	spew($file, '');
	my @w = map {
		my $n = $_;
		my $pid = fork // die;
		if (!$pid) {
			$p->{ua} = undef;
			open(my $f, '>>', $file);
			$f->autoflush(1);
			for (my $i = 0; ; $i++) {
				my $r = $p->api('POST', '/apps', {name => "power-$n-$i"}, {timeout => 5});
				POSIX::_exit(0) if $r->{status} != 201;
				print $f "power-$n-$i\n";
			}
		}
		$pid;
	} 1 .. 3;
	sleep 2;
	$p->kill9;
	waitpid $_, 0 for @w;
	unlink "$p->{data}/$_" for qw(platform.db platform.db-wal platform.db-shm);
	for my $f (qw(platform.db platform.db-wal)) {
		rename("$scratch/disk/$f", "$p->{data}/$f") or system('cp', "$scratch/disk/$f", "$p->{data}/$f");
	}
	$p->{env} = {};
	ok($p->run, 'a start from what was on the disk') or diag $p->log;
	my @said = split /\n/, slurp($file);
	my @lost = grep { $p->api('GET', "/apps/$_")->{status} != 200 } @said;
	cmp_ok(scalar @said, '>', 20, scalar(@said) . ' changes were acknowledged before the power failed');
	is("@lost", '', 'none of them is lost');
	is($p->stop, 0, 'a graceful end');
}

# --- who runs it -----------------------------------------------------------------------------------------------------------
sub unprivileged {
	SKIP: {
		skip 'not root: all of these tests run unprivileged', 2 if $>;
		my $p = Platform->new;
		system('chown', '-R', '65534:65534', $p->{dir});
		$p->{before} = sub {
			$( = $) = '65534 65534';
			$< = $> = 65534;
		};
		skip 'the program is not readable for others', 2 if system('setpriv', '--reuid', '65534', '--clear-groups', 'test', '-x', $ENV{COWBELL_PLATFORM} // $COWBELL);
		ok($p->run, 'it runs as nobody') or diag $p->log;
		my $r = $p->api('POST', '/apps', {name => 'nobodys'});
		is($r->{status}, 201, 'and serves') or diag $r->{content};
		$p->stop;
	}
}

# --- a clock that steps ------------------------------------------------------------------------------------------------------
# The machine's clock is not ours to set, and CLOCK_REALTIME has no namespace: a library that is loaded before libc moves it for
# the server alone, by as many seconds as a file says at that moment.
my $shim = <<'END';
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long step(void)
{
	char text[32] = "";
	const char *path = getenv("CLOCK_STEP");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		if (read(fd, text, sizeof(text) - 1) < 0)
			text[0] = 0;
		close(fd);
	}
	return atol(text);
}
int clock_gettime(clockid_t id, struct timespec *t)
{
	int r = (int)syscall(SYS_clock_gettime, id, t);
	if (!r && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
		t->tv_sec += step();
	return r;
}
int gettimeofday(struct timeval *restrict t, void *restrict z)
{
	struct timespec s;
	clock_gettime(CLOCK_REALTIME, &s);
	t->tv_sec = s.tv_sec;
	t->tv_usec = s.tv_nsec / 1000;
	return 0;
}
time_t time(time_t *out)
{
	struct timespec s;
	clock_gettime(CLOCK_REALTIME, &s);
	if (out)
		*out = s.tv_sec;
	return s.tv_sec;
}
END

sub clock {
	SKIP: {
		skip 'no compiler', 1 unless have('cc');
		spew("$scratch/step.c", $shim);
		skip 'the shim does not compile', 1 if system('cc', '-O1', '-w', '-fPIC', '-shared', '-o', "$scratch/step.so", "$scratch/step.c");
		skip 'a sanitizer wants to be loaded first', 1 if $ENV{ASAN_OPTIONS};
		my $step = "$scratch/step";
		spew($step, '0');
		my $p = Platform->start(env => {LD_PRELOAD => "$scratch/step.so", CLOCK_STEP => $step});
		$p->ok_api(201, 'POST', '/apps', {name => 'clock'});
		my ($n, @wrong) = (0);
		for my $s (400 * 86400, -400 * 86400, 0, 3600, -3600, 10 * 365 * 86400, -1700000000, 0) {
			spew($step, $s);
			$n++;
			my $t = time;
			my $r = $p->api('PATCH', '/apps/clock/config-vars', {N => "$n"}, {timeout => 10});
			push @wrong, "$s: $r->{status}" if $r->{status} != 200 || time - $t > 3;
			$r = $p->api('GET', '/apps/clock/releases/' . $n);
			push @wrong, "$s: release $n: $r->{status}" if $r->{status} != 200;
		}
		is("@wrong", '', 'changes are made and answered in time while the clock steps forward and back');
		my $now = $p->api('GET', "/apps/clock/releases/1")->{json}{created_at};
		my ($year) = $now =~ /^(\d+)/;
		cmp_ok($year, '>', (gmtime)[5] + 1900, 'the shim moved the clock: release 1 is of a later year');
		my $list = $p->api('GET', '/apps/clock/releases')->{json};
		is(join(' ', map { $_->{version} } @$list), join(' ', 1 .. $n), 'releases are in the order in which they were made');
		$p->kill9;
		spew($step, -86400);
		ok($p->run, 'a start with the clock behind');
		is($p->api('GET', '/apps/clock/config-vars')->{json}{N}, "$n", 'with the last of the changes');
		is($p->stop, 0, 'and an end');
	}
}

for my $t ([options => \&options], [life => \&life], [log_json => \&log_json], [bad_data => \&bad_data], [service_manager => \&service_manager],
	[units => \&units], [killed => \&killed], [instances => \&instances], [graceful => \&graceful], [full_disk => \&full_disk], [broken_disk => \&broken_disk], [power => \&power], [unprivileged => \&unprivileged],
	[clock => \&clock]) {
	next if @ARGV && !grep { $_ eq $t->[0] } @ARGV;
	subtest $t->[0] => $t->[1];
}
done_testing();
