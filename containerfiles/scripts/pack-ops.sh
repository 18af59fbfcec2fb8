#!/bin/sh
# Run `ops build` and believe only what can be seen: ops ends with status 0 on an unknown manifest key, a
# missing klib or a failed release look-up. Arguments: IMAGE_NAME PROGRAM NANOS_VERSION MANIFEST.
# Anything but a new image file, named on ops's own success line, fails this step.
set -u

name=$1 program=$2 nanos=$3 manifest=$4
ops_home=/root/.ops
log=/root/.ops/build.log

fail() {
    echo "pack-ops: $1: $2" >&2
    exit 1
}

# ops asks the network at every start and takes any answer for a version; everything it needs is here already.
offline() {
    env -u OPS_DEFAULT_CONFIG -u ops_render_config HOME=/root OPS_HOME=/root \
        HTTP_PROXY=http://127.0.0.1:9 HTTPS_PROXY=http://127.0.0.1:9 \
        http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 no_proxy= NO_PROXY= "$@"
}

older_than_0_1_42() {
    old_ifs=$IFS
    IFS=.
    # shellcheck disable=SC2086 # splitting at the dots is the point
    set -- $1
    IFS=$old_ifs
    [ "$1" -eq 0 ] && { [ "${2:-0}" -lt 1 ] || { [ "${2:-0}" -eq 1 ] && [ "${3:-0}" -lt 42 ]; }; }
}

rm -f /root/.opsrc
chmod 755 /usr/local/bin/ops
# The version look-up has no time limit of its own.
answer=$(offline timeout 60 ops version 2>/dev/null) || [ $? -ne 124 ] || fail ops-hangs "ops gave no answer within 60 s"
version=$(printf '%s\n' "$answer" | sed -n 's/.*[Oo]ps version:[[:space:]]*v\{0,1\}\([0-9][0-9.]*\).*/\1/p' | head -n 1)
if [ -n "$version" ] && older_than_0_1_42 "$version"; then
    fail ops-too-old "ops $version cannot write the /workspace mount as the node expects it; use 0.1.42 or newer"
fi
echo "pack-ops: ops ${version:-of unknown version}, Nanos $nanos"
echo "${version:-unknown}" >"$ops_home/ops-version"

mkdir -p "$ops_home/images"
touch "$ops_home/before"
[ ! -e "$ops_home/images/$name" ] || fail stale-image "$ops_home/images/$name is there before ops ran"

# To find libraries, ops starts the program with a variable that only glibc's loader knows; musl's would run it.
for loader in lib/ld-musl-*; do
    [ ! -e "$loader" ] || fail musl "ops would run a program of musl's, /$program, instead of asking its loader"
done

# name_in LIST: adds $quoted to a list of the manifest, which is JSON with two spaces a level, an entry a line.
name_in() {
    list="  \"$1\": [" quoted=$quoted awk '
        FNR == NR { if ($0 == ENVIRON["list"]) there = 1; next }
        { print }
        there && $0 == ENVIRON["list"] { print "    " ENVIRON["quoted"] "," }
        !there && FNR == 1 { print ENVIRON["list"]; print "    " ENVIRON["quoted"]; print "  ]," }' "$manifest" "$manifest" >"$manifest.new"
    mv "$manifest.new" "$manifest"
    echo "pack-ops: $1: added $quoted, which was staged"
}

# ops packs what Dirs and Files name. Only now is known what else is at the top of the staged tree, as by a MapDirs
# to "/"; it would quietly stay out.
for entry in * .[!.]*; do
    if [ ! -e "$entry" ] || [ "$entry" = "$program" ]; then continue; fi
    quoted=\"$(printf '%s' "$entry" | sed 's/[\\"]/\\&/g')\"
    if grep -qxF -e "    $quoted" -e "    $quoted," "$manifest"; then continue; fi
    if [ -d "$entry" ]; then name_in Dirs; else name_in Files; fi
done

# lead LINK: makes what the guest will find there findable here, at the container's own root: by a link to the tree, or,
# where only a mount or nothing will be, an empty file.
lead() {
    text=$(readlink "$1")
    case $text in /*) left=$text ;; *) left=${1#.} left=${left%/*}/$text ;; esac
    at=''
    while [ -n "$left" ]; do
        part=${left%%/*}
        case $left in */*) left=${left#*/} ;; *) left='' ;; esac
        case $part in '' | .) continue ;; ..) at=${at%/*} && continue ;; esac
        at=$at/$part
        if [ -e "$at" ]; then continue; fi
        if [ -e "$PWD$at" ] || [ -L "$PWD$at" ]; then
            ln -s "$PWD$at" "$at"
            return
        fi
        if [ -n "$left" ]; then mkdir "$at"; else : >"$at"; fi
    done
} 2>/dev/null

# ops follows each link and leaves out those that lead nowhere. Here / is the base's root and not the guest's: links of
# the tree that the guest can follow would be lost, and those that verify warns of. Eight times, since links may go
# through links, of which Nanos follows eight.
find . -type l >"$ops_home/links"
for pass in 1 2 3 4 5 6 7 8; do
    lost=0
    while IFS= read -r link; do
        [ -e "$link" ] || { lost=1 && lead "$link" || true; }
    done <"$ops_home/links"
    [ "$lost" = 1 ] || break
done

# ops finds libraries by the program's loader; the staged ones must win, and then land at their own place,
# because ops strips its working directory from their paths.
libraries=/stage/lib/x86_64-linux-gnu:/stage/lib64:/stage/lib
LD_LIBRARY_PATH=$libraries offline ops build "$program" --nanos-version "$nanos" -c "$manifest" -i "$name" >"$log" 2>&1
status=$?
cat "$log"

[ "$status" -eq 0 ] || fail ops-failed "ops build ended with status $status"
if grep -q 'Klib .* not found' "$log"; then
    fail klib-missing "$(grep 'Klib .* not found' "$log" | head -n 1)"
fi
image=$(tr -d '\033' <"$log" | sed -n 's/^\(\[0m\)*Bootable image file:[[:space:]]*//p' | tail -n 1)
if [ -z "$image" ]; then
    if grep -q 'unknown field' "$log"; then
        fail unknown-key "$(grep 'unknown field' "$log" | head -n 1)"
    fi
    fail no-image "ops build ended with status 0 but named no image file"
fi
[ "$image" = "$ops_home/images/$name" ] || fail wrong-image "ops named $image instead of $ops_home/images/$name"
[ -s "$image" ] || fail no-image "ops named $image but wrote no such file"
[ "$image" -nt "$ops_home/before" ] || fail stale-image "ops named $image, which is older than this build"
