# SPDX-License-Identifier: ISC
# A platform for a test: `cowbell serve` on a free port of the loopback, its data in a temporary directory, ended and
# removed whatever happens to the test.
#
#   my $p = Platform->start(args => ['--idle', '2s'], env => {A => 'b'}, config => "toml text");
#   my $r = $p->api('POST', '/apps', {name => 'demo'});            # as the admin; $r->{status}, ->{json}, ->{headers}, ->{content}
#   $p->api('GET', '/apps', undef, {token => $other, headers => {range => 'name ..; max=10'}});
#   my $a = $p->app('demo', '/path', {method => 'POST', content => 'x'});  # through the router, Host: demo.localhost
#   $p->restart; $p->kill9; $p->run; is($p->stop, 0);
#
# The binary is that of COWBELL; COWBELL_PLATFORM=FILE runs that program of build/*/cowbell-platform with it.
package Platform;
use strict;
use warnings;
no warnings "exec";
use FindBin;
use lib "$FindBin::Bin", "$FindBin::Bin/../integration";
use Cowbell;
use File::Path qw(make_path remove_tree);
use File::Temp qw(tempdir);
use HTTP::Tiny;
use IO::Socket::INET;
use JSON::PP ();
use POSIX qw(:sys_wait_h);
use Test::More ();
use Time::HiRes qw(sleep time);

our $JSON = JSON::PP->new->utf8->canonical->allow_nonref;

# An app that answers with its file `text`.
our $TEXT_APP = <<'PY';
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class H(BaseHTTPRequestHandler):
    def do_GET(s):
        b = open('text').read().encode(); s.send_response(200); s.send_header('Content-Length', str(len(b))); s.end_headers(); s.wfile.write(b)
    def log_message(*a): pass
HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()
PY

my %alive;	# pid => 1, for the end of a test that died
my %made;	# directories

# A port that nobody uses, outside the range that connections get theirs from.
sub port {
	for (1 .. 200) {
		my $port = 20000 + int rand 12000;
		my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => $port) or next;
		close $s;
		return $port;
	}
	die "no free port";
}

# The command line of a server, before its options.
sub command {
	my $platform = $ENV{COWBELL_PLATFORM};
	return $platform ? ($platform, '--self', $COWBELL) : ($COWBELL, 'serve');
}

# What the server sees: nothing of the home directory of whoever tests.
sub environment {
	my ($self) = @_;
	my $d = $self->{dir};
	return (
		PATH => $ENV{PATH}, HOME => "$d/home", LANG => 'C.UTF-8', TMPDIR => "$d/tmp",
		XDG_STATE_HOME => "$d/state", XDG_DATA_HOME => "$d/share", XDG_CACHE_HOME => "$d/cache", XDG_CONFIG_HOME => "$d/etc",
		XDG_RUNTIME_DIR => "$d/run",
		(map { $_ => $ENV{$_} } grep { defined $ENV{$_} } qw(ASAN_OPTIONS UBSAN_OPTIONS COWBELL_MIRROR)),
		%{$self->{env}},
	);
}

# Everything but the start: for tests that start it themselves.
sub new {
	my ($class, %o) = @_;
	my $dir = $o{dir} // tempdir('cowbell-platform-XXXXXX', TMPDIR => 1);
	$made{$dir} = $$ unless $o{dir};
	my $self = bless {
		dir => $dir, data => $o{data} // "$dir/data", port => $o{port} // port(), args => $o{args} // [],
		env => $o{env} // {}, wait => $o{wait} // 20, before => $o{before}, domain => $o{domain} // 'localhost',
	}, $class;
	make_path(map { "$dir/$_" } qw(home tmp state share cache etc run));
	chmod 0700, "$dir/run";
	if (defined $o{config}) {
		spew("$dir/serve.toml", $o{config});
		push @{$self->{args}}, '--config', "$dir/serve.toml";
	}
	return $self;
}

sub start {
	my ($class, %o) = @_;
	my $self = $class->new(%o);
	$self->run or die "the server did not start:\n" . $self->log;
	return $self;
}

# Start the process and wait until it listens; false if it does not. Standard error is added to $self->{err}.
sub run {
	my ($self) = @_;
	$self->{err} = "$self->{dir}/err";
	my @command = command(); # before the environment changes
	my $pid = fork // die "fork: $!";
	if (!$pid) {
		syscall 157, 1, 9;	# prctl(PR_SET_PDEATHSIG, SIGKILL): it never outlives the test
		my %env = $self->environment;
		%ENV = %env;
		chdir $self->{dir};
		open(STDIN, '<', '/dev/null');
		open(STDOUT, '>>', "$self->{dir}/out");
		open(STDERR, '>>', $self->{err});
		$self->{before}->() if $self->{before};
		exec @command, '--data', $self->{data}, '--listen', "127.0.0.1:$self->{port}", '--domain', $self->{domain}, @{$self->{args}};
		POSIX::_exit(127);
	}
	$self->{pid} = $pid;
	$alive{$pid} = $$;
	return $self->wait_listening;
}

sub wait_listening {
	my ($self) = @_;
	my $end = time + $self->{wait};
	while (time < $end) {
		return 0 if $self->ended;
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 2);
		if ($s) {
			close $s;
			return 1;
		}
		sleep 0.01;
	}
	return 0;
}

# Has it ended? Its status is in $self->{status} then: 128+N for a signal.
sub ended {
	my ($self) = @_;
	return 1 unless $self->{pid};
	return 0 unless waitpid($self->{pid}, WNOHANG) == $self->{pid};
	$self->{status} = $? & 127 ? 128 + ($? & 127) : $? >> 8;
	delete $alive{delete $self->{pid}};
	return 1;
}

# A signal (default TERM), then wait; its exit status, or 'stuck'.
sub stop {
	my ($self, $signal, $wait) = @_;
	return $self->{status} if $self->ended;
	kill $signal // 'TERM', $self->{pid};
	my $end = time + ($wait // 40);
	while (time < $end) {
		return $self->{status} if $self->ended;
		sleep 0.005;
	}
	$self->kill9;
	return 'stuck';
}

sub kill9 {
	my ($self) = @_;
	return unless $self->{pid};
	kill 'KILL', $self->{pid};
	waitpid $self->{pid}, 0;
	$self->{status} = 137;
	delete $alive{delete $self->{pid}};
}

# The same data, the same port.
sub restart {
	my ($self, $signal) = @_;
	$self->stop($signal);
	$self->run or die "the server did not start again:\n" . $self->log;
	delete $self->{ua};
}

sub log { return slurp($_[0]{err}) }
sub pid { return $_[0]{pid} }
sub port_of { return $_[0]{port} }
sub data { return $_[0]{data} }
sub url { return "http://127.0.0.1:$_[0]{port}" }

# The token of the admin, whom the first start makes.
sub token {
	my ($self) = @_;
	my $t = slurp("$self->{data}/admin-token");
	$t =~ s/\s+\z//;
	return $t;
}

sub _ua {
	my ($self, $o) = @_;
	return HTTP::Tiny->new(timeout => $o->{timeout} // 60, keep_alive => 0, max_redirect => 0, agent => 'cowbell-test') if $o->{timeout};
	return $self->{ua} //= HTTP::Tiny->new(timeout => 60, keep_alive => 1, max_redirect => 0, agent => 'cowbell-test');
}

# One call of the API. %opt: token (undef: none), headers, content (in place of JSON), timeout. Always a hash with status
# (599: no answer), headers, content, and json where the body is JSON.
sub api {
	my ($self, $method, $path, $json, $o) = @_;
	$o //= {};
	my $token = exists $o->{token} ? $o->{token} : $self->token;
	my %h = (accept => 'application/vnd.heroku+json; version=3', %{$o->{headers} // {}});
	$h{authorization} //= "Bearer $token" if defined $token;
	my %req = (headers => \%h);
	if (defined $json || defined $o->{content}) {
		$req{content} = $o->{content} // $JSON->encode($json);
		$h{'content-type'} //= 'application/json';
	}
	my $r = $self->_ua($o)->request($method, $self->url . $path, \%req);
	if (($r->{headers}{'content-type'} // '') =~ /json/ && length $r->{content}) {
		$r->{json} = eval { $JSON->decode($r->{content}) };
	}
	return $r;
}

# The same, and its status must be the given one; the decoded body.
sub ok_api {
	my ($self, $status, $method, $path, $json, $o) = @_;
	my $r = $self->api($method, $path, $json, $o);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	Test::More::is($r->{status}, $status, "$method $path: $status") or Test::More::diag($r->{content});
	return $r->{json};
}

# A request to an app (its name, or a host with a dot in it) through the router. %opt: method, headers, content, timeout.
sub app {
	my ($self, $app, $path, $o) = @_;
	$o //= {};
	my $host = $app =~ /\./ ? $app : "$app.$self->{domain}";
	my %req = (headers => $o->{headers} // {}, peer => '127.0.0.1');
	$req{content} = $o->{content} if defined $o->{content};
	return $self->_ua($o)->request($o->{method} // 'GET', "http://$host:$self->{port}" . ($path // '/'), \%req);
}

# Bytes as they are, on a connection of its own; what comes back until it closes or `timeout` seconds pass.
sub raw {
	my ($self, $bytes, $timeout) = @_;
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}, Timeout => 5) or return '';
	local $SIG{PIPE} = 'IGNORE';
	syswrite $s, $bytes;
	my ($got, $end) = ('', time + ($timeout // 5));
	while ((my $left = $end - time) > 0) {
		my $in = '';
		vec($in, fileno $s, 1) = 1;
		select($in, undef, undef, $left) or last;
		last unless sysread $s, $got, 65536, length $got;
	}
	return $got;
}

# A command as a user of the platform runs it: (status, stdout, stderr). %o: env (all of it), dir, in (a file), to (a directory for
# what it prints).
sub command_of {
	my ($o, @words) = @_;
	my $pid = fork // die;
	if (!$pid) {
		%ENV = %{$o->{env}};
		chdir $o->{dir} or POSIX::_exit(126);
		open(STDIN, '<', $o->{in} // '/dev/null');
		open(STDOUT, '>', "$o->{to}/out");
		open(STDERR, '>', "$o->{to}/err");
		exec 'timeout', '-k', '5', '60', $COWBELL, @words or POSIX::_exit(127);
	}
	waitpid $pid, 0;
	return ($? & 127 ? 128 + ($? & 127) : $? >> 8, slurp("$o->{to}/out"), slurp("$o->{to}/err"));
}

# C as a library that is loaded into a server (env LD_PRELOAD), in that directory; its path. undef, and one test skipped: not possible here.
sub shim {
	my ($dir, $name, $c) = @_;
	my $why = !have('cc') ? 'no compiler' : $ENV{ASAN_OPTIONS} ? 'a sanitizer wants to be loaded first' : undef;
	spew("$dir/$name.c", $c);
	$why //= 'the shim does not compile' if !$why && system('cc', '-O1', '-w', '-fPIC', '-shared', '-o', "$dir/$name.so", "$dir/$name.c");
	return "$dir/$name.so" unless $why;
	SKIP: { Test::More::skip($why, 1) }
	return undef;
}

# Wait until the code gives something true, at most that long.
sub wait_for {
	my ($self, $seconds, $code) = @_;
	my $end = time + $seconds;
	while (1) {
		my $r = $code->();
		return $r if $r;
		return $r if time > $end;
		sleep 0.05;
	}
}

sub DESTROY {
	local ($?, $!, $@);
	$_[0]->kill9 if $_[0]{pid} && ($alive{$_[0]{pid}} // 0) == $$;
}

END {
	local $?;
	for my $pid (grep { $alive{$_} == $$ } keys %alive) {
		kill 'KILL', $pid;
		waitpid $pid, 0;
	}
	for my $d (grep { $made{$_} == $$ } keys %made) {
		if ($ENV{COWBELL_KEEP}) {
			print "# kept: $d\n";
		} else {
			remove_tree($d, {error => \my $ignored});
		}
	}
}

1;
