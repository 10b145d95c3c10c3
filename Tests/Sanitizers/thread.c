// What ThreadSanitizer has to be told about Swift's `Mutex` on Linux; scripts/sanitize.sh links it in, with `--wrap` for each
// of the three functions, so that their callers come here. Weak: a program without mutexes links no library of theirs.

#include <stdbool.h>
#include <stdint.h>

#define WRAP(type, name, symbol, ...)                                                                                  \
    type wrap_##name(__VA_ARGS__) __asm__("__wrap_" symbol);                                                           \
    type real_##name(__VA_ARGS__) __asm__("__real_" symbol) __attribute__((weak))
#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *self

void __tsan_acquire(void *address);
void __tsan_release(void *address);

// It is its slow half. The fast half (nobody else wants the lock) is compiled into the caller, where the sanitizer
// sees its atomics. A lock that others want is taken and given in libswiftSynchronization.so, which is not instrumented:
// whatever a contended mutex protects would be reported as a race.
//
// These are Swift methods: `self`, the address of the lock's word, is in the context register. The fast half works on
// that same word, so both halves share one clock of the sanitizer's.

WRAP(SWIFT void, lock, "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF", uint32_t thread, SELF);
WRAP(SWIFT bool, try_lock, "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF", SELF);
WRAP(SWIFT void, unlock, "$s15Synchronization12_MutexHandleV11_unlockSlowyyF", SELF);

SWIFT void wrap_lock(uint32_t thread, SELF) {
    real_lock(thread, self);
    __tsan_acquire(self);
}

SWIFT bool wrap_try_lock(SELF) {
    bool is_locked = real_try_lock(self);
    if (is_locked) __tsan_acquire(self);
    return is_locked;
}

SWIFT void wrap_unlock(SELF) {
    __tsan_release(self);
    real_unlock(self);
}
