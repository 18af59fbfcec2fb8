# shellcheck shell=sh
# The files half of stage-tree.sh, which sources it: everything that is named, however many there are.
#
# Nothing is copied while entries are read: each writes what it wants as lines of $work/plan, and settle carries them
# out together, a process for many files. A line is KIND GUEST SOURCE, with a unit separator between them:
#   r  a directory, with all that follows of it         d F l  a directory, file, link below an r, copied as it is
#   m  a directory to make                              f      a file, links followed
#   a  an f, unless something is there already          x      something of a directory that stays out
#   n  must be there by then; SOURCE says what to say otherwise, and a fourth column what to do
#
# shellcheck disable=SC2154  # set by stage-tree.sh: out, work, nl, here

sep=$(printf '\037')

# in_batches COMMAND...: with the lines that it reads as arguments, many at a time.
# shellcheck disable=SC2086  # a command and its options
in_batches() {
    b_command=$*
    set --
    while IFS= read -r b_line; do
        set -- "$@" "$b_line"
        if [ $# -eq 200 ]; then
            $b_command "$@"
            set --
        fi
    done
    [ $# -eq 0 ] || $b_command "$@"
}

# clean_path TEXT: sets cleaned: TEXT as a path below the guest's root, without the leading slash ("" = the root).
clean_path() {
    cleaned=${1#/}
    cleaned=${cleaned%/}
    case /$cleaned/ in
        */../*) die "$1: '..' has no meaning in the image" "give a path inside the work directory" ;;
        */./* | *//*) cleaned=$(printf '/%s\n' "$1" | tr -s / | sed -e ':a' -e 's,/\./,/,' -e 'ta' -e 's,/\.$,/,' -e 's,/$,,' -e 's,^/,,') ;;
    esac
}

plan() { printf '%s%s%s%s%s\n' "$1" "$sep" "$2" "$sep" "$3" >>"$work/plan"; }

# plan_file SOURCE GUEST
plan_file() {
    [ -f "$1" ] || die "$1 is not a regular file" "devices, sockets and directories cannot be staged as files"
    plan f "$2" "$1"
    printf '/%s\t%s\t\n' "$2" "$1" >>"$work/staged"
}

# --- trees -----------------------------------------------------------------------------------------------------

# list_tree DIR [NAME]: KIND and name of what is below and called so (a pattern), parents first; s: what no image holds.
list_tree() (
    cd "$1"
    l_bad=$(find . \( -name "*$nl*" -o -name "*$sep*" \) | head -n 1)
    [ -z "$l_bad" ] || die "$1: a name in it holds a line break; rename it"
    for l_kind in d f l; do find . ! -name . -name "${2:-*}" -type $l_kind | sed "s,^\./,$l_kind$sep,"; done | sort
    find . ! -type f ! -type d ! -type l | sed "s,^\./,s$sep," | sort
)

# choose GLOB EXCLUDES: of listed lines those that GLOB matches ('' = all), with what is below; and `x NAME` for what
# is left out of them. `*` and `?` match no slash, `**` any part of a path. EXCLUDES, one a line: with a slash they match
# the path, without one any name.
choose() {
    glob=$1 excludes=$2 awk -F "$sep" '
        function regex(glob,   text, c, end) {
            for (text = "^"; glob != ""; glob = substr(glob, 2)) {
                c = substr(glob, 1, 1)
                end = c == "[" ? index(substr(glob, 3), "]") : 0
                if (substr(glob, 1, 3) == "**/") { text = text "(.*/)?"; glob = substr(glob, 3) }
                else if (substr(glob, 1, 2) == "**") { text = text ".*"; glob = substr(glob, 2) }
                else if (c == "*") text = text "[^/]*"
                else if (c == "?") text = text "[^/]"
                else if (end) {
                    c = substr(glob, 1, end + 2)
                    sub(/^\[[!^]/, "[^/", c)
                    text = text c
                    glob = substr(glob, end + 2)
                }
                else text = text (index("].+(){}|^$\\[", c) ? "\\" : "") c
            }
            return text "$"
        }
        function is_excluded(path, name,   i) {
            for (i = 1; i <= names; i++) if (name ~ by_name[i]) return 1
            for (i = 1; i <= paths; i++) if (path ~ by_path[i]) return 1
            return 0
        }
        BEGIN {
            glob = ENVIRON["glob"] == "" ? "" : regex(ENVIRON["glob"])
            count = split(ENVIRON["excludes"], list, "\n")
            for (i = 1; i <= count; i++) {
                sub(/\/$/, "", list[i])
                if (list[i] ~ /\//) { sub(/^\//, "", list[i]); by_path[++paths] = regex(list[i]) }
                else if (list[i] != "") by_name[++names] = regex(list[i])
            }
        }
        {
            parent = match($2, /\/[^\/]*$/) ? substr($2, 1, RSTART - 1) : ""
            if (parent in left_out) { left_out[$2]; next }
            if (is_excluded($2, substr($2, parent == "" ? 1 : length(parent) + 2))) { left_out[$2]; print "x" FS $2; next }
            if (glob != "") {
                if (!(parent in matched) && $2 !~ glob) next
                matched[$2]
            }
            print
        }'
}

# plan_tree DIR GUEST GLOB EXCLUDES: links verbatim, empty directories kept. A link that leads nowhere here may do so in
# the image. Sets planned, the number of files and links.
plan_tree() {
    list_tree "$1" >"$work/listed"
    choose "$3" "$4" <"$work/listed" >"$work/tree"
    t_bad=$(sed -n "s,^s$sep,,p" "$work/tree" | head -n 1)
    [ -z "$t_bad" ] || die "$1/$t_bad is a device, socket or pipe" "only files, directories and links go into the image"
    [ -n "$3" ] || plan r "$2" "$1"
    from=$1 to=${2:+$2/} awk -F "$sep" -v OFS="$sep" '
        { print ($1 == "f" ? "F" : $1), ENVIRON["to"] $2, ENVIRON["from"] "/" $2 }' "$work/tree" >>"$work/plan"
    sed -n "s,^l$sep,,p" "$work/tree" >"$work/links"
    while IFS= read -r t_name; do
        [ -e "$1/$t_name" ] || printf '/%s%s\n%s\n' "${2:+$2/}" "$t_name" "$1/$t_name" >>"$work/dangling"
    done <"$work/links"
    planned=$(grep -c "^[fl]$sep" "$work/tree" || true)
    printf '/%s\t%s\t%d files\n' "${2:+$2/}" "$1" "$planned" >>"$work/staged"
}

# --- what was asked for ----------------------------------------------------------------------------------------

# ops reads Files below the working directory, absolute entries as well.
stage_file() {
    clean_path "$1"
    if [ -d "$here/$cleaned" ]; then die "Files: $1 is a directory" "put it in stage.files, which takes directories, or in the manifest's Dirs"
    elif [ -e "$here/$cleaned" ]; then plan_file "$here/$cleaned" "$cleaned"
    elif [ "${1#/}" != "$1" ] && [ -f "$1" ]; then
        plan a "$cleaned" "$1"
        printf '/%s\t%s\t\n' "$cleaned" "$1" >>"$work/staged"
    else
        f_looked="$here/$cleaned$(case $1 in /*) printf ' and %s' "$1" ;; esac)"
        plan n "$cleaned" "Files: $1 is not there (looked for $f_looked)${sep}make it in build.run, or take it out of the manifest's Files"
    fi
}

stage_dir() {
    clean_path "$1"
    [ -n "$cleaned" ] || die "Dirs: '$1' would copy everything" "name the directories that the program needs"
    case $1 in /*) d_from=/$cleaned ;; *) d_from=$here/$cleaned ;; esac
    if [ -d "$d_from" ]; then plan_tree "$d_from" "$cleaned" '' ''
    elif [ -e "$d_from" ]; then die "Dirs: $1 is a file" "put it in stage.files or the manifest's Files"
    elif [ ! -d "$out/$cleaned" ]; then
        die "Dirs: $1 is not there (looked for $d_from)" "make it in build.run, or take it out of the manifest"
    fi
}

# MapDirs: the last part is a glob for the name of everything below the directory; links are followed.
stage_map() {
    case $1 in *=*) ;; *) die "--map $1: needs GLOB=GUESTDIR" ;; esac
    m_glob=${1%=*}
    clean_path "${1##*=}"
    case $m_glob in /*) m_dir=${m_glob%/*}/ ;; */*) m_dir=$here/${m_glob%/*} ;; *) m_dir=$here ;; esac
    [ -d "$m_dir" ] || die "MapDirs: $m_dir is not there" "make it in build.run, or take it out of the manifest"
    m_dir=${m_dir%/}
    list_tree "$m_dir/" "${m_glob##*/}" >"$work/tree"
    m_bad=$(sed -n "s,^s$sep,,p" "$work/tree" | head -n 1)
    [ -z "$m_bad" ] || die "$m_dir/$m_bad is a device, socket or pipe" "only files, directories and links go into the image"
    # A directory is a whole only where each name in it was asked for.
    if [ "${m_glob##*/}" = '*' ]; then m_kind=d && plan r "$cleaned" "$m_dir"; else m_kind=m && plan m "$cleaned" ''; fi
    from=$m_dir to=${cleaned:+$cleaned/} kind=$m_kind awk -F "$sep" -v OFS="$sep" '
        $1 == "l" { next }
        { print ($1 == "f" ? "F" : ENVIRON["kind"]), ENVIRON["to"] $2, ENVIRON["from"] "/" $2 }' "$work/tree" >>"$work/plan"
    sed -n "s,^l$sep,,p" "$work/tree" >"$work/links"
    while IFS= read -r m_name; do
        [ -e "$m_dir/$m_name" ] || die "MapDirs: $m_dir/$m_name is a link whose target does not exist"
        if [ -d "$m_dir/$m_name" ]; then plan m "${cleaned:+$cleaned/}$m_name" ''
        else
            [ -f "$m_dir/$m_name" ] || die "$m_dir/$m_name is not a regular file" "devices, sockets and directories cannot be staged as files"
            plan f "${cleaned:+$cleaned/}$m_name" "$m_dir/$m_name"
        fi
    done <"$work/links"
    printf '/%s\t%s\t%d files\n' "${cleaned:+$cleaned/}" "$m_dir" "$(grep -c "^[fl]$sep" "$work/tree" || true)" >>"$work/staged"
}

# stage_path PATH TO EXCLUDES: an entry of stage.files: a file, a directory or a glob, below the work directory or, with
# a slash in front, the container's root. TO ('' = the same path): of a file its path in the image, otherwise the
# directory for what is in it, or for what the glob matches.
stage_path() {
    clean_path "$1"
    p_path=$cleaned p_root=$here/
    case $1 in /*) p_root=/ ;; esac
    clean_path "$2"
    p_to=${cleaned:-$p_path}
    case $p_root$p_path/ in
        /proc/* | /sys/* | /dev/* | /run/* | "$out"/*) die "stage.files: $1: only exists while the container runs" "name what build.run makes" ;;
    esac
    if [ -d "$p_root$p_path" ]; then
        [ -n "$p_to" ] || [ "$2" = / ] || die "stage.files: '$1' would copy everything" "name what the program needs, or give the entry a place with \`to\`"
        [ -n "$p_path" ] || [ "$p_root" != / ] || die "stage.files: / would copy the whole container" "name what the program needs"
        p_from=$p_root$p_path
        plan_tree "${p_from%/}" "$p_to" '' "$3"
    elif [ -e "$p_root$p_path" ]; then plan_file "$p_root$p_path" "$p_to"
    elif [ -L "$p_root$p_path" ]; then die "stage.files: $1 is a link whose target does not exist: $(readlink "$p_root$p_path")"
    else
        case $p_path in
            *[*?[]*) stage_glob "$1" "$2" "$3" ;;
            *) plan n "$p_to" "stage.files: $1 is not there (looked for $p_root$p_path)${sep}make it in build.run, or take it out of stage.files" ;;
        esac
    fi
}

# stage_glob PATTERN TO EXCLUDES: of the directory before its first `*`, `?` or `[`.
stage_glob() {
    g_before=${p_path%%[*?[]*}
    case $g_before in */*) g_at=${g_before%/*} ;; *) g_at='' ;; esac
    g_from=$p_root$g_at
    [ "$g_from" != / ] || die "stage.files: $1 would look through the whole container" "write a directory before the first \`*\`"
    [ -d "$g_from" ] || die "stage.files: $1 matches nothing: there is no $g_from" "make it in build.run, or take it out of stage.files"
    clean_path "$2"
    plan_tree "${g_from%/}" "${cleaned:-$g_at}" "${p_path#"${g_at:+$g_at/}"}" "$3"
    grep -q "^[dfl]$sep" "$work/tree" || die "stage.files: $1 matches nothing (looked below $g_from)" "make it in build.run, or take it out of stage.files"
}

# trim_plan FILE: of what is planned so far, only what FILE names, a guest path a line, and what leads there.
trim_plan() {
    case $1 in /*) r_list=$1 ;; *) r_list=$here/$1 ;; esac
    [ -f "$r_list" ] || die "stage.trim: $1 is not there (looked for $r_list)" "write it with \`rehearse --trace --trim\`, into the build context"
    awk -F "$sep" -v OFS="$sep" '
        FILENAME == ARGV[1] {
            if ($0 !~ /^\//) next
            path = substr($0, 2)
            sub(/\r$/, "", path)
            kept[path]
            while (match(path, /\/[^\/]*$/)) { path = substr(path, 1, RSTART - 1); leads[path] }
            next
        }
        ($1 == "F" || $1 == "f" || $1 == "a") && !($2 in kept) { print "x", $2, $3; next }
        $1 == "l" && !($2 in kept) && !($2 in leads) { print "x", $2, $3; next }
        ($1 == "d" || $1 == "r" || $1 == "m") && $2 != "" && !($2 in leads) { print "x", $2, $3; next }
        { print }' "$r_list" "$work/plan" >"$work/trimmed"
    mv "$work/trimmed" "$work/plan"
}

# stage_paths LINES: entries of stage.files, each a line `p PATH`, then at most one `t TO`, then lines `x EXCLUDE`; a line
# `o FILE` trims all before it.
stage_paths() {
    s_path='' s_to='' s_excludes=''
    printf '%s' "$1" >"$work/paths"
    while IFS=$sep read -r s_kind s_text; do
        case $s_kind in
            p)
                [ -z "$s_path" ] || stage_path "$s_path" "$s_to" "$s_excludes"
                s_path=$s_text s_to='' s_excludes='' ;;
            o)
                [ -z "$s_path" ] || stage_path "$s_path" "$s_to" "$s_excludes"
                s_path='' s_to='' s_excludes=''
                trim_plan "$s_text" ;;
            t) s_to=$s_text ;;
            x) s_excludes=$s_excludes$s_text$nl ;;
        esac
    done <"$work/paths"
    [ -z "$s_path" ] || stage_path "$s_path" "$s_to" "$s_excludes"
}

# --- carrying it out -------------------------------------------------------------------------------------------

# resolve: plan and what is in the tree already, as steps: P a place and its large file, E what must not be (what to do), C old and new where one file
# replaces another, D to remove, M to make, T tree and source, and copies, which sort into one `cp` for each directory.
# A directory is copied at once where all of it, and nothing else, goes to one place: where it is not `soiled`.
resolve() {
    { find "$out" -type d | sed "s,^,d$sep,"; find "$out" ! -type d | sed "s,^,o$sep,"; } >"$work/there"
    out=$out awk -F "$sep" -v OFS="$sep" '
        function up(g) { return match(g, /\/[^\/]*$/) ? substr(g, 1, RSTART - 1) : "" }
        function base(g) { sub(/.*\//, "", g); return g }
        function soil(g) { while (!(g in soiled)) { soiled[g]; if (g == "") return; g = up(g) } }
        function list(g) { if (!(g in listed)) { listed[g]; order[++count] = g } }
        function refuse(what, remedy) { print "E", what, remedy; failed = 1; exit }
        function not_two(what) { refuse(what, "leave one of the two out of stage.files or the manifest\047s Files, Dirs and MapDirs") }
        # need(G, WHOLE): G and all above are directories, since WHOLE is below.
        function need(g, whole) {
            if (g in kind) {
                if (kind[g] != "d") not_two("/" whole ": /" g " is a file or a link in the image already, and can\047t be a directory as well")
                return
            }
            if (g != "") need(up(g), whole)
            kind[g] = "d"
            list(g)
            soil(g)
        }
        function tree(g, s,   p) {
            if (g in kind) { need(g, g); soil(g); return }
            p = up(g)
            need(p, g)
            kind[g] = "d"
            src[g] = s
            list(g)
            if (!(p in soiled) && src[p] "/" base(g) != s) soil(p)
        }
        function file(k, g, s,   p) {
            p = up(g)
            need(p, g)
            if (g in kind) {
                if (kind[g] == "d") not_two("/" g ": is a directory in the image already, and can\047t be a file as well")
                print "C", (g in src ? src[g] : ENVIRON["out"] "/" g), s, g
                if (g in there) { print "D", ENVIRON["out"] "/" g; delete there[g] }
                soil(p)
            }
            kind[g] = k
            src[g] = s
            list(g)
            if (k == "f" || s in large || src[p] "/" base(g) != s) soil(p)
        }
        BEGIN { skip = length(ENVIRON["out"]) + 2; soil(""); kind[""] = "d"; there[""] }
        FILENAME == ARGV[1] { large[$0]; next }
        FILENAME == ARGV[2] {
            g = substr($2, skip)
            if (g == "") next
            kind[g] = $1
            there[g]
            if ($1 == "d") soil(g)
            next
        }
        $1 == "r" { tree($2, $3); root[$2] }
        $1 == "d" { tree($2, $3) }
        $1 == "m" { need($2, $2) }
        $1 == "F" || $1 == "l" || $1 == "f" { file($1, $2, $3) }
        $1 == "a" && !($2 in kind) { file("f", $2, $3) }
        $1 == "n" && !($2 in kind) { refuse($3, $4) }
        $1 == "x" { soil(up($2)) }
        END {
            if (failed) exit
            for (i = 1; i <= count; i++) {
                g = order[i]
                p = up(g)
                into = ENVIRON["out"] (p == "" ? "" : "/" p)
                if (kind[g] == "d" && g in soiled) { if (!(g in there)) print "M", ENVIRON["out"] "/" g }
                else if (!(p in soiled)) continue
                else if (src[g] in large) print "P", ENVIRON["out"] "/" g, src[g]
                else if (g in root) print "T", ENVIRON["out"] "/" g, src[g]
                else if (base(src[g]) == base(g)) print (kind[g] == "f" ? "-L" : "-RP"), into, src[g]
                else print "R", (kind[g] == "f" ? "-L" : "-RP"), into "/" base(g), src[g]
            }
        }' "$work/large" "$work/there" "$work/plan" >"$work/steps"
}

steps() { sed -n "s,^$1$sep,,p" "$work/steps"; }

copy_together() {
    c_how='' c_into=''
    set --
    while IFS=$sep read -r c_new c_to c_from; do
        if [ $# -eq 200 ] || [ "$c_new$c_to" != "$c_how$c_into" ]; then
            [ $# -eq 0 ] || cp "$c_how" "$@" "$c_into/"
            set --
            c_how=$c_new c_into=$c_to
        fi
        set -- "$@" "$c_from"
    done
    [ $# -eq 0 ] || cp "$c_how" "$@" "$c_into/"
}

# settle: carry out the plan. What was asked for by name replaces what was found, and nothing is written through a link.
settle() {
    sed -n "s,^[fFa]$sep[^$sep]*$sep,,p" "$work/plan" | list_large >"$work/large"
    resolve
    steps E >"$work/refused"
    if IFS=$sep read -r s_what s_remedy <"$work/refused"; then die "$s_what" "$s_remedy"; fi
    steps C >"$work/conflicts"
    while IFS=$sep read -r s_old s_new s_guest; do
        cmp -s "$s_new" "$s_old" || warn "/$s_guest from $s_new replaces another file of that name"
    done <"$work/conflicts"
    steps D >"$work/replaced"
    in_batches rm -f <"$work/replaced"
    while IFS= read -r s_old; do clear_place "${s_old#"$out"}"; done <"$work/replaced"
    steps M | in_batches mkdir -p
    steps T >"$work/trees"
    while IFS=$sep read -r s_to s_from; do
        mkdir -p "$s_to"
        cp -RP "$s_from/." "$s_to/"
    done <"$work/trees"
    grep "^-" "$work/steps" | sort | copy_together
    steps R >"$work/renamed"
    while IFS=$sep read -r s_how s_to s_from; do cp "$s_how" "$s_from" "$s_to"; done <"$work/renamed"
    steps P >"$work/spared"
    while IFS=$sep read -r s_to s_from; do keep_place "$(readlink -f "$s_from")" "$s_to"; done <"$work/spared"
    : >"$work/plan"
}
