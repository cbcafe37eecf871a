#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The disk is full: what is refused says so, what runs goes on, and with room again all is well. The data directory is on a small file system of
# its own, in a mount namespace of this test.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Temp qw(tempdir);
use Platform;
use Tar;
use Test::More;

plan skip_all => 'needs root, to mount' if $>;
syscall(272, 0x20000) == 0 or plan skip_all => 'no mount namespace can be made';
system('mount', '--make-rprivate', '/') == 0 or plan skip_all => 'mount does not work here';
my $dir = tempdir(CLEANUP => 1);
mkdir "$dir/data";
system('mount', '-t', 'tmpfs', '-o', 'size=300m', 'tmpfs', "$dir/data") == 0 or plan skip_all => 'no tmpfs can be mounted';
END { local $?; system('umount', '-l', "$dir/data") if $dir }

my $p = Platform->start(data => "$dir/data", args => ['--max-source', '64M']);
sub source { my ($text, $more) = @_; return tar_of(tar_entry('app.py', $Platform::TEXT_APP), tar_entry('Procfile', "web: python3 app.py\n"), tar_entry('text', $text), $more ? tar_entry('more', $more) : ()) }
sub push_now { return $p->api('POST', "/apps/$_[0]/builds?wait=1", undef, {content => $_[1], headers => {'content-type' => 'application/x-tar'}}) }
sub serves { my ($app, $text, $name) = @_; my $r; $p->wait_for(10, sub { $r = $p->app($app); $r->{content} eq $text }); is($r->{content}, $text, $name) }
sub room { my ($free) = `df --output=avail -B1 $dir/data` =~ /(\d+)\s*\z/; return $free }
# Leave about so many bytes.
sub fill {
	my ($left) = @_;
	unlink "$dir/data/filler";
	my $n = room() - $left;
	system('fallocate', '-l', $n, "$dir/data/filler") == 0 or die 'fallocate' if $n > 0;
}

$p->ok_api(201, 'POST', '/apps', {name => 'full'});
is(push_now('full', source("one\n"))->{status}, 201, 'with room: built');
serves('full', "one\n", 'it answers');

fill(2 << 20);
my $big = join '', map { chr(($_ * 31) % 251) } 1 .. 3_000_000;
my $r = push_now('full', source("two\n", $big));
ok($r->{status} == 507 || $r->{status} == 422 || $r->{status} == 500, 'no room for the source: refused') or diag($r->{status});
like($r->{content}, qr/full|space/i, 'and told why');
serves('full', "one\n", 'the old release goes on');

fill(4 << 20);
$r = push_now('full', source("two\n", $big));
ok($r->{status} == 422 || $r->{status} == 507, 'no room to unpack or for the layer, or for the source beside what the store wrote: it fails')
	or diag("$r->{status} $r->{content}");
like($r->{json}{output} // $r->{content}, qr/full|space/i, 'and told why');
serves('full', "one\n", 'the old release goes on');
is($p->api('GET', '/apps/full')->{status}, 200, 'the API answers');

fill(0);
$r = push_now('full', source("three\n"));
ok($r->{status} >= 400, 'nothing left at all: refused') or diag($r->{status});
is($p->api('GET', '/apps')->{status}, 200, 'the API answers');

fill(100 << 20);
ok($p->wait_for(10, sub { push_now('full', source("four\n"))->{status} == 201 }), 'with room again: built');
serves('full', "four\n", 'and served');
is(scalar(() = glob "$dir/data/sources/*"), 0, 'no source is left');
is(scalar(() = glob "$dir/data/share/cowbell/tmp/*"), 0, 'no scratch directory is left');
$p->restart;
serves('full', "four\n", 'after a restart, too');
is($p->stop, 0, 'it stops well');
done_testing;
