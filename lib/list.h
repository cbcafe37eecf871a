/* SPDX-License-Identifier: ISC */
/* Circular doubly linked list, embedded in its owner. No allocation, O(1). */
#ifndef COWBELL_LIB_LIST_H
#define COWBELL_LIB_LIST_H

#include <stdbool.h>
#include <stddef.h>

#ifndef container_of
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#endif

struct list {
	struct list *next, *prev;
};

#define LIST_INIT(name)                                                                                      \
	{                                                                                                    \
		&(name), &(name)                                                                             \
	}

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_insert_between_(struct list *n, struct list *prev, struct list *next)
{
	next->prev = n;
	n->next = next;
	n->prev = prev;
	prev->next = n;
}

/* Add `n` as the first, or the last, element of `head`. */
static inline void list_add_head(struct list *head, struct list *n)
{
	list_insert_between_(n, head, head->next);
}

static inline void list_add_tail(struct list *head, struct list *n)
{
	list_insert_between_(n, head->prev, head);
}

/* Take `n` out of its list; it is left as an empty list, so twice is harmless. */
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)
#ifdef __clang_analyzer__ /* it does not see that list_del() changes the head: to it each first is another one */
struct list *list_analyzed(struct list *head);
#define list_first(head, type, member) list_entry(list_analyzed(head), type, member)
#else
#define list_first(head, type, member) list_entry((head)->next, type, member)
#endif
#define list_last(head, type, member) list_entry((head)->prev, type, member)

#define list_for_each(it, head)	      for (struct list *it = (head)->next; it != (head); it = it->next)
/* As above, and `it` may be removed in the body. */
#define list_for_each_safe(it, head)                                                                         \
	for (struct list *it = (head)->next, *it##_n = it->next; it != (head); it = it##_n, it##_n = it->next)

#endif
