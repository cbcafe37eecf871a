#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The router between varnishtest's clients and servers: tests/varnish/*.vtc, each with a router of its own.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Router;
use Test::More;

plan skip_all => 'varnishtest is missing' unless have('varnishtest');
for my $vtc (sort glob "$TOP/tests/varnish/*.vtc") {
	my $dir = scratch();
	my $r = Router->start(dir => $dir, backend => 0);
	my ($name) = $vtc =~ m{([^/]+)\.vtc$};
	my ($st, $out) = run_out({dir => $dir, timeout => 40}, 'varnishtest', '-t', '30', "-Dport=$r->{port}", "-Dsock=$dir/sock", $vtc);
	is($st, 0, $name) or diag substr($out, -4000), $r->log;
	like($r->log, qr/in flight 0$/m, "$name: nothing is left in flight");
	is($r->stop, 0, "$name: the router ends well");
}
done_testing();
