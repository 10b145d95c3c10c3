#define _GNU_SOURCE
#include "clabnode.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

const unsigned long clabnode_mount_bind = MS_BIND, clabnode_mount_recursive = MS_REC,
    clabnode_mount_shared = MS_SHARED, clabnode_mount_nosuid = MS_NOSUID, clabnode_mount_nodev = MS_NODEV;

// Between fork and exec only system calls are allowed: another thread may have held malloc's lock.

static void fail(const char *what) {
    const char *why = strerrordesc_np(errno);
    if (write(2, what, strlen(what)) < 0 || write(2, ": ", 2) < 0 || write(2, why, strlen(why)) < 0 ||
        write(2, "\n", 1) < 0) {
    }
    _exit(127);
}

static void default_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    for (int number = 1; number < 32; number++) signal(number, SIG_DFL);
}

// The raw call: glibc's close_range appeared in 2.34 only.
static void close_on_exec_from(unsigned first) {
    syscall(SYS_close_range, first, ~0U, CLOSE_RANGE_CLOEXEC);
}

pid_t clabnode_start_node(const char *program, char *const argv[], char *const envp[], int kept) {
    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC) < 0) return -errno;
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid > 0) return pid;
    default_signals();
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0) fail("prctl");
    setsid();
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) fail("making the mounts private");
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0) fail("mounting /proc");
    close_on_exec_from(3);
    if (kept >= 0) fcntl(kept, F_SETFD, 0);
    execve(program, argv, envp);
    fail(program);
    return -1;
}

pid_t clabnode_spawn(const struct clabnode_spawn *spawn) {
    pid_t pid = fork();
    if (pid < 0) return -errno;
    if (pid > 0) return pid;
    default_signals();
    // Move the three out of the way first: each may sit on the place of another.
    int in = fcntl(spawn->standard_input, F_DUPFD, 10), out = fcntl(spawn->standard_output, F_DUPFD, 10),
        err = fcntl(spawn->standard_error, F_DUPFD, 10);
    if (in < 0 || out < 0 || err < 0 || dup2(err, 2) < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0)
        fail("standard streams");
    setsid();
    if (spawn->terminal && ioctl(0, TIOCSCTTY, 0) < 0) fail("controlling terminal");
    if (spawn->network_namespace >= 0 && setns(spawn->network_namespace, CLONE_NEWNET) < 0)
        fail("entering the network namespace");
    close_on_exec_from(3);
    execvpe(spawn->argv[0], spawn->argv, spawn->envp);
    fail(spawn->argv[0]);
    return -1;
}

int clabnode_wait(pid_t pid, int *exit_code, int *signal) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    *exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return 0;
}

int clabnode_reap(pid_t pid) {
    int status;
    pid_t reaped = waitpid(pid, &status, WNOHANG);
    return reaped < 0 ? -errno : reaped > 0;
}

int clabnode_become_subreaper(void) { return prctl(PR_SET_CHILD_SUBREAPER, 1) < 0 ? -errno : 0; }

int clabnode_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data) {
    return mount(source, target, type, flags, data) < 0 ? -errno : 0;
}

int clabnode_unmount(const char *target) { return umount2(target, MNT_DETACH) < 0 ? -errno : 0; }

int clabnode_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0; }

int clabnode_open_terminal(int *controller, int *terminal) {
    if (openpty(controller, terminal, NULL, NULL, NULL) < 0) return -errno;
    fcntl(*controller, F_SETFD, FD_CLOEXEC);
    fcntl(*terminal, F_SETFD, FD_CLOEXEC);
    return 0;
}

int clabnode_set_window(int controller, uint16_t rows, uint16_t columns) {
    struct winsize size = {.ws_row = rows, .ws_col = columns};
    return ioctl(controller, TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

// socket(2) in another network namespace. The thread must come home: anything else would let whatever runs on it
// next speak from inside a pod.
static int socket_in(int network_namespace, int family) {
    if (network_namespace < 0) return socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0) return -1;
    if (setns(network_namespace, CLONE_NEWNET) < 0) {
        int why = errno;
        close(home);
        errno = why;
        return -1;
    }
    int made = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int why = errno;
    if (setns(home, CLONE_NEWNET) < 0) abort();
    close(home);
    errno = why;
    return made;
}

int clabnode_connect(int network_namespace, const char *address, uint16_t port, int timeout_milliseconds) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    int is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
    if (!is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) return -EINVAL;
    int made = socket_in(network_namespace, is_v4 ? AF_INET : AF_INET6);
    if (made < 0) return -errno;
    int done = is_v4 ? connect(made, (struct sockaddr *)&v4, sizeof v4)
                     : connect(made, (struct sockaddr *)&v6, sizeof v6);
    int why = done < 0 ? errno : 0;
    if (why == EINPROGRESS) {
        struct pollfd waiting = {.fd = made, .events = POLLOUT};
        int ready;
        do ready = poll(&waiting, 1, timeout_milliseconds);
        while (ready < 0 && errno == EINTR);
        socklen_t size = sizeof why;
        if (ready == 0) why = ETIMEDOUT;
        else if (getsockopt(made, SOL_SOCKET, SO_ERROR, &why, &size) < 0) why = errno;
    }
    if (why == 0) {
        fcntl(made, F_SETFL, fcntl(made, F_GETFL) & ~O_NONBLOCK);
        return made;
    }
    close(made);
    return -why;
}

struct clabnode_inflater {
    z_stream stream;
    const uint8_t *dictionary;
    unsigned count;
};

struct clabnode_inflater *clabnode_inflater_new(const uint8_t *dictionary, unsigned count) {
    struct clabnode_inflater *made = calloc(1, sizeof *made + count);
    if (!made) return NULL;
    memcpy(made + 1, dictionary, count);
    made->dictionary = (const uint8_t *)(made + 1);
    made->count = count;
    if (inflateInit(&made->stream) == Z_OK) return made;
    free(made);
    return NULL;
}

long clabnode_inflate(struct clabnode_inflater *inflater, const uint8_t *input, unsigned count, uint8_t *output,
                      unsigned room) {
    z_stream *stream = &inflater->stream;
    stream->next_in = (uint8_t *)input;
    stream->avail_in = count;
    stream->next_out = output;
    stream->avail_out = room;
    while (stream->avail_in > 0) {
        int result = inflate(stream, Z_SYNC_FLUSH);
        if (result == Z_NEED_DICT) result = inflateSetDictionary(stream, inflater->dictionary, inflater->count);
        if (result != Z_OK || (stream->avail_out == 0 && stream->avail_in > 0)) return -1;
    }
    return (long)(room - stream->avail_out);
}

void clabnode_inflater_free(struct clabnode_inflater *inflater) {
    inflateEnd(&inflater->stream);
    free(inflater);
}
