#!/bin/sh
# install-packages.sh: install the .deb files beside us, which are those that packages.sha256 lists and no others.
# apt gets no index and no network: what the files don't bring is an error.
set -eu
sums=/orchestrator/packages.sha256
[ -s "$sums" ] || exit 0
cd /orchestrator/packages
sha256sum --check --quiet "$sums"
empty=/orchestrator/no-lists
mkdir -p "$empty/partial"
# What is not yet on the disk when the machine fails is made again, layer and all: dpkg need not wait for it.
# shellcheck disable=SC2046 # one word each
apt-get install -y --no-install-recommends -o DPkg::Options::=--force-unsafe-io \
    -o APT::Sandbox::User=root -o Dir::State::lists="$empty" \
    -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null \
    $(sed 's|^[0-9a-f]*  |./|' "$sums")
rm -rf "$empty"
