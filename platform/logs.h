/* SPDX-License-Identifier: ISC */
/*
 * Lines of apps: the last ones of each (1,500, and a bound over all apps), sessions that follow them (text/event-stream), and drains
 * (syslog RFC 5424 over TCP and TLS, octet counted; HTTPS POST, application/logplex-1).
 */
#ifndef COWBELL_PLATFORM_LOGS_H
#define COWBELL_PLATFORM_LOGS_H

#include "platform/http.h"
#include "platform/model.h"

void logs_open(void);
/* One line without newline; control characters are made harmless where they are shown. source "app" or "heroku"; dyno "web.1", "router", "api". */
void log_line(struct app *a, const char *source, const char *dyno, const char *text, size_t n);
void log_linef(struct app *a, const char *source, const char *dyno, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Follow an app from inside (build output, dashboard): cb for each line until logs_unfollow(). */
struct log_follower;
typedef void log_cb(void *arg, int64_t us, const char *source, const char *dyno, const char *text, size_t n);
struct log_follower *logs_follow(struct app *a, log_cb *cb, void *arg);
void logs_unfollow(struct log_follower *f);
void logs_app_gone(struct app *a);
void logs_drains_changed(struct app *a); /* the API wrote the table of drains */
/* POST /apps/X/log-sessions: makes a session for a user, *url is malloc'ed; GET of that path is logs_session(). */
struct fault logs_session_create(struct app *a, const struct user *u, json_t *params, const char *base_url,
				 char id[37], char **url);
/* Our own end: streams end, so that their connections can. */
void logs_stop(void);
void logs_session(struct exchange *x); /* takes the exchange: path /log-sessions/TOKEN */

#endif
