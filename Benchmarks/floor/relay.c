// relay: a plain TCP relay on one epoll loop, no TLS and no HTTP/2. The least that a proxy in the middle can cost.
//
//   relay LISTEN_IP:PORT=DEST_IP:PORT ...
//
// Edge-triggered; one buffer for the whole process; a connection holds memory only for what its socket refused.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { buffer_bytes = 256 << 10, events_max = 256, accepts_max = 64, listeners_max = 16 };

struct end {
    int fd;
    int is_listener;
    int has_ended;       // read to its end
    int is_shut;         // the other end's end was passed on
    int is_readable;     // an edge came that was not read dry
    char *pending;       // what this socket refused
    size_t pending_at, pending_bytes;
    struct end *other;   // the other end; for a listener nothing
    struct end *next_dead;
    struct sockaddr_in destination; // of a listener
};

static int epoll;
static char *buffer;
static struct end *dead;

static void add(struct end *end) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = end};
    if (end->is_listener) event.events = EPOLLIN;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, end->fd, &event)) {
        perror("epoll_ctl");
        exit(1);
    }
}

// Both ends are freed after the batch of events, in which they may occur again.
static void close_pair(struct end *end) {
    struct end *pair[2] = {end, end->other};
    for (int i = 0; i < 2; i++) {
        close(pair[i]->fd);
        pair[i]->fd = -1;
        pair[i]->next_dead = dead;
        dead = pair[i];
    }
}

// 1: everything is out; 0: the socket is full; -1: broken.
static int flush(struct end *end) {
    while (end->pending_bytes) {
        ssize_t n = send(end->fd, end->pending + end->pending_at, end->pending_bytes, MSG_NOSIGNAL);
        if (n < 0) return errno == EAGAIN ? 0 : -1;
        end->pending_at += n;
        end->pending_bytes -= n;
    }
    free(end->pending);
    end->pending = NULL;
    return 1;
}

// Moves what `from` has to its other end. False: the pair is closed.
static int move(struct end *from) {
    struct end *to = from->other;
    while (from->is_readable && !from->has_ended && !to->pending_bytes) {
        ssize_t n = recv(from->fd, buffer, buffer_bytes, 0);
        if (n < 0 && errno == EAGAIN) {
            from->is_readable = 0;
            break;
        }
        if (n < 0) {
            close_pair(from);
            return 0;
        }
        if (n == 0) {
            from->has_ended = 1;
            break;
        }
        ssize_t sent = send(to->fd, buffer, n, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) {
            close_pair(from);
            return 0;
        }
        if (sent < 0) sent = 0;
        if (sent < n) {
            to->pending = malloc(n - sent);
            if (!to->pending) abort();
            memcpy(to->pending, buffer + sent, n - sent);
            to->pending_at = 0;
            to->pending_bytes = n - sent;
        }
    }
    if (from->has_ended && !to->pending_bytes && !to->is_shut) {
        shutdown(to->fd, SHUT_WR);
        to->is_shut = 1;
    }
    if (from->is_shut && to->is_shut) {
        close_pair(from);
        return 0;
    }
    return 1;
}

static void accept_some(struct end *listener) {
    for (int i = 0; i < accepts_max; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        int out = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
        if (out < 0) {
            close(fd);
            return;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(out, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct sockaddr_in *to = &listener->destination;
        if (connect(out, (struct sockaddr *)to, sizeof *to) && errno != EINPROGRESS) {
            close(fd);
            close(out);
            continue;
        }
        struct end *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b);
        if (!a || !b) abort();
        a->fd = fd;
        b->fd = out;
        a->other = b;
        b->other = a;
        add(a);
        add(b);
    }
}

static struct sockaddr_in endpoint(const char *text) {
    char ip[64];
    int port;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (sscanf(text, "%63[^:]:%d", ip, &port) != 2 || inet_pton(AF_INET, ip, &address.sin_addr) != 1) {
        fprintf(stderr, "relay: %s: wanted IP:PORT\n", text);
        exit(2);
    }
    address.sin_port = htons(port);
    return address;
}

static void listen_at(char *argument) {
    char *destination = strchr(argument, '=');
    if (!destination) {
        fprintf(stderr, "relay: %s: wanted IP:PORT=IP:PORT\n", argument);
        exit(2);
    }
    *destination++ = 0;
    struct end *listener = calloc(1, sizeof *listener);
    if (!listener) abort();
    struct sockaddr_in address = endpoint(argument);
    int one = 1;
    listener->is_listener = 1;
    listener->destination = endpoint(destination);
    listener->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener->fd, (struct sockaddr *)&address, sizeof address) || listen(listener->fd, 4096)) {
        perror(argument);
        exit(1);
    }
    add(listener);
}

int main(int count, char **arguments) {
    if (count < 2 || count > listeners_max) {
        fprintf(stderr, "usage: relay LISTEN_IP:PORT=DEST_IP:PORT ...\n");
        return 2;
    }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_IGN);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    buffer = malloc(buffer_bytes);
    if (epoll < 0 || !buffer) abort();
    for (int i = 1; i < count; i++) listen_at(arguments[i]);

    struct epoll_event events[events_max];
    for (;;) {
        int ready = epoll_wait(epoll, events, events_max, -1);
        for (int i = 0; i < ready; i++) {
            struct end *end = events[i].data.ptr;
            if (end->is_listener) {
                accept_some(end);
                continue;
            }
            if (end->fd < 0) continue;
            if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) end->is_readable = 1;
            if (events[i].events & EPOLLOUT) {
                int flushed = flush(end);
                if (flushed < 0) {
                    close_pair(end);
                    continue;
                }
                if (flushed && !move(end->other)) continue;
            }
            move(end);
        }
        while (dead) {
            struct end *end = dead;
            dead = end->next_dead;
            free(end->pending);
            free(end);
        }
    }
}
