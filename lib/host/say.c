/* SPDX-License-Identifier: ISC */
/*
 * One line to the user. A message may quote what a user or a file said, so
 * control characters are shown as '?': no name can forge a second line or
 * drive the terminal. A line is written with one write(2) and cut at 1,000 bytes.
 */
#include "lib/host/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void say_va(const char *fmt, va_list ap)
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
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nobody listens; the exit status still tells */
}

void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_va(fmt, ap);
	va_end(ap);
}

int say_fail(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say_va(fmt, ap);
	va_end(ap);
	return status;
}
