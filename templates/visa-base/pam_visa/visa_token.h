/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VISA's login token, apart from PAM.
 *
 *   token     = payload ";" base64(signature)
 *   payload   = user "," seconds since the epoch, decimal
 *   signature = RSA PKCS#1 v1.5 over SHA-256(payload)
 *
 * VISA sends it as the password of the remote desktop login.
 */
#ifndef VISA_TOKEN_H
#define VISA_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/evp.h>

/* Bytes of the longest signature: RSA with 4096 bits. */
#define VISA_SIGNATURE_MAX 512

enum visa_result {
    VISA_OK,
    VISA_BAD_FORMAT,    /* not exactly one ';', and one ',' before it, with something on each side */
    VISA_BAD_TIME,      /* the time is not a plain decimal number */
    VISA_BAD_BASE64,    /* the signature is not base64, or longer than VISA_SIGNATURE_MAX */
    VISA_OTHER_USER,    /* made for somebody else */
    VISA_EXPIRED,       /* older than the tolerance */
    VISA_IN_FUTURE,     /* newer than now by more than the tolerance */
    VISA_NO_KEY_FILE,   /* the key file cannot be opened or read; errno says why */
    VISA_UNSAFE_FILE,   /* not a regular file, or somebody else could have written it */
    VISA_BAD_KEY,       /* no PEM public RSA key in the file */
    VISA_BAD_SIGNATURE, /* not signed with the private key that belongs to the public key */
};

/* A token taken apart; payload and user point into the text it was made from. */
struct visa_token {
    const char *payload;
    size_t payload_length;
    size_t user_length; /* the user is the beginning of the payload */
    int64_t issued;     /* seconds since the epoch */
    unsigned char signature[VISA_SIGNATURE_MAX + 2]; /* the decoder writes padding too */
    size_t signature_length;
};

/* 1 to 18 decimal digits and nothing else, so that sums and differences of two cannot overflow. */
bool visa_parse_seconds(const char *text, size_t length, int64_t *seconds);

/* Takes a NUL-terminated token apart; `token` is complete only with VISA_OK. */
enum visa_result visa_token_parse(const char *text, struct visa_token *token);

/* Is the token for `user`, and at most `tolerance` seconds away from `now`, either way? */
enum visa_result visa_token_check(const struct visa_token *token, const char *user, int64_t now, int64_t tolerance);

/* Reads the public key of a PEM file ("PUBLIC KEY" or "RSA PUBLIC KEY"); the caller frees it. */
enum visa_result visa_key_read(const char *path, EVP_PKEY **key);

/* Did the owner of `key` sign the payload? */
enum visa_result visa_token_verify(const struct visa_token *token, EVP_PKEY *key);

/* The result in words, for the log. */
const char *visa_result_text(enum visa_result result);

#endif
