// Sockets and polling: see the header for the contract of each function.

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "cmeshloop.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

// Kernel headers for netfilter clash with <netinet/in.h>; both families use the same option number.
static constexpr int kOriginalDestination = 80;
#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef SO_ATTACH_REUSEPORT_CBPF
#define SO_ATTACH_REUSEPORT_CBPF 51
#endif
#ifndef SO_DETACH_REUSEPORT_BPF
#define SO_DETACH_REUSEPORT_BPF 68
#endif
#ifndef IPV6_TRANSPARENT
#define IPV6_TRANSPARENT 75
#endif
#ifndef IPV6_FREEBIND
#define IPV6_FREEBIND 78
#endif

static_assert(CML_READABLE == EPOLLIN && CML_WRITABLE == EPOLLOUT && CML_ERROR == EPOLLERR, "epoll values");
static_assert(CML_HANG_UP == EPOLLHUP && CML_PEER_FINISHED == EPOLLRDHUP, "epoll values");

// ---- Addresses

static uint64_t load_big_endian(const uint8_t *bytes) {
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return __builtin_bswap64(value);
}

static void store_big_endian(uint8_t *bytes, uint64_t value) {
    value = __builtin_bswap64(value);
    memcpy(bytes, &value, sizeof value);
}

static socklen_t to_sockaddr(const cml_endpoint *endpoint, bool as_v6, sockaddr_storage *storage) {
    memset(storage, 0, sizeof *storage);
    if (!endpoint->is_v6 && !as_v6) {
        auto *v4 = reinterpret_cast<sockaddr_in *>(storage);
        v4->sin_family = AF_INET;
        v4->sin_port = htons(endpoint->port);
        v4->sin_addr.s_addr = htonl(static_cast<uint32_t>(endpoint->low));
        return sizeof *v4;
    }
    auto *v6 = reinterpret_cast<sockaddr_in6 *>(storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(endpoint->port);
    store_big_endian(v6->sin6_addr.s6_addr, endpoint->high);
    store_big_endian(v6->sin6_addr.s6_addr + 8, endpoint->low);
    return sizeof *v6;
}

static int from_sockaddr(const sockaddr_storage *storage, cml_endpoint *endpoint) {
    *endpoint = cml_endpoint{};
    if (storage->ss_family == AF_INET) {
        auto *v4 = reinterpret_cast<const sockaddr_in *>(storage);
        endpoint->low = ntohl(v4->sin_addr.s_addr);
        endpoint->port = ntohs(v4->sin_port);
        return 0;
    }
    if (storage->ss_family != AF_INET6) return -EAFNOSUPPORT;
    auto *v6 = reinterpret_cast<const sockaddr_in6 *>(storage);
    endpoint->high = load_big_endian(v6->sin6_addr.s6_addr);
    endpoint->low = load_big_endian(v6->sin6_addr.s6_addr + 8);
    endpoint->port = ntohs(v6->sin6_port);
    endpoint->is_v6 = true;
    if (endpoint->high == 0 && endpoint->low >> 32 == 0xffff) {  // IPv4-mapped
        endpoint->low &= 0xffffffff;
        endpoint->is_v6 = false;
    }
    return 0;
}

// ---- Birth in a namespace

namespace {
/// The namespace a thread belongs to, opened once per thread, before the thread first leaves it.
struct Home {
    int descriptor = -1;
    ~Home() {
        if (descriptor >= 0) close(descriptor);
    }
};
}  // namespace

static thread_local Home home;

/// A socket keeps the namespace it was created in, so only socket(2) runs inside.
///
/// SAFETY: setns(2) moves the calling thread alone. Between the two calls nothing else runs on it: no
/// allocation, no callback, no Swift. When the way back fails the thread would go on serving one pod from
/// inside another, so the process ends instead.
static int socket_in_namespace(int network_namespace, int family, int kind = SOCK_STREAM) {
    const int type = kind | SOCK_NONBLOCK | SOCK_CLOEXEC;
    if (network_namespace < 0) {
        int made = socket(family, type, 0);
        return made < 0 ? -errno : made;
    }
    if (home.descriptor < 0) {
        home.descriptor = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (home.descriptor < 0) return -errno;
    }
    if (setns(network_namespace, CLONE_NEWNET) < 0) return -errno;
    int made = socket(family, type, 0);
    int error = errno;
    if (setns(home.descriptor, CLONE_NEWNET) < 0) {
        static const char text[] = "fatal: cannot return from a pod's network namespace; ending the process\n";
        (void)!write(STDERR_FILENO, text, sizeof text - 1);
        abort();
    }
    return made < 0 ? -error : made;
}

static int set_int(int socket, int level, int name, int value) {
    return setsockopt(socket, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

/// The IPv4 option works on an IPv6 socket too, and is what covers its IPv4 traffic.
static int set_transparent(int socket, bool is_v6) {
    int result = set_int(socket, SOL_IP, IP_TRANSPARENT, 1);
    if (is_v6) {
        int v6 = set_int(socket, SOL_IPV6, IPV6_TRANSPARENT, 1);
        if (v6 < 0) return v6;
    }
    return result;
}

int cml_set_keepalive(int socket, int idle, int interval, int count) {
    int result = set_int(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
    if (result == 0) result = set_int(socket, IPPROTO_TCP, TCP_KEEPIDLE, idle);
    if (result == 0) result = set_int(socket, IPPROTO_TCP, TCP_KEEPINTVL, interval);
    if (result == 0) result = set_int(socket, IPPROTO_TCP, TCP_KEEPCNT, count);
    return result;
}

int cml_set_user_timeout(int socket, unsigned milliseconds) {
    return set_int(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(milliseconds));
}

int cml_set_reset_on_close(int socket) {
    linger now = {1, 0};
    return setsockopt(socket, SOL_SOCKET, SO_LINGER, &now, sizeof now) < 0 ? -errno : 0;
}

int cml_pending_error(int socket) {
    int error = 0;
    socklen_t length = sizeof error;
    return getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &length) < 0 ? errno : error;
}

int cml_listen(const cml_listen_options *options, cml_listen_result *result) {
    *result = cml_listen_result{};
    result->step = "socket";
    bool is_v6 = options->local.is_v6;
    int made = socket_in_namespace(options->network_namespace, is_v6 ? AF_INET6 : AF_INET);
    if (made < 0) return made;
    auto fail = [&](const char *step, int error) {
        close(made);
        result->step = step;
        return error;
    };
    int error = set_int(made, SOL_SOCKET, SO_REUSEADDR, 1);
    if (error < 0) return fail("SO_REUSEADDR", error);
    if (options->reuse_port) set_int(made, SOL_SOCKET, SO_REUSEPORT, 1);
    if (options->mark != 0) {
        error = set_int(made, SOL_SOCKET, SO_MARK, static_cast<int>(options->mark));
        if (error < 0) return fail("SO_MARK", error);
    }
    if (is_v6) {
        error = set_int(made, IPPROTO_IPV6, IPV6_V6ONLY, options->dual_stack ? 0 : 1);
        if (error < 0) return fail("IPV6_V6ONLY", error);
    }
    if (options->transparent != CML_TRANSPARENT_OFF) {
        error = set_transparent(made, is_v6);
        if (error < 0 && options->transparent == CML_TRANSPARENT_REQUIRED) return fail("IP_TRANSPARENT", error);
        result->is_transparent = error == 0;
    }
    sockaddr_storage address;
    socklen_t length = to_sockaddr(&options->local, is_v6, &address);
    if (bind(made, reinterpret_cast<sockaddr *>(&address), length) < 0) return fail("bind", -errno);
    if (listen(made, options->backlog) < 0) return fail("listen", -errno);
    // A predecessor's steering; fails when there is none.
    if (options->reuse_port) set_int(made, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, 0);
    cml_endpoint local;
    error = cml_local_endpoint(made, &local);
    if (error < 0) return fail("getsockname", error);
    result->port = local.port;
    result->step = "";
    return made;
}

int cml_datagram(const cml_datagram_options *options, cml_listen_result *result) {
    *result = cml_listen_result{};
    result->step = "socket";
    bool is_v6 = options->local.is_v6;
    int made = socket_in_namespace(options->network_namespace, is_v6 ? AF_INET6 : AF_INET, SOCK_DGRAM);
    if (made < 0) return made;
    auto fail = [&](const char *step, int error) {
        close(made);
        result->step = step;
        return error;
    };
    int error = 0;
    if (options->reuse_port) {
        error = set_int(made, SOL_SOCKET, SO_REUSEPORT, 1);
        if (error < 0) return fail("SO_REUSEPORT", error);
    }
    if (options->mark != 0) {
        error = set_int(made, SOL_SOCKET, SO_MARK, static_cast<int>(options->mark));
        if (error < 0) return fail("SO_MARK", error);
    }
    if (is_v6) {
        error = set_int(made, IPPROTO_IPV6, IPV6_V6ONLY, options->dual_stack ? 0 : 1);
        if (error < 0) return fail("IPV6_V6ONLY", error);
    }
    sockaddr_storage address;
    socklen_t length = to_sockaddr(&options->local, is_v6, &address);
    if (bind(made, reinterpret_cast<sockaddr *>(&address), length) < 0) return fail("bind", -errno);
    cml_endpoint local;
    error = cml_local_endpoint(made, &local);
    if (error < 0) return fail("getsockname", error);
    result->port = local.port;
    result->step = "";
    return made;
}

/// Ports for dialling from another's address: the mesh's own are below, and Linux's default range for clients begins above. A
/// client whose plaintext connection to the same port of the pod was captured must not meet its own port again: conntrack
/// would take the proxy's connection for the client's, and neither would ever get an answer.
static const uint32_t kSpoofedPortMin = 16384;
static const uint32_t kSpoofedPorts = 16384;
/// What is taken, or waits after a connection's end, is passed over; then the kernel chooses.
static const int kSpoofAttemptsMax = 16;

/// In turn, so that the longest unused comes next, from anywhere: two generations of a proxy have the same pods.
static uint16_t spoofed_port() {
    static std::atomic<uint32_t> next{[] {
        uint32_t start = 0;
        (void)!getrandom(&start, sizeof start, 0);
        return start;
    }()};
    return static_cast<uint16_t>(kSpoofedPortMin + next.fetch_add(1, std::memory_order_relaxed) % kSpoofedPorts);
}

/// - `port`: to dial from when the address is another's; 0: the kernel chooses.
static int dial_from(const cml_dial_options *options, uint16_t port, bool *spoofed) {
    *spoofed = false;
    int made = socket_in_namespace(options->network_namespace, options->target.is_v6 ? AF_INET6 : AF_INET);
    if (made < 0) return made;
    if (options->mark != 0) {
        int error = set_int(made, SOL_SOCKET, SO_MARK, static_cast<int>(options->mark));
        if (error < 0) {
            close(made);
            return error;
        }
    }
    set_int(made, IPPROTO_TCP, TCP_NODELAY, 1);
    if (options->keepalive_idle > 0) {
        cml_set_keepalive(
            made, options->keepalive_idle, options->keepalive_interval, options->keepalive_count);
    }
    if (options->user_timeout_milliseconds > 0) cml_set_user_timeout(made, options->user_timeout_milliseconds);
    sockaddr_storage address;
    if (options->spoofs_source && options->source.is_v6 == options->target.is_v6) {
        cml_endpoint source = options->source;
        source.port = port;
        socklen_t length = to_sockaddr(&source, source.is_v6, &address);
        bool ready = set_transparent(made, source.is_v6) == 0
            && set_int(made, SOL_IP, IP_FREEBIND, 1) == 0
            && (!source.is_v6 || set_int(made, SOL_IPV6, IPV6_FREEBIND, 1) == 0);
        // The port need be free only towards this target: that is seen at connect.
        set_int(made, SOL_SOCKET, SO_REUSEADDR, 1);
        set_int(made, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (ready && bind(made, reinterpret_cast<sockaddr *>(&address), length) < 0) {
            ready = false;
            if (port != 0 && errno == EADDRINUSE) {
                close(made);
                return -EADDRINUSE;
            }
        }
        *spoofed = ready;
    }
    socklen_t length = to_sockaddr(&options->target, options->target.is_v6, &address);
    if (connect(made, reinterpret_cast<sockaddr *>(&address), length) < 0 && errno != EINPROGRESS) {
        int error = -errno;
        close(made);
        return error;
    }
    return made;
}

int cml_dial(const cml_dial_options *options, bool *spoofed) {
    for (int attempt = 0; options->spoofs_source && attempt < kSpoofAttemptsMax; attempt++) {
        int made = dial_from(options, spoofed_port(), spoofed);
        // Without the address no other port helps.
        if (made != -EADDRINUSE && !(made == -EADDRNOTAVAIL && *spoofed)) return made;
    }
    return dial_from(options, 0, spoofed);
}

int cml_steer(int listener, uint32_t index) {
    // socket(7): the program's value is the index of the member.
    sock_filter program[] = {{BPF_RET | BPF_K, 0, 0, index}};
    sock_fprog filter = {1, program};
    int result = setsockopt(listener, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &filter, sizeof filter);
    return result < 0 ? -errno : 0;
}

int cml_accept(int listener, cml_endpoint *peer) {
    sockaddr_storage address;
    socklen_t length = sizeof address;
    int made = accept4(listener, reinterpret_cast<sockaddr *>(&address), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (made < 0) return -errno;
    int error = from_sockaddr(&address, peer);
    if (error < 0) {
        close(made);
        return error;
    }
    set_int(made, IPPROTO_TCP, TCP_NODELAY, 1);
    return made;
}

int cml_local_endpoint(int socket, cml_endpoint *local) {
    sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getsockname(socket, reinterpret_cast<sockaddr *>(&address), &length) < 0) return -errno;
    return from_sockaddr(&address, local);
}

int cml_original_destination(int socket, cml_endpoint *destination) {
    sockaddr_storage address;
    memset(&address, 0, sizeof address);
    socklen_t length = sizeof(sockaddr_in);
    if (getsockopt(socket, SOL_IP, kOriginalDestination, &address, &length) == 0) {
        return from_sockaddr(&address, destination);
    }
    length = sizeof(sockaddr_in6);
    if (getsockopt(socket, SOL_IPV6, kOriginalDestination, &address, &length) < 0) return -errno;
    return from_sockaddr(&address, destination);
}

// ---- Polling

int cml_poll_create(void) {
    int made = epoll_create1(EPOLL_CLOEXEC);
    return made < 0 ? -errno : made;
}

int cml_poll_add(int poll, int descriptor, void *source, bool edge_triggered) {
    epoll_event event = {};
    event.events = edge_triggered ? uint32_t(EPOLLIN) | EPOLLOUT | EPOLLRDHUP | EPOLLET : uint32_t(EPOLLIN);
    event.data.ptr = source;
    return epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) < 0 ? -errno : 0;
}

int cml_poll_remove(int poll, int descriptor) {
    return epoll_ctl(poll, EPOLL_CTL_DEL, descriptor, nullptr) < 0 ? -errno : 0;
}

int cml_poll_wait(int poll, cml_event *events, int capacity, int timeout) {
    epoll_event ready[256];
    int count = epoll_wait(poll, ready, capacity < 256 ? capacity : 256, timeout);
    if (count < 0) return errno == EINTR ? 0 : -errno;
    for (int i = 0; i < count; i++) events[i] = cml_event{ready[i].events, ready[i].data.ptr};
    return count;
}

int cml_waker_create(void) {
    int made = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return made < 0 ? -errno : made;
}

void cml_waker_wake(int waker) {
    uint64_t one = 1;
    (void)!write(waker, &one, sizeof one);
}

void cml_waker_clear(int waker) {
    uint64_t count;
    (void)!read(waker, &count, sizeof count);
}

void cml_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
