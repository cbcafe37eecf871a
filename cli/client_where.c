/* SPDX-License-Identifier: ISC */
/*
 * Where the platform is, who we are there, and which app is meant.
 *
 * Platform and token, the first that says something:
 *   1. COWBELL_URL with COWBELL_TOKEN or HEROKU_API_KEY. A key of Heroku's is sent nowhere unless COWBELL_URL says where.
 *   2. what `cowbell login` stored: $XDG_CONFIG_HOME/cowbell/platform.json (~/.config), mode 0600
 *   3. a platform of this user on this machine: its data directory holds `admin-token` and `url`, readable for its user only
 * COWBELL_TOKEN goes with any of them.
 *
 * App: -a, -r REMOTE, COWBELL_APP, HEROKU_APP, then in the working directory or one above it: .cowbell/app, or a git remote
 * called cowbell or heroku whose URL is one of this platform's. What these files say is somebody else's text: only
 * a name that could be an app's is taken.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/client.h"
#include "lib/host/say.h"

#define DEFAULT_URL "http://localhost:5080"
#define MAX_FILE    65536

/* A small file as text, its last newline gone: malloc, or NULL. */
static char *read_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	char *text = NULL;

	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size <= MAX_FILE) {
		text = calloc(1, MAX_FILE + 1);
		ssize_t n = text ? read(fd, text, MAX_FILE) : -1;
		if (n < 0 || memchr(text, 0, (size_t)n)) {
			free(text);
			text = NULL;
		} else {
			while (n && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
				text[--n] = 0;
		}
	}
	if (fd >= 0)
		close(fd);
	return text;
}

/* $VAR/rest or $HOME/otherwise/rest: malloc, or NULL. */
static char *user_path(const char *var, const char *otherwise, const char *rest)
{
	const char *base = getenv(var), *home = getenv("HOME");

	if (base && *base == '/')
		return textf("%s/%s", base, rest);
	return home && *home ? textf("%s/%s/%s", home, otherwise, rest) : NULL;
}

static char *login_path(void)
{
	return user_path("XDG_CONFIG_HOME", ".config", "cowbell/platform.json");
}

/* Where `cowbell serve` keeps its data if nothing else is said. */
static char *data_path(const char *rest)
{
	char *tail = textf("cowbell/platform/%s", rest),
	     *path = user_path("XDG_STATE_HOME", ".local/state", tail);

	free(tail);
	return path;
}

/* --- URLs -------------------------------------------------------------------------------------------------------- */

/* The host in it: begin and length. */
static const char *url_host(const char *url, size_t *n)
{
	const char *p = strstr(url, "://");

	p = p ? p + 3 : url;
	*n = *p == '[' ? strcspn(p, "]") + 1 : strcspn(p, ":/");
	return p;
}

bool where_is_local(const char *url)
{
	static const char *const local[] = {"localhost", "127.0.0.1", "[::1]"};
	size_t n;
	const char *host = url_host(url, &n);

	for (size_t i = 0; i < 3; i++)
		if (strlen(local[i]) == n && !strncasecmp(host, local[i], n))
			return true;
	return (n > 10 && !strncasecmp(host + n - 10, ".localhost", 10)) || !strncmp(host, "127.", 4);
}

char *where_url(const char *word)
{
	size_t n = strlen(word);
	bool scheme = strstr(word, "://");
	char *url;

	while (n && word[n - 1] == '/')
		n--;
	for (size_t i = 0; i < n; i++)
		if (!isgraph((unsigned char)word[i]) || strchr("@?#\"\\<>", word[i]))
			n = 0;
	if (scheme && strncasecmp(word, "http://", 7) && strncasecmp(word, "https://", 8))
		n = 0;
	if (!n) {
		say("'%s' is no URL of a platform; such as https://apps.example.org or http://localhost:5080",
		    word);
		return NULL;
	}
	url = textf("%s%.*s", scheme ? "" : where_is_local(word) ? "http://" : "https://", (int)n, word);
	return url;
}

/* --- platform and token -------------------------------------------------------------------------------------------- */

static bool take_login(struct where *w)
{
	char *path = login_path(), *text = path ? read_text(path) : NULL;
	json_t *o = text ? json_loads(text, 0, NULL) : NULL;
	const char *url = jstr(o, "url"), *token = jstr(o, "token"), *ca = jstr(o, "ca_file");

	if (*url) {
		w->url = textf("%s", url);
		w->token = *token ? textf("%s", token) : NULL;
		w->ca_file = *ca ? textf("%s", ca) : NULL;
		w->plain = json_is_true(json_object_get(o, "plain_http"));
		w->from = "cowbell login";
	}
	json_decref(o);
	free(text);
	free(path);
	return w->url;
}

static bool take_local(struct where *w)
{
	char *path = data_path("admin-token"), *url_file = data_path("url");

	w->token = path ? read_text(path) : NULL;
	char *url = url_file ? read_text(url_file) : NULL;
	w->url = url && where_is_local(url) ? textf("%s", url) : textf("%s", DEFAULT_URL);
	w->from = w->token ? "the platform of this user" : NULL;
	free(url);
	free(path);
	free(url_file);
	return true;
}

int where_find(struct where *w)
{
	const char *url = getenv("COWBELL_URL"), *token = getenv("COWBELL_TOKEN"),
		   *key = getenv("HEROKU_API_KEY"), *ca = getenv("COWBELL_CA_FILE"),
		   *plain = getenv("COWBELL_PLAIN_HTTP");
	struct where login = {0};

	*w = (struct where){0};
	if (url && *url) {
		w->url = where_url(url);
		if (!w->url)
			return EXIT_OURS;
		w->from = "COWBELL_URL";
		if (token && *token)
			w->token = textf("%s", token);
		else if (key && *key)
			w->token = textf("%s", key);
		else if (take_login(&login) && !strcmp(login.url, w->url) && login.token)
			w->token = textf("%s", login.token);
		else {
			where_free(&login);
			take_local(&login);
			if (login.token && !strcmp(login.url, w->url))
				w->token = textf("%s", login.token);
		}
		where_free(&login);
	} else {
		(void)(take_login(w) || take_local(w));
		if (token && *token) {
			free(w->token);
			w->token = textf("%s", token);
		}
	}
	if (ca && *ca) {
		free(w->ca_file);
		w->ca_file = textf("%s", ca);
	}
	w->plain |= plain && !strcmp(plain, "1");
	return 0;
}

void where_free(struct where *w)
{
	if (w->token)
		explicit_bzero(w->token, strlen(w->token));
	free(w->url);
	free(w->token);
	free(w->ca_file);
	*w = (struct where){0};
}

static void make_parent(const char *path)
{
	char *dir = textf("%s", path);

	for (char *p = dir + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(dir, 0700);
		*p = '/';
	}
	free(dir);
}

/* A file that appears whole or not at all, for its user's eyes only. */
static int write_private(const char *path, const char *text, mode_t mode)
{
	char *tmp = textf("%s.%d.tmp", path, (int)getpid());
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode), err = 0;
	size_t n = strlen(text);

	if (fd < 0 || write(fd, text, n) != (ssize_t)n)
		err = errno ? errno : EIO;
	if (fd >= 0 && close(fd) && !err)
		err = errno;
	if (!err && rename(tmp, path))
		err = errno;
	if (err)
		unlink(tmp);
	free(tmp);
	return err;
}

int where_store(const struct where *w)
{
	char *path = login_path(), *text;
	int err;

	if (!path)
		return say_fail(EXIT_OURS, "login: HOME is not set, so there is nowhere to keep the token");
	if (!w) {
		err = unlink(path) && errno != ENOENT ? errno : 0;
		free(path);
		return err ? say_fail(EXIT_OURS, "logout: %s", strerror(err)) : 0;
	}
	json_t *o = json_pack("{s:s,s:s?,s:s?,s:b}", "url", w->url, "token", w->token, "ca_file", w->ca_file,
			      "plain_http", w->plain);
	text = json_dumps(o, JSON_INDENT(2));
	json_decref(o);
	make_parent(path);
	err = text ? write_private(path, text, 0600) : ENOMEM;
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
	int status = err ? say_fail(EXIT_OURS, "login: %s: %s", path, say_errno(err)) : 0;
	free(path);
	return status;
}

/* --- the app ---------------------------------------------------------------------------------------------------------- */

bool where_app_name(const char *s)
{
	size_t n = strlen(s);

	if (n < 3 || n > 30 || !islower((unsigned char)s[0]) || s[n - 1] == '-')
		return false;
	return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == n;
}

bool where_app_said(void)
{
	const char *a = getenv("COWBELL_APP"), *b = getenv("HEROKU_APP");

	return (a && *a) || (b && *b);
}

/* NAME of a URL .../NAME.git: malloc, or NULL. */
static char *app_of_url(const char *url)
{
	const char *slash = strrchr(url, '/');
	size_t n = slash ? strlen(slash + 1) : 0;

	if (n < 5 || strcmp(slash + 1 + n - 4, ".git"))
		return NULL;
	char *name = textf("%.*s", (int)(n - 4), slash + 1);
	if (where_app_name(name))
		return name;
	free(name);
	return NULL;
}

/* The URL of a remote in the text of a git configuration: malloc, or NULL. */
static char *git_remote(const char *config, const char *remote)
{
	char *copy = textf("%s", config), *save = NULL, *found = NULL,
	     *head = textf("[remote \"%s\"]", remote);
	bool inside = false;

	for (char *line = strtok_r(copy, "\n", &save); line && !found; line = strtok_r(NULL, "\n", &save)) {
		line += strspn(line, " \t");
		if (*line == '[')
			inside = !strncmp(line, head, strlen(head));
		else if (inside && !strncmp(line, "url", 3)) {
			line += 3 + strspn(line + 3, " \t");
			if (*line == '=')
				found = textf("%s", line + 1 + strspn(line + 1, " \t"));
		}
	}
	free(copy);
	free(head);
	return found;
}

static bool same_host(const char *a, const char *b)
{
	size_t n, m;
	const char *x = url_host(a, &n), *y = url_host(b, &m);

	return (n == m && !strncasecmp(x, y, n)) || (where_is_local(a) && where_is_local(b));
}

static char *app_of_git(const char *dir, const char *remote, const struct where *w)
{
	char *path = textf("%s/.git/config", dir), *config = read_text(path), *name = NULL;
	const char *const known[] = {"cowbell", "heroku"};

	for (size_t i = 0; config && !name && i < (remote ? 1 : 2); i++) {
		char *url = git_remote(config, remote ? remote : known[i]);
		if (url && (remote || i == 0 || (w->url && same_host(url, w->url))))
			name = app_of_url(url);
		free(url);
	}
	free(config);
	free(path);
	return name;
}

static char *app_of_directory(const char *dir, const char *remote, const struct where *w)
{
	char *path = textf("%s/.cowbell/app", dir), *name = remote ? NULL : read_text(path);

	free(path);
	if (name && where_app_name(name))
		return name;
	free(name);
	return app_of_git(dir, remote, w);
}

/* In the working directory or one above it, the file system's root left out. */
static char *app_of_directories(const char *remote, const struct where *w)
{
	char dir[PATH_MAX], *name = NULL;
	const char *home = getenv("HOME");

	if (!getcwd(dir, sizeof(dir)))
		return NULL;
	while (!name && dir[0] && dir[1]) {
		name = app_of_directory(dir, remote, w);
		if (home && !strcmp(dir, home))
			break; /* what is above is not this user's */
		*strrchr(dir, '/') = 0;
	}
	return name;
}

char *where_app(const char *option, const char *remote, const char *dir, const struct where *w)
{
	const char *env = getenv("COWBELL_APP");

	if (!env || !*env)
		env = getenv("HEROKU_APP");
	if (option)
		return textf("%s", option);
	if (!remote && env && *env)
		return textf("%s", env);
	return dir ? app_of_directory(dir, remote, w) : app_of_directories(remote, w);
}

void where_remember(const char *dir, const char *app)
{
	char *sub = textf("%s/.cowbell", dir ? dir : "."), *file = textf("%s/app", sub),
	     *ignore = textf("%s/.gitignore", sub), *line = textf("%s\n", app);

	if (!mkdir(sub, 0755))
		write_private(ignore, "*\n", 0644);
	if (write_private(file, line, 0644))
		say("%s: %s; name the app by -a %s", file, strerror(errno), app);
	free(sub);
	free(file);
	free(ignore);
	free(line);
}

void where_forget(const char *app)
{
	char *name = read_text(".cowbell/app");

	if (name && !strcmp(name, app)) {
		unlink(".cowbell/app");
		unlink(".cowbell/.gitignore");
		rmdir(".cowbell");
	}
	free(name);
}
