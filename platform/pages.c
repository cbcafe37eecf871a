/* SPDX-License-Identifier: ISC */
/* What a client gets when there is no answer of the app: a page for browsers, a line for all others; and Heroku's codes with their texts. */
#include "platform/router_inside.h"

#include <stdio.h>

static const struct hcode_text texts[] = {
	{H10, 503, false, "App crashed", "Application error",
	 "The app has crashed. It is started again in a while."},
	{H11, 503, false, "Backlog too deep", "Too busy",
	 "More requests wait for this app than it can serve."},
	{H12, 503, false, "Request timeout", "Request timeout", "The app took too long to answer."},
	{H13, 503, false, "Connection closed without response", "Application error",
	 "The app closed the connection without an answer."},
	{H14, 503, false, "No web processes running", "No web process",
	 "The app has no web process: its owner can start one with ps:scale web=1."},
	{H15, 503, false, "Idle connection", "Idle connection", "The app sent nothing for too long."},
	{H17, 503, false, "Poorly formatted HTTP response", "Application error",
	 "The app's answer is not valid HTTP."},
	{H18, 503, false, "Server Request Interrupted", "Application error",
	 "The app broke the connection off."},
	{H19, 503, false, "Backend connection timeout", "Application error",
	 "The app does not take connections in time."},
	{H20, 503, false, "App boot timeout", "Application error", "The app did not start in time."},
	{H21, 503, false, "Backend connection refused", "Application error", "The app refuses connections."},
	{H22, 503, false, "Connection limit reached", "Too busy", "The app has too many connections."},
	{H23, 503, false, "Endpoint misconfigured", "Application error",
	 "The app switched protocols without being asked to."},
	{H24, 503, false, "Forced close", "Interrupted", "The platform is restarting."},
	{H25, 502, false, "HTTP restriction", "Application error",
	 "A part of the app's answer is longer than the platform takes."},
	{H26, 400, false, "Request Error", "Bad request", "The request is not valid."},
	{H27, 499, true, "Client Request Interrupted", "Interrupted", "The client has gone."},
	{H28, 499, true, "Client Connection Idle", "Interrupted",
	 "The client sent or took nothing for too long."},
	{H80, 503, true, "Maintenance mode", "Down for maintenance",
	 "This app is being worked on. It will be back soon."},
	{H81, 503, true, "Blank app", "Nothing here yet",
	 "The app exists, but nothing was deployed to it so far."},
	{H82, 503, true, "Dyno hours exhausted", "Stopped", "The app has used up its hours."},
	{H83, 503, false, "Planned service degradation", "Down for maintenance",
	 "The platform is being worked on."},
	{H99, 503, false, "Platform error", "Platform error", "Something is wrong with the platform itself."},
};

const struct hcode_text *hcode_text(enum hcode code)
{
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (texts[i].code == code)
			return &texts[i];
	return &texts[sizeof(texts) / sizeof(texts[0]) - 1];
}

bool page_wanted(const struct exchange *x)
{
	struct str a = exchange_header(x, "accept");
	return a.p && memmem(a.p, a.n, "text/html", 9);
}

void page_send(struct exchange *x, int status, const char *title, const char *text)
{
	char page[2048];
	int n;
	bool html = page_wanted(x);
	if (html)
		n = snprintf(
			page, sizeof(page),
			"<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
			"content=\"width=device-width\"><title>%s</title>\n<style>:root{color-scheme:light "
			"dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:36em;margin:15vh "
			"auto;padding:0 1em}small{opacity:.6}</style>\n<h1>%s</h1>\n<p>%s</p>\n<p><small>%d "
			"&middot; request %s</small></p>\n</html>\n",
			title, title, text, status, x->request_id);
	else
		n = snprintf(page, sizeof(page), "%s: %s\n", title, text);
	struct header h[] = {
		{STR("Content-Type"), html ? (struct str)STR("text/html; charset=utf-8")
					   : (struct str)STR("text/plain; charset=utf-8")},
		{STR("Cache-Control"), STR("no-cache, no-store")},
		{STR("X-Request-Id"), {x->request_id, strlen(x->request_id)}},
		{STR("Retry-After"), STR("1")},
	};
	exchange_respond(x, status, h, status == 429 ? 4 : 3, n);
	exchange_write(x, page, (size_t)n);
	exchange_end(x);
}
