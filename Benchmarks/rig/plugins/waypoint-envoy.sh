DESC="Envoy's waypoint between our two node proxies, workers=$WORKERS"
. "$rig/plugins/waypoint.inc"
start_A() {
    render_envoy waypoint >"$RUN/A.yaml"
    spawn A "$NS_NB" "$ENVOY_BIN" -c "$RUN/A.yaml" $(envoy_arguments)
    wait_port "$NS_NA" $IP_NB 15008
}
