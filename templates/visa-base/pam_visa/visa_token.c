/* SPDX-License-Identifier: Apache-2.0 */
#include "visa_token.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/pem.h>

/* Base64 writes 4 characters for every 3 bytes it began. */
#define BASE64_LENGTH(bytes) (((bytes) + 2) / 3 * 4)

/* A 4096-bit key is 800 bytes of PEM; comments before it are allowed. */
#define KEY_FILE_MAX 8192

bool visa_parse_seconds(const char *text, size_t length, int64_t *seconds)
{
    if (length < 1 || length > 18)
        return false;
    int64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (text[i] - '0');
    }
    *seconds = value;
    return true;
}

/* EVP_DecodeBlock skips blanks and takes '=' anywhere, so what it decoded must encode to the same text again. */
static bool decode_signature(const char *text, struct visa_token *token)
{
    char encoded[BASE64_LENGTH(VISA_SIGNATURE_MAX) + 1];
    size_t length = strlen(text);

    if (length < 4 || length % 4 != 0 || length >= sizeof encoded)
        return false;
    int bytes = EVP_DecodeBlock(token->signature, (const unsigned char *)text, (int)length);
    bytes -= (text[length - 1] == '=') + (text[length - 2] == '=');
    if (bytes < 1 || bytes > VISA_SIGNATURE_MAX)
        return false;
    EVP_EncodeBlock((unsigned char *)encoded, token->signature, bytes);
    bool same = strcmp(encoded, text) == 0;
    OPENSSL_cleanse(encoded, sizeof encoded);
    token->signature_length = (size_t)bytes;
    return same;
}

enum visa_result visa_token_parse(const char *text, struct visa_token *token)
{
    const char *semicolon = strchr(text, ';');
    const char *comma = strchr(text, ',');

    if (semicolon == NULL || strchr(semicolon + 1, ';') != NULL)
        return VISA_BAD_FORMAT;
    /* A comma after the semicolon is no base64 and is found there. */
    if (comma == NULL || comma == text || comma > semicolon)
        return VISA_BAD_FORMAT;
    if (memchr(comma + 1, ',', (size_t)(semicolon - comma - 1)) != NULL)
        return VISA_BAD_FORMAT;
    token->payload = text;
    token->payload_length = (size_t)(semicolon - text);
    token->user_length = (size_t)(comma - text);
    if (!visa_parse_seconds(comma + 1, (size_t)(semicolon - comma - 1), &token->issued))
        return VISA_BAD_TIME;
    return decode_signature(semicolon + 1, token) ? VISA_OK : VISA_BAD_BASE64;
}

enum visa_result visa_token_check(const struct visa_token *token, const char *user, int64_t now, int64_t tolerance)
{
    if (strlen(user) != token->user_length || memcmp(user, token->payload, token->user_length) != 0)
        return VISA_OTHER_USER;
    if (now - token->issued > tolerance)
        return VISA_EXPIRED;
    if (token->issued - now > tolerance)
        return VISA_IN_FUTURE;
    return VISA_OK;
}

/* Whoever can write this file can log in as anybody: it has to be root's, or of the account that asks (tests). */
static bool is_safe(int file)
{
    struct stat status;

    return fstat(file, &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0 &&
           (status.st_uid == 0 || status.st_uid == geteuid());
}

static ssize_t read_all(int file, char *buffer, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t count = read(file, buffer + used, size - used);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -1;
        if (count == 0)
            break;
        used += (size_t)count;
    }
    return (ssize_t)used;
}

/* Without this an encrypted PEM would make OpenSSL ask for its passphrase on the terminal. */
static int no_passphrase(char *buffer, int size, int writing, void *data)
{
    (void)buffer, (void)size, (void)writing, (void)data;
    return -1;
}

static EVP_PKEY *parse_key(const char *pem, size_t length)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)length);
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PUBKEY(bio, NULL, no_passphrase, NULL);

    BIO_free(bio);
    if (key != NULL && !EVP_PKEY_is_a(key, "RSA")) {
        EVP_PKEY_free(key);
        return NULL;
    }
    return key;
}

enum visa_result visa_key_read(const char *path, EVP_PKEY **key)
{
    char pem[KEY_FILE_MAX];
    /* O_NONBLOCK: a FIFO in its place must not hang the login. */
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    *key = NULL;
    if (file < 0)
        return VISA_NO_KEY_FILE;
    bool safe = is_safe(file);
    ssize_t length = safe ? read_all(file, pem, sizeof pem) : 0;
    int error = errno;
    close(file);
    if (!safe)
        return VISA_UNSAFE_FILE;
    if (length < 0) {
        errno = error;
        return VISA_NO_KEY_FILE;
    }
    *key = parse_key(pem, (size_t)length);
    return *key == NULL ? VISA_BAD_KEY : VISA_OK;
}

enum visa_result visa_token_verify(const struct visa_token *token, EVP_PKEY *key)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool valid = context != NULL && EVP_DigestVerifyInit(context, NULL, EVP_sha256(), NULL, key) == 1 &&
                 EVP_DigestVerify(context, token->signature, token->signature_length,
                                  (const unsigned char *)token->payload, token->payload_length) == 1;

    EVP_MD_CTX_free(context);
    return valid ? VISA_OK : VISA_BAD_SIGNATURE;
}

const char *visa_result_text(enum visa_result result)
{
    switch (result) {
    case VISA_OK: return "valid";
    case VISA_BAD_FORMAT: return "the password is not a VISA token";
    case VISA_BAD_TIME: return "the token's time is not a number";
    case VISA_BAD_BASE64: return "the token's signature is not base64";
    case VISA_OTHER_USER: return "the token was made for another user";
    case VISA_EXPIRED: return "the token has expired";
    case VISA_IN_FUTURE: return "the token is from the future; is this clock slow?";
    case VISA_NO_KEY_FILE: return "the public key cannot be read";
    case VISA_UNSAFE_FILE: return "the public key must be a regular file of root's that nobody else can write";
    case VISA_BAD_KEY: return "the public key is not a PEM public RSA key";
    case VISA_BAD_SIGNATURE: return "the token's signature does not fit the public key";
    }
    return "unknown";
}
