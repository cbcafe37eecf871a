/* SPDX-License-Identifier: ISC */
/*
 * Instances prepared before anybody asks.
 *
 * Starts with one key (docs/snapshots.md, `Starts that apps share`) are the same up to the first look at their app. Of the keys that are used most,
 * config.standby instances each have gone so far and wait; what an app that wakes needs then is to be handed to one of them.
 *
 *   PREPARING ── its first reply ──▶ READY ── standby_take(): the app's layer is sent ──▶ TAKEN ── reply 0 ──▶ a dyno's, and none of ours
 *       └──── it ends, or refuses ─────┴────────────────────────────────────────────────────┴──▶ GOING; who has asked starts as ever
 *
 * Which key a start has, and which layer, is told by the monitor of an earlier start of the app (standby_learn(), struct start_memo). The memo
 * is good as long as image, process, environment and limits are those of that start: a signature over them says so. A new
 * release or config var makes another one, and its first start is as ever.
 *
 * What a standby runs with is that of some app with the same key: so environment, command and runtime are equal, that is what a key is.
 * Rules of the network and limits are no part of it; kinds of starts are told apart by them, too. It has no secret that its taker has not.
 *
 * To prepare one and to take it costs as much as the start that it replaces. So it is done only while CPUs have time: no build
 * runs or ran a moment ago, no start waits for its turn. Apps that want memory get it first (standby_yield()), and a kind that nobody has used
 * for a while has none.
 *
 * Data: kinds[], at most MAX_KINDS; the longest unused goes. A memo of 56 bytes for each app that was started.
 */
#include "platform/standby.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi/standby.h"
#include "platform/build.h"

#define MAX_KINDS   64u
#define MOST_USED   8u /* so many kinds have standbys */
#define HALF_S	    300u /* uses count half after so long */
#define ENOUGH	    1.2 /* more than one use: the next is likely */
#define UNUSED_NS   (180 * S_NS)
#define REFILL_MS   3u /* after a start, so that its first request is answered first */
#define BUSY_MS	    5u
#define BUILD_MS    100u
#define HOUSE_MS    1000u
#define FIRST_GUESS (8ull << 20)

enum standby_state { PREPARING, READY, TAKEN, GOING };

struct kind {
	char key[65]; /* "": free */
	uint32_t generation;
	char *image, *process; /* of an app that has it */
	json_t *env;
	struct limits limits;
	double score;
	uint64_t used_ns, not_before_ns;
	unsigned n, failures; /* of its standbys; in a row */
};

struct standby {
	struct instance i; /* while it is nobody's */
	struct list all;
	struct kind *kind;
	enum standby_state state;
	int sock;
	uv_poll_t poll;
	struct sched_instance *taker;
	uint64_t memory;
};

struct start_memo {
	uint64_t signature;
	uint32_t kind, generation;
	uint8_t digest[32]; /* of the app's layer */
	uint64_t size;
};

static struct kind kinds[MAX_KINDS];
static struct list standbys = LIST_INIT(standbys);
static unsigned n_standbys, n_preparing;
static uint64_t guess = FIRST_GUESS;
static uv_timer_t refill, house;
static bool stopped;

static void refill_soon(unsigned ms);

/* --- kinds --------------------------------------------------------------------------------------------- */

static uint64_t hash(uint64_t h, const char *text)
{
	for (const char *p = text ? text : ""; *p; p++)
		h = (h ^ (unsigned char)*p) * 0x100000001b3u;
	return (h ^ 0xff) * 0x100000001b3u;
}

static uint64_t signature(const struct instance_spec *s)
{
	char *env = json_dumps(s->env, JSON_COMPACT);
	uint64_t h = hash(hash(hash(0xcbf29ce484222325u, s->image), s->process), env);

	free(env);
	return h ^ dyno_limits_key(s->limits);
}

static double score(const struct kind *k, uint64_t now)
{
	uint64_t age = (now - k->used_ns) / S_NS;
	double s = k->score;

	for (; age >= HALF_S && s > 0.01; age -= HALF_S)
		s /= 2;
	return s * (1 - 0.5 * (double)(age % HALF_S) / HALF_S);
}

static void use(struct kind *k)
{
	uint64_t now = now_ns();

	k->score = score(k, now) + 1;
	k->used_ns = now;
	refill_soon(REFILL_MS);
}

static struct kind *find_kind(const char *key, const struct limits *l)
{
	for (struct kind *k = kinds; k < kinds + MAX_KINDS; k++)
		if (!strcmp(k->key, key) && k->limits.memory == l->memory && k->limits.cpus == l->cpus &&
		    !strcmp(k->limits.egress, l->egress))
			return k;
	return NULL;
}

static void empty_kind(struct kind *k)
{
	free(k->image);
	free(k->process);
	json_decref(k->env);
	*k = (struct kind){.generation = k->generation + 1};
}

/* A free one, or that of the longest unused that has no standby; NULL: all have. */
static struct kind *new_kind(void)
{
	struct kind *best = NULL;

	for (struct kind *k = kinds; k < kinds + MAX_KINDS; k++)
		if (!k->n && (!best || k->used_ns < best->used_ns))
			best = k;
	if (best)
		empty_kind(best);
	return best;
}

/* Its example from now on: older ones may go with their releases. */
static void set_example(struct kind *k, const struct sched_instance *d)
{
	if (k->image && !strcmp(k->image, d->image))
		return;
	free(k->image);
	free(k->process);
	k->image = xstrdup(d->image);
	k->process = d->process ? xstrdup(d->process) : NULL;
}

/* --- what is known of apps ------------------------------------------------------------------------------- */

static bool hex_to_bytes(const char *hex, uint8_t out[32])
{
	for (int k = 0; k < 32; k++) {
		unsigned v;
		if (strspn(hex + 2 * k, "0123456789abcdef") < 2 || sscanf(hex + 2 * k, "%2x", &v) != 1)
			return false;
		out[k] = (uint8_t)v;
	}
	return true;
}

static bool may_share(const struct sched_instance *d, const struct limits *l)
{
	return config.standby && !stopped && d->web && !d->oneoff && d->i.number == 1 && !l->cpu_percent;
}

void standby_learn(struct sched_instance *d, const char *how)
{
	char key[65], digest[65];
	unsigned long long size;
	struct start_memo m = {.signature = d->start_signature};
	struct app *a = d->i.app;
	const struct limits *l = a ? app_limits(a) : NULL;

	if (!a || !d->start_signature || !may_share(d, l) ||
	    sscanf(how, "prefix %64s %64s %llu", key, digest, &size) != 3 || strlen(key) != 64 ||
	    !hex_to_bytes(digest, m.digest) || !size || size > STANDBY_MAX)
		return;
	struct kind *k = find_kind(key, l);
	if (!k) {
		json_t *env = dyno_env(d);
		struct instance_spec s = {.image = d->image, .process = d->process, .env = env, .limits = l};
		k = signature(&s) == d->start_signature ? new_kind() : NULL; /* else: changed since */
		if (!k) {
			json_decref(env);
			return;
		}
		strcpy(k->key, key);
		k->limits = *l;
		k->env = env;
	}
	set_example(k, d);
	use(k);
	m.size = size;
	m.kind = (uint32_t)(k - kinds);
	m.generation = k->generation;
	if (!a->start)
		a->start = xcalloc(1, sizeof(*a->start));
	*a->start = m;
}

static void forget_memo(struct app *a)
{
	free(a->start);
	a->start = NULL;
}

void standby_app_gone(struct app *a)
{
	forget_memo(a);
}

static int open_layer(const struct start_memo *m)
{
	char hex[65];

	for (int k = 0; k < 32; k++)
		sprintf(hex + 2 * k, "%02x", m->digest[k]);
	char *path = NULL;
	if (asprintf(&path, "%s/share/cowbell/blobs/sha256/%s", config.data_dir, hex) < 0)
		return -1;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	free(path);
	return fd;
}

/* --- the end of one -------------------------------------------------------------------------------------- */

static void on_closed(uv_handle_t *h)
{
	struct standby *s = h->data;

	close(s->sock);
	free(s);
}

/* It is none of ours any more: a dyno's, or gone. */
static void leave(struct standby *s)
{
	list_del(&s->all);
	n_standbys--;
	s->kind->n--;
	n_preparing -= s->state == PREPARING;
	budget_standby(-(int64_t)s->memory);
	uv_close((uv_handle_t *)&s->poll, on_closed);
	refill_soon(REFILL_MS);
}

static void end(struct standby *s)
{
	if (s->state == GOING)
		return;
	n_preparing -= s->state == PREPARING;
	s->state = GOING;
	uv_poll_stop(&s->poll);
	instance_signal(&s->i, SIGKILL);
}

/* Whoever has asked it starts as ever. */
static void refuse(struct standby *s)
{
	struct sched_instance *d = s->taker;

	s->taker = NULL;
	end(s);
	if (!d)
		return;
	d->standby = NULL;
	dyno_spawn_again(d);
}

static void on_ended(struct instance *i, int status)
{
	struct standby *s = (struct standby *)i;
	struct kind *k = s->kind;

	(void)status;
	if (s->state == PREPARING) { /* the prefix or the example is gone */
		k->failures++;
		k->not_before_ns = now_ns() + (S_NS << (k->failures < 8 ? k->failures : 8));
	}
	refuse(s);
	leave(s);
	sched_ended_one();
}

void standby_forget(struct sched_instance *d)
{
	struct standby *s = d->standby;

	if (!s)
		return;
	d->standby = NULL;
	s->taker = NULL;
	end(s);
}

bool standby_yield(void)
{
	struct standby *worst = NULL;
	uint64_t now = now_ns();

	list_for_each (l, &standbys) {
		struct standby *s = list_entry(l, struct standby, all);
		if (s->state <= READY && (!worst || score(s->kind, now) < score(worst->kind, now)))
			worst = s;
	}
	if (!worst)
		return false;
	budget_standby(-(int64_t)worst->memory); /* it goes at once */
	worst->memory = 0;
	worst->kind->not_before_ns = now + S_NS;
	end(worst);
	return true;
}

void standby_end_all(void)
{
	stopped = true;
	uv_timer_stop(&refill);
	uv_timer_stop(&house);
	list_for_each (l, &standbys)
		if (!list_entry(l, struct standby, all)->taker)
			end(list_entry(l, struct standby, all));
}

unsigned standby_count(void)
{
	return n_standbys;
}

/* --- what it says ----------------------------------------------------------------------------------------- */

static void on_reply(struct standby *s)
{
	struct standby_reply r = {0};
	ssize_t n = recv(s->sock, &r, sizeof(r), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n != sizeof(r) || r.magic != STANDBY_MAGIC || r.error || s->state == READY) {
		if (n == sizeof(r) && s->taker && s->taker->i.app)
			forget_memo(s->taker->i.app);
		refuse(s);
		return;
	}
	if (s->state == PREPARING) {
		uint64_t m = instance_memory(&s->i);
		budget_standby((int64_t)(m - s->memory));
		guess = m ? m : guess;
		s->memory = m;
		s->state = READY;
		s->kind->failures = 0;
		n_preparing--;
		refill_soon(REFILL_MS);
		return;
	}
	struct sched_instance *d = s->taker;
	if (s->state != TAKEN || !d || d->i.state != DYNO_STARTING) { /* stopped meanwhile */
		if (d)
			standby_forget(d);
		else
			end(s);
		return;
	}
	d->standby = NULL;
	s->taker = NULL;
	leave(s);
	instance_hand_over(&s->i, &d->i, &dyno_events);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct standby *s = h->data;

	(void)events;
	if (status < 0) {
		uv_poll_stop(h);
		return;
	}
	on_reply(s);
}

/* Its port is open: the reply was there before. */
static void on_listening(struct instance *i)
{
	struct standby *s = (struct standby *)i;

	if (s->state == TAKEN)
		on_reply(s);
}

/* --- preparing -------------------------------------------------------------------------------------------- */

static const struct instance_events events = {.listening = on_listening, .ended = on_ended};

static void prepare(struct kind *k)
{
	struct standby *s = xcalloc(1, sizeof(*s));
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
		free(s);
		return;
	}
	struct instance_spec spec = {.image = k->image,
				     .process = k->process,
				     .env = k->env,
				     .limits = &k->limits,
				     .stdio = {-1, -1, -1},
				     .port = true,
				     .standby = pair[1]};
	s->sock = pair[0];
	s->kind = k;
	snprintf(s->i.dyno, sizeof(s->i.dyno), "standby");
	int r = instance_start(&s->i, &spec, &events); /* takes pair[1] */
	if (r) {
		plog("error", NULL, "a standby cannot be started: %s", strerror(-r));
		close(pair[0]);
		free(s);
		k->not_before_ns = now_ns() + 10 * S_NS;
		return;
	}
	s->poll.data = s;
	uv_poll_init(loop, &s->poll, s->sock);
	uv_poll_start(&s->poll, UV_READABLE | UV_DISCONNECT, on_poll);
	uv_unref((uv_handle_t *)&s->poll);
	list_add_tail(&standbys, &s->all);
	n_standbys++;
	n_preparing++;
	k->n++;
	s->memory = guess;
	budget_standby((int64_t)guess);
}

static bool among_most_used(const struct kind *k, double mine, uint64_t now)
{
	unsigned better = 0;

	for (const struct kind *o = kinds; o < kinds + MAX_KINDS; o++)
		better += o != k && *o->key && score(o, now) > mine;
	return better < MOST_USED;
}

/* The kind that needs one more most. */
static struct kind *neediest(uint64_t now)
{
	struct kind *best = NULL;
	double need = 0;

	for (struct kind *k = kinds; k < kinds + MAX_KINDS; k++) {
		if (!*k->key || k->n >= config.standby || now < k->not_before_ns ||
		    now - k->used_ns > UNUSED_NS)
			continue;
		double mine = score(k, now);
		if (mine < ENOUGH || mine / (k->n + 1) <= need || !among_most_used(k, mine, now))
			continue;
		best = k;
		need = mine / (k->n + 1);
	}
	return best;
}

static void on_refill(uv_timer_t *t)
{
	struct kind *k = stopped || n_preparing ? NULL : neediest(now_ns());

	(void)t;
	if (!k)
		return;
	if (build_any())
		refill_soon(BUILD_MS);
	else if (!budget_is_calm(guess))
		refill_soon(BUSY_MS);
	else
		prepare(k);
}

/* Those of kinds that nobody uses any more end. */
static void on_house(uv_timer_t *t)
{
	uint64_t now = now_ns();
	bool any = false;

	list_for_each_safe (l, &standbys) {
		struct standby *s = list_entry(l, struct standby, all);
		if (s->state <= READY && now - s->kind->used_ns > UNUSED_NS)
			end(s);
	}
	for (const struct kind *k = kinds; k < kinds + MAX_KINDS; k++)
		any |= *k->key && now - k->used_ns <= UNUSED_NS;
	if (!any && !n_standbys)
		uv_timer_stop(t);
	else
		refill_soon(REFILL_MS);
}

static void refill_soon(unsigned ms)
{
	if (stopped || !config.standby)
		return;
	if (!uv_is_active((uv_handle_t *)&refill))
		uv_timer_start(&refill, on_refill, ms, 0);
	if (!uv_is_active((uv_handle_t *)&house))
		uv_timer_start(&house, on_house, HOUSE_MS, HOUSE_MS);
}

void standby_open(void)
{
	uv_timer_init(loop, &refill);
	uv_timer_init(loop, &house);
	uv_unref((uv_handle_t *)&refill);
	uv_unref((uv_handle_t *)&house);
}

/* --- taking ----------------------------------------------------------------------------------------------- */

static bool send_app(struct standby *s, const struct start_memo *m, const char *image, int layer)
{
	struct standby_app app = {.magic = STANDBY_MAGIC, .version = STANDBY_VERSION, .size = m->size};
	struct iovec iov = {&app, sizeof(app)};
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} c = {{0}};
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof(c.buf)};
	struct cmsghdr *cm = CMSG_FIRSTHDR(&h);

	snprintf(app.program, sizeof(app.program), "image:%s", image);
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &layer, sizeof(layer));
	return sendmsg(s->sock, &h, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(app);
}

static struct standby *ready_one(const struct kind *k)
{
	list_for_each (l, &standbys) {
		struct standby *s = list_entry(l, struct standby, all);
		if (s->kind == k && s->state == READY)
			return s;
	}
	return NULL;
}

bool standby_take(struct sched_instance *d, const struct instance_spec *s)
{
	const struct start_memo *m = d->i.app->start;

	d->start_signature = 0;
	if (!may_share(d, s->limits))
		return false;
	d->start_signature = signature(s);
	if (!m || m->signature != d->start_signature || kinds[m->kind].generation != m->generation)
		return false;
	struct kind *k = &kinds[m->kind];
	struct standby *one = ready_one(k);
	if (!one)
		return false; /* its monitor tells the key again */
	int layer = open_layer(m);
	if (layer < 0) {
		forget_memo(d->i.app);
		return false;
	}
	bool sent = send_app(one, m, d->image, layer);
	close(layer);
	if (!sent) {
		end(one);
		return false;
	}
	one->state = TAKEN;
	one->taker = d;
	d->standby = one;
	d->i.started_ns = now_ns();
	set_example(k, d);
	use(k);
	return true;
}
