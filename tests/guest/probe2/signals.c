/* Signals and timers that raise them. */
#include "probe2.h"

#include <ucontext.h>
#include <sys/signalfd.h>

static volatile sig_atomic_t got, code, value, count, order;
static volatile long address, at_stack;
static char stack[65536];

static void note(int number) { got = number; count++; }
static void tell(int number, siginfo_t *info, void *context)
{
    got = number;
    code = info->si_code;
    value = info->si_value.sival_int;
    address = (long)info->si_addr;
    order = order * 10 + value;
    at_stack = (long)&number;
    count++;
}
static void tell_and_leave(int number, siginfo_t *info, void *context)
{
    tell(number, info, context);
    siglongjmp(ask_jump, 1);
}
static void skip_two(int number, siginfo_t *info, void *context)
{
    got = number;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}

static int take(int number, void (*how)(int, siginfo_t *, void *), int flags)
{
    struct sigaction a = {.sa_sigaction = how, .sa_flags = SA_SIGINFO | flags};
    got = code = value = count = order = 0;
    address = 0;
    return sigaction(number, &a, 0);
}

static sigset_t only_(int number)
{
    sigset_t s;
    sigemptyset(&s);
    sigaddset(&s, number);
    return s;
}

static void *kill_main(void *t) { usleep(30000); pthread_kill(*(pthread_t *)t, SIGUSR1); return 0; }
static void *kill_process(void *t) { usleep(30000); kill(getpid(), SIGUSR1); return 0; }
static void *write_later(void *f) { usleep(80000); write(*(int *)f, "x", 1); return 0; }

static void later(void *(*what)(void *), void *with)
{
    pthread_t t;
    pthread_create(&t, 0, what, with);
    pthread_detach(t);
}

static void ask_handlers(void)
{
    P("sigaction_query", struct sigaction a; int r = sigaction(SIGUSR1, 0, &a);
      N("%s", a.sa_handler == SIG_DFL ? "default" : "other"); r;);
    P("sigaction_kept", struct sigaction a; take(SIGUSR1, tell, SA_RESTART); sigaction(SIGUSR1, 0, &a);
      N("%d", !!(a.sa_flags & SA_RESTART)); a.sa_sigaction == tell ? 0 : 1;);
    P("sigaction_kill", take(SIGKILL, tell, 0););
    P("sigaction_stop", take(SIGSTOP, tell, 0););
    P("sigaction_65", syscall(SYS_rt_sigaction, 65, 0, 0, 8) < 0 ? -1 : 0;);
    P("sigaction_size", syscall(SYS_rt_sigaction, SIGUSR1, 0, 0, 4) < 0 ? -1 : 0;);
    P("sigaction_64", take(64, tell, 0););
    P("raise", take(SIGUSR1, tell, 0); raise(SIGUSR1); IS(SIGUSR1, got););
    P("raise_code", take(SIGUSR1, tell, 0); raise(SIGUSR1); IS(SI_TKILL, code););
    P("kill_code", take(SIGUSR1, tell, 0); kill(getpid(), SIGUSR1); usleep(5000); N("%d", code);
      got == SIGUSR1 ? 0 : 1;);
    P("sigqueue_value", take(SIGUSR1, tell, 0); sigqueue(getpid(), SIGUSR1, (union sigval){42}); usleep(5000);
      N("%d code=%d", value, code); value == 42 ? 0 : 1;);
    P("signal_ignored", signal(SIGUSR1, SIG_IGN); raise(SIGUSR1););
    P("signal_default_ignored", raise(SIGURG) || raise(SIGWINCH) || raise(SIGCHLD);); 
    P("signal_cont", raise(SIGCONT););
    P("signal_reset", take(SIGUSR1, tell, SA_RESETHAND); raise(SIGUSR1); struct sigaction a;
      sigaction(SIGUSR1, 0, &a); N("%s", a.sa_handler == SIG_DFL ? "default" : "kept"); 0;);
    P("signal_nodefer", take(SIGUSR1, tell, SA_NODEFER); raise(SIGUSR1); IS(1, count););
    P("signal_realtime_order", take(SIGRTMIN + 1, tell, 0); sigset_t s = only_(SIGRTMIN + 1);
      sigprocmask(SIG_BLOCK, &s, 0); for (int i = 1; i < 5; i++) sigqueue(getpid(), SIGRTMIN + 1, (union sigval){i});
      sigprocmask(SIG_UNBLOCK, &s, 0); usleep(5000); IS(1234, order););
    P("signal_standard_merged", take(SIGUSR1, tell, 0); sigset_t s = only_(SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0);
      raise(SIGUSR1); raise(SIGUSR1); raise(SIGUSR1); sigprocmask(SIG_UNBLOCK, &s, 0); IS(1, count););
    P("signal_to_thread", take(SIGUSR1, tell, 0); pthread_t t = pthread_self(); later(kill_main, &t);
      for (int i = 0; i < 100 && !got; i++) usleep(5000); IS(SIGUSR1, got););
    P("signal_to_process", take(SIGUSR1, tell, 0); later(kill_process, 0); for (int i = 0; i < 100 && !got;
      i++) usleep(5000); IS(SIGUSR1, got););
    P("signal_breaks_loop", take(SIGUSR1, tell, 0); later(kill_process, 0); long t = ms(CLOCK_MONOTONIC);
      while (!got && ms(CLOCK_MONOTONIC) < t + 2000); IS(SIGUSR1, got););
    P("sigpipe_handled", int p[2]; take(SIGPIPE, tell, 0); pipe(p); close(p[0]); int r = write(p[1], "x", 1);
      N("%d", got); r < 0 ? -1 : 0;);
    P("sigqueue_nobody", sigqueue(12345, SIGUSR1, (union sigval){1}););
    P("kill_bad_signal", kill(getpid(), 99););
    P("alternate_stack", stack_t s = {stack, 0, sizeof stack}; sigaltstack(&s, 0); take(SIGUSR1, tell, SA_ONSTACK);
      raise(SIGUSR1); at_stack > (long)stack && at_stack < (long)stack + (long)sizeof stack ? 0 : 1;);
    P("alternate_stack_small", stack_t s = {stack, 0, 100}; sigaltstack(&s, 0););
    P("alternate_stack_query", stack_t s; int r = sigaltstack(0, &s); N("%zu", s.ss_size); r;);
    P("alternate_stack_off", stack_t s = {0, SS_DISABLE, 0}; sigaltstack(&s, 0););
    P("siginterrupt", siginterrupt(SIGUSR1, 1););
}

static void ask_faults(void)
{
    P("fault_address", take(SIGSEGV, tell_and_leave, 0); N("never"); *(volatile int *)0x1230 = 1; 0;);
    P("fault_address_seen", N("code=%d at=%lx", code, address); got == SIGSEGV ? 0 : 1;);
    P("fault_protection", volatile char *p = mmap(0, 4096, 1, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      take(SIGSEGV, tell_and_leave, 0); p[0] = 1; 0;);
    P("fault_protection_seen", N("code=%d", code); got == SIGSEGV ? 0 : 1;);
    P("fault_mended", take(SIGSEGV, skip_two, 0); register long zero __asm__("rax") = 0;
      __asm__ volatile("movb %%al, (%%rax)" :: "a"(zero) : "memory"); IS(SIGSEGV, got););
    P("fault_divide_code", take(SIGFPE, tell_and_leave, 0); volatile int z = 0; z = 1 / z; 0;);
    P("fault_divide_seen", N("code=%d", code); got == SIGFPE ? 0 : 1;);
    P("fault_illegal", __asm__ volatile("ud2"); 0;);
    P("fault_trap", __asm__ volatile("int3"); 0;);
    P("fault_privileged", __asm__ volatile("hlt"); 0;);
    P("fault_port", __asm__ volatile("outb %%al, $0x80" ::: "memory"); 0;);
    P("fault_stack_overflow", stack_t s = {stack, 0, sizeof stack}; sigaltstack(&s, 0);
      take(SIGSEGV, tell_and_leave, SA_ONSTACK);
      char *p = (char *)__builtin_frame_address(0); for (;;) { p -= 4096; *(volatile char *)p = 1; } 0;);
    P("fault_stack_overflow_seen", N("%d", got); got ? 0 : 1;);
    P("fault_float_masked", volatile double z = 0; volatile double q = 1 / z; q > 1e300 ? 0 : 1;);
    P("fault_sse_kept", take(SIGUSR1, tell, 0); volatile double a = 1.5; raise(SIGUSR1); a * 2 == 3.0 ? 0 : 1;);
}

static void ask_waiting(void)
{
    P("mask_pending", sigset_t s = only_(SIGUSR1); sigset_t p; take(SIGUSR1, tell, 0);
      sigprocmask(SIG_BLOCK, &s, 0); raise(SIGUSR1); sigpending(&p); int n = sigismember(&p, SIGUSR1);
      sigprocmask(SIG_UNBLOCK, &s, 0); N("%d then %d", n, count); n == 1 && count == 1 ? 0 : 1;);
    P("mask_bad_how", sigset_t s = only_(SIGUSR1); sigprocmask(99, &s, 0););
    P("mask_kill_ignored", sigset_t s; sigfillset(&s); sigprocmask(SIG_BLOCK, &s, 0); sigset_t now;
      sigprocmask(SIG_BLOCK, 0, &now); sigprocmask(SIG_UNBLOCK, &s, 0); IS(0, sigismember(&now, SIGKILL)););
    P("sigsuspend", sigset_t s = only_(SIGUSR1); sigset_t none; sigemptyset(&none); take(SIGUSR1, tell, 0);
      sigprocmask(SIG_BLOCK, &s, 0); raise(SIGUSR1); int r = sigsuspend(&none); int e = errno;
      sigprocmask(SIG_UNBLOCK, &s, 0); errno = e; r;);
    P("pause", take(SIGUSR1, tell, 0); pthread_t t = pthread_self(); later(kill_main, &t); pause(););
    P("sigwait", sigset_t s = only_(SIGUSR1); int n = 0; sigprocmask(SIG_BLOCK, &s, 0); raise(SIGUSR1);
      int r = sigwait(&s, &n); sigprocmask(SIG_UNBLOCK, &s, 0); N("%d", n); r;);
    P("sigwaitinfo", sigset_t s = only_(SIGUSR1); siginfo_t i = {0}; sigprocmask(SIG_BLOCK, &s, 0);
      sigqueue(getpid(), SIGUSR1, (union sigval){9}); int r = sigwaitinfo(&s, &i); sigprocmask(SIG_UNBLOCK, &s, 0);
      N("%d", i.si_value.sival_int); r == SIGUSR1 ? 0 : -1;);
    P("sigtimedwait", sigset_t s = only_(SIGUSR1); struct timespec t = {0, 20000000}; sigprocmask(SIG_BLOCK, &s, 0);
      int r = sigtimedwait(&s, 0, &t); int e = errno; sigprocmask(SIG_UNBLOCK, &s, 0); errno = e; r < 0 ? -1 : 0;);
    P("interrupted_sleep", take(SIGUSR1, tell, 0); pthread_t t = pthread_self(); later(kill_main, &t);
      struct timespec d = {1, 0}; struct timespec left = {0}; int r = nanosleep(&d, &left);
      N("%s", left.tv_nsec ? "left told" : "no left"); r;);
    P("interrupted_poll", take(SIGUSR1, tell, SA_RESTART); int p[2]; pipe(p); pthread_t t = pthread_self();
      later(kill_main, &t); struct pollfd f = {p[0], POLLIN, 0}; poll(&f, 1, 1000) < 0 ? -1 : 0;);
    P("interrupted_read", take(SIGUSR1, tell, 0); int p[2]; char c; pipe(p); pthread_t t = pthread_self();
      later(kill_main, &t); read(p[0], &c, 1) < 0 ? -1 : 0;);
    P("restarted_read", take(SIGUSR1, tell, SA_RESTART); int p[2]; char c; pipe(p); pthread_t t = pthread_self();
      later(kill_main, &t); later(write_later, &p[1]); int r = read(p[0], &c, 1); N("%d signals", count);
      r == 1 ? 0 : -1;);
    P("signalfd_read", sigset_t s = only_(SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0);
      int f = signalfd(-1, &s, SFD_NONBLOCK); raise(SIGUSR1); struct signalfd_siginfo i = {0};
      int r = read(f, &i, sizeof i); sigprocmask(SIG_UNBLOCK, &s, 0); N("%d", i.ssi_signo); r > 0 ? 0 : -1;);
    P("signalfd_empty", sigset_t s = only_(SIGUSR1); int f = signalfd(-1, &s, SFD_NONBLOCK); char b[128];
      read(f, b, 128) < 0 ? -1 : 0;);
    P("signalfd_poll", sigset_t s = only_(SIGUSR1); sigprocmask(SIG_BLOCK, &s, 0); int f = signalfd(-1, &s, 0);
      raise(SIGUSR1); struct pollfd p = {f, POLLIN, 0}; int r = poll(&p, 1, 500); char b[128]; read(f, b, 128);
      sigprocmask(SIG_UNBLOCK, &s, 0); IS(1, r););
    P("signalfd_change", sigset_t s = only_(SIGUSR1); int f = signalfd(-1, &s, 0); s = only_(SIGUSR2);
      signalfd(f, &s, 0) == f ? 0 : -1;);
}

static void ask_timers(void)
{
    P("alarm_left", alarm(5); IS(5, alarm(8)););
    P("itimer_left", struct itimerval v; int r = getitimer(ITIMER_REAL, &v);
      N("%s", v.it_value.tv_sec ? "running" : "stopped"); r;);
    P("itimer_repeats", take(SIGALRM, tell, 0); struct itimerval v = {{0, 10000}, {0, 10000}};
      setitimer(ITIMER_REAL, &v, 0); for (int i = 0; i < 200 && count < 3; i++) usleep(5000);
      v = (struct itimerval){{0}}; setitimer(ITIMER_REAL, &v, 0); count >= 3 ? 0 : 1;);
    P("itimer_virtual", take(SIGVTALRM, tell, 0); struct itimerval v = {{0, 0}, {0, 10000}};
      int r = setitimer(ITIMER_VIRTUAL, &v, 0); long t = ms(CLOCK_MONOTONIC);
      while (!r && !got && ms(CLOCK_MONOTONIC) < t + 1000); r ? r : IS(SIGVTALRM, got););
    P("itimer_prof", take(SIGPROF, tell, 0); struct itimerval v = {{0, 0}, {0, 10000}};
      int r = setitimer(ITIMER_PROF, &v, 0); long t = ms(CLOCK_MONOTONIC);
      while (!r && !got && ms(CLOCK_MONOTONIC) < t + 1000); r ? r : IS(SIGPROF, got););
    P("itimer_bad", struct itimerval v = {{0, 0}, {0, 2000000}}; setitimer(ITIMER_REAL, &v, 0););
    P("timer_fires", take(SIGUSR2, tell, 0); timer_t t;
      struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 6};
      if (timer_create(CLOCK_MONOTONIC, &e, &t)) return -1; struct itimerspec v = {{0, 0}, {0, 10000000}};
      timer_settime(t, 0, &v, 0);
      for (int i = 0; i < 100 && !got; i++) usleep(5000); timer_delete(t); N("%d code=%d", value, code);
      got ? 0 : 1;);
    P("timer_absolute", take(SIGUSR2, tell, 0); timer_t t;
      struct sigevent e = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
      timer_create(CLOCK_REALTIME, &e, &t); struct itimerspec v = {{0, 0}, {1, 0}};
      timer_settime(t, TIMER_ABSTIME, &v, 0);
      for (int i = 0; i < 100 && !got; i++) usleep(5000); timer_delete(t); got ? 0 : 1;);
    P("timer_gettime", timer_t t; struct sigevent e = {.sigev_notify = SIGEV_NONE};
      timer_create(CLOCK_MONOTONIC, &e, &t); struct itimerspec v = {{0, 0}, {50, 0}}; timer_settime(t, 0, &v, 0);
      timer_gettime(t, &v); N("%s", v.it_value.tv_sec ? "running" : "stopped"); 0;);
    P("timer_overrun", timer_t t; struct sigevent e = {.sigev_notify = SIGEV_NONE};
      timer_create(CLOCK_MONOTONIC, &e, &t); timer_getoverrun(t) < 0 ? -1 : 0;);
    P("timer_delete_twice", timer_t t; struct sigevent e = {.sigev_notify = SIGEV_NONE};
      timer_create(CLOCK_MONOTONIC, &e, &t); timer_delete(t); timer_delete(t););
    P("timer_cpu_clock", timer_t t; struct sigevent e = {.sigev_notify = SIGEV_NONE};
      timer_create(CLOCK_PROCESS_CPUTIME_ID, &e, &t););
    P("timer_boottime", timer_t t; struct sigevent e = {.sigev_notify = SIGEV_NONE};
      timer_create(CLOCK_BOOTTIME, &e, &t););
    P("timer_thread_id", timer_t t; struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR2};
      e._sigev_un._tid = gettid(); timer_create(CLOCK_MONOTONIC, &e, &t););
    P("timer_bad_clock", timer_t t; timer_create(77, 0, &t););
}

void ask_signals(void)
{
    ask_handlers();
    ask_faults();
    ask_waiting();
    ask_timers();
}
