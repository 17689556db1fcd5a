#!/bin/sh
# Drives a running `pasture serve` with the official clients from PyPI. The server serves the starter, on loopback.
# Usage: tests/clients/run.sh PROGRAM [FOLDER FOR THE VENV]
set -eu
program=${1:?the pasture program to test}
here=$(cd "$(dirname "$0")" && pwd)
scratch=${2:-$(mktemp -d)}
venv=$scratch/venv
if ! [ -x "$venv/bin/python" ]; then
    if ! python3 -m venv "$venv" >/dev/null 2>&1; then
        echo "skipped: no python3 with venv"
        exit 0
    fi
fi
if ! "$venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt" >"$scratch/pip.log" 2>&1; then
    echo "skipped: the clients cannot be installed from PyPI"
    exit 0
fi
"$program" serve starter --port 0 --json >"$scratch/told.txt" 2>"$scratch/serve.log" &
server=$!
trap 'kill -INT $server 2>/dev/null; wait $server 2>/dev/null || true' EXIT
for _ in $(seq 300); do
    grep -q '"url"' "$scratch/told.txt" && break
    sleep 0.1
done
url=$(sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' "$scratch/told.txt" | head -1)
test -n "$url" || { cat "$scratch/serve.log"; exit 1; }
"$venv/bin/python" "$here/drive.py" "$url"
