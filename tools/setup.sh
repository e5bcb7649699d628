#!/usr/bin/env bash
# All set-up for tests, benchmarks and the demo. Installs only what is missing; safe to run at any time.
# Everything it says goes to standard error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' || {
  echo "setup: Node $(node -v 2>/dev/null || echo none) is too old; install Node 20.19 or newer" >&2
  exit 2
}

missing=()
while read -r package; do
  [[ -z $package || $package == \#* ]] && continue
  dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || missing+=("$package")
done < tools/packages.txt

if ((${#missing[@]})); then
  if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    echo "setup: installing ${missing[*]}" >&2
    export DEBIAN_FRONTEND=noninteractive
    {
      apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"
    } > /dev/null || echo "setup: some packages could not be installed; tests that need them are skipped" >&2
  else
    echo "setup: missing ${missing[*]}; tests that need them are skipped (sudo apt-get install ${missing[*]})" >&2
  fi
fi

if [[ ! -f node_modules/.package-lock.json || package-lock.json -nt node_modules/.package-lock.json ]]; then
  echo "setup: npm ci" >&2
  # A registry that has not every platform's optional package makes `npm ci` refuse a lock file that others take.
  npm ci --no-audit --no-fund --loglevel=error >&2 ||
    npm install --no-package-lock --no-audit --no-fund --loglevel=error >&2
  touch node_modules/.package-lock.json
fi
