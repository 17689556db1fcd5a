#!/usr/bin/env bash
# A real browser walks the web page of `pasture serve`. PASTURE is the program, PAGE_FOLDER where its environment,
# screenshots and chats go. Prints a line that begins with `skipped:` where there is no browser.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${PAGE_FOLDER:-$(mktemp -d)}
program=${PASTURE:-${CARGO_TARGET_DIR:-$here/../../target}/debug/pasture}
mkdir -p "$folder"

if ! command -v python3 >/dev/null; then
  echo "skipped: the web page in a browser needs python3"
  exit 0
fi
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
if [ -z "$browser" ] && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
  (apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium) >"$folder/apt.log" 2>&1 || true
  browser=$(command -v chromium || true)
fi
if [ -z "$browser" ]; then
  echo "skipped: the web page in a browser, as chromium cannot be had"
  exit 0
fi
if [ ! -x "$folder/venv/bin/python" ] || ! "$folder/venv/bin/python" -c 'import playwright' 2>/dev/null; then
  if ! { python3 -m venv "$folder/venv" && "$folder/venv/bin/pip" install -q -r "$here/requirements.txt"; }; then
    echo "skipped: the web page in a browser, as playwright cannot be had"
    exit 0
  fi
fi
test -x "$program" || { echo "no program at $program: cargo build -p pasture"; exit 1; }
exec "$folder/venv/bin/python" "$here/walk.py" --program "$program" --browser "$browser" --folder "$folder"
