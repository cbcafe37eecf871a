/* SPDX-License-Identifier: ISC */
/*
 * Settings for npm in the sandbox, where the home directory is not. Those that say where packages come from are taken from the
 * system's and the user's npmrc and the caller's npm_config_... variables, nothing else: what they hold besides
 * (scripts, editors, prefixes) has no meaning there.
 */
#include "image/build/npmrc.h"

#include <ctype.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/host/say.h"

#define CA_FILE "/etc/ssl/certs/ca-certificates.crt"
#define RC_FILE "/etc/npmrc-of-the-user"
#define MAX_RC	(256u << 10)

static bool about_registry(const char *key)
{
	static const char *const keys[] = {"registry",
					   "proxy",
					   "http-proxy",
					   "https-proxy",
					   "noproxy",
					   "strict-ssl",
					   "maxsockets",
					   "fetch-retries",
					   "fetch-timeout",
					   "_auth",
					   "_authToken",
					   "replace-registry-host",
					   "omit-lockfile-registry-resolved",
					   NULL};
	size_t n = strlen(key);

	if (!strncmp(key, "//", 2)) /* credentials of one registry */
		return true;
	if (key[0] == '@') /* registry of a scope */
		return n > 9 && !strcmp(key + n - 9, ":registry");
	for (const char *const *k = keys; *k; k++)
		if (!strcmp(*k, key))
			return true;
	return false;
}

/* A certificate authority that the sandbox can see as a file. */
static bool visible(const char *path)
{
	return (!strncmp(path, "/etc/ssl/certs/", 15) || !strncmp(path, "/usr/share/", 11)) &&
	       !strstr(path, "..") && !access(path, R_OK);
}

/* "KEY=VALUE" of an npmrc. The value as JSON, which npm reads where it is quoted: nothing in it means a comment. */
static void set_config(struct strings *rc, const char *key, const char *value)
{
	json_t *text = json_string(value);
	char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;

	if (quoted && !strpbrk(key, "=\n\r[;#")) {
		char *kv = textf("%s=%s", key, quoted);
		strings_set_env(rc, kv);
		free(kv);
	}
	free(quoted);
	json_decref(text);
}

/* Put the environment's variables into ${NAME}; malloc. */
static char *expanded(const char *s)
{
	char *out = textf("%s", "");

	while (*s) {
		const char *end = !strncmp(s, "${", 2) ? strchr(s, '}') : NULL;
		char *more;
		if (end) {
			char *name = textf("%.*s", (int)(end - s - 2), s + 2);
			const char *v = getenv(name);
			more = textf("%s%s", out, v ? v : "");
			free(name);
			s = end + 1;
		} else {
			size_t n = strcspn(s + 1, "$") + 1;
			more = textf("%s%.*s", out, (int)n, s);
			s += n;
		}
		free(out);
		out = more;
	}
	return out;
}

static char *trim(char *s)
{
	while (isspace((unsigned char)*s))
		s++;
	for (size_t n = strlen(s); n && isspace((unsigned char)s[n - 1]); n--)
		s[n - 1] = 0;
	size_t n = strlen(s);
	if (n > 1 && (s[0] == '"' || s[0] == '\'') && s[n - 1] == s[0]) {
		s[n - 1] = 0;
		s++;
	}
	return s;
}

static void setting(struct strings *rc, const char *key, const char *value)
{
	if (!strcmp(key, "cafile") ? visible(value) : about_registry(key))
		set_config(rc, key, value);
}

static void read_npmrc(struct strings *rc, const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t cap = 0, total = 0;

	if (!f)
		return;
	for (ssize_t n; (n = getline(&line, &cap, f)) >= 0 && (total += (size_t)n) < MAX_RC;) {
		char *eq = strchr(line, '=');
		if (!eq || strchr(";#[", *trim(line)))
			continue;
		*eq = 0;
		char *value = expanded(trim(eq + 1));
		setting(rc, trim(line), value);
		free(value);
	}
	free(line);
	fclose(f);
}

/* The caller's own npm_config_registry and the like, and proxies. */
static void read_environment(struct strings *rc)
{
	static const struct {
		const char *name, *key;
	} proxies[] = {{"http_proxy", "proxy"},	       {"HTTP_PROXY", "proxy"},
		       {"https_proxy", "https-proxy"}, {"HTTPS_PROXY", "https-proxy"},
		       {"no_proxy", "noproxy"},	       {"NO_PROXY", "noproxy"}};

	for (size_t i = 0; i < sizeof(proxies) / sizeof(proxies[0]); i++) {
		const char *value = getenv(proxies[i].name);
		if (value && *value)
			set_config(rc, proxies[i].key, value);
	}
	for (char **e = environ; *e; e++) {
		if (strncasecmp(*e, "npm_config_", 11))
			continue;
		char *key = textf("%s", *e + 11), *eq = strchr(key, '=');
		if (eq) {
			*eq = 0;
			for (char *p = key; *p && strncmp(key, "//", 2); p++)
				*p = *p == '_' && p > key ? '-' : (char)tolower((unsigned char)*p);
			setting(rc, key, eq + 1);
		}
		free(key);
	}
}

void npm_settings(struct strings *env)
{
	static const char *const quiet[] = {
		"npm_config_audit=false",    "npm_config_fund=false",	  "npm_config_update_notifier=false",
		"npm_config_loglevel=error", "npm_config_logs_max=0",	  "npm_config_progress=false",
		"npm_config_color=false",    "npm_config_cache=/tmp/npm", NULL};

	for (const char *const *q = quiet; *q; q++)
		strings_set_env(env, *q);
	if (!access("/usr/include/node/node_api.h", R_OK)) /* native modules: npm would fetch the headers */
		strings_set_env(env, "npm_config_nodedir=/usr");
}

/*
 * For the step with network. What is overruled goes through the environment, which wins over the app's own .npmrc. Registries and
 * credentials go into a file: npm puts variables into the app's .npmrc, which could send them anywhere.
 */
void npm_fetch_settings(struct step *st)
{
	const char *home = getenv("HOME"), *user = getenv("NPM_CONFIG_USERCONFIG");
	static const char *const ours[] = {
		"npm_config_cache=/cache", "npm_config_ignore_scripts=true",
		"npm_config_userconfig=/etc/npmrc-of-the-user", "npm_config_globalconfig=/etc/none",
		/* programs that the app's settings could name, and git's settings in the app's own repository */
		"npm_config_git=/usr/bin/git", "npm_config_script_shell=/bin/sh", "GIT_CONFIG_COUNT=1",
		"GIT_CONFIG_KEY_0=safe.bareRepository", "GIT_CONFIG_VALUE_0=explicit",
		"GIT_TERMINAL_PROMPT=0", NULL};
	struct strings rc = {0};

	read_npmrc(&rc, "/etc/npmrc");
	read_npmrc(&rc, "/usr/etc/npmrc");
	read_npmrc(&rc, "/usr/local/etc/npmrc");
	char *own = home ? textf("%s/.npmrc", home) : NULL;
	if (user || own)
		read_npmrc(&rc, user ? user : own);
	free(own);
	read_environment(&rc);
	char *text = textf("%s=", RC_FILE);
	for (size_t i = 0; i < rc.n; i++) {
		char *more = textf("%s%s\n", text, rc.v[i]);
		free(text);
		text = more;
	}
	strings_add(&st->files, text);
	free(text);
	strings_free(&rc);
	if (!access(CA_FILE, R_OK))
		strings_set_env(&st->env, "NODE_EXTRA_CA_CERTS=" CA_FILE);
	for (const char *const *o = ours; *o; o++)
		strings_set_env(&st->env, *o);
}
