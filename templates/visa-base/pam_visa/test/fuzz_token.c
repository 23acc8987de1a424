/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target of the token parser. Besides what the sanitizers find, it holds the parser to a second, plain
 * statement of the format (is_token), and to what must be true of every token that is accepted.
 *
 * With this folder's driver: make fuzz. With libFuzzer:
 *   clang -g -O1 -fsanitize=fuzzer,address,undefined -I.. fuzz_token.c ../visa_token.c -lcrypto
 */
#include "visa_token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/pem.h>

#include "vector.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                    \
    do {                                                      \
        if (!(condition)) {                                   \
            fprintf(stderr, "broken: %s\n", #condition);      \
            abort();                                          \
        }                                                     \
    } while (0)

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static bool is_base64(const char *text)
{
    size_t length = strlen(text), digits = strspn(text, alphabet), padding = length - digits;

    if (length == 0 || length % 4 != 0 || padding > 2 || strspn(text + digits, "=") != padding)
        return false;
    if (length / 4 * 3 - padding > VISA_SIGNATURE_MAX)
        return false;
    /* One '=' leaves 2 bits over in the last digit, two leave 4. */
    size_t last = (size_t)(strchr(alphabet, text[digits - 1]) - alphabet);
    return last % ((size_t)1 << (2 * padding)) == 0;
}

static bool is_token(const char *text)
{
    size_t user = strcspn(text, ",;");
    const char *time = text + user + 1;

    if (user == 0 || text[user] != ',')
        return false;
    size_t digits = strspn(time, "0123456789");
    return digits >= 1 && digits <= 18 && time[digits] == ';' && is_base64(time + digits + 1);
}

static EVP_PKEY *test_key(void)
{
    static EVP_PKEY *key;

    if (key == NULL) {
        BIO *bio = BIO_new_mem_buf(SPKI, -1);
        key = PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
        BIO_free(bio);
        REQUIRE(key != NULL);
    }
    return key;
}

static void require_good(const char *text, const struct visa_token *token)
{
    char user[4096], again[8192];
    int64_t issued = token->issued;

    snprintf(user, sizeof user, "%.*s", (int)token->user_length, token->payload);
    EVP_EncodeBlock((unsigned char *)again, token->signature, (int)token->signature_length);
    REQUIRE(token->payload == text && strcmp(text + token->payload_length + 1, again) == 0);
    REQUIRE(visa_token_check(token, user, issued + 60, 60) == VISA_OK);
    REQUIRE(visa_token_check(token, user, issued - 60, 60) == VISA_OK);
    REQUIRE(visa_token_check(token, user, issued + 61, 60) == VISA_EXPIRED);
    REQUIRE(visa_token_check(token, user, issued - 61, 60) == VISA_IN_FUTURE);
    REQUIRE(visa_token_check(token, text, issued, 60) == VISA_OTHER_USER);
    user[token->user_length - 1] = '\0';
    REQUIRE(visa_token_check(token, user, issued, 60) == VISA_OTHER_USER);
    REQUIRE((visa_token_verify(token, test_key()) == VISA_OK) == (strcmp(text, TOKEN) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 2048)
        return 0;
    /* Of the exact size, so that a read behind its end is seen. */
    char *text = malloc(size + 1);
    REQUIRE(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';

    struct visa_token token;
    enum visa_result result = visa_token_parse(text, &token);
    REQUIRE((result == VISA_OK) == is_token(text));
    if (result == VISA_OK)
        require_good(text, &token);
    free(text);
    return 0;
}
