package import KubeAPI

/// The node's service rules: from Services and EndpointSlices to the text of an nftables ruleset. Pure, and the same
/// text for the same input, whatever its order.
///
/// Cluster addresses and node ports are looked up in one map each, so a packet's cost does not grow with the number of
/// services. Chosen once per connection, an endpoint is random, or by the client's address with `ClientIP` affinity.
/// What is left with a cluster address after that has no endpoint: refused.
package struct ServiceRules: Sendable {
    package static let table = "martlet-lab-services"

    package struct Endpoint: Hashable, Sendable, Comparable {
        package var address: String
        package var port: Int64
        package static func < (a: Endpoint, b: Endpoint) -> Bool { (a.address, a.port) < (b.address, b.port) }
    }
    package struct Port: Hashable, Sendable {
        /// `namespace/name:port/proto`: what the rules are named after.
        package var key: String
        package var addresses: [String]
        package var proto: String
        package var port: Int64
        package var nodePort: Int64?
        package var isSticky: Bool
        package var endpoints: [Endpoint]
    }

    package var ports: [Port]
    package var podCIDR: String
    package var clusterCIDR: String
    package var serviceCIDR: String
    /// What leaves the node through it for somewhere outside the cluster gets the node's address.
    package var uplink: String

    package init(
        services: [KubeObject], slices: [KubeObject], podCIDR: String, clusterCIDR: String, serviceCIDR: String,
        nodeName: String, uplink: String = "eth0"
    ) {
        self.podCIDR = podCIDR
        self.clusterCIDR = clusterCIDR
        self.serviceCIDR = serviceCIDR
        self.uplink = uplink
        let slicesOf = Dictionary(grouping: slices) {
            "\($0.namespace)/\($0.labels["kubernetes.io/service-name"] ?? "")"
        }
        self.ports = services.sorted { $0.key < $1.key }.flatMap { service in
            Self.ports(service, slicesOf[service.key] ?? [], nodeName)
        }
    }

    private static func ports(_ service: KubeObject, _ slices: [KubeObject], _ nodeName: String) -> [Port] {
        guard service.spec["type"]?.string != "ExternalName" else { return [] }
        let cluster = service.spec["clusterIP"]?.string ?? ""
        guard self.isAddress(cluster) else { return [] }
        let balancers = (service.status.at("loadBalancer", "ingress")?.array ?? []).compactMap { $0["ip"]?.string }
        let external = service.spec["externalIPs"]?.array?.compactMap(\.string) ?? []
        let addresses = Array(Set([cluster] + balancers + external)).filter(self.isAddress).sorted()
        let isLocal = service.spec["internalTrafficPolicy"]?.string == "Local"
        return (service.spec["ports"]?.array ?? []).compactMap { port in
            guard let number = port["port"]?.int, (1...65535).contains(number) else { return nil }
            let proto = (port["protocol"]?.string ?? "TCP").lowercased()
            guard proto == "tcp" || proto == "udp" else { return nil }
            let endpoints = slices.flatMap {
                self.endpoints($0, port["name"]?.string ?? "", proto, isLocal ? nodeName : nil)
            }
            let nodePort = port["nodePort"]?.int.flatMap { (1...65535).contains($0) ? $0 : nil }
            return Port(
                key: "\(service.key):\(number)/\(proto)", addresses: addresses, proto: proto, port: number,
                nodePort: nodePort, isSticky: service.spec["sessionAffinity"]?.string == "ClientIP",
                endpoints: Array(Set(endpoints)).sorted())
        }
    }

    private static func endpoints(
        _ slice: KubeObject, _ name: String, _ proto: String, _ onlyNode: String?
    ) -> [Endpoint] {
        guard (slice.json["addressType"]?.string ?? "IPv4") == "IPv4" else { return [] }
        let port = (slice.json["ports"]?.array ?? []).first {
            ($0["name"]?.string ?? "") == name && ($0["protocol"]?.string ?? "TCP").lowercased() == proto
        }?["port"]?.int
        guard let port, (1...65535).contains(port) else { return [] }
        return (slice.json["endpoints"]?.array ?? []).flatMap { endpoint -> [Endpoint] in
            // Absent means ready.
            guard endpoint.at("conditions", "ready")?.bool ?? true else { return [] }
            if let onlyNode, endpoint["nodeName"]?.string != onlyNode { return [] }
            return (endpoint["addresses"]?.array ?? []).compactMap(\.string).filter(self.isAddress)
                .map { Endpoint(address: $0, port: port) }
        }
    }

    /// A dotted quad: only such text gets into the ruleset.
    package static func isAddress(_ text: String) -> Bool {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4
            && parts.allSatisfy { part in part.count <= 3 && UInt8(part) != nil && part.allSatisfy(\.isNumber) }
    }

    /// A whole replacement, for `nft -f -`: applied in one transaction.
    package var ruleset: String {
        let live = self.ports.filter { !$0.endpoints.isEmpty }
        let names = Dictionary(uniqueKeysWithValues: live.enumerated().map { ($1.key, "port-\($0)") })
        var lines = ["table ip \(Self.table)", "delete table ip \(Self.table)", "table ip \(Self.table) {"]
        for port in live { lines += Self.chain(port, named: names[port.key] ?? "") }
        let clusterElements = live.flatMap { port in
            port.addresses.map { "\($0) . \(port.proto) . \(port.port) : goto \(names[port.key] ?? "")" }
        }
        let nodeElements = live.compactMap { port in
            port.nodePort.map { "\(port.proto) . \($0) : goto \(names[port.key] ?? "")" }
        }
        let deadNodePorts = self.ports.filter(\.endpoints.isEmpty).compactMap { port in
            port.nodePort.map { "\(port.proto) . \($0)" }
        }
        let deadAddresses = self.ports.filter(\.endpoints.isEmpty).flatMap { port in
            port.addresses.map { "\($0) . \(port.proto) . \(port.port)" }
        }
        let hairpins = Set(live.flatMap(\.endpoints).map(\.address)).sorted().map { "\($0) . \($0)" }
        lines += Self.set("map cluster-ports", "ipv4_addr . inet_proto . inet_service : verdict", clusterElements)
        lines += Self.set("map node-ports", "inet_proto . inet_service : verdict", nodeElements)
        lines += Self.set("set dead-cluster-ports", "ipv4_addr . inet_proto . inet_service", deadAddresses)
        lines += Self.set("set dead-node-ports", "inet_proto . inet_service", deadNodePorts)
        lines += Self.set("set hairpins", "ipv4_addr . ipv4_addr", hairpins)
        lines += Self.chain(
            "services", nil,
            [
                "ip daddr . meta l4proto . th dport vmap @cluster-ports",
                "fib daddr type local meta l4proto . th dport vmap @node-ports",
            ])
        lines += Self.chain("prerouting", "type nat hook prerouting priority dstnat; policy accept;", ["jump services"])
        lines += Self.chain("output", "type nat hook output priority -100; policy accept;", ["jump services"])
        lines += Self.chain(
            "postrouting", "type nat hook postrouting priority srcnat; policy accept;",
            [
                // A pod that reaches itself through its service would answer itself directly.
                "ct status dnat ip saddr . ip daddr @hairpins masquerade",
                // From outside through a node port: the answer must come back this way.
                "ct status dnat ip saddr != \(self.clusterCIDR) fib saddr type != local masquerade",
                "ip saddr \(self.podCIDR) ip daddr != { \(self.clusterCIDR), 224.0.0.0/4 } oifname \"\(self.uplink)\" masquerade",
            ])
        let refuse = [
            "ip daddr . meta l4proto . th dport @dead-cluster-ports reject", "ip daddr \(self.serviceCIDR) reject",
        ]
        lines += Self.chain("forward", "type filter hook forward priority filter; policy accept;", refuse)
        lines += Self.chain("local-output", "type filter hook output priority filter; policy accept;", refuse)
        lines += Self.chain(
            "input", "type filter hook input priority filter; policy accept;",
            ["fib daddr type local meta l4proto . th dport @dead-node-ports reject"])
        return (lines + ["}", ""]).joined(separator: "\n")
    }

    private static func chain(_ port: Port, named name: String) -> [String] {
        let protocolMatch = "meta l4proto \(port.proto)"
        if port.endpoints.count == 1, let only = port.endpoints.first {
            return self.chain(
                name, nil, ["\(protocolMatch) dnat to \(only.address):\(only.port)"], comment: port.key)
        }
        let choice = port.isSticky ? "jhash ip saddr" : "numgen random"
        let elements = port.endpoints.enumerated().map { "\($0) : \($1.address) . \($1.port)" }
        return self.chain(
            name, nil,
            [
                "\(protocolMatch) dnat ip addr . port to \(choice) mod \(port.endpoints.count) map { "
                    + elements.joined(separator: ", ") + " }"
            ], comment: port.key)
    }

    private static func chain(_ name: String, _ hook: String?, _ rules: [String], comment: String? = nil) -> [String] {
        var lines = ["\tchain \(name) {"]
        if let comment { lines.append("\t\t# \(comment)") }
        if let hook { lines.append("\t\t\(hook)") }
        return lines + rules.map { "\t\t\($0)" } + ["\t}"]
    }

    private static func set(_ name: String, _ type: String, _ elements: [String]) -> [String] {
        var lines = ["\t\(name) {", "\t\ttype \(type)"]
        if !elements.isEmpty {
            lines.append("\t\telements = { \(elements.joined(separator: ",\n\t\t\t")) }")
        }
        return lines + ["\t}"]
    }
}
