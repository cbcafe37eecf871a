/* SPDX-License-Identifier: ISC */
/*
 * Taking a snapshot.
 *
 *   snapshot_begin() -> PREPARING --thread--> READY -> ring event -> ASKED -> guest rests, TURN_FROZEN
 *        -> snapshot_take() -> COPIED, thaw --thread--> WRITTEN -> done()
 *
 * The program stands still only in snapshot_take(), which copies what changed (snapcopy.c) and the small state
 * of the ring server. What takes time, room for the copy before and the file after (snapwrite.c), is the affair of a thread
 * that exists for this one snapshot and has all signals blocked. It touches nothing but the job, guest RAM
 * (reading, before the rest) and files. It tells of its progress by a signal, since the loop may sleep or run the guest.
 *
 * Two kinds rest until the file is written, because the instance will not run on here: one that ends with it
 * (in->snap.still), and a move (in->snap.hold).
 */
#include "monitor/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/clock.h"
#include "monitor/instance.h"
#include "monitor/load.h"
#include "monitor/ring_server.h"
#include "monitor/seccomp.h"
#include "monitor/snapwrite.h"

/* the thread: pthread_create() with a stack of ours, semaphores, pthread_join() */
HOST_SYSCALL(snapshot, clone);
HOST_SYSCALL(snapshot, set_robust_list);
HOST_SYSCALL(snapshot, rseq);
HOST_SYSCALL(snapshot, rt_sigprocmask);
HOST_SYSCALL(snapshot, rt_sigaction); /* pthread_create(), the first time */
HOST_SYSCALL(snapshot, futex);
HOST_SYSCALL(snapshot, exit);
HOST_SYSCALL(snapshot, kill);
#ifdef __SANITIZE_ADDRESS__ /* its start of a thread */
HOST_SYSCALL(snapshot, gettid);
HOST_SYSCALL(snapshot, sigaltstack);
HOST_SYSCALL(snapshot, sched_yield);
HOST_SYSCALL(snapshot, sched_getaffinity);
HOST_SYSCALL(snapshot, madvise);
#endif

#define PG	   SNAP_PAGE
#define STACK_SIZE (256u << 10)
#define SIG_WAKE   (SIGRTMIN + 2)

enum job_phase {
	JOB_PREPARING, /* the thread's */
	JOB_READY,
	JOB_ASKED, /* the guest is to rest */
	JOB_COPIED, /* the thread's */
	JOB_WRITTEN,
};

struct snap_job {
	struct instance *in;
	struct snap_write w;
	int phase; /* enum job_phase; atomic */
	int err;
	bool threaded; /* else no thread was to be had: all is done in the loop */
	pthread_t thread;
	void *stack;
	sem_t go; /* the thread may go on: COPIED, or cancelled */
	struct snapshot_result result;
};

/* --- before the filter ------------------------------------------------------------- */

static struct instance *the_instance; /* SIG_WAKE needs it */

static void on_wake(int sig)
{
	struct instance *in = the_instance;

	(void)sig;
	if (in->ctx)
		in->backend->interrupt(in->ctx);
	if (in->rs)
		ring_server_interrupt(in->rs);
}

static void catch_wake(struct instance *in)
{
	struct sigaction sa = {.sa_handler = on_wake, .sa_flags = SA_RESTART};

	the_instance = in;
	sigfillset(&sa.sa_mask);
	sigaction(SIG_WAKE, &sa, NULL);
}

void snapshot_dropped(struct instance *in, uint64_t gpa, uint64_t len)
{
	for (uint64_t i = gpa / PG; in->snap.dropped && i < (gpa + len) / PG; i++)
		in->snap.dropped[i / 8] |= (uint8_t)(1u << i % 8);
}

/* What must be found out while files may still be looked at. */
int snapshot_prepare(struct instance *in)
{
	const struct monitor_config *cfg = in->cfg;
	struct snap_source *src = calloc(1, sizeof(*src));

	if (!src)
		return -ENOMEM;
	for (int i = 0; i < cfg->n_layers; i++) {
		struct stat st;
		char link[64];
		ssize_t n = 0;

		if (fstat(cfg->layer_fd[i], &st))
			continue;
		/* made for this run, or embedded in the snapshot that we come from */
		src->embed[i] = st.st_nlink == 0 || cfg->layer_off[i];
		if (cfg->layer_id[i]) {
			snprintf(src->id[i], sizeof(src->id[i]), "%s", cfg->layer_id[i]);
		} else if (!src->embed[i]) {
			snprintf(link, sizeof(link), "/proc/self/fd/%d", cfg->layer_fd[i]);
			n = readlink(link, src->id[i], sizeof(src->id[i]) - 1);
			src->id[i][n > 0 ? n : 0] = 0;
		}
	}
	in->snap.pagemap_fd = in->mem.ram_fd < 0 ? open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC) : -1;
	if (in->restored)
		in->snap.dropped = calloc(1, in->mem.ram_max / PG / 8 + 1);
	catch_wake(in);
	in->snap.src = src;
	return in->restored && !in->snap.dropped ? -ENOMEM : 0;
}

/* Once, and only if a snapshot is taken at all. */
static int hash_source(struct instance *in)
{
	struct snap_source *src = in->snap.src;
	int r = src->hashed ? 0 : load_libos_digest(src->libos);

	for (int i = 0; i < in->cfg->n_layers && !src->hashed && !r; i++)
		r = snap_layer_print(in->cfg->layer_fd[i], in->cfg->layer_off[i], in->cfg->layer_size[i],
				     src->print[i]);
	src->hashed = !r;
	return r;
}

void snapshot_watch_ready(struct instance *in, bool on)
{
	ring_server_watch_ready(in->rs, on, &in->stats->first_listen_tsc);
}

bool snapshot_is_ready(const struct instance *in)
{
	return ring_server_is_ready(in->rs);
}

/* --- the thread -------------------------------------------------------------------------- */

static int phase(const struct snap_job *j)
{
	return __atomic_load_n(&j->phase, __ATOMIC_ACQUIRE);
}

static void set_phase(struct snap_job *j, enum job_phase to)
{
	__atomic_store_n(&j->phase, to, __ATOMIC_RELEASE);
}

static void prepare(struct snap_job *j)
{
	j->err = hash_source(j->in);
	if (!j->err)
		j->err = snap_pages_prepare(&j->w.pages);
	set_phase(j, JOB_READY);
}

static void *run_thread(void *arg)
{
	struct snap_job *j = arg;

	if (phase(j) == JOB_PREPARING) {
		prepare(j);
		kill(j->in->pid, SIG_WAKE);
	}
	while (sem_wait(&j->go))
		;
	if (phase(j) == JOB_COPIED) {
		j->err = snap_write(&j->w);
		set_phase(j, JOB_WRITTEN);
		kill(j->in->pid, SIG_WAKE);
	}
	return NULL;
}

/* With a stack of our own: pthread_create() would need mprotect() for one, and that could make memory executable. */
static bool start_thread(struct snap_job *j)
{
	pthread_attr_t a;
	sigset_t all;
	bool ok;

	j->stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1,
			0);
	if (j->stack == MAP_FAILED) {
		j->stack = NULL;
		return false;
	}
	if (mmap(j->stack, PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		return false;
	sigfillset(&all);
	pthread_attr_init(&a);
	pthread_attr_setstack(&a, j->stack, STACK_SIZE);
	ok = !pthread_attr_setsigmask_np(&a, &all) && !pthread_create(&j->thread, &a, run_thread, j);
	pthread_attr_destroy(&a);
	return ok;
}

static void end_thread(struct snap_job *j)
{
	if (j->threaded)
		pthread_join(j->thread, NULL);
	j->threaded = false;
}

/* --- beginning and end ---------------------------------------------------------------------- */

static struct snap_job *job_new(struct instance *in, int fd)
{
	struct snap_job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->in = in;
	j->w.fd = fd;
	j->w.pages.m = &in->mem;
	j->w.pages.pagemap_fd = in->snap.pagemap_fd;
	j->w.pages.dropped = in->snap.dropped;
	sem_init(&j->go, 0, 0);
	return j;
}

static void job_free(struct snap_job *j)
{
	end_thread(j);
	if (j->stack)
		munmap(j->stack, STACK_SIZE);
	snap_pages_free(&j->w.pages);
	snap_tables_free(&j->w.t);
	sem_destroy(&j->go);
	free(j);
}

static void ask_for_rest(struct snap_job *j)
{
	set_phase(j, JOB_ASKED);
	ring_server_freeze(j->in->rs);
	j->in->backend->kick(j->in->ctx);
}

int snapshot_begin(struct instance *in, int fd, snapshot_done_fn *done, void *arg)
{
	struct snap_job *j;

	if (!in->snap.src)
		return -ENOTSUP;
	if (in->snap.done)
		return -EBUSY;
	j = job_new(in, fd);
	if (!j)
		return -ENOMEM;
	in->snap.job = j;
	in->snap.done = done;
	in->snap.arg = arg;
	if (in->snap.now)
		prepare(j);
	j->threaded = start_thread(j);
	if (!j->threaded && !in->snap.now)
		prepare(j);
	if (phase(j) == JOB_READY)
		snapshot_step(in);
	return 0;
}

/* The job's end, one way or the other. */
static void finish(struct instance *in)
{
	struct snap_job *j = in->snap.job;
	snapshot_done_fn *done = in->snap.done;
	struct snapshot_result result;
	int err;

	end_thread(j);
	err = j->err;
	result = j->result;
	result.bytes = j->w.h.file_size;
	result.pages = j->w.h.stored_pages;
	job_free(j);
	in->snap.job = NULL;
	in->snap.done = NULL;
	done(in->snap.arg, err, err ? strerror(-err) : "", &result);
}

/* It does not come to writing. */
static void give_up(struct snap_job *j)
{
	j->w.pages.cancel = true;
	sem_post(&j->go);
	end_thread(j);
}

void snapshot_step(struct instance *in)
{
	struct snap_job *j = in->snap.job;

	if (!j)
		return;
	if (phase(j) == JOB_READY && !j->err) {
		ask_for_rest(j);
	} else if (phase(j) == JOB_READY) {
		give_up(j);
		finish(in);
	} else if (phase(j) == JOB_WRITTEN) {
		finish(in);
	}
}

void snapshot_end(struct instance *in)
{
	struct snap_job *j = in->snap.job;

	if (!j)
		return;
	if (phase(j) >= JOB_COPIED) {
		end_thread(j);
		finish(in);
		return;
	}
	give_up(j);
	job_free(j);
	in->snap.job = NULL;
}

/* --- at rest -------------------------------------------------------------------------------- */

static void describe(struct instance *in, struct snap_header *h)
{
	const struct load_plan *p = &in->plan;
	const struct boot_info *bi = load_boot_info(&in->mem, p);

	*h = (struct snap_header){
		.magic = SNAP_MAGIC,
		.version = SNAP_VERSION,
		.size = sizeof(*h),
		.plat = in->backend == &backend_kvm ? BOOT_PLAT_KVM : BOOT_PLAT_PROCESS,
		.ram_size = in->mem.ram_size,
		.ram_max = in->mem.ram_max,
		.xcr0 = bi->xcr0,
		.xstate_size = bi->xstate_size,
		.generation = bi->generation,
		.uid = in->cfg->uid,
		.stop_signal = (uint32_t)in->cfg->stop_signal,
		.gid = in->cfg->gid,
		.boot_flags = bi->flags,
		.cfg_flags = (in->cfg->n_egress ? SNAP_F_EGRESS : 0) | (in->cfg->tty ? SNAP_F_TTY : 0),
		.boot_info_va = p->boot_info_va,
		.cr3_gpa = p->cr3_gpa,
		.stack_top = p->stack_top,
		.exc_stack_top = p->exc_stack_top,
		.cpu_va = p->cpu_va,
		.stub_va = p->stub_va,
		.stub_gpa = p->stub_gpa,
		.vcpu_gpa = p->vcpu_gpa,
		.ring_gpa = p->ring_gpa,
		.boot_info_gpa = p->boot_info_gpa,
		.time_gpa = p->time_gpa,
		.stats_gpa = p->stats_gpa,
		.libos_va = p->libos_text_va,
	};
	memcpy(h->libos, in->snap.src->libos, sizeof(h->libos));
	memcpy(h->cpu_features, bi->cpu_features, sizeof(h->cpu_features));
	memcpy(h->instance_id, in->id, sizeof(h->instance_id));
	clock_guest_now(in->time, &h->mono_ns, &h->real_ns);
}

/* What it comes from is the parent, if who owns the files can find it again. */
static void name_parent(struct instance *in, struct snap_write *w)
{
	const struct snap_file *from = in->snap.under;

	if (!from)
		return;
	w->under = from->flat;
	w->n_under = from->n_flat;
	w->delta = in->cfg->restore_name && !in->snap.full && !in->snap.bare &&
		   in->cfg->n_restore_parents + 2 <= SNAP_MAX_CHAIN;
	if (!w->delta)
		return;
	w->h.parent = snap_put_string(&w->t, in->cfg->restore_name);
	memcpy(w->h.parent_digest, from->h.digest, sizeof(w->h.parent_digest));
}

static void list_layers(struct instance *in, struct snap_write *w)
{
	const struct monitor_config *cfg = in->cfg;
	const struct snap_source *src = in->snap.src;

	w->n_layers = (uint32_t)cfg->n_layers;
	for (int i = 0; i < cfg->n_layers; i++) {
		w->layers[i] = (struct snap_layer){.size = cfg->layer_size[i],
						   .va = in->mem.regions[i + 1].r.va,
						   .id = snap_put_string(&w->t, src->id[i]),
						   .window = (uint32_t)(cfg->layer_window[i] / PG)};
		memcpy(w->layers[i].print, src->print[i], 32);
		w->embed[i].fd = src->embed[i] && !in->snap.bare ? cfg->layer_fd[i] : -1;
		w->embed[i].off = cfg->layer_off[i];
	}
}

/* All but the pages. */
static int gather(struct instance *in, struct snap_write *w)
{
	const struct monitor_config *cfg = in->cfg;
	struct snap_tables *t = &w->t;
	struct snap_header *h = &w->h;

	describe(in, h);
	snap_put_string(t, "");
	h->name = snap_put_string(t, cfg->name);
	h->exe = snap_put_string(t, cfg->exe);
	h->hostname = snap_put_string(t, cfg->hostname);
	name_parent(in, w);
	list_layers(in, w);
	w->n_maps = (uint32_t)in->plan.n_maps;
	for (uint32_t i = 0; i < w->n_maps; i++)
		w->maps[i] = (struct snap_map){in->plan.maps[i].va, in->plan.maps[i].gpa,
					       in->plan.maps[i].len, in->plan.maps[i].prot, 0};
	w->n_ports = (uint32_t)cfg->n_ports;
	for (int i = 0; i < cfg->n_ports; i++)
		w->ports[i] = (struct snap_port){cfg->ports[i].guest, 0};
	w->n_volumes = (uint32_t)cfg->n_volumes;
	for (int i = 0; i < cfg->n_volumes; i++)
		w->volumes[i] = (struct snap_volume){snap_put_string(t, cfg->volumes[i].guest_dir),
						     cfg->volumes[i].ro};
	return ring_server_save(in->rs, t, h) && !t->failed ? 0 : -ENOMEM;
}

static int copy_all(struct instance *in, struct snap_job *j)
{
	uint64_t n_census;
	const uint8_t *census = ring_server_census(in->rs, &n_census);
	int r;

	/* an instance that went on before it came to rest has seen what it should not */
	if (in->cfg->snapshot_at == SNAPSHOT_AT_PREFIX && !ring_server_rests_at_prefix(in->rs))
		return -ESTALE;
	r = gather(in, &j->w);

	return r ? r : snap_pages_copy(&j->w.pages, census, n_census);
}

void snapshot_take(struct instance *in)
{
	struct snap_job *j = in->snap.job;
	bool stay = in->snap.hold || in->snap.still;
	uint64_t start = clock_ns_now();

	j->err = copy_all(in, j);
	j->w.no_sync = in->snap.bare;
	if (j->err) {
		give_up(j);
	} else {
		set_phase(j, JOB_COPIED);
		sem_post(&j->go);
		if (!j->threaded)
			j->err = snap_write(&j->w);
		if (stay)
			end_thread(j);
	}
	if (j->err || !in->snap.hold)
		ring_server_thaw(in->rs, 0);
	j->result.pause_ns = clock_ns_now() - start;
	if (j->err || stay || !j->threaded)
		finish(in);
}
