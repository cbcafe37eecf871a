/* SPDX-License-Identifier: ISC */
/* execve of a #! script and of the program itself; environment and arguments arrive; descriptors close on exec. */
#include "conf.h"
#include <sys/wait.h>

extern char **environ;

static void *sleeper(void *a)
{
	for (;;)
		pause();
	return a;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "again")) {
		SHOW("argc", "%d", argc);
		SHOW("argv2", "%s", argv[2]);
		SHOW("env", "%s", getenv("COWBELL_X") ? getenv("COWBELL_X") : "none");
		CHECK("kept_fd", fcntl(100, F_GETFD) == 0);
		CHECK_ERR("cloexec_fd", fcntl(101, F_GETFD), EBADF);
		sigset_t m;
		sigprocmask(SIG_SETMASK, NULL, &m);
		CHECK("mask_kept", sigismember(&m, SIGUSR1));
		struct sigaction sa;
		sigaction(SIGUSR2, NULL, &sa);
		CHECK("handler_reset", sa.sa_handler == SIG_DFL);
		sigaction(SIGHUP, NULL, &sa);
		CHECK("ignore_kept", sa.sa_handler == SIG_IGN);
		CHECK_ERR("enoent", execl("/nonexistent", "x", NULL), ENOENT);
		CHECK_ERR("eacces", execl("/etc/passwd", "x", NULL), EACCES);
		conf_dir();
		int fd = open("script", O_CREAT | O_WRONLY, 0755);
		dprintf(fd, "#!/bin/sh -e\necho \"script $0 $1\" | :\necho value script_arg $1\necho done\n");
		close(fd);
		fd = open("garbage", O_CREAT | O_WRONLY, 0755);
		write(fd, "\177ELFxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", 60);
		close(fd);
		CHECK_ERR("enoexec", execl("./garbage", "x", NULL), ENOEXEC);
		return conf_done();
	}
	CHECK("first", true);
	dup2(1, 100);
	dup3(1, 101, O_CLOEXEC);
	setenv("COWBELL_X", "y z", 1);
	signal(SIGUSR2, (void (*)(int))(void *)exit);
	signal(SIGHUP, SIG_IGN);
	sigset_t m;
	sigemptyset(&m);
	sigaddset(&m, SIGUSR1);
	sigprocmask(SIG_BLOCK, &m, NULL);
	pthread_t t;
	pthread_create(&t, NULL, sleeper, NULL);
	char *av[] = {"execve", "again", "arg two", NULL};
	execve("/proc/self/exe", av, environ);
	perror("execve");
	return 1;
}
