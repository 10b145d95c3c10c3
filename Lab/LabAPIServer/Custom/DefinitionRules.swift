internal import KubeAPI

/// What the server does to CustomResourceDefinition objects themselves.
enum DefinitionRules {
    static let cleanupFinalizer = "customresourcecleanup.apiextensions.k8s.io"

    static func setDefaults(_ crd: inout JSONValue) {
        let kind = crd.at("spec", "names", "kind")?.string ?? ""
        if crd.at("spec", "names", "singular") == nil {
            crd.set(["spec", "names", "singular"], to: .string(kind.lowercased()))
        }
        if crd.at("spec", "names", "listKind") == nil {
            crd.set(["spec", "names", "listKind"], to: .string(kind + "List"))
        }
        if crd.at("spec", "conversion") == nil { crd.set(["spec", "conversion"], to: ["strategy": "None"]) }
    }

    static func validate(_ crd: JSONValue) -> [FieldError] {
        var errors: [FieldError] = []
        let spec = crd["spec"] ?? [:]
        let group = spec["group"]?.string ?? ""
        let plural = spec.at("names", "plural")?.string ?? ""
        if group.isEmpty { errors.append(.required("spec.group")) }
        if plural.isEmpty { errors.append(.required("spec.names.plural")) }
        if spec.at("names", "kind")?.string ?? "" == "" { errors.append(.required("spec.names.kind")) }
        let name = crd.at("metadata", "name")?.string ?? ""
        if !group.isEmpty, !plural.isEmpty, name != "\(plural).\(group)" {
            errors.append(.invalid("metadata.name", .string(name), "must be spec.names.plural+\".\"+spec.group"))
        }
        switch spec["scope"]?.string {
        case "Namespaced", "Cluster": break
        case nil: errors.append(.required("spec.scope"))
        case let other?: errors.append(.notSupported("spec.scope", .string(other), ["Cluster", "Namespaced"]))
        }
        let versions = spec["versions"]?.array ?? []
        if versions.isEmpty { errors.append(.required("spec.versions", "must have at least one version")) }
        let stored = versions.filter { $0["storage"]?.bool == true }.count
        if !versions.isEmpty, stored != 1 {
            errors.append(
                .invalid("spec.versions", .array([]), "must have exactly one version marked as storage version"))
        }
        for (index, version) in versions.enumerated() {
            let place = "spec.versions[\(index)]"
            if version["name"]?.string ?? "" == "" { errors.append(.required("\(place).name")) }
            guard let schema = version.at("schema", "openAPIV3Schema") else {
                errors.append(.required("\(place).schema.openAPIV3Schema", "schemas are required"))
                continue
            }
            if schema["type"]?.string != "object", schema["x-kubernetes-preserve-unknown-fields"]?.bool != true {
                errors.append(
                    .invalid("\(place).schema.openAPIV3Schema.type", schema["type"] ?? "", "must be object at the root")
                )
            }
        }
        return errors
    }

    /// Fills in `status`: names are accepted unless another definition or a built-in kind of the group has them.
    static func setStatus(_ crd: inout JSONValue, rivals: [KubeObject], now: String) {
        let spec = crd["spec"] ?? [:]
        let names = spec["names"] ?? [:]
        let clash = self.clash(
            names, group: spec["group"]?.string ?? "", own: crd.at("metadata", "name")?.string, rivals)
        var conditions = crd.at("status", "conditions")?.array ?? []
        func set(_ type: String, _ status: Bool, _ reason: String, _ message: String) {
            let old = conditions.first { $0["type"]?.string == type }
            let text: JSONValue = status ? "True" : "False"
            let since = old?["status"] == text ? old?["lastTransitionTime"] ?? .string(now) : .string(now)
            conditions.removeAll { $0["type"]?.string == type }
            conditions.append([
                "type": .string(type), "status": text, "reason": .string(reason), "message": .string(message),
                "lastTransitionTime": since,
            ])
        }
        if let clash {
            set("NamesAccepted", false, "NamesConflict", clash)
            set("Established", false, "NotAccepted", "not all names are accepted")
        } else {
            set("NamesAccepted", true, "NoConflicts", "no conflicts found")
            set("Established", true, "InitialNamesAccepted", "the initial names have been accepted")
        }
        var stored = crd.at("status", "storedVersions")?.array ?? []
        let version = JSONValue.string(CustomKinds.storageVersion(of: KubeObject(crd)))
        if !stored.contains(version) { stored.append(version) }
        crd.set(["status", "conditions"], to: .array(conditions))
        crd.set(["status", "acceptedNames"], to: clash == nil ? names : ["plural": "", "kind": ""])
        crd.set(["status", "storedVersions"], to: .array(stored))
    }

    private static func clash(
        _ names: JSONValue, group: String, own: String?, _ rivals: [KubeObject]
    ) -> String? {
        func words(_ names: JSONValue) -> Set<String> {
            Set(
                [names["plural"], names["singular"]].compactMap { $0?.string }
                    + (names["shortNames"]?.array ?? []).compactMap(\.string))
        }
        let kinds: (JSONValue) -> Set<String> = { Set([$0["kind"], $0["listKind"]].compactMap { $0?.string }) }
        for rival in rivals where rival.name != own && rival.spec["group"]?.string == group {
            let other = rival.spec["names"] ?? [:]
            let common = words(names).intersection(words(other)).union(kinds(names).intersection(kinds(other)))
            if let word = common.sorted().first { return "\"\(word)\" is already in use" }
        }
        return nil
    }
}
