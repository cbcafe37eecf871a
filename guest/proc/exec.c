/* SPDX-License-Identifier: ISC */
/*
 * execve: from a path, arguments and environment to a fresh address space and
 * the registers of a new program.
 *
 *	resolve		open the file; follow #! lines (at most 4) to an ELF file; open its
 *			interpreter; check all of it. May fail, changes nothing.
 *	point of no return: the other threads end, the old address space goes
 *	load		map program, interpreter, stack, vDSO; a failure is SIGKILL
 *	finish		close-on-exec, signals, names, registers
 *
 * The stack is built as one block and copied out at once. From its top down:
 *
 *	8 zero bytes, path (AT_EXECFN), environment strings, argument strings,
 *	"x86_64", 16 random bytes, padding, auxv, envp[], argv[], argc <- rsp
 */
#include <asm/hwcap2.h>
#include <linux/auxvec.h>
#include <linux/binfmts.h>
#include <linux/elf.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"

#define MAX_SCRIPTS   4
#define HEAD_SIZE     256
#define STACK_INITIAL (132ul << 10)
#define MAX_ARG_TOTAL (2ul << 20)
#define USER_FLAGS    0x202ull
#define N_AUX	      24

/* What is to be started; every string is owned. */
struct exec {
	char *path; /* as given: AT_EXECFN */
	char **argv; /* NULL-terminated; owned vector of owned strings */
	char *const *envp; /* the caller's */
	u32 argc, envc;
	char *exe_path; /* what is mapped: the interpreter of a script */
	struct elf_file *elf, *interp;
	struct file *exe; /* of elf; an own reference */
};

/* --- strings ----------------------------------------------------------------------- */

static void free_vector(char **v)
{
	if (!v)
		return;
	for (u32 i = 0; v[i]; i++)
		kfree(v[i]);
	kfree(v);
}

static void exec_free(struct exec *x)
{
	kfree(x->path);
	kfree(x->exe_path);
	free_vector(x->argv);
	elf_close(x->elf);
	elf_close(x->interp);
	if (x->exe)
		file_put(x->exe);
}

static u32 count(char *const *v)
{
	u32 n = 0;

	while (v && v[n])
		n++;
	return n;
}

static int copy_args(struct exec *x, char *const *argv)
{
	u32 n = count(argv);

	/* No argument at all: one empty string, as Linux does. */
	x->argv = kzalloc((MAX(n, 1u) + 1) * sizeof(char *));
	if (!x->argv)
		return -ENOMEM;
	for (u32 i = 0; i < MAX(n, 1u); i++) {
		x->argv[i] = kstrdup(n ? argv[i] : "");
		if (!x->argv[i])
			return -ENOMEM;
	}
	x->argc = MAX(n, 1u);
	return 0;
}

/* --- resolve ------------------------------------------------------------------------- */

static bool may_execute(const struct kstat *st)
{
	const struct process *p = current->proc;
	u32 bits = st->mode;

	if (!p->fsuid)
		return bits & 0111;
	if (st->uid == p->fsuid)
		return bits & 0100;
	if (st->gid == p->fsgid)
		return bits & 0010;
	for (u32 i = 0; i < p->n_groups; i++)
		if (p->groups[i] == st->gid)
			return bits & 0010;
	return bits & 0001;
}

static struct file *open_executable(const char *path, int *err)
{
	struct file *f = vfs_open(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK, 0, err);
	struct kstat st;

	if (!f)
		return NULL;
	*err = vfs_stat_file(f, &st);
	if (!*err && (st.mode & 0170000) != 0100000)
		*err = -EACCES;
	if (!*err && !may_execute(&st))
		*err = -EACCES;
	if (!*err)
		return f;
	file_put(f);
	return NULL;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

/* Split "#! interpreter argument" in place, with Linux's rules. */
static int parse_script(char *head, char **interp, char **arg)
{
	char *s = head + 2, *end = strchr(s, '\n'), *a;

	if (!end) {
		/* The line was cut: only an argument may be. */
		for (a = s; blank(*a); a++)
			;
		while (*a && !blank(*a))
			a++;
		if (!*a && strlen(head) >= HEAD_SIZE - 1)
			return -ENOEXEC;
		end = s + strlen(s);
	}
	while (end > s && blank(end[-1]))
		end--;
	*end = 0;
	while (blank(*s))
		s++;
	if (!*s)
		return -ENOEXEC;
	*interp = s;
	while (*s && !blank(*s))
		s++;
	if (!*s) {
		*arg = NULL;
		return 0;
	}
	*s++ = 0;
	while (blank(*s))
		s++;
	*arg = *s ? s : NULL;
	return 0;
}

/* argv becomes: interpreter, [its argument], script, and the old arguments without the first. */
static int script_args(struct exec *x, const char *interp, const char *arg, const char *script)
{
	u32 add = arg ? 2 : 1, n = 0;
	char **v = kzalloc((x->argc + add + 1) * sizeof(char *));

	if (!v)
		return -ENOMEM;
	v[n++] = kstrdup(interp);
	if (arg)
		v[n++] = kstrdup(arg);
	v[n++] = kstrdup(script);
	for (u32 i = 0; i < n; i++) {
		if (!v[i]) {
			for (u32 k = 0; k < n; k++)
				kfree(v[k]);
			kfree(v);
			return -ENOMEM;
		}
	}
	for (u32 i = 1; i < x->argc; i++)
		v[n++] = x->argv[i];
	kfree(x->argv[0]);
	kfree(x->argv);
	x->argv = v;
	x->argc = n;
	return 0;
}

/* One file of the chain: an ELF file ends it (1), a script names the next one (0). */
static int resolve_one(struct exec *x, char *head)
{
	int err;
	struct file *f = open_executable(x->exe_path, &err);
	char *interp, *arg, *script;
	s64 n;

	if (!f)
		return err;
	memset(head, 0, HEAD_SIZE);
	n = vfs_pread(f, head, HEAD_SIZE - 1, 0);
	if (n < 2 || head[0] != '#' || head[1] != '!') {
		x->elf = n < 0 ? NULL : elf_open(f, &err);
		if (!x->elf) {
			file_put(f);
			return n < 0 ? (int)n : err;
		}
		file_get(f);
		x->exe = f;
		return 1;
	}
	file_put(f);
	err = parse_script(head, &interp, &arg);
	if (err)
		return err;
	script = x->exe_path;
	err = script_args(x, interp, arg, script);
	if (err)
		return err;
	x->exe_path = kstrdup(interp);
	kfree(script);
	return x->exe_path ? 0 : -ENOMEM;
}

static int resolve(struct exec *x)
{
	char head[HEAD_SIZE];
	struct file *f;
	int res = 0;

	for (int depth = 0; !res; depth++) {
		if (depth > MAX_SCRIPTS)
			return -ELOOP;
		res = resolve_one(x, head);
	}
	if (res < 0)
		return res;
	if (!elf_interp(x->elf))
		return 0;
	f = open_executable(elf_interp(x->elf), &res);
	if (!f)
		return res;
	x->interp = elf_open(f, &res);
	if (!x->interp) {
		file_put(f);
		return res == -ENOEXEC ? -ELIBBAD : res;
	}
	return 0;
}

/* --- the stack ------------------------------------------------------------------------- */

static u64 strings_size(char *const *v, u32 n)
{
	u64 size = 0;

	for (u32 i = 0; i < n; i++)
		size += strlen(v[i]) + 1;
	return size;
}

static int check_size(struct exec *x)
{
	u64 limit = MIN(current->proc->rlim[RLIMIT_STACK].rlim_cur / 4, MAX_ARG_TOTAL);
	u64 size = strings_size(x->argv, x->argc) + strings_size(x->envp, x->envc) + strlen(x->path) + 1;

	size += (x->argc + x->envc + 2) * sizeof(u64);
	for (u32 i = 0; i < x->argc; i++)
		if (strlen(x->argv[i]) >= MAX_ARG_STRLEN)
			return -E2BIG;
	for (u32 i = 0; i < x->envc; i++)
		if (strlen(x->envp[i]) >= MAX_ARG_STRLEN)
			return -E2BIG;
	return size > MAX(limit, 128ul << 10) ? -E2BIG : 0;
}

struct aux {
	u64 *v;
	u32 n;
};

static void aux_add(struct aux *a, u64 type, u64 val)
{
	a->v[a->n++] = type;
	a->v[a->n++] = val;
}

struct stack_addrs {
	u64 execfn, platform, random;
};

static void fill_aux(struct aux *a, const struct elf_program *prog, u64 interp_base, u64 vdso,
		     const struct stack_addrs *s)
{
	const struct process *p = current->proc;

	if (vdso)
		aux_add(a, AT_SYSINFO_EHDR, vdso);
	aux_add(a, AT_MINSIGSTKSZ, sigframe_min_size());
	aux_add(a, AT_HWCAP, boot->cpu_features[3]);
	aux_add(a, AT_PAGESZ, PAGE_SIZE);
	aux_add(a, AT_CLKTCK, 100);
	aux_add(a, AT_PHDR, prog->phdr);
	aux_add(a, AT_PHENT, prog->phent);
	aux_add(a, AT_PHNUM, prog->phnum);
	aux_add(a, AT_BASE, interp_base);
	aux_add(a, AT_FLAGS, 0);
	aux_add(a, AT_ENTRY, prog->entry);
	aux_add(a, AT_UID, p->uid);
	aux_add(a, AT_EUID, p->euid);
	aux_add(a, AT_GID, p->gid);
	aux_add(a, AT_EGID, p->egid);
	aux_add(a, AT_SECURE, 0);
	aux_add(a, AT_RANDOM, s->random);
	aux_add(a, AT_HWCAP2, HWCAP2_FSGSBASE);
	aux_add(a, AT_EXECFN, s->execfn);
	aux_add(a, AT_PLATFORM, s->platform);
	aux_add(a, AT_NULL, 0);
}

/* Append n strings at *at (offset in block), their addresses to ptr. */
static void put_strings(char *block, u64 block_va, u64 *at, char *const *v, u32 n, u64 *ptr)
{
	for (u32 i = 0; i < n; i++) {
		u64 len = strlen(v[i]) + 1;

		memcpy(block + *at, v[i], len);
		ptr[i] = block_va + *at;
		*at += len;
	}
	ptr[n] = 0;
}

/* Build the block below `top` and copy it out; *sp is where it starts. */
static int build_stack(struct exec *x, struct aspace *as, u64 top, const struct elf_program *prog,
		       u64 interp_base, u64 vdso, u64 *sp)
{
	static const char platform[] = "x86_64";
	u64 ptrs = (1 + x->argc + 1 + x->envc + 1 + 2 * N_AUX) * sizeof(u64), at, va, size;
	u64 strings = strings_size(x->argv, x->argc) + strings_size(x->envp, x->envc) + strlen(x->path) + 1;
	struct stack_addrs s;
	struct aux aux;
	char *block;
	u64 *p;

	size = ALIGN_UP(ptrs + 16 + sizeof(platform) + strings + 8, 16);
	va = (top - size) & ~15ull;
	block = kzalloc(size);
	if (!block)
		return -ENOMEM;
	at = ptrs;
	random_bytes(block + at, 16);
	s.random = va + at;
	at += 16;
	memcpy(block + at, platform, sizeof(platform));
	s.platform = va + at;
	at += sizeof(platform);

	p = (u64 *)block;
	*p++ = x->argc;
	as->arg_start = va + at;
	put_strings(block, va, &at, x->argv, x->argc, p);
	p += x->argc + 1;
	as->arg_end = as->env_start = va + at;
	put_strings(block, va, &at, x->envp, x->envc, p);
	p += x->envc + 1;
	as->env_end = va + at;
	memcpy(block + at, x->path, strlen(x->path) + 1);
	s.execfn = va + at;

	aux = (struct aux){.v = p};
	fill_aux(&aux, prog, interp_base, vdso, &s);
	memcpy(as->auxv, p, MIN(sizeof(as->auxv), aux.n * sizeof(u64)));
	as->start_stack = va;
	*sp = va;
	at = (u64)copy_out((void *)va, block, size);
	kfree(block);
	return (int)at;
}

static s64 map_stack(struct aspace *as, int prot, u64 need, u64 *top)
{
	u64 limit = current->proc->rlim[RLIMIT_STACK].rlim_cur, size;
	struct vma *v;
	s64 res;

	*top = aspace_random_stack_top(as);
	size = PAGE_UP(MAX(STACK_INITIAL, need + (16 << 10)));
	size = MIN(size, MAX(PAGE_DOWN(limit), PAGE_UP(need + PAGE_SIZE)));
	res = mm_mmap(as, *top - size, size, (u32)prot,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN | MAP_STACK, NULL, 0);
	if (res < 0)
		return res;
	v = vma_find(as, *top - size);
	if (v)
		v->name = "[stack]";
	return 0;
}

/* --- load ---------------------------------------------------------------------------------- */

static void note_limits(struct aspace *as, const struct elf_program *p)
{
	as->start_code = p->start_code;
	as->end_code = p->end_code;
	as->start_data = p->start_data;
	as->end_data = p->end_data;
	as->brk_start = as->brk = aspace_random_brk(as, p->end);
}

/* Into the current, empty address space. */
static int load(struct exec *x, struct aspace *as, u64 *entry, u64 *sp)
{
	u64 need = strings_size(x->argv, x->argc) + strings_size(x->envp, x->envc) +
		   (x->argc + x->envc + 64) * sizeof(u64);
	struct elf_program prog, interp = {0};
	u64 top, vdso;
	s64 err;

	err = elf_map(x->elf, as, false, &prog);
	if (err)
		return (int)err;
	note_limits(as, &prog);
	err = map_stack(as, elf_stack_prot(x->elf), need, &top);
	if (!err && x->interp)
		err = elf_map(x->interp, as, true, &interp);
	if (err)
		return (int)err;
	vdso = vdso_map(as);
	if (boot->flags & BOOT_F_STATS && x->interp && vdso) {
		as->main_entry = prog.entry;
		prog.entry = vdso + vdso_main_mark_offset();
	}
	*entry = x->interp ? interp.entry : prog.entry;
	return build_stack(x, as, top, &prog, interp.base, vdso, sp);
}

static void set_registers(struct regs *r, u64 entry, u64 sp)
{
	struct thread *t = current;

	memset(r, 0, sizeof(*r));
	r->rip = entry;
	r->rsp = sp;
	r->rflags = USER_FLAGS;
	r->cs = 0x33;
	r->ss = 0x2b;
	r->orig_rax = ~0ull;
	xstate_reset(t);
	t->fs_base = 0;
	__asm__ volatile("wrfsbase %0" ::"r"(0ul));
}

/* What changes beside memory and registers. */
static void finish(struct exec *x)
{
	struct thread *t = current;
	struct process *p = t->proc;

	p->exit_signal = SIGCHLD;
	if (p->fds)
		fd_close_on_exec(p->fds);
	signal_exec_reset(p);
	posix_timers_free(p);
	t->robust_list = t->clear_child_tid = 0;
	t->restart.fn = NULL;
	thread_set_comm(t, x->path);
	memcpy(p->comm, t->comm, sizeof(p->comm));
	p->did_exec = true;
	p->dumpable = true;
	p->keepcaps = 0;
	if (p->exe)
		file_put(p->exe);
	p->exe = x->exe;
	x->exe = NULL;
	kfree(p->exe_path);
	p->exe_path = x->exe_path;
	x->exe_path = NULL;
}

/* What another process shares stays as that one sees it: descriptors, handlers. 0 or -ENOMEM. */
static int unshare_rest(struct process *p)
{
	struct fdtable **at = current->own_fds ? &current->own_fds : &p->fds,
		       *fds = *at ? fdtable_unshare(*at) : NULL;
	struct sighand *h = p->sighand;

	if (*at && !fds)
		return -ENOMEM;
	*at = fds;
	if (h->refs == 1)
		return 0;
	h = kmalloc(sizeof(*h));
	if (!h)
		return -ENOMEM;
	*h = *p->sighand;
	h->refs = 1;
	sighand_put(p->sighand);
	p->sighand = h;
	p->action = h->action;
	return 0;
}

static int commit(struct exec *x)
{
	struct process *p = current->proc;
	struct aspace *old = p->as, *as = aspace_new();
	u64 entry = 0, sp = 0;
	int err;

	if (!as)
		return -ENOMEM;
	err = unshare_rest(p);
	if (!err)
		err = process_become_single();
	if (err) {
		aspace_put(as);
		return err;
	}
	/* The old program cannot go on from here. */
	if (current->own_fs) {
		fs_context_put(p->fs);
		p->fs = current->own_fs;
		current->own_fs = NULL;
	}
	if (current->own_fds) {
		struct fdtable *old_fds = p->fds;

		p->fds = current->own_fds;
		current->own_fds = NULL;
		fdtable_put(old_fds);
	}
	thread_release_user(current);
	process_drop_memory(p);
	p->as = as;
	aspace_switch(as);
	if (old)
		aspace_put(old);
	err = load(x, as, &entry, &sp);
	if (err) {
		log_line(LOG_ERROR, "%s: could not be loaded (error %d)", x->path, -err);
		process_exit(SIGKILL);
	}
	finish(x);
	set_registers(current_regs(), entry, sp);
	if (!stats->first_user_tsc) {
		stats->first_user_tsc = __builtin_ia32_rdtsc();
		if (!x->interp)
			stats->main_tsc = stats->first_user_tsc;
	}
	return 0;
}

s64 exec_note_main(void)
{
	stats->syscalls--; /* none of the program's */
	if (!stats->main_tsc)
		stats->main_tsc = __builtin_ia32_rdtsc();
	return (s64)current->proc->as->main_entry;
}

int exec_program(const char *path, char *const argv[], char *const envp[])
{
	struct exec x = {.envp = envp, .envc = count(envp)};
	int err = -ENOMEM;

	x.path = kstrdup(path);
	x.exe_path = kstrdup(path);
	if (x.path && x.exe_path)
		err = copy_args(&x, argv);
	if (!err)
		err = resolve(&x);
	if (!err)
		err = check_size(&x);
	if (!err)
		err = commit(&x);
	exec_free(&x);
	return err;
}
