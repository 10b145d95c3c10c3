internal import MeshModel
internal import MeshProto
internal import MeshRoutes
internal import MeshXDS
internal import MeshZDS
internal import SwiftProtobuf

extension FuzzTarget {
    static let messages = [zds, address, authorization, rules]

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

    /// What a waypoint is told about a service.
    private static let rules = FuzzTarget("xds-rules", tokens: ["shop", "web.shop.svc", "10.0.0.0/8", "/a/{*}"]) {
        bytes in
        guard let message = try? Martlet_Waypoint_ServiceRules(serializedBytes: bytes) else { return }
        let name = "\(message.key.namespace)/\(message.key.name)"
        guard let decoded = try? ServiceRules.decode(message, name: name) else { return }
        let (rules, gate) = (decoded.rules, decoded.rules.gate)
        if gate.closedBecause == nil {
            promise(
                gate.policies.count == message.gate.policies.count && gate.tokens.count == message.gate.tokens.count
                    && gate.rateLimits.count == message.gate.rateLimits.count,
                "an open gate lost a policy: it would let pass more than was written")
            promise(rules.routes.count == message.routes.count, "a route was lost")
            promise(
                zip(rules.routes, message.routes).allSatisfy { $1.rules.isEmpty || !$0.rules.isEmpty },
                "a route lost its rules")
        }
        guard decoded.flaws.isEmpty else { return }
        let again = try? ServiceRules.decode(rules.proto, name: name)
        promise(again?.rules == rules, "\(rules) does not survive")
    }
}
