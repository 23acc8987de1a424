#!/bin/bash
# Installs the unit that makes the owner's account from cloud-init's metadata.
# Runs as root. VISA_FIRST_BOOT_SOURCE: the uploaded folder templates/visa-base/first-boot.
set -euo pipefail

source_dir=${VISA_FIRST_BOOT_SOURCE:?the folder with the files of the first boot}
export DEBIAN_FRONTEND=noninteractive

if ! command -v jq >/dev/null || ! command -v openssl >/dev/null; then
    apt-cache show jq >/dev/null 2>&1 || apt-get update --quiet
    apt-get install --yes --quiet --no-install-recommends jq openssl
fi

install -d -m 0755 /usr/lib/visa /etc/visa
install -m 0755 "$source_dir/setup-owner" "$source_dir/wait-for-owner" /usr/lib/visa/
install -m 0644 "$source_dir/metadata.sh" /usr/lib/visa/
install -m 0644 "$source_dir/owner.conf" /etc/visa/
install -m 0644 "$source_dir/visa-owner.service" "$source_dir/visa-owner.target" /etc/systemd/system/
# The owner is the only account: cloud-init's own default user would take the first uid and sudo
# without a password. User data that name users still win.
cat >/etc/cloud/cloud.cfg.d/91-visa-users.cfg <<'CONF'
users: []
CONF
systemctl enable visa-owner.service
