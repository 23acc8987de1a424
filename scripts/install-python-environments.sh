#!/bin/bash
# Makes Python environments of exactly the wheels that lock files name by hash, side by side, and
# compiles them: users cannot write to them, so what is not compiled here is compiled at every start.
#
#   ENVIRONMENTS   PREFIX=LOCK, separated by blanks: the environment's folder and its lock file in
#                  the guest (made by scripts/lock-python.sh, removed afterwards)
set -euo pipefail

: "${ENVIRONMENTS:?}"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pip out of Debian's own wheel, once for all: putting it into each environment first takes longer
# than all that it then installs. Unpacked, because Python compiles what it finds in an archive anew
# at every run.
wheel=$(find /usr/share/python-wheels -name 'pip-*.whl' -print -quit)
if [[ -z $wheel ]]; then
    echo "install-python-environments: no pip in /usr/share/python-wheels (package python3-venv)" >&2
    exit 1
fi
python3 -m zipfile -e "$wheel" "$work/pip"
python3 -m compileall -q "$work/pip"

make_environment() {
    local prefix=$1 lock=$2
    local -a pip=(env "PYTHONPATH=$work/pip" "$prefix/bin/python" -m pip --no-input --disable-pip-version-check)

    rm -rf "$prefix"
    python3 -m venv --without-pip "$prefix"
    "${pip[@]}" install --quiet --no-cache-dir --no-compile --progress-bar off --root-user-action ignore \
        --no-deps --require-hashes --only-binary :all: --requirement "$lock"
    # Every requirement of every package is met: the lock file is complete.
    "${pip[@]}" check
    # Tests are never imported.
    "$prefix/bin/python" -W ignore -m compileall -q -x '/tests?/' "$prefix/lib"
    du -sh "$prefix"
}

declare -A jobs=()
for environment in $ENVIRONMENTS; do
    make_environment "${environment%%=*}" "${environment#*=}" &
    jobs[$environment]=$!
done

failed=()
for environment in "${!jobs[@]}"; do
    wait "${jobs[$environment]}" || failed+=("${environment%%=*}")
done
if [[ ${#failed[@]} -gt 0 ]]; then
    echo "install-python-environments: not installed: ${failed[*]}" >&2
    exit 1
fi
for environment in $ENVIRONMENTS; do
    rm -f "${environment#*=}"
done
