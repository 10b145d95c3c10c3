import KubeAPI

/// What of an AuthorizationPolicy's rules needs more than the facts of a connection: the node proxy does not enforce it.
enum RequestAttributes {
    private static let operations: Set = ["ports", "notPorts"]
    private static let sources: Set = [
        "principals", "notPrincipals", "namespaces", "notNamespaces", "serviceAccounts", "notServiceAccounts",
        "ipBlocks", "notIpBlocks",
    ]
    private static let conditions: Set = [
        "source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port",
    ]

    static func of(_ rules: [JSONValue]) -> Set<String> {
        var found: Set<String> = []
        for rule in rules {
            for element in rule["to"]?.array ?? [] {
                found.formUnion(self.lists(element["operation"], self.operations))
            }
            for element in rule["from"]?.array ?? [] { found.formUnion(self.lists(element["source"], self.sources)) }
            for condition in rule["when"]?.array ?? [] {
                let key = condition["key"]?.string ?? ""
                if !self.conditions.contains(key) { found.insert(key) }
            }
        }
        return found
    }

    /// Whether a rule asks who calls.
    static func namesCallers(_ rules: [JSONValue]) -> Bool {
        rules.contains { rule in
            !(rule["from"]?.array ?? []).isEmpty
                || (rule["when"]?.array ?? []).contains { $0["key"]?.string?.hasPrefix("source.") ?? false }
        }
    }

    private static func lists(_ json: JSONValue?, _ known: Set<String>) -> Set<String> {
        Set((json?.object ?? [:]).filter { !($0.value.array ?? []).isEmpty }.keys).subtracting(known)
    }
}
