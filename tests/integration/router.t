#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The front and the router with real clients: what an instance gets, what a client gets, keep-alive, bodies both ways, time-outs and Heroku's
# codes with their lines, WebSockets, TLS and SNI, HTTP/2, the PROXY protocol. The instance is played by router_backend.py.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Socket::UNIX;
use Router;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'needs curl and openssl' unless have('curl', 'openssl');
my $dir = scratch();
for my $n ('sni') {
	system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=own.example " .
		"-addext 'subjectAltName=DNS:own.example,DNS:*.wild.example' -keyout $dir/$n.key -out $dir/$n.crt 2>/dev/null");
}
my $r = Router->start(dir => $dir);
my $http = "http://127.0.0.1:$r->{port}";
my $https = "https://demo.localhost:$r->{tls}";
my @demo = ('-H', 'Host: demo.localhost');
my @tls = ('-k', '--resolve', "demo.localhost:$r->{tls}:127.0.0.1");
sub curl {
	my ($st, $out, $err) = run_out({timeout => 30}, 'curl', '-s', '--noproxy', '*', '--max-time', '25', @_);
	return wantarray ? ($out, $st) : $out;
}
my $uuid = qr/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/;

# --- what the instance gets
{
	my $h = curl(@demo, '-H', 'X-Forwarded-For: 203.0.113.7', '-H', 'X-Forwarded-Proto: gopher', '-H', 'X_Forwarded_Proto: gopher',
		'-H', 'Connection: X-Secret, close', '-H', 'X-Secret: 1', '-H', 'TE: trailers', '-H', 'X-Own: yes', "$http/head?a=b%20c");
	like($h, qr{^GET /head\?a=b%20c HTTP/1\.1\n}, 'the request line is the client\'s');
	like($h, qr/^Host: demo\.localhost\n/mi, 'Host');
	like($h, qr/^X-Own: yes$/m, 'other headers pass');
	like($h, qr/^X-Forwarded-For: 203\.0\.113\.7, 127\.0\.0\.1$/m, 'X-Forwarded-For is appended to');
	like($h, qr/^X-Forwarded-Proto: http$/m, 'X-Forwarded-Proto is ours');
	unlike($h, qr/gopher/, 'what the client said of it is gone, with an underscore, too');
	like($h, qr/^X-Forwarded-Port: 80$/m, 'X-Forwarded-Port: the one that the client believes it reached');
	like($h, qr/^X-Request-Id: $uuid$/m, 'X-Request-Id');
	like($h, qr/^X-Request-Start: \d{13}$/m, 'X-Request-Start in milliseconds');
	like($h, qr/^Via: 1\.1 cowbell$/m, 'Via');
	like($h, qr/^Traceparent: 00-[0-9a-f]{32}-[0-9a-f]{16}-00$/m, 'a trace is begun');
	unlike($h, qr/^(Connection|TE|X-Secret):/mi, 'hop-by-hop headers and those that Connection names are gone');
	$h = curl(@demo, '-H', 'X-Request-Id: my-own-id-0123456789abc', '-H', "Via: 1.0 other", "$http/head");
	like($h, qr/^X-Request-Id: my-own-id-0123456789abc$/m, 'a good request id of the client is kept');
	like($h, qr/^Via: 1\.0 other, 1\.1 cowbell$/m, 'Via is appended to');
	$h = curl(@demo, '-H', 'X-Request-Id: ' . 'x' x 201, "$http/head");
	like($h, qr/^X-Request-Id: $uuid$/m, 'one that is too long is not');
	$h = curl(@demo, '-H', 'X-Request-Id: a"b c" dyno=evil.1 0123456789', "$http/head");
	like($h, qr/^X-Request-Id: $uuid$/m, 'one with quotes and spaces is not');
	my $t = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
	$h = curl(@demo, '-H', "traceparent: $t", '-H', 'tracestate: a=b', "$http/head");
	like($h, qr/^Traceparent: 00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$/m, 'a trace goes on with a span of ours');
	like($h, qr/^tracestate: a=b$/m, 'and its state');
	ok($r->line_like(qr/"span":"router","trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"[0-9a-f]{16}","parent_span_id":"b7ad6b7169203331".*"end_time_unix_nano":"\d+"/), 'the span is logged');
}

# --- what the client gets
{
	my $o = curl(@demo, '-i', "$http/chunked");
	like($o, qr/^HTTP\/1\.1 200 OK\r\n/, 'an answer in chunks');
	like($o, qr/^Transfer-Encoding: chunked\r$/m, 'stays in chunks');
	like($o, qr/^Via: 1\.1 cowbell\r$/m, 'with Via');
	like($o, qr/hello, world\z/, 'and its body');
	$o = curl(@demo, '-0', '-i', "$http/chunked");
	like($o, qr/Connection: close.*hello, world\z/s, 'HTTP/1.0: until the connection closes');
	unlike($o, qr/chunked/, 'without chunks');
	$o = curl(@demo, '-I', "$http/bytes/77");
	like($o, qr/^Content-Length: 77\r$/m, 'HEAD tells the length');
	for my $s (204, 304, 404, 500) {
		like(curl(@demo, '-i', "$http/status/$s"), qr/^HTTP\/1\.1 $s /, "status $s");
	}
	is(length curl(@demo, "$http/bytes/5000000"), 5000000, '5 MB come');
	my $l = $r->line_like(qr{path="/bytes/5000000"});
	like($l, qr{^heroku\[router\]: at=info method=GET path="/bytes/5000000" host=demo\.localhost request_id=$uuid fwd="127\.0\.0\.1" dyno=web\.1 connect=\d+ms service=\d+ms status=200 bytes=5000000 protocol=http$}, 'its line, in Heroku\'s format');
	$o = $r->raw("GET /rawkeep/" . unpack('H*', "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") . " HTTP/1.1\r\nHost: demo.localhost\r\n\r\n" .
		"GET /head HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n", 3);
	like($o, qr/ok.*200 OK.*GET \/head HTTP/s, 'pipelined requests are answered in order');
	like($o, qr/^Connection: close\r$/m, 'Connection: close is told');
	is(curl("$http/some/page"), "own /some/page 0\n", 'our own hosts are ours');
	my ($page, $text) = (scalar curl('-i', '-H', 'Host: nobody.localhost', '-H', 'Accept: text/html', "$http/"),
		scalar curl('-i', '-H', 'Host: nobody.localhost', "$http/"));
	like($page, qr/^HTTP\/1\.1 404 .*text\/html.*<h1>No such app/s, 'a host that nobody has: a page');
	like($text, qr/^HTTP\/1\.1 404 .*text\/plain.*No such app/s, 'or a line');
}

# --- bodies towards the instance
{
	my $big = "$dir/big";
	spew($big, join '', map { pack 'N', $_ * 2654435761 % 4294967296 } 1 .. 700_000);
	for my $v (['--http1.1'], ['--http2-prior-knowledge'], ['--http1.1', '-H', 'Transfer-Encoding: chunked'], ['--http1.1', '-H', 'Expect: 100-continue']) {
		my $o = "$dir/out";
		my (undef, $st) = curl(@demo, @$v, '--data-binary', "\@$big", '-o', $o, "$http/echo");
		ok($st == 0 && slurp($o) eq slurp($big), "2.8 MB there and back: @$v");
	}
	for my $v ('--http1.1', '--http2') {
		my $o = "$dir/out";
		curl(@tls, $v, '--data-binary', "\@$big", '-o', $o, "$https/echo");
		ok(slurp($o) eq slurp($big), "TLS $v: 2.8 MB there and back");
	}
	my $s = $r->connect;
	syswrite $s, "POST /continue HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
	my $got = $r->read_for($s, 3, qr/\r\n\r\n/);
	is($got, "HTTP/1.1 100 Continue\r\n\r\n", '100 Continue comes when the instance says so');
	syswrite $s, 'hello';
	like($r->read_for($s, 3, qr/hello/), qr/^HTTP\/1\.1 200 OK.*hello\z/s, 'then the answer');
	$s = $r->connect;
	syswrite $s, "POST /expect HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 500000\r\nExpect: 100-continue\r\n\r\n";
	$got = $r->read_for($s, 3);
	like($got, qr/^HTTP\/1\.1 417 .*no\n\z/s, 'an instance that does not want the body says so at once');
	$got = $r->raw("POST / HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 5\r\nExpect: magic\r\n\r\n");
	like($got, qr/^HTTP\/1\.1 417 /, 'other expectations are refused');
	$got = $r->raw("POST /unread HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 5000000\r\n\r\n" . 'x' x 100000, 4);
	like($got, qr/^HTTP\/1\.1 413 .*too big\n\z/s, 'an answer before the body\'s end reaches the client');
	is(curl('-T', $big, "$http/up"), "own /up 2800000\n", 'our own pages get bodies, too');
}

# --- back-pressure
{
	my $s = $r->connect;
	syswrite $s, "GET /bytes/200000000 HTTP/1.1\r\nHost: demo.localhost\r\n\r\n";
	sleep 0.7;
	my ($rss) = slurp("/proc/$r->{pid}/status") =~ /VmRSS:\s+(\d+)/;
	cmp_ok($rss, '<', 40_000, 'an answer of 200 MB that nobody reads does not pile up in memory') or diag "$rss kB";
	close $s;
	ok($r->line_like(qr{code=H27 .*path="/bytes/200000000".*status=499}), 'the client has gone: H27');
	$s = $r->connect;
	syswrite $s, "GET /drip/3/0.2 HTTP/1.1\r\nHost: demo.localhost\r\n\r\n";
	my $t = time;
	my $got = $r->read_for($s, 3, qr/0\n/);
	cmp_ok(time - $t, '<', 0.35, 'pieces are passed on as they come');
}

# --- keep-alive
{
	my ($out) = curl(@demo, "$http/head", "$http/head", "$http/head");
	my $conns = () = $out =~ /X-Request-Id/g;
	is($conns, 3, 'three requests on one connection');
	curl(@demo, "$http/idleclose") for 1 .. 2;
	sleep 0.15;
	my @l = map { scalar curl(@demo, "$http/head") } 1 .. 3;
	is(scalar(grep { /^GET/ } @l), 3, 'a connection that the instance closed is not used again');
	my @raw = map { (curl(@demo, '-D', '-', '-o', '/dev/null', "$http/head")) =~ /X-Conn: (\d+)/ } 1 .. 3;
	is($raw[0], $raw[2], 'the connection to the instance is used again');
}

# --- codes
{
	my %want = (H10 => [503, 'App crashed', 'error'], H11 => [503, 'Backlog too deep', 'error'], H14 => [503, 'No web processes running', 'error'],
		H20 => [503, 'App boot timeout', 'error'], H80 => [503, 'Maintenance mode', 'info'], H81 => [503, 'Blank app', 'info'], H99 => [503, 'Platform error', 'error']);
	for my $c (sort keys %want) {
		my ($status, $desc, $at) = @{$want{$c}};
		my $o = curl('-i', '-H', "Host: \L$c.localhost", "$http/q");
		like($o, qr/^HTTP\/1\.1 $status /, "$c: $status");
		ok($r->line_like(qr/at=$at code=$c desc="$desc" method=GET path="\/q" host=\L$c\E\.localhost request_id=$uuid fwd="127\.0\.0\.1" dyno= connect= service= status=$status bytes= protocol=http$/), "$c: its line");
	}
	like(curl(@demo, '-i', "$http/close"), qr/^HTTP\/1\.1 503 /, 'closed without an answer: 503');
	ok($r->line_like(qr{code=H13 desc="Connection closed without response" method=GET path="/close".*dyno=web\.1 connect=\d+ms service=\d+ms status=503}), 'H13');
	my %bad = (
		'no HTTP' => "SSH-2.0-x\r\n\r\n", 'bare LF' => "HTTP/1.1 200 OK\nContent-Length: 0\n\n", 'two lengths' => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
		'length and chunks' => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 'a NUL' => "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
		'a folded header' => "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n", 'gzip, chunked' => "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	);
	for my $k (sort keys %bad) {
		like(curl(@demo, '-i', "$http/raw/" . unpack 'H*', $bad{$k}), qr/^HTTP\/1\.1 503 /, "an answer with $k is refused");
	}
	ok($r->line_like(qr/code=H17 desc="Poorly formatted HTTP response/), 'H17');
	like(curl(@demo, '-i', "$http/raw/" . unpack 'H*', "HTTP/1.1 200 OK\r\nSet-Cookie: " . 'x' x 3600 . "\r\nContent-Length: 0\r\n\r\n"), qr/^HTTP\/1\.1 200/, 'a cookie of 3.6 kB passes');
	like(curl(@demo, '-i', "$http/raw/" . unpack 'H*', "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), qr/^HTTP\/1\.1 503 /, 'a 101 that nobody asked for is refused');
	ok($r->line_like(qr/code=H23/), 'H23');
	my ($o, $st) = curl(@demo, "$http/raw/" . unpack 'H*', "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
	isnt($st, 0, 'an answer that breaks off: the client sees it') or diag $o;
	ok($r->line_like(qr/code=H18 desc="Server Request Interrupted"/), 'H18');
	($o, $st) = curl(@demo, "$http/raw/" . unpack 'H*', "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5;x=y\r\nhello\r\n0\r\n\r\n");
	isnt($st, 0, 'bad chunks: the client sees it, too');
	like(curl(@demo, "$http/raw/" . unpack('H*', "HTTP/1.0 200 OK\r\n\r\nuntil the end")), qr/^until the end\z/, 'an answer until the end of the connection');
	# smuggled by the instance: bytes behind an answer are nobody's
	curl(@demo, "$http/rawkeep/" . unpack('H*', "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"));
	unlike(curl(@demo, "$http/head"), qr/evil/, 'bytes behind an answer reach nobody');
	my $l429 = join ' ', $r->raw("GET /head HTTP/1.1\r\nHost: limited.localhost\r\n\r\n" x 9, 1) =~ m{^HTTP/1\.1 (\d+)}mg;
	like($l429, qr/^(200 ){5,6}(429 ?)+$/, 'requests a second are limited') or diag $l429;
}

# --- waiting for a start
{
	my $t = time;
	like(curl('-H', 'Host: late.localhost', '-d', 'body', "$http/echo"), qr/^body\z/, 'a request waits for the start, its body, too');
	cmp_ok(time - $t, '>', 0.25, 'indeed');
	my $s = $r->connect;
	syswrite $s, "GET / HTTP/1.1\r\nHost: never.localhost\r\n\r\n";
	sleep 0.2;
	close $s;
	ok($r->line_like(qr/^cancelled$/), 'a client that leaves cancels its wait');
	ok($r->line_like(qr/code=H27.*host=never\.localhost.*dyno= /), 'H27');
	$s = $r->connect;
	syswrite $s, "POST / HTTP/1.1\r\nHost: never.localhost\r\nContent-Length: 1000\r\n\r\n" . 'x' x 500;
	sleep 0.2;
	close $s;
	sleep 0.2;
	is(scalar(grep { /^cancelled$/ } split /\n/, $r->log), 2, 'also in the middle of its body');
}

# --- upgrades
{
	my $up = "GET /ws HTTP/1.1\r\nHost: demo.localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n";
	my $s = $r->connect;
	syswrite $s, $up;
	my $got = $r->read_for($s, 3, qr/hi\n/);
	like($got, qr/^HTTP\/1\.1 101 Switching Protocols\r\n.*Upgrade: echo\r\n\r\nhi\n\z/s, '101, and what came behind it');
	syswrite $s, "ping\n";
	is($r->read_for($s, 3, qr/\n/), "ping\n", 'bytes go both ways');
	my $blob = join '', map { chr($_ % 256) } 1 .. 300_000;
	my $back = '';
	if (my $pid = fork) {
		for (1 .. 400) { last if length $back >= 300_000; $back .= $r->read_for($s, 5, qr{.}s) }
		waitpid $pid, 0;
	} else {
		for (my $o = 0; $o < length $blob;) { $o += syswrite($s, $blob, 65536, $o) // last }
		POSIX::_exit(0);
	}
	ok($back eq $blob, '300 kB there and back');
	close $s;
	ok($r->line_like(qr{path="/ws".*status=101 bytes=300008}), 'its line at the end');
	$got = $r->raw("GET /nows HTTP/1.1\r\nHost: demo.localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: demo.localhost\r\n\r\n", 2);
	like($got, qr/^HTTP\/1\.1 200 OK\r\n.*ok\n\z/s, 'an Upgrade that is answered 200');
	ok(!grep({ /smuggled/ } $r->seen), 'bytes behind it are not passed on');
	SKIP: {
		skip 'python3-websockets is missing', 1 if system("/usr/bin/python3 -c 'import websockets' 2>/dev/null");
		my $port = 1;
		spew("$dir/ws.py", <<'PY');
import asyncio, sys, websockets
from websockets.server import unix_serve
async def echo(ws):
    async for m in ws:
        await ws.send(m)
async def main(sock, port):
    async with unix_serve(echo, sock):
        async with websockets.connect(f"ws://127.0.0.1:{port}/chat", extra_headers={}, host="127.0.0.1") if False else websockets.connect(f"ws://demo.localhost:{port}/chat", host="127.0.0.1", port=port) as ws:
            for m in ["hello", b"\x00\xff" * 100, "x" * 200000]:
                await ws.send(m)
                assert await ws.recv() == m
            await ws.ping()
    print("good")
asyncio.run(main(sys.argv[1], int(sys.argv[2])))
PY
		my $w = Router->start(dir => scratch(), backend => 0, socket => "$dir/ws.sock");
		my ($st, $out, $err) = run_out({timeout => 20}, '/usr/bin/python3', "$dir/ws.py", "$dir/ws.sock", $w->{port});
		is($out, "good\n", 'python3-websockets on both sides: text, binary, 200 kB, ping') or diag $err;
		$w->stop;
	}
}

# --- TLS
{
	my $h = curl(@tls, "$https/head");
	like($h, qr/^X-Forwarded-Proto: https$/m, 'TLS: X-Forwarded-Proto');
	like($h, qr/^X-Forwarded-Port: $r->{tls}$/m, 'TLS: X-Forwarded-Port');
	ok($r->line_like(qr{path="/head".*protocol=https$}), 'TLS: its line');
	is(curl(@tls, '-o', '/dev/null', '-w', '%{http_version}', "$https/head"), '2', 'ALPN: HTTP/2');
	is(curl(@tls, '--http1.1', '-o', '/dev/null', '-w', '%{http_version}', "$https/head"), '1.1', 'ALPN: HTTP/1.1');
	for my $v ('tls1_2', 'tls1_3') {
		like(`echo | timeout 10 openssl s_client -connect 127.0.0.1:$r->{tls} -$v -servername own.example 2>/dev/null`, qr/subject=CN = own\.example/, "$v, SNI: the certificate of its name");
	}
	like(`echo | timeout 10 openssl s_client -connect 127.0.0.1:$r->{tls} -servername a.wild.example 2>/dev/null`, qr/subject=CN = own\.example/, 'SNI: a wildcard');
	like(`echo | timeout 10 openssl s_client -connect 127.0.0.1:$r->{tls} -servername a.b.wild.example 2>/dev/null`, qr/subject=CN = Cowbell/, 'SNI: not of two labels');
	like(`echo | timeout 10 openssl s_client -connect 127.0.0.1:$r->{tls} -servername other.example 2>/dev/null`, qr/subject=CN = Cowbell/, 'SNI: else our own');
	unlike(`echo | timeout 10 openssl s_client -connect 127.0.0.1:$r->{tls} -tls1_1 -cipher ALL:\@SECLEVEL=0 2>/dev/null`, qr/Cipher is (?!\(NONE\))\S/, 'TLS 1.1 is refused');
	is(curl('--cacert', "$dir/sni.crt", '--resolve', "own.example:$r->{tls}:127.0.0.1", '-o', '/dev/null', '-w', '%{http_code}', "https://own.example:$r->{tls}/head"), '200', 'a client that trusts it');
	like($r->log, qr/bad certificate: the certificate cannot be read/, 'a certificate that is none is refused');
	is((slurp("$dir/certs/self.key") =~ /PRIVATE/) + 0, 1, 'our own was made');
	is((stat "$dir/certs/self.key")[2] & 077, 0, 'and its key is for us alone');
	like($r->raw("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 2, qr/\n\z/), qr/200/, 'plain HTTP goes on');
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $r->{tls});
	syswrite $s, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
	unlike($r->read_for($s, 2), qr/^HTTP/, 'plain HTTP on the TLS port gets no answer');
	ok($r->alive, 'and does no harm');
}

# --- HTTP/2
{
	my $h = curl(@demo, '--http2-prior-knowledge', '-H', 'Cookie: a=1', "$http/head");
	like($h, qr/^GET \/head HTTP\/1\.1\n/, 'HTTP/2 becomes HTTP/1.1');
	like($h, qr/^host: demo\.localhost$/m, 'with a Host');
	like($h, qr/^Via: 2 cowbell$/m, 'and a Via that tells');
	is(length curl(@demo, '--http2-prior-knowledge', "$http/bytes/3000000"), 3000000, '3 MB by HTTP/2');
	like(curl(@demo, '-I', '--http2-prior-knowledge', "$http/bytes/77"), qr/^HTTP\/2 200 .*content-length: 77\r/ms, 'HEAD');
	like(curl(@demo, '--http2', "$http/head"), qr/^GET \/head HTTP\/1\.1\n(?!.*h2c)/s, 'Upgrade: h2c is not passed on');
	my ($o, $st) = curl(@demo, '--http2-prior-knowledge', "$http/raw/" . unpack 'H*', "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
	isnt($st, 0, 'an answer that breaks off resets the stream');
	SKIP: {
		skip 'h2load is missing', 2 unless have('h2load');
		my ($s2, $out) = run_out({timeout => 30}, 'h2load', '-n', '3000', '-c', '4', '-m', '20', '-H', ':authority: demo.localhost', "$http/echo");
		like($out, qr/3000 succeeded, 0 failed/, 'h2load: 3,000 requests in 80 streams') or diag $out;
		($s2, $out) = run_out({timeout => 30}, 'h2load', '-n', '2000', '-c', '4', '-m', '10', "https://127.0.0.1:$r->{tls}/x");
		like($out, qr/2000 succeeded, 0 failed/, 'h2load over TLS') or diag $out;
	}
}
ok($r->line_like(qr/^in flight 0$/), 'every request was given back');
is((grep { /^in flight/ } split /\n/, $r->log)[-1], 'in flight 0', 'also the last one');

# --- a stop that waits
{
	my $s = $r->connect;
	syswrite $s, "GET /slow/0.7 HTTP/1.1\r\nHost: demo.localhost\r\n\r\n";
	my $idle = $r->connect;
	sleep 0.2;
	kill 'TERM', $r->{pid};
	is($r->read_for($idle, 1), '', 'stopping: idle connections are closed');
	like($r->read_for($s, 3, qr/slow/), qr/Connection: close.*slow\n\z/s, 'a request in flight is finished');
	is($r->stop, 0, 'then it ends');
}

# --- time-outs, PROXY protocol
{
	my $q = Router->start(dir => scratch(), env => {FIRST_BYTE => 400, IDLE => 500, CONNECT => 300, PROXY => 1});
	my $p1 = "PROXY TCP4 192.0.2.77 198.51.100.1 4711 80\r\n";
	my $get = sub { my ($pre, $path, $t) = @_; return $q->raw("${pre}GET $path HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n", $t // 3) };
	like($get->($p1, '/head'), qr/^X-Forwarded-For: 192\.0\.2\.77$/m, 'PROXY v1');
	like($get->("PROXY TCP6 2001:db8::1 2001:db8::2 4711 80\r\n", '/head'), qr/^X-Forwarded-For: 2001:db8::1$/m, 'PROXY v1, IPv6');
	like($get->("PROXY UNKNOWN\r\n", '/head'), qr/^X-Forwarded-For: 127\.0\.0\.1$/m, 'PROXY v1 UNKNOWN');
	my $sign = "\r\n\r\n\0\r\nQUIT\n";
	my $v4 = pack('C4 C4 n n', 192, 0, 2, 88, 198, 51, 100, 1, 4711, 80);
	my $v2 = sub { my ($vc, $fam, $rest, $len) = @_; return $sign . pack('C C n', $vc, $fam, $len // length $rest) . $rest };
	like($get->($v2->(0x21, 0x11, $v4), '/head'), qr/^X-Forwarded-For: 192\.0\.2\.88$/m, 'PROXY v2');
	like($get->($v2->(0x21, 0x11, $v4 . pack('C n a3', 4, 3, 'abc')), '/head'), qr/^X-Forwarded-For: 192\.0\.2\.88$/m, 'PROXY v2 with a TLV');
	like($get->($v2->(0x20, 0x00, ''), '/head'), qr/^X-Forwarded-For: 127\.0\.0\.1$/m, 'PROXY v2 LOCAL');
	my %bad = (
		'none' => '', 'v1 with a bad port' => "PROXY TCP4 192.0.2.77 198.51.100.1 99999 80\r\n", 'v1 with a name' => "PROXY TCP4 localhost 198.51.100.1 1 80\r\n",
		'v1 too long' => 'PROXY UNKNOWN ' . 'x' x 120 . "\r\n", 'v1 with a bare LF' => "PROXY TCP4 192.0.2.77 198.51.100.1 4711 80\n",
		'v2 with a TLV over the end' => $v2->(0x21, 0x11, $v4 . pack('C n a1', 4, 300, 'a')), 'v2 too short' => $v2->(0x21, 0x11, substr $v4, 0, 8),
		'v2 of version 3' => $v2->(0x31, 0x11, $v4), 'v2 with a bad command' => $v2->(0x25, 0x11, $v4), 'v2, huge' => $v2->(0x21, 0x11, $v4, 60000),
	);
	unlike($get->($bad{$_}, '/head', 1), qr/HTTP\/1\.1 200/, "PROXY: refused: $_") for sort keys %bad;
	my $t = time;
	like($get->($p1, '/slow/2'), qr/^HTTP\/1\.1 503 .*Request timeout/s, 'no first byte in time: 503');
	cmp_ok(time - $t, '<', 1, 'in time');
	ok($q->line_like(qr{code=H12 desc="Request timeout" method=GET path="/slow/2" .*service=4\d\dms status=503}), 'H12');
	my $got = $get->($p1, '/drip/2/1');
	unlike($got, qr/\r\n0\r\n\r\n\z/, 'silence in the middle: cut');
	ok($q->line_like(qr{code=H15 desc="Idle connection".*path="/drip/2/1"}), 'H15');
	my $s = $q->connect;
	syswrite $s, "${p1}POST /echo HTTP/1.1\r\nHost: demo.localhost\r\nContent-Length: 10\r\n\r\nabc";
	like($q->read_for($s, 3), qr/^HTTP\/1\.1 499 /, 'a body that does not go on');
	ok($q->line_like(qr{code=H28 desc="Client Connection Idle".*status=499}), 'H28');
	$s = $q->connect;
	syswrite $s, "${p1}GET /ws HTTP/1.1\r\nHost: demo.localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
	$t = time;
	$q->read_for($s, 3);
	cmp_ok(time - $t, '<', 1.5, 'an upgraded connection that idles is closed');
	kill 'KILL', $q->{backend};
	waitpid delete $q->{backend}, 0;
	like($get->($p1, '/head'), qr/^HTTP\/1\.1 503 /, 'an instance that refuses connections');
	ok($q->line_like(qr/code=H21 desc="Backend connection refused"/), 'H21');
	is($q->stop, 0, 'it ends');
}
# --- an app that goes away under a request whose body is still to come; answers before the answer without end
{
	my $path = "$dir/gone.sock";
	my $listen = IO::Socket::UNIX->new(Local => $path, Listen => 5) or die "$path: $!";
	my $q = Router->start(dir => scratch(), backend => 0, socket => $path);
	my $s = $q->connect;
	syswrite $s, "GET / HTTP/1.1\r\nHost: late.localhost\r\n\r\n";
	my $c = $listen->accept;
	sysread $c, my $request, 65536;
	syswrite $c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
	like($q->read_for($s, 3, qr/ok\z/), qr/^HTTP\/1\.1 200 /, 'a connection is kept');
	syswrite $s, "PUT /x HTTP/1.1\r\nHost: late.localhost\r\nContent-Length: 5\r\n\r\n";
	sysread $c, $request, 65536;
	unlink $path;
	close $listen;
	close $c;
	sleep 0.1; # it looks for another instance now
	syswrite $s, 'hello';
	like($q->read_for($s, 3), qr/^HTTP\/1\.1 503 /, 'the instance goes, and then the body comes: 503');
	ok($q->line_like(qr{code=H21 .*method=PUT path="/x"}), 'H21');
	ok($q->alive, 'and the router lives');
	$q->stop;
	$r = Router->start(dir => scratch());
	my $early = unpack 'H*', "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" x 40;
	my $got = $r->raw("GET /rawkeep/$early HTTP/1.1\r\nHost: demo.localhost\r\nConnection: close\r\n\r\n", 5);
	like($got, qr/^(HTTP\/1\.1 103 .*?\r\n\r\n){32}HTTP\/1\.1 503 /s, 'interim answers end somewhere');
	ok($r->line_like(qr{code=H17 desc="[^"]*too many interim answers"}), 'H17');
	is($r->stop, 0, 'it ends');
}
done_testing();
