package import KubeAPI
import MeshCollections
import MeshModel

/// What we have to say about an object with a list of places (`status.parents` of a route): one element for each, and
/// other controllers' elements beside ours.
package struct PlacedStatus: Hashable, Sendable {
    package struct Place: Hashable, Sendable {
        /// As the object's spec has it.
        package var reference: JSONValue
        package var conditions: [StatusCondition]
    }
    package var generation: Int64
    package var places: [Place]

    /// Nil when there is nothing to say.
    init?(generation: Int64, _ places: [Place]) {
        if places.isEmpty { return nil }
        self.generation = generation
        self.places = places
    }

    package func conditions(_ place: Int = 0) -> [StatusCondition] {
        self.places.indices.contains(place) ? self.places[place].conditions : []
    }
}

/// The conditions of a route at one parent.
enum RouteStatus {
    static func conditions(
        _ kind: RouteKind, _ parent: RouteView.Parent, _ outcome: RouteParents.Outcome, _ findings: RouteFindings,
        grants: [PortOwners.Grant]
    ) -> [StatusCondition]? {
        var conditions: [StatusCondition] = []
        switch outcome {
        case .foreign: return nil
        case .refused(let reason, let message):
            conditions = [
                StatusCondition("Accepted", false, reason: reason, message: message), Self.resolvedRefs(findings),
            ]
        case .attached(_, let binding):
            conditions = [
                Self.accepted(kind, findings, grants), Self.resolvedRefs(findings), Self.waypoints(parent, binding),
            ]
            if !findings.dropped.isEmpty, findings.dropped.count < findings.ruleCount {
                conditions.append(
                    StatusCondition(
                        "PartiallyInvalid", true, reason: "UnsupportedValue",
                        message: findings.dropped.joined(separator: "; ")))
            }
        }
        return conditions
    }

    private static func accepted(
        _ kind: RouteKind, _ findings: RouteFindings, _ grants: [PortOwners.Grant]
    ) -> StatusCondition {
        let unfit = Self.unfit(kind, grants)
        for grant in grants where grant.isEmpty {
            if let rival = grant.rival {
                return StatusCondition(
                    "Accepted", false, reason: "Conflicted",
                    message: "a \(rival.name) has these ports; it comes before this kind of route")
            }
            if let unfit {
                return StatusCondition(
                    "Accepted", false, reason: "UnsupportedProtocol", message: "the route does nothing: \(unfit)")
            }
        }
        if !findings.dropped.isEmpty, findings.dropped.count >= findings.ruleCount {
            return StatusCondition(
                "Accepted", false, reason: "UnsupportedValue", message: findings.dropped.joined(separator: "; "))
        }
        return StatusCondition(
            "Accepted", true, reason: "Accepted",
            message: unfit.map { "the route is in force, but not everywhere: \($0)" } ?? "the route is in force")
    }

    /// Ports that the route does nothing at, and what would have to change; nil: none.
    private static func unfit(_ kind: RouteKind, _ grants: [PortOwners.Grant]) -> String? {
        var ports: [ServicePort] = []
        for port in grants.flatMap(\.unfit) where !ports.contains(port) { ports.append(port) }
        if ports.isEmpty { return nil }
        let list = ports.map { "port \($0.port) is declared as \($0.appProtocol.word)" }.joined(separator: ", ")
        return "\(list), and a \(kind.name) is for \(kind.fitting), or for ports that declare nothing "
            + "(by appProtocol, or by the port's name up to its first dash)"
    }

    private static func resolvedRefs(_ findings: RouteFindings) -> StatusCondition {
        guard let first = findings.unresolved.first else {
            return StatusCondition(
                "ResolvedRefs", true, reason: "ResolvedRefs", message: "every reference leads somewhere")
        }
        return StatusCondition(
            "ResolvedRefs", false, reason: first.reason.rawValue,
            message: findings.unresolved.map(\.message).joined(separator: "; "))
    }

    /// Istio always says True here; we say whether anything follows the route.
    private static func waypoints(_ parent: RouteView.Parent, _ binding: WaypointBinding?) -> StatusCondition {
        if let waypoint = binding?.primary {
            return StatusCondition(
                "ResolvedWaypoints", true, reason: "ResolvedWaypoints",
                message: "waypoint \(waypoint.key) follows this route")
        }
        let why =
            binding?.problem.map { "\($0.failure.rawValue): \($0.message)" }
            ?? "neither it nor its namespace has the label \(Names.useWaypoint)"
        return StatusCondition(
            "ResolvedWaypoints", false, reason: "NoWaypoint",
            message: "nothing follows this route: \(parent.kind) \(parent.key) has no waypoint (\(why))")
    }
}
