// SPDX-License-Identifier: ISC
/*
 * libFuzzer target: a hostile guest against the ring server (make fuzz-ring).
 *
 * The input is a script of turns. Requests come from it as they are, but for
 * nudges without which almost all would end at the first check: operations are
 * mostly known ones, addresses mostly lie in RAM (the ring's own pages among
 * it), handles are mostly small. Nothing outside a scratch directory and
 * loopback can be reached; a leak of either kind is a crash by the checks at
 * the end.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "monitor/ring_server.h"

#define RAM	 0x80000u
#define RING_GPA 0x1000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct guest_mem mem;
static struct monitor_config cfg;
static char dir[] = "/tmp/ring_fuzz.XXXXXX";

static const uint16_t ops[] = {0,  1,  2,  3,  4,  5,  16, 17, 18, 19, 20, 21, 22, 23,
			       24, 25, 26, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42,
			       43, 44, 45, 46, 47, 48, 64, 65, 80, 81, 83, 84};

static int hook_grow(void *arg, uint64_t size)
{
	if (size > mem.ram_max || size < mem.ram_size)
		abort(); /* the server let a bad size through */
	mem.ram_size = size;
	return 0;
}

static int hook_release(void *arg, uint64_t gpa, uint64_t len)
{
	if (gpa > mem.ram_size || len > mem.ram_size - gpa)
		abort();
	return 0;
}

static void hook_huge(void *arg, uint64_t gpa, uint64_t len)
{
	hook_release(arg, gpa, len);
}

/* The lowest free descriptor: it moves when one was lost. */
static int free_fd(void)
{
	int fd = dup(0);

	close(fd);
	return fd;
}

static void remove_scratch(void)
{
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (system(cmd))
		perror(dir);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct rlimit small_files = {1 << 20, 1 << 20};
	struct sockaddr_in *a = (struct sockaddr_in *)&cfg.ports[0].host;

	mem.ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	mem.ram_max = RAM;
	mem.ram_fd = -1;
	if (!mkdtemp(dir))
		exit(1);
	atexit(remove_scratch);
	*a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	cfg.n_ports = 1;
	cfg.ports[0].guest = 0x5050; /* "PP": easy to find */
	cfg.n_volumes = 1;
	cfg.volumes[0] = (struct monitor_volume){.dirfd = open(dir, O_PATH | O_DIRECTORY), .guest_dir = "/v"};
	signal(SIGXFSZ, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &small_files);
	int null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	close(null);
	return 0;
}

static void nudge(struct ring_sqe *s, uint8_t how)
{
	if (how & 1)
		s->op = ops[s->op % (sizeof(ops) / sizeof(ops[0]))];
	if (how & 2)
		s->addr %= RAM;
	if (how & 4)
		s->addr2 %= RAM;
	if (how & 8)
		s->handle = s->handle % 8 | (s->op >= 32 && s->handle & 0x100 ? RING_VOL_BASE : 0);
	if (how & 16)
		s->len %= 64;
	if (how & 32)
		s->len2 %= 512;
	if (how & 64)
		s->flags &= 3;
	if (how & 128 && s->op == RING_OP_SOCKET) {
		s->arg = s->arg & 1 ? AF_INET : AF_INET6;
		s->arg2 = 1 + s->arg2 % 2;
		s->off = 0;
	}
	if (s->op == RING_OP_VOL_FALLOCATE && s->addr2 > 1 << 20)
		s->addr2 &= 0xfffff; /* the machine's disk is not to be filled */
	if (s->op == RING_OP_EXIT || s->op == RING_OP_STOP)
		s->op = RING_OP_NOP;
}

/* A request in 16 bytes, for scripts that go deep. */
static struct ring_sqe unpack(const uint8_t *d)
{
	struct ring_sqe s = {
		.op = ops[d[0] % (sizeof(ops) / sizeof(ops[0]))],
		.flags = d[1] & 3,
		.handle = d[2] < 0xf0	 ? d[2] % 16
			  : d[2] == 0xff ? RING_NO_HANDLE
					 : RING_VOL_BASE,
		.user_data = d[3] & 7,
		.addr = (uint64_t)d[4] * 2048,
		.len = d[5],
		.arg = d[6] | (uint32_t)d[7] << 8,
		.off = d[8] | (uint64_t)d[9] << 8,
		.addr2 = (uint64_t)d[10] * 2048,
		.len2 = d[11] < 0xf0 ? d[11] : 0x100,
		.arg2 = d[12] | (uint32_t)d[13] << 8,
	};

	if (s.op >= RING_OP_VOL_OPEN && s.op <= RING_OP_VOL_LOCK && d[14] & 1)
		s.handle = RING_VOL_BASE;
	if (s.op == RING_OP_SOCKET) {
		s.arg = d[6] & 1 ? AF_INET : AF_INET6;
		s.arg2 = 1 + d[12] % 2;
		s.off = 0;
	}
	return s;
}

static void run(struct ring_server *rs, const uint8_t *data, size_t size)
{
	struct ring_page *ring = (struct ring_page *)(mem.ram + RING_GPA);
	const char *why;
	int status;

	while (size >= 4) {
		uint8_t n = data[0] % 16, how = data[1], ctl = data[2];
		size_t each = data[0] & 128 ? sizeof(struct ring_sqe) : 16;

		/* some bytes of the script are also the memory that requests point to */
		memcpy(mem.ram + (size_t)data[3] * 2048, data, size < 512 ? size : 512);
		data += 4;
		size -= 4;
		for (; n && size >= each; n--) {
			struct ring_sqe s;

			if (each == sizeof(s)) {
				memcpy(&s, data, sizeof(s));
				nudge(&s, how);
			} else {
				s = unpack(data);
			}
			ring->sq[ring->ctl.sq_tail++ % RING_ENTRIES] = s;
			data += each;
			size -= each;
		}
		if (ctl == 0xff)
			ring->ctl.sq_tail += 1000;
		if (ctl & 1)
			ring->ctl.cq_head = ring->ctl.cq_tail;
		ring->ctl.wait = ctl >> 1 & 1;
		ring->ctl.wait_until_ns = 1; /* long ago */
		if (ring_server_turn(rs, &status, &why) != TURN_RUN)
			return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ring_server_hooks hooks = {
		.grow = hook_grow, .release = hook_release, .huge = hook_huge};
	struct ring_server *rs;
	int before = free_fd();

	memset(mem.ram, 0, RAM);
	mem.ram_size = RAM / 2;
	rs = ring_server_new(&cfg, &mem, (gpa_t){RING_GPA}, &hooks);
	if (!rs)
		return 0;
	run(rs, data, size);
	ring_server_free(rs);
	if (free_fd() != before)
		abort(); /* a descriptor was lost */
	return 0;
}
