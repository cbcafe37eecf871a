// SPDX-License-Identifier: ISC
/* libFuzzer target: Debian control data, as packages bring it (image/control.c). */
#include <stdlib.h>
#include <string.h>

#include "image/control.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void follow(struct control *c, const char *field)
{
	struct relation r;
	bool last;

	while (relation_next(&field, &r, &last)) {
		struct deb *d = control_satisfy(c, &r);
		if (d && control_find(c, d->name, strlen(d->name)) != d)
			abort();
	}
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct control c = {0};

	for (int status = 0; status < 2; status++) {
		char *text = malloc(size + 1);
		if (!text)
			return 0;
		if (size)
			memcpy(text, data, size);
		text[size] = 0;
		control_read(&c, text, size, status);
	}
	for (size_t i = 0; i < c.n; i++) {
		const struct deb *d = c.v[i];
		if (!deb_name_ok(d->name) || control_find(&c, d->name, strlen(d->name)) != d)
			abort();
		follow(&c, d->depends);
		follow(&c, d->pre_depends);
		for (size_t j = 0; j < c.n && j < 8; j++) {
			int x = deb_version_cmp(d->version, strlen(d->version), c.v[j]->version,
						strlen(c.v[j]->version));
			int y = deb_version_cmp(c.v[j]->version, strlen(c.v[j]->version), d->version,
						strlen(d->version));
			if ((x > 0) != (y < 0) || (x < 0) != (y > 0))
				abort();
		}
	}
	control_free(&c);
	return 0;
}
