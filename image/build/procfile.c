/* SPDX-License-Identifier: ISC */
/*
 * Procfile: `TYPE: COMMAND` lines, TYPE of letters, digits, - and _. Empty lines and lines that begin with # are nothing.
 * It is the app's word on what to run, and wins over whatever detection would choose.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"
#include "lib/host/say.h"

#define MAX_TYPE      64
#define MAX_PROCESSES 64
#define MAX_COMMAND   8192

bool valid_process_type(const char *s, size_t n)
{
	if (!n || n > MAX_TYPE)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)s[i]) && s[i] != '-' && s[i] != '_')
			return false;
	return true;
}

static const char *bad_line(int line, const char *what)
{
	static char text[160];

	snprintf(text, sizeof(text), "line %d: %s", line, what);
	return text;
}

static const char *one_line(const char *p, size_t n, int line, struct strings *out)
{
	char type[MAX_TYPE + 1];

	while (n && isspace((unsigned char)p[n - 1]))
		n--;
	while (n && isspace((unsigned char)*p))
		p++, n--;
	if (!n || *p == '#')
		return NULL;
	const char *colon = memchr(p, ':', n);
	if (!colon)
		return bad_line(line, "not TYPE: COMMAND");
	size_t len = (size_t)(colon - p);
	while (len && isspace((unsigned char)p[len - 1]))
		len--;
	if (!valid_process_type(p, len))
		return bad_line(line, "a process type is made of letters, digits, - and _");
	memcpy(type, p, len);
	type[len] = 0;
	const char *command = colon + 1, *end = p + n;
	while (command < end && isspace((unsigned char)*command))
		command++;
	if (command == end)
		return bad_line(line, "no command after the process type");
	if (end - command > MAX_COMMAND)
		return bad_line(line, "a command of more than 8,192 bytes");
	if (strings_env(out, type))
		return bad_line(line, "a process type that is there already");
	if (out->n == MAX_PROCESSES)
		return bad_line(line, "more than 64 process types");
	strings_addf(out, "%s=%.*s", type, (int)(end - command), command);
	return NULL;
}

const char *procfile_parse(const char *text, size_t n, struct strings *out)
{
	const char *end = text + n;

	if (memchr(text, 0, n))
		return "a NUL byte in the file";
	if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3))
		text += 3;
	for (int line = 1; text < end; line++) {
		const char *nl = memchr(text, '\n', (size_t)(end - text));
		size_t len = (size_t)((nl ? nl : end) - text);
		const char *wrong = one_line(text, len, line, out);
		if (wrong)
			return wrong;
		text += len + (nl != NULL);
	}
	return NULL;
}

int read_procfile(struct app *a)
{
	size_t n;
	char *text = app_read(a, "Procfile", &n);

	if (!text)
		return app_has(a, "Procfile")
			       ? out_fail(EXIT_OURS, "Procfile cannot be read, or is larger than 16 MiB")
			       : 0;
	const char *wrong = procfile_parse(text, n, &a->plan->processes);
	free(text);
	if (wrong)
		return out_fail(EXIT_OURS, "Procfile, %s", wrong);
	if (!a->plan->processes.n)
		return out_fail(EXIT_OURS, "Procfile names no process; a line is such as 'web: COMMAND'");
	a->said_processes = true;
	return 0;
}
