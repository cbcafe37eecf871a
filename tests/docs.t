#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The documents are true: files, directories and functions that they name exist, make targets too;
# `cowbell run --help` and `cowbell build --help` list the same options as their man pages.
use strict;
use warnings;
use FindBin;
use Test::More;

my $top = "$FindBin::Bin/..";
chdir $top or BAIL_OUT("$top: $!");
my $cowbell = $ENV{COWBELL} // 'build/release/cowbell';
my @docs = (glob('*.md'), glob('docs/*.md'), glob('examples/*/README.md'), glob('bench/*.md'));

my %function;
for my $f (split /\n/, `find abi lib guest monitor image cli tests bench -name '*.[chS]'`) {
	open(my $h, '<', $f) or next;
	while (<$h>) {
		$function{$1}++ while /\b([a-z_][a-z0-9_]*)\(/g;
		$function{$1}++ if /\bstruct ([a-z_][a-z0-9_]*)/;
		$function{$1}++ if /^([a-z_][a-z0-9_]*):/; # assembly
	}
}
open(my $mk, '<', 'Makefile') or BAIL_OUT('Makefile');
my $make = do { local $/; <$mk> } . `cat tests/unit/unit.mk 2>/dev/null`;

for my $d (@docs) {
	open(my $f, '<', $d) or next;
	my @wrong;
	my $code = 0;
	while (my $line = <$f>) {
		$code = !$code if $line =~ /^```/;
		while ($line =~ /`([^`]+)`/g) {
			my $word = $1;
			if ($word =~ m{^(?:abi|lib|guest|monitor|image|cli|tests|bench|docs|man|examples|tools|\.ci)/[\w./*-]*$} && $word !~ /^bench\/results/) {
				my @there = grep { -e } glob($word);
				push @wrong, "$word (line $.)" unless @there;
			} elsif ($word =~ /^([a-z_][a-z0-9_]*)\(\)$/) {
				push @wrong, "$word (line $.)" unless $function{$1};
			}
		}
		while ($line =~ /(?:^|`|\s)make ([a-z][a-z-]+)\b/g) {
			my $t = $1;
			next if !$code && $line !~ /`[^`]*make \Q$t\E/;
			push @wrong, "make $t (line $.)" unless $make =~ /^\Q$t\E:/m;
		}
		while ($line =~ /\]\(([^)#:]+)\)/g) {
			my ($dir) = $d =~ m{^(.*/)};
			push @wrong, "link $1 (line $.)" unless -e (($dir // '') . $1);
		}
	}
	ok(!@wrong, "$d names only what exists") or diag join("\n", @wrong);
}

for my $c (qw(run build)) {
	SKIP: {
		skip('not built', 2) unless -x $cowbell;
		my %help = map { $_ => 1 } `$cowbell $c --help` =~ /(?<![\w-])--([a-z][a-z-]*)/g;
		my $man = do { local $/; open(my $f, '<', "man/cowbell-$c.1") or die; <$f> };
		$man =~ s/\\-/-/g;
		$man =~ s/\\&//g;
		my %man = map { $_ => 1 } $man =~ /^\.(?:B|BR|TP|IP|BI)?[^\n]*?--([a-z][a-z-]*)/mg;
		$man{$1} = 1 while $man =~ /\\fB--([a-z][a-z-]*)/g;
		is_deeply([sort grep { !$man{$_} } keys %help], [], "$c: every option of --help is in the man page");
		is_deeply([sort grep { !$help{$_} } keys %man], [], "$c: every option of the man page is in --help");
	}
}
done_testing();
