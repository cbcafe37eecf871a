/* SPDX-License-Identifier: ISC */
/* See fake_platform.c. */
#ifndef COWBELL_TESTS_FAKE_PLATFORM_H
#define COWBELL_TESTS_FAKE_PLATFORM_H

extern unsigned fake_gone; /* calls of *_app_gone() */

#endif
