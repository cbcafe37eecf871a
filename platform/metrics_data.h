/* SPDX-License-Identifier: ISC */
/* What metrics.c counts, for those who show it: metrics_text.c and the dashboard. */
#ifndef COWBELL_PLATFORM_METRICS_DATA_H
#define COWBELL_PLATFORM_METRICS_DATA_H

#include "platform/hist.h"
#include "platform/metrics.h"

enum how { HOW_BOOT, HOW_PREFIX, HOW_SNAPSHOT, HOW_STANDBY, HOW_OTHER, N_HOW };
extern const char *const how_names[N_HOW];
enum phase { PHASE_QUEUE, PHASE_START, PHASE_CONNECT, PHASE_SERVICE, PHASE_TOTAL, N_PHASES };
extern const char *const phase_names[N_PHASES];

/* Durations: their sum, too. */
struct timing {
	struct hist h;
	uint64_t count, sum_us;
};

/* The last ten minutes: counts of each second, latencies of each ten. Slots are used in turn; `sec` says whose one is. */
#define SERIES_SECONDS 600
#define SERIES_STEP    10
struct series {
	struct second {
		uint32_t sec; /* of the monotonic clock */
		uint32_t requests, errors; /* errors: 5xx */
		uint32_t cold;
	} second[SERIES_SECONDS];
	struct step {
		uint32_t step; /* sec / SERIES_STEP */
		struct hist h;
	} step[SERIES_SECONDS / SERIES_STEP];
};
/* A second's slot, or NULL if nothing happened in it. */
const struct second *series_second(const struct series *s, uint32_t sec);
/* Latencies from `since` on, added to h. */
void series_latency(const struct series *s, uint32_t since, struct hist *h);
uint32_t series_now(void);

struct cold_start { /* one of the last ones */
	char app_id[37];
	int64_t us;
	enum how how;
	uint32_t phase_us[N_PHASES];
};
#define COLD_STARTS_KEPT 256

#define METRICS_FEW	 8
struct metrics_app {
	uint64_t requests, bytes;
	uint32_t by_class[6]; /* 0: no status (the client left); 1xx .. 5xx */
	uint32_t cold, starts, builds, builds_failed;
	enum how how; /* of its last start */
	uint32_t start_us; /* of its last start that no cold request was counted with yet */
	uint32_t spans_sec; /* when its feature was looked up; spans.c */
	bool spans;
	uint32_t few[METRICS_FEW]; /* its first latencies, while there is no histogram */
	struct hist *hist;
};

struct metrics_all {
	uint64_t by_class[6], by_code[100], bytes;
	struct timing latency; /* of all requests */
	struct timing starts[N_HOW];
	struct timing cold[N_HOW][N_PHASES];
	struct timing builds;
	uint64_t builds_failed;
	struct series series;
	struct cold_start recent[COLD_STARTS_KEPT];
	uint64_t n_recent; /* ever; the slot of the next is n_recent % COLD_STARTS_KEPT */
	/* of instances, each SERIES_STEP seconds while there are any */
	struct sample {
		uint32_t step, running;
		uint64_t memory;
	} sample[SERIES_SECONDS / SERIES_STEP];
};
extern struct metrics_all metrics_all;

/* Latencies of an app, all that are remembered, added to h. */
void metrics_app_latency(const struct app *a, struct hist *h);
/* The series of a user's own apps, or of one app: kept from when it was first asked for. NULL in the beginning: it begins now. */
const struct series *metrics_series_user(const struct user *u);
const struct series *metrics_series_app(const struct app *a);
uint64_t metrics_memory_budget(void);
int64_t metrics_since_us(void); /* when this process began */
uint64_t metrics_rss(void); /* of this process */

/* --- text that grows, for answers ------------------------------------------------------------------- */
struct text {
	char *p;
	size_t n, cap;
};
void text_add(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
