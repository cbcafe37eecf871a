/* SPDX-License-Identifier: ISC */
/* How the host programs speak to the user: one clear line each, `cowbell: ...`, on standard error. */
#ifndef COWBELL_LIB_HOST_SAY_H
#define COWBELL_LIB_HOST_SAY_H

/* Exit statuses of our own, as env(1) and container tools have them. */
enum { EXIT_OURS = 125, EXIT_CANNOT_EXEC = 126, EXIT_NOT_FOUND = 127 };

/* Print "cowbell: " and the message, newlines and control characters made visible. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* say(), then give back `status`, so that a failing path reads `return say_fail(125, ...)`. */
int say_fail(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* What strerror() says, and for a disk that is full what to do. Good until the next one. */
const char *say_errno(int err);
/* Who wants to know of every say_fail(), too: a report as JSON has the reason in it. The text is without "cowbell: ". */
void say_on_failure(void (*f)(int status, const char *text));

#endif
