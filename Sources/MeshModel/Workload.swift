public import MeshIdentity

/// A namespace and a name, written `namespace/name`.
public struct NamespacedName: Hashable, Sendable, CustomStringConvertible {
    public var namespace, name: String

    public init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }

    /// Exactly one `/`, something after it.
    public init?(_ key: String) {
        let parts = key.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[1].isEmpty, !parts[1].contains("/") else { return nil }
        self.init(namespace: String(parts[0]), name: String(parts[1]))
    }

    public var description: String { "\(self.namespace)/\(self.name)" }
}

/// An address within a network (a flat layer-3 domain; the empty string is the default network).
public struct NetworkAddress: Hashable, Sendable, CustomStringConvertible {
    public var network: String
    public var address: IPAddress

    public init(network: String, address: IPAddress) {
        self.network = network
        self.address = address
    }

    public var description: String { "\(self.network)/\(self.address)" }
}

/// How to reach a waypoint or a network gateway (`istio.workload.GatewayAddress`).
public struct GatewayAddress: Hashable, Sendable {
    public enum Destination: Hashable, Sendable {
        /// A Service by `namespace/hostname`: the preferred form.
        case hostname(NamespacedName)
        case address(NetworkAddress)
    }
    public var destination: Destination
    /// The HBONE port to dial there, 15008 as a rule.
    public var hbonePort: UInt16

    public init(destination: Destination, hbonePort: UInt16) {
        self.destination = destination
        self.hbonePort = hbonePort
    }
}

public struct Locality: Hashable, Sendable {
    public var region, zone, subzone: String

    public init(region: String = "", zone: String = "", subzone: String = "") {
        self.region = region
        self.zone = zone
        self.subzone = subzone
    }
}

/// How the application behind a tunnel wants to receive connections (`istio.workload.ApplicationTunnel`).
public struct ApplicationTunnel: Hashable, Sendable {
    public enum Handoff: UInt8, Hashable, Sendable { case none = 0, proxyProtocol = 1 }
    public var handoff: Handoff
    /// Nil keeps the requested port.
    public var port: UInt16?

    public init(handoff: Handoff, port: UInt16?) {
        self.handoff = handoff
        self.port = port
    }
}

/// One endpoint of the mesh: a pod, a VM, or an external address (`istio.workload.Workload`).
/// Defaults that the wire leaves out are already applied here (trust domain, service account, cluster, capacity).
///
/// A node proxy keeps a hundred thousand of them, so that what the pods of one Deployment have in common and what the
/// pods of one node have in common are kept apart, behind one reference each: ``common`` and ``site``. Copies share
/// them; whoever keeps many gives equal ones the same object.
public struct Workload: Hashable, Sendable {
    public enum TunnelProtocol: UInt8, Hashable, Sendable { case none = 0, hbone = 1 }
    public enum NetworkMode: UInt8, Hashable, Sendable { case standard = 0, hostNetwork = 1 }
    public enum Kind: UInt8, Hashable, Sendable { case deployment = 0, cronJob = 1, pod = 2, job = 3 }

    /// Globally unique: `<cluster>//Pod/<namespace>/<name>` for a pod.
    public var uid: String
    public var name = ""
    public var addresses: [IPAddress] = []
    public var isHealthy = true
    public var common = Common.standard
    public var site = Site.unknown

    public init(uid: String) { self.uid = uid }

    public var identity: WorkloadIdentity {
        WorkloadIdentity(
            trustDomain: self.trustDomain, namespace: self.namespace, serviceAccount: self.serviceAccount)
    }
}
