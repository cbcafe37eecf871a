/* SPDX-License-Identifier: ISC */
/* unit-sources: image/command.c lib/host/strings.c lib/host/say.c */
/*
 * Command lines of Procfiles: what is split here is what a shell makes of it. Random lines of quotes, variables, blanks and
 * backslashes go through command_split() and through /bin/sh, and the words must be equal; what needs a shell is
 * recognised as that.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/command.h"
#include "tests/unit/tap.h"

#define ROUNDS 6000

static const char *const variables[] = {"A=one",
					"B=two words",
					"C=",
					"D= edge ",
					"E=tab\tand\nline",
					"F=$A 'q' \"d\" \\b",
					"PATH=/usr/bin:/bin"};
static struct strings env;

/* Words of the shell, each ended by NUL, through a script on its standard input. */
static size_t by_shell(const char *script, char *out, size_t size)
{
	char name[] = "/tmp/command_test.XXXXXX", cmd[64];
	int fd = mkstemp(name);
	size_t n = 0, len = strlen(script);

	if (fd < 0 || write(fd, script, len) != (ssize_t)len)
		diag("%s: %s", name, strerror(errno));
	close(fd);
	for (size_t i = 0; i < env.n; i++)
		putenv(env.v[i]);
	snprintf(cmd, sizeof(cmd), "/bin/sh %s", name);
	FILE *p = popen(cmd, "r");
	if (p) {
		n = fread(out, 1, size, p);
		pclose(p);
	}
	unlink(name);
	return n;
}

static void words(const char *line, const char *const *want, const char *what)
{
	struct command c;
	const char *why = command_split(line, &env, &c);
	size_t n = 0;

	printf("# %.*s\n", (int)strcspn(line, "\n"), line);
	while (!why && want[n] && n < c.argv.n && !strcmp(want[n], c.argv.v[n]))
		n++;
	if (!ok(!why && !want[n] && n == c.argv.n, "%s", what)) {
		diag("%s", why ? why : "words differ:");
		for (size_t i = 0; !why && i < c.argv.n; i++)
			diag("<%s>", c.argv.v[i]);
	}
	command_free(&c);
}
#define WORDS(line, what, ...) words(line, (const char *const[]){__VA_ARGS__, NULL}, what)

static void needs_shell(const char *line, const char *phrase)
{
	struct command c;
	const char *why = command_split(line, &env, &c);

	if (!ok(why && !c.argv.n && strstr(why, phrase), "to the shell: %.*s", (int)strcspn(line, "\n"),
		line))
		diag("got: %s", why ? why : "words");
	command_free(&c);
}

static void by_shell_is(const char *line, const char *want)
{
	struct command c;

	command_by_shell(line, &c);
	if (!ok(c.argv.n == 3 && !strcmp(c.argv.v[0], "/bin/sh") && !strcmp(c.argv.v[2], want), "sh -c: %s",
		line))
		diag("got: %s", c.argv.n == 3 ? c.argv.v[2] : "?");
	command_free(&c);
}

static void test_known(void)
{
	struct command c;

	WORDS("gunicorn app:app --bind 0.0.0.0:$A", "as Procfiles have it", "gunicorn", "app:app", "--bind",
	      "0.0.0.0:one");
	WORDS("a ${NONE:-8080} ${A:-8080} \"${C:-x y}\" ${NONE:-$B}", "defaults", "a", "8080", "one", "x y",
	      "two", "words");
	WORDS("a 'b  c' \"d $B\" e\\ f \"\" $C ''", "quotes and empty words", "a", "b  c", "d two words",
	      "e f", "", "");
	WORDS("exec ruby app.rb", "exec is what happens anyway", "ruby", "app.rb");
	WORDS("node --x=$NONE. # comment ' | ", "a comment", "node", "--x=.");
	WORDS("a b\n", "a line's end", "a", "b");
	is(command_split("X=1 Y=\"$X $B\" X=2 run $X", &env, &c) == NULL, true, "assignments");
	ok(c.set.n == 2 && !strcmp(c.set.v[0], "X=2") && !strcmp(c.set.v[1], "Y=1 two words"),
	   "and their values");
	ok(c.argv.n == 1 && !strcmp(c.argv.v[0], "run"), "which the command's own words do not see");
	command_free(&c);
	is(command_split("  ", &env, &c) == NULL && !c.argv.n, true, "an empty line");
	command_free(&c);
	needs_shell("a | b", "pipe");
	needs_shell("a && b", "more than one");
	needs_shell("a; b", "more than one");
	needs_shell("a\nb", "more than one");
	needs_shell("a \\\n b", "goes on");
	needs_shell("a > /dev/null", "redirection");
	needs_shell("a $(b)", "substitution");
	needs_shell("a \"`b`\"", "substitution");
	needs_shell("a *.py", "pattern");
	needs_shell("a $(", "substitution");
	needs_shell("cd x", "shell's own");
	needs_shell("\"cd\" x", "shell's own");
	needs_shell("a ~/x", "tilde");
	needs_shell("X=~/x a", "tilde");
	needs_shell("a $1", "parameter");
	needs_shell("a $PWD", "variable of the shell");
	needs_shell("a ${A%x}", "only a shell");
	needs_shell("a ${A:=x}", "only a shell");
	needs_shell("a 'b", "unfinished quote");
	needs_shell("a ${A:-", "unfinished");
	needs_shell("a {b,c}", "braces");
	needs_shell("X=1", "without a command");
	needs_shell("exec -a x y", "shell's own");
	by_shell_is("python app.py > log 2>&1", "exec python app.py > log 2>&1");
	by_shell_is("ls *.py", "exec ls *.py");
	by_shell_is("cd app && python x", "cd app && exec python x");
	by_shell_is("a; b || c 2>&1; X=1 Y=$Z d *", "a; b || c 2>&1; X=1 Y=$Z exec d *");
	by_shell_is("a 'x;y' *", "exec a 'x;y' *");
	by_shell_is("X='a b' a *", "X='a b' a *");
	by_shell_is("a | b", "a | b");
	by_shell_is("a & b", "a & b");
	by_shell_is("for x in a b; do c; done", "for x in a b; do c; done");
	by_shell_is("if a; then b; fi", "if a; then b; fi");
	by_shell_is("trap 'x' EXIT; a", "trap 'x' EXIT; a");
	by_shell_is("a && cd x", "a && cd x");
	by_shell_is("(a; b)", "(a; b)");
	by_shell_is("a; ", "a; ");
	by_shell_is("while a; do b", "while a; do b");
	by_shell_is("cd x && \"$Y\"", "cd x && \"$Y\"");
}

/* A pattern that comes out of a variable, which no one sees in the line. */
static void test_hidden_pattern(void)
{
	struct strings e = {0};
	struct command c;
	char deep[4096] = "a ";

	strings_add(&e, "G=*.c");
	is(command_split("a $G", &e, &c) != NULL, true, "a pattern in a variable goes to the shell");
	is(command_split("a \"$G\"", &e, &c) == NULL && !strcmp(c.argv.v[1], "*.c"), true,
	   "in quotes it is text");
	command_free(&c);
	for (int i = 0; i < 500; i++)
		strcat(deep, "${N:-");
	is(command_split(deep, &e, &c) != NULL, true, "nesting is bounded");
	char *big = malloc(200002);
	memset(big, 'x', 200000);
	memcpy(big, "BIG=", 4);
	big[200000] = 0;
	strings_add(&e, big);
	is(command_split("a $BIG$BIG$BIG$BIG$BIG$BIG$BIG", &e, &c) != NULL, true, "and so is the result");
	free(big);
	strings_free(&e);
}

static unsigned long state;

static unsigned pick(unsigned n)
{
	state = state * 6364136223846793005ul + 1442695040888963407ul;
	return (unsigned)(state >> 33) % n;
}

static void random_line(char *line, size_t size)
{
	static const char *const bits[] = {
		" ",	" ",	 "  ",	     "\t",	   "a",		"b-c",
		"x=y",	"'",	 "'",	     "\"",	   "\"",	"\\",
		"$A",	"$B",	 "$C",	     "$D",	   "$E",	"$F",
		"${A}", "${B}x", "$",	     "${NONE:-d}", "${A:-d e}", "${C-x}",
		"\\ ",	"\\\"",	 "\\$A",     "#",	   "${C:+y}",	"${B:+ z }",
		"%",	",",	 "\xc3\xa9", "@",	   "]",		"${NONE:-$B}",
		"\\\n", "''",	 "\"\"",     "^",	   ":",		"+",
		"!",	"=",	 "${D:-$C}", "'$A'",	   "\"$B\"",	"\"${NONE-$D}\""};
	size_t n = 0, k = pick(12);

	line[0] = 0;
	for (size_t i = 0; i < k && n + 32 < size; i++) {
		strcpy(line + n, bits[pick(sizeof(bits) / sizeof(bits[0]))]);
		n += strlen(line + n);
	}
}

static void test_random(void)
{
	static char script[ROUNDS * 600], want[ROUNDS * 1200], got[ROUNDS * 1200];
	size_t n_script = 0, n_want = 0, simple = 0;
	char line[512], full[600];
	const char *seed = getenv("SEED");

	state = seed ? strtoul(seed, NULL, 10) : (unsigned long)getpid() * 7919;
	diag("SEED=%lu", state);
	for (int i = 0; i < ROUNDS; i++) {
		struct command c;
		random_line(line, sizeof(line));
		if (*line && line[strlen(line) - 1] == '\\')
			continue; /* in a script it would go on on the next line */
		snprintf(full, sizeof(full), "run %s", line);
		if (command_split(full, &env, &c))
			continue;
		simple++;
		/* the words after "run", between two marks; a line that would not end is kept apart by eval's quotes */
		n_script += (size_t)sprintf(script + n_script, "printf '%%s\\0' '<%d>' %s\n", i, line);
		n_want += (size_t)sprintf(want + n_want, "<%d>", i) + 1;
		for (size_t k = 1; k < c.argv.n; k++)
			n_want += (size_t)sprintf(want + n_want, "%s", c.argv.v[k]) + 1;
		command_free(&c);
	}
	size_t n_got = by_shell(script, got, sizeof(got));
	ok(simple > ROUNDS / 4, "%zu of %d random lines need no shell", simple, ROUNDS);
	if (!ok(n_got == n_want && !memcmp(got, want, n_got), "and their words are the shell's")) {
		size_t at = 0, mark = 0;
		for (; at < n_got && at < n_want && got[at] == want[at]; at++)
			if (got[at] == '<')
				mark = at;
		diag("after %s: shell %.60s, we %.60s", want + mark, got + at, want + at);
		char *where = strstr(script, want + mark);
		diag("the line: %.200s", where ? where : "?");
	}
}

/* Blanks of a variable leave nothing behind, so only their number says how much work they are. */
static void test_long(void)
{
	struct strings blank = {0};
	struct command c;
	char *value = malloc(900002), *line = malloc(200001);

	memset(value, ' ', 900000);
	memcpy(value, "B=", 2);
	value[900001] = 0;
	strings_add(&blank, value);
	for (size_t i = 0; i < 50000; i++)
		memcpy(line + 2 * i, "$B", 3);
	alarm(30);
	const char *why = command_split(line, &blank, &c);
	alarm(0);
	ok(why && strstr(why, "more text"), "blanks without end out of a variable");
	memset(line, 'a', 200000);
	line[200000] = 0;
	why = command_split(line, &blank, &c);
	ok(why && strstr(why, "more text"), "a line that is too long for an argument");
	strings_free(&blank);
	free(value);
	free(line);
}

int main(void)
{
	for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++)
		strings_add(&env, variables[i]);
	test_known();
	test_hidden_pattern();
	test_random();
	test_long();
	return done();
}
