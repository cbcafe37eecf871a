/* SPDX-License-Identifier: ISC */
/*
 * The platform's own common ground: one event loop, one configuration, and the order in which parts begin and end.
 *
 * Everything runs in one thread, on one libuv loop, so no part locks anything. What would hold the loop up (reading
 * tars, waiting for a disk) goes to libuv's pool of threads or to a child process. Parts talk by the functions
 * of their headers only:
 *
 *   http.h     clients' requests, HTTP/1.1 and HTTP/2, TLS           router.h  from a request to an instance and back
 *   api.h      Heroku's Platform API v3 and our own                   sched.h   which instances live; waking, scaling, sleeping
 *   model.h    apps, releases, users: what lasts, in memory            store.h   the same in SQLite
 *   build.h    from a tar or a git push to an image                    logs.h    lines of apps, sessions, drains
 *   metrics.h  what is counted                                         instance.h  one `cowbell run` child process
 */
#ifndef COWBELL_PLATFORM_PLATFORM_H
#define COWBELL_PLATFORM_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

struct strings;

/* --serve's configuration, from defaults, then the file, then options. Strings live as long as the process. */
struct config {
	const char *data_dir; /* everything that lasts is below it */
	const char *self; /* path of the `cowbell` command, for children */
	const char *listen; /* [ADDR:]PORT of HTTP: apps, API, git and dashboard; "127.0.0.1:5080" */
	const char *listen_tls; /* the same with TLS, or NULL */
	const char *domain; /* an app is at NAME.domain; "localhost" */
	const char *tls_cert,
		*tls_key; /* PEM files of the default certificate; NULL: self-signed, made at first start */
	bool proxy_protocol; /* clients come through a balancer that speaks PROXY v1/v2 */
	const char *monitor; /* auto|kvm|process for apps */
	uint64_t idle_ns; /* an app that nobody asks for sleeps after it; 60 s; 0: never */
	uint64_t
		memory_budget; /* bytes that all running instances may use together; 0: half of the machine's memory */
	unsigned max_instances; /* running at one time; 0: as many as the budget allows, at most 2000 */
	unsigned max_builds; /* at one time; 0: number of CPUs */
	uint64_t build_timeout_ns; /* 15 min */
	uint64_t max_source; /* of a source tar: 1 GiB unpacked */
	unsigned max_entries; /* 10,000 */
	unsigned standby; /* prepared instances kept ready for each of the most used runtimes; 2 */
	unsigned api_per_hour; /* calls of the API that a user may make in an hour; 0: no limit */
	bool sync; /* wait for the disk before a change is acknowledged (default) */
	bool drain_private; /* log drains may go to loopback, private and link-local addresses */
	const char *log_format; /* text|json: of our own log, on standard error */
	bool verbose;
	/* defaults for each app, which its limits may change (PATCH /apps/X/limits) */
	struct limits {
		uint64_t memory; /* -m; 512 MiB */
		unsigned cpus; /* --cpus; 1 */
		unsigned cpu_percent; /* of one CPU; 0: no limit */
		unsigned in_flight; /* requests at one time in an instance; 50 */
		unsigned backlog; /* waiting for one, each instance; 50 */
		unsigned max_processes; /* dynos of all types together; 10 */
		uint64_t disk; /* bytes that a release's layers may take; 500 MB */
		char egress
			[512]; /* rules as for `cowbell run --egress`; default: all but loopback, private and link-local ones */
		uint64_t connect_ns, first_byte_ns, idle_ns; /* 5 s, 30 s, 55 s */
		uint64_t boot_ns; /* must listen within; 60 s (R10) */
		unsigned requests_per_s; /* 0: no limit; 429 above */
		unsigned
			scale_at; /* scale out when so many are in flight in each instance; 0: only by ps:scale */
		unsigned max_web; /* scaling out stops there */
	} limits;
};

extern struct config config;
extern uv_loop_t *loop;

/* Monotonic, from the loop's cache where `now` is enough. */
uint64_t now_ns(void); /* CLOCK_MONOTONIC, exact */
int64_t real_us(void); /* CLOCK_REALTIME, microseconds since 1970 */

/* One line of our own log (stderr; text or JSON): for operators. `app` may be NULL. */
void plog(const char *level, const char *app, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Malloc that never fails: out of memory ends the process with one line. */
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
void random_bytes(void *p, size_t n);
/* A version 4 UUID as text; a random token of n hexadecimal digits. */
void make_uuid(char out[37]);
void make_token(char *out, size_t digits);
/* "2026-11-22T21:47:00Z" of microseconds since 1970. */
void format_time(int64_t us, char out[32]);

/* Begin to end gracefully (SIGTERM, SIGINT): stop accepting, drain, end instances, close the store; then the loop ends. */
void platform_stop(void);
bool platform_stopping(void);

#endif
