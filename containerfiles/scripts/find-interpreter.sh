#!/bin/sh
# Finds what starts a program that is a script, and what that interpreter loads: it becomes the guest's program.
#
# Runs inside the build container, in the work directory, after the build step. POSIX sh (dash, busybox ash).
#
#   sh find-interpreter.sh --program PATH [--language python|node] [--directory DIR] [--argument WORD]... [--out FILE]
#
# DIR and WORDs are what a finished image says: its work directory, and what its program is given.
# FILE gets lines KEY <tab> VALUE, and nothing for a program that is no script:
#   language     python, node or other
#   interpreter  what starts it, absolute
#   program      the same as the guest will have it
#   argument     a word that it is given: options of the `#!` line, then the script as the guest will have it
#   word         a WORD, with the script among them by its absolute path
#   directory    where the program begins, of a finished image, if not in /
#   start        the guest's file that goes there: Nanos gives programs with a loader no other directory than /
#   environment  NAME=VALUE
#   fixed        the kernel is to place the program at one address always
#   path         a file or directory to pack, absolute, or `.` for the whole work directory
#   exclude      what of that stays out, as in stage.files
#   warning      a sentence
# stderr: `error: …` as of stage-tree.sh. Exit status 0, or 1 when the script can't be started.
set -eu
LC_ALL=C
export LC_ALL
nl='
'
cr=$(printf '\r')

die() {
    printf 'error: %s\n' "$1" >&2
    shift
    [ $# -eq 0 ] || printf '  %s\n' "$@" >&2
    exit 1
}

say() { printf '%s\t%s\n' "$1" "$2" >>"$out"; }

here=${PWD%/} program='' language='' directory='' arguments='' out=/orchestrator/interpreter
while [ $# -gt 0 ]; do
    case $1 in
        --program) program=${2#./} ;;
        --language) language=$2 ;;
        --directory) directory=${2%/} ;;
        --argument) arguments=$arguments$2$nl ;;
        --out) out=$2 ;;
        *) die "unknown option $1" ;;
    esac
    shift 2
done
case $program in /*) script=$program ;; *) script=$here/$program ;; esac
path=$PATH
PATH=/orchestrator/tools/bin:$PATH # of a finished image, which may have none of these tools
: >"$out"

is_elf() { [ "$(od -An -tx1 -N4 <"$1" | tr -d ' \n')" = 7f454c46 ]; }

# in_guest FILE: the work directory is the guest's root.
in_guest() {
    case $here:$1 in :*) printf '%s\n' "$1" ;; *:"$here"/*) printf '%s\n' "${1#"$here"}" ;; *) printf '%s\n' "$1" ;; esac
}

# by_name NAME: sets found to the first such program of PATH.
by_name() {
    found='' b_rest=$path:
    while [ -n "$b_rest" ]; do
        b_file=${b_rest%%:*}/$1 b_rest=${b_rest#*:}
        if [ -f "$b_file" ] && [ -x "$b_file" ]; then found=$b_file && return; fi
    done
    return 1
}

# kind_of FILE: python, node, shell or other, by its name.
kind_of() {
    case ${1##*/} in
        python | python[0-9]* | pypy | pypy[0-9]*) echo python ;;
        node | nodejs | bun | deno) echo node ;;
        sh | bash | dash | ash | zsh | ksh | busybox) echo shell ;;
        *) echo other ;;
    esac
}

# known KIND: the interpreters of that language in PATH, for a message.
known() {
    k_rest=$path:
    while [ -n "$k_rest" ]; do
        for k_file in "${k_rest%%:*}"/python* "${k_rest%%:*}"/node*; do
            case ${k_file##*/} in *-config | *[!a-z0-9.]*) continue ;; esac
            if [ -x "$k_file" ] && [ "$(kind_of "$k_file")" = "$1" ]; then printf '%s ' "$k_file"; fi
        done
        k_rest=${k_rest#*:}
    done
}

lacks() { # WHAT KIND
    l_known=$(known "$2")
    die "build.program: $program: $1 is not in the base" \
        "${l_known:+it has $l_known; correct the first line of the script, or }${l_known:-add its package to build.packages, or }name a \`base\` that has it"
}

default_of() { case $1 in python) echo python3 ;; *) echo node ;; esac; }

# read_first_line: sets interpreter and options (lines) from the `#!` line; a name, or a path.
read_first_line() {
    r_line=$(head -n 1 "$script" | tr -d '\000')
    case $r_line in
        *"$cr") say warning "$program: its first line ends as on Windows (CR LF), which is taken as if it did not" ;;
    esac
    r_line=${r_line%"$cr"} interpreter='' options='' r_env=''
    # shellcheck disable=SC2086  # words, and no globs
    set -f -- ${r_line#??}
    set +f
    case ${1-} in */env) r_env=$1 && shift ;; esac
    while [ $# -gt 0 ]; do
        case $r_env:$1 in
            ?*:-S | ?*:-i | ?*:--split-string | ?*:--ignore-environment) ;;
            ?*:-S*) r_word=${1#-S} && shift && set -- _ "$r_word" "$@" ;;
            ?*:-*) die "build.program: $program: its first line has an option of env that is not known: $1" ;;
            ?*:*=*) say environment "$1" ;;
            *) break ;;
        esac
        shift
    done
    [ $# -gt 0 ] || die "build.program: $program: its first line names no interpreter: $r_line" "write, for example, #!/usr/bin/env python3"
    interpreter=$1
    shift
    for r_word in "$@"; do options=$options$r_word$nl; done
}

# resolve: interpreter as an absolute path, links followed but for those of a virtual environment.
resolve() {
    case $language:$interpreter in
        # The usual places stand for "the one there is": the build step's own, when that is another.
        ?*:/usr/bin/* | ?*:/bin/* | ?*:/usr/local/bin/*)
            case ${interpreter##*/} in python | python3 | node | nodejs) interpreter=${interpreter##*/} ;; esac ;;
    esac
    case $interpreter in
        /*) [ -f "$interpreter" ] || lacks "$interpreter, which its first line names," "$(kind_of "$interpreter")" ;;
        */*) die "build.program: $program: its first line names its interpreter by a relative path: $interpreter" "write, for example, #!/usr/bin/env python3" ;;
        *)
            if by_name "$interpreter" || { [ "$interpreter" = python ] && by_name python3; } ||
                { [ "$interpreter" = nodejs ] && by_name node; }; then interpreter=$found
            else lacks "$interpreter" "$(kind_of "$interpreter")"
            fi ;;
    esac
    if [ ! -f "${interpreter%/*}/../pyvenv.cfg" ]; then interpreter=$(readlink -f "$interpreter"); fi
    is_elf "$interpreter" || die "build.program: $program: its interpreter $interpreter is a script itself" "name the interpreter that it starts, by its path"
}

# packs_system DIR: whether to pack it would pack a part of the system.
packs_system() {
    case $1/ in
        // | /bin/ | /sbin/ | /lib*/ | /usr/ | /usr/bin/ | /usr/sbin/ | /usr/lib/ | /usr/local/ | /usr/local/bin/ | /opt/ | /etc/ | /var/ | /home/ | /root/ | /tmp/ | /proc/* | /sys/* | /dev/* | /run/* | */bin/) ;;
        *) return 1 ;;
    esac
}

# pack_sources: everything in the work directory, where that is the guest's root; of a finished image its own one, and
# the directories of scripts that its program is given.
pack_sources() {
    if [ -n "$here" ]; then
        say path .
        sources_of "$here"
        case $script in "$here"/*) ;; *) say path "$script" ;; esac
        return
    fi
    p_seen=$nl
    for p_dir in "$directory" "$(printf '%s' "$arguments$script$nl" | sed -n 's,^\(/.*\)/[^/]*$,\1,p')"; do
        printf '%s\n' "$p_dir"
    done >"$out.directories"
    while IFS= read -r p_dir; do
        case $p_seen in *"$nl$p_dir$nl"*) continue ;; esac
        p_seen=$p_seen$p_dir$nl
        if packs_system "$p_dir" || [ ! -d "$p_dir" ]; then continue; fi
        say path "$p_dir"
        sources_of "$p_dir"
    done <"$out.directories"
    rm "$out.directories"
    if [ ! -d "$script" ] && ! is_elf "$script"; then say path "$script"; fi
}

# sources_of DIR: what of it is of no use to a guest; another virtual environment is the host's, or of the build alone.
sources_of() {
    for s_name in __pycache__ '*.pyc' .git .hg .svn .venv .DS_Store; do say exclude "$s_name"; done
    find "$1" -maxdepth 3 -name pyvenv.cfg | while IFS= read -r s_file; do
        s_dir=${s_file%/pyvenv.cfg}
        case $interpreter in
            "$s_dir"/*) for s_name in 'bin/python*' 'bin/activate*' 'bin/pip*' 'lib/python*/site-packages/pip' 'lib/python*/site-packages/pip-*'; do say exclude "${s_dir#"$1"}/$s_name"; done ;;
            *) say exclude "${s_dir#"$1"}/" ;;
        esac
    done
}

# say_given: a finished image's words for its program; the first that is no option may be a file of its work directory.
say_given() {
    g_first=yes
    printf '%s' "$arguments" | while IFS= read -r g_word; do
        case $g_first:$g_word in
            yes:-* | no:* | yes:/*) ;;
            *) if [ -f "$directory/$g_word" ]; then g_word=$directory/${g_word#./}; fi ;;
        esac
        case $g_word in -*) ;; *) g_first=no ;; esac
        say word "$g_word"
    done
}

# ask_python: what it loads by itself, and from where: it alone knows.
ask_python() {
    PATH=$path PYTHONDONTWRITEBYTECODE=1 "$interpreter" -B - "$out" "$here" <<'END'
import os, sys
out, here = open(sys.argv[1], "a"), sys.argv[2]
def say(key, value):
    out.write(key + "\t" + value + "\n")
say("environment", "PYTHONDONTWRITEBYTECODE=1")
prefix, base = sys.prefix, getattr(sys, "base_prefix", sys.prefix)
if prefix == base and sys.implementation.name == "cpython":
    both = prefix if prefix == sys.exec_prefix else prefix + ":" + sys.exec_prefix
    say("environment", "PYTHONHOME=" + both)
elif prefix != base and not (here and prefix.startswith(here + "/")):
    say("path", prefix + "/pyvenv.cfg")
library = os.path.dirname(os.path.abspath(os.__file__))
inside = [here] if here else []
say("path", library)
for name in ("site-packages", "dist-packages", "test", "idlelib", "turtledemo", "tkinter", "lib2to3", "ensurepip",
             "pydoc_data", "config-*", "lib-dynload/_tkinter*", "lib-dynload/_test*", "lib-dynload/xxlimited*"):
    say("exclude", "/" + name)
say("exclude", "__pycache__")
for name in sorted(os.listdir(library)):
    target = os.path.realpath(os.path.join(library, name))
    if os.path.islink(os.path.join(library, name)) and os.path.isfile(target) and not target.startswith(library):
        say("path", target)
done = [library]
packages = [entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages")]
if packages:
    say("start", packages[0] + "/orchestrator-start.pth")
for entry in sys.path:
    entry = os.path.abspath(entry) if entry else ""
    if not entry or not os.path.exists(entry) or entry == os.path.abspath("/") or entry in done:
        continue
    if any(entry == other or entry.startswith(other + "/") for other in inside) or entry == os.getcwd():
        continue
    if entry.startswith(library + "/") and os.path.basename(entry) not in ("site-packages", "dist-packages"):
        continue
    done.append(entry)
    say("path", entry)
    if os.path.isdir(entry):
        for name in ("/pip", "/pip-*", "__pycache__"):
            say("exclude", name)
END
}

# ask_node: parts of itself that Debian's has as files, which are named in the program or its library.
ask_node() {
    [ -d /usr/share/nodejs ] || return 0
    {
        printf '%s\n' "$interpreter"
        find /usr/lib /usr/local/lib -maxdepth 2 -name 'libnode.so*' -type f 2>/dev/null || true
    } | while IFS= read -r a_file; do
        tr -cs 'A-Za-z0-9_@./-' '\n' <"$a_file" | grep '^/usr/share/nodejs/.*\.js$' || true
    done | sed -n 's;^\(/usr/share/nodejs/\(@[^/]*/\)\{0,1\}[^/]*\)/.*;\1;p' | sort -u | while IFS= read -r a_dir; do
        if [ -d "$a_dir" ]; then say path "$a_dir" && say exclude types; fi
    done
}

# --- what the program is ---------------------------------------------------------------------------------------

interpreter='' options='' starts=yes
if [ -d "$script" ]; then
    [ -n "$language" ] || exit 0
    interpreter=$(default_of "$language")
elif [ ! -f "$script" ]; then exit 0 # staging says so, with what is there
elif is_elf "$script"; then
    found=$(kind_of "$(readlink -f "$script")")
    case $language:$found in python:python | node:node | :python | :node) ;; *) exit 0 ;; esac
    if [ -z "$language" ] && [ -n "$here" ]; then exit 0; fi # named by its path, with files of the user's choice
    interpreter=$script starts=''
elif [ "$(head -c 2 "$script")" = '#!' ]; then read_first_line
elif [ -n "$language" ]; then interpreter=$(default_of "$language")
else exit 0
fi
resolve
kind=$(kind_of "$interpreter")
[ "$kind" != shell ] || die "build.program: $program is a shell script: the guest can start no other program" "name the program that it starts, and its arguments as \`manifest: {Args: […]}\`"
if [ -n "$language" ] && [ "$kind" != "$language" ]; then
    die "build.program: $program is started by $interpreter, and build.language is $language" "correct one of the two"
fi
say language "$kind"
say interpreter "$interpreter"
say program "$(in_guest "$interpreter")"
case $here$directory in *[\"\\]*) directory='' ;; esac # it becomes a text of the language
if [ -n "$here" ] || [ ! -d "$directory/" ]; then directory=''; fi
if [ -n "$directory" ]; then
    say directory "$directory"
    if [ "$kind" = node ]; then say start /.orchestrator-start.js && say argument --require=/.orchestrator-start.js; fi
fi
if [ -n "$starts" ]; then
    printf '%s' "$options" | while IFS= read -r option; do say argument "$option"; done
    if [ "$kind" = python ] && [ -f "$script/__init__.py" ]; then # a package: its modules import each other by its name
        parent=$(in_guest "${script%/*}")
        case $script in "$here"/*/*) ;; "$here"/*) parent=/ ;; esac
        say environment "PYTHONPATH=${parent:-/}"
        say argument -m
        say argument "${script##*/}"
    else say argument "$(in_guest "$script")"
    fi
fi
[ -n "$starts" ] || say_given
pack_sources
case $kind in
    python) ask_python ;;
    node)
        # Debian's has a variable that is aligned to two pages, which Nanos only heeds there (`verify` says so).
        case $(od -An -tx1 -j16 -N1 <"$interpreter") in *03) say fixed yes ;; esac
        ask_node ;;
    *) say warning "what $interpreter loads of its own is not known: name its library in stage.files" ;;
esac
