expect busybox-sha256 \
  67d4ff71d43921d5739f387da09746f405e425b07d727e4c69d029461d1f051f \
  "$(seq 1 1000 | sha256sum | cut -d' ' -f1)"
expect busybox-gzip "$(seq 1 500 | md5sum)" "$(seq 1 500 | gzip -9 | gunzip | md5sum)"
expect busybox-awk '0.1428571429 333.333 -0.75' \
  "$(awk 'BEGIN { printf "%.10f %g %s\n", 1 / 7, 1000 / 3, 0.25 - 1 }')"
expect busybox-bc 1267650600228229401496703205376 "$(echo '2^100' | bc)"
expect busybox-sort '1 2 10 33 200' "$(echo $(printf '33\n10\n2\n200\n1\n' | sort -n))"
expect busybox-sed 'the lazy fox' "$(echo 'the quick fox' | sed 's/q[a-z]*/lazy/')"
expect busybox-shell 5050 "$(total=0; i=0; while [ $i -lt 100 ]; do i=$((i + 1)); total=$((total + i)); done; echo $total)"
