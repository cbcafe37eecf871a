/* SPDX-License-Identifier: ISC */
/* Sockets, AF_UNIX, in-guest loopback, epoll. */
#ifndef COWBELL_GUEST_NET_H
#define COWBELL_GUEST_NET_H

#include "guest/base.h"

struct file;

void net_init(void);
/* Before RING_OP_EXIT, all descriptors closed: sleep until closed sockets have sent what the app
 * wrote to them, or `timeout_ns` passed. */
void net_drain(u64 timeout_ns);
/* A file's last reference is going: take it out of every epoll set it is in. */
void epoll_forget(struct file *f);

/* A message from the library OS to a netlink socket, such as that of a message queue. Dropped if it does not read. */
bool netlink_is_socket(struct file *f);
void netlink_deliver(struct file *f, const void *p, u32 n);

#endif
