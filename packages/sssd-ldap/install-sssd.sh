#!/bin/bash
# Makes the instance ask an LDAP directory for accounts and groups. Passwords are not asked for:
# VISA's tokens open the desktop.
#
#   LDAP_URI      servers, separated by commas
#   LDAP_BASE     search base
#   LDAP_SCHEMA   rfc2307, rfc2307bis or AD
#   LDAP_HOME     home folder in place of the directory's, with %u; may be empty
set -euo pipefail

fail() {
    echo "install-sssd: $*" >&2
    exit 1
}

: "${LDAP_URI:?}" "${LDAP_BASE:?}" "${LDAP_SCHEMA:?}"
for uri in ${LDAP_URI//,/ }; do
    case $uri in
    ldap://* | ldaps://*) ;;
    *) fail "'$uri' in ldap_uri is neither ldap://HOST nor ldaps://HOST" ;;
    esac
done
case $LDAP_SCHEMA in
rfc2307 | rfc2307bis | AD) ;;
*) fail "ldap_schema is '$LDAP_SCHEMA', not rfc2307, rfc2307bis or AD" ;;
esac

export DEBIAN_FRONTEND=noninteractive
apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 sssd-ldap sssd-tools libnss-sss libpam-sss
apt-get clean

{
    cat <<END
# Made by install-sssd.sh.
[sssd]
services = nss, pam
domains = ldap

[domain/ldap]
id_provider = ldap
auth_provider = none
access_provider = permit
ldap_uri = $LDAP_URI
ldap_search_base = $LDAP_BASE
ldap_schema = $LDAP_SCHEMA
ldap_id_use_start_tls = true
ldap_tls_reqcert = demand
ldap_tls_cacert = /etc/ssl/certs/ca-certificates.crt
enumerate = false
cache_credentials = false
END
    if [[ -n ${LDAP_HOME:-} ]]; then
        echo "override_homedir = $LDAP_HOME"
    fi
} >/etc/sssd/sssd.conf
chmod 0600 /etc/sssd/sssd.conf

# SSSD refuses a file that it cannot make sense of only when it starts, in every instance.
sssctl config-check || fail "SSSD does not accept /etc/sssd/sssd.conf"
grep -Eq '^passwd:.*\bsss\b' /etc/nsswitch.conf || fail "/etc/nsswitch.conf does not ask SSSD for accounts"

# A home that is neither in the directory's file server nor here yet is made at the first session.
pam-auth-update --enable mkhomedir
systemctl enable sssd.service
