internal import KubeAPI

extension ClusterAPI {
    /// The `/scale` view of a workload.
    func scaleView(_ kind: ResourceKind, _ key: ObjectKey) throws(StatusError) -> JSONValue {
        try self.scaleView(kind, of: try self.get(kind, key))
    }

    private func paths(_ kind: ResourceKind) throws(StatusError) -> CustomVersion.Scale {
        guard kind.subresource("scale") != nil else { throw .noSuchPath }
        return kind.custom?.scale
            ?? CustomVersion.Scale(
                specReplicasPath: ["spec", "replicas"], statusReplicasPath: ["status", "replicas"],
                labelSelectorPath: nil)
    }

    private func scaleView(_ kind: ResourceKind, of object: JSONValue) throws(StatusError) -> JSONValue {
        let paths = try self.paths(kind)
        var metadata: [String: JSONValue] = [:]
        for name in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
            metadata[name] = object.at("metadata", name)
        }
        var selector = ""
        if let path = paths.labelSelectorPath {
            selector = object.at(path)?.string ?? ""
        } else if kind.storage == "replicationcontrollers" {
            selector = LabelSelector(matchLabels: object.at("spec", "selector")?.stringMap ?? [:]).query
        } else if let json = object.at("spec", "selector") {
            selector = (try? LabelSelector(json))?.query ?? ""
        }
        return [
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": .object(metadata),
            "spec": ["replicas": object.at(paths.specReplicasPath) ?? 0],
            "status": ["replicas": object.at(paths.statusReplicasPath) ?? 0, "selector": .string(selector)],
        ]
    }

    /// Writes `spec.replicas` through the scale view.
    ///
    /// - Parameter change: From the current view to the wanted number and the version it must be based on.
    func scale(
        _ kind: ResourceKind, _ key: ObjectKey, _ options: WriteOptions,
        change: (JSONValue) throws -> (replicas: Int64, version: String?)
    ) async throws -> WriteOutcome {
        let paths = try self.paths(kind)
        var outcome = try await self.update(kind, key, subresource: nil, options) { current in
            let (replicas, version) = try change(try self.scaleView(kind, of: current))
            if replicas < 0 {
                throw StatusError.invalid(
                    kind: "Scale", group: "autoscaling", key.name,
                    [.invalid("spec.replicas", .int(replicas), "must be greater than or equal to 0")])
            }
            var object = current
            object.set(paths.specReplicasPath, to: .int(replicas))
            if let version { object.set(["metadata", "resourceVersion"], to: .string(version)) }
            return object
        }
        outcome.object = try self.scaleView(kind, of: outcome.object)
        return outcome
    }
}
