#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Apps with processes on the platform: gunicorn with workers by a Procfile, a release phase of several commands, one-off commands
# with pipes.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Path qw(make_path);
use Platform;
use Test::More;

plan skip_all => 'gunicorn is not installed' unless have('/usr/bin/gunicorn');
my $dir = scratch();
make_path("$dir/app");
spew("$dir/app/app.py", <<'X');
import os, subprocess
def app(env, start):
    start('200 OK', [('Content-Type', 'text/plain')])
    return [b'parent %d words %s\n' % (os.getppid(), subprocess.check_output('echo a b c | wc -w', shell=True).strip())]
X
spew("$dir/app/requirements.txt", '');
spew("$dir/app/Aptfile", "gunicorn\n");
spew("$dir/app/Procfile", "web: gunicorn -w 2 -b 0.0.0.0:\$PORT app:app\nrelease: echo migrating | tr a-z A-Z && (exit 0) && echo migrated\n");
system("tar -C $dir/app -czf $dir/app.tgz .") == 0 or BAIL_OUT('tar');
my $p = Platform->start(args => [$ENV{COWBELL_MONITORS} ? ('--monitor', (split /,/, $ENV{COWBELL_MONITORS})[0]) : ()]);
is($p->api('POST', '/apps', {name => 'workers'})->{status}, 201, 'an app');
my $r = $p->api('POST', '/apps/workers/builds?wait=1', undef, {content => slurp("$dir/app.tgz"), headers => {'content-type' => 'application/gzip'}});
is($r->{status}, 201, 'is built, and its release phase of a pipe and && ends well') or diag($r->{content});
(my $stream = $r->{json}{output_stream_url}) =~ s{^\w+://[^/]+}{};
like($p->api('GET', $stream, undef, {token => undef})->{content}, qr/MIGRATING.*migrated/s, 'with its output');
my $a = $p->app('workers', '/');
is("$a->{status} $a->{content}", "200 parent 2 words 3\n", 'a worker of gunicorn answers, and starts a pipeline');
$r = $p->api('POST', '/apps/workers/dynos', {command => 'seq 100 | grep 7 | wc -l && echo end', attach => JSON::PP::false()});
is($r->{status}, 201, 'a one-off process with pipes');
my $text = '';
ok($p->wait_for(30, sub {
	my $s = $p->api('POST', '/apps/workers/log-sessions', {lines => 200})->{json};
	(my $path = $s->{logplex_url}) =~ s{^\w+://[^/]+}{};
	$text = $p->api('GET', $path, undef, {token => undef, headers => {accept => 'text/event-stream'}})->{content};
	return $text =~ /run\.\d+\]: 19\b.*run\.\d+\]: end/s;
}), 'its output is in the log') or diag(substr($text, -1500));
done_testing();
