/* SPDX-License-Identifier: ISC */
/*
 * One line to the user. A message may quote what a user or a file said, so
 * control characters are shown as '?': no name can forge a second line or
 * drive the terminal. A line is written with one write(2) and cut at 1,000 bytes.
 */
#include "lib/host/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void (*on_failure)(int status, const char *text);

/* status < 0: no failure. */
static void say_va(int status, const char *fmt, va_list ap)
{
	static const char head[] = "cowbell: ";
	char line[1024];
	size_t n = sizeof(head) - 1;

	memcpy(line, head, n);
	int m = vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	if (m < 0)
		return;
	n += (size_t)m;
	if (n > sizeof(line) - 2)
		n = sizeof(line) - 2;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	line[n] = '\n';
	ssize_t ignored = write(STDERR_FILENO, line, n + 1);
	(void)ignored; /* nobody listens; the exit status still tells */
	line[n] = 0;
	if (status >= 0 && on_failure)
		on_failure(status, line + sizeof(head) - 1);
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_va(-1, fmt, ap);
	va_end(ap);
}

int say_fail(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_va(status, fmt, ap);
	va_end(ap);
	return status;
}

void say_on_failure(void (*f)(int status, const char *text))
{
	on_failure = f;
}

const char *say_errno(int err)
{
	static char text[160];
	bool full = err == ENOSPC || err == EDQUOT;

	snprintf(text, sizeof(text), "%s%s", strerror(err),
		 full ? "; make room: cowbell prune frees what no image needs, cowbell cache clear the cache"
		      : "");
	return text;
}
