/* SPDX-License-Identifier: ISC */
/* The functions of libcurl that are used, for registries (image/oci) and the platform's client (cli). See curl.c. */
#ifndef COWBELL_LIB_HOST_CURL_H
#define COWBELL_LIB_HOST_CURL_H

#define CURL_DISABLE_TYPECHECK /* of a macro that curl_easy_setopt() is otherwise */
#include <curl/curl.h>
#include <stdbool.h>

/* As in curl/easy.h and curl/urlapi.h, without curl_. */
extern struct curl_api {
	void *library; /* of dlopen(3); NULL: not loaded */
	CURLcode (*global_init)(long);
	CURL *(*easy_init)(void);
	void (*easy_reset)(CURL *);
	void (*easy_cleanup)(CURL *);
	CURLcode (*easy_perform)(CURL *);
	CURLcode (*easy_setopt)(CURL *, CURLoption, ...);
	CURLcode (*easy_getinfo)(CURL *, CURLINFO, ...);
	CURLcode (*easy_send)(CURL *, const void *, size_t, size_t *);
	CURLcode (*easy_recv)(CURL *, void *, size_t, size_t *);
	const char *(*easy_strerror)(CURLcode);
	struct curl_slist *(*slist_append)(struct curl_slist *, const char *);
	void (*slist_free_all)(struct curl_slist *);
	CURLU *(*url)(void);
	void (*url_cleanup)(CURLU *);
	CURLUcode (*url_set)(CURLU *, CURLUPart, const char *, unsigned);
	CURLUcode (*url_get)(CURLU *, CURLUPart, char **, unsigned);
	void (*free)(void *);
} curl_api;

/* Once; more often costs nothing. False after one line: it is not there, or too old. */
bool curl_load(void);

#endif
