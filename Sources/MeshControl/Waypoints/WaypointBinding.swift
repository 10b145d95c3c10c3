package import MeshModel

/// Which waypoint an object's labels lead to, and why there is none where one was asked for.
package struct WaypointBinding: Hashable, Sendable {
    package enum Failure: String, Hashable, Sendable {
        case isNotReady = "WaypointIsNotReady"
        case attachmentDenied = "AttachmentDenied"
        case unsupportedTraffic = "UnsupportedTrafficType"
        case crossNamespaceForbidden = "CrossNamespaceWaypointForbidden"
    }
    package struct Problem: Hashable, Sendable {
        package var failure: Failure
        package var message: String
    }
    package struct Canary: Hashable, Sendable {
        package var waypoint: Waypoint
        /// Percent, 0 to 100.
        package var weight: UInt32
    }
    package enum Ingress: Hashable, Sendable {
        case notAsked, on
        /// The label is there and says no, or says something that is no boolean.
        case off
    }

    package var primary: Waypoint?
    package var problem: Problem?
    /// Where traffic is sent that may not pass while the waypoint that was asked for cannot be used: nobody is there, so
    /// that clients are refused. Without it they would be served past the waypoint's policies.
    package var standIn: GatewayAddress?
    package var canary: Canary?
    /// Why the canary that was asked for is not used.
    package var canaryTrouble: String?
    package var ingress = Ingress.notAsked

    package init() {}
    package var isEmpty: Bool { self.primary == nil && self.problem == nil && self.standIn == nil }
    /// What clients are told.
    package var address: GatewayAddress? { self.primary?.address ?? self.standIn }

    package var weighted: [WeightedWaypoint] {
        guard let primary, let canary else { return [] }
        return [
            WeightedWaypoint(destination: primary.address, weight: 100 - canary.weight),
            WeightedWaypoint(destination: canary.waypoint.address, weight: canary.weight),
        ]
    }

    /// The condition `istio.io/WaypointBound`; nil when there is nothing to say.
    package var condition: StatusCondition? {
        if let problem {
            return StatusCondition(
                "istio.io/WaypointBound", false, reason: problem.failure.rawValue, message: problem.message)
        }
        guard let primary else { return nil }
        var message = "Successfully attached to waypoint \(primary.key)"
        switch self.ingress {
        case .notAsked: break
        case .on: message += ". Ingress traffic will traverse the waypoint"
        case .off:
            message +=
                ". Ingress traffic will not traverse the waypoint; set the label "
                + "\(Names.ingressUseWaypoint) to true if it should"
        }
        if let canaryTrouble { message += ". Canary waypoint not attached: \(canaryTrouble)" }
        return StatusCondition("istio.io/WaypointBound", true, reason: "WaypointAccepted", message: message)
    }
}

/// Finds an object's waypoint. The object's own label decides alone: where it names a waypoint that cannot be used,
/// its namespace's label is no second choice.
package struct WaypointLookUp {
    /// What an object wants of its waypoint.
    package enum Subject { case service, workload }

    let namespace: String
    let namespaceLabels: [String: String]
    let domainSuffix: String
    let find: (NamespacedName) -> Waypoint?
    let pending: (NamespacedName) -> PendingWaypoint?

    package init(
        namespace: String, view: NamespaceView?, domainSuffix: String, find: @escaping (NamespacedName) -> Waypoint?,
        pending: @escaping (NamespacedName) -> PendingWaypoint?
    ) {
        self.namespace = namespace
        self.namespaceLabels = view?.labels ?? [:]
        self.domainSuffix = domainSuffix
        self.find = find
        self.pending = pending
    }

    static func host(_ service: String, in namespace: String, _ suffix: String) -> String {
        "\(service).\(namespace).svc.\(suffix)"
    }

    package func binding(_ labels: [String: String], for subject: Subject) -> WaypointBinding {
        var binding = WaypointBinding()
        let isDirect = labels[Names.useWaypoint] != nil
        guard let name = self.named(isDirect ? labels : self.namespaceLabels) else { return binding }
        switch self.usable(name, for: subject) {
        case .success(let waypoint): binding.primary = waypoint
        case .failure(let problem):
            // A namespace's waypoint for services is no trouble for its pods.
            if subject == .workload, !isDirect, problem.failure == .unsupportedTraffic { return binding }
            binding.problem = WaypointBinding.Problem(failure: problem.failure, message: problem.message)
            binding.standIn = self.standIn(for: name, problem.failure, subject, isDirect: isDirect)
        }
        return binding
    }

    /// What happens to traffic whose waypoint cannot be used: it is refused, unless it would not be the waypoint's if it
    /// could.
    private func standIn(
        for name: NamespacedName, _ failure: WaypointBinding.Failure, _ subject: Subject, isDirect: Bool
    ) -> GatewayAddress? {
        switch failure {
        case .isNotReady:
            let pending = self.pending(name)
            switch (subject, pending?.traffic ?? .service) {
            case (.service, .workload), (.service, .none): return nil
            // Most waypoints of namespaces are for services, and connections to their pods are none of their business.
            case (.workload, .service), (.workload, .none): if !isDirect || pending != nil { return nil }
            default: break
            }
            // The very name that it will have: nothing has to be told to anybody when it is there.
            if let pending { return .nowhere(pending.host, in: name.namespace) }
            return name.name.isEmpty
                ? .nowhere("unnamed-waypoint.invalid", in: self.namespace)
                : .nowhere(Self.host(name.name, in: name.namespace, self.domainSuffix), in: name.namespace)
        // Not its own name: it does not know this object, or is not to.
        case .attachmentDenied, .crossNamespaceForbidden:
            return .nowhere("\(name.name).waypoint-refuses.invalid", in: name.namespace)
        case .unsupportedTraffic:
            // A waypoint that says what it takes, and takes something else, leaves this to others.
            return self.find(name)?.traffic == .unknown
                ? .nowhere("\(name.name).waypoint-for-unknown.invalid", in: name.namespace) : nil
        }
    }

    /// For a service also the ingress label and the canary; annotations are the object's own and its namespace's.
    package func serviceBinding(
        _ labels: [String: String], canaryWeight: String?, namespaceCanaryWeight: String?
    ) -> WaypointBinding {
        var binding = self.binding(labels, for: .service)
        guard let primary = binding.primary else { return binding }
        if let text = labels[Names.ingressUseWaypoint] ?? self.namespaceLabels[Names.ingressUseWaypoint] {
            binding.ingress = Names.boolean(text) == true ? .on : .off
        }
        let source = labels[Names.useCanary] != nil || labels[Names.useWaypoint] != nil ? labels : self.namespaceLabels
        guard let canary = source[Names.useCanary], canary != "none" else { return binding }
        let name = NamespacedName(namespace: source[Names.useCanaryNamespace] ?? self.namespace, name: canary)
        let inheritedWeight = labels[Names.useWaypoint] == nil ? namespaceCanaryWeight : nil
        let weightText = canaryWeight ?? inheritedWeight ?? "0"
        if name == primary.key {
            binding.canaryTrouble = "CanarySameAsPrimary: \(name) is the primary waypoint already"
        } else if let weight = UInt32(weightText), weight <= 100 {
            switch self.usable(name, for: .service) {
            case .success(let waypoint): binding.canary = .init(waypoint: waypoint, weight: weight)
            case .failure(let problem): binding.canaryTrouble = "\(problem.failure.rawValue): \(problem.message)"
            }
        } else {
            binding.canaryTrouble =
                "CanaryInvalidWeight: \"\(weightText)\" in \(Names.canaryWeight) is no whole number from 0 to 100"
        }
        return binding
    }

    private struct Refusal: Error {
        var failure: WaypointBinding.Failure
        var message: String
    }

    private func named(_ labels: [String: String]) -> NamespacedName? {
        guard let name = labels[Names.useWaypoint], name != "none" else { return nil }
        return NamespacedName(namespace: labels[Names.useWaypointNamespace] ?? self.namespace, name: name)
    }

    private func usable(_ name: NamespacedName, for subject: Subject) -> Result<Waypoint, Refusal> {
        guard let waypoint = self.find(name) else {
            return .failure(
                Refusal(failure: .isNotReady, message: "waypoint \(name) does not exist or has no address yet"))
        }
        guard waypoint.admits(namespace: self.namespace, labels: self.namespaceLabels) else {
            return .failure(
                Refusal(
                    failure: .attachmentDenied,
                    message: "waypoint \(name) does not allow namespace \(self.namespace) to attach "
                        + "(allowedRoutes of its HBONE listener)"))
        }
        let (fits, wanted) =
            switch subject {
            case .service: (waypoint.traffic == .service || waypoint.traffic == .all, "service")
            case .workload: (waypoint.traffic == .workload || waypoint.traffic == .all, "workload")
            }
        guard fits else {
            return .failure(
                Refusal(
                    failure: .unsupportedTraffic,
                    message: "waypoint \(name) takes \(waypoint.traffic.rawValue) traffic "
                        + "(\(Names.waypointFor)), wanted is \(wanted) or all"))
        }
        return .success(waypoint)
    }
}

extension GatewayAddress {
    /// An address at which nobody is now.
    static func nowhere(_ host: String, in namespace: String) -> GatewayAddress {
        GatewayAddress(
            destination: .hostname(NamespacedName(namespace: namespace, name: host)), hbonePort: Waypoint.hbonePort)
    }
}
