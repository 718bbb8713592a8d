#!/bin/sh
# Builds the bundle that SOUK_BUNDLE names, unless it is there. A bundle appears under its name when it is whole.
set -eu
if [ -e "$SOUK_BUNDLE/manifest.json" ]; then
  echo "there is a bundle: $SOUK_BUNDLE"
  exit 0
fi
drafts=$(mktemp -d)
trap 'rm -rf "$drafts"' EXIT
python -m training encoder export --out "$drafts/encoder"
python -m training bundle --encoder "$drafts/encoder" --out "$SOUK_BUNDLE"
