#pragma once

// The kernel calls that Swift cannot make by itself: variadic ones, ones with ancillary data, ones that must not be
// torn apart by a thread switch. Every function returns a negative errno on failure and never sets anything else.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Network namespaces ---------------------------------------------------------------------------------------------

// Moves the calling thread into the network namespace of descriptor ns.
int cmx_enter_network_namespace(int ns);

// Gives the calling thread a new network namespace of its own.
int cmx_new_network_namespace(void);

// A close-on-exec, non-blocking socket that lives in namespace ns, made from any thread; the thread is back in
// namespace home when this returns. Aborts the process when it cannot go back: a thread in a foreign namespace would
// open the next socket in the wrong pod.
int cmx_socket_in_network_namespace(int ns, int home, int domain, int type, int protocol);

// Device and inode of a descriptor: what tells one namespace from another.
int cmx_identity(int fd, uint64_t *device, uint64_t *inode);
int cmx_identity_of_path(const char *path, uint64_t *device, uint64_t *inode);

// Descriptors ----------------------------------------------------------------------------------------------------

int cmx_open_for_reading(const char *path);
// Neither creates the file nor truncates it: for the kernel's settings.
int cmx_open_for_writing(const char *path);
int cmx_open_for_appending(const char *path, unsigned mode);
int cmx_duplicate(int fd);
// Waits until one of events (poll(2)) is there on fd: 1; the wake-up descriptor became readable: 2; nothing in time: 0.
// A negative timeout waits for ever; a negative wakeup is ignored.
int cmx_wait(int fd, short events, int wakeup, int timeout_ms);
int cmx_eventfd(void);
// POLLRDHUP, which Glibc shows Swift only with a feature macro.
#define CMX_POLL_HANG_UP 0x2000
// The text of an errno: a constant, or NULL for an unknown one.
const char *cmx_describe(int code);

// Unix sockets ---------------------------------------------------------------------------------------------------

// type: SOCK_STREAM or SOCK_SEQPACKET. Non-blocking, close-on-exec.
int cmx_unix_connect(const char *path, int type);
// Binds beside the path and renames, so that there is no moment without a socket file and none with the wrong mode.
int cmx_unix_listen(const char *path, int type, int backlog, unsigned mode);
int cmx_unix_pair(int type, int *first, int *second);
int cmx_accept(int listener);

// Sends one message, with one descriptor in SCM_RIGHTS when fd >= 0.
ssize_t cmx_send(int sock, const void *bytes, size_t count, int fd);
// Receives one message. *fd becomes the passed descriptor or -1. More than one descriptor: all are closed, -EPROTO.
// A truncated message or truncated ancillary data: what came is closed, -EMSGSIZE.
ssize_t cmx_receive(int sock, void *bytes, size_t capacity, int *fd);

// Memory ---------------------------------------------------------------------------------------------------------

// Gives whole free pages of the heap back to the kernel; glibc does so by itself only at the heap's end.
void cmx_trim_heap(void);

// Programs -------------------------------------------------------------------------------------------------------

// Runs a program to its end, in the namespaces of the calling thread. The input and both outputs are memory files, so
// no pipe can fill up or break. *status is the wait status; *out and *err are read from the start and closed by the
// caller. After timeout_ms the program is killed and -ETIMEDOUT returned.
int cmx_run_program(const char *const argv[], const void *input, size_t input_count, int timeout_ms, int *status,
                    int *out, int *err);

// Starts a program in `directory`, without input; its output goes where ours does, or nowhere. The caller waits for it.
int cmx_start_program(const char *const argv[], const char *const environment[], const char *directory, bool quiet,
                      pid_t *child);

// Netlink --------------------------------------------------------------------------------------------------------

// A NETLINK_ROUTE socket in the namespace of the calling thread.
int cmx_route_socket(void);
