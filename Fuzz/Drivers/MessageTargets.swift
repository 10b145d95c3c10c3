internal import MeshModel
internal import MeshProto
internal import MeshXDS
internal import MeshZDS
internal import SwiftProtobuf

extension FuzzTarget {
    static let messages = [zds, address, authorization]

    private static let zds = FuzzTarget(
        "zds", tokens: ["uid", "name"], bytes: [[0x0a, 4], [0x12, 2], [0x2a, 3], [0x1a, 0]]
    ) {
        bytes in
        if let request = try? ZDSRequest(decoding: bytes), let encoded = try? request.encoded() {
            promise((try? ZDSRequest(decoding: encoded)) == request, "\(request) does not survive")
        }
        if let response = try? ZDSResponse(decoding: bytes) {
            promise(response.encoded.count <= ZDS.packetBytesMax, "an answer that fits no packet")
        }
        _ = ZDS.isHello(bytes)
    }

    /// Workloads and services, as they come over xDS.
    private static let address = FuzzTarget(
        "xds-address", tokens: ["web.shop.svc.cluster.local", "Kubernetes//Pod/a/b"]
    ) {
        bytes in
        guard let message = try? Istio_Workload_Address(serializedBytes: bytes),
            let address = try? MeshAddress(message, name: "fuzz")
        else { return }
        let again = try? MeshAddress(address.proto, name: "fuzz")
        promise(again != nil, "\(address) was accepted, and is rejected when we send it")
    }

    private static let authorization = FuzzTarget(
        "xds-authorization", tokens: ["10.0.0.0/8", "ns/", "cluster.local/ns/a/sa/b"]
    ) {
        bytes in
        guard let message = try? Istio_Security_Authorization(serializedBytes: bytes),
            let decoded = try? AuthorizationPolicy.decode(message, name: "fuzz")
        else { return }
        guard decoded.policy.action == .deny else { return }
        promise(
            decoded.policy.rules.count == message.rules.count,
            "a DENY policy lost a rule: it would allow more than was written")
    }
}
