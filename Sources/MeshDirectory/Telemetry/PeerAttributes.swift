package import MeshModel

/// What logs and metrics say about one end of a connection.
package struct PeerAttributes: Hashable, Sendable {
    /// The workload's own name, for the log; a peer known from baggage only goes by its canonical name.
    package var name: String?
    /// The owner's, e.g. the Deployment's.
    package var workloadName: String?
    package var namespace: String?
    package var canonicalName: String?
    package var canonicalRevision: String?
    package var app: String?
    package var version: String?
    package var cluster: String?
    package var region: String?
    package var zone: String?

    package init(_ workload: Workload) {
        func known(_ text: String) -> String? { text.isEmpty ? nil : text }
        self.name = known(workload.name)
        self.workloadName = known(workload.workloadName)
        self.namespace = known(workload.namespace)
        self.canonicalName = known(workload.canonicalName)
        self.canonicalRevision = known(workload.canonicalRevision)
        self.app = self.canonicalName
        self.version = self.canonicalRevision
        self.cluster = known(workload.clusterID)
        self.region = known(workload.locality.region)
        self.zone = known(workload.locality.zone)
    }

    package init(_ baggage: Baggage) {
        self.name = baggage.canonicalName
        self.workloadName = baggage.workloadName
        self.namespace = baggage.namespace
        self.canonicalName = baggage.canonicalName
        self.canonicalRevision = baggage.canonicalRevision
        self.app = baggage.workloadName
        self.version = baggage.canonicalRevision
        self.cluster = baggage.cluster
        self.region = baggage.region
        self.zone = baggage.zone
    }
}

/// The service that a connection was meant for, as far as it is known.
package struct ServiceAttributes: Hashable, Sendable {
    package var hostname, namespace, name: String

    package init(_ service: Service) {
        self.hostname = service.hostname
        self.namespace = service.namespace
        self.name = service.name
    }
}
