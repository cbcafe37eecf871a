/* SPDX-License-Identifier: ISC */
/*
 * Debian packages as layers: what the rest of the build asks for, and the
 * memos that make a second question cheap.
 *
 * A layer is known by what decides its bytes: the names and versions of its
 * packages and its title, whether each was installed when it was taken (then when dpkg
 * wrote its list, so that a reinstallation counts), the base, and the
 * versions of the formats. The digest of that text is the key of a memo
 *
 *   deblayer KEY -> "LAYER SIZE SBOM SIZE"
 *
 * A layer that exists thus costs reading dpkg's status and a stat(2) of each
 * package. Memos may be lost or point at layers that are gone: then it is
 * made again, and has the same digest.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "abi/image.h"
#include "image/build/debs.h"
#include "image/collect.h"
#include "lib/host/progress.h"
#include "lib/host/say.h"

#define FORMAT "debs 7" /* change it when the same packages give other bytes */

/* --- the packages of a request -------------------------------------------------------------- */

static int check_names(const struct strings *packages)
{
	for (size_t i = 0; i < packages->n; i++)
		if (!deb_name_ok(packages->v[i]))
			return out_fail(EXIT_OURS,
					"'%s' is not the name of a Debian package.\n"
					"Names have lower-case letters, digits and + - . only: one a line in "
					"Aptfile.",
					packages->v[i]);
	return 0;
}

void debs_close(struct debs *d)
{
	strings_free(&d->missing);
	strings_free(&d->missing_base);
	strings_free(&d->scripts);
	control_free(&d->pristine);
	if (d->spool)
		munmap(d->spool, d->spool_size);
	free(d->v);
	dpkg_close(d->dpkg);
}

int debs_open(struct debs *d, struct store *s, const struct strings *packages, const struct strings *below)
{
	memset(d, 0, sizeof(*d));
	d->s = s;
	d->base = !below || !below->n;
	int r = check_names(packages);
	if (!r && below)
		r = check_names(below);
	if (r)
		return r;
	d->dpkg = dpkg_open();
	if (!d->dpkg)
		return out_fail(EXIT_OURS,
				"This is not a Debian machine: there is no " DPKG_STATUS ".\n"
				"Build on Debian 12 or later, or from a container: cowbell build --from.");
	d->db = dpkg_control(d->dpkg);
	r = debs_mark(d, packages, below);
	if (!r && d->missing_base.n && !fetch_records(d, &d->missing_base, true))
		r = debs_mark(d, packages, below);
	if (!r && d->missing.n) {
		r = fetch_records(d, &d->missing, false);
		if (!r)
			r = debs_mark(d, packages, below);
		if (!r && d->missing.n)
			r = out_fail(EXIT_OURS,
				     "%s: cannot be had: no package that is installed or known to apt does",
				     d->missing.v[0]);
	}
	if (r)
		debs_close(d);
	return r;
}

/* --- memos --------------------------------------------------------------------------------------- */

static void add_stat(struct strings *key, const char *path)
{
	struct stat st;

	if (!stat(path, &st))
		strings_addf(key, "%s %lld.%09ld %llu", path, (long long)st.st_mtim.tv_sec,
			     st.st_mtim.tv_nsec, S_ISREG(st.st_mode) ? (unsigned long long)st.st_size : 0ull);
}

static void layer_key(const struct debs *d, const char *title, char hex[65])
{
	struct strings key = {0};
	char path[512];

	strings_addf(&key, FORMAT " sites %d %s %s", SITES_VERSION, d->base ? "base" : "more", title);
	for (size_t i = 0; i < d->n; i++) {
		const struct deb *p = d->v[i];
		strings_addf(&key, "%s=%s:%s %d %s", p->name, p->version, p->arch ? p->arch : "", p->mark,
			     p->installed ? "installed"
			     : p->sha256  ? p->sha256
					  : "");
		if (p->installed && dpkg_list_path(p, path, sizeof(path)))
			add_stat(&key, path);
	}
	add_stat(&key, "/var/lib/dpkg/alternatives");
	add_stat(&key, "/usr/lib/node_modules/npm/package.json");
	size_t n = 0;
	for (size_t i = 0; i < key.n; i++)
		n += strlen(key.v[i]) + 1;
	char *text = malloc(n + 1), *at = text;
	for (size_t i = 0; i < key.n && text; i++)
		at = stpcpy(stpcpy(at, key.v[i]), "\n");
	sha256_hex(text ? text : "", text ? (size_t)(at - text) : 0, hex);
	free(text);
	strings_free(&key);
}

static bool read_layer(struct store *s, const char *memo, struct layer *out)
{
	unsigned long long size = 0, sbom_size = 0;
	bool ok = memo && sscanf(memo, "%64[0-9a-f] %llu %64[0-9a-f] %llu", out->hex, &size, out->sbom_hex,
				 &sbom_size) == 4;

	out->size = size;
	out->sbom_size = sbom_size;
	return ok && is_digest(out->hex) && store_has(s, out->hex) && is_digest(out->sbom_hex) &&
	       store_has(s, out->sbom_hex);
}

static bool memo_layer(struct store *s, const char *kind, const char *key, struct layer *out)
{
	char *memo = store_memo_get(s, kind, key);
	bool ok = read_layer(s, memo, out);

	free(memo);
	return ok;
}

static void remember_layer(struct store *s, const char *kind, const char *key, const struct layer *l)
{
	char *memo = textf("%s %llu %s %llu", l->hex, (unsigned long long)l->size, l->sbom_hex,
			   (unsigned long long)l->sbom_size);

	store_memo_set(s, kind, key, memo);
	free(memo);
}

/* --- layers ----------------------------------------------------------------------------------------- */

static int build_layer(struct debs *d, const char *key, struct layer *out)
{
	out_live();
	debs_verify(d);
	for (size_t i = 0; i < d->missing_base.n; i++)
		out_line("%s is not installed and cannot be fetched: the image is without it",
			 d->missing_base.v[i]);
	int status = fetch_debs(d);
	struct tree *t = status ? NULL : debs_tree(d, &status);

	if (!t)
		return status;
	progress_begin(out->title, 0, false);
	int r = layer_from_tree(d->s, t, out->hex, &out->size);
	progress_end();
	tree_free(t);
	if (!r)
		r = sbom_debs(d->s, (const struct deb *const *)d->v, d->n, NULL, out->title, out->sbom_hex,
			      &out->sbom_size);
	if (r == -ESTALE)
		return out_fail(EXIT_OURS,
				"packages are being changed just now; build again when that is done");
	if (r)
		return out_fail(EXIT_OURS, "%s: cannot be made a layer: %s", out->title, say_errno(-r));
	remember_layer(d->s, "deblayer", key, out);
	return 0;
}

/*
 * The same request again, while nothing of the machine's packages changed: "LAYER SIZE SBOM SIZE", and the title, or "none".
 * What is asked is one line for each package, so no name can pose as two.
 */
static char *request_text(const struct strings *packages, const struct strings *below)
{
	char *text = textf("%zu", packages->n);

	for (size_t i = 0; i < packages->n + (below ? below->n : 0); i++) {
		char *more =
			textf("%s\n%s", text, i < packages->n ? packages->v[i] : below->v[i - packages->n]);
		free(text);
		text = more;
	}
	return text;
}

static bool known_layer(struct store *s, const char *request, struct layer *out)
{
	char *memo = known_get("layer", request), *title = memo ? strchr(memo, '\n') : NULL;
	bool ok = memo && !strcmp(memo, "none");

	memset(out, 0, sizeof(*out));
	if (title && read_layer(s, memo, out)) {
		snprintf(out->title, sizeof(out->title), "%s", title + 1);
		ok = true;
	} else {
		memset(out, 0, sizeof(*out));
	}
	free(memo);
	return ok;
}

static void know_layer(const char *request, const struct layer *l)
{
	char *memo = textf("%s %llu %s %llu\n%s", l->hex, (unsigned long long)l->size, l->sbom_hex,
			   (unsigned long long)l->sbom_size, l->title);

	known_set("layer", request, l->size ? memo : "none");
	free(memo);
}

static int find_layer(struct store *s, const struct strings *packages, const struct strings *below,
		      struct layer *out)
{
	struct debs d;
	char key[65];
	int r = debs_open(&d, s, packages, below);

	memset(out, 0, sizeof(*out));
	if (r)
		return r;
	if (d.first && packages->n > 1)
		snprintf(out->title, sizeof(out->title), "%.60s %.40s and %zu more", d.first->name,
			 d.first->version, packages->n - 1);
	else
		snprintf(out->title, sizeof(out->title), "%.60s %.60s", d.first ? d.first->name : "base",
			 d.first ? d.first->version : "");
	if (!d.base && !d.n) { /* all is there already */
		debs_close(&d);
		return 0;
	}
	layer_key(&d, out->title, key);
	if (!memo_layer(s, "deblayer", key, out)) {
		int lock = store_lock(s, key);
		if (lock < 0)
			r = out_fail(EXIT_OURS, "%s: %s", store_dir(s), say_errno(-lock));
		else if (!memo_layer(s, "deblayer", key, out))
			r = build_layer(&d, key, out);
		if (lock >= 0)
			close(lock);
	}
	debs_close(&d);
	return r;
}

int debs_layer(struct store *s, const struct strings *packages, const struct strings *below,
	       struct layer *out)
{
	char *request = request_text(packages, below);
	int r = 0;

	if (!known_layer(s, request, out)) {
		r = find_layer(s, packages, below, out);
		if (!r)
			know_layer(request, out);
	}
	free(request);
	return r;
}

/* --- runtimes that no package owns --------------------------------------------------------------------------- */

/* Where the shell would find it; absolute. */
static bool find_program(const char *program, char *buf, size_t size)
{
	const char *path = getenv("PATH");

	if (*program == '/')
		return snprintf(buf, size, "%s", program) < (int)size && !access(buf, X_OK);
	if (strchr(program, '/'))
		return false;
	for (const char *p = path ? path : "/usr/local/bin:/usr/bin:/bin"; p && *p;) {
		size_t n = strcspn(p, ":");
		if (*p == '/' && snprintf(buf, size, "%.*s/%s", (int)n, p, program) < (int)size &&
		    !access(buf, X_OK))
			return true;
		p = p[n] ? p + n + 1 : NULL;
	}
	return false;
}

/* An image's PATH knows the usual directories only. */
static void put_on_path(struct tree *t, const char *program)
{
	static const char *const usual[] = {"/usr/local/bin/", "/usr/bin/", "/bin/"};
	const char *name = strrchr(program, '/') + 1;
	char link[PATH_MAX];

	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++)
		if (!strncmp(program, usual[i], strlen(usual[i])) && program + strlen(usual[i]) == name)
			return;
	if (snprintf(link, sizeof(link), "/usr/local/bin/%s", name) < (int)sizeof(link))
		tree_put_link(t, link, program);
}

static int build_program(struct debs *d, const char *program, const char *base_key, const char *key,
			 struct layer *out)
{
	struct sigs sigs = {0};

	out_live();
	debs_verify(d);
	int status = fetch_debs(d);
	struct tree *t = status ? NULL : debs_tree(d, &status);

	if (!t)
		return status;
	progress_begin(program, 0, false);
	int r = collect_program(t, program, &sigs);
	if (!r) {
		put_on_path(t, program);
		debs_canonical(t);
		r = layer_from_tree(d->s, t, out->hex, &out->size);
	}
	progress_end();
	tree_free(t);
	if (!r)
		r = sbom_debs(d->s, (const struct deb *const *)d->v, d->n, out->title, out->title,
			      out->sbom_hex, &out->sbom_size);
	char *text = r ? NULL : sigs_print(&sigs);
	if (text) {
		char *memo = textf("%s %llu %s %llu\n%s\n%s", out->hex, (unsigned long long)out->size,
				   out->sbom_hex, (unsigned long long)out->sbom_size, base_key, text);
		store_memo_set(d->s, "program", key, memo);
		free(memo);
	}
	free(text);
	sigs_free(&sigs);
	return r ? out_fail(EXIT_OURS, "%s: cannot be made a layer: %s", program, say_errno(-r)) : 0;
}

/* The memo's first line is the layer, its second the key of the base, then what decided the rest. */
static bool memo_program(struct store *s, const char *key, const char *base_key, struct layer *out)
{
	char *memo = store_memo_get(s, "program", key), *base = memo ? strchr(memo, '\n') : NULL;
	size_t n = strlen(base_key);
	bool ok = base && !strncmp(base + 1, base_key, n) && base[1 + n] == '\n' && sigs_hold(base + 2 + n);

	free(memo);
	return ok && memo_layer(s, "program", key, out);
}

int program_layer(struct store *s, const char *name, struct layer *out)
{
	struct strings none = {0};
	char base_key[65], key[65], program[PATH_MAX];
	struct debs d;

	memset(out, 0, sizeof(*out));
	if (!find_program(name, program, sizeof(program)))
		return out_fail(EXIT_OURS,
				"%s is not on this machine, and no Debian package of it is known.\n"
				"Run: sudo apt-get update, or install it.",
				name);
	int r = debs_open(&d, s, &none, NULL);
	if (r)
		return r;
	snprintf(out->title, sizeof(out->title), "%.100s", strrchr(program, '/') + 1);
	layer_key(&d, out->title, base_key);
	sha256_hex(program, strlen(program), key);
	if (!memo_program(s, key, base_key, out)) {
		int lock = store_lock(s, key);
		if (lock < 0)
			r = out_fail(EXIT_OURS, "%s: %s", store_dir(s), say_errno(-lock));
		else if (!memo_program(s, key, base_key, out))
			r = build_program(&d, program, base_key, key, out);
		if (lock >= 0)
			close(lock);
	}
	debs_close(&d);
	return r;
}

/* --- questions ---------------------------------------------------------------------------------------- */

char *debs_version(const char *package)
{
	char *known = known_get("version", package);

	if (known)
		return known;
	struct dpkg *dpkg = deb_name_ok(package) ? dpkg_open() : NULL;
	struct relation r = {.name = package, .name_len = strlen(package)};
	struct deb *p = dpkg ? control_satisfy(dpkg_control(dpkg), &r) : NULL;
	char *version = p ? strdup(p->version) : NULL;

	if (!version && dpkg)
		version = fetch_version(package);
	dpkg_close(dpkg);
	if (version)
		known_set("version", package, version);
	return version;
}
