/* SPDX-License-Identifier: ISC */
/*
 * The start of a guest process. Nothing of the monitor may be in the guest's
 * address space, so the guest is a program of its own: a tiny ELF file in a
 * memfd, whose one page of code carries out a list of system calls that is its
 * data, then jumps to the library OS. It uses no stack, because the list's first
 * step unmaps it together with everything else that exec brought.
 *
 * File:   0x0000  ELF header, program headers, code at 0x100        R X
 *         0x1000  struct stub_data: parameters, payload, steps      R W
 *
 * Steps, in this order, each justified:
 *   1  die with the monitor; own session, so that the terminal's signals reach only the monitor
 *   2  no core dumps, no new privileges, no capabilities, not dumpable: nobody but root looks in
 *   3  unmap stack and vdso; map the library OS and guest memory
 *   4  exception stack and handlers
 *   5  filter A: the doorbell, clone and prctl become notifications; their descriptor goes to the monitor
 *   6  wait for the monitor's word, close all but guest memory, lower the limits
 *   7  filter B: the allow-list of abi/process.h. Nothing but the gate can call the host from here on
 *   8  jump
 *
 * RLIMIT_NPROC would count all processes of the user; the monitor counts those of the guest (process_group.c).
 *
 * Two filters, because the notification's descriptor has to be sent after the
 * filter that makes it is in place. The stricter answer of the two counts; B answers
 * "allow" for the doorbell and A "notify".
 */
#include "monitor/backend/process_stub.h"

#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "abi/process.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1ul << 5)
#endif

#define CODE_OFF    0x100
#define DATA_VA	    (PROCESS_STUB_VA + 0x1000)
#define USER_END    0x7ffffffff000ull
#define MAX_PAYLOAD 6144

struct step {
	uint32_t nr;
	int32_t min; /* smallest good result */
	uint64_t arg[6];
	uint64_t pad;
};
_Static_assert(sizeof(struct step) == 64, "assembly");

struct stub_data {
	uint64_t sock, entry, rsp, rdi, gs_base; /* 0 8 16 24 32 */
	struct stub_report report; /* 40 */
	uint64_t pad;
	struct step steps[STUB_MAX_STEPS]; /* 64 */
	uint8_t payload[MAX_PAYLOAD];
};
_Static_assert(offsetof(struct stub_data, report) == 40 && offsetof(struct stub_data, steps) == 64,
	       "assembly");
_Static_assert(sizeof(struct stub_data) + 0x1000 <= PROCESS_STUB_SIZE, "abi");

__asm__(".pushsection .rodata\n"
	".balign 16\n"
	"process_stub_code:\n"
	"	lea process_stub_code + 0xf00(%rip), %r15\n" /* struct stub_data */
	"	mov 32(%r15), %rax\n" /* first: a kick may come as soon as its handler is there */
	"	wrgsbase %rax\n"
	"	xor %eax, %eax\n"
	"	wrfsbase %rax\n"
	"	lea 64(%r15), %r12\n"
	"1:	cmpq $-1, (%r12)\n"
	"	je 3f\n"
	"	mov (%r12), %eax\n"
	"	mov 8(%r12), %rdi\n"
	"	mov 16(%r12), %rsi\n"
	"	mov 24(%r12), %rdx\n"
	"	mov 32(%r12), %r10\n"
	"	mov 40(%r12), %r8\n"
	"	mov 48(%r12), %r9\n"
	"	syscall\n"
	"	movslq 4(%r12), %rcx\n"
	"	cmp %rcx, %rax\n"
	"	jl 4f\n"
	"	add $64, %r12\n"
	"	jmp 1b\n"
	"3:	mov 16(%r15), %rsp\n"
	"	mov 24(%r15), %rdi\n"
	"	jmp *8(%r15)\n"
	"4:	mov %rax, 48(%r15)\n"
	"	lea 64(%r15), %rax\n"
	"	sub %rax, %r12\n"
	"	shr $6, %r12\n"
	"	mov %r12, 40(%r15)\n"
	"	mov $1, %eax\n"
	"	mov (%r15), %rdi\n"
	"	lea 40(%r15), %rsi\n"
	"	mov $16, %edx\n"
	"	syscall\n"
	"	mov $231, %eax\n"
	"	mov $111, %edi\n"
	"	syscall\n"
	"process_stub_code_end:\n"
	".popsection\n");
extern const uint8_t process_stub_code[], process_stub_code_end[];

/* --- the list ------------------------------------------------------------------- */

struct builder {
	struct stub_data *d;
	int n;
	size_t used;
	bool full;
};

static const char *step_name[STUB_MAX_STEPS];

static uint64_t data_va(const struct builder *b, const void *p)
{
	return DATA_VA + ((const uint8_t *)p - (const uint8_t *)b->d);
}

/* Room in the payload; never NULL, `full` tells. */
static void *payload(struct builder *b, size_t n)
{
	void *p;

	n = (n + 15) & ~15ul;
	if (n > MAX_PAYLOAD - b->used) {
		b->full = true;
		b->used = 0;
		n = n > MAX_PAYLOAD ? MAX_PAYLOAD : n;
	}
	p = b->d->payload + b->used;
	b->used += n;
	return p;
}

static uint64_t copy_payload(struct builder *b, const void *src, size_t n)
{
	return data_va(b, memcpy(payload(b, n), src, n));
}

static struct step *add_step(struct builder *b, const char *name, int nr, uint64_t a0, uint64_t a1,
			     uint64_t a2, uint64_t a3, uint64_t a4, uint64_t a5)
{
	struct step *s = &b->d->steps[b->n];

	if (b->n == STUB_MAX_STEPS - 1)
		b->full = true;
	else
		step_name[b->n++] = name;
	*s = (struct step){.nr = nr, .arg = {a0, a1, a2, a3, a4, a5}};
	return s;
}
#define STEP(name, call, ...) STEP_(name, call, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define STEP_(name, call, a, b_, c, d_, e, f, ...)                                                           \
	add_step(b, name, SYS_##call, (uint64_t)(a), (uint64_t)(b_), (uint64_t)(c), (uint64_t)(d_),          \
		 (uint64_t)(e), (uint64_t)(f))

static void limit(struct builder *b, int resource, uint64_t value)
{
	struct rlimit64 r = {value, value};
	struct rlimit now;

	/* The user's own limit may be lower, and cannot be raised. */
	if (getrlimit(resource, &now) == 0 && now.rlim_max < value)
		r.rlim_cur = r.rlim_max = now.rlim_max;
	STEP("set a limit", prlimit64, 0, resource, copy_payload(b, &r, sizeof(r)), 0);
}

/* --- filters ------------------------------------------------------------------------ */

#define LD(field)                                                                                            \
	(struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define LD_LO(field) LD(field)
#define LD_HI(field)                                                                                         \
	(struct sock_filter) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field) + 4)
#define JEQ(k, t, f)  (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(k), t, f)
#define JGE(k, t, f)  (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (uint32_t)(k), t, f)
#define JSET(k, t, f) (struct sock_filter) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (uint32_t)(k), t, f)
#define RET(v)	      (struct sock_filter) BPF_STMT(BPF_RET | BPF_K, (uint32_t)(v))

struct program {
	struct sock_filter f[192];
	unsigned n;
	bool several; /* CPUs */
};

static void emit(struct program *p, struct sock_filter f)
{
	if (p->n < sizeof(p->f) / sizeof(p->f[0]))
		p->f[p->n++] = f;
}

static void filter_doorbell(struct program *p)
{
	emit(p, LD(nr));
	emit(p, JEQ(PROCESS_DOORBELL_NR, 2, 0));
	emit(p, JEQ(SYS_clone, 1, 0));
	emit(p, JEQ(SYS_prctl, 0, 1));
	emit(p, RET(SECCOMP_RET_USER_NOTIF));
	emit(p, RET(SECCOMP_RET_ALLOW));
}

/* Each rule ends in a return. A test that fails falls to the RET KILL that follows it. */
static void require_below(struct program *p, struct sock_filter load, uint32_t bound)
{
	emit(p, load);
	emit(p, JGE(bound, 0, 1));
	emit(p, RET(SECCOMP_RET_KILL_PROCESS));
}

/* Address and length of args 0 and 1: inside what the library OS may map. */
static void check_range(struct program *p)
{
	require_below(p, LD_HI(args[0]), BOOT_LIBOS_TOP >> 32);
	require_below(p, LD_HI(args[1]), (BOOT_TASK_SIZE >> 32) + 1);
}

static void check_prot(struct program *p)
{
	require_below(p, LD_LO(args[2]), 8);
	require_below(p, LD_HI(args[2]), 1);
}

static void rule_mmap(struct program *p, const struct guest_mem *m)
{
	check_range(p);
	check_prot(p);
	require_below(p, LD_HI(args[3]), 1);
	emit(p, LD_LO(args[3]));
	emit(p, JEQ(MAP_SHARED | MAP_FIXED, 2, 0));
	emit(p, JEQ(MAP_SHARED | MAP_FIXED | MAP_POPULATE, 1, 0));
	emit(p, RET(SECCOMP_RET_KILL_PROCESS));
	emit(p, LD_LO(args[4]));
	emit(p, JEQ(m->ram_fd, 0, 1));
	emit(p, RET(SECCOMP_RET_ALLOW));
	for (int i = 0; i < m->n_regions + m->n_files; i++) {
		int fd = i < m->n_regions ? m->regions[i].host_fd : m->files[i - m->n_regions];

		emit(p, JEQ(fd, (uint8_t)((m->n_regions + m->n_files - i)), 0));
	}
	emit(p, RET(SECCOMP_RET_KILL_PROCESS));
	emit(p, LD_LO(args[2])); /* a file that is only read */
	emit(p, JSET(PROT_WRITE, 0, 1));
	emit(p, RET(SECCOMP_RET_KILL_PROCESS));
	emit(p, RET(SECCOMP_RET_ALLOW));
}

static void rule_munmap(struct program *p, const struct guest_mem *m)
{
	(void)m;
	emit(p, RET(SECCOMP_RET_ALLOW)); /* only its own address space, whatever the address */
}

static void rule_mprotect(struct program *p, const struct guest_mem *m)
{
	(void)m;
	check_range(p);
	check_prot(p);
	emit(p, RET(SECCOMP_RET_ALLOW));
}

static void rule_madvise(struct program *p, const struct guest_mem *m)
{
	(void)m;
	check_range(p);
	emit(p, LD_LO(args[2]));
	emit(p, JEQ(MADV_POPULATE_READ, 3, 0));
	emit(p, JEQ(MADV_POPULATE_WRITE, 2, 0));
	emit(p, JEQ(MADV_COLLAPSE, 1, 0));
	emit(p, RET(SECCOMP_RET_KILL_PROCESS));
	emit(p, RET(SECCOMP_RET_ALLOW));
}

static void require_arg(struct program *p, unsigned arg, uint32_t value)
{
	const size_t at = offsetof(struct seccomp_data, args) + 8 * arg;

	emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at));
	emit(p, JEQ(value, 1, 0));
	emit(p, RET(SECCOMP_RET_KILL_PROCESS));
	emit(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at + 4));
	emit(p, JEQ(0, 1, 0));
	emit(p, RET(SECCOMP_RET_KILL_PROCESS));
}

/* Filter A makes these two the monitor's to decide. */
static void rule_clone(struct program *p, const struct guest_mem *m)
{
	(void)m;
	if (p->several) {
		emit(p, LD_LO(args[0]));
		emit(p, JEQ(PROCESS_SEAT_FLAGS, 0, 3));
		emit(p, LD_HI(args[0]));
		emit(p, JEQ(0, 0, 1));
		emit(p, RET(SECCOMP_RET_ALLOW));
	}
	require_arg(p, 0, PROCESS_CLONE_FLAGS);
	emit(p, RET(SECCOMP_RET_ALLOW));
}

/* A new thread's exception stack; what was there before is nobody's business. */
static void rule_sigaltstack(struct program *p, const struct guest_mem *m)
{
	(void)m;
	require_arg(p, 1, 0);
	emit(p, RET(SECCOMP_RET_ALLOW));
}

static void rule_prctl(struct program *p, const struct guest_mem *m)
{
	(void)m;
	require_arg(p, 0, PR_SET_PDEATHSIG);
	require_arg(p, 1, SIGKILL);
	emit(p, RET(SECCOMP_RET_ALLOW));
}

static void rule_allow(struct program *p, const struct guest_mem *m)
{
	(void)m;
	emit(p, RET(SECCOMP_RET_ALLOW));
}

#define SEVERAL_CALLS 2 /* the last ones are for several CPUs only */
static const struct {
	uint32_t nr;
	void (*rule)(struct program *p, const struct guest_mem *m);
} gate_calls[] = {
	{PROCESS_DOORBELL_NR, rule_allow}, /* filter A turns it into a notification */
	{SYS_mmap, rule_mmap},
	{SYS_rt_sigreturn, rule_allow},
	{SYS_munmap, rule_munmap},
	{SYS_mprotect, rule_mprotect},
	{SYS_madvise, rule_madvise},
	{SYS_exit_group, rule_allow},
	{SYS_clone, rule_clone},
	{SYS_prctl, rule_prctl},
	{SYS_sigaltstack, rule_sigaltstack},
	{SYS_sched_yield, rule_allow},
};

int stub_allowed_calls(bool several)
{
	return (int)(sizeof(gate_calls) / sizeof(gate_calls[0])) - (several ? 0 : SEVERAL_CALLS);
}

static void filter_gate(struct program *p, const struct guest_mem *m, uint64_t gate_ret)
{
	emit(p, LD(arch));
	emit(p, JEQ(AUDIT_ARCH_X86_64, 1, 0));
	emit(p, RET(SECCOMP_RET_TRAP));
	emit(p, LD_LO(instruction_pointer));
	emit(p, JEQ(gate_ret, 0, 2));
	emit(p, LD_HI(instruction_pointer));
	emit(p, JEQ(gate_ret >> 32, 1, 0));
	emit(p, RET(SECCOMP_RET_TRAP));
	emit(p, LD(nr));
	for (unsigned i = 0; i < (unsigned)stub_allowed_calls(p->several); i++) {
		unsigned at = p->n;

		emit(p, JEQ(gate_calls[i].nr, 0, 0));
		gate_calls[i].rule(p, m);
		p->f[at].jf = (uint8_t)(p->n - at - 1);
	}
	emit(p, RET(SECCOMP_RET_KILL_PROCESS));
}

static uint64_t filter_payload(struct builder *b, const struct program *p)
{
	struct sock_fprog fp = {.len = p->n};

	fp.filter = (void *)copy_payload(b, p->f, p->n * sizeof(p->f[0]));
	return copy_payload(b, &fp, sizeof(fp));
}

/* --- the stages --------------------------------------------------------------------------- */

static void stage_lifetime(struct builder *b)
{
	STEP("die with the monitor", prctl, PR_SET_PDEATHSIG, SIGKILL);
	STEP("own session", setsid, 0);
	STEP("name", prctl, PR_SET_NAME, copy_payload(b, "cowbell-guest", 14));
}

static void stage_privileges(struct builder *b)
{
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}, {0}};

	STEP("no new privileges", prctl, PR_SET_NO_NEW_PRIVS, 1);
	STEP("no ambient capabilities", prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
	STEP("no capabilities", capset, copy_payload(b, &h, sizeof(h)), copy_payload(b, none, sizeof(none)));
	STEP("not dumpable", prctl, PR_SET_DUMPABLE, 0);
}

static void stage_memory(struct builder *b, const struct guest_mem *m, const struct load_plan *plan)
{
	const uint64_t stub_end = PROCESS_STUB_VA + PROCESS_STUB_SIZE;

	STEP("unmap", munmap, 0, PROCESS_STUB_VA);
	STEP("unmap", munmap, stub_end, USER_END - stub_end);
	for (int i = 0; i < plan->n_maps; i++) {
		const struct load_map *map = &plan->maps[i];
		uint64_t fd = m->ram_fd, off = map->gpa;

		for (int r = 0; r < m->n_regions; r++) {
			const struct boot_region *reg = &m->regions[r].r;

			if (map->gpa < reg->gpa || map->gpa - reg->gpa >= reg->size)
				continue;
			fd = m->regions[r].host_fd;
			off = reg->file_off + (map->gpa - reg->gpa);
		}
		STEP("map guest memory", mmap, map->va, map->len, map->prot, MAP_SHARED | MAP_FIXED, fd, off);
	}
}

static void stage_signals(struct builder *b, const struct load_plan *plan)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, PROCESS_KICK_SIGNAL};
	struct {
		uint64_t handler, flags, restorer, mask;
	} sa = {plan->sym_signal, SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART | 0x04000000,
		plan->sym_gate, 0};
	stack_t st = {.ss_size = 0};
	uint64_t act = copy_payload(b, &sa, sizeof(sa)), mask;

	for (int i = 0; i < plan->n_maps; i++)
		if (plan->maps[i].va + plan->maps[i].len == plan->exc_stack_top)
			st = (stack_t){.ss_sp = (void *)plan->maps[i].va, .ss_size = plan->maps[i].len};
	STEP("exception stack", sigaltstack, copy_payload(b, &st, sizeof(st)), 0);
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		STEP("signal handler", rt_sigaction, signals[i], act, 0, 8);
	mask = ~0ull;
	for (unsigned i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		mask &= ~(1ull << (signals[i] - 1));
	STEP("signal mask", rt_sigprocmask, SIG_SETMASK, copy_payload(b, &mask, 8), 0, 8);
}

/* The descriptor that the child gets next: the lowest that exec left free. */
static int next_descriptor(const struct guest_mem *m, int sock)
{
	for (int fd = 0;; fd++) {
		bool used = fd == sock || fd == m->ram_fd;

		for (int i = 0; i < m->n_regions; i++)
			used |= fd == m->regions[i].host_fd;
		for (int i = 0; i < m->n_files; i++)
			used |= fd == m->files[i];
		if (!used)
			return fd;
	}
}

static void stage_doorbell(struct builder *b, const struct guest_mem *m, int sock)
{
	struct {
		struct msghdr h;
		struct iovec iov;
		union {
			struct cmsghdr c;
			uint8_t space[CMSG_SPACE(sizeof(int))];
		} u;
		uint8_t byte;
	} *msg = payload(b, sizeof(*msg));
	int fd = next_descriptor(m, sock);
	struct program p = {.n = 0};

	memset(msg, 0, sizeof(*msg));
	msg->h.msg_iov = (void *)data_va(b, &msg->iov);
	msg->h.msg_iovlen = 1;
	msg->h.msg_control = (void *)data_va(b, &msg->u);
	msg->h.msg_controllen = CMSG_SPACE(sizeof(int));
	msg->iov = (struct iovec){(void *)data_va(b, &msg->byte), 1};
	msg->u.c = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(&msg->u.c), &fd, sizeof(fd));
	filter_doorbell(&p);
	STEP("filter of the doorbell", seccomp, SECCOMP_SET_MODE_FILTER,
	     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
	     filter_payload(b, &p));
	STEP("give the doorbell to the monitor", sendmsg, sock, data_va(b, msg), MSG_NOSIGNAL);
	STEP("close", close, fd);
	STEP("wait for the monitor", read, sock, data_va(b, &msg->byte), 1)->min = 1;
}

static void stage_lock(struct builder *b, const struct guest_mem *m, const struct load_plan *plan, int sock,
		       bool several)
{
	struct program p = {.several = several};
	uint64_t regions = 0;

	for (int i = 0; i < m->n_regions; i++)
		regions += m->regions[i].r.size;
	limit(b, RLIMIT_CORE, 0);
	limit(b, RLIMIT_FSIZE, 0);
	limit(b, RLIMIT_MEMLOCK, 0);
	limit(b, RLIMIT_AS,
	      (m->ram_max + regions) * 8 + (1ull << 30)); /* bounds what its page tables cost the host */
	STEP("close", close, sock); /* until here a step that fails is reported */
	filter_gate(&p, m, plan->sym_gate_ret);
	STEP("filter", seccomp, SECCOMP_SET_MODE_FILTER, 0, filter_payload(b, &p));
}

/* --- the file ------------------------------------------------------------------------------- */

static void elf_headers(uint8_t *page, uint64_t data_size)
{
	Elf64_Ehdr *e = (Elf64_Ehdr *)page;
	Elf64_Phdr *ph = (Elf64_Phdr *)(e + 1);

	*e = (Elf64_Ehdr){
		.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = PROCESS_STUB_VA + CODE_OFF,
		.e_phoff = sizeof(*e),
		.e_ehsize = sizeof(*e),
		.e_phentsize = sizeof(*ph),
		.e_phnum = 3,
	};
	ph[0] = (Elf64_Phdr){PT_LOAD,	      PF_R | PF_X, 0,	   PROCESS_STUB_VA,
			     PROCESS_STUB_VA, 0x1000,	   0x1000, 0x1000};
	ph[1] = (Elf64_Phdr){PT_LOAD, PF_R | PF_W, 0x1000, DATA_VA, DATA_VA, data_size, data_size, 0x1000};
	ph[2] = (Elf64_Phdr){.p_type = PT_GNU_STACK, .p_flags = PF_R | PF_W};
	memcpy(page + CODE_OFF, process_stub_code, process_stub_code_end - process_stub_code);
}

static int write_file(const uint8_t *image, size_t size)
{
	int fd = memfd_create("cowbell-guest", MFD_CLOEXEC | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("cowbell-guest", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, image, size) == (ssize_t)size)
		return fd;
	close(fd);
	return -EIO;
}

int stub_file(const struct guest_mem *m, const struct load_plan *plan, int sock, bool several,
	      const char *const **step_names)
{
	size_t size = 0x1000 + sizeof(struct stub_data);
	uint8_t *image = calloc(1, size);
	struct builder builder = {0}, *b = &builder;
	int fd;

	if (!image)
		return -ENOMEM;
	b->d = (struct stub_data *)(image + 0x1000);
	*b->d = (struct stub_data){.sock = sock,
				   .entry = plan->entry,
				   .rsp = plan->stack_top,
				   .rdi = plan->boot_info_va,
				   .gs_base = plan->cpu_va};
	stage_lifetime(b);
	stage_privileges(b);
	stage_memory(b, m, plan);
	stage_signals(b, plan);
	stage_doorbell(b, m, sock);
	stage_lock(b, m, plan, sock, several);
	memset(&b->d->steps[b->n], 0xff, sizeof(struct step));
	elf_headers(image, sizeof(struct stub_data));
	fd = b->full ? -E2BIG : write_file(image, size);
	free(image);
	*step_names = step_name;
	return fd;
}
