# Sourced: `started PROGRAM SCRATCH MODEL` serves a model on a free port until this shell ends, and sets `url`.
started() {
    "$1" serve "$3" --port 0 --json >"$2/told.txt" 2>"$2/serve.log" &
    server=$!
    trap 'kill -INT $server 2>/dev/null; wait $server 2>/dev/null || true' EXIT
    for _ in $(seq 300); do
        grep -q '"url"' "$2/told.txt" && break
        sleep 0.1
    done
    url=$(sed -n 's/.*"url": *"\([^"]*\)".*/\1/p' "$2/told.txt" | head -1)
    test -n "$url" || { cat "$2/serve.log"; exit 1; }
}
