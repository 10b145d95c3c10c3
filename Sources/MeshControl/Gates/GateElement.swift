import KubeAPI
import MeshModel
package import MeshRoutes

/// One policy, as far as it goes into a gate.
package struct GateElement: Hashable, Sendable {
    package enum Content: Hashable, Sendable {
        case policy(RequestPolicy)
        case tokens(TokenPolicy)
        case rate(RateLimit)
        /// Cannot be enforced: nothing may pass.
        case closed(because: String)
    }
    package var content: Content
    /// What it is attached to, as ``GateTarget/text``.
    package var targets: [String]
    /// What its status has to say beside that.
    package var caveat: Caveat?

    package struct Caveat: Hashable, Sendable {
        /// False: the policy as it is written is not what happens.
        package var isEnforced: Bool
        package var reason: String
        package var message: String
    }
}

/// What a policy may be attached to.
package enum GateTarget: Hashable, Sendable {
    case service(String), entry(String), gateway(String)
    /// A GatewayClass.
    case gatewayClass(String)

    var text: String {
        switch self {
        case .service(let key): "Service|\(key)"
        case .entry(let key): "ServiceEntry|\(key)"
        case .gateway(let key): "Gateway|\(key)"
        case .gatewayClass(let name): "GatewayClass|\(name)"
        }
    }

    /// - Parameter namespace: of the policy; what is elsewhere it cannot be attached to.
    init?(_ target: PolicyView.Target, namespace: String, rootNamespace: String) {
        if !target.namespace.isEmpty, target.namespace != namespace { return nil }
        let key = "\(namespace)/\(target.name)"
        switch (target.group, target.kind) {
        case ("", "Service"): self = .service(key)
        case ("networking.istio.io", "ServiceEntry"): self = .entry(key)
        case ("gateway.networking.k8s.io", "Gateway"): self = .gateway(key)
        case ("gateway.networking.k8s.io", "GatewayClass") where namespace == rootNamespace:
            self = .gatewayClass(target.name)
        default: return nil
        }
    }

    static func texts(_ targets: [PolicyView.Target], namespace: String, _ settings: MeshSettings) -> [String] {
        targets.compactMap {
            GateTarget($0, namespace: namespace, rootNamespace: settings.rootNamespace)?.text
        }
    }
}

/// AuthorizationPolicies with targets.
enum RequestPolicyConverter {
    /// - Parameter forSidecars: one without targets, which waypoints do not follow.
    static func element(
        _ view: PolicyView, _ settings: MeshSettings, forSidecars: Bool = false
    ) -> GateElement? {
        guard view.hasTargets != forSidecars else { return nil }
        let targets = GateTarget.texts(view.targets, namespace: view.namespace, settings)
        let action: RequestPolicy.Action
        switch view.action {
        case "ALLOW": action = .allow
        case "DENY": action = .deny
        case "AUDIT": action = .audit
        default:
            let reason =
                "AuthorizationPolicy \(view.key) has the action \(view.action), which \(forSidecars ? "sidecars" : "a waypoint") cannot do"
            return GateElement(
                content: .closed(because: reason), targets: targets,
                caveat: .init(
                    isEnforced: false, reason: "UnsupportedValue",
                    message: "\(reason); until it is changed, everything for its targets is refused"))
        }
        var policy = RequestPolicy(
            key: NamespacedName(namespace: view.namespace, name: view.name), action: action, rules: [],
            isDryRun: view.isDryRun)
        var invalid: [String] = []
        for (number, json) in view.rules.enumerated() {
            var reader = RequestRuleReader(
                namespace: view.namespace, action: action, trustDomains: TrustDomains(settings))
            if let rule = reader.rule(json) { policy.rules.append(rule) }
            invalid += reader.invalid.map { "rule \(number): \($0)" }
        }
        return GateElement(content: .policy(policy), targets: targets, caveat: Self.caveat(view, action, invalid))
    }

    private static func caveat(
        _ view: PolicyView, _ action: RequestPolicy.Action, _ invalid: [String]
    ) -> GateElement.Caveat? {
        var texts: [String] = []
        if !invalid.isEmpty {
            let effect =
                action == .allow
                ? "what they would have allowed is not allowed" : "they count as matching every request"
            texts.append("Unreadable values (\(invalid.joined(separator: "; "))): \(effect) until they are corrected")
        }
        if let text = view.unreadableDryRun {
            texts.append("The annotation istio.io/dry-run is \"\(text)\", which is no boolean: the policy is enforced")
        } else if view.isDryRun {
            texts.append("A dry run: what it would do is logged")
        }
        if texts.isEmpty { return nil }
        return .init(isEnforced: invalid.isEmpty, reason: "Invalid", message: texts.joined(separator: ". "))
    }
}

/// RateLimits: our own kind.
enum RateLimitConverter {
    /// A week: as long as waypoints take.
    private static let intervalMax = Duration.seconds(7 * 24 * 3600)

    static func element(_ view: RateLimitView, _ settings: MeshSettings) -> GateElement {
        let targets = GateTarget.texts(view.targets, namespace: view.key.namespace, settings)
        func closed(_ what: String) -> GateElement {
            let reason = "RateLimit \(view.key): \(what)"
            return GateElement(
                content: .closed(because: reason), targets: targets,
                caveat: .init(
                    isEnforced: false, reason: "Invalid",
                    message: "\(reason); until it is changed, everything for its targets is refused"))
        }
        guard let requests = view.requests?.int.flatMap({ UInt32(exactly: $0) }), requests > 0 else {
            return closed("requests has to be a whole number above 0")
        }
        guard let interval = GatewayDuration.parse(view.interval?.string ?? "1s"), interval > .zero,
            interval <= Self.intervalMax
        else { return closed("interval has to be a duration such as 1s or 1m30s, a week at most") }
        var burst = requests
        if let json = view.burst, !json.isNull {
            guard let number = json.int.flatMap({ UInt32(exactly: $0) }), number > 0 else {
                return closed("burst has to be a whole number above 0")
            }
            burst = number
        }
        return GateElement(
            content: .rate(RateLimit(key: view.key, requests: requests, interval: interval, burst: burst)),
            targets: targets)
    }
}
