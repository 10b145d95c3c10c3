internal import KubeAPI

/// A URL's field selector: `status.phase!=Succeeded,spec.nodeName=a`.
struct FieldSelector: Sendable {
    private struct Clause: Sendable {
        let field: String
        let value: String
        let isEqual: Bool
    }
    private var clauses: [Clause] = []

    static let everything = FieldSelector()
    private init() {}

    var isEverything: Bool { self.clauses.isEmpty }
    /// The only name that can match, when there is one.
    var name: String? { self.clauses.first { $0.field == "metadata.name" && $0.isEqual }?.value }
    var namespace: String? { self.clauses.first { $0.field == "metadata.namespace" && $0.isEqual }?.value }

    /// - Throws: 400 for a malformed selector or a field this kind cannot be selected by.
    init(_ query: String, _ kind: ResourceKind) throws(StatusError) {
        for text in Self.split(query) where !text.isEmpty {
            guard let (field, op, value) = Self.parse(text) else {
                throw .badRequest("invalid selector: '\(query)'; can't understand '\(text)'")
            }
            guard Self.isSupported(field, kind) else { throw .badRequest("field label not supported: \(field)") }
            self.clauses.append(Clause(field: field, value: value, isEqual: op != "!="))
        }
    }

    private static func split(_ query: String) -> [String] {
        var parts: [String] = [""]
        var isEscaped = false
        for character in query {
            if !isEscaped, character == "," {
                parts.append("")
                continue
            }
            parts[parts.count - 1].append(character)
            isEscaped = !isEscaped && character == "\\"
        }
        return parts
    }

    private static func parse(_ text: String) -> (String, String, String)? {
        for op in ["!=", "==", "="] {
            guard let range = text.firstRange(of: op) else { continue }
            let value = text[range.upperBound...].replacing("\\,", with: ",").replacing("\\=", with: "=")
                .replacing("\\\\", with: "\\")
            return (String(text[..<range.lowerBound]), op, String(value))
        }
        return nil
    }

    private static let supported: [String: Set<String>] = [
        "pods": [
            "spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork",
            "status.phase", "status.podIP", "status.podIPs", "status.nominatedNodeName",
        ],
        "events": [
            "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid",
            "involvedObject.apiVersion", "involvedObject.resourceVersion", "involvedObject.fieldPath", "reason",
            "reportingComponent", "source", "type",
        ],
        "events.events.k8s.io": [
            "regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "reason", "type",
        ],
        "namespaces": ["status.phase"],
        "nodes": ["spec.unschedulable"],
        "secrets": ["type"],
        "services": ["spec.clusterIP", "spec.type"],
        "jobs.batch": ["status.successful"],
        "replicasets.apps": ["status.replicas"],
        "replicationcontrollers": ["status.replicas"],
        "certificatesigningrequests.certificates.k8s.io": ["spec.signerName"],
    ]

    private static func isSupported(_ field: String, _ kind: ResourceKind) -> Bool {
        if field == "metadata.name" || field == "metadata.namespace" { return true }
        if let custom = kind.custom { return custom.selectableFields.contains { $0.label == field } }
        return self.supported[kind.qualified]?.contains(field) == true
    }

    func matches(_ object: JSONValue) -> Bool {
        self.clauses.allSatisfy { (Self.value($0.field, object) == $0.value) == $0.isEqual }
    }

    private static func value(_ field: String, _ object: JSONValue) -> String {
        var path = field.split(separator: ".").map(String.init)
        switch field {
        case "status.successful": path = ["status", "succeeded"]
        case "source": path = ["source", "component"]
        case "status.podIPs": return object.at("status", "podIPs")?[0]?["ip"]?.string ?? ""
        case "reportingComponent" where object["reportingComponent"]?.string ?? "" == "":
            path = ["source", "component"]
        default: break
        }
        // Events are stored under their core names.
        if path.first == "regarding" { path[0] = "involvedObject" }
        switch object.at(path) {
        case .string(let text): return text
        case .bool(let flag): return flag ? "true" : "false"
        case .int(let number): return String(number)
        case nil where ["spec.unschedulable", "spec.hostNetwork"].contains(field): return "false"
        case nil where ["status.successful", "status.replicas"].contains(field): return "0"
        default: return ""
        }
    }
}
