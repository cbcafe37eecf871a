#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Instances that the platform prepares before anybody asks: an app is woken by one and is its own; new releases, config vars, destroyed apps;
# prepared ones that die; none is left behind.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Platform;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'no tar' unless have('tar', 'gzip');

my $dir = scratch();
my @monitor = $ENV{COWBELL_MONITORS} ? ('--monitor', (split /,/, $ENV{COWBELL_MONITORS})[0]) : ();
my $p = Platform->start(args => ['--idle', '300ms', @monitor]);

sub deploy {
	my ($app, $text) = @_;
	mkdir "$dir/app";
	spew("$dir/app/requirements.txt", '');
	spew("$dir/app/Procfile", "web: python3 app.py\n");
	spew("$dir/app/app.py", <<"PY");
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        b = ('$text ' + os.environ.get('V', '-') + ' ' + os.environ['DYNO']).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(b))); self.end_headers(); self.wfile.write(b)
    def log_message(self, *a): pass
print('here is $text', flush=True)
http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()
PY
	system("tar -C $dir/app -czf $dir/app.tgz .") == 0 or die 'tar';
	my $before = releases($app);
	$p->api('POST', "/apps/$app/builds", undef, {content => slurp("$dir/app.tgz"), headers => {'content-type' => 'application/gzip'}});
	return $p->wait_for(90, sub { releases($app) > $before });
}
sub releases { return scalar @{$p->api('GET', "/apps/$_[0]/releases")->{json} // []} }
# Processes of ours that wait for an app.
sub prepared {
	my ($server) = @_;
	my @all;
	for my $pid (map { split ' ', slurp($_) } glob "/proc/$server/task/*/children") {
		open(my $f, '<', "/proc/$pid/cmdline") or next;
		push @all, $pid if (<$f> // '') =~ /--standby=/;
	}
	return @all;
}
# Of these, those that have not ended; whoever inherits them may be slow to collect them.
sub alive { return grep { -e "/proc/$_/stat" && slurp("/proc/$_/stat") !~ /\) Z / } @_ }
sub asleep { my ($app) = @_; return $p->wait_for(8, sub { !grep { $_->{state} ne 'idle' } @{$p->api('GET', "/apps/$app/dynos")->{json} // []} }) }
sub starts {
	my ($how) = @_;
	my $m = $p->api('GET', '/metrics')->{content};
	return $m =~ /^cowbell_start_seconds_count\{how="$how"\} (\d+)/m ? $1 : 0;
}
sub ask { my $r = $p->app($_[0], '/'); return $r->{status} == 200 ? $r->{content} : "$r->{status} $r->{content}" }
# Asleep, asked again: what it says, and whether a prepared one did it.
sub wake {
	my ($app) = @_;
	asleep($app);
	my $before = starts('standby');
	my $text = ask($app);
	return ($text, starts('standby') - $before);
}
# Until one is there that does not only begin to run.
sub ready { my $ok = $p->wait_for(15, sub { prepared($p->pid) }); sleep 0.5; return $ok }

$p->api('POST', '/apps', {name => $_}) for 'one', 'two';
deploy('one', 'first') or plan(skip_all => 'no Python app can be built here: ' . $p->log);
deploy('two', 'second');
for (1 .. 3) { # the start is remembered when it was wanted twice, a moment later
	for my $app ('one', 'two') {
		ask($app);
		asleep($app);
	}
	sleep 0.5;
}
starts('prefix') or plan(skip_all => 'starts are not shared here');

subtest 'woken by a prepared one' => sub {
	ok(ready(), 'instances wait');
	cmp_ok(scalar(prepared($p->pid)), '<=', 2, 'not more than two');
	is_deeply([wake('one')], ['first - web.1', 1], 'its own text');
	ready();
	is_deeply([wake('two')], ['second - web.1', 1], 'of the other app, too');
	my $s = $p->api('POST', '/apps/two/log-sessions', {lines => 100})->{json};
	(my $path = $s->{logplex_url} // '') =~ s{^\w+://[^/]+}{};
	my $log = $p->api('GET', $path, undef, {token => undef, headers => {accept => 'text/event-stream'}})->{content};
	like($log, qr/app\[web\.1\].*here is second/, 'and its own log');
	unlike($log, qr/here is first/, 'nothing else');
};

subtest 'what cannot be one of them' => sub {
	ready();
	$p->api('PATCH', '/apps/one/config-vars', {V => 'mine'});
	is_deeply([wake('one')], ['first mine web.1', 0], 'own config vars: a start of its own');
	$p->api('PATCH', '/apps/one/config-vars', {V => undef});
	ok($p->wait_for(10, sub { ask('one') eq 'first - web.1' }), 'without them again');
	deploy('one', 'third');
	ok($p->wait_for(10, sub { ask('one') eq 'third - web.1' }), 'a new release');
	ready();
	is_deeply([wake('one')], ['third - web.1', 1], 'which is then what a prepared one gets');
};

subtest 'prepared ones die' => sub {
	ready();
	asleep('two');
	kill 'KILL', prepared($p->pid);
	is(ask('two'), 'second - web.1', 'an app is woken all the same');
	ready();
	asleep('two');
	kill 'STOP', my @stopped = prepared($p->pid);
	my $began = time;
	is(ask('two'), 'second - web.1', 'also when they do not answer');
	cmp_ok(time - $began, '<', 3, 'and soon');
	kill 'CONT', @stopped;
	is(ask('two'), 'second - web.1', 'and afterwards');
};

subtest 'nothing is left' => sub {
	$p->api('DELETE', '/apps/one');
	is_deeply([(wake('two'))[0]], ['second - web.1'], 'the other app was destroyed');
	ready();
	my @left = prepared($p->pid);
	ok(@left, 'some wait');
	is($p->stop, 0, 'the platform ends');
	is(scalar(alive(@left)), 0, 'and they with it');
	$p->run;
	is(ask('two'), 'second - web.1', 'it begins anew');
	asleep('two');
	ask('two') for 1 .. 2;
	asleep('two');
	ready();
	@left = prepared($p->pid);
	$p->kill9;
	ok($p->wait_for(5, sub { !alive(@left) }), 'killed: none is left, either');
};

done_testing;
