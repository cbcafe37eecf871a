#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Container images as other tools write them: OCI layouts and archives, Docker archives. What their configuration says is
# honoured, layers stack as they should, and a layout that lies gets one clear line and leaves the store as it was.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Digest::SHA qw(sha256_hex);
use File::Path qw(make_path);
use File::Temp ();
use JSON::PP ();
use POSIX qw(mkfifo);
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'needs umoci, buildah, skopeo and busybox' if !have(qw(umoci buildah skopeo busybox));
my $dir = scratch();
my @monitors = monitors();
my $json = JSON::PP->new->canonical->utf8;
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";

sub sh {
	my ($st, $out, $err) = run_out({dir => $dir}, 'sh', '-ec', $_[0]);
	die "$_[0]: status $st: $out$err" if $st;
	return $out;
}

# cowbell(arguments): (status, stdout, stderr)
sub cowbell { return run_out({dir => $dir, timeout => 30}, $COWBELL, @_) }

# What is in the store: names of everything but the memos, sorted.
sub store { return join '', sort `find '$ENV{XDG_DATA_HOME}' -not -path '*/memos/*' 2>/dev/null` }
sub blobs { return scalar grep { -f } glob "$ENV{XDG_DATA_HOME}/cowbell/blobs/sha256/*" }

sub runs {
	my ($what, $args, $want) = @_;
	for my $m (@monitors) {
		my ($st, $out, $err) = cowbell('run', '--monitor', $m, @$args);
		is($out, $want, "$what ($m)") or diag("status $st: $err");
	}
}

# --- a root file system of Debian's own programs --------------------------------------------------------------------
make_path(map { "$dir/rootfs/$_" } qw(bin etc data/old/deep data/keep tmp usr/bin lib64));
sh(q{cp "$(command -v busybox)" rootfs/bin/busybox
	for a in sh ls cat echo env id pwd; do ln -s busybox rootfs/bin/$a; done
	for f in $(dpkg -L libpython3.11-minimal python3.11-minimal 2>/dev/null || true); do
		if [ -f "$f" ]; then echo "$f"; fi; done > files
	for f in $(ldd /usr/bin/python3 | sed -n 's/^[^\/]*\(\/[^ ]*\) (.*/\1/p'); do echo "$f"; done >> files
	grep -v '/share/\|\.pyc$' files | while read -r f; do
		mkdir -p "rootfs/$(dirname "$f")"; cp -L "$f" "rootfs/$f"; done
	cp -L /usr/bin/python3 rootfs/usr/bin/python3});
spew("$dir/rootfs/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001:Web:/data:/bin/sh\n");
spew("$dir/rootfs/etc/group", "root:x:0:\nweb:x:1001:\nmore:x:1002:web\n");
spew("$dir/rootfs/data/old/deep/file", "old\n");
spew("$dir/rootfs/data/keep/a", "a from below\n");
spew("$dir/rootfs/data/keep/b", "b from below\n");
symlink 'keep/a', "$dir/rootfs/data/link";
link "$dir/rootfs/data/keep/b", "$dir/rootfs/data/hard";
spew("$dir/rootfs/server.py", <<'PY');
import os, signal, socket, sys
def stop(n, f):
    print('got', signal.Signals(n).name, flush=True); os._exit(7)
signal.signal(signal.SIGINT, stop)
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('0.0.0.0', 8080)); s.listen(8)
while True:
    c = s.accept()[0]; c.recv(4096)
    body = f"uid={os.getuid()} gid={os.getgid()} cwd={os.getcwd()} K={os.environ.get('K')} args={sys.argv[1:]}"
    c.sendall(f"HTTP/1.0 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()); c.close()
PY

# --- buildah: the configuration -------------------------------------------------------------------------------------
sh(q{B="buildah --root $PWD/s --runroot $PWD/rr --storage-driver vfs"
	c=$($B from scratch)
	$B copy -q $c rootfs /
	$B config --entrypoint '["/bin/busybox"]' --cmd 'echo "two words" $K' --env K=V --workingdir /data $c
	$B commit -q $c oci:img:cmd
	$B config --entrypoint '["/usr/bin/python3","/server.py"]' --cmd one --env K='a=b c' --user web --port 8080 \
		--stop-signal SIGINT --volume /vol $c
	$B commit -q $c oci:img:server
	$B commit -q --format docker $c docker-archive:server.tar:team/server:v1
	$B rm $c});
runs('Entrypoint with Cmd', ['oci:img:cmd'], "two words \$K\n");
runs('words of the command line replace Cmd', ['oci:img:cmd', 'cat', 'link'], "a from below\n");
runs('WorkingDir', ['oci:img:cmd', 'pwd'], "/data\n");
runs('-w wins', ['-w', '/data/keep', 'oci:img:cmd', 'pwd'], "/data/keep\n");
runs('Env, and -e wins', ['-e', 'K=mine', '--entrypoint', '/bin/sh', 'oci:img:cmd', '-c', 'echo $K $HOME'], "mine /root\n");
runs('links are kept', ['oci:img:cmd', 'cat', 'hard'], "b from below\n");
for my $m (@monitors) {
	my ($st, $out, $err) = cowbell('run', '--monitor', $m, '--entrypoint', '/bin/id', 'oci:img:server');
	like($out, qr/^uid=1000\(web\) gid=1001\(web\) groups=(1001\(web\),)?1002\(more\)$/, "User, by name, with its groups ($m)") or diag($err);
}
for my $m (@monitors) {
	for my $src ('oci:img:server', 'docker-archive:server.tar') {
		my $port = free_port();
		my $g = start_guest({dir => $dir}, $COWBELL, 'run', '--monitor', $m, '-p', "127.0.0.1:$port:8080", $src);
		my ($code, $body) = wait_http($g, "http://127.0.0.1:$port/");
		is($body, "uid=1000 gid=1001 cwd=/data K=a=b c args=['one']", "a server of $src ($m)") or diag(slurp($g->{err}));
		is(stop_guest($g, 'TERM'), 7, "SIGTERM arrives as its StopSignal ($m)");
		like(slurp($g->{out}), qr/^got SIGINT$/m, "SIGINT it was ($m)");
	}
	my $g = start_guest({dir => $dir}, $COWBELL, 'run', '--monitor', $m, '-P', 'oci:img:server');
	my ($end, $port) = (time + 10);
	sleep 0.02 while !(($port) = slurp($g->{err}) =~ /port (\d+) of the host/) && time < $end;
	my ($code) = wait_http($g, 'http://127.0.0.1:' . ($port // 1) . '/', 5);
	is($code, 200, "-P forwards what is exposed ($m)") or diag(slurp($g->{err}));
	stop_guest($g, 'TERM');
	my ($st, $out, $err) = cowbell('run', '--monitor', $m, '--entrypoint', '/bin/sh', 'oci:img:server', '-c', 'echo x > /vol/f && cat /vol/f');
	is($out, "x\n", "a volume that nobody gave can be written ($m)") or diag($err);
}

# --- umoci: layers ------------------------------------------------------------------------------------------------------
make_path("$dir/new", "$dir/opaque");
spew("$dir/new/c", "c from above\n");
spew("$dir/new/a", "a from above\n");
spew("$dir/opaque/only", "only\n");
sh(q{umoci insert --image img:cmd --tag merge new /data/keep
	umoci insert --whiteout --image img:merge --tag white /data/old/deep
	umoci insert --whiteout --image img:white --tag white /data/link
	umoci insert --opaque --image img:white --tag opaque opaque /data/keep} . "\n");
my $before = blobs();
runs('a layer above: files are added and replaced', ['oci:img:merge', 'cat', 'keep/a', 'keep/b', 'keep/c'],
	"a from above\nb from below\nc from above\n");
is(blobs() - $before, 3, 'a layer, a configuration and a manifest are new: the layer below is shared');
runs('whiteouts', ['--entrypoint', '/bin/sh', 'oci:img:white', '-c', 'ls /data /data/old'], "/data:\nhard\nkeep\nold\n\n/data/old:\n");
runs('an opaque directory', ['oci:img:opaque', 'ls', 'keep'], "only\n");
my $big = 'opaque';
for my $i (1 .. 20) {
	spew("$dir/n$i", "$i\n");
	sh("umoci insert --image img:$big --tag many n$i /data/n" . ($i % 7));
	$big = 'many';
}
runs('24 layers: the lowest are merged', ['oci:img:many', 'cat', map { "n$_" } 0 .. 6], join '', map { "$_\n" } 14, 15, 16, 17, 18, 19, 20);
runs('and what they hid stays hidden', ['oci:img:many', 'ls', 'keep'], "only\n");

# --- as many layers as an image may have, and several imports at once ---------------------------------------------------
spew("$dir/many.py", <<'PY');
import gzip, hashlib, io, json, os, tarfile
os.makedirs('m128/blobs/sha256')
oci = 'application/vnd.oci.image.'
def put(b, kind):
    h = hashlib.sha256(b).hexdigest()
    with open('m128/blobs/sha256/' + h, 'wb') as f: f.write(b)
    return {'digest': 'sha256:' + h, 'size': len(b), 'mediaType': oci + kind}
layers, ids = [], []
for i in range(128):
    f = io.BytesIO(); t = tarfile.open(fileobj=f, mode='w')
    if i == 0: t.add('rootfs/bin/busybox', 'bin/busybox')
    for name, data in ((f'f{i}', b''), ('same', b'%d' % i), (f'd{i % 9}/x', b'%d' % i), (f'.wh.f{i - 5}', b'')):
        if name.startswith('.wh.f-'): continue
        x = tarfile.TarInfo(name); x.size = len(data); t.addfile(x, io.BytesIO(data))
    t.close(); b = f.getvalue()
    layers.append(put(gzip.compress(b, mtime=0), 'layer.v1.tar+gzip') if i % 2 else put(b, 'layer.v1.tar'))
    ids.append('sha256:' + hashlib.sha256(b).hexdigest())
c = {'architecture': 'amd64', 'os': 'linux', 'config': {'Entrypoint': ['/bin/busybox']}, 'rootfs': {'type': 'layers', 'diff_ids': ids}}
m = {'schemaVersion': 2, 'config': put(json.dumps(c).encode(), 'config.v1+json'), 'layers': layers}
json.dump({'schemaVersion': 2, 'manifests': [put(json.dumps(m).encode(), 'manifest.v1+json')]}, open('m128/index.json', 'w'))
open('m128/oci-layout', 'w').write('{"imageLayoutVersion":"1.0.0"}')
PY
sh('python3 many.py');
{
	local $ENV{XDG_DATA_HOME} = "$dir/at-once";
	my @g = map { start_guest({dir => $dir}, $COWBELL, 'run', '--monitor', 'process', 'oci:m128', 'cat', 'same', 'd0/x', 'd1/x') } 1 .. 4;
	is(join(' ', map { stop_guest($_, 0, 30) . slurp($_->{out}) } @g), join(' ', ('0127126127') x 4), '128 layers, imported four times at once')
		or diag(map { slurp($_->{err}) } @g);
	is(blobs(), 16, 'one image of 14 layers is there afterwards');
	my ($st, $out) = cowbell('run', 'oci:m128', 'ls', '/');
	is(join(' ', grep { /^f/ } split ' ', $out), 'f123 f124 f125 f126 f127', 'whiteouts across merged layers');
}

# --- archives -------------------------------------------------------------------------------------------------------------
sh(q{skopeo copy -q oci:img:white docker-archive:white.tar:team/white:v1
	skopeo copy -q oci:img:white oci-archive:white.oci:v1
	gzip -kn white.tar white.oci
	skopeo copy -q oci:img:merge docker-archive:two.tar:one:v1
	mkdir two && tar -C two -xf two.tar && tar -C two -xf white.tar
	python3 -c 'import json, sys, tarfile
m = [json.load(tarfile.open(f).extractfile("manifest.json"))[0] for f in ("two.tar", "white.tar")]
json.dump(m, open("two/manifest.json", "w"))'
	tar -C two -cf two.tar .});
my $list = "/data:\nhard\nkeep\nold\n\n/data/old:\n";
for my $src ('docker-archive:white.tar', 'docker-archive:white.tar.gz', 'docker-archive:white.tar:team/white:v1',
	'docker-archive:two.tar:team/white:v1', 'oci-archive:white.oci', 'oci-archive:white.oci:v1', 'oci-archive:white.oci.gz') {
	my ($st, $out, $err) = cowbell('run', '--entrypoint', '/bin/sh', $src, '-c', 'ls /data /data/old');
	is($out, $list, $src) or diag("status $st: $err");
}
$before = store();
my $start = time;
my ($st, $out, $err) = cowbell('run', 'oci:img:many', '/bin/echo', 'again');
cmp_ok(time - $start, '<', 1, 'an image that is known starts at once');
is(store(), $before, 'and nothing is written');

# --- build --from, images, export -----------------------------------------------------------------------------------
SKIP: {
	skip 'no cowbell build here', 6 + @monitors if (cowbell('help'))[1] !~ /^\s+build\s/m;
	($st, $out, $err) = cowbell('build', '--from', 'oci:img:white', '-t', 'team/white:v2', '-o', 'out.tar');
	is($st, 0, 'build --from') or diag("$out$err");
	runs('an image that was imported runs by its name', ['--entrypoint', '/bin/ls', 'image:team/white:v2', '/data'], "hard\nkeep\nold\n");
	my ($digest) = $out =~ /sha256:([0-9a-f]{64})/;
	($st, $out, $err) = run_out({dir => $dir}, 'skopeo', 'inspect', '--raw', 'oci-archive:out.tar');
	is($json->decode($out || '{}')->{mediaType}, 'application/vnd.oci.image.manifest.v1+json', 'skopeo reads what was exported') or diag($err);
	my $hex = sha256_hex($out);
	local $ENV{XDG_DATA_HOME} = "$dir/other";
	($st, $out, $err) = cowbell('build', '--from', 'oci-archive:out.tar', '-t', 'back', '-o', 'out2.tar');
	is($st, 0, 'the archive goes into another store') or diag("$out$err");
	ok(-f "$dir/other/cowbell/blobs/sha256/$hex", 'under the same digest');
	($st) = run_out({dir => $dir}, 'sh', '-c', 'tar xOf out.tar index.json | grep -q ref.name && tar tf out2.tar | sort > l2 && tar tf out.tar | sort | cmp - l2');
	is($st, 0, 'and out again with the same blobs');
	my $bytes = slurp("$dir/out2.tar");
	cowbell('build', '--from', 'oci-archive:out.tar', '-t', 'back', '-o', 'out2.tar');
	ok($bytes eq slurp("$dir/out2.tar") && !glob("$dir/out2.tar.*"), 'equal images are equal files');
	mkfifo("$dir/out.fifo", 0644);
	($st, $out, $err) = cowbell('build', '--from', 'oci-archive:out.tar', '-t', 'back', '-o', 'out.fifo');
	ok($st == 125 && $err =~ /no regular file/ && -p "$dir/out.fifo", 'a FIFO is not replaced') or diag("$st $err");
}

# --- layouts that lie ------------------------------------------------------------------------------------------------------
my $OCI = 'application/vnd.oci.image';
my $tar = do { sh('tar -C rootfs -cf small.tar etc'); slurp("$dir/small.tar") };
my $count = 0;

sub put {
	my ($d, $bytes) = @_;
	my $hex = sha256_hex($bytes);
	spew("$d/blobs/sha256/$hex", $bytes);
	return {digest => "sha256:$hex", size => length $bytes};
}

# A layout of one small image. Hooks change each part before it is written, or its descriptor.
sub layout {
	my (%hook) = @_;
	my $d = "$dir/lie" . ++$count;
	make_path("$d/blobs/sha256");
	my $touch = sub { my ($name, $v) = @_; $hook{$name}->($v, $d) if $hook{$name}; return $v };
	my $bytes = $hook{tar} // $tar;
	my $layer = $touch->(layer => {%{put($d, $bytes)}, mediaType => "$OCI.layer.v1.tar"});
	my $config = {architecture => 'amd64', os => 'linux', config => {Cmd => ['/bin/sh']},
		rootfs => {type => 'layers', diff_ids => ['sha256:' . sha256_hex($tar)]}};
	my $cd = $touch->(config_descriptor => {%{put($d, $json->encode($touch->(config => $config)))}, mediaType => "$OCI.config.v1+json"});
	my $manifest = $touch->(manifest => {schemaVersion => 2, mediaType => "$OCI.manifest.v1+json", config => $cd, layers => [$layer]});
	my $md = $touch->(manifest_descriptor => {%{put($d, $json->encode($manifest))}, mediaType => "$OCI.manifest.v1+json"});
	my $index = $touch->(index => {schemaVersion => 2, manifests => [$md]});
	spew("$d/index.json", $json->encode($index));
	spew("$d/oci-layout", '{"imageLayoutVersion":"1.0.0"}');
	$touch->(end => $index);
	return "oci:$d";
}
sub path_of { return "$_[0]/blobs/sha256/" . substr $_[1]{digest}, 7 }

sub refused {
	my ($what, $src, $why) = @_;
	my $store = store();
	my ($status, $o, $e) = cowbell('run', $src);
	ok($status == 125 && $e =~ $why && $e =~ /\Acowbell: [^\n]+\n\z/ && $o eq '' && store() eq $store, "$what: refused")
		or diag("status $status, ", store() eq $store ? 'store as before' : "store changed:\n" . store(), "\n$o$e");
}

{
	my ($status, $o, $e) = cowbell('run', layout());
	unlike($e, qr/digest|layer/, 'the small image itself is taken');
	is($status, 127, 'and has no shell in it') or diag($e);
}
# From here on the store would have the layer by its diff_id, and never look at a bad blob of it: another one.
$tar = do { sh('tar -C rootfs -cf small.tar etc data'); slurp("$dir/small.tar") };
my $x = '0' x 64;
refused('manifest of another size', layout(manifest_descriptor => sub { $_[0]{size}++ }), qr/descriptor says/);
refused('manifest of another digest', layout(manifest_descriptor => sub { my ($m, $d) = @_; my $p = path_of($d, $m); spew($p, slurp($p) =~ s/2/3/r) }), qr/does not have that digest/);
refused('missing manifest', layout(manifest_descriptor => sub { $_[0]{digest} = "sha256:$x" }), qr/blobs\/sha256\/0+ is missing/);
refused('missing configuration', layout(config_descriptor => sub { unlink path_of($_[1], $_[0]) }), qr/is missing/);
refused('configuration of another size', layout(config_descriptor => sub { $_[0]{size}-- }), qr/descriptor says/);
refused('configuration of another digest', layout(config_descriptor => sub { my $p = path_of($_[1], $_[0]); spew($p, slurp($p) =~ s/linux/Linux/r) }), qr/does not have that digest/);
refused('missing layer', layout(layer => sub { unlink path_of($_[1], $_[0]) }), qr/is missing/);
refused('layer of another size', layout(layer => sub { $_[0]{size} += 512 }), qr/descriptor says/);
refused('layer of another digest', layout(layer => sub { my $p = path_of($_[1], $_[0]); my $b = slurp($p); substr($b, 700, 1) ^= "\1"; spew($p, $b) }), qr/digest/);
refused('layer that is not what the configuration says', layout(config => sub { $_[0]{rootfs}{diff_ids} = ["sha256:$x"] }), qr/diff_id|digest/);
refused('fewer diff_ids than layers', layout(config => sub { $_[0]{rootfs}{diff_ids} = [] }), qr/it has 1 layers, but its configuration names 0/);
refused('digest that is a path', layout(layer => sub { $_[0]{digest} = 'sha256:../../../../../../etc/passwd' }), qr/64 hexadecimal digits/);
refused('digest of another algorithm', layout(layer => sub { $_[0]{digest} = 'sha512:' . '0' x 128 }), qr/another algorithm/);
refused('layer by a symbolic link', layout(layer => sub { my $p = path_of($_[1], $_[0]); rename $p, "$_[1]/file"; symlink '../../file', $p }), qr/symbolic link/);
refused('blobs by a symbolic link', layout(end => sub { rename "$_[1]/blobs", "$_[1]/b"; symlink 'b', "$_[1]/blobs" }), qr/symbolic link/);
refused('FIFO for a layer', layout(layer => sub { my $p = path_of($_[1], $_[0]); unlink $p; mkfifo($p, 0644) }), qr/not a regular file/);
refused('FIFO for the index', layout(end => sub { unlink "$_[1]/index.json"; mkfifo("$_[1]/index.json", 0644) }), qr/not a regular file/);
SKIP: {
	skip 'root reads everything', 1 if !$>;
	refused('unreadable index', layout(end => sub { chmod 0, "$_[1]/index.json" }), qr/index.json cannot be read: Permission denied/);
}
refused('directory for a layer', layout(layer => sub { my $p = path_of($_[1], $_[0]); unlink $p; mkdir $p }), qr/not a regular file/);
refused('unknown compression by name', layout(layer => sub { $_[0]{mediaType} .= '+br' }), qr/unknown type: .*tar\+br/);
refused('encrypted layer', layout(layer => sub { $_[0]{mediaType} .= '+encrypted' }), qr/unknown type/);
refused('layer without a type', layout(layer => sub { delete $_[0]{mediaType} }), qr/unknown type: none/);
refused('layer that may not be distributed', layout(layer => sub { $_[0]{mediaType} = "$OCI.layer.nondistributable.v1.tar" }), qr/not distributable/);
SKIP: {
	skip 'no xz', 1 if !have('xz');
	sh('xz -k small.tar');
	refused('unknown compression inside', layout(tar => slurp("$dir/small.tar.xz")), qr/lie\d+: |layer/);
}
refused('layer that is no tar', layout(tar => 'x' x 5000), qr/layer|tar/);
refused('layer said to be EROFS', layout(layer => sub { $_[0]{mediaType} = 'application/vnd.cowbell.layer.v1.erofs' }), qr/EROFS/);
refused('no layers', layout(manifest => sub { $_[0]{layers} = [] }, config => sub { $_[0]{rootfs}{diff_ids} = [] }), qr/no layers/);
refused('129 layers', layout(manifest => sub { $_[0]{layers} = [($_[0]{layers}[0]) x 129] }), qr/more than 128 layers/);
refused('layer of nine exabytes', layout(layer => sub { $_[0]{size} = 9e18 + 0 }), qr/claims|descriptor|whole number/);
refused('artifact that is no image', layout(config_descriptor => sub { $_[0]{mediaType} = 'application/vnd.cncf.helm.config.v1+json' }), qr/not a container image/);
refused('another platform by the configuration', layout(config => sub { $_[0]{architecture} = 'arm64' }), qr/linux\/arm64/);
refused('another platform by the index', layout(manifest_descriptor => sub { $_[0]{platform} = {os => 'linux', architecture => 'riscv64'} }), qr/linux\/riscv64/);
refused('environment without =', layout(config => sub { $_[0]{config}{Env} = ['A'] }), qr/Env is not NAME=VALUE/);
refused('no oci-layout', layout(end => sub { unlink "$_[1]/oci-layout" }), qr/oci-layout is missing/);
refused('oci-layout of another version', layout(end => sub { spew("$_[1]/oci-layout", '{"imageLayoutVersion":"2.0.0"}') }), qr/version 1\.0\.0/);
refused('index that is not JSON', layout(end => sub { spew("$_[1]/index.json", '{"manifests":[') }), qr/not valid JSON/);
refused('index with a key twice', layout(end => sub { my $t = slurp("$_[1]/index.json"); spew("$_[1]/index.json", $t =~ s/\{/{"manifests":[],/r) }), qr/twice/);
refused('index of 5 MiB', layout(end => sub { spew("$_[1]/index.json", '{"a":"' . 'x' x (5 << 20) . '"}') }), qr/larger than/);
refused('several images', layout(index => sub { my $l = $_[0]{manifests}; my %other = (%{$l->[0]}, digest => "sha256:$x"); $_[0]{manifests} = [$l->[0], \%other] }), qr/several images; name one of/);
refused('indexes without end', layout(index => sub {
	my ($i, $d) = @_;
	$_[0]{manifests} = [{%{put($d, $json->encode({schemaVersion => 2, manifests => $_[0]{manifests}}))}, mediaType => "$OCI.index.v1+json"}] for 1 .. 6;
}), qr/more than 4 deep/);
refused('index that leads to itself', layout(index => sub {
	my ($i, $d) = @_;
	my $self = {digest => "sha256:$x", size => 200, mediaType => "$OCI.index.v1+json"};
	my $text = $json->encode({schemaVersion => 2, manifests => [$self]});
	spew("$d/blobs/sha256/$x", $text);
	$self->{size} = length $text;
	$i->{manifests} = [$self];
}), qr/does not have that digest/);
refused('a name that is not there', layout() . ':nope', qr/nope|no image of that name/);
refused('a directory that is not there', "oci:$dir/nowhere", qr/No such file/);
refused('a directory without a layout', "oci:$dir/rootfs", qr/oci-layout is missing/);

# --- archives that lie -----------------------------------------------------------------------------------------------------
mkfifo("$dir/fifo", 0644);
refused('FIFO for an archive', "oci-archive:$dir/fifo", qr/not a regular file/);
refused('device for an archive', 'docker-archive:/dev/zero', qr/not a regular file/);
spew("$dir/text", "no tar\n" x 1000);
refused('no tar', "docker-archive:$dir/text", qr/not a tar file|no manifest/);
refused('OCI archive as a Docker archive', "docker-archive:$dir/white.oci", qr/use oci-archive:/);
refused('Docker archive as an OCI archive', "oci-archive:$dir/white.tar", qr/oci-layout is missing/);
refused('name that is not in it', "docker-archive:$dir/two.tar:three", qr/no image three; it has .*one:v1/);
refused('several images', "docker-archive:$dir/two.tar", qr/several images; name one of .*one:v1/);

sub docker {
	my ($manifest, %file) = @_;
	my $d = "$dir/docker" . ++$count;
	make_path("$d/blobs/sha256");
	my $config = $json->encode({architecture => 'amd64', os => 'linux', config => {Cmd => ['/bin/sh']},
		rootfs => {type => 'layers', diff_ids => ['sha256:' . sha256_hex($tar)]}});
	my %all = ('manifest.json' => $json->encode([{Config => 'c.json', Layers => ['l.tar'], %$manifest}]), 'c.json' => $config, 'l.tar' => $tar, %file);
	for my $f (sort keys %all) {
		ref $all{$f} ? symlink(${$all{$f}}, "$d/$f") : defined $all{$f} ? spew("$d/$f", $all{$f}) : 0;
	}
	sh("tar -C '$d' -cf '$d.tar' .");
	return "docker-archive:$d.tar";
}
refused('missing layer', docker({}, 'l.tar' => undef), qr/layer l\.tar is missing/);
refused('missing configuration', docker({}, 'c.json' => undef), qr/configuration c\.json is missing/);
refused('path for a configuration', docker({Config => '../../../../../../etc/passwd'}), qr/is missing/);
refused('layer by a link out of the archive', docker({}, 'l.tar' => \'../../../../etc/passwd'), qr/is missing/);
refused('layer by an absolute link', docker({}, 'l.tar' => \'/etc/passwd'), qr/is missing/);
refused('links in a circle', docker({}, 'l.tar' => \'m.tar', 'm.tar' => \'l.tar'), qr/is missing/);
refused('other contents of a layer', docker({}, 'l.tar' => do { my $b = $tar; substr($b, 700, 1) ^= "\1"; $b }), qr/digest|diff_id/);
refused('two layers, one diff_id', docker({Layers => ['l.tar', 'l.tar']}), qr/names 2 layers, the configuration 1/);
refused('no list', docker({Layers => 'l.tar'}), qr/names 0 layers/);
{
	my $src = docker({});
	my ($file) = $src =~ /:(.*)/;
	truncate $file, (-s $file) - 20480;
	refused('archive that ends early', $src, qr/ends|end of|not a tar file|damaged|missing|cannot be read|Bad message/i);
}
refused('file twice', do { my $s = docker({}); my ($f) = $s =~ /:(.*)/; sh("tar -C rootfs -rf '$f' --transform 's,.*,l.tar,' etc/passwd"); $s }, qr/twice/);

# --- limits, and a kill in the middle -----------------------------------------------------------------------------------
{
	local $ENV{XDG_DATA_HOME} = "$dir/gzip";
	sh('gzip -kn small.tar');
	my ($st, $out, $err) = cowbell('run', docker({}, 'l.tar' => slurp("$dir/small.tar.gz")));
	is($st, 127, "a gzip'ed layer in a Docker archive is taken") or diag($err);
	local $ENV{XDG_DATA_HOME} = "$dir/huge"; # 4 KiB for each entry, 1 GiB and 64 MiB would be 2 to the power of 64
	(undef, undef, $err) = cowbell('run', '--max-entries', '4503599627091968', docker({}, 'l.tar' => slurp("$dir/small.tar.gz")));
	unlike($err, qr/limit/, 'a limit of entries beyond counting is none');
	local $ENV{XDG_DATA_HOME} = "$dir/gzip";
	cmp_ok(blobs(), '==', 3, 'and is there');
}
my $lim = layout();
for my $known ('', ', of an image that is known') {
	$before = store();
	($st, $out, $err) = cowbell('run', '--max-entries', '3', $lim);
	ok($st == 125 && $err =~ /\Acowbell: [^\n]+\n\z/ && store() eq $before, "more entries than --max-entries$known") or diag("$st $err");
	($st, $out, $err) = cowbell('run', '--max-size', '20', $lim);
	ok($st == 125 && $err =~ /\Acowbell: [^\n]+\n\z/ && store() eq $before, "more bytes than --max-size$known") or diag("$st $err");
	cowbell('run', $lim);
}
{
	my $hex = sha256_hex($tar);
	my ($st, $out, $err) = cowbell('run', docker({Layers => ["blobs/sha256/$hex"]}, 'l.tar' => undef, "blobs/sha256/$hex" => $tar));
	is($st, 127, 'layers under blobs/, as newer Docker has them, are found') or diag($err);
}
{
	local $ENV{XDG_DATA_HOME} = "$dir/killed";
	cowbell('run', 'oci:nowhere');
	my $empty = store();
	my $clean = 0;
	for my $i (1 .. 8) {
		my $g = start_guest({dir => $dir}, $COWBELL, 'run', 'oci:img:many', 'echo', 'x');
		sleep 0.012 * $i;
		my $done = slurp($g->{out}) =~ /x/;
		stop_guest($g, 'KILL');
		last if $done || blobs() > 0;
		$clean++ if store() eq $empty;
	}
	cmp_ok($clean, '>=', 1, "an import that is killed leaves nothing ($clean times)");
	($st, $out, $err) = cowbell('run', 'oci:img:many', 'echo', 'whole');
	is($out, "whole\n", 'and the next one is whole') or diag($err);
}

done_testing;
