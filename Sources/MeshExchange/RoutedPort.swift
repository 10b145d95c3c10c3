internal import MeshHTTP
internal import MeshIdentity
package import MeshModel
internal import MeshPolicy
package import MeshRoutes

/// One port that a waypoint serves, with its rules and where they lead: judges requests and plans them.
///
/// Order: the path is brought into one form; tokens, policies and limits judge the request as the client sent it; the
/// first rule that matches decides; its filters change the request; a backend is drawn.
package final class RoutedPort: ServedPort {
    let rules: CompiledRules
    let port: UInt16
    /// Where traffic goes that no route sends elsewhere.
    let own: Backend
    /// Nil: there is no such service or port.
    let backend: @Sendable (NamespacedName, UInt16) -> Backend?

    package init(
        _ rules: CompiledRules, port: UInt16, own: Backend,
        backend: @escaping @Sendable (NamespacedName, UInt16) -> Backend?
    ) {
        self.rules = rules
        self.port = port
        self.own = own
        self.backend = backend
    }

    package var appProtocol: ServicePort.AppProtocol { self.own.appProtocol }
    package var needsHTTP: Bool { self.rules.needsHTTP }

    package func plan(_ request: RequestHead, _ origin: RequestOrigin) -> ExchangePlan {
        var request = request
        do throws(PathRefusal) {
            request.path = try PathNormalization.base.normalized(request.path)
        } catch {
            return .answer(
                LocalAnswer(400, "\(error)", flags: .clientProtocolError, details: "path_normalization_failed"))
        }
        var note: String?
        if let answer = self.judge(&request, origin, &note) { return .answer(answer) }
        var plan = self.route(request, origin)
        if let note, case .forward(var forward) = plan {
            forward.note = note
            plan = .forward(forward)
        }
        return plan
    }

    private func route(_ request: RequestHead, _ origin: RequestOrigin) -> ExchangePlan {
        let table = self.rules.routes(for: origin.identity?.namespace)
        if table.isEmpty { return self.forwardUnrouted(request, origin) }
        guard let matched = table.match(request, isGRPC: origin.isGRPC) else {
            return .answer(LocalAnswer(404, "", flags: .noRoute, details: "route_not_found"))
        }
        return self.forward(request, matched, origin)
    }

    /// HTTP where no route for HTTP is attached. A TCPRoute is for whatever comes through its port: where a port declares
    /// nothing, requests are divided among its backends as connections would be.
    private func forwardUnrouted(_ request: RequestHead, _ origin: RequestOrigin) -> ExchangePlan {
        var backend = self.own
        var route: String?
        if case .route(let entry) = self.rules.streams.find(nil, for: origin.identity?.namespace) {
            switch self.destination(of: entry, origin) {
            case .success(let found): (backend, route) = (found, entry.route.name.description)
            case .failure(let failure):
                return .answer(
                    LocalAnswer(
                        500, "", flags: failure.flags, details: failure.details, route: entry.route.name.description))
            }
        }
        var plan = ForwardPlan(request: request, backend: backend)
        plan.route = route
        self.balance(&plan, origin)
        self.trace(&plan, origin)
        return .forward(plan)
    }

    /// Nil: it may pass.
    private func judge(
        _ request: inout RequestHead, _ origin: RequestOrigin, _ note: inout String?
    ) -> LocalAnswer? {
        let gate = self.rules.gate
        if gate.isOpen { return nil }
        var token = TokenOutcome.none
        if let checker = self.rules.tokens {
            token = checker.check(&request, unixSeconds: origin.time, memory: &origin.memory.tokens)
        }
        let peer = self.peer(origin, serverName: "")
        let decision = gate.decide(
            request, from: peer, remote: peer.remoteAddress(request.fields), token: token, now: origin.now)
        guard case .refuse(let refusal) = decision.verdict else {
            note = decision.note
            return nil
        }
        var flags = ExchangeFlags.denied
        if case .rateLimited = refusal { flags = .rateLimited }
        var answer = LocalAnswer(refusal.status, refusal.body, flags: flags, details: refusal.detail)
        if case .badToken(let reason) = refusal {
            answer.response.fields.append("www-authenticate", reason.challenge(request))
        }
        if let seconds = refusal.retryAfterSeconds {
            answer.response.fields.append("retry-after", String(seconds))
        }
        return answer
    }

    private func peer(_ origin: RequestOrigin, serverName: String) -> PeerFacts {
        let local = origin.local ?? IPEndpoint(address: IPAddress(v4: 0), port: self.port)
        return PeerFacts(
            ConnectionFacts(
                identity: origin.identity, source: origin.client.address,
                destination: IPEndpoint(address: local.address, port: self.port)), serverName: serverName)
    }

    // MARK: Streams

    package func plan(stream serverName: String?, _ origin: RequestOrigin) -> StreamPlan {
        let decision = self.rules.gate.decideStream(
            from: self.peer(origin, serverName: serverName ?? ""), now: origin.now)
        if case .refuse(let refusal) = decision.verdict {
            var flags = ExchangeFlags.denied
            if case .rateLimited = refusal { flags = .rateLimited }
            return .refuse(flags: flags, details: refusal.detail)
        }
        switch self.rules.streams.find(serverName, for: origin.identity?.namespace) {
        case .none: return .forward(self.own, route: nil)
        case .unknownName: return .refuse(flags: .noRoute, details: "no_route_for_server_name")
        case .route(let entry):
            switch self.destination(of: entry, origin) {
            case .success(let backend): return .forward(backend, route: entry.route.name.description)
            case .failure(let failure): return .refuse(flags: failure.flags, details: failure.details)
            }
        }
    }

    /// Why a stream's route leads nowhere.
    private struct DeadEnd: Error {
        var flags: ExchangeFlags
        var details: String
    }

    private func destination(of entry: StreamTable.Entry, _ origin: RequestOrigin) -> Result<Backend, DeadEnd> {
        guard let index = entry.backends.choose(origin.random) else {
            return .failure(DeadEnd(flags: .noRoute, details: "route_without_backend[\(entry.route.name)]"))
        }
        switch entry.route.backends[index].destination {
        case .service(let key, let port):
            guard let backend = self.backend(key, port) else {
                return .failure(DeadEnd(flags: .noCluster, details: "backend_unknown[\(key):\(port)]"))
            }
            return .success(backend)
        case .invalid(let reason):
            return .failure(DeadEnd(flags: .noCluster, details: "backend_invalid[\(reason)]"))
        }
    }
}
