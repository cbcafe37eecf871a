/* SPDX-License-Identifier: ISC */
/*
 * Names of images. What is accepted:
 *
 *   NAME      [HOST[:PORT]/]PART[/PART...], at most 255 bytes
 *   PART      letters a-z and digits, with one '.', one or two '_', or any number of '-' between them
 *   HOST      the first part, if it has a '.' or a ':', is [IPv6], or is "localhost"; made lower case
 *   TAG       a letter, digit or '_', then up to 127 of these and '.', '-'
 *   digest    sha256: and 64 hexadecimal digits
 *
 * So no name can hold "..", begin with '/', or be mistaken for an option: names become paths in the store and in URLs.
 */
#include "image/oci/reference.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool is_lower_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_word(char c)
{
	return is_lower_or_digit(c) || (c >= 'A' && c <= 'Z');
}

/* One part of a path, of n bytes. */
static bool part_ok(const char *s, size_t n)
{
	if (!n || !is_lower_or_digit(s[0]) || !is_lower_or_digit(s[n - 1]))
		return false;
	for (size_t i = 0; i < n;) {
		if (is_lower_or_digit(s[i])) {
			i++;
			continue;
		}
		size_t same = 1;
		while (i + same < n && s[i + same] == s[i])
			same++;
		if (!((s[i] == '.' && same == 1) || (s[i] == '_' && same <= 2) || s[i] == '-'))
			return false;
		i += same;
		if (!is_lower_or_digit(s[i])) /* i < n: the last one is a letter or digit */
			return false;
	}
	return true;
}

/* ":" and 1 to 5 digits, up to 65535, or nothing. */
static bool port_ok(const char *s, size_t n)
{
	unsigned v = 0;

	if (!n)
		return true;
	if (*s != ':' || n < 2 || n > 6)
		return false;
	for (size_t i = 1; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	return v > 0 && v <= 65535;
}

/* A host name, an IPv4 address, or [IPv6]; with a port or without. */
static bool host_ok(const char *s, size_t n)
{
	size_t i = 0;

	if (n && s[0] == '[') {
		for (i = 1; i < n && (strchr("abcdefABCDEF:", s[i]) || (s[i] >= '0' && s[i] <= '9')) && s[i];
		     i++)
			;
		return i > 2 && i < n && s[i] == ']' && port_ok(s + i + 1, n - i - 1);
	}
	while (i < n && s[i] != ':') { /* labels, with dots between them */
		size_t start = i;
		while (i < n && (is_word(s[i]) || s[i] == '-'))
			i++;
		if (i == start || s[start] == '-' || s[i - 1] == '-')
			return false;
		if (i < n && s[i] == '.') {
			if (++i == n || s[i] == ':')
				return false;
		} else if (i < n && s[i] != ':') {
			return false;
		}
	}
	return i && port_ok(s + i, n - i);
}

/* Is the first part of a name with '/' a host? */
static bool looks_like_host(const char *s, size_t n)
{
	return memchr(s, '.', n) || memchr(s, ':', n) || (n && s[0] == '[') ||
	       (n == 9 && !memcmp(s, "localhost", 9));
}

static bool tag_ok(const char *s)
{
	size_t n = strlen(s);

	if (!n || n > 128 || (!is_word(s[0]) && s[0] != '_'))
		return false;
	for (size_t i = 1; i < n; i++)
		if (!is_word(s[i]) && !strchr("_.-", s[i]))
			return false;
	return true;
}

static bool hex_ok(const char *s)
{
	size_t n = strspn(s, "0123456789abcdef");

	return n == 64 && !s[n];
}

/* Check a name and copy it, its host in lower case. */
static const char *parse_name(const char *s, size_t n, char out[256])
{
	const char *slash = memchr(s, '/', n);
	size_t host = 0, i;

	if (!n)
		return "the name is empty";
	if (n > 255)
		return "the name is longer than 255 bytes";
	if (slash && looks_like_host(s, (size_t)(slash - s))) {
		host = (size_t)(slash - s);
		if (!host_ok(s, host))
			return "no valid host before the first '/'";
		for (i = 0; i < host; i++)
			out[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] | 32) : s[i];
		out[host++] = '/';
	}
	for (i = host; i <= n;) {
		const char *end = memchr(s + i, '/', n - i);
		size_t len = end ? (size_t)(end - s) - i : n - i;
		if (!part_ok(s + i, len)) {
			for (size_t k = i; k < i + len; k++)
				if (s[k] >= 'A' && s[k] <= 'Z')
					return "names are lower case";
			return len ? "a name is letters a-z and digits, with '.', '_', '-' between them and "
				     "parts "
				     "separated by '/'"
				   : "a part of the name is empty";
		}
		i += len + 1;
	}
	memcpy(out + host, s + host, n - host);
	out[n] = 0;
	return NULL;
}

const char *reference_parse(const char *s, struct reference *out)
{
	const char *at = strchr(s, '@'), *end = at ? at : s + strlen(s), *colon = end;
	const char *why;

	memset(out, 0, sizeof(*out));
	if (at) {
		if (strncmp(at, "@sha256:", 8))
			return "after '@' comes a digest, sha256: and 64 hexadecimal digits";
		if (!hex_ok(at + 8))
			return "a digest has 64 hexadecimal digits (0-9, a-f)";
		memcpy(out->hex, at + 8, 65);
	}
	/* The last ':' begins a tag, unless a '/' follows: then it is a port's. */
	while (colon > s && *colon != ':' && *colon != '/')
		colon--;
	strcpy(out->tag, "latest");
	if (colon < end && *colon == ':') {
		size_t n = (size_t)(end - colon) - 1;
		char tag[130];
		if (n > 128)
			return "the tag is longer than 128 bytes";
		memcpy(tag, colon + 1, n);
		tag[n] = 0;
		if (!tag_ok(tag))
			return "a tag is letters, digits, '_', '.', '-', and does not begin with '.' or '-'";
		strcpy(out->tag, tag);
		out->has_tag = true;
		end = colon;
	}
	if ((why = parse_name(s, (size_t)(end - s), out->name)))
		memset(out, 0, sizeof(*out));
	return why;
}

void reference_text(const struct reference *r, char *buf, unsigned long size)
{
	snprintf(buf, size, "%s:%s", r->name, r->tag);
}

/*
 * PATH[:REF]. A path may hold a ':' as well: the longest beginning that exists wins, else the first ':' ends the path, so that
 * the message about a missing file names the file.
 */
static const char *parse_path(const char *s, struct source_name *out)
{
	size_t n = strlen(s), cut = strcspn(s, ":");

	if (n >= sizeof(out->path))
		return "the path is too long";
	memcpy(out->path, s, n + 1);
	for (size_t i = n; i > cut; i--) {
		if (s[i] && s[i] != ':')
			continue;
		out->path[i] = 0;
		if (!access(out->path, F_OK)) {
			cut = i;
			break;
		}
	}
	out->path[cut] = 0;
	if (!cut)
		return "a path must follow";
	if (cut == n)
		return NULL;
	if (!s[cut + 1])
		return "after the last ':' comes the name of an image in it";
	if (n - cut - 1 >= sizeof(out->ref))
		return "the name of the image in it is longer than 255 bytes";
	memcpy(out->ref, s + cut + 1, n - cut);
	return NULL;
}

const char *source_parse(const char *s, struct source_name *out)
{
	static const struct {
		const char *prefix;
		enum source_kind kind;
	} kinds[] = {{"image:", SOURCE_STORE},
		     {"oci:", SOURCE_OCI_DIR},
		     {"oci-archive:", SOURCE_OCI_ARCHIVE},
		     {"docker-archive:", SOURCE_DOCKER_ARCHIVE}};
	const char *why = NULL;

	memset(out, 0, sizeof(*out));
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		size_t n = strlen(kinds[i].prefix);
		if (strncmp(s, kinds[i].prefix, n))
			continue;
		out->kind = kinds[i].kind;
		why = out->kind == SOURCE_STORE ? reference_parse(s + n, &out->store)
						: parse_path(s + n, out);
		if (!why && out->kind == SOURCE_STORE) /* what was parsed is short enough */
			snprintf(out->path, sizeof(out->path), "%s", s + n);
		break;
	}
	if (out->kind == SOURCE_NONE && (!strncmp(s, "docker://", 9) || !strncmp(s, "registry:", 9)))
		why = "images of registries are fetched first: cowbell pull HOST/NAME:TAG";
	return why;
}
