#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Many processes in one instance: what they used comes back when they end, what cannot be had is an error to the
# program, and the end of the program is the end of all.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use JSON::PP;
use Test::More;
use Time::HiRes qw(time);

my $d = scratch();

sub build {
	my ($name, $text) = @_;
	spew("$d/$name.c", "#define _GNU_SOURCE\n" . join('', map { "#include <$_.h>\n" }
		qw(errno pthread signal stdio stdlib string unistd sys/mman sys/prctl sys/resource sys/wait)) . $text);
	system($ENV{CC} // 'gcc', '-O1', '-w', '-pthread', '-o', "$d/$name", "$d/$name.c") and die "$name does not compile";
}

# N children one after the other; "how" says what each does beside ending. Stacks and host processes of the dead are kept
# for the next, up to a number: first that many live at once, so that how many there are by chance later does not count.
build('loop', <<'C');
static void *th(void *a) { pause(); return a; }
static void many_at_once(void)
{
	int p[2];
	char x;
	pipe(p);
	for (int i = 0; i < 80; i++)
		if (!fork()) {
			close(p[1]);
			read(p[0], &x, 1);
			_exit(0);
		}
	close(p[0]);
	close(p[1]);
	while (wait(0) > 0)
		;
}
int main(int c, char **v)
{
	int n = atoi(v[1]), s, living[2];
	char how = v[2][0], *m = mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(m, 1, 1 << 20);
	if (n)
		many_at_once();
	pipe(living);
	for (int i = 0; i < n; i++) {
		pid_t p = how == 'v' ? vfork() : fork();
		if (p < 0)
			return perror("fork"), 1;
		if (!p && how == 'v')
			_exit(execl("/proc/self/exe", "x", "0", "f", NULL));
		if (!p && how == 'k') {
			pthread_t t;
			for (int k = 0; k < 3; k++)
				pthread_create(&t, 0, th, 0);
			kill(getpid(), SIGKILL);
		}
		if (!p && how == 'o') { /* orphans, which the library OS reaps */
			if (!fork())
				usleep(1000);
			_exit(0);
		}
		if (!p && how == 'm') {
			memset(m, 2, 1 << 20);
			mmap(0, 1 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
			fork();
			open("/dev/null", 0);
			alarm(100);
			raise(SIGTERM);
		}
		if (!p)
			_exit(0);
		waitpid(p, &s, 0);
	}
	close(living[1]);
	read(living[0], &how, 1); /* the end of the last orphan */
	usleep(10000);
	return 0;
}
C

# As many as there is room for, all at once; then again.
build('bomb', <<'C');
static pid_t ps[100000];
int main(int c, char **v)
{
	int before = 0;
	char *m = mmap(0, 4 << 20, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(m, 1, 4 << 20);
	for (int round = 0; round < 3; round++) {
		int n, s, killed = 0;
		for (n = 0; n < 100000; n++) {
			pid_t p = fork();
			if (p < 0)
				break;
			if (!p)
				for (;;)
					pause();
			ps[n] = p;
		}
		if (errno != ENOMEM && errno != EAGAIN)
			return perror("fork"), 1;
		for (int i = 0; i < n; i++)
			kill(ps[i], SIGKILL);
		for (int i = 0; i < n; i++)
			killed += waitpid(ps[i], &s, 0) == ps[i] && s == SIGKILL;
		if (killed != n || n < 50 || (round > 1 && n < before - before / 8))
			return printf("round %d: %d of %d, %d before\n", round, killed, n, before), 1;
		for (int i = 0; i < 4 << 20; i++)
			if (m[i] != 1)
				return puts("memory is not what it was"), 1;
		before = n;
	}
	return puts("ok"), 0;
}
C

build('end', <<'C');
static void *th(void *a) { for (;;); }
int main(int c, char **v)
{
	int p[2], n = 0;
	char x;
	pthread_t t;
	pipe(p);
	for (int i = 0; i < 6; i++)
		if (!fork()) {
			signal(SIGTERM, SIG_IGN);
			if (i == 1)
				setsid();
			if (i == 2)
				pthread_create(&t, 0, th, 0);
			write(p[1], "x", 1);
			if (i == 3)
				raise(SIGSTOP);
			if (i == 4 && !vfork())
				for (;;)
					pause();
			for (;;)
				if (i < 2)
					pause();
		}
	while (n < 6)
		n += read(p[0], &x, 1);
	if (v[1][0] == 'k')
		raise(SIGKILL);
	return 7;
}
C

sub memory_after {
	my ($m, @args) = @_;
	my ($st, $out, $err) = run_out({timeout => 120}, $COWBELL, 'run', '--monitor', $m, '--stats=json', '--', "$d/loop", @args);
	is($st, 0, "$m: loop @args") or diag $err;
	my ($json) = $err =~ /(\{.*\})/s;
	my $s = $json ? decode_json($json) : {};
	return $s;
}

for my $m (monitors()) {
	for my $how ('f', 'v', 'k', 'o', 'm') {
		my ($first, $s) = map { memory_after($m, $_, $how) } 50, 1050;
		my ($few, $many) = map { $_->{pages_used} } $first, $s;
		is(join(' ', @$s{qw(processes processes_peak processes_made)}), '1 81 1130', "$m: --stats tells how many there were") if $how eq 'f';
		note "$m $how: $few, $many pages";
		# Two runs differ by up to 30 pages by chance (addresses are random); a tenth of a page of each of the thousand is seen.
		ok(defined $few && $many < $few + 100, "$m: 1,000 more of $how leave nothing behind") or diag(($few // '?') . ' ' . ($many // '?'));
	}
	my ($st, $out, $err) = run_out({timeout => 120}, $COWBELL, 'run', '--monitor', $m, '-m', '32M', '--', "$d/bomb");
	is("$st $out", "0 ok\n", "$m: no more memory for processes: an error, and all comes back") or diag $err;
	for my $how ('e', 'k') {
		my $t = time;
		($st) = run_out({timeout => 60}, $COWBELL, 'run', '--monitor', $m, '--', "$d/end", $how);
		is($st, $how eq 'e' ? 7 : 137, "$m: the end of the program ($how) is the end of the instance");
		ok(time - $t < 40, "$m: at once");
	}
}
done_testing();
