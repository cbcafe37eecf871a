/* SPDX-License-Identifier: ISC */
/* What mqueue.c and mqueue_fs.c share. */
#ifndef COWBELL_GUEST_IPC_MQUEUE_H
#define COWBELL_GUEST_IPC_MQUEUE_H

#include <linux/mqueue.h>

#include "guest/ipc/internal.h"
#include "guest/proc/waitq.h"

struct user_sigevent {
	u64 value;
	s32 signo, notify;
	s32 pad[12];
};
_Static_assert(sizeof(struct user_sigevent) == 64, "abi");

struct mqueue {
	struct list node; /* in `names`, while it has one */
	u32 refs; /* the name, each file, each inode of it */
	u64 num; /* its inode's */
	s64 born_ns;
	char *name;
	u32 mode, uid, gid;
	s64 max_msgs, max_size, n;
	u64 bytes, cost;
	struct list messages; /* the next to be received first */
	struct waitq readers, writers;
	u32 n_readers; /* who wait for a message */
	s32 notify; /* the process that wants to be told; 0: none */
	struct user_sigevent event;
	struct file *notify_sock;
	u8 cookie[NOTIFY_COOKIE_LEN];
};

extern struct list mqueue_names; /* struct mqueue: all that have a name, the oldest first */

/* A queue with a name that is not in use. attr may be NULL. */
struct mqueue *mqueue_new(const char *name, u32 mode, const struct mq_attr *attr, int *err);
void mqueue_put(struct mqueue *q);
void mqueue_forget_name(struct mqueue *q); /* it lives on while somebody has it open */
struct file;
void mqueue_open_file(struct mqueue *q, struct file *f);

#endif
