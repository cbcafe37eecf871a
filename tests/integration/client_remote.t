#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# The platform's client and a platform of another machine, as far as it can tell: a host name that is not this machine's, TLS with a
# certificate of its own, reached through a proxy. Login, push (compressed there), an attached run, git's credentials.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use File::Path qw(make_path);
use IO::Select;
use IO::Socket::INET;
use Platform;
use Test::More;

plan skip_all => 'openssl is not here' unless have('openssl');
my $tls = Platform::port();
my $work = scratch();
system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=apps.test -addext " .
	"subjectAltName=DNS:apps.test,DNS:*.apps.test -keyout $work/key.pem -out $work/cert.pem >$work/ssl.log 2>&1") and plan skip_all => 'openssl makes no certificate';
my $p = Platform->start(domain => 'apps.test', args => ['--listen-tls', "127.0.0.1:$tls", '--tls-cert', "$work/cert.pem", '--tls-key', "$work/key.pem"]);

# A proxy that knows one thing: CONNECT, to this machine whatever was said.
my $listen = IO::Socket::INET->new(Listen => 16, LocalAddr => '127.0.0.1') or die;
my $proxy = fork // die;
if (!$proxy) {
	$SIG{CHLD} = 'IGNORE';
	syscall 157, 1, 9;
	while (my $c = $listen->accept) {
		next if fork;
		my $head = '';
		sysread($c, $head, 4096, length $head) or POSIX::_exit(0) while $head !~ /\r\n\r\n/;
		my ($host, $port) = $head =~ /^CONNECT ([^:]+):(\d+)/ or POSIX::_exit(1);
		open(my $log, '>>', "$work/proxied");
		print $log "$host\n";
		close $log;
		my $to = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) or POSIX::_exit(1);
		syswrite $c, "HTTP/1.1 200 OK\r\n\r\n";
		my $s = IO::Select->new($c, $to);
		while (my @ready = $s->can_read) {
			for my $from (@ready) {
				my $n = sysread $from, my $buf, 65536;
				POSIX::_exit(0) if !$n;
				my $other = $from == $c ? $to : $c;
				for (my $at = 0; $at < $n;) {
					$at += syswrite($other, $buf, $n - $at, $at) // POSIX::_exit(0);
				}
			}
		}
		POSIX::_exit(0);
	}
}

make_path("$work/home", "$work/app");
my $url = "https://api.apps.test:$tls";
our %env = (PATH => $ENV{PATH}, HOME => "$work/home", LANG => 'C.UTF-8', https_proxy => 'http://127.0.0.1:' . $listen->sockport);
our $input = '/dev/null';
sub cb { return Platform::command_of({env => \%env, dir => "$work/app", in => $input, to => $work}, @_) }

spew("$work/token", $p->token . "\n");
{
	local $input = "$work/token";
	my ($status, $out, $err) = cb('login', $url);
	is($status, 2, 'a certificate that nobody vouches for is refused');
	like($err, qr/cowbell login --ca-file FILE/, 'with what to do');
	($status, $out, $err) = cb('login', '--ca-file', "$work/cert.pem", $url);
	is($status, 0, 'with the certificate named: logged in') or diag $err;
}
my ($status, $out, $err) = cb('whoami');
is($out, "admin\@localhost at $url\n", 'remembered') or diag $err;
like(slurp("$work/proxied"), qr/api\.apps\.test/, 'it went through the proxy');

spew("$work/app/app.py", "import os\nfrom http.server import *\nHTTPServer(('', int(os.environ['PORT'])), SimpleHTTPRequestHandler).serve_forever()\n");
spew("$work/app/page.txt", "a page\n" x 20000);
($status, $out, $err) = cb('push', '--version', 'v-remote');
is($status, 0, 'push') or diag $out, $err;
like($out, qr/Released v1/, 'the build is shown');
is($p->app('app', '/page.txt')->{content}, "a page\n" x 20000, 'what was sent came through');
($status, $out) = cb('releases');
like($out, qr/Deploy v-remote/, 'push --version');

($status, $out, $err) = cb('run', '-a', 'app', 'python3', '-c', 'print("x" * 100000)');
is($status, 0, 'an attached run') or diag $err;
is(length $out, 100001, 'all of its output');
($status, $out, $err) = cb('logs', '-n', '5');
is($status, 0, 'logs') or diag $err;

# git's question is answered for this platform only
spew("$work/ask", "protocol=https\nhost=api.apps.test:$tls\n\n");
spew("$work/other", "protocol=https\nhost=example.org\n\n");
{
	local $input = "$work/ask";
	is((cb('git-credential', 'get'))[1], "username=cowbell\npassword=" . $p->token . "\n", 'git gets the token');
	is((cb('git-credential', 'store'))[1], '', 'but when it stores one: nothing');
	local $input = "$work/other";
	is((cb('git-credential', 'get'))[1], '', 'nor for another host');
}

# no token goes where it could be read
{
	local $env{COWBELL_URL} = 'http://api.apps.test:' . $p->port_of;
	local $env{COWBELL_TOKEN} = 'x';
	($status, $out, $err) = cb('apps');
	is($status, 125, 'http to another machine is refused');
	like($err, qr/not encrypted/, 'with the reason');
}
# HEROKU_API_KEY alone sends nothing anywhere
{
	local $env{HEROKU_API_KEY} = 'somebodys-key';
	is((cb('whoami'))[0], 0, 'a key of Heroku\'s without COWBELL_URL is not used');
}
kill 'KILL', $proxy;
waitpid $proxy, 0;
is($p->stop, 0, 'the server ends well');
done_testing();
