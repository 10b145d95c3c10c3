#!/usr/bin/env bash
# rig.sh up|down|status: namespaces, certificates, tools and the server pod's back ends. Needs root.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
namespaces=("$NS_C" "$NS_NA" "$NS_NB" "$NS_S")

# link NS IF ADDRESS NS IF ADDRESS
link() {
    ip link add "$2" netns "$1" type veth peer name "$5" netns "$4"
    ip -n "$1" addr add "$3" dev "$2"
    ip -n "$4" addr add "$6" dev "$5"
    ip -n "$1" link set "$2" up
    ip -n "$4" link set "$5" up
}

up() {
    local n
    mkdir -p "$RUN"
    for n in "${namespaces[@]}"; do
        ip netns add "$n" || return 1
        ip -n "$n" link set lo up
    done
    link "$NS_C" e0 $IP_C/24 "$NS_NA" ec $IP_NA_C/24
    link "$NS_NA" e0 $IP_NA/24 "$NS_NB" e0 $IP_NB/24
    link "$NS_NB" es $IP_NB_S/24 "$NS_S" e0 $IP_S/24
    ip -n "$NS_C" route add default via $IP_NA_C
    ip -n "$NS_S" route add default via $IP_NB_S
    ip -n "$NS_NA" route add 10.91.2.0/24 via $IP_NB
    ip -n "$NS_NB" route add 10.91.1.0/24 via $IP_NA
    for n in "${namespaces[@]}"; do
        # reno: the pacing timers of bbr would halve every figure.
        ip netns exec "$n" sysctl -qw net.ipv4.ip_forward=1 net.ipv4.ip_local_port_range="1024 65000" \
            net.ipv4.tcp_tw_reuse=1 net.ipv4.tcp_congestion_control=reno net.core.somaxconn=8192 \
            net.ipv4.tcp_max_syn_backlog=8192 || return 1
    done
    [ -f "$RUN/certs/ca.crt" ] || "$rig/envoy/gen-certs.sh" "$RUN/certs" 2>/dev/null || return 1
    gcc -O2 -o "$RUN/openload" "$rig/tools/openload.c" || return 1
    gcc -O2 -o "$RUN/hold" "$rig/tools/hold.c" || return 1
    gcc -O2 -o "$RUN/wake" "$rig/tools/wake.c" || return 1
    gcc -O2 -o "$RUN/relay" "$rig/../floor/relay.c" || return 1
    back_ends
    wait_port "$NS_C" $IP_S $PORT_HTTP && wait_port "$NS_C" $IP_S $PORT_HOLD && echo "rig up"
}

back_ends() {
    local body
    body=$(head -c 1024 /dev/zero | tr '\0' x)
    cat >"$RUN/backend.conf" <<CONF
worker_processes 1; pid $RUN/backend.pid; error_log $RUN/backend.err; daemon off;
events { worker_connections 15000; }
http {
    access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; client_body_buffer_size 64k;
    default_type text/plain; client_body_temp_path $RUN/bt; proxy_temp_path $RUN/pt; fastcgi_temp_path $RUN/ft;
    uwsgi_temp_path $RUN/ut; scgi_temp_path $RUN/st;
    sendfile on;
    server {
        listen $IP_S:$PORT_HTTP backlog=8192;
        location / { return 200 "$body"; }
        location /bulk { alias $RUN/bulk; }
    }
    server { listen $IP_S:$PORT_H2 http2 backlog=8192; location / { return 200 "$body"; } }
}
CONF
    truncate -s 1G "$RUN/bulk"
    spawn S "$NS_S" nginx -c "$RUN/backend.conf"
    spawn S "$NS_S" iperf3 -s -B $IP_S -p $PORT_BULK
    spawn S "$NS_S" "$RUN/hold" server $IP_S $PORT_HOLD
    # A gRPC server, as far as the wire shows: 100 bytes in a message, and the status in a trailer.
    mkdir -p "$RUN/grpc/bench.Echo"
    printf '\0\0\0\0d%0100d' 0 >"$RUN/grpc/bench.Echo/Unary.grpc"
    echo "application/grpc grpc" >"$RUN/grpc.types"
    if command -v nghttpd >/dev/null; then
        spawn S "$NS_S" nghttpd --no-tls -a $IP_S -d "$RUN/grpc" --mime-types-file "$RUN/grpc.types" \
            --trailer "grpc-status: 0" $PORT_GRPC
    fi
}

down() {
    local role n
    for role in A B F S; do kill_role $role; done
    for n in "${namespaces[@]}"; do ip netns del "$n" 2>/dev/null; done
    echo "rig down"
}

case ${1:-} in
    up) up || { down; exit 1; } ;;
    down) down ;;
    status)
        ip netns list | grep "^$RIG_PREFIX"
        for role in A B F S; do echo "$role: $(cat "$RUN/$role.pids" 2>/dev/null | tr '\n' ' ')"; done
        ;;
    *) echo "usage: rig.sh up|down|status" >&2; exit 2 ;;
esac
