#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# What can be seen: /metrics by a strict reader, who may see what, requests forged by other pages, and the dashboard in a headless
# Chromium (dashboard_browser.py), whose screenshots stay in build/screenshots for CI.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Path qw(make_path);
use JSON::PP ();
use Platform;
use Test::More;
use Time::HiRes qw(sleep);

my $PYTHON = '/usr/bin/python3';
plan skip_all => 'needs python3 and tar' unless have($PYTHON, 'tar');
my $dir = scratch();
my $p = Platform->start(args => ['--log-format', 'json']);

# --- an app, deployed twice, with config vars; and another user with an app of his own
mkdir "$dir/app";
spew("$dir/app/Procfile", "web: python3 app.py\nworker: sleep 1000\n");
spew("$dir/app/app.py", <<'P');
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
	protocol_version = "HTTP/1.1"
	def do_GET(self):
		print("GET", self.path, "trace", self.headers.get("traceparent"), flush=True)
		if self.path == "/evil":
			sys.stdout.buffer.write(b"<img src=x onerror='window.evil=1'> \x1b[31mred\x1b[0m \x1b]0;t\x07\n")
			sys.stdout.buffer.flush()
		self.send_response(500 if self.path == "/fail" else 200)
		self.send_header("Content-Length", "6")
		self.end_headers()
		self.wfile.write(b"hello\n")
	def log_message(self, *a):
		pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), H).serve_forever()
P
sub push_app {
	my ($app, $o) = @_;
	system('tar', 'czf', "$dir/app.tgz", '-C', "$dir/app", 'Procfile', 'app.py') == 0 or die;
	my $b = $p->api('POST', "/apps/$app/builds", undef, {content => slurp("$dir/app.tgz"), headers => {'content-type' => 'application/gzip'}, %{$o // {}}});
	my $ok = $b->{status} == 201 && $p->wait_for(60, sub { $p->api('GET', "/apps/$app/builds/$b->{json}{id}")->{json}{status} eq 'succeeded' });
	ok($ok, "$app is pushed") or diag $b->{content};
}
$p->ok_api(201, 'POST', '/apps', {name => 'demo'});
$p->ok_api(200, 'PATCH', '/apps/demo/config-vars', {SECRET => 'top-secret-value'});
push_app('demo');
spew("$dir/app/app.py", slurp("$dir/app/app.py") . "\n# anew\n");
push_app('demo');
my $user = $p->api('POST', '/users', {email => 'other@example.org', name => 'Other'})->{json};
my $token = $user->{token} // $user->{access_token}{token};
ok($token, 'another user') or diag $JSON::PP::VERSION;
$p->ok_api(201, 'POST', '/apps', {name => 'theirs'}, {token => $token});

# --- traffic
is($p->app('demo', '/', {timeout => 60})->{status}, 200, 'it answers');
my $trace = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
$p->app('demo', '/traced', {headers => {traceparent => $trace}});
$p->app('demo', '/untraced', {headers => {traceparent => '00-XYZ'}});
is($p->app('demo', '/fail')->{status}, 500, 'and fails');

# --- metrics: the text format 0.0.4, read strictly
is(HTTP::Tiny->new->get($p->url . '/metrics')->{status}, 401, 'metrics: not without a token');
is($p->api('GET', '/metrics', undef, {token => 'x' x 64})->{status}, 401, 'nor with a wrong one');

# {family}{'name{labels}'} = value; dies of what the format does not allow.
sub parse {
	my ($text) = @_;
	my (%type, %seen, %value, $family);
	die "it does not end with a line's end" unless $text =~ /\n\z/;
	for (split /\n/, $text) {
		if (/^# HELP ([a-z_][a-z0-9_]*) \S/) {
			die "$1 twice" if $seen{$1}++;
			$family = $1;
		} elsif (/^# TYPE (\S+) (counter|gauge|histogram|summary)$/) {
			die "TYPE of $1 after HELP of $family" if $1 ne $family || $type{$1};
			$type{$1} = $2;
		} elsif (/^([a-z_][a-z0-9_]*)(\{(?:[a-z_]+="[^"\\\n]*",?)+\})? (\S+)$/) {
			my ($name, $labels, $v) = ($1, $2 // '', $3);
			die "a value: $v" unless $v =~ /^(?:[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?|\+Inf|NaN)$/;
			my %suffix = (histogram => '_(?:bucket|sum|count)', summary => '(?:_sum|_count)?');
			my $s = $suffix{$type{$family}} // '';
			die "$name in the family of $family" unless $name =~ /^\Q$family\E$s$/;
			die "$name$labels twice" if exists $value{"$name$labels"};
			die "comma at the end: $labels" if $labels =~ /,\}/;
			$value{"$name$labels"} = $v;
		} else {
			die "a line: $_";
		}
	}
	for my $h (grep { $type{$_} eq 'histogram' } keys %type) {
		my %last;
		for (grep { /^${h}_bucket/ } split /\n/, $text) {
			my ($rest, $le, $v) = /^\w+\{(.*?)le="([^"]+)"\} (\d+)$/ or die $_;
			die "buckets of $h fall" if $v < ($last{$rest} // 0);
			$last{$rest} = $v;
			(my $of = $rest) =~ s/,$//;
			die "+Inf of $h is not its count" if $le eq '+Inf' && $v != $value{"${h}_count" . ($of ? "{$of}" : '')};
		}
	}
	return \%value;
}

my $r = $p->api('GET', '/metrics');
is($r->{headers}{'content-type'}, 'text/plain; version=0.0.4; charset=utf-8', 'metrics: the type');
my $m = eval { parse($r->{content}) };
ok($m, 'metrics: the format holds') or diag $@;
cmp_ok($m->{'cowbell_requests_total{class="2xx"}'}, '>=', 3, 'requests are counted');
is($m->{'cowbell_requests_total{class="5xx"}'}, 1, 'failures, too');
is($m->{cowbell_apps}, 2, 'apps');
is($m->{cowbell_instances}, 1, 'instances');
cmp_ok($m->{cowbell_instances_memory_bytes}, '<', $m->{cowbell_memory_budget_bytes}, 'memory is below the budget');
is($m->{'cowbell_builds_total{result="succeeded"}'}, 2, 'builds');
my $starts = 0;
$starts += $m->{$_} for grep { /^cowbell_start_seconds_count/ } keys %$m;
cmp_ok($starts, '>=', 1, 'starts');
my ($cold) = grep { /^cowbell_cold_request_seconds_count.*total/ && $m->{$_} } keys %$m;
ok($cold, 'a cold request');
my ($how) = ($cold // '') =~ /how="(\w+)"/;
my $sum = 0;
$sum += $m->{"cowbell_cold_request_seconds_sum{how=\"$how\",phase=\"$_\"}"} for qw(queue start connect service);
my $total = $m->{"cowbell_cold_request_seconds_sum{how=\"$how\",phase=\"total\"}"};
ok(abs($sum - $total) < 0.0005 * ($m->{$cold} + 1), "its parts add up ($sum, $total)");
like($r->{content}, qr/^process_resident_memory_bytes [1-9]/m, 'the server itself');
unlike($r->{content}, qr/app="/, 'no single apps unless asked for');
$m = eval { parse($p->api('GET', '/metrics?apps=all')->{content}) };
is($m->{'cowbell_app_requests_total{app="demo",class="5xx"}'}, 1, 'metrics of apps');
$r = $p->api('GET', '/metrics', undef, {token => $token});
ok($r->{status} == 200 && $r->{content} !~ /demo|cowbell_instances_memory/, 'another user: only of his own apps');
is($p->api('GET', '/metrics?app=demo', undef, {token => $token})->{status}, 404, 'and not of others');

# --- trace context
$r = join "\n", map { /^data: (.*)/m ? $1 : () } split /\n\n/, HTTP::Tiny->new->get($p->ok_api(201, 'POST', '/apps/demo/log-sessions', {lines => 200})->{logplex_url})->{content};
like($r, qr{GET /traced trace 00-0af7651916cd43dd8448eb211c80319c-(?!b7ad6b7169203331)[0-9a-f]{16}-01$}m, 'a traceparent is passed on, with a span of the router');
like($r, qr{GET /untraced trace 00-(?!0{32})[0-9a-f]{32}-[0-9a-f]{16}-0[01]$}m, 'a bad one is replaced');
my @spans = map { eval { JSON::PP::decode_json($_) } // () } grep { /"span"/ } split /\n/, $p->log;
my ($span) = grep { ($_->{trace_id} // '') eq '0af7651916cd43dd8448eb211c80319c' } @spans;
ok($span, 'the hop is a span in the log') or diag substr $p->log, 0, 2000;
is($span->{parent_span_id}, 'b7ad6b7169203331', 'below that of the client');
is($span->{attributes}{'cowbell.app'}, 'demo', 'with its attributes');
cmp_ok($span->{end_time_unix_nano}, '>', $span->{start_time_unix_nano}, 'and its time');

# --- who may see what
sub dash {
	my ($method, $path, %o) = @_;
	my %h = (%{$o{headers} // {}}, $o{cookie} ? (cookie => "a=b; cowbell=$o{cookie}; c=d") : ());
	$r = HTTP::Tiny->new(timeout => 20, max_redirect => 0)->request($method, $p->url . "/dashboard$path", {headers => \%h, defined $o{content} ? (content => $o{content}) : ()});
	$r->{json} = eval { JSON::PP::decode_json($r->{content}) };
	return $r;
}
for my $path (qw(me overview apps apps/demo live apps/demo/logs v3/apps v3/apps/demo/config-vars)) {
	is(dash('GET', "/api/$path")->{status}, 401, "without log-in: $path");
	ok(!defined $r->{headers}{'www-authenticate'}, 'and the browser does not ask by itself');
}
is(dash('GET', '/api/apps', cookie => $p->token)->{json}{total}, 2, 'an admin sees all apps');
is(join(',', map { $_->{name} } @{dash('GET', '/api/apps', cookie => $token)->{json}{apps}}), 'theirs', 'another user his own');
is(dash('GET', '/api/overview', cookie => $token)->{json}{requests}, 0, 'and no figures of others');
ok(!exists $r->{json}{memory}{budget} && !@{$r->{json}{cold}{recent}}, 'nor of the machine');
for my $path ('apps/demo', 'apps/demo/logs', 'live?app=demo', 'v3/apps/demo', 'v3/apps/demo/config-vars', 'v3/apps/demo/releases') {
	is(dash('GET', "/api/$path", cookie => $token)->{status}, 404, "another user's: $path");
}
unlike(dash('GET', '/api/apps/demo', cookie => $p->token)->{content}, qr/top-secret/, 'values of config vars are not in it');
for my $path ('', '/', '/apps', '/apps/demo', '/starts', '/style.css', '/main.js', '/icon.svg', '/phases.json') {
	is(dash('GET', $path)->{status}, 200, "page or asset: $path");
	like($r->{headers}{'content-security-policy'}, qr/default-src 'none'.*frame-ancestors 'none'/, 'with its policy');
}
is(dash('GET', '/style.css', headers => {'if-none-match' => $r->{headers}{etag}})->{status}, 200, 'another ETag');
is(dash('GET', '/style.css', headers => {'if-none-match' => $r->{headers}{etag}})->{status}, 304, 'the same ETag: 304');
is(dash('GET', $_)->{status}, 404, "nothing: $_") for '/x', '/../api/me', '/apps/', '/main.js/';

# --- forged requests
my %own = ('x-cowbell' => 'dashboard', 'content-type' => 'application/json');
my $change = '{"maintenance":true}';
for (
	['no mark', {'content-type' => 'application/json'}],
	['a form of another page', {'content-type' => 'application/x-www-form-urlencoded'}],
	['an app beside us', {%own, origin => "http://demo.localhost:$p->{port}"}],
	['another port', {%own, origin => 'http://127.0.0.1:1'}],
	['another scheme', {%own, origin => "https://127.0.0.1:$p->{port}"}],
	['origin null', {%own, origin => 'null'}],
	['the same site, another origin', {%own, 'sec-fetch-site' => 'same-site'}],
	['another site', {%own, 'sec-fetch-site' => 'cross-site'}],
) {
	is(dash('PATCH', '/api/v3/apps/demo', cookie => $p->token, headers => $_->[1], content => $change)->{status}, 403, "forged: $_->[0]");
}
is(dash('POST', '/api/login', headers => {'content-type' => 'application/json'}, content => JSON::PP::encode_json({token => $p->token}))->{status}, 403, 'a log-in from elsewhere, too');
is(dash('PATCH', '/api/v3/apps/demo', cookie => $p->token, headers => {%own, origin => $p->url, 'sec-fetch-site' => 'same-origin'}, content => $change)->{status}, 200, 'our own page may');
is($p->api('GET', '/apps/demo')->{json}{maintenance}, JSON::PP::true, 'and it happened');
dash('PATCH', '/api/v3/apps/demo', cookie => $p->token, headers => \%own, content => '{"maintenance":false}');
is(dash('PATCH', '/api/v3/apps/demo', cookie => $token, headers => \%own, content => $change)->{status}, 404, 'another user may not');
is($p->api('GET', '/account', undef, {token => undef, headers => {cookie => 'cowbell=' . $p->token}})->{status}, 401, 'the API itself takes no cookie');
is(dash('POST', '/api/login', headers => \%own, content => $_)->{status}, 401, 'log-in refused: ' . substr $_, 0, 20) for '', '{}', '[]', '{"token":5}', '{"token":""}', '{"token":"a\\u0000b"}', '{"token":"' . 'a' x 9000 . '"}';
is(dash('POST', '/api/login', headers => \%own, content => JSON::PP::encode_json({token => $token}))->{status}, 200, 'a log-in');
like($r->{headers}{'set-cookie'}, qr{^cowbell=\Q$token\E; Path=/dashboard; Max-Age=\d+; HttpOnly; SameSite=Strict$}, 'its cookie');

# --- a client that never reads the live stream
my @idle = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->{port}) } 1 .. 20;
syswrite $_, "GET /dashboard/api/live HTTP/1.1\r\nHost: localhost\r\nCookie: cowbell=$token\r\n\r\n" for @idle;
ok($p->wait_for(5, sub { dash('GET', '/api/live', cookie => $token)->{status} == 429 }), 'so many streams, and no more');
close $_ for @idle;

# --- the figures of the three phases are those of the document
my $doc = slurp("$TOP/docs/snapshots.md");
my $phases = JSON::PP::decode_json(slurp("$TOP/platform/dashboard/phases.json"));
for my $s (map { @{$_->{systems}} } @{$phases->{phases}}) {
	my ($row) = $doc =~ /^\| \Q$s->{name}\E \|(.*)\|$/m;
	my @doc = map { /([\d.,]+)/ ? $1 =~ s/,//gr : () } split /\|/, $row // '';
	is("@doc", "@{$s->{ms}}", "$s->{name}: as in docs/snapshots.md");
}

# --- the browser
SKIP: {
	skip 'needs chromium and python3-websockets', 1 unless have('chromium') && !system("$PYTHON -c 'import websockets' 2>/dev/null");
	my $shots = "$TOP/build/screenshots";
	make_path($shots);
	push_app('demo');
	$p->api('POST', '/apps', {name => "meadow-$_"}) for 1 .. 60;
	my ($st, $out, $err) = run_out({timeout => 170}, $PYTHON, "$FindBin::Bin/dashboard_browser.py", $p->url, $p->token, 'demo', $shots);
	for (split /\n/, $out) {
		next unless /^(not )?ok (.*?)(?: # (.*))?$/;
		ok(!$1, "browser: $2") or diag $3;
	}
	is($st, 0, 'the browser is driven') or diag $err;
	cmp_ok(scalar(() = glob "$shots/*.png"), '>=', 17, 'screenshots are in build/screenshots');
}
is($p->stop, 0, 'the server ends well');
done_testing();
