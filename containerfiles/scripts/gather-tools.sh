#!/bin/sh
# Gathers what staging needs into one directory: a shell, the usual small tools, readelf and dpkg-query. They work at
# /orchestrator/tools of any image, one without a shell or with another C library too: busybox is static, and the two
# others are started by their own loader, with their own libraries.
#
# Runs in a Debian base with busybox-static and binutils.
#
#   sh gather-tools.sh DIR
set -eu
out=$1 at=/orchestrator/tools

mkdir -p "$out/bin" "$out/lib" "$out/tmp"
cp "$(command -v busybox)" "$out/bin/busybox"
for name in $("$out/bin/busybox" --list); do [ "$name" = busybox ] || ln -s busybox "$out/bin/$name"; done
for tool in readelf dpkg-query; do
    path=$(command -v "$tool") || continue
    cp -L "$path" "$out/lib/$tool"
    ldd "$path" | sed -n -e 's,^.* => \(/[^ ]*\) .*,\1,p' -e 's,^[[:space:]]*\(/[^ ]*\) .*,\1,p' >"$out/needed"
    while IFS= read -r library; do
        case ${library##*/} in ld-linux*) cp -L "$library" "$out/lib/ld.so" ;; *) cp -L "$library" "$out/lib/" ;; esac
    done <"$out/needed"
    rm "$out/needed"
    cat >"$out/bin/$tool" <<EOF
#!$at/bin/sh
unset LD_PRELOAD
exec $at/lib/ld.so --library-path $at/lib $at/lib/$tool "\$@"
EOF
    chmod 755 "$out/bin/$tool"
done
