/* SPDX-License-Identifier: ISC */
/* A connection to somebody outside whom a tenant named: see outconn.c. */
#ifndef COWBELL_PLATFORM_OUTCONN_H
#define COWBELL_PLATFORM_OUTCONN_H

#include <netinet/in.h>

#include "platform/platform.h"

struct outconn;
struct outconn_events {
	void (*up)(void *arg); /* connected, and its certificate is good */
	void (*data)(void *arg, const char *data, size_t n);
	void (*writable)(void *arg); /* after outconn_write() said false */
	void (*down)(void *arg, const char *why,
		     bool certificate); /* the last event; the connection is closed already */
};

/* Always gives one; what fails is told by down(), never from inside. */
struct outconn *outconn_open(const char *host, uint16_t port, bool tls, const struct outconn_events *ev,
			     void *arg);
/* Copied. False: enough is waiting, stop until writable(). Only after up(). */
bool outconn_write(struct outconn *c, const char *data, size_t n);
/* No event comes any more. */
void outconn_close(struct outconn *c);

/* Loopback, private, link-local, multicast and what maps to them. */
bool address_is_private(const struct sockaddr *a);

#endif
