internal import Foundation
internal import KubeAPI

/// A write on its way to the store, as admission webhooks see it.
struct AdmissionAttributes: Sendable {
    enum Operation: String, Sendable { case create = "CREATE", update = "UPDATE", delete = "DELETE" }

    var operation: Operation
    /// The kind the request was made for.
    var kind: ResourceKind
    /// The name is empty while the server still has to make one.
    var key: ObjectKey
    /// Empty for the object itself.
    var subresource = ""
    /// Missing for deletions; in the version of ``kind``, like ``old``.
    var object: JSONValue?
    /// Missing for creations.
    var old: JSONValue?
    var options: ClusterAPI.WriteOptions
}

/// One entry of a MutatingWebhookConfiguration or ValidatingWebhookConfiguration.
struct Webhook: Sendable {
    enum Target: Hashable, Sendable {
        case service(namespace: String, name: String, port: Int, path: String)
        case url(String)
    }

    struct Rule: Hashable, Sendable {
        var operations, groups, versions, resources: [String]
        /// `*`, `Cluster` or `Namespaced`.
        var scope: String
    }

    let name: String
    let target: Target
    /// PEM; empty: the roots of this machine.
    let authority: String
    let rules: [Rule]
    let namespaceSelector, objectSelector: LabelSelector
    /// Whether a rule for one version of a kind covers requests in the others.
    let coversEquivalents: Bool
    let ignoresFailure: Bool
    let isReinvoked: Bool
    let timeout: Duration
    /// Whether calling it changes nothing outside, or it knows about dry runs.
    let allowsDryRun: Bool

    /// - Throws: what is wrong with a stored entry; ``WebhookRules`` refuses these before they are stored.
    init(_ json: JSONValue) throws(LabelSelector.Invalid) {
        self.name = json["name"]?.string ?? ""
        if let service = json.at("clientConfig", "service") {
            self.target = .service(
                namespace: service["namespace"]?.string ?? "", name: service["name"]?.string ?? "",
                port: Int(clamping: service["port"]?.int ?? 443), path: service["path"]?.string ?? "/")
        } else {
            self.target = .url(json.at("clientConfig", "url")?.string ?? "")
        }
        let bundle = Data(base64Encoded: json.at("clientConfig", "caBundle")?.string ?? "") ?? Data()
        self.authority = String(decoding: bundle, as: UTF8.self)
        self.rules = (json["rules"]?.array ?? []).map { rule in
            func list(_ name: String) -> [String] { rule[name]?.array?.compactMap(\.string) ?? [] }
            return Rule(
                operations: list("operations"), groups: list("apiGroups"), versions: list("apiVersions"),
                resources: list("resources"), scope: rule["scope"]?.string ?? "*")
        }
        self.namespaceSelector = try LabelSelector(json["namespaceSelector"] ?? [:])
        self.objectSelector = try LabelSelector(json["objectSelector"] ?? [:])
        self.coversEquivalents = json["matchPolicy"]?.string != "Exact"
        self.ignoresFailure = json["failurePolicy"]?.string == "Ignore"
        self.isReinvoked = json["reinvocationPolicy"]?.string == "IfNeeded"
        self.timeout = .seconds(min(max(json["timeoutSeconds"]?.int ?? 10, 1), 30))
        self.allowsDryRun = ["None", "NoneOnDryRun"].contains(json["sideEffects"]?.string ?? "")
    }

    /// The version of the object that a rule asks for: the request's own, or with `matchPolicy: Equivalent` another
    /// one of the same kind.
    ///
    /// - Parameter equivalents: every served version of the request's kind.
    /// - Returns: nil when no rule or selector is about this write.
    func matchedKind(
        _ attributes: AdmissionAttributes, equivalents: [ResourceKind], namespaceLabels: [String: String]?
    ) -> ResourceKind? {
        if let namespaceLabels, !self.namespaceSelector.matches(namespaceLabels) { return nil }
        let isSelected = [attributes.object, attributes.old].contains { object in
            object.map { self.objectSelector.matches($0.at("metadata", "labels")?.stringMap ?? [:]) } ?? false
        }
        guard isSelected else { return nil }
        let own = attributes.kind
        let candidates = [own] + (self.coversEquivalents ? equivalents.filter { $0.type != own.type } : [])
        return candidates.first { kind in self.rules.contains { $0.matches(attributes, as: kind) } }
    }
}

extension Webhook.Rule {
    func matches(_ attributes: AdmissionAttributes, as kind: ResourceKind) -> Bool {
        func holds(_ list: [String], _ value: String) -> Bool { list.contains("*") || list.contains(value) }
        guard holds(self.operations, attributes.operation.rawValue), holds(self.groups, kind.group),
            holds(self.versions, kind.type.version)
        else { return false }
        switch self.scope {
        case "Cluster" where kind.type.isNamespaced, "Namespaced" where !kind.type.isNamespaced: return false
        default: break
        }
        return self.resources.contains { pattern in
            let parts = pattern.split(separator: "/", maxSplits: 1).map(String.init)
            guard let first = parts.first, first == "*" || first == kind.type.plural else { return false }
            // A pattern without a slash is about objects, never about their subresources.
            let wanted = parts.count > 1 ? parts[1] : ""
            return wanted == "*" || wanted == attributes.subresource
        }
    }
}
