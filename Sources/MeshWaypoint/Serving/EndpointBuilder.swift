internal import MeshDirectory
internal import MeshExchange
internal import MeshIdentity
internal import MeshModel
internal import MeshTunnel

/// The endpoints of one port of a service, as the engine takes them.
///
/// - One with an address on our network: there.
/// - One that is known by a name only: its addresses are looked up when a connection is made.
/// - Those of another network: through that network's gateway, with a tunnel inside the tunnel. The gateway chooses, so
///   that all behind it are one endpoint.
struct EndpointBuilder {
    let service: ServiceEntry
    let port: ServicePort
    /// Our own pod, if it is known.
    let own: WorkloadEntry?
    let settings: WaypointSettings
    let state: MeshState

    /// The gateways that were asked for, as they were.
    private(set) var gateways: [GatewayAddress: GatewayPeers] = [:]
    private var remotes: [(gateway: GatewayAddress, network: String, capacity: UInt64, priority: Int)] = []
    /// Why endpoints are left out, for when none is left.
    private var troubles: [String] = []

    init(
        _ service: ServiceEntry, _ port: ServicePort, own: WorkloadEntry?, _ settings: WaypointSettings,
        _ state: MeshState
    ) {
        self.service = service
        self.port = port
        self.own = own
        self.settings = settings
        self.state = state
    }

    /// Nil: whoever asks knows no better than that there is none.
    var reasonForNone: String? {
        self.troubles.isEmpty ? nil : "the backend has no endpoint: " + self.troubles.joined(separator: "; ")
    }

    mutating func build() -> [UpstreamEndpoint] {
        let balancing = self.service.service.loadBalancing
        let isRanked = balancing.mode == .strict || balancing.mode == .failover
        let preference = isRanked ? balancing.routingPreference : []
        let place = self.own?.place
        let headers = Self.headers(own: self.own, host: self.service.service.hostname)
        var endpoints: [UpstreamEndpoint] = []
        for endpoint in self.service.endpoints {
            var priority = 0
            if let place, !preference.isEmpty {
                guard let rank = place.rank(preference, endpoint.workload.place, isStrict: balancing.mode == .strict)
                else { continue }
                // A rank is at most the number of scopes, and once more for the network.
                priority = preference.count * 2 - rank
            }
            guard endpoint.workload.workload.network == self.settings.network else {
                self.note(remote: endpoint.workload.workload, priority)
                continue
            }
            guard
                let target = endpoint.targetPort(of: self.port.port)
                    ?? (self.port.targetPort > 0 ? self.port.targetPort : nil),
                let made = Self.direct(
                    endpoint.workload, port: target, self.service.service, headers: headers, priority: priority,
                    self.settings)
            else { continue }
            endpoints.append(made)
        }
        for remote in self.remotes {
            endpoints += self.behind(
                remote.gateway, network: remote.network, remote.capacity, remote.priority, headers)
        }
        return endpoints
    }

    /// What a CONNECT says about us, and about what it is for.
    static func headers(own: WorkloadEntry?, host: String?) -> [(name: String, value: String)] {
        var headers: [(name: String, value: String)] = []
        if let own { headers.append(("baggage", own.baggage)) }
        if let host { headers.append(("forwarded", "host=\(host)")) }
        return headers
    }

    /// On our own network. Nil: there is no way to it.
    static func direct(
        _ entry: WorkloadEntry, port: UInt16, _ service: Service?, headers: [(name: String, value: String)],
        priority: Int, _ settings: WaypointSettings
    ) -> UpstreamEndpoint? {
        let workload = entry.workload
        guard workload.network == settings.network, workload.capacity > 0,
            let place = Self.place(workload, service?.ipFamilies)
        else { return nil }
        let target = IPEndpoint(address: place.address, port: port)
        var route: TunnelRoute?
        if workload.tunnelProtocol == .hbone {
            var expected = Self.identities(service)
            if !expected.contains(entry.identity) { expected.append(entry.identity) }
            route = TunnelRoute(
                peer: IPEndpoint(address: place.address, port: settings.tunnelPort), authority: target.description,
                source: settings.identity, expected: expected, headers: headers, labels: WaypointSnapshot.labels)
        }
        return UpstreamEndpoint(
            workload: workload.uid, address: target, route: route, host: place.host,
            families: service?.ipFamilies ?? .automatic, service: service?.hostname ?? "", priority: priority,
            weight: workload.capacity)
    }

    // MARK: Other networks

    private mutating func note(remote workload: Workload, _ priority: Int) {
        guard workload.capacity > 0 else { return }
        guard let gateway = workload.networkGateway else {
            return self.note("nothing is known of a gateway to network \"\(workload.network)\"")
        }
        if let index = self.remotes.firstIndex(where: { $0.gateway == gateway }) {
            self.remotes[index].capacity += UInt64(workload.capacity)
            self.remotes[index].priority = min(self.remotes[index].priority, priority)
        } else {
            self.remotes.append((gateway, workload.network, UInt64(workload.capacity), priority))
        }
    }

    private mutating func note(_ trouble: String) {
        if !self.troubles.contains(trouble) { self.troubles.append(trouble) }
    }

    /// Whom the gateway chooses has to prove an identity that the service lists: it could be anybody else.
    private mutating func behind(
        _ gateway: GatewayAddress, network: String, _ capacity: UInt64, _ priority: Int,
        _ headers: [(name: String, value: String)]
    ) -> [UpstreamEndpoint] {
        let service = self.service.service
        let inner = Self.identities(service)
        guard !inner.isEmpty else {
            self.note(
                "some are on network \"\(network)\", and the service names no identity (subjectAltNames) that they "
                    + "have to prove")
            return []
        }
        let found = GatewayPeers(gateway, from: self.settings.gateway.namespace, self.state)
        self.gateways[gateway] = found
        if found.peers.isEmpty { self.note("the gateway to network \"\(network)\" has no endpoint") }
        let authority = "\(service.hostname):\(self.port.port)"
        let weight = UInt32(clamping: capacity / UInt64(max(1, found.peers.count)))
        return found.peers.compactMap { peer in
            guard let place = Self.place(peer.entry.workload, nil) else { return nil }
            let address = IPEndpoint(address: place.address, port: peer.port)
            var expected = found.identities
            if !expected.contains(peer.entry.identity) { expected.append(peer.entry.identity) }
            return UpstreamEndpoint(
                workload: peer.entry.workload.uid, address: address,
                route: TunnelRoute(
                    peer: address, authority: authority, source: self.settings.identity, expected: expected,
                    headers: headers, labels: WaypointSnapshot.labels,
                    inner: InnerTunnel(
                        authority: authority, expected: inner,
                        headers: headers + [("x-forwarded-network", self.settings.network)],
                        labels: { _, _ in nil })),
                host: place.host, service: authority, priority: priority, weight: weight)
        }
    }

    // MARK: Pieces

    private static let unspecified = IPAddress(v4: 0)

    /// An address, or else the name that leads to one.
    private static func place(
        _ workload: Workload, _ families: Service.IPFamilies?
    ) -> (address: IPAddress, host: String?)? {
        if let address = workload.addresses.first(where: { Self.allows($0, families) }) { return (address, nil) }
        guard workload.addresses.isEmpty, !workload.hostname.isEmpty else { return nil }
        return (Self.unspecified, workload.hostname)
    }

    private static func allows(_ address: IPAddress, _ families: Service.IPFamilies?) -> Bool {
        switch families ?? .automatic {
        case .automatic, .dual: true
        case .v4Only: !address.isV6
        case .v6Only: address.isV6
        }
    }

    /// Names in `subject_alt_names` that are no identities of a mesh are passed over: they can never be proven.
    static func identities(_ service: Service?) -> [WorkloadIdentity] {
        (service?.subjectAltNames ?? []).compactMap { try? WorkloadIdentity(spiffe: $0) }
    }
}

/// Who may be dialled to reach another network, as the mesh knew it at a moment.
struct GatewayPeers: Sendable {
    struct Peer: Sendable {
        let entry: WorkloadEntry
        let port: UInt16
    }

    let peers: [Peer]
    /// Besides each one's own: what any of them may prove.
    let identities: [WorkloadIdentity]
    private let service: ServiceEntry?
    private let workload: WorkloadEntry?

    init(_ gateway: GatewayAddress, from namespace: String, _ state: MeshState) {
        let found = Self.find(gateway, from: namespace, state)
        self.service = found.service
        self.workload = found.workload
        self.identities = EndpointBuilder.identities(found.service?.service)
        if let service = found.service {
            let listed = service.service.ports.first { $0.port == gateway.hbonePort }
            self.peers = service.endpoints.compactMap { endpoint in
                guard endpoint.workload.workload.capacity > 0,
                    let port = endpoint.targetPort(of: gateway.hbonePort)
                        ?? listed.flatMap({ $0.targetPort > 0 ? $0.targetPort : nil })
                else { return nil }
                return Peer(entry: endpoint.workload, port: port)
            }
        } else {
            self.peers = found.workload.map { [Peer(entry: $0, port: gateway.hbonePort)] } ?? []
        }
    }

    /// Whether the mesh still says the same.
    func isCurrent(_ gateway: GatewayAddress, from namespace: String, _ state: MeshState) -> Bool {
        let found = Self.find(gateway, from: namespace, state)
        return found.service === self.service && found.workload === self.workload
    }

    private static func find(
        _ gateway: GatewayAddress, from namespace: String, _ state: MeshState
    ) -> (service: ServiceEntry?, workload: WorkloadEntry?) {
        switch gateway.destination {
        case .address(let address):
            if let service = state.service(at: address, from: namespace) { return (service, nil) }
            return (nil, state.workload(at: address))
        case .hostname(let key):
            if let service = state.service(key) { return (service, nil) }
            return (nil, state.workload(hostname: key))
        }
    }
}
