package import MeshIdentity
package import MeshModel
internal import MeshProto
package import MeshRoutes
internal import SwiftProtobuf

/// A service as sidecars reach it: for each port a cluster and its endpoints.
///
/// | behind the service | endpoint |
/// |---|---|
/// | a waypoint | the service's own address, in a tunnel to the waypoint |
/// | a pod behind a node proxy, or that speaks HBONE itself | the pod, in a tunnel |
/// | the same with a waypoint of its own | the pod, in a tunnel to that waypoint |
/// | a pod with a sidecar | the pod, over mutual TLS |
/// | anything else | as it is |
package struct SidecarDestination {
    /// An endpoint of a service.
    package struct Backend: Hashable, Sendable {
        package var workload: Workload
        package var hasSidecar: Bool
        /// Pods of its own waypoint; nil: it has none. Empty: nobody is there, and so nobody reaches the workload.
        package var waypoint: [Hop]?

        package init(_ workload: Workload, hasSidecar: Bool = false, waypoint: [Hop]? = nil) {
            self.workload = workload
            self.hasSidecar = hasSidecar
            self.waypoint = waypoint
        }

        fileprivate var isTunnelled: Bool {
            self.waypoint != nil || !self.hasSidecar && self.workload.tunnelProtocol == .hbone
        }
    }

    /// A pod of a waypoint.
    package struct Hop: Hashable, Sendable {
        package var address: IPEndpoint
        package var identity: WorkloadIdentity
        /// Relative to the others.
        package var weight: UInt32

        package init(_ address: IPEndpoint, _ identity: WorkloadIdentity, weight: UInt32 = 1) {
            self.address = address
            self.identity = identity
            self.weight = weight
        }
    }

    package private(set) var resources: [EnvoyResource] = []
    /// Who is expected in tunnels: each needs ``TunnelListeners/originate(_:_:)``.
    package private(set) var identities: Set<ExpectedIdentities> = []
    private let service: Service
    private let settings: EnvoySettings
    private let healthy: [Backend]
    private let hops: [Hop]?
    /// Also by endpoints that are not healthy now: the cluster is not another for that.
    private let isTunnelled: Bool

    /// - Parameters:
    ///   - backends: of the service, in any order.
    ///   - waypoint: pods of the service's waypoint; nil: it has none. Empty: nobody reaches the service.
    package init(
        _ service: Service, _ backends: [Backend], waypoint: [Hop]?, _ balancing: BackendBalancing,
        _ settings: EnvoySettings
    ) {
        self.service = service
        self.settings = settings
        // A service without an address of its own is reached by its pods' addresses, which are not its waypoint's business.
        self.hops = service.virtualAddress(settings) == nil ? nil : waypoint
        self.isTunnelled = self.hops != nil || backends.contains(where: \.isTunnelled)
        self.healthy = backends.filter {
            ($0.workload.isHealthy || service.loadBalancing.healthPolicy == .allowAll) && $0.workload.capacity > 0
                && $0.workload.network == settings.network
        }.sorted { $0.workload.uid < $1.workload.uid }
        for port in service.distinctPorts { self.add(port, balancing) }
    }

    private mutating func add(_ port: ServicePort, _ balancing: BackendBalancing) {
        let destination = EnvoyDestination(self.service.key, port: port.port)
        var cluster = DestinationCluster.message(destination, port, balancing, isTunnelled: self.isTunnelled)
        if self.hops == nil, self.service.loadBalancing.mode == .passthrough {
            cluster.goToOriginalDestination()
            self.resources.append(EnvoyResource(cluster.name, cluster))
            return
        }
        if let socket = self.mutualTLS(destination, port) { cluster.transportSocketMatches.insert(socket, at: 1) }
        var assignment = EnvoyClusterLoadAssignment()
        assignment.clusterName = destination.name
        let endpoints = self.endpoints(port)
        if !endpoints.isEmpty { assignment.endpoints = [.with { $0.lbEndpoints = endpoints }] }
        if self.hops == nil, self.service.isHeadless {
            // Who asks for one pod gets it or none; routes that lead here ask for any.
            cluster.lbSubsetConfig.fallbackPolicy = .anyEndpoint
            cluster.lbSubsetConfig.subsetSelectors = [
                .with {
                    $0.keys = [Self.addressKey]
                    $0.fallbackPolicy = .noFallback
                }
            ]
        }
        if self.hops == nil, self.healthy.contains(where: { $0.workload.addresses.isEmpty }) {
            // Only names are known: Envoy resolves them itself.
            cluster.type = .strictDns
            cluster.clearEdsClusterConfig()
            cluster.loadAssignment = assignment
            self.resources.append(EnvoyResource(cluster.name, cluster))
            return
        }
        self.resources += [EnvoyResource(cluster.name, cluster), EnvoyResource(destination.name, assignment)]
    }

    // MARK: Endpoints

    /// Metadata by which one pod of a service without an address is chosen.
    static let subset = "envoy.lb"
    private static let addressKey = "address"

    static func subset(_ address: IPAddress) -> Google_Protobuf_Struct {
        Google_Protobuf_Struct(fields: [Self.addressKey: Google_Protobuf_Value(stringValue: address.description)])
    }

    private mutating func endpoints(_ port: ServicePort) -> [EnvoyLBEndpoint] {
        if let hops = self.hops, let address = self.service.virtualAddress(self.settings) {
            let target = IPEndpoint(address: address, port: port.port)
            return self.tunnels(to: target, through: hops)
        }
        var endpoints: [EnvoyLBEndpoint] = []
        for backend in self.healthy {
            let workload = backend.workload
            guard let target = DestinationCluster.target(of: workload, self.service.key, port), target > 0 else {
                continue
            }
            guard let address = workload.addresses.first(where: { self.service.ipFamilies.allows($0) }) else {
                if workload.addresses.isEmpty, !workload.hostname.isEmpty {
                    endpoints.append(.plain(workload.hostname, target, weight: workload.capacity))
                }
                continue
            }
            for var endpoint in self.endpoints(backend, IPEndpoint(address: address, port: target)) {
                if self.service.isHeadless {
                    endpoint.metadata.filterMetadata[Self.subset] = Self.subset(address)
                }
                endpoints.append(endpoint)
            }
        }
        return endpoints
    }

    private mutating func endpoints(_ backend: Backend, _ target: IPEndpoint) -> [EnvoyLBEndpoint] {
        let workload = backend.workload
        if let hops = backend.waypoint { return self.tunnels(to: target, through: hops, weight: workload.capacity) }
        if backend.hasSidecar {
            var endpoint = EnvoyLBEndpoint.plain(target.address.description, target.port, weight: workload.capacity)
            endpoint.metadata.filterMetadata[EnvoyNames.socketMatch] = Self.mutual
            return [endpoint]
        }
        guard workload.tunnelProtocol == .hbone else {
            return [.plain(target.address.description, target.port, weight: workload.capacity)]
        }
        let expected = ExpectedIdentities(workload.identity, others: self.service.subjectAltNames)
        return [self.tunnel(to: target, expected, through: nil, weight: workload.capacity)]
    }

    private mutating func tunnels(
        to target: IPEndpoint, through hops: [Hop], weight: UInt32 = 1
    ) -> [EnvoyLBEndpoint] {
        hops.sorted { $0.address.description < $1.address.description }.map { hop in
            self.tunnel(
                to: target, ExpectedIdentities(hop.identity), through: hop.address, isOnly: hops.count == 1,
                weight: hop.weight * min(weight, Self.weightMax))
        }
    }

    /// The sum of an assignment's weights has to fit into 32 bits.
    private static let weightMax: UInt32 = 100

    /// - Parameter waypoint: whom the tunnel leads to; nil: to the target itself.
    private mutating func tunnel(
        to target: IPEndpoint, _ expected: ExpectedIdentities, through waypoint: IPEndpoint?, isOnly: Bool = true,
        weight: UInt32
    ) -> EnvoyLBEndpoint {
        self.identities.insert(expected)
        return .with { endpoint in
            endpoint.endpoint.address.envoyInternalAddress = .with {
                $0.serverListenerName = expected.listener
                // Without it Envoy would take all endpoints of a listener for one.
                $0.endpointID = target.description
                if !isOnly, let waypoint { $0.endpointID += " through \(waypoint)" }
            }
            var fields = ["local": Google_Protobuf_Value(stringValue: target.description)]
            if let waypoint { fields[EnvoyNames.waypoint] = Google_Protobuf_Value(stringValue: waypoint.description) }
            endpoint.metadata.filterMetadata = [
                EnvoyNames.originalDestination: Google_Protobuf_Struct(fields: fields),
                EnvoyNames.socketMatch: DestinationCluster.tunnelled,
            ]
            endpoint.loadBalancingWeight = Google_Protobuf_UInt32Value(max(weight, 1))
        }
    }

    // MARK: Mutual TLS

    private static let mutual = Google_Protobuf_Struct(fields: ["tlsMode": "istio"])

    /// To pods with a sidecar, whoever of the service's accounts answers; nil: the service has no such pods.
    private func mutualTLS(_ destination: EnvoyDestination, _ port: ServicePort) -> EnvoyCluster.SocketMatch? {
        guard self.hops == nil else { return nil }
        let accounts = self.healthy.filter { $0.hasSidecar && $0.waypoint == nil }.map(\.workload.identity.description)
        guard !accounts.isEmpty else { return nil }
        let others = self.service.subjectAltNames.filter { (try? WorkloadIdentity(spiffe: $0)) != nil }
        let peers = Set(accounts + others).sorted().map { EnvoyStringMatcher.exact($0) }
        let tls = EnvoyUpstreamTLS.with {
            $0.sni = "outbound_.\(port.port)_._.\(self.service.hostname)"
            $0.commonTlsContext = EnvoyCommonTLS(
                accepting: peers, protocols: Self.protocols(port.appProtocol), isTunnel: false)
        }
        return .with {
            $0.name = "tlsMode-istio"
            $0.match = Self.mutual
            $0.transportSocket = EnvoyTransportSocket("tls", tls.packed)
        }
    }

    /// Where nothing is said, the server looks at the first bytes.
    private static func protocols(_ appProtocol: ServicePort.AppProtocol) -> [String] {
        switch appProtocol {
        case .http11: ["istio-http/1.1", "istio", "http/1.1"]
        case .http2, .grpc: ["istio-h2", "istio", "h2"]
        case .unknown, .tcp, .tls: ["istio"]
        }
    }
}

extension EnvoyLBEndpoint {
    fileprivate static func plain(_ address: String, _ port: UInt16, weight: UInt32) -> EnvoyLBEndpoint {
        .with { endpoint in
            endpoint.endpoint.address.socketAddress = .with {
                $0.address = address
                $0.portValue = UInt32(port)
            }
            endpoint.loadBalancingWeight = Google_Protobuf_UInt32Value(weight)
        }
    }
}

extension EnvoyCluster {
    /// Connections go where the client's went.
    mutating func goToOriginalDestination() {
        self.type = .originalDst
        self.clearEdsClusterConfig()
        self.lbPolicy = .clusterProvided
        self.transportSocketMatches = []
    }
}

extension Service {
    /// At which clients in this network find it.
    func virtualAddress(_ settings: EnvoySettings) -> IPAddress? {
        self.addresses.first { $0.network == settings.network && self.ipFamilies.allows($0.address) }?.address
    }

    /// Clients find its pods by their own addresses.
    package var isHeadless: Bool { self.addresses.isEmpty && self.blocks.isEmpty && self.isOfCluster }

    /// A Service of Kubernetes, and no host of a ServiceEntry.
    package var isOfCluster: Bool { self.hostname.hasPrefix("\(self.name).\(self.namespace).svc.") }

    /// Ports by number: a Service may have the same number for TCP and for UDP, of which Envoy sees the one.
    package var distinctPorts: [ServicePort] {
        var ports: [UInt16: ServicePort] = [:]
        for port in self.ports where ports[port.port] == nil || ports[port.port]?.appProtocol == .unknown {
            ports[port.port] = port
        }
        return ports.values.sorted { $0.port < $1.port }.map { port in
            // Servers of these speak first, so that nobody may wait for the client.
            guard port.appProtocol == .unknown, [25, 53, 3306, 27017].contains(port.port) else { return port }
            var port = port
            port.appProtocol = .tcp
            return port
        }
    }
}
