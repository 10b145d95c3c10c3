internal import MeshIdentity
internal import MeshModel
internal import MeshTunnel

/// The command line.
struct Options {
    enum Role {
        /// Proxy A: TCP in, tunnel out.
        case outbound(peer: IPEndpoint, peerIdentity: WorkloadIdentity, listeners: [Listener])
        /// Between them: tunnel in, layer 7, tunnel out to the endpoint's node.
        case waypoint(listen: IPEndpoint, service: IPEndpoint, peer: IPEndpoint, peerIdentity: WorkloadIdentity)
        /// Proxy B: tunnel in, TCP out to the CONNECT authority.
        case inbound(listen: IPEndpoint)
    }

    struct Listener {
        var address: IPEndpoint
        /// Nil: redirected connections, the kernel knows.
        var destination: IPEndpoint?
    }

    let role: Role
    let certificate: WorkloadCertificate
    /// Event loops, one thread each.
    let loops: Int
    /// 1 switches the pool off: each connection gets a tunnel of its own.
    let streamsPerTunnelMax: Int?

    init(_ arguments: some Collection<String>) throws(BenchError) {
        var values: [String: String] = [:]
        var listeners: [Listener] = []
        var rest = arguments.dropFirst()
        while let name = rest.popFirst() {
            guard let value = rest.popFirst() else { throw BenchError("\(name) needs a value\n\(BenchError.usage)") }
            switch name {
            case "--forward":
                let ends = value.split(separator: "=")
                guard ends.count == 2 else { throw BenchError("--forward \(value): wanted IP:PORT=IP:PORT") }
                listeners.append(
                    Listener(
                        address: try Self.endpoint(name, String(ends[0])),
                        destination: try Self.endpoint(name, String(ends[1]))))
            case "--capture": listeners.append(Listener(address: try Self.endpoint(name, value), destination: nil))
            case "--peer", "--peer-identity", "--listen", "--service", "--identity", "--cert", "--key", "--ca",
                "--loops",
                "--streams-per-tunnel":
                values[name] = value
            default: throw BenchError("unknown option \(name)\n\(BenchError.usage)")
            }
        }
        func value(_ name: String) throws(BenchError) -> String {
            guard let value = values[name] else { throw BenchError("\(name) is missing\n\(BenchError.usage)") }
            return value
        }
        switch arguments.first {
        case "outbound":
            guard !listeners.isEmpty else { throw BenchError("no --forward and no --capture\n\(BenchError.usage)") }
            self.role = .outbound(
                peer: try Self.endpoint("--peer", try value("--peer")),
                peerIdentity: try Self.identity(try value("--peer-identity")), listeners: listeners)
        case "waypoint":
            self.role = .waypoint(
                listen: try Self.endpoint("--listen", try value("--listen")),
                service: try Self.endpoint("--service", try value("--service")),
                peer: try Self.endpoint("--peer", try value("--peer")),
                peerIdentity: try Self.identity(try value("--peer-identity")))
        case "inbound": self.role = .inbound(listen: try Self.endpoint("--listen", try value("--listen")))
        default: throw BenchError(BenchError.usage)
        }
        guard let loops = Int(values["--loops"] ?? "1"), (1...64).contains(loops) else {
            throw BenchError("--loops: wanted 1 to 64")
        }
        self.loops = loops
        if let text = values["--streams-per-tunnel"] {
            guard let streams = Int(text), streams > 0 else {
                throw BenchError("--streams-per-tunnel: wanted 1 or more")
            }
            self.streamsPerTunnelMax = streams
        } else {
            self.streamsPerTunnelMax = nil
        }
        self.certificate = try Self.certificate(
            identity: try Self.identity(try value("--identity")), chain: try PEM(path: try value("--cert")),
            key: try PEM(path: try value("--key")), roots: try PEM(path: try value("--ca")))
    }

    private static func certificate(
        identity: WorkloadIdentity, chain: PEM, key: PEM, roots: PEM
    ) throws(BenchError) -> WorkloadCertificate {
        guard !chain.certificates.isEmpty else { throw BenchError("--cert: no CERTIFICATE in the file") }
        guard !roots.certificates.isEmpty else { throw BenchError("--ca: no CERTIFICATE in the file") }
        guard let privateKey = key.privateKey else {
            throw BenchError(
                "--key: no PRIVATE KEY (PKCS#8) in the file; convert it with openssl pkcs8 -topk8 -nocrypt")
        }
        return WorkloadCertificate(
            identity: identity, chain: chain.certificates, privateKey: privateKey, roots: roots.certificates,
            version: 1)
    }

    private static func endpoint(_ name: String, _ text: String) throws(BenchError) -> IPEndpoint {
        guard let endpoint = IPEndpoint(text) else { throw BenchError("\(name) \(text): wanted IP:PORT") }
        return endpoint
    }

    private static func identity(_ text: String) throws(BenchError) -> WorkloadIdentity {
        do { return try WorkloadIdentity(spiffe: text) } catch { throw BenchError("\(error)") }
    }
}
