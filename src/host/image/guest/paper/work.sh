#!/bin/sh
# work.sh compile N MARK | database N MARK: so much work, then MARK and what came of it in one line.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
pg=/usr/lib/postgresql/15/bin
as_postgres() { busybox su -s /bin/sh postgres -c "export PGHOST=/tmp; cd /tmp; $1"; }
case $1 in
compile)
  # As make does it: a compiler for each file, then a link; the program made says whether it is right.
  rm -rf /tmp/build && mkdir /tmp/build && cd /tmp/build || exit 1
  for round in $(seq "$2"); do
    for part in /paper/parts/*.c; do gcc -O2 -c "$part" -o "$(basename "$part" .c).o" || exit 1; done
    gcc ./*.o -o program || exit 1
  done
  result=$(./program)
  ;;
database)
  done=$(as_postgres "$pg/pgbench -n -b simple-update -c 8 -t $2 postgres 2>&1" |
    sed -n 's/^number of transactions actually processed: //p')
  # Every transaction changed an account and wrote its history, or did neither.
  sums=$(as_postgres "$pg/psql -X -A -t -d postgres -c 'select (select sum(abalance) from pgbench_accounts) =
    (select coalesce(sum(delta), 0) from pgbench_history)'")
  result="$done $sums"
  ;;
esac
echo "$3: $result"
