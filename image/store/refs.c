/* SPDX-License-Identifier: ISC */
/*
 * Names: DIR/refs/NAME,TAG is a symbolic link whose target, 43 characters of base64url, is the digest of a manifest.
 *
 * A link is made and replaced whole (symlink in tmp/, rename), so there is no half of a name, and it takes no block
 * of its own. Of a reference's characters two cannot or should not be in a file name: '/' is written '+', ':' is
 * written ','. NAME:TAG has at most 255 characters (NAME_MAX).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "image/store/inside.h"

#define REF_MAX 255

static const char b64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static unsigned nibble(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* 64 hexadecimal digits are 256 bits: 42 characters of 6 bits and one of 4. */
void digest_pack(const char *hex, char *out)
{
	unsigned acc = 0, bits = 0, n = 0;

	for (int i = 0; i < 64; i++) {
		acc = acc << 4 | nibble(hex[i]);
		bits += 4;
		if (bits >= 6) {
			bits -= 6;
			out[n++] = b64[acc >> bits & 63];
		}
	}
	out[n] = b64[acc << (6 - bits) & 63];
}

bool digest_unpack(const char *s, char *hex)
{
	unsigned acc = 0, bits = 0, n = 0;

	for (int i = 0; i < DIGEST_PACKED; i++) {
		const char *p = s[i] ? strchr(b64, s[i]) : NULL;
		if (!p)
			return false;
		acc = acc << 6 | (unsigned)(p - b64);
		for (bits += 6; bits >= 4 && n < 64; bits -= 4)
			hex[n++] = "0123456789abcdef"[acc >> (bits - 4) & 15];
	}
	return n == 64 && !(acc & 3); /* the last two bits carry nothing: one spelling for each digest */
}

static bool ref_path(const char *ref, char out[REF_MAX + 8])
{
	size_t n = strlen(ref), colons = 0;

	if (!n || n > REF_MAX)
		return false;
	strcpy(out, "refs/");
	for (size_t i = 0; i <= n; i++) {
		char c = ref[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			     c == '.' || c == '_' || c == '-' || c == '[' || c == ']' || !c; /* []: IPv6 */
		if (!plain && c != '/' && c != ':')
			return false;
		colons += c == ':';
		out[5 + i] = c == '/' ? '+' : c == ':' ? ',' : c;
	}
	return colons && ref[0] != '.' && ref[0] != ':';
}

static int check_ref(const char *ref, char path[REF_MAX + 8])
{
	if (ref_path(ref, path))
		return 0;
	return strlen(ref) > REF_MAX ? -ENAMETOOLONG : -EINVAL;
}

int store_ref_get(struct store *s, const char *ref, char hex[65])
{
	char path[REF_MAX + 8], target[DIGEST_PACKED + 2];
	int r = check_ref(ref, path);

	hex[0] = 0;
	if (r)
		return r;
	ssize_t n = readlinkat(s->dir, path, target, sizeof(target));
	if (n < 0)
		return errno == EINVAL ? -EBADMSG : -errno; /* EINVAL: no link at all */
	if (n != DIGEST_PACKED || !digest_unpack(target, hex)) {
		hex[0] = 0;
		return -EBADMSG;
	}
	hex[64] = 0;
	return 0;
}

static int replace_link(struct store *s, const char *target, const char *path)
{
	char tmp[TMP_NAME_MAX];

	tmp_name(tmp);
	if (symlinkat(target, s->dir, tmp))
		return -errno;
	int r = renameat(s->dir, tmp, s->dir, path) ? -errno : 0;
	if (r)
		unlinkat(s->dir, tmp, 0);
	return r;
}

int store_ref_set(struct store *s, const char *ref, const char *hex)
{
	char path[REF_MAX + 8], old[65], target[DIGEST_PACKED + 1] = "";
	int r = check_ref(ref, path);

	if (r)
		return r;
	if (!is_digest(hex))
		return -EINVAL;
	if ((r = store_hold(s)))
		return r;
	if (!store_has(s, hex)) {
		r = -ENOENT;
	} else if (store_ref_get(s, ref, old) || strcmp(old, hex)) {
		digest_pack(hex, target);
		r = sync_dir(s, BLOBS); /* of other processes as well: what they wrote we may have found */
		if (!r)
			r = replace_link(s, target, path);
		if (!r)
			r = sync_dir(s, "refs");
	}
	store_release(s);
	return r;
}

int store_ref_remove(struct store *s, const char *ref)
{
	char path[REF_MAX + 8];
	int r = check_ref(ref, path);

	if (r)
		return r;
	return unlinkat(s->dir, path, 0) ? -errno : sync_dir(s, "refs");
}

struct wanted {
	const char *begin, *end;
	size_t n_begin, n_end;
	struct strings *out;
};

static int take_ref(void *arg, int dirfd, const char *name)
{
	const struct wanted *w = arg;
	char ref[REF_MAX + 1] = "", path[REF_MAX + 8];
	size_t n = strlen(name);

	(void)dirfd;
	if (n > REF_MAX || n < w->n_begin || n < w->n_end)
		return 0;
	for (size_t i = 0; i <= n; i++)
		ref[i] = name[i] == '+'			    ? '/'
			 : name[i] == ','		    ? ':'
			 : name[i] == '/' || name[i] == ':' ? '?'
							    : name[i];
	if (!strncmp(ref, w->begin, w->n_begin) && !strcmp(ref + n - w->n_end, w->end) && ref_path(ref, path))
		strings_add(w->out, ref);
	return 0; /* anything else is not ours */
}

int store_refs_like(struct store *s, const char *begin, const char *end, struct strings *out)
{
	struct wanted w = {begin, end, strlen(begin), strlen(end), out};
	int r = each_entry(s, "refs", take_ref, &w);

	strings_sort(out);
	return r;
}

int store_refs(struct store *s, struct strings *out)
{
	return store_refs_like(s, "", "", out);
}
