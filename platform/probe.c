/* SPDX-License-Identifier: ISC */
/*
 * Does a new release answer? Asked only while an older one serves, so that a deploy changes over to something that works.
 *
 * A request for / by the instance's own socket, as the router would send it. Any bytes of an answer will do, whatever the status:
 * the app is there. If it takes the connection and is silent for SILENT_MS, it is taken for slow, not for broken. If it
 * refuses or hangs up, it is asked again every RETRY_MS until its boot time is over.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "platform/sched_inside.h"

#define RETRY_MS  100
#define SILENT_MS 5000

struct probe {
	struct sched_instance *d; /* NULL: given up */
	uv_timer_t timer;
	uv_pipe_t pipe;
	uv_connect_t connect;
	uv_write_t write;
	char request[256], answer[256];
	bool pipe_open;
	unsigned open; /* handles */
	uint64_t until_ns;
};

static void ask(struct probe *p);

static void on_closed(uv_handle_t *h)
{
	struct probe *p = h->data;

	if (h == (uv_handle_t *)&p->pipe)
		p->pipe_open = false;
	if (!--p->open)
		free(p);
}

static void on_again(uv_timer_t *t)
{
	struct probe *p = t->data;

	if (p->d && !p->pipe_open)
		ask(p);
	else if (p->d)
		uv_timer_start(&p->timer, on_again, 1, 0); /* the one before is not closed yet */
}

static void finish(struct probe *p, const char *why)
{
	struct sched_instance *d = p->d;

	probe_stop(d);
	if (why)
		dyno_probe_failed(d, why);
	else
		dyno_set_up(d);
}

static void again(struct probe *p, const char *why)
{
	if (!p->d)
		return;
	if (p->pipe_open && !uv_is_closing((uv_handle_t *)&p->pipe))
		uv_close((uv_handle_t *)&p->pipe, on_closed);
	if (now_ns() > p->until_ns)
		finish(p, why);
	else
		uv_timer_start(&p->timer, on_again, RETRY_MS, 0);
}

static void on_silence(uv_timer_t *t)
{
	struct probe *p = t->data;

	if (p->d)
		finish(p, NULL);
}

static void on_buffer(uv_handle_t *h, size_t size, uv_buf_t *b)
{
	struct probe *p = h->data;

	*b = uv_buf_init(p->answer, sizeof(p->answer));
}

static void on_answer(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct probe *p = s->data;

	if (!p->d || !n)
		return;
	if (n < 0)
		again(p, "it closed the connection without an answer");
	else
		finish(p, NULL);
}

static void on_written(uv_write_t *w, int status)
{
}

static void on_connect(uv_connect_t *c, int status)
{
	struct probe *p = c->data;

	if (!p->d || uv_is_closing((uv_handle_t *)&p->pipe))
		return;
	if (status < 0) {
		again(p, "it does not take connections");
		return;
	}
	uv_buf_t b = uv_buf_init(p->request, (unsigned)strlen(p->request));
	uv_read_start((uv_stream_t *)&p->pipe, on_buffer, on_answer);
	uv_write(&p->write, (uv_stream_t *)&p->pipe, &b, 1, on_written);
	uv_timer_start(&p->timer, on_silence, SILENT_MS, 0);
}

static void ask(struct probe *p)
{
	uv_pipe_init(loop, &p->pipe, 0);
	p->pipe.data = p->connect.data = p;
	p->pipe_open = true;
	p->open++;
	uv_pipe_connect(&p->connect, &p->pipe, p->d->i.socket_path, on_connect);
}

void probe_start(struct sched_instance *d)
{
	struct probe *p = xcalloc(1, sizeof(*p));

	d->probe = p;
	p->d = d;
	p->until_ns = d->i.started_ns + app_limits(d->i.app)->boot_ns;
	snprintf(p->request, sizeof(p->request),
		 "GET / HTTP/1.1\r\nHost: %s.%.100s\r\nUser-Agent: Cowbell-Health-Check\r\nConnection: "
		 "close\r\n\r\n",
		 d->i.app->name, config.domain);
	uv_timer_init(loop, &p->timer);
	p->timer.data = p;
	p->open = 1;
	ask(p);
}

void probe_stop(struct sched_instance *d)
{
	struct probe *p = d->probe;

	if (!p)
		return;
	d->probe = NULL;
	p->d = NULL;
	uv_close((uv_handle_t *)&p->timer, on_closed);
	if (p->pipe_open && !uv_is_closing((uv_handle_t *)&p->pipe))
		uv_close((uv_handle_t *)&p->pipe, on_closed);
}
