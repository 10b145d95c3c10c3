package import KubeAPI

/// One entry of an injector's MutatingWebhookConfiguration, as far as it decides which pods the injector is asked about.
package struct InjectorWebhook: Hashable, Sendable {
    package var configuration, name, revision: String
    package var namespaceSelector, objectSelector: LabelSelector

    /// The entries of a configuration that inject; an entry whose selectors cannot be read matches nothing.
    package static func entries(of configuration: KubeObject) -> [InjectorWebhook] {
        guard configuration.labels["app"] == "sidecar-injector" else { return [] }
        return (configuration.json["webhooks"]?.array ?? []).compactMap { json in
            guard let namespaces = try? LabelSelector(json["namespaceSelector"] ?? [:]),
                let objects = try? LabelSelector(json["objectSelector"] ?? [:])
            else { return nil }
            return InjectorWebhook(
                configuration: configuration.name, name: json["name"]?.string ?? "",
                revision: configuration.labels["istio.io/rev"] ?? "default", namespaceSelector: namespaces,
                objectSelector: objects)
        }
    }

    /// - Returns: nil when both selectors match; else which label stands against it.
    package func obstacle(namespaceLabels: [String: String], podLabels: [String: String]) -> String? {
        for (what, selector, labels) in [
            ("namespace", self.namespaceSelector, namespaceLabels), ("pod", self.objectSelector, podLabels),
        ] {
            guard let requirement = selector.requirements.first(where: { !$0.matches(labels) }) else { continue }
            let has = labels[requirement.key].map { "\(requirement.key)=\($0)" } ?? "no label \(requirement.key)"
            let wanted = LabelSelector(requirements: [requirement]).query
            return "the \(what) has \(has), wanted \(wanted)"
        }
        return nil
    }

    /// Whether pods of such a namespace are injected when they say nothing themselves.
    package func injects(namespaceLabels: [String: String]) -> Bool {
        self.obstacle(namespaceLabels: namespaceLabels, podLabels: [:]) == nil
    }
}
