/// One port of a service. `targetPort` 0 means a named port, resolved by each endpoint.
public struct ServicePort: Hashable, Sendable {
    public enum AppProtocol: UInt8, Hashable, Sendable { case unknown = 0, http11, http2, grpc, tcp, tls }
    public var port: UInt16
    public var targetPort: UInt16
    public var appProtocol: AppProtocol

    public init(port: UInt16, targetPort: UInt16, appProtocol: AppProtocol = .unknown) {
        self.port = port
        self.targetPort = targetPort
        self.appProtocol = appProtocol
    }
}

/// Which endpoints a service prefers (`istio.workload.LoadBalancing`).
public struct LoadBalancing: Hashable, Sendable {
    public enum Scope: UInt8, Hashable, Sendable { case region = 1, zone, subzone, node, cluster, network }
    public enum Mode: UInt8, Hashable, Sendable { case standard = 0, strict, failover, passthrough }
    public enum HealthPolicy: UInt8, Hashable, Sendable { case onlyHealthy = 0, allowAll }
    public var routingPreference: [Scope] = []
    public var mode = Mode.standard
    public var healthPolicy = HealthPolicy.onlyHealthy

    public init() {}
}

/// A service of the mesh (`istio.workload.Service`); its key is `<namespace>/<hostname>`.
public struct Service: Hashable, Sendable {
    public enum IPFamilies: UInt8, Hashable, Sendable { case automatic = 0, v4Only, v6Only, dual }
    public enum Visibility: UInt8, Hashable, Sendable { case everywhere = 0, namespace }

    public var name: String
    public var namespace: String
    public var hostname: String
    /// Virtual addresses; none for a headless service.
    public var addresses: [NetworkAddress] = []
    /// Virtual address blocks, with their network.
    public var blocks: [NetworkBlock] = []
    public var ports: [ServicePort] = []
    public var subjectAltNames: [String] = []
    public var waypoint: GatewayAddress?
    public var weightedWaypoints: [WeightedWaypoint] = []
    public var loadBalancing = LoadBalancing()
    public var ipFamilies = IPFamilies.automatic
    public var isCanonical = false
    public var ingressUsesWaypoint = false
    public var visibility = Visibility.everywhere

    public init(name: String, namespace: String, hostname: String) {
        self.name = name
        self.namespace = namespace
        self.hostname = hostname
    }

    public var key: NamespacedName { NamespacedName(namespace: self.namespace, name: self.hostname) }
}

public struct NetworkBlock: Hashable, Sendable {
    public var network: String
    public var cidr: CIDR

    public init(network: String, cidr: CIDR) {
        self.network = network
        self.cidr = cidr
    }
}

public struct WeightedWaypoint: Hashable, Sendable {
    public var destination: GatewayAddress
    /// Relative to the others; 0 is never chosen.
    public var weight: UInt32

    public init(destination: GatewayAddress, weight: UInt32) {
        self.destination = destination
        self.weight = weight
    }
}

/// What the address stream carries.
public enum MeshAddress: Hashable, Sendable {
    case workload(Workload)
    /// Indirect: a service is four times as big as a workload, and a first response has a hundred thousand of both.
    indirect case service(Service)

    /// The xDS resource name: the workload's uid, or the service's `<namespace>/<hostname>`.
    public var resourceName: String {
        switch self {
        case .workload(let workload): workload.uid
        case .service(let service): service.key.description
        }
    }
}
