# A full mutual TLS 1.3 handshake (X25519, P-256) for every connection: no pool, no resumption.
ENVOY_REQUESTS_PER_TUNNEL=1
ENVOY_CLIENT_EDIT='s/^\( *\)common_tls_context:/\1max_session_keys: 0\n&/; s/tls_params: {/tls_params: {ecdh_curves: [X25519], /'
. "$rig/plugins/envoy-l4.sh"
DESC="Envoy L4 pair over HBONE, one full handshake per connection, workers=$WORKERS"
CAPS="handshake"
