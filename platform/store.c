/* SPDX-License-Identifier: ISC */
/*
 * The store: platform.db, SQLite in WAL mode, and when its log reaches the disk.
 *
 * Owns the connection, its prepared statements, and the room that is held back; the syncs are store_sync.c's.
 *
 *   loop's thread      store_exec(): BEGIN .. COMMIT -> pages are appended to the log file (page cache; no waiting)
 *   syncer's thread    fdatasync(log), for all barriers that wait
 *   a pool's thread    checkpoint, through a connection of its own: log -> platform.db, when the log is long
 *
 * With synchronous=NORMAL SQLite itself syncs only in a checkpoint (the log before pages are copied, the database after that) and when
 * it starts the log anew, so a power failure never leaves a torn database; what it may lose are commits at the end of the
 * log, and those nobody has been told of: an answer waits for its barrier.
 *
 * Bounds: a checkpoint begins when the log has CHECKPOINT_PAGES more pages; if writers are so busy that it cannot be started anew (a
 * checkpoint copies only what was there when it began) and it has HARD_PAGES, the loop makes one itself. The
 * statement cache has CACHE entries; their SQL is constant text of the parts, so it does not grow by what clients say.
 *
 * Failures: a statement that fails has changed nothing. Disk full is told to the caller, who answers 507; reading goes on, and
 * writing works again when there is room. A file `reserve` beside the store holds some room back for changes that make room: who
 * destroys an app gets a piece of it. It is filled again after a checkpoint.
 * After a sync that failed every change is refused.
 */
#include "platform/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "lib/host/strings.h"
#include "platform/platform.h"
#include "platform/schema.h"
#include "platform/store_sync.h"

#define CHECKPOINT_PAGES 2000 /* of 4 KiB */
#define HARD_PAGES	 32000
#define CACHE		 256
#define RESERVE_BYTES	 (2 << 20)
#define RESERVE_PIECE	 (128 << 10)

static struct {
	sqlite3 *db;
	char *path;
	bool closing;
	unsigned depth; /* of transactions */
	bool failed; /* the open one was rolled back within */
	int log_pages; /* of the log after the last commit */
	int checked_pages; /* of the log when the last checkpoint ended */
	bool checkpointing;
	uv_work_t checkpoint;
	struct {
		const char *sql;
		sqlite3_stmt *st;
	} cache[CACHE];
} S;

/* --- a reserve of the disk -------------------------------------------------------------------------------- */

static int reserve_fd = -1;

static void fill_reserve(void)
{
	struct stat st;

	if (reserve_fd >= 0 && !fstat(reserve_fd, &st) && st.st_size < RESERVE_BYTES &&
	    !fallocate(reserve_fd, 0, 0, RESERVE_BYTES))
		return;
}

static void open_reserve(const char *path)
{
	char *name = textf("%.*s/reserve", (int)(strrchr(path, '/') - path), path);

	reserve_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	free(name);
	fill_reserve();
}

bool store_give_reserve(void)
{
	struct stat st;

	if (reserve_fd < 0 || fstat(reserve_fd, &st) || st.st_size <= 0)
		return false;
	off_t less = st.st_size > RESERVE_PIECE ? st.st_size - RESERVE_PIECE : 0;
	return !ftruncate(reserve_fd, less);
}

/* --- checkpoints ------------------------------------------------------------------------------------------ */

static void checkpoint_run(uv_work_t *w)
{
	sqlite3 *db;

	if (!sqlite3_open_v2(S.path, &db, SQLITE_OPEN_READWRITE, NULL)) {
		sqlite3_busy_timeout(db, 100);
		sqlite3_exec(db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
		sqlite3_wal_checkpoint_v2(db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
	}
	sqlite3_close(db);
}

static void checkpoint_ended(uv_work_t *w, int status)
{
	S.checkpointing = false;
	if (S.closing || !S.db)
		return;
	S.checked_pages = S.log_pages;
	fill_reserve();
	if (S.log_pages > HARD_PAGES) {
		uint64_t t = now_ns();
		sqlite3_wal_checkpoint_v2(S.db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
		plog("debug", NULL, "store: a checkpoint on the loop took %.1f ms",
		     (double)(now_ns() - t) / 1e6);
	}
}

static void begin_checkpoint(void)
{
	if (S.checkpointing || S.closing)
		return;
	S.checkpointing = !uv_queue_work(loop, &S.checkpoint, checkpoint_run, checkpoint_ended);
}

/* After each commit: the pages that are in the log. SQLite starts it anew by itself when all of it was copied. */
static int committed(void *arg, sqlite3 *db, const char *name, int pages)
{
	sync_written();
	if (pages < S.log_pages)
		S.checked_pages = 0;
	S.log_pages = pages;
	if (pages - S.checked_pages >= CHECKPOINT_PAGES)
		begin_checkpoint();
	return SQLITE_OK;
}

/* --- statements ------------------------------------------------------------------------------------------- */

/* A statement that is not in use, and whether it must be finalized afterwards. */
static int prepare(const char *sql, sqlite3_stmt **st, bool *own)
{
	size_t h = 5381, tries = 0;

	for (const char *p = sql; *p; p++)
		h = h * 33 ^ (unsigned char)*p;
	*own = false;
	for (size_t i = h % CACHE; tries < 8; i = (i + 1) % CACHE, tries++) {
		if (!S.cache[i].sql) {
			int rc = sqlite3_prepare_v3(S.db, sql, -1, SQLITE_PREPARE_PERSISTENT, st, NULL);
			if (rc)
				return rc;
			S.cache[i].sql = xstrdup(sql);
			S.cache[i].st = *st;
			return 0;
		}
		if (strcmp(S.cache[i].sql, sql))
			continue;
		*st = S.cache[i].st;
		if (!sqlite3_stmt_busy(*st))
			return 0;
		break; /* it runs already: its row function called us */
	}
	*own = true;
	return sqlite3_prepare_v2(S.db, sql, -1, st, NULL);
}

static void bind_args(sqlite3_stmt *st, const char *types, va_list ap)
{
	for (int i = 1; *types; types++, i++) {
		const char *text;
		switch (*types) {
		case 's':
			text = va_arg(ap, const char *);
			if (text)
				sqlite3_bind_text(st, i, text, -1, SQLITE_STATIC);
			else
				sqlite3_bind_null(st, i);
			break;
		case 'i':
			sqlite3_bind_int64(st, i, va_arg(ap, int64_t));
			break;
		case 'd':
			sqlite3_bind_double(st, i, va_arg(ap, double));
			break;
		default:
			abort(); /* our bug */
		}
	}
}

static int run(sqlite3_stmt *st, store_row *row, void *arg)
{
	int rc;

	while ((rc = sqlite3_step(st)) == SQLITE_ROW)
		if (row)
			row(arg, st);
	return rc == SQLITE_DONE ? 0 : rc;
}

static int failed(const char *sql, int rc)
{
	if (S.depth && sqlite3_get_autocommit(S.db))
		S.failed = true; /* SQLite rolled all of it back */
	if ((rc & 0xff) == SQLITE_FULL)
		begin_checkpoint(); /* then the log begins anew in the room that it has: apps can be destroyed */
	plog("error", NULL, "store: %s (%.60s)",
	     sync_broken() ? "the disk failed before" : sqlite3_errmsg(S.db), sql);
	return rc & 0xff;
}

int store_exec(const char *sql, store_row *row, void *arg, const char *types, ...)
{
	sqlite3_stmt *st = NULL;
	bool own = false;
	va_list ap;
	int rc;

	if (S.failed)
		return SQLITE_ABORT;
	rc = prepare(sql, &st, &own);
	if (rc)
		return failed(sql, rc);
	if (sync_broken() && !sqlite3_stmt_readonly(st)) {
		if (own)
			sqlite3_finalize(st);
		return failed(sql, SQLITE_IOERR);
	}
	va_start(ap, types);
	bind_args(st, types ? types : "", ap);
	va_end(ap);
	rc = run(st, row, arg);
	if (rc)
		rc = failed(sql, rc);
	if (own) {
		sqlite3_finalize(st);
	} else {
		sqlite3_reset(st);
		sqlite3_clear_bindings(st);
	}
	return rc;
}

int64_t store_last_id(void)
{
	return sqlite3_last_insert_rowid(S.db);
}

int store_changes(void)
{
	return sqlite3_changes(S.db);
}

int store_begin(void)
{
	if (S.depth++)
		return S.failed ? SQLITE_ABORT : 0;
	S.failed = false;
	int rc = store_exec("BEGIN", NULL, NULL, NULL);
	if (rc) {
		S.depth = 0;
		S.failed = false;
	}
	return rc;
}

void store_rollback(void)
{
	if (!S.depth)
		return;
	S.failed = true;
	if (--S.depth)
		return;
	S.failed = false;
	if (!sqlite3_get_autocommit(S.db))
		store_exec("ROLLBACK", NULL, NULL, NULL);
}

int store_commit(void)
{
	if (S.failed) {
		store_rollback();
		return SQLITE_ABORT;
	}
	if (--S.depth)
		return 0;
	int rc = store_exec("COMMIT", NULL, NULL, NULL);
	if (rc && !sqlite3_get_autocommit(S.db))
		store_exec("ROLLBACK", NULL, NULL, NULL);
	return rc;
}

/* --- opening and closing ---------------------------------------------------------------------------------- */

static int configure(const char *path)
{
	static const char *const pragmas[] = {
		"PRAGMA journal_mode = WAL",	 "PRAGMA synchronous = NORMAL",
		"PRAGMA wal_autocheckpoint = 0", "PRAGMA foreign_keys = ON",
		"PRAGMA cache_size = -16384",	 "PRAGMA journal_size_limit = 16777216",
		"PRAGMA temp_store = MEMORY"};

	for (size_t i = 0; i < sizeof(pragmas) / sizeof(*pragmas); i++)
		if (sqlite3_exec(S.db, pragmas[i], NULL, NULL, NULL))
			return say_fail(EXIT_OURS, "serve: %s: %s", path, sqlite3_errmsg(S.db));
	return 0;
}

/* The name of a new file is on disk only when its directory is. */
static int sync_directory(const char *path)
{
	char *dir = xstrndup(path, (size_t)(strrchr(path, '/') - path));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = fd < 0 || fsync(fd) ? errno : 0;

	if (fd >= 0)
		close(fd);
	free(dir);
	return err ? say_fail(EXIT_OURS, "serve: %s: %s", path, strerror(err)) : 0;
}

/* The log exists from the first change on: make one, so that it can be opened. */
static int open_log(const char *path, bool sync)
{
	char *log = textf("%s-wal", path);
	int rc = store_exec("INSERT OR REPLACE INTO facts VALUES ('opened', strftime('%s', 'now'))", NULL,
			    NULL, NULL);

	if (rc)
		rc = say_fail(EXIT_OURS, "serve: %s: %s", path, sqlite3_errmsg(S.db));
	else
		rc = sync_open(log, sync);
	free(log);
	return rc;
}

int store_open(const char *path, bool sync)
{
	int rc;

	S.path = xstrdup(path);
	if (sqlite3_open_v2(path, &S.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW,
			    NULL))
		return say_fail(EXIT_OURS, "serve: %s: %s", path, sqlite3_errmsg(S.db));
	sqlite3_busy_timeout(S.db, 10000);
	sqlite3_extended_result_codes(S.db, 1);
	rc = configure(path);
	if (!rc)
		rc = schema_bring_forward(S.db, path);
	sqlite3_wal_hook(S.db, committed, NULL);
	if (!rc)
		rc = open_log(path, sync);
	if (!rc)
		open_reserve(path);
	if (!rc && sync)
		rc = sync_directory(path);
	return rc;
}

void store_close(void)
{
	if (!S.db)
		return;
	S.closing = true;
	sync_close();
	if (reserve_fd >= 0)
		close(reserve_fd);
	for (size_t i = 0; i < CACHE; i++) {
		sqlite3_finalize(S.cache[i].st);
		free((char *)S.cache[i].sql);
	}
	if (sqlite3_close(S.db) != SQLITE_OK)
		plog("error", NULL, "store: closing: %s", sqlite3_errmsg(S.db));
	S.db = NULL;
}
