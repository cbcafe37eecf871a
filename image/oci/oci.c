/* SPDX-License-Identifier: ISC */
/*
 * Manifests, indexes and configurations of images: JSON from strangers into structs of ours, and structs into JSON.
 *
 * Jansson reads the syntax (it refuses bad UTF-8, NUL in strings, numbers that do not fit, and more than 2048 levels); here the
 * meaning is checked. Refused outright: a key twice in one object (readers differ in which they take, and a digest
 * then means two images), a document that is both a manifest and an index, digests that are not SHA-256, counts beyond
 * OCI_MAX_LAYERS and MAX_LIST. A JSON null is an absent value, as Go's tools write it. Keys that are not known are
 * skipped, as the specification wants.
 *
 * Parsers build into a zeroed struct and free it again when they fail: a caller sees all or nothing.
 */
#include "image/oci/oci.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/store/store.h"
#include "lib/host/say.h"

#define MAX_TEXT    OCI_MAX_MANIFEST /* of any document; OCI_MAX_CONFIG is as much */
#define MAX_LIST    4096 /* entries of a list in a configuration: environment, labels ... */
#define MAX_WORD    4096 /* bytes of a user, a directory, a signal's name */
#define MAX_VOLUMES 256 /* each is a path of directories that may have to be made at a start */
#define REF_NAME    "org.opencontainers.image.ref.name"

static const char *const nothing = "";

/* --- reading ------------------------------------------------------------------------------------------- */

static json_t *load_object(const char *text, size_t n, const char **why)
{
	json_error_t err;

	*why = n > MAX_TEXT ? "it is larger than 4 MiB" : NULL;
	if (*why)
		return NULL;
	json_t *root = json_loadb(text, n, JSON_REJECT_DUPLICATES, &err);
	if (json_is_object(root))
		return root;
	json_decref(root);
	if (root)
		*why = "it is not a JSON object";
	else if (json_error_code(&err) == json_error_duplicate_key)
		*why = "a key occurs twice in one JSON object";
	else if (json_error_code(&err) == json_error_stack_overflow)
		*why = "its JSON is nested too deeply";
	else if (json_error_code(&err) == json_error_null_character)
		*why = "its JSON has a NUL character in a string";
	else
		*why = "it is not valid JSON";
	return NULL;
}

/* The member, or NULL where it is absent or null. */
static json_t *member(const json_t *obj, const char *key)
{
	json_t *v = json_object_get(obj, key);

	return json_is_null(v) ? NULL : v;
}

/* Copy a short printable string; absent: "". False: of another type, too long, or with control characters. */
static bool get_word(const json_t *obj, const char *key, char *buf, size_t size)
{
	json_t *v = member(obj, key);
	const char *s = json_string_value(v);

	buf[0] = 0;
	if (!v)
		return true;
	if (!s || json_string_length(v) >= size)
		return false;
	for (const char *p = s; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return false;
	strcpy(buf, s);
	return true;
}

/* The same as malloc'ed text; absent or empty: NULL. */
static bool dup_word(const json_t *obj, const char *key, char **out)
{
	char buf[MAX_WORD];

	if (!get_word(obj, key, buf, sizeof(buf)))
		return false;
	if (buf[0])
		*out = textf("%s", buf);
	return true;
}

static const char *get_digest(const char *s, char hex[65])
{
	if (!s)
		return "a digest is missing";
	if (strncmp(s, "sha256:", 7))
		return strchr(s, ':') ? "a digest is of another algorithm than sha256"
				      : "a digest has no algorithm";
	if (!is_digest(s + 7))
		return "a digest is not sha256: and 64 hexadecimal digits";
	memcpy(hex, s + 7, 65);
	return NULL;
}

static const char *get_descriptor(const json_t *obj, struct oci_descriptor *d)
{
	const json_t *size = member(obj, "size"), *title;

	if (!json_is_object(obj))
		return "a descriptor is not an object";
	if (!get_word(obj, "mediaType", d->media_type, sizeof(d->media_type)))
		return "a media type is not a short string";
	if (!json_is_integer(size))
		return size ? "a size is not a whole number" : "a size is missing";
	if (json_integer_value(size) < 0)
		return "a size is negative";
	d->size = (uint64_t)json_integer_value(size);
	title = member(member(obj, "annotations"), "org.opencontainers.image.title");
	if (json_is_string(title) && json_string_length(title) < MAX_WORD)
		d->title = textf("%s", json_string_value(title));
	return get_digest(json_string_value(member(obj, "digest")), d->hex);
}

/* {"K": "V"} as K=V. A key with '=' or an empty one cannot be told apart afterwards, and is left out. */
static bool get_map(const json_t *obj, struct strings *out)
{
	const char *key;
	json_t *v;

	if (!obj)
		return true;
	if (!json_is_object(obj) || json_object_size(obj) > MAX_LIST)
		return false;
	json_object_foreach((json_t *)obj, key, v)
	{
		if (!json_is_string(v))
			return false;
		if (*key && !strchr(key, '='))
			strings_addf(out, "%s=%s", key, json_string_value(v));
	}
	return true;
}

static bool get_list(const json_t *list, struct strings *out)
{
	json_t *v;
	size_t i;

	if (!list)
		return true;
	if (!json_is_array(list) || json_array_size(list) > MAX_LIST)
		return false;
	json_array_foreach(list, i, v)
	{
		if (!json_is_string(v))
			return false;
		strings_add(out, json_string_value(v));
	}
	return true;
}

static const char *check_version(const json_t *root)
{
	const json_t *v = member(root, "schemaVersion");

	if (json_is_integer(v) && json_integer_value(v) == 1)
		return "it is of the old schema version 1";
	return json_is_integer(v) && json_integer_value(v) == 2 ? NULL : "its schemaVersion is not 2";
}

static const char *parse_manifest(const json_t *root, struct oci_manifest *out)
{
	const json_t *layers = member(root, "layers"), *config = member(root, "config");
	const char *why = check_version(root);

	if (why)
		return why;
	if (!get_word(root, "mediaType", out->media_type, sizeof(out->media_type)))
		return "a media type is not a short string";
	if (!out->media_type[0])
		strcpy(out->media_type, MEDIA_MANIFEST);
	if (member(root, "manifests"))
		return layers || config ? "it is a manifest and an index at once"
					: "it is an index where a manifest was expected";
	if (strcmp(out->media_type, MEDIA_MANIFEST) && strcmp(out->media_type, MEDIA_DOCKER_MANIFEST))
		return "its media type is not that of an image manifest";
	if (!config)
		return "it has no config";
	if ((why = get_descriptor(config, &out->config)))
		return why;
	if (!layers)
		return NULL; /* Go writes null for none */
	if (!json_is_array(layers))
		return "its layers are not a list";
	if (json_array_size(layers) > OCI_MAX_LAYERS)
		return "it has more than 128 layers";
	for (size_t i = 0; i < json_array_size(layers); i++)
		if ((why = get_descriptor(json_array_get(layers, i), oci_manifest_add_layer(out))))
			return why;
	return get_map(member(root, "annotations"), &out->annotations)
		       ? NULL
		       : "its annotations are not strings, at most 4096";
}

const char *oci_manifest_parse(const char *json, size_t n, struct oci_manifest *out)
{
	const char *why;
	json_t *root;

	memset(out, 0, sizeof(*out));
	if (!(root = load_object(json, n, &why)))
		return why;
	if ((why = parse_manifest(root, out)))
		oci_manifest_free(out);
	json_decref(root);
	return why;
}

/* "8080/tcp"; Docker's short form "8080" gets its protocol. */
static const char *get_ports(const json_t *ports, struct strings *out)
{
	const char *key;
	json_t *v;

	if (!ports)
		return NULL;
	if (!json_is_object(ports) || json_object_size(ports) > MAX_LIST)
		return "its ExposedPorts are not an object of ports";
	json_object_foreach((json_t *)ports, key, v)
	{
		size_t n = strspn(key, "0123456789");
		long port = n && n <= 5 ? strtol(key, NULL, 10) : 0;
		if (port < 1 || port > 65535 ||
		    (key[n] && strcmp(key + n, "/tcp") && strcmp(key + n, "/udp") &&
		     strcmp(key + n, "/sctp")))
			return "an exposed port is not PORT/tcp or PORT/udp";
		strings_addf(out, "%ld%s", port, key[n] ? key + n : "/tcp");
	}
	return NULL;
}

static const char *get_volumes(const json_t *volumes, struct strings *out)
{
	const char *key;
	json_t *v;

	if (!volumes)
		return NULL;
	if (!json_is_object(volumes) || json_object_size(volumes) > MAX_VOLUMES)
		return "its Volumes are not an object of at most 256 directories";
	json_object_foreach((json_t *)volumes, key, v)
	{
		if (key[0] != '/' || strlen(key) >= MAX_WORD)
			return "a volume is not an absolute path";
		strings_add(out, key);
	}
	return NULL;
}

static const char *get_env(const json_t *env, struct strings *out)
{
	json_t *v;
	size_t i;

	if (!env)
		return NULL;
	if (!json_is_array(env) || json_array_size(env) > MAX_LIST)
		return "its Env is not a list of at most 4096 strings";
	json_array_foreach(env, i, v)
	{
		const char *s = json_string_value(v);
		if (!s)
			return "an entry of its Env is not a string";
		if (!strchr(s, '=') || s[0] == '=')
			return "an entry of its Env is not NAME=VALUE";
		strings_set_env(out, s); /* the last one of a name wins */
	}
	return NULL;
}

static const char *get_diff_ids(const json_t *rootfs, struct oci_config *out)
{
	const json_t *ids = member(rootfs, "diff_ids");
	const char *why;
	char hex[65];

	if (!json_is_object(rootfs))
		return "it has no rootfs";
	if (ids && !json_is_array(ids))
		return "its diff_ids are not a list";
	if (json_array_size(ids) > OCI_MAX_LAYERS)
		return "it has more than 128 diff_ids";
	for (size_t i = 0; i < json_array_size(ids); i++) {
		if ((why = get_digest(json_string_value(json_array_get(ids, i)), hex)))
			return why;
		strings_add(&out->diff_ids, hex);
	}
	return NULL;
}

/* What the image says of its process: the object "config". */
static const char *get_process(const json_t *c, struct oci_config *out)
{
	const char *why;

	if (!c)
		return NULL;
	if (!json_is_object(c))
		return "its config is not an object";
	out->has_entrypoint = member(c, "Entrypoint");
	out->has_cmd = member(c, "Cmd");
	if (!get_list(member(c, "Entrypoint"), &out->entrypoint))
		return "its Entrypoint is not a list of strings, at most 4096";
	if (!get_list(member(c, "Cmd"), &out->cmd))
		return "its Cmd is not a list of strings, at most 4096";
	if ((why = get_env(member(c, "Env"), &out->env)) ||
	    (why = get_ports(member(c, "ExposedPorts"), &out->ports)) ||
	    (why = get_volumes(member(c, "Volumes"), &out->volumes)))
		return why;
	if (!get_map(member(c, "Labels"), &out->labels))
		return "its Labels are not strings, at most 4096";
	if (!dup_word(c, "User", &out->user))
		return "its User is not a short string";
	if (!dup_word(c, "StopSignal", &out->stop_signal))
		return "its StopSignal is not a short string";
	if (!dup_word(c, "WorkingDir", &out->workdir))
		return "its WorkingDir is not a short string";
	return out->workdir && out->workdir[0] != '/' ? "its WorkingDir is not an absolute path" : NULL;
}

static const char *parse_config(const json_t *root, struct oci_config *out)
{
	const char *why;

	if (!dup_word(root, "architecture", &out->architecture) || !dup_word(root, "os", &out->os))
		return "its platform is not a string";
	if ((why = get_diff_ids(member(root, "rootfs"), out)))
		return why;
	return get_process(member(root, "config"), out);
}

const char *oci_config_parse(const char *json, size_t n, struct oci_config *out)
{
	const char *why;
	json_t *root;

	memset(out, 0, sizeof(*out));
	if (!(root = load_object(json, n, &why)))
		return why;
	if ((why = parse_config(root, out)))
		oci_config_free(out);
	json_decref(root);
	return why;
}

/* --- an index: which of its images ------------------------------------------------------------------------ */

static const char *annotation(const json_t *entry, const char *key)
{
	return json_string_value(member(member(entry, "annotations"), key));
}

/* Is it an image or a further index, and not a signature, an attestation, ... */
static bool is_image(const json_t *entry)
{
	const char *type = json_string_value(member(entry, "mediaType"));
	const char *os = json_string_value(member(member(entry, "platform"), "os"));

	if (!json_is_object(entry) || (os && !strcmp(os, "unknown")))
		return false;
	return !type || !strcmp(type, MEDIA_MANIFEST) || !strcmp(type, MEDIA_INDEX) ||
	       !strcmp(type, MEDIA_DOCKER_MANIFEST) || !strcmp(type, MEDIA_DOCKER_LIST);
}

/* 2: for linux/amd64, as every such CPU can run it; 1: for newer ones, or it does not say; 0: for another platform. */
static int platform_rank(const json_t *entry)
{
	const json_t *p = member(entry, "platform");
	const char *os = json_string_value(member(p, "os"));
	const char *arch = json_string_value(member(p, "architecture"));
	const char *variant = json_string_value(member(p, "variant"));

	if ((os && strcmp(os, "linux")) || (arch && strcmp(arch, "amd64")))
		return 0;
	return os && arch && (!variant || !*variant || !strcmp(variant, "v1")) ? 2 : 1;
}

/* The phrases that name what is there: one at a time, so one buffer. */
static const char *list_entries(const char *head, const json_t *list, bool platforms)
{
	static char phrase[600];
	size_t len = (size_t)snprintf(phrase, sizeof(phrase), "%s", head);
	int shown = 0;

	for (size_t i = 0; i < json_array_size(list) && len < sizeof(phrase) - 200; i++) {
		const json_t *e = json_array_get(list, i), *p = member(e, "platform");
		const char *name = annotation(e, REF_NAME), *digest = json_string_value(member(e, "digest"));
		const char *os = json_string_value(member(p, "os")),
			   *arch = json_string_value(member(p, "architecture"));
		if (!is_image(e))
			continue;
		if (shown == 8) {
			snprintf(phrase + len, sizeof(phrase) - len, ", ...");
			break;
		}
		if (platforms)
			len += (size_t)snprintf(phrase + len, sizeof(phrase) - len, "%s%.30s/%.30s",
						shown++ ? ", " : " ", os ? os : "?", arch ? arch : "?");
		else
			len += (size_t)snprintf(phrase + len, sizeof(phrase) - len, "%s%.71s",
						shown++ ? ", " : " ",
						name	 ? name
						: digest ? digest
							 : "?");
	}
	return phrase;
}

static bool is_named(const json_t *entry, const char *ref)
{
	const char *name = annotation(entry, REF_NAME), *full = annotation(entry, "io.containerd.image.name");
	const char *digest = json_string_value(member(entry, "digest"));

	return (name && !strcmp(name, ref)) || (full && !strcmp(full, ref)) ||
	       (digest && !strcmp(digest, ref));
}

/*
 * Of the images with the wanted name, those of the best platform. More than one of them is a choice that only the user can make,
 * unless they are one image, or an image's variants (no names, platforms given): there the first is meant.
 */
static const char *pick(const json_t *list, const char *ref, const json_t **out)
{
	const json_t *best = NULL;
	bool any = false, named = false, many = false;
	int best_rank = 0;

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *e = json_array_get(list, i);
		if (!is_image(e) || (ref && !is_named(e, ref)))
			continue;
		int rank = platform_rank(e);
		any = true;
		if (!rank || rank < best_rank)
			continue;
		if (rank > best_rank) {
			best = e;
			many = false;
			named = annotation(e, REF_NAME) || !member(e, "platform");
		} else if (!json_equal(member(e, "digest"), member(best, "digest"))) {
			many = true;
			named |= annotation(e, REF_NAME) || !member(e, "platform");
		}
		best_rank = rank;
	}
	*out = best;
	if (!any)
		return ref ? list_entries("it has no image of that name; it has", list, false)
			   : "it has no image";
	if (!best)
		return list_entries("it has no image for linux/amd64; it has", list, true);
	if (many && named && !ref)
		return list_entries("it has several images; name one of", list, false);
	return NULL;
}

const char *oci_index_pick(const char *json, size_t n, const char *ref, struct oci_descriptor *out)
{
	const json_t *list, *entry = NULL;
	const char *why;
	json_t *root;

	memset(out, 0, sizeof(*out));
	if (!(root = load_object(json, n, &why)))
		return why;
	list = member(root, "manifests");
	if (member(root, "layers") || member(root, "config"))
		why = "it is not an index";
	else if (!(why = check_version(root)) && list && !json_is_array(list))
		why = "its manifests are not a list";
	if (!why)
		why = pick(list, ref && *ref ? ref : NULL, &entry);
	if (!why)
		why = get_descriptor(entry, out);
	if (why) {
		free(out->title);
		memset(out, 0, sizeof(*out));
	} else if (!out->media_type[0]) {
		strcpy(out->media_type, MEDIA_MANIFEST);
	}
	json_decref(root);
	return why;
}

/* --- writing ------------------------------------------------------------------------------------------------ */

static json_t *put_map(const struct strings *kv)
{
	json_t *obj = json_object();

	for (size_t i = 0; i < kv->n; i++) {
		size_t n = strcspn(kv->v[i], "=");
		char *key = textf("%.*s", (int)n, kv->v[i]);
		json_object_set_new(obj, key, json_string(kv->v[i][n] ? kv->v[i] + n + 1 : nothing));
		free(key);
	}
	return obj;
}

/* The keys of an object whose values say nothing. */
static json_t *put_set(const struct strings *keys)
{
	json_t *obj = json_object();

	for (size_t i = 0; i < keys->n; i++)
		json_object_set_new(obj, keys->v[i], json_object());
	return obj;
}

static json_t *put_list(const struct strings *list)
{
	json_t *a = json_array();

	for (size_t i = 0; i < list->n; i++)
		json_array_append_new(a, json_string(list->v[i]));
	return a;
}

static json_t *put_descriptor(const struct oci_descriptor *d)
{
	json_t *obj = json_pack("{s:s, s:s+, s:I}", "mediaType", d->media_type, "digest", "sha256:", d->hex,
				"size", (json_int_t)d->size);

	if (obj && d->title)
		json_object_set_new(obj, "annotations",
				    json_pack("{s:s}", "org.opencontainers.image.title", d->title));
	return obj;
}

/* Jansson drops what is not UTF-8: then a struct cannot be written at all. */
static bool is_utf8(const struct strings *s)
{
	for (size_t i = 0; i < s->n; i++) {
		json_t *v = json_string(s->v[i]);
		if (!v)
			return false;
		json_decref(v);
	}
	return true;
}

static char *dump(json_t *root)
{
	char *text = json_dumps(root, JSON_COMPACT);

	json_decref(root);
	if (!text)
		exit(say_fail(EXIT_OURS, "out of memory"));
	return text;
}

char *oci_manifest_format(const struct oci_manifest *m)
{
	json_t *root, *layers = json_array();

	if (!is_utf8(&m->annotations)) {
		json_decref(layers);
		return NULL;
	}
	for (size_t i = 0; i < m->n_layers; i++)
		json_array_append_new(layers, put_descriptor(&m->layers[i]));
	root = json_pack("{s:i, s:s, s:o, s:o}", "schemaVersion", 2, "mediaType",
			 m->media_type[0] ? m->media_type : MEDIA_MANIFEST, "config",
			 put_descriptor(&m->config), "layers", layers);
	if (m->annotations.n)
		json_object_set_new(root, "annotations", put_map(&m->annotations));
	return dump(root);
}

static void put_word(json_t *obj, const char *key, const char *value)
{
	if (value && *value)
		json_object_set_new(obj, key, json_string(value));
}

static json_t *put_process(const struct oci_config *c)
{
	json_t *p = json_object();

	put_word(p, "User", c->user);
	if (c->ports.n)
		json_object_set_new(p, "ExposedPorts", put_set(&c->ports));
	if (c->env.n)
		json_object_set_new(p, "Env", put_list(&c->env));
	if (c->has_entrypoint || c->entrypoint.n)
		json_object_set_new(p, "Entrypoint", put_list(&c->entrypoint));
	if (c->has_cmd || c->cmd.n)
		json_object_set_new(p, "Cmd", put_list(&c->cmd));
	if (c->volumes.n)
		json_object_set_new(p, "Volumes", put_set(&c->volumes));
	put_word(p, "WorkingDir", c->workdir);
	if (c->labels.n)
		json_object_set_new(p, "Labels", put_map(&c->labels));
	put_word(p, "StopSignal", c->stop_signal);
	return p;
}

char *oci_config_format(const struct oci_config *c)
{
	json_t *root, *ids = json_array();
	struct strings words = {0};

	strings_add(&words, c->user ? c->user : nothing);
	strings_add(&words, c->workdir ? c->workdir : nothing);
	strings_add(&words, c->stop_signal ? c->stop_signal : nothing);
	bool ok = is_utf8(&words) && is_utf8(&c->entrypoint) && is_utf8(&c->cmd) && is_utf8(&c->env) &&
		  is_utf8(&c->volumes) && is_utf8(&c->labels);
	strings_free(&words);
	if (!ok) {
		json_decref(ids);
		return NULL;
	}
	for (size_t i = 0; i < c->diff_ids.n; i++)
		json_array_append_new(ids, json_pack("s+", "sha256:", c->diff_ids.v[i]));
	root = json_pack("{s:s, s:s, s:o, s:{s:s, s:o}}", "architecture",
			 c->architecture ? c->architecture : "amd64", "os", c->os ? c->os : "linux", "config",
			 put_process(c), "rootfs", "type", "layers", "diff_ids", ids);
	return dump(root);
}

/* --- structs --------------------------------------------------------------------------------------------------- */

void oci_descriptor_set(struct oci_descriptor *d, const char *media_type, const char *hex, uint64_t size,
			const char *title)
{
	memset(d, 0, sizeof(*d));
	snprintf(d->media_type, sizeof(d->media_type), "%s", media_type);
	snprintf(d->hex, sizeof(d->hex), "%s", hex);
	d->size = size;
	d->title = title && *title ? textf("%s", title) : NULL;
}

struct oci_descriptor *oci_manifest_add_layer(struct oci_manifest *m)
{
	struct oci_descriptor *v = realloc(m->layers, (m->n_layers + 1) * sizeof(*v));

	if (!v)
		exit(say_fail(EXIT_OURS, "out of memory"));
	m->layers = v;
	memset(&v[m->n_layers], 0, sizeof(*v));
	return &v[m->n_layers++];
}

void oci_manifest_free(struct oci_manifest *m)
{
	for (size_t i = 0; i < m->n_layers; i++)
		free(m->layers[i].title);
	free(m->layers);
	free(m->config.title);
	strings_free(&m->annotations);
	memset(m, 0, sizeof(*m));
}

void oci_config_free(struct oci_config *c)
{
	struct strings *lists[] = {&c->entrypoint, &c->cmd,    &c->env,	    &c->ports,
				   &c->volumes,	   &c->labels, &c->diff_ids};
	char *words[] = {c->user, c->workdir, c->stop_signal, c->architecture, c->os};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		strings_free(lists[i]);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		free(words[i]);
	memset(c, 0, sizeof(*c));
}

void oci_config_processes(const struct oci_config *c, struct strings *out)
{
	const char *label = strings_env(&c->labels, LABEL_PROCESSES), *type, *why;
	json_t *root = label ? load_object(label, strlen(label), &why) : NULL, *command;

	if (!root)
		return;
	json_object_foreach(root, type, command)
	{
		if (*type && !strchr(type, '=') && json_is_string(command) && out->n < MAX_LIST)
			strings_addf(out, "%s=%s", type, json_string_value(command));
	}
	json_decref(root);
}
