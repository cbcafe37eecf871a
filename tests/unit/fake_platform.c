/* SPDX-License-Identifier: ISC */
/* The parts of the platform that the model tells of an app's end: here they only count. */
#include "tests/unit/fake_platform.h"

#include "platform/build.h"
#include "platform/logs.h"
#include "platform/metrics.h"
#include "platform/sched.h"

uv_loop_t *loop;
unsigned fake_gone;

void sched_app_gone(struct app *a)
{
	fake_gone++;
}

void build_app_gone(struct app *a)
{
	fake_gone++;
}

void logs_app_gone(struct app *a)
{
	fake_gone++;
}

void metrics_app_gone(struct app *a)
{
	fake_gone++;
}
