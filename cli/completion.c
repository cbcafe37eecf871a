/* SPDX-License-Identifier: ISC */
/*
 * `cowbell completion bash|zsh`: a script that completes commands, their subcommands and their options.
 *
 * It is made of the tables that are also the help: each command is asked for its --help, in a process of its own, and what it prints is
 * read: lines of options ("  -m, --memory SIZE ...") and of subcommands (after "Commands:"). So a new option is completed
 * without anybody thinking of it. The script holds the words; names of apps, images and instances are asked for as they are needed.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/say.h"

static const struct option_def defs[] = {{1, 'h', "help", NULL, "print this help"}, {0, 0, NULL, NULL, NULL}};

/* What `cowbell WORDS --help` prints: malloc; "" if it prints nothing. sub may be "-aAPP". */
static char *help_of(const char *command, const char *sub)
{
	const char *argv[] = {"cowbell", command, sub ? sub : "--help", sub ? "--help" : NULL, NULL};
	char *text = calloc(1, 65536);
	size_t n = 0;
	int p[2];

	if (!text || pipe(p))
		exit(say_fail(EXIT_OURS, "completion: out of memory"));
	fflush(stdout);
	pid_t pid = fork();
	if (!pid) {
		dup2(p[1], 1);
		close(p[0]);
		unsetenv("COWBELL_APP");
		unsetenv("HEROKU_APP");
		execv("/proc/self/exe", (char *const *)argv);
		_exit(127);
	}
	close(p[1]);
	for (ssize_t k; n < 65535 && (k = read(p[0], text + n, 65535 - n)) > 0;)
		n += (size_t)k;
	close(p[0]);
	waitpid(pid, NULL, 0);
	return text;
}

static void add_once(struct strings *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add_once(struct strings *s, const char *fmt, ...)
{
	char word[80];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(word, sizeof(word), fmt, ap);
	va_end(ap);
	strings_add_once(s, word);
}

/* Its options, as words; those that take a value, too. */
static void read_help(const char *text, struct strings *options, struct strings *valued, struct strings *subs)
{
	char *copy = textf("%s", text), *save = NULL;
	bool commands_now = false;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char name[64], sub[32];
		const char *dash = strstr(line, "--");
		if (!strncmp(line, "Commands:", 9))
			commands_now = true;
		else if (line[0] != ' ')
			commands_now = false;
		else if (commands_now && sscanf(line, "  %31[a-z] ", sub) == 1 && line[2] != ' ')
			strings_add(subs, sub);
		else if (dash && (dash == line + 6 || dash == line + 2) &&
			 sscanf(dash, "--%60[a-z0-9-]", name) == 1) {
			add_once(options, "--%s", name);
			bool takes = dash[2 + strlen(name)] == ' ' && dash[3 + strlen(name)] != ' ';
			if (takes)
				add_once(valued, "--%s", name);
			if (dash == line + 6 && line[2] == '-') {
				add_once(options, "-%c", line[3]);
				if (takes)
					add_once(valued, "-%c", line[3]);
			}
		}
	}
	free(copy);
}

static void put_words(const struct strings *s)
{
	for (size_t i = 0; i < s->n; i++)
		printf("%s%s", i ? " " : "", s->v[i]);
}

/* One line of a case: what is completed after these words. */
static void put_case(const char *command, const char *sub, bool both)
{
	struct strings options = {0}, valued = {0}, subs = {0};
	char *colon = both && sub ? textf("%s:%s", command, sub)
				  : NULL; /* without -a only that is the platform's */
	char *text = colon ? help_of(colon, NULL) : help_of(command, sub);

	read_help(text, &options, &valued, &subs);
	if (!sub && both) { /* the platform's verb of that name */
		char *other = help_of(command, "-aapp");
		read_help(other, &options, &valued, &subs);
		free(other);
	}
	printf("\t'%s%s%s') options='", command, sub ? " " : "", sub ? sub : "");
	put_words(&options);
	printf("' valued=' ");
	put_words(&valued);
	printf(" ' subs='");
	if (!sub)
		put_words(&subs);
	puts("' ;;");
	if (!sub)
		for (size_t i = 0; i < subs.n; i++)
			put_case(command, subs.v[i], both);
	strings_free(&options);
	strings_free(&valued);
	strings_free(&subs);
	free(text);
	free(colon);
}

/* The tables as a shell function that bash and zsh both read: sets options, valued and subs for $1. */
static void put_tables(void)
{
	puts("_cowbell_table()\n{\n\toptions= valued= subs=\n\tcase $1 in");
	for (const struct command *c = commands; c->name; c++)
		if (strcmp(c->name, "help") && strcmp(c->name, "version"))
			put_case(c->name, NULL, c->both);
	puts("\tesac\n}\n");
	fputs("_cowbell_commands='", stdout);
	for (const struct command *c = commands; c->name; c++)
		printf("%s%s", c == commands ? "" : " ", c->name);
	puts("'\n");
}

/* Shared by both shells: $1 is the word before, $2 command, $3 subcommand or nothing; prints candidates. */
static const char candidates[] =
	"_cowbell_words()\n"
	"{\n"
	"\tlocal options valued subs\n"
	"\t_cowbell_table \"$2${3:+ $3}\"\n"
	"\t[ -n \"$options\" ] || _cowbell_table \"$2\"\n"
	"\tcase $valued in *\" $1 \"*)\n"
	"\t\tcase $1 in\n"
	"\t\t-a|--app|--confirm) [ \"$2\" = ps ] && [ \"$1\" = -a ] && printf '%s\\n' --json\n"
	"\t\t\tcowbell apps --quiet 2>/dev/null ;;\n"
	"\t\t--monitor) printf '%s\\n' auto kvm process ;;\n"
	"\t\t--egress) printf '%s\\n' none all ;;\n"
	"\t\tesac\n"
	"\t\treturn ;;\n"
	"\tesac\n"
	"\tprintf '%s\\n' $options\n"
	"\t[ -n \"$3\" ] || printf '%s\\n' $subs\n"
	"\t[ -z \"$3\" ] || return\n"
	"\tcase $2 in\n"
	"\tstop|logs|clone|move) cowbell ps --quiet 2>/dev/null ;;\n"
	"\trm|tag|inspect|sign|verify) cowbell images --quiet 2>/dev/null ;;\n"
	"\tdestroy) cowbell apps --quiet 2>/dev/null ;;\n"
	"\tcompletion) printf '%s\\n' bash zsh ;;\n"
	"\thelp) printf '%s\\n' $_cowbell_commands ;;\n"
	"\tesac\n"
	"}\n";

static const char bash[] = "_cowbell()\n"
			   "{\n"
			   "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} sub= i\n"
			   "\tCOMPREPLY=()\n"
			   "\tif [ \"$COMP_CWORD\" -eq 1 ]; then\n"
			   "\t\tCOMPREPLY=($(compgen -W \"$_cowbell_commands\" -- \"$cur\"))\n"
			   "\t\treturn\n"
			   "\tfi\n"
			   "\tfor ((i = 2; i < COMP_CWORD; i++)); do\n"
			   "\t\tcase ${COMP_WORDS[i]} in -*) ;; *) sub=${COMP_WORDS[i]}; break ;; esac\n"
			   "\tdone\n"
			   "\tCOMPREPLY=($(compgen -W \"$(_cowbell_words \"$prev\" \"${COMP_WORDS[1]}\" "
			   "\"$sub\")\" -- \"$cur\"))\n"
			   "}\n"
			   "complete -o default -F _cowbell cowbell\n";

static const char zsh[] =
	"_cowbell()\n"
	"{\n"
	"\temulate -L zsh -o sh_word_split\n"
	"\tlocal sub= i\n"
	"\tlocal -a found\n"
	"\tif (( CURRENT == 2 )); then\n"
	"\t\tcompadd -- $_cowbell_commands\n"
	"\t\treturn\n"
	"\tfi\n"
	"\tfor ((i = 3; i < CURRENT; i++)); do\n"
	"\t\tcase $words[i] in -*) ;; *) sub=$words[i]; break ;; esac\n"
	"\tdone\n"
	"\tfound=(${(f)\"$(_cowbell_words \"$words[CURRENT-1]\" \"$words[2]\" \"$sub\")\"})\n"
	"\t(( $#found )) && compadd -- $found\n"
	"\t[[ $PREFIX == -* ]] || _files\n"
	"}\n"
	"if [ \"$funcstack[1]\" = _cowbell ]; then _cowbell \"$@\"; else compdef _cowbell cowbell; fi\n";

static int run_completion(const struct words *w)
{
	bool is_zsh = !strcmp(w->names[0], "zsh");

	if (!is_zsh && strcmp(w->names[0], "bash"))
		return say_fail(EXIT_OURS, "completion: '%s' is not known here; bash or zsh?", w->names[0]);
	puts(is_zsh ? "#compdef cowbell" : "# bash completion of cowbell");
	puts("# Made by: cowbell completion\n");
	put_tables();
	puts(candidates);
	fputs(is_zsh ? zsh : bash, stdout);
	return 0;
}

int cmd_completion(int argc, char **argv)
{
	return words_command(
		defs, "completion",
		"bash|zsh\n\nPrints a script that completes commands, options and names.\n"
		"bash: source <(cowbell completion bash)   zsh: source <(cowbell completion zsh)",
		1, 1, argc, argv, run_completion);
}
