internal import MeshHTTP
internal import MeshModel
internal import MeshRoutes

// A rule has matched: its filters, a backend, and what comes back.

extension RoutedPort {
    func forward(_ request: RequestHead, _ matched: MatchedRule, _ origin: RequestOrigin) -> ExchangePlan {
        let rule = matched.rule.rule
        let route = "\(matched.rule.route)/\(rule.name ?? String(matched.rule.index))"
        if !rule.filters.isEmpty, let answer = self.answer(request, rule.filters, matched, route) {
            return .answer(answer)
        }
        guard let index = matched.rule.backends.choose(origin.random) else {
            return .answer(
                LocalAnswer(500, "", flags: .noRoute, details: "route_without_backend", route: route))
        }
        let chosen = rule.backends[index]
        if !chosen.filters.isEmpty, let answer = self.answer(request, chosen.filters, matched, route) {
            return .answer(answer)
        }
        let backend: Backend
        switch chosen.destination {
        case .invalid(let reason):
            return .answer(
                LocalAnswer(500, "", flags: .noCluster, details: "backend_invalid[\(reason)]", route: route))
        case .service(let key, let port):
            guard let found = self.backend(key, port) else {
                return .answer(
                    LocalAnswer(500, "", flags: .noCluster, details: "backend_unknown[\(key):\(port)]", route: route))
            }
            backend = found
        }
        var plan = ForwardPlan(request: request, backend: backend)
        plan.route = route
        plan.timeouts = rule.timeouts
        plan.retry = rule.retry
        self.filter(&plan, rule.filters + chosen.filters, matched, origin)
        self.balance(&plan, origin)
        if let session = rule.session { self.persist(session, &plan, matched, origin) }
        self.trace(&plan, origin)
        return .forward(plan)
    }

    /// Filters that answer themselves.
    private func answer(
        _ request: RequestHead, _ filters: [HTTPFilter], _ matched: MatchedRule, _ route: String
    ) -> LocalAnswer? {
        for filter in filters {
            switch filter {
            case .redirect(let redirect):
                var answer = LocalAnswer(redirect.status, route: route)
                answer.response = redirect.answer(
                    to: request, servicePort: self.port, prefixBytes: matched.prefixBytes)
                // The redirect's response may be changed like any other.
                for case .responseHeaders(let change) in filters { change.apply(to: &answer.response) }
                return answer
            case .cors(let policy):
                guard case .answer(let response) = policy.decide(request) else { continue }
                var answer = LocalAnswer(response.status, route: route)
                answer.response = response
                return answer
            default: continue
            }
        }
        return nil
    }

    private func filter(
        _ plan: inout ForwardPlan, _ filters: [HTTPFilter], _ matched: MatchedRule, _ origin: RequestOrigin
    ) {
        if filters.isEmpty { return }
        var changes: [HeaderChange] = []
        var shared: [(CORSPolicy, String?)] = []
        let asked = plan.request
        for filter in filters {
            switch filter {
            case .requestHeaders(let change): change.apply(to: &plan.request)
            case .responseHeaders(let change): changes.append(change)
            case .rewrite(let rewrite): rewrite.apply(to: &plan.request, prefixBytes: matched.prefixBytes)
            case .cors(let policy):
                if case .serve(let origin) = policy.decide(asked) { shared.append((policy, origin)) }
            case .redirect, .mirror: break
            }
        }
        var random = origin.random
        for case .mirror(let mirror) in filters {
            random = StableHash.mixed(random)
            guard mirror.copies(random), case .service(let key, let port) = mirror.destination,
                let backend = self.backend(key, port)
            else { continue }
            plan.mirrors.append(ForwardPlan.Mirror(request: plan.request, backend: backend))
        }
        guard !changes.isEmpty || !shared.isEmpty else { return }
        let (changed, policies) = (changes, shared)
        plan.addResponseChange { response, _ in
            for change in changed { change.apply(to: &response) }
            for (policy, origin) in policies { policy.apply(to: &response, origin: origin) }
        }
    }

    /// Where the backend's service asks for consistent hashing.
    func balance(_ plan: inout ForwardPlan, _ origin: RequestOrigin) {
        switch plan.backend.choice {
        case .leastRequest, .roundRobin, .random: return
        default: break
        }
        guard
            let key = plan.backend.choice.key(
                of: plan.request, source: origin.client.address.description, random: StableHash.mixed(origin.random))
        else { return }
        plan.hash = key.hash
        if let cookie = key.setCookie {
            plan.addResponseChange { response, _ in response.fields.append("set-cookie", cookie) }
        }
    }

    private func persist(
        _ session: SessionPersistence, _ plan: inout ForwardPlan, _ matched: MatchedRule, _ origin: RequestOrigin
    ) {
        let now = UInt32(clamping: origin.time)
        let tag = session.session(of: plan.request, now: now)
        plan.pinned = tag?.endpoint
        plan.addResponseChange { response, workload in
            session.apply(
                to: &response, session: tag, endpoint: SessionTag.hash(of: workload), now: now, path: "/",
                isSecure: false)
        }
    }

    /// Our own span goes between the caller's and the endpoint's, where spans are made.
    func trace(_ plan: inout ForwardPlan, _ origin: RequestOrigin) {
        guard self.rules.traces.traceCollector != nil else { return }
        let values = plan.request.fields.values(of: "traceparent")
        var random = Mixer(state: origin.random)
        let context = TraceContext.next(
            after: values.count == 1 ? values[0] : nil, percent: self.rules.traces.tracePercent, using: &random)
        plan.trace = context
        plan.request.fields.replace("traceparent", context.header)
    }

    private struct Mixer: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            self.state = StableHash.mixed(self.state)
            return self.state
        }
    }
}

extension ForwardPlan {
    mutating func addResponseChange(_ change: @escaping @Sendable (inout ResponseHead, _ workload: String) -> Void) {
        guard let before = self.changeResponse else {
            self.changeResponse = change
            return
        }
        self.changeResponse = { response, workload in
            before(&response, workload)
            change(&response, workload)
        }
    }
}
