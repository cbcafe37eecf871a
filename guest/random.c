/* SPDX-License-Identifier: ISC */
/*
 * Randomness: ChaCha20 with fast key erasure.
 *
 * State is a 256-bit key and a small pool of output. Each refill makes 8 blocks from
 * the key with counters 0..7; the first 32 bytes become the next key at once, the rest is
 * handed out and wiped as it goes. So who reads the state later learns nothing of what was
 * given out before. Large requests take a key of their own from the pool and stream.
 *
 * The seed is boot->seed (fresh for each instance), which is wiped; a restore
 * mixes new bytes in through random_reseed().
 */
#include "guest/random.h"
#include "abi/boot.h"
#include "guest/base.h"

#define KEY_WORDS  8
#define BLOCK	   64u
#define POOL_BYTES (8 * BLOCK)

static u32 key[KEY_WORDS];
static u8 pool[POOL_BYTES];
static u32 pool_left; /* bytes at the end of pool that are still to be given */

static inline u32 rotl(u32 v, int n)
{
	return v << n | v >> (32 - n);
}

#define QUARTER(a, b, c, d)                                                                                  \
	(x[a] += x[b], x[d] = rotl(x[d] ^ x[a], 16), x[c] += x[d], x[b] = rotl(x[b] ^ x[c], 12),             \
	 x[a] += x[b], x[d] = rotl(x[d] ^ x[a], 8), x[c] += x[d], x[b] = rotl(x[b] ^ x[c], 7))

static void chacha_block(const u32 k[KEY_WORDS], u64 counter, u8 out[BLOCK])
{
	u32 in[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574}, x[16];

	memcpy(in + 4, k, KEY_WORDS * sizeof(u32));
	in[12] = (u32)counter;
	in[13] = (u32)(counter >> 32);
	memcpy(x, in, sizeof(x));
	for (int i = 0; i < 10; i++) {
		QUARTER(0, 4, 8, 12);
		QUARTER(1, 5, 9, 13);
		QUARTER(2, 6, 10, 14);
		QUARTER(3, 7, 11, 15);
		QUARTER(0, 5, 10, 15);
		QUARTER(1, 6, 11, 12);
		QUARTER(2, 7, 8, 13);
		QUARTER(3, 4, 9, 14);
	}
	for (int i = 0; i < 16; i++)
		x[i] += in[i];
	memcpy(out, x, BLOCK);
}

static void wipe(void *p, size_t n)
{
	memset(p, 0, n);
	__asm__ volatile("" : : "r"(p) : "memory");
}

static void refill(void)
{
	for (u32 i = 0; i < POOL_BYTES / BLOCK; i++)
		chacha_block(key, i, pool + i * BLOCK);
	memcpy(key, pool, sizeof(key));
	wipe(pool, sizeof(key));
	pool_left = POOL_BYTES - sizeof(key);
}

static void take(u8 *d, size_t n)
{
	while (n) {
		u8 *from;
		size_t now;

		if (!pool_left)
			refill();
		now = MIN(n, (size_t)pool_left);
		from = pool + POOL_BYTES - pool_left;
		memcpy(d, from, now);
		wipe(from, now);
		pool_left -= now;
		d += now;
		n -= now;
	}
}

void random_bytes(void *p, size_t n)
{
	u8 *d = p, last[BLOCK];
	u32 own[KEY_WORDS];
	u64 counter = 0;

	if (n <= POOL_BYTES) {
		take(d, n);
		return;
	}
	take((u8 *)own, sizeof(own));
	for (; n >= BLOCK; n -= BLOCK, d += BLOCK)
		chacha_block(own, counter++, d);
	if (n) {
		chacha_block(own, counter, last);
		memcpy(d, last, n);
		wipe(last, sizeof(last));
	}
	wipe(own, sizeof(own));
}

void random_reseed(const void *seed, size_t n)
{
	const u8 *s = seed;

	while (n) {
		size_t now = MIN(n, sizeof(key));

		for (size_t i = 0; i < now; i++)
			((u8 *)key)[i] ^= s[i];
		refill();
		s += now;
		n -= now;
	}
}

void random_init(struct boot_info *bi)
{
	random_reseed(bi->seed, sizeof(bi->seed));
	wipe(bi->seed, sizeof(bi->seed));
}
