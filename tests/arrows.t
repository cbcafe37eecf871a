#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Dependencies point down only: read what the compiler read (.d files of the build) and fail on an arrow that points up.
use strict;
use warnings;
use FindBin;
use Test::More;

my $top = "$FindBin::Bin/..";
# who may include whom, beyond itself; cli sees only the public faces of the parts it starts
my %may = (
	abi => [],
	lib => [qw(abi/)],
	guest => [qw(abi/ lib/)],
	monitor => [qw(abi/ lib/)],
	image => [qw(abi/ lib/)],
	platform => [qw(abi/ lib/)],
	cli => [qw(abi/ lib/ monitor/monitor.h monitor/snapshot.h image/image.h platform/platform.h)],
);
my @deps = sort split /\n/, `find $top/build -path '*-obj/*' -name '*.d' 2>/dev/null`;
plan skip_all => 'nothing is built yet: make' unless @deps;

my (%bad, %seen, %files);
for my $d (@deps) {
	open(my $f, '<', $d) or next;
	local $/;
	my ($rule) = split /\n[^ \t]/, <$f>;	# the first rule; the rest are empty targets for headers
	$rule =~ s/^[^:]*://;
	$rule =~ s/\\\n/ /g;
	my ($src, @inc) = grep { !m{^(/|build/)} } split ' ', $rule;
	next unless $src && -e "$top/$src";
	my ($part) = split m{/}, $src;
	my $guest = $d =~ m{/guest-obj/};
	$files{$part}++;
	for my $i (@inc) {
		my ($to) = split m{/}, $i;
		next if $seen{"$src $i"}++;
		next if $to eq $part && !($guest && $i =~ m{^lib/host/});
		next if grep { m{/$} ? index($i, $_) == 0 && !($part eq 'guest' && $i =~ m{^lib/host/}) : $i eq $_ } @{$may{$part} // []};
		push @{$bad{$part}}, "$src includes $i";
	}
}
for my $part (sort keys %files) {
	ok(!$bad{$part}, "$part: $files{$part} files point down only") or diag join("\n", @{$bad{$part}});
	ok(exists $may{$part}, "$part is a layer that ARCHITECTURE.md knows");
}
# the same for headers, which have no .d file of their own: by their text
my %hbad;
for my $h (split /\n/, `cd $top && find abi lib guest monitor image platform cli -name '*.h'`) {
	my ($part) = split m{/}, $h;
	open(my $f, '<', "$top/$h") or next;
	while (<$f>) {
		my ($i) = m{^\s*#\s*include\s+"((?:abi|lib|guest|monitor|image|platform|cli)/[^"]+)"} or next;
		next if index($i, "$part/") == 0 || grep { m{/$} ? index($i, $_) == 0 : $i eq $_ } @{$may{$part}};
		push @{$hbad{$part}}, "$h includes $i";
	}
}
ok(!%hbad, 'headers point down only') or diag join("\n", map { @$_ } values %hbad);
done_testing();
