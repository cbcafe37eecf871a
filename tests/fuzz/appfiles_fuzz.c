// SPDX-License-Identifier: ISC
/* libFuzzer target: files of an app that `cowbell build` reads: TOML, ignore rules, Procfile, the directory of a jar. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "image/build/detect.h"
#include "image/build/zip.h"
#include "lib/host/ignore.h"
#include "lib/host/toml.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* What procfile.c asks of the rest of the build; not reached from its parser. */
char *app_read(const struct app *a, const char *rel, size_t *n)
{
	abort();
}

bool app_has(const struct app *a, const char *rel)
{
	abort();
}

int out_fail(int status, const char *fmt, ...)
{
	abort();
}

static void toml(const char *text, size_t n)
{
	struct toml t;
	const char *key;
	size_t at = 0;

	if (!toml_parse(text, n, &t) && strncmp(t.error, "line ", 5))
		abort();
	for (size_t i = 0; i < t.n; i++)
		if (!t.v[i].path || !t.v[i].value)
			abort();
	while (toml_next(&t, "", &at, &key))
		if (strchr(key, 0x1f))
			abort();
	toml_find(&t, "build/packages");
	toml_free(&t);
}

/* Rules, an empty line, then paths to match. */
static void ignore(const char *text)
{
	struct strings rules = {0};
	const char *paths = strstr(text, "\n\n");
	char *copy = strdup(paths ? paths + 2 : text), *rest = copy;

	ignore_parse(&rules, 's', text);
	ignore_parse(&rules, 'd', text);
	if (rules.n > 8)
		rules.n = 8; /* time, not more bugs; all are freed below through v's end */
	for (char *p; (p = strsep(&rest, "\n"));) {
		ignore_match(&rules, p, false);
		ignore_match(&rules, p, true);
		ignore_always(p, false);
	}
	while (rules.v && rules.v[rules.n])
		rules.n++;
	strings_free(&rules);
	free(copy);
}

static void procfile(const char *text, size_t n)
{
	struct strings v = {0};

	if (!procfile_parse(text, n, &v))
		for (size_t i = 0; i < v.n; i++) {
			const char *eq = strchr(v.v[i], '=');
			if (!eq || !valid_process_type(v.v[i], (size_t)(eq - v.v[i])) || !eq[1] ||
			    strchr(eq, '\n'))
				abort();
		}
	strings_free(&v);
}

static void zip(const unsigned char *data, size_t n)
{
	int fd = memfd_create("zip", MFD_CLOEXEC);
	size_t len = 0;

	if (fd >= 0 && write(fd, data, n) == (ssize_t)n) {
		char *s = zip_member(fd, "META-INF/MANIFEST.MF", 1u << 16, &len);
		if (s && s[len])
			abort();
		free(s);
	}
	close(fd);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	if (!size)
		return 0;
	char *text = malloc(size);
	if (!text)
		return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	switch (data[0] % 4) {
	case 0:
		toml(text, size - 1);
		break;
	case 1:
		ignore(text);
		break;
	case 2:
		procfile(text, size - 1);
		break;
	default:
		zip(data + 1, size - 1);
	}
	free(text);
	return 0;
}
