/* SPDX-License-Identifier: ISC */
/* `cowbell domains` and `certs`: names of an app beside its own, and what they are served with. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/client.h"
#include "lib/host/say.h"

#define MAX_PEM (256u << 10)

/* --- domains -------------------------------------------------------------------------------------------------------- */

static int run_domains(const struct at *at, const struct words *w)
{
	json_t *list;
	struct table t = {0};
	int r = app_items(at, "/domains", &list);

	(void)w;
	if (r)
		return r;
	if (at->json) {
		show_json(list);
		json_decref(list);
		return 0;
	}
	show_title("%s Domain", at->app);
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(jstr(json_array_get(list, i), "kind"), "custom"))
			show_line(jstr(json_array_get(list, i), "hostname"));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *d = json_array_get(list, i);
		if (strcmp(jstr(d, "kind"), "custom"))
			continue;
		if (!t.cells.n)
			table_row(&t, 3, "Domain Name", "DNS Target", "Certificate");
		const json_t *cert = json_object_get(d, "sni_endpoint");
		table_row(&t, 3, jstr(d, "hostname"), jstr(d, "cname"),
			  json_is_object(cert) ? jstr(cert, "name") : "");
	}
	if (t.cells.n) {
		putchar('\n');
		show_title("%s Custom Domains", at->app);
		table_print(&t);
	}
	json_decref(list);
	return 0;
}

static int run_domain_add(const struct at *at, const struct words *w)
{
	json_t *body = json_pack("{s:s,s:n}", "hostname", w->names[0], "sni_endpoint"), *made = NULL;
	int r = make_change(at, &(struct change){"POST", "/domains", .body = body, .out = &made},
			    "Adding %s to %s", w->names[0], at->app);

	if (r)
		return r;
	action_end("done");
	if (at->json) {
		show_json(made);
	} else if (*jstr(made, "cname")) {
		char *line = textf("Let its DNS point to this platform, as %s does.", jstr(made, "cname"));
		show_line(line);
		free(line);
	}
	json_decref(made);
	return 0;
}

static int run_domain_remove(const struct at *at, const struct words *w)
{
	return make_change(at, &(struct change){"DELETE", "/domains/", .word = w->names[0]},
			   "Removing %s from %s", w->names[0], at->app);
}

/* --- certs ------------------------------------------------------------------------------------------------------------ */

static void cert_heads(struct table *t)
{
	table_row(t, 3, "Name", "Common Name(s)", "Expires");
}

static void cert_row(struct table *t, const json_t *c)
{
	const json_t *ssl = json_object_get(c, "ssl_cert"), *names = json_object_get(ssl, "cert_domains");
	char *all = textf("%s", "");

	for (size_t k = 0; k < json_array_size(names); k++) {
		const char *one = json_string_value(json_array_get(names, k));
		char *more = textf("%s%s%s", all, k ? ", " : "", one ? one : "");
		free(all);
		all = more;
	}
	table_row(t, 3, jstr(c, "name"), all, jstr(ssl, "expires_at"));
	free(all);
}

static int run_certs(const struct at *at, const struct words *w)
{
	return show_listing(at, &(struct listing){"/sni-endpoints", NULL, "certificates",
						  "certs add CHAIN.pem KEY.pem", cert_heads, cert_row});
}

/* A file's text, or NULL after one line. */
static char *pem_file(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text = f ? calloc(1, MAX_PEM + 1) : NULL;
	size_t n = text ? fread(text, 1, MAX_PEM, f) : 0;

	if (!f || !n || !strstr(text, "-----BEGIN ")) {
		say("%s: %s", path, f ? "is no PEM file" : strerror(errno));
		free(text);
		text = NULL;
	}
	if (f)
		fclose(f);
	return text;
}

/* change: how it is sent; first: where the names of the two files are. */
static int send_cert(const struct at *at, const struct words *w, struct change change, const char *doing,
		     int first)
{
	char *chain = pem_file(w->names[first]), *key = chain ? pem_file(w->names[first + 1]) : NULL;
	json_t *made = NULL;
	int r = EXIT_OURS;

	change.body = key ? json_pack("{s:s,s:s}", "certificate_chain", chain, "private_key", key) : NULL;
	change.out = &made;
	if (change.body)
		r = make_change(at, &change, "%s a certificate of %s", doing, at->app);
	if (!r) {
		action_end("done, %s", jstr(made, "name"));
		if (at->json)
			show_json(made);
	}
	if (key)
		explicit_bzero(key, strlen(key));
	free(chain);
	free(key);
	json_decref(made);
	return r;
}

static int run_cert_add(const struct at *at, const struct words *w)
{
	return send_cert(at, w, (struct change){.method = "POST", .rest = "/sni-endpoints"}, "Adding", 0);
}

static int run_cert_update(const struct at *at, const struct words *w)
{
	return send_cert(at, w, (struct change){"PATCH", "/sni-endpoints/", .word = w->names[0]}, "Replacing",
			 1);
}

static int run_cert_remove(const struct at *at, const struct words *w)
{
	return make_change(at, &(struct change){"DELETE", "/sni-endpoints/", .word = w->names[0]},
			   "Removing certificate %s from %s", w->names[0], at->app);
}

const struct verb domain_verbs[] = {
	{"domains", app_options,
	 "[COMMAND] [-a APP] [--json]\n\nLists the host names that an app answers to.", 0, 0, APP,
	 run_domains, NULL},
	{"domains add", app_options,
	 "HOSTNAME [-a APP]\n\nLets an app answer to a name of yours, such as www.example.org or "
	 "*.example.org.",
	 1, 1, APP, run_domain_add, "add a name"},
	{"domains remove", app_options, "HOSTNAME [-a APP]\n\nRemoves a name.", 1, 1, APP, run_domain_remove,
	 "remove a name"},
	{"certs", app_options, "[COMMAND] [-a APP] [--json]\n\nLists the certificates for an app's domains.",
	 0, 0, APP, run_certs, NULL},
	{"certs add", app_options, "CHAIN.pem KEY.pem [-a APP]\n\nServes the app's domains by a certificate.",
	 2, 2, APP, run_cert_add, "add a certificate"},
	{"certs update", app_options, "NAME CHAIN.pem KEY.pem [-a APP]\n\nReplaces a certificate.", 3, 3, APP,
	 run_cert_update, "replace a certificate"},
	{"certs remove", app_options, "NAME [-a APP]\n\nRemoves a certificate.", 1, 1, APP, run_cert_remove,
	 "remove a certificate"},
	{NULL, NULL, NULL, 0, 0, NO_SERVER, NULL, NULL},
};
