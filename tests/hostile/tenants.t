#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# One tenant against another, on every endpoint of the API. The endpoints are those that the server itself lists, so a new one
# without an entry here fails this test. For each endpoint of an app: no token, a stranger (by the app's name and by its id), a
# stranger who names this tenant's objects under an app of his own, a collaborator, the owner.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use Platform;
use Test::More;

plan skip_all => 'python3 is needed to write into the store' unless have('python3');
my $p = Platform->start(args => []);
my $T = JSON::PP::true;

# --- who and what ---------------------------------------------------------------------------------
my %user = map { $_ => $p->ok_api(201, 'POST', '/users', {email => "$_\@example.org", name => $_}) } qw(alice bob carol);
my %as = map { $_ => {token => $user{$_}{token}} } keys %user;
my $hers = $p->ok_api(201, 'POST', '/apps', {name => 'alices-app'}, $as{alice});
my $his = $p->ok_api(201, 'POST', '/apps', {name => 'bobs-app'}, $as{bob});
$p->ok_api(201, 'POST', '/apps/alices-app/collaborators', {user => 'carol@example.org'}, $as{alice});
$p->ok_api(200, 'PATCH', '/apps/alices-app/config-vars', {SECRET => 'of-alice-4711'}, $as{alice});
$p->ok_api(200, 'PATCH', '/apps/bobs-app/config-vars', {OWN => 'b'}, $as{bob});

# What a build would leave behind, written into the store of a server that is stopped.
is($p->stop, 0, 'stopped');
my $seed = <<'PY';
import sqlite3, sys, json
db = sqlite3.connect(sys.argv[1])
db.execute("PRAGMA foreign_keys = ON")
n = 0
for app, user in zip(sys.argv[2::2], sys.argv[3::2]):
	n += 1
	slug, build, rel, form = ["%08d-0000-4000-8000-%012d" % (n, k) for k in (1, 2, 3, 4)]
	now = 1700000000000000
	types = json.dumps({"web": "./serve", "worker": "./work"})
	db.execute("INSERT INTO slugs (id, app_id, image, bytes, types, created_us, updated_us) VALUES (?,?,?,?,?,?,?)", (slug, app, "x/y:1", 5, types, now, now))
	db.execute("INSERT INTO builds (id, app_id, user_id, status, slug_id, release, output, created_us, updated_us) VALUES (?,?,?,?,?,?,?,?,?)", (build, app, user, "succeeded", slug, 2, "built\n", now, now))
	db.execute("INSERT INTO releases (app_id, version, id, status, description, user_id, slug_id, image, image_bytes, config, types, created_us, updated_us) VALUES (?,2,?,'succeeded','Deploy',?,?,?,5,'{\"SECRET\":\"of-alice-4711\"}',?,?,?)", (app, rel, user, slug, "x/y:1", types, now, now))
	db.execute("UPDATE apps SET release = 2, last_release = 2, maintenance = 1 WHERE id = ?", (app,))
	for i, t in enumerate(("web", "worker")):
		db.execute("INSERT INTO formation (app_id, type, id, command, quantity, created_us, updated_us) VALUES (?,?,?,?,0,?,?)", (app, t, form[:-1] + str(5 + i), "./serve", now, now))
db.commit()
PY
my ($st, $out, $err) = run_out({}, 'python3', '-c', $seed, $p->data . '/platform.db', $hers->{id}, $user{alice}{id}, $his->{id}, $user{bob}{id});
is($st, 0, 'rows of a build') or diag($err);
ok($p->run, 'started again') or diag($p->log);

my $dir = scratch();
run_out({}, 'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', "$dir/key", '-out', "$dir/crt", '-subj', '/CN=www.alice.example', '-days', '10');
my $pair = {certificate_chain => slurp("$dir/crt"), private_key => slurp("$dir/key")};
my $domain = $p->ok_api(201, 'POST', '/apps/alices-app/domains', {hostname => 'www.alice.example'}, $as{alice});
my $cert = $p->ok_api(201, 'POST', '/apps/alices-app/sni-endpoints', $pair, $as{alice});
my $drain = $p->ok_api(201, 'POST', '/apps/alices-app/log-drains', {url => 'https://logs.alice.example:1/x'}, $as{alice});
my $token = $p->ok_api(201, 'POST', '/oauth/authorizations', {description => 'ci'}, $as{alice});
my $key = $p->ok_api(201, 'POST', '/account/keys', {public_key => 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+u0H3dnaUMUvTqAhWDxuFnF4KiOO5vY1xCNVcT5DJl alice'}, $as{alice});

# --- what stands for the {} of each kind of object; several names where an object has several -------
my %object = (
	'features' => ['runtime-dyno-metadata'],
	'releases' => ['00000001-0000-4000-8000-000000000003', '2', 'v2'],
	'formation' => ['web', '00000001-0000-4000-8000-000000000005'],
	'formations' => ['web'],
	'domains' => ['www.alice.example', $domain->{id}],
	'sni-endpoints' => [$cert->{name}, $cert->{id}],
	'collaborators' => ['carol@example.org', $user{carol}{id}],
	'log-drains' => [$drain->{id}, 'https%3A%2F%2Flogs.alice.example%3A1%2Fx'],
	'builds' => ['00000001-0000-4000-8000-000000000002'],
	'slugs' => ['00000001-0000-4000-8000-000000000001'],
	'dynos' => ['web.1'],
	'addons' => ['x'],
);
# These names mean an object of whatever app is in the path: under one's own app they are one's own.
my %relative = map { $_ => 1 } qw(runtime-dyno-metadata 2 v2 web web.1 x);

# --- bodies with which the owner's call would do something ---------------------------------------------
my %body = (
	'PATCH /apps/{app}' => {maintenance => $T},
	'PATCH /apps/{app}/limits' => {in_flight => 5},
	'PATCH /apps/{app}/features/{}' => {enabled => $T},
	'PATCH /apps/{app}/config-vars' => {EVIL => '1', SECRET => undef},
	'POST /apps/{app}/releases' => {release => '00000001-0000-4000-8000-000000000003'},
	'PATCH /apps/{app}/formation' => {updates => [{type => 'worker', quantity => '0', size => 'Standard-2X'}]},
	'PATCH /apps/{app}/formation/{}' => {quantity => 0, size => 'Standard-1X'},
	'POST /apps/{app}/dynos' => {command => 'id', attach => JSON::PP::false},
	'POST /apps/{app}/dynos/{}' => {command => 'id'},
	'DELETE /apps/{app}/dynos' => undef,
	'DELETE /apps/{app}/dynos/{}' => undef,
	'POST /apps/{app}/dynos/{}/actions/stop' => {},
	'DELETE /apps/{app}/formations/{}' => undef,
	'POST /apps/{app}/formations/{}/actions/stop' => {},
	'POST /apps/{app}/sources' => {},
	'POST /apps/{app}/builds' => {source_blob => {url => 'http://127.0.0.1:1/x.tgz', version => 'evil'}},
	'DELETE /apps/{app}/builds/{}' => undef,
	'POST /apps/{app}/slugs' => {process_types => {web => 'x'}},
	'POST /apps/{app}/log-sessions' => {lines => 10, tail => $T},
	'POST /apps/{app}/log-drains' => {url => 'https://evil.example/x'},
	'PUT /apps/{app}/log-drains/{}' => {url => 'https://evil.example/y'},
	'DELETE /apps/{app}/log-drains/{}' => undef,
	'POST /apps/{app}/domains' => {hostname => 'evil.example'},
	'PATCH /apps/{app}/domains/{}' => {sni_endpoint => undef},
	'DELETE /apps/{app}/domains/{}' => undef,
	'POST /apps/{app}/sni-endpoints' => $pair,
	'PATCH /apps/{app}/sni-endpoints/{}' => $pair,
	'DELETE /apps/{app}/sni-endpoints/{}' => undef,
	'POST /apps/{app}/ssl-endpoints' => $pair,
	'POST /apps/{app}/acm' => {}, 'PATCH /apps/{app}/acm' => {}, 'DELETE /apps/{app}/acm' => undef,
	'POST /apps/{app}/collaborators' => {user => 'bob@example.org'},
	'DELETE /apps/{app}/collaborators/{}' => undef,
	'POST /apps/{app}/addons' => {plan => 'x'},
	'PUT /apps/{app}/buildpack-installations' => {updates => []},
	'POST /apps/{app}/webhooks' => {url => 'https://evil.example'},
	'DELETE /apps/{app}' => undef,
);
# Of these nothing is there for the owner either, or what is there is no object: 404 is right for all.
my %nothing_there = map { $_ => 1 } (
	'GET /apps/{app}/addons/{}', 'GET /apps/{app}/pipeline-couplings', 'GET /apps/{app}/dynos/{}', 'DELETE /apps/{app}/dynos/{}',
	'POST /apps/{app}/dynos/{}', 'POST /apps/{app}/dynos/{}/actions/stop', 'POST /apps/{app}/formations/{}/actions/stop', 'DELETE /apps/{app}/builds/{}',
);

# --- endpoints of no app: who may, and what another tenant's object answers -------------------------------
my $own = sub { my ($r) = @_; return $r->{status} < 300 && $r->{content} !~ /alice/ };
my $gone = sub { $_[0]{status} == 404 };
my %plain = (
	(map { $_ => $own } 'GET /apps', 'GET /account', 'GET /oauth/authorizations', 'GET /account/keys', 'GET /users/~/keys', 'GET /account/app-transfers',
		'GET /stacks', 'GET /regions', 'GET /dyno-sizes', 'GET /account/rate-limits', 'GET /account/features', 'GET /platform/routes', 'GET /addons',
		'GET /addon-attachments', 'GET /addon-services', 'GET /pipeline-couplings', 'GET /pipelines', 'GET /teams', 'GET /organizations', 'GET /spaces', 'GET /favorites',
		'GET /oauth/clients', 'GET /oauth/sessions', 'GET /invoices', 'POST /sources'),
	(map { $_ => $gone } 'GET /stacks/{}', 'GET /regions/{}', 'GET /dyno-sizes/{}', 'GET /account/features/{}', 'PATCH /account/features/{}', 'GET /addons/{}',
		'GET /addon-services/{}', 'POST /actions/addons/resolve', 'POST /actions/addon-attachments/resolve', 'GET /teams/{}', 'GET /teams/{}/apps', 'POST /teams/apps',
		'GET /spaces/{}', 'GET /users/{}', 'PATCH /users/{}', 'GET /users/{}/apps', 'GET /oauth/authorizations/{}', 'PATCH /oauth/authorizations/{}',
		'DELETE /oauth/authorizations/{}', 'POST /oauth/authorizations/{}/actions/regenerate-tokens', 'GET /account/keys/{}', 'DELETE /account/keys/{}',
		'POST /account/app-transfers'),
	'POST /apps' => sub { $_[0]{status} == 422 }, 'PATCH /account' => sub { $_[0]{status} == 422 }, 'POST /oauth/authorizations' => sub { $_[0]{status} == 422 },
	'POST /account/keys' => sub { $_[0]{status} == 422 },
);
my %plain_body = (
	'POST /apps' => {name => 'alices-app'}, 'PATCH /account' => {email => 'alice@example.org'}, 'POST /oauth/authorizations' => {expires_in => 0},
	'POST /account/keys' => {}, 'POST /account/app-transfers' => {app => 'alices-app', recipient => 'bob@example.org'},
	'PATCH /users/{}' => {email => 'bob2@example.org'}, 'PATCH /oauth/authorizations/{}' => {description => 'evil'},
	'POST /oauth/authorizations/{}/actions/regenerate-tokens' => {}, 'PATCH /account/features/{}' => {enabled => $T}, 'POST /teams/apps' => {name => 'x'},
	'POST /actions/addons/resolve' => {}, 'POST /actions/addon-attachments/resolve' => {}, 'POST /sources' => {},
);
my %plain_object = (
	users => [$user{alice}{id}, 'alice@example.org'], authorizations => [$token->{id}], keys => [$key->{id}, $key->{fingerprint} =~ s{([/+:])}{sprintf '%%%02X', ord $1}ger],
);

# Everything that can be seen of alice's app, as she sees it.
sub state_of_hers {
	my %s;
	for my $path ('', map { "/$_" } qw(config-vars releases formation domains sni-endpoints collaborators log-drains features limits builds dynos)) {
		my $r = $p->api('GET', "/apps/$hers->{id}$path", undef, $as{alice});
		$s{$path || 'app'} = $r->{status} == 200 ? $r->{json} : "$r->{status} $r->{content}";
	}
	$s{$_} = $p->api('GET', $_, undef, $as{alice})->{json} for '/account', '/oauth/authorizations', '/account/keys', '/apps';
	return \%s;
}

sub call {
	my ($method, $path, $body, $as) = @_;
	return $p->api($method, $path, $method eq 'GET' || !defined $body ? undef : $body, $as);
}

# Every way to name the object of a route, with {app} as given.
sub paths {
	my ($path, $app) = @_;
	$path =~ s/\{app\}/$app/;
	return ($path) if $path !~ /\{\}/;
	my ($kind) = $path =~ m{([^/]+)/\{\}};
	my $names = $object{$kind} // die "no object of kind '$kind' in this test\n";
	return map { my $n = $_; $path =~ s/\{\}/$n/r } @$names;
}

my $routes = $p->ok_api(200, 'GET', '/platform/routes');
my @app_routes = grep { $_->{path} =~ /\{app\}/ } @$routes;
my @plain_routes = grep { $_->{path} !~ /\{app\}/ } @$routes;
ok(@app_routes > 60 && @plain_routes > 40, @app_routes . ' endpoints of apps, ' . @plain_routes . ' others');
my $before = state_of_hers();

subtest 'this test knows every endpoint' => sub {
	for my $r (@app_routes) {
		my $name = "$r->{method} $r->{path}";
		ok($r->{method} eq 'GET' || exists $body{$name}, "$name: a body is known");
		ok(eval { paths($r->{path}, 'x'); 1 }, "$name: objects are known") or diag($@);
		isnt($r->{need}, 'nothing', "$name needs a user");
		isnt($r->{need}, 'user', "$name needs access to the app");
	}
	for my $r (@plain_routes) {
		my $name = "$r->{method} $r->{path}";
		ok($r->{need} eq 'admin' || $plain{$name}, "$name is known");
		isnt($r->{need}, 'nothing', "$name needs a user");
	}
};

subtest 'no token, and a wrong one' => sub {
	for my $r (@$routes) {
		my $path = $r->{path} =~ s/\{app\}/alices-app/r =~ s/\{\}/x/gr;
		is(call($r->{method}, $path, $body{"$r->{method} $r->{path}"} // {}, {token => $_})->{status}, 401, "$r->{method} $path with " . ($_ // 'none')) for undef, 'f' x 64;
	}
};
is_deeply(state_of_hers(), $before, 'nothing changed');

subtest "a stranger at alice's app" => sub {
	for my $r (@app_routes) {
		for my $app ('alices-app', $hers->{id}) {
			for my $path (paths($r->{path}, $app)) {
				my $a = call($r->{method}, $path, $body{"$r->{method} $r->{path}"}, $as{bob});
				ok($a->{status} == 404 && $a->{json}{id} eq 'not_found' && $a->{content} !~ /4711|$hers->{id}/, "$r->{method} $path: 404") or diag("$a->{status} $a->{content}");
				my $none = call($r->{method}, $path =~ s/\Q$app\E/no-such-app/r, $body{"$r->{method} $r->{path}"}, $as{bob});
				is($none->{content}, $a->{content}, '... as of an app that does not exist');
			}
		}
	}
};
is_deeply(state_of_hers(), $before, 'nothing changed');

subtest "a stranger names alice's objects under his own app" => sub {
	for my $r (grep { $_->{path} =~ /\{\}/ } @app_routes) {
		my ($kind) = $r->{path} =~ m{([^/]+)/\{\}};
		for my $name (grep { !$relative{$_} } @{$object{$kind}}) {
			my $path = $r->{path} =~ s/\{app\}/bobs-app/r =~ s/\{\}/$name/r;
			my $a = call($r->{method}, $path, $body{"$r->{method} $r->{path}"}, $as{bob});
			ok($a->{status} == 404 && $a->{content} !~ /4711/, "$r->{method} $path: 404") or diag("$a->{status} $a->{content}");
		}
	}
	my %in_body = (
		'PATCH /apps/bobs-app' => [{name => 'alices-app'}], 'POST /apps/bobs-app/domains' => [{hostname => 'www.alice.example'}, {hostname => '*.alice.example'},
			{hostname => 'x.bob.example', sni_endpoint => $cert->{name}}, {hostname => 'y.bob.example', sni_endpoint => $cert->{id}}, {hostname => 'alices-app.localhost'}],
		'POST /apps/bobs-app/releases' => [{release => '00000001-0000-4000-8000-000000000003'}, {slug => '00000001-0000-4000-8000-000000000001'}],
		'PATCH /apps/bobs-app/formation' => [{updates => [{id => '00000001-0000-4000-8000-000000000005', quantity => 1}]}],
	);
	for my $call (sort keys %in_body) {
		for my $b (@{$in_body{$call}}) {
			my $a = call(split(/ /, $call), $b, $as{bob});
			ok(($a->{status} == 404 || $a->{status} == 422) && $a->{content} !~ /4711/, "$call " . $Platform::JSON->encode($b)) or diag("$a->{status} $a->{content}");
		}
	}
};
is_deeply(state_of_hers(), $before, 'nothing changed');

subtest 'endpoints of no app' => sub {
	for my $r (@plain_routes) {
		my $name = "$r->{method} $r->{path}";
		my @paths = ($r->{path});
		if ($r->{path} =~ m{([^/]+)/\{\}}) {
			@paths = map { my $n = $_; $r->{path} =~ s/\{\}/$n/r } @{$plain_object{$1} // [$hers->{id}, 'alices-app', "'--", '%00']};
		}
		for my $path (@paths) {
			my $a = call($r->{method}, $path, $plain_body{$name} // {}, $as{bob});
			if ($r->{need} eq 'admin') {
				ok($a->{status} == 403 && $a->{content} !~ /alice/, "$r->{method} $path: 403") or diag("$a->{status} $a->{content}");
			} elsif ($path =~ /%00/) {
				is($a->{status}, 400, "$r->{method} $path: 400");
			} else {
				ok($plain{$name}->($a), "$r->{method} $path: nothing of alice's") or diag("$a->{status} $a->{content}");
			}
		}
	}
};
is_deeply(state_of_hers(), $before, 'nothing changed');

subtest 'git' => sub {
	for my $path (map { ("/$_/info/refs?service=git-receive-pack", "/$_/info/refs?service=git-upload-pack") } 'alices-app.git', "$hers->{id}.git") {
		my $git = {%{$as{bob}}, headers => {accept => '*/*'}};
		is($p->api('GET', $path, undef, {token => undef, headers => {accept => '*/*'}})->{status}, 401, "$path: no token");
		like($p->api('GET', $path, undef, $git)->{status}, qr/^40[34]$/, "$path: a stranger");
	}
	for my $service (qw(git-receive-pack git-upload-pack)) {
		my $r = $p->api('POST', "/alices-app.git/$service", undef, {%{$as{bob}}, content => '0000', headers => {'content-type' => "application/x-$service-request"}});
		like($r->{status}, qr/^40[34]$/, "POST $service: a stranger");
	}
};

# What only the owner may is refused to the collaborator with 403; everything else is as for the owner. The same call is
# made by both, on objects that are there; the owner's proves that the test asks for something that exists.
sub order { my ($r) = @_; return ($r->{method} eq 'DELETE' ? 1 : 0) . ($r->{path} eq '/apps/{app}' && $r->{method} eq 'DELETE' ? 9 : 0) . $r->{path} }
subtest 'a collaborator, and the owner' => sub {
	for my $r (sort { order($a) cmp order($b) } @app_routes) {
		my $name = "$r->{method} $r->{path}";
		my ($path) = paths($r->{path}, 'alices-app');
		my $carol = call($r->{method}, $path, $body{$name}, $as{carol});
		if ($r->{need} eq 'owner') {
			is($carol->{status}, 403, "$name: the owner's, 403 for the collaborator") or diag($carol->{content});
			my $alice = call($r->{method}, $path, $body{$name}, $as{alice});
			unlike($alice->{status}, qr/^(401|403|404|405|5..)$/, "$name: the owner") or diag("$alice->{status} $alice->{content}");
		} else {
			my $refused = $nothing_there{$name} ? qr/^(401|403|405|500)$/ : qr/^(401|403|404|405|500)$/;
			unlike($carol->{status}, $refused, "$name: the collaborator") or diag("$carol->{status} $carol->{content}");
		}
		# She left by DELETE of herself; and what else an earlier call took away is put back.
		if ($name eq 'DELETE /apps/{app}/collaborators/{}') {
			is($p->api('GET', '/apps/alices-app', undef, $as{carol})->{status}, 404, 'she has left');
			$p->ok_api(201, 'POST', '/apps/alices-app/collaborators', {user => 'carol@example.org'}, $as{alice});
		}
	}
};

subtest 'what is in an endpoint for collaborators, but the owner\'s' => sub {
	my $app = $p->ok_api(201, 'POST', '/apps', {name => 'second-app'}, $as{alice});
	$p->ok_api(201, 'POST', '/apps/second-app/collaborators', {user => "$_\@example.org"}, $as{alice}) for qw(carol bob);
	for my $b ({name => 'third-app'}, {owner => 'carol@example.org'}, {maintenance => $T, name => 'third-app'}) {
		is($p->api('PATCH', '/apps/second-app', $b, $as{carol})->{status}, 403, 'PATCH /apps/second-app ' . join ',', sort keys %$b);
	}
	ok(!$p->ok_api(200, 'GET', '/apps/second-app', undef, $as{alice})->{maintenance}, 'nothing of a refused change is made');
	is($p->api('DELETE', '/apps/second-app/collaborators/bob@example.org', undef, $as{carol})->{status}, 403, 'another collaborator');
	is($p->api('POST', '/account/app-transfers', {app => 'second-app', recipient => 'carol@example.org'}, $as{carol})->{status}, 403, 'taking it over');
	for my $l ({memory => '64G'}, {cpus => 2}, {max_processes => 100000}, {disk => '10T'}, {egress => '0.0.0.0/0'}, {egress => '127.0.0.1/32'}) {
		is($p->api('PATCH', '/apps/second-app/limits', $l, $as{alice})->{status}, 422, 'the owner cannot raise ' . join ',', %$l);
	}
	is($p->api('PATCH', '/apps/second-app/formation', {updates => [{type => 'web', quantity => 1000000}]}, $as{alice})->{status}, 404, 'nor scale what is not there');
};

subtest 'what is left of an app that is gone' => sub {
	is($p->api('GET', '/apps/alices-app', undef, $as{alice})->{status}, 404, 'destroyed above');
	is($p->api('POST', '/apps', {name => 'alices-app'}, $as{bob})->{status}, 422, 'its name is kept for its owner');
	is($p->api('GET', "/apps/$hers->{id}/config-vars", undef, $as{$_})->{status}, 404, "its id finds nothing for $_") for qw(alice bob carol);
	my $again = $p->ok_api(201, 'POST', '/apps', {name => 'alices-app'}, $as{alice});
	isnt($again->{id}, $hers->{id}, 'the owner may take it again');
	is_deeply($p->ok_api(200, 'GET', "/apps/alices-app/$_", undef, $as{alice}), [], "without $_ of old") for qw(releases log-drains builds sni-endpoints);
	is($p->api('GET', '/apps/alices-app', undef, $as{carol})->{status}, 404, 'nor its collaborators');
};

subtest 'a password that a browser remembers' => sub {
	require MIME::Base64;
	my $basic = 'Basic ' . MIME::Base64::encode_base64(":$user{alice}{token}", '');
	my $ask = sub { return $p->api('PATCH', '/account', {name => 'alice'}, {token => undef, headers => {authorization => $basic, @_}})->{status} };
	is($ask->(), 200, 'from a program: taken');
	is($ask->('sec-fetch-site' => $_), 200, "$_: taken") for qw(same-origin none);
	is($ask->('sec-fetch-site' => $_), 401, "$_: not, for another's page makes it do that") for qw(cross-site same-site);
};

subtest 'the platform\'s own name is nobody\'s wildcard' => sub {
	my $q = Platform->start(domain => 'apps.example.org');
	my $u = $q->ok_api(201, 'POST', '/users', {email => 'mallory@example.org'});
	$q->ok_api(201, 'POST', '/apps', {name => 'evil'}, {token => $u->{token}});
	for my $host (qw(*.example.org apps.example.org api.apps.example.org *.apps.example.org www.apps.example.org)) {
		is($q->api('POST', '/apps/evil/domains', {hostname => $host}, {token => $u->{token}})->{status}, 422, "$host is refused");
	}
	# a row of a time when the platform had another name
	is($q->stop, 0, 'stopped');
	my $row = 'import sqlite3, sys; d = sqlite3.connect(sys.argv[1]); d.execute("INSERT INTO domains (id, app_id, hostname, created_us) SELECT id, id, ?, 1 FROM apps", ("*.example.org",)); d.commit()';
	my ($rc, undef, $why) = run_out({}, 'python3', '-c', $row, $q->data . '/platform.db');
	is($rc, 0, 'a wildcard is in the store') or diag($why);
	ok($q->run, 'started again') or diag($q->log);
	like($q->raw("GET /account HTTP/1.1\r\nHost: $_\r\nConnection: close\r\n\r\n", 3), qr{^HTTP/1\.1 401 .*unauthorized}s, "$_ is the API") for qw(apps.example.org api.apps.example.org);
	like($q->raw("GET /account HTTP/1.1\r\nHost: www.example.org\r\nConnection: close\r\n\r\n", 3), qr{^HTTP/1\.1 503 }, 'www.example.org is the app\'s');
	$q->stop;
};

unlike($p->log, qr/4711|PRIVATE KEY|$user{alice}{token}/, 'no secret is in the log');
is($p->stop, 0, 'stopped');
done_testing;
