#!/bin/bash
# Sets the desktop's defaults: welcome note, session settings, programs, no power actions and no
# screen lock. What is constant is among the template's files.
#
#   WELCOME_TITLE, WELCOME_TEXT   the note of the first sign-in; no title, no note
#   CONFIG_HOME                   folder in the home for the desktop's settings; empty: ~/.config
set -euo pipefail

fail() {
    echo "configure-desktop: $*" >&2
    exit 1
}

install -d -m 0755 /etc/visa
if [[ -n ${WELCOME_TITLE:-} ]]; then
    printf '%s\n%s\n' "$WELCOME_TITLE" "${WELCOME_TEXT:-}" >/etc/visa/welcome.txt
else
    rm -f /etc/visa/welcome.txt
fi

if [[ ${CONFIG_HOME:-} == /* || ${CONFIG_HOME:-} == *..* ]]; then
    fail "CONFIG_HOME is '$CONFIG_HOME': it must be a folder inside the home"
fi
printf 'VISA_CONFIG_HOME=%q\n' "${CONFIG_HOME:-}" >/etc/visa/session.conf

update-alternatives --set x-session-manager /usr/bin/startxfce4
update-alternatives --set x-www-browser /usr/bin/firefox-esr

# VISA ends an instance, not its user; and a locked screen would ask for a password that the owner
# does not have.
systemctl mask sleep.target suspend.target hibernate.target hybrid-sleep.target suspend-then-hibernate.target
for locker in xscreensaver light-locker xfce4-screensaver i3lock xsecurelock; do
    if command -v "$locker" >/dev/null; then
        fail "$locker is installed: it would lock the owner out"
    fi
done

for file in /etc/xdg/xfce4/xfconf/xfce-perchannel-xml/*.xml; do
    python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$file" || fail "$file is not XML"
done
python3 -m json.tool /etc/firefox/policies/policies.json >/dev/null || fail "Firefox's policies.json is not JSON"
firefox-esr --version
