/* SPDX-License-Identifier: ISC */
/* Version ranges of package.json, by npm's own documentation of them. */
/* unit-sources: image/build/semver.c */
#include "image/build/semver.h"

#include "tests/unit/tap.h"

static const struct {
	const char *version, *range;
	bool in;
} cases[] = {
	{"20.11.1", "20", true},
	{"20.11.1", "20.x", true},
	{"20.11.1", "20.x.x", true},
	{"20.11.1", "v20", true},
	{"20.11.1", "*", true},
	{"20.11.1", "", true},
	{"20.11.1", "x", true},
	{"20.11.1", "18", false},
	{"20.11.1", ">=18", true},
	{"20.11.1", ">= 18.0.0", true},
	{"20.11.1", ">=20.11.1", true},
	{"20.11.1", ">=20.11.2", false},
	{"20.11.1", ">20", false},
	{"20.11.1", ">20.11", false},
	{"20.11.1", ">20.11.0", true},
	{"20.11.1", "<20", false},
	{"20.11.1", "<=20", true},
	{"20.11.1", "<20.12", true},
	{"20.11.1", "<=20.11.0", false},
	{"20.11.1", ">=18 <21", true},
	{"20.11.1", ">=18 <20", false},
	{"20.11.1", ">=18.0.0 <20.0.0 || >=20.9", true},
	{"20.11.1", "^20", true},
	{"20.11.1", "^20.11.0", true},
	{"20.11.1", "^20.12.0", false},
	{"20.11.1", "^18 || ^20", true},
	{"20.11.1", "^18||^20", true},
	{"20.11.1", "^18||^22", false},
	{"20.11.1", "~20.11", true},
	{"20.11.1", "~20.10", false},
	{"20.11.1", "~20", true},
	{"20.11.1", "~> 20.11", true},
	{"20.11.1", "18 - 20", true},
	{"20.11.1", "18 - 20.10", false},
	{"20.11.1", "18.0.0 - 20.11.1", true},
	{"20.11.1", "21 - 22", false},
	{"20.11.1", "=20.11.1", true},
	{"20.11.1", "20.11.1-rc.1", true},
	{"0.2.5", "^0.2.3", true},
	{"0.3.0", "^0.2.3", false},
	{"0.0.3", "^0.0.3", true},
	{"0.0.4", "^0.0.3", false},
	{"0.5.0", "^0.x", true},
	{"1.0.0", "^0.x", false},
	{"1:18.19.0+dfsg-6~deb12u2", "18.x", true},
	{"18.19.0+dfsg-6", ">=18.19", true},
	{"20.20.2-1nodesource1", "^20.20.2", true},
	{"20.11.1", "lts/*", true},
	{"20.11.1", "latest", true},
	{"20.11.1", ">", true},
	{"20.11.1", "||", true},
	{"20.11.1", "99999999999999999999999", false},
	{"20.11.1", "20.11.1.1", true},
	{"20.11.1", "<0", false},
	{"20.11.1", ">*", false},
	{"20.11.1", ">=*", true},
};

int main(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(semver_in_range(cases[i].version, cases[i].range) == cases[i].in, "%s is %sin '%s'",
		   cases[i].version, cases[i].in ? "" : "not ", cases[i].range);
	return done();
}
