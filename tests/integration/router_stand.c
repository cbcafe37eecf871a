/* SPDX-License-Identifier: ISC */
/*
 * The front and the router of the platform alone, before one fixed AF_UNIX socket: so that a test plays the instance itself, byte for byte,
 * and can make the scheduler say anything. Compiled by Router.pm with the objects of the build.
 *
 *   router_stand SOCKET      ports are chosen by the kernel and printed: "port HTTP TLS"; lines of logs go to standard error
 *
 * Hosts: demo.localhost is the app; hNN.localhost an app of which the scheduler says HNN; late.localhost one that is there after 300 ms;
 * never.localhost one that never comes (a line tells when the wait was cancelled); limited.localhost has requests_per_s=5.
 * Own hosts (localhost) answer "own PATH BYTES-OF-BODY".
 * Environment: DATA (directory), PROXY=1 (PROXY protocol), FIRST_BYTE, IDLE, CONNECT (ms).
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/api.h"
#include "platform/build.h"
#include "platform/logs.h"
#include "platform/metrics.h"
#include "platform/metrics_data.h"
#include "platform/router.h"
#include "platform/store.h"

struct config config;
uv_loop_t *loop;
static struct app apps[100], limited = {.name = "limited"};
static struct limits limits_limited;
static struct instance inst = {.dyno = "web.1", .state = DYNO_UP};

struct sched_wait {
	uv_timer_t timer;
	sched_cb *cb;
	void *arg;
	struct app *app;
};

struct app *model_app_by_host(const char *h, size_t n)
{
	if (n < 11 || memcmp(h + n - 10, ".localhost", 10))
		return n == 11 && !memcmp(h, "own.example", 11) ? &apps[0] : NULL;
	if (n == 14 && !memcmp(h, "demo", 4))
		return &apps[0];
	if (n == 14 && !memcmp(h, "late", 4))
		return &apps[1];
	if (n == 15 && !memcmp(h, "never", 5))
		return &apps[2];
	if (n == 17 && !memcmp(h, "limited", 7))
		return &limited;
	if (n == 13 && h[0] == 'h')
		return &apps[strtol(h + 1, NULL, 10) % 100];
	return NULL;
}

const struct limits *app_limits(const struct app *a)
{
	return a == &limited ? &limits_limited : &config.limits;
}

static void give(struct app *a, sched_cb *cb, void *arg, bool cold)
{
	struct sched_result r = {&inst, H_OK, cold};
	inst.in_flight++;
	inst.app = a;
	cb(arg, &r);
}

static void late(uv_timer_t *t)
{
	struct sched_wait *w = t->data;
	sched_cb *cb = w->cb;
	void *arg = w->arg;
	struct app *a = w->app;
	uv_close((uv_handle_t *)t, (uv_close_cb)free);
	give(a, cb, arg, true);
}

struct sched_wait *sched_acquire(struct app *a, sched_cb *cb, void *arg)
{
	if (a > &apps[2] && a < &apps[100]) {
		struct sched_result r = {NULL, (enum hcode)(a - apps), false};
		cb(arg, &r);
		return NULL;
	}
	if (a == &apps[0] || a == &limited) {
		give(a, cb, arg, false);
		return NULL;
	}
	struct sched_wait *w = calloc(1, sizeof(*w));
	*w = (struct sched_wait){.cb = cb, .arg = arg, .app = a};
	uv_timer_init(loop, &w->timer);
	w->timer.data = w;
	if (a == &apps[1])
		uv_timer_start(&w->timer, late, 300, 0);
	return w;
}

void sched_cancel(struct sched_wait *w)
{
	fprintf(stderr, "cancelled\n");
	uv_close((uv_handle_t *)&w->timer, (uv_close_cb)free);
}

void sched_release(struct instance *i, bool bad)
{
	i->in_flight--;
	fprintf(stderr, "in flight %u%s\n", i->in_flight, bad ? " bad" : "");
}

void log_line(struct app *a, const char *source, const char *dyno, const char *text, size_t n)
{
	fprintf(stderr, "%s[%s]: %.*s\n", source, dyno, (int)n, text);
}

void log_linef(struct app *a, const char *source, const char *dyno, const char *fmt, ...)
{
	char text[4096];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_line(a, source, dyno, text, strlen(text));
}

void metrics_request(struct app *a, int status, enum hcode code, uint64_t bytes,
		     const struct request_times *t)
{
}

/* What spans.c asks for when an app has counters; here none has. */
uint32_t series_now(void)
{
	return 1;
}

int store_exec(const char *sql, store_row *row, void *arg, const char *types, ...)
{
	return 0;
}

/* Our own pages: what came, counted. */
static void own_body(struct exchange *x, const char *data, size_t n)
{
	x->user = (void *)((size_t)x->user + n);
}

static void own_end(struct exchange *x)
{
	char text[9000];
	int n = snprintf(text, sizeof(text), "own %.*s %zu\n", (int)x->target.n, x->target.p,
			 (size_t)x->user);
	exchange_reply(x, 200, "text/plain", text, (size_t)n);
}

static const struct exchange_handler own = {.body = own_body, .body_end = own_end};

void api_serve(struct exchange *x)
{
	x->handler = &own;
	x->user = NULL;
	exchange_continue(x);
}

#define AS_API(name)                                                                                         \
	void name(struct exchange *x)                                                                        \
	{                                                                                                    \
		api_serve(x);                                                                                \
	}
AS_API(git_serve)
AS_API(dashboard_serve)
AS_API(metrics_serve)
AS_API(logs_session)
AS_API(source_serve)
AS_API(build_output_serve)

static void stopped(void)
{
	fprintf(stderr, "stopped\n");
	uv_stop(loop);
}

static void on_term(uv_signal_t *s, int number)
{
	front_stop(stopped);
}

static uint64_t ms_of(const char *name, uint64_t otherwise)
{
	const char *v = getenv(name);
	return (v ? strtoull(v, NULL, 10) : otherwise) * 1000000;
}

/* A certificate of a name given at run time, as the API would. */
static void set_cert(const char *dir)
{
	char path[512], pem[2][16384] = {{0}};
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, i ? "sni.key" : "sni.crt");
		FILE *f = fopen(path, "r");
		if (!f)
			return;
		size_t n = fread(pem[i], 1, sizeof(pem[i]) - 1, f);
		pem[i][n] = 0;
		fclose(f);
	}
	const char *names[] = {"own.example", "*.wild.example"};
	const char *why = tls_cert_set("cert-1", pem[0], pem[1], names, 2);
	if (why)
		fprintf(stderr, "certificate: %s\n", why);
	why = tls_cert_set("cert-2", pem[1], pem[0], names, 2);
	fprintf(stderr, "bad certificate: %s\n", why ? why : "taken");
}

int main(int argc, char **argv)
{
	loop = uv_default_loop();
	signal(SIGPIPE, SIG_IGN);
	config.listen = "127.0.0.1:0";
	config.listen_tls = "127.0.0.1:0";
	config.domain = "localhost";
	config.data_dir = getenv("DATA");
	config.proxy_protocol = getenv("PROXY") != NULL;
	config.log_format = "text";
	config.verbose = true;
	config.limits = (struct limits){.connect_ns = ms_of("CONNECT", 5000),
					.first_byte_ns = ms_of("FIRST_BYTE", 30000),
					.idle_ns = ms_of("IDLE", 55000)};
	limits_limited = config.limits;
	limits_limited.requests_per_s = 5;
	for (int i = 0; i < 100; i++)
		snprintf(apps[i].id, sizeof(apps[i].id), "%d", i);
	snprintf(inst.socket_path, sizeof(inst.socket_path), "%s", argv[1]);
	set_cert(config.data_dir);
	if (front_open())
		return 1;
	printf("port %u %u\n", front_port(false), front_port(true));
	fflush(stdout);
	static uv_signal_t term;
	uv_signal_init(loop, &term);
	uv_signal_start(&term, on_term, SIGTERM);
	uv_run(loop, UV_RUN_DEFAULT);
	return 0;
}
