#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Standard streams: what goes in and out is exact, errors reach the program, input that it does not read stays.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Digest::MD5;
use Fcntl qw(:DEFAULT :flock);
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = scratch();
my $big = "$dir/big";
{
	open(my $f, '>', $big) or die;
	my $x = join '', map { pack 'V', $_ * 2654435761 & 0xffffffff } 1 .. 250_000;
	print $f $x for 1 .. 50;    # 50 MB
	close $f;
}
spew("$dir/lines", "one\ntwo\nthree\n");
spew("$dir/poll.py", <<'PY');
import fcntl, os, select, sys
def say(*a): os.write(2, (' '.join(str(x) for x in a) + '\n').encode())
p = select.poll(); p.register(0, select.POLLIN)
say(len(p.poll(5000)), os.read(0, 2), len(p.poll(0)), os.read(0, 100), len(p.poll(0)))
fcntl.fcntl(0, fcntl.F_SETFL, fcntl.fcntl(0, fcntl.F_GETFL) | os.O_NONBLOCK)
try: say(os.read(0, 10))
except BlockingIOError: say('EAGAIN')
e = select.epoll(); e.register(0, select.EPOLLIN | select.EPOLLET)
os.write(1, b'go\n')
got = b''
while True:
    if not e.poll(10): say('nothing came'); break
    try:
        while True:
            b = os.read(0, 3)
            if not b: say(got, 'end'); sys.exit(0)
            got += b
    except BlockingIOError: pass
PY
spew("$dir/sockets.py", <<'PY');
# Run a command with sockets as its streams; copy stdin into them and what comes out to stdout.
import os, socket, subprocess, sys, threading
a, b = socket.socketpair()
p = subprocess.Popen(sys.argv[1:], stdin=b, stdout=b)
b.close()
def feed():
    while d := os.read(0, 65536): a.sendall(d)
    a.shutdown(socket.SHUT_WR)
threading.Thread(target=feed).start()
while d := a.recv(65536): sys.stdout.buffer.write(d)
sys.exit(p.wait())
PY

# A shell command line; $C in it is cowbell with the monitor. (status, stdout, stderr)
sub sh {
	my ($m, $line) = @_;
	local $ENV{C} = "$COWBELL run --monitor $m";
	return run_out({dir => $dir, timeout => 50}, 'bash', '-c', $line);
}

sub both_ends {
	my ($m) = @_;
	my ($st, $out, $err);
	for my $c (['file to file', '$C cat < big > o; cmp o big'],
		['pipe to pipe', 'cat big | $C cat | cmp - big'],
		['large blocks', '$C dd bs=1M iflag=fullblock < big 2>/dev/null | cmp - big'],
		['odd blocks', 'head -c 3000001 big | $C dd bs=777 2>/dev/null | cmp - <(head -c 3000001 big)'],
		['socket to socket', 'python3 sockets.py $C cat < big | cmp - big'])
	{
		($st, $out, $err) = sh($m, $c->[1]);
		is("$st$out$err", '0', "$m: 50 MB, $c->[0]");
	}
	($st, $out) = sh($m, 'cat big | $C cat | (sleep 0.3; head -c 100000 | md5sum; sleep 0.3; cat >/dev/null)');
	my $md5 = Digest::MD5::md5_hex(substr(slurp($big), 0, 100000));
	like($out, qr/^$md5/, "$m: a slow reader gets every byte");
}

sub errors {
	my ($m) = @_;
	my ($st, $out, $err) = sh($m, '$C sh -c "echo x; echo status \$? >&2" > /dev/full');
	like($err, qr/status 1/, "$m: echo to a full device fails");
	($st, $out, $err) = sh($m, '$C cat lines < big > /dev/full');
	isnt($st, 0, "$m: cat to a full device fails") or diag($err);
	($st, $out, $err) = sh($m, '$C sh -c "echo x; echo status \$? >&2" >&-');
	like($err, qr/status 1/, "$m: output that the caller closed");
	($st, $out, $err) = sh($m, '$C cat <&-');
	like("$st $err", qr/^1 .*Bad file desc/s, "$m: input that the caller closed");
	($st, $out, $err) = sh($m, '$C yes | head -1; echo ${PIPESTATUS[0]}');
	is("$out$err", "y\n141\n", "$m: the reader leaves: SIGPIPE");
	($st, $out, $err) = sh($m, 'exec 3> >(exec true); sleep 0.3; $C sh -c "echo x" >&3; echo $?');
	is($out, "141\n", "$m: one line to a reader that has gone: SIGPIPE");
	($st, $out, $err) = sh($m, '$C sh -c "trap \"\" PIPE; while echo x; do :; done; echo over >&2" | true');
	like($err, qr/over$/m, "$m: EPIPE where SIGPIPE is ignored");
	($st, $out, $err) = sh($m, '$C sh -c "echo a > /dev/stdout; echo b > /dev/stderr; echo c >> /proc/self/fd/1"');
	is("$out$err", "a\nc\nb\n", "$m: /dev/stdout and /dev/stderr");
	($st, $out, $err) = sh($m, 'for i in 1 2 3; do $C sh -c "echo $i; echo e$i >&2"; done > o 2>&1; cat o');
	is($out, "1\ne1\n2\ne2\n3\ne3\n", "$m: both streams on one file: in order, nothing overwritten");
}

sub input_stays {
	my ($m) = @_;
	my ($st, $out, $err) = sh($m, '($C sh -c "read a; echo got \$a"; cat) < lines');
	is($out, "got one\ntwo\nthree\n", "$m: the rest of a file stays");
	($st, $out, $err) = sh($m, 'cat lines | ($C sh -c "read a; echo got \$a"; cat)');
	is($out, "got one\ntwo\nthree\n", "$m: the rest of a pipe stays");
	($st, $out, $err) = sh($m, '($C true; cat) < lines');
	is($out, "one\ntwo\nthree\n", "$m: who does not read takes nothing");
	($st, $out, $err) = sh($m, '(echo abcdef; sleep 4; echo more; sleep 0.5; echo end) | $C python3 poll.py');
	is($err, "1 b'ab' 1 b'cdef\\n' 0\nEAGAIN\nb'more\\nend\\n' end\n", "$m: poll, EAGAIN, edges");
}

for my $m (monitors()) {
	both_ends($m);
	errors($m);
	input_stays($m);
}
done_testing();
