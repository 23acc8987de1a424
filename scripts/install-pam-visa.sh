#!/bin/bash
# Compiles the VISA PAM module in the guest and makes it the only way into an xrdp session.
# Runs as root. VISA_PAM_SOURCE: the uploaded folder templates/visa-base/pam_visa.
set -euo pipefail

source_dir=${VISA_PAM_SOURCE:?the folder with the sources of pam_visa}
build_dir=$(mktemp -d)
trap 'rm -rf "$build_dir"' EXIT
export DEBIAN_FRONTEND=noninteractive

installed_packages() {
    dpkg-query --show --showformat='${db:Status-Abbrev}${binary:Package}\n' | sed -n 's/^ii *//p' | LC_ALL=C sort
}

# Compiler and headers are needed for some seconds only: what this script adds, it takes away again.
installed_packages >"$build_dir/before"
needed=(gcc libc6-dev libpam0g-dev libssl-dev make)
if ! apt-cache show "${needed[@]}" >/dev/null 2>&1; then
    apt-get update --quiet
fi
# The disk is thrown away if the build fails, so dpkg need not sync after each file.
apt-get install --yes --quiet --no-install-recommends -o Dpkg::Options::=--force-unsafe-io "${needed[@]}"

make --silent --directory="$build_dir" --file="$source_dir/Makefile" install
install -d -m 0755 /etc/visa

installed_packages >"$build_dir/after"
mapfile -t added < <(LC_ALL=C comm -13 "$build_dir/before" "$build_dir/after")
# dpkg, unlike apt, refuses rather than removes anything that is not in the list.
if ((${#added[@]} > 0)); then
    dpkg --purge --force-unsafe-io "${added[@]}"
fi

# Now, without the headers, the module must find everything it needs. ldd says so in words, not in its status.
module=$(find /usr/lib -path '*/security/pam_visa.so' -print -quit)
links=$(ldd -r "${module:?pam_visa.so was not installed}" 2>&1)
if grep -E 'undefined symbol|not found' <<<"$links"; then
    echo "install-pam-visa: $module does not load" >&2
    exit 1
fi

# The file belongs to the xrdp package, as a conffile. The diversion sends the package's own version, now and at
# every upgrade, to another name, so that dpkg neither asks about ours nor replaces it; it may stand before xrdp comes.
install -d -m 0755 /etc/xrdp
dpkg-divert --local --rename --divert /etc/xrdp/xrdp-sesman.pam.distrib --add /etc/pam.d/xrdp-sesman
install -D -m 0644 "$source_dir/xrdp-sesman.pam" /etc/pam.d/xrdp-sesman
