# The suite on another Debian release's Python: CHROOT FOLDER SOURCES ARGUMENTS… (tests/pythons/suite.py)
# Not by chroot(8): in a chroot the kernel refuses user namespaces, which rehearsals need.
set -eu
chroot=$1 folder=$2 sources=$3
shift 3
root=$folder/root
mount --make-rprivate /
mkdir -p "$root" "$folder/upper" "$folder/overlay"
mount -t overlay overlay -o "lowerdir=$chroot,upperdir=$folder/upper,workdir=$folder/overlay" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
# On the real file system: a Podman store on an overlay is refused.
mkdir -p "$folder/work/tmp" "$folder/work/home" "$root/work"
mount --bind "$folder/work" "$root/work"
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
mkdir -p "$folder/work/sources"
tar -C "$sources" -cf - --null -T "$folder/files" | tar -C "$folder/work/sources" -xf -
mkdir "$root/old"
cd "$root"
pivot_root . old
cd /work/sources
umount --lazy /old
git config --global --add safe.directory '*'
git -c init.defaultBranch=main init --quiet . # what git lists is what is tested
git add --all
[ -x /work/venv/bin/python ] || python3 -m venv /work/venv
/work/venv/bin/python -m pip install --quiet --disable-pip-version-check --retries 5 -e '.[dev]'
ln -sfn /work/venv .venv
/work/venv/bin/python --version
exec /work/venv/bin/python -m pytest -p no:cacheprovider "$@"
