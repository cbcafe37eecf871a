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
					'boot_id \S+ 1', 'same 1', 'id \S+ 1') or diag $out;
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

done_testing;
