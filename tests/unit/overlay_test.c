/* SPDX-License-Identifier: ISC */
/* unit-sources: guest/vfs/memfs.c guest/vfs/memfs_data.c guest/vfs/memfs_dir.c guest/vfs/memfs_xattr.c guest/vfs/pagetree.c lib/erofs.c */
/*
 * The overlay against a model. Three image layers are made at random, with
 * whiteouts and opaque directories, by mkfs.erofs; the model stacks the same
 * layers by the rules, in plain trees. Then both are changed at random (write,
 * truncate, create, remove, rename, exchange) and compared as a whole again
 * and again. Directory operations are called directly, as path.c calls them.
 */
#include "tests/unit/hosted.h"

#include <linux/fs.h>

#include "guest/proc/proc.h"
#include "guest/vfs/memfs.h"
#include "guest/vfs/prefix.h"
#include "tests/unit/tap.h"

int system(const char *cmd);
int setxattr(const char *path, const char *name, const void *val, size_t n, int flags);
char *mkdtemp(char *t);
FILE *fopen(const char *path, const char *mode);
int fclose(FILE *f);
size_t fread(void *p, size_t n, size_t k, FILE *f);

enum { LAYERS = 3, NAMES = 5, MAX_KIDS = 16, STEPS = 6000 };
static u64 rng;

static u32 rnd(u32 n)
{
	return (u32)(test_random(&rng) >> 16) % n;
}

/* --- what memfs needs of the rest of the guest ------------------------------------------ */

struct thread *test_current;
struct superblock *root_sb;
bool prefix_armed; /* nobody makes a shared start here */

void prefix_lookup(struct mnode *dir, const char *name, u32 len)
{
}

void prefix_look(struct mnode *m)
{
}

void prefix_list(struct mnode *m)
{
}

static long frames, blocks;

void *kmalloc(size_t n)
{
	blocks++;
	return malloc(n);
}
void *kzalloc(size_t n)
{
	blocks++;
	return calloc(1, n);
}
void *krealloc(void *p, size_t n)
{
	blocks += !p;
	return realloc(p, n);
}
void kfree(void *p)
{
	blocks -= p != NULL;
	free(p);
}
char *kstrdup(const char *s)
{
	char *p = kmalloc(strlen(s) + 1);
	memcpy(p, s, strlen(s) + 1);
	return p;
}
u64 real_ns(void)
{
	static u64 t;
	return ++t;
}
void log_line(enum log_level l, const char *fmt, ...)
{
}
_Noreturn void panic(const char *fmt, ...)
{
	printf("Bail out! panic: %s\n", fmt);
	exit(1);
}

/* A frame's gpa is its address here, with its references in front of it. */
void *aligned_alloc(size_t a, size_t n);
static u32 *refs_of(gpa_t g)
{
	return (u32 *)(g.v + PAGE_SIZE);
}
gpa_t frame_alloc_user(unsigned order, bool *dirty)
{
	if (order)
		return GPA_NONE;
	void *p = aligned_alloc(PAGE_SIZE, 2 * PAGE_SIZE);
	memset(p, 0xee, PAGE_SIZE);
	*dirty = true;
	frames++;
	*refs_of(GPA((u64)p)) = 1;
	return GPA((u64)p);
}
void *frame_ptr(gpa_t g)
{
	return (void *)g.v;
}
void frame_get(gpa_t g)
{
	++*refs_of(g);
}
void frame_put(gpa_t g)
{
	if (!--*refs_of(g)) {
		frames--;
		free((void *)g.v);
	}
}
void frame_put_run(gpa_t g, u64 n)
{
}
void frame_get_run(gpa_t g, u64 n)
{
}
u64 frames_total(void)
{
	return 1 << 20;
}
u64 frames_free(void)
{
	return 1 << 19;
}
void mm_punch_inode(struct inode *i, u64 from, u64 to)
{
}

void mm_truncate_inode(struct inode *i, u64 from)
{
}
int mm_forget_image_page(struct inode *i, u64 pgoff, gpa_t image)
{
	return 0;
}
void waitq_init(struct waitq *q)
{
	list_init(&q->waiters);
}

struct vfs_cred vfs_cred(void)
{
	return (struct vfs_cred){0, 0};
}
u64 vfs_new_dev(void)
{
	static u64 d = 40;
	return d++;
}
int dev_open(struct inode *i, struct file *f)
{
	return -ENXIO;
}
int fifo_open(struct inode *i, struct file *f)
{
	return -ENXIO;
}
void fifo_inode_gone(struct inode *i)
{
}
s64 generic_lseek(struct file *f, s64 off, int whence)
{
	return -EINVAL;
}
void inode_get(struct inode *i)
{
	i->refs++;
}
void inode_put(struct inode *i)
{
	if (!--i->refs)
		i->ops->evict(i);
}
void inode_init(struct inode *ino, struct superblock *sb, const struct inode_ops *ops, u32 mode, u64 num)
{
	ino->refs = 1;
	ino->mode = mode;
	ino->ops = ops;
	ino->sb = sb;
	ino->ino = num;
	list_init(&ino->mappings);
}
u64 uio_put(struct uio *u, const void *src, u64 n)
{
	n = MIN(n, u->left);
	memcpy((char *)u->iov->iov_base + u->cur_off, src, n);
	u->cur_off += n;
	u->left -= n;
	return n;
}
u64 uio_get(struct uio *u, void *dst, u64 n)
{
	n = MIN(n, u->left);
	memcpy(dst, (char *)u->iov->iov_base + u->cur_off, n);
	u->cur_off += n;
	u->left -= n;
	return n;
}
u64 uio_zero(struct uio *u, u64 n)
{
	n = MIN(n, u->left);
	memset((char *)u->iov->iov_base + u->cur_off, 0, n);
	u->cur_off += n;
	u->left -= n;
	return n;
}

/* --- the model: plain trees ----------------------------------------------------------------- */

struct node {
	char name[8];
	bool dir;
	u8 *data;
	u64 size;
	struct node *kid[MAX_KIDS];
	u32 n;
};

static struct node *model;

static struct node *node_new(const char *name, bool dir)
{
	struct node *n = calloc(1, sizeof(*n));

	snprintf(n->name, sizeof(n->name), "%s", name);
	n->dir = dir;
	return n;
}

static struct node *kid(struct node *d, const char *name)
{
	for (u32 i = 0; i < d->n; i++)
		if (!strcmp(d->kid[i]->name, name))
			return d->kid[i];
	return NULL;
}

static void node_free(struct node *n)
{
	for (u32 i = 0; i < n->n; i++)
		node_free(n->kid[i]);
	free(n->data);
	free(n);
}

static struct node *detach(struct node *d, const char *name)
{
	for (u32 i = 0; i < d->n; i++)
		if (!strcmp(d->kid[i]->name, name)) {
			struct node *n = d->kid[i];
			d->kid[i] = d->kid[--d->n];
			return n;
		}
	return NULL;
}

static void drop(struct node *d, const char *name)
{
	struct node *n = detach(d, name);

	if (n)
		node_free(n);
}

static void attach(struct node *d, struct node *n, const char *name)
{
	snprintf(n->name, sizeof(n->name), "%s", name);
	d->kid[d->n++] = n;
}

static void set_size(struct node *n, u64 size)
{
	n->data = realloc(n->data, size + 1);
	if (size > n->size)
		memset(n->data + n->size, 0, size - n->size);
	n->size = size;
}

static const char *a_name(void)
{
	static const char *const names[NAMES] = {"a", "b", "cc", "dd", "e"};

	return names[rnd(NAMES)];
}

/* --- layers: made on disk and in the model at the same time ------------------------------------- */

static char tmp[64];

static void sh(const char *fmt, ...)
{
	char cmd[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(cmd, sizeof(cmd), fmt, ap);
	va_end(ap);
	if (system(cmd)) {
		printf("Bail out! %s\n", cmd);
		exit(1);
	}
}

/* Fill directory `path` of a layer; d is the merged directory in the model. `fresh`: nothing is below. */
static void make_dir(struct node *d, const char *path, int depth)
{
	bool used[NAMES] = {0};

	for (int i = (int)rnd(5) + 3; i > 0; i--) {
		char name[8], sub[200];
		u32 k = rnd(NAMES);
		static const char *const names[NAMES] = {"a", "b", "cc", "dd", "e"};
		if (used[k])
			continue;
		used[k] = true;
		snprintf(name, sizeof(name), "%s", names[k]);
		snprintf(sub, sizeof(sub), "%s/%s", path, name);
		struct node *old = kid(d, name);
		u32 what = rnd(9);
		if (what < 2) { /* hide it */
			if (rnd(2))
				sh("mknod %s c 0 0", sub);
			else
				sh("touch %s/.wh.%s", path, name);
			drop(d, name);
		} else if (what < 6 && depth < 3) {
			sh("mkdir %s", sub);
			bool opaque = rnd(3) == 0;
			if (opaque && rnd(2))
				sh("touch %s/.wh..wh..opq", sub);
			else if (opaque)
				setxattr(sub, "trusted.overlay.opaque", "y", 1, 0);
			if (old && (opaque || !old->dir)) {
				drop(d, name);
				old = NULL;
			}
			if (!old)
				attach(d, old = node_new(name, true), name);
			make_dir(old, sub, depth + 1);
		} else {
			static const u32 sizes[] = {0, 10, 3000, 4096, 5000, 8192, 20000};
			struct node *n = node_new(name, false);
			set_size(n, sizes[rnd(ARRAY_SIZE(sizes))]);
			char byte = (char)('A' + rnd(26));
			memset(n->data, byte, n->size);
			sh("head -c %lu /dev/zero | tr '\\0' %c > %s", (unsigned long)n->size, byte, sub);
			drop(d, name);
			attach(d, n, name);
		}
	}
}

static void make_layers(void)
{
	snprintf(tmp, sizeof(tmp), "/tmp/cowbell-ovl-XXXXXX");
	if (!mkdtemp(tmp))
		exit(1);
	model = node_new("/", true);
	for (int l = 0; l < LAYERS; l++) {
		char path[100];
		snprintf(path, sizeof(path), "%s/%d", tmp, l);
		sh("mkdir %s", path);
		make_dir(model, path, 0);
		sh("mkfs.erofs -T0 %s.erofs %s >/dev/null 2>&1", path, path);
		snprintf(path, sizeof(path), "%s/%d.erofs", tmp, l);
		FILE *f = fopen(path, "r");
		u8 *image = aligned_alloc(PAGE_SIZE, 4 << 20);
		u64 n = fread(image, 1, 4 << 20, f);
		fclose(f);
		/* image pages lie at their own address here, so that get_page can be looked through */
		if (memfs_add_layer(image, n, (u64)image)) {
			printf("Bail out! layer %d\n", l);
			exit(1);
		}
	}
	sh("rm -rf %s", tmp);
}

/* --- comparing ---------------------------------------------------------------------------------------- */

static unsigned wrong;

static void differ(const char *path, const char *what)
{
	if (wrong++ < 5)
		diag("%s: %s", path, what);
}

struct count {
	struct dir_sink s;
	struct node *d;
	u32 n;
	const char *path;
};

static bool count_name(struct dir_sink *s, const char *name, u32 len, u64 ino, u8 type, u64 next)
{
	struct count *c = container_of(s, struct count, s);
	char z[260];

	memcpy(z, name, len);
	z[len] = 0;
	struct node *k = kid(c->d, z);
	if (!k || (type == 4) != k->dir)
		differ(c->path, "readdir has a wrong name");
	c->n++;
	s->pos = next;
	return c->n % 3 != 0; /* stop often, so that going on is tested: this entry counts as not taken */
}

static struct file *file_of(struct inode *ino)
{
	static struct file f;

	f = (struct file){.inode = ino, .ops = &memfs_fops, .flags = O_RDWR};
	return &f;
}

static void compare_data(struct inode *ino, struct node *n, const char *path)
{
	u8 *buf = malloc(n->size + 100);
	struct iovec iov = {buf, n->size + 100};
	struct uio u = {.iov = &iov, .n_iov = 1, .left = n->size + 100, .kernel = true};
	u64 pos = 0;

	if (memfs_fops.read(file_of(ino), &u, &pos) != (s64)n->size || memcmp(buf, n->data, n->size))
		differ(path, "data");
	free(buf);
	for (u64 pg = 0; pg < PAGE_UP(n->size) / PAGE_SIZE && rnd(3) == 0;) {
		gpa_t g;
		u32 run = 0;
		if (memfs_get_page(ino, pg, false, 1 + rnd(4), &g, &run)) {
			differ(path, "get_page");
			break;
		}
		for (u32 i = 0; i < run; i++) {
			u64 off = (pg + i) * PAGE_SIZE, len = MIN(PAGE_SIZE, n->size - off);
			u8 *p = (u8 *)g.v + i * PAGE_SIZE;
			if (memcmp(p, n->data + off, len))
				differ(path, "a mapped page");
			for (u64 k = len; k < PAGE_SIZE; k++)
				if (p[k]) {
					differ(path, "bytes behind the end");
					break;
				}
		}
		bool image = false;
		for (u32 l = 0; l < memfs_n_layers; l++)
			image |= g.v >= memfs_layers[l].gpa &&
				 g.v < memfs_layers[l].gpa + memfs_layers[l].fs.size;
		if (!image)
			frame_put(g);
		pg += run;
	}
}

static void compare(struct inode *ino, struct node *n, const char *path)
{
	if (IS_DIR(ino) != n->dir) {
		differ(path, "kind");
		return;
	}
	if (!n->dir) {
		compare_data(ino, n, path);
		return;
	}
	/* each emit that returns false is offered again: so restart there */
	struct count c = {.s.emit = count_name, .d = n, .path = path};
	u64 before;
	u32 calls = 0;
	do {
		before = c.s.pos;
		memfs_readdir(ino, &c.s);
	} while (c.n % 3 == 0 && c.s.pos != before && ++calls < 100);
	if (c.n != n->n)
		differ(path, "readdir has another count");
	for (int i = 0; i < NAMES; i++) {
		static const char *const names[NAMES] = {"a", "b", "cc", "dd", "e"};
		char sub[200];
		struct inode *k;
		struct node *m = kid(n, names[i]);
		int err = memfs_lookup(ino, names[i], (u32)strlen(names[i]), &k);
		snprintf(sub, sizeof(sub), "%s/%s", path, names[i]);
		if ((err != 0) != !m)
			differ(sub, m ? "is missing" : "should not be there");
		else if (m)
			compare(k, m, sub);
		if (!err)
			inode_put(k);
	}
}

/* --- changing both -------------------------------------------------------------------------------------- */

/* A random directory, in both. */
static struct inode *pick_dir(struct inode *root, struct node **out)
{
	struct inode *d = root;
	struct node *n = model;

	inode_get(d);
	for (u32 i = rnd(4); i > 0; i--) {
		const char *name = a_name();
		struct node *k = kid(n, name);
		struct inode *next;
		if (!k || !k->dir || memfs_lookup(d, name, (u32)strlen(name), &next))
			break;
		inode_put(d);
		d = next;
		n = k;
	}
	*out = n;
	return d;
}

static bool below(struct node *top, struct node *n)
{
	if (top == n)
		return true;
	for (u32 i = 0; i < top->n; i++)
		if (below(top->kid[i], n))
			return true;
	return false;
}

static void change_file(struct inode *ino, struct node *n)
{
	static u8 buf[9000];
	u64 off = rnd(22000), len = rnd(9000) + 1;
	struct iovec iov = {buf, len};
	struct uio u = {.iov = &iov, .n_iov = 1, .left = len, .kernel = true};

	if (rnd(3) == 0) {
		memfs_truncate(mnode(ino), off);
		set_size(n, off);
		return;
	}
	if (rnd(6) == 0) {
		memfs_fops.fallocate(file_of(ino), 3, off, len); /* punch, keep the size */
		if (off < n->size)
			memset(n->data + off, 0, MIN(len, n->size - off));
		return;
	}
	memset(buf, (int)rnd(256), len);
	memfs_fops.write(file_of(ino), &u, &off);
	off -= len;
	if (off + len > n->size)
		set_size(n, off + len);
	memcpy(n->data + off, buf, len);
}

static void rename_both(struct inode *d, struct node *dn, const char *name, struct inode *ino, struct node *n,
			struct inode *root)
{
	struct node *tn, *over;
	struct inode *t = pick_dir(root, &tn), *oi = NULL;
	char to[8];
	u32 flags = rnd(4) ? 0 : RENAME_EXCHANGE;

	snprintf(to, sizeof(to), "%s", a_name());
	over = kid(tn, to);
	if (over)
		memfs_lookup(t, to, (u32)strlen(to), &oi);
	/* what path.c refuses */
	bool refused = (n->dir && below(n, tn)) || over == n || (over && below(over, dn)) ||
		       (flags ? !over : over && over->dir != n->dir);
	if (!refused) {
		int err = memfs_rename(d, name, (u32)strlen(name), t, to, (u32)strlen(to), ino, oi, flags);
		int want = !flags && over && over->dir && over->n ? -ENOTEMPTY : 0;
		if (err != want)
			differ(name, "rename says something else");
		if (!want && flags) {
			detach(dn, name);
			detach(tn, to);
			attach(dn, over, name);
			attach(tn, n, to);
		} else if (!want) {
			char keep[8];
			snprintf(keep, sizeof(keep), "%s", name);
			drop(tn, to);
			detach(dn, keep);
			attach(tn, n, to);
		}
	}
	if (oi)
		inode_put(oi);
	inode_put(t);
}

static void step(struct inode *root)
{
	struct node *dn, *n;
	struct inode *d = pick_dir(root, &dn), *ino = NULL;
	char name[8];

	snprintf(name, sizeof(name), "%s", a_name());
	u32 len = (u32)strlen(name);
	if (!(n = kid(dn, name))) {
		bool dir = rnd(2);
		int err = dir ? memfs_mkdir(d, name, len, 0755, &ino)
			      : memfs_create(d, name, len, S_IFREG | 0644, 0, &ino);
		if (err)
			differ(name, "cannot be made");
		else
			attach(dn, node_new(name, dir), name);
	} else if (memfs_lookup(d, name, len, &ino)) {
		differ(name, "is missing");
	} else if (rnd(3) == 0) {
		rename_both(d, dn, name, ino, n, root);
	} else if (rnd(3) == 0) {
		int err = n->dir ? memfs_rmdir(d, name, len, ino) : memfs_unlink(d, name, len, ino);
		if (err != (n->dir && n->n ? -ENOTEMPTY : 0))
			differ(name, "removal says something else");
		if (!err)
			drop(dn, name);
	} else if (!n->dir) {
		change_file(ino, n);
	}
	if (ino)
		inode_put(ino);
	inode_put(d);
}

int main(void)
{
	struct inode *root;

	if (system("test $(id -u) = 0 && command -v mkfs.erofs >/dev/null 2>&1"))
		skip_all("needs root and mkfs.erofs");
	rng = test_seed();
	diag("COWBELL_TEST_SEED=%llu", (unsigned long long)rng);
	make_layers();
	if (!memfs_new_root(&root) || !root)
		return 1;
	compare(root, model, "");
	ok(!wrong, "three layers look as the model says");
	for (int round = 0; round < 20 && !wrong; round++) {
		for (int i = 0; i < STEPS / 20 && !wrong; i++)
			step(root);
		compare(root, model, "");
		ok(!wrong, "round %d of random changes", round);
	}
	return done();
}
