#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Every conformance program runs on Linux first, which must pass every check of
# it, and then under each monitor; the outputs must be the same line by line.
# One test a check and monitor. COWBELL_MONITORS limits the monitors, COWBELL_CONF
# the programs (fork,wait); COWBELL_RUN are more options (--cpus 2).
use strict;
use warnings;
use FindBin;
use File::Temp qw(tempdir);
use Test::More;

my $top = "$FindBin::Bin/../..";
my $cowbell = $ENV{COWBELL} // "$top/build/release/cowbell";
my %only = map { $_ => 1 } split /,/, $ENV{COWBELL_CONF} // '';
my $dir = tempdir(CLEANUP => 1);

sub lines_of {
	my @cmd = @_;
	open(my $p, '-|', 'sh', '-c', 'exec "$@" </dev/null 2>&1', 'sh', 'timeout', '60', @cmd) or die "sh: $!";
	my @l = <$p>;
	close $p;
	chomp @l;
	return ($? >> 8, @l);
}

my @monitors = split /,/, $ENV{COWBELL_MONITORS} // 'process,kvm';
if (!-w '/dev/kvm') {
	diag('/dev/kvm cannot be used: the kvm monitor is not tested here');
	@monitors = grep { $_ ne 'kvm' } @monitors;
}

for my $src (sort glob("$FindBin::Bin/*.c")) {
	my ($name) = $src =~ m{([^/]+)\.c$};
	next if %only && !$only{$name};
	for my $link ('dynamic', $name =~ /^(mem|threads|signals)$/ ? 'static' : ()) {
		my $bin = "$dir/$name";
		my @static = $link eq 'static' ? ('-static') : ();
		if (system($ENV{CC} // 'gcc', '-O1', '-w', '-pthread', @static, $src, '-o', $bin)) {
			fail("$name $link: compiles");
			next;
		}
		my ($rc, @want) = lines_of($bin);
		is(join('|', grep { !/^(ok|value|done)/ } @want), '', "$name $link: Linux passes every check itself");
		for my $m (@monitors) {
			chdir $dir;
			my ($grc, @got) = lines_of($cowbell, 'run', '--monitor', $m, split(' ', $ENV{COWBELL_RUN} // ''), '--', $bin);
			my $i = 0;
			for my $w (@want) {
				my $g = $got[$i++] // 'nothing (ended early)';
				is($g, $w, "$m $name $link: $w");
				last if $g =~ /ended early/;
			}
			is($grc, $rc, "$m $name $link: exit status");
		}
	}
}
done_testing();
