/* SPDX-License-Identifier: ISC */
/* Between dashboard.c (pages, cookie, routes), dashboard_data.c (JSON) and dashboard_live.c (event streams). */
#ifndef COWBELL_PLATFORM_DASHBOARD_H
#define COWBELL_PLATFORM_DASHBOARD_H

#include "platform/metrics_data.h"

/* Each gives a new reference. `u` sees what is his only. */
json_t *dashboard_overview(struct user *u);
json_t *dashboard_apps(struct user *u, struct exchange *x);
json_t *dashboard_app(struct user *u, struct app *a);
/* One second of what a user sees, of one app or of all (NULL). */
json_t *dashboard_second(struct user *u, struct app *a, uint32_t sec);

/* Takes the exchange: an event each second, until the client goes. app "": all. */
void dashboard_live(struct exchange *x, const struct user *u, struct app *a);

void dashboard_json(struct exchange *x, int status, json_t *body); /* steals body, takes x */
void dashboard_error(struct exchange *x, int status, const char *id, const char *message);

#endif
