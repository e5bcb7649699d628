#!/bin/sh
# The guest of the benchmark `network`: its interface, its server, nothing else.
. /init-common.sh
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
/network-server &
sleep 1
echo 'LOCKSTEP-GUEST-READY'
while :; do sleep 1000; done
