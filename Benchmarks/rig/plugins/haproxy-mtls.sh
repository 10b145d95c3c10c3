# One TLS connection per TCP connection and no HBONE: what mutual TLS alone costs.
DESC="HAProxy TCP over mTLS pair, threads=$WORKERS, AES-128-GCM, sessions reused"
HTTP_ADDR=$IP_NA_C:18080 BULK_ADDR=$IP_NA_C:15201 HOLD_ADDR=$IP_NA_C:19000
haproxy_head() {
    cat <<CONF
global
  maxconn 9000
  $([ "$WORKERS" = 0 ] || echo "nbthread $WORKERS")
  ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
  ssl-server-verify required
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
CONF
}
start_B() {
    local pair
    cat "$RUN/certs/server.crt" "$RUN/certs/server.key" >"$RUN/server.pem"
    {
        haproxy_head
        for pair in 15443:$PORT_HTTP 15444:$PORT_BULK 15445:$PORT_HOLD; do
            echo "listen b${pair%:*}"
            echo "  bind $IP_NB:${pair%:*} ssl crt $RUN/server.pem ca-file $RUN/certs/ca.crt verify required ssl-min-ver TLSv1.3"
            echo "  server s $IP_S:${pair#*:}"
        done
    } >"$RUN/B.cfg"
    spawn B "$NS_B" haproxy -db -f "$RUN/B.cfg"
    wait_port "$NS_NA" $IP_NB 15443
}
start_A() {
    local pair
    cat "$RUN/certs/client.crt" "$RUN/certs/client.key" >"$RUN/client.pem"
    {
        haproxy_head
        for pair in 18080:15443 15201:15444 19000:15445; do
            echo "listen a${pair%:*}"
            echo "  bind $IP_NA_C:${pair%:*}"
            echo "  server s $IP_NB:${pair#*:} ssl crt $RUN/client.pem ca-file $RUN/certs/ca.crt verify required ssl-min-ver TLSv1.3"
        done
    } >"$RUN/A.cfg"
    spawn A "$NS_A" haproxy -db -f "$RUN/A.cfg"
    wait_port "$NS_C" $IP_NA_C 18080
}
