/* SPDX-License-Identifier: ISC */
/* Inside of http.c and url.c: the functions of libcurl that are used, loaded with the first of them. See curl.c. */
#ifndef COWBELL_IMAGE_OCI_CURL_H
#define COWBELL_IMAGE_OCI_CURL_H

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
