#!/bin/bash
# Mounts each user's home from a file server when it is first used.
#
#   NFS_HOME_SOURCE    SERVER:FOLDER above the homes
#   NFS_HOME_PATH      where they appear
#   NFS_HOME_OPTIONS   mount options, separated by commas
set -euo pipefail

fail() {
    echo "install-nfs-home: $*" >&2
    exit 1
}

: "${NFS_HOME_SOURCE:?}" "${NFS_HOME_PATH:?}" "${NFS_HOME_OPTIONS:?}"
[[ $NFS_HOME_SOURCE == *?:/* ]] || fail "nfs_home_source is '$NFS_HOME_SOURCE', not SERVER:/FOLDER"
[[ $NFS_HOME_PATH == /?* ]] || fail "nfs_home_path is '$NFS_HOME_PATH', not an absolute folder"
for value in "$NFS_HOME_SOURCE" "$NFS_HOME_PATH" "$NFS_HOME_OPTIONS"; do
    [[ $value != *[[:space:]]* ]] || fail "'$value' has white space in it, which the automounter's maps cannot hold"
done

export DEBIAN_FRONTEND=noninteractive
apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 autofs nfs-common
apt-get clean

install -d -m 0755 /etc/auto.master.d "$NFS_HOME_PATH"
printf '# Made by install-nfs-home.sh.\n%s /etc/auto.visa-home --timeout=600\n' "$NFS_HOME_PATH" \
    >/etc/auto.master.d/visa-home.autofs
# The automounter puts the name of the home that is asked for in the place of "&".
printf '# Made by install-nfs-home.sh.\n* -%s %s/&\n' "$NFS_HOME_OPTIONS" "${NFS_HOME_SOURCE%/}" >/etc/auto.visa-home
chmod 0644 /etc/auto.visa-home

systemctl enable autofs.service
automount --dumpmaps | grep -Fq "${NFS_HOME_SOURCE%/}/&" || fail "the automounter does not read /etc/auto.visa-home"
