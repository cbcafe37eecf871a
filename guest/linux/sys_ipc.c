/* SPDX-License-Identifier: ISC */
/*
 * System calls of System V shared memory, semaphores and message queues and of
 * POSIX message queues. Thin: guest/ipc/ has the semantics.
 */
#include <linux/mqueue.h>
#include <linux/time.h>

#include "guest/ipc/ipc.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

/* --- System V -------------------------------------------------------------------------- */

SYSCALL3(shmget, s32, key, u64, size, u32, flags)
{
	return shm_get(key, size, flags);
}

SYSCALL3(shmat, s32, id, u64, addr, u32, flags)
{
	return shm_attach(id, addr, flags);
}

SYSCALL1(shmdt, u64, addr)
{
	return shm_detach(addr);
}

SYSCALL3(shmctl, s32, id, int, cmd, u64, ubuf)
{
	return shm_control(id, cmd, ubuf);
}

SYSCALL3(semget, s32, key, int, n, u32, flags)
{
	return sem_get(key, n, flags);
}

SYSCALL3(semop, s32, id, const struct sembuf *, uops, u32, n)
{
	return sem_operate(id, uops, n, NO_DEADLINE);
}

SYSCALL4(semtimedop, s32, id, const struct sembuf *, uops, u32, n, const void *, utime)
{
	u64 ns, deadline = NO_DEADLINE;
	int err = utime ? timespec_in(utime, &ns) : 0;

	if (!err && utime)
		err = clock_deadline(CLOCK_MONOTONIC, false, ns, &deadline);
	return err ? err : sem_operate(id, uops, n, deadline);
}

SYSCALL4(semctl, s32, id, int, num, int, cmd, u64, arg)
{
	return sem_control(id, num, cmd, arg);
}

SYSCALL2(msgget, s32, key, u32, flags)
{
	return msg_get(key, flags);
}

SYSCALL4(msgsnd, s32, id, const void *, ubuf, u64, size, u32, flags)
{
	return msg_send(id, ubuf, size, flags);
}

SYSCALL5(msgrcv, s32, id, void *, ubuf, u64, size, s64, type, u32, flags)
{
	return msg_receive(id, ubuf, size, type, flags);
}

SYSCALL3(msgctl, s32, id, int, cmd, u64, ubuf)
{
	return msg_control(id, cmd, ubuf);
}

/* --- POSIX message queues ----------------------------------------------------------------- */

#define MQ_NAME_SIZE 4096

static s64 name_in(char **out, const char *uname)
{
	char *name = kmalloc(MQ_NAME_SIZE);
	s64 r = name ? strncpy_in(name, uname, MQ_NAME_SIZE) : -ENOMEM;

	if (r < 0) {
		kfree(name);
		return r;
	}
	*out = name;
	return 0;
}

SYSCALL4(mq_open, const char *, uname, u32, flags, u32, mode, const struct mq_attr *, uattr)
{
	struct mq_attr attr;
	char *name;
	s64 r;

	if (uattr && get_user(attr, uattr))
		return -EFAULT;
	r = name_in(&name, uname);
	if (r)
		return r;
	r = mqueue_open(name, flags, mode, uattr ? &attr : NULL);
	kfree(name);
	return r;
}

SYSCALL1(mq_unlink, const char *, uname)
{
	char *name;
	s64 r = name_in(&name, uname);

	if (r)
		return r;
	r = mqueue_unlink(name);
	kfree(name);
	return r;
}

/* Absolute, on the wall clock. */
static int mq_deadline(const void *utime, u64 *deadline)
{
	u64 ns;
	int err = utime ? timespec_in(utime, &ns) : 0;

	*deadline = NO_DEADLINE;
	return err || !utime ? err : clock_deadline(CLOCK_REALTIME, true, ns, deadline);
}

SYSCALL5(mq_timedsend, int, fd, const void *, ubuf, u64, size, u32, prio, const void *, utime)
{
	u64 deadline;
	int err = mq_deadline(utime, &deadline);

	return err ? err : mqueue_send(fd, ubuf, size, prio, deadline);
}

SYSCALL5(mq_timedreceive, int, fd, void *, ubuf, u64, size, u32 *, uprio, const void *, utime)
{
	u64 deadline;
	int err = mq_deadline(utime, &deadline);

	return err ? err : mqueue_receive(fd, ubuf, size, uprio, deadline);
}

SYSCALL2(mq_notify, int, fd, const void *, uevent)
{
	return mqueue_notify(fd, uevent);
}

SYSCALL3(mq_getsetattr, int, fd, const struct mq_attr *, unew, struct mq_attr *, uold)
{
	struct mq_attr set, old;
	s64 r;

	if (unew && get_user(set, unew))
		return -EFAULT;
	r = mqueue_attr(fd, unew ? &set : NULL, &old);
	if (!r && uold && put_user(old, uold))
		r = -EFAULT;
	return r;
}
