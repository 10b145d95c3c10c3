# Interoperability under load: Envoy's client half, our server half.
. "$rig/plugins/martlet.sh"
. "$rig/plugins/envoy-l4.sh"
DESC="Envoy outbound, Martlet inbound, workers=$WORKERS"
start_B() { martlet_inbound $IP_NB; }
