/* SPDX-License-Identifier: ISC */
/* unit-sources: platform/settings.c platform/table.c platform/util.c lib/host/say.c lib/host/strings.c */
/* unit-libs: -luv */
/* Values of settings, what is refused, and the hash table, compared with a plain array. */
#include "platform/settings.h"

#include <string.h>

#include "platform/table.h"
#include "tests/unit/tap.h"

struct config config;
uv_loop_t *loop;

static void sizes(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {{"0", 0},
		    {"1", 1},
		    {"1k", 1024},
		    {"512M", 512u << 20},
		    {"1.5G", 1536ull << 20},
		    {"2GiB", 2ull << 30},
		    {"1T", 1ull << 40}};
	static const char *const bad[] = {"",
					  " 1",
					  "1 ",
					  "-1",
					  "+1",
					  "1.",
					  ".5",
					  "1x",
					  "0x10",
					  "99999999999999999999",
					  "99999999999T",
					  "1e3",
					  "1,5"};
	uint64_t v;

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		ok(parse_size(good[i].text, &v) && v == good[i].bytes, "size %s", good[i].text);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		ok(!parse_size(bad[i], &v), "no size: '%s'", bad[i]);
	ok(parse_time("1.5s", &v) && v == 1500000000u, "1.5s");
	ok(parse_time("15m", &v) && v == 900000000000u, "15m");
	ok(parse_time("250ms", &v) && v == 250000000u, "250ms");
	ok(parse_time("60", &v) && v == 60000000000u, "a bare number is seconds");
	ok(!parse_time("5 minutes", &v) && !parse_time("213504d", &v), "no times");
}

static bool takes(const struct setting *table, const char *key, void *base, const char *text)
{
	char why[160] = "";
	bool good = setting_parse(setting_find(table, key), base, text, why);

	if (good && base == &config) { /* a server's strings live as long as it */
		free((char *)config.listen);
		config.listen = NULL;
	}
	ok(good || *why, "%s = %s: %s", key, text, good ? "taken" : why);
	return good;
}

static void kinds(void)
{
	static const char *const listens[] = {"80", "127.0.0.1:5080", "[::1]:80", "*:80", ":80", ""},
				 *const no_listens[] = {"x",	  "80x",      "65536",	 "localhost:80",
							"::1:80", "1.2.3:80", "[::1]80", "[1.2.3.4]:80",
							"-1",	  "1.2.3.4:"};
	static const char *const
		rules[] = {"none",
			   "all",
			   "public",
			   "10.0.0.0/8",
			   "10.0.0.0/8:443,!10.1.1.1",
			   "[2001:db8::/32]:443",
			   "all,!fc00::/7",
			   "::1"},
		*const no_rules[] = {"",	  "x",	  "10.0.0.0/33",     "10.0.0/8", "10.0.0.0/8:65536",
				     "10.0.0.0/", "[::1", "1.1.1.1;2.2.2.2", "!none x",	 "::/129"};
	char text[512];
	struct limits l;

	for (size_t i = 0; i < sizeof(listens) / sizeof(*listens); i++)
		ok(takes(config_settings, "listen", &config, listens[i]), "listen %s", listens[i]);
	for (size_t i = 0; i < sizeof(no_listens) / sizeof(*no_listens); i++)
		ok(!takes(config_settings, "listen", &config, no_listens[i]), "not: %s", no_listens[i]);
	for (size_t i = 0; i < sizeof(rules) / sizeof(*rules); i++)
		ok(takes(limits_settings, "egress", &l, rules[i]), "egress %s", rules[i]);
	for (size_t i = 0; i < sizeof(no_rules) / sizeof(*no_rules); i++)
		ok(!takes(limits_settings, "egress", &l, no_rules[i]), "not: %s", no_rules[i]);
	ok(!takes(config_settings, "monitor", &config, "auto|kvm") &&
		   !takes(config_settings, "monitor", &config, "") &&
		   !takes(config_settings, "monitor", &config, "kv"),
	   "one of the choices, whole");
	ok(valid_hostname("a.b-c.example") && !valid_hostname("a..b") && !valid_hostname("-a") &&
		   !valid_hostname("a-.b") && !valid_hostname("A") && !valid_hostname("a.") &&
		   !valid_hostname("") && !valid_hostname("a b"),
	   "host names");
	for (const struct setting *s = limits_settings; s->key; s++) {
		struct limits one, two;
		char why[160];
		memset(&one, 0, sizeof(one));
		memset(&two, 0, sizeof(two));
		bool good = setting_parse(s, &one, s->def, why);
		setting_format(s, &one, text, sizeof(text));
		good = good && setting_parse(s, &two, text, why);
		ok(good && !memcmp(&one, &two, sizeof(one)), "%s: what is written is read as the same: %s",
		   s->key, text);
	}
	ok(!strcmp(setting_like(config_settings, "idel"), "idle") &&
		   !strcmp(setting_like(limits_settings, "memry"), "memory") &&
		   !setting_like(config_settings, "zzzzzz"),
	   "suggestions");
}

struct thing {
	char key[16];
	bool in;
};

static void tables(void)
{
	static struct thing things[3000];
	struct table t = {.key_at = offsetof(struct thing, key)};
	size_t n = 0, wrong = 0, seen = 0, at = 0;
	struct thing *p;

	srand(7);
	for (int i = 0; i < 3000; i++)
		snprintf(things[i].key, sizeof(things[i].key), "k%d", i);
	for (int i = 0; i < 60000; i++) {
		p = &things[rand() % (i % 20000 < 10000 ? 3000 : 100)];
		if (p->in)
			table_remove(&t, p);
		else
			table_put(&t, p);
		n += p->in ? -1ul : 1ul;
		p->in = !p->in;
		p = &things[rand() % 3000];
		wrong += table_get(&t, p->key, strlen(p->key)) != (p->in ? p : NULL);
	}
	for (int i = 0; i < 3000; i++)
		wrong += table_get(&t, things[i].key, strlen(things[i].key)) !=
			 (things[i].in ? &things[i] : NULL);
	while ((p = table_next(&t, &at))) {
		wrong += !p->in;
		seen++;
	}
	free(t.slots);
	ok(!wrong && seen == n && t.n == n, "a table finds what is in it, %zu things, and nothing else", n);

	char *a = intern("text"), *b = intern("text"), *c = intern("other");
	ok(a == b && a != c && !intern(NULL), "texts in common");
	intern_free(a);
	ok(!strcmp(b, "text"), "as long as somebody has it");
	intern_free(b);
	intern_free(c);
}

int main(void)
{
	sizes();
	kinds();
	tables();
	return done();
}
