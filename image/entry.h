/* SPDX-License-Identifier: ISC */
/* Inside of image/: what a stored image starts. See entry.c. */
#ifndef COWBELL_IMAGE_ENTRY_H
#define COWBELL_IMAGE_ENTRY_H

#include "image/image.h"
#include "image/oci/oci.h"
#include "image/overlay.h"

struct entry {
	const struct image_request *req;
	const struct oci_config *config;
	const struct overlay *files;
	const struct image_user *user;
	const char *image; /* its name, for messages */
	const char *workdir;
	struct strings *env; /* the program's; a command line may add to it */
	struct strings argv; /* result */
	char *exe; /* result: guest path (malloc) */
};

/* Choose the command: entrypoint, process type, words of the user. 0, or an exit status after one line. */
int entry_command(struct entry *e);
/* Find argv[0] in the image and check that it can be executed. 0, or an exit status after one line. */
int entry_program(struct entry *e);
void entry_free(struct entry *e);

#endif
