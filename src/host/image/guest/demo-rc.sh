#!/bin/sh
# Run once by init on the demo's disk: network, redis and a web server.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
hostname lockstep

option() {
  for word in $(cat /proc/cmdline); do
    case $word in "$1"=*) echo "${word#*=}"; return ;; esac
  done
  echo "$2"
}

ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
  ip address add "$(option lockstep.address 10.0.2.15/24)" dev eth0
  ip link set eth0 up
  ip route add default via "$(option lockstep.gateway 10.0.2.2)"
fi

redis-server /etc/redis.conf >/run/redis.log 2>&1 &
httpd -h /srv/www
until [ "$(redis-cli ping 2>/dev/null)" = PONG ]; do sleep 0.2; done
echo 'LOCKSTEP-GUEST-READY'
