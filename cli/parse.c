/* SPDX-License-Identifier: ISC */
/*
 * Values of options: sizes, durations, ports, volumes, egress rules.
 *
 * Every parser takes the whole word or refuses it: no trailing text, no
 * overflow, no silent default. Nothing here opens or resolves anything.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "cli/cli.h"

/* A decimal number with an optional fraction, times the unit that follows it. */
struct unit {
	const char *name;
	uint64_t scale;
};

static bool parse_scaled(const char *s, const struct unit *units, uint64_t *out)
{
	uint64_t whole = 0, frac = 0, frac_scale = 1;
	const char *p = s;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return false;
	if (*p == '.') {
		if (!isdigit((unsigned char)*++p))
			return false;
		for (; isdigit((unsigned char)*p); p++)
			if (frac_scale < 1000000) {
				frac = frac * 10 + (uint64_t)(*p - '0');
				frac_scale *= 10;
			}
	}
	for (const struct unit *u = units; u->name; u++) {
		if (strcasecmp(p, u->name))
			continue;
		if (__builtin_mul_overflow(whole, u->scale, &whole))
			return false;
		return !__builtin_add_overflow(whole, (uint64_t)((__uint128_t)u->scale * frac / frac_scale),
					       out);
	}
	return false;
}

bool parse_size(const char *s, uint64_t *bytes)
{
	static const struct unit units[] = {{"", 1},
					    {"b", 1},
					    {"k", 1u << 10},
					    {"kb", 1u << 10},
					    {"kib", 1u << 10},
					    {"m", 1u << 20},
					    {"mb", 1u << 20},
					    {"mib", 1u << 20},
					    {"g", 1u << 30},
					    {"gb", 1u << 30},
					    {"gib", 1u << 30},
					    {"t", 1ull << 40},
					    {"tb", 1ull << 40},
					    {"tib", 1ull << 40},
					    {NULL, 0}};

	return parse_scaled(s, units, bytes);
}

bool parse_duration(const char *s, uint64_t *ns)
{
	static const struct unit units[] = {{"", 1000000000ull},
					    {"s", 1000000000ull},
					    {"ms", 1000000},
					    {"us", 1000},
					    {"ns", 1},
					    {"m", 60000000000ull},
					    {"min", 60000000000ull},
					    {"h", 3600000000000ull},
					    {"d", 86400000000000ull},
					    {NULL, 0}};

	return parse_scaled(s, units, ns);
}

static bool parse_u16(const char *s, uint16_t *out)
{
	unsigned v = 0;

	if (!*s || strlen(s) > 5)
		return false;
	for (; *s; s++) {
		if (!isdigit((unsigned char)*s))
			return false;
		v = v * 10 + (unsigned)(*s - '0');
	}
	if (v > 65535)
		return false;
	*out = (uint16_t)v;
	return true;
}

bool parse_name(const char *s)
{
	size_t n = strlen(s);

	return n && n < CTL_NAME_MAX &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == n;
}

bool parse_monitor(const char *s, enum monitor_kind *kind)
{
	static const char *const names[] = {"auto", "kvm", "process"};

	for (int i = 0; i < 3; i++)
		if (!strcmp(s, names[i])) {
			*kind = (enum monitor_kind)i; /* the order of enum monitor_kind */
			return true;
		}
	return false;
}

bool parse_signal(const char *s, int *sig)
{
	static const char *const names[] = {
		[SIGHUP] = "HUP",   [SIGINT] = "INT",	[SIGQUIT] = "QUIT",  [SIGABRT] = "ABRT",
		[SIGKILL] = "KILL", [SIGUSR1] = "USR1", [SIGUSR2] = "USR2",  [SIGALRM] = "ALRM",
		[SIGTERM] = "TERM", [SIGCONT] = "CONT", [SIGWINCH] = "WINCH"};
	char *end;
	long n = strtol(s, &end, 10);

	if (isdigit((unsigned char)*s)) {
		*sig = (int)n;
		return !*end && n > 0 && n < 32;
	}
	if (!strncasecmp(s, "SIG", 3))
		s += 3;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i] && !strcasecmp(s, names[i])) {
			*sig = (int)i;
			return true;
		}
	return false;
}

/* unix:PATH:PORT; `s` is what follows the first colon. */
static bool parse_unix_port(const char *s, struct monitor_port *out, const char **why)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&out->host;
	const char *guest = strrchr(s, ':');

	*why = "must be unix:PATH:PORT, such as unix:/run/app.sock:8080";
	memset(out, 0, sizeof(*out));
	if (!guest || guest == s || !parse_u16(guest + 1, &out->guest) || !out->guest)
		return false;
	if ((size_t)(guest - s) >= sizeof(un->sun_path)) {
		*why = "has a path that is too long for a socket: 107 bytes at most";
		return false;
	}
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, s, (size_t)(guest - s));
	return true;
}

/* [ADDR:]HOST:PORT with ADDR an IPv4 address or [IPv6]; without ADDR: all IPv4 and IPv6 addresses are 0.0.0.0. */
bool parse_port(const char *s, struct monitor_port *out, const char **why)
{
	char word[128], *addr = NULL, *host, *guest;
	uint16_t host_port;

	*why = "must be [ADDR:]HOST:PORT, such as 8080:80 or 127.0.0.1:8080:80";
	if (!strncmp(s, "unix:", 5))
		return parse_unix_port(s + 5, out, why);
	if (strlen(s) >= sizeof(word))
		return false;
	strcpy(word, s);
	guest = strrchr(word, ':');
	if (!guest)
		return false;
	*guest++ = 0;
	host = strrchr(word, ':');
	if (host && host[1] && word[0] == '[' && host < strchr(word, ']'))
		return false;
	if (host) {
		*host++ = 0;
		addr = word;
	} else {
		host = word;
	}
	if (!parse_u16(guest, &out->guest) || !out->guest || !parse_u16(host, &host_port))
		return false;
	memset(&out->host, 0, sizeof(out->host));
	struct sockaddr_in *in = (struct sockaddr_in *)&out->host;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->host;
	size_t n = addr ? strlen(addr) : 0;
	if (n > 2 && addr[0] == '[' && addr[n - 1] == ']') {
		addr[n - 1] = 0;
		*why = "has an address that is no IPv6 address";
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(host_port);
		return inet_pton(AF_INET6, addr + 1, &in6->sin6_addr) == 1;
	}
	in->sin_family = AF_INET;
	in->sin_port = htons(host_port);
	if (!addr)
		return true;
	if (!strcmp(addr, "localhost"))
		addr = (char *)"127.0.0.1";
	*why = "has an address that is no IPv4 address; IPv6 goes in brackets: [::1]:8080:80";
	return inet_pton(AF_INET, addr, &in->sin_addr) == 1;
}

static bool egress_add(struct monitor_config *cfg, const void *addr16, unsigned prefix, uint16_t port,
		       bool deny, const char **why)
{
	if (cfg->n_egress == MONITOR_MAX_EGRESS) {
		*why = "has too many rules";
		return false;
	}
	struct monitor_egress *e = &cfg->egress[cfg->n_egress++];
	memcpy(e->addr, addr16, 16);
	e->prefix = (uint8_t)prefix;
	e->port = port;
	e->deny = deny;
	return true;
}

/* Everything, then the two link-local ranges denied: cloud metadata services live there. */
static bool egress_all(struct monitor_config *cfg, const char **why)
{
	static const uint8_t any[16], ll4[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 169, 254},
				      ll6[16] = {0xfe, 0x80};

	return egress_add(cfg, any, 0, 0, false, why) && egress_add(cfg, ll4, 96 + 16, 0, true, why) &&
	       egress_add(cfg, ll6, 10, 0, true, why);
}

/* all, or one [!]ADDR[/PREFIX][:PORT]; IPv6 with a port in brackets: [2001:db8::/32]:443. */
static bool egress_one(char *word, struct monitor_config *cfg, const char **why)
{
	char *port_s = NULL, *prefix_s;
	uint8_t addr[16] = {0};
	uint16_t port = 0, prefix;
	unsigned max;
	bool deny = *word == '!';

	word += deny;
	if (!strcmp(word, "all"))
		return !deny && egress_all(cfg, why);

	if (word[0] == '[') {
		char *end = strchr(++word, ']');
		if (!end)
			return false;
		*end++ = 0;
		if (*end == ':')
			port_s = end + 1;
		else if (*end)
			return false;
	} else if (strchr(word, ':') && strchr(word, ':') == strrchr(word, ':')) {
		port_s = strchr(word, ':');
		*port_s++ = 0;
	}
	if (port_s && (!parse_u16(port_s, &port) || !port))
		return false;
	prefix_s = strchr(word, '/');
	if (prefix_s)
		*prefix_s++ = 0;
	if (inet_pton(AF_INET, word, addr + 12) == 1) {
		addr[10] = addr[11] = 0xff;
		max = 32;
	} else if (inet_pton(AF_INET6, word, addr) == 1) {
		max = 128;
	} else {
		return false;
	}
	prefix = (uint16_t)max;
	if (prefix_s && (!parse_u16(prefix_s, &prefix) || prefix > max))
		return false;
	return egress_add(cfg, addr, max == 32 ? 96u + prefix : prefix, port, deny, why);
}

bool parse_egress(const char *s, struct monitor_config *cfg, const char **why)
{
	cfg->n_egress = 0;
	*why = "must be none, all or [!]CIDR[:PORT],... such as [2001:db8::/32]:443 or all,!10.0.0.0/8";
	if (!strcmp(s, "none"))
		return true;
	if (!strcmp(s, "all"))
		return egress_all(cfg, why);
	char *copy = strdup(s), *save = NULL;
	bool ok = copy && *s;
	for (char *w = ok ? strtok_r(copy, ",", &save) : NULL; w && ok; w = strtok_r(NULL, ",", &save))
		ok = egress_one(w, cfg, why);
	free(copy);
	return ok && cfg->n_egress;
}

bool parse_volume(const char *s, char **host, char **guest, bool *ro, const char **why)
{
	const char *colon = strchr(s, ':'), *end;

	*why = "must be HOSTDIR:GUESTDIR[:ro], such as ./data:/data";
	*ro = false;
	if (!colon || colon == s)
		return false;
	end = strchr(colon + 1, ':');
	if (end) {
		if (strcmp(end, ":ro") && strcmp(end, ":rw"))
			return false;
		*ro = !strcmp(end, ":ro");
	} else {
		end = s + strlen(s);
	}
	if (colon[1] != '/') {
		*why = "needs an absolute GUESTDIR, such as ./data:/data";
		return false;
	}
	size_t n = (size_t)(end - colon - 1);
	while (n > 1 && colon[n] == '/')
		n--; /* no trailing slashes */
	if (n < 2) {
		*why = "cannot be mounted over the guest's /";
		return false;
	}
	*host = strndup(s, (size_t)(colon - s));
	*guest = strndup(colon + 1, n);
	return *host && *guest;
}
