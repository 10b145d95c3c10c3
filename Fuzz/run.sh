#!/bin/bash
# Fuzz/run.sh SECONDS [TARGET...]: each target for so many seconds of CPU time. With libFuzzer (coverage) when FUZZER=libfuzzer, which builds
# the tree once more with instrumentation; else with the mutations of our own on an ordinary release build.
# libFuzzer knows only the clock on the wall: give it more on a busy machine.
# A crash leaves its input in Fuzz/Crashes; once mended it moves to Fuzz/Corpus/TARGET and becomes a unit test.
set -euo pipefail
seconds=${1:?usage: Fuzz/run.sh SECONDS [TARGET...]}
shift
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
configuration=${FUZZ_CONFIGURATION:-release}
mkdir -p Fuzz/Crashes
if [ "${FUZZER:-}" = libfuzzer ]; then
    MARTLET_LIBFUZZER=1 swift build -c "$configuration" --sanitize=fuzzer --scratch-path .build/fuzz --product martlet-fuzz
    binary=.build/fuzz/$configuration/martlet-fuzz
else
    swift build -c "$configuration" --product martlet-fuzz
    binary=.build/$configuration/martlet-fuzz
fi
[ $# -gt 0 ] || set -- $(ls Fuzz/Corpus)
failed=0
for target in "$@"; do
    echo "== $target"
    if [ "${FUZZER:-}" = libfuzzer ]; then
        # New inputs go to a folder of their own: only small ones that reach something new are worth committing.
        mkdir -p ".build/fuzz/corpus/$target"
        MARTLET_FUZZ_TARGET=$target "$binary" -max_total_time="$seconds" -max_len=4096 -print_final_stats=1 \
            -artifact_prefix="Fuzz/Crashes/$target-" ".build/fuzz/corpus/$target" "Fuzz/Corpus/$target" || failed=1
    else
        (cd Fuzz/Crashes && "$root/$binary" "$target" "$seconds" "$root/Fuzz/Corpus/$target") || failed=1
    fi
done
exit $failed
