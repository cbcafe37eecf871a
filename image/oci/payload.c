/* SPDX-License-Identifier: ISC */
/*
 * The payload of a container signature, in cosign's form of Red Hat's "simple signing":
 *
 *   {"critical":{"identity":{"docker-reference":"HOST/PATH"},
 *                "image":{"docker-manifest-digest":"sha256:HEX"},
 *                "type":"cosign container image signature"},
 *    "optional":null}
 *
 * The signature is over its bytes as they are. What counts here is type and digest. docker-reference is what the signer
 * called the image; it is not compared, since an image may be copied to another registry or named otherwise (cosign does
 * not compare it either).
 */
#include "image/oci/payload.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "image/store/store.h"
#include "lib/host/say.h"
#include "lib/host/strings.h"

#define TYPE "cosign container image signature"

char *payload_format(const char *repository, const char *manifest_hex)
{
	char *digest = textf("sha256:%s", manifest_hex);
	json_t *j =
		json_pack("{s:{s:{s:s},s:{s:s},s:s},s:n}", "critical", "identity", "docker-reference",
			  repository, "image", "docker-manifest-digest", digest, "type", TYPE, "optional");
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	free(digest);
	if (!text)
		exit(say_fail(EXIT_OURS, "out of memory"));
	return text;
}

const char *payload_check(const char *json, size_t n, const char *manifest_hex)
{
	const char *type, *digest, *why = NULL;
	json_t *j = json_loadb(json, n, JSON_REJECT_DUPLICATES, NULL);

	if (!j)
		return "its payload is no valid JSON";
	if (json_unpack(j, "{s:{s:{s:s},s:s}}", "critical", "image", "docker-manifest-digest", &digest,
			"type", &type))
		why = "its payload is no container signature";
	else if (strcmp(type, TYPE))
		why = "its payload is of another type";
	else if (strncmp(digest, "sha256:", 7) || !is_digest(digest + 7))
		why = "its payload has no SHA-256 digest";
	else if (strcmp(digest + 7, manifest_hex))
		why = "it is for another image";
	json_decref(j);
	return why;
}
