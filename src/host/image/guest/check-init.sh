#!/bin/sh
# Runs real programs and compares what they say with what they must say; then powers off.
# lockstep.check= names the checks to run, all by default.
. /init-common.sh

echo "LOCKSTEP-BOOT-READY $(uname -sr)"
failures=0

# expect NAME EXPECTED ACTUAL
expect() {
  if [ "$2" = "$3" ]; then
    echo "LOCKSTEP-CHECK $1 ok"
  else
    echo "LOCKSTEP-CHECK $1 failed: expected '$2', got '$3'"
    failures=$((failures + 1))
  fi
}

for check in $(option lockstep.check busybox,python,redis | tr , ' '); do
  echo "LOCKSTEP-CHECK begin $check"
  . "/checks/$check.sh"
  echo "LOCKSTEP-CHECK end $check"
done

if [ "$failures" = 0 ]; then echo 'LOCKSTEP-CHECK all ok'; else echo "LOCKSTEP-CHECK $failures failed"; fi
[ "$(option lockstep.shell 0)" = 1 ] && setsid cttyhack sh
poweroff -f
