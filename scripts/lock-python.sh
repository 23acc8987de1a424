#!/bin/bash
# Writes the lock file of a Python environment: every package that the requirements bring, at one
# version, with the SHA-256 of the one wheel that a guest installs.
#
#   scripts/lock-python.sh templates/visa-apps/jupyter.in templates/visa-apps/jupyter.lock
#
# Run it with the guest's own Python (Debian 13: Python 3.13, x86_64): markers and wheel tags are
# decided by the Python that runs pip. The index is the one that pip is configured for; no trace of
# it goes into the lock file.
set -euo pipefail

if [[ $# -ne 2 ]]; then
    echo "usage: $0 REQUIREMENTS LOCKFILE" >&2
    exit 2
fi
requirements=$1
lockfile=$2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    --dry-run --ignore-installed --only-binary :all: \
    --report "$work/report.json" --requirement "$requirements"

python3 - "$work/report.json" "$requirements" >"$work/lock" <<'PYTHON'
import json
import os
import re
import sys

report_path, requirements = sys.argv[1:]
with open(report_path, encoding="utf-8") as file:
    report = json.load(file)

environment = report["environment"]
print(f"# Made by scripts/lock-python.sh from {os.path.basename(requirements)} for Python "
      f"{environment['python_version']} on {environment['sys_platform']} {environment['platform_machine']}.")
packages = {}
for item in report["install"]:
    name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
    packages[name] = (item["metadata"]["version"], item["download_info"]["archive_info"]["hashes"]["sha256"])
for name, (version, sha256) in sorted(packages.items()):
    print(f"{name}=={version} --hash=sha256:{sha256}")
PYTHON

mv "$work/lock" "$lockfile"
chmod 0644 "$lockfile"
echo "$lockfile: $(grep -c -- --hash "$lockfile") packages"
