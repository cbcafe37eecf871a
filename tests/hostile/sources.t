#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Sources that are wrong on purpose: nothing outside of the build's own directory is ever written, and each is refused with a reason.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use File::Temp qw(tempdir);
use IO::Compress::Gzip qw(gzip);
use IPC::Open2;
use JSON::PP;
use Tar;
use Test::More;
use Time::HiRes qw(time);

my $dir = tempdir(CLEANUP => 1);
mkdir "$dir/$_" for qw(data cache canary);
spew("$dir/canary/file", "alive\n");
spew("$dir/app.py", "print(1)\n");
my ($from, $to);
my $worker = do {
	local %ENV = (%ENV, XDG_DATA_HOME => "$dir/data", XDG_CACHE_HOME => "$dir/cache");
	open(my $saved, '>&', \*STDERR);
	open(STDERR, '>', '/dev/null');
	my $pid = open2($from, $to, $COWBELL, 'build', '--worker');
	open(STDERR, '>&', $saved);
	$pid;
};
$to->autoflush(1);
my $n = 0;
# One build: status, and all that was said.
sub build {
	my ($tar, %o) = @_;
	my $file = "$dir/source-" . ++$n;
	spew($file, $tar);
	print $to encode_json({op => 'build', tag => "t-$n", tar => $file, strip => JSON::PP::true, max_bytes => 4 << 20, max_entries => 200, lazy => JSON::PP::true, %o}), "\n";
	my ($text, $image) = ('');
	while (my $line = <$from>) {
		my $e = decode_json($line);
		$image = $e if $e->{event} eq 'image';
		$text .= "$e->{text}\n" if defined $e->{text};
		if ($e->{event} eq 'end') {
			unlink $file;
			return ($e->{status}, $text, $image);
		}
	}
	die "the worker ended";
}

my @good = (tar_entry('Procfile', "web: python3 app.py\n"), tar_entry('app.py', "print(1)\n"), tar_entry('requirements.txt', ''));
sub refused {
	my ($name, $why, @entries) = @_;
	my ($status, $text, $image) = build(@entries == 1 && ref $entries[0] ? ${$entries[0]} : tar_of(@good, @entries));
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($status && !$image && $text =~ $why, "$name: refused") or diag("$status $text");
}
sub taken {
	my ($name, $tar, $files) = @_;
	my ($status, $text, $image) = build($tar);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(!$status && $image && (!defined $files || $image->{files} == $files), "$name: taken") or diag("$status $text" . ($image ? " $image->{files}" : ''));
}
my $LINK = qr/leads out of the source|hard link/;

taken('a plain tar', tar_of(@good), 3);
gzip(\tar_of(@good), \my $gz);
taken('gzip', $gz, 3);

subtest 'names' => sub {
	refused($_, qr/'\.\.' in its path/, tar_entry($_, 'x')) for '../evil', 'a/../../evil', 'a/..', '..', './../x', 'a/b/../../../x';
	refused('absolute', qr/absolute/, tar_entry("$dir/canary/file", 'dead'));
	refused('absolute by PAX', qr/absolute/, tar_pax(path => "$dir/canary/file"), tar_entry('x', 'dead'));
	refused("'..' by PAX", qr/'\.\.'/, tar_pax(path => '../../canary/file'), tar_entry('x', 'dead'));
	refused("'..' by the prefix field", qr/'\.\.'/, tar_entry('file', 'dead', prefix => '../canary'));
	refused("'..' by a GNU long name", qr/'\.\.'/, tar_entry('././@LongLink', "../canary/file\0", type => 'L'), tar_entry('x', 'dead'));
	refused('70 deep', qr/too deep/, tar_pax(path => 'd/' x 70 . 'f'), tar_entry('x', 'x'));
	refused('a name of 300 bytes', qr/too long/, tar_pax(path => 'n' x 300), tar_entry('x', 'x'));
	taken('names with newlines, quotes, dashes and dots', tar_of(@good, map { tar_entry($_, 'x') } "a\nb", q(it's "so"; $(touch x) `y`), '-rf', '...', '..a', 'a..b/c', "\xff\xfe"), 10);
	taken('"." and slashes', tar_of(tar_entry('./', '', type => 5), map { my $e = $_; $e } (tar_entry('./Procfile', "web: python3 app.py\n"), tar_entry('.//app.py', "print(1)\n"))), 2);
};

subtest 'links' => sub {
	refused('to an absolute path', $LINK, tar_entry('l', '', type => 2, link => "$dir/canary"));
	refused('out by ..', $LINK, tar_entry('l', '', type => 2, link => '../../canary'));
	refused('out from below', $LINK, tar_entry('a/b/l', '', type => 2, link => '../../../x'));
	refused('out in the middle', $LINK, tar_entry('l', '', type => 2, link => 'a/../../x'));
	refused('.. behind a name (another link may be there)', $LINK, tar_entry('d/l', '', type => 2, link => '..'), tar_entry('m', '', type => 2, link => 'd/l/../x'));
	refused('to nothing', $LINK, tar_entry('l', '', type => 2, link => ''));
	refused('a file through a link', qr/through a link|below a file/, tar_entry('l', '', type => 2, link => 'd'), tar_entry('d/', '', type => 5), tar_entry('l/file', 'x'));
	refused('a directory through a link', qr/through a link|below a file/, tar_entry('l', '', type => 2, link => 'd'), tar_entry('d/', '', type => 5), tar_entry('l/e/', '', type => 5));
	refused('a hard link to an absolute path', $LINK, tar_entry('h', '', type => 1, link => "$dir/canary/file"));
	refused('a hard link out', $LINK, tar_entry('h', '', type => 1, link => '../canary/file'));
	refused('a hard link to a link', $LINK, tar_entry('l', '', type => 2, link => 'x'), tar_entry('h', '', type => 1, link => 'l'));
	refused('a hard link through a link', $LINK, tar_entry('d/f', 'x'), tar_entry('l', '', type => 2, link => 'd'), tar_entry('h', '', type => 1, link => 'l/f'));
	refused('a hard link to a directory', $LINK, tar_entry('d/', '', type => 5), tar_entry('h', '', type => 1, link => 'd'));
	taken('links that stay', tar_of(@good, tar_entry('bin/run', 'x'), tar_entry('l', '', type => 2, link => 'bin/run'), tar_entry('bin/up', '', type => 2, link => '../app.py'), tar_entry('bin/root', '', type => 2, link => '..'), tar_entry('h', '', type => 1, link => 'bin/run')), 8);
	taken('a file in the place of a link is no write through it', tar_of(@good, tar_entry('l', '', type => 2, link => 'app.py'), tar_entry('l', 'mine')), 4);
};

subtest 'what is no file' => sub {
	refused('a character device', qr/a device/, tar_entry('dev', '', type => 3, devmajor => 1, devminor => 3));
	refused('a block device', qr/a device/, tar_entry('dev', '', type => 4, devmajor => 8));
	refused('a FIFO', qr/a FIFO/, tar_entry('fifo', '', type => 6));
	refused('a directory and a file of one name', qr/twice/, tar_entry('d/', '', type => 5), tar_entry('d', 'x'));
	refused('a file and a directory of one name', qr/twice|below a file/, tar_entry('d', 'x'), tar_entry('d/', '', type => 5));
	refused('a file below a file', qr/below a file|twice/, tar_entry('f', 'x'), tar_entry('f/g', 'x'));
	taken('a name twice: the later wins', tar_of(@good, tar_entry('t', 'one'), tar_entry('t', 'two')), 4);
	taken('set-user-ID is dropped', tar_of(@good, tar_entry('s', 'x', mode => 06755)), 4);
};

subtest 'bombs' => sub {
	my $t = time;
	refused('more entries than may be', qr/more than 200 entries/, map { tar_entry("f$_", '') } 1 .. 250);
	refused('a large file', qr/more than 4 MiB/, tar_entry('big', 'x' x (5 << 20)));
	refused('many files', qr/more than 4 MiB/, map { tar_entry("m$_", 'x' x (1 << 20)) } 1 .. 6);
	gzip(\tar_of(@good, tar_entry('zeros', "\0" x (64 << 20))), \my $bomb);
	cmp_ok(length $bomb, '<', 100_000, '(64 MiB in less than 100 kB)');
	refused('a gzip bomb', qr/more than 4 MiB/, \$bomb);
	refused('a size beyond all bounds', qr/more than 4 MiB|no size|no tar|damaged/, tar_header(name => 'huge', size => 1 << 50));
	refused('a negative size', qr/no size|no tar|damaged|more than/, tar_header(name => 'neg', size => -512));
	refused('sparse, 1 TiB of nothing', qr/more than 4 MiB|no tar|damaged/, tar_pax('GNU.sparse.major' => 0, 'GNU.sparse.minor' => 1, 'GNU.sparse.name' => 's', 'GNU.sparse.size' => 1 << 40, 'GNU.sparse.numblocks' => 1, 'GNU.sparse.map' => '0,1'), tar_entry('s', 'x'));
	refused('a PAX header of megabytes', qr/./, tar_pax(comment => 'x' x (3 << 20)), tar_header(name => 'a', size => 5 << 20));
	cmp_ok(time - $t, '<', 20, 'all of it soon');
};

subtest 'damage' => sub {
	my $whole = tar_of(@good, tar_entry('data', 'd' x 5000));
	refused('empty', qr/no tar|empty/, \'');
	refused('only an end', qr/empty|no tar/, \("\0" x 1024));
	refused('random bytes', qr/no tar/, \join('', map { chr(($_ * 7919) % 251) } 1 .. 4000));
	refused('cut in a file', qr/damaged|no tar/, \substr($whole, 0, 4 * 512 + 1200));
	refused('a wrong checksum', qr/no tar|damaged/, tar_entry('x', 'x', checksum => 1));
	refused('gzip that ends early', qr/damaged|no tar/, \substr($gz, 0, length($gz) / 2));
	my $bad = $gz;
	substr($bad, length($bad) / 2, 4) = 'oops';
	refused('gzip with wrong bytes', qr/damaged|no tar|detected|no language|./, \$bad);
	refused('another compression', qr/no tar/, \("BZh9" . 'x' x 600));
	refused('a zip file', qr/no tar/, \("PK\x03\x04" . "\0" x 600));
	srand 5;
	my $odd = 0;
	for (1 .. 60) {
		my $t = $whole;
		substr($t, int rand length $t, 1) = chr int rand 256 for 1 .. 8;
		my ($status) = build($t);
		$odd++ if $status > 128;
	}
	is($odd, 0, 'sixty with changed bytes: no crash');
};

is(slurp("$dir/canary/file"), "alive\n", 'nothing outside was touched');
is(join(' ', map { s{.*/}{}r } glob "$dir/canary/*"), 'file', 'or made');
is(join(' ', glob("$dir/data/cowbell/tmp/*") // ''), '', 'no scratch directory is left');
taken('and the worker goes on', tar_of(@good), 3);
close $to;
waitpid $worker, 0;
is($?, 0, 'it ends with its input');
done_testing;
