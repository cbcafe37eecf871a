#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Malicious builds: code of the app's own (a Makefile, npm's postinstall, cargo's build.rs) tries to read, reach and outlive
# what it must not. Each build either succeeds without the host's secrets in the image, or fails clearly. The secret is one
# random word that lies in the caller's home, environment and files: its bytes may appear nowhere in the store or the output.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::Bin/../integration";
use Cowbell;
use IO::Socket::INET;
use IO::Socket::UNIX;
use POSIX ();
use Socket;
use Test::More;
use Time::HiRes qw(sleep time);

plan skip_all => 'bubblewrap is not installed' unless -x '/usr/bin/bwrap';
plan skip_all => 'no C compiler' unless have('cc', 'make');

my $tmp = scratch();
chmod 0755, $tmp;
my $secret = sprintf 'SECRET%08x%08x', rand(2**32), rand(2**32);
my $home = "$tmp/home";
system('mkdir', '-p', "$home/.ssh", "$home/.config", "$tmp/data", "$tmp/cache");
spew("$_", "$secret\n") for "$home/.ssh/id_rsa", "$home/.netrc", "$tmp/secret.txt";
$ENV{HOME} = $home;
$ENV{XDG_DATA_HOME} = "$tmp/data";
$ENV{XDG_CACHE_HOME} = "$tmp/cache";
$ENV{MY_TOKEN} = $secret;
delete @ENV{grep { /^(npm_config|COWBELL_OWN)/i } keys %ENV};

# --- what the host has that a build must not reach ---------------------------------------------------------
my $tcp = IO::Socket::INET->new(Listen => 20, LocalAddr => '127.0.0.1') or die "listen: $!";
my $abstract = "\0cowbell-test-$$";
socket(my $unix, AF_UNIX, SOCK_STREAM, 0) or die "unix: $!";
bind($unix, pack_sockaddr_un($abstract)) && listen($unix, 20) or die "unix: $!";
my $named = IO::Socket::UNIX->new(Local => "$tmp/sock", Listen => 5) or die "unix: $!";
my $port = $tcp->sockport;
my $victim = fork // die;
if (!$victim) {
	exec 'sleep', '600';
}
# Has anybody connected?
sub reached {
	my $n = 0;
	for my $s ($tcp, $unix, $named) {
		my $r = '';
		vec($r, fileno($s), 1) = 1;
		$n += select($r, undef, undef, 0) > 0;
	}
	return $n;
}

# --- the attack, in Perl, which is everywhere -----------------------------------------------------------------
my $evil = <<'EVIL';
use strict; use warnings; no warnings;
use Socket; use Fcntl; use POSIX ();
my ($tmp, $port, $abstract, $victim, $secret_part) = @ARGV;
$| = 1; $SIG{XFSZ} = 'IGNORE';
sub call { my @a = @_; return syscall(shift @a, $a[0] // 0, $a[1] // 0, $a[2] // 0, $a[3] // 0, $a[4] // 0) }
sub breach { print "BREACH: @_\n" }
print "evil build runs\n";
# files of the host
for my $p ('/etc/shadow', '/root/.bashrc', '/root/.profile', '/home', "$tmp/home/.ssh/id_rsa", "$tmp/secret.txt", "$tmp/data", "$tmp/data/cowbell",
    '/var/lib/cowbell', '/var/lib/dpkg/status', '/var/log', '/run', '/sys/kernel', '/boot', '/proc/1/root/etc/shadow', '/proc/self/root/root', '/oldroot', '/newroot') {
	open(my $f, '<', $p) and breach("opened $p");
}
for my $d ('/proc', '/proc/self/task') { opendir(my $h, $d); for my $p (grep { /^\d+$/ } readdir $h) {
	for my $what ('environ', 'cmdline') {
		open(my $f, '<', "/proc/$p/$what") or next;
		local $/; my $t = <$f>;
		breach("secret in /proc/$p/$what") if $t =~ /SECRET[0-9a-f]{16}/;
	}
	for my $l (glob "/proc/$p/fd/*") { my $to = readlink $l; breach("$l leads to $to") if $to =~ m{^/} && $to !~ m{^/(app|dev|tmp|proc|usr)(/|$)} }
} }
breach('the environment has the secret') if join('', %ENV) =~ /SECRET/;
breach('HOME') if $ENV{HOME} ne '/tmp';
# processes of the host
breach('the host\'s process can be seen') if -e "/proc/$victim" && $victim > 1000;
breach('killed') if $victim > 1000 && kill 0, $victim;
breach('ptrace of it') if $victim > 1000 && !(call(101, 16, $victim, 0, 0) < 0);
# the network
socket(my $s, PF_INET, SOCK_STREAM, 0);
breach('TCP') if connect($s, pack_sockaddr_in($port, inet_aton('127.0.0.1')));
socket(my $u, PF_UNIX, SOCK_STREAM, 0);
breach('abstract socket') if connect($u, pack_sockaddr_un("\0$abstract"));
socket($u, PF_UNIX, SOCK_STREAM, 0);
breach('named socket') if connect($u, pack_sockaddr_un("$tmp/sock"));
socket(my $d, PF_INET, SOCK_DGRAM, 0);
breach('UDP to the world') if defined send($d, 'x', 0, pack_sockaddr_in(53, inet_aton('192.0.2.1')));
breach('resolved') if inet_aton('example.com');
breach('raw socket') if socket(my $raw, PF_INET, SOCK_RAW, 1);
# devices
for my $p ('/dev/kvm', '/dev/sda', '/dev/vda', '/dev/nvme0n1', '/dev/mem', '/dev/kmsg', '/dev/fuse') { breach("device $p") if -e $p }
mkdir '/app/public';
for my $m ([0060000, 8, 0], [0060000, 254, 0], [0020000, 10, 232], [0020000, 1, 3]) {
	breach("mknod @$m") if call(133, "/app/public/dev$$m[1]", $$m[0] | 0666, $$m[1] << 8 | $$m[2]) == 0;
}
# writing elsewhere
for my $p ('/usr/x', '/usr/bin/x', '/usr/local/x', '/x', '/etc/x', '/etc/passwd', '/dev/x', '/var/x', "$tmp/x", '/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger',
    '/sys/x', '/opt/x', '/proc/sys/kernel/hostname') {
	open(my $f, '>>', $p) and breach("may write $p");
}
# more power
breach('user namespace') if call(272, 0x10000000) == 0;
breach('mount namespace') if call(272, 0x20000) == 0;
breach('mount') if call(165, 'none', '/tmp', 'tmpfs', 0, 0) == 0;
breach('setuid') if call(105, 0) == 0 && $< == 0;
breach('bpf') if call(321, 5, 0, 0) >= 0;
breach('keyctl') if call(250, 0, -3, 0, 0, 0) >= 0;
breach('io_uring') if call(425, 1, "\0" x 120) >= 0;
breach('perf') if call(298, "\0" x 112, 0, -1, -1, 0) >= 0;
breach('chroot') if call(161, '/tmp') == 0;
for my $f (\*STDIN, \*STDOUT, \*STDERR) { my $c = 'x'; breach('TIOCSTI') if ioctl($f, 0x5412, $c) }
breach('terminal') if open(my $t, '+<', '/dev/tty');
# the build directory itself cannot be replaced
breach('/app moved') if rename('/app', '/tmp/app') || rmdir '/app';
# what is left behind for the collector
mkdir "/app/public/$_" for qw(a closed deep);
symlink '/etc/shadow', '/app/public/shadow';
symlink "$tmp/secret.txt", '/app/public/secret';
symlink "$tmp/home", '/app/public/home';
symlink "$tmp/home", '/app/static';
symlink '/proc/self/root/etc/shadow', '/app/public/magic';
symlink '../../../../../../../..' . "$tmp/secret.txt", '/app/public/up';
symlink 'loop', '/app/public/loop';
symlink "$tmp/home", '/app/node_modules' if !-e '/app/node_modules';
breach('hard link out') if link("$tmp/secret.txt", '/app/public/hard');
link '/usr/bin/perl', '/app/public/perl' and breach('hard link to /usr');
POSIX::mkfifo('/app/public/fifo', 0666);
socket(my $us, PF_UNIX, SOCK_STREAM, 0); bind($us, pack_sockaddr_un('/app/public/socket'));
open(my $su, '>', '/app/public/setuid'); print $su "x"; close $su; chmod 06777, '/app/public/setuid';
open(my $sp, '>', '/app/public/sparse'); truncate $sp, 1 << 40; close $sp; unlink '/app/public/sparse' if -s '/app/public/sparse' > 1 << 20;
open(my $nl, '>', "/app/public/new\nline \e[2J"); print $nl 'x'; close $nl;
open(my $plain, '>', '/app/public/plain.txt'); print $plain "plain\n"; close $plain;
open(my $cl, '>', '/app/public/closed/file'); close $cl; chmod 0, '/app/public/closed/file'; chmod 0500, '/app/public/closed';
print "\e]0;title\a \e[31mred\e[0m\n";
# a daemon that would change the image while it is made, and live on
if (!fork) {
	POSIX::setsid();
	exit 0 if fork;
	close $_ for *STDIN, *STDOUT, *STDERR;
	$0 = "cowbell-evil-$victim";
	for (1 .. 100000) {
		rename '/app/public/a', '/app/public/b'; symlink "$tmp/home", '/app/public/a';
		unlink '/app/public/a'; rename '/app/public/b', '/app/public/a';
		select undef, undef, undef, 0.001;
	}
	POSIX::_exit(0);
}
select undef, undef, undef, 0.05;
print "evil build ends\n";
exit 0;
EVIL

my $program = <<'C';
#include <stdio.h>
#include <dirent.h>
#include <sys/stat.h>
int main(void)
{
	char path[4096];
	DIR *d = opendir("/app/public");
	puts("program runs");
	for (struct dirent *e; d && (e = readdir(d));) {
		struct stat st;
		snprintf(path, sizeof(path), "/app/public/%s", e->d_name);
		if (lstat(path, &st))
			continue;
		printf("%o %s\n", (unsigned)st.st_mode, e->d_name);
		if (S_ISREG(st.st_mode) && st.st_mode & 07000)
			puts("BREACH: special bits");
		if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISLNK(st.st_mode))
			puts("BREACH: special file");
		FILE *f = S_ISLNK(st.st_mode) ? fopen(path, "r") : NULL;
		while (f && fgets(path, sizeof(path), f))
			fputs(path, stdout);
		if (f)
			fclose(f);
	}
	return 0;
}
C

my @evil = ('perl', '/app/evil.pl', $tmp, $port, substr($abstract, 1), $victim);
my $line = join ' ', @evil;
my %build;

sub app {
	my ($name, %files) = @_;
	my $dir = "$tmp/app-$name";
	for my $f (keys %files) {
		my $path = "$dir/$f";
		system('mkdir', '-p', $path =~ s{/[^/]*$}{}r);
		spew($path, $files{$f});
	}
	return $dir;
}

sub build {
	my ($dir, $tag, @more) = @_;
	my $t = time;
	my ($st, $out, $err) = run_out({timeout => 120}, $COWBELL, 'build', $dir, '-t', $tag, @more);
	return ($st, $out, $err, time - $t);
}

sub in_store {
	return system('grep', '-rqaF', $secret, "$tmp/data") == 0;
}

# Processes of a build that are still there.
sub alive {
	my ($what) = @_;
	my $n = 0;
	for my $f (glob '/proc/[0-9]*/cmdline') {
		open(my $h, '<', $f) or next;
		local $/;
		my $c = (<$h> // '') =~ tr/\0/ /r;
		$n++ if $c =~ /\Q$what\E/;
	}
	return $n;
}

# --- builds that try all of the above ------------------------------------------------------------------------------
my $build_rs = <<'RS' =~ s/ARGUMENTS/join ', ', map { qq("$_") } @evil[1 .. $#evil]/er;
use std::process::Command;
fn main() {
    let o = Command::new("perl").args(&[ARGUMENTS]).output().unwrap();
    for l in String::from_utf8_lossy(&o.stdout).lines() {
        println!("cargo:warning={}", l);
    }
}
RS
my %attacks = (
	c => {dir => app('c', 'evil.pl' => $evil, 'app.c' => $program, 'Makefile' => "app: app.c\n\t$line\n\tcc -O1 -o app app.c\n")},
	node => {need => ['node', 'npm'], dir => app('node', 'evil.pl' => $evil, 'server.js' => "console.log('program runs')\n",
		'package.json' => qq({"name":"evil","version":"1.0.0","scripts":{"postinstall":"$line","start":"node server.js"}}))},
	rust => {need => ['cargo'], dir => app('rust', 'evil.pl' => $evil, 'src/main.rs' => qq(fn main() { println!("program runs"); }\n),
		'Cargo.toml' => qq([package]\nname = "evil"\nversion = "0.1.0"\nedition = "2021"\n),
		'build.rs' => $build_rs)},
);
for my $lang (sort keys %attacks) {
	my $a = $attacks{$lang};
	SKIP: {
		skip "$lang: not installed: @{$a->{need}}", 8 if $a->{need} && !have(@{$a->{need}});
		my ($st, $out, $err) = build($a->{dir}, "evil-$lang:1");
		like($out, qr/evil build runs/, "$lang: the attack was run") or diag "status $st\n$out$err";
		unlike("$out$err", qr/BREACH/, "$lang: nothing of it succeeded");
		unlike("$out$err", qr/\Q$secret\E/, "$lang: the secret is not in the output");
		unlike("$out$err", qr/[\e\a]/, "$lang: control characters do not reach the terminal");
		ok(!in_store(), "$lang: the secret is not in the store");
		is(reached(), 0, "$lang: no socket of the host was reached");
		is(alive("cowbell-evil-$victim"), 0, "$lang: the daemon it started is dead");
		if ($st) {
			like($err, qr/^ !     /m, "$lang: it failed clearly") and diag "failed: $err";
			skip "$lang: not built", 1;
		}
		my ($rst, $rout, $rerr) = run_out({timeout => 60}, $COWBELL, 'run', '--monitor', (monitors())[0], "image:evil-$lang:1");
		ok($rout =~ /program runs/ && "$rout$rerr" !~ /BREACH|\Q$secret\E/, "$lang: its image runs, without anything of the host's")
		    or diag "status $rst\n$rout$rerr";
	}
}
ok(kill(0, $victim), 'the host\'s process lives');

# --- builds that do not end, or take too much ------------------------------------------------------------------------
my @greedy = (
	['an endless loop', "while :; do :; done", qr/did not end within/, 2],
	['endless output', "yes aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", qr/did not end within/, 2],
	['output without end of line', "cat /dev/zero", qr/did not end within/, 2],
	['a fork bomb', 'f() { f | f; }; f; sleep 100', qr/did not end within/, 3],
	['closed output and a long sleep', 'exec sleep 1000 >&- 2>&-', qr/did not end within/, 2],
	['the disk', 'i=0; while [ $$i -lt 20 ]; do fallocate -l 1900M f$$i; i=$$((i+1)); done; sleep 100', qr/wrote more than a build may|disk is full/, 30],
	['deep directories', "perl -e 'for (1..3000) { mkdir q(d); chdir q(d) } sleep 100'", qr/wrote more than a build may/, 30],
	['memory of /tmp', 'head -c 3G /dev/zero > /tmp/x', qr/failed|status/, 60],
	['a signal', 'kill -SEGV $$PPID', qr/failed|status|signal/, 30],
);
my $i = 0;
for my $g (@greedy) {
	my ($name, $command, $want, $seconds) = @$g;
	$i++;
	my $dir = app("greedy$i", 'Makefile' => "all:\n\t$command\n", 'Procfile' => "web: ./app\n");
	my ($st, $out, $err, $took) = build($dir, "greedy$i", '--timeout', "${seconds}s");
	ok($st == 125 && "$out$err" =~ $want && $took < $seconds + 15 && length($out) < 20e6, "$name: ended, with a message")
	    or diag sprintf "status %d after %.1f s, %d bytes of output\n%s%s", $st, $took, length $out, substr($out, -500), $err;
}
is(alive('sleep 1000 '), 0, 'no process of theirs is left');
my @left = glob("$tmp/data/cowbell/tmp/* $tmp/data/cowbell/scratch/*");
is("@left", '', 'and no scratch directory');

# --- no sandbox, no build ----------------------------------------------------------------------------------------------
SKIP: {
	my $dir = app('nosandbox', Makefile => "all:\n\ttouch $tmp/unconfined\n", Procfile => "web: ./app\n");
	my @without = ('unshare', '-Ur', 'sh', '-c', 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"', 'sh');
	skip 'user namespaces cannot be turned off here', 2 if system("@without[0 .. 2] -c true >/dev/null 2>&1");
	my ($st, $out, $err) = run_out({timeout => 60}, @without, $COWBELL, 'build', $dir, '-t', 'nosandbox');
	ok($st == 125 && $err =~ /needs user namespaces/, 'where there can be no sandbox, the build says what to do') or diag "status $st\n$out$err";
	ok(!-e "$tmp/unconfined", 'and nothing of the app was run');
}

# --- we are killed -----------------------------------------------------------------------------------------------------
for my $sig ('KILL', 'INT') {
	my $dir = app("killed-$sig", Makefile => "all:\n\tsetsid sleep 4711 & exec sleep 4711\n", Procfile => "web: ./app\n");
	my $g = start_guest({}, $COWBELL, 'build', $dir, '-t', 'killed');
	my $end = time + 20;
	sleep 0.05 until alive('sleep 4711 ') || time > $end;
	my $ran = alive('sleep 4711 ');
	stop_guest($g, $sig);
	$end = time + 5;
	sleep 0.05 while alive('sleep 4711 ') && time < $end;
	ok($ran && !alive('sleep 4711 '), "SIG$sig to cowbell build: the step ends, too");
}

# --- npm with network, told by the app what to start ----------------------------------------------------------------
SKIP: {
	skip 'node and npm are not installed', 3 unless have('node', 'npm', 'git');
	my $dir = app('npmrc', 'evil.sh' => "#!/bin/sh\necho BREACH: npm started it\nexec perl -e 'use Socket; socket(S,PF_INET,SOCK_STREAM,0); connect(S,pack_sockaddr_in($port,inet_aton(q(127.0.0.1)))); syswrite S, q(EVIL)'\n",
		'.npmrc' => "git=/app/evil.sh\nscript-shell=/app/evil.sh\nnode-options=--require=/app/evil.js\nignore-scripts=false\nshell=/app/evil.sh\n",
		'evil.js' => "require('child_process').execFileSync('/app/evil.sh')\n",
		'config' => "[core]\n\tsshCommand = /app/evil.sh\n\tfsmonitor = /app/evil.sh\n[credential]\n\thelper = /app/evil.sh\n", 'HEAD' => "ref: refs/heads/main\n",
		'objects/x' => '', 'refs/x' => '', 'package.json' => qq({"name":"evil","version":"1.0.0","dependencies":{"x":"git+ssh://git\@127.0.0.1:1/x.git"}}));
	chmod 0755, "$dir/evil.sh";
	my ($st, $out, $err) = build($dir, 'npmrc', '--timeout', '60s');
	isnt($st, 0, 'npm: a dependency that cannot be fetched fails the build');
	unlike("$out$err", qr/BREACH/, 'npm: starts nothing that the app\'s settings name');
	is(reached(), 0, 'npm: nothing of the app\'s saw the network');
}
ok(!in_store(), 'the secret is in nothing that was stored');
build(app('own', 'index.html' => $secret), 'own');
ok(in_store(), 'and the search would have found it: an app\'s own file with the word is found');
kill 'KILL', $victim;
waitpid $victim, 0;
done_testing();
