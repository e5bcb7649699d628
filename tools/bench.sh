#!/usr/bin/env bash
# npm run bench -- NAME: set-up and build, then one benchmark. Only its own words go to standard output.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup.sh
npx --no-install tsc -b >&2
exec node dist/bench/main.js "$@"
