#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The platform's verbs of `cowbell` against a real server: each verb, --json, exit statuses, which app and which platform are
# meant, what is a local command and what is not, completion in bash.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Path qw(make_path);
use IO::Select;
use Platform;
use Test::More;

my $p = Platform->start;
my $work = "$p->{dir}/work";
make_path("$work/demo", "$work/empty", "$work/nested/deep", "$work/home");

# A command in a directory, with nothing of the user's environment: (status, stdout, stderr).
my %env = (PATH => $ENV{PATH}, HOME => "$work/home", LANG => 'C.UTF-8', COWBELL_URL => $p->url, COWBELL_TOKEN => $p->token);
our $dir = "$work/demo";
our $input = '/dev/null';
sub cb {
	my ($status, @text) = Platform::command_of({env => \%env, dir => $dir, in => $input, to => $work}, @_);
	utf8::decode($_) for @text;
	return ($status, @text);
}
sub json_of {
	my ($status, $out) = cb(@_);
	my $j = eval { $Platform::JSON->decode(do { my $t = $out; utf8::encode($t); $t }) };
	ok(defined $j, "@_: JSON") or diag $out;
	return $j;
}
# Status, and patterns of standard output and standard error, undef: nothing at all.
sub check {
	my ($words, $want, $out_like, $err_like) = @_;
	my ($status, $out, $err) = cb(@$words);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $good = $status == $want && (defined $out_like ? $out =~ $out_like : $out eq '') && (!defined $err_like || $err =~ $err_like);
	ok($good, "cowbell @$words: $want") or diag "status $status\nout: $out\nerr: $err";
	return $out;
}

spew("$dir/app.py", <<'PY');
import os
from http.server import BaseHTTPRequestHandler, HTTPServer
class App(BaseHTTPRequestHandler):
    def do_GET(self):
        body = (os.environ.get("GREETING", "hello") + " " + ",".join(sorted(f for d, _, n in os.walk(".") for f in n)) + "\n").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a):
        print("asked for", self.path, flush=True)
HTTPServer(("0.0.0.0", int(os.environ["PORT"])), App).serve_forever()
PY

# --- who and where -----------------------------------------------------------------------------------------------------
check(['whoami'], 0, qr/^admin\@localhost at http:/);
check(['apps'], 0, qr/no apps.*cowbell push/);
is_deeply(json_of('apps', '--json'), [], 'no apps');
check(['config'], 125, undef, qr/which app\? Say it by -a APP/);
check(['config', '-a', 'No_Name'], 125, undef, qr/is no name of an app/);
check(['config', '-a', 'nothere'], 2, undef, qr/cowbell: .*cowbell apps$/);
{
	local $env{COWBELL_TOKEN} = 'wrong';
	check(['apps'], 2, undef, qr/does not know this token; log in: cowbell login/);
	my $j = json_of('apps', '--json');
	is($j->{status}, 2, 'an error as JSON, too');
	like($j->{error}, qr/token/, 'with its text');
}
{
	local $env{COWBELL_URL} = 'http://127.0.0.1:9';
	check(['apps'], 2, undef, qr/no platform answers at .*cowbell serve/);
	local $env{COWBELL_URL} = 'ftp://x';
	check(['apps'], 125, undef, qr/is no URL of a platform/);
	local $env{COWBELL_URL} = 'http://example.org';
	check(['apps'], 125, undef, qr/is not encrypted/);
}
# the platform of this user is found by itself
{
	local ($env{COWBELL_URL}, $env{COWBELL_TOKEN});
	delete @env{qw(COWBELL_URL COWBELL_TOKEN)};
	my $state = "$work/home/.local/state/cowbell/platform";
	make_path($state);
	symlink "$p->{data}/$_", "$state/$_" for qw(url admin-token);
	check(['whoami'], 0, qr/^admin/);
	unlink "$state/$_" for qw(url admin-token);
	check(['whoami'], 2, undef, undef);
	# login stores what standard input says
	spew("$work/token", $p->token . "\n");
	local $input = "$work/token";
	check(['login', $p->url], 0, undef, qr/^Logged in to .* as admin\@localhost/);
	local $input = '/dev/null';
	check(['whoami'], 0, qr/^admin/);
	is(sprintf('%o', (stat "$work/home/.config/cowbell/platform.json")[2] & 0777), '600', 'the token is its user\'s alone');
	check(['logout'], 0, undef);
	ok(!-e "$work/home/.config/cowbell/platform.json", 'logout forgets');
	spew("$work/token", "no good\n");
	$input = "$work/token";
	check(['login', $p->url], 125, undef, qr/no token was given/);
}

# --- push ---------------------------------------------------------------------------------------------------------------
spew("$dir/.gitignore", "*.log\n/secret/\n");
spew("$dir/.slugignore", "docs\n");
spew("$dir/.env", "KEY=secret\n");
make_path("$dir/secret", "$dir/docs", "$dir/lib/sub", "$dir/.git");
spew("$dir/$_", "x\n") for qw(a.log secret/s.txt docs/d.txt lib/kept.txt lib/sub/gone.tmp lib/sub/stays.txt .git/config);
spew("$dir/lib/sub/.gitignore", "*.tmp\n");
symlink 'kept.txt', "$dir/lib/link.txt";
my $out = check(['push'], 0, qr/Python.*http:\/\/demo\.localhost:\d+\//s, qr/Creating demo\.\.\. done/);
is(slurp("$dir/.cowbell/app"), "demo\n", 'the directory remembers its app');
my $answer = $p->app('demo')->{content};
is($answer, "hello .gitignore,.gitignore,.slugignore,app.py,kept.txt,link.txt,stays.txt\n", 'what arrived is what should')
	or diag $answer;
check(['push'], 0, qr/Released v2/, qr/Uploading \d+ files/);
{
	local $dir = $work;
	check(['push', 'demo'], 0, qr/Released v3/);
	check(['push', 'empty'], 125, undef, qr/nothing in empty to deliver/);
	check(['push', 'nowhere', '-a', 'demo'], 125, undef, qr/is no directory/);
	check(['push', './demo', '-a', 'nothere'], 2, undef, qr/cowbell apps/);
}
{
	make_path("$work/broken");
	spew("$work/broken/readme", "no app\n");
	local $dir = "$work/broken";
	check(['push', '-a', 'demo'], 1, qr/./s, qr/push: the build of demo failed/);
	my $j = json_of('push', '-a', 'demo', '--json');
	is($j->{status}, 'failed', '--json of a failed build');
	is($p->app('demo')->{status}, 200, 'what was released goes on serving');
}
is(json_of('push', '--json')->{status}, 'succeeded', 'push --json');

# --- the verbs ----------------------------------------------------------------------------------------------------------
check(['create', 'second'], 0, qr{^http://second\.localhost:\d+/ \| http\S+/second\.git$}, qr/Creating second\.\.\. done/);
is(slurp("$dir/.cowbell/app"), "second\n", 'create remembers');
spew("$dir/.cowbell/app", "demo\n");
check(['create', 'second'], 2, undef, qr/!\ncowbell: .*second/s);
check(['apps'], 0, qr/^=== admin\@localhost Apps\n\ndemo\nsecond\n\z/);
check(['apps', '-q'], 0, qr/^demo\nsecond\n\z/);
check(['info'], 0, qr/^=== demo\n.*Owner: +admin\@localhost.*Web URL: +http:/s);
is(json_of('info', '--json')->{app}{name}, 'demo', 'info --json');
check(['apps:info', '-a', 'second'], 0, qr/^=== second/);
check(['open'], 0, qr{^http://demo\.localhost:\d+/$});
check(['open', 'path'], 0, qr{^http://demo\.localhost:\d+/path$});
check(['config'], 0, qr/^=== demo Config Vars/);
check(['config', 'set', 'GREETING=good day', "ODD=it's \$x;\n\"q\""], 0, qr/GREETING: +good day/, qr/Setting GREETING, ODD and restarting demo\.\.\. done, v\d+/);
check(['config:get', 'GREETING'], 0, qr/^good day$/);
check(['config', 'get', 'NOTHING'], 1, undef, qr/has no variable/);
is(json_of('config', '--json')->{ODD}, "it's \$x;\n\"q\"", 'quotes, semicolons and newlines stay as they are');
check(['config', '-s'], 0, qr/^GREETING='good day'$/m);
check(['config', 'set', 'nonsense'], 125, undef, qr/is not K=V/);
check(['config', 'sett', 'A=1'], 125, undef, qr/no command 'sett'; did you mean: set/);
ok($p->wait_for(20, sub { $p->app('demo')->{content} =~ /^good day/ }), 'the app has them, once it has started anew');
check(['config:unset', 'GREETING', 'ODD'], 0, undef, qr/Unsetting GREETING, ODD .*done, v\d+/);
check(['releases'], 0, qr/^=== demo Releases - Current: v\d+\n\nv\d+ .*\nv\d+ /);
check(['releases', '-n', '1'], 0, qr/^=== .*\n\nv\d+ .*\n\z/);
cmp_ok(scalar @{json_of('releases', '--json')}, '>', 3, 'releases --json');
check(['releases:info', 'v1'], 0, qr/^=== Release v1/);
check(['releases', 'info', 'v99'], 2, undef, qr/no such release/);
check(['rollback', 'v1'], 0, undef, qr/Rolling back demo to v1\.\.\. done, v\d+/);
check(['rollback', 'zero'], 125, undef, qr/is no release/);
check(['scale'], 0, qr/^web=1:\w+$/);
check(['scale', 'web=2'], 0, undef, qr/Scaling demo\.\.\. done, now running web at 2:/);
check(['scale', 'web-1'], 0, undef, qr/web at 1:/);
check(['scale', 'web'], 125, undef, qr/no number of processes/);
check(['scale', 'nosuch=1'], 2, undef, qr/nosuch/);
$p->app('demo');
check(['ps', '-a', 'demo'], 0, qr/^=== web \(\w+\): python3 app\.py \(1\)\n\nweb\.1: +(up|starting|idle)/);
is(ref json_of('ps', '-a', 'demo', '--json'), 'ARRAY', 'ps --json');
check(['restart'], 0, undef, qr/Restarting all processes of demo\.\.\. done/);
check(['ps:restart', 'web.1'], 0, undef, qr/Restarting web\.1 of demo/);
check(['domains', 'add', 'www.example.org'], 0, qr/DNS/, qr/Adding www\.example\.org to demo\.\.\. done/);
check(['domains'], 0, qr/^=== demo Domain\n\ndemo\.localhost\n\n=== demo Custom Domains.*www\.example\.org/s);
like($p->app('www.example.org')->{content}, qr/hello/, 'it answers by that name');
check(['domains:remove', 'www.example.org'], 0, undef, qr/done/);
check(['domains', 'add', 'bad name'], 2, undef, qr/!/);
check(['maintenance', 'on'], 0, undef, qr/Enabling maintenance mode for demo\.\.\. done/);
check(['maintenance'], 0, qr/^on$/);
is($p->app('demo')->{status}, 503, 'visitors see the page');
check(['maintenance:off'], 0, undef, qr/Disabling/);
check(['drains', 'add', 'syslog://203.0.113.1:514'], 0, undef, qr/done/);
check(['drains'], 0, qr/^=== demo Drains\n\nsyslog:/);
is(json_of('drains', '--json')->[0]{url}, 'syslog://203.0.113.1:514', 'drains --json');
check(['drains', 'remove', 'syslog://203.0.113.1:514'], 0, undef, qr/done/);
check(['access'], 0, qr/^=== demo Access\n\nadmin\@localhost +owner/);
$p->ok_api(201, 'POST', '/users', {email => 'bob@example.org'});
check(['access', 'add', 'bob@example.org'], 0, undef, qr/done/);
check(['access'], 0, qr/bob\@example\.org +collaborator/);
check(['access', 'remove', 'bob@example.org'], 0, undef, qr/done/);
check(['labs'], 0, qr/runtime-dyno-metadata/);
check(['labs:enable', 'runtime-dyno-metadata'], 0, undef, qr/done/);
check(['labs', 'disable', 'runtime-dyno-metadata'], 0, undef, qr/done/);
check(['limits', 'set', 'memory=128M'], 0, qr/^memory +128M$/m);
is(ref json_of('limits', '--json'), 'HASH', 'limits --json');
check(['limits', 'set', 'cpus=2'], 0, qr/^cpus +2$/m);
check(['limits', 'set', 'cpus=17'], 2, undef, qr/cpus/);
check(['limits', 'set', 'memory=lots'], 2, undef, qr/memory/);
my $token = check(['tokens', 'create', 'for a test', '--expires-in', '1d'], 0, qr/^\S{20,}$/, qr/shown this once/);
chomp $token;
{
	local $env{COWBELL_TOKEN} = $token;
	check(['whoami'], 0, qr/^admin/);
}
my ($id) = map { $_->{id} } grep { $_->{description} eq 'for a test' } @{json_of('tokens', '--json')};
check(['tokens', 'revoke', $id], 0, undef, qr/done/);
{
	local $env{COWBELL_TOKEN} = $token;
	check(['whoami'], 2, undef, qr/token/);
}
SKIP: {
	my $ssl = system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=www.example.org " .
		"-addext subjectAltName=DNS:www.example.org -keyout $work/key.pem -out $work/cert.pem >$work/ssl.log 2>&1");
	skip 'openssl is not here', 5 if $ssl;
	check(['certs', 'add', "$work/cert.pem", "$work/key.pem"], 0, undef, qr/Adding a certificate of demo\.\.\. done, /);
	check(['certs'], 0, qr/www\.example\.org/);
	my $name = json_of('certs', '--json')->[0]{name};
	check(['certs', 'remove', $name], 0, undef, qr/done/);
	check(['certs', 'add', "$dir/app.py", "$work/key.pem"], 125, undef, qr/is no PEM file/);
}

# --- run, logs -----------------------------------------------------------------------------------------------------------
check(['run', '-a', 'demo', '--', 'python3', '-c', 'import sys; print(6 * 7, sys.argv[1:]); sys.exit(5)', 'a b', "q'"], 5, qr/^42 \['a b', "q'"\]\r?\n\z/, qr/Running .* on demo\.\.\. up, run\.\d+/);
check(['run', '-a', 'demo', '--', 'python3', '-c', 'import os; print(os.cpu_count(), len(os.sched_getaffinity(0)))'], 0, qr/^2 2\r?\n\z/);
check(['run', '-a', 'demo', 'echo one; exit 3'], 3, qr/^one\r?\n\z/);
check(['run', '-a', 'demo', '-e', 'X=y z', 'python3', '-c', 'import os; print(os.environ["X"])'], 0, qr/^y z\r?\n\z/);
spew("$work/in", "first\nsecond\n");
{
	local $input = "$work/in";
	check(['run', '-a', 'demo', 'python3', '-c', 'import sys; print(len(sys.stdin.read()))'], 0, qr/13/);
}
SKIP: { # at a terminal: Python's prompt, Ctrl-C, a terminal that tells no size
	skip 'python3 is not here', 3 unless have('python3');
	spew("$work/terminal.py", <<'PY');
import os, pty, select, sys, time
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
out, end, asked = b'', time.time() + 30, False
while time.time() < end:
    if select.select([fd], [], [], 0.1)[0]:
        try:
            part = os.read(fd, 4096)
        except OSError:
            break
        if not part:
            break
        out += part
    if not asked and (b'>>> ' in out or b'up, run.' in out and sys.argv[1] == 'c'):
        asked = True
        if sys.argv[1] == 'c':
            time.sleep(1)
        os.write(fd, b'\x03' if sys.argv[1] == 'c' else b'import os; print(os.isatty(0), 6 * 7); exit(4)\r')
sys.stdout.buffer.write(out)
sys.stdout.flush()
os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
	my $ask = sub {
		my ($keys, @words) = @_;
		my $pid = open(my $h, '-|') // die;
		if (!$pid) {
			%ENV = (%env, TERM => 'xterm');
			chdir $dir;
			exec 'python3', "$work/terminal.py", $keys, 'timeout', '--foreground', '40', $COWBELL, @words or POSIX::_exit(127);
		}
		local $/;
		my $text = <$h>;
		close $h;
		return ($? >> 8, $text);
	};
	my ($status, $text) = $ask->('python', 'run', '-a', 'demo', 'python3');
	is($status, 4, 'run at a terminal: its status') or diag $text;
	like($text, qr/>>> .*True 42\r\n/s, 'it has a terminal there');
	($status) = $ask->('c', 'run', '-a', 'demo', 'cat');
	is($status, 130, 'Ctrl-C reaches it');
}
check(['run', '-a', 'demo', '--json', 'true'], 125, qr/error/, qr/goes with -d/);
my $dyno = json_of('run', '-d', '--json', '-a', 'demo', 'echo from-detached')->{name};
like($dyno, qr/^run\.\d+$/, 'run -d');
ok($p->wait_for(10, sub { (cb('logs', '-d', $dyno))[1] =~ /from-detached/ }), 'its output is in the log');
check(['logs'], 0, qr/heroku\[router\]: at=info method=GET path="\/".*\n/);
check(['logs', '--source', 'app', '-n', '3'], 0, qr/^(?:.* app\[.*\n){1,3}\z/);
{
	my ($status, $out) = cb('logs', '--json', '-n', '2');
	is(scalar(grep { eval { $Platform::JSON->decode($_)->{line} } } split /\n/, $out), 2, 'logs --json: an object a line');
}
{ # --tail goes on
	my $pid = open(my $tail, '-|') // die;
	if (!$pid) {
		%ENV = %env;
		chdir $dir;
		exec 'timeout', '30', $COWBELL, 'logs', '--tail', '-n', '0' or POSIX::_exit(127);
	}
	my $s = IO::Select->new($tail);
	my $got = '';
	sleep 1;
	$p->app('demo', '/for-the-tail');
	while ($got !~ /for-the-tail/ && $s->can_read(10)) {
		sysread($tail, $got, 4096, length $got) or last;
	}
	like($got, qr/path="\/for-the-tail"/, 'logs --tail shows what comes');
	kill 'TERM', $pid;
	close $tail;
}

# --- which app is meant ----------------------------------------------------------------------------------------------------
{
	local $dir = "$work/nested/deep";
	make_path("$work/nested/.git");
	spew("$work/nested/.git/config", "[core]\n\tx = y\n[remote \"cowbell\"]\n\turl = " . $p->url . "/second.git\n\tfetch = x\n[remote \"other\"]\n\turl = " . $p->url . "/demo.git\n");
	check(['info'], 0, qr/^=== second/);
	check(['info', '-r', 'other'], 0, qr/^=== demo/);
	check(['info', '-r', 'none'], 125, undef, qr/no git remote 'none'/);
	local $env{HEROKU_APP} = 'demo';
	check(['info'], 0, qr/^=== demo/);
	local $env{COWBELL_APP} = 'second';
	check(['info'], 0, qr/^=== second/);
	check(['info', '-a', 'demo'], 0, qr/^=== demo/);
	check(['ps'], 0, qr/second/);
	delete $env{COWBELL_APP};
}

# --- local commands of the same names ---------------------------------------------------------------------------------------
{
	local $dir = "$work/empty";
	check(['ps'], 0, qr/^ID +NAME +PROGRAM/);
	check(['ps', '-a'], 0, qr/^ID +NAME/);
	check(['logs', 'nothere'], 127, undef, qr/not the name or ID of an instance/);
	check(['push', 'nothere'], 127, undef, qr/no such image/);
	check(['run', '/nonexistent/program', '-a', 'x'], 127, undef, undef);
	check(['run', '--help'], 0, qr/--volume.*cowbell run -a APP --help/s);
	check(['run', '-a', 'demo', '--help'], 0, qr/--detach.*--no-tty/s);
	check(['push', '--help'], 0, qr/--plain-http.*cowbell push -a APP --help/s);
	check(['config', '--help'], 0, qr/Commands:\n  set /);
	check(['config:nosuch'], 125, undef, qr/no command 'nosuch'/);
	check(['nosuch:thing'], 125, undef, qr/no command 'nosuch:thing'/);
}

# --- destroy -------------------------------------------------------------------------------------------------------------
check(['destroy', '-a', 'second'], 125, undef, qr/say that you mean it: --confirm second/);
check(['destroy', '-a', 'second', '--confirm', 'demo'], 125, undef, qr/nothing was done/);
check(['destroy', '-a', 'second', '--confirm', 'second'], 0, undef, qr/Destroying second\.\.\. done/);
check(['apps:destroy', '--confirm', 'demo'], 0, undef, qr/done/);
ok(!-e "$dir/.cowbell/app", 'the directory forgets');
is_deeply(json_of('apps', '--json'), [], 'none is left');

# --- completion ------------------------------------------------------------------------------------------------------------
for my $shell (qw(bash zsh)) {
	my ($status, $script) = cb('completion', $shell);
	is($status, 0, "completion $shell");
	spew("$work/complete.$shell", $script);
	SKIP: {
		skip "$shell is not here", 1 if system("command -v $shell >/dev/null");
		is(system($shell, '-n', "$work/complete.$shell"), 0, "$shell reads it");
	}
}
check(['completion', 'fish'], 125, undef, qr/bash or zsh\?/);
sub complete {
	my @words = @_;
	my $last = $#words;
	my $quoted = join ' ', map { "'$_'" } @words;
	(my $bin = $COWBELL) =~ s{/[^/]*$}{};
	return `PATH='$bin':"\$PATH" bash --norc -c '. $work/complete.bash; COMP_WORDS=($quoted); COMP_CWORD=$last; _cowbell; echo "\${COMPREPLY[*]}"' 2>&1`;
}
like(complete('cowbell', 're'), qr/^releases restart|^restart releases/, 'bash: commands');
like(complete('cowbell', 'run', '--vol'), qr/^--volume$/, 'bash: options');
like(complete('cowbell', 'config', ''), qr/\bset\b.*\bunset\b/s, 'bash: subcommands');
like(complete('cowbell', 'snapshot', 'create', '--o'), qr/^--output$/, 'bash: options of a subcommand');
like(complete('cowbell', 'serve', '--idl'), qr/^--idle$/, 'bash: options of serve');
is($p->stop, 0, 'the server ends well');
done_testing();
