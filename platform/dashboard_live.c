/* SPDX-License-Identifier: ISC */
/*
 * Event streams of the dashboard: one event each second with what happened in the second before. A client that does not
 * keep up misses seconds (the script draws gaps as such); nothing is queued for it. Rights are looked at for each event, so
 * who loses an app, or his token's account, sees no more of it. One timer for all viewers, none without them.
 */
#include <stdlib.h>
#include <string.h>

#include "platform/dashboard.h"

#define VIEWERS_MAX	 500
#define VIEWERS_USER_MAX 20

struct viewer {
	struct exchange *x;
	char user_id[37], app_id[37];
	bool full;
	struct viewer *next;
};

static struct viewer *viewers;
static uv_timer_t timer;
static bool timer_made;

static void viewer_remove(struct viewer *v)
{
	struct viewer **p = &viewers;

	while (*p != v)
		p = &(*p)->next;
	*p = v->next;
	free(v);
	if (!viewers)
		uv_timer_stop(&timer);
}

static void viewer_end(struct viewer *v)
{
	struct exchange *x = v->x;

	x->user = NULL;
	viewer_remove(v);
	exchange_end(x);
}

static void send_second(struct viewer *v, uint32_t sec)
{
	struct user *u = model_user(v->user_id);
	struct app *a = v->app_id[0] ? model_app(v->app_id) : NULL;
	struct text t = {0};
	json_t *o;
	char *s;

	if (!u || (v->app_id[0] && (!a || model_role(u, a) == ROLE_NONE))) {
		viewer_end(v);
		return;
	}
	o = dashboard_second(u, a, sec);
	s = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	text_add(&t, "id: %u\ndata: %s\n\n", sec, s ? s : "{}");
	free(s);
	if (!exchange_write(v->x, t.p, t.n))
		v->full = true;
	free(t.p);
}

static void tick(uv_timer_t *t)
{
	uint32_t sec = series_now() - 1;

	for (struct viewer *v = viewers, *next; v; v = next) {
		next = v->next;
		if (!v->full)
			send_second(v, sec);
	}
}

static void body(struct exchange *x, const char *data, size_t n)
{
	(void)x, (void)data, (void)n;
}

static void body_end(struct exchange *x)
{
	(void)x;
}

static void drained(struct exchange *x)
{
	if (x->user)
		((struct viewer *)x->user)->full = false;
}

static void closed(struct exchange *x)
{
	if (x->user)
		viewer_remove(x->user);
}

static const struct exchange_handler handler = {body, body_end, drained, closed};

void dashboard_live(struct exchange *x, const struct user *u, struct app *a)
{
	static const struct header h[] = {{STR("Content-Type"), STR("text/event-stream; charset=utf-8")},
					  {STR("Cache-Control"), STR("no-store")},
					  {STR("X-Accel-Buffering"), STR("no")},
					  {STR("X-Content-Type-Options"), STR("nosniff")},
					  {STR("Connection"), STR("close")}};
	unsigned n = 0, of_user = 0;
	struct viewer *v;

	for (v = viewers; v; v = v->next, n++)
		of_user += !strcmp(v->user_id, u->id);
	if (n >= VIEWERS_MAX || of_user >= VIEWERS_USER_MAX) {
		dashboard_error(x, 429, "rate_limit", "Too many dashboards are open.");
		return;
	}
	v = xcalloc(1, sizeof(*v));
	v->x = x;
	memcpy(v->user_id, u->id, sizeof(v->user_id));
	if (a)
		memcpy(v->app_id, a->id, sizeof(v->app_id));
	v->next = viewers;
	viewers = v;
	x->user = v;
	x->handler = &handler;
	if (!timer_made) {
		uv_timer_init(loop, &timer);
		uv_unref((uv_handle_t *)&timer);
		timer_made = true;
	}
	if (!uv_is_active((uv_handle_t *)&timer))
		uv_timer_start(&timer, tick, 1000, 1000);
	/* Connection: close, since a browser that goes on to another page would hold the connection to drain it; HTTP/2 has no such header */
	exchange_respond(x, 200, h, sizeof(h) / sizeof(*h) - (x->version >= 20), -1);
	v->full = !exchange_write(x, ":\n\n", 3);
}

void dashboard_stop(void)
{
	while (viewers)
		viewer_end(viewers);
}
