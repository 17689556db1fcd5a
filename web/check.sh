#!/usr/bin/env bash
# Builds the page from its sources with the pinned packages, and compares it with the one that the program is made with.
# With `--write` it takes its place.
set -euo pipefail
cd "$(dirname "$0")"
if ! command -v npm >/dev/null; then
  echo "skipped: the web page cannot be built again without npm"
  exit 0
fi
npm ci --loglevel error --ignore-scripts >/dev/null
if [ "${1:-}" = --write ]; then
  npm run --silent build
  exit 0
fi
made=$(mktemp -d)
trap 'rm -r "$made"' EXIT
npx tsc --noEmit
npx vite build --logLevel warn --outDir "$made/page" --emptyOutDir
if ! diff -r "$made/page" ../crates/serve/page; then
  echo "crates/serve/page is not what web/ builds: web/check.sh --write"
  exit 1
fi
scripts=$(cat ../crates/serve/page/*.js | gzip -9 | wc -c)
echo "the page is what its sources build; its scripts have $((scripts / 1024)) KiB, compressed"
test "$scripts" -le $((200 * 1024))
