/* SPDX-License-Identifier: ISC */
/*
 * The command line of a Procfile, as a shell would read it.
 *
 * Most are plain: words, quotes, $PORT. Those are split here, with the environment that the program will have, and started
 * without a shell: a process less in the instance, its signals go to the program, and an image needs no
 * shell. What is understood, by the rules of POSIX sh (Shell Command Language, 2.2 to 2.6):
 *
 *   'x'  "x"  \x            $NAME  ${NAME}  ${NAME-w}  ${NAME:-w}  ${NAME+w}  ${NAME:+w}
 *   NAME=VALUE before the command       exec COMMAND       # a comment
 *
 * Results of unquoted expansions are split at blanks. All else is left to the shell of the image, which command_split()
 * says by a phrase: operators, redirections, globs (also such as come out of a variable), substitutions, tildes, braces,
 * words that the shell itself knows, variables that it sets. When in doubt: the shell, which is never wrong.
 *
 * The line and the environment come from anybody's image: nesting and the length of the result are bounded.
 */
#include "image/command.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define MAX_DEPTH 16
#define MAX_LINE  (128u << 10) /* the kernel takes no longer argument, so no shell could either */
#define MAX_BYTES (1u << 20) /* of all words together, and of the blanks between them */

struct split {
	const char *p; /* what is still to be read */
	const struct strings *env;
	struct command *out;
	char *word; /* the current one */
	size_t n, cap, total;
	bool have; /* there is a current word, be it empty */
	bool assign; /* in the value of NAME=VALUE: nothing is split */
	const char *why;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

static bool is_name_start(char c)
{
	return isalpha((unsigned char)c) || c == '_';
}

static size_t name_length(const char *s)
{
	size_t n = 0;

	if (is_name_start(*s))
		while (isalnum((unsigned char)s[n]) || s[n] == '_')
			n++;
	return n;
}

static bool fail(struct split *s, const char *why)
{
	if (!s->why)
		s->why = why;
	return false;
}

static bool count(struct split *s)
{
	return ++s->total <= MAX_BYTES || fail(s, "more text than a command line can have");
}

static bool put(struct split *s, char c)
{
	if (!count(s))
		return false;
	if (s->n + 2 > s->cap) {
		s->cap = s->cap ? s->cap * 2 : 128;
		char *w = realloc(s->word, s->cap);
		if (!w)
			return fail(s, "more memory than there is");
		s->word = w;
	}
	s->word[s->n++] = c;
	s->word[s->n] = 0;
	s->have = true;
	return true;
}

static void end_word(struct split *s)
{
	if (s->have)
		strings_add(s->assign ? &s->out->set : &s->out->argv, s->n ? s->word : "");
	s->n = 0;
	s->have = false;
}

/* One character of an expansion. */
static bool put_result(struct split *s, char c, bool quoted)
{
	if (quoted || s->assign)
		return put(s, c);
	if (strchr("*?[", c))
		return fail(s, "a pattern for file names");
	if (!is_blank(c))
		return put(s, c);
	end_word(s);
	return count(s);
}

/* Variables that a shell has of its own. */
static bool is_shells(const char *name, size_t n)
{
	static const char *const names[] = {"PWD",	    "OLDPWD", "PPID",	  "IFS",      "OPTIND",
					    "OPTARG",	    "OPTERR", "PS1",	  "PS2",      "PS4",
					    "LINENO",	    "_",      "RANDOM",	  "SECONDS",  "UID",
					    "EUID",	    "SHLVL",  "HOSTNAME", "OSTYPE",   "MACHTYPE",
					    "HOSTTYPE",	    "ENV",    "GROUPS",	  "DIRSTACK", "EPOCHSECONDS",
					    "EPOCHREALTIME"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strlen(names[i]) == n && !memcmp(names[i], name, n))
			return true;
	return n >= 4 && !memcmp(name, "BASH", 4);
}

/* The value of a variable; NULL: not set, or *why says that only the shell knows. */
static const char *value_of(struct split *s, const char *name, size_t n)
{
	char *key = strndup(name, n);
	const char *v = NULL;

	if (is_shells(name, n))
		fail(s, "a variable of the shell");
	if (key && s->assign) /* NAME=VALUE sees what stands before it; the command's words do not */
		v = strings_env(&s->out->set, key);
	if (key && !v)
		v = strings_env(s->env, key);
	free(key);
	return v;
}

static bool put_value(struct split *s, const char *v, bool quoted)
{
	if (quoted)
		s->have = true;
	for (; v && *v; v++)
		if (!put_result(s, *v, quoted))
			return false;
	return true;
}

static bool dollar(struct split *s, bool quoted, bool use, int depth);

/* The word of ${NAME:-word}, up to and with its brace. use: it is wanted; else only read over. */
static bool default_word(struct split *s, bool quoted, bool use, int depth)
{
	for (; *s->p != '}';) {
		char c = *s->p;
		if (!c)
			return fail(s, "an unfinished ${");
		if (strchr("'\"\\`", c) || (!quoted && strchr("*?[~(){<>|&;\n#", c)))
			return fail(s, "quotes or patterns within ${}");
		if (c == '$') {
			if (!dollar(s, quoted, use, depth + 1))
				return false;
			continue;
		}
		s->p++;
		if (use && !put_result(s, c, quoted))
			return false;
	}
	s->p++;
	return true;
}

/* At "${". */
static bool braces(struct split *s, bool quoted, bool use, int depth)
{
	const char *name = s->p + 2;
	size_t n = name_length(name);
	const char *op = name + n;
	bool colon = *op == ':';

	if (!n || depth > MAX_DEPTH)
		return fail(s, "an expansion that only a shell knows");
	const char *v = value_of(s, name, n);
	if (s->why)
		return false;
	if (*op == '}') {
		s->p = op + 1;
		return !use || put_value(s, v, quoted);
	}
	op += colon;
	bool there = v && (!colon || *v);
	if (*op != '-' && *op != '+')
		return fail(s, "an expansion that only a shell knows");
	s->p = op + 1;
	if (quoted && use)
		s->have = true;
	if (*op == '-' && there && use && !put_value(s, v, quoted))
		return false;
	return default_word(s, quoted, use && there == (*op == '+'), depth);
}

/* At "$". */
static bool dollar(struct split *s, bool quoted, bool use, int depth)
{
	char c = s->p[1];
	size_t n = name_length(s->p + 1);

	if (n) {
		const char *v = value_of(s, s->p + 1, n);
		s->p += 1 + n;
		return !s->why && (!use || put_value(s, v, quoted));
	}
	if (c == '{')
		return braces(s, quoted, use, depth);
	if (c == '(')
		return fail(s, "a command substitution");
	if (c && strchr("@*#?-!$0123456789", c))
		return fail(s, "a parameter of the shell");
	if (c && !quoted && strchr("'\"", c))
		return fail(s, "quotes that differ from shell to shell");
	s->p++;
	return !use || put_result(s, '$', quoted);
}

static bool single_quotes(struct split *s)
{
	s->have = true;
	for (s->p++; *s->p != '\''; s->p++) {
		if (!*s->p)
			return fail(s, "an unfinished quote");
		if (!put(s, *s->p))
			return false;
	}
	s->p++;
	return true;
}

static bool double_quotes(struct split *s)
{
	bool ok = true;

	s->have = true;
	for (s->p++; ok && *s->p != '"';) {
		char c = *s->p;
		if (!c)
			return fail(s, "an unfinished quote");
		if (c == '`')
			return fail(s, "a command substitution");
		if (c == '$') {
			ok = dollar(s, true, true, 0);
			continue;
		}
		if (c == '\\' && s->p[1] && strchr("$`\"\\", s->p[1]))
			c = *++s->p;
		s->p++;
		ok = put(s, c);
	}
	s->p += ok;
	return ok;
}

static const char *why_shell(const struct split *s, char c)
{
	switch (c) {
	case '|':
		return "a pipe";
	case '<':
	case '>':
		return "a redirection";
	case '&':
	case ';':
	case '\n':
		return "more than one command";
	case '(':
	case ')':
		return "parentheses";
	case '`':
		return "a command substitution";
	case '{':
	case '}':
		return "braces";
	case '*':
	case '?':
	case '[':
		return s->assign ? NULL : "a pattern for file names";
	default:
		return NULL;
	}
}

static bool backslash(struct split *s)
{
	s->p++;
	if (!*s->p)
		return put(s, '\\');
	return put(s, *s->p++);
}

/* From the beginning of a word to the blank after it. */
static bool one_word(struct split *s)
{
	char before = s->assign ? '=' : ' ';

	for (bool ok = true; ok && *s->p && *s->p != ' ' && *s->p != '\t';) {
		char c = *s->p;
		const char *why = why_shell(s, c);
		if (why)
			return fail(s, why);
		if (c == '~' && strchr(" =:", before))
			return fail(s, "a tilde");
		before = c;
		if (c == '\'') {
			ok = single_quotes(s);
		} else if (c == '"') {
			ok = double_quotes(s);
		} else if (c == '$') {
			ok = dollar(s, false, true, 0);
		} else if (c == '\\') {
			ok = backslash(s);
		} else {
			ok = put(s, c);
			s->p++;
		}
	}
	if (!s->why)
		end_word(s);
	return !s->why;
}

/* NAME= at the place: its value becomes part of the command's environment. */
static bool assignment(struct split *s, size_t name_len)
{
	s->assign = true;
	for (size_t i = 0; i <= name_len; i++)
		if (!put(s, *s->p++))
			return false;
	bool ok = one_word(s);
	s->assign = false;
	return ok;
}

/* Words that the shell itself acts on. */
static bool shell_knows(const char *word)
{
	static const char *const words[] = {
		"!",	    "{",       "}",	 "[[",	    "]]",	 "case",     "do",	"done",
		"elif",	    "else",    "esac",	 "fi",	    "for",	 "function", "if",	"in",
		"select",   "then",    "until",	 "while",   "time",	 "coproc",   ".",	":",
		"[",	    "alias",   "bg",	 "break",   "builtin",	 "caller",   "cd",	"command",
		"continue", "declare", "dirs",	 "disown",  "echo",	 "enable",   "eval",	"exec",
		"exit",	    "export",  "false",	 "fc",	    "fg",	 "getopts",  "hash",	"help",
		"history",  "jobs",    "kill",	 "let",	    "local",	 "logout",   "mapfile", "popd",
		"printf",   "pushd",   "pwd",	 "read",    "readarray", "readonly", "return",	"set",
		"shift",    "shopt",   "source", "suspend", "test",	 "times",    "trap",	"true",
		"type",	    "typeset", "ulimit", "umask",   "unalias",	 "unset",    "wait"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (!strcmp(words[i], word))
			return true;
	return false;
}

static void skip_blanks(struct split *s)
{
	s->p += strspn(s->p, " \t");
}

/* `exec COMMAND` is what we do anyway. True: it was there, and is read over. */
static bool read_over_exec(struct split *s)
{
	if (strncmp(s->p, "exec", 4) || (s->p[4] != ' ' && s->p[4] != '\t'))
		return false;
	const char *next = s->p + 4 + strspn(s->p + 4, " \t");
	if (!*next || *next == '-' || *next == '#' || *next == '$' || *next == '\\')
		return false;
	s->p = next;
	return true;
}

static bool all_words(struct split *s)
{
	bool first = true, by_exec = false;

	for (skip_blanks(s); *s->p && *s->p != '#'; skip_blanks(s)) {
		size_t n = first && !by_exec ? name_length(s->p) : 0;
		if (n && s->p[n] == '+' && s->p[n + 1] == '=')
			return fail(s, "an assignment that only some shells know");
		if (n && s->p[n] == '=') {
			if (is_shells(s->p, n))
				return fail(s, "a variable of the shell");
			if (!assignment(s, n))
				return false;
			continue;
		}
		if (first && !by_exec && (by_exec = read_over_exec(s)))
			continue;
		if (!one_word(s))
			return false;
		first = false; /* even if it came out empty: assignments stand before all words */
	}
	if (!s->out->argv.n && (s->out->set.n || by_exec))
		return fail(s, "assignments without a command");
	if (s->out->argv.n && !by_exec && shell_knows(s->out->argv.v[0]))
		return fail(s, "a command that is the shell's own");
	return true;
}

/* The last assignment of a name is the one that holds. */
static void settle(struct strings *set)
{
	struct strings once = {0};

	for (size_t i = 0; i < set->n; i++)
		strings_set_env(&once, set->v[i]);
	strings_free(set);
	*set = once;
}

const char *command_split(const char *line, const struct strings *env, struct command *out)
{
	size_t n = strlen(line);
	char *text = NULL;

	memset(out, 0, sizeof(*out));
	if (n >= MAX_LINE)
		return "more text than a command line can have";
	while (n && is_blank(line[n - 1]) && !(n > 1 && line[n - 2] == '\\'))
		n--; /* a line's end is no second command */
	text = strndup(line, n);
	if (!text)
		return "more memory than there is";
	struct split s = {.p = text, .env = env, .out = out};
	if (strstr(text, "\\\n")) /* goes away before anything else is looked at, even within a name */
		fail(&s, "a line that goes on on the next");
	else
		all_words(&s);
	free(s.word);
	free(text);
	if (s.why)
		command_free(out);
	else
		settle(&out->set);
	return s.why;
}

/*
 * Where the last command of a line begins: after the last &&, || or ; outside of quotes. NULL where more than such lists
 * of simple commands is in the line, or where somebody must be left to act after the last one.
 */
static const char *last_command(const char *line)
{
	const char *last = line;
	char quote = 0;

	for (const char *p = line; *p; p++) {
		if (quote != '\'' && (*p == '`' || *p == '\\'))
			return NULL;
		if (quote) {
			quote = *p == quote ? 0 : quote;
		} else if (*p == '\'' || *p == '"') {
			quote = *p;
		} else if ((*p == '&' || *p == '|') && p[1] == *p) {
			last = ++p + 1;
		} else if (*p == ';') {
			last = p + 1;
		} else if (strchr("|()\n", *p) || (*p == '&' && (p == line || !strchr("<>", p[-1])))) {
			return NULL;
		}
	}
	return quote || strstr(line, "trap") ? NULL : last;
}

/*
 * The place for `exec` before the last command, so that the shell becomes it and need not fork; NULL if it has none.
 * Assignments stand before exec.
 */
static const char *exec_place(const char *line)
{
	const char *p = last_command(line);
	char first[64];

	for (size_t n; p; p += n) {
		p += strspn(p, " \t");
		n = name_length(p);
		if (!n || p[n] != '=')
			break;
		n += strcspn(p + n, " \t'\"");
		if (p[n] == '\'' || p[n] == '"')
			return NULL;
	}
	size_t n = p ? strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./-") : 0;
	if (!n || n >= sizeof(first) || *p == '-' || (p[n] && !is_blank(p[n])))
		return NULL;
	memcpy(first, p, n);
	first[n] = 0;
	return shell_knows(first) ? NULL : p;
}

void command_by_shell(const char *line, struct command *out)
{
	memset(out, 0, sizeof(*out));
	line += strspn(line, " \t\n");
	const char *at = exec_place(line);
	strings_add(&out->argv, "/bin/sh");
	strings_add(&out->argv, "-c");
	strings_addf(&out->argv, "%.*s%s%s", at ? (int)(at - line) : 0, line, at ? "exec " : "",
		     at ? at : line);
}

void command_free(struct command *c)
{
	strings_free(&c->argv);
	strings_free(&c->set);
}
