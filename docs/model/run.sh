#!/bin/sh
# Checks the models with spin and gcc and prints a table: what was run, its states, memory, time, and what came out.
#
#   run.sh quick          what runs in seconds (part of the tests)
#   run.sh full           everything; one run takes at most ten minutes and MEMORY megabytes (3,000 unless set)
#   run.sh NAME...        these, by their names in configurations.txt
#   run.sh trail NAME     the counterexample of a mutant, step by step
#
# Ends with 1 if a configuration does not come out as configurations.txt says.
set -u
here=$(cd "$(dirname "$0")" && pwd)
memory=${MEMORY:-3000}
work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
trail=no
if [ "${1-}" = trail ]; then trail=yes; shift; fi
if [ $# -eq 0 ]; then sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2; fi
bad=0

# The property that a failed assertion belongs to: its label's number stands in it (ft.pml, CHECK).
broken() {
  case $1 in
    *'(1001==0)'*) echo S1 ;; *'(1002==0)'*) echo S2 ;; *'(1003==0)'*) echo S3 ;; *'(1004==0)'*) echo S4 ;;
    *'(1005==0)'*) echo S5 ;; *'(1006==0)'*) echo S6 ;; *'(2001==0)'*) echo L1 ;; *'(2002==0)'*) echo L2 ;; *) echo unknown ;;
  esac
}

check() { # name file expect spin-defines pan-defines
  cd "$work" && rm -f pan* ./*.trail && cp "$here"/*.pml . || exit 2
  # -O0: compiling a mutant takes longer than checking it.
  optimize=-O2; case $1 in [A-Z]*) optimize=-O0 ;; esac
  # NOREDUCE: guards are C, which partial order reduction does not see.
  # shellcheck disable=SC2046,SC2086 # the defines are several words
  spin -a $(echo "$4" | tr , ' ' | sed 's/^-$//') "$2" >spin.log 2>&1 &&
    gcc $optimize -w -DSAFETY -DNOREDUCE -DNOFAIR -DVECTORSZ=2048 -DMEMLIM="$memory" \
      $(echo "$5" | tr , ' ' | sed 's/^-$//') -o pan pan.c || { cat spin.log; exit 2; }
  timeout 600 ./pan -m200000 -w22 >out 2>&1
  status=$?
  states=$(awk '/states, stored/ {print $1}' out)
  megabytes=$(awk '/total actual memory usage/ {print $1}' out)
  seconds=$(awk '/elapsed time/ {print $4}' out)
  failed=$(grep -m1 'assertion violated (' out)
  if [ -n "$failed" ]; then result=$(broken "$failed")
  elif [ $status -eq 0 ] && grep -q 'errors: 0' out && ! grep -qE 'reached -DMEMLIM|max search depth|out of memory' out
  then result=holds
  else result=incomplete; fi
  case ",$3," in *",$result,"*) verdict= ;; *) verdict="expected $3"; bad=1 ;; esac
  printf '%-22s %-10s %-10s %12s %8s %8s  %s\n' "$1" "$2" "$result" "${states:--}" "${megabytes:--}" "${seconds:--}" "$verdict"
  if [ $trail = yes ] && ls ./*.trail >/dev/null 2>&1; then ./pan -r "$2.trail" | grep -vE '^MSC|^spin|^#'; fi
}

printf '%-22s %-10s %-10s %12s %8s %8s\n' name file result states MB seconds
for wanted in "$@"; do
  found=no
  while read -r name when file expect spin pan; do
    case $name in '' | '#'*) continue ;; esac
    case $wanted in full) ;; quick) [ "$when" = quick ] || continue ;; *) [ "$name" = "$wanted" ] || continue ;; esac
    found=yes
    check "$name" "$file" "$expect" "$spin" "$pan"
  done <"$here/configurations.txt"
  if [ $found = no ]; then echo "no configuration is named $wanted" >&2; exit 2; fi
done
exit $bad
