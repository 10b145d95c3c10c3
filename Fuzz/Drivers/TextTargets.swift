internal import MeshDirectory
internal import MeshIdentity
internal import MeshModel
internal import MeshProxy

extension FuzzTarget {
    static let text = [authority, baggage, forwarded, identity]

    private static let authority = FuzzTarget(
        "authority", tokens: ["[::1]:80", "10.0.0.1", ":80", "web.shop.svc.cluster.local", "::ffff:1.2.3.4", "%eth0"]
    ) { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        if let endpoint = IPEndpoint(text) {
            promise(IPEndpoint(endpoint.description) == endpoint, "\(text) is \(endpoint), which is something else")
        }
        switch Authority(text) {
        case .address(let endpoint): promise(IPEndpoint(text) == endpoint, "\(text) is \(endpoint)")
        case .host(let host, let port):
            promise(!host.isEmpty && text.hasPrefix(host), "\(text) has the host \(host), port \(port)")
        case nil: break
        }
    }

    private static let baggage = FuzzTarget(
        "baggage",
        tokens: [
            "k8s.cluster.name=", "k8s.namespace.name=", "k8s.deployment.name=", "k8s.pod.name=", "service.name=",
            "service.version=", "cloud.region=", "cloud.availability_zone=", ",", "=", " ",
        ]
    ) { bytes in
        let header = (name: "baggage", value: String(decoding: bytes, as: UTF8.self))
        guard let first = Baggage(headers: [header]) else { return }
        let again = Baggage(headers: [(name: "baggage", value: first.text)])
        promise(again == first, "\(first) reads as \(String(describing: again))")
    }

    private static let forwarded = FuzzTarget(
        "forwarded", tokens: ["for=", "host=", "\"", ";", ",", " ", "\"10.0.0.1:4711\"", "[::1]"]
    ) { bytes in
        let header = (name: "forwarded", value: String(decoding: bytes, as: UTF8.self))
        guard let host = Forwarded.host(in: [header]) else { return }
        promise(!host.isEmpty && header.value.contains(host), "the host \(host) of \(header.value)")
    }

    private static let identity = FuzzTarget(
        "identity", tokens: ["spiffe://", "cluster.local", "/ns/", "/sa/", "default", "/"]
    ) { bytes in
        let text = String(decoding: bytes, as: UTF8.self)
        guard let identity = try? WorkloadIdentity(spiffe: text) else { return }
        promise(identity.description == text, "\(text) was repaired to \(identity)")
    }
}
