/* SPDX-License-Identifier: ISC */
/*
 * A line that shows how far a long step has come, on standard error, where that is a terminal and
 * only after the step has taken a moment. Elsewhere nothing is shown. One at a time.
 */
#ifndef COWBELL_LIB_HOST_PROGRESS_H
#define COWBELL_LIB_HOST_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

/* Begin a step. `what` is copied. `total` in units (bytes: is_bytes), 0: unknown. */
void progress_begin(const char *what, uint64_t total, bool is_bytes);
/* So many units more. Cheap: draws at most some ten times a second. */
void progress_add(uint64_t units);
/* Take the line away. */
void progress_end(void);
/* Never draw (--json, -q). */
void progress_off(void);

#endif
