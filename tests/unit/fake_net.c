/* SPDX-License-Identifier: ISC */
/* See fake_net.h. */
#include "tests/unit/hosted.h"

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "tests/unit/fake_net.h"

#define MAX_FDS 512

static struct boot_info bi;
static struct boot_stats st;
static struct thread thread;
static struct process process;
const struct boot_info *boot = &bi;
struct boot_stats *stats = &st;
struct thread *test_current = &thread;
void (*fake_on_sleep)(void);
int fake_sigpipes;
long fake_allocs;

static struct file *fds[MAX_FDS];
static struct list pending = LIST_INIT(pending), deferred = LIST_INIT(deferred);
static u64 clock_ns = 1000000000;
static u64 next_handle = 10;

void fake_net_start(void)
{
	bi.plat = BOOT_PLAT_KVM;
	bi.ports_count = 1;
	bi.ports[0] = 8080;
	thread.proc = &process;
	process.pid = 2;
}

/* --- memory, log ------------------------------------------------------------------ */

void *kmalloc(size_t n)
{
	fake_allocs++;
	return malloc(n);
}

void *kzalloc(size_t n)
{
	fake_allocs++;
	return calloc(1, n);
}

void *krealloc(void *p, size_t n)
{
	fake_allocs += !p;
	return realloc(p, n);
}

void kfree(void *p)
{
	fake_allocs -= p != NULL;
	free(p);
}

void log_line(enum log_level level, const char *fmt, ...)
{
}

void panic(const char *fmt, ...)
{
	fprintf(stderr, "panic: %s\n", fmt);
	abort();
}

u64 mono_ns(void)
{
	return clock_ns++;
}

void random_bytes(void *p, size_t n)
{
	memset(p, 0x5a, n);
}

int copy_in(void *d, const void *s, size_t n)
{
	memcpy(d, s, n);
	return 0;
}

int copy_out(void *d, const void *s, size_t n)
{
	memcpy(d, s, n);
	return 0;
}

size_t copy_in_partial(void *d, const void *s, size_t n)
{
	memcpy(d, s, n);
	return n;
}

size_t copy_out_partial(void *d, const void *s, size_t n)
{
	memcpy(d, s, n);
	return n;
}

int clear_user(void *d, size_t n)
{
	memset(d, 0, n);
	return 0;
}

/* --- threads ------------------------------------------------------------------------ */

void thread_prepare_sleep(bool interruptible)
{
	thread.state = THREAD_SLEEPING_INTR;
}

int thread_sleep(u64 deadline)
{
	void (*f)(void) = fake_on_sleep;

	if (thread.state == THREAD_RUNNABLE)
		return 0;
	fake_on_sleep = NULL;
	if (f)
		f();
	return thread.state == THREAD_RUNNABLE ? 0 : deadline == NO_DEADLINE ? -ERESTARTSYS : -ETIMEDOUT;
}

void thread_finish_sleep(void)
{
	thread.state = THREAD_RUNNABLE;
}

void thread_wake(struct thread *t)
{
	t->state = THREAD_RUNNABLE;
}

/* Owners of descriptors, for SIGURG: there are none. */
struct process *process_by_pid(s32 pid)
{
	return NULL;
}

int signal_process(struct process *p, int sig, const siginfo_t *info)
{
	return -ESRCH;
}

int signal_pgrp(s32 pgid, int sig, const siginfo_t *info)
{
	return -ESRCH;
}

int signal_thread(struct thread *t, int sig, const siginfo_t *info)
{
	fake_sigpipes += sig == SIGPIPE;
	return 0;
}

void ktimer_init(struct ktimer *t, void (*fn)(struct ktimer *))
{
	*t = (struct ktimer){.fn = fn};
}

void ktimer_arm(struct ktimer *t, u64 deadline)
{
	t->armed = true;
}

void ktimer_cancel(struct ktimer *t)
{
	t->armed = false;
}

/* --- files --------------------------------------------------------------------------- */

struct file *file_new(const struct file_ops *ops, u32 flags, void *priv)
{
	struct file *f = kzalloc(sizeof(*f));

	*f = (struct file){.refs = 1, .flags = flags, .ops = ops, .priv = priv};
	list_init(&f->epoll_links);
	return f;
}

void file_get(struct file *f)
{
	f->refs++;
}

void file_put(struct file *f)
{
	if (--f->refs)
		return;
	epoll_forget(f);
	if (f->ops->release)
		f->ops->release(f);
	kfree(f);
}

struct file *fd_get(int fd)
{
	struct file *f = fd >= 0 && fd < MAX_FDS ? fds[fd] : NULL;

	if (f)
		f->refs++;
	return f;
}

int fd_install(struct file *f, bool cloexec, int min)
{
	for (int i = min; i < MAX_FDS; i++) {
		if (!fds[i]) {
			fds[i] = f;
			return i;
		}
	}
	return -EMFILE;
}

int fd_close(int fd)
{
	struct file *f = fds[fd];

	fds[fd] = NULL;
	if (f)
		file_put(f);
	return f ? 0 : -EBADF;
}

int vfs_bind_socket(const char *path, u32 mode, void *sock, struct inode **out)
{
	return -ENOENT;
}

void *vfs_lookup_socket(const char *path, int *err)
{
	*err = -ENOENT;
	return NULL;
}

void inode_put(struct inode *ino)
{
}

/* --- ring ------------------------------------------------------------------------------ */

gpa_t ring_buf_gpa(const void *p)
{
	return GPA((u64)p);
}

void ring_submit(struct ring_req *r)
{
	if (r->active)
		panic("submitted twice");
	r->active = true;
	list_add_tail(&pending, &r->node);
}

void ring_cancel(struct ring_req *r)
{
}

void ring_defer(struct ring_deferred *d)
{
	if (list_empty(&d->node))
		list_add_tail(&deferred, &d->node);
}

bool ring_pending(void)
{
	return !list_empty(&deferred);
}

bool ring_hurried(void)
{
	return false; /* nobody reads the console here */
}

int fake_doorbell(void)
{
	int n = 0;

	stats->doorbells++;
	while (!list_empty(&deferred)) {
		struct ring_deferred *d = list_first(&deferred, struct ring_deferred, node);

		list_del(&d->node);
		d->run(d);
	}
	list_for_each (it, &pending)
		n++;
	return n;
}

void ring_flush(void)
{
	fake_doorbell();
}

s64 ring_call(struct ring_sqe *sqe, u64 *val, u64 *val2)
{
	if (sqe->op == RING_OP_SOCKET)
		*val = next_handle++;
	return 0;
}

struct ring_req *fake_request(int op)
{
	list_for_each (it, &pending) {
		struct ring_req *r = list_entry(it, struct ring_req, node);

		if (r->sqe.op == op)
			return r;
	}
	return NULL;
}

void fake_complete(struct ring_req *r, int res, u32 flags, u64 val, u64 val2)
{
	struct ring_cqe c = {.res = res, .flags = flags, .val = val, .val2 = val2};

	if (!(flags & RING_CQE_MORE)) {
		list_del(&r->node);
		r->active = false;
	}
	r->done(r, &c);
}

/* --- calls ------------------------------------------------------------------------------ */

int t_socket(int family, int type)
{
	struct sock *s;
	int r = sock_create(family, type, 0, &s);

	return r ? r : fd_install(sock_file(s, 0), false, 0);
}

void t_pair(int type, int fd[2])
{
	struct sock *s[2];

	if (unix_socketpair(type, s))
		panic("socketpair");
	for (int i = 0; i < 2; i++)
		fd[i] = fd_install(sock_file(s[i], O_NONBLOCK), false, 0);
}

struct sock *t_sock(int fd)
{
	return sock_of(fds[fd]);
}

void t_nonblock(int fd)
{
	fds[fd]->flags |= O_NONBLOCK;
}

long t_send(int fd, const void *p, unsigned long n, unsigned flags)
{
	struct msginfo m = {.flags = flags, .nonblock = fds[fd]->flags & O_NONBLOCK};
	struct iovec iov;
	struct uio u;

	sock_set_cred(t_sock(fd), &m);
	uio_single(&u, &iov, (void *)p, n, true);
	return sock_send(t_sock(fd), &u, &m);
}

long t_recv(int fd, void *p, unsigned long n, unsigned flags)
{
	struct msginfo m = {.flags = flags, .nonblock = fds[fd]->flags & O_NONBLOCK};
	struct iovec iov;
	struct uio u;

	uio_single(&u, &iov, p, n, true);
	long r = sock_recv(t_sock(fd), &u, &m);
	if (m.fds)
		scm_free(m.fds);
	return r;
}

int t_accept(int fd)
{
	struct sock *c;
	int r = sock_accept(t_sock(fd), fds[fd]->flags & O_NONBLOCK, &c);

	return r ? r : fd_install(sock_file(c, 0), false, 0);
}

unsigned t_poll(int fd)
{
	return fds[fd]->ops->poll(fds[fd], NULL);
}
