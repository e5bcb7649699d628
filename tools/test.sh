#!/usr/bin/env bash
# npm test: set-up, build, format and lint, then every test. The last line counts them.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash tools/setup.sh || exit 2
checks_failed=0

echo "== build (tsc -b)"
npx --no-install tsc -b || checks_failed=$((checks_failed + 1))
echo "== format and lint (biome check)"
npx --no-install biome check . --diagnostic-level=error || checks_failed=$((checks_failed + 1))

echo "== guest images"
node dist/tools/image.js boot check demo programs generic > /dev/null || echo "tests that boot Debian will fail or be skipped"

echo "== tests (vitest)"
counts=.cache/test-counts.json
mkdir -p .cache
rm -f "$counts"
npx --no-install vitest run --reporter=default --reporter=./tools/count-reporter.ts "$@"
status=$?

node -e '
  const { existsSync, readFileSync } = require("node:fs");
  const [file, status, checksFailed] = process.argv.slice(1);
  const counts = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : { passed: 0, failed: 0, skipped: 0 };
  // A run that broke outside any test (a file that does not load, a crash) is a failure all the same.
  if (Number(status) !== 0 && counts.failed === 0) counts.failed = 1;
  counts.failed += Number(checksFailed);
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  process.exit(counts.failed === 0 ? 0 : 1);
' "$counts" "$status" "$checks_failed"
