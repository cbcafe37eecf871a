/* SPDX-License-Identifier: ISC */
/*
 * Version ranges of package.json: alternatives joined by ||, each a list of comparators that must all hold:
 *
 *   comparator  [< <= > >= = ^ ~] partial      or  partial " - " partial
 *   partial     up to three numbers; a missing one, x, X or * stands for any
 *
 * Every comparator becomes an interval [low, high) of versions, which are three numbers. Pre-release parts ("-rc.1") and build
 * metadata are read over: runtimes of distributions have none, or parts that mean something else.
 */
#include "image/build/semver.h"

#include <ctype.h>
#include <limits.h>
#include <string.h>

struct version {
	long n[3];
	int given; /* how many numbers were written */
};

static const struct version none = {{0, 0, 0}, 0};

static const char *blanks(const char *p)
{
	return p + strspn(p, " \t");
}

static long number(const char **p)
{
	long n = 0;

	for (; isdigit((unsigned char)**p); ++*p)
		n = n < LONG_MAX / 20 ? n * 10 + (**p - '0') : n;
	return n;
}

/* Read a partial version; NULL: there is none at p. */
static const char *partial(const char *p, struct version *v)
{
	*v = none;
	p += *p == 'v';
	for (int i = 0; i < 3; i++) {
		if (isdigit((unsigned char)*p)) {
			long n = number(&p);
			if (v->given == i) {
				v->n[i] = n;
				v->given = i + 1;
			}
		} else if (*p && strchr("xX*", *p)) {
			p++;
		} else {
			return NULL;
		}
		if (*p != '.')
			break;
		p++;
	}
	if (*p == '-' || *p == '+')
		p += strcspn(p, " \t|");
	return !*p || strchr(" \t|", *p) ? p : NULL;
}

static int compare(const struct version *a, const struct version *b)
{
	for (int i = 0; i < 3; i++)
		if (a->n[i] != b->n[i])
			return a->n[i] < b->n[i] ? -1 : 1;
	return 0;
}

/* The first version after all that have the same first `keep` numbers. */
static struct version after(const struct version *v, int keep)
{
	struct version r = none;

	if (!keep) {
		r.n[0] = LONG_MAX;
		return r;
	}
	memcpy(r.n, v->n, (size_t)keep * sizeof(r.n[0]));
	r.n[keep - 1]++;
	return r;
}

/* How many numbers ^ keeps: up to the first that is not 0. */
static int caret(const struct version *v)
{
	int keep = 1;

	while (keep < v->given && !v->n[keep - 1])
		keep++;
	return v->given ? keep : 0;
}

static bool between(const struct version *v, const struct version *low, const struct version *high)
{
	return compare(v, low) >= 0 && compare(v, high) < 0;
}

static bool holds(const struct version *v, const char *op, const struct version *want)
{
	struct version end = after(want, want->given);

	if (op[0] == '<')
		return op[1] == '=' ? compare(v, &end) < 0 : want->given && compare(v, want) < 0;
	if (op[0] == '>')
		return op[1] == '=' ? compare(v, want) >= 0 : want->given && compare(v, &end) >= 0;
	if (op[0] == '^')
		end = after(want, caret(want));
	if (op[0] == '~')
		end = after(want, want->given < 2 ? want->given : 2);
	return between(v, want, &end);
}

/* One alternative, up to || or the end. *known: it could be read. */
static bool alternative(const struct version *v, const char *p, bool *known)
{
	bool all = true;

	for (p = blanks(p); *p && *p != '|'; p = blanks(p)) {
		char op[3] = "";
		struct version want, upper;
		if (*p && strchr("<>=^~", *p)) {
			op[0] = *p++;
			if ((op[0] == '<' || op[0] == '>' || op[0] == '~') && (*p == '=' || *p == '>'))
				op[1] = *p++; /* ~> is an old ~ */
			p = blanks(p);
		}
		p = partial(p, &want);
		const char *dash = p ? blanks(p) : NULL, *end = NULL;
		if (dash && !op[0] && dash[0] == '-' && dash[1] == ' ')
			end = partial(blanks(dash + 1), &upper);
		if (end) {
			all = all && compare(v, &want) >= 0 && holds(v, "<=", &upper);
			p = end;
		} else if (p) {
			all = all && holds(v, op, &want);
		} else {
			*known = false;
			return false;
		}
	}
	return all;
}

bool semver_in_range(const char *version, const char *range)
{
	const char *colon = strchr(version, ':'), *p = range;
	struct version v = none;
	bool known = true;

	p = colon ? colon + 1 : version;
	p += *p == 'v';
	for (int i = 0; i < 3 && isdigit((unsigned char)*p); i++) {
		v.n[i] = number(&p);
		p += *p == '.';
	}
	for (p = range;; p += 2) {
		if (alternative(&v, p, &known) || !known)
			return true;
		p = strstr(p, "||");
		if (!p)
			return false;
	}
}
