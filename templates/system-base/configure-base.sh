#!/bin/bash
# Sets locale and keyboard, and keeps apt from working by itself.
#
#   LOCALES           locales to generate, separated by white space; the first is the default
#   KEYBOARD_LAYOUT   layout of the console, for example us
set -euo pipefail

fail() {
    echo "configure-base: $*" >&2
    exit 1
}

read -r -d '' -a locales <<<"${LOCALES:?}" || true
[[ ${KEYBOARD_LAYOUT:?} =~ ^[a-z]{2,}$ ]] || fail "'$KEYBOARD_LAYOUT' is not a keyboard layout"

for locale in "${locales[@]}"; do
    [[ $locale =~ ^[A-Za-z_.@0-9-]+$ ]] || fail "'$locale' is not a locale"
    # C.UTF-8 comes with libc.
    [[ $locale == C.UTF-8 ]] && continue
    grep -Eq "^(# *)?${locale//./\\.} " /etc/locale.gen || fail "there is no locale '$locale'"
    sed -i -E "s/^# *(${locale//./\\.} )/\1/" /etc/locale.gen
done
locale-gen
update-locale --reset "LANG=${locales[0]}"

cat >/etc/default/keyboard <<END
XKBMODEL="pc105"
XKBLAYOUT="$KEYBOARD_LAYOUT"
XKBVARIANT=""
XKBOPTIONS=""
BACKSPACE="guess"
END
# The kernel's own keymap is the American one; any other takes a service in every boot.
if [[ $KEYBOARD_LAYOUT != us ]]; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends console-setup
    setupcon --save-only --force
fi

# Images are rebuilt rather than updated in the middle of somebody's work.
cat >/etc/apt/apt.conf.d/20periodic <<'END'
APT::Periodic::Enable "0";
END
systemctl disable apt-daily.timer apt-daily-upgrade.timer
# Package descriptions in other languages are a third of what an update fetches.
cat >/etc/apt/apt.conf.d/20languages <<'END'
Acquire::Languages "none";
END
