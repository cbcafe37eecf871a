/* SPDX-License-Identifier: ISC */
/*
 * Small memory for the library OS: size classes in slabs of one or four frames.
 *
 * A slab is SLAB frames (frame.link = class) with a 32-byte header at its
 * start; its free objects are chained by 16-bit offsets, and objects that were
 * never handed out are not chained at all (`fresh`), so a new slab touches only
 * its header. Beyond the largest class, memory is whole frames (LARGE, link =
 * number of pages on the first). So kfree finds everything it needs in the
 * frame array, and an object has no header.
 *
 * Each class keeps its partly used slabs in a list; full ones are in none. One
 * empty slab per class is kept, others go back.
 */
#include "guest/mm/frame.h"

#include "abi/boot.h"

struct slab {
	struct list node;
	u16 cls, used;
	u16 free; /* offset of the first free object, 0 = none */
	u16 fresh; /* offset of the first object never used, 0 = none left */
	u64 pad;
};
_Static_assert(sizeof(struct slab) == 32, "objects start here, 16-byte aligned");

static const u16 class_size[] = {16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048};
#define N_CLASSES ARRAY_SIZE(class_size)
#define CLASS_MAX 2048u
#define BIG_CLASS 10 /* from this class on a slab has 4 frames */

static struct list partial[N_CLASSES];
static struct slab *empty[N_CLASSES];

static unsigned class_order(unsigned cls)
{
	return cls >= BIG_CLASS ? 2 : 0;
}

static unsigned class_of(size_t n)
{
	unsigned c = 0;

	if (n > 64)
		c = n > 512 ? 10 : 4;
	while (class_size[c] < n)
		c++;
	return c;
}

static struct slab *slab_new(unsigned cls)
{
	unsigned order = class_order(cls);
	gpa_t g = frame_alloc(order, false);
	struct slab *s;

	if (g.v == GPA_NONE.v)
		return NULL;
	for (u64 i = 0; i < 1ull << order; i++) {
		struct frame *f = frame_of(GPA(g.v + i * PAGE_SIZE));

		f->kind = FRAME_SLAB;
		f->link = cls;
	}
	s = frame_ptr(g);
	*s = (struct slab){.cls = (u16)cls, .fresh = sizeof(struct slab)};
	return s;
}

static void slab_free(struct slab *s)
{
	unsigned order = class_order(s->cls);
	gpa_t g = frame_gpa(s);

	for (u64 i = 0; i < 1ull << order; i++)
		frame_of(GPA(g.v + i * PAGE_SIZE))->kind = FRAME_USED;
	frame_free(g, order);
}

static struct slab *slab_with_room(unsigned cls)
{
	struct list *l = &partial[cls];
	struct slab *s = empty[cls];

	if (!l->next)
		list_init(l);
	if (!list_empty(l))
		return list_first(l, struct slab, node);
	if (s)
		empty[cls] = NULL;
	else
		s = slab_new(cls);
	if (s)
		list_add_head(l, &s->node);
	return s;
}

static void *alloc_large(size_t n)
{
	u64 pages = PAGE_UP(n) >> PAGE_SHIFT;
	unsigned order = pages > 1 ? 64u - (unsigned)__builtin_clzll(pages - 1) : 0;
	gpa_t g;

	if (order > FRAME_MAX_ORDER)
		return NULL;
	g = frame_alloc(order, false);
	if (g.v == GPA_NONE.v)
		return NULL;
	frame_put_run(GPA(g.v + pages * PAGE_SIZE), (1ull << order) - pages);
	frame_of(g)->kind = FRAME_LARGE;
	frame_of(g)->link = (u32)pages;
	return frame_ptr(g);
}

void *kmalloc(size_t n)
{
	struct slab *s;
	unsigned cls, size;
	char *p;

	if (n > CLASS_MAX)
		return alloc_large(n);
	cls = class_of(n ? n : 1);
	s = slab_with_room(cls);
	if (!s)
		return NULL;
	size = class_size[cls];
	if (s->free) {
		p = (char *)s + s->free;
		s->free = *(u16 *)p;
	} else {
		p = (char *)s + s->fresh;
		s->fresh = (u16)(s->fresh + size);
		if (s->fresh + size > PAGE_SIZE << class_order(cls))
			s->fresh = 0;
	}
	s->used++;
	if (!s->free && !s->fresh)
		list_del(&s->node);
	return p;
}

void *kzalloc(size_t n)
{
	void *p = kmalloc(n);

	return p ? memset(p, 0, n) : NULL;
}

static struct frame *frame_of_ptr(const void *p)
{
	struct frame *f = frame_of(GPA((u64)p - boot->physmap_va));

	ASSERT(frame_is_ram(GPA((u64)p - boot->physmap_va)));
	return f;
}

void kfree(void *p)
{
	struct frame *f;
	struct slab *s;

	if (!p)
		return;
	f = frame_of_ptr(p);
	if (f->kind == FRAME_LARGE) {
		u64 pages = f->link;

		f->kind = FRAME_USED;
		frame_put_run(frame_gpa(p), pages);
		return;
	}
	ASSERT(f->kind == FRAME_SLAB);
	s = (struct slab *)((u64)p & ~((PAGE_SIZE << class_order(f->link)) - 1));
	ASSERT(s->used);
	if (!s->free && !s->fresh)
		list_add_head(&partial[s->cls], &s->node);
	*(u16 *)p = s->free;
	s->free = (u16)((char *)p - (char *)s);
	if (--s->used)
		return;
	list_del(&s->node);
	if (empty[s->cls])
		slab_free(s);
	else
		empty[s->cls] = s;
}

static size_t usable(const void *p)
{
	const struct frame *f = frame_of_ptr(p);

	return f->kind == FRAME_LARGE ? (size_t)f->link << PAGE_SHIFT : class_size[f->link];
}

void *krealloc(void *p, size_t n)
{
	size_t old;
	void *q;

	if (!p)
		return kmalloc(n);
	old = usable(p);
	if (n <= old && (n > old / 2 || old <= 64))
		return p;
	q = kmalloc(n);
	if (!q)
		return n <= old ? p : NULL;
	memcpy(q, p, MIN(n, old));
	kfree(p);
	return q;
}

char *kstrdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *p = kmalloc(n);

	return p ? memcpy(p, s, n) : NULL;
}
