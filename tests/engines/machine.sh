# The first process of a machine (machines.py): lays out its root, then waits. FOLDER CHROOT SHARED USER UID FILES TASKS CGROUPS
set -eu
folder=$1 chroot=$2 shared=$3 user=$4 uid=$5 files=$6 tasks=$7 cgroups=$8
root=$folder/root
mount --make-rprivate /
mkdir -p "$root" "$folder/upper" "$folder/work" "$folder/sockets" "$folder/home"
mount -t overlay overlay -o "lowerdir=$chroot,upperdir=$folder/upper,workdir=$folder/work" "$root"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/dev/shm"
# As a distribution has them: open to all.
mount -t tmpfs -o mode=755 tmpfs "$root/dev/net"
mknod -m 666 "$root/dev/net/tun" c 10 200
mknod -m 666 "$root/dev/net/fuse" c 10 229
mount --bind "$root/dev/net/fuse" "$root/dev/fuse"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
# Our own part of the unified hierarchy, by which all processes are known.
mkdir "$root/run/cgroup"
mount -t cgroup2 cgroup2 "$root/run/cgroup"
if [ "$cgroups" = 2 ]; then
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
	mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
	for controller in cpuset cpu cpuacct blkio memory devices freezer pids; do
		mkdir "$root/sys/fs/cgroup/$controller"
		mount -t cgroup -o "$controller" "$controller" "$root/sys/fs/cgroup/$controller"
	done
	mkdir "$root/sys/fs/cgroup/systemd"
	mount -t cgroup -o none,name=systemd systemd "$root/sys/fs/cgroup/systemd"
fi
# Storage on a real directory: an overlay over an overlay is refused.
for store in docker containers containerd; do
	mkdir -p "$folder/lib/$store" "$root/var/lib/$store"
	mount --bind "$folder/lib/$store" "$root/var/lib/$store"
done
mount --bind "$folder/home" "$root/home"
mkdir -p "$root/sockets"
mount --bind "$folder/sockets" "$root/sockets"
if [ -n "$shared" ]; then
	mkdir -p "$root$shared"
	mount --bind "$shared" "$root$shared"
fi
mkdir -p "$root/old"
cd "$root"
pivot_root . old
cd /
umount --lazy /old
mount --make-rshared /
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
hostname engine
# It has no network beyond us: a name is refused at once, not after a minute.
echo "nameserver 127.0.0.1" >/etc/resolv.conf
ip link set lo up
groupadd --gid "$uid" "$user"
useradd --create-home --uid "$uid" --gid "$uid" --shell /bin/bash "$user"
# As a distribution gives them, for rootless engines.
echo "$user:100000:65536" | tee /etc/subuid >/etc/subgid
mkdir -p "/run/user/$uid" /run/cgroup/system/own /run/cgroup/user/own /etc/containers
chown "$uid:$uid" "/run/user/$uid" /sockets
chown -R "$uid" /run/cgroup/user
chmod 711 /sockets
# Podman limits the number of processes by itself, for which the controller may be with version 1.
pids=2048
[ "$cgroups" = 1 ] || grep -qw pids /sys/fs/cgroup/cgroup.controllers || pids=0
# Without it, 4.3 takes vfs, which copies the whole base for each step: minutes and gigabytes for every build.
mkdir -p "/home/$user/.config/containers"
printf '[storage]\ndriver = "overlay"\n' >"/home/$user/.config/containers/storage.conf"
chown -R "$uid:$uid" "/home/$user/.config"
cat >/etc/containers/containers.conf <<END
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$tasks:$tasks"]
pids_limit = $pids
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
END
touch /sockets/ready
exec sleep infinity
