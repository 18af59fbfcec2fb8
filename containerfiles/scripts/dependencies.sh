#!/bin/sh
# Runs the build step with the packages that the sources' lock files name, from files: their package managers are told
# to look nowhere else. `build.dependencies: never` in project.yaml leaves it out.
#
#   sh dependencies.sh COMMAND [ARGUMENT]...
set -eu
from=/orchestrator/dependencies
crates=/orchestrator/crates
trees=/orchestrator/crates-git

if [ -d $from/cargo ]; then
    # A directory source, as `cargo vendor` makes one; /.cargo/config.toml names it. The checksum is the .crate file's,
    # which cargo compares with Cargo.lock.
    mkdir -p $crates
    for crate in $from/cargo/*.crate; do
        [ -f "$crate" ] || continue
        name=${crate##*/} name=${name%.crate}
        # o: a crate's owners are its author's.
        tar -xzof "$crate" -C $crates
        sum=$(sha256sum "$crate")
        printf '{"files":{},"package":"%s"}' "${sum%% *}" >"$crates/$name/.cargo-checksum.json"
    done
    # Whole repositories, with a directory source of links to the crates in them.
    for repository in $from/cargo/git/*; do
        [ -d "$repository" ] || continue
        tree=$trees/${repository##*/}
        mkdir -p $trees
        cp -RP "$repository/tree" "$tree"
        mkdir "$tree/.orchestrator"
        for crate in "$repository"/crates/*; do
            place=$(cat "$crate")
            printf '{"files":{},"package":null}' >"$tree/$place/.cargo-checksum.json"
            ln -s "../$place" "$tree/.orchestrator/${crate##*/}"
        done
    done
fi
if [ -d $from/go ]; then
    export GOPROXY=file://$from/go GONOPROXY=none
fi
if [ -d $from/npm ]; then
    export npm_config_cache=$from/npm npm_config_offline=true npm_config_audit=false npm_config_fund=false
fi
if [ -d $from/pip ]; then
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=$from/pip
fi

"$@"
rm -rf $crates $trees
