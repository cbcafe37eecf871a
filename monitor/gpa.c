/* SPDX-License-Identifier: ISC */
/*
 * The one place that turns a guest-physical address into a pointer. RAM is one
 * flat range at gpa 0, so a check is two comparisons that cannot overflow.
 */
#include "monitor/gpa.h"

#include <string.h>

#include "monitor/lazy.h"

bool gpa_is_ram(const struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	return gpa.v <= m->ram_size && len <= m->ram_size - gpa.v;
}

void *gpa_ram(const struct guest_mem *m, gpa_t gpa, uint64_t len)
{
	if (!gpa_is_ram(m, gpa, len) || (m->lazy && lazy_fill(m, gpa.v, len)))
		return NULL;
	return m->ram + gpa.v;
}

bool gpa_read(const struct guest_mem *m, gpa_t gpa, void *dst, uint64_t len)
{
	const void *p = gpa_ram(m, gpa, len);

	if (p)
		memcpy(dst, p, len);
	return p;
}

bool gpa_write(const struct guest_mem *m, gpa_t gpa, const void *src, uint64_t len)
{
	void *p = gpa_ram(m, gpa, len);

	if (p)
		memcpy(p, src, len);
	return p;
}
