/* SPDX-License-Identifier: ISC */
/*
 * POSIX message queues.
 *
 * A queue has a name (one component) and is a file to those who opened it; it
 * lives until its name and the last file of it are gone. Messages stand by
 * priority, and by age among equals. One process may ask to be told of the next
 * message that comes to the empty queue while nobody waits for one: once, by a
 * signal or, for libraries that start a thread then, a cookie on a netlink socket.
 *
 * All messages that the queues of a user may come to hold count against
 * RLIMIT_MSGQUEUE, so a queue is bounded when it is made. /dev/mqueue shows them: mqueue_fs.c.
 */
#include <linux/capability.h>
#include <linux/mqueue.h>

#include "guest/ipc/mqueue.h"
#include "guest/mm/mm.h"
#include "guest/net/net.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

#define QUEUES_MAX    256u
#define DEFAULT_MSGS  10
#define DEFAULT_SIZE  8192
#define HARD_MSGS     65536
#define HARD_SIZE     (16 << 20)
#define MESSAGE_COST  64u /* what one may cost beside its text */
#define SIG_EV_SIGNAL 0
#define SIG_EV_NONE   1
#define SIG_EV_THREAD 2
#define MQ_NAME_MAX   255u

struct message {
	struct list node;
	u32 prio;
	u64 size;
	u8 text[];
};

struct list mqueue_names = LIST_INIT(mqueue_names);
static u32 n_queues;
static const struct file_ops mqueue_fops;
static u64 last_num;

/* --- life ------------------------------------------------------------------------------ */

void mqueue_put(struct mqueue *q)
{
	if (--q->refs)
		return;
	list_for_each_safe (it, &q->messages)
		kfree(list_entry(it, struct message, node));
	kfree(q->name);
	kfree(q);
	n_queues--;
}

void mqueue_forget_name(struct mqueue *q)
{
	list_del(&q->node);
	mqueue_put(q);
}

void mqueue_open_file(struct mqueue *q, struct file *f)
{
	q->refs++;
	f->priv = q;
	f->ops = &mqueue_fops;
}

static struct mqueue *by_name(const char *name)
{
	list_for_each (it, &mqueue_names) {
		struct mqueue *q = list_entry(it, struct mqueue, node);

		if (!strcmp(q->name, name))
			return q;
	}
	return NULL;
}

static int check_name(const char *name)
{
	if (!*name)
		return -ENOENT;
	if (strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, ".."))
		return -EACCES;
	return strlen(name) > MQ_NAME_MAX ? -ENAMETOOLONG : 0;
}

/* What all queues of the user may come to cost; those without a name count until they are gone, as part of n_queues. */
static u64 cost_of(u32 uid)
{
	u64 n = 0;

	list_for_each (it, &mqueue_names) {
		const struct mqueue *q = list_entry(it, struct mqueue, node);

		n += q->uid == uid ? q->cost : 0;
	}
	return n;
}

static int check_attr(const struct mq_attr *a, u64 *cost)
{
	bool free = ipc_capable(CAP_SYS_RESOURCE);
	u64 limit = current->proc->rlim[RLIMIT_MSGQUEUE].rlim_cur;

	if (a->mq_maxmsg <= 0 || a->mq_msgsize <= 0)
		return -EINVAL;
	if (a->mq_maxmsg > (free ? HARD_MSGS : DEFAULT_MSGS) ||
	    a->mq_msgsize > (free ? HARD_SIZE : DEFAULT_SIZE))
		return -EINVAL;
	*cost = (u64)a->mq_maxmsg * ((u64)a->mq_msgsize + MESSAGE_COST);
	if (limit != RLIM64_INFINITY && cost_of(current->proc->euid) + *cost > limit)
		return -EMFILE;
	return n_queues >= QUEUES_MAX && !free ? -ENOSPC : 0;
}

struct mqueue *mqueue_new(const char *name, u32 mode, const struct mq_attr *attr, int *err)
{
	struct mq_attr a = {.mq_maxmsg = DEFAULT_MSGS, .mq_msgsize = DEFAULT_SIZE};
	struct mqueue *q;
	u64 cost;

	if (attr)
		a = *attr;
	*err = check_attr(&a, &cost);
	if (*err)
		return NULL;
	*err = -ENOMEM;
	q = kzalloc(sizeof(*q));
	if (!q || !(q->name = kstrdup(name))) {
		kfree(q);
		return NULL;
	}
	q->mode = mode & 0777 & ~current_fs()->umask;
	q->uid = current->proc->euid;
	q->gid = current->proc->egid;
	q->max_msgs = a.mq_maxmsg;
	q->max_size = a.mq_msgsize;
	q->cost = cost;
	list_init(&q->messages);
	waitq_init(&q->readers);
	waitq_init(&q->writers);
	q->refs = 1;
	q->num = ++last_num;
	q->born_ns = (s64)real_ns();
	list_add_tail(&mqueue_names, &q->node);
	n_queues++;
	*err = 0;
	return q;
}

/* access: O_RDONLY, O_WRONLY, O_RDWR */
static int check_mode(const struct mqueue *q, u32 access)
{
	u32 granted = q->mode, want = access == O_RDONLY ? 4 : access == O_WRONLY ? 2 : 6;

	if (current->proc->fsuid == q->uid)
		granted >>= 6;
	else if (vfs_in_group(q->gid))
		granted >>= 3;
	return want & ~granted && !ipc_capable(CAP_DAC_OVERRIDE) ? -EACCES : 0;
}

s64 mqueue_open(const char *name, u32 flags, u32 mode, const struct mq_attr *attr)
{
	u32 access = flags & O_ACCMODE;
	struct mqueue *q;
	struct file *f;
	int err = check_name(name), fd;

	if (err)
		return err;
	q = by_name(name);
	if (q) {
		if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
			return -EEXIST;
		if (access == O_ACCMODE)
			return -EINVAL;
		err = check_mode(q, access);
	} else {
		if (!(flags & O_CREAT))
			return -ENOENT;
		q = mqueue_new(name, mode, attr, &err);
	}
	if (err)
		return err;
	f = file_new(&mqueue_fops, access | (flags & O_NONBLOCK), q);
	if (!f)
		return -ENOMEM;
	q->refs++;
	fd = fd_install(f, true, 0);
	if (fd < 0)
		file_put(f);
	return fd;
}

s64 mqueue_unlink(const char *name)
{
	int err = check_name(name);
	struct mqueue *q = err ? NULL : by_name(name);

	if (!q)
		return err ? err : -ENOENT;
	if (current->proc->fsuid != q->uid && !ipc_capable(CAP_FOWNER))
		return -EACCES;
	mqueue_forget_name(q);
	return 0;
}

/* The queue of a descriptor; its file is referenced. */
static struct mqueue *queue_of_fd(int fd, struct file **out)
{
	struct file *f = fd_get(fd);

	if (f && f->ops != &mqueue_fops) {
		file_put(f);
		f = NULL;
	}
	*out = f;
	return f ? f->priv : NULL;
}

/* --- being told ------------------------------------------------------------------------------ */

static void forget_notify(struct mqueue *q, u8 why)
{
	if (!q->notify)
		return;
	if (q->notify_sock) {
		q->cookie[NOTIFY_COOKIE_LEN - 1] = why;
		netlink_deliver(q->notify_sock, q->cookie, sizeof(q->cookie));
		file_put(q->notify_sock);
		q->notify_sock = NULL;
	}
	q->notify = 0;
}

/* A message has come to the empty queue and nobody waits. */
static void tell(struct mqueue *q)
{
	siginfo_t info = {.si_signo = q->event.signo, .si_code = SI_MESGQ};
	struct process *p = q->notify ? process_by_pid(q->notify) : NULL;

	if (p && q->event.notify == SIG_EV_SIGNAL) {
		info.si_pid = current->proc->pid;
		info.si_uid = current->proc->uid;
		info.si_ptr = (void *)q->event.value;
		signal_process(p, q->event.signo, &info);
	}
	forget_notify(q, NOTIFY_WOKENUP);
}

static s64 set_notify(struct mqueue *q, const struct user_sigevent *ev)
{
	struct file *sock = NULL;

	if (ev->notify != SIG_EV_NONE && ev->notify != SIG_EV_SIGNAL && ev->notify != SIG_EV_THREAD)
		return -EINVAL;
	if (ev->notify == SIG_EV_SIGNAL && (ev->signo < 1 || ev->signo > N_SIGNALS))
		return -EINVAL;
	if (q->notify)
		return -EBUSY;
	if (ev->notify == SIG_EV_THREAD) {
		if (copy_in(q->cookie, (const void *)ev->value, sizeof(q->cookie)))
			return -EFAULT;
		sock = fd_get(ev->signo);
		if (!sock)
			return -EBADF;
		if (!netlink_is_socket(sock)) {
			file_put(sock);
			return -EINVAL;
		}
	}
	q->event = *ev;
	q->notify_sock = sock;
	q->notify = current->proc->pid;
	return 0;
}

s64 mqueue_notify(int fd, const void *uevent)
{
	struct user_sigevent ev;
	struct mqueue *q;
	struct file *f;
	s64 r = 0;

	if (uevent && get_user(ev, (const struct user_sigevent *)uevent))
		return -EFAULT;
	q = queue_of_fd(fd, &f);
	if (!q)
		return -EBADF;
	if (uevent)
		r = set_notify(q, &ev);
	else if (q->notify == current->proc->pid)
		forget_notify(q, NOTIFY_REMOVED);
	file_put(f);
	return r;
}

/* --- sending and receiving -------------------------------------------------------------------- */

static void insert(struct mqueue *q, struct message *m)
{
	struct list *before = &q->messages;

	list_for_each (it, &q->messages) {
		if (list_entry(it, struct message, node)->prio < m->prio) {
			before = it;
			break;
		}
	}
	list_add_tail(before, &m->node);
	q->bytes += m->size;
	if (!q->n++ && !q->n_readers)
		tell(q);
	waitq_wake(&q->readers, POLLIN | POLLRDNORM);
}

static s64 wait_for_room(struct mqueue *q, bool nonblock, u64 deadline)
{
	if (q->n < q->max_msgs)
		return 0;
	if (nonblock)
		return -EAGAIN;
	return wait_event(&q->writers, q->n < q->max_msgs, deadline, true);
}

s64 mqueue_send(int fd, const void *ubuf, u64 size, u32 prio, u64 deadline)
{
	struct message *m = NULL;
	struct mqueue *q;
	struct file *f;
	s64 r = 0;

	if (prio >= MQ_PRIO_MAX)
		return -EINVAL;
	q = queue_of_fd(fd, &f);
	if (!q)
		return -EBADF;
	if (!CAN_WRITE(f))
		r = -EBADF;
	else if (size > (u64)q->max_size)
		r = -EMSGSIZE;
	else if (!(m = kmalloc(sizeof(*m) + size)))
		r = -ENOMEM;
	else if (copy_in(m->text, ubuf, size))
		r = -EFAULT;
	if (!r)
		r = wait_for_room(q, f->flags & O_NONBLOCK, deadline);
	if (!r) {
		m->prio = prio;
		m->size = size;
		insert(q, m);
	} else {
		kfree(m);
	}
	file_put(f);
	return r;
}

static s64 wait_for_message(struct mqueue *q, bool nonblock, u64 deadline)
{
	s64 r;

	if (q->n)
		return 0;
	if (nonblock)
		return -EAGAIN;
	q->n_readers++;
	r = wait_event(&q->readers, q->n, deadline, true);
	q->n_readers--;
	return r;
}

s64 mqueue_receive(int fd, void *ubuf, u64 size, u32 *uprio, u64 deadline)
{
	struct message *m;
	struct mqueue *q;
	struct file *f;
	s64 r = 0;

	q = queue_of_fd(fd, &f);
	if (!q)
		return -EBADF;
	if (!CAN_READ(f))
		r = -EBADF;
	else if (size < (u64)q->max_size)
		r = -EMSGSIZE;
	if (!r)
		r = wait_for_message(q, f->flags & O_NONBLOCK, deadline);
	if (!r) {
		m = list_first(&q->messages, struct message, node);
		list_del(&m->node);
		q->n--;
		q->bytes -= m->size;
		waitq_wake(&q->writers, POLLOUT | POLLWRNORM);
		r = (s64)m->size;
		if ((uprio && put_user(m->prio, uprio)) || copy_out(ubuf, m->text, m->size))
			r = -EFAULT;
		kfree(m);
	}
	file_put(f);
	return r;
}

s64 mqueue_attr(int fd, const struct mq_attr *set, struct mq_attr *old)
{
	struct file *f;
	struct mqueue *q;

	if (set && set->mq_flags & ~(s64)O_NONBLOCK)
		return -EINVAL;
	q = queue_of_fd(fd, &f);
	if (!q)
		return -EBADF;
	*old = (struct mq_attr){.mq_flags = f->flags & O_NONBLOCK,
				.mq_maxmsg = q->max_msgs,
				.mq_msgsize = q->max_size,
				.mq_curmsgs = q->n};
	if (set)
		f->flags = (f->flags & ~(u32)O_NONBLOCK) | (u32)set->mq_flags;
	file_put(f);
	return 0;
}

/* --- as a file ------------------------------------------------------------------------------------ */

static s64 mqueue_read(struct file *f, struct uio *u, u64 *pos)
{
	const struct mqueue *q = f->priv;
	char line[80];
	u64 n = (u64)snprintf(line, sizeof(line), "QSIZE:%-10lu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n",
			      (unsigned long)q->bytes, q->notify ? q->event.notify : 0,
			      q->notify && q->event.notify == SIG_EV_SIGNAL ? q->event.signo : 0, q->notify);
	u64 got;

	if (*pos >= n)
		return 0;
	got = uio_put(u, line + *pos, MIN(n - *pos, u->left));
	*pos += got;
	return (s64)got;
}

static u32 mqueue_poll(struct file *f, struct poll_table *pt)
{
	struct mqueue *q = f->priv;

	poll_on(pt, &q->readers);
	poll_on(pt, &q->writers);
	return (q->n ? POLLIN | POLLRDNORM : 0) | (q->n < q->max_msgs ? POLLOUT | POLLWRNORM : 0);
}

static s64 mqueue_lseek(struct file *f, s64 off, int whence)
{
	return generic_lseek(f, off, whence);
}

static int mqueue_flush(struct file *f)
{
	struct mqueue *q = f->priv;

	if (q->notify == current->proc->pid)
		forget_notify(q, NOTIFY_REMOVED);
	return 0;
}

static void mqueue_release(struct file *f)
{
	mqueue_put(f->priv);
}

static const struct file_ops mqueue_fops = {
	.kind = "mqueue",
	.read = mqueue_read,
	.poll = mqueue_poll,
	.lseek = mqueue_lseek,
	.flush = mqueue_flush,
	.release = mqueue_release,
};
