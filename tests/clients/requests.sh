#!/bin/sh
# Sends the kit's hostile requests to a running `pasture serve`, and says which it does not answer as the kit asks.
# Usage: tests/clients/requests.sh PROGRAM KIT
set -eu
program=${1:?the pasture program to test}
kit=${2:?the kit}
root=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d)
# The requests name a model "model", and one has more tokens than the starter was made for: so this is the starter
# with another name and another length in its head.
python3 - "$root/starter/starter.gguf" "$scratch/model.gguf" <<'EDIT'
import struct, sys
key, kind = b".context_length", struct.pack("<I", 4)
head = bytearray(open(sys.argv[1], "rb").read())
at = head.index(key + kind) + len(key + kind)
head[at:at + 4] = struct.pack("<I", 4096)
open(sys.argv[2], "wb").write(head)
EDIT
"$program" serve "$scratch/model.gguf" --port 0 --json >"$scratch/told.txt" 2>"$scratch/serve.log" &
server=$!
trap 'kill -INT $server 2>/dev/null; wait $server 2>/dev/null || true; rm -r "$scratch"' EXIT
for _ in $(seq 300); do
    grep -q '"url"' "$scratch/told.txt" && break
    sleep 0.1
done
url=$(sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' "$scratch/told.txt" | head -1)
test -n "$url" || { cat "$scratch/serve.log"; exit 1; }
echo '{}' >"$scratch/ops.json"
python3 "$kit/tools/run_hostile.py" --set "$kit/hostile" --ops "$scratch/ops.json" --kinds request --url "$url"
