internal import KubeAPI

/// What clients read to learn which kinds exist.
struct Discovery {
    let view: Registry.View

    static let aggregatedType = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

    /// Whether the Accept header offers the aggregated form.
    static func wantsAggregated(_ accept: String?) -> Bool {
        (accept ?? "").split(separator: ",").contains { clause in
            let text = clause.filter { $0 != " " }
            return text.contains("g=apidiscovery.k8s.io") && text.contains("v=v2;")
                && text.contains("APIGroupDiscoveryList")
                || text.hasSuffix("g=apidiscovery.k8s.io;as=APIGroupDiscoveryList;v=v2")
        }
    }

    // MARK: Aggregated

    /// `/api` (the core group) or `/apis` (all others).
    func aggregated(core: Bool) -> JSONValue {
        [
            "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": [:],
            "items": .array(
                self.view.groups.filter { $0.name.isEmpty == core }.map { group in
                    [
                        "metadata": ["name": .string(group.name)],
                        "versions": .array(
                            group.versions.map { version in
                                [
                                    "version": .string(version.version), "freshness": "Current",
                                    "resources": .array(version.kinds.map(Self.aggregated)),
                                ]
                            }),
                    ]
                }),
        ]
    }

    private static func aggregated(_ kind: ResourceKind) -> JSONValue {
        var json: JSONValue = [
            "resource": .string(kind.type.plural),
            "responseKind": [
                "group": .string(kind.group), "version": .string(kind.type.version), "kind": .string(kind.type.kind),
            ],
            "scope": kind.type.isNamespaced ? "Namespaced" : "Cluster",
            "singularResource": .string(kind.singular), "verbs": JSONValue(kind.verbs),
        ]
        if !kind.shortNames.isEmpty { json["shortNames"] = JSONValue(kind.shortNames) }
        if !kind.categories.isEmpty { json["categories"] = JSONValue(kind.categories) }
        if !kind.subresources.isEmpty {
            json["subresources"] = .array(
                kind.subresources.map { sub in
                    [
                        "subresource": .string(sub.name),
                        "responseKind": [
                            "group": .string(sub.group ?? kind.group),
                            "version": .string(sub.version ?? kind.type.version), "kind": .string(sub.kind),
                        ],
                        "verbs": JSONValue(sub.verbs),
                    ]
                })
        }
        return json
    }

    // MARK: Legacy

    static func versions(serverAddress: String) -> JSONValue {
        [
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [["clientCIDR": "0.0.0.0/0", "serverAddress": .string(serverAddress)]],
        ]
    }

    var groupList: JSONValue {
        [
            "kind": "APIGroupList", "apiVersion": "v1",
            "groups": .array(
                self.view.groups.filter { !$0.name.isEmpty }.map { Self.group($0.name, $0.versions.map(\.version)) }),
        ]
    }

    func group(_ name: String) -> JSONValue? {
        guard let group = self.view.groups.first(where: { $0.name == name && !name.isEmpty }) else { return nil }
        var json = Self.group(name, group.versions.map(\.version))
        json["kind"] = "APIGroup"
        json["apiVersion"] = "v1"
        return json
    }

    private static func group(_ name: String, _ versions: [String]) -> JSONValue {
        let rows = versions.map { version -> JSONValue in
            ["groupVersion": .string("\(name)/\(version)"), "version": .string(version)]
        }
        return ["name": .string(name), "versions": .array(rows), "preferredVersion": rows[0]]
    }

    func resources(group: String, version: String) -> JSONValue? {
        guard
            let found = self.view.groups.first(where: { $0.name == group })?.versions.first(where: {
                $0.version == version
            })
        else { return nil }
        var rows: [JSONValue] = []
        for kind in found.kinds {
            var row: JSONValue = [
                "name": .string(kind.type.plural), "singularName": .string(kind.singular),
                "namespaced": .bool(kind.type.isNamespaced), "kind": .string(kind.type.kind),
                "verbs": JSONValue(kind.verbs),
            ]
            if !kind.shortNames.isEmpty { row["shortNames"] = JSONValue(kind.shortNames) }
            if !kind.categories.isEmpty { row["categories"] = JSONValue(kind.categories) }
            rows.append(row)
            for sub in kind.subresources {
                var row: JSONValue = [
                    "name": .string("\(kind.type.plural)/\(sub.name)"), "singularName": "",
                    "namespaced": .bool(kind.type.isNamespaced), "kind": .string(sub.kind),
                    "verbs": JSONValue(sub.verbs),
                ]
                if let group = sub.group { row["group"] = .string(group) }
                if let version = sub.version { row["version"] = .string(version) }
                rows.append(row)
            }
        }
        return [
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": .string(group.isEmpty ? version : "\(group)/\(version)"), "resources": .array(rows),
        ]
    }
}
