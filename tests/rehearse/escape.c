/* Tries every way out of a rehearsal that we know of. One line each: "refused NAME (why)" or "DONE NAME".
   /workspace/targets: on this machine a file's path, a process, a TCP port, the name of an abstract socket. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

static void tell(const char *name, long result) {
    if (result < 0) printf("refused %s (%s)\n", name, strerror(errno));
    else printf("DONE %s (%ld)\n", name, result);
}

static long opened(const char *path, int flags) {
    int f = open(path, flags, 0644);
    char byte;
    if (f < 0 || flags & (O_WRONLY | O_RDWR | O_DIRECTORY)) return f;
    errno = ENODATA; /* hidden: an empty file stands there */
    return read(f, &byte, 1) > 0 ? f : -1;
}

static void descriptors(void) {
    for (int fd = 0; fd < 64; fd++)
        if (openat(fd, "..", O_RDONLY | O_DIRECTORY) >= 0) tell("a directory that was left open", fd);
    for (int fd = 3; fd < 64; fd++)
        if (fcntl(fd, F_GETFD) >= 0) tell("a descriptor that was left open", fd);
    errno = EBADF;
    tell("descriptors that were left open", -1);
}

static void files(const char *target) {
    char path[600];
    const char *prefixes[] = {"", "/proc/1/root", "/proc/1/cwd/../..", "/proc/self/cwd/../../../..", "/workspace/../.."};
    for (int i = 0; i < 5; i++) {
        snprintf(path, sizeof path, "%s%s", prefixes[i], target);
        tell(path, opened(path, O_RDONLY));
    }
    struct { struct file_handle head; char room[128]; } handle = {{8, 1}};
    *(unsigned *) handle.head.f_handle = 2; /* the root of ext4 */
    int mount_id, workspace = open("/workspace", O_RDONLY | O_DIRECTORY);
    tell("open_by_handle_at", open_by_handle_at(workspace, &handle.head, O_RDONLY));
    handle.head.handle_bytes = 128;
    tell("name_to_handle_at", name_to_handle_at(workspace, "", &handle.head, &mount_id, AT_EMPTY_PATH));
    const char *writes[] = {
        "/new", "/prog", "/dev/new", "/dev/shm/new", "/dev/mqueue/new", "/tmp/new", "/run/new", "/var/tmp/new", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sysrq-trigger",
        "/proc/sys/vm/drop_caches", "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward", "/proc/1/mem", "/proc/1/fd/1", "/.rehearse/launcher",
    };
    for (unsigned i = 0; i < sizeof writes / sizeof *writes; i++) {
        snprintf(path, sizeof path, "write %s", writes[i]);
        tell(path, opened(writes[i], O_WRONLY | O_CREAT));
    }
    const char *reads[] = {"/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/timer_list",
                           "/proc/1/environ", "/proc/1/maps", "/dev/mem", "/dev/kmsg", "/dev/vda", "/dev/sda", "/sys/kernel"};
    for (unsigned i = 0; i < sizeof reads / sizeof *reads; i++) tell(reads[i], opened(reads[i], O_RDONLY));
}

static void modes(void) {
    tell("mknod of a character device", mknod("/workspace/c", S_IFCHR | 0666, 0x103));
    tell("mknod of a block device", mknod("/workspace/b", S_IFBLK | 0666, 0xfe00));
    tell("mknodat", mknodat(AT_FDCWD, "/workspace/c", S_IFCHR | 0666, 0));
    tell("open with set-uid", open("/workspace/s", O_CREAT | O_WRONLY, 04755));
    tell("creat with set-gid", creat("/workspace/s", 02755));
    close(open("/workspace/f", O_CREAT | O_WRONLY, 0755));
    tell("chmod to set-uid", chmod("/workspace/f", 04755));
    tell("fchmod to set-uid", fchmod(open("/workspace/f", O_RDONLY), 04755));
    tell("fchmodat to set-uid", fchmodat(AT_FDCWD, "/workspace/f", 04755, 0));
    tell("fchmodat2 to set-uid", syscall(452, AT_FDCWD, "/workspace/f", 04755, 0));
    tell("chown to another", chown("/workspace/f", 1234, 1234));
}

static void mounts(void) {
    tell("mount tmpfs", mount("x", "/workspace", "tmpfs", 0, ""));
    tell("remount writable", mount("none", "/", 0, MS_REMOUNT | MS_BIND, 0));
    tell("mount proc", mount("proc", "/workspace", "proc", 0, 0));
    tell("umount /workspace", umount2("/workspace", MNT_DETACH));
    tell("umount /proc", umount2("/proc", MNT_DETACH));
    tell("chroot", chroot("/workspace"));
    tell("pivot_root", syscall(SYS_pivot_root, ".", "."));
    tell("fsopen", syscall(430, "tmpfs", 0));
    tell("open_tree", syscall(428, AT_FDCWD, "/", 1));
    tell("mount_setattr", syscall(442, AT_FDCWD, "/", 0, 0, 0));
    int flags[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
    char name[40];
    for (int i = 0; i < 7; i++) {
        snprintf(name, sizeof name, "unshare %#x", flags[i]);
        tell(name, unshare(flags[i]));
        snprintf(name, sizeof name, "clone %#x", flags[i]);
        long child = syscall(SYS_clone, flags[i] | SIGCHLD, 0, 0, 0, 0);
        if (child == 0) _exit(0);
        tell(name, child);
    }
    unsigned long arguments[11] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
    long child = syscall(435, arguments, sizeof arguments);
    if (child == 0) _exit(0);
    tell("clone3 of a user namespace", child);
    tell("setns", setns(open("/proc/1/ns/net", O_RDONLY), 0));
}

static void processes(pid_t target) {
    char buffer[16];
    struct iovec here = {buffer, 16}, there = {(void *) 0x400000, 16};
    tell("ptrace", ptrace(PTRACE_TRACEME, 0, 0, 0));
    tell("ptrace of the first process", ptrace(PTRACE_SEIZE, 1, 0, 0));
    tell("process_vm_readv", syscall(SYS_process_vm_readv, 1, &here, 1, &there, 1, 0));
    tell("process_vm_writev", syscall(SYS_process_vm_writev, 1, &here, 1, &there, 1, 0));
    tell("a signal to a process of this machine", kill(target, 0));
    tell("pidfd_open", syscall(434, 1, 0));
    kill(1, SIGKILL); /* of its own init; returns 0, and nothing comes of it */
    kill(1, SIGSTOP);
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    tell("a higher limit of files' sizes", setrlimit(RLIMIT_FSIZE, &limit));
    tell("a core", setrlimit(RLIMIT_CORE, &limit));
    tell("TIOCSTI", ioctl(0, 0x5412, "x"));
    tell("fork", syscall(SYS_fork));
    tell("exec", execl("/.rehearse/launcher", "launcher", (char *) 0));
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "memory", "r8", "r9", "r10", "r11");
    errno = (int) -result;
    tell("a call of 32 bits", result);
    tell("a call of x32", syscall(0x40000000 | 39));
}

static void powers(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0}};
    long found = syscall(SYS_capget, &head, data);
    errno = EPERM;
    tell("capabilities", found == 0 && !(data[0].effective | data[0].permitted | data[0].inheritable | data[1].permitted) ? -1 : 1);
    data[0].effective = data[0].permitted = ~0u;
    tell("capset", syscall(SYS_capset, &head, data));
    errno = EPERM;
    tell("CAP_SYS_ADMIN in the bounding set", prctl(PR_CAPBSET_READ, 21) == 1 ? 1 : -1);
    errno = EPERM;
    tell("new privileges", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? -1 : 1);
    struct { const char *name; long number, a, b, c; } calls[] = {
        {"io_uring_setup", 425, 1, (long) calls, 0}, {"keyctl", 250, 0, -3, 1}, {"add_key", 248, (long) "user", (long) "k", 0},
        {"request_key", 249, (long) "user", (long) "k", 0}, {"bpf", 321, 0, 0, 0}, {"userfaultfd", 323, 1, 0, 0},
        {"perf_event_open", 298, 0, 0, -1}, {"kexec_load", 246, 0, 0, 0}, {"init_module", 175, 0, 0, 0},
        {"finit_module", 313, 0, 0, 0}, {"delete_module", 176, (long) "x", 0, 0}, {"swapon", 167, (long) "/prog", 0, 0},
        {"reboot", 169, 0xfee1dead, 672274793, 0}, {"quotactl", 179, 0, 0, 0}, {"acct", 163, 0, 0, 0},
        {"settimeofday", 164, 0, 0, 0}, {"clock_settime", 227, 0, (long) calls, 0}, {"personality", 135, 0x40000, 0, 0},
        {"iopl", 172, 3, 0, 0}, {"ioperm", 173, 0x70, 1, 1}, {"sethostname", 170, (long) "x", 1, 0}, {"dmesg", 103, 10, 0, 0},
        {"seccomp", 317, 2, 0, 0}, {"fanotify_init", 300, 0, 0, 0}, {"memfd_create", 319, (long) "x", 0, 0},
        {"memfd_secret", 447, 0, 0, 0}, {"shmget", 29, 0, 4096, 01600}, {"mq_open", 240, (long) "x", O_CREAT | O_RDWR, 0600},
        {"openat2", 437, AT_FDCWD, (long) "/", 0}, {"modify_ldt", 154, 0, 0, 0},
    };
    for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++)
        tell(calls[i].name, syscall(calls[i].number, calls[i].a, calls[i].b, calls[i].c, 0, 0));
}

static void sockets(int port, const char *name) {
    int families[][3] = {{AF_PACKET, SOCK_RAW, 0}, {AF_INET, SOCK_RAW, 1}, {AF_NETLINK, SOCK_RAW, 12}, {AF_ALG, SOCK_SEQPACKET, 0},
                         {AF_BLUETOOTH, SOCK_RAW, 1}, {AF_VSOCK, SOCK_STREAM, 0}, {AF_TIPC, SOCK_RDM, 0}};
    char text[40];
    for (int i = 0; i < 7; i++) {
        snprintf(text, sizeof text, "socket of family %d", families[i][0]);
        tell(text, socket(families[i][0], families[i][1], families[i][2]));
    }
    struct sockaddr_in to = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}};
    tell("this machine's TCP port", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *) &to, sizeof to));
    inet_aton("192.0.2.1", &to.sin_addr);
    tell("the network", connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *) &to, sizeof to));
    struct sockaddr_un local = {AF_UNIX, ""};
    strcpy(local.sun_path + 1, name);
    socklen_t size = offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
    tell("this machine's abstract socket", connect(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *) &local, size));
    strcpy(local.sun_path, "/.rehearse/socket/socket");
    tell("the supervisor's socket", connect(socket(AF_UNIX, SOCK_SEQPACKET, 0), (struct sockaddr *) &local, sizeof local));
    int pair[2];
    tell("socketpair of another family", socketpair(AF_TIPC, SOCK_RDM, 0, pair));
}

int main(void) {
    char file[400], name[100];
    int process, port;
    FILE *targets = fopen("/workspace/targets", "r");
    if (!targets || fscanf(targets, "%399s %d %d %99s", file, &process, &port, name) != 4) return 2;
    fclose(targets);
    setvbuf(stdout, 0, _IOLBF, 0);
    descriptors();
    files(file);
    modes();
    mounts();
    processes(process);
    powers();
    sockets(port, name);
    puts("the end");
    return 0;
}
