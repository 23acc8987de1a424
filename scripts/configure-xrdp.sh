#!/bin/bash
# Finishes xrdp: TLS with a key that only its group may read, both services enabled, and the
# settings that VISA relies on checked as xrdp itself reads them. The settings are in the
# template's files/etc/xrdp.
set -euo pipefail

fail() {
    echo "configure-xrdp: $*" >&2
    exit 1
}

adduser --quiet xrdp ssl-cert
ln -sf /etc/ssl/certs/ssl-cert-snakeoil.pem /etc/xrdp/cert.pem
ln -sf /etc/ssl/private/ssl-cert-snakeoil.key /etc/xrdp/key.pem
systemctl enable xrdp.service xrdp-sesman.service

sesman=$(xrdp-sesman --dump-config) || fail "xrdp-sesman cannot read /etc/xrdp/sesman.ini"
for setting in 'AllowRootLogin: *0' 'KillDisconnected: *0' 'IdleTimeLimit: *0' 'DisconnectedTimeLimit: *0'; do
    grep -Eq "$setting" <<<"$sesman" || fail "xrdp-sesman does not read '$setting' from /etc/xrdp/sesman.ini"
done

first=$(sed -n 's/^\[\(.*\)\]$/\1/p' /etc/xrdp/xrdp.ini | grep -Evx 'Globals|Logging|LoggingPerLogger|Channels' | head -n 1)
[[ $first == Xorg ]] || fail "the first session of /etc/xrdp/xrdp.ini is '$first', not Xorg"
server=$(sed -n '/^\[Xorg\]/,/^\[/s/^param=\(\/.*\)/\1/p' /etc/xrdp/sesman.ini | head -n 1)
[[ -x $server && ! -u $server ]] || fail "the X server '$server' of /etc/xrdp/sesman.ini is not a plain program"
compgen -G '/usr/lib/xorg/modules/drivers/xrdpdev_drv.so' >/dev/null || fail "xorgxrdp's driver is missing"
runuser -u xrdp -- test -r /etc/xrdp/key.pem || fail "the account xrdp cannot read /etc/xrdp/key.pem"
