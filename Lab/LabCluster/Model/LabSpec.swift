internal import Foundation
internal import KubeAPI

/// A lab cluster as it was asked for: everything that starting it again needs. Kept as `cluster.json`.
public struct LabSpec: Hashable, Sendable {
    public enum Phase: String, Hashable, Sendable {
        /// Creation has not finished; without a living creator it is garbage.
        case creating
        case created
    }
    public struct Node: Hashable, Sendable {
        public var role: NodeFilter.Role
        /// Within the role.
        public var index: Int
        public var labels: [String: String] = [:]
        var taints: [JSONValue] = []
    }

    public var name: String
    public var phase = Phase.creating
    public var nodes: [Node]
    /// The bridge's network; its first address is the machine's, then come the nodes.
    public var subnet: IPv4Network
    public var apiHost: String
    public var apiPort: Int
    public var ports: [PortMapping]

    public static let nameDefault = "k3s-default"
    /// `k3d-` + name + `-server-0` has to be a node name, and everything made of it a path.
    public static let nameBytesMax = 32
    public static let agentsMax = 200
    public static let podNetwork = IPv4Network(address: 0x0a2a_0000, prefixLength: 16)
    public static let serviceNetwork = IPv4Network(address: 0x0a2b_0000, prefixLength: 16)
    public static let clusterDNS = "10.43.0.10"
    public static let clusterDomain = "cluster.local"
    /// Where nodes and pods reach the API server, on the bridge's address.
    public static let internalAPIPort = 6_443
    /// Tried in order until one is free.
    public static let subnetDefaults = (28...31).map {
        IPv4Network(address: 0xac00_0000 | UInt32($0) << 16, prefixLength: 16)
    }

    public init(name: String, agents: Int, subnet: IPv4Network, apiHost: String, apiPort: Int, ports: [PortMapping])
        throws(LabError)
    {
        let allowed = Set("abcdefghijklmnopqrstuvwxyz0123456789-".utf8)
        let isLength = (1...Self.nameBytesMax).contains(name.utf8.count)
        guard isLength, name.utf8.allSatisfy(allowed.contains), !name.hasPrefix("-"), !name.hasSuffix("-") else {
            throw LabError(
                "\"\(name)\" is no cluster name; wanted 1 to \(Self.nameBytesMax) lower-case letters, digits and dashes"
            )
        }
        guard (0...Self.agentsMax).contains(agents) else {
            throw LabError("--agents \(agents): wanted 0 to \(Self.agentsMax)")
        }
        self.name = name
        self.nodes = [Node(role: .server, index: 0)] + (0..<agents).map { Node(role: .agent, index: $0) }
        guard subnet.prefixLength <= 30, 1 << (32 - subnet.prefixLength) >= self.nodes.count + 3,
            subnet.prefixLength >= 8
        else {
            throw LabError(
                "--subnet \(subnet) has no room for \(self.nodes.count) nodes; wanted one like 172.28.0.0/16")
        }
        self.subnet = subnet
        self.apiHost = apiHost
        self.apiPort = apiPort
        self.ports = ports
    }

    // MARK: Names and addresses

    public var context: String { "k3d-\(self.name)" }
    public var gateway: String { self.subnet.host(1) }
    public func nodeName(_ node: Node) -> String { "k3d-\(self.name)-\(node.role.rawValue)-\(node.index)" }
    /// 0 for the server, then the agents.
    public func position(_ node: Node) -> Int { node.role == .server ? node.index : node.index + 1 }
    public func nodeIP(_ node: Node) -> String { self.subnet.host(2 + self.position(node)) }
    public func podCIDR(_ node: Node) -> IPv4Network {
        IPv4Network(address: Self.podNetwork.address | UInt32(self.position(node)) << 8, prefixLength: 24)
    }
    /// Made from the cluster's name, so that it is found even when all files are lost. Eight characters: names of the
    /// nodes' ports begin with them.
    public static func bridge(_ cluster: String) -> String {
        var hash: UInt32 = 2_166_136_261
        for byte in cluster.utf8 { hash = (hash ^ UInt32(byte)) &* 16_777_619 }
        let digits = String(hash & 0xff_ffff, radix: 16)
        return "ml" + String(repeating: "0", count: 6 - digits.count) + digits
    }
    public var bridge: String { Self.bridge(self.name) }

    /// Nodes that a port mapping leads to.
    public func targets(_ mapping: PortMapping) -> [Node] {
        if mapping.filter.parts.contains(.loadBalancer) { return self.nodes }
        return self.nodes.filter { mapping.filter.matches($0.role, $0.index) }
    }

    /// - Throws: when no node is meant.
    public mutating func apply(_ argument: K3sArgument) throws(LabError) {
        switch argument {
        case .nothing: break
        case .label(let key, let value, let filter):
            try self.change(filter) { $0.labels[key] = value }
        case .taint(let key, let value, let effect, let filter):
            try self.change(filter) {
                $0.taints.append(["key": .string(key), "value": .string(value), "effect": .string(effect)])
            }
        }
    }

    private mutating func change(_ filter: NodeFilter, _ body: (inout Node) -> Void) throws(LabError) {
        var isUsed = false
        for index in self.nodes.indices where filter.matches(self.nodes[index].role, self.nodes[index].index) {
            body(&self.nodes[index])
            isUsed = true
        }
        if !isUsed {
            throw LabError("a node filter matches none of the \(self.nodes.count) nodes of cluster \(self.name)")
        }
    }

    // MARK: The file

    var json: JSONValue {
        [
            "name": .string(self.name), "phase": .string(self.phase.rawValue), "subnet": .string("\(self.subnet)"),
            "apiHost": .string(self.apiHost), "apiPort": .int(Int64(self.apiPort)),
            "ports": .array(self.ports.map(\.json)),
            "nodes": .array(
                self.nodes.map { node in
                    [
                        "role": .string(node.role.rawValue), "index": .int(Int64(node.index)),
                        "labels": JSONValue(node.labels), "taints": .array(node.taints),
                    ]
                }),
        ]
    }

    init(_ json: JSONValue) throws(LabError) {
        guard let name = json["name"]?.string, let phase = json["phase"]?.string.flatMap(Phase.init),
            let subnet = json["subnet"]?.string.flatMap({ IPv4Network($0) }), let host = json["apiHost"]?.string,
            let port = json["apiPort"]?.int
        else { throw LabError("a member of cluster.json is missing or of the wrong form") }
        var ports: [PortMapping] = []
        for mapping in json["ports"]?.array ?? [] { ports.append(try PortMapping(mapping)) }
        let nodes = json["nodes"]?.array ?? []
        try self.init(
            name: name, agents: nodes.count { $0["role"]?.string == "agent" }, subnet: subnet, apiHost: host,
            apiPort: Int(clamping: port), ports: ports)
        self.phase = phase
        for (index, node) in nodes.enumerated() where self.nodes.indices.contains(index) {
            self.nodes[index].labels = node["labels"]?.stringMap ?? [:]
            self.nodes[index].taints = node["taints"]?.array ?? []
        }
    }
}
