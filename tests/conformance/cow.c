/* SPDX-License-Identifier: ISC */
/* Copy-on-write: what a child and its parent see of each other's stores, in every kind of mapping. */
#include "conf.h"
#include <sys/resource.h>
#include <sys/wait.h>

#define PG 4096ul
#define MB (1ul << 20)

static char *map(size_t n, int prot, int flags, int fd)
{
	char *p = mmap(NULL, n, prot, flags, fd, 0);
	if (p == MAP_FAILED) {
		perror("mmap");
		exit(3);
	}
	return p;
}
static char *anon(size_t n)
{
	return map(n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}
/* Run fn(arg) in a child; its status byte. */
static int child(int (*fn)(void *), void *arg)
{
	fflush(stdout);
	pid_t p = fork();
	if (!p)
		_exit(fn(arg));
	int st = -1;
	if (p < 0 || waitpid(p, &st, 0) != p)
		return 255;
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}
static uint64_t rng = 88172645463325252ull;
static uint64_t rnd(uint64_t n)
{
	rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
	return rng % n;
}

/* --- one page, many pages ----------------------------------------------------- */

static int write_all(void *a)
{
	char *p = a;
	for (size_t i = 0; i < 64; i++) {
		if (p[i * PG] != (char)i)
			return 1;
		p[i * PG] = 99;
	}
	for (size_t i = 0; i < 64; i++)
		if (p[i * PG] != 99 || p[i * PG + 1] != 5)
			return 2;
	return 0;
}
static int data_var = 7, bss_var[5000];
static int change_data(void *a)
{
	int local = *(int *)a;
	if (data_var != 7 || bss_var[4000] != 3 || local != 11)
		return 1;
	data_var = 8;
	bss_var[4000] = 4;
	*(int *)a = 12;
	return 0;
}
static int read_big(void *a)
{
	char *p = a;
	for (size_t i = 0; i < 16 * MB; i += PG)
		if (p[i] != (char)(i >> 12))
			return 1;
	return 0;
}
static int scatter_big(void *a)
{
	char *p = a;
	for (int k = 0; k < 500; k++)
		p[rnd(16 * MB / PG) * PG + 100] = 1;
	for (size_t i = 0; i < 16 * MB; i += PG)
		if (p[i] != (char)(i >> 12))
			return 1;
	return 0;
}
static int unmap_middle(void *a)
{
	char *p = a;
	if (munmap(p + 3 * MB + 5 * PG, 4 * MB) || mprotect(p, MB, PROT_READ) ||
	    madvise(p + 9 * MB + PG, PG, MADV_DONTNEED))
		return 1;
	if (p[9 * MB + PG] != 0 || p[9 * MB] != (char)(9 * MB >> 12) ||
	    p[9 * MB + 2 * PG] != (char)((9 * MB >> 12) + 2))
		return 2;
	char *q = mremap(p + 10 * MB + PG, 2 * MB, 3 * MB, MREMAP_MAYMOVE);
	if (q == MAP_FAILED || q[PG] != (char)((10 * MB >> 12) + 2))
		return 3;
	q[PG] = 77;
	return 0;
}
static bool big_intact(const char *p)
{
	for (size_t i = 0; i < 16 * MB; i += PG)
		if (p[i] != (char)(i >> 12) || p[i + 100] != 0)
			return false;
	return true;
}

/* --- protections, advice ---------------------------------------------------------- */

static int none_to_rw(void *a)
{
	char *p = a;
	if (mprotect(p, 4 * PG, PROT_READ | PROT_WRITE) || p[0] != 1 || p[3 * PG] != 4)
		return 1;
	p[0] = 50;
	return 0;
}
static int see_zero(void *a)
{
	char *p = a;
	return p[0] || p[PG];
}
static int touch(void *a)
{
	return *(volatile char *)a;
}
static int mincore_gone(void *a)
{
	unsigned char v[1];
	return mincore(a, PG, v) == -1 && errno == ENOMEM ? 0 : 1;
}
static int mlocked(void *a)
{
	struct rlimit rl = {0, 0};
	/* locks are not inherited: unlocking and discarding work */
	(void)rl;
	return madvise(a, PG, MADV_DONTNEED) ? 1 : *(char *)a;
}

/* --- trees of forks with random stores, against a model ------------------------------ */

#define TP 600 /* pages of the tree test */
static uint32_t model[TP];
static bool tree_ok(uint32_t *m)
{
	for (size_t i = 0; i < TP; i++)
		if (m[i * 1024] != model[i])
			return false;
	return true;
}
static void tree_write(uint32_t *m, int n)
{
	while (n--) {
		size_t at = rnd(TP), len = rnd(8) ? 1 : 1 + rnd(100);
		for (size_t i = at; i < at + len && i < TP; i++)
			m[i * 1024] = model[i] = (uint32_t)rnd(1u << 31);
	}
}
static int tree(uint32_t *m, int depth)
{
	for (int k = 0; k < 3; k++) {
		tree_write(m, 40);
		if (!tree_ok(m))
			return 1;
		if (depth && rnd(4)) {
			fflush(stdout);
			rng += 77;
			pid_t p = fork();
			if (!p) {
				rng ^= (uint64_t)(depth * 3 + k + 1) << 33;
				_exit(tree(m, depth - 1));
			}
			tree_write(m, 30); /* while the child runs */
			if (!tree_ok(m))
				return 2;
			int st;
			if (waitpid(p, &st, 0) != p || !WIFEXITED(st) || WEXITSTATUS(st))
				return WIFEXITED(st) ? 10 + WEXITSTATUS(st) : 9;
			if (!tree_ok(m))
				return 3;
		}
	}
	return 0;
}

/* --- files --------------------------------------------------------------------------- */

static char *priv, *shared;
static int file_child(void *a)
{
	int fd = *(int *)a;
	if (priv[0] != 'A' || priv[PG] != 'b' || shared[0] != 'a')
		return 1;
	priv[0] = 'C';
	priv[2 * PG] = 'D';
	shared[PG] = 'S';
	char c;
	if (pread(fd, &c, 1, (off_t)PG) != 1 || c != 'S')
		return 2;
	if (pwrite(fd, "W", 1, 3 * PG) != 1 || shared[3 * PG] != 'W')
		return 3;
	return 0;
}
static int truncate_child(void *a)
{
	return ftruncate(*(int *)a, (off_t)PG) ? 1 : 0;
}
static void on_bus(int s)
{
	_exit(40 + (s == SIGBUS));
}
static int bus_child(void *a)
{
	signal(SIGBUS, on_bus);
	return *(volatile char *)a;
}
static int exec_true(void *a)
{
	execl("/proc/self/exe", "cow", "ends", (char *)NULL);
	return 1;
}
static int grow_heap(void *a)
{
	char *b = sbrk(0);
	if (b != a || sbrk(MB) != b)
		return 1;
	memset(b, 3, MB);
	return b[MB - 1] != 3;
}
static int deep_stack(void *a)
{
	volatile char buf[256 * 1024];
	for (size_t i = 0; i < sizeof(buf); i += PG)
		buf[i] = 1;
	return buf[0] + buf[sizeof(buf) - PG] != 2 || *(int *)a != 5;
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return 0; /* exec_true */
	conf_dir();
	char *p = anon(64 * PG);
	for (size_t i = 0; i < 64; i++)
		p[i * PG] = (char)i, p[i * PG + 1] = 5;
	CHECK("child_writes_all", child(write_all, p) == 0);
	bool same = true;
	for (size_t i = 0; i < 64; i++)
		same &= p[i * PG] == (char)i;
	CHECK("parent_keeps_all", same);
	CHECK("again", child(write_all, p) == 0 && p[PG] == 1);
	bss_var[4000] = 3;
	int local = 11;
	CHECK("data_bss_stack",
	      child(change_data, &local) == 0 && data_var == 7 && bss_var[4000] == 3 && local == 11);

	/* large enough for 2 MiB pages */
	char *big = anon(16 * MB);
	for (size_t i = 0; i < 16 * MB; i += PG)
		big[i] = (char)(i >> 12);
	CHECK("big_read", child(read_big, big) == 0);
	for (int i = 0; i < 3; i++)
		CHECK("big_scatter", child(scatter_big, big) == 0 && big_intact(big));
	CHECK("big_unmap_protect_move", child(unmap_middle, big) == 0 && big_intact(big));
	{
		int pp[2];
		char c;
		pipe(pp);
		pid_t k = fork();
		if (!k) {
			read(pp[0], &c, 1); /* the parent has changed all of it */
			_exit(big_intact(big) ? 0 : 1);
		}
		for (size_t i = 0; i < 16 * MB; i += PG)
			big[i]++;
		write(pp[1], "x", 1);
		int st;
		waitpid(k, &st, 0);
		CHECK("parent_stores_unseen", st == 0);
		bool plus = true;
		for (size_t i = 0; i < 16 * MB; i += PG)
			plus &= big[i] == (char)((i >> 12) + 1);
		CHECK("parent_stores_there", plus);
	}
	munmap(big, 16 * MB);

	/* protections and advice */
	char *n = anon(4 * PG);
	for (int i = 0; i < 4; i++)
		n[i * PG] = (char)(i + 1);
	mprotect(n, 4 * PG, PROT_NONE);
	CHECK("none_segv", child(touch, n) == 128 + SIGSEGV);
	CHECK("none_becomes_rw", child(none_to_rw, n) == 0);
	mprotect(n, 4 * PG, PROT_READ);
	CHECK("none_parent_keeps", n[0] == 1 && n[3 * PG] == 4);
	char *w = anon(2 * PG);
	w[0] = w[PG] = 9;
	CHECK("wipeonfork", madvise(w, 2 * PG, MADV_WIPEONFORK) == 0 && child(see_zero, w) == 0 && w[0] == 9);
	CHECK("keeponfork", madvise(w, 2 * PG, MADV_KEEPONFORK) == 0 && child(touch, w) == 9);
	CHECK("dontfork", madvise(w, 2 * PG, MADV_DONTFORK) == 0 && child(touch, w) == 128 + SIGSEGV);
	CHECK("dontfork_mincore", child(mincore_gone, w) == 0);
	CHECK("dofork", madvise(w, 2 * PG, MADV_DOFORK) == 0 && child(touch, w) == 9);
	char *l = anon(PG);
	l[0] = 4;
	CHECK("mlock_not_inherited", mlock(l, PG) == 0 && child(mlocked, l) == 0 && l[0] == 4);
	CHECK_ERR("mlock_stays_here", madvise(l, PG, MADV_DONTNEED), EINVAL);

	/* trees */
	uint32_t *m = (uint32_t *)anon(TP * PG);
	for (int seed = 1; seed <= 4; seed++) {
		rng = 0x9e3779b97f4a7c15ull * (uint64_t)seed;
		CHECK("tree", tree(m, 4) == 0);
	}
	munmap(m, TP * PG);
	/* the same in memory that was 2 MiB pages before */
	char *h = (char *)(((uintptr_t)anon(6 * MB) + 2 * MB - 1) & ~(2 * MB - 1));
	memset(h, 0, 4 * MB);
	memset(model, 0, sizeof(model));
	for (int seed = 5; seed <= 7; seed++) {
		rng = 0x9e3779b97f4a7c15ull * (uint64_t)seed;
		CHECK("tree_huge", tree((uint32_t *)h, 4) == 0);
	}

	/* files */
	int fd = open("f", O_CREAT | O_RDWR | O_TRUNC, 0644);
	char page[PG];
	for (int i = 0; i < 8; i++) {
		memset(page, 'a' + i, PG);
		write(fd, page, PG);
	}
	priv = map(8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	shared = map(8 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	char *clean = map(8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	priv[0] = 'A';
	CHECK("file_private_reads", clean[PG] == 'b' && clean[3 * PG] == 'd');
	CHECK("file_child", child(file_child, &fd) == 0);
	CHECK("file_private_kept", priv[0] == 'A' && priv[2 * PG] == 'c');
	CHECK("file_shared_seen", shared[PG] == 'S' && shared[3 * PG] == 'W' && shared[0] == 'a');
	CHECK("file_private_clean_follows", clean[PG] == 'S' && clean[3 * PG] == 'W');
	char *last = priv + 5 * PG;
	CHECK("truncate_by_child", child(truncate_child, &fd) == 0);
	CHECK("truncated_for_parent",
	      child(bus_child, shared + 5 * PG) == 41 && child(bus_child, last) == 41);
	ftruncate(fd, 8 * PG);
	CHECK("grown_again", shared[5 * PG] == 0 && shared[0] == 'a');
	CHECK("exec_in_child", child(exec_true, NULL) == 0 && priv[0] == 'A');

	/* a hole in a file: its pages go, copies stay */
	int mf = memfd_create("hole", 0);
	for (int i = 0; i < 8; i++) {
		memset(page, 'a' + i, PG);
		write(mf, page, PG);
	}
	char *hp = map(8 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, mf);
	char *hs = map(8 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, mf);
	CHECK("hole_before", hp[3 * PG] == 'd' && hs[3 * PG] == 'd' && hs[2 * PG] == 'c');
	hp[7 * PG] = 'H';
	hp[2 * PG] = 'K';
	CHECK("hole", fallocate(mf, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2 * PG, 2 * PG) == 0);
	CHECK("hole_shared", hs[2 * PG] == 0 && hs[3 * PG] == 0 && hs[PG] == 'b' && hs[4 * PG] == 'e');
	CHECK("hole_private", hp[2 * PG] == 'K' && hp[3 * PG] == 0 && hp[7 * PG] == 'H' && hp[PG] == 'b');
	close(mf);

	/* heap and stack */
	char *brk0 = sbrk(0);
	CHECK("heap_child", child(grow_heap, brk0) == 0 && sbrk(0) == brk0);
	int five = 5;
	CHECK("stack_child", child(deep_stack, &five) == 0);
	CHECK("exec_again", child(exec_true, NULL) == 0);

	/* resident pages: a child's are its own to count */
	char *r = anon(8 * MB);
	memset(r, 1, 8 * MB);
	for (int i = 0; i < 200; i++)
		if (child(touch, r) != 1) {
			CHECK("many_children", false);
			break;
		}
	bool whole = true;
	for (size_t i = 0; i < 8 * MB; i += 64)
		whole &= r[i] == 1;
	CHECK("after_many_children", whole);
	unlink("f");
	rmdir(conf_dir());
	return conf_done();
}
