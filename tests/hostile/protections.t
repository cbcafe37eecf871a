#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The guest's own protections, each probed from inside by a program that tries
# to break it, and the entropy of address randomisation, measured.
use strict;
use warnings;
no warnings 'portable';
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use Test::More;

my $tmp = scratch();
my $bin = "$tmp/protect";
system('gcc', '-O1', '-w', '-pthread', '-fPIE', '-pie', "$FindBin::Bin/protect.c", '-o', $bin) == 0 or BAIL_OUT('protect.c does not compile');

my @names = ('main program', 'stack', 'heap', 'mmap', 'library OS text', 'library OS data');
my @least = (20, 20, 12, 20, 12, 12);

# Bits that take both values over the runs: a lower bound of the entropy.
sub entropy {
	my @a = @_;
	my ($and, $or) = (~0, 0);
	$and &= $_, $or |= $_ for @a;
	my $bits = sprintf('%b', $or & ~$and);
	return $bits =~ tr/1//;
}

for my $m (monitors()) {
	for my $p (qw(page0 stack-guard kstack-guard nx-stack nx-heap libos-text-read-only libos-data-nx)) {
		my ($st, $out, $err) = run_out({dir => $tmp, timeout => 20}, $COWBELL, 'run', '--monitor', $m, '--', $bin, $p);
		is("$st $out", "0 held\n", "$m: $p") or diag $err;
	}
	my ($st, $out, $err) = run_out({dir => $tmp, timeout => 20}, $COWBELL, 'run', '--monitor', $m, '--', $bin, 'libos-stack-protector');
	ok($st != 0 && $out !~ /held/i && $err =~ /stack/, "$m: libos-stack-protector ends the instance") or diag "$st $out $err";
	my @runs;
	for (1 .. 24) {
		($st, $out, $err) = run_out({dir => $tmp, timeout => 20}, $COWBELL, 'run', '--monitor', $m, '--', $bin, 'addresses');
		push @runs, [map { hex } split ' ', $out] if $st == 0;
	}
	is(scalar @runs, 24, "$m: 24 runs print their addresses") or diag $err;
	for my $i (0 .. $#names) {
		my $e = entropy(map { $_->[$i] // 0 } @runs);
		ok($e >= $least[$i], "$m: ASLR of the $names[$i]: at least $least[$i] bits") or diag "measured $e bits";
		diag("$m: $names[$i]: $e bits");
	}
}
done_testing();
