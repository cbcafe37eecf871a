#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Images of the store as programs: every field of the configuration, users, process types, ports and signals; what is damaged or
# missing; and that many instances of one image share its pages. The images are made here, from nothing, in OCI layout.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Digest::SHA qw(sha256_hex);
use File::Path qw(make_path);
use JSON::PP;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'needs gcc, tar and a static busybox' unless have('gcc', 'tar') && -x '/bin/busybox';
my $d = scratch();
chmod 0755, $d;
my $own = scratch();
$ENV{XDG_DATA_HOME} = "$own/data";
$ENV{XDG_CACHE_HOME} = "$own/cache";
chdir $d or die;

# The program of most images: says what it is given, or does what its first argument says.
spew('probe.c', <<'C');
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
extern char **environ;
static void on(int s) { char b[32]; int n = snprintf(b, 32, "signal %d\n", s); write(1, b, n); _exit(40 + s % 20); }
static int cat(const char *f) { char b[4096]; size_t n; FILE *h = fopen(f, "r"); if (!h) { printf("%s: %s\n", f, strerror(errno)); return 1; }
	while ((n = fread(b, 1, sizeof b, h)) > 0) fwrite(b, 1, n, stdout); return 0; }
int main(int c, char **v)
{
	const char *what = c > 1 ? v[1] : "";
	struct stat st;
	gid_t g[64];
	char b[4096];
	if (!strcmp(what, "cat")) return cat(v[2]);
	if (!strcmp(what, "stat")) {
		for (int i = 2; i < c; i++)
			if (stat(v[i], &st)) printf("%s: %s\n", v[i], strerror(errno));
			else printf("%s %o %d:%d\n", v[i], st.st_mode & 07777, st.st_uid, st.st_gid);
		return 0;
	}
	if (!strcmp(what, "write")) { FILE *f = fopen(v[2], "w"); if (!f) { perror(v[2]); return 1; } fputs("data", f); return fclose(f); }
	if (!strcmp(what, "wait")) {
		for (int s = 1; s < 65; s++) if (s != SIGCHLD) signal(s, on);
		puts("ready"); fflush(stdout);
		for (;;) pause();
	}
	for (int i = 0; i < c; i++) printf("arg <%s>\n", v[i]);
	for (char **e = environ; *e; e++) printf("env <%s>\n", *e);
	int n = getgroups(64, g);
	printf("cwd <%s>\nid <%d:%d", getcwd(b, sizeof b), getuid(), getgid());
	for (int i = 0; i < n; i++) printf(" %d", g[i]);
	gethostname(b, sizeof b);
	printf(">\nhost <%s>\n", b);
	return 0;
}
C
system('gcc', '-O1', '-w', '-static', '-o', 'probe', 'probe.c') == 0 or BAIL_OUT('gcc');

# A layer: path => contents, [mode, contents, uid, gid], "->target" for a link, or a path that ends with / for a directory.
my $n_trees = 0;
sub tree {
	my (%files) = @_;
	my $t = "$d/tree" . $n_trees++;
	make_path($t);
	for my $p (sort keys %files) {
		my ($mode, $text, $uid, $gid) = ref $files{$p} ? @{$files{$p}} : (undef, $files{$p});
		my $at = "$t/$p";
		make_path($at =~ m{^(.*)/}s);
		if ($p =~ m{/$}) {
			chmod $mode // 0755, $at;
			chown $uid, $gid // $uid, $at if defined $uid && !$>;
		} elsif ($text =~ /^->(.*)/s) {
			symlink $1, $at or die "$at: $!";
		} else {
			spew($at, $text);
			chmod $mode // 0644, $at;
		}
	}
	return $t;
}

sub blob {
	my ($dir, $data) = @_;
	my $hex = sha256_hex($data);
	make_path("$dir/blobs/sha256");
	spew("$dir/blobs/sha256/$hex", $data);
	return ("sha256:$hex", length $data);
}

my $json = JSON::PP->new->canonical;
# An image in OCI layout in directory $name: its configuration and its layers' trees.
sub oci {
	my ($name, $config, @trees) = @_;
	my (@layers, @ids);
	my %top = (architecture => 'amd64', os => 'linux');
	$top{$_} = delete $config->{$_} for grep { exists $config->{$_} } qw(architecture os);
	for my $t (@trees) {
		my $tar = `tar -C $t --numeric-owner --sort=name --mtime=\@0 -cf - .`;
		my ($digest, $size) = blob($name, $tar);
		push @layers, {mediaType => 'application/vnd.oci.image.layer.v1.tar', digest => $digest, size => $size};
		push @ids, $digest;
	}
	my ($cd, $cs) = blob($name, $json->encode({%top, config => $config, rootfs => {type => 'layers', diff_ids => \@ids}}));
	my ($md, $ms) = blob($name, $json->encode({schemaVersion => 2, mediaType => 'application/vnd.oci.image.manifest.v1+json',
		config => {mediaType => 'application/vnd.oci.image.config.v1+json', digest => $cd, size => $cs}, layers => \@layers}));
	spew("$name/index.json", $json->encode({schemaVersion => 2, manifests => [{mediaType => 'application/vnd.oci.image.manifest.v1+json',
		digest => $md, size => $ms, annotations => {'org.opencontainers.image.ref.name' => 'latest'}}]}));
	spew("$name/oci-layout", '{"imageLayoutVersion":"1.0.0"}');
	return "oci:$d/$name";
}

my $probe = slurp('probe');
my %accounts = (
	'etc/passwd' => "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n12:x:77:78::/home/twelve:/bin/sh\nbroken\n:::::\nbig:x:99999999999:0::/:\n",
	'etc/group' => "root:x:0:\nstaff:x:50:other,app\nwww:x:33:app\nnot:x:34:application,ap\n");
my $base = tree('bin/probe' => [0755, $probe], 'bin/busybox' => [0755, slurp('/bin/busybox')], 'bin/sh' => '->busybox', %accounts);
our $m;
sub cow { return run_out({}, $COWBELL, 'run', '--monitor', $m, @_) }
# Lines of the probe of one kind.
sub said { my ($out, $kind) = @_; return join '|', $out =~ /^\Q$kind\E <(.*)>$/mg }

my $plain = oci('plain', {Entrypoint => ['probe', 'one'], Cmd => ['two', 'three words'], Env => ['PATH=/bin', 'FOO=image', 'EMPTY='],
	WorkingDir => '/srv/new/dir'}, $base);
for $m (monitors()) {
	my ($st, $out, $err) = cow($plain);
	is($st, 0, "$m: an OCI directory runs") or diag $err;
	is(said($out, 'arg'), 'probe|one|two|three words', 'Entrypoint and Cmd');
	my $env = said($out, 'env');
	like("|$env|", qr/\|FOO=image\|.*/, 'Env') or diag $env;
	like("|$env|", qr/\|PATH=\/bin\|/, 'its PATH');
	like("|$env|", qr/\|EMPTY=\|/, 'an empty variable');
	like("|$env|", qr/\|HOME=\/root\|/, 'HOME of /etc/passwd');
	is(said($out, 'cwd'), '/srv/new/dir', 'WorkingDir, made');
	is(said($out, 'id'), '0:0 0', 'root without a User');

	($st, $out) = cow($plain, 'x');
	is(said($out, 'arg'), 'probe|one|x', 'ARGs replace Cmd');
	($st, $out) = cow('--entrypoint', '/bin/probe', $plain);
	is(said($out, 'arg'), '/bin/probe', '--entrypoint drops both');
	($st, $out) = cow('--entrypoint', '/bin/probe', $plain, 'x', 'y');
	is(said($out, 'arg'), '/bin/probe|x|y', '--entrypoint with ARGs');
	spew('env', "# a comment\n\nFOO=file\n  Q=\"quoted\"\nHERE\nNOT_HERE\nX=1=2\r\n");
	$ENV{HERE} = 'here';
	($st, $out) = cow('--env-file', 'env', '-e', 'X=opt', '-e', 'HOME=/h', $plain);
	$env = '|' . said($out, 'env') . '|';
	like($env, qr/\|FOO=file\|/, '--env-file wins over the image');
	like($env, qr/\|Q="quoted"\|/, 'and is taken as it stands');
	like($env, qr/\|HERE=here\|/, 'K alone is from here');
	unlike($env, qr/NOT_HERE/, 'if it is set');
	like($env, qr/\|X=opt\|/, '-e wins over it');
	like($env, qr/\|HOME=\/h\|/, 'HOME can be given');

	($st, $out) = run_out({}, $COWBELL, 'run', '--monitor', $m, '--env-file', 'env', '-e', 'X=opt', './probe');
	like('|' . said($out, 'env') . '|', qr/\|Q="quoted"\|.*\|X=opt\|/, 'a program takes --env-file, too');
	($st, $out) = cow('-w', '/else/where', $plain);
	is(said($out, 'cwd'), '/else/where', '-w is made, too');
	($st, $out) = cow('--name', 'alice', '--entrypoint', 'probe', $plain, 'cat', '/etc/hosts');
	like($out, qr/^127\.0\.1\.1\talice$/m, '--name is in /etc/hosts');
	($st, $out) = cow('--name', 'alice', $plain);
	is(said($out, 'host'), 'alice', 'and is the host name');
	($st, $out, $err) = cow('--strace', $plain);
	like($err, qr/execve|write\(1/, '--strace');
	($st, $out, $err) = cow('--stats=json', $plain);
	my ($s) = $err =~ /^(\{.*\})$/m;
	$s = decode_json($s // '{}');
	ok(($s->{image_us} // 0) > 0 && $s->{image_us} < ($s->{first_insn_us} // 0), '--stats: the image was there before the first instruction')
		or diag $err;
}

$m = 'process';
for my $c (["A=1\nB C=2\n", qr/line 2: must be/], ["=x\n", qr/line 1: must be/], [undef, qr/No such file/]) {
	defined $c->[0] ? spew('badenv', $c->[0]) : unlink 'badenv';
	my ($st, $out, $err) = cow('--env-file', 'badenv', $plain);
	is($st, 125, '--env-file: refused');
	like($err, $c->[1], 'and why');
}

# --- users
my $user = oci('user', {Entrypoint => ['/bin/probe'], User => 'app'}, $base);
$m = 'process';
for my $c ([[], '1000:1001 1001 50 33', '/home/app'], [['-u', 'root'], '0:0 0', '/root'], [['-u', '1000'], '1000:1001 1001 50 33', '/home/app'],
	[['-u', '4242'], '4242:0 0', '/'], [['-u', 'app:www'], '1000:33 33', '/home/app'], [['-u', '7:8'], '7:8 8', '/'],
	[['-u', '12'], '77:78 78', '/home/twelve']) {
	my ($o, $id, $home) = @$c;
	my ($st, $out, $err) = cow(@$o, $user);
	is(said($out, 'id'), $id, "user: @$o") or diag $err;
	like("|" . said($out, 'env') . "|", qr/\|HOME=\Q$home\E\|/, 'and HOME');
}
for my $c ([['-u', 'nobody'], qr/no user nobody/], [['-u', 'app:none'], qr/no group none/], [['-u', 'big'], qr/no user big/],
	[['-u', ''], qr/must be USER/], [['-u', '4294967295'], qr/no user/]) {
	my ($st, $out, $err) = cow(@{$c->[0]}, $user);
	is($st, 125, "user @{$c->[0]}: refused");
	like($err, $c->[1], 'and why');
}
{
	my ($st, $out, $err) = cow('-u', '65534', './probe');
	is(said($out, 'id'), '65534:65534 65534', 'a program of the host takes -u as well') or diag $err;
}

# --- layers: whiteouts, /etc/passwd above, links on the way, directories that are there keep what they are
my $layered = oci('layered', {Entrypoint => ['/bin/probe'], User => 'late', WorkingDir => '/var/run/app/x',
	Volumes => {'/data/' => {}, '/kept' => {}, '/deep/er' => {}}}, $base,
	tree('bin/.wh.busybox' => '', 'etc/passwd' => "late:x:501:502::/late:/bin/sh\n", 'run/' => [0711], 'var/run' => '->../run',
		'kept/' => [0770, '', 0, 0], 'kept/file' => 'kept', 'etc/hosts' => 'of the image', 'etc/resolv.conf' => '->/nowhere/at/all'));
for $m (monitors()) {
	my ($st, $out, $err) = cow($layered);
	is($st, 0, "$m: layers") or diag $err;
	is(said($out, 'id'), '501:502 502', 'the upper /etc/passwd counts');
	is(said($out, 'cwd'), '/run/app/x', 'WorkingDir through a link');
	($st, $out) = cow($layered, 'stat', '/run', '/run/app', '/data', '/kept', '/deep', '/deep/er', '/bin/busybox', '/etc');
	is($out, "/run 711 0:0\n/run/app 755 0:0\n/data 755 501:502\n/kept 770 0:0\n/deep 755 501:502\n/deep/er 755 501:502\n"
		. "/bin/busybox: No such file or directory\n/etc 755 0:0\n", 'owners and modes; a whiteout') if !$>;
	($st, $out, $err) = cow($layered, 'write', '/data/file');
	is($st, 0, 'a volume in memory can be written by the user') or diag $err;
	($st, $out) = cow($layered, 'cat', '/etc/hosts');
	unlike($out, qr/of the image/, 'our /etc/hosts wins');
	($st, $out) = cow($layered, 'cat', '/etc/resolv.conf');
	is($out, slurp('/etc/resolv.conf'), 'and our /etc/resolv.conf, even over a link');
	($st, $out, $err) = cow('--entrypoint', '/bin/sh', $layered);
	is($st, 127, 'a link to what is whited out');
	($st, $out, $err) = cow('--verbose', $layered);
	like($err, qr{volume /data is in memory}, '--verbose tells of volumes in memory');
	mkdir 'vol';
	($st, $out, $err) = cow('--verbose', '-v', "$d/vol:/data", $layered, 'write', '/data/file');
	is(slurp('vol/file'), 'data', '-v puts a directory of the host there') or diag $err;
	unlike($err, qr{volume /data}, 'of which nothing need be told');
	($st, $out, $err) = cow('-v', "$d/vol:/var/run/deep/v", $layered, 'write', '/run/deep/v/linked');
	is(slurp('vol/linked'), 'data', 'also where its path leads through a link of the image') or diag $err;
	spew('vol/prog', $probe);
	chmod 0755, 'vol/prog';
	($st, $out, $err) = cow('-v', "$d/vol:/data", '--entrypoint', '/data/prog', $layered, 'a');
	is(said($out, 'arg'), '/data/prog|a', 'a program on a volume') or diag $err;
}

{
	my $hide = oci('hide', {Cmd => ['/bin/probe', 'stat', '/etc/passwd', '/bin/sh', '/bin/probe']}, $base, tree('.wh..wh..opq' => '', 'bin/probe' => [0755, $probe]));
	for $m (monitors()) {
		my ($st, $out, $err) = cow($hide);
		like($out, qr{^/etc/passwd: No such file or directory\n/bin/sh: No such file.*\n/bin/probe 755 0:0\n\z}, "$m: a layer whose root is opaque") or diag $err;
	}
}

# --- what cannot be started
$m = 'process';
my $odd = oci('odd', {Cmd => ['probe']}, $base, tree('bin/text' => [0755, "hello\n"], 'bin/script' => [0755, "#!/bin/none\n"],
	'bin/plain' => 'x', 'bin/arm' => [0755, do { my $e = $probe; substr($e, 18, 2) = pack('v', 183); $e }], 'bin/empty' => [0755, ''],
	'bin/loop' => [0755, "#!/bin/loop\n"], 'bin/circle' => '->circle', 'bin/mine' => [0700, $probe], 'bin/cut' => [0755, substr($probe, 0, 300)],
	'bin/dyn' => [0755, slurp('/bin/true')]));
for my $c (['none', 127, qr/none: not found on the image's PATH/], ['/bin/none', 127, qr{/bin/none: no such file}], ['plain', 126, qr/not executable/],
	['/bin/text', 126, qr/neither an ELF program nor/], ['script', 126, qr{interpreter /bin/none}], ['arm', 126, qr/ARM64/], ['/bin', 126, qr/directory/],
	['loop', 126, qr/for ever/], ['/bin/circle', 126, qr/circle/], ['empty', 126, qr/empty/], ['cut', 126, qr/truncated/],
	['dyn', 126, qr/dynamic linker/]) {
	my ($st, $out, $err) = cow($odd, $c->[0]);
	is($st, $c->[1], "$c->[0]: $c->[1]");
	like($err, $c->[2], 'and why');
	is($err =~ tr/\n//, 1, 'in one line') or diag $err;
}
{
	my ($st, $out, $err) = cow('-u', '5', $odd, 'mine');
	is($st, 126, 'a program that the user may not execute');
	my $arm = oci('arm', {architecture => 'arm64', Cmd => ['probe']}, $base);
	($st, $out, $err) = cow($arm);
	isnt($st, 0, 'an image for ARM is refused');
	like($err, qr/arm64|amd64/, 'and why');
	($st, $out, $err) = cow(oci('silent', {}, $base));
	is($st, 125, 'an image without a command');
	like($err, qr/no command of its own/, 'and why');
	($st, $out, $err) = cow('image:nothing');
	is($st, 127, 'an image that is not there');
	($st, $out, $err) = cow('--require-signature', 'key.pem', './probe');
	is($st, 125, 'a program has no signature');
	($st, $out, $err) = cow('--process', 'web', './probe');
	is($st, 125, 'nor process types');
	($st, $out, $err) = cow('-P', './probe');
	is($st, 125, 'nor exposed ports');
	my $many = oci('many', {Entrypoint => ['/bin/probe'], ExposedPorts => {map { ("$_/tcp" => {}) } 1000 .. 1064}}, $base);
	($st, $out, $err) = cow('-P', $many);
	ok($st == 125 && $err =~ /exposes more than 64 ports.*-p/, 'nor more than there is room for, and it says so') or diag $err;
	($st, $out, $err) = cow($many);
	is($st, 0, 'without -P they do not matter') or diag $err;
	($st, $out, $err) = cow('--root', '/', $plain);
	is($st, 125, '--root and an image');
	($st, $out, $err) = cow('--max-size', '100K', oci('large', {Cmd => ['probe']}, tree('bin/probe' => [0755, $probe], big => 'x' x 300000)));
	is($st, 125, '--max-size');
	($st, $out, $err) = cow('--max-entries', '3', oci('many', {Cmd => ['probe']}, tree('bin/probe' => [0755, $probe], map { ("f$_" => '') } 1 .. 9)));
	is($st, 125, '--max-entries');
}

# --- signals
for $m (monitors()) {
	for my $c (['SIGQUIT', 'TERM', 3], ['37', 'TERM', 37], ['SIGRTMIN+3', 'TERM', 37], ['usr1', 'TERM', 10], ['WINCH', 'TERM', 28], [undef, 'TERM', 15], ['SIGQUIT', 'INT', 2]) {
		my ($stop, $sig, $want) = @$c;
		my $im = oci("stop$m" . ($stop // '') . $sig, {Entrypoint => ['/bin/probe', 'wait'], $stop ? (StopSignal => $stop) : ()}, $base);
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, $im);
		for (1 .. 200) { last if slurp($g->{out}) =~ /ready/; sleep 0.05 }
		my $st = stop_guest($g, $sig);
		is(slurp($g->{out}), "ready\nsignal $want\n", "$m: StopSignal " . ($stop // 'none') . ", SIG$sig: the program gets $want") or diag slurp($g->{err});
		is($st, 40 + $want % 20, 'and ends by itself');
	}
	my $snap = scratch() . '/x';
	my $first = start_guest({}, $COWBELL, 'run', '--monitor', $m, '--name', "stop-$m-$$", oci("snap$m", {Entrypoint => ['/bin/busybox', 'sh', '-c',
		'trap "echo quit; exit 5" QUIT; echo ready; while :; do :; done'], StopSignal => 'SIGQUIT'}, $base));
	for (1 .. 200) { last if slurp($first->{out}) =~ /ready/; sleep 0.05 }
	run_out({}, $COWBELL, 'snapshot', 'create', "stop-$m-$$", '--stop', '-o', $snap);
	stop_guest($first, 0);
	my $later = start_guest({}, $COWBELL, 'run', '--monitor', $m, '--snapshot', $snap);
	sleep 0.3;
	is(stop_guest($later, 'TERM'), 5, "$m: StopSignal is in a snapshot") or diag slurp($later->{err});
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, oci("kill$m", {Entrypoint => ['/bin/probe', 'wait'], StopSignal => 'SIGKILL'}, $base));
	for (1 .. 200) { last if slurp($g->{out}) =~ /ready/; sleep 0.05 }
	is(stop_guest($g, 'TERM'), 137, "$m: StopSignal SIGKILL");
}
$m = 'process';
{
	my ($st, $out, $err) = cow(oci('badstop', {Cmd => ['probe'], StopSignal => 'SIGNONE'}, $base));
	is($st, 125, 'a StopSignal that is none');
}

# --- process types and ports
my %types = (web => 'probe --port $PORT "${NAME:-no name}" \'$PORT\'', worker => 'MODE=w exec probe worker', release => 'probe release',
	chdir => 'cd /etc && X=1 exec probe y', then => 'cd /etc && Y=1 probe pass*', loud => 'probe x > /dev/null && probe y', glob => 'probe /bin/pro*', empty => ' ');
sub processes {
	my ($name, %t) = @_;
	return oci($name, {Env => ['PATH=/bin', 'PORT=8080'], Cmd => ['probe', 'cmd'], ExposedPorts => {'8080/tcp' => {}, '53/udp' => {}},
		Labels => {'dev.cowbell.processes' => $json->encode(\%t)}}, $base);
}
my $app = processes('app', %types);
for my $c ([[], 'probe|--port|8080|no name|$PORT'], [['--process', 'web', '-e', 'NAME=a b'], 'probe|--port|8080|a b|$PORT'],
	[['-p', '127.0.0.1:0:9000'], 'probe|--port|9000|no name|$PORT'], [['-p', '127.0.0.1:0:9000', '-e', 'PORT=1'], 'probe|--port|1|no name|$PORT'],
	[['--process', 'chdir'], 'probe|y'], [['--process', 'then'], 'probe|passwd'], [['--process', 'worker'], 'probe|worker'], [['--process', 'glob'], 'probe|/bin/probe']) {
	my ($st, $out, $err) = cow(@{$c->[0]}, $app);
	is($st, 0, "process types: @{$c->[0]}") or diag $err;
	is(said($out, 'arg'), $c->[1], 'the command');
	is(said($out, 'cwd'), '/etc', 'where it changed to, without a process for the shell') if "@{$c->[0]}" =~ /chdir|then/;
	like(said($out, 'env'), qr/MODE=w/, 'with its assignment') if "@{$c->[0]}" =~ /worker/;
}
{
	my ($st, $out, $err) = cow($app, 'probe', 'one-off');
	is(said($out, 'arg'), 'probe|one-off', 'a one-off command');
	($st, $out, $err) = cow('--process', 'none', $app);
	is($st, 125, 'no such process type');
	like($err, qr/it has: .*worker/, 'those that there are');
	($st, $out, $err) = cow('--process', 'empty', $app);
	is($st, 125, 'an empty command');
	($st, $out, $err) = cow('--process', 'web', $app, 'x');
	is($st, 125, '--process and a command');
	($st, $out, $err) = cow(processes('two', a => 'probe a', b => 'probe b'));
	is($st, 125, 'several, and no web');
	like($err, qr/a, b/, 'are listed');
	($st, $out, $err) = cow(processes('one', release => 'probe r', b => 'probe b'));
	is(said($out, 'arg'), 'probe|b', 'the only one besides release');
	my $port = free_port();
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $m, '-P', '-p', "127.0.0.1:$port:8080", $app, '/bin/probe', 'wait');
	for (1 .. 200) { last if slurp($g->{out}) =~ /ready/; sleep 0.05 }
	stop_guest($g);
	like(slurp($g->{err}), qr/port \d+ of the host is port 53 of/, '-P forwards what is exposed and tells where');
	unlike(slurp($g->{err}), qr/is port 8080/, 'besides what -p forwards');
	($st, $out, $err) = cow(oci('noshell', {Labels => {'dev.cowbell.processes' => '{"web":"probe | probe"}'}}, tree('bin/probe' => [0755, $probe])));
	is($st, 127, 'a pipe without a shell in the image');
	like($err, qr/a pipe, which takes a shell/, 'and why');
}

# --- names, damage, prune
sub command { return run_out({}, $COWBELL, @_) }
{
	my ($st, $out, $err) = command('build', '--from', $plain, '-t', 'named:1');
	is($st, 0, 'an image gets a name') or diag $out, $err;
	($st, $out, $err) = cow('image:named:1');
	is(said($out, 'arg'), 'probe|one|two|three words', 'and runs by it');
	($st, $out, $err) = run_out({}, $COWBELL, 'run', 'named:1');
	is($st, 127, 'a bare word is a program');
	like($err, qr/cowbell run image:named:1/, 'and the right command is told');
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', 'process', '--entrypoint', '/bin/probe', 'image:named:1', 'wait');
	for (1 .. 200) { last if slurp($g->{out}) =~ /ready/; sleep 0.05 }
	command('rm', 'named:1');
	command('prune', '--all');
	is(stop_guest($g), 55, 'an instance runs on when its image is removed and pruned');
	($st) = cow('image:named:1');
	is($st, 127, 'which is gone then');
}
# A prune at any moment takes nothing away from an image that is being brought in and started.
{
	my $end = time + 30;
	my $pid = fork // die;
	if (!$pid) {
		open(STDOUT, '>', '/dev/null');
		open(STDERR, '>', '/dev/null');
		while (time < $end) { system($COWBELL, 'prune', '--all') == 0 or last }
		require POSIX;
		POSIX::_exit(0);
	}
	my @bad;
	for (1 .. 25) {
		my ($st, $out, $err) = cow($plain);
		push @bad, "$st: $err" if $st || said($out, 'arg') ne 'probe|one|two|three words';
	}
	kill 'KILL', $pid;
	waitpid $pid, 0;
	is("@bad", '', '25 starts while everything is pruned all the time');
}
my $blobs = "$own/data/cowbell/blobs/sha256";
sub blobs_like { my ($re) = @_; return grep { substr(slurp($_), 0, 4096) =~ $re } glob("$blobs/*") }
for my $c (['manifest', qr/^\{.*"schemaVersion"/s], ['configuration', qr/^\{.*"rootfs"/s], ['layer', undef]) {
	my ($what, $re) = @$c;
	for my $how ('damaged', 'cut', 'missing') {
		system('rm', '-rf', "$own/data");
		my ($st, $out, $err) = command('build', '--from', $plain, '-t', 'victim');
		my @b = $re ? blobs_like($re) : grep { -s $_ > 100000 } glob("$blobs/*");
		is(@b, 1, "a $what to be $how") or next;
		chmod 0600, $b[0];
		my $text = slurp($b[0]);
		if ($how eq 'missing') {
			unlink $b[0];
		} elsif ($how eq 'cut') {
			spew($b[0], substr($text, 0, $what eq 'layer' ? 8192 : 50));
		} else {
			substr($text, $what eq 'layer' ? 1024 : 60, 64) = "\xff" x 64;
			spew($b[0], $text);
		}
		for $m (monitors()) {
			($st, $out, $err) = cow('image:victim');
			is($st, 125, "$m: $how $what") or diag $out, $err;
			like($err, qr/^cowbell: [^\n]*(?:damaged|missing|EROFS)[^\n]*\n\z/, 'one line says so') or diag $err;
		}
	}
}

# --- signatures
$m = 'process';
{
	command('build', '--from', $plain, '-t', 'signed');
	my ($st, $out, $err) = command('keygen', 'a.key', 'a.pub');
	is($st, 0, 'a key') or diag $err;
	command('keygen', 'b.key', 'b.pub');
	($st, $out, $err) = cow('--require-signature', 'a.pub', 'image:signed');
	isnt($st, 0, 'nothing starts unsigned');
	is($out, '', 'nothing at all');
	command('sign', '--key', 'a.key', 'signed');
	($st, $out, $err) = cow('--require-signature', 'a.pub', 'image:signed');
	is($st, 0, 'it starts when it is signed') or diag $err;
	($st, $out, $err) = cow('--require-signature', 'b.pub', 'image:signed');
	isnt($st, 0, 'but not for another key');
}

# --- speed, generously
{
	command('build', '--from', oci('quick', {Cmd => ['/bin/probe', 'cat', '/etc/hostname']}, $base), '-t', 'quick');
	for $m (monitors()) {
		my $best = 1e9;
		for (1 .. 20) {
			my $t = time;
			system("$COWBELL run --monitor $m image:quick >/dev/null 2>&1 </dev/null");
			$best = time - $t if time - $t < $best;
		}
		cmp_ok($best, '<', 0.1, sprintf("$m: from the start to the end of a small image: %.1f ms", $best * 1000));
	}
}

# --- sharing: many instances of one image hold its pages once
SKIP: {
	skip('needs python3', 1) unless have('python3');
	mkdir 'py';
	spew('py/app.py', "import http.server, json, sys, time\nprint('ready', flush=True)\ntime.sleep(600)\n");
	my ($st, $out, $err) = run_out({timeout => 300}, $COWBELL, 'build', 'py', '-t', 'py');
	skip('no Python image can be built here', 1) if $st;
	for $m (monitors()) {
		my $n = 20;
		my @g = map { start_guest({}, $COWBELL, 'run', '--monitor', $m, '-m', '128M', 'image:py') } 1 .. $n;
		for my $g (@g) { for (1 .. 400) { last if slurp($g->{out}) =~ /ready/; sleep 0.05 } }
		my ($pss, $rss, $counted, $layer_pss, $layer_rss) = (0, 0, 0, 0, 0);
		my %child;
		for my $s (glob('/proc/[0-9]*/stat')) {
			my ($pid, $ppid) = slurp($s) =~ /^(\d+) \(.*\) \S (\d+)/s or next;
			push @{$child{$ppid}}, $pid;
		}
		for my $g (@g) {
			my @all = ($g->{pid});
			for (my $i = 0; $i < @all; $i++) { push @all, @{$child{$all[$i]} // []} }
			for my $p (@all) {
				my $r = slurp("/proc/$p/smaps_rollup");
				$pss += $1 if $r =~ /^Pss:\s+(\d+)/m;
				$rss += $1 if $r =~ /^Rss:\s+(\d+)/m;
				$counted++;
				my $layer = 0;
				for my $l (split /\n/, slurp("/proc/$p/smaps")) {
					$layer = $l =~ m{/blobs/} if $l =~ /^[0-9a-f]+-[0-9a-f]+ /;
					next unless $layer;
					$layer_pss += $1 if $l =~ /^Pss:\s+(\d+)/;
					$layer_rss += $1 if $l =~ /^Rss:\s+(\d+)/;
				}
			}
		}
		is(scalar(grep { slurp($_->{out}) =~ /ready/ } @g), $n, "$m: $n instances of one image run");
		note(sprintf("$m: " . 'memory of an instance: %.1f MiB PSS, %.1f MiB RSS (%d processes of %d instances)', $pss / 1024 / $n, $rss / 1024 / $n, $counted, $n));
		note(sprintf('of these pages of the image: %.2f MiB PSS, %.1f MiB RSS', $layer_pss / 1024 / $n, $layer_rss / 1024 / $n));
		cmp_ok($pss / $n, '<', 16 * 1024, 'each adds less than 16 MiB');
		ok($layer_rss > 0 && $layer_pss < $layer_rss * 2 / $n, 'and the pages of the image are there once for all');
		stop_guest($_, 'KILL') for @g;
	}
}
done_testing();
