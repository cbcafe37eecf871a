/* SPDX-License-Identifier: ISC */
/* Memory locks: mlock, mlock2, mlockall, MAP_LOCKED, their limit, what brings pages in, and what inherits nothing. */
#include "child.h"
#include <linux/capability.h>
#include <sys/resource.h>

#define PAGE 4096ul
#define MB   (1ul << 20)

/* Large enough that nobody brings it in at once without being told to. */
static char *map(size_t n, int prot, int flags)
{
	return mmap(NULL, n, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}
static long vmlck(void)
{
	char buf[4096], *at;
	int fd = open("/proc/self/status", O_RDONLY);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	at = strstr(buf, "VmLck:");
	return at ? atol(at + 6) : -1;
}
static int resident(const char *p, size_t n)
{
	unsigned char vec[MB / PAGE];
	int sum = 0;
	if (mincore((void *)p, n, vec))
		return -1;
	for (size_t i = 0; i < n / PAGE; i++)
		sum += vec[i] & 1;
	return sum;
}
static void limit(size_t bytes)
{
	struct rlimit r;
	getrlimit(RLIMIT_MEMLOCK, &r);
	r.rlim_cur = bytes;
	setrlimit(RLIMIT_MEMLOCK, &r);
}
static void drop_capability(void)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{0}};
	syscall(SYS_capget, &h, d);
	d[0].effective &= ~(1u << CAP_IPC_LOCK);
	syscall(SYS_capset, &h, d);
}
static bool says_locked(const char *p)
{
	char line[512];
	bool here = false, lo = false;
	FILE *f = fopen("/proc/self/smaps", "r");
	while (fgets(line, sizeof(line), f)) {
		unsigned long a, b;
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			here = (unsigned long)p >= a && (unsigned long)p < b;
		else if (here && !strncmp(line, "VmFlags:", 8))
			lo = strstr(line, " lo") != NULL;
	}
	fclose(f);
	return lo;
}

static void some(void)
{
	char *p = map(MB, PROT_READ | PROT_WRITE, 0), *q;

	CHECK("nothing_locked", vmlck() == 0);
	CHECK("mlock", mlock(p, 16 * PAGE) == 0 && vmlck() == 64 && resident(p, 16 * PAGE) == 16);
	CHECK("mlock_again", mlock(p, 16 * PAGE) == 0 && vmlck() == 64);
	CHECK("mlock_bytes", mlock(p + 20 * PAGE + 100, 10) == 0 && vmlck() == 68);
	CHECK("mlock_overlap", mlock(p + 8 * PAGE, 10 * PAGE) == 0 && vmlck() == 76);
	CHECK("smaps_locked", says_locked(p) && !says_locked(p + 100 * PAGE));
	CHECK_ERR("dontneed_locked", madvise(p, 16 * PAGE, MADV_DONTNEED), EINVAL);
	CHECK("munlock_part", munlock(p + 4 * PAGE, 4 * PAGE) == 0 && vmlck() == 60);
	CHECK("munmap_part", munmap(p, 4 * PAGE) == 0 && vmlck() == 44);
	CHECK("munlock",
	      munlock(p + 4 * PAGE, MB - 4 * PAGE) == 0 && vmlck() == 0 && !says_locked(p + 8 * PAGE));
	CHECK("mlock_nothing", mlock(p + 4 * PAGE, 0) == 0 && vmlck() == 0);
	CHECK_ERR("mlock_hole_first", mlock(p, 8 * PAGE), ENOMEM);
	munmap(p + 32 * PAGE, PAGE);
	CHECK_ERR("mlock_hole", mlock(p + 30 * PAGE, 4 * PAGE), ENOMEM);
	CHECK("before_the_hole", vmlck() == 8);
	munmap(p, MB);
	CHECK("munmap", vmlck() == 0);

	q = map(MB, PROT_NONE, 0);
	CHECK_ERR("mlock_no_access", mlock(q, MB), ENOMEM);
	CHECK("locked_all_the_same", vmlck() == 1024 && resident(q, MB) == 0);
	CHECK("mprotect_fills", mprotect(q, MB, PROT_READ | PROT_WRITE) == 0 && resident(q, MB) == 256);
	munmap(q, MB);

	p = map(MB, PROT_READ | PROT_WRITE, 0);
	CHECK_ERR("mlock2_flag", mlock2(p, MB, 2), EINVAL);
	CHECK("mlock2_onfault", mlock2(p, MB, MLOCK_ONFAULT) == 0 && vmlck() == 1024 && resident(p, MB) == 0);
	p[0] = 1;
	CHECK("onfault_touched", resident(p, PAGE) == 1 && resident(p, MB) < 256);
	CHECK("mlock2_fills", mlock2(p, MB, 0) == 0 && vmlck() == 1024 && resident(p, MB) == 256);
	munmap(p, MB);

	p = map(MB, PROT_READ | PROT_WRITE, MAP_LOCKED);
	CHECK("map_locked", resident(p, MB) == 256 && vmlck() == 1024);
	p = mremap(p, MB, 2 * MB, MREMAP_MAYMOVE);
	CHECK("mremap_grows", vmlck() == 2048 && resident(p + MB, MB) == 256);
	p = mremap(p, 2 * MB, MB, 0);
	CHECK("mremap_shrinks", vmlck() == 1024);
	munmap(p, MB);
	CHECK("none_left", vmlck() == 0);
}

static int is_unlocked(void)
{
	char *p = map(MB, PROT_READ | PROT_WRITE, 0);
	return vmlck() == 0 && resident(p, MB) < 256 ? 0 : 1;
}
static int exec_unlocked(void)
{
	execl("/proc/self/exe", "mlock", "unlocked", NULL);
	return 9;
}

static void limits(void)
{
	char *p = map(MB, PROT_READ | PROT_WRITE, 0), *q;

	limit(128 << 10);
	CHECK_ERR("limit", mlock(p, 33 * PAGE), ENOMEM);
	CHECK("limit_just", mlock(p, 32 * PAGE) == 0 && vmlck() == 128);
	CHECK("limit_counts_once", mlock(p, 32 * PAGE) == 0 && mlock(p + 16 * PAGE, 16 * PAGE) == 0);
	CHECK_ERR("limit_one_more", mlock(p + 31 * PAGE, 2 * PAGE), ENOMEM);
	CHECK_ERR("limit_map", (long)map(PAGE, PROT_READ | PROT_WRITE, MAP_LOCKED), EAGAIN);
	CHECK_ERR("limit_mlockall", mlockall(MCL_CURRENT), ENOMEM);
	munlock(p, MB);
	q = map(MB, PROT_READ | PROT_WRITE, 0);
	munmap(q + 16 * PAGE, MB - 16 * PAGE);
	mlock(q, 16 * PAGE);
	CHECK_ERR("limit_mremap", (long)mremap(q, 16 * PAGE, 40 * PAGE, MREMAP_MAYMOVE), EAGAIN);
	munmap(q, 16 * PAGE);
	limit(0);
	CHECK_ERR("none_mlock", mlock(p, PAGE), EPERM);
	CHECK_ERR("none_mlock2", mlock2(p, PAGE, MLOCK_ONFAULT), EPERM);
	CHECK_ERR("none_map", (long)map(PAGE, PROT_READ, MAP_LOCKED), EPERM);
	CHECK_ERR("none_mlockall", mlockall(MCL_FUTURE), EPERM);
	CHECK("none_munlock", munlock(p, MB) == 0 && munlockall() == 0);
	limit(8 * MB);
	munmap(p, MB);
}

static void all(void)
{
	char *old = map(MB, PROT_READ | PROT_WRITE, 0), *p, *top;
	long before;

	CHECK_ERR("mlockall_nothing", mlockall(0), EINVAL);
	CHECK_ERR("mlockall_unknown", mlockall(8), EINVAL);
	CHECK_ERR("mlockall_onfault", mlockall(MCL_ONFAULT), EINVAL);
	CHECK("future", mlockall(MCL_FUTURE) == 0 && vmlck() == 0);
	p = map(MB, PROT_READ | PROT_WRITE, 0);
	CHECK("future_map", resident(p, MB) == 256 && vmlck() == 1024 && says_locked(p) && !says_locked(old));
	char *none = map(MB, PROT_NONE, 0);
	CHECK("future_no_access", none != MAP_FAILED && vmlck() == 2048);
	top = sbrk(MB);
	CHECK("future_brk", top != (void *)-1 && vmlck() >= 3068 &&
				    resident((char *)(((uintptr_t)top + 4095) & ~4095ul), MB - PAGE) == 255);
	before = vmlck();
	char *shared = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK("future_shared", shared != MAP_FAILED && vmlck() == before + 1024);
	munmap(shared, MB);
	munmap(none, MB);
	CHECK_ERR("future_limit_map", (long)map(16 * MB, PROT_READ | PROT_WRITE, 0), EAGAIN);
	CHECK_ERR("future_limit_brk", (long)sbrk(16 * MB), ENOMEM);
	CHECK("fork_inherits_none", child(is_unlocked) == 0);
	CHECK("exec_inherits_none", child(exec_unlocked) == 0);
	CHECK("future_onfault", mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
	before = vmlck();
	p = map(MB, PROT_READ | PROT_WRITE, 0);
	CHECK("onfault_map", resident(p, MB) == 0 && vmlck() == before + 1024 && says_locked(p));
	p[5 * PAGE] = 1;
	CHECK("onfault_map_touched", p[5 * PAGE] == 1 && resident(p + 5 * PAGE, PAGE) == 1);
	CHECK("current", mlockall(MCL_CURRENT) == 0 && says_locked(old) && resident(old, MB) == 256 &&
				 resident(p, MB) == 256);
	before = vmlck();
	p = map(MB, PROT_READ | PROT_WRITE, 0);
	CHECK("current_ends_future", vmlck() == before && !says_locked(p));
	munmap(p, MB);
	CHECK("current_onfault", mlockall(MCL_CURRENT | MCL_ONFAULT | MCL_FUTURE) == 0 && vmlck() == before);
	CHECK("munlockall", munlockall() == 0 && vmlck() == 0 && !says_locked(old));
	p = map(MB, PROT_READ | PROT_WRITE, 0);
	CHECK("munlockall_future", vmlck() == 0 && resident(p, MB) < 256);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return is_unlocked();
	drop_capability();
	limit(8 * MB);
	some();
	limits();
	all();
	return conf_done();
}
