import MeshModel
package import MeshProto
import MeshRoutes
import SwiftProtobuf

/// What the client holds of each type, and what it does with a response. No I/O.
package struct KnownResources {
    /// What to give the sink and what to answer.
    package struct Outcome {
        package var update: MeshUpdate?
        package var rules: RulesUpdate?
        /// Names and reasons for the NACK; none means ACK.
        package var rejected: [RejectedResource] = []
    }

    /// By type: name → version of the resources accepted last. Versions may be empty (policies from istiod).
    private var versions: [String: [String: String]] = [:]
    private var synced: Set<String> = []

    /// What a client follows. The order is that of its first requests, which a server answers in that order: a waypoint
    /// knows addresses when it learns of rules.
    package enum Role: Sendable {
        case nodeProxy, waypoint
        package var types: [String] {
            switch self {
            case .nodeProxy: [XDSType.address, XDSType.authorization]
            case .waypoint: [XDSType.address, XDSType.waypointRules, XDSType.serviceRules]
            }
        }
    }
    package let types: [String]

    /// Types that come whole; the first picture is complete with them.
    private let wildcards: [String]

    package init(_ role: Role = .nodeProxy, isOnDemand: Bool = false) {
        self.types = role.types
        self.wildcards = role.types.filter { !isOnDemand || $0 != XDSType.address }
    }

    /// What a first request says about a type: everything held.
    package func initialVersions(_ type: String) -> [String: String] { self.versions[type] ?? [:] }

    package var isSynced: Bool { self.wildcards.allSatisfy(self.synced.contains) }

    /// Good resources count even when others in the same response are refused. A refused one keeps its last
    /// accepted version (or none), so that a reconnect makes the server send it again.
    ///
    /// Takes the response, and lets go of each resource once it is decoded: a first one holds the whole mesh.
    package mutating func receive(_ response: consuming Envoy_Service_Discovery_V3_DeltaDiscoveryResponse) -> Outcome {
        var outcome = Outcome()
        let (type, removed, resources) = (response.typeURL, response.removedResources, response.resources)
        response = .init()
        switch type {
        case XDSType.address:
            var upserted: [MeshAddress] = []
            upserted.reserveCapacity(resources.count)
            var pool = FactsPool()
            self.each(consume resources, type, &outcome) { resource throws(RejectedResource) in
                let message: Istio_Workload_Address = try Self.message(in: resource)
                let address = try MeshAddress(message, name: resource.name)
                guard address.resourceName == resource.name else {
                    throw RejectedResource(
                        name: resource.name, reason: "the content calls itself \(address.resourceName)")
                }
                if case .workload(var workload) = address {
                    pool.share(&workload)
                    upserted.append(.workload(workload))
                } else {
                    upserted.append(address)
                }
                return ([], held: address.resourceName)
            }
            outcome.update = .addresses(upserted: upserted, removed: removed)
        case XDSType.authorization:
            var upserted: [AuthorizationPolicy] = []
            self.each(consume resources, type, &outcome) { resource throws(RejectedResource) in
                let message: Istio_Security_Authorization = try Self.message(in: resource)
                let decoded = try AuthorizationPolicy.decode(message, name: resource.name)
                guard decoded.policy.key.description == resource.name else {
                    throw RejectedResource(
                        name: resource.name, reason: "the content calls itself \(decoded.policy.key)")
                }
                upserted.append(decoded.policy)
                return (decoded.flaws, held: resource.name)
            }
            outcome.update = .policies(
                upserted: upserted, removed: removed.compactMap(NamespacedName.init))
        case XDSType.serviceRules:
            var upserted: [ServiceRules] = []
            self.each(consume resources, type, &outcome) { resource throws(RejectedResource) in
                let decoded = try Self.serviceRules(resource)
                upserted.append(decoded.rules)
                return (decoded.flaws, held: resource.name)
            }
            outcome.rules = .services(upserted: upserted, removed: removed.compactMap(NamespacedName.init))
        case XDSType.waypointRules:
            // The server gives a waypoint its own, so it is one.
            var mine: WaypointRules?
            self.each(consume resources, type, &outcome) { resource throws(RejectedResource) in
                let decoded = try Self.waypointRules(resource)
                mine = decoded.rules
                return (decoded.flaws, held: resource.name)
            }
            if mine != nil || !removed.isEmpty { outcome.rules = .waypoint(mine) }
        default:
            return outcome  // a type nobody asked for: acknowledged and forgotten
        }
        for name in removed { self.versions[type]?[name] = nil }
        // Rules that are refused in part are in force, in their stricter form: a waypoint serves the others.
        if outcome.rejected.isEmpty || XDSType.isScoped(type) { self.synced.insert(type) }
        return outcome
    }

    /// - Parameter decode: returns what is wrong with a resource that is in force all the same, and its name as the
    ///   decoded value holds it, so that the name is kept once and not twice.
    private mutating func each(
        _ resources: consuming [Envoy_Service_Discovery_V3_Resource], _ type: String, _ outcome: inout Outcome,
        _ decode: (Envoy_Service_Discovery_V3_Resource) throws(RejectedResource) -> (flaws: [String], held: String)
    ) {
        var versions = self.versions.removeValue(forKey: type) ?? [:]
        // Whoever gives all resources of a push one version has it kept once.
        var last = ""
        for index in resources.indices {
            let resource = resources[index]
            resources[index] = .init()
            do throws(RejectedResource) {
                let (flaws, name) = try decode(resource)
                if flaws.isEmpty {
                    if resource.version != last { last = resource.version }
                    versions[name] = last
                } else {
                    outcome.rejected.append(
                        RejectedResource(name: resource.name, reason: flaws.joined(separator: ", ")))
                    // It is in force (in its stricter form), so its removal must be heard of after a reconnect; the
                    // version is one that no server gives, so that it is also sent again.
                    versions[name] = "flawed"
                }
            } catch {
                outcome.rejected.append(error)
            }
        }
        self.versions[type] = versions
    }

    /// What no message can be made of closes the service: its policy is not known.
    private static func serviceRules(
        _ resource: Envoy_Service_Discovery_V3_Resource
    ) throws(RejectedResource) -> DecodedRules<ServiceRules> {
        let message: Martlet_Waypoint_ServiceRules
        do throws(RejectedResource) {
            message = try Self.message(in: resource)
        } catch {
            guard let key = NamespacedName(resource.name) else { throw error }
            return ServiceRules.closed(key, because: error.reason)
        }
        return try ServiceRules.decode(message, name: resource.name)
    }

    private static func waypointRules(
        _ resource: Envoy_Service_Discovery_V3_Resource
    ) throws(RejectedResource) -> DecodedRules<WaypointRules> {
        let message: Martlet_Waypoint_WaypointRules
        do throws(RejectedResource) {
            message = try Self.message(in: resource)
        } catch {
            guard let key = NamespacedName(resource.name) else { throw error }
            return WaypointRules.closed(key, because: error.reason)
        }
        return try WaypointRules.decode(message, name: resource.name)
    }

    private static func message<M: Message>(
        in resource: Envoy_Service_Discovery_V3_Resource
    ) throws(RejectedResource) -> M {
        do {
            return try M(serializedBytes: resource.resource.value)
        } catch {
            throw RejectedResource(name: resource.name, reason: "not a readable \(M.protoMessageName): \(error)")
        }
    }
}
