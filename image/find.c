/* SPDX-License-Identifier: ISC */
/*
 * From the word that the user typed to a program that can be executed.
 *
 * A word with a slash is a path, another is searched on the host's PATH. The
 * shims of pyenv and rbenv are scripts that would fork their way to the real
 * program; they are looked through here. A script that begins with
 * `#!/usr/bin/env NAME` is turned into NAME SCRIPT..., since env would have
 * to search the guest's PATH for what was found on the host's.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/collect.h"
#include "image/elf.h"
#include "image/run.h"
#include "lib/host/say.h"

#define MAX_SCRIPT_DEPTH 4

const char *env_get(const char *const *env, const char *name)
{
	size_t n = strlen(name);

	for (; env && *env; env++)
		if (!strncmp(*env, name, n) && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

void program_free(struct program *p)
{
	if (!p->own_argv)
		return;
	free(p->own_argv[0]);
	free(p->own_argv);
}

static ssize_t read_head(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : pread(fd, buf, size - 1, 0);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n;
}

/* First word of a file's first line, or of the environment variable: which version is wanted. */
static bool version_wanted(const char *root, const char *env_name, char *out, size_t size)
{
	const char *e = getenv(env_name);
	char file[PATH_MAX], buf[256];

	if (e && *e) {
		snprintf(buf, sizeof(buf), "%s", e);
	} else {
		snprintf(file, sizeof(file), "%s/version", root);
		if (read_head(file, buf, sizeof(buf)) <= 0)
			return false;
	}
	buf[strcspn(buf, " \t\r\n:")] = 0;
	if (!buf[0] || strchr(buf, '/'))
		return false;
	return snprintf(out, size, "%s", buf) < (int)size;
}

/* If path is ROOT/shims/NAME of pyenv or rbenv: the real program into out. */
static bool through_shim(const char *path, char *out, size_t size)
{
	static const char *const tools[][2] = {
		{"pyenv", "PYENV_VERSION"}, {"rbenv", "RBENV_VERSION"}, {"nodenv", "NODENV_VERSION"}};
	const char *at = strstr(path, "/shims/");
	char head[1024], root[PATH_MAX], version[128];

	if (!at || strchr(at + 7, '/') || read_head(path, head, sizeof(head)) <= 0)
		return false;
	snprintf(root, sizeof(root), "%.*s", (int)(at - path), path);
	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++) {
		if (!strstr(head, tools[i][0]) ||
		    !version_wanted(root, tools[i][1], version, sizeof(version)))
			continue;
		snprintf(out, size, "%s/versions/%s/bin/%s", root, version, at + 7);
		return !access(out, X_OK);
	}
	return false;
}

static bool is_executable_file(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* Search the host's PATH. 0, or an exit status (nothing printed). */
int program_search(const char *name, char *out, size_t size)
{
	const char *path = getenv("PATH");
	int status = EXIT_NOT_FOUND;

	if (!path || !*path)
		path = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";
	for (const char *p = path; p; p = strchr(p, ':') ? strchr(p, ':') + 1 : NULL) {
		char file[PATH_MAX], real[PATH_MAX];
		int len = (int)strcspn(p, ":");
		if (snprintf(file, sizeof(file), "%.*s%s%s", len, p, len ? "/" : "./", name) >=
		    (int)sizeof(file))
			continue;
		if (!is_executable_file(file)) {
			if (!access(file, F_OK))
				status = EXIT_CANNOT_EXEC;
			continue;
		}
		if (strstr(file, "/shims/")) {
			if (!through_shim(file, real, sizeof(real)))
				continue; /* a version that is the system's: further on in PATH */
			return snprintf(out, size, "%s", real) < (int)size ? 0 : EXIT_NOT_FOUND;
		}
		return snprintf(out, size, "%s", file) < (int)size ? 0 : EXIT_NOT_FOUND;
	}
	return status;
}

static int not_on_path(const char *name, int status)
{
	char here[PATH_MAX];

	if (status == EXIT_CANNOT_EXEC)
		return say_fail(status, "%s: found on PATH, but not executable", name);
	if (stored_has(name))
		return say_fail(status,
				"%s: not found on PATH; for the image of that name: cowbell run image:%s",
				name, name);
	snprintf(here, sizeof(here), "./%s", name);
	if (!access(here, F_OK))
		return say_fail(status, "%s: not found on PATH; for the one in this directory: ./%s", name,
				name);
	return say_fail(status, "%s: not found on PATH; install it, or give its path", name);
}

static int check_path(const char *path, char *real)
{
	struct stat st;

	if (stat(path, &st)) {
		if (errno == ENOENT || errno == ENOTDIR)
			return say_fail(EXIT_NOT_FOUND, "%s: no such file", path);
		return say_fail(EXIT_CANNOT_EXEC, "%s: %s", path, strerror(errno));
	}
	if (S_ISDIR(st.st_mode))
		return say_fail(EXIT_CANNOT_EXEC, "%s: is a directory; give a program in it", path);
	if (!S_ISREG(st.st_mode))
		return say_fail(EXIT_CANNOT_EXEC, "%s: is not a regular file", path);
	if (access(path, X_OK))
		return say_fail(EXIT_CANNOT_EXEC, "%s: is not executable; make it so: chmod +x '%s'", path,
				path);
	if (!realpath(path, real))
		return say_fail(EXIT_CANNOT_EXEC, "%s: %s", path, strerror(errno));
	return 0;
}

/* --- scripts -------------------------------------------------------------------- */

/* "#!" line: interpreter and its one argument ("" if none). False if the file is no script. */
static bool shebang(const char *path, char *interp, char *arg, size_t size)
{
	char head[PATH_MAX + 256];

	interp[0] = arg[0] = 0;
	if (read_head(path, head, sizeof(head)) < 2 || head[0] != '#' || head[1] != '!')
		return false;
	head[strcspn(head, "\r\n")] = 0;
	char *p = head + 2 + strspn(head + 2, " \t");
	size_t n = strcspn(p, " \t");
	snprintf(interp, size, "%.*s", (int)n, p);
	p += n;
	p += strspn(p, " \t");
	for (n = strlen(p); n && strchr(" \t", p[n - 1]);)
		p[--n] = 0;
	snprintf(arg, size, "%s", p);
	return true;
}

/* New argument list: words of `first` (split at blanks), the script, the old arguments. */
static int rewrite_argv(struct program *p, const char *first, const char *script)
{
	size_t n = 0;
	while (p->argv[n])
		n++;
	char *words = NULL, *save = NULL;
	char **v = calloc(n + 16, sizeof(*v));
	size_t len = strlen(first) + 1, k = 0;

	/* one block holds the words and the script's name; v[0] is its start */
	words = malloc(len + strlen(script) + 1);
	if (!v || !words) {
		free(v);
		free(words);
		return say_fail(EXIT_OURS, "out of memory");
	}
	memcpy(words, first, len);
	for (char *w = strtok_r(words, " \t", &save); w && k < 14; w = strtok_r(NULL, " \t", &save))
		v[k++] = w;
	v[k++] = strcpy(words + len, script);
	for (size_t i = 1; i < n; i++)
		v[k++] = (char *)p->argv[i];
	p->argv = (const char *const *)v;
	p->own_argv = v;
	return 0;
}

/* A script of env: find what env would find. `arg` is env's argument. */
static int through_env(struct program *p, const char *arg)
{
	char name[256], script[PATH_MAX];

	if (!strncmp(arg, "-S", 2))
		arg += 2 + strspn(arg + 2, " \t");
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(arg, " \t"), arg);
	if (!name[0] || name[0] == '-' || strchr(name, '='))
		return say_fail(EXIT_CANNOT_EXEC,
				"%s: cannot make out what its #!/usr/bin/env line wants to run", p->path);
	snprintf(script, sizeof(script), "%s", p->path);
	int status = program_search(name, p->path, sizeof(p->path));
	if (status)
		return say_fail(EXIT_NOT_FOUND, "%s: its interpreter %s is not on PATH; install it", script,
				name);
	if (!realpath(p->path, p->real))
		return say_fail(EXIT_CANNOT_EXEC, "%s: %s", p->path, strerror(errno));
	return rewrite_argv(p, arg, script);
}

static int check_elf(const char *shown, const char *path, bool all)
{
	struct elf_info info;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return say_fail(EXIT_CANNOT_EXEC, "%s: cannot be read: %s", shown, strerror(errno));
	const char *why = all ? elf_read(fd, &info) : elf_read_head(fd, &info);
	int status = 0;
	if (why)
		status = say_fail(EXIT_CANNOT_EXEC, "%s: %s", shown, why);
	else if (info.interp && access(info.interp, F_OK))
		status = say_fail(EXIT_CANNOT_EXEC, "%s: its dynamic linker %s is missing; install it", shown,
				  info.interp);
	elf_free(&info);
	close(fd);
	return status;
}

/* Follow #! lines down to an ELF file, which is checked. */
static int check_executable(struct program *p, bool all, int depth)
{
	char interp[PATH_MAX], arg[PATH_MAX], at[PATH_MAX], real[PATH_MAX];

	if (!shebang(p->path, interp, arg, sizeof(interp)))
		return check_elf(p->path, p->path, all);
	const char *base = strrchr(interp, '/');
	if (base && !strcmp(base, "/env") && !p->own_argv) {
		int status = through_env(p, arg);
		return status ? status : check_executable(p, all, depth + 1);
	}
	snprintf(at, sizeof(at), "%s", p->path);
	while (shebang(at, interp, arg, sizeof(interp))) {
		if (++depth > MAX_SCRIPT_DEPTH)
			return say_fail(EXIT_CANNOT_EXEC,
					"%s: its #! lines lead from script to script for ever", p->path);
		if (!interp[0])
			return say_fail(EXIT_CANNOT_EXEC, "%s: its #! line names no interpreter", p->path);
		if (!realpath(interp, real) || access(interp, X_OK))
			return say_fail(EXIT_CANNOT_EXEC, "%s: its interpreter %s is missing; install it",
					p->path, interp);
		snprintf(at, sizeof(at), "%s", real);
	}
	return check_elf(p->path, at, all);
}

/* Directories that are a system's or a user's, not an application's: too much, and none of the program's business. */
static bool is_app_dir(const char *cwd)
{
	static const char *const whole[] = {"/",    "/home", "/media", "/mnt",	   "/opt",    "/root",
					    "/srv", "/tmp",  "/var",   "/var/tmp", "/var/lib"};
	static const char *const below[] = {
		"/bin",	 "/boot", "/dev",     "/etc",	   "/lib",     "/lib64",     "/proc",	    "/run",
		"/sbin", "/sys",  "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/share", "/usr/include"};
	const char *home = getenv("HOME");

	if (home && !strcmp(home, cwd))
		return false;
	for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
		if (!strcmp(cwd, whole[i]))
			return false;
	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
		size_t n = strlen(below[i]);
		if (!strncmp(cwd, below[i], n) && (!cwd[n] || cwd[n] == '/'))
			return false;
	}
	return strcmp(cwd, "/usr") && strcmp(cwd, "/usr/local");
}

int program_find(const struct image_request *req, struct program *out)
{
	const char *word = req->program;
	char found[PATH_MAX], shim[PATH_MAX];
	int status;

	memset(out, 0, sizeof(*out));
	out->argv = req->argv;
	if (!getcwd(out->cwd, sizeof(out->cwd)))
		return say_fail(EXIT_OURS, "the current directory is gone; change to another one");
	out->take_cwd = is_app_dir(out->cwd);
	if (strchr(word, '/')) {
		if (snprintf(found, sizeof(found), "%s", word) >= (int)sizeof(found))
			return say_fail(EXIT_NOT_FOUND, "the program's path is too long");
		if (through_shim(found, shim, sizeof(shim)))
			strcpy(found, shim);
	} else {
		status = program_search(word, found, sizeof(found));
		if (status)
			return not_on_path(word, status);
	}
	status = check_path(found, out->real);
	if (status)
		return status;
	const char *rel = found;
	while (!strncmp(rel, "./", 2))
		rel += 2 + strspn(rel + 2, "/");
	int n = found[0] == '/'
			? snprintf(out->path, sizeof(out->path), "%s", found)
			: snprintf(out->path, sizeof(out->path), "%s/%s", out->cwd[1] ? out->cwd : "", rel);
	if (n >= (int)sizeof(out->path))
		return say_fail(EXIT_NOT_FOUND, "the program's path is too long");
	return check_executable(out, false, 0);
}

int program_check(struct program *p)
{
	return check_executable(p, true, 0);
}
