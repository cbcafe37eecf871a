/* SPDX-License-Identifier: ISC */
/*
 * Stress of everything that wakes somebody on another CPU, or changes memory that another CPU uses.
 *
 *	smp SEED SECONDS [PART...]
 *
 * Each part is some threads that wait for one another in a circle, so that one lost wake-up stops it for good.
 * Every worker counts its turns; a watchdog looks whether all went on within STUCK_S, tells who did not, and ends
 * with status 1. Memory parts check what they read. The seed decides what is done in which order; the scheduling that
 * the library OS injects (cowbell run --chaos SEED) is decided by its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>

#define MAX_WORKERS 64
#define STUCK_S	    20
#define PAGE	    4096

static struct worker {
	const char *name;
	void (*turn)(struct worker *w);
	int n; /* which of its part */
	void *part;
	uint64_t random;
	_Atomic unsigned long turns;
	pthread_t thread;
} workers[MAX_WORKERS];
static int n_workers;
static atomic_bool stop;
static uint64_t seed;

static _Noreturn void failed(const char *what, const char *why)
{
	fprintf(stderr, "stress: seed %llu: %s: %s\n", (unsigned long long)seed, what, why);
	fflush(stderr);
	_exit(1);
}

static unsigned rnd(struct worker *w, unsigned below)
{
	w->random ^= w->random << 13;
	w->random ^= w->random >> 7;
	w->random ^= w->random << 17;
	return (unsigned)(w->random >> 33) % below;
}

/* Some time in the app, so that turns meet in ever other ways. */
static void dally(struct worker *w)
{
	static const unsigned spins[] = {0, 0, 10, 100, 1000, 5000};

	for (volatile unsigned i = spins[rnd(w, 6)]; i; i--)
		;
	if (!rnd(w, 50))
		sched_yield();
}

static void add(const char *name, void (*turn)(struct worker *), int count, void *part)
{
	for (int i = 0; i < count; i++)
		workers[n_workers++] = (struct worker){.name = name, .turn = turn, .n = i, .part = part};
}

/* --- a bounded queue: mutex and two condition variables -------------------------------------------- */

struct queue {
	pthread_mutex_t m;
	pthread_cond_t room, some;
	unsigned n;
	unsigned long in, out;
};

static void queue_put(struct worker *w)
{
	struct queue *q = w->part;

	pthread_mutex_lock(&q->m);
	while (q->n == 3)
		pthread_cond_wait(&q->room, &q->m);
	q->n++;
	q->in++;
	pthread_cond_signal(&q->some);
	pthread_mutex_unlock(&q->m);
}

static void queue_get(struct worker *w)
{
	struct queue *q = w->part;

	pthread_mutex_lock(&q->m);
	while (!q->n)
		pthread_cond_wait(&q->some, &q->m);
	q->n--;
	q->out++;
	if (q->in - q->out != q->n)
		failed("queue", "the mutex did not exclude");
	pthread_cond_signal(&q->room);
	pthread_mutex_unlock(&q->m);
}

static void part_queue(void)
{
	struct queue *q = calloc(1, sizeof(*q));

	pthread_mutex_init(&q->m, NULL);
	pthread_cond_init(&q->room, NULL);
	pthread_cond_init(&q->some, NULL);
	add("queue put", queue_put, 2, q);
	add("queue get", queue_get, 2, q);
}

/* --- rings of semaphores, pipes, eventfds with epoll, sockets ---------------------------------------- */

#define RING 3

static void ring_sem(struct worker *w)
{
	sem_t *s = w->part;

	while (sem_wait(&s[w->n]))
		;
	dally(w);
	sem_post(&s[(w->n + 1) % RING]);
}

static void part_sem(void)
{
	sem_t *s = calloc(RING, sizeof(*s));

	for (int i = 0; i < RING; i++)
		sem_init(&s[i], 0, !i);
	add("semaphores", ring_sem, RING, s);
}

static void ring_fd(struct worker *w)
{
	int(*fd)[2] = w->part;
	char c;

	while (read(fd[w->n][0], &c, 1) != 1)
		;
	dally(w);
	while (write(fd[(w->n + 1) % RING][1], &c, 1) != 1)
		;
}

static void part_pipe(void)
{
	int(*fd)[2] = calloc(RING, sizeof(*fd));

	for (int i = 0; i < RING; i++)
		if (pipe(fd[i]))
			failed("pipes", strerror(errno));
	if (write(fd[0][1], "x", 1) != 1)
		failed("pipes", "write");
	add("pipes", ring_fd, RING, fd);
}

static void part_socket(void)
{
	int(*fd)[2] = calloc(RING, sizeof(*fd));

	for (int i = 0; i < RING; i++)
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd[i]))
			failed("sockets", strerror(errno));
	if (write(fd[0][1], "x", 1) != 1)
		failed("sockets", "write");
	add("sockets", ring_fd, RING, fd);
}

struct polled {
	int ev[RING], ep[RING];
};

static void ring_epoll(struct worker *w)
{
	struct polled *p = w->part;
	struct epoll_event e;
	uint64_t v = 0, one = 1;

	while (epoll_wait(p->ep[w->n], &e, 1, rnd(w, 2) ? -1 : 1000) != 1)
		;
	if (read(p->ev[w->n], &v, 8) != 8 || v != 1)
		failed("epoll", "it was ready, and there was not one event");
	dally(w);
	if (write(p->ev[(w->n + 1) % RING], &one, 8) != 8)
		failed("epoll", "write");
}

static void part_epoll(void)
{
	struct polled *p = calloc(1, sizeof(*p));

	for (int i = 0; i < RING; i++) {
		struct epoll_event e = {.events = EPOLLIN};

		p->ev[i] = eventfd(!i, EFD_NONBLOCK);
		p->ep[i] = epoll_create1(0);
		epoll_ctl(p->ep[i], EPOLL_CTL_ADD, p->ev[i], &e);
	}
	add("epoll", ring_epoll, RING, p);
}

/* --- signals: sigwait and handlers ------------------------------------------------------------------------ */

static struct worker *sig_first;
static __thread volatile sig_atomic_t got;

static void on_usr2(int sig)
{
	got += sig == SIGUSR2;
}

static void ring_signal(struct worker *w)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (w->n || w->turns) /* the first of the ring begins */
		while (sigwait(&set, &sig))
			;
	dally(w);
	pthread_kill(sig_first[(w->n + 1) % RING].thread, SIGUSR1);
}

/* A thread computes until a handler ran: another CPU has to be brought out of the app. */
static struct worker *spin_first;
static void ring_spin(struct worker *w)
{
	if (w->n || w->turns)
		for (unsigned long i = 0; !got; i++)
			if (stop)
				return;
	got = 0;
	pthread_kill(spin_first[(w->n + 1) % 2].thread, SIGUSR2);
}

static void part_signal(void)
{
	sig_first = &workers[n_workers];
	add("signals", ring_signal, RING, NULL);
	spin_first = &workers[n_workers];
	add("handlers", ring_spin, 2, NULL);
}

/* --- memory: what one thread unmaps no other may still see ---------------------------------------------- */

struct shared_page {
	_Atomic(uint32_t *) at; /* where the page is now; NULL: nowhere */
	atomic_uint epoch, using; /* readers that may look */
	uint8_t *area;
};

/* Maps, lets others write, unmaps and maps anew at the same place: it must be zero, whatever a stale entry held. */
static void page_owner(struct worker *w)
{
	struct shared_page *s = w->part;
	uint32_t *p =
		mmap(s->area, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	if (p == MAP_FAILED)
		failed("pages", strerror(errno));
	if (p[0])
		failed("pages", "a new page is not zero");
	s->at = p;
	dally(w);
	s->at = NULL;
	while (s->using)
		sched_yield();
	if (rnd(w, 2)) {
		/* read-only from now on: who writes through an old translation changes what must not change */
		uint32_t was = p[0];

		mprotect(p, PAGE, PROT_READ);
		dally(w);
		if (p[0] != was)
			failed("pages", "somebody wrote to a page that is read-only");
	}
	switch (rnd(w, 3)) {
	case 0:
		munmap(p, PAGE);
		break;
	case 1:
		mprotect(p, PAGE, PROT_READ | PROT_WRITE);
		madvise(p, PAGE, MADV_DONTNEED);
		if (p[0])
			failed("pages", "a dropped page is not zero");
	}
}

static void page_user(struct worker *w)
{
	struct shared_page *s = w->part;
	uint32_t *p;

	s->using ++;
	p = s->at;
	if (p) {
		for (unsigned i = 0; i < 20; i++) {
			__atomic_add_fetch(p, 1, __ATOMIC_RELAXED);
			if (!s->at)
				break;
		}
	}
	s->using --;
	if (!p)
		sched_yield();
}

static void part_pages(void)
{
	struct shared_page *s = calloc(1, sizeof(*s));

	s->area = mmap(NULL, 4 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	add("page owner", page_owner, 1, s);
	add("page user", page_user, 2, s);
}

/* --- processes: copies are copies, whatever other threads write meanwhile ----------------------------------- */

static _Atomic unsigned long written[1024] __attribute__((aligned(PAGE)));

static void scribbler(struct worker *w)
{
	for (unsigned i = 0; i < 64; i++)
		written[rnd(w, 1024)]++;
}

static void forker(struct worker *w)
{
	unsigned long copy[1024];
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		for (unsigned i = 0; i < 1024; i++)
			copy[i] = written[i];
		for (int round = 0; round < 20; round++) {
			sched_yield();
			for (unsigned i = 0; i < 1024; i++)
				if (written[i] != copy[i])
					_exit(3); /* the parent's threads write into us */
		}
		_exit(7);
	}
	if (pid < 0) {
		usleep(1000);
		return;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 7)
		failed("fork", WIFEXITED(status) && WEXITSTATUS(status) == 3
				       ? "a child saw what its parent wrote later"
				       : "a child ended wrongly");
	usleep(rnd(w, 3000));
}

static void part_fork(void)
{
	add("fork", forker, 1, NULL);
	add("scribbler", scribbler, 1, NULL);
}

/* --- sleepers --------------------------------------------------------------------------------------------------- */

static void sleeper(struct worker *w)
{
	struct timespec t = {0, (long)rnd(w, 3000000)}, a, b;
	pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t c = PTHREAD_COND_INITIALIZER;

	clock_gettime(CLOCK_REALTIME, &a);
	if (rnd(w, 2)) {
		nanosleep(&t, NULL);
	} else {
		b = a;
		b.tv_nsec += t.tv_nsec;
		if (b.tv_nsec >= 1000000000)
			b.tv_sec++, b.tv_nsec -= 1000000000;
		pthread_mutex_lock(&m);
		if (pthread_cond_timedwait(&c, &m, &b) != ETIMEDOUT)
			failed("sleep", "woken by nobody");
		pthread_mutex_unlock(&m);
	}
}

static void part_sleep(void)
{
	add("sleep", sleeper, 2, NULL);
}

/* A thread that only begins and ends. */
static void *nothing(void *arg)
{
	return arg;
}

static void spawner(struct worker *w)
{
	pthread_t t;
	void *r = NULL;

	if (pthread_create(&t, NULL, nothing, w)) {
		usleep(1000);
		return;
	}
	pthread_join(t, &r);
	if (r != w)
		failed("threads", "joined another one");
}

static void part_thread(void)
{
	add("threads", spawner, 2, NULL);
}

/* --- calls that are tried without the library OS's lock -------------------------------------------------------------- */

/* A word for each; who stores to the next one's wakes it whether or not anybody waits. */
static void ring_futex(struct worker *w)
{
	_Atomic unsigned *word = w->part, *mine = &word[w->n], *next = &word[(w->n + 1) % RING];

	while (!*mine)
		syscall(SYS_futex, mine, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	*mine = 0;
	dally(w);
	*next = 1;
	syscall(SYS_futex, next, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void part_futex(void)
{
	_Atomic unsigned *word = calloc(RING, sizeof(*word));

	word[0] = 1;
	add("futexes", ring_futex, RING, word);
}

/* Results go to memory that is not there, or that must not be written. */
static void own_calls(struct worker *w)
{
	struct timespec *t = (void *)((char *)w->part + w->n * PAGE);
	bool writable = rnd(w, 4);
	pid_t tid = (pid_t)syscall(SYS_gettid);
	unsigned cpu;
	long r;

	if (madvise(t, PAGE, MADV_DONTNEED) ||
	    mprotect(t, PAGE, writable ? PROT_READ | PROT_WRITE : PROT_READ))
		failed("own calls", "memory");
	r = syscall(SYS_clock_gettime, CLOCK_REALTIME, t);
	if (r != (writable ? 0 : -1) || (r && (errno != EFAULT || t->tv_sec)))
		failed("own calls", "clock_gettime");
	if (writable && t->tv_sec < 1000000000)
		failed("own calls", "the time was not written");
	for (int i = 0; i < 20; i++) {
		if (syscall(SYS_getpid) != getpid() || syscall(SYS_gettid) != tid ||
		    syscall(SYS_getuid) != getuid())
			failed("own calls", "another's numbers");
		if (syscall(SYS_getcpu, &cpu, NULL, NULL) || cpu >= 64)
			failed("own calls", "getcpu");
		if (syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, t) != (writable ? 0 : -1))
			failed("own calls", "CPU time");
	}
}

static void part_own(void)
{
	add("own calls", own_calls, 2, mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/* --- the whole ---------------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*make)(void);
} parts[] = {{"queue", part_queue}, {"sem", part_sem},	     {"pipe", part_pipe},   {"socket", part_socket},
	     {"epoll", part_epoll}, {"signal", part_signal}, {"pages", part_pages}, {"fork", part_fork},
	     {"sleep", part_sleep}, {"thread", part_thread}, {"futex", part_futex}, {"own", part_own}};

static void *work(void *arg)
{
	struct worker *w = arg;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	while (!w->thread)
		w->thread = pthread_self();
	while (!stop) {
		w->turn(w);
		w->turns++;
	}
	return NULL;
}

static bool look(unsigned long last[], int still[], double slept)
{
	for (int i = 0; i < n_workers; i++) {
		unsigned long now = workers[i].turns;

		still[i] = now == last[i] ? still[i] + 1 : 0;
		last[i] = now;
		if (still[i] * slept >= STUCK_S)
			return false;
	}
	return true;
}

static void report(const int still[])
{
	for (int i = 0; i < n_workers; i++)
		printf("%-12s %d %10lu turns%s\n", workers[i].name, workers[i].n, workers[i].turns,
		       still[i] ? " STUCK" : "");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct sigaction sa = {.sa_handler = on_usr2, .sa_flags = SA_RESTART};
	static unsigned long last[MAX_WORKERS];
	static int still[MAX_WORKERS];
	double seconds = argc > 2 ? atof(argv[2]) : 10;
	sigset_t set;

	seed = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
	sigaction(SIGUSR2, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		bool wanted = argc <= 3;

		for (int k = 3; k < argc; k++)
			wanted |= !strcmp(argv[k], parts[i].name);
		if (wanted)
			parts[i].make();
	}
	for (int i = 0; i < n_workers; i++)
		workers[i].random = (seed * 0x9e3779b97f4a7c15ull + (uint64_t)i * 0x2545f4914f6cdd1dull) | 1;
	for (int i = n_workers; i-- > 0;) /* who is signalled exists before who signals */
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			failed("start", strerror(errno));
	for (double t = 0; t < seconds; t += 0.5) {
		usleep(500000);
		if (!look(last, still, 0.5)) {
			report(still);
			failed("watchdog", "somebody waits for ever");
		}
	}
	report(still);
	printf("seed %llu: all went on for %.0f s\n", (unsigned long long)seed, seconds);
	fflush(stdout);
	_exit(0);
}
