/* SPDX-License-Identifier: ISC */
/*
 * User name and password for a registry: from --creds, else from the files in which docker, podman and skopeo keep them
 * after a login. The first of these that has something for the registry counts:
 *
 *   $REGISTRY_AUTH_FILE
 *   $XDG_RUNTIME_DIR/containers/auth.json
 *   $DOCKER_CONFIG/config.json, else ~/.docker/config.json
 *
 * Form: {"auths": {"HOST[:PORT][/PATH]": {"auth": BASE64 of "USER:PASSWORD"}}}. Docker writes keys as URLs at times; scheme
 * and a trailing /v1/ or /v2/ are left out. The entry with the longest path that the image's name begins with is taken.
 * credHelpers and credsStore name programs that would have to be run, and identitytoken needs another protocol:
 * neither is supported, and the caller says so if it matters.
 */
#include "image/oci/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/host/strings.h"

#define MAX_FILE (1u << 20)
#define MAX_AUTH 8192u

/* Docker Hub is called by its old URL in these files. */
#define HUB	"docker.io"
#define HUB_KEY "index.docker.io"

/* How many bytes of `name` the key covers: 0 if it is for something else. */
static size_t covers(const char *key, const char *name)
{
	size_t n;

	if (!strncmp(key, "https://", 8))
		key += 8;
	else if (!strncmp(key, "http://", 7))
		key += 7;
	n = strlen(key);
	if (n > 4 && (!strcmp(key + n - 4, "/v1/") || !strcmp(key + n - 4, "/v2/")))
		n -= 4;
	else if (n > 3 && (!strcmp(key + n - 3, "/v1") || !strcmp(key + n - 3, "/v2")))
		n -= 3;
	while (n && key[n - 1] == '/')
		n--;
	if (n == strlen(HUB_KEY) && !strncmp(key, HUB_KEY, n)) {
		key = HUB;
		n = strlen(HUB);
	}
	return n && !strncmp(key, name, n) && (!name[n] || name[n] == '/') ? n : 0;
}

/* Split USER:PASSWORD; no control characters. */
static bool split(const char *text, size_t n, struct credentials *out)
{
	const char *colon = memchr(text, ':', n);

	for (size_t i = 0; i < n; i++)
		if ((unsigned char)text[i] < 32 || text[i] == 127)
			return false;
	if (!colon || colon == text)
		return false;
	out->user = textf("%.*s", (int)(colon - text), text);
	out->password = textf("%.*s", (int)(text + n - colon - 1), colon + 1);
	return true;
}

static enum credentials_state decode(const json_t *entry, struct credentials *out)
{
	const char *b64 = json_string_value(json_object_get(entry, "auth")), *end;
	const char *user = json_string_value(json_object_get(entry, "username"));
	const char *password = json_string_value(json_object_get(entry, "password"));
	char text[MAX_AUTH];
	size_t n;
	bool good;

	if (json_object_get(entry, "identitytoken"))
		return CREDENTIALS_TOKEN;
	if (b64 && *b64) {
		if (strlen(b64) > MAX_AUTH ||
		    sodium_base642bin((unsigned char *)text, sizeof(text), b64, strlen(b64), NULL, &n, &end,
				      sodium_base64_VARIANT_ORIGINAL) ||
		    *end)
			return CREDENTIALS_BAD;
		good = split(text, n, out);
		sodium_memzero(text, sizeof(text));
		return good ? CREDENTIALS_FOUND : CREDENTIALS_BAD;
	}
	if (!user || !password)
		return CREDENTIALS_NONE; /* "{}" is what docker leaves where a helper has it */
	char *both = textf("%s:%s", user, password);
	good = split(both, strlen(both), out);
	sodium_memzero(both, strlen(both));
	free(both);
	return good ? CREDENTIALS_FOUND : CREDENTIALS_BAD;
}

static bool has_helper(json_t *j, const char *name)
{
	const char *store = json_string_value(json_object_get(j, "credsStore")), *key;
	json_t *v;

	if (store && *store)
		return true;
	json_object_foreach(json_object_get(j, "credHelpers"), key, v)
	{
		if (covers(key, name))
			return true;
	}
	return false;
}

enum credentials_state credentials_in(const char *json, size_t n, const char *name, struct credentials *out)
{
	json_t *j = json_loadb(json, n, 0, NULL), *v, *best = NULL;
	enum credentials_state state = CREDENTIALS_NONE;
	size_t best_n = 0;
	const char *key;

	out->user = out->password = NULL;
	if (!json_is_object(j)) {
		json_decref(j);
		return CREDENTIALS_BAD;
	}
	json_object_foreach(json_object_get(j, "auths"), key, v)
	{
		size_t len = covers(key, name);
		if (len > best_n) {
			best_n = len;
			best = v;
		}
	}
	if (best)
		state = decode(best, out);
	if (state == CREDENTIALS_NONE && has_helper(j, name))
		state = CREDENTIALS_HELPER;
	json_decref(j);
	return state;
}

/* A whole small file (malloc), or NULL. */
static char *read_file(const char *path, size_t *n)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *buf = fd < 0 ? NULL : malloc(MAX_FILE + 1);
	ssize_t got = 0;

	*n = 0;
	while (buf && *n <= MAX_FILE && (got = read(fd, buf + *n, MAX_FILE + 1 - *n)) > 0)
		*n += (size_t)got;
	if (fd >= 0)
		close(fd);
	if (buf && (got < 0 || *n > MAX_FILE)) {
		free(buf);
		buf = NULL;
	}
	return buf;
}

static enum credentials_state look_in(char *path, const char *name, struct credentials *out)
{
	enum credentials_state state = CREDENTIALS_NONE;
	size_t n;
	char *text = read_file(path, &n);

	if (text)
		state = credentials_in(text, n, name, out);
	else if (errno != ENOENT && errno != ENOTDIR)
		state = CREDENTIALS_BAD;
	if (text)
		sodium_memzero(text, n);
	free(text);
	if (state == CREDENTIALS_NONE) {
		free(path);
	} else {
		free(out->file);
		out->file = path;
	}
	return state;
}

static char *path_under(const char *variable, const char *rest)
{
	const char *dir = getenv(variable);

	return dir && *dir ? textf("%s%s", dir, rest) : NULL;
}

enum credentials_state credentials_find(const char *creds, const char *name, struct credentials *out)
{
	memset(out, 0, sizeof(*out));
	if (creds)
		return split(creds, strlen(creds), out) ? CREDENTIALS_FOUND : CREDENTIALS_BAD;
	char *paths[] = {path_under("REGISTRY_AUTH_FILE", ""),
			 path_under("XDG_RUNTIME_DIR", "/containers/auth.json"),
			 getenv("DOCKER_CONFIG") ? path_under("DOCKER_CONFIG", "/config.json")
						 : path_under("HOME", "/.docker/config.json")};
	enum credentials_state state = CREDENTIALS_NONE;
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (!paths[i])
			continue;
		if (state == CREDENTIALS_FOUND || state == CREDENTIALS_BAD) {
			free(paths[i]);
			continue;
		}
		enum credentials_state here = look_in(paths[i], name, out);
		if (here != CREDENTIALS_NONE)
			state = here;
	}
	return state;
}

void credentials_free(struct credentials *c)
{
	if (c->password)
		sodium_memzero(c->password, strlen(c->password));
	free(c->user);
	free(c->password);
	free(c->file);
	memset(c, 0, sizeof(*c));
}
