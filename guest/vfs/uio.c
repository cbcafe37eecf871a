/* SPDX-License-Identifier: ISC */
/*
 * uio: a vector of buffers, of the app or of the library OS, and a position
 * in it. Reads and writes of all files move their data through this. A fault
 * in the app's memory ends a move early; the caller sees fewer bytes.
 */
#include "guest/mm/mm.h"
#include "guest/vfs/internal.h"

void uio_single(struct uio *u, struct iovec *iov, void *buf, u64 len, bool kernel)
{
	iov->iov_base = buf;
	iov->iov_len = len;
	*u = (struct uio){.iov = iov, .n_iov = 1, .left = len, .kernel = kernel};
}

enum direction { PUT, GET, ZERO };

static size_t move(struct uio *u, void *user, void *buf, size_t n, enum direction dir)
{
	switch (dir) {
	case PUT:
		if (!u->kernel)
			return copy_out_partial(user, buf, n);
		memcpy(user, buf, n);
		return n;
	case GET:
		if (!u->kernel)
			return copy_in_partial(buf, user, n);
		memcpy(buf, user, n);
		return n;
	default:
		if (!u->kernel)
			return clear_user(user, n) ? 0 : n;
		memset(user, 0, n);
		return n;
	}
}

static inline u64 uio_move(struct uio *u, void *buf, u64 n, enum direction dir)
{
	u64 done = 0;

	if (n > u->left)
		n = u->left;
	while (done < n) {
		const struct iovec *v = &u->iov[u->cur];
		u64 room = v->iov_len - u->cur_off;
		if (!room) {
			u->cur++;
			u->cur_off = 0;
			continue;
		}
		u64 part = MIN(room, n - done);
		u64 got = move(u, (char *)v->iov_base + u->cur_off, (char *)buf + done, part, dir);
		done += got;
		u->cur_off += got;
		u->left -= got;
		if (got < part)
			break;
	}
	return done;
}

u64 uio_put(struct uio *u, const void *src, u64 n)
{
	return uio_move(u, (void *)src, n, PUT);
}

u64 uio_get(struct uio *u, void *dst, u64 n)
{
	return uio_move(u, dst, n, GET);
}

u64 uio_zero(struct uio *u, u64 n)
{
	return uio_move(u, NULL, n, ZERO);
}
