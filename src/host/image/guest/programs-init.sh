#!/bin/sh
# Runs the programs that a second archive brought to /programs (one folder each: command, seconds), on the disk when
# there is one, and shows what each said between two marked lines; then powers off. Who started the guest judges.
. /init-common.sh

echo "LOCKSTEP-BOOT-READY $(uname -sr)"
if [ -e /dev/vda ]; then
  mount -t ext4 /dev/vda /root || { echo 'LOCKSTEP-GUEST cannot mount /dev/vda'; poweroff -f; }
  mount -t proc proc /root/proc
  mount -t sysfs sys /root/sys
  mount -o bind /dev /root/dev
  mount -t tmpfs tmp /root/tmp
  mount -t tmpfs run /root/run
  if [ -d /root/i386 ]; then
    mount -t proc proc /root/i386/proc
    mount -o bind /dev /root/i386/dev
    mount -o bind /root/tmp /root/i386/tmp
  fi
  [ -d /programs ] && cp -r /programs /root/tmp/programs
  root=/root
else
  [ -d /programs ] && cp -r /programs /tmp/programs
  root=/
fi
ip link set lo up
export HOME=/root LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

for folder in $root/tmp/programs/*/; do
  [ -e "$folder/command" ] || continue
  name=$(basename "$folder")
  echo "LOCKSTEP-PROGRAM begin ${name#*-}"
  chroot $root sh -c "cd /tmp/programs && timeout $(cat "$folder/seconds") sh /tmp/programs/$name/command" \
    >/output 2>&1 </dev/null
  status=$?
  tail -c 6000 /output
  echo
  echo "LOCKSTEP-PROGRAM end ${name#*-} $status $(cut -d' ' -f1 /proc/uptime)"
done
echo 'LOCKSTEP-PROGRAMS over'
[ "$(option lockstep.shell 0)" = 1 ] && setsid cttyhack chroot $root /bin/sh
umount -a -r 2>/dev/null
poweroff -f
