#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Servers of many languages: each is found ready by itself, snapshotted, and restored twice under every monitor, where it answers
# right. Then what "ready" is: markers (sd_notify, /proc/cowbell/ready), threads, timers, connections of its own, datagrams,
# several ports, and programs that never are.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(sleep time);

my $address = own_network();
plan skip_all => 'needs curl and python3' unless have('curl', 'python3');
my $dir = scratch();
my $apps = "$TOP/tests/apps";
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
$ENV{XDG_STATE_HOME} = "$dir/state";
mkdir "$dir/$_" for qw(snap app java www tmp go);
my @monitors = monitors();
my $python = `python3 -c 'import sys; print(sys.executable)'`;
chomp $python;
my @only = split /,/, $ENV{ONLY} // '';

sub ask { # a line to a port, all that comes back within a second
	my ($port, $text) = @_;
	my ($end, $got) = (time + 10, '');
	while (time < $end) {
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port);
		if ($s) {
			syswrite($s, $text);
			my $rin = '';
			vec($rin, fileno($s), 1) = 1;
			return $got if select($rin, undef, undef, 3) && sysread($s, $got, 1000);
		}
		sleep 0.05;
	}
	return '';
}
my $web = sub { my ($g, $port) = @_; my ($code, $body) = wait_http($g, "http://127.0.0.1:$port/"); return "$code $body" };

spew("$dir/app/s.py", <<'PY');
import http.server, os
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        b = b"hello from python"; self.send_response(200); self.send_header("Content-Length", str(len(b))); self.end_headers(); self.wfile.write(b)
    def log_message(self, *a): pass
http.server.ThreadingHTTPServer(("", 8080), H).serve_forever()
PY
spew("$dir/app/aio.py", <<'PY');
import asyncio
async def one(r, w):
    await r.readline(); w.write(b"HTTP/1.0 200 OK\r\nContent-Length: 19\r\n\r\nhello from asyncio!"); await w.drain(); w.close()
async def beat():
    while True:
        await asyncio.sleep(1)
async def main():
    asyncio.create_task(beat())
    async with await asyncio.start_server(one, "", 8080) as s:
        await s.serve_forever()
asyncio.run(main())
PY
spew("$dir/app/s.js", 'require("http").createServer((q, r) => r.end("hello from node")).listen(8080); setInterval(() => {}, 1000);');
spew("$dir/app/s.rb", <<'RB');
require "socket"
s = TCPServer.new("0.0.0.0", 8080)
Thread.new { loop { sleep 0.5 } }
loop { c = s.accept; c.gets; c.write "HTTP/1.0 200 OK\r\nContent-Length: 15\r\n\r\nhello from ruby"; c.close }
RB
spew("$dir/www/index.php", '<?php echo "hello from php";');
spew("$dir/app/s.pl", <<'PL');
use IO::Socket::INET;
my $s = IO::Socket::INET->new(Listen => 5, LocalPort => 8080, ReuseAddr => 1) or die;
while (my $c = $s->accept) { <$c>; print $c "HTTP/1.0 200 OK\r\nContent-Length: 15\r\n\r\nhello from perl"; close $c }
PL
spew("$dir/app/s.lua", <<'LUA');
local socket = require("socket")
local s = assert(socket.bind("*", 8080))
while true do local c = s:accept(); c:receive(); c:send("HTTP/1.0 200 OK\r\nContent-Length: 14\r\n\r\nhello from lua"); c:close() end
LUA
spew("$dir/go/main.go", <<'GO');
package main

import (
	"fmt"
	"net/http"
)

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello from go") })
	http.ListenAndServe(":8080", nil)
}
GO
spew("$dir/java/S.java", <<'JAVA');
import com.sun.net.httpserver.*;
import java.net.*;
public class S {
	public static void main(String[] a) throws Exception {
		HttpServer s = HttpServer.create(new InetSocketAddress(8080), 0);
		s.createContext("/", x -> { byte[] b = "hello from java".getBytes(); x.sendResponseHeaders(200, b.length); x.getResponseBody().write(b); x.close(); });
		s.start();
	}
}
JAVA
spew("$dir/www/nginx.conf", "daemon off; master_process off; error_log stderr; pid /tmp/nginx.pid;\nevents { }\nhttp { access_log off; server { listen 8080; root $dir/www; index t.html; } }\n");
spew("$dir/www/t.html", 'hello from nginx');
system("cc -O1 -o '$dir/hello_server' '$TOP/bench/hello_server.c' 2>/dev/null") if have('cc') && -e "$TOP/bench/hello_server.c";

my @servers = (
	{name => 'python', need => [], cmd => [$python, "$dir/app/s.py"]},
	{name => 'asyncio', need => [], cmd => [$python, "$dir/app/aio.py"], want => qr/^200 hello from asyncio!$/},
	{name => 'node', need => ['node'], cmd => ['node', "$dir/app/s.js"]},
	{name => 'ruby', need => ['ruby'], cmd => ['ruby', "$dir/app/s.rb"]},
	{name => 'php', need => ['php'], dir => "$dir/www", cmd => ['php', '-S', '0.0.0.0:8080']},
	{name => 'perl', need => ['perl'], cmd => ['perl', "$dir/app/s.pl"]},
	{name => 'lua', need => ['lua5.4'], ok => sub { !system("lua5.4 -e 'require(\"socket\")' 2>/dev/null") }, cmd => ['lua5.4', "$dir/app/s.lua"]},
	{name => 'go', need => ['go'], ok => sub { local $ENV{GOCACHE} = "$dir/gocache"; local $ENV{CGO_ENABLED} = 0; !system("cd '$dir/go' && HOME='$dir' go build -o ../app/go main.go 2>/dev/null") },
		cmd => ["$dir/app/go"]},
	{name => 'java', need => ['java', 'javac'], ok => sub { !system("cd '$dir/java' && javac S.java 2>/dev/null") }, dir => "$dir/java", cmd => ['java', '-cp', '.', 'S'], mem => '1G'},
	{name => 'nginx', need => ['nginx'], dir => "$dir/www", cmd => ['nginx', '-c', "$dir/www/nginx.conf"]},
	{name => 'redis', need => ['redis-server'], port => 6379, cmd => ['redis-server', '--protected-mode', 'no', '--save', ''],
		get => sub { ask($_[1], "INCR n\r\n") . ask($_[1], "PING\r\n") }, want => qr/^:1\r\n\+PONG\r\n$/},
	{name => 'memcached', need => ['memcached'], port => 11211, cmd => ['memcached', '-u', 'root', '-l', '0.0.0.0', '-m', '32'],
		get => sub { ask($_[1], "set a 0 0 5\r\nhello\r\n") . ask($_[1], "get a\r\n") }, want => qr/^STORED\r\nVALUE a 0 5\r\nhello\r\nEND\r\n$/},
);

for my $s (@servers) {
	next if @only && !grep { $_ eq $s->{name} } @only;
	SKIP: {
		skip "$s->{name}: not installed", 1 if !have(@{$s->{need}}) || ($s->{ok} && !$s->{ok}->());
		my ($get, $inner) = ($s->{get} // $web, $s->{port} // 8080);
		my $want = $s->{want} // qr/^200 hello from $s->{name}$/;
		for my $from (@monitors) {
			my $snap = "$dir/snap/$s->{name}.$from";
			my $start = time;
			my ($st, $out, $err) = run_out({timeout => 60, dir => $s->{dir} // "$dir/tmp"}, $COWBELL, 'run', '--monitor', $from, $s->{mem} ? ('-m', $s->{mem}) : (), '-p', "127.0.0.1:0:$inner",
				'--snapshot-at', 'ready', '--snapshot-stop', '-o', $snap, '--', @{$s->{cmd}});
			ok(-s $snap, sprintf("%s, %s: found ready and taken after %.2f s", $s->{name}, $from, time - $start)) or diag substr("$out$err", -1500);
			for my $to (@monitors) {
				for my $copy (1, 2) {
					my $port = free_port();
					my $g = start_guest({}, $COWBELL, 'run', '--monitor', $to, '-p', "127.0.0.1:$port:$inner", '--snapshot', $snap);
					my $got = $get->($g, $port);
					like($got, $want, "$s->{name}, $from to $to: copy $copy answers") or diag substr(slurp($g->{err}), -1500);
					$got = $get->($g, $port) if !$s->{get};
					like($got, $want, "$s->{name}, $from to $to: copy $copy answers again");
					isnt(stop_guest($g), 'stuck', "$s->{name}, $from to $to: copy $copy ends on SIGTERM");
				}
			}
		}
	}
}

# --- what is ready -----------------------------------------------------------------------------------------

my $common = <<'PY';
import os, select, socket, struct, sys, threading, time
def listen(port):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(("", port)); s.listen(5); return s
def serve(s, text):
    while True:
        c, a = s.accept(); c.sendall(text.encode() + b"\n"); c.close()
def notify(text, how="sendto"):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    a = os.environ["NOTIFY_SOCKET"]
    a = "\0" + a[1:] if a[0] == "@" else a
    if how == "connect":
        s.connect(a); s.sendall(text)
    else:
        s.sendto(text, a)
state = "early"
PY
my @ready = (
	['sd_notify', 1, 'done', 'notify(b"STATUS=loading"); s = listen(8080); time.sleep(1); state = "done"; notify(b"STATUS=x\nREADY=1\nMAINPID=1"); serve(s, state)'],
	['sd_notify, connected', 1, 'done', 'notify(b"STOPPING=0", "connect"); s = listen(8080); time.sleep(0.7); state = "done"; notify(b"READY=1\n", "connect"); serve(s, state)'],
	['the file', 1, 'done', 'open("/proc/cowbell/ready", "w").write("0"); s = listen(8080); time.sleep(0.7); state = "done"; open("/proc/cowbell/ready", "w").write("1\n"); serve(s, state)'],
	['a marker of who never listens', 1, '', 'state = "done"; time.sleep(0.2); notify(b"READY=1"); time.sleep(100)'],
	['a marker after connections', 1, 'done', 'open("/proc/cowbell/ready", "w").write("0"); s = listen(8080); i = socket.create_connection(("127.0.0.1", 8080)); s.accept(); state = "done"; notify(b"READY=1"); serve(s, state)'],
	['threads that wait', 1, 'done', '[threading.Thread(target=threading.Event().wait, daemon=True).start() for i in range(8)]; time.sleep(0.3); state = "done"; serve(listen(8080), state)'],
	['a thread with a short timer', 1, 'done', "def tick():\n    while True: time.sleep(0.005)\nthreading.Thread(target=tick, daemon=True).start(); state = 'done'; serve(listen(8080), state)"],
	['work after listen', 1, 'done', "s = listen(8080)\nend = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass\nstate = 'done'; serve(s, state)"],
	['not forwarded', 1, '', 'state = "done"; serve(listen(9999), state)', 'no port'],
	['datagrams only', 1, '', 'u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("", 8080)); time.sleep(0.2); u.recvfrom(100)'],
	['a connection that it dialled', 1, 'done', 'd = socket.create_connection((sys.argv[1], int(sys.argv[2]))); d.sendall(b"hello"); threading.Thread(target=d.recv, args=(10,), daemon=True).start(); state = "done"; serve(listen(8080), state)', 'dial'],
	['two ports, one after the other', 1, 'second', 's = listen(8080); time.sleep(0.3); state = "second"; t = listen(8081); threading.Thread(target=serve, args=(t, "other"), daemon=True).start(); serve(s, state)', 'two ports'],
	['who never listens', 0, '', 'time.sleep(100)'],
	['who says that it will tell', 0, '', 'open("/proc/cowbell/ready", "w").write("0"); serve(listen(8080), "x")'],
	['who computes', 0, '', "s = listen(8080)\nwhile True: pass"],
);
my $peer = $address && IO::Socket::INET->new(Listen => 50, LocalAddr => $address);
for my $r (@ready) {
	my ($name, $is, $want, $code, $how) = (@$r, '');
	next if @only && !grep { $_ eq 'ready' } @only;
	next if $how eq 'dial' && !$peer;
	for my $m (@monitors) {
		my $snap = "$dir/snap/ready";
		unlink $snap;
		spew("$dir/app/ready.py", "$common$code\n");
		my @ports = $how eq 'no port' ? () : $how eq 'two ports' ? ('-p', '127.0.0.1:0:8080', '-p', '127.0.0.1:0:8081') : ('-p', '127.0.0.1:0:8080');
		my ($st, $out, $err) = run_out({timeout => $is ? 10 : 2.5}, $COWBELL, 'run', '--monitor', $m, @ports, '--snapshot-at', 'ready', '--snapshot-stop', '-o', $snap,
			$python, "$dir/app/ready.py", $peer ? ($address, $peer->sockport) : ());
		is(-s $snap ? 1 : 0, $is, "$m: ready: $name") or diag "$out$err";
		next if !$want || !-s $snap;
		my $port = free_port();
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-p', "127.0.0.1:$port:8080", '--snapshot', $snap);
		is(ask($port, ''), "$want\n", "$m: ready: $name: not too early") or diag slurp($g->{err});
		stop_guest($g);
	}
}
SKIP: {
	skip 'no libsystemd', 1 if (@only && !grep { $_ eq 'ready' } @only) || !have('cc');
	spew("$dir/app/sd.c", <<'C');
#include <stdio.h>
#include <unistd.h>
int sd_notify(int unset, const char *state);
int main(void)
{
	sd_notify(0, "STATUS=loading"), usleep(300000);
	printf("%d\n", sd_notify(0, "READY=1")), fflush(stdout);
	pause();
}
C
	system("cc -w -o '$dir/app/sd' '$dir/app/sd.c' -l:libsystemd.so.0 2>/dev/null") == 0 or skip 'no libsystemd', 1;
	for my $m (@monitors) {
		my ($st, $out, $err) = run_out({timeout => 10}, $COWBELL, 'run', '--monitor', $m, '--snapshot-at', 'ready', '--snapshot-stop', '-o', "$dir/snap/sd.$m", "$dir/app/sd");
		ok(-s "$dir/snap/sd.$m", "$m: ready: sd_notify(3) itself") or diag "$st $out$err";
	}
}
done_testing;
