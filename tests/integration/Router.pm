# SPDX-License-Identifier: ISC
# The front and the router alone (router_stand.c) before an instance that the test plays (router_backend.py), for tests that look at bytes.
#
#   my $r = Router->start(env => {IDLE => 500});    $r->{port}, $r->{tls}
#   $r->raw($bytes, $seconds)                       what comes back until it closes, or for so long
#   $r->lines                                       lines of the log; $r->line_like(qr/code=H13/)
#   $r->seen                                        requests that the instance got; $r->seen_raw
package Router;
use strict;
use warnings;
no warnings "exec";
use FindBin;
use lib "$FindBin::Bin", "$FindBin::Bin/../integration";
use Cowbell;
use IO::Socket::INET;
use Test::More ();
use Time::HiRes qw(sleep time);

my %alive;

# ROUTER_STAND: one that is built already (with sanitizers).
sub build {
	return $ENV{ROUTER_STAND} if $ENV{ROUTER_STAND};
	my $d = scratch();
	my @o = map { "build/release/platform-obj/platform/$_.c.o" } qw(conn h1 h2 h2_out exchange wheel buf guard front dispatch upstream router router_head router_log spans router_limit pages util tls tls_self proxy_protocol);
	my @l = map { "build/release/platform-obj/llhttp/$_.o" } qw(api http llhttp);
	chdir $TOP;
	my @missing = grep { !-e } @o, @l;
	die "not built: @missing" if @missing;
	my @cmd = ('gcc', '-O1', '-g', '-D_GNU_SOURCE', '-I.', '-isystem', '/usr/share/include/llhttp', '-o', "$d/router_stand",
		'tests/integration/router_stand.c', @o, @l, 'lib/host/say.c', 'lib/host/strings.c', qw(-luv -lssl -lcrypto -lnghttp2 -ljansson));
	system(@cmd) == 0 or die 'gcc';
	return "$d/router_stand";
}

sub spawn {
	my ($self, $out, @cmd) = @_;
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		syscall 157, 1, 9;	# prctl(PR_SET_PDEATHSIG, SIGKILL)
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>', $out);
		open(STDERR, '>', "$out.err");
		$ENV{$_} = $self->{env}{$_} for keys %{$self->{env}};
		$ENV{DATA} = $self->{dir};
		exec @cmd;
		POSIX::_exit(127);
	}
	$alive{$pid} = $$;
	return $pid;
}

my $program;
sub start {
	my ($class, %o) = @_;
	$program //= build();
	my $self = bless {dir => $o{dir} // scratch(), env => $o{env} // {}}, $class;
	my $d = $self->{dir};
	if ($o{backend} // 1) {
		$self->{backend} = $self->spawn("$d/backend", '/usr/bin/python3', "$TOP/tests/integration/router_backend.py", "$d/sock", "$d/seen");
		for (1 .. 200) { last if -s "$d/backend"; sleep 0.02 }
	}
	$self->{pid} = $self->spawn("$d/stand", $program, $o{socket} // "$d/sock");
	for (1 .. 200) { last if slurp("$d/stand") =~ /port/; sleep 0.02 }
	($self->{port}, $self->{tls}) = slurp("$d/stand") =~ /port (\d+) (\d+)/ or die "the stand did not start: " . slurp("$d/stand.err");
	return $self;
}

sub connect {
	my ($self) = @_;
	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 5) // die "connect: $!";
}

sub read_for {
	my ($self, $s, $seconds, $until) = @_;
	my ($got, $end) = ('', time + ($seconds // 3));
	while ((my $left = $end - time) > 0) {
		my $in = '';
		vec($in, fileno $s, 1) = 1;
		select($in, undef, undef, $left) or last;
		sysread $s, $got, 65536, length $got or do { $self->{closed} = 1; last };
		last if $until && $got =~ $until;
	}
	return $got;
}

sub raw {
	my ($self, $bytes, $seconds, $until) = @_;
	my $s = $self->connect;
	local $SIG{PIPE} = 'IGNORE';
	$self->{closed} = 0;
	syswrite $s, $bytes;
	return $self->read_for($s, $seconds, $until);
}

sub log { return slurp("$_[0]{dir}/stand.err") }
sub lines { return grep { /^heroku\[router\]/ } split /\n/, $_[0]->log }
sub seen { return split /\n/, slurp("$_[0]{dir}/seen") }
sub seen_raw { return slurp("$_[0]{dir}/seen.raw") }

# Wait up to 3 s for a line of the log.
sub line_like {
	my ($self, $re) = @_;
	for (1 .. 60) {
		my ($l) = grep { $_ =~ $re } split /\n/, $self->log;
		return $l if defined $l;
		sleep 0.05;
	}
	return undef;
}

sub alive {
	my ($self) = @_;
	return $self->{pid} && waitpid($self->{pid}, POSIX::WNOHANG()) == 0;
}

sub stop {
	my ($self) = @_;
	my $status;
	for my $k (qw(pid backend)) {
		my $p = delete $self->{$k} or next;
		kill $k eq 'pid' ? 'TERM' : 'KILL', $p;
		for (1 .. 400) { last if waitpid($p, POSIX::WNOHANG()); sleep 0.02 }
		$status //= $? if $k eq 'pid';
		kill 'KILL', $p;
		waitpid $p, 0;
		delete $alive{$p};
	}
	return $status;
}

sub DESTROY {
	local ($?, $!, $@);
	$_[0]->stop if ($alive{$_[0]{pid} // 0} // 0) == $$;
}

END {
	local $?;
	kill 'KILL', grep { $alive{$_} == $$ } keys %alive;
}

1;
