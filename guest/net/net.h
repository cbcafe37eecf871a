/* SPDX-License-Identifier: ISC */
/* Sockets, AF_UNIX, in-guest loopback, epoll. */
#ifndef COWBELL_GUEST_NET_H
#define COWBELL_GUEST_NET_H

#include "guest/base.h"

struct file;

void net_init(void);
/* A file's last reference is going: take it out of every epoll set it is in. */
void epoll_forget(struct file *f);

#endif
