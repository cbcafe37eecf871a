/* SPDX-License-Identifier: ISC */
/* Debian control data: packages and their relations, as dpkg's status and apt's records have them. See control.c. */
#ifndef COWBELL_IMAGE_CONTROL_H
#define COWBELL_IMAGE_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

/* One version of a package. Strings lie in the database's text; NULL where the field is missing. */
struct deb {
	const char *name, *version, *arch, *depends, *pre_depends, *provides;
	const char *conffiles; /* lines " PATH MD5" */
	const char *filename, *sha256, *size; /* of apt's records */
	bool essential; /* there on every Debian machine, so nothing says that it depends on it */
	bool system; /* that, or of priority required */
	bool installed;
	bool newer; /* a record of apt's stands in the place of what is installed */
	int mark; /* the caller's */
	struct deb *next_same; /* further ones in the same hash bucket */
};

struct control {
	struct deb **v; /* in the order they were read */
	size_t n, cap;
	char **texts;
	size_t n_texts;
	struct deb **buckets;
	size_t n_buckets;
	struct provision *provisions; /* sorted by name once sealed */
	size_t n_provisions, cap_provisions;
	bool sealed;
};

/*
 * Read paragraphs into the database, which takes `text` over (malloc'ed, NUL at text[size]). status: dpkg's, where only packages that are
 * installed count; else apt's records, of packages that could be. Of packages of another architecture nothing is kept. A package that is there already
 * under the same name is replaced. False: out of memory.
 */
bool control_read(struct control *c, char *text, size_t size, bool status);
void control_free(struct control *c);
/* A package by its own name, or NULL. */
struct deb *control_find(const struct control *c, const char *name, size_t len);

/* One alternative of a relation: name, and the versions that will do. */
struct relation {
	const char *name;
	size_t name_len;
	char op[3]; /* "", "<<", "<=", "=", ">=", ">>" */
	const char *version;
	size_t version_len;
};

/*
 * Iterate over a relation field: the next alternative into *r; *last: it is the last of its group ("a | b" is a group).
 * Start with *p = the field; false at its end. What makes no sense is skipped.
 */
bool relation_next(const char **p, struct relation *r, bool *last);
/* A package of the database that does: by name, else the first that provides it. */
struct deb *control_satisfy(struct control *c, const struct relation *r);

/* <0, 0, >0 as Debian orders versions. */
int deb_version_cmp(const char *a, size_t a_len, const char *b, size_t b_len);
/* A name that a package may have: what is safe to hand to a tool. */
bool deb_name_ok(const char *name);

#endif
