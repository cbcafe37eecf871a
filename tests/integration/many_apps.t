#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# bench/34000 with fewer apps: each is delivered by the API, answers with its own text through the router, sleeps, and answers again.
# MANY_APPS=N: so many. Times are told, not judged: other tests run on the machine.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use JSON::PP;
use Test::More;

my $apps = $ENV{MANY_APPS} // 500;
my %needs = (python => 'python3', node => 'node', c => 'gcc', static => 'nginx', php => 'php', ruby => 'ruby', lua => 'lua5.4');
my @kinds = grep { have($needs{$_}) || ($_ eq 'static' && -x '/usr/sbin/nginx') || ($_ eq 'lua' && glob('/usr/bin/lua5*')) } qw(python node c static php ruby lua);
plan skip_all => 'no gcc' unless have('gcc');

for my $monitor (monitors()) {
	my $n = $monitor eq 'kvm' ? $apps : int($apps / 5) || 1;
	my $out = scratch();
	my $status = system('timeout', '-k', '10', '280', "$TOP/bench/34000", '--apps', $n, '--again', int($n / 10) || 1, '--monitor', $monitor, '--out', $out,
		'--kinds', join(',', @kinds), '--no-native');
	is($status, 0, "$monitor: $n apps");
	my $r = eval { decode_json(slurp("$out/34000.json")) } // {};
	is($r->{ok}, $n, "$monitor: each answers with its own text");
	is_deeply($r->{failures}, {}, "$monitor: none fails");
	is($r->{again}{ok}, $r->{again}{n}, "$monitor: those asked again from asleep answer");
	cmp_ok($r->{rss_peak} // 1e12, '<', 300e6, "$monitor: the server's memory");
	cmp_ok($r->{disk_per_app} // 1e12, '<', 64 << 10, "$monitor: disk per app");
	like(slurp("$out/34000.svg"), qr/^<svg .*<\/svg>\s*\z/s, "$monitor: the picture");
	diag(sprintf('%s: %d apps in %.1f s, first answer p50 %.1f p99 %.1f ms, from asleep p50 %.1f ms, %.1f KiB of disk an app', $monitor, $n,
		$r->{seconds} // 0, $r->{first}{p50} // 0, $r->{first}{p99} // 0, $r->{again}{p50} // 0, ($r->{disk_per_app} // 0) / 1024));
}
done_testing();
