#!/bin/bash
# Installs Debian packages in one transaction, without their recommendations.
#
#   PACKAGES   names, separated by white space
#   EXTRA      the site's own additions, in the same form; may be empty
set -euo pipefail

: "${PACKAGES:?}"
read -r -d '' -a packages <<<"$PACKAGES ${EXTRA:-}" || true

# Indexes are kept between the templates of a chain; only old ones are fetched again.
if [[ -z $(find /var/lib/apt/lists -maxdepth 1 -name '*Release' -mmin -360 -print -quit) ]]; then
    apt-get update -q -o Acquire::Languages=none
fi
apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 "${packages[@]}"

# The image must not depend on the mirror answering later on.
apt-get clean

for package in "${packages[@]}"; do
    # A name may carry a version or a suite.
    name=${package%%[=/]*}
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) != installed ]]; then
        echo "$0: $name is not installed" >&2
        exit 1
    fi
done
echo "Installed: $(dpkg-query -W | wc -l) packages in the image now."
