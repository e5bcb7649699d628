#!/usr/bin/env bash
# npm run demo: all set-up, then two hosts, a Debian guest and clients; kills the primary. See tools/demo.ts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup.sh
npx --no-install tsc -b >&2
exec node dist/tools/demo.js "$@"
