/* SPDX-License-Identifier: ISC */
/*
 * Source URLs: POST /sources gives a pair of them, PUT sends a tar to the one, GET reads it from the other, and a build takes it away.
 *
 *   /sources/EXPIRY-NAME-MAC    EXPIRY: seconds since 1970, hexadecimal; NAME: 24 random hexadecimal digits; MAC: over "put" or "get",
 *                               EXPIRY and NAME, with a secret of this server
 *
 * The first USER_LEN digits of NAME say whose it is, without telling it: a user may have SOURCES_USER_MAX waiting, of together as many bytes as
 * four of the largest. The URL itself is the permission, as with any object store's signed ones; nothing is remembered for one that was
 * never used, and it is good after a restart, too. The file is data_dir/sources/source-NAME, from the moment when the whole body was there. A
 * source serves one build: it becomes the build's. What nobody takes goes when it expires (an hour).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "platform/build_inside.h"
#include "platform/store.h"

#define LEAST_FREE	 (256ull << 20) /* or a twentieth of the disk, if that is less */
#define LIFE_S		 3600
#define NAME_LEN	 24
#define USER_LEN	 8
#define SOURCES_USER_MAX 200
#define SEND_BYTES	 (64u << 10)

static char secret[65];

/* --- URLs ------------------------------------------------------------------------------------------------------------ */

void source_mac(const char *what, const char *text, char out[33])
{
	unsigned char d[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	char both[256];

	snprintf(both, sizeof(both), "%s\n%s", what, text);
	HMAC(EVP_sha256(), secret, (int)strlen(secret), (const unsigned char *)both, strlen(both), d, &n);
	for (unsigned i = 0; i < 16; i++)
		snprintf(out + 2 * i, 3, "%02x", d[i]);
}

void source_make(const char *base, const struct user *u, char **put_url, char **get_url)
{
	char name[NAME_LEN + 1], text[64], mac[33];
	size_t size = strlen(base) + 128;

	source_mac("user", u->id, mac);
	memcpy(name, mac, USER_LEN);
	make_token(name + USER_LEN, NAME_LEN - USER_LEN);
	snprintf(text, sizeof(text), "%llx-%s", (unsigned long long)real_us() / 1000000u + LIFE_S, name);
	*put_url = xcalloc(1, size);
	*get_url = xcalloc(1, size);
	source_mac("put", text, mac);
	snprintf(*put_url, size, "%s/sources/%s-%s", base, text, mac);
	source_mac("get", text, mac);
	snprintf(*get_url, size, "%s/sources/%s-%s", base, text, mac);
}

/* "EXPIRY-NAME-MAC" to NAME, if it is good for this. */
static bool check(const char *what, const char *p, size_t n, char name[NAME_LEN + 1])
{
	char text[64], mac[33], *end;

	if (n < 33 + NAME_LEN + 3 || n > 80 || p[n - 33] != '-')
		return false;
	size_t len = n - 33;
	if (len >= sizeof(text))
		return false;
	memcpy(text, p, len);
	text[len] = 0;
	source_mac(what, text, mac);
	if (CRYPTO_memcmp(mac, p + n - 32, 32))
		return false;
	unsigned long long expiry = strtoull(text, &end, 16);
	if (*end != '-' || strlen(end + 1) != NAME_LEN || (int64_t)expiry < real_us() / 1000000)
		return false;
	memcpy(name, end + 1, NAME_LEN + 1);
	return true;
}

static void file_of(const char *name, char *out, size_t size)
{
	snprintf(out, size, "%s/sources/source-%s", config.data_dir, name);
}

char *source_take(const char *url, bool *ours)
{
	const char *p = strstr(url, "/sources/");
	char name[NAME_LEN + 1], from[4096], token[25], *to;

	*ours = p && check("get", p + 9, strlen(p + 9), name);
	if (!*ours)
		return NULL;
	file_of(name, from, sizeof(from));
	make_token(token, 24);
	size_t size = strlen(config.data_dir) + 64;
	to = xcalloc(1, size);
	snprintf(to, size, "%s/sources/build-%s", config.data_dir, token);
	if (!rename(from, to))
		return to;
	free(to);
	return NULL;
}

/* --- old ones ---------------------------------------------------------------------------------------------------------- */

static uv_timer_t sweeper;

static void sweep(uv_timer_t *t)
{
	char dir[4096];
	struct stat st;
	time_t now = time(NULL);

	(void)t;
	snprintf(dir, sizeof(dir), "%s/sources", config.data_dir);
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));)
		if ((!strncmp(e->d_name, "source-", 7) || !strncmp(e->d_name, "part-", 5)) &&
		    !fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && st.st_mtime + LIFE_S < now)
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
}

static void take_fact(void *arg, sqlite3_stmt *st)
{
	snprintf(arg, 65, "%s", (const char *)sqlite3_column_text(st, 0));
}

int source_open(void)
{
	char dir[4096];

	snprintf(dir, sizeof(dir), "%s/sources", config.data_dir);
	if (mkdir(dir, 0700) && errno != EEXIST)
		plog("error", NULL, "%s: %s", dir, strerror(errno));
	if (store_exec("SELECT value FROM facts WHERE name = 'source_secret'", take_fact, secret, ""))
		return 1;
	if (!secret[0]) {
		make_token(secret, 64);
		if (store_exec("INSERT INTO facts (name, value) VALUES ('source_secret', ?)", NULL, NULL, "s",
			       secret))
			return 1;
	}
	uv_timer_init(loop, &sweeper);
	uv_unref((uv_handle_t *)&sweeper);
	uv_timer_start(&sweeper, sweep, 60000, 600000);
	return 0;
}

bool source_disk_room(void)
{
	struct statvfs v;

	if (statvfs(config.data_dir, &v))
		return true;
	uint64_t unit = v.f_frsize, twentieth = (uint64_t)v.f_blocks * unit / 20;
	return (uint64_t)v.f_bavail * unit >= (twentieth < LEAST_FREE ? twentieth : LEAST_FREE);
}

/* --- PUT ------------------------------------------------------------------------------------------------------------------ */

struct put {
	struct exchange *x; /* NULL: the client has gone */
	struct spool *spool;
	char name[NAME_LEN + 1];
};

static void reply_text(struct exchange *x, int status, const char *text)
{
	exchange_reply(x, status, "text/plain; charset=utf-8", text, strlen(text));
}

static void put_room(void *arg)
{
	struct put *p = arg;

	exchange_resume(p->x);
}

static void refuse_put(struct exchange *x, int err)
{
	reply_text(x,
		   err == -EFBIG    ? 413
		   : err == -ENOSPC ? 507
				    : 500,
		   err == -EFBIG    ? "The source is larger than this server takes.\n"
		   : err == -ENOSPC ? "The server's disk is full.\n"
				    : "The source could not be written.\n");
}

static void put_done(void *arg, char *path, int err)
{
	struct put *p = arg;
	char to[4096];

	file_of(p->name, to, sizeof(to));
	if (path && rename(path, to))
		err = -errno;
	if (err && path)
		unlink(path);
	if (p->x && !err)
		reply_text(p->x, 200, "");
	else if (p->x)
		refuse_put(p->x, err);
	free(path);
	free(p);
}

static void put_body(struct exchange *x, const char *data, size_t n)
{
	struct put *p = x->user;

	if (!p)
		return;
	if (!spool_write(p->spool, data, n))
		exchange_pause(x);
	int err = spool_error(p->spool);
	if (err) { /* no need to take the rest */
		spool_abort(p->spool);
		free(p);
		x->user = NULL;
		refuse_put(x, err);
	}
}

static void put_end(struct exchange *x)
{
	struct put *p = x->user;
	struct spool *s = p->spool;

	p->spool = NULL;
	spool_finish(s);
}

static void put_closed(struct exchange *x)
{
	struct put *p = x->user;

	p->x = NULL;
	if (!p->spool) /* being finished: put_done() frees */
		return;
	spool_abort(p->spool);
	free(p);
}

/* Has this user, whom the name tells, so much waiting already that it must not be more? */
static bool has_enough(const char *name)
{
	char dir[4096], begin[2][32];
	uint64_t bytes = 0;
	unsigned n = 0;
	struct stat st;

	snprintf(dir, sizeof(dir), "%s/sources", config.data_dir);
	snprintf(begin[0], sizeof(begin[0]), "source-%.*s", USER_LEN, name);
	snprintf(begin[1], sizeof(begin[1]), "part-%.*s", USER_LEN, name);
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		if ((strncmp(e->d_name, begin[0], strlen(begin[0])) &&
		     strncmp(e->d_name, begin[1], strlen(begin[1]))) ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		n++;
		bytes += (uint64_t)st.st_size;
	}
	if (d)
		closedir(d);
	return n >= SOURCES_USER_MAX || bytes >= 4 * config.max_source;
}

static const struct exchange_handler put_handler = {put_body, put_end, NULL, put_closed};
static const struct spool_events put_events = {put_room, put_done};

static void serve_put(struct exchange *x, const char *name)
{
	char part[64];

	if (x->content_length > 0 && (uint64_t)x->content_length > config.max_source) {
		reply_text(x, 413, "The source is larger than this server takes.\n");
		return;
	}
	if (!source_disk_room()) {
		refuse_put(x, -ENOSPC);
		return;
	}
	if (has_enough(name)) {
		reply_text(x, 429,
			   "Too many sources of yours wait for a build; they go when one takes them, or "
			   "after an hour.\n");
		return;
	}
	struct put *p = xcalloc(1, sizeof(*p));
	p->x = x;
	strcpy(p->name, name);
	char token[13];
	make_token(token, 12);
	snprintf(part, sizeof(part), "part-%s-%s", name, token); /* two PUTs at one time do not mix */
	p->spool = spool_open(part, config.max_source, &put_events, p);
	if (!p->spool) {
		free(p);
		reply_text(x, 507, "The source could not be written.\n");
		return;
	}
	x->user = p;
	x->handler = &put_handler;
	if (!x->content_length) {
		put_end(x);
		return;
	}
	exchange_continue(x);
}

/* --- GET ------------------------------------------------------------------------------------------------------------------ */

struct get {
	int fd;
	bool over;
};

static bool get_some(struct exchange *x)
{
	struct get *g = x->user;
	char buf[SEND_BYTES];
	ssize_t n;

	while ((n = read(g->fd, buf, sizeof(buf))) > 0)
		if (!exchange_write(x, buf, (size_t)n))
			return true;
	close(g->fd);
	free(g);
	x->user = NULL;
	if (n < 0)
		exchange_abort(x);
	else
		exchange_end(x);
	return false;
}

static void get_drained(struct exchange *x)
{
	get_some(x);
}

static void get_closed(struct exchange *x)
{
	struct get *g = x->user;

	if (!g)
		return;
	close(g->fd);
	free(g);
}

static void ignore_body(struct exchange *x, const char *data, size_t n)
{
	(void)x, (void)data, (void)n;
}

static void ignore_end(struct exchange *x)
{
	(void)x;
}

static const struct exchange_handler get_handler = {ignore_body, ignore_end, get_drained, get_closed};

static void serve_get(struct exchange *x, const char *name)
{
	static const struct header type = {{"Content-Type", 12}, {"application/octet-stream", 24}};
	char path[4096];
	struct stat st;

	file_of(name, path, sizeof(path));
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st)) {
		if (fd >= 0)
			close(fd);
		reply_text(x, 404, "There is no source here: nothing was sent yet, or a build took it.\n");
		return;
	}
	if (str_eq(x->method, "HEAD")) { /* nothing would slow the reading of it down */
		close(fd);
		exchange_respond(x, 200, &type, 1, st.st_size);
		exchange_end(x);
		return;
	}
	struct get *g = xcalloc(1, sizeof(*g));
	g->fd = fd;
	x->user = g;
	x->handler = &get_handler;
	exchange_respond(x, 200, &type, 1, st.st_size);
	get_some(x);
}

void source_serve(struct exchange *x)
{
	char name[NAME_LEN + 1];
	bool put = str_eq(x->method, "PUT"), get = str_eq(x->method, "GET") || str_eq(x->method, "HEAD");

	if (!put && !get)
		reply_text(x, 405, "PUT the source, or GET it.\n");
	else if (x->path.n < 9 || !check(put ? "put" : "get", x->path.p + 9, x->path.n - 9, name))
		reply_text(x, 403, "This source URL is not valid, or has expired.\n");
	else if (put)
		serve_put(x, name);
	else
		serve_get(x, name);
}
