/* SPDX-License-Identifier: ISC */
/*
 * Standby: instances that have gone through their start up to the first look at an app, and wait for one.
 *
 *   cowbell run --prefix-key OPTIONS image:NAME          prints "KEY DIGEST SIZE\n": the start's key, and the app's layer. Nothing is started.
 *                                                        Status 1: no start of this image can be shared
 *   cowbell run --standby FD OPTIONS image:NAME          goes on from the prefix of that key as far as it can without an app (of NAME
 *                                                        it takes all but the app), then waits. Status 125 if there is no prefix yet
 *
 * Both with the same options as the start itself would have, streams of the same kinds among them: these are in the key. An app whose key
 * is the same may be given to it. Ports (-p unix:PATH:PORT), streams, --notify-fd, limits and rules are those of the command line: each
 * standby has a socket and pipes of its own, and whoever starts it knows later whose they are.
 *
 * FD is one end of a SOCK_SEQPACKET pair. The standby sends one standby_reply (error 0) when it waits. It takes one packet:
 * struct standby_app with the layer's file, open for reading (SCM_RIGHTS; CACHE or store/blobs/sha256/DIGEST), and answers with a
 * standby_reply: 0, and the program goes on; else it waits for another. If the other end closes, it ends.
 *
 * --timeout counts from the start of the standby.
 *
 * The layer is checked as the start's own would be: what is seen of it from outside must be the same, and it must fit (STANDBY_MAX).
 */
#ifndef COWBELL_ABI_STANDBY_H
#define COWBELL_ABI_STANDBY_H

#include <stdint.h>

#define STANDBY_MAGIC	0x59425453u /* "STBY" */
#define STANDBY_VERSION 1
#define STANDBY_MAX	(4u << 20) /* bytes of a layer: it is copied */

struct standby_app {
	uint32_t magic; /* 0 */
	uint32_t version; /* 4 */
	uint64_t size; /* 8: of the layer */
	char program[112]; /* 16: what lists of instances show; NUL-terminated */
};

struct standby_reply {
	uint32_t magic; /* 0 */
	int32_t error; /* 4: 0 or -errno */
};

_Static_assert(sizeof(struct standby_app) == 128, "abi");
_Static_assert(sizeof(struct standby_reply) == 8, "abi");

#endif
