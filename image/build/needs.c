/* SPDX-License-Identifier: ISC */
/*
 * Is everything that the app declares in its image? What an app's own tree does not hold must be in a package. Dependencies are
 * not fetched from a language's registry (but npm's): the advice is to vendor them or to name a Debian package.
 *
 * The question is put to the layers themselves, once they are there: they hold what the program will find, whether its
 * package is installed on this machine or was fetched. Patterns are walked a component at a time, so a look costs a few
 * directories. Short names that no package owns and no alternative makes (python) become links in /usr/local/bin.
 */
#include <dirent.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/build/detect.h"
#include "lib/erofs.h"
#include "lib/host/say.h"

#define MAX_TOLD 10

struct view {
	int n;
	struct erofs fs[IMAGE_MAX_LAYERS];
};

static void view_open(struct view *v, struct store *s, const struct layer *layers, int n)
{
	v->n = 0;
	for (int i = 0; i < n; i++) {
		uint64_t size = 0;
		int fd = store_blob(s, layers[i].hex, &size);
		void *base = fd >= 0 ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
		if (fd >= 0)
			close(fd);
		if (base == MAP_FAILED)
			continue;
		if (erofs_open(&v->fs[v->n], base, size))
			munmap(base, size);
		else
			v->n++;
	}
}

static void view_close(struct view *v)
{
	while (v->n) {
		struct erofs *fs = &v->fs[--v->n];
		munmap((void *)fs->base, fs->size);
	}
}

/* Is there a path below `dir` that matches the components of `pattern`? */
static bool match_below(const struct erofs *fs, uint64_t dir_nid, const char *pattern)
{
	size_t len = strcspn(pattern, "/");
	char part[256], name[256];
	struct erofs_inode dir;
	struct erofs_dirent e;
	const char *rest = pattern + len + (pattern[len] == '/');

	if (!len || len >= sizeof(part) || erofs_inode(fs, dir_nid, &dir) || (dir.mode & 0170000) != 0040000)
		return false;
	memcpy(part, pattern, len);
	part[len] = 0;
	if (!strpbrk(part, "*?["))
		return !erofs_lookup(fs, &dir, part, len, &e) && (!*rest || match_below(fs, e.nid, rest));
	for (uint64_t pos = 0; erofs_readdir(fs, &dir, pos, &e) == 1; pos = e.next_pos) {
		if (e.len >= sizeof(name))
			continue;
		memcpy(name, e.name, e.len);
		name[e.len] = 0;
		if (!fnmatch(part, name, FNM_PERIOD | FNM_CASEFOLD) &&
		    (!*rest || match_below(fs, e.nid, rest)))
			return true;
	}
	return false;
}

static bool view_has(const struct view *v, const char *pattern)
{
	for (int i = 0; i < v->n; i++)
		if (match_below(&v->fs[i], v->fs[i].root_nid, pattern + 1))
			return true;
	return false;
}

static bool have_any(const struct view *v, const struct strings *paths)
{
	for (size_t i = 0; i < paths->n; i++)
		if (view_has(v, paths->v[i]))
			return true;
	return false;
}

static int check_needs(const struct view *v, const struct plan *p)
{
	char *text = NULL;
	size_t missing = 0;

	for (const struct need *n = p->needs; n; n = n->next) {
		if (have_any(v, &n->paths) || ++missing > MAX_TOLD)
			continue;
		char *more = textf("%s%s%s names %s: %s", text ? text : "", text ? "\n" : "", n->file,
				   n->name, n->advice);
		free(text);
		text = more;
	}
	if (!missing)
		return 0;
	int status = missing > MAX_TOLD ? out_fail(EXIT_OURS, "%s\nand %zu more", text, missing - MAX_TOLD)
					: out_fail(EXIT_OURS, "%s", text);
	free(text);
	return status;
}

/* "python=/usr/bin/python3": only where a command says that word and nothing in the layers has it. */
static void resolve_links(const struct view *v, struct plan *p)
{
	struct strings out = {0};
	char word[256], usual[300];

	for (size_t i = 0; i < p->links.n; i++) {
		const char *eq = strchr(p->links.v[i], '=');
		bool used = false;
		for (size_t k = 0; k < p->processes.n; k++)
			used |= command_word(strchr(p->processes.v[k], '=') + 1, word, sizeof(word)) &&
				strlen(word) == (size_t)(eq - p->links.v[i]) &&
				!strncmp(word, p->links.v[i], strlen(word));
		if (!used)
			continue;
		snprintf(usual, sizeof(usual), "/usr/bin/%.*s", (int)(eq - p->links.v[i]), p->links.v[i]);
		if (view_has(v, usual))
			continue;
		char *copy = textf("%s", eq + 1), *rest = copy, *path;
		while ((path = strsep(&rest, " ")))
			if (*path && view_has(v, path)) {
				strings_addf(&out, "%.*s=%s", (int)(eq - p->links.v[i]), p->links.v[i], path);
				break;
			}
		free(copy);
	}
	strings_free(&p->links);
	p->links = out;
}

/* A shell knows these itself. */
static bool shell_word(const char *w)
{
	static const char words[] =
		" cd . source export set unset if for while case until eval exec test [ echo true false : "
		"ulimit umask wait read printf trap type command ";
	char spaced[260];

	snprintf(spaced, sizeof(spaced), " %s ", w);
	return strstr(words, spaced) != NULL;
}

static bool has_program(const struct view *v, const struct plan *p, const char *word)
{
	static const char *const dirs[] = {"/usr/bin", "/bin",		 "/usr/sbin",
					   "/sbin",    "/usr/local/bin", "/usr/local/sbin"};
	char path[512];

	if (strchr(word, '/') || shell_word(word) || strings_env(&p->links, word))
		return true;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", dirs[i], word);
		if (view_has(v, path))
			return true;
	}
	return false;
}

/* A command whose program is nowhere would end with 127 each time it is started. PATH of the app's own decides for itself. */
static int check_programs(const struct view *v, const struct plan *p)
{
	char word[256];

	if (strings_env(&p->env, "PATH"))
		return 0;
	for (size_t i = 0; i < p->processes.n; i++) {
		const char *type = p->processes.v[i], *eq = strchr(type, '=');
		if (command_word(eq + 1, word, sizeof(word)) && !has_program(v, p, word))
			return out_fail(EXIT_OURS,
					"Process %.*s runs '%s', which no package of the image has.\n"
					"Add the Debian package that has it to Aptfile, or name a program of "
					"the app by its "
					"path: ./%s",
					(int)(eq - type), type, word, word);
	}
	return 0;
}

int plan_check(struct store *s, struct plan *p, const struct layer *layers, int n)
{
	struct view v;

	if (!p->needs && !p->links.n && !p->processes.n)
		return 0;
	view_open(&v, s, layers, n);
	resolve_links(&v, p);
	int status = check_needs(&v, p);
	if (!status)
		status = check_programs(&v, p);
	view_close(&v);
	return status;
}
