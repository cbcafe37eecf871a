#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# A power failure while the store changes: what the disk has been given so far, without another sync, is mounted and looked at.
# A copy of the file behind a loop device is such a disk. (A store that does not sync fails here within seconds.)
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin";
use Cowbell;
use Test::More;
use Time::HiRes qw(sleep);

plan skip_all => 'needs root, mkfs.ext4 and mount' if $> || !have('mkfs.ext4', 'mount', 'unshare');
if (!$ENV{COWBELL_OWN_MOUNTS}) {
	plan skip_all => 'no mount namespace' if system('unshare -m true 2>/dev/null');
	$ENV{COWBELL_OWN_MOUNTS} = 1;
	exec 'unshare', '-m', $^X, $0;
}
my $dir = scratch();
my $tool = "$dir/store_tool";
mkdir "$dir/$_" for qw(disk after);
system("truncate -s 200M '$dir/file' && mkfs.ext4 -q -F '$dir/file'") == 0 or plan skip_all => 'mkfs.ext4 fails';
plan skip_all => 'no loop device' if system("mount -o loop '$dir/file' '$dir/disk' 2>/dev/null");
END { system('umount', '-l', "$dir/disk") if $dir && -d "$dir/disk/lost+found" }
system("cd '$TOP' && gcc -O1 -D_GNU_SOURCE -I. -o '$tool' tests/integration/store_tool.c image/dirs.c image/store/store.c image/store/blob.c " .
	"image/store/refs.c image/store/memo.c image/store/pending.c image/oci/oci.c lib/host/say.c lib/host/strings.c " .
	"-l:libnettle.a -l:libjansson.a") == 0 or BAIL_OUT('gcc');

for my $round (1 .. 4) {
	local $ENV{XDG_DATA_HOME} = "$dir/disk";
	my @p = map { start_guest({}, $tool, 'churn', $round * 10 + $_) } 1 .. 2;
	sleep($round == 4 ? 6 : 0.4 + rand(1));	# once for longer than the file system's own interval
	kill 'STOP', $_->{pid} for @p;
	system('cp', '--sparse=always', "$dir/file", "$dir/copy");
	stop_guest($_, 'KILL') for @p;
	is(system("mount -o loop '$dir/copy' '$dir/after'"), 0, 'the disk can be mounted') or last;
	$ENV{XDG_DATA_HOME} = "$dir/after";
	my ($st, $out) = run_out({}, $tool, 'verify');
	my ($line) = $out =~ /(.*)\n\z/;
	ok($st == 0 && $out =~ /^\d+ blobs, [1-9]/, "every name leads to a whole image: $line") or diag $out;
	my ($pst, undef, $err) = run_out({}, $COWBELL, 'prune');
	is($pst, 0, 'prune') or diag $err;
	($st, $out) = run_out({}, $tool, 'verify');
	ok($st == 0, 'and still') or diag $out;
	system('umount', "$dir/after");
}
done_testing();
