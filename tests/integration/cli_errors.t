#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Bad input gets one clear line and a distinct status, and leaves nothing behind.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin";
use Cowbell;
use IO::Socket::INET;
use Test::More;

my $dir = scratch();
my $cache = scratch();
$ENV{XDG_CACHE_HOME} = $cache;
spew("$dir/h.c", "int main(void) { return 0; }\n");
system('gcc', '-O1', "$dir/h.c", '-o', "$dir/good") == 0 or BAIL_OUT('gcc');
my $elf = slurp("$dir/good");

sub program {
	my ($name, $bytes, $mode) = @_;
	spew("$dir/$name", $bytes);
	chmod $mode // 0755, "$dir/$name";
}

# bad(NAME, STATUS, PATTERN, ARGS...): one line on standard error that matches, nothing on standard output.
sub bad {
	my ($name, $want, $re, @args) = @_;
	my ($st, $out, $err) = run_out({dir => $dir, timeout => 30}, $COWBELL, @args);
	my @lines = split /\n/, $err;
	ok($st == $want && @lines == 1 && $lines[0] =~ /^cowbell: / && $err =~ $re && $out eq '', "$name: status $want, one line")
		or diag "status $st\n$out$err";
	is_deeply([glob("$cache/cowbell/tmp.*")], [], "$name: leaves nothing behind");
}

# commands and options
bad('no command', 125, qr/cowbell run PROGRAM/);
bad('misspelled command', 125, qr/did you mean 'cowbell run'/, 'rnu', 'x');
bad('unknown command', 125, qr/cowbell --help/, 'frobnicate');
bad('no program', 125, qr/no program given/, 'run');
bad('misspelled option', 125, qr/did you mean '--monitor'/, 'run', '--moniter', 'kvm', './good');
bad('misspelled option with a value', 125, qr/did you mean '--egress'/, 'run', '--egres=none', './good');
bad('unknown option', 125, qr/--help/, 'run', '--zzzzzzzz', './good');
bad('unknown letter', 125, qr/no option '-Z'/, 'run', '-Z', './good');
bad('value missing', 125, qr/needs a value/, 'run', '-m');
bad('value not wanted', 125, qr/takes no value/, 'run', '--strace=yes', './good');
bad('monitor', 125, qr/auto, kvm or process/, 'run', '--monitor', 'xen', './good');
bad('size', 125, qr/size such as 64M/, 'run', '-m', '64Q', './good');
bad('size too small', 125, qr/between/, 'run', '-m', '1K', './good');
bad('size that overflows', 125, qr/size such as/, 'run', '-m', '99999999999999999999G', './good');
bad('port', 125, qr/HOST:PORT/, 'run', '-p', '80', './good');
bad('port too large', 125, qr/HOST:PORT/, 'run', '-p', '80:65536', './good');
bad('port address', 125, qr/no IPv4 address/, 'run', '-p', '1.2.3:80:80', './good');
bad('volume', 125, qr/HOSTDIR:GUESTDIR/, 'run', '-v', 'data', './good');
bad('volume that is not there', 125, qr/no such directory.*mkdir/, 'run', '-v', './nowhere:/data', './good');
bad('volume that is a file', 125, qr/not a directory/, 'run', '-v', './h.c:/data', './good');
bad('volume over /', 125, qr{over the guest's /}, 'run', '-v', '.:/', './good');
bad('egress', 125, qr/none, all or \[!\]CIDR/, 'run', '--egress', '10.0.0.0/33', './good');
bad('duration', 125, qr/duration such as/, 'run', '--timeout', 'soon', './good');
bad('name', 125, qr/letters, digits/, 'run', '--name', 'a b', './good');
bad('environment', 125, qr/NAME=VALUE/, 'run', '-e', '=x', './good');
bad('working directory', 125, qr/absolute path/, 'run', '-w', 'here', './good');
bad('root that is not there', 125, qr/No such file/, 'run', '--root', './nowhere', 'sh');
bad('root that is no image', 125, qr/neither a directory nor an EROFS image/, 'run', '--root', './h.c', 'sh');
bad('not in the root', 127, qr/not found on PATH/, 'run', '--root', $dir, 'sh');
bad('-t without a terminal', 125, qr/no terminal/, 'run', '-t', './good');

# programs
bad('no such file', 127, qr/no such file/, 'run', './nowhere');
bad('not on PATH', 127, qr/not found on PATH/, 'run', 'no-such-program-anywhere');
bad('not on PATH but here', 127, qr{\./good}, 'run', 'good');
bad('control characters in a name', 127, qr/^[^\n]*\n$/, 'run', "./a\nb\e[31m");
program('noexec', $elf, 0644);
bad('not executable', 126, qr/chmod \+x/, 'run', './noexec');
bad('a directory', 126, qr/is a directory/, 'run', $dir);
program('empty', '');
bad('empty', 126, qr/is empty/, 'run', './empty');
program('text', "echo hello\n");
bad('neither ELF nor script', 126, qr/neither an ELF/, 'run', './text');
program('cut1', substr($elf, 0, 20));
bad('truncated header', 126, qr/truncated/, 'run', './cut1');
program('cut2', substr($elf, 0, 100));
bad('truncated program headers', 126, qr/truncated/, 'run', './cut2');
program('cut3', substr($elf, 0, 3000));
bad('truncated segment', 126, qr/truncated/, 'run', './cut3');

# patch(NAME, OFFSET, BYTES): the good program with bytes replaced
sub patch {
	my ($name, @at) = @_;
	my $e = $elf;
	while (@at) {
		my ($off, $bytes) = splice @at, 0, 2;
		substr($e, $off, length $bytes) = $bytes;
	}
	program($name, $e);
}
patch('arm', 18, pack('v', 183));
bad('ARM64', 126, qr/ARM64/, 'run', './arm');
patch('i386', 4, "\1", 18, pack('v', 3));
bad('32-bit', 126, qr/32-bit/, 'run', './i386');
patch('object', 16, pack('v', 1));
bad('an object file', 126, qr/linked/, 'run', './object');
patch('many', 56, pack('v', 65535));
bad('too many headers', 126, qr/more program headers/, 'run', './many');
patch('far', 32, pack('Q<', 1 << 62));
bad('headers beyond the end', 126, qr/truncated/, 'run', './far');

# program headers of the good one: [offset of header, type]
my ($phoff, $phnum) = (unpack('Q<', substr($elf, 32, 8)), unpack('v', substr($elf, 56, 2)));
my @ph = map { $phoff + 56 * $_ } 0 .. $phnum - 1;
my @load = grep { unpack('V', substr($elf, $_, 4)) == 1 } @ph;
my ($interp) = grep { unpack('V', substr($elf, $_, 4)) == 3 } @ph;
my ($dynamic) = grep { unpack('V', substr($elf, $_, 4)) == 2 } @ph;
patch('overlap', $load[1] + 16, substr($elf, $load[0] + 16, 8), $load[1] + 8, substr($elf, $load[0] + 8, 8));
bad('overlapping segments', 126, qr/overlap/, 'run', './overlap');
patch('huge', $load[1] + 40, pack('Q<', ~0 & ~4095));
bad('huge segment', 126, qr/address space/, 'run', './huge');
patch('wrap', $load[1] + 32, pack('Q<', ~0));
bad('segment larger in the file', 126, qr/larger in the file|truncated/, 'run', './wrap');
patch('interp', $interp + 32, pack('Q<', 1 << 40));
bad('interpreter name too long', 126, qr/dynamic linker/, 'run', './interp');
patch('interp2', unpack('Q<', substr($elf, $interp + 8, 8)), "/nowhere/x\0");
bad('dynamic linker missing', 126, qr/dynamic linker/, 'run', './interp2');
patch('dyn', $dynamic + 8, pack('Q<', 1 << 50));
bad('dynamic section beyond the end', 126, qr/dynamic section/, 'run', './dyn');

program('noint', "#!/nowhere/interp\n");
bad('script with its interpreter missing', 126, qr/interpreter.*missing/, 'run', './noint');
program('noint2', "#!/usr/bin/env no-such-interpreter\n");
bad('env script with its interpreter missing', 127, qr/not on PATH/, 'run', './noint2');
program('loop', "#!$dir/loop\n");
bad('script that is its own interpreter', 126, qr/for ever/, 'run', './loop');
program('nothing', "#!\n");
bad('script that names nothing', 126, qr/names no interpreter/, 'run', './nothing');

# what the host has not
my $sock = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1');
my $busy = $sock->sockport;
for my $m (monitors()) {
	bad("$m: port in use", 125, qr/\b$busy\b/, 'run', '--monitor', $m, '-p', "127.0.0.1:$busy:80", './good');
}

# bad() for a command that ends in cowbell
sub bad_command {
	my ($name, $want, $re, @cmd) = @_;
	my ($st, $out, $err) = run_out({dir => $dir, timeout => 30}, @cmd);
	ok($st == $want && $err =~ /^cowbell: [^\n]*\n\z/ && $err =~ $re && $out eq '', "$name: status $want, one line") or diag "status $st\n$out$err";
	is_deeply([glob("$cache/cowbell/tmp.*")], [], "$name: leaves nothing behind");
}

# /dev/kvm taken away in a mount namespace of its own
SKIP: {
	if (!-w '/dev/kvm') {
		bad('no /dev/kvm', 125, qr/--monitor process/, 'run', '--monitor', 'kvm', './good');
		skip('there is no /dev/kvm', 4);
	}
	skip('no mount namespace', 6) if system("unshare -m mount --bind /dev/null /dev/kvm 2>/dev/null");
	my $cowbell = 'exec "$0" run --monitor kvm ./good';
	bad_command('another file as /dev/kvm', 125, qr{/dev/kvm.*--monitor process}, 'unshare', '-m', 'sh', '-c',
		"mount --bind /dev/null /dev/kvm; $cowbell", $COWBELL);
	bad_command('no /dev/kvm', 125, qr{no /dev/kvm.*--monitor process}, 'unshare', '-m', 'sh', '-c',
		"mount -t tmpfs none /dev; $cowbell", $COWBELL);
	my ($st) = run_out({dir => $dir}, 'unshare', '-m', 'sh', '-c', 'mount --bind /dev/null /dev/kvm; exec "$0" run ./good', $COWBELL);
	is($st, 0, 'auto goes on without /dev/kvm');
}
for my $m (monitors()) {
	bad_command("$m: no address space", 125, qr/no address space.*Cannot allocate memory/, 'sh', '-c',
		"ulimit -v 300000; exec \"\$0\" run --monitor $m ./good", $COWBELL);
}

# interrupted while it writes an image
{
	local $ENV{XDG_CACHE_HOME} = scratch();
	my $py = -x '/usr/bin/python3' ? '/usr/bin/python3' : './good';
	for my $s (0.1, 0.2, 0.3) {
		my $g = start_guest({dir => $dir}, $COWBELL, 'run', $py, '-c', 'pass');
		select undef, undef, undef, $s;
		stop_guest($g, 'TERM');
	}
	is_deeply([glob("$ENV{XDG_CACHE_HOME}/cowbell/tmp.*")], [], 'an interrupted preparation leaves nothing behind');
}

# what --root hides from the host side until the guest looks
my $root = scratch();
spew("$root/loop", "#!/loop\n");
spew("$root/noint", "#!/nowhere\n");
chmod 0755, "$root/loop", "$root/noint";
for my $m (monitors()) {
	bad("$m: script that is its own interpreter in a root", 126, qr/for ever/, 'run', '--monitor', $m, '--root', $root, '/loop');
	bad("$m: script with its interpreter missing in a root", 126, qr/interpreter.*missing/, 'run', '--monitor', $m, '--root', $root, '/noint');
}

# help and version speak on standard output
for my $args (['--help'], ['run', '--help'], ['help', 'run'], ['version'], ['--version'], ['cache', '--help']) {
	my ($st, $out, $err) = run_out({dir => $dir}, $COWBELL, @$args);
	ok($st == 0 && $out ne '' && $err eq '', "cowbell @$args");
}
# --json: one document, whatever goes wrong
{
	require JSON::PP;
	my $d = scratch();
	local $ENV{XDG_DATA_HOME} = "$d/data";
	for my $c (['pull', 'localhost:1/x'], ['push', 'nope'], ['push', 'nope', 'localhost:1/x'], ['verify', 'nope', '--key', 'x'], ['inspect', 'nope'],
		['images'], ['prune']) {
		my ($st, $out) = run_out({}, $COWBELL, $c->[0], '--json', @$c[1 .. $#$c]);
		my $o = eval { JSON::PP::decode_json($out) };
		my $good = $c->[0] eq 'inspect' ? ref $o eq 'ARRAY' : $st ? ref $o eq 'HASH' && $o->{error} && $o->{status} == $st : ref $o eq 'HASH';
		ok($good, "cowbell @$c --json: JSON ($st)") or diag $out;
	}
	spew("$d/file", '');
	local $ENV{XDG_DATA_HOME} = "$d/file";
	for my $c ('images', 'prune', 'build') {
		my ($st, $out, $err) = run_out({dir => $d}, $COWBELL, $c, '--json');
		ok($st == 125 && eval { JSON::PP::decode_json($out)->{status} == 125 } && $err =~ /^cowbell: .*Not a directory.*XDG_DATA_HOME/, "no store: cowbell $c") or diag "$out$err";
	}
	my ($st, $out, $err) = run_out({}, 'sh', '-c', "$COWBELL images --json >/dev/full; $COWBELL version >/dev/full");
	ok($st == 125 && $err =~ /cannot write the output/, 'output that cannot be written is a failure');
}
done_testing();
