#!/bin/sh
# Runs the build step so that the end of what it prints is always seen. BuildKit drops whatever a step prints beyond
# 100 KiB a second or 1 MiB in all (later versions: twice that), and so the error that a long log ends in. Runs inside
# the build container. POSIX sh (dash, busybox ash).
#
#   sh step-log.sh COMMAND [ARGUMENT]...
#
# The output goes to a file, from which a part is shown each second, within those limits; what is left out is said. Not
# through a pipe: a server that the command leaves behind would hold it open for ever. Exit status: COMMAND's.
set -eu
first=32768 second=81920 whole=819200 last=49152 # bytes: 32 KiB at once, 80 each second, 800 in all, and the last 48

read -r host </proc/sys/kernel/hostname || host=''
log=/tmp/.orchestrator-log.$$
# Other builders show all of it.
if [ "$host" != buildkitsandbox ] || ! (: >"$log") 2>/dev/null; then exec "$@"; fi

size() { wc -c <"$log"; }
show() { # up to $1 bytes more
    part=$(($(size) - shown))
    [ "$part" -le "$1" ] || part=$1
    [ "$part" -le $((whole - shown)) ] || part=$((whole - shown))
    if [ "$part" -gt 0 ]; then
        tail -c "+$((shown + 1))" "$log" | head -c "$part"
        shown=$((shown + part))
    fi
}
follow() {
    shown=0 ended=''
    trap 'ended=yes' TERM
    while [ -z "$ended" ]; do
        sleep 1 &
        wait $! || true
        [ -n "$ended" ] || show "$second"
    done
    show "$first"
    left=$(($(size) - shown))
    if [ "$left" -gt "$last" ]; then
        printf '\n[%s KiB left out here, because BuildKit shows no more of a step]\n' "$(((left - last) / 1024))"
        tail -c "$last" "$log"
    else
        tail -c "+$((shown + 1))" "$log"
    fi
}

follow &
follower=$!
status=0
"$@" >"$log" 2>&1 || status=$?
kill "$follower"
wait "$follower" || true
rm -f "$log"
exit "$status"
