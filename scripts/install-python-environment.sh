#!/bin/bash
# Makes a Python environment of exactly the wheels that a lock file names by hash, and compiles it:
# users cannot write to it, so what is not compiled here is compiled in memory at every start.
#
#   PREFIX   folder of the environment
#   LOCK     lock file in the guest, made by scripts/lock-python.sh; removed afterwards
set -euo pipefail

: "${PREFIX:?}" "${LOCK:?}"

rm -rf "$PREFIX"
python3 -m venv --without-pip "$PREFIX"

# pip out of Debian's own wheel: installing it into the environment first would double the time.
wheel=$(find /usr/share/python-wheels -name 'pip-*.whl' | head -n 1)
if [[ -z $wheel ]]; then
    echo "install-python-environment: no pip in /usr/share/python-wheels (package python3-venv)" >&2
    exit 1
fi
PYTHONPATH=$wheel "$PREFIX/bin/python" -m pip install --quiet --no-input --disable-pip-version-check \
    --no-cache-dir --no-compile --progress-bar off --root-user-action ignore \
    --no-deps --require-hashes --only-binary :all: --requirement "$LOCK"
rm -f "$LOCK"

"$PREFIX/bin/python" -m compileall -q -j "$(nproc)" "$PREFIX/lib"

# Every requirement of every package is met: the lock file is complete.
PYTHONPATH=$wheel "$PREFIX/bin/python" -m pip check --disable-pip-version-check
du -sh "$PREFIX"
