/* SPDX-License-Identifier: ISC */
/* unit-sources: image/oci/challenge.c image/oci/credentials.c image/oci/key.c image/oci/payload.c image/store/blob.c image/store/pending.c image/store/store.c lib/host/strings.c lib/host/say.c image/dirs.c */
/* unit-libs: -ljansson -lsodium -lnettle */
/* What strangers send when an image comes from a registry or is signed: challenges, auth files, keys, payloads. */
#include <sodium.h>
#include <string.h>

#include "image/oci/challenge.h"
#include "image/oci/credentials.h"
#include "image/oci/key.h"
#include "image/oci/payload.h"
#include "tests/unit/tap.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void same(const char *got, const char *want, const char *name)
{
	if (!ok(got && !strcmp(got, want), "%s", name))
		diag("got '%s', want '%s'", got ? got : "(null)", want);
}

static void challenges(void)
{
	struct challenge c[CHALLENGE_MAX];
	char text[6000];

	is(challenge_parse("Bearer realm=\"https://a.example/token\",service=\"r "
			   "e\",scope=\"repository:a/b:pull,push\"",
			   c),
	   1, "a Bearer challenge");
	same(c[0].scheme, "bearer", "its scheme");
	same(c[0].realm, "https://a.example/token", "its realm");
	same(c[0].service, "r e", "its service");
	same(c[0].scope, "repository:a/b:pull,push", "its scope: the comma is inside quotes");
	is(challenge_parse(
		   "Basic realm=\"a \\\"b\\\" c\" , BEARER realm=https://x/y , error=\"insufficient_scope\"",
		   c),
	   2, "two challenges");
	same(c[0].realm, "a \"b\" c", "quoted quotes");
	same(c[1].realm, "https://x/y", "a value without quotes");
	same(c[1].scope, "", "nothing of the first is in the second");
	is(challenge_parse("Negotiate", c), 1, "a scheme alone");
	is(challenge_parse(" , ,Basic realm = \"x\"", c), 1, "empty elements and spaces around '='");
	same(c[0].realm, "x", "the value is found");
	is(challenge_parse("", c), 0, "nothing");
	is(challenge_parse("realm=\"x\"", c), 0, "a parameter without a scheme");
	is(challenge_parse("Basic realm=\"x", c), 0, "an open quote");
	is(challenge_parse("Basic realm=\"x\\", c), 0, "an open escape");
	is(challenge_parse("Basic realm=\"a\nb\"", c), 0, "a newline in a value");
	is(challenge_parse("Basic realm=", c), 0, "no value");
	is(challenge_parse("Basic \"x\"", c), 0, "a string where a name should be");
	is(challenge_parse("A b, C d, E f, G h, I j, K l", c), CHALLENGE_MAX, "no more than fit");
	snprintf(text, sizeof(text), "Basic realm=\"%05000d\"", 1);
	is(challenge_parse(text, c), 0, "a realm that does not fit is not cut");
	snprintf(text, sizeof(text), "%05000d", 1);
	is(challenge_parse(text, c), 0, "neither is a scheme");
}

static int look(const char *json, const char *name, struct credentials *c)
{
	memset(c, 0, sizeof(*c));
	return (int)credentials_in(json, strlen(json), name, c);
}

static void auth_files(void)
{
	struct credentials c;

	/* dTpw: u:p, eDp5Onp6: x:y:zz */
	is(look("{\"auths\":{\"r.example\":{\"auth\":\"dTpw\"}}}", "r.example/a/b", &c), CREDENTIALS_FOUND,
	   "by host");
	same(c.user, "u", "user");
	same(c.password, "p", "password");
	credentials_free(&c);
	is(look("{\"auths\":{\"r.example\":{\"auth\":\"dTpw\"},\"r.example/a\":{\"auth\":\"eDp5Onp6\"}}}",
		"r.example/a/b", &c),
	   CREDENTIALS_FOUND, "by path");
	same(c.user, "x", "the longer one counts");
	same(c.password, "y:zz", "a password with a colon");
	credentials_free(&c);
	is(look("{\"auths\":{\"r.example/a\":{\"auth\":\"dTpw\"}}}", "r.example/ab", &c), CREDENTIALS_NONE,
	   "half a part of a path is none");
	is(look("{\"auths\":{\"r.example\":{\"auth\":\"dTpw\"}}}", "r.example.evil.org/a", &c),
	   CREDENTIALS_NONE, "a host that begins like it is none");
	is(look("{\"auths\":{\"r.example\":{\"auth\":\"dTpw\"}}}", "r.example:5000/a", &c), CREDENTIALS_NONE,
	   "nor another port");
	is(look("{\"auths\":{\"https://r.example/v1/\":{\"auth\":\"dTpw\"}}}", "r.example/a", &c),
	   CREDENTIALS_FOUND, "as a URL");
	credentials_free(&c);
	is(look("{\"auths\":{\"https://index.docker.io/v1/\":{\"auth\":\"dTpw\"}}}", "docker.io/library/a",
		&c),
	   CREDENTIALS_FOUND, "Docker Hub's old name");
	credentials_free(&c);
	is(look("{\"auths\":{\"r.example\":{\"username\":\"u\",\"password\":\"p\"}}}", "r.example/a", &c),
	   CREDENTIALS_FOUND, "two fields");
	credentials_free(&c);
	is(look("{\"auths\":{\"r.example\":{}},\"credsStore\":\"desktop\"}", "r.example/a", &c),
	   CREDENTIALS_HELPER, "a store");
	is(look("{\"credHelpers\":{\"r.example\":\"x\"}}", "r.example/a", &c), CREDENTIALS_HELPER,
	   "a helper");
	is(look("{\"credHelpers\":{\"r.example\":\"x\"}}", "s.example/a", &c), CREDENTIALS_NONE,
	   "a helper for another host");
	is(look("{\"auths\":{\"r.example\":{\"identitytoken\":\"x\"}}}", "r.example/a", &c),
	   CREDENTIALS_TOKEN, "an identity token");
	is(look("{\"auths\":{\"r.example\":{\"auth\":\"dTpw!\"}}}", "r.example/a", &c), CREDENTIALS_BAD,
	   "no base64");
	is(look("{\"auths\":{\"r.example\":{\"auth\":\"dQ==\"}}}", "r.example/a", &c), CREDENTIALS_BAD,
	   "no colon");
	is(look("{\"auths\":{\"r.example\":{\"auth\":\"dTpwCg==\"}}}", "r.example/a", &c), CREDENTIALS_BAD,
	   "a newline");
	is(look("[]", "r.example/a", &c), CREDENTIALS_BAD, "no object");
	is(look("{\"auths\":[1]}", "r.example/a", &c), CREDENTIALS_NONE, "auths that are a list");
	is(look("", "r.example/a", &c), CREDENTIALS_BAD, "empty");
	is(credentials_find("u:", "r.example/a", &c), CREDENTIALS_FOUND, "an empty password");
	credentials_free(&c);
	is(credentials_find(":p", "r.example/a", &c), CREDENTIALS_BAD, "an empty user");
	credentials_free(&c);
}

static bool refused(const char *pem, enum key_kind kind, const char *why)
{
	uint8_t raw[32];
	const char *got = key_parse(pem, strlen(pem), kind, raw);

	if (!ok(got && strstr(got, why) && sodium_is_zero(raw, 32), "key: %s", why))
		diag("got: %s", got ? got : "(taken)");
	return got;
}

static void keys(void)
{
	/* Test vector 1 of RFC 8032, 7.1. */
	static const uint8_t seed[32] = {0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a,
					 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
					 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60};
	static const uint8_t public_key[32] = {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7,
					       0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
					       0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25,
					       0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};
	uint8_t raw[32], pk[32], sk[64];
	char text[256], longer[600];

	key_format(seed, KEY_PRIVATE, text, sizeof(text));
	same(text,
	     "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
	     "-----END PRIVATE KEY-----\n",
	     "a private key as openssl writes it");
	ok(!key_parse(text, strlen(text), KEY_PRIVATE, raw) && !memcmp(raw, seed, 32), "and back");
	crypto_sign_seed_keypair(pk, sk, raw);
	ok(!memcmp(pk, public_key, 32), "RFC 8032: the public key of the seed");
	refused(text, KEY_PUBLIC, "private key; give the public");
	snprintf(longer, sizeof(longer), "Some words\nand -----BEGIN in a line\r\n%s\nmore", text);
	ok(!key_parse(longer, strlen(longer), KEY_PRIVATE, raw), "with text around it");
	key_format(public_key, KEY_PUBLIC, text, sizeof(text));
	ok(!key_parse(text, strlen(text), KEY_PUBLIC, raw) && !memcmp(raw, public_key, 32),
	   "a public key, there and back");
	refused(text, KEY_PRIVATE, "public key; the private");
	text[40] = '!';
	refused(text, KEY_PUBLIC, "base64");
	key_format(public_key, KEY_PUBLIC, text, sizeof(text));
	text[50] = 0;
	refused(text, KEY_PUBLIC, "cut short");
	refused("", KEY_PUBLIC, "empty");
	refused("x -----BEGIN PUBLIC KEY-----\n", KEY_PUBLIC, "no BEGIN");
	refused("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", KEY_PUBLIC, "another kind");
	refused("-----BEGIN RSA PRIVATE KEY-----\n", KEY_PRIVATE, "RSA");
	refused("-----BEGIN ENCRYPTED PRIVATE KEY-----\n", KEY_PRIVATE, "encrypted");
	refused("-----BEGIN CERTIFICATE-----\n", KEY_PUBLIC, "certificate");
	/* PKCS #8 version 2 has the public key behind the seed. */
	refused("-----BEGIN PRIVATE "
		"KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9gAAAA\n"
		"-----END PRIVATE KEY-----\n",
		KEY_PRIVATE, "length");
}

static void check(const char *json, const char *why, const char *name)
{
	const char *got = payload_check(json, strlen(json), HEX);

	if (!ok(why ? got && strstr(got, why) : !got, "payload: %s", name))
		diag("got: %s", got ? got : "(good)");
}

#define PAYLOAD(digest, type)                                                                                \
	"{\"critical\":{\"identity\":{\"docker-reference\":\"a/"                                             \
	"b\"},\"image\":{\"docker-manifest-digest\":\"" digest "\"},\"type\":\"" type                        \
	"\"},\"optional\":null}"
#define TYPE "cosign container image signature"

static void payloads(void)
{
	char *text = payload_format("a/b", HEX);

	same(text, PAYLOAD("sha256:" HEX, TYPE), "the payload is cosign's, byte by byte");
	check(text, NULL, "ours");
	free(text);
	check(PAYLOAD("sha256:1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", TYPE),
	      "another image", "another digest");
	check(PAYLOAD("sha256:" HEX "0", TYPE), "no SHA-256", "a longer digest");
	check(PAYLOAD("sha512:" HEX, TYPE), "no SHA-256", "another hash");
	check(PAYLOAD("sha256:" HEX, "atomic container signature"), "another type", "another type");
	check("{\"critical\":{}}", "no container signature", "nothing in it");
	check("{\"critical\":{\"type\":\"a\",\"type\":\"b\"}}", "JSON", "one key twice");
	check("", "JSON", "empty");
	check("[]", "no container signature", "a list");
}

int main(void)
{
	if (sodium_init() < 0)
		return 1;
	challenges();
	auth_files();
	keys();
	payloads();
	return done();
}
