#!/bin/sh
# Runs the build step with caches that outlast it: what package managers downloaded, what compilers made. They shorten
# the step and change nothing of its result. Runs inside the build container, in /build. POSIX sh (dash, busybox ash).
#
#   sh caches.sh COMMAND [ARGUMENT]...
#
# The file `caches` beside this script has the names of those that `build.caches` in project.yaml leaves on; each is a
# directory of its own, which the engine mounts:
#   go         GOMODCACHE and GOCACHE
#   npm, pip   npm_config_cache, PIP_CACHE_DIR
#   apt        the .deb files that apt-get downloads
#   compilers  of ccache and sccache, where the base has them
#   rust       the compiled dependencies in cargo's target/
# What the base or an outer script has set wins. Exit status: COMMAND's.
set -eu
root=${ORCHESTRATOR_CACHES:-/var/cache/orchestrator}
read -r on <"${0%/*}/caches"
fresh=${ORCHESTRATOR_FRESH:-/orchestrator/fresh}  # there with --no-cache: then nothing compiled is taken

has() {
    case " $on " in *" $1 "*) [ -d "$root/$1" ] ;; *) false ;; esac
}
compiled() { has "$1" && [ ! -e "$fresh" ]; }

# Where modules lie is in a program's debug information, unless -trimpath leaves it out.
case " ${GOFLAGS-} " in
    *" -trimpath "*)
        modules=$(go env GOMODCACHE 2>/dev/null || true)
        if has go && [ -z "${GOMODCACHE-}" ] && [ ! -d "${modules:-/nowhere}/cache" ]; then
            export GOMODCACHE="$root/go/modules"
        fi
        ;;
esac
if compiled go; then export GOCACHE="${GOCACHE:-$root/go/build}"; fi
if has npm; then export npm_config_cache="${npm_config_cache:-$root/npm}"; fi
if has pip; then export PIP_CACHE_DIR="${PIP_CACHE_DIR:-$root/pip}"; fi

if compiled compilers && command -v ccache >/dev/null && [ -d /usr/lib/ccache ]; then
    # By the compiler's content: an image may be made anew with other files of the same times.
    export PATH="/usr/lib/ccache:$PATH" CCACHE_DIR="${CCACHE_DIR:-$root/compilers/ccache}" \
        CCACHE_COMPILERCHECK="${CCACHE_COMPILERCHECK:-content}"
fi
sccache=''
if compiled compilers && command -v sccache >/dev/null && [ -z "${RUSTC_WRAPPER-}${CARGO_BUILD_RUSTC_WRAPPER-}" ] &&
    ! grep -qs rustc-wrapper .cargo/config.toml .cargo/config "${CARGO_HOME:-$HOME/.cargo}/config.toml"; then
    sccache=yes
    export RUSTC_WRAPPER=sccache SCCACHE_DIR="${SCCACHE_DIR:-$root/compilers/sccache}"
fi

# apt locks its directory of archives, and builds run beside each other: each has its own, of links to common files.
apt=''
if has apt && command -v apt-get >/dev/null; then
    # What find has seen may go before it looks at it: other builds begin and end.
    find "$root/apt" -maxdepth 1 -name 'run.*' -mtime +0 -exec rm -rf {} + 2>/dev/null || true
    apt=$(mktemp -d "$root/apt/run.XXXXXX")
    chmod 755 "$apt"
    mkdir "$apt/partial"
    for deb in "$root"/apt/*.deb; do if [ -f "$deb" ]; then ln "$deb" "$apt/" || true; fi; done
    [ -z "${APT_CONFIG-}" ] || printf '#include "%s";\n' "$APT_CONFIG" >"$apt.conf"
    printf 'Dir::Cache::archives "%s";\n' "$apt" >>"$apt.conf"
    export APT_CONFIG="$apt.conf"
fi
keep_debs() {
    for deb in "$apt"/*.deb; do
        if [ -f "$deb" ] && [ ! -e "$root/apt/${deb##*/}" ]; then mv "$deb" "$root/apt/"; fi
    done
    rm -rf "$apt" "$apt.conf"
}

# Cargo finds out by itself whether a compiled dependency is the one that it needs: by the compiler, the flags, the
# features and, of packages from a registry or git, the version. Of packages among the sources it compares times, which
# say nothing here: those are always built anew. A key says what cargo does not look at: what is installed.
environment() {
    {
        set +e # not every base has all of it
        rustc -vV
        cat /var/lib/dpkg/status /lib/apk/db/installed
        ls -lR /usr/local /opt
        ls -d /orchestrator/dependencies/cargo
        env | grep -v -i -E '^(_|PWD|OLDPWD|SHLVL|HOSTNAME|APT_CONFIG|SSH_AUTH_SOCK|[a-z]*_proxy)=' | sort
    } 2>/dev/null | sha256sum | cut -c 1-16
}
own_packages() { # Cargo.lock: the packages that have no source there
    awk 'function end() { if (name != "" && !source) print name; name = ""; source = 0 }
        /^\[\[package\]\]/ { end() }
        /^name = / { gsub(/^name = "|"$/, ""); name = $0 }
        /^source = / { source = 1 }
        END { end() }' "$1" | sort
}
workspaces() { # KEY=CARGO.LOCK of each, a word
    about=$(environment)
    find . -maxdepth 3 -name Cargo.lock ! -path './gevulot/*' ! -path '* *' | sort | while read -r lock; do
        # A target/ that is there already is the user's.
        [ -e "${lock%/*}/target" ] ||
            printf '%s-%s=%s\n' "$about" "$({ echo "$lock" && own_packages "$lock"; } | sha256sum | cut -c 1-16)" "$lock"
    done
}
compiled_dependencies() { # target, Cargo.lock: PROFILE/PACKAGE-HASH of each, one a line
    own="
$(own_packages "$2")
"
    for print in "$1"/*/.fingerprint/* "$1"/*/*/.fingerprint/*; do
        name=${print##*/}
        case $own in *"
${name%-*}
"*) continue ;; esac
        [ ! -d "$print" ] || printf '%s/%s\n' "$(dirname "${print%/*}")" "$name"
    done
}
restore() { # Cargo.lock, its key
    target=${1%/*}/target place=$root/rust/$2
    [ -d "$place" ] || return 0
    touch "$place"
    was=$(ls -di "$place")
    # Another build may put its own there meanwhile: then this copy may be a part of both.
    if ! cp -a "$place" "$target" || [ "$(ls -di "$place")" != "$was" ]; then rm -rf "$target"; fi
    rm -f "$target/.list"
}
discard() { # a directory, by one rename before anything in it goes: another build may be copying it
    old=$(mktemp -d "$root/rust/.old.XXXXXX")
    mv "$1" "$old/" || true
    rm -rf "$old"
}
keep() { # Cargo.lock, its key
    target=${1%/*}/target place=$root/rust/$2
    compiled_dependencies "$target" "$1" >"$list"
    if [ ! -s "$list" ] || cmp -s "$list" "$place/.list"; then return 0; fi
    new=$(mktemp -d "$root/rust/.new.XXXXXX")
    [ ! -f "$target/CACHEDIR.TAG" ] || cp -p "$target/CACHEDIR.TAG" "$new/"
    while read -r unit; do
        name=${unit##*/} profile=${unit%/*}
        into=$new${profile#"$target"}
        mkdir -p "$into/.fingerprint" "$into/deps" "$into/build"
        cp -a "$profile/.fingerprint/$name" "$into/.fingerprint/"
        [ ! -d "$profile/build/$name" ] || cp -a "$profile/build/$name" "$into/build/"
        for file in "$profile/deps/"*"-${name##*-}" "$profile/deps/"*"-${name##*-}".*; do
            [ ! -e "$file" ] || cp -a "$file" "$into/deps/"
        done
    done <"$list"
    mv "$list" "$new/.list"
    [ ! -d "$place" ] || discard "$place"
    mv "$new" "$place" || rm -rf "$new"
    rm -rf "$place/${new##*/}" # it went there if another build's was quicker
    find "$root/rust" -maxdepth 1 \( -name '.new.*' -o -name '.old.*' \) -mtime +0 -exec rm -rf {} + 2>/dev/null
    ls -1dt "$root"/rust/*/ | tail -n +9 | while read -r unused; do discard "${unused%/}"; done
}
rust=''
if compiled rust && command -v cargo >/dev/null; then
    rust=$(workspaces)
    list=$(mktemp)
    for workspace in $rust; do (restore "${workspace#*=}" "${workspace%%=*}") || true; done
fi

status=0
"$@" || status=$?

for workspace in $rust; do (keep "${workspace#*=}" "${workspace%%=*}") || true; done
[ -z "${list-}" ] || rm -f "$list"
[ -z "$apt" ] || keep_debs || true
[ -z "$sccache" ] || sccache --stop-server >/dev/null 2>&1 || true
exit "$status"
