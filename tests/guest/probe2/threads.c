/* Threads, locks, and the futex beneath them. */
#include "probe2.h"

#include <limits.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <stdatomic.h>

static _Atomic int counter;
static __thread int own = 5;
static pthread_key_t key;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int word;

static long futex(int *at, int operation, int value, void *time, int *other, int third)
{
    return syscall(SYS_futex, at, operation, value, time, other, third);
}

static struct timespec in(long milliseconds, clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    t.tv_nsec += milliseconds * 1000000;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

static void *add(void *n) { for (long i = 0; i < (long)n; i++) counter++; return 0; }
static void *add_locked(void *n) { for (long i = 0; i < (long)n; i++) { pthread_mutex_lock(&lock); word++;
pthread_mutex_unlock(&lock); } return 0; }
static void *see_own(void *a) { int was = own; own = 9; return (void *)(long)was; }
static void *wait_barrier(void *a) { return (void *)(long)pthread_barrier_wait(&barrier); }
static void *signal_later(void *a) { usleep(20000); pthread_mutex_lock(&lock); word = 1; pthread_cond_signal(&cond);
pthread_mutex_unlock(&lock); return 0; }
static void *wake_later(void *a) { usleep(20000); word = 1;
return (void *)futex(&word, FUTEX_WAKE, INT_MAX, 0, 0, 0); }
static void *post_later(void *s) { usleep(20000); sem_post(s); return 0; }
static void *leave(void *a) { pthread_exit((void *)7); }
static void *sleep_long(void *a) { usleep(300000); return 0; }
static void *wait_word(void *a) { return (void *)(futex(&word, FUTEX_WAIT, 0, 0, 0, 0)); }
static void *die_locked(void *m) { pthread_mutex_lock(m); return 0; }
static void *own_id(void *a) { return (void *)(long)gettid(); }
static void *spin(void *a) { long t = ms(CLOCK_MONOTONIC); while (ms(CLOCK_MONOTONIC) < t + 40); return 0; }
static void *own_mask(void *a) { sigset_t s; pthread_sigmask(SIG_BLOCK, 0, &s);
return (void *)(long)sigismember(&s, SIGUSR1); }
static void *set_key(void *a) { pthread_setspecific(key, a); return 0; }
static void *stack_size(void *a) { pthread_attr_t at; size_t n; pthread_getattr_np(pthread_self(), &at);
pthread_attr_getstacksize(&at, &n); return (void *)(n >> 10); }
static void destroyed(void *a) { counter += 100; }
static void count_once(void) { counter++; }

static long run(void *(*what)(void *), void *with, int n)
{
    pthread_t t[1024];
    void *last = 0;
    int made = 0;
    while (made < n && !pthread_create(&t[made], 0, what, with))
        made++;
    for (int i = 0; i < made; i++)
        pthread_join(t[i], &last);
    return made == n ? (long)last : -77;
}

static void ask_making(void)
{
    P("thread_sum", counter = 0; run(add, (void *)10000, 8); IS(80000, counter););
    P("thread_1000", counter = 0; run(add, (void *)1, 1000); IS(1000, counter););
    P("thread_5000_in_turn", counter = 0; for (int i = 0; i < 5000; i++) run(add, (void *)1, 1); IS(5000, counter););
    P("thread_local", IS(5, run(see_own, 0, 3)););
    P("thread_local_kept", run(see_own, 0, 1); IS(5, own););
    P("thread_exit", IS(7, run(leave, 0, 1)););
    P("thread_id_differs", run(own_id, 0, 1) == gettid() ? 1 : 0;);
    P("thread_main_id", N("%s", gettid() == getpid() ? "is the process" : "differs"); 0;);
    P("thread_default_stack", N("%ldK", run(stack_size, 0, 1)); 0;);
    P("thread_main_stack", pthread_attr_t a; size_t n; int r = pthread_getattr_np(pthread_self(), &a);
      pthread_attr_getstacksize(&a, &n); N("%zuK", n >> 10); errno = r; r ? -1 : 0;);
    P("thread_tiny_stack", pthread_attr_t a; pthread_attr_init(&a); int r = pthread_attr_setstacksize(&a, 100);
      errno = r; r ? -1 : 0;);
    P("thread_smallest_stack", pthread_attr_t a; pthread_attr_init(&a);
      pthread_attr_setstacksize(&a, PTHREAD_STACK_MIN); pthread_t t; int r = pthread_create(&t, &a, own_id, 0);
      if (!r) pthread_join(t, 0); errno = r; r ? -1 : 0;);
    P("thread_own_stack", pthread_attr_t a; pthread_attr_init(&a);
      pthread_attr_setstack(&a, aligned_alloc(4096, 1 << 20), 1 << 20); pthread_t t;
      int r = pthread_create(&t, &a, own_id, 0); if (!r) pthread_join(t, 0); errno = r; r ? -1 : 0;);
    P("thread_detached", pthread_attr_t a; pthread_attr_init(&a);
      pthread_attr_setdetachstate(&a, PTHREAD_CREATE_DETACHED); pthread_t t; counter = 0;
      int r = pthread_create(&t, &a, add, (void *)5);
      for (int i = 0; i < 100 && counter < 5; i++) usleep(5000); errno = r; r ? -1 : IS(5, counter););
    P("thread_name", pthread_t t = pthread_self(); char n[16] = ""; int r = pthread_setname_np(t, "worker");
      if (!r) r = pthread_getname_np(t, n, 16); N("%s", n); errno = r; r ? -1 : 0;);
    P("thread_other_name", pthread_t t; pthread_create(&t, 0, sleep_long, 0);
      int r = pthread_setname_np(t, "worker"); pthread_join(t, 0); errno = r; r ? -1 : 0;);
    P("thread_affinity", cpu_set_t c; CPU_ZERO(&c); CPU_SET(0, &c);
      int r = pthread_setaffinity_np(pthread_self(), sizeof c, &c); CPU_SET(1, &c);
      pthread_setaffinity_np(pthread_self(), sizeof c, &c); errno = r; r ? -1 : 0;);
    P("thread_affinity_made", cpu_set_t c; CPU_ZERO(&c); CPU_SET(1, &c); pthread_attr_t a; pthread_attr_init(&a);
      pthread_attr_setaffinity_np(&a, sizeof c, &c); pthread_t t; int r = pthread_create(&t, &a, own_id, 0);
      if (!r) pthread_join(t, 0); errno = r; r ? -1 : 0;);
    P("thread_sched_explicit", pthread_attr_t a; pthread_attr_init(&a);
      pthread_attr_setinheritsched(&a, PTHREAD_EXPLICIT_SCHED); pthread_t t;
      int r = pthread_create(&t, &a, own_id, 0); if (!r) pthread_join(t, 0); errno = r; r ? -1 : 0;);
    P("thread_schedparam", struct sched_param p; int policy;
      int r = pthread_getschedparam(pthread_self(), &policy, &p); errno = r; r ? -1 : IS(0, policy););
    P("thread_cpu_clock", clockid_t c; int r = pthread_getcpuclockid(pthread_self(), &c); struct timespec t;
      errno = r; r ? -1 : clock_gettime(c, &t););
    P("thread_other_cpu_clock", pthread_t t; pthread_create(&t, 0, sleep_long, 0); clockid_t c; struct timespec s;
      pthread_getcpuclockid(t, &c); int r = clock_gettime(c, &s); int e = errno; pthread_join(t, 0); errno = e; r;);
    P("thread_mask_inherited", sigset_t s; sigemptyset(&s); sigaddset(&s, SIGUSR1);
      pthread_sigmask(SIG_BLOCK, &s, 0); long r = run(own_mask, 0, 1); pthread_sigmask(SIG_UNBLOCK, &s, 0);
      IS(1, r););
    P("thread_key_destroyed", counter = 0; pthread_key_create(&key, destroyed); run(set_key, &key, 1);
      IS(100, counter););
    P("thread_tryjoin", pthread_t t; pthread_create(&t, 0, sleep_long, 0); int r = pthread_tryjoin_np(t, 0);
      pthread_join(t, 0); errno = r; r ? -1 : 0;);
    P("thread_timedjoin", pthread_t t; pthread_create(&t, 0, sleep_long, 0);
      struct timespec w = in(20, CLOCK_REALTIME); int r = pthread_timedjoin_np(t, 0, &w); pthread_join(t, 0);
      errno = r; r ? -1 : 0;);
    P("thread_join_self", int r = pthread_join(pthread_self(), 0); errno = r; r ? -1 : 0;);
    P("thread_both_processors", int seen = 0; for (int i = 0; i < 30 && seen != 3; i++) { cpu_set_t c; CPU_ZERO(&c);
      CPU_SET(i & 1, &c); sched_setaffinity(0, sizeof c, &c); sched_yield(); usleep(1000);
      seen |= 1 << sched_getcpu(); }
      cpu_set_t c; CPU_ZERO(&c); CPU_SET(0, &c); CPU_SET(1, &c); sched_setaffinity(0, sizeof c, &c); IS(3, seen););
    P("thread_runs_apart", long t = ms(CLOCK_MONOTONIC); run(spin, 0, 2);
      N("%s", ms(CLOCK_MONOTONIC) - t < 400 ? "soon" : "late"); 0;);
    P("clone_without_vm", syscall(SYS_clone, SIGCHLD | CLONE_VFORK, 0, 0, 0, 0) < 0 ? -1 : 0;);
}

static void ask_locks(void)
{
    P("mutex_contended", word = 0; run(add_locked, (void *)5000, 4); IS(20000, word););
    P("mutex_recursive", pthread_mutexattr_t a; pthread_mutexattr_init(&a);
      pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE); pthread_mutex_t m; pthread_mutex_init(&m, &a);
      pthread_mutex_lock(&m); int r = pthread_mutex_lock(&m); errno = r; r ? -1 : 0;);
    P("mutex_errorcheck", pthread_mutexattr_t a; pthread_mutexattr_init(&a);
      pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK); pthread_mutex_t m; pthread_mutex_init(&m, &a);
      pthread_mutex_lock(&m); int r = pthread_mutex_lock(&m); errno = r; r ? -1 : 0;);
    P("mutex_timed", pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; pthread_mutex_lock(&m);
      struct timespec w = in(20, CLOCK_REALTIME); int r = pthread_mutex_timedlock(&m, &w); errno = r; r ? -1 : 0;);
    P("mutex_clock", pthread_mutex_t m = PTHREAD_MUTEX_INITIALIZER; pthread_mutex_lock(&m);
      struct timespec w = in(20, CLOCK_MONOTONIC); int r = pthread_mutex_clocklock(&m, CLOCK_MONOTONIC, &w);
      errno = r; r ? -1 : 0;);
    P("mutex_owner_dead", pthread_mutexattr_t a; pthread_mutexattr_init(&a);
      pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST); pthread_mutex_t m; pthread_mutex_init(&m, &a);
      run(die_locked, &m, 1); int r = pthread_mutex_trylock(&m); errno = r; r ? -1 : 0;);
    P("mutex_shared", pthread_mutex_t *m = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
      pthread_mutexattr_t a; pthread_mutexattr_init(&a); pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
      pthread_mutex_init(m, &a); int r = pthread_mutex_lock(m); errno = r; r ? -1 : 0;);
    P("mutex_protect", pthread_mutexattr_t a; pthread_mutexattr_init(&a);
      pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_PROTECT); pthread_mutex_t m;
      int r = pthread_mutex_init(&m, &a); if (!r) r = pthread_mutex_lock(&m); errno = r; r ? -1 : 0;);
    P("cond_signal", word = 0; pthread_t t; pthread_create(&t, 0, signal_later, 0); pthread_mutex_lock(&lock);
      while (!word) pthread_cond_wait(&cond, &lock); pthread_mutex_unlock(&lock); pthread_join(t, 0); 0;);
    P("cond_timed", pthread_mutex_lock(&lock); struct timespec w = in(20, CLOCK_REALTIME);
      int r = pthread_cond_timedwait(&cond, &lock, &w); pthread_mutex_unlock(&lock); errno = r; r ? -1 : 0;);
    P("cond_monotonic", pthread_condattr_t a; pthread_condattr_init(&a);
      pthread_condattr_setclock(&a, CLOCK_MONOTONIC); pthread_cond_t c; pthread_cond_init(&c, &a);
      pthread_mutex_lock(&lock); struct timespec w = in(20, CLOCK_MONOTONIC);
      int r = pthread_cond_timedwait(&c, &lock, &w); pthread_mutex_unlock(&lock); errno = r; r ? -1 : 0;);
    P("rwlock_readers", pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER; pthread_rwlock_rdlock(&l);
      int r = pthread_rwlock_tryrdlock(&l); errno = r; r ? -1 : 0;);
    P("rwlock_writer", pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER; pthread_rwlock_rdlock(&l);
      int r = pthread_rwlock_trywrlock(&l); errno = r; r ? -1 : 0;);
    P("rwlock_timed", pthread_rwlock_t l = PTHREAD_RWLOCK_INITIALIZER; pthread_rwlock_rdlock(&l);
      struct timespec w = in(20, CLOCK_REALTIME); int r = pthread_rwlock_timedwrlock(&l, &w); errno = r; r ? -1 : 0;);
    P("barrier", pthread_barrier_init(&barrier, 0, 4); run(wait_barrier, 0, 4) == -77 ? 1 : 0;);
    P("spin_lock", pthread_spinlock_t s; pthread_spin_init(&s, 0); pthread_spin_lock(&s);
      int r = pthread_spin_trylock(&s); errno = r; r ? -1 : 0;);
    P("once", counter = 0; pthread_once(&once, count_once); pthread_once(&once, count_once); IS(1, counter););
    P("semaphore_wait", sem_t s; sem_init(&s, 0, 0); pthread_t t; pthread_create(&t, 0, post_later, &s);
      int r = sem_wait(&s); pthread_join(t, 0); r;);
    P("semaphore_timed", sem_t s; sem_init(&s, 0, 0); struct timespec w = in(20, CLOCK_REALTIME);
      sem_timedwait(&s, &w););
    P("semaphore_try", sem_t s; sem_init(&s, 0, 0); sem_trywait(&s););
    P("semaphore_shared", sem_t *s = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
      sem_init(s, 1, 1) ? -1 : sem_wait(s););
}

static void ask_futexes(void)
{
    P("futex_other_value", word = 3; futex(&word, FUTEX_WAIT, 4, 0, 0, 0) < 0 ? -1 : 0;);
    P("futex_times_out", word = 0; struct timespec w = {0, 20000000};
      futex(&word, FUTEX_WAIT, 0, &w, 0, 0) < 0 ? -1 : 0;);
    P("futex_bitset_until", word = 0; struct timespec w = in(20, CLOCK_MONOTONIC);
      futex(&word, FUTEX_WAIT_BITSET, 0, &w, 0, -1) < 0 ? -1 : 0;);
    P("futex_bitset_realtime", word = 0; struct timespec w = in(20, CLOCK_REALTIME);
      futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &w, 0, -1) < 0 ? -1 : 0;);
    P("futex_bitset_past", word = 0; struct timespec w = {1, 0};
      futex(&word, FUTEX_WAIT_BITSET, 0, &w, 0, -1) < 0 ? -1 : 0;);
    P("futex_bitset_none", word = 0; futex(&word, FUTEX_WAKE_BITSET, 1, 0, 0, 0) < 0 ? -1 : 0;);
    P("futex_wake_nobody", IS(0, futex(&word, FUTEX_WAKE, 9, 0, 0, 0)););
    P("futex_woken", word = 0; pthread_t t; pthread_create(&t, 0, wake_later, 0);
      long r = futex(&word, FUTEX_WAIT, 0, 0, 0, 0); pthread_join(t, 0); r < 0 ? -1 : 0;);
    P("futex_private", word = 0; struct timespec w = {0, 20000000};
      futex(&word, FUTEX_WAIT_PRIVATE, 0, &w, 0, 0) < 0 ? -1 : 0;);
    P("futex_bad_address", futex((int *)0x1000, FUTEX_WAIT, 0, &(struct timespec){0, 20000000}, 0, 0) < 0 ? -1 : 0;);
    P("futex_odd_address", futex((int *)((char *)&word + 1), FUTEX_WAIT, 0, &(struct timespec){0, 20000000}, 0,
      0) < 0 ? -1 : 0;);
    P("futex_bad_time", word = 0; struct timespec w = {0, -5}; futex(&word, FUTEX_WAIT, 0, &w, 0, 0) < 0 ? -1 : 0;);
    P("futex_bad_operation", futex(&word, 99, 0, 0, 0, 0) < 0 ? -1 : 0;);
    P("futex_requeue", int other = 0; word = 0; pthread_t t; pthread_create(&t, 0, wait_word, 0); usleep(30000);
      long n = futex(&word, FUTEX_REQUEUE, 0, (void *)1, &other, 0); futex(&word, FUTEX_WAKE, 9, 0, 0, 0);
      futex(&other, FUTEX_WAKE, 9, 0, 0, 0); pthread_join(t, 0); n < 0 ? -1 : IS(1, n););
    P("futex_cmp_requeue", int other = 0; word = 0;
      futex(&word, FUTEX_CMP_REQUEUE, 0, (void *)1, &other, 5) < 0 ? -1 : 0;);
    P("futex_wake_op", int other = 0; word = 0;
      long r = futex(&word, FUTEX_WAKE_OP, 1, (void *)1, &other, FUTEX_OP(FUTEX_OP_SET, 6, FUTEX_OP_CMP_EQ, 0));
      r < 0 ? -1 : IS(6, other););
    P("futex_lock_pi", word = 0; futex(&word, FUTEX_LOCK_PI, 0, 0, 0, 0) < 0 ? -1 : 0;);
    P("futex_trylock_pi", word = 0; futex(&word, FUTEX_TRYLOCK_PI, 0, 0, 0, 0) < 0 ? -1 : 0;);
    P("futex_fd", futex(&word, 2, 0, 0, 0, 0) < 0 ? -1 : 0;);
    P("futex_shared_pages", int *p = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
      struct timespec w = {0, 20000000}; futex(p, FUTEX_WAIT, 0, &w, 0, 0) < 0 ? -1 : 0;);
    P("robust_list_set", syscall(SYS_set_robust_list, &word, 24) < 0 ? -1 : 0;);
    P("robust_list_bad", syscall(SYS_set_robust_list, &word, 5) < 0 ? -1 : 0;);
}

void ask_threads(void)
{
    ask_making();
    ask_locks();
    ask_futexes();
}
