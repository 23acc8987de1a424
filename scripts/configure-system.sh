#!/bin/bash
# Sets the time zone and the clock's servers.
#
#   TIME_ZONE     for example Europe/Paris
#   NTP_SERVERS   the site's clock servers, separated by commas or white space; empty: Debian's pool
set -euo pipefail

fail() {
    echo "configure-system: $*" >&2
    exit 1
}

: "${TIME_ZONE:?}"

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
