#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# cowbell build for Node and for compiled languages: each small app is built once, in the sandbox, and its image runs under every
# monitor. Two cold builds of the same sources in other places give the same image.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Digest::SHA;
use File::Temp ();
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(time);

plan skip_all => 'bubblewrap is not installed' unless -x '/usr/bin/bwrap';
my $apps = "$TOP/tests/apps";
my $tmp = scratch();
my %only = map { $_ => 1 } split /,/, $ENV{COWBELL_LANG} // '';
$ENV{XDG_DATA_HOME} = "$tmp/data";
$ENV{XDG_CACHE_HOME} = "$tmp/cache";

sub app {
	my ($name, %files) = @_;
	my $dir = "$tmp/$name";
	for my $f (keys %files) {
		my $path = "$dir/$f";
		system('mkdir', '-p', $path =~ s{/[^/]*$}{}r);
		spew($path, ref $files{$f} ? slurp(${$files{$f}}) : $files{$f});
	}
	return $dir;
}

# (status, everything it said, digest)
sub build {
	my ($dir, $tag, %o) = @_;
	local $ENV{XDG_DATA_HOME} = $o{data} // $ENV{XDG_DATA_HOME};
	my ($st, $out, $err) = run_out({timeout => 150}, $COWBELL, 'build', $dir, '-t', $tag, @{$o{more} // []});
	my ($digest) = $out =~ /(sha256:[0-9a-f]{64})/;
	return ($st, "$out$err", $digest // '');
}

# --- sources -----------------------------------------------------------------------------------------------
my $c = '#include <stdio.h>
#include <zlib.h>
int main(void) { printf("hello from c, zlib %d\n", zlibVersion()[0] == ZLIB_VERSION[0]); return 7; }
';
my $c_plain = "#include <stdio.h>\nint main(void) { puts(\"hello from c\"); return 7; }\n";
my $vendored_go = {
	'go.mod' => "module example.com/greet/v2\n\ngo 1.18\n\nrequire example.com/words v1.0.0\n",
	'main.go' => "package main\n\nimport \"example.com/words\"\n\nfunc main() { println(words.Hello()) }\n",
	'vendor/modules.txt' => "# example.com/words v1.0.0\n## explicit\nexample.com/words\n",
	'vendor/example.com/words/w.go' => "package words\n\nfunc Hello() string { return \"hello from a vendored module\" }\n",
};
my $vendored_rust = {
	'Cargo.toml' => "[package]\nname = \"greet\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nwords = \"1\"\n",
	'src/main.rs' => "fn main() { println!(\"{}\", words::hello()); }\n",
	'vendor/words/Cargo.toml' => "[package]\nname = \"words\"\nversion = \"1.0.0\"\nedition = \"2021\"\n",
	'vendor/words/src/lib.rs' => "pub fn hello() -> &'static str { \"hello from a vendored crate\" }\n",
	'vendor/words/.cargo-checksum.json' => '{"files":{}}',
};
my $cabal = {
	'greet.cabal' => "cabal-version: 1.12\nname: greet\nversion: 0.1\nbuild-type: Simple\n\nexecutable greet\n  main-is: Main.hs\n"
	    . "  hs-source-dirs: app\n  build-depends: base, containers\n  default-language: Haskell2010\n",
	'app/Main.hs' => "import qualified Data.Map as M\nmain = putStrLn (\"hello from cabal \" ++ show (M.size (M.fromList [(1, 2), (3, 4)])))\n",
};
my $node_build = {
	'package.json' => encode_json({name => 'steps', version => '1.0.0', engines => {node => '>=16'},
		scripts => {build => 'node make.js', postinstall => 'node -e "require(\'fs\').writeFileSync(\'installed.txt\', \'yes\')"', start => 'node app.js one "two words"'}}),
	'make.js' => "require('fs').writeFileSync('made.txt', 'made by the build script')\n",
	'app.js' => "const fs = require('fs'); console.log(fs.readFileSync('made.txt', 'utf8'), fs.readFileSync('installed.txt', 'utf8'), process.env.NODE_ENV, process.argv.slice(2).join('|'))\n",
};

# name, tools, files; get => a web app's answer, out => what it prints. again: a second cold build must give the same image
my @table = (
	{name => 'C', need => ['gcc', 'make'], files => {'hello.c' => $c_plain, Makefile => "hello: hello.c\n\tgcc -O2 -o \$@ \$<\n"}, out => qr/^hello from c$/m, status => 7, again => 1},
	{name => 'C with a library', need => ['gcc', 'make', '/usr/include/zlib.h'], files => {'z.c' => $c, 'static/x.txt' => 'asset', Makefile => "all: z\nz: z.c\n\tgcc -o \$@ \$< -lz\n"},
	 out => qr/^hello from c, zlib 1$/m, status => 7, says => qr/zlib1g/},
	{name => 'C with a Procfile', need => ['gcc', 'make'], out => qr/^web one two from data\.txt$/m, again => 1,
	 files => {Procfile => "web: ./web one two data.txt\nworker: bin/worker\n", 'data.txt' => "from data.txt\n", 'm.c' =>
		'#include <stdio.h>' . "\nint main(int c, char **v) { char b[99] = \"\"; FILE *f = fopen(v[3], \"r\"); fgets(b, 99, f); printf(\"%s %s %s %s\", NAME, v[1], v[2], b); }\n",
		Makefile => "all:\n\tgcc -w -DNAME='\"web\"' -o web m.c\n\tmkdir -p bin\n\tgcc -w -DNAME='\"worker\"' -o bin/worker m.c\n"}},
	{name => 'Go', need => ['go'], files => {'main.go' => \"$apps/go/main.go", 'go.mod' => "module example.com/hello\n\ngo 1.18\n"}, get => ['/g', qr{^hello from go /g$}], again => 1},
	{name => 'Go with vendored modules', need => ['go'], files => $vendored_go, err => qr/^hello from a vendored module$/m},
	{name => 'Rust', need => ['cargo'], files => {'src/main.rs' => \"$apps/rust/main.rs", 'Cargo.toml' => "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"},
	 get => ['/u', qr{^hello from rust /u$}], again => 1},
	{name => 'Rust with vendored crates', need => ['cargo'], files => $vendored_rust, out => qr/^hello from a vendored crate$/m},
	{name => 'OCaml', need => ['dune', 'ocamlopt'], files => {'main.ml' => \"$apps/ocaml/main.ml", dune => "(executable (name main) (libraries unix threads.posix))\n", 'dune-project' => "(lang dune 2.0)\n"},
	 get => ['/o', qr{^hello from ocaml /o$}]},
	{name => 'Haskell', need => ['ghc'], files => {'Main.hs' => \"$apps/haskell/Main.hs"}, get => ['/h', qr{^hello from haskell /h$}]},
	{name => 'Haskell with cabal', need => ['ghc'], files => $cabal, out => qr/^hello from cabal 2$/m},
	{name => 'Node', need => ['node', 'npm'], files => {'server.js' => \"$apps/node/server.js", 'package.json' => '{"name":"plain","version":"1.0.0","scripts":{"start":"node server.js"}}'},
	 get => ['/n', qr{^hello from node /n$}]},
	{name => 'Node with scripts', need => ['node', 'npm'], files => $node_build, out => qr/^made by the build script yes production one\|two words$/m},
	{name => 'Node with a Procfile', need => ['node', 'npm'], out => qr/^semver 1$/m, says => qr/'npm run report' is run as 'node report\.js 1'/,
	 files => {Procfile => "web: npm run report\n", 'report.js' => "console.log('semver', process.argv[2])\n",
		'package.json' => '{"name":"p","version":"1.0.0","scripts":{"report":"node report.js 1"}}'}},
	{name => 'Node Express with a lock file', need => ['node', 'npm'], prep => \&express, get => ['/bob', qr/^\{"hello":"bob"\}$/], says => qr/npm ci/},
);

# The registry is asked for the lock file; where it cannot be reached, that is the reason to skip.
sub express {
	my $dir = app('express', map { $_ => \"$apps/express/$_" } qw(package.json server.js));
	my ($st, $out, $err) = run_out({timeout => 60, dir => $dir}, qw(npm install --package-lock-only --no-audit --no-fund --loglevel=error));
	return $st ? "no lock file without the registry: " . substr("$out$err", 0, 200) =~ s/\s+/ /gr : '';
}

sub run_image {
	my ($r, $m, $tag) = @_;
	my @run = ($COWBELL, 'run', '--monitor', $m, '-m', '512M');
	if (!$r->{get}) {
		my ($st, $out, $err) = run_out({timeout => 60}, @run, "image:$tag");
		return ok($st == ($r->{status} // 0) && ($r->{out} ? $out =~ $r->{out} : $err =~ $r->{err}), "$m: $r->{name} runs") || diag "status $st\n$out$err";
	}
	my $port = free_port();
	my $g = start_guest({}, @run, '-p', "127.0.0.1:$port:8080", "image:$tag");
	wait_http($g, "http://127.0.0.1:$port$r->{get}[0]", 30);
	my ($code, $body) = http("http://127.0.0.1:$port$r->{get}[0]");
	my $st = stop_guest($g);
	ok($code == 200 && $body =~ $r->{get}[1] && $st ne 'stuck', "$m: $r->{name} answers") || diag "$code $body, status $st\n" . slurp($g->{err});
}

my $n = 0;
for my $r (@table) {
	my $name = $r->{name};
	next if %only && !$only{$name};
	my ($tag, $dir) = ('lang' . ++$n, "$tmp/a$n");
	SKIP: {
		my $missing = join ' ', grep { m{^/} ? !-e $_ : !have($_) } @{$r->{need}};
		my $reason = $missing ? "not installed: $missing" : $r->{prep} ? $r->{prep}->() : '';
		skip "$name: $reason", 2 if $reason;
		$dir = $r->{prep} ? "$tmp/express" : app("a$n", %{$r->{files}});
		my ($st, $said, $digest) = build($dir, $tag);
		ok($st == 0 && $said =~ ($r->{says} // qr/-----> /), "$name is built") or diag "status $st\n$said";
		skip "$name: not built", 1 if $st;
		run_image($r, $_, $tag) for monitors();
		my $t = time;
		my ($st2, $said2, $digest2) = build($dir, $tag);
		my $took = time - $t;
		is($digest2, $digest, "$name: built again, it is the same image");
		cmp_ok($took, '<', 1, sprintf "$name: in %.0f ms", $took * 1000);
		next unless $r->{again};
		my $other = app("elsewhere/$name", %{$r->{files}});
		my ($st3, $said3, $digest3) = build($other, $tag, data => "$tmp/data2");
		is($digest3, $digest, "$name: a cold build in another directory gives the same bytes") or diag $said3;
	}
}

# --- a registry of one's own, with a token in ~/.npmrc -------------------------------------------------------
# Serves one package to who shows the token; notes every request line.
sub registry {
	my ($token, $log) = @_;
	my $d = "$tmp/registry/package";
	system('mkdir', '-p', $d);
	spew("$d/package.json", '{"name":"words","version":"1.0.0","main":"i.js","scripts":{"install":"node -e \\"require(\'fs\').writeFileSync(\'ran.txt\',\'script ran\')\\""}}');
	spew("$d/i.js", "module.exports = 'words from a private registry, ' + require('fs').readFileSync(__dirname + '/ran.txt');\n");
	system('tar', '-C', "$tmp/registry", '-czf', "$tmp/registry/w.tgz", 'package');
	my $tgz = slurp("$tmp/registry/w.tgz");
	my $l = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die "listen: $!";
	my $base = '127.0.0.1:' . $l->sockport;
	my $meta = encode_json({name => 'words', 'dist-tags' => {latest => '1.0.0'}, versions => {'1.0.0' => {name => 'words', version => '1.0.0', hasInstallScript => JSON::PP::true,
		dist => {tarball => "http://$base/words/-/words-1.0.0.tgz", integrity => 'sha512-' . Digest::SHA::sha512_base64($tgz) . '=='}}}});
	my $pid = fork // die;
	return ($pid, $base) if $pid;
	while (my $c = $l->accept) {
		my $head = '';
		while (my $line = <$c>) {
			$head .= $line;
			last if $line =~ /^\r?$/;
		}
		open(my $f, '>>', $log);
		print $f $head;
		close $f;
		my ($path) = $head =~ m{^GET (\S+)};
		my $body = $head !~ /^authorization: Bearer \Q$token\E\r?$/mi ? '' : $path eq '/words' ? $meta : $path =~ /tgz$/ ? $tgz : '';
		print $c 'HTTP/1.1 ' . (length $body ? '200 OK' : '401 Unauthorized') . "\r\nContent-Length: " . length($body) . "\r\nConnection: close\r\n\r\n$body";
		close $c;
	}
	POSIX::_exit(0);
}

SKIP: {
	last if %only && !$only{registry};
	skip 'node and npm are not installed', 4 unless have('node', 'npm');
	my $token = 'TOKEN' . int rand 1e12;
	my ($pid, $base) = registry($token, "$tmp/registry.log");
	mkdir "$tmp/home";
	spew("$tmp/home/.npmrc", "registry=http://$base/\n//$base/:_authToken=\${MY_NPM_TOKEN}\n");
	local $ENV{MY_NPM_TOKEN} = $token;
	local $ENV{HOME} = "$tmp/home";
	delete local @ENV{grep { /^npm_config/i } keys %ENV};
	my $leak = '/x-\${npm_config_//' . $base . '/:_authToken}-\${MY_NPM_TOKEN}-\${HOME}';
	my %files = ('package.json' => '{"name":"private","version":"1.0.0","dependencies":{"words":"^1.0.0"},"scripts":{"start":"node app.js"}}', 'app.js' => "console.log(require('words'))\n");
	my ($st, $said) = build(app('private', %files), 'private');
	is($st, 0, 'a private registry of the user\'s ~/.npmrc is used') or diag $said, slurp("$tmp/registry.log");
	my (undef, $out) = run_out({timeout => 60}, $COWBELL, 'run', '--monitor', (monitors())[0], 'image:private');
	is($out, "words from a private registry, script ran\n", 'its package is in the image, and its install script ran');
	spew("$tmp/registry.log", '');
	build(app('thief', %files, '.npmrc' => "\@words:registry=http://$base$leak/\nregistry=http://$base$leak/\n"), 'thief');
	my $log = slurp("$tmp/registry.log");
	ok($log =~ m{^GET /x-}m && $log !~ /^GET \S*(\Q$token\E|\Q$tmp\E)/m, 'an app\'s .npmrc cannot send the token elsewhere') or diag $log;
	ok(system('grep', '-rqaF', $token, "$tmp/data") != 0, 'the token is not in the store');
	kill 'KILL', $pid;
	waitpid $pid, 0;
}

# --- an app on another file system than the store ----------------------------------------------------------
SKIP: {
	my ($here, $there) = map { (stat $_)[0] } $tmp, '/dev/shm';
	skip 'an app on another file system: no such one, or no gcc and make', 1 if %only || !have(qw(gcc make)) || !-w '/dev/shm' || !defined $there || $here == $there;
	my $dir = File::Temp::tempdir('cowbell-test-XXXXXX', DIR => '/dev/shm', CLEANUP => 1);
	spew("$dir/x.c", $c_plain);
	spew("$dir/Makefile", "x: x.c\n\tgcc -o x x.c\n");
	my ($st, $said) = build($dir, 'elsewhere');
	is($st, 0, 'an app on another file system than the store') or diag $said;
}

# --- a command of several lines --------------------------------------------------------------------------------
SKIP: {
	skip 'a command of several lines: no node and npm', 2 if %only || !have(qw(node npm));
	my $dir = app('lines', 'package.json' => '{"name":"x","scripts":{"build":"true","start":"node a.js\\np python3-flask"}}', 'a.js' => '');
	my ($st, $said, $digest) = build($dir, 'lines');
	is($st, 0, 'a command of several lines') or diag $said;
	is((build($dir, 'lines'))[2], $digest, 'is the same when it is built again');
}

# --- what goes wrong says so --------------------------------------------------------------------------------
my @wrong = (
	['a compile error', ['gcc', 'make'], {'x.c' => "int main(void) { return nonsense; }\n", Makefile => "x: x.c\n\tgcc -o x x.c\n"}, qr/nonsense.* !     make failed with status 2/s],
	['two programs', ['gcc', 'make'], {'x.c' => $c_plain, Makefile => "all:\n\tgcc -o one x.c\n\tgcc -o two x.c\n"}, qr/several programs.*web: \.\/one.*web: \.\/two/s],
	['no program', ['make'], {Makefile => "all:\n\ttrue\n"}, qr/made no program/],
	['modules that are not there', ['go'], {'go.mod' => $vendored_go->{'go.mod'}, 'main.go' => $vendored_go->{'main.go'}}, qr/go mod vendor.* !     go failed/s],
	['another node', ['node'], {'package.json' => '{"name":"x","engines":{"node":"4.x"}}', 'server.js' => ''}, qr/wants node 4\.x, but the runtime is node/],
	['a failing script', ['node', 'npm'], {'package.json' => '{"name":"x","scripts":{"build":"exit 3"}}', 'server.js' => ''}, qr/ !     npm failed with status 3/],
	['package.json that is none', ['node'], {'package.json' => '{"name":'}, qr/package\.json, line 1: not JSON/],
);
for my $w (@wrong) {
	my ($name, $need, $files, $want) = @$w;
	next if %only;
	SKIP: {
		skip "$name: not installed: @$need", 1 unless have(@$need);
		my ($st, $said) = build(app('wrong' . ++$n, %$files), "wrong$n");
		ok($st == 125 && $said =~ $want, "$name: a clear failure") or diag "status $st\n$said";
	}
}
done_testing();
