/* SPDX-License-Identifier: ISC */
/*
 * A line of progress on a terminal:
 *
 *   layer sha256:1f3c…   42 %  83.2 MiB of 197.0 MiB  118.4 MiB/s
 *
 * Nothing is shown before the step has taken SHOW_AFTER_MS, so quick steps never flicker; then it is drawn at most every
 * DRAW_EVERY_MS, cut to the terminal's width so that it stays one line. Where standard error is no terminal, or
 * TERM is "dumb", not a byte is written. progress_add() costs a comparison until enough units have come that looking at
 * the clock pays.
 */
#include "lib/host/progress.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SHOW_AFTER_MS 300
#define DRAW_EVERY_MS 100

static struct {
	bool off, active, terminal, is_bytes, drawn;
	char what[64];
	uint64_t total, done, look_at; /* the clock is looked at when `done` reaches look_at */
	uint64_t begin_ms, next_ms;
} p;

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool on_terminal(void)
{
	const char *term = getenv("TERM");

	return isatty(STDERR_FILENO) && term && *term && strcmp(term, "dumb");
}

static void amount(char out[32], uint64_t n)
{
	static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	double v = (double)n;
	unsigned i = 0;

	if (!p.is_bytes) {
		snprintf(out, 32, "%llu", (unsigned long long)n);
		return;
	}
	for (; v >= 1024 && i < 4; i++)
		v /= 1024;
	snprintf(out, 32, i ? "%.1f %s" : "%.0f %s", v, unit[i]);
}

static unsigned columns(void)
{
	struct winsize w;

	return !ioctl(STDERR_FILENO, TIOCGWINSZ, &w) && w.ws_col > 1 ? w.ws_col : 80;
}

/* One write(2): the beginning of the line, its text, and away with the rest of an older one. */
static void put(const char *text)
{
	char line[320];
	int n = snprintf(line, sizeof(line), "\r%.*s\033[K", (int)(columns() - 1), text);

	if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
		p.terminal = false; /* gone: stay silent */
}

static void draw(uint64_t now)
{
	char text[256], done[32], total[32], rate[32];
	uint64_t took = now - p.begin_ms;
	size_t n = (size_t)snprintf(text, sizeof(text), "%s  ", p.what);

	amount(done, p.done);
	amount(total, p.total);
	amount(rate, took ? (uint64_t)((double)p.done * 1000 / (double)took) : 0);
	if (p.total && p.done <= p.total)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%3u %%  %s of %s",
				      (unsigned)((double)p.done * 100 / (double)p.total), done, total);
	else
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s", done);
	if (p.is_bytes)
		snprintf(text + n, sizeof(text) - n, "  %s/s", rate);
	put(text);
	p.drawn = true;
}

/* Look at the clock; choose after how many units to look again: some twenty times a second at the rate so far. */
static void look(void)
{
	uint64_t now = now_ms(), took = now - p.begin_ms, step = took ? p.done / (took / 50 + 1) : p.done;

	p.look_at = p.done + (step ? step : 1);
	if (now < p.next_ms)
		return;
	draw(now);
	p.next_ms = now + DRAW_EVERY_MS;
}

void progress_begin(const char *what, uint64_t total, bool is_bytes)
{
	bool off = p.off;

	if (p.active)
		progress_end();
	memset(&p, 0, sizeof(p));
	p.off = off;
	p.active = true;
	p.terminal = !off && on_terminal();
	if (!p.terminal)
		return;
	snprintf(p.what, sizeof(p.what), "%s", what);
	for (char *c = p.what; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	p.total = total;
	p.is_bytes = is_bytes;
	p.begin_ms = now_ms();
	p.next_ms = p.begin_ms + SHOW_AFTER_MS;
}

void progress_add(uint64_t units)
{
	if (!p.terminal)
		return;
	p.done += units;
	if (p.done >= p.look_at)
		look();
}

void progress_end(void)
{
	if (p.drawn && p.terminal)
		put("");
	p.active = p.terminal = p.drawn = false;
}

void progress_off(void)
{
	progress_end();
	p.off = true;
}
