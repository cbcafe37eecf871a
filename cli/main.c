/* SPDX-License-Identifier: ISC */
/*
 * `cowbell`: one table of commands, each with its function and one line of help.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/say.h"

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

const struct command commands[] = {
	{"run", cmd_run, "run a program as a VM with no operating system in it", GROUP_LOCAL, true},
	{"ps", cmd_ps, "list the running instances", GROUP_LOCAL, true},
	{"logs", cmd_logs, "print what a detached instance has printed", GROUP_LOCAL, true},
	{"stop", cmd_stop, "stop running instances", GROUP_LOCAL, false},
	{"build", cmd_build, "make an image of an app's directory or a container image", GROUP_IMAGES, false},
	{"images", cmd_images, "list the images of the store", GROUP_IMAGES, false},
	{"inspect", cmd_inspect, "show what an image is made of and what it starts", GROUP_IMAGES, false},
	{"tag", cmd_tag, "give an image another name", GROUP_IMAGES, false},
	{"rm", cmd_rm, "remove names of images", GROUP_IMAGES, false},
	{"prune", cmd_prune, "free what no image needs", GROUP_IMAGES, false},
	{"pull", cmd_pull, "fetch an image from a registry", GROUP_IMAGES, false},
	{"push", cmd_push, "send an image to a registry", GROUP_IMAGES, true},
	{"sign", cmd_sign, "sign an image with a key", GROUP_IMAGES, false},
	{"verify", cmd_verify, "check the signature of an image, and every byte of it", GROUP_IMAGES, false},
	{"keygen", cmd_keygen, "make a pair of keys for signatures", GROUP_IMAGES, false},
	{"snapshot", cmd_snapshot, "take and manage snapshots of running instances", GROUP_SNAPSHOTS, false},
	{"clone", cmd_clone, "start copies of a running instance", GROUP_SNAPSHOTS, false},
	{"move", cmd_move, "move a running instance to another monitor", GROUP_SNAPSHOTS, false},
	{"serve", cmd_serve, "run a platform: push an app, get a URL", GROUP_PLATFORM, false},
	{"login", cmd_platform, "use a platform elsewhere", GROUP_PLATFORM, false},
	{"logout", cmd_platform, "forget it", GROUP_PLATFORM, false},
	{"whoami", cmd_platform, "tell which platform is used, and as whom", GROUP_PLATFORM, false},
	{"create", cmd_platform, "make an app", GROUP_PLATFORM, false},
	{"apps", cmd_platform, "list your apps", GROUP_PLATFORM, false},
	{"info", cmd_platform, "show an app", GROUP_PLATFORM, false},
	{"open", cmd_platform, "tell an app's URL, or open it in a browser", GROUP_PLATFORM, false},
	{"scale", cmd_platform, "set how many processes run: web=2", GROUP_PLATFORM, false},
	{"restart", cmd_platform, "start the processes of an app anew", GROUP_PLATFORM, false},
	{"config", cmd_platform, "show, set and unset config vars", GROUP_PLATFORM, false},
	{"releases", cmd_platform, "list the releases of an app", GROUP_PLATFORM, false},
	{"rollback", cmd_platform, "go back to an earlier release", GROUP_PLATFORM, false},
	{"domains", cmd_platform, "host names of an app", GROUP_PLATFORM, false},
	{"certs", cmd_platform, "certificates for them", GROUP_PLATFORM, false},
	{"drains", cmd_platform, "where an app's log is sent", GROUP_PLATFORM, false},
	{"maintenance", cmd_platform, "show visitors a maintenance page", GROUP_PLATFORM, false},
	{"limits", cmd_platform, "what each instance of an app may use", GROUP_PLATFORM, false},
	{"access", cmd_platform, "who may use an app", GROUP_PLATFORM, false},
	{"labs", cmd_platform, "features that an app may turn on", GROUP_PLATFORM, false},
	{"tokens", cmd_platform, "your tokens for the API", GROUP_PLATFORM, false},
	{"git-credential", cmd_platform, "for git: the token for pushes to the platform", GROUP_PLATFORM,
	 false},
	{"destroy", cmd_platform, "remove an app", GROUP_PLATFORM, false},
	{"cache", cmd_cache, "show or empty the cache of what programs need", GROUP_OTHER, false},
	{"completion", cmd_completion, "print completions for bash or zsh", GROUP_OTHER, false},
	{"version", cmd_version, "print the version", GROUP_OTHER, false},
	{"help", cmd_help, "print this help, or that of a command", GROUP_OTHER, false},
	{NULL, NULL, NULL, GROUP_OTHER, false},
};
#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]) - 1)

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

static const char *const groups[] = {"Programs on this machine", "Images", "Snapshots", "The platform",
				     "Other"};

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
	     "system in them.");
	for (int g = GROUP_LOCAL; g <= GROUP_OTHER; g++) {
		printf("\n%s:\n", groups[g]);
		if (g == GROUP_PLATFORM)
			puts("  push [DIR]     deliver a directory as an app\n"
			     "  ps, logs, run  with -a APP: those of an app there");
		for (size_t i = 0; i < N_COMMANDS; i++)
			if ((int)commands[i].group == g)
				printf("  %-14s %s\n", commands[i].name, commands[i].help);
	}
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

/* Heroku's spelling: `config:set K=V` is `config set K=V`, and `ps:scale` is the platform's in any case. */
static int run_colon(char *word, int argc, char **argv)
{
	char **v = calloc((size_t)argc + 2, sizeof(*v)), *colon = strchr(word, ':');
	int status;

	*colon = 0;
	const struct command *c = find_command(word);
	if (!v || !c || !*word || !colon[1] || (!c->both && c->run != cmd_platform)) {
		*colon = ':';
		free(v);
		return unknown_command(word);
	}
	v[0] = word;
	v[1] = colon + 1;
	memcpy(v + 2, argv + 1, (size_t)(argc - 1) * sizeof(*v));
	status = cmd_platform(argc + 1, v);
	free(v);
	return status;
}

static int run_command(const struct command *c, int argc, char **argv)
{
	if (c->both && platform_meant(argc, argv))
		return cmd_platform(argc, argv);
	int status = c->run(argc, argv);
	if (c->run == cmd_ps && argc == 1)
		platform_hint();
	if (c->both && argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")))
		printf("\n%s of a platform: cowbell %s %s; see cowbell %s -a APP --help\n",
		       c->run == cmd_push ? "To deliver a directory as an app" : "For an app", c->name,
		       c->run == cmd_push ? "[DIR]" : "-a APP", c->name);
	return status;
}

int main(int argc, char **argv)
{
	occupy_streams();
	cli_start_ns = cli_now_ns();
	const char *slash = argc ? strrchr(argv[0], '/') : NULL;
	if (slash && !strcmp(slash, "/pre-receive"))
		return git_hook();
	if (argc < 2)
		return say_fail(EXIT_OURS, "no command; try: cowbell run PROGRAM, or cowbell --help");
	const char *name = argv[1];
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	else if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		name = "version";
	const struct command *c = find_command(name);
	if (!c && strchr(argv[1], ':'))
		return run_colon(argv[1], argc - 1, argv + 1);
	if (!c)
		return unknown_command(argv[1]);
	int status = run_command(c, argc - 1, argv + 1);
	if (fflush(stdout) || ferror(stdout))
		return say_fail(EXIT_OURS, "%s: cannot write the output", name);
	return status;
}
