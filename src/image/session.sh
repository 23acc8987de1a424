#!/bin/bash
# Prepares a booted guest for provisioning (open), and takes that back (close), so that no layer
# holds the build's key, its proxy or its settings. Run by visabuild as root over SSH.
# Files that visabuild uploads before `open`:
#   /usr/local/share/ca-certificates/visabuild/*.crt   the build host's own certificate authorities
#   /etc/apt/apt.conf.d/00visabuild                    proxy and settings of apt for the build
#   /etc/dpkg/dpkg.cfg.d/visabuild                     no fsync: the disk is thrown away on failure
set -euo pipefail

certificates=/usr/local/share/ca-certificates/visabuild

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
            update-ca-certificates >/dev/null
            echo "$now" >/var/lib/visabuild-certificates
        fi
    fi
    # Background work of a fresh boot that takes the dpkg lock or the processor.
    systemctl stop apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer fstrim.timer \
        2>/dev/null || true
}

close() {
    rm -f /etc/apt/apt.conf.d/00visabuild /etc/dpkg/dpkg.cfg.d/visabuild
    rm -f /root/.ssh/authorized_keys /root/.bash_history
    apt-get clean
    find /tmp /var/tmp -mindepth 1 -maxdepth 1 ! -name 'systemd-private-*' -exec rm -rf {} +
    sync --file-system /
}

case ${1-} in
    open | close) "$1" ;;
    *)
        echo "usage: session.sh open|close" >&2
        exit 2
        ;;
esac
