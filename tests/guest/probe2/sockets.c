/* Sockets that stay inside the machine: loopback, socket pairs, vsock's own options. */
#include "probe2.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

static char room[1 << 16];

static struct sockaddr_in local(int port)
{
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port),
    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int listener(int port)
{
    int s = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;
    struct sockaddr_in a = local(port);
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return bind(s, (void *)&a, sizeof a) || listen(s, 8) ? -1 : s;
}

/* Both ends of a TCP connection to this machine itself. */
static int connected(int port, int ends[2])
{
    int s = listener(port);
    struct sockaddr_in a = local(port);
    struct pollfd p = {s, POLLIN, 0};
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    if (connect(ends[0], (void *)&a, sizeof a) && errno != EINPROGRESS)
        return -1;
    if (poll(&p, 1, 2000) != 1)
        return -1;
    ends[1] = accept(s, 0, 0);
    p = (struct pollfd){ends[0], POLLOUT, 0};
    poll(&p, 1, 2000);
    fcntl(ends[0], F_SETFL, 0);
    close(s);
    return ends[1] < 0 ? -1 : 0;
}

static int udp(int port)
{
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in a = local(port);
    return bind(s, (void *)&a, sizeof a) ? -1 : s;
}

static long told(int s, char *text, int flags)
{
    struct pollfd p = {s, POLLIN, 0};
    poll(&p, 1, 1000);
    return recv(s, text, 100, flags | MSG_DONTWAIT);
}

static void *drain(void *s)
{
    long n = 0;
    for (long r; (r = read(*(int *)s, room, sizeof room)) > 0;)
        n += r;
    return (void *)n;
}

static int option(int s, int level, int name)
{
    int value = -1;
    socklen_t size = sizeof value;
    int r = getsockopt(s, level, name, &value, &size);
    N("%d", value);
    return r;
}

static int set(int s, int level, int name, int value)
{
    return setsockopt(s, level, name, &value, sizeof value);
}

static void ask_tcp(void)
{
    P("tcp_echo", int e[2]; if (connected(9101, e)) return -1; write(e[0], "abc", 3); told(e[1], room, 0);
      write(e[1], room, 3); IS(3, told(e[0], room, 0)););
    P("tcp_1m", int e[2]; if (connected(9102, e)) return -1; pthread_t t; pthread_create(&t, 0, drain, &e[1]);
      char *p = calloc(1, 1 << 20); long n = 0; while (n < 1 << 20) { long r = write(e[0], p, (1 << 20) - n);
      if (r < 0) break; n += r; }
      shutdown(e[0], SHUT_WR); void *v; pthread_join(t, &v); IS(1 << 20, (long)v););
    P("tcp_accept_nothing", int s = listener(9103); fcntl(s, F_SETFL, O_NONBLOCK); accept(s, 0, 0) < 0 ? -1 : 0;);
    P("tcp_accept4", int s = listener(9104);
      accept4(s, 0, 0, SOCK_NONBLOCK | SOCK_CLOEXEC | 0x40000000) < 0 ? -1 : 0;);
    P("tcp_peer", int e[2]; if (connected(9105, e)) return -1; struct sockaddr_in a; socklen_t l = sizeof a;
      int r = getpeername(e[0], (void *)&a, &l); N("%d", ntohs(a.sin_port)); r;);
    P("tcp_peer_unconnected", int s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a; socklen_t l = sizeof a;
      getpeername(s, (void *)&a, &l););
    P("tcp_name_unbound", int s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a; socklen_t l = sizeof a;
      int r = getsockname(s, (void *)&a, &l); N("%d", ntohs(a.sin_port)); r;);
    P("tcp_port_given", int s = listener(0); struct sockaddr_in a; socklen_t l = sizeof a;
      int r = getsockname(s, (void *)&a, &l); N("%s", a.sin_port ? "given" : "none"); r;);
    P("tcp_end", int e[2]; if (connected(9106, e)) return -1; close(e[0]); IS(0, told(e[1], room, 0)););
    P("tcp_half_closed", int e[2]; if (connected(9107, e)) return -1; shutdown(e[0], SHUT_WR); told(e[1], room, 0);
      write(e[1], "x", 1); IS(1, told(e[0], room, 0)););
    P("tcp_write_after_shutdown", int e[2]; if (connected(9108, e)) return -1; shutdown(e[0], SHUT_WR);
      write(e[0], "x", 1) < 0 ? -1 : 0;);
    P("tcp_shutdown_unconnected", int s = socket(AF_INET, SOCK_STREAM, 0); shutdown(s, SHUT_WR););
    P("tcp_send_unconnected", int s = socket(AF_INET, SOCK_STREAM, 0); send(s, "x", 1, 0) < 0 ? -1 : 0;);
    P("tcp_read_unconnected", int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
      recv(s, room, 1, 0) < 0 ? -1 : 0;);
    P("tcp_nothing_yet", int e[2]; if (connected(9109, e)) return -1;
      recv(e[0], room, 1, MSG_DONTWAIT) < 0 ? -1 : 0;);
    P("tcp_peek", int e[2]; if (connected(9110, e)) return -1; write(e[1], "abc", 3); told(e[0], room, MSG_PEEK);
      IS(3, told(e[0], room, 0)););
    P("tcp_waitall", int e[2]; if (connected(9111, e)) return -1; write(e[1], "abc", 3); write(e[1], "def", 3);
      IS(6, recv(e[0], room, 6, MSG_WAITALL)););
    P("tcp_out_of_band", int e[2]; if (connected(9112, e)) return -1; send(e[1], "x", 1, MSG_OOB) < 0 ? -1 : 0;);
    P("tcp_waiting_bytes", int e[2]; int n = -1; if (connected(9113, e)) return -1; write(e[1], "abc", 3);
      usleep(50000); int r = ioctl(e[0], FIONREAD, &n); N("%d", n); r;);
    P("tcp_bound_twice", int s = listener(9114); int t = listener(9114); t < 0 ? -1 : 0;);
    P("tcp_bound_again", int s = listener(9115); close(s); listener(9115) < 0 ? -1 : 0;);
    P("tcp_foreign_address", int s = socket(AF_INET, SOCK_STREAM, 0);
      struct sockaddr_in a = {AF_INET, htons(9116), {htonl(0x08080808)}}; bind(s, (void *)&a, sizeof a););
    P("tcp_any_address", int s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = {AF_INET, htons(9117)};
      bind(s, (void *)&a, sizeof a) || listen(s, 1););
    P("tcp_low_port", int s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = local(80);
      bind(s, (void *)&a, sizeof a););
    P("tcp_listen_unbound", int s = socket(AF_INET, SOCK_STREAM, 0); listen(s, 1););
    P("tcp_bind_short", int s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = local(9118);
      bind(s, (void *)&a, 4););
    P("tcp_bind_wrong_family", int s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = local(9119);
      a.sin_family = AF_UNIX; bind(s, (void *)&a, sizeof a););
    P("tcp_connect_twice", int e[2]; if (connected(9120, e)) return -1; struct sockaddr_in a = local(9120);
      connect(e[0], (void *)&a, sizeof a););
    P("tcp_receive_times_out", int e[2]; if (connected(9121, e)) return -1; struct timeval t = {0, 30000};
      if (setsockopt(e[0], SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t)) return -1; recv(e[0], room, 1, 0) < 0 ? -1 : 0;);
    P("tcp_127_0_0_2", int s = socket(AF_INET, SOCK_STREAM, 0); struct sockaddr_in a = local(9122);
      a.sin_addr.s_addr = htonl(0x7f000002); bind(s, (void *)&a, sizeof a););
    P("tcp_loopback_v6", int s = socket(AF_INET6, SOCK_STREAM, 0);
      struct sockaddr_in6 a = {AF_INET6, htons(9123), 0, IN6ADDR_LOOPBACK_INIT};
      bind(s, (void *)&a, sizeof a) || listen(s, 1););
    P("tcp_any_v6", int s = socket(AF_INET6, SOCK_STREAM, 0); struct sockaddr_in6 a = {AF_INET6, htons(9124)};
      bind(s, (void *)&a, sizeof a) || listen(s, 1););
}

static void ask_options(void)
{
    static const struct { const char *name; int level, option, value; } all[] = {
        {"so_reuseaddr", SOL_SOCKET, SO_REUSEADDR, 1}, {"so_reuseport", SOL_SOCKET, SO_REUSEPORT, 1},
        {"so_keepalive", SOL_SOCKET, SO_KEEPALIVE, 1}, {"so_broadcast", SOL_SOCKET, SO_BROADCAST, 1},
        {"so_sndbuf", SOL_SOCKET, SO_SNDBUF, 65536}, {"so_rcvbuf", SOL_SOCKET, SO_RCVBUF, 65536},
        {"so_priority", SOL_SOCKET, SO_PRIORITY, 1}, {"so_rcvlowat", SOL_SOCKET, SO_RCVLOWAT, 1},
        {"so_timestamp", SOL_SOCKET, SO_TIMESTAMP, 1}, {"so_busy_poll", SOL_SOCKET, SO_BUSY_POLL, 0},
        {"so_zerocopy", SOL_SOCKET, SO_ZEROCOPY, 1}, {"so_bad", SOL_SOCKET, 9999, 1},
        {"tcp_nodelay", IPPROTO_TCP, TCP_NODELAY, 1}, {"tcp_cork", IPPROTO_TCP, TCP_CORK, 1},
        {"tcp_keepidle", IPPROTO_TCP, TCP_KEEPIDLE, 60}, {"tcp_keepintvl", IPPROTO_TCP, TCP_KEEPINTVL, 10},
        {"tcp_keepcnt", IPPROTO_TCP, TCP_KEEPCNT, 3}, {"tcp_quickack", IPPROTO_TCP, TCP_QUICKACK, 1},
        {"tcp_user_timeout", IPPROTO_TCP, TCP_USER_TIMEOUT, 1000}, {"tcp_maxseg", IPPROTO_TCP, TCP_MAXSEG, 1000},
        {"tcp_defer_accept", IPPROTO_TCP, TCP_DEFER_ACCEPT, 1}, {"tcp_fastopen", IPPROTO_TCP, TCP_FASTOPEN, 5},
        {"ip_tos", IPPROTO_IP, IP_TOS, 0x10}, {"ip_ttl", IPPROTO_IP, IP_TTL, 64},
        {"ip_recverr", IPPROTO_IP, IP_RECVERR, 1}, {"ip_pktinfo", IPPROTO_IP, IP_PKTINFO, 1},
        {"ip_mtu_discover", IPPROTO_IP, IP_MTU_DISCOVER, 2}, {"ip_multicast_ttl", IPPROTO_IP, IP_MULTICAST_TTL, 2},
    };
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        P(all[i].name, int s = socket(AF_INET, SOCK_STREAM, 0); set(s, all[i].level, all[i].option, all[i].value););
    P("so_linger", int s = socket(AF_INET, SOCK_STREAM, 0); struct linger l = {1, 0};
      setsockopt(s, SOL_SOCKET, SO_LINGER, &l, sizeof l););
    P("so_sndtimeo", int s = socket(AF_INET, SOCK_STREAM, 0); struct timeval t = {1, 0};
      setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t););
    P("so_bindtodevice", int s = socket(AF_INET, SOCK_STREAM, 0);
      setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3););
    P("so_nodelay_kept", int s = socket(AF_INET, SOCK_STREAM, 0); set(s, IPPROTO_TCP, TCP_NODELAY, 1);
      int r = option(s, IPPROTO_TCP, TCP_NODELAY); r;);
    P("so_type", int s = socket(AF_INET, SOCK_STREAM, 0); option(s, SOL_SOCKET, SO_TYPE););
    P("so_domain", int s = socket(AF_INET, SOCK_STREAM, 0); option(s, SOL_SOCKET, SO_DOMAIN););
    P("so_protocol", int s = socket(AF_INET, SOCK_STREAM, 0); option(s, SOL_SOCKET, SO_PROTOCOL););
    P("so_error", int s = socket(AF_INET, SOCK_STREAM, 0); option(s, SOL_SOCKET, SO_ERROR););
    P("so_acceptconn", int s = listener(9130); option(s, SOL_SOCKET, SO_ACCEPTCONN););
    P("so_get_sndbuf", int s = socket(AF_INET, SOCK_STREAM, 0); int r = option(s, SOL_SOCKET, SO_SNDBUF); N(""); r;);
    P("so_peercred", int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p); struct ucred c; socklen_t l = sizeof c;
      getsockopt(p[0], SOL_SOCKET, SO_PEERCRED, &c, &l););
    P("so_on_file", int f = open("/etc/passwd", O_RDONLY); set(f, SOL_SOCKET, SO_REUSEADDR, 1););
    P("tcp_info", int e[2]; if (connected(9131, e)) return -1; struct tcp_info i; socklen_t l = sizeof i;
      getsockopt(e[0], IPPROTO_TCP, TCP_INFO, &i, &l););
    P("ipv6_only", int s = socket(AF_INET6, SOCK_STREAM, 0); set(s, IPPROTO_IPV6, IPV6_V6ONLY, 1););
    P("udp_multicast_join", int s = socket(AF_INET, SOCK_DGRAM, 0);
      struct ip_mreq m = {{htonl(0xe0000101)}, {htonl(INADDR_LOOPBACK)}};
      setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof m););
}

static void ask_datagrams(void)
{
    P("udp_to_itself", int s = udp(9140); struct sockaddr_in a = local(9140);
      sendto(s, "abc", 3, 0, (void *)&a, sizeof a) < 0 ? -1 : IS(3, told(s, room, 0)););
    P("udp_connected", int s = udp(9141); int c = socket(AF_INET, SOCK_DGRAM, 0);
      struct sockaddr_in a = local(9141); connect(c, (void *)&a, sizeof a);
      send(c, "ab", 2, 0) < 0 ? -1 : IS(2, told(s, room, 0)););
    P("udp_nothing_yet", int s = udp(9142); recv(s, room, 9, MSG_DONTWAIT) < 0 ? -1 : 0;);
    P("udp_truncated", int s = udp(9143); struct sockaddr_in a = local(9143);
      sendto(s, "abcdef", 6, 0, (void *)&a, sizeof a); usleep(20000);
      IS(6, recv(s, room, 2, MSG_TRUNC | MSG_DONTWAIT)););
    P("udp_peek", int s = udp(9144); struct sockaddr_in a = local(9144);
      sendto(s, "abc", 3, 0, (void *)&a, sizeof a); told(s, room, MSG_PEEK); IS(3, told(s, room, 0)););
    P("udp_empty", int s = udp(9145); struct sockaddr_in a = local(9145);
      sendto(s, "", 0, 0, (void *)&a, sizeof a) < 0 ? -1 : IS(0, told(s, room, 0)););
    P("udp_send_nowhere", int s = socket(AF_INET, SOCK_DGRAM, 0); send(s, "x", 1, 0) < 0 ? -1 : 0;);
    P("udp_too_long", int s = udp(9146); struct sockaddr_in a = local(9146);
      sendto(s, room, 65536, 0, (void *)&a, sizeof a) < 0 ? -1 : 0;);
    P("udp_8k", int s = udp(9147); struct sockaddr_in a = local(9147);
      sendto(s, room, 8192, 0, (void *)&a, sizeof a) < 0 ? -1 : 0;);
    P("udp_closed_port", int s = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = local(9148);
      connect(s, (void *)&a, sizeof a); send(s, "x", 1, 0); usleep(20000);
      recv(s, room, 1, MSG_DONTWAIT) < 0 ? -1 : 0;);
    P("udp_outside", int s = socket(AF_INET, SOCK_DGRAM, 0);
      struct sockaddr_in a = {AF_INET, htons(53), {htonl(0x08080808)}};
      sendto(s, "x", 1, 0, (void *)&a, sizeof a) < 0 ? -1 : 0;);
    P("udp_disconnect", int s = socket(AF_INET, SOCK_DGRAM, 0); struct sockaddr_in a = local(9149);
      connect(s, (void *)&a, sizeof a); struct sockaddr u = {AF_UNSPEC}; connect(s, &u, sizeof u););
    P("udp_sendmmsg", int s = udp(9150); struct sockaddr_in a = local(9150); struct iovec v = {"ab", 2};
      struct mmsghdr m[2] = {{{&a, sizeof a, &v, 1}}, {{&a, sizeof a, &v, 1}}}; IS(2, sendmmsg(s, m, 2, 0)););
    P("udp_recvmmsg", int s = udp(9151); struct sockaddr_in a = local(9151);
      sendto(s, "abc", 3, 0, (void *)&a, sizeof a); usleep(20000); struct iovec v = {room, 99};
      struct mmsghdr m[2] = {{{0, 0, &v, 1}}, {{0, 0, &v, 1}}}; IS(1, recvmmsg(s, m, 2, MSG_DONTWAIT, 0)););
    P("udp_sender_told", int s = udp(9152); struct sockaddr_in a = local(9152);
      sendto(s, "abc", 3, 0, (void *)&a, sizeof a); usleep(20000); socklen_t l = sizeof a; a.sin_port = 0;
      recvfrom(s, room, 9, MSG_DONTWAIT, (void *)&a, &l); IS(9152, ntohs(a.sin_port)););
    P("udp_v6_loopback", int s = socket(AF_INET6, SOCK_DGRAM, 0);
      struct sockaddr_in6 a = {AF_INET6, htons(9153), 0, IN6ADDR_LOOPBACK_INIT}; bind(s, (void *)&a, sizeof a););
}

static void ask_local(void)
{
    P("pair_stream", int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p); write(p[0], "abc", 3);
      IS(3, told(p[1], room, 0)););
    P("pair_datagram_bounds", int p[2]; socketpair(AF_UNIX, SOCK_DGRAM, 0, p); write(p[0], "abc", 3);
      write(p[0], "de", 2); IS(3, told(p[1], room, 0)););
    P("pair_seqpacket", int p[2]; if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p)) return -1; write(p[0], "abc", 3);
      write(p[0], "de", 2); IS(3, told(p[1], room, 0)););
    P("pair_nonblocking", int p[2]; socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p);
      read(p[0], room, 1) < 0 ? -1 : 0;);
    P("pair_fills", int p[2]; socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p); int n = 0;
      while (n < 999 && write(p[0], room, 65536) > 0) n++; N("%s", n ? "took some" : "none"); n < 999 ? 0 : 1;);
    P("pair_end", int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p); close(p[0]); IS(0, told(p[1], room, 0)););
    P("pair_broken", int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p); close(p[0]);
      send(p[1], "x", 1, MSG_NOSIGNAL) < 0 ? -1 : 0;);
    P("pair_half_closed", int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p); shutdown(p[0], SHUT_WR);
      IS(0, told(p[1], room, 0)););
    P("pair_hang_up", int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p); close(p[0]);
      struct pollfd f = {p[1], POLLIN, 0}; poll(&f, 1, 100); N("%d", f.revents); 0;);
    P("pair_descriptor_passed", int p[2]; socketpair(AF_UNIX, SOCK_STREAM, 0, p); char c[CMSG_SPACE(4)] = {0};
      struct iovec v = {"x", 1};
      struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = c, .msg_controllen = sizeof c};
      struct cmsghdr *h = CMSG_FIRSTHDR(&m); h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS;
      h->cmsg_len = CMSG_LEN(4); *(int *)CMSG_DATA(h) = 1; if (sendmsg(p[0], &m, 0) < 0) return -1;
      struct iovec w = {room, 1}; m.msg_iov = &w; memset(c, 0, sizeof c);
      m.msg_controllen = sizeof c; if (recvmsg(p[1], &m, MSG_DONTWAIT) < 0) return -1;
      N("%s", CMSG_FIRSTHDR(&m) ? "passed" : "lost"); CMSG_FIRSTHDR(&m) ? 0 : 1;);
    P("pair_inet", int p[2]; socketpair(AF_INET, SOCK_STREAM, 0, p););
    P("unix_bind_root", int s = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un a = {AF_UNIX, "/sock"};
      bind(s, (void *)&a, sizeof a););
    P("unix_connect_missing", int s = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un a = {AF_UNIX, "/none"};
      connect(s, (void *)&a, sizeof a););
    P("unix_connect_file", int s = socket(AF_UNIX, SOCK_STREAM, 0); struct sockaddr_un a = {AF_UNIX, "/etc/passwd"};
      connect(s, (void *)&a, sizeof a););
    P("unix_datagram_bind", int s = socket(AF_UNIX, SOCK_DGRAM, 0); struct sockaddr_un a = {AF_UNIX, W "dsock"};
      bind(s, (void *)&a, sizeof a););
    P("unix_listen_unbound", int s = socket(AF_UNIX, SOCK_STREAM, 0); listen(s, 1););
    P("vsock_datagram", socket(AF_VSOCK, SOCK_DGRAM, 0) < 0 ? -1 : 0;);
    P("vsock_bind", int s = socket(AF_VSOCK, SOCK_STREAM, 0);
      struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_port = 7000, .svm_cid = VMADDR_CID_ANY};
      bind(s, (void *)&a, sizeof a););
    P("vsock_listen", int s = socket(AF_VSOCK, SOCK_STREAM, 0);
      struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_port = 7001, .svm_cid = VMADDR_CID_ANY};
      bind(s, (void *)&a, sizeof a) || listen(s, 1););
    P("vsock_buffer_size", int s = socket(AF_VSOCK, SOCK_STREAM, 0); unsigned long n = 0; socklen_t l = sizeof n;
      getsockopt(s, AF_VSOCK, SO_VM_SOCKETS_BUFFER_SIZE, &n, &l););
    P("socket_bad_family", socket(99, SOCK_STREAM, 0) < 0 ? -1 : 0;);
    P("socket_bad_type", socket(AF_INET, 99, 0) < 0 ? -1 : 0;);
    P("socket_bad_protocol", socket(AF_INET, SOCK_STREAM, 99) < 0 ? -1 : 0;);
    P("socket_udp_as_stream", socket(AF_INET, SOCK_STREAM, IPPROTO_UDP) < 0 ? -1 : 0;);
    P("socket_bluetooth", socket(31, SOCK_RAW, 0) < 0 ? -1 : 0;);
    P("socket_alg", socket(38, SOCK_SEQPACKET, 0) < 0 ? -1 : 0;);
    P("socket_can", socket(29, SOCK_RAW, 1) < 0 ? -1 : 0;);
    P("socket_icmp", socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP) < 0 ? -1 : 0;);
    P("socket_raw6", socket(AF_INET6, SOCK_RAW, 58) < 0 ? -1 : 0;);
    P("bind_on_file", int f = open("/etc/passwd", O_RDONLY); struct sockaddr_in a = local(1);
      bind(f, (void *)&a, sizeof a););
    P("accept_on_pipe", int p[2]; pipe(p); accept(p[0], 0, 0) < 0 ? -1 : 0;);
}

static void ask_interfaces(void)
{
    P("interface_names", struct if_nameindex *n = if_nameindex(); N("%.2s", n && n->if_name ? n->if_name : "none");
      n ? 0 : -1;);
    P("interface_index", IS(1, if_nametoindex("lo")););
    P("interface_loopback_flags", struct ifreq q = {.ifr_name = "lo"}; int s = socket(AF_INET, SOCK_DGRAM, 0);
      int r = ioctl(s, SIOCGIFFLAGS, &q); N("%s", q.ifr_flags & IFF_UP ? "up" : "down"); r;);
    P("interface_loopback_address", struct ifreq q = {.ifr_name = "lo"}; int s = socket(AF_INET, SOCK_DGRAM, 0);
      int r = ioctl(s, SIOCGIFADDR, &q); N("%s", r ? "" : inet_ntoa(((struct sockaddr_in *)&q.ifr_addr)->sin_addr));
      r;);
    P("interface_mtu", struct ifreq q = {.ifr_name = "lo"}; int s = socket(AF_INET, SOCK_DGRAM, 0);
      ioctl(s, SIOCGIFMTU, &q););
    P("interface_missing", struct ifreq q = {.ifr_name = "eth9"}; int s = socket(AF_INET, SOCK_DGRAM, 0);
      ioctl(s, SIOCGIFFLAGS, &q););
    P("interface_list", struct ifconf c = {sizeof room, {room}}; int s = socket(AF_INET, SOCK_DGRAM, 0);
      int r = ioctl(s, SIOCGIFCONF, &c); N("%d", c.ifc_len / (int)sizeof(struct ifreq)); r;);
    P("interface_set_flags", struct ifreq q = {.ifr_name = "lo", .ifr_flags = IFF_UP};
      int s = socket(AF_INET, SOCK_DGRAM, 0); ioctl(s, SIOCSIFFLAGS, &q););
    P("netlink_bind", struct sockaddr a = {AF_NETLINK}; int s = socket(AF_NETLINK, SOCK_RAW, 0); bind(s, &a, 12););
    P("netlink_generic", socket(AF_NETLINK, SOCK_RAW, 16) < 0 ? -1 : 0;);
    P("service_by_name", getservbyname("http", "tcp") ? 0 : 1;);
    P("protocol_by_name", getprotobyname("tcp") ? 0 : 1;);
    P("numeric_v6", struct addrinfo *a = 0; int r = getaddrinfo("::1", "80", 0, &a); N("%d", r); r ? 1 : 0;);
    P("passive_address", struct addrinfo h = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
      struct addrinfo *a = 0; int r = getaddrinfo(0, "80", &h, &a); N("%d", r); r ? 1 : 0;);
    P("name_of_loopback", struct sockaddr_in a = local(80);
      int r = getnameinfo((void *)&a, sizeof a, room, 99, 0, 0, NI_NUMERICHOST); N("%s", r ? "" : room); r ? 1 : 0;);
}

void ask_sockets(void)
{
    ask_tcp();
    ask_options();
    ask_datagrams();
    ask_local();
    ask_interfaces();
}
