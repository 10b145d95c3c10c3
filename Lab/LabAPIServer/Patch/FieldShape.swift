internal import KubeAPI

/// How a list or map inside an object is merged and owned.
enum ListShape: Equatable {
    /// Replaced and owned as a whole.
    case atomic
    /// Primitive elements without order.
    case set
    /// Elements are objects, told apart by these members.
    case map(keys: [String])
}

/// The shape of one place in an object: of a built-in kind by name, of a custom kind by its schema.
///
/// The built-in rules are those of the published type definitions (patch merge keys and list map keys), found here by
/// the field's name and its surroundings instead of by type.
struct FieldShape {
    private enum Source {
        case builtin(kind: String)
        case schema(Schema?)
    }
    private let source: Source
    /// Names from the root; elements of lists add nothing.
    private let path: [String]

    private init(_ source: Source, _ path: [String]) {
        self.source = source
        self.path = path
    }

    init(_ kind: ResourceKind) {
        if let custom = kind.custom {
            self.init(.schema(custom.schema), [])
        } else {
            self.init(.builtin(kind: kind.type.kind), [])
        }
    }

    static func builtin(_ kind: String) -> FieldShape { FieldShape(.builtin(kind: kind), []) }

    func member(_ name: String) -> FieldShape {
        switch self.source {
        case .builtin: FieldShape(self.source, self.path + [name])
        // `metadata` of custom objects has the built-in shape.
        case .schema where self.path.isEmpty && name == "metadata":
            FieldShape(.builtin(kind: ""), ["metadata"])
        case .schema(let schema):
            FieldShape(.schema(schema?.properties[name] ?? schema?.additionalProperties), self.path + [name])
        }
    }

    var element: FieldShape {
        switch self.source {
        case .builtin: self
        case .schema(let schema): FieldShape(.schema(schema?.items), self.path)
        }
    }

    private var name: String { self.path.last ?? "" }
    private func isInside(_ names: String...) -> Bool { self.path.dropLast().contains { names.contains($0) } }
    private var isInContainer: Bool { self.isInside("containers", "initContainers", "ephemeralContainers") }

    /// A map that is replaced and owned as a whole.
    var isAtomicMap: Bool {
        switch self.source {
        case .schema(let schema):
            return schema?.mapType == "atomic"
        case .builtin(let kind):
            switch self.name {
            case "selector", "labelSelector", "namespaceSelector", "objectSelector", "podSelector", "nodeSelector":
                return true
            case "secretKeyRef", "configMapKeyRef", "fieldRef", "resourceFieldRef": return true
            case "involvedObject", "targetRef", "claimRef", "roleRef", "scaleTargetRef", "parametersRef",
                "boundObjectRef":
                return true
            case "requiredDuringSchedulingIgnoredDuringExecution": return self.isInside("nodeAffinity")
            case "imagePullSecrets", "secrets": return kind == "ServiceAccount"
            default: return false
            }
        }
    }

    /// For ownership and server-side apply.
    var list: ListShape {
        switch self.source {
        case .schema(let schema):
            switch schema?.listType {
            case "map": return .map(keys: schema?.listMapKeys ?? [])
            case "set": return .set
            default: return .atomic
            }
        case .builtin(let kind):
            switch self.name {
            case "containers", "initContainers", "ephemeralContainers", "volumes": return .map(keys: ["name"])
            case "env" where self.isInContainer: return .map(keys: ["name"])
            case "ports" where self.isInContainer: return .map(keys: ["containerPort", "protocol"])
            case "ports" where kind == "Service" && self.path == ["spec", "ports"]:
                return .map(keys: ["port", "protocol"])
            case "volumeMounts" where self.isInContainer: return .map(keys: ["mountPath"])
            case "volumeDevices" where self.isInContainer: return .map(keys: ["devicePath"])
            case "imagePullSecrets": return kind == "ServiceAccount" ? .atomic : .map(keys: ["name"])
            case "hostAliases": return .map(keys: ["ip"])
            case "topologySpreadConstraints": return .map(keys: ["topologyKey", "whenUnsatisfiable"])
            case "schedulingGates", "resourceClaims": return .map(keys: ["name"])
            case "secrets" where kind == "ServiceAccount": return .map(keys: ["name"])
            case "ownerReferences": return .map(keys: ["uid"])
            case "conditions": return kind == "Job" ? .atomic : .map(keys: ["type"])
            case "podIPs", "hostIPs": return .map(keys: ["ip"])
            case "addresses" where kind == "Node": return .map(keys: ["type"])
            case "addresses" where kind == "EndpointSlice": return .set
            case "webhooks": return .map(keys: ["name"])
            case "finalizers", "podCIDRs": return .set
            default: return .atomic
            }
        }
    }

    /// The merge key of strategic merge patches; nil when the list is replaced. Sets answer an empty key.
    var strategicKey: String? {
        if self.name == "ports", case .builtin(let kind) = self.source, kind == "Service", !self.isInContainer {
            return self.path == ["spec", "ports"] ? "port" : nil
        }
        if self.name == "conditions" { return "type" }
        switch self.list {
        case .atomic: return self.name == "imagePullSecrets" ? "name" : nil
        case .set: return self.name == "addresses" ? nil : ""
        case .map(let keys): return keys.first
        }
    }

    /// Values a key member has when an element leaves it out.
    func keyDefault(_ key: String) -> JSONValue? {
        if case .schema(let schema) = self.source { return schema?.items?.properties[key]?.defaultValue }
        return key == "protocol" ? "TCP" : nil
    }
}
