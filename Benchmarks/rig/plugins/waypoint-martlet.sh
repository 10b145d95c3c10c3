DESC="Martlet's waypoint between two node proxies, workers=$WORKERS"
. "$rig/plugins/waypoint.inc"
start_A() {
    spawn A "$NS_NB" "$MARTLET_BENCH" waypoint --listen $IP_NB:15008 --service $IP_S:$PORT_HTTP --peer $IP_S:15008 \
        --peer-identity $server_identity --identity $waypoint_identity $(certificate waypoint) --loops "$(loops)"
    wait_port "$NS_NA" $IP_NB 15008
}
