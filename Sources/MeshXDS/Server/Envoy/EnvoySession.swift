package import MeshProto

/// One Envoy's stream, as a state machine: requests and configurations in, responses out. No I/O.
///
/// Listeners and clusters come all, routes and endpoints as they are asked for. What a client holds is remembered by name
/// and version, so that only differences go out; what it refused is not sent again before it is another.
package struct EnvoySession {
    package typealias Request = XDSSession.Request
    package typealias Response = XDSSession.Response
    package typealias Ending = XDSSession.Ending
    package typealias Note = XDSSession.Note

    /// In the order in which they are sent, so that nothing leads to what is not there yet. What goes away goes in the
    /// opposite order, behind everything that is new.
    static let configuration = [XDSType.cluster, XDSType.endpoints, XDSType.listener, XDSType.routes]
    /// Types of which an Envoy gets everything.
    private static let wholeTypes: Set<String> = [XDSType.cluster, XDSType.listener]

    private struct Held {
        /// Names that were asked for; nil: all.
        var wanted: Set<String>?
        /// By name: the version that was sent last.
        var versions: [String: String] = [:]
    }

    private let served: [String]
    private let answersAbsence: Bool
    private var held: [String: Held] = [:]
    private var revision: UInt64 = 0
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
        _ request: Request, _ set: EnvoyResourceSet
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

    /// The first request of a type is answered, if only with nothing.
    private mutating func open(
        _ type: String, _ request: Request, _ set: EnvoyResourceSet
    ) throws(Ending) -> Response? {
        let named = request.resourceNamesSubscribe.filter { $0 != "*" }
        let isWhole = Self.wholeTypes.contains(type) && named.isEmpty
        var held = Held(wanted: isWhole ? nil : Set(named).union(request.initialResourceVersions.keys))
        held.versions = request.initialResourceVersions
        self.held[type] = held
        var state = XDSSession.TypeState()
        state.isWildcard = isWhole
        self.types[type] = state
        if self.held.count == 1 { self.revision = set.revision }
        try self.checkBounds()
        let names = Set(isWhole ? set.names(type) : named).union(held.versions.keys)
        return self.answer(type, self.difference(type, names, set, isAsked: Set(named)), set)
    }

    private mutating func change(
        _ type: String, _ request: Request, _ set: EnvoyResourceSet
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

    private mutating func answer(_ type: String, _ difference: Difference, _ set: EnvoyResourceSet) -> Response? {
        if !self.answersAbsence, difference.upserted.isEmpty { return nil }
        return self.response(type, difference, set)
    }

    private func checkBounds() throws(Ending) {
        let count = self.held.values.reduce(0) { $0 + ($1.wanted?.count ?? 0) }
        if count > XDSSession.subscriptionsMax { throw .tooManySubscriptions }
    }

    /// What this client has to hear about a new configuration.
    package mutating func push(_ set: EnvoyResourceSet) -> [Response] {
        guard set.revision > self.revision, !self.held.isEmpty else { return [] }
        let changed = set.changed(since: self.revision)
        self.revision = set.revision
        var differences: [String: Difference] = [:]
        for type in self.served {
            guard let held = self.held[type] else { continue }
            let touched =
                changed.map { names in Set(names.lazy.filter { $0.type == type }.map(\.name)) }
                ?? Set(set.names(type)).union(held.versions.keys)
            differences[type] = self.difference(type, touched, set, isAsked: [])
        }
        // A cluster that is changed waits for its endpoints, also when it had them before.
        let clusters = Set(differences[XDSType.cluster]?.upserted.map(\.name) ?? [])
        if !clusters.isEmpty, let wanted = self.held[XDSType.endpoints]?.wanted {
            let sent = Set(differences[XDSType.endpoints]?.upserted.map(\.name) ?? [])
            let again = clusters.intersection(wanted).subtracting(sent).sorted()
            differences[XDSType.endpoints, default: Difference()].upserted += again.compactMap {
                set.resource(XDSType.endpoints, $0)
            }
        }
        var responses: [Response] = []
        for type in self.served {
            guard let difference = differences[type], !difference.upserted.isEmpty else { continue }
            responses.append(self.response(type, Difference(upserted: difference.upserted), set))
        }
        for type in self.served.reversed() {
            guard let difference = differences[type], !difference.removed.isEmpty else { continue }
            responses.append(self.response(type, Difference(removed: difference.removed), set))
        }
        return responses
    }

    private struct Difference {
        var upserted: [EncodedResource] = []
        var removed: [String] = []
    }

    /// - Parameter isAsked: names whose absence has to be said, or the client would wait.
    private mutating func difference(
        _ type: String, _ names: Set<String>, _ set: EnvoyResourceSet, isAsked: Set<String>
    ) -> Difference {
        var difference = Difference()
        guard var held = self.held[type] else { return difference }
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

    private mutating func response(_ type: String, _ difference: Difference, _ set: EnvoyResourceSet) -> Response {
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
