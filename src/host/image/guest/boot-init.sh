#!/bin/sh
# The smallest guest: says that userland is reached, then powers off (or gives a shell with lockstep.shell=1).
. /init-common.sh
echo "LOCKSTEP-BOOT-READY $(uname -sr)"
[ "$(option lockstep.shell 0)" = 1 ] && setsid cttyhack sh
poweroff -f
