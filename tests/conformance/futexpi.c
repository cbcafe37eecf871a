/* SPDX-License-Identifier: ISC */
/* Futexes with priority inheritance: as system calls, as mutexes of threads and of processes, robust ones, and conditions. */
#include "child.h"
#include <linux/futex.h>
#include <sched.h>

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

struct shared {
	pthread_mutex_t mu, robust, dead;
	pthread_cond_t cond;
	uint32_t a, b, cond_word, order[8], n_order;
	int counter, flag;
};
static struct shared *s;

static long futex(uint32_t *u, int op, uint32_t v, const void *t, uint32_t *u2, uint32_t v3)
{
	return syscall(SYS_futex, u, op, v, t, u2, v3);
}
static uint32_t load(uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}
static void store(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}
static struct timespec in_ms(clockid_t c, long ms)
{
	struct timespec t;
	clock_gettime(c, &t);
	t.tv_nsec += ms * 1000000;
	t.tv_sec += t.tv_nsec / 1000000000;
	t.tv_nsec %= 1000000000;
	return t;
}
/* --- a thread that does one call and says what came of it ------------------------------- */

struct call {
	pthread_t t;
	uint32_t *u, *u2, v, v3, tid, place;
	int op, err, unlock;
	long ret;
	const void *time;
	uint32_t seen; /* the word, right after */
};
static void *call_thread(void *arg)
{
	struct call *c = arg;
	store(&c->tid, (uint32_t)syscall(SYS_gettid));
	c->ret = futex(c->u, c->op, c->v, c->time, c->u2, c->v3);
	c->err = c->ret < 0 ? errno : 0;
	c->seen = load(c->u2 ? c->u2 : c->u);
	if (!c->ret && c->unlock) {
		s->order[__atomic_fetch_add(&s->n_order, 1, __ATOMIC_SEQ_CST)] = c->place;
		futex(c->u2 ? c->u2 : c->u, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
	}
	return NULL;
}
/* Until the thread sleeps, if only it was in time. */
static void asleep(uint32_t *tid)
{
	char path[64], buf[256], *p;
	for (;;) {
		while (!load(tid))
			usleep(200);
		snprintf(path, sizeof(path), "/proc/self/task/%u/stat", *tid);
		int fd = open(path, O_RDONLY);
		ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);
		close(fd);
		buf[n > 0 ? n : 0] = 0;
		if (n <= 0 || ((p = strrchr(buf, ')')) && p[2] == 'S'))
			break; /* sleeps; or its time was over before anybody looked, and it is gone */
		usleep(200);
	}
	usleep(2000);
}
static struct call *begin(struct call *c)
{
	pthread_create(&c->t, NULL, call_thread, c);
	asleep(&c->tid);
	return c;
}
static struct call *end(struct call *c)
{
	pthread_join(c->t, NULL);
	return c;
}
static uint32_t me(void)
{
	return (uint32_t)syscall(SYS_gettid);
}
static long lock(uint32_t *u)
{
	return futex(u, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
}
static long unlock(uint32_t *u)
{
	return futex(u, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0);
}

/* --- one thread ------------------------------------------------------------------------- */

static void *nothing(void *arg)
{
	store(arg, (uint32_t)syscall(SYS_gettid));
	return NULL;
}
static void alone(void)
{
	uint32_t dead = 0, *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_t t;

	CHECK("lock_free", lock(&s->a) == 0 && s->a == me());
	CHECK_ERR("lock_twice", lock(&s->a), EDEADLK);
	CHECK_ERR("try_own", futex(&s->a, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), EDEADLK);
	CHECK("unlock", unlock(&s->a) == 0 && s->a == 0);
	CHECK_ERR("unlock_twice", unlock(&s->a), EPERM);
	CHECK("try_free", futex(&s->a, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0) == 0 && s->a == me());
	CHECK("unlock_tried", unlock(&s->a) == 0 && s->a == 0);
	CHECK("lock2", futex(&s->a, FUTEX_LOCK_PI2, 0, NULL, NULL, 0) == 0 && s->a == me());
	s->a |= FUTEX_WAITERS;
	CHECK("unlock_marked", unlock(&s->a) == 0 && s->a == 0);
	CHECK("private", futex(&s->a, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0 &&
				 futex(&s->a, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) == 0 && s->a == 0);
	s->a = FUTEX_OWNER_DIED;
	CHECK("lock_died", lock(&s->a) == 0 && s->a == (FUTEX_OWNER_DIED | me()));
	CHECK("unlock_died", unlock(&s->a) == 0 && s->a == 0);
	CHECK_ERR("lock_unaligned", lock((uint32_t *)((char *)&s->a + 1)), EINVAL);
	CHECK_ERR("lock_nowhere", lock((uint32_t *)8), EFAULT);
	CHECK_ERR("unlock_nowhere", unlock((uint32_t *)8), EFAULT);
	CHECK_ERR("lock_read_only", lock(page), EFAULT);
	CHECK_ERR("lock_realtime_flag", futex(&s->a, FUTEX_LOCK_PI | FUTEX_CLOCK_REALTIME, 0, NULL, NULL, 0),
		  ENOSYS);
	struct timespec bad = {0, 1000000000};
	CHECK_ERR("lock_bad_time", futex(&s->a, FUTEX_LOCK_PI, 0, &bad, NULL, 0), EINVAL);
	pthread_create(&t, NULL, nothing, &dead);
	pthread_join(t, NULL);
	usleep(1000);
	s->a = dead;
	CHECK_ERR("lock_of_dead", lock(&s->a), ESRCH);
	CHECK_ERR("try_of_dead", futex(&s->a, FUTEX_TRYLOCK_PI, 0, NULL, NULL, 0), ESRCH);
	CHECK_ERR("unlock_of_other", unlock(&s->a), EPERM);
	s->a = 0;
	munmap(page, 4096);
}

/* --- several ------------------------------------------------------------------------------ */

static void waiting(void)
{
	struct timespec t;
	struct call c, d[3];

	lock(&s->a);
	t = in_ms(CLOCK_REALTIME, 30);
	c = (struct call){.u = &s->a, .op = FUTEX_LOCK_PI, .time = &t};
	end(begin(&c));
	CHECK("timeout", c.ret == -1 && c.err == ETIMEDOUT && s->a == (me() | FUTEX_WAITERS));
	t = (struct timespec){1, 0};
	c = (struct call){.u = &s->a, .op = FUTEX_LOCK_PI, .time = &t};
	pthread_create(&c.t, NULL, call_thread, &c);
	CHECK("timeout_past", end(&c)->err == ETIMEDOUT);
	t = in_ms(CLOCK_MONOTONIC, 30);
	c = (struct call){.u = &s->a, .op = FUTEX_LOCK_PI2, .time = &t};
	CHECK("timeout_monotonic", end(begin(&c))->err == ETIMEDOUT);
	t = in_ms(CLOCK_REALTIME, 30);
	c = (struct call){.u = &s->a, .op = FUTEX_LOCK_PI2 | FUTEX_CLOCK_REALTIME, .time = &t};
	CHECK("timeout_realtime", end(begin(&c))->err == ETIMEDOUT);
	c = (struct call){.u = &s->a, .op = FUTEX_TRYLOCK_PI};
	pthread_create(&c.t, NULL, call_thread, &c);
	CHECK("try_taken", end(&c)->err == EAGAIN);

	c = (struct call){.u = &s->a, .op = FUTEX_LOCK_PI};
	begin(&c);
	CHECK("marked", s->a == (me() | FUTEX_WAITERS));
	CHECK_ERR("wake_refused", futex(&s->a, FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
	CHECK_ERR("requeue_refused", futex(&s->a, FUTEX_REQUEUE, 1, (void *)1, &s->b, 0), EINVAL);
	CHECK("pass", unlock(&s->a) == 0 && load(&s->a) == (c.tid | FUTEX_WAITERS));
	end(&c);
	CHECK("passed", c.ret == 0 && c.seen == (c.tid | FUTEX_WAITERS));
	s->a = 0;

	lock(&s->a);
	s->n_order = 0;
	for (int i = 0; i < 3; i++) {
		d[i] = (struct call){.u = &s->a, .op = FUTEX_LOCK_PI, .unlock = 1, .place = i + 1};
		begin(&d[i]);
	}
	unlock(&s->a);
	for (int i = 0; i < 3; i++)
		end(&d[i]);
	CHECK("in_order",
	      s->n_order == 3 && s->order[0] == 1 && s->order[1] == 2 && s->order[2] == 3 && s->a == 0);

	c = (struct call){.u = &s->a, .op = FUTEX_WAIT, .v = me()};
	lock(&s->a);
	begin(&c);
	CHECK_ERR("plain_waiter", unlock(&s->a), EINVAL);
	CHECK("plain_woken", futex(&s->a, FUTEX_WAKE, 1, NULL, NULL, 0) == 1 && end(&c)->ret == 0);
	CHECK("unlock_after", unlock(&s->a) == 0 && s->a == 0);
}

static void *circle_thread(void *arg)
{
	uint32_t *tid = arg;
	lock(&s->b);
	store(tid, (uint32_t)syscall(SYS_gettid));
	lock(&s->a);
	unlock(&s->a);
	unlock(&s->b);
	return NULL;
}
static void circle(void)
{
	uint32_t tid = 0;
	pthread_t t;

	lock(&s->a);
	pthread_create(&t, NULL, circle_thread, &tid);
	asleep(&tid);
	CHECK_ERR("circle", lock(&s->b), EDEADLK);
	CHECK("circle_opens", unlock(&s->a) == 0 && pthread_join(t, NULL) == 0);
	CHECK("circle_free",
	      lock(&s->b) == 0 && unlock(&s->b) == 0 && lock(&s->a) == 0 && unlock(&s->a) == 0);
}

static void *dies_with_it(void *arg)
{
	lock(&s->a);
	store(arg, (uint32_t)syscall(SYS_gettid));
	while (!(load(&s->a) & FUTEX_WAITERS))
		usleep(200);
	usleep(2000);
	return NULL;
}
static void on_signal(int sig)
{
	s->flag++;
}
static void owner_dies(void)
{
	struct sigaction sa = {.sa_handler = on_signal};
	uint32_t tid = 0;
	struct call c;
	pthread_t t;

	pthread_create(&t, NULL, dies_with_it, &tid);
	while (!load(&tid))
		usleep(200);
	CHECK("heir", lock(&s->a) == 0 && s->a == (FUTEX_OWNER_DIED | FUTEX_WAITERS | me()));
	pthread_join(t, NULL);
	CHECK("heir_unlocks", unlock(&s->a) == 0 && s->a == 0);

	sigaction(SIGUSR1, &sa, NULL);
	lock(&s->a);
	c = (struct call){.u = &s->a, .op = FUTEX_LOCK_PI, .unlock = 1};
	begin(&c);
	s->flag = 0;
	pthread_kill(c.t, SIGUSR1);
	while (!*(volatile int *)&s->flag)
		usleep(200);
	asleep(&c.tid);
	unlock(&s->a);
	CHECK("handler_and_on", end(&c)->ret == 0 && s->flag == 1);
}

/* --- conditions ------------------------------------------------------------------------------ */

static void requeue(void)
{
	struct call c[3];
	struct timespec t;

	s->a = s->b = s->cond_word = 0;
	s->n_order = 0;
	c[0] = (struct call){
		.u = &s->cond_word, .op = FUTEX_WAIT_REQUEUE_PI, .u2 = &s->b, .unlock = 1, .place = 1};
	begin(&c[0]);
	CHECK_ERR("requeue_wake", futex(&s->cond_word, FUTEX_WAKE, 1, NULL, NULL, 0), EINVAL);
	CHECK_ERR("requeue_elsewhere", futex(&s->cond_word, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &s->a, 0),
		  EINVAL);
	CHECK_ERR("requeue_two", futex(&s->cond_word, FUTEX_CMP_REQUEUE_PI, 2, (void *)1, &s->b, 0), EINVAL);
	CHECK_ERR("requeue_value", futex(&s->cond_word, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &s->b, 1),
		  EAGAIN);
	CHECK_ERR("requeue_same", futex(&s->cond_word, FUTEX_CMP_REQUEUE_PI, 1, NULL, &s->cond_word, 0),
		  EINVAL);
	CHECK("requeue_free", futex(&s->cond_word, FUTEX_CMP_REQUEUE_PI, 1, NULL, &s->b, 0) == 1);
	end(&c[0]);
	CHECK("requeue_owns", c[0].ret == 0 && (c[0].seen & FUTEX_TID_MASK) == c[0].tid && s->b == 0);

	s->n_order = 0;
	lock(&s->b);
	for (int i = 0; i < 3; i++) {
		c[i] = (struct call){.u = &s->cond_word,
				     .op = FUTEX_WAIT_REQUEUE_PI,
				     .u2 = &s->b,
				     .unlock = 1,
				     .place = i + 1};
		begin(&c[i]);
	}
	CHECK("requeue_all", futex(&s->cond_word, FUTEX_CMP_REQUEUE_PI, 1, (void *)7, &s->b, 0) == 3);
	CHECK("requeue_wait", s->n_order == 0 && s->b == (me() | FUTEX_WAITERS));
	CHECK("requeue_pass", unlock(&s->b) == 0);
	for (int i = 0; i < 3; i++)
		end(&c[i]);
	CHECK("requeue_order",
	      s->n_order == 3 && s->order[0] == 1 && s->order[1] == 2 && s->order[2] == 3 && !s->b);

	t = in_ms(CLOCK_MONOTONIC, 30);
	c[0] = (struct call){.u = &s->cond_word, .op = FUTEX_WAIT_REQUEUE_PI, .u2 = &s->b, .time = &t};
	CHECK("requeue_timeout", end(begin(&c[0]))->err == ETIMEDOUT);
	lock(&s->b);
	t = in_ms(CLOCK_REALTIME, 100);
	c[0] = (struct call){.u = &s->cond_word,
			     .op = FUTEX_WAIT_REQUEUE_PI | FUTEX_CLOCK_REALTIME,
			     .u2 = &s->b,
			     .time = &t};
	begin(&c[0]);
	CHECK("requeue_moved", futex(&s->cond_word, FUTEX_CMP_REQUEUE_PI, 1, (void *)1, &s->b, 0) == 1);
	CHECK("requeue_moved_timeout", end(&c[0])->err == ETIMEDOUT && unlock(&s->b) == 0 && s->b == 0);
	c[0] = (struct call){.u = &s->cond_word, .op = FUTEX_WAIT_REQUEUE_PI, .u2 = &s->b, .v = 5};
	pthread_create(&c[0].t, NULL, call_thread, &c[0]);
	CHECK("requeue_wait_value", end(&c[0])->err == EAGAIN);
}

/* --- the C library's ---------------------------------------------------------------------------- */

static int init(pthread_mutex_t *m, int type, bool robust, bool shared)
{
	pthread_mutexattr_t at;
	int rc = pthread_mutexattr_init(&at) | pthread_mutexattr_setprotocol(&at, PTHREAD_PRIO_INHERIT) |
		 pthread_mutexattr_settype(&at, type);
	if (robust)
		rc |= pthread_mutexattr_setrobust(&at, PTHREAD_MUTEX_ROBUST);
	if (shared)
		rc |= pthread_mutexattr_setpshared(&at, PTHREAD_PROCESS_SHARED);
	return rc | pthread_mutex_init(m, &at);
}
static void *count(void *arg)
{
	for (int i = 0; i < 3000; i++) {
		if (pthread_mutex_lock(&s->mu))
			return "lock";
		int v = *(volatile int *)&s->counter;
		if (i % 100 == (long)arg)
			sched_yield();
		*(volatile int *)&s->counter = v + 1;
		if (pthread_mutex_unlock(&s->mu))
			return "unlock";
	}
	return NULL;
}
static void *try_it(void *m)
{
	return (void *)(long)pthread_mutex_trylock(m);
}
static void *time_it(void *m)
{
	struct timespec t = in_ms(CLOCK_REALTIME, 20), u = in_ms(CLOCK_MONOTONIC, 20);
	int rc = pthread_mutex_timedlock(m, &t);
	return (void *)(long)(rc != ETIMEDOUT ? rc : pthread_mutex_clocklock(m, CLOCK_MONOTONIC, &u));
}
static void *ping(void *arg)
{
	long want = (long)arg;
	for (int i = 0; i < 300; i++) {
		pthread_mutex_lock(&s->mu);
		while (s->flag != want)
			pthread_cond_wait(&s->cond, &s->mu);
		s->flag = !want;
		s->counter++;
		pthread_cond_broadcast(&s->cond);
		pthread_mutex_unlock(&s->mu);
	}
	return NULL;
}
static long in_thread(void *(*fn)(void *), void *arg)
{
	void *r;
	pthread_t t;
	pthread_create(&t, NULL, fn, arg);
	pthread_join(t, &r);
	return (long)r;
}
static void mutexes(void)
{
	pthread_t t[4];
	void *r[4];
	int good = 0;

	CHECK("init", init(&s->mu, PTHREAD_MUTEX_NORMAL, false, false) == 0);
	for (long i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, count, (void *)i);
	for (int i = 0; i < 4; i++)
		good += pthread_join(t[i], &r[i]) == 0 && !r[i];
	CHECK("threads_count", good == 4 && s->counter == 12000);
	pthread_mutex_lock(&s->mu);
	CHECK("trylock", in_thread(try_it, &s->mu) == EBUSY);
	CHECK("timedlock", in_thread(time_it, &s->mu) == ETIMEDOUT);
	CHECK("unlocked", pthread_mutex_unlock(&s->mu) == 0 && pthread_mutex_destroy(&s->mu) == 0);
	CHECK("errorcheck", init(&s->mu, PTHREAD_MUTEX_ERRORCHECK, false, false) == 0 &&
				    !pthread_mutex_lock(&s->mu) && pthread_mutex_lock(&s->mu) == EDEADLK &&
				    in_thread(try_it, &s->mu) == EBUSY && !pthread_mutex_unlock(&s->mu) &&
				    pthread_mutex_unlock(&s->mu) == EPERM);
	CHECK("recursive", init(&s->mu, PTHREAD_MUTEX_RECURSIVE, false, false) == 0 &&
				   !pthread_mutex_lock(&s->mu) && !pthread_mutex_lock(&s->mu) &&
				   !pthread_mutex_unlock(&s->mu) && in_thread(try_it, &s->mu) == EBUSY &&
				   !pthread_mutex_unlock(&s->mu));
	init(&s->mu, PTHREAD_MUTEX_NORMAL, false, false);
	pthread_cond_init(&s->cond, NULL);
	s->flag = s->counter = 0;
	pthread_create(&t[0], NULL, ping, (void *)0);
	pthread_create(&t[1], NULL, ping, (void *)1);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	CHECK("condition", s->counter == 600);
}

static void processes(void)
{
	pid_t p[4], k;
	int rc = 0;

	CHECK("init_shared", init(&s->mu, PTHREAD_MUTEX_NORMAL, false, true) == 0);
	s->counter = 0;
	fflush(stdout);
	for (long i = 0; i < 4; i++)
		if (!(p[i] = fork()))
			_exit(count((void *)i) != NULL);
	for (int i = 0; i < 4; i++)
		rc |= wait_for(p[i]);
	CHECK("processes_count", rc == 0 && s->counter == 12000);

	init(&s->robust, PTHREAD_MUTEX_NORMAL, true, true);
	if (!(k = fork())) {
		pthread_mutex_lock(&s->robust);
		_exit(0);
	}
	wait_for(k);
	CHECK("owner_ended", pthread_mutex_lock(&s->robust) == EOWNERDEAD);
	CHECK("consistent",
	      pthread_mutex_consistent(&s->robust) == 0 && pthread_mutex_unlock(&s->robust) == 0 &&
		      pthread_mutex_lock(&s->robust) == 0 && pthread_mutex_unlock(&s->robust) == 0);
	/* killed while this one waits */
	s->flag = 0;
	if (!(k = fork())) {
		pthread_mutex_lock(&s->robust);
		s->flag = 1;
		for (;;)
			pause();
	}
	pid_t killer = fork();
	if (!killer) {
		usleep(50000);
		kill(k, SIGKILL);
		_exit(0);
	}
	while (!*(volatile int *)&s->flag)
		usleep(200);
	CHECK("owner_killed", pthread_mutex_lock(&s->robust) == EOWNERDEAD);
	CHECK("given_up",
	      pthread_mutex_unlock(&s->robust) == 0 && pthread_mutex_lock(&s->robust) == ENOTRECOVERABLE);
	CHECK("reaped", wait_for(k) == 128 + SIGKILL && wait_for(killer) == 0);
	/* several wait, the owner is killed: each in its turn */
	init(&s->dead, PTHREAD_MUTEX_NORMAL, true, true);
	s->flag = s->counter = 0;
	if (!(k = fork())) {
		pthread_mutex_lock(&s->dead);
		s->flag = 1;
		for (;;)
			pause();
	}
	while (!*(volatile int *)&s->flag)
		usleep(200);
	for (int i = 0; i < 3; i++)
		if (!(p[i] = fork())) {
			int r = pthread_mutex_lock(&s->dead);
			if (r == EOWNERDEAD)
				pthread_mutex_consistent(&s->dead);
			s->counter++;
			pthread_mutex_unlock(&s->dead);
			_exit(r == EOWNERDEAD ? 1 : r ? 100 : 0);
		}
	usleep(50000);
	kill(k, SIGKILL);
	rc = 0;
	for (int i = 0; i < 3; i++)
		rc += wait_for(p[i]);
	CHECK("one_is_told", rc == 1 && s->counter == 3 && wait_for(k) == 128 + SIGKILL);
}

int main(void)
{
	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	alone();
	waiting();
	circle();
	owner_dies();
	requeue();
	mutexes();
	processes();
	return conf_done();
}
