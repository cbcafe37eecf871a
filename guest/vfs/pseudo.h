/* SPDX-License-Identifier: ISC */
/*
 * File systems that are tables: /proc and /sys. An entry of a table says what
 * a file shows, what a directory has, where a link leads; an inode is made when
 * somebody looks and is gone when nobody does. Directories whose names are
 * not known beforehand (processes, descriptors) have functions.
 */
#ifndef COWBELL_GUEST_VFS_PSEUDO_H
#define COWBELL_GUEST_VFS_PSEUDO_H

#include "guest/vfs/internal.h"

struct pent;

/* What an inode is of: an entry, and whose. */
struct pid_of {
	const struct pent *ent;
	s32 pid; /* process (0: none) */
	s32 num; /* thread, descriptor, or what the entry wants */
};

struct pent {
	const char *name;
	u32 mode;
	void (*show)(struct text *t, const struct pid_of *o); /* file contents, or a link's target */
	const char *text; /* or this line, always the same */
	const struct pent *sub; /* a directory's fixed entries */
	u32 n_sub;
	/* a directory's other entries, which are numbers: -ENOENT or 0; and the smallest from `from` on: -1 at the end */
	int (*lookup)(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out);
	s64 (*next)(const struct pid_of *dir, u64 from, struct pid_of *out);
	const char *prefix; /* what stands before the number in their names */
	int (*follow)(const struct pid_of *o, struct dentry **out);
	s64 (*write)(const struct pid_of *o, char *buf, size_t n); /* buf is terminated */
	const char *target; /* a link's target, always the same */
	const struct file_ops *fops; /* a file that is no text */
	bool guard; /* only for who may look into the process (process_may_inspect) */
};

#define P_FILE(n, m, f)                                                                                      \
	{                                                                                                    \
		.name = (n), .mode = S_IFREG | (m), .show = (f)                                              \
	}
#define P_LINK(n, f)                                                                                         \
	{                                                                                                    \
		.name = (n), .mode = S_IFLNK | 0777, .show = (f)                                             \
	}
#define P_DIR(n, e)                                                                                          \
	{                                                                                                    \
		.name = (n), .mode = S_IFDIR | 0555, .sub = (e), .n_sub = ARRAY_SIZE(e)                      \
	}

struct superblock *pseudo_new(const char *type, u32 magic, const struct pent *root, struct inode **out);
/* Decimal number of a name; -1: it is none. */
s32 pseudo_number(const char *name, u32 len);
/* NULL: gone. Of process 1, the library OS, it has only ids and a name. */
struct process *pseudo_process(const struct pid_of *o);
struct process *pseudo_file_process(struct file *f); /* the same of an open file */

/* procfs.c */
enum { PROC_N_NET = 14 };
extern const struct pent proc_net_entries[PROC_N_NET];
void proc_cpus_allowed(struct text *t, u64 mask); /* lines of status */

/* proc_pid.c */
extern const struct pent proc_pid_dir, proc_task_dir;

/* proc_pid_mem.c */
void proc_show_cmdline(struct text *t, const struct pid_of *o);
void proc_show_environ(struct text *t, const struct pid_of *o);
void proc_show_auxv(struct text *t, const struct pid_of *o);
void proc_show_maps(struct text *t, const struct pid_of *o);
void proc_show_smaps(struct text *t, const struct pid_of *o);
void proc_show_smaps_rollup(struct text *t, const struct pid_of *o);
void proc_show_statm(struct text *t, const struct pid_of *o);
extern const struct file_ops proc_mem_fops;

/* proc_pid_fd.c */
void proc_mounts(struct text *t, const struct pid_of *o);
void proc_show_mountinfo(struct text *t, const struct pid_of *o);
void proc_show_exe(struct text *t, const struct pid_of *o);
void proc_show_cwd(struct text *t, const struct pid_of *o);
void proc_show_root(struct text *t, const struct pid_of *o);
int proc_follow_exe(const struct pid_of *o, struct dentry **out);
int proc_follow_cwd(const struct pid_of *o, struct dentry **out);
int proc_follow_root(const struct pid_of *o, struct dentry **out);
int proc_fd_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out);
s64 proc_fd_next(const struct pid_of *dir, u64 from, struct pid_of *out);
int proc_fdinfo_lookup(const struct pid_of *dir, const char *name, u32 len, struct pid_of *out);
s64 proc_fdinfo_next(const struct pid_of *dir, u64 from, struct pid_of *out);

#endif
