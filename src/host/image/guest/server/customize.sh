#!/bin/sh
# Run by mmdebstrap on the host, with the new root's folder as $1, when its packages are installed and the
# template's files are in place.
set -e
root=$1
in_root() { chroot "$root" "$@"; }

release=$(ls "$root/usr/lib/modules")
in_root depmod "$release"

# What must differ from guest to guest is made by its first boot.
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id" "$root/var/lib/systemd/random-seed"

in_root systemctl --quiet enable systemd-networkd.service systemd-network-generator.service ssh-host-key.service
# A guest that fetches package lists by itself, at a random hour, is no server template.
in_root systemctl --quiet disable apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer
in_root systemctl --quiet disable e2scrub_all.timer e2scrub_reap.service fstrim.timer
# What came from the builder's cache has the builder as its owner.
chown -R 0:0 "$root/var/cache/apt/archives"
chmod 700 "$root/root"
[ ! -d "$root/root/.ssh" ] || chmod 700 "$root/root/.ssh"
# Caches of /usr are as new as it is: the first boot need not make them again [systemd-update-done.service(8)].
touch "$root/etc/.updated" "$root/var/.updated"
