/* SPDX-License-Identifier: ISC */
/*
 * The schema of platform.db, and how an older one becomes a newer one.
 *
 * PRAGMA user_version is the number of steps of `steps` that were taken. A step is never edited once it was released: a
 * change is a new step at the end. Each is taken in a transaction of its own together with its number, so a crash leaves the
 * one or the other. A file of a newer Cowbell is refused: what it means is not known here.
 *
 * Times are microseconds since 1970 (INTEGER). Ids are UUIDs as text. Whose table it is, is said at each: the owner writes it by
 * store_exec(); others may read. Rows of an app go with it (ON DELETE CASCADE), so the owner of a table need not.
 */
#include "platform/schema.h"

#include <stdio.h>

#include "lib/host/say.h"

static const char step1[] =
	/* --- the model's (model_*.c): written by its functions only, since memory holds a copy --- */
	"CREATE TABLE users ("
	" id TEXT PRIMARY KEY, email TEXT NOT NULL UNIQUE, name TEXT NOT NULL DEFAULT '',"
	" admin INTEGER NOT NULL DEFAULT 0, created_us INTEGER NOT NULL) WITHOUT ROWID;"

	/* Tokens of users. hash: SHA-256 of the token, 64 lower-case hexadecimal digits; the token itself is nowhere. */
	"CREATE TABLE tokens ("
	" id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE, hash TEXT NOT "
	"NULL UNIQUE,"
	" description TEXT NOT NULL DEFAULT '', created_us INTEGER NOT NULL,"
	" expires_us INTEGER) WITHOUT ROWID;" /* NULL: never */
	"CREATE INDEX tokens_user ON tokens(user_id);"

	/* limits: JSON of those that differ from the configuration, or NULL. release: number of the current one, 0: none.
	 * last_release: the highest that was ever given, so that a failed one's number is not given again. */
	"CREATE TABLE apps ("
	" id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, owner_id TEXT NOT NULL REFERENCES users(id),"
	" maintenance INTEGER NOT NULL DEFAULT 0, locked INTEGER NOT NULL DEFAULT 0, limits TEXT,"
	" release INTEGER NOT NULL DEFAULT 0, last_release INTEGER NOT NULL DEFAULT 0,"
	" created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, released_us INTEGER NOT NULL DEFAULT 0) "
	"WITHOUT ROWID;"
	"CREATE INDEX apps_owner ON apps(owner_id);"

	/* status: succeeded, pending (its release phase runs), failed. image NULL and slug_id '': nothing was pushed yet.
	 * config, types: JSON objects. */
	"CREATE TABLE releases ("
	" app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, version INTEGER NOT NULL, id TEXT NOT "
	"NULL,"
	" status TEXT NOT NULL, description TEXT NOT NULL DEFAULT '', user_id TEXT, slug_id TEXT NOT NULL "
	"DEFAULT '',"
	" image TEXT, image_bytes INTEGER NOT NULL DEFAULT 0, config TEXT NOT NULL DEFAULT '{}', types TEXT "
	"NOT NULL DEFAULT '{}',"
	" created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, PRIMARY KEY (app_id, version)) WITHOUT "
	"ROWID;"

	"CREATE TABLE formation ("
	" app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, type TEXT NOT NULL, id TEXT NOT NULL,"
	" command TEXT NOT NULL DEFAULT '', quantity INTEGER NOT NULL, size TEXT NOT NULL DEFAULT 'Basic',"
	" created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, PRIMARY KEY (app_id, type)) WITHOUT "
	"ROWID;"

	"CREATE TABLE domains ("
	" id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, hostname TEXT NOT "
	"NULL UNIQUE,"
	" cert_id TEXT NOT NULL DEFAULT '', created_us INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX domains_app ON domains(app_id);"

	"CREATE TABLE collaborators ("
	" app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, user_id TEXT NOT NULL REFERENCES "
	"users(id) ON DELETE CASCADE,"
	" id TEXT NOT NULL, created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, PRIMARY KEY (app_id, "
	"user_id)) WITHOUT ROWID;"
	"CREATE INDEX collaborators_user ON collaborators(user_id);"

	/* Names of apps that were destroyed: until then only their last owner may take them. */
	"CREATE TABLE tombstones ("
	" name TEXT PRIMARY KEY, owner_id TEXT NOT NULL, until_us INTEGER NOT NULL) WITHOUT ROWID;"

	/* --- the API's ------------------------------------------------------------------------- */
	/* Certificates of an app ("sni endpoints"). chain, key: PEM. info: JSON of what was read out of it. */
	"CREATE TABLE certs ("
	" id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, name TEXT NOT "
	"NULL,"
	" chain TEXT NOT NULL, key TEXT NOT NULL, info TEXT NOT NULL DEFAULT '{}',"
	" created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX certs_app ON certs(app_id);"

	/* Labs of an app, or of a user: those that are on. owner_id: the id of either. */
	"CREATE TABLE features ("
	" owner_id TEXT NOT NULL, name TEXT NOT NULL, created_us INTEGER NOT NULL, PRIMARY KEY (owner_id, "
	"name)) WITHOUT ROWID;"

	/* Public keys of users (heroku keys). */
	"CREATE TABLE keys ("
	" id TEXT PRIMARY KEY, user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE, fingerprint "
	"TEXT NOT NULL,"
	" comment TEXT NOT NULL DEFAULT '', public_key TEXT NOT NULL, created_us INTEGER NOT NULL) WITHOUT "
	"ROWID;"
	"CREATE INDEX keys_user ON keys(user_id);"

	/* Processes that run at set times. schedule: a line of crontab's five fields. */
	"CREATE TABLE jobs ("
	" id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, command TEXT NOT "
	"NULL,"
	" schedule TEXT NOT NULL, size TEXT NOT NULL DEFAULT 'Basic', created_us INTEGER NOT NULL, last_us "
	"INTEGER) WITHOUT ROWID;"
	"CREATE INDEX jobs_app ON jobs(app_id);"

	/* --- the builds' ------------------------------------------------------------------------- */
	/* status: pending, succeeded, failed. source: JSON of what the client said. output: the last part of it. */
	"CREATE TABLE builds ("
	" id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, user_id TEXT, "
	"status TEXT NOT NULL,"
	" stack TEXT NOT NULL DEFAULT '', source TEXT NOT NULL DEFAULT '{}', version TEXT, slug_id TEXT NOT "
	"NULL DEFAULT '',"
	" release INTEGER NOT NULL DEFAULT 0, why TEXT, output TEXT,"
	" created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX builds_app ON builds(app_id, created_us);"

	/* What builds made. image: its name in the image store; types: {"web":"command"}; `commit` as the client said it. */
	"CREATE TABLE slugs ("
	" id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, image TEXT NOT "
	"NULL,"
	" bytes INTEGER NOT NULL DEFAULT 0, types TEXT NOT NULL DEFAULT '{}', \"commit\" TEXT, description "
	"TEXT,"
	" checksum TEXT, created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX slugs_app ON slugs(app_id, created_us);"

	/* --- the logs' --------------------------------------------------------------------------- */
	"CREATE TABLE drains ("
	" id TEXT PRIMARY KEY, app_id TEXT NOT NULL REFERENCES apps(id) ON DELETE CASCADE, url TEXT NOT NULL,"
	" token TEXT NOT NULL, created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL) WITHOUT ROWID;"
	"CREATE INDEX drains_app ON drains(app_id);"

	/* --- anybody's: small facts of the server itself, such as secrets that are made once ------ */
	"CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;";

static const char *const steps[] = {step1};
#define N_STEPS ((int)(sizeof(steps) / sizeof(*steps)))

static int version_of(sqlite3 *db, int *version)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &st, NULL);

	if (rc)
		return rc;
	rc = sqlite3_step(st);
	*version = rc == SQLITE_ROW ? sqlite3_column_int(st, 0) : 0;
	sqlite3_finalize(st);
	return rc == SQLITE_ROW ? 0 : rc;
}

static int take_step(sqlite3 *db, int n)
{
	char number[48];
	int rc = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	snprintf(number, sizeof(number), "PRAGMA user_version = %d", n + 1);
	if (!rc)
		rc = sqlite3_exec(db, steps[n], NULL, NULL, NULL);
	if (!rc)
		rc = sqlite3_exec(db, number, NULL, NULL, NULL);
	if (!rc)
		return sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
	return rc;
}

int schema_bring_forward(sqlite3 *db, const char *path)
{
	int version = 0;

	if (version_of(db, &version))
		return say_fail(EXIT_OURS, "serve: %s: %s", path, sqlite3_errmsg(db));
	if (version > N_STEPS)
		return say_fail(EXIT_OURS,
				"serve: %s is of a newer Cowbell (its schema is %d, this one knows %d)", path,
				version, N_STEPS);
	for (; version < N_STEPS; version++)
		if (take_step(db, version))
			return say_fail(EXIT_OURS, "serve: %s: bringing it to schema %d: %s", path,
					version + 1, sqlite3_errmsg(db));
	return 0;
}
