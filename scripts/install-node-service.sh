#!/bin/bash
# Installs a server out of an npm package into a folder of its own, proves that it refuses whoever has not its token,
# and enables its unit, which is among the package's files. Node.js stays, npm does not.
#
#   PACKAGE    what npm is to install: NAME@VERSION, an archive's URL, a git URL, or an archive (.tgz) of the project,
#              which has been uploaded to /tmp, where this script lies otherwise
#   VARIABLE   the variable that PACKAGE comes from
#   PREFIX     folder in the image
#   PROGRAM    the package's program
#   SETTINGS   what the server's variables begin with: SETTINGS_HOST, SETTINGS_PORT, SETTINGS_AUTH_TOKEN
#   REQUEST    method and path of a request that needs the token and changes nothing
#   UNIT       its unit
set -euo pipefail

: "${PACKAGE:?}" "${VARIABLE:?}" "${PREFIX:?}" "${PROGRAM:?}" "${SETTINGS:?}" "${REQUEST:?}" "${UNIT:?}"
export DEBIAN_FRONTEND=noninteractive

fail() {
    echo "install-node-service: $*" >&2
    exit 1
}

installed_packages() {
    dpkg-query --show --showformat='${db:Status-Abbrev}${binary:Package}\n' | sed -n 's/^ii *//p' | LC_ALL=C sort
}

apt_install() {
    apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "$@"
}

[[ -x /usr/lib/visa/wait-for-owner ]] ||
    fail "no /usr/lib/visa/wait-for-owner: name this package in a template that is visa-base or extends it"

work=$(mktemp -d)
trap 'rm -rf "$work" /tmp/install-node-service.sh' EXIT

spec=$PACKAGE
needed=(npm curl)
# Only what is fetched by git is built here; scripts of the archives are not run.
scripts=(--ignore-scripts)
case $PACKAGE in
git[+:]* | *.git | *.git#*)
    needed+=(git)
    scripts=()
    ;;
*://*) ;;
*.tgz) spec=/tmp/${PACKAGE##*/} ;;
esac
if [[ $spec == /tmp/* ]]; then
    mv "$spec" "$work/"
    spec=$work/${spec##*/}
fi

if [[ -z $(find /var/lib/apt/lists -maxdepth 1 -name '*Release' -mmin -360 -print -quit) ]]; then
    apt-get update -q -o Acquire::Languages=none
fi
apt_install nodejs
# What this script adds from here on, it takes away again.
installed_packages >"$work/before"
apt_install "${needed[@]}"

rm -rf "$PREFIX"
if ! npm install --global --prefix "$PREFIX" --cache "$work/npm" --omit=dev "${scripts[@]}" \
    --no-audit --no-fund --no-update-notifier "$spec"; then
    fail "npm cannot install $PACKAGE, for the reason above. If the registry does not have it, set $VARIABLE to what" \
        "npm can install: NAME@VERSION, an archive's URL, a git URL, or an archive in the project (npm pack makes one)"
fi
[[ -x $PREFIX/bin/$PROGRAM ]] || fail "$PACKAGE has no program $PROGRAM: it is not the package that $VARIABLE stands for"
# Where the packages came from is the build's business.
rm -f "$PREFIX/lib/node_modules/.package-lock.json"
chown -R root:root "$PREFIX"
chmod -R u=rwX,go=rX "$PREFIX"

# Prints the status of an answer, 000 without one. The argument is a line of curl's configuration.
status_of() {
    curl --silent --output /dev/null --write-out '%{http_code}' --max-time 10 --noproxy '*' --request "${REQUEST%% *}" \
        --config - "http://127.0.0.1:$port${REQUEST#* }" <<<"$1" || true
}

check_token() {
    local token port=18090 server status answers tries
    token=$(</proc/sys/kernel/random/uuid)
    install -d -o nobody -g nogroup "$work/home"
    chmod 0755 "$work"
    env --chdir=/ HOME="$work/home" NODE_ENV=production \
        "${SETTINGS}_HOST=127.0.0.1" "${SETTINGS}_PORT=$port" "${SETTINGS}_AUTH_TOKEN=$token" \
        setpriv --reuid nobody --regid nogroup --clear-groups "$PREFIX/bin/$PROGRAM" >"$work/server.log" 2>&1 &
    server=$!
    for ((tries = 0; tries < 60; tries++)); do
        status=$(status_of "")
        if [[ $status != 000 ]] || ! kill -0 "$server" 2>/dev/null; then
            break
        fi
        sleep 0.5
    done
    answers="$status $(status_of 'header = "x-auth-token: wrong"') $(status_of "header = \"x-auth-token: $token\"")"
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    case $answers in
    40[13]\ 40[13]\ 40[13]) ;;
    40[13]\ 40[13]\ [2-4]*)
        echo "$PROGRAM answers $answers without, with a wrong, and with its token."
        return
        ;;
    esac
    sed 's/^/  /' "$work/server.log" >&2
    fail "$PROGRAM answers $answers to $REQUEST without, with a wrong, and with its token; it said what stands above"
}
check_token

installed_packages >"$work/after"
mapfile -t added < <(LC_ALL=C comm -13 "$work/before" "$work/after")
# dpkg, unlike apt, refuses rather than removes anything that is not in the list.
if ((${#added[@]} > 0)); then
    dpkg --purge --force-unsafe-io "${added[@]}"
fi
apt-get clean

# It still starts, and the unit is one.
node --version
systemctl enable "$UNIT"
systemd-analyze verify "/etc/systemd/system/$UNIT"
du -sh "$PREFIX"
