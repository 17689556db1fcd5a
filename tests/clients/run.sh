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
. "$here/started.sh"
started "$program" "$scratch" starter
"$venv/bin/python" "$here/drive.py" "$url"
