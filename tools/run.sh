#!/usr/bin/env bash
# All set-up, then one program of this checkout: tools/run.sh tools/demo.js [arguments].
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup.sh
npx --no-install tsc -b >&2
exec node "dist/$1" "${@:2}"
