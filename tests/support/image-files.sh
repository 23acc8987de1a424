#!/bin/sh
# Lists the files of an image: path, type, mode, owner and a link's target; then the sums of their
# content; then file capabilities. Runs as root of mount and process name spaces of its own.
#   image-files.sh IMAGE FOLDER
set -eu

raw=$2/disk.raw
root=$2/root
: >"$raw"
mkdir -p "$root"
node='{"driver":"qcow2","node-name":"disk","read-only":true,"file":{"driver":"file","filename":"'$1'","read-only":true}}'
export='{"type":"fuse","id":"disk","node-name":"disk","mountpoint":"'$raw'","writable":false,"allow-other":"off"}'
qemu-storage-daemon --blockdev "$node" --export "$export" --pidfile "$2/pid" &
daemon=$!
# The daemon writes its number once the export is there.
until [ -s "$2/pid" ]; do
  kill -0 "$daemon"
done
# Root is the third partition of the disks that the bootstrap makes, behind 102 MiB.
mount -o ro,noload,loop,offset=106954752 "$raw" "$root"
cd "$root"
find . -xdev -printf '%P\t%y\t%m\t%U:%G\t%l\n'
find . -xdev -type f -print0 | xargs -0 sha256sum -b | sed -E 's/^(\S+) \*\.\/(.*)/\2\tsum\t\1/'
getcap -r . 2>/dev/null | sed -E 's/^\.\/(\S+) (.*)/\1\tcapability\t\2/' || true
cd /
umount "$root"
kill "$daemon"
wait "$daemon" || true
