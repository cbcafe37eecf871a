/* SPDX-License-Identifier: ISC */
/*
 * libcurl, loaded when a registry or a platform is first talked to.
 *
 * libcurl and the twenty libraries behind it take 4 ms to load, more than a start of `cowbell run` may take in all, so they are
 * not linked: dlopen(3) brings them in, and a table holds the functions that are used. <curl/curl.h> is needed to
 * build, for constants and types.
 */
#include "lib/host/curl.h"

#include <dlfcn.h>
#include <string.h>

#include "lib/host/say.h"

#define LIBRARY "libcurl.so.4"

struct curl_api curl_api;

static const struct {
	const char *name;
	void *slot;
} symbols[] = {
	{"curl_global_init", &curl_api.global_init},
	{"curl_easy_init", &curl_api.easy_init},
	{"curl_easy_reset", &curl_api.easy_reset},
	{"curl_easy_cleanup", &curl_api.easy_cleanup},
	{"curl_easy_perform", &curl_api.easy_perform},
	{"curl_easy_setopt", &curl_api.easy_setopt},
	{"curl_easy_getinfo", &curl_api.easy_getinfo},
	{"curl_easy_send", &curl_api.easy_send},
	{"curl_easy_recv", &curl_api.easy_recv},
	{"curl_easy_strerror", &curl_api.easy_strerror},
	{"curl_slist_append", &curl_api.slist_append},
	{"curl_slist_free_all", &curl_api.slist_free_all},
	{"curl_url", &curl_api.url},
	{"curl_url_cleanup", &curl_api.url_cleanup},
	{"curl_url_set", &curl_api.url_set},
	{"curl_url_get", &curl_api.url_get},
	{"curl_free", &curl_api.free},
};

bool curl_load(void)
{
	if (curl_api.library)
		return true;
	void *lib = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!lib) {
		say("talking to a server needs libcurl, and %s is not there; on Debian: apt-get install "
		    "libcurl4",
		    LIBRARY);
		return false;
	}
	for (size_t i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		void *f = dlsym(lib, symbols[i].name);
		if (!f) {
			say("%s is too old: it has no %s", LIBRARY, symbols[i].name);
			dlclose(lib);
			return false;
		}
		memcpy(symbols[i].slot, &f, sizeof(f));
	}
	if (curl_api.global_init(CURL_GLOBAL_DEFAULT)) {
		say("libcurl cannot be started");
		dlclose(lib);
		return false;
	}
	curl_api.library = lib;
	return true;
}
