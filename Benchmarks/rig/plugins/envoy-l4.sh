# Both halves are Envoy, with HTTP/2 connections pooled as it comes.
DESC="Envoy L4 pair over HBONE, workers=$WORKERS"
# 0: one tunnel carries any number of connections.
ENVOY_REQUESTS_PER_TUNNEL=${ENVOY_REQUESTS_PER_TUNNEL:-0} ENVOY_CLIENT_EDIT=${ENVOY_CLIENT_EDIT:-}
HTTP_ADDR=$IP_NA_C:18080 BULK_ADDR=$IP_NA_C:15201 HOLD_ADDR=$IP_NA_C:19000
start_B() {
    render_envoy l4-inbound >"$RUN/B.yaml"
    spawn B "$NS_B" "$ENVOY_BIN" -c "$RUN/B.yaml" $(envoy_arguments)
    wait_port "$NS_NA" $IP_NB 15008
}
start_A() {
    render_envoy l4-outbound |
        sed "s/max_requests_per_connection: 0/max_requests_per_connection: $ENVOY_REQUESTS_PER_TUNNEL/;$ENVOY_CLIENT_EDIT" \
            >"$RUN/A.yaml"
    spawn A "$NS_A" "$ENVOY_BIN" -c "$RUN/A.yaml" $(envoy_arguments)
    wait_port "$NS_C" $IP_NA_C 18080
}
