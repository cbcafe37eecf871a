/* SPDX-License-Identifier: ISC */
/*
 * `cowbell`: one table of commands, each with its function and one line of help.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/say.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv); /* argv[0] is the command's own name */
	const char *help;
};

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

static const struct command commands[] = {
	{"run", cmd_run, "run a program as a VM with no operating system in it"},
	{"build", cmd_build, "make an image of an app's directory or a container image"},
	{"images", cmd_images, "list the images of the store"},
	{"inspect", cmd_inspect, "show what an image is made of and what it starts"},
	{"tag", cmd_tag, "give an image another name"},
	{"rm", cmd_rm, "remove names of images"},
	{"prune", cmd_prune, "free what no image needs"},
	{"pull", cmd_pull, "fetch an image from a registry"},
	{"push", cmd_push, "send an image to a registry"},
	{"sign", cmd_sign, "sign an image with a key"},
	{"verify", cmd_verify, "check the signature of an image, and every byte of it"},
	{"keygen", cmd_keygen, "make a pair of keys for signatures"},
	{"ps", cmd_ps, "list the running instances"},
	{"stop", cmd_stop, "stop running instances"},
	{"logs", cmd_logs, "print what a detached instance has printed"},
	{"snapshot", cmd_snapshot, "take and manage snapshots of running instances"},
	{"clone", cmd_clone, "start copies of a running instance"},
	{"move", cmd_move, "move a running instance to another monitor"},
	{"serve", cmd_serve, "run a platform: push an app, get a URL"},
	{"cache", cmd_cache, "show or empty the cache of what programs need"},
	{"version", cmd_version, "print the version"},
	{"help", cmd_help, "print this help, or that of a command"},
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

uint64_t cli_start_ns;

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *names[N_COMMANDS];

	for (size_t i = 0; i < N_COMMANDS; i++)
		names[i] = commands[i].name;
	const char *close = suggest(name, names, N_COMMANDS);
	if (close)
		return say_fail(EXIT_OURS, "no command '%s'; did you mean 'cowbell %s'?", name, close);
	return say_fail(EXIT_OURS,
			"no command '%s'; to run a program: cowbell run %s; all commands: cowbell --help",
			name, name);
}

static int cmd_version(int argc, char **argv)
{
	(void)argc, (void)argv;
	puts("cowbell " COWBELL_VERSION);
	return 0;
}

static int cmd_help(int argc, char **argv)
{
	if (argc > 1) {
		const struct command *c = find_command(argv[1]);
		if (!c)
			return unknown_command(argv[1]);
		if (c->run != cmd_help && c->run != cmd_version) {
			char *sub[] = {argv[1], (char *)"--help", NULL};
			return c->run(2, sub);
		}
	}
	puts("Usage: cowbell COMMAND [OPTIONS]\n\nRuns unmodified Linux programs as VMs with no operating "
	     "system in them.\n"
	     "\nCommands:");
	for (size_t i = 0; i < N_COMMANDS; i++)
		printf("  %-10s %s\n", commands[i].name, commands[i].help);
	puts("\n'cowbell COMMAND --help' tells more about a command.");
	return 0;
}

/*
 * A standard stream that our caller closed is kept occupied, or the next file
 * we open would become the program's stream. Reading and writing an O_PATH
 * descriptor fail with EBADF, as they would on a closed one.
 */
static void occupy_streams(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_PATH) < 0)
			_exit(EXIT_OURS);
}

uint64_t cli_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

int main(int argc, char **argv)
{
	occupy_streams();
	cli_start_ns = cli_now_ns();
	if (argc < 2)
		return say_fail(EXIT_OURS, "no command; try: cowbell run PROGRAM, or cowbell --help");
	const char *name = argv[1];
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	else if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		name = "version";
	const struct command *c = find_command(name);
	if (!c)
		return unknown_command(argv[1]);
	int status = c->run(argc - 1, argv + 1);
	if (fflush(stdout) || ferror(stdout))
		return say_fail(EXIT_OURS, "%s: cannot write the output", name);
	return status;
}
