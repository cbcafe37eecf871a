/* SPDX-License-Identifier: ISC */
/* Settings for npm in the sandbox. See npmrc.c. */
#ifndef COWBELL_IMAGE_BUILD_NPMRC_H
#define COWBELL_IMAGE_BUILD_NPMRC_H

#include "image/build/build.h"

/* For any step that runs npm: quiet, and with a cache of its own. */
void npm_settings(struct strings *env);
/* Besides for the one that fetches: registries and credentials, and what keeps the app's settings from starting anything. */
void npm_fetch_settings(struct step *st);

#endif
