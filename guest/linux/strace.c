/* SPDX-License-Identifier: ISC */
#include "guest/linux/table.h"
#include "guest/proc/proc.h"

bool strace_on;
void strace_enter(const struct regs *r) { (void)r; }
void strace_exit(const struct regs *r, s64 result) { (void)r; (void)result; }

const char *syscall_name(u64 nr)
{
	for (unsigned i = 0; i < syscall_desc_count; i++)
		if (syscall_desc[i].nr == nr)
			return syscall_names + syscall_desc[i].name;
	return NULL;
}
