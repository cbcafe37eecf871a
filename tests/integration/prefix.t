#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Starts that images with the same runtime share: who may go on from one, what it then sees, and that nothing bad can be made of them.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell qw(:DEFAULT cowbell succeeds refused);
use IO::Socket::UNIX;
use Socket qw(SOCK_STREAM);
use Test::More;
use Time::HiRes qw(sleep time);

my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
my $prefixes = "$dir/cache/cowbell/prefix";

sub app {
	my ($name, $text, %files) = @_;
	mkdir "$dir/$name";
	spew("$dir/$name/requirements.txt", '');
	spew("$dir/$name/Procfile", "web: python3 app.py\nloud: sh -c 'echo before; exec python3 app.py'\nfamily: sh -c 'sleep 300 & true; python3 app.py; true'\n");
	spew("$dir/$name/$_", $files{$_}) for keys %files;
	spew("$dir/$name/app.py", <<"PY");
import http.server, json, os, random, sys, time, uuid
TEXT = '$text'
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        st = os.stat('/app')
        b = json.dumps({'text': TEXT, 'list': sorted(os.listdir('/app')), 'cwd': os.getcwd(), 'home': os.listdir('.') == os.listdir(os.environ['HOME']),
                        'size': os.path.getsize('/app/app.py'), 'data': open('data').read() if os.path.exists('data') else None,
                        'urandom': os.urandom(8).hex(), 'uuid': str(uuid.uuid4()), 'random': random.random(), 'uid': st.st_uid,
                        'boot_id': open('/proc/sys/kernel/random/boot_id').read(), 'time': time.time(), 'mono': time.monotonic(),
                        'generation': open('/proc/cowbell/generation').read().strip(), 'id': open('/proc/cowbell/id').read(),
                        'env': os.environ.get('X'), 'host': os.uname().nodename, 'pid': os.getpid(), 'cpus': os.cpu_count(),
                        'written': write()}).encode()
        self.send_response(200); self.send_header('Content-Length', str(len(b))); self.end_headers(); self.wfile.write(b)
    def log_message(self, *a): pass
def write():
    with open('/app/new', 'w') as f: f.write('n')
    return open('/app/new').read() + str(os.path.exists('/app/nothing'))
http.server.HTTPServer(('', int(os.environ['PORT'])), H).serve_forever()
PY
	my ($st, $out, $err) = cowbell('build', '-t', $name, "$dir/$name");
	plan(skip_all => "no image can be built here: $err") if $st;
}

# How it started, what it answered, and what it wrote.
sub run_app {
	my ($m, $image, @options) = @_;
	my $sock = "$dir/s";
	unlink $sock;
	local $^F = 1000;
	pipe(my $r, my $w) or die;
	my $g = start_guest({}, 'perl', '-MPOSIX', '-e', 'POSIX::dup2(shift, 9); exec @ARGV', fileno($w), $COWBELL, 'run', '--monitor', $m, '--notify-fd', 9,
		'-p', "unix:$sock:8080", @options, "image:$image");
	close $w;
	my $how = <$r> // '';
	my $listening = <$r> // '';
	my $c = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => $sock);
	my $answer = '';
	if ($c) {
		print $c "GET / HTTP/1.0\r\n\r\n";
		$c->flush;
		local $/;
		$answer = <$c> // '';
	}
	sleep 0.02;
	stop_guest($g, 'TERM');
	my %a = $answer =~ /"(\w+)": ("(?:[^"\\]|\\.)*"|\[[^]]*\]|[^,}]*)/g;
	return ($how =~ /^how (\w+)/ ? $1 : '?', \%a, slurp($g->{out}) . slurp($g->{err}));
}

sub files { return grep { -f } glob("$prefixes/*.snap") }

# Two starts make one that the third goes on from.
sub make {
	my ($m, $image, @options) = @_;
	my $before = files();
	run_app($m, $image, @options) for 1 .. 2;
	for (1 .. 500) { last if files() > $before; sleep 0.02 }
	sleep 0.05;
	return files() > $before;
}

app('one', 'I am one', data => 'data of one');
app('two', 'I am two, and longer', 'other.txt' => 'x', 'zoo.py' => '');
app('three', 'has what is taken for absent', '.config' => 'here');

for my $m (monitors()) {
	my ($how, $a, $out) = run_app($m, 'one');
	is("$how $a->{text}", 'boot "I am one"', "$m: the first start is a boot") or diag($out);
	is(scalar(files()), 0, "$m: once is no reason to keep anything");
	ok(make($m, 'one'), "$m: twice is");
	($how, $a) = run_app($m, 'two');
	is("$how $a->{text}", 'prefix "I am two, and longer"', "$m: another app goes on from it, and is itself");
	is($a->{list}, '["Procfile", "app.py", "other.txt", "requirements.txt", "zoo.py"]', "$m: its own directory");
	is($a->{size}, -s "$dir/two/app.py", "$m: its own file's size");
	is("$a->{data} $a->{cwd} $a->{home} $a->{uid} $a->{written}", 'null "/app" true 1000 "nFalse"', "$m: directory, owner, what it has not, what it writes");
	ok(abs($a->{time} - time) < 5, "$m: the time is right");
	is("$a->{generation} $a->{host}", '"1" "cowbell"', "$m: it looks like a start");
	my ($how1, $b) = run_app($m, 'one');
	is("$how1 $b->{text} $b->{data}", 'prefix "I am one" "data of one"', "$m: and so does the first");
	my (undef, $c) = run_app($m, 'one');
	isnt($b->{$_}, $c->{$_}, "$m: two starts differ in $_") for qw(urandom uuid random boot_id id);

	($how, $a) = run_app($m, 'two', '-e', 'X=1');
	is("$how $a->{env}", 'boot "1"', "$m: not with another environment");
	($how) = run_app($m, 'two', '-m', '256M');
	is($how, 'boot', "$m: nor with another limit of memory");
	my %one = map { $_ => 1 } files();
	($how, $a) = run_app($m, 'two', '--cpus', 2);
	is("$how $a->{cpus}", 'boot 2', "$m: nor with another number of CPUs");
	ok(make($m, 'one', '--cpus', 2), "$m: those have one of their own");
	($how, $a) = run_app($m, 'two', '--cpus', 2);
	is("$how $a->{cpus} $a->{text}", 'prefix 2 "I am two, and longer"', "$m: and go on from it");
	unlink grep { !$one{$_} } files();
	($how) = run_app($m, 'two', '--no-prefix');
	is($how, 'boot', "$m: nor if it is not wanted");
	($how, $a) = run_app($m, 'three');
	like("$how $a->{text}", qr/^boot/, "$m: nor with a name that was taken for absent");
	($how) = run_app($m, 'two', '-v', "$dir/one:/data");
	is($how, 'boot', "$m: nor with a volume");

	# what has an effect before the first look has it at each start
	for (1 .. 4) {
		($how, $a, $out) = run_app($m, 'two', '--process', 'loud');
		like("$how $out", qr/^boot before\n/, "$m: what is written before the first look is written at each start");
	}

	# several processes at the first look
	my %old = map { $_ => 1 } files();
	ok(make($m, 'one', '--process', 'family'), "$m: one of several processes makes one");
	($how, $a, $out) = run_app($m, 'two', '--process', 'family');
	is("$how $a->{text}", 'prefix "I am two, and longer"', "$m: and all of them go on from it") or diag $out;
	is($a->{list}, '["Procfile", "app.py", "other.txt", "requirements.txt", "zoo.py"]', "$m: in their own directory");
	unlink grep { !$old{$_} } files();

	# damage
	my @f = files();
	is(scalar(@f), 1, "$m: one for both");
	my $file = $f[0];
	my $good = slurp($file);
	for my $bad (['one bit', sub { my $s = $good; substr($s, length($s) / 2, 1) ^= "\1"; $s }], ['its half', sub { substr($good, 0, length($good) / 2) }],
		['noise', sub { join '', map { chr(rand 256) } 1 .. 5000 }], ['nothing', sub { '' }], ['its header', sub { my $s = $good; substr($s, 300, 1) ^= "\1"; $s }]) {
		spew($file, $bad->[1]());
		($how, $a) = run_app($m, 'two');
		is("$how $a->{text}", 'boot "I am two, and longer"', "$m: a file with $bad->[0] wrong is not believed");
		my $t = time;
		for (1 .. 300) { last if -s $file; sleep 0.02 }
		ok(-s $file, "$m: it is made again") or diag(time - $t);
		sleep 0.05;
		($how, $a) = run_app($m, 'two');
		is("$how $a->{text}", 'prefix "I am two, and longer"', "$m: and a good one takes its place");
	}
	unlink $file;
	symlink '/etc/passwd', $file;
	($how, $a) = run_app($m, 'two');
	is("$how $a->{text}", 'boot "I am two, and longer"', "$m: links are not followed");
	unlink $file;
	sleep 1;

	# the maker is killed
	succeeds("$m: cache clear", 'cache', 'clear');
	is(scalar(files()), 0, "$m: takes them away");
	run_app($m, 'one');
	for my $wait (0.0, 0.03, 0.06) {
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-p', "unix:$dir/k:8080", 'image:one');
		sleep 0.02 + $wait;
		my %who;
		for (1 .. 50) {
			%who = map { my ($pid) = m{/proc/(\d+)/}; (readlink($_) // '') =~ /\.making/ ? ($pid => 1) : () } glob('/proc/[0-9]*/fd/*');
			last if %who || files();
			sleep 0.005;
		}
		kill 'KILL', keys %who;
		stop_guest($g, 'TERM');
		($how, $a) = run_app($m, 'one');
		is($a->{text}, '"I am one"', "$m: a maker that is killed does no harm ($how)");
	}
	ok((files() || make($m, 'one')), "$m: and in the end there is one");
	($how, $a) = run_app($m, 'two');
	is($a->{text}, '"I am two, and longer"', "$m: that is good");
	sleep 0.5;
	is(join(' ', grep { /\.tmp$/ } glob("$prefixes/.*")), '', "$m: no litter");
	succeeds('cache', 'cache', 'clear');
}

# --- standby: abi/standby.h ---
use IO::Handle;
use Socket qw(AF_UNIX SOCK_SEQPACKET PF_UNSPEC SOL_SOCKET);

sub standby {
	my ($m, $image) = @_;
	local $^F = 1000;
	unlink "$dir/s";
	socketpair(my $ours, my $theirs, AF_UNIX, SOCK_SEQPACKET, PF_UNSPEC) or die;
	my $g = start_guest({}, 'perl', '-MPOSIX', '-e', 'POSIX::close(shift); exec @ARGV', fileno($ours), $COWBELL, 'run', '--monitor', $m, '--standby', fileno($theirs), '-p', "unix:$dir/s:8080", "image:$image");
	close $theirs;
	my $reply = '';
	recv($ours, $reply, 100, 0);
	return ($g, $ours, length $reply ? (unpack 'Vl', $reply)[1] : undef);
}

# python3 sends a descriptor; perl has no sendmsg of its own
my $send = 'import socket, struct, sys, os, array; s = socket.socket(fileno=int(sys.argv[1])); f = os.open(sys.argv[2], os.O_RDONLY); '
	. 's.sendmsg([struct.pack("IIQ112s", 0x59425453, int(sys.argv[4]), int(sys.argv[3]), b"the other")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [f]))]); '
	. 'r = s.recv(100); s.detach(); sys.exit(-struct.unpack("Ii", r)[1] & 127 if r else 99)';

sub give {
	my ($ours, $file, $size, $version) = @_;
	local $^F = 1000;
	open(my $copy, '+<&', $ours) or die;
	return system('python3', '-c', $send, fileno($copy), $file, $size // -s $file, $version // 1) >> 8;
}

for my $m (monitors()) {
	my ($key, $layer, $size) = split ' ', succeeds("$m: prefix-key", 'run', '--monitor', $m, '--prefix-key', '-p', 'unix:x:8080', 'image:two');
	my ($key1) = split ' ', succeeds("$m: prefix-key", 'run', '--monitor', $m, '--prefix-key', '-p', 'unix:x:8080', 'image:one');
	is($key1, $key, "$m: the same for both");
	is((cowbell('run', '--prefix-key', 'image:three'))[0], 1, "$m: none for who cannot");
	my $file = "$dir/data/cowbell/blobs/sha256/$layer";
	is(-s $file, $size, "$m: the layer is there");
	my ($g, $ours, $reply) = standby($m, 'one');
	ok(!defined $reply && stop_guest($g, 0) == 125, "$m: no standby without a prefix");
	# the streams' kinds are in the key: made as start_guest() makes it
	for (1 .. 2) { stop_guest(start_guest({}, $COWBELL, 'run', '--monitor', $m, '--timeout', '1s', '-p', "unix:$dir/x:8080", 'image:one'), 0) }
	for (1 .. 500) { last if files(); sleep 0.02 }
	($g, $ours, $reply) = standby($m, 'one');
	is($reply, 0, "$m: it waits") or diag(slurp($g->{err}));
	is(give($ours, "$dir/one/app.py"), 27, "$m: what is no layer is refused (EFBIG: no whole pages)");
	is(give($ours, $file, 8192), 116, "$m: one of another size is refused");
	is(give($ours, $file, -s $file, 2), 22, "$m: another version is refused");
	my $evil = "$dir/evil";
	spew($evil, "\0" x 8192);
	is(give($ours, $evil), 18, "$m: what is no image is refused");
	my ($l3) = grep { /sha256:.*app$/ } split /\n/, (cowbell('inspect', 'three'))[1];
	my ($f3) = $l3 && $l3 =~ /sha256:(\w+)/ ? glob("$dir/data/cowbell/blobs/sha256/$1*") : ();
	is(give($ours, $f3), 18, "$m: an app that does not suit is refused") if $f3;
	is(give($ours, $file), 0, "$m: an app is taken");
	my $c;
	for (1 .. 300) { last if $c = IO::Socket::UNIX->new(Type => SOCK_STREAM, Peer => "$dir/s"); sleep 0.01 }
	print $c "GET / HTTP/1.0\r\n\r\n";
	$c->flush;
	my $answer = do { local $/; <$c> };
	like($answer, qr/I am two, and longer.*zoo\.py/s, "$m: it answers as itself");
	ok($answer =~ /"time": ([\d.]+)/ && abs($1 - time) < 5, "$m: the time is right");
	like(succeeds("$m: ps", 'ps'), qr/the other/, "$m: a list shows whose it is");
	is(stop_guest($g, 'TERM'), 143, "$m: it ends as any");
	($g, $ours) = standby($m, 'one');
	close $ours;
	is(stop_guest($g, 0), 137, "$m: it ends with who holds it");
	($g, $ours) = standby($m, 'one');
	is(stop_guest($g, 'TERM'), 137, "$m: and by a signal");
	succeeds('cache', 'cache', 'clear');
}
done_testing();
