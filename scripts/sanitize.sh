#!/usr/bin/env bash
# scripts/sanitize.sh threads [MODULE...]: the unit tests under ThreadSanitizer, on a build of its own (.build-tsan).
# scripts/sanitize.sh leaks [MODULE...]: the loopback tests under valgrind, on the ordinary debug build.
# MODULE: test modules; without any, those that are worth it. Reports are in .build-tsan/reports or .build/leaks; fails
# when there is one, or a test fails. docs/testing.md says what is kept quiet, and why.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
mode=${1:?usage: scripts/sanitize.sh threads|leaks [MODULE...]}
shift
here=$root/Tests/Sanitizers
clang=$(command -v clang || echo "$(dirname "$(readlink -f "$(command -v swift)")")/clang")
export SWIFT_DETERMINISTIC_HASHING=1
# One module for each process: what one leaves behind does not hide another's. In turn, as in `make unit`.
tests=(--testing-library swift-testing --no-parallel --skip 'TunnelSimulationTests|MemoryTests|CorpusTests')
limit=1800 # seconds for one module
failed=0

run() { # run MODULE COMMAND...: the module's tests, and whether that went well
    local module=$1 log=$reports/$1.out
    shift
    printf '%s: ' "$module"
    local code=0
    timeout "$limit" "$@" "${tests[@]}" --filter "^$module\\." >"$log" 2>&1 || code=$?
    local found
    found=$(find "$reports" -name "$module.report*" -size +0 -exec grep -lE "$report" {} + | tr '\n' ' ')
    # 69: no test was asked for.
    if [ "$code" = 0 ] || [ "$code" = 69 ]; then
        grep -h 'Test run with' "$log" | sed 's/^[^ ]* //' || echo "no tests"
    else
        echo "exit code $code, see $log"
        failed=1
    fi
    if [ -n "$found" ]; then
        echo "  reports in $found"
        failed=1
    fi
}

case $mode in
threads)
    [ $# -gt 0 ] || set -- $(ls Tests | grep 'Tests$')
    mkdir -p .build-tsan
    reports=$root/.build-tsan/reports report='WARNING: ThreadSanitizer|ERROR: ThreadSanitizer'
    "$clang" -O2 -g -fPIC -c "$here/thread.c" -o .build-tsan/thread.o
    mutex='$s15Synchronization12_MutexHandleV'
    wrap=()
    for symbol in "${mutex}9_lockSlowyys6UInt32VF" "${mutex}12_tryLockSlowSbyF" "${mutex}11_unlockSlowyyF"; do
        wrap+=(-Xlinker "--wrap=$symbol")
    done
    swift build --build-tests --quiet --sanitize=thread --scratch-path .build-tsan \
        "${wrap[@]}" -Xlinker "$root/.build-tsan/thread.o"
    rm -rf "$reports" && mkdir -p "$reports"
    for module in "$@"; do
        export TSAN_OPTIONS="halt_on_error=0:history_size=4:second_deadlock_stack=1:suppressions=$here/thread.supp:log_path=$reports/$module.report"
        run "$module" .build-tsan/debug/martletPackageTests.xctest
    done
    ;;
leaks)
    [ $# -gt 0 ] || set -- MeshLoopTests MeshTunnelTests MeshZDSTests MeshDNSTests
    command -v valgrind >/dev/null || { echo "sanitize: valgrind is needed (apt-get install valgrind)" >&2; exit 1; }
    reports=$root/.build/leaks report='are definitely lost'
    swift build --build-tests --quiet
    rm -rf "$reports" && mkdir -p "$reports"
    "$clang" -O1 -fPIC -shared "$here/valgrind.c" -o "$reports/valgrind.so"
    # Valgrind does not know this compiler's debug information; names of functions are enough.
    objcopy --strip-debug .build/debug/martletPackageTests.xctest .build/debug/martletPackageTests.leaks
    for module in "$@"; do
        run "$module" env LD_PRELOAD="$reports/valgrind.so" valgrind --leak-check=full --undef-value-errors=no \
            --show-leak-kinds=definite --errors-for-leak-kinds=definite --fair-sched=yes --num-callers=30 --child-silent-after-fork=yes \
            --suppressions="$here/valgrind.supp" --gen-suppressions=all --log-file="$reports/$module.report.%p" \
            .build/debug/martletPackageTests.leaks
    done
    rm -f .build/debug/martletPackageTests.leaks
    ;;
*)
    echo "sanitize: wanted threads or leaks, not $mode" >&2
    exit 2
    ;;
esac
exit $failed
