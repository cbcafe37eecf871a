/* SPDX-License-Identifier: ISC */
/* unit-sources: lib/host/progress.c */
/*
 * The progress line on a pseudo-terminal and elsewhere: nothing for quick steps, one line that stays one line for long ones,
 * nothing left of it at the end, and not a byte where there is no terminal.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/host/progress.h"
#include "tests/unit/tap.h"

static char out[65536];

/* What a step writes on standard error, which is a terminal of `columns` (0: a pipe). Its length. */
static size_t output_of(void (*step)(void), unsigned columns)
{
	int p[2] = {-1, -1};
	size_t n = 0;
	ssize_t r;

	if (columns) {
		p[0] = posix_openpt(O_RDWR | O_NOCTTY);
		if (p[0] < 0 || grantpt(p[0]) || unlockpt(p[0]) ||
		    (p[1] = open(ptsname(p[0]), O_RDWR | O_NOCTTY)) < 0)
			skip_all("no pseudo-terminals here");
		struct winsize w = {.ws_col = (unsigned short)columns, .ws_row = 24};
		ioctl(p[1], TIOCSWINSZ, &w);
	} else if (pipe(p)) {
		return 0;
	}
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		dup2(p[1], 2);
		close(p[0]);
		step();
		_exit(0);
	}
	close(p[1]);
	while (n < sizeof(out) - 1 && (r = read(p[0], out + n, sizeof(out) - 1 - n)) > 0)
		n += (size_t)r;
	out[n] = 0;
	close(p[0]);
	waitpid(pid, NULL, 0);
	return n;
}

static void quick(void)
{
	progress_begin("quick", 1000, true);
	for (int i = 0; i < 1000; i++)
		progress_add(1);
	progress_end();
}

/* Half a second, a MiB each 10 ms. */
static void slow(void)
{
	progress_begin("a layer\033[31m", 100u << 20, true);
	for (int i = 0; i < 50; i++) {
		progress_add(1u << 20);
		usleep(10000);
	}
	progress_end();
}

static void counted(void)
{
	progress_begin("entries", 0, false);
	for (int i = 0; i < 50; i++) {
		progress_add(2);
		usleep(10000);
	}
	progress_end();
}

static void silenced(void)
{
	progress_off();
	slow();
}

static unsigned lines_drawn(void)
{
	unsigned n = 0;

	for (const char *c = out; *c; c++)
		n += *c == '\r';
	return n;
}

int main(void)
{
	setenv("TERM", "xterm", 1);
	is(output_of(quick, 80), 0, "a quick step shows nothing");
	ok(output_of(slow, 80) > 0, "a slow one does");
	ok(strstr(out, "a layer?[31m ") && strstr(out, " MiB of 100.0 MiB  ") && strstr(out, " MiB/s") &&
		   strstr(out, " %  "),
	   "what, percent, bytes, rate");
	unsigned n = lines_drawn();
	ok(n >= 2 && n <= 6, "it is drawn %u times in 0.5 s", n);
	ok(!strchr(out, '\n'), "on one line");
	size_t len = strlen(out);
	ok(len > 4 && !strcmp(out + len - 4, "\r\033[K"), "which is gone at the end");
	output_of(slow, 20);
	bool fits = true;
	for (char *p = strtok(out, "\r"); p; p = strtok(NULL, "\r"))
		fits = fits && strcspn(p, "\033") <= 19;
	ok(fits, "it is not longer than the terminal is wide");
	ok(output_of(counted, 80) > 0 && strstr(out, "entries  ") && !strstr(out, "B") && !strstr(out, "%"),
	   "a number of things without an end");
	is(output_of(slow, 0), 0, "nothing where there is no terminal");
	is(output_of(silenced, 80), 0, "nothing when it is off");
	setenv("TERM", "dumb", 1);
	is(output_of(slow, 80), 0, "nothing on a dumb terminal");
	return done();
}
