/* SPDX-License-Identifier: ISC */
/*
 * The platform's memory: one SQLite file in WAL mode, data_dir/platform.db.
 *
 * Statements run on the loop's thread; they take microseconds. Each is a transaction of its own, unless it is between store_begin()
 * and store_commit(), and is committed to SQLite's log file without waiting for the disk; what waits is the answer:
 * store_barrier() calls back when all that was written before it is on disk. Many answers share one fdatasync, which a thread does.
 * The tables are in schema.c.
 *
 * After a crash of ours everything acknowledged is there, since SQLite's log has it; after a power failure, too, since it was synced.
 */
#ifndef COWBELL_PLATFORM_STORE_H
#define COWBELL_PLATFORM_STORE_H

#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>

/* 0, or an exit status after one line. Makes the file, or brings an older schema forward. */
int store_open(const char *path, bool sync);
void store_close(void);

/*
 * Run one statement that changes something or gives rows. Types of args by letters of `types`: s text (NULL allowed), i int64_t, d double.
 * row may be NULL. 0, or a SQLite error after one line in the log (SQLITE_FULL: callers answer 507/503 with a clear text; the
 * transaction is rolled back to before this statement).
 */
typedef void store_row(void *arg, sqlite3_stmt *st);
int store_exec(const char *sql, store_row *row, void *arg, const char *types, ...);
int64_t store_last_id(void);
/* Rows that the last statement changed. */
int store_changes(void);

/*
 * Several statements that count all or not at all. They nest: the outermost decides. 0 or a SQLite error; after an error of
 * store_exec() in between, call store_rollback() in place of store_commit(). A commit that fails has rolled back.
 */
int store_begin(void);
int store_commit(void);
void store_rollback(void);

/* The disk is full, but this change makes room: some that was held back is given. True: try it again. */
bool store_give_reserve(void);

/* done(arg, 0) when everything written until now would survive a power failure; done(arg, err) if that failed. Never called from inside. */
void store_barrier(void (*done)(void *arg, int err), void *arg);

#endif
