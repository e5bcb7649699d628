#!/bin/sh
# Mounts the disk and hands over to the init of the Debian on it.
. /init-common.sh
mount -t ext4 -o errors=remount-ro /dev/vda /root || {
  echo 'LOCKSTEP-GUEST cannot mount /dev/vda'
  exec setsid cttyhack sh
}
umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root /sbin/init
