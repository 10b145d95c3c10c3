package import MeshModel

/// One workload of a service, with its own ports there.
package struct Endpoint: Sendable {
    package let workload: WorkloadEntry
    /// Where this endpoint serves what the service calls by another number.
    package let ports: [ServicePort]

    func targetPort(of port: UInt16) -> UInt16? {
        self.ports.first { $0.port == port }.flatMap { $0.targetPort == 0 ? nil : $0.targetPort }
    }
}

/// A service as the directory keeps it, with the endpoints that may be chosen. Built anew when one of them changes:
/// once per update, however many endpoints the update brings.
package final class ServiceEntry: Sendable {
    package let service: Service
    /// Healthy ones, or all when the service says so.
    package let endpoints: [Endpoint]
    /// Running totals of the endpoints' capacities: a draw is one random number and one binary search.
    let capacityTotals: [UInt64]

    package init(_ service: Service, endpoints: some Sequence<Endpoint>) {
        self.service = service
        self.endpoints = endpoints.filter {
            $0.workload.workload.isHealthy || service.loadBalancing.healthPolicy == .allowAll
        }
        var total: UInt64 = 0
        self.capacityTotals = self.endpoints.map { endpoint in
            total += UInt64(endpoint.workload.workload.capacity)
            return total
        }
    }

    var key: NamespacedName { self.service.key }

    func isVisible(from namespace: String?) -> Bool {
        guard self.service.visibility == .namespace, let namespace else { return true }
        return self.service.namespace == namespace
    }
}
