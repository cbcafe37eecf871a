/* SPDX-License-Identifier: ISC */
/*
 * From a running instance to the configuration of another: a clone, or the same one under another monitor. What is in
 * memory comes by a snapshot; what the instance has of the host comes from it as descriptors (abi/control.h), so that
 * it does not matter what has happened to names and files since it started.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli/cli.h"
#include "lib/host/ctl.h"
#include "lib/host/say.h"

#define ANSWER_MS 10000

static void expect_many(uint32_t n)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) || l.rlim_cur >= n + 64)
		return;
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l); /* or the packet with one too many tells */
}

int twin_fetch(struct twin *t, struct ctl *c, bool held)
{
	static struct ctl_fds part;
	char why[CTL_WHY_MAX];
	int fds[CTL_FDS_MAX], r;

	t->n = 0;
	do {
		r = ctl_fds(c, t->n, &part, fds, ANSWER_MS);
		if (r)
			return r;
		if (!t->n)
			expect_many(part.total);
		struct twin_fd *v = realloc(t->fd, (t->n + part.count) * sizeof(*v) + 1);
		if (!v)
			exit(say_fail(EXIT_OURS, "out of memory"));
		t->fd = v;
		for (uint32_t i = 0; i < part.count; i++)
			v[t->n++] =
				(struct twin_fd){{part.fd[i].kind, part.fd[i].id, fds[i]}, part.fd[i].off};
	} while (part.count && t->n < part.total);
	for (uint32_t i = 0; held && i < t->st.n_ports && i < MONITOR_MAX_PORTS && !r; i++)
		r = ctl_call(c, CTL_PEERS, i, -1, &t->peers[i], sizeof(t->peers[i]), why, ANSWER_MS);
	return r;
}

void twin_free(struct twin *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		close(t->fd[i].given.fd);
	free(t->fd);
	t->fd = NULL;
	t->n = 0;
}

static void set_port(struct monitor_port *to, const struct ctl_port *from)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct sockaddr_in *v4 = (struct sockaddr_in *)&to->host;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to->host;

	memset(to, 0, sizeof(*to));
	to->guest = from->guest;
	if (from->kind == CTL_PORT_UNIX) {
		to->host.ss_family = AF_UNIX; /* its descriptor comes along */
	} else if (!memcmp(from->addr, mapped, sizeof(mapped))) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(from->host);
		memcpy(&v4->sin_addr, from->addr + 12, 4);
	} else {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(from->host);
		memcpy(&v6->sin6_addr, from->addr, 16);
	}
}

/* A layer or a volume. Of a number that is out of range or comes twice nothing is taken. */
static void take_fd(struct monitor_config *cfg, const struct twin_fd *f)
{
	uint32_t id = f->given.id;

	if (f->given.kind == CTL_FD_LAYER && id == (uint32_t)cfg->n_layers && id < MONITOR_MAX_LAYERS) {
		cfg->layer_fd[id] = f->given.fd;
		cfg->layer_off[id] = f->off;
		cfg->n_layers++;
	} else if (f->given.kind == CTL_FD_VOLUME && id == (uint32_t)cfg->n_volumes &&
		   id < MONITOR_MAX_VOLUMES) {
		cfg->volumes[id].dirfd = f->given.fd;
		cfg->n_volumes++;
	}
}

void twin_config(const struct twin *t, struct monitor_config *cfg)
{
	const struct ctl_status *st = &t->st;

	memset(cfg, 0, sizeof(*cfg));
	cfg->start_ns = cli_start_ns;
	cfg->kind = st->monitor == CTL_KVM ? MONITOR_KVM : MONITOR_PROCESS;
	cfg->snapshots = true;
	cfg->name = st->name;
	cfg->program = st->program;
	cfg->stop_signal = st->stop_signal < 64 ? (int)st->stop_signal : 0;
	cfg->n_cpus = st->n_cpus <= MONITOR_MAX_CPUS ? (int)st->n_cpus : MONITOR_MAX_CPUS;
	cfg->n_egress = (int)st->n_egress;
	for (int i = 0; i < cfg->n_egress && i < MONITOR_MAX_EGRESS; i++) { /* where it may connect to */
		const struct ctl_egress *e = &st->egress[i];

		cfg->egress[i] =
			(struct monitor_egress){.prefix = e->prefix, .deny = e->deny, .port = e->port};
		memcpy(cfg->egress[i].addr, e->addr, sizeof(e->addr));
	}
	for (uint32_t i = 0; i < st->n_ports && i < MONITOR_MAX_PORTS; i++)
		set_port(&cfg->ports[cfg->n_ports++], &st->ports[i]);
	for (uint32_t i = 0; i < t->n; i++)
		take_fd(cfg, &t->fd[i]);
}

_Static_assert(CTL_MAX_EGRESS == MONITOR_MAX_EGRESS && CTL_MAX_PORTS == MONITOR_MAX_PORTS, "as they are");
