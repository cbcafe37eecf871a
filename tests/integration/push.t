#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Builds by the API: sources, output, failures that leave the old release alone, the release phase, limits, cancelling.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Digest::SHA qw(sha256_hex);
use IO::Compress::Gzip qw(gzip);
use IO::Socket::INET;
use Platform;
use Tar;
use Test::More;
use Time::HiRes qw(sleep time);

my $p = Platform->start(args => ['--build-timeout', '8s', '--max-source', '8M', '--max-entries', '300']);

sub app { $p->ok_api(201, 'POST', '/apps', {name => $_[0]}); }
sub source {
	my ($text, %more) = @_;
	my %f = ('app.py' => $Platform::TEXT_APP, Procfile => "web: python3 app.py\n", 'requirements.txt' => '', text => $text, %more);
	return tar_of(map { tar_entry($_, $f{$_}) } sort grep { defined $f{$_} } keys %f);
}
# One request: the source as body, the answer when it is built.
sub push_now {
	my ($app, $tar, $query, $type) = @_;
	return $p->api('POST', "/apps/$app/builds?wait=1" . ($query ? "&$query" : ''), undef,
		{content => $tar, headers => {'content-type' => $type // 'application/x-tar'}});
}
sub output { my $u = $_[0]{output_stream_url}; return HTTP::Tiny->new(timeout => 60)->get($u)->{content} }
sub serves { my ($app, $text, $name) = @_; local $Test::Builder::Level = $Test::Builder::Level + 1; my $r; $p->wait_for(10, sub { $r = $p->app($app); $r->{content} eq $text }); is($r->{content}, $text, $name) or diag($r->{status}) }
sub version { return ($p->api('GET', "/apps/$_[0]/releases")->{json} // [])->[-1] }

subtest 'one request from a tar to a URL' => sub {
	app('one');
	my $r = push_now('one', source("hello\n"), 'version=abc123');
	is($r->{status}, 201, 'built') or diag($r->{content});
	my $b = $r->{json};
	is($b->{status}, 'succeeded', 'its status');
	ok($b->{slug}{id} && $b->{release}{id}, 'slug and release are named');
	is($b->{source_blob}{version}, 'abc123', 'version as it was said');
	my $out = output($b);
	like($out, qr/^-----> Python app detected/m, 'output: what was found');
	like($out, qr/^-----> Launching\.\.\.\n       Released v1\n       http:\/\/one\.localhost:\d+\/ deployed\n\z/m, 'output: the end');
	serves('one', "hello\n", 'it answers');
	like(version('one')->{description}, qr/^Deploy abc123/, 'the release says what it is');
	my $s = $p->ok_api(200, 'GET', "/apps/one/slugs/$b->{slug}{id}");
	is_deeply($s->{process_types}, {web => 'python3 app.py'}, 'process types of the slug');
	gzip(\source("zipped\n"), \my $gz);
	is(push_now('one', $gz, '', 'application/gzip')->{status}, 201, 'gzip, too');
	serves('one', "zipped\n", 'the new one answers');
	my $sub = tar_of(tar_entry('top/', '', type => 5, mode => 0755), map { tar_entry("top/$_->[0]", $_->[1]) } ['app.py', $Platform::TEXT_APP], ['Procfile', "web: python3 app.py\n"], ['text', "below\n"]);
	is(push_now('one', $sub)->{status}, 201, "one directory at the top, as GitHub's archives have it");
	serves('one', "below\n", 'is the app');
};

subtest 'by source URLs, as Heroku has them' => sub {
	app('two');
	my $s = $p->ok_api(201, 'POST', '/apps/two/sources')->{source_blob};
	my $http = HTTP::Tiny->new(timeout => 20);
	is($http->get($s->{get_url})->{status}, 404, 'nothing was sent yet');
	is($http->put($s->{get_url}, {content => 'x'})->{status}, 403, 'the URL to get from is not one to put to');
	(my $forged = $s->{put_url}) =~ s/.$/substr($&, 0, 1) eq '0' ? '1' : '0'/e;
	is($http->put($forged, {content => 'x'})->{status}, 403, 'a forged URL');
	my $tar = source("two\n");
	is($http->put($s->{put_url}, {content => $tar})->{status}, 200, 'PUT');
	is($http->get($s->{get_url})->{content}, $tar, 'GET gives it back');
	my $b = $p->ok_api(201, 'POST', '/apps/two/builds', {source_blob => {url => $s->{get_url}, version => 'v1', checksum => 'SHA256:' . sha256_hex($tar)}});
	is($b->{status}, 'pending', 'at once: pending');
	like(output($b), qr/Released v1\n.*deployed\n\z/s, 'the stream goes on until the end');
	is($p->api('GET', "/apps/two/builds/$b->{id}")->{json}{status}, 'succeeded', 'afterwards: succeeded');
	serves('two', "two\n", 'it answers');
	is($p->api('POST', '/apps/two/builds', {source_blob => {url => $s->{get_url}}})->{status}, 422, 'a source is used once');
	my $result = $p->ok_api(200, 'GET', "/apps/two/builds/$b->{id}/result");
	is($result->{exit_code}, 0, 'result: exit code');
	ok(scalar(grep { $_->{line} =~ /Launching/ } @{$result->{lines}}), 'result: lines');
	$s = $p->ok_api(201, 'POST', '/sources')->{source_blob};
	$http->put($s->{put_url}, {content => $tar});
	my $r = $p->api('POST', '/apps/two/builds?wait=1', {source_blob => {url => $s->{get_url}, checksum => 'SHA256:' . '0' x 64}});
	is($r->{status}, 422, 'a wrong checksum');
	like($r->{json}{message}, qr/checksum/, 'is said');
	is(scalar @{$p->api('GET', '/apps/two/builds')->{json}}, 2, 'both are listed');
};

subtest 'foreign URLs: not into this machine or its networks' => sub {
	my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1') or die;
	my $port = $s->sockport;
	for my $url ("http://127.0.0.1:$port/a.tar", "http://localhost:$port/a", "http://[::1]:$port/", "http://[::ffff:127.0.0.1]:$port/", "http://0.0.0.0:$port/",
		"http://2130706433:$port/", "http://169.254.169.254/latest/", 'http://10.0.0.1/', 'http://192.168.1.1/x', 'https://172.16.0.9/') {
		my $r = $p->api('POST', '/apps/two/builds?wait=1', {source_blob => {url => $url}});
		is($r->{status}, 422, "$url is refused");
		like($r->{json}{message}, qr/private network|fetched/, 'for its address') or diag($r->{content});
	}
	for my $url ('file:///etc/passwd', 'ftp://a.example/', 'gopher://x/', '', '-o/etc/x') {
		is($p->api('POST', '/apps/two/builds?wait=1', {source_blob => {url => $url}})->{status}, 422, "'$url' is no URL for this");
	}
	my $in = '';
	vec($in, fileno $s, 1) = 1;
	is(select($in, undef, undef, 0), 0, 'nobody connected');
	serves('two', "two\n", 'the release is untouched');
};

subtest 'a build that fails' => sub {
	my $r = push_now('one', tar_of(tar_entry('nothing', 'x')));
	is($r->{status}, 422, 'an app of no language');
	is($r->{json}{id}, 'build_failed', 'its error');
	is($r->{json}{build}{status}, 'failed', 'its build');
	like($r->{json}{output}, qr/^ !     /m, 'its output');
	is(push_now('one', '')->{status}, 422, 'nothing at all');
	is(push_now('one', 'no tar' x 200)->{status}, 422, 'no tar');
	$r = push_now('one', source('x', 'requirements.txt' => "surely-not-there==1.0\n"));
	is($r->{status}, 422, 'a dependency that is not there');
	like($r->{json}{output}, qr/surely-not-there/, 'is named');
	serves('one', "below\n", 'the old release goes on');
	is(version('one')->{version}, 3, 'and no release was made');
	my $head = "POST /apps/one/builds HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " . $p->token . "\r\nContent-Type: application/x-tar\r\nConnection: close\r\n";
	like($p->raw($head . "Content-Length: 9000000\r\n\r\n"), qr/^HTTP\/1\.1 413 /, 'a source beyond the limit');
	like($p->raw($head . "Transfer-Encoding: chunked\r\n\r\n" . ("80000\r\n" . 'x' x 0x80000 . "\r\n") x 17 . "0\r\n\r\n"), qr/^HTTP\/1\.1 413 /, 'in pieces');
	is($p->api('POST', '/apps/one/builds', {source_blob => 'x'})->{status}, 422, 'a source_blob that is none');
	is($p->api('POST', '/apps/one/builds', undef, {content => 'x', headers => {'content-type' => 'text/plain'}})->{status}, 400, 'a body that is no JSON');
	is($p->api('POST', '/apps/none/builds', {source_blob => {url => 'http://x/'}})->{status}, 404, 'no such app');
	is($p->api('GET', '/apps/one/builds/x')->{status}, 404, 'no such build');
	is($p->api('GET', "/apps/two/builds/$r->{json}{build}{id}")->{status}, 404, 'a build of another app');
	is(HTTP::Tiny->new->get($p->url . "/builds/$r->{json}{build}{id}/output")->{status}, 404, 'output without its key');
};

subtest 'the release phase' => sub {
	app('phase');
	my $proc = "web: python3 app.py\nrelease: python3 release.py\n";
	my $r = push_now('phase', source("one\n", Procfile => $proc, 'release.py' => "print('migrating \\x1b[31m now')\n"));
	is($r->{status}, 201, 'it succeeds') or diag($r->{content});
	my $out = output($r->{json});
	like($out, qr/Release command detected/, 'it is told');
	like($out, qr/^       migrating \?\[31m now$/m, 'its output is in the build, and drives no terminal');
	serves('phase', "one\n", 'released');
	$r = push_now('phase', source("two\n", Procfile => $proc, 'release.py' => "import sys; print('no'); sys.exit(7)\n"));
	is($r->{status}, 422, 'it fails');
	like($r->{json}{output}, qr/exit status 7/, 'its status is told');
	serves('phase', "one\n", 'the old release goes on');
	is(version('phase')->{status}, 'failed', 'the release is there as a failed one');
};

subtest 'a build that runs for ever; cancelling' => sub {
	plan skip_all => 'needs make, gcc and bubblewrap' if grep { my $c = $_; !grep { -x "$_/$c" } split /:/, $ENV{PATH} } qw(make gcc bwrap);
	app('long');
	my $make = tar_of(tar_entry('Makefile', "all:\n\tsleep 4321 & sleep 4321\n"), tar_entry('main.c', "int main(void) { return 0; }\n"), tar_entry('Procfile', "web: ./main\n"));
	my $t = time;
	my $r = push_now('long', $make);
	is($r->{status}, 422, 'it is ended') or diag($r->{content});
	like($r->{json}{message}, qr/longer than 8 seconds/, 'and this is said');
	cmp_ok(time - $t, '<', 20, 'in time');
	ok($p->wait_for(5, sub { !grep { my $c = -r "/proc/$_/cmdline" ? do { local (@ARGV, $/) = "/proc/$_/cmdline"; <> // '' } : ''; $c eq "sleep\0004321\0" } map { m{(\d+)} } glob '/proc/[0-9]*' }), 'with all its processes');
	is(push_now('one', source("after\n"))->{status}, 201, 'builds go on');

	my $s = $p->ok_api(201, 'POST', '/sources')->{source_blob};
	HTTP::Tiny->new->put($s->{put_url}, {content => $make});
	my $b = $p->ok_api(201, 'POST', '/apps/long/builds', {source_blob => {url => $s->{get_url}}});
	$s = $p->ok_api(201, 'POST', '/sources')->{source_blob};
	HTTP::Tiny->new->put($s->{put_url}, {content => $make});
	my $second = $p->ok_api(201, 'POST', '/apps/long/builds', {source_blob => {url => $s->{get_url}}});
	sleep 0.7;
	my ($path) = $b->{output_stream_url} =~ m{://[^/]+(/.*)};
	my (@follow, %follow);
	for (1 .. 53) {
		my $f = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of) or die;
		print $f "GET $path HTTP/1.1\r\nHost: localhost\r\n\r\n";
		$f->flush;
		sysread $f, my $head, 1000;
		$follow{($head =~ m{^HTTP/1\.1 (\d+)})[0]}++;
		push @follow, $f;
	}
	is_deeply(\%follow, {200 => 50, 429 => 3}, 'fifty may follow a build');
	close $_ for @follow;
	ok($p->wait_for(5, sub { HTTP::Tiny->new(timeout => 1, max_size => 1)->request('HEAD', $b->{output_stream_url})->{status} == 405 }), 'they have gone');
	is($p->api('DELETE', "/apps/long/builds/$second->{id}")->{status}, 200, 'cancel one that waits');
	is($p->api('GET', "/apps/long/builds/$second->{id}")->{json}{status}, 'failed', 'it has failed');
	$t = time;
	is($p->api('DELETE', "/apps/long/builds/$b->{id}")->{status}, 200, 'cancel one that runs');
	like(output($b), qr/Build cancelled/, 'its output says so');
	cmp_ok(time - $t, '<', 4, 'at once');
	is($p->api('DELETE', "/apps/two/builds/$b->{id}")->{status}, 404, 'not by way of another app');

	$s = $p->ok_api(201, 'POST', '/sources')->{source_blob};
	HTTP::Tiny->new->put($s->{put_url}, {content => $make});
	$p->ok_api(201, 'POST', '/apps/long/builds', {source_blob => {url => $s->{get_url}}});
	sleep 0.3;
	is($p->api('DELETE', '/apps/long')->{status}, 200, 'the app is destroyed while it is built');
	is(push_now('one', source("gone\n"))->{status}, 201, 'and others are built');
};

subtest 'many at one time; a client that leaves; kill -9' => sub {
	my @pids = map { my $n = $_; my $pid = fork // die; if (!$pid) { $p->{ua} = undef; my $r = $p->api('POST', '/apps', {name => "many-$n"}); $r = push_now("many-$n", source("many $n\n")); POSIX::_exit($r->{status} == 201 ? 0 : 1) } $pid } 1 .. 6;
	my $bad = 0;
	for (@pids) { waitpid $_, 0; $bad++ if $? }
	is($bad, 0, 'six at one time');
	serves("many-$_", "many $_\n", "many-$_ has its own") for 1, 6;
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $p->port_of);
	print $s "POST /apps/one/builds?wait=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " . $p->token . "\r\nContent-Type: application/x-tar\r\nContent-Length: 100000\r\n\r\nhalf";
	$s->flush;
	sleep 0.3;
	close $s;
	ok($p->wait_for(5, sub { !glob($p->data . '/tmp/build-*') }), 'a client that leaves in the middle of its body leaves no file');
	my $src = $p->ok_api(201, 'POST', '/sources')->{source_blob};
	HTTP::Tiny->new->put($src->{put_url}, {content => source("again\n")});
	my $b = $p->ok_api(201, 'POST', '/apps/one/builds', {source_blob => {url => $src->{get_url}}});
	$p->kill9;
	$p->run or die $p->log;
	delete $p->{ua};
	ok($p->wait_for(20, sub { ($p->api('GET', "/apps/one/builds/$b->{id}")->{json}{status} // '') ne 'pending' }), 'an accepted build ends after a kill -9');
	is($p->api('GET', "/apps/one/builds/$b->{id}")->{json}{status}, 'succeeded', 'and well') or diag(output($b));
	serves('one', "again\n", 'it is what is served');
};

subtest 'old slugs go' => sub {
	my @slugs;
	for my $n (1 .. 12) {
		my $r = push_now('two', source("n $n\n"));
		push @slugs, $r->{json}{slug}{id} if $r->{status} == 201;
	}
	is(scalar @slugs, 12, 'twelve releases');
	is($p->api('GET', "/apps/two/slugs/$slugs[11]")->{status}, 200, 'the last slug is there');
	is($p->api('GET', "/apps/two/slugs/$slugs[0]")->{status}, 404, 'the first is not');
	is($p->api('POST', '/apps/two/releases', {release => '1'})->{status}, 422, 'no rollback to a release whose slug is gone');
	is($p->api('POST', '/apps/two/releases', {release => '10'})->{status}, 201, 'but to one of the last');
	serves('two', "n 9\n", 'which serves again');
};

done_testing;
