// SPDX-License-Identifier: ISC
/*
 * Pages of lists by Range headers: "KEY FROM..TO; order=desc, max=N". FROM with ']' before it is not on the page itself; so a
 * Next-Range names the last object of a page, and the next page is right also when objects came or went between the two.
 */
#include "platform/api_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool word_char(char c)
{
	return (c >= 'a' && c <= 'z') || c == '_';
}

static struct str trim(struct str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/* A piece up to one of the separators; s goes on behind it. */
static struct str next_piece(struct str *s, const char *separators)
{
	struct str piece = *s;

	for (size_t i = 0; i < s->n; i++)
		if (strchr(separators, s->p[i])) {
			piece.n = i;
			s->p += i + 1;
			s->n -= i + 1;
			return trim(piece);
		}
	s->p += s->n;
	s->n = 0;
	return trim(piece);
}

static bool store(struct str s, char *out, size_t size)
{
	if (s.n >= size || memchr(s.p, 0, s.n))
		return false;
	memcpy(out, s.p, s.n);
	out[s.n] = '\0';
	return true;
}

static bool parse_bounds(struct str s, struct page *p)
{
	size_t n = 0;
	const char *dots;

	while (n < s.n && word_char(s.p[n]))
		n++;
	if (!store((struct str){s.p, n}, p->key, sizeof(p->key)))
		return false;
	s = trim((struct str){s.p + n, s.n - n});
	if (!s.n)
		return n > 0;
	dots = memmem(s.p, s.n, "..", 2);
	if (!dots)
		return false;
	struct str from = trim((struct str){s.p, (size_t)(dots - s.p)});
	struct str to = trim((struct str){dots + 2, s.n - (size_t)(dots - s.p) - 2});
	if (from.n && from.p[0] == ']') {
		p->from_exclusive = true;
		from.p++, from.n--;
	}
	return store(from, p->from, sizeof(p->from)) && store(to, p->to, sizeof(p->to));
}

static bool parse_option(struct str s, struct page *p)
{
	char text[32], *end;
	unsigned long max;

	if (!s.n)
		return true;
	if (!store(s, text, sizeof(text)))
		return false;
	if (!strcmp(text, "order=desc") || !strcmp(text, "order=asc")) {
		p->desc = text[6] == 'd';
		return true;
	}
	if (strncmp(text, "max=", 4))
		return false;
	max = strtoul(text + 4, &end, 10);
	if (end == text + 4 || *end || text[4] == '-' || text[4] == '+' || !max)
		return false;
	p->max = max > API_PAGE_MAX ? API_PAGE_MAX : (unsigned)max;
	return true;
}

bool page_parse(struct str header, struct page *p)
{
	memset(p, 0, sizeof(*p));
	p->max = API_PAGE_DEFAULT;
	header = trim(header);
	if (!header.n)
		return true;
	if (!parse_bounds(next_piece(&header, ";"), p))
		return false;
	while (header.n)
		if (!parse_option(next_piece(&header, ",;"), p))
			return false;
	return true;
}

static bool is_number(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n && n < 19 && !s[n];
}

int page_compare(const char *a, const char *b)
{
	if (is_number(a) && is_number(b)) {
		long long x = atoll(a), y = atoll(b);
		return (x > y) - (x < y);
	}
	return strcmp(a, b);
}

/* Index of the first item whose key is >= k (or > k). */
static size_t bound(const void *items, size_t n, page_key *key, const char *k, bool above)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		int d = page_compare(key(items, mid), k);
		if (d < 0 || (above && d == 0))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

void page_cut(const struct page *p, const void *items, size_t n, page_key *key, size_t *first, size_t *count,
	      bool *more)
{
	size_t lo = 0, hi = n;
	/* Bounds are low..high in both orders, but a page downwards goes on below "]last", with what was low as the other. */
	bool below = p->desc && p->from_exclusive;
	const char *low = below ? p->to : p->from, *high = below ? p->from : p->to;

	if (low[0])
		lo = bound(items, n, key, low, p->from_exclusive && !below);
	if (high[0])
		hi = bound(items, n, key, high, !below);
	if (hi < lo)
		hi = lo;
	*more = hi - lo > p->max;
	*count = *more ? p->max : hi - lo;
	*first = p->desc ? hi - 1 : lo;
}

void page_next(const struct page *p, const char *last, char *out, size_t size)
{
	out[0] = '\0';
	if (strlen(last) >= sizeof(p->from) || strstr(last, ".."))
		return;
	for (const char *s = last; *s; s++)
		if (*s <= ' ' || *s > '~' || *s == ';' || *s == ',')
			return;
	/* The bound that stays: the upper one upwards, the lower one downwards, which was FROM on the first page. */
	const char *other = p->desc && !p->from_exclusive ? p->from : p->to;
	snprintf(out, size, "%s ]%s..%s; order=%s, max=%u", p->key, last, other, p->desc ? "desc" : "asc",
		 p->max);
}
