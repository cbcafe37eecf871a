/* SPDX-License-Identifier: ISC */
/* Tables of platform.db: see schema.c. */
#ifndef COWBELL_PLATFORM_SCHEMA_H
#define COWBELL_PLATFORM_SCHEMA_H

#include <sqlite3.h>

/* Make the tables, or bring those of an older Cowbell forward. 0, or an exit status after one line. */
int schema_bring_forward(sqlite3 *db, const char *path);

#endif
