/* SPDX-License-Identifier: ISC */
/* What processes share to wait for one another: futexes, mutexes, conditions, barriers, semaphores, robust ones. */
#include "watch.h"
#include <linux/futex.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/wait.h>

struct shared {
	pthread_mutex_t mu, robust, robust_list[8], rec;
	pthread_cond_t cond;
	pthread_barrier_t bar;
	pthread_rwlock_t rw;
	pthread_spinlock_t spin;
	sem_t sem, ready;
	uint32_t futex, futex2;
	int counter, flag, turn, readers, order[8], n_order;
};
static struct shared *s;

static pid_t run(int (*fn)(int), int arg)
{
	fflush(stdout);
	pid_t p = fork();
	if (!p)
		_exit(fn(arg));
	return p;
}
static int wait_for(pid_t p)
{
	int st = -1;
	if (waitpid(p, &st, 0) != p)
		return 255;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}
static int all(int (*fn)(int), int n)
{
	pid_t p[16];
	int rc = 0;
	for (int i = 0; i < n; i++)
		p[i] = run(fn, i);
	for (int i = 0; i < n; i++)
		rc |= wait_for(p[i]);
	return rc;
}
static long futex(uint32_t *u, int op, uint32_t v, const struct timespec *t, uint32_t *u2, uint32_t v3)
{
	return syscall(SYS_futex, u, op, v, t, u2, v3);
}
static int count_mutex(int k)
{
	for (int i = 0; i < 2000; i++) {
		if (pthread_mutex_lock(&s->mu))
			return 1;
		int v = *(volatile int *)&s->counter;
		if (i % 100 == k)
			sched_yield();
		*(volatile int *)&s->counter = v + 1;
		pthread_mutex_unlock(&s->mu);
	}
	return 0;
}
static int count_spin(int k)
{
	for (int i = 0; i < 500; i++) {
		pthread_spin_lock(&s->spin);
		s->counter++;
		pthread_spin_unlock(&s->spin);
	}
	return 0;
}
static int count_sem(int k)
{
	for (int i = 0; i < 500; i++) {
		while (sem_wait(&s->sem))
			;
		int v = *(volatile int *)&s->counter;
		if (i % 50 == k)
			sched_yield();
		*(volatile int *)&s->counter = v + 1;
		sem_post(&s->sem);
	}
	return 0;
}
static int wait_cond(int k)
{
	pthread_mutex_lock(&s->mu);
	while (!s->flag)
		pthread_cond_wait(&s->cond, &s->mu);
	s->counter++;
	pthread_mutex_unlock(&s->mu);
	return 0;
}
static int ping_pong(int k)
{
	for (int i = 0; i < 300; i++) {
		pthread_mutex_lock(&s->mu);
		while (s->turn != k)
			pthread_cond_wait(&s->cond, &s->mu);
		s->turn = !k;
		s->counter++;
		pthread_cond_broadcast(&s->cond);
		pthread_mutex_unlock(&s->mu);
	}
	return 0;
}
static int barriers(int k)
{
	int serial = 0;
	for (int i = 0; i < 50; i++) {
		__atomic_fetch_add(&s->counter, 1, __ATOMIC_SEQ_CST);
		if (pthread_barrier_wait(&s->bar) == PTHREAD_BARRIER_SERIAL_THREAD)
			serial++;
		if (__atomic_load_n(&s->counter, __ATOMIC_SEQ_CST) < 4 * (i + 1))
			return 200;
		pthread_barrier_wait(&s->bar);
	}
	__atomic_fetch_add(&s->flag, serial, __ATOMIC_SEQ_CST);
	return 0;
}
static int rwlocks(int k)
{
	for (int i = 0; i < 200; i++) {
		if (k == 0 || i % 10 == 0) {
			pthread_rwlock_wrlock(&s->rw);
			if (s->readers)
				return 1;
			s->counter++;
			pthread_rwlock_unlock(&s->rw);
		} else {
			pthread_rwlock_rdlock(&s->rw);
			__atomic_fetch_add(&s->readers, 1, __ATOMIC_SEQ_CST);
			if (i % 20 == 5)
				sched_yield();
			__atomic_fetch_sub(&s->readers, 1, __ATOMIC_SEQ_CST);
			pthread_rwlock_unlock(&s->rw);
		}
	}
	return 0;
}
static int die_holding(int how)
{
	if (pthread_mutex_lock(&s->robust))
		return 1;
	sem_post(&s->ready);
	if (how == 0)
		_exit(0);
	if (how == 2)
		execl("/proc/self/exe", "pshared", "ends", (char *)NULL);
	for (;;)
		pause();
}
static int die_holding_many(int k)
{
	for (int i = 0; i < 8; i++)
		if (pthread_mutex_lock(&s->robust_list[i]))
			return 1;
	return 0;
}
static int wait_robust(int k)
{
	sem_post(&s->ready);
	int e = pthread_mutex_lock(&s->robust);
	if (e != EOWNERDEAD)
		return 1;
	pthread_mutex_consistent(&s->robust);
	pthread_mutex_unlock(&s->robust);
	return 0;
}
static int futex_wait_shared(int k)
{
	__atomic_fetch_add(&s->counter, 1, __ATOMIC_SEQ_CST);
	long r = futex(&s->futex, FUTEX_WAIT, 0, NULL, NULL, 0);
	return r == 0 ? 0 : 1;
}
static int futex_wait_private(int k)
{
	struct timespec t = {0, 100000000};
	__atomic_fetch_add(&s->counter, 1, __ATOMIC_SEQ_CST);
	return futex(&s->futex, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &t, NULL, 0) == -1 && errno == ETIMEDOUT
		       ? 0
		       : 1;
}
static char *file_map, *second_map;
static int futex_file(int k)
{
	/* another mapping of the same file, at another place */
	int fd = open("f", O_RDWR);
	uint32_t *w = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	__atomic_fetch_add(&s->counter, 1, __ATOMIC_SEQ_CST);
	return futex(w + 1025, FUTEX_WAIT, 5, NULL, NULL, 0) ? 1 : 0;
}
/* All n are about to wait, and then do. */
static void until(int n, const pid_t *p)
{
	while (__atomic_load_n(&s->counter, __ATOMIC_SEQ_CST) < n)
		usleep(1000);
	for (int i = 0; i < n; i++)
		becomes(p[i], 'S');
}
static int named_sem(int k)
{
	char name[64];
	snprintf(name, sizeof(name), "/cowbell-conf-%d", getppid());
	sem_t *m = sem_open(name, 0);
	if (m == SEM_FAILED)
		return 1;
	for (int i = 0; i < 10; i++)
		sem_post(m);
	return sem_close(m);
}
static int timed_cond(int k)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += 30000000;
	if (t.tv_nsec >= 1000000000)
		t.tv_sec++, t.tv_nsec -= 1000000000;
	pthread_mutex_lock(&s->mu);
	int e = pthread_cond_timedwait(&s->cond, &s->mu, &t);
	pthread_mutex_unlock(&s->mu);
	if (e != ETIMEDOUT)
		return 1;
	pthread_mutex_lock(&s->mu);
	return 0; /* ends with the lock held: not robust, so it stays */
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return 0;
	conf_dir();
	s = mmap(NULL, sizeof(*s) + 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_mutexattr_t ma, mr, mrec;
	pthread_condattr_t ca;
	pthread_barrierattr_t ba;
	pthread_rwlockattr_t ra;
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setpshared(&ma, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_init(&mr);
	pthread_mutexattr_setpshared(&mr, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&mr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_init(&mrec);
	pthread_mutexattr_setpshared(&mrec, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_settype(&mrec, PTHREAD_MUTEX_RECURSIVE);
	pthread_condattr_init(&ca);
	pthread_condattr_setpshared(&ca, PTHREAD_PROCESS_SHARED);
	pthread_barrierattr_init(&ba);
	pthread_barrierattr_setpshared(&ba, PTHREAD_PROCESS_SHARED);
	pthread_rwlockattr_init(&ra);
	pthread_rwlockattr_setpshared(&ra, PTHREAD_PROCESS_SHARED);
	CHECK("init", !pthread_mutex_init(&s->mu, &ma) && !pthread_mutex_init(&s->robust, &mr) &&
			      !pthread_mutex_init(&s->rec, &mrec) && !pthread_cond_init(&s->cond, &ca) &&
			      !pthread_barrier_init(&s->bar, &ba, 4) && !pthread_rwlock_init(&s->rw, &ra) &&
			      !pthread_spin_init(&s->spin, PTHREAD_PROCESS_SHARED) &&
			      !sem_init(&s->sem, 1, 1) && !sem_init(&s->ready, 1, 0));
	for (int i = 0; i < 8; i++)
		pthread_mutex_init(&s->robust_list[i], &mr);

	CHECK("mutex", all(count_mutex, 4) == 0 && s->counter == 8000);
	s->counter = 0;
	CHECK("spin", all(count_spin, 3) == 0 && s->counter == 1500);
	s->counter = 0;
	CHECK("semaphore", all(count_sem, 4) == 0 && s->counter == 2000);
	s->counter = 0;
	pid_t p[4];
	for (int i = 0; i < 4; i++)
		p[i] = run(wait_cond, i);
	for (int i = 0; i < 4; i++)
		becomes(p[i], 'S');
	pthread_mutex_lock(&s->mu);
	s->flag = 1;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->mu);
	int rc = 0;
	for (int i = 0; i < 4; i++)
		rc |= wait_for(p[i]);
	CHECK("broadcast", rc == 0 && s->counter == 4);
	s->counter = 0;
	CHECK("ping_pong", all(ping_pong, 2) == 0 && s->counter == 600);
	s->counter = s->flag = 0;
	CHECK("barrier", all(barriers, 4) == 0 && s->counter == 200 && s->flag > 0);
	s->counter = 0;
	CHECK("rwlock", all(rwlocks, 4) == 0 && s->counter == 200 + 3 * 20);

	/* owners that die */
	p[0] = run(die_holding, 0);
	CHECK("owner_exits", wait_for(p[0]) == 0 && pthread_mutex_lock(&s->robust) == EOWNERDEAD);
	CHECK("consistent",
	      pthread_mutex_consistent(&s->robust) == 0 && pthread_mutex_unlock(&s->robust) == 0 &&
		      pthread_mutex_trylock(&s->robust) == 0 && pthread_mutex_unlock(&s->robust) == 0);
	sem_wait(&s->ready);
	p[0] = run(die_holding, 1);
	sem_wait(&s->ready);
	CHECK("owner_has_it", pthread_mutex_trylock(&s->robust) == EBUSY);
	p[1] = run(wait_robust, 0);
	sem_wait(&s->ready);
	becomes(p[1], 'S');
	kill(p[0], SIGKILL);
	CHECK("waiter_gets_it", wait_for(p[0]) == 128 + SIGKILL && wait_for(p[1]) == 0);
	p[0] = run(die_holding, 2);
	CHECK("owner_execs", wait_for(p[0]) == 0 && pthread_mutex_lock(&s->robust) == EOWNERDEAD);
	pthread_mutex_unlock(&s->robust);
	CHECK("not_recoverable", pthread_mutex_lock(&s->robust) == ENOTRECOVERABLE);
	CHECK("many_held", wait_for(run(die_holding_many, 0)) == 0);
	rc = 0;
	for (int i = 0; i < 8; i++)
		rc += pthread_mutex_lock(&s->robust_list[i]) == EOWNERDEAD;
	CHECK("many_dead", rc == 8);

	/* futexes */
	s->counter = 0;
	for (int i = 0; i < 3; i++)
		p[i] = run(futex_wait_shared, i);
	until(3, p);
	CHECK("private_wakes_none",
	      futex(&s->futex, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, NULL, NULL, 0) == 0);
	CHECK("wake_one", futex(&s->futex, FUTEX_WAKE, 1, NULL, NULL, 0) == 1);
	CHECK("requeue", futex(&s->futex, FUTEX_CMP_REQUEUE, 0, (void *)10, &s->futex2, 0) == 2);
	CHECK("wake_other", futex(&s->futex2, FUTEX_WAKE, 10, NULL, NULL, 0) == 2);
	rc = 0;
	for (int i = 0; i < 3; i++)
		rc |= wait_for(p[i]);
	CHECK("all_woken", rc == 0);
	s->counter = 0;
	p[0] = run(futex_wait_private, 0);
	until(1, p);
	CHECK("private_not_woken",
	      futex(&s->futex, FUTEX_WAKE, 10, NULL, NULL, 0) == 0 && wait_for(p[0]) == 0);
	uint32_t *anon = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK_ERR("not_equal", futex(anon, FUTEX_WAIT, 1, NULL, NULL, 0), EAGAIN);
	int fd = open("f", O_CREAT | O_RDWR, 0600);
	ftruncate(fd, 8192);
	uint32_t *w = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4096);
	w[1] = 5;
	s->counter = 0;
	p[0] = run(futex_file, 0);
	until(1, p);
	CHECK("file_offset", futex(w + 1, FUTEX_WAKE, 10, NULL, NULL, 0) == 1 && wait_for(p[0]) == 0);

	/* names */
	char name[64];
	snprintf(name, sizeof(name), "/cowbell-conf-%d", getpid());
	sem_t *m = sem_open(name, O_CREAT | O_EXCL, 0600, 0);
	CHECK("sem_open", m != SEM_FAILED);
	CHECK_ERR("sem_open_excl", sem_open(name, O_CREAT | O_EXCL, 0600, 0) == SEM_FAILED ? -1 : 0, EEXIST);
	int v = -1;
	CHECK("named", all(named_sem, 3) == 0 && sem_getvalue(m, &v) == 0 && v == 30);
	CHECK("sem_unlink", sem_unlink(name) == 0 && sem_close(m) == 0);
	CHECK_ERR("sem_gone", sem_open(name, 0) == SEM_FAILED ? -1 : 0, ENOENT);
	CHECK("timed", wait_for(run(timed_cond, 0)) == 0);
	CHECK("held_by_dead", pthread_mutex_trylock(&s->mu) == EBUSY);
	unlink("f");
	rmdir(conf_dir());
	return conf_done();
}
