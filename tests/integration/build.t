#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# cowbell build: what is detected, what is said, what is in the image, that the same app gives the same image, and
# that the images run. Languages that compile, and npm: build_langs.t.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Path qw(make_path remove_tree);
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $tmp = scratch();
$ENV{XDG_DATA_HOME} = "$tmp/data";
$ENV{XDG_CACHE_HOME} = "$tmp/cache";
plan skip_all => 'not a Debian machine' unless -e '/var/lib/dpkg/status';

# An app's directory from a hash of path => contents.
my $n_apps = 0;
sub app {
	my (%files) = @_;
	my $d = "$tmp/apps/" . (delete $files{_name} // 'app' . ++$n_apps);
	make_path($d);
	while (my ($path, $text) = each %files) {
		make_path("$d/$1") if $path =~ m{^(.*)/};
		spew("$d/$path", $text);
	}
	return $d;
}

sub build { return run_out({timeout => 120}, $COWBELL, 'build', @_) }

# The last object of --json, which is the image.
sub build_json {
	my ($st, $out, $err) = build('--json', @_);
	my @lines = split /\n/, $out;
	my $o = @lines ? eval { decode_json($lines[-1]) } : undef;
	diag("status $st: $out$err") unless $o && $o->{event} eq 'image';
	return $o // {};
}

# Paths in the app layer of an image (below /), by fsck.erofs' or dump's stead: the guest's own view is asked where it matters.
sub layer_file {
	my ($o) = @_;
	my ($hex) = $o->{layers}[-1]{digest} =~ /^sha256:(.*)/ or return '';
	return "$tmp/data/cowbell/blobs/sha256/$hex";
}

sub layer_has {
	my ($o, $name) = @_;
	return index(slurp(layer_file($o)), $name) >= 0;
}

# --- detection: what an app is, and its default command ------------------------------------------------------------------
my $py = "print('hello')\n";
my @rows = (
	['requirements.txt', {'requirements.txt' => "# none\n", 'app.py' => $py}, 'Python', 'python3 app.py'],
	['pyproject.toml', {'pyproject.toml' => "[project]\nname = \"x\"\ndependencies = []\n", 'main.py' => $py}, 'Python', 'python3 main.py'],
	['Pipfile', {Pipfile => "[[source]]\nurl = \"x\"\n[packages]\n", 'app.py' => $py}, 'Python', 'python3 app.py'],
	['a single app.py', {'app.py' => $py}, 'Python', 'python3 app.py'],
	['Django', {'manage.py' => $py, 'vendor/django/__init__.py' => ''}, 'Python', 'python3 manage.py runserver 0.0.0.0:$PORT --noreload'],
	['a Flask app that does not run itself', {'app.py' => "from flask import Flask\napp = Flask(__name__)\n", Aptfile => "python3-flask\n"},
		'Python', 'python3 -m flask --app app run --host 0.0.0.0 --port $PORT'],
	['config.ru', {'config.ru' => "run 1\n"}, 'Ruby', 'rackup config.ru -E production -o 0.0.0.0 -p $PORT'],
	['Gemfile', {Gemfile => "source 'x'\ngem 'webrick'\n", 'app.rb' => "1\n"}, 'Ruby', 'ruby app.rb'],
	['index.php', {'index.php' => '<?php echo 1;'}, 'PHP', 'php -S 0.0.0.0:$PORT -t .'],
	['public/index.php', {'composer.json' => '{"require":{"php":">=8","ext-json":"*"}}', 'public/index.php' => ''}, 'PHP', 'php -S 0.0.0.0:$PORT -t public'],
	['app.psgi', {'app.psgi' => "1;\n"}, 'Perl', 'plackup -E deployment -o 0.0.0.0 -p $PORT app.psgi'],
	['cpanfile', {cpanfile => "requires 'HTTP::Tiny';\non test => sub { requires 'Nope'; };\n", 'app.pl' => "1;\n"}, 'Perl', 'perl app.pl'],
	['main.lua', {'main.lua' => "print(1)\n"}, 'Lua', 'lua main.lua'],
	['index.html', {'index.html' => 'x'}, 'Static', 'nginx -e stderr -c /etc/cowbell/nginx.conf'],
	['Staticfile before all', {Staticfile => "root: www\npushstate: enabled\n", 'www/index.html' => 'x', 'package.json' => '{}'}, 'Static',
		'nginx -e stderr -c /etc/cowbell/nginx.conf'],
	['package.json', {'package.json' => '{"scripts":{"start":"node x.js"}}', 'x.js' => ''}, 'Node.js', 'node x.js'],
	['server.js', {'package.json' => '{}', 'server.js' => ''}, 'Node.js', 'node server.js'],
	['the Procfile over app.py', {Procfile => "web: python3 other.py --x\nworker: python3 w.py\n", 'app.py' => $py}, 'Python', 'python3 other.py --x'],
	['the command of the Procfile', {Procfile => "bot: python3 bot.py\n", 'bot.py' => $py}, 'Python', undef],
	['Ruby before Node and Python', {Gemfile => '', 'app.rb' => '', 'package.json' => '{}', 'requirements.txt' => ''}, 'Ruby', 'ruby app.rb'],
	['the language that the command is in', {Procfile => "web: python3 main.py\n", 'requirements.txt' => '', 'main.py' => $py, 'package.json' => '{}', Gemfile => ''}, 'Python', 'python3 main.py'],
	['cowbell.toml over files', {'cowbell.toml' => "[build]\nlanguage = \"python\"\n", 'index.html' => '', 'main.py' => $py, 'package.json' => '{}'}, 'Python', 'python3 main.py'],
);
my %apps;
for my $r (@rows) {
	my ($what, $files, $language, $web) = @$r;
	next if $language eq 'Node.js' && !have('node');
	my $d = app(%$files);
	my $o = build_json($d);
	is($o->{language}, $language, "detected: $what");
	is($o->{processes}{web}, $web, "  its web process");
}

# --- what is said ----------------------------------------------------------------------------------------------------------
my $hello = app(_name => 'My_Shop 2', 'app.py' => $py, 'requirements.txt' => '');
my ($st, $out, $err) = build($hello);
is($st, 0, 'build');
like($out, qr/^-----> Python app detected \(requirements.txt\)\n-----> Runtime: python3 /, 'Heroku\'s manner');
like($out, qr/\n-----> Image my_shop-2:latest \(.*MiB\)\n       sha256:[0-9a-f]{64}\n       cowbell run -p 8080:8080 image:my_shop-2\n\z/, 'name, digest, size, how to run it');
is($err, '', 'nothing on standard error');
my $o = build_json($hello, '-t', 'x/y:1');
is($o->{name}, 'x/y:1', '--json: name');
like($o->{digest}, qr/^sha256:[0-9a-f]{64}$/, '--json: digest');
is($o->{ports}[0], '8080/tcp', 'port of a web process');
ok((grep { $_ eq 'PORT=8080' } @{$o->{env}}) && (grep { $_ eq 'HOME=/app' } @{$o->{env}}), 'PORT and HOME');
($st, $out) = build('--json', $hello);
ok(!(grep { !eval { decode_json($_)->{event} } } split /\n/, $out), '--json: every line is an object');
($st, $out) = run_out({dir => $hello}, $COWBELL, 'build');
is($st, 0, 'the current directory without an argument');

# --- packages that the runtime has
($st, $out) = build(app('app.py' => $py, Aptfile => "python3\n"));
ok($st == 0 && $out =~ /^-----> Packages: the runtime has them all\n       python3\n/m, 'packages that the runtime has') or diag $out;
is(scalar @{build_json(app('app.py' => $py, Aptfile => "python3\n"))->{layers}}, 2, 'make no layer');

# --- failures: a phrase of what is said; the old image stays -----------------------------------------------------------------
my ($refs_before) = (run_out({}, $COWBELL, 'images'))[1];
my @failures = (
	['nothing there', {}, qr/No app was found in .*Looked for:.*Ruby +Gemfile.*Static +Staticfile; or index.html/s],
	['requirements that are nowhere', {'requirements.txt' => "Flask==2\nno_such.thing>=1 # x\n-r more.txt\n", 'more.txt' => "another[x]; python_version >= '3'\nwinthing; sys_platform == 'win32'\n", 'app.py' => ''},
		qr/ !     requirements.txt names Flask: vendor it \(pip install -t vendor Flask\) or add python3-flask to Aptfile\n !     requirements.txt names no_such.thing: .* !     more.txt names another: [^\n]*\n\z/s],
	['a file that includes itself', {'requirements.txt' => "-r requirements.txt\n" x 1000 . "nosuchthing\n", 'app.py' => ''}, qr/names nosuchthing/],
	['a gem', {Gemfile => "gem 'nosuchgem', '1'\ngroup :test do\n gem 'rspec'\nend\n", 'app.rb' => ''}, qr/Gemfile names nosuchgem: .*add ruby-nosuchgem to Aptfile\n\z/],
	['a PHP library', {'composer.json' => '{"require":{"a/b":"1","ext-nosuch":"*"}}', 'index.php' => ''}, qr/names a\/b: vendor it.*names ext-nosuch: add php-nosuch to Aptfile/s],
	['a Perl module', {cpanfile => "requires 'No::Such';\n", 'app.pl' => ''}, qr/cpanfile names No::Such: .*libno-such-perl/],
	['no command', {'requirements.txt' => ''}, qr/nothing says what to run.*Procfile/s],
	['a program that no package has', {Procfile => "web: gunicorn app\n", 'app.py' => ''}, qr/Process web runs 'gunicorn', which no package of the image has/],
	['a bad Procfile', {Procfile => "# x\nweb python3\n", 'app.py' => ''}, qr/Procfile, line 2: not TYPE: COMMAND/],
	['an empty Procfile', {Procfile => "\n", 'app.py' => ''}, qr/Procfile names no process/],
	['bad app.json', {'app.json' => "{\n,}", 'app.py' => ''}, qr/app.json, line 2: not JSON/],
	['bad cowbell.toml', {'cowbell.toml' => "name = \"x\"\n[build\n", 'app.py' => ''}, qr/cowbell.toml, line 2: a table's name that does not end/],
	['an unknown key', {'cowbell.toml' => "[build]\npackage = []\n", 'app.py' => ''}, qr/cowbell.toml, line 2: not known in \[build\]; there are/],
	['a wrong type', {'cowbell.toml' => "\nports = 8080\n", 'app.py' => ''}, qr/cowbell.toml, line 2: ports must be a list/],
	['an unknown language', {'cowbell.toml' => "[build]\nlanguage = \"cobol\"\n", 'app.py' => ''}, qr/"cobol" is none of those known/],
	['a URL in Aptfile', {Aptfile => "# x\nhttp://x/y.deb\n", 'app.py' => ''}, qr/Aptfile, line 2: .*URLs are not taken/],
	['a repository in Aptfile', {Aptfile => ":repo:deb http://x\n", 'app.py' => ''}, qr/Aptfile, line 1: .*not taken/],
	['too many packages', {Aptfile => join("\n", map { "p$_" } 1 .. 501), 'app.py' => ''}, qr/Aptfile, line 501: more than 500 packages/],
	['a bad package name', {Aptfile => "../etc\n", 'app.py' => ''}, qr/Aptfile, line 1: '..\/etc' is no name of a Debian package/],
	['pom.xml alone', {'pom.xml' => ''}, qr/No jar with a Main-Class/],
);
for my $f (@failures) {
	my ($what, $files, $want) = @$f;
	my ($s, undef, $e) = build(app(%$files), '-t', 'x/y:1');
	is($s, 125, "fails: $what");
	like($e, $want, '  and says why');
	ok(!(grep { !/^ !     / } split /\n/, $e), '  as Heroku does') or diag($e);
}
($st, $out) = build('--json', app(Procfile => "bad\n"));
is(decode_json((split /\n/, $out)[-1])->{event}, 'error', '--json: a failure is an object');
is((run_out({}, $COWBELL, 'images'))[1], $refs_before, 'the images are as they were');
for my $bad (['-t', 'UPPER'], ['-t', 'a b'], ['--timeout', 'x'], ['--max-size', 'x'], ['--max-size', '1G:3'], ['--max-entries', '3x'], ['--env', '1=2'], ['--nosuch'], ['/nonexistent'], ['/etc/passwd'], ['--from', 'oci:x'], ['.', '.']) {
	($st, undef, $err) = build(@$bad);
	is($st, 125, "refused: @$bad");
}

# --- the same app, the same image ----------------------------------------------------------------------------------------------
my %five = ('app.py' => $py, 'a/b.py' => 'b', 'a/c.py' => 'c', 'z.txt' => 'z', '.slugignore' => "*.psd\n");
my $d1 = app(%five);
my $d2 = "$tmp/else where";
system('cp', '-r', $d1, $d2);
system("cd '$d2' && mv z.txt y && cp y z.txt && rm y && chmod -R go-rwx . && touch -d '2001-01-01' z.txt a && mkdir -p a/x && rmdir a/x");
my $one = build_json($d1, '-t', 'same')->{digest};
is(build_json($d2, '-t', 'other')->{digest}, $one, 'another place, other times, umask and order: the same digest');
{
	local $ENV{XDG_DATA_HOME} = "$tmp/data2";
	local $ENV{LC_ALL} = 'tr_TR.UTF-8';
	local $ENV{TZ} = 'Asia/Tokyo';
	is(build_json($d1)->{digest}, $one, 'another store, locale and time zone: the same digest');
	remove_tree("$tmp/data2");
}
spew("$d1/a/b.py", 'd');
isnt(build_json($d1, '-t', 'same')->{digest}, $one, 'another byte: another digest');
my $best = 9;
for (1 .. 5) {
	my $t = time;
	build($d1);
	$best = time - $t if time - $t < $best;
}
ok($best < 0.15, sprintf('a 5-file Python app in %.0f ms', $best * 1000));

# --- what is in the image ----------------------------------------------------------------------------------------------------------
my $in = app(
	'app.py' => $py, '.git/config' => 'gitsecret', 'sub/.git/x' => 'gitsecret', '.env' => 'envsecret', '.env.local' => 'envsecret', '.env.example' => 'envexample',
	'pic.psd' => 'psdbytes', 'docs/a.md' => 'docsbytes', 'keep/docs/a.md' => 'keptdocs', 'log/x.log' => 'logbytes', 'log/important.log' => 'importantlog',
	'__pycache__/a.pyc' => 'pycbytes', '.slugignore' => "# comment\n*.psd\n/docs\n", '.dockerignore' => "log/*\n!log/important.log\n");
($st, $out) = build($in);
like($out, qr/2 \.env files left out/, '.env is said to stay out');
$o = build_json($in);
ok(!layer_has($o, $_), "not in the image: $_") for qw(gitsecret envsecret psdbytes docsbytes logbytes pycbytes);
ok(layer_has($o, $_), "in the image: $_") for qw(envexample keptdocs importantlog);
ok(-s layer_file($o) <= 16384, 'a small app takes little');

$o = build_json(app(
	'app.py' => $py, Procfile => "web: python3 app.py\nrelease: python3 app.py --migrate\n",
	'app.json' => '{"name":"Shop","description":"Sells","env":{"A":"one","B":{"value":"two"},"NEEDED":{"required":true},"C":{"required":false}},"formation":{"web":{"quantity":2}}}',
	'cowbell.toml' => "ports = [9000, \"53/udp\"]\n[build]\nexclude = [\"*.psd\"]\n[env]\nB = \"toml\"\nD = \"x=y\"\n[processes]\nweb = \"not this\"\ntask = \"python3 task.py\"\n"),
	'--env', 'D=option');
my %env = map { split /=/, $_, 2 } @{$o->{env}};
is("$env{A} $env{B} $env{D}", 'one toml option', 'environment: app.json, cowbell.toml, --env');
is_deeply($o->{ports}, ['9000/tcp', '53/udp'], 'ports of cowbell.toml');
is_deeply($o->{processes}, {web => 'python3 app.py', release => 'python3 app.py --migrate', task => 'python3 task.py'}, 'process types: the Procfile wins');
$o = build_json(app('app.py' => 'takenapp', 'data/x' => 'takendata', 'other.py' => 'otherbytes', 'cowbell.toml' => "[build]\ninclude = [\"app.py\", \"data\"]\n"));
ok(layer_has($o, 'takenapp') && layer_has($o, 'takendata') && !layer_has($o, 'otherbytes'), 'include: only that');

# --- large and hostile directories ---------------------------------------------------------------------------------------------------
my $thousand = app('app.py' => $py, map { ("d" . $_ % 10 . "/f$_.txt" => "file $_") } 1 .. 1000);
sleep 1; # so that the tree is settled enough to be remembered
my $first = build_json($thousand);
is($first->{files}, 1001, 'a thousand files');
my $t = time;
is(build_json($thousand)->{digest}, $first->{digest}, 'the second build: the same digest');
ok(time - $t < 0.3, sprintf('  in %.0f ms', (time - $t) * 1000));

my $hostile = app('app.py' => $py, "new\nline" => 'x', "\e[2Jescape" => 'x');
symlink('/etc/shadow', "$hostile/out");
symlink('../../..', "$hostile/up");
symlink('loop', "$hostile/loop");
system('mkfifo', "$hostile/fifo");
($st, $out, $err) = build($hostile);
is($st, 0, 'links out, a FIFO and odd names') or diag($err);
unlike("$out$err", qr/\e/, '  no escape reaches the terminal');
ok(!layer_has(build_json($hostile), 'root:'), '  nothing of the host\'s is followed');
my $links = app('app.py' => $py);
symlink('/etc/passwd', "$links/Procfile");
symlink('/etc/passwd', "$links/app.json");
($st, $out, $err) = build($links);
unlike("$out$err", qr/root/, 'Procfile as a link out of the tree: not read');
my $big = app('app.py' => $py);
open(my $f, '>', "$big/sparse") or die;
truncate($f, 1 << 40);
close $f;
($st, undef, $err) = build($big);
like($err, qr/too large for an image: more than 1024 MiB/, 'a terabyte without a block: refused');
($st, undef, $err) = build('--max-entries', '3', app(map { ("f$_.py" => '') } 1 .. 5), '-t', 'few');
is($st, 125, '--max-entries: too many files');

# --- interrupted and concurrent builds ------------------------------------------------------------------------------------------------------
my $k = app('app.py' => $py);
build($k, '-t', 'killed');
for my $i (1 .. 25) {
	spew("$k/app.py", "print($i)\n" x 2000);
	my $g = start_guest({}, $COWBELL, 'build', $k, '-t', 'killed');
	select undef, undef, undef, rand 0.02;
	stop_guest($g, 'KILL');
}
($st, $out, $err) = run_out({}, $COWBELL, 'inspect', 'killed');
is($st, 0, 'kill -9 at any time: the name leads to a whole image') or diag("$out$err");
is((run_out({}, $COWBELL, 'prune'))[0], 0, '  prune');
opendir(my $left, "$tmp/data/cowbell/tmp");
is(scalar(grep { !/^\.\.?$/ } $left ? readdir $left : ()), 0, '  leaves nothing');
my $whole = build_json($k, '-t', 'killed')->{digest};
($st, $out) = run_out({timeout => 20}, $COWBELL, 'run', 'image:killed');
is($out, "25\n" x 2000, '  and the next build is whole');
if (have('make', 'gcc', 'bwrap')) {
	my $c = app('main.c' => "int main(void) { return 7; }\n", Makefile => "prog: main.c\n\tsleep 0.5; \$(CC) -o \$@ \$<\n");
	my @g = map { start_guest({}, $COWBELL, 'build', '--json', $c, '-t', 'four') } 1 .. 4;
	my (%digest, $compiled);
	for my $g (@g) {
		is(stop_guest($g, 0, 60), 0, 'one of four builds of the same at the same time');
		my $text = slurp($g->{out});
		$digest{$1}++ if $text =~ /"digest":"(sha256:[0-9a-f]{64})"[^\n]*\n\z/;
		$compiled++ if $text =~ /Nothing changed|sleep/ && $text =~ /"output"/;
	}
	is(scalar(keys %digest), 1, '  all give the same image');
	is($compiled, 1, '  and only one compiled it');
	my $ignored = build_json(app('main.c' => "int main(void) { return 7; }\n", Makefile => "prog: main.c\n\t\$(CC) -o \$@ \$<\n", '.dockerignore' => "prog\nsecret\n", secret => 'x'),
		'-t', 'ignored');
	is((run_out({timeout => 20}, $COWBELL, 'run', 'image:ignored'))[0], 7, 'ignore files are about the source: what the build made is there');
	my ($before) = keys %digest;
	spew("$c/Makefile", "prog:\n\techo broken; exit 3\n");
	($st, $out, $err) = build($c, '-t', 'four');
	is($st, 125, 'a step that fails');
	like("$out$err", qr/^       broken\n.*^ !     make failed with status 2$/ms, '  is shown with its output');
	like((run_out({}, $COWBELL, 'inspect', '--json', 'four'))[1], qr/$before/, '  and the old image keeps the name');
	spew("$c/Makefile", "prog:\n\tsleep 60\n");
	$t = time;
	($st, undef, $err) = build($c, '-t', 'four', '--timeout', '1s');
	ok($st == 125 && time - $t < 20, '--timeout ends a step') or diag($err);
}

# --- an archive ------------------------------------------------------------------------------------------------------------------------
($st) = build($hello, '-o', "$tmp/x.tar");
is($st, 0, '-o');
like(scalar(`tar tf $tmp/x.tar 2>/dev/null`), qr/^(\.\/)?index\.json$/m, '  an OCI layout');

# --- and it runs -------------------------------------------------------------------------------------------------------------------------
my @web = (
	['python', {'app.py' => slurp("$TOP/examples/hello-web/app.py")}, qr/Hello from Python/],
	['flask', {'app.py' => "from flask import Flask\napp = Flask(__name__)\n\@app.route('/')\ndef i():\n    return 'flask here'\n", Aptfile => 'python3-flask', 'requirements.txt' => 'flask'}, qr/flask here/],
	['php', {'index.php' => '<?php echo "php ", 40 + 2;'}, qr/php 42/, 'php'],
	['ruby', {'app.rb' => "require 'webrick'\ns = WEBrick::HTTPServer.new(Port: ENV['PORT'].to_i, BindAddress: '0.0.0.0')\ns.mount_proc('/') { |q, r| r.body = 'ruby here' }\ns.start\n",
		Gemfile => "gem 'webrick'\n", Aptfile => "ruby-webrick\n"}, qr/ruby here/, 'ruby'],
	['perl', {'app.pl' => "use IO::Socket::INET;\nmy \$s = IO::Socket::INET->new(LocalAddr => '0.0.0.0', LocalPort => \$ENV{PORT}, Listen => 5) or die;\n"
			. "while (my \$c = \$s->accept) { <\$c>; print \$c \"HTTP/1.0 200 OK\\r\\n\\r\\nperl here\"; close \$c }\n", cpanfile => "requires 'IO::Socket::INET';\n"}, qr/perl here/],
	['lua', {'main.lua' => slurp("$TOP/tests/apps/lua/main.lua"), Aptfile => 'lua-socket'}, qr/hello from lua/, 'lua5.4'],
	['static', {Staticfile => "root: www\npushstate: enabled\n", 'www/index.html' => 'static here'}, qr/static here/, 'nginx'],
	['node', {'package.json' => '{}', 'server.js' => "require('http').createServer((q, r) => r.end('node here')).listen(process.env.PORT)\n"}, qr/node here/, 'node'],
);
for my $e (['flask', ''], ['node', 'node'], ['php', 'php'], ['static', 'nginx'], ['go', 'go']) {
	my ($name, $needs) = @$e;
	push @web, ["example-$name", "$TOP/examples/hello-$name", qr/Hello/, $needs];
}
if (have('javac', 'jar')) {
	my $j = app('Main.java' => 'import com.sun.net.httpserver.*; import java.net.*; public class Main { public static void main(String[] a) throws Exception { HttpServer s = '
			. 'HttpServer.create(new InetSocketAddress(Integer.parseInt(System.getenv("PORT"))), 0); s.createContext("/", x -> { byte[] b = "java here".getBytes(); '
			. 'x.sendResponseHeaders(200, b.length); x.getResponseBody().write(b); x.close(); }); s.start(); } }');
	system("cd $j && javac Main.java && jar cf a-plain.jar *.class && jar cfe app.jar Main *.class && rm *.class Main.java") == 0 and push @web, ['java', $j, qr/java here/];
}
for my $w (@web) {
	my ($name, $files, $want, $needs) = @$w;
	next if $needs && !have($needs) && $needs ne 'nginx';
	my ($s, $b_out, $b_err) = build(ref $files ? app(%$files) : $files, '-t', "run-$name");
	is($s, 0, "$name: builds") or diag("$b_out$b_err");
	for my $m (monitors()) {
		my $port = free_port();
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-m', '1G', '-p', "$port:8080", "image:run-$name");
		my ($code, $body) = wait_http($g, "http://127.0.0.1:$port/", 30);
		like($body, $want, "$name: answers under $m") or diag(slurp($g->{err}));
		stop_guest($g, 'KILL');
	}
}
if (have('gcc')) {
	my $d = app(Procfile => "web: ./bin/srv --flag\n", 'x.c' => "#include <stdio.h>\n#include <unistd.h>\nint main(int n, char **v) { printf(\"%s %d\\n\", v[1], getuid()); }\n");
	mkdir "$d/bin";
	system("gcc -o $d/bin/srv $d/x.c");
	$o = build_json($d, '-t', 'elf');
	is($o->{language}, 'Program', 'an ELF that the Procfile names');
	for my $m (monitors()) {
		($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $m, 'image:elf');
		is($out, "--flag 1000\n", "  runs under $m, not as root") or diag($err);
	}
}
build(app('app.py' => "import os\nopen('here', 'w').write('x')\nprint(os.getcwd(), os.listdir('.').count('here'), os.environ['A'])\n"), '-t', 'cwd', '--env', 'A=b c');
($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', 'image:cwd');
is($out, "/app 1 b c\n", 'the app can write beside itself, and sees --env') or diag($err);

done_testing();
