internal import KubeAPI

/// Between the stored form of an object and the API version a request speaks.
enum Conversion {
    static func toStorage(_ json: JSONValue, _ kind: ResourceKind) -> JSONValue {
        guard kind.type.apiVersion != kind.storageVersion else { return json }
        var json = json
        switch (kind.group, kind.type.plural) {
        case ("events.k8s.io", "events"): json = self.renamed(json, self.eventNames.map { ($0.1, $0.0) })
        case ("autoscaling", _): json = self.autoscalerToV2(json)
        default: break
        }
        json["apiVersion"] = .string(kind.storageVersion)
        return json
    }

    static func fromStorage(_ json: JSONValue, _ kind: ResourceKind) -> JSONValue {
        guard kind.type.apiVersion != kind.storageVersion else { return json }
        var json = json
        switch (kind.group, kind.type.plural) {
        case ("events.k8s.io", "events"): json = self.renamed(json, self.eventNames)
        case ("autoscaling", _): json = self.autoscalerToV1(json)
        default: break
        }
        json["apiVersion"] = .string(kind.type.apiVersion)
        return json
    }

    /// Core name, events.k8s.io name.
    private static let eventNames = [
        ("involvedObject", "regarding"), ("message", "note"), ("reportingComponent", "reportingController"),
        ("count", "deprecatedCount"), ("firstTimestamp", "deprecatedFirstTimestamp"),
        ("lastTimestamp", "deprecatedLastTimestamp"), ("source", "deprecatedSource"),
    ]

    private static func renamed(_ json: JSONValue, _ names: [(String, String)]) -> JSONValue {
        guard case .object(var members) = json else { return json }
        for (from, to) in names {
            if let value = members.removeValue(forKey: from) { members[to] = value }
        }
        return .object(members)
    }

    private static func autoscalerToV2(_ json: JSONValue) -> JSONValue {
        var json = json
        if let target = json.at("spec", "targetCPUUtilizationPercentage") {
            json.set(["spec", "targetCPUUtilizationPercentage"], to: nil)
            json.set(
                ["spec", "metrics"],
                to: [
                    [
                        "type": "Resource",
                        "resource": ["name": "cpu", "target": ["type": "Utilization", "averageUtilization": target]],
                    ]
                ])
        }
        return json
    }

    private static func autoscalerToV1(_ json: JSONValue) -> JSONValue {
        var json = json
        for metric in json.at("spec", "metrics")?.array ?? [] where metric.at("resource", "name")?.string == "cpu" {
            json.set(
                ["spec", "targetCPUUtilizationPercentage"], to: metric.at("resource", "target", "averageUtilization"))
        }
        json.set(["spec", "metrics"], to: nil)
        json.set(["spec", "behavior"], to: nil)
        json.set(["status", "currentMetrics"], to: nil)
        return json
    }
}
