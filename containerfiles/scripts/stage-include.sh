# shellcheck shell=sh
# What programs load by name at run time, for stage-tree.sh, which sources it: a word of stage.include for each.
#
# shellcheck disable=SC2154  # set by the others: out, nl, interp, libdir, system_dirs, program_file

# plan_if_there PATH...: files of the container, each at its own path; those that it lacks are left out.
plan_if_there() {
    for i_path in "$@"; do
        if [ -f "$i_path" ]; then plan_file "$i_path" "${i_path#/}"; fi
    done
}

# plan_trees EXCLUDES DIR...: directories of the container, each at its own path. Status 1 where it has none of them.
plan_trees() {
    i_excludes=$1 i_any=1
    shift
    for i_dir in "$@"; do
        if [ -d "$i_dir" ]; then
            plan_tree "$i_dir" "${i_dir#/}" '' "$i_excludes"
            i_any=0
        fi
    done
    return "$i_any"
}

lacks() { die "stage.include: the base has no $1" "add $2 to build.packages"; }

# find_loader: interp, libdir and system_dirs, where no closure was asked for.
find_loader() {
    [ -z "${system_dirs-}" ] || return 0
    scan "$program_file"
    interp=$(interpreter)
    find_defaults "$interp"
}

is_musl() { case $interp in *ld-musl-*) ;; *) return 1 ;; esac; }

# Services of nsswitch.conf beside those that glibc has inside: since 2.34 `files` and `dns`.
include_nss() {
    plan_if_there /etc/nsswitch.conf /etc/host.conf /etc/gai.conf /etc/protocols /etc/services /etc/networks /etc/group
    if is_musl; then return; fi
    i_services=$([ ! -f /etc/nsswitch.conf ] || sed -e 's/#.*//' -e '/:/!d' -e 's/^[^:]*://' -e 's/\[[^]]*\]//g' /etc/nsswitch.conf | tr -s ' \t' '\n' | sort -u)
    for i_name in files dns $i_services; do
        if find_library "libnss_$i_name.so.2" "$system_dirs"; then plan_file "$found" "${libdir#/}/libnss_$i_name.so.2"; fi
    done
}

# The bundle, and the directory that OpenSSL looks certificates up in by a link of their hash.
include_certificates() {
    for i_bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem ''; do
        if [ -f "$i_bundle" ]; then break; fi
    done
    [ -n "$i_bundle" ] || lacks "CA certificates" ca-certificates
    plan_trees "private${nl}misc${nl}java" /etc/ssl/certs /usr/share/ca-certificates /usr/lib/ssl /etc/pki/tls/certs /etc/pki/ca-trust/extracted || true
    # Where update-ca-certificates takes one's own from, which the directory above links to; usually it is empty.
    if [ -n "$(ls -A /usr/local/share/ca-certificates 2>/dev/null)" ]; then plan_trees '' /usr/local/share/ca-certificates; fi
    plan_if_there /etc/ssl/cert.pem /etc/ssl/openssl.cnf
}

include_locale() {
    if is_musl; then warn "stage.include: musl has no locale data, so locale packs nothing" && return; fi
    plan_trees '' /usr/lib/locale || lacks "locale data" locales-all
}

include_gconv() {
    if is_musl; then warn "stage.include: musl's own conversions are built in, so gconv packs nothing" && return; fi
    for i_dir in /usr/lib/x86_64-linux-gnu/gconv /usr/lib64/gconv /usr/lib/gconv; do
        if plan_trees '' "$i_dir"; then return; fi
    done
    lacks "gconv modules" "libc6 (or libc-gconv-modules-extra)"
}

# right/ counts leap seconds, and posix/ is the same again.
include_tzdata() {
    plan_trees "/right/${nl}/posix/" /usr/share/zoneinfo || lacks "time zones" tzdata
    if [ -L /etc/localtime ] || [ -f /etc/localtime ]; then plan l etc/localtime /etc/localtime; fi
    plan_if_there /etc/timezone
}

stage_include() {
    find_loader
    case $1 in
        nss | certificates | locale | gconv | tzdata) "include_$1" ;;
        *) die "stage.include: $1 is not known" "write nss, certificates, locale, gconv or tzdata" ;;
    esac
}
