/* SPDX-License-Identifier: ISC */
/*
 * Reports as JSON: whoever asked for --json gets one document on standard output, also where the command fails before it
 * has one: {"error":TEXT,"status":N}. Standard output is held back until the end, which is how "before" is known.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdio_ext.h>

#include "cli/cli.h"
#include "lib/host/say.h"

#define HELD_BYTES (1u << 20)

static char reason[1024];

static void remember(int status, const char *text)
{
	(void)status;
	snprintf(reason, sizeof(reason), "%s", text);
}

void report_begin(bool json)
{
	if (!json)
		return;
	setvbuf(stdout, NULL, _IOFBF, HELD_BYTES);
	say_on_failure(remember);
}

int report_list(json_t *list, bool json, int status)
{
	if (json && (!status || json_array_size(list))) {
		json_dumpf(list, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
		putchar('\n');
	}
	json_decref(list);
	return status;
}

int report_end(bool json, int status)
{
	if (!json || !status || __fpending(stdout) || !*reason)
		return status;
	json_t *text = json_string(reason);
	if (!text) { /* a name that is no UTF-8 */
		for (char *p = reason; *p; p++)
			if (*p & 0x80)
				*p = '?';
		text = json_string(reason);
	}
	json_t *o = json_pack("{s:o, s:i}", "error", text, "status", status);
	json_dumpf(o, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(o);
	return status;
}
