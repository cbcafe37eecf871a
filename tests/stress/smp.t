#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The stress of smp.c with injected scheduling, for STRESS_SECONDS in all: on several CPUs and on one, under both monitors, each
# round with another seed.
# STRESS_SEED repeats a round that failed: the seed stands in its name.
use strict;
use warnings;
use FindBin;
use File::Temp qw(tempdir);
use Test::More;

my $top = "$FindBin::Bin/../..";
my $cowbell = $ENV{COWBELL} // "$top/build/release/cowbell";
my $seconds = $ENV{STRESS_SECONDS} // ($ENV{CI} ? 300 : 40);
my $seed = $ENV{STRESS_SEED} // time;
my $dir = tempdir(CLEANUP => 1);
my $bin = "$dir/smp";

system($ENV{CC} // 'gcc', '-O1', '-pthread', "$FindBin::Bin/smp.c", '-o', $bin) and BAIL_OUT('smp.c does not compile');
chdir $dir;

my @kinds = (['process', '--cpus', 2], ['process', '--cpus', 4], ['process']);
unshift @kinds, ['kvm', '--cpus', 2], ['kvm', '--cpus', 4], ['kvm'] if -w '/dev/kvm';
my $end = time + $seconds;
my $each = int($seconds / 10);
$each = 5 if $each < 5;
$each = 30 if $each > 30;

for (my $round = 0; $round < @kinds || time < $end; $round++) {
	my ($monitor, @more) = @{$kinds[$round % @kinds]};
	my $s = $ENV{STRESS_SEED} // $seed + $round;
	my $wait = $each + 120;
	my @run = ($cowbell, 'run', '--monitor', $monitor, @more, '--chaos', $s, '--', $bin, $s, $each);
	my $out = `exec timeout -k 5 $wait @run 2>&1`;

	is($?, 0, "$monitor @more: seed $s") or diag($out);
}
done_testing();
