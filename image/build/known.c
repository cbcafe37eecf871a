/* SPDX-License-Identifier: ISC */
/*
 * What was found out about this machine's packages, kept as memos of the store until the packages change.
 *
 * Reading dpkg's status takes milliseconds, which is most of the time that a build of a small app would take. The answers to what builds ask
 * (the version of python3, the layer of nodejs, the owner of a library) stay true as long as dpkg and apt have written nothing; so
 * a memo's key holds the times of what they write:
 *
 *   known SHA256("kind what" and device, inode, size and time of each file and directory in `watched`) -> the answer
 *
 * An answer that is there costs these few stat(2) and a readlink(2).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "abi/image.h"
#include "image/build/debs.h"

#define FORMAT "known 1"

static const char *const watched[] = {
	DPKG_STATUS,
	DPKG_INFO_DIR, /* a list that is written anew is renamed into it */
	"/var/lib/dpkg/alternatives",
	"/var/lib/apt/lists",
	"/etc/apt/sources.list",
	"/etc/apt/sources.list.d",
	"/usr/lib/node_modules/npm/package.json",
	"/usr/bin/node",
	"/usr/local/bin/node",
};

static struct store *store;

void known_use(struct store *s)
{
	store = s;
}

/* Once for each process: packages that change while an app is built have changed before or after. */
static const char *machine(void)
{
	static char hex[65];
	struct stat st;
	char text[1024] = FORMAT;
	size_t n = strlen(text);

	if (hex[0])
		return hex;
	for (size_t i = 0; i < sizeof(watched) / sizeof(watched[0]) && n < sizeof(text) - 100; i++)
		if (!stat(watched[i], &st))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "\n%zu %llx %llx %llx %llx.%lx", i,
					      (unsigned long long)st.st_dev, (unsigned long long)st.st_ino,
					      (unsigned long long)st.st_size,
					      (unsigned long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
	sha256_hex(text, n, hex);
	return hex;
}

static void key_of(const char *kind, const char *what, char hex[65])
{
	char *text = textf("%s\n%d\n%s\n%s", machine(), SITES_VERSION, kind, what);

	sha256_hex(text, strlen(text), hex);
	free(text);
}

char *known_get(const char *kind, const char *what)
{
	char key[65];

	if (!store)
		return NULL;
	key_of(kind, what, key);
	return store_memo_get(store, "known", key);
}

void known_set(const char *kind, const char *what, const char *answer)
{
	char key[65];

	if (!store)
		return;
	key_of(kind, what, key);
	store_memo_set(store, "known", key, answer);
}
