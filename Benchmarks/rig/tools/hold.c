// hold: idle-connection tool.  "hold server IP PORT" echoes and holds; "hold client IP PORT N" opens N
// connections, exchanges one byte on each (so the whole path is really open), prints "ready N seconds", then
// waits for EOF on stdin.
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
int main(int ac, char **av) {
    if (ac < 4) return 2;
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
    int N = atoi(av[4]), open_ = 0, inflight = 0, ok = 0, bad = 0;
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
                (void)!write(fd, "x", 1);
                e.events = EPOLLIN | EPOLLRDHUP;
                epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e);
            } else if (ev[i].events & EPOLLIN) {
                if (read(fd, b, sizeof b) > 0) {
                    ok++;
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
