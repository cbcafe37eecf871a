#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Many instances restored from one snapshot at once: all answer, none like another, each has little memory of its own, and
# all end when they are told to. COWBELL_MANY says how many (50).
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'needs python3' unless have('python3');
my $many = $ENV{COWBELL_MANY} // 50;
my ($free_kb) = slurp('/proc/meminfo') =~ /^MemAvailable:\s+(\d+)/m;
plan skip_all => "$many instances want more memory than the " . int($free_kb / 1024) . ' MB that are free' if $free_kb / 1024 < 512 + 16 * $many;
my ($files) = slurp('/proc/sys/kernel/pid_max') =~ /(\d+)/;
plan skip_all => "$many instances want more processes than kernel.pid_max allows" if 4 * $many > $files;

my $dir = scratch();
$ENV{"XDG_$_"} = "$dir/" . lc for qw(DATA_HOME CACHE_HOME STATE_HOME);
spew("$dir/app.py", <<'PY');
import http.server, os
class App(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.urandom(16).hex().encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a):
        pass
http.server.ThreadingHTTPServer(("", 8080), App).serve_forever()
PY
my $python = `python3 -c 'import sys; print(sys.executable)'`;
chomp $python;

# The body that is answered within some seconds, or ''.
sub ask {
	my ($port, $seconds) = @_;
	my $end = time + $seconds;
	while (time < $end) {
		my $s = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 5);
		if ($s) {
			my $text = eval {
				local $SIG{ALRM} = sub { die "late\n" };
				alarm 10;
				print $s "GET / HTTP/1.0\r\n\r\n";
				local $/;
				my $all = <$s>;
				alarm 0;
				$all;
			};
			alarm 0;
			return $1 if ($text // '') =~ m{^HTTP/1\.\d 200 .*?\r\n\r\n(.*)}s;
		}
		sleep 0.005;
	}
	return '';
}

# Private memory of a process and its children, KiB.
sub private_kb {
	my ($pid) = @_;
	my $sum = 0;
	for my $p ($pid, map { split ' ', slurp($_) } glob("/proc/$pid/task/*/children")) {
		$sum += $_ for slurp("/proc/$p/smaps_rollup") =~ /^Pss_(?:Anon|Shmem):\s+(\d+)/mg;
	}
	return $sum;
}

for my $m (monitors()) {
	my $snap = "$dir/app.$m.snap";
	my ($st, undef, $err) = run_out({timeout => 60}, $COWBELL, 'run', '--monitor', $m, '--snapshot-at', 'ready', '--snapshot-stop', '-o', $snap,
		'-p', '127.0.0.1:' . free_port() . ':8080', $python, "$dir/app.py");
	ok(-s $snap, "$m: a snapshot is taken when the app is ready") or diag($err), next;
	for (1, 2) { # what is learnt of a snapshot is learnt before all start at once
		my $port = free_port();
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '--snapshot', $snap, '-p', "127.0.0.1:$port:8080");
		like(ask($port, 20), qr/^[0-9a-f]{32}$/, "$m: it goes on from it") or diag slurp($g->{err});
		stop_guest($g);
	}
	my $first = free_port($many);
	my @ports = $first .. $first + $many - 1;
	my $start = time;
	my @g = map { start_guest({}, $COWBELL, 'run', '--monitor', $m, '--snapshot', $snap, '-p', "127.0.0.1:$_:8080") } @ports;
	my (%seen, $answered);
	for my $i (0 .. $#g) {
		my $body = ask($ports[$i], 30);
		$body =~ /^[0-9a-f]{32}$/ ? $answered++ : diag "instance $i: " . slurp($g[$i]{err});
		$seen{$body}++;
	}
	my $took = time - $start;
	is($answered, $many, "$m: all $many answer");
	is(scalar(keys %seen), $many, "$m: and none like another");
	my $kb = 0;
	$kb += private_kb($_->{pid}) for @g;
	note sprintf '%s: %d instances in %.2f s, %.2f MB private each', $m, $many, $took, $kb / 1024 / $many;
	cmp_ok($kb / 1024 / $many, '<', 12, "$m: each has less memory of its own than one that has booted");
	is(scalar(grep { ask($_, 10) =~ /^[0-9a-f]{32}$/ } @ports), $many, "$m: all answer again");
	kill 'TERM', map { $_->{pid} } @g;
	my %ends;
	$ends{stop_guest($_, 0, 20)}++ for @g;
	is_deeply(\%ends, {143 => $many}, "$m: all end by the signal");
}
done_testing;
