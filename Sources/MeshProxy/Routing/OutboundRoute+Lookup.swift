internal import MeshDirectory
internal import MeshModel
internal import MeshTunnel

// From addresses and names to workloads, and from workloads to what can be dialled.

extension OutboundRoute {
    /// A service by its address first, then a workload: the other way round than the question for a waypoint.
    func upstream(
        _ address: NetworkAddress, port: UInt16, resolution: EndpointChoice.Resolution,
        using random: inout some RandomNumberGenerator
    ) -> Upstream? {
        if let service = self.state.service(at: address, from: self.client.namespace) {
            return self.balance(service, port, resolution, like: address.address, using: &random)
        }
        return self.state.workload(at: address).map { Upstream(workload: $0, port: port, service: nil) }
    }

    /// A waypoint or a network gateway.
    func upstream(
        _ gateway: GatewayAddress, resolution: EndpointChoice.Resolution,
        using random: inout some RandomNumberGenerator
    ) -> Upstream? {
        switch gateway.destination {
        case .address(let address):
            return self.upstream(address, port: gateway.hbonePort, resolution: resolution, using: &random)
        case .hostname(let key):
            if let service = self.state.service(key) {
                return self.balance(
                    service, gateway.hbonePort, resolution, like: self.destination.address, using: &random)
            }
            return self.state.workload(hostname: key).map {
                Upstream(workload: $0, port: gateway.hbonePort, service: nil)
            }
        }
    }

    /// The family follows the gateway's own address, or what was dialled.
    func family(of gateway: GatewayAddress) -> IPAddress {
        if case .address(let address) = gateway.destination { address.address } else { self.destination.address }
    }

    private func balance(
        _ service: ServiceEntry, _ port: UInt16, _ resolution: EndpointChoice.Resolution, like: IPAddress,
        using random: inout some RandomNumberGenerator
    ) -> Upstream? {
        if service.service.loadBalancing.mode == .passthrough { return nil }
        let choice = EndpointChoice(
            service: service, port: port, client: self.source, resolution: resolution, book: self.book,
            isExcluded: { self.isExcluded($0.workload, resolution, for: service, like: like) },
            address: { self.knownAddress(of: $0.workload, resolution, for: service, like: like) })
        return choice.draw(using: &random).map {
            Upstream(workload: $0.endpoint.workload, port: $0.port, service: service)
        }
    }

    /// Whether nothing is left to try at a workload.
    private func isExcluded(
        _ entry: WorkloadEntry, _ resolution: EndpointChoice.Resolution, for service: ServiceEntry, like: IPAddress
    ) -> Bool {
        if self.question.excluding.isEmpty, self.question.hosts.isEmpty { return false }
        if let address = self.knownAddress(of: entry, resolution, for: service, like: like) {
            return self.question.excluding.contains(address)
        }
        switch self.question.hosts[entry.workload.hostname] {
        case nil: return false
        case .failure: return true
        case .success(let addresses): return addresses.allSatisfy(self.question.excluding.contains)
        }
    }

    /// What would be dialled to reach a workload, as far as that is clear without a name lookup or a gateway's choice.
    private func knownAddress(
        of entry: WorkloadEntry, _ resolution: EndpointChoice.Resolution, for service: ServiceEntry?, like: IPAddress
    ) -> IPAddress? {
        let workload = entry.workload
        // A gateway is dialled itself, whatever network it counts to.
        guard workload.network == self.client.network || resolution == .gateway else {
            guard case .address(let gateway)? = workload.networkGateway?.destination else { return nil }
            return gateway.address
        }
        return Self.choose(from: workload.addresses, service?.service.ipFamilies, like: like)
    }

    /// What was dialled when it is there; else an address that the service allows, of the same family if there is one.
    private static func choose(
        from addresses: [IPAddress], _ families: Service.IPFamilies?, like dialled: IPAddress
    ) -> IPAddress? {
        var other: IPAddress?
        var same: IPAddress?
        for address in addresses {
            if address == dialled { return address }
            switch families ?? .automatic {
            case .automatic, .dual: break
            case .v4Only: if address.isV6 { continue }
            case .v6Only: if !address.isV6 { continue }
            }
            if address.isV6 == dialled.isV6 {
                same = same ?? address
            } else {
                other = other ?? address
            }
        }
        return same ?? other
    }

    /// What to dial to reach a workload on our network, or a gateway of another.
    func address(
        of entry: WorkloadEntry, for service: ServiceEntry?, like dialled: IPAddress,
        using random: inout some RandomNumberGenerator
    ) throws(NoRoute) -> IPAddress {
        let workload = entry.workload
        let name = "\(workload.namespace)/\(workload.name)"
        if let address = Self.choose(from: workload.addresses, service?.service.ipFamilies, like: dialled) {
            if self.question.excluding.contains(address) { throw .noOtherUpstream(destination: name) }
            return address
        }
        guard workload.addresses.isEmpty, !workload.hostname.isEmpty else { throw .noAddress(workload: name) }
        switch self.question.hosts[workload.hostname] {
        case nil: throw .needsAddresses(ofHost: workload.hostname)
        case .failure(let error): throw .unresolved(of: name, host: workload.hostname, error.description)
        case .success(let addresses):
            let left = addresses.filter { !self.question.excluding.contains($0) }
            // Any of them, so that all share the load: first of those that `choose` would take.
            guard let best = Self.choose(from: left, service?.service.ipFamilies, like: dialled) else {
                throw .noOtherUpstream(destination: name)
            }
            self.snapshot.flows.countNameLookup(source: self.source.peer, host: workload.hostname)
            return left.filter { $0.isV6 == best.isV6 }.randomElement(using: &random) ?? best
        }
    }
}
