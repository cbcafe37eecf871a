/* SPDX-License-Identifier: ISC */
#ifndef COWBELL_TESTS_LIBC_STRING_H
#define COWBELL_TESTS_LIBC_STRING_H

#include "guest/base.h" /* declares them */

#endif
