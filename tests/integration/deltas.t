#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Deltas: an app over its runtime's base is small, and right under either monitor; chains; parents that are missing or
# others. Files with flipped pages are refused at the start, also when they were good before. Pauses are short.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Copy;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

own_network();
plan skip_all => 'needs python3' unless have('python3');
my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
$ENV{XDG_STATE_HOME} = "$dir/state";
my $app = "$FindBin::Bin/../../examples/deltas";
my $python = `python3 -c 'import sys; print(sys.executable)'`;
chomp $python;
my @monitors = monitors();

sub cow { return run_out({timeout => 60}, $COWBELL, @_); }
sub pid_of {
	my ($name) = @_;
	my ($i) = grep { $_->{name} eq $name } @{decode_json((cow('ps', '--json'))[1])};
	return $i && $i->{pid};
}
sub inspect { return decode_json((cow('snapshot', 'inspect', '--json', $_[0]))[1])->[0]; }
# A snapshot answers `hello` under each monitor.
sub answers {
	my ($snap, $what) = @_;
	for my $to (@monitors) {
		my $port = free_port();
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap, '-p', "127.0.0.1:$port:8080", '-v', "$app:/app:ro");
		my ($code, $body) = wait_http($g, "http://127.0.0.1:$port/");
		is($body, "hello, world\n", "$what answers under $to") or diag slurp($g->{err});
		is(stop_guest($g), 143, "$what: it ends by its signal under $to");
	}
}

for my $m (@monitors) {
	my $port = free_port();
	my @run = ('-d', '--monitor', $m, '-p', "127.0.0.1:$port:8080", '-v', "$app:/app:ro");
	my ($st, $out, $err) = cow('run', @run, '--name', "base-$m", $python, "$app/base.py", '/app/hello.py');
	is($st, 0, "$m: the base runs") or diag $err;
	sleep 1;
	($st, $out, $err) = cow('snapshot', 'create', "base-$m", '--stop');
	is($st, 0, "$m: the base is taken") or diag $err;
	is(inspect("base-$m")->{parent}, undef, "$m: it stands alone");
	($st, $out, $err) = cow('run', @run, '--name', "app-$m", '--snapshot', "base-$m");
	is($st, 0, "$m: it goes on") or diag $err;
	sleep 0.3;
	kill 'USR1', pid_of("app-$m");
	is((wait_http(undef, "http://127.0.0.1:$port/"))[1], "hello, world\n", "$m: the app over it answers");
	($st, $out, $err) = cow('snapshot', 'create', "app-$m", '--json');
	my $created = eval { decode_json($out) } // {};
	ok($created->{delta}, "$m: its snapshot is a delta") or diag $err;
	cmp_ok($created->{bytes}, '<=', 1 << 20, "$m: of at most 1 MB");
	cmp_ok($created->{paused_ms}, '<', 50, "$m: the pause was short ($created->{paused_ms} ms)");
	is(inspect("app-$m")->{parent}{name}, "base-$m", "$m: it says what it lies over");
	like((cow('snapshot', 'ls'))[1], qr/^app-$m .* base-$m /m, "$m: and so does ls");
	answers("app-$m", "$m: delta");
	is((cow('snapshot', 'verify', "app-$m"))[0], 0, "$m: it verifies");
	($st, $out, $err) = cow('snapshot', 'create', "app-$m", '--full', '-o', "$dir/full-$m");
	is($st, 0, "$m: --full") or diag $err;
	is(inspect("$dir/full-$m")->{parent}, undef, "$m: which stands alone");
	answers("$dir/full-$m", "$m: full");
	is((http("http://127.0.0.1:$port/"))[1], "hello, world\n", "$m: the instance goes on");
	cow('stop', "app-$m");

	# over a delta
	($st, $out, $err) = cow('run', @run, '--name', "top-$m", '--snapshot', "app-$m");
	is((wait_http(undef, "http://127.0.0.1:$port/"))[1], "hello, world\n", "$m: an instance of the delta") or diag $err;
	($st, $out, $err) = cow('snapshot', 'create', "top-$m", '--stop', '-o', "$dir/top-$m");
	is($st, 0, "$m: a delta over the delta") or diag $err;
	is(inspect("$dir/top-$m")->{parent}{name}, "app-$m", "$m: it is one");
	answers("$dir/top-$m", "$m: chain of three");

	# parents
	($st, $out, $err) = cow('snapshot', 'rm', "base-$m");
	is($st, 125, "$m: rm of a parent is refused");
	like($err, qr/snapshot app-$m stores only what differs/, "$m: with the reason");
	my $store = "$dir/data/cowbell/snapshots";
	rename "$store/base-$m.snap", "$store/renamed-$m.snap";
	answers("app-$m", "$m: parent of another name");
	rename "$store/renamed-$m.snap", "$dir/away-$m";
	($st, $out, $err) = cow('run', '--snapshot', "app-$m", '-v', "$app:/app:ro");
	is($st, 125, "$m: without its parent it is refused");
	like($err, qr/base-$m, which is not here any more/, "$m: which is said");
	isnt((cow('snapshot', 'verify', "app-$m"))[0], 0, "$m: verify says it, too");
	copy("$dir/full-$m", "$store/base-$m.snap");
	($st, $out, $err) = cow('run', '--snapshot', "app-$m", '-v', "$app:/app:ro");
	like($err, qr/what is there now is another one/, "$m: nor over another one of that name");
	rename "$dir/away-$m", "$store/base-$m.snap";

	# bytes that are not what was written; the start of a good one has been remembered above
	for my $case (['base', "$store/base-$m.snap", 40], ['app', "$store/app-$m.snap", 40], ['patches', "$store/app-$m.snap", 4]) {
		my ($what, $file, $part) = @$case;
		my $whole = slurp($file);
		my $bad = $whole;
		my $at = $what eq 'patches' ? length($bad) - 20000 : int(length($bad) / 2);
		substr($bad, $at, 1) ^= "\x04";
		spew($file, $bad);
		($st, $out, $err) = cow('run', '--timeout', '3', '--snapshot', "app-$m", '-v', "$app:/app:ro");
		is($st, 125, "$m: a bit flipped in $what: refused");
		like($err, qr/damaged: a page's checksum differs/, "$m: with the reason");
		spew($file, $whole);
	}
	answers("app-$m", "$m: the good bytes again");
	is((cow('snapshot', 'rm', "base-$m", '-f'))[0], 0, "$m: rm --force");
	cow('snapshot', 'rm', "app-$m", '-f');
}

# 100 MB: how long it stands still, also for its clients
spew("$dir/large.py", <<'PY');
import http.server, os
memory = [os.urandom(1 << 20) for _ in range(100)]
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *a):
        pass
http.server.ThreadingHTTPServer(("", 8080), H).serve_forever()
PY
for my $m (@monitors) {
	my $port = free_port();
	cow('run', '-d', '--monitor', $m, '--name', "large-$m", '-p', "127.0.0.1:$port:8080", $python, "$dir/large.py");
	wait_http(undef, "http://127.0.0.1:$port/");
	my @paused;
	for (1 .. 3) {
		my ($st, $out, $err) = cow('snapshot', 'create', "large-$m", '-o', "$dir/large.snap", '--json');
		my $j = eval { decode_json($out) } // {};
		push @paused, $j->{paused_ms} // 1e9;
		cmp_ok($j->{bytes} // 0, '>', 100e6, "$m: 100 MB") or diag $err;
	}
	@paused = sort { $a <=> $b } @paused;
	cmp_ok($paused[0], '<', 1000, "$m: it stands still for a moment only (@paused)"); # how long is for bench/snapshots.py: other programs run now
	is((cow('snapshot', 'verify', "$dir/large.snap"))[0], 0, "$m: and is whole");
	cow('stop', "large-$m");
}
done_testing;
