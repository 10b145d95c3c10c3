#ifndef CLABNODE_H
#define CLABNODE_H

#include <stdint.h>
#include <sys/types.h>

// Every function answers -errno on failure unless it says otherwise.

// Makes new network, mount, pid, uts and ipc namespaces and starts `program` as pid 1 in them, with /proc of its own
// and no mount propagation to or from the outside. The process is killed when the *calling thread* ends, so the
// caller must be a thread that does nothing but wait for it; afterwards that thread stays in the new namespaces.
// Of the open descriptors, 0, 1, 2 and `kept` survive.
pid_t clabnode_start_node(const char *program, char *const argv[], char *const envp[], int kept);

struct clabnode_spawn {
    // argv[0] is looked up in the PATH of envp's caller unless it holds a slash.
    char *const *argv;
    char *const *envp;
    int standard_input, standard_output, standard_error;
    // A network namespace to enter before the program starts, or -1.
    int network_namespace;
    // Makes standard input the controlling terminal of a new session.
    int terminal;
};
// Starts a program with exactly the three descriptors given. A program that cannot be started exits with 127 after
// writing the reason to its standard error.
pid_t clabnode_spawn(const struct clabnode_spawn *spawn);

// Waits for a child. `exit_code`: as a shell says it, 128 + signal for a death by signal; `signal`: 0 or the signal.
int clabnode_wait(pid_t pid, int *exit_code, int *signal);
// The same without waiting: 0 and nothing changed when the child still runs, 1 when it was reaped.
int clabnode_reap(pid_t pid);

// Makes orphaned descendants our children, as they are pid 1's.
int clabnode_become_subreaper(void);

int clabnode_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
extern const unsigned long clabnode_mount_bind, clabnode_mount_recursive, clabnode_mount_shared,
    clabnode_mount_nosuid, clabnode_mount_nodev;
// Detaches a mount; it goes when its last user goes.
int clabnode_unmount(const char *target);

// A pipe that no other program inherits: [read, write].
int clabnode_pipe(int ends[2]);

int clabnode_open_terminal(int *controller, int *terminal);
int clabnode_set_window(int controller, uint16_t rows, uint16_t columns);

// A zlib stream in pieces, with a preset dictionary. `clabnode_inflate` answers how many bytes it made of all of the
// input, or -1: malformed, or more than `room`.
struct clabnode_inflater;
struct clabnode_inflater *clabnode_inflater_new(const uint8_t *dictionary, unsigned count);
long clabnode_inflate(struct clabnode_inflater *inflater, const uint8_t *input, unsigned count, uint8_t *output,
                      unsigned room);
void clabnode_inflater_free(struct clabnode_inflater *inflater);

// A blocking TCP connect with a deadline, from inside a network namespace (-1: our own). `address` is a numeric IPv4
// or IPv6 address. Answers a connected socket that blocks.
int clabnode_connect(int network_namespace, const char *address, uint16_t port, int timeout_milliseconds);

#endif
