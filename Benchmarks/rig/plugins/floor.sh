DESC="plain TCP relay in C on both nodes: no TLS, no HTTP/2, one thread"
HTTP_ADDR=$IP_NA_C:18080 BULK_ADDR=$IP_NA_C:15201 HOLD_ADDR=$IP_NA_C:19000
start_B() {
    spawn B "$NS_B" "$RUN/relay" $IP_NB:18080=$IP_S:$PORT_HTTP $IP_NB:15201=$IP_S:$PORT_BULK $IP_NB:19000=$IP_S:$PORT_HOLD
    wait_port "$NS_NA" $IP_NB 18080
}
start_A() {
    spawn A "$NS_A" "$RUN/relay" $IP_NA_C:18080=$IP_NB:18080 $IP_NA_C:15201=$IP_NB:15201 $IP_NA_C:19000=$IP_NB:19000
    wait_port "$NS_C" $IP_NA_C 18080
}
