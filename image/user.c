/* SPDX-License-Identifier: ISC */
/*
 * Users of an image, as container engines find them: by name, else by number, in /etc/passwd and /etc/group of the
 * image, through all its layers. A number needs no entry. A user without a group in the word gets the entry's. The
 * supplementary groups are the group itself (so that nobody sheds it, with the rights that it takes away, by setgid(2)) and,
 * without a group in the word, those of /etc/group that list the name.
 *
 * The files are anybody's: a bounded part is read, and lines that make no sense are passed over.
 */
#include "image/user.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/host/say.h"

#define MAX_TEXT   (1u << 20)
#define MAX_FIELDS 7
#define MAX_WORD   256

/* A small text file of the image, NUL-terminated, or "". malloc. */
static char *read_text(const struct overlay *o, const char *path)
{
	struct overlay_file f;
	int64_t n = 0;
	char *text = NULL;

	if (!overlay_lookup(o, path, &f) && S_ISREG(f.i.mode)) {
		uint64_t size = f.i.size < MAX_TEXT ? f.i.size : MAX_TEXT;
		text = malloc(size + 1);
		n = text ? overlay_read(o, &f, text, size, 0) : 0;
	}
	if (!text)
		return strdup("");
	text[n > 0 ? n : 0] = 0;
	return text;
}

/* Cut the next line of *text into its fields; false: there is none. Fields that are missing are "". */
static bool next_line(char **text, char *field[MAX_FIELDS])
{
	char *line = *text;

	if (!*line)
		return false;
	size_t n = strcspn(line, "\n");
	*text = line + n + (line[n] == '\n');
	line[n] = 0;
	for (int i = 0; i < MAX_FIELDS; i++) {
		field[i] = line;
		line += strcspn(line, ":");
		if (*line && i < MAX_FIELDS - 1)
			*line++ = 0;
	}
	return true;
}

static bool number(const char *s, uint32_t *out)
{
	uint64_t v = 0;

	if (!*s || strlen(s) > 10)
		return false;
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return false;
		v = v * 10 + (unsigned)(*s - '0');
	}
	if (v >= UINT32_MAX) /* -1 means "no change" to chown(2) and its like */
		return false;
	*out = (uint32_t)v;
	return true;
}

/* The entry of a user. False: there is none. `name` gets its name. */
static bool find_user(char *passwd, const char *word, struct image_user *u, char name[MAX_WORD])
{
	char *f[MAX_FIELDS];
	uint32_t uid, gid, want;
	bool by_number = number(word, &want);

	while (next_line(&passwd, f)) {
		if (!number(f[2], &uid) || !number(f[3], &gid) || !*f[0])
			continue;
		if (strcmp(f[0], word) && !(by_number && uid == want))
			continue;
		u->uid = uid;
		u->gid = gid;
		snprintf(u->home, sizeof(u->home), "%s", *f[5] == '/' ? f[5] : "");
		snprintf(name, MAX_WORD, "%s", f[0]);
		return true;
	}
	return false;
}

static bool lists(const char *members, const char *name)
{
	size_t n = strlen(name);

	for (const char *m = members; *m; m += strcspn(m, ","), m += *m == ',')
		if (strcspn(m, ",") == n && !memcmp(m, name, n))
			return true;
	return false;
}

static void find_memberships(char *group, const char *name, struct image_user *u)
{
	char *f[MAX_FIELDS];
	uint32_t gid;

	while (next_line(&group, f) && u->n_groups < IMAGE_MAX_GROUPS)
		if (number(f[2], &gid) && gid != u->gid && lists(f[3], name))
			u->groups[u->n_groups++] = gid;
}

static bool find_group(char *group, const char *word, uint32_t *out)
{
	char *f[MAX_FIELDS];
	uint32_t gid;

	while (next_line(&group, f))
		if (!strcmp(f[0], word) && number(f[2], &gid)) {
			*out = gid;
			return true;
		}
	return number(word, out);
}

int user_lookup(const struct overlay *o, const char *word, const char *from, struct image_user *out)
{
	const char *colon = strchr(word, ':'), *group_word = colon ? colon + 1 : "";
	char user[MAX_WORD], name[MAX_WORD] = "", *passwd, *group;
	int status = 0;

	memset(out, 0, sizeof(*out));
	if (snprintf(user, sizeof(user), "%.*s", (int)(colon ? colon - word : (long)strlen(word)), word) >=
	    (int)sizeof(user))
		return say_fail(EXIT_OURS, "%s: the user's name is too long", from);
	passwd = read_text(o, "/etc/passwd");
	group = read_text(o, "/etc/group");
	if (!passwd || !group)
		status = say_fail(EXIT_OURS, "out of memory");
	else if (!find_user(passwd, *user ? user : "0", out, name) && *user && !number(user, &out->uid))
		status =
			say_fail(EXIT_OURS, "%s %s: no user %s in the image's /etc/passwd", from, word, user);
	if (!status && *group_word && !find_group(group, group_word, &out->gid))
		status = say_fail(EXIT_OURS, "%s %s: no group %s in the image's /etc/group", from, word,
				  group_word);
	if (!status)
		out->groups[out->n_groups++] = out->gid;
	if (!status && !*group_word && *name)
		find_memberships(group, name, out);
	free(passwd);
	free(group);
	return status;
}

int user_of_set(struct image_set *set, const char *word)
{
	struct overlay o;
	int bad;
	const char *why = overlay_open(&o, set->fd, set->n, &bad);

	if (why)
		return say_fail(EXIT_OURS, "-u %s: a layer %s", word, why);
	int status = user_lookup(&o, word, "-u", &set->user);
	overlay_close(&o);
	return status;
}
