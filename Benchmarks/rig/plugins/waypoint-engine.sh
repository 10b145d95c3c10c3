DESC="Martlet's engine of waypoints alone (martlet-bench) between our two node proxies: rules that never change, no metrics, workers=$WORKERS"
. "$rig/plugins/waypoint.inc"
# One service, whose second route has no condition: t2, not w.
CAPS="http short"
start_A() {
    spawn A "$NS_NB" "$MARTLET_BENCH" waypoint --listen $IP_NB:15008 --service $IP_S:$PORT_HTTP --peer $IP_S:15008 \
        --peer-identity $server_identity --identity $waypoint_identity $(certificate waypoint) --loops "$(loops)"
    wait_port "$NS_NA" $IP_NB 15008
}
