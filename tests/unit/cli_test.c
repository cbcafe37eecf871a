/* SPDX-License-Identifier: ISC */
/* unit-sources: cli/parse.c cli/options.c lib/host/say.c */
/*
 * Values and words of the command line: what is taken, what is refused, what is suggested.
 */
#include <arpa/inet.h>
#include <string.h>
#include <sys/un.h>

#include "cli/cli.h"
#include "tests/unit/tap.h"

static void sizes(void)
{
	static const struct {
		const char *word;
		long long want; /* -1: refused */
	} t[] = {{"0", 0},
		 {"4096", 4096},
		 {"1K", 1024},
		 {"64M", 64ll << 20},
		 {"64MiB", 64ll << 20},
		 {"1.5G", 3ll << 29},
		 {"2t", 2ll << 40},
		 {"", -1},
		 {"M", -1},
		 {"1X", -1},
		 {"-1", -1},
		 {"1.", -1},
		 {" 1", -1},
		 {"1 M", -1},
		 {"1e3", -1},
		 {"99999999999999999999", -1},
		 {"99999999999T", -1}};
	uint64_t v;

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		ok(parse_size(t[i].word, &v) ? (long long)v == t[i].want : t[i].want < 0, "size '%s'",
		   t[i].word);
	ok(parse_duration("1.5s", &v) && v == 1500000000, "duration 1.5s");
	ok(parse_duration("250ms", &v) && v == 250000000, "duration 250ms");
	ok(parse_duration("2h", &v) && v == 7200000000000, "duration 2h");
	ok(!parse_duration("2 h", &v) && !parse_duration("h", &v), "durations that are none");
}

static void ports(void)
{
	static const char *const bad[] = {"",	      "80",	  ":",	     "80:",	  ":80",
					  "80:0",     "80:65536", "a:80",    "1.2.3:1:2", "::1:1:2",
					  "[::1]:80", "[::1:1:2", "1:2:3:4", "80:80:80",  "[]:1:2"};
	struct monitor_port p;
	const char *why;

	ok(parse_port("8080:80", &p, &why) && p.guest == 80 && p.host.ss_family == AF_INET &&
		   ntohs(((struct sockaddr_in *)&p.host)->sin_port) == 8080,
	   "port 8080:80");
	ok(parse_port("0:80", &p, &why), "host port 0: any");
	ok(parse_port("127.0.0.1:8080:80", &p, &why) &&
		   ((struct sockaddr_in *)&p.host)->sin_addr.s_addr == htonl(INADDR_LOOPBACK),
	   "port with an address");
	ok(parse_port("unix:/run/a:b.sock:80", &p, &why) && p.host.ss_family == AF_UNIX && p.guest == 80 &&
		   !strcmp(((struct sockaddr_un *)&p.host)->sun_path, "/run/a:b.sock"),
	   "a socket file");
	ok(!parse_port("unix:x", &p, &why) && !parse_port("unix::80", &p, &why) &&
		   !parse_port("unix:x:0", &p, &why),
	   "socket files without a path or a port");
	ok(parse_port("[::1]:8080:80", &p, &why) && p.host.ss_family == AF_INET6 && p.guest == 80 &&
		   IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&p.host)->sin6_addr),
	   "port with an IPv6 address");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!parse_port(bad[i], &p, &why) && why, "port '%s' is refused", bad[i]);
}

static void egress(void)
{
	static const char *const bad[] = {
		"",	    "none,all", "10.0.0.0/33", "10.0.0.0/",   "1.1.1.1:0",
		"1.1.1.1:", "[::1",	"::/129",      "example.org", "1.1.1.1:99999"};
	static struct monitor_config c;
	const char *why;

	ok(parse_egress("none", &c, &why) && !c.n_egress, "egress none");
	ok(parse_egress("all", &c, &why) && c.n_egress == 3 && !c.egress[0].deny && !c.egress[0].prefix &&
		   c.egress[1].deny && c.egress[1].prefix == 112 && c.egress[2].deny &&
		   c.egress[2].prefix == 10,
	   "egress all leaves out both link-local ranges");
	ok(parse_egress("all,!10.0.0.0/8", &c, &why) && c.n_egress == 4 && c.egress[3].deny &&
		   c.egress[3].prefix == 104 && !c.egress[0].deny,
	   "egress all but some");
	ok(parse_egress("10.0.0.0/8,1.1.1.1:53,[2001:db8::/32]:443,fe80::1", &c, &why) && c.n_egress == 4,
	   "a list");
	ok(c.egress[0].prefix == 104 && c.egress[0].addr[10] == 0xff && c.egress[0].addr[12] == 10,
	   "an IPv4 network is mapped");
	ok(c.egress[1].prefix == 128 && c.egress[1].port == 53, "an address with a port");
	ok(c.egress[2].prefix == 32 && c.egress[2].port == 443 && c.egress[2].addr[0] == 0x20,
	   "an IPv6 network with a port");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!parse_egress(bad[i], &c, &why) && why, "egress '%s' is refused", bad[i]);
}

static void volumes(void)
{
	static const char *const bad[] = {"", "a", ":/a", "a:", "a:b", "a:/", "a://", "a:/b:rx", "a:/b:ro:x"};
	char *host = NULL, *guest = NULL;
	const char *why;
	bool ro;

	ok(parse_volume("./d:/data", &host, &guest, &ro, &why) && !strcmp(host, "./d") &&
		   !strcmp(guest, "/data") && !ro,
	   "volume");
	free(host);
	free(guest);
	ok(parse_volume("/d:/data/:ro", &host, &guest, &ro, &why) && !strcmp(guest, "/data") && ro,
	   "read-only volume");
	free(host);
	free(guest);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		host = guest = NULL;
		ok(!parse_volume(bad[i], &host, &guest, &ro, &why) && why, "volume '%s' is refused", bad[i]);
	}
}

static void words(void)
{
	static const struct option_def defs[] = {
		{1, 'm', "memory", "SIZE", ""},	   {2, 't', "tty", NULL, ""},
		{3, 'i', "interactive", NULL, ""}, {4, 0, "stats", "[=json]", ""},
		{5, 'p', "publish", "[A:]B", ""},  {0, 0, NULL, NULL, NULL}};
	char *argv[] = {(char *)"run",		(char *)"-itm1", (char *)"--memory=2",
			(char *)"--stats",	(char *)"-p",	 (char *)"80:80",
			(char *)"--stats=json", (char *)"--",	 (char *)"-x"};
	struct options o = {.defs = defs, .command = "run", .argc = 9, .argv = argv, .next = 1};

	is(options_next(&o), 3, "-i of a cluster");
	is(options_next(&o), 2, "-t of it");
	ok(options_next(&o) == 1 && !strcmp(o.value, "1"), "-m with the rest as its value");
	ok(options_next(&o) == 1 && !strcmp(o.value, "2"), "--memory=2");
	ok(options_next(&o) == 4 && !o.value, "--stats without its value does not eat the next word");
	ok(options_next(&o) == 5 && !strcmp(o.value, "80:80"), "-p 80:80");
	ok(options_next(&o) == 4 && !strcmp(o.value, "json"), "--stats=json");
	is(options_next(&o), 0, "-- ends the options");
	is(o.next, 8, "and the operand comes next");
	static const char *const names[] = {"monitor", "memory", "egress", "strace", "stats"};
	ok(!strcmp(suggest("moniter", names, 5), "monitor"), "suggestion: a letter changed");
	ok(!strcmp(suggest("sttas", names, 5), "stats"), "suggestion: letters swapped");
	ok(!strcmp(suggest("egres", names, 5), "egress"), "suggestion: a letter missing");
	ok(!suggest("frobnicate", names, 5) && !suggest("x", names, 5), "no suggestion for what is far away");
}

int main(void)
{
	sizes();
	ports();
	egress();
	volumes();
	words();
	return done();
}
