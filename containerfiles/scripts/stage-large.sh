# shellcheck shell=sh
# The large files of stage-tree.sh, which sources it: they are not copied, since whoever packs can take them from where
# they are. A link to it keeps a file's place as long as readelf and cmp want to look at it, an empty file afterwards.
#
# shellcheck disable=SC2154  # set by stage-tree.sh: large, large_out, out, work, tab

# find_large FILE...: those of them, links followed, that are large.
find_large() { find -L "$@" -prune -type f -size "+$((large - 1))c"; }

# list_large: those of the listed files. Their paths are listed one a line, with tabs.
list_large() {
    [ -n "$large" ] || return 0
    { grep -v '[[:cntrl:]]' || true; } | in_batches find_large
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

# lay SOURCE TARGET: cp -L SOURCE TARGET, or a place.
lay() {
    if [ -n "$(printf '%s\n' "$1" | list_large)" ]; then keep_place "$(readlink -f "$1")" "$2"
    else cp -L "$1" "$2"; fi
}

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
