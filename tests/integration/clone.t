#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Copies of a running instance: their volumes, names, ports, monitors. What snapshots of the store need stays when images are
# pruned and caches emptied, and goes with the last that needs it. Snapshots that cannot be written: no room, no right, the
# instance killed, odd names; nothing torn is there, and nothing left over.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Digest::SHA 'sha256';
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

own_network(); # names and IDs are of a network namespace: others who test do not matter
plan skip_all => 'needs a C compiler' unless have('cc');
my $dir = scratch();
$ENV{"XDG_${_}_HOME"} = "$dir/" . lc $_ for qw(DATA CACHE STATE);
mkdir "$dir/$_" for qw(bin vol other out);

# A counter behind a port; each request writes its number to a file of a volume, if it may. /open: keeps one open to write.
spew("$dir/count.c", <<'C');
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1, n = 0, kept = -1;
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(8000)};
	char b[4096];
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 64)) return 1;
	if (argc > 1) write(1, "up\n", 3);
	for (;;) {
		int c = accept(s, 0, 0), m = read(c, b, sizeof(b) - 1);
		if (m > 0) {
			char body[64];
			b[m] = 0;
			if (strstr(b, "/open")) kept = open("/vol/kept", O_RDWR | O_CREAT, 0600);
			int f = open("/vol/count", O_WRONLY | O_CREAT | O_APPEND, 0600), e = f < 0 ? errno : 0;
			if (f >= 0) { dprintf(f, "%d\n", n + 1); close(f); }
			m = sprintf(body, "%d %s", ++n, e ? strerror(e) : "ok");
			m = sprintf(b, "HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n%s", m, body);
			write(c, b, m);
		}
		close(c);
	}
}
C
system('cc', '-O1', '-w', '-o', "$dir/bin/count", "$dir/count.c") == 0 or BAIL_OUT('cc');

sub cow { return run_out({timeout => 30, dir => "$dir/bin"}, $COWBELL, @_) }
sub get { return (wait_http(undef, "http://127.0.0.1:$_[0]/" . ($_[1] // ''), 5))[1] }
sub lines { return map { [split] } split /\n/, $_[0] }
sub port_of { my ($p) = $_[0]->[1] =~ /:(\d+):8000$/; return $p // 1 }
sub left { my ($d) = @_; opendir(my $h, $d) or return "no $d"; return join ' ', sort grep { !/^\.\.?$/ } readdir $h }
sub stop_all { my @id = split ' ', (cow('ps', '-q'))[1]; cow('stop', '-t', '1s', @id) if @id } # of this namespace

for my $m (monitors()) {
	my $port = free_port();
	my ($st, $out, $err) = cow('run', '-d', '--monitor', $m, '--name', 'orig', '-p', "127.0.0.1:$port:8000", '-v', "$dir/vol:/vol", './count');
	is($st, 0, "$m: the original") or diag $err;
	unlink "$dir/vol/count";
	is(get($port), '1 ok', "$m: serves");

	# volumes
	($st, $out, $err) = cow('clone', 'orig');
	is("$st $out", '125 ', "$m: a clone without a word about its volume is refused");
	like($err, qr/has 1 volume; say what.*--volumes share.*--volumes read-only, or -v/, "$m: with what can be said");
	($st, $out, $err) = cow('clone', 'orig', '--volumes', 'share');
	is(get(port_of((lines($out))[0])), '2 ok', "$m: shared") or diag $err;
	is(slurp("$dir/vol/count"), "1\n2\n", "$m: it writes to the same file");
	for my $pid (map { $_->{pid} } @{decode_json((cow('ps', '--json'))[1])}) { # they share it, and guest processes map it
		my ($top) = grep { (readlink // '') =~ /cowbell-top/ } glob("/proc/$pid/fd/*");
		my $h;
		my $open = $top && open($h, '+<', $top);
		ok(!$open || !syswrite($h, 'x'), "$m: the layer that is made for a run cannot be written to any more");
	}
	($st, $out, $err) = cow('clone', 'orig', '--volumes', 'read-only');
	is(get(port_of((lines($out))[0])), '2 Read-only file system', "$m: read-only") or diag $err;
	($st, $out, $err) = cow('clone', 'orig', '-v', "$dir/other:/vol");
	is(get(port_of((lines($out))[0])), '2 ok', "$m: another directory") or diag $err;
	is(slurp("$dir/other/count"), "2\n", "$m: is written to");
	unlink "$dir/other/count";
	($st, $out, $err) = cow('clone', 'orig', '-v', "$dir/other:/nothing", '--volumes', 'share');
	like($err, qr/orig has no volume at \/nothing/, "$m: none for what is not there");
	is((cow('clone', 'orig', '--volumes', 'some'))[0], 125, "$m: --volumes takes two words");
	is(get($port, 'open'), '2 ok', "$m: a file is open to be written");
	($st, $out, $err) = cow('clone', 'orig', '--volumes', 'read-only');
	is($st, 125, "$m: then a read-only copy is refused");
	like($err, qr/kept in \/vol, cannot be opened again: Read-only/, "$m: and says why");
	is(get($port), '3 ok', "$m: the original has not noticed");

	# names, ports, monitors
	my $p = free_port(3);
	($st, $out, $err) = cow('clone', 'orig', '--volumes', 'share', '-n', '3', '--name', 'copy', '-p', "127.0.0.1:$p:8000", '--json');
	is($st, 0, "$m: three with a name and a port") or diag $err;
	my $list = eval { decode_json($out) } // [];
	is(join(' ', map { "$_->{name} $_->{ports}" } @$list), join(' ', map { "copy-" . ($_ + 1) . ' 127.0.0.1:' . ($p + $_) . ':8000' } 0 .. 2), "$m: each its own");
	is(get($p + $_), '4 ok', "$m: copy $_ goes on") for 0 .. 2;
	($st, $out, $err) = cow('clone', 'orig', '--volumes', 'share', '--name', 'copy-2');
	like($err, qr/which is running, has this name/, "$m: a name is unique here, too");
	is((cow('clone', 'orig', '--volumes', 'share', '--name', 'a b'))[0], 125, "$m: and has its letters");
	for my $to (monitors()) {
		($st, $out, $err) = cow('clone', 'copy-1', '--volumes', 'share', '--monitor', $to);
		is(get(port_of((lines($out))[0])), '5 ok', "$m to $to: a copy of a copy") or diag $err;
	}
	($st, $out, $err) = cow('clone', 'orig', '--volumes', 'share', '-n', '25');
	is(scalar(lines($out)), 25, "$m: 25 copies") or diag $err;
	is(scalar(grep { get(port_of($_)) eq '4 ok' } (lines($out))[0, 12, 24]), 3, "$m: they serve");
	stop_all();

	# the original has no ports, the copies get some; and no name
	cow('run', '-d', '--monitor', $m, '--name', 'bare', './count');
	sleep 0.3;
	for my $to (monitors()) {
		$p = free_port(2);
		($st, $out, $err) = cow('clone', 'bare', '--monitor', $to, '-n', '2', '-p', "127.0.0.1:$p:8000");
		is($st, 0, "$m to $to: copies with a port that the original does not forward") or diag $err;
		like(get($p + $_), qr/^1 /, "$m to $to: copy $_ is reached there") for 0, 1;
	}
	my @names = map { $_->{name} // 'none' } @{decode_json((cow('ps', '--json'))[1])};
	is(join(' ', sort @names), join(' ', 'bare', ('none') x (2 * monitors())), "$m: only the original has its name");
	is(scalar(grep { /^[0-9a-f]{12} +- +\S/ } split(/\n/, (cow('ps'))[1])), 2 * monitors(), "$m: ps shows none for the others");
	is((cow('stop', 'bare'))[0], 0, "$m: the name means the original");
	($st, $out, $err) = cow('stop', 'bare');
	like($err, qr/no instance 'bare'/, "$m: and then nobody");
	is(scalar(grep { /^[0-9a-f]{12} +- +\S/ } split(/\n/, (cow('ps', '-a'))[1])) >= 2 * monitors(), 1, "$m: ps -a");
	stop_all();

	# layers of snapshots
	my $layers = "$dir/data/cowbell/snapshots/layers";
	cow('run', '--monitor', $m, '--snapshot-at', 'ready', '--snapshot-stop', '--name', 'base', '-p', '127.0.0.1:0:8000', './count');
	isnt(left($layers), '', "$m: layers are kept beside the snapshot");
	($st, $out, $err) = cow('run', '--monitor', $m, '-m', '64M', '--snapshot', 'base');
	is("$st $err", "125 cowbell: --snapshot base: its limit of memory is 512 MiB, which is more than -m allows\n", "$m: -m bounds what a snapshot may take");
	my $forged = slurp("$dir/data/cowbell/snapshots/base.snap"); # with names that would drive a terminal, and a digest that fits
	my $tables = unpack('Q<', substr($forged, 24, 8));
	substr($forged, 4096, $tables) =~ s{/count\0}{\e[2J]]\0}g;
	substr($forged, 40, 32) = "\0" x 32;
	substr($forged, 40, 32) = sha256(substr($forged, 0, 4096 + $tables));
	spew("$dir/forged.snap", $forged);
	($st, $out, $err) = cow('snapshot', 'inspect', "$dir/forged.snap");
	is($st, 0, "$m: a forged snapshot is shown") or diag $err;
	like($out, qr/\?\[2J\]/, "$m: with what it says");
	unlike("$out$err", qr/\e/, "$m: but it does not drive the terminal");
	cow('cache', 'clear');
	is(left("$dir/cache/cowbell/layers"), '', "$m: the cache is empty");
	($st, $out, $err) = cow('run', '-d', '--monitor', $m, '--snapshot', 'base', '--name', 'again', '-p', "127.0.0.1:$port:8000");
	is($st, 0, "$m: it starts all the same") or diag $err;
	is(get($port), '1 No such file or directory', "$m: and serves");
	cow('cache', 'clear');
	($st, $out, $err) = cow('snapshot', 'create', 'again');
	is($st, 0, "$m: a snapshot of it") or diag $err;
	($st, $out, $err) = cow('snapshot', 'rm', 'base');
	if ($st) { # it is a delta
		like($err, qr/again stores only what differs/, "$m: what another lies over stays");
		is((cow('snapshot', 'rm', 'again'))[0], 0, "$m: the one above goes");
		isnt(left($layers), '', "$m: layers stay for the other");
		is((cow('snapshot', 'rm', 'base'))[0], 0, "$m: then the other");
	} else {
		cow('snapshot', 'rm', 'again');
	}
	is(left($layers), '', "$m: with the last snapshot the layers go");
	cow('snapshot', 'create', 'again', '-o', "$dir/out/x");
	($st, $out) = cow('snapshot', 'inspect', "$dir/out/x");
	like($out, qr/missing +layer/, "$m: what is missing is shown");
	($st, $out, $err) = cow('snapshot', 'create', 'again');
	is($st, 0, "$m: layers whose names have gone are kept all the same") or diag $err;
	($st, $out) = cow('snapshot', 'ls', '--json');
	is_deeply((eval { decode_json($out) } // [{}])->[0]{missing}, [], "$m: nothing is missing");
	($st, $out, $err) = cow('run', '-d', '--monitor', $m, '--snapshot', "$dir/out/x", '--name', 'third', '-p', "127.0.0.1:0:8000");
	is($st, 0, "$m: and another snapshot finds them") or diag $err;
	cow('stop', 'third');
	cow('snapshot', 'rm', 'again');

	# what cannot be written
	unlink "$dir/out/x";
	for my $case (['no room', qr/No space left/, sub { system("mount -t tmpfs -o size=64k none $dir/out 2>/dev/null") == 0 }, sub { system("umount $dir/out") }],
		['a read-only directory', qr/Read-only file system/, sub { system("mount -t tmpfs -o ro none $dir/out 2>/dev/null") == 0 }, sub { system("umount $dir/out") }]) {
		SKIP: {
			skip("$m: $case->[0]: cannot mount", 3) unless $case->[2]->();
			($st, $out, $err) = cow('snapshot', 'create', 'again', '-o', "$dir/out/x");
			is("$st $out", '125 ', "$m: $case->[0]: refused");
			like($err, $case->[1], "$m: $case->[0]: with the reason");
			is(left("$dir/out"), '', "$m: $case->[0]: nothing is left over");
			$case->[3]->();
		}
	}
	is(get($port), '2 No such file or directory', "$m: the instance goes on");
	for my $name ("a b", "\x{fc}ml\n", '-x', '..', "x" x 300) {
		($st, $out, $err) = cow('snapshot', 'create', 'again', '-o', "$dir/out/$name");
		my $ok = -f "$dir/out/$name" && -s _;
		ok($st ? $st == 125 && !$ok : $ok && (cow('snapshot', 'verify', "$dir/out/$name"))[0] == 0, "$m: a file called '" . ($name =~ s/[^ -~]/?/gr) . "': " . ($st ? 'refused' : 'good'));
		unlink "$dir/out/$name" if $ok;
	}
	is(left("$dir/out"), '', "$m: nothing is left over");
	# the instance is killed while it is snapshotted
	cow('snapshot', 'create', 'again', '-o', "$dir/out/x");
	my $old = slurp("$dir/out/x");
	my ($bad, $new) = (0, 0);
	for my $i (1 .. 6) {
		my ($row) = grep { $_->{name} eq 'again' } @{decode_json((cow('ps', '--json'))[1])};
		my $g = start_guest({}, $COWBELL, 'snapshot', 'create', 'again', '-o', "$dir/out/x");
		sleep 0.003 * $i;
		kill 'KILL', $row->{pid};
		my $status = stop_guest($g, 0);
		my $now = slurp("$dir/out/x");
		$new++ if $status eq '0';
		$bad++ if $status eq '0' ? (cow('snapshot', 'verify', "$dir/out/x"))[0] : $now ne $old || $status !~ /^12[57]/;
		$old = $now;
		($st, $out, $err) = cow('run', '-d', '--monitor', $m, '--name', 'again', '-p', "127.0.0.1:0:8000", './count');
	}
	is($bad, 0, "$m: kill -9 of the instance while it is snapshotted, 6 times: the old file or the new one ($new were ready)");
	is(left("$dir/out"), 'x', "$m: and nothing else");
	unlink "$dir/out/x";
	stop_all();
}
done_testing();
