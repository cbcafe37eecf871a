/* SPDX-License-Identifier: ISC */
#ifndef COWBELL_PLATFORM_METRICS_AUTH_H
#define COWBELL_PLATFORM_METRICS_AUTH_H

#include "platform/http.h"
#include "platform/model.h"

/* Whose token is in the Authorization header (Bearer, or the password of Basic); NULL: nobody's. */
struct user *metrics_user(const struct exchange *x);

#endif
