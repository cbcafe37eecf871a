/* SPDX-License-Identifier: ISC */
/*
 * Reading options by a table, which also is the help text.
 *
 * `--name VALUE`, `--name=VALUE`, `-n VALUE`, `-nVALUE`, clusters of letters
 * (`-it`). Reading stops at the first operand, because what follows belongs to
 * the program that is to be run. A name that is not in the table gets a
 * suggestion by edit distance and never a guess.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "lib/host/say.h"

#define MAX_WORD 48

/* Damerau-Levenshtein distance (a swap of neighbours counts one); words longer than MAX_WORD are far away. */
static unsigned edit_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned row[3][MAX_WORD + 1];

	if (n > MAX_WORD || m > MAX_WORD)
		return MAX_WORD;
	for (size_t j = 0; j <= m; j++)
		row[0][j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned *cur = row[i % 3], *prev = row[(i + 2) % 3], *before = row[(i + 1) % 3];
		cur[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = prev[j - 1] + (a[i - 1] != b[j - 1]);
			if (prev[j] + 1 < best)
				best = prev[j] + 1;
			if (cur[j - 1] + 1 < best)
				best = cur[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    before[j - 2] + 1 < best)
				best = before[j - 2] + 1;
			cur[j] = best;
		}
	}
	return row[n % 3][m];
}

const char *suggest(const char *word, const char *const *names, size_t n)
{
	const char *best = NULL;
	unsigned best_d = (unsigned)strlen(word) / 3 + 1;

	if (best_d > 3)
		best_d = 3;
	for (size_t i = 0; i < n; i++) {
		unsigned d = edit_distance(word, names[i]);
		if (d <= best_d && d < strlen(names[i])) {
			if (best && d == best_d)
				continue;
			best = names[i];
			best_d = d;
		}
	}
	return best;
}

/* "[=VALUE]": may be left out, so it can only come as --name=VALUE. */
static bool optional(const struct option_def *d)
{
	return !strncmp(d->arg, "[=", 2);
}

static int unknown_option(const struct options *o, const char *word)
{
	const char *names[64];
	size_t n = 0;

	for (const struct option_def *d = o->defs; d->id && n < 64; d++)
		names[n++] = d->name;
	const char *close = suggest(word, names, n);
	if (close)
		say("no option '--%s'; did you mean '--%s'?", word, close);
	else
		say("no option '--%s'; all options: cowbell %s --help", word, o->command);
	return -1;
}

static int next_long(struct options *o)
{
	const char *word = o->argv[o->next] + 2, *eq = strchr(word, '=');
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	const struct option_def *d = o->defs;

	while (d->id && (strlen(d->name) != len || strncmp(d->name, word, len)))
		d++;
	if (!d->id) {
		char name[MAX_WORD + 2];
		snprintf(name, sizeof(name), "%.*s", (int)len, word);
		return unknown_option(o, name);
	}
	o->next++;
	o->value = eq ? eq + 1 : NULL;
	if (!d->arg && eq) {
		say("option '--%s' takes no value", d->name);
		return -1;
	}
	if (d->arg && !eq && !optional(d)) {
		if (o->next >= o->argc) {
			say("option '--%s' needs a value: --%s %s", d->name, d->name, d->arg);
			return -1;
		}
		o->value = o->argv[o->next++];
	}
	return d->id;
}

static int next_letter(struct options *o)
{
	const char *word = o->argv[o->next];
	char c = word[o->letter];
	const struct option_def *d = o->defs;

	while (d->id && d->letter != c)
		d++;
	if (!d->id) {
		say("no option '-%c'; all options: cowbell %s --help", c, o->command);
		return -1;
	}
	o->value = NULL;
	if (d->arg && !optional(d)) {
		if (word[o->letter + 1]) {
			o->value = word + o->letter + 1;
		} else if (o->next + 1 < o->argc) {
			o->value = o->argv[++o->next];
		} else {
			say("option '-%c' needs a value: -%c %s", c, c, d->arg);
			return -1;
		}
		o->letter = 0;
	} else if (!word[++o->letter]) {
		o->letter = 0;
	}
	if (!o->letter)
		o->next++;
	return d->id;
}

int options_next(struct options *o)
{
	if (o->letter)
		return next_letter(o);
	if (o->next >= o->argc)
		return 0;
	const char *word = o->argv[o->next];
	if (word[0] != '-' || !word[1])
		return 0;
	if (word[1] != '-') {
		o->letter = 1;
		return next_letter(o);
	}
	if (!word[2]) {
		o->next++;
		return 0;
	}
	return next_long(o);
}

void options_help(const struct option_def *defs)
{
	for (const struct option_def *d = defs; d->id; d++) {
		char left[64];
		const char *sep = !d->arg || optional(d) ? "" : " ";

		snprintf(left, sizeof(left), "%c%c%s--%s%s%s", d->letter ? '-' : ' ',
			 d->letter ? d->letter : ' ', d->letter ? ", " : "  ", d->name, sep,
			 d->arg ? d->arg : "");
		printf("  %-34s", left);
		if (strlen(left) > 33)
			printf("\n  %-34s", "");
		for (const char *p = d->help; *p; p++) {
			putchar(*p);
			if (*p == '\n')
				printf("  %-34s", "");
		}
		putchar('\n');
	}
}

int open_volume(const char *host, int *fd)
{
	*fd = open(host, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*fd >= 0)
		return 0;
	if (errno == ENOENT)
		return say_fail(EXIT_OURS, "-v %s: no such directory; create it first: mkdir -p '%s'", host,
				host);
	return say_fail(EXIT_OURS, "-v %s: %s", host,
			errno == ENOTDIR ? "not a directory; a volume is a directory" : strerror(errno));
}

int option_max_size(const char *v, uint64_t *bytes)
{
	if (parse_size(v, bytes) && *bytes)
		return 0;
	return say_fail(EXIT_OURS, "--max-size %s: must be a size such as 512M or 4G", v);
}

int option_max_entries(const char *v, uint64_t *entries)
{
	char *end;

	errno = 0;
	*entries = strtoull(v, &end, 10);
	if (*v >= '0' && *v <= '9' && !*end && !errno && *entries)
		return 0;
	return say_fail(EXIT_OURS, "--max-entries %s: must be a number above 0, such as 200000", v);
}
