import MeshModel

/// A ServiceEntry after the question who may have which host.
///
/// A host belongs to one object per namespace: to a Kubernetes Service of that name if there is one, else to the
/// oldest ServiceEntry. Across namespaces each keeps its own, and one of them is canonical: what a client gets that
/// has no host of its own namespace.
package struct ResolvedEntry: Hashable, Sendable {
    package struct Host: Hashable, Sendable {
        package var name: String
        package var isCanonical: Bool
    }
    package struct Claim: Hashable, Sendable {
        package var host: String
        package var namespace: String
        package var entry: String
        package var createdAt: String
        package var isVisibleEverywhere: Bool

        /// Oldest first. Kubernetes' times are whole seconds, so the name decides between equals.
        static func isOlder(_ a: Self, _ b: Self) -> Bool {
            (a.createdAt, a.namespace, a.entry) < (b.createdAt, b.namespace, b.entry)
        }
    }

    package var view: ServiceEntryView
    package var visibility: EntryVisibility
    /// Those that this object really stands for.
    package var hosts: [Host] = []
    /// The others, and who has them.
    package var taken: [String] = []

    init(view: ServiceEntryView, visibility: EntryVisibility) {
        self.view = view
        self.visibility = visibility
    }

    /// What MeshConfig says about the namespace, narrowed by the object's own `exportTo`.
    static func visibility(
        _ view: ServiceEntryView, namespaceLabels: [String: String], _ settings: MeshSettings
    ) -> EntryVisibility {
        let general = settings.entryVisibility?.visibility(namespaceLabels: namespaceLabels) ?? .everywhere
        if general != .everywhere || view.exportTo.isEmpty { return general }
        if view.exportTo == ["~"] { return .none }
        return view.exportTo.allSatisfy { $0 == "." || $0 == view.namespace } ? .namespace : .everywhere
    }

    /// Hosts that this object asks for; none when it is invisible or has an address that cannot be read.
    static func claims(_ view: ServiceEntryView, _ visibility: EntryVisibility) -> [Claim] {
        if visibility == .none || view.addresses == nil { return [] }
        return view.hosts.map {
            Claim(
                host: $0, namespace: view.namespace, entry: view.key, createdAt: view.createdAt,
                isVisibleEverywhere: visibility == .everywhere)
        }
    }

    /// - Parameters:
    ///   - claims: all that ask for this host, of any namespace.
    ///   - service: the Kubernetes Service of that name, as namespace and name.
    mutating func settle(_ host: String, claims: [Claim], service: NamespacedName?) {
        guard !self.hosts.contains(where: { $0.name == host }) else { return }
        let winners = Dictionary(grouping: claims, by: \.namespace).compactMapValues { $0.min(by: Claim.isOlder) }
        if let service, service.namespace == self.view.namespace {
            self.taken.append("\(host) belongs to Service \(service)")
        } else if let winner = winners[self.view.namespace], winner.entry == self.view.key {
            let canonical = winners.values.filter(\.isVisibleEverywhere).min(by: Claim.isOlder)
            self.hosts.append(
                Host(name: host, isCanonical: service == nil && canonical?.entry == self.view.key))
        } else {
            self.taken.append("\(host) belongs to ServiceEntry \(winners[self.view.namespace]?.entry ?? "-")")
        }
    }

    /// Workloads find their services by it.
    var keys: [NamespacedName] {
        self.hosts.map { NamespacedName(namespace: self.view.namespace, name: $0.name) }
    }

    /// What the object's status says beside its waypoint.
    func conditions(_ settings: MeshSettings, binding: WaypointBinding?) -> [StatusCondition?] {
        var trouble: (reason: String, message: String)?
        if let bad = self.view.addressTexts.first(where: { CIDR($0) == nil }) {
            trouble = (
                "InvalidAddress", "\"\(bad)\" is neither an address nor a block: no host of this object is known"
            )
        } else if !self.taken.isEmpty {
            trouble = ("HostConflict", self.taken.joined(separator: "; "))
        }
        let isNarrowed = !self.view.exportTo.isEmpty && !self.view.exportTo.contains("*")
        let cannotNarrow =
            isNarrowed && self.visibility == .everywhere
            ? " (exportTo can be limited to the own namespace only)" : ""
        return [
            trouble.map { StatusCondition("HostsAccepted", false, reason: $0.reason, message: $0.message) },
            settings.entryVisibility != nil || isNarrowed
                ? StatusCondition(
                    "istio.io/VisibilityApplied", true, reason: self.visibility.word,
                    message: "hosts are \(self.visibility.meaning)\(cannotNarrow)") : nil,
            self.hosts.contains { ServiceEntryView.isWildcard($0.name) } && binding?.primary == nil
                ? StatusCondition(
                    "istio.io/WaypointMissing", true, reason: "NoWaypointForWildcardService",
                    message: "a host with a wildcard cannot be reached without a waypoint; name one with the label "
                        + Names.useWaypoint) : nil,
        ]
    }
}

extension EntryVisibility {
    fileprivate var word: String {
        switch self {
        case .none: "None"
        case .namespace: "Namespace"
        case .everywhere: "Public"
        }
    }
    fileprivate var meaning: String {
        switch self {
        case .none: "visible to nobody"
        case .namespace: "visible in their own namespace"
        case .everywhere: "visible everywhere"
        }
    }
}
