#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The unmodified heroku command from npm drives the platform, from an empty home directory, and git pushes to it.
#
# HEROKU_CLI=FILE takes that one; else tests/heroku/package-lock.json's is installed, once, below the user's
# cache: 385 MB in a tree that programs of other tests start in would be theirs, too.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Copy qw(copy);
use File::Path qw(make_path remove_tree);
use Platform;
use Test::More;
use Time::HiRes qw(sleep time);

# The command, installed if it must be; or undef and why not.
sub heroku_command {
	return ($ENV{HEROKU_CLI}, '') if $ENV{HEROKU_CLI};
	return (undef, 'node, npm and git are needed') unless have('node', 'npm', 'git');
	my $dir = ($ENV{XDG_CACHE_HOME} || ($ENV{HOME} // '/tmp') . '/.cache') . '/cowbell-tests/heroku';
	my $bin = "$dir/node_modules/.bin/heroku";
	return ($bin, '') if -e "$dir/.done" && slurp("$dir/package-lock.json") eq slurp("$TOP/tests/heroku/package-lock.json");
	eval { remove_tree($dir); make_path($dir); 1 } or return (undef, "no place for the heroku command: $dir");
	copy("$TOP/tests/heroku/$_", "$dir/$_") or return (undef, "$_: $!") for qw(package.json package-lock.json);
	my ($st, $out, $err) = run_out({dir => $dir, timeout => 400}, qw(npm ci --ignore-scripts --no-audit --no-fund --loglevel=error));
	return (undef, 'the heroku command cannot be fetched: ' . ((split /\n/, $err)[0] // "status $st")) if $st || !-e $bin;
	spew("$dir/.done", '');
	return ($bin, '');
}

my ($CLI, $why) = heroku_command();
plan skip_all => $why unless $CLI;

my $tls = Platform::port();
my $p = Platform->start(args => ['--listen-tls', "127.0.0.1:$tls"]);
my $port = $p->port_of;
my $home = scratch();
my $work = "$home/work";
mkdir $work;
my %env = (
	PATH => $ENV{PATH}, HOME => $home, LANG => 'C.UTF-8', COLUMNS => 200, HEROKU_HOST => "http://127.0.0.1:$port", HEROKU_API_KEY => $p->token,
	NODE_EXTRA_CA_CERTS => $p->data . '/certs/self.crt', DISABLE_TELEMETRY => 'true', HEROKU_DISABLE_AUTOUPDATE => 1,
	HEROKU_PARTICLEBOARD_URL => "http://127.0.0.1:$port", # else it asks another host of Heroku's about bills, and waits for it
	GIT_AUTHOR_NAME => 'a', GIT_AUTHOR_EMAIL => 'a@example.org', GIT_COMMITTER_NAME => 'a', GIT_COMMITTER_EMAIL => 'a@example.org', GIT_CONFIG_NOSYSTEM => 1,
);

# A program in the work directory with the environment of that home: (status, standard output, standard error).
sub run_here {
	my ($o, @cmd) = @_;
	return run_out({dir => $work, timeout => 60, %$o}, 'env', '-i', map({ "$_=$env{$_}" } sort keys %env), @cmd);
}
sub heroku { my $o = ref $_[0] ? shift : {}; return run_here($o, $CLI, @_) }

# It must succeed and its output match; the output is returned.
sub works {
	my ($cmd, $want) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($st, $out, $err) = heroku(@$cmd);
	my $all = $out . $err;
	ok($st == 0 && $all =~ $want, "heroku @$cmd") or diag("status $st\n$all");
	return $all;
}
sub fails {
	my ($cmd, $want) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my ($st, $out, $err) = heroku(@$cmd);
	ok($st != 0 && $err =~ $want, "heroku @$cmd: refused") or diag("status $st\n$out$err");
}
sub git { my ($st, $out, $err) = run_here({timeout => 120}, 'git', @_); return ($st, $out . $err) }
sub serves {
	my ($text, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	my $r;
	$p->wait_for(15, sub { $r = $p->app('demo'); $r->{content} eq $text });
	is($r->{content}, $text, $name) or diag($r->{status});
}

# --- an app ---------------------------------------------------------------------------------------------
my $python = <<'PY';
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
TEXT = 'one'
class H(BaseHTTPRequestHandler):
    def do_GET(self):
        print('asked for', self.path, flush=True)
        body = (os.environ.get('ODD', '') if self.path == '/odd' else TEXT + ' ' + os.environ.get('GREETING', 'none')).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()
PY
spew("$work/app.py", $python);
spew("$work/worker.py", "import time\nprint('worker is here', flush=True)\nwhile True: time.sleep(1)\n");
spew("$work/requirements.txt", '');
spew("$work/Procfile", "web: python3 app.py\nworker: python3 worker.py\n");
# The command writes https://HEROKU_HOST/ as git's remote; TLS is at another port here. The token is in the usual file.
git('config', '--global', "url.https://127.0.0.1:$tls/.insteadOf", "https://127.0.0.1:$port/");
git('config', '--global', 'http.sslCAInfo', $p->data . '/certs/self.crt');
git('config', '--global', 'init.defaultBranch', 'main');
spew("$home/.netrc", 'machine 127.0.0.1 login anybody password ' . $p->token . "\n");
chmod 0600, "$home/.netrc";
is((git('init', '-q'))[0], 0, 'a repository');
git('add', '.');
git('commit', '-q', '-m', 'first');

subtest 'create and push' => sub {
	works(['apps'], qr/You have no apps/);
	works(['create', 'demo'], qr{^http://demo\.localhost:$port/ \| https://127\.0\.0\.1:$port/demo\.git\n.*Creating demo\.\.\. done}s);
	fails(['create', 'demo', '--no-remote'], qr/Name demo is already taken/);
	fails(['create', 'Bad;Name', '--no-remote'], qr/Name must start with a letter/);
	works(['apps'], qr/^demo$/m);
	like((git('remote', '-v'))[1], qr{^heroku\s+\S+/demo\.git \(push\)}m, 'git remote heroku');
	my ($st, $out) = git('push', 'heroku', 'main');
	is($st, 0, 'git push heroku main') or diag($out);
	like($out, qr/^remote: -----> Python app detected/m, 'the build is to be seen');
	like($out, qr/^remote:\s+Released v1/m, 'and the release');
	serves('one none', 'the app answers');
};

subtest 'info' => sub {
	works(['info', '-a', 'demo'], qr/=== demo\n.*Git URL:\s+http\S+demo\.git.*Owner:\s+\S+@\S+.*Stack:\s+cowbell/s);
	my (undef, $json) = heroku('info', '--json', '-a', 'demo');
	is(eval { $Platform::JSON->decode($json)->{app}{name} }, 'demo', 'info --json') or diag($json);
	fails(['info', '-a', 'no-such'], qr/Couldn't find that app\.[\s\S]*Error ID: not_found/);
};

subtest 'config' => sub {
	my $odd = "a\"b'c; \$(id) `id`\nline two";
	my ($st, $out, $err) = heroku('config:set', 'GREETING=hello you', "ODD=$odd", '-a', 'demo');
	ok($st == 0 && $err =~ /Setting GREETING, ODD and restarting demo\.\.\. done, v2/, 'config:set') or diag("$out$err");
	works(['config:get', 'ODD', '-a', 'demo'], qr/^\Q$odd\E\n/);
	works(['config', '-a', 'demo'], qr/=== demo Config Vars\n\nGREETING:\s+hello you/);
	serves('one hello you', 'the app has it');
	is($p->app('demo', '/odd')->{content}, $odd, 'quotes, newlines and semicolons as they are');
	works(['config:unset', 'GREETING', '-a', 'demo'], qr/Unsetting GREETING and restarting demo\.\.\. done, v3/);
	serves('one none', 'and has it no more');
};

subtest 'ps' => sub {
	works(['ps:scale', 'worker=1', 'web=1:Standard-1X', '-a', 'demo'], qr/now running .*web at 1:Standard-1X.*|now running .*worker at 1/);
	works(['ps:scale', '-a', 'demo'], qr/web=1:Standard-1X worker=1:Basic/);
	works(['ps:wait', '-t', 'worker', '-a', 'demo', '-w', '10'], qr//);
	works(['ps', '-a', 'demo'], qr/=== worker \(Basic\): .*python3 worker\.py.* \(1\)\n\nworker\.1: up /);
	works(['ps:restart', 'worker.1', '-a', 'demo'], qr/Restarting .*done/);
	works(['ps:stop', 'worker.1', '-a', 'demo'], qr/Stopping .*done/);
	works(['ps:restart', '-a', 'demo'], qr/Restarting all dynos on demo\.\.\. done/);
	works(['ps:scale', 'worker=0', '-a', 'demo'], qr/worker at 0/);
	fails(['ps:scale', 'nothing=1', '-a', 'demo'], qr/Couldn't find that process type/);
	fails(['ps:scale', 'web=5000', '-a', 'demo'], qr/Cannot run more than/);
	serves('one none', 'it answers');
};

subtest 'logs' => sub {
	$p->app('demo', '/to-be-logged');
	works(['logs', '-a', 'demo', '-n', '200'], qr{app\[web\.1\]: asked for /to-be-logged}s);
	my (undef, $out) = heroku({timeout => 10}, 'logs', '-a', 'demo', '-n', '500');
	like($out, qr/heroku\[router\]: .*path="?\/to-be-logged"? .*status=200/, "the router's line");
	like($out, qr/app\[worker\.1\]: worker is here/, "the worker's line");
	like($out, qr/app\[api\]: Scaled to worker\@1:Basic by user/, "the API's line");
	unlike($out, qr/line two/, 'no config value');
	my $t = start_guest({dir => $work}, 'timeout', '-k', '5', '30', 'env', '-i', map({ "$_=$env{$_}" } sort keys %env), $CLI, 'logs', '--tail', '-a', 'demo');
	my $seen = $p->wait_for(20, sub { $p->app('demo', '/while-tailing'); slurp($t->{out}) =~ m{asked for /while-tailing} });
	ok($seen, 'logs --tail shows a line as it comes') or diag(slurp($t->{err}));
	stop_guest($t, 'INT');
};

subtest 'run' => sub {
	my ($st, $out, $err) = heroku({in => ''}, 'run', '--exit-code', '-a', 'demo', '--', 'python3', '-c', 'import sys; print(6 * 7); sys.exit(3)');
	ok($out =~ /^42\r?$/m, 'run: its output') or diag("status $st: $out$err");
	is($st, 3, 'run --exit-code: its status');
	($st, $out, $err) = heroku('run:detached', '-a', 'demo', 'python3 -c "print(\'detached ran\')"');
	like("$out$err", qr/run\.\d+/, 'run:detached') or diag("$out$err");
	my $line = $p->wait_for(15, sub { (heroku('logs', '-a', 'demo', '-n', '100'))[1] =~ /app\[run\.\d+\]: detached ran/ });
	ok($line, 'its output is in the log');
};

subtest 'a build that fails' => sub {
	spew("$work/requirements.txt", "no-such-package-of-nobody==99.99\n");
	git('commit', '-q', '-a', '-m', 'broken');
	my ($st, $out) = git('push', 'heroku', 'main');
	isnt($st, 0, 'git push fails');
	like($out, qr/^remote: .*!/m, 'and says why') or diag($out);
	like($out, qr/rejected/, 'git says that it was refused');
	serves('one none', 'the old release goes on serving');
	git('reset', '-q', '--hard', 'HEAD~1');
};

subtest 'releases and rollback' => sub {
	spew("$work/app.py", $python =~ s/'one'/'two'/r);
	git('commit', '-q', '-a', '-m', 'second');
	my ($st, $out) = git('push', 'heroku', 'main');
	is($st, 0, 'git push') or diag($out);
	serves('two none', 'the new text');
	my $list = works(['releases', '-a', 'demo'], qr/=== demo Releases - Current: v4/);
	like($list, qr/v4\s+Deploy [0-9a-f]{7,}.*\n\s+v3\s+Remove GREETING config vars.*\n\s+v2\s+Set GREETING, ODD config vars.*\n\s+v1\s+Deploy/, 'each of them');
	works(['releases:info', 'v2', '-a', 'demo'], qr/=== Release v2.*GREETING:\s+hello you/s);
	works(['rollback', 'v2', '-a', 'demo'], qr/Rolling back demo to v2\.\.\. done, v5/);
	serves('one hello you', 'code and config of v2');
	works(['rollback', '-a', 'demo'], qr/Rolling back demo to v4\.\.\. done, v6/);
	serves('two none', 'back again');
	fails(['rollback', 'v77', '-a', 'demo'], qr/Couldn't find that release/);
};

subtest 'domains, certificates, maintenance, drains, labs' => sub {
	run_out({dir => $home}, 'openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'k.pem', '-out', 'c.pem', '-subj', '/CN=www.demo.example', '-days', '9');
	works(['certs:add', "$home/c.pem", "$home/k.pem", '-a', 'demo'], qr/Common Name\(s\):\s+www\.demo\.example.*self signed/s);
	works(['certs', '-a', 'demo'], qr/cert-[0-9a-f]{8}\s+www\.demo\.example/);
	works(['domains:add', 'www.demo.example', '-a', 'demo'], qr/DNS Target demo\.localhost/);
	works(['domains', '-a', 'demo'], qr/=== demo Heroku Domain\s+demo\.localhost.*www\.demo\.example\s+CNAME\s+demo\.localhost/s);
	is($p->app('www.demo.example')->{content}, 'two none', 'the app at its own domain') if gethostbyname('www.demo.example');
	works(['certs:remove', '-a', 'demo', '--confirm', 'demo'], qr/done/);
	works(['domains:remove', 'www.demo.example', '-a', 'demo'], qr/done/);
	works(['maintenance:on', '-a', 'demo'], qr/done/);
	works(['maintenance', '-a', 'demo'], qr/^on$/m);
	is($p->app('demo')->{status}, 503, 'the page of maintenance');
	works(['maintenance:off', '-a', 'demo'], qr/done/);
	serves('two none', 'and back');
	works(['drains:add', 'https://logs.example.org/x', '-a', 'demo'], qr/Successfully added drain/);
	works(['drains', '-a', 'demo'], qr{https://logs\.example\.org/x \(d\.}s);
	works(['drains:remove', 'https://logs.example.org/x', '-a', 'demo'], qr/Successfully removed/);
	works(['labs:enable', 'runtime-dyno-metadata', '-a', 'demo'], qr/done/);
	works(['labs', '-a', 'demo'], qr/\[\+\] runtime-dyno-metadata/);
	works(['labs:disable', 'runtime-dyno-metadata', '-a', 'demo'], qr/done/);
};

subtest 'the end' => sub {
	works(['apps:rename', 'demo-two', '-a', 'demo'], qr/Renaming demo to demo-two\.\.\. done/);
	works(['destroy', '-a', 'demo-two', '--confirm', 'demo-two'], qr/Destroying demo-two .*done/);
	fails(['ps', '-a', 'demo-two'], qr/Couldn't find that app/);
	$env{HEROKU_API_KEY} = 'wrong';
	fails(['apps'], qr/HEROKU_API_KEY is invalid|Invalid credentials/);
};

is($p->stop, 0, 'stopped');
done_testing;
