/* SPDX-License-Identifier: ISC */
/*
 * A restored instance is another one than that which was taken, and what must not be the same in both is renewed here:
 *
 *   seed            the library OS's generator; so getrandom, /dev/urandom, ports and addresses chosen from then on
 *   WIPEONFORK      pages are wiped, as for a child: BoringSSL and others notice by them
 *   getpid          as libcrypto and its like see it, which ask it whether they are a copy; all others see the old one
 *   host name       the new instance's, unless the app set one itself; boot_id and /proc/cowbell/id, generation
 *   timerfd         that wants to hear of clock steps (TFD_TIMER_CANCEL_ON_SET)
 *   UDP             options of the new host sockets; who is connected to somebody outside gets an error, once
 *   volumes         files are other open files of the host now: attributes, cached pages, locks
 *
 * An instance that was moved is the same one, with the same sockets and files: little is renewed.
 * Timers that came due fire by themselves: the monotonic clock went on by what passed outside. Connections are dead in
 * the monitor and answer with errors. SIGCONT comes with the first completions (proc_ring_event).
 *
 * Limits: what a program or a library keeps in its own memory is not known here: Python's random, V8's
 * Math.random and the UUIDs that Node makes in advance, GnuTLS's generator within two hours. A statically linked OpenSSL is
 * known by the symbols that the executable exports.
 */
#include "guest/restored.h"

#include "abi/boot.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/mm/vma.h"
#include "guest/proc/internal.h"
#include "guest/random.h"
#include "guest/vfs/inode.h"
#include "guest/vfs/vfs.h"

#define SHOWN_PID_STEP 32768 /* no thread has such a number */

static bool keeps_own_randomness(const struct vma *v)
{
	static const char *const names[] = {"libcrypto", "libgcrypt",  "libgnutls",
					    "libnss3",	 "libsoftokn", "libfreebl"};
	const char *name = v->file && v->file->dentry ? v->file->dentry->name : NULL;

	for (size_t i = 0; name && i < ARRAY_SIZE(names); i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return false;
}

static bool maps_such_a_library(struct aspace *as)
{
	list_for_each (n, &as->vmas)
		if (keeps_own_randomness(list_entry(n, struct vma, node)))
			return true;
	return false;
}

/*
 * The C library's getpid is a leaf: on top of the stack is where its caller goes on. Two clones whose OpenSSL
 * shared its state would share session keys. Other programs break when it changes under them (PostgreSQL stops, Ruby
 * loses signals), so that they go on seeing the old one.
 */
s64 restored_getpid(void)
{
	struct process *p = current->proc;
	struct vma *v;
	u64 caller;

	if (likely(p->shown_pid == p->pid) || get_user(caller, (const u64 *)current_regs()->rsp))
		return p->pid;
	v = vma_find(p->as, caller);
	return v && v->start <= caller && keeps_own_randomness(v) ? p->shown_pid : p->pid;
}

static void renew_process(struct process *p)
{
	mm_wipe_on_fork(p->as);
	if (maps_such_a_library(p->as))
		p->shown_pid = p->pid + (s32)(SHOWN_PID_STEP * (1 + boot->generation % 1024));
}

void restored_renew(bool copy)
{
	random_init((struct boot_info *)boot);
	volumes_restored();
	if (!copy)
		return;
	list_for_each (n, &all_processes) {
		struct process *p = list_entry(n, struct process, all_node);

		if (p->as)
			renew_process(p);
	}
	hostname_restored();
	timerfds_restored();
	udp_restored();
}
