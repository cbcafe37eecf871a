/* SPDX-License-Identifier: ISC */
/*
 * `cowbell build`: from an app's directory to an image. Inside of image/build/:
 *
 *   build.c       the order of work            detect.c    which language; one file per family fills the plan
 *   out.c         what the user sees           procfile.c, appjson.c, ignore.c   files of the app
 *   packages      image/build/debs.c: Debian packages as layers, and their SBOM
 *   sandbox.c     where the app's own code runs: never on the host
 */
#ifndef COWBELL_IMAGE_BUILD_BUILD_H
#define COWBELL_IMAGE_BUILD_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "image/image.h"
#include "image/layer.h"
#include "image/store/store.h"
#include "lib/host/strings.h"

/* --- out.c: Heroku's manner on standard output, or one JSON object a line ------------------------------- */
void out_json(bool on); /* --json */
bool out_is_json(void);
void out_raw(const char *line); /* one JSON object on a line, as it is */
/* Most builds take two milliseconds: whoever reads gets their lines in one piece. From out_live() on, which comes before all that may take
 * long, each line as it comes. */
void out_hold_back(void);
void out_live(void);
void out_step(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* -----> Python app detected */
void out_line(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /*        a detail */
void out_text(const char *data,
	      size_t n); /* output of a command, each line indented; control characters made visible */
/* " !     " lines on standard error; several lines by \n. Gives back status. */
int out_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- the plan: what detection found out ------------------------------------------------------------------- */
/* A command of the app's own code, run in the sandbox in the build directory. */
struct step {
	const char *title; /* "Installing node modules"; static */
	struct strings argv;
	bool network; /* only for commands that run none of the app's code: npm ci --ignore-scripts */
	struct strings env; /* K=V for this step alone */
	struct strings
		files; /* "PATH=CONTENTS": files that this step alone sees, such as /etc/npmrc with credentials; not part of the result */
	struct step *next;
};

/* What an app declares that its tree does not hold; see plan_check(). */
struct need {
	char *file, *name, *advice; /* "requirements.txt", "flask", what to do about it */
	struct strings paths; /* patterns of paths in packages; one that is there is enough */
	struct need *next;
};

struct plan {
	const char *language; /* "Python"; static */
	char *runtime; /* program that runs the app: "python3", "node"; NULL: the app is a program itself (malloc) */
	struct strings
		runtime_packages; /* Debian packages of the runtime layer, such as python3; shared by all apps of the language */
	struct strings
		packages; /* further ones, of the language's defaults, Aptfile and cowbell.toml: a layer of their own */
	struct strings
		build_packages; /* must be on this machine for the steps: golang-go, cargo; else an error that names them */
	struct strings processes; /* "web=python3 app.py", in order; Procfile's own if there is one */
	struct strings env; /* K=V, defaults of the image */
	struct strings ports; /* "8080/tcp" */
	struct step *steps; /* none: nothing is built */
	struct strings
		take; /* paths of the build directory that go into the app layer; empty: all that is not ignored */
	struct strings drop; /* paths that do not, such as node_modules/.cache */
	struct strings skip; /* patterns of .slugignore and .dockerignore */
	struct strings add; /* "PATH=CONTENTS": files of ours in the app layer, such as nginx.conf */
	struct strings
		links; /* "NAME=PATH PATH...": /usr/local/bin/NAME leads to the first that a package has */
	struct need *needs;
	bool find_program; /* the steps make a program whose name is not known: the only new one that is found */
	char *name, *description; /* of app.json, cowbell.toml, package.json; or NULL */
};

void plan_add_step(struct plan *p, const char *title, bool network, const char *const *argv);
void plan_free(struct plan *p);

/*
 * detect.c: fill the plan from the directory. `p` is zeroed but for env, which wins over the app's. Procfile first: it wins the command; app.json, cowbell.toml,
 * Aptfile are read. 0, or an exit status after out_fail().
 */
int plan_detect(const char *dir, struct plan *p);
/*
 * built.c, after the steps ran in `dir`, a copy of `src`: finds the program of find_program (into take and processes), and the
 * packages of the libraries that the programs in `take` need (into packages). Also for an app without steps that brings its own program.
 * 0, or an exit status after out_fail().
 */
int plan_built(const char *src, const char *dir, struct plan *p);
/* A plain file below a directory that hostile code has written, without following any link; or -1. */
int plan_open(const char *dir, const char *rel);
/* needs.c: is everything that the app declares in these layers? 0, or an exit status after out_fail() with advice. */
int plan_check(struct store *s, struct plan *p, const struct layer *layers, int n);

/* --- debs.c ------------------------------------------------------------------------------------------------- */
/*
 * A layer with the given packages and all they depend on, less what the packages `below` bring already. The first layer
 * (below empty) also holds the base: directories, /etc, C library. Files come from this machine where the package is
 * installed, else from the package that apt fetches (never installed, its scripts never run). Same package versions give the same bytes.
 * 0, or an exit status after out_fail(). No layer (size 0) if `below` has all of it. A layer that exists costs a look at dpkg's status.
 */
int debs_layer(struct store *s, const struct strings *packages, const struct strings *below,
	       struct layer *out);
/* A layer with a runtime that no package owns (a vendor's node in /usr/local or /opt), by path or by name on PATH. It is on the image's PATH. */
int program_layer(struct store *s, const char *program, struct layer *out);
/* Version of a package that is installed or can be fetched; NULL: no such package. malloc. */
char *debs_version(const char *package);

/* --- sbom.c: CycloneDX documents, blobs in the store. 0 or -errno ------------------------------------------- */
struct deb;
/* program: one that no package owns, or NULL. */
int sbom_debs(struct store *s, const struct deb *const *v, size_t n, const char *program, const char *title,
	      char hex[65], uint64_t *size);
/* Of the packages that package-lock.json (version 2 or 3) installs, development ones left out. */
int sbom_npm(struct store *s, const char *package_lock, const char *title, char hex[65], uint64_t *size);

/* --- sandbox.c --------------------------------------------------------------------------------------------------- */
struct sandbox {
	const char *dir; /* host directory that becomes /app, writable; HOME is /tmp */
	const char *
		cache; /* host directory that becomes /cache, writable, or NULL; shown only with network: such a step runs no code of the app's */
	const struct strings *argv, *env;
	const struct strings *files; /* "PATH=CONTENTS", below /etc, or NULL */
	bool network;
	uint64_t timeout_ns; /* 0: an hour */
	uint64_t max_memory; /* bytes of address space per process, 0: none */
	uint64_t max_disk; /* bytes that dir may hold, 0: 4 GiB */
};
/*
 * Run a command where it sees the system's programs and libraries read-only, /app, /tmp and nothing else of the host: no home
 * directories, no /etc beyond what programs need, no processes, and without `network` no network at all. Its output goes to
 * out_text(). Its exit status, or an EXIT_ status after out_fail() if it could not be run.
 */
int sandbox_run(const struct sandbox *sb);
/* Are the build packages here? 0, or an exit status after out_fail() that says what to install. */
int sandbox_check(const struct plan *p);

#endif
