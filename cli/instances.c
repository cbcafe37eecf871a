/* SPDX-License-Identifier: ISC */
/*
 * `cowbell ps`, `stop`, `logs`: running instances, asked over their control sockets. There is no list of them
 * that could be wrong: what answers runs. Those that have ended are known only if they were detached (state.c).
 */
#include <arpa/inet.h>
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/ctl.h"
#include "lib/host/say.h"

#define ANSWER_MS 1000 /* of one of many */

int instance_find(const char *command, const char *word, struct ctl *c, struct ctl_status *st)
{
	struct strings ids = {0};
	int r = ctl_find(word, c, st, &ids), status = r == -ENOENT ? EXIT_NOT_FOUND : r ? EXIT_OURS : 0;

	if (r == -EEXIST)
		say_fail(status, "%s: several instances are called '%s'; say which by its ID: %s, %s%s",
			 command, word, ids.v[0], ids.v[1], ids.n > 2 ? ", ..." : "");
	else if (r == -ENOENT)
		say_fail(status, "%s: no instance '%s' is running; all that run: cowbell ps", command, word);
	else if (r)
		say_fail(status, "%s: %s does not answer: %s", command, word, strerror(-r));
	strings_free(&ids);
	return status;
}

static void port_text(const struct ctl_port *p, char *out, size_t size)
{
	static const uint8_t any[16], any4[16] = {[10] = 0xff, [11] = 0xff};
	char ip[INET6_ADDRSTRLEN] = "";

	if (p->kind == CTL_PORT_UNIX)
		snprintf(out, size, "unix:%u", p->guest);
	else if (!memcmp(p->addr, any4, 16) || !memcmp(p->addr, any, 16))
		snprintf(out, size, "%u:%u", p->host, p->guest);
	else if (!memcmp(p->addr, any4, 12))
		snprintf(out, size, "%s:%u:%u", inet_ntop(AF_INET, p->addr + 12, ip, sizeof(ip)), p->host,
			 p->guest);
	else
		snprintf(out, size, "[%s]:%u:%u", inet_ntop(AF_INET6, p->addr, ip, sizeof(ip)), p->host,
			 p->guest);
}

const char *instance_name(const struct ctl_status *st)
{
	return st->flags & CTL_F_NAMED ? st->name : NULL;
}

char *instance_ports(const struct ctl_status *st)
{
	struct strings s = {0};
	char one[80], *text = textf("%s", "");

	for (uint32_t i = 0; i < st->n_ports; i++) {
		port_text(&st->ports[i], one, sizeof(one));
		char *more = textf("%s%s%s", text, i ? "," : "", one);
		free(text);
		text = more;
	}
	strings_free(&s);
	return text;
}

/* --- ps ------------------------------------------------------------------------------- */

enum { OPT_HELP = 1, OPT_JSON, OPT_QUIET, OPT_ALL, OPT_TIMEOUT, OPT_SIGNAL, OPT_FOLLOW };

static const struct option_def ps_options[] = {
	{OPT_ALL, 'a', "all", NULL, "also detached ones that ended within a week"},
	{OPT_QUIET, 'q', "quiet", NULL, "IDs only"},
	{OPT_JSON, 0, "json", NULL, "as a JSON list; bytes, seconds"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

/* 3s, 5m, 2h, 4d: the largest unit. */
static void age_text(double s, char *out, size_t size)
{
	if (s < 120)
		snprintf(out, size, "%.0fs", s);
	else if (s < 7200)
		snprintf(out, size, "%.0fm", s / 60);
	else if (s < 172800)
		snprintf(out, size, "%.0fh", s / 3600);
	else
		snprintf(out, size, "%.0fd", s / 86400);
}

struct row {
	struct ctl_status st;
	bool running, answers;
	int status; /* of one that ended; -1 unknown */
	long long ended;
};

static struct row *add_row(struct row **v, size_t *n)
{
	struct row *nv = realloc(*v, (*n + 1) * sizeof(**v));

	if (!nv)
		exit(say_fail(EXIT_OURS, "out of memory"));
	*v = nv;
	memset(&nv[*n], 0, sizeof(*nv));
	return &nv[(*n)++];
}

static void collect_running(struct row **v, size_t *n)
{
	struct strings all = {0};
	struct ctl c;

	ctl_list(&all);
	for (size_t i = 0; i < all.n; i++) {
		struct ctl_status st;
		int r = ctl_open(all.v[i], &c);

		if (r)
			continue; /* it has just ended, or it is somebody else's */
		r = ctl_status(&c, &st, ANSWER_MS);
		if (!r || r == -ETIMEDOUT) {
			struct row *row = add_row(v, n);
			row->running = true;
			row->answers = !r;
			if (!r)
				row->st = st;
			snprintf(row->st.id, sizeof(row->st.id), "%s", strrchr(all.v[i], '/') + 1);
			row->st.pid = (uint64_t)c.pid;
		}
		ctl_close(&c);
	}
	strings_free(&all);
}

static void collect_ended(struct row **v, size_t *n)
{
	int m;
	struct state *s = state_all(&m);
	size_t running = *n;

	for (int i = 0; i < m; i++) {
		bool runs = false;
		for (size_t k = 0; k < running; k++)
			runs |= !strcmp((*v)[k].st.id, s[i].id);
		if (runs)
			continue;
		struct row *row = add_row(v, n);
		snprintf(row->st.id, sizeof(row->st.id), "%s", s[i].id);
		snprintf(row->st.name, sizeof(row->st.name), "%s", s[i].name);
		snprintf(row->st.program, sizeof(row->st.program), "%s", s[i].program);
		row->st.started_ns = (uint64_t)s[i].started * 1000000000u;
		row->st.flags = CTL_F_DETACHED | (s[i].named ? CTL_F_NAMED : 0);
		row->status = s[i].status;
		row->ended = s[i].ended;
	}
	free(s);
}

static int by_start(const void *a, const void *b)
{
	const struct row *x = a, *y = b;

	if (x->running != y->running)
		return x->running ? -1 : 1;
	return x->st.started_ns > y->st.started_ns ? -1 : x->st.started_ns < y->st.started_ns;
}

static const char *monitor_name(const struct row *r)
{
	return r->st.monitor == CTL_KVM ? "kvm" : r->st.monitor == CTL_PROCESS ? "process" : "-";
}

static json_t *row_json(const struct row *r)
{
	json_t *ports = json_array(), *o;
	const char *name = instance_name(&r->st);
	char ip[INET6_ADDRSTRLEN];

	for (uint32_t i = 0; i < r->st.n_ports; i++) {
		const struct ctl_port *p = &r->st.ports[i];
		if (p->kind == CTL_PORT_UNIX) {
			json_array_append_new(ports,
					      json_pack("{s:s,s:i}", "address", "unix", "guest", p->guest));
			continue;
		}
		bool v4 = p->addr[10] == 0xff && p->addr[11] == 0xff;
		inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? p->addr + 12 : p->addr, ip, sizeof(ip));
		json_array_append_new(
			ports, json_pack("{s:s,s:i,s:i}", "address", ip, "host", p->host, "guest", p->guest));
	}
	o = json_pack("{s:s,s:s?,s:s,s:b,s:s,s:I,s:f,s:f,s:I,s:I,s:i,s:I,s:i,s:b,s:b,s:o}", "id", r->st.id,
		      "name", name, "program", r->st.program, "running", r->running, "monitor",
		      monitor_name(r), "pid", (json_int_t)r->st.pid, "started",
		      (double)r->st.started_ns / 1e9, "uptime", (double)r->st.uptime_ns / 1e9, "memory_bytes",
		      (json_int_t)r->st.mem_used, "memory_max_bytes", (json_int_t)r->st.mem_max, "cpus",
		      (int)r->st.n_cpus, "processes", (json_int_t)r->st.n_processes, "volumes",
		      (int)r->st.n_volumes, "detached", (r->st.flags & CTL_F_DETACHED) != 0, "restored",
		      (r->st.flags & CTL_F_RESTORED) != 0, "ports", ports);
	if (o && !r->running) {
		json_object_set_new(o, "status", r->status < 0 ? json_null() : json_integer(r->status));
		json_object_set_new(o, "ended", r->ended ? json_integer(r->ended) : json_null());
	}
	return o;
}

static void row_text(const struct row *r)
{
	char state[32], age[16], memory[24] = "-", cpus[12] = "-", procs[12] = "-",
				 *ports = instance_ports(&r->st);
	const char *program = *r->st.program ? r->st.program : "-", *name = instance_name(&r->st);

	if (strlen(program) > 28 && strrchr(program, '/'))
		program = strrchr(program, '/') + 1;

	age_text((double)r->st.uptime_ns / 1e9, age, sizeof(age));
	if (r->running)
		snprintf(state, sizeof(state), "%s%s", r->answers ? "up " : "stopped", r->answers ? age : "");
	else if (r->status < 0)
		snprintf(state, sizeof(state), "killed");
	else
		snprintf(state, sizeof(state), "ended (%d)", r->status);
	if (r->st.mem_max)
		snprintf(memory, sizeof(memory), "%.1fM/%.0fM", (double)r->st.mem_used / 1048576,
			 (double)r->st.mem_max / 1048576);
	if (r->st.n_cpus)
		snprintf(cpus, sizeof(cpus), "%u", r->st.n_cpus);
	if (r->st.n_processes)
		snprintf(procs, sizeof(procs), "%u", r->st.n_processes);
	printf("%-12s  %-16s  %-28s  %-7s  %-10s  %-4s  %-5s  %-12s  %s\n", r->st.id, name ? name : "-",
	       program, monitor_name(r), state, cpus, procs, memory, *ports ? ports : "-");
	free(ports);
}

static int run_ps(const struct words *w)
{
	struct row *v = NULL;
	size_t n = 0;

	collect_running(&v, &n);
	if (w->has[OPT_ALL])
		collect_ended(&v, &n);
	if (n)
		qsort(v, n, sizeof(*v), by_start);
	if (w->has[OPT_JSON]) {
		json_t *list = json_array();
		for (size_t i = 0; i < n; i++)
			json_array_append_new(list, row_json(&v[i]));
		report_list(list, true, 0);
	} else {
		if (!w->has[OPT_QUIET])
			printf("%-12s  %-16s  %-28s  %-7s  %-10s  %-4s  %-5s  %-12s  %s\n", "ID", "NAME",
			       "PROGRAM", "MONITOR", "STATE", "CPUS", "PROCS", "MEMORY", "PORTS");
		for (size_t i = 0; i < n; i++)
			if (w->has[OPT_QUIET])
				puts(v[i].st.id);
			else
				row_text(&v[i]);
	}
	free(v);
	return 0;
}

int cmd_ps(int argc, char **argv)
{
	return words_command(ps_options, "ps",
			     "[OPTIONS]\n\nLists the running instances of this user; for root: of all.", 0, 0,
			     argc, argv, run_ps);
}

/* --- stop ------------------------------------------------------------------------------- */

static const struct option_def stop_options[] = {
	{OPT_TIMEOUT, 't', "timeout", "DURATION",
	 "how long it may take before it is killed (10s); 0: at once"},
	{OPT_SIGNAL, 's', "signal", "SIGNAL", "what it is asked to stop with (its own stop signal, TERM)"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

/* The process that owns the socket, as long as the connection lives: no number that could be another's by now. */
static int kill_owner(struct ctl *c)
{
	int fd = c->pid > 0 ? (int)syscall(SYS_pidfd_open, c->pid, 0) : -1, r = -1;

	if (fd < 0)
		return ctl_wait_end(c, 0);
	if (ctl_wait_end(c, 0) == -ETIMEDOUT)
		r = (int)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	close(fd);
	return r ? ctl_wait_end(c, 0) : ctl_wait_end(c, 5000);
}

/* Its end, within timeout_ms. 0, -EAGAIN: this process has ended or is about to, but not the instance. */
static int ask_to_stop(struct ctl *c, int sig, int timeout_ms, char *why)
{
	int r = ctl_call(c, CTL_SIGNAL, (uint32_t)sig, -1, NULL, 0, why, 3000);

	if (!r || r == -ETIMEDOUT)
		return ctl_wait_end(c, timeout_ms);
	return r == -ECONNRESET ? 0 /* gone already */ : r;
}

static int stop_one(const char *word, int sig, uint64_t timeout_ns)
{
	struct ctl c;
	struct ctl_status st;
	char why[CTL_WHY_MAX] = "";
	int status = instance_find("stop", word, &c, &st), r;
	uint64_t end = cli_now_ns() / 1000000u + timeout_ns / 1000000u;

	if (status)
		return status;
	for (;;) {
		uint64_t now = cli_now_ns() / 1000000u, left = now < end ? end - now : 0;

		r = left ? ask_to_stop(&c, sig, left > INT32_MAX ? -1 : (int)left, why) : -ETIMEDOUT;
		if (r == -EAGAIN && left) { /* it is being moved */
			usleep(5000);
			continue;
		}
		if (r)
			r = kill_owner(&c);
		ctl_close(&c);
		/* it may have been moved, and then another process has its socket */
		if (r || ctl_open_id(st.id, &c))
			break;
	}
	return r ? say_fail(EXIT_OURS, "stop: %s does not end: %s", word,
			    *why && r != -ETIMEDOUT ? why : strerror(-r))
		 : 0;
}

static int run_stop(const struct words *w)
{
	uint64_t timeout_ns = 10000000000ull;
	int sig = 0, status = 0;

	if (w->has[OPT_TIMEOUT] && !parse_duration(w->value[OPT_TIMEOUT], &timeout_ns))
		return say_fail(EXIT_OURS, "--timeout %s: must be a duration such as 500ms or 10s",
				w->value[OPT_TIMEOUT]);
	if (w->has[OPT_SIGNAL] && !parse_signal(w->value[OPT_SIGNAL], &sig))
		return say_fail(EXIT_OURS, "--signal %s: must be a signal such as TERM, INT or 2",
				w->value[OPT_SIGNAL]);
	for (int i = 0; i < w->n; i++) {
		int r = stop_one(w->names[i], sig, timeout_ns);
		status = r ? r : status;
	}
	return status;
}

int cmd_stop(int argc, char **argv)
{
	return words_command(stop_options, "stop",
			     "NAME|ID... [OPTIONS]\n\nAsks instances to stop, waits for their end, and kills "
			     "those that do not "
			     "end.",
			     1, -1, argc, argv, run_stop);
}

/* --- logs --------------------------------------------------------------------------------- */

static const struct option_def logs_options[] = {
	{OPT_FOLLOW, 'f', "follow", NULL, "go on until the instance ends"},
	{OPT_HELP, 'h', "help", NULL, "print this help"},
	{0, 0, NULL, NULL, NULL},
};

/* The newest detached instance with this name, or that goes by it, or the one with this ID: running or not. */
static bool find_log(const char *word, char id[16])
{
	int n;
	struct state *s = state_all(&n);
	bool found = false;

	for (int pass = 0; pass < 3 && !found; pass++)
		for (int i = 0; i < n && !found; i++)
			if (pass == 2 ? strlen(word) >= 3 && !strncmp(s[i].id, word, strlen(word))
				      : s[i].named == !pass && !strcmp(s[i].name, word)) {
				memcpy(id, s[i].id, 16);
				found = true;
			}
	free(s);
	return found;
}

static int run_logs(const struct words *w)
{
	struct ctl c = {.fd = -1};
	char id[16], buf[65536];
	int fd;
	bool live;

	if (!find_log(w->names[0], id) || (fd = state_log(id)) < 0)
		return say_fail(EXIT_NOT_FOUND,
				"logs: '%s' is not the name or ID of an instance that was started with "
				"'cowbell run -d'",
				w->names[0]);
	live = w->has[OPT_FOLLOW] && !ctl_open_id(id, &c);
	for (;;) {
		bool last = !live;
		ssize_t n;

		while ((n = read(fd, buf, sizeof(buf))) > 0)
			if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
				break;
		fflush(stdout);
		if (last || ferror(stdout))
			break;
		if (ctl_wait_end(&c, 100) != -ETIMEDOUT) { /* it has ended, or was moved to another process */
			ctl_close(&c);
			live = !ctl_open_id(id, &c);
		}
	}
	ctl_close(&c);
	close(fd);
	return 0;
}

int cmd_logs(int argc, char **argv)
{
	return words_command(logs_options, "logs",
			     "NAME|ID [-f]\n\nPrints what a detached instance (cowbell run -d) has printed, "
			     "also when it has ended.",
			     1, 1, argc, argv, run_logs);
}
