// hold: idle-connection tool.  "hold server IP PORT" echoes and holds; "hold client IP PORT N [http1|http2]" opens
// N connections, exchanges one byte, or one request and its whole answer, on each (so the whole path is really
// open), prints {"ready": N, "failed": N, "seconds": S}, then waits for EOF on stdin.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}
// What a client says first, and how it knows that the answer is complete.
enum { ECHO, HTTP1, HTTP2 };
static int mode = ECHO;
static const char http1_request[] = "GET / HTTP/1.1\r\nHost: app\r\nx-variant: canary\r\n\r\n";
// The preface (RFC 9113, 3.4), empty SETTINGS, and HEADERS with END_STREAM and END_HEADERS on stream 1: GET, http,
// "/" from the static table of HPACK, then ":authority: app" and "x-variant: canary" literally.
static const char http2_request[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                    "\0\0\0\x4\0\0\0\0\0"
                                    "\0\0\x1a\x1\x5\0\0\0\x1"
                                    "\x82\x86\x84\x1\x3" "app"
                                    "\0\x9" "x-variant" "\x6" "canary";
static const char settings_ack[] = "\0\0\0\x4\x1\0\0\0\0";
typedef struct {
    int have;             // octets in head
    long left;            // of the body or frame that is being skipped; -1: not known yet
    int last;             // the frame that is being skipped ends the stream
    unsigned char head[2048];
} answer;

static void say_hello(int fd) {
    if (mode == HTTP1)
        (void)!write(fd, http1_request, sizeof http1_request - 1);
    else if (mode == HTTP2)
        (void)!write(fd, http2_request, sizeof http2_request - 1);
    else
        (void)!write(fd, "x", 1);
}

// 1: the answer is complete, -1: it is none.
static int take(answer *a, int fd, const unsigned char *b, long n) {
    if (mode == ECHO) return 1;
    while (n > 0) {
        if (a->left > 0) {
            long k = n < a->left ? n : a->left;
            b += k, n -= k, a->left -= k;
            if (a->left == 0 && a->last) return 1;
            continue;
        }
        if (a->have >= (int)sizeof a->head - 1) return -1;
        a->head[a->have++] = *b++, n--;
        if (mode == HTTP1) {
            if (a->have < 4 || memcmp(a->head + a->have - 4, "\r\n\r\n", 4)) continue;
            a->head[a->have] = 0;
            char *length = strcasestr((char *)a->head, "\r\ncontent-length:");
            if (strncmp((char *)a->head + 8, " 200", 4) || !length) return -1;
            a->left = atol(length + 17), a->last = 1;
            if (a->left == 0) return 1;
        } else if (a->have == 9) {
            unsigned char *h = a->head;
            int type = h[3], flags = h[4], stream = h[8];
            a->left = h[0] << 16 | h[1] << 8 | h[2], a->have = 0;
            if (type == 3 || type == 7) return -1; // RST_STREAM, GOAWAY
            if (type == 4 && !(flags & 1)) (void)!write(fd, settings_ack, sizeof settings_ack - 1);
            a->last = type <= 1 && flags & 1 && stream == 1;
            if (a->left == 0 && a->last) return 1;
        }
    }
    return 0;
}

int main(int ac, char **av) {
    if (ac < 4) return 2;
    if (ac > 5) mode = !strcmp(av[5], "http1") ? HTTP1 : !strcmp(av[5], "http2") ? HTTP2 : ECHO;
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    struct sockaddr_in sa = {.sin_family = AF_INET, .sin_port = htons(atoi(av[3]))};
    inet_pton(AF_INET, av[2], &sa.sin_addr);
    int ep = epoll_create1(0);
    struct epoll_event ev[512];
    char b[4096];
    if (!strcmp(av[1], "server")) {
        int l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
        setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, 4);
        if (bind(l, (void *)&sa, sizeof sa) || listen(l, 4096)) {
            perror("bind");
            return 1;
        }
        struct epoll_event e = {.events = EPOLLIN, .data.fd = l};
        epoll_ctl(ep, EPOLL_CTL_ADD, l, &e);
        for (;;) {
            int k = epoll_wait(ep, ev, 512, -1);
            for (int i = 0; i < k; i++) {
                int fd = ev[i].data.fd;
                if (fd == l) {
                    int c;
                    while ((c = accept4(l, 0, 0, SOCK_NONBLOCK)) >= 0) {
                        e.events = EPOLLIN;
                        e.data.fd = c;
                        epoll_ctl(ep, EPOLL_CTL_ADD, c, &e);
                    }
                    continue;
                }
                ssize_t n = read(fd, b, sizeof b);
                if (n <= 0 && !(n < 0 && errno == EAGAIN))
                    close(fd);
                else if (n > 0)
                    (void)!write(fd, b, n);
            }
        }
    }
    if (ac < 5) return 2;
    int N = atoi(av[4]), open_ = 0, inflight = 0, ok = 0, bad = 0;
    answer *answers = calloc(N + 64, sizeof *answers);
    double t0 = now();
    while (ok + bad < N) {
        while (inflight < 64 && open_ < N) {
            int f = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
            if (f < 0) {
                perror("socket");
                return 1;
            }
            open_++;
            inflight++;
            answers[f] = (answer){.left = -1};
            connect(f, (void *)&sa, sizeof sa);
            struct epoll_event e = {.events = EPOLLOUT | EPOLLRDHUP, .data.fd = f};
            epoll_ctl(ep, EPOLL_CTL_ADD, f, &e);
        }
        int k = epoll_wait(ep, ev, 512, 5000);
        if (k == 0) break;
        for (int i = 0; i < k; i++) {
            int fd = ev[i].data.fd;
            struct epoll_event e = {.data.fd = fd};
            if (ev[i].events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) {
                bad++;
                inflight--;
                close(fd);
                continue;
            }
            if (ev[i].events & EPOLLOUT) {
                say_hello(fd);
                e.events = EPOLLIN | EPOLLRDHUP;
                epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e);
            } else if (ev[i].events & EPOLLIN) {
                ssize_t n = read(fd, b, sizeof b);
                int is_done = n > 0 ? take(&answers[fd], fd, (unsigned char *)b, n) : 0;
                if (is_done) {
                    ok += is_done > 0, bad += is_done < 0;
                    inflight--;
                    e.events = EPOLLIN;
                    epoll_ctl(ep, EPOLL_CTL_DEL, fd, &e);
                }
            }
        }
    }
    printf("{\"ready\":%d,\"failed\":%d,\"seconds\":%.3f}\n", ok, bad + (N - ok - bad), now() - t0);
    fflush(stdout);
    while (read(0, b, sizeof b) > 0)
        ;
    return 0;
}
