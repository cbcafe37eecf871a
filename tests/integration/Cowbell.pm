# SPDX-License-Identifier: ISC
# Helpers of the integration tests: run programs under a monitor, talk to them, end them.
package Cowbell;
use strict;
use warnings;
no warnings "exec";
use Cwd qw(abs_path);
use Exporter 'import';
use File::Basename qw(dirname);
use File::Temp qw(tempdir);
use IO::Socket::INET;
use POSIX qw(:sys_wait_h);
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(own_network $TOP $COWBELL monitors free_port run_out start_guest stop_guest wait_http http have slurp spew scratch);
our @EXPORT_OK = qw(cowbell succeeds refused);
our $TOP = abs_path(dirname(__FILE__) . '/../..');
our $COWBELL = $ENV{COWBELL} // "$TOP/build/release/cowbell";
my %running;

# Run the whole test again in a network namespace of its own, whose host has the address that is returned:
# nothing that it sends can leave. undef where none can be made (not root, no ip).
sub own_network {
	my $address = '203.0.113.1';
	return $address if $ENV{COWBELL_OWN_NETWORK};
	return undef if $> || !have('ip', 'unshare') || system('unshare -n true 2>/dev/null');
	$ENV{COWBELL_OWN_NETWORK} = 1;
	exec 'unshare', '-n', 'sh', '-c', "ip link set lo up && ip addr add $address/32 dev lo && (ip addr add 2001:db8::1/128 dev lo || true) && exec \"\$@\"", 'sh', $^X, $0;
	die "unshare: $!";
}

# The monitors that can be tested here; one line says why kvm is left out.
sub monitors {
	my @m = split /,/, $ENV{COWBELL_MONITORS} // 'process,kvm';
	if (grep({ $_ eq 'kvm' } @m) && !-w '/dev/kvm') {
		print "# /dev/kvm cannot be used: the kvm monitor is not tested here\n";
		@m = grep { $_ ne 'kvm' } @m;
	}
	return @m;
}

sub have {
	for my $p (@_) {
		return 0 if system("command -v '$p' >/dev/null 2>&1");
	}
	return 1;
}

sub scratch { return tempdir('cowbell-test-XXXXXX', TMPDIR => 1, CLEANUP => 1) }

sub slurp {
	open(my $f, '<', $_[0]) or return '';
	local $/;
	my $s = <$f>;
	return $s // '';
}

sub spew {
	open(my $f, '>', $_[0]) or die "$_[0]: $!";
	print $f $_[1];
	close $f;
}

# The first of n consecutive ports (1 unless told) that nobody has. Not from the kernel's ephemeral range: there a connection made
# in the meantime, or one that ended a minute ago, may have any of them.
sub free_port {
	my $n = $_[0] // 1;
	for (1 .. 1000) {
		my $first = 10000 + int rand 20000;
		my @held = map { IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $first + $_) // () } 0 .. $n - 1;
		return $first if @held == $n;
	}
	die "no $n consecutive ports are free";
}

# run_out({in => text, dir => D, timeout => s}, command...): (status, stdout, stderr)
sub run_out {
	my ($o, @cmd) = @_;
	my $d = tempdir(CLEANUP => 1);
	spew("$d/in", $o->{in} // '');
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		chdir $o->{dir} if $o->{dir};
		open(STDIN, '<', "$d/in");
		open(STDOUT, '>', "$d/out");
		open(STDERR, '>', "$d/err");
		exec 'timeout', '-k', '5', $o->{timeout} // 60, @cmd;
		POSIX::_exit(127);
	}
	waitpid $pid, 0;
	my $st = $? & 127 ? 128 + ($? & 127) : $? >> 8;
	return ($st, slurp("$d/out"), slurp("$d/err"));
}

# A command of ours: (status, stdout, stderr).
sub cowbell { return run_out({timeout => 60}, $COWBELL, @_) }

# It must succeed; its output.
sub succeeds {
	my ($name, @cmd) = @_;
	my ($status, $out, $err) = cowbell(@cmd);
	Test::More::is($status, 0, $name) or Test::More::diag("$out$err");
	return $out;
}

# It must fail with our status and one line that matches, which is returned.
sub refused {
	my ($name, $want, @cmd) = @_;
	my ($status, $out, $err) = cowbell(@cmd);
	Test::More::ok($status == 125 && $err =~ $want && $err =~ /^cowbell: [^\n]*\n\z/, $name) or Test::More::diag("status $status: $out$err");
	return $err;
}

# Start a guest in the background; returns a handle.
sub start_guest {
	my ($o, @cmd) = @_;
	my $d = tempdir(CLEANUP => 1);
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		chdir $o->{dir} if $o->{dir};
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>', "$d/out");
		open(STDERR, '>', "$d/err");
		exec @cmd;
		POSIX::_exit(127);
	}
	$running{$pid} = 1;
	return {pid => $pid, dir => $d, out => "$d/out", err => "$d/err"};
}

# End it with a signal; returns its exit status (128+N for a signal), or 'stuck' after `wait` seconds.
sub stop_guest {
	my ($g, $sig, $wait) = @_;
	return "$g->{status} (ended early)" if defined $g->{status};
	kill $sig // 'TERM', $g->{pid} if $sig // 'TERM';
	my $end = time + ($wait // 10);
	while (time < $end) {
		if (waitpid($g->{pid}, WNOHANG) == $g->{pid}) {
			delete $running{$g->{pid}};
			return $? & 127 ? 128 + ($? & 127) : $? >> 8;
		}
		sleep 0.01;
	}
	kill 'KILL', $g->{pid};
	waitpid $g->{pid}, 0;
	delete $running{$g->{pid}};
	return 'stuck';
}

# One request with curl; (http code, body).
sub http {
	my ($url, @more) = @_;
	my ($st, $out) = run_out({timeout => 20}, 'curl', '-sS', '-m', '10', '-w', '\n%{http_code}', @more, $url);
	my ($body, $code) = $out =~ /^(.*)\n(\d+)$/s;
	return (($code // 0) + 0, $body // '');
}

# Ask until it answers; (code, body) of the last try.
sub wait_http {
	my ($g, $url, $seconds, @more) = @_;
	my $end = time + ($seconds // 20);
	my @r = (0, '');
	while (time < $end) {
		@r = http($url, @more);
		return @r if $r[0];
		if ($g && waitpid($g->{pid}, WNOHANG) == $g->{pid}) {
			$g->{status} = $? & 127 ? 128 + ($? & 127) : $? >> 8;
			delete $running{$g->{pid}};
			last;
		}
		sleep 0.05;
	}
	return @r;
}

END {
	my $st = $?;
	for my $p (keys %running) {
		kill 'KILL', $p;
		waitpid $p, 0;
	}
	$? = $st;
}

1;
