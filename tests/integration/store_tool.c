/* SPDX-License-Identifier: ISC */
/*
 * What store.t needs of the store besides the commands: small images out of nothing, a store under constant change that can
 * be killed at any moment, and a look at every byte afterwards.
 *
 *   store_tool make NAME:TAG LAYER...    an image whose layers are files; prints its digest
 *   store_tool sign NAME:TAG             a manifest in the place of its signature
 *   store_tool many N                    images app1:latest ... of a common layer and an own one each; prints the time
 *   store_tool churn SEED                builds, names and removes until it is killed
 *   store_tool verify                    every blob has its digest, every name leads to a whole image
 *   store_tool hold MS                   hold the store, print a line, and go
 *   store_tool litter                    a scratch directory and a blob that nothing refers to, and death
 *   store_tool count KEY FILE N          add one to a number in a file, N times, each under the lock of KEY
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "image/oci/oci.h"
#include "image/store/store.h"

static struct store *s;

static int die(const char *what, int r)
{
	fprintf(stderr, "store_tool: %s: %s\n", what, strerror(-r));
	exit(1);
}

static int must(int r, const char *what)
{
	return r < 0 ? die(what, r) : r;
}

/* --- images --------------------------------------------------------------------------------------- */

struct part {
	char hex[65];
	uint64_t size;
};

static struct part put(const void *data, size_t n)
{
	struct part p = {.size = n};

	must(store_put(s, data, n, p.hex), "put");
	return p;
}

static struct part put_file(const char *path)
{
	struct blob *b = blob_new(s);
	struct part p;
	char buf[65536];
	ssize_t n;
	int fd = open(path, O_RDONLY);

	if (fd < 0 || !b)
		die(path, -errno);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		blob_write(b, buf, (size_t)n);
	close(fd);
	must(blob_commit(b, NULL, p.hex, &p.size), path);
	return p;
}

static struct part put_manifest(const struct part *layer, int n, const char *label)
{
	struct oci_manifest m = {.media_type = MEDIA_MANIFEST};
	struct oci_config c = {0};
	char title[32];

	strings_addf(&c.labels, LABEL_RUNTIME "=%s", label);
	strings_add(&c.labels, LABEL_LANGUAGE "=Test");
	strings_add(&c.labels, LABEL_PROCESSES "={\"web\":\"serve --port $PORT\",\"worker\":\"work\"}");
	strings_add(&c.cmd, "serve");
	strings_add(&c.cmd, "two words");
	strings_add(&c.env, "GREETING=hello\033[31m");
	strings_add(&c.ports, "8080/tcp");
	c.user = textf("app");
	c.os = textf("linux");
	c.architecture = textf("amd64");
	for (int i = 0; i < n; i++) {
		strings_add(&c.diff_ids, layer[i].hex);
		snprintf(title, sizeof(title), "layer %d", i);
		oci_descriptor_set(oci_manifest_add_layer(&m), MEDIA_LAYER_EROFS, layer[i].hex, layer[i].size,
				   title);
	}
	char *text = oci_config_format(&c);
	struct part config = put(text, strlen(text));
	free(text);
	oci_descriptor_set(&m.config, MEDIA_CONFIG, config.hex, config.size, NULL);
	text = oci_manifest_format(&m);
	struct part manifest = put(text, strlen(text));
	free(text);
	oci_manifest_free(&m);
	oci_config_free(&c);
	return manifest;
}

static void make(char **argv)
{
	struct part layer[16];
	int n = 0;

	must(store_hold(s), "hold");
	for (char **f = argv + 1; *f && n < 16; f++)
		layer[n++] = put_file(*f);
	struct part m = put_manifest(layer, n, "test 1.0");
	must(store_ref_set(s, argv[0], m.hex), argv[0]);
	puts(m.hex);
}

static void sign(const char *ref)
{
	char hex[65];

	must(store_hold(s), "hold");
	must(store_ref_get(s, ref, hex), ref);
	struct part payload = put(ref, strlen(ref)), m = put_manifest(&payload, 1, "signature");
	char *name = textf("%.*s:sha256-%s.sig", (int)(strrchr(ref, ':') - ref), ref, hex);
	must(store_ref_set(s, name, m.hex), name);
	puts(name);
	free(name);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void many(int n)
{
	int64_t t = now_ms();
	char text[64], ref[64];

	for (int i = 1; i <= n; i++) {
		must(store_hold(s), "hold");
		snprintf(text, sizeof(text), "app %d", i);
		struct part layer[2] = {put("runtime", 7), put(text, strlen(text))};
		struct part m = put_manifest(layer, 2, "test 1.0");
		snprintf(ref, sizeof(ref), "app%d:latest", i);
		store_memo_set(s, "build", layer[1].hex, m.hex);
		must(store_ref_set(s, ref, m.hex), ref);
		store_release(s);
	}
	printf("%lld ms\n", (long long)(now_ms() - t));
}

/* --- change without end --------------------------------------------------------------------------------- */

/* A layer of one of a few contents, so that builders meet; written whole or at random places. */
static struct part random_layer(void)
{
	struct part p;
	unsigned what = (unsigned)rand() % 20, n = 1000 + what * 9000, at = 0;
	unsigned *buf = malloc(n);
	struct blob *b = blob_new(s);

	if (!b || !buf)
		die("blob", -errno);
	for (unsigned i = 0; i < n / 4; i++)
		buf[i] = i * (what + 1);
	if (what & 1) {
		for (; at < n; at += 5000)
			blob_write(b, (char *)buf + at, n - at < 5000 ? n - at : 5000);
	} else if (pwrite(blob_fd(b), (char *)buf + n / 2, n - n / 2, n / 2) < 0 ||
		   pwrite(blob_fd(b), buf, n / 2, 0) < 0) {
		die("pwrite", -errno);
	}
	free(buf);
	must(blob_commit(b, NULL, p.hex, &p.size), "commit");
	return p;
}

static void churn(unsigned seed)
{
	char ref[64], key[65];

	srand(seed);
	for (;;) {
		snprintf(ref, sizeof(ref), "app%d:v%d", rand() % 10, rand() % 3);
		if (rand() % 4 == 0) {
			int r = store_ref_remove(s, ref);
			if (r != -ENOENT)
				must(r, "remove");
			continue;
		}
		must(store_hold(s), "hold");
		bool together = rand() % 2;
		if (together)
			store_begin(s);
		struct part layer[3] = {random_layer(), random_layer(), random_layer()};
		snprintf(key, sizeof(key), "build %d", rand() % 50);
		struct part m = put_manifest(layer, 1 + rand() % 3, key);
		if (together)
			must(store_end(s, true), "end");
		store_memo_set(s, "build", layer[0].hex, m.hex);
		must(store_ref_set(s, ref, m.hex), "name");
		store_release(s);
	}
}

/* --- a look at everything ---------------------------------------------------------------------------------- */

static unsigned wrong;

static void complain(const char *what, const char *why)
{
	printf("%s: %s\n", what, why);
	wrong++;
}

static unsigned verify_blobs(void)
{
	char *path = textf("%s/blobs/sha256", store_dir(s)), hex[65];
	DIR *d = opendir(path);
	struct dirent *e;
	unsigned n = 0;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		int fd = openat(dirfd(d), e->d_name, O_RDONLY);
		if (!is_digest(e->d_name) || fd < 0 || sha256_fd(fd, hex) || strcmp(hex, e->d_name))
			complain(e->d_name, "not what its name says");
		close(fd);
		n++;
	}
	if (d)
		closedir(d);
	free(path);
	return n;
}

static void verify_name(const char *ref)
{
	struct oci_manifest m;
	char hex[65], *text;
	size_t n;

	if (store_ref_get(s, ref, hex) || store_get(s, hex, OCI_MAX_MANIFEST, &text, &n)) {
		complain(ref, "leads to no manifest");
		return;
	}
	const char *why = oci_manifest_parse(text, n, &m);
	free(text);
	if (why) {
		complain(ref, why);
		return;
	}
	if (!store_has(s, m.config.hex))
		complain(ref, "its configuration is missing");
	for (size_t i = 0; i < m.n_layers; i++)
		if (!store_has(s, m.layers[i].hex))
			complain(ref, "a layer is missing");
	oci_manifest_free(&m);
}

static int verify(void)
{
	struct strings refs = {0};

	must(store_hold(s), "hold");
	unsigned n = verify_blobs();
	must(store_refs(s, &refs), "names");
	for (size_t i = 0; i < refs.n; i++)
		verify_name(refs.v[i]);
	printf("%u blobs, %zu names, %u wrong\n", n, refs.n, wrong);
	strings_free(&refs);
	return wrong != 0;
}

static void count(const char *key, const char *file, int n)
{
	while (n--) {
		int v = 0, fd = must(store_lock(s, key), "lock");
		FILE *f = fopen(file, "r");
		if (!f || fscanf(f, "%d", &v) != 1)
			die(file, -EINVAL);
		fclose(f);
		usleep(1000);
		f = fopen(file, "w");
		fprintf(f, "%d\n", v + 1);
		fclose(f);
		close(fd);
	}
}

static void litter(void)
{
	char path[4200];

	must(store_scratch(s, path, sizeof(path)), "scratch");
	char *file = textf("%s/file", path);
	FILE *f = fopen(file, "w");
	for (int i = 0; f && i < 10000; i++)
		fputs("0123456789", f);
	fclose(f);
	put("nobody's", 8);
	kill(getpid(), SIGKILL);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	s = store_open();
	if (!s)
		return 1;
	if (!strcmp(what, "make") && argc > 2)
		make(argv + 2);
	else if (!strcmp(what, "sign") && argc > 2)
		sign(argv[2]);
	else if (!strcmp(what, "many") && argc > 2)
		many(atoi(argv[2]));
	else if (!strcmp(what, "churn") && argc > 2)
		churn((unsigned)atoi(argv[2]));
	else if (!strcmp(what, "verify"))
		return verify();
	else if (!strcmp(what, "hold") && argc > 2) {
		must(store_hold(s), "hold");
		puts("held");
		fflush(stdout);
		usleep((useconds_t)atoi(argv[2]) * 1000);
	} else if (!strcmp(what, "litter")) {
		litter();
	} else if (!strcmp(what, "count") && argc > 4) {
		count(argv[2], argv[3], atoi(argv[4]));
	} else {
		fputs("store_tool: see its source\n", stderr);
		return 2;
	}
	store_close(s);
	return 0;
}
