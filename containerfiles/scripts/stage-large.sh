# shellcheck shell=sh
# The large files of stage-tree.sh, which sources it: they are not copied, since whoever packs can take them from where
# they are. A link to it keeps a file's place as long as readelf and cmp want to look at it, an empty file afterwards.
#
# shellcheck disable=SC2154  # set by stage-tree.sh: large, large_out, out, work, tab

# is_large FILE: links followed.
is_large() {
    [ -n "$large" ] || return 1
    # Paths are listed one a line, with tabs.
    case $1 in *[[:cntrl:]]*) return 1 ;; esac
    [ -n "$(find -L "$1" -prune -type f -size "+$((large - 1))c")" ]
}

# keep_place SOURCE TARGET: SOURCE without links on the way.
keep_place() {
    ln -s "$1" "$2"
    printf '%s\t%s\n' "${2#"$out"}" "$1" >>"$work/places"
}

# is_place GUEST: whether that link of the tree only keeps a place.
is_place() { [ -s "$work/places" ] && cut -f 1 "$work/places" | grep -qxF -e "$1"; }

# clear_place GUEST: something else comes there.
clear_place() {
    is_place "$1" || return 0
    place=$1 awk -F '\t' '$1 != ENVIRON["place"]' "$work/places" >"$work/places.new"
    mv "$work/places.new" "$work/places"
}

# lay HOW SOURCE TARGET: cp HOW SOURCE TARGET, where HOW is -L or -P.
lay() {
    if { [ "$1" = -L ] || [ ! -L "$2" ]; } && is_large "$2"; then keep_place "$(readlink -f "$2")" "$3"
    else cp "$1" "$2" "$3"; fi
}

# lay_tree DIR TARGET: cp -RP DIR/. TARGET/. Directories with a large file somewhere below are gone into, what else is
# in them is copied whole.
lay_tree() {
    : >"$work/big"
    [ -z "$large" ] || (cd "$1" && find . -type f -size "+$((large - 1))c") | grep -v '[[:cntrl:]]' >"$work/big" || true
    if [ ! -s "$work/big" ]; then
        cp -RP "$1/." "$2/"
        return
    fi
    awk '{ while (sub(/\/[^\/]*$/, "")) if (!seen[$0]++) print }' "$work/big" | sort >"$work/parts"
    while IFS= read -r y_part; do
        mkdir -p "$2/$y_part"
        (cd "$1" && find "$y_part" -mindepth 1 -maxdepth 1 | grep -vxF -f "$work/parts" | grep -vxF -f "$work/big" | lay_listed "$2/$y_part")
    done <"$work/parts"
    y_from=$(readlink -f "$1")
    while IFS= read -r y_name; do keep_place "${y_from%/}/${y_name#./}" "$2/${y_name#./}"; done <"$work/big"
}

# lay_listed TARGET: cp -RP of what is listed, a hundred at a time.
lay_listed() (
    y_to=$1
    set --
    while IFS= read -r y_name; do
        set -- "$@" "$y_name"
        if [ $# -eq 100 ]; then
            cp -RP "$@" "$y_to/"
            set --
        fi
    done
    [ $# -eq 0 ] || cp -RP "$@" "$y_to/"
)

# large_elf: the paths (./…) of large files that a node's loader could load, as packed_elf says it of the others.
large_elf() {
    while IFS=$tab read -r y_guest y_source; do
        case $(header "$y_source") in
            7f454c460201??0[03]????????????????0[23]003e00) printf '.%s\n' "$y_guest" ;;
        esac
    done <"$work/places"
}

# settle_places: an empty file for each, and the list: "GUEST <tab> SOURCE <tab> BYTES", GUEST without the leading "/".
settle_places() {
    : >"$large_out"
    while IFS=$tab read -r y_guest y_source; do
        rm -f "$out$y_guest"
        : >"$out$y_guest"
        printf '%s\t%s\t%d\n' "${y_guest#/}" "$y_source" "$(wc -c <"$y_source")" >>"$large_out"
    done <"$work/places"
}
