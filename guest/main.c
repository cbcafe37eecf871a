/* SPDX-License-Identifier: ISC */
/*
 * The library OS's main: from the first C instruction to the program's first.
 *
 * The order is that of need: the per-CPU block and the platform (so that
 * panic() works), randomness, memory, the ring, threads, files, sockets; then
 * the first thread of the program, on its own kernel stack, opens its
 * descriptors, loads the executable and leaves for the app. The boot stack is
 * not used again after that.
 */
#include <linux/fcntl.h>

#include "abi/boot.h"
#include "abi/libos.h"
#include "abi/ring.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/net/net.h"
#include "guest/plat/plat.h"
#include "guest/plat/ring.h"
#include "guest/proc/internal.h"
#include "guest/proc/smp.h"
#include "guest/random.h"
#include "guest/vfs/prefix.h"
#include "guest/vfs/vfs.h"

const struct boot_info *boot;
struct boot_stats *stats;
const struct plat *plat;

extern char syscall_entry[];
void guest_main(struct boot_info *bi);

static inline u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (u64)hi << 32;
}

static void cpu_init(void)
{
	struct cpu *c = this_cpu(); /* self, exception stack and canary are the loader's */

	c->syscall_entry = (u64)syscall_entry;
	c->shared = (struct boot_vcpu *)boot->vcpu_va;
	cpus[0] = c;
}

/* n strings of boot data at *s, as an array that ends with NULL; *s goes behind them. */
static char **string_array(char **s, u32 n)
{
	char **a = kmalloc((n + 1) * sizeof(*a));

	if (!a)
		panic("no memory for the arguments");
	for (u32 i = 0; i < n; i++) {
		a[i] = *s;
		*s += strlen(*s) + 1;
	}
	a[n] = NULL;
	return a;
}

static const char *boot_string(u32 off)
{
	return (const char *)boot->strings_va + off;
}

/* The fallback of fs_context_new() is not what was asked for. */
static void check_workdir(void)
{
	const char *want = boot->cwd_off ? boot_string(boot->cwd_off) : "/";
	struct file *f;
	int err;

	f = vfs_open(AT_FDCWD, want, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, &err);
	if (f) {
		file_put(f);
		return;
	}
	log_line(LOG_ERROR, "working directory %s: %s", want,
		 err == -ENOENT ? "no such directory in the guest" : "not a directory of the guest");
	process_exit(125 << 8);
}

/* The host found the program and looked at it; what is left is mostly about what it refers to. */
static const char *why_not(int err)
{
	switch (err) {
	case -ENOENT:
		return "the interpreter that it names is missing";
	case -ELOOP:
		return "scripts name one another as interpreters for ever";
	case -EACCES:
		return "it or its interpreter is not executable";
	case -ENOEXEC:
	case -ELIBBAD:
		return "it or its interpreter is damaged";
	case -E2BIG:
		return "too many or too long arguments and environment variables";
	case -ENOMEM:
		return "out of memory";
	default:
		return "it was refused";
	}
}

/* First thread of the program. */
static void program_start(void *arg)
{
	char *s = (char *)boot_string(boot->argv_off);
	char **argv = string_array(&s, boot->argc), **envp = string_array(&s, boot->envc);
	const char *exe = boot_string(boot->exe_off);
	int r;

	vfs_open_console();
	check_workdir();
	r = exec_program(exe, argv, envp);
	if (r < 0) {
		log_line(LOG_ERROR, "%s: cannot be executed: %s (error %d)", exe, why_not(r), -r);
		process_exit(126 << 8);
	}
	kfree(argv);
	kfree(envp);
	arch_return_to_user(current_regs());
}

static void start_program(void)
{
	struct thread *t;

	init_process->fds = fdtable_new();
	init_process->fs = fs_context_new();
	t = thread_new(init_process);
	if (!t || !init_process->fds || !init_process->fs)
		panic("no memory for the program's first thread");
	arch_thread_setup(t, program_start, NULL);
	sched_new_thread(t);
}

void guest_main(struct boot_info *bi)
{
	boot = bi;
	stats = (struct boot_stats *)bi->stats_va;
	stats->first_insn_tsc = rdtsc();
	plat = bi->plat == BOOT_PLAT_PROCESS ? &plat_process : &plat_kvm;
	cpu_init();
	if (bi->magic != BOOT_MAGIC || bi->version != BOOT_VERSION)
		panic("boot information of another version");
	random_init(bi);
	arch_init();
	frames_init();
	ring_init();
	sched_init();
	vfs_init();
	prefix_init();
	net_init();
	log_line(LOG_DEBUG, "library OS up on %s", plat->name);
	start_program();
	smp_start();
	current->state = THREAD_DEAD; /* the boot context; schedule() never comes back to it */
	schedule();
	panic("the boot context ran again");
}
