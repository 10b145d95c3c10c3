internal import MeshModel

/// A mesh of any size, the same every time: pods spread over nodes and services, as an ordinary cluster has them.
struct GeneratedMesh {
    let workloadCount, serviceCount: Int
    /// Pods of one node; the first node is `node-0`.
    static let podsPerNode = 100
    static let namespaceCount = 200

    func workload(_ index: Int, revision: Int = 0) -> Workload {
        let namespace = "team-\(index % Self.namespaceCount)"
        let name = "pod-\(index)"
        var workload = Workload(uid: "Kubernetes//Pod/\(namespace)/\(name)")
        workload.name = name
        workload.namespace = namespace
        workload.addresses = [Self.address(10, index)]
        workload.tunnelProtocol = .hbone
        workload.serviceAccount = "account-\(index % 20)"
        workload.node = "node-\(index / Self.podsPerNode)"
        workload.canonicalName = "app-\(index % max(1, self.serviceCount))"
        workload.canonicalRevision = "v\(revision)"
        workload.workloadName = workload.canonicalName
        workload.kind = .deployment
        if self.serviceCount > 0 {
            let service = self.service(index % self.serviceCount)
            workload.services = [service.key: service.ports]
        }
        return workload
    }

    func service(_ index: Int) -> Service {
        let namespace = "team-\(index % Self.namespaceCount)"
        var service = Service(
            name: "app-\(index)", namespace: namespace, hostname: "app-\(index).\(namespace).svc.cluster.local")
        service.addresses = [NetworkAddress(network: "", address: Self.address(11, index))]
        service.ports = [ServicePort(port: 80, targetPort: 8080)]
        return service
    }

    var addresses: [MeshAddress] {
        (0..<self.serviceCount).map { .service(self.service($0)) }
            + (0..<self.workloadCount).map { .workload(self.workload($0)) }
    }

    /// `index` within the block `first.0.0.0/8`.
    private static func address(_ first: UInt32, _ index: Int) -> IPAddress {
        IPAddress(v4: first << 24 | UInt32(index + 1))
    }
}
