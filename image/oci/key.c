/* SPDX-License-Identifier: ISC */
/*
 * Ed25519 keys in PEM files.
 *
 * PEM is base64 of DER between two lines. The DER of an Ed25519 key has one form of fixed length (RFC 8410), so no DER
 * parser is needed, and none could be fooled:
 *
 *   private, PKCS #8, 48 bytes     30 2e 02 01 00  30 05 06 03 2b 65 70  04 22 04 20  SEED (32)
 *   public, SubjectPublicKeyInfo   30 2a  30 05 06 03 2b 65 70  03 21 00  KEY (32)          44 bytes
 *
 * What has another form is refused: other algorithms, encrypted keys, PKCS #8 version 2 (which repeats the public key).
 * Text before the first BEGIN line is passed over, as PEM has it; the base64 is read strictly, by libsodium.
 * Secrets are wiped from memory before it is given back.
 */
#include "image/oci/key.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/image.h"
#include "lib/host/say.h"

#define MAX_DER 4096

struct form {
	const char *label;
	uint8_t prefix[16];
	size_t n_prefix;
};

static const struct form forms[] = {
	[KEY_PRIVATE] = {"PRIVATE KEY",
			 {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22,
			  0x04, 0x20},
			 16},
	[KEY_PUBLIC] = {"PUBLIC KEY",
			{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00},
			12},
};

/* The first "-----BEGIN " at the beginning of a line. */
static const char *find_begin(const char *pem, size_t n)
{
	static const char mark[] = "-----BEGIN ";
	const char *p = pem, *end = pem + n;

	while (p < end && (p = memmem(p, (size_t)(end - p), mark, sizeof(mark) - 1))) {
		if (p == pem || p[-1] == '\n')
			return p + sizeof(mark) - 1;
		p++;
	}
	return NULL;
}

/* Why a PEM block with another label is of no use. */
static const char *wrong_label(const char *p, size_t n, enum key_kind kind)
{
	static const struct {
		const char *label, *why;
	} known[] = {
		{"ENCRYPTED PRIVATE KEY-----", "the key is encrypted, which is not supported"},
		{"RSA ", "is an RSA key; only Ed25519 is supported"},
		{"EC ", "is an EC key; only Ed25519 is supported"},
		{"OPENSSH ", "is an OpenSSH key; it must be PEM as openssl writes it"},
		{"CERTIFICATE", "is a certificate, no key"},
		{"PUBLIC KEY-----", "holds a public key; the private one is needed"},
		{"PRIVATE KEY-----", "holds a private key; give the public one only"},
	};

	(void)kind; /* the label asked for was looked at before */
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (n >= strlen(known[i].label) && !memcmp(p, known[i].label, strlen(known[i].label)))
			return known[i].why;
	return "is no PEM file with an Ed25519 key";
}

static const char *parse(const char *pem, size_t n, enum key_kind kind, uint8_t *der, uint8_t raw[32])
{
	const struct form *f = &forms[kind];
	char tail[64];
	size_t n_der, len;

	if (!n)
		return "is empty";
	const char *p = find_begin(pem, n), *stop = pem + n, *body_end;
	if (!p)
		return "is no PEM file: it has no BEGIN line";
	len = (size_t)snprintf(tail, sizeof(tail), "%s-----", f->label);
	if ((size_t)(stop - p) < len || memcmp(p, tail, len))
		return wrong_label(p, (size_t)(stop - p), kind);
	p += len;
	len = (size_t)snprintf(tail, sizeof(tail), "-----END %s-----", f->label);
	const char *end = memmem(p, (size_t)(stop - p), tail, len);
	if (!end)
		return "is cut short: it has no END line";
	if (sodium_base642bin(der, MAX_DER, p, (size_t)(end - p), "\r\n", &n_der, &body_end,
			      sodium_base64_VARIANT_ORIGINAL) ||
	    body_end != end)
		return "is damaged: its base64 is not valid";
	if (n_der < f->n_prefix || memcmp(der + 2, f->prefix + 2, f->n_prefix - 2))
		return "holds a key of another kind; only Ed25519 is supported";
	if (n_der != f->n_prefix + 32 || memcmp(der, f->prefix, 2))
		return "is damaged: an Ed25519 key has another length";
	memcpy(raw, der + f->n_prefix, 32);
	return NULL;
}

const char *key_parse(const char *pem, size_t n, enum key_kind kind, uint8_t raw[32])
{
	uint8_t der[MAX_DER];

	memset(raw, 0, 32);
	const char *why = parse(pem, n, kind, der, raw);
	sodium_memzero(der, sizeof(der));
	return why;
}

void key_format(const uint8_t raw[32], enum key_kind kind, char *buf, size_t size)
{
	const struct form *f = &forms[kind];
	uint8_t der[48];
	char text[72];

	memcpy(der, f->prefix, f->n_prefix);
	memcpy(der + f->n_prefix, raw, 32);
	sodium_bin2base64(text, sizeof(text), der, f->n_prefix + 32, sodium_base64_VARIANT_ORIGINAL);
	snprintf(buf, size, "-----BEGIN %s-----\n%s\n-----END %s-----\n", f->label, text, f->label);
	sodium_memzero(der, sizeof(der));
	sodium_memzero(text, sizeof(text));
}

int key_read(const char *file, enum key_kind kind, uint8_t raw[32])
{
	char buf[KEY_MAX_FILE + 1];
	struct stat st;
	size_t n = 0;
	ssize_t got = 0;
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return say_fail(EXIT_OURS, "key %s: %s", file, strerror(errno));
	if (fstat(fd, &st) || S_ISDIR(st.st_mode)) {
		close(fd);
		return say_fail(EXIT_OURS, "key %s: is a directory", file);
	}
	while (n < sizeof(buf) && (got = read(fd, buf + n, sizeof(buf) - n)) > 0)
		n += (size_t)got;
	int err = errno;
	close(fd);
	const char *why = got < 0	     ? strerror(err)
			  : n > KEY_MAX_FILE ? "is too large for a key"
					     : key_parse(buf, n, kind, raw);
	sodium_memzero(buf, sizeof(buf));
	return why ? say_fail(EXIT_OURS, "key %s: %s", file, why) : 0;
}

int key_read_pair(const char *file, uint8_t secret[64], uint8_t public_key[32])
{
	uint8_t seed[KEY_SEED_BYTES];
	int status = key_read(file, KEY_PRIVATE, seed);

	if (!status && (sodium_init() < 0 || crypto_sign_seed_keypair(public_key, secret, seed)))
		status = say_fail(EXIT_OURS, "libsodium cannot be started");
	sodium_memzero(seed, sizeof(seed));
	return status;
}

/* --- keygen ------------------------------------------------------------------------------------------------- */

/* A new file with this text; never over another one. 0, or an exit status after one line. */
static int write_new(const char *file, const char *text, mode_t mode)
{
	size_t n = strlen(text);
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);

	if (fd < 0)
		return say_fail(EXIT_OURS, "%s: %s", file,
				errno == EEXIST ? "exists already, and a key is never overwritten"
						: strerror(errno));
	bool good = write(fd, text, n) == (ssize_t)n && !fsync(fd);
	int err = errno;
	close(fd);
	if (good)
		return 0;
	unlink(file);
	return say_fail(EXIT_OURS, "%s: %s", file, strerror(err));
}

int image_keygen(const char *private_file, const char *public_file)
{
	uint8_t secret[crypto_sign_SECRETKEYBYTES], public_key[KEY_PUBLIC_BYTES];
	char text[256];
	struct stat st;

	if (sodium_init() < 0)
		return say_fail(EXIT_OURS, "libsodium cannot be started");
	/* Before the private key is written: half a pair helps nobody. The open below is what really decides. */
	if (!lstat(public_file, &st))
		return say_fail(EXIT_OURS, "%s: exists already, and a key is never overwritten", public_file);
	crypto_sign_keypair(public_key, secret); /* the seed is the secret's first half */
	key_format(secret, KEY_PRIVATE, text, sizeof(text));
	int status = write_new(private_file, text, 0600);
	if (!status) {
		key_format(public_key, KEY_PUBLIC, text, sizeof(text));
		status = write_new(public_file, text, 0644);
		if (status)
			unlink(private_file);
	}
	sodium_memzero(secret, sizeof(secret));
	sodium_memzero(text, sizeof(text));
	return status;
}
