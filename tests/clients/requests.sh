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
. "$root/tests/clients/started.sh"
started "$program" "$scratch" "$scratch/model.gguf"
echo '{}' >"$scratch/ops.json"
python3 "$kit/tools/run_hostile.py" --set "$kit/hostile" --ops "$scratch/ops.json" --kinds request --url "$url"
rm -r "$scratch"
