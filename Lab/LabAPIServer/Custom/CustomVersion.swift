internal import KubeAPI

/// What a CustomResourceDefinition says about one of its versions.
struct CustomVersion: Sendable {
    struct Column: Sendable {
        let name, type, format, description: String
        let priority: Int64
        let path: FieldPath
    }
    struct Scale: Sendable {
        let specReplicasPath, statusReplicasPath: [String]
        let labelSelectorPath: [String]?
    }

    let definition: String
    let listKind: String
    let schema: Schema
    let columns: [Column]
    let hasStatusSubresource: Bool
    let scale: Scale?
    let deprecationWarning: String?
    let selectableFields: [FieldPath]
}

/// Reads definitions into served kinds.
enum CustomKinds {
    /// The served kinds of one definition; none while its names are not accepted or it is being deleted.
    static func kinds(of crd: KubeObject) -> [ResourceKind] {
        guard crd.condition("Established") == "True", let names = crd.spec["names"] else { return [] }
        let spec = crd.spec
        let group = spec["group"]?.string ?? ""
        let plural = names["plural"]?.string ?? ""
        let kind = names["kind"]?.string ?? ""
        let storageVersion = storageVersion(of: crd)
        return (spec["versions"]?.array ?? []).filter { $0["served"]?.bool == true }.map { version in
            let type = ResourceType(
                group: group, version: version["name"]?.string ?? "", plural: plural, kind: kind,
                isNamespaced: spec["scope"]?.string == "Namespaced")
            let custom = self.version(version, type, names, definition: crd.name)
            var subresources: [ResourceKind.Subresource] = []
            let verbs = ["get", "patch", "update"]
            if custom.scale != nil {
                subresources.append(
                    .init(name: "scale", kind: "Scale", group: "autoscaling", version: "v1", verbs: verbs))
            }
            if custom.hasStatusSubresource { subresources.append(.init(name: "status", kind: kind, verbs: verbs)) }
            return ResourceKind(
                type: type, singular: names["singular"]?.string ?? kind.lowercased(),
                shortNames: names["shortNames"]?.array?.compactMap(\.string) ?? [],
                categories: names["categories"]?.array?.compactMap(\.string) ?? [], subresources: subresources,
                storage: type.description, storageVersion: "\(group)/\(storageVersion)",
                hasStatus: custom.hasStatusSubresource, hasGeneration: true, requiresVersionOnUpdate: true,
                custom: custom)
        }
    }

    static func storageVersion(of crd: KubeObject) -> String {
        crd.spec["versions"]?.array?.first { $0["storage"]?.bool == true }?["name"]?.string ?? ""
    }

    private static func version(
        _ version: JSONValue, _ type: ResourceType, _ names: JSONValue, definition: String
    ) -> CustomVersion {
        let columns = (version["additionalPrinterColumns"]?.array ?? []).map { column in
            CustomVersion.Column(
                name: column["name"]?.string ?? "", type: column["type"]?.string ?? "string",
                format: column["format"]?.string ?? "", description: column["description"]?.string ?? "",
                priority: column["priority"]?.int ?? 0, path: FieldPath(column["jsonPath"]?.string ?? ""))
        }
        let age = CustomVersion.Column(
            name: "Age", type: "date", format: "", description: "", priority: 0,
            path: FieldPath(".metadata.creationTimestamp"))
        var scale: CustomVersion.Scale?
        if let json = version.at("subresources", "scale") {
            func steps(_ key: String) -> [String]? {
                json[key]?.string.map { $0.split(separator: ".").map(String.init) }
            }
            scale = CustomVersion.Scale(
                specReplicasPath: steps("specReplicasPath") ?? [],
                statusReplicasPath: steps("statusReplicasPath") ?? [],
                labelSelectorPath: steps("labelSelectorPath"))
        }
        var warning: String?
        if version["deprecated"]?.bool == true {
            warning = version["deprecationWarning"]?.string ?? "\(type.apiVersion) \(type.kind) is deprecated"
        }
        return CustomVersion(
            definition: definition, listKind: names["listKind"]?.string ?? type.kind + "List",
            schema: Schema(version.at("schema", "openAPIV3Schema") ?? ["x-kubernetes-preserve-unknown-fields": true]),
            columns: columns.isEmpty ? [age] : columns,
            hasStatusSubresource: version.at("subresources", "status") != nil, scale: scale,
            deprecationWarning: warning,
            selectableFields: (version["selectableFields"]?.array ?? []).compactMap { $0["jsonPath"]?.string }
                .map(FieldPath.init))
    }
}
