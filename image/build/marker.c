/* SPDX-License-Identifier: ISC */
/*
 * Environment markers of Python requirements (PEP 508): `name; python_version < "3.8" and sys_platform == "win32"`.
 *
 * Only what is surely false excludes a requirement: a part that is false where all parts are joined by `and`, or all
 * parts where they are joined by `or`. What is not understood (parentheses, other variables, `in`) counts as true: then the
 * requirement is asked for, and its absence is said.
 */
#include "image/build/marker.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -1, 0, 1: our version against "3.8" or "3.8.1"; only the first two numbers count. */
static int against(int minor, const char *version)
{
	char *end;
	long major = strtol(version, &end, 10), want = *end == '.' ? strtol(end + 1, NULL, 10) : 0;

	if (major != 3)
		return major < 3 ? 1 : -1;
	return (minor > want) - (minor < want);
}

static bool version_holds(const char *op, const char *version, int minor)
{
	int c = against(minor, version);

	if (!strcmp(op, "<"))
		return c < 0;
	if (!strcmp(op, "<="))
		return c <= 0;
	if (!strcmp(op, ">"))
		return c > 0;
	if (!strcmp(op, ">=") || !strcmp(op, "~="))
		return c >= 0;
	if (!strcmp(op, "=="))
		return !c;
	return strcmp(op, "!=") || c;
}

/* One comparison: false only if it is understood and does not hold. */
static bool holds(const char *part, int minor)
{
	static const struct {
		const char *name, *value;
	} ours[] = {{"sys_platform", "linux"},
		    {"platform_system", "Linux"},
		    {"os_name", "posix"},
		    {"platform_machine", "x86_64"},
		    {"platform_python_implementation", "CPython"},
		    {"implementation_name", "cpython"},
		    {"extra", ""}};
	char name[64], op[4], value[64] = "";

	if (sscanf(part, " %63[a-z_] %3[<>=!~] %*1['\"]%63[^'\"]", name, op, value) != 3)
		return true;
	if (!strcmp(name, "python_version") || !strcmp(name, "python_full_version"))
		return version_holds(op, value, minor);
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		if (!strcmp(name, ours[i].name)) {
			if (!strcmp(op, "=="))
				return !strcmp(value, ours[i].value);
			return strcmp(op, "!=") || strcmp(value, ours[i].value);
		}
	return true;
}

bool marker_excludes(const char *marker, int minor)
{
	bool any = strstr(marker, " or ") != NULL, all = strstr(marker, " and ") != NULL;
	char part[256];

	if (strpbrk(marker, "()") || (any && all))
		return false;
	for (const char *p = marker;;) {
		const char *next = any ? strstr(p, " or ") : all ? strstr(p, " and ") : NULL;
		snprintf(part, sizeof(part), "%.*s", (int)(next ? (size_t)(next - p) : strlen(p)), p);
		bool true_here = holds(part, minor);
		if (true_here && any)
			return false;
		if (!true_here && !any)
			return true;
		if (!next)
			return any; /* of an `or` nothing held; of an `and` everything did */
		p = next + (any ? 4 : 5);
	}
}
