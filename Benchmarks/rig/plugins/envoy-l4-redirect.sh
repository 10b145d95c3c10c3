# As in the pods: A in the client's namespace behind a redirection, B in the server's.
DESC="Envoy L4 pair over HBONE, redirected, A and B in the pods, workers=$WORKERS"
NS_A=$NS_C NS_B=$NS_S
. "$rig/plugins/redirect.inc"
start_B() {
    render_envoy l4-inbound | sed "s/address: $IP_NB, port_value: 15008/address: $IP_S, port_value: 15008/" >"$RUN/B.yaml"
    spawn B "$NS_B" "$ENVOY_BIN" -c "$RUN/B.yaml" $(envoy_arguments)
    wait_port "$NS_NA" $IP_S 15008
}
start_A() {
    render_envoy l4-outbound-transparent >"$RUN/A.yaml"
    spawn A "$NS_A" "$ENVOY_BIN" -c "$RUN/A.yaml" $(envoy_arguments)
    wait_port "$NS_C" 127.0.0.1 15001 && redirect
}
