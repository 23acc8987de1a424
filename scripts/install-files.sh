#!/bin/bash
# Puts a tree of uploaded files in its place and removes the upload. Owner and modes are set here:
# they do not depend on the checkout that the files came from.
#
#   FILES   folder in the guest that mirrors the root folder
set -euo pipefail

: "${FILES:?}"
cd "$FILES"
find . -type f -print0 | while IFS= read -r -d '' file; do
    mode=0644
    if [[ -x $file ]]; then
        mode=0755
    fi
    install -D -o root -g root -m "$mode" "$file" "/$file"
    echo "${file#.}"
done
cd /
rm -rf "$FILES"
