package import MeshModel

/// One rule of a route, as a request finds it: made once for each configuration, shared by all who serve it.
package final class RouteRule: Sendable {
    package let route: NamespacedName
    package let kind: HTTPRoute.Kind
    /// Of the rule in its route, from 0.
    package let index: Int
    package let rule: HTTPRule
    package let backends: WeightedChoice

    init(route: NamespacedName, kind: HTTPRoute.Kind, index: Int, rule: HTTPRule) {
        self.route = route
        self.kind = kind
        self.index = index
        self.rule = rule
        self.backends = WeightedChoice(rule.backends.map(\.weight))
    }
}

package struct MatchedRule: Sendable {
    package let rule: RouteRule
    /// Octets of the path that a prefix match matched, without the prefix's last slash: 0 for `/`. nil for other kinds of
    /// match, whose paths cannot be changed by prefix.
    package let prefixBytes: Int?
}

/// A match that cannot be used; the rest of its route is.
package struct RouteProblem: Hashable, Sendable, CustomStringConvertible {
    package let route: NamespacedName
    package let rule: Int
    package let error: RegexError

    package var description: String { "route \(self.route), rule \(self.rule): \(self.error)" }
}
