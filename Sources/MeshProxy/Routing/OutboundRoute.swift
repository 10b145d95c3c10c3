internal import MeshDirectory
internal import MeshIdentity
internal import MeshModel
internal import MeshTunnel

/// One connection's way out.
///
/// 1. The destination is a service with a waypoint: through the waypoint, the authority stays what was dialled.
/// 2. The destination is a service without: one of its endpoints. No endpoint: refused, never sent past the mesh.
/// 3. The destination is a workload with a waypoint, and we are not that waypoint: through it.
/// 4. A workload: HBONE to its port 15008 when it takes part in the mesh, else plain TCP.
/// 5. Nobody we know: plain TCP to what was dialled.
///
/// An endpoint or a service's waypoint on another network is reached through that network's gateway, with a second
/// tunnel inside. The source's own waypoint plays no part, and a destination on this node is no exception.
struct OutboundRoute {
    let snapshot: MeshSnapshot
    let question: OutboundQuestion
    let source: WorkloadEntry
    let book: EndpointBook?

    var state: MeshState { self.snapshot.state }
    var destination: IPEndpoint { self.question.destination }
    var client: Workload { self.source.workload }

    /// Where a lookup leads: a workload, a port on it, and the service that it was chosen for.
    struct Upstream {
        var workload: WorkloadEntry
        var port: UInt16
        var service: ServiceEntry?
    }

    func decide(using random: inout some RandomNumberGenerator) throws(NoRoute) -> OutboundAnswer {
        let dialled = NetworkAddress(network: self.snapshot.settings.network, address: self.destination.address)
        try self.require(self.snapshot.unanswered(dialled))
        // A workload first: its address is its own, whatever service claims it.
        let service =
            self.state.workload(at: dialled) == nil
            ? self.state.service(at: dialled, from: self.client.namespace) : nil
        if let service, let gateway = service.service.weightedWaypoints.draw(using: &random) ?? service.service.waypoint
        {
            return try self.through(gateway, of: "service \(service.key)", service: service, using: &random)
        }
        let near = NetworkAddress(network: self.client.network, address: self.destination.address)
        try self.require(self.snapshot.unanswered(near))
        let found = self.upstream(
            near,
            port: self.destination.port, resolution: .standard, using: &random)
        guard let upstream = found else {
            if let service, service.service.loadBalancing.mode != .passthrough {
                throw self.nobodyLeft(of: service.key.description)
                    ?? .noHealthyUpstream(service: service.key.description, port: self.destination.port)
            }
            return .passthrough(to: self.destination, labels: self.labels(destination: nil, service: nil, nil))
        }
        if upstream.workload.workload.network != self.client.network {
            guard let service else {
                throw .otherNetwork(
                    destination: upstream.workload.workload.uid, network: upstream.workload.workload.network)
            }
            return try self.throughGateway(to: upstream, for: service, using: &random)
        }
        let address = try self.address(
            of: upstream.workload, for: upstream.service, like: self.destination.address, using: &random)
        if service == nil, let gateway = upstream.workload.workload.waypoint, !self.isSelf(gateway) {
            return try self.through(
                gateway, of: "workload \(upstream.workload.workload.namespace)/\(upstream.workload.workload.name)",
                service: nil, using: &random)
        }
        return self.direct(upstream, address: address)
    }

    /// On demand: nothing is decided about a key that the control plane has not answered for.
    private func require(_ unanswered: String?) throws(NoRoute) {
        if let unanswered { throw .needsAnswer(for: unanswered) }
    }

    /// Why nobody was found although some were tried or looked up; nil when none was.
    func nobodyLeft(of name: String) -> NoRoute? {
        if !self.question.excluding.isEmpty { return .noOtherUpstream(destination: name) }
        for (host, result) in self.question.hosts {
            if case .failure(let error) = result { return .unresolved(of: name, host: host, error.description) }
        }
        return nil
    }

    /// Whether the connection comes from the waypoint itself: it has to reach the workload behind it.
    private func isSelf(_ gateway: GatewayAddress) -> Bool {
        guard self.client.addresses.contains(self.question.source.address) else { return false }
        return self.snapshot.leads(gateway, to: self.source)
    }

    // MARK: Ways

    private func through(
        _ gateway: GatewayAddress, of name: String, service: ServiceEntry?,
        using random: inout some RandomNumberGenerator
    ) throws(NoRoute) -> OutboundAnswer {
        try self.require(self.snapshot.unanswered(gateway))
        guard let waypoint = self.upstream(gateway, resolution: .waypoint, using: &random) else {
            throw self.nobodyLeft(of: "the waypoint \(gateway.text)") ?? .unknownWaypoint(of: name, gateway)
        }
        let network = waypoint.workload.workload.network
        if network != self.client.network {
            guard let service else {
                throw .otherNetwork(destination: "the waypoint \(gateway.text) of \(name)", network: network)
            }
            return try self.throughGateway(to: waypoint, for: service, using: &random)
        }
        let address = try self.address(
            of: waypoint.workload, for: waypoint.service, like: self.family(of: gateway), using: &random)
        return self.tunnel(
            to: IPEndpoint(address: address, port: waypoint.port), authority: self.destination.description, waypoint,
            service: service)
    }

    private func direct(_ upstream: Upstream, address: IPAddress) -> OutboundAnswer {
        let target = IPEndpoint(address: address, port: upstream.port)
        switch upstream.workload.workload.tunnelProtocol {
        case .hbone:
            return self.tunnel(
                to: IPEndpoint(address: address, port: self.snapshot.settings.tunnelPort),
                authority: target.description, upstream, service: upstream.service)
        case .none:
            return .passthrough(
                to: target,
                labels: self.labels(
                    destination: upstream.workload, service: upstream.service, upstream.workload.identity))
        }
    }

    /// Double HBONE: the gateway sees the service's name only, and whom it chooses behind has to prove an identity
    /// that the service lists.
    private func throughGateway(
        to upstream: Upstream, for service: ServiceEntry, using random: inout some RandomNumberGenerator
    ) throws(NoRoute) -> OutboundAnswer {
        let workload = upstream.workload.workload
        guard let address = workload.networkGateway else {
            throw .noGateway(destination: workload.uid, network: workload.network)
        }
        try self.require(self.snapshot.unanswered(address))
        guard let gateway = self.upstream(address, resolution: .gateway, using: &random) else {
            throw self.nobodyLeft(of: "the gateway \(address.text)")
                ?? .unknownGateway(address, network: workload.network)
        }
        let inner = Self.identities(upstream.service)
        guard !inner.isEmpty else {
            throw .noExpectedIdentity(service: (upstream.service ?? service).key.description, network: workload.network)
        }
        let peer = IPEndpoint(
            address: try self.address(
                of: gateway.workload, for: gateway.service, like: self.family(of: address), using: &random),
            port: gateway.port)
        let authority = "\(service.service.hostname):\(self.destination.port)"
        guard
            case .tunnel(var route) = self.tunnel(
                to: peer, authority: authority, gateway, service: service, labels: upstream.workload)
        else { preconditionFailure("a tunnel is a tunnel") }
        let (snapshot, source, pod) = (self.snapshot, self.source, self.question.pod)
        route.inner = InnerTunnel(
            authority: authority, expected: inner,
            headers: route.headers + [("x-forwarded-network", self.snapshot.settings.network)],
            labels: { headers, identity in
                guard snapshot.settings.usesBaggage, let baggage = Baggage(headers: headers) else { return nil }
                return snapshot.flows.labels(
                    Flow(
                        reporter: .source, source: source.peer, destination: PeerAttributes(baggage),
                        service: ServiceAttributes(service.service), isMutualTLS: true,
                        sourceIdentity: MeshSnapshot.identity(source, pod), destinationIdentity: identity))
            })
        return .tunnel(route)
    }

    /// What a service's endpoints may prove. Names in `subject_alt_names` that are no identities of a mesh are passed
    /// over: they can never be proven.
    private static func identities(_ service: ServiceEntry?) -> [WorkloadIdentity] {
        (service?.service.subjectAltNames ?? []).compactMap { uri in try? WorkloadIdentity(spiffe: uri) }
    }

    /// - Parameter labels: whom the connection is for, when that is not the peer.
    private func tunnel(
        to peer: IPEndpoint, authority: String, _ upstream: Upstream, service: ServiceEntry?,
        labels: WorkloadEntry? = nil
    ) -> OutboundAnswer {
        var expected = Self.identities(upstream.service)
        if !expected.contains(upstream.workload.identity) { expected.append(upstream.workload.identity) }
        var random = Draws()
        let destination = labels ?? upstream.workload
        return .tunnel(
            TunnelRoute(
                peer: peer, authority: authority, source: MeshSnapshot.identity(self.source, self.question.pod),
                expected: expected,
                headers: [
                    ("baggage", self.source.baggage),
                    ("forwarded", Forwarded.text(client: self.question.source, host: service?.service.hostname)),
                    ("traceparent", TraceParent.fresh(using: &random)),
                ],
                labels: self.labels(
                    destination: destination, service: service, destination.identity, isMutualTLS: true)))
    }

    private func labels(
        destination: WorkloadEntry?, service: ServiceEntry?, _ expected: WorkloadIdentity?,
        isMutualTLS: Bool = false
    ) -> FlowLabels {
        self.snapshot.flows.labels(
            Flow(
                reporter: .source, source: self.source.peer, destination: destination?.peer,
                service: service.map { ServiceAttributes($0.service) }, isMutualTLS: isMutualTLS,
                sourceIdentity: isMutualTLS ? MeshSnapshot.identity(self.source, self.question.pod) : nil,
                destinationIdentity: expected))
    }
}
