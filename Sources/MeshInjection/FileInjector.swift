package import KubeAPI

/// Puts sidecars into manifests: what `kube-inject` does to a file.
package struct FileInjector: Sendable {
    package let injector: SidecarInjector

    package init(_ injector: SidecarInjector) { self.injector = injector }

    /// Where each kind keeps the template of its pods.
    private static let templates: [String: [String]] = [
        "Pod": [], "Deployment": ["spec", "template"], "ReplicaSet": ["spec", "template"],
        "ReplicationController": ["spec", "template"], "StatefulSet": ["spec", "template"],
        "DaemonSet": ["spec", "template"], "Job": ["spec", "template"],
        "CronJob": ["spec", "jobTemplate", "spec", "template"],
    ]

    /// - Parameter notes: what was left alone, and why.
    /// - Returns: the document with sidecars; unchanged when it makes no pods.
    package func inject(_ document: JSONValue, notes: inout [String]) throws(InjectionError) -> JSONValue {
        let object = KubeObject(document)
        if object.kind == "List", let items = document["items"]?.array {
            var injected: [JSONValue] = []
            for item in items { injected.append(try self.inject(item, notes: &notes)) }
            var list = document
            list["items"] = .array(injected)
            return list
        }
        guard let path = Self.templates[object.kind], let pod = path.isEmpty ? document : document.at(path) else {
            return document
        }
        let namespace = object.namespace.isEmpty ? "default" : object.namespace
        let decision = self.injector.decision(KubeObject(pod), namespace: namespace)
        guard decision.injects else {
            notes.append("\(object.kind) \(object.key) gets no sidecar: \(decision.reason)")
            return document
        }
        let owner =
            path.isEmpty ? nil : PodOwner(name: object.name, kind: object.kind, apiVersion: object.apiVersion)
        let injected: JSONValue
        do throws(InjectionError) {
            injected = try self.injector.inject(pod, namespace: namespace, owner: owner)
        } catch {
            throw InjectionError("\(object.kind) \(object.key): \(error)")
        }
        var result = document
        result.set(path, to: injected)
        return result
    }
}
