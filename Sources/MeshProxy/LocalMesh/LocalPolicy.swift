internal import MeshModel

/// A policy as it is written by hand: rules of clauses of matches, as ``AuthorizationPolicy`` has them.
struct LocalPolicy: Decodable {
    let policy: AuthorizationPolicy

    private enum Field: String, CodingKey, CaseIterable { case name, namespace, scope, action, dryRun, rules }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.strictContainer(Field.self)
        let rules = try fields.decodeIfPresent([[[LocalMatch]]].self, forKey: .rules) ?? []
        let scope: AuthorizationPolicy.Scope? = try fields.word(
            .scope, ["Global": .global, "Namespace": .namespace, "WorkloadSelector": .workloadSelector])
        let action: AuthorizationPolicy.Action? = try fields.word(.action, ["Allow": .allow, "Deny": .deny])
        // Neither has a default: what a policy does and whom it is for has to be written.
        guard let scope else { throw Self.missing(.scope, fields) }
        guard let action else { throw Self.missing(.action, fields) }
        self.policy = AuthorizationPolicy(
            key: NamespacedName(
                namespace: try fields.decode(String.self, forKey: .namespace),
                name: try fields.decode(String.self, forKey: .name)),
            scope: scope, action: action,
            rules: rules.map { clauses in .init(clauses: clauses.map { .init(matches: $0.map(\.match)) }) },
            isDryRun: try fields.decodeIfPresent(Bool.self, forKey: .dryRun) ?? false)
    }

    private static func missing(_ field: Field, _ fields: KeyedDecodingContainer<Field>) -> DecodingError {
        .keyNotFound(field, .init(codingPath: fields.codingPath, debugDescription: ""))
    }
}

private struct LocalMatch: Decodable {
    let match: AuthorizationPolicy.Match

    private enum Field: String, CodingKey, CaseIterable {
        case namespaces, notNamespaces, principals, notPrincipals, serviceAccounts, notServiceAccounts
        case sourceIps, notSourceIps, destinationIps, notDestinationIps, destinationPorts, notDestinationPorts
    }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.strictContainer(Field.self)
        func strings(_ key: Field) throws -> [AuthorizationPolicy.StringMatch] {
            try fields.decodeIfPresent([LocalStringMatch].self, forKey: key)?.map(\.match) ?? []
        }
        func blocks(_ key: Field) throws -> [CIDR] {
            try fields.values(key, "blocks such as 10.0.0.0/8, or addresses") { CIDR($0) }
        }
        func accounts(_ key: Field) throws -> [AuthorizationPolicy.ServiceAccountMatch] {
            try fields.values(key, "<namespace>/<service account>") { text in
                NamespacedName(text).map { .init(namespace: $0.namespace, serviceAccount: $0.name) }
            }
        }
        func ports(_ key: Field) throws -> [UInt16] { try fields.decodeIfPresent([UInt16].self, forKey: key) ?? [] }
        var match = AuthorizationPolicy.Match()
        match.namespaces = try strings(.namespaces)
        match.notNamespaces = try strings(.notNamespaces)
        match.principals = try strings(.principals)
        match.notPrincipals = try strings(.notPrincipals)
        match.serviceAccounts = try accounts(.serviceAccounts)
        match.notServiceAccounts = try accounts(.notServiceAccounts)
        match.sourceIPs = try blocks(.sourceIps)
        match.notSourceIPs = try blocks(.notSourceIps)
        match.destinationIPs = try blocks(.destinationIps)
        match.notDestinationIPs = try blocks(.notDestinationIps)
        match.destinationPorts = try ports(.destinationPorts)
        match.notDestinationPorts = try ports(.notDestinationPorts)
        self.match = match
    }
}

/// `{Exact: a}`, `{Prefix: a}`, `{Suffix: a}` or `{Presence: {}}`
private struct LocalStringMatch: Decodable {
    let match: AuthorizationPolicy.StringMatch

    private enum Field: String, CodingKey, CaseIterable {
        case exact = "Exact"
        case prefix = "Prefix"
        case suffix = "Suffix"
        case presence = "Presence"
    }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.strictContainer(Field.self)
        guard fields.allKeys.count == 1, let kind = fields.allKeys.first else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "wanted one of Exact, Prefix, Suffix, Presence")
            )
        }
        switch kind {
        case .exact: self.match = .exact(try fields.decode(String.self, forKey: kind))
        case .prefix: self.match = .prefix(try fields.decode(String.self, forKey: kind))
        case .suffix: self.match = .suffix(try fields.decode(String.self, forKey: kind))
        case .presence: self.match = .presence
        }
    }
}
