package import MeshModel

/// What a workload says about itself in the `baggage` header, for the other side's telemetry. Never for policy.
package struct Baggage: Hashable, Sendable {
    package var cluster, namespace, workloadName, canonicalName, canonicalRevision, region, zone: String?
    package var kind: Workload.Kind?

    /// A header longer than this is not read.
    static let bytesMax = 4096

    package init(_ workload: Workload) {
        func known(_ text: String) -> String? { text.isEmpty ? nil : text }
        self.cluster = known(workload.clusterID)
        self.namespace = known(workload.namespace)
        self.workloadName = known(workload.workloadName)
        self.canonicalName = known(workload.canonicalName)
        self.canonicalRevision = known(workload.canonicalRevision)
        self.region = known(workload.locality.region)
        self.zone = known(workload.locality.zone)
        self.kind = workload.kind
    }

    /// Reads all `baggage` headers of a request; the last of two equal keys counts. Nil when nothing known is there or
    /// something is not ASCII.
    package init?(headers: [(name: String, value: String)]) {
        var isKnown = false
        var workloadName: (kind: Workload.Kind, name: String)?
        for header in headers where header.name == "baggage" {
            guard header.value.utf8.count <= Self.bytesMax, header.value.utf8.allSatisfy({ $0 < 0x80 }) else {
                return nil
            }
            for member in header.value.split(separator: ",") {
                let parts = member.split(separator: "=", omittingEmptySubsequences: false)
                guard parts.count > 1, !parts[1].isEmpty else { continue }
                let value = String(parts[1])
                switch parts[0].drop(while: { $0 == " " }) {
                case "k8s.cluster.name": self.cluster = value
                case "k8s.namespace.name": self.namespace = value
                case "k8s.deployment.name": workloadName = (.deployment, value)
                case "k8s.cronjob.name": workloadName = (.cronJob, value)
                case "k8s.pod.name": workloadName = (.pod, value)
                case "k8s.job.name": workloadName = (.job, value)
                case "service.name": self.canonicalName = value
                case "service.version": self.canonicalRevision = value
                case "cloud.region": self.region = value
                case "cloud.availability_zone": self.zone = value
                default: continue
                }
                isKnown = true
            }
        }
        guard isKnown else { return nil }
        self.kind = workloadName?.kind
        self.workloadName = workloadName?.name
    }

    package var text: String {
        var members: [String] = []
        func add(_ key: String, _ value: String?) { if let value { members.append("\(key)=\(value)") } }
        add("k8s.cluster.name", self.cluster)
        add("k8s.namespace.name", self.namespace)
        add("k8s.\((self.kind ?? .pod).baggageName).name", self.workloadName)
        add("service.name", self.canonicalName)
        add("service.version", self.canonicalRevision)
        add("cloud.region", self.region)
        add("cloud.availability_zone", self.zone)
        return members.joined(separator: ",")
    }
}

extension Workload.Kind {
    package var baggageName: String {
        switch self {
        case .deployment: "deployment"
        case .cronJob: "cronjob"
        case .pod: "pod"
        case .job: "job"
        }
    }
}
