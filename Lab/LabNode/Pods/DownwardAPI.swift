package import KubeAPI

/// What a pod may read about itself: `fieldRef` and `resourceFieldRef` of environment variables and volumes.
package struct DownwardAPI: Sendable {
    package var pod: KubeObject
    package var podIPs: [String]
    package var nodeName: String
    package var nodeIP: String
    /// What `limits.*` says when a container has no limit.
    package var nodeCPUs: Int64
    package var nodeMemoryBytes: Int64

    package init(pod: KubeObject, podIPs: [String], nodeName: String, nodeIP: String, nodeCPUs: Int64, nodeMemoryBytes: Int64) {
        self.pod = pod
        self.podIPs = podIPs
        self.nodeName = nodeName
        self.nodeIP = nodeIP
        self.nodeCPUs = nodeCPUs
        self.nodeMemoryBytes = nodeMemoryBytes
    }

    package struct Unknown: Error, Hashable, CustomStringConvertible {
        package let description: String
    }

    package func field(_ path: String) throws(Unknown) -> String {
        for (prefix, map) in [
            ("metadata.labels", self.pod.labels), ("metadata.annotations", self.pod.annotations),
        ] {
            if path == prefix {
                return map.sorted { $0.key < $1.key }.map { "\($0)=\(Self.quoted($1))" }.joined(separator: "\n")
            }
            if path.hasPrefix("\(prefix)['"), path.hasSuffix("']") {
                return map[String(path.dropFirst(prefix.count + 2).dropLast(2))] ?? ""
            }
        }
        switch path {
        case "metadata.name": return self.pod.name
        case "metadata.namespace": return self.pod.namespace
        case "metadata.uid": return self.pod.uid
        case "spec.nodeName": return self.nodeName
        case "spec.serviceAccountName": return self.pod.serviceAccountName
        case "status.podIP": return self.podIPs.first ?? ""
        case "status.podIPs": return self.podIPs.joined(separator: ",")
        case "status.hostIP", "status.hostIPs": return self.nodeIP
        default: throw Unknown(description: "fieldRef \"\(path)\" is not supported")
        }
    }

    /// As a Go string literal, which is how Kubernetes writes label values into files.
    private static func quoted(_ text: String) -> String { JSONValue.string(text).description }

    package func resource(_ reference: JSONValue, in container: ContainerSpec) throws(Unknown) -> String {
        let name = reference["resource"]?.string ?? ""
        let parts = name.split(separator: ".", maxSplits: 1).map(String.init)
        guard parts.count == 2, ["limits", "requests"].contains(parts[0]) else {
            throw Unknown(description: "resourceFieldRef \"\(name)\" is not supported")
        }
        var quantity = container.json.at("resources", parts[0], parts[1]).flatMap(Quantity.init)
        if quantity == nil, parts[0] == "limits" {
            quantity =
                switch parts[1] {
                case "cpu": Quantity(.int(self.nodeCPUs))
                case "memory": Quantity(.int(self.nodeMemoryBytes))
                default: nil
                }
        }
        var divisor = reference["divisor"].flatMap(Quantity.init) ?? Quantity("1")!
        if divisor.milliUnits == 0 { divisor = Quantity("1")! }
        let value = quantity?.milliUnits ?? 0
        return String((value + divisor.milliUnits - 1) / divisor.milliUnits)
    }
}
