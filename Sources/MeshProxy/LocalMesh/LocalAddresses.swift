internal import MeshModel

/// A workload as it is written by hand.
struct LocalWorkload: Decodable {
    let workload: Workload

    private enum Field: String, CodingKey, CaseIterable {
        case uid, name, namespace, serviceAccount, trustDomain, workloadIps, hostname, network, node, clusterId
        case `protocol`, networkMode, nativeTunnel, waypoint, networkGateway, services, authorizationPolicies, status
        case capacity, canonicalName, canonicalRevision, workloadName, workloadType
    }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.strictContainer(Field.self)
        let name = try fields.decode(String.self, forKey: .name)
        let namespace = try fields.decode(String.self, forKey: .namespace)
        let cluster = try fields.text(.clusterId) ?? "Kubernetes"
        var workload = Workload(uid: try fields.text(.uid) ?? "\(cluster)//Pod/\(namespace)/\(name)")
        (workload.name, workload.namespace, workload.clusterID) = (name, namespace, cluster)
        workload.serviceAccount = try fields.text(.serviceAccount) ?? workload.serviceAccount
        workload.trustDomain = try fields.text(.trustDomain) ?? workload.trustDomain
        workload.addresses = try fields.values(.workloadIps, "IP addresses") { IPAddress($0) }
        workload.hostname = try fields.text(.hostname) ?? ""
        workload.network = try fields.text(.network) ?? ""
        workload.node = try fields.text(.node) ?? ""
        workload.tunnelProtocol = try fields.word(.protocol, ["TCP": .none, "HBONE": .hbone]) ?? .none
        workload.networkMode =
            try fields.word(.networkMode, ["Standard": .standard, "HostNetwork": .hostNetwork]) ?? .standard
        workload.isNativeTunnel = try fields.decodeIfPresent(Bool.self, forKey: .nativeTunnel) ?? false
        workload.waypoint = try fields.decodeIfPresent(LocalGateway.self, forKey: .waypoint)?.address
        workload.networkGateway = try fields.decodeIfPresent(LocalGateway.self, forKey: .networkGateway)?.address
        workload.authorizationPolicies = try fields.values(.authorizationPolicies, "<namespace>/<name>") {
            NamespacedName($0)
        }
        workload.isHealthy = try fields.word(.status, ["Healthy": true, "Unhealthy": false]) ?? true
        workload.capacity = try fields.decodeIfPresent(UInt32.self, forKey: .capacity) ?? workload.capacity
        workload.canonicalName = try fields.text(.canonicalName) ?? name
        workload.canonicalRevision = try fields.text(.canonicalRevision) ?? ""
        workload.workloadName = try fields.text(.workloadName) ?? name
        workload.kind =
            try fields.word(
                .workloadType, ["Deployment": .deployment, "CronJob": .cronJob, "Pod": .pod, "Job": .job]) ?? .pod
        for (key, ports) in try fields.decodeIfPresent([String: LocalPorts].self, forKey: .services) ?? [:] {
            guard let service = NamespacedName(key) else {
                throw DecodingError.dataCorruptedError(
                    forKey: .services, in: fields, debugDescription: "\"\(key)\"; wanted <namespace>/<hostname>")
            }
            workload.services[service] = ports.list
        }
        self.workload = workload
    }
}

/// A service as it is written by hand.
struct LocalService: Decodable {
    let service: Service

    private enum Field: String, CodingKey, CaseIterable {
        case name, namespace, hostname, vips, ports, subjectAltNames, waypoint
    }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.strictContainer(Field.self)
        let name = try fields.decode(String.self, forKey: .name)
        let namespace = try fields.decode(String.self, forKey: .namespace)
        var service = Service(
            name: name, namespace: namespace, hostname: try fields.decode(String.self, forKey: .hostname))
        service.addresses = try fields.values(.vips, "<network>/<ip>, or /<ip> on the default network") {
            NamespacedName($0).flatMap { key in
                IPAddress(key.name).map { NetworkAddress(network: key.namespace, address: $0) }
            }
        }
        service.ports = try fields.decodeIfPresent(LocalPorts.self, forKey: .ports)?.list ?? []
        service.subjectAltNames = try fields.decodeIfPresent([String].self, forKey: .subjectAltNames) ?? []
        service.waypoint = try fields.decodeIfPresent(LocalGateway.self, forKey: .waypoint)?.address
        self.service = service
    }
}

/// `{80: 8080}`: a service's port, and the endpoint's; 0 is a port that the endpoint maps itself.
struct LocalPorts: Decodable {
    let list: [ServicePort]

    init(from decoder: any Decoder) throws {
        let ports = try decoder.singleValueContainer().decode([String: UInt16].self)
        self.list = try ports.map { port, target in
            guard let number = UInt16(port), number > 0 else {
                throw DecodingError.dataCorrupted(
                    .init(codingPath: decoder.codingPath, debugDescription: "\"\(port)\"; wanted a port"))
            }
            return ServicePort(port: number, targetPort: target)
        }.sorted { $0.port < $1.port }
    }
}

/// `{destination: <namespace>/<hostname> or <network>/<ip>, hboneMtlsPort: 15008}`
struct LocalGateway: Decodable {
    let address: GatewayAddress

    private enum Field: String, CodingKey, CaseIterable { case destination, hboneMtlsPort }

    init(from decoder: any Decoder) throws {
        let fields = try decoder.strictContainer(Field.self)
        let wanted = "<namespace>/<hostname> or <network>/<ip>"
        guard let key = try fields.value(.destination, wanted, { NamespacedName($0) }) else {
            throw DecodingError.dataCorruptedError(
                forKey: .destination, in: fields, debugDescription: "missing; wanted \(wanted)")
        }
        self.address = GatewayAddress(
            destination: IPAddress(key.name).map { .address(NetworkAddress(network: key.namespace, address: $0)) }
                ?? .hostname(key),
            hbonePort: try fields.decodeIfPresent(UInt16.self, forKey: .hboneMtlsPort) ?? 15008)
    }
}
