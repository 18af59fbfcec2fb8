/* Identity, limits, and system calls that few programs make. */
#include "probe2.h"
#include <sys/fsuid.h>

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>

static char room[4096];

static int limit(int which)
{
    struct rlimit l;
    int r = getrlimit(which, &l);
    if (r)
        return r;
    if (l.rlim_cur == RLIM_INFINITY)
        N("unlimited");
    else
        N("%ld", (long)l.rlim_cur);
    return r;
}

static void ask_identity(void)
{
    P("gettid_is_pid", gettid() == getpid() ? 0 : 1;);
    P("getppid", N("%d", getppid()); getppid() < 0 ? -1 : 0;);
    P("getpgrp", getpgrp() < 0 ? -1 : 0;);
    P("getsid", getsid(0) < 0 ? -1 : 0;);
    P("setpgid", setpgid(0, 0););
    P("getgroups", getgroups(0, 0) < 0 ? -1 : 0;);
    P("getresuid", uid_t a, b, c; getresuid(&a, &b, &c) ? -1 : (N("%d %d %d", a, b, c), 0););
    P("getresgid", gid_t a, b, c; getresgid(&a, &b, &c) ? -1 : (N("%d %d %d", a, b, c), 0););
    P("setgid0", setgid(0););
    P("setresuid0", setresuid(0, 0, 0););
    P("setreuid0", setreuid(0, 0););
    P("setfsuid", setfsuid(0) < 0 ? -1 : 0;);
    P("setgroups_one", gid_t g = 0; syscall(SYS_setgroups, 1, &g););
    S("capget", SYS_capget, (unsigned[]){0x20080522, 0}, room);
    S("capset", SYS_capset, (unsigned[]){0x20080522, 0}, room);
    P("getlogin", char n[99]; int r = getlogin_r(n, 99); errno = r; r ? -1 : 0;);
    P("gethostid", gethostid(); 0;);
    P("getdomainname", char n[99]; int r = getdomainname(n, 99); N("%s", n); r;);
    P("uname_node", struct utsname u; int r = uname(&u); N("%s", u.nodename); r;);
    P("uname_release", struct utsname u; int r = uname(&u); N("%s", u.release); r;);
    P("wait_child", wait(0) < 0 ? -1 : 0;);
    P("waitid_child", siginfo_t s; waitid(P_ALL, 0, &s, WEXITED | WNOHANG););
    P("kill_nobody", kill(12345, 0););
    P("kill_parent", kill(1, 0););
    P("tgkill_nobody", syscall(SYS_tgkill, getpid(), 12345, 0) < 0 ? -1 : 0;);
    P("environment_path", char *p = getenv("PATH"); N("%s", p ? p : "none"); 0;);
    P("environment_home", char *p = getenv("HOME"); N("%s", p ? p : "none"); 0;);
    P("environment_user", char *p = getenv("USER"); N("%s", p ? p : "none"); 0;);
    P("environment_pwd", char *p = getenv("PWD"); N("%s", p ? p : "none"); 0;);
}

static void ask_limits(void)
{
    P("limit_as", limit(RLIMIT_AS););
    P("limit_data", limit(RLIMIT_DATA););
    P("limit_stack", limit(RLIMIT_STACK););
    P("limit_memlock", limit(RLIMIT_MEMLOCK););
    P("limit_nproc", limit(RLIMIT_NPROC););
    P("limit_fsize", limit(RLIMIT_FSIZE););
    P("limit_cpu", limit(RLIMIT_CPU););
    P("limit_core", limit(RLIMIT_CORE););
    P("limit_nofile", limit(RLIMIT_NOFILE););
    P("limit_sigpending", limit(RLIMIT_SIGPENDING););
    P("limit_rtprio", limit(RLIMIT_RTPRIO););
    P("limit_bad", limit(99););
    P("limit_set_stack", struct rlimit was; getrlimit(RLIMIT_STACK, &was);
      struct rlimit l = {1 << 20, was.rlim_max}; int r = setrlimit(RLIMIT_STACK, &l); int e = errno;
      setrlimit(RLIMIT_STACK, &was); errno = e; r;);
    P("limit_set_as", struct rlimit l = {RLIM_INFINITY, RLIM_INFINITY}; setrlimit(RLIMIT_AS, &l););
    P("limit_set_seen", struct rlimit l = {300, 4096}; setrlimit(RLIMIT_NOFILE, &l); getrlimit(RLIMIT_NOFILE, &l);
      IS(300, l.rlim_cur););
    P("prlimit_other", struct rlimit l; prlimit(12345, RLIMIT_AS, 0, &l););
    P("getpriority", getpriority(PRIO_PROCESS, 0) == 0 ? 0 : -1;);
    P("nice_0", errno = 0; nice(0) == -1 && errno ? -1 : 0;);
    P("getrusage_thread", struct rusage u; getrusage(RUSAGE_THREAD, &u););
    P("getrusage_children", struct rusage u; getrusage(RUSAGE_CHILDREN, &u););
    P("getrusage_time", struct rusage u; long t = ms(CLOCK_MONOTONIC); while (ms(CLOCK_MONOTONIC) < t + 50);
      int r = getrusage(RUSAGE_SELF, &u);
      N("%s", u.ru_utime.tv_sec || u.ru_utime.tv_usec ? "counted" : "zero"); r;);
    P("getrusage_faults", struct rusage u; int r = getrusage(RUSAGE_SELF, &u);
      N("%s", u.ru_minflt ? "counted" : "zero"); r;);
    P("sysconf_open_max", N("%s", sysconf(_SC_OPEN_MAX) > 0 ? "set" : "none"); 0;);
    P("sysconf_avphys", N("%s", sysconf(_SC_AVPHYS_PAGES) > 1000 ? "some" : "none"); 0;);
    P("sysconf_arg_max", N("%ld", sysconf(_SC_ARG_MAX)); 0;);
    P("sysinfo_free", struct sysinfo s; int r = sysinfo(&s);
      N("%s", s.freeram > 0 && s.freeram < s.totalram ? "some" : "none"); r;);
    P("sysinfo_uptime", struct sysinfo s; int r = sysinfo(&s); N("%s", s.uptime < 600 ? "since boot" : "longer"); r;);
    P("sysinfo_swap", struct sysinfo s; int r = sysinfo(&s); N("%lu", s.totalswap); r;);
    P("sysinfo_procs", struct sysinfo s; int r = sysinfo(&s); N("%d", s.procs); r;);
}

static void ask_scheduling(void)
{
    P("sched_yield", sched_yield(););
    P("sched_getscheduler", sched_getscheduler(0) < 0 ? -1 : 0;);
    P("sched_getparam", struct sched_param p; sched_getparam(0, &p););
    P("sched_max_fifo", IS(99, sched_get_priority_max(SCHED_FIFO)););
    P("sched_min_other", IS(0, sched_get_priority_min(SCHED_OTHER)););
    P("sched_rr_interval", struct timespec t; sched_rr_get_interval(0, &t););
    P("sched_getattr", syscall(SYS_sched_getattr, 0, room, 56, 0) < 0 ? -1 : 0;);
    P("affinity_none", cpu_set_t c; CPU_ZERO(&c); sched_setaffinity(0, sizeof c, &c););
    P("affinity_absent", cpu_set_t c; CPU_ZERO(&c); CPU_SET(99, &c); sched_setaffinity(0, sizeof c, &c););
    P("affinity_kept", cpu_set_t c; CPU_ZERO(&c); CPU_SET(1, &c); sched_setaffinity(0, sizeof c, &c); CPU_ZERO(&c);
      sched_getaffinity(0, sizeof c, &c);
      int n = CPU_COUNT(&c); CPU_SET(0, &c); CPU_SET(1, &c); sched_setaffinity(0, sizeof c, &c); IS(1, n););
    P("affinity_small_mask", unsigned long c; syscall(SYS_sched_getaffinity, 0, 4, &c) < 0 ? -1 : 0;);
    P("affinity_nobody", cpu_set_t c; sched_getaffinity(12345, sizeof c, &c););
    S("ioprio_get", SYS_ioprio_get, 1, 0);
    S("ioprio_set", SYS_ioprio_set, 1, 0, 0x4004);
}

static void ask_prctl(void)
{
    P("prctl_get_name", char n[16] = ""; prctl(PR_SET_NAME, "named"); int r = prctl(PR_GET_NAME, n); N("%s", n); r;);
    P("prctl_dumpable_set", prctl(PR_SET_DUMPABLE, 0););
    P("prctl_keepcaps", prctl(PR_GET_KEEPCAPS););
    P("prctl_pdeathsig", prctl(PR_SET_PDEATHSIG, SIGTERM););
    P("prctl_timerslack", prctl(PR_GET_TIMERSLACK) < 0 ? -1 : 0;);
    P("prctl_timerslack_set", prctl(PR_SET_TIMERSLACK, 1000););
    P("prctl_thp", prctl(PR_GET_THP_DISABLE) < 0 ? -1 : 0;);
    P("prctl_subreaper", prctl(PR_SET_CHILD_SUBREAPER, 1););
    P("prctl_securebits", prctl(PR_GET_SECUREBITS) < 0 ? -1 : 0;);
    P("prctl_capbset", prctl(PR_CAPBSET_READ, 0) < 0 ? -1 : 0;);
    P("prctl_vma_name", prctl(0x53564d41, 0, room, 4096, "n"););
    P("prctl_no_new_privs", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) < 0 ? -1 : 0;);
    P("prctl_tsc", int v; prctl(PR_GET_TSC, &v););
    P("prctl_bad", prctl(9999););
    P("arch_prctl_gs", unsigned long g; syscall(SYS_arch_prctl, 0x1004, &g) < 0 ? -1 : 0;);
    P("arch_prctl_cpuid", syscall(SYS_arch_prctl, 0x1011, 0) < 0 ? -1 : 0;);
    P("arch_prctl_bad", syscall(SYS_arch_prctl, 0x9999, 0) < 0 ? -1 : 0;);
    P("cpuid_vendor", unsigned a = 0, b, c, d; __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
      a ? 0 : 1;);
    P("rdtsc", __builtin_ia32_rdtsc() ? 0 : 1;);
}

static void ask_rare(void)
{
    S("call_unknown", 999);
    S("call_negative", -1L);
    S("call_kcmp", SYS_kcmp, getpid(), getpid(), 0, 1, 1);
    S("call_add_key", SYS_add_key, "user", "x", "y", 1, -3);
    S("call_keyctl", SYS_keyctl, 0, -3, 0);
    S("call_request_key", SYS_request_key, "user", "x", 0, 0);
    S("call_name_to_handle", SYS_name_to_handle_at, AT_FDCWD, "/etc", room, room + 999, 0);
    S("call_fanotify", SYS_fanotify_init, 0, 0);
    S("call_syslog", SYS_syslog, 10, 0, 0);
    S("call_syslog_size", SYS_syslog, 9, 0, 0);
    S("call_vhangup", SYS_vhangup);
    S("call_iopl", SYS_iopl, 3);
    S("call_ioperm", SYS_ioperm, 0x80, 1, 1);
    S("call_modify_ldt", SYS_modify_ldt, 0, room, 16);
    S("call_sysfs", SYS_sysfs, 3);
    S("call_ustat", SYS_ustat, 0, room);
    S("call_set_tid_address", SYS_set_tid_address, room);
    S("call_get_robust_list", SYS_get_robust_list, 0, room, room + 8);
    S("call_mq_open", SYS_mq_open, "x", O_CREAT | O_RDWR, 0600, 0);
    S("call_pidfd_getfd", SYS_pidfd_getfd, -1, 0, 0);
    S("call_pidfd_signal", SYS_pidfd_send_signal, -1, 0, 0, 0);
    S("call_fsopen", SYS_fsopen, "tmpfs", 0);
    S("call_open_tree", SYS_open_tree, AT_FDCWD, "/etc", 0);
    S("call_cachestat", 451, 1, room, room, 0);
    S("call_mseal", 462, 0, 0, 0);
    S("call_map_shadow_stack", 453, 0, 4096, 0);
    S("call_clone3", SYS_clone3, room, 0);
    S("call_execveat", SYS_execveat, -1, "", 0, 0, AT_EMPTY_PATH);
    S("call_acct", SYS_acct, 0);
    S("call_swapon", SYS_swapon, "/none", 0);
    S("call_quotactl", SYS_quotactl, 0, 0, 0, 0);
    S("call_init_module", SYS_init_module, 0, 0, "");
    S("call_kexec", SYS_kexec_load, 0, 0, 0, 0);
    S("call_pivot_root", SYS_pivot_root, "/", "/");
    S("call_umount", SYS_umount2, "/none", 0);
    S("call_setns", SYS_setns, 1, 0);
    S("call_setdomainname", SYS_setdomainname, "x", 1);
    S("call_get_thread_area", SYS_get_thread_area, room);
    S("call_seccomp", SYS_seccomp, 2, 0, room);
    S("call_seccomp_strict_query", SYS_seccomp, 3, 0, room);
    S("call_process_mrelease", 448, -1, 0);
    S("call_rt_tgsigqueueinfo", SYS_rt_tgsigqueueinfo, 0, 0, 0, 0);
    S("call_restart_syscall", SYS_restart_syscall);
    S("call_time", SYS_time, 0);
    S("call_getcpu_null", SYS_getcpu, 0, 0, 0);
    S("call_sync_file_range", SYS_sync_file_range, 1, 0, 0, 0);
    S("call_msgget", SYS_msgget, 0, 0);
    S("call_io_pgetevents", SYS_io_pgetevents, 0, 0, 0, 0, 0, 0);
    S("call_io_uring_enter", SYS_io_uring_enter, -1, 0, 0, 0, 0, 0);
    S("call_statmount", 457, 0, 0, 0, 0);
    S("call_lsm_self", 459, 0, 0, 0, 0);
}

void ask_processes(void)
{
    ask_identity();
    ask_limits();
    ask_scheduling();
    ask_prctl();
    ask_rare();
}
