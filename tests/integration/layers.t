#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Files as they lie in EROFS layers: small ones behind their inodes, others on pages of their own. To a program both are
# files: read, mapped, written, linked, executed.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;

plan skip_all => 'no python3' unless have('python3');
my $tmp = scratch();
$ENV{XDG_CACHE_HOME} = "$tmp/cache";
my $dir = "$tmp/app";
mkdir $dir;
spew("$dir/helper.py", "VALUE = 'from a small module'\n");
spew("$dir/app.py", "import helper\nprint(helper.VALUE)\n");
spew("$dir/small", 'small contents');
spew("$dir/edge", 'e' x 3072);
spew("$dir/page", 'p' x 4096);
spew("$dir/large", 'l' x 10000);
spew("$dir/script", "#!/bin/cat\nthe script\n");
chmod 0755, "$dir/script";
link "$dir/small", "$dir/hard" or die;
spew("$dir/check.py", <<'PYTHON');
import mmap, os

def check(what, good):
    print("ok" if good else "NOT", what)

want = {"small": b"small contents", "edge": b"e" * 3072, "page": b"p" * 4096, "large": b"l" * 10000}
for name, data in want.items():
    f = open(name, "rb")
    check(name + " read", f.read() == data)
    check(name + " pread", os.pread(f.fileno(), 5, 3) == data[3:8])
    m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    check(name + " mapped", m[:] == data)
    c = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_COPY)
    c[0:1] = b"X"
    check(name + " copied on write", c[1:] == data[1:] and m[0:1] == data[0:1])
    check(name + " size", os.fstat(f.fileno()).st_size == len(data))
    w = open(name, "r+b")
    w.write(b"W")
    w.flush()
    check(name + " written, seen by the mapping", m[0:1] == b"W" and m[1:] == data[1:])
    w.seek(0, 2)
    w.write(b"more")
    w.flush()
    check(name + " grown", open(name, "rb").read() == b"W" + data[1:] + b"more")
    s = mmap.mmap(w.fileno(), 0)
    s[1:2] = b"S"
    check(name + " shared mapping", open(name, "rb").read()[:3] == b"WS" + data[2:3])
    w.truncate(3)
    check(name + " cut", open(name, "rb").read() == b"WS" + data[2:3])
check("one inode", os.stat("small").st_ino == os.stat("hard").st_ino and os.stat("hard").st_nlink == 2)
check("hard link written", open("hard", "rb").read() == open("small", "rb").read())
os.unlink("small")
check("hard link stays", open("hard", "rb").read()[:2] == b"WS" and os.stat("hard").st_nlink == 1)
PYTHON

for my $m (monitors()) {
	my @run = ($COWBELL, 'run', '--monitor', $m);
	my ($st, $out, $err) = run_out({dir => $dir}, @run, 'python3', 'app.py');
	is($out, "from a small module\n", "$m: a module is imported") or diag $err;
	($st, $out, $err) = run_out({dir => $dir}, @run, 'python3', 'check.py');
	my @lines = split /\n/, $out;
	ok($st == 0 && @lines == 39 && !grep({ !/^ok / } @lines), "$m: small and large files are read, mapped, written and linked")
		or diag "status $st, " . @lines . " lines\n$out$err";
	($st, $out, $err) = run_out({dir => $dir}, @run, './script');
	like($out, qr/the script/, "$m: a small script is executed") or diag $err;
}

# A layer of a small app is one block.
mkdir "$tmp/hello";
spew("$tmp/hello/app.py", "print('hello')\n");
spew("$tmp/hello/requirements.txt", '');
spew("$tmp/hello/Procfile", "web: python3 app.py\n");
my %before = map { $_ => 1 } glob "$tmp/cache/cowbell/layers/*";
my ($st, $out, $err) = run_out({dir => "$tmp/hello"}, $COWBELL, 'run', 'python3', 'app.py');
my @new = grep { !$before{$_} } glob "$tmp/cache/cowbell/layers/*";
is($out, "hello\n", 'a small app runs') or diag $err;
ok(@new >= 1 && grep({ -s $_ == 4096 } @new), 'its layer is one block') or diag join "\n", map { "$_ " . -s $_ } @new;
if (have('fsck.erofs')) {
	my @bad = grep { system("fsck.erofs '$_' >/dev/null 2>&1") } glob "$tmp/cache/cowbell/layers/*";
	is("@bad", '', 'fsck.erofs finds nothing wrong with any layer');
}
done_testing();
