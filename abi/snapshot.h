/* SPDX-License-Identifier: ISC */
/*
 * A snapshot: an instance at rest, in one file. Little endian, version 1.
 *
 *   0        struct snap_header, 4096 bytes
 *   4096     tables: the arrays that the header names, then the strings
 *   ...      zeros up to a multiple of 4096
 *   data_off pages: embedded layers first, then RAM, extent after extent, each page aligned; then patches, packed
 *
 * The digest covers header (with the digest itself as zeros) and tables, so one look tells that nothing of
 * what the monitor acts upon was changed. Pages have a CRC-32C for each extent, which is looked at by `verify` and before
 * the first start from a file. Pages that no extent names are zero, or the parent's.
 *
 * What is in it: RAM, and what the monitor kept for the guest: handles, the requests that wait on
 * them, the indices of the ring. No registers but those that the library OS itself left in RAM: an instance is
 * at rest in a doorbell, with its consent, and starts again at libos_header.resume.
 *
 * The file is hostile until each number was checked; the guest's own page tables in RAM are the guest's affair.
 */
#ifndef COWBELL_ABI_SNAPSHOT_H
#define COWBELL_ABI_SNAPSHOT_H

#include <stdint.h>

#include "abi/boot.h"
#include "abi/ring.h"

#define SNAP_MAGIC	  0x50414e5357574f43ull /* "COWWSNAP" */
#define SNAP_VERSION	  1
#define SNAP_PAGE	  4096u
#define SNAP_TABLES_MAX	  (64u << 20)
#define SNAP_MAX_EXTENTS  (1u << 20)
#define SNAP_MAX_MAPS	  64u
#define SNAP_MAX_LAYERS	  (BOOT_MAX_REGIONS - 1)
#define SNAP_MAX_VOLUMES  16u
#define SNAP_EXTENT_PAGES 4096u /* at most, so that checksums can be looked at in parts */
#define SNAP_MAX_CHAIN	  8 /* files: a snapshot, its parent, and so on */

/* Where an array is: from the file's start; inside the tables. */
struct snap_array {
	uint32_t off, count;
};

struct snap_header {
	uint64_t magic;
	uint32_t version, size; /* sizeof(struct snap_header) */
	uint64_t file_size;
	uint64_t tables_len; /* from 4096 on */
	uint64_t data_off;
	uint8_t digest[32]; /* SHA-256 of header and tables */
	uint8_t libos
		[32]; /* of the library OS's text and read-only data: CRC-32C of each eighth, begun with 0..7. Tells
			    * builds apart; nobody is protected from who would forge it */

	uint32_t plat; /* enum boot_plat it was taken under */
	uint32_t handle_max; /* handles of higher numbers were never used */
	uint64_t ram_size, ram_max;
	uint64_t xcr0, xstate_size;
	uint32_t cpu_features[16]; /* as in boot_info: the host must have them all */
	uint64_t generation; /* of the instance that was taken */
	uint8_t instance_id[16];
	uint64_t mono_ns, real_ns; /* the guest's clocks at rest */
	uint32_t sq_head, cq_tail; /* of the ring */
	uint32_t uid, gid; /* identity of the program */
	uint32_t boot_flags;
	uint32_t cfg_flags; /* enum snap_flag */

	/* struct load_plan: addresses of slot 255 and gpas of boot data */
	uint64_t boot_info_va, cr3_gpa, stack_top, exc_stack_top, cpu_va, stub_va, stub_gpa;
	uint64_t vcpu_gpa, ring_gpa, boot_info_gpa, time_gpa, stats_gpa;
	uint64_t libos_va; /* of libos_header: all entry points follow from it */

	struct snap_array extents, maps, layers, handles, requests, ports, volumes, strings;
	uint32_t name, exe, hostname; /* offsets in strings, NUL-terminated */
	uint32_t stored_pages;
	uint32_t parent; /* of a delta: in strings, how its owner calls the parent; 0: it stands alone */
	uint8_t parent_digest[32]; /* the parent's own `digest` */
	uint32_t stop_signal; /* what SIGTERM is to its program, by its image's word; 0: the same */
	uint8_t pad[4096 - 496];
};

enum snap_flag {
	SNAP_F_EGRESS = 1, /* it was allowed to dial out */
	SNAP_F_TTY = 2,
};

enum snap_extent_flag {
	SNAP_E_ZERO = 1, /* nothing is stored (off is 0): what the parent has there is zero now */
	SNAP_E_USER = 2, /* pages of the app only: a restore may fill them when they are touched */
	SNAP_E_PATCH =
		4, /* the parent's pages with changes: `len` bytes at off, a multiple of 8 both; see below */
};

/* Sorted by gpa, without overlap. Of a delta they lie over the parent's. */
struct snap_extent {
	uint64_t gpa, off; /* page aligned; off from the file's start */
	uint32_t pages, crc; /* CRC-32C of the bytes */
	uint32_t flags, len; /* len: of a PATCH, else 0 */
};

/*
 * A PATCH, for each of its pages: uint16_t n, then n times struct snap_change, zeros up to a multiple of 8, then the
 * words of all changes. Programs that count references write a word here and there: a page costs some 20 bytes.
 */
struct snap_change {
	uint16_t first, count; /* words of 8 bytes; first + count <= 512 */
};
#define SNAP_PATCH_PAGES (1u << 14) /* at most in a file */
#define SNAP_PATCH_BYTES 1024u /* a page that needs more is better stored whole; a reader takes any */

/* A mapping of the initial address space; all but the first lie in RAM or in a layer. */
struct snap_map {
	uint64_t va, gpa, len;
	uint32_t prot, pad;
};

struct snap_layer {
	uint64_t size, va;
	uint64_t off; /* not 0: it is in this file from here on */
	uint32_t id; /* in strings: how its owner calls it */
	uint32_t window; /* pages that it takes in the guest, if they are more than it has; or 0 */
	uint8_t print[32]; /* SHA-256 of its size and samples of it: is it the same file? */
};

/*
 * What the guest says about each page of RAM when it rests (RING_OP_SNAPSHOT: addr is the gpa of an array of one
 * byte a page, len its length; 0: it says nothing, and all pages count as KERNEL). A lie harms nobody but the liar.
 */
enum snap_frame {
	SNAP_FRAME_KERNEL = 0, /* the library OS may touch it at any moment */
	SNAP_FRAME_USER = 1, /* the app's private memory, and nothing else's */
	SNAP_FRAME_FREE = 2, /* its contents do not matter: not stored, zero in a restored instance */
};

enum snap_handle_kind {
	SNAP_H_CONSOLE = 1,
	SNAP_H_LISTEN, /* a stream on a forwarded port, listening or not yet */
	SNAP_H_DGRAM,
	SNAP_H_STREAM, /* made, not connected */
	SNAP_H_DEAD, /* was connected, or about to be */
	SNAP_H_FILE, /* of a volume, by its path */
};

enum snap_handle_flag {
	SNAP_HF_LISTENING = 1,
	SNAP_HF_V6ONLY = 2,
	SNAP_HF_WRITABLE = 4,
	SNAP_HF_DIR = 8,
	SNAP_HF_DGRAM = 16,
	SNAP_HF_CLOSING = 32,
	SNAP_HF_GONE = 64, /* files: what was open has not this name any more */
};

struct snap_handle {
	uint32_t id;
	uint16_t kind, flags;
	uint16_t family, guest_port;
	uint32_t backlog;
	int32_t volume;
	uint32_t open_flags; /* files: O_APPEND and the access mode */
	uint32_t path; /* files: in strings */
	uint32_t pad;
	uint8_t peer[28]; /* struct sockaddr_in or sockaddr_in6; family 0: none */
	uint32_t pad2;
};

/* A request that waits: the guest's own words, taken as such again. */
struct snap_request {
	struct ring_sqe sqe;
	uint32_t queue; /* 0 in, 1 out, 2 polls */
	uint32_t done;
};

struct snap_port {
	uint16_t guest, pad;
};

struct snap_volume {
	uint32_t dir; /* in strings */
	uint32_t ro;
};

_Static_assert(sizeof(struct snap_header) == 4096, "abi");
_Static_assert(sizeof(struct snap_extent) == 32, "abi");
_Static_assert(sizeof(struct snap_change) == 4, "abi");
_Static_assert(sizeof(struct snap_map) == 32, "abi");
_Static_assert(sizeof(struct snap_layer) == 64, "abi");
_Static_assert(sizeof(struct snap_handle) == 64, "abi");
_Static_assert(sizeof(struct snap_request) == 72, "abi");

#endif
