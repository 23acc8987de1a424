#!/bin/bash
# Takes the traces of the build out of a guest, on the throw-away overlay that becomes the image:
# what is left must be the same for every instance and must not tell anything of the build.
# Run by visabuild as root over SSH, with one argument: what happens to the build host's own
# certificate authorities (keep or remove).
set -euo pipefail

certificates=${1:?keep or remove}
shopt -s nullglob dotglob

# Logs of the rest of this boot go to memory, so that shutting down leaves no new ones.
mkdir -p /run/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\n' >/run/systemd/journald.conf.d/visabuild.conf
systemctl restart systemd-journald
systemctl stop rsyslog.service syslog.socket 2>/dev/null || true

# eatmydata serves the build only. The preload in this shell's environment goes first.
unset LD_PRELOAD
if dpkg-query -W libeatmydata1 >/dev/null 2>&1; then
    dpkg --purge eatmydata libeatmydata1 >/dev/null
fi

if [[ $certificates == remove ]]; then
    for certificate in /usr/local/share/ca-certificates/visabuild/*.crt; do
        rm -f "/etc/pki/ca-trust/source/anchors/${certificate##*/}"
    done
    rm -rf /usr/local/share/ca-certificates/visabuild
    if command -v update-ca-certificates >/dev/null; then
        update-ca-certificates --fresh >/dev/null
    else
        update-ca-trust
    fi
fi
rm -f /var/lib/visabuild-certificates

# apt and dpkg, or dnf
if command -v apt-get >/dev/null; then apt-get clean; fi
if command -v dnf >/dev/null; then dnf clean all >/dev/null; fi
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/debconf/*-old /var/lib/dpkg/*-old
rm -f /etc/apt/apt.conf.d/00visabuild /etc/apt/visabuild-https /etc/dpkg/dpkg.cfg.d/visabuild

# Password logins stay off over SSH whatever was switched on while building.
install -d /etc/ssh/sshd_config.d
cat >/etc/ssh/sshd_config.d/00-visabuild.conf <<'CONF'
# Written by visabuild: keys only; root's password is for the console.
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
CONF

# Services that write at their end: the seed of the random generator, this clock's drift, logs.
for unit in systemd-random-seed chrony xrdp xrdp-sesman; do
    systemctl stop "$unit.service" 2>/dev/null || true
done
rm -f /var/lib/chrony/*

# Identity of this one machine
rm -f /etc/ssh/ssh_host_*
cloud-init clean --logs --seed
rm -rf /var/lib/cloud
rm -f /etc/netplan/50-cloud-init.yaml /etc/network/interfaces.d/50-cloud-init \
    /etc/systemd/network/10-cloud-init-*.network /etc/udev/rules.d/70-persistent-net.rules
rm -f /var/lib/dhcp/*.leases /var/lib/dhcpcd/*.lease* /var/lib/NetworkManager/*.lease
rm -rf /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /var/lib/systemd/timers/*
rm -f /var/lib/dbus/machine-id
# Empty rather than `uninitialized`: that would turn on again what a template has disabled
# (machine-id(5), First Boot Semantics).
: >/etc/machine-id
if [[ -d /var/lib/dbus ]]; then
    ln -s /etc/machine-id /var/lib/dbus/machine-id
fi

# Access of the build
rm -f /root/.ssh/authorized_keys /root/.ssh/known_hosts
for home in /root /home/*; do
    rm -rf "$home"/.bash_history "$home"/.lesshst "$home"/.viminfo "$home"/.python_history \
        "$home"/.wget-hsts "$home"/.cache "$home"/.sudo_as_admin_successful "$home"/.npm \
        "$home"/.ansible/tmp
    if [[ -d $home/.ansible ]]; then rmdir --ignore-fail-on-non-empty "$home/.ansible"; fi
done

# Logs: daemons expect their files and folders, so only content goes.
rm -rf /var/log/journal/*
find /var/log -type f \( -name '*.gz' -o -name '*.[0-9]' -o -name '*.old' -o -name '*-????????' \) -delete
find /var/log -type f -exec truncate -s 0 {} +
rm -rf /var/log/installer /var/log/apt/* /var/log/unattended-upgrades/* /var/log/anaconda

rm -rf /tmp/* /var/tmp/* /var/crash/* /var/backups/*
for leftover in /etc/passwd- /etc/shadow- /etc/group- /etc/gshadow- /etc/subuid- /etc/subgid-; do
    rm -f "$leftover"
done

sync --file-system /
# In a container, whoever mounted the file system trims it.
systemd-detect-virt --quiet --container || fstrim --all >/dev/null 2>&1 || fstrim /
