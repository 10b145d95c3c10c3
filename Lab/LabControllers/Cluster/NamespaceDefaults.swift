package import KubeAPI

/// Gives every namespace its `default` ServiceAccount and the cluster's certificate authority, and gives them again
/// when somebody deletes them.
package struct NamespaceDefaults: Controller {
    static let component = "serviceaccount-controller"
    static let rootMap = "kube-root-ca.crt"
    private let context: ControllerContext
    private let authority: String

    /// - Parameter authority: PEM certificates that the API server's certificate chains up to.
    package init(_ context: ControllerContext, authority: String) {
        self.context = context
        self.authority = authority
    }

    package var name: String { Self.component }

    package var concerns: [Concern] {
        [
            Concern(.namespaces) { [ObjectKey("", $0.name)] },
            Concern(.serviceAccounts) { $0.name == "default" ? [ObjectKey("", $0.namespace)] : [] },
            Concern(.configMaps) { $0.name == Self.rootMap ? [ObjectKey("", $0.namespace)] : [] },
        ]
    }

    package func reconcile(_ key: ObjectKey) async throws -> Duration? {
        let view = self.context.view
        guard let namespace = view.cache(.namespaces).get(key), !namespace.isBeingDeleted else { return nil }
        try await self.context.perform(
            Self.plan(
                namespace, account: view.cache(.serviceAccounts).get(ObjectKey(key.name, "default")),
                rootMap: view.cache(.configMaps).get(ObjectKey(key.name, Self.rootMap)), authority: self.authority))
        return nil
    }

    package static func plan(
        _ namespace: KubeObject, account: KubeObject?, rootMap: KubeObject?, authority: String
    ) -> [Write] {
        var writes: [Write] = []
        let data: JSONValue = ["ca.crt": .string(authority)]
        if let rootMap {
            if rootMap.json["data"] != data, !rootMap.isBeingDeleted {
                var changed = rootMap
                changed.json["data"] = data
                writes.append(.replace(.configMaps, changed))
            }
        } else {
            writes.append(
                .create(
                    .configMaps,
                    KubeObject(
                        .configMaps, namespace: namespace.name, name: Self.rootMap,
                        annotations: [
                            "kubernetes.io/description":
                                "Contains a CA bundle that can be used to verify the kube-apiserver when using internal "
                                + "endpoints such as the internal service IP or kubernetes.default.svc."
                        ], ["data": data])))
        }
        if account == nil {
            writes.append(
                .create(.serviceAccounts, KubeObject(.serviceAccounts, namespace: namespace.name, name: "default")))
        }
        return writes
    }
}
