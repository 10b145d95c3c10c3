package import MeshProto

/// One Envoy's stream, as a state machine: requests and configurations in, responses out. No I/O.
///
/// Listeners and clusters come all; routes, endpoints and parts of listeners as they are asked for. What a client holds is
/// remembered by name and version, so that only differences go out; what it refused is not sent again before it is another.
package struct EnvoySession {
    package typealias Request = XDSSession.Request
    package typealias Response = XDSSession.Response
    package typealias Ending = XDSSession.Ending
    package typealias Note = XDSSession.Note

    /// In the order in which they are sent, so that nothing leads to what is not there yet. What goes away goes in the
    /// opposite order, behind everything that is new.
    static let configuration = [
        XDSType.cluster, XDSType.endpoints, XDSType.extensionConfig, XDSType.listener, XDSType.routes,
    ]
    /// Of a sidecar, whose agent may ask for names on a stream of its own.
    static let sidecar = Self.configuration + [XDSType.names]
    /// Types of which a client gets everything.
    private static let wholeTypes: Set<String> = [XDSType.cluster, XDSType.listener, XDSType.names]

    private struct Held {
        /// Names that were asked for; nil: all.
        var wanted: Set<String>?
        /// By name: the version that was sent last.
        var versions: [String: String] = [:]
    }

    private let served: [String]
    private let answersAbsence: Bool
    private var held: [String: Held] = [:]
    private var revisions: [UInt64] = []
    package private(set) var node: Envoy_Service_Discovery_V3_Node?
    package private(set) var types: [String: XDSSession.TypeState] = [:]
    private let nonces: () -> String

    /// - Parameters:
    ///   - types: that are served, in the order in which they are sent.
    ///   - answersAbsence: whether a client is told at once that there is no resource of a name.
    ///   - nonces: a new one with every call.
    package init(
        types: [String] = Self.configuration, answersAbsence: Bool = true, nonces: @escaping () -> String
    ) {
        self.served = types
        self.answersAbsence = answersAbsence
        self.nonces = nonces
    }

    package mutating func receive(
        _ request: Request, _ set: EnvoyResourceLayers
    ) throws(Ending) -> (responses: [Response], note: Note?) {
        if request.hasNode, self.node == nil { self.node = request.node }
        guard let node, !node.id.isEmpty else { throw .missingNode }
        let type = request.typeURL
        guard self.served.contains(type) else { return ([], .unknownType(type)) }
        if self.held[type] == nil { return (try self.open(type, request, set).map { [$0] } ?? [], nil) }
        var note: Note?
        // An answer to what nobody remembers may still carry a change of what is wanted.
        if !request.responseNonce.isEmpty { note = self.types[type]?.answered(request) }
        let response = try self.change(type, request, set)
        return (response.map { [$0] } ?? [], note)
    }

    package mutating func receive(
        _ request: Request, _ set: EnvoyResourceSet
    ) throws(Ending) -> (responses: [Response], note: Note?) {
        try self.receive(request, EnvoyResourceLayers([set]))
    }

    package mutating func push(_ set: EnvoyResourceSet) -> [Response] { self.push(EnvoyResourceLayers([set])) }

    /// The first request of a type is answered, if only with nothing.
    private mutating func open(
        _ type: String, _ request: Request, _ set: EnvoyResourceLayers
    ) throws(Ending) -> Response? {
        let named = request.resourceNamesSubscribe.filter { $0 != "*" }
        let isWhole = Self.wholeTypes.contains(type) && named.isEmpty
        var held = Held(wanted: isWhole ? nil : Set(named).union(request.initialResourceVersions.keys))
        held.versions = request.initialResourceVersions
        self.held[type] = held
        var state = XDSSession.TypeState()
        state.isWildcard = isWhole
        self.types[type] = state
        if self.held.count == 1 { self.revisions = set.revisions }
        try self.checkBounds()
        let names = (isWhole ? set.names(type) : Set(named)).union(held.versions.keys)
        return self.answer(type, self.difference(type, names, set, isAsked: Set(named)), set)
    }

    private mutating func change(
        _ type: String, _ request: Request, _ set: EnvoyResourceLayers
    ) throws(Ending) -> Response? {
        for name in request.resourceNamesUnsubscribe {
            self.held[type]?.wanted?.remove(name)
            if self.held[type]?.wanted != nil { self.held[type]?.versions[name] = nil }
        }
        let names = Set(request.resourceNamesSubscribe.filter { $0 != "*" })
        if names.isEmpty { return nil }
        self.held[type]?.wanted?.formUnion(names)
        try self.checkBounds()
        // Who asks again is told again.
        for name in names { self.held[type]?.versions[name] = nil }
        return self.answer(type, self.difference(type, names, set, isAsked: names), set)
    }

    private mutating func answer(_ type: String, _ difference: Difference, _ set: EnvoyResourceLayers) -> Response? {
        if !self.answersAbsence, difference.upserted.isEmpty { return nil }
        return self.response(type, difference, set)
    }

    private func checkBounds() throws(Ending) {
        let count = self.held.values.reduce(0) { $0 + ($1.wanted?.count ?? 0) }
        if count > XDSSession.subscriptionsMax { throw .tooManySubscriptions }
    }

    /// What this client has to hear about a new configuration.
    package mutating func push(_ set: EnvoyResourceLayers) -> [Response] {
        guard set.revisions != self.revisions, !self.held.isEmpty else { return [] }
        let changed = set.changed(since: self.revisions)
        self.revisions = set.revisions
        var differences: [String: Difference] = [:]
        for type in self.served {
            guard self.held[type] != nil else { continue }
            let touched =
                changed.map { names in Set(names.lazy.filter { $0.type == type }.map(\.name)) }
                ?? set.names(type).union(self.held[type]?.versions.keys.map { $0 } ?? [])
            differences[type] = self.difference(type, touched, set, isAsked: [])
        }
        self.addEndpoints(of: differences[XDSType.cluster]?.upserted ?? [], &differences, set)
        var responses: [Response] = []
        for (type, upserted) in self.ordered(differences) where !upserted.isEmpty {
            responses.append(self.response(type, Difference(upserted: upserted), set))
        }
        for type in self.served.reversed() {
            guard let difference = differences[type], !difference.removed.isEmpty else { continue }
            responses.append(self.response(type, Difference(removed: difference.removed), set))
        }
        return responses
    }

    /// A cluster that is new or changed is not used before its endpoints are there, also when it had them before. They go
    /// out with it: until it has asked for them, routes that lead to it would have arrived.
    private mutating func addEndpoints(
        of clusters: [EncodedResource], _ differences: inout [String: Difference], _ set: EnvoyResourceLayers
    ) {
        guard self.held[XDSType.endpoints]?.wanted != nil else { return }
        let sent = Set(differences[XDSType.endpoints]?.upserted.map(\.name) ?? [])
        for name in clusters.map(\.name) where !sent.contains(name) {
            guard let endpoints = set.resource(XDSType.endpoints, name) else { continue }
            self.held[XDSType.endpoints]?.wanted?.insert(name)
            self.held[XDSType.endpoints]?.versions[name] = endpoints.version
            differences[XDSType.endpoints, default: Difference()].upserted.append(endpoints)
        }
    }

    /// How the names of listeners begin that endpoints lead to.
    package static let tunnelPrefix = "connect_originate|"

    /// Endpoints name the listeners that open their tunnels, so those come before them; all others lead to clusters, and
    /// come behind.
    private func ordered(_ differences: [String: Difference]) -> [(type: String, upserted: [EncodedResource])] {
        self.served.flatMap { type -> [(type: String, upserted: [EncodedResource])] in
            let upserted = differences[type]?.upserted ?? []
            let listeners = differences[XDSType.listener]?.upserted ?? []
            switch type {
            case XDSType.endpoints:
                return [
                    (XDSType.listener, listeners.filter { $0.name.hasPrefix(Self.tunnelPrefix) }), (type, upserted),
                ]
            case XDSType.listener: return [(type, upserted.filter { !$0.name.hasPrefix(Self.tunnelPrefix) })]
            default: return [(type, upserted)]
            }
        }
    }

    private struct Difference {
        var upserted: [EncodedResource] = []
        var removed: [String] = []
    }

    /// - Parameter isAsked: names whose absence has to be said, or the client would wait.
    private mutating func difference(
        _ type: String, _ names: Set<String>, _ set: EnvoyResourceLayers, isAsked: Set<String>
    ) -> Difference {
        var difference = Difference()
        // Taken out, or all that is held would be copied for the few names that change.
        guard var held = self.held.removeValue(forKey: type) else { return difference }
        for name in names.sorted() where held.wanted?.contains(name) ?? true {
            let known = held.versions[name]
            if let resource = set.resource(type, name) {
                guard resource.version != known else { continue }
                held.versions[name] = resource.version
                difference.upserted.append(resource)
            } else if known != nil || isAsked.contains(name) {
                held.versions[name] = nil
                difference.removed.append(name)
            }
        }
        self.held[type] = held
        return difference
    }

    private mutating func response(_ type: String, _ difference: Difference, _ set: EnvoyResourceLayers) -> Response {
        let nonce = self.nonces()
        self.types[type]?.sent(nonce, set.revision, resources: difference.upserted.count)
        return .with {
            $0.systemVersionInfo = String(set.revision)
            $0.typeURL = type
            $0.nonce = nonce
            $0.resources = difference.upserted.map(\.message)
            $0.removedResources = difference.removed
        }
    }
}
