/* SPDX-License-Identifier: ISC */
/* The platform's own certificate. See tls_self.c. */
#ifndef COWBELL_PLATFORM_TLS_SELF_H
#define COWBELL_PLATFORM_TLS_SELF_H

#include <openssl/types.h>

/* A server's context with it: config.tls_cert and tls_key, else the self-signed one. NULL after one line in the log. Shared, kept. */
SSL_CTX *tls_self_ctx(void);
/* Paths of the PEM files in use; made if there are none. 0 or -errno after one line. malloc'ed, kept by us. */
int tls_self_files(const char **cert, const char **key);

#endif
