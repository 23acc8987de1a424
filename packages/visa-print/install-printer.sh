#!/bin/bash
# Installs CUPS with the printer VISA, which is the default: its backend and its PPD are among the package's files.
set -euo pipefail

fail() {
    echo "install-printer: $*" >&2
    exit 1
}

export DEBIAN_FRONTEND=noninteractive
apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 cups cups-client curl
apt-get clean

# lpadmin speaks with a scheduler that runs; a policy of the build may have kept it from starting.
systemctl enable --now cups.service
ready() { lpstat -r 2>/dev/null | grep -q 'is running'; }
for ((tries = 0; tries < 60; tries++)); do
    ready && break
    sleep 0.5
done
ready || fail "CUPS's scheduler does not start: $(systemctl status --no-pager cups.service 2>&1 | tail -n 5)"

# A job that nobody takes, because no browser is connected, must not stop the queue for the next one.
lpadmin -p VISA -E -v visa:/queue -m visa.ppd -D "Printer of the VISA user" -L "your browser" \
    -o printer-is-shared=false -o printer-error-policy=abort-job
lpadmin -d VISA
lpstat -p VISA -v VISA

# Stopping writes what the scheduler has in memory.
systemctl stop cups.path cups.socket cups.service
grep -q '^<DefaultPrinter VISA>' /etc/cups/printers.conf || fail "the printer is not in /etc/cups/printers.conf"
[[ -s /etc/cups/ppd/VISA.ppd ]] || fail "the printer has no PPD"
