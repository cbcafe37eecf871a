/* SPDX-License-Identifier: ISC */
/*
 * The ring server: carries out what the guest asks for. Knows no backend.
 */
#ifndef COWBELL_MONITOR_RING_SERVER_H
#define COWBELL_MONITOR_RING_SERVER_H

#include "abi/ring.h"
#include "monitor/gpa.h"
#include "monitor/monitor.h"

struct ring_server;

/* Memory operations go back to the backend through these. */
struct ring_server_hooks {
	void *arg;
	int (*grow)(void *arg, uint64_t new_size);
	int (*release)(void *arg, uint64_t gpa, uint64_t len);
	void (*huge)(void *arg, uint64_t gpa, uint64_t len);
	void (*stopped)(void *arg, int sig); /* RING_OP_STOP */
	int (*app)(void *arg); /* RING_READY_APP: 0 when it is there; -errno */
	bool (*cpus)(void *arg); /* ring_server_watch_cpus(): true: the wait is over */
	void (*answered)(void *arg); /* once: a peer was answered, and now the guest goes to sleep */
};

enum turn_result {
	TURN_RUN, /* let the guest go on */
	TURN_EXIT, /* RING_OP_EXIT: status in *wait_status */
	TURN_FROZEN, /* ring_server_freeze() was heeded: everything is at rest until ring_server_thaw() */
	TURN_BROKEN, /* malformed request: reason in *why; end the instance */
};

/* Which declared host system calls the configuration needs (enum host_feature bits, HOST_core among them).
 * Operations of other features are refused, so that a filter without them is never hit. */
int ring_server_features(const struct monitor_config *cfg);
/* Opens what the configuration needs (listening ports are bound here: a port in use is reported now). NULL after a message. */
struct ring_server *ring_server_new(const struct monitor_config *cfg, struct guest_mem *m, gpa_t ring,
				    const struct ring_server_hooks *hooks);
/* One doorbell: take submissions, do the I/O, wait if the guest asked and nothing completed. Returns when
 * there is a completion, the deadline passed, or ring_server_interrupt() was called. */
enum turn_result ring_server_turn(struct ring_server *rs, int *wait_status, const char **why);
/* The same without waiting, whatever the guest asked: for another CPU than the one whose wait that is. */
enum turn_result ring_server_turn_now(struct ring_server *rs, int *wait_status, const char **why);
/* Was it, in the last turn? */
bool ring_server_interrupted(const struct ring_server *rs);
/* The last turn was ended by an interrupt alone: it has nothing for the guest. */
bool ring_server_turned_for_nothing(const struct ring_server *rs);
/* Completions that the guest has not taken. From any thread. */
bool ring_server_has_completions(const struct ring_server *rs);
/* Queue an unasked event (enum ring_event); the next turn delivers it. */
void ring_server_event(struct ring_server *rs, uint32_t event, uint64_t detail);
/* Async-signal-safe: make a waiting turn return. */
void ring_server_interrupt(struct ring_server *rs);
/* A descriptor that is readable when a turn would complete something: lets instance.c kick a computing guest. */
int ring_server_poll_fd(struct ring_server *rs);
/* hooks.cpus is called when this descriptor is readable. */
int ring_server_watch_cpus(struct ring_server *rs, int fd);
/* A turn that sleeps also returns when this descriptor is readable. */
int ring_server_watch(struct ring_server *rs, int fd);
/* Was it, in the last turn? */
bool ring_server_outside(const struct ring_server *rs);
/* -p with host port 0: the port that was given. */
uint16_t ring_server_host_port(struct ring_server *rs, int index);
/* With --stats: when the first connection was accepted and the first answer was sent on one; CLOCK_MONOTONIC, 0: never. */
void ring_server_firsts(const struct ring_server *rs, uint64_t *accept_ns, uint64_t *answer_ns);
/* The result of a write to this standard stream is known when write() returns (files, most devices). */
bool ring_server_writes_at_once(int fd);
/* Async-signal-safe: put the terminal back as it was; for handlers of fatal signals and every other way out. */
void ring_server_restore_tty(void);
/* The shell's settings while we are stopped, and the program's again. */
void ring_server_suspend_tty(void);
void ring_server_resume_tty(void);
/*
 * Snapshots. Ask the guest to come to rest: some turn later TURN_FROZEN comes; thaw() answers it and lets it go on.
 * watch_ready: the turn in which the guest begins to wait for its first connection, or says that it is ready, returns at
 * once, and is_ready() is true (ready.c). *listened: not 0 when the program has listened, ever; in guest memory.
 */
void ring_server_freeze(struct ring_server *rs);
void ring_server_thaw(struct ring_server *rs, int res);
/* Between the two: what the guest says about its first *len pages (enum snap_frame, hostile); NULL: nothing. */
/* Did the guest announce its first look at its app? *spoilt: it had an effect, or a cause, outside before. */
bool ring_server_prefix(const struct ring_server *rs, bool *spoilt);
/* At rest: nothing happened since. */
bool ring_server_rests_at_prefix(const struct ring_server *rs);
const uint8_t *ring_server_census(const struct ring_server *rs, uint64_t *len);
void ring_server_watch_ready(struct ring_server *rs, bool on, const uint64_t *listened);
bool ring_server_is_ready(const struct ring_server *rs);
/* The guest's monotonic clock is not the host's, in a restored instance. */
void ring_server_set_clock(struct ring_server *rs, int64_t host_minus_guest_ns);
void ring_server_free(struct ring_server *rs);

#endif
