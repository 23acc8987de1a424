#!/bin/bash
# Runs the bash script on standard input in the root of a qcow2's file system, without booting it. Runs as
# root of mount and process name spaces of its own.
#   in-image.sh IMAGE FOLDER read|write
set -euo pipefail

raw=$2/disk.raw
root=$2/root
: >"$raw"
mkdir -p "$root"
case $3 in
  read) read_only=true writable=false options=ro,noload,loop ;;
  write) read_only=false writable=true options=loop ;;
esac
file='{"driver":"file","filename":"'$1'","read-only":'$read_only'}'
node='{"driver":"qcow2","node-name":"disk","read-only":'$read_only',"file":'$file'}'
export='{"type":"fuse","id":"disk","node-name":"disk","mountpoint":"'$raw'","writable":'$writable',"allow-other":"off"}'
qemu-storage-daemon --blockdev "$node" --export "$export" --pidfile "$2/pid" &
daemon=$!
# The daemon writes its number once the export is there.
until [[ -s $2/pid ]]; do
  kill -0 "$daemon"
done
# Root is the third partition of the disks that the bootstrap makes, behind 102 MiB.
mount -o "$options,offset=106954752" "$raw" "$root"
cd "$root"
bash -euo pipefail -s
cd /
umount "$root"
kill "$daemon"
wait "$daemon" || true
