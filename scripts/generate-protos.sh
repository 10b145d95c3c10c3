#!/bin/sh
# Regenerates Sources/MeshProto/Generated from Sources/MeshProto/Protos. The plug-ins are built from the packages
# of this one's dependencies, so the output changes only when their versions or the .proto files do.
# Needs protoc (Debian: protobuf-compiler). With --check it changes nothing and fails when the output would differ.
set -eu
cd "$(dirname "$0")/.."
command -v protoc >/dev/null || { echo "protoc is missing; install it: apt-get install protobuf-compiler" >&2; exit 1; }
swift build --product protoc-gen-swift
swift build --product protoc-gen-grpc-swift-2
bin=$(swift build --show-bin-path)
protos=Sources/MeshProto/Protos
out=Sources/MeshProto/Generated
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
swift_plugin=$bin/protoc-gen-swift
grpc_plugin=$bin/protoc-gen-grpc-swift-2
protoc --proto_path="$protos" --plugin=protoc-gen-swift="$swift_plugin" \
    --swift_out="$fresh" --swift_opt=Visibility=Package,UseAccessLevelOnImports=true "$protos"/*.proto
protoc --proto_path="$protos" --plugin=protoc-gen-grpc-swift-2="$grpc_plugin" \
    --grpc-swift-2_out="$fresh" \
    --grpc-swift-2_opt=Visibility=Package,UseAccessLevelOnImports=true,Server=true,Client=true \
    "$protos"/ca.proto "$protos"/discovery.proto "$protos"/secret.proto
if [ "${1:-}" = --check ]; then
    diff -r "$out" "$fresh"
else
    rm -rf "$out"
    mkdir -p "$out"
    cp "$fresh"/* "$out"/
fi
