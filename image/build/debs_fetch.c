/* SPDX-License-Identifier: ISC */
/*
 * Packages that are not installed, by way of apt, as whoever runs us: nothing
 * is installed and no lock of the system's is needed.
 *
 *   1. apt-get --simulate install   apt's resolver says what would come
 *   2. apt-cache show               the records of these: dependencies, size, SHA-256
 *   3. apt-get download             what the layer needs of them; apt checks each file against the signed
 *                                   lists, we check it against the record when it enters the store
 *
 * A .deb is a blob of the store, so it comes over the network once. Names
 * reach apt only after deb_name_ok(), after "--", with its patterns off.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/build/debs.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

/* out_fail(), unless nobody is to hear of it. */
__attribute__((format(printf, 2, 3))) static int refuse(bool quiet, const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	int n = quiet ? -1 : vasprintf(&text, fmt, ap);
	va_end(ap);
	if (n >= 0) {
		out_fail(EXIT_OURS, "%s", text);
		free(text);
	}
	return EXIT_OURS;
}

/* --- what apt would install ----------------------------------------------------------------- */

#define APT_OPTIONS                                                                                          \
	"-o", "APT::Cmd::Pattern-Only=true", "-o", "Debug::NoLocking=1", "-o",                               \
		"APT::Get::Show-User-Simulation-Note=false"

/* Close in letters: fewer than three changes. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[132];
	size_t n = strlen(b);

	if (n > 130)
		return 99;
	for (size_t j = 0; j <= n; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; a[i - 1]; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= n; j++) {
			unsigned change = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			unsigned least = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
			row[j] = change < least ? change : least;
		}
	}
	return row[n];
}

/* How near a name is: 0 one change away, 1 some language's package of it (flask: python3-flask), 2 two changes; 3 not. */
static int nearness(const char *name, const char *other)
{
	const char *last = strrchr(other, '-');
	size_t n = strlen(name), m = strlen(other);

	if (m + 2 < n || m > n + 10)
		return 3;
	unsigned d = distance(name, other);
	if (d < 2)
		return 0;
	if (n > 3 && last && distance(name, last + 1) < 2)
		return 1;
	return d == 2 && n > 3 ? 2 : 3;
}

/* "Did you mean ...?", from all names that apt knows; "" if nothing is near. */
static void suggest(const char *name, char *buf, size_t size)
{
	static const char *const argv[] = {"apt-cache", "pkgnames", NULL};
	struct strings near[3] = {0};
	char *out = NULL, *save;
	size_t n, at = 0, given = 0;

	buf[0] = 0;
	if (fetch_run(argv, NULL, -1, &out, &n, NULL) == 0)
		for (char *w = strtok_r(out, "\n", &save); w; w = strtok_r(NULL, "\n", &save)) {
			int d = nearness(name, w);
			if (d < 3 && deb_name_ok(w))
				strings_add_once(&near[d], w);
		}
	for (size_t d = 0; d < 3; d++) {
		strings_sort(&near[d]);
		for (size_t i = 0; i < near[d].n && given < 4 && at + 140 < size; i++, given++)
			at += (size_t)snprintf(buf + at, size - at, "%s%.128s",
					       given ? ", " : "\nDid you mean: ", near[d].v[i]);
		strings_free(&near[d]);
	}
	free(out);
}

static bool have_lists(void)
{
	DIR *d = opendir("/var/lib/apt/lists");
	struct dirent *e;
	bool found = false;

	while (d && !found && (e = readdir(d)))
		found = strstr(e->d_name, "_Packages") != NULL;
	if (d)
		closedir(d);
	return found;
}

static int unknown_package(const char *name, bool quiet)
{
	char hint[800];

	if (quiet)
		return EXIT_OURS;
	if (!have_lists())
		return out_fail(EXIT_OURS,
				"%s is not installed, and apt has no lists of packages to find it in.\n"
				"Run: sudo apt-get update",
				name);
	suggest(name, hint, sizeof(hint));
	return out_fail(EXIT_OURS, "There is no Debian package %s.%s", name, hint);
}

/* Lines of apt for the user: "E: ..." and " a : Depends: b but it is not ...". */
static void apt_errors(const char *err, const char *out, char *buf, size_t size)
{
	const char *const texts[] = {err, out};
	size_t at = 0;

	buf[0] = 0;
	for (size_t i = 0; i < 2; i++)
		for (const char *line = texts[i]; line && *line;) {
			size_t n = strcspn(line, "\n");
			bool shown = !strncmp(line, "E: ", 3) ||
				     (i == 1 && *line == ' ' && memmem(line, n, " but ", 5));
			if (shown && at + n + 2 < size)
				at += (size_t)snprintf(buf + at, size - at, "\n%.*s", (int)n, line);
			line += n + (line[n] == '\n');
		}
}

/* Lines "Inst NAME[:ARCH] [OLD] (NEW ORIGIN [ARCH])" become "NAME=NEW". */
static void read_plan(char *text, struct strings *out)
{
	char *save, name[160], version[160];

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *open = strchr(line, '(');
		if (strncmp(line, "Inst ", 5) || !open || sscanf(line, "Inst %159[^: ]", name) != 1 ||
		    sscanf(open, "(%159[^ )]", version) != 1 || !deb_name_ok(name))
			continue;
		strings_addf(out, "%s=%s", name, version);
	}
}

static void start(struct strings *argv, const char *const *words)
{
	for (; *words; words++)
		strings_add(argv, *words);
}

static int ask_plan(const struct strings *names, struct strings *plan, bool quiet)
{
	static const char *const words[] = {"apt-get",	 "-s",	    "-q", "-y", "--no-install-recommends",
					    APT_OPTIONS, "install", "--", NULL};
	struct strings argv = {0};
	char *out, *err = NULL, lines[2000];
	size_t n;

	start(&argv, words);
	for (size_t i = 0; i < names->n; i++)
		strings_add(&argv, names->v[i]);
	int status = fetch_run((const char *const *)argv.v, NULL, -1, &out, &n, &err);
	strings_free(&argv);
	if (!status) {
		read_plan(out, plan);
	} else {
		apt_errors(err, out, lines, sizeof(lines));
		status = refuse(quiet, "apt finds no way to these packages:%s", lines);
	}
	free(out);
	free(err);
	return status;
}

/* apt-cache show for names or NAME=VERSION: into *out. */
static int show(const struct strings *what, char **out, size_t *n)
{
	static const char *const words[] = {"apt-cache", "-q", "--no-all-versions", APT_OPTIONS, "show",
					    "--",	 NULL};
	struct strings argv = {0};

	start(&argv, words);
	for (size_t i = 0; i < what->n; i++)
		strings_add(&argv, what->v[i]);
	int status = fetch_run((const char *const *)argv.v, NULL, -1, out, n, NULL);
	strings_free(&argv);
	return status;
}

/* Each name must be a package's, or apt would take it for something else. */
static int check_known(const struct strings *names, bool quiet)
{
	struct control known = {0};
	struct relation r = {0};
	char *out;
	size_t n;
	int status = 0;

	int ran = show(names, &out, &n);
	if (ran < 0) {
		free(out);
		return refuse(quiet,
			      "%s is not installed, and there is no apt to fetch it with (apt-cache: %s)",
			      names->v[0], say_errno(errno));
	}
	control_read(&known, out, n, false);
	for (size_t i = 0; i < names->n && !status; i++) {
		r.name = names->v[i];
		r.name_len = strlen(names->v[i]);
		if (!control_satisfy(&known, &r))
			status = unknown_package(names->v[i], quiet);
	}
	control_free(&known);
	return status;
}

/* What decides apt's answer: the question, what is installed, the lists and the sources. */
static void plan_key(const struct strings *names, char hex[65])
{
	static const char *const paths[] = {DPKG_STATUS,
					    "/var/lib/apt/lists",
					    "/etc/apt/sources.list",
					    "/etc/apt/sources.list.d",
					    "/etc/apt/preferences",
					    "/etc/apt/preferences.d",
					    "/etc/apt/apt.conf.d"};
	char *text = NULL;
	size_t n = 0;
	struct stat st;
	const char *conf = getenv("APT_CONFIG");
	FILE *f = open_memstream(&text, &n);

	if (f && conf && !stat(conf, &st))
		fprintf(f, "%s %lld.%09ld\n", conf, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	for (size_t i = 0; f && i < sizeof(paths) / sizeof(paths[0]); i++)
		if (!stat(paths[i], &st))
			fprintf(f, "%s %lld.%09ld\n", paths[i], (long long)st.st_mtim.tv_sec,
				st.st_mtim.tv_nsec);
	for (size_t i = 0; f && i < names->n; i++)
		fprintf(f, "%s\n", names->v[i]);
	if (f)
		fclose(f);
	sha256_hex(text ? text : "", text ? n : 0, hex);
	free(text);
}

int fetch_records(struct debs *d, const struct strings *names, bool quiet)
{
	struct strings plan = {0};
	char key[65], *out;
	size_t n;
	int status;

	plan_key(names, key);
	out = store_memo_get(d->s, "debplan", key);
	if (out)
		return control_read(d->db, out, strlen(out), false) ? 0
								    : out_fail(EXIT_OURS, "out of memory");
	progress_begin("looking packages up", 0, false);
	status = check_known(names, quiet);
	if (!status)
		status = ask_plan(names, &plan, quiet);
	progress_end();
	if (!status && plan.n) {
		if (show(&plan, &out, &n)) {
			free(out);
			status = refuse(quiet, "apt-cache does not show %s", plan.v[0]);
		} else {
			store_memo_set(d->s, "debplan", key, out);
			if (!control_read(d->db, out, n, false))
				status = out_fail(EXIT_OURS, "out of memory");
		}
	}
	if (status && quiet)
		store_memo_set(d->s, "debplan", key, "\n"); /* nothing to be had, until apt's lists change */
	strings_free(&plan);
	return status;
}

static char *ask_version(const struct strings *name)
{
	struct control known = {0};
	struct relation r = {.name = name->v[0], .name_len = strlen(name->v[0])};
	char *out, *version = NULL;
	size_t n;

	show(name, &out, &n);
	if (!out || !control_read(&known, out, n, false))
		return NULL;
	const struct deb *p = control_satisfy(&known, &r);
	if (p)
		version = strdup(p->version);
	control_free(&known);
	return version;
}

char *fetch_version(const char *package)
{
	struct strings name = {0};
	struct store *s = store_open(); /* for the memo alone: asking apt takes half a second */
	char key[65];

	strings_add(&name, package);
	plan_key(&name, key);
	char *version = s ? store_memo_get(s, "debversion", key) : NULL;
	if (!version) {
		version = ask_version(&name);
		if (s)
			store_memo_set(s, "debversion", key, version ? version : "-");
	}
	if (version && !strcmp(version, "-")) {
		free(version);
		version = NULL;
	}
	store_close(s);
	strings_free(&name);
	return version;
}

/* --- the files ------------------------------------------------------------------------------- */

/* One file of the scratch directory becomes a blob, if it is one that is wanted. */
static int keep_deb(struct debs *d, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	static char buf[1 << 16];
	char hex[65];
	uint64_t size;
	const struct deb *p = NULL;

	if (fd < 0 || sha256_fd(fd, hex)) {
		if (fd >= 0)
			close(fd);
		return -EIO;
	}
	for (size_t i = 0; i < d->n && !p; i++)
		if (d->v[i]->sha256 && !strcmp(d->v[i]->sha256, hex))
			p = d->v[i];
	struct blob *b = p ? blob_new(d->s) : NULL;
	if (b && lseek(fd, 0, SEEK_SET) == 0) {
		ssize_t n;
		while (!r && (n = read(fd, buf, sizeof(buf))) > 0)
			r = blob_write(b, buf, (size_t)n);
		if (r)
			blob_abort(b);
		else
			r = blob_commit(b, p->sha256, hex, &size);
	}
	close(fd);
	return r;
}

static int keep_all(struct debs *d, const char *dir)
{
	DIR *dp = opendir(dir);
	struct dirent *e;
	char path[4096];
	int r = 0;

	while (dp && !r && (e = readdir(dp))) {
		size_t n = strlen(e->d_name);
		if (n > 4 && !strcmp(e->d_name + n - 4, ".deb") &&
		    snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) < (int)sizeof(path))
			r = keep_deb(d, path);
	}
	if (dp)
		closedir(dp);
	return r;
}

static int download(struct debs *d, const struct strings *what, const char *dir, bool quiet)
{
	static const char *const words[] = {"apt-get",	 "-qq",	     "-o", "Acquire::Retries=1",
					    APT_OPTIONS, "download", "--", NULL};
	struct strings argv = {0};
	char *out, *err = NULL, lines[2000], title[64];
	size_t n;

	start(&argv, words);
	for (size_t i = 0; i < what->n; i++)
		strings_add(&argv, what->v[i]);
	snprintf(title, sizeof(title), "fetching %zu Debian package%s", what->n, what->n == 1 ? "" : "s");
	progress_begin(title, 0, false);
	int status = fetch_run((const char *const *)argv.v, dir, -1, &out, &n, &err);
	progress_end();
	strings_free(&argv);
	if (status) {
		apt_errors(err, out, lines, sizeof(lines));
		status = refuse(quiet,
				"Packages cannot be fetched.%s\nIs the network there? Are apt's lists new: "
				"sudo apt-get update",
				lines);
	}
	free(out);
	free(err);
	if (status)
		return status;
	int r = keep_all(d, dir);
	return r ? out_fail(EXIT_OURS, "%s: %s", store_dir(d->s), say_errno(-r)) : 0;
}

int fetch_debs(struct debs *d)
{
	struct strings want = {0};
	char dir[4096];
	int status = 0;

	for (size_t i = 0; i < d->n; i++) {
		const struct deb *p = d->v[i];
		if (p->installed)
			continue;
		if (!p->sha256 || !is_digest(p->sha256))
			status = out_fail(EXIT_OURS, "%s: apt's record of it has no SHA-256 digest", p->name);
		else if (!store_has(d->s, p->sha256))
			strings_addf(&want, "%s=%s", p->name, p->version);
	}
	if (!status && want.n) {
		int r = store_scratch(d->s, dir, sizeof(dir));
		if (r)
			status = out_fail(EXIT_OURS, "%s: %s", store_dir(d->s), say_errno(-r));
		else {
			status = download(d, &want, dir, false);
			store_rmtree(dir);
		}
	}
	for (size_t i = 0; i < d->n && !status; i++)
		if (!d->v[i]->installed && !store_has(d->s, d->v[i]->sha256))
			status = out_fail(EXIT_OURS, "%s: what apt fetched is not what its record says",
					  d->v[i]->name);
	strings_free(&want);
	return status;
}

bool fetch_pristine(struct debs *d, struct deb *p)
{
	struct strings what = {0};
	char *out, dir[4096];
	size_t n;

	strings_addf(&what, "%s=%s", p->name, p->version);
	if (show(&what, &out, &n))
		free(out);
	else
		control_read(&d->pristine, out, n, false);
	const struct deb *r = control_find(&d->pristine, p->name, strlen(p->name));
	if (r && !strcmp(r->version, p->version) && r->sha256 && is_digest(r->sha256)) {
		p->sha256 = r->sha256;
		if (!store_has(d->s, p->sha256) && !store_scratch(d->s, dir, sizeof(dir))) {
			download(d, &what, dir, true);
			store_rmtree(dir);
		}
		p->installed = !store_has(d->s, p->sha256);
	}
	strings_free(&what);
	return !p->installed;
}
