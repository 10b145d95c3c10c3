package import KubeAPI
package import MeshModel

/// What the mesh reads of a ServiceEntry: hosts that are no Kubernetes Services, and where they are.
package struct ServiceEntryView: Hashable, Sendable {
    package enum Resolution: String, Hashable, Sendable {
        /// The client has resolved the host already: connections go where they were going.
        case none = "NONE"
        case fixed = "STATIC"
        case dns = "DNS"
        case dnsRoundRobin = "DNS_ROUND_ROBIN"
        case dynamicDNS = "DYNAMIC_DNS"
    }
    package struct Port: Hashable, Sendable {
        package var number: UInt16
        package var name: String
        package var protocolName: String
        /// Nil: the same as ``number``.
        package var target: UInt16?
        package var isTCP: Bool { self.protocolName.uppercased() != "UDP" }
    }
    /// One address of a host that the control plane chose (`status.addresses`).
    package struct AllocatedAddress: Hashable, Sendable {
        package var host: String
        package var address: IPAddress
    }

    package var namespace, name: String
    package var generation: Int64
    package var createdAt: String
    package var labels: [String: String]
    package var isCaptured: Bool
    package var distributionAnnotation: String?
    package var canaryWeight: String?
    package var hosts: [String]
    /// As written.
    package var addressTexts: [String]
    package var ports: [Port]
    package var resolution: Resolution
    package var endpoints: [EndpointView]
    /// Nil when the object selects nothing.
    package var selector: [String: String]?
    package var subjectAltNames: [String]
    package var exportTo: [String]
    package var allocated: [AllocatedAddress]

    package init(_ object: KubeObject) {
        let spec = object.spec
        self.namespace = object.namespace
        self.name = object.name
        self.generation = object.generation
        self.createdAt = object.metadata["creationTimestamp"]?.string ?? ""
        self.labels = object.labels
        self.isCaptured = object.annotations[Names.redirection] == "enabled"
        self.distributionAnnotation = object.annotations[Names.trafficDistribution]
        self.canaryWeight = object.annotations[Names.canaryWeight]
        func texts(_ name: String) -> [String] { (spec[name]?.array ?? []).compactMap(\.string) }
        self.hosts = texts("hosts")
        self.addressTexts = texts("addresses")
        self.subjectAltNames = texts("subjectAltNames")
        self.exportTo = texts("exportTo")
        // A way of resolving newer than us is one that we cannot follow: then nothing is resolved.
        let resolution = spec["resolution"]?.string.map { Resolution(rawValue: $0) ?? Resolution.none }
        self.resolution = resolution ?? Resolution.none
        self.ports = (spec["ports"]?.array ?? []).compactMap { port in
            guard let number = port["number"]?.int.flatMap({ UInt16(exactly: $0) }) else { return nil }
            let target = port["targetPort"]?.int.flatMap { UInt16(exactly: $0) } ?? 0
            return Port(
                number: number, name: port["name"]?.string ?? "", protocolName: port["protocol"]?.string ?? "",
                target: target == 0 ? nil : target)
        }
        self.endpoints = (spec["endpoints"]?.array ?? []).map { EndpointView($0) }
        let selector = spec.at("workloadSelector", "labels")?.stringMap ?? [:]
        self.selector = selector.isEmpty ? nil : selector
        self.allocated = (object.status["addresses"]?.array ?? []).compactMap { entry in
            guard let address = entry["value"]?.string.flatMap({ IPAddress($0) }) else { return nil }
            return AllocatedAddress(host: entry["host"]?.string ?? "", address: address)
        }
    }

    package var key: String { "\(self.namespace)/\(self.name)" }

    /// Addresses and blocks as values; nil when one of them cannot be read.
    package var addresses: [CIDR]? {
        let read = self.addressTexts.compactMap { CIDR($0) }
        return read.count == self.addressTexts.count ? read : nil
    }

    func selects(_ labels: [String: String]) -> Bool {
        self.selector.map { $0.allSatisfy { labels[$0.key] == $0.value } } ?? false
    }

    static func isWildcard(_ host: String) -> Bool { host.hasPrefix("*") }

    /// Whether a host gets virtual addresses from us. Only those are used again when they stand in the status.
    func mayAllocate(_ host: String) -> Bool {
        self.addressTexts.isEmpty && self.resolution != .none
            && self.labels["networking.istio.io/enable-autoallocate-ip"]?.lowercased() != "false"
            && (!Self.isWildcard(host) || self.resolution == .dynamicDNS)
    }
}

/// One address of a service outside Kubernetes: a WorkloadEntry's spec, or an endpoint inside a ServiceEntry.
package struct EndpointView: Hashable, Sendable {
    /// An address, a host name, or nothing (then it is reached through its network's gateway).
    package var address: String
    package var ports: [String: UInt16]
    package var labels: [String: String]
    /// Nil: the cluster's own.
    package var network: String?
    package var locality: Locality
    package var weight: UInt32?
    package var serviceAccount: String

    package init(_ json: JSONValue) {
        self.address = json["address"]?.string ?? ""
        self.ports = (json["ports"]?.object ?? [:]).compactMapValues { $0.int.flatMap { UInt16(exactly: $0) } }
        self.labels = json["labels"]?.stringMap ?? [:]
        self.network = json["network"]?.string.flatMap { $0.isEmpty ? nil : $0 }
        self.locality = Locality(path: json["locality"]?.string ?? "")
        self.weight = json["weight"]?.int.flatMap { UInt32(exactly: $0) }.flatMap { $0 == 0 ? nil : $0 }
        self.serviceAccount = json["serviceAccount"]?.string ?? ""
    }
}

/// What the mesh reads of a WorkloadEntry: a machine outside Kubernetes.
package struct WorkloadEntryView: Hashable, Sendable {
    package var namespace, name: String
    package var generation: Int64
    /// Of the metadata, over those of the spec.
    package var labels: [String: String]
    package var isCaptured: Bool
    package var autoRegistrationGroup: String?
    package var endpoint: EndpointView
    /// The condition `Healthy`, which the health checks of a machine write, is not `False`.
    package var isHealthy: Bool

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.generation = object.generation
        self.endpoint = EndpointView(object.spec)
        self.labels = self.endpoint.labels.merging(object.labels) { $1 }
        self.isCaptured = object.annotations[Names.redirection] == "enabled"
        self.autoRegistrationGroup = object.annotations["istio.io/autoRegistrationGroup"]
        self.isHealthy = object.condition("Healthy") != "False" && !object.isBeingDeleted
    }

    package var key: String { "\(self.namespace)/\(self.name)" }
}
