WORKERS=0
. "$rig/plugins/envoy-l4.sh"
DESC="Envoy L4 pair over HBONE, a worker per core"
