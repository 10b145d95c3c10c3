# Settings and helpers of the rig. Sourced by rig.sh, ctl.sh and, through ctl.sh, by every plug-in.
rig=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export RIG_RUN=${RIG_RUN:-/tmp/martlet-bench}      # scratch: pids, logs, certificates, built tools
export RIG_PREFIX=${RIG_PREFIX:-mb-}               # of the namespaces
RUN=$RIG_RUN
# Client pod, node A, node B, server pod.
NS_C=${RIG_PREFIX}c NS_NA=${RIG_PREFIX}na NS_NB=${RIG_PREFIX}nb NS_S=${RIG_PREFIX}s
# Where the proxies run; a plug-in may move them into the pods.
NS_A=$NS_NA NS_B=$NS_NB
IP_C=10.91.1.2 IP_NA_C=10.91.1.1 IP_NA=10.91.0.1 IP_NB=10.91.0.2 IP_NB_S=10.91.2.1 IP_S=10.91.2.2
PORT_HTTP=8080 PORT_BULK=5201 PORT_HOLD=9000
# Where the client connects; a plug-in without redirection sets its own.
HTTP_ADDR=$IP_S:$PORT_HTTP BULK_ADDR=$IP_S:$PORT_BULK HOLD_ADDR=$IP_S:$PORT_HOLD
# Behind a waypoint also services of HTTP/2 and gRPC, the first of the services with many routes, and how a route is
# changed (see waypoint/churn.py).
PORT_H2=8081 PORT_GRPC=8082
H2_ADDR= GRPC_ADDR= TABLE_ADDR= CHANGES=
ROUTES=${ROUTES:-0}                                # loaded into a waypoint besides its own
# The scenarios that a plug-in can take part in.
CAPS="http bulk short hold"
WORKERS=${WORKERS:-1}                              # threads of each proxy; 0 = the program's own default
ENVOY_BIN=${ENVOY_BIN:-envoy}
MARTLET_BENCH=${MARTLET_BENCH:-martlet-bench}
MARTLET=${MARTLET:-martlet}
MARTLET_FEED=${MARTLET_FEED:-martlet-feed}

start_A() { :; }
start_B() { :; }
stop_extra() { :; }

# spawn ROLE NAMESPACE COMMAND...: in the background and a session of its own; output to $RUN/ROLE.log, input from
# $SPAWN_INPUT, if anything.
spawn() {
    local role=$1 namespace=$2 pin=()
    shift 2
    if [ "${RIG_PIN:-none}" = split ]; then
        case $role in A | B) pin=(taskset -c 1) ;; *) pin=(taskset -c 0) ;; esac
    fi
    (
        cd "$RUN"
        ulimit -n "$(ulimit -Hn)"
        exec setsid "${pin[@]}" ip netns exec "$namespace" "$@" >>"$RUN/$role.log" 2>&1 <>"${SPAWN_INPUT:-/dev/null}"
    ) &
    echo $! >>"$RUN/$role.pids"
}

# wait_port NAMESPACE IP PORT: until somebody listens, ten seconds at most.
wait_port() {
    local i
    for i in $(seq 100); do
        ip netns exec "$1" bash -c "exec 3<>/dev/tcp/$2/$3" 2>/dev/null && return 0
        sleep 0.1
    done
    echo "nobody listens at $2:$3 in $1; last lines of the logs:" >&2
    tail -n 5 "$RUN"/[AB].log >&2
    return 1
}

# kill_role ROLE: ends only the processes recorded for the role, and their children.
kill_role() {
    local file=$RUN/$1.pids pid child i
    [ -f "$file" ] || return 0
    for pid in $(cat "$file"); do
        for child in $(pgrep -P "$pid") $pid; do kill "$child" 2>/dev/null; done
    done
    for pid in $(cat "$file"); do
        for i in $(seq 20); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null
    done
    rm -f "$file"
}

# render_envoy NAME: the configuration with the rig's addresses in place of the loopback ones.
render_envoy() {
    sed -e "s/127\.0\.1\.1\b/$IP_NA_C/g; s/127\.0\.1\.2\b/$IP_NB/g; s/127\.0\.1\.3\b/$IP_S/g" "$rig/envoy/$1.yaml"
}

envoy_arguments() {
    echo --disable-hot-restart --log-level warning
    [ "$WORKERS" = 0 ] || echo --concurrency "$WORKERS"
}
