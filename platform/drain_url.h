/* SPDX-License-Identifier: ISC */
#ifndef COWBELL_PLATFORM_DRAIN_URL_H
#define COWBELL_PLATFORM_DRAIN_URL_H

#include <stdbool.h>
#include <stdint.h>

#define DRAIN_URL_MAX 1000

struct drain_url {
	bool tls, http;
	uint16_t port;
	char host[256];
	char user[256]; /* "user:password", decoded; "": none */
	char path[DRAIN_URL_MAX + 2]; /* with query */
};
/* NULL, or what is wrong with it. */
const char *drain_url_parse(const char *url, struct drain_url *u);

#endif
