/* SPDX-License-Identifier: ISC */
/* What the files of the ring server's network part share; the rest of it knows ring_internal.h only. */
#ifndef COWBELL_MONITOR_NET_H
#define COWBELL_MONITOR_NET_H

#include <sys/socket.h>

#include "monitor/ring_internal.h"

/* --- net_addr.c --- */
socklen_t net_addr_len(const union rs_addr *a); /* 0: a family that we do not know */
/* Copy a socket address of the guest. 0 or -errno. */
int net_addr_read(struct ring_server *rs, const struct ring_sqe *sqe, union rs_addr *a);
/* As the guest's family has it. */
void net_addr_to_guest(const struct handle *h, const union rs_addr *from, union rs_addr *to);
/* Write an address to the guest; its length, or 0 when the guest's memory is not there. */
uint32_t net_addr_write(struct ring_server *rs, const struct ring_sqe *sqe, const struct handle *h,
			const union rs_addr *a);
/* val2 of a multi-shot accept. */
uint64_t net_addr_pack(const union rs_addr *a);
/* The address as 128 bits with IPv4 mapped, and its port. */
uint16_t net_addr_normal(const union rs_addr *a, uint8_t out[16]);

/* --- net_policy.c: 0 or -errno --- */
/* Is a connect to `a` wanted and allowed? It is changed to the socket's family. */
int net_dial_check(struct ring_server *rs, const struct handle *h, union rs_addr *a);
/* Where a datagram goes: `a` as the descriptor's family has it. */
int net_answer_check(struct ring_server *rs, const struct handle *h, union rs_addr *a);
/* A datagram came in on a forwarded port: its sender may be answered. */
void net_peer_seen(struct rs_port *p, const union rs_addr *from);

/* --- net_option.c --- */
void net_setsockopt(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe);
void net_getsockopt(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe);
/* What the guest set before bind, on to the forwarded port's socket. */
void net_carry_options(int from, int to);

/* --- net_port.c --- */
void net_bind(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe);
void net_listen(struct ring_server *rs, struct handle *h, const struct ring_sqe *sqe);

/* --- net_unix.c: ports that are AF_UNIX sockets of the host --- */
/* Bound, not listening. A descriptor, or -errno after one line. */
int net_unix_open(struct ring_server *rs, const struct sockaddr_storage *ss);
/* The socket of port i listens from now on, for the guest; 0 or -errno. */
int net_unix_listen(struct ring_server *rs, struct rs_port *p, int backlog);
/* The guest does not listen any more. */
void net_unix_refuse(struct ring_server *rs, struct rs_port *p);
/* Somebody came although nobody listens. */
void net_unix_turn_away(struct rs_port *p);
/* What the guest is told of whom it accepted, and of its own side. */
void net_unix_peer(struct ring_server *rs, const struct handle *h, union rs_addr *a);
void net_unix_name(const struct handle *h, union rs_addr *a);
/* Options that AF_UNIX lacks are taken, and told, as TCP would. 1: not one of those; 0 or -errno. */
int net_unix_setsockopt(const struct handle *h, uint32_t level, uint32_t len);
int net_unix_getsockopt(const struct handle *h, uint32_t level, uint32_t name, void *val, uint32_t *len);

#endif
