/* SPDX-License-Identifier: ISC */
/*
 * `cowbell move`: a running, detached instance goes on under another monitor, and nobody who talks to it is cut off.
 *
 *   this process                 old monitor               new monitor (our child)
 *   SNAPSHOT, HOLD  -----------> at rest, held
 *   FDS             -----------> sockets, files, streams
 *   fork            ------------------------------------> restores, until only the guest's first step is left
 *                                reads HANDOVER, ends <-- HANDOVER
 *   told, ends      <------------------------------------ runs the guest
 *
 * Only the old monitor decides: as long as it has not read HANDOVER it goes on by itself when its connection closes,
 * which is when both of us have ended, or at our word. See monitor/handover.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/ctl.h"
#include "lib/host/say.h"

#define HOLD_MS 120000 /* until it is written */

enum { OPT_HELP = 1, OPT_MONITOR, OPT_JSON };

static const struct option_def move_options[] = {
	{OPT_MONITOR, 0, "monitor", "auto|kvm|process",
	 "what it is to run under (the one that it does not run under now)"},
	{OPT_JSON, 0, "json", NULL, "as one JSON object"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

static struct ctl to_old; /* the connection that holds it */
static int told = -1; /* new monitor: who waits for our start */

/* --- the new monitor's process ---------------------------------------------------- */

static int take_over(void *arg)
{
	char why[CTL_WHY_MAX], none[1];
	int r = ctl_call(&to_old, CTL_HANDOVER, 1, -1, none, 0, why, -1);

	(void)arg;
	/* an end without an answer: it died, whatever it had read */
	if (r && r != -ECONNRESET)
		return say_fail(-1, "it is not given to the new monitor: %s", *why ? why : strerror(-r));
	ctl_close(&to_old);
	return 0;
}

static void on_started(void *arg, const struct ctl_status *st)
{
	(void)arg;
	if (write(told, st, sizeof(*st)) != sizeof(*st))
		say("%s: nobody was told of the move", st->id);
	close(told);
}

static int find_fd(const struct twin *t, enum ctl_fd_kind kind, uint32_t id)
{
	for (uint32_t i = 0; i < t->n; i++)
		if (t->fd[i].given.kind == kind && t->fd[i].given.id == id)
			return t->fd[i].given.fd;
	return -1;
}

static int run_new(struct monitor_config *cfg, const struct twin *t)
{
	struct monitor_given *given = calloc(t->n + 1, sizeof(*given));
	int status;

	if (!given)
		return EXIT_OURS;
	for (uint32_t i = 0; i < t->n; i++)
		given[i] = t->fd[i].given;
	cfg->given = given;
	cfg->n_given = t->n;
	cfg->given_peers = t->peers;
	cfg->take_over = take_over;
	cfg->started = on_started;
	setsid();
	for (int i = 0; i < 3; i++)
		if (dup2(find_fd(t, CTL_FD_STREAM, (uint32_t)i), i) < 0)
			return EXIT_OURS;
	state_go_on(cfg, find_fd(t, CTL_FD_STREAM, 3));
	status = monitor_run(cfg);
	state_ended(status);
	return status == MONITOR_MOVED ? 0 : status;
}

/* --- this one ------------------------------------------------------------------------ */

/* What the new monitor said before it gave up: it is at the end of the instance's log. */
static void show_log(int log, off_t from)
{
	char buf[4096];
	ssize_t n = pread(log, buf, sizeof(buf), from);

	if (n > 0 && write(STDERR_FILENO, buf, (size_t)n) < 0)
		return;
}

/* Start the new monitor. 0 and *st; an exit status if the instance goes on where it was. */
static int start_new(struct monitor_config *cfg, const struct twin *t, struct ctl_status *st)
{
	int p[2], log = find_fd(t, CTL_FD_STREAM, 2);
	struct stat before = {0};

	fstat(log, &before);
	if (pipe2(p, O_CLOEXEC))
		return say_fail(EXIT_OURS, "move: %s", strerror(errno));
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		return say_fail(EXIT_OURS, "move: cannot fork: %s", strerror(errno));
	if (!pid) {
		close(p[0]);
		told = p[1];
		_exit(run_new(cfg, t));
	}
	ctl_close(&to_old); /* the child's alone from here on */
	close(p[1]);
	ssize_t n = read(p[0], st, sizeof(*st));
	close(p[0]);
	if (n == sizeof(*st))
		return 0;
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	show_log(log, before.st_size);
	return say_fail(EXIT_OURS, "move: %s was not moved and goes on where it was", t->st.name);
}

static int choose(const struct words *w, const struct ctl_status *st, enum monitor_kind *kind)
{
	const char *word = w->value[OPT_MONITOR], *why = "";

	*kind = st->monitor == CTL_KVM ? MONITOR_PROCESS : MONITOR_KVM;
	if (word && !parse_monitor(word, kind))
		return say_fail(EXIT_OURS, "--monitor %s: must be auto, kvm or process", word);
	if (*kind == MONITOR_KVM && monitor_kvm_usable(&why))
		return say_fail(EXIT_OURS, "move: %s cannot run under kvm: %s", st->name, why);
	return 0;
}

/* Held by to_old. */
static int move_held(struct twin *t, enum monitor_kind kind, int file, struct ctl_status *st)
{
	static struct monitor_config cfg;
	int r = twin_fetch(t, &to_old, true);

	if (r)
		return say_fail(EXIT_OURS, "move: %s does not give its files: %s", t->st.name, strerror(-r));
	if (find_fd(t, CTL_FD_STREAM, 2) < 0)
		return say_fail(EXIT_OURS, "move: %s does not give its streams", t->st.name);
	twin_config(t, &cfg);
	cfg.kind = kind;
	cfg.timeout_ns = t->st.timeout_ns;
	cfg.started_ns = t->st.started_ns;
	if (t->st.flags & CTL_F_NAMED)
		cfg.unique_name = t->st.name;
	r = snap_restore(&cfg, t->st.name, file, NULL);
	cfg.program = t->st.program;
	return r ? r : start_new(&cfg, t, st);
}

static int show(const struct words *w, const struct ctl_status *from, const struct ctl_status *to, double ms)
{
	const char *was = from->monitor == CTL_KVM ? "kvm" : "process",
		   *is = to->monitor == CTL_KVM ? "kvm" : "process";

	if (w->has[OPT_JSON])
		printf("{\"id\": \"%s\", \"name\": \"%s\", \"from\": \"%s\", \"to\": \"%s\", \"pid\": %llu, "
		       "\"paused_ms\": %.3f}\n",
		       to->id, to->name, was, is, (unsigned long long)to->pid, ms);
	else
		printf("%s: from %s to %s, paused %.1f ms\n", to->name, was, is, ms);
	return 0;
}

static int run_move(const struct words *w)
{
	static struct twin t; /* large */
	struct ctl_snapshot res;
	struct ctl_status st = {0};
	enum monitor_kind kind;
	char why[CTL_WHY_MAX];
	int status = instance_find("move", w->names[0], &to_old, &t.st), file, r;

	if (status)
		return status;
	if (to_old.uid != geteuid())
		return say_fail(EXIT_OURS, "move: %s is another user's (%u), who must move it", t.st.name,
				to_old.uid);
	if (!(t.st.flags & CTL_F_DETACHED))
		return say_fail(
			EXIT_OURS,
			"move: %s runs in the foreground, and whoever waits for its end would be told that "
			"it "
			"ended; only those started with 'cowbell run -d' can be moved. Another way: cowbell "
			"snapshot create --stop, then cowbell run --snapshot",
			t.st.name);
	status = choose(w, &t.st, &kind);
	if (status)
		return status;
	file = memfd_create("cowbell-move", MFD_CLOEXEC);
	if (file < 0)
		return say_fail(EXIT_OURS, "move: %s", strerror(errno));
	r = ctl_call(&to_old, CTL_SNAPSHOT, CTL_SNAP_HOLD | CTL_SNAP_BARE, file, &res, sizeof(res), why,
		     HOLD_MS);
	if (r)
		return say_fail(EXIT_OURS, "move: %s was not moved: %s", w->names[0],
				*why ? why : strerror(-r));
	uint64_t start = cli_now_ns() - res.paused_ns;
	status = move_held(&t, kind, file, &st);
	twin_free(&t);
	ctl_close(&to_old);
	close(file);
	return status ? status : show(w, &t.st, &st, (double)(cli_now_ns() - start) / 1e6);
}

int cmd_move(int argc, char **argv)
{
	return words_command(
		move_options, "move",
		"NAME|ID [--monitor MONITOR]\n\nMoves a running, detached instance to another monitor. It "
		"keeps its ID, name, ports, log, files\nand connections; its clients only wait some "
		"milliseconds.",
		1, 1, argc, argv, run_move);
}
