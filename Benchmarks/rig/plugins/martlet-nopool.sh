# A full mutual TLS 1.3 handshake for every connection: one stream per tunnel.
. "$rig/plugins/martlet.sh"
DESC="Martlet pair over HBONE, one full handshake per connection, workers=$WORKERS"
CAPS="handshake"
forwards="$forwards --streams-per-tunnel 1"
