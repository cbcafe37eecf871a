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
my @docs = (glob('*.md'), glob('docs/*.md'), glob('examples/README.md'), glob('bench/*.md'));

my %function;
for my $f (split /\n/, `find abi lib guest monitor image platform cli tests bench -name '*.[chS]'`) {
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
			if ($word =~ m{^(?:abi|lib|guest|monitor|image|platform|cli|tests|bench|docs|man|examples|tools|\.ci)/[\w./*-]*$} && $word !~ /^bench\/results/) {
				my @there = grep { -e } glob($word);
				push @wrong, "$word (line $.)" unless @there;
			} elsif ($word =~ /^([a-z_][a-z0-9_]*)\(\)$/) {
				push @wrong, "$word (line $.)" unless $function{$1};
			}
		}
		while ($line =~ /(?:^|`|\s)make ([a-z][a-z0-9-]+)\b/g) {
			my $t = $1;
			next if !$code && $line !~ /`[^`]*make \Q$t\E/;
			push @wrong, "make $t (line $.)" unless $make =~ /^\Q$t\E:/m;
		}
		while ($line =~ /\]\(([^)#:]+)\)/g) {
			my $link = $1;
			my ($dir) = $d =~ m{^(.*/)};
			push @wrong, "link $link (line $.)" unless -e (($dir // '') . $link);
		}
	}
	ok(!@wrong, "$d names only what exists") or diag join("\n", @wrong);
}

# Every command of `cowbell help` has a manual page (its own, or one that it shares), which names the same options as
# the --help of the commands that it is about.
sub options { return map { $_ => 1 } $_[0] =~ /(?<![\w-])--([a-z][a-z-]*)/g }
# With the help of its commands, if it has some.
sub help_of {
	my $text = `$cowbell $_[0] --help`;
	my ($commands) = $text =~ /^Commands:\n((?:  .*\n)+)/m;
	return join '', $text, map { scalar `$cowbell $_[0] $_ --help` } ($commands // '') =~ /^  ([a-z]+) /mg;
}
my %page; # file => its commands
for my $c (-x $cowbell ? `$cowbell help` =~ /^  ([a-z]+) /mg : ()) {
	next if $c eq 'help' || $c eq 'version';
	my $file = "man/cowbell-$c.1";
	$file = 'man/cowbell.1' if !-e $file;
	open(my $f, '<', $file) or next;
	my $first = <$f>;
	$file = "man/$1" if $first =~ m{^\.so man1/(\S+)};
	push @{$page{$file}}, $c;
}
for my $file (sort keys %page) {
	my $text = do { local $/; open(my $f, '<', $file) or BAIL_OUT("$file: $!"); <$f> };
	$text =~ s/\\([-&])/$1 eq '-' ? '-' : ''/ge;
	$text =~ s/^\.SH EXAMPLES.*?(?=^\.SH)//msg;
	$text =~ s/\bopenssl [^\n]*//g; # another program's
	$text =~ s/\\f[BIR]//g;
	my %man = options($text);
	my %help = map { options(help_of($_)) } @{$page{$file}};
	# verbs of the platform whose names are local commands, too
	%help = (%help, map { options(scalar `$cowbell $_ -a app --help`) } qw(push ps logs run)) if $file eq 'man/cowbell-platform.1';
	is_deeply([grep { !$man{$_} } sort keys %help], [], "$file: has every option of --help (@{$page{$file}})");
	# a page may also speak of options of a command that it names
	my %allowed = (%help, map { options(scalar `$cowbell $_ --help`) } $text =~ /\bcowbell (run|build)\b/g);
	is_deeply([grep { !$allowed{$_} } sort keys %man], [], "$file: every option is in --help");
	for my $c (@{$page{$file}}) {
		like($text, qr/cowbell $c\b/, "$file: is about $c") if $file ne 'man/cowbell.1';
	}
}
{
	my $text = do { local $/; open(my $f, '<', 'man/cowbell.1') or BAIL_OUT('man/cowbell.1'); <$f> };
	is_deeply([grep { $text !~ /^\.BR? .*\b$_\b/m } map { @$_ } values %page], [], 'man/cowbell.1 lists every command');
}
done_testing();
