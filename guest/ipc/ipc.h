/* SPDX-License-Identifier: ISC */
/*
 * Communication between processes by keys and names: System V shared memory,
 * semaphores and message queues, POSIX message queues. Results as the system
 * calls return them; buffers are the app's. linux/sys_ipc.c decodes and calls.
 */
#ifndef COWBELL_GUEST_IPC_H
#define COWBELL_GUEST_IPC_H

#include "guest/base.h"

struct process;
struct text;
struct pid_of;

s64 shm_get(s32 key, u64 size, u32 flags);
s64 shm_attach(s32 id, u64 addr, u32 flags); /* the address */
s64 shm_detach(u64 addr);
s64 shm_control(s32 id, int cmd, u64 ubuf);

struct sembuf;
s64 sem_get(s32 key, int n, u32 flags);
/* Deadline on the monotonic clock, or NO_DEADLINE. */
s64 sem_operate(s32 id, const struct sembuf *uops, u32 n, u64 deadline);
s64 sem_control(s32 id, int num, int cmd, u64 arg);
/* SEM_UNDO: what the process did is taken back. It ends now. Never sleeps. */
void sem_process_gone(struct process *p);

s64 msg_get(s32 key, u32 flags);
s64 msg_send(s32 id, const void *ubuf, u64 size, u32 flags);
s64 msg_receive(s32 id, void *ubuf, u64 size, s64 type, u32 flags);
s64 msg_control(s32 id, int cmd, u64 ubuf);

struct mq_attr;
s64 mqueue_open(const char *name, u32 flags, u32 mode, const struct mq_attr *attr); /* a descriptor */
s64 mqueue_unlink(const char *name);
s64 mqueue_send(int fd, const void *ubuf, u64 size, u32 prio, u64 deadline);
s64 mqueue_receive(int fd, void *ubuf, u64 size, u32 *prio, u64 deadline);
s64 mqueue_notify(int fd, const void *uevent);
s64 mqueue_attr(int fd, const struct mq_attr *set, struct mq_attr *old);

struct superblock;
struct inode;
struct superblock *mqueue_fs_new(struct inode **root); /* /dev/mqueue */

/* /proc/sysvipc */
void ipc_show_shm(struct text *t, const struct pid_of *o);
void ipc_show_sem(struct text *t, const struct pid_of *o);
void ipc_show_msg(struct text *t, const struct pid_of *o);

#endif
