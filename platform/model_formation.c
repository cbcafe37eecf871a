/* SPDX-License-Identifier: ISC */
/*
 * Formations: process types of an app and how many of each. They follow the slug: its types appear (web with quantity 1, others with 0),
 * those that it has not go. A release decides that by plan_formation(), which writes it in the release's transaction, and when that
 * counts, do_formation() does the same in memory.
 */
#include <string.h>

#include "platform/model_inside.h"

/* A process of the release phase is no dyno that could be scaled. */
static bool scalable(const char *type)
{
	return strcmp(type, "release") != 0;
}

int plan_formation(struct app *a, json_t *types, struct plan *p, int64_t now)
{
	const char *type;
	json_t *v;
	int rc = 0;

	p->types = types;
	p->n_add = 0;
	if (!types)
		return 0;
	for (unsigned i = 0; !rc && i < a->n_formation; i++)
		if (!json_object_get(types, a->formation[i].type))
			rc = store_exec("DELETE FROM formation WHERE app_id = ? AND type = ?", NULL, NULL,
					"ss", a->id, a->formation[i].type);
	json_object_foreach(types, type, v)
	{
		struct formation *f = model_formation(a, type);
		if (rc || !scalable(type))
			continue;
		if (f) {
			if (strcmp(f->command, json_string_value(v)))
				rc = store_exec("UPDATE formation SET command = ?, updated_us = ? WHERE "
						"app_id = ? AND type = ?",
						NULL, NULL, "siss", json_string_value(v), now, a->id, type);
			continue;
		}
		f = &p->add[p->n_add++];
		*f = (struct formation){.type = (char *)type,
					.command = (char *)json_string_value(v),
					.quantity = !strcmp(type, "web"),
					.size = "Basic",
					.created_us = now,
					.updated_us = now};
		make_uuid(f->id);
		rc = store_exec("INSERT INTO formation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", NULL, NULL,
				"ssssisii", a->id, f->type, f->id, f->command, (int64_t)f->quantity, f->size,
				now, now);
	}
	return rc;
}

void do_formation(struct app *a, const struct plan *p, int64_t now)
{
	for (unsigned i = 0; p->types && i < a->n_formation;) {
		struct formation *f = &a->formation[i];
		const char *command = json_string_value(json_object_get(p->types, f->type));
		if (!command) {
			formation_remove(a, f);
			continue;
		}
		if (strcmp(f->command, command)) {
			set_text(&f->command, command);
			f->updated_us = now;
		}
		i++;
	}
	for (unsigned i = 0; i < p->n_add; i++) {
		struct formation *f = formation_new(a, p->add[i].type);
		char *type = f->type, *command = f->command;
		*f = p->add[i];
		f->type = type;
		f->command = command;
		set_text(&f->command, p->add[i].command);
	}
}

struct fault model_scale(struct app *a, const char *type, unsigned quantity, const char *size)
{
	struct formation *f = model_formation(a, type);
	int64_t now = real_us();
	unsigned all = quantity;

	if (!f)
		return fault_of(404, "not_found", "Couldn't find that process type (%.40s).", type);
	if (size && (strlen(size) >= sizeof(f->size) ||
		     strspn(size, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") !=
			     strlen(size)))
		return fault_of(422, "invalid_params", "Dyno size is not valid.");
	for (unsigned i = 0; i < a->n_formation; i++)
		if (&a->formation[i] != f)
			all += a->formation[i].quantity;
	if (quantity > f->quantity && (all > app_limits(a)->max_processes || all < quantity))
		return fault_of(422, "invalid_params",
				"Cannot scale to %u processes: this app may have %u of all types together.",
				all, app_limits(a)->max_processes);
	int rc = store_exec(
		"UPDATE formation SET quantity = ?, size = ?, updated_us = ? WHERE app_id = ? AND type = ?",
		NULL, NULL, "isiss", (int64_t)quantity, size ? size : f->size, now, a->id, type);
	if (rc)
		return store_fault(rc);
	f->quantity = quantity;
	f->updated_us = now;
	if (size)
		strcpy(f->size, size);
	return FAULT_NONE;
}
