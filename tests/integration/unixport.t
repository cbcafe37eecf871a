#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# What a supervisor of instances uses: socket files as ports, lines for the watcher, environments by memory files, command lines,
# egress rules that forbid, and the end of an instance with its parent.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell qw(:DEFAULT cowbell succeeds refused);
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM);
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
mkdir "$dir/cwd"; # it is collected with a program
chdir "$dir/cwd" or die;
spew("$dir/srv.py", <<'PY');
import socket, sys, time
s = socket.socket(socket.AF_INET6 if sys.argv[1] == '6' else socket.AF_INET)
s.bind(('', 8080)); time.sleep(0.3); s.listen(16)
for i in range(3):
    c, a = s.accept()
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert c.getpeername() == a and c.getsockname()[1] == 8080
    assert c.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    d = b''
    while True:
        b = c.recv(65536)
        if not b: break
        d += b
    c.sendall(('%s %s %d\n' % (a[0], a[1] >= 32768, len(d))).encode() + d)
    c.close()
s.close(); time.sleep(0.6)
s = socket.socket(); s.bind(('', 8080)); s.listen(); c, a = s.accept(); c.sendall(b'again'); c.close()
PY

sub connect_to { return IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $_[0]) }

sub connected {
	my ($path, $refused) = @_;
	for my $i (1 .. 1000) {
		my $c = connect_to($path);
		return $c if $c;
		$$refused++ if $refused && $!{ECONNREFUSED};
		sleep 0.01;
	}
	return undef;
}

sub rest { my ($c) = @_; local $/; my $s = <$c>; return $s // '' }

sub gone { my ($path) = @_; for (1 .. 300) { return 1 if !-e $path; sleep 0.01 } return 0 }

# start_guest() with the writing end of a pipe as descriptor 9; its handle and the reading end
sub watched {
	my (@cmd) = @_;
	local $^F = 1000; # what is opened here is inherited
	pipe(my $r, my $w) or die;
	my $g = start_guest({}, 'perl', '-MPOSIX', '-e', 'POSIX::dup2(shift, 9); exec @ARGV', fileno($w), @cmd);
	close $w;
	return ($g, $r);
}

my $python = have('python3');
system($COWBELL, 'run', '--monitor', 'process', 'python3', '-c', '') if $python; # into the cache
for my $m (monitors()) {
	SKIP: {
		skip 'no python3', 1 if !$python;
		for my $v (4, 6) {
			my ($sock, $refused) = ("$dir/$m$v.sock", 0);
			my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '--name', "unixport-$$", '-p', "unix:$sock:8080", 'python3', "$dir/srv.py", $v);
			my $c = connected($sock, \$refused);
			ok($c && $refused, "$m, IPv$v: refused until the program listens, then connected") or diag(slurp($g->{err}));
			is((stat $sock)[2] & 0777, 0600, "$m, IPv$v: only its owner may use it");
			like(succeeds("$m: ps", 'ps'), qr/unixport-$$.*unix:8080/, "$m, IPv$v: a list shows it") if $v == 4;
			my $big = 'x' x 1000000;
			print $c $big; $c->flush; $c->shutdown(1);
			my $answer = rest($c);
			my $ip = $v == 4 ? '127\.0\.0\.1' : '::ffff:127\.0\.0\.1';
			like(substr($answer, 0, 60), qr/^$ip True 1000000\nx/, "$m, IPv$v: peer and half-close as of TCP");
			is(length $answer, length($big) + index($answer, "\n") + 1, "$m, IPv$v: all bytes came back");
			for (1 .. 2) { $c = connected($sock); $c->shutdown(1); rest($c) }
			sleep 0.2;
			$c = connect_to($sock);
			is($c ? rest($c) : '', '', "$m, IPv$v: nobody is served while nobody listens");
			sleep 0.6;
			is(rest(connected($sock)), 'again', "$m, IPv$v: it listens again");
			is(stop_guest($g, 0, 20), 0, "$m, IPv$v: it ended well") or diag(slurp($g->{err}));
			ok(gone($sock), "$m, IPv$v: the file is gone");
		}

		# stale, taken, no socket
		my $sock = "$dir/stale$m.sock";
		my $l = IO::Socket::UNIX->new(Type => SOCK_STREAM, Local => $sock, Listen => 1);
		refused("$m: somebody listens there", qr/somebody else/, 'run', '--monitor', $m, '-p', "unix:$sock:8080", 'true');
		close $l;
		succeeds("$m: a stale file is replaced", 'run', '--monitor', $m, '-p', "unix:$sock:8080", 'true');
		spew("$dir/file", 'mine');
		refused("$m: a file that is no socket is left alone", qr/no socket/, 'run', '--monitor', $m, '-p', "unix:$dir/file:8080", 'true');
		is(slurp("$dir/file"), 'mine', 'as it was');

		# lines for a watcher; a snapshot and a restore
		my $snap = "$dir/$m.snap";
		my @serve = ('python3', '-m', 'http.server', '8080');
		my ($g, $r) = watched($COWBELL, 'run', '--monitor', $m, '--notify-fd', 9, '-p', "unix:$dir/a.sock:8080", '--snapshot-at', 'ready', '--snapshot-stop', '-o', $snap, @serve);
		is(stop_guest($g, 0, 30), 0, "$m: a snapshot of it") or diag(slurp($g->{err}));
		is(join('', <$r>), "how boot\nlistening 8080\n", "$m: the watcher was told");
		ok(-S "$dir/a.sock", "$m: with a watcher, the file is his affair");
		($g, $r) = watched($COWBELL, 'run', '--monitor', $m, '--notify-fd', 9, '-p', "unix:$dir/a.sock:8080", '--snapshot', $snap);
		like(scalar(<$r>), qr/how snapshot/, "$m: from a snapshot");
		is(scalar(<$r>), "listening 8080\n", "$m: it listens");
		close $r; # nobody reads on
		my $c = connect_to("$dir/a.sock");
		print $c "GET /nothing HTTP/1.0\r\n\r\n";
		$c->flush;
		like(rest($c), qr/404/, "$m: restored, it answers");
		is(stop_guest($g, 'TERM'), 143, "$m: and ends");

		# a move takes it along
		my $id = 'moved' . $$;
		succeeds("$m: detached", 'run', '-d', '--monitor', $m, '--name', $id, '-p', "unix:$dir/m.sock:8080", @serve);
		close(connected("$dir/m.sock"));
		succeeds("$m: moved", 'move', $id, '--monitor', 'process');
		sleep 0.3;
		$c = connect_to("$dir/m.sock");
		ok($c, "$m: the socket went along");
		print $c "GET /nothing HTTP/1.0\r\n\r\n" if $c;
		$c->flush if $c;
		like($c ? rest($c) : '', qr/404/, "$m: moved, it answers");
		succeeds("$m: ended", 'stop', $id);
		ok(gone("$dir/m.sock"), "$m: and the file is gone with it");

		# all of it ends with its parent
		my $parent = fork // die;
		if (!$parent) {
			# PR_SET_PDEATHSIG of what is executed, SIGKILL
			my $child = fork // die;
			if (!$child) {
				syscall(157, 1, 9, 0, 0, 0);
				open(STDOUT, '>', "$dir/pd.out");
				exec $COWBELL, 'run', '--monitor', $m, '-p', "unix:$dir/pd.sock:8080", @serve;
			}
			spew("$dir/pd", $child);
			sleep 60;
			exit;
		}
		connected("$dir/pd.sock");
		my $child = slurp("$dir/pd");
		my @tree = ($child, split ' ', slurp("/proc/$child/task/$child/children"));
		kill 'KILL', $parent;
		waitpid $parent, 0;
		my $left = 1;
		for (1 .. 200) { $left = grep { slurp("/proc/$_/stat") =~ /\) [^ZX]/ } @tree; last if !$left; sleep 0.01 }
		is($left, 0, "$m: no process is left when its parent was killed (of " . @tree . ')');
		ok(gone("$dir/pd.sock"), "$m: nor its socket");
	}

	# environments
	my ($st, $out, $err) = run_out({}, 'perl', '-MPOSIX', '-e', <<'P', $COWBELL, $m);
my ($c, $m) = @ARGV;
my $fd = syscall(319, my $name = "env", 0);
my $s = "A=1\nb\0#B= \"x\" \0";
POSIX::write($fd, $s, length $s);
$^F = 100;
exec $c, 'run', '--monitor', $m, '--env-file', "/dev/fd/$fd", 'env', '-0';
P
	like($out, qr/(?:^|\0)A=1\nb\0#B= "x" \0/, "$m: an environment of entries that end with NUL, by a memory file") or diag($err);
}

# rules
refused('no rule', qr/must be none, all/, 'run', '--egress', $_, 'true') for 'all,!', '!', '!all', '!none', 'none,all', '!1.2.3.4/33';
SKIP: {
	skip 'no python3', 1 if !$python;
	my $try = "import socket; socket.create_connection(('203.0.113.77', 9), 0.3)";
	for my $m (monitors()) {
		my ($st, $out, $err) = cowbell('run', '--monitor', $m, '--egress', 'all', 'python3', '-c', $try);
		unlike($err, qr/PermissionError/, "$m: allowed");
		($st, $out, $err) = cowbell('run', '--monitor', $m, '--egress', 'all,!203.0.113.0/24', 'python3', '-c', $try);
		ok($st && $err =~ /PermissionError/, "$m: a later rule forbids") or diag($err);
		($st, $out, $err) = cowbell('run', '--monitor', $m, '--egress', '!203.0.113.0/24,all', 'python3', '-c', $try);
		unlike($err, qr/PermissionError/, "$m: the last one that fits decides");
	}
}

# command lines in an image
if (have('busybox') || -d '/usr/share/doc') {
	mkdir "$dir/app";
	spew("$dir/app/index.html", 'x');
	my ($st, $out, $err) = cowbell('build', '-t', 'unixport', "$dir/app");
	SKIP: {
		skip "no image can be built here: $err", 1 if $st;
		($st, $out, $err) = cowbell('run', '--command', 'nosuchprogram', 'image:unixport');
		is($st, 127, '--command: started as a command');
		refused('--command and words', qr/exclude/, 'run', '--command', 'x', 'image:unixport', 'y');
		refused('--command and a program', qr/not an image/, 'run', '--command', 'x', 'true');
	}
}
chdir "/";
done_testing();
