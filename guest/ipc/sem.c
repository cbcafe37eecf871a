/* SPDX-License-Identifier: ISC */
/*
 * System V semaphores: sets, operations that happen whole or not at all, undo.
 *
 * An operation list that cannot happen yet waits in its set's queue, on the
 * sleeper's stack. Whoever changes a set does what has become possible for
 * those who wait, in the order in which they came (serve), and wakes them
 * when it is done: nobody can take away between what another was woken for.
 *
 * SEM_UNDO: an array of adjustments for each process and set that it was used
 * on, in the set's list. It is applied when the process ends; threads share it.
 */
#include <linux/capability.h>
#include <linux/sem.h>

#include "guest/ipc/internal.h"
#include "guest/mm/mm.h"
#include "guest/proc/proc.h"
#include "guest/vfs/internal.h"

#define READ_OPS_ON_STACK 8u

struct semaphore {
	s32 value, pid;
};

struct undo {
	struct list node;
	struct process *p;
	s16 adjust[];
};

struct sem_set {
	struct ipc_object o;
	u32 n;
	s64 otime, ctime;
	struct list waiting; /* struct pending */
	struct list undos;
	struct semaphore sem[];
};

struct pending {
	struct list node;
	const struct sembuf *ops;
	u32 n, blocked; /* the operation that cannot happen */
	struct undo *undo;
	struct thread *thread;
	s32 pid;
	bool done;
	s64 result;
};

static u64 total_sems;

static void set_free(struct ipc_object *o);
static struct ipc_kind kind = {.max = SEMMNI, .free = set_free};

static struct sem_set *of_object(struct ipc_object *o)
{
	return o ? container_of(o, struct sem_set, o) : NULL;
}

static void set_free(struct ipc_object *o)
{
	struct sem_set *s = of_object(o);

	list_for_each_safe (it, &s->undos)
		kfree(list_entry(it, struct undo, node));
	kfree(s);
}

/* --- operations ------------------------------------------------------------------------ */

/* Take back the first n operations, which were done. */
static void roll_back(struct sem_set *s, const struct pending *q, u32 n)
{
	while (n-- > 0) {
		const struct sembuf *op = &q->ops[n];

		s->sem[op->sem_num].value -= op->sem_op;
		if (op->sem_flg & SEM_UNDO)
			q->undo->adjust[op->sem_num] = (s16)(q->undo->adjust[op->sem_num] + op->sem_op);
	}
}

/* 0: all of it is done. 1: it has to wait, nothing is changed. Or -errno. */
static s64 try(struct sem_set *s, struct pending *q)
{
	s64 r = 0;
	u32 i;

	for (i = 0; i < q->n; i++) {
		const struct sembuf *op = &q->ops[i];
		struct semaphore *sem = &s->sem[op->sem_num];
		s32 to = sem->value + op->sem_op;

		if (op->sem_op ? to < 0 : sem->value != 0) {
			r = op->sem_flg & IPC_NOWAIT ? -EAGAIN : 1;
			break;
		}
		r = to > SEMVMX ? -ERANGE : 0;
		if (!r && op->sem_flg & SEM_UNDO) {
			s32 adjust = q->undo->adjust[op->sem_num] - op->sem_op;

			r = adjust < -SEMAEM - 1 || adjust > SEMAEM ? -ERANGE : 0;
			if (!r)
				q->undo->adjust[op->sem_num] = (s16)adjust;
		}
		if (r)
			break;
		sem->value = to;
	}
	if (r) {
		q->blocked = i;
		roll_back(s, q, i);
		return r;
	}
	for (i = 0; i < q->n; i++)
		s->sem[q->ops[i].sem_num].pid = q->pid;
	s->otime = ipc_now();
	return 0;
}

static void finish(struct pending *q, s64 result)
{
	list_del(&q->node);
	q->result = result;
	q->done = true;
	thread_wake(q->thread);
}

static bool alters(const struct pending *q)
{
	for (u32 i = 0; i < q->n; i++)
		if (q->ops[i].sem_op)
			return true;
	return false;
}

/* Something has changed: whoever can go on now does, the first first. */
static void serve(struct sem_set *s)
{
	bool again = true;

	while (again) {
		again = false;
		list_for_each_safe (it, &s->waiting) {
			struct pending *q = list_entry(it, struct pending, node);
			s64 r = try(s, q);

			if (r > 0)
				continue;
			again = !r && alters(q);
			finish(q, r);
			if (again)
				break;
		}
	}
}

static struct undo *find_undo(struct sem_set *s, struct process *p, bool make)
{
	struct undo *u;

	list_for_each (it, &s->undos) {
		u = list_entry(it, struct undo, node);
		if (u->p == p)
			return u;
	}
	u = make ? kzalloc(sizeof(*u) + s->n * sizeof(u->adjust[0])) : NULL;
	if (!u)
		return NULL;
	u->p = p;
	list_add_tail(&s->undos, &u->node);
	return u;
}

void sem_process_gone(struct process *p)
{
	struct ipc_object *o;

	for (u32 i = 0; (o = ipc_next(&kind, &i));) {
		struct sem_set *s = of_object(o);
		struct undo *u = find_undo(s, p, false);

		if (!u)
			continue;
		for (u32 k = 0; k < s->n; k++) {
			if (!u->adjust[k])
				continue;
			s->sem[k].value = MIN(MAX(s->sem[k].value + u->adjust[k], 0), SEMVMX);
			s->sem[k].pid = p->pid;
		}
		list_del(&u->node);
		kfree(u);
		s->otime = ipc_now();
		serve(s);
	}
}

/* What the list asks for; its numbers are good. */
static s64 check_ops(const struct sem_set *s, const struct sembuf *ops, u32 n, bool *undo)
{
	bool alter = false;

	for (u32 i = 0; i < n; i++) {
		if (ops[i].sem_num >= s->n)
			return -EFBIG;
		alter |= ops[i].sem_op != 0;
		*undo |= !!(ops[i].sem_flg & SEM_UNDO);
	}
	return ipc_permission(&s->o, alter ? 0222 : 0444);
}

static s64 operate(struct sem_set *s, const struct sembuf *ops, u32 n, u64 deadline)
{
	struct pending q = {.ops = ops, .n = n, .thread = current, .pid = current->proc->pid};
	bool undo = false;
	s64 r = check_ops(s, ops, n, &undo);

	if (r)
		return r;
	if (undo && !(q.undo = find_undo(s, current->proc, true)))
		return -ENOMEM;
	r = try(s, &q);
	if (!r && alters(&q))
		serve(s);
	if (r <= 0)
		return r;
	list_add_tail(&s->waiting, &q.node);
	ipc_get_object(&s->o);
	while (!q.done) {
		int err;

		thread_prepare_sleep(true);
		err = thread_sleep(deadline);
		thread_finish_sleep();
		if (err && !q.done) {
			list_del(&q.node);
			q.result = err == -ETIMEDOUT ? -EAGAIN
						     : -EINTR; /* never restarted, whatever the handler */
			break;
		}
	}
	ipc_put_object(&kind, &s->o);
	return q.result;
}

s64 sem_operate(s32 id, const struct sembuf *uops, u32 n, u64 deadline)
{
	struct sembuf few[READ_OPS_ON_STACK], *ops = few;
	struct sem_set *s;
	s64 r;

	if (!n || id < 0)
		return -EINVAL;
	if (n > SEMOPM)
		return -E2BIG;
	if (n > READ_OPS_ON_STACK && !(ops = kmalloc(n * sizeof(*ops))))
		return -ENOMEM;
	s = of_object(ipc_by_id(&kind, id));
	if (copy_in(ops, uops, n * sizeof(*ops)))
		r = -EFAULT;
	else
		r = s ? operate(s, ops, n, deadline) : -EINVAL;
	if (ops != few)
		kfree(ops);
	return r;
}

/* --- semget ------------------------------------------------------------------------------- */

static struct ipc_object *make(void *arg, int *err)
{
	u32 n = *(u32 *)arg;
	struct sem_set *s;

	*err = -EINVAL;
	if (!n)
		return NULL;
	*err = -ENOSPC;
	if (total_sems + n > SEMMNS)
		return NULL;
	*err = -ENOMEM;
	s = kzalloc(sizeof(*s) + n * sizeof(s->sem[0]));
	if (!s)
		return NULL;
	s->n = n;
	s->ctime = ipc_now();
	list_init(&s->waiting);
	list_init(&s->undos);
	total_sems += n;
	return &s->o;
}

static int check(struct ipc_object *o, void *arg)
{
	return *(u32 *)arg > of_object(o)->n ? -EINVAL : 0;
}

s64 sem_get(s32 key, int n, u32 flags)
{
	u32 want = (u32)n;

	if (n < 0 || n > SEMMSL)
		return -EINVAL;
	return ipc_find_or_make(&kind, key, flags, make, check, &want);
}

/* --- semctl ----------------------------------------------------------------------------------- */

static s64 stat_set(s32 id, int cmd, void *ubuf)
{
	struct sem_set *s = of_object(ipc_for_stat(&kind, id, cmd != IPC_STAT));
	struct semid64_ds ds = {0};

	if (!s)
		return -EINVAL;
	if (cmd != SEM_STAT_ANY && ipc_permission(&s->o, 0444))
		return -EACCES;
	ds.sem_perm = s->o.perm;
	ds.sem_otime = s->otime;
	ds.sem_ctime = s->ctime;
	ds.sem_nsems = s->n;
	if (put_user(ds, (struct semid64_ds *)ubuf))
		return -EFAULT;
	return cmd == IPC_STAT ? 0 : s->o.id;
}

static s64 info(int cmd, void *ubuf)
{
	struct seminfo i = {.semmap = SEMMAP,
			    .semmni = SEMMNI,
			    .semmns = SEMMNS,
			    .semmnu = SEMMNU,
			    .semmsl = SEMMSL,
			    .semopm = SEMOPM,
			    .semume = SEMUME,
			    .semusz = SEMUSZ,
			    .semvmx = SEMVMX,
			    .semaem = SEMAEM};

	if (cmd == SEM_INFO) {
		i.semusz = (int)kind.used;
		i.semaem = (int)total_sems;
	}
	return put_user(i, (struct seminfo *)ubuf) ? -EFAULT : ipc_highest(&kind);
}

/* How many wait for semaphore `num` to grow, or to become zero? */
static s64 count_waiting(const struct sem_set *s, u32 num, bool zero)
{
	s64 n = 0;

	list_for_each (it, &s->waiting) {
		const struct pending *q = list_entry(it, struct pending, node);
		const struct sembuf *op = &q->ops[q->blocked];

		n += op->sem_num == num && (op->sem_op == 0) == zero;
	}
	return n;
}

static void forget_undo(struct sem_set *s, u32 from, u32 n)
{
	list_for_each (it, &s->undos)
		memset(&list_entry(it, struct undo, node)->adjust[from], 0, n * sizeof(s16));
}

static s64 get_all(const struct sem_set *s, u16 *uvalues)
{
	for (u32 i = 0; i < s->n; i++) {
		u16 v = (u16)s->sem[i].value;

		if (put_user(v, &uvalues[i]))
			return -EFAULT;
	}
	return 0;
}

static s64 set_all(struct sem_set *s, const u16 *uvalues)
{
	u16 *v = kmalloc(s->n * sizeof(*v));
	s64 r = v ? copy_in(v, uvalues, s->n * sizeof(*v)) : -ENOMEM;

	for (u32 i = 0; !r && i < s->n; i++)
		r = v[i] > SEMVMX ? -ERANGE : 0;
	for (u32 i = 0; !r && i < s->n; i++) {
		s->sem[i].value = v[i];
		s->sem[i].pid = current->proc->pid;
	}
	kfree(v);
	if (r)
		return r;
	forget_undo(s, 0, s->n);
	s->ctime = ipc_now();
	serve(s);
	return 0;
}

static s64 set_value(struct sem_set *s, u32 num, s32 v)
{
	if (v < 0 || v > SEMVMX)
		return -ERANGE;
	s->sem[num].value = v;
	s->sem[num].pid = current->proc->pid;
	forget_undo(s, num, 1);
	s->ctime = ipc_now();
	serve(s);
	return 0;
}

static void remove_set(struct sem_set *s)
{
	list_for_each_safe (it, &s->waiting)
		finish(list_entry(it, struct pending, node), -EIDRM);
	total_sems -= s->n;
	ipc_remove(&kind, &s->o);
}

static s64 manage(struct sem_set *s, int cmd, u64 arg)
{
	struct semid64_ds ds;

	if (cmd == IPC_SET && get_user(ds, (struct semid64_ds *)arg))
		return -EFAULT;
	if (ipc_owner(&s->o))
		return -EPERM;
	if (cmd == IPC_RMID) {
		remove_set(s);
	} else {
		ipc_set_perm(&s->o, &ds.sem_perm);
		s->ctime = ipc_now();
	}
	return 0;
}

static s64 control_one(struct sem_set *s, u32 num, int cmd, u64 arg)
{
	switch (cmd) {
	case GETVAL:
		return s->sem[num].value;
	case GETPID:
		return s->sem[num].pid;
	case GETNCNT:
		return count_waiting(s, num, false);
	case GETZCNT:
		return count_waiting(s, num, true);
	default:
		return set_value(s, num, (s32)arg);
	}
}

s64 sem_control(s32 id, int num, int cmd, u64 arg)
{
	bool set = cmd == SETVAL || cmd == SETALL, all = cmd == GETALL || cmd == SETALL;
	struct sem_set *s;

	if (id < 0)
		return -EINVAL;
	if (cmd == IPC_INFO || cmd == SEM_INFO)
		return info(cmd, (void *)arg);
	if (cmd == IPC_STAT || cmd == SEM_STAT || cmd == SEM_STAT_ANY)
		return stat_set(id, cmd, (void *)arg);
	s = of_object(ipc_by_id(&kind, id));
	if (cmd == IPC_SET || cmd == IPC_RMID)
		return s ? manage(s, cmd, arg) : -EINVAL;
	if (cmd < GETPID || cmd > SETALL || !s)
		return -EINVAL;
	if (cmd == SETVAL && ((s32)arg < 0 || (s32)arg > SEMVMX))
		return -ERANGE;
	if (!all && (num < 0 || (u32)num >= s->n))
		return -EINVAL;
	if (ipc_permission(&s->o, set ? 0222 : 0444))
		return -EACCES;
	if (cmd == GETALL)
		return get_all(s, (u16 *)arg);
	if (cmd == SETALL)
		return set_all(s, (const u16 *)arg);
	return control_one(s, (u32)num, cmd, arg);
}

void ipc_show_sem(struct text *t, const struct pid_of *of)
{
	struct ipc_object *o;

	(void)of;
	text_add(t, "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
	for (u32 i = 0; (o = ipc_next(&kind, &i));) {
		const struct sem_set *s = of_object(o);

		text_add(t, "%10d %10d  %4o %10u %5u %5u %5u %5u %10lu %10lu\n", o->perm.key, o->id,
			 o->perm.mode, s->n, o->perm.uid, o->perm.gid, o->perm.cuid, o->perm.cgid,
			 (unsigned long)s->otime, (unsigned long)s->ctime);
	}
}
