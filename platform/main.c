/* SPDX-License-Identifier: ISC */
#include "platform/platform.h"

#include "lib/host/say.h"

int main(int argc, char **argv)
{
	(void)argc, (void)argv;
	return say_fail(1, "serve: the platform is not complete in this build");
}
