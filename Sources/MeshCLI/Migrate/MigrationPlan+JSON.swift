package import KubeAPI

extension MigrationPlan {
    /// The stable form of `-o json` and `-o yaml`.
    package var json: JSONValue {
        ["ready": .bool(self.isReady), "namespaces": .array(self.namespaces.map(\.json))]
    }
}

extension NamespaceMigration {
    fileprivate var json: JSONValue {
        var json: JSONValue = [
            "name": .string(self.name), "state": .string(self.state.rawValue), "ready": .bool(self.isReady),
            "labels": ["remove": JSONValue(self.labelsRemoved.keys.sorted()), "set": JSONValue(self.labelsSet)],
            "findings": .array(self.findings.map(\.json)),
            "restarts": .array(
                self.restarts.map { ["workload": .string($0.workload), "pods": .int(Int64($0.pods))] }),
            "commands": JSONValue(self.commands),
        ]
        if let waypoint {
            json["waypoint"] = [
                "namespace": .string(waypoint.namespace), "name": .string(waypoint.name),
                "exists": .bool(waypoint.exists), "used": .bool(waypoint.isUsed),
                "neededBy": JSONValue(waypoint.reasons),
            ]
        }
        return json
    }
}

extension MigrationFinding {
    fileprivate var json: JSONValue {
        var json: JSONValue = [
            "kind": .string(self.kind), "object": .string(self.key), "verdict": .string(self.verdict.rawValue),
            "text": .string(self.text),
        ]
        if !self.targets.isEmpty {
            json["targetRefs"] = .array(
                self.targets.map {
                    ["group": .string($0.group), "kind": .string($0.kind), "name": .string($0.name)]
                })
        }
        return json
    }
}
