/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Logs in through Linux-PAM with a private configuration directory.
 *
 *   pam_login CONFDIR SERVICE USER [TIMES] <PASSWORD
 *
 * Prints `authenticate=N setcred=N files=N`: the last results, and how many more files are open after TIMES
 * logins than after the first. Accounts come from CONFDIR/passwd, not from this system: this program's
 * getpwnam_r takes the place of the C library's, for libpam too. No privileges are needed.
 */
#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <security/pam_appl.h>

static const char *confdir;

/* Exported to libpam by the linker, because libpam refers to it. */
int getpwnam_r(const char *name, struct passwd *account, char *buffer, size_t size, struct passwd **result)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/passwd", confdir);
    FILE *file = fopen(path, "re");
    int error;

    *result = NULL;
    if (file == NULL)
        return errno;
    do
        error = fgetpwent_r(file, account, buffer, size, result);
    while (error == 0 && strcmp((*result)->pw_name, name) != 0);
    fclose(file);
    return error == ENOENT ? 0 : error;
}

static int answer(int count, const struct pam_message **messages, struct pam_response **responses, void *password)
{
    *responses = calloc((size_t)count, sizeof **responses);
    if (*responses == NULL)
        return PAM_BUF_ERR;
    for (int i = 0; i < count; i++)
        if (messages[i]->msg_style == PAM_PROMPT_ECHO_OFF)
            (*responses)[i].resp = strdup(password);
    return PAM_SUCCESS;
}

static int open_files(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    if (directory != NULL)
        closedir(directory);
    return count;
}

int main(int argc, char **argv)
{
    static char password[2048];
    int authenticate = PAM_ABORT, setcred = PAM_ABORT, first = 0;

    if (argc < 4) {
        fprintf(stderr, "usage: pam_login CONFDIR SERVICE USER [TIMES] <PASSWORD\n");
        return 2;
    }
    confdir = argv[1];
    password[fread(password, 1, sizeof password - 1, stdin)] = '\0';
    int times = argc > 4 ? atoi(argv[4]) : 1;
    for (int i = 0; i < times; i++) {
        struct pam_conv conversation = {answer, password};
        pam_handle_t *pam;
        int started = pam_start_confdir(argv[2], argv[3], &conversation, confdir, &pam);
        if (started != PAM_SUCCESS) {
            fprintf(stderr, "pam_start: %d\n", started);
            return 1;
        }
        authenticate = pam_authenticate(pam, 0);
        setcred = pam_setcred(pam, PAM_ESTABLISH_CRED);
        pam_end(pam, setcred);
        if (i == 0)
            first = open_files();
    }
    printf("authenticate=%d setcred=%d files=%d\n", authenticate, setcred, open_files() - first);
    return 0;
}
