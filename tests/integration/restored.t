#!/usr/bin/perl
# SPDX-License-Identifier: ISC
# Right after a restore: for each thing that a program may hold, what a restored one finds. Clocks and timers, sleeps under way,
# randomness and identity, what lives inside the guest, connections, listeners, volumes and locks, standard streams, TLS.
# Each is taken under every monitor and restored under every monitor.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Cowbell;
use Digest::SHA qw(sha256);
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use Test::More;
use Time::HiRes qw(sleep time);

my $address = own_network();
plan skip_all => 'needs a C compiler and python3' unless have('cc', 'python3');
my $dir = scratch();
$ENV{XDG_DATA_HOME} = "$dir/data";
$ENV{XDG_CACHE_HOME} = "$dir/cache";
$ENV{XDG_STATE_HOME} = "$dir/state";
mkdir "$dir/$_" for qw(bin snap vol vol2 app);
my @monitors = monitors();
my @pairs = map { my $f = $_; map { [$f, $_] } @monitors } @monitors;
my $python = `python3 -c 'import sys; print(sys.executable)'`;
chomp $python;
my @only = split /,/, $ENV{ONLY} // ''; # names of groups, to run these alone

sub group {
	my ($name, $fn) = @_;
	return if @only && !grep { $_ eq $name } @only;
	note $name;
	$fn->();
}

sub compile {
	my ($name, $code, @more) = @_;
	spew("$dir/$name.c", "#define _GNU_SOURCE\n$code");
	return system('cc', '-O1', '-w', '-pthread', '-o', "$dir/bin/$name", "$dir/$name.c", @more) == 0 ? "$dir/bin/$name" : undef;
}

# Snapshot of a program, taken under $from when $when; its file. @run: options of `run`, then '--', then the program.
sub take {
	my ($from, $name, $when, @run) = @_;
	my $snap = "$dir/snap/$name.$from";
	my ($st, $out, $err) = run_out({timeout => 30}, $COWBELL, 'run', '--monitor', $from, '--snapshot-at', $when, '--snapshot-stop', '-o', $snap, @run);
	ok(-s $snap, "$name: taken on $from") or diag "status $st: $out$err";
	return $snap;
}

sub lines_are {
	my ($what, $out, @want) = @_;
	my $good = 1;
	for my $w (@want) {
		ok($out =~ /^$w$/m, "$what: $w") or $good = 0;
	}
	return $good;
}

# --- clocks, timers, sleeps -------------------------------------------------------------------

group clocks => sub {
	compile('clocks', <<'C') or die;
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#define DUE 1.0
static double start, rstart;
static double now(clockid_t id) { struct timespec t; clock_gettime(id, &t); return t.tv_sec + t.tv_nsec / 1e9; }
static struct timespec ts(double s) { return (struct timespec){s, (s - (long)s) * 1e9}; }
static const char *names[] = {"nanosleep", "absolute", "realtime", "epoll", "poll", "select", "futex", "cond", "sem", "sigwait"};
static volatile int done[10], result[10];
static volatile double when[10];
static void *sleeper(void *a)
{
	long i = (long)a;
	struct timespec rel = ts(DUE), abs = ts(start + DUE), real = ts(rstart + DUE);
	struct timeval tv = {1, 0};
	struct epoll_event e;
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;
	sem_t sem;
	sigset_t set;
	int word = 0, r = -1;
	switch (i) {
	case 0: r = nanosleep(&rel, 0); break;
	case 1: r = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &abs, 0); break;
	case 2: r = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &real, 0); break;
	case 3: r = epoll_wait(epoll_create1(0), &e, 1, 1000); break;
	case 4: r = poll(0, 0, 1000); break;
	case 5: r = select(0, 0, 0, 0, &tv); break;
	case 6: r = syscall(SYS_futex, &word, FUTEX_WAIT, 0, &rel, 0, 0) == -1 && errno == ETIMEDOUT ? 0 : -1; break;
	case 7: pthread_mutex_lock(&m); r = pthread_cond_timedwait(&c, &m, &real) == ETIMEDOUT ? 0 : -1; break;
	case 8: sem_init(&sem, 0, 0); r = sem_timedwait(&sem, &real) == -1 && errno == ETIMEDOUT ? 0 : -1; break;
	case 9: sigemptyset(&set); sigaddset(&set, SIGUSR1); r = sigtimedwait(&set, 0, &rel) == -1 && errno == EAGAIN ? 0 : -1; break;
	}
	result[i] = r, when[i] = now(CLOCK_MONOTONIC), done[i]++;
	return 0;
}
static volatile int alarms, posix_once, posix_many, overruns, conts;
static timer_t many;
static void on_alarm(int s) { alarms++; }
static void on_once(int s) { posix_once++; }
static void on_many(int s) { posix_many++; overruns += timer_getoverrun(many); }
static int generation(void) { FILE *f = fopen("/proc/cowbell/generation", "r"); int g = 0; fscanf(f, "%d", &g); fclose(f); return g; }
static uint64_t count(int fd) { uint64_t n = 0; return read(fd, &n, 8) == 8 ? n : errno == ECANCELED ? 777777 : 0; }
static int timer_fd(int clock, int flags, double first, double every)
{
	int fd = timerfd_create(clock, TFD_NONBLOCK);
	struct itimerspec its = {ts(every), ts(first)};
	if (timerfd_settime(fd, flags, &its, 0)) perror("timerfd");
	return fd;
}
static void *blocked_cancel(void *fd) { uint64_t n; *(int *)fd = read(*(int *)fd, &n, 8) == -1 && errno == ECANCELED; return 0; }
static double up(void) { FILE *f = fopen("/proc/uptime", "r"); double u = 0; fscanf(f, "%lf", &u); fclose(f); return u; }
static unsigned long long started(void)
{
	char b[1024] = "", *p; FILE *f = fopen("/proc/self/stat", "r"); unsigned long long v = 0;
	fread(b, 1, 1000, f); fclose(f); p = strrchr(b, ')'); for (int i = 0; i < 20; i++) p = strchr(p + 1, ' ');
	sscanf(p, "%llu", &v); return v;
}
int main(void)
{
	pthread_t t;
	struct itimerval it = {.it_value = {1, 0}};
	struct itimerspec one = {.it_value = ts(DUE)}, tick = {ts(0.1), ts(0.1)}, left;
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
	timer_t once, far;
	double last, last_real, m, r, b, before, before_real, cpu, up0 = up();
	unsigned long long st0 = started();
	int back = 0, boot_back = 0, once_fd, many_fd, real_fd, cancel_fd, far_fd, blocked_fd, quick = 0, bad = 0;
	sigset_t usr1;
	sigemptyset(&usr1), sigaddset(&usr1, SIGUSR1), pthread_sigmask(SIG_BLOCK, &usr1, 0);
	start = now(CLOCK_MONOTONIC), rstart = now(CLOCK_REALTIME);
	for (long i = 0; i < 10; i++) pthread_create(&t, 0, sleeper, (void *)i);
	signal(SIGALRM, on_alarm), signal(SIGRTMIN, on_once), signal(SIGRTMIN + 1, on_many);
	setitimer(ITIMER_REAL, &it, 0);
	timer_create(CLOCK_MONOTONIC, &ev, &once), timer_settime(once, 0, &one, 0);
	ev.sigev_signo = SIGRTMIN + 1;
	timer_create(CLOCK_REALTIME, &ev, &many), timer_settime(many, 0, &tick, 0);
	ev.sigev_notify = SIGEV_NONE, one.it_value = ts(rstart + 600);
	timer_create(CLOCK_REALTIME, &ev, &far), timer_settime(far, TIMER_ABSTIME, &one, 0);
	once_fd = timer_fd(CLOCK_MONOTONIC, 0, DUE, 0), many_fd = timer_fd(CLOCK_BOOTTIME, 0, 0.1, 0.1);
	real_fd = timer_fd(CLOCK_REALTIME, TFD_TIMER_ABSTIME, rstart + DUE, 0), far_fd = timer_fd(CLOCK_MONOTONIC, 0, 600, 0);
	cancel_fd = timer_fd(CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, rstart + 600, 0);
	blocked_fd = timerfd_create(CLOCK_REALTIME, 0), one.it_value = ts(rstart + 500);
	timerfd_settime(blocked_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &one, 0);
	pthread_create(&t, 0, blocked_cancel, &blocked_fd);
	last = before = start, last_real = before_real = rstart;
	while (generation() == 1) {
		m = now(CLOCK_MONOTONIC), r = now(CLOCK_REALTIME), b = now(CLOCK_BOOTTIME);
		back += m < last, boot_back += b < m;
		before = last = m, before_real = last_real = r, cpu = now(CLOCK_PROCESS_CPUTIME_ID);
		if (timerfd_gettime(many_fd, &left) == 0 && now(CLOCK_MONOTONIC) - start < 0.15) count(many_fd);
		poll(0, 0, 5);
	}
	for (int i = 0; i < 1000; i++) { m = now(CLOCK_MONOTONIC), b = now(CLOCK_BOOTTIME); back += m < last, boot_back += b < m; last = m; }
	double passed = last - before, passed_real = now(CLOCK_REALTIME) - before_real;
	printf("apart %d\n", passed > 1 && passed - passed_real < 0.05 && passed_real - passed < 0.05);
	printf("back %d %d\ncpu %d\n", back, boot_back, now(CLOCK_PROCESS_CPUTIME_ID) - cpu < 0.5);
	uint64_t n = count(many_fd);
	printf("many %d\n", n >= (unsigned)(passed * 10) - 1 && n < 10000);
	usleep(60000);
	for (int i = 0; i < 10; i++) {
		printf("%s %d %d\n", names[i], done[i], result[i]);
		bad += when[i] < start + DUE - 0.001;
	}
	printf("early %d\nalarms %d\nonce %d\n", bad, alarms, posix_once);
	printf("overruns %d\n", posix_many >= 1 && overruns + posix_many >= (int)(passed * 10) - 2);
	printf("oncefd %lu", count(once_fd)), printf(" %lu\n", count(once_fd));
	printf("realfd %lu", count(real_fd)), printf(" %lu\n", count(real_fd));
	printf("cancel %lu", count(cancel_fd)), printf(" %lu\nblocked %d\n", count(cancel_fd), blocked_fd);
	timerfd_gettime(far_fd, &left);
	double fd_left = left.it_value.tv_sec + left.it_value.tv_nsec / 1e9 - (start + 600 - now(CLOCK_MONOTONIC));
	timer_gettime(far, &left);
	double t_left = left.it_value.tv_sec + left.it_value.tv_nsec / 1e9 - (rstart + 600 - now(CLOCK_REALTIME));
	printf("far %d %d\n", fd_left < 0.05 && fd_left > -0.05, t_left < 0.05 && t_left > -0.05);
	timer_delete(many);
	m = now(CLOCK_MONOTONIC);
	usleep(50000);
	m = now(CLOCK_MONOTONIC) - m;
	printf("sleep %d\n", m >= 0.05 && m < 0.5);
	printf("uptime %d %d\n", up() - up0 > passed - 0.1 && up() - up0 < passed + 5, st0 == started());
	printf("real %.3f\n", now(CLOCK_REALTIME));
	return 0;
}
C
	my %snap = map { $_ => take($_, 'clocks', '500ms', "$dir/bin/clocks") } @monitors;
	sleep 1.2;
	for my $p (@pairs) {
		my ($from, $to) = @$p;
		my $before = time;
		my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap{$from});
		is($st, 0, "$from to $to: clocks: it goes on to its end") or diag $err;
		lines_are("$from to $to", $out, 'apart 1', 'back 0 0', 'cpu 1', 'many 1', map({ "$_ 1 0" } qw(nanosleep absolute realtime epoll poll select futex cond sem sigwait)),
			'early 0', 'alarms 1', 'once 1', 'overruns 1', 'oncefd 1 0', 'realfd 1 0', 'cancel 777777 0', 'blocked 1', 'far 1 1', 'sleep 1', 'uptime 1 1') or diag $out;
		my ($real) = $out =~ /^real (\S+)$/m;
		ok($real && $real > $before - 0.1 && $real < time + 0.1, "$from to $to: the wall clock is right") or diag $out;
	}
	# the host's clock is behind that of the snapshot (another machine, a clock that was set): time goes on all the same
	my $offsets = compile('offsets', '#include <stddef.h>
#include <stdio.h>
#include "abi/snapshot.h"
int main(void) { printf("%zu %zu %zu", offsetof(struct snap_header, real_ns), offsetof(struct snap_header, digest), offsetof(struct snap_header, tables_len)); }',
		"-I$TOP") or die;
	my ($real_at, $digest_at, $len_at) = split / /, `$offsets`;
	for my $m (@monitors) {
		my $file = slurp($snap{$m});
		substr($file, $real_at, 8) = pack('Q<', unpack('Q<', substr($file, $real_at, 8)) + 3600 * 10**9);
		substr($file, $digest_at, 32) = "\0" x 32;
		substr($file, $digest_at, 32) = sha256(substr($file, 0, 4096 + unpack('Q<', substr($file, $len_at, 8))));
		spew("$dir/snap/ahead", $file);
		my $before = time;
		my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $m, '--snapshot', "$dir/snap/ahead");
		is($st, 0, "$m: a snapshot of the future goes on") or diag $err;
		lines_are("$m, of the future", $out, 'back 0 0', 'sleep 1') or diag $out;
		my ($real) = $out =~ /^real (\S+)$/m;
		ok($real && $real > $before - 0.1 && $real < time + 0.1, "$m, of the future: the wall clock is the host's") or diag $out;
	}
};

# --- randomness, identity ----------------------------------------------------------------------

group identity => sub {
	my $code = <<'C';
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>
static volatile int conts;
static void on_cont(int s) { conts++; }
static void hex(const char *name, const void *p, int n) { printf("%s ", name); for (int i = 0; i < n; i++) printf("%02x", ((unsigned char *)p)[i]); printf("\n"); }
static char *line(const char *path) { static char b[4][256]; static int i; char *s = b[i++ % 4]; FILE *f = fopen(path, "r"); *s = 0; if (f) fgets(s, 255, f), fclose(f); s[strcspn(s, "\n")] = 0; return s; }
int main(int argc, char **argv)
{
	unsigned char a[16] = {0}, b[16] = {0}, c[16] = {0}, r[16] = {0}, kept[16];
	char name0[64] = "", name1[64] = "", boot0[64], id0[64];
	char *w = mmap(0, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *plain = w + 8192;
	void *crypto = dlopen("libcrypto.so.3", RTLD_NOW);
	int (*rand_bytes)(void *, int) = crypto ? dlsym(crypto, "RAND_bytes") : 0;
	void (*arc)(void *, size_t) = dlsym(RTLD_DEFAULT, "arc4random_buf");
	int pid = getpid(), ppid = getppid(), fd = open("/dev/urandom", O_RDONLY), zero = 0;
	struct utsname u;
	signal(SIGCONT, on_cont);
	getrandom(kept, 16, 0), read(fd, r, 16);
	if (rand_bytes) rand_bytes(r, 16);
	if (arc) arc(r, 16);
	strcpy(w, "secret"), strcpy(w + 4096, "secret"), strcpy(plain, "kept"), madvise(w, 8192, MADV_WIPEONFORK);
	gethostname(name0, 63), strcpy(boot0, line("/proc/sys/kernel/random/boot_id")), strcpy(id0, line("/proc/cowbell/id"));
	if (argc > 1) sethostname("appsown", 7);
	printf("was %s %s %s\n", name0, boot0, id0), fflush(stdout);
	while (!strcmp(line("/proc/cowbell/generation"), "1")) usleep(5000);
	/* the first that is asked for */
	getrandom(a, 16, 0);
	if (read(fd, b, 16) != 16) return 1;
	if (arc) arc(c, 16);
	if (rand_bytes && rand_bytes(r, 16) != 1) return 1;
	hex("getrandom", a, 16), hex("urandom", b, 16);
	if (arc) hex("arc4random", c, 16);
	if (rand_bytes) hex("RAND_bytes", r, 16);
	printf("uuid %s\n", line("/proc/sys/kernel/random/uuid"));
	for (int i = 0; i < 8192; i++) zero |= w[i];
	printf("wiped %d %s\n", !zero, plain);
	usleep(50000);
	printf("conts %d\ngeneration %s\n", conts, line("/proc/cowbell/generation"));
	printf("pid %d %d\n", pid == getpid(), ppid == getppid());
	printf("kill %d\n", kill(getpid(), 0));
	gethostname(name1, 63), uname(&u);
	printf("host %s %s %s\n", name1, u.nodename, line("/proc/sys/kernel/hostname"));
	{ FILE *f = fopen("/etc/hosts", "r"); char l[256], hosts[1024] = ""; while (f && fgets(l, 255, f)) if (!strncmp(l, "127.0.1.1", 9)) strcat(hosts, l); printf("hosts %s", hosts); }
	printf("hostname %s\n", line("/etc/hostname"));
	printf("boot_id %s %d\n", line("/proc/sys/kernel/random/boot_id"), strcmp(boot0, line("/proc/sys/kernel/random/boot_id")) != 0);
	printf("same %d\n", !strcmp(line("/proc/sys/kernel/random/boot_id"), line("/proc/sys/kernel/random/boot_id")));
	printf("id %s %d\n", line("/proc/cowbell/id"), strcmp(id0, line("/proc/cowbell/id")) != 0);
	fflush(stdout);
	return 0;
}
C
	compile('identity', $code) or die;
	my %seen;
	for my $from (@monitors) {
		my $snap = take($from, 'identity', '400ms', "$dir/bin/identity");
		for my $to (@monitors) {
			for my $clone (1, 2) {
				my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $to, '--name', "r-$clone-$$", '--snapshot', $snap);
				is($st, 0, "$from to $to: identity: clone $clone goes on to its end") or diag $err;
				lines_are("$from to $to", $out, 'wiped 1 kept', 'conts 1', 'generation 2', 'pid 1 1', 'kill 0', "host r-$clone-$$ r-$clone-$$ r-$clone-$$",
					"hosts 127.0.1.1\tr-$clone-$$", "hostname r-$clone-$$", 'boot_id \S+ 1', 'same 1', 'id \S+ 1') or diag $out;
				for my $what (qw(getrandom urandom arc4random RAND_bytes uuid boot_id id)) {
					my ($v) = $out =~ /^$what (\S+)/m or next;
					ok(length $v >= 32 && !$seen{$what}{$v}++, "$from to $to: $what of clone $clone is its own");
				}
			}
		}
		my ($st, $out) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $from, '--snapshot', $snap);
		like($out, qr/^host cowbell cowbell cowbell$/m, "$from: without a name the host name is what it was");
		$snap = take($from, 'identity2', '400ms', "$dir/bin/identity", 'own');
		($st, $out) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $from, '--name', "r-3-$$", '--snapshot', $snap);
		like($out, qr/^host appsown appsown appsown$/m, "$from: a host name that the app set is left alone");
	}
	SKIP: {
		skip 'no libcrypto', 1 if !$seen{RAND_bytes};
		is(scalar keys %{$seen{RAND_bytes}}, 2 * @pairs, 'RAND_bytes of a libcrypto that was seeded before differs in all clones');
	}
};

# --- what lives inside the guest -----------------------------------------------------------------

group inside => sub {
	compile('inside', <<'C') or die;
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
static int generation(void) { FILE *f = fopen("/proc/cowbell/generation", "r"); int g = 0; fscanf(f, "%d", &g); fclose(f); return g; }
static int blocked[2], answer;
static void *reader(void *a) { char b[16] = ""; answer = read(blocked[0], b, 16) == 4 && !strcmp(b, "done"); return 0; }
int main(void)
{
	int p[2], us[2], dg[2], l, c, s, ev, in, sf, mem, ep, named, tmp, big[2], full = 0, n;
	char b[4096], junk[4096];
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/tmp/sock"};
	struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof in4;
	struct epoll_event e, got[8];
	struct signalfd_siginfo si;
	uint64_t v = 41;
	sigset_t set;
	pthread_t t;
	signal(SIGPIPE, SIG_IGN);
	pipe(p), write(p[1], "in the pipe", 11);
	pipe2(big, O_NONBLOCK);
	memset(junk, 'j', sizeof junk);
	while ((n = write(big[1], junk, sizeof junk)) > 0) full += n;
	socketpair(AF_UNIX, SOCK_STREAM, 0, us), write(us[0], "stream", 6);
	socketpair(AF_UNIX, SOCK_DGRAM, 0, dg), write(dg[0], "one", 3), write(dg[0], "three", 5);
	l = socket(AF_UNIX, SOCK_STREAM, 0), bind(l, (void *)&un, sizeof un), listen(l, 5);
	named = socket(AF_UNIX, SOCK_STREAM, 0), connect(named, (void *)&un, sizeof un), write(named, "queued", 6);
	s = socket(AF_INET, SOCK_STREAM, 0), bind(s, (void *)&in4, sizeof in4), listen(s, 5), getsockname(s, (void *)&in4, &len);
	c = socket(AF_INET, SOCK_STREAM, 0), connect(c, (void *)&in4, sizeof in4), write(c, "loopback", 8);
	int a = accept(s, 0, 0);
	ev = eventfd(1, EFD_NONBLOCK), write(ev, &v, 8);
	in = inotify_init1(IN_NONBLOCK), inotify_add_watch(in, "/tmp", IN_CREATE), close(open("/tmp/seen", O_CREAT | O_WRONLY, 0600));
	sigemptyset(&set), sigaddset(&set, SIGUSR1), sigaddset(&set, SIGUSR2), sigprocmask(SIG_BLOCK, &set, 0);
	sf = signalfd(-1, &set, SFD_NONBLOCK), kill(getpid(), SIGUSR1);
	mem = memfd_create("m", 0), write(mem, "memory", 6);
	tmp = open("/tmp/gone", O_RDWR | O_CREAT, 0600), write(tmp, "unlinked", 8), unlink("/tmp/gone");
	ep = epoll_create1(0);
	int watched[] = {ev, us[1], a, sf};
	for (int i = 0; i < 4; i++) e.events = EPOLLIN | (i ? 0 : EPOLLET), e.data.fd = watched[i], epoll_ctl(ep, EPOLL_CTL_ADD, watched[i], &e);
	pipe(blocked), pthread_create(&t, 0, reader, 0);
	while (generation() == 1) usleep(5000);
	memset(b, 0, sizeof b);
	n = epoll_wait(ep, got, 8, 0), printf("epoll %d\n", n);
	n = read(p[0], b, 99), printf("pipe %.*s\n", n, b);
	n = 0;
	for (int k; (k = read(big[0], b, sizeof b)) > 0; n += k) for (int i = 0; i < k; i++) if (b[i] != 'j') n = -1000000;
	printf("full %d\n", n == full && full >= 65536);
	n = read(us[1], b, 99), printf("unix %.*s\n", n, b), n = write(us[1], "back", 4), n = read(us[0], b, 99), printf("answer %.*s\n", n, b);
	n = read(dg[1], b, 99), printf("dgram %.*s", n, b), n = read(dg[1], b, 99), printf(" %.*s\n", n, b);
	n = read(accept(l, 0, 0), b, 99), printf("accepted %.*s\n", n, b);
	n = read(a, b, 99), printf("tcp %.*s\n", n, b);
	v = 0, read(ev, &v, 8), printf("eventfd %d\n", (int)v);
	n = read(in, b, sizeof b), printf("inotify %s\n", n > 0 ? ((struct inotify_event *)b)->name : "");
	n = read(sf, &si, sizeof si), printf("signalfd %d\n", n == sizeof si && si.ssi_signo == SIGUSR1);
	n = pread(mem, b, 99, 0), printf("memfd %.*s\n", n, b);
	n = pread(tmp, b, 99, 0), printf("unlinked %.*s\n", n, b);
	write(blocked[1], "done", 4), pthread_join(t, 0), printf("reader %d\n", answer);
	close(us[0]), n = write(us[1], "x", 1), printf("epipe %d\n", n == -1 && errno == EPIPE);
	return 0;
}
C
	my %snap = map { $_ => take($_, 'inside', '400ms', "$dir/bin/inside") } @monitors;
	for my $p (@pairs) {
		my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $p->[1], '--snapshot', $snap{$p->[0]});
		is($st, 0, "@$p: inside: it goes on to its end") or diag $err;
		lines_are("@$p", $out, 'epoll 4', 'pipe in the pipe', 'full 1', 'unix stream', 'answer back', 'dgram one three', 'accepted queued', 'tcp loopback', 'eventfd 42',
			'inotify seen', 'signalfd 1', 'memfd memory', 'unlinked unlinked', 'reader 1', 'epipe 1') or diag $out;
	}
};

# --- connections that cannot live on ----------------------------------------------------------------

spew("$dir/app/calls.py", <<'PY');
import errno, os, select, socket, sys, threading, time
host, port, full, udp = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
out = []
def dial():
    s = socket.create_connection((host, port))
    s.sendall(b"hello\n")
    return s
def thread(name, fn):
    def run():
        t = time.monotonic()
        try:
            r = fn()
        except OSError as e:
            r = errno.errorcode[e.errno] if e.errno else repr(e)
        out.append("%s %s" % (name, r))
    t = threading.Thread(target=run)
    t.start()
    return t
def reader():
    return repr(dial().recv(10))
def writer():
    s = dial()
    while True:
        s.send(b"x" * 65536)
def epoller():
    s = dial(); s.setblocking(False)
    e = select.epoll(); e.register(s, select.EPOLLIN)
    ev = e.poll(20)[0][1]
    try:
        s.recv(1)
    except OSError as x:
        return "%s %s %s" % (bool(ev & select.EPOLLERR), bool(ev & select.EPOLLHUP), errno.errorcode[x.errno])
def edge():
    s = dial(); s.setblocking(False)
    e = select.epoll(); e.register(s, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET | select.EPOLLRDHUP)
    e.poll(1)
    ev = e.poll(20)[0][1]
    return errno.errorcode[s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)]
def poller():
    s = dial()
    p = select.poll(); p.register(s, 0)
    ev = p.poll(20000)[0][1]
    return bool(ev & (select.POLLERR | select.POLLHUP))
def selecter():
    s = dial()
    r, w, x = select.select([s], [], [], 20)
    return "%d" % len(r) + " " + reading(s)
def reading(s):
    try:
        return repr(s.recv(1))
    except OSError as x:
        return errno.errorcode[x.errno]
def unread():
    s = dial(); s.sendall(b"speak\n")
    s.recv(2)
    wait()
    first = s.recv(3)
    return first.decode() + " " + reading(s)
def lazy():
    s = dial()
    wait()
    time.sleep(0.1)
    try:
        for i in range(3):
            s.send(b"x"); time.sleep(0.02)
        return "sent"
    except OSError as x:
        return errno.errorcode[x.errno]
def connecting():
    s = socket.create_connection((host, full))
    return "connected"
def later():
    s = socket.socket(); s.setblocking(False)
    try:
        s.connect((host, full))
    except BlockingIOError:
        pass
    p = select.poll(); p.register(s, select.POLLOUT)
    ev = p.poll(20000)
    return errno.errorcode.get(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), "none")
def datagram():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((host, udp)); s.send(b"quiet")
    try:
        s.recv(10)
        return "answer"
    except ConnectionRefusedError:
        s.send(b"echo"); s.settimeout(5)
        return "again " + s.recv(10).decode()
def unconnected():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b"quiet", (host, udp))
    wait()
    s.sendto(b"echo", (host, udp)); s.settimeout(5)
    return s.recv(10).decode()
def peername():
    s = dial()
    wait()
    return s.getpeername() == (host, port)
def resolver():
    # as the C library's: two tries with a time-out each, over a connected datagram socket
    for attempt in range(3):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect((host, udp))
        s.send(b"quiet" if generation() == 1 else b"echo")
        p = select.poll(); p.register(s, select.POLLIN)
        if not p.poll(5000):
            continue
        try:
            return s.recv(10).decode()
        except ConnectionRefusedError:
            continue
    return "gave up"
def again():
    dial_old = dial()
    reading(dial_old)
    dial_old.close()
    s = dial(); s.sendall(b"speak\n")
    return s.recv(10).decode()
def generation():
    return int(open("/proc/cowbell/generation").read())
def wait():
    while generation() == 1:
        time.sleep(0.005)
names = "reader writer epoller edge poller selecter unread lazy connecting later datagram unconnected peername resolver again".split()
ts = [thread(n, globals()[n]) for n in names]
wait()
begin = time.monotonic()
for t in ts:
    t.join(15)
print("\n".join(out))
print("quick", time.monotonic() - begin < 6)
sys.stdout.flush()
os._exit(0)
PY

group connections => sub {
	SKIP: {
		skip 'no network of our own', 1 if !$address;
		my $l = IO::Socket::INET->new(Listen => 64, LocalAddr => $address, ReuseAddr => 1) or die;
		# a listener that takes nobody: its queue is full
		my $full = IO::Socket::INET->new(Listen => 1, LocalAddr => $address, ReuseAddr => 1) or die;
		my @fill = map { my $s = IO::Socket::INET->new(Proto => 'tcp', Blocking => 0); connect($s, $full->sockname); $s } 1 .. 5;
		my $u = IO::Socket::INET->new(Proto => 'udp', LocalAddr => $address, LocalPort => 0) or die;
		my $server = fork // die;
		if (!$server) { # says something to who says "speak"; reads no more
			$SIG{ALRM} = sub { POSIX::_exit(0) };
			alarm 100;
			my @conns;
			while (1) {
				my $rin = '';
				vec($rin, fileno($_), 1) = 1 for $l, $u, map { $_->[0] } grep { !$_->[1] } @conns;
				select(my $r = $rin, undef, undef, undef);
				push @conns, [scalar $l->accept, 0] if vec($r, fileno($l), 1);
				if (vec($r, fileno($u), 1)) {
					my $from = recv($u, my $b, 100, 0);
					send($u, 'echo', 0, $from) if $b eq 'echo';
				}
				for my $c (@conns) {
					next if $c->[1] || !vec($r, fileno($c->[0]), 1);
					my $n = sysread($c->[0], my $b, 100);
					$c->[1] = 1 if !$n || $b =~ /xx/;
					syswrite($c->[0], 'words') if $n && $b =~ /speak/;
				}
			}
		}
		my @run = ('--egress', join(',', map { "$address:" . $_->sockport } $l, $full, $u));
		my %snap = map { $_ => take($_, 'calls', '1200ms', @run, $python, "$dir/app/calls.py", $address, $l->sockport, $full->sockport, $u->sockport) } @monitors;
		for my $p (@pairs) {
			my ($st, $out, $err) = run_out({timeout => 30}, $COWBELL, 'run', '--monitor', $p->[1], @run, '--snapshot', $snap{$p->[0]});
			is($st, 0, "@$p: connections: it goes on to its end") or diag $err;
			lines_are("@$p", $out, 'reader ECONNRESET', 'writer ECONNRESET', 'epoller True True ECONNRESET', 'edge ECONNRESET', 'poller True', 'selecter 1 ECONNRESET',
				'unread rds ECONNRESET', 'lazy (ECONNRESET|EPIPE)', 'connecting ECONNRESET', 'later ECONNRESET', 'datagram again echo', 'unconnected echo', 'peername (True|ENOTCONN)',
				'resolver echo', 'again words', 'quick True') or diag $out . $err;
			my ($refused, undef, $why) = run_out({timeout => 30}, $COWBELL, 'run', '--monitor', $p->[1], '--egress', 'none', '--snapshot', $snap{$p->[0]});
			is($refused, 125, "@$p: not without the network that it has");
			like($why, qr/uses the network, which is not granted here/, "@$p: which is told");
		}
		kill 'KILL', $server;
		waitpid $server, 0;
	}
};

# --- listeners --------------------------------------------------------------------------------------

spew("$dir/app/listens.py", <<'PY');
import os, select, socket, threading, time
def serve(s, what):
    while True:
        c, a = s.accept()
        o = [c.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), c.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
             c.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)]
        l = [s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR), s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN),
             s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), s.getsockname()[1], s.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16) != bytes(16)]
        c.sendall(("%s %s %s %d\n" % (what, o, l, c.getsockname()[1])).encode()); c.close()
def listen(port, family=socket.AF_INET, only=False):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
    if family == socket.AF_INET6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
    s.bind(("", port)); s.listen(7)
    return s
threading.Thread(target=serve, args=(listen(8001), "blocked"), daemon=True).start()
six = listen(8002, socket.AF_INET6)
def polled():
    e = select.epoll(); six.setblocking(False); e.register(six, select.EPOLLIN | select.EPOLLET)
    while True:
        e.poll()
        while True:
            try:
                c, a = six.accept()
            except BlockingIOError:
                break
            c.sendall(("epoll %s %s\n" % (a[0], six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY))).encode()); c.close()
threading.Thread(target=polled, daemon=True).start()
def datagrams(port, family):
    u = socket.socket(family, socket.SOCK_DGRAM); u.bind(("", port))
    while True:
        d, a = u.recvfrom(100)
        u.sendto(b"udp " + d, a)
threading.Thread(target=datagrams, args=(8001, socket.AF_INET), daemon=True).start()
only = listen(8003, socket.AF_INET6, True)
bound = socket.socket(); bound.bind(("", 8004)) # listens only later
inner = listen(9000) # is not forwarded
threading.Thread(target=serve, args=(inner, "inner"), daemon=True).start()
def late():
    while int(open("/proc/cowbell/generation").read()) == 1:
        time.sleep(0.005)
    bound.listen(5)
    serve(bound, "late")
threading.Thread(target=late, daemon=True).start()
def proxy(): # asks the inner one
    s = listen(8005)
    while True:
        c, a = s.accept()
        i = socket.create_connection(("127.0.0.1", 9000)); c.sendall(i.recv(200)); c.close()
proxy()
PY

sub line_from {
	my ($port, $proto) = @_;
	my $end = time + 5;
	while (time < $end) {
		my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Proto => $proto // 'tcp');
		my $line;
		if ($s && $proto) {
			$s->send('ping');
			my $rin = '';
			vec($rin, fileno($s), 1) = 1;
			$s->recv($line, 100) if select($rin, undef, undef, 0.3);
			return $line if length($line // '');
			next;
		}
		$line = $s ? <$s> : undef;
		return $line if defined $line;
		sleep 0.02;
	}
	return '';
}

group listeners => sub {
	my %snap;
	my @run = map { ('-p', '127.0.0.1:0:' . $_) } 8001 .. 8005;
	$snap{$_} = take($_, 'listens', '600ms', @run, $python, "$dir/app/listens.py") for @monitors;
	for my $p (@pairs) {
		my %port = map { $_ => free_port() } 8001 .. 8005;
		my $g = start_guest({}, $COWBELL, 'run', '--monitor', $p->[1], (map { ('-p', "127.0.0.1:$port{$_}:$_") } sort keys %port), '--snapshot', $snap{$p->[0]});
		is(line_from($port{8001}), "blocked [1, 1, 77] [1, 1, 1, 8001, False] 8001\n", "@$p: a blocked accept, and options") or diag slurp($g->{err});
		is(line_from($port{8001}), "blocked [1, 1, 77] [1, 1, 1, 8001, False] 8001\n", "@$p: again");
		like(line_from($port{8002}), qr/^epoll \S+ 0$/, "@$p: a dual-stack listener that epoll watches");
		is(line_from($port{8004}), "late [0, 0, 7200] [0, 1, 0, 8004, False] 8004\n", "@$p: a bound socket that listens later");
		is(line_from($port{8005}), "inner [1, 1, 77] [1, 1, 1, 9000, False] 9000\n", "@$p: a listener that is not forwarded");
		is(line_from($port{8001}, 'udp'), 'udp ping', "@$p: datagrams");
		my @many = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port{8001}) } 1 .. 30;
		is(scalar(grep { my $l = $_ ? <$_> : ''; $l =~ /^blocked/ } @many), 30, "@$p: many at once");
		is(stop_guest($g), 143, "@$p: it ends");
		my $taken = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1') or die;
		my ($st, undef, $err) = run_out({timeout => 10}, $COWBELL, 'run', '--monitor', $p->[1], '-p', '127.0.0.1:' . $taken->sockport . ':8001', '--snapshot', $snap{$p->[0]});
		is($st, 125, "@$p: a port of the host that is taken");
		like($err, qr/cannot listen on/, "@$p: is told");
	}
	my $g = start_guest({}, $COWBELL, 'run', '--snapshot', $snap{$monitors[0]});
	my ($port, $end) = (undef, time + 5);
	while (!$port && time < $end) {
		($port) = slurp($g->{err}) =~ /port (\d+) of the host is port 8001 /;
		sleep 0.02;
	}
	like(line_from($port // 1), qr/^blocked/, 'without -p a port gets a free one, which is told');
	stop_guest($g);
};

# Taken with no ports, or others: what listens inside is reached on those that -p names now. A client that is there first waits.
group newports => sub {
	for my $had (0, 1) {
		my %snap;
		$snap{$_} = take($_, "newports$had", '600ms', ($had ? ('-p', '127.0.0.1:0:8003') : ()), $python, "$dir/app/listens.py") for @monitors;
		for my $p (@pairs) {
			my $what = "@$p: not forwarded when it was taken" . ($had ? ', another was' : '');
			my @ports = (8001, 8002, 8004, 8005, 8006);
			my %port = map { $_ => free_port() } @ports;
			my $g = start_guest({}, $COWBELL, 'run', '--stats=json', '--monitor', $p->[1], (map { ('-p', "127.0.0.1:$port{$_}:$_") } @ports), '--snapshot', $snap{$p->[0]});
			my ($first, $refused, $reset, $end) = (undef, 0, 0, time + 5);
			while (time < $end) { # refused until the port is open, never reset
				my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port{8001}) or $refused++, next;
				$first = <$s>;
				defined $first ? last : $reset++;
			}
			is($first, "blocked [1, 1, 77] [1, 1, 1, 8001, False] 8001\n", "$what: a blocked accept, and options") or diag slurp($g->{err});
			is($reset, 0, "$what: the first client is not lost");
			is(line_from($port{8001}), "blocked [1, 1, 77] [1, 1, 1, 8001, False] 8001\n", "$what: again");
			like(line_from($port{8002}), qr/^epoll \S+ 0$/, "$what: a dual-stack listener that epoll watches");
			is(line_from($port{8004}), "late [0, 0, 7200] [0, 1, 0, 8004, False] 8004\n", "$what: one that was bound and listens later");
			is(line_from($port{8005}), "inner [1, 1, 77] [1, 1, 1, 9000, False] 9000\n", "$what: connections inside");
			is(line_from($port{8001}, 'udp'), 'udp ping', "$what: datagrams");
			my ($s, $until) = (1, time + 2); # from when all others have been made
			$s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port{8006}) and sleep 0.01 while $s && time < $until;
			ok(!$s, "$what: nobody listens there") or diag 'connected';
			my @many = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port{8001}) } 1 .. 30;
			is(scalar(grep { my $l = $_ ? <$_> : ''; $l =~ /^blocked/ } @many), 30, "$what: many at once");
			unlike(slurp($g->{err}), qr/port 8001|not reach/, "$what: nothing is said");
			my ($end_ok, $j) = (stop_guest($g), {});
			is($end_ok, 143, "$what: it ends");
			$j = eval { decode_json((grep { /^\{/ } split /\n/, slurp($g->{err}))[-1]) } // {};
			ok($j->{restored} && 0 < $j->{first_insn_us} && $j->{first_insn_us} < $j->{first_user_us} && $j->{first_user_us} < $j->{first_accept_us}
				&& $j->{first_accept_us} < $j->{first_answer_us} && $j->{first_answer_us} < $j->{total_us}, "$what: --stats: phases in order") or diag slurp($g->{err});
			ok($j->{main_us} == 0 && $j->{syscalls} > 10 && $j->{syscalls} < 4000 && $j->{exits} >= $j->{doorbells}, "$what: --stats: of this run only") or diag slurp($g->{err});
		}
	}
	# and again: a snapshot of such a one, restored with no -p, has it still
	my $m = $monitors[0];
	my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $m, '-p', '127.0.0.1:0:8001', '-p', '127.0.0.1:0:8005', '--snapshot', "$dir/snap/newports0.$m",
		'--snapshot-at', '300ms', '--snapshot-stop', '-o', "$dir/snap/newports2");
	is($st, 0, 'a snapshot of it') or diag $err;
	my $port = free_port();
	my $g = start_guest({}, $COWBELL, 'run', '--monitor', $monitors[-1], '-p', "127.0.0.1:$port:8001", '--snapshot', "$dir/snap/newports2");
	like(line_from($port), qr/^blocked/, 'it is reached there');
	my ($free) = slurp($g->{err}) =~ /port (\d+) of the host is port 8005 /;
	like(line_from($free // 1), qr/^inner/, 'a port that no -p names is on a free one');
	stop_guest($g);
};

# --- volumes and locks ---------------------------------------------------------------------------------

spew("$dir/app/volumes.py", <<'PY');
import fcntl, json, mmap, os, sys, time
v, how = sys.argv[1], sys.argv[2]
r = {}
def generation():
    return int(open("/proc/cowbell/generation").read())
if how == "files":
    text = open(v + "/text", "r"); text.buffer.raw.read(0)
    fd = os.open(v + "/data", os.O_RDWR); os.read(fd, 5)
    app = os.open(v + "/log", os.O_WRONLY | os.O_APPEND); os.write(app, b"one\n")
    d = os.open(v + "/sub", os.O_RDONLY | os.O_DIRECTORY)
    full = open(v + "/data").read()
    grown = open(v + "/grown"); grown.read()
    m = mmap.mmap(os.open(v + "/mapped", os.O_RDWR), 4096); before = m[:6]
    ro = mmap.mmap(os.open(v + "/mapped2", os.O_RDONLY), 4096, prot=mmap.PROT_READ); ro[:1]
    names = os.scandir(v + "/sub")
    dup = os.dup(fd)
    new = open(v + "/new", "w"); new.write("written before"); new.flush()
elif how == "gone" or how == "renamed":
    f = open(v + "/" + how); f.read()
    os.unlink(v + "/gone") if how == "gone" else os.rename(v + "/renamed", v + "/renamed.1")
elif how == "locks":
    a = open(v + "/lock.flock", "w"); fcntl.flock(a, fcntl.LOCK_EX)
    b = open(v + "/lock.fcntl", "w"); fcntl.lockf(b, fcntl.LOCK_EX, 10, 20)
    c = open(v + "/lock.shared", "w+"); fcntl.flock(c, fcntl.LOCK_SH)
while generation() == 1:
    time.sleep(0.005)
if how == "files":
    r["text"] = text.read()
    r["rest"] = os.read(fd, 3).decode() + " " + os.read(dup, 3).decode()
    os.write(app, b"two\n")
    os.write(fd, b"W")
    r["append"] = bool(fcntl.fcntl(app, fcntl.F_GETFL) & os.O_APPEND)
    r["at"] = os.open("inner", os.O_RDONLY, dir_fd=d) > 0
    r["again"] = open(v + "/data").read()
    r["grown"] = grown.read(); r["size"] = os.fstat(grown.fileno()).st_size
    r["mapped"] = [before.decode(), m[:6].decode(), ro[:6].decode()]
    m[:6] = b"stored"; m.flush()
    r["names"] = sorted(e.name for e in names)
    new.write(" and after"); new.close()
    r["stat"] = os.stat(v + "/text").st_size
elif how == "locks":
    r["held"] = True
    sys.stdout.write("held\n"); sys.stdout.flush(); time.sleep(1.2)
print(json.dumps(r))
PY

group volumes => sub {
	my $vol = "$dir/vol";
	mkdir "$vol/sub";
	my $fill = sub {
		my ($word) = @_;
		spew("$vol/text", "$word text");
		spew("$vol/data", $word eq 'old' ? '0123456789' : 'abcdefghijk');
		spew("$vol/log", $word eq 'old' ? '' : "host\n");
		spew("$vol/grown", $word eq 'old' ? 'short' : 'short and longer');
		spew("$vol/mapped$_", $word x 2000) for '', 2;
		spew("$vol/sub/inner", $word);
		spew("$vol/$_", 'x') for qw(gone renamed);
	};
	for my $p (@pairs) {
		my ($from, $to) = @$p;
		$fill->('old');
		my $snap = take($from, "files-$to", '500ms', '-v', "$vol:/vol", $python, "$dir/app/volumes.py", '/vol', 'files');
		is(slurp("$vol/new"), 'written before', "@$p: what was written is on the volume");
		$fill->('new');
		my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $to, '-v', "$vol:/vol", '--snapshot', $snap);
		is($st, 0, "@$p: volumes: it goes on to its end") or diag $err;
		my $j = eval { decode_json($out) } // {};
		is_deeply($j, {text => 'new text', rest => 'fgh ijk', append => JSON::PP::true, at => JSON::PP::true, again => 'abcdefghijkW', grown => ' and longer', size => 16,
			mapped => ['oldold', 'newnew', 'newnew'], names => ['inner'], stat => 8}, "@$p: files are the volume's, and where they were") or diag $out;
		is(slurp("$vol/log"), "host\ntwo\n", "@$p: O_APPEND");
		is(slurp("$vol/new"), 'written before and after', "@$p: the offset of a file that is written");
		is(substr(slurp("$vol/mapped"), 0, 8), 'storedne', "@$p: a shared mapping");
		# another directory with the same names
		system('rm', '-rf', "$dir/vol2");
		system('cp', '-r', $vol, "$dir/vol2");
		spew("$dir/vol2/text", 'other text');
		($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $to, '-v', "$dir/vol2:/vol", '--snapshot', $snap);
		$j = eval { decode_json($out) } // {};
		is($j->{text}, 'other text', "@$p: another host directory with these files") or diag $err;
		($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $to, '-v', "$vol:/vol:ro", '--snapshot', $snap);
		is($st, 125, "@$p: not where it may only read");
		like($err, qr/writable|read-only/i, "@$p: which is told");
		($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap);
		is($st, 125, "@$p: not without its volume");
		like($err, qr/volume/, "@$p: which is told");
	}
	for my $from (@monitors) {
		$fill->('old');
		for my $how (qw(gone renamed)) {
			my $snap = take($from, $how, '500ms', '-v', "$vol:/vol", $python, "$dir/app/volumes.py", '/vol', $how);
			spew("$vol/$how", 'another file');
			my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $from, '-v', "$vol:/vol", '--snapshot', $snap);
			is($st, 125, "$from: a file that was $how is not taken for another one of its name");
			like($err, qr/\b$how in \/vol.*removed or renamed/, "$from: which is told") or diag $err;
		}
		my $snap = take($from, 'locks', '500ms', '-v', "$vol:/vol", $python, "$dir/app/volumes.py", '/vol', 'locks');
		for my $to (@monitors) {
			my $g = start_guest({}, $COWBELL, 'run', '--monitor', $to, '-v', "$vol:/vol", '--snapshot', $snap);
			my $end = time + 5;
			sleep 0.02 while slurp($g->{out}) !~ /held/ && time < $end;
			open(my $f, '+<', "$vol/lock.flock") or die;
			ok(!flock($f, 2 | 4), "$from to $to: a lock of a file is held again") or diag slurp($g->{err});
			flock($f, 8);
			my ($st, $out) = run_out({}, 'python3', '-c', "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB, 5, 25)", "$vol/lock.fcntl");
			isnt($st, 0, "$from to $to: so is one of a range");
			my ($two, undef, $err) = run_out({timeout => 10}, $COWBELL, 'run', '--monitor', $to, '-v', "$vol:/vol", '--snapshot', $snap);
			is($two, 125, "$from to $to: a second instance cannot hold them");
			like($err, qr/holds a lock on the file \S+ of volume \/vol, and another program has it/, "$from to $to: which is told") or diag $err;
			is(stop_guest($g, 0), 0, "$from to $to: the first goes on");
		}
	}
};

# --- standard streams ----------------------------------------------------------------------------------

spew("$dir/app/streams.py", <<'PY');
import os, sys, time
print("started"); sys.stdout.flush()
first = sys.stdin.readline()
print("line", repr(first), [os.isatty(i) for i in range(3)], os.getpid()); sys.stdout.flush()
print("rest", repr(sys.stdin.read())); sys.stdout.flush()
sys.stderr.write("to stderr\n")
PY

group streams => sub {
	for my $from (@monitors) {
		# its stdin is a pipe in which nothing comes
		my $snap = "$dir/snap/streams.$from";
		pipe(my $r, my $w) or die;
		my $pid = fork // die;
		if (!$pid) {
			open(STDIN, '<&', $r);
			close $w;
			open(STDOUT, '>', "$dir/taken");
			open(STDERR, '>&', \*STDOUT);
			exec 'timeout', '20', $COWBELL, 'run', '--monitor', $from, '--snapshot-at', '500ms', '--snapshot-stop', '-o', $snap, $python, "$dir/app/streams.py";
		}
		waitpid $pid, 0;
		close $w;
		ok(-s $snap, "$from: a program that waits for its input is taken") or diag slurp("$dir/taken");
		for my $to (@monitors) {
			my ($st, $out, $err) = run_out({in => "a line\nand more", timeout => 20}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap);
			is($st, 0, "$from to $to: streams: it goes on to its end") or diag $err;
			like($out, qr/^line 'a line\\n' \[False, False, False\] \d+\nrest 'and more'\n$/, "$from to $to: input from a file, output to files");
			like($err, qr/^to stderr$/m, "$from to $to: its error stream");
			($st, $out, $err) = run_out({timeout => 20}, 'sh', '-c', 'printf "by pipe\n" | "$@" | cat', 'sh', $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap);
			like($out, qr/^line 'by pipe\\n' .*\nrest ''\n$/, "$from to $to: pipes") or diag $err;
			($st, $out, $err) = run_out({timeout => 20}, 'sh', '-c', '"$@" <&- >/dev/null', 'sh', $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap);
			like($err, qr/Bad file descriptor/, "$from to $to: a stream that is closed");
			spew("$dir/term.py", <<'PY');
import os, pty, sys, time
pid, fd = pty.fork()
if not pid:
    os.execvp(sys.argv[1], sys.argv[1:])
time.sleep(0.5)
os.write(fd, b"typed\n")
time.sleep(0.3)
os.write(fd, b"\x04")
out = b""
try:
    while True:
        b = os.read(fd, 1000)
        if not b:
            break
        out += b
except OSError:
    pass
sys.stdout.buffer.write(out)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
PY
			($st, $out, $err) = run_out({timeout => 20}, 'python3', "$dir/term.py", $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap);
			is($st, 0, "$from to $to: on a terminal it goes on to its end") or diag "$out$err";
			like($out, qr/line 'typed\\n'/, "$from to $to: what is typed there comes") or diag $out;
		}
	}
};

# --- TLS: what two clones must not share -----------------------------------------------------------------

spew("$dir/app/tls.py", <<'PY');
import hashlib, json, os, random, secrets, socket, ssl, sys, threading, uuid
ssl.RAND_bytes(16), os.urandom(4), secrets.token_hex(4), uuid.uuid4() # all of it is in use before the snapshot
ctx = {}
for name, v in ("1.3", ssl.TLSVersion.TLSv1_3), ("1.2", ssl.TLSVersion.TLSv1_2):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    c.load_cert_chain(sys.argv[1], sys.argv[2])
    c.minimum_version = c.maximum_version = v
    ctx[name] = c
def once(s, c):
    a = s.accept()[0]
    try:
        t = c.wrap_socket(a, server_side=True)
        t.recv(1)
        t.sendall(json.dumps({"rand": [ssl.RAND_bytes(16).hex(), os.urandom(16).hex(), secrets.token_hex(16), str(uuid.uuid4()),
            "%x" % random.SystemRandom().getrandbits(128)], "pid": os.getpid()}).encode() + b"\n")
        t.close()
    except OSError:
        a.close()
def serve(port, c):
    s = socket.create_server(("", port))
    while True:
        once(s, c)
threading.Thread(target=serve, args=(8012, ctx["1.2"]), daemon=True).start()
serve(8013, ctx["1.3"])
PY
# Handshakes with the two clones: what goes over the wire in the clear, and the keys (by SSLKEYLOGFILE's lines).
spew("$dir/client.py", <<'PY');
import json, os, socket, ssl, sys, tempfile
out = []
for port, v in zip(map(int, sys.argv[1:3]), (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)):
    log = tempfile.mktemp()
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    c.keylog_filename = log
    c.minimum_version = c.maximum_version = v
    inc, outg = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = c.wrap_bio(inc, outg)
    s = socket.create_connection(("127.0.0.1", port))
    s.settimeout(10)
    wire = b""
    def pump(fn):
        global wire
        while True:
            try:
                r = fn()
                s.sendall(outg.read())
                return r
            except ssl.SSLWantReadError:
                s.sendall(outg.read())
                b = s.recv(65536)
                if not b:
                    raise EOFError
                wire += b
                inc.write(b)
    pump(o.do_handshake)
    o.write(b"x"); s.sendall(outg.read())
    body = json.loads(pump(lambda: o.read(4096)))
    server_random = wire[11:43].hex()
    n = wire[43]
    secrets = [l.split()[2] for l in open(log).read().splitlines() if not l.startswith("#") and l.split()[0] != "CLIENT_RANDOM" or "CLIENT_RANDOM" in l]
    out.append({"random": server_random, "session": wire[44:44 + n].hex() if v == ssl.TLSVersion.TLSv1_2 else "", "hello": wire[:200].hex(), "secrets": secrets,
        "rand": body["rand"], "pid": body["pid"], "ticket": (o.session.id.hex() if o.session else "")})
    os.unlink(log)
print(json.dumps(out))
PY

group tls => sub {
	SKIP: {
		skip 'needs openssl', 1 if !have('openssl');
		system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout '$dir/key.pem' -out '$dir/cert.pem' -days 2 -subj /CN=localhost 2>/dev/null") == 0 or skip 'no certificate', 1;
		my (%seen, $pid);
		for my $from (@monitors) {
			# one handshake before, so that its generators are in use
			my ($a, $b) = (free_port(), free_port());
			my $name = "tls-$from-$$";
			my @run = ('-p', "127.0.0.1:$a:8012", '-p', "127.0.0.1:$b:8013");
			my $g = start_guest({}, $COWBELL, 'run', '--monitor', $from, '--name', $name, @run, '-v', "$dir:/keys:ro", $python, "$dir/app/tls.py", '/keys/cert.pem', '/keys/key.pem');
			my ($st, $out, $err, $end) = (1, '', '', time + 10);
			while ($st && time < $end) {
				($st, $out, $err) = run_out({timeout => 10}, 'python3', "$dir/client.py", $a, $b);
				sleep 0.1 if $st;
			}
			is($st, 0, "$from: TLS works before") or diag slurp($g->{err}) . $err;
			my @all = @{(eval { decode_json($out) } // [])};
			my $snap = "$dir/snap/tls.$from";
			($st, undef, $err) = run_out({}, $COWBELL, 'snapshot', 'create', $name, '-o', $snap);
			is($st, 0, "$from: it is taken") or diag $err;
			($st, $out, $err) = run_out({timeout => 20}, 'python3', "$dir/client.py", $a, $b);
			push @all, @{(eval { decode_json($out) } // [])}; # the original goes on: it must not say what a clone says
			stop_guest($g);
			for my $to (@monitors) {
				for my $clone (1, 2) {
					my $r = start_guest({}, $COWBELL, 'run', '--monitor', $to, '-v', "$dir:/keys:ro", @run, '--snapshot', $snap);
					($st, $end) = (1, time + 10);
					while ($st && time < $end) {
						($st, $out, $err) = run_out({timeout => 10}, 'python3', "$dir/client.py", $a, $b);
						sleep 0.05 if $st;
					}
					is($st, 0, "$from to $to: clone $clone speaks TLS") or diag slurp($r->{err}) . $err;
					my $j = eval { decode_json($out) } // [];
					is(scalar @$j, 2, "$from to $to: clone $clone: both versions");
					is($j->[0]{pid}, $all[0]{pid}, "$from to $to: clone $clone: its program sees the process id that it had");
					push @all, @$j;
					stop_guest($r);
				}
			}
			for my $i (0 .. $#all) {
				my $h = $all[$i];
				$seen{$_}++ for map({ "random $_" } $h->{random}), map({ "secret $_" } @{$h->{secrets}}), map({ "number $_" } @{$h->{rand}}), $h->{session} ? "session $h->{session}" : ();
			}
			cmp_ok(scalar @all, '>=', 4 + 4 * @monitors, "$from: handshakes of original and clones");
		}
		my @twice = grep { $seen{$_} > 1 } sort keys %seen;
		is_deeply(\@twice, [], 'no random number, session id, traffic secret or master secret came twice');
		ok(scalar(grep { /^secret/ } keys %seen) >= 5 * 4 * @monitors, 'there were such secrets: ' . keys(%seen) . ' values');
	}
};

# --- OpenSSL, Node, Ruby, PHP, Perl, Go: numbers of two clones ---------------------------------------------------

group languages => sub {
	my $wait = '/proc/cowbell/generation';
	my %program = (
		node => ["$dir/app/r.js", <<'JS', 'node'],
const c = require("crypto"), fs = require("fs");
c.randomBytes(16); c.generateKeyPairSync("ec", {namedCurve: "prime256v1"});
const t = setInterval(() => {
	if (fs.readFileSync("/proc/cowbell/generation", "utf8").trim() == "1") return;
	clearInterval(t);
	console.log("a", c.randomBytes(16).toString("hex"));
	console.log("b", c.randomUUID({disableEntropyCache: true}));
	console.log("c", c.generateKeyPairSync("ec", {namedCurve: "prime256v1"}).privateKey.export({type: "pkcs8", format: "der"}).toString("hex").slice(0, 140));
	c.randomBytes(16, (e, b) => console.log("d", b.toString("hex")));
	console.log("e", require("crypto").webcrypto.getRandomValues(new Uint32Array(4)).join("-"));
}, 5);
JS
		ruby => ["$dir/app/r.rb", <<'RB', 'ruby'],
require "securerandom"; require "openssl"
SecureRandom.hex(4); OpenSSL::Random.random_bytes(4); pid = $$
sleep 0.005 while File.read("/proc/cowbell/generation").to_i == 1
puts "a " + SecureRandom.hex(16), "b " + OpenSSL::Random.random_bytes(16).unpack1("H*"), "c " + OpenSSL::PKey::EC.generate("prime256v1").private_key.to_s(16)
puts "d " + Random.urandom(16).unpack1("H*")
puts "pid #{pid == $$ && pid == Process.pid}"
got = false
trap("USR1") { got = true }
Process.kill("USR1", Process.pid)
20.times { sleep 0.01 unless got }
puts "signal #{got}"
RB
		php => ["$dir/app/r.php", <<'PHP', 'php'],
<?php
random_bytes(4); if (function_exists("openssl_random_pseudo_bytes")) openssl_random_pseudo_bytes(4);
while (trim(file_get_contents("/proc/cowbell/generation")) == "1") usleep(5000);
echo "a " . bin2hex(random_bytes(16)) . "\n";
if (function_exists("openssl_random_pseudo_bytes")) echo "b " . bin2hex(openssl_random_pseudo_bytes(16)) . "\n";
echo "c " . random_int(0, PHP_INT_MAX) . random_int(0, PHP_INT_MAX) . "\n";
PHP
		perl => ["$dir/app/r.pl", <<'PL', 'perl'],
$| = 1;
sub gen { open(my $f, "<", "/proc/cowbell/generation"); my $g = <$f>; $g + 0 }
open(my $u, "<:raw", "/dev/urandom"); sysread($u, my $x, 16);
select(undef, undef, undef, 0.005) while gen() == 1;
sysread($u, $x, 16); print "a ", unpack("H*", $x), "\n";
PL
		python => ["$dir/app/r.py", <<'PY', $python],
import os, random, secrets, ssl, time, uuid
ssl.RAND_bytes(4); r = random.SystemRandom(); r.random()
while int(open("/proc/cowbell/generation").read()) == 1: time.sleep(0.005)
print("a", ssl.RAND_bytes(16).hex()); print("b", r.getrandbits(128)); print("c", uuid.uuid4()); print("d", os.urandom(16).hex()); print("e", secrets.token_hex(16))
PY
	);
	if (have('go')) {
		mkdir "$dir/go";
		spew("$dir/go/main.go", <<'GO');
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	b := make([]byte, 16)
	rand.Read(b)
	for {
		g, _ := os.ReadFile("/proc/cowbell/generation")
		if strings.TrimSpace(string(g)) != "1" {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	rand.Read(b)
	fmt.Printf("a %x\n", b)
	k, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fmt.Printf("b %x\n", k.D)
}
GO
		local $ENV{CGO_ENABLED} = 0;
		local $ENV{GOCACHE} = "$dir/gocache";
		local $ENV{HOME} = $dir;
		$program{go} = ["$dir/bin/gorand", undef] if system("cd '$dir/go' && go build -o '$dir/bin/gorand' main.go 2>/dev/null") == 0;
	}
	for my $lang (sort keys %program) {
		my ($file, $code, $interpreter) = @{$program{$lang}};
		next if $interpreter && !have($interpreter);
		spew($file, $code) if defined $code;
		my %seen;
		for my $from (@monitors) {
			my $snap = take($from, "r-$lang", '1200ms', $interpreter ? ($interpreter, $file) : $file);
			for my $to (@monitors) {
				for my $clone (1, 2) {
					my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $to, '--snapshot', $snap);
					is($st, 0, "$lang, $from to $to: clone $clone goes on to its end") or diag $err;
					my @lines = grep { /^[a-e] / } split /\n/, $out;
					ok(@lines >= 1 && !grep({ $seen{$_}++ } @lines), "$lang, $from to $to: clone $clone has numbers of its own: " . @lines) or diag $out;
					lines_are("$lang, $from to $to", $out, 'pid true', 'signal true') if $lang eq 'ruby';
				}
			}
		}
	}
};

# --- a snapshot of a restored one ------------------------------------------------------------------------

group chain => sub {
	compile('chain', <<'C') or die;
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
static double now(clockid_t id) { struct timespec t; clock_gettime(id, &t); return t.tv_sec + t.tv_nsec / 1e9; }
int main(void)
{
	double start = now(CLOCK_MONOTONIC), rstart = now(CLOCK_REALTIME), last = start;
	int pid = getpid(), back = 0, g = 0, seen = 1, tf = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	struct itimerspec its = {.it_value = {0, 900000000}};
	timerfd_settime(tf, 0, &its, 0);
	unsigned r;
	unsigned long n = 0;
	while (g < 4) {
		FILE *f = fopen("/proc/cowbell/generation", "r");
		fscanf(f, "%d", &g), fclose(f);
		if (g != seen) seen = g, getrandom(&r, 4, 0), printf("at %d %08x\n", g, r), fflush(stdout);
		double m = now(CLOCK_MONOTONIC);
		back += m < last, last = m;
		usleep(2000);
	}
	double off = (now(CLOCK_MONOTONIC) - start) - (now(CLOCK_REALTIME) - rstart);
	read(tf, &n, 8);
	printf("back %d\noff %d\npid %d\ntimer %lu\n", back, off < 0.1 && off > -0.1, pid == getpid(), n);
	return 0;
}
C
	for my $m ($monitors[0], $monitors[-1]) {
		my @on = ($m, (grep { $_ ne $m } @monitors, $m)[0], $m, $monitors[0]);
		my $snap = take($on[0], "chain1", '400ms', "$dir/bin/chain");
		my @seen;
		for my $i (2, 3) {
			my $next = "$dir/snap/chain$i.$m";
			my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $on[$i - 1], '--snapshot', $snap, '--snapshot-at', '300ms', '--snapshot-stop', '-o', $next);
			ok(-s $next, "chain from $m: generation $i is taken on $on[$i - 1]") or diag $err;
			push @seen, $out =~ /^at $i (\S+)/m;
			$snap = $next;
		}
		my ($st, $out, $err) = run_out({timeout => 20}, $COWBELL, 'run', '--monitor', $on[3], '--snapshot', $snap);
		is($st, 0, "chain from $m: the fourth goes on to its end") or diag $err;
		lines_are("chain from $m", $out, 'at 4 \S+', 'back 0', 'off 1', 'pid 1', 'timer 1') or diag $out;
		push @seen, $out =~ /^at 4 (\S+)/m;
		is(scalar keys %{{map { $_ => 1 } @seen}}, 3, "chain from $m: all have random numbers of their own");
	}
};

done_testing;
