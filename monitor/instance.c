/* SPDX-License-Identifier: ISC */
/*
 * One instance from its memory to its exit status: the only file that puts a
 * backend and the ring server together. One thread does everything; further CPUs have threads of their own, which
 * do nothing but run the guest (smp.c).
 *
 *   choose backend -> memory -> load -> ring server -> create -> signals -> lock down -> loop
 *
 * The loop runs the guest until it rings (one turn of the ring server), is
 * interrupted, or dies.
 *
 * Interruptions. While the guest has the CPU a one-shot timer is armed; when it fires we
 * look whether the guest should hear of something: a tick it asked for, a host
 * signal, a ready socket, a kick that could not be delivered yet. If so the
 * backend diverts the app into the library OS, which then rings by itself. The timer is not stopped
 * when the guest goes to sleep; it then fires once for nothing, which is
 * cheaper than two system calls for each turn.
 *
 * Signals only set bits in handlers; the loop acts. What the program should
 * hear is queued as a ring event.
 *
 * A guest that hangs in its library OS takes no kick and hears no signal. After a
 * SIGTERM, SIGINT, SIGQUIT or SIGHUP it gets HEAR_NS for that, then it is ended. Whether the
 * program catches or ignores the signal plays no part: any doorbell or kick taken will do.
 */
#include "monitor/instance.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/host/say.h"
#include "monitor/clock.h"
#include "monitor/control.h"
#include "monitor/handover.h"
#include "monitor/hostcpu.h"
#include "monitor/load.h"
#include "monitor/restore.h"
#include "monitor/ring_server.h"
#include "monitor/seccomp.h"
#include "monitor/smp.h"
#include "monitor/snap_handles.h"
#include "monitor/snapfile.h"
#include "monitor/standby.h"
#include "monitor/trigger.h"
#include "monitor/workset.h"

HOST_SYSCALL(core, setitimer);
HOST_SYSCALL(core, poll);
HOST_SYSCALL(core, kill);
HOST_SYSCALL(core, rt_sigreturn);
HOST_SYSCALL(tty, rt_sigaction); /* to be stopped by SIGTSTP */
HOST_SYSCALL(core, exit_group);

#define EXIT_MONITOR 125
#define EXIT_TIMEOUT 124
#define LOOK_NS	     10000000ull /* how long a computing guest goes unseen */
#define RETRY_NS     1000000ull /* until a kick arrives */
#define TICK_MIN_NS  1000000ull
#define HEAR_NS	     5000000000ull /* until a guest that should end has taken a kick */

static struct instance the_instance; /* signal handlers need it */

static const int forwarded[] = {SIGINT,	 SIGTERM, SIGHUP,  SIGQUIT, SIGUSR1,
				SIGUSR2, SIGCONT, SIGTSTP, SIGWINCH};

/* --- signals ---------------------------------------------------------------- */

static void on_timer(int sig)
{
	struct instance *in = &the_instance;

	(void)sig;
	in->timer_armed = 0;
	if (in->ctx)
		in->backend->interrupt(in->ctx);
}

static void on_timeout(int sig)
{
	struct instance *in = &the_instance;

	(void)sig;
	in->timed_out = 1;
	if (in->ctx)
		in->backend->interrupt(in->ctx);
	if (in->rs)
		ring_server_interrupt(in->rs);
}

/* si_code tells a key at the terminal from a kill(). */
static void on_forwarded(int sig, siginfo_t *info, void *context)
{
	struct instance *in = &the_instance;

	(void)context;
	if (info->si_code == SI_KERNEL)
		__atomic_or_fetch(&in->typed, 1ull << sig, __ATOMIC_RELAXED);
	__atomic_or_fetch(&in->signals, 1ull << sig, __ATOMIC_RELAXED);
	if (in->ctx)
		in->backend->interrupt(in->ctx);
	if (in->rs)
		ring_server_interrupt(in->rs);
}

static void catch (int sig, void (*handler)(int))
{
	struct sigaction sa = {.sa_handler = handler, .sa_flags = SA_RESTART};

	sigfillset(&sa.sa_mask);
	sigaction(sig, &sa, NULL);
}

static void forward(int sig)
{
	struct sigaction sa = {.sa_sigaction = on_forwarded, .sa_flags = SA_RESTART | SA_SIGINFO};

	sigfillset(&sa.sa_mask);
	sigaction(sig, &sa, NULL);
}

static void catch_signals(struct instance *in)
{
	for (unsigned i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++) {
		struct sigaction old;

		/* As nohup wants it: what was ignored stays ignored. */
		if (sigaction(forwarded[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN)
			continue;
		forward(forwarded[i]);
	}
	catch (SIGALRM, on_timer);
	catch (SIGPIPE, SIG_IGN);
	catch (SIGXFSZ, SIG_IGN); /* the program gets EFBIG */
	if (in->cfg->timeout_ns) {
		struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
		struct itimerspec its = {.it_value = {.tv_sec = in->cfg->timeout_ns / 1000000000ull,
						      .tv_nsec = in->cfg->timeout_ns % 1000000000ull}};
		timer_t timer;

		catch (SIGRTMIN, on_timeout);
		if (timer_create(CLOCK_MONOTONIC, &ev, &timer) == 0)
			timer_settime(timer, 0, &its, NULL);
	}
}

/* The name of a signal that is to end a program; NULL: of another. */
static const char *ending(int sig)
{
	return sig == SIGTERM	? "SIGTERM"
	       : sig == SIGINT	? "SIGINT"
	       : sig == SIGQUIT ? "SIGQUIT"
	       : sig == SIGHUP	? "SIGHUP"
				: NULL;
}

/* SIGTERM asks a program to stop, and an image may say that its program wants to be asked by another signal. */
static int translated(const struct instance *in, int sig)
{
	return sig == SIGTERM && in->cfg->stop_signal ? in->cfg->stop_signal : sig;
}

/* Host signals become events of the ring. True: there were some. */
static bool take_signals(struct instance *in)
{
	uint64_t set = __atomic_exchange_n(&in->signals, 0, __ATOMIC_RELAXED);
	uint64_t typed = __atomic_fetch_and(&in->typed, ~set, __ATOMIC_RELAXED);

	for (int sig = 1; sig < 64 && set; sig++) {
		if (!(set & (1ull << sig)))
			continue;
		if (sig == SIGCONT)
			ring_server_resume_tty();
		if (ending(sig) && !in->unheard) {
			in->unheard = sig;
			in->unheard_ns = 0;
			in->unheard_at_ns = clock_ns_now();
		}
		if (sig == SIGWINCH)
			ring_server_event(in->rs, RING_EV_WINCH, 0);
		else
			ring_server_event(in->rs, RING_EV_SIGNAL,
					  (uint64_t)translated(in, sig) |
						  (typed >> sig & 1 ? RING_SIGNAL_TYPED : 0));
	}
	return set;
}

/* --- hooks of the ring server -------------------------------------------------- */

static int hook_grow(void *arg, uint64_t new_size)
{
	struct instance *in = arg;
	int r = in->backend->grow(in->ctx, new_size);

	if (!r)
		in->mem.ram_size = new_size;
	return r;
}

static int hook_release(void *arg, uint64_t gpa, uint64_t len)
{
	struct instance *in = arg;

	snapshot_dropped(in, gpa, len);
	return in->backend->release(in->ctx, gpa, len);
}

static void hook_huge(void *arg, uint64_t gpa, uint64_t len)
{
	struct instance *in = arg;

	in->backend->huge(in->ctx, gpa, len);
}

/*
 * The program stopped itself; so do we, and the shell sees it. The host decides
 * by the signal's default action whether anybody is there to continue us. Without a
 * terminal rt_sigaction is not allowed, and SIGTTOU, which we never catch, does the same.
 */
static void hook_stopped(void *arg, int sig)
{
	struct instance *in = arg;
	bool caught = sig == SIGTSTP && ring_server_features(in->cfg) & HOST_tty;

	if (sig != SIGSTOP && sig != SIGTTIN && !caught)
		sig = SIGTTOU;
	ring_server_suspend_tty();
	if (caught)
		catch (SIGTSTP, SIG_DFL);
	kill(in->pid, sig);
	if (caught)
		forward(SIGTSTP);
	ring_server_resume_tty();
}

/* --- the control socket -------------------------------------------------------------- */

static uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void report_port(struct instance *in, int i, struct ctl_port *p)
{
	const struct monitor_port *from = &in->cfg->ports[i];
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&from->host;
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&from->host;

	if (from->host.ss_family == AF_UNIX) {
		p->kind = CTL_PORT_UNIX;
	} else if (from->host.ss_family == AF_INET6) {
		memcpy(p->addr, &v6->sin6_addr, 16);
	} else {
		p->addr[10] = p->addr[11] = 0xff;
		memcpy(p->addr + 12, &v4->sin_addr, 4);
	}
	p->host = ring_server_host_port(in->rs, i);
	p->guest = from->guest;
}

static void hook_status(void *arg, struct ctl_status *st)
{
	struct instance *in = arg;
	const struct monitor_config *cfg = in->cfg;

	st->pid = (uint64_t)in->pid;
	st->uptime_ns = clock_ns(CLOCK_MONOTONIC) - in->started_mono_ns;
	st->started_ns = in->started_ns;
	st->mem_max = in->mem.ram_max;
	st->mem_used = __atomic_load_n(&in->stats->pages_used, __ATOMIC_RELAXED);
	st->mem_used =
		st->mem_used < st->mem_max / BOOT_PAGE_SIZE ? st->mem_used * BOOT_PAGE_SIZE : st->mem_max;
	st->n_processes = (uint32_t)__atomic_load_n(&in->stats->processes, __ATOMIC_RELAXED);
	st->monitor = in->backend == &backend_kvm ? CTL_KVM : CTL_PROCESS;
	st->flags = (cfg->unique_name ? CTL_F_NAMED : 0) | (cfg->detached ? CTL_F_DETACHED : 0) |
		    (cfg->restore_fd && !cfg->prefix ? CTL_F_RESTORED : 0);
	st->n_volumes = (uint32_t)cfg->n_volumes;
	snprintf(st->name, sizeof(st->name), "%s", cfg->name);
	snprintf(st->program, sizeof(st->program), "%s", cfg->program ? cfg->program : cfg->exe);
	for (int i = 0; i < cfg->n_ports; i++)
		report_port(in, i, &st->ports[i]);
	st->n_ports = (uint32_t)cfg->n_ports;
	for (int i = 0; i < cfg->n_egress; i++) {
		const struct monitor_egress *e = &cfg->egress[i];

		st->egress[i] = (struct ctl_egress){.prefix = e->prefix, .deny = e->deny, .port = e->port};
		memcpy(st->egress[i].addr, e->addr, sizeof(e->addr));
	}
	st->n_egress = (uint32_t)cfg->n_egress;
	st->n_cpus = cfg->n_cpus > 1 ? (uint32_t)cfg->n_cpus : 1;
	if (cfg->timeout_ns) { /* at least 1: 0 is without end */
		uint64_t here = clock_ns(CLOCK_MONOTONIC) - in->here_mono_ns;

		st->timeout_ns = here < cfg->timeout_ns ? cfg->timeout_ns - here : 1;
	}
	st->stop_signal = (uint32_t)cfg->stop_signal;
	if (in->snap.under && cfg->restore_name) {
		memcpy(st->parent_digest, in->snap.under->h.digest, sizeof(st->parent_digest));
		snprintf(st->parent, sizeof(st->parent), "%s", cfg->restore_name);
	}
}

static int hook_signal(void *arg, int sig)
{
	struct instance *in = arg;

	if (sig == SIGKILL)
		in->killed = true;
	else
		__atomic_or_fetch(&in->signals, 1ull << (sig ? sig : SIGTERM), __ATOMIC_RELAXED);
	return 0;
}

static int open_control(struct instance *in)
{
	struct control_hooks hooks = {
		in, hook_status, hook_signal, trigger_request, handover_give, handover_peers, handover_end};
	int given[2] = {handover_given(in->cfg, CTL_FD_CONTROL, 0),
			handover_given(in->cfg, CTL_FD_CONTROL, 1)};
	char id[CTL_ID_LEN + 1];

	memcpy(in->id, load_boot_info(&in->mem, &in->plan)->instance_id, sizeof(in->id));
	if (in->cfg->snapshot_at == SNAPSHOT_AT_PREFIX)
		return 0; /* nobody's instance */
	control_id(id, in->id);
	in->control = control_open(id, in->cfg->unique_name, given, &hooks);
	return in->control ? 0 : -1;
}

/* Requests that came; the guest has not got the CPU. */
static void serve(struct instance *in)
{
	if (in->control)
		control_serve(in->control);
	if (take_signals(in))
		in->backend->kick(in->ctx);
}

/* The user is told that it runs. */
static void tell_started(struct instance *in)
{
	struct ctl_status st = {0};

	if (!in->cfg->started)
		return;
	control_id(st.id, in->id);
	hook_status(in, &st);
	in->cfg->started(in->cfg->started_arg, &st);
}

static bool hook_cpus(void *arg)
{
	(void)arg;
	return smp_serve();
}

/* --- the working set of a snapshot ------------------------------------------------------ */

/* The first answer has gone out, or all is over: what was touched up to now is what the next run needs early. */
static void hook_answered(void *arg)
{
	struct instance *in = arg;
	uint64_t pages = in->mem.ram_size / BOOT_PAGE_SIZE;
	uint8_t *state;

	if (!workset_recording() || !in->backend->touched)
		return;
	state = calloc(1, pages);
	if (!state)
		return;
	in->backend->touched(in->ctx, state, pages);
	workset_record(state, pages);
	free(state);
}

/* A standby has come as far as it can. */
static int hook_app(void *arg)
{
	return standby_wait(arg);
}

/* --- the loop --------------------------------------------------------------------- */

/* Before the guest gets the CPU: a timer must be running that fires in time. */
static void arm_timer(struct instance *in)
{
	uint64_t ns = LOOK_NS, now = clock_ns_now();
	struct itimerval it = {0};

	bool retry = __atomic_load_n(&in->vcpu->kick, __ATOMIC_RELAXED);

	if (retry) {
		ns = RETRY_NS;
	} else if (__atomic_load_n(&in->vcpu->want_tick, __ATOMIC_RELAXED)) {
		uint64_t tick = __atomic_load_n(&in->vcpu->tick_ns, __ATOMIC_RELAXED);

		if (tick < ns)
			ns = tick < TICK_MIN_NS ? TICK_MIN_NS : tick;
	}
	if (in->timer_armed && in->timer_at_ns <= now + ns + ns / 2)
		return;
	it.it_value.tv_usec = (suseconds_t)(ns / 1000);
	in->timer_armed = 1;
	in->timer_is_retry = retry;
	in->timer_at_ns = now + ns;
	setitimer(ITIMER_REAL, &it, NULL);
}

/* The guest was interrupted: should it hear of something? */
static void look(struct instance *in)
{
	struct pollfd p = {.fd = ring_server_poll_fd(in->rs), .events = POLLIN};
	/* a guest that does not take its kick would never let the control socket be served */
	bool hung = __atomic_load_n(&in->vcpu->kick, __ATOMIC_RELAXED), wanted = take_signals(in);

	/* another CPU wants it */
	wanted |= in->nudged && __atomic_load_n(&in->vcpu->kick, __ATOMIC_RELAXED);
	in->nudged = false;
	if (!wanted && !in->timer_armed) /* the timer fired; a retry whose kick has arrived is no tick */
		wanted = __atomic_load_n(&in->vcpu->kick, __ATOMIC_RELAXED) ||
			 (!in->timer_is_retry && __atomic_load_n(&in->vcpu->want_tick, __ATOMIC_RELAXED)) ||
			 poll(&p, 1, 0) > 0;
	if (wanted)
		in->backend->kick(in->ctx);
	if (hung)
		serve(in);
}

/*
 * After an interruption and before a new kick. True: the guest heard nothing for too long.
 * Between two looks pass RETRY_NS; what is far above that is time in which we were stopped or the host
 * was busy, and counts little.
 */
static bool deaf(struct instance *in, int *status)
{
	uint64_t now, ns;

	if (!in->unheard)
		return false;
	now = clock_ns_now();
	ns = now - in->unheard_at_ns;
	in->unheard_at_ns = now;
	in->unheard_ns += ns < LOOK_NS ? ns : LOOK_NS;
	if (!__atomic_load_n(&in->vcpu->kick, __ATOMIC_RELAXED)) {
		in->unheard = 0;
		return false;
	}
	if (in->unheard_ns < HEAR_NS)
		return false;
	say("%s: the instance was ended: it did not react to %s within %llu s", in->cfg->name,
	    ending(in->unheard), HEAR_NS / 1000000000ull);
	*status = 128 + in->unheard;
	return true;
}

static int status_of(int wait_status)
{
	return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

/* One turn of the ring. TURN_EXIT: the instance is at its end and *status is set. */
static enum turn_result turn_once(struct instance *in, bool now, int *status)
{
	const char *why = "";
	int wait_status = 0;
	enum turn_result r = now ? ring_server_turn_now(in->rs, &wait_status, &why)
				 : ring_server_turn(in->rs, &wait_status, &why);

	switch (r) {
	case TURN_EXIT:
		*status = status_of(wait_status);
		return TURN_EXIT;
	case TURN_BROKEN:
		say("%s: the instance was ended: %s", in->cfg->name, why);
		*status = EXIT_MONITOR;
		return TURN_EXIT;
	case TURN_FROZEN:
		snapshot_take(in);
		handover_wait(in);
		return in->move == MOVE_DONE ? TURN_EXIT : TURN_FROZEN;
	default:
		return TURN_RUN;
	}
}

/* What other CPUs want of the loop. True: the instance is at its end and *status is set. */
static bool serve_cpus(struct instance *in, bool *interrupted, int *status)
{
	const char *why = smp_died();

	*interrupted = false;

	if (why) {
		say("%s: the instance died: %s", in->cfg->name, why);
		*status = EXIT_MONITOR;
		return true;
	}
	while (smp_wants_ring()) {
		if (turn_once(in, true, status) == TURN_EXIT)
			return true;
		*interrupted |= ring_server_interrupted(in->rs); /* whoever did that meant the wait */
		smp_ring_served();
	}
	return false;
}

/* A doorbell of one of several CPUs: others may want the ring served while it waits. True: as turn(). */
static bool turn_of_several(struct instance *in, int *status)
{
	enum turn_result r;
	bool interrupted;

	smp_cpu0_turns();
	do {
		if (serve_cpus(in, &interrupted, status))
			return true;
		r = turn_once(in, interrupted | smp_cpu0_poked(), status);
	} while (r == TURN_RUN && smp_wants_ring() && ring_server_turned_for_nothing(in->rs));
	return r == TURN_EXIT;
}

/* One doorbell. True: the instance is at its end and *status is set. */
static bool turn(struct instance *in, int *status)
{
	for (;;) {
		if (smp_cpus() > 1) {
			if (turn_of_several(in, status))
				return true;
		} else {
			enum turn_result r = turn_once(in, false, status);

			if (r != TURN_RUN)
				return r == TURN_EXIT;
		}
		/* Another turn brings an event at once that came while we slept. */
		if (in->timed_out || !take_signals(in))
			return false;
	}
}

static int loop(struct instance *in)
{
	struct run_info info = {0};
	int status = EXIT_MONITOR;

	for (;;) {
		if (in->timed_out) {
			say("%s: timed out", in->cfg->name);
			return EXIT_TIMEOUT;
		}
		if (in->killed)
			return 128 + SIGKILL;
		if (smp_cpus() > 1) {
			bool interrupted;

			smp_cpu0_runs();
			if (serve_cpus(in, &interrupted, &status))
				return status;
			if (smp_cpu0_nudged()) {
				in->nudged = true;
				in->backend->interrupt(in->ctx); /* it comes back at once, to look() */
			}
		}
		clock_update(in->time);
		arm_timer(in);
		switch (in->backend->run(in->ctx, &info)) {
		case RUN_DOORBELL:
			if (smp_call0())
				break;
			take_signals(in);
			if (turn(in, &status))
				return status;
			in->unheard = 0;
			if (ring_server_outside(in->rs))
				serve(in);
			trigger_look(in);
			break;
		case RUN_KICKED:
			if (deaf(in, &status))
				return status;
			look(in);
			trigger_look(in);
			break;
		case RUN_DIED:
			say("%s: the instance died: %s", in->cfg->name, info.why);
			return info.signal ? 128 + info.signal : EXIT_MONITOR;
		}
	}
}

/* --- assembly ------------------------------------------------------------------------- */

static const struct backend *choose(const struct monitor_config *cfg)
{
	const char *why = "";

	if (cfg->kind != MONITOR_PROCESS) {
		if (backend_kvm.usable(&why) == 0) {
			if (cfg->verbose && cfg->kind == MONITOR_AUTO)
				say("monitor: kvm");
			return &backend_kvm;
		}
		if (cfg->kind == MONITOR_KVM) {
			say("--monitor kvm: %s", why);
			return NULL;
		}
		if (cfg->verbose)
			say("monitor: process (%s)", why);
	}
	if (backend_process.usable(&why) == 0)
		return &backend_process;
	say("--monitor process: %s", why);
	return NULL;
}

/* The port of an address; 0: any, so that the user has to be told. */
static int port_of(const struct sockaddr_storage *a)
{
	if (a->ss_family == AF_UNIX)
		return -1;
	return a->ss_family == AF_INET ? ((const struct sockaddr_in *)a)->sin_port
				       : ((const struct sockaddr_in6 *)a)->sin6_port;
}

static int load_handles(struct instance *in)
{
	char why[256] = "";
	int64_t offset = restore_clock_offset(in->restored, in->cfg->prefix);

	clock_set_offset(offset);
	ring_server_set_clock(in->rs, offset);
	if (ring_server_load(in->rs, in->restored, why, sizeof(why)) < 0)
		return say_fail(-1, "%s: the snapshot cannot be restored: %s", in->cfg->name, why);
	return 0;
}

static int assemble(struct instance *in)
{
	const struct monitor_config *cfg = in->cfg;
	bool kvm = in->backend == &backend_kvm;

	in->mem.restored = in->restored;
	enum boot_plat plat = kvm ? BOOT_PLAT_KVM : BOOT_PLAT_PROCESS;
	struct ring_server_hooks hooks = {in,		hook_grow, hook_release, hook_huge,
					  hook_stopped, hook_app,  hook_cpus,	 hook_answered};
	int r;

	r = in->backend->mem_create(&in->mem, cfg->ram_max);
	if (r < 0)
		return say_fail(-1, "no address space for %llu bytes of guest memory: %s",
				(unsigned long long)cfg->ram_max, strerror(-r));
	if (load_regions(&in->mem, cfg, kvm) < 0)
		return -1;
	if (in->restored ? restore_guest(&in->plan, &in->mem, in->restored, cfg, plat) < 0
			 : load_guest(&in->plan, &in->mem, cfg, plat) < 0)
		return -1;
	in->vcpu = (struct boot_vcpu *)(in->mem.ram + in->plan.vcpu_gpa);
	in->time = (struct boot_time *)(in->mem.ram + in->plan.time_gpa);
	in->stats = (struct boot_stats *)(in->mem.ram + in->plan.stats_gpa);
	if (in->restored && cfg->stats != STATS_NONE) {
		in->stats_before = *in->stats;
		in->kicks_before = in->vcpu->stat_kicks;
	}
	if (open_control(in) < 0)
		return -1;
	in->rs = ring_server_new(cfg, &in->mem, (gpa_t){in->plan.ring_gpa}, &hooks);
	if (!in->rs || (in->control && ring_server_watch(in->rs, control_fd(in->control)) < 0))
		return -1;
	for (int i = 0; i < cfg->n_ports; i++)
		if (!cfg->given && (cfg->verbose || !port_of(&cfg->ports[i].host)) &&
		    cfg->ports[i].host.ss_family != AF_UNIX)
			say("port %u of the host is port %u of %s", ring_server_host_port(in->rs, i),
			    cfg->ports[i].guest, cfg->name);
	if (in->restored && load_handles(in) < 0)
		return -1;
	if (cfg->snapshots && snapshot_prepare(in) < 0)
		return -1;
	r = in->backend->create(&in->ctx, &in->mem, &in->plan);
	return r || !in->restored ? r : restore_check_cpu(&in->mem, &in->plan, in->restored);
}

/* What a restore decides about the configuration, from here on. */
static int open_restored(struct instance *in, const struct monitor_config *cfg)
{
	static struct snap_file file;

	if (cfg->restore_fd <= 0)
		return 0;
	if (restore_open(&file, cfg, &in->restored_cfg) < 0)
		return -1;
	in->cfg = &in->restored_cfg;
	in->restored = &file;
	return 0;
}

int monitor_run(const struct monitor_config *cfg)
{
	struct instance *in = &the_instance;
	int status, features;

	malloc_trim(0); /* what collecting the image left behind would stay for ever */
	in->cfg = cfg;
	in->pid = getpid();
	hostcpu_memos(cfg->memo_dir);
	in->backend = choose(cfg);
	if (!in->backend)
		return EXIT_MONITOR;
	if (cfg->n_cpus > 1 && !in->backend->cpu_run && !in->backend->cpus_serve) {
		say("--cpus %d: the monitor `%s` has one CPU only", cfg->n_cpus, in->backend->name);
		return EXIT_MONITOR;
	}
	if (cfg->restore_fd > 0 && in->backend->prepare)
		in->backend->prepare();
	if (open_restored(in, cfg) < 0 || assemble(in) < 0) {
		ring_server_restore_tty();
		return EXIT_MONITOR;
	}
	if (cfg->take_over && cfg->take_over(cfg->started_arg)) {
		in->backend->destroy(in->ctx);
		return EXIT_MONITOR;
	}
	uint64_t real = clock_ns(CLOCK_REALTIME);
	in->started_ns = cfg->started_ns && cfg->started_ns < real ? cfg->started_ns : real;
	in->here_mono_ns = clock_ns(CLOCK_MONOTONIC);
	in->started_mono_ns = in->here_mono_ns - (real - in->started_ns);
	tell_started(in);
	catch_signals(in);
	trigger_init(in);
	int err = smp_prepare(in, cfg->n_cpus);
	if (err) {
		say("cannot make a thread for another CPU: %s", strerror(-err));
		return EXIT_MONITOR;
	}
	if (in->restored && (in->snap.src || in->mem.lazy)) { /* the flat list is needed on */
		snapfile_slim(in->restored);
		in->snap.under = in->restored;
	} else if (in->restored) {
		snapfile_close(in->restored);
	}
	in->restored = NULL;
	cfg = in->cfg;
	features = ring_server_features(cfg) | HOST_control |
		   (cfg->snapshots || in->mem.lazy || workset_recording() ? HOST_snapshot : 0) |
		   (in->backend == &backend_kvm ? HOST_kvm : HOST_process) |
		   (cfg->standby_fd ? HOST_standby : 0) | (cfg->n_cpus > 1 ? HOST_smp : 0);
	restore_wait();
	smp_ready();
	in->n_host_calls = seccomp_lock_monitor(features);
	if (in->n_host_calls < 0) {
		say("cannot install the system call filter: %s", strerror(-in->n_host_calls));
		return EXIT_MONITOR;
	}
	clock_start(in->time);
	status = loop(in);
	snapshot_end(in);
	hook_answered(in); /* it never answered anybody */
	ring_server_restore_tty();
	if (cfg->stats != STATS_NONE && in->move != MOVE_DONE)
		stats_print(in);
	/* Signals still come, the timer's among them, until the process has ended: they must not find it. */
	struct backend_ctx *ctx = in->ctx;
	__atomic_store_n(&in->ctx, NULL, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	in->backend->destroy(ctx);
	return in->move == MOVE_DONE ? MONITOR_MOVED : status;
}
