#!/bin/sh
# The first process of a guest's name spaces: prepares them, says which process it is and where its
# control group is, and waits for its standard input to close. Its argument is the name of the
# control group to make.
set -eu

# nspawn must see the interfaces of this network name space. Read-only also tells it that there is no udev here.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs /sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 /sys/fs/cgroup

# nspawn's locks and sockets go with the name space, and it does not ask the host's systemd.
if [ -d /run/systemd ]; then
  mount -t tmpfs -o mode=755 tmpfs /run/systemd
else
  mount -t tmpfs -o mode=755 tmpfs /run
fi

# Below the control group that visabuild runs in, whose limits stay in force.
parent=$(sed -n 's/^0:://p' /proc/self/cgroup)
parent=/sys/fs/cgroup${parent%/}
mkdir "$parent/$1"
echo "$$ $parent"
exec cat >/dev/null
