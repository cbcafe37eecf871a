/* SPDX-License-Identifier: ISC */
/* Maps the vDSO (vdso/vdso_time.c) and the time page before it into an address space. */
#include <linux/elf.h>
#include <linux/mman.h>

#include "abi/boot.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"

extern const char vdso_image[], vdso_image_end[];

/* Guest-physical address of the library OS's own read-only data. */
static gpa_t image_gpa(void)
{
	u64 va = (u64)vdso_image;

	for (u32 i = 0; i < boot->n_regions && i < BOOT_MAX_REGIONS; i++) {
		const struct boot_region *g = &boot->regions[i];

		if (g->kind == BOOT_REGION_LIBOS && va >= g->va && va < g->va + g->size)
			return GPA(g->gpa + (va - g->va));
	}
	return GPA_NONE;
}

/* Where the entry point of the vDSO lies in it. */
u64 vdso_main_mark_offset(void)
{
	return ((const Elf64_Ehdr *)vdso_image)->e_entry;
}

u64 vdso_map(struct aspace *as)
{
	u64 size = (u64)(vdso_image_end - vdso_image);
	gpa_t g = image_gpa();
	s64 at;

	if (g.v == GPA_NONE.v)
		return 0;
	/* Find room for both, then put them there. */
	at = mm_mmap(as, 0, size + PAGE_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, NULL, 0);
	if (at < 0)
		return 0;
	mm_munmap(as, (u64)at, size + PAGE_SIZE);
	if (mm_map_special(as, (u64)at, PAGE_SIZE, PROT_READ, GPA(boot->time_gpa), "[vvar]") < 0)
		return 0;
	if (mm_map_special(as, (u64)at + PAGE_SIZE, size, PROT_READ | PROT_EXEC, g, "[vdso]") < 0) {
		mm_munmap(as, (u64)at, PAGE_SIZE);
		return 0;
	}
	return (u64)at + PAGE_SIZE;
}
