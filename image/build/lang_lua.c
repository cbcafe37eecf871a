/* SPDX-License-Identifier: ISC */
/* Lua. Found by main.lua; runs with Debian's lua5.4. Libraries such as lua-socket are named in Aptfile. */
#include <stdlib.h>
#include <string.h>

#include "image/build/detect.h"

static const char *found(const struct app *a)
{
	return app_has(a, "main.lua") ? "main.lua" : NULL;
}

static int fill(struct app *a)
{
	if (!a->plan->runtime_packages.n)
		app_runtime(a, "lua5.4");
	a->plan->runtime = textf("lua");
	app_link(a, "lua=/usr/bin/lua5.4 /usr/bin/lua5.3 /usr/bin/lua5.1 /usr/bin/luajit");
	if (app_has(a, "main.lua"))
		app_process(a, "web", "lua main.lua");
	return 0;
}

const struct language lang_lua = {"Lua", "lua", "main.lua", " lua lua5.4 lua5.3 luajit ", found, fill};
