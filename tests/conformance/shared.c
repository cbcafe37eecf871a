/* SPDX-License-Identifier: ISC */
/* Shared memory between processes: anonymous, files, memfd and its seals, POSIX shared memory. */
#include "child.h"
#include <sys/socket.h>

#define PG 4096ul
static char *map(size_t n, int prot, int flags, int fd)
{
	char *p = mmap(NULL, n, prot, flags, fd, 0);
	return p == MAP_FAILED ? NULL : p;
}
static char *a, *b;
static int fd;
static char name[64];

/* --- anonymous ------------------------------------------------------------- */

static int write_anon(void)
{
	for (size_t i = 0; i < 1024; i++)
		if (a[i * PG] != (char)i)
			return 1;
	for (size_t i = 0; i < 1024; i += 2)
		a[i * PG] = 33;
	a[2048 * PG - 1] = 44; /* a page nobody touched before */
	return 0;
}
static int grandchild(void)
{
	a[3 * PG] = 55;
	return child(write_anon) == 1 && a[3 * PG] == 55 ? 0 : 1;
}
static int unmap_it(void)
{
	return munmap(a, 2048 * PG);
}
static int remap_it(void)
{
	char *n = mremap(a, 4 * PG, 8 * PG, MREMAP_MAYMOVE);
	if (n == MAP_FAILED || n[3 * PG] != 55)
		return 1;
	n[2 * PG] = 66;
	/* a second view of it */
	char *v = mremap(n, 0, 4 * PG, MREMAP_MAYMOVE);
	if (v == MAP_FAILED || v[2 * PG] != 66)
		return 2;
	v[2 * PG] = 67;
	return n[2 * PG] == 67 ? 0 : 3;
}
static int discard_it(void)
{
	return madvise(a, 4 * PG, MADV_DONTNEED) || a[3 * PG] != 55; /* the memory stays */
}
static int remove_it(void)
{
	return madvise(a + 3 * PG, PG, MADV_REMOVE) || a[3 * PG] != 0;
}
static int protect_it(void)
{
	if (mprotect(a, PG, PROT_READ))
		return 1;
	*(volatile char *)a = 1;
	return 0;
}

/* --- files ---------------------------------------------------------------------- */

static int file_other_fd(void)
{
	int f = open("f", O_RDWR);
	char *m = map(4 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, f);
	if (!m || m[0] != 'P')
		return 1;
	m[0] = 'C';
	m[3 * PG] = 'D';
	char c;
	if (pread(f, &c, 1, 3 * PG) != 1 || c != 'D')
		return 2;
	return pwrite(f, "E", 1, 2 * PG) != 1 || m[2 * PG] != 'E' || b[2 * PG] != 'E';
}
static int grow_file(void)
{
	return ftruncate(fd, 6 * PG) || pwrite(fd, "G", 1, 5 * PG) != 1;
}
static int append_until(void)
{
	int f = open("log", O_WRONLY | O_APPEND | O_CREAT, 0600);
	char line[32];
	for (int i = 0; i < 200; i++) {
		int n = snprintf(line, sizeof(line), "%d %d\n", getpid(), i);
		if (write(f, line, (size_t)n) != n)
			return 1;
	}
	return 0;
}
static int shared_offset(void)
{
	char c[2];
	return read(fd, c, 2) == 2 ? 0 : 1;
}
static int removed_file(void)
{
	return unlink("f") || b[0] != 'C';
}

/* --- memfd -------------------------------------------------------------------------- */

static int seal_child(void)
{
	if (fcntl(fd, F_GET_SEALS) != (F_SEAL_SHRINK | F_SEAL_GROW))
		return 1;
	if (ftruncate(fd, 0) != -1 || errno != EPERM)
		return 2;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) != -1 || errno != EBUSY)
		return 3; /* the parent has it mapped for writing */
	b[1] = 'c';
	return 0;
}
static int after_unmap(void)
{
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE))
		return 1;
	if (write(fd, "x", 1) != -1 || errno != EPERM)
		return 2;
	if (map(PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd) || errno != EPERM)
		return 3;
	char *r = map(PG, PROT_READ, MAP_SHARED, fd);
	if (!r || r[1] != 'c')
		return 4;
	if (mprotect(r, PG, PROT_READ | PROT_WRITE) != -1 || errno != EACCES)
		return 5;
	char *p = map(PG, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	p[0] = 'z';
	return 0;
}
static int by_proc(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getppid(), fd);
	int f = open(path, O_RDONLY);
	char c[2];
	return f < 0 || pread(f, c, 2, 0) != 2 || c[1] != 'c';
}
static int sv[2];
static int receive_fd(void)
{
	char c, ctl[CMSG_SPACE(sizeof(int))];
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl)};
	int f;
	if (recvmsg(sv[1], &m, 0) != 1 || !CMSG_FIRSTHDR(&m))
		return 1;
	memcpy(&f, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(f));
	char *p = map(PG, PROT_READ | PROT_WRITE, MAP_SHARED, f);
	if (!p || p[0] != 'm')
		return 2;
	p[1] = 'n';
	return 0;
}

/* --- POSIX shared memory ---------------------------------------------------------------- */

static int open_shm(void)
{
	int f = shm_open(name, O_RDWR, 0);
	struct stat st;
	if (f < 0 || fstat(f, &st) || st.st_size != 3 * (off_t)PG)
		return 1;
	if (!(fcntl(f, F_GETFD) & FD_CLOEXEC))
		return 2;
	char *p = map(3 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, f);
	if (!p || strcmp(p, "posix"))
		return 3;
	strcpy(p + 2 * PG, "shm");
	return 0;
}
static int shm_by_path(void)
{
	char path[96], c[6];
	snprintf(path, sizeof(path), "/dev/shm%s", name);
	int f = open(path, O_RDONLY);
	return f < 0 || read(f, c, 6) != 6 || strcmp(c, "posix");
}
static int exec_it(void)
{
	char arg[96];
	snprintf(arg, sizeof(arg), "%s", name);
	execl("/proc/self/exe", "shared", arg, (char *)NULL);
	return 9;
}
static int incs(void)
{
	for (int i = 0; i < 5000; i++)
		__atomic_fetch_add((int *)a, 1, __ATOMIC_SEQ_CST);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		int f = shm_open(argv[1], O_RDWR, 0);
		char *p = map(PG, PROT_READ | PROT_WRITE, MAP_SHARED, f);
		if (!p || strcmp(p, "posix"))
			return 1;
		p[100] = 'x';
		return 0;
	}
	conf_dir();
	/* anonymous: 8 MiB, half of it touched before */
	a = map(2048 * PG, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	for (size_t i = 0; i < 1024; i++)
		a[i * PG] = (char)i;
	CHECK("anon_child", child(write_anon) == 0);
	bool right = a[2048 * PG - 1] == 44;
	for (size_t i = 0; i < 1024; i++)
		right &= a[i * PG] == (i % 2 ? (char)i : 33);
	CHECK("anon_seen", right);
	CHECK("grandchild", child(grandchild) == 0 && a[3 * PG] == 55);
	CHECK("unmapped_there_only", child(unmap_it) == 0 && a[3 * PG] == 55);
	CHECK("mremap_there", child(remap_it) == 0 && a[2 * PG] == 67);
	CHECK("dontneed_keeps", child(discard_it) == 0 && a[3 * PG] == 55);
	CHECK("remove_for_all", child(remove_it) == 0 && a[3 * PG] == 0 && a[5 * PG] == 5);
	CHECK("protect_there_only", child(protect_it) == 128 + SIGSEGV && (a[0] = 9) == 9);
	*(int *)a = 0;
	pid_t p[4];
	int rc = 0;
	for (int i = 0; i < 4; i++)
		p[i] = run(incs);
	for (int i = 0; i < 4; i++)
		rc |= wait_for(p[i]);
	CHECK("atomics", rc == 0 && *(int *)a == 20000);
	munmap(a, 2048 * PG);
	char *z = mmap(NULL, PG, PROT_READ | PROT_WRITE, MAP_SHARED, open("/dev/zero", O_RDWR), 0);
	a = z;
	*(int *)a = 0;
	CHECK("dev_zero_shared", child(incs) == 0 && *(int *)a == 5000);

	/* files */
	fd = open("f", O_CREAT | O_RDWR, 0600);
	ftruncate(fd, 4 * PG);
	b = map(6 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	b[0] = 'P';
	CHECK("file_by_name", child(file_other_fd) == 0 && b[0] == 'C' && b[3 * PG] == 'D');
	CHECK("file_grown", child(grow_file) == 0 && b[5 * PG] == 'G');
	CHECK("offset_shared",
	      lseek(fd, 10, SEEK_SET) == 10 && child(shared_offset) == 0 && lseek(fd, 0, SEEK_CUR) == 12);
	CHECK("unlinked_stays", child(removed_file) == 0 && b[0] == 'C');
	CHECK("msync", msync(b, PG, MS_SYNC) == 0);
	munmap(b, 6 * PG);
	close(fd);
	for (int i = 0; i < 4; i++)
		p[i] = run(append_until);
	rc = 0;
	for (int i = 0; i < 4; i++)
		rc |= wait_for(p[i]);
	FILE *l = fopen("log", "r");
	int lines = 0, pid, i, next[4] = {0};
	bool ordered = true;
	while (l && fscanf(l, "%d %d", &pid, &i) == 2) {
		lines++;
		for (int k = 0; k < 4; k++)
			if (p[k] == pid)
				ordered &= next[k]++ == i;
	}
	CHECK("appends_whole", rc == 0 && lines == 800 && ordered);
	unlink("log");

	/* memfd */
	fd = memfd_create("conf", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	ftruncate(fd, PG);
	b = map(PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	b[0] = 'm';
	CHECK("seals", fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	CHECK("seals_in_child", child(seal_child) == 0 && b[1] == 'c');
	munmap(b, PG);
	CHECK("sealed_by_child", child(after_unmap) == 0);
	CHECK_ERR("sealed_here", pwrite(fd, "x", 1, 0), EPERM);
	CHECK("by_proc", child(by_proc) == 0);
	close(fd);
	fd = memfd_create("conf2", 0);
	CHECK("no_sealing", fcntl(fd, F_GET_SEALS) == F_SEAL_SEAL);
	CHECK_ERR("no_sealing_add", fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
	ftruncate(fd, PG);
	b = map(PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	b[0] = 'm';
	socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
	pid_t r = run(receive_fd);
	char c = 'x', ctl[CMSG_SPACE(sizeof(int))];
	struct iovec v = {&c, 1};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof(ctl)};
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET, h->cmsg_type = SCM_RIGHTS, h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	CHECK("passed", sendmsg(sv[0], &m, 0) == 1 && wait_for(r) == 0 && b[1] == 'n');

	/* POSIX */
	snprintf(name, sizeof(name), "/cowbell-conf-%d", getpid());
	CHECK_ERR("shm_missing", shm_open(name, O_RDWR, 0), ENOENT);
	fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
	CHECK("shm_open", fd >= 0 && ftruncate(fd, 3 * PG) == 0);
	CHECK_ERR("shm_excl", shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600), EEXIST);
	b = map(3 * PG, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	strcpy(b, "posix");
	CHECK("shm_child", child(open_shm) == 0 && !strcmp(b + 2 * PG, "shm"));
	CHECK("shm_path", child(shm_by_path) == 0);
	CHECK("shm_exec", child(exec_it) == 0 && b[100] == 'x');
	CHECK("shm_unlink", shm_unlink(name) == 0 && !strcmp(b, "posix"));
	CHECK_ERR("shm_gone", shm_open(name, O_RDWR, 0), ENOENT);
	rmdir(conf_dir());
	return conf_done();
}
