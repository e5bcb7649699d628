ip link set lo up
redis-server --port 6379 --save '' --appendonly no --daemonize no --loglevel warning >/redis.log 2>&1 &
redis_process=$!
tries=0
until [ "$(redis-cli ping 2>/dev/null)" = PONG ]; do
  tries=$((tries + 1))
  [ $tries -gt 100 ] && break
  sleep 0.2
done
expect redis-ping PONG "$(redis-cli ping)"
expect redis-incr '1 2 42' "$(echo $(printf 'INCR a\nINCR a\nINCRBY a 40\n' | redis-cli))"
expect redis-float 0.30000000000000004 "$(redis-cli eval 'return string.format("%.17g", 0.1 + 0.2)' 0)"
redis-benchmark -n 500 -c 5 -t set,incr,lpush -q | tr '\r' '\n' | grep 'requests per second'
expect redis-benchmark '500 500' \
  "$(echo $(redis-cli get 'counter:__rand_int__') $(redis-cli llen mylist))"
redis-cli shutdown nosave
wait $redis_process
