#!/bin/bash
# Sets what every site sets: locale, time zone, clock servers; and stops what disturbs sessions.
#
#   LOCALE        locale of the sessions, for example en_US.UTF-8
#   TIME_ZONE     for example Europe/Paris
#   NTP_SERVERS   the site's clock servers, separated by commas or white space; empty: Debian's pool
set -euo pipefail

fail() {
    echo "configure-system: $*" >&2
    exit 1
}

: "${LOCALE:?}" "${TIME_ZONE:?}"

normal=$(tr '[:upper:]' '[:lower:]' <<<"${LOCALE//-/}")
if ! locale -a | tr '[:upper:]' '[:lower:]' | tr -d - | grep -Fqx "$normal"; then
    grep -Eq "^# *${LOCALE//./\\.} |^${LOCALE//./\\.} " /etc/locale.gen || fail "there is no locale '$LOCALE'"
    sed -i -E "s/^# *(${LOCALE//./\\.} )/\1/" /etc/locale.gen
    locale-gen
fi
update-locale --reset "LANG=$LOCALE"

[[ -f /usr/share/zoneinfo/$TIME_ZONE ]] || fail "there is no time zone '$TIME_ZONE'"
ln -sf "/usr/share/zoneinfo/$TIME_ZONE" /etc/localtime
echo "$TIME_ZONE" >/etc/timezone

# The template's own makestep takes the place of the distribution's, which acts at the start only.
sed -i -E 's/^makestep/#&/' /etc/chrony/chrony.conf
read -r -d '' -a servers <<<"${NTP_SERVERS//,/ }" || true
rm -f /etc/chrony/sources.d/visa.sources
if [[ ${#servers[@]} -gt 0 ]]; then
    sed -i -E 's/^(pool|server) /#&/' /etc/chrony/chrony.conf
    printf 'server %s iburst\n' "${servers[@]}" >/etc/chrony/sources.d/visa.sources
else
    sed -i -E 's/^#(pool|server) /\1 /' /etc/chrony/chrony.conf
fi
systemctl enable chrony.service
chronyd -p >/dev/null || fail "chronyd cannot read its configuration"

# An update in the middle of a session restarts guacd, and everybody is thrown out. Images are
# rebuilt instead.
systemctl disable apt-daily.timer apt-daily-upgrade.timer
