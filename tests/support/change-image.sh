#!/bin/bash
# Changes the files of a qcow2 without booting it: runs the bash script on standard input in the root
# of its file system. Runs as root of mount and process name spaces of its own.
#   change-image.sh IMAGE FOLDER
set -euo pipefail

raw=$2/disk.raw
root=$2/root
: >"$raw"
mkdir -p "$root"
node='{"driver":"qcow2","node-name":"disk","file":{"driver":"file","filename":"'$1'"}}'
export='{"type":"fuse","id":"disk","node-name":"disk","mountpoint":"'$raw'","writable":true,"allow-other":"off"}'
qemu-storage-daemon --blockdev "$node" --export "$export" --pidfile "$2/pid" &
daemon=$!
# The daemon writes its number once the export is there.
until [[ -s $2/pid ]]; do
  kill -0 "$daemon"
done
# Root is the third partition of the disks that the bootstrap makes, behind 102 MiB.
mount -o loop,offset=106954752 "$raw" "$root"
cd "$root"
bash -euo pipefail -s
cd /
umount "$root"
kill "$daemon"
wait "$daemon" || true
