#define _GNU_SOURCE
#include "cmeshlinux.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <malloc.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int result(int value) { return value < 0 ? -errno : value; }

// Network namespaces ---------------------------------------------------------------------------------------------

int cmx_enter_network_namespace(int ns) { return result(setns(ns, CLONE_NEWNET)); }

int cmx_new_network_namespace(void) { return result(unshare(CLONE_NEWNET)); }

int cmx_socket_in_network_namespace(int ns, int home, int domain, int type, int protocol) {
  if (setns(ns, CLONE_NEWNET) < 0) return -errno;
  int made = result(socket(domain, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
  if (setns(home, CLONE_NEWNET) < 0) {
    static const char message[] = "martlet: cannot return to the own network namespace; stopping\n";
    ssize_t ignored = write(2, message, sizeof message - 1);
    (void)ignored;
    abort();
  }
  return made;
}

static int identity(int failed, const struct stat *found, uint64_t *device, uint64_t *inode) {
  if (failed < 0) return -errno;
  *device = found->st_dev;
  *inode = found->st_ino;
  return 0;
}

int cmx_identity(int fd, uint64_t *device, uint64_t *inode) {
  struct stat found;
  return identity(fstat(fd, &found), &found, device, inode);
}

int cmx_identity_of_path(const char *path, uint64_t *device, uint64_t *inode) {
  struct stat found;
  return identity(stat(path, &found), &found, device, inode);
}

// Descriptors ----------------------------------------------------------------------------------------------------

int cmx_open_for_reading(const char *path) { return result(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)); }

int cmx_open_for_writing(const char *path) { return result(open(path, O_WRONLY | O_CLOEXEC)); }

int cmx_open_for_appending(const char *path, unsigned mode) {
  return result(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, mode));
}

int cmx_duplicate(int fd) { return result(fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

static int64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int cmx_wait(int fd, short events, int wakeup, int timeout_ms) {
  struct pollfd polled[2] = {{.fd = fd, .events = events}, {.fd = wakeup, .events = POLLIN}};
  int64_t end = timeout_ms < 0 ? 0 : now_ms() + timeout_ms;
  for (;;) {
    int left = -1;
    if (timeout_ms >= 0) {
      int64_t rest = end - now_ms();
      left = rest < 0 ? 0 : (int)rest;
    }
    int ready = poll(polled, wakeup < 0 ? 1 : 2, left);
    if (ready < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    if (ready == 0) return 0;
    if (polled[0].revents & POLLNVAL) return -EBADF;
    if (polled[0].revents) return 1;
    return 2;
  }
}

_Static_assert(CMX_POLL_HANG_UP == POLLRDHUP, "poll flag");

const char *cmx_describe(int code) { return strerrordesc_np(code); }

int cmx_eventfd(void) { return result(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)); }

// Unix sockets ---------------------------------------------------------------------------------------------------

static int unix_address(const char *path, struct sockaddr_un *address) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address->sun_path) return -ENAMETOOLONG;
  strcpy(address->sun_path, path);
  return 0;
}

int cmx_unix_connect(const char *path, int type) {
  struct sockaddr_un address;
  int failed = unix_address(path, &address);
  if (failed) return failed;
  int sock = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (sock < 0) return -errno;
  // A full backlog answers EAGAIN at once on a non-blocking socket; the caller waits and tries again.
  if (connect(sock, (struct sockaddr *)&address, sizeof address) < 0) {
    int error = -errno;
    close(sock);
    return error;
  }
  return sock;
}

int cmx_unix_listen(const char *path, int type, int backlog, unsigned mode) {
  char beside[sizeof((struct sockaddr_un *)0)->sun_path];
  int length = snprintf(beside, sizeof beside, "%s.new", path);
  if (length < 0 || (size_t)length >= sizeof beside) return -ENAMETOOLONG;
  struct sockaddr_un address;
  int failed = unix_address(beside, &address);
  if (failed) return failed;
  int sock = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (sock < 0) return -errno;
  unlink(beside);
  if (bind(sock, (struct sockaddr *)&address, sizeof address) < 0 || chmod(beside, mode) < 0 ||
      listen(sock, backlog) < 0 || rename(beside, path) < 0) {
    int error = -errno;
    unlink(beside);
    close(sock);
    return error;
  }
  return sock;
}

int cmx_unix_pair(int type, int *first, int *second) {
  int made[2];
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, made) < 0) return -errno;
  *first = made[0];
  *second = made[1];
  return 0;
}

int cmx_accept(int listener) { return result(accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)); }

ssize_t cmx_send(int sock, const void *bytes, size_t count, int fd) {
  struct iovec data = {.iov_base = (void *)bytes, .iov_len = count};
  struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr aligned;
  } control;
  if (fd >= 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  ssize_t sent;
  do sent = sendmsg(sock, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

ssize_t cmx_receive(int sock, void *bytes, size_t capacity, int *fd) {
  struct iovec data = {.iov_base = bytes, .iov_len = capacity};
  // Room for more descriptors than are allowed, so that surplus ones are seen and closed by us.
  enum { descriptors_max = 16 };
  union {
    char bytes[CMSG_SPACE(descriptors_max * sizeof(int))];
    struct cmsghdr aligned;
  } control;
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  *fd = -1;
  ssize_t received;
  do received = recvmsg(sock, &message, MSG_CMSG_CLOEXEC);
  while (received < 0 && errno == EINTR);
  if (received < 0) return -errno;
  int count = 0;
  int passed[descriptors_max];
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    int here = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < here && count < descriptors_max; i++, count++)
      memcpy(&passed[count], CMSG_DATA(header) + (size_t)i * sizeof(int), sizeof(int));
  }
  ssize_t verdict = received;
  if (count > 1) verdict = -EPROTO;
  if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) verdict = -EMSGSIZE;
  if (verdict < 0) {
    for (int i = 0; i < count; i++) close(passed[i]);
  } else if (count == 1) {
    *fd = passed[0];
  }
  return verdict;
}

// Programs -------------------------------------------------------------------------------------------------------

static int write_all(int fd, const char *bytes, size_t count) {
  while (count > 0) {
    ssize_t written = write(fd, bytes, count);
    if (written < 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    bytes += written;
    count -= (size_t)written;
  }
  return lseek(fd, 0, SEEK_SET) < 0 ? -errno : 0;
}

// What else we have open is not the program's: descriptors made without close-on-exec by a library would keep ports
// and pipes alive in it.
static int spawn(const char *const argv[], const char *const environment[], const char *directory, int in, int out,
                 int err, pid_t *child) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  sigset_t none, defaults;
  sigemptyset(&none);
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  posix_spawn_file_actions_adddup2(&actions, in, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_adddup2(&actions, err, 2);
  posix_spawn_file_actions_addclosefrom_np(&actions, 3);
  if (directory) posix_spawn_file_actions_addchdir_np(&actions, directory);
  int failed =
      posix_spawnp(child, argv[0], &actions, &attributes, (char *const *)argv, (char *const *)environment);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  return -failed;
}

// Waits for the child; kills it when the time is over. Without pidfd_open (before Linux 5.3) it polls.
static int wait_for(pid_t child, int timeout_ms, int *status) {
  int failed = 0;
  int handle = (int)syscall(SYS_pidfd_open, child, 0);
  if (handle >= 0) {
    int ended = cmx_wait(handle, POLLIN, -1, timeout_ms);
    close(handle);
    if (ended <= 0) failed = ended < 0 ? ended : -ETIMEDOUT;
  } else {
    int64_t end = now_ms() + timeout_ms;
    for (;;) {
      siginfo_t info = {0};
      if (waitid(P_PID, (id_t)child, &info, WEXITED | WNOHANG | WNOWAIT) < 0) break;
      if (info.si_pid == child) break;
      if (now_ms() >= end) {
        failed = -ETIMEDOUT;
        break;
      }
      struct timespec pause = {.tv_nsec = 2000000};
      nanosleep(&pause, NULL);
    }
  }
  if (failed) kill(child, SIGKILL);
  pid_t reaped;
  do reaped = waitpid(child, status, 0);
  while (reaped < 0 && errno == EINTR);
  if (reaped < 0 && !failed) failed = -errno;
  return failed;
}

int cmx_run_program(const char *const argv[], const void *input, size_t input_count, int timeout_ms, int *status,
                    int *out, int *err) {
  int failed = 0;
  int in = memfd_create("in", MFD_CLOEXEC);
  *out = memfd_create("out", MFD_CLOEXEC);
  *err = memfd_create("err", MFD_CLOEXEC);
  if (in < 0 || *out < 0 || *err < 0) failed = -errno;
  if (!failed) failed = write_all(in, input, input_count);
  pid_t child = 0;
  static const char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                            "LC_ALL=C", NULL};
  if (!failed) failed = spawn(argv, environment, NULL, in, *out, *err, &child);
  if (!failed) failed = wait_for(child, timeout_ms, status);
  if (in >= 0) close(in);
  if (!failed && (lseek(*out, 0, SEEK_SET) < 0 || lseek(*err, 0, SEEK_SET) < 0)) failed = -errno;
  if (failed) {
    if (*out >= 0) close(*out);
    if (*err >= 0) close(*err);
    *out = *err = -1;
  }
  return failed;
}

int cmx_start_program(const char *const argv[], const char *const environment[], const char *directory, bool quiet,
                      pid_t *child) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0) return -errno;
  int failed = spawn(argv, environment, directory, null, quiet ? null : 1, quiet ? null : 2, child);
  close(null);
  return failed;
}

// Netlink --------------------------------------------------------------------------------------------------------

int cmx_route_socket(void) {
  int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
  if (sock < 0) return -errno;
  struct sockaddr_nl address = {.nl_family = AF_NETLINK};
  if (bind(sock, (struct sockaddr *)&address, sizeof address) < 0) {
    int error = -errno;
    close(sock);
    return error;
  }
  return sock;
}

// Memory ---------------------------------------------------------------------------------------------------------

void cmx_trim_heap(void) { malloc_trim(0); }
