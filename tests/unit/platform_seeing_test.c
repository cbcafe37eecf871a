/* SPDX-License-Identifier: ISC */
/* unit-sources: platform/logs.c platform/hist.c platform/drain_url.c platform/outconn.c platform/util.c lib/host/say.c */
/* unit-libs: -luv -lssl -lcrypto -ljansson */
/* Lines of apps: order, bounds, what is lost and told; histograms against sorted values; URLs and addresses of drains. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/drain_url.h"
#include "platform/hist.h"
#include "platform/logring.h"
#include "platform/outconn.h"
#include "tests/unit/tap.h"

struct config config;
uv_loop_t *loop;

void sessions_app_gone(struct app *a)
{
}

void drains_app_gone(struct app *a)
{
}

void drains_open(void)
{
}

static void more(struct log_cursor *c)
{
}

static bool is_line(const struct log_entry *e, const char *text)
{
	return e->n == strlen(text) && !memcmp(e->text, text, e->n);
}

static void put(struct app *a, const char *text)
{
	log_line(a, "app", "web.1", text, strlen(text));
}

/* Lines of random lengths; a reader that stops and goes on gets each line once, or is told that it is lost. */
static void rings(void)
{
	struct app a = {.name = "a"};
	struct log_cursor c = {.more = more};
	struct log_entry e;
	uint64_t lost, told = 0, gone = 0, wrong = 0;
	unsigned seed = 7;
	char text[LOG_LINE_MAX];

	log_cursor_open(&c, &a, 0);
	for (unsigned i = 0; i < 20000; i++) {
		size_t n = (size_t)snprintf(text, sizeof(text), "%u ", i);
		size_t pad = (size_t)rand_r(&seed) % (i % 50 ? 300 : 9000);
		memset(text + n, 'x', pad);
		log_line(&a, "app", "web.1", text, n + pad);
		while (rand_r(&seed) % 3000 && (i / 4000) % 2 == 0 && log_cursor_next(&c, &e, &lost)) {
			gone += lost;
			wrong += strtoul(e.text, NULL, 10) != told + gone || e.seq != told + gone + 1;
			told++;
		}
	}
	while (log_cursor_next(&c, &e, &lost)) {
		gone += lost;
		wrong += strtoul(e.text, NULL, 10) != told + gone;
		told++;
	}
	ok(!wrong, "lines come in their order");
	ok(gone > 0 && told + gone == 20000, "each line was read or told as lost");
	ok(log_totals.bytes <= LOG_BYTES_MAX, "an app's bytes are bounded");
	struct log_filter all = {{0}, {0}};
	log_cursor_close(&c);
	log_cursor_open(&c, &a, log_tail(&a, &all, 5));
	unsigned n = 0;
	for (; log_cursor_next(&c, &e, &lost); n++)
		wrong += lost || strtoul(e.text, NULL, 10) != 19995 + n;
	ok(n == 5 && !wrong, "the last five");
	log_cursor_close(&c);
	log_cursor_open(&c, &a, 10);
	ok(log_cursor_next(&c, &e, &lost) && lost == e.seq - 11,
	   "who was away for long is told how many went by");
	log_cursor_close(&c);
	logs_app_gone(&a);
	ok(!log_totals.bytes && !a.logs, "nothing stays of an app that goes");
}

static void many_apps(void)
{
	static struct app apps[400];
	char text[2000];
	unsigned with = 0;

	memset(text, 'y', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	put(&apps[0], text);
	for (unsigned i = 1; i < 400; i++)
		for (unsigned k = 0; k < 200; k++)
			put(&apps[i], text);
	ok(log_totals.bytes <= LOG_TOTAL_MAX + LOG_BYTES_MAX, "all apps together are bounded");
	struct log_filter all = {{0}, {0}};
	for (unsigned i = 0; i < 400; i++)
		with += log_tail(&apps[i], &all, 1) != UINT64_MAX;
	ok(with > 100 && with < 140 && log_tail(&apps[0], &all, 1) == UINT64_MAX,
	   "those that were silent the longest have lost theirs (%u have not)", with);
	ok(log_tail(&apps[399], &all, 1) != UINT64_MAX, "the newest has not");
	for (unsigned i = 0; i < 400; i++)
		logs_app_gone(&apps[i]);
	ok(!log_totals.bytes, "and all is given back");
}

static void cleaned(void)
{
	static const struct {
		const char *in, *out;
	} t[] = {
		{"plain", "plain"},
		{"tab\there", "tab\there"},
		{"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"},
		{"\x1b[2J", "\xef\xbf\xbd[2J"},
		{"\x1b", "\xef\xbf\xbd"},
		{"a\rb", "a\xef\xbf\xbd"
			 "b"},
		{"\xe2\x82\xac", "\xe2\x82\xac"},
		{"\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xc2\x9b", "\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xf0\x9f\x94\x94", "\xf0\x9f\x94\x94"},
		{"\xf5\x80\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"\x7f", "\xef\xbf\xbd"},
		{"end\n", "end"},
	};
	struct app a = {.name = "a"};
	struct log_cursor c = {.more = more};
	struct log_entry e;
	uint64_t lost;

	log_cursor_open(&c, &a, UINT64_MAX);
	for (size_t i = 0; i < sizeof(t) / sizeof(*t); i++) {
		put(&a, t[i].in);
		ok(log_cursor_next(&c, &e, &lost) && is_line(&e, t[i].out), "made harmless");
	}
	char big[25000];
	memset(big, 1, sizeof(big)); /* each becomes three bytes */
	log_line(&a, "app", "w e]b", big, sizeof(big));
	size_t sum = 0;
	for (; log_cursor_next(&c, &e, &lost); sum += e.n)
		ok(e.n <= LOG_LINE_MAX && !strcmp(e.dyno, "w_e_b"), "a long line is cut");
	ok(sum == 3 * sizeof(big), "and whole");
	log_cursor_close(&c);
	logs_app_gone(&a);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void histograms(void)
{
	static struct hist h;
	static uint64_t v[5000];
	unsigned seed = 3;
	bool good = true;

	for (unsigned i = 0; i + 1 < HIST_BUCKETS; i++)
		good &= hist_bucket(hist_above(i)) == i + 1 && hist_bucket(hist_above(i) - 1) == i;
	ok(good, "buckets touch");
	ok(hist_bucket(UINT64_MAX) == HIST_BUCKETS - 1, "the last takes all that is longer");
	for (unsigned i = 0; i < 5000; i++) {
		v[i] = 1 + (uint64_t)rand_r(&seed) % (1u << (5 + rand_r(&seed) % 20));
		hist_add(&h, v[i]);
	}
	qsort(v, 5000, sizeof(*v), by_value);
	for (unsigned q = 1; q < 100; q++) {
		double is = hist_quantile(&h, q / 100.0), want = (double)v[q * 50 - 1];
		good &= is > want * 0.87 - 1 && is < want * 1.13 + 1;
	}
	ok(good, "quantiles are right within a bucket");
	struct hist empty = {{0}};
	ok(hist_quantile(&empty, 0.5) == 0, "of nothing: 0");
}

static void urls(void)
{
	struct drain_url u;

	ok(!drain_url_parse("syslog://logs.example.com:1234", &u) && u.port == 1234 && !u.tls && !u.http &&
		   !strcmp(u.host, "logs.example.com"),
	   "syslog");
	ok(!drain_url_parse("syslog+tls://h", &u) && u.port == 6514 && u.tls, "by TLS");
	ok(!drain_url_parse("https://u%3a:p%40@[2001:db8::1]:8443/a/b?c=d", &u) && !strcmp(u.user, "u::p@") &&
		   !strcmp(u.host, "2001:db8::1") && u.port == 8443 && !strcmp(u.path, "/a/b?c=d"),
	   "all of it");
	ok(!drain_url_parse("http://h?x", &u) && !strcmp(u.path, "/?x"), "a query without a path");
	static const char *const bad[] = {"",
					  "h",
					  "file:///etc",
					  "syslog://",
					  "syslog://:1",
					  "syslog://h:",
					  "syslog://h:1x",
					  "syslog://h:65536",
					  "https://h /",
					  "https://h/\r\n",
					  "https://[::1",
					  "https://[::1]x",
					  "https://[g]/",
					  "https://-h/",
					  "https://u%@h/",
					  "https://u%4@h/",
					  "https://u%00@h/",
					  "https://h/\xc3\xa4",
					  "https://h/#f",
					  "https://h\"/"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ok(drain_url_parse(bad[i], &u) != NULL, "no URL: %zu", i);
}

static bool private(const char *text)
{
	struct sockaddr_in a4 = {.sin_family = AF_INET};
	struct sockaddr_in6 a6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &a4.sin_addr) == 1)
		return address_is_private((struct sockaddr *)&a4);
	return inet_pton(AF_INET6, text, &a6.sin6_addr) != 1 || address_is_private((struct sockaddr *)&a6);
}

static void addresses(void)
{
	static const char *const inside[] = {"0.0.0.0",
					     "10.0.0.1",
					     "100.64.0.1",
					     "127.0.0.1",
					     "127.255.255.255",
					     "169.254.169.254",
					     "172.16.0.1",
					     "172.31.255.255",
					     "192.168.1.1",
					     "198.18.0.1",
					     "224.0.0.1",
					     "255.255.255.255",
					     "::",
					     "::1",
					     "::ffff:10.0.0.1",
					     "::127.0.0.1",
					     "fc00::1",
					     "fd12::1",
					     "fe80::1",
					     "fec0::1",
					     "ff02::1",
					     "64:ff9b::7f00:1",
					     "2002:7f00:1::"};
	static const char *const outside[] = {
		"1.1.1.1",	  "9.255.255.255",    "11.0.0.0",      "100.128.0.1",	  "172.15.0.1",
		"172.32.0.1",	  "192.169.0.1",      "198.20.0.1",    "223.255.255.255", "2606:4700::1111",
		"::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::"};

	for (size_t i = 0; i < sizeof(inside) / sizeof(*inside); i++)
		ok(private(inside[i]), "%s", inside[i]);
	for (size_t i = 0; i < sizeof(outside) / sizeof(*outside); i++)
		ok(!private(outside[i]), "%s", outside[i]);
}

int main(void)
{
	loop = uv_default_loop();
	logs_open();
	rings();
	many_apps();
	cleaned();
	histograms();
	urls();
	addresses();
	return done();
}
