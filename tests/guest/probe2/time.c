/* Clocks, sleeping, timers that are files. */
#include "probe2.h"

#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/times.h>

static int clock_there(clockid_t clock)
{
    struct timespec t;
    return clock_gettime(clock, &t);
}

static const char *resolution(clockid_t clock)
{
    struct timespec t;
    if (clock_getres(clock, &t))
        return "none";
    return t.tv_sec == 0 && t.tv_nsec == 1 ? "1 ns" : t.tv_nsec <= 10000000 ? "coarse" : "coarser";
}

static int armed(clockid_t clock, int flags, long milliseconds)
{
    int f = timerfd_create(clock, TFD_NONBLOCK);
    struct itimerspec v = {{0, 0}, {milliseconds / 1000, milliseconds % 1000 * 1000000}};
    return f < 0 || timerfd_settime(f, flags, &v, 0) ? -1 : f;
}

static long expired(int fd)
{
    unsigned long n = 0;
    return read(fd, &n, 8) == 8 ? (long)n : -1;
}

static int ready(int fd, int milliseconds)
{
    struct pollfd p = {fd, POLLIN, 0};
    return poll(&p, 1, milliseconds);
}

static void ask_clocks(void)
{
    P("clock_monotonic_raw", clock_there(CLOCK_MONOTONIC_RAW););
    P("clock_realtime_coarse", clock_there(CLOCK_REALTIME_COARSE););
    P("clock_monotonic_coarse", clock_there(CLOCK_MONOTONIC_COARSE););
    P("clock_tai", clock_there(CLOCK_TAI););
    P("clock_realtime_alarm", clock_there(CLOCK_REALTIME_ALARM););
    P("clock_boottime_alarm", clock_there(CLOCK_BOOTTIME_ALARM););
    P("clock_bad", clock_there(77););
    P("clock_resolution", N("%s", resolution(CLOCK_MONOTONIC)); 0;);
    P("clock_resolution_real", N("%s", resolution(CLOCK_REALTIME)); 0;);
    P("clock_resolution_coarse", N("%s", resolution(CLOCK_MONOTONIC_COARSE)); 0;);
    P("clock_resolution_bad", struct timespec t; clock_getres(77, &t););
    P("clock_monotonic_rises", struct timespec a, b; int r = 0; for (int i = 0; i < 10000;
      i++) { clock_gettime(CLOCK_MONOTONIC, &a); clock_gettime(CLOCK_MONOTONIC, &b);
      r |= b.tv_sec < a.tv_sec || (b.tv_sec == a.tv_sec && b.tv_nsec < a.tv_nsec); } r;);
    P("clock_monotonic_small", N("%s", ms(CLOCK_MONOTONIC) < 3600000 ? "since boot" : "longer"); 0;);
    P("clock_cpu_advances", long t = ms(CLOCK_MONOTONIC); long c = ms(CLOCK_PROCESS_CPUTIME_ID);
      while (ms(CLOCK_MONOTONIC) < t + 60); ms(CLOCK_PROCESS_CPUTIME_ID) > c ? 0 : 1;);
    P("clock_cpu_rests", long c = ms(CLOCK_PROCESS_CPUTIME_ID); usleep(200000);
      ms(CLOCK_PROCESS_CPUTIME_ID) - c < 100 ? 0 : 1;);
    P("clock_thread_advances", long t = ms(CLOCK_MONOTONIC); long c = ms(CLOCK_THREAD_CPUTIME_ID);
      while (ms(CLOCK_MONOTONIC) < t + 60); ms(CLOCK_THREAD_CPUTIME_ID) > c ? 0 : 1;);
    P("clock_of_process", clockid_t c; int r = clock_getcpuclockid(0, &c); errno = r; r ? -1 : clock_there(c););
    P("clock_of_nobody", clockid_t c; int r = clock_getcpuclockid(12345, &c); errno = r; r ? -1 : 0;);
    P("clock_call", clock() == (clock_t)-1 ? -1 : 0;);
    P("clock_times_rise", struct tms t; clock_t a = times(&t); usleep(100000); times(&t) > a ? 0 : 1;);
    P("clock_set_monotonic", struct timespec t = {1, 0}; clock_settime(CLOCK_MONOTONIC, &t););
    P("gettimeofday", struct timeval t; gettimeofday(&t, 0);); 
    P("gettimeofday_zone", struct timeval t; struct timezone z = {9, 9}; int r = syscall(SYS_gettimeofday, &t, &z);
      N("%d", z.tz_minuteswest); r < 0 ? -1 : 0;);
    P("adjtimex_query", struct timex t = {0}; adjtimex(&t) < 0 ? -1 : 0;);
    P("clock_adjtime", struct timex t = {0}; clock_adjtime(CLOCK_REALTIME, &t) < 0 ? -1 : 0;);
    P("real_and_tai_agree", long d = ms(CLOCK_REALTIME) / 1000 - time(0); d >= -1 && d <= 1 ? 0 : 1;);
    P("local_zone", tzset(); N("%s %ld", tzname[0], timezone); 0;);
    P("zone_from_variable", setenv("TZ", "XYZ-3", 1); tzset(); time_t t = 0; int h = localtime(&t)->tm_hour;
      unsetenv("TZ"); tzset(); IS(3, h););
    P("mktime", struct tm t = {.tm_year = 100, .tm_mday = 1}; IS(946684800, mktime(&t)););
}

static void ask_sleeping(void)
{
    P("sleep_long_enough", long t = ms(CLOCK_MONOTONIC); usleep(50000); ms(CLOCK_MONOTONIC) - t >= 49 ? 0 : 1;);
    P("sleep_not_too_long", long t = ms(CLOCK_MONOTONIC); usleep(20000); ms(CLOCK_MONOTONIC) - t < 5000 ? 0 : 1;);
    P("sleep_nothing", struct timespec t = {0, 0}; nanosleep(&t, 0););
    P("sleep_bad", struct timespec t = {0, 1000000000}; nanosleep(&t, 0););
    P("sleep_negative", struct timespec t = {-1, 0}; nanosleep(&t, 0););
    P("sleep_until", struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); t.tv_nsec += 20000000;
      if (t.tv_nsec > 999999999) t.tv_nsec -= 1000000000, t.tv_sec++;
      int r = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, 0); errno = r; r ? -1 : 0;);
    P("sleep_until_past", struct timespec t = {1, 0}; int r = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0);
      errno = r; r ? -1 : 0;);
    P("sleep_cpu_clock", struct timespec t = {0, 1000}; int r = clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, 0);
      errno = r; r ? -1 : 0;);
    P("sleep_bad_clock", struct timespec t = {0, 1000}; int r = clock_nanosleep(77, 0, &t, 0); errno = r;
      r ? -1 : 0;);
    P("select_sleep", struct timeval t = {0, 20000}; long a = ms(CLOCK_MONOTONIC);
      select(0, 0, 0, 0, &t) ? -1 : ms(CLOCK_MONOTONIC) - a >= 19 ? 0 : 1;);
    P("select_time_left", struct timeval t = {2, 0}; int p[2]; pipe(p); write(p[1], "x", 1); fd_set s; FD_ZERO(&s);
      FD_SET(p[0], &s); int r = select(p[0] + 1, &s, 0, 0, &t); N("%s", t.tv_sec == 1 ? "updated" : "kept");
      r == 1 ? 0 : -1;);
}

static void ask_timerfds(void)
{
    P("timerfd_expires", int f = armed(CLOCK_MONOTONIC, 0, 20); ready(f, 1000) < 0 ? -1 : IS(1, expired(f)););
    P("timerfd_not_yet", int f = armed(CLOCK_MONOTONIC, 0, 5000); expired(f) < 0 ? -1 : 0;);
    P("timerfd_absolute_past", int f = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
      struct itimerspec v = {{0, 0}, {1, 0}}; timerfd_settime(f, TFD_TIMER_ABSTIME, &v, 0);
      ready(f, 1000) < 0 ? -1 : IS(1, expired(f)););
    P("timerfd_repeats", int f = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
      struct itimerspec v = {{0, 5000000}, {0, 5000000}}; timerfd_settime(f, 0, &v, 0); usleep(60000);
      long n = expired(f); N("%s", n > 1 ? "several" : "one"); n > 1 ? 0 : 1;);
    P("timerfd_left", int f = armed(CLOCK_MONOTONIC, 0, 50000); struct itimerspec v; int r = timerfd_gettime(f, &v);
      N("%s", v.it_value.tv_sec > 40 ? "running" : "stopped"); r;);
    P("timerfd_stopped", int f = armed(CLOCK_MONOTONIC, 0, 20); struct itimerspec v = {{0}};
      timerfd_settime(f, 0, &v, 0); IS(0, ready(f, 60)););
    P("timerfd_boottime", timerfd_create(CLOCK_BOOTTIME, 0) < 0 ? -1 : 0;);
    P("timerfd_alarm", timerfd_create(CLOCK_REALTIME_ALARM, 0) < 0 ? -1 : 0;);
    P("timerfd_cancel_on_set", int f = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
      struct itimerspec v = {{0, 0}, {1, 0}};
      timerfd_settime(f, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &v, 0););
    P("timerfd_bad_clock", timerfd_create(77, 0) < 0 ? -1 : 0;);
    P("timerfd_bad_flags", timerfd_create(CLOCK_MONOTONIC, 0x40000000) < 0 ? -1 : 0;);
    P("timerfd_bad_time", int f = timerfd_create(CLOCK_MONOTONIC, 0);
      struct itimerspec v = {{0, 0}, {0, 2000000000}}; timerfd_settime(f, 0, &v, 0););
    P("timerfd_small_read", int f = armed(CLOCK_MONOTONIC, 0, 1); usleep(20000); char b[4];
      read(f, b, 4) < 0 ? -1 : 0;);
    P("timerfd_of_pipe", int p[2]; pipe(p); struct itimerspec v = {{0}}; timerfd_settime(p[0], 0, &v, 0););
}

void ask_time(void)
{
    ask_clocks();
    ask_sleeping();
    ask_timerfds();
}
