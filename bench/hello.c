/* SPDX-License-Identifier: ISC */
/* The smallest program that does something. */
#include <stdio.h>

int main(void)
{
	puts("hello");
	return 0;
}
