/* SPDX-License-Identifier: ISC */
/* epoll, poll and select: timeouts, signal masks, and the app's arrays and bit sets. */
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/net/poll.h"
#include "guest/net/sock.h"
#include "guest/proc/internal.h"

#define ENTS_FAST   8
#define SELECT_MAX  65536
#define NS_MAX_WAIT (1ull << 62)

/* --- timeouts -------------------------------------------------------------------------- */

static u64 deadline_ms(int ms)
{
	return ms < 0 ? NO_DEADLINE : mono_ns() + (u64)ms * 1000000;
}

/* A timespec -> deadline; *zero: do not wait. NULL: for ever. */
static int deadline_in(const s64 *uts, u64 *deadline, bool *zero)
{
	s64 ts[2];
	*zero = false;
	*deadline = NO_DEADLINE;
	if (!uts)
		return 0;
	if (copy_in(ts, uts, sizeof(ts)))
		return -EFAULT;
	if (ts[0] < 0 || ts[1] < 0 || (u64)ts[1] >= NS_PER_SEC)
		return -EINVAL;
	*zero = !ts[0] && !ts[1];
	u64 ns = (u64)MIN(ts[0], (s64)(NS_MAX_WAIT / NS_PER_SEC)) * NS_PER_SEC + (u64)ts[1];
	*deadline = mono_ns() + ns;
	return 0;
}

/* Linux tells how much time was left, where it can. */
static void deadline_out(s64 *uts, u64 unit, u64 deadline)
{
	if (!uts)
		return;
	u64 now = mono_ns(), left = deadline > now ? deadline - now : 0;
	s64 ts[2] = {(s64)(left / NS_PER_SEC), (s64)(left % NS_PER_SEC / unit)};
	if (copy_out(uts, ts, sizeof(ts)))
		return; /* memory that cannot be written keeps what it has */
}

/* --- epoll --------------------------------------------------------------------------------- */

SYSCALL1(epoll_create, int, size)
{
	return size <= 0 ? -EINVAL : epoll_create_fd(false);
}

SYSCALL1(epoll_create1, int, flags)
{
	return flags & ~O_CLOEXEC ? -EINVAL : epoll_create_fd(flags & O_CLOEXEC);
}

SYSCALL4(epoll_ctl, int, epfd, int, op, int, fd, const void *, ev)
{
	return epoll_control(epfd, op, fd, ev);
}

SYSCALL4(epoll_wait, int, epfd, void *, events, int, max, int, timeout)
{
	return epoll_wait_events(epfd, events, max, timeout ? deadline_ms(timeout) : 0, !timeout);
}

static s64 wait_masked(int epfd, void *events, int max, u64 deadline, bool zero, const void *mask, u64 size)
{
	s64 r = signal_user_mask(mask, size);
	if (r)
		return r;
	r = epoll_wait_events(epfd, events, max, deadline, zero);
	signal_user_mask_restore(r == -EINTR);
	return r;
}

SYSCALL6(epoll_pwait, int, epfd, void *, events, int, max, int, timeout, const void *, mask, u64, size)
{
	return wait_masked(epfd, events, max, timeout ? deadline_ms(timeout) : 0, !timeout, mask, size);
}

SYSCALL6(epoll_pwait2, int, epfd, void *, events, int, max, const s64 *, ts, const void *, mask, u64, size)
{
	u64 deadline;
	bool zero;
	int r = deadline_in(ts, &deadline, &zero);
	return r ? r : wait_masked(epfd, events, max, deadline, zero, mask, size);
}

/* --- poll ------------------------------------------------------------------------------------- */

struct pollfd_abi {
	s32 fd;
	int16_t events, revents;
};

static void put_ents(struct poll_ent *e, u32 n)
{
	for (u32 i = 0; i < n; i++)
		if (e[i].file)
			file_put(e[i].file);
}

static s64 poll_array(struct pollfd_abi *u, u32 n, u64 deadline, bool zero)
{
	struct poll_ent fast[ENTS_FAST], *e = fast;
	struct pollfd_abi pf_fast[ENTS_FAST], *pf = pf_fast;
	if (n > current->proc->rlim[RLIMIT_NOFILE].rlim_cur)
		return -EINVAL;
	if (n > ENTS_FAST) {
		e = kmalloc(n * (sizeof(*e) + sizeof(*pf)));
		if (!e)
			return -ENOMEM;
		pf = (struct pollfd_abi *)(e + n);
	}
	s64 r = -EFAULT;
	if (n && copy_in(pf, u, n * sizeof(*pf)))
		goto out;
	for (u32 i = 0; i < n; i++) {
		e[i] = (struct poll_ent){.events = (u16)pf[i].events | POLLERR | POLLHUP};
		if (pf[i].fd < 0)
			continue;
		e[i].file = fd_get(pf[i].fd);
		e[i].bad = !e[i].file;
	}
	r = poll_files(e, n, deadline, zero);
	put_ents(e, n);
	for (u32 i = 0; r >= 0 && i < n; i++) {
		int16_t rev = (int16_t)e[i].revents;
		if (rev != pf[i].revents && put_user(rev, &u[i].revents))
			r = -EFAULT;
	}
out:
	if (e != fast)
		kfree(e);
	return r;
}

static s64 poll_restart(struct thread *t)
{
	s64 r = poll_array((struct pollfd_abi *)t->restart.arg[0], (u32)t->restart.arg[1], t->restart.arg[2],
			   false);
	if (r != -ERESTARTSYS)
		return r;
	t->restart.fn = poll_restart;
	return -ERESTART_RESTARTBLOCK;
}

SYSCALL3(poll, struct pollfd_abi *, fds, u32, n, int, timeout)
{
	struct thread *t = current;
	u64 deadline = timeout ? deadline_ms(timeout) : 0;
	s64 r = poll_array(fds, n, deadline, !timeout);
	if (r != -ERESTARTSYS)
		return r;
	t->restart.fn = poll_restart;
	t->restart.arg[0] = (u64)fds;
	t->restart.arg[1] = n;
	t->restart.arg[2] = deadline;
	return -ERESTART_RESTARTBLOCK;
}

SYSCALL5(ppoll, struct pollfd_abi *, fds, u32, n, s64 *, uts, const void *, mask, u64, size)
{
	u64 deadline;
	bool zero;
	s64 r = deadline_in(uts, &deadline, &zero);
	if (!r)
		r = signal_user_mask(mask, size);
	if (r)
		return r;
	r = poll_array(fds, n, deadline, zero);
	signal_user_mask_restore(r == -ERESTARTSYS);
	deadline_out(uts, 1, deadline);
	return r == -ERESTARTSYS ? -ERESTARTNOHAND : r;
}

/* --- select ------------------------------------------------------------------------------------- */

#define SEL_IN	(POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)
#define SEL_OUT (POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)
#define SEL_EX	POLLPRI

struct sets {
	u32 words; /* 64-bit words in each set */
	u64 *set[3];
	u64 *user[3];
};

static const u32 sel_mask[3] = {SEL_IN, SEL_OUT, SEL_EX};

static int sets_in(struct sets *s, u64 *buf, int n)
{
	u64 last = n % 64 ? (1ull << n % 64) - 1 : ~0ull;
	memset(buf, 0, 3 * s->words * sizeof(u64));
	for (int k = 0; k < 3; k++) {
		s->set[k] = buf + (u32)k * s->words;
		if (s->user[k] && s->words) {
			if (copy_in(s->set[k], s->user[k], s->words * sizeof(u64)))
				return -EFAULT;
			s->set[k][s->words - 1] &= last;
		}
	}
	return 0;
}

/* One entry for each descriptor that is in some set. Number, or -EBADF. */
static int sets_to_ents(struct sets *s, struct poll_ent *e, s32 *fd)
{
	int n = 0;
	for (u32 w = 0; w < s->words; w++) {
		u64 any = s->set[0][w] | s->set[1][w] | s->set[2][w];
		for (; any; any &= any - 1) {
			u32 bit = (u32)__builtin_ctzll(any);
			e[n] = (struct poll_ent){.events = 0};
			for (int k = 0; k < 3; k++)
				if (s->set[k][w] >> bit & 1)
					e[n].events |= sel_mask[k];
			fd[n] = (s32)(w * 64 + bit);
			e[n].file = fd_get(fd[n]);
			if (!e[n++].file) {
				put_ents(e, (u32)n);
				return -EBADF;
			}
		}
	}
	return n;
}

static s64 sets_out(struct sets *s, const struct poll_ent *e, const s32 *fd, int n)
{
	s64 count = 0;
	for (int i = 0; i < n; i++) {
		for (int k = 0; k < 3; k++) {
			u64 *w = &s->set[k][fd[i] / 64], bit = 1ull << fd[i] % 64;
			if (!(*w & bit))
				continue;
			if (e[i].revents & sel_mask[k])
				count++;
			else
				*w &= ~bit;
		}
	}
	for (int k = 0; k < 3; k++)
		if (s->user[k] && s->words && copy_out(s->user[k], s->set[k], s->words * sizeof(u64)))
			return -EFAULT;
	return count;
}

static s64 select_sets(int n, u64 *in, u64 *out, u64 *ex, u64 deadline, bool zero)
{
	if (n < 0)
		return -EINVAL;
	n = MIN(n, SELECT_MAX);
	struct sets s = {.words = ((u32)n + 63) / 64, .user = {in, out, ex}};
	u64 *buf = kmalloc(MAX(3 * s.words * sizeof(u64), 8ul));
	if (!buf)
		return -ENOMEM;
	s64 r = sets_in(&s, buf, n);
	u32 count = 0;
	for (u32 w = 0; !r && w < s.words; w++)
		count += (u32)__builtin_popcountll(s.set[0][w] | s.set[1][w] | s.set[2][w]);
	struct poll_ent *e = r ? NULL : kmalloc((count + 1) * (sizeof(*e) + sizeof(s32)));
	if (!r && !e)
		r = -ENOMEM;
	if (!r) {
		s32 *fd = (s32 *)(e + count + 1);
		int k = sets_to_ents(&s, e, fd);
		r = k;
		if (k >= 0) {
			r = poll_files(e, (u32)k, deadline, zero);
			put_ents(e, (u32)k);
			if (r >= 0)
				r = sets_out(&s, e, fd, k);
		}
	}
	kfree(e);
	kfree(buf);
	return r == -ERESTARTSYS ? -ERESTARTNOHAND : r;
}

SYSCALL5(select, int, n, u64 *, in, u64 *, out, u64 *, ex, s64 *, utv)
{
	u64 deadline;
	bool zero;
	s64 tv[2];
	if (utv) {
		/* seconds and microseconds; the latter may exceed a second */
		if (copy_in(tv, utv, sizeof(tv)))
			return -EFAULT;
		if (tv[0] < 0 || tv[1] < 0)
			return -EINVAL;
		zero = !tv[0] && !tv[1];
		deadline = mono_ns() + (u64)MIN(tv[0], (s64)(NS_MAX_WAIT / NS_PER_SEC)) * NS_PER_SEC +
			   (u64)MIN(tv[1], (s64)NS_PER_SEC) * 1000;
	} else {
		zero = false;
		deadline = NO_DEADLINE;
	}
	s64 r = select_sets(n, in, out, ex, deadline, zero);
	deadline_out(utv, 1000, deadline);
	return r;
}

SYSCALL6(pselect6, int, n, u64 *, in, u64 *, out, u64 *, ex, s64 *, uts, const u64 *, usig)
{
	u64 deadline, sig[2] = {0, 0};
	bool zero;
	s64 r = deadline_in(uts, &deadline, &zero);
	if (!r && usig && copy_in(sig, usig, sizeof(sig)))
		r = -EFAULT;
	if (!r)
		r = signal_user_mask((const void *)sig[0], sig[1]);
	if (r)
		return r;
	r = select_sets(n, in, out, ex, deadline, zero);
	signal_user_mask_restore(r == -ERESTARTNOHAND);
	deadline_out(uts, 1, deadline);
	return r;
}
