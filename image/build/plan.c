/* SPDX-License-Identifier: ISC */
/* The plan of a build: what detection fills in and build.c carries out. */
#include <stdlib.h>
#include <string.h>

#include "image/build/build.h"
#include "lib/host/say.h"

void plan_add_step(struct plan *p, const char *title, bool network, const char *const *argv)
{
	struct step *s = calloc(1, sizeof(*s)), **at = &p->steps;

	if (!s)
		exit(say_fail(EXIT_OURS, "out of memory"));
	s->title = title;
	s->network = network;
	for (; *argv; argv++)
		strings_add(&s->argv, *argv);
	while (*at)
		at = &(*at)->next;
	*at = s;
}

void plan_free(struct plan *p)
{
	struct strings *const lists[] = {&p->runtime_packages,
					 &p->packages,
					 &p->build_packages,
					 &p->processes,
					 &p->env,
					 &p->ports,
					 &p->take,
					 &p->drop,
					 &p->skip,
					 &p->add,
					 &p->links};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		strings_free(lists[i]);
	for (struct step *s = p->steps, *next; s; s = next) {
		next = s->next;
		strings_free(&s->argv);
		strings_free(&s->env);
		strings_free(&s->files);
		free(s);
	}
	for (struct need *n = p->needs, *next; n; n = next) {
		next = n->next;
		strings_free(&n->paths);
		free(n->file);
		free(n->name);
		free(n->advice);
		free(n);
	}
	free(p->runtime);
	free(p->name);
	free(p->description);
	memset(p, 0, sizeof(*p));
}
