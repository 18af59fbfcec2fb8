#!/bin/sh
# cargo's linker for x86_64-unknown-linux-gnu (see cargo-config.toml): cc, with GNU ld where rustc would take its own lld.
#
# rustc links with an lld of its own since 1.90: it passes cc -B…/gcc-ld and then -fuse-ld=lld. A program of that
# layout loses part of its data on Nanos 0.1.51 (docs/elf-layouts.md). That one option is replaced, and nothing else: a
# linker that the project names by itself comes after it and has its way; older rustc pass neither.
set -eu

own=no
for argument; do
    shift
    case $argument in
    -B*/gcc-ld) own=yes ;;
    -fuse-ld=lld) [ $own = no ] || { own=no && argument=-fuse-ld=bfd; } ;;
    esac
    set -- "$@" "$argument"
done
exec cc "$@"
