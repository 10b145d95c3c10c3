DESC="\`martlet waypoint\` between our two node proxies, workers=$WORKERS; certificate and routes come from the control plane"
. "$rig/plugins/waypoint.inc"
CHANGES=feed:$RUN/feed/input
start_A() {
    local threads=()
    [ "$WORKERS" = 0 ] || threads=(ZTUNNEL_WORKER_THREADS="$WORKERS")
    rm -rf "$RUN/feed"
    mkdir "$RUN/feed" && mkfifo "$RUN/feed/input"
    python3 "$rig/waypoint/mesh.py" --routes "$ROUTES" >"$RUN/feed/objects.json"
    SPAWN_INPUT=$RUN/feed/input spawn F "$NS_NB" "$MARTLET_FEED" --directory "$RUN/feed" \
        --objects "$RUN/feed/objects.json" --ca-cert "$RUN/certs/ca.crt" --ca-key "$RUN/certs/ca.key"
    wait_port "$NS_NB" 127.0.0.1 15012
    # Neither waypoint writes an access log; ours has its metrics all the same.
    spawn A "$NS_NB" env GATEWAY_NAME=waypoint POD_NAMESPACE=foo SERVICE_ACCOUNT=waypoint POD_NAME=waypoint \
        INSTANCE_IP=$IP_NB NODE_NAME=node-0 XDS_ADDRESS=https://localhost:15012 CA_ADDRESS=https://localhost:15012 \
        XDS_ROOT_CA="$RUN/feed/root.pem" CA_ROOT_CA="$RUN/feed/root.pem" AUTH_TOKEN="$RUN/feed/token" \
        RUST_LOG=warn,access=off "${threads[@]}" "$MARTLET" waypoint
    wait_port "$NS_NA" $IP_NB 15008
}
