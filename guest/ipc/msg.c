/* SPDX-License-Identifier: ISC */
/*
 * System V message queues.
 *
 * A queue holds at most qbytes bytes and as many messages. Whoever must wait
 * sleeps on the queue and looks again; the queue's removal wakes all, and they
 * see `gone`.
 */
#include <linux/capability.h>
#include <linux/msg.h>

#include "guest/ipc/internal.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

struct message {
	struct list node;
	s64 type;
	u64 size;
	u8 text[];
};

struct queue {
	struct ipc_object o;
	struct list messages;
	struct waitq readers, writers;
	u64 qbytes, cbytes, n;
	s64 stime, rtime, ctime;
	s32 lspid, lrpid;
};

static void queue_free(struct ipc_object *o);
static struct ipc_kind kind = {.max = MSGMNI, .free = queue_free};

static struct queue *of_object(struct ipc_object *o)
{
	return o ? container_of(o, struct queue, o) : NULL;
}

static void queue_free(struct ipc_object *o)
{
	struct queue *q = of_object(o);

	list_for_each_safe (it, &q->messages)
		kfree(list_entry(it, struct message, node));
	kfree(q);
}

static struct ipc_object *make(void *arg, int *err)
{
	struct queue *q = kzalloc(sizeof(*q));

	(void)arg;
	*err = -ENOMEM;
	if (!q)
		return NULL;
	list_init(&q->messages);
	waitq_init(&q->readers);
	waitq_init(&q->writers);
	q->qbytes = MSGMNB;
	q->ctime = ipc_now();
	return &q->o;
}

static int check(struct ipc_object *o, void *arg)
{
	(void)o;
	(void)arg;
	return 0;
}

s64 msg_get(s32 key, u32 flags)
{
	return ipc_find_or_make(&kind, key, flags, make, check, NULL);
}

/* --- sending ------------------------------------------------------------------------- */

static bool has_room(const struct queue *q, u64 size)
{
	return q->cbytes + size <= q->qbytes && q->n + 1 <= q->qbytes;
}

/* Wait for room with a reference held. 0, -EIDRM, -EAGAIN or a signal. */
static s64 wait_room(struct queue *q, u64 size, bool nowait)
{
	int r;

	if (q->o.gone)
		return -EIDRM;
	if (has_room(q, size))
		return 0;
	if (nowait)
		return -EAGAIN;
	r = wait_event(&q->writers, q->o.gone || has_room(q, size), NO_DEADLINE, true);
	if (q->o.gone)
		return -EIDRM;
	return r ? -ERESTARTNOHAND : 0;
}

s64 msg_send(s32 id, const void *ubuf, u64 size, u32 flags)
{
	struct message *m;
	struct queue *q;
	s64 r;

	if (id < 0 || size > MSGMAX)
		return -EINVAL;
	m = kmalloc(sizeof(*m) + size);
	if (!m)
		return -ENOMEM;
	m->size = size;
	r = get_user(m->type, (const s64 *)ubuf);
	if (!r && m->type < 1)
		r = -EINVAL;
	if (!r)
		r = copy_in(m->text, (const u8 *)ubuf + sizeof(s64), size);
	q = r ? NULL : of_object(ipc_by_id(&kind, id));
	if (!r && !q)
		r = -EINVAL;
	if (!r)
		r = ipc_permission(&q->o, 0222);
	if (r) {
		kfree(m);
		return r;
	}
	ipc_get_object(&q->o);
	r = wait_room(q, size, flags & IPC_NOWAIT);
	if (!r) {
		list_add_tail(&q->messages, &m->node);
		q->cbytes += size;
		q->n++;
		q->lspid = current->proc->pid;
		q->stime = ipc_now();
		waitq_wake_all(&q->readers, 0);
	} else {
		kfree(m);
	}
	ipc_put_object(&kind, &q->o);
	return r;
}

/* --- receiving --------------------------------------------------------------------------- */

/* The message that msgrcv(type, flags) means, or NULL. */
static struct message *pick(struct queue *q, s64 type, u32 flags)
{
	struct message *best = NULL;
	s64 at = 0;

	list_for_each (it, &q->messages) {
		struct message *m = list_entry(it, struct message, node);

		if (flags & MSG_COPY) {
			if (at++ == type)
				return m;
		} else if (!type || (type > 0 && (m->type == type) == !(flags & MSG_EXCEPT))) {
			return m;
		} else if (type < 0 && m->type <= (type == INT64_MIN ? INT64_MAX : -type) &&
			   (!best || m->type < best->type)) {
			best = m;
		}
	}
	return best;
}

static s64 deliver(struct queue *q, struct message *m, u8 *ubuf, u64 size, u32 flags)
{
	u64 n = MIN(m->size, size);
	s64 r;

	if (m->size > size && !(flags & MSG_NOERROR))
		return -E2BIG;
	if (flags & MSG_COPY) {
		r = put_user(m->type, (s64 *)ubuf) || copy_out(ubuf + sizeof(s64), m->text, n);
		return r ? -EFAULT : (s64)n;
	}
	list_del(&m->node);
	q->cbytes -= m->size;
	q->n--;
	q->lrpid = current->proc->pid;
	q->rtime = ipc_now();
	waitq_wake_all(&q->writers, 0);
	r = put_user(m->type, (s64 *)ubuf) || copy_out(ubuf + sizeof(s64), m->text, n);
	kfree(m); /* as on Linux it is lost when the buffer is bad */
	return r ? -EFAULT : (s64)n;
}

s64 msg_receive(s32 id, void *ubuf, u64 size, s64 type, u32 flags)
{
	struct queue *q = of_object(ipc_by_id(&kind, id));
	struct message *m = NULL;
	s64 r;

	if (id < 0 || (s64)size < 0)
		return -EINVAL;
	if (flags & MSG_COPY && (flags & MSG_EXCEPT || !(flags & IPC_NOWAIT)))
		return -EINVAL;
	if (!q)
		return -EINVAL;
	r = ipc_permission(&q->o, 0444);
	if (r)
		return r;
	ipc_get_object(&q->o);
	if (!(m = pick(q, type, flags))) {
		r = -ENOMSG;
		if (!(flags & IPC_NOWAIT)) {
			r = wait_event(&q->readers, q->o.gone || (m = pick(q, type, flags)), NO_DEADLINE,
				       true)
				    ? -ERESTARTNOHAND
				    : 0;
			if (q->o.gone)
				r = -EIDRM;
		}
	}
	if (!r)
		r = deliver(q, m, ubuf, size, flags);
	ipc_put_object(&kind, &q->o);
	return r;
}

/* --- msgctl ----------------------------------------------------------------------------------- */

static s64 stat_queue(s32 id, int cmd, void *ubuf)
{
	struct queue *q = of_object(ipc_for_stat(&kind, id, cmd != IPC_STAT));
	struct msqid64_ds ds = {0};

	if (!q)
		return -EINVAL;
	if (cmd != MSG_STAT_ANY && ipc_permission(&q->o, 0444))
		return -EACCES;
	ds.msg_perm = q->o.perm;
	ds.msg_stime = q->stime;
	ds.msg_rtime = q->rtime;
	ds.msg_ctime = q->ctime;
	ds.msg_cbytes = q->cbytes;
	ds.msg_qnum = q->n;
	ds.msg_qbytes = q->qbytes;
	ds.msg_lspid = q->lspid;
	ds.msg_lrpid = q->lrpid;
	if (put_user(ds, (struct msqid64_ds *)ubuf))
		return -EFAULT;
	return cmd == IPC_STAT ? 0 : q->o.id;
}

static s64 info(int cmd, void *ubuf)
{
	struct msginfo i = {.msgmax = MSGMAX,
			    .msgmnb = MSGMNB,
			    .msgmni = MSGMNI,
			    .msgssz = 16,
			    .msgseg = 0xffff,
			    .msgmap = MSGMNB,
			    .msgpool = MSGMNI * MSGMNB / 1024,
			    .msgtql = MSGMNB};
	struct ipc_object *o;

	if (cmd == MSG_INFO) {
		i.msgpool = (int)kind.used;
		i.msgmap = i.msgtql = 0;
		for (u32 n = 0; (o = ipc_next(&kind, &n));) {
			i.msgmap += (int)of_object(o)->n;
			i.msgtql += (int)of_object(o)->cbytes;
		}
	}
	return put_user(i, (struct msginfo *)ubuf) ? -EFAULT : ipc_highest(&kind);
}

static void remove_queue(struct queue *q)
{
	ipc_get_object(&q->o);
	ipc_remove(&kind, &q->o);
	waitq_wake_all(&q->readers, 0);
	waitq_wake_all(&q->writers, 0);
	ipc_put_object(&kind, &q->o);
}

static s64 set_queue(struct queue *q, const struct msqid64_ds *ds)
{
	if (ds->msg_qbytes > MSGMNB && !ipc_capable(CAP_SYS_RESOURCE))
		return -EPERM;
	ipc_set_perm(&q->o, &ds->msg_perm);
	q->qbytes = ds->msg_qbytes;
	q->ctime = ipc_now();
	/* who waited may not any more, or may have room */
	waitq_wake_all(&q->readers, 0);
	waitq_wake_all(&q->writers, 0);
	return 0;
}

s64 msg_control(s32 id, int cmd, u64 ubuf)
{
	struct msqid64_ds ds;
	struct queue *q;

	if (id < 0 || cmd < 0)
		return -EINVAL;
	switch (cmd) {
	case IPC_INFO:
	case MSG_INFO:
		return info(cmd, (void *)ubuf);
	case IPC_STAT:
	case MSG_STAT:
	case MSG_STAT_ANY:
		return stat_queue(id, cmd, (void *)ubuf);
	case IPC_SET:
		if (get_user(ds, (struct msqid64_ds *)ubuf))
			return -EFAULT;
		break;
	case IPC_RMID:
		break;
	default:
		return -EINVAL;
	}
	q = of_object(ipc_by_id(&kind, id));
	if (!q)
		return -EINVAL;
	if (ipc_owner(&q->o))
		return -EPERM;
	if (cmd == IPC_SET)
		return set_queue(q, &ds);
	remove_queue(q);
	return 0;
}

void ipc_show_msg(struct text *t, const struct pid_of *of)
{
	struct ipc_object *o;

	(void)of;
	text_add(
		t,
		"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      "
		"stime      rtime      ctime\n");
	for (u32 i = 0; (o = ipc_next(&kind, &i));) {
		const struct queue *q = of_object(o);

		text_add(t, "%10d %10d  %4o  %10lu %10lu %5u %5u %5u %5u %5u %5u %10lu %10lu %10lu\n",
			 o->perm.key, o->id, o->perm.mode, (unsigned long)q->cbytes, (unsigned long)q->n,
			 (u32)q->lspid, (u32)q->lrpid, o->perm.uid, o->perm.gid, o->perm.cuid, o->perm.cgid,
			 (unsigned long)q->stime, (unsigned long)q->rtime, (unsigned long)q->ctime);
	}
}
