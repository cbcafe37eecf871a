#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Running instances: found, listed, stopped, logged; names are unique; the socket takes no nonsense and no strangers; the
# commands around snapshots: where files go, what is refused, kill -9 while one is written.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use JSON::PP;
use POSIX ();
use Socket;
use Test::More;
use Time::HiRes qw(sleep time);

own_network(); # names and IDs are of a network namespace: others who test do not matter
plan skip_all => 'needs a C compiler and python3' unless have('cc', 'python3');
my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
$ENV{XDG_STATE_HOME} = "$dir/state";
mkdir "$dir/bin";

# A counter behind one port; says a word on standard output for each request.
spew("$dir/serve.c", <<'C');
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1, n = 0;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8000)};
	char b[4096];
	if (argc > 1) signal(SIGTERM, SIG_IGN);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 64)) return 1;
	puts("listening"), fflush(stdout);
	for (;;) {
		int c = accept(s, 0, 0);
		if (read(c, b, sizeof(b)) > 0) {
			char body[64];
			int m = sprintf(body, "request %d", ++n);
			m = sprintf(b, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", m, body);
			if (write(c, b, m) < 0) return 2;
			printf("served %d\n", n), fflush(stdout);
		}
		close(c);
	}
}
C
spew("$dir/spin.c", "#include <stdio.h>\nint main(void){ volatile unsigned long x = 0; puts(\"spinning\"); fflush(stdout); for (;;) x++; }\n");
spew("$dir/hello.c", "#include <stdio.h>\nint main(void){ puts(\"hello\"); return 3; }\n");
system('cc', '-O1', '-o', "$dir/bin/$_", "$dir/$_.c") == 0 or BAIL_OUT("cc $_") for qw(serve spin hello);

sub cow { return run_out({timeout => 60, dir => "$dir/bin"}, $COWBELL, @_) }
sub ps { my ($st, $out) = cow('ps', '--json', @_); return @{decode_json($out)} }
sub port_free { return free_port() }
sub until_true { my ($f, $s) = @_; my $end = time + ($s // 10); while (time < $end) { return 1 if $f->(); sleep 0.02 } return 0 }

for my $m (monitors()) {
	my @run = ('run', '--monitor', $m);
	my ($port, $st, $out, $err) = (free_port());

	($st, $out, $err) = cow(@run, '-d', '--name', "web-$m", '-p', "127.0.0.1:$port:8000", './serve');
	is($st, 0, "$m: run -d") or diag $err;
	like($out, qr/^[0-9a-f]{12}\n$/, "$m: it prints the ID and nothing else");
	chomp(my $id = $out);
	is((wait_http(undef, "http://127.0.0.1:$port/"))[1], 'request 1', "$m: it serves");
	my ($row) = grep { $_->{id} eq $id } ps();
	is_deeply([@$row{qw(name program monitor running detached restored)}], ["web-$m", './serve', $m, JSON::PP::true, JSON::PP::true, JSON::PP::false],
		"$m: ps --json");
	is_deeply($row->{ports}, [{address => '127.0.0.1', host => $port, guest => 8000}], "$m: its ports");
	ok($row->{memory_bytes} > 4096 && $row->{memory_bytes} < $row->{memory_max_bytes}, "$m: its memory");
	is($row->{cpus}, 1, "$m: its CPUs");
	is($row->{processes}, 1, "$m: its processes");
	ok($row->{uptime} >= 0 && $row->{uptime} < 60 && abs($row->{started} - time) < 60, "$m: its times");
	($st, $out) = cow('ps');
	like($out, qr/^\Q$id\E +web-$m +\.\/serve +$m +up \d+s +1 +1 +[\d.]+M\/512M +127\.0\.0\.1:$port:8000$/m, "$m: ps");
	($st, $out) = cow('ps', '-q');
	like($out, qr/^$id$/m, "$m: ps -q");
	($st, $out) = cow('logs', "web-$m");
	is($out, "listening\nserved 1\n", "$m: logs");

	($st, $out, $err) = cow(@run, '--name', "web-$m", './hello');
	is($st, 125, "$m: a name is unique");
	like($err, qr/^cowbell: --name web-$m: instance $id, which is running, has this name/, "$m: and the message says who has it");

	# nonsense on the socket: the instance lives on, and only the connection goes
	for my $bytes ('', 'x', "\0" x 16, 'CCTL', pack('LSSLL', 0x4c544343, 1, 99, 0, 0), pack('LSSLL', 0x4c544343, 9, 1, 0, 0),
		pack('LSSLL', 0x4c544343, 1, 2, 77, 0), pack('LSSLL', 0x4c544343, 1, 3, 0, 0), pack('LSSLL', 0x4c544343, 1, 3, 6, 0),
		# a move that nobody holds
		pack('LSSLL', 0x4c544343, 1, 5, 0, 0), pack('LSSLL', 0x4c544343, 1, 5, 1, 0), pack('LSSLL', 0x4c544343, 1, 6, 0, 0), 'y' x 5000) {
		socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0) or die $!;
		connect($s, pack('S a*', AF_UNIX, "\0cowbell/$>/i/$id")) or die "connect: $!";
		send($s, $bytes, 0);
		my $r = '';
		my $rin = '';
		vec($rin, fileno($s), 1) = 1;
		recv($s, $r, 4096, 0) if select($rin, undef, undef, 2);
		my ($magic, $ver, $op, $error) = length $r >= 16 ? unpack('LSSl', $r) : (0, 0, 0, 0);
		ok(!length $r || ($magic == 0x4c544343 && $error < 0), "$m: " . length($bytes) . ' bytes of nonsense: ' . (length $r ? "error $error" : 'dropped'));
	}
	# more connections than it takes; descriptors nobody asked for
	my @many = map { socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0); connect($s, pack('S a*', AF_UNIX, "\0cowbell/$>/i/$id")); $s } 1 .. 15;
	is((ps())[0]{name}, "web-$m", "$m: fifteen idle connections keep nobody out");
	@many = ();
	SKIP: {
		skip('only root can be somebody else', 1) if $>;
		pipe(my $rd, my $wr);
		my $pid = fork // die $!;
		if (!$pid) {
			POSIX::setgid(65534);
			POSIX::setuid(65534);
			socket(my $s, AF_UNIX, SOCK_SEQPACKET, 0);
			my $r = '';
			my $ok = connect($s, pack('S a*', AF_UNIX, "\0cowbell/0/i/$id")) && send($s, pack('LSSLL', 0x4c544343, 1, 1, 0, 0), 0x4000)
				&& defined recv($s, $r, 4096, 0) && length $r;
			syswrite $wr, $ok ? length $r : 'refused';
			POSIX::_exit(0);
		}
		close $wr;
		my $r = <$rd> // '';
		waitpid $pid, 0;
		is($r, 'refused', "$m: another user gets no answer");
	}
	is((http("http://127.0.0.1:$port/"))[1], 'request 2', "$m: after all this it serves");

	# snapshots: into the store, into a file, refused
	($st, $out, $err) = cow('snapshot', 'create', "web-$m");
	is($st, 0, "$m: snapshot create") or diag $err;
	like($out, qr/^web-$m: [\d.]+ MB, paused [\d.]+ ms$/, "$m: what it says");
	($st, $out) = cow('snapshot', 'ls', '--json');
	my ($snap) = grep { $_->{name} eq "web-$m" } @{decode_json($out)};
	is_deeply([@$snap{qw(monitor program)}, @{$snap->{ports}}], [$m, "$dir/bin/serve", 8000], "$m: snapshot ls");
	($st, $out) = cow('snapshot', 'inspect', "web-$m");
	like($out, qr/port +8000/, "$m: snapshot inspect");
	($st, $out) = cow('snapshot', 'create', $id, '-o', "$dir/x.snap", '--json');
	is(decode_json($out)->{snapshot}, "$dir/x.snap", "$m: -o FILE, by ID");
	is((cow('snapshot', 'verify', "web-$m", "$dir/x.snap"))[0], 0, "$m: both verify");
	($st, $out, $err) = cow('snapshot', 'create', "web-$m", '-o', '/dev/null');
	is($st, 125, "$m: a device is no place for it");
	($st, $out, $err) = cow('snapshot', 'create', "web-$m", '-o', "$dir/none/x");
	like($err, qr/No such file/, "$m: nor a directory that is not there");
	ok(!glob("$dir/.*.tmp"), "$m: nothing is left over");

	# clones and restores: the count goes on, each for itself
	($st, $out, $err) = cow('clone', "web-$m", '-n', '2');
	is($st, 0, "$m: clone -n 2") or diag $err;
	my @clones = map { [split] } split /\n/, $out;
	is(scalar(@clones), 2, "$m: two lines");
	for my $c (@clones) {
		my ($p) = $c->[1] =~ /^127\.0\.0\.1:(\d+):8000$/;
		$p //= 1;
		is((wait_http(undef, "http://127.0.0.1:$p/"))[1], 'request 3', "$m: clone $c->[0] goes on where the original was");
	}
	is((http("http://127.0.0.1:$port/"))[1], 'request 3', "$m: and so does the original");
	my $port2 = free_port();
	($st, $out, $err) = cow(@run, '-d', '--snapshot', "web-$m", '--name', "back-$m", '-p', "127.0.0.1:$port2:8000");
	is($st, 0, "$m: run --snapshot NAME") or diag $err;
	is((wait_http(undef, "http://127.0.0.1:$port2/"))[1], 'request 3', "$m: it goes on");
	($row) = grep { ($_->{name} // '') eq "back-$m" } ps();
	ok($row->{restored}, "$m: ps knows that it was restored");
	($st, $out, $err) = cow(@run, '-d', '--snapshot', "$dir/x.snap");
	like($err, qr/port \d+ of the host is port 8000/, "$m: without -p a free port is taken and told");
	($st, $out, $err) = cow(@run, '--snapshot', "$dir/x.snap", './hello');
	is($st, 125, "$m: no program beside --snapshot");
	($st, $out, $err) = cow(@run, '--snapshot', "$dir/x.snap", '-v', "$dir:/data");
	like($err, qr/no volume at \/data/, "$m: no volume that it has not");
	($st, $out, $err) = cow(@run, '--snapshot', 'nothing');
	is($st, 127, "$m: one that is not there");

	{
		local $ENV{XDG_CACHE_HOME} = "$dir/empty";
		local $ENV{XDG_DATA_HOME} = "$dir/empty";
		($st, $out, $err) = cow(@run, '--snapshot', "$dir/x.snap");
		is($st, 125, "$m: a layer that is not here");
		like($err, qr/layer 1 of its image is not here any more/, "$m: is said to be missing");
	}

	# kill -9 while it is written: the old one or the new one, and nothing else
	my $good = 0;
	my $ends = 0;
	for my $i (1 .. 12) {
		my $g = start_guest({dir => $dir}, $COWBELL, 'snapshot', 'create', "web-$m");
		sleep 0.002 * $i;
		$ends += stop_guest($g, 'KILL') ne '137';
		$good += (cow('snapshot', 'verify', "web-$m"))[0] == 0;
	}
	is($good, 12, "$m: kill -9 of snapshot create, 12 times: the file is always whole ($ends had ended before)");
	until_true(sub { (cow('snapshot', 'create', "web-$m"))[0] == 0 });
	is(join(' ', grep { !/^\.\.?$/ } map { s{.*/}{}r } glob("$dir/data/cowbell/snapshots/{.*,*}")), join(' ', 'layers', map { "web-$_.snap" } grep { -e "$dir/data/cowbell/snapshots/web-$_.snap" } sort(monitors())),
		"$m: and no temporary file stays");
	is((http("http://127.0.0.1:$port/"))[1], 'request 4', "$m: the instance has not noticed");

	# the end
	($st, $out, $err) = cow('stop', "web-$m", "back-$m", map { $_->[0] } @clones);
	is($st, 0, "$m: stop") or diag $err;
	is(join(' ', grep { /web|back/ } map { $_->{name} // '' } grep { $_->{ports}[0]{host} != 0 && $_->{id} eq $id } ps()), '', "$m: it is gone");
	cow('stop', map { $_->{id} } ps());
	is(scalar(ps()), 0, "$m: all are");
	my ($old) = grep { $_->{id} eq $id } ps('-a');
	is($old->{status}, 143, "$m: ps -a knows how it ended");
	($st, $out) = cow('logs', $id);
	like($out, qr/^listening\nserved 1\n/, "$m: its log is still there");
	($st, $out, $err) = cow('stop', "web-$m");
	is($st, 127, "$m: nothing to stop any more");
	($st, $out, $err) = cow(@run, '-d', '-p', "127.0.0.1:$port:8000", './serve', 'stubborn');
	chomp($id = $out);
	until_true(sub { (cow('logs', $id))[1] =~ /listening/ });
	my $t = time;
	is((cow('stop', substr($id, 0, 6), '--timeout', '300ms'))[0], 0, "$m: one that ignores SIGTERM is killed");
	ok(time - $t < 3, "$m: after the time given");
	($old) = grep { $_->{id} eq $id } ps('-a');
	ok(!defined $old->{status}, "$m: and is known as killed");

	# one that computes is heard too
	my $g = start_guest({dir => "$dir/bin"}, $COWBELL, @run, '--name', "spin-$m", './spin');
	ok(until_true(sub { slurp($g->{out}) =~ /spinning/ }), "$m: one computes");
	$t = time;
	my @p = ps();
	ok(@p == 1 && $p[0]{name} eq "spin-$m" && time - $t < 1, "$m: and answers");
	is((cow('snapshot', 'create', "spin-$m"))[0], 0, "$m: and is snapshotted");
	cow('snapshot', 'rm', "spin-$m");
	is((cow('stop', "spin-$m"))[0], 0, "$m: and is stopped");
	is(stop_guest($g, 0), 143, "$m: its status for whoever started it");
	$g = start_guest({dir => "$dir/bin"}, $COWBELL, @run, './spin');
	until_true(sub { slurp($g->{out}) =~ /spinning/ });
	($st, $out, $err) = cow('snapshot', 'create', 'spin');
	like($err, qr/--name, -d or --snapshot-at/, "$m: one without a name has no calls for snapshots allowed, and says so");
	is((cow('stop', 'spin', '-s', 'INT'))[0], 0, "$m: it is found by its program's name");
	is(stop_guest($g, 0), 130, "$m: --signal");

	# short and failing ones in the background
	($st, $out) = cow(@run, '-d', '--name', "short-$m", './hello');
	chomp($id = $out);
	ok(until_true(sub { my ($r) = grep { $_->{id} eq $id } ps('-a'); $r && !$r->{running} && ($r->{status} // -1) == 3 }), "$m: the status of a short one is kept");
	is((cow('logs', "short-$m"))[1], "hello\n", "$m: and what it printed");
	($st, $out, $err) = cow(@run, '-d', '-p', '127.0.0.1:0:80', '-p', '127.0.0.1:0:80', './hello');
	is("$st $out", '125 ', "$m: one that cannot start fails as in the foreground");
	like($err, qr/forwarded twice/, "$m: with its message");

	# --snapshot-at
	for my $when ('ready', 'listen', '300ms') {
		($st, $out, $err) = cow(@run, '-p', '127.0.0.1:0:8000', '--snapshot-at', $when, '--snapshot-stop', '-o', "$dir/at.snap", './serve');
		is($st, 0, "$m: --snapshot-at $when") or diag $err;
		($st, $out, $err) = cow(@run, '-d', '-p', "127.0.0.1:$port:8000", '--snapshot', "$dir/at.snap");
		chomp($id = $out);
		is((wait_http(undef, "http://127.0.0.1:$port/"))[1], 'request 1', "$m: what it took starts") or diag $err;
		cow('stop', $id);
		unlink "$dir/at.snap";
	}
	($st, $out, $err) = cow(@run, '--name', 'early', '--snapshot-at', 'ready', './hello');
	is($st, 3, "$m: a program that ends before it is ready");
	like($err, qr/early: the instance ended before it was snapshotted/, "$m: is not snapshotted");
	is((cow('snapshot', 'rm', "web-$m"))[0], 0, "$m: snapshot rm");
	is((cow('snapshot', 'rm', "web-$m"))[0], 127, "$m: there is nothing to remove any more");
	is((cow('snapshot', 'rm', '-f', "web-$m"))[0], 0, "$m: -f");
	cow('stop', $_->{id}) for ps();
}

SKIP: {
	skip('not root, or another user cannot run it', 8) if $> || !have('setpriv');
	my @as = ('setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', 'env', map({ "XDG_${_}_HOME=$dir/nobody/$_" } qw(DATA CACHE STATE)), 'HOME=/');
	chmod 0755, $dir;
	mkdir "$dir/nobody";
	chown 65534, 65534, "$dir/nobody";
	skip('another user cannot run it', 8) if (run_out({}, @as, $COWBELL, 'version'))[0];
	my $user = sub { return run_out({timeout => 60, dir => "$dir/bin"}, @as, $COWBELL, @_) };
	my ($st, $out, $err) = $user->('run', '--monitor', 'process', '-d', '--name', 'theirs', '-p', '127.0.0.1:0:8000', './serve');
	is($st, 0, 'an ordinary user: run -d') or diag $err;
	chomp(my $id = $out);
	($st, $out) = $user->('ps', '-q');
	is($out, "$id\n", 'an ordinary user: ps shows their own');
	ok(scalar(grep { $_->{id} eq $id } ps()), "root's ps shows it too");
	($st, $out, $err) = $user->('snapshot', 'create', 'theirs');
	is($st, 0, 'an ordinary user: snapshot create') or diag $err;
	($st, $out, $err) = $user->('clone', 'theirs');
	is($st, 0, 'an ordinary user: clone') or diag $err;
	my ($port) = $out =~ /:(\d+):8000/;
	is((wait_http(undef, 'http://127.0.0.1:' . ($port // 1) . '/', 5))[1], 'request 1', 'the clone serves');
	($st, $out) = $user->('ps', '-q');
	is((cow('stop', $id))[0], 0, "root stops another user's by its ID");
	($st, $out, $err) = $user->('stop', grep { $_ ne $id } split ' ', $out);
	is($st, 0, 'an ordinary user: stop') or diag $err;
}

is((cow('snapshot', 'rm', '../x'))[0], 125, 'snapshot rm takes names only');
is((cow('run', '-o', 'x', './hello'))[0], 125, '-o without --snapshot-at');
is((cow('run', '--snapshot-at', 'soon', './hello'))[0], 125, '--snapshot-at needs a moment');
is((cow('stop', '--signal', 'FOO', 'x'))[0], 125, 'no such signal');
is((cow('clone', '-n', '0', 'x'))[0], 125, 'no clones');
done_testing();
