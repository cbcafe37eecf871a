#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# A running app with open files, timers, threads, a UDP port and connections in and out is moved between the monitors and
# back, several times, under load: not one request fails, none is answered twice, no connection is closed. A move that
# cannot be, or that is killed on its way, leaves the instance where it was.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use IO::Socket::INET;
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

my $address = own_network();
plan skip_all => 'needs python3' unless have('python3');
my $dir = scratch();
$ENV{"XDG_${_}_HOME"} = "$dir/" . lc $_ for qw(DATA CACHE STATE);
mkdir "$dir/$_" for qw(app vol);

spew("$dir/app/app.py", <<'PY');
import http.server, json, os, select, signal, socket, sys, threading, time
lock, n, ticks, alarms, piped = threading.Lock(), 0, 0, 0, 0
log, gone = open("/tmp/log", "a+"), open("/vol/gone", "w+")
os.unlink("/vol/gone")
kept = open("/vol/kept", "a")
out = socket.create_connection((sys.argv[1], int(sys.argv[2]))) if len(sys.argv) > 2 else None
def tick():
    global ticks
    while True:
        time.sleep(0.005)
        ticks += 1
def alarm(*a):
    global alarms
    alarms += 1
r, w = os.pipe()
def pipes():
    global piped
    while True:
        piped += len(os.read(r, 100))
def poller():
    p = select.epoll()
    while True:
        p.poll(0.01)
        os.write(w, b"x")
def datagrams():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind(("", 8000))
    while True:
        data, peer = s.recvfrom(2000)
        s.sendto(data, peer)
signal.signal(signal.SIGALRM, alarm)
signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
for f in tick, pipes, poller, datagrams:
    threading.Thread(target=f, daemon=True).start()
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        global n
        if self.path == "/big":
            return self.answer(b"0123456789abcdef" * 262144)
        with lock:
            n += 1
            mine = n
            for f in log, gone, kept:
                f.write("x")
                f.flush()
            echo = ""
            if out:
                out.sendall(b"%8d" % mine)
                while len(echo) < 8:
                    more = out.recv(8 - len(echo)).decode()
                    if not more:
                        break
                    echo += more
        self.answer(json.dumps(dict(n=mine, ticks=ticks, alarms=alarms, piped=piped, pid=os.getpid(), log=os.fstat(log.fileno()).st_size,
            gone=os.fstat(gone.fileno()).st_size, echo=echo.strip(), threads=threading.active_count(), env=os.environ.get("WORD"),
            gen=open("/proc/cowbell/generation").read().strip())).encode())
    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"]))[::-1])
    def log_message(self, *a):
        pass
class S(http.server.ThreadingHTTPServer):
    request_queue_size = 256
print("up", flush=True)
S(("", 8000), H).serve_forever()
PY

# Clients: `new` makes a connection for each request, `kept` one for all, `post` sends its body in bits, `big` reads slowly,
# `udp` counts what comes back. Ends when its standard input does; prints what happened.
spew("$dir/clients.py", <<'PY');
import http.client, json, socket, sys, threading, time
port, stop, lock = int(sys.argv[1]), False, threading.Lock()
count, errors, seen = {}, [], []
def client(kind, one):
    def run():
        state = {}
        while not stop:
            try:
                one(state)
                with lock:
                    count[kind] = count.get(kind, 0) + 1
            except Exception as e:
                with lock:
                    errors.append("%s: %r" % (kind, e))
                return
    return run
def get(c):
    c.request("GET", "/")
    r = c.getresponse()
    j = json.loads(r.read())
    assert r.status == 200 and (not j["echo"] or int(j["echo"]) == j["n"]), j
    with lock:
        seen.append(j["n"])
def new(state):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    get(c)
    c.close()
def kept(state):
    if "c" not in state:
        state["c"] = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        state["c"].connect()
        state["c"].auto_open = 0
    get(state["c"])
    time.sleep(0.003)
def post(state):
    s = socket.create_connection(("127.0.0.1", port), timeout=20)
    s.sendall(b"POST / HTTP/1.0\r\nContent-Length: 60\r\n\r\n")
    for i in range(6):
        s.sendall(b"%010d" % i)
        time.sleep(0.02)
    data = b""
    while True:
        more = s.recv(4096)
        if not more:
            break
        data += more
    assert data.endswith(b"".join(b"%010d" % i for i in range(6))[::-1]), data
    s.close()
def big(state):
    s = socket.create_connection(("127.0.0.1", port), timeout=20)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    s.sendall(b"GET /big HTTP/1.1\r\nConnection: close\r\n\r\n")
    data = b""
    while True:
        more = s.recv(65536)
        if not more:
            break
        data += more
        time.sleep(0.001)
    assert data.split(b"\r\n\r\n", 1)[1] == b"0123456789abcdef" * 262144, len(data)
    s.close()
def udp(state):
    if "s" not in state:
        state.update(s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM), i=0)
        state["s"].connect(("127.0.0.1", port))
        state["s"].settimeout(20)
    state["i"] += 1
    state["s"].send(b"%d" % state["i"])
    assert int(state["s"].recv(100)) == state["i"]
    time.sleep(0.002)
threads = [threading.Thread(target=client(k.__name__, k)) for k, times in ((new, 6), (kept, 4), (post, 3), (big, 1), (udp, 1)) for i in range(times)]
for t in threads:
    t.start()
print("go", flush=True)
sys.stdin.read()
stop = True
for t in threads:
    t.join()
print(json.dumps(dict(count=count, errors=errors, unique=len(set(seen)) == len(seen), n=len(seen))))
PY

sub cow { return run_out({timeout => 60, dir => "$dir/app"}, $COWBELL, @_) }
sub row { my ($st, $out) = cow('ps', '--json'); return (grep { $_->{name} eq $_[0] } @{decode_json($out || '[]')})[0] // {} }
sub state_of { my ($c, $body) = wait_http(undef, "http://127.0.0.1:$_[0]/", 10); return eval { decode_json($body) } // {} }

my @m = monitors();
my @to = @m > 1 ? (@m[1, 0], @m[1, 0], @m[1, 0]) : (@m[0, 0]);
my $port = free_port();
my $echo;
if ($address) { # the instance's own connection outwards
	my $l = IO::Socket::INET->new(Listen => 5, LocalAddr => $address) or die "listen: $!";
	$echo = $l->sockport;
	if (!fork) {
		my $c = $l->accept;
		while (sysread($c, my $b, 4096)) { syswrite $c, $b }
		POSIX::_exit(0);
	}
}
my ($st, $out, $err) = cow('run', '-d', '--monitor', $m[0], '--name', 'app', '-p', "127.0.0.1:$port:8000", '-v', "$dir/vol:/vol", '-e', 'WORD=kept',
	'--timeout', '10m', '--egress', $echo ? "$address:$echo" : 'none', 'python3', 'app.py', $echo ? ($address, $echo) : ());
is($st, 0, 'it starts') or diag $err;
chomp(my $id = $out);
my $before = state_of($port);
is($before->{n}, 1, 'it answers') or diag((cow('logs', 'app'))[1]);
my $started = row('app')->{started};

pipe(my $rd, my $go);
my $clients = fork // die $!;
if (!$clients) {
	open STDIN, '<&', $rd;
	close $go;
	open STDOUT, '>', "$dir/clients.out";
	exec 'python3', "$dir/clients.py", $port;
}
close $rd;
for (1 .. 500) { last if slurp("$dir/clients.out") =~ /go/; sleep 0.02 }
for my $to (@to) {
	sleep 0.4;
	($st, $out, $err) = cow('move', 'app', '--monitor', $to, '--json');
	is($st, 0, "moved to $to under load") or diag $err;
	my $j = eval { decode_json($out) } // {};
	is_deeply([@$j{qw(id name to)}], [$id, 'app', $to], "to $to: ID and name");
	diag sprintf('to %s: paused %.1f ms', $to, $j->{paused_ms} // -1) if $ENV{TEST_VERBOSE};
	my $r = row('app');
	is_deeply([@$r{qw(id monitor pid detached volumes)}, $r->{ports}[0]{host}], [$id, $to, $j->{pid}, JSON::PP::true, 1, $port], "to $to: ps");
	ok(abs($r->{started} - $started) < 0.5, "to $to: it runs since it was started");
}
sleep 0.4;
close $go;
waitpid $clients, 0;
my ($last) = slurp("$dir/clients.out") =~ /^(\{.*\})$/m;
my $res = eval { decode_json($last // '') } // {};
is_deeply($res->{errors}, [], 'not one request failed');
ok($res->{unique}, 'none was answered twice');
cmp_ok($res->{count}{$_} // 0, '>', 3, "clients: $_") for qw(new kept post big udp);
diag "requests: " . join(' ', map { "$_ $res->{count}{$_}" } sort keys %{$res->{count} // {}}) if $ENV{TEST_VERBOSE};
my $after = state_of($port);
is($after->{n}, $res->{n} + 2, 'each request was counted once');
is_deeply([@$after{qw(log gone)}, -s "$dir/vol/kept"], [($after->{n}) x 3], 'its files in memory, its unlinked file of a volume and another have all that was written');
is_deeply([@$after{qw(pid threads env gen)}], [@$before{qw(pid threads env gen)}], 'PID, threads, environment, generation are the same');
cmp_ok($after->{$_}, '>', $before->{$_} + 20, "$_ went on") for qw(ticks alarms piped);
my $again = state_of($port);
is($again->{pid}, $after->{pid}, 'and it goes on');
is((cow('logs', 'app'))[1], "up\n", 'its log is the same, without anything of ours');

# what is not moved
($st, $out, $err) = cow('move', 'nobody');
is($st, 127, 'nothing to move');
($st, $out, $err) = cow('move', 'app', '--monitor', 'xen');
is($st, 125, 'no such monitor');
my $g = start_guest({dir => "$dir/app"}, $COWBELL, 'run', '--name', 'front', '-p', '127.0.0.1:0:8000', '-v', "$dir/vol:/vol", 'python3', 'app.py');
for (1 .. 500) { last if slurp($g->{out}) =~ /up/; sleep 0.02 }
($st, $out, $err) = cow('move', 'front');
is($st, 125, 'one in the foreground is not moved');
like($err, qr/runs in the foreground.*run -d/, 'and why');
is(stop_guest($g), 143, 'it has not noticed');

# killed on its way: the old one goes on, or the new one runs; never none and never both
my $kept = state_of($port);
my %monitors;
for my $i (1 .. 16) {
	my $p = start_guest({dir => "$dir/app"}, $COWBELL, 'move', 'app', '--monitor', $to[$i % 2]);
	sleep 0.0025 * $i;
	stop_guest($p, 'KILL');
	my $s = state_of($port);
	is($s->{n}, $kept->{n} + $i, "killed after " . 2.5 * $i . ' ms: it answers') or diag((cow('ps'))[1]);
	$monitors{row('app')->{monitor} // 'none'}++;
}
ok(!$monitors{none}, 'one instance each time: ' . join(' ', map { "$_ $monitors{$_}" } sort keys %monitors));
my @all = grep { $_->{name} eq 'app' } @{decode_json((cow('ps', '--json'))[1])};
is(scalar(@all), 1, 'there is one instance of the name');

# while it is moved it is asked to stop
for my $i (1 .. 3) {
	my $p = start_guest({dir => "$dir/app"}, $COWBELL, 'move', 'app', '--monitor', $to[$i % 2]);
	sleep 0.01 * $i;
	($st, $out, $err) = cow('ps', '-q') if $i < 3;
	($st, $out, $err) = cow('stop', 'app') if $i == 3;
	is($st, 0, $i == 3 ? 'stop in the middle of a move' : 'ps in the middle of a move') or diag $err;
	stop_guest($p, 0);
}
is(row('app')->{id}, undef, 'it has ended');
my ($old) = grep { $_->{id} eq $id } @{decode_json((cow('ps', '-a', '--json'))[1])};
is($old->{status}, 143, 'with its status, though it ended elsewhere than where it began');
done_testing();
