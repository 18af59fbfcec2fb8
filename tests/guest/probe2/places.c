/* What lies in /proc, /sys, /dev, /etc and the usual directories. */
#include "probe2.h"

#include <dirent.h>
#include <elf.h>
#include <link.h>

static char text[1 << 16];

static int in_directory(const char *path, const char *wanted)
{
    DIR *d = opendir(path);
    int found = 0;
    if (!d)
        return -1;
    for (struct dirent *e; (e = readdir(d));)
        found |= !strcmp(e->d_name, wanted);
    closedir(d);
    return found;
}

static int maps_have(const char *wanted)
{
    int f = open("/proc/self/maps", O_RDONLY);
    long n = 0, r;
    if (f < 0)
        return -1;
    while (n < (long)sizeof text - 1 && (r = read(f, text + n, sizeof text - 1 - n)) > 0)
        n += r;
    text[n] = 0;
    return strstr(text, wanted) ? 1 : 0;
}

static int line(const char *path, const char *wanted)
{
    int f = open(path, O_RDONLY);
    if (f < 0)
        return -1;
    long n = read(f, text, sizeof text - 1);
    text[n < 0 ? 0 : n] = 0;
    return strstr(text, wanted) ? 0 : 1;
}

static int counted(struct dl_phdr_info *info, size_t size, void *n)
{
    return ++*(int *)n, 0;
}

#define READ(name, path) P(name, get(path, 0);)
#define SHOW(name, path) P(name, get(path, 1);)
#define THERE(name, path) P(name, access(path, F_OK);)

static void ask_proc(void)
{
    READ("proc_self_comm", "/proc/self/comm");
    READ("proc_self_limits", "/proc/self/limits");
    READ("proc_self_statm", "/proc/self/statm");
    READ("proc_self_smaps", "/proc/self/smaps");
    READ("proc_self_smaps_rollup", "/proc/self/smaps_rollup");
    READ("proc_self_auxv", "/proc/self/auxv");
    READ("proc_self_io", "/proc/self/io");
    READ("proc_self_oom_score_adj", "/proc/self/oom_score_adj");
    READ("proc_self_wchan", "/proc/self/wchan");
    READ("proc_self_numa_maps", "/proc/self/numa_maps");
    READ("proc_self_sched", "/proc/self/sched");
    READ("proc_self_uid_map", "/proc/self/uid_map");
    READ("proc_self_coredump", "/proc/self/coredump_filter");
    READ("proc_pid_maps", (sprintf(text, "/proc/%d/maps", getpid()), text));
    READ("proc_1_status", "/proc/1/status");
    THERE("proc_self", "/proc/self");
    THERE("proc_self_cwd", "/proc/self/cwd");
    THERE("proc_self_root", "/proc/self/root");
    THERE("proc_self_ns", "/proc/self/ns/mnt");
    THERE("proc_self_mem", "/proc/self/mem");
    THERE("proc_self_pagemap", "/proc/self/pagemap");
    THERE("proc_self_clear_refs", "/proc/self/clear_refs");
    THERE("proc_self_map_files", "/proc/self/map_files");
    P("proc_self_readlink", readlink("/proc/self", text, 99) < 0 ? -1 : 0;);
    P("proc_self_exe_elf", int f = open("/proc/self/exe", O_RDONLY);
      read(f, text, 4) == 4 ? memcmp(text, "\177ELF", 4) : -1;);
    P("proc_self_exe_stat", struct stat s; stat("/proc/self/exe", &s););
    P("proc_self_exe_lstat", struct stat s; int r = lstat("/proc/self/exe", &s); N("%o", s.st_mode & S_IFMT); r;);
    P("proc_maps_program", maps_have("/probe2") == 1 ? 0 : 1;);
    P("proc_maps_heap", sbrk(4096); N("%d", maps_have("[heap]")); 0;);
    P("proc_maps_stack", N("%d", maps_have("[stack]")); 0;);
    P("proc_maps_vdso", N("%d", maps_have("[vdso]")); 0;);
    P("proc_maps_libc", N("%d", maps_have("libc.so.6")); 0;);
    P("proc_meminfo_total", line("/proc/meminfo", "MemTotal:"););
    P("proc_meminfo_available", line("/proc/meminfo", "MemAvailable:"););
    P("proc_meminfo_swap", line("/proc/meminfo", "SwapTotal:"););
    P("proc_meminfo_huge", line("/proc/meminfo", "Hugepagesize:"););
    P("proc_list", opendir("/proc") ? 0 : -1;);
    P("proc_list_self", IS(1, in_directory("/proc", "self")););
    P("proc_list_sys", IS(1, in_directory("/proc", "sys")););
    P("proc_create", put("/proc/x", "y"););
    READ("proc_filesystems", "/proc/filesystems");
    READ("proc_cmdline_kernel", "/proc/cmdline");
    READ("proc_swaps", "/proc/swaps");
    READ("proc_vmstat", "/proc/vmstat");
    READ("proc_interrupts", "/proc/interrupts");
    READ("proc_modules", "/proc/modules");
    READ("proc_partitions", "/proc/partitions");
    READ("proc_diskstats", "/proc/diskstats");
    READ("proc_devices", "/proc/devices");
    READ("proc_misc", "/proc/misc");
    READ("proc_zoneinfo", "/proc/zoneinfo");
    READ("proc_buddyinfo", "/proc/buddyinfo");
    READ("proc_key_users", "/proc/key-users");
    READ("proc_kallsyms", "/proc/kallsyms");
    READ("proc_net_dev", "/proc/net/dev");
    READ("proc_net_tcp", "/proc/net/tcp");
    READ("proc_net_route", "/proc/net/route");
    READ("proc_net_unix", "/proc/net/unix");
    READ("proc_net_if_inet6", "/proc/net/if_inet6");
    READ("proc_pressure", "/proc/pressure/cpu");
}

static void ask_sys(void)
{
    SHOW("sysctl_ostype", "/proc/sys/kernel/ostype");
    READ("sysctl_osrelease", "/proc/sys/kernel/osrelease");
    READ("sysctl_version", "/proc/sys/kernel/version");
    SHOW("sysctl_hostname", "/proc/sys/kernel/hostname");
    READ("sysctl_pid_max", "/proc/sys/kernel/pid_max");
    READ("sysctl_threads_max", "/proc/sys/kernel/threads-max");
    READ("sysctl_cap_last_cap", "/proc/sys/kernel/cap_last_cap");
    READ("sysctl_ngroups_max", "/proc/sys/kernel/ngroups_max");
    READ("sysctl_core_pattern", "/proc/sys/kernel/core_pattern");
    READ("sysctl_shmmax", "/proc/sys/kernel/shmmax");
    READ("sysctl_boot_id", "/proc/sys/kernel/random/boot_id");
    READ("sysctl_entropy", "/proc/sys/kernel/random/entropy_avail");
    READ("sysctl_perf_paranoid", "/proc/sys/kernel/perf_event_paranoid");
    READ("sysctl_numa_balancing", "/proc/sys/kernel/numa_balancing");
    READ("sysctl_max_map_count", "/proc/sys/vm/max_map_count");
    READ("sysctl_mmap_min_addr", "/proc/sys/vm/mmap_min_addr");
    READ("sysctl_swappiness", "/proc/sys/vm/swappiness");
    READ("sysctl_nr_hugepages", "/proc/sys/vm/nr_hugepages");
    READ("sysctl_file_max", "/proc/sys/fs/file-max");
    READ("sysctl_nr_open", "/proc/sys/fs/nr_open");
    READ("sysctl_pipe_max", "/proc/sys/fs/pipe-max-size");
    READ("sysctl_inotify", "/proc/sys/fs/inotify/max_user_watches");
    READ("sysctl_ip_ports", "/proc/sys/net/ipv4/ip_local_port_range");
    READ("sysctl_tcp_fastopen", "/proc/sys/net/ipv4/tcp_fastopen");
    READ("sysctl_ipv6_off", "/proc/sys/net/ipv6/conf/all/disable_ipv6");
    THERE("sys_there", "/sys");
    THERE("sys_cpu", "/sys/devices/system/cpu");
    READ("sys_cpu_present", "/sys/devices/system/cpu/present");
    READ("sys_cpu_kernel_max", "/sys/devices/system/cpu/kernel_max");
    READ("sys_cpu0_online", "/sys/devices/system/cpu/cpu0/online");
    READ("sys_cpu0_core_id", "/sys/devices/system/cpu/cpu0/topology/core_id");
    READ("sys_cpu0_siblings", "/sys/devices/system/cpu/cpu0/topology/thread_siblings");
    READ("sys_cpu0_cache", "/sys/devices/system/cpu/cpu0/cache/index0/size");
    READ("sys_cpu0_frequency", "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq");
    READ("sys_vulnerabilities", "/sys/devices/system/cpu/vulnerabilities/meltdown");
    P("sys_cpu_listed", IS(1, in_directory("/sys/devices/system/cpu", "cpu1")););
    SHOW("sys_cpu_online_text", "/sys/devices/system/cpu/online");
    SHOW("sys_cpu_possible_text", "/sys/devices/system/cpu/possible");
    READ("sys_thp_size", "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size");
    THERE("sys_hugepages", "/sys/kernel/mm/hugepages");
    THERE("sys_net", "/sys/class/net");
    THERE("sys_block", "/sys/block");
    THERE("sys_class_dmi", "/sys/class/dmi/id/product_name");
    THERE("sys_devices", "/sys/devices");
    THERE("sys_module", "/sys/module");
    THERE("sys_firmware", "/sys/firmware");
    READ("sys_cgroup_memory", "/sys/fs/cgroup/memory.max");
    READ("sys_cgroup_cpu", "/sys/fs/cgroup/cpu.max");
    READ("sys_cgroup_v1_memory", "/sys/fs/cgroup/memory/memory.limit_in_bytes");
}

static void ask_dev(void)
{
    static const char *const paths[] = {"/dev/ptmx", "/dev/pts", "/dev/kmsg", "/dev/mem", "/dev/hwrng",
    "/dev/console",
        "/dev/stdin", "/dev/stderr", "/dev/fd", "/dev/shm", "/dev/vda", "/dev/sda", "/dev/rtc", "/dev/fuse",
        "/dev/net/tun",
        "/dev/kvm", "/dev/loop0", "/dev/cpu/0/msr", "/dev/null", "/dev/urandom", 0};
    static const char *const names[] = {"dev_ptmx", "dev_pts", "dev_kmsg", "dev_mem", "dev_hwrng", "dev_console",
    "dev_stdin",
        "dev_stderr", "dev_fd_dir", "dev_shm", "dev_vda", "dev_sda", "dev_rtc", "dev_fuse", "dev_tun", "dev_kvm",
        "dev_loop",
        "dev_msr", "dev_null_there", "dev_urandom_there"};
    for (int i = 0; paths[i]; i++)
        P(names[i], access(paths[i], F_OK););
    P("dev_null_write", int f = open("/dev/null", O_WRONLY); IS(5, write(f, "abcde", 5)););
    P("dev_null_read", int f = open("/dev/null", O_RDONLY); IS(0, read(f, text, 9)););
    P("dev_null_rdwr", int f = open("/dev/null", O_RDWR); f < 0 ? -1 : 0;);
    P("dev_null_trunc", int f = open("/dev/null", O_WRONLY | O_TRUNC); f < 0 ? -1 : 0;);
    P("dev_null_append", int f = open("/dev/null", O_WRONLY | O_APPEND); f < 0 ? -1 : 0;);
    P("dev_null_fopen", FILE *f = fopen("/dev/null", "w"); f ? fclose(f) : -1;);
    P("dev_null_seek", int f = open("/dev/null", O_RDONLY); lseek(f, 5, SEEK_SET) < 0 ? -1 : 0;);
    P("dev_null_mmap", int f = open("/dev/null", O_RDWR);
      mmap(0, 4096, 1, MAP_PRIVATE, f, 0) == MAP_FAILED ? -1 : 0;);
    P("dev_urandom_64k", int f = open("/dev/urandom", O_RDONLY); IS(65536, read(f, text, 65536)););
    P("dev_urandom_write", int f = open("/dev/urandom", O_WRONLY); write(f, "x", 1) < 0 ? -1 : 0;);
    P("getrandom_large", IS(65536, syscall(SYS_getrandom, text, 65536, 0)););
    P("getrandom_random", IS(16, syscall(SYS_getrandom, text, 16, 2)););
    P("getrandom_nonblock", IS(16, syscall(SYS_getrandom, text, 16, 1)););
    P("getrandom_bad_flags", syscall(SYS_getrandom, text, 16, 0x100) < 0 ? -1 : 0;);
    P("getrandom_bad_buffer", syscall(SYS_getrandom, 8, 16, 0) < 0 ? -1 : 0;);
    P("getentropy", getentropy(text, 256););
    P("dev_create", put("/dev/x", "y"););
}

static void ask_usual(void)
{
    THERE("place_tmp", "/tmp");
    THERE("place_var_tmp", "/var/tmp");
    THERE("place_run", "/run");
    THERE("place_home", "/root");
    THERE("place_bin_sh", "/bin/sh");
    THERE("place_usr_lib", "/usr/lib");
    THERE("place_lib64", "/lib64/ld-linux-x86-64.so.2");
    THERE("place_os_release", "/etc/os-release");
    THERE("place_machine_id", "/etc/machine-id");
    THERE("place_group", "/etc/group");
    THERE("place_mtab", "/etc/mtab");
    THERE("place_services", "/etc/services");
    THERE("place_zoneinfo", "/usr/share/zoneinfo/UTC");
    THERE("place_locale", "/usr/lib/locale/C.utf8");
    THERE("place_workspace", "/workspace");
    SHOW("place_resolv", "/etc/resolv.conf");
    P("place_mkdir_run", mkdir("/run/x", 0755););
    P("loaded_objects", int n = 0; dl_iterate_phdr(counted, &n); n > 1 ? 0 : 1;);
}

void ask_places(void)
{
    ask_proc();
    ask_sys();
    ask_dev();
    ask_usual();
}
