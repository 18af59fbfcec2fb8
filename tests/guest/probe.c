/* The first probe: what programs use most. See ask.h. */
#define _GNU_SOURCE
#include "ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>
#include <fcntl.h>
#include <signal.h>
#include <setjmp.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <poll.h>
#include <netdb.h>
#include <pwd.h>
#include <grp.h>
#include <dirent.h>
#include <time.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <sys/signalfd.h>
#include <sys/inotify.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/resource.h>
#include <sys/prctl.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/times.h>
#include <sys/time.h>
#include <sys/random.h>
#include <sys/xattr.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <ifaddrs.h>
#include <linux/futex.h>

static int wr(const char*p,const char*s){int f=open(p,O_CREAT|O_WRONLY|O_TRUNC,0644);if(f<0)return -1;int n=write(f,s,strlen(s));fsync(f);close(f);return n==(int)strlen(s)?0:-1;}
static int rdn(const char*p){int f=open(p,O_RDONLY);if(f<0)return -1;char b[4096];int n,t=0;while((n=read(f,b,sizeof b))>0)t+=n;close(f);if(n<0)return -1;N("%s",t>0?"nonempty":"empty");return 0;}
static void*th(void*a){return (void*)((long)a+1);}
static void*thc(void*a){for(;;){pthread_testcancel();usleep(1000);}return a;}
static int so(int d,int t){int s=socket(d,t,0);if(s<0)return -1;close(s);return 0;}

int main(int argc,char**argv){
  ask_begin(argc,argv,0);
  printf("argv0=%s\n",argv[0]);
  P("uid", N("%d %d %d",getuid(),geteuid(),getgid());0;);
  P("pid", N("pid=%d ppid=%d",getpid()==1,getppid());0;);
  P("cwd", char b[200]; getcwd(b,200)?(N("%s",b),0):-1;);
  P("hostname", char b[200]; int r=gethostname(b,200);N("%s",r?"":"set");r;);
  P("uname", struct utsname u; int r=uname(&u);N("%s %s",u.sysname,u.machine);r;);
  P("getpwuid", struct passwd*p=getpwuid(getuid());p?(N("%s %s",p->pw_name,p->pw_dir),0):1;);
  P("getpwnam_root", struct passwd*p=getpwnam("root");p?0:1;);
  P("getgrgid", struct group*p=getgrgid(0);p?0:1;);
  P("getaddrinfo_localhost", struct addrinfo*a=0;int r=getaddrinfo("localhost",0,0,&a);N("%d %s",r,r?gai_strerror(r):"");r?1:0;);
  P("getaddrinfo_numeric", struct addrinfo*a=0;int r=getaddrinfo("127.0.0.1","80",0,&a);N("%d",r);r?1:0;);
  P("getifaddrs", struct ifaddrs*a=0;int r=getifaddrs(&a);int n=0;for(;a;a=a->ifa_next)n++;N("%s",n?"some":"none");r;);
  P("nproc", N("%ld %ld",sysconf(_SC_NPROCESSORS_ONLN),sysconf(_SC_NPROCESSORS_CONF));0;);
  P("affinity", cpu_set_t c;int r=sched_getaffinity(0,sizeof c,&c);N("%d",CPU_COUNT(&c));r;);
  P("setaffinity", cpu_set_t c;CPU_ZERO(&c);CPU_SET(0,&c);int r=sched_setaffinity(0,sizeof c,&c);r;);
  P("physpages", N("%s",sysconf(_SC_PHYS_PAGES)>0?"pos":"neg");0;);
  P("sysinfo", struct sysinfo s;int r=sysinfo(&s);N("ram=%luMB",(s.totalram*s.mem_unit)>>20);r;);
  /* processes */
  P("fork", pid_t p=fork();if(p==0)_exit(0);if(p<0)-1;else{int st;waitpid(p,&st,0);} p<0?-1:0;);
  P("vfork", pid_t p=vfork();if(p==0)_exit(0);p<0?-1:0;);
  P("posix_spawn", pid_t p;char*a[]={"/probe",0};int r=posix_spawn(&p,"/none",0,0,a,environ);errno=r;r==ENOENT?1:(r?-1:0););
  P("system", int r=system("true");N("%d",r);r==-1?-1:0;);
  P("popen", FILE*f=popen("true","r");int r=f?pclose(f):-1;r==-1?-1:0;);
  P("execve_enoent", char*a[]={"/none",0};int r=execve("/none",a,environ);r;);
  P("wait_nochild", int r=waitpid(-1,0,WNOHANG);r<0?-1:0;);
  P("kill_self_0", kill(getpid(),0););
  P("getpgid", getpgid(0)>=0?0:-1;);
  P("setsid", setsid()>=0?0:-1;);
  P("setuid0", setuid(0););
  P("setgroups", setgroups(0,0););
  P("capset_prctl", prctl(PR_SET_NO_NEW_PRIVS,1,0,0,0););
  P("prctl_name", prctl(PR_SET_NAME,"x"););
  P("prctl_dumpable", int r=prctl(PR_GET_DUMPABLE);r<0?-1:0;);
  P("getrlimit_stack", struct rlimit l;int r=getrlimit(RLIMIT_STACK,&l);N("%ldK",(long)l.rlim_cur>>10);r;);
  P("getrlimit_nofile", struct rlimit l;int r=getrlimit(RLIMIT_NOFILE,&l);N("%s",l.rlim_cur>=1024?">=1024":"<1024");r;);
  P("setrlimit_nofile", struct rlimit l={512,512};int r=setrlimit(RLIMIT_NOFILE,&l);r;);
  P("setrlimit_core", struct rlimit l={0,0};int r=setrlimit(RLIMIT_CORE,&l);r;);
  P("setpriority", setpriority(PRIO_PROCESS,0,5););
  P("sched_setscheduler", struct sched_param s={0};sched_setscheduler(0,SCHED_BATCH,&s););
  P("sched_fifo", struct sched_param s={1};sched_setscheduler(0,SCHED_FIFO,&s););
  P("personality", syscall(SYS_personality,0xffffffff)<0?-1:0;);
  P("getrusage", struct rusage u;int r=getrusage(RUSAGE_SELF,&u);N("%s",u.ru_maxrss>0?"maxrss":"nomaxrss");r;);
  P("times", struct tms t;times(&t)==(clock_t)-1?-1:0;);
  P("clock_process", struct timespec t;clock_gettime(CLOCK_PROCESS_CPUTIME_ID,&t););
  P("clock_thread", struct timespec t;clock_gettime(CLOCK_THREAD_CPUTIME_ID,&t););
  P("clock_boottime", struct timespec t;clock_gettime(CLOCK_BOOTTIME,&t););
  P("time_sane", time_t t=time(0);t>1700000000?0:1;);
  P("settimeofday", struct timespec t;clock_gettime(CLOCK_REALTIME,&t);clock_settime(CLOCK_REALTIME,&t););
  P("localtime", time_t t=0;struct tm*m=localtime(&t);N("%d",m->tm_hour);0;);
  /* threads, sync */
  P("thread", pthread_t t;void*v;int r=pthread_create(&t,0,th,(void*)1);if(!r)pthread_join(t,&v);r;);
  P("threads_256", pthread_t t[256];int n=0;for(;n<256;n++)if(pthread_create(&t[n],0,th,0))break;for(int i=0;i<n;i++)pthread_join(t[i],0);N("%d",n);n==256?0:1;);
  P("thread_bigstack", pthread_attr_t a;pthread_attr_init(&a);pthread_attr_setstacksize(&a,64<<20);pthread_t t;int r=pthread_create(&t,&a,th,0);if(!r)pthread_join(t,0);errno=r;r?-1:0;);
  P("thread_cancel", pthread_t t;int r=pthread_create(&t,0,thc,0);usleep(2000);r|=pthread_cancel(t);void*v;pthread_join(t,&v);r||v!=PTHREAD_CANCELED;);
  P("mutex_pi", pthread_mutexattr_t a;pthread_mutexattr_init(&a);pthread_mutexattr_setprotocol(&a,PTHREAD_PRIO_INHERIT);pthread_mutex_t m;int r=pthread_mutex_init(&m,&a);if(!r)r=pthread_mutex_lock(&m);errno=r;r?-1:0;);
  P("mutex_robust", pthread_mutexattr_t a;pthread_mutexattr_init(&a);pthread_mutexattr_setrobust(&a,PTHREAD_MUTEX_ROBUST);pthread_mutex_t m;int r=pthread_mutex_init(&m,&a);if(!r)r=pthread_mutex_lock(&m);errno=r;r?-1:0;);
  P("membarrier", syscall(SYS_membarrier,0,0)<0?-1:0;);
  P("rseq_registered", syscall(SYS_rseq,0,0,0,0)<0&&errno==ENOSYS?-1:0;);
  P("futex_waitv", syscall(SYS_futex_waitv,0,0,0,0,0)<0&&errno==ENOSYS?-1:0;);
  P("getcpu", unsigned c,n;syscall(SYS_getcpu,&c,&n,0)<0?-1:0;);
  P("sem_open", sem_t*s=sem_open("/x",O_CREAT,0600,1);s==SEM_FAILED?-1:0;);
  P("shm_open", int f=shm_open("/y",O_CREAT|O_RDWR,0600);f<0?-1:0;);
  P("sysv_shm", int i=shmget(IPC_PRIVATE,4096,0600|IPC_CREAT);i<0?-1:0;);
  P("sysv_sem", int i=semget(IPC_PRIVATE,1,0600|IPC_CREAT);i<0?-1:0;);
  P("sysv_msg", int i=msgget(IPC_PRIVATE,0600|IPC_CREAT);i<0?-1:0;);
  /* signals */
  P("sigsegv_handler", *(volatile int*)0=1;0;);
  P("sigfpe", volatile int z=0;volatile int q=1/z;(void)q;0;);
  P("setitimer", signal(SIGALRM,ask_caught);struct itimerval v={{0,0},{0,20000}};int r=setitimer(ITIMER_REAL,&v,0);if(!r)for(int i=0;i<100;i++)usleep(10000);r;);
  P("timer_create", timer_t t;struct sigevent e={0};e.sigev_notify=SIGEV_NONE;timer_create(CLOCK_MONOTONIC,&e,&t););
  P("timer_create_thread", timer_t t;struct sigevent e={0};e.sigev_notify=SIGEV_THREAD;e.sigev_notify_function=(void*)th;timer_create(CLOCK_MONOTONIC,&e,&t););
  P("sigaltstack", stack_t s={malloc(65536),0,65536};sigaltstack(&s,0););
  P("sigqueue", signal(SIGUSR1,ask_caught);union sigval v={1};int r=sigqueue(getpid(),SIGUSR1,v);usleep(10000);r;);
  P("pthread_kill", signal(SIGUSR2,ask_caught);int r=pthread_kill(pthread_self(),SIGUSR2);usleep(10000);r;);
  P("abort_caught", signal(SIGABRT,ask_caught);abort();0;);
  /* fds */
  P("pipe", int p[2];pipe(p););
  P("pipe2_direct", int p[2];pipe2(p,O_CLOEXEC|O_NONBLOCK););
  P("eventfd", eventfd(0,0)<0?-1:0;);
  P("eventfd_sem", eventfd(0,EFD_SEMAPHORE)<0?-1:0;);
  P("timerfd", int f=timerfd_create(CLOCK_MONOTONIC,0);f<0?-1:0;);
  P("signalfd", sigset_t s;sigemptyset(&s);sigaddset(&s,SIGUSR1);signalfd(-1,&s,0)<0?-1:0;);
  P("inotify", int f=inotify_init1(0);f<0?-1:(inotify_add_watch(f,W,IN_CREATE)<0?-1:0););
  P("epoll", int f=epoll_create1(0);f<0?-1:0;);
  P("epoll_pwait2", struct epoll_event e;struct timespec t={0,1};int f=epoll_create1(0);syscall(SYS_epoll_pwait2,f,&e,1,&t,0,0)<0?-1:0;);
  P("poll_stdin", struct pollfd p={0,POLLIN,0};int r=poll(&p,1,0);N("%d",r>=0);r<0?-1:0;);
  P("read_stdin", struct pollfd p={0,POLLIN,0};poll(&p,1,0);char c;int r=(p.revents)?read(0,&c,1):0;N("%d",r);r<0?-1:0;);
  P("isatty", N("%d",isatty(1));0;);
  P("memfd", int f=memfd_create("m",0);f<0?-1:ftruncate(f,4096););
  P("io_uring", char b[256]={0};int r=syscall(SYS_io_uring_setup,4,b);r<0?-1:0;);
  P("aio_setup", unsigned long c=0;syscall(SYS_io_setup,4,&c)<0?-1:0;);
  P("userfaultfd", syscall(SYS_userfaultfd,0)<0?-1:0;);
  P("perf_event", char b[128]={0};syscall(SYS_perf_event_open,b,0,-1,-1,0)<0?-1:0;);
  P("bpf", syscall(SYS_bpf,0,0,0)<0&&errno==ENOSYS?-1:0;);
  P("close_range", syscall(SYS_close_range,100,200,0););
  P("dup3", dup3(1,90,O_CLOEXEC)<0?-1:0;);
  P("fcntl_getpipe", int p[2];pipe(p);fcntl(p[0],F_GETPIPE_SZ)<0?-1:0;);
  P("splice", int p[2];pipe(p);int f=open("/proc/self/maps",0);splice(f,0,p[1],0,10,0)<0?-1:0;);
  P("ioctl_fionread", int n;ioctl(0,FIONREAD,&n););
  P("pidfd_open", syscall(SYS_pidfd_open,getpid(),0)<0?-1:0;);
  P("landlock", syscall(444,0,0,1)<0?-1:0;);
  P("statx", struct statx s;statx(AT_FDCWD,"/probe",0,STATX_ALL,&s););
  P("openat2", struct{long a,b,c;}o={0,0,0};int r=syscall(437,AT_FDCWD,"/probe",&o,sizeof o);r<0?-1:0;);
  P("faccessat2", syscall(439,AT_FDCWD,"/probe",R_OK,0););
  P("execveat_no", 0;);
  /* network */
  P("socket_inet", so(AF_INET,SOCK_STREAM););
  P("socket_inet_dgram", so(AF_INET,SOCK_DGRAM););
  P("socket_inet6", so(AF_INET6,SOCK_STREAM););
  P("socket_unix", so(AF_UNIX,SOCK_STREAM););
  P("socket_unix_seqp", so(AF_UNIX,SOCK_SEQPACKET););
  P("socketpair", int p[2];socketpair(AF_UNIX,SOCK_STREAM,0,p););
  P("socketpair_dgram", int p[2];socketpair(AF_UNIX,SOCK_DGRAM,0,p););
  P("socket_netlink", int s=socket(AF_NETLINK,SOCK_RAW,0);s<0?-1:0;);
  P("socket_packet", int s=socket(17,SOCK_RAW,0);s<0?-1:0;);
  P("socket_raw", int s=socket(AF_INET,SOCK_RAW,1);s<0?-1:0;);
  P("socket_vsock", int s=socket(40,SOCK_STREAM,0);s<0?-1:0;);
  P("bind_listen_lo", int s=socket(AF_INET,SOCK_STREAM,0);struct sockaddr_in a={AF_INET,htons(9099),{htonl(INADDR_LOOPBACK)},{0}};bind(s,(void*)&a,sizeof a)?-1:listen(s,5););
  P("connect_lo_self", int s=socket(AF_INET,SOCK_STREAM,0);struct sockaddr_in a={AF_INET,htons(9098),{htonl(INADDR_LOOPBACK)},{0}};if(bind(s,(void*)&a,sizeof a)||listen(s,5))exit(99);int c=socket(AF_INET,SOCK_STREAM|SOCK_NONBLOCK,0);int r=connect(c,(void*)&a,sizeof a);if(r&&errno==EINPROGRESS){struct pollfd p={c,POLLOUT,0};r=poll(&p,1,2000)==1?0:1;int e=0;socklen_t l=sizeof e;getsockopt(c,SOL_SOCKET,SO_ERROR,&e,&l);if(e){errno=e;r=-1;}}r;);
  P("connect_lo_closed", int c=socket(AF_INET,SOCK_STREAM|SOCK_NONBLOCK,0);struct sockaddr_in a={AF_INET,htons(9),{htonl(INADDR_LOOPBACK)},{0}};int r=connect(c,(void*)&a,sizeof a);if(r&&errno==EINPROGRESS){struct pollfd p={c,POLLOUT,0};poll(&p,1,2000);int e=0;socklen_t l=sizeof e;getsockopt(c,SOL_SOCKET,SO_ERROR,&e,&l);errno=e;r=e?-1:0;}r;);
  P("connect_outside", int c=socket(AF_INET,SOCK_STREAM|SOCK_NONBLOCK,0);struct sockaddr_in a={AF_INET,htons(80),{htonl(0x08080808)},{0}};int r=connect(c,(void*)&a,sizeof a);if(r&&errno==EINPROGRESS){struct pollfd p={c,POLLOUT,0};int q=poll(&p,1,1500);if(!q)r=7;else{int e=0;socklen_t l=sizeof e;getsockopt(c,SOL_SOCKET,SO_ERROR,&e,&l);errno=e;r=e?-1:0;}}r;);
  P("udp_bind_any", int s=socket(AF_INET,SOCK_DGRAM,0);struct sockaddr_in a={AF_INET,htons(5000),{0},{0}};bind(s,(void*)&a,sizeof a););
  P("unix_bind_workspace", int s=socket(AF_UNIX,SOCK_STREAM,0);struct sockaddr_un a={AF_UNIX,W"sock"};bind(s,(void*)&a,sizeof a););
  P("unix_bind_abstract", int s=socket(AF_UNIX,SOCK_STREAM,0);struct sockaddr_un a={AF_UNIX,"\0abc"};bind(s,(void*)&a,6););
  /* memory */
  P("mmap_anon_1g_noreserve", void*p=mmap(0,1UL<<30,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANON|MAP_NORESERVE,-1,0);p==MAP_FAILED?-1:0;);
  P("mmap_reserve_64g_none", void*p=mmap(0,64UL<<30,PROT_NONE,MAP_PRIVATE|MAP_ANON|MAP_NORESERVE,-1,0);p==MAP_FAILED?-1:0;);
  P("mmap_1t_none", void*p=mmap(0,1UL<<40,PROT_NONE,MAP_PRIVATE|MAP_ANON|MAP_NORESERVE,-1,0);p==MAP_FAILED?-1:0;);
  P("mmap_shared_anon", void*p=mmap(0,4096,PROT_READ|PROT_WRITE,MAP_SHARED|MAP_ANON,-1,0);p==MAP_FAILED?-1:0;);
  P("mmap_hugetlb", void*p=mmap(0,2<<20,PROT_READ|PROT_WRITE,MAP_PRIVATE|MAP_ANON|MAP_HUGETLB,-1,0);p==MAP_FAILED?-1:0;);
  P("mmap_rwx", void*p=mmap(0,4096,7,MAP_PRIVATE|MAP_ANON,-1,0);if(p!=MAP_FAILED){*(unsigned char*)p=0xc3;((void(*)(void))p)();}p==MAP_FAILED?-1:0;);
  P("mprotect_jit", void*p=mmap(0,4096,3,MAP_PRIVATE|MAP_ANON,-1,0);*(unsigned char*)p=0xc3;int r=mprotect(p,4096,5);if(!r)((void(*)(void))p)();r;);
  P("mmap_growsdown", void*p=mmap(0,65536,3,MAP_PRIVATE|MAP_ANON|MAP_GROWSDOWN|MAP_STACK,-1,0);p==MAP_FAILED?-1:0;);
  P("mremap", void*p=mmap(0,4096,3,MAP_PRIVATE|MAP_ANON,-1,0);mremap(p,4096,65536,MREMAP_MAYMOVE)==MAP_FAILED?-1:0;);
  P("madvise_free", void*p=mmap(0,65536,3,MAP_PRIVATE|MAP_ANON,-1,0);madvise(p,65536,MADV_FREE););
  P("madvise_dontneed_zero", char*p=mmap(0,65536,3,MAP_PRIVATE|MAP_ANON,-1,0);p[0]=5;int r=madvise(p,65536,MADV_DONTNEED);N("%d",p[0]);r;);
  P("madvise_huge", void*p=mmap(0,4<<20,3,MAP_PRIVATE|MAP_ANON,-1,0);madvise(p,4<<20,MADV_HUGEPAGE););
  P("mlock", char b[4096];mlock(b,4096););
  P("mincore", char*p=mmap(0,4096,3,MAP_PRIVATE|MAP_ANON,-1,0);p[0]=1;unsigned char v;mincore(p,4096,&v););
  P("pkey_alloc", int r=syscall(SYS_pkey_alloc,0,0);r<0?-1:0;);
  P("brk", sbrk(4096)==(void*)-1?-1:0;);
  P("numa_mempolicy", int m;syscall(SYS_get_mempolicy,&m,0,0,0,0););
  P("set_mempolicy", syscall(SYS_set_mempolicy,0,0,0););
  P("mbind", void*p=mmap(0,4096,3,MAP_PRIVATE|MAP_ANON,-1,0);syscall(SYS_mbind,p,4096,0,0,0,0););
  P("process_vm_readv", char a[8];struct iovec l={a,8};struct iovec rr={ask_detail,8};process_vm_readv(getpid(),&l,1,&rr,1,0)<0?-1:0;);
  P("getrandom", char b[16];getrandom(b,16,0)==16?0:-1;);
  P("arch_prctl", unsigned long g;syscall(SYS_arch_prctl,0x1003,&g););
  P("ptrace_me", syscall(SYS_ptrace,0,0,0,0)<0?-1:0;);
  P("seccomp", prctl(PR_GET_SECCOMP)<0?-1:0;);
  P("unshare", unshare(CLONE_NEWNS););
  P("mount_tmpfs", syscall(SYS_mount,"t",W,"tmpfs",0,0););
  P("chroot", chroot("/"););
  P("sethostname", sethostname("abc",3););
  P("reboot_cad", syscall(SYS_reboot,1,2,3,0)<0&&errno==ENOSYS?-1:0;);
  P("getdents_root", DIR*d=opendir("/");d?(closedir(d),0):-1;);
  /* files: root is read-only */
  P("write_root", wr("/x","a"););
  P("write_tmp", wr("/tmp/x","a"););
  P("mkdir_tmp", mkdir("/tmp",0755););
  P("write_existing_root", int f=open("/etc/passwd",O_WRONLY);f<0?-1:0;);
  P("open_rdwr_root", int f=open("/etc/passwd",O_RDWR);f<0?-1:0;);
  P("chmod_root", chmod("/etc/passwd",0600););
  P("utime_root", utimensat(0,"/etc/passwd",0,0););
  P("unlink_root", unlink("/etc/passwd"););
  P("tmpfile", FILE*f=tmpfile();f?0:-1;);
  P("mkstemp_tmp", char t[]="/tmp/aXXXXXX";int f=mkstemp(t);f<0?-1:0;);
  P("dev_shm_write", wr("/dev/shm/a","b"););
  P("access_w_root", access("/etc",W_OK););
  P("stat_mode_prog", struct stat s;int r=stat("/probe",&s);N("%o uid=%d",s.st_mode,s.st_uid);r;);
  P("stat_mode_dir", struct stat s;int r=stat("/etc",&s);N("%o",s.st_mode);r;);
  P("access_x_prog", access("/probe",X_OK););
  P("readlink_exe", char b[100]={0};int r=readlink("/proc/self/exe",b,99);N("%s",b);r<0?-1:0;);
  P("proc_maps", rdn("/proc/self/maps"););
  P("proc_status", rdn("/proc/self/status"););
  P("proc_stat", rdn("/proc/self/stat"););
  P("proc_cmdline", rdn("/proc/self/cmdline"););
  P("proc_environ", rdn("/proc/self/environ"););
  P("proc_cgroup", rdn("/proc/self/cgroup"););
  P("proc_mounts", rdn("/proc/mounts"););
  P("proc_self_mounts", rdn("/proc/self/mounts"););
  P("proc_mountinfo", rdn("/proc/self/mountinfo"););
  P("proc_cpuinfo", rdn("/proc/cpuinfo"););
  P("proc_meminfo", rdn("/proc/meminfo"););
  P("proc_gstat", rdn("/proc/stat"););
  P("proc_loadavg", rdn("/proc/loadavg"););
  P("proc_uptime", rdn("/proc/uptime"););
  P("proc_version", rdn("/proc/version"););
  P("proc_sys_hostname", rdn("/proc/sys/kernel/hostname"););
  P("proc_overcommit", rdn("/proc/sys/vm/overcommit_memory"););
  P("proc_somaxconn", rdn("/proc/sys/net/core/somaxconn"););
  P("proc_random_uuid", rdn("/proc/sys/kernel/random/uuid"););
  P("proc_self_fd", DIR*d=opendir("/proc/self/fd");d?0:-1;);
  P("proc_self_task", DIR*d=opendir("/proc/self/task");d?0:-1;);
  P("proc_self_fd_link", char b[90];readlink("/proc/self/fd/1",b,90)<0?-1:0;);
  P("proc_thread_self", access("/proc/thread-self/stat",0););
  P("sys_cpu_online", rdn("/sys/devices/system/cpu/online"););
  P("sys_cpu_possible", rdn("/sys/devices/system/cpu/possible"););
  P("sys_cpu0", access("/sys/devices/system/cpu/cpu0",0););
  P("sys_node", access("/sys/devices/system/node",0););
  P("sys_thp", rdn("/sys/kernel/mm/transparent_hugepage/enabled"););
  P("sys_cgroup", access("/sys/fs/cgroup",0););
  P("sys_pci", DIR*d=opendir("/sys/bus/pci/devices");d?0:-1;);
  P("dev_null", wr("/dev/null","a"););
  P("dev_zero", int f=open("/dev/zero",0);char c;f<0?-1:(read(f,&c,1)==1?0:-1););
  P("dev_full", int f=open("/dev/full",1);f<0?-1:0;);
  P("dev_random", int f=open("/dev/random",0);char c;f<0?-1:(read(f,&c,1)==1?0:-1););
  P("dev_urandom", int f=open("/dev/urandom",0);char c;f<0?-1:(read(f,&c,1)==1?0:-1););
  P("dev_tty", int f=open("/dev/tty",0);f<0?-1:0;);
  P("dev_stdout", int f=open("/dev/stdout",1);f<0?-1:0;);
  P("dev_fd", int f=open("/dev/fd/1",1);f<0?-1:0;);
  P("dev_vsock", int f=open("/dev/vsock",0);f<0?-1:0;);
  P("dev_list", DIR*d=opendir("/dev");d?0:-1;);
  P("etc_hosts", rdn("/etc/hosts"););
  P("etc_resolv", rdn("/etc/resolv.conf"););
  P("etc_passwd", rdn("/etc/passwd"););
  P("etc_nsswitch", rdn("/etc/nsswitch.conf"););
  P("etc_hostname", rdn("/etc/hostname"););
  P("etc_localtime", rdn("/etc/localtime"););
  P("etc_ld_cache", rdn("/etc/ld.so.cache"););
  P("etc_ssl", access("/etc/ssl/certs/ca-certificates.crt",0););
  /* workspace */
  P("ws_write", wr(W"a","hello"););
  P("ws_append", int f=open(W"a",O_WRONLY|O_APPEND);int r=write(f,"x",1);struct stat s;fstat(f,&s);N("%ld",(long)s.st_size);r==1?0:-1;);
  P("ws_excl", int f=open(W"a",O_CREAT|O_EXCL|O_WRONLY,0644);f<0&&errno==EEXIST?0:1;);
  P("ws_mkdir", mkdir(W"d",0755););
  P("ws_unlink", wr(W"u","x");unlink(W"u"););
  P("ws_rmdir", mkdir(W"rm",0755);rmdir(W"rm"););
  P("ws_o_tmpfile", int f=open(W,O_TMPFILE|O_RDWR,0600);f<0?-1:0;);
  P("ws_symlink", symlink("a",W"sl"););
  P("ws_readlink", char b[9]={0};int r=readlink(W"sl",b,8);N("%s",b);r<0?-1:0;);
  P("ws_link", link(W"a",W"hl"););
  P("ws_chmod", chmod(W"a",0600););
  P("ws_chmod_seen", struct stat s;stat(W"a",&s);N("%o",s.st_mode&0777);0;);
  P("ws_fchmod", int f=open(W"a",O_RDWR);fchmod(f,0644););
  P("ws_chown", chown(W"a",0,0););
  P("ws_utimens", struct timespec t[2]={{1000,0},{1000,0}};int r=utimensat(0,W"a",t,0);struct stat s;stat(W"a",&s);N("mtime=%ld",(long)s.st_mtime);r;);
  P("ws_mtime", wr(W"mt","x");struct stat s;stat(W"mt",&s);N("%s",s.st_mtime>1700000000?"now":"odd");0;);
  P("ws_truncate", truncate(W"a",2););
  P("ws_ftruncate_grow", int f=open(W"a",O_RDWR);int r=ftruncate(f,100000);struct stat s;fstat(f,&s);N("%ld",(long)s.st_size);r;);
  P("ws_fallocate", int f=open(W"fa",O_CREAT|O_RDWR,0644);int r=fallocate(f,0,0,65536);r;);
  P("ws_posix_fallocate", int f=open(W"fb",O_CREAT|O_RDWR,0644);int r=posix_fallocate(f,0,65536);errno=r;r?-1:0;);
  P("ws_fsync", int f=open(W"a",O_RDWR);fsync(f););
  P("ws_fdatasync", int f=open(W"a",O_RDWR);fdatasync(f););
  P("ws_syncfs", int f=open(W"a",O_RDWR);syncfs(f););
  P("ws_sync_range", int f=open(W"a",O_RDWR);sync_file_range(f,0,0,2););
  P("ws_flock", int f=open(W"a",O_RDWR);flock(f,LOCK_EX););
  P("ws_fcntl_lock", int f=open(W"a",O_RDWR);struct flock l={F_WRLCK,SEEK_SET,0,0,0};fcntl(f,F_SETLK,&l););
  P("ws_ofd_lock", int f=open(W"a",O_RDWR);struct flock l={F_WRLCK,SEEK_SET,0,0,0};fcntl(f,F_OFD_SETLK,&l););
  P("ws_mmap_private", int f=open(W"a",O_RDWR);char*p=mmap(0,4096,PROT_READ,MAP_PRIVATE,f,0);if(p==MAP_FAILED)-1;else N("%c",p[0]);p==MAP_FAILED?-1:0;);
  P("ws_mmap_shared_write", int f=open(W"mm",O_CREAT|O_RDWR,0644);ftruncate(f,8192);char*p=mmap(0,8192,3,MAP_SHARED,f,0);if(p==MAP_FAILED)exit(98);strcpy(p,"mapped");int r=msync(p,8192,MS_SYNC);munmap(p,8192);char b[8]={0};pread(f,b,6,0);N("%s",b);r?-1:strcmp(b,"mapped"););
  P("ws_sendfile", int a=open("/etc/passwd",0);int b=open(W"sf",O_CREAT|O_WRONLY,0644);sendfile(b,a,0,10)<0?-1:0;);
  P("ws_copy_file_range", int a=open("/etc/passwd",0);int b=open(W"cf",O_CREAT|O_WRONLY,0644);copy_file_range(a,0,b,0,10,0)<0?-1:0;);
  P("ws_preadv2", int f=open(W"a",O_RDWR);char b[4];struct iovec v={b,4};preadv2(f,&v,1,0,0)<0?-1:0;);
  P("ws_seek_hole", int f=open(W"a",O_RDWR);lseek(f,0,SEEK_HOLE)<0?-1:0;);
  P("ws_o_direct", int f=open(W"a",O_RDWR|O_DIRECT);f<0?-1:0;);
  P("ws_xattr", setxattr(W"a","user.x","1",1,0););
  P("ws_readdir_300", mkdir(W"big",0755);char b[64];for(int i=0;i<300;i++){sprintf(b,W"big/file-with-a-longish-name-%03d",i);wr(b,"x");}DIR*d=opendir(W"big");int n=0;while(d&&readdir(d))n++;N("%d",n);d?0:-1;);
  P("ws_statfs", struct statfs s;int r=statfs(W,&s);N("%s",s.f_bavail>0?"free":"nofree");r;);
  P("ws_statvfs_root", struct statvfs s;statvfs("/",&s););
  P("ws_chdir", chdir(W););
  P("ws_getcwd", char b[99];char*p=getcwd(b,99);N("%s",p?p:"");p?0:-1;);
  P("ws_rel_write", wr("rel","x"););
  P("ws_fchdir", int f=open("/",O_RDONLY|O_DIRECTORY);fchdir(f););
  P("ws_realpath", char*p=realpath(W"../workspace/a",0);N("%s",p?p:"");p?0:-1;);
  P("ws_mknod_fifo", mkfifo(W"ff",0600););
  P("ws_longname", char b[300];memset(b,'a',sizeof b);memcpy(b,W,11);b[11+200]=0;wr(b,"x"););
  P("ws_utf8name", wr(W"\xc3\xa9\xe4\xb8\xad","x"););
  P("ws_deep", char b[400]=W"p";for(int i=0;i<20;i++){mkdir(b,0755);strcat(b,"/p");}wr(b,"x"););
  P("ws_open_dir_write", int f=open(W"d",O_WRONLY);f<0&&errno==EISDIR?0:1;);
  P("ws_pwrite_sparse", int f=open(W"sp",O_CREAT|O_RDWR,0644);int r=pwrite(f,"x",1,5<<20);struct stat s;fstat(f,&s);N("%ld",(long)s.st_size);r==1?0:-1;);
  P("ws_o_trunc", wr(W"a","q");struct stat s;stat(W"a",&s);N("%ld",(long)s.st_size);0;);
  P("ws_two_fds_coherent", int a=open(W"co",O_CREAT|O_RDWR,0644);int b=open(W"co",O_RDONLY);write(a,"zz",2);char c[3]={0};int r=read(b,c,2);N("%s",c);r==2?0:1;);
  P("stack_4m", char b[4<<20];memset(b,1,sizeof b);b[5]==1?0:1;);
  P("avx", __builtin_cpu_init();N("avx2=%d avx512f=%d",!!__builtin_cpu_supports("avx2"),!!__builtin_cpu_supports("avx512f"));0;);
  P("cxa_atexit", 0;);
  printf("END\n");
  return 0;
}
