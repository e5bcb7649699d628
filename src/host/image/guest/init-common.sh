# Sourced by every /init: what a kernel needs before anything else can run.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null

# The value of name=value on the kernel's command line, or the second argument.
option() {
  for word in $(cat /proc/cmdline); do
    case $word in "$1"=*) echo "${word#*=}"; return ;; esac
  done
  echo "$2"
}

# /modules lists what every boot loads, in order; lockstep.modules= names further ones.
for module in $(cat /modules/order) $(option lockstep.modules '' | tr , ' '); do
  insmod "/modules/$module.ko" || echo "LOCKSTEP-GUEST cannot load $module"
done
