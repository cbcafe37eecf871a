/* SPDX-License-Identifier: ISC */
/*
 * `cowbell push`, `pull`, `sign`, `verify`, `keygen`: images to and from registries, and who vouches for them.
 * One table of options serves push and pull, one sign and verify; each command has its own words about it.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "image/image.h"
#include "lib/host/say.h"

#define MAX_OPERANDS 2

enum {
	OPT_CREDS = 1,
	OPT_CA_FILE,
	OPT_PLAIN_HTTP,
	OPT_TAG,
	OPT_STALL,
	OPT_MAX_SIZE,
	OPT_MAX_ENTRIES,
	OPT_JSON,
	OPT_KEY,
	OPT_HELP,
};

#define REGISTRY_OPTIONS                                                                                     \
	{OPT_CREDS, 0, "creds", "USER:PASSWORD",                                                             \
	 "credentials; else those that docker, podman or skopeo keep"},                                      \
		{OPT_CA_FILE, 0, "ca-file", "FILE",                                                          \
		 "PEM file of the certificates to trust, instead of the\nsystem's"},                         \
		{OPT_PLAIN_HTTP, 0, "plain-http", NULL, "no TLS: anyone on the way can read and change it"}, \
	{                                                                                                    \
		OPT_STALL, 0, "stall-timeout", "DURATION",                                                   \
			"try again, then give up, when nothing moves for this long (30s)"                    \
	}

static const struct option_def pull_options[] = {
	{OPT_TAG, 't', "tag", "NAME[:TAG]", "name of the image here (as there)"},
	REGISTRY_OPTIONS,
	{OPT_MAX_SIZE, 0, "max-size", "SIZE", "limit of what is fetched, and of what is unpacked (1G)"},
	{OPT_MAX_ENTRIES, 0, "max-entries", "N", "limit of files and directories (100000)"},
	{OPT_JSON, 0, "json", NULL, "one JSON object on standard output"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static const struct option_def push_options[] = {
	REGISTRY_OPTIONS,
	{OPT_JSON, 0, "json", NULL, "one JSON object on standard output"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static const struct option_def sign_options[] = {
	{OPT_KEY, 'k', "key", "FILE", "PEM file with the private key"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static const struct option_def verify_options[] = {
	{OPT_KEY, 'k', "key", "FILE", "PEM file with the public key"},
	{OPT_JSON, 0, "json", NULL, "one JSON object on standard output"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static const struct option_def keygen_options[] = {
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

/* What any of these commands was given. */
struct given {
	struct image_transfer transfer;
	const char *key;
	const char *operand[MAX_OPERANDS];
	int n;
	bool help;
};

static int take_number(struct given *g, int id, const char *v)
{
	uint64_t n;

	if (id == OPT_STALL) {
		if (!parse_duration(v, &n) || n < 1000000000u)
			return say_fail(EXIT_OURS,
					"--stall-timeout %s: must be a duration of a second or more", v);
		g->transfer.stall_ns = n;
		return 0;
	}
	return id == OPT_MAX_SIZE ? option_max_size(v, &g->transfer.max_bytes)
				  : option_max_entries(v, &g->transfer.max_entries);
}

static int take_option(struct given *g, int id, const char *v)
{
	switch (id) {
	case OPT_CREDS:
		g->transfer.creds = v;
		return strchr(v, ':') ? 0 : say_fail(EXIT_OURS, "--creds: must be USER:PASSWORD");
	case OPT_CA_FILE:
		g->transfer.ca_file = v;
		return 0;
	case OPT_PLAIN_HTTP:
		g->transfer.plain_http = true;
		return 0;
	case OPT_TAG:
		g->transfer.as = v;
		return 0;
	case OPT_JSON:
		g->transfer.json = true;
		return 0;
	case OPT_KEY:
		g->key = v;
		return 0;
	case OPT_HELP:
		g->help = true;
		return 0;
	default:
		return take_number(g, id, v);
	}
}

/* Options and operands in any order; at most MAX_OPERANDS. 0, or an exit status after one line. */
static int read_words(struct given *g, const struct option_def *defs, int argc, char **argv)
{
	struct options o = {.defs = defs, .command = argv[0], .argc = argc, .argv = argv, .next = 1};

	memset(g, 0, sizeof(*g));
	while (o.next < argc) {
		int id = options_next(&o), status;
		if (id < 0)
			return EXIT_OURS;
		if (id) {
			if ((status = take_option(g, id, o.value)))
				return status;
			if (g->help)
				return 0;
		} else if (o.next < argc) {
			if (g->n == MAX_OPERANDS)
				return say_fail(
					EXIT_OURS,
					"%s: too many words, from '%s' on; cowbell %s --help tells more",
					argv[0], argv[o.next], argv[0]);
			g->operand[g->n++] = argv[o.next++];
		}
	}
	return 0;
}

static int help(const char *text, const struct option_def *defs)
{
	puts(text);
	options_help(defs);
	puts("\nExit status: 0, or 125 after one line that says why not; 127 if there is no such image.");
	return 0;
}

int cmd_pull(int argc, char **argv)
{
	struct given g;
	int status = read_words(&g, pull_options, argc, argv);

	if (status)
		return status;
	if (g.help)
		return help(
			"Usage: cowbell pull [OPTIONS] HOST[:PORT]/NAME[:TAG|@DIGEST]\n\n"
			"Fetches an image from a registry into the store. What was fetched before, and what\n"
			"a broken transfer left, is not fetched again. Signatures come along.\n\nOptions:",
			pull_options);
	if (g.n != 1)
		return say_fail(EXIT_OURS, "pull: one image must be named: cowbell pull HOST/NAME:TAG");
	g.transfer.name = g.operand[0];
	report_begin(g.transfer.json);
	return report_end(g.transfer.json, image_pull(&g.transfer));
}

int cmd_push(int argc, char **argv)
{
	struct given g;
	int status = read_words(&g, push_options, argc, argv);

	if (status)
		return status;
	if (g.help)
		return help(
			"Usage: cowbell push [OPTIONS] [IMAGE] HOST[:PORT]/NAME[:TAG]\n\n"
			"Sends an image of the store to a registry, with its signatures. IMAGE is its name\n"
			"here, if it has another one. What the registry has already is not sent.\n\nOptions:",
			push_options);
	if (!g.n)
		return say_fail(EXIT_OURS, "push: where to? cowbell push [IMAGE] HOST/NAME:TAG");
	g.transfer.name = g.operand[g.n - 1];
	g.transfer.as = g.n == 2 ? g.operand[0] : NULL;
	report_begin(g.transfer.json);
	return report_end(g.transfer.json, image_push(&g.transfer));
}

/* sign and verify: one image, one key. */
static int check_key(const struct given *g, const char *command)
{
	if (g->n != 1)
		return say_fail(EXIT_OURS, "%s: one image must be named: cowbell %s NAME --key FILE", command,
				command);
	if (!g->key)
		return say_fail(EXIT_OURS, "%s: needs --key FILE; cowbell keygen makes keys", command);
	return 0;
}

int cmd_sign(int argc, char **argv)
{
	struct given g;
	int status = read_words(&g, sign_options, argc, argv);

	if (status)
		return status;
	if (g.help)
		return help(
			"Usage: cowbell sign NAME[:TAG] --key FILE\n\n"
			"Signs an image of the store with an Ed25519 key, in cosign's form. The signature\n"
			"stays beside the image, and goes along with push and pull.\n\nOptions:",
			sign_options);
	status = check_key(&g, "sign");
	return status ? status : image_sign(g.operand[0], g.key);
}

int cmd_verify(int argc, char **argv)
{
	struct given g;
	int status = read_words(&g, verify_options, argc, argv);

	if (status)
		return status;
	if (g.help)
		return help("Usage: cowbell verify NAME[:TAG] --key FILE [--json]\n\n"
			    "Is the image signed by this key, and is every byte of it what was "
			    "signed?\n\nOptions:",
			    verify_options);
	status = check_key(&g, "verify");
	if (status)
		return status;
	report_begin(g.transfer.json);
	return report_end(g.transfer.json, image_verify(g.operand[0], g.key, g.transfer.json));
}

int cmd_keygen(int argc, char **argv)
{
	struct given g;
	int status = read_words(&g, keygen_options, argc, argv);

	if (status)
		return status;
	if (g.help)
		return help("Usage: cowbell keygen PRIVATE PUBLIC\n\n"
			    "Makes a pair of Ed25519 keys as PEM files, as openssl does. Neither file may "
			    "exist.\n\nOptions:",
			    keygen_options);
	if (g.n != 2)
		return say_fail(EXIT_OURS, "keygen: two files must be named: cowbell keygen PRIVATE PUBLIC");
	return image_keygen(g.operand[0], g.operand[1]);
}
