/* SPDX-License-Identifier: ISC */
/* unit-sources: image/control.c */
/*
 * Debian control data: order of versions, relations, paragraphs, provisions;
 * and bytes that are none of it.
 */
#include <string.h>

#include "image/control.h"
#include "tests/unit/tap.h"

static int order(const char *a, const char *b)
{
	int d = deb_version_cmp(a, strlen(a), b, strlen(b));

	return (d > 0) - (d < 0);
}

/* Pairs in the order that `dpkg --compare-versions` gives them. */
static void test_versions(void)
{
	static const char *const less[][2] = {
		{"1", "2"},
		{"1.9", "1.10"},
		{"1.0~rc1", "1.0"},
		{"1.0", "1.0-1"},
		{"1.0-1", "1.0-1+b1"},
		{"1.0-1", "1.0-1.1"},
		{"2.0", "1:1.0"},
		{"1.0-1~deb12u1", "1.0-1"},
		{"1.0a", "1.0+"},
		{"1.0~~", "1.0~"},
		{"1.0-1", "1.0-10"},
		{"1.2.3", "1.2.3a"},
		{"0:1.0-2", "1:0.1-1"},
		{"1-1", "1.0-1"},
		{"3.0.17-1~deb12u2", "3.0.17-1~deb12u3"},
	};

	for (size_t i = 0; i < sizeof(less) / sizeof(less[0]); i++)
		ok(order(less[i][0], less[i][1]) < 0 && order(less[i][1], less[i][0]) > 0, "%s << %s",
		   less[i][0], less[i][1]);
	ok(!order("1.0", "1.0") && !order("0:1.0", "1.0") && !order("1.00", "1.0") &&
		   !order("1.0-0", "1.0-0"),
	   "equal versions, in several spellings");
	ok(!order("", "") && order("", "1") < 0, "an empty version is the least");
}

static void test_relations(void)
{
	const char *p = "libc6 (>= 2.14), perl:any | perl-base(>>5), x [amd64] <!nocheck>,, |y,\n z (=1)";
	static const struct {
		const char *name, *op, *version;
		bool last;
	} want[] = {{"libc6", ">=", "2.14", true}, {"perl", "", "", false}, {"perl-base", ">>", "5", true},
		    {"x", "", "", true},	   {"y", "", "", true},	    {"z", "=", "1", true}};
	struct relation r;
	bool last;
	size_t n = 0;

	while (relation_next(&p, &r, &last)) {
		bool good = n < 6 && r.name_len == strlen(want[n].name) &&
			    !memcmp(r.name, want[n].name, r.name_len) && !strcmp(r.op, want[n].op) &&
			    r.version_len == strlen(want[n].version) &&
			    (!r.version || !memcmp(r.version, want[n].version, r.version_len)) &&
			    last == want[n].last;
		ok(good, "alternative %zu is %s", n, n < 6 ? want[n].name : "?");
		n++;
	}
	ok(n == 6, "six alternatives");
	p = NULL;
	ok(!relation_next(&p, &r, &last), "a field that is missing has none");
	p = "a (<< 2) ,b (< 3), (>= 1), c (";
	relation_next(&p, &r, &last);
	relation_next(&p, &r, &last);
	ok(!strcmp(r.op, "<="), "the old form < means <=");
	ok(relation_next(&p, &r, &last) && r.name[0] == 'c' && !relation_next(&p, &r, &last),
	   "what has no name is skipped, what is cut short ends");
}

static const char status[] = "Package: liba1\n"
			     "Status: install ok installed\n"
			     "Architecture: amd64\n"
			     "Version: 1.2-3\n"
			     "Provides: liba (= 1.2), a-abi\n"
			     "Conffiles:\n"
			     " /etc/a.conf 0123456789abcdef0123456789abcdef\n"
			     " /etc/b.conf 0123456789abcdef0123456789abcdef\n"
			     "Description: text\n"
			     " Package: not-a-package\n"
			     " .\n"
			     "\n"
			     "Package: gone\n"
			     "Status: deinstall ok config-files\n"
			     "Version: 1\n"
			     "\n"
			     "Package: liba1\n"
			     "Status: install ok installed\n"
			     "Architecture: i386\n"
			     "Version: 9\n"
			     "\n"
			     "\n"
			     "Package: ../evil\n"
			     "Status: install ok installed\n"
			     "Version: 1\n"
			     "\n"
			     "Package: tool\n"
			     "Essential: yes\n"
			     "Status: install ok installed\n"
			     "Version: 2:1.0\n"
			     "Depends: liba1 (>= 1),\n"
			     " other\n"
			     "Architecture: all";

static struct deb *does(struct control *c, const char *relation)
{
	const char *p = relation;
	struct relation r;
	bool last;

	return relation_next(&p, &r, &last) ? control_satisfy(c, &r) : NULL;
}

static void test_paragraphs(void)
{
	struct control c = {0};

	ok(control_read(&c, strdup(status), strlen(status), true) && c.n == 2, "two packages are installed");
	struct deb *a = control_find(&c, "liba1", 5), *t = control_find(&c, "tool", 4);
	ok(a && !strcmp(a->version, "1.2-3") && !a->system, "liba1, and not the other architecture's");
	ok(a && strstr(a->conffiles, "/etc/b.conf"), "a field of several lines is whole");
	ok(t && t->system && !strcmp(t->version, "2:1.0") && strstr(t->depends, "other"),
	   "the last paragraph needs no newline at its end");
	ok(does(&c, "liba1 (>= 1.2)") == a && !does(&c, "liba1 (>> 1.2-3)"), "versions are respected");
	ok(does(&c, "liba") == a && does(&c, "liba (>= 1.0)") == a && !does(&c, "liba (>= 1.3)"),
	   "so are those of what is provided");
	ok(does(&c, "a-abi") == a && !does(&c, "a-abi (>= 1)"),
	   "what is provided without a version does for no version only");
	ok(!does(&c, "not-a-package") && !does(&c, "gone"), "text and removed packages do for nothing");
	const char more[] =
		"Package: liba1\nVersion: 2\nSHA256: x\n\nPackage: new\nVersion: 1\nProvides: liba\n";
	control_read(&c, strdup(more), strlen(more), false);
	ok(c.n == 3 && control_find(&c, "liba1", 5) == a && !strcmp(a->version, "2") && !a->installed,
	   "a later record replaces the one that is there");
	ok(does(&c, "liba") && !strcmp(does(&c, "liba")->name, "new"), "and what it provided is gone");
	const char self[] = "Package: own\nVersion: 1\nProvides: own (= 5)\n";
	control_read(&c, strdup(self), strlen(self), false);
	ok(does(&c, "own (>= 4)") && !does(&c, "own (>= 6)"),
	   "a package may provide another version of its own name");
	control_free(&c);
}

static void test_noise(void)
{
	unsigned seed = 12345;
	bool fine = true;

	for (int round = 0; round < 2000; round++) {
		struct control c = {0};
		size_t n = sizeof(status) - 1;
		char *text = malloc(n + 1);
		memcpy(text, status, n + 1);
		for (int i = 0; i < 8; i++) {
			seed = seed * 1103515245 + 12345;
			text[seed % n] = (char)(seed >> 16);
		}
		fine &= control_read(&c, text, n, round & 1);
		for (size_t i = 0; i < c.n; i++) {
			const char *p = c.v[i]->depends;
			struct relation r;
			bool last;
			while (relation_next(&p, &r, &last))
				control_satisfy(&c, &r);
			fine &= deb_name_ok(c.v[i]->name);
		}
		control_free(&c);
	}
	ok(fine, "damaged records are read without harm, and names stay names");
}

static void test_names(void)
{
	static const char *const bad[] = {"",	  "a",	 "-o",	"../x", "a b", "a;b", "A", "a/b",
					  "a\nb", "a=1", "a:b", "+a",	".a",  "a*",  "a$"};

	ok(deb_name_ok("g++") && deb_name_ok("libc6") && deb_name_ok("0ad") && deb_name_ok("python3.11"),
	   "names");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ok(!deb_name_ok(bad[i]), "no name: case %zu", i);
}

int main(void)
{
	test_versions();
	test_relations();
	test_paragraphs();
	test_noise();
	test_names();
	return done();
}
