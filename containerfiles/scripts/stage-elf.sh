# shellcheck shell=sh
# The ELF half of stage-tree.sh, which sources it: what a program, and every other ELF file that is packed, needs.
#
# shellcheck disable=SC2154  # set by stage-tree.sh: out, work, nl, tab, here, program, program_file, program_at, search, extras, includes, interpreter_of

header() { od -An -v -tx1 -N20 <"$1" | tr -d ' \n'; }

# is_elf FILE: 64-bit little-endian x86-64; the loader skips other candidates too.
is_elf() { case $(header "$1") in 7f454c460201????????????????????????3e00) ;; *) return 1 ;; esac; }

scan() { readelf -W -l -d --dyn-syms "$1" >"$work/elf" 2>/dev/null || true; }
entries() { sed -n "s/^.*($1) .*\[\(.*\)\]\$/\1/p" "$work/elf"; }
interpreter() { sed -n 's/^.*Requesting program interpreter: \(.*\)\]$/\1/p' "$work/elf" | head -n 1; }

# by_name: what glibc or the program itself loads by name through these, and staging can't see.
by_name='dlopen iconv_open pthread_cancel pthread_exit thrd_exit backtrace'

# candidates: programs below the work directory, the newest first.
candidates() {
    find . -maxdepth 6 -type f -perm -100 ! -name '*.so' ! -name '*.so.*' ! -name 'build-script*' \
        ! -path '*/deps/*' -exec ls -td {} + 2>/dev/null |
        while IFS= read -r c_file; do if is_elf "$c_file"; then printf '%s\n' "${c_file#./}"; fi; done | head -n 8
}

check_program() {
    if [ ! -f "$program" ]; then
        c_found=$(candidates | sed 's/^/    /')
        case $program in /*) c_looked='' ;; *) c_looked=" (looked in $PWD)" ;; esac
        die "build.program: $program is not there after build.run$c_looked" \
            "${c_found:+programs that are there:$nl$c_found$nl  }give its path relative to the work directory, or absolute"
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

# --- where loaders look ----------------------------------------------------------------------------------------

# replace TEXT TOKEN VALUE
replace() {
    r_rest=$1 r_done=''
    while :; do
        case $r_rest in *"$2"*) ;; *) break ;; esac
        r_done=$r_done${r_rest%%"$2"*}$3 r_rest=${r_rest#*"$2"}
    done
    printf '%s\n' "$r_done$r_rest"
}

# expand_from RPATH ORIGIN: its directories, one a line.
expand_from() {
    e_text=$(replace "$1" : "$nl")
    for e_pair in "ORIGIN=$2" "LIB=${libdir#/}" PLATFORM=x86_64; do
        case $e_text in *\$*) ;; *) break ;; esac
        e_text=$(replace "$e_text" "\$${e_pair%%=*}" "${e_pair#*=}")
        e_text=$(replace "$e_text" "\${${e_pair%%=*}}" "${e_pair#*=}")
    done
    printf '%s\n' "$e_text"
}

# expand RPATH FILE: $ORIGIN is where FILE was found, and where it really is.
expand() {
    [ -n "$1" ] || return 0
    for e_origin in "$(dirname "$2")" "$(dirname "$(readlink -f "$2")")"; do
        expand_from "$1" "$e_origin"
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

# find_defaults INTERPRETER: sets guest_dirs, where the guest's loader looks by itself (no cache is there), libdir, the
# one that libraries are staged in, and system_dirs, where the build's looks. Both loaders hold their default
# directories as text; glibc's each end in a slash.
find_defaults() {
    libdir='' f_path=/etc/$(basename "$1" | sed 's/\.so.*//').path
    case ${1##*/} in
        ld-musl-*)
            libdir=/lib system_dirs=/lib$nl/usr/local/lib$nl/usr/lib guest_dirs=$system_dirs
            [ ! -f "$f_path" ] || system_dirs=$(tr ':' '\n' <"$f_path")
            return ;;
    esac
    f_built_in=$([ ! -f "$1" ] || tr -cs 'a-zA-Z0-9_./-' '\n' <"$1" |
        sed -n 's;^\(/\(usr/\)\{0,1\}lib[0-9a-z]*\(/[^/]*-linux-gnu[^/]*\)\{0,1\}\)/$;\1;p' | awk '!seen[$0]++')
    f_usual="/lib/x86_64-linux-gnu$nl/usr/lib/x86_64-linux-gnu$nl/lib64$nl/usr/lib64$nl/lib$nl/usr/lib"
    system_dirs=$(conf_directories /etc/ld.so.conf)$nl$f_built_in$nl$f_usual
    guest_dirs=${f_built_in:-$f_usual}
    libdir=$(printf '%s\n' "$f_built_in" "$f_usual" | while IFS= read -r f_dir; do
        if [ -n "$f_dir" ] && [ -d "$f_dir" ]; then printf '%s\n' "$f_dir"; fi
    done | head -n 1)
}

search_directories() (
    IFS=$nl
    # shellcheck disable=SC2086  # each may be a glob
    for d in $search; do case $d in /*) printf '%s\n' "$d" ;; *) printf '%s\n' "$here/$d" ;; esac; done
    replace "${LD_LIBRARY_PATH:-}" : "$nl" | grep '^/' || true
)

# --- the closure -----------------------------------------------------------------------------------------------

# is_loaded NAME: the loader itself answers to its own name; musl's is the C library too.
is_loaded() {
    [ "$1" != "${interp##*/}" ] || return 0
    case ${interp##*/}:${1%%.*} in
        ld-musl-*:libc | ld-musl-*:libpthread | ld-musl-*:librt | ld-musl-*:libm | ld-musl-*:libdl | ld-musl-*:libutil) ;;
        *) return 1 ;;
    esac
}

is_known() { case $nl$names in *"$nl$1$nl"*) ;; *) return 1 ;; esac; }

# find_library NAME DIRECTORIES: sets found.
find_library() {
    l_dirs=$2 found=''
    case $1 in /*) l_dirs=/ ;; */*) l_dirs=$PWD ;; esac
    printf '%s\n' "$l_dirs" >"$work/directories"
    while IFS= read -r l_dir; do
        l_file=${l_dir%/}/${1#/}
        if [ -n "$l_dir" ] && [ -f "$l_file" ] && is_elf "$l_file"; then found=$l_file && return; fi
    done <"$work/directories"
    return 1
}

# stage_library NAME FILE: in the loader's own directory, and queued, for what it needs itself.
stage_library() {
    names=$names$1$nl
    printf '%s\n' "$2" >>"$work/queue"
    case $1 in */*) clean_path "$1" ;; *) cleaned=${libdir#/}/$1 ;; esac
    put "$2" "$cleaned"
}

# want NAME BY DIRECTORIES: stage the library, once; or note that it is missing.
want() {
    if is_loaded "$1" || is_known "$1"; then return; fi
    if find_library "$1" "$3"; then stage_library "$1" "$found"; else printf '%s\t%s\n' "$1" "$2" >>"$work/missing"; fi
}

# chase FILE: what it needs, by the loader's order: RPATH (its own, the program's), --search, RUNPATH, the system's.
chase() {
    scan "$1"
    sed -n "s/.* UND \($(replace "$by_name" ' ' '\|')\)\([@ ].*\)\{0,1\}\$/\1$tab${1##*/}/p" "$work/elf" >>"$work/calls"
    s_dirs=$(rpath_of "$1" && printf '%s\n' "$program_rpath" "$searched" && expand "$(entries RUNPATH)" "$1" && printf '%s\n' "$system_dirs")
    entries SONAME >>"$work/sonames"
    entries NEEDED >"$work/needed"
    while IFS= read -r s_name; do want "$s_name" "$1" "$s_dirs"; done <"$work/needed"
}

# chase_queue: breadth first, as the loaders do.
chase_queue() {
    while [ -s "$work/queue" ]; do
        cat "$work/queue" >"$work/chased"
        : >"$work/queue"
        while IFS= read -r q_file <&3; do chase "$q_file"; done 3<"$work/chased"
    done
}

# stage_closure: of the program, then of what it opens by name; sets interp, the program's loader.
stage_closure() {
    scan "$program"
    interp=$(interpreter) names=''
    find_defaults "$interp"
    searched=$(search_directories)
    program_rpath=$(rpath_of "$program_file")
    make_directory lib
    make_directory lib64
    if [ -n "$interp" ]; then
        [ -f "$interp" ] || die "the program's loader $interp is not in the base" "build for the base's C library, or link statically"
        clean_path "$interp"
        put "$interp" "$cleaned"
    fi
    # The program's own needs come first, as they do for the loader.
    chase "$program_file"
    printf '%s' "$extras" >"$work/extras"
    while IFS= read -r s_name; do want "$s_name" "the program, by stage.extra" "$s_dirs"; done <"$work/extras"
    chase_queue
    [ ! -s "$work/missing" ] || report_missing
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

# --- ELF files among what was packed ---------------------------------------------------------------------------

# packed_elf: the paths (./…) of all files in the tree that a node's loader could load: linked, x86-64, for Linux. One
# process a hundred files: the first 32 bytes of each, which od writes as two lines.
packed_elf() (
    cd "$out"
    find . -type f -size +63c >"$work/sizable"
    find . -type f -size +63c -exec head -q -c 32 {} + | od -An -v -tx1 | tr -d ' ' |
        awk 'FILENAME == ARGV[1] { path[NR] = $0; next }
            FNR % 2 && /^7f454c460201..0[03]/ { start = FNR }
            FNR % 2 == 0 && start == FNR - 1 && /^0[23]003e00/ { print path[FNR / 2] }' "$work/sizable" -
)

# read_packed: "PATH <tab> what <tab> VALUE" for the tree's ELF files: interp, needed, soname, rpath, runpath, calls.
# readelf is given the program as well, since it names files only when they are several.
read_packed() (
    cd "$out"
    set --
    while IFS= read -r p_file; do
        set -- "$@" "$p_file"
        if [ $# -eq 100 ]; then
            readelf -W -l -d --dyn-syms "./$program_at" "$@" 2>/dev/null || true
            set --
        fi
    done
    [ $# -eq 0 ] || readelf -W -l -d --dyn-syms "./$program_at" "$@" 2>/dev/null || true
)

tabulate() {
    awk -v calls="$by_name" 'BEGIN { n = split(calls, list, " "); for (i = 1; i <= n; i++) by_name[list[i]] = 1 }
        function say(what, value) { print file "\t" what "\t" value }
        function bracketed() { value = $0; sub(/^[^[]*\[/, "", value); sub(/\]$/, "", value); return value }
        /^File: / { file = substr($0, 8); next }
        /Requesting program interpreter: / { value = $0; sub(/^.*interpreter: /, "", value); sub(/\]$/, "", value); say("interp", value) }
        / \(NEEDED\) / { say("needed", bracketed()) }
        / \(SONAME\) / { say("soname", bracketed()) }
        / \(RPATH\) / { say("rpath", bracketed()) }
        / \(RUNPATH\) / { say("runpath", bracketed()) }
        $7 == "UND" { name = $8; sub(/@.*/, "", name); if (name in by_name) say("calls", name) }'
}

# unmet: what no library that is staged by now answers to: "PATH <tab> NAME <tab> SOURCE <tab> what <tab> RPATH", where
# what is rpath or runpath. Files of another C library, and programs of another loader, go to foreign.
unmet() {
    awk -F '\t' -v interp="$interp" -v foreign="$work/foreign" '
        FILENAME == ARGV[1] && $1 ~ /\/$/ { at[++staged] = $1; below[staged] = $2; next }
        FILENAME == ARGV[1] { from[$1] = $2; next }
        FILENAME == ARGV[2] { known[$0] = 1; next }
        !($1 in seen) { seen[$1] = 1; order[++files] = $1 }
        $2 == "interp" && interp != "" && base($3) != base(interp) { other[$1] = "is a program for another loader, " $3 }
        $2 == "needed" && !($1 in other) && is_other($3) { other[$1] = "is made for another C library, " $3 }
        $2 == "needed" { needed[$1] = needed[$1] $3 "\t" }
        $2 == "rpath" || $2 == "runpath" { if (kind[$1] != "runpath") { kind[$1] = $2; path[$1] = $3 } }
        # glibc has libc.so.6; Alpine calls musl libc.musl-x86_64.so.1, others libc.so.
        function is_other(name) {
            if (interp ~ /\/ld-musl-/) return name ~ /^(libc\.so\.6|ld-linux.*)$/
            return interp != "" && name ~ /^(libc\.musl-.*|ld-musl-.*|libc\.so)$/
        }
        function base(path) { sub(/.*\//, "", path); return path }
        function source(file,    i) {
            if (file in from) return from[file]
            for (i = staged; i; i--) if (index(file, at[i]) == 1) return below[i] "/" substr(file, length(at[i]) + 1)
            return file
        }
        END {
            for (i = 1; i <= files; i++) {
                file = order[i]
                if (file in other) { print file "\t" other[file] >foreign; continue }
                count = split(needed[file], wanted, "\t")
                for (k = 1; k < count; k++)
                    if (!(wanted[k] in known)) print file "\t" wanted[k] "\t" source(file) "\t" (kind[file] ? kind[file] : "-") "\t" path[file]
            }
        }' "$work/staged" "$work/known" "$work/table"
}

# is_packed FILE NAME RPATH: whether the guest's loader finds it where it was packed with files and directories.
is_packed() {
    case $2 in /*) [ -f "$out$2" ] && return ;; */*) [ -f "$out/$2" ] && return ;; esac
    if [ "$3" != "$i_path" ] || [ "${1%/*}" != "$i_origin" ]; then
        i_path=$3 i_origin=${1%/*}
        i_dirs=$(expand_from "$i_path" "$i_origin")$nl$guest_dirs
    fi
    i_rest=$i_dirs$nl
    while [ -n "$i_rest" ]; do
        i_dir=${i_rest%%"$nl"*} i_rest=${i_rest#*"$nl"}
        case $i_dir in /*) if [ -f "$out$i_dir/$2" ]; then return; fi ;; esac
    done
    return 1
}

# stage_needs_of_packed: plugins, modules and whatever else was packed as a file, each with its own search path.
stage_needs_of_packed() {
    i_path=- i_origin=-
    { packed_elf && large_elf; } | read_packed | tabulate >"$work/table"
    printf '%s' "$names" | cat - "$work/sonames" >"$work/known"
    awk -F '\t' '$2 == "calls" { name = $1; sub(/.*\//, "", name); print $3 "\t" name }' "$work/table" >>"$work/calls"
    unmet >"$work/unmet"
    while IFS=$tab read -r n_file n_name n_source n_kind n_path <&4; do
        if is_loaded "$n_name" || is_known "$n_name" || is_packed "$n_file" "$n_name" "$n_path"; then continue; fi
        n_own=$(expand "$n_path" "$n_source") n_first=$n_own
        [ "$n_kind" = rpath ] || n_first=''
        want "$n_name" "$n_source" "$n_first$nl$program_rpath$nl$searched$nl$n_own$nl$system_dirs"
    done 4<"$work/unmet"
    chase_queue
    forget_packed_names
    [ ! -s "$work/missing" ] || report_missing
    while IFS=$tab read -r n_file n_why; do warn "$n_file $n_why: its libraries are not staged"; done <"$work/foreign"
}

# forget_packed_names: what lies anywhere in the tree may be found by LD_LIBRARY_PATH or a cache: verify knows.
forget_packed_names() {
    while IFS=$tab read -r p_name p_by; do
        [ -n "$(find "$out" -name "${p_name##*/}" | head -n 1)" ] || printf '%s\t%s\n' "$p_name" "$p_by"
    done <"$work/missing" >"$work/nowhere"
    cat "$work/nowhere" >"$work/missing"
}

# --- loaded by name --------------------------------------------------------------------------------------------

# callers PATTERN: who calls such a function, the C library's own parts left out; the first few of many.
callers() {
    grep -E "^($1)$tab" "$work/calls" | cut -f 2 | grep -vE '^(libc\.so|libm\.so|libpthread\.so|libdl\.so|ld-)' |
        sort -u | awk 'NR <= 5 { printf "%s ", $0 } END { if (NR > 5) printf "and %d more ", NR - 5 }'
}

# stage_unwinder: glibc loads libgcc_s.so.1 by name to end a thread (measured in 2.36: pthread_cancel, pthread_exit,
# which thrd_exit calls, and backtrace), and aborts the program when it isn't there.
stage_unwinder() {
    case $interp in '' | *ld-musl-*) return ;; esac
    u_who=$(callers 'pthread_cancel|pthread_exit|thrd_exit|backtrace')
    if [ -z "$u_who" ] || is_known libgcc_s.so.1 || [ -f "$out$libdir/libgcc_s.so.1" ]; then return; fi
    if find_library libgcc_s.so.1 "$searched$nl$system_dirs"; then
        stage_library libgcc_s.so.1 "$found"
        chase_queue
    else
        warn "${u_who}can make glibc load libgcc_s.so.1, which the base has not: add its package (libgcc-s1) to build.packages"
    fi
}

hint_at_dlopen() {
    case $interp in '') return ;; esac
    if [ -n "$interpreter_of" ]; then return; fi # what it loads by name is packed, and the rest is every interpreter's own
    h_who=$(callers dlopen)
    [ -z "$h_who" ] || [ -n "$extras" ] ||
        warn "${h_who}can load libraries by name, which staging cannot see: name those in stage.extra"
    case $interp in *ld-musl-*) return ;; esac
    case $nl$includes in *"${nl}gconv$nl"*) return ;; esac
    h_who=$(callers iconv_open)
    [ -z "$h_who" ] || warn "${h_who}can convert character sets: for glibc's gconv modules, write \`stage: {include: [gconv]}\`"
}
