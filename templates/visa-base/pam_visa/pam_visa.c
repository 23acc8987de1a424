/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pam_visa.so KEYPATH [MAXAGE]: lets in whoever brings a fresh token signed by VISA (see visa_token.h).
 *
 *   KEYPATH  PEM file with VISA's public RSA key, read at each login: a new key needs no restart. It must be
 *            a regular file of root's that neither group nor others can write.
 *   MAXAGE   how many seconds the token's time may be away from this clock, before or after; 1 to 86400,
 *            60 if not given.
 *
 * The login must be an account of this system, not root's. A token may be used again within its time, because
 * VISA sends the same one to every connection that it opens.
 *
 * Results: PAM_SUCCESS; PAM_AUTHINFO_UNAVAIL when the arguments are wrong; PAM_AUTH_ERR for every other refusal.
 * Reasons go to the log, the token never does.
 */
#include "visa_token.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <syslog.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/err.h>

#define PAM_SM_AUTH
#include <security/pam_ext.h>
#include <security/pam_modules.h>
#include <security/pam_modutil.h>

#define DEFAULT_TOLERANCE 60
#define MAX_TOLERANCE 86400
#define EXPORTED __attribute__((visibility("default")))

static bool read_arguments(pam_handle_t *pam, int argc, const char **argv, int64_t *tolerance)
{
    *tolerance = DEFAULT_TOLERANCE;
    if (argc < 1 || argc > 2) {
        pam_syslog(pam, LOG_ERR, "usage: pam_visa.so KEYPATH [MAXAGE]");
        return false;
    }
    if (argc == 2 && (!visa_parse_seconds(argv[1], strlen(argv[1]), tolerance) || *tolerance < 1 ||
                      *tolerance > MAX_TOLERANCE)) {
        pam_syslog(pam, LOG_ERR, "MAXAGE must be a number from 1 to %d, not \"%s\"", MAX_TOLERANCE, argv[1]);
        return false;
    }
    return true;
}

/* An unknown name is not logged: people type passwords there. */
static bool may_log_in(pam_handle_t *pam, const char *user)
{
    const struct passwd *account = pam_modutil_getpwnam(pam, user);

    if (account == NULL)
        pam_syslog(pam, LOG_NOTICE, "refused: no such account");
    else if (account->pw_uid == 0)
        pam_syslog(pam, LOG_NOTICE, "refused %s: uid 0 has no desktop", user);
    return account != NULL && account->pw_uid != 0;
}

static enum visa_result examine(const char *text, const char *user, const char *key_path, int64_t tolerance)
{
    struct visa_token token;
    EVP_PKEY *key = NULL;
    enum visa_result result = visa_token_parse(text, &token);

    if (result == VISA_OK)
        result = visa_token_check(&token, user, (int64_t)time(NULL), tolerance);
    if (result == VISA_OK)
        result = visa_key_read(key_path, &key);
    if (result == VISA_OK)
        result = visa_token_verify(&token, key);
    int error = errno;
    EVP_PKEY_free(key);
    /* The error queue belongs to the program that loaded this module. */
    ERR_clear_error();
    OPENSSL_cleanse(&token, sizeof token);
    errno = error;
    return result;
}

static void log_refusal(pam_handle_t *pam, const char *user, const char *key_path, enum visa_result result)
{
    const char *reason = visa_result_text(result);

    if (result == VISA_NO_KEY_FILE)
        pam_syslog(pam, LOG_ERR, "refused %s: %s: %s: %m", user, reason, key_path);
    else if (result == VISA_UNSAFE_FILE || result == VISA_BAD_KEY)
        pam_syslog(pam, LOG_ERR, "refused %s: %s: %s", user, reason, key_path);
    else
        pam_syslog(pam, LOG_NOTICE, "refused %s: %s", user, reason);
}

EXPORTED int pam_sm_authenticate(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    const char *user = NULL, *text = NULL;
    int64_t tolerance;

    (void)flags;
    if (!read_arguments(pam, argc, argv, &tolerance))
        return PAM_AUTHINFO_UNAVAIL;
    if (pam_get_user(pam, &user, NULL) != PAM_SUCCESS || user == NULL)
        return PAM_AUTH_ERR;
    /* Asked for before the account is looked at, so that known and unknown names meet the same dialogue. */
    if (pam_get_authtok(pam, PAM_AUTHTOK, &text, NULL) != PAM_SUCCESS || text == NULL)
        return PAM_AUTH_ERR;
    if (!may_log_in(pam, user))
        return PAM_AUTH_ERR;

    enum visa_result result = examine(text, user, argv[0], tolerance);
    if (result != VISA_OK) {
        log_refusal(pam, user, argv[0], result);
        return PAM_AUTH_ERR;
    }
    /* libpam wipes it. Further modules (a keyring, say) would take the token for the user's password. */
    pam_set_item(pam, PAM_AUTHTOK, NULL);
    pam_syslog(pam, LOG_INFO, "%s has a valid token", user);
    return PAM_SUCCESS;
}

EXPORTED int pam_sm_setcred(pam_handle_t *pam, int flags, int argc, const char **argv)
{
    (void)pam, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
