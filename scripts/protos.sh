#!/usr/bin/env bash
# Generates the stubs of protos/ into the souk package. With --check: fails when they are stale, badly formed, or when
# a change breaks protos/baseline.binpb. With --baseline: accepts the contract as it is as the new baseline.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
export PATH="$PWD/$bin:$PATH"

generate() {
  local protos
  protos=$(cd protos && find souk -name '*.proto' | sort)
  # shellcheck disable=SC2086
  "$bin/python" -m grpc_tools.protoc -Iprotos --python_out="$1" --grpc_python_out="$1" --mypy_out="$1" \
    --mypy_grpc_out="$1" $protos
  find "$1/souk" -name v1 -type d -exec sh -c 'touch "$1/__init__.py" "$1/../__init__.py"' _ {} \;
}

case "${1:-}" in
  --check)
    fresh=$(mktemp -d)
    trap 'rm -rf "$fresh"' EXIT
    generate "$fresh"
    for folder in types embedder retriever ranker coldstart shop; do
      diff -r -x __pycache__ "$fresh/souk/$folder" "souk/$folder" >/dev/null ||
        { echo "souk/$folder is stale: run make protos" >&2; exit 1; }
    done
    (cd protos && "../$bin/buf" lint && "../$bin/buf" format --diff --exit-code &&
      "../$bin/buf" breaking --against baseline.binpb)
    echo "protos: stubs fresh, form good, nothing broken"
    ;;
  --baseline)
    (cd protos && "../$bin/buf" build --exclude-source-info -o baseline.binpb)
    ;;
  *)
    generate .
    ;;
esac
