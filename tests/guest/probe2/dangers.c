/* What may end the program or stop the machine: asked last, each in a run of its own where it does. */
#include "probe2.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

static char text[4096];

void ask_dangers(void)
{
    /* A file that is closed with unwritten data is written out behind the program's back;
    on Nanos 0.1.51 the next call
       into /workspace can then wait for ever. With fsync before close it doesn't. */
    P("closed_unsynced", int r = 0; for (int i = 0; i < 100; i++) { int f = open(W "cl", O_CREAT | O_WRONLY, 0644);
      write(f, "x", 1); close(f); r |= rename(W "cl", W "cm"); } r;);
    P("closed_synced", int r = 0; for (int i = 0; i < 100; i++) { int f = open(W "cl", O_CREAT | O_WRONLY, 0644);
      write(f, "x", 1); fsync(f); close(f); r |= rename(W "cl", W "cm"); } r;);
    P("unlinked_read", int f = fresh(W "ur"); write(f, "abc", 3); unlink(W "ur"); IS(3, pread(f, text, 9, 0)););
    P("unlinked_write", int f = fresh(W "uw"); unlink(W "uw"); IS(3, write(f, "abc", 3)););
    P("unlinked_stat", struct stat s; int f = fresh(W "ut"); unlink(W "ut"); int r = fstat(f, &s);
      N("%d", (int)s.st_nlink); r;);
    P("unlinked_mapped", int f = fresh(W "um"); write(f, "abc", 3); char *p = mmap(0, 4096, 1, MAP_PRIVATE, f, 0);
      close(f); unlink(W "um"); p == MAP_FAILED ? -1 : IS('a', p[0]););
    P("unlinked_remade", int f = fresh(W "uo"); unlink(W "uo"); int g = open(W "uo", O_CREAT | O_RDWR, 0644);
      close(f); write(g, "a", 1); IS(1, pread(g, text, 9, 0)););
    P("renamed_over_opened", put(W "ro1", "new"); int f = fresh(W "ro2"); write(f, "old!", 4);
      rename(W "ro1", W "ro2"); IS(4, pread(f, text, 9, 0)););
    P("renamed_over_closed", int f = fresh(W "rc2"); write(f, "old!", 4); put(W "rc1", "new");
      rename(W "rc1", W "rc2"); close(f););
    P("removed_current_directory", mkdir(W "gone", 0755); chdir(W "gone"); rmdir(W "gone");
      char *r = getcwd(text, 99); int e = errno; chdir("/"); errno = e; r ? 0 : -1;);
    P("removed_opened_directory", mkdir(W "god", 0755); int d = open(W "god", O_RDONLY | O_DIRECTORY);
      rmdir(W "god"); close(d););
    P("library_tmpfile_ws", setenv("TMPDIR", "/workspace", 1); int f = open("/workspace", O_TMPFILE | O_RDWR, 0600);
      f < 0 ? -1 : 0;);
    P("opened_directory_resized", mkdir(W "dir", 0755); int f = open(W "dir", O_CREAT | O_RDWR, 0644);
      f < 0 ? -1 : ftruncate(f, 4096););
    P("opened_directory_mapped", mkdir(W "dir", 0755); int f = open(W "dir", O_CREAT | O_RDWR | O_TRUNC, 0644);
      ftruncate(f, 4096); char *p = mmap(0, 4096, 3, MAP_SHARED, f, 0); if (p == MAP_FAILED) return -1; p[9] = 'q';
      0;);
    P("ws_fstatfs_file", struct statfs s; int f = fresh(W "fs"); fstatfs(f, &s););
    P("ws_statvfs", struct statvfs s; statvfs("/workspace", &s););
    P("ws_statfs_file", struct statfs s; put(W "a", "a"); statfs(W "a", &s););
    P("ws_statfs_missing", struct statfs s; statfs(W "none", &s););
    P("ws_pathconf_name", IS(255, pathconf("/workspace", _PC_NAME_MAX)););
    P("ws_pathconf_link", pathconf("/workspace", _PC_LINK_MAX) < 0 ? -1 : 0;);
    P("statfs_proc", struct statfs s; statfs("/proc", &s););
    P("statfs_dev", struct statfs s; statfs("/dev", &s););
    P("statfs_sys", struct statfs s; statfs("/sys", &s););
    P("fstatfs_pipe", struct statfs s; int p[2]; pipe(p); fstatfs(p[0], &s););
    P("fstatfs_stdout", struct statfs s; fstatfs(1, &s););
    P("poll_in_epoll", int p[2]; pipe(p); int e = epoll_create1(0); struct epoll_event v = {EPOLLIN};
      epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v); struct pollfd f = {e, POLLIN, 0}; poll(&f, 1, 20) < 0 ? -1 : 0;);
    P("descriptor_large", int f = dup2(1, 1 << 24); close(1 << 24); f < 0 ? -1 : 0;);
    P("descriptor_large_polled", dup2(1, 1 << 24); struct pollfd f = {1 << 24, POLLOUT, 0}; int r = poll(&f, 1, 20);
      close(1 << 24); r < 0 ? -1 : 0;);
    P("write_past_limit", struct rlimit l = {100, RLIM_INFINITY}; setrlimit(RLIMIT_FSIZE, &l);
      signal(SIGXFSZ, SIG_IGN); int f = fresh(W "lim"); int r = ftruncate(f, 200); l.rlim_cur = RLIM_INFINITY;
      setrlimit(RLIMIT_FSIZE, &l); r;);
    P("mmap_bus_error", int f = fresh(W "be"); ftruncate(f, 8192); char *p = mmap(0, 8192, 1, MAP_SHARED, f, 0);
      if (p == MAP_FAILED) return -1; ftruncate(f, 0); N("%d", p[4097]); 0;);
    P("signal_default_usr1", signal(SIGUSR1, SIG_DFL); raise(SIGUSR1););
    P("signal_default_quit", signal(SIGQUIT, SIG_DFL); raise(SIGQUIT););
    P("signal_default_kill", kill(getpid(), SIGKILL););
    P("signal_default_sys", signal(SIGSYS, SIG_DFL); raise(SIGSYS););
    P("signal_default_pipe", signal(SIGPIPE, SIG_DFL); int p[2]; pipe(p); close(p[0]);
      write(p[1], "x", 1) < 0 ? -1 : 0;);
    P("signal_default_alarm", signal(SIGALRM, SIG_DFL); alarm(1); sleep(3); 0;);
    P("signal_blocked_fault", sigset_t s; sigfillset(&s); sigprocmask(SIG_BLOCK, &s, 0); *(volatile int *)0 = 1; 0;);
    P("stack_3m", volatile char a[3 << 20]; memset((char *)a, 1, sizeof a); a[9] == 1 ? 0 : 1;);
    P("memory_exhausted", char *p = mmap(0, 3UL << 30, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (p == MAP_FAILED) return -1; for (long i = 0; i < 3L << 30; i += 4096) p[i] = 1; 0;);
    P("exit_in_thread", syscall(SYS_exit_group, 3); 0;);
    P("abort", signal(SIGABRT, SIG_DFL); abort(); 0;);
}
