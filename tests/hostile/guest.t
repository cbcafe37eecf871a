#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Guests that mean harm (guest.c): each ends with a reason that names the cause,
# in bounded time, and leaves no process behind.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use Test::More;
use Time::HiRes qw(sleep);

my $tmp = scratch();
my $bin = "$tmp/guest";
system('gcc', '-O1', '-w', '-static', '-mfsgsbase', "-I$TOP", "$FindBin::Bin/guest.c", '-o', $bin) == 0
	or BAIL_OUT('guest.c does not compile');

my $forbidden = qr/host system call that its filter forbids/;
my $any_end = qr/the instance (died|was ended)|timed out|library OS|no memory behind/;
my $ring_reason = qr/instance was ended: /;

# name => [monitors, exit status or undef for any but 0, what standard error must say, options of cowbell run...]
my %cases = (
	'raw-syscalls' => ['process kvm', 0, qr//],
	(map { ("gate-$_" => ['process', 159, $forbidden]) }
		qw(openat ptrace ftruncate mmap-private mmap-anonymous mmap-image-writable mmap-above mmap-other-fd prot-bits
			clone-thread clone-child clone-high clone3 fork futex prctl-dumpable prctl-signal setpgid altstack yield)),
	(map { ("gate-$_" => ['process', 159, $forbidden, '--cpus', 2]) } qw(altstack-old thread-flags)),
	'thread-flood' => ['process', 0, qr/^\z/, '--cpus', 2, '--timeout', '20s'],
	'cpu-calls' => ['process', 0, qr/^\z/, '--cpus', 2, '--timeout', '20s'],
	'prctl-again' => ['process', 0, qr//],
	'clone-flood' => ['process', 0, qr//],
	'clone-flood-2' => ['process', 0, qr/^\z/, '--cpus', 2, '--timeout', '30s'],
	'clone-silent' => ['process', 125, qr/a new guest process did not report/],
	'clone-stillborn' => ['process', 125, qr/a new guest process did not report/],
	'clone-spin' => ['process', 0, qr//],
	'clone-exit' => ['process', 125, qr/ended by itself/],
	'clone-spin-loop' => ['process', 124, qr/timed out/, '--timeout', '1s'],
	'clone-ring' => ['process', 0, qr//, '--timeout', '20s'],
	'switch-nobody' => ['process', 124, qr/timed out/, '--timeout', '2s'],
	'wait-forever' => ['process', 124, qr/timed out/, '--timeout', '2s'],
	'gate-exit' => ['process', 125, qr/ended by itself/],
	'gate-unmap-all' => ['process', undef, qr/the instance died: /],
	'mprotect-image' => ['process', 139, qr//], # refused; the store is the app's own SIGSEGV
	'ring-tail' => ['process kvm', 125, $ring_reason],
	'ring-head' => ['process kvm', 125, $ring_reason],
	'ring-address' => ['process kvm', 125, $ring_reason],
	'ring-garbage' => ['process kvm', undef, $any_end, '--timeout', '10s'], # it may well hang itself
	'off-memory' => ['process kvm', undef, $any_end, '-m', '256M'],
	'wild-gs' => ['process kvm', undef, $any_end, '--timeout', '3s'],
	'smash-libos' => ['process kvm', undef, $any_end, '--timeout', '3s'],
	'smash-cpu1' => ['process kvm', undef, qr/the instance died/, '--cpus', 2, '--timeout', '20s'],
	'loop' => ['process kvm', 124, qr/timed out/, '--timeout', '1s'],
	'loop-doorbell' => ['process kvm', 124, qr/timed out/, '--timeout', '1s'],
	'loop-in-libos' => ['process kvm', 124, qr/timed out/, '--timeout', '1s'],
	'loop-blocked' => ['process kvm', 124, qr/timed out/, '--timeout', '1s'],
	'exhaust' => ['process kvm', undef, qr/memory/, '-m', '64M', '--timeout', '20s'],
	'privileged' => ['process kvm', 139, qr//],
	'other-port' => ['process kvm', undef, qr//],
);

sub guests {
	my $n = 0;
	for my $f (glob '/proc/[0-9]*/comm') {
		open(my $h, '<', $f) or next;
		my $name = <$h> // '';
		next unless $name =~ /^cowbell-guest/;
		my ($pid) = $f =~ /(\d+)/;
		$n++ if slurp("/proc/$pid/status") =~ /^PPid:\s+1$/m;
	}
	return $n;
}

my $orphans = guests();
for my $m (monitors()) {
	for my $name (sort keys %cases) {
		my ($where, $want, $says, @opt) = @{$cases{$name}};
		next unless $where =~ /\b$m\b/;
		my ($st, $out, $err) = run_out({dir => $tmp, timeout => 40}, $COWBELL, 'run', '--monitor', $m, @opt, '--', $bin, $name);
		my $ok = defined $want ? $st == $want : ($st != 0 && $st != 124 + 128);
		ok($ok && $err =~ $says && ($out =~ /still here/ xor $st != 0), "$m: $name") or diag "status $st\n$out\n$err";
	}
}
# Requests that another CPU changes while they are looked at: the program may end in any way, the monitor by itself, not by a signal.
for my $m (monitors()) {
	my $st = system('sh', '-c', 'exec "$@" >/dev/null 2>&1 </dev/null', 'sh', 'timeout', '-k', 5, 40, $COWBELL, 'run', '--monitor', $m, '--cpus', 2,
		'--timeout', '4s', '--', $bin, 'ring-race');
	ok($st && !($st & 127) && $st >> 8 != 128 + 9, "$m: requests that change under the monitor's eyes") or diag "wait status $st";
}
# A library OS that hangs hears no signal, and its user still gets rid of it; a program that only blocks it goes on.
for my $m (monitors()) {
	my @kill = ('timeout', '--preserve-status', '-s', 'TERM', '1', $COWBELL, 'run', '--monitor', $m);
	my ($st, undef, $err) = run_out({dir => $tmp, timeout => 40}, @kill, '--', $bin, 'loop-in-libos');
	ok($st == 143 && $err =~ /the instance was ended: it did not react to SIGTERM within 5 s/, "$m: SIGTERM ends a library OS that hangs")
		or diag "status $st\n$err";
	($st, undef, $err) = run_out({dir => $tmp, timeout => 40}, @kill, '--timeout', '9s', '--', $bin, 'loop-blocked');
	ok($st == 124 && $err =~ /timed out/, "$m: and not a program that blocks it") or diag "status $st\n$err";
}
# A monitor that is killed takes all its guest processes with it.
if (grep { $_ eq 'process' } monitors()) {
	for my $how (qw(clone-spin-loop clone-flood-loop)) {
		my $g = start_guest({dir => $tmp}, $COWBELL, 'run', '--monitor', 'process', '--', $bin, $how);
		for (1 .. 100) { last if slurp($g->{out}) =~ /ready/; sleep 0.1 }
		like(slurp($g->{out}), qr/ready/, "$how runs");
		kill 'KILL', $g->{pid};
		stop_guest($g);
		for (1 .. 100) { last if guests() == $orphans; sleep 0.1 }
	}
}
is(guests(), $orphans, 'no guest process outlives its monitor');
done_testing();
