import KubeAPI
import MeshModel
import MeshRoutes

/// Reads one element of an AuthorizationPolicy's `spec.rules` with all that a waypoint can see of a request.
///
/// A value that cannot be read fails closed, as at the node proxy (``RuleReader``, docs/decisions/0003): in an ALLOW it
/// allows nothing; in a DENY it might be any value, so that a list with it counts as matching and a `not…` list loses it.
struct RequestRuleReader {
    let namespace: String
    let action: RequestPolicy.Action
    let trustDomains: TrustDomains
    private(set) var invalid: [String] = []

    private typealias Text = AuthorizationPolicy.StringMatch
    private typealias Account = AuthorizationPolicy.ServiceAccountMatch

    init(namespace: String, action: RequestPolicy.Action, trustDomains: TrustDomains) {
        self.namespace = namespace
        self.action = action
        self.trustDomains = trustDomains
    }

    /// What an element of a list comes to, beside its values.
    private struct Reach {
        /// Something in it may be anything, and is left out.
        var isWidened = false
        /// Something in it cannot be known to hold.
        var isNever = false
    }

    /// Nil: a rule that can allow nothing.
    mutating func rule(_ json: JSONValue) -> RequestPolicy.Rule? {
        var rule = RequestPolicy.Rule()
        if let from = json["from"]?.array, !from.isEmpty {
            guard let sources = self.elements(from, { $0.source($1["source"], &$2) }) else { return nil }
            rule.from = sources
        }
        if let to = json["to"]?.array, !to.isEmpty {
            guard let operations = self.elements(to, { $0.operation($1["operation"], &$2) }) else { return nil }
            rule.to = operations
        }
        for json in json["when"]?.array ?? [] {
            var reach = Reach()
            let condition = self.condition(json, &reach)
            if reach.isNever { return nil }
            if let condition, !condition.values.isEmpty || !condition.notValues.isEmpty { rule.when.append(condition) }
        }
        return rule
    }

    /// Empty: one of them matches always. Nil: none of them ever matches.
    private mutating func elements<Element: Equatable>(
        _ list: [JSONValue], _ read: (inout Self, JSONValue, inout Reach) -> (Element, isEmpty: Bool)
    ) -> [Element]? {
        var elements: [Element] = []
        var isAlways = false
        for json in list {
            var reach = Reach()
            let (element, isEmpty) = read(&self, json, &reach)
            if reach.isNever { continue }
            if isEmpty { isAlways = true } else { elements.append(element) }
        }
        if isAlways { return [] }
        return elements.isEmpty ? nil : elements
    }

    private mutating func source(
        _ json: JSONValue?, _ reach: inout Reach
    ) -> (RequestPolicy.Source, isEmpty: Bool) {
        var source = RequestPolicy.Source()
        self.attributes(json, "an empty source", &reach) { reader, name, values, reach in
            let account = reader.account
            let principals = reader.trustDomains.expanded(values)
            let domains = reader.domains(values)
            switch name {
            case "principals": source.principals = reader.list(name, principals, &reach, RuleReader.text)
            case "notPrincipals": source.notPrincipals = reader.exceptions(name, principals, &reach, RuleReader.text)
            case "requestPrincipals": source.requestPrincipals = reader.list(name, values, &reach, RuleReader.text)
            case "notRequestPrincipals":
                source.notRequestPrincipals = reader.exceptions(name, values, &reach, RuleReader.text)
            case "namespaces": source.namespaces = reader.list(name, values, &reach, RuleReader.text)
            case "notNamespaces": source.notNamespaces = reader.exceptions(name, values, &reach, RuleReader.text)
            case "serviceAccounts": source.serviceAccounts = reader.list(name, values, &reach, account)
            case "notServiceAccounts": source.notServiceAccounts = reader.exceptions(name, values, &reach, account)
            case "trustDomains": source.trustDomains = reader.list(name, domains, &reach, RuleReader.text)
            case "notTrustDomains": source.notTrustDomains = reader.exceptions(name, domains, &reach, RuleReader.text)
            case "ipBlocks": source.ipBlocks = reader.list(name, values, &reach) { CIDR($0) }
            case "notIpBlocks": source.notIPBlocks = reader.exceptions(name, values, &reach) { CIDR($0) }
            case "remoteIpBlocks": source.remoteIPBlocks = reader.list(name, values, &reach) { CIDR($0) }
            case "notRemoteIpBlocks": source.notRemoteIPBlocks = reader.exceptions(name, values, &reach) { CIDR($0) }
            default: reader.unreadable("source.\(name)", &reach)
            }
        }
        return (source, source == RequestPolicy.Source())
    }

    private mutating func operation(
        _ json: JSONValue?, _ reach: inout Reach
    ) -> (RequestPolicy.Operation, isEmpty: Bool) {
        var operation = RequestPolicy.Operation()
        self.attributes(json, "an empty operation", &reach) { reader, name, values, reach in
            switch name {
            case "hosts": operation.hosts = reader.list(name, values, &reach, RuleReader.text)
            case "notHosts": operation.notHosts = reader.exceptions(name, values, &reach, RuleReader.text)
            case "ports": operation.ports = reader.list(name, values, &reach, Self.port)
            case "notPorts": operation.notPorts = reader.exceptions(name, values, &reach, Self.port)
            case "methods": operation.methods = reader.list(name, values, &reach, RuleReader.text)
            case "notMethods": operation.notMethods = reader.exceptions(name, values, &reach, RuleReader.text)
            case "paths": operation.paths = reader.list(name, values, &reach, Self.path)
            case "notPaths": operation.notPaths = reader.exceptions(name, values, &reach, Self.path)
            default: reader.unreadable("operation.\(name)", &reach)
            }
        }
        return (operation, operation == RequestPolicy.Operation())
    }

    private mutating func condition(_ json: JSONValue, _ reach: inout Reach) -> RequestPolicy.Condition? {
        let key = json["key"]?.string ?? ""
        let (values, others) = (json["values"]?.array ?? [], json["notValues"]?.array ?? [])
        if values.isEmpty && others.isEmpty {
            self.unreadable("when \"\(key)\" without values", &reach)
            return nil
        }
        guard let attribute = Self.attribute(key) else {
            self.unreadable("when \"\(key)\"", &reach)
            return nil
        }
        let account = self.account
        let read: (String) -> RequestPolicy.ConditionValue? =
            switch attribute {
            case .sourceIP, .remoteIP, .destinationIP: { CIDR($0).map { .block($0) } }
            case .destinationPort: { Self.port($0).map { .port($0) } }
            case .sourceServiceAccount: { account($0).map { .serviceAccount($0) } }
            default: { RuleReader.text($0).map { .text($0) } }
            }
        func expanded(_ values: [JSONValue]) -> [JSONValue] {
            switch attribute {
            case .sourcePrincipal: self.trustDomains.expanded(values)
            case .sourceTrustDomain: self.domains(values)
            default: values
            }
        }
        return RequestPolicy.Condition(
            attribute: attribute, values: self.list(key, expanded(values), &reach, read),
            notValues: self.exceptions(key, expanded(others), &reach, read))
    }

    private static func attribute(_ key: String) -> RequestPolicy.Attribute? {
        switch key {
        case "source.ip": return .sourceIP
        case "remote.ip": return .remoteIP
        case "source.namespace": return .sourceNamespace
        case "source.serviceAccount": return .sourceServiceAccount
        case "source.trustDomain": return .sourceTrustDomain
        case "source.principal": return .sourcePrincipal
        case "request.auth.principal": return .requestPrincipal
        case "request.auth.audiences": return .requestAudiences
        case "request.auth.presenter": return .requestPresenter
        case "destination.ip": return .destinationIP
        case "destination.port": return .destinationPort
        case "connection.sni": return .serverName
        default: break
        }
        if let names = Self.brackets(key, after: "request.headers"), names.count == 1 {
            return .requestHeader(names[0].lowercased())
        }
        return Self.brackets(key, after: "request.auth.claims").map { .requestClaim($0) }
    }

    /// `prefix[a][b]` → a, b.
    private static func brackets(_ key: String, after prefix: String) -> [String]? {
        guard key.hasPrefix(prefix + "["), key.hasSuffix("]") else { return nil }
        let names = key.dropFirst(prefix.count + 1).dropLast().split(separator: "][", omittingEmptySubsequences: false)
            .map(String.init)
        return names.contains { $0.isEmpty || $0.contains("[") || $0.contains("]") } ? nil : names
    }

    private func domains(_ values: [JSONValue]) -> [JSONValue] {
        let own = self.trustDomains.all
        return values.flatMap { value -> [JSONValue] in
            guard let text = value.string, text == TrustDomains.pointer || own.contains(text) else { return [value] }
            return own.map { .string($0) }
        }
    }

    private mutating func attributes(
        _ json: JSONValue?, _ nothing: String, _ reach: inout Reach,
        _ read: (inout RequestRuleReader, String, [JSONValue], inout Reach) -> Void
    ) {
        let lists = (json?.object ?? [:]).compactMapValues(\.array).filter { !$0.value.isEmpty }
        if lists.isEmpty { self.unreadable(nothing, &reach) }
        for (name, values) in lists.sorted(by: { $0.key < $1.key }) { read(&self, name, values, &reach) }
    }

    private mutating func unreadable(_ what: String, _ reach: inout Reach) {
        self.invalid.append(what)
        if self.action == .allow { reach.isNever = true } else { reach.isWidened = true }
    }

    private mutating func list<Value>(
        _ name: String, _ values: [JSONValue], _ reach: inout Reach, _ read: (String) -> Value?
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
        if self.action == .allow {
            if result.isEmpty { reach.isNever = true }
            return result
        }
        reach.isWidened = true
        return []
    }

    private mutating func exceptions<Value>(
        _ name: String, _ values: [JSONValue], _ reach: inout Reach, _ read: (String) -> Value?
    ) -> [Value] {
        var result: [Value] = []
        for json in values {
            if let value = json.string.flatMap(read) {
                result.append(value)
            } else {
                self.unreadable("\(name) \(json.string ?? json.description)", &reach)
            }
        }
        return result
    }

    /// A template's segments are literal, `{*}`, or once `{**}` with only literal ones behind it.
    private static func path(_ value: String) -> RequestPolicy.PathPattern? {
        guard value.contains("{") || value.contains("}") else { return RuleReader.text(value).map { .text($0) } }
        guard value.hasPrefix("/") else { return nil }
        let segments = value.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        var isOpen = false
        for segment in segments where segment.contains(where: { "{}*".contains($0) }) {
            guard segment == "{*}" || segment == "{**}", !isOpen else { return nil }
            isOpen = segment == "{**}"
        }
        return .template(value)
    }

    private var account: (String) -> AuthorizationPolicy.ServiceAccountMatch? {
        let namespace = self.namespace
        return { value in
            let parts = value.split(separator: "/", omittingEmptySubsequences: false)
            if value.contains("*") || parts.contains("") || parts.count > 2 { return nil }
            return parts.count == 2
                ? .init(namespace: String(parts[0]), serviceAccount: String(parts[1]))
                : .init(namespace: namespace, serviceAccount: value)
        }
    }

    private static func port(_ value: String) -> UInt16? {
        guard !value.isEmpty, value.utf8.allSatisfy({ (48...57).contains($0) }), let port = UInt16(value) else {
            return nil
        }
        return port > 0 ? port : nil
    }
}
