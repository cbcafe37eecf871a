/* SPDX-License-Identifier: ISC */
/*
 * Starts a command over and over and takes the time, in C so that the
 * harness's own weight stays out of the figure.
 *
 *   spawn once N COMMAND...           milliseconds from spawn to exit, one line each
 *   spawn rate SECONDS JOBS COMMAND.. starts per second with JOBS at a time
 *   spawn http PORT COMMAND...        milliseconds from spawn to the first HTTP 200; then SIGTERM
 *
 * A command that fails ends the whole with status 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

extern char **environ;

static pid_t start(char **argv)
{
	posix_spawn_file_actions_t fa;
	pid_t pid;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	int r = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	if (r) {
		fprintf(stderr, "spawn: %s: %s\n", argv[0], strerror(r));
		exit(1);
	}
	return pid;
}

static void reap_one(void)
{
	int st;

	while (wait(&st) < 0)
		if (errno != EINTR)
			exit(1);
	if (!WIFEXITED(st) || WEXITSTATUS(st)) {
		fprintf(stderr, "spawn: the command failed (wait status %#x)\n", st);
		exit(1);
	}
}

static int once(int n, char **argv)
{
	for (int i = 0; i < n; i++) {
		double t = bench_now_s();
		start(argv);
		reap_one();
		printf("%.3f\n", (bench_now_s() - t) * 1e3);
	}
	return 0;
}

static int rate(double seconds, int jobs, char **argv)
{
	double t = bench_now_s();
	int running = 0, done = 0;

	while (bench_now_s() - t < seconds) {
		while (running < jobs) {
			start(argv);
			running++;
		}
		reap_one();
		running--;
		done++;
	}
	printf("%.1f\n", done / (bench_now_s() - t));
	while (running--)
		reap_one();
	return 0;
}

/* One try: true once the server answers 200. */
static int answers(int port)
{
	static const char ask[] = "GET / HTTP/1.0\r\nHost: bench\r\n\r\n";
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct timeval tv = {5, 0};
	char buf[64] = "";
	size_t n = 0;

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (!connect(s, (struct sockaddr *)&a, sizeof(a)) && write(s, ask, sizeof(ask) - 1) > 0)
		while (n < sizeof(buf) - 1) {
			ssize_t r = read(s, buf + n, sizeof(buf) - 1 - n);
			if (r <= 0)
				break;
			n += (size_t)r;
		}
	close(s);
	return n > 12 && !strncmp(buf, "HTTP/1.", 7) && !strncmp(buf + 9, "200", 3);
}

static int http(int port, char **argv)
{
	double t = bench_now_s();
	pid_t pid = start(argv);
	struct timespec pause = {0, 200000};
	int st;

	while (!answers(port)) {
		if (bench_now_s() - t > 30 || waitpid(pid, &st, WNOHANG) == pid) {
			fprintf(stderr, "spawn: no answer on port %d\n", port);
			kill(pid, SIGKILL);
			return 1;
		}
		nanosleep(&pause, NULL);
	}
	printf("%.3f\n", (bench_now_s() - t) * 1e3);
	kill(pid, SIGTERM);
	for (int i = 0; i < 500 && waitpid(pid, &st, WNOHANG) != pid; i++) {
		nanosleep(&(struct timespec){0, 10000000}, NULL);
		if (i == 300)
			kill(pid, SIGKILL);
	}
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc > 3 && !strcmp(argv[1], "once"))
		return once(atoi(argv[2]), argv + 3);
	if (argc > 4 && !strcmp(argv[1], "rate"))
		return rate(atof(argv[2]), atoi(argv[3]), argv + 4);
	if (argc > 3 && !strcmp(argv[1], "http"))
		return http(atoi(argv[2]), argv + 3);
	fprintf(stderr, "usage: spawn once N|rate SECONDS JOBS|http PORT COMMAND...\n");
	return 2;
}
