/* SPDX-License-Identifier: ISC */
/*
 * System calls: the system as a whole (uname, sysinfo, limits, randomness) and
 * the CPU state that a program may ask for.
 */
#include <asm/prctl.h>
#include <linux/capability.h>
#include <linux/personality.h>
#include <linux/random.h>
#include <linux/resource.h>
#include <linux/sysinfo.h>
#include <linux/utsname.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/restored.h"

#define NR_OPEN_MAX 1048576

static char hostname[__NEW_UTS_LEN + 1];
static bool hostname_is_apps; /* set by the app itself */
static char domainname[__NEW_UTS_LEN + 1] = "(none)";

const char *system_hostname(void)
{
	const char *name = (char *)boot->strings_va + boot->hostname_off;

	if (!hostname[0]) {
		size_t n = strnlen(name, __NEW_UTS_LEN);

		memcpy(hostname, n ? name : "cowbell", n ? n : 7);
	}
	return hostname;
}

bool hostname_restored(char old[65])
{
	memcpy(old, system_hostname(), sizeof(hostname));
	if (!boot->hostname[0] || hostname_is_apps)
		return false;
	memcpy(hostname, boot->hostname, sizeof(hostname));
	hostname[sizeof(hostname) - 1] = 0;
	return strcmp(old, hostname);
}

SYSCALL1(uname, struct new_utsname *, uts)
{
	struct new_utsname u;

	memset(&u, 0, sizeof(u));
	memcpy(u.sysname, "Linux", 6);
	memcpy(u.nodename, system_hostname(), strlen(system_hostname()));
	memcpy(u.release, SYSTEM_RELEASE, sizeof(SYSTEM_RELEASE));
	memcpy(u.version, SYSTEM_VERSION, sizeof(SYSTEM_VERSION));
	memcpy(u.machine, "x86_64", 7);
	memcpy(u.domainname, domainname, strlen(domainname));
	return put_user(u, uts);
}

static s64 set_name(char *name, const char *uname, u64 len)
{
	char buf[__NEW_UTS_LEN + 1] = {0};

	if (current->proc->euid)
		return -EPERM;
	if (len > __NEW_UTS_LEN)
		return -EINVAL;
	if (copy_in(buf, uname, len))
		return -EFAULT;
	memcpy(name, buf, sizeof(buf));
	return 0;
}

SYSCALL2(sethostname, const char *, uname, u64, len)
{
	s64 r = set_name(hostname, uname, len);

	hostname_is_apps |= !r;
	return r;
}

SYSCALL2(setdomainname, const char *, uname, u64, len)
{
	return set_name(domainname, uname, len);
}

SYSCALL1(sysinfo, struct sysinfo *, uinfo)
{
	struct sysinfo si;
	u32 load[3];
	u64 n = 0;

	list_for_each (it, &all_threads)
		n += !list_entry(it, struct thread, all_node)->kfn;
	memset(&si, 0, sizeof(si));
	si.uptime = (s64)((mono_ns() - init_process->start_ns) / NS_PER_SEC);
	si.totalram = frames_total() * PAGE_SIZE;
	si.freeram = frames_free() * PAGE_SIZE;
	load_averages(load);
	for (unsigned i = 0; i < ARRAY_SIZE(load); i++)
		si.loads[i] = (u64)load[i] * ((1u << SI_LOAD_SHIFT) / LOAD_ONE);
	si.procs = (u16)MIN(n, 65535ull);
	si.mem_unit = 1;
	return put_user(si, uinfo);
}

SYSCALL3(syslog, int, type, char *, ubuf, int, len)
{
	return -EPERM;
}

SYSCALL1(personality, u32, persona)
{
	struct process *p = current->proc;
	u32 old = p->personality;

	if (persona != 0xffffffffu)
		p->personality = persona;
	return old;
}

SYSCALL3(getrandom, u8 *, ubuf, u64, len, u32, flags)
{
	u8 buf[256];
	u64 done = 0;

	if (flags & ~(u32)(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE) ||
	    (flags & (GRND_RANDOM | GRND_INSECURE)) == (GRND_RANDOM | GRND_INSECURE))
		return -EINVAL;
	len = MIN(len, (u64)INT32_MAX & PAGE_MASK);
	while (done < len) {
		u64 n = MIN(len - done, sizeof(buf));

		random_bytes(buf, n);
		if (copy_out(ubuf + done, buf, n)) {
			memset(buf, 0, sizeof(buf));
			return done ? (s64)done : -EFAULT;
		}
		done += n;
		if (signal_is_pending() && done >= 256)
			break;
	}
	memset(buf, 0, sizeof(buf));
	return (s64)done;
}

/* --- limits -------------------------------------------------------------------------- */

/* Another process's limits: as itself would, or with the capability. */
static bool may_limit(const struct process *p)
{
	const struct process *me = current->proc;

	return p == me || me->cap_effective >> CAP_SYS_RESOURCE & 1 ||
	       (me->uid == p->uid && me->uid == p->euid && me->uid == p->suid && me->gid == p->gid &&
		me->gid == p->egid && me->gid == p->sgid);
}

static s64 set_limit(struct process *p, u32 which, const struct rlimit64 *new)
{
	struct rlimit64 *l = &p->rlim[which];

	if (new->rlim_cur > new->rlim_max)
		return -EINVAL;
	if (which == RLIMIT_NOFILE && new->rlim_max > NR_OPEN_MAX)
		return -EPERM;
	if (new->rlim_max > l->rlim_max && !(current->proc->cap_effective >> CAP_SYS_RESOURCE & 1))
		return -EPERM;
	if (which == RLIMIT_CPU && !p->zombie) {
		cpu_limit_note(l->rlim_cur, new->rlim_cur);
		sched_update_tick();
	}
	*l = *new;
	return 0;
}

SYSCALL4(prlimit64, s32, pid, u32, which, const struct rlimit64 *, unew, struct rlimit64 *, uold)
{
	struct process *p = pid ? process_by_pid(pid) : current->proc;
	struct rlimit64 new, old;
	s64 err;

	if (which >= RLIM_NLIMITS)
		return -EINVAL;
	if (!p && thread_by_tid(pid))
		p = thread_by_tid(pid)->proc;
	if (!p)
		return -ESRCH;
	if (!may_limit(p))
		return -EPERM;
	old = p->rlim[which];
	if (unew) {
		if (get_user(new, unew))
			return -EFAULT;
		err = set_limit(p, which, &new);
		if (err)
			return err;
	}
	return uold ? put_user(old, uold) : 0;
}

SYSCALL2(getrlimit, u32, which, struct rlimit64 *, ulim)
{
	return which >= RLIM_NLIMITS ? -EINVAL : put_user(current->proc->rlim[which], ulim);
}

SYSCALL2(setrlimit, u32, which, const struct rlimit64 *, ulim)
{
	struct rlimit64 new;

	if (which >= RLIM_NLIMITS)
		return -EINVAL;
	return get_user(new, ulim) ? -EFAULT : set_limit(current->proc, which, &new);
}

/* --- CPU state -------------------------------------------------------------------------- */

/* %gs is the library OS's: the app shares its privilege level and cannot have it. */
SYSCALL2(arch_prctl, int, code, u64, addr)
{
	u64 base;

	switch (code) {
	case ARCH_SET_FS:
		if (addr >= BOOT_TASK_SIZE)
			return -EPERM;
		__asm__ volatile("wrfsbase %0" ::"r"(addr));
		return 0;
	case ARCH_GET_FS:
		__asm__ volatile("rdfsbase %0" : "=r"(base));
		return put_user(base, (u64 *)addr);
	case ARCH_SET_GS:
		log_line(LOG_WARN, "arch_prctl(ARCH_SET_GS) is refused: the library OS uses %%gs");
		return -EINVAL;
	case ARCH_GET_XCOMP_SUPP:
	case ARCH_GET_XCOMP_PERM:
		return put_user(boot->xcr0, (u64 *)addr);
	default:
		return -EINVAL;
	}
}
