#!/bin/sh
# Writes down, for the bill of materials, where the staged files are from: which packages own them, and the lock files
# of the sources. Nothing of it goes into the image.
#
# Runs inside the build container, in the work directory, after stage-tree.sh. POSIX sh (dash, busybox ash) with the
# usual small tools. Without dpkg it writes no packages; that is no error.
#
#   sh sbom-records.sh [--stage DIR] [--out DIR] [--root DIR]
#
# Below --out (default /sbom), each as far as there is something to say:
#   os-release   the base's own
#   packages     NAME <tab> VERSION <tab> ARCHITECTURE <tab> SOURCE <tab> SOURCE-VERSION, of every installed package
#   owners       SHA256 <tab> md5|path <tab> PACKAGE <tab> PATH, of staged files that a package owns: by the md5 that
#                dpkg keeps of them, or (configuration files have none) by their path and unchanged content
#   locks/…      Cargo.lock, go.sum, package-lock.json, requirements.txt at the top of the sources and of the shim's
#   left-out     lock files that are too large, one path a line
#   warnings     what staging warned of, and this; stage-tree.sh begins the file
set -eu
LC_ALL=C
export LC_ALL
umask 022
tab=$(printf '\t')
stage=/stage out=/sbom root='' largest=4194304

die() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    [ $# -ge 2 ] || die "$1 needs a value"
    case $1 in
        --stage) stage=$2 ;;
        --out) out=$2 ;;
        --root) root=$2 ;;
        *) die "unknown option $1" ;;
    esac
    shift 2
done

# in_batches COMMAND: with the lines that it reads as arguments, many at a time.
in_batches() {
    b_command=$1
    set --
    while IFS= read -r b_line; do
        set -- "$@" "$b_line"
        if [ $# -eq 200 ]; then
            "$b_command" "$@"
            set --
        fi
    done
    [ $# -eq 0 ] || "$b_command" "$@"
}

copy_locks() {
    for c_directory in '' gevulot/; do
        for c_name in Cargo.lock go.sum package-lock.json requirements.txt; do
            c_file=$c_directory$c_name
            [ -f "$c_file" ] || continue
            if [ "$(wc -c <"$c_file")" -gt "$largest" ]; then
                printf '%s\n' "$c_file" >>"$out/left-out"
                c_warning="$c_file is larger than $largest bytes; its packages will not be listed"
                printf 'warning: %s\n' "$c_warning" >&2
                printf '%s\n' "$c_warning" >>"$out/warnings"
            else
                mkdir -p "$out/locks/$c_directory"
                cat "$c_file" >"$out/locks/$c_file"
            fi
        done
    done
}

# owned_by_md5: "MD5 <tab> PACKAGE <tab> PATH" for staged files that are, byte for byte, a package's. An empty file
# says nothing about where it is from.
owned_by_md5() {
    set -- "$info"/*.md5sums
    [ -f "$1" ] || return 0
    awk 'FILENAME == ARGV[1] { want[substr($0, 1, 32)] = 1; next }
        substr($0, 1, 32) in want {
            package = FILENAME
            sub(/.*\//, "", package)
            sub(/\.md5sums$/, "", package)
            print substr($0, 1, 32) "\t" package "\t/" substr($0, 35)
        }' "$work/staged" "$@"
}

# unowned: "PATH <tab> STAGED" for staged files whose md5 no package has, by each name that dpkg may know them by where
# /lib is a link to /usr/lib.
unowned() {
    awk 'FILENAME == ARGV[1] { known[substr($0, 1, 32)] = 1; next }
        !(substr($0, 1, 32) in known) {
            staged = substr($0, 35)
            path = substr(staged, 2)
            print path "\t" staged
            print "/usr" path "\t" staged
            if (path ~ /^\/usr\//) print substr(path, 5) "\t" staged
        }' "$work/by-md5" "$work/staged"
}

# owned_by_path: "STAGED <tab> PACKAGE <tab> PATH" of those that are, at a path of a package, as the base has them.
owned_by_path() {
    set -- "$info"/*.list
    if [ ! -s "$work/paths" ] || [ ! -f "$1" ]; then return 0; fi
    awk -F '\t' 'FILENAME == ARGV[1] { staged[$1] = $2; next }
        $0 in staged {
            package = FILENAME
            sub(/.*\//, "", package)
            sub(/\.list$/, "", package)
            print staged[$0] "\t" package "\t" $0
        }' "$work/paths" "$@" | while IFS="$tab" read -r o_staged o_package o_path; do
        for o_from in "$o_path" "${o_staged#.}" "/usr${o_staged#.}"; do
            if [ -f "$root$o_from" ] && cmp -s "$root$o_from" "$(where_is "$o_staged")"; then
                printf '%s\t%s\t%s\n' "$o_staged" "$o_package" "$o_path"
                break
            fi
        done
    done
}

# write_owners: matches (KEY <tab> PACKAGE <tab> PATH) with the staged file's SHA-256 in place of the key.
write_owners() {
    awk -F '\t' -v by="$1" 'FILENAME == ARGV[1] { hash[substr($0, 67)] = substr($0, 1, 64); next }
        ($1 in hash) { print hash[$1] "\t" by "\t" $2 "\t" $3 }' "$work/sha256" "$2"
}

# large_sums: as md5sum writes them, of files that stage-tree.sh lists instead of copying. What was made in the work
# directory is no package's.
large_sums() {
    [ -f "$out/large" ] || return 0
    while IFS=$tab read -r l_guest l_source _; do
        case $l_source in "$PWD"/*) continue ;; esac
        l_sum=$(md5sum <"$l_source")
        printf '%s  ./%s\n' "${l_sum%% *}" "$l_guest"
    done <"$out/large"
}

# large_names: as sha256sum writes them, of those whose names are wanted; they count before what the tree has there.
large_names() {
    [ -f "$out/large" ] || return 0
    while IFS=$tab read -r l_guest l_source _; do
        if grep -qxF -e "./$l_guest" "$work/names"; then
            l_sum=$(sha256sum <"$l_source")
            printf '%s  ./%s\n' "${l_sum%% *}" "$l_guest"
        fi
    done <"$out/large"
}

# where_is STAGED: the file that has the bytes of a staged one (./…).
where_is() {
    w_file=''
    [ ! -f "$out/large" ] || w_file=$(name=${1#./} awk -F '\t' '$1 == ENVIRON["name"] { print $2 }' "$out/large")
    printf '%s\n' "${w_file:-$stage/$1}"
}

write_packages() {
    # shellcheck disable=SC2016  # dpkg-query's own fields
    dpkg-query --admindir="$root/var/lib/dpkg" -W \
        -f '${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n' | sort >"$out/packages"
    # Names with a backslash or a line break are marked by a leading backslash; such files are no package's.
    # shellcheck disable=SC1003
    { (cd "$stage" && find . -type f -size +0c -exec md5sum {} +) && large_sums; } | grep -v '^\\' | sort >"$work/staged" || true
    [ -s "$work/staged" ] || return 0
    owned_by_md5 >"$work/by-md5"
    unowned >"$work/paths"
    owned_by_path >"$work/by-path"
    # One staged name for each md5 that was found, so that both lists are keyed by name.
    awk -F '\t' 'FILENAME == ARGV[1] { name[substr($0, 1, 32)] = substr($0, 35); next }
        { print name[$1] "\t" $2 "\t" $3 }' "$work/staged" "$work/by-md5" >"$work/by-content"
    cut -f 1 "$work/by-content" "$work/by-path" | sort -u >"$work/names"
    { (cd "$stage" && in_batches sha256sum) <"$work/names" && large_names; } >"$work/sha256"
    [ -s "$work/sha256" ] || return 0
    { write_owners md5 "$work/by-content" && write_owners path "$work/by-path"; } | sort -u >"$out/owners"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
info=$root/var/lib/dpkg/info
mkdir -p "$out"
[ ! -r "$root/etc/os-release" ] || head -c 65536 "$root/etc/os-release" >"$out/os-release"
copy_locks
if [ -d "$info" ] && command -v dpkg-query >/dev/null 2>&1; then write_packages; fi
count() { if [ -f "$1" ]; then cut -f "$2" "$1" | sort -u | wc -l; else echo 0; fi; }
printf 'sbom: %d staged files are of %d packages\n' "$(count "$out/owners" 1)" "$(count "$out/owners" 3)"
