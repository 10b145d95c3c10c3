import KubeAPI
import MeshModel

/// Reads one element of an AuthorizationPolicy's `spec.rules`.
///
/// A value that cannot be read fails closed, as narrowly as can be said (docs/decisions/0003):
/// - ALLOW: it allows nothing. A list keeps its readable values; a list that has none left, or a `not…` list with such
///   a value, makes its element of `from`, `to` or `when` match nothing.
/// - DENY: it might be any value. A list with such a value counts as matching; a `not…` list loses the value, so that
///   it excepts less.
struct RuleReader {
    let namespace: String
    let action: AuthorizationPolicy.Action
    /// Attributes that need more than a connection.
    private(set) var unsupported: Set<String> = []
    private(set) var invalid: [String] = []

    private let trustDomains: TrustDomains

    init(namespace: String, action: AuthorizationPolicy.Action, trustDomains: TrustDomains) {
        self.trustDomains = trustDomains
        self.namespace = namespace
        self.action = action
    }

    /// Nil: a rule that can allow nothing.
    mutating func rule(_ json: JSONValue) -> AuthorizationPolicy.Rule? {
        var clauses: [[Element]] = []
        if let to = json["to"]?.array, !to.isEmpty { clauses.append(to.map { self.operation($0["operation"]) }) }
        if let from = json["from"]?.array, !from.isEmpty { clauses.append(from.map { self.source($0["source"]) }) }
        for condition in json["when"]?.array ?? [] { clauses.append([self.condition(condition)]) }

        var rule = AuthorizationPolicy.Rule(clauses: [])
        for elements in clauses {
            if elements.contains(where: \.isAlways) { continue }
            let matches = elements.filter { !$0.isNever }.map(\.match)
            if matches.isEmpty { return nil }
            rule.clauses.append(AuthorizationPolicy.Clause(matches: matches))
        }
        return rule
    }

    /// One element of a list, while it is read.
    private struct Element {
        var match = AuthorizationPolicy.Match()
        /// Something in it may be anything, and is left out of `match`.
        var isWidened = false
        /// Something in it cannot be known to hold.
        var isNever = false
        var isAlways: Bool { self.isWidened && self.match == AuthorizationPolicy.Match() }
    }

    private mutating func operation(_ json: JSONValue?) -> Element {
        var element = Element()
        self.attributes(json, "an empty operation", &element) { reader, name, values, element in
            switch name {
            case "ports": element.match.destinationPorts = reader.list(name, values, &element, Self.port)
            case "notPorts": element.match.notDestinationPorts = reader.exceptions(name, values, &element, Self.port)
            default: reader.unsupported.insert(name)
            }
        }
        return element
    }

    private mutating func source(_ json: JSONValue?) -> Element {
        var element = Element()
        self.attributes(json, "an empty source", &element) { reader, name, values, element in
            let namespace = reader.namespace
            func account(_ text: String) -> AuthorizationPolicy.ServiceAccountMatch? {
                Self.account(text, in: namespace)
            }
            switch name {
            case "principals":
                let all = reader.trustDomains.expanded(values)
                element.match.principals = reader.list(name, all, &element, Self.text)
            case "notPrincipals":
                let all = reader.trustDomains.expanded(values)
                element.match.notPrincipals = reader.exceptions(name, all, &element, Self.text)
            case "namespaces": element.match.namespaces = reader.list(name, values, &element, Self.text)
            case "notNamespaces": element.match.notNamespaces = reader.exceptions(name, values, &element, Self.text)
            case "serviceAccounts": element.match.serviceAccounts = reader.list(name, values, &element, account)
            case "notServiceAccounts":
                element.match.notServiceAccounts = reader.exceptions(name, values, &element, account)
            case "ipBlocks": element.match.sourceIPs = reader.list(name, values, &element) { CIDR($0) }
            case "notIpBlocks": element.match.notSourceIPs = reader.exceptions(name, values, &element) { CIDR($0) }
            default: reader.unsupported.insert(name)
            }
        }
        return element
    }

    private mutating func condition(_ json: JSONValue) -> Element {
        var element = Element()
        let key = json["key"]?.string ?? ""
        let (values, others) = (json["values"]?.array ?? [], json["notValues"]?.array ?? [])
        if values.isEmpty && others.isEmpty {
            self.unreadable("when \"\(key)\" without values", &element)
            return element
        }
        switch key {
        case "source.ip":
            element.match.sourceIPs = self.list(key, values, &element) { CIDR($0) }
            element.match.notSourceIPs = self.exceptions(key, others, &element) { CIDR($0) }
        case "source.namespace":
            element.match.namespaces = self.list(key, values, &element, Self.text)
            element.match.notNamespaces = self.exceptions(key, others, &element, Self.text)
        case "source.principal":
            element.match.principals = self.list(key, self.trustDomains.expanded(values), &element, Self.text)
            element.match.notPrincipals = self.exceptions(
                key, self.trustDomains.expanded(others), &element, Self.text)
        case "destination.ip":
            element.match.destinationIPs = self.list(key, values, &element) { CIDR($0) }
            element.match.notDestinationIPs = self.exceptions(key, others, &element) { CIDR($0) }
        case "destination.port":
            element.match.destinationPorts = self.list(key, values, &element, Self.port)
            element.match.notDestinationPorts = self.exceptions(key, others, &element, Self.port)
        default: self.unsupported.insert(key)
        }
        return element
    }

    /// Goes through the lists of a source or an operation. One without any list means nothing that can be matched.
    private mutating func attributes(
        _ json: JSONValue?, _ nothing: String, _ element: inout Element,
        _ read: (inout RuleReader, String, [JSONValue], inout Element) -> Void
    ) {
        let lists = (json?.object ?? [:]).compactMapValues(\.array).filter { !$0.value.isEmpty }
        if lists.isEmpty { self.unreadable(nothing, &element) }
        for (name, values) in lists.sorted(by: { $0.key < $1.key }) { read(&self, name, values, &element) }
    }

    private mutating func unreadable(_ what: String, _ element: inout Element) {
        self.invalid.append(what)
        switch self.action {
        case .allow: element.isNever = true
        case .deny: element.isWidened = true
        }
    }

    private mutating func list<Value>(
        _ name: String, _ values: [JSONValue], _ element: inout Element, _ read: (String) -> Value?
    ) -> [Value] {
        var result: [Value] = []
        var hasUnreadable = false
        for json in values {
            if let value = json.string.flatMap(read) {
                result.append(value)
            } else {
                hasUnreadable = true
                self.invalid.append("\(name) \(json.string ?? json.description)")
            }
        }
        guard hasUnreadable else { return result }
        switch self.action {
        case .allow: if result.isEmpty { element.isNever = true }
        case .deny:
            element.isWidened = true
            return []
        }
        return result
    }

    private mutating func exceptions<Value>(
        _ name: String, _ values: [JSONValue], _ element: inout Element, _ read: (String) -> Value?
    ) -> [Value] {
        var result: [Value] = []
        for json in values {
            if let value = json.string.flatMap(read) {
                result.append(value)
            } else {
                self.unreadable("\(name) \(json.string ?? json.description)", &element)
            }
        }
        return result
    }

    /// `*` stands alone, first or last; elsewhere the node proxy cannot match it.
    static func text(_ value: String) -> AuthorizationPolicy.StringMatch? {
        if value == "*" { return .presence }
        let stars = value.utf8.count(where: { $0 == UInt8(ascii: "*") })
        if value.isEmpty || stars > 1 { return nil }
        if value.hasPrefix("*") { return .suffix(String(value.dropFirst())) }
        if value.hasSuffix("*") { return .prefix(String(value.dropLast())) }
        return stars == 0 ? .exact(value) : nil
    }

    /// `account` of the policy's own namespace, or `namespace/account`; no wildcards.
    private static func account(
        _ value: String, in namespace: String
    ) -> AuthorizationPolicy.ServiceAccountMatch? {
        let parts = value.split(separator: "/", omittingEmptySubsequences: false)
        if value.contains("*") || parts.contains("") || parts.count > 2 { return nil }
        return parts.count == 2
            ? .init(namespace: String(parts[0]), serviceAccount: String(parts[1]))
            : .init(namespace: namespace, serviceAccount: value)
    }

    private static func port(_ value: String) -> UInt16? {
        value.utf8.allSatisfy { (48...57).contains($0) } ? UInt16(value) : nil
    }
}
