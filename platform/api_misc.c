// SPDX-License-Identifier: ISC
/*
 * What clients ask for besides: the one stack, the one region, sizes of dynos, and the things of Heroku's that this platform has
 * not, as lists that are empty and errors that say so. Nothing here changes anything.
 */
#include "platform/api_util.h"

#include <stdio.h>
#include <string.h>

/* --- sizes ------------------------------------------------------------------------------------------ */

/*
 * Names that clients know. What an instance may use is its app's limits, whatever its size is called: a size is
 * remembered and told back, so that scripts for Heroku work.
 */
static const struct size {
	const char *name, *id;
} sizes[] = {
	{"Basic", "c0bbe111-0000-4000-8000-000000000201"},
	{"Eco", "c0bbe111-0000-4000-8000-000000000202"},
	{"Standard-1X", "c0bbe111-0000-4000-8000-000000000203"},
	{"Standard-2X", "c0bbe111-0000-4000-8000-000000000204"},
	{"Performance-M", "c0bbe111-0000-4000-8000-000000000205"},
	{"Performance-L", "c0bbe111-0000-4000-8000-000000000206"},
};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static const struct size *find_size(const char *said)
{
	static const struct {
		const char *alias, *name;
	} aliases[] = {{"1x", "Standard-1X"},	{"2x", "Standard-2X"}, {"performance", "Performance-L"},
		       {"px", "Performance-L"}, {"hobby", "Basic"},    {"free", "Eco"}};

	for (size_t i = 0; i < sizeof(aliases) / sizeof(aliases[0]); i++)
		if (!strcasecmp(aliases[i].alias, said))
			said = aliases[i].name;
	for (size_t i = 0; i < N_SIZES; i++)
		if (!strcasecmp(sizes[i].name, said) || !strcmp(sizes[i].id, said))
			return &sizes[i];
	return NULL;
}

const char *dyno_size_name(const char *said)
{
	const struct size *s = find_size(said);

	return s ? s->name : NULL;
}

json_t *json_dyno_size(const char *name)
{
	const struct size *s = find_size(name);

	return json_pack("{s:s, s:s}", "id", s ? s->id : "", "name", s ? s->name : name);
}

static json_t *json_size(const struct size *s)
{
	return json_pack("{s:s, s:s, s:{s:i, s:s}, s:n, s:i, s:i, s:b, s:f, s:s}", "id", s->id, "name",
			 s->name, "cost", "cents", 0, "unit", "month", "architecture", "compute", 1,
			 "dyno_units", 1, "private_space_only", 0, "memory",
			 (double)config.limits.memory / (1 << 30), "generation", "cedar");
}

static void size_list(struct call *c)
{
	json_t *all = json_array();

	for (size_t i = 0; i < N_SIZES; i++)
		json_array_append_new(all, json_size(&sizes[i]));
	api_reply_list(c, all, "name");
}

static void size_info(struct call *c)
{
	const struct size *s = find_size(c->param[0]);

	if (s)
		api_reply(c, 200, json_size(s));
	else
		api_error(c, 404, "not_found", "Couldn't find that dyno size.");
}

/* --- the stack and the region --------------------------------------------------------------------------- */

static json_t *json_stack(void)
{
	return json_pack("{s:s, s:s, s:s, s:b, s:s, s:s}", "id", STACK_ID, "name", STACK_NAME, "state",
			 "public", "default", 1, "created_at", "2026-01-01T00:00:00Z", "updated_at",
			 "2026-01-01T00:00:00Z");
}

static json_t *json_region(void)
{
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:{s:s, s:s}, s:s, s:s}", "id", REGION_ID,
			 "name", REGION_NAME, "description", "This machine", "country", "", "locale", "",
			 "default", 1, "private_capable", 0, "provider", "name", "cowbell", "region", "local",
			 "created_at", "2026-01-01T00:00:00Z", "updated_at", "2026-01-01T00:00:00Z");
}

static void stack_list(struct call *c)
{
	json_t *all = json_array();

	json_array_append_new(all, json_stack());
	api_reply_list(c, all, "name");
}

static void stack_info(struct call *c)
{
	if (!strcmp(c->param[0], STACK_NAME) || !strcmp(c->param[0], STACK_ID))
		api_reply(c, 200, json_stack());
	else
		api_error(c, 404, "not_found", "Couldn't find that stack.");
}

static void region_list(struct call *c)
{
	json_t *all = json_array();

	json_array_append_new(all, json_region());
	api_reply_list(c, all, "name");
}

static void region_info(struct call *c)
{
	if (!strcmp(c->param[0], REGION_NAME) || !strcmp(c->param[0], REGION_ID))
		api_reply(c, 200, json_region());
	else
		api_error(c, 404, "not_found", "Couldn't find that region.");
}

/* --- what is not here ------------------------------------------------------------------------------------ */

static void none(struct call *c)
{
	api_reply_list(c, json_array(), "id");
}

static void not_here(struct call *c)
{
	api_error(c, 404, "not_found", "Couldn't find that: this platform has no such things.");
}

static void no_addons(struct call *c)
{
	api_error(c, API_INVALID,
		  "There are no add-ons on this platform. Set config vars to reach a database or other "
		  "service.");
}

static void no_webhooks(struct call *c)
{
	api_error(c, API_INVALID, "There are no webhooks on this platform.");
}

/* The language of an app is found out by the build itself: no list of buildpacks, and none can be set. */
static void buildpacks_change(struct call *c)
{
	json_t *updates = json_object_get(c->body, "updates");

	if (json_is_array(updates) && !json_array_size(updates))
		none(c);
	else
		api_error(c, API_INVALID,
			  "Buildpacks are not used here: a build finds out the language itself, and a "
			  "Procfile or "
			  "cowbell.toml says the rest.");
}

static void feature_unknown(struct call *c)
{
	api_error(c, 404, "not_found", "Couldn't find that account feature.");
}

static void rate_limits(struct call *c)
{
	/* The header has what is left; no limit is told as the number that clients know. */
	api_reply(c, 200, json_pack("{s:I}", "remaining", (json_int_t)api_remaining(c)));
}

static void routes(struct call *c)
{
	api_reply(c, 200, api_route_list());
}

const struct route api_misc_routes[] = {
	{"GET", "/stacks", NEED_USER, stack_list, NULL},
	{"GET", "/stacks/{}", NEED_USER, stack_info, NULL},
	{"GET", "/regions", NEED_USER, region_list, NULL},
	{"GET", "/regions/{}", NEED_USER, region_info, NULL},
	{"GET", "/dyno-sizes", NEED_USER, size_list, NULL},
	{"GET", "/dyno-sizes/{}", NEED_USER, size_info, NULL},
	{"GET", "/apps/{app}/available-dyno-sizes", NEED_COLLABORATOR, size_list, NULL},
	{"GET", "/account/rate-limits", NEED_USER, rate_limits, NULL},
	{"GET", "/account/features", NEED_USER, none, NULL},
	{"GET", "/account/features/{}", NEED_USER, feature_unknown, NULL},
	{"PATCH", "/account/features/{}", NEED_USER, feature_unknown, NULL},
	{"GET", "/platform/routes", NEED_USER, routes, NULL},

	{"GET", "/addons", NEED_USER, none, NULL},
	{"GET", "/addons/{}", NEED_USER, not_here, NULL},
	{"GET", "/addon-attachments", NEED_USER, none, NULL},
	{"GET", "/addon-services", NEED_USER, none, NULL},
	{"GET", "/addon-services/{}", NEED_USER, not_here, NULL},
	{"POST", "/actions/addons/resolve", NEED_USER, not_here, NULL},
	{"POST", "/actions/addon-attachments/resolve", NEED_USER, not_here, NULL},
	{"GET", "/apps/{app}/addons", NEED_COLLABORATOR, none, NULL},
	{"POST", "/apps/{app}/addons", NEED_COLLABORATOR, no_addons, NULL},
	{"GET", "/apps/{app}/addons/{}", NEED_COLLABORATOR, not_here, NULL},
	{"GET", "/apps/{app}/addon-attachments", NEED_COLLABORATOR, none, NULL},

	{"GET", "/apps/{app}/buildpack-installations", NEED_COLLABORATOR, none, NULL},
	{"PUT", "/apps/{app}/buildpack-installations", NEED_COLLABORATOR, buildpacks_change, NULL},
	{"GET", "/apps/{app}/pipeline-couplings", NEED_COLLABORATOR, not_here, NULL},
	{"GET", "/pipeline-couplings", NEED_USER, none, NULL},
	{"GET", "/pipelines", NEED_USER, none, NULL},
	{"GET", "/apps/{app}/webhooks", NEED_COLLABORATOR, none, NULL},
	{"POST", "/apps/{app}/webhooks", NEED_COLLABORATOR, no_webhooks, NULL},
	{"GET", "/apps/{app}/telemetry-drains", NEED_COLLABORATOR, none, NULL},
	{"GET", "/teams", NEED_USER, none, NULL},
	{"GET", "/teams/{}", NEED_USER, not_here, NULL},
	{"GET", "/teams/{}/apps", NEED_USER, not_here, NULL},
	{"POST", "/teams/apps", NEED_USER, not_here, NULL},
	{"GET", "/organizations", NEED_USER, none, NULL},
	{"GET", "/spaces", NEED_USER, none, NULL},
	{"GET", "/spaces/{}", NEED_USER, not_here, NULL},
	{"GET", "/favorites", NEED_USER, none, NULL},
	{"GET", "/oauth/clients", NEED_USER, none, NULL},
	{"GET", "/oauth/sessions", NEED_USER, none, NULL},
	{"GET", "/invoices", NEED_USER, none, NULL},
	{0},
};
