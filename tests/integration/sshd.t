#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# OpenSSH's sshd in an instance: logins by key from the host's ssh, commands with their status and their streams, a terminal,
# sftp, several sessions at once, a wrong key.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;

$ENV{PATH} .= ':/usr/sbin:/sbin';
plan skip_all => 'openssh is not installed' unless have('sshd', 'ssh', 'ssh-keygen', 'sftp');
my ($sftp_server) = grep { -x } qw(/usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server);
my $dir = scratch();
system("ssh-keygen -q -t ed25519 -N '' -f $dir/$_") == 0 or BAIL_OUT('ssh-keygen') for qw(host user wrong);
mkdir "$dir/etc";
system("cp $dir/host $dir/etc/host; cp $dir/user.pub $dir/etc/authorized; chmod 600 $dir/etc/host; chmod 644 $dir/etc/authorized");
spew("$dir/etc/sshd_config", <<"X");
Port 2222
HostKey /etc/keys/host
AuthorizedKeysFile /etc/keys/authorized
StrictModes no
UsePAM no
PidFile none
PermitRootLogin yes
PasswordAuthentication no
Subsystem sftp $sftp_server
AcceptEnv LC_WORD
X

for my $m (monitors()) {
	my $port = free_port();
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-v', "$dir/etc:/etc/keys:ro", '-p', "127.0.0.1:$port:2222", '--with', 'openssh-sftp-server', '--', '/usr/sbin/sshd', '-D', '-e', '-f', '/etc/keys/sshd_config');
	my @opt = ('-F', 'none', '-o', 'UserKnownHostsFile=/dev/null', '-o', 'StrictHostKeyChecking=no', '-o', 'LogLevel=ERROR', '-o', 'ConnectTimeout=30', '-o', 'IdentitiesOnly=yes');
	my @ssh = ('ssh', '-p', $port, @opt, '-i', "$dir/user", 'root@127.0.0.1');
	my ($st, $out, $err) = (255);
	my $end = time + 60;
	while (time < $end) {
		($st, $out, $err) = run_out({timeout => 60}, @ssh, 'echo hello; id -un; echo oops >&2; exit 3');
		last if $st != 255 || $err !~ /refused|reset|closed/i;
		select undef, undef, undef, 0.1;
	}
	is("$st|$out|$err", "3|hello\nroot\n|oops\n", "$m a login by key; a command, its streams and its status") or diag("$err\n" . substr(slurp($g->{err}), -2000));
	($st, $out) = run_out({timeout => 60, in => 'x' x 500_000}, @ssh, 'wc -c; cat /proc/sys/kernel/ostype | tr a-z A-Z');
	is("$st|$out", "0|500000\nLINUX\n", "$m half a megabyte of input, and a pipeline");
	($st, $out) = run_out({timeout => 60}, $ssh[0], '-tt', @ssh[1 .. $#ssh], 'tty; stty size >/dev/null && echo sized; test -t 0 && echo terminal');
	like($out, qr{^/dev/pts/\d+\r\nsized\r\nterminal\r\n}, "$m with a terminal") or diag("$out\n" . substr(slurp($g->{err}), -2000));
	my @at_once = map { my $n = $_; open(my $f, '-|', @ssh, "sleep 0.3; echo $n") or die; $f } 1 .. 4;
	is(join('', map { my $f = $_; <$f> } @at_once), "1\n2\n3\n4\n", "$m four sessions at once");
	spew("$dir/batch", "put $dir/user.pub /tmp/there\nget /tmp/there $dir/back.$m\nls -l /tmp/there\n");
	($st, undef, $err) = run_out({timeout => 60}, 'sftp', '-q', '-P', $port, @opt, '-i', "$dir/user", '-b', "$dir/batch", 'root@127.0.0.1');
	ok($st == 0 && slurp("$dir/back.$m") eq slurp("$dir/user.pub"), "$m sftp there and back") or diag($err);
	($st, undef, $err) = run_out({timeout => 60}, 'ssh', '-p', $port, @opt, '-o', 'BatchMode=yes', '-i', "$dir/wrong", 'root@127.0.0.1', 'true');
	ok($st == 255 && $err =~ /Permission denied/, "$m a wrong key is refused") or diag($err);
	isnt(stop_guest($g), 'stuck', "$m sshd ends on SIGTERM");
}
done_testing();
