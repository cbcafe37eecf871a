/* SPDX-License-Identifier: ISC */
/* The file system of POSIX message queues: names, a queue's state as text, files that are queues. */
#include "child.h"
#include <dirent.h>
#include <mqueue.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/vfs.h>

static const char *root = "/dev/mqueue";

static bool is_mqueue(const char *path)
{
	struct statfs s;
	return statfs(path, &s) == 0 && s.f_type == 0x19800202;
}
/* Where the system has it; else mount it for us alone. */
static bool find(void)
{
	static char dir[] = "/tmp/cowbell-mq-XXXXXX";
	if (is_mqueue(root))
		return true;
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    !(root = mkdtemp(dir)))
		return false;
	return mount("mqueue", dir, "mqueue", 0, NULL) == 0;
}
static const char *path(const char *name)
{
	static char buf[300];
	snprintf(buf, sizeof(buf), "%s/%s", root, name);
	return buf;
}
static int listed(const char *name)
{
	DIR *d = opendir(root);
	struct dirent *e;
	int n = 0;
	while ((e = readdir(d)))
		n += !strcmp(e->d_name, name) && e->d_type == DT_REG;
	closedir(d);
	return n;
}
static const char *text(const char *name)
{
	static char buf[200];
	int fd = open(path(name), O_RDONLY);
	ssize_t n = fd < 0 ? 0 : read(fd, buf, sizeof(buf) - 1);
	buf[n > 0 ? n - 1 : 0] = 0; /* without the end of the line */
	close(fd);
	return buf;
}

int main(void)
{
	struct mq_attr a = {.mq_maxmsg = 4, .mq_msgsize = 32};
	char buf[8192], line[100];
	struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
	struct stat st;
	mqd_t q;
	int fd;

	signal(SIGUSR1, SIG_IGN);
	umask(022);
	CHECK("there", find());
	mq_unlink("/conf-a");
	mq_unlink("/conf-b");
	CHECK("root", stat(root, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 01777);
	q = mq_open("/conf-a", O_RDWR | O_CREAT | O_EXCL, 0640, &a);
	CHECK("shown", q >= 0 && listed("conf-a") == 1 && listed("conf-b") == 0);
	CHECK("stat", stat(path("conf-a"), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0640 &&
			      st.st_size == 80 && st.st_nlink == 1 && st.st_uid == geteuid());
	SHOW("empty", "%s", text("conf-a"));
	mq_send(q, "hello", 5, 1);
	mq_send(q, "you", 3, 2);
	SHOW("two", "%s", text("conf-a"));
	mq_receive(q, buf, 32, NULL);
	mq_receive(q, buf, 32, NULL);
	mq_notify(q, &ev);
	snprintf(line, sizeof(line), "QSIZE:%-10u NOTIFY:%-5u SIGNO:%-5u NOTIFY_PID:%-6d", 0, 0, SIGUSR1,
		 getpid());
	CHECK("notify", !strcmp(text("conf-a"), line));
	mq_notify(q, NULL);
	CHECK("notify_no_more", strstr(text("conf-a"), "SIGNO:0") != NULL);
	fd = open(path("conf-a"), O_RDWR);
	CHECK("open_sends",
	      fd >= 0 && mq_send(fd, "x", 1, 0) == 0 && mq_receive(q, buf, 32, NULL) == 1 && buf[0] == 'x');
	CHECK_ERR("write", write(fd, "x", 1), EINVAL);
	close(fd);
	CHECK_ERR("missing", open(path("conf-b"), O_RDWR), ENOENT);
	CHECK_ERR("mkdir", mkdir(path("conf-b"), 0700), EPERM);
	fd = open(path("conf-b"), O_RDWR | O_CREAT | O_EXCL, 0600);
	CHECK("made", fd >= 0 && listed("conf-b") == 1 && mq_getattr(fd, &a) == 0 && a.mq_maxmsg == 10 &&
			      a.mq_msgsize == 8192);
	CHECK_ERR("made_once", open(path("conf-b"), O_RDWR | O_CREAT | O_EXCL, 0600), EEXIST);
	CHECK("chmod", chmod(path("conf-b"), 0604) == 0 && stat(path("conf-b"), &st) == 0 &&
			       (st.st_mode & 07777) == 0604);
	CHECK("unlink", unlink(path("conf-b")) == 0 && listed("conf-b") == 0);
	CHECK_ERR("unlinked", mq_open("/conf-b", O_RDWR), ENOENT);
	CHECK("lives_on", mq_send(fd, "still", 5, 0) == 0 && mq_receive(fd, buf, sizeof(buf), NULL) == 5);
	close(fd);
	CHECK("mq_unlink",
	      mq_unlink("/conf-a") == 0 && listed("conf-a") == 0 && stat(path("conf-a"), &st) == -1);
	mq_close(q);
	return conf_done();
}
