#!/usr/bin/env bash
# Measures the tunnel beside Envoy and others on this machine and writes Benchmarks/results/latest.md and
# latest.svg. With `waypoint` as first argument: the waypoint beside Envoy's, into waypoint.md and waypoint.svg.
#
#   Benchmarks/run.sh [waypoint] [--plugins A,B] [--scenarios t1,t2] [--reps N] [--max-foreign CORES] [--against PLUGIN]
#
# Needs root (network namespaces), and release builds: MARTLET_BENCH (for waypoints also MARTLET, MARTLET_FEED), or
# built here.
set -euo pipefail
cd "$(dirname "$0")"
plugins=direct,floor,envoy-l4,martlet,envoy-l4-nopool,martlet-nopool scenarios=t1,t2,t3,t4,t5 against=envoy-l4
what="The tunnel" subject=martlet results=${RESULTS:-latest} reps=5 max_foreign=0.12
if [ "${1:-}" = waypoint ]; then
    plugins=waypoint-envoy,waypoint-martlet scenarios=w against=waypoint-envoy
    suite=waypoint what="The waypoint" subject=waypoint-martlet results=${RESULTS:-waypoint}
    shift
fi
while (($#)); do
    case $1 in
        --plugins) plugins=$2 ;;
        --scenarios) scenarios=$2 ;;
        --reps) reps=$2 ;;
        --max-foreign) max_foreign=$2 ;;
        --against) against=$2 ;;
        *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
    esac
    shift 2
done
[ "$(id -u)" = 0 ] || { echo "bench: network namespaces need root; run with sudo" >&2; exit 1; }

packages=(gcc libc6-dev valgrind binutils iproute2 nftables iperf3 wrk nginx-light openssl python3)
[[ $plugins = *haproxy* ]] && packages+=(haproxy)
[[ $plugins = *waypoint* ]] && packages+=(curl nghttp2-client nghttp2-server)
missing=()
for package in "${packages[@]}"; do
    # Any nginx does.
    if [ "$package" = nginx-light ] && command -v nginx >/dev/null; then continue; fi
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
    echo "bench: installing ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

root=$(cd .. && pwd)
if [ -z "${ENVOY_BIN:-}" ]; then
    ENVOY_BIN=$(command -v envoy || echo "$root/.tools/bin/envoy")
fi
[ -x "$ENVOY_BIN" ] || { echo "bench: no Envoy at $ENVOY_BIN; run scripts/prepare.sh" >&2; exit 1; }
# need VARIABLE PRODUCT: a program of a release build, built here unless the variable says where it is.
need() {
    if [ -z "${!1:-}" ]; then
        (cd "$root" && swift build -c release --product "$2" --quiet)
        printf -v "$1" %s "$root/.build/release/$2"
    fi
    [ -x "${!1}" ] || { echo "bench: no program at ${!1}" >&2; exit 1; }
    # The plug-ins run elsewhere: no relative paths.
    export "$1=$(realpath "${!1}")"
}
need MARTLET_BENCH martlet-bench
if [[ $plugins = *waypoint-martlet* ]]; then
    need MARTLET martlet
    need MARTLET_FEED martlet-feed
fi
export ENVOY_BIN=$(realpath "$ENVOY_BIN")
export RIG_RUN=${RIG_RUN:-$(mktemp -d /tmp/martlet-bench.XXXXXX)}
# nginx's workers are nobody, and read what they serve from in there.
chmod 711 "$RIG_RUN"
trap 'rig/rig.sh down >/dev/null; rm -rf "$RIG_RUN"' EXIT
rig/rig.sh up

raw=$RIG_RUN/results.jsonl
status=0
rig/bench.py --plugins "$plugins" --scenarios "$scenarios" --reps "$reps" --max-foreign "$max_foreign" --out "$raw" ||
    status=$?
[ -s "$raw" ] || { echo "bench: nothing was measured" >&2; exit 1; }

mkdir -p results
{
    echo "# $what beside its peers"
    echo
    echo "Written by \`Benchmarks/run.sh\`; how it measures is in [the rig's page](../README.md). Medians of $reps" \
        "interleaved runs; a row marked * has only runs during which other programs used more than $max_foreign cores."
    echo
    echo "- Date: $(date -u +%F), commit $(git -C "$root" rev-parse --short HEAD)"
    echo "- Machine: $(nproc) × $(lscpu | sed -n 's/^Model name: *//p' | head -1)," \
        "$(awk '/MemTotal/ {printf "%.0f GB", $2 / 1048576}' /proc/meminfo), kernel $(uname -r)"
    python3 rig/report.py "$raw" --hour
    echo "- Swift: $(swift --version 2>/dev/null | sed -n 's/.*Swift version \([^ ]*\).*/\1/p' | head -1), release"
    echo "- Envoy: $("$ENVOY_BIN" --version | sed -n 's/.*version: *//p' | cut -d/ -f2)"
    echo "- Command: \`Benchmarks/run.sh${suite:+ $suite} --plugins $plugins --scenarios $scenarios --reps $reps" \
        "--max-foreign $max_foreign\`, WORKERS=${WORKERS:-1}"
    echo "- Plug-ins:"
    for plugin in ${plugins//,/ }; do
        echo "  - \`$plugin\`: $(rig/ctl.sh info "$plugin" | sed 's/.*"desc":"\(.*\)"}/\1/')"
    done
    echo
    python3 rig/report.py "$raw" --goals "$subject" --against "$against"
} >"results/$results.md"
python3 rig/report.py "$raw" --svg "$subject" --against "$against" >"results/$results.svg"
echo "bench: results in Benchmarks/results/$results.md"
exit $status
