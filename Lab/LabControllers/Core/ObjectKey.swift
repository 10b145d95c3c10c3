package import KubeAPI

/// Namespace and name; the namespace is empty for cluster-scoped objects.
package struct ObjectKey: Hashable, Sendable, CustomStringConvertible {
    package var namespace, name: String

    package init(_ namespace: String, _ name: String) {
        self.namespace = namespace
        self.name = name
    }
    package init(_ object: KubeObject) { self.init(object.namespace, object.name) }

    package var description: String { self.namespace.isEmpty ? self.name : "\(self.namespace)/\(self.name)" }
}
