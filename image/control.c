/* SPDX-License-Identifier: ISC */
/*
 * Debian control data: paragraphs of fields, and the relations between
 * packages that they state.
 *
 * A database takes texts over and keeps pointers into them; nothing is copied.
 * Packages hang in a hash by name, what they provide in a table sorted by
 * name, made when it is first asked. Reading dpkg's status of a thousand
 * packages takes about a millisecond.
 *
 * The text is outside data: any bytes may come. No function here reads beyond
 * the NUL at its end, and what does not parse is skipped.
 */
#include "image/control.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define ARCH "amd64"

struct provision {
	const char *name;
	size_t len;
	struct relation as; /* "= VERSION", or no version */
	struct deb *by;
	size_t order;
};

/* --- versions ------------------------------------------------------------------ */

/* Order of a character outside numbers: ~ before the end, the end before letters, letters before all else. */
static int order_of(const char *s, const char *end)
{
	if (s == end || isdigit((unsigned char)*s))
		return 0;
	if (*s == '~')
		return -1;
	return isalpha((unsigned char)*s) ? (unsigned char)*s : (unsigned char)*s + 256;
}

static int compare_part(const char *a, const char *a_end, const char *b, const char *b_end)
{
	while (a < a_end || b < b_end) {
		int first = 0;
		while ((a < a_end && !isdigit((unsigned char)*a)) ||
		       (b < b_end && !isdigit((unsigned char)*b))) {
			int d = order_of(a, a_end) - order_of(b, b_end);
			if (d)
				return d;
			a += a < a_end;
			b += b < b_end;
		}
		while (a < a_end && *a == '0')
			a++;
		while (b < b_end && *b == '0')
			b++;
		while (a < a_end && b < b_end && isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
			if (!first)
				first = *a - *b;
			a++;
			b++;
		}
		if (a < a_end && isdigit((unsigned char)*a))
			return 1;
		if (b < b_end && isdigit((unsigned char)*b))
			return -1;
		if (first)
			return first;
	}
	return 0;
}

struct version {
	const char *epoch, *epoch_end, *up, *up_end, *rev, *rev_end;
};

static struct version split_version(const char *s, size_t len)
{
	const char *colon = len ? memchr(s, ':', len) : NULL, *end = s + len;
	struct version v = {s, colon ? colon : s, colon ? colon + 1 : s, end, end, end};

	for (const char *p = end; p > v.up; p--)
		if (p[-1] == '-') {
			v.up_end = p - 1;
			v.rev = p;
			break;
		}
	return v;
}

int deb_version_cmp(const char *a, size_t a_len, const char *b, size_t b_len)
{
	struct version x = split_version(a, a_len), y = split_version(b, b_len);
	int d = compare_part(x.epoch, x.epoch_end, y.epoch, y.epoch_end);

	if (!d)
		d = compare_part(x.up, x.up_end, y.up, y.up_end);
	return d ? d : compare_part(x.rev, x.rev_end, y.rev, y.rev_end);
}

bool deb_name_ok(const char *name)
{
	size_t n = strlen(name);

	return n >= 2 && n <= 128 && (islower((unsigned char)*name) || isdigit((unsigned char)*name)) &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789+.-") == n;
}

/* --- relations ------------------------------------------------------------------- */

#define BLANK " \t\n"

/* "(>= 1.2)" after a name. Gives back what follows it. */
static const char *read_restriction(const char *p, struct relation *r)
{
	const char *close = p + strcspn(p, "),|");

	p++;
	p += strspn(p, BLANK);
	size_t n = strspn(p, "<>=");
	if (n && n <= 2) {
		memcpy(r->op, p, n);
		r->op[n] = 0;
		if (!strcmp(r->op, "<") || !strcmp(r->op, ">")) /* old forms of <= and >= */
			strcat(r->op, "=");
	}
	p += n;
	p += strspn(p, BLANK);
	if (p < close) {
		r->version = p;
		r->version_len = strcspn(p, BLANK "),|");
	}
	return *close == ')' ? close + 1 : close;
}

bool relation_next(const char **pp, struct relation *r, bool *last)
{
	const char *p = *pp;

	while (p && *p) {
		memset(r, 0, sizeof(*r));
		p += strspn(p, BLANK "|,");
		r->name = p;
		r->name_len = strcspn(p, BLANK ",|(:[<");
		p += r->name_len;
		if (*p == ':') /* :any, :native */
			p += strcspn(p, BLANK ",|([<");
		p += strspn(p, BLANK);
		if (*p == '(')
			p = read_restriction(p, r);
		p += strcspn(p, ",|");
		*last = *p != '|';
		if (r->name_len) {
			*pp = p;
			return true;
		}
	}
	return false;
}

static bool version_does(const struct relation *r, const char *version, size_t len)
{
	if (!r->op[0] || !r->version)
		return true;
	int d = deb_version_cmp(version, len, r->version, r->version_len);
	switch (r->op[0]) {
	case '<':
		return r->op[1] == '<' ? d < 0 : d <= 0;
	case '>':
		return r->op[1] == '>' ? d > 0 : d >= 0;
	default:
		return d == 0;
	}
}

/* Does "Provides: x (= 1)" do? Without a version it does only for a relation without one. */
static bool provision_does(const struct relation *r, const struct relation *as)
{
	if (!r->op[0])
		return true;
	return as->version && version_does(r, as->version, as->version_len);
}

/* --- paragraphs --------------------------------------------------------------------- */

static size_t hash_name(const char *name, size_t len)
{
	size_t h = 5381;

	for (size_t i = 0; i < len; i++)
		h = h * 33 ^ (unsigned char)name[i];
	return h ^ h >> 15;
}

struct deb *control_find(const struct control *c, const char *name, size_t len)
{
	struct deb *d = c->n_buckets ? c->buckets[hash_name(name, len) & (c->n_buckets - 1)] : NULL;

	while (d && (strlen(d->name) != len || memcmp(d->name, name, len)))
		d = d->next_same;
	return d;
}

static bool grow(struct control *c)
{
	size_t n = c->n_buckets ? c->n_buckets * 2 : 1024;
	struct deb **v = realloc(c->v, n * sizeof(struct deb *));
	struct deb **b = calloc(n, sizeof(struct deb *));

	if (v)
		c->v = v;
	if (!v || !b) {
		free(b);
		return false;
	}
	for (size_t i = 0; i < c->n; i++) {
		size_t h = hash_name(v[i]->name, strlen(v[i]->name)) & (n - 1);
		v[i]->next_same = b[h];
		b[h] = v[i];
	}
	free(c->buckets);
	c->buckets = b;
	c->n_buckets = c->cap = n;
	return true;
}

static bool keep(struct control *c, const struct deb *p, bool status)
{
	if (!p->name || !deb_name_ok(p->name) || !p->version || (status && !p->installed) ||
	    (p->arch && strcmp(p->arch, ARCH) && strcmp(p->arch, "all")))
		return true;
	struct deb *d = control_find(c, p->name, strlen(p->name));
	if (d) {
		struct deb *next = d->next_same;
		bool newer = !status && (d->installed || d->newer);
		*d = *p;
		d->next_same = next;
		d->newer = newer;
		return true;
	}
	if (c->n == c->cap && !grow(c))
		return false;
	d = malloc(sizeof(*d));
	if (!d)
		return false;
	*d = *p;
	c->v[c->n++] = d;
	size_t h = hash_name(d->name, strlen(d->name)) & (c->n_buckets - 1);
	d->next_same = c->buckets[h];
	c->buckets[h] = d;
	return true;
}

static void take_field(struct deb *p, const char *key, size_t len, const char *value)
{
	static const struct {
		const char *key;
		size_t at;
	} fields[] = {
		{"Package", offsetof(struct deb, name)},
		{"Version", offsetof(struct deb, version)},
		{"Architecture", offsetof(struct deb, arch)},
		{"Depends", offsetof(struct deb, depends)},
		{"Pre-Depends", offsetof(struct deb, pre_depends)},
		{"Provides", offsetof(struct deb, provides)},
		{"Conffiles", offsetof(struct deb, conffiles)},
		{"Filename", offsetof(struct deb, filename)},
		{"SHA256", offsetof(struct deb, sha256)},
		{"Size", offsetof(struct deb, size)},
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (strlen(fields[i].key) == len && !memcmp(fields[i].key, key, len))
			*(const char **)((char *)p + fields[i].at) = value;
	if (len == 9 && !memcmp(key, "Essential", 9) && !strcmp(value, "yes"))
		p->essential = p->system = true;
	if (len == 8 && !memcmp(key, "Priority", 8) && !strcmp(value, "required"))
		p->system = true;
	if (len == 6 && !memcmp(key, "Status", 6)) {
		size_t n = strlen(value);
		p->installed = n >= 10 && !strcmp(value + n - 10, " installed");
	}
}

/* End of a field: the newline after which the next line begins with anything but a blank. */
static char *field_end(char *p, char *end)
{
	while (p < end) {
		char *nl = memchr(p, '\n', (size_t)(end - p));
		if (!nl)
			return end;
		if (nl[1] != ' ' && nl[1] != '\t')
			return nl;
		p = nl + 1;
	}
	return end;
}

bool control_read(struct control *c, char *text, size_t size, bool status)
{
	char **texts = realloc(c->texts, (c->n_texts + 1) * sizeof(*texts));
	char *p = text, *end = text + size;
	struct deb d = {0};

	if (!texts) {
		free(text);
		return false;
	}
	c->texts = texts;
	texts[c->n_texts++] = text;
	free(c->provisions);
	c->provisions = NULL;
	c->n_provisions = c->cap_provisions = 0;
	c->sealed = false;
	while (p < end) {
		if (*p == '\n') {
			if (!keep(c, &d, status))
				return false;
			memset(&d, 0, sizeof(d));
			p++;
			continue;
		}
		char *fend = field_end(p, end), *colon = memchr(p, ':', (size_t)(fend - p));
		*fend = 0; /* at `end` it is the NUL that is there */
		if (colon) {
			char *value = colon + 1 + strspn(colon + 1, " \t");
			for (char *e = fend; e > value && strchr(" \t\r", e[-1]);)
				*--e = 0;
			take_field(&d, p, (size_t)(colon - p), value);
		}
		p = fend + 1;
	}
	return keep(c, &d, status);
}

void control_free(struct control *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->v[i]);
	for (size_t i = 0; i < c->n_texts; i++)
		free(c->texts[i]);
	free(c->v);
	free(c->texts);
	free(c->buckets);
	free(c->provisions);
	memset(c, 0, sizeof(*c));
}

/* --- who provides --------------------------------------------------------------------- */

static int compare_name(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int d = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return d ? d : (a_len > b_len) - (a_len < b_len);
}

static int by_name(const void *a, const void *b)
{
	const struct provision *x = a, *y = b;
	int d = compare_name(x->name, x->len, y->name, y->len);

	return d ? d : (x->order > y->order) - (x->order < y->order);
}

static bool seal(struct control *c)
{
	for (size_t i = 0; i < c->n; i++) {
		const char *p = c->v[i]->provides;
		struct relation as;
		bool last;
		while (relation_next(&p, &as, &last)) {
			if (c->n_provisions == c->cap_provisions) {
				size_t cap = c->cap_provisions ? c->cap_provisions * 2 : 256;
				struct provision *v = realloc(c->provisions, cap * sizeof(*v));
				if (!v)
					return false;
				c->provisions = v;
				c->cap_provisions = cap;
			}
			c->provisions[c->n_provisions++] =
				(struct provision){as.name, as.name_len, as, c->v[i], i};
		}
	}
	if (c->n_provisions)
		qsort(c->provisions, c->n_provisions, sizeof(*c->provisions), by_name);
	c->sealed = true;
	return true;
}

struct deb *control_satisfy(struct control *c, const struct relation *r)
{
	struct deb *d = control_find(c, r->name, r->name_len);

	if (d && version_does(r, d->version, strlen(d->version)))
		return d;
	if (!c->sealed && !seal(c))
		return NULL;
	size_t lo = 0, hi = c->n_provisions;
	while (lo < hi) {
		size_t mid = (lo + hi) / 2;
		const struct provision *v = &c->provisions[mid];
		if (compare_name(v->name, v->len, r->name, r->name_len) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	for (; lo < c->n_provisions; lo++) {
		const struct provision *v = &c->provisions[lo];
		if (compare_name(v->name, v->len, r->name, r->name_len))
			break;
		if (provision_does(r, &v->as))
			return v->by;
	}
	return NULL;
}
