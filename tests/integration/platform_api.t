#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The API: what each endpoint answers, to good requests and bad ones. No app runs here; heroku_cli.t and others do that.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use MIME::Base64 qw(encode_base64);
use Platform;
use Test::More;

my $p = Platform->start;
my $UUID = qr/\A[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\z/;
my $TIME = qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\z/;

# An error of the usual shape; the message is returned.
sub refused {
	my ($name, $r, $status, $id) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $j = $r->{json} // {};
	ok($r->{status} == $status && ($j->{id} // '') eq $id && length($j->{message} // '') && $j->{url} =~ m{^https?://}, "$name: $status $id")
		or diag("$r->{status} $r->{content}");
	return $j->{message} // '';
}

subtest 'who asks' => sub {
	refused('no token', $p->api('GET', '/apps', undef, {token => undef}), 401, 'unauthorized');
	my $r = $p->api('GET', '/nowhere', undef, {token => undef});
	refused('no token at no endpoint', $r, 401, 'unauthorized');
	like($r->{headers}{'www-authenticate'}, qr/^Basic /, 'git and curl are told how');
	refused('a wrong token', $p->api('GET', '/apps', undef, {token => 'x' x 64}), 401, 'unauthorized');
	refused('a long token', $p->api('GET', '/apps', undef, {token => 'x' x 4000}), 401, 'unauthorized');
	refused('an unknown scheme', $p->api('GET', '/apps', undef, {headers => {authorization => 'Digest x'}}), 401, 'unauthorized');
	for my $user ('', 'anybody', 'a@b') {
		my $basic = encode_base64("$user:" . $p->token, '');
		is($p->api('GET', '/account', undef, {headers => {authorization => "Basic $basic"}})->{status}, 200, "Basic with user '$user'");
	}
	is($p->api('GET', '/account', undef, {headers => {authorization => 'Basic ' . encode_base64($p->token . ':', '')}})->{status}, 200, 'Basic, the token as user');
	is($p->api('GET', '/account', undef, {headers => {authorization => 'bearer  ' . $p->token}})->{status}, 200, 'bearer in lower case');
	for my $bad ('Basic ', 'Basic !!!!', 'Basic ' . encode_base64("a\0b", ''), 'Basic ' . ('A' x 3000), 'Bearer', 'Bearer  ') {
		is($p->api('GET', '/account', undef, {headers => {authorization => $bad}})->{status}, 401, 'refused: ' . substr($bad, 0, 20) =~ s/\0/?/gr);
	}
};

subtest 'versions and headers' => sub {
	for my $a ('application/vnd.heroku+json; version=3', 'application/vnd.heroku+json; version=3.sdk', '*/*', 'application/json',
		'application/vnd.heroku+json; version=3.account-quotas, application/json', 'application/vnd.heroku+json') {
		is($p->api('GET', '/account', undef, {headers => {accept => $a}})->{status}, 200, "Accept: $a");
	}
	refused('version 2', $p->api('GET', '/account', undef, {headers => {accept => 'application/vnd.heroku+json; version=2'}}), 406, 'not_acceptable');
	refused('version 30', $p->api('GET', '/account', undef, {headers => {accept => 'application/vnd.heroku+json; version=30'}}), 406, 'not_acceptable');
	my $r = $p->api('GET', '/account', undef, {headers => {'x-request-id' => 'my-own-request-id-0001'}});
	is($r->{headers}{'request-id'}, 'my-own-request-id-0001', 'Request-Id');
	like($r->{headers}{'ratelimit-remaining'}, qr/^\d+$/, 'RateLimit-Remaining');
	like($p->api('GET', '/account', undef, {token => 'x'})->{headers}{'ratelimit-remaining'}, qr/^\d+$/, 'also on an error');
	my $etag = $r->{headers}{etag};
	ok($etag, 'an ETag');
	is($p->api('GET', '/account', undef, {headers => {'if-none-match' => $etag}})->{status}, 304, 'not modified');
	is($p->api('GET', '/account', undef, {headers => {'if-none-match' => '"0"'}})->{status}, 200, 'modified');
	my $h = $p->api('HEAD', '/account');
	ok($h->{status} == 200 && ($h->{content} // '') eq '', 'HEAD');
};

subtest 'paths and methods' => sub {
	refused('no such endpoint', $p->api('GET', '/no/such'), 404, 'not_found');
	my $r = $p->api('PUT', '/apps');
	refused('no such method', $r, 405, 'method_not_allowed');
	like($r->{headers}{allow}, qr/\bGET\b/, 'Allow says which');
	is($p->api('GET', '/apps/')->{status}, 200, 'a slash at the end');
	is($p->api('GET', '/%61pps')->{status}, 200, 'an escaped letter');
	for my $bad ('/apps/%', '/apps/%0', '/apps/%zz', '/apps/a%00b', '/' . 'a/' x 20) {
		like($p->api('GET', $bad)->{status}, qr/^(400|404)$/, "refused: " . substr($bad, 0, 20));
	}
	refused('a slash in a name', $p->api('GET', '/apps/a%2fb'), 404, 'not_found');
	refused('an empty name', $p->api('GET', '/apps//config-vars'), 404, 'not_found');
	refused('dots', $p->api('GET', '/apps/..%2f..'), 404, 'not_found');
};

subtest 'bodies' => sub {
	my $post = sub { $p->api('POST', '/apps', undef, {content => $_[0], headers => {'content-type' => $_[1] // 'application/json'}}) };
	refused('not JSON', $post->('{"name":'), 400, 'bad_request');
	refused('an array', $post->('["a"]'), 400, 'bad_request');
	refused('a string', $post->('"a"'), 400, 'bad_request');
	refused('a key twice', $post->('{"name":"one-a","name":"two-b"}'), 400, 'bad_request');
	refused('behind the end', $post->('{} {}'), 400, 'bad_request');
	refused('NUL', $post->('{"name":"a\u0000b"}'), 400, 'bad_request');
	refused('a raw NUL', $post->("{\"name\":\"a\0b\"}"), 400, 'bad_request');
	refused('no UTF-8', $post->("{\"name\":\"\xff\xfe\"}"), 400, 'bad_request');
	refused('deep arrays', $post->('{"a":' . '[' x 100000 . ']' x 100000 . '}'), 400, 'bad_request');
	refused('deep objects', $post->('{"a":' x 65 . '1' . '}' x 65), 400, 'bad_request');
	refused('1 MiB and more', $post->('{"a":"' . 'x' x (1 << 20) . '"}'), 413, 'request_entity_too_large');
	refused('a name that is a number', $post->('{"name":12345}'), 422, 'invalid_params');
	refused('a team', $post->('{"team":"us"}'), 422, 'invalid_params');
	refused('a region', $post->('{"region":"moon"}'), 422, 'invalid_params');
	refused('a stack', $post->('{"stack":"bamboo"}'), 422, 'invalid_params');
	my $r = $post->('{"name":"plain-text"}', 'text/plain');
	is($r->{status}, 201, 'the type of the body does not matter');
	$p->ok_api(200, 'DELETE', '/apps/plain-text');
};

my $app;
subtest 'apps' => sub {
	$app = $p->ok_api(201, 'POST', '/apps', {name => 'demo', region => 'us', stack => 'heroku-24'});
	like($app->{id}, $UUID, 'id');
	is($app->{name}, 'demo', 'name');
	like($app->{web_url}, qr{^http://demo\.localhost:\d+/$}, 'web_url');
	like($app->{git_url}, qr{/demo\.git$}, 'git_url');
	like($app->{$_}, $TIME, $_) for qw(created_at updated_at);
	is_deeply([sort keys %{$app->{owner}}], [qw(email id)], 'owner');
	is($app->{$_}{name}, 'cowbell', $_) for qw(stack build_stack);
	ok(!$app->{maintenance} && !defined $app->{released_at} && !defined $app->{team} && $app->{slug_size} == 0, 'as new');
	my $made = $p->ok_api(201, 'POST', '/apps');
	like($made->{name}, qr/^[a-z][a-z0-9-]{1,28}[a-z0-9]$/, "a name was made: $made->{name}");
	$p->ok_api(200, 'DELETE', "/apps/$made->{id}");
	refused('destroyed', $p->api('GET', "/apps/$made->{name}"), 404, 'not_found');
	refused('taken', $p->api('POST', '/apps', {name => 'demo'}), 422, 'invalid_params');
	for my $bad ('', 'a', 'A-name', '1app', 'app-', 'a_b', 'x' x 31, 'a b', "a\nb", 'a;rm -rf /', '$(id)', '`id`', "a'b", 'a"b', '../x', 'ünï', 'api', '-rf', '--help') {
		next if $bad eq '';
		my $m = refused("name '" . $bad =~ s/\n/\\n/r . "'", $p->api('POST', '/apps', {name => $bad}), 422, 'invalid_params');
		unlike($m, qr/[\n\0]/, 'one line of message');
	}
	is_deeply($p->ok_api(200, 'GET', '/apps/demo'), $app, 'by name');
	is_deeply($p->ok_api(200, 'GET', "/apps/$app->{id}"), $app, 'by id');
	is($p->ok_api(200, 'PATCH', '/apps/demo', {maintenance => JSON::PP::true})->{maintenance}, JSON::PP::true, 'maintenance on');
	is($p->ok_api(200, 'PATCH', '/apps/demo', {maintenance => JSON::PP::false})->{maintenance}, JSON::PP::false, 'and off');
	refused('maintenance is no number', $p->api('PATCH', '/apps/demo', {maintenance => 3}), 422, 'invalid_params');
	is($p->ok_api(200, 'PATCH', '/apps/demo', {name => 'renamed'})->{name}, 'renamed', 'renamed');
	refused('the old name', $p->api('GET', '/apps/demo'), 404, 'not_found');
	$p->ok_api(200, 'PATCH', '/apps/renamed', {name => 'demo'});
	refused('renamed badly', $p->api('PATCH', '/apps/demo', {name => 'x y'}), 422, 'invalid_params');
	$p->ok_api(200, 'PATCH', '/apps/demo', {build_stack => 'heroku-22'});
	refused('an unknown owner', $p->api('PATCH', '/apps/demo', {owner => 'nobody@example.org'}), 422, 'invalid_params');
};

subtest 'pages' => sub {
	$p->ok_api(201, 'POST', '/apps', {name => sprintf 'page-%02d', $_}) for 0 .. 11;
	my $get = sub { my $r = $p->api('GET', '/apps', undef, {headers => {range => $_[0]}}); ($r, join ' ', map { $_->{name} } @{ref $r->{json} eq 'ARRAY' ? $r->{json} : []}) };
	my ($r, $names) = $get->('name ..; max=5');
	ok($r->{status} == 206 && $names eq 'demo page-00 page-01 page-02 page-03', 'first page') or diag("$r->{status} $names");
	($r, $names) = $get->($r->{headers}{'next-range'});
	ok($r->{status} == 206 && $names eq 'page-04 page-05 page-06 page-07 page-08', 'second page') or diag("$r->{status} $names");
	($r, $names) = $get->($r->{headers}{'next-range'});
	ok($r->{status} == 200 && $names eq 'page-09 page-10 page-11' && !$r->{headers}{'next-range'}, 'last page') or diag("$r->{status} $names");
	($r, $names) = $get->('name ..; order=desc, max=3');
	ok($r->{status} == 206 && $names eq 'page-11 page-10 page-09', 'downwards') or diag("$r->{status} $names");
	($r, $names) = $get->($r->{headers}{'next-range'});
	ok($r->{status} == 206 && $names eq 'page-08 page-07 page-06', 'downwards, next') or diag("$r->{status} $names");
	($r, $names) = $get->('name page-03..page-05');
	is($names, 'page-03 page-04 page-05', 'from and to');
	($r, $names) = $get->('name ]page-03..page-05;order=asc;max=1');
	ok($r->{status} == 206 && $names eq 'page-04', 'exclusive') or diag("$r->{status} $names");
	($r, $names) = $get->('name page-03..page-05; order=desc, max=2');
	is($names, 'page-05 page-04', 'from and to, downwards');
	($r, $names) = $get->($r->{headers}{'next-range'});
	is($names, 'page-03', 'and its rest');
	my %seen;
	my $range = 'id ..; max=4';
	while ($range) {
		($r) = $get->($range);
		$seen{$_->{id}}++ for @{$r->{json}};
		$range = $r->{headers}{'next-range'};
	}
	ok(keys %seen == 13 && !grep({ $_ > 1 } values %seen), 'by id: each once') or diag(explain \%seen);
	($r, $names) = $get->('name zzz..');
	ok($r->{status} == 200 && $names eq '', 'nothing there');
	($r, $names) = $get->('name z..a; order=desc');
	ok($r->{status} == 200 && $names eq '', 'the wrong way round');
	for my $bad ('colour ..', 'name ..; max=0', 'name ..; max=x', 'name ..; max=-1', 'name ..; order=up', '..;..;..', 'name a-b', 'name ' . 'x' x 300 . '..') {
		refused("Range: " . substr($bad, 0, 30), ($get->($bad))[0], 416, 'requested_range_not_satisfiable');
	}
	($r, $names) = $get->('name ..; max=100000');
	is($r->{status}, 200, 'more than the most is the most');
	is(scalar @{$p->ok_api(200, 'GET', '/users/~/apps')}, 13, '/users/~/apps');
	$p->ok_api(200, 'DELETE', sprintf '/apps/page-%02d', $_) for 0 .. 11;
};

subtest 'config vars' => sub {
	my $path = '/apps/demo/config-vars';
	is_deeply($p->ok_api(200, 'GET', $path), {}, 'none at first');
	my %odd = (
		QUOTES => q{a"b'c`d}, LINES => "one\ntwo\r\nthree\n", SEMI => 'x; rm -rf / #', DOLLAR => '$HOME ${PATH} $(id)', EMPTY => '',
		UNICODE => "Gr\x{fc}\x{df}e \x{1f42e}", TABS => "\t a \t", BACK => '\\n\\', EQUALS => 'a=b=c', PERCENT => '%s%n', ESC => "\x1b[31m\x07\x7f",
	);
	is_deeply($p->ok_api(200, 'PATCH', $path, \%odd), \%odd, 'values of any text');
	is_deeply($p->ok_api(200, 'GET', $path), \%odd, 'are kept');
	my $version = sub { $p->api('GET', '/apps/demo/releases', undef, {headers => {range => 'version ..; order=desc,max=1'}})->{json}[0]{version} };
	my $before = $version->();
	$p->ok_api(200, 'PATCH', $path, {EMPTY => ''});
	is($version->(), $before, 'no change is no release');
	$p->ok_api(200, 'PATCH', $path, {NOT_THERE => undef});
	is($version->(), $before, 'nor is the removal of what is not there');
	my $got = $p->ok_api(200, 'PATCH', $path, {NUMBER => 42, BOOL => JSON::PP::true, ESC => undef});
	ok($got->{NUMBER} eq '42' && $got->{BOOL} eq 'true' && !exists $got->{ESC}, 'numbers become texts; null removes');
	is($version->(), $before + 1, 'a release for it');
	my $r = $p->ok_api(200, 'GET', '/apps/demo/releases/' . $version->());
	is($r->{description}, 'Set BOOL, NUMBER, remove ESC config vars', 'described by names only');
	for my $bad ('a b', '1A', 'A=B', 'A-B', "A\nB", '', 'Ü', 'A;B', '$A', 'x' x 257) {
		refused("name '" . substr($bad, 0, 10) =~ s/\n/\\n/r . "'", $p->api('PATCH', $path, {$bad => 'x'}), 422, 'invalid_params');
	}
	refused('a list as value', $p->api('PATCH', $path, {A => [1]}), 422, 'invalid_params');
	refused('a fraction as value', $p->api('PATCH', $path, {A => 1.5}), 422, 'invalid_params');
	refused('NUL', $p->api('PATCH', $path, undef, {content => '{"A":"\u0000"}'}), 400, 'bad_request');
	is($version->(), $before + 1, 'none of them made a release');
	refused('above 64 KB', $p->api('PATCH', $path, {BIG => 'x' x 65537}), 422, 'invalid_params');
	$p->ok_api(200, 'PATCH', $path, {map({ $_ => undef } keys %odd), NUMBER => undef, BOOL => undef, BIG => 'x' x (65536 - 3)});
	refused('one more', $p->api('PATCH', $path, {A => ''}), 422, 'invalid_params');
	$p->ok_api(200, 'PATCH', $path, {BIG => undef});
	is_deeply($p->ok_api(200, 'GET', $path), {}, 'none again');
	my %many = map { sprintf('NAME_%03d', $_) => 'x' } 1 .. 200;
	$p->ok_api(200, 'PATCH', $path, \%many);
	like($p->ok_api(200, 'GET', '/apps/demo/releases/' . $version->())->{description}, qr/^Set NAME_\d+, .* and others config vars$/, 'many names are cut');
	$p->ok_api(200, 'PATCH', $path, {(map { $_ => undef } keys %many), KEEP => 'me'});
	unlike($p->log, qr/rm -rf|Gr.{1,4}e/, 'values are not in the log');
};

subtest 'releases' => sub {
	my $path = '/apps/demo/releases';
	my $all = $p->ok_api(200, 'GET', $path);
	ok(@$all > 3, scalar(@$all) . ' releases');
	is_deeply([map { $_->{version} } @$all], [1 .. @$all], 'upwards');
	my $r = $all->[-1];
	like($r->{id}, $UUID, 'id');
	ok($r->{current} && $r->{status} eq 'succeeded' && $r->{user}{email} && $r->{app}{name} eq 'demo' && !defined $r->{slug}, 'the last one');
	is_deeply($p->ok_api(200, 'GET', "$path/$r->{version}"), $r, 'by number');
	is_deeply($p->ok_api(200, 'GET', "$path/v$r->{version}"), $r, 'by v and number');
	is_deeply($p->ok_api(200, 'GET', "$path/$r->{id}"), $r, 'by id');
	is_deeply($p->ok_api(200, 'GET', "$path/$r->{version}/config-vars"), {KEEP => 'me'}, 'its config vars');
	refused("release $_", $p->api('GET', "$path/$_"), 404, 'not_found') for 0, 999, 'v', '-1', '1e3', '1%20', '99999999999999999999', "1'--", 'current';
	my $desc = $p->api('GET', $path, undef, {headers => {range => 'version ..; order=desc,max=1'}});
	ok($desc->{status} == 206 && @{$desc->{json}} == 1 && $desc->{json}[0]{version} == $r->{version}, 'the last of them');
	my @seen = $r->{version};
	while (my $next = $desc->{headers}{'next-range'}) {
		$desc = $p->api('GET', $path, undef, {headers => {range => $next}});
		push @seen, map { $_->{version} } @{$desc->{json}};
	}
	is_deeply(\@seen, [reverse 1 .. @$all], 'downwards to the first, page by page');
	is(scalar @{$p->api('GET', $path, undef, {headers => {range => 'version 2..3'}})->{json}}, 2, 'from and to');
	is(scalar @{$p->api('GET', $path, undef, {headers => {range => 'id ..'}})->{json}}, scalar @$all, 'by id');
	refused('nothing to roll back to', $p->api('POST', $path, {release => 1}), 422, 'invalid_params');
	refused('no such release', $p->api('POST', $path, {release => 999}), 404, 'not_found');
	refused('no release said', $p->api('POST', $path, {}), 422, 'invalid_params');
	refused('an unknown slug', $p->api('POST', $path, {slug => $app->{id}}), 422, 'invalid_params');
	refused('a slug that is a list', $p->api('POST', $path, {slug => []}), 422, 'invalid_params');
};

subtest 'formation without a release' => sub {
	is_deeply($p->ok_api(200, 'GET', '/apps/demo/formation'), [], 'empty');
	refused('no such type', $p->api('PATCH', '/apps/demo/formation/web', {quantity => 1}), 404, 'not_found');
	refused('no such type in many', $p->api('PATCH', '/apps/demo/formation', {updates => [{type => 'web', quantity => '1'}]}), 404, 'not_found');
	refused('no updates', $p->api('PATCH', '/apps/demo/formation', {}), 422, 'invalid_params');
	refused('a nameless update', $p->api('PATCH', '/apps/demo/formation', {updates => [{}]}), 422, 'invalid_params');
	refused('too many', $p->api('PATCH', '/apps/demo/formation', {updates => [map { {type => 'web'} } 1 .. 65]}), 422, 'invalid_params');
};

subtest 'domains and certificates' => sub {
	my $path = '/apps/demo/domains';
	my $own = $p->ok_api(200, 'GET', $path);
	ok(@$own == 1 && $own->[0]{kind} eq 'heroku' && $own->[0]{hostname} eq 'demo.localhost', 'its own at first');
	my $d = $p->ok_api(201, 'POST', $path, {hostname => 'WWW.Example.ORG.', sni_endpoint => undef});
	ok($d->{hostname} eq 'www.example.org' && $d->{kind} eq 'custom' && $d->{cname} eq 'demo.localhost' && $d->{status} eq 'none', 'one more');
	is_deeply($p->ok_api(200, 'GET', "$path/$_"), $d, "shown by $_") for 'www.example.org', $d->{id};
	refused('twice', $p->api('POST', $path, {hostname => 'www.example.org'}), 422, 'invalid_params');
	for my $bad ('', 'x', 'localhost', 'demo.localhost', 'other.localhost', 'a b.org', "a.org\r\nX: y", '1.2.3.4', '::1', '*.org', '*', 'a..org', '-a.org', 'a-.org', 'x' x 64 . '.org', 'a.' x 130 . 'org', 'a/b.org', 'ü.org', '*.*.example.com', 'a.*.org', '*a.example.com') {
		refused("host '" . substr($bad, 0, 20) =~ s/[\r\n]+/?/r . "'", $p->api('POST', $path, {hostname => $bad}), 422, 'invalid_params');
	}
	my $w = $p->ok_api(201, 'POST', $path, {hostname => '*.example.org'});
	is($w->{hostname}, '*.example.org', 'a wildcard over one of ours');
	is($p->ok_api(200, 'DELETE', "$path/*.example.org")->{hostname}, '*.example.org', 'removed');
	refused('not there', $p->api('DELETE', "$path/no.example.org"), 404, 'not_found');
	refused('its own stays', $p->api('DELETE', "$path/demo.localhost"), 422, 'invalid_params');

	my ($dir, $certs) = (scratch(), '/apps/demo/sni-endpoints');
	my $make = sub {
		my ($name, @alt) = @_;
		system('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/$name.key", '-out', "$dir/$name.crt",
			'-subj', "/CN=$name", '-days', '10', @alt ? ('-addext', 'subjectAltName=' . join ',', map { "DNS:$_" } @alt) : ()) == 0 or die;
		return {certificate_chain => slurp("$dir/$name.crt"), private_key => slurp("$dir/$name.key")};
	};
	open(my $err, '>&', \*STDERR);
	open(STDERR, '>', '/dev/null');
	my $one = $make->('www.example.org', 'www.example.org', 'victim.localhost', 'api.localhost');
	my $two = $make->('two.example.org');
	open(STDERR, '>&', $err);
	is_deeply($p->ok_api(200, 'GET', $certs), [], 'no certificate at first');
	my $k = $p->ok_api(201, 'POST', $certs, $one);
	my $ssl = $k->{ssl_cert};
	ok($ssl->{issuer} =~ /www\.example\.org/ && $ssl->{'self_signed?'} && !$ssl->{'ca_signed?'} && $ssl->{expires_at} =~ $TIME, 'what is in it');
	is_deeply($ssl->{cert_domains}, ['www.example.org', 'victim.localhost', 'api.localhost'], 'its names');
	is_deeply($k->{domains}, [$d->{id}], 'tied to the one domain that the app has');
	unlike($p->api('GET', "$certs/$k->{name}")->{content}, qr/PRIVATE KEY/, 'the key is not told');
	is($p->ok_api(200, 'GET', "$path/www.example.org")->{sni_endpoint}{name}, $k->{name}, 'and the domain says so');
	is($p->ok_api(200, 'GET', "$certs/$k->{id}")->{name}, $k->{name}, 'by id');
	my $u = $p->ok_api(200, 'PATCH', "$certs/$k->{name}", $two);
	is_deeply($u->{ssl_cert}{cert_domains}, ['two.example.org'], 'replaced');
	is($u->{name}, $k->{name}, 'under its name');
	refused('key of another', $p->api('POST', $certs, {%$one, private_key => $two->{private_key}}), 422, 'invalid_params');
	refused('no PEM', $p->api('POST', $certs, {%$one, certificate_chain => 'x'}), 422, 'invalid_params');
	refused('no key', $p->api('POST', $certs, {certificate_chain => $one->{certificate_chain}}), 422, 'invalid_params');
	refused('too large', $p->api('POST', $certs, {%$one, certificate_chain => 'x' x 70000}), 422, 'invalid_params');
	is($p->ok_api(200, 'PATCH', "$path/www.example.org", {sni_endpoint => undef})->{sni_endpoint}, undef, 'untied');
	is($p->ok_api(200, 'PATCH', "$path/www.example.org", {sni_endpoint => $k->{name}})->{sni_endpoint}{id}, $k->{id}, 'tied');
	refused('to an unknown one', $p->api('PATCH', "$path/www.example.org", {sni_endpoint => 'cert-x'}), 404, 'not_found');
	$p->ok_api(200, 'DELETE', "$certs/$k->{name}");
	is($p->ok_api(200, 'GET', "$path/www.example.org")->{sni_endpoint}, undef, 'gone with the certificate');
	$p->ok_api(200, 'DELETE', "$path/www.example.org");
	refused('automatic certificates', $p->api('POST', '/apps/demo/acm'), 422, 'invalid_params');
};

subtest 'limits and features' => sub {
	my $l = $p->ok_api(200, 'GET', '/apps/demo/limits');
	ok($l->{in_flight} == 50 && $l->{memory}, 'limits');
	is($p->ok_api(200, 'PATCH', '/apps/demo/limits', {in_flight => '7', memory => '256M'})->{in_flight}, 7, 'changed');
	is($p->ok_api(200, 'PATCH', '/apps/demo/limits', {in_flight => undef})->{in_flight}, 50, 'null is the default again');
	refused('an unknown limit', $p->api('PATCH', '/apps/demo/limits', {colour => 1}), 422, 'invalid_params');
	refused('a wrong one', $p->api('PATCH', '/apps/demo/limits', {memory => 'much'}), 422, 'invalid_params');
	my $f = '/apps/demo/features';
	is_deeply([map { "$_->{name}=" . ($_->{enabled} ? 1 : 0) } @{$p->ok_api(200, 'GET', $f)}], ['preboot=1', 'runtime-dyno-metadata=0'], 'features');
	ok($p->ok_api(200, 'PATCH', "$f/runtime-dyno-metadata", {enabled => JSON::PP::true})->{enabled}, 'on');
	ok($p->ok_api(200, 'GET', "$f/runtime-dyno-metadata")->{enabled}, 'stays on');
	ok(!$p->ok_api(200, 'PATCH', "$f/runtime-dyno-metadata", {enabled => JSON::PP::false})->{enabled}, 'off');
	refused('what is always on', $p->api('PATCH', "$f/preboot", {enabled => JSON::PP::false}), 422, 'invalid_params');
	refused('an unknown one', $p->api('PATCH', "$f/x", {enabled => JSON::PP::true}), 404, 'not_found');
	refused('nothing said', $p->api('PATCH', "$f/preboot", {}), 422, 'invalid_params');
};

subtest 'users, tokens, keys, collaborators' => sub {
	my $me = $p->ok_api(200, 'GET', '/account');
	ok($me->{admin} && $me->{email} && $me->{id} =~ $UUID, 'the admin');
	my $eve = $p->ok_api(201, 'POST', '/users', {email => 'eve@example.org', name => 'Eve "; DROP TABLE users; --'});
	ok(length $eve->{token} >= 32 && !$eve->{admin}, 'a user with a token');
	my %as = (token => $eve->{token});
	is($p->ok_api(200, 'GET', '/account', undef, \%as)->{name}, 'Eve "; DROP TABLE users; --', 'who is who');
	refused('the same again', $p->api('POST', '/users', {email => 'eve@example.org'}), 422, 'invalid_params');
	refused('no address', $p->api('POST', '/users', {email => $_}), 422, 'invalid_params') for '', 'x', "a\@b\nc", 'a b@c.d', '@', '~';
	refused('users are made by admins', $p->api('POST', '/users', {email => 'x@example.org'}, \%as), 403, 'forbidden');
	refused('an admin is none of hers', $p->api('GET', "/users/$me->{id}", undef, \%as), 404, 'not_found');
	is(scalar @{$p->ok_api(200, 'GET', '/users')}, 2, 'two users');
	is($p->ok_api(200, 'PATCH', '/account', {name => 'Eve'}, \%as)->{name}, 'Eve', 'renamed herself');
	my $t = $p->ok_api(201, 'POST', '/oauth/authorizations', {description => "for 'ci'", expires_in => 3600}, \%as);
	my $secret = $t->{access_token}{token};
	is($p->ok_api(200, 'GET', '/account', undef, {token => $secret})->{email}, 'eve@example.org', 'a second token');
	my $l = $p->ok_api(200, 'GET', '/oauth/authorizations', undef, \%as);
	is(scalar @$l, 2, 'two of them');
	unlike($p->api('GET', '/oauth/authorizations', undef, \%as)->{content}, qr/\Q$secret\E/, 'told once only');
	is($p->ok_api(200, 'PATCH', "/oauth/authorizations/$t->{id}", {description => 'ci'}, \%as)->{description}, 'ci', 'described');
	my $new = $p->ok_api(201, 'POST', "/oauth/authorizations/$t->{id}/actions/regenerate-tokens", {}, \%as);
	refused('the old one', $p->api('GET', '/account', undef, {token => $secret}), 401, 'unauthorized');
	is($p->api('GET', '/account', undef, {token => $new->{access_token}{token}})->{status}, 200, 'the new one');
	refused("another's token", $p->api('DELETE', "/oauth/authorizations/$new->{id}"), 404, 'not_found');
	$p->ok_api(200, 'DELETE', "/oauth/authorizations/$new->{id}", undef, \%as);
	refused('revoked', $p->api('GET', '/account', undef, {token => $new->{access_token}{token}}), 401, 'unauthorized');
	my $short = $p->ok_api(201, 'POST', '/oauth/authorizations', {expires_in => 1}, \%as);
	sleep 2;
	refused('expired', $p->api('GET', '/account', undef, {token => $short->{access_token}{token}}), 401, 'unauthorized');
	refused('expires in', $p->api('POST', '/oauth/authorizations', {expires_in => $_}, \%as), 422, 'invalid_params') for 0, -5, 'x', 1e12;

	my $pub = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+u0H3dnaUMUvTqAhWDxuFnF4KiOO5vY1xCNVcT5DJl me@here; id';
	my $key = $p->ok_api(201, 'POST', '/account/keys', {public_key => $pub}, \%as);
	ok($key->{fingerprint} =~ m{^SHA256:[A-Za-z0-9+/]{43}$} && $key->{comment} eq 'me@here; id', 'a public key');
	refused('twice', $p->api('POST', '/account/keys', {public_key => $pub}, \%as), 422, 'invalid_params');
	refused('no key', $p->api('POST', '/account/keys', {public_key => $_}, \%as), 422, 'invalid_params') for 'x', 'ssh-rsa', 'ssh-rsa !!!!', 'ssh-rsa ' . '*' x 80;
	refused("another's key", $p->api('GET', "/account/keys/$key->{id}"), 404, 'not_found');
	$p->ok_api(200, 'DELETE', "/account/keys/$key->{id}", undef, \%as);

	refused('not hers', $p->api('GET', '/apps/demo', undef, \%as), 404, 'not_found');
	my $c = $p->ok_api(201, 'POST', '/apps/demo/collaborators', {user => 'eve@example.org', silent => JSON::PP::true});
	ok($c->{user}{email} eq 'eve@example.org' && $c->{role} eq 'collaborator', 'collaborator');
	is($p->ok_api(200, 'GET', '/apps/demo', undef, \%as)->{name}, 'demo', 'now hers, too');
	is(scalar @{$p->ok_api(200, 'GET', '/apps', undef, \%as)}, 1, 'in her list');
	is(scalar @{$p->ok_api(200, 'GET', '/apps/demo/collaborators', undef, \%as)}, 2, 'with the owner');
	refused('once is enough', $p->api('POST', '/apps/demo/collaborators', {user => 'eve@example.org'}), 422, 'invalid_params');
	refused('an unknown user', $p->api('POST', '/apps/demo/collaborators', {user => 'nobody@example.org'}), 422, 'invalid_params');
	refused('handing over is the owner\'s', $p->api('PATCH', '/apps/demo', {owner => 'eve@example.org'}, \%as), 403, 'forbidden');
	is($p->ok_api(201, 'POST', '/account/app-transfers', {app => 'demo', recipient => 'eve@example.org'})->{state}, 'accepted', 'handed over');
	is($p->ok_api(200, 'GET', '/apps/demo', undef, \%as)->{owner}{email}, 'eve@example.org', 'to her');
	refused('her user stays while she has apps', $p->api('DELETE', '/users/eve@example.org'), 422, 'invalid_params');
	$p->ok_api(200, 'PATCH', '/apps/demo', {owner => $me->{email}});
	$p->ok_api(200, 'DELETE', '/apps/demo/collaborators/eve@example.org') if @{$p->ok_api(200, 'GET', '/apps/demo/collaborators')} > 1;
	refused('not any more', $p->api('GET', '/apps/demo', undef, \%as), 404, 'not_found');
	$p->ok_api(200, 'DELETE', '/users/eve@example.org');
	refused('a removed user', $p->api('GET', '/account', undef, \%as), 401, 'unauthorized');
};

subtest 'what clients ask besides' => sub {
	is(scalar @{$p->ok_api(200, 'GET', $_)}, 0, "$_: none")
		for qw(/addons /apps/demo/addons /apps/demo/addon-attachments /apps/demo/buildpack-installations /teams /apps/demo/webhooks /pipelines /account/features /apps/demo/ssl-endpoints);
	refused('no pipeline', $p->api('GET', '/apps/demo/pipeline-couplings'), 404, 'not_found');
	refused('no add-ons', $p->api('POST', '/apps/demo/addons', {plan => 'x'}), 422, 'invalid_params');
	refused('no buildpacks', $p->api('PUT', '/apps/demo/buildpack-installations', {updates => [{buildpack => 'https://x.example/y'}]}), 422, 'invalid_params');
	is($p->ok_api(200, 'GET', '/stacks')->[0]{name}, 'cowbell', 'one stack');
	is($p->ok_api(200, 'GET', '/regions/us')->{name}, 'us', 'one region');
	ok(scalar(grep { $_->{name} eq 'Standard-2X' } @{$p->ok_api(200, 'GET', '/dyno-sizes')}), 'sizes');
	is($p->ok_api(200, 'GET', '/dyno-sizes/standard-1x')->{name}, 'Standard-1X', 'a size');
	ok(@{$p->ok_api(200, 'GET', '/platform/routes')} > 100, 'routes');
};

subtest 'after a restart' => sub {
	$p->ok_api(200, 'PATCH', '/apps/demo/config-vars', {AFTER => "kill -9 \x{1f42e}"});
	my %was = map { $_ => $p->ok_api(200, 'GET', $_) } qw(/apps/demo /apps/demo/config-vars /apps/demo/releases /apps/demo/limits /apps/demo/domains);
	$p->kill9;
	ok($p->run, 'kill -9 and start');
	is_deeply($p->ok_api(200, 'GET', $_), $was{$_}, "$_ is as it was") for sort keys %was;
};
is($p->stop, 0, 'stopped');

# A certificate answers for the domains that are tied to it, and for no name that is merely written in it.
subtest 'certificates are served' => sub {
	my $tls = Platform::port();
	my $q = Platform->start(args => ['--listen-tls', "127.0.0.1:$tls"]);
	my $dir = scratch();
	run_out({}, 'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/key", '-out', "$dir/crt",
		'-subj', '/CN=of-the-app', '-days', '10', '-addext', 'subjectAltName=DNS:*.example.org,DNS:victim.localhost,DNS:localhost,DNS:api.localhost,DNS:*.localhost');
	my $served = sub { (run_out({timeout => 10}, 'openssl', 's_client', '-connect', "127.0.0.1:$tls", '-servername', $_[0]))[1] =~ /^subject=(.*)$/m ? $1 : 'none' };
	$q->ok_api(201, 'POST', '/apps', {name => 'secure'});
	$q->ok_api(201, 'POST', '/apps', {name => 'victim'});
	$q->ok_api(201, 'POST', '/apps/secure/domains', {hostname => 'www.example.org'});
	my $k = $q->ok_api(201, 'POST', '/apps/secure/sni-endpoints', {certificate_chain => slurp("$dir/crt"), private_key => slurp("$dir/key")});
	for my $when ('at once', 'after a restart') {
		$q->restart if $when ne 'at once';
		like($served->('www.example.org'), qr/of-the-app/, "for its domain $when");
		unlike($served->($_), qr/of-the-app/, "not for $_ $when") for qw(other.example.org victim.localhost localhost api.localhost secure.localhost);
	}
	$q->ok_api(200, 'DELETE', '/apps/secure/domains/www.example.org');
	unlike($served->('www.example.org'), qr/of-the-app/, 'not when the domain has gone');
	$q->ok_api(201, 'POST', '/apps/secure/domains', {hostname => 'www.example.org', sni_endpoint => $k->{name}});
	like($served->('www.example.org'), qr/of-the-app/, 'with the domain again');
	$q->ok_api(200, 'DELETE', '/apps/secure');
	unlike($served->('www.example.org'), qr/of-the-app/, 'nor when the app has gone');
	is($q->stop, 0, 'stopped');
};

subtest 'a limit of calls' => sub {
	my $q = Platform->start(config => "api_per_hour = 20\n");
	my @status = map { $q->api('GET', '/account') } 1 .. 22;
	is($status[0]{headers}{'ratelimit-remaining'}, 19, 'it counts down');
	is(scalar(grep { $_->{status} == 200 } @status), 20, 'twenty calls');
	refused('one more', $status[-1], 429, 'rate_limit');
	is($status[-1]{headers}{'ratelimit-remaining'}, 0, 'none left');
	$q->stop;
};

done_testing;
