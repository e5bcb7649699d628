#!/bin/sh
# Run once by init on the disk of `npm run bench -- paper`: network, a database and a server.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm
chmod 1777 /tmp
hostname lockstep
ip link set lo up
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2

pg=/usr/lib/postgresql/15/bin
as_postgres() { busybox su -s /bin/sh postgres -c "export PGDATA=/var/pg/data PGHOST=/tmp; cd /tmp; $1"; }
mkdir -p /var/pg && chown postgres: /var/pg
[ -d /var/pg/data ] || as_postgres "$pg/initdb --no-sync --no-locale -E UTF8 -A trust" >/run/initdb.log 2>&1 || cat /run/initdb.log
as_postgres "$pg/pg_ctl -s -w -t 600 -l /tmp/pg.log -o '-c listen_addresses= -c unix_socket_directories=/tmp -c autovacuum=off -c checkpoint_timeout=1h' start" || cat /tmp/pg.log
as_postgres "$pg/pgbench -q -i -s 1 postgres" >/run/pgbench.log 2>&1 || cat /run/pgbench.log

python3 /paper/server.py &
until grep -q ':0050 ' /proc/net/tcp; do sleep 0.2; done
echo 'LOCKSTEP-GUEST-READY'
