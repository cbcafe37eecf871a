#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Real interpreters and natively compiled programs as instances, each talked to
# by a real client, under every monitor. Results also go to
# build/results/languages.tsv, of which tools/gen-languages makes docs/languages.md.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Test::More;

my $apps = "$TOP/tests/apps";
my $tmp = scratch();
my %only = map { $_ => 1 } split /,/, $ENV{COWBELL_LANG} // '';
my @rows;

sub record {
	my ($name, $mon, $ok, $note) = @_;
	push @rows, join("\t", $name, $mon, $ok, $note // '');
}

sub build {
	my ($need, $dir, @cmd) = @_;
	return 'not installed: ' . join(' ', @$need) unless have(@$need);
	my ($st, $out, $err) = run_out({timeout => 300, dir => $dir}, @cmd);
	return $st ? "build failed: $out$err" : '';
}

my $ssl = "$tmp/ssl";
mkdir $ssl;
my $ssl_ok = have('openssl') && !system("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost "
	. "-addext subjectAltName=DNS:localhost -days 30 -keyout $ssl/key.pem -out $ssl/cert.pem >/dev/null 2>&1");

# A row: name, needed commands, prepare (returns '' or a reason), where, command, checks.
# Web rows give get => [[path, body]...]; others give out => regexp of standard output.
my $py = '/usr/bin/python3';
mkdir "$tmp/$_" for qw(c go rust ocaml haskell java express www bench cc);
spew("$tmp/www/index.html", 'static page');
spew("$tmp/c/hello.c", "#include <stdio.h>\nint main(void){printf(\"hello from c\\n\");return 7;}\n");
my @table = (
	{name => 'C static', need => ['gcc'], prep => sub { build(['gcc'], "$tmp/c", qw(gcc -O2 -static hello.c -o hello-static)) },
	 cmd => ["$tmp/c/hello-static"], dir => "$tmp/c", out => qr/^hello from c$/m, status => 7},
	{name => 'C dynamic', need => ['gcc'], prep => sub { build(['gcc'], "$tmp/c", qw(gcc -O2 hello.c -o hello)) },
	 cmd => ["$tmp/c/hello"], dir => "$tmp/c", out => qr/^hello from c$/m, status => 7},
	{name => 'C static-pie', need => ['gcc'], prep => sub { build(['gcc'], "$tmp/c", qw(gcc -O2 -static-pie hello.c -o hello-spie)) },
	 cmd => ["$tmp/c/hello-spie"], dir => "$tmp/c", out => qr/^hello from c$/m, status => 7},
	{name => 'Python REPL', need => [$py], cmd => [$py, '-i', '-q'], in => "import sys\nprint(6*7, sys.platform)\n", out => qr/42 linux/},
	{name => 'Python http.server', need => [$py], cmd => [$py, '-m', 'http.server', '8080'], dir => "$tmp/www", get => [['/index.html', qr/static page/]]},
	{name => 'Python ThreadingHTTPServer', need => [$py], cmd => [$py, 'http_app.py'], dir => "$apps/python", get => [['/x', qr{^hello from python /x$}]], many => 50},
	{name => 'Python asyncio', need => [$py], cmd => [$py, 'asyncio_app.py'], dir => "$apps/python", get => [['/y', qr{^hello from asyncio /y$}]], many => 20},
	{name => 'Python threads and signals', need => [$py], cmd => [$py, 'threads.py'], dir => "$apps/python", out => qr/^332833500 1$/m},
	{name => 'Python TLS client and server', need => [$py], cmd => [$py, "$apps/python/tls.py", 'cert.pem', 'key.pem'], dir => $ssl,
	 prep => sub { $ssl_ok ? '' : 'openssl is not installed' }, copy => ["$apps/python/tls.py"], out => qr/^SECRET WORDS TLSv1\.3$/m},
	{name => 'Python HTTPS server', need => [$py], cmd => [$py, 'tls_server.py', 'cert.pem', 'key.pem'], dir => $ssl, copy => ["$apps/python/tls_server.py"],
	 prep => sub { $ssl_ok ? '' : 'openssl is not installed' }, guest_port => 8443, scheme => 'https', curl => ['-k'], get => [['/', qr/^hello over tls$/]]},
	{name => 'Python sqlite3 on a volume', need => [$py], cmd => [$py, 'sqlite.py'], dir => "$apps/python", volume => 1,
	 out => qr/^delete 1000 28900 ok\nwal 1000 28900 ok$/m},
	{name => 'Python Flask', need => [$py], cmd => [$py, 'flask_app.py'], dir => "$apps/python", prep => sub { system("$py -c 'import flask' 2>/dev/null") ? 'python3-flask is not installed' : '' },
	 get => [['/a/b', qr{^hello from flask /a/b$}]], many => 20},
	{name => 'Node http and worker_threads', need => ['node'], cmd => ['node', 'server.js'], dir => "$apps/node", get => [['/n', qr{^hello from node /n$}], ['/work', qr/^2999997$/]], many => 50},
	{name => 'Node test runner', need => ['node'], cmd => ['node', 'sum.test.js'], dir => "$apps/node", out => qr/^# pass 3$/m},
	{name => 'Node Express', need => ['node', 'npm'], cmd => ['node', 'server.js'], dir => "$tmp/express",
	 prep => sub { system("cp $apps/express/* $tmp/express/"); build(['npm'], "$tmp/express", qw(npm install --no-audit --no-fund --loglevel=error)) }, get => [['/bob', qr/^\{"hello":"bob"\}$/]]},
	{name => 'Lua', need => ['lua5.4'], cmd => ['lua5.4', 'main.lua'], dir => "$apps/lua", prep => sub { system("lua5.4 -e 'require(\"socket\")' 2>/dev/null") ? 'lua-socket is not installed' : '' }, get => [['/l', qr{^hello from lua /l$}]]},
	{name => 'Perl', need => ['perl'], cmd => ['/usr/bin/perl', 'app.pl'], dir => "$apps/perl", get => [['/p', qr{^hello from perl /p$}]]},
	{name => 'Ruby WEBrick', need => ['ruby'], cmd => ['/usr/bin/ruby', 'app.rb'], dir => "$apps/ruby", prep => sub { system("/usr/bin/ruby -rwebrick -e1 2>/dev/null") ? 'ruby-webrick is not installed' : '' }, get => [['/r', qr{^hello from ruby /r$}]]},
	{name => 'PHP', need => ['php'], cmd => ['php', '-S', '0.0.0.0:8080'], dir => "$apps/php", get => [['/', qr{^hello from php /$}]]},
	{name => 'Go', need => ['go'], prep => sub { build(['go'], "$apps/go", 'env', 'GO111MODULE=off', "GOCACHE=$tmp/gocache", 'go', 'build', '-o', "$tmp/go/app", 'main.go') }, cmd => ["$tmp/go/app"], dir => "$tmp/go", get => [['/g', qr{^hello from go /g$}], ['/work', qr/^54120$/]], many => 50},
	{name => 'Rust', need => ['rustc'], prep => sub { build(['rustc'], "$apps/rust", 'rustc', '-O', 'main.rs', '-o', "$tmp/rust/app") }, cmd => ["$tmp/rust/app"], dir => "$tmp/rust", get => [['/u', qr{^hello from rust /u$}]], many => 20},
	{name => 'OCaml', need => ["ocamlopt"], prep => sub { build(['ocamlopt'], "$tmp/ocaml", 'sh', '-c', "cp $apps/ocaml/main.ml . && ocamlopt -I +threads unix.cmxa threads.cmxa main.ml -o app") }, cmd => ["$tmp/ocaml/app"], dir => "$tmp/ocaml", get => [['/o', qr{^hello from ocaml /o$}]]},
	{name => 'Haskell', need => ['ghc'], prep => sub { build(['ghc'], "$apps/haskell", 'ghc', '-O', '-threaded', '-outputdir', "$tmp/haskell", 'Main.hs', '-o', "$tmp/haskell/app") }, cmd => ["$tmp/haskell/app"], dir => "$tmp/haskell", get => [['/h', qr{^hello from haskell /h$}]]},
	{name => 'Java', need => ['java', 'javac'], prep => sub { build(['javac'], "$apps/java", 'javac', '-d', "$tmp/java", 'Main.java') }, cmd => ['java', '-cp', '.', 'Main'], dir => "$tmp/java", get => [['/j', qr{^hello from java /j$}]], many => 20},
);

for my $r (@table) {
	my $n = $r->{name};
	next if %only && !$only{$n};
	my @need = @{$r->{need}};
	my $reason = have(@need) ? ($r->{prep} ? $r->{prep}->() : '') : 'not installed: ' . join(' ', @need);
	system('cp', @{$r->{copy}}, $r->{dir}) if $r->{copy} && !$reason;
	for my $m (monitors()) {
		SKIP: {
			if ($reason) {
				record($n, $m, 'skipped', $reason =~ s/\s+/ /gr);
				skip("$m $n: $reason", 1);
			}
			my @opt = ('--monitor', $m, '-m', '1G');
			push @opt, '-v', scratch() . ':/data' if $r->{volume};
			my $ok;
			if ($r->{out}) {
				my ($st, $out, $err) = run_out({in => $r->{in}, dir => $r->{dir} // "$tmp/www", timeout => 60}, $COWBELL, 'run', @opt, '--', @{$r->{cmd}});
				$ok = ok($st == ($r->{status} // 0) && $out =~ $r->{out}, "$m $n")
				    || diag("status $st\nout: $out\nerr: " . substr($err, -2000)) && 0;
			} else {
				my $port = free_port();
				my $g = start_guest({dir => $r->{dir}}, $COWBELL, 'run', @opt, '-p', "127.0.0.1:$port:" . ($r->{guest_port} // 8080), '--', @{$r->{cmd}});
				my $base = ($r->{scheme} // 'http') . "://127.0.0.1:$port";
				$ok = 1;
				my $why = '';
				wait_http($g, $base . $r->{get}[0][0], 30, @{$r->{curl} // []});
				for my $q (@{$r->{get}}) {
					my ($code, $body) = http($base . $q->[0], @{$r->{curl} // []});
					next if $code eq '200' && $body =~ $q->[1];
					$ok = 0;
					$why .= "GET $q->[0]: $code $body\n";
				}
				for (1 .. ($ok ? $r->{many} // 3 : 0)) {
					my ($code) = http($base . $r->{get}[0][0], @{$r->{curl} // []});
					$code eq '200' or $ok = 0, $why .= "repeated request: $code\n", last;
				}
				my $st = stop_guest($g);
				$st ne 'stuck' or $ok = 0, $why .= "did not end on SIGTERM\n";
				ok($ok, "$m $n") or diag($why, 'status ', $st, "\nerr: ", substr(slurp($g->{err}), -2000));
			}
			record($n, $m, $ok ? 'ok' : 'FAILED');
		}
	}
}
if (!%only) {
	mkdir "$TOP/build";
	mkdir "$TOP/build/results";
	spew("$TOP/build/results/languages.tsv", join("\n", @rows) . "\n");
}
done_testing();
