// SPDX-License-Identifier: ISC
/* libFuzzer target: command lines of images and the variables in them (image/command.c). */
#include <stdlib.h>
#include <string.h>

#include "image/command.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

/* The first byte says how much of the input is the value of $A; the rest is the line. */
int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
	struct strings env = {0};
	struct command c;
	char *text = calloc(1, size + 1);
	size_t n = size ? data[0] % size : 0;

	if (text && size) {
		memcpy(text, data + 1, size - 1);
		strings_addf(&env, "A=%.*s", (int)n, text);
		if (command_split(text + n, &env, &c))
			command_by_shell(text + n, &c);
		if (c.argv.n && c.argv.v[c.argv.n])
			abort();
		command_free(&c);
	}
	strings_free(&env);
	free(text);
	return 0;
}
