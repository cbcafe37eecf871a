/* SPDX-License-Identifier: ISC */
/*
 * The load of bench/34000: delivers many different apps to a platform by its API, and asks each for its first answer.
 *
 * deliver HOST:PORT DOMAIN MIX COUNT WORKERS RESULTS          deliver COUNT apps
 * deliver HOST:PORT DOMAIN MIX COUNT ask RESULTS HOW_MANY     ask HOW_MANY random ones of them, one at a time
 *
 * The token for the API is in the environment, COWBELL_TOKEN.
 *
 * MIX has a line for each template: WEIGHT KIND DIRECTORY. An app's files are its template's with "@TEXT@" (the app's own text), "@N@"
 * and "@FILL:n@" (n bytes that no other app has) replaced; they go into a tar in memory. Which template an app gets, and its texts, follow
 * from its number alone.
 *
 * Each worker is a thread with two kept connections, one for the API and one for apps: POST /apps, POST /apps/NAME/builds?wait=1
 * with the tar as its body, GET / of NAME.DOMAIN. An app counts if that answer is 200 and has its own text in it. The time of all
 * of that, tars included, is measured; RESULTS gets a line for each app: number, kind, nanoseconds since the start when
 * it was done, of create, build, and first answer, and ok or what was wrong.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_TEMPLATES 64
#define MAX_FILES     32
#define MAX_BODY      (4u << 20)
#define TIMEOUT_S     120

struct file {
	char name[100];
	char *data;
	size_t n;
	unsigned mode;
};

struct template
{
	unsigned weight;
	char kind[24], dir[512];
	struct file file[MAX_FILES];
	unsigned n;
};

struct result {
	uint64_t done, create, build, first; /* ns */
	unsigned char template;
	char why[96]; /* "" is good */
};

static struct template template[MAX_TEMPLATES];
static unsigned n_templates, total_weight;
static struct sockaddr_in address;
static const char *token, *domain;
static unsigned count;
static struct result *result;
static _Atomic unsigned next_app, n_done, n_failed;
static uint64_t began;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

/* --- apps ------------------------------------------------------------------------------------------ */

static struct template *loading;

static int load_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
	struct file *f = &loading->file[loading->n];
	int fd;

	(void)at;
	if (type != FTW_F)
		return 0;
	if (loading->n == MAX_FILES)
		die("%s: too many files", loading->dir);
	snprintf(f->name, sizeof(f->name), "%s", path + strlen(loading->dir) + 1);
	f->n = (size_t)st->st_size;
	f->mode = st->st_mode & 0777;
	f->data = calloc(1, f->n + 1);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, f->data, f->n) != (ssize_t)f->n)
		die("%s: %s", path, strerror(errno));
	close(fd);
	loading->n++;
	return 0;
}

static void load_mix(const char *path)
{
	FILE *f = fopen(path, "r");

	while (f && n_templates < MAX_TEMPLATES) {
		struct template *t = &template[n_templates];
		if (fscanf(f, "%u %23s %511s", &t->weight, t->kind, t->dir) != 3)
			break;
		loading = t;
		if (nftw(t->dir, load_file, 16, FTW_PHYS) || !t->n)
			die("%s: no template", t->dir);
		total_weight += t->weight;
		n_templates++;
	}
	if (!f || !n_templates)
		die("%s: no templates", path);
	fclose(f);
}

/* SplitMix64: numbers of an app that look random and are always the same. */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

static bool has_common_divisor(unsigned a, unsigned b)
{
	while (b) {
		unsigned r = a % b;
		a = b;
		b = r;
	}
	return a > 1;
}

/* Weights as they are, not by chance: of each round of total_weight apps exactly its share, in an order of its own. */
static unsigned template_of(unsigned i)
{
	unsigned round = i / total_weight, at = i % total_weight, step = 37, w;

	while (has_common_divisor(step, total_weight))
		step += 2;
	w = (unsigned)(((uint64_t)at * step + mix(round) % total_weight) % total_weight);
	for (unsigned t = 0; t < n_templates; t++) {
		if (w < template[t].weight)
			return t;
		w -= template[t].weight;
	}
	return 0;
}

static void name_of(unsigned i, char out[32])
{
	snprintf(out, 32, "app-%05u", i);
}

static void text_of(unsigned i, char out[96])
{
	snprintf(out, 96, "I am app %u, and my own word is %016llx.", i,
		 (unsigned long long)mix(i * 2654435761u + 1));
}

struct buffer {
	char *p;
	size_t n, cap;
};

static void put(struct buffer *b, const char *p, size_t n)
{
	if (b->cap - b->n < n) {
		b->cap = (b->n + n) * 2;
		b->p = realloc(b->p, b->cap);
		if (!b->p)
			die("out of memory");
	}
	memcpy(b->p + b->n, p, n);
	b->n += n;
}

static void fill(struct buffer *b, unsigned i, unsigned long n)
{
	static const char *const word[] = {"apps ", "that ", "nobody ",	 "asks ",
					   "for ",  "cost ", "nothing ", "here "};
	uint64_t x = mix(i + 77);

	for (size_t end = b->n + n; b->n < end;) {
		const char *w = word[x & 7];
		size_t len = strlen(w);
		put(b, w, len < end - b->n ? len : end - b->n);
		x = mix(x);
	}
}

static void contents(struct buffer *b, const struct file *f, unsigned i)
{
	const char *p = f->data, *end = f->data + f->n;
	char text[96];

	if (memchr(p, 0, f->n)) { /* a program */
		put(b, p, f->n);
		return;
	}
	while (p < end) {
		const char *at = memchr(p, '@', (size_t)(end - p));
		unsigned long n;
		int len = 0;
		put(b, p, (size_t)((at ? at : end) - p));
		if (!at)
			return;
		if (!strncmp(at, "@TEXT@", 6)) {
			text_of(i, text);
			put(b, text, strlen(text));
			p = at + 6;
		} else if (!strncmp(at, "@N@", 3)) {
			put(b, text, (size_t)snprintf(text, sizeof(text), "%u", i));
			p = at + 3;
		} else if (sscanf(at, "@FILL:%lu@%n", &n, &len) == 1 && len) {
			fill(b, i, n);
			p = at + len;
		} else {
			put(b, at, 1);
			p = at + 1;
		}
	}
}

/* ustar: a block of names and numbers, the contents, zeros up to 512; two blocks of zeros at the end. */
static void make_tar(struct buffer *b, const struct template *t, unsigned i)
{
	static const char zeros[1024];

	b->n = 0;
	for (unsigned k = 0; k < t->n; k++) {
		const struct file *f = &t->file[k];
		size_t at = b->n, size;
		unsigned sum = 0;
		put(b, zeros, 512);
		contents(b, f, i);
		size = b->n - at - 512;
		put(b, zeros, (512 - size % 512) % 512);
		char *h = b->p + at;
		snprintf(h, 100, "%s", f->name);
		snprintf(h + 100, 8, "%07o", f->mode);
		snprintf(h + 108, 8, "%07o", 0u);
		snprintf(h + 116, 8, "%07o", 0u);
		snprintf(h + 124, 12, "%011lo", (unsigned long)size);
		snprintf(h + 136, 12, "%011o", 0u);
		memcpy(h + 148, "        0", 9);
		memcpy(h + 257, "ustar\00000", 8);
		for (unsigned j = 0; j < 512; j++)
			sum += (unsigned char)h[j];
		snprintf(h + 148, 7, "%06o", sum);
		h[155] = ' ';
	}
	put(b, zeros, 1024);
}

/* --- HTTP ------------------------------------------------------------------------------------------ */

struct connection {
	int fd;
	struct buffer in;
	size_t body, n_body; /* of the last answer, in in.p */
};

static bool connection_open(struct connection *c)
{
	struct timeval tv = {.tv_sec = TIMEOUT_S};
	int one = 1;

	if (c->fd >= 0)
		return true;
	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	if (!connect(c->fd, (struct sockaddr *)&address, sizeof(address)))
		return true;
	close(c->fd);
	c->fd = -1;
	return false;
}

static void connection_close(struct connection *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

/* More bytes; 0 at the end, -1. */
static ssize_t more(struct connection *c)
{
	char buf[65536];
	ssize_t n = c->in.n > MAX_BODY ? -1 : read(c->fd, buf, sizeof(buf));

	if (n > 0)
		put(&c->in, buf, (size_t)n);
	return n;
}

/* A header's value in the head, which ends with a NUL; or NULL. */
static const char *header(const char *head, const char *name)
{
	size_t n = strlen(name);

	for (const char *p = strstr(head, "\r\n"); p; p = strstr(p + 2, "\r\n"))
		if (!strncasecmp(p + 2, name, n) && p[2 + n] == ':')
			return p + 3 + n + strspn(p + 3 + n, " ");
	return NULL;
}

/* Chunks to a whole body, in place. false: it broke. */
static bool dechunk(struct connection *c)
{
	size_t at = c->body, out = c->body;

	for (;;) {
		char *nl;
		put(&c->in, "", 1);
		c->in.n--;
		while (!(nl = strstr(c->in.p + at, "\r\n"))) {
			if (more(c) <= 0)
				return false;
			put(&c->in, "", 1);
			c->in.n--;
		}
		size_t size = strtoul(c->in.p + at, NULL, 16), from = (size_t)(nl + 2 - c->in.p);
		while (c->in.n < from + size + 2)
			if (more(c) <= 0)
				return false;
		if (!size) {
			c->n_body = out - c->body;
			return true;
		}
		memmove(c->in.p + out, c->in.p + from, size);
		out += size;
		at = from + size + 2;
	}
}

/* The status of the answer, or -1; its body is kept. */
static int receive(struct connection *c)
{
	char *end;
	const char *v;
	int status;

	c->in.n = 0;
	do {
		if (more(c) <= 0)
			return -1;
		put(&c->in, "", 1);
		c->in.n--;
	} while (!(end = strstr(c->in.p, "\r\n\r\n")));
	c->body = (size_t)(end + 4 - c->in.p);
	end[2] = 0;
	if (sscanf(c->in.p, "HTTP/1.%*d %d", &status) != 1)
		return -1;
	v = header(c->in.p, "Connection");
	bool closes = v && !strncasecmp(v, "close", 5);
	v = header(c->in.p, "Transfer-Encoding");
	bool chunked = v && !strncasecmp(v, "chunked", 7);
	v = header(c->in.p, "Content-Length");
	if (chunked) {
		if (!dechunk(c))
			return -1;
	} else if (v) {
		c->n_body = strtoul(v, NULL, 10);
		while (c->in.n < c->body + c->n_body)
			if (more(c) <= 0)
				return -1;
	} else {
		while (more(c) > 0)
			;
		c->n_body = c->in.n - c->body;
		closes = true;
	}
	if (closes)
		connection_close(c);
	return status;
}

/* Once more on a new connection, if a kept one was closed under it. */
static int request(struct connection *c, const char *head, size_t n_head, const char *body, size_t n_body)
{
	for (int i = 0; i < 2; i++) {
		bool kept = c->fd >= 0;
		if (!connection_open(c))
			return -1;
		if (write(c->fd, head, n_head) == (ssize_t)n_head) {
			size_t sent = 0;
			while (sent < n_body) {
				ssize_t k = write(c->fd, body + sent, n_body - sent);
				if (k <= 0)
					break;
				sent += (size_t)k;
			}
			int status = sent == n_body ? receive(c) : -1;
			if (status > 0)
				return status;
		}
		connection_close(c);
		if (!kept)
			break;
	}
	return -1;
}

/* --- one app ---------------------------------------------------------------------------------------- */

static void fail(struct result *r, const char *step, int status, const struct connection *c)
{
	int n = snprintf(r->why, sizeof(r->why), "%s: %d ", step, status);

	for (size_t i = 0; status > 0 && i < c->n_body && n < (int)sizeof(r->why) - 1; i++) {
		char ch = c->in.p[c->body + i];
		r->why[n++] = ch >= ' ' && ch < 127 ? ch : ' ';
	}
	r->why[n] = 0;
	n_failed++;
}

static bool ask(struct connection *c, unsigned i, struct result *r)
{
	char head[256], name[32], text[96];
	int n, status;

	name_of(i, name);
	text_of(i, text);
	n = snprintf(head, sizeof(head), "GET / HTTP/1.1\r\nHost: %s.%s\r\n\r\n", name, domain);
	uint64_t t = now();
	status = request(c, head, (size_t)n, NULL, 0);
	r->first = now() - t;
	if (status == 200 && memmem(c->in.p + c->body, c->n_body, text, strlen(text)))
		return true;
	fail(r, "first answer", status, c);
	return false;
}

static bool deliver(struct connection *api, struct connection *web, struct buffer *tar, unsigned i,
		    struct result *r)
{
	char head[512], body[64], name[32];
	int n, m, status;
	uint64_t t = now();

	name_of(i, name);
	r->template = (unsigned char)template_of(i);
	m = snprintf(body, sizeof(body), "{\"name\":\"%s\"}", name);
	n = snprintf(head, sizeof(head),
		     "POST /apps HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: "
		     "application/json\r\n"
		     "Accept: application/vnd.heroku+json; version=3\r\nContent-Length: %d\r\n\r\n%s",
		     token, m, body);
	status = request(api, head, (size_t)n, NULL, 0);
	r->create = now() - t;
	if (status != 201) {
		fail(r, "create", status, api);
		return false;
	}
	t = now();
	make_tar(tar, &template[r->template], i);
	n = snprintf(head, sizeof(head),
		     "POST /apps/%s/builds?wait=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
		     "Content-Type: application/x-tar\r\nAccept: application/vnd.heroku+json; "
		     "version=3\r\nContent-Length: %zu\r\n\r\n",
		     name, token, tar->n);
	status = request(api, head, (size_t)n, tar->p, tar->n);
	r->build = now() - t;
	if (status != 201) {
		fail(r, "build", status, api);
		return false;
	}
	return ask(web, i, r);
}

static void *work(void *arg)
{
	struct connection api = {.fd = -1}, web = {.fd = -1};
	struct buffer tar = {0};

	(void)arg;
	for (;;) {
		unsigned i = next_app++;
		if (i >= count)
			break;
		deliver(&api, &web, &tar, i, &result[i]);
		result[i].done = now() - began;
		n_done++;
	}
	connection_close(&api);
	connection_close(&web);
	return NULL;
}

/* --- what is seen meanwhile ------------------------------------------------------------------------------ */

static void progress(bool last)
{
	static bool terminal, asked;
	static uint64_t told;
	unsigned done = n_done, width = 40;
	double s = (double)(now() - began) / 1e9;
	char bar[64];

	if (!asked)
		terminal = isatty(2);
	asked = true;
	if (!terminal && !last && now() - told < 10000000000u)
		return;
	told = now();
	memset(bar, ' ', width);
	memset(bar, '#', (size_t)done * width / count);
	bar[width] = 0;
	fprintf(stderr, "%s[%s] %u/%u  %.1f apps/s  %.0f s  %u failed%s", terminal ? "\r" : "", bar, done,
		count, s > 0 ? done / s : 0, s, (unsigned)n_failed, terminal && !last ? "\033[K" : "\n");
}

static void write_results(const char *path)
{
	FILE *f = fopen(path, "w");

	for (unsigned i = 0; f && i < count; i++) {
		const struct result *r = &result[i];
		if (r->done)
			fprintf(f, "%u\t%s\t%llu\t%llu\t%llu\t%llu\t%s\n", i, template[r->template].kind,
				(unsigned long long)r->done, (unsigned long long)r->create,
				(unsigned long long)r->build, (unsigned long long)r->first,
				*r->why ? r->why : "ok");
	}
	if (!f || fclose(f))
		die("%s: %s", path, strerror(errno));
}

static void run_workers(unsigned n)
{
	pthread_t thread[256];

	if (!n || n > 256)
		die("workers: 1 to 256");
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&thread[i], NULL, work, NULL))
			die("no thread: %s", strerror(errno));
	while (n_done < count) {
		usleep(100000);
		progress(false);
	}
	for (unsigned i = 0; i < n; i++)
		pthread_join(thread[i], NULL);
	progress(true);
}

/* Different ones, in a random order that is the same in each run. */
static void ask_some(unsigned how_many)
{
	struct connection web = {.fd = -1};
	unsigned *order = calloc(count, sizeof(*order));

	if (!order)
		die("out of memory");
	for (unsigned i = 0; i < count; i++)
		order[i] = i;
	for (unsigned i = 0; i < count; i++) {
		unsigned k = i + (unsigned)(mix(i * 31 + 5) % (count - i)), swap = order[i];
		order[i] = order[k];
		order[k] = swap;
	}
	for (unsigned i = 0; i < how_many && i < count; i++) {
		struct result *r = &result[order[i]];
		r->template = (unsigned char)template_of(order[i]);
		ask(&web, order[i], r);
		r->done = now() - began;
	}
	free(order);
}

int main(int argc, char **argv)
{
	char host[64];
	unsigned port;

	token = getenv("COWBELL_TOKEN");
	if (argc < 7 || !token || sscanf(argv[1], "%63[^:]:%u", host, &port) != 2)
		die("usage: COWBELL_TOKEN=... deliver HOST:PORT DOMAIN MIX COUNT WORKERS|ask RESULTS "
		    "[HOW_MANY]");
	address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
		die("%s: no IPv4 address", host);
	domain = argv[2];
	load_mix(argv[3]);
	count = (unsigned)atoi(argv[4]);
	result = calloc(count ? count : 1, sizeof(*result));
	if (!count || !result)
		die("%s: how many?", argv[4]);
	began = now();
	if (!strcmp(argv[5], "ask"))
		ask_some(argc > 7 ? (unsigned)atoi(argv[7]) : 1000);
	else
		run_workers((unsigned)atoi(argv[5]));
	write_results(argv[6]);
	return n_failed ? 1 : 0;
}
