/* SPDX-License-Identifier: ISC */
/* unit-sources: platform/store.c platform/store_sync.c platform/schema.c platform/model.c platform/model_app.c platform/model_domain.c platform/model_limits.c platform/model_release.c platform/model_formation.c platform/model_user.c platform/names.c platform/table.c platform/settings.c platform/config.c platform/util.c lib/host/say.c lib/host/strings.c lib/host/toml.c tests/unit/fake_platform.c */
/* unit-libs: -luv -lsqlite3 -lcrypto -ljansson -lpthread */
/*
 * The model and its store: what may be done, what is refused, and that both say the same: after each round of random changes, with
 * failures of the store among them, what memory says is compared with what a second program reads from the store.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/model_inside.h"
#include "platform/settings.h"
#include "tests/unit/fake_platform.h"
#include "tests/unit/tap.h"

static char dir[] = "/tmp/cowbell-model-XXXXXX";
static struct user *admin, *eve;

static bool fails(struct fault f, int status, const char *what)
{
	bool good = f.status == status;

	if (!ok(good, "%s: %d", what, status))
		diag("%d %s", f.status, f.message);
	return good;
}

static struct app *make(const char *name)
{
	struct app *a = NULL;
	struct fault f = model_app_create(admin, name, &a);

	if (f.status)
		diag("%s", f.message);
	return a;
}

static void names(void)
{
	static const char *const bad[] = {
		"",    "a",	"ab",	"-abc", "1abc",	 "abc-", "Abc",	    "a_bc",
		"a b", "a\nbc", "a.bc", "../x", "abc\"", "a;bc", "-branch", "abcdefghijklmnopqrstuvwxyzabcde",
		"api", "www"};
	static const char *const good[] = {"abc", "a1b", "a--b", "abcdefghijklmnopqrstuvwxyzabcd"};
	struct app *a = NULL;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		fails(model_app_create(admin, bad[i], &a), 422, "a name that cannot be");
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		ok((a = make(good[i])) != NULL, "name %s", good[i]);
		fails(model_app_create(eve, good[i], &a), 422, "taken");
	}
	a = make(NULL);
	ok(a && valid_app_name(a->name), "a made name: %s", a ? a->name : "none");
	ok(a && model_app(a->id) == a && model_app(a->name) == a, "found by id and name");

	char old[APP_NAME_MAX];
	strcpy(old, a->name);
	fails(model_app_rename(a, "renamed"), 0, "rename");
	ok(!model_app(old) && model_app("renamed") == a, "only the new name is found");
	fails(model_app_create(eve, old, &a), 422, "the old name, by another");
	fails(model_app_create(admin, old, &a), 0, "the old name, by its owner");
	fake_gone = 0;
	fails(model_app_destroy(a), 0, "destroy");
	ok(fake_gone == 4, "everybody was told");
	ok(!model_app(old), "gone");
	fails(model_app_create(eve, old, &a), 422, "name of a destroyed app, by another");
	fails(model_app_create(admin, old, &a), 0, "name of a destroyed app, by its owner");
}

static struct app *by_host(const char *h)
{
	return model_app_by_host(h, strlen(h));
}

static void hosts(void)
{
	struct app *a = make("hosts"), *b = make("hosts-b"), *e = NULL;
	struct domain *d = NULL, *w = NULL;
	static const char *const bad[] = {
		"",	   "x",	      "localhost", "hosts.localhost", "a..b",	   ".example.org",
		"1.2.3.4", "*.org",   "*",	   "a*.b.org",	      "*.*.b.org", "-a.org",
		"a-.org",  "a b.org", "a\n.org",   "a_b.example.org"};

	model_app_create(eve, "hosts-eve", &e);
	ok(by_host("hosts.localhost") == a && by_host("HOSTS.LocalHost.") == a, "by name");
	ok(!by_host("x.hosts.localhost") && !by_host("hosts") && !by_host("") && !by_host(".localhost"),
	   "nothing else");
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		fails(model_domain_add(a, bad[i], &d), 422, "a domain that cannot be");
	fails(model_domain_add(a, "Shop.Example.org.", &d), 0, "a domain");
	ok(by_host("shop.example.org") == a && !strcmp(d->hostname, "shop.example.org"), "in lower case");
	fails(model_domain_add(b, "shop.example.org", &w), 422, "taken");
	fails(model_domain_add(a, "*.example.com", &w), 0, "a wildcard");
	ok(by_host("x.example.com") == a && !by_host("y.x.example.com") && !by_host("example.com"),
	   "it covers one label");
	fails(model_domain_add(e, "x.example.com", &d), 422, "under a wildcard of another");
	fails(model_domain_add(e, "*.example.org", &d), 422, "a wildcard over another's");
	fails(model_domain_add(b, "x.example.com", &d), 0, "under one's own");
	ok(by_host("x.example.com") == b && by_host("z.example.com") == a, "the exact one wins");
	fails(model_domain_remove(b, d), 0, "remove");
	ok(by_host("x.example.com") == a, "removed");
	fails(model_app_destroy(a), 0, "destroy");
	ok(!by_host("x.example.com") && !by_host("shop.example.org"), "domains went with the app");
}

static unsigned release(struct app *a, const char *image, const char *vars, const char *types, bool pending)
{
	unsigned v = 0;
	json_t *c = vars ? json_loads(vars, 0, NULL) : NULL, *t = types ? json_loads(types, 0, NULL) : NULL;
	struct new_release n = {.description = "d",
				.user = admin,
				.image = image,
				.slug_id = image ? "s" : NULL,
				.config = c,
				.types = t,
				.pending = pending};
	struct fault f = model_release_create(a, &n, &v);

	if (f.status)
		diag("%s", f.message);
	json_decref(c);
	json_decref(t);
	return v;
}

static unsigned quantity(struct app *a, const char *type)
{
	struct formation *f = model_formation(a, type);

	return f ? f->quantity : 999;
}

static void releases(void)
{
	struct app *a = make("releases");

	ok(!a->release.version && !strcmp(a->release.config, "{}"), "none at first");
	ok(release(a, NULL, "{\"K\":\"v\"}", NULL, false) == 1 && !a->n_formation, "vars alone");
	ok(release(a, "img1", NULL, "{\"web\":\"w\",\"worker\":\"x\",\"release\":\"r\"}", false) == 2,
	   "a slug");
	ok(quantity(a, "web") == 1 && quantity(a, "worker") == 0 && quantity(a, "release") == 999,
	   "formation");
	ok(!strcmp(a->release.config, "{\"K\":\"v\"}") && !strcmp(a->release.image, "img1"), "vars are kept");
	fails(model_scale(a, "web", 3, NULL), 0, "scale");
	fails(model_scale(a, "worker", 8, NULL), 422, "beyond max_processes");
	fails(model_scale(a, "worker", 4294967295u, NULL), 422, "far beyond");
	fails(model_scale(a, "nope", 1, NULL), 404, "no such type");
	fails(model_scale(a, "web", 2, "Standard-1X"), 0, "a size");
	ok(release(a, "img2", NULL, "{\"web\":\"w2\",\"clock\":\"c\"}", false) == 3, "another slug");
	ok(quantity(a, "web") == 2 && quantity(a, "worker") == 999 && quantity(a, "clock") == 0,
	   "formation follows");
	ok(!strcmp(model_formation(a, "web")->command, "w2"), "command too");

	ok(release(a, "img4", NULL, "{\"web\":\"w4\"}", true) == 4 && a->release.version == 3,
	   "pending is not current");
	fails(model_release_done(a, 4, false), 0, "its phase failed");
	ok(a->release.version == 3 && release(a, NULL, "{}", NULL, false) == 5,
	   "its number is not given again");
	ok(release(a, "img6", NULL, "{\"web\":\"w6\"}", true) == 6, "pending");
	fails(model_release_done(a, 6, true), 0, "its phase succeeded");
	ok(a->release.version == 6 && !strcmp(a->release.image, "img6") &&
		   !strcmp(model_formation(a, "web")->command, "w6"),
	   "current");
	fails(model_release_done(a, 6, true), 404, "once only");

	release(a, "img7", NULL, "{\"web\":\"w7\"}", true);
	release(a, NULL, "{\"NEW\":\"1\"}", NULL, false);
	fails(model_release_done(a, 7, true), 0, "pending while vars changed");
	ok(a->release.version == 9 && !strcmp(a->release.image, "img7") &&
		   !strcmp(a->release.config, "{\"NEW\":\"1\"}"),
	   "slug and new vars");

	json_t *j = model_release(a, 4);
	ok(j && !strcmp(json_string_value(json_object_get(j, "status")), "failed"), "as JSON");
	json_decref(j);
	ok(!model_release(a, 99), "none of this number");

	struct app *many = make("many-releases");
	for (int i = 0; i < 520; i++)
		release(many, NULL, "{}", NULL, false);
	j = model_release(many, 20);
	ok(!j && many->release.version == 520, "the oldest releases go");
	j = model_release(many, 21);
	ok(j != NULL, "500 are kept");
	json_decref(j);

	char *big = malloc(70000);
	memset(big, 'x', 69999);
	big[69999] = 0;
	json_t *c = json_pack("{s:s}", "BIG", big);
	struct new_release n = {.config = c};
	fails(model_release_create(a, &n, NULL), 422, "vars of 70,000 bytes");
	json_decref(c);
	free(big);
	static const char *const bad[] = {"{\"\":\"x\"}",	  "{\"A B\":\"x\"}", "{\"A=B\":\"x\"}",
					  "{\"A\\n\":\"x\"}",	  "{\"1A\":\"x\"}",  "{\"A\":1}",
					  "{\"A\":\"x\\u0000y\"}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		n.config = json_loads(bad[i], JSON_ALLOW_NUL, NULL);
		fails(model_release_create(a, &n, NULL), 422, bad[i]);
		json_decref(n.config);
	}
}

static void users(void)
{
	struct user *u = NULL;
	char token[65], id[37];

	fails(model_user_create("EVE@example.org", "", false, &u, token), 422, "taken, whatever the case");
	fails(model_user_create("a\nb@example.org", "", false, &u, token), 422, "a newline");
	fails(model_user_create("nobody", "", false, &u, token), 422, "no address");
	fails(model_user_create("u@example.org", "U", false, &u, token), 0, "a user");
	ok(model_user_by_token(token, 64) == u && model_user("U@Example.org") == u && model_user(u->id) == u,
	   "found");
	ok(!model_user_by_token(token, 63) && !model_user_by_token("", 0), "by the whole token only");
	fails(model_token_create(u, "t", 0, id, token), 0, "a second token");
	ok(model_user_by_token(token, 64) == u, "it counts");
	fails(model_token_remove(eve, id), 404, "another's token is not to be seen");
	fails(model_token_remove(u, id), 0, "removed");
	ok(!model_user_by_token(token, 64), "it counts no more");
	fails(model_token_create(u, "t", real_us() - 1, id, token), 0, "an old one");
	ok(!model_user_by_token(token, 64), "expired");

	struct app *a = make("shared");
	ok(model_role(u, a) == ROLE_NONE && model_role(NULL, a) == ROLE_NONE &&
		   model_role(admin, a) == ROLE_OWNER,
	   "roles");
	fails(model_collaborator_add(a, u), 0, "a collaborator");
	fails(model_collaborator_add(a, u), 422, "twice");
	ok(model_role(u, a) == ROLE_COLLABORATOR, "role");
	size_t n;
	free(model_apps(u, &n));
	ok(n == 1, "he sees one app");
	fails(model_app_transfer(a, u), 0, "transfer");
	ok(model_role(u, a) == ROLE_OWNER && !a->n_collaborators, "owner");
	fails(model_user_destroy(u), 422, "a user with apps stays");
	fails(model_app_destroy(a), 0, "without them");
	a = make("shared2");
	model_collaborator_add(a, u);
	fails(model_user_destroy(u), 0, "he goes");
	ok(!model_user("u@example.org") && !a->n_collaborators, "and is no collaborator");
}

static void limits_of_apps(void)
{
	struct app *a = make("limits");
	struct limits l = *app_limits(a);
	json_t *j = json_loads("{\"memory\":\"1G\",\"in_flight\":7,\"egress\":\"10.0.0.0/"
			       "8:443,!10.1.1.1\",\"connect_timeout\":2}",
			       0, NULL);

	fails(limits_apply(&l, j), 0, "limits");
	json_decref(j);
	ok(l.memory == 1u << 30 && l.in_flight == 7 && l.connect_ns == 2000000000u, "taken");
	ok(!limits_within(&l, &config.limits), "more than the configuration's");
	fails(model_app_limits(a, &l), 0, "written");
	static const char *const bad[] = {"{\"memory\":\"1\"}",	    "{\"memry\":1}",  "{\"in_flight\":-1}",
					  "{\"egress\":\"x\"}",	    "{\"egress\":7}", "[]",
					  "{\"idle_timeout\":\"\"}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		j = json_loads(bad[i], 0, NULL);
		fails(limits_apply(&l, j), 422, bad[i]);
		json_decref(j);
	}
	ok(l.memory == 1u << 30, "what was refused has changed nothing");
	j = limits_differing(&l);
	ok(json_object_size(j) == 4, "stored is what differs from the configuration");
	json_decref(j);
	fails(model_app_limits(a, a->limits), 0, "its own again");
	ok(a->limits->in_flight == 7, "as they were");
}

/* --- the same in both ---------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, const char *s)
{
	for (; s && *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211u;
	return (h ^ 255) * 1099511628211u;
}

static uint64_t digest_app(const struct app *a)
{
	uint64_t h = mix(mix(mix(14695981039346656037u, a->id), a->name), a->owner->id), sum = 0;
	char n[128];

	snprintf(n, sizeof(n), "%d %d %u %u %llu %lld %lld %lld", a->maintenance, a->locked,
		 a->release.version, a->last_release, (unsigned long long)a->release.image_bytes,
		 (long long)a->created_us, (long long)a->updated_us, (long long)a->released_us);
	h = mix(mix(mix(mix(mix(h, n), a->release.id), a->release.slug_id),
		    a->release.image ? a->release.image : "-"),
		a->release.config);
	h = mix(h, a->limits ? "limits" : "none");
	for (unsigned i = 0; i < a->n_formation; i++) {
		const struct formation *f = &a->formation[i];
		snprintf(n, sizeof(n), "%u %lld %lld", f->quantity, (long long)f->created_us,
			 (long long)f->updated_us);
		sum += mix(mix(mix(mix(mix(7, f->id), f->type), f->command), f->size), n);
	}
	for (const struct domain *d = a->domains; d; d = d->next)
		sum += mix(mix(9, d->id), d->hostname);
	for (unsigned i = 0; i < a->n_collaborators; i++)
		sum += mix(mix(11, a->collaborators[i].id), a->collaborators[i].user->id);
	return h ^ sum * 31;
}

static uint64_t digest(void)
{
	uint64_t sum = 0;
	size_t at = 0;
	const void *p;

	while ((p = table_next(&model.apps_by_id, &at)))
		sum += digest_app(p);
	for (at = 0; (p = table_next(&model.tokens, &at));)
		sum += mix(mix(3, ((const struct token *)p)->id), ((const struct token *)p)->user->id);
	for (const struct user *u = model.users; u; u = u->next)
		sum += mix(mix(mix(5, u->id), u->email), u->name);
	return sum;
}

/* What another program reads from the store. */
static uint64_t digest_of_store(const char *self)
{
	uint64_t v = 0;
	char line[64] = "", *argv[] = {(char *)self, (char *)"digest", dir, NULL};
	int p[2];

	if (pipe(p))
		return 0;
	pid_t pid = fork();
	if (!pid) {
		dup2(p[1], 1);
		execv(self, argv);
		_exit(127);
	}
	close(p[1]);
	ssize_t n = read(p[0], line, sizeof(line) - 1);
	close(p[0]);
	waitpid(pid, NULL, 0);
	if (n > 0)
		v = strtoull(line, NULL, 16);
	return v;
}

static void limit_files(rlim_t bytes)
{
	struct rlimit r;

	getrlimit(RLIMIT_FSIZE, &r);
	r.rlim_cur = bytes;
	setrlimit(RLIMIT_FSIZE, &r);
}

static struct app *any_app(void)
{
	size_t n;
	struct app **v = model_apps(NULL, &n), *a = n ? v[(size_t)rand() % n] : NULL;

	free(v);
	return a;
}

static int change(void)
{
	struct app *a = any_app();
	struct domain *d;
	char name[32], token[65], id[37];
	struct user *u;
	json_t *vars, *types;
	struct fault f = {0};
	struct limits l;

	snprintf(name, sizeof(name), "r%d.example.net", rand());
	switch (a ? rand() % 10 : 0) {
	case 0:
	case 1:
		f = model_app_create(rand() % 2 ? admin : eve, NULL, &a);
		break;
	case 2:
		f = rand() % 4 ? FAULT_NONE : model_app_destroy(a);
		break;
	case 3:
	case 4:
		vars = json_pack("{s:s}", "V", name);
		types = rand() % 2 ? json_pack("{s:s}", "web", name)
				   : json_pack("{s:s,s:s}", "worker", "w", "x", "y");
		f = model_release_create(
			a,
			&(struct new_release){
				.image = name, .config = vars, .types = types, .pending = rand() % 3 == 0},
			NULL);
		json_decref(vars);
		json_decref(types);
		break;
	case 5:
		f = model_release_done(a, a->last_release, rand() % 2);
		break;
	case 6:
		f = a->domains && rand() % 2 ? model_domain_remove(a, a->domains)
					     : model_domain_add(a, name, &d);
		break;
	case 7:
		f = a->n_formation ? model_scale(a, a->formation[0].type, (unsigned)rand() % 4, NULL)
				   : model_app_maintenance(a, rand() % 2);
		break;
	case 8:
		l = *app_limits(a);
		l.in_flight = 1 + (unsigned)rand() % 90;
		f = rand() % 2 ? model_app_limits(a, &l) : model_app_transfer(a, rand() % 2 ? admin : eve);
		break;
	case 9:
		snprintf(name, sizeof(name), "u%d@x.org", rand());
		f = rand() % 2 ? model_user_create(name, "", false, &u, token)
			       : model_token_create(eve, "t", 0, id, token);
	}
	return f.status;
}

static void both_the_same(const char *self)
{
	unsigned failed = 0, done = 0;
	int fd = open("/dev/null", O_WRONLY), err = dup(2);

	srand(20111);
	signal(SIGXFSZ, SIG_IGN);
	for (int round = 0; round < 12; round++) {
		char wal[64];
		snprintf(wal, sizeof(wal), "%s/platform.db-wal", dir);
		FILE *f = fopen(wal, "r");
		fseek(f, 0, SEEK_END);
		long size = ftell(f);
		fclose(f);
		dup2(fd, 2); /* the store says each failure */
		for (int i = 0; i < 120; i++) {
			limit_files(
				rand() % 8
					? RLIM_INFINITY
					: (rlim_t)(size +
						   rand() %
							   200000)); /* no room somewhere in the middle of it */
			int status = change();
			failed += status >= 500;
			done += !status;
			limit_files(RLIM_INFINITY);
		}
		dup2(err, 2);
		uint64_t mine = digest(), theirs = digest_of_store(self);
		ok(mine == theirs, "round %d: memory says what the store says", round);
	}
	ok(failed > 20 && done > 500, "%u changes were done, %u met a full disk", done, failed);
	close(err);
	close(fd);
}

static void barrier_done(void *arg, int err)
{
	*(int *)arg += err ? 1000 : 1;
}

static void no_timer(uv_timer_t *t)
{
}

static void barriers(void)
{
	uv_timer_t alive; /* a server has other handles; the store's own do not keep a loop going */
	int n = 0;

	uv_timer_init(loop, &alive);
	uv_timer_start(&alive, no_timer, 60000, 0);
	make("barrier-a");
	store_barrier(barrier_done, &n);
	ok(!n, "not called from inside");
	make("barrier-b");
	store_barrier(barrier_done, &n);
	for (int i = 0; i < 200 && n < 2; i++) {
		uv_run(loop, UV_RUN_NOWAIT);
		usleep(5000);
	}
	ok(n == 2, "both were answered");
	make("barrier-c");
	store_barrier(barrier_done, &n);
	store_close();
	ok(n == 3, "one that waits at the end is answered, too");
}

static int open_all(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/platform.db", dir);
	char *argv[] = {(char *)"x", (char *)"--data", dir, NULL};
	loop = uv_default_loop();
	if (config_open(3, argv) >= 0)
		return 1;
	return store_open(path, true) || model_open();
}

int main(int argc, char **argv)
{
	char token[65];
	char command[64];

	if (argc == 3 && !strcmp(argv[1], "digest")) {
		strcpy(dir, argv[2]);
		if (open_all())
			return 1;
		printf("%llx\n", (unsigned long long)digest());
		store_close();
		return 0;
	}
	if (!mkdtemp(dir) || open_all())
		return 1;
	admin = model_user("admin@localhost");
	ok(admin && admin->admin, "the first start makes the admin");
	model_user_create("eve@example.org", "Eve", false, &eve, token);
	names();
	hosts();
	releases();
	users();
	limits_of_apps();
	both_the_same(argv[0]);
	barriers();
	snprintf(command, sizeof(command), "rm -r %s", dir);
	if (system(command))
		diag("%s stays", dir);
	return done();
}
