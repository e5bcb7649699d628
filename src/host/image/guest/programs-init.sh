#!/bin/sh
# Runs what a second archive brought to /programs, on the disk when there is one: its run.sh, with the root where the
# programs are. Then powers off. Who started the guest judges what the console shows.
. /init-common.sh

echo "LOCKSTEP-BOOT-READY $(uname -sr)"
root=
if [ -e /dev/vda ]; then
  root=/root
  mount -t ext4 /dev/vda $root || { echo 'LOCKSTEP-GUEST cannot mount /dev/vda'; poweroff -f; }
  mount -t proc proc $root/proc
  mount -t sysfs sys $root/sys
  mount -o bind /dev $root/dev
  mount -t tmpfs tmp $root/tmp
  mount -t tmpfs run $root/run
  if [ -d $root/i386 ]; then
    mount -t proc proc $root/i386/proc
    mount -o bind /dev $root/i386/dev
    mount -o bind $root/tmp $root/i386/tmp
  fi
fi
chmod 1777 $root/tmp
ip link set lo up
[ -d /programs ] && mv /programs $root/tmp/programs && sh $root/tmp/programs/run.sh $root
echo 'LOCKSTEP-PROGRAMS over'
[ "$(option lockstep.shell 0)" = 1 ] && setsid cttyhack chroot ${root:-/} /bin/sh
umount -a -r 2>/dev/null
poweroff -f
