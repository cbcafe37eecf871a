/* SPDX-License-Identifier: ISC */
/*
 * Node. The modules are installed in two parts, so that nobody's code but npm's own ever sees the network:
 *
 *   1. npm ci (or install, without a lock file), --ignore-scripts, with network: fetches and unpacks only. The registry, its
 *      credentials and proxies come from the user's and the system's npm settings, in a file that this step alone sees; the home
 *      directory is not shown. What a hostile .npmrc or .git of the app could make npm start is overruled (npmrc.c).
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
#include "image/build/npmrc.h"
#include "image/build/semver.h"
#include "lib/host/say.h"

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
	npm_settings(&s->env);
	if (network)
		npm_fetch_settings(s);
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
