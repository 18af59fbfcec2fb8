#!/bin/sh
# Gathers what goes into the image: the program, its whole ELF closure, files, directories and klibs.
#
# Runs inside the build container, in the work directory, with stage-elf.sh and stage-large.sh beside it. POSIX sh (dash, busybox ash)
# with readelf and the usual small tools. It never executes the program or its loader: musl's loader would really run
# the program, and a GPU program may not even start where no GPU is.
#
#   sh stage-tree.sh --program PATH --as NAME [--libraries auto|none] [--search DIR]... [--extra NAME]...
#                    [--file ENTRY]... [--outside GUESTPATH]... [--dir ENTRY]... [--map GLOB=GUESTDIR]...
#                    [--runtime-dir GUESTDIR]... [--make-dir GUESTDIR]... [--klib NAME]... [--klib-dir DIR]
#                    [--large BYTES] [--out DIR] [--klib-out DIR] [--warnings FILE] [--large-out FILE]
#
# stdout: a line `staged: PATH <- SOURCE (size)` for each thing, sorted, then a count. stderr: `warning: …` and
# `error: …`. FILE (/sbom/warnings) keeps the warnings, one a line, also for builds that find this step in the engine's
# cache. An outside file is one that comes straight from the host later: an empty file keeps its place. A runtime
# directory is one where the guest will have a mount. With --large, files of so many bytes or more are not copied: an
# empty file keeps the place of each, and FILE (/sbom/large) lists them. Exit status 0, or 1 when anything is missing.
set -eu
LC_ALL=C
export LC_ALL
umask 022
nl='
'
tab=$(printf '\t')

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

warn() {
    printf 'warning: %s\n' "$1" >&2
    printf '%s\n' "$1" >>"$warnings"
}

program='' as='' libraries=auto search='' extras='' files='' outside='' dirs='' maps='' mounts='' made='' klibs=''
klib_dir=. out=/stage klib_out=/klibs warnings=/sbom/warnings large='' large_out=/sbom/large

parse_arguments() {
    while [ $# -gt 0 ]; do
        [ $# -ge 2 ] || die "$1 needs a value"
        case $2 in *[[:cntrl:]]*) die "$1: a value may not hold a line break or another control character" ;; esac
        case $1 in
            --program) program=${2#./} ;;
            --as) as=$2 ;;
            --libraries) libraries=$2 ;;
            --search) search=$search$2$nl ;;
            --extra) extras=$extras$2$nl ;;
            --file) files=$files$2$nl ;;
            --outside) outside=$outside$2$nl ;;
            --dir) dirs=$dirs$2$nl ;;
            --map) maps=$maps$2$nl ;;
            --runtime-dir) mounts=$mounts/${2#/}$nl ;;
            --make-dir) made=$made$2$nl ;;
            --klib) klibs=$klibs$2$nl ;;
            --klib-dir) klib_dir=$2 ;;
            --out) out=$2 ;;
            --klib-out) klib_out=$2 ;;
            --warnings) warnings=$2 ;;
            --large) large=$2 ;;
            --large-out) large_out=$2 ;;
            *) die "unknown option $1" ;;
        esac
        shift 2
    done
    if [ -z "$program" ] || [ -z "$as" ]; then die "--program and --as are needed"; fi
    case $libraries in auto | none) ;; *) die "--libraries is auto or none, not $libraries" ;; esac
}

# shellcheck source=containerfiles/scripts/stage-elf.sh
. "$(dirname "$0")/stage-elf.sh"
# shellcheck source=containerfiles/scripts/stage-large.sh
. "$(dirname "$0")/stage-large.sh"

need_readelf() {
    command -v readelf >/dev/null 2>&1 && return
    if command -v apt-get; then apt-get update -qq && apt-get install -y -qq --no-install-recommends binutils
    elif command -v apk; then apk add --quiet binutils
    elif command -v dnf; then dnf install -y -q binutils
    fi >/dev/null 2>&1 || true
    command -v readelf >/dev/null 2>&1 ||
        die "readelf is not in the base and could not be installed" "add binutils to build.packages"
}

# --- the tree --------------------------------------------------------------------------------------------------

# guest_path TEXT: TEXT as a path below the guest's root, without the leading slash ("" = the root).
guest_path() {
    case /$1/ in */../*) die "$1: '..' has no meaning in the image" "give a path inside the work directory" ;; esac
    printf '/%s\n' "$1" | tr -s / | sed -e ':a' -e 's,/\./,/,' -e 'ta' -e 's,/\.$,/,' -e 's,/$,,' -e 's,^/,,'
}

# make_directory GUEST: every part becomes a real directory; nothing is ever written through a link.
make_directory() {
    m_at='' m_rest=$1/
    while [ -n "${m_rest%/}" ]; do
        m_at=$m_at/${m_rest%%/*} m_rest=${m_rest#*/}
        if [ -L "$out$m_at" ] || [ -f "$out$m_at" ]; then
            die "/$1: $m_at is a file or a link in the image already, and can't be a directory as well" \
                "leave one of the two out of stage.files or the manifest's Files, Dirs and MapDirs"
        fi
    done
    mkdir -p "$out/$1"
}

# make_room SOURCE GUEST: what was asked for by name replaces what was found.
make_room() {
    if [ -L "$out/$2" ] || [ -e "$out/$2" ]; then
        [ -L "$out/$2" ] || [ -f "$out/$2" ] || die "/$2: is a directory in the image already, and can't be a file as well"
        cmp -s "$1" "$out/$2" || warn "/$2 from $1 replaces another file of that name"
        rm -f "$out/$2"
        clear_place "/$2"
    fi
}

# put SOURCE GUEST: a regular file, links followed.
put() {
    [ -f "$1" ] || die "$1 is not a regular file" "devices, sockets and directories can't be staged as files"
    case $2 in */*) make_directory "${2%/*}" ;; esac
    make_room "$1" "$2"
    lay -L "$1" "$out/$2"
    printf '/%s\t%s\t%d bytes\n' "$2" "$1" "$(wc -c <"$out/$2")" >>"$work/staged"
}

# list_tree DIR [GLOB]: what is below, sorted, as ./name. Refuses what these lists or the image can't hold.
list_tree() (
    cd "$1"
    l_bad=$(find . -name "*$nl*" | head -n 1)
    [ -z "$l_bad" ] || die "$1: a name in it holds a line break; rename it"
    l_bad=$(find . ! -type f ! -type d ! -type l | sort | head -n 1)
    [ -z "$l_bad" ] || die "$1/${l_bad#./} is a device, socket or pipe" "only files, directories and links go into the image"
    find . ! -name . -name "${2:-*}" | sort
)

# put_tree DIR GUEST: links verbatim, empty directories kept. A link that leads nowhere here may do so in the image.
put_tree() {
    list_tree "$1" >"$work/tree"
    if [ -L "$out/$2" ] || [ -e "$out/$2" ]; then
        make_directory "$2"
        merge_tree "$1" "$2"
    else
        make_directory "$2"
        lay_tree "$1" "$out/$2"
    fi
    while IFS= read -r t_name; do
        if [ -L "$1/$t_name" ] && [ ! -e "$1/$t_name" ]; then
            printf '/%s\n%s\n' "$2/${t_name#./}" "$1/${t_name#./}" >>"$work/dangling"
        fi
    done <"$work/tree"
    printf '/%s/\t%s\t%d files\n' "$2" "$1" "$(cd "$1" && find . ! -type d | wc -l)" >>"$work/staged"
}

# merge_tree DIR GUEST: into what is there already, entry by entry.
merge_tree() {
    while IFS= read -r t_name; do
        t_name=${t_name#./}
        if [ -d "$1/$t_name" ] && [ ! -L "$1/$t_name" ]; then
            make_directory "$2/$t_name"
        else
            make_room "$1/$t_name" "$2/$t_name"
            lay -P "$1/$t_name" "$out/$2/$t_name"
        fi
    done <"$work/tree"
}

# --- links -----------------------------------------------------------------------------------------------------

# leads_somewhere GUEST: whether the guest can follow this path: inside the tree, or to where a mount will be. As Nanos
# does, it gives up after eight links.
leads_somewhere() {
    g_at='' g_left=$1 g_hops=0
    while [ -n "$g_left" ]; do
        g_part=${g_left%%/*}
        case $g_left in */*) g_left=${g_left#*/} ;; *) g_left='' ;; esac
        case $g_part in '' | .) continue ;; ..) g_at=${g_at%/*} && continue ;; esac
        g_at=$g_at/$g_part
        case $nl$mounts in *"$nl$g_at$nl"*) return ;; esac
        if [ -L "$out$g_at" ] && ! is_place "$g_at"; then
            g_hops=$((g_hops + 1))
            [ "$g_hops" -le 8 ] || return 1
            g_text=$(readlink "$out$g_at")
            case $g_text in /*) g_at='' ;; *) g_at=${g_at%/*} ;; esac
            g_left=$g_text/$g_left
        elif [ ! -e "$out$g_at" ]; then return 1
        elif [ ! -d "$out$g_at" ] && [ -n "${g_left#/}" ]; then return 1
        fi
    done
}

# settle_links: those that led nowhere in the build container, but do in the image, stay; ops leaves the others out too.
settle_links() {
    while IFS= read -r s_guest && IFS= read -r s_source; do
        if leads_somewhere "$s_guest"; then continue; fi
        rm -f "$out$s_guest"
        warn "$s_source is left out: its target does not exist: $(readlink "$s_source")"
    done <"$work/dangling"
}

# --- files, directories, klibs ---------------------------------------------------------------------------------

# ops reads Files below the working directory, absolute entries as well.
stage_file() {
    f_to=$(guest_path "$1")
    if [ -d "$PWD/$f_to" ]; then die "Files: $1 is a directory" "put it in the manifest's Dirs"
    elif [ -e "$PWD/$f_to" ]; then put "$PWD/$f_to" "$f_to"
    elif [ -f "$out/$f_to" ]; then :
    elif [ "${1#/}" != "$1" ] && [ -f "$1" ]; then put "$1" "$f_to"
    else
        die "Files: $1 is not there (looked for $PWD/$f_to$(case $1 in /*) printf ' and %s' "$1" ;; esac))" \
            "make it in build.run, or take it out of stage.files and the manifest"
    fi
}

# stage_outside GUEST: a place for a file that comes later, where nothing else is.
stage_outside() {
    if [ -L "$out/$1" ] || [ -e "$out/$1" ]; then
        die "/$1: another step has put something there already" "give the entry of stage.files another place (\`to\`)"
    fi
    case $1 in */*) make_directory "${1%/*}" ;; esac
    : >"$out/$1"
    printf '/%s\t%s\t%s\n' "$1" 'stage.files, from outside the build' 'placed when the image is written' >>"$work/staged"
}

stage_dir() {
    d_to=$(guest_path "$1")
    [ -n "$d_to" ] || die "Dirs: '$1' would copy everything" "name the directories that the program needs"
    case $1 in /*) d_from=/$d_to ;; *) d_from=$PWD/$d_to ;; esac
    if [ -d "$d_from" ]; then put_tree "$d_from" "$d_to"
    elif [ -e "$d_from" ]; then die "Dirs: $1 is a file" "put it in stage.files or the manifest's Files"
    elif [ ! -d "$out/$d_to" ]; then
        die "Dirs: $1 is not there (looked for $d_from)" "make it in build.run, or take it out of the manifest"
    fi
}

# MapDirs: the last part is a glob for the name of everything below the directory; links are followed.
stage_map() {
    case $1 in *=*) ;; *) die "--map $1: needs GLOB=GUESTDIR" ;; esac
    m_glob=${1%=*} m_to=$(guest_path "${1##*=}")
    case $m_glob in /*) m_dir=${m_glob%/*}/ ;; */*) m_dir=$PWD/${m_glob%/*} ;; *) m_dir=$PWD ;; esac
    [ -d "$m_dir" ] || die "MapDirs: $m_dir is not there" "make it in build.run, or take it out of the manifest"
    list_tree "$m_dir" "${m_glob##*/}" >"$work/map"
    # A whole directory, to where nothing is, without links to follow: all at once.
    if [ "${m_glob##*/}" = '*' ] && [ -n "$m_to" ] && [ ! -e "$out/$m_to" ] && [ ! -L "$out/$m_to" ] &&
        [ -z "$(find "$m_dir" -type l | head -n 1)" ]; then
        put_tree "${m_dir%/}" "$m_to"
        return
    fi
    make_directory "$m_to"
    while IFS= read -r m_name; do
        m_name=${m_name#./}
        [ -e "$m_dir/$m_name" ] || die "MapDirs: $m_dir/$m_name is a link whose target does not exist"
        if [ -d "$m_dir/$m_name" ]; then make_directory "${m_to:+$m_to/}$m_name"
        else put "$m_dir/$m_name" "${m_to:+$m_to/}$m_name"; fi
    done <"$work/map"
}

# stage_empty GUESTDIR: a directory that has to be there, empty or not.
stage_empty() {
    e_to=$(guest_path "$1")
    [ -d "$out/$e_to" ] || make_directory "$e_to"
}

stage_klib() {
    case $1 in */*) die "Klibs: $1 is a path" "klibs are named, as in gpu_nvidia" ;; esac
    [ -f "$klib_dir/$1" ] || die "Klibs: $1 is not in $klib_dir" \
        "check gpu-assets, and the manifest's Klibs and KlibDir (ops would quietly build an image without it)"
    cp -L "$klib_dir/$1" "$klib_out/$1"
    printf 'klib %s\t%s\t%d bytes\n' "$1" "$klib_dir/$1" "$(wc -c <"$klib_out/$1")" >>"$work/staged"
}

each() { # each FUNCTION LINES
    printf '%s' "$2" >"$work/$1"
    while IFS= read -r each_line; do "$1" "$each_line"; done <"$work/$1"
}

parse_arguments "$@"
need_readelf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
for file in staged queue missing calls sonames foreign dangling places; do : >"$work/$file"; done
mkdir -p "$out" "$klib_out"
mkdir -p "$(dirname "$warnings")"
: >"$warnings"
[ -z "$(ls -A "$out")" ] || die "$out is not empty" "build.run must not write there"
check_program
put "$PWD/$program" "$(guest_path "$as")"
[ -L "$out/$(guest_path "$as")" ] || chmod 755 "$out/$(guest_path "$as")"
[ "$libraries" = none ] || stage_closure
each stage_dir "$dirs"
each stage_map "$maps"
each stage_file "$files"
each stage_empty "$made"
each stage_outside "$outside"
settle_links
if [ "$libraries" = auto ]; then
    stage_needs_of_packed
    stage_unwinder
    hint_at_dlopen
fi
each stage_klib "$klibs"
settle_places
awk -F '\t' '{ line[$1] = "staged: " $1 " <- " $2 " (" $3 ")" } END { for (p in line) print line[p] }' "$work/staged" | sort
find "$out" -type f -exec ls -ln {} + | awk '
    FILENAME == ARGV[1] { split($0, column, "\t"); s += column[3]; next } { n++; s += $5 } END { printf "total: %d files, %.0f bytes\n", n, s }' "$large_out" -
