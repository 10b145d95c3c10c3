package import KubeAPI
package import MeshModel

/// What the mesh reads of a Pod. Two states of a pod that differ in nothing here are the same to us.
package struct PodView: Hashable, Sendable {
    package var namespace, name, uid: String
    package var phase: String
    /// Nil when one of them cannot be read: then the pod is no workload.
    package var addresses: [IPAddress]?
    package var labels: [String: String]
    /// The annotation `ambient.istio.io/redirection` is `enabled`.
    package var isCaptured: Bool
    package var isReady: Bool
    package var isBeingDeleted: Bool
    package var usesHostNetwork: Bool
    package var serviceAccount: String
    package var node: String
    /// The Deployment's or other owner's name, see ``Naming``.
    package var ownerName: String?
    /// Named TCP ports of the containers (and of sidecars among the init containers).
    package var ports: [String: UInt16]
    /// The container of its sidecar has `ISTIO_META_DNS_CAPTURE`.
    package var capturesNames: Bool

    package init(_ object: KubeObject) {
        self.namespace = object.namespace
        self.name = object.name
        self.uid = object.uid
        self.labels = object.labels
        self.isCaptured = object.annotations[Names.redirection] == "enabled"
        self.isBeingDeleted = object.isBeingDeleted
        let (spec, status) = (object.spec, object.status)
        self.phase = status["phase"]?.string ?? ""
        self.isReady = object.condition("Ready") == "True"
        self.usesHostNetwork = spec["hostNetwork"]?.bool ?? false
        self.serviceAccount = spec["serviceAccountName"]?.string ?? ""
        self.node = spec["nodeName"]?.string ?? ""
        var texts = (status["podIPs"]?.array ?? []).compactMap { $0["ip"]?.string }
        if texts.isEmpty, let ip = status["podIP"]?.string, !ip.isEmpty { texts = [ip] }
        let parsed = texts.compactMap { IPAddress($0) }
        self.addresses = parsed.count == texts.count ? parsed : nil
        self.ownerName = Naming.owner(of: object)
        self.ports = [:]
        self.capturesNames = false
        let sidecars = (spec["initContainers"]?.array ?? []).filter { $0["restartPolicy"]?.string == "Always" }
        for container in (spec["containers"]?.array ?? []) + sidecars {
            if container["name"]?.string == Names.sidecarContainer {
                self.capturesNames = (container["env"]?.array ?? []).contains {
                    $0["name"]?.string == Names.captureVariable && $0["value"]?.string == "true"
                }
            }
            for port in container["ports"]?.array ?? [] {
                guard let name = port["name"]?.string, (port["protocol"]?.string ?? "TCP") == "TCP",
                    let number = port["containerPort"]?.int.flatMap({ UInt16(exactly: $0) }), self.ports[name] == nil
                else { continue }
                self.ports[name] = number
            }
        }
    }

    package var key: String { "\(self.namespace)/\(self.name)" }
    /// Where the pod says it is, against what its node says: a label's value, so with dots for slashes.
    package var ownLocality: Locality? {
        (self.labels["topology.istio.io/locality"] ?? self.labels["istio-locality"]).map { Locality(path: $0) }
    }
    package var hasEnded: Bool { self.phase == "Failed" || self.phase == "Succeeded" }
}

/// Names for people: which Deployment, which application, which version.
package enum Naming {
    /// The controller's name, with what Kubernetes appends for a generation taken off again.
    static func owner(of pod: KubeObject) -> String? {
        guard let generated = pod.metadata["generateName"]?.string, !generated.isEmpty,
            let reference = pod.controllerReference, let name = reference["name"]?.string
        else { return nil }
        switch reference["kind"]?.string {
        case "ReplicaSet":
            for label in ["pod-template-hash", "rollouts-pod-template-hash"] {
                if let hash = pod.labels[label], name.hasSuffix("-\(hash)") {
                    return String(name.dropLast(hash.count + 1))
                }
            }
            return name
        case "ReplicationController": return pod.labels["deploymentconfig"] ?? name
        case "Job":
            // A CronJob names its Jobs `<name>-<minutes since 1970>`.
            guard let dash = name.lastIndex(of: "-"), dash > name.startIndex else { return name }
            let digits = name[name.index(after: dash)...]
            return (8...10).contains(digits.count) && digits.utf8.allSatisfy { (48...57).contains($0) }
                ? String(name[..<dash]) : name
        default: return name
        }
    }

    static func workloadName(_ pod: PodView) -> String {
        Self.first(pod.labels, "service.istio.io/workload-name") ?? pod.ownerName ?? pod.name
    }

    static func workloadName(_ entry: WorkloadEntryView) -> String {
        entry.autoRegistrationGroup ?? Self.first(entry.labels, "service.istio.io/workload-name") ?? entry.name
    }

    static func canonicalName(_ labels: [String: String], workloadName: String) -> String {
        Self.first(labels, "service.istio.io/canonical-name", "app.kubernetes.io/name", "app") ?? workloadName
    }

    static func canonicalRevision(_ labels: [String: String]) -> String {
        Self.first(labels, "service.istio.io/canonical-revision", "app.kubernetes.io/version", "version") ?? "latest"
    }

    private static func first(_ labels: [String: String], _ names: String...) -> String? {
        names.lazy.compactMap { labels[$0] }.first { !$0.isEmpty }
    }
}
