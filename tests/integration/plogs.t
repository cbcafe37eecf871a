#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Lines of apps: sessions as clients read them, filters, readers that are too slow, and drains to receivers that look at every byte.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Select;
use IO::Socket::INET;
use JSON::PP ();
use Platform;
use Test::More;
use Time::HiRes qw(sleep time);

my $PYTHON = '/usr/bin/python3';
plan skip_all => 'needs python3, openssl and tar' unless have($PYTHON, 'openssl', 'tar');

my $dir = scratch();
my @children;
END {
	local $?;
	kill 'KILL', $_ for @children;
}

# --- certificates: a CA that the server is told to trust, localhost, and somebody else
sub sh_ok {
	my ($st, $out, $err) = run_out({dir => $dir, timeout => 30}, @_);
	die "@_: $out$err" if $st;
}
sh_ok(qw(openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca.key -out ca.pem));
for my $n ('localhost', 'elsewhere.example') {
	spew("$dir/$n.ext", "subjectAltName=DNS:$n\n");
	sh_ok('openssl', 'req', '-newkey', 'rsa:2048', '-nodes', '-subj', "/CN=$n", '-keyout', "$n.key", '-out', "$n.csr");
	sh_ok('openssl', 'x509', '-req', '-in', "$n.csr", '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', 2, '-extfile', "$n.ext", '-out', "$n.pem");
}

my $p = Platform->start(args => ['--drain-private'], env => {SSL_CERT_FILE => "$dir/ca.pem"});

# --- an app that says what it is told to
mkdir "$dir/app";
spew("$dir/app/Procfile", "web: python3 app.py\n");
spew("$dir/app/app.py", <<'P');
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
	def do_GET(self):
		what, _, arg = self.path[1:].partition("=")
		if what == "say":
			print(arg, flush=True)
		elif what == "many":
			sys.stdout.write("".join("line %06d %s\n" % (i, "x" * 1000) for i in range(int(arg))))
			sys.stdout.flush()
		elif what == "evil":
			sys.stdout.buffer.write(b"evil \x1b[31mred\x1b[0m \x1b]0;t\x07 \xff\x00\x85 \xe2\x82\xac data: x\rid: 99\n")
			sys.stdout.buffer.flush()
		self.send_response(200)
		self.send_header("Content-Length", "0")
		self.end_headers()
	def log_message(self, *a):
		pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), H).serve_forever()
P
sh_ok('tar', 'czf', 'app.tgz', '-C', 'app', 'Procfile', 'app.py');
$p->ok_api(201, 'POST', '/apps', {name => 'demo'});
my $b = $p->api('POST', '/apps/demo/builds', undef, {content => slurp("$dir/app.tgz"), headers => {'content-type' => 'application/gzip'}});
is($b->{status}, 201, 'the app is pushed') or diag $b->{content};
ok($p->wait_for(60, sub { $p->api('GET', "/apps/demo/builds/$b->{json}{id}")->{json}{status} eq 'succeeded' }), 'and built') or diag $p->api('GET', "/apps/demo/builds/$b->{json}{id}")->{content};
is($p->app('demo', '/say=first', {timeout => 60})->{status}, 200, 'it answers');

sub session {
	my ($o, $opt) = @_;
	return $p->ok_api(201, 'POST', '/apps/demo/log-sessions', $o, $opt)->{logplex_url};
}

# The lines of a session without tail.
sub lines {
	my $r = HTTP::Tiny->new(timeout => 20)->get(session({tail => JSON::PP::false, @_}));
	is($r->{headers}{'content-type'}, 'text/event-stream; charset=utf-8', 'an event stream');
	return grep { defined } map { /^data: (.*)/ms ? $1 : undef } split /\n\n/, $r->{content};
}

# A stream that stays open: a socket, what came so far.
sub follow {
	my ($url, %o) = @_;
	my ($port, $path) = $url =~ m{:(\d+)(/.*)};
	my $s = IO::Socket::INET->new(Proto => 'tcp') or die;
	setsockopt($s, Socket::SOL_SOCKET(), Socket::SO_RCVBUF(), pack('i', $o{buffer})) if $o{buffer};
	connect($s, Socket::pack_sockaddr_in($port, Socket::inet_aton('127.0.0.1'))) or die "connect: $!";
	syswrite $s, "GET $path HTTP/1.1\r\nHost: localhost\r\n" . ($o{after} ? "Last-Event-ID: $o{after}\r\n" : '') . "\r\n";
	return {s => $s, got => ''};
}

# Read until it matches or the time is over; chunk sizes are taken out.
sub until_seen {
	my ($f, $re, $seconds) = @_;
	my $end = time + $seconds;
	my $sel = IO::Select->new($f->{s});
	while (1) {
		(my $text = $f->{got}) =~ s/\r\n[0-9a-f]+\r\n//g;
		return $text if $text =~ $re;
		my $left = $end - time;
		return undef if $left <= 0 || $f->{eof} || !$sel->can_read($left);
		$f->{eof} = 1 unless sysread $f->{s}, $f->{got}, 1 << 18, length $f->{got};
	}
}

# --- sessions
my $T = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00/;
my @l = lines(lines => '1000');
ok((grep { /^$T app\[web\.1\]: first$/ } @l), 'a line of the app') or diag join "\n", @l;
ok((grep { /^$T heroku\[router\]: at=info method=GET path="\/say=first" / } @l), 'a line of the router');
ok(!(grep { !/^$T [a-z]+\[[\w.-]+\]: / } @l), 'all are as clients read them');
is(scalar(lines(lines => 2)), 2, 'so many as were asked for');
is(scalar(lines(lines => 0)), 0, 'none');
ok(!(grep { !/ app\[/ } lines(source => 'app')), 'only those of a source');
@l = lines(dyno => 'router');
ok(@l && !(grep { !/\[router\]/ } @l), 'only those of a dyno');
@l = lines(dyno => 'web', source => 'app');
ok(@l && !(grep { !/ app\[web\.1\]/ } @l), 'a type means all of its dynos');
is(scalar(lines(dyno => 'we')), 0, 'a part of a name means nothing');
for my $bad ({lines => 'x'}, {lines => -1}, {tail => 'yes'}, {dyno => ['a']}, {source => 'x' x 500}) {
	is($p->api('POST', '/apps/demo/log-sessions', $bad)->{status}, 422, 'refused: ' . JSON::PP->new->canonical->encode($bad));
}

$p->app('demo', '/evil');
ok($p->wait_for(5, sub { @l = grep { /evil/ } lines(source => 'app'); scalar @l }), 'a line with controls');
is($l[-1] =~ s/^\S+ //r, "app[web.1]: evil \e[31mred\e[0m \xef\xbf\xbd]0;t\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xe2\x82\xac data: x\xef\xbf\xbdid: 99", 'colours and UTF-8 stay, the rest is harmless');

my $url = session({tail => JSON::PP::true, lines => 1});
my $f = follow($url);
ok(until_seen($f, qr/data: /, 5), 'a stream with tail gives what was there');
$p->app('demo', '/say=live-one');
my $text = until_seen($f, qr/: live-one\n/, 5);
ok($text, 'and what comes') or diag $f->{got};
my ($id) = ($text // '') =~ /id: (\d+)\ndata: [^\n]*live-one/;
close $f->{s};
$p->app('demo', '/say=live-two');
sleep 0.3;
$f = follow($url, after => $id);
$text = until_seen($f, qr/live-two/, 5) // '';
ok($text =~ /live-two/ && $text !~ /: live-one\n/, 'who comes again with Last-Event-ID goes on behind it');
my $second = follow($url);
ok(until_seen($second, qr/data: /, 5) && !until_seen($f, qr/never/, 1) && $f->{got} =~ /\r\n0\r\n\r\n\z/, 'one client for a session: the newer one');

is(HTTP::Tiny->new->get($p->url . '/log-sessions/' . '0' x 32)->{status}, 404, 'an unknown token');
is(HTTP::Tiny->new->get($p->url . '/log-sessions/')->{status}, 404, 'no token');
is(HTTP::Tiny->new->post($url)->{status}, 405, 'read only');

# --- another tenant
my $other = $p->api('POST', '/users', {email => 'other@example.org', name => 'Other'})->{json};
my $token = $other->{token} // $other->{access_token}{token};
SKIP: {
	skip 'no token of another user', 4 unless $token;
	for ([POST => '/apps/demo/log-sessions', {}], [GET => '/apps/demo/log-drains'], [POST => '/apps/demo/log-drains', {url => 'syslog://h.example'}], [DELETE => '/apps/demo/log-drains/x']) {
		is($p->api(@$_[0, 1, 2], {token => $token})->{status}, 404, "another tenant: $_->[0] $_->[1]");
	}
}

# --- a slow reader
my $slow = follow(session({tail => JSON::PP::true, lines => 0, source => 'app'}), buffer => 4096);
my $fast = follow(session({tail => JSON::PP::true, lines => 0, source => 'app', dyno => 'web.1'}));
sleep 0.3;
my $n = 20_000;	# at most 5,000 in a second: more are not taken from an instance
for (1 .. 5) {
	is($p->app('demo', '/many=' . $n / 5, {timeout => 60})->{status}, 200, 'many lines are said');
	until_seen($fast, qr/never/, 1.1);
}
$p->app('demo', '/say=the-end');
ok($p->wait_for(20, sub { grep { /the-end/ } lines(source => 'app', lines => 5) }), 'all were taken while one reader stood still');
ok(until_seen($fast, qr/the-end/, 5), 'the other one had them');
my ($rss) = slurp('/proc/' . $p->pid . '/status') =~ /VmRSS:\s+(\d+)/;
cmp_ok($rss, '<', 120_000, "and the server did not grow for it ($rss KB)");
$text = until_seen($slow, qr/the-end/, 20) // '';
my ($told, $lost) = (0, 0);
$told++ while $text =~ /data: \S+ app\[web\.1\]: line/g;
$lost += $1 while $text =~ /heroku\[logplex\]: Error L11 \(Tail buffer overflow\) -> This tail session dropped (\d+) messages since/g;
cmp_ok($lost, '>', 0, 'the slow one is told how many it lost');
# routers' lines are lost to it as well, though its filter would have left them out
cmp_ok($told + $lost, '>=', $n, "told $told and lost $lost are at least all $n");
cmp_ok($told + $lost, '<=', $n + 300, 'and not more');
close $slow->{s};

# --- drains
sub receiver {
	my ($mode, $port, $out, @tls) = @_;
	my $pid = fork // die;
	if (!$pid) {
		open STDERR, '>', "$dir/receiver.err";
		exec $PYTHON, "$FindBin::Bin/drain_receiver.py", $mode, $port, $out, @tls;
	}
	push @children, $pid;
	my $got;
	$p->wait_for(10, sub { ($got) = slurp($out) =~ /^PORT (\d+)/m; $got }) or die 'the receiver did not start';
	return ($got, $pid);
}

sub drain {
	my ($u) = @_;
	return $p->ok_api(201, 'POST', '/apps/demo/log-drains', {url => $u});
}
my $FRAME = qr/^<(\d+)>1 $T (d\.[0-9a-f-]{36}) (app|heroku) ([\w.-]+) - - (.*)$/m;

my ($port, $pid) = receiver('syslog', 0, "$dir/tcp");
my $d = drain("syslog://127.0.0.1:$port");
like($d->{token}, qr/^d\.[0-9a-f-]{36}$/, 'a drain has a token');
is($p->api('POST', '/apps/demo/log-drains', {url => $d->{url}})->{status}, 422, 'no second one to the same URL');
$p->app('demo', '/say=to-syslog');
ok($p->wait_for(8, sub { slurp("$dir/tcp") =~ /to-syslog$/m }), 'a line arrives by syslog') or diag slurp("$dir/tcp");
my @frames = grep { !/^PORT/ } split /\n/, slurp("$dir/tcp");
is(scalar(grep { !/$FRAME/ } @frames), 0, 'each frame is RFC 5424') or diag join "\n", @frames;
ok((grep { /$FRAME/ && $2 eq $d->{token} && $3 eq 'app' && $4 eq 'web.1' && $1 == 190 && $5 eq 'to-syslog' } @frames), 'with token, source and dyno');

# the receiver dies and comes back
kill 'KILL', $pid;
waitpid $pid, 0;
$p->app('demo', '/say=while-away');
ok($p->wait_for(10, sub { grep { /heroku\[logplex\]: Error L13 / } lines(dyno => 'logplex') }), 'the app is told that its drain fails');
$p->app('demo', '/say=while-away-2');
unlink "$dir/tcp";
receiver('syslog', $port, "$dir/tcp");
ok($p->wait_for(20, sub { slurp("$dir/tcp") =~ /while-away-2$/m }), 'it connects again by itself and goes on');
is($p->api('GET', '/apps/demo/log-drains/' . $d->{token})->{json}{id}, $d->{id}, 'found by its token');
(my $escaped = $d->{url}) =~ s/([^\w.-])/sprintf '%%%02X', ord $1/ge;
is($p->api('DELETE', "/apps/demo/log-drains/$escaped")->{status}, 200, 'removed by its URL');

my ($tls) = receiver('syslog', 0, "$dir/tls", "$dir/localhost.pem", "$dir/localhost.key");
$d = drain("syslog+tls://localhost:$tls");
$p->app('demo', '/say=by-tls');
ok($p->wait_for(8, sub { slurp("$dir/tls") =~ /by-tls$/m }), 'a line arrives by TLS') or diag slurp("$dir/tls"), join "\n", lines(dyno => 'logplex');
$p->api('DELETE', "/apps/demo/log-drains/$d->{id}");

($tls) = receiver('syslog', 0, "$dir/wrong", "$dir/elsewhere.example.pem", "$dir/elsewhere.example.key");
$d = drain("syslog+tls://localhost:$tls");
$p->app('demo', '/say=never-there');
ok($p->wait_for(8, sub { grep { /Error L14 \(certificate validation\)/ } lines(dyno => 'logplex') }), 'a certificate for another name: told as L14');
unlike(slurp("$dir/wrong"), qr/never-there/, 'and nothing was sent');
$p->api('DELETE', "/apps/demo/log-drains/$d->{id}");

my ($https) = receiver('http', 0, "$dir/https", "$dir/localhost.pem", "$dir/localhost.key");
$d = drain("https://user:p%40ss\@localhost:$https/in?x=1");
$p->app('demo', "/say=by-https-$_") for 1 .. 3;
ok($p->wait_for(15, sub { slurp("$dir/https") =~ /by-https-3.*204/ }), 'lines arrive by HTTPS') or diag slurp("$dir/https"), join "\n", lines(dyno => 'logplex');
my @posts = map { JSON::PP::decode_json($_) } grep { /^\{/ } split /\n/, slurp("$dir/https");
my $h = $posts[0]{headers};
is("$posts[0]{method} $posts[0]{path}", 'POST /in?x=1', 'to the path');
is($h->{'content-type'}, 'application/logplex-1', 'as application/logplex-1');
is($h->{authorization}, 'Basic dXNlcjpwQHNz', 'with user and password');
is($h->{'logplex-drain-token'}, $d->{token}, 'with the token');
ok(!(grep { $_->{headers}{'logplex-msg-count'} != @{$_->{frames}} || length $_->{rest} } @posts), 'Logplex-Msg-Count counts the frames');
like($posts[0]{frames}[0], qr/^<\d+>1 $T \S+ (app|heroku) [\w.-]+ - .*\n\z/, 'frames as Heroku has them');
my @same;
$p->wait_for(15, sub {
	@posts = map { JSON::PP::decode_json($_) } grep { /^\{.*\}$/ } split /\n/, slurp("$dir/https");
	@same = grep { $_->{headers}{'logplex-frame-id'} eq $h->{'logplex-frame-id'} } @posts;
	return @same > 1 && $same[-1]{answer} == 204;
});
ok(@same > 1 && $same[0]{answer} == 503 && !(grep { "@{$_->{frames}}" ne "@{$same[0]{frames}}" } @same), 'what was answered 503 comes again, with the same Frame-Id')
	or diag map { "$_->{answer} $_->{headers}{'logplex-frame-id'} @{$_->{frames}}" } @posts;

for my $bad ('', 'ftp://x', 'syslog://', 'syslog://a b', 'https://h/"x', 'syslog://h:0', 'syslog://h:99999', 'syslog://[::1', "https://h/\nX: y", 'https://u%zz@h/', 'https://' . 'h' x 2000) {
	is($p->api('POST', '/apps/demo/log-drains', {url => $bad})->{status}, 422, 'no drain: ' . substr($bad =~ s/\n/\\n/r, 0, 30));
}

# --- it lasts, and goes with the app
$p->restart;
is($p->api('GET', '/apps/demo/log-drains')->{json}[0]{id}, $d->{id}, 'drains are there after a restart');
$p->app('demo', '/say=after-restart', {timeout => 60});
ok($p->wait_for(10, sub { slurp("$dir/https") =~ /after-restart/ }), 'and work');
$f = follow(session({tail => JSON::PP::true}));
until_seen($f, qr/data: /, 5);
is($p->api('DELETE', '/apps/demo')->{status}, 200, 'the app is destroyed');
until_seen($f, qr/never/, 1);
ok($f->{got} =~ /\r\n0\r\n\r\n\z/, 'its streams end');
is($p->stop, 0, 'the server ends well');

# --- private targets
my $q = Platform->start;
$q->ok_api(201, 'POST', '/apps', {name => 'demo'});
for my $private ('syslog://127.0.0.1:514', 'syslog://localhost', 'https://[::1]/', 'https://10.1.2.3/', 'http://169.254.169.254/latest', 'syslog://[::ffff:192.168.0.1]:514') {
	my $r = $q->api('POST', '/apps/demo/log-drains', {url => $private});
	ok($r->{status} == 422 && $r->{json}{message} =~ /private/, "refused: $private") or diag $r->{content};
}
$q->stop;
done_testing();
