/* SPDX-License-Identifier: ISC */
/*
 * /proc beside the processes: the machine, memory, /proc/sys, /proc/net. All
 * of it is what the library OS knows to be so; settings under /proc/sys that
 * cannot be changed are read-only files.
 */
#include <linux/magic.h>

#include "abi/boot.h"
#include "guest/ipc/ipc.h"
#include "guest/mm/mm.h"
#include "guest/proc/internal.h"
#include "guest/proc/smp.h"
#include "guest/restored.h"
#include "guest/vfs/prefix.h"
#include "guest/vfs/pseudo.h"

enum { USER_HZ = 100 };

/* --- processor --------------------------------------------------------------------- */

static void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

struct flag_name {
	u8 word,
		bit; /* word: 0 = 1.ecx, 1 = 1.edx, 2 = 7.ebx, 3 = 7.ecx, 4 = 7.edx, 5 = 8..1.ecx, 6 = 8..1.edx */
	const char *name;
};
static const struct flag_name flag_names[] = {
	{1, 0, "fpu"},
	{1, 1, "vme"},
	{1, 2, "de"},
	{1, 3, "pse"},
	{1, 4, "tsc"},
	{1, 5, "msr"},
	{1, 6, "pae"},
	{1, 7, "mce"},
	{1, 8, "cx8"},
	{1, 9, "apic"},
	{1, 11, "sep"},
	{1, 12, "mtrr"},
	{1, 13, "pge"},
	{1, 14, "mca"},
	{1, 15, "cmov"},
	{1, 16, "pat"},
	{1, 17, "pse36"},
	{1, 19, "clflush"},
	{1, 23, "mmx"},
	{1, 24, "fxsr"},
	{1, 25, "sse"},
	{1, 26, "sse2"},
	{1, 28, "ht"},
	{6, 11, "syscall"},
	{6, 20, "nx"},
	{6, 22, "mmxext"},
	{6, 25, "fxsr_opt"},
	{6, 26, "pdpe1gb"},
	{6, 27, "rdtscp"},
	{6, 29, "lm"},
	{0, 0, "pni"},
	{0, 1, "pclmulqdq"},
	{0, 9, "ssse3"},
	{0, 12, "fma"},
	{0, 13, "cx16"},
	{0, 19, "sse4_1"},
	{0, 20, "sse4_2"},
	{0, 21, "x2apic"},
	{0, 22, "movbe"},
	{0, 23, "popcnt"},
	{0, 25, "aes"},
	{0, 26, "xsave"},
	{0, 28, "avx"},
	{0, 29, "f16c"},
	{0, 30, "rdrand"},
	{0, 31, "hypervisor"},
	{5, 0, "lahf_lm"},
	{5, 5, "abm"},
	{5, 6, "sse4a"},
	{5, 7, "misalignsse"},
	{5, 8, "3dnowprefetch"},
	{2, 0, "fsgsbase"},
	{2, 3, "bmi1"},
	{2, 5, "avx2"},
	{2, 7, "smep"},
	{2, 8, "bmi2"},
	{2, 9, "erms"},
	{2, 16, "avx512f"},
	{2, 17, "avx512dq"},
	{2, 18, "rdseed"},
	{2, 19, "adx"},
	{2, 20, "smap"},
	{2, 21, "avx512ifma"},
	{2, 23, "clflushopt"},
	{2, 24, "clwb"},
	{2, 28, "avx512cd"},
	{2, 29, "sha_ni"},
	{2, 30, "avx512bw"},
	{2, 31, "avx512vl"},
	{3, 1, "avx512vbmi"},
	{3, 6, "avx512_vbmi2"},
	{3, 8, "gfni"},
	{3, 9, "vaes"},
	{3, 10, "vpclmulqdq"},
	{3, 11, "avx512_vnni"},
	{3, 12, "avx512_bitalg"},
	{3, 14, "avx512_vpopcntdq"},
	{3, 22, "rdpid"},
	{4, 4, "fsrm"},
};

static void show_cpuinfo(struct text *t, const struct pid_of *o)
{
	u32 r[4], w[7], name[13] = {0}, vendor[4] = {0};
	const u32 *f = boot->cpu_features;

	cpuid(0, 0, r);
	vendor[0] = r[1], vendor[1] = r[3], vendor[2] = r[2];
	for (u32 i = 0; i < 3; i++)
		cpuid(0x80000002 + i, 0, name + 4 * i);
	cpuid(0x80000001, 0, r);
	w[0] = f[2], w[1] = f[3], w[2] = f[5], w[3] = f[6], w[4] = f[7], w[5] = r[2], w[6] = r[3];
	u32 sig = f[0], family = sig >> 8 & 15, model = sig >> 4 & 15;
	if (family == 6 || family == 15)
		model |= sig >> 12 & 0xf0;
	if (family == 15)
		family += sig >> 20 & 0xff;
	const char *brand = (const char *)name;
	while (*brand == ' ')
		brand++;
	for (u32 i = 0; i < n_cpus; i++) {
		u64 khz = ((const struct boot_time *)boot->time_va)->tsc_khz;
		text_add(t,
			 "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: "
			 "%s\n",
			 i, (const char *)vendor, family, model, brand);
		text_add(t,
			 "stepping\t: %u\ncpu MHz\t\t: %lu.%03lu\nphysical id\t: 0\nsiblings\t: %u\ncore "
			 "id\t\t: %u\n",
			 sig & 15, (unsigned long)khz / 1000, (unsigned long)khz % 1000, n_cpus, i);
		text_add(t,
			 "cpu cores\t: %u\napicid\t\t: %u\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid "
			 "level\t: 13\nwp\t\t: yes\nflags\t\t:",
			 n_cpus, i);
		for (u32 k = 0; k < ARRAY_SIZE(flag_names); k++)
			if (w[flag_names[k].word] >> flag_names[k].bit & 1)
				text_add(t, " %s", flag_names[k].name);
		text_add(t, "\nbogomips\t: %lu.00\nclflush size\t: 64\ncache_alignment\t: 64\n",
			 (unsigned long)khz / 500);
		text_add(t, "address sizes\t: 39 bits physical, 48 bits virtual\n\n");
	}
}

/* --- memory ---------------------------------------------------------------------------- */

static void kb(struct text *t, const char *name, u64 pages)
{
	text_add(t, "%-15s %8lu kB\n", name, (unsigned long)pages * 4);
}

static void show_meminfo(struct text *t, const struct pid_of *o)
{
	u64 total = frames_total(), avail = frames_free();

	kb(t, "MemTotal:", total);
	kb(t, "MemFree:", avail);
	kb(t, "MemAvailable:", avail);
	kb(t, "Buffers:", 0);
	kb(t, "Cached:", 0);
	kb(t, "SwapCached:", 0);
	kb(t, "SwapTotal:", 0);
	kb(t, "SwapFree:", 0);
	kb(t, "Shmem:", 0);
	kb(t, "Slab:", 0);
	kb(t, "CommitLimit:", total);
	kb(t, "Committed_AS:", total - avail);
	text_add(t, "HugePages_Total:       0\nHugePages_Free:        0\nHugepagesize:       2048 kB\n");
}

/* --- time and load ------------------------------------------------------------------------ */

static void show_uptime(struct text *t, const struct pid_of *o)
{
	u64 up = mono_ns(), idle = up * n_cpus;

	idle -= MIN(idle, sched_busy_ns());
	text_add(t, "%lu.%02lu %lu.%02lu\n", (unsigned long)(up / NS_PER_SEC),
		 (unsigned long)(up / 10000000 % 100), (unsigned long)(idle / NS_PER_SEC),
		 (unsigned long)(idle / 10000000 % 100));
}

/* Threads of programs, and how many of them could run. */
static u32 count_threads(u32 *running)
{
	u32 n = 0;

	*running = 0;
	list_for_each (it, &all_threads) {
		struct thread *th = list_entry(it, struct thread, all_node);

		n += !th->kfn;
		*running += !th->kfn && (th->state == THREAD_RUNNABLE || th == current);
	}
	return n;
}

static void show_stat(struct text *t, const struct pid_of *o)
{
	u64 up = mono_ns(), busy = sched_busy_ns(), idle = up * n_cpus - MIN(up * n_cpus, busy);
	u64 tick = NS_PER_SEC / USER_HZ;
	u32 running;

	count_threads(&running);
	text_add(t, "cpu  %lu 0 0 %lu 0 0 0 0 0 0\n", (unsigned long)(busy / tick),
		 (unsigned long)(idle / tick));
	for (u32 i = 0; i < n_cpus; i++) {
		u64 its = smp() ? cpus[i]->busy_ns : busy;

		text_add(t, "cpu%u %lu 0 0 %lu 0 0 0 0 0 0\n", i, (unsigned long)(its / tick),
			 (unsigned long)((up - MIN(up, its)) / tick));
	}
	text_add(t, "intr 0\nctxt 0\nbtime %lu\nprocesses %d\nprocs_running %u\nprocs_blocked %u\n",
		 (unsigned long)((real_ns() - up) / NS_PER_SEC), last_pid(), running, sched_blocked());
	text_add(t, "softirq 0 0 0 0 0 0 0 0 0 0 0\n");
}

static void show_loadavg(struct text *t, const struct pid_of *o)
{
	u32 running, n = count_threads(&running), load[3];

	load_averages(load);
	for (unsigned i = 0; i < 3; i++) {
		u32 hundredths = (load[i] * 100 + LOAD_ONE / 2) / LOAD_ONE;

		text_add(t, "%u.%02u ", hundredths / 100, hundredths % 100);
	}
	text_add(t, "%u/%u %d\n", running, n, last_pid());
}

void proc_cpus_allowed(struct text *t, u64 mask)
{
	const char *comma = "";

	mask &= (1ull << n_cpus) - 1;
	text_add(t, "Cpus_allowed:\t%lx\nCpus_allowed_list:\t", (unsigned long)mask);
	for (u32 i = 0; i < n_cpus; i++) {
		u32 last = i;

		if (!(mask >> i & 1))
			continue;
		while (mask >> (last + 1) & 1)
			last++;
		text_add(t, last > i ? "%s%u-%u" : "%s%u", comma, i, last);
		comma = ",";
		i = last;
	}
	text_add(t, "\nMems_allowed:\t1\nMems_allowed_list:\t0\n");
}

/* How ps and others turn a device number into a terminal's name. */
static void show_tty_drivers(struct text *t, const struct pid_of *o)
{
	text_add(t, "/dev/tty             /dev/tty        5       0 system:/dev/tty\n"
		    "/dev/console         /dev/console    5       1 system:console\n"
		    "/dev/ptmx            /dev/ptmx       5       2 system\n"
		    "pty_slave            /dev/pts      136 0-1048575 pty:slave\n");
}

static void show_vmstat(struct text *t, const struct pid_of *o)
{
	text_add(t,
		 "nr_free_pages %lu\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault %lu\npgmajfault "
		 "0\noom_kill 0\n",
		 (unsigned long)frames_free(), (unsigned long)stats->faults);
}

static void show_version(struct text *t, const struct pid_of *o)
{
	text_add(t, "Linux version %s (cowbell) %s\n", SYSTEM_RELEASE, SYSTEM_VERSION);
}

static void show_filesystems(struct text *t, const struct pid_of *o)
{
	text_add(t, "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\nnodev\tdevpts\nnodev\toverlay"
		    "\n\terofs\n");
}

static void show_locks(struct text *t, const struct pid_of *o)
{
	locks_show(t);
}

static void show_proc_cmdline(struct text *t, const struct pid_of *o)
{
	text_add(t, "\n");
}

static void show_empty(struct text *t, const struct pid_of *o)
{
}

static void show_devices(struct text *t, const struct pid_of *o)
{
	text_add(t, "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n136 "
		    "pts\n\nBlock devices:\n");
}

/* --- sys --------------------------------------------------------------------------------------- */

#define RO(n, f) P_FILE(n, 0444, f)
#define RC(n, s)                                                                                             \
	{                                                                                                    \
		.name = (n), .mode = S_IFREG | 0444, .text = (s)                                             \
	}

static void show_hostname(struct text *t, const struct pid_of *o)
{
	text_add(t, "%s\n", system_hostname());
}

static void show_osrelease(struct text *t, const struct pid_of *o)
{
	text_add(t, "%s\n", SYSTEM_RELEASE);
}

static void show_osversion(struct text *t, const struct pid_of *o)
{
	text_add(t, "%s\n", SYSTEM_VERSION);
}

static void uuid_text(struct text *t, u8 b[16])
{
	b[6] = (b[6] & 15) | 0x40;
	b[8] = (b[8] & 63) | 0x80;
	for (int i = 0; i < 16; i++)
		text_add(t, "%02x%s", b[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
	text_add(t, "\n");
}

static void show_uuid(struct text *t, const struct pid_of *o)
{
	u8 b[16];

	random_bytes(b, sizeof(b));
	uuid_text(t, b);
}

static void show_boot_id(struct text *t, const struct pid_of *o)
{
	static u8 id[16];
	static u64
		made_in; /* a restored instance is one that just booted, to who asks whether it is the same */
	u8 b[16];

	if (made_in != boot->generation)
		random_bytes(id, sizeof(id));
	made_in = boot->generation;
	memcpy(b, id, sizeof(b));
	uuid_text(t, b);
}

static const struct pent random_entries[] = {RO("boot_id", show_boot_id), RC("entropy_avail", "256"),
					     RC("poolsize", "256"), RO("uuid", show_uuid)};
static const struct pent kernel_entries[] = {RC("cap_last_cap", "40"),
					     RC("core_pattern", "core"),
					     RO("hostname", show_hostname),
					     RC("msgmax", "8192"),
					     RC("msgmnb", "16384"),
					     RC("msgmni", "32000"),
					     RC("ngroups_max", "65536"),
					     RO("osrelease", show_osrelease),
					     RC("ostype", "Linux"),
					     RC("overflowgid", "65534"),
					     RC("overflowuid", "65534"),
					     RC("pid_max", "4194304"),
					     P_DIR("random", random_entries),
					     RC("randomize_va_space", "2"),
					     RC("sem", "32000\t1024000000\t500\t32000"),
					     RC("shmall", "18446744073692774399"),
					     RC("shmmax", "18446744073692774399"),
					     RC("shmmni", "4096"),
					     RC("tainted", "0"),
					     RC("threads-max", "65536"),
					     RO("version", show_osversion)};
static const struct pent vm_entries[] = {RC("max_map_count", "65530"), RC("mmap_min_addr", "65536"),
					 RC("nr_hugepages", "0"),      RC("overcommit_memory", "0"),
					 RC("overcommit_ratio", "50"), RC("swappiness", "0")};
static const struct pent inotify_entries[] = {
	RC("max_queued_events", "16384"), RC("max_user_instances", "128"), RC("max_user_watches", "65536")};
static const struct pent epoll_entries[] = {RC("max_user_watches", "1048576")};
static const struct pent mqueue_entries[] = {RC("msg_default", "10"), RC("msg_max", "10"),
					     RC("msgsize_default", "8192"), RC("msgsize_max", "8192"),
					     RC("queues_max", "256")};
static const struct pent fs_entries[] = {P_DIR("epoll", epoll_entries),	  RC("file-max", "1048576"),
					 RC("file-nr", "0\t0\t1048576"),  P_DIR("inotify", inotify_entries),
					 P_DIR("mqueue", mqueue_entries), RC("nr_open", "1048576"),
					 RC("pipe-max-size", "1048576"),  RC("pipe-user-pages-soft", "16384"),
					 RC("protected_hardlinks", "1"),  RC("protected_symlinks", "0")};
static const struct pent core_entries[] = {RC("rmem_default", "212992"), RC("rmem_max", "212992"),
					   RC("somaxconn", "4096"), RC("wmem_default", "212992"),
					   RC("wmem_max", "212992")};
static const struct pent ipv4_entries[] = {RC("ip_local_port_range", "32768\t60999"),
					   RC("ip_unprivileged_port_start", "0"), RC("tcp_fastopen", "0"),
					   RC("tcp_rmem", "4096\t131072\t6291456"),
					   RC("tcp_wmem", "4096\t131072\t6291456")};
static const struct pent ipv6_all_entries[] = {RC("disable_ipv6", "0")};
static const struct pent ipv6_conf_entries[] = {P_DIR("all", ipv6_all_entries),
						P_DIR("lo", ipv6_all_entries)};
static const struct pent ipv6_entries[] = {RC("bindv6only", "0"), P_DIR("conf", ipv6_conf_entries)};
static const struct pent net_sys_entries[] = {P_DIR("core", core_entries), P_DIR("ipv4", ipv4_entries),
					      P_DIR("ipv6", ipv6_entries)};
static const struct pent sys_entries[] = {P_DIR("fs", fs_entries), P_DIR("kernel", kernel_entries),
					  P_DIR("net", net_sys_entries), P_DIR("vm", vm_entries)};

/* --- net --------------------------------------------------------------------------------------------- */

/* Tables of sockets are net/'s to write (net/show.c); unit tests without it show the heading. */
void net_show_sockets(struct text *t, int family, int type) __attribute__((weak));

static void socket_table(struct text *t, int family, int type)
{
	if (net_show_sockets)
		net_show_sockets(t, family, type);
}

#define INET_HEAD                                                                                            \
	"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
#define INET6_HEAD                                                                                           \
	"  sl  local_address                         remote_address                        st tx_queue "     \
	"rx_queue tr "                                                                                       \
	"tm->when retrnsmt   uid  timeout inode\n"

static void show_tcp(struct text *t, const struct pid_of *o)
{
	text_add(t, "%s", INET_HEAD);
	socket_table(t, 2, 1);
}

static void show_tcp6(struct text *t, const struct pid_of *o)
{
	text_add(t, "%s", INET6_HEAD);
	socket_table(t, 10, 1);
}

static void show_udp(struct text *t, const struct pid_of *o)
{
	text_add(t, "%s", INET_HEAD);
	socket_table(t, 2, 2);
}

static void show_udp6(struct text *t, const struct pid_of *o)
{
	text_add(t, "%s", INET6_HEAD);
	socket_table(t, 10, 2);
}

static void show_unix(struct text *t, const struct pid_of *o)
{
	text_add(t, "Num       RefCount Protocol Flags    Type St Inode Path\n");
	socket_table(t, 1, 0);
}

static void show_net_dev(struct text *t, const struct pid_of *o)
{
	text_add(t, "Inter-|   Receive                                                |  Transmit\n"
		    " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
		    "drop fifo "
		    "colls carrier compressed\n");
	text_add(t, "    lo:       0       0    0    0    0     0          0         0        0       0    0 "
		    "   0    0 "
		    "    0       0          0\n");
}

static void show_if_inet6(struct text *t, const struct pid_of *o)
{
	text_add(t, "00000000000000000000000000000001 01 80 10 80       lo\n");
}

static void show_route(struct text *t, const struct pid_of *o)
{
	text_add(t, "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n");
}

static void show_protocols(struct text *t, const struct pid_of *o)
{
	text_add(t, "protocol  size sockets  memory press maxhdr  slab module\n");
}

static void show_sockstat(struct text *t, const struct pid_of *o)
{
	text_add(t, "sockets: used 0\n");
}

const struct pent proc_net_entries[PROC_N_NET] = {
	RO("arp", show_empty),
	RO("dev", show_net_dev),
	RO("if_inet6", show_if_inet6),
	RO("ipv6_route", show_empty),
	RO("protocols", show_protocols),
	RO("raw", show_empty),
	RO("route", show_route),
	RO("sockstat", show_sockstat),
	RO("tcp", show_tcp),
	RO("tcp6", show_tcp6),
	RO("udp", show_udp),
	RO("udp6", show_udp6),
	RO("unix", show_unix),
	RO("wireless", show_empty),
};

/* --- the root ---------------------------------------------------------------------------------------------- */

static void show_self(struct text *t, const struct pid_of *o)
{
	text_add(t, "%d", current->proc->pid);
}

static void show_thread_self(struct text *t, const struct pid_of *o)
{
	text_add(t, "%d/task/%d", current->proc->pid, current->tid);
}

static void show_self_mounts(struct text *t, const struct pid_of *o)
{
	text_add(t, "self/mounts");
}

static void show_self_net(struct text *t, const struct pid_of *o)
{
	text_add(t, "self/net");
}

static int root_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out)
{
	s32 pid = pseudo_number(name, len);
	struct process *p = pid > 0 ? pseudo_process(&(struct pid_of){.pid = pid}) : NULL;

	if (!p) { /* a thread's number works too, though it is not listed */
		struct thread *t = pid > 0 ? thread_by_tid(pid) : NULL;
		if (!t || !t->proc)
			return -ENOENT;
		p = t->proc;
	}
	*out = (struct pid_of){&proc_pid_dir, p->pid,
			       p->pid == pid || p->shown_pid == pid || pid == 1 ? 0 : pid};
	return 0;
}

static s64 root_next(const struct pid_of *dir, u64 from, struct pid_of *out)
{
	s64 best = from <= 1 ? 1 : -1;

	list_for_each (it, &all_processes) {
		struct process *p = list_entry(it, struct process, all_node);

		if ((u64)p->pid >= from && (best < 0 || p->pid < best))
			best = p->pid;
	}
	*out = (struct pid_of){&proc_pid_dir, (s32)best, 0};
	return best;
}

/* 1, and one more with each restore: a program that keeps what must not live twice looks here after SIGCONT. */
static void show_generation(struct text *t, const struct pid_of *o)
{
	text_add(t, "%lu\n", boot->generation - prefix_generations());
}

/* As `cowbell ps` shows it, in full. */
static void show_instance_id(struct text *t, const struct pid_of *o)
{
	for (u32 i = 0; i < sizeof(boot->instance_id); i++)
		text_add(t, "%02x", boot->instance_id[i]);
	text_add(t, "\n");
}

static void show_ready(struct text *t, const struct pid_of *o)
{
	text_add(t, "%d\n", ready_is_told());
}

/* "0": not yet, I shall tell; anything else: now. */
static s64 write_ready(const struct pid_of *o, char *buf, size_t n)
{
	ready_tell(!(n && buf[0] == '0'));
	return (s64)n;
}

static const struct pent cowbell_entries[] = {
	RO("generation", show_generation),
	RO("id", show_instance_id),
	{.name = "ready", .mode = S_IFREG | 0666, .show = show_ready, .write = write_ready},
};

static const struct pent sysvipc_entries[] = {RO("msg", ipc_show_msg), RO("sem", ipc_show_sem),
					      RO("shm", ipc_show_shm)};

static const struct pent tty_entries[] = {RO("drivers", show_tty_drivers)};

static const struct pent root_entries[] = {
	RO("cgroups", show_empty),
	RO("cmdline", show_proc_cmdline),
	P_DIR("cowbell", cowbell_entries),
	RO("cpuinfo", show_cpuinfo),
	RO("devices", show_devices),
	RO("diskstats", show_empty),
	RO("filesystems", show_filesystems),
	RO("interrupts", show_empty),
	RO("loadavg", show_loadavg),
	RO("locks", show_locks),
	RO("meminfo", show_meminfo),
	RO("modules", show_empty),
	P_LINK("mounts", show_self_mounts),
	P_LINK("net", show_self_net),
	P_LINK("self", show_self),
	RO("partitions", show_empty),
	RO("stat", show_stat),
	RO("swaps", show_empty),
	P_DIR("sys", sys_entries),
	P_DIR("sysvipc", sysvipc_entries),
	P_LINK("thread-self", show_thread_self),
	P_DIR("tty", tty_entries),
	RO("uptime", show_uptime),
	RO("version", show_version),
	RO("vmstat", show_vmstat),
};

static const struct pent proc_root = {.name = "/",
				      .mode = S_IFDIR | 0555,
				      .sub = root_entries,
				      .n_sub = ARRAY_SIZE(root_entries),
				      .lookup = root_lookup,
				      .next = root_next};

struct superblock *proc_new(struct inode **root)
{
	return pseudo_new("proc", PROC_SUPER_MAGIC, &proc_root, root);
}

/* --- /sys, as far as runtimes read it -------------------------------------------------------------------------- */

static void show_cpus(struct text *t, const struct pid_of *o)
{
	if (n_cpus > 1)
		text_add(t, "0-%u\n", n_cpus - 1);
	else
		text_add(t, "0\n");
}

static const struct pent thp_entries[] = {
	RC("defrag", "always defer defer+madvise [madvise] never"), RC("enabled", "always [madvise] never"),
	RC("hpage_pmd_size", "2097152"), RC("shmem_enabled", "always [madvise] never")};
static const struct pent mm_entries[] = {P_DIR("transparent_hugepage", thp_entries)};
static const struct pent sys_kernel_entries[] = {P_DIR("mm", mm_entries)};
static const struct pent index0_entries[] = {RC("coherency_line_size", "64")};
static const struct pent cache_entries[] = {P_DIR("index0", index0_entries)};

/* In cpuN, num is N. */
static void show_cpu_number(struct text *t, const struct pid_of *o)
{
	text_add(t, "%d\n", o->num);
}

static void show_cpu_bit(struct text *t, const struct pid_of *o)
{
	text_add(t, "%x\n", 1u << o->num);
}

static void show_cpu_bits(struct text *t, const struct pid_of *o)
{
	text_add(t, "%x\n", (1u << n_cpus) - 1);
}

/* All in one package, each a core. */
static const struct pent topology_entries[] = {
	RO("core_cpus", show_cpu_bit),	     RO("core_cpus_list", show_cpu_number),
	RO("core_id", show_cpu_number),	     RO("core_siblings", show_cpu_bits),
	RO("core_siblings_list", show_cpus), RO("package_cpus", show_cpu_bits),
	RO("package_cpus_list", show_cpus),  RC("physical_package_id", "0"),
	RO("thread_siblings", show_cpu_bit), RO("thread_siblings_list", show_cpu_number)};
static const struct pent cpu_n_entries[] = {P_DIR("cache", cache_entries),
					    P_DIR("topology", topology_entries)};
static const struct pent cpu_n_dir = P_DIR("cpuN", cpu_n_entries);
static const struct pent cpu_entries[] = {RC("isolated", ""),	     RC("kernel_max", "15"),
					  RC("offline", ""),	     RO("online", show_cpus),
					  RO("possible", show_cpus), RO("present", show_cpus)};

static int cpu_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out)
{
	s32 n = len > 3 && !memcmp(name, "cpu", 3) ? pseudo_number(name + 3, len - 3) : -1;

	if (n < 0 || n >= (s32)n_cpus)
		return -ENOENT;
	*out = (struct pid_of){&cpu_n_dir, dir->pid, n};
	return 0;
}

static s64 cpu_next(const struct pid_of *dir, u64 from, struct pid_of *out)
{
	if (from >= n_cpus)
		return -1;
	*out = (struct pid_of){&cpu_n_dir, dir->pid, (s32)from};
	return (s64)from;
}

static const struct pent cpu_dir = {.name = "cpu",
				    .mode = S_IFDIR | 0555,
				    .sub = cpu_entries,
				    .n_sub = ARRAY_SIZE(cpu_entries),
				    .lookup = cpu_lookup,
				    .next = cpu_next,
				    .prefix = "cpu"};
static const struct pent node0_entries[] = {RO("cpulist", show_cpus), RO("cpumap", show_cpu_bits)};
static const struct pent node_entries[] = {P_DIR("node0", node0_entries), RC("online", "0"),
					   RC("possible", "0")};
static const struct pent system_entries[] = {cpu_dir, P_DIR("node", node_entries)};
static const struct pent devices_entries[] = {P_DIR("system", system_entries)};
static const struct pent sys_root_entries[] = {P_DIR("devices", devices_entries),
					       P_DIR("kernel", sys_kernel_entries)};
static const struct pent sys_root = P_DIR("/", sys_root_entries);

struct superblock *sys_new(struct inode **root)
{
	return pseudo_new("sysfs", SYSFS_MAGIC, &sys_root, root);
}
