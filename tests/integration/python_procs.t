#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Python's processes: subprocess, os.fork and multiprocessing (Pool, Queue, shared_memory, Manager, Pipe, locks; fork, spawn and
# forkserver) print here what they print on the host.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;

my $py = '/usr/bin/python3';
plan skip_all => "$py is not installed" unless have($py);
my $app = "$TOP/tests/apps/python";
my ($st, $out, $err) = run_out({dir => $app, timeout => 60}, $py, 'processes.py');
is($st, 0, 'the program runs on the host') or diag($err);
for my $m (monitors()) {
	my ($s, $o, $e) = run_out({dir => $app, timeout => 100}, $COWBELL, 'run', '--monitor', $m, '-m', '1G', '--', $py, 'processes.py');
	is("$o status $s", "$out status 0", "$m: and here") or diag(substr($e, -3000));
}
done_testing();
