package import MeshModel
package import MeshRoutes

/// What turned out while a route was read, for its status.
package struct RouteFindings: Hashable, Sendable {
    /// Why a reference, or a filter, cannot be followed. The first one names the condition's reason.
    package enum Unresolved: String, Hashable, Sendable {
        case invalidKind = "InvalidKind"
        case notFound = "BackendNotFound"
        case invalidDestination = "InvalidDestination"
        case invalidFilter = "InvalidFilter"
    }
    package struct Finding: Hashable, Sendable {
        package var reason: Unresolved
        package var message: String
    }

    package var unresolved: [Finding] = []
    /// Rules that say what we cannot read, and what: they are left out.
    package var dropped: [String] = []
    package var ruleCount = 0

    mutating func note(_ reason: Unresolved, _ message: String) {
        self.unresolved.append(Finding(reason: reason, message: message))
    }
}

/// A route with its references resolved, whatever it is attached to.
package struct ResolvedRoute: Hashable, Sendable {
    package enum Content: Hashable, Sendable {
        case http([HTTPRule])
        case stream(serverNames: [String], [StreamBackend])
    }
    package var kind: RouteKind
    package var key: NamespacedName
    package var content: Content
    package var findings: RouteFindings
}
