/* SPDX-License-Identifier: ISC */
/*
 * Everything that can be set: its name, its kind, its bounds, its default and its documentation, in one table, so that the file, the
 * options, `--print-config` and the limits of the API can not say different things. A new setting is one more entry here.
 *
 * A value is taken whole or refused with a reason: no trailing text, no overflow, no silent default.
 */
#include "platform/settings.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "lib/host/strings.h"

#define SECOND 1000000000ull
#define AT(f)  offsetof(struct config, f)
#define LAT(f) offsetof(struct limits, f)
#define TIB    (1ull << 40)
#define DAY    (86400 * SECOND)

const struct setting config_settings[] = {
	{"data_dir", SET_PATH, AT(data_dir), 0, 0, "",
	 "Everything that lasts: the store, images, git repositories, certificates, the admin's token.\n"
	 "Empty: $XDG_STATE_HOME/cowbell/platform, or ~/.local/state/cowbell/platform. The option is --data.",
	 NULL},
	{"listen", SET_LISTEN, AT(listen), 0, 0, "127.0.0.1:5080",
	 "[ADDR:]PORT of HTTP: apps, the API, git and the dashboard. IPv6 in brackets: \"[::1]:80\"; all "
	 "addresses:\n"
	 "\"*:80\" (or \"[::]:80\", with IPv6). Without one: 127.0.0.1. Sockets of systemd replace it.",
	 NULL},
	{"listen_tls", SET_LISTEN, AT(listen_tls), 0, 0, "",
	 "The same with TLS; HTTP/2 is offered. Empty: no TLS.", NULL},
	{"domain", SET_DOMAIN, AT(domain), 0, 0, "localhost",
	 "An app is at NAME.domain, the API at api.domain (and at localhost). Browsers and systemd-resolved\n"
	 "know every name below \"localhost\"; for another one a wildcard DNS record *.domain is needed.",
	 NULL},
	{"tls_cert", SET_PATH, AT(tls_cert), 0, 0, "",
	 "PEM files of the certificate chain and key of the domain and *.domain. Empty: a self-signed one "
	 "is\n"
	 "made at the first start. Certificates of apps' own domains are given by the API.",
	 NULL},
	{"tls_key", SET_PATH, AT(tls_key), 0, 0, "", NULL, NULL},
	{"proxy_protocol", SET_BOOL, AT(proxy_protocol), 0, 0, "false",
	 "Clients come through a balancer that begins each connection with PROXY protocol v1 or v2.", NULL},
	{"monitor", SET_CHOICE, AT(monitor), 0, 0, "auto",
	 "What apps run on: kvm, process, or auto (kvm where /dev/kvm can be used).", "auto|kvm|process"},
	{"idle", SET_TIME, AT(idle_ns), 0, 365 * DAY, "60s",
	 "An app that nobody asks for sleeps after this time. 0: never.", NULL},
	{"memory_budget", SET_SIZE, AT(memory_budget), 0, 1024 * TIB, "0",
	 "Memory that all running apps may use together; when it is exceeded, idle ones sleep at once, the\n"
	 "one that was asked longest ago first. 0: half of the machine's.",
	 NULL},
	{"max_instances", SET_COUNT, AT(max_instances), 0, 100000, "0",
	 "Running at one time. 0: what the memory budget allows, at most 2000.", NULL},
	{"max_builds", SET_COUNT, AT(max_builds), 0, 256, "0",
	 "Builds at one time; the others wait. 0: the number of CPUs.", NULL},
	{"build_timeout", SET_TIME, AT(build_timeout_ns), SECOND, DAY, "15m",
	 "A build that takes longer is ended.", NULL},
	{"max_source", SET_SIZE, AT(max_source), 1 << 16, TIB, "1G",
	 "Bytes of the source of an app, unpacked.", NULL},
	{"max_entries", SET_COUNT, AT(max_entries), 1, 10000000, "10000",
	 "Files and directories of a source.", NULL},
	{"standby", SET_COUNT, AT(standby), 0, 64, "2",
	 "Prepared instances that are kept ready for each of the most used runtimes.", NULL},
	{"api_per_hour", SET_COUNT, AT(api_per_hour), 0, 1000000000, "0",
	 "Calls of the API that a user may make in an hour; above it: 429. 0: no limit.", NULL},
	{"sync", SET_BOOL, AT(sync), 0, 0, "true",
	 "Wait for the disk before a change is acknowledged. Without it the last changes before a power "
	 "failure\n"
	 "may be lost; a crash of the server itself loses nothing in either case.",
	 NULL},
	{"drain_private", SET_BOOL, AT(drain_private), 0, 0, "false",
	 "Log drains of apps may go to loopback, private and link-local addresses. If tenants are not "
	 "trusted: false.",
	 NULL},
	{"log_format", SET_CHOICE, AT(log_format), 0, 0, "text",
	 "Of the server's own log, which goes to standard error.", "text|json"},
	{"verbose", SET_BOOL, AT(verbose), 0, 0, "false", "Log more.", NULL},
	{0},
};

/* Defaults for each app; an admin may change them for one app by PATCH /apps/NAME/limits. */
const struct setting limits_settings[] = {
	{"memory", SET_SIZE, LAT(memory), 16 << 20, TIB, "512M", "Memory of each process of an app.", NULL},
	{"cpus", SET_COUNT, LAT(cpus), 1, 16, "1", "Virtual CPUs of each process of an app.", NULL},
	{"cpu_percent", SET_COUNT, LAT(cpu_percent), 0, 100000, "0", "Of one CPU, each process. 0: no limit.",
	 NULL},
	{"in_flight", SET_COUNT, LAT(in_flight), 1, 100000, "50", "Requests at one time in a process.", NULL},
	{"backlog", SET_COUNT, LAT(backlog), 0, 100000, "50",
	 "Requests that may wait for one, for each process; above it: 503 and code H11.", NULL},
	{"max_processes", SET_COUNT, LAT(max_processes), 1, 10000, "10", "Processes of all types together.",
	 NULL},
	{"disk", SET_SIZE, LAT(disk), 1 << 20, 1024 * TIB, "500M", "Bytes that a release of an app may take.",
	 NULL},
	{"egress", SET_EGRESS, LAT(egress), 0, 0, "public",
	 "Where an app may connect to: \"none\", \"all\", rules as of `cowbell run --egress`, or \"public\": "
	 "everything\n"
	 "but loopback, private and link-local addresses (the name servers of this machine stay reachable).",
	 NULL},
	{"connect_timeout", SET_TIME, LAT(connect_ns), SECOND / 1000, DAY, "5s",
	 "The router's: for a connection to a process (H19),", NULL},
	{"first_byte_timeout", SET_TIME, LAT(first_byte_ns), SECOND / 1000, DAY, "30s",
	 "for the first byte of an answer (H12),", NULL},
	{"idle_timeout", SET_TIME, LAT(idle_ns), SECOND / 1000, DAY, "55s",
	 "and between bytes afterwards (H15).", NULL},
	{"boot_timeout", SET_TIME, LAT(boot_ns), SECOND / 1000, DAY, "60s",
	 "A web process must listen on its PORT within this time (R10).", NULL},
	{"requests_per_s", SET_COUNT, LAT(requests_per_s), 0, 10000000, "0",
	 "Requests to an app each second; above it: 429. 0: no limit.", NULL},
	{"scale_at", SET_COUNT, LAT(scale_at), 0, 100000, "0",
	 "Start another web process when so many requests are in flight in each. 0: only by ps:scale.", NULL},
	{"max_web", SET_COUNT, LAT(max_web), 1, 10000, "10", "Where scaling out by load stops.", NULL},
	{0},
};

/* --- words to numbers and back -------------------------------------------------------------------------- */

struct unit {
	const char *name;
	uint64_t scale;
};
static const struct unit size_units[] = {
	{"T", 1ull << 40},   {"G", 1u << 30},	{"M", 1u << 20},   {"K", 1u << 10},   {"", 1},
	{"TB", 1ull << 40},  {"GB", 1u << 30},	{"MB", 1u << 20},  {"KB", 1u << 10},  {"B", 1},
	{"TiB", 1ull << 40}, {"GiB", 1u << 30}, {"MiB", 1u << 20}, {"KiB", 1u << 10}, {NULL, 0}};
static const struct unit time_units[] = {
	{"d", DAY}, {"h", 3600 * SECOND}, {"m", 60 * SECOND}, {"s", SECOND}, {"ms", 1000000}, {"us", 1000},
	{"ns", 1},  {"min", 60 * SECOND}, {"", SECOND},	      {NULL, 0}};

static bool parse_scaled(const char *p, const struct unit *u, uint64_t *out)
{
	uint64_t whole = 0, frac = 0, scale = 1;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return false;
	if (*p == '.' && !isdigit((unsigned char)*++p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		if (scale < 1000000) {
			frac = frac * 10 + (uint64_t)(*p - '0');
			scale *= 10;
		}
	while (u->name && strcasecmp(p, u->name))
		u++;
	if (!u->name || __builtin_mul_overflow(whole, u->scale, &whole))
		return false;
	return !__builtin_add_overflow(whole, (uint64_t)((__uint128_t)u->scale * frac / scale), out);
}

bool parse_size(const char *text, uint64_t *bytes)
{
	return parse_scaled(text, size_units, bytes);
}

bool parse_time(const char *text, uint64_t *ns)
{
	return parse_scaled(text, time_units, ns);
}

/* In the largest unit that leaves no rest. */
static void format_scaled(uint64_t v, const struct unit *u, char *out, size_t size)
{
	while (v && u->name && *u->name && v % u->scale)
		u++;
	if (!v)
		snprintf(out, size, "0");
	else
		snprintf(out, size, "%llu%s", (unsigned long long)(v / u->scale), u->name);
}

/* --- kinds ---------------------------------------------------------------------------------------------- */

bool valid_hostname(const char *name)
{
	size_t n = strlen(name), label = 0;

	if (!n || n > 253)
		return false;
	for (const char *p = name; *p; p++) {
		if (*p == '.') {
			if (!label || p[-1] == '-')
				return false;
			label = 0;
			continue;
		}
		if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && (*p != '-' || !label))
			return false;
		if (++label > 63)
			return false;
	}
	return label && name[n - 1] != '-';
}

static bool valid_listen(const char *text)
{
	const char *port = strrchr(text, ':');
	char addr[64], *end;

	if (port) {
		size_t n = (size_t)(port - text);
		bool six = n > 2 && text[0] == '[' && text[n - 1] == ']';
		struct in6_addr a;

		if (n >= sizeof(addr))
			return false;
		memcpy(addr, text + six, n - 2 * six);
		addr[n - 2 * six] = 0;
		if (n && strcmp(addr, "*") && inet_pton(six ? AF_INET6 : AF_INET, addr, &a) != 1)
			return false;
	}
	port = port ? port + 1 : text;
	unsigned long v = strtoul(port, &end, 10);
	return isdigit((unsigned char)*port) && !*end && v <= 65535;
}

/* What reaches the outside, and nothing of the machine or its network; then its name servers, which may be inside. */
static void public_egress(char *out, size_t size)
{
	size_t n = (size_t)snprintf(
		out, size,
		"all,!0.0.0.0/8,!127.0.0.0/8,!10.0.0.0/8,!172.16.0.0/12,!192.168.0.0/16,!100.64.0.0/10,"
		"!169.254.0.0/16,!198.18.0.0/15,!224.0.0.0/3,!::/127,!64:ff9b::/32,!2002::/16,"
		"!fc00::/7,!fe80::/10,!ff00::/8");
	FILE *f = fopen("/etc/resolv.conf", "re");
	char line[256], word[64];

	for (int found = 0; f && found < 3 && fgets(line, sizeof(line), f);) {
		struct in_addr four;
		struct in6_addr six;

		if (sscanf(line, " nameserver %63s", word) != 1)
			continue;
		bool is_four = inet_pton(AF_INET, word, &four) == 1;
		if ((!is_four && inet_pton(AF_INET6, word, &six) != 1) || n + strlen(word) + 8 > size)
			continue;
		n += (size_t)snprintf(out + n, size - n, is_four ? ",%s:53" : ",[%s]:53", word);
		found++;
	}
	if (f)
		fclose(f);
}

/* One rule: [!]ADDR[/PREFIX][:PORT], IPv6 with a port in brackets. */
static bool valid_rule(char *w)
{
	char *port = NULL, *prefix, *end;
	struct in6_addr a;
	int family;

	w += *w == '!';
	if (!strcmp(w, "all"))
		return true;
	if (*w == '[') {
		end = strchr(++w, ']');
		if (!end)
			return false;
		*end++ = 0;
		if (*end && *end != ':')
			return false;
		port = *end ? end + 1 : NULL;
	} else if (strchr(w, ':') && strchr(w, ':') == strrchr(w, ':')) {
		port = strchr(w, ':');
		*port++ = 0;
	}
	if (port && (!isdigit((unsigned char)*port) || strtoul(port, &end, 10) > 65535 || *end))
		return false;
	prefix = strchr(w, '/');
	if (prefix)
		*prefix++ = 0;
	family = inet_pton(AF_INET, w, &a) == 1 ? AF_INET : inet_pton(AF_INET6, w, &a) == 1 ? AF_INET6 : 0;
	if (!family)
		return false;
	return !prefix || (isdigit((unsigned char)*prefix) &&
			   strtoul(prefix, &end, 10) <= (family == AF_INET ? 32 : 128) && !*end);
}

static bool parse_egress(char out[512], const char *text)
{
	char copy[512], *save = NULL;
	int rules = 0;

	if (!strcmp(text, "public")) {
		public_egress(out, 512);
		return true;
	}
	if (strlen(text) >= sizeof(copy) || !*text)
		return false;
	strcpy(copy, text);
	if (strcmp(text, "none"))
		for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save))
			if (++rules > 50 || !valid_rule(w))
				return false;
	strcpy(out, text);
	return true;
}

static bool parse_text(const struct setting *s, const char **out, const char *text, const char **why)
{
	char list[128];

	if (s->type == SET_LISTEN && *text && !valid_listen(text))
		*why = "must be [ADDR:]PORT, such as 127.0.0.1:5080 or [::]:80";
	if (s->type == SET_DOMAIN && !valid_hostname(text))
		*why = "must be a host name in lower case";
	if (s->type == SET_CHOICE) {
		snprintf(list, sizeof(list), "|%s|", s->choices);
		char *at = *text && !strchr(text, '|') ? strstr(list, text) : NULL;
		if (!at || at[-1] != '|' || at[strlen(text)] != '|')
			*why = s->choices;
	}
	if (*why)
		return false;
	if (s->type == SET_PATH && *text && *text != '/') {
		char *here = realpath(".", NULL);
		*out = here ? textf("%s/%s", here, text) : xstrdup(text);
		free(here);
	} else {
		*out = *text ? xstrdup(text) : NULL;
	}
	return true;
}

static bool parse_number(const struct setting *s, const char *text, uint64_t *v, char why[160])
{
	char min[32], max[32];
	const struct unit *units = s->type == SET_TIME ? time_units : size_units;

	if (s->type == SET_COUNT) {
		char *end;
		*v = strtoull(text, &end, 10);
		if (isdigit((unsigned char)*text) && !*end && *v >= s->min && *v <= s->max)
			return true;
		snprintf(why, 160, "must be a number from %llu to %llu", (unsigned long long)s->min,
			 (unsigned long long)s->max);
		return false;
	}
	if (parse_scaled(text, units, v) && *v >= s->min && *v <= s->max)
		return true;
	format_scaled(s->min, units, min, sizeof(min));
	format_scaled(s->max, units, max, sizeof(max));
	snprintf(why, 160, "must be a %s from %s to %s",
		 s->type == SET_TIME ? "time such as 30s or 15m," : "size such as 512M or 2G,", min, max);
	return false;
}

bool setting_parse(const struct setting *s, void *base, const char *text, char why[160])
{
	char *at = (char *)base + s->at;
	const char *reason = NULL;
	uint64_t v = 0;

	switch (s->type) {
	case SET_BOOL:
		if (strcmp(text, "true") && strcmp(text, "false")) {
			snprintf(why, 160, "must be true or false");
			return false;
		}
		*(bool *)at = *text == 't';
		return true;
	case SET_COUNT:
	case SET_SIZE:
	case SET_TIME:
		if (!parse_number(s, text, &v, why))
			return false;
		if (s->type == SET_COUNT)
			*(unsigned *)at = (unsigned)v;
		else
			*(uint64_t *)at = v;
		return true;
	case SET_EGRESS:
		if (parse_egress(at, text))
			return true;
		snprintf(why, 160, "must be none, all, public or [!]CIDR[:PORT],... with at most 50 rules");
		return false;
	default:
		if (parse_text(s, (const char **)at, text, &reason))
			return true;
		snprintf(why, 160, "%s%s", s->type == SET_CHOICE ? "must be one of " : "", reason);
		return false;
	}
}

void setting_format(const struct setting *s, const void *base, char *out, size_t size)
{
	const char *at = (const char *)base + s->at;

	switch (s->type) {
	case SET_BOOL:
		snprintf(out, size, "%s", *(const bool *)at ? "true" : "false");
		break;
	case SET_COUNT:
		snprintf(out, size, "%u", *(const unsigned *)at);
		break;
	case SET_SIZE:
	case SET_TIME:
		format_scaled(*(const uint64_t *)at, s->type == SET_TIME ? time_units : size_units, out,
			      size);
		break;
	case SET_EGRESS:
		snprintf(out, size, "%s", at);
		break;
	default:
		snprintf(out, size, "%s", *(const char *const *)at ? *(const char *const *)at : "");
	}
}

/* --- names ---------------------------------------------------------------------------------------------- */

const struct setting *setting_find(const struct setting *table, const char *key)
{
	for (; table->key; table++)
		if (!strcmp(table->key, key))
			return table;
	return NULL;
}

/* How many letters must be changed, added or left out; words here are short. */
static size_t distance(const char *a, const char *b)
{
	size_t row[40], nb = strlen(b);

	if (nb >= 40 || strlen(a) >= 40)
		return 40;
	for (size_t j = 0; j <= nb; j++)
		row[j] = j;
	for (size_t i = 1; a[i - 1]; i++) {
		size_t corner = row[0];
		row[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t best = corner + (a[i - 1] != b[j - 1]);
			corner = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[nb];
}

const char *setting_like(const struct setting *table, const char *key)
{
	const char *best = NULL;
	size_t least = 4;

	for (; table->key; table++) {
		size_t d = distance(key, table->key);
		if (d < least && d < strlen(table->key) / 2 + 1) {
			least = d;
			best = table->key;
		}
	}
	return best;
}
