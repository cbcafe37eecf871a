/* SPDX-License-Identifier: ISC */
/*
 * Which packages a request means: the closure of Depends and Pre-Depends, not
 * of Recommends, over what is installed and what apt would fetch.
 *
 * Of a group of alternatives a package that is part already wins, then the
 * first that there is. What only makes an operating system (init scripts'
 * helpers, package managers) is not followed into, since no program at work
 * needs it; a request that names it gets it all the same. Libraries are
 * always followed, essential or not.
 *
 * The base counts as there: a package that depends on coreutils is content
 * with the part that the base has.
 */
#include <stdlib.h>
#include <string.h>

#include "image/build/debs.h"
#include "lib/host/say.h"

#define MAX_DEPTH 200

/* Dependencies that serve building or managing, not running. */
static const struct {
	const char *from, *to;
} idle_edges[] = {
	{"nodejs", "python3"}, /* a vendor's package: for node-gyp */
	{"ca-certificates", "openssl"}, /* for c_rehash */
	{"ca-certificates-java", "default-jre-headless"},
};

static bool starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

static bool is_unneeded(const struct deb *from, const struct deb *d)
{
	static const char *const names[] = {"adduser",	    "apt",	   "bash",
					    "bsdutils",	    "cron",	   "dbus",
					    "debconf",	    "debianutils", "diffutils",
					    "dirmngr",	    "dpkg",	   "findutils",
					    "gnupg",	    "gpgv",	   "gzip",
					    "hostname",	    "info",	   "init-system-helpers",
					    "install-info", "iproute2",	   "logrotate",
					    "lsb-base",	    "man-db",	   "mount",
					    "ncurses-bin",  "passwd",	   "po-debconf",
					    "procps",	    "psmisc",	   "sensible-utils",
					    "sgml-base",    "systemd",	   "sysvinit-utils",
					    "tar",	    "ucf",	   "udev",
					    "update-inetd", "util-linux",  "x11-common",
					    "xml-core",	    "perl-base",   "login"};

	for (size_t i = 0; i < sizeof(idle_edges) / sizeof(idle_edges[0]); i++)
		if (!strcmp(from->name, idle_edges[i].from) && !strcmp(d->name, idle_edges[i].to))
			return true;
	if (!strcmp(d->name, "perl-base"))
		return !starts(from->name, "perl") && !starts(from->name, "lib");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(d->name, names[i]))
			return true;
	return d->system && !starts(d->name, "lib") && strcmp(d->name, "zlib1g");
}

static void visit(struct debs *d, struct deb *p, int mark, int depth);

static void follow(struct debs *d, const struct deb *from, const char *field, int mark, int depth)
{
	struct deb *found = NULL;
	struct relation r, first = {0};
	bool last, here = false;

	while (relation_next(&field, &r, &last)) {
		struct deb *p = here ? NULL : control_satisfy(d->db, &r);
		if (!first.name)
			first = r;
		if (p && (!found || p->mark != DEB_NO)) {
			found = p;
			here = p->mark != DEB_NO;
		}
		if (!last)
			continue;
		if (found && !is_unneeded(from, found))
			visit(d, found, mark, depth + 1);
		else if (!found && !from->installed) /* apt's records know it, or it is beyond help */
			strings_addf(&d->missing, "%.*s", (int)first.name_len, first.name);
		found = NULL;
		here = false;
		first.name = NULL;
	}
}

static void visit(struct debs *d, struct deb *p, int mark, int depth)
{
	if (p->mark != DEB_NO || depth > MAX_DEPTH)
		return;
	p->mark = mark;
	follow(d, p, p->pre_depends, mark, depth);
	follow(d, p, p->depends, mark, depth);
}

/* What the base has: parts of packages, and whole ones that these depend on. */
static void mark_base(struct debs *d)
{
	int part = d->base ? DEB_PART : DEB_BELOW_PART, full = d->base ? DEB_FULL : DEB_BELOW;

	for (const struct base_part *b = base_parts; b->name; b++) {
		struct deb *p = control_find(d->db, b->name, strlen(b->name));
		if (p)
			p->mark = part;
		else if (d->base)
			strings_add(&d->missing_base, b->name);
	}
	for (const struct base_part *b = base_parts; b->name; b++) {
		struct deb *p = control_find(d->db, b->name, strlen(b->name));
		if (p && b->follow) {
			follow(d, p, p->pre_depends, full, 0);
			follow(d, p, p->depends, full, 0);
		}
	}
}

/* What a request names comes whole, even where the base has a part of it. */
static void mark_named(struct debs *d, const struct strings *names, int mark)
{
	for (size_t i = 0; i < names->n; i++) {
		struct relation r = {.name = names->v[i], .name_len = strlen(names->v[i])};
		struct deb *p = control_satisfy(d->db, &r);
		if (!p) {
			strings_add_once(&d->missing, names->v[i]);
			continue;
		}
		if (mark == DEB_FULL && !d->first)
			d->first = p;
		if (p->mark == DEB_PART || p->mark == DEB_BELOW_PART)
			p->mark = DEB_NO;
		visit(d, p, mark, 0);
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(struct deb *const *)a)->name, (*(struct deb *const *)b)->name);
}

int debs_mark(struct debs *d, const struct strings *packages, const struct strings *below)
{
	strings_free(&d->missing);
	strings_free(&d->missing_base);
	d->first = NULL;
	d->n = 0;
	for (size_t i = 0; i < d->db->n; i++)
		d->db->v[i]->mark = DEB_NO;
	mark_base(d);
	if (below)
		mark_named(d, below, DEB_BELOW);
	mark_named(d, packages, DEB_FULL);
	for (size_t i = 0; i < d->db->n; i++) {
		struct deb *p = d->db->v[i];
		if (p->newer && (p->mark == DEB_BELOW || p->mark == DEB_BELOW_PART))
			p->mark = DEB_FULL; /* what is below has the version that is installed */
		if (p->mark != DEB_PART && p->mark != DEB_FULL)
			continue;
		if (d->n == d->cap) {
			size_t cap = d->cap ? d->cap * 2 : 128;
			struct deb **v = realloc(d->v, cap * sizeof(*v));
			if (!v)
				return out_fail(EXIT_OURS, "out of memory");
			d->v = v;
			d->cap = cap;
		}
		d->v[d->n++] = p;
	}
	if (d->n)
		qsort(d->v, d->n, sizeof(struct deb *), by_name);
	return 0;
}
