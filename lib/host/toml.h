/* SPDX-License-Identifier: ISC */
/* TOML, flattened: see toml.c. */
#ifndef COWBELL_LIB_HOST_TOML_H
#define COWBELL_LIB_HOST_TOML_H

#include <stdbool.h>
#include <stddef.h>

#define TOML_MAX_DEPTH 16

enum toml_type {
	TOML_STRING,
	TOML_INTEGER,
	TOML_BOOL,
	TOML_OTHER /* float, date, time: text as written */,
	TOML_TABLE,
	TOML_ARRAY
};

/* One value. Path: key, 0x1f, key...; an array's entries have their number as key ("dependencies\x1f0"). */
struct toml_entry {
	char *path;
	char *value; /* text; "" for tables and arrays */
	enum toml_type type;
	int line;
	bool closed; /* table or array that may not be added to: written inline */
	bool headed; /* table that had its [header] */
};

struct toml {
	struct toml_entry *v; /* in the file's order; a table comes before what is in it */
	size_t n, cap;
	char error[160]; /* "line 3: ..." when toml_parse() fails */
};

/* False with out->error. Free in either case. */
bool toml_parse(const char *text, size_t n, struct toml *out);
void toml_free(struct toml *t);
/* Path with '/' between keys, such as "build/packages"; NULL: not there. Keys with a slash in them are found by walking v. */
const struct toml_entry *toml_find(const struct toml *t, const char *path);
/* Next entry right below `path` ("" for the top) after number *at, which begins at 0; its last key in *key. NULL: no more. */
const struct toml_entry *toml_next(const struct toml *t, const char *path, size_t *at, const char **key);

#endif
