#!/usr/bin/env bash
# The demo: a lab of five nodes, the mesh in it, and the whole path of one connection with the evidence for it.
# Stops with a reason at the first thing that is not as it should be. Leaves the lab running; `make demo-clean` removes it.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
export PATH="${MARTLET_BIN:-$root/.build/release}:$root/.tools/bin:$PATH"
work=$root/.demo
mkdir -p "$work"
export KUBECONFIG="$work/kubeconfig"

title=""
started=$EPOCHREALTIME
step() { # step TITLE: says how long the last one took
    local now=$EPOCHREALTIME
    [ -z "$title" ] || printf '    (%s s)\n' "$(awk -v a="$now" -v b="$started" 'BEGIN { printf "%.1f", a - b }')"
    title=$1 started=$now
    printf '\n=== %s\n' "$title"
}
fail() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }
run() { printf '$ %s\n' "$*"; "$@"; }
eventually() { # eventually SECONDS WHAT COMMAND...: until the command succeeds
    local deadline=$((SECONDS + $1)) what=$2; shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "waited for $what in vain: $*"
        sleep 0.1
    done
}
call() { kubectl exec -i deploy/sleep -n foo -- curl -sS --max-time 10 "http://httpbin.bar-1:8000$1"; }
proxy_on() { kubectl get pods -n istio-system -l app=ztunnel --field-selector "spec.nodeName=$1" -o jsonpath='{.items[0].metadata.name}'; }
log_on() { kubectl logs -n istio-system "$(proxy_on "$1")" --tail=200; }
log_has() { log_on "$1" | grep -F -- "$2" | grep -qF -- "${3:-}"; }

[ "$(id -u)" = 0 ] || fail "the lab makes network namespaces: run as root"
a0=k3d-k3s-default-agent-0 a1=k3d-k3s-default-agent-1

step "1. A cluster: five nodes"
martlet lab delete k3s-default >/dev/null 2>&1 || true
run martlet lab create --api-port 6550 -p '9080:80@loadbalancer' -p '9443:443@loadbalancer' --agents 4 \
    --k3s-arg '--disable=traefik@server:*'
run kubectl get nodes -o wide

step "2. The mesh"
run martlet install --set profile=ambient -y
run martlet verify-install

step "3. Two services, as a tutorial has them"
run kubectl create namespace foo
run kubectl create namespace bar-1
run kubectl label namespace bar-1 istio.io/dataplane-mode=ambient
run kubectl label namespace foo istio.io/dataplane-mode=ambient
run kubectl create -n foo -f scripts/demo/sleep.yaml
run kubectl create -n bar-1 -f scripts/demo/httpbin.yaml
run kubectl rollout status deploy/sleep -n foo --timeout=60s
run kubectl rollout status deploy/httpbin -n bar-1 --timeout=60s
eventually 30 "both pods to be captured" sh -c \
    "kubectl get pods -n foo -o yaml | grep -q 'ambient.istio.io/redirection: enabled' && kubectl get pods -n bar-1 -o yaml | grep -q 'ambient.istio.io/redirection: enabled'"
run kubectl get pods -A -o wide

step "4. One call, watched on the wire"
source_ip=$(kubectl get pods -n foo -l app=sleep -o jsonpath='{.items[0].status.podIP}')
capture=$work/wire.pcap
rm -f "$capture"
martlet lab exec "$a1" -- tcpdump --immediate-mode -i eth0 -U -w - tcp >"$capture" 2>"$work/tcpdump.log" &
tcpdump=$!
trap 'kill $tcpdump 2>/dev/null || true' EXIT
eventually 10 "tcpdump to listen" grep -q listening "$work/tcpdump.log"
printf '$ kubectl exec -i deploy/sleep -n foo -- curl -s http://httpbin.bar-1:8000/get\n'
answer=$(call "/get?martlet=secret-word")
printf '%s\n' "$answer"
[ "$(jq -r .origin <<<"$answer")" = "$source_ip" ] || fail "origin is not the sleep pod's address $source_ip"
sleep 0.5
martlet lab exec "$a1" -- pkill -x tcpdump; wait "$tcpdump" 2>/dev/null || true
tunnel=$(tcpdump -nr "$capture" 'tcp port 15008' 2>/dev/null | wc -l)
plain=$(grep -ac 'secret-word' "$capture" || true)
hello=$(tcpdump -nr "$capture" 'tcp dst port 15008 and tcp[((tcp[12]&0xf0)>>2)]=0x16' 2>/dev/null | wc -l)
printf 'Between the nodes: %s packets on 15008 (%s with a TLS handshake), %s with a byte of the request in plaintext.\n' "$tunnel" "$hello" "$plain"
[ "$tunnel" -gt 0 ] || fail "nothing went through port 15008"
[ "$plain" = 0 ] || fail "the request crossed the wire in plaintext"

step "5. What the two node proxies say"
eventually 10 "the access line on $a0" log_has "$a0" 'direction="outbound"' 'dst.service="httpbin.bar-1.svc.cluster.local"'
eventually 10 "the access line on $a1" log_has "$a1" 'direction="inbound"' 'src.identity="spiffe://cluster.local/ns/foo/sa/default"'
log_on "$a0" | grep 'dst.service="httpbin' | tail -1
log_on "$a1" | grep 'src.identity="spiffe://cluster.local/ns/foo/sa/default"' | tail -1

step "6. Policy: only somebody else may call"
run kubectl apply -f scripts/demo/only-somebody-else.yaml
refused() { ! call /get; }
eventually 10 "the call to be refused" refused
call /get || true
eventually 10 "the refusal in the log" log_has "$a1" 'bar-1/only-somebody-else'
log_on "$a1" | grep 'bar-1/only-somebody-else' | tail -1
run kubectl delete -f scripts/demo/only-somebody-else.yaml
eventually 10 "the call to work again" call /get
echo "allowed again"

step "7. STRICT: plaintext from outside the mesh is refused"
run kubectl create namespace outside
run kubectl create -n outside -f scripts/demo/sleep.yaml
run kubectl rollout status deploy/sleep -n outside --timeout=60s
from_outside() { kubectl exec -i deploy/sleep -n outside -- curl -sS --max-time 5 -o /dev/null -w '%{http_code}\n' http://httpbin.bar-1:8000/get; }
eventually 10 "plaintext to be accepted before" from_outside
echo "PERMISSIVE: $(from_outside)"
run kubectl apply -f scripts/demo/strict.yaml
outside_refused() { ! from_outside; }
eventually 10 "plaintext to be refused" outside_refused
from_outside || true
call /get >/dev/null || fail "STRICT refused a mesh client"
echo "the mesh client still gets its answer"
run kubectl delete -f scripts/demo/strict.yaml

step "8. Out again, without a restart and without breaking an open connection"
drip() { kubectl exec -i deploy/sleep -n foo -- curl -sS --max-time 30 "http://httpbin.bar-1:8000/drip?duration=6&numbytes=12&delay=0" | wc -c; }
before=$(kubectl get pods -n bar-1 -o jsonpath='{.items[0].metadata.uid} {.items[0].status.containerStatuses[0].restartCount}')
drip >"$work/drip-label" & slow=$!
sleep 1.5
run kubectl label namespace bar-1 istio.io/dataplane-mode-
uncaptured() { ! kubectl get pods -n "$1" -o yaml | grep -q 'ambient.istio.io/redirection'; }
eventually 40 "httpbin to leave the mesh" uncaptured bar-1
wait $slow
[ "$(cat "$work/drip-label")" = 12 ] || fail "the open connection broke when the label went: $(cat "$work/drip-label") of 12 bytes"
echo "the slow answer that was open meanwhile arrived whole"
call /get >/dev/null || fail "no traffic after leaving the mesh"
run kubectl label namespace bar-1 istio.io/dataplane-mode=ambient
eventually 30 "httpbin to be captured again" sh -c "kubectl get pods -n bar-1 -o yaml | grep -q 'ambient.istio.io/redirection: enabled'"
drip >"$work/drip-uninstall" & slow=$!
sleep 1.5
run martlet uninstall --purge -y
wait $slow
[ "$(cat "$work/drip-uninstall")" = 12 ] || fail "the open connection broke at uninstall: $(cat "$work/drip-uninstall") of 12 bytes"
echo "the slow answer that was open meanwhile arrived whole"
call /get >/dev/null || fail "no traffic after uninstall"
after=$(kubectl get pods -n bar-1 -o jsonpath='{.items[0].metadata.uid} {.items[0].status.containerStatuses[0].restartCount}')
[ "$before" = "$after" ] || fail "the httpbin pod was restarted: $before, then $after"
echo "traffic flows in plaintext, the pods are the same ones"

step "Done"
cat <<TXT
The lab still runs. Next, for example:
    export KUBECONFIG=$KUBECONFIG PATH=$root/.build/release:$root/.tools/bin:\$PATH
    martlet install --set profile=ambient -y
    kubectl exec -it deploy/sleep -n foo -- curl http://httpbin.bar-1:8000/headers
    martlet lab exec $a1 -- nft list ruleset
Remove every trace of it with: make demo-clean
TXT
