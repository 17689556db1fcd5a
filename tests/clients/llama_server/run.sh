#!/bin/sh
# Runs llama-server's own test files against `pasture serve`: those that apply to OpenAI's API and stories260K. On demand.
# Usage: tests/clients/llama_server/run.sh PROGRAM TESTS STORY
#   TESTS: llama.cpp's folder tools/server/tests, which PyPI's source package of llama-cpp-python carries
#   STORY: stories260K in GGUF
# Needs Python with pytest, filelock, requests, wget and openai. Each test that is left out says why (-rs).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
PROGRAM=$(realpath "${1:?the pasture program to test}")
tests=${2:?the folder tools/server/tests of llama.cpp}
STORY=$(realpath "${3:?stories260K in GGUF}")
XDG_DATA_HOME=$(mktemp -d)
trap 'rm -r "$XDG_DATA_HOME"' EXIT
export PROGRAM STORY XDG_DATA_HOME
cd "$tests"
PYTHONPATH=$here:. python3 -m pytest -p plugin -q -rs -p no:cacheprovider --tb=short unit
