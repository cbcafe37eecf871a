/* SPDX-License-Identifier: ISC */
/*
 * Java. Found by a jar with a Main-Class in the app's directory, target/ or build/libs/; runs with Debian's headless JRE.
 * Nothing is compiled: Maven and Gradle fetch from registries of their own, so the jar is built before.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"
#include "image/build/zip.h"
#include "lib/host/say.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static const char *const places[] = {".", "target", "build/libs"};

/* Does META-INF/MANIFEST.MF name a class to start? */
static bool has_main(const struct app *a, const char *rel)
{
	size_t n;
	int fd = openat(a->fd, rel, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char *manifest = fd >= 0 ? zip_member(fd, "META-INF/MANIFEST.MF", 1u << 20, &n) : NULL;
	bool found = manifest && (!strncmp(manifest, "Main-Class:", 11) || strstr(manifest, "\nMain-Class:"));

	if (fd >= 0)
		close(fd);
	free(manifest);
	return found;
}

/* The first jar that starts, relative, in a static buffer; NULL: none. (x-plain.jar beside x.jar does not start.) */
static const char *find_jar(const struct app *a)
{
	static char rel[512];
	struct strings names = {0};
	const char *hit = NULL;

	for (size_t i = 0; !hit && i < sizeof(places) / sizeof(places[0]); i++) {
		app_list(a, places[i], "*.jar", false, &names);
		for (size_t k = 0; !hit && k < names.n; k++)
			if (snprintf(rel, sizeof(rel), "%s%s%s", i ? places[i] : "", i ? "/" : "",
				     names.v[k]) < (int)sizeof(rel) &&
			    app_has(a, rel) && has_main(a, rel))
				hit = rel;
		strings_free(&names);
	}
	return hit;
}

static const char *found(const struct app *a)
{
	static const char *const builds[] = {"pom.xml", "build.gradle", "build.gradle.kts"};
	const char *jar = find_jar(a);

	return jar ? jar : app_first(a, builds, 3);
}

static int fill(struct app *a)
{
	static const char *const jres[] = {"openjdk-17-jre-headless", "openjdk-21-jre-headless",
					   "openjdk-25-jre-headless", "default-jre-headless"};
	const char *jar = find_jar(a);

	if (!jar && !a->said_processes)
		return out_fail(EXIT_OURS, "No jar with a Main-Class in ., target or build/libs.\nMaven and "
					   "Gradle are not run here: build the jar first, "
					   "or name the command in a Procfile");
	if (!a->plan->runtime_packages.n)
		app_runtime(a, app_pick_package(jres, 4));
	a->plan->runtime = textf("java");
	app_link(a, "java=/usr/lib/jvm/java-17-openjdk-amd64/bin/java "
		    "/usr/lib/jvm/java-21-openjdk-amd64/bin/java "
		    "/usr/lib/jvm/java-25-openjdk-amd64/bin/java");
	if (jar) {
		char *command = textf("java -jar %s", jar);
		app_process(a, "web", command);
		free(command);
	}
	return 0;
}

const struct language lang_java = {"Java",   "java", "a jar with a Main-Class in ., target or build/libs",
				   " java ", found,  fill};
