/* SPDX-License-Identifier: ISC */
/* mmap, munmap, mprotect, mremap, madvise, brk, memfd, msync, mincore. */
#include "conf.h"
#include <setjmp.h>
#include <sys/resource.h>

static sigjmp_buf jb;
static volatile int sig_code;
static void *volatile sig_addr;
static void on_segv(int s, siginfo_t *si, void *u)
{
	(void)u;
	sig_code = si->si_code;
	sig_addr = si->si_addr;
	siglongjmp(jb, s);
}
static int touch_r(volatile char *p)
{
	int s = sigsetjmp(jb, 1);
	if (!s)
		(void)*p;
	return s;
}
static int touch_w(volatile char *p)
{
	int s = sigsetjmp(jb, 1);
	if (!s)
		*p = 1;
	return s;
}

int main(void)
{
	struct sigaction sa = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGBUS, &sa, NULL);
	conf_dir();
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK("anon", p != MAP_FAILED && p[0] == 0 && p[(1 << 20) - 1] == 0);
	memset(p, 7, 1 << 20);
	CHECK("munmap_middle", munmap(p + 8192, 4096) == 0);
	CHECK("segv_hole", touch_r(p + 8192) == SIGSEGV && sig_code == SEGV_MAPERR && sig_addr == p + 8192);
	unsigned char vec[4];
	CHECK("mincore", mincore(p, 4096, vec) == 0 && (vec[0] & 1));
	CHECK_ERR("mincore_unmapped", mincore(p + 8192, 4096, vec), ENOMEM);
	CHECK("keep_around", p[8191] == 7 && p[12288] == 7);
	CHECK("mprotect_ro", mprotect(p, 4096, PROT_READ) == 0);
	CHECK("segv_accerr", touch_w(p + 5) == SIGSEGV && sig_code == SEGV_ACCERR && sig_addr == p + 5);
	CHECK("still_readable", touch_r(p) == 0 && p[0] == 7);
	CHECK("mprotect_none", mprotect(p, 4096, PROT_NONE) == 0 && touch_r(p) == SIGSEGV);
	CHECK("mprotect_back", mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0 && p[0] == 7);
	CHECK_ERR("mprotect_unmapped", mprotect(p + 8192, 4096, PROT_READ), ENOMEM);
	CHECK_ERR("mprotect_unaligned", mprotect(p + 1, 4096, PROT_READ), EINVAL);
	CHECK_ERR("munmap_unaligned", munmap(p + 1, 4096), EINVAL);
	CHECK_ERR("munmap_zero", munmap(p, 0), EINVAL);
	CHECK_ERR("mmap_zero", (long)mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), EINVAL);
	CHECK_ERR("mmap_noflags", (long)mmap(NULL, 4096, PROT_READ, MAP_ANONYMOUS, -1, 0), EINVAL);
	CHECK_ERR("mmap_badfd", (long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 999, 0), EBADF);
	CHECK_ERR("mmap_unaligned_off", (long)mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 0, 5), EINVAL);
	char *q =
		mmap(p + 16384, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	CHECK("fixed", q == p + 16384 && q[0] == 0);
	CHECK_ERR("fixed_noreplace",
		  (long)mmap(p + 16384, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
			     -1, 0),
		  EEXIST);
	CHECK("dontneed",
	      madvise(p + 20480, 8192, MADV_DONTNEED) == 0 && p[20480] == 0 && p[20480 + 8192] == 7);
	CHECK("madv_free", madvise(p + 40960, 4096, MADV_FREE) == 0);
	CHECK("wipeonfork", madvise(p + 40960, 4096, MADV_WIPEONFORK) == 0 &&
				    madvise(p + 40960, 4096, MADV_KEEPONFORK) == 0);
	CHECK_ERR("madv_bad", madvise(p, 4096, 999), EINVAL);
	CHECK_ERR("madv_hole", madvise(p + 8192, 4096, MADV_DONTNEED), ENOMEM);
	/* mremap */
	char *m = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int i = 0; i < 16; i++)
		m[i * 4096] = (char)i;
	char *m2 = mremap(m, 65536, 1 << 20, MREMAP_MAYMOVE);
	CHECK("mremap_grow", m2 != MAP_FAILED && m2[15 * 4096] == 15 && m2[65536] == 0);
	char *m3 = mremap(m2, 1 << 20, 8192, 0);
	CHECK("mremap_shrink", m3 == m2 && m3[4096] == 1 && touch_r(m3 + 8192) == SIGSEGV);
	char *dst = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK("mremap_fixed",
	      mremap(m3, 8192, 8192, MREMAP_MAYMOVE | MREMAP_FIXED, dst) == dst && dst[4096] == 1);
	CHECK_ERR("mremap_bad", (long)mremap((void *)0x5000, 4096, 8192, 0), EFAULT);
	/* files */
	int fd = open("f", O_CREAT | O_RDWR, 0644);
	char page[4096];
	for (int i = 0; i < 3; i++) {
		memset(page, 'a' + i, sizeof(page));
		write(fd, page, i == 2 ? 100 : 4096);
	}
	char *f = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	CHECK("file_private", f[0] == 'a' && f[4096] == 'b' && f[8192 + 99] == 'c' && f[8192 + 100] == 0);
	CHECK("sigbus_past_end",
	      touch_r(f + 12288) == SIGBUS && sig_code == BUS_ADRERR && sig_addr == f + 12288);
	f[0] = 'Z';
	CHECK("private_not_written", pread(fd, page, 1, 0) == 1 && page[0] == 'a');
	char *s = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	s[1] = 'Y';
	CHECK("shared_written", pread(fd, page, 2, 0) == 2 && page[1] == 'Y');
	pwrite(fd, "W", 1, 2);
	CHECK("write_seen_in_shared", s[2] == 'W');
	CHECK("write_seen_in_private_clean", (pwrite(fd, "V", 1, 4097), f[4097] == 'V'));
	CHECK("msync", msync(s, 8192, MS_SYNC) == 0);
	CHECK_ERR("msync_bad", msync(s, 8192, MS_SYNC | MS_ASYNC), EINVAL);
	int ro = open("f", O_RDONLY);
	CHECK_ERR("shared_write_rofd", (long)mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, ro, 0), EACCES);
	char *r = mmap(NULL, 4096, PROT_READ, MAP_SHARED, ro, 0);
	CHECK_ERR("mprotect_shared_ro", mprotect(r, 4096, PROT_READ | PROT_WRITE), EACCES);
	ftruncate(fd, 4096);
	CHECK("sigbus_after_truncate", touch_r(s + 4096) == SIGBUS);
	/* shared anonymous, memfd and seals */
	char *sh = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	sh[5000] = 3;
	CHECK("shared_anon", sh[5000] == 3);
	int mf = memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CHECK("memfd", mf >= 0 && ftruncate(mf, 8192) == 0 && fcntl(mf, F_GET_SEALS) == 0);
	char *ma = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, mf, 0);
	char *mb = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, mf, 0);
	ma[4096] = 9;
	CHECK("memfd_two_views", mb[4096] == 9);
	CHECK_ERR("seal_write_busy", fcntl(mf, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	CHECK("seal_shrink", fcntl(mf, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	CHECK_ERR("sealed_shrink", ftruncate(mf, 0), EPERM);
	CHECK_ERR("sealed_grow", ftruncate(mf, 1 << 20), EPERM);
	/* brk */
	char *b0 = sbrk(0);
	CHECK("sbrk_grow", sbrk(100000) == b0 && b0[0] == 0 && b0[99999] == 0);
	b0[50000] = 1;
	CHECK("sbrk_shrink", sbrk(-100000) != (void *)-1 && sbrk(0) == b0);
	/* big reservations */
	char *big = mmap(NULL, 1ul << 36, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	CHECK("reserve_64g", big != MAP_FAILED);
	CHECK("commit_in_middle",
	      mprotect(big + (1ul << 35), 4096, PROT_READ | PROT_WRITE) == 0 && (big[1ul << 35] = 1));
	CHECK("release", munmap(big, 1ul << 36) == 0);
	/* null page and execution of data */
	CHECK("null", touch_r((char *)0) == SIGSEGV && sig_code == SEGV_MAPERR && sig_addr == NULL);
	CHECK("noncanonical", touch_r((char *)0x8000000000000000ul) == SIGSEGV && sig_code == SI_KERNEL);
	char *x = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	x[0] = (char)0xc3;
	int sg = sigsetjmp(jb, 1);
	if (!sg)
		((void (*)(void))x)();
	CHECK("nx", sg == SIGSEGV && sig_code == SEGV_ACCERR && sig_addr == x);
	CHECK("exec_ok", mprotect(x, 4096, PROT_READ | PROT_EXEC) == 0 && (((void (*)(void))x)(), 1));
	CHECK("mlock", mlock(p, 4096) == 0 && munlock(p, 4096) == 0);
	unlink("f");
	rmdir(conf_dir());
	return conf_done();
}
