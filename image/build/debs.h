/* SPDX-License-Identifier: ISC */
/*
 * Inside of debs*.c: Debian packages as layers.
 *
 *   debs.c          the public functions and their memos
 *   debs_resolve.c  which packages a request means
 *   debs_fetch.c    apt: what is not installed
 *   debs_verify.c   are installed packages as they were?
 *   debs_run.c      running Debian's tools
 *   debs_unpack.c   the files of fetched packages
 *   debs_tree.c     the files of installed packages, and all as one tree
 *   debs_base.c     what every image has below its packages
 *   debs_config.c   what the packages' scripts would have made of them
 *   debs_python.c   compiled modules of fetched Python packages
 *   debs_java.c     Java's file of authorities
 *   sbom.c          what is inside, as CycloneDX
 */
#ifndef COWBELL_IMAGE_BUILD_DEBS_H
#define COWBELL_IMAGE_BUILD_DEBS_H

#include "image/build/build.h"
#include "image/packages.h"

/* Marks of packages (struct deb, mark). */
enum {
	DEB_NO, /* not wanted */
	DEB_BELOW_PART, /* a layer below has what base_wants() selects of it */
	DEB_BELOW, /* a layer below has it */
	DEB_PART, /* this layer has what base_wants() selects of it */
	DEB_FULL, /* this layer has it */
};

struct debs {
	struct store *s;
	struct dpkg *dpkg;
	struct control *db;
	struct deb **v; /* this layer's packages, sorted by name */
	size_t n, cap;
	bool base; /* nothing is below: the layer begins with the base */
	struct control pristine; /* records of packages that are fetched though they are installed */
	struct strings missing_base; /* of the base's own packages */
	struct strings missing; /* names and relations that nothing installed satisfies */
	const struct deb *first; /* the first of the request, for the title */
	char *spool; /* contents of fetched packages' files, mapped */
	size_t spool_size;
	struct strings scripts; /* of fetched packages, what would run after their installation */
};

/* 0, or an exit status after out_fail(). Fetches what is not installed. */
int debs_open(struct debs *d, struct store *s, const struct strings *packages, const struct strings *below);
void debs_close(struct debs *d);

/* Once: mark what the request means among the packages that are known; what is not goes to d->missing. */
int debs_mark(struct debs *d, const struct strings *packages, const struct strings *below);
/* Packages that a base has parts of; NULL ends. */
struct base_part {
	const char *name;
	bool follow; /* what it depends on comes, too */
	const char *const *take; /* paths (a trailing slash: all below), NULL-terminated; NULL: everything */
};
extern const struct base_part base_parts[];
/* Does the base take this path of the package? Paths are merged ones (/usr/bin, not /bin). */
bool base_wants(const char *package, const char *path);

/* debs_fetch.c: make records of what is missing part of the database, chosen by apt. 0 or a status, after out_fail() unless quiet. */
int fetch_records(struct debs *d, const struct strings *names, bool quiet);
/* The .deb files of all packages of the layer that are not installed, into the store. 0 or a status. */
int fetch_debs(struct debs *d);
/* The version that apt would fetch; malloc, or NULL. */
char *fetch_version(const char *package);
/*
 * debs_run.c: run a program without a shell; its standard output (malloc) and, if err is not NULL, its standard error.
 * Exit status, or -1.
 */
int fetch_run(const char *const *argv, const char *dir, int stdin_fd, char **out, size_t *n, char **err);

/* debs_tree.c: the tree of the layer. NULL with *status after out_fail(). */
struct tree *debs_tree(struct debs *d, int *status);
/* "/lib/x" as "/usr/lib/x". False: too long, or not a path that a package may have. */
bool merged_path(const char *path, char *buf, size_t size);
/* Owners, times, modes as every builder would have them. */
void debs_canonical(struct tree *t);

/* debs_verify.c: packages whose files were changed on this machine are fetched in their place, if they can be. */
int debs_verify(struct debs *d);
/* debs_fetch.c: the .deb of just this version, into the store, in place of the installed files. False: apt cannot. */
bool fetch_pristine(struct debs *d, struct deb *p);

/* What no layer takes of any package. */
bool debs_is_bulk(const struct deb *p, const char *path);

/* debs_unpack.c: the files of the packages that are not installed, into the tree. 0 or -errno. */
int unpack_debs(struct debs *d, struct tree *t);

/* debs_base.c */
void base_put(struct debs *d, struct tree *t);
/* The certificate authorities of the ca-certificates package, as one PEM text (malloc). */
char *base_authorities(struct debs *d, struct tree *t);

/* debs_python.c: .pyc files of fetched modules, made by this machine's python3 ("cpython-311") if that is the layer's. */
void python_compile(struct debs *d, struct tree *t, const char *tag);

/* known.c: answers about this machine's packages that are remembered until these change. known_use() first, else nothing is. malloc, or NULL. */
void known_use(struct store *s);
char *known_get(const char *kind, const char *what);
void known_set(const char *kind, const char *what, const char *answer);

/* debs_java.c */
void java_put_authorities(struct debs *d, struct tree *t);

/* debs_config.c: alternatives, and what scripts of certain packages make. */
void config_put(struct debs *d, struct tree *t);

/* A whole file of the tree, malloc, NUL-terminated; NULL: none. */
char *tree_text(struct tree *t, const char *path, size_t *n);

#endif
