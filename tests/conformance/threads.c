/* SPDX-License-Identifier: ISC */
/* pthreads, mutexes, condition variables, TLS, barriers, futex operations, preemption, robust mutexes. */
#include "conf.h"
#include <linux/futex.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/prctl.h>

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cv = PTHREAD_COND_INITIALIZER;
static long counter;
static __thread int tls = 5;
static volatile int flag;

static void *count(void *a)
{
	for (int i = 0; i < 100000; i++) {
		pthread_mutex_lock(&mu);
		counter++;
		pthread_mutex_unlock(&mu);
	}
	tls += (int)(long)a;
	return (void *)(long)tls;
}
static void *wait_cv(void *a)
{
	pthread_mutex_lock(&mu);
	while (!flag)
		pthread_cond_wait(&cv, &mu);
	counter++;
	pthread_mutex_unlock(&mu);
	return a;
}
static void *spin_until(void *a)
{
	while (!__atomic_load_n((int *)a, __ATOMIC_ACQUIRE))
		;
	return NULL;
}
static pthread_mutex_t robust;
static void *die_holding(void *a)
{
	pthread_mutex_lock(&robust);
	return a;
}
static pthread_barrier_t bar;
static void *barrier(void *a)
{
	long n = 0;
	for (int i = 0; i < 100; i++)
		n += pthread_barrier_wait(&bar) == PTHREAD_BARRIER_SERIAL_THREAD;
	return (void *)n;
}
static long futex(uint32_t *u, int op, uint32_t v, const struct timespec *t, uint32_t *u2, uint32_t v3)
{
	return syscall(SYS_futex, u, op, v, t, u2, v3);
}
static uint32_t fx, fy;
static void *futex_waiter(void *a)
{
	return (void *)futex(&fx, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, (uint32_t)(long)a);
}
static void nap(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&t, NULL);
}
static void *cancel_me(void *a)
{
	for (;;)
		pause();
	return a;
}

int main(void)
{
	pthread_t t[16];
	for (long i = 0; i < 8; i++)
		CHECK("create", pthread_create(&t[i], NULL, count, (void *)i) == 0);
	long sum = 0;
	for (int i = 0; i < 8; i++) {
		void *r;
		pthread_join(t[i], &r);
		sum += (long)r;
	}
	SHOW("counter", "%ld", counter);
	SHOW("tls_sum", "%ld", sum);
	counter = 0;
	for (int i = 0; i < 8; i++)
		pthread_create(&t[i], NULL, wait_cv, NULL);
	nap(20);
	pthread_mutex_lock(&mu);
	flag = 1;
	pthread_cond_broadcast(&cv);
	pthread_mutex_unlock(&mu);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	SHOW("cv", "%ld", counter);
	/* preemption: one thread spins until another thread runs */
	int stop = 0;
	pthread_create(&t[0], NULL, spin_until, &stop);
	pthread_create(&t[1], NULL, spin_until, &stop);
	nap(30);
	__atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	CHECK("preempted", true);
	pthread_barrier_init(&bar, NULL, 4);
	sum = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&t[i], NULL, barrier, NULL);
	for (int i = 0; i < 4; i++) {
		void *r;
		pthread_join(t[i], &r);
		sum += (long)r;
	}
	SHOW("barrier", "%ld", sum);
	pthread_mutexattr_t ma;
	pthread_mutexattr_init(&ma);
	pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &ma);
	pthread_create(&t[0], NULL, die_holding, NULL);
	pthread_join(t[0], NULL);
	CHECK("robust", pthread_mutex_lock(&robust) == EOWNERDEAD && pthread_mutex_consistent(&robust) == 0);
	/* futex */
	CHECK_ERR("futex_again", futex(&fx, FUTEX_WAIT_PRIVATE, 1, NULL, NULL, 0), EAGAIN);
	struct timespec ts = {0, 5000000};
	CHECK_ERR("futex_timeout", futex(&fx, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0), ETIMEDOUT);
	CHECK_ERR("futex_bitset0", futex(&fx, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, 0), EINVAL);
	CHECK_ERR("futex_efault", futex((uint32_t *)8, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EFAULT);
	CHECK_ERR("futex_unaligned",
		  futex((uint32_t *)((char *)&fx + 1), FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0), EINVAL);
	CHECK_ERR("futex_op", futex(&fx, 77, 0, NULL, NULL, 0), ENOSYS);
	pthread_create(&t[0], NULL, futex_waiter, (void *)1);
	pthread_create(&t[1], NULL, futex_waiter, (void *)2);
	nap(20);
	CHECK("wake_bitset_other", futex(&fx, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4) == 0);
	CHECK("wake_bitset", futex(&fx, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2) == 1);
	pthread_join(t[1], NULL);
	CHECK("requeue", futex(&fx, FUTEX_REQUEUE_PRIVATE, 0, (void *)1, &fy, 0) == 1);
	CHECK("wake_old_none", futex(&fx, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 0);
	CHECK("wake_requeued", futex(&fy, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1);
	pthread_join(t[0], NULL);
	CHECK_ERR("cmp_requeue", futex(&fx, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, &fy, 77), EAGAIN);
	CHECK("wake_op", futex(&fx, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &fy,
			       FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 0)) == 0 &&
				 fy == 3);
	sem_t sem;
	sem_init(&sem, 0, 0);
	struct timespec abs;
	clock_gettime(CLOCK_REALTIME, &abs);
	abs.tv_nsec += 10000000;
	if (abs.tv_nsec >= 1000000000)
		abs.tv_sec++, abs.tv_nsec -= 1000000000;
	CHECK_ERR("sem_timedwait", sem_timedwait(&sem, &abs), ETIMEDOUT);
	pthread_create(&t[0], NULL, cancel_me, NULL);
	nap(5);
	void *r;
	CHECK("cancel", pthread_cancel(t[0]) == 0 && pthread_join(t[0], &r) == 0 && r == PTHREAD_CANCELED);
	char nm[16];
	CHECK("setname", pthread_setname_np(pthread_self(), "abc") == 0 && prctl(PR_GET_NAME, nm) == 0 &&
				 !strcmp(nm, "abc"));
	CHECK("yield", sched_yield() == 0);
	CHECK("gettid_main", syscall(SYS_gettid) == getpid());
	for (int k = 0; k < 500; k++) {
		pthread_create(&t[0], NULL, (void *(*)(void *))(void *)getpid, NULL);
		pthread_join(t[0], NULL);
	}
	CHECK("create_join_500", true);
	return conf_done();
}
