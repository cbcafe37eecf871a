/* SPDX-License-Identifier: ISC */
/* The public face of image/: what a program needs, as EROFS layers. */
#ifndef COWBELL_IMAGE_IMAGE_H
#define COWBELL_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct strings;

#define IMAGE_MAX_LAYERS 16

#define IMAGE_MAX_GROUPS 32

/* Of -u or of the image's User, looked up in the image's own /etc/passwd and /etc/group. Zeroed: root. */
struct image_user {
	uint32_t uid, gid;
	uint32_t groups[IMAGE_MAX_GROUPS]; /* supplementary ones */
	int n_groups;
	char home[256]; /* of /etc/passwd, or "" if the user is not there */
};

/* Open layers, lowest first, ready to be mapped; and what to start in them. */
struct image_set {
	int n;
	int fd[IMAGE_MAX_LAYERS]; /* read-only, owned by the caller afterwards */
	uint64_t size[IMAGE_MAX_LAYERS];
	char *exe; /* guest path of the program (malloc) */
	char *cwd; /* guest working directory (malloc) */
	char **argv; /* what replaces the request's argv (a script of env(1), an image's command), or NULL */
	struct image_defaults *defaults; /* what a stored image says of itself, or NULL */
	struct image_user user; /* whom the program runs as */
	char hex[IMAGE_MAX_LAYERS][65]; /* of a stored image: digests of its layers */
	/* the app's own layer of a stored image, if others could take its place at a program's start (prefix.c) */
	struct {
		int layer; /* its number, from 1 on; 0: there is none, or it does not suit */
		uint64_t window; /* room for it and for others of about its size */
		char outside[65]; /* digest of what is seen of it without a look into its directory */
		char names[65]; /* of what is in the layer of names */
		/* If these were asked for: of an instance without an app; the caller's. */
		int skeleton_fd, names_fd;
		uint64_t skeleton_size, names_size;
	} app;
};

/* How a stored image shall be started: what image_request.prefix answers. */
enum image_prefix {
	IMAGE_BOOT,
	IMAGE_BOOT_AND_MAKE, /* set->app's descriptors are wanted */
	IMAGE_GO_ON, /* from a prefix, which has the layer of names: its descriptor is -1 */
};

/* From the image's configuration; what the request says has won already. */
struct image_defaults {
	char *name; /* of the image, for messages and as the instance's name */
	char **env; /* K=V, NULL-terminated: all of the program's environment */
	int stop_signal; /* what SIGTERM becomes; 0: SIGTERM */
	int n_ports;
	struct {
		uint16_t port;
		bool udp;
	} ports[64]; /* ExposedPorts */
	bool more_ports; /* than there is room for */
	char **volumes; /* guest directories, NULL-terminated */
};

struct image_request {
	const char *program; /* as the user typed it */
	const char *const *argv; /* argv[0..], NULL-terminated */
	const char *root; /* --root DIR|IMAGE, or NULL: collect */
	const char *workdir; /* -w, or NULL */
	const char *const *env; /* K=V of the program, NULL-terminated */
	const char *const *own_env; /* of these, what the user asked for: wins over an image's, or NULL */
	const char *user; /* -u, or NULL */
	const char *hostname; /* --name, or NULL: IMAGE_HOSTNAME */
	const char *const
		*with; /* --with: programs, packages and paths to be there too, NULL-terminated, or NULL */
	const char *const *volumes; /* guest directories of -v, NULL-terminated, or NULL */
	uint16_t port; /* the program's port of the first -p, or 0 */
	const char *process; /* --process: which of an image's process types; NULL: web, else its only one */
	const char *
		require_signature; /* PEM file with the public key that must have signed the image, or NULL */
	const char *command; /* --command: a line as in a Procfile, in place of an image's command; or NULL */
	const char *entrypoint; /* --entrypoint: replaces the image's, or NULL */
	uint64_t max_bytes, max_entries; /* limits when a container image is unpacked; 0: the default */
	int verbose;
	/* all of the set is known but the layer of names; asked if set->app.layer; or NULL */
	enum image_prefix (*prefix)(void *arg, const struct image_set *set);
	void *prefix_arg;
	void (*progress)(void *arg, const char *what); /* long steps; may be NULL */
	void *progress_arg;
};

/*
 * Collect (or look up in the cache) the layers for a program.
 * 0, or the exit status to leave with (125 ours, 126 cannot execute, 127 not found)
 * after one clear line on standard error. Leaves nothing behind on failure.
 */
int image_prepare(const struct image_request *req, struct image_set *out);
void image_set_close(struct image_set *set);

/* The host name that images know, so that it resolves. */
#define IMAGE_HOSTNAME "cowbell"

/* The cache: where, how many layers, how many bytes; and remove all of it. 0, or an exit status after one line. */
int image_cache_info(char *path, size_t size, unsigned *layers, uint64_t *bytes);
int image_cache_clear(void);

/* Where snapshots are kept, made if it is missing: a descriptor, or -1 after one line. */
int image_snapshot_dir(void);
/* Is this file an app's layer with this digest of its outside (image_set.app)? */
bool image_app_suits(int fd, uint64_t size, const char outside[65]);
/* Where starts that apps share are kept, made if it is missing: a descriptor, or -1 without a word. */
int image_prefix_dir(void);
/* Where runs leave what they found out about this host and its files, made if it is missing: a descriptor; 0: nowhere. */
int image_memo_dir(void);
/* A layer as a snapshot calls it (by digest, wherever it was): a descriptor; -EINVAL: not named by a digest; -ENOENT. */
int image_layer_by_id(const char *id, uint64_t *size);
/* Held while snapshots of the store appear or go, and for the next two. A descriptor to close, or -errno. */
int image_pins_lock(void);
/* Keep the layer of this id, which fd is, for snapshots of the store. 0; -EINVAL: not named by a digest; -errno. */
int image_layer_pin(int pins, const char *id, int fd);
/* No others are needed. */
void image_pins_keep(int pins, const struct strings *ids);
/* Was the snapshot with this digest (hash of its tables) found good, and is the file untouched since? */
bool image_snapshot_checked(int fd, const uint8_t digest[32]);
/* Remember it. fresh: we wrote it ourselves this moment; else one that was changed within two seconds is not remembered. */
void image_snapshot_mark(int fd, const uint8_t digest[32], bool fresh);

/* --- the store of images: what the commands do. All return an exit status after their own output. ------------------- */
struct image_build {
	const char *dir; /* the app's directory */
	const char *from; /* --from oci:..., docker-archive:..., or NULL */
	const char *tag; /* -t NAME[:TAG], or NULL: the directory's name */
	const char *output; /* -o FILE: an OCI archive, or NULL */
	const char *const *env; /* --env K=V of the image, NULL-terminated, or NULL */
	uint64_t timeout_ns; /* of each build step, 0: an hour */
	uint64_t max_bytes, max_entries; /* 0: the default */
	bool json;
};
int image_build(const struct image_build *b);
/* Requests of a platform from standard input until its end; see image/build/worker.c. */
int image_build_worker(void);

int image_list(bool json, bool quiet, bool all);
/* shared: also what is known only after a look at every image of the store: other names, sharing */
int image_inspect(const char *const *names, bool json, bool shared);
int image_tag(const char *from, const char *to);
int image_remove(const char *const *names, bool force);
int image_prune(bool all, bool dry_run, bool json);

struct image_transfer {
	const char *name; /* HOST/PATH:TAG */
	const char *as; /* another name in the local store, or NULL */
	const char *creds, *ca_file;
	bool plain_http, json;
	uint64_t max_bytes, max_entries;
	uint64_t stall_ns; /* give up when nothing moves for this long; 0: 30 s */
};
int image_pull(const struct image_transfer *t);
int image_push(const struct image_transfer *t);

/* Ed25519 keys as PEM files, PKCS #8 and SubjectPublicKeyInfo, as openssl makes them. */
int image_keygen(const char *private_file, const char *public_file);
int image_sign(const char *name, const char *private_file);
int image_verify(const char *name, const char *public_file, bool json);

#endif
