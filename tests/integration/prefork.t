#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Servers with a master and workers, as instances: nginx with four workers (reload by SIGHUP, a worker that is killed, the
# upgrade of the running program), gunicorn, php-fpm behind nginx in one instance, Apache's prefork, redis with background saves.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

$ENV{PATH} .= ':/usr/sbin:/sbin';

sub eventually {
	my ($seconds, $what) = @_;
	my $end = time + $seconds;
	while (time < $end) {
		return 1 if $what->();
		sleep 0.1;
	}
	return 0;
}

sub no_errors_of_wrk {
	my ($m, $name, $url) = @_;
	SKIP: {
		skip('wrk is not installed', 1) unless have('wrk');
		my ($st, $out) = run_out({timeout => 60}, 'wrk', '-t1', '-c16', '-d1', '--timeout', '30s', $url);
		ok($out =~ /requests in/ && $out !~ /Socket errors|Non-2xx/, "$m $name: wrk with 16 connections, no error") or diag $out;
	}
}

# Which workers answer: /pid tells.
sub pids {
	my ($url, $n) = @_;
	my %seen;
	for (1 .. $n) {
		my ($code, $body) = http($url);
		$seen{$body}++ if $code == 200;
	}
	return \%seen;
}

sub nginx {
	my ($m) = @_;
	my ($d, $port) = (scratch(), free_port());
	spew("$d/index.html", 'n' x 612);
	my $conf = <<'C';
daemon off; worker_processes 4; error_log stderr notice; pid /tmp/nginx.pid;
events { worker_connections 128; }
http { access_log off; root @D@;
  client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
  server { listen 8080 reuseport; location /pid { return 200 "$pid"; } location /word { return 200 "@W@"; } } }
C
	spew("$d/nginx.conf", $conf =~ s/\@D\@/$d/gr =~ s/\@W\@/one/gr);
	my $g = start_guest({dir => $d}, $COWBELL, 'run', '--monitor', $m, '-p', "127.0.0.1:$port:8080", '-v', "$d:$d", '--', 'nginx', '-c', "$d/nginx.conf");
	my $url = "http://127.0.0.1:$port";
	my ($code, $body) = wait_http($g, "$url/index.html", 60);
	is("$code " . length($body), '200 612', "$m nginx: a static page from a worker") or diag substr(slurp($g->{err}), -2000);
	no_errors_of_wrk($m, 'nginx', "$url/index.html");
	my $before = pids("$url/pid", 12);
	ok(keys %$before >= 1 && !grep({ !/^\d+$/ } keys %$before), "$m nginx: answered by " . join(' ', sort keys %$before));
	spew("$d/nginx.conf", $conf =~ s/\@D\@/$d/gr =~ s/\@W\@/two/gr);
	kill 'HUP', $g->{pid};
	ok(eventually(60, sub { my (undef, $w) = http("$url/word"); $w eq 'two' }), "$m nginx: SIGHUP reads the configuration anew") or diag substr(slurp($g->{err}), -2000);
	ok(eventually(60, sub { my $now = pids("$url/pid", 4); !grep { $before->{$_} } keys %$now }), "$m nginx: other workers now");
	my $n = () = slurp($g->{err}) =~ /exited with code 0/g;
	ok(eventually(60, sub { $n = () = slurp($g->{err}) =~ /exited with code 0/g; $n >= 4 }), "$m nginx: the four old ones ended by themselves") or diag "$n";
	is(stop_guest($g), 0, "$m nginx: the master ends all on SIGTERM") or diag substr(slurp($g->{err}), -2000);
}

# USR2 starts a second master with the sockets of the first; QUIT ends the first. As the program of the instance is the
# first one, a shell is what stays.
sub upgrade {
	my ($m) = @_;
	my ($d, $port) = (scratch(), free_port());
	spew("$d/nginx.conf", <<'C');
worker_processes 2; error_log stderr notice; pid /tmp/nginx.pid; daemon on;
events { worker_connections 128; }
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
  server { listen 8080; location / { return 200 "$pid"; } } }
C
	spew("$d/upgrade.sh", <<'X');
/usr/sbin/nginx -c $PWD/nginx.conf
for i in $(seq 1000); do [ -s /tmp/nginx.pid ] && break; sleep 0.05; done
old=$(cat /tmp/nginx.pid)
read go
kill -USR2 $old
for i in $(seq 1000); do [ -s /tmp/nginx.pid ] && [ -s /tmp/nginx.pid.oldbin ] && break; sleep 0.05; done
kill -QUIT $old
while kill -0 $old 2>/dev/null; do sleep 0.05; done
echo upgraded $old
read go
kill -QUIT $(cat /tmp/nginx.pid)
while kill -0 $(cat /tmp/nginx.pid 2>/dev/null) 2>/dev/null; do sleep 0.05; done
echo ended
X
	pipe(my $r, my $w);
	my $pid = fork // die;
	if (!$pid) {
		chdir $d;
		open(STDIN, '<&', $r);
		open(STDOUT, '>', "$d/out");
		open(STDERR, '>', "$d/err");
		exec 'timeout', '-k', '5', '60', $COWBELL, 'run', '--monitor', $m, '--with', 'nginx', '-p', "127.0.0.1:$port:8080", '--', 'bash', 'upgrade.sh';
	}
	close $r;
	my $url = "http://127.0.0.1:$port/";
	my ($code, $old) = wait_http(undef, $url, 60);
	is($code, 200, "$m nginx -g daemon: answers") or diag slurp("$d/err");
	syswrite $w, "go\n";
	my ($bad, $all, $end) = (0, 0, time + 20);
	while (slurp("$d/out") !~ /upgraded/ && time < $end) {
		my ($c) = http($url);
		$all++;
		$bad++ if $c != 200;
	}
	like(slurp("$d/out"), qr/upgraded/, "$m nginx: upgraded while it runs") or diag substr(slurp("$d/err"), -2000);
	is($bad, 0, "$m nginx: none of $all requests failed meanwhile");
	my ($c, $new) = http($url);
	ok($c == 200 && $new ne $old, "$m nginx: a worker of the new master answers ($old, now $new)");
	syswrite $w, "go\n";
	close $w;
	waitpid $pid, 0;
	is($? >> 8, 0, "$m nginx: and ends") or diag substr(slurp("$d/err"), -2000);
}

sub gunicorn {
	my ($m) = @_;
	my ($d, $port) = (scratch(), free_port());
	spew("$d/app.py", <<'X');
import os, signal
def app(env, start):
    if env['PATH_INFO'] == '/die':
        os.kill(os.getpid(), signal.SIGKILL)
    start('200 OK', [('Content-Type', 'text/plain')])
    return [str(os.getpid()).encode()]
X
	my $g = start_guest({dir => $d}, $COWBELL, 'run', '--monitor', $m, '-m', '1G', '-p', "127.0.0.1:$port:8080", '--', '/usr/bin/gunicorn', '-w', '3', '-b', '0.0.0.0:8080', 'app:app');
	my $url = "http://127.0.0.1:$port";
	my ($code) = wait_http($g, "$url/", 60);
	is($code, 200, "$m gunicorn: answers") or diag substr(slurp($g->{err}), -2000);
	no_errors_of_wrk($m, 'gunicorn', "$url/");
	my %all;
	eventually(15, sub { %all = (%all, %{pids("$url/", 5)}); keys %all >= 2 });
	cmp_ok(scalar keys %all, '>=', 2, "$m gunicorn: several workers answer");
	http("$url/die");
	ok(eventually(60, sub { my $now = pids("$url/", 3); grep { !$all{$_} } keys %$now }), "$m gunicorn: a worker that was killed is replaced") or diag substr(slurp($g->{err}), -1500);
	is(stop_guest($g, 'TERM', 35), 0, "$m gunicorn: ends on SIGTERM") or diag substr(slurp($g->{err}), -2000);
}

sub php_fpm {
	my ($m) = @_;
	my ($d, $port) = (scratch(), free_port());
	my ($fpm) = map { m{([^/]+)$} } glob('/usr/sbin/php-fpm8*');
	mkdir "$d/www";
	spew("$d/www/index.php", '<?php echo "hello from php-fpm ", getmypid() > 0 ? "ok" : "", " ", $_SERVER["REQUEST_URI"], " ", trim(shell_exec("echo sub | tr a-z A-Z"));');
	spew("$d/fpm.conf", "[global]\nerror_log = /dev/stderr\ndaemonize = no\n[www]\nuser = www-data\ngroup = www-data\nlisten = /tmp/fpm.sock\nlisten.mode = 0666\npm = static\npm.max_children = 3\n");
	spew("$d/nginx.conf", <<"C");
daemon off; worker_processes 2; error_log stderr; pid /tmp/nginx.pid; user www-data;
events { worker_connections 128; }
http { access_log off; root $d/www; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
  server { listen 8080; location / { fastcgi_pass unix:/tmp/fpm.sock; include /etc/nginx/fastcgi_params; fastcgi_param SCRIPT_FILENAME \$document_root/index.php; } } }
C
	chmod 0755, $d;
	spew("$d/start.sh", "$fpm --nodaemonize --fpm-config \$PWD/fpm.conf &\nfor i in \$(seq 1000); do [ -S /tmp/fpm.sock ] && break; sleep 0.05; done\nexec nginx -c \$PWD/nginx.conf\n");
	my $g = start_guest({dir => $d}, $COWBELL, 'run', '--monitor', $m, '-m', '1G', '--with', "nginx,$fpm", '-p', "127.0.0.1:$port:8080", '--', 'sh', 'start.sh');
	my ($code, $body) = wait_http($g, "http://127.0.0.1:$port/x", 60);
	($code, $body) = http("http://127.0.0.1:$port/x") if $code != 200;
	is("$code $body", '200 hello from php-fpm ok /x SUB', "$m php-fpm behind nginx in one instance") or diag substr(slurp($g->{err}), -2000);
	no_errors_of_wrk($m, 'php-fpm', "http://127.0.0.1:$port/");
	isnt(stop_guest($g), 'stuck', "$m php-fpm and nginx: end on SIGTERM");
}

sub apache {
	my ($m) = @_;
	my ($d, $port) = (scratch(), free_port());
	mkdir "$d/cgi";
	spew("$d/index.html", "hello from apache\n");
	spew("$d/cgi/env.sh", "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\necho cgi \$REQUEST_METHOD \$(echo x | wc -c)\n");
	chmod 0755, $d, "$d/cgi", "$d/cgi/env.sh";
	spew("$d/httpd.conf", <<"C");
ServerRoot /usr/lib/apache2
LoadModule mpm_prefork_module modules/mod_mpm_prefork.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule alias_module modules/mod_alias.so
LoadModule cgi_module modules/mod_cgi.so
ServerName localhost
Listen 8080
PidFile /tmp/httpd.pid
DefaultRuntimeDir /tmp
ErrorLog /dev/stderr
DocumentRoot $d
User www-data
Group www-data
StartServers 4
ScriptAlias /cgi/ $d/cgi/
C
	my $g = start_guest({dir => $d}, $COWBELL, 'run', '--monitor', $m, '-p', "127.0.0.1:$port:8080", '--', 'apache2', '-f', "$d/httpd.conf", '-D', 'FOREGROUND');
	my ($code, $body) = wait_http($g, "http://127.0.0.1:$port/index.html", 60);
	is("$code $body", "200 hello from apache\n", "$m apache2 prefork: a page") or diag substr(slurp($g->{err}), -2000);
	($code, $body) = http("http://127.0.0.1:$port/cgi/env.sh");
	is("$code $body", "200 cgi GET 2\n", "$m apache2: a CGI script") or diag substr(slurp($g->{err}), -2000);
	no_errors_of_wrk($m, 'apache2', "http://127.0.0.1:$port/index.html");
	is(stop_guest($g), 0, "$m apache2: ends on SIGTERM") or diag substr(slurp($g->{err}), -1000);
}

sub redis {
	my ($m) = @_;
	my ($d, $port) = (scratch(), free_port());
	my @run = ($COWBELL, 'run', '--monitor', $m, '-m', '1G', '-p', "127.0.0.1:$port:6379", '-v', "$d:/data", '--', 'redis-server', '--dir', '/data',
		'--protected-mode', 'no', '--bind', '0.0.0.0', '--save', '', '--appendonly', 'yes', '--appendfsync', 'always', '--enable-debug-command', 'yes');
	my $cli = "redis-cli -p $port";
	my $up = sub { eventually(60, sub { `$cli ping 2>/dev/null` eq "PONG\n" }) };
	my $g = start_guest({}, @run);
	ok($up->(), "$m redis: up") or diag substr(slurp($g->{out}), -2000), slurp($g->{err});
	`$cli debug populate 20000 key 100`;
	`$cli set k before`;
	like(`$cli bgsave`, qr/started/, "$m redis: BGSAVE");
	`$cli set k during`;
	ok(eventually(60, sub { `$cli info persistence` =~ /rdb_bgsave_in_progress:0/ }), "$m redis: it ends");
	like(`$cli info persistence`, qr/rdb_last_bgsave_status:ok/, "$m redis: well");
	cmp_ok(-s "$d/dump.rdb", '>', 500_000, "$m redis: the dump is on the volume");
	like(`$cli bgrewriteaof`, qr/started/, "$m redis: BGREWRITEAOF");
	`$cli set n $_` for 1 .. 20;
	ok(eventually(60, sub { `$cli info persistence` =~ /aof_rewrite_in_progress:0/ }), "$m redis: it ends");
	like(`$cli info persistence`, qr/aof_last_bgrewrite_status:ok/, "$m redis: well");
	kill 'KILL', $g->{pid};
	stop_guest($g, 'KILL');
	$g = start_guest({}, @run);
	ok($up->(), "$m redis: up again after the monitor was killed");
	is(`$cli get k` . `$cli get n` . `$cli dbsize`, "during\n20\n20002\n", "$m redis: everything is there");
	is(stop_guest($g), 0, "$m redis: ends on SIGTERM") or diag substr(slurp($g->{out}), -500);
}

my @all = (
	[nginx => \&nginx, 'nginx'], [upgrade => \&upgrade, 'nginx'], [gunicorn => \&gunicorn, '/usr/bin/gunicorn'],
	[php_fpm => \&php_fpm, 'nginx', (map { m{([^/]+)$} } glob('/usr/sbin/php-fpm8*'))[0] // 'php-fpm'], [apache => \&apache, 'apache2'],
	[redis => \&redis, 'redis-server', 'redis-cli'],
);
for my $m (monitors()) {
	for my $s (@all) {
		my ($name, $run, @need) = @$s;
		next if $ENV{COWBELL_SERVER} && $ENV{COWBELL_SERVER} ne $name;
		SKIP: {
			skip("$m $name: not installed", 1) unless have(@need);
			$run->($m);
		}
	}
}
done_testing();
