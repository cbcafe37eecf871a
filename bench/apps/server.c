/* SPDX-License-Identifier: ISC */
/* A small web server for the apps of bench/34000: text.txt at "/", with ROUTES also other files of the directory. */
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char text[65536], head[256], request[8192];

static void answer(int fd, const char *file)
{
	int f = open(file, O_RDONLY);
	ssize_t n = f < 0 ? 0 : read(f, text, sizeof(text));
	int h = snprintf(head, sizeof(head),
			 "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zd\r\n\r\n",
			 f < 0 ? "404 Not Found" : "200 OK", n);

	if (f >= 0)
		close(f);
	if (write(fd, head, (size_t)h) != h || write(fd, text, (size_t)n) != n)
		return;
}

static void serve(int fd)
{
	size_t n = 0;

	for (;;) {
		ssize_t k = read(fd, request + n, sizeof(request) - 1 - n);
		if (k <= 0)
			return;
		request[n += (size_t)k] = 0;
		if (!strstr(request, "\r\n\r\n"))
			continue;
#ifdef ROUTES
		answer(fd, !strncmp(request, "GET / ", 6)	  ? "text.txt"
			   : !strncmp(request, "GET /about ", 11) ? "about.txt"
								  : "none");
#else
		answer(fd, "text.txt");
#endif
		n = 0;
	}
}

int main(void)
{
	const char *port = getenv("PORT");
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((unsigned short)atoi(port ? port : "8080"))};
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 64)) {
		perror("server");
		return 1;
	}
	for (;;) {
		int fd = accept(s, NULL, NULL);
		if (fd < 0)
			continue;
		serve(fd);
		close(fd);
	}
}
