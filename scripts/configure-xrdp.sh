#!/bin/bash
# Finishes xrdp: TLS with a key that only its group may read, both services enabled, and checks that
# a site's own settings left what VISA relies on. The settings are in the template's files/etc/xrdp.
set -euo pipefail

fail() {
    echo "configure-xrdp: $*" >&2
    exit 1
}

adduser --quiet xrdp ssl-cert
rm -f /etc/xrdp/cert.pem /etc/xrdp/key.pem
/usr/lib/visa/make-xrdp-keys
systemctl enable xrdp.service xrdp-sesman.service

if ! grep -Eiq '^AllowRootLogin *= *(false|0|no)' /etc/xrdp/sesman.ini; then
    fail "/etc/xrdp/sesman.ini lets root sign in"
fi
first=$(sed -n 's/^\[\(.*\)\]$/\1/p' /etc/xrdp/xrdp.ini | grep -Evx 'Globals|Logging|LoggingPerLogger|Channels' | head -n 1)
[[ $first == Xorg ]] || fail "the first session of /etc/xrdp/xrdp.ini is '$first', not Xorg"
server=$(sed -n '/^\[Xorg\]/,/^\[/s/^param=\(\/.*\)/\1/p' /etc/xrdp/sesman.ini | head -n 1)
[[ -x $server && ! -u $server ]] || fail "the X server '$server' of /etc/xrdp/sesman.ini is not a plain program"
[[ -e /usr/lib/xorg/modules/drivers/xrdpdev_drv.so ]] || fail "xorgxrdp's driver is missing"
runuser -u xrdp -- test -r /etc/xrdp/key.pem || fail "the account xrdp cannot read /etc/xrdp/key.pem"
