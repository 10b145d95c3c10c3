internal import MeshDirectory
internal import MeshIdentity
internal import MeshModel
internal import MeshPolicy
package import MeshTunnel

extension MeshSnapshot {
    /// Checks in the order that decides which answer a peer gets: the request's form (400), our pod (503), whether the
    /// request may end here (400), its target (503), policy (401).
    package func admitInbound(_ question: InboundQuestion) -> InboundAnswer {
        switch question.via {
        case .hbone(let authority, let headers): self.admitTunnelled(question, authority, headers)
        case .plaintext(let destination): self.admitPlaintext(question, destination)
        }
    }

    // MARK: Plaintext

    private func admitPlaintext(_ question: InboundQuestion, _ destination: IPEndpoint) -> InboundAnswer {
        if self.settings.ownPorts.contains(destination.port) { return Self.selfCall(destination) }
        guard let local = self.local(question.pod) else {
            return .wait(status: 503, Self.unknownPod(question.pod))
        }
        let source = self.state.workload(
            at: NetworkAddress(network: self.settings.network, address: question.source.address))
        let labels = self.flows.labels(
            Flow(
                reporter: .destination, source: source?.peer, destination: local.peer,
                service: self.service(of: local, forwarded: nil, port: destination.port),
                isMutualTLS: false, sourceIdentity: nil,
                destinationIdentity: Self.identity(local, question.pod)))
        return self.decide(question, local, target: destination, Delivery(target: destination), labels)
    }

    // MARK: HBONE

    private func admitTunnelled(
        _ question: InboundQuestion, _ text: String, _ headers: [(name: String, value: String)]
    ) -> InboundAnswer {
        guard let authority = Authority(text) else {
            return Self.refuse(
                400, "the CONNECT authority \"\(text)\" is neither ip:port nor host:port", kind: .badRequest)
        }
        guard let local = self.local(question.pod) else {
            return .wait(status: 503, Self.unknownPod(question.pod))
        }
        let arrival = question.local.address
        if let key = self.unanswered(authority, at: local, arrival) { return .wait(status: 503, self.demand(key)) }
        if case .address(let asked) = authority, !self.mayEnd(asked.address, at: local, arrival: arrival) {
            return Self.refuse(400, "ip mismatch: \(arrival) != \(asked.address)", kind: .addressMismatch)
        }
        // Whom the request names, and the port of it that is meant here.
        let named: ServiceEntry?
        var port: UInt16
        switch authority {
        case .address(let asked):
            named = nil
            port = asked.port
        case .host(let host, let asked):
            guard let service = self.state.service(hostname: host, from: local.workload.namespace) else {
                return Self.refuse(
                    503, "unknown hostname \(host): no service that \(question.pod.namespace) may see",
                    kind: .unknownService)
            }
            guard let found = self.targetPort(asked, of: service, at: local) else {
                return Self.refuse(
                    503, "requested service \(host):\(asked) found, but cannot resolve port", kind: .unknownService)
            }
            named = service
            port = found
        }
        if let own = local.workload.applicationTunnel?.port { port = own }
        let target = IPEndpoint(address: arrival, port: port)
        var delivery = Delivery(target: target)
        if local.workload.applicationTunnel?.handoff == .proxyProtocol {
            guard let header = self.proxyHeader(question, authority, named) else {
                return Self.refuse(
                    503, "requested service \(text) has no address to write into the PROXY protocol header",
                    kind: .unknownService)
            }
            delivery.preamble = header.bytes
            if self.settings.localApplicationTunnel {
                delivery.target = IPEndpoint(
                    address: arrival.isV6 ? IPAddress(v6High: 0, low: 1) : IPAddress(v4: 0x7F00_0001), port: port)
            }
        }
        if self.settings.ownPorts.contains(target.port) { return Self.selfCall(target) }
        let labels = self.flows.labels(
            Flow(
                reporter: .destination, source: self.source(of: question, headers), destination: local.peer,
                service: self.service(of: local, forwarded: Forwarded.host(in: headers), port: target.port),
                isMutualTLS: true, sourceIdentity: question.identity,
                destinationIdentity: Self.identity(local, question.pod)))
        delivery.headers = self.settings.usesBaggage ? [("baggage", local.baggage)] : []
        return self.decide(question, local, target: target, delivery, labels)
    }

    /// What is dialled for an admitted connection, which may differ from what policy is asked about.
    private struct Delivery {
        var target: IPEndpoint
        var headers: [(name: String, value: String)] = []
        var preamble: [UInt8] = []
    }

    /// Nil when the request names a service that has no address.
    private func proxyHeader(
        _ question: InboundQuestion, _ authority: Authority, _ named: ServiceEntry?
    ) -> ProxyHeader? {
        let destination: IPEndpoint
        let host: String?
        switch authority {
        case .address(let asked):
            destination = asked
            let address = NetworkAddress(network: self.settings.network, address: asked.address)
            host =
                self.state.workload(at: address) == nil
                ? self.state.service(at: address, from: nil)?.service.hostname : nil
        case .host(let name, let port):
            // Our own network's address before others, IPv4 before IPv6.
            let vips = named?.service.addresses ?? []
            let own = vips.filter { $0.network == self.settings.network }
            let candidates = own.isEmpty ? vips : own
            guard let vip = candidates.first(where: { !$0.address.isV6 }) ?? candidates.first else { return nil }
            destination = IPEndpoint(address: vip.address, port: port)
            host = name
        }
        return ProxyHeader(
            source: question.source, destination: destination, identity: question.identity, serviceHost: host)
    }

    /// Who called, for telemetry only: by address on our own network, by `baggage` when a gateway stands between.
    private func source(
        of question: InboundQuestion, _ headers: [(name: String, value: String)]
    ) -> PeerAttributes? {
        let network = headers.first { $0.name == "x-forwarded-network" }?.value
        let isDirect = network.map { $0.lowercased() == self.settings.network.lowercased() } ?? true
        if isDirect,
            let known = self.state.workload(
                at: NetworkAddress(network: self.settings.network, address: question.source.address))
        {
            return known.peer
        }
        guard self.settings.usesBaggage else { return nil }
        return Baggage(headers: headers).map(PeerAttributes.init)
    }

    private func targetPort(_ port: UInt16, of service: ServiceEntry, at local: WorkloadEntry) -> UInt16? {
        if let mapped = local.workload.services[service.key]?.first(where: { $0.port == port }),
            mapped.targetPort > 0
        {
            return mapped.targetPort
        }
        guard let listed = service.service.ports.first(where: { $0.port == port }), listed.targetPort > 0 else {
            return nil
        }
        return listed.targetPort
    }

    /// For telemetry: the pod's service with the host name the client's proxy named, else the first one that serves the
    /// port. First by name, so that the answer does not change from one question to the next.
    private func service(of local: WorkloadEntry, forwarded: String?, port: UInt16) -> ServiceAttributes? {
        let services = local.workload.services
        if services.isEmpty { return nil }
        let sorted = services.keys.sorted { ($0.namespace, $0.name) < ($1.namespace, $1.name) }
        let key =
            sorted.first { $0.name == forwarded }
            ?? sorted.first { key in
                services[key]?.contains { $0.targetPort == port } ?? false
                    || self.state.service(key)?.service.ports.contains { $0.targetPort == port } ?? false
            }
        return key.flatMap { self.state.service($0) }.map { ServiceAttributes($0.service) }
    }

    // MARK: Policy

    private func decide(
        _ question: InboundQuestion, _ local: WorkloadEntry, target: IPEndpoint, _ delivery: Delivery,
        _ labels: FlowLabels
    ) -> InboundAnswer {
        let verdict = self.state.policies.decide(
            ConnectionFacts(
                identity: question.identity, source: question.source.address, destination: target),
            namespace: local.workload.namespace, named: local.workload.authorizationPolicies,
            dryRun: self.settings.reportDryRun)
        switch verdict {
        case .permit(let permit):
            return .admit(
                permit, target: delivery.target, responseHeaders: delivery.headers, labels: labels,
                preamble: delivery.preamble)
        case .deny(let denial):
            let reason = RefusalReason(
                .deny, "connection closed due to policy rejection: \(denial)", kind: .policy)
            // A policy that is still on its way may allow as well as deny.
            if case .unknownPolicy = denial { return .wait(status: 401, reason) }
            return .refuse(status: 401, reason, labels: labels)
        }
    }

    private static func refuse(_ status: Int, _ text: String, kind: RefusalReason.Kind) -> InboundAnswer {
        .refuse(status: status, RefusalReason(.connect, text, kind: kind), labels: nil)
    }

    private static func selfCall(_ target: IPEndpoint) -> InboundAnswer {
        Self.refuse(
            503, "attempted recursive call to ourselves: \(target) is one of the proxy's own ports", kind: .selfCall)
    }
}
