# The disk of the virtual machine (virtual.py): its release's packages, the user, this project and what it needs.
# CHROOT FOLDER SOURCES USER UID: FOLDER has key.pub, files (a list), site (Python packages), cache; it gets kernel and disk.
set -eu
chroot=$1 folder=$2 sources=$3 user=$4 uid=$5
root=$folder/root
mount --make-rprivate /
mkdir "$root" "$folder/upper" "$folder/overlay"
mount -t overlay overlay -o "lowerdir=$chroot,upperdir=$folder/upper,workdir=$folder/overlay" "$root"
mount -t proc proc "$root/proc"
# What an installer and a cloud's first boot set.
echo engine >"$root/etc/hostname"
echo "127.0.0.1 localhost engine" >"$root/etc/hosts"
echo "/dev/nvme0n1 / ext4 defaults 0 0" >"$root/etc/fstab"
printf '[Match]\nName=e*\n[Network]\nDHCP=ipv4\n' >"$root/etc/systemd/network/80-dhcp.network"
# It has no network beyond us: a name is refused at once, not after a minute.
echo "nameserver 127.0.0.1" >"$root/etc/resolv.conf"
in_root() { chroot "$root" "$@"; }
in_root groupadd --gid "$uid" "$user"
# Gives it its subordinate ids as well, up to UID_MAX.
in_root useradd --key UID_MAX="$uid" --create-home --uid "$uid" --gid "$uid" --shell /bin/bash "$user"
echo "$user ALL=(ALL) NOPASSWD: ALL" >"$root/etc/sudoers.d/$user"
in_root install -d -m 700 -o "$uid" -g "$uid" "/home/$user/.ssh"
install -m 600 -o "$uid" -g "$uid" "$folder/key.pub" "$root/home/$user/.ssh/authorized_keys"
in_root systemctl --quiet enable systemd-networkd.service ssh.service
# Docker starts when it is its turn. The rest nobody waits for here.
in_root systemctl --quiet disable docker.service containerd.service systemd-networkd-wait-online.service
in_root systemctl --quiet mask serial-getty@ttyS0.service e2scrub_reap.service apt-daily.timer apt-daily-upgrade.timer
packages=$(echo "$root"/usr/local/lib/python3.*/dist-packages)
cp -a "$folder/site/." "$packages"
mkdir -p "$root/work/sources"
tar -C "$sources" -cf - --null -T "$folder/files" | tar -C "$root/work/sources" --no-same-owner -xf -
in_root python3 -m compileall -q /work/sources/orchestrator /work/sources/tests "${packages#"$root"}" || true
mv "$folder/cache" "$root/work/cache"
umount "$root/proc"
cp "$root"/boot/vmlinuz-* "$folder/kernel"
truncate -s 8G "$folder/disk"
mkfs.ext4 -q -F -d "$root" "$folder/disk"
