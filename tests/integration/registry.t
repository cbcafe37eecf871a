#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# push and pull against a real registry (Debian's docker-registry), one that asks for tokens, connections that break, and hostile servers.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use FindBin;
use MIME::Base64 qw(encode_base64);
use Test::More;
use Time::HiRes qw(sleep time);
use lib $FindBin::Bin;
use Cowbell qw(:DEFAULT cowbell succeeds refused);
use Registry;

plan skip_all => 'needs docker-registry, curl, openssl and mkfs.erofs' unless have('docker-registry', 'curl', 'openssl', 'mkfs.erofs');

my $d = scratch();
$ENV{HOME} = $d;
$ENV{XDG_CACHE_HOME} = "$d/cache";
delete @ENV{qw(REGISTRY_AUTH_FILE XDG_RUNTIME_DIR DOCKER_CONFIG)};
my ($monitor) = monitors();

sub store { $ENV{XDG_DATA_HOME} = "$d/$_[0]" }
# What a store holds: names, blobs, temporary files.
sub names { return sort map { s{.*/}{}r } glob "$ENV{XDG_DATA_HOME}/cowbell/refs/*" }
sub blobs { return map { s{.*/}{}r } glob "$ENV{XDG_DATA_HOME}/cowbell/blobs/sha256/*" }
sub temporary { return glob "$ENV{XDG_DATA_HOME}/cowbell/tmp/*" }

make_ca($d);
mkdir "$d/root";
mkdir "$d/root/bin";
spew("$d/root/data", join '', map { pack 'V', rand 2**32 } 1 .. 1_500_000);	# 6 MB that do not compress
my $busybox = -e '/bin/busybox' ? '/bin/busybox' : '/usr/bin/busybox';
system('cp', $busybox, "$d/root/bin/busybox");
my $img = native_image($d, "$d/root", '{"Cmd":["/bin/busybox","echo","hello from a registry"]}');

my $plain = start_registry("$d/plain");
my $tls = start_registry("$d/tls", tls => $d);
ok(put_image($d, "http://127.0.0.1:$plain", 'test/app', 'v1', $img), 'an image is on the registry') or BAIL_OUT('curl cannot put an image');

# --- pull -------------------------------------------------------------------------------------------------------------
store('a');
my $out = succeeds('pull from a registry on this machine without TLS', 'pull', "127.0.0.1:$plain/test/app:v1", '--json');
like($out, qr/"digest":"sha256:$img->{hex}"/, 'with the digest that it has there');
is_deeply([names()], ["127.0.0.1,$plain+test+app,v1"], 'it has one name');
is_deeply([temporary()], [], 'nothing temporary is left');
is((run_out({timeout => 30}, $COWBELL, 'run', '--monitor', $monitor, "image:127.0.0.1:$plain/test/app:v1"))[1], "hello from a registry\n", 'it runs');
succeeds('another name here', 'pull', "127.0.0.1:$plain/test/app:v1", '-t', 'app:one');
succeeds('by digest', 'pull', "127.0.0.1:$plain/test/app\@sha256:$img->{hex}", '-t', 'app:two');
refused('a digest without a name for it', qr/-t NAME/, 'pull', "127.0.0.1:$plain/test/app\@sha256:$img->{hex}");
refused('a tag that is not there: the registry\'s words', qr/MANIFEST_UNKNOWN: manifest unknown \(HTTP 404\)/, 'pull', "127.0.0.1:$plain/test/app:v9");
refused('a name that signatures have', qr/for signatures/, 'pull', "127.0.0.1:$plain/test/app:v1", '-t', "a:sha256-$img->{hex}.sig");
refused('a name without a registry', qr/names no registry/, 'pull', 'app:one');
refused('nobody listens', qr/127\.0\.0\.1:1: .*onnect/, 'pull', '127.0.0.1:1/test/app:v1');
my $log = "$d/again.log";
my $proxy = start_proxy($log, $plain, 'server', 0, 0);
succeeds('pulled again', 'pull', "127.0.0.1:$proxy/test/app:v1", '-t', 'app:three');
ok(!grep({ m{/blobs/} } proxy_log($log)), 'no blob is fetched that the store has');

# --- TLS, push, other tools -----------------------------------------------------------------------------------------------
refused('a certificate that nobody vouches for', qr/certificate/, 'push', 'app:one', "localhost:$tls/a/b:v2");
refused('a CA file that is not there', qr/ca-file/, 'push', 'app:one', "localhost:$tls/a/b:v2", '--ca-file', "$d/none");
$out = succeeds('push over TLS', 'push', 'app:one', "localhost:$tls/a/b:v2", '--ca-file', "$d/ca.pem", '--json');
like($out, qr/"digest":"sha256:$img->{hex}","uploaded":2,"mounted":0,"present":0/, 'both blobs are sent');
$out = succeeds('the same to another repository', 'push', 'app:one', "localhost:$tls/a/c:v2", '--ca-file', "$d/ca.pem", '--json');
like($out, qr/"mounted":1/, 'the layer is mounted from the first');
$out = succeeds('and once more', 'push', 'app:one', "localhost:$tls/a/c:v2", '--ca-file', "$d/ca.pem", '--json');
like($out, qr/"uploaded":0,"mounted":0,"present":2/, 'nothing is sent');
refused('a push of what is not signed by our CA stays refused with another CA', qr/certificate/, 'push', 'app:one', "localhost:$tls/a/b:v2", '--ca-file', "/etc/ssl/certs/ca-certificates.crt")
	if -s '/etc/ssl/certs/ca-certificates.crt';
is((cowbell('push', 'nothing:here', "localhost:$tls/a/b:v2"))[0], 127, 'push of an image that is not here: 127');
refused('a push to a digest', qr/tag/, 'push', 'app:one', "localhost:$tls/a/b\@sha256:$img->{hex}");
store('b');
succeeds('pull of what was pushed', 'pull', "localhost:$tls/a/c:v2", '--ca-file', "$d/ca.pem");
my $there = "localhost:$tls/a/c:v2";
SKIP: {
	skip 'no skopeo', 13 unless have('skopeo');
	mkdir "$d/certs";
	system('cp', "$d/ca.pem", "$d/certs/ca.crt");
	like(`skopeo inspect --cert-dir $d/certs docker://$there 2>&1`, qr/"Digest": "sha256:$img->{hex}"/, 'skopeo reads what we pushed');
	is(system("skopeo copy -q --src-cert-dir $d/certs docker://$there oci:$d/oci:x >$d/log 2>&1"), 0, 'and copies it') or diag slurp("$d/log");
	is(sha256_hex(slurp("$d/oci/blobs/sha256/$img->{layer}")), $img->{layer}, 'byte by byte');
	skip 'no umoci', 10 unless have('umoci');
	system("cd $d && umoci init --layout u && umoci new --image u:x && umoci insert --rootless --image u:x $d/root/bin /bin && "
		. "umoci config --image u:x --config.cmd /bin/busybox --config.cmd echo --config.cmd 'from tar' >/dev/null 2>&1");
	for my $format ('oci', 'v2s2') {
		is(system("skopeo copy -q --format $format --dest-tls-verify=false oci:$d/u:x docker://127.0.0.1:$plain/tar/$format:1 >$d/log 2>&1"), 0, "skopeo pushes, format $format")
			or diag slurp("$d/log");
		succeeds("we pull, format $format", 'pull', "127.0.0.1:$plain/tar/$format:1");
		is((run_out({timeout => 30}, $COWBELL, 'run', '--monitor', $monitor, "image:127.0.0.1:$plain/tar/$format:1"))[1], "from tar\n", 'and it runs');
		my $again = start_proxy("$d/again.$format", $plain, 'server', 0, 0);
		succeeds('pulled again', 'pull', "127.0.0.1:$again/tar/$format:1");
		ok(!grep({ m{/blobs/} } proxy_log("$d/again.$format")), 'no layer is fetched that was converted before');
	}
}

# --- connections that break ---------------------------------------------------------------------------------------------------
store('broken');
$log = "$d/broken.log";
$proxy = start_proxy($log, $plain, 'server', 1_500_000, 4);
succeeds('a pull whose connection breaks after 1.5 MB, four times', 'pull', "127.0.0.1:$proxy/test/app:v1");
my @ranges = map { /Range: bytes=(\d+)-/ ? $1 : () } grep { /$img->{layer}/ } proxy_log($log);
is(scalar @ranges, 4, 'goes on with four Range requests');
is_deeply(\@ranges, [sort { $a <=> $b } @ranges], 'each further on');
ok(($ranges[0] // 0) > 1_000_000, 'the first of them with what was there');
is_deeply([temporary()], [], 'nothing temporary is left');

store('cut');
$log = "$d/cut.log";
$proxy = start_proxy($log, $plain, 'server', 40_000, 1000);
refused('a connection that always breaks', qr/blob sha256:$img->{layer}: /, 'pull', "127.0.0.1:$proxy/test/app:v1");
is_deeply([names(), blobs()], [], 'leaves no name and no blob');
like(join(' ', temporary()), qr{partial-$img->{layer}$}, 'but what was fetched');
$log = "$d/resume.log";
$proxy = start_proxy($log, $plain, 'server', 0, 0);
succeeds('the next pull, another process', 'pull', "127.0.0.1:$proxy/test/app:v1");
like((grep { /$img->{layer}/ } proxy_log($log))[0] // '', qr/Range: bytes=\d{5,}-/, 'asks only for the rest');
is_deeply([temporary()], [], 'nothing temporary is left');

# A registry of one image, for what follows: answers are changed by a sub that returns true if it has answered.
sub registry_of {
	my ($log, $change) = @_;
	return start_server($log, sub {
		my ($c, $line, $h) = @_;
		my ($method, $path) = split ' ', $line;
		return if $change && $change->($c, $method, $path, $h);
		my ($body, $type) = $path =~ m{/manifests/[^.]*$} ? ($img->{manifest}, 'application/vnd.oci.image.manifest.v1+json')
			: $path =~ m{/blobs/sha256:(\w+)} ? ($img->{blobs}{$1}, 'application/octet-stream') : ();
		if (!defined $body) {
			print $c "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
		} else {
			print $c "HTTP/1.1 200 OK\r\nContent-Type: $type\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n";
			print $c $body if $method eq 'GET';
		}
	});
}
store('killed');
my $slow = registry_of("$d/slow.log", sub {
	my ($c, undef, $path) = @_;
	return 0 if $path !~ /blobs.*$img->{layer}/;
	print $c "HTTP/1.1 200 OK\r\nContent-Length: $img->{size}\r\n\r\n", substr($img->{blobs}{$img->{layer}}, 0, 3_000_000);
	sleep 50;
	return 1;
});
my $pid = fork // die;
if (!$pid) {
	open STDERR, '>', "$d/killed.err";
	{ exec $COWBELL, 'pull', '--plain-http', "127.0.0.1:$slow/x/y:1" }
	POSIX::_exit(1);
}
for (1 .. 100) {
	last if grep { (-s $_ // 0) >= 3_000_000 } temporary();
	sleep 0.1;
}
kill 'KILL', $pid;
waitpid $pid, 0;
$log = "$d/killed.log";
$proxy = start_proxy($log, $plain, 'server', 0, 0);
succeeds('a pull after one that was killed', 'pull', "127.0.0.1:$proxy/test/app:v1");
is((map { /Range: bytes=(\d+)/ ? $1 : () } proxy_log($log))[0], 3_000_000, 'begins where that one ended');

store('norange');
my ($n, $no_range) = (0);
$no_range = registry_of("$d/norange.log", sub {
	my ($c, undef, $path) = @_;
	return 0 if $path !~ /blobs.*$img->{layer}/ || grep({ /layer.cut/ } glob "$d/layer.cut");
	spew("$d/layer.cut", '');
	print $c "HTTP/1.1 200 OK\r\nContent-Length: $img->{size}\r\n\r\n", substr($img->{blobs}{$img->{layer}}, 0, 1_000_000);
	return 1;
});
succeeds('a server that knows no ranges: from the beginning', 'pull', '--plain-http', "127.0.0.1:$no_range/x/y:1");

# A partial file that holds something else.
store('stale');
cowbell('images');
spew("$ENV{XDG_DATA_HOME}/cowbell/tmp/partial-$img->{layer}", 'x' x 1_000_000);
succeeds('a partial file with other bytes is found out and fetched anew', 'pull', "127.0.0.1:$plain/test/app:v1");
is_deeply([temporary()], [], 'nothing temporary is left');

# push
store('a');
$log = "$d/push.log";
my $fresh = start_registry("$d/fresh");
$proxy = start_proxy($log, $fresh, 'client', 2_000_000, 3);
succeeds('a push whose connection breaks three times', 'push', 'app:one', "127.0.0.1:$proxy/p/q:1");
store('pushed');
succeeds('and it is all there', 'pull', "127.0.0.1:$fresh/p/q:1");

my $fresh_tls = start_registry("$d/freshtls", tls => $d);
store('a');
$proxy = start_proxy("$d/pushtls.log", $fresh_tls, 'client', 2_000_000, 3);
succeeds('the same over TLS', 'push', 'app:one', "127.0.0.1:$proxy/p/q:1", '--ca-file', "$d/ca.pem");
$proxy = start_proxy("$d/pulltls.log", $fresh_tls, 'server', 2_000_000, 3);
store('pulledtls');
succeeds('and a pull over TLS', 'pull', "127.0.0.1:$proxy/p/q:1", '--ca-file', "$d/ca.pem");

# docker-registry forgets an upload that broke in the middle; this one does not.
my $up = start_server("$d/up.log", sub {
	my ($c, $line, $h, $body) = @_;
	my ($method, $path) = split ' ', $line;
	my $have = -s "$d/upload" // 0;
	my $say = sub { print $c "HTTP/1.1 $_[0]\r\nContent-Length: ", $_[1] // 0, "\r\nConnection: close\r\n\r\n" };
	my $where = "Location: /v2/p/q/blobs/uploads/one?state=$have";
	if ($path =~ m{/manifests/}) {
		return $say->('201 Created') if $method eq 'PUT';
		print $c "HTTP/1.1 200 OK\r\nContent-Length: " . length($img->{manifest}) . "\r\nConnection: close\r\n\r\n$img->{manifest}";
	} elsif ($method eq 'HEAD') {
		$say->($path =~ /$img->{layer}/ ? '404 Not Found' : ('200 OK', length $img->{blobs}{$img->{config}}));
	} elsif ($method eq 'POST') {
		$say->("202 Accepted\r\n$where");
	} elsif ($method eq 'GET') {
		$say->("204 No Content\r\n$where\r\nRange: 0-" . ($have ? $have - 1 : 0));
	} elsif ($method eq 'PATCH') {
		return $say->("416 Range\r\n$where") if ($h->{'content-range'} // '') !~ /^$have-/;
		open my $f, '>>', "$d/upload";
		print $f $body;
		close $f;
		$have = -s "$d/upload";
		$say->("202 Accepted\r\n$where\r\nRange: 0-" . ($have - 1));
	} else {
		my $hex = sha256_hex(slurp("$d/upload"));
		$say->($path =~ /digest=sha256(?::|%3A)$hex/ ? '201 Created' : '400 Bad');
	}
});
store('a');
$log = "$d/pushresume.log";
$proxy = start_proxy($log, $up, 'client', 1_800_000, 3);
succeeds('a push to a registry that keeps what it has', 'push', '--plain-http', 'app:one', "127.0.0.1:$proxy/p/q:1");
my @patches = map { /^PATCH.*Content-Range: (\d+)-/ ? $1 : () } proxy_log($log);
ok(@patches == 4 && $patches[1] > 1_000_000 && $patches[3] > $patches[2] && $patches[2] > $patches[1], "goes on from where the registry is (@patches)");

# --- tokens and passwords ---------------------------------------------------------------------------------------------------------
store('a');
my $tokens = start_token_server("$d/tokens.log", $d, anonymous => 1);
my $guarded = start_registry("$d/guarded", token => $tokens, root => "$d/ca.pem");
my $name = "127.0.0.1:$guarded/t/app:1";
refused('push without credentials', qr/UNAUTHORIZED|DENIED|authentication/i, 'push', 'app:one', $name);
refused('push with a wrong password', qr/token server refuses the credentials: incorrect user or pass \(HTTP 401\)/, 'push', 'app:one', $name, '--creds', 'user:wrong');
succeeds('push with a token for a password', 'push', 'app:one', $name, '--creds', 'user:secret');
ok(scalar(grep { /scope=repository%3At%2Fapp%3Apull%2Cpush/ || /scope=repository%3At%2Fapp%3Apush%2Cpull/ } proxy_log("$d/tokens.log")), 'the token is for this repository');
succeeds('a mount from another repository asks for both', 'push', 'app:one', "127.0.0.1:$guarded/t/other:1", '--creds', 'user:secret');
store('anonymous');
succeeds('pull with a token for nobody', 'pull', $name);
store('a');
mkdir "$d/.docker";
spew("$d/.docker/config.json", '{"auths":{"127.0.0.1:' . $guarded . '":{"auth":"' . encode_base64('user:secret', '') . '"}}}');
succeeds('credentials from ~/.docker/config.json', 'push', 'app:one', "127.0.0.1:$guarded/t/file:1");
mkdir "$d/conf";
spew("$d/conf/config.json", '{"auths":{"127.0.0.1:' . $guarded . '":{"auth":"' . encode_base64('user:nope', '') . '"}}}');
$ENV{DOCKER_CONFIG} = "$d/conf";
refused('$DOCKER_CONFIG counts before it', qr/refuses the credentials/, 'push', 'app:one', "127.0.0.1:$guarded/t/file:2");
spew("$d/auth.json", '{"auths":{"http://127.0.0.1:' . $guarded . '/v2/":{"auth":"' . encode_base64('user:secret', '') . '"}}}');
$ENV{REGISTRY_AUTH_FILE} = "$d/auth.json";
succeeds('and $REGISTRY_AUTH_FILE before that', 'push', 'app:one', "127.0.0.1:$guarded/t/file:2");
delete @ENV{qw(REGISTRY_AUTH_FILE DOCKER_CONFIG)};
spew("$d/.docker/config.json", '{"credHelpers":{"127.0.0.1:' . $guarded . '":"secretservice"}}');
refused('a credential helper is named and not run', qr/credential helper, which is not supported|DENIED|UNAUTHORIZED/i, 'push', 'app:one', "127.0.0.1:$guarded/t/file:3");
spew("$d/.docker/config.json", '{"auths":');
refused('an auth file that is no JSON', qr/config\.json: is no valid auth file/, 'push', 'app:one', "127.0.0.1:$guarded/t/file:3");
unlink "$d/.docker/config.json";

my $password = registry_of("$d/basic.log", sub {
	my ($c, undef, undef, $h) = @_;
	return 0 if ($h->{authorization} // '') eq 'Basic ' . encode_base64('user:se:cret', '');
	print $c "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"a, b\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	return 1;
});
store('basic');
refused('a registry with passwords, without one', qr/--creds USER:PASSWORD/, 'pull', '--plain-http', "127.0.0.1:$password/x/y:1");
succeeds('and with it; a password may have a colon', 'pull', '--plain-http', "127.0.0.1:$password/x/y:1", '--creds', 'user:se:cret');

# Tokens that are good for one request: each 401 brings a new one.
my $short;
$short = registry_of("$d/short.log", sub {
	my ($c, undef, $path, $h) = @_;
	if ($path =~ m{^/token}) {
		my $token = 't' . (() = slurp("$d/given") =~ /x/g);
		spew("$d/given", slurp("$d/given") . 'x');
		my $json = "{\"access_token\":\"$token\",\"expires_in\":1}";
		print $c "HTTP/1.1 200 OK\r\nContent-Length: " . length($json) . "\r\nConnection: close\r\n\r\n$json";
		return 1;
	}
	my ($token) = ($h->{authorization} // '') =~ /^Bearer (\w+)$/;
	if ($token && !-e "$d/used.$token") {
		spew("$d/used.$token", '');
		return 0;
	}
	print $c "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"/token\",service=\"s\",scope=\"repository:x/y:pull\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	return 1;
});
store('short');
spew("$d/given", '');
succeeds('tokens that are refused when used again', 'pull', '--plain-http', "127.0.0.1:$short/x/y:1");
ok(length slurp("$d/given") >= 3, 'are fetched again: ' . length slurp("$d/given"));

# --- several at once, and killed at any moment --------------------------------------------------------------------------------------
store('many');
my @pids = map {
	my $i = $_;
	my $p = fork // die;
	if (!$p) {
		open STDOUT, '>', "$d/many.$i";
		{ exec $COWBELL, 'pull', "127.0.0.1:$plain/test/app:v1", '-t', "many:$i" }
		POSIX::_exit(1);
	}
	$p;
} 1 .. 5;
my $good = grep { waitpid($_, 0) == $_ && $? == 0 } @pids;
is($good, 5, 'five pulls of one image at the same time');
is_deeply([temporary()], [], 'nothing temporary is left');
store('kills');
cowbell('images');
for my $i (1 .. 12) {
	my $p = fork // die;
	if (!$p) {
		open STDERR, '>', '/dev/null';
		{ exec $COWBELL, 'pull', '-t', "kill:$i", "127.0.0.1:$plain/test/app:v1" }
		POSIX::_exit(1);
	}
	sleep 0.004 * $i;
	kill 'KILL', $p;
	waitpid $p, 0;
}
my @broken = grep { (readlink($_) // '') eq '' } glob "$ENV{XDG_DATA_HOME}/cowbell/refs/*";
is_deeply(\@broken, [], 'pulls that are killed at any moment leave whole names');
is_deeply([grep { sha256_hex(slurp($_)) ne s{.*/}{}r } glob "$ENV{XDG_DATA_HOME}/cowbell/blobs/sha256/*"], [], 'and whole blobs');
succeeds('and the next one succeeds', 'pull', '-t', 'kill:last', "127.0.0.1:$plain/test/app:v1");
spew("$ENV{XDG_DATA_HOME}/cowbell/tmp/partial-" . ('0' x 64), 'fresh');
spew("$ENV{XDG_DATA_HOME}/cowbell/tmp/partial-" . ('1' x 64), 'old');
utime time - 100000, time - 100000, "$ENV{XDG_DATA_HOME}/cowbell/tmp/partial-" . ('1' x 64);
succeeds('prune', 'prune');
is(join(' ', map { s{.*/}{}r } temporary()), 'partial-' . ('0' x 64), 'keeps a fresh download and removes an old one');

# --- hostile servers -----------------------------------------------------------------------------------------------------------------
# Each in a new store, in which nothing may be left.
my ($stores, $keeps) = (0, 0);
sub hostile {
	my ($name, $want, $change, @options) = @_;
	store('hostile' . ++$stores);
	my $port = registry_of("$d/hostile$stores.log", $change);
	my $err = refused($name, $want, 'pull', '--plain-http', "127.0.0.1:$port/x/y:1", @options);
	my @left = (names(), blobs(), grep { !$keeps || !/partial-/ } temporary());
	is("@left", '', '... and leaves nothing') or diag "@left";
	return $err;
}
sub blob_answer {
	my ($headers, $body) = @_;
	return sub {
		my ($c, undef, $path) = @_;
		return 0 if $path !~ m{/blobs/.*$img->{layer}};
		print $c "HTTP/1.1 $headers\r\nConnection: close\r\n\r\n";
		print $c ref $body ? $body->($c) : $body;
		return 1;
	};
}
sub any_answer {
	my ($headers, $body) = @_;
	return sub {
		my ($c) = @_;
		print $c "HTTP/1.1 $headers\r\nConnection: close\r\n\r\n";
		print $c ref $body ? $body->($c) : $body;
		return 1;
	};
}
sub endless { my ($c) = @_; my $block = 'x' x 65536; 1 while print $c $block; return '' }
my $other = $img->{blobs}{$img->{layer}};
substr($other, 5000, 1) ^= 'z';
hostile('a blob with other bytes', qr/does not have this digest/, blob_answer("200 OK\r\nContent-Length: $img->{size}", $other));
hostile('a blob without end', qr/more bytes than the blob has/, blob_answer('200 OK', \&endless));
hostile('a manifest without end', qr/larger than it may be/, any_answer('200 OK', \&endless));
hostile('an error without end', qr/very long/, any_answer('404 Not Found', \&endless));
hostile('headers without end', qr/headers without end|eader/, sub {
	my ($c) = @_;
	print $c "HTTP/1.1 200 OK\r\n";
	for (1 .. 20000) { print $c "X-$_: ", 'y' x 1000, "\r\n" or last }
	return 1;
});
hostile('a redirect to a file', qr/not http or https/, blob_answer("307 Temporary Redirect\r\nLocation: file:///etc/passwd\r\nContent-Length: 0", ''));
hostile('a redirect to another protocol', qr/not http or https/, blob_answer("302 Found\r\nLocation: gopher://127.0.0.1/x\r\nContent-Length: 0", ''));
hostile('a redirect with a user in it', qr/not http or https/, blob_answer("302 Found\r\nLocation: http://a:b\@127.0.0.1/x\r\nContent-Length: 0", ''));
hostile('redirects in a circle', qr/redirects without end/, blob_answer("302 Found\r\nLocation: /v2/x/y/blobs/sha256:$img->{layer}\r\nContent-Length: 0", ''));
hostile('a part that nobody asked for', qr/another part/, blob_answer("206 Partial Content\r\nContent-Range: bytes 10-19/20\r\nContent-Length: 10", 'x' x 10));
hostile('no HTTP at all', qr{HTTP/0\.9}, sub { my ($c) = @_; print $c "SSH-2.0-OpenSSH\r\n"; return 1 });
hostile('a manifest that is no JSON', qr/127\.0\.0\.1/, any_answer("200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json", '{"schemaVersion":'));
hostile('a manifest of another digest than the registry says', qr/does not have the digest/,
	any_answer("200 OK\r\nDocker-Content-Digest: sha256:" . ('0' x 64) . "\r\nContent-Type: application/vnd.oci.image.manifest.v1+json", $img->{manifest}));
my $escaped = hostile('an error text with control characters', qr/DENIED/, any_answer('403 Forbidden', '{"errors":[{"code":"DENIED","message":"\u001b[31mred\u0007\nsecond line"}]}'));
unlike($escaped, qr/[\x00-\x09\x0b-\x1f]/, '... which does not reach the terminal');
hostile('a token from an address that is not encrypted', qr/not encrypted/,
	any_answer("401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://203.0.113.9/token\",service=\"s\"\r\nContent-Length: 0", ''), '--creds', 'a:b');
hostile('a token from a file', qr/not http or https/,
	any_answer("401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"file:///etc/passwd\",service=\"s\"\r\nContent-Length: 0", ''));
hostile('an authentication that nobody knows', qr/not supported/, any_answer("401 Unauthorized\r\nWWW-Authenticate: Negotiate\r\nContent-Length: 0", ''));
hostile('401 for ever', qr/401|password/, any_answer("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0", ''), '--creds', 'a:b');
hostile('a manifest with a blob of a terabyte', qr/limit/, sub {
	my ($c, undef, $path) = @_;
	return 0 if $path !~ m{/manifests/};
	my $m = $img->{manifest} =~ s/"size":$img->{size}/"size":1099511627776/r;
	print $c "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: " . length($m) . "\r\nConnection: close\r\n\r\n$m";
	return 1;
});
my $t = time;
$keeps = 1;	# what was fetched before a connection breaks
hostile('a body that stands still', qr/stalls/, sub {
	my ($c, undef, $path) = @_;
	return 0 if $path !~ m{/blobs/.*$img->{layer}};
	print $c "HTTP/1.1 200 OK\r\nContent-Length: $img->{size}\r\n\r\nabc";
	sleep 50;
	return 1;
}, '--stall-timeout', '1s');
ok(time - $t < 40, sprintf '... is given up, after %.0f s', time - $t);

# The Authorization header stays with the host that it is for.
store('redirect');
my $target = registry_of("$d/target.log");
my $sender = registry_of("$d/sender.log", sub {
	my ($c, undef, $path, $h) = @_;
	if (!$h->{authorization}) {
		print $c "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
		return 1;
	}
	return 0 if $path !~ m{/blobs/};
	print $c "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:$target$path\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
	return 1;
});
succeeds('blobs on another host', 'pull', '--plain-http', "127.0.0.1:$sender/x/y:1", '--creds', 'user:secret');
like(slurp("$d/sender.log"), qr/authorization: Basic/, 'the registry is told who we are');
like(slurp("$d/target.log"), qr{GET /v2/x/y/blobs/}, 'the other host is asked');
unlike(slurp("$d/target.log"), qr/authorization/, 'and is not told');

# From https to http: python's TLS server redirects.
SKIP: {
	skip 'no python3', 2 unless have('python3');
	store('downgrade');
	my $port = free_port();
	spew("$d/tls.py", <<"PY");
import http.server, ssl
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(307); self.send_header('Location', 'http://127.0.0.1:$target' + self.path); self.send_header('Content-Length', '0'); self.end_headers()
    def log_message(self, *a): pass
s = http.server.HTTPServer(('127.0.0.1', $port), H)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain('$d/cert.pem', '$d/key.pem')
s.socket = c.wrap_socket(s.socket, server_side=True)
s.serve_forever()
PY
	my $server = fork // die;
	if (!$server) {
		{ exec 'timeout', '30', 'python3', "$d/tls.py" }
		POSIX::_exit(1);
	}
	for (1 .. 100) {
		last if IO::Socket::INET->new(PeerAddr => "127.0.0.1:$port", Timeout => 1);
		sleep 0.1;
	}
	refused('a redirect from https to http', qr/not encrypted \(http\)/, 'pull', "127.0.0.1:$port/x/y:1", '--ca-file', "$d/ca.pem");
	is_deeply([names(), blobs()], [], '... leaves nothing');
	kill 'TERM', $server;
	waitpid $server, 0;
}

# --- words -------------------------------------------------------------------------------------------------------------------------------
refused('pull of nothing', qr/one image/, 'pull');
{	# without a name it is the platform's verb
	local $ENV{COWBELL_URL} = 'http://127.0.0.1:1';
	my ($status, $out, $err) = Cowbell::cowbell('push');
	is($status, 2, 'push alone is for a platform');
	like($err, qr/no platform answers/, '... and says that there is none');
}
refused('credentials without a colon', qr/USER:PASSWORD/, 'pull', '--creds', 'user', 'a.b/c:d');
refused('a typo', qr/did you mean '--plain-http'/, 'pull', '--plain-htp', 'a.b/c:d');
for my $c (qw(push pull)) {
	like((cowbell($c, '--help'))[1], qr/^Usage: cowbell $c /, "cowbell $c --help");
}
done_testing();
