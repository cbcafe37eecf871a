// SPDX-License-Identifier: ISC
/* libFuzzer target: values of options (cli/parse.c) and option words (cli/options.c). */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	static const struct option_def defs[] = {{1, 'm', "memory", "SIZE", ""},
						 {2, 't', "tty", NULL, ""},
						 {3, 0, "stats", "[=json]", ""},
						 {0, 0, NULL, NULL, NULL}};
	char *s = strndup((const char *)data, size), *host = NULL, *guest = NULL;
	char *argv[] = {(char *)"run", s, s, (char *)"--", NULL};
	struct options o = {.defs = defs, .command = "run", .argc = 4, .argv = argv, .next = 1};
	static struct monitor_config cfg;
	struct monitor_port port;
	const char *why;
	uint64_t v;
	bool ro;

	if (!s)
		return 0;
	parse_size(s, &v);
	parse_duration(s, &v);
	parse_port(s, &port, &why);
	if (parse_egress(s, &cfg, &why))
		for (int i = 0; i < cfg.n_egress; i++)
			if (cfg.egress[i].prefix > 128)
				abort();
	if (parse_volume(s, &host, &guest, &ro, &why) && guest[0] != '/')
		abort();
	free(host);
	free(guest);
	for (int i = 0; i < 10 && options_next(&o) > 0; i++)
		;
	free(s);
	return 0;
}
