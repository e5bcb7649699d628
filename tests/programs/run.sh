# Runs every program of $1/tmp/programs (one folder each: command, seconds) in the root $1 and shows what it said
# between two marked lines. The same in a guest and in a chroot on the host.
export HOME=/root LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
for folder in "$1"/tmp/programs/*/; do
  [ -e "$folder/command" ] || continue
  name=$(basename "$folder")
  echo "LOCKSTEP-PROGRAM begin ${name#*-}"
  chroot "${1:-/}" sh -c "cd /tmp/programs && timeout $(cat "$folder/seconds") sh /tmp/programs/$name/command" \
    >"$1/tmp/output" 2>&1 </dev/null
  status=$?
  tail -c 6000 "$1/tmp/output"
  echo
  echo "LOCKSTEP-PROGRAM end ${name#*-} $status $(cut -d' ' -f1 /proc/uptime)"
done
