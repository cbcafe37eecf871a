/* SPDX-License-Identifier: ISC */
/* What can be set, as one table: the configuration's file and options, and the limits of an app. See settings.c. */
#ifndef COWBELL_PLATFORM_SETTINGS_H
#define COWBELL_PLATFORM_SETTINGS_H

#include <stdio.h>

#include "platform/platform.h"

enum setting_type {
	SET_STRING, /* const char *; "" is NULL */
	SET_PATH, /* the same, made absolute */
	SET_LISTEN, /* [ADDR:]PORT */
	SET_DOMAIN, /* a host name, lower case */
	SET_CHOICE, /* one of `choices` */
	SET_BOOL,
	SET_COUNT, /* unsigned */
	SET_SIZE, /* uint64_t, bytes */
	SET_TIME, /* uint64_t, ns */
	SET_EGRESS /* char[512]: rules of `cowbell run --egress`, or "public" */
};

struct setting {
	const char *key; /* as in the file; the option is the same with '-' for '_' */
	enum setting_type type;
	size_t at; /* in struct config; in struct limits for those of the table `limits_settings` */
	uint64_t min, max; /* of counts, sizes and times */
	const char *def; /* default, as it would be written */
	const char *doc; /* lines of the documentation, without '#' */
	const char *choices; /* "auto|kvm|process" */
};

/* Both end with an entry whose key is NULL. */
extern const struct setting config_settings[], limits_settings[];

const struct setting *setting_find(const struct setting *table, const char *key);
/* The key that is most like this one, or NULL. */
const char *setting_like(const struct setting *table, const char *key);
/* Take a value; false with a reason ("must be ..."), nothing is changed then. base: the struct. */
bool setting_parse(const struct setting *s, void *base, const char *text, char why[160]);
/* As it would be written, without quotes. */
void setting_format(const struct setting *s, const void *base, char *out, size_t size);

bool parse_size(const char *text, uint64_t *bytes);
bool parse_time(const char *text, uint64_t *ns);
/* A host name of letters, digits, '-' and '.'; lower case only. */
bool valid_hostname(const char *name);

/* config.c: from defaults, the file and options. -1: go on; else the exit status (also of --help and --print-config). */
int config_open(int argc, char **argv);
/* --check was given: all of the configuration was read; do no more. */
bool config_new_admin_token(void);
void config_print(FILE *f);

#endif
