/* SPDX-License-Identifier: ISC */
/*
 * Starts a command over and over and takes the time, in C so that the
 * harness's own weight stays out of the figure.
 *
 *   spawn once N COMMAND...           milliseconds from spawn to exit, one line each
 *   spawn rate SECONDS JOBS COMMAND.. starts per second with JOBS at a time
 *   spawn http PORT COMMAND...        milliseconds from spawn to the first HTTP 200; then SIGTERM
 *   spawn serve SECONDS PORT,... COMMAND..  started, asked once and ended, per second; one at a time for each port,
 *                                     which the command has where it says %p
 *   spawn gap PORT                    asks until standard input ends; then the longest time between two answers,
 *                                     their median, both in milliseconds, how many there were, and how many failed
 *
 * Asks as fast as it can: a try that finds nobody costs 20 us, and the next one follows 0.1 ms later.
 * What SPAWN_END says, a shell's command, ends what SIGTERM does not.
 * A command that fails ends the whole with status 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/prctl.h>
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
	struct timeval tv = {0, 250000}; /* an emulated network may take what it loses */
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

/* The exact time, without leaving the timer slack of this process to the commands that it starts. */
static void nap(long us)
{
	prctl(PR_SET_TIMERSLACK, 1000UL);
	nanosleep(&(struct timespec){0, us * 1000}, NULL);
	prctl(PR_SET_TIMERSLACK, 0UL);
}

/* Milliseconds from spawn to the first 200, or a negative number; the command has ended then. */
static double first_answer(int port, char **argv)
{
	double t = bench_now_s(), took = -1;
	pid_t pid = start(argv);
	int st;

	while (!answers(port)) {
		if (bench_now_s() - t > 20 || waitpid(pid, &st, WNOHANG) == pid) {
			fprintf(stderr, "spawn: no answer on port %d\n", port);
			kill(pid, SIGKILL);
			return -1;
		}
		nap(100);
	}
	took = (bench_now_s() - t) * 1e3;
	const char *end = getenv("SPAWN_END");
	if (!end || system(end))
		kill(pid, SIGTERM);
	for (int i = 0; i < 25000 && waitpid(pid, &st, WNOHANG) != pid; i++) {
		nap(200);
		if (i == 15000)
			kill(pid, SIGKILL);
	}
	return took;
}

static int http(int port, char **argv)
{
	double ms = first_answer(port, argv);

	if (ms < 0)
		return 1;
	printf("%.3f\n", ms);
	return 0;
}

/* One port's starts for some seconds; their number goes to a pipe. */
static void serve_one(double seconds, int port, char **argv, int out)
{
	double t = bench_now_s();
	int n = 0;

	for (char **a = argv; *a; a++) {
		char *at = strstr(*a, "%p"), *with = NULL;
		if (at && asprintf(&with, "%.*s%d%s", (int)(at - *a), *a, port, at + 2) > 0)
			*a = with;
	}
	for (; bench_now_s() - t < seconds; n++)
		if (first_answer(port, argv) < 0)
			_exit(1);
	double rate = n / (bench_now_s() - t);
	_exit(write(out, &rate, sizeof(rate)) != sizeof(rate));
}

static int serve(double seconds, char *ports, char **argv)
{
	double sum = 0, one;
	int p[2], jobs = 0, bad = 0, st;

	if (pipe2(p, O_CLOEXEC))
		return 1;
	for (char *w = strtok(ports, ","); w; w = strtok(NULL, ","), jobs++)
		if (!fork())
			serve_one(seconds, atoi(w), argv, p[1]);
	for (int i = 0; i < jobs; i++)
		bad |= wait(&st) < 0 || st;
	if (bad)
		return 1;
	for (int i = 0; i < jobs && read(p[0], &one, sizeof(one)) == sizeof(one); i++)
		sum += one;
	printf("%.1f\n", sum);
	return 0;
}

static int by_size(const void *a, const void *b)
{
	float x = *(const float *)a, y = *(const float *)b;

	return (x > y) - (x < y);
}

static int gap(int port)
{
	static float gaps[1 << 20];
	struct pollfd stop = {.fd = 0, .events = POLLIN};
	double last = bench_now_s();
	int n = 0, failed = 0;

	while (n < 1 << 20 && !poll(&stop, 1, 0)) {
		if (!answers(port)) {
			failed++;
			continue;
		}
		double now = bench_now_s();
		gaps[n++] = (float)((now - last) * 1e3);
		last = now;
	}
	if (!n)
		return 1;
	qsort(gaps, (size_t)n, sizeof(*gaps), by_size);
	printf("%.3f %.3f %d %d\n", gaps[n - 1], gaps[n / 2], n, failed);
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
	if (argc > 4 && !strcmp(argv[1], "serve"))
		return serve(atof(argv[2]), argv[3], argv + 4);
	if (argc == 3 && !strcmp(argv[1], "gap"))
		return gap(atoi(argv[2]));
	fprintf(stderr, "usage: spawn once N|rate SECONDS JOBS|http PORT|serve SECONDS PORT,... COMMAND...\n"
			"       spawn gap PORT\n");
	return 2;
}
