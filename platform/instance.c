/* SPDX-License-Identifier: ISC */
/*
 * One `cowbell run` child: words, environment, descriptors; its output as lines of the log; its notes; its end.
 *
 *   out     pipe   standard output and error -> log lines of source "app"; not there when the caller gave descriptors
 *   note    pipe   --notify-fd -> "how HOW", "listening PORT"
 *   env     memfd  NUL-separated K=V: config vars are on no command line and in no file
 *   end     pidfd  readable when it has ended; then the rest of `out` is read, and ended() is called, once
 *
 * Ownership: struct instance is the scheduler's; struct proc is ours and lives until libuv has closed its handles. After
 * ended() has been called i->proc is NULL and the struct instance is not looked at any more.
 *
 * A start takes a thread of spawner.c; until that is done there is a proc without a pid, and a signal is kept for it.
 */
#include "platform/instance.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/host/strings.h"
#include "lib/list.h"
#include "platform/cgroup.h"
#include "platform/lines.h"
#include "platform/spawner.h"

#define NOTE_BYTES 256
#define MAX_SOCKET 107 /* of sun_path, without its NUL */
#define EXIT_LOST  125

/* Descriptors of one start. [0] is ours. */
struct ends {
	int out[2], note[2], env, cgroup;
};

struct proc {
	struct instance *i; /* NULL after its end */
	const struct instance_events *events;
	uv_poll_t end;
	uv_pipe_t out, note;
	unsigned open; /* handles that are not closed yet */
	bool has_out, listening;
	int pidfd;
	char note_line[NOTE_BYTES];
	size_t n_note;
	struct list paused; /* in `paused` while nothing is read */
	struct lines lines;
	/* while it is being started */
	struct spawn_job job;
	struct strings words;
	struct ends ends;
	int keep[3], stdio[3], signal;
};

static char *run_dir;
static char *const *child_env;
static char read_buf[64 << 10]; /* one loop, one reader at a time */
static struct list paused = LIST_INIT(paused);
static uv_timer_t resume_timer;

/* --- before the first one --------------------------------------------------------------------------- */

/* Sockets of an earlier life, which nobody listens on. */
static void clean_dir(const char *path)
{
	DIR *d = opendir(path);

	for (struct dirent *e; d && (e = readdir(d));)
		if (e->d_name[0] != '.')
			unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
}

/* data_dir/run, or, where that is too long for a socket's address, a directory of our own in /tmp. */
static int make_run_dir(void)
{
	char *real = realpath(config.data_dir, NULL);

	run_dir = textf("%s/run", real ? real : config.data_dir);
	free(real);
	if (strlen(run_dir) + sizeof("/0123456789abcdef.s") > MAX_SOCKET) {
		free(run_dir);
		run_dir = xstrdup("/tmp/cowbell-run-XXXXXX");
		return mkdtemp(run_dir) ? 0 : -errno;
	}
	if (mkdir(run_dir, 0700) < 0 && errno != EEXIST)
		return -errno;
	clean_dir(run_dir);
	return 0;
}

int instances_open(void)
{
	static struct strings env;
	struct rlimit l;

	if (!getrlimit(RLIMIT_NOFILE, &l) && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max; /* some four for each instance */
		setrlimit(RLIMIT_NOFILE, &l);
	}
	char *real = realpath(config.data_dir, NULL);
	const char *dir = real ? real : config.data_dir;
	strings_add(&env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	strings_addf(&env, "HOME=%s", dir);
	strings_addf(&env, "XDG_DATA_HOME=%s/share", dir);
	strings_addf(&env, "XDG_CACHE_HOME=%s/cache", dir);
	strings_add(&env, "TERM=xterm");
	free(real);
	child_env = env.v;
	uv_timer_init(loop, &resume_timer);
	uv_unref((uv_handle_t *)&resume_timer);
	int r = spawner_open();
	return r ? r : make_run_dir();
}

/* --- output ------------------------------------------------------------------------------------------ */

static void on_buffer(uv_handle_t *h, size_t size, uv_buf_t *b)
{
	*b = uv_buf_init(read_buf, sizeof(read_buf));
}

static void on_output(uv_stream_t *s, ssize_t n, const uv_buf_t *b);

static void on_resume(uv_timer_t *t)
{
	list_for_each_safe (l, &paused) {
		struct proc *p = list_entry(l, struct proc, paused);

		if (!lines_second_over(&p->lines))
			continue;
		list_del(&p->paused);
		uv_read_start((uv_stream_t *)&p->out, on_buffer, on_output);
	}
	if (list_empty(&paused))
		uv_timer_stop(t);
}

static void on_output(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct proc *p = s->data;

	if (n < 0) { /* closed; its end comes by itself */
		uv_read_stop(s);
		return;
	}
	lines_put(&p->lines, b->base, (size_t)n);
	if (!lines_too_many(&p->lines))
		return;
	uv_read_stop(s);
	list_add_tail(&paused, &p->paused);
	if (!uv_is_active((uv_handle_t *)&resume_timer))
		uv_timer_start(&resume_timer, on_resume, 100, 100);
}

/* --- notes of the monitor ------------------------------------------------------------------------------- */

static void take_note(struct proc *p, const char *line)
{
	static const char *const hows[] = {"boot", "prefix", "snapshot", "standby"};
	unsigned port;

	if (!strncmp(line, "how ", 4)) {
		for (size_t k = 0; k < sizeof(hows) / sizeof(hows[0]); k++)
			if (!strncmp(line + 4, hows[k], strlen(hows[k])))
				p->i->how = hows[k];
		if (p->events->how)
			p->events->how(p->i, line + 4);
	} else if (sscanf(line, "listening %u", &port) == 1 && port == APP_PORT && !p->listening) {
		p->listening = true;
		p->i->listening_ns = now_ns();
		if (p->events->listening)
			p->events->listening(p->i);
	}
}

static void on_note(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct proc *p = s->data;

	if (n < 0) { /* only the monitor has the other end */
		uv_read_stop(s);
		if (p->i && p->events->lost)
			p->events->lost(p->i);
		return;
	}
	for (ssize_t k = 0; k < n && p->i; k++) {
		if (b->base[k] != '\n') {
			if (p->n_note < NOTE_BYTES - 1)
				p->note_line[p->n_note++] = b->base[k];
			continue;
		}
		p->note_line[p->n_note] = 0;
		p->n_note = 0;
		take_note(p, p->note_line);
	}
}

/* --- its end ---------------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct proc *p = h->data;

	if (--p->open)
		return;
	close(p->pidfd);
	free(p->lines.line);
	free(p);
}

static void close_all(struct proc *p)
{
	list_del(&p->paused);
	uv_close((uv_handle_t *)&p->end, on_closed);
	uv_close((uv_handle_t *)&p->note, on_closed);
	if (p->has_out)
		uv_close((uv_handle_t *)&p->out, on_closed);
}

/* What it had written before it ended; a pipe holds 64 KiB. */
static void read_rest(struct proc *p)
{
	int fd;

	if (!p->has_out || uv_fileno((uv_handle_t *)&p->out, &fd))
		return;
	for (int k = 0; k < 32; k++) {
		ssize_t n = read(fd, read_buf, sizeof(read_buf));
		if (n <= 0)
			break;
		lines_put(&p->lines, read_buf, (size_t)n);
	}
	lines_end(&p->lines);
}

static void on_end(uv_poll_t *h, int status, int events)
{
	struct proc *p = h->data;
	struct instance *i = p->i;
	siginfo_t si = {0};

	if (waitid(P_PIDFD, (id_t)p->pidfd, &si, WEXITED | WNOHANG) < 0)
		si.si_status = EXIT_LOST, si.si_code = CLD_EXITED; /* cannot be: nobody else waits for it */
	else if (!si.si_pid)
		return;
	read_rest(p);
	i->exit_status = si.si_code == CLD_EXITED ? si.si_status : 128 + si.si_status;
	i->out_of_memory = p->lines.out_of_memory && i->exit_status == 128 + SIGKILL;
	i->pid = 0;
	if (*i->socket_path)
		unlink(i->socket_path);
	cgroup_remove(i->id);
	p->i = NULL;
	i->proc = NULL;
	close_all(p);
	p->events->ended(i, i->exit_status);
}

/* --- its start ---------------------------------------------------------------------------------------------- */

/* Variables into a memfd, each ended by NUL: that is how values may have line breaks. */
static int make_env(json_t *env)
{
	struct {
		char *p;
		size_t n;
	} b = {NULL, 0};
	FILE *f = open_memstream(&b.p, &b.n);
	const char *key;
	json_t *v;
	int fd;

	if (!f)
		return -ENOMEM;
	json_object_foreach(env, key, v)
	{
		if (!*key || strchr(key, '=') || !json_is_string(v))
			continue;
		fprintf(f, "%s=%s", key, json_string_value(v));
		fputc(0, f);
	}
	fputc(0, f); /* so that there is one also when nothing else is */
	if (fclose(f) || (fd = memfd_create("env", MFD_CLOEXEC)) < 0) {
		free(b.p);
		return -ENOMEM;
	}
	if (write(fd, b.p, b.n) != (ssize_t)b.n) {
		close(fd);
		fd = -ENOSPC;
	}
	explicit_bzero(b.p, b.n);
	free(b.p);
	return fd;
}

static void make_words(struct strings *w, struct instance *i, const struct instance_spec *s, int note,
		       int env)
{
	strings_add(w, "cowbell");
	strings_add(w, "run");
	strings_addf(w, "--monitor=%s", config.monitor ? config.monitor : "auto");
	strings_addf(w, "-m%llu", (unsigned long long)s->limits->memory);
	if (s->limits->cpus > 1)
		strings_addf(w, "--cpus=%u", s->limits->cpus);
	strings_addf(w, "--egress=%s", *s->limits->egress ? s->limits->egress : "none");
	strings_addf(w, "--notify-fd=%d", note);
	strings_addf(w, "--env-file=/dev/fd/%d", env);
	if (s->time_limit_ns)
		strings_addf(w, "--timeout=%lluns", (unsigned long long)s->time_limit_ns);
	if (s->standby)
		strings_addf(w, "--standby=%d", s->standby);
	if (s->tty)
		strings_add(w, "-t");
	if (s->port)
		strings_addf(w, "-punix:%s:%d", i->socket_path, APP_PORT);
	if (s->command)
		strings_addf(w, "--command=%s", s->command);
	else if (s->process)
		strings_addf(w, "--process=%s", s->process);
	strings_add(w, "--");
	strings_addf(w, "image:%s", s->image);
	for (const char *const *a = s->argv; a && *a; a++)
		strings_add(w, *a);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int dev_null(void)
{
	static int fd = -1;

	if (fd < 0) {
		int low = open("/dev/null", O_RDWR | O_CLOEXEC);
		fd = fcntl(low, F_DUPFD_CLOEXEC, 10);
		close_fd(&low);
	}
	return fd;
}

static int open_ends(struct ends *e, const struct instance *i, const struct instance_spec *s)
{
	*e = (struct ends){{-1, -1}, {-1, -1}, -1, -1};
	if (s->stdio[1] < 0 && pipe2(e->out, O_CLOEXEC))
		return -errno;
	if (pipe2(e->note, O_CLOEXEC))
		return -errno;
	e->env = make_env(s->env);
	if (e->env < 0)
		return e->env;
	e->cgroup = cgroup_make(i->id, s->limits->cpu_percent);
	return 0;
}

static void close_ends(struct ends *e)
{
	close_fd(&e->out[0]), close_fd(&e->out[1]);
	close_fd(&e->note[0]), close_fd(&e->note[1]);
	close_fd(&e->env), close_fd(&e->cgroup);
}

/* It runs: watch it. Takes our ends. */
static void watch(struct proc *p, struct ends *e)
{
	p->end.data = p->out.data = p->note.data = p;
	uv_poll_init(loop, &p->end, p->pidfd);
	uv_poll_start(&p->end, UV_READABLE, on_end);
	uv_pipe_init(loop, &p->note, 0);
	uv_pipe_open(&p->note, e->note[0]);
	uv_read_start((uv_stream_t *)&p->note, on_buffer, on_note);
	p->open = 2;
	p->has_out = e->out[0] >= 0;
	if (p->has_out) {
		uv_pipe_init(loop, &p->out, 0);
		uv_pipe_open(&p->out, e->out[0]);
		uv_read_start((uv_stream_t *)&p->out, on_buffer, on_output);
		p->open++;
	}
	e->note[0] = e->out[0] = -1;
}

static void name_socket(struct instance *i, bool wanted)
{
	static uint64_t count;

	*i->socket_path = 0;
	if (wanted)
		snprintf(i->socket_path, sizeof(i->socket_path), "%s/%llx.s", run_dir,
			 (unsigned long long)++count);
}

/* The child's ends are its own now. */
static void close_childs(struct proc *p)
{
	close_ends(&p->ends);
	for (int k = 0; k < 3; k++)
		close_fd(&p->stdio[k]);
	if (p->keep[2])
		close_fd(&p->keep[2]);
	strings_free(&p->words);
}

/* The thread has done its work. */
static void on_spawned(struct spawn_job *j)
{
	struct proc *p = j->spawn.arg;
	struct instance *i = p->i;

	if (!j->result) {
		i->pid = j->pid;
		p->pidfd = j->pidfd;
		watch(p, &p->ends);
		close_childs(p);
		if (p->signal)
			kill(i->pid, p->signal);
		return;
	}
	plog("error", i->app ? i->app->name : NULL, "%s cannot be started: %s", i->dyno,
	     strerror(-j->result));
	const struct instance_events *ev = p->events;
	close_childs(p);
	free(p);
	i->proc = NULL;
	i->exit_status = EXIT_LOST;
	ev->ended(i, EXIT_LOST);
}

int instance_start(struct instance *i, const struct instance_spec *s, const struct instance_events *ev)
{
	struct proc *p = xcalloc(1, sizeof(*p));

	name_socket(i, s->port);
	memcpy(p->stdio, s->stdio, sizeof(p->stdio));
	p->keep[2] = s->standby;
	int r = open_ends(&p->ends, i, s);
	if (r) {
		close_childs(p);
		free(p);
		return r;
	}
	list_init(&p->paused);
	p->lines.i = p->i = i;
	p->events = ev;
	make_words(&p->words, i, s, p->ends.note[1], p->ends.env);
	p->keep[0] = p->ends.note[1];
	p->keep[1] = p->ends.env;
	p->job.done = on_spawned;
	p->job.spawn = (struct spawn){.path = config.self,
				      .argv = p->words.v,
				      .envp = child_env,
				      .keep = p->keep,
				      .n_keep = s->standby ? 3 : 2,
				      .tty = s->tty,
				      .cgroup = p->ends.cgroup,
				      .arg = p};
	for (int k = 0; k < 3; k++)
		p->job.spawn.stdio[k] = s->stdio[k] >= 0 ? s->stdio[k] : k ? p->ends.out[1] : dev_null();
	i->started_ns = now_ns();
	i->how = "boot";
	i->pid = 0;
	i->proc = p;
	spawner_start(&p->job);
	return 0;
}

void instance_signal(struct instance *i, int sig)
{
	if (!i->proc)
		return;
	if (i->pid > 0) /* not waited for yet, so the number is still its own */
		kill(i->pid, sig);
	else
		i->proc->signal = sig;
}

void instance_hand_over(struct instance *from, struct instance *to, const struct instance_events *ev)
{
	struct proc *p = from->proc;

	from->proc = NULL;
	to->proc = p;
	to->pid = from->pid;
	to->how = from->how;
	memcpy(to->socket_path, from->socket_path, sizeof(to->socket_path));
	p->i = to;
	p->lines.i = to;
	p->events = ev;
	if (!p->listening)
		return;
	to->listening_ns = now_ns();
	ev->listening(to);
}
