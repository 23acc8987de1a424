/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of visa_token.c: exact limits, malformed tokens, key files. Ends with status 1 at the first fault. */
#include "visa_token.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vector.h"

#define EXPECT(condition)                                                            \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

static void expect_result(const char *what, enum visa_result got, enum visa_result wanted)
{
    if (got != wanted) {
        fprintf(stderr, "%s: got \"%s\", wanted \"%s\"\n", what, visa_result_text(got), visa_result_text(wanted));
        exit(1);
    }
}

static void malformed_tokens_are_refused(void)
{
    static const struct {
        const char *text;
        enum visa_result result;
    } cases[] = {
        {"joe,1;QUJD", VISA_OK},
        {"joe,1;QUI=", VISA_OK},
        {"joe,1;QQ==", VISA_OK},
        {"a.b-c_1,999999999999999999;QUJD", VISA_OK},
        {"", VISA_BAD_FORMAT},
        {"correct horse battery staple", VISA_BAD_FORMAT},
        {"joe,1", VISA_BAD_FORMAT},
        {"joe;QUJD", VISA_BAD_FORMAT},
        {";QUJD", VISA_BAD_FORMAT},
        {",1;QUJD", VISA_BAD_FORMAT},
        {"joe,1;QUJD;", VISA_BAD_FORMAT},
        {"joe;,1;QUJD", VISA_BAD_FORMAT},
        {"joe,1,2;QUJD", VISA_BAD_FORMAT},
        {"joe,,1;QUJD", VISA_BAD_FORMAT},
        {"joe;1,QUJD", VISA_BAD_FORMAT},
        {"joe,;QUJD", VISA_BAD_TIME},
        {"joe,+1;QUJD", VISA_BAD_TIME},
        {"joe,-1;QUJD", VISA_BAD_TIME},
        {"joe, 1;QUJD", VISA_BAD_TIME},
        {"joe,1 ;QUJD", VISA_BAD_TIME},
        {"joe,0x1;QUJD", VISA_BAD_TIME},
        {"joe,1e3;QUJD", VISA_BAD_TIME},
        {"joe,1.0;QUJD", VISA_BAD_TIME},
        {"joe,1000000000000000000;QUJD", VISA_BAD_TIME},
        {"joe,18446744073709551617;QUJD", VISA_BAD_TIME},
        {"joe,1;", VISA_BAD_BASE64},
        {"joe,1;Q", VISA_BAD_BASE64},
        {"joe,1;QUI", VISA_BAD_BASE64},
        {"joe,1;QUJDQ", VISA_BAD_BASE64},
        {"joe,1;Q===", VISA_BAD_BASE64},
        {"joe,1;====", VISA_BAD_BASE64},
        {"joe,1;QQ=Q", VISA_BAD_BASE64},
        {"joe,1;=QQQ", VISA_BAD_BASE64},
        {"joe,1;QQ==QUJD", VISA_BAD_BASE64},
        {"joe,1;QR==", VISA_BAD_BASE64}, /* bits set that belong to no byte */
        {"joe,1;QUJ=", VISA_BAD_BASE64},
        {"joe,1;QUJD\n", VISA_BAD_BASE64},
        {"joe,1; QUJ", VISA_BAD_BASE64},
        {"joe,1;QU D", VISA_BAD_BASE64},
        {"joe,1;QU,D", VISA_BAD_BASE64},
        {"joe,1;QU-_", VISA_BAD_BASE64}, /* the URL alphabet */
        {"joe,1;QU\xc3\xa9", VISA_BAD_BASE64},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct visa_token token;
        expect_result(cases[i].text, visa_token_parse(cases[i].text, &token), cases[i].result);
    }
}

static void a_token_is_taken_apart(void)
{
    struct visa_token token;

    expect_result("parse", visa_token_parse("joe,1624520361;QUI=", &token), VISA_OK);
    EXPECT(token.user_length == 3 && token.payload_length == 14 && token.issued == 1624520361);
    EXPECT(token.signature_length == 2 && memcmp(token.signature, "AB", 2) == 0);
}

static void the_longest_signature_is_4096_bits(void)
{
    char text[2048] = "joe,1;";
    struct visa_token token;

    /* 512 bytes are 684 characters with one '='; 513 bytes are 684 without. */
    memset(text + 6, 'A', 684);
    text[6 + 683] = '=';
    expect_result("512 bytes", visa_token_parse(text, &token), VISA_OK);
    EXPECT(token.signature_length == VISA_SIGNATURE_MAX);
    text[6 + 683] = 'A';
    expect_result("513 bytes", visa_token_parse(text, &token), VISA_BAD_BASE64);
    memset(text + 6, 'A', 688);
    expect_result("516 bytes", visa_token_parse(text, &token), VISA_BAD_BASE64);
    memset(text + 6, 'A', 2000);
    expect_result("1500 bytes", visa_token_parse(text, &token), VISA_BAD_BASE64);
}

static void the_time_counts_both_ways(void)
{
    struct visa_token token;

    expect_result("parse", visa_token_parse("joe,1000;QUJD", &token), VISA_OK);
    expect_result("60 s old", visa_token_check(&token, "joe", 1060, 60), VISA_OK);
    expect_result("61 s old", visa_token_check(&token, "joe", 1061, 60), VISA_EXPIRED);
    expect_result("60 s early", visa_token_check(&token, "joe", 940, 60), VISA_OK);
    expect_result("61 s early", visa_token_check(&token, "joe", 939, 60), VISA_IN_FUTURE);
    expect_result("parse", visa_token_parse("joe,999999999999999999;QUJD", &token), VISA_OK);
    expect_result("far future", visa_token_check(&token, "joe", 1000, 86400), VISA_IN_FUTURE);
}

static void the_user_is_compared_whole(void)
{
    static const char *const others[] = {"", "j", "jo", "joe,", "joe,1000", "joee", "Joe", "alice", "root"};
    struct visa_token token;

    expect_result("parse", visa_token_parse("joe,1000;QUJD", &token), VISA_OK);
    expect_result("joe", visa_token_check(&token, "joe", 1000, 60), VISA_OK);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_result(others[i], visa_token_check(&token, others[i], 1000, 60), VISA_OTHER_USER);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");

    EXPECT(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0 && chmod(path, mode) == 0);
}

/* The key file with `text` in it: reading it gives `wanted`, and a key only if that is VISA_OK. */
static void expect_key(const char *what, const char *text, mode_t mode, enum visa_result wanted)
{
    EVP_PKEY *key;

    write_file("key.pem", text, mode);
    expect_result(what, visa_key_read("key.pem", &key), wanted);
    EXPECT((key != NULL) == (wanted == VISA_OK));
    EVP_PKEY_free(key);
    unlink("key.pem");
}

static void key_files_are_judged(void)
{
    EVP_PKEY *key;

    expect_key("SPKI", SPKI, 0644, VISA_OK);
    expect_key("PKCS#1", PKCS1, 0600, VISA_OK);
    expect_key("no final newline", SPKI_NO_NEWLINE, 0644, VISA_OK);
    expect_key("CRLF", SPKI_CRLF, 0644, VISA_OK);
    expect_key("text before", "VISA's key\n" SPKI, 0644, VISA_OK);
    expect_key("newlines made spaces", SPKI_ONE_LINE, 0644, VISA_BAD_KEY);
    expect_key("empty", "", 0644, VISA_BAD_KEY);
    expect_key("garbage", "garbage\n", 0644, VISA_BAD_KEY);
    expect_key("elliptic curve", EC_KEY, 0644, VISA_BAD_KEY);
    expect_key("RSA-PSS", PSS_KEY, 0644, VISA_BAD_KEY);
    expect_key("private", PRIVATE, 0644, VISA_BAD_KEY);
    expect_key("private PKCS#1", PRIVATE_PKCS1, 0644, VISA_BAD_KEY);
    expect_key("encrypted", ENCRYPTED, 0644, VISA_BAD_KEY);
    expect_key("group may write", SPKI, 0664, VISA_UNSAFE_FILE);
    expect_key("others may write", SPKI, 0646, VISA_UNSAFE_FILE);
    EXPECT(visa_key_read("missing.pem", &key) == VISA_NO_KEY_FILE && errno == ENOENT && key == NULL);
    expect_result("folder", visa_key_read(".", &key), VISA_UNSAFE_FILE);
    EXPECT(mkfifo("fifo", 0600) == 0);
    expect_result("FIFO", visa_key_read("fifo", &key), VISA_UNSAFE_FILE);
    unlink("fifo");
    if (geteuid() == 0) {
        write_file("key.pem", SPKI, 0644);
        EXPECT(chown("key.pem", 65534, 0) == 0);
        expect_result("somebody else's", visa_key_read("key.pem", &key), VISA_UNSAFE_FILE);
        unlink("key.pem");
    }
}

static void a_signature_fits_its_payload_and_key_only(void)
{
    struct visa_token token;
    EVP_PKEY *key;

    write_file("key.pem", SPKI, 0644);
    expect_result("key", visa_key_read("key.pem", &key), VISA_OK);
    unlink("key.pem");
    expect_result("parse", visa_token_parse(TOKEN, &token), VISA_OK);
    expect_result("genuine", visa_token_verify(&token, key), VISA_OK);
    for (size_t i = 0; i < token.signature_length; i++) {
        token.signature[i] ^= 1;
        expect_result("a bit flipped", visa_token_verify(&token, key), VISA_BAD_SIGNATURE);
        token.signature[i] ^= 1;
    }
    for (size_t length = 0; length < token.payload_length; length++) {
        struct visa_token shorter = token;
        shorter.payload_length = length;
        expect_result("payload cut", visa_token_verify(&shorter, key), VISA_BAD_SIGNATURE);
    }
    token.signature_length--;
    expect_result("signature cut", visa_token_verify(&token, key), VISA_BAD_SIGNATURE);
    EVP_PKEY_free(key);
}

int main(void)
{
    char folder[] = "/tmp/visa-token-XXXXXX";

    EXPECT(mkdtemp(folder) != NULL && chdir(folder) == 0);
    malformed_tokens_are_refused();
    a_token_is_taken_apart();
    the_longest_signature_is_4096_bits();
    the_time_counts_both_ways();
    the_user_is_compared_whole();
    key_files_are_judged();
    a_signature_fits_its_payload_and_key_only();
    EXPECT(chdir("/") == 0 && rmdir(folder) == 0);
    puts("visa_token: all tests passed");
    return 0;
}
