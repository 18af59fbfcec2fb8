#!/bin/sh
# list-packages.sh NAME...: what apt would download to install the packages, in /orchestrator/listed:
#   unlike    why this base has no apt to ask, where it has none
#   uris      apt-get's own list: address, file name, size (empty: all of them are installed)
#   records   the index's record of each, with its sha256; apt has checked the index's signature
set -eu
listed=/orchestrator/listed
mkdir -p "$listed"
for tool in dpkg apt-get apt-cache; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "it has no $tool" >"$listed/unlike"
        exit 0
    fi
done
: >"$listed/uris"
: >"$listed/records"
if dpkg -s "$@" >/dev/null 2>&1; then exit 0; fi
apt-get update
# Not what lies in this base's own cache of files: the list is to be whole.
empty=/orchestrator/no-archives
mkdir -p "$empty/partial"
apt-get -qq install --no-install-recommends --print-uris -o Dir::Cache::archives="$empty" "$@" >"$listed/uris"
# 'ADDRESS' NAME_VERSION_ARCHITECTURE.deb SIZE HASH, a colon of the version as %3a
sed -n "s/^'[^']*' \([^_ ]*\)_\([^_ ]*\)_[^_ ]*\.deb .*/\1=\2/p" "$listed/uris" | sed 's/%3a/:/g' >"$listed/names"
# shellcheck disable=SC2046 # one word each
if [ -s "$listed/names" ]; then
    apt-cache show $(cat "$listed/names") |
        grep -E '^(Package|Version|Filename|SHA256): ' >"$listed/records"
fi
