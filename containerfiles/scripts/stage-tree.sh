#!/bin/sh
# Gathers what goes into the image: the program, its whole ELF closure, files, directories and klibs.
#
# Runs inside the build container, in the work directory. POSIX sh (dash, busybox ash) with readelf and the usual
# small tools. It never executes the program or its loader: musl's loader would really run the program, and a GPU
# program may not even start where no GPU is.
#
#   sh stage-tree.sh --program PATH --as NAME [--libraries auto|none] [--search DIR]... [--extra NAME]...
#                    [--file ENTRY]... [--dir ENTRY]... [--map GLOB=GUESTDIR]...
#                    [--klib NAME]... [--klib-dir DIR] [--out DIR] [--klib-out DIR]
#
# stdout: a line `staged: PATH <- SOURCE (size)` for each thing, sorted, then a count. stderr: `warning: …` and
# `error: …`. Exit status 0, or 1 when anything is missing.
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

warn() { printf 'warning: %s\n' "$1" >&2; }

program='' as='' libraries=auto search='' extras='' files='' dirs='' maps='' klibs=''
klib_dir=. out=/stage klib_out=/klibs

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
            --dir) dirs=$dirs$2$nl ;;
            --map) maps=$maps$2$nl ;;
            --klib) klibs=$klibs$2$nl ;;
            --klib-dir) klib_dir=$2 ;;
            --out) out=$2 ;;
            --klib-out) klib_out=$2 ;;
            *) die "unknown option $1" ;;
        esac
        shift 2
    done
    if [ -z "$program" ] || [ -z "$as" ]; then die "--program and --as are needed"; fi
    case $libraries in auto | none) ;; *) die "--libraries is auto or none, not $libraries" ;; esac
}

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
    fi
}

# put SOURCE GUEST: a regular file, links followed.
put() {
    [ -f "$1" ] || die "$1 is not a regular file" "devices, sockets and directories can't be staged as files"
    case $2 in */*) make_directory "${2%/*}" ;; esac
    make_room "$1" "$2"
    cp -L "$1" "$out/$2"
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

# put_tree DIR GUEST: links verbatim, dangling ones left out (as ops does), empty directories kept.
put_tree() {
    list_tree "$1" >"$work/tree"
    make_directory "$2"
    t_count=0
    while IFS= read -r t_name; do
        t_name=${t_name#./}
        if [ -d "$1/$t_name" ] && [ ! -L "$1/$t_name" ]; then
            make_directory "$2/$t_name"
        elif [ -L "$1/$t_name" ] && [ ! -e "$1/$t_name" ]; then
            warn "$1/$t_name is left out: its target does not exist"
        else
            make_room "$1/$t_name" "$2/$t_name"
            cp -P "$1/$t_name" "$out/$2/$t_name"
            t_count=$((t_count + 1))
        fi
    done <"$work/tree"
    printf '/%s/\t%s\t%d files\n' "$2" "$1" "$t_count" >>"$work/staged"
}

# --- ELF -------------------------------------------------------------------------------------------------------

header() { od -An -v -tx1 -N20 <"$1" | tr -d ' \n'; }

# is_elf FILE: 64-bit little-endian x86-64; the loader skips other candidates too.
is_elf() { case $(header "$1") in 7f454c460201????????????????????????3e00) ;; *) return 1 ;; esac; }

scan() { readelf -W -l -d --dyn-syms "$1" >"$work/elf" 2>/dev/null || true; }
entries() { sed -n "s/^.*($1) .*\[\(.*\)\]\$/\1/p" "$work/elf"; }
interpreter() { sed -n 's/^.*Requesting program interpreter: \(.*\)\]$/\1/p' "$work/elf" | head -n 1; }

# candidates: programs below the work directory, the newest first.
candidates() {
    find . -maxdepth 6 -type f -perm -100 ! -name '*.so' ! -name '*.so.*' ! -name 'build-script*' \
        ! -path '*/deps/*' -exec ls -td {} + 2>/dev/null |
        while IFS= read -r c_file; do if is_elf "$c_file"; then printf '%s\n' "${c_file#./}"; fi; done | head -n 8
}

check_program() {
    if [ ! -f "$program" ]; then
        c_found=$(candidates | sed 's/^/    /')
        die "build.program: $program is not there after build.run (looked in $PWD)" \
            "${c_found:+programs that are there:$nl$c_found$nl  }give its path relative to the work directory"
    fi
    case $(header "$program") in
        7f454c460201????????????????????0[23]003e00) ;;
        7f454c460201????????????????????????3e00) die "build.program: $program is not linked (an object file or a core)" ;;
        7f454c46*) die "build.program: $program is for another machine: $(readelf -h "$program" 2>/dev/null |
            sed -n 's/^ *\(Class\|Machine\): *//p' | tr '\n' ' ')" "Gevulot's nodes are x86-64: compile for that" ;;
        2321*) die "build.program: $program is a script: $(head -n 1 "$program")" \
            "Nanos runs ELF programs only: name the compiled program" ;;
        *) die "build.program: $program is not an ELF program" "name the compiled program" ;;
    esac
}

# replace TEXT TOKEN VALUE
replace() {
    r_rest=$1 r_done=''
    while :; do
        case $r_rest in *"$2"*) ;; *) break ;; esac
        r_done=$r_done${r_rest%%"$2"*}$3 r_rest=${r_rest#*"$2"}
    done
    printf '%s\n' "$r_done$r_rest"
}

# expand RPATH FILE: its directories, one a line. $ORIGIN is where FILE was found, and where it really is.
expand() {
    for e_origin in "$(dirname "$2")" "$(dirname "$(readlink -f "$2")")"; do
        e_text=$(replace "$1" : "$nl")
        for e_pair in "ORIGIN=$e_origin" "LIB=${libdir#/}" PLATFORM=x86_64; do
            e_text=$(replace "$e_text" "\$${e_pair%%=*}" "${e_pair#*=}")
            e_text=$(replace "$e_text" "\${${e_pair%%=*}}" "${e_pair#*=}")
        done
        printf '%s\n' "$e_text"
    done | grep '^/' || true
}

# rpath_of FILE (scanned): DT_RPATH counts only where there is no DT_RUNPATH.
rpath_of() { [ -n "$(entries RUNPATH)" ] || expand "$(entries RPATH)" "$1"; }

# conf_directories FILE...: the directories that ld.so.conf names, includes (globs, relative to /etc) followed.
# shellcheck disable=SC2086
conf_directories() {
    for d_file in "$@"; do
        [ -f "$d_file" ] || continue
        sed -e 's/#.*//' -e 's/[[:space:]]*$//' "$d_file" | while IFS= read -r d_line; do
            case $d_line in
                include[[:space:]]*) (cd /etc && conf_directories ${d_line#include}) ;;
                /*) printf '%s\n' "$d_line" ;;
            esac
        done
    done
}

# find_defaults INTERPRETER: sets libdir, where the guest's loader looks without a cache, and system_dirs, where
# the build's looks. Both loaders hold their default directories as text; glibc's each end in a slash.
find_defaults() {
    libdir='' f_path=/etc/$(basename "$1" | sed 's/\.so.*//').path
    case ${1##*/} in
        ld-musl-*)
            libdir=/lib system_dirs=/lib$nl/usr/local/lib$nl/usr/lib
            [ ! -f "$f_path" ] || system_dirs=$(tr ':' '\n' <"$f_path")
            return ;;
    esac
    f_built_in=$([ ! -f "$1" ] || tr -cs 'a-zA-Z0-9_./-' '\n' <"$1" |
        sed -n 's;^\(/\(usr/\)\{0,1\}lib[0-9a-z]*\(/[^/]*-linux-gnu[^/]*\)\{0,1\}\)/$;\1;p' | awk '!seen[$0]++')
    f_usual="/lib/x86_64-linux-gnu$nl/usr/lib/x86_64-linux-gnu$nl/lib64$nl/usr/lib64$nl/lib$nl/usr/lib"
    system_dirs=$(conf_directories /etc/ld.so.conf)$nl$f_built_in$nl$f_usual
    libdir=$(printf '%s\n' "$f_built_in" "$f_usual" | while IFS= read -r f_dir; do
        if [ -n "$f_dir" ] && [ -d "$f_dir" ]; then printf '%s\n' "$f_dir"; fi
    done | head -n 1)
}

search_directories() (
    IFS=$nl
    # shellcheck disable=SC2086  # each may be a glob
    for d in $search; do case $d in /*) printf '%s\n' "$d" ;; *) printf '%s\n' "$PWD/$d" ;; esac; done
    replace "${LD_LIBRARY_PATH:-}" : "$nl" | grep '^/' || true
)

# is_loaded NAME: the loader itself answers to its own name; musl's is the C library too.
is_loaded() {
    [ "$1" != "${interp##*/}" ] || return 0
    case ${interp##*/}:${1%%.*} in
        ld-musl-*:libc | ld-musl-*:libpthread | ld-musl-*:librt | ld-musl-*:libm | ld-musl-*:libdl | ld-musl-*:libutil) ;;
        *) return 1 ;;
    esac
}

# want NAME BY DIRECTORIES: stage the library, once, and queue it; or note that it is missing.
want() {
    if is_loaded "$1" || grep -qxF -e "$1" "$work/names"; then return; fi
    w_dirs=$3 w_to=${libdir#/}/$1 w_found=''
    case $1 in /*) w_dirs=/ ;; */*) w_dirs=$PWD ;; esac
    case $1 in */*) w_to=$(guest_path "$1") ;; esac
    printf '%s\n' "$w_dirs" >"$work/directories"
    while IFS= read -r w_dir; do
        w_file=${w_dir%/}/${1#/}
        if [ -n "$w_dir" ] && [ -f "$w_file" ] && is_elf "$w_file"; then w_found=$w_file && break; fi
    done <"$work/directories"
    if [ -z "$w_found" ]; then
        printf '%s\t%s\n' "$1" "$2" >>"$work/missing"
        return
    fi
    printf '%s\n' "$1" >>"$work/names"
    printf '%s\n' "$w_found" >>"$work/queue"
    put "$w_found" "$w_to"
}

# chase FILE: what it needs, by the loader's order: RPATH (its own, the program's), --search, RUNPATH, the system's.
chase() {
    scan "$1"
    sed -n "s/.* UND \(dlopen\|iconv_open\|pthread_cancel\|pthread_exit\)\([@ ].*\)\{0,1\}\$/\1$tab${1##*/}/p" \
        "$work/elf" >>"$work/calls"
    s_dirs=$(rpath_of "$1" && printf '%s\n' "$program_rpath" "$searched" && expand "$(entries RUNPATH)" "$1" && printf '%s\n' "$system_dirs")
    entries NEEDED >"$work/needed"
    while IFS= read -r s_name; do want "$s_name" "$1" "$s_dirs"; done <"$work/needed"
}

stage_closure() {
    scan "$program"
    interp=$(interpreter)
    find_defaults "$interp"
    searched=$(search_directories)
    program_rpath=$(rpath_of "$PWD/$program")
    make_directory lib
    make_directory lib64
    if [ -n "$interp" ]; then
        [ -f "$interp" ] || die "the program's loader $interp is not in the base" "build for the base's C library, or link statically"
        put "$interp" "$(guest_path "$interp")"
    fi
    printf '%s\n' "$PWD/$program" >"$work/queue"
    s_first=1
    while IFS= read -r s_file <&3; do
        chase "$s_file"
        [ "$s_first" = 1 ] || continue
        # The program's own needs come first, as they do for the loader; then what it opens by name.
        s_first=0
        printf '%s' "$extras" >"$work/extras"
        while IFS= read -r s_name; do want "$s_name" "the program, by stage.extra" "$s_dirs"; done <"$work/extras"
    done 3<"$work/queue"
    [ ! -s "$work/missing" ] || report_missing
    case $interp in '') ;; *) hint_at_dlopen ;; esac
}

report_missing() {
    m_names=$(cut -f 1 "$work/missing" | sort -u)
    case $nl$m_names$nl in
        *"${nl}libcuda.so.1$nl"* | *"${nl}libnvidia-ml.so.1$nl"*)
            printf '  libcuda and libnvidia-ml belong to the driver, not to CUDA: they come from gpu-assets\n' ;;
    esac >"$work/remedy"
    die "not found in the build container: $(printf '%s' "$m_names" | tr '\n' ' ')" \
        "$(sort -u "$work/missing" | sed -e "s,$tab, is needed by ," -e '2,$s,^,  ,')" \
        "looked in: $(printf '%s\n' "$program_rpath" "$searched" "$system_dirs" | awk 'NF && !seen[$0]++' | tr '\n' ' ')" \
        "and in each one's own RPATH and RUNPATH" \
        "$(cat "$work/remedy")${nl}  add the package that has it to build.packages, or take a wrong name out of stage.extra"
}

# callers PATTERN: who calls such a function, the C library's own parts left out.
callers() {
    grep -E "^($1)$tab" "$work/calls" | cut -f 2 | grep -vE '^(libc\.so|libm\.so|libpthread\.so|libdl\.so|ld-)' |
        sort -u | tr '\n' ' '
}

hint_at_dlopen() {
    h_who=$(callers dlopen)
    [ -z "$h_who" ] || [ -n "$extras" ] ||
        warn "${h_who}can load libraries by name, which staging can't see: name those in stage.extra"
    case $interp in *ld-musl-*) return ;; esac
    h_who=$(callers iconv_open)
    [ -z "$h_who" ] || warn "${h_who}can convert character sets: glibc's gconv modules are not staged"
    h_who=$(callers 'pthread_cancel|pthread_exit')
    [ -z "$h_who" ] || grep -qxF libgcc_s.so.1 "$work/names" ||
        warn "${h_who}can make glibc load libgcc_s.so.1 by name: add it to stage.extra"
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
    make_directory "$m_to"
    while IFS= read -r m_name; do
        m_name=${m_name#./}
        [ -e "$m_dir/$m_name" ] || die "MapDirs: $m_dir/$m_name is a link whose target does not exist"
        if [ -d "$m_dir/$m_name" ]; then make_directory "${m_to:+$m_to/}$m_name"
        else put "$m_dir/$m_name" "${m_to:+$m_to/}$m_name"; fi
    done <"$work/map"
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
for file in staged names missing calls; do : >"$work/$file"; done
mkdir -p "$out" "$klib_out"
[ -z "$(ls -A "$out")" ] || die "$out is not empty" "build.run must not write there"
check_program
put "$PWD/$program" "$(guest_path "$as")"
chmod 755 "$out/$(guest_path "$as")"
[ "$libraries" = none ] || stage_closure
each stage_dir "$dirs"
each stage_map "$maps"
each stage_file "$files"
each stage_klib "$klibs"
awk -F '\t' '{ line[$1] = "staged: " $1 " <- " $2 " (" $3 ")" } END { for (p in line) print line[p] }' "$work/staged" | sort
find "$out" -type f -exec ls -ln {} + | awk '{ n++; s += $5 } END { printf "total: %d files, %.0f bytes\n", n, s }'
