#!/usr/bin/env bash
# Removes every trace of the demo's lab: processes, namespaces, mounts, links, files, its kubeconfig entry.
set -euo pipefail
cd "$(dirname "$0")/.."
lab=.build/release/martlet-lab
if [ ! -x "$lab" ]; then
    echo "demo-clean: nothing was built, so nothing runs"
    exit 0
fi
"$lab" delete k3s-default --all
rm -rf .demo
