#!/usr/bin/env bash
# Removes every trace of the demo's lab: processes, namespaces, mounts, links, files, its kubeconfig entry.
set -euo pipefail
cd "$(dirname "$0")/.."
lab=${MARTLET_BIN:-.build/release}/martlet-lab
[ -x "$lab" ] || lab=.build/debug/martlet-lab
if [ ! -x "$lab" ]; then
    echo "demo-clean: nothing was built, so nothing runs"
    exit 0
fi
# A lab that is not there is clean; one that cannot be removed is an error.
if [ -e /var/lib/martlet/lab/k3s-default ] || [ -e /run/martlet/lab/k3s-default ]; then
    KUBECONFIG=$PWD/.demo/kubeconfig "$lab" delete k3s-default
fi
rm -rf .demo
