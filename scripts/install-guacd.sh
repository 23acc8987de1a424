#!/bin/bash
# Installs guacd with its RDP plugin, on 0.0.0.0:4822 under an account with a writable home.
# Its unit and guacd.conf are among the template's files.
#
#   METHOD    source   guacamole-server from its release archive, built here
#             debian   Debian 11's packages: Debian 12 and 13 have none
#   source:   GUACAMOLE_URLS     where the archive may be had, tried in order
#             GUACAMOLE_SHA256   what it must hash to
#   debian:   MIRROR             Debian archive that has the suite bullseye
#             SECURITY_MIRROR    the same for bullseye-security; may be empty
set -euo pipefail

: "${METHOD:?}"

fail() {
    echo "install-guacd: $*" >&2
    exit 1
}

# Downloads the first archive that answers; one with the wrong hash is never used.
fetch_archive() {
    local archive=$1 url actual
    : "${GUACAMOLE_URLS:?}" "${GUACAMOLE_SHA256:?}"
    for url in $GUACAMOLE_URLS; do
        echo "Fetching $url"
        if ! curl --fail --silent --show-error --location --retry 2 --connect-timeout 20 --output "$archive" "$url"; then
            continue
        fi
        actual=$(sha256sum "$archive" | cut -d ' ' -f 1)
        if [[ $actual != "$GUACAMOLE_SHA256" ]]; then
            fail "$url has SHA-256 $actual, expected $GUACAMOLE_SHA256. Nothing was built from it."
        fi
        return
    done
    fail "none of these answered: $GUACAMOLE_URLS"
}

build_from_source() {
    local work
    local -a build=(gcc make perl pkg-config libc6-dev libcairo2-dev libjpeg62-turbo-dev libpng-dev uuid-dev
        libssl-dev libwebp-dev freerdp3-dev)
    local -a runtime=(libcairo2 libjpeg62-turbo libpng16-16t64 libuuid1 libssl3t64 libwebp7
        libfreerdp3-3 libfreerdp-client3-3 libwinpr3-3)
    local -a added=()

    work=$(mktemp -d)
    fetch_archive "$work/guacamole-server.tar.gz"

    # What the image has already stays when the build packages go.
    local package
    for package in "${build[@]}"; do
        if ! dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed; then
            added+=("$package")
        fi
    done
    apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "${build[@]}" "${runtime[@]}"

    mkdir "$work/source"
    tar -xzf "$work/guacamole-server.tar.gz" -C "$work/source" --strip-components=1 --no-same-owner
    # Upstream calls FreeRDP 3 experimental and adds -Werror for it: its deprecations are no errors.
    (
        cd "$work/source"
        ./configure --prefix=/usr --libdir="/usr/lib/$(gcc -print-multiarch)" --sysconfdir=/etc \
            --disable-static --disable-guacenc --disable-guaclog --with-rdp \
            CPPFLAGS=-Wno-error=deprecated-declarations
        make -j "$(nproc)"
        make install
    )
    ldconfig
    rm -rf "$work"

    apt-mark manual "${runtime[@]}" >/dev/null
    if [[ ${#added[@]} -gt 0 ]]; then
        apt-get purge -q -y --auto-remove -o Dpkg::Use-Pty=0 "${added[@]}"
    fi
}

install_from_debian_11() {
    local sources=/etc/apt/sources.list.d/visa-bullseye.list
    local pin=/etc/apt/preferences.d/visa-bullseye
    # Both suites are frozen: the date until which their indexes call themselves valid may have passed.
    local options="signed-by=/usr/share/keyrings/debian-archive-keyring.gpg check-valid-until=no"
    : "${MIRROR:?}"
    echo "Warning: guacd from Debian 11, which is past its end of life: no more security updates." >&2

    echo "deb [$options] $MIRROR bullseye main" >"$sources"
    if [[ -n ${SECURITY_MIRROR:-} ]]; then
        echo "deb [$options] $SECURITY_MIRROR bullseye-security main" >>"$sources"
    fi
    # Nothing comes from there but guacd and the libraries that Debian 13 no longer has.
    printf 'Package: *\nPin: release n=bullseye*\nPin-Priority: 1\n' >"$pin"

    apt-get update -q -o Acquire::Languages=none -o Dir::Etc::SourceList="$sources" \
        -o Dir::Etc::SourceParts=/dev/null -o APT::Get::List-Cleanup=false
    apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 guacd libguac-client-rdp0

    # The suite gets no more updates, so it has no place in the image's sources.
    rm -f "$sources" "$pin"
    rm -f /var/lib/apt/lists/*bullseye*
    apt-get check -q
}

# A guacd without RDP installs without complaint, and fails only when VISA connects.
check_plugins() {
    local plugin library
    plugin=$(ldconfig -p | sed -n 's/.*libguac-client-rdp\.so[^ ]* .*=> //p' | head -n 1)
    [[ -n $plugin ]] || fail "guacd has no RDP plugin (libguac-client-rdp.so): it was built without FreeRDP"
    for library in /usr/sbin/guacd "$plugin"; do
        if ldd "$library" | grep 'not found'; then
            fail "$library lacks the libraries above"
        fi
    done
    for library in libguac-common-svc-client.so libguacai-client.so; do
        compgen -G "/usr/lib/*/freerdp*/$library" >/dev/null || fail "FreeRDP's plugin $library is missing"
    done
}

case $METHOD in
source) build_from_source ;;
debian) install_from_debian_11 ;;
*) fail "METHOD is '$METHOD', not source or debian" ;;
esac

# The account that the unit names; its home is made by the unit's StateDirectory.
if ! getent passwd guacd >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/guacd --no-create-home --shell /usr/sbin/nologin guacd
fi

check_plugins
systemctl enable guacd.service
apt-get clean
/usr/sbin/guacd -v
