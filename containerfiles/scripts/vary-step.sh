#!/bin/sh
# Runs the user's step as another machine might, for a build that is compared with an image's own (`build --reproduce`,
# `reproducible: strict`). Runs inside the build container, in /build. POSIX sh (dash, busybox ash).
#
#   sh vary-step.sh --number TEXT [--directory DIR] [cores] [locale] [umask] [path] -- COMMAND...
#
# TEXT only makes this step unlike every other one in the engine's cache; DIR stands for /build. The factors, as far as
# the base can:
#   cores   on one CPU: nproc, make -j, cargo, Go and Python follow the affinity of their process
#   locale  LANG of an installed locale with a language, else C.UTF-8 (or C); a zone where TZ is not set. LC_ALL wins
#   umask   027
#   path    /build is a link to another directory, in which COMMAND runs. make, configure and cargo tell compilers to
#           write /build all the same (CPPFLAGS, a wrapper of rustc)
# stdout: a line `varied: FACTOR (HOW)` for each. Exit status: COMMAND's.
set -eu
directory=/build
number='' cores='' locale='' umask='' path=''

while [ $# -gt 0 ]; do
    case $1 in
        --number) number=$2 && shift ;;
        --directory) directory=$2 && shift ;;
        cores) cores=yes ;;
        locale) locale=yes ;;
        umask) umask=yes ;;
        path) path=yes ;;
        --) shift && break ;;
        *) printf 'error: unknown factor %s\n' "$1" >&2 && exit 1 ;;
    esac
    shift
done
elsewhere=$directory.again
rustc=$directory.rustc
: "$number"

varied() { printf 'varied: %s (%s)\n' "$1" "$2"; }

another_locale() {
    a_old=${LANG-}
    LANG=$( (locale -a 2>/dev/null || true) | grep -v -i -e '^C' -e '^POSIX' | head -n 1)
    LANG=${LANG:-C.UTF-8}
    if [ "$LANG" = "$a_old" ]; then LANG=C; fi
    export LANG
    a_zone=
    if [ -z "${TZ-}" ]; then
        TZ=ELSEWHERE-13:45 && export TZ
        a_zone=", TZ=$TZ"
    fi
    varied locale "LANG=$LANG$a_zone"
}

# one_core: the number of a CPU that this process may run on, where it may run on several and can be kept to one.
one_core() {
    command -v taskset >/dev/null 2>&1 || return 0
    sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9][0-9]*\)[-,].*/\1/p' /proc/self/status
}

leave() {
    cd / && rm -f "$directory" "$rustc" && mv "$elsewhere" "$directory"
}

enter() {
    cd / && mv "$directory" "$elsewhere" && ln -s "$elsewhere" "$directory"
    trap leave EXIT
    cd "$elsewhere"
    command -v nvcc >/dev/null 2>&1 || CPPFLAGS="${CPPFLAGS:+$CPPFLAGS }-ffile-prefix-map=$elsewhere=$directory"
    printf '#!/bin/sh\nexec "$@" --remap-path-prefix=%s=%s\n' "$elsewhere" "$directory" >"$rustc"
    chmod 755 "$rustc"
    CARGO_BUILD_RUSTC_WRAPPER=$rustc
    export CPPFLAGS CARGO_BUILD_RUSTC_WRAPPER
    varied path "$elsewhere"
}

if [ -n "$locale" ]; then another_locale; fi
if [ -n "$umask" ]; then umask 027 && varied umask 027; fi
if [ -n "$cores" ]; then
    cpu=$(one_core)
    if [ -n "$cpu" ] && taskset -c "$cpu" true 2>/dev/null; then
        set -- taskset -c "$cpu" "$@"
        varied cores "CPU $cpu of $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status)"
    fi
fi
if [ -z "$path" ]; then exec "$@"; fi
enter
# Not `exec`: /build comes back when it ends.
"$@"
