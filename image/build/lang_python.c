/* SPDX-License-Identifier: ISC */
/*
 * Python. Found by requirements.txt, pyproject.toml, Pipfile, setup.py, manage.py or app.py; runs with Debian's python3.
 *
 * What requirements.txt (else pyproject.toml's [project] or Poetry's dependencies, else Pipfile's packages) names must be
 * vendored (vendor/, site-packages/, a virtual environment) or come from a Debian package.
 *
 * Default process: Django's development server for manage.py (gunicorn, where a Procfile asks for it, starts workers by
 * fork); Flask's for an app.py that makes an app and does not run it; else `python3 app.py`, or main.py.
 * Compiled .pyc files stay out: they are checked against times that an image does not have.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "image/build/detect.h"
#include "image/build/marker.h"
#include "lib/host/ignore.h"
#include "lib/host/say.h"
#include "lib/host/toml.h"

#define DIST	     "/usr/lib/python3/dist-packages"
#define MAX_INCLUDES 50

struct python {
	struct app *a;
	struct strings trees; /* vendored ones, relative */
	int minor; /* of Python 3 */
	int includes; /* -r lines that were followed */
};

static const char *found(const struct app *a)
{
	static const char *const files[] = {"requirements.txt", "pyproject.toml", "Pipfile",
					    "setup.py",		"manage.py",	  "app.py"};

	return app_first(a, files, sizeof(files) / sizeof(files[0]));
}

/* Where vendored packages may be, PYTHONPATH's order. */
static void find_trees(struct python *py)
{
	static const char *const plain[] = {"vendor", "site-packages", "lib", "__pypackages__"};
	static const char *const venv[] = {".venv/lib", "venv/lib", "env/lib"};

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		char *info = app_glob(py->a, plain[i], "*-info", false);
		/* any directory called vendor counts: pip's metadata may have been cleaned away */
		if (info || (i < 2 && app_has_dir(py->a, plain[i])))
			strings_add(&py->trees, plain[i]);
		free(info);
	}
	for (size_t i = 0; i < sizeof(venv) / sizeof(venv[0]); i++) {
		char *version = app_glob(py->a, venv[i], "python3*", false);
		char *dir = version ? textf("%s/%s/site-packages", venv[i], version) : NULL;
		if (dir && app_has_dir(py->a, dir))
			strings_add(&py->trees, dir);
		free(dir);
		free(version);
	}
}

static bool vendored(const struct python *py, const char *pattern, const char *name)
{
	char *info = textf("%s-[0-9]*-info", pattern), *module = textf("%s", name), *hit = NULL;

	for (char *p = module; *p; p++)
		*p = *p == '-' || *p == '.' ? '_' : *p;
	for (size_t i = 0; !hit && i < py->trees.n; i++) {
		hit = app_glob(py->a, py->trees.v[i], info, true);
		if (!hit)
			hit = app_glob(py->a, py->trees.v[i], module, true);
		if (!hit) {
			char *file = textf("%s.py", module);
			hit = app_glob(py->a, py->trees.v[i], file, true);
			free(file);
		}
	}
	free(info);
	free(module);
	free(hit);
	return hit != NULL;
}

/* One requirement by its name alone; versions are the vendor's or Debian's affair. */
static void require(struct python *py, const char *file, const char *s, size_t n)
{
	char name[128], pattern[512], deb[128];
	size_t m = 0, k = 0, d = 0;

	for (size_t i = 0;
	     i < n && m < sizeof(name) - 1 && (isalnum((unsigned char)s[i]) || strchr("-_.", s[i])); i++) {
		name[m++] = s[i];
		if (isalnum((unsigned char)s[i])) {
			pattern[k++] = deb[d++] = (char)tolower((unsigned char)s[i]);
		} else if (!k || pattern[k - 1] != ']') {
			k += (size_t)snprintf(pattern + k, sizeof(pattern) - k, "[-_.]");
			deb[d++] = s[i] == '.' ? '.' : '-';
		}
	}
	name[m] = pattern[k] = deb[d] = 0;
	if (!m || !strcasecmp(name, "python") || vendored(py, pattern, name))
		return;
	const char *short_deb = !strncmp(deb, "python-", 7) ? deb + 7 : deb;
	char *advice =
		textf("vendor it (pip install -t vendor %s) or add python3-%s to Aptfile", name, short_deb);
	struct need *need = app_need(py->a, file, name, advice);
	need_path(need, DIST "/%s-[0-9]*.egg-info", pattern);
	need_path(need, DIST "/%s-[0-9]*.dist-info", pattern);
	need_path(need, DIST "/%s.egg-info", pattern);
	free(advice);
}

/* "; sys_platform == 'win32'" and the like: not for here. */
static bool for_elsewhere(const struct python *py, const char *line)
{
	const char *marker = strchr(line, ';');

	return marker && marker_excludes(marker + 1, py->minor);
}

/* Of the python3 that the image will have. */
static int python_minor(void)
{
	char *version = debs_version("python3");
	int minor = 11;

	if (version)
		sscanf(version, "3.%d", &minor);
	free(version);
	return minor;
}

static int read_requirements(struct python *py, const char *file)
{
	char *text = app_read(py->a, file, NULL), *rest = text;
	int status = 0;

	if (!text)
		return out_fail(EXIT_OURS, "%s cannot be read", file);
	for (char *p; !status && (p = strsep(&rest, "\n"));) {
		p += strspn(p, " \t");
		p[strcspn(p, "\r")] = 0;
		char *hash = *p == '#' ? p : strstr(p, " #");
		if (hash)
			*hash = 0;
		bool include = !strncmp(p, "-r", 2) || !strncmp(p, "--requirement", 13);
		if (include && py->includes < MAX_INCLUDES) {
			py->includes++;
			p += *(p + 1) == '-' ? 13 : 2;
			p += strspn(p, " \t=");
			p[strcspn(p, " \t")] = 0;
			status = read_requirements(py, p);
		} else if (isalnum((unsigned char)*p) && !for_elsewhere(py, p)) {
			require(py, file, p, strlen(p));
		}
	}
	free(text);
	return status;
}

/* Names in a table (Poetry, Pipfile), or strings in an array ([project]). */
static void require_from(struct python *py, const char *file, const struct toml *t, const char *path)
{
	const struct toml_entry *e;
	const char *key;

	for (size_t at = 0; (e = toml_next(t, path, &at, &key));) {
		const struct toml_entry *whole = toml_find(t, path);
		const char *s = whole && whole->type == TOML_ARRAY ? e->value : key;
		if (!for_elsewhere(py, s))
			require(py, file, s, strlen(s));
	}
}

static int read_toml(struct python *py, const char *file)
{
	struct toml t = {0};
	size_t n;
	char *text = app_read(py->a, file, &n);

	if (!text)
		return out_fail(EXIT_OURS, "%s cannot be read", file);
	bool good = toml_parse(text, n, &t);
	if (good) {
		require_from(py, file, &t, "project/dependencies");
		require_from(py, file, &t, "tool/poetry/dependencies");
		require_from(py, file, &t, "packages");
	}
	int status = good ? 0 : out_fail(EXIT_OURS, "%s, %s", file, t.error);
	toml_free(&t);
	free(text);
	return status;
}

static bool file_says(const struct app *a, const char *file, const char *word)
{
	char *text = app_read(a, file, NULL);
	bool says = text && strstr(text, word);

	free(text);
	return says;
}

static void default_process(struct app *a)
{
	if (app_has(a, "manage.py"))
		app_process(a, "web", "python3 manage.py runserver 0.0.0.0:$PORT --noreload");
	else if (app_has(a, "app.py") && file_says(a, "app.py", "Flask(") &&
		 !file_says(a, "app.py", "run(") && !file_says(a, "app.py", "__main__"))
		app_process(a, "web", "python3 -m flask --app app run --host 0.0.0.0 --port $PORT");
	else if (app_has(a, "app.py"))
		app_process(a, "web", "python3 app.py");
	else if (app_has(a, "main.py"))
		app_process(a, "web", "python3 main.py");
}

static void set_path(struct python *py)
{
	char *path = textf("PYTHONPATH=");

	for (size_t i = 0; i < py->trees.n; i++) {
		char *more = textf("%s%s/app/%s", path, i ? ":" : "", py->trees.v[i]);
		free(path);
		path = more;
	}
	if (py->trees.n)
		app_env(py->a, path);
	free(path);
}

/* Heroku's users say which Python they want; here it is Debian's. */
static void tell_version(const struct python *py)
{
	static const char *const files[] = {"runtime.txt", ".python-version"};

	for (size_t i = 0; i < 2; i++) {
		char *text = app_read(py->a, files[i], NULL);
		const char *v = text && !strncmp(text, "python-", 7) ? text + 7 : text;
		int minor;
		if (v && sscanf(v, "3.%d", &minor) == 1 && minor != py->minor)
			out_line("%s asks for Python 3.%d; the image has Debian's, 3.%d", files[i], minor,
				 py->minor);
		free(text);
	}
}

static int fill(struct app *a)
{
	struct python py = {.a = a, .minor = python_minor()};
	int status = 0;

	tell_version(&py);
	find_trees(&py);
	if (app_has(a, "requirements.txt"))
		status = read_requirements(&py, "requirements.txt");
	else if (app_has(a, "pyproject.toml"))
		status = read_toml(&py, "pyproject.toml");
	else if (app_has(a, "Pipfile"))
		status = read_toml(&py, "Pipfile");
	else if (app_has(a, "manage.py"))
		require(&py, "manage.py", "django", 6);
	if (!a->plan->runtime_packages.n)
		app_runtime(a, "python3");
	a->plan->runtime = textf("python3");
	app_link(a, "python=/usr/bin/python3");
	default_process(a);
	set_path(&py);
	app_env(a, "PYTHONUNBUFFERED=1");
	app_env(a, "PYTHONDONTWRITEBYTECODE=1");
	ignore_parse(&a->plan->skip, 's', "__pycache__/\n*.pyc\n");
	strings_free(&py.trees);
	return status;
}

const struct language lang_python = {
	"Python",
	"python",
	"requirements.txt, pyproject.toml, Pipfile, setup.py, manage.py, app.py",
	" python3 python gunicorn uvicorn flask celery ",
	found,
	fill,
};
