/* Pipes, eventfd, polling, asynchronous input and output. */
#include "probe2.h"

#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <termios.h>

static char room[1 << 17];

static int readable(int fd, int milliseconds)
{
    struct pollfd p = {fd, POLLIN, 0};
    int r = poll(&p, 1, milliseconds);
    return r < 0 ? r : p.revents;
}

static int watched(int fd, unsigned events)
{
    int e = epoll_create1(0);
    struct epoll_event v = {events, {.u32 = 7}};
    return epoll_ctl(e, EPOLL_CTL_ADD, fd, &v) ? -1 : e;
}

static int waiting(int e, int milliseconds)
{
    struct epoll_event v[4];
    int r = epoll_wait(e, v, 4, milliseconds);
    return r > 0 ? (int)v[0].events : r;
}

static void ask_pipes(void)
{
    P("pipe_holds", int p[2]; pipe2(p, O_NONBLOCK); long n = 0; for (long r;
      (r = write(p[1], room, 4096)) > 0;) n += r; N("%ld", n); 0;);
    P("pipe_full", int p[2]; pipe2(p, O_NONBLOCK); while (write(p[1], room, 4096) > 0);
      write(p[1], room, 1) < 0 ? -1 : 0;);
    P("pipe_empty", int p[2]; pipe2(p, O_NONBLOCK); read(p[0], room, 1) < 0 ? -1 : 0;);
    P("pipe_end", int p[2]; pipe(p); close(p[1]); IS(0, read(p[0], room, 1)););
    P("pipe_broken", int p[2]; pipe(p); close(p[0]); write(p[1], "x", 1) < 0 ? -1 : 0;);
    P("pipe_write_to_read_end", int p[2]; pipe(p); write(p[0], "x", 1) < 0 ? -1 : 0;);
    P("pipe_bad_flags", int p[2]; pipe2(p, O_APPEND););
    P("pipe_set_size", int p[2]; pipe(p); fcntl(p[0], F_SETPIPE_SZ, 1 << 17) < 0 ? -1 : 0;);
    P("pipe_size", int p[2]; pipe(p); int r = fcntl(p[0], F_GETPIPE_SZ); N("%d", r); r < 0 ? -1 : 0;);
    P("pipe_waiting_bytes", int p[2]; int n = -1; pipe(p); write(p[1], "abc", 3); int r = ioctl(p[0], FIONREAD, &n);
      N("%d", n); r;);
    P("pipe_partial_read", int p[2]; pipe(p); write(p[1], "abc", 3); IS(3, read(p[0], room, 100)););
    P("pipe_readv", int p[2]; pipe(p); write(p[1], "abcd", 4); struct iovec v[2] = {{room, 2}, {room + 9, 2}};
      IS(4, readv(p[0], v, 2)););
    P("pipe_hang_up", int p[2]; pipe(p); close(p[1]); IS(POLLHUP, readable(p[0], 100)););
    P("pipe_error", int p[2]; pipe(p); close(p[0]); struct pollfd f = {p[1], POLLOUT, 0}; poll(&f, 1, 100);
      N("%d", f.revents); 0;);
    P("pipe_tee", int p[2], q[2]; pipe(p); pipe(q); write(p[1], "x", 1); tee(p[0], q[1], 1, 0) < 0 ? -1 : 0;);
    P("pipe_vmsplice", int p[2]; pipe(p); struct iovec v = {room, 5}; vmsplice(p[1], &v, 1, 0) < 0 ? -1 : 0;);
    P("pipe_splice", int p[2], q[2]; pipe(p); pipe(q); write(p[1], "x", 1);
      splice(p[0], 0, q[1], 0, 1, 0) < 0 ? -1 : 0;);
    P("pipe_fstat_size", int p[2]; pipe(p); fsync(p[0]););
    P("pipe_truncate", int p[2]; pipe(p); ftruncate(p[1], 0););
    P("pipe_reopened", int p[2]; pipe(p); char n[40]; sprintf(n, "/proc/self/fd/%d", p[0]);
      open(n, O_RDONLY | O_NONBLOCK) < 0 ? -1 : 0;);
}

static void ask_flags(void)
{
    P("fcntl_getfl", int f = open("/etc/passwd", O_RDONLY); N("%d", fcntl(f, F_GETFL) & O_ACCMODE);
      fcntl(f, F_GETFL) < 0 ? -1 : 0;);
    P("fcntl_nonblock", int p[2]; pipe(p); fcntl(p[0], F_SETFL, O_NONBLOCK); read(p[0], room, 1) < 0 ? -1 : 0;);
    P("fcntl_cloexec", int f = open("/etc/passwd", O_RDONLY | O_CLOEXEC); N("%d", fcntl(f, F_GETFD));
      fcntl(f, F_GETFD) < 0 ? -1 : 0;);
    P("fcntl_set_cloexec", int f = open("/etc/passwd", O_RDONLY); fcntl(f, F_SETFD, FD_CLOEXEC);
      IS(1, fcntl(f, F_GETFD)););
    P("fcntl_dupfd", int f = fcntl(1, F_DUPFD, 50); IS(50, f););
    P("fcntl_dupfd_cloexec", int f = fcntl(1, F_DUPFD_CLOEXEC, 60); IS(60, f););
    P("fcntl_setown", int p[2]; pipe(p); fcntl(p[0], F_SETOWN, getpid()););
    P("fcntl_getown", int p[2]; pipe(p); fcntl(p[0], F_GETOWN) < 0 ? -1 : 0;);
    P("fcntl_setsig", int p[2]; pipe(p); fcntl(p[0], F_SETSIG, SIGIO););
    P("fcntl_async", int p[2]; pipe(p); fcntl(p[0], F_SETFL, O_ASYNC););
    P("fcntl_notify", int f = open("/workspace", O_RDONLY); fcntl(f, F_NOTIFY, DN_CREATE););
    P("fcntl_bad", fcntl(1, 9999) < 0 ? -1 : 0;);
    P("fcntl_bad_descriptor", fcntl(99, F_GETFD) < 0 ? -1 : 0;);
    P("dup_bad", dup(99) < 0 ? -1 : 0;);
    P("dup2_same", IS(1, dup2(1, 1)););
    P("dup3_same", dup3(1, 1, 0) < 0 ? -1 : 0;);
    P("close_bad", close(99););
    P("close_twice", int f = dup(1); close(f); close(f););
    P("descriptors_500", int n = 0; while (n < 500 && dup(1) >= 0) n++; for (int i = 3; i < 600; i++) close(i);
      IS(500, n););
    P("ioctl_window", struct winsize w; ioctl(1, TIOCGWINSZ, &w););
    P("ioctl_terminal", struct termios t; tcgetattr(0, &t););
    P("ioctl_nonblock", int p[2]; int on = 1; pipe(p);
      ioctl(p[0], FIONBIO, &on) ? -1 : read(p[0], room, 1) < 0 ? -1 : 0;);
    P("ioctl_cloexec", int p[2]; pipe(p); ioctl(p[0], FIOCLEX););
    P("ioctl_bad", ioctl(1, 0x12345678, 0););
    P("ioctl_bad_descriptor", int n; ioctl(99, FIONREAD, &n););
    P("ttyname", ttyname(1) ? 0 : -1;);
    P("isatty_stdin", N("%d", isatty(0)); 0;);
    P("stdin_kind", struct stat s; int r = fstat(0, &s); r;);
    P("stdin_seek", lseek(0, 0, SEEK_CUR) < 0 ? -1 : 0;);
    P("stderr_write", IS(0, write(2, "", 0)););
    P("stdout_is_written", int r = writev(1, (struct iovec[]){{"", 0}}, 1); r < 0 ? -1 : 0;);
    P("stdin_written", write(0, "", 0) < 0 ? -1 : 0;);
    P("stdout_read", fcntl(1, F_GETFL) < 0 ? -1 : 0;);
}

static void ask_polling(void)
{
    P("poll_times_out", int p[2]; pipe(p); IS(0, readable(p[0], 20)););
    P("poll_bad_descriptor", IS(POLLNVAL, readable(99, 20)););
    P("poll_negative", struct pollfd f = {-1, POLLIN, 0}; IS(0, poll(&f, 1, 20)););
    P("poll_file", int f = open("/etc/passwd", O_RDONLY); IS(POLLIN, readable(f, 20)););
    P("poll_workspace_file", int f = fresh(W "po"); IS(POLLIN, readable(f, 20)););
    P("poll_directory", int f = open("/etc", O_RDONLY); N("%d", readable(f, 20)); 0;);
    P("poll_none", IS(0, poll(0, 0, 20)););
    P("ppoll", struct timespec t = {0, 20000000}; int p[2]; pipe(p); struct pollfd f = {p[0], POLLIN, 0};
      IS(0, ppoll(&f, 1, &t, 0)););
    P("select_pipe", int p[2]; pipe(p); write(p[1], "x", 1); fd_set s; FD_ZERO(&s); FD_SET(p[0], &s);
      IS(1, select(p[0] + 1, &s, 0, 0, &(struct timeval){1, 0})););
    P("select_file", int f = open("/etc/passwd", O_RDONLY); fd_set s; FD_ZERO(&s); FD_SET(f, &s);
      IS(1, select(f + 1, &s, 0, 0, &(struct timeval){1, 0})););
    P("select_bad", fd_set s; FD_ZERO(&s); FD_SET(99, &s);
      select(100, &s, 0, 0, &(struct timeval){0, 1000}) < 0 ? -1 : 0;);
    P("pselect", int p[2]; pipe(p); fd_set s; FD_ZERO(&s); FD_SET(p[0], &s);
      IS(0, pselect(p[0] + 1, &s, 0, 0, &(struct timespec){0, 1000000}, 0)););
    P("epoll_pipe", int p[2]; pipe(p); int e = watched(p[0], EPOLLIN); write(p[1], "x", 1);
      IS(EPOLLIN, waiting(e, 500)););
    P("epoll_times_out", int p[2]; pipe(p); IS(0, waiting(watched(p[0], EPOLLIN), 20)););
    P("epoll_file", int f = open("/etc/passwd", O_RDONLY); watched(f, EPOLLIN) < 0 ? -1 : 0;);
    P("epoll_workspace_file", int f = fresh(W "ep"); watched(f, EPOLLIN) < 0 ? -1 : 0;);
    P("epoll_add_twice", int p[2]; pipe(p); int e = watched(p[0], EPOLLIN); struct epoll_event v = {EPOLLIN};
      epoll_ctl(e, EPOLL_CTL_ADD, p[0], &v););
    P("epoll_remove_absent", int p[2]; pipe(p); int e = epoll_create1(0); epoll_ctl(e, EPOLL_CTL_DEL, p[0], 0););
    P("epoll_change_absent", int p[2]; pipe(p); int e = epoll_create1(0); struct epoll_event v = {EPOLLIN};
      epoll_ctl(e, EPOLL_CTL_MOD, p[0], &v););
    P("epoll_itself", int e = epoll_create1(0); struct epoll_event v = {EPOLLIN};
      epoll_ctl(e, EPOLL_CTL_ADD, e, &v););
    P("epoll_nested", int p[2]; pipe(p); int e = watched(watched(p[0], EPOLLIN), EPOLLIN); write(p[1], "x", 1);
      IS(EPOLLIN, waiting(e, 500)););
    P("epoll_edge", int p[2]; pipe(p); int e = watched(p[0], EPOLLIN | EPOLLET); write(p[1], "x", 1);
      waiting(e, 500); IS(0, waiting(e, 20)););
    P("epoll_oneshot", int p[2]; pipe(p); int e = watched(p[0], EPOLLIN | EPOLLONESHOT); write(p[1], "x", 1);
      waiting(e, 500); write(p[1], "x", 1); IS(0, waiting(e, 20)););
    P("epoll_exclusive", int p[2]; pipe(p); watched(p[0], EPOLLIN | EPOLLEXCLUSIVE) < 0 ? -1 : 0;);
    P("epoll_hang_up", int p[2]; pipe(p); int e = watched(p[0], EPOLLIN); close(p[1]);
      IS(EPOLLHUP, waiting(e, 500)););
    P("epoll_closed_goes", int p[2]; pipe(p); int e = watched(p[0], EPOLLIN); write(p[1], "x", 1); close(p[0]);
      IS(0, waiting(e, 20)););
    P("epoll_data_kept", int p[2]; pipe(p); int e = watched(p[0], EPOLLIN); write(p[1], "x", 1);
      struct epoll_event v = {0}; epoll_wait(e, &v, 1, 500); IS(7, v.data.u32););
    P("epoll_no_room", int e = epoll_create1(0); struct epoll_event v; epoll_wait(e, &v, 0, 0););
    P("epoll_create_old", epoll_create(1) < 0 ? -1 : 0;);
    P("epoll_create_zero", epoll_create(0) < 0 ? -1 : 0;);
    P("epoll_pwait", int e = epoll_create1(0); struct epoll_event v; IS(0, epoll_pwait(e, &v, 1, 5, 0)););
    P("eventfd_value", int f = eventfd(5, 0); unsigned long n = 0; read(f, &n, 8); IS(5, n););
    P("eventfd_empty", int f = eventfd(0, EFD_NONBLOCK); read(f, room, 8) < 0 ? -1 : 0;);
    P("eventfd_sums", int f = eventfd(0, 0); unsigned long n = 3; write(f, &n, 8); write(f, &n, 8); read(f, &n, 8);
      IS(6, n););
    P("eventfd_semaphore", int f = eventfd(3, EFD_SEMAPHORE); unsigned long n; read(f, &n, 8); IS(1, n););
    P("eventfd_full", int f = eventfd(0, EFD_NONBLOCK); unsigned long n = -2; write(f, &n, 8); n = 1;
      write(f, &n, 8) < 0 ? -1 : 0;);
    P("eventfd_too_much", int f = eventfd(0, EFD_NONBLOCK); unsigned long n = -1; write(f, &n, 8) < 0 ? -1 : 0;);
    P("eventfd_small_read", int f = eventfd(3, EFD_NONBLOCK); read(f, room, 4) < 0 ? -1 : 0;);
    P("eventfd_bad_flags", eventfd(0, 0x40000000) < 0 ? -1 : 0;);
    P("eventfd_epoll", int f = eventfd(0, 0); int e = watched(f, EPOLLIN); unsigned long n = 1; write(f, &n, 8);
      IS(EPOLLIN, waiting(e, 500)););
    P("inotify_init_old", syscall(SYS_inotify_init) < 0 ? -1 : 0;);
    P("inotify_missing", int f = inotify_init1(0); inotify_add_watch(f, "/none", IN_CREATE) < 0 ? -1 : 0;);
    P("inotify_root_file", int f = inotify_init1(0); inotify_add_watch(f, "/etc/passwd", IN_MODIFY) < 0 ? -1 : 0;);
    P("inotify_remove_bad", int f = inotify_init1(0); inotify_rm_watch(f, 99););
}

static void ask_asynchronous(void)
{
    P("aio_reads", aio_context_t c = 0; if (syscall(SYS_io_setup, 4, &c) < 0) return -1;
      int f = open("/etc/passwd", O_RDONLY);
      struct iocb i = {.aio_fildes = f, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (long)room, .aio_nbytes = 4};
      struct iocb *l[1] = {&i}; if (syscall(SYS_io_submit, c, 1, l) < 0) return -1; struct io_event e = {0};
      syscall(SYS_io_getevents, c, 1, 1, &e, &(struct timespec){1, 0}); IS(4, e.res););
    P("aio_destroy", aio_context_t c = 0; syscall(SYS_io_setup, 4, &c); syscall(SYS_io_destroy, c) < 0 ? -1 : 0;);
    P("aio_bad_context", syscall(SYS_io_submit, 0, 0, 0) < 0 ? -1 : 0;);
    P("uring_setup", struct io_uring_params p = {0}; int f = syscall(SYS_io_uring_setup, 4, &p);
      N("entries=%d", p.sq_entries); f < 0 ? -1 : 0;);
    P("uring_too_many", struct io_uring_params p = {0}; syscall(SYS_io_uring_setup, 1 << 20, &p) < 0 ? -1 : 0;);
    P("uring_register", struct io_uring_params p = {0}; int f = syscall(SYS_io_uring_setup, 4, &p);
      syscall(SYS_io_uring_register, f, IORING_REGISTER_PROBE, room, 8) < 0 ? -1 : 0;);
    P("uring_features", struct io_uring_params p = {0}; int f = syscall(SYS_io_uring_setup, 4, &p);
      N("%s", p.features & IORING_FEAT_SINGLE_MMAP ? "single map" : "two maps"); f < 0 ? -1 : 0;);
    P("uring_polled", struct io_uring_params p = {.flags = IORING_SETUP_SQPOLL};
      syscall(SYS_io_uring_setup, 4, &p) < 0 ? -1 : 0;);
}

void ask_descriptors(void)
{
    ask_pipes();
    ask_flags();
    ask_polling();
    ask_asynchronous();
}
