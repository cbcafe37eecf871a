/* SPDX-License-Identifier: ISC */
/* System V shared memory, semaphores and message queues: between processes, over fork, exec and death. */
#include "child.h"
#include <sched.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

union semun {
	int val;
	struct semid_ds *buf;
	unsigned short *array;
	struct seminfo *info;
};

static int pa[2], pb[2];
static key_t key;

/* --- shared memory --------------------------------------------------------------- */

static int shm;
static char *seg;
static long nattch(void)
{
	struct shmid_ds d;
	return shmctl(shm, IPC_STAT, &d) ? -1 : (long)d.shm_nattch;
}
static int shm_child(void)
{
	if (strcmp(seg, "from the parent") || nattch() != 2)
		return 1;
	strcpy(seg + 70000, "from the child");
	char *again = shmat(shm, NULL, SHM_RDONLY);
	if (again == (void *)-1 || nattch() != 3 || strcmp(again + 70000, "from the child"))
		return 2;
	if (shmdt(seg) || nattch() != 2)
		return 3;
	return 0;
}
static int shm_exec(void)
{
	execl("/proc/self/exe", "sysv", "ends", (char *)NULL);
	return 1;
}
static int shm_readonly_store(void)
{
	char *r = shmat(shm, NULL, SHM_RDONLY);
	*(volatile char *)r = 1;
	return 0;
}
static int shm_by_key(void)
{
	int id = shmget(key, 0, 0);
	if (id != shm)
		return 1;
	char *p = shmat(id, NULL, 0);
	p[5]++;
	return 0;
}
static int after_rmid(void)
{
	if (shmget(key, 0, 0) != -1 || errno != ENOENT)
		return 1;
	char *p = shmat(shm, NULL, 0); /* as on Linux: while somebody has it */
	return p == (void *)-1 || strcmp(p, "from the parent");
}

static void shared_memory(void)
{
	struct shmid_ds d;
	key = (key_t)(0x5ca1ab00 ^ getpid());
	shm = shmget(key, 100000, IPC_CREAT | IPC_EXCL | 0640);
	CHECK("shmget", shm >= 0);
	CHECK_ERR("shmget_excl", shmget(key, 100000, IPC_CREAT | IPC_EXCL | 0640), EEXIST);
	CHECK("shmget_again", shmget(key, 100, 0) == shm && shmget(key, 0, IPC_CREAT) == shm);
	CHECK_ERR("shmget_larger", shmget(key, 200000, 0), EINVAL);
	CHECK_ERR("shmget_nothing", shmget(IPC_PRIVATE, 0, 0600), EINVAL);
	CHECK_ERR("shmget_no_key", shmget(key + 1, 100, 0600), ENOENT);
	CHECK_ERR("shmat_bad_id", (long)shmat(0x7ffffff, NULL, 0), EINVAL);
	CHECK("stat", shmctl(shm, IPC_STAT, &d) == 0 && d.shm_segsz == 100000 && d.shm_nattch == 0 &&
			      d.shm_cpid == getpid() && d.shm_lpid == 0 && d.shm_atime == 0 &&
			      d.shm_ctime > 0);
	CHECK("stat_perm", (d.shm_perm.mode & 0777) == 0640 && d.shm_perm.uid == geteuid() &&
				   d.shm_perm.cuid == geteuid() && d.shm_perm.__key == key);
	seg = shmat(shm, NULL, 0);
	CHECK("shmat", seg != (void *)-1 && nattch() == 1 && seg[0] == 0 && seg[99999] == 0);
	CHECK("stat_after", shmctl(shm, IPC_STAT, &d) == 0 && d.shm_lpid == getpid() && d.shm_atime > 0);
	strcpy(seg, "from the parent");
	CHECK("child", child(shm_child) == 0 && !strcmp(seg + 70000, "from the child") && nattch() == 1);
	CHECK("exec_detaches", child(shm_exec) == 0 && nattch() == 1);
	CHECK("read_only", child(shm_readonly_store) == 128 + SIGSEGV && nattch() == 1);
	CHECK("by_key", child(shm_by_key) == 0 && seg[5] == 't' + 1);
	seg[5] = 't';
	/* addresses */
	CHECK_ERR("shmat_unaligned", (long)shmat(shm, seg + 200001, 0), EINVAL);
	CHECK_ERR("shmat_taken", (long)shmat(shm, seg, 0), EINVAL);
	char *hole = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	munmap(hole, 1 << 20);
	CHECK("shmat_at", shmat(shm, hole, 0) == hole && !strcmp(hole, "from the parent") && nattch() == 2);
	CHECK("shmat_round", shmat(shm, hole + (1 << 19) + 77, SHM_RND) == hole + (1 << 19));
	CHECK("shmat_remap", shmat(shm, hole, SHM_REMAP) == hole && nattch() == 3);
	CHECK_ERR("shmat_remap_null", (long)shmat(shm, NULL, SHM_REMAP), EINVAL);
	CHECK("shmdt", shmdt(hole) == 0 && shmdt(hole + (1 << 19)) == 0 && nattch() == 1);
	CHECK_ERR("shmdt_again", shmdt(hole), EINVAL);
	CHECK_ERR("shmdt_middle", shmdt(seg + 4096), EINVAL);
	/* parts of an attach */
	char *part = shmat(shm, NULL, 0);
	CHECK("munmap_part", munmap(part + 8192, 4096) == 0 && !strcmp(part, "from the parent"));
	CHECK("shmdt_rest", shmdt(part) == 0 && nattch() == 1);
	/* limits, tables */
	struct shminfo lim;
	struct shm_info inf;
	CHECK("ipc_info",
	      shmctl(0, IPC_INFO, (struct shmid_ds *)&lim) >= 0 && lim.shmmni == 4096 && lim.shmmin == 1);
	CHECK("shm_info",
	      shmctl(0, SHM_INFO, (struct shmid_ds *)&inf) >= 0 && inf.used_ids >= 1 && inf.shm_tot >= 25);
	int hi = shmctl(0, SHM_INFO, (struct shmid_ds *)&inf), found = 0;
	for (int i = 0; i <= hi; i++)
		found += shmctl(i, SHM_STAT, &d) == shm;
	CHECK("shm_stat_walk", found == 1);
	char line[400], want[32];
	FILE *f = fopen("/proc/sysvipc/shm", "r");
	snprintf(want, sizeof(want), "%10d %10d   640", key, shm);
	found = 0;
	while (f && fgets(line, sizeof(line), f))
		found += !strncmp(line, want, strlen(want));
	if (f)
		fclose(f);
	CHECK("proc_shm", found == 1);
	/* owners */
	shmctl(shm, IPC_STAT, &d);
	d.shm_perm.mode = 0604;
	CHECK("ipc_set", shmctl(shm, IPC_SET, &d) == 0 && shmctl(shm, IPC_STAT, &d) == 0 &&
				 (d.shm_perm.mode & 0777) == 0604);
	CHECK("shm_lock", shmctl(shm, SHM_LOCK, NULL) == 0 && shmctl(shm, IPC_STAT, &d) == 0 &&
				  d.shm_perm.mode & SHM_LOCKED && shmctl(shm, SHM_UNLOCK, NULL) == 0);
	CHECK_ERR("bad_command", shmctl(shm, 99, NULL), EINVAL);
	/* removal */
	CHECK("rmid", shmctl(shm, IPC_RMID, NULL) == 0);
	CHECK("rmid_stays", shmctl(shm, IPC_STAT, &d) == 0 && d.shm_perm.mode & SHM_DEST &&
				    d.shm_nattch == 1 && d.shm_perm.__key == 0);
	CHECK("rmid_still_there", child(after_rmid) == 0 && !strcmp(seg, "from the parent"));
	CHECK("last_detach", shmdt(seg) == 0);
	CHECK_ERR("gone", shmctl(shm, IPC_STAT, &d), EINVAL);
	int id2 = shmget(key, 4096, IPC_CREAT | 0600);
	CHECK("new_id_differs", id2 >= 0 && id2 != shm);
	CHECK("rmid_at_once", shmctl(id2, IPC_RMID, NULL) == 0);
	CHECK_ERR("rmid_twice", shmctl(id2, IPC_RMID, NULL), EINVAL);
}

/* --- semaphores ---------------------------------------------------------------------- */

static int sem;
static int op1(int num, int op, int flg)
{
	struct sembuf b = {(unsigned short)num, (short)op, (short)flg};
	return semop(sem, &b, 1);
}
static int val(int num)
{
	return semctl(sem, num, GETVAL);
}
static int set(int num, int v)
{
	return semctl(sem, num, SETVAL, (union semun){.val = v});
}
static int take_undo(void)
{
	if (op1(0, -2, SEM_UNDO) || op1(1, 3, SEM_UNDO) || op1(0, 1, 0))
		return 1;
	return val(0) == 4 && val(1) == 3 ? 0 : 2;
}
static int take_and_die(void)
{
	op1(0, -1, SEM_UNDO);
	tell(pb[1]);
	for (;;)
		pause();
}
static int wait_two(void)
{
	struct sembuf b[2] = {{0, -1, 0}, {1, -1, 0}};
	tell(pb[1]);
	return semop(sem, b, 2);
}
static int wait_zero(void)
{
	tell(pb[1]);
	return op1(2, 0, 0);
}
static int wait_removed(void)
{
	tell(pb[1]);
	return op1(3, -1, 0) == -1 && errno == EIDRM ? 0 : 1;
}
static void on_alarm(int s)
{
}
static int interrupted(void)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	return op1(3, -1, 0) == -1 && errno == EINTR ? 0 : 1;
}
static int exec_undo(void)
{
	if (op1(0, 5, SEM_UNDO))
		return 1;
	execl("/proc/self/exe", "sysv", "ends", (char *)NULL);
	return 2;
}
static int *counter;
static int count_under_sem(void)
{
	for (int i = 0; i < 200; i++) {
		if (op1(0, -1, SEM_UNDO))
			return 1;
		int v = *(volatile int *)counter;
		if (i % 8 == 0)
			sched_yield();
		*(volatile int *)counter = v + 1;
		if (op1(0, 1, SEM_UNDO))
			return 2;
	}
	return 0;
}
static void semaphores(void)
{
	struct semid_ds d;
	unsigned short all[5] = {1, 2, 3, 4, 5}, got[5] = {0};
	sem = semget(key, 5, IPC_CREAT | IPC_EXCL | 0600);
	CHECK("semget", sem >= 0 && semget(key, 0, 0) == sem && semget(key, 5, 0) == sem);
	CHECK_ERR("semget_excl", semget(key, 5, IPC_CREAT | IPC_EXCL), EEXIST);
	CHECK_ERR("semget_more", semget(key, 6, 0), EINVAL);
	CHECK_ERR("semget_none", semget(IPC_PRIVATE, 0, 0600), EINVAL);
	CHECK_ERR("semget_many", semget(IPC_PRIVATE, 32001, 0600), EINVAL);
	CHECK("stat", semctl(sem, 0, IPC_STAT, (union semun){.buf = &d}) == 0 && d.sem_nsems == 5 &&
			      d.sem_otime == 0);
	CHECK("zero_at_first", val(0) == 0 && val(4) == 0);
	CHECK("setall_getall", semctl(sem, 0, SETALL, (union semun){.array = all}) == 0 &&
				       semctl(sem, 0, GETALL, (union semun){.array = got}) == 0 &&
				       !memcmp(all, got, sizeof(all)));
	CHECK("setval", set(0, 100) == 0 && val(0) == 100 && semctl(sem, 0, GETPID) == getpid());
	CHECK_ERR("setval_range", set(0, 32768), ERANGE);
	CHECK_ERR("setval_negative", set(0, -1), ERANGE);
	CHECK_ERR("bad_number", val(5), EINVAL);
	CHECK("semop", op1(0, -95, 0) == 0 && val(0) == 5);
	CHECK_ERR("nowait", op1(0, -6, IPC_NOWAIT), EAGAIN);
	CHECK_ERR("zero_nowait", op1(0, 0, IPC_NOWAIT), EAGAIN);
	CHECK_ERR("too_large", op1(0, 32767, 0), ERANGE);
	CHECK_ERR("number_too_large", op1(5, 1, 0), EFBIG);
	{
		struct sembuf b[3] = {{0, -5, 0}, {1, 7, 0}, {2, -100, IPC_NOWAIT}};
		CHECK_ERR("all_or_nothing", semop(sem, b, 3), EAGAIN);
		CHECK("nothing", val(0) == 5 && val(1) == 2 && val(2) == 3);
		struct sembuf c[3] = {{0, -5, 0}, {0, 0, 0}, {0, 4, 0}};
		CHECK("in_order", semop(sem, c, 3) == 0 && val(0) == 4);
		struct sembuf many[501] = {{0}};
		CHECK_ERR("too_many", semop(sem, many, 501), E2BIG);
		CHECK_ERR("none", semop(sem, many, 0), EINVAL);
	}
	/* undo */
	set(0, 5);
	set(1, 0);
	CHECK("undo_child", child(take_undo) == 0);
	CHECK("undone", val(0) == 6 && val(1) == 0);
	pid_t p = run(take_and_die);
	hear(pb[0]);
	CHECK("held", val(0) == 5);
	kill(p, SIGKILL);
	CHECK("undone_by_death", wait_for(p) == 128 + SIGKILL && val(0) == 6);
	CHECK("undo_over_exec", child(exec_undo) == 0 && val(0) == 6);
	/* waiting */
	set(0, 0);
	set(1, 0);
	p = run(wait_two);
	hear(pb[0]);
	becomes(p, 'S');
	CHECK("ncnt",
	      semctl(sem, 0, GETNCNT) == 1 && semctl(sem, 1, GETNCNT) == 0 && semctl(sem, 0, GETZCNT) == 0);
	op1(0, 1, 0);
	usleep(20000);
	int st;
	CHECK("still_waits", waitpid(p, &st, WNOHANG) == 0 && val(0) == 1 && semctl(sem, 1, GETNCNT) == 1);
	op1(1, 1, 0);
	CHECK("taken_for_it_at_once", val(0) == 0 && val(1) == 0);
	CHECK("woken", wait_for(p) == 0 && semctl(sem, 0, GETPID) == p);
	set(2, 2);
	p = run(wait_zero);
	hear(pb[0]);
	becomes(p, 'S');
	CHECK("zcnt", semctl(sem, 2, GETZCNT) == 1);
	op1(2, -1, 0);
	usleep(20000);
	CHECK("not_zero", waitpid(p, &st, WNOHANG) == 0);
	set(2, 0);
	CHECK("zero", wait_for(p) == 0);
	set(3, 0);
	CHECK("interrupted", child(interrupted) == 0);
	struct sembuf b = {3, -1, 0};
	struct timespec t = {0, 30000000}, bad = {0, -1};
	uint64_t start = conf_now_ns();
	CHECK_ERR("timed", semtimedop(sem, &b, 1, &t), EAGAIN);
	CHECK("time_passed", conf_now_ns() - start >= 29000000);
	CHECK_ERR("timed_bad", semtimedop(sem, &b, 1, &bad), EINVAL);
	/* many */
	counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	set(0, 1);
	pid_t k[5];
	for (int i = 0; i < 5; i++)
		k[i] = run(count_under_sem);
	int rc = 0;
	for (int i = 0; i < 5; i++)
		rc |= wait_for(k[i]);
	CHECK("counted", rc == 0 && *counter == 1000 && val(0) == 1);
	struct seminfo si;
	CHECK("sem_info", semctl(0, 0, IPC_INFO, (union semun){.info = &si}) >= 0 && si.semmsl == 32000 &&
				  si.semopm == 500 && si.semvmx == 32767);
	CHECK("semctl_stat_index", semctl(0, 0, SEM_INFO, (union semun){.info = &si}) >= 0 && si.semusz >= 1);
	p = run(wait_removed);
	hear(pb[0]);
	becomes(p, 'S');
	CHECK("sem_rmid", semctl(sem, 0, IPC_RMID) == 0 && wait_for(p) == 0);
	CHECK_ERR("sem_gone", val(0), EINVAL);
}

/* --- message queues --------------------------------------------------------------------- */

static int mq;
struct msg {
	long type;
	char text[200];
};
static int send_msg(long type, const char *s, int flg)
{
	struct msg m = {type};
	strcpy(m.text, s);
	return msgsnd(mq, &m, strlen(s) + 1, flg);
}
static struct msg got;
static long receive(long type, int flg)
{
	memset(&got, 0, sizeof(got));
	return msgrcv(mq, &got, sizeof(got.text), type, flg);
}
static int echo(void)
{
	while (receive(1, 0) > 0) {
		if (!strcmp(got.text, "end"))
			return 0;
		char s[220];
		snprintf(s, sizeof(s), "re: %s", got.text);
		send_msg(2, s, 0);
	}
	return 1;
}
static int receive_removed(void)
{
	tell(pb[1]);
	return receive(9, 0) == -1 && errno == EIDRM ? 0 : 1;
}
static int send_removed(void)
{
	char big[8192 + 8] = {1};
	while (!msgsnd(mq, big, 8000, IPC_NOWAIT))
		;
	tell(pb[1]);
	return msgsnd(mq, big, 8000, 0) == -1 && errno == EIDRM ? 0 : 1;
}
static int receive_interrupted(void)
{
	struct sigaction sa = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	sigaction(SIGALRM, &sa, NULL);
	alarm(1);
	return receive(9, 0) == -1 && errno == EINTR ? 0 : 1;
}
static void messages(void)
{
	struct msqid_ds d;
	mq = msgget(key, IPC_CREAT | IPC_EXCL | 0600);
	CHECK("msgget", mq >= 0 && msgget(key, 0) == mq);
	CHECK_ERR("msgget_excl", msgget(key, IPC_CREAT | IPC_EXCL), EEXIST);
	CHECK("stat",
	      msgctl(mq, IPC_STAT, &d) == 0 && d.msg_qnum == 0 && d.msg_qbytes == 16384 && d.msg_lspid == 0);
	CHECK("send", send_msg(3, "three", 0) == 0 && send_msg(1, "one", 0) == 0 &&
			      send_msg(2, "two", 0) == 0 && send_msg(1, "uno", 0) == 0);
	CHECK("stat_after", msgctl(mq, IPC_STAT, &d) == 0 && d.msg_qnum == 4 && d.msg_cbytes == 18 &&
				    d.msg_lspid == getpid() && d.msg_stime > 0);
	CHECK("by_type", receive(1, 0) == 4 && got.type == 1 && !strcmp(got.text, "one"));
	CHECK("lowest", receive(-2, 0) == 4 && got.type == 1 && !strcmp(got.text, "uno"));
	CHECK("except", receive(3, MSG_EXCEPT) == 4 && got.type == 2);
	CHECK("copy", receive(0, MSG_COPY | IPC_NOWAIT) == 6 && !strcmp(got.text, "three"));
	CHECK_ERR("copy_waits_not", receive(0, MSG_COPY), EINVAL);
	CHECK_ERR("too_big", msgrcv(mq, &got, 2, 0, 0), E2BIG);
	CHECK("cut", msgrcv(mq, &got, 2, 0, MSG_NOERROR) == 2 && got.type == 3 && !memcmp(got.text, "th", 2));
	CHECK_ERR("none_left", receive(0, IPC_NOWAIT), ENOMSG);
	CHECK_ERR("type_0", send_msg(0, "x", 0), EINVAL);
	CHECK_ERR("type_negative", send_msg(-1, "x", 0), EINVAL);
	{
		char big[8193 + 8] = {1};
		CHECK_ERR("too_long", msgsnd(mq, big, 8193, 0), EINVAL);
		CHECK("longest", msgsnd(mq, big, 8192, 0) == 0 && msgsnd(mq, big, 8192, IPC_NOWAIT) == 0);
		CHECK_ERR("full", msgsnd(mq, big, 1, IPC_NOWAIT), EAGAIN);
		CHECK("empty_again",
		      msgrcv(mq, big, 8192, 0, 0) == 8192 && msgrcv(mq, big, 8192, 0, 0) == 8192);
	}
	CHECK("empty_message", msgsnd(mq, &(struct msg){7}, 0, 0) == 0 && receive(7, 0) == 0);
	pid_t p = run(echo);
	send_msg(1, "hello", 0);
	CHECK("echo", receive(2, 0) == 10 && !strcmp(got.text, "re: hello"));
	for (int i = 0; i < 50; i++)
		send_msg(1, "again", 0);
	int n = 0;
	for (int i = 0; i < 50; i++)
		n += receive(2, 0) == 10;
	send_msg(1, "end", 0);
	CHECK("echo_many", n == 50 && wait_for(p) == 0);
	msgctl(mq, IPC_STAT, &d);
	CHECK("last_pids", d.msg_lrpid == p && d.msg_lspid == getpid());
	d.msg_qbytes = 100;
	CHECK("set_qbytes", msgctl(mq, IPC_SET, &d) == 0 && send_msg(1, "0123456789", 0) == 0);
	{
		char big[200 + 8] = {1};
		CHECK_ERR("smaller_now", msgsnd(mq, big, 95, IPC_NOWAIT), EAGAIN);
	}
	receive(0, 0);
	CHECK("interrupted", child(receive_interrupted) == 0);
	p = run(receive_removed);
	hear(pb[0]);
	d.msg_qbytes = 16384;
	msgctl(mq, IPC_SET, &d);
	pid_t q = run(send_removed);
	hear(pb[0]);
	becomes(p, 'S');
	becomes(q, 'S');
	CHECK("msg_rmid", msgctl(mq, IPC_RMID, NULL) == 0 && wait_for(p) == 0 && wait_for(q) == 0);
	CHECK_ERR("msg_gone", msgctl(mq, IPC_STAT, &d), EINVAL);
}

/* --- permissions ------------------------------------------------------------------------- */

static int as_nobody(void)
{
	if (setgid(65534) || setuid(65534))
		return getuid() ? 0 : 100; /* not root: nothing to see */
	if (shmget(key, 0, 0600) != -1 || errno != EACCES)
		return 1;
	if (shmat(shm, NULL, 0) != (void *)-1 || errno != EACCES)
		return 2;
	char *r = shmat(shm, NULL, SHM_RDONLY); /* 0604 */
	if (r == (void *)-1)
		return 3;
	if (shmctl(shm, IPC_RMID, NULL) != -1 || errno != EPERM)
		return 4;
	if (semctl(sem, 0, GETVAL) != -1 || errno != EACCES)
		return 5;
	if (op1(0, 1, 0) != -1 || errno != EACCES)
		return 6;
	if (send_msg(1, "x", 0) != -1 || errno != EACCES)
		return 7;
	return 0;
}
static void permissions(void)
{
	shm = shmget(key, 4096, IPC_CREAT | 0604);
	sem = semget(key, 1, IPC_CREAT | 0600);
	mq = msgget(key, IPC_CREAT | 0644);
	CHECK("strangers", child(as_nobody) == 0);
	shmctl(shm, IPC_RMID, NULL);
	semctl(sem, 0, IPC_RMID);
	msgctl(mq, IPC_RMID, NULL);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		return 0; /* exec'd */
	if (pipe(pa) || pipe(pb))
		return 2;
	shared_memory();
	semaphores();
	messages();
	permissions();
	return conf_done();
}
