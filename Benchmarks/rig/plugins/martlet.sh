# The product's tunnel engine on both nodes (Benchmarks/TunnelPair).
DESC="Martlet pair over HBONE, workers=$WORKERS"
HTTP_ADDR=$IP_NA_C:18080 BULK_ADDR=$IP_NA_C:15201 HOLD_ADDR=$IP_NA_C:19000
. "$rig/plugins/martlet.inc"
start_B() { martlet_inbound $IP_NB; }
start_A() { martlet_outbound $IP_NB $forwards && wait_port "$NS_C" $IP_NA_C 18080; }
