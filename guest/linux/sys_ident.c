/* SPDX-License-Identifier: ISC */
/*
 * System calls: who the program is. User and group ids, groups, capabilities,
 * prctl. Ids follow Linux's rules; what they allow is decided where files are
 * opened. Capabilities are kept and shown: inside its instance root has all.
 */
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/securebits.h>

#include "abi/boot.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/vfs/vfs.h"

#define NO_ID	 0xffffffffu
#define ALL_CAPS ((1ull << (CAP_LAST_CAP + 1)) - 1)
#define N_GROUPS ARRAY_SIZE(((struct process *)0)->groups)

static bool has_cap(int cap)
{
	return current->proc->cap_effective >> cap & 1;
}

/* --- user and group ids ----------------------------------------------------------- */

/* One family of ids: the same rules serve users and groups. */
struct ids {
	u32 *real, *eff, *saved, *fs;
	bool privileged;
};

static struct ids users(void)
{
	struct process *p = current->proc;

	return (struct ids){&p->uid, &p->euid, &p->suid, &p->fsuid, has_cap(CAP_SETUID)};
}

static struct ids groups(void)
{
	struct process *p = current->proc;

	return (struct ids){&p->gid, &p->egid, &p->sgid, &p->fsgid, has_cap(CAP_SETGID)};
}

/* A user id changed: capabilities follow, as execve-less Linux does. */
static void caps_follow(bool was_root, bool was_eff_root)
{
	struct process *p = current->proc;
	bool any_root = !p->uid || !p->euid || !p->suid;

	if (was_root && !any_root && !p->keepcaps)
		p->cap_permitted = p->cap_effective = p->cap_ambient = 0;
	else if (was_eff_root && p->euid)
		p->cap_effective = 0;
	else if (!was_eff_root && !p->euid)
		p->cap_effective = p->cap_permitted;
}

static s64 set_ids(struct ids i, u32 real, u32 eff, u32 saved, bool user)
{
	struct process *p = current->proc;
	bool root = !p->uid || !p->euid || !p->suid, eff_root = !p->euid;

	if (real != NO_ID)
		*i.real = real;
	if (eff != NO_ID)
		*i.eff = *i.fs = eff;
	if (saved != NO_ID)
		*i.saved = saved;
	if (user)
		caps_follow(root, eff_root);
	return 0;
}

static bool one_of(const struct ids *i, u32 id, bool saved)
{
	return id == NO_ID || id == *i->real || id == *i->eff || (saved && id == *i->saved);
}

static s64 setid(struct ids i, u32 id, bool user)
{
	if (id == NO_ID)
		return -EINVAL;
	if (i.privileged)
		return set_ids(i, id, id, id, user);
	if (id != *i.real && id != *i.saved)
		return -EPERM;
	return set_ids(i, NO_ID, id, NO_ID, user);
}

static s64 setreid(struct ids i, u32 real, u32 eff, bool user)
{
	bool new_saved = real != NO_ID || (eff != NO_ID && eff != *i.real);

	if (!i.privileged && ((real != NO_ID && real != *i.real && real != *i.eff) || !one_of(&i, eff, true)))
		return -EPERM;
	return set_ids(i, real, eff, new_saved ? (eff != NO_ID ? eff : *i.eff) : NO_ID, user);
}

static s64 setresid(struct ids i, u32 real, u32 eff, u32 saved, bool user)
{
	if (!i.privileged && !(one_of(&i, real, true) && one_of(&i, eff, true) && one_of(&i, saved, true)))
		return -EPERM;
	return set_ids(i, real, eff, saved, user);
}

static s64 getresid(struct ids i, u32 *ureal, u32 *ueff, u32 *usaved)
{
	return put_user(*i.real, ureal) || put_user(*i.eff, ueff) || put_user(*i.saved, usaved) ? -EFAULT : 0;
}

/* Never fails: the old value tells whether it worked. */
static s64 setfsid(struct ids i, u32 id)
{
	u32 old = *i.fs;

	if (id != NO_ID && (i.privileged || one_of(&i, id, true)))
		*i.fs = id;
	return old;
}

SYSCALL0(getuid)
{
	return current->proc->uid;
}

SYSCALL0(geteuid)
{
	return current->proc->euid;
}

SYSCALL0(getgid)
{
	return current->proc->gid;
}

SYSCALL0(getegid)
{
	return current->proc->egid;
}

SYSCALL1(setuid, u32, id)
{
	return setid(users(), id, true);
}

SYSCALL1(setgid, u32, id)
{
	return setid(groups(), id, false);
}

SYSCALL2(setreuid, u32, real, u32, eff)
{
	return setreid(users(), real, eff, true);
}

SYSCALL2(setregid, u32, real, u32, eff)
{
	return setreid(groups(), real, eff, false);
}

SYSCALL3(setresuid, u32, real, u32, eff, u32, saved)
{
	return setresid(users(), real, eff, saved, true);
}

SYSCALL3(setresgid, u32, real, u32, eff, u32, saved)
{
	return setresid(groups(), real, eff, saved, false);
}

SYSCALL3(getresuid, u32 *, ureal, u32 *, ueff, u32 *, usaved)
{
	return getresid(users(), ureal, ueff, usaved);
}

SYSCALL3(getresgid, u32 *, ureal, u32 *, ueff, u32 *, usaved)
{
	return getresid(groups(), ureal, ueff, usaved);
}

SYSCALL1(setfsuid, u32, id)
{
	return setfsid(users(), id);
}

SYSCALL1(setfsgid, u32, id)
{
	return setfsid(groups(), id);
}

SYSCALL2(getgroups, int, n, u32 *, ulist)
{
	struct process *p = current->proc;

	if (n < 0 || (n && (u32)n < p->n_groups))
		return -EINVAL;
	if (n && copy_out(ulist, p->groups, p->n_groups * sizeof(u32)))
		return -EFAULT;
	return p->n_groups;
}

SYSCALL2(setgroups, u32, n, const u32 *, ulist)
{
	struct process *p = current->proc;
	u32 list[N_GROUPS];

	if (!has_cap(CAP_SETGID))
		return -EPERM;
	if (n > N_GROUPS)
		return -EINVAL;
	if (copy_in(list, ulist, n * sizeof(u32)))
		return -EFAULT;
	memcpy(p->groups, list, n * sizeof(u32));
	p->n_groups = n;
	return 0;
}

/* --- capabilities ------------------------------------------------------------------ */

static int cap_header(struct __user_cap_header_struct *uh, s32 *pid, u32 *words)
{
	struct __user_cap_header_struct h;
	u32 version = _LINUX_CAPABILITY_VERSION_3;

	if (get_user(h, uh))
		return -EFAULT;
	switch (h.version) {
	case _LINUX_CAPABILITY_VERSION_1:
		*words = _LINUX_CAPABILITY_U32S_1;
		break;
	case _LINUX_CAPABILITY_VERSION_2:
	case _LINUX_CAPABILITY_VERSION_3:
		*words = _LINUX_CAPABILITY_U32S_3;
		break;
	default:
		return put_user(version, &uh->version) ? -EFAULT : -EINVAL;
	}
	*pid = h.pid;
	return 0;
}

SYSCALL2(capget, struct __user_cap_header_struct *, uh, struct __user_cap_data_struct *, ud)
{
	struct __user_cap_data_struct d[2];
	struct process *p;
	u32 words;
	s32 pid;
	int err = cap_header(uh, &pid, &words);

	if (err)
		return err == -EINVAL && !ud ? 0 : err;
	if (pid < 0)
		return -EINVAL;
	p = pid ? process_by_pid(pid) : current->proc;
	if (!p && thread_by_tid(pid))
		p = thread_by_tid(pid)->proc;
	if (!p)
		return -ESRCH;
	for (u32 i = 0; i < 2; i++)
		d[i] = (struct __user_cap_data_struct){(u32)(p->cap_effective >> 32 * i),
						       (u32)(p->cap_permitted >> 32 * i),
						       (u32)(p->cap_inheritable >> 32 * i)};
	return ud ? copy_out(ud, d, words * sizeof(d[0])) : 0;
}

SYSCALL2(capset, struct __user_cap_header_struct *, uh, const struct __user_cap_data_struct *, ud)
{
	struct __user_cap_data_struct d[2] = {{0}};
	struct process *p = current->proc;
	u64 eff, perm, inh;
	u32 words;
	s32 pid;
	int err = cap_header(uh, &pid, &words);

	if (err)
		return err;
	if (pid && pid != p->pid && pid != current->tid)
		return -EPERM;
	if (copy_in(d, ud, words * sizeof(d[0])))
		return -EFAULT;
	eff = (d[0].effective | (u64)d[1].effective << 32) & ALL_CAPS;
	perm = (d[0].permitted | (u64)d[1].permitted << 32) & ALL_CAPS;
	inh = (d[0].inheritable | (u64)d[1].inheritable << 32) & ALL_CAPS;
	if (perm & ~p->cap_permitted || eff & ~perm)
		return -EPERM;
	if (inh & ~(p->cap_inheritable | p->cap_permitted) ||
	    (!has_cap(CAP_SETPCAP) && inh & ~(p->cap_inheritable | p->cap_bounding)))
		return -EPERM;
	p->cap_effective = eff;
	p->cap_permitted = perm;
	p->cap_inheritable = inh;
	p->cap_ambient &= perm & inh;
	return 0;
}

/* --- prctl --------------------------------------------------------------------------- */

static s64 prctl_name(bool set, char *uname)
{
	struct thread *t = current;
	char name[sizeof(t->comm)] = {0};
	s64 n;

	if (!set)
		return copy_out(uname, t->comm, sizeof(t->comm));
	n = strncpy_in(name, uname, sizeof(name));
	if (n == -EFAULT)
		return n;
	name[sizeof(name) - 1] = 0;
	memset(t->comm, 0, sizeof(t->comm));
	memcpy(t->comm, name, strlen(name));
	if (t->tid == t->proc->pid)
		memcpy(t->proc->comm, t->comm, sizeof(t->comm));
	return 0;
}

static s64 prctl_ambient(u64 what, u64 cap)
{
	struct process *p = current->proc;

	if (what == PR_CAP_AMBIENT_CLEAR_ALL) {
		p->cap_ambient = 0;
		return 0;
	}
	if (cap > CAP_LAST_CAP)
		return -EINVAL;
	switch (what) {
	case PR_CAP_AMBIENT_IS_SET:
		return p->cap_ambient >> cap & 1;
	case PR_CAP_AMBIENT_RAISE:
		if (!(p->cap_permitted & p->cap_inheritable & 1ull << cap))
			return -EPERM;
		p->cap_ambient |= 1ull << cap;
		return 0;
	case PR_CAP_AMBIENT_LOWER:
		p->cap_ambient &= ~(1ull << cap);
		return 0;
	default:
		return -EINVAL;
	}
}

static s64 prctl_caps(int option, u64 a, u64 b)
{
	struct process *p = current->proc;

	switch (option) {
	case PR_CAPBSET_READ:
		return a > CAP_LAST_CAP ? -EINVAL : (s64)(p->cap_bounding >> a & 1);
	case PR_CAPBSET_DROP:
		if (a > CAP_LAST_CAP)
			return -EINVAL;
		if (!has_cap(CAP_SETPCAP))
			return -EPERM;
		p->cap_bounding &= ~(1ull << a);
		return 0;
	case PR_CAP_AMBIENT:
		return prctl_ambient(a, b);
	case PR_GET_KEEPCAPS:
		return p->keepcaps;
	case PR_SET_KEEPCAPS:
		if (a > 1)
			return -EINVAL;
		p->keepcaps = (u32)a;
		return 0;
	case PR_GET_SECUREBITS:
		return p->securebits;
	default: /* PR_SET_SECUREBITS */
		if (!has_cap(CAP_SETPCAP) || a & ~(u64)(SECURE_ALL_BITS | SECURE_ALL_LOCKS))
			return -EPERM;
		p->securebits = (u32)a;
		return 0;
	}
}

static s64 put_int(u64 uptr, int v)
{
	return put_user(v, (int *)uptr);
}

SYSCALL5(prctl, int, option, u64, a, u64, b, u64, c, u64, d)
{
	struct thread *t = current;
	struct process *p = t->proc;

	switch (option) {
	case PR_SET_NAME:
	case PR_GET_NAME:
		return prctl_name(option == PR_SET_NAME, (char *)a);
	case PR_GET_DUMPABLE:
		return p->dumpable;
	case PR_SET_DUMPABLE:
		if (a > 1)
			return -EINVAL;
		p->dumpable = a;
		return 0;
	case PR_SET_PDEATHSIG:
		if (a > N_SIGNALS)
			return -EINVAL;
		t->pdeathsig = (int)a;
		return 0;
	case PR_GET_PDEATHSIG:
		return put_int(a, t->pdeathsig);
	case PR_SET_NO_NEW_PRIVS:
		if (a != 1 || b || c || d)
			return -EINVAL;
		p->no_new_privs = true;
		return 0;
	case PR_GET_NO_NEW_PRIVS:
		return a || b || c || d ? -EINVAL : p->no_new_privs;
	case PR_SET_CHILD_SUBREAPER:
		p->child_subreaper = a != 0;
		return 0;
	case PR_GET_CHILD_SUBREAPER:
		return put_int(a, (int)p->child_subreaper);
	case PR_SET_TIMERSLACK:
		t->timer_slack_ns = a ? a : 50000;
		return 0;
	case PR_GET_TIMERSLACK:
		return (s64)(t->timer_slack_ns ? t->timer_slack_ns : 50000);
	case PR_GET_SECCOMP:
		return 0; /* no filter is installed, and none can be */
	case PR_GET_TSC:
		return put_int(a, PR_TSC_ENABLE);
	case PR_SET_TSC:
		return a == PR_TSC_ENABLE ? 0 : -EINVAL;
	case PR_GET_TID_ADDRESS:
		return put_user(t->clear_child_tid, (u64 *)a);
	case PR_GET_THP_DISABLE:
		return 0;
	case PR_CAPBSET_READ:
	case PR_CAPBSET_DROP:
	case PR_CAP_AMBIENT:
	case PR_GET_KEEPCAPS:
	case PR_SET_KEEPCAPS:
	case PR_GET_SECUREBITS:
	case PR_SET_SECUREBITS:
		return prctl_caps(option, a, b);
	default:
		return -EINVAL;
	}
}
