package import MeshProto

/// One client's stream, as a state machine: requests and snapshots in, responses out. No I/O.
///
/// What is kept per type is a revision, not the resources; only an on-demand client has a list of names, bounded.
package struct XDSSession {
    package typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest
    package typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

    /// Why the stream ends.
    package enum Ending: Error, Hashable, Sendable {
        case missingNode
        case tooManySubscriptions
        /// The log of changes does not reach back to what this client has; it has to connect again.
        case tooFarBehind
    }

    /// What a request meant, for the log and the statistics.
    package enum Note: Hashable, Sendable {
        case acknowledged(type: String)
        case refused(type: String, reason: String)
        case staleNonce(type: String)
        case unknownType(String)
    }

    /// Names one on-demand client may ask for.
    static let subscriptionsMax = 100_000
    /// Responses whose answer is still out; older ones are given up as stale.
    static let outstandingMax = 16

    package struct TypeState: Sendable {
        package var isWildcard = true
        package var sentNonce = ""
        package var ackedNonce = ""
        package var sentRevision: UInt64 = 0
        package var ackedRevision: UInt64 = 0
        package var resourcesSent: UInt64 = 0
        package var refusals: UInt64 = 0
        package var lastRefusal = ""
        var outstanding: [(nonce: String, revision: UInt64)] = []
        /// On-demand only: what was asked for, and which resources were sent because of it.
        var wanted: Set<String> = []
        var delivered: Set<String> = []

        /// A request that answers a response.
        mutating func answered(_ request: Request) -> Note {
            guard let index = self.outstanding.firstIndex(where: { $0.nonce == request.responseNonce }) else {
                return .staleNonce(type: request.typeURL)
            }
            let answered = self.outstanding[index]
            self.outstanding.removeSubrange(...index)
            guard request.hasErrorDetail else {
                (self.ackedNonce, self.ackedRevision) = answered
                return .acknowledged(type: request.typeURL)
            }
            self.refusals += 1
            self.lastRefusal = request.errorDetail.message
            return .refused(type: request.typeURL, reason: request.errorDetail.message)
        }

        mutating func sent(_ nonce: String, _ revision: UInt64, resources: Int) {
            self.sentNonce = nonce
            self.sentRevision = revision
            self.resourcesSent += UInt64(resources)
            self.outstanding.append((nonce, revision))
            if self.outstanding.count > XDSSession.outstandingMax { self.outstanding.removeFirst() }
        }
    }

    /// As whom the client is served: which types there are for it, and which resources of them.
    package enum Audience: Hashable, Sendable {
        case nodeProxy
        /// `<namespace>/<name>` of the Gateway.
        case waypoint(String)

        var types: [String] {
            switch self {
            case .nodeProxy: [XDSType.address, XDSType.authorization]
            case .waypoint: [XDSType.address, XDSType.waypointRules, XDSType.serviceRules]
            }
        }
    }

    private let audience: Audience
    package private(set) var node: Envoy_Service_Discovery_V3_Node?
    package private(set) var types: [String: TypeState] = [:]
    private let nonces: () -> String

    /// - Parameter nonces: a new one with every call.
    package init(for audience: Audience = .nodeProxy, nonces: @escaping () -> String) {
        self.audience = audience
        self.nonces = nonces
    }

    private var nodeName: String { self.node?.metadata.fields["NODE_NAME"]?.stringValue ?? "" }

    package mutating func receive(
        _ request: Request, _ snapshot: XDSSnapshot
    ) throws(Ending) -> (responses: [Response], note: Note?) {
        if request.hasNode, self.node == nil { self.node = request.node }
        guard let node, !node.id.isEmpty else { throw .missingNode }
        let type = request.typeURL
        guard self.audience.types.contains(type) else { return ([], .unknownType(type)) }
        guard var state = self.types[type] else {
            return ([try self.open(type, request, snapshot)], nil)
        }
        var note: Note?
        if !request.responseNonce.isEmpty {
            note = state.answered(request)
            if case .staleNonce = note { return ([], note) }
        }
        self.types[type] = state
        let response = try self.subscribe(
            type, request.resourceNamesSubscribe, request.resourceNamesUnsubscribe, snapshot)
        return (response.map { [$0] } ?? [], note)
    }

    /// The first request of a type is always answered, if only with nothing.
    private mutating func open(
        _ type: String, _ request: Request, _ snapshot: XDSSnapshot
    ) throws(Ending) -> Response {
        if XDSType.isScoped(type) { return self.openScoped(type, request, snapshot) }
        var state = TypeState()
        let asked = request.resourceNamesSubscribe
        state.isWildcard =
            (asked.isEmpty || asked.contains("*")) && !request.resourceNamesUnsubscribe.contains("*")
        self.types[type] = state
        if state.isWildcard {
            let difference = snapshot.difference(type, from: request.initialResourceVersions)
            return self.response(type, difference.upserted.map(\.message), difference.removed, snapshot)
        }
        let wanted = asked.filter { $0 != "*" } + request.initialResourceVersions.keys
        try self.want(type, wanted)
        var found = self.lookUp(type, wanted, snapshot)
        found.upserted.removeAll { request.initialResourceVersions[$0.name] == $0.version }
        return self.response(type, found.upserted.map(Self.withAliases), found.removed, snapshot)
    }

    /// Rules: all that are for this waypoint, whatever names it asks for.
    private mutating func openScoped(_ type: String, _ request: Request, _ snapshot: XDSSnapshot) -> Response {
        self.types[type] = TypeState()
        let mine = snapshot.resources(type, for: self.gateway)
        self.types[type]?.delivered = Set(mine.map(\.name))
        let known = request.initialResourceVersions
        let gone = known.keys.filter { self.types[type]?.delivered.contains($0) != true }
        let new = mine.filter { known[$0.name] != $0.version }
        return self.response(type, new.map(\.message), gone.sorted(), snapshot)
    }

    private var gateway: String {
        switch self.audience {
        case .nodeProxy: ""
        case .waypoint(let name): name
        }
    }

    /// Later changes of the subscription; nil when there is nothing to answer.
    private mutating func subscribe(
        _ type: String, _ subscribe: [String], _ unsubscribe: [String], _ snapshot: XDSSnapshot
    ) throws(Ending) -> Response? {
        if subscribe.isEmpty && unsubscribe.isEmpty || XDSType.isScoped(type) { return nil }
        let names = subscribe.filter { $0 != "*" }
        if let response = self.turn(type, subscribe, unsubscribe, snapshot) { return response }
        if self.types[type]?.isWildcard == false {
            for name in unsubscribe {
                self.types[type]?.wanted.remove(name)
                self.types[type]?.delivered.remove(name)
            }
            try self.want(type, names)
            if names.isEmpty { return nil }
        }
        let found = self.lookUp(type, names, snapshot)
        // The answer covers these names only: what else has changed is still to be pushed.
        let behind = self.types[type]?.sentRevision ?? 0
        let response = self.response(type, found.upserted.map(Self.withAliases), found.removed, snapshot)
        self.types[type]?.sentRevision = behind
        return response
    }

    /// From some resources to all, which brings those too; or from all to some, which the client then has to name.
    private mutating func turn(
        _ type: String, _ subscribe: [String], _ unsubscribe: [String], _ snapshot: XDSSnapshot
    ) -> Response? {
        guard let isWildcard = self.types[type]?.isWildcard else { return nil }
        let (starts, ends) = (subscribe.contains("*"), unsubscribe.contains("*"))
        if isWildcard, ends {
            self.types[type]?.isWildcard = false
        } else if !isWildcard, starts, !ends {
            // What it holds and is gone since the last push would never be mentioned again.
            let gone = (self.types[type]?.delivered ?? []).filter { snapshot.resource(type, $0) == nil }
            self.types[type]?.isWildcard = true
            self.types[type]?.wanted = []
            self.types[type]?.delivered = []
            let all = snapshot.difference(type, from: [:])
            return self.response(type, all.upserted.map(\.message), gone.sorted(), snapshot)
        }
        return nil
    }

    private mutating func want(_ type: String, _ names: [String]) throws(Ending) {
        self.types[type]?.wanted.formUnion(names)
        if let state = self.types[type], state.wanted.count + state.delivered.count > Self.subscriptionsMax {
            throw .tooManySubscriptions
        }
    }

    /// By name or alias; a service brings its workloads, and the client's node its own that it has not got yet. What
    /// is not there counts as removed.
    private mutating func lookUp(
        _ type: String, _ keys: [String], _ snapshot: XDSSnapshot
    ) -> XDSSnapshot.Difference {
        let result = snapshot.find(type, Set(keys))
        var difference = XDSSnapshot.Difference(upserted: result.found, removed: result.unknown.sorted())
        guard let state = self.types[type], !state.isWildcard else { return difference }
        if type == XDSType.address, !self.nodeName.isEmpty {
            let known = Set(difference.upserted.map(\.name))
            difference.upserted += snapshot.onNode(self.nodeName).filter {
                !known.contains($0.name) && !state.delivered.contains($0.name)
            }
        }
        self.types[type]?.delivered.formUnion(difference.upserted.map(\.name))
        return difference
    }

    /// What this client has to hear about a new snapshot, in this order: new policies before the workloads that
    /// name them, and policies away only after the workloads that named them; services before the rules that lead to
    /// them, and services away only after the rules that led to them.
    package mutating func push(_ snapshot: XDSSnapshot) throws(Ending) -> [Response] {
        var changes: [String: XDSSnapshot.Difference] = [:]
        for (type, state) in self.types where state.sentRevision < snapshot.revision {
            guard var difference = snapshot.difference(type, since: state.sentRevision) else { throw .tooFarBehind }
            if XDSType.isScoped(type) {
                self.scope(&difference, type)
            } else if !state.isWildcard {
                self.narrow(&difference, type)
            }
            self.types[type]?.sentRevision = snapshot.revision
            if !difference.isEmpty { changes[type] = difference }
        }
        var responses: [Response] = []
        if let policies = changes[XDSType.authorization], !policies.upserted.isEmpty {
            responses.append(
                self.response(XDSType.authorization, policies.upserted.map(\.message), [], snapshot))
        }
        if let addresses = changes[XDSType.address] {
            let isWildcard = self.types[XDSType.address]?.isWildcard ?? true
            let messages = addresses.upserted.map { isWildcard ? $0.message : Self.withAliases($0) }
            let rules = [XDSType.waypointRules, XDSType.serviceRules].compactMap { type in
                changes[type].map { (type, $0) }
            }
            if rules.isEmpty || addresses.removed.isEmpty {
                responses.append(self.response(XDSType.address, messages, addresses.removed, snapshot))
            } else if !messages.isEmpty {
                responses.append(self.response(XDSType.address, messages, [], snapshot))
            }
            for (type, difference) in rules { responses.append(self.rules(type, difference, snapshot)) }
            if !rules.isEmpty, !addresses.removed.isEmpty {
                responses.append(self.response(XDSType.address, [], addresses.removed, snapshot))
            }
        } else {
            for type in [XDSType.waypointRules, XDSType.serviceRules] {
                if let difference = changes[type] { responses.append(self.rules(type, difference, snapshot)) }
            }
        }
        if let policies = changes[XDSType.authorization], !policies.removed.isEmpty {
            responses.append(self.response(XDSType.authorization, [], policies.removed, snapshot))
        }
        return responses
    }

    private mutating func rules(
        _ type: String, _ difference: XDSSnapshot.Difference, _ snapshot: XDSSnapshot
    ) -> Response {
        self.response(type, difference.upserted.map(\.message), difference.removed, snapshot)
    }

    /// A waypoint hears of what is for it; what is for it no longer is gone for it.
    private mutating func scope(_ difference: inout XDSSnapshot.Difference, _ type: String) {
        let gateway = self.gateway
        let delivered = self.types[type]?.delivered ?? []
        difference.removed.removeAll { !delivered.contains($0) }
        for resource in difference.upserted
        where !resource.audience.contains(gateway) && delivered.contains(resource.name) {
            difference.removed.append(resource.name)
        }
        difference.upserted.removeAll { !$0.audience.contains(gateway) }
        self.types[type]?.delivered.formUnion(difference.upserted.map(\.name))
        self.types[type]?.delivered.subtract(difference.removed)
    }

    /// An on-demand client hears of what it asked for, of the endpoints of services it asked for, and of its node.
    private mutating func narrow(_ difference: inout XDSSnapshot.Difference, _ type: String) {
        guard let state = self.types[type] else { return }
        let node = self.nodeName
        difference.upserted.removeAll { resource in
            !(state.delivered.contains(resource.name) || state.wanted.contains(resource.name)
                || resource.aliases.contains(where: state.wanted.contains)
                || resource.serviceKeys.contains(where: { state.wanted.contains($0) || state.delivered.contains($0) })
                || !node.isEmpty && resource.node == node)
        }
        difference.removed.removeAll { !state.delivered.contains($0) }
        self.types[type]?.delivered.formUnion(difference.upserted.map(\.name))
        self.types[type]?.delivered.subtract(difference.removed)
    }

    private static func withAliases(_ resource: EncodedResource) -> Envoy_Service_Discovery_V3_Resource {
        var message = resource.message
        message.aliases = resource.aliases
        return message
    }

    private mutating func response(
        _ type: String, _ resources: [Envoy_Service_Discovery_V3_Resource], _ removed: [String],
        _ snapshot: XDSSnapshot
    ) -> Response {
        let nonce = self.nonces()
        self.types[type]?.sent(nonce, snapshot.revision, resources: resources.count)
        return .with {
            $0.systemVersionInfo = String(snapshot.revision)
            $0.typeURL = type
            $0.nonce = nonce
            $0.resources = resources
            $0.removedResources = removed
        }
    }
}
