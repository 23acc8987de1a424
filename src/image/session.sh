#!/bin/bash
# Prepares a booted guest for provisioning (open), and takes that back (close), so that no layer
# holds the build's key, its proxy or its settings. In between its disk can be kept as it is: what may hold credentials
# is taken away and all is written (pause), and put back then (resume), or when the guest goes on from there in another
# build (wake SECONDS, the time since 1970). Run by visabuild as root over SSH.
# Files that visabuild uploads before `open`:
#   /usr/local/share/ca-certificates/visabuild/*.crt   the build host's own certificate authorities
#   /etc/apt/apt.conf.d/00visabuild                    proxy and settings of apt for the build
#   /etc/apt/visabuild-https                           apt's method for https, by way of the package cache
#   /etc/dpkg/dpkg.cfg.d/visabuild                     no fsync: the disk is thrown away on failure
set -euo pipefail

certificates=/usr/local/share/ca-certificates/visabuild
# What steps have put into /tmp, which the next boot of a guest that was kept would clear.
kept=/var/lib/visabuild

# Debian's kin read that folder; Fedora's kin have one of their own.
trust() {
    if command -v update-ca-certificates >/dev/null; then
        update-ca-certificates >/dev/null
    else
        install -m 0644 -t /etc/pki/ca-trust/source/anchors "$certificates"/*.crt
        update-ca-trust
    fi
}

open() {
    # cloud-init has written the key that we came in with; what it still does must not race with
    # provisioning. Its last stage leaves this file; asking cloud-init itself takes seconds each time.
    local tries=1500
    while [[ -d /run/cloud-init && ! -e /run/cloud-init/result.json ]] && ((tries-- > 0)); do
        sleep 0.2
    done
    if [[ -d $certificates ]]; then
        # Comparing is cheaper than rebuilding the store in every boot of a chain.
        local now
        now=$(cat "$certificates"/*.crt 2>/dev/null | sha256sum)
        if [[ $(cat /var/lib/visabuild-certificates 2>/dev/null) != "$now" ]]; then
            trust
            echo "$now" >/var/lib/visabuild-certificates
        fi
    fi
    if [[ -e $kept/tmp.tar ]]; then
        tar --extract --file "$kept/tmp.tar" --directory /tmp
        rm -r "$kept"
    fi
    # Background work of a fresh boot that takes the dpkg lock or the processor.
    systemctl stop apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer fstrim.timer \
        2>/dev/null || true
}

close() {
    rm -f /etc/apt/apt.conf.d/00visabuild /etc/apt/visabuild-https /etc/dpkg/dpkg.cfg.d/visabuild
    rm -f /root/.ssh/authorized_keys /root/.bash_history
    if command -v apt-get >/dev/null; then
        apt-get clean
    else
        rmdir --ignore-fail-on-non-empty --parents /etc/apt/apt.conf.d /etc/dpkg/dpkg.cfg.d 2>/dev/null || true
        if command -v dnf >/dev/null; then dnf clean all >/dev/null; fi
    fi
    find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' -exec rm -rf {} +
    sync --file-system /
}

pause() {
    if [[ -e /etc/apt/apt.conf.d/00visabuild ]]; then mv /etc/apt/apt.conf.d/00visabuild /run/visabuild.apt.conf; fi
    local own=(! -name 'systemd-private-*' ! -name '.*-unix')
    if [[ $(find /tmp -mindepth 1 -maxdepth 1 "${own[@]}" -print -quit) ]]; then
        install -d -m 0700 "$kept"
        find /tmp -mindepth 1 -maxdepth 1 "${own[@]}" -printf '%f\0' |
            # 1: something was written to meanwhile, and is there as it was at one moment.
            tar --create --file "$kept/tmp.tar" --directory /tmp --one-file-system --null --files-from - || (($? == 1))
    fi
    sync --file-system /
}

resume() {
    rm -rf "$kept"
    if [[ -e /run/visabuild.apt.conf ]]; then mv /run/visabuild.apt.conf /etc/apt/apt.conf.d/00visabuild; fi
}

wake() {
    date --utc --set "@$1" >/dev/null
    resume
    # QEMU's network gives it the same address again; the guest should know for how long.
    if systemctl is-active --quiet systemd-networkd; then
        local card
        for card in /sys/class/net/*; do networkctl renew "${card##*/}" 2>/dev/null || true; done
    fi
}

case ${1-} in
    open | close | pause | resume | wake) "$@" ;;
    *)
        echo "usage: session.sh open|close|pause|resume|wake SECONDS" >&2
        exit 2
        ;;
esac
