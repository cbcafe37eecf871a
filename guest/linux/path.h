/* SPDX-License-Identifier: ISC */
/* Paths on their way in from the app. */
#ifndef COWBELL_GUEST_LINUX_PATH_H
#define COWBELL_GUEST_LINUX_PATH_H

#include "guest/base.h"

/* A copy of the app's string, to be given to path_free(). -EFAULT, -ENAMETOOLONG, -ENOMEM. */
int path_in(char **out, const char *user);
void path_free(char *p);

#endif
