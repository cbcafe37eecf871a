/* SPDX-License-Identifier: ISC */
/*
 * The loader. It owns nothing: it fills guest RAM from gpa 0 upwards and
 * describes what it did in a load_plan.
 *
 * RAM, in this order (each part page aligned):
 *   ring-0 stub page (filled by the kvm backend), library OS relro + data + bss,
 *   per-CPU page, boot_info, strings, vcpu, stats, time, ring, boot stack,
 *   exception stack, page tables. boot_info.ram_used is the end.
 *
 * Slot 255 of the address space holds, each at its own random address:
 *   image    the library OS: text and rodata from the file, relro and data from RAM
 *   boot     the boot data above, a guard page on both sides of each stack
 *   physmap  all of [0, ram_max) in 2 MiB pages
 *   window   one for each image layer, in 2 MiB pages and a tail of 4 KiB pages
 *   vmap     nothing yet: the guest's own
 * A present entry has its accessed and dirty bits set (an exit saved on some hosts).
 *
 * The library OS's file is ours, but it is checked like any other: a bad one is
 * a message, not a crash.
 */
#include "monitor/load.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "abi/libos.h"
#include "abi/ring.h"
#include "monitor/hostcpu.h"
#include "monitor/ring_server.h"
#include "monitor/snapfile.h"

#define PG		BOOT_PAGE_SIZE
#define HUGE		(2ull << 20)
#define UP(x, a)	(((uint64_t)(x) + ((a)-1)) & ~((uint64_t)(a)-1))
#define DOWN(x, a)	((uint64_t)(x) & ~((uint64_t)(a)-1))

#define BOOT_STACK_SIZE (16u << 10)
#define EXC_STACK_SIZE	(16u << 10)
#define VMAP_SIZE	(16ull << 30)
#define STRINGS_MAX	(4u << 20)

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 0x20, PTE_D = 0x40, PTE_PS = 0x80 };
#define PTE_NX	 (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

extern const uint8_t libos_blob_start[], libos_blob_end[];

static int fail(int err, const char *what)
{
	fprintf(stderr, "cowbell: %s\n", what);
	return -err;
}

/* --- the library OS's file ------------------------------------------------ */

struct libos_image {
	const Elf64_Phdr *text, *rodata, *relro, *data;
	const Elf64_Rela *rela;
	uint64_t n_rela;
	const struct libos_header *header;
	uint64_t end; /* first address after .bss */
};

static bool inside(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static const void *blob_at_vaddr(const struct libos_image *im, uint64_t va, uint64_t len)
{
	const Elf64_Phdr *parts[] = {im->text, im->rodata, im->relro, im->data};

	for (int i = 0; i < 4; i++)
		if (va >= parts[i]->p_vaddr && inside(va - parts[i]->p_vaddr, len, parts[i]->p_filesz))
			return libos_blob_start + parts[i]->p_offset + (va - parts[i]->p_vaddr);
	return NULL;
}

static bool find_rela(struct libos_image *im, const Elf64_Phdr *dynamic)
{
	const Elf64_Dyn *d = (const void *)(libos_blob_start + dynamic->p_offset);
	uint64_t rela = 0, size = 0;

	for (uint64_t i = 0; i < dynamic->p_filesz / sizeof(*d) && d[i].d_tag != DT_NULL; i++) {
		if (d[i].d_tag == DT_RELA)
			rela = d[i].d_un.d_ptr;
		else if (d[i].d_tag == DT_RELASZ)
			size = d[i].d_un.d_val;
	}
	if (!size)
		return true;
	im->rela = blob_at_vaddr(im, rela, size);
	im->n_rela = size / sizeof(*im->rela);
	return im->rela;
}

/* Recognise the four parts. Their file offsets must allow use in place. */
static int image_open(struct libos_image *im)
{
	uint64_t size = libos_blob_end - libos_blob_start;
	const Elf64_Ehdr *eh = (const void *)libos_blob_start;
	const Elf64_Phdr *load[4], *dynamic = NULL;
	int n = 0;

	if (size < sizeof(*eh) || memcmp(eh->e_ident, ELFMAG, SELFMAG) ||
	    eh->e_phentsize != sizeof(Elf64_Phdr) ||
	    !inside(eh->e_phoff, (uint64_t)eh->e_phnum * sizeof(Elf64_Phdr), size))
		return fail(ENOEXEC, "the built-in library OS is not an ELF file");
	for (int i = 0; i < eh->e_phnum; i++) {
		const Elf64_Phdr *ph = (const Elf64_Phdr *)(libos_blob_start + eh->e_phoff) + i;

		if (!inside(ph->p_offset, ph->p_filesz, size) || ph->p_memsz < ph->p_filesz)
			return fail(ENOEXEC, "the built-in library OS is truncated");
		if (ph->p_type == PT_DYNAMIC)
			dynamic = ph;
		else if (ph->p_type == PT_LOAD && n < 4)
			load[n++] = ph;
	}
	if (n != 4 || !dynamic)
		return fail(ENOEXEC, "the built-in library OS does not have the four parts of libos.lds");
	im->text = load[0];
	im->rodata = load[1];
	im->relro = load[2];
	im->data = load[3];
	im->end = im->data->p_vaddr + im->data->p_memsz;
	if (im->text->p_vaddr % PG || im->text->p_offset % PG || im->rodata->p_vaddr % PG ||
	    im->rodata->p_vaddr - im->text->p_vaddr != im->rodata->p_offset - im->text->p_offset ||
	    im->relro->p_vaddr % PG || im->data->p_vaddr % PG || im->end > HUGE)
		return fail(ENOEXEC, "the built-in library OS is laid out wrongly");
	im->header = (const void *)(libos_blob_start + im->text->p_offset);
	if (im->header->magic != LIBOS_MAGIC || im->header->version != LIBOS_VERSION ||
	    im->header->size != sizeof(struct libos_header) || !find_rela(im, dynamic))
		return fail(ENOEXEC, "the built-in library OS has no valid header");
	return 0;
}

/* --- regions ---------------------------------------------------------------- */

struct exe_search {
	uint64_t address, off;
};

static int find_blob_offset(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct exe_search *s = arg;

	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
		uint64_t start = info->dlpi_addr + ph->p_vaddr;

		if (ph->p_type == PT_LOAD && s->address >= start && s->address < start + ph->p_filesz)
			s->off = ph->p_offset + (s->address - start);
	}
	return 1; /* the first object is the program itself */
}

static int add_region(struct guest_mem *m, uint64_t *gpa, enum boot_region_kind kind, uint64_t size, int fd,
		      uint64_t file_off, const uint8_t *host)
{
	if (m->n_regions == BOOT_MAX_REGIONS || size == 0 || size > BOOT_GPA_MAX - *gpa)
		return fail(E2BIG, "too many or too large image layers");
	m->regions[m->n_regions++] = (struct guest_region){
		.r = {.gpa = *gpa, .size = UP(size, PG), .kind = kind, .file_off = file_off},
		.host_fd = fd,
		.host = host,
	};
	*gpa = UP(*gpa + size, HUGE);
	return 0;
}

int load_regions(struct guest_mem *m, const struct monitor_config *cfg, bool map_layers)
{
	struct libos_image im;
	struct exe_search s = {.address = (uint64_t)libos_blob_start};
	uint64_t gpa = BOOT_IMAGE_GPA, text_len;
	int fd = -1, r = image_open(&im);

	if (r)
		return r;
	text_len = im.rodata->p_vaddr + im.rodata->p_filesz - im.text->p_vaddr;
	dl_iterate_phdr(find_blob_offset, &s);
	if (!map_layers) {
		fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			return fail(errno, "cannot open /proc/self/exe");
	}
	r = add_region(m, &gpa, BOOT_REGION_LIBOS, text_len, fd, s.off + im.text->p_offset,
		       libos_blob_start + im.text->p_offset);
	for (int i = 0; i < cfg->n_layers && !r; i++) {
		const uint8_t *host = NULL;
		uint64_t size = cfg->layer_size[i];

		if (size < cfg->layer_window[i])
			size = cfg->layer_window[i]; /* nobody looks beyond the length in the layer */

		if (map_layers) {
			host = mmap(NULL, UP(size, PG), PROT_READ, MAP_SHARED, cfg->layer_fd[i],
				    (off_t)cfg->layer_off[i]);
			if (host == MAP_FAILED)
				return fail(errno, "cannot map an image layer");
		}
		r = add_region(m, &gpa, BOOT_REGION_LAYER, size, cfg->layer_fd[i], cfg->layer_off[i], host);
	}
	return r;
}

/* --- placing ------------------------------------------------------------------ */

struct placer {
	struct {
		uint64_t va, size;
	} used[BOOT_MAX_REGIONS + 8];
	int n;
	uint64_t random[64];
	unsigned next;
};

static uint64_t random64(struct placer *p)
{
	if (p->next == 0 && getrandom(p->random, sizeof(p->random), 0) != sizeof(p->random))
		abort();
	uint64_t v = p->random[p->next];

	p->random[p->next] = 0;
	p->next = (p->next + 1) % 64;
	return v;
}

/* A free range of slot 255, anywhere, at least 2 MiB away from every other. 0: none found. */
static uint64_t place(struct placer *p, uint64_t size, uint64_t align)
{
	uint64_t span = BOOT_LIBOS_TOP - BOOT_TASK_SIZE;

	if (size > span / 2)
		return 0;
	for (int tries = 0; tries < 1000; tries++) {
		uint64_t va = BOOT_TASK_SIZE + HUGE + DOWN(random64(p) % (span - size - 2 * HUGE), align);
		bool clash = false;

		for (int i = 0; i < p->n; i++)
			clash |= va < p->used[i].va + p->used[i].size + HUGE &&
				 p->used[i].va < va + size + HUGE;
		if (clash)
			continue;
		p->used[p->n].va = va;
		p->used[p->n++].size = size;
		return va;
	}
	return 0;
}

/* --- page tables ---------------------------------------------------------------- */

struct builder {
	struct guest_mem *m;
	struct load_plan *plan;
	struct placer placer;
	uint64_t next_gpa;
	bool full;
};

/* RAM from the bottom up; it is zero already. */
static uint64_t take(struct builder *b, uint64_t size)
{
	uint64_t gpa = b->next_gpa;

	size = UP(size, PG);
	if (size > b->m->ram_size || gpa > b->m->ram_size - size) {
		b->full = true;
		return 0;
	}
	b->next_gpa += size;
	return gpa;
}

static uint64_t *entry_of(struct builder *b, uint64_t va, int leaf_level)
{
	uint64_t *table = (uint64_t *)(b->m->ram + b->plan->cr3_gpa);

	for (int level = 3;; level--) {
		uint64_t *e = &table[(va >> (12 + 9 * level)) & 511];

		if (level == leaf_level)
			return e;
		if (!(*e & PTE_P)) {
			uint64_t gpa = take(b, PG);

			if (b->full)
				return NULL;
			*e = gpa | PTE_P | PTE_W | PTE_U | PTE_A;
		}
		table = (uint64_t *)(b->m->ram + (*e & PTE_ADDR));
	}
}

/* Map [va, va+len) to gpa; 2 MiB pages where both are aligned and `huge`. */
static void map_range(struct builder *b, uint64_t va, uint64_t gpa, uint64_t len, int prot, bool huge)
{
	uint64_t bits = PTE_P | PTE_U | PTE_A | PTE_D | (prot & PROT_WRITE ? PTE_W : 0) |
			(prot & PROT_EXEC ? 0 : PTE_NX);

	for (uint64_t done = 0; done < len;) {
		bool big = huge && len - done >= HUGE && !((va + done) % HUGE) && !((gpa + done) % HUGE);
		uint64_t *e = entry_of(b, va + done, big ? 1 : 0), *table_end;

		if (!e)
			return;
		table_end = (uint64_t *)UP((uintptr_t)(e + 1), PG);
		/* Fill the rest of this table without walking again. */
		do {
			*e++ = (gpa + done) | bits | (big ? PTE_PS : 0);
			done += big ? HUGE : PG;
		} while (e < table_end && len - done >= (big ? HUGE : PG));
	}
}

static void map_listed(struct builder *b, uint64_t va, uint64_t gpa, uint64_t len, int prot, bool huge)
{
	struct load_plan *p = b->plan;

	map_range(b, va, gpa, len, prot, huge);
	if (p->n_maps == (int)(sizeof(p->maps) / sizeof(p->maps[0]))) {
		b->full = true;
		return;
	}
	p->maps[p->n_maps++] = (struct load_map){va, gpa, UP(len, PG), prot};
}

/* --- the parts -------------------------------------------------------------------- */

static uint64_t symbol(uint64_t header_va, uint64_t off, uint64_t size)
{
	return off < size ? header_va + off : 0; /* an absent weak symbol gives a wild offset */
}

static void use_symbols(struct load_plan *p, const struct libos_image *im, uint64_t hv)
{
	uint64_t text_len = UP(im->text->p_filesz, PG);

	p->libos_text_va = hv;
	p->libos_text_len = im->text->p_filesz;
	p->sym_resume = symbol(hv, im->header->resume, text_len);
	p->entry = symbol(hv, im->header->entry, text_len);
	p->sym_syscall_entry = symbol(hv, im->header->syscall_entry, text_len);
	p->sym_syscall_trap = symbol(hv, im->header->syscall_trap, text_len);
	p->sym_exception = symbol(hv, im->header->exception, text_len);
	p->sym_upcall = symbol(hv, im->header->upcall, text_len);
	p->sym_gate = symbol(hv, im->header->gate, text_len);
	p->sym_gate_ret = symbol(hv, im->header->gate_ret, text_len);
	p->sym_signal = symbol(hv, im->header->signal, text_len);
	p->sym_flush_cr3 = symbol(hv, im->header->flush_cr3, text_len);
	p->sym_flush_page = symbol(hv, im->header->flush_page, text_len);
}

int load_symbols(struct load_plan *plan, uint64_t header_va)
{
	struct libos_image im;
	int r = image_open(&im);

	if (!r)
		use_symbols(plan, &im, header_va);
	return r;
}

int load_libos_digest(uint8_t digest[32])
{
	struct libos_image im;
	uint32_t crc[8];
	int r = image_open(&im);
	uint64_t len;

	if (r)
		return r;
	len = im.rodata->p_vaddr + im.rodata->p_filesz - im.text->p_vaddr;
	for (uint64_t i = 0; i < 8; i++)
		crc[i] = snap_crc32c((uint32_t)i, libos_blob_start + im.text->p_offset + len * i / 8,
				     len * (i + 1) / 8 - len * i / 8);
	memcpy(digest, crc, sizeof(crc));
	return 0;
}

/* Text and rodata from the region, relro and data copied and relocated. */
static int load_libos(struct builder *b, struct boot_info *bi, const struct libos_image *im)
{
	struct load_plan *p = b->plan;
	struct guest_region *g = &b->m->regions[0];
	uint64_t base = place(&b->placer, im->end, PG), ram_va = im->relro->p_vaddr;
	uint64_t gpa = take(b, im->end - ram_va), text_len = UP(im->text->p_filesz, PG);
	uint64_t hv = base + im->text->p_vaddr;
	uint8_t *ram;

	if (!base || b->full)
		return fail(ENOMEM, "no room for the library OS");
	ram = b->m->ram + gpa;
	memcpy(ram, libos_blob_start + im->relro->p_offset, im->relro->p_filesz);
	memcpy(ram + (im->data->p_vaddr - ram_va), libos_blob_start + im->data->p_offset, im->data->p_filesz);
	for (uint64_t i = 0; i < im->n_rela; i++) {
		const Elf64_Rela *r = &im->rela[i];
		uint64_t value = base + r->r_addend;

		if (ELF64_R_TYPE(r->r_info) != R_X86_64_RELATIVE || r->r_offset < ram_va ||
		    !inside(r->r_offset - ram_va, 8, im->end - ram_va))
			return fail(ENOEXEC, "the built-in library OS has a relocation that is not RELATIVE");
		memcpy(ram + (r->r_offset - ram_va), &value, 8);
	}
	map_listed(b, hv, g->r.gpa, text_len, PROT_READ | PROT_EXEC, false);
	map_listed(b, hv + text_len, g->r.gpa + text_len, g->r.size - text_len, PROT_READ, false);
	map_listed(b, base + ram_va, gpa, im->data->p_vaddr - ram_va, PROT_READ, false);
	map_listed(b, base + im->data->p_vaddr, gpa + (im->data->p_vaddr - ram_va),
		   im->end - im->data->p_vaddr, PROT_READ | PROT_WRITE, false);

	g->r.va = hv;
	bi->libos_va = base;
	bi->libos_size = im->end;
	use_symbols(p, im, hv);
	return 0;
}

struct strings {
	uint8_t *at;
	uint64_t used, size;
};

static uint32_t put_string(struct strings *s, const char *text)
{
	uint64_t n = strlen(text) + 1, off = s->used;

	if (s->at && inside(off, n, s->size))
		memcpy(s->at + off, text, n);
	s->used += n;
	return off;
}

/* Called twice: s->at == NULL only counts. */
static void put_strings(struct strings *s, struct boot_info *bi, const struct monitor_config *cfg)
{
	s->used = 0;
	bi->argc = bi->envc = 0;
	bi->argv_off = 0;
	for (const char *const *a = cfg->argv; *a; a++, bi->argc++)
		put_string(s, *a);
	for (const char *const *e = cfg->envp; e && *e; e++) {
		if (cfg->snapshot_at == SNAPSHOT_AT_READY && !strncmp(*e, "NOTIFY_SOCKET=", 14))
			continue;
		put_string(s, *e);
		bi->envc++;
	}
	if (cfg->snapshot_at == SNAPSHOT_AT_READY) {
		put_string(s, "NOTIFY_SOCKET=" BOOT_NOTIFY_SOCKET);
		bi->envc++;
	}
	bi->exe_off = put_string(s, cfg->exe);
	bi->cwd_off = put_string(s, cfg->cwd ? cfg->cwd : "/");
	bi->hostname_off = put_string(s, cfg->hostname ? cfg->hostname : "cowbell");
	bi->volumes_off = s->used;
	bi->n_volumes = cfg->n_volumes;
	bi->volumes_ro = 0;
	for (int i = 0; i < cfg->n_volumes; i++) {
		put_string(s, cfg->volumes[i].guest_dir);
		bi->volumes_ro |= (uint32_t)cfg->volumes[i].ro << i;
	}
}

/* Lay the boot data out in one range of addresses, in page units. */
static uint64_t lay(struct builder *b, uint64_t *va, uint64_t size, int prot, uint64_t *gpa_out)
{
	uint64_t at = *va, gpa = take(b, size);

	if (!b->full && prot)
		map_listed(b, at, gpa, UP(size, PG), prot, false);
	*va += UP(size, PG);
	if (gpa_out)
		*gpa_out = gpa;
	return at;
}

static int load_boot_data(struct builder *b, struct boot_info *bi, const struct monitor_config *cfg)
{
	const int rw = PROT_READ | PROT_WRITE;
	struct load_plan *p = b->plan;
	struct strings s = {0};
	uint64_t va, gpa;

	put_strings(&s, bi, cfg);
	if (s.used > STRINGS_MAX)
		return fail(E2BIG, "arguments and environment are longer than 4 MiB");
	s.size = s.used;
	va = place(&b->placer,
		   16 * PG + UP(s.size, PG) + sizeof(struct ring_page) + BOOT_STACK_SIZE + EXC_STACK_SIZE,
		   PG);
	if (!va)
		return fail(ENOMEM, "no room for boot data");

	p->boot_info_va = lay(b, &va, PG, rw, &p->boot_info_gpa);
	bi->strings_va = lay(b, &va, s.size, PROT_READ, &gpa);
	bi->strings_size = s.size;
	if (b->full)
		return fail(ENOMEM, "-m is too small for the arguments");
	s.at = b->m->ram + gpa;
	put_strings(&s, bi, cfg);
	bi->vcpu_va = lay(b, &va, PG, rw, &p->vcpu_gpa);
	bi->stats_va = lay(b, &va, PG, rw, &p->stats_gpa);
	bi->time_va = lay(b, &va, PG, PROT_READ, &p->time_gpa);
	bi->time_gpa = p->time_gpa;
	bi->ring_va = lay(b, &va, sizeof(struct ring_page), rw, &p->ring_gpa);
	bi->ring_gpa = p->ring_gpa;
	va += PG;
	p->stack_top = lay(b, &va, BOOT_STACK_SIZE, rw, NULL) + BOOT_STACK_SIZE;
	va += PG;
	p->exc_stack_top = lay(b, &va, EXC_STACK_SIZE, rw, NULL) + EXC_STACK_SIZE;
	va += PG;
	p->cpu_va = lay(b, &va, BOOT_CPU_SIZE, rw, &gpa);
	if (b->full)
		return 0; /* the caller reports it */
	uint64_t *cpu = (uint64_t *)(b->m->ram + gpa);

	cpu[BOOT_CPU_SELF / 8] = p->cpu_va;
	cpu[BOOT_CPU_EXC_STACK / 8] = p->exc_stack_top;
	cpu[BOOT_CPU_GUARD / 8] = random64(&b->placer) << 8; /* a NUL byte first stops string overflows */
	p->stub_va = va + PG;
	p->stub_gpa = 0;
	uint64_t *e = entry_of(b, p->stub_va, 0);

	if (e)
		*e = p->stub_gpa | PTE_P | PTE_A | PTE_D; /* supervisor, executable */
	return 0;
}

static int load_windows(struct builder *b, struct boot_info *bi)
{
	uint64_t ram = UP(b->m->ram_max, HUGE);

	bi->physmap_va = place(&b->placer, ram, HUGE);
	bi->vmap_size = VMAP_SIZE;
	bi->vmap_va = place(&b->placer, VMAP_SIZE, PG);
	if (!bi->physmap_va || !bi->vmap_va)
		return fail(ENOMEM, "no room for the direct map");
	map_listed(b, bi->physmap_va, 0, ram, PROT_READ | PROT_WRITE, true);
	for (int i = 1; i < b->m->n_regions; i++) {
		struct boot_region *r = &b->m->regions[i].r;

		r->va = place(&b->placer, UP(r->size, HUGE), HUGE);
		if (!r->va)
			return fail(ENOMEM, "no room for an image layer");
		map_listed(b, r->va, r->gpa, r->size, PROT_READ, true);
	}
	return 0;
}

void load_surroundings(struct boot_info *bi, const struct guest_mem *m, const struct monitor_config *cfg)
{
	bi->ports_count = 0;
	for (int i = 0; i < cfg->n_ports && bi->ports_count < 64; i++)
		bi->ports[bi->ports_count++] = cfg->ports[i].guest;
	bi->host_tty_mask = bi->host_file_mask = 0;
	for (int fd = 0; fd < 3; fd++) {
		bi->host_tty_mask |= (uint32_t)(isatty(fd) == 1) << fd;
		bi->host_file_mask |= (uint32_t)ring_server_writes_at_once(fd) << fd;
	}
	bi->log_level = cfg->verbose >= 2   ? BOOT_LOG_DEBUG
			: cfg->verbose == 1 ? BOOT_LOG_INFO
					    : BOOT_LOG_WARN;
	bi->n_regions = (uint32_t)m->n_regions;
	for (int i = 0; i < m->n_regions; i++)
		bi->regions[i] = m->regions[i].r;
	bi->n_vcpus = cfg->n_cpus > 1 ? (uint32_t)cfg->n_cpus : 1;
	bi->chaos = cfg->chaos;
	bi->app_layer = (uint32_t)cfg->app_layer;
	bi->app_size = cfg->app_layer ? cfg->layer_size[cfg->app_layer - 1] : 0;
}

static void fill_boot_info(struct builder *b, struct boot_info *bi, const struct monitor_config *cfg,
			   enum boot_plat plat)
{
	bi->magic = BOOT_MAGIC;
	bi->version = BOOT_VERSION;
	bi->size = sizeof(*bi);
	bi->plat = plat;
	bi->flags = (cfg->strace ? BOOT_F_STRACE : 0) | (cfg->stats != STATS_NONE ? BOOT_F_STATS : 0) |
		    (cfg->n_egress ? 0 : BOOT_F_EGRESS_NONE) |
		    (cfg->snapshot_at == SNAPSHOT_AT_READY ? BOOT_F_NOTIFY : 0) |
		    (cfg->snapshot_at == SNAPSHOT_AT_PREFIX ? BOOT_F_PREFIX_MAKE : 0);
	bi->ram_size = b->m->ram_size;
	bi->ram_max = b->m->ram_max;
	bi->cr3_gpa = b->plan->cr3_gpa;
	for (unsigned i = 0; i < sizeof(bi->seed); i += 8)
		memcpy(bi->seed + i, &(uint64_t){random64(&b->placer)}, 8);
	for (unsigned i = 0; i < sizeof(bi->instance_id); i += 8)
		memcpy(bi->instance_id + i, &(uint64_t){random64(&b->placer)}, 8);
	bi->generation = 1;
	bi->uid = cfg->uid;
	bi->gid = cfg->gid;
	for (int i = 0; i < cfg->n_groups && i < BOOT_MAX_GROUPS; i++)
		bi->groups[bi->n_groups++] = cfg->groups[i];
	load_surroundings(bi, b->m, cfg);
}

int load_guest(struct load_plan *plan, struct guest_mem *m, const struct monitor_config *cfg,
	       enum boot_plat plat)
{
	struct builder b = {.m = m, .plan = plan};
	struct boot_info bi = {0};
	struct libos_image im;
	int r = image_open(&im);

	if (r)
		return r;
	memset(plan, 0, sizeof(*plan));
	plan->stub_gpa = take(&b, PG);
	plan->cr3_gpa = take(&b, PG);
	r = load_libos(&b, &bi, &im);
	if (!r)
		r = load_boot_data(&b, &bi, cfg);
	if (!r)
		r = load_windows(&b, &bi);
	if (!r && b.full)
		r = fail(ENOMEM, "-m is too small to start anything");
	if (!r) {
		fill_boot_info(&b, &bi, cfg, plat);
		bi.ram_used = b.next_gpa;
		load_host_cpu(&bi);
		*load_boot_info(m, plan) = bi;
	}
	explicit_bzero(&b.placer, sizeof(b.placer));
	explicit_bzero(bi.seed, sizeof(bi.seed));
	return r;
}

struct boot_info *load_boot_info(const struct guest_mem *m, const struct load_plan *plan)
{
	return (struct boot_info *)(m->ram + plan->boot_info_gpa);
}

void load_host_cpu(struct boot_info *bi)
{
	const struct hostcpu *h = hostcpu();

	memcpy(bi->cpu_features, h->features, sizeof(bi->cpu_features));
	bi->xcr0 = h->xcr0;
	bi->xstate_size = h->xstate_size;
}
