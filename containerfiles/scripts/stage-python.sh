# shellcheck shell=sh
# What an interpreter needs beside its files, for stage-tree.sh, which sources it. The guest's root is read-only, so Python
# could keep no compiled modules there, and would compile all that it imports at each start.
#
# shellcheck disable=SC2154  # set by stage-tree.sh: out, work, interpreter_of, start_in, start_file

# compile_python INTERPRETER: every module of the tree, beside it in __pycache__. Unchecked (PEP 552): the image has no
# times, by which a module would be compared with its source. The same modules give the same bytes: one process, one
# order, one seed.
compile_python() {
    find "$out" -name '*.py' -type f | sort | env -u PYTHONPATH -u PYTHONHOME PYTHONHASHSEED=0 "$1" -s -S -B -c '
import importlib.util, os, py_compile, sys
top = sys.argv[1]
for line in sys.stdin.buffer.read().splitlines():
    source = os.fsdecode(line)
    guest = source[len(top):]
    try:
        target = top + "/" + importlib.util.cache_from_source(guest).lstrip("/")  # relative for what lies at the root
        py_compile.compile(source, target, guest, True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    except (py_compile.PyCompileError, OSError, ValueError, RecursionError):
        pass  # a template, or of another version of the language: it fails when it is imported, if ever
' "$out"
}

# stage_start: what takes the interpreter to the directory in which the program expects to begin.
stage_start() {
    case $start_file in */*) make_directory "${start_file%/*}" ;; esac
    case $interpreter_of in
        python) printf 'import os; os.chdir("%s")\n' "$start_in" ;;
        node) printf 'process.chdir("%s");\n' "$start_in" ;;
    esac >"$out/$start_file"
    printf '/%s\t%s\t\n' "$start_file" "to begin in $start_in" >>"$work/staged"
}
