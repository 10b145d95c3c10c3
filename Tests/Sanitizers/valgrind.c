// Preloaded under valgrind by scripts/sanitize.sh. Valgrind writes to the mask that is given to sigsuspend; libdispatch's
// is in read-only memory.

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

int sigsuspend(const sigset_t *mask) {
    sigset_t copy = *mask;
    return (int)syscall(SYS_rt_sigsuspend, &copy, 8);
}
