/* SPDX-License-Identifier: ISC */
/*
 * Languages that are compiled: Go, Rust, OCaml, Haskell and C.
 *
 * The toolchain is this machine's, run in the sandbox without network: modules come from the app's own tree (vendor/) or
 * Debian's packages. Only the program and directories of static files go into the image, see take_assets(); built.c finds a program
 * whose name is not known before, and the packages of the libraries that it loads.
 *
 * The same sources give the same bytes: the build directory is always /app, times are SOURCE_DATE_EPOCH, and what
 * compilers put in besides is turned off.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/build/detect.h"
#include "lib/host/say.h"
#include "lib/host/toml.h"

/* --- shared ----------------------------------------------------------------------------------------------------------- */
static struct step *step(struct app *a, const char *title, const char *const *env, const char *const *argv)
{
	struct step *s;

	plan_add_step(a->plan, title, false, argv);
	for (s = a->plan->steps; s->next; s = s->next)
		;
	for (; *env; env++)
		strings_add(&s->env, *env);
	return s;
}

static void need_tools(struct app *a, const char *const *packages)
{
	for (; *packages; packages++)
		strings_add_once(&a->plan->build_packages, *packages);
}

/* Directories that programs read at work. cowbell.toml's include replaces all this. */
static void take_assets(struct app *a)
{
	static const char *const dirs[] = {"public", "static",	   "templates", "assets", "views",
					   "www",    "migrations", "locales",	"priv",	  NULL};

	for (const char *const *d = dirs; *d; d++)
		if (app_has_dir(a, *d))
			strings_add_once(&a->plan->take, *d);
}

/* The program that the steps make: into the image, and the process unless the user named one. */
static void makes(struct app *a, const char *program)
{
	char *command = textf("%s%s", strchr(program, '/') ? "" : "./", program);

	strings_add_once(&a->plan->take, program);
	app_process(a, "web", command);
	free(command);
}

/* Path of the app that a word of a command names, or NULL: an option, a command on PATH, a path elsewhere. */
static const char *path_in_app(const char *word)
{
	const char *rel = !strncmp(word, "./", 2) ? word + 2 : !strncmp(word, "/app/", 5) ? word + 5 : word;

	return *rel == '/' || *rel == '-' || strstr(rel, "..") ? NULL : rel;
}

/* Files of the app that the user's processes name go into the image. True: programs that the steps make are among them. */
static bool take_named(struct app *a)
{
	char word[256];
	bool some = false;

	for (size_t i = 0; i < a->plan->processes.n; i++) {
		const char *command = strchr(a->plan->processes.v[i], '=') + 1;
		const char *rel = command_word(command, word, sizeof(word)) ? path_in_app(word) : NULL;
		if (rel && strchr(word, '/')) {
			strings_add_once(&a->plan->take, rel);
			some = some || !app_has(a, rel);
		}
		for (const char *p = command; *p; p += strcspn(p, " \t"), p += strspn(p, " \t")) {
			snprintf(word, sizeof(word), "%.*s", (int)strcspn(p, " \t"), p);
			rel = path_in_app(word);
			if (rel && app_has(a, rel))
				strings_add_once(&a->plan->take, rel);
		}
	}
	return some;
}

/* cowbell.toml's list, if there is one, is all that is taken: then the build's own programs are the user's business. */
static bool user_takes(const struct app *a)
{
	return a->plan->take.n > 0;
}

static const char *last_part(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* --- Go ----------------------------------------------------------------------------------------------------------------- */
/* Name that `go build` gives a program of this module: its last element that is no version. malloc. */
static char *go_module(const char *mod)
{
	const char *p = mod;

	while (p && strncmp(p, "module", 6)) {
		p = strchr(p, '\n');
		p += p ? 1 : 0;
	}
	if (!p)
		return textf("app");
	p += 6 + strspn(p + 6, " \t\"");
	char *name = textf("%.*s", (int)strcspn(p, " \t\r\n\""), p);
	char *slash = strrchr(name, '/');
	if (slash && slash[1] == 'v' && slash[2] >= '0' && slash[2] <= '9')
		*slash = 0;
	char *last = textf("%s", *last_part(name) ? last_part(name) : "app");
	free(name);
	return last;
}

/* Does a file in the app's directory belong to package main? */
static bool go_main_in_root(const struct app *a)
{
	char *first = app_glob(a, ".", "*.go", false);
	bool found = false;

	if (first) {
		char *text = app_read(a, app_has(a, "main.go") ? "main.go" : first, NULL);
		for (const char *p = text; p && !found; p = strchr(p, '\n'), p += p ? 1 : 0)
			found = !strncmp(p, "package main", 12);
		free(text);
	}
	free(first);
	return found;
}

static bool go_uses_cgo(const struct app *a)
{
	char *text = app_read(a, "main.go", NULL);
	bool cgo = text && strstr(text, "import \"C\"");

	free(text);
	return cgo;
}

static const char *found_go(const struct app *a)
{
	return app_has(a, "go.mod") ? "go.mod" : NULL;
}

static int fill_go(struct app *a)
{
	const char *env[] = {
		"GOCACHE=/tmp/go-cache", "GOPATH=/tmp/go",	    "GOPROXY=off",   "GOSUMDB=off",
		"GOTOOLCHAIN=local",	 "GOFLAGS=-buildvcs=false", "CGO_ENABLED=0", NULL};
	char *mod = app_read(a, "go.mod", NULL);
	char *name = go_module(mod ? mod : ""), *program = textf("bin/%s", name);
	bool root = go_main_in_root(a), vendored = app_has(a, "vendor/modules.txt"), listed = user_takes(a);

	if (vendored)
		env[5] = "GOFLAGS=-buildvcs=false -mod=vendor";
	else if (mod && strstr(mod, "\nrequire"))
		out_line("go.mod has requirements: the build has no network, put them into vendor/ with `go "
			 "mod vendor`");
	if (go_uses_cgo(a)) {
		env[6] = "CGO_ENABLED=1";
		need_tools(a, (const char *const[]){"gcc", "libc6-dev", NULL});
	}
	need_tools(a, (const char *const[]){"golang-go", NULL});
	if (root)
		step(a, "Compiling with go build", env,
		     (const char *const[]){"go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o",
					   program, ".", NULL});
	else
		step(a, "Compiling with go build", env,
		     (const char *const[]){"go", "build", "-trimpath", "-ldflags=-s -w -buildid=", "-o",
					   "bin/", "./...", NULL});
	if (!listed) {
		take_assets(a);
		if (root)
			makes(a, program);
		else if (!take_named(a))
			a->plan->find_program = true;
	}
	free(program);
	free(name);
	free(mod);
	return 0;
}

/* --- Rust ---------------------------------------------------------------------------------------------------------------- */
/* Programs of a Cargo.toml: [[bin]] names, else the package's where src/main.rs is, and those of src/bin. */
static void rust_programs(struct app *a, const struct toml *t)
{
	const struct toml_entry *name = toml_find(t, "package/name");
	const char *key;
	size_t at = 0;
	bool bins = false;

	while (toml_next(t, "bin", &at, &key)) {
		char *path = textf("bin/%s/name", key);
		const struct toml_entry *n = toml_find(t, path);
		free(path);
		if (!n || n->type != TOML_STRING || strchr(n->value, '/'))
			continue;
		char *program = textf("target/release/%s", n->value);
		makes(a, program);
		free(program);
		bins = true;
	}
	if (!bins && name && name->type == TOML_STRING && !strchr(name->value, '/') &&
	    app_has(a, "src/main.rs")) {
		char *program = textf("target/release/%s", name->value);
		makes(a, program);
		free(program);
		bins = true;
	}
	if (!bins && !take_named(a))
		a->plan->find_program = true;
}

static const char *found_rust(const struct app *a)
{
	return app_has(a, "Cargo.toml") ? "Cargo.toml" : NULL;
}

static int fill_rust(struct app *a)
{
	static const char *const env[] = {"CARGO_HOME=/tmp/cargo",
					  "CARGO_INCREMENTAL=0",
					  "CARGO_TERM_COLOR=never",
					  "CARGO_TERM_PROGRESS_WHEN=never",
					  "CARGO_NET_OFFLINE=true",
					  "CARGO_TARGET_DIR=/app/target",
					  "CARGO_PROFILE_RELEASE_STRIP=symbols",
					  NULL};
	struct strings argv = {0};
	struct toml t = {0};
	size_t n = 0;
	char *text = app_read(a, "Cargo.toml", &n);
	int status = 0;

	if (!text || !toml_parse(text, n, &t))
		status = out_fail(EXIT_OURS, "Cargo.toml: %s", text ? t.error : "cannot be read");
	for (const char *const *w = (const char *const[]){"cargo", "build", "--release", "--offline", NULL};
	     *w; w++)
		strings_add(&argv, *w);
	if (app_has(a, "Cargo.lock"))
		strings_add(&argv, "--locked");
	if (app_has_dir(a, "vendor") && !app_has(a, ".cargo/config.toml") && !app_has(a, ".cargo/config")) {
		strings_add(&argv, "--config=source.crates-io.replace-with=\"vendored\"");
		strings_add(&argv, "--config=source.vendored.directory=\"/app/vendor\"");
	}
	if (!status) {
		need_tools(a, (const char *const[]){"cargo", "rustc", NULL});
		step(a, "Compiling with cargo build --release", env, (const char *const *)argv.v);
		if (!user_takes(a)) {
			take_assets(a);
			rust_programs(a, &t);
		}
	}
	strings_free(&argv);
	toml_free(&t);
	free(text);
	return status;
}

/* --- OCaml ----------------------------------------------------------------------------------------------------------------- */
static const char *found_ocaml(const struct app *a)
{
	return app_has(a, "dune-project") ? "dune-project" : NULL;
}

static int fill_ocaml(struct app *a)
{
	static const char *const env[] = {"DUNE_CACHE=disabled", "BUILD_PATH_PREFIX_MAP=/app=/app", NULL};

	need_tools(a, (const char *const[]){"ocaml-dune", "ocaml", NULL});
	step(a, "Compiling with dune build", env,
	     (const char *const[]){"dune", "build", "--profile", "release", "--display", "quiet", NULL});
	if (!user_takes(a)) {
		take_assets(a);
		if (!take_named(a))
			a->plan->find_program = true;
	}
	return 0;
}

/* --- Haskell ----------------------------------------------------------------------------------------------------------------- */
static const char *found_haskell(const struct app *a)
{
	char *cabal = app_glob(a, ".", "*.cabal", false);

	free(cabal);
	return cabal ? "*.cabal" : app_has(a, "Main.hs") ? "Main.hs" : NULL;
}

static int fill_haskell(struct app *a)
{
	static const char *const env[] = {"CABAL_DIR=/tmp/cabal", NULL};
	char *cabal = app_glob(a, ".", "*.cabal", false);

	need_tools(a, (const char *const[]){"ghc", NULL});
	if (cabal) { /* Setup is of ghc itself and uses the libraries that Debian's packages bring; cabal would want an index */
		static const char *const setup =
			"test -e Setup.hs || test -e Setup.lhs || "
			"printf 'import Distribution.Simple\\nmain = defaultMain\\n' > /tmp/Setup.hs; "
			"S=$(ls Setup.hs Setup.lhs /tmp/Setup.hs 2>/dev/null | head -n 1); "
			"ghc -v0 -outputdir /tmp/setup -o /tmp/setup-app \"$S\" && "
			"/tmp/setup-app configure -O2 --builddir=/tmp/dist --prefix=/app --bindir=/app/bin "
			"--datadir=/app/share "
			"--libdir=/tmp/lib --docdir=/tmp/doc && "
			"/tmp/setup-app build --builddir=/tmp/dist && /tmp/setup-app copy "
			"--builddir=/tmp/dist";
		step(a, "Compiling with cabal's Setup", env, (const char *const[]){"sh", "-c", setup, NULL});
	} else {
		step(a, "Compiling with ghc", env,
		     (const char *const[]){
			     "sh", "-c",
			     "mkdir -p bin && ghc -v1 -O2 -threaded -outputdir /tmp/hs -o bin/app Main.hs",
			     NULL});
	}
	if (!user_takes(a)) {
		take_assets(a);
		if (!cabal)
			makes(a, "bin/app");
		else if (!take_named(a))
			a->plan->find_program = true;
	}
	free(cabal);
	return 0;
}

/* --- C ------------------------------------------------------------------------------------------------------------------------- */
static const char *found_c(const struct app *a)
{
	static const char *const files[] = {"Makefile", "makefile", "GNUmakefile"};

	return app_first(a, files, 3);
}

static int fill_c(struct app *a)
{
	static const char *const env[] = {"LC_ALL=C", NULL};

	need_tools(a, (const char *const[]){"make", "gcc", "libc6-dev", NULL});
	step(a, "Compiling with make", env, (const char *const[]){"make", NULL});
	if (!user_takes(a)) {
		take_assets(a);
		if (!take_named(a))
			a->plan->find_program = true;
	}
	return 0;
}

const struct language lang_go = {"Go", "go", "go.mod", NULL, found_go, fill_go};
const struct language lang_rust = {"Rust", "rust", "Cargo.toml", NULL, found_rust, fill_rust};
const struct language lang_ocaml = {"OCaml", "ocaml", "dune-project", NULL, found_ocaml, fill_ocaml};
const struct language lang_haskell = {"Haskell", "haskell",	"*.cabal, Main.hs",
				      NULL,	 found_haskell, fill_haskell};
const struct language lang_c = {"C", "c", "Makefile", NULL, found_c, fill_c};
