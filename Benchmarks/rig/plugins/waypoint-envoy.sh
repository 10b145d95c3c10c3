DESC="Envoy as waypoint between our two node proxies, workers=$WORKERS; many routes are files that it watches"
. "$rig/plugins/waypoint.inc"
CHANGES=tables:$RUN/tables
start_A() {
    rm -rf "$RUN/tables"
    python3 "$rig/waypoint/envoy.py" --listen $IP_NB --routes "$ROUTES" --tables "$RUN/tables" >"$RUN/A.json"
    spawn A "$NS_NB" "$ENVOY_BIN" -c "$RUN/A.json" $(envoy_arguments)
    wait_port "$NS_NA" $IP_NB 15008
}
