# As in the pods: A in the client's namespace behind a redirection, B in the server's.
DESC="Martlet pair over HBONE, redirected, A and B in the pods, workers=$WORKERS"
NS_A=$NS_C NS_B=$NS_S
. "$rig/plugins/redirect.inc"
. "$rig/plugins/martlet.inc"
start_B() { martlet_inbound $IP_S; }
start_A() { martlet_outbound $IP_S --capture 127.0.0.1:15001 && wait_port "$NS_C" 127.0.0.1 15001 && redirect; }
