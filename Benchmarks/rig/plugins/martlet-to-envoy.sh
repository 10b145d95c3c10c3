# Interoperability under load: our client half, Envoy's server half.
. "$rig/plugins/martlet.sh"
. "$rig/plugins/envoy-l4.sh"
DESC="Martlet outbound, Envoy inbound, workers=$WORKERS"
start_A() { martlet_outbound $IP_NB $forwards && wait_port "$NS_C" $IP_NA_C 18080; }
