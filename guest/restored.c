/* SPDX-License-Identifier: ISC */
/*
 * A restored instance is another one than that which was taken, and what must not be the same in both is renewed here:
 *
 *   seed            the library OS's generator; so getrandom, /dev/urandom, ports and addresses chosen from then on
 *   WIPEONFORK      pages are wiped, as for a child: BoringSSL and others notice by them
 *   getpid          as libcrypto and its like see it, which ask it whether they are a copy; all others see the old one
 *   host name       the new instance's, also in /etc/hosts, unless the app set one itself; boot_id and /proc/cowbell/id, generation
 *   timerfd         that wants to hear of clock steps (TFD_TIMER_CANCEL_ON_SET)
 *   UDP             options of the new host sockets; who is connected to somebody outside gets an error, once
 *   ports           what listens inside on a port that is forwarded only now is reached from outside
 *   volumes         files are other open files of the host now: attributes, cached pages, locks
 *
 * An instance that was moved is the same one, with the same sockets and files: little is renewed.
 * Timers that came due fire by themselves: the monotonic clock went on by what passed outside. Connections are dead in
 * the monitor and answer with errors. SIGCONT comes with the first completions (proc_ring_event).
 *
 * Limits: what a program or a library keeps in its own memory is not known here: Python's random, V8's
 * Math.random and the UUIDs that Node makes in advance, GnuTLS's generator within two hours. A statically linked OpenSSL is
 * known by the symbols that the executable exports.
 */
#include "guest/restored.h"

#include <linux/auxvec.h>
#include <linux/elf.h>
#include <linux/fcntl.h>

#include "abi/boot.h"
#include "guest/arch/x86_64/arch.h"
#include "guest/linux/linux.h"
#include "guest/mm/mm.h"
#include "guest/mm/vma.h"
#include "guest/proc/internal.h"
#include "guest/proc/smp.h"
#include "guest/random.h"
#include "guest/vfs/inode.h"
#include "guest/vfs/vfs.h"

#define SHOWN_PID_STEP 32768 /* no thread has such a number */
#define TAG_GNU_HASH   0x6ffffef5

static bool keeps_own_randomness(const struct vma *v)
{
	static const char *const names[] = {"libcrypto", "libgcrypt",  "libgnutls",
					    "libnss3",	 "libsoftokn", "libfreebl"};
	const char *name = v->file && v->file->dentry ? v->file->dentry->name : NULL;

	for (size_t i = 0; name && i < ARRAY_SIZE(names); i++)
		if (!strncmp(name, names[i], strlen(names[i])))
			return true;
	return false;
}

/* --- an executable with OpenSSL inside ------------------------------------------------------ */

struct symbols {
	u64 base, hash, symtab, strtab;
};

static u64 auxv_of(const struct aspace *as, u64 type)
{
	for (u32 i = 0; i + 1 < ARRAY_SIZE(as->auxv) && as->auxv[i]; i += 2)
		if (as->auxv[i] == type)
			return as->auxv[i + 1];
	return 0;
}

/* What the program's dynamic section names; ld.so may have relocated it. false: it has none. */
static bool find_symbols(const struct aspace *as, struct symbols *y)
{
	u64 phdr = auxv_of(as, AT_PHDR), n = auxv_of(as, AT_PHNUM), dynamic = 0;
	Elf64_Phdr ph;
	Elf64_Dyn d;

	*y = (struct symbols){0};
	for (u64 i = 0; i < n && i < 64; i++) {
		if (get_user(ph, (const Elf64_Phdr *)phdr + i))
			return false;
		if (ph.p_type == PT_PHDR)
			y->base = phdr - ph.p_vaddr;
		else if (ph.p_type == PT_DYNAMIC)
			dynamic = ph.p_vaddr;
	}
	for (u64 i = 0; dynamic && i < 256; i++) {
		if (get_user(d, (const Elf64_Dyn *)(y->base + dynamic) + i) || d.d_tag == DT_NULL)
			break;
		u64 at = d.d_un.d_ptr < y->base ? d.d_un.d_ptr + y->base : d.d_un.d_ptr;
		if (d.d_tag == TAG_GNU_HASH)
			y->hash = at;
		else if (d.d_tag == DT_SYMTAB)
			y->symtab = at;
		else if (d.d_tag == DT_STRTAB)
			y->strtab = at;
	}
	return y->hash && y->symtab && y->strtab;
}

static bool is_named(const struct symbols *y, u32 index, const char *name, u32 len)
{
	Elf64_Sym sym;
	char text[32];

	return !get_user(sym, (const Elf64_Sym *)y->symtab + index) && sym.st_shndx &&
	       !copy_in(text, (const char *)y->strtab + sym.st_name, len + 1) && !memcmp(text, name, len + 1);
}

/* By the GNU hash table: buckets of chains, whose last entry has bit 0 set. */
static bool exports(const struct symbols *y, const char *name)
{
	u32 head[4], want = 5381, hash, index, len = (u32)strlen(name);
	const u32 *buckets, *chain;

	for (const char *c = name; *c; c++)
		want = want * 33 + (u8)*c;
	if (copy_in(head, (const void *)y->hash, sizeof(head)) || !head[0])
		return false;
	buckets = (const u32 *)(y->hash + sizeof(head) + 8ull * head[2]);
	chain = buckets + head[0];
	if (get_user(index, buckets + want % head[0]) || index < head[1])
		return false;
	for (u32 i = 0; i < 1024; i++, index++) {
		if (get_user(hash, chain + (index - head[1])))
			return false;
		if ((hash | 1) == (want | 1) && is_named(y, index, name, len))
			return true;
		if (hash & 1)
			return false;
	}
	return false;
}

static bool is_openssl_inside(struct aspace *as, const struct vma *caller)
{
	static struct aspace *asked;
	static u64 asked_entry;
	static bool answer;
	struct vma *exe = vma_find(as, auxv_of(as, AT_PHDR));
	struct symbols y;

	if (!exe || !exe->file || !caller->file || exe->file->inode != caller->file->inode)
		return false;
	if (asked != as || asked_entry != as->start_code) {
		asked = as;
		asked_entry = as->start_code;
		answer = find_symbols(as, &y) && exports(&y, "openssl_get_fork_id");
	}
	return answer;
}

/*
 * The C library's getpid is a leaf: on top of the stack is where its caller goes on. Two clones whose OpenSSL
 * shared its state would share session keys. Other programs break when it changes under them (PostgreSQL stops, Ruby
 * loses signals), so that they go on seeing the old one.
 */
s64 restored_getpid(void)
{
	struct process *p = current->proc;
	struct vma *v;
	u64 caller;

	if (likely(p->shown_pid == p->pid))
		return p->pid;
	if (without_lock())
		return -ENEEDLOCK;
	if (get_user(caller, (const u64 *)current_regs()->rsp))
		return p->pid;
	v = vma_find(p->as, caller);
	if (!v || v->start > caller)
		return p->pid;
	return keeps_own_randomness(v) || is_openssl_inside(p->as, v) ? p->shown_pid : p->pid;
}

/* --- the host's name in files ---------------------------------------------------------------- */

#define ETC_MAX 4096u

static s64 move_bytes(struct file *f, char *buf, u64 n, bool write)
{
	struct iovec iov;
	struct uio u;
	u64 pos = 0;

	uio_single(&u, &iov, buf, n, true);
	return write ? f->ops->write(f, &u, &pos) : f->ops->read(f, &u, &pos);
}

/* Length of the file's text in buf, terminated; 0: none, or it is not a small one. */
static u64 read_text(const char *path, char *buf)
{
	int err;
	struct file *f = vfs_open(AT_FDCWD, path, O_RDONLY, 0, &err);
	s64 n = f && f->ops->read ? move_bytes(f, buf, ETC_MAX, false) : 0;

	if (f)
		file_put(f);
	n = n > 0 && n < (s64)ETC_MAX ? n : 0;
	buf[n] = 0;
	return (u64)n;
}

/* Put `to` where `from` stands in the file, if it does. An image's files that are not as `cowbell` writes them stay. */
static void replace_in(const char *path, const char *from, const char *to)
{
	char *buf = kmalloc(ETC_MAX + 160);
	u64 n = buf ? read_text(path, buf) : 0, len = strlen(from), with = strlen(to), at = 0;
	struct file *f;
	int err;

	while (at + len <= n && memcmp(buf + at, from, len))
		at++;
	f = n && at + len <= n ? vfs_open(AT_FDCWD, path, O_WRONLY | O_TRUNC, 0, &err) : NULL;
	if (f) {
		memmove(buf + at + with, buf + at + len, n - at - len);
		memcpy(buf + at, to, with);
		move_bytes(f, buf, n - len + with, true);
		file_put(f);
	}
	kfree(buf);
}

static char old_name[65];

/* A thread of its own: files may sleep. Programs look their own host's name up in /etc/hosts. */
static void rename_host(void *arg)
{
	char from[80], to[80];

	snprintf(from, sizeof(from), "127.0.1.1\t%s\n", old_name);
	snprintf(to, sizeof(to), "127.0.1.1\t%s\n", system_hostname());
	replace_in("/etc/hosts", from, to);
	snprintf(from, sizeof(from), "%s\n", old_name);
	snprintf(to, sizeof(to), "%s\n", system_hostname());
	replace_in("/etc/hostname", from, to);
}

void restored_renew(bool copy)
{
	random_init((struct boot_info *)boot);
	volumes_restored();
	load_restored();
	if (!copy)
		return;
	list_for_each (n, &all_processes) {
		struct process *p = list_entry(n, struct process, all_node);

		if (!p->as)
			continue;
		mm_wipe_on_fork(p->as);
		p->shown_pid = p->pid + (s32)(SHOWN_PID_STEP * (1 + boot->generation % 1024));
	}
	if (hostname_restored(old_name))
		kthread_start(rename_host, NULL, "hostname");
	timerfds_restored();
	udp_restored();
	ports_restored();
}
