#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Volumes: file calls as natively, read-only ones, SQLite through crashes, locks between instances, no way out.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = scratch();
mkdir "$dir/$_" for qw(bin);

# Prints a line for each call; the same lines are expected natively. Times, inode numbers and devices stay out.
spew("$dir/bin/calls.py", <<'PY');
import ctypes, errno, fcntl, hashlib, mmap, os, stat, sys
os.chdir(sys.argv[1])
os.umask(0o022)
def t(name, f):
    try: r = f()
    except OSError as e: r = errno.errorcode.get(e.errno, e.errno)
    print(name, r)
def st(p):
    s = os.lstat(p)
    return oct(s.st_mode), s.st_nlink, s.st_size if not stat.S_ISDIR(s.st_mode) else 'dir', s.st_uid, s.st_gid
def write(p, d, mode='wb'):
    with open(p, mode) as f: return f.write(d)
def read(p):
    with open(p, 'rb') as f: return f.read()
t('write', lambda: write('f', b'hello world\n'))
t('stat', lambda: st('f'))
t('append', lambda: write('f', b'more', 'ab'))
t('read', lambda: read('f'))
t('excl', lambda: os.open('f', os.O_CREAT | os.O_EXCL | os.O_RDWR))
t('mkdir', lambda: [os.mkdir(d) for d in ('d', 'd/e', 'd/e/f')])
t('mkdir again', lambda: os.mkdir('d'))
t('rmdir full', lambda: os.rmdir('d'))
t('link', lambda: (os.link('f', 'd/e/l'), st('f'), read('d/e/l')))
t('write by link', lambda: (write('d/e/l', b'X', 'r+b'), read('f')))
t('symlink', lambda: (os.symlink('e/l', 'd/s'), os.readlink('d/s'), read('d/s'), st('d/s')))
t('dangling', lambda: (os.symlink('nowhere', 'dang'), read('dang')))
t('create by link', lambda: (write('dang', b'now'), read('nowhere')))
t('loop', lambda: (os.symlink('loop', 'loop'), read('loop')))
t('dotdot', lambda: read('d/e/../../f'))
t('rename', lambda: (os.rename('f', 'd/g'), os.path.exists('f'), read('d/g')))
t('rename over', lambda: (write('h', b'h'), os.replace('h', 'd/g'), read('d/g'), st('d/e/l')))
t('rename dir', lambda: (os.rename('d/e', 'E'), sorted(os.listdir('E')), sorted(os.listdir('d'))))
t('rename into itself', lambda: os.rename('E', 'E/f/x'))
t('chmod', lambda: (os.chmod('d/g', 0o640), st('d/g')))
t('truncate', lambda: (os.truncate('d/g', 10000), read('d/g') == b'h' + bytes(9999)))
t('shrink', lambda: (os.truncate('d/g', 1), os.truncate('d/g', 3), read('d/g')))
t('utime', lambda: (os.utime('d/g', ns=(10**18 + 1000, 10**18 + 2000)), os.stat('d/g').st_mtime_ns, os.stat('d/g').st_atime_ns))
def sparse():
    fd = os.open('sp', os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b'end', 3 << 20)
    r = os.fstat(fd).st_size, os.pread(fd, 4, 100), os.pread(fd, 10, 3 << 20), os.lseek(fd, 0, 2)
    os.posix_fallocate(fd, 0, 4 << 20)
    r += (os.fstat(fd).st_size,)
    os.close(fd)
    return r
t('sparse', sparse)
def unlinked():
    fd = os.open('u', os.O_CREAT | os.O_RDWR)
    os.write(fd, b'still'); os.unlink('u')
    return os.pread(fd, 9, 0), os.fstat(fd).st_nlink, os.path.exists('u'), os.close(fd)
t('unlinked', unlinked)
def mapped():
    fd = os.open('m', os.O_CREAT | os.O_RDWR); os.ftruncate(fd, 10000)
    m = mmap.mmap(fd, 10000); m[5000:5004] = b'mmap'; m.flush()
    r = os.pread(fd, 4, 5000); os.pwrite(fd, b'W', 0)
    r = r, m[0:1]; m[9999:] = b'!'; m.close(); os.close(fd)
    return r, hashlib.md5(read('m')).hexdigest()
t('mapped', mapped)
def many():
    os.mkdir('many')
    for i in range(500): write('many/%03d' % i, b'x' * i)
    a = sorted(os.listdir('many'))
    with os.scandir('many') as it:
        for e in it: os.unlink(e.path)
    return len(a), a[0], a[-1], os.listdir('many'), os.rmdir('many')
t('many', many)
t('big', lambda: (write('big', bytes(range(256)) * 20000), hashlib.md5(read('big')).hexdigest()))
def appenders():
    fds = [os.open('ap', os.O_CREAT | os.O_WRONLY | os.O_APPEND) for _ in range(3)]
    for i in range(30): os.write(fds[i % 3], b'%02d ' % i)
    return read('ap')
t('appenders', appenders)
t('fsync', lambda: [(os.fsync(fd), os.close(fd)) for fd in [os.open('big', os.O_RDWR)]])
t('fsync dir', lambda: [(os.fsync(fd), os.close(fd)) for fd in [os.open('.', os.O_RDONLY)]])
t('notdir', lambda: os.stat('big/x'))
t('isdir', lambda: os.open('d', os.O_WRONLY))
t('enoent', lambda: os.stat('no/such'))
t('toolong', lambda: os.stat('x' * 256))
t('unlink dir', lambda: os.rmdir('big'))
def flocks():
    a, b = os.open('lk', os.O_CREAT | os.O_RDWR), os.open('lk', os.O_RDWR)
    fcntl.flock(a, fcntl.LOCK_SH); fcntl.flock(b, fcntl.LOCK_SH)
    try: fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e: r = errno.errorcode[e.errno]
    fcntl.flock(b, fcntl.LOCK_UN); fcntl.flock(a, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return r
t('flock', flocks)
PY
spew("$dir/bin/readonly.py", <<'PY');
import errno, os, sys
os.chdir(sys.argv[1])
def t(name, f):
    try: f(); r = 'done'
    except OSError as e: r = errno.errorcode[e.errno]
    print(name, r)
t('read', lambda: open('f').read())
t('create', lambda: open('new', 'w'))
t('write', lambda: open('f', 'r+'))
t('truncate', lambda: os.truncate('f', 0))
t('unlink', lambda: os.unlink('f'))
t('mkdir', lambda: os.mkdir('x'))
t('rename', lambda: os.rename('f', 'g'))
t('link', lambda: os.link('f', 'g'))
t('symlink', lambda: os.symlink('f', 'g'))
t('chmod', lambda: os.chmod('f', 0o777))
t('utime', lambda: os.utime('f'))
t('rmdir', lambda: os.rmdir('d'))
t('xattr', lambda: os.setxattr('f', 'user.x', b'y'))
PY
spew("$dir/bin/out.py", <<'PY');
import errno, os, sys
os.chdir('/data')
for p in ['abs', 'rel', 'sub/up', 'dirlink/passwd', '../outside', '../../../../outside', 'sub/../../outside']:
    try: r = 'read ' + open(p).read().strip()
    except OSError as e: r = errno.errorcode[e.errno]
    print(p, r)
PY
spew("$dir/bin/commits.py", <<'PY');
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
c.execute('pragma journal_mode=' + sys.argv[2])
c.execute('create table if not exists t(a integer primary key, b)')
for i in range(100000):
    c.execute('begin')
    for j in range(5): c.execute('insert into t(b) values(?)', ('x' * 1000,))
    c.execute('commit')
    print(i, flush=True)
PY
spew("$dir/bin/check.py", <<'PY');
import sqlite3, sys
c = sqlite3.connect(sys.argv[1])
print(c.execute('pragma integrity_check').fetchone()[0], c.execute('select count(*) from t').fetchone()[0])
PY
spew("$dir/bin/count.py", <<'PY');
import fcntl, sys
lock = fcntl.flock if sys.argv[2] == 'flock' else fcntl.lockf
f = open(sys.argv[1], 'a+')
for i in range(100):
    lock(f, fcntl.LOCK_EX)
    f.seek(0); v = int(f.read() or 0)
    f.truncate(0); f.write(str(v + 1)); f.flush()
    lock(f, fcntl.LOCK_UN)
PY
spew("$dir/bin/create.py", <<'PY');
import os, sys, time
end = time.time() + 3
while time.time() < end:
    os.close(os.open(sys.argv[1] + '/raced', os.O_CREAT | os.O_RDWR, 0o644))
    try: os.unlink(sys.argv[1] + '/raced')
    except FileNotFoundError: pass
PY
spew("$dir/bin/full.py", <<'PY');
import errno, os
def t(name, f):
    try: f(); r = 'done'
    except OSError as e: r = errno.errorcode[e.errno]
    print(name, r)
fd = os.open('/data/big', os.O_CREAT | os.O_WRONLY)
def fill():
    for i in range(64): os.write(fd, b'x' * 65536)
    os.fsync(fd)
t('fill', fill)
os.close(fd)
fd = os.open('/data/other', os.O_CREAT | os.O_WRONLY)
os.write(fd, b'y' * 1000000)
t('close', lambda: os.close(fd))
PY

my $n = 0;

sub fresh {
	my $v = "$dir/v" . $n++;
	mkdir $v;
	return $v;
}

# python3 SCRIPT ARGS with the volume at /data: (status, stdout, stderr)
sub guest {
	my ($m, $vol, $script, @args) = @_;
	return run_out({dir => $dir, timeout => 50}, $COWBELL, 'run', '--monitor', $m, '-v', "$vol", 'python3',
		"$dir/bin/$script", @args);
}

sub calls {
	my ($m) = @_;
	my ($a, $b) = (fresh(), fresh());
	my (undef, $native) = run_out({}, 'python3', "$dir/bin/calls.py", $a);
	my ($st, $out, $err) = guest($m, "$b:/data", 'calls.py', '/data');
	is($out . $err, $native, "$m: every call answers as natively");
	is(scalar `cd $a && find . -type f -exec md5sum {} + | sort`,
		scalar `cd $b && find . -type f -exec md5sum {} + | sort`, "$m: and leaves the same files");
	is(scalar `cd $a && find . -printf '%p %M %l\\n' | sort`,
		scalar `cd $b && find . -printf '%p %M %l\\n' | sort`, "$m: and the same modes");
}

sub read_only {
	my ($m) = @_;
	my $v = fresh();
	spew("$v/f", "text\n");
	mkdir "$v/d";
	my $before = `find $v -printf '%p %T@ %M\\n' | sort`;
	my ($st, $out, $err) = guest($m, "$v:/data:ro", 'readonly.py', '/data');
	my @refused = grep { !/ EROFS$/ && !/^xattr (?:EROFS|ENOTSUP|EOPNOTSUPP)$/ } split /\n/, $out;
	is("@refused$err", 'read done', "$m: a read-only volume refuses every change");
	is(`find $v -printf '%p %T@ %M\\n' | sort`, $before, "$m: and is unchanged");
}

sub no_way_out {
	my ($m) = @_;
	my ($v, $other) = (fresh(), scratch());
	spew("$_/outside", "SECRET\n") for $dir, $other;
	mkdir "$v/sub";
	symlink "$other/outside", "$v/abs";
	symlink '../outside', "$v/rel";
	symlink '../../outside', "$v/sub/up";
	symlink '/etc', "$v/dirlink";
	my ($st, $out, $err) = guest($m, "$v:/data", 'out.py');
	unlike($out, qr/SECRET/, "$m: nothing outside is reached");
	is(() = $out =~ / ENOENT$/mg, 6, "$m: links lead into the guest's own tree") or diag($out);
}

# Kill the monitor in the midst of commits, again and again: whatever was reported is there, and whole.
sub crashes {
	my ($m, $mode) = @_;
	my $v = fresh();
	my ($bad, $commits) = (0, 0);
	for my $round (1 .. 4) {
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-v', "$v:/data", 'python3',
			"$dir/bin/commits.py", '/data/db', $mode);
		my $end = time + 20;
		sleep 0.02 while !-s $g->{out} && time < $end;
		sleep 0.1 + rand(0.3);
		stop_guest($g, 'KILL');
		$commits += () = slurp($g->{out}) =~ /\n/g;
		my $where = $round % 2 ? 'natively' : 'in a guest';
		my ($st, $out, $err) = $round % 2 ? run_out({}, 'python3', "$dir/bin/check.py", "$v/db")
			: guest($m, "$v:/data", 'check.py', '/data/db');
		my ($verdict, $rows) = $out =~ /^(\S+) (\d+)/ or diag("$where: $out$err");
		$bad++ if ($verdict // '') ne 'ok' || $rows % 5 || $rows < 5 * $commits;
		diag("$where: $out, $commits reported") if $bad;
		$commits = ($rows // 0) / 5;
	}
	is($bad, 0, "$m: journal_mode=$mode survives four kills, nothing reported is lost");
	cmp_ok($commits, '>', 4, "$m: and there was something to lose");
}

sub two_instances {
	my ($m, $kind) = @_;
	my $v = fresh();
	my @g = map { start_guest({}, $COWBELL, 'run', '--monitor', $m, '-v', "$v:/data", 'python3',
			"$dir/bin/count.py", '/data/n', $kind) } 1 .. 2;
	my ($st) = run_out({}, 'python3', "$dir/bin/count.py", "$v/n", $kind);
	$st .= ' ' . stop_guest($_, 'CONT', 30) for @g;
	is("$st: " . slurp("$v/n"), '0 0 0: 300', "$m: two instances and a program of the host exclude each other by $kind")
		or diag(map { slurp($_->{err}) } @g);
}

# Several open the same missing name with O_CREAT at once: whoever comes second gets the first one's file.
sub create_races {
	my ($m) = @_;
	my $v = fresh();
	my @g = map { start_guest({}, $COWBELL, 'run', '--monitor', $m, '-v', "$v:/data", 'python3',
			"$dir/bin/create.py", '/data') } 1 .. 2;
	my ($st) = run_out({}, 'python3', "$dir/bin/create.py", $v);
	$st .= ' ' . stop_guest($_, 'CONT', 30) for @g;
	is($st, '0 0 0', "$m: O_CREAT of a name that others create and remove never says EEXIST")
		or diag(map { slurp($_->{err}) } @g);
}

sub full_disk {
	my ($m) = @_;
	my $v = fresh();
	my ($st, $out, $err) = run_out({timeout => 40}, 'unshare', '-rm', 'sh', '-c',
		"mount -t tmpfs -o size=1m none $v && exec \"\$@\"", 'sh', $COWBELL, 'run', '--monitor', $m, '-v',
		"$v:/data", 'python3', "$dir/bin/full.py");
SKIP: {
		skip('no file system can be mounted here', 1) if $err =~ /unshare|mount/ || $st == 126;
		is("$out$err", "fill ENOSPC\nclose ENOSPC\n", "$m: a full disk is reported");
	}
}

for my $m (monitors()) {
	calls($m);
	read_only($m);
	no_way_out($m);
	crashes($m, 'delete');
	crashes($m, 'wal');
	two_instances($m, 'flock');
	two_instances($m, 'lockf');
	create_races($m);
	full_disk($m);
}
done_testing();
