#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Container layers that mean harm. Each is refused with one line that says what is wrong, and leaves nothing in the store; and
# what only looks like harm (absolute and looping links, odd tar formats) is taken, and stays inside of the guest.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use Digest::SHA qw(sha256_hex);
use IO::Compress::Gzip qw(gzip);
use Tar;
use Test::More;

my $tmp = scratch();
$ENV{XDG_DATA_HOME} = "$tmp/data";
$ENV{XDG_CACHE_HOME} = "$tmp/cache";
my $oci = "$tmp/oci";

# What the store holds, by name and size. Its lock files stay once they are made.
sub store_state {
	my @v = sort split /\n/, `cd $tmp/data/cowbell 2>/dev/null && find blobs refs memos tmp -type f -printf '%p %s\n' 2>/dev/null`;
	return join "\n", @v;
}

sub gz {
	my $plain = shift;
	gzip(\$plain => \my $out, -Time => 0);
	return $out;
}

sub gz_layer {
	my ($plain, %o) = @_;
	return {data => gz($plain), diff => $plain, type => 'application/vnd.oci.image.layer.v1.tar+gzip', %o};
}

sub pipe_through {
	my ($plain, @cmd) = @_;
	spew("$tmp/plain", $plain);
	my (undef, $out) = run_out({}, 'sh', '-c', join(' ', @cmd) . " < $tmp/plain");
	return $out;
}

my @refused; # [name, layers, what the line must say, options of cowbell...]
sub refused { push @refused, [@_] }
sub tar_refused { my ($name, $entries, $re, @opt) = @_; refused($name, [tar_of(@$entries)], $re, @opt) }

# --- names ---
tar_refused('..', [tar_entry('../evil', 'x')], qr/leads out of the image/);
tar_refused('.. inside', [tar_entry('a/b/../../../evil', 'x')], qr/leads out of the image/);
tar_refused('.. that stays inside', [tar_entry('a/../b', 'x')], qr/leads out of the image/);
tar_refused('.. as a directory', [tar_entry('..', '', type => '5')], qr/leads out of the image/);
tar_refused('.. by PAX', [tar_pax(path => 'a/../../evil'), tar_entry('good', 'x')], qr/leads out of the image/);
tar_refused('.. by GNU long name', [tar_entry('././@LongLink', "../evil\0", type => 'L'), tar_entry('good', 'x')], qr/leads out of the image/);
tar_refused('.. by prefix', [tar_entry('evil', 'x', prefix => '..')], qr/leads out of the image/);
tar_refused('absolute', [tar_entry('/etc/passwd', 'x')], qr/absolute name/);
tar_refused('absolute behind slashes', [tar_entry('///etc/passwd', 'x')], qr/absolute name/);
tar_refused('absolute by PAX', [tar_pax(path => '/etc/passwd'), tar_entry('good', 'x')], qr/absolute name/);
tar_refused('empty name', [tar_entry('', 'x')], qr/has no name/);
tar_refused('a name of NUL bytes', [tar_entry("\0\0\0evil", 'x')], qr/has no name/);
tar_refused('a long name', [tar_pax(path => 'a' x 256), tar_entry('x', 'x')], qr/more than 255 bytes/);
tar_refused('a long path', [tar_pax(path => join('/', ('a' x 200) x 30)), tar_entry('x', 'x')], qr/too long a path/);
tar_refused('a deep path', [tar_pax(path => 'd/' x 1000 . 'x'), tar_entry('x', 'x')], qr/too deep|too long/);
tar_refused('a name that forges a line', [tar_pax(path => "/x\ncowbell: all is well\e[2J"), tar_entry('x', 'x')], qr/^cowbell: layer [^\n]*\?cowbell: all is well\?\[2J[^\n]*\n\z/);
tar_refused('the root as a file', [tar_entry('./', 'x', type => '0')], qr/root|directory|damaged|twice/);

# --- links ---
tar_refused('a file through a link', [tar_entry('l', '', type => '2', link => '/tmp'), tar_entry('l/evil', 'x')], qr/through a symbolic link/);
tar_refused('a directory through a link', [tar_entry('l', '', type => '2', link => '.'), tar_entry('l/d/', '', type => '5')], qr/through a symbolic link/);
tar_refused('a link through a link', [tar_entry('l', '', type => '2', link => '..'), tar_entry('l/m', '', type => '2', link => 'x')], qr/through a symbolic link/);
tar_refused('below a file', [tar_entry('f', 'x'), tar_entry('f/x', 'x')], qr/no directory/);
tar_refused('an empty link', [tar_entry('l', '', type => '2', link => '')], qr/link to nothing/);
tar_refused('an endless link', [tar_pax(linkpath => 'x' x 5000), tar_entry('l', '', type => '2', link => 'x' x 100)], qr/too long a target/);
tar_refused('hard link to ..', [tar_entry('h', '', type => '1', link => '../../../etc/passwd')], qr/hard link.*leads out/);
tar_refused('hard link to an absolute name', [tar_entry('h', '', type => '1', link => '/etc/passwd')], qr/hard link.*absolute/);
tar_refused('hard link to nothing', [tar_entry('h', '', type => '1', link => 'etc/passwd')], qr/not in the layer/);
tar_refused('hard link to a later file', [tar_entry('h', '', type => '1', link => 'f'), tar_entry('f', 'x')], qr/not in the layer/);
tar_refused('hard link through a link', [tar_entry('l', '', type => '2', link => '/etc'), tar_entry('h', '', type => '1', link => 'l/passwd')], qr/through a symbolic link/);
tar_refused('hard link to a directory', [tar_entry('d/', '', type => '5'), tar_entry('h', '', type => '1', link => 'd')], qr/directory/);
tar_refused('hard link to itself', [tar_entry('h', '', type => '1', link => 'h')], qr/not in the layer/);
refused('hard link to a lower layer', [tar_of(tar_entry('f', 'x')), tar_of(tar_entry('h', '', type => '1', link => 'f'))], qr/not in the layer/);

# --- types ---
tar_refused('a block device', [tar_entry('sda', '', type => '4', devmajor => 8)], qr/device/);
tar_refused('a character device', [tar_entry('mem', '', type => '3', devmajor => 1, devminor => 1)], qr/device/);
tar_refused('a block device in /dev', [tar_entry('dev/sda', '', type => '4', devmajor => 8)], qr/device/);
tar_refused('a device as an overlay whiteout', [tar_entry('etc', '', type => '3')], qr/device/);
tar_refused('an unknown device in /dev', [tar_entry('dev/kvm', '', type => '3', devmajor => 10, devminor => 232)], qr/device/);

# --- twice ---
tar_refused('a file twice', [tar_entry('f', 'x'), tar_entry('f', 'y')], qr/twice/);
tar_refused('a file twice by other spellings', [tar_entry('a/f', 'x'), tar_entry('./a//f', 'y')], qr/twice/);
tar_refused('a directory, then a file', [tar_entry('d/x', 'x'), tar_entry('d', 'y')], qr/twice/);
tar_refused('a file, then a link', [tar_entry('f', 'x'), tar_entry('f', '', type => '2', link => 'g')], qr/twice/);

# --- whiteouts ---
tar_refused('a whiteout of nothing', [tar_entry('.wh.', '')], qr/whiteout of nothing/);
tar_refused('a whiteout of .', [tar_entry('d/.wh..', '')], qr/whiteout of nothing/);
tar_refused('a whiteout of ..', [tar_entry('d/.wh...', '')], qr/whiteout of nothing/);
tar_refused('a reserved whiteout', [tar_entry('.wh..wh.plnk', '')], qr/reserved/);
tar_refused('a whiteout that is a directory', [tar_entry('.wh.x/', '', type => '5')], qr/whiteout/);
tar_refused('a whiteout that is a link', [tar_entry('.wh.x', '', type => '2', link => '/etc')], qr/whiteout/);
tar_refused('a file below a whiteout', [tar_entry('.wh.x/y', 'x')], qr/whiteout/);
tar_refused('a whiteout with contents', [tar_entry('.wh.x', 'contents')], qr/whiteout with contents/);

# --- numbers ---
tar_refused('a huge owner', [tar_pax(uid => '99999999999'), tar_entry('f', 'x')], qr/owner/);
tar_refused('the owner that is nobody\'s', [tar_entry('f', 'x', uid => 4294967295)], qr/owner/);
tar_refused('a negative owner', [tar_entry('f', 'x', gid => -5)], qr/owner|damaged/);
tar_refused('a negative size', [tar_entry('f', '', size => -1)], qr/damaged|negative/);
tar_refused('a huge size', [tar_header(name => 'f', size => 1 << 62)], qr/unpacks to more|damaged/);
tar_refused('a wrong checksum', [tar_entry('f', 'x'), tar_entry('g', 'x', checksum => 1)], qr/damaged tar/);

# --- limits ---
tar_refused('more bytes than the limit', [tar_entry('f', 'x' x 200000)], qr/unpacks to more than 100000 bytes/, '--max-size', '100000');
tar_refused('more entries than the limit', [map { tar_entry("f$_", '') } 1 .. 11], qr/more than 10 entries/, '--max-entries', '10');
tar_refused('directories that are only implied', [tar_entry(join('/', 1 .. 20), '')], qr/entries/, '--max-entries', '10');
tar_refused('10,000 times the same directory', [tar_entry('d/', '', type => '5') x 10000], qr/more than 9999 entries/, '--max-entries', '9999');
tar_refused('a sparse file of a terabyte', [tar_header(name => 'f', type => 'S', size => 512, magic => "ustar  \0",
	raw => {386 => sprintf("%011o\0%011o\0", 0, 512), 483 => Tar::base256(1 << 40, 12)}), 'x' x 512], qr/unpacks to more/);
tar_refused('a PAX sparse file of a terabyte', [tar_pax('GNU.sparse.major' => 1, 'GNU.sparse.minor' => 0, 'GNU.sparse.name' => 'f',
	'GNU.sparse.realsize' => 1 << 40), tar_entry('x', Tar::padded("1\n0\n1\n") . 'x')], qr/unpacks to more/);
tar_refused('a huge PAX header', [tar_pax(comment => 'x' x (3 << 20)), tar_entry('f', 'x')], qr/damaged tar/);
tar_refused('a hundred headers for one entry', [tar_pax(comment => 'x') x 100, tar_entry('f', 'x')], qr/damaged tar/);
{
	my $bomb = gz("\0" x (32 << 20)) x 100; # 3.2 GB of zeros in 3 MB, one gzip member after the other
	my $tar = gz(tar_of(tar_entry('f', 'x'))) . $bomb;
	refused('a gzip bomb behind the end of the tar', [{data => $tar, diff_id => '0' x 64, type => 'application/vnd.oci.image.layer.v1.tar+gzip'}],
		qr/unpacks to more/);
	my $big = gz(tar_header(name => 'f', size => 3 << 30)) . $bomb;
	refused('a gzip bomb as a file', [{data => $big, diff_id => '0' x 64, type => 'application/vnd.oci.image.layer.v1.tar+gzip'}], qr/unpacks to more/);
}

# --- streams ---
my $good = tar_of(tar_entry('f', 'x' x 100000));
refused('no tar', ['this is no tar file at all, but a text ' x 100], qr/damaged tar|no tar/);
refused('an empty blob', [''], qr/is empty|size/);
refused('xz', [{data => "\xfd7zXZ\0" . 'x' x 600}], qr/compressed with xz/);
refused('bzip2', [{data => 'BZh91AY&SY' . 'x' x 600}], qr/compressed with bzip2/);
refused('a compressed tar in a compressed tar', [{data => gz(gz($good)), diff => gz($good)}], qr/damaged tar|no tar/);
refused('a tar cut in a file', [substr($good, 0, 5000)], qr/damaged tar/);
refused('a tar cut in a header', [substr($good, 0, 200)], qr/damaged tar|no tar/);
refused('gzip cut off', [{data => substr(gz($good), 0, -10), diff => $good}], qr/truncated/);
refused('gzip without its last byte', [{data => substr(gz($good), 0, -1), diff => $good}], qr/truncated/);
refused('damaged gzip', [{data => do { my $d = gz($good); substr($d, -6, 1) ^= "\x55"; $d }, diff => $good}], qr/damaged gzip/);
refused('garbage behind gzip', [{data => gz($good) . 'garbage', diff => $good}], qr/behind the end/);
refused('garbage behind the tar', [$good . 'garbage'], qr/behind the end/);
refused('a second tar behind the first', [$good . tar_of(tar_entry('hidden', 'x'))], qr/behind the end/);
if (have('zstd')) {
	my $z = pipe_through($good, 'zstd -qc');
	refused('zstd cut off', [{data => substr($z, 0, -3), diff => $good}], qr/truncated/);
	refused('garbage behind zstd', [{data => $z . 'garbage', diff => $good}], qr/behind the end/);
}
refused('a blob with another digest', [{data => $good, digest => 'a' x 64}], qr/digest/);
refused('a damaged blob', [{data => do { my $d = $good; substr($d, 0, 3) = 'zzz'; $d }, digest => sha256_hex($good), diff => $good}], qr/digest/);
refused('a blob with another size', [{data => $good, size => length($good) + 1}], qr/bytes|size/);
refused('a wrong diff_id', [{data => gz($good), diff_id => 'b' x 64}], qr/diff_id/);
refused('a good layer, then a bad one', [tar_of(tar_entry('f', 'x')), tar_of(tar_entry('../f', 'x'))], qr/leads out/);

my $before;
{
	oci_dir($oci, [tar_of(tar_entry('before', 'x'))]);
	run_out({}, $COWBELL, 'build', '--from', "oci:$oci", '-t', 'before');
	$before = store_state();
}
isnt($before, '', 'there is an image in the store');
for my $c (@refused) {
	my ($name, $layers, $re, @opt) = @$c;
	oci_dir($oci, $layers);
	my ($st, $out, $err) = run_out({timeout => 60}, $COWBELL, 'build', @opt, '--from', "oci:$oci", '-t', 'evil');
	$err = join '', grep { !/^----->|^ {7}/ } split /^/m, $err;
	my $line = () = $err =~ /\n/g;
	ok($st == 125 && $err =~ $re && $line == 1 && store_state() eq $before, "refused: $name")
		or diag "status $st, stdout: $out stderr: $err" . (store_state() ne $before ? "\nstore: " . store_state() : '');
	$before = store_state();
}

# --- what only looks bad --------------------------------------------------------------------------------
SKIP: {
	my ($busybox) = grep { -x $_ } '/bin/busybox', '/usr/bin/busybox';
	skip 'no busybox', 1 unless $busybox;
	my $box = slurp($busybox);
	my @base = (tar_entry('./', '', type => '5', mode => 0755), tar_entry('bin/', '', type => '5', mode => 0755), tar_entry('bin/busybox', $box, mode => 0755));
	my $sh = sub { # run a command of busybox in the image
		my ($layers, $line, @opt) = @_;
		oci_dir($oci, $layers);
		return run_out({}, $COWBELL, 'run', @opt, "oci:$oci", '/bin/busybox', @$line);
	};
	my $all = sub { # run several, one after the other: the last one's status, and what all wrote
		my ($layers, @lines) = @_;
		my ($st, $out, $err) = (0, '', '');
		oci_dir($oci, $layers);
		for my $l (@lines) {
			my ($s, $o, $e) = run_out({}, $COWBELL, 'run', "oci:$oci", @$l);
			($st, $out, $err) = ($s, $out . $o, $err . $e);
		}
		return ($st, $out, $err);
	};
	my $bb = '/bin/busybox';
	for my $m (monitors()) {
		my @m = ('--monitor', $m);
		my ($st, $out, $err) = $sh->([tar_of(@base, tar_entry('abs', '', type => '2', link => '/etc/passwd'),
			tar_entry('up', '', type => '2', link => '../../../../../../etc/passwd'), tar_entry('etc/passwd', "guest only\n"))],
			['cat', '/abs', '/up'], @m);
		is($out, "guest only\n" x 2, "$m: absolute and rising links end inside of the guest") or diag $err;
		($st, $out, $err) = $sh->([tar_of(@base, tar_entry('a', '', type => '2', link => 'b'), tar_entry('b', '', type => '2', link => 'a'),
			tar_entry('host', '', type => '2', link => '/proc/1/root/etc/shadow'))], ['cat', '/a', '/host'], @m);
		ok($st && $out eq '' && $err =~ m{/a'?: Too many levels of symbolic links} && $err =~ m{/host'?: No such}, "$m: looping links loop, nothing of the host is seen") or diag "$st $out $err";
	}
	my $long = join('/', ('n' x 100) x 3) . '/file';
	my ($st, $out, $err) = $all->([gz_layer(tar_of(@base,
		tar_entry('././@LongLink', "$long\0", type => 'L', magic => "ustar  \0"), tar_entry(substr($long, 0, 100), "gnu\n", magic => "ustar  \0"),
		tar_pax(path => "pax/\xc3\xa4", uid => 4000000000), tar_entry('x', "pax\n"),
		tar_entry('old', "old\n", magic => "\0" x 8),
		tar_pax('GNU.sparse.major' => 1, 'GNU.sparse.minor' => 0, 'GNU.sparse.name' => 'sparse', 'GNU.sparse.realsize' => 1 << 20),
		tar_entry('x', Tar::padded("1\n1048000\n5\n") . 'hole!'),
		tar_entry('stat', '', type => '1', link => './bin/busybox')))],
		[$bb, 'cat', "/$long", "/pax/\xc3\xa4", '/old'], [$bb, 'dd', 'if=/sparse', 'bs=1', 'skip=1048000', 'count=5', 'status=none'],
		[$bb, 'stat', '-c', ' %s', '/sparse'], [$bb, 'stat', '-c', '%u', "/pax/\xc3\xa4"], ['/stat', '-c', '%h', '/stat']);
	is($out, "gnu\npax\nold\nhole! 1048576\n4000000000\n2\n", 'GNU, PAX, old and sparse formats, hard links, large owners') or diag "$st $err";
	($st, $out, $err) = $all->([tar_of(@base, tar_entry('t1', 'x', mtime => -100), tar_pax(mtime => '99999999999999999'), tar_entry('t2', 'x'),
		tar_entry('s', 'x', mode => 04755), tar_entry('fifo', '', type => '6'), tar_entry('dev/null', '', type => '3', devmajor => 1, devminor => 3),
		tar_entry('dev/tty7', '', type => '3', devmajor => 4, devminor => 7))],
		[$bb, 'stat', '-c', '%a %F', '/s', '/fifo'], [$bb, 'stat', '-c', '%Y', '/t1'], [$bb, 'cat', '/dev/null']);
	is($out, "4755 regular file\n644 fifo\n-100\n", 'odd times, setuid, pipes, and devices that the guest has itself') or diag "$st $err";
	($st, $out, $err) = $sh->([tar_of(@base, tar_entry('d/low', "low\n"), tar_entry('d/gone', 'x'), tar_entry('o/low', 'x'), tar_entry('r/low', 'x')),
		tar_of(tar_entry('d/.wh.gone', ''), tar_entry('o/.wh..wh..opq', ''), tar_entry('o/high', "high\n"), tar_entry('.wh.r', ''), tar_entry('r/new', "new\n"))],
		['ls', '/d', '/o', '/r']);
	is($out, "/d:\nlow\n\n/o:\nhigh\n\n/r:\nnew\n", 'whiteouts, opaque directories, a directory that takes another\'s place') or diag "$st $err";
	($st, $out, $err) = $sh->([tar_of(@base, tar_pax(path => "nul\0/../../evil"), tar_entry('x', "up to the NUL\n"))], ['cat', '/nul']);
	is($out, "up to the NUL\n", 'a name ends at its NUL byte') or diag "$st $err";
	($st, $out, $err) = $sh->([tar_of(tar_pax('SCHILY.xattr.security.capability' => "\1\0\0\2"), @base)], ['echo', 'quiet']);
	is("$st $out$err", "0 quiet\n", 'file capabilities mean nothing in the guest, and are left out');
	($st, $out, $err) = $sh->([tar_of(tar_pax('SCHILY.xattr.user.note' => 'x'), @base)], ['echo', 'loud']);
	ok($st == 0 && $out eq "loud\n" && $err =~ /^cowbell: layer [^\n]*1 extended attribute[^\n]*left out\n\z/, 'other attributes are left out, and a line says so')
		or diag "$st $out$err";
	# a table of system call sites that somebody else wrote does not get in, nor can ours be hidden
	($st, $out, $err) = $sh->([tar_of(@base), tar_of(tar_entry('.cowbell/sites-evil', 'evil'), tar_entry('.wh..cowbell', ''))], ['ls', '/.cowbell']);
	like($out, qr/^sites-[0-9a-f]{16}\n\z/, '/.cowbell is ours') or diag "$st $err";
	# more layers than an instance can have: the lowest are merged
	my @many = tar_of(@base);
	for my $i (1 .. 30) {
		push @many, tar_of(tar_entry("f$i", "$i\n"), tar_entry('top', "$i\n"), tar_entry("d$i/x", ''), tar_entry('h' . $i, '', type => '1', link => "f$i"),
			$i > 1 ? (tar_entry('.wh.f' . ($i - 1), ''), tar_entry('.wh.d' . ($i - 1), '')) : ());
	}
	($st, $out, $err) = $all->(\@many, [$bb, 'cat', '/top'], [$bb, 'sh', '-c', 'echo /f* /d[0-9]*'], [$bb, 'cat', '/h1', '/h15', '/h30'],
		[$bb, 'stat', '-c', '%h', '/h2', '/h30']);
	is($out, "30\n/f30 /d30\n1\n15\n30\n1\n2\n", '31 layers: the lowest become one, with whiteouts and hard links') or diag "$st $err";
	if (have('zstd')) {
		my $t = tar_of(@base);
		($st, $out, $err) = $sh->([{data => pipe_through($t, 'zstd -qc') . pipe_through('', 'zstd -qc'), diff => $t}], ['echo', 'zstd']);
		is($out, "zstd\n", 'zstd, of two frames') or diag "$st $err";
	}
	my $t = tar_of(@base);
	($st, $out, $err) = $sh->([{data => gz(substr($t, 0, 3000)) . gz(substr($t, 3000)), diff => $t}], ['echo', 'gzip']);
	is($out, "gzip\n", 'gzip, of two members') or diag "$st $err";
}

# What came out of all that is EROFS as others understand it.
SKIP: {
	skip 'no fsck.erofs', 1 unless have('fsck.erofs');
	my (@bad, $n);
	for my $blob (glob "$tmp/data/cowbell/blobs/sha256/*") {
		my $b = slurp($blob);
		next unless length $b >= 4096 && substr($b, 1024, 4) eq "\xe2\xe1\xf5\xe0";
		$n++;
		push @bad, $blob if length($b) % 4096 || system("fsck.erofs '$blob' >/dev/null 2>&1");
	}
	ok($n && !@bad, 'fsck.erofs finds nothing wrong with any layer') or diag "@bad";
}

done_testing();
