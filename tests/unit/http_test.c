/* SPDX-License-Identifier: ISC */
/* unit-sources: image/oci/http.c image/oci/url.c lib/host/curl.c lib/host/say.c lib/host/strings.c lib/host/progress.c */
/* unit-libs: -ldl */
/* Addresses that a registry sends us to: which are taken, which are the same place, which are this machine. No network. */
#include <dlfcn.h>
#include <string.h>

#include "image/oci/http.h"
#include "tests/unit/tap.h"

static struct http *h;

static void resolves(const char *base, const char *location, const char *want)
{
	char *got = http_resolve(h, base, location);

	if (!ok(want ? got && !strcmp(got, want) : !got, "%s from %s: %s", location, base,
		want ? want : "refused"))
		diag("got %s", got ? got : "(refused)");
	free(got);
}

static void refuses(const char *url, bool plain, const char *why)
{
	struct http_request q = {
		.method = "GET", .url = url, .body_fd = -1, .out_fd = -1, .out_max = 10, .follow = true};
	struct http_response r;

	http_allow_plain(h, plain);
	enum http_failure f = http_do(h, &q, &r);
	if (!ok(f == HTTP_REFUSED && strcasestr(r.error, why), "%s: %s", url, why))
		diag("%d: %s", f, r.error);
	http_response_free(&r);
}

int main(void)
{
	struct http_options o = {0};
	void *lib = dlopen("libcurl.so.4", RTLD_NOW);

	if (!lib)
		skip_all("libcurl is not here");
	h = http_open(&o);
	if (!h)
		return 1;
	resolves("https://r.example/v2/a", "/x?y=1", "https://r.example/x?y=1");
	resolves("https://r.example/v2/a", "b", "https://r.example/v2/b");
	resolves("https://r.example/v2/a", "//s.example/b", "https://s.example/b");
	resolves("https://r.example/v2/a", "HTTP://s.example:80/b", "http://s.example:80/b");
	resolves("https://r.example/v2/a", "https://s.example/b c", NULL);
	resolves("https://r.example/", "file:///etc/passwd", NULL);
	resolves("https://r.example/", "gopher://r.example/", NULL);
	resolves("https://r.example/", "ftp://r.example/", NULL);
	resolves("https://r.example/", "https://user@r.example/", NULL);
	resolves("https://r.example/", "https://user:pass@r.example/", NULL);
	resolves("https://r.example/", "javascript:x", NULL);
	resolves("https://r.example/", "https://r.example:99999/", NULL);
	char *longest = malloc(20001);
	memset(longest, 'a', 20000);
	longest[20000] = 0;
	resolves("https://r.example/", longest, NULL);
	free(longest);

	ok(http_same_origin(h, "https://r.example/a", "https://R.EXAMPLE:443/b?c"),
	   "the default port, upper case");
	ok(!http_same_origin(h, "https://r.example/a", "http://r.example/a"), "another scheme");
	ok(!http_same_origin(h, "https://r.example/a", "https://r.example:444/a"), "another port");
	ok(!http_same_origin(h, "https://r.example/a", "https://r.example.evil.org/a"), "another host");
	ok(!http_same_origin(h, "https://r.example/a", "https://r.example@evil.org/a"),
	   "a user that looks like the host");
	ok(!http_same_origin(h, "https://r.example/a", "nonsense://"), "no address");
	ok(http_same_host(h, "http://r.example:1/a", "https://r.example:2/a"), "one host, two ports");

	ok(http_is_loopback(h, "http://localhost:5000/"), "localhost");
	ok(http_is_loopback(h, "http://127.0.0.1/"), "127.0.0.1");
	ok(http_is_loopback(h, "http://127.9.9.9:1/"), "all of 127/8");
	ok(http_is_loopback(h, "http://[::1]:1/"), "::1");
	ok(!http_is_loopback(h, "http://localhost.evil.org/"), "a name that begins with localhost");
	ok(!http_is_loopback(h, "http://127.0.0.1.evil.org/"), "a name that begins with an address");
	ok(!http_is_loopback(h, "http://128.0.0.1/"), "128.0.0.1");

	char *e = http_escape("a/b:c d&e=%\x80~");
	ok(!strcmp(e, "a%2Fb%3Ac%20d%26e%3D%25%80~"), "escapes: %s", e);
	free(e);

	refuses("file:///etc/passwd", true, "rotocol");
	refuses("http://r.example/", false, "rotocol");
	refuses("ftp://r.example/", true, "rotocol");
	refuses("https://user:pass@127.0.0.1:1/", false, "");
	http_close(h);
	dlclose(lib);
	return done();
}
