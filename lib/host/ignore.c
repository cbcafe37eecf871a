/* SPDX-License-Identifier: ISC */
/*
 * .slugignore and .dockerignore: which files of an app stay out of its image.
 *
 * .slugignore  as .gitignore: a pattern without '/' but at its end matches at any depth, with one it is anchored at
 *              the app's directory; '/' at the end means directories only; what is in an ignored directory is ignored and
 *              no '!' brings it back. (Heroku's own has no '!'; here it works.)
 * .dockerignore as Docker: every pattern is anchored, also matches what is below a directory that it names, and a
 *              later '!' brings files back even from there.
 * Both: '#' begins a comment line, the last rule that matches wins, `**` matches any number of directories.
 *
 * A path is left out if either file leaves it out. Always left out are version control (.git, .hg, .svn, .bzr), because they are not
 * the app, and .env files, because they hold secrets of a developer's machine: `--env` and `cowbell run -e` are for those.
 *
 * Matching is bounded: a pattern is at most MAX_PATTERN bytes with MAX_STARS stars, and one that has not matched a path after
 * MAX_STEPS comparisons does not match it (only patterns made for that get there).
 */
#include "lib/host/ignore.h"

#include <string.h>

#define MAX_PATTERN 1024
#define MAX_STARS   16 /* more make matching slow, and nobody writes them */
#define MAX_RULES   4096
#define MAX_STEPS   20000

void ignore_parse(struct strings *rules, char kind, const char *text)
{
	while (*text && rules->n < MAX_RULES) {
		size_t n = strcspn(text, "\n"), skip = n + (text[n] == '\n');
		const char *p = text;

		while (n && (p[n - 1] == '\r' || p[n - 1] == ' ' || p[n - 1] == '\t'))
			n--;
		if (kind == 'd')
			for (; n && (*p == ' ' || *p == '\t'); n--)
				p++;
		size_t stars = 0;
		for (size_t i = 0; i < n; i++)
			stars += p[i] == '*';
		if (n && n < MAX_PATTERN && *p != '#' && stars <= MAX_STARS && !memchr(p, 0, n))
			strings_addf(rules, "%c%.*s", kind, (int)n, p);
		text += skip;
	}
}

/* [...] at *p against c; moves *p behind it. A bracket that does not end is an ordinary character. */
static bool bracket(const char **p, char c)
{
	const char *q = *p + 1;
	bool negate = *q == '!' || *q == '^', hit = false;

	q += negate;
	for (bool first = true; *q && (first || *q != ']'); first = false) {
		if (*q == '\\' && q[1])
			q++;
		char lo = *q++, hi = lo;
		if (*q == '-' && q[1] && q[1] != ']') {
			q++;
			if (*q == '\\' && q[1])
				q++;
			hi = *q++;
		}
		hit |= (unsigned char)lo <= (unsigned char)c && (unsigned char)c <= (unsigned char)hi;
	}
	if (*q != ']') {
		++*p;
		return c == '[';
	}
	*p = q + 1;
	return c != '/' && hit != negate;
}

/* One character of the pattern that is no star. */
static bool one(const char **p, char c)
{
	if (**p == '?') {
		++*p;
		return c != '/';
	}
	if (**p == '[')
		return bracket(p, c);
	if (**p == '\\' && (*p)[1])
		++*p;
	return *(*p)++ == c;
}

static bool glob(const char *p, const char *s, unsigned *steps)
{
	for (;;) {
		if (++*steps > MAX_STEPS)
			return false;
		if (p[0] == '*' && p[1] == '*') {
			while (*p == '*')
				p++;
			if (!*p)
				return true;
			bool dirs = *p == '/'; /* "**" and '/' are also no directory at all */
			if (dirs)
				p++;
			for (const char *at = s;; at++) {
				if ((!dirs || at == s || at[-1] == '/') && glob(p, at, steps))
					return true;
				if (!*at)
					return false;
			}
		}
		if (*p == '*') {
			p++;
			for (;; s++) {
				if (glob(p, s, steps))
					return true;
				if (!*s || *s == '/')
					return false;
			}
		}
		if (!*p || !*s)
			return !*p && !*s;
		if (!one(&p, *s++))
			return false;
	}
}

bool ignore_glob(const char *p, const char *s)
{
	unsigned steps = 0;

	return glob(p, s, &steps);
}

/* An entry of .slugignore, without '!'. */
static bool match_slug(const char *pat, const char *rel, bool is_dir)
{
	char buf[MAX_PATTERN + 4];
	size_t n = strlen(pat);
	bool only_dir = n && pat[n - 1] == '/';

	if (only_dir)
		n--;
	if (!n || (only_dir && !is_dir))
		return false; /* "/" alone names nothing */
	bool anchored = memchr(pat, '/', n) != NULL;
	if (*pat == '/') {
		pat++;
		n--;
	}
	memcpy(buf, pat, n);
	buf[n] = 0;
	if (!anchored) {
		const char *base = strrchr(rel, '/');
		return ignore_glob(buf, base ? base + 1 : rel);
	}
	return ignore_glob(buf, rel);
}

/* A pattern matches a path if it matches the path or a directory above it. */
static bool match_docker(const char *pat, const char *rel)
{
	char buf[MAX_PATTERN + 4], path[4096];
	size_t n;

	while (pat[0] == '/' || (pat[0] == '.' && pat[1] == '/'))
		pat += pat[0] == '/' ? 1 : 2;
	n = strlen(pat);
	while (n && pat[n - 1] == '/')
		n--;
	memcpy(buf, pat, n);
	buf[n] = 0;
	if (!n || strlen(rel) >= sizeof(path))
		return false;
	strcpy(path, rel);
	for (;;) {
		if (ignore_glob(buf, path))
			return true;
		char *slash = strrchr(path, '/');
		if (!slash)
			return false;
		*slash = 0;
	}
}

static bool slug_ignores(const struct strings *rules, const char *rel, bool is_dir)
{
	bool out = false;

	for (size_t i = 0; i < rules->n; i++) {
		const char *p = rules->v[i] + 1;
		if (rules->v[i][0] != 's')
			continue;
		bool back = *p == '!';
		if (out == back && match_slug(p + back, rel, is_dir))
			out = !back;
	}
	return out;
}

/* Could a '!' rule bring back something below this directory? Wild ones could. */
static bool may_return(const struct strings *rules, const char *dir)
{
	size_t n = strlen(dir);

	for (size_t i = 0; i < rules->n; i++) {
		const char *p = rules->v[i] + 1;
		if (rules->v[i][0] != 'd' || *p != '!')
			continue;
		p++;
		while (p[0] == '/' || (p[0] == '.' && p[1] == '/'))
			p += p[0] == '/' ? 1 : 2;
		size_t plain = strcspn(p, "*?[\\");
		if (plain < n ? !strncmp(p, dir, plain) && p[plain] : (!strncmp(p, dir, n) && p[n] == '/'))
			return true;
	}
	return false;
}

static bool docker_ignores(const struct strings *rules, const char *rel, bool is_dir)
{
	bool out = false;

	for (size_t i = 0; i < rules->n; i++) {
		const char *p = rules->v[i] + 1;
		if (rules->v[i][0] != 'd')
			continue;
		bool back = *p == '!';
		if (out == back && match_docker(p + back, rel))
			out = !back;
	}
	return out && !(is_dir && may_return(rules, rel));
}

bool ignore_match(const struct strings *rules, const char *rel, bool is_dir)
{
	return rules->n && (slug_ignores(rules, rel, is_dir) || docker_ignores(rules, rel, is_dir));
}

bool ignore_is_env(const char *name)
{
	static const char *const harmless[] = {".example", ".sample", ".template", ".dist", ".defaults"};

	if (strncmp(name, ".env", 4) || (name[4] && name[4] != '.'))
		return false;
	for (size_t i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		if (!strcmp(name + 4, harmless[i]))
			return false;
	return true;
}

bool ignore_always(const char *rel, bool is_dir)
{
	static const char *const vcs[] = {".git", ".hg", ".svn", ".bzr"};
	const char *slash = strrchr(rel, '/'), *name = slash ? slash + 1 : rel;

	if (*name != '.')
		return false;
	for (size_t i = 0; i < sizeof(vcs) / sizeof(vcs[0]); i++)
		if (!strcmp(name, vcs[i]))
			return true; /* .git is a file in a worktree */
	return !is_dir && ignore_is_env(name);
}
