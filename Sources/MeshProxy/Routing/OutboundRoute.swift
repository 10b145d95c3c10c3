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
/// The source's own waypoint plays no part, and a destination on this node is no exception.
struct OutboundRoute {
    let snapshot: MeshSnapshot
    let question: OutboundQuestion
    let source: WorkloadEntry

    private var state: MeshState { self.snapshot.state }
    private var destination: IPEndpoint { self.question.destination }
    private var client: Workload { self.source.workload }

    /// Where a lookup leads: a workload, a port on it, and the service that it was chosen for.
    private struct Upstream {
        var workload: WorkloadEntry
        var port: UInt16
        var service: ServiceEntry?
    }

    func decide(using random: inout some RandomNumberGenerator) throws(NoRoute) -> OutboundAnswer {
        let dialled = NetworkAddress(network: self.snapshot.settings.network, address: self.destination.address)
        // A workload first: its address is its own, whatever service claims it.
        let service =
            self.state.workload(at: dialled) == nil
            ? self.state.service(at: dialled, from: self.client.namespace) : nil
        if let service, let gateway = self.waypoint(of: service, using: &random) {
            return try self.through(gateway, of: "service \(service.key)", service: service, using: &random)
        }
        let found = self.upstream(
            NetworkAddress(network: self.client.network, address: self.destination.address),
            port: self.destination.port, resolution: .standard, using: &random)
        guard let upstream = found else {
            if let service, service.service.loadBalancing.mode != .passthrough {
                throw self.question.excluding.isEmpty
                    ? .noHealthyUpstream(service: service.key.description, port: self.destination.port)
                    : .noOtherUpstream(destination: service.key.description)
            }
            return .passthrough(to: self.destination, labels: self.labels(destination: nil, service: nil, nil))
        }
        let address = try self.address(
            of: upstream.workload, for: upstream.service, like: self.destination.address)
        if self.question.excluding.contains(address) {
            throw .noOtherUpstream(destination: "\(self.destination)")
        }
        if upstream.workload.workload.network != self.client.network {
            throw .otherNetwork(
                destination: upstream.workload.workload.uid, network: upstream.workload.workload.network)
        }
        if service == nil, let gateway = upstream.workload.workload.waypoint,
            !self.isSelf(gateway)
        {
            return try self.through(
                gateway, of: "workload \(upstream.workload.workload.namespace)/\(upstream.workload.workload.name)",
                service: nil, using: &random)
        }
        return self.direct(upstream, address: address)
    }

    // MARK: The three ways

    private func through(
        _ gateway: GatewayAddress, of name: String, service: ServiceEntry?,
        using random: inout some RandomNumberGenerator
    ) throws(NoRoute) -> OutboundAnswer {
        // The family follows the gateway's own address, or what was dialled.
        var like = self.destination.address
        let found: Upstream?
        switch gateway.destination {
        case .address(let address):
            like = address.address
            found = self.upstream(address, port: gateway.hbonePort, resolution: .waypoint, using: &random)
        case .hostname(let key):
            if let service = self.state.service(key) {
                found = self.balance(service, gateway.hbonePort, .waypoint, like: like, using: &random)
            } else {
                found = self.state.workload(hostname: key).map {
                    Upstream(workload: $0, port: gateway.hbonePort, service: nil)
                }
            }
        }
        guard let waypoint = found else { throw .unknownWaypoint(of: name, gateway) }
        let workload = waypoint.workload.workload
        guard workload.network == self.client.network else {
            throw .otherNetwork(destination: "the waypoint \(gateway.text) of \(name)", network: workload.network)
        }
        let address = try self.address(of: waypoint.workload, for: waypoint.service, like: like)
        if self.question.excluding.contains(address) {
            throw .noOtherUpstream(destination: "the waypoint \(gateway.text)")
        }
        return self.tunnel(
            to: IPEndpoint(address: address, port: waypoint.port), authority: self.destination, waypoint,
            service: service)
    }

    private func direct(_ upstream: Upstream, address: IPAddress) -> OutboundAnswer {
        let target = IPEndpoint(address: address, port: upstream.port)
        switch upstream.workload.workload.tunnelProtocol {
        case .hbone:
            return self.tunnel(
                to: IPEndpoint(address: address, port: self.snapshot.settings.tunnelPort), authority: target,
                upstream, service: upstream.service)
        case .none:
            return .passthrough(
                to: target,
                labels: self.labels(
                    destination: upstream.workload, service: upstream.service, upstream.workload.identity))
        }
    }

    private func tunnel(
        to peer: IPEndpoint, authority: IPEndpoint, _ upstream: Upstream, service: ServiceEntry?
    ) -> OutboundAnswer {
        // Names in `subject_alt_names` that are no identities of a mesh are passed over: they can never be proven.
        var expected = (upstream.service?.service.subjectAltNames ?? []).compactMap { uri in
            try? WorkloadIdentity(spiffe: uri)
        }
        if !expected.contains(upstream.workload.identity) { expected.append(upstream.workload.identity) }
        var random = SystemRandomNumberGenerator()
        let identity = MeshSnapshot.identity(self.source, self.question.pod)
        return .tunnel(
            TunnelRoute(
                peer: peer, authority: authority.description, source: identity, expected: expected,
                headers: [
                    ("baggage", self.source.baggage),
                    (
                        "forwarded",
                        Forwarded.text(client: self.question.source, host: service?.service.hostname)
                    ),
                    ("traceparent", TraceParent.fresh(using: &random)),
                ],
                labels: self.labels(
                    destination: upstream.workload, service: service, upstream.workload.identity,
                    isMutualTLS: true)))
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

    // MARK: Lookups

    /// A service by its address first, then a workload: the other way round than the question for a waypoint.
    private func upstream(
        _ address: NetworkAddress, port: UInt16, resolution: EndpointChoice.Resolution,
        using random: inout some RandomNumberGenerator
    ) -> Upstream? {
        if let service = self.state.service(at: address, from: self.client.namespace) {
            return self.balance(service, port, resolution, like: address.address, using: &random)
        }
        return self.state.workload(at: address).map { Upstream(workload: $0, port: port, service: nil) }
    }

    private func balance(
        _ service: ServiceEntry, _ port: UInt16, _ resolution: EndpointChoice.Resolution, like: IPAddress,
        using random: inout some RandomNumberGenerator
    ) -> Upstream? {
        if service.service.loadBalancing.mode == .passthrough { return nil }
        let choice = EndpointChoice(
            service: service, port: port, client: self.client, resolution: resolution,
            isExcluded: { endpoint in
                guard !self.question.excluding.isEmpty,
                    let address = try? self.address(of: endpoint.workload, for: service, like: like)
                else { return false }
                return self.question.excluding.contains(address)
            })
        return choice.draw(using: &random).map {
            Upstream(workload: $0.endpoint.workload, port: $0.port, service: service)
        }
    }

    private func waypoint(
        of service: ServiceEntry, using random: inout some RandomNumberGenerator
    ) -> GatewayAddress? {
        service.service.weightedWaypoints.draw(using: &random) ?? service.service.waypoint
    }

    /// Whether the connection comes from the waypoint itself: it has to reach the workload behind it.
    private func isSelf(_ gateway: GatewayAddress) -> Bool {
        guard self.client.addresses.contains(self.question.source.address) else { return false }
        return self.snapshot.leads(gateway, to: self.source)
    }

    /// What was dialled when the workload owns it; else an address that the service allows, of the same family if there
    /// is one.
    private func address(
        of entry: WorkloadEntry, for service: ServiceEntry?, like dialled: IPAddress
    ) throws(NoRoute) -> IPAddress {
        let workload = entry.workload
        if workload.addresses.contains(dialled) { return dialled }
        let allowed = workload.addresses.filter { address in
            switch service?.service.ipFamilies ?? .automatic {
            case .automatic, .dual: true
            case .v4Only: !address.isV6
            case .v6Only: address.isV6
            }
        }
        if let address = allowed.first(where: { $0.isV6 == dialled.isV6 }) ?? allowed.first { return address }
        if workload.network != self.client.network {
            throw .otherNetwork(destination: workload.uid, network: workload.network)
        }
        throw .noAddress(
            workload: "\(workload.namespace)/\(workload.name)",
            hostname: workload.addresses.isEmpty ? workload.hostname : "")
    }
}
