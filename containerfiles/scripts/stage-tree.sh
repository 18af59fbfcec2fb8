#!/bin/sh
# Gathers what goes into the image: the program, its whole ELF closure, files, directories and klibs.
#
# Runs inside the build container, in the work directory, with the other stage-*.sh beside it. POSIX sh (dash, busybox
# ash) with readelf and the usual small tools. It never executes the program or its loader: musl's loader would really
# run the program, and a GPU program may not even start where no GPU is.
#
#   sh stage-tree.sh --program PATH --as NAME [--libraries auto|none] [--search DIR]... [--extra NAME]...
#                    [--path PATH [--to GUEST] [--exclude GLOB]...]... [--trim FILE] [--outside GUESTPATH]... [--include WORD]...
#                    [--file ENTRY]... [--dir ENTRY]... [--map GLOB=GUESTDIR]...
#                    [--runtime-dir GUESTDIR]... [--make-dir GUESTDIR]... [--klib NAME]... [--klib-dir DIR]
#                    [--interpreter-of LANGUAGE] [--start-in DIR --start-file GUEST] [--large BYTES] [--out DIR] [--klib-out DIR] [--warnings FILE] [--large-out FILE]
#
# --path, --to, --exclude and --outside are entries of stage.files; FILE of --trim names what is packed of those before it; --file, --dir and --map are the manifest's.
#
# stdout: a line `staged: PATH <- SOURCE (size)` for each thing, sorted, then a count. stderr: `warning: …` and
# `error: …`. FILE (/sbom/warnings) keeps the warnings, one a line, also for builds that find this step in the engine's
# cache. An outside file is one that comes straight from the host later: an empty file keeps its place. A runtime
# directory is one where the guest will have a mount. Of python, the program compiles every module of the tree. With --large,
# files of so many bytes or more are not copied: an empty file keeps the place of each, and FILE (/sbom/large) lists
# them. Exit status 0, or 1 when anything is missing.
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

here=${PWD%/} # where relative paths begin; "" is the root
program='' as='' libraries=auto search='' extras='' paths='' outside='' includes='' files='' dirs='' maps='' mounts='' made='' klibs=''
klib_dir=. out=/stage klib_out=/klibs warnings=/sbom/warnings large='' large_out=/sbom/large interpreter_of='' start_in='' start_file=''

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
            --path) paths=${paths}p$sep$2$nl ;;
            --to) paths=${paths}t$sep$2$nl ;;
            --exclude) paths=${paths}x$sep$2$nl ;;
            --trim) paths=${paths}o$sep$2$nl ;;
            --outside) outside=$outside$2$nl ;;
            --include) includes=$includes$2$nl ;;
            --file) files=$files$2$nl ;;
            --dir) dirs=$dirs$2$nl ;;
            --map) maps=$maps$2$nl ;;
            --runtime-dir) mounts=$mounts/${2#/}$nl ;;
            --make-dir) made=$made$2$nl ;;
            --klib) klibs=$klibs$2$nl ;;
            --klib-dir) klib_dir=$2 ;;
            --out) out=$2 ;;
            --klib-out) klib_out=$2 ;;
            --warnings) warnings=$2 ;;
            --interpreter-of) interpreter_of=$2 ;;
            --start-in) start_in=$2 ;;
            --start-file) start_file=${2#/} ;;
            --large) large=$2 ;;
            --large-out) large_out=$2 ;;
            *) die "unknown option $1" ;;
        esac
        shift 2
    done
    if [ -z "$program" ] || [ -z "$as" ]; then die "--program and --as are needed"; fi
    case $libraries in auto | none) ;; *) die "--libraries is auto or none, not $libraries" ;; esac
    case $program in /*) program_file=$program ;; *) program_file=$here/$program ;; esac
}

# shellcheck source=containerfiles/scripts/stage-elf.sh
. "$(dirname "$0")/stage-elf.sh"
# shellcheck source=containerfiles/scripts/stage-files.sh
. "$(dirname "$0")/stage-files.sh"
# shellcheck source=containerfiles/scripts/stage-large.sh
. "$(dirname "$0")/stage-large.sh"
# shellcheck source=containerfiles/scripts/stage-include.sh
. "$(dirname "$0")/stage-include.sh"
# shellcheck source=containerfiles/scripts/stage-python.sh
. "$(dirname "$0")/stage-python.sh"

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

# make_directory GUEST: every part becomes a real directory; nothing is ever written through a link.
make_directory() {
    m_at='' m_rest=$1/
    while [ -n "${m_rest%/}" ]; do
        m_at=$m_at/${m_rest%%/*} m_rest=${m_rest#*/}
        if [ -L "$out$m_at" ] || [ -f "$out$m_at" ]; then
            die "/$1: $m_at is a file or a link in the image already, and cannot be a directory as well" \
                "leave one of the two out of stage.files or the manifest's Files, Dirs and MapDirs"
        fi
    done
    mkdir -p "$out/$1"
}

# make_room SOURCE GUEST: what was asked for by name replaces what was found.
make_room() {
    if [ -L "$out/$2" ] || [ -e "$out/$2" ]; then
        [ -L "$out/$2" ] || [ -f "$out/$2" ] || die "/$2: is a directory in the image already, and cannot be a file as well"
        cmp -s "$1" "$out/$2" || warn "/$2 from $1 replaces another file of that name"
        rm -f "$out/$2"
        clear_place "/$2"
    fi
}

# put SOURCE GUEST: a regular file, links followed.
put() {
    [ -f "$1" ] || die "$1 is not a regular file" "devices, sockets and directories cannot be staged as files"
    case $2 in */*) make_directory "${2%/*}" ;; esac
    make_room "$1" "$2"
    lay "$1" "$out/$2"
    printf '/%s\t%s\t\n' "$2" "$1" >>"$work/staged"
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

# --- klibs -----------------------------------------------------------------------------------------------------

# stage_empty GUESTDIR: a directory that has to be there, empty or not.
stage_empty() {
    clean_path "$1"
    [ -d "$out/$cleaned" ] || make_directory "$cleaned"
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

# report: what was staged from where, with the size of each file, and how much that is.
report() {
    find "$out" -type f -exec ls -ln {} + >"$work/sizes"
    out=$out awk -F '\t' '
        FILENAME == ARGV[1] {
            split($0, field, " ")
            name = $0
            for (i = 1; i <= 8; i++) sub(/^[^ ]+ +/, "", name)
            size[substr(name, length(ENVIRON["out"]) + 1)] = field[5]
            next
        }
        FILENAME == ARGV[2] { size["/" $1] = $3; next }
        { line[$1] = "staged: " $1 " <- " $2 " (" ($3 != "" ? $3 : size[$1] " bytes") ")" }
        END { for (path in line) print line[path] }' "$work/sizes" "$large_out" "$work/staged" | sort
    awk -F '\t' 'FILENAME == ARGV[1] { s += $3; next } { split($0, field, " "); n++; s += field[5] }
        END { printf "total: %d files, %.0f bytes\n", n, s }' "$large_out" "$work/sizes"
}

parse_arguments "$@"
need_readelf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
for file in staged queue missing calls sonames foreign dangling plan places; do : >"$work/$file"; done
mkdir -p "$out" "$klib_out"
mkdir -p "$(dirname "$warnings")"
: >"$warnings"
[ -z "$(ls -A "$out")" ] || die "$out is not empty" "build.run must not write there"
check_program
clean_path "$as"
program_at=$cleaned
put "$program_file" "$program_at"
[ -L "$out/$program_at" ] || chmod 755 "$out/$program_at"
[ "$libraries" = none ] || stage_closure
each stage_dir "$dirs"
each stage_map "$maps"
each stage_include "$includes"
stage_paths "$paths"
each stage_file "$files"
settle
[ -z "$start_in" ] || stage_start
[ "$interpreter_of" != python ] || compile_python "$program_file"
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
# Whoever mounts the tree has to know whether it is another one.
cat /proc/sys/kernel/random/uuid >"$(dirname "$warnings")/run"
report
