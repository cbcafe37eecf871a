/* SPDX-License-Identifier: ISC */
/*
 * Node. The modules are installed in two parts, so that nobody's code but npm's own ever sees the network:
 *
 *   1. npm ci (or install, without a lock file), --ignore-scripts, with network: fetches and unpacks only. The registry, its
 *      credentials and proxies come from the user's and the system's npm settings, in a file that this step alone sees; the home
 *      directory is not shown. What a hostile .npmrc or .git of the app could make npm start is overruled (fetch_settings()).
 *   2. npm rebuild, the app's own install scripts, heroku-postbuild or build: the app's and its modules' code, without network.
 *   3. npm prune takes what only the build needed.
 *
 * The start command is scripts.start itself where it is simple: npm would have to start a process, which instances cannot yet.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/build/detect.h"
#include "image/build/semver.h"
#include "lib/host/say.h"

#define CA_FILE	   "/etc/ssl/certs/ca-certificates.crt"
#define RC_FILE	   "/etc/npmrc-of-the-user"
#define RC_SETTING "npm_config_userconfig=" RC_FILE
#define MAX_RC	   (256u << 10)

/* --- settings of npm that say where packages come from -------------------------------------------------------------- */
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

static void common_env(struct strings *env)
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
static void fetch_settings(struct step *st)
{
	const char *home = getenv("HOME"), *user = getenv("NPM_CONFIG_USERCONFIG");
	static const char *const ours[] = {
		"npm_config_cache=/cache", "npm_config_ignore_scripts=true", RC_SETTING,
		"npm_config_globalconfig=/etc/none",
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
	char *text = textf(RC_FILE "=");
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

/* --- package.json ---------------------------------------------------------------------------------------------------- */
static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s && *s ? s : NULL;
}

static bool has_script(const json_t *pkg, const char *name)
{
	return text_of(json_object_get(pkg, "scripts"), name) != NULL;
}

static bool any(const json_t *pkg, const char *key)
{
	return json_object_size(json_object_get(pkg, key)) > 0;
}

/* Does a module run code when it is installed? A lock file says so; without one, perhaps. */
static bool modules_have_scripts(const json_t *lock)
{
	const char *path;
	json_t *m, *packages = json_object_get(lock, "packages");

	if (!packages)
		return true;
	json_object_foreach(packages, path,
			    m) if (*path && json_is_true(json_object_get(m, "hasInstallScript"))) return true;
	return false;
}

static struct step *step(struct app *a, const char *title, bool network, const char *const *argv)
{
	struct step *s;

	plan_add_step(a->plan, title, network, argv);
	for (s = a->plan->steps; s->next; s = s->next)
		;
	common_env(&s->env);
	if (network)
		fetch_settings(s);
	return s;
}

static void run_script(struct app *a, const json_t *pkg, const char *name, const char *title)
{
	if (has_script(pkg, name))
		step(a, title, false, (const char *const[]){"npm", "run", name, NULL});
}

static void install_steps(struct app *a, const json_t *pkg, const json_t *lock)
{
	static const char *const own[] = {"preinstall", "install", "postinstall", "prepare", NULL};
	const char *build = has_script(pkg, "heroku-postbuild") ? "heroku-postbuild"
			    : has_script(pkg, "build")		? "build"
								: NULL;
	bool own_scripts = build || has_script(pkg, "prepare") || has_script(pkg, "postinstall");
	bool modules = any(pkg, "dependencies") || any(pkg, "optionalDependencies") ||
		       json_object_get(pkg, "workspaces") || (own_scripts && any(pkg, "devDependencies"));
	bool dev = own_scripts && any(pkg, "devDependencies");

	if (modules && !lock && (app_has(a, "yarn.lock") || app_has(a, "pnpm-lock.yaml")))
		out_line("npm installs the modules: %s is not read, versions are what package.json allows",
			 app_has(a, "yarn.lock") ? "yarn.lock" : "pnpm-lock.yaml");
	run_script(a, pkg, "heroku-prebuild", "Running heroku-prebuild");
	if (modules && lock)
		step(a, "Installing node modules (npm ci)", true,
		     (const char *const[]){"npm", "ci", "--ignore-scripts", "--prefer-offline",
					   dev ? "--include=dev" : "--omit=dev", NULL});
	else if (modules)
		step(a, "Installing node modules (npm install; there is no package-lock.json)", true,
		     (const char *const[]){"npm", "install", "--ignore-scripts", "--no-package-lock",
					   dev ? "--include=dev" : "--omit=dev", NULL});
	if (modules && modules_have_scripts(lock))
		step(a, "Running install scripts of node modules", false,
		     (const char *const[]){"npm", "rebuild", NULL});
	for (const char *const *s = own; *s; s++)
		run_script(a, pkg, *s, "Running install scripts");
	if (build)
		step(a, "Running the build script", false, (const char *const[]){"npm", "run", build, NULL});
	if (dev)
		step(a, "Pruning development modules", false,
		     (const char *const[]){"npm", "prune", "--omit=dev", "--ignore-scripts", "--offline",
					   NULL});
	run_script(a, pkg, "heroku-cleanup", "Running heroku-cleanup");
	strings_add(&a->plan->drop, "node_modules/.cache");
	if (a->plan->steps) {
		strings_add(&a->plan->build_packages, "nodejs");
		strings_add(&a->plan->build_packages, "npm");
	}
}

/* --- the command ------------------------------------------------------------------------------------------------------- */
/* The command of a script without npm: malloc, or NULL where a shell would have to read it. */
static char *direct(const char *script)
{
	char word[256];

	if (!command_word(script, word, sizeof(word)) || strpbrk(script, "|&;<>`"))
		return NULL;
	if (!strcmp(word, "node") || strchr(word, '/'))
		return textf("%s", script);
	/* a module's program: it is a script for node */
	const char *rest = strstr(script, word);
	return textf("%.*snode node_modules/.bin/%s", (int)(rest - script), script, rest);
}

/* Name of the script that a command such as `npm start` or `npm run web` means, or NULL. */
static const char *npm_script(const char *command)
{
	static const char *const heads[] = {"npm run-script ", "npm run ", "yarn run ", "npm ",
					    "yarn ",	       NULL};
	static char name[128];

	for (const char *const *h = heads; *h; h++) {
		const char *rest = command + strlen(*h);
		if (strncmp(command, *h, strlen(*h)))
			continue;
		rest += strspn(rest, " ");
		size_t n = strcspn(rest, " ");
		if (n >= sizeof(name) || rest[n + strspn(rest + n, " ")] || strchr(rest, '-') == rest)
			return NULL;
		snprintf(name, sizeof(name), "%.*s", (int)n, rest);
		return name;
	}
	return NULL;
}

/* The Procfile's `npm start` is what scripts.start says: npm itself would have to start a process. */
static void without_npm(struct app *a, const json_t *pkg)
{
	struct strings *p = &a->plan->processes;

	for (size_t i = 0; i < p->n; i++) {
		const char *eq = strchr(p->v[i], '='), *name = npm_script(eq + 1);
		const char *script = name ? text_of(json_object_get(pkg, "scripts"), name) : NULL;
		char *command = script ? direct(script) : NULL;
		if (command) {
			char *kv = textf("%.*s=%s", (int)(eq - p->v[i]), p->v[i], command);
			out_line("'%s' is run as '%s'", eq + 1, command);
			strings_set_env(p, kv);
			free(kv);
		} else if (name) {
			out_line("'%s' starts processes of its own, which an instance cannot yet: name the "
				 "program itself, "
				 "such as node server.js",
				 eq + 1);
		}
		free(command);
	}
}

static void start_script(struct app *a, const char *script)
{
	char *command = direct(script);

	if (!command)
		out_line("scripts.start needs a shell, and an instance cannot start further processes yet: "
			 "say what "
			 "to run in a Procfile (web: node server.js)");
	app_process(a, "web", command ? command : script);
	free(command);
}

static void start_command(struct app *a, const json_t *pkg)
{
	const char *script = text_of(json_object_get(pkg, "scripts"), "start"),
		   *main_file = text_of(pkg, "main");
	static const char *const files[] = {"server.js", "index.js",   "app.js",
					    "main.js",	 "server.mjs", "index.mjs"};

	if (a->said_processes) {
		without_npm(a, pkg);
		return;
	}
	if (script) {
		start_script(a, script);
		return;
	}
	const char *file = app_has(a, "server.js") ? "server.js"
			   : main_file && app_has(a, main_file)
				   ? main_file
				   : app_first(a, files, sizeof(files) / sizeof(files[0]));
	if (file) {
		char *command = textf("node %s", file);
		app_process(a, "web", command);
		free(command);
	}
}

/* --- the runtime ------------------------------------------------------------------------------------------------------- */
/* The node that will be in the image: Debian's or its vendor's package, else a program of the machine. */
static char *runtime_version(struct app *a)
{
	char *version = debs_version("nodejs");

	if (!access("/usr/bin/node", X_OK) || (version && access("/usr/local/bin/node", X_OK))) {
		if (version)
			app_runtime(a, "nodejs");
		return version;
	}
	free(version);
	return NULL;
}

static int check_engine(struct app *a, const json_t *pkg, const char *version)
{
	const char *want = text_of(json_object_get(pkg, "engines"), "node");

	if (!want || !version || semver_in_range(version, want))
		return 0;
	return out_fail(EXIT_OURS,
			"package.json wants node %s, but the runtime is node %s.\nInstall another nodejs "
			"package (NodeSource has "
			"them all), or change engines.node",
			want, version);
}

static const char *found(const struct app *a)
{
	return app_has(a, "package.json") ? "package.json" : NULL;
}

static int fill(struct app *a)
{
	static const char *const locks[] = {"package-lock.json", "npm-shrinkwrap.json"};
	int status = 0;
	json_t *pkg = app_json(a, "package.json", &status), *lock = NULL;
	const char *lock_name = app_first(a, locks, 2);

	if (!status && lock_name)
		lock = app_json(a, lock_name, &status);
	if (!status) {
		char *version = runtime_version(a);
		if (version)
			out_line("node %s", version);
		status = check_engine(a, pkg, version);
		free(version);
	}
	if (!status) {
		struct plan *p = a->plan;
		if (!p->runtime)
			p->runtime = textf("node");
		if (!p->name && text_of(pkg, "name"))
			p->name = textf("%s", text_of(pkg, "name"));
		if (!p->description && text_of(pkg, "description"))
			p->description = textf("%s", text_of(pkg, "description"));
		if (!strings_env(&p->env, "NODE_ENV"))
			strings_add(&p->env, "NODE_ENV=production");
		install_steps(a, pkg, lock);
		start_command(a, pkg);
	}
	json_decref(lock);
	json_decref(pkg);
	return status;
}

const struct language lang_node = {
	.name = "Node.js",
	.word = "node",
	.looked_for = "package.json",
	.commands = " node nodejs npm npx ",
	.found = found,
	.fill = fill,
};
