// openload: HTTP/1.1 load generator for the mesh rig.
//   open-loop mode  : -r RATE   requests/s on a fixed timetable over -c keep-alive connections; every latency
//   is
//                     counted from the INTENDED send time, so a stalled peer is not under-reported.
//   short mode      : -S        closed loop, -c workers, each request on a new connection (Connection: close)
// Output: one JSON object.   cc -O2 -o openload openload.c
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
typedef struct {
    int fd, state, got, need;
    int64_t intended;
    size_t off;
    char hdr[4096];
    int hl;
} conn; // 0 connecting 1 idle 2 sending 3 reading
static int ep, C = 16, shortmode, body, rate = 1000;
static double dur = 8, warm = 1;
static struct sockaddr_in sa;
static char *req;
static size_t reqlen;
static conn *cs;
static int64_t *lat;
static size_t nlat, caplat, errs, done, bytes_in;
static int64_t t0, tmeas, tend;
static int *idle, nidle, ihead, itail; // ring of idle connections, oldest first
static inline void putidle(int i) {
    idle[itail] = i;
    itail = (itail + 1) % C;
    nidle++;
}
static inline int getidle(void) {
    int i = idle[ihead];
    ihead = (ihead + 1) % C;
    nidle--;
    return i;
}
static int64_t nextdue, step, pend_head;
static uint64_t sched, issued;
static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static void rec(int64_t a, int64_t n) {
    done++;
    if (a >= tmeas && n <= tend + 2000000000LL) {
        if (nlat < caplat) lat[nlat++] = n - a;
    }
}
static void startconn(conn *c) {
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    int one = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->state = 0;
    c->off = 0;
    c->got = 0;
    c->need = -1;
    c->hl = 0;
    if (shortmode) c->intended = now();
    int r = connect(c->fd, (struct sockaddr *)&sa, sizeof sa);
    if (r < 0 && errno != EINPROGRESS) {
        errs++;
        close(c->fd);
        c->fd = -1;
        return;
    }
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e);
}
static void push(conn *c) {
    while (c->off < reqlen) {
        ssize_t n = send(c->fd, req + c->off, reqlen - c->off, MSG_NOSIGNAL);
        if (n <= 0) return;
        c->off += n;
    }
    c->state = 3;
    c->got = 0;
    c->need = -1;
    c->hl = 0;
}
static void issue(conn *c, int64_t intended) {
    c->intended = intended;
    c->off = 0;
    c->state = 2;
    push(c);
}
static void fail(conn *c) {
    int st = c->state;
    close(c->fd);
    if (st == 2 || st == 3 || shortmode) errs++;
    if (now() < tend) {
        if (shortmode && errs > 2000 && errs > done) exit(3);
        startconn(c);
    } else
        c->fd = -1;
}
static void finish(conn *c) {
    int64_t n = now();
    rec(c->intended, n);
    if (shortmode) {
        close(c->fd);
        c->fd = -1;
        if (n < tend) startconn(c);
    } else {
        c->state = 1;
        putidle(c - cs);
    }
}
static void rd(conn *c) {
    char b[65536];
    for (;;) {
        ssize_t n = recv(c->fd, b, sizeof b, 0);
        if (n < 0) {
            if (errno == EAGAIN) return;
            fail(c);
            return;
        }
        if (n == 0) {
            if (shortmode && c->state == 3 && c->need == 0 && c->got >= 0) {
                finish(c);
                return;
            }
            fail(c);
            return;
        }
        bytes_in += n;
        if (c->state != 3) continue;
        char *p = b;
        ssize_t left = n;
        if (c->need < 0) {
            int k = left;
            if (k > (int)sizeof c->hdr - 1 - c->hl) k = sizeof c->hdr - 1 - c->hl;
            memcpy(c->hdr + c->hl, b, k);
            int old = c->hl;
            c->hl += k;
            c->hdr[c->hl] = 0;
            char *e = strstr(c->hdr, "\r\n\r\n");
            if (!e) {
                if (c->hl >= (int)sizeof c->hdr - 1) {
                    fail(c);
                    return;
                }
                continue;
            }
            if (strncmp(c->hdr, "HTTP/1.", 7) || atoi(c->hdr + 9) != 200) {
                errs++;
                if (errs < 3) fprintf(stderr, "bad response: %.60s\n", c->hdr);
            }
            char *cl = strcasestr(c->hdr, "\r\ncontent-length:");
            c->need = cl ? atoi(cl + 17) : 0;
            int used = (e + 4 - c->hdr) - old;
            p = b + used;
            left = n - used;
        }
        c->need -= left;
        if (c->need <= 0) {
            c->need = 0;
            if (!shortmode) {
                finish(c);
                return;
            } /* short: wait for EOF */
        }
    }
}
static int cmp(const void *a, const void *b) {
    int64_t x = *(int64_t *)a, y = *(int64_t *)b;
    return x < y ? -1 : x > y;
}
int main(int ac, char **av) {
    int o, port;
    char *path = "/";
    char *extra = "";
    while ((o = getopt(ac, av, "c:r:d:w:b:p:H:S")) != -1)
        switch (o) {
        case 'c':
            C = atoi(optarg);
            break;
        case 'r':
            rate = atoi(optarg);
            break;
        case 'd':
            dur = atof(optarg);
            break;
        case 'w':
            warm = atof(optarg);
            break;
        case 'b':
            body = atoi(optarg);
            break;
        case 'p':
            path = optarg;
            break;
        case 'H':
            extra = optarg;
            break;
        case 'S':
            shortmode = 1;
            break;
        }
    if (ac - optind < 2) {
        fprintf(stderr, "usage: openload [-c conns] [-r rate | -S] [-d s] [-w warm] [-b body] [-p path] [-H "
                        "'K: v'] IP PORT\n");
        return 2;
    }
    sa.sin_family = AF_INET;
    inet_pton(AF_INET, av[optind], &sa.sin_addr);
    port = atoi(av[optind + 1]);
    sa.sin_port = htons(port);
    req = malloc(2048 + body);
    int n = sprintf(req, "%s %s HTTP/1.1\r\nHost: app\r\n%s%s%s", body ? "POST" : "GET", path,
                    shortmode ? "Connection: close\r\n" : "", extra, *extra ? "\r\n" : "");
    if (body) n += sprintf(req + n, "Content-Length: %d\r\n", body);
    n += sprintf(req + n, "\r\n");
    memset(req + n, 'x', body);
    reqlen = n + body;
    prctl(PR_SET_TIMERSLACK, 1UL);
    struct rlimit rl;
    getrlimit(RLIMIT_NOFILE, &rl);
    rl.rlim_cur = rl.rlim_max;
    setrlimit(RLIMIT_NOFILE, &rl);
    ep = epoll_create1(0);
    cs = calloc(C, sizeof *cs);
    idle = malloc(C * sizeof(int));
    caplat = (size_t)((shortmode ? 60000 : rate) * (dur + 5)) + 1000;
    lat = malloc(caplat * 8);
    t0 = now();
    tmeas = t0 + (int64_t)(warm * 1e9);
    tend = t0 + (int64_t)((warm + dur) * 1e9);
    for (int i = 0; i < C; i++)
        startconn(&cs[i]);
    step = 1000000000LL / rate;
    int64_t due = t0 + 200000000LL;
    int64_t late = 0;
    uint64_t nsched = 0;
    struct epoll_event ev[256];
    for (;;) {
        int64_t t = now();
        if (t >= tend + (shortmode ? 0 : 500000000LL)) break;
        if (!shortmode) {
            while (due <= t && due < tend && nidle) {
                if (t - due > late) late = t - due;
                issue(&cs[getidle()], due);
                due += step;
                nsched++;
            }
            if (due >= tend && nidle == C) break;
        }
        int64_t wait = tend + 500000000LL - t;
        if (!shortmode && nidle && due < tend) {
            wait = due - t;
            if (wait < 0) wait = 0;
        }
        struct timespec ts = {wait / 1000000000LL, wait % 1000000000LL};
        int k = epoll_pwait2(ep, ev, 256, &ts, NULL);
        for (int i = 0; i < k; i++) {
            conn *c = ev[i].data.ptr;
            if (c->fd < 0) continue;
            if (c->state == 0) {
                if (ev[i].events & (EPOLLERR | EPOLLHUP)) {
                    fail(c);
                    continue;
                }
                if (ev[i].events & EPOLLOUT) {
                    if (shortmode) {
                        c->off = 0;
                        c->state = 2;
                        push(c);
                    } else {
                        c->state = 1;
                        putidle(c - cs);
                    }
                }
            } else if (c->state == 2 && (ev[i].events & EPOLLOUT))
                push(c);
            if (c->fd >= 0 && (ev[i].events & (EPOLLIN | EPOLLRDHUP))) rd(c);
        }
    }
    qsort(lat, nlat, 8, cmp);
    double s = 0;
    for (size_t i = 0; i < nlat; i++)
        s += lat[i];
#define P(q) (nlat ? lat[(size_t)((nlat - 1) * (q))] / 1000.0 : -1)
    printf("{\"mode\":\"%s\",\"n\":%zu,\"rps\":%.1f,\"errors\":%zu,\"mean_us\":%.1f,\"p50_us\":%.1f,\"p90_"
           "us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,\"max_late_us\":%.1f}\n",
           shortmode ? "short" : "open", nlat, nlat / dur, errs, nlat ? s / nlat / 1000 : -1, P(.5), P(.9),
           P(.99), P(.999), P(1), late / 1000.0);
    return 0;
}
